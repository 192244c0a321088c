//! Begins a source: what a person's path or a peer's request means, and where its walk starts.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::glob::Pattern;
use super::look::Place;
use super::{Walk, is_no_directory};
use crate::file::disk::dirs::DirCache;
use crate::file::disk::read;
use crate::file::path::{PathError, RelPath};
use crate::wire::message::Code;

/// Sources that have not begun.
#[derive(Debug)]
pub(super) enum Starts {
    /// Paths of the command line.
    Local {
        paths: VecDeque<PathBuf>,
        /// The directory that held the last path, since the next one often stands beside it.
        last_parent: Option<(PathBuf, Arc<OwnedFd>)>,
    },
    /// Requests of a peer, relative to the served root.
    Served { dirs: DirCache, requests: VecDeque<Vec<u8>> },
}

/// The source that is being walked.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Counted from 0 in the order asked for.
    pub(super) number: u32,
    /// As it was asked for.
    asked: Vec<u8>,
    /// Wildcards that names have to match on the way down.
    pub(super) pattern: Option<Pattern>,
    /// Asked for with a slash at its end: what is in the directory, without its name.
    pub(super) wants_contents: bool,
    /// Something matched the pattern.
    pub(super) has_matched: bool,
}

impl Walk {
    /// Ends the source that was walked and begins the next; says whether there was either.
    pub(super) fn begin(&mut self) -> bool {
        if self.source.pattern.take().is_some() && !self.source.has_matched {
            let asked = std::mem::take(&mut self.source.asked);
            self.fail(asked, Code::NotFound, "nothing matches".to_owned());
            return true;
        }
        let number = self.begun;
        self.begun = self.begun.saturating_add(1);
        match &mut self.starts {
            Starts::Local { paths, .. } => {
                let Some(path) = paths.pop_front() else { return false };
                self.source = Source { number, asked: read::path_bytes(&path).to_vec(), ..Source::default() };
                if let Err(error) = self.begin_path(&path) {
                    self.fail_source(&error);
                }
            }
            Starts::Served { requests, .. } => {
                let Some(request) = requests.pop_front() else { return false };
                self.source = Source { number, asked: request.clone(), ..Source::default() };
                if let Err(error) = self.begin_request(&request) {
                    self.fail_source(&error);
                }
            }
        }
        true
    }

    /// A path that a local person wrote: links on the way are followed, the last component only with a slash.
    fn begin_path(&mut self, path: &Path) -> Result<(), BeginError> {
        let bytes = read::path_bytes(path);
        let (parent, last) = match bytes.iter().rposition(|&b| b == b'/') {
            Some(at) => (&bytes[..=at], &bytes[at + 1..]),
            None => (&b"."[..], bytes),
        };
        if bytes.is_empty() {
            return Err(BeginError::Disk(Errno::NOENT.into()));
        }
        if matches!(last, b"" | b"." | b"..") {
            let root = Arc::new(read::open_root(path)?);
            let dir = read::open_dir(&*root, b".")?;
            self.enter(dir, root, None, 0, None);
            return Ok(());
        }
        let name = RelPath::parse(last)?;
        let root = self.local_parent(Path::new(OsStr::from_bytes(parent)))?;
        read::stat_at(&*root, last)?;
        let place = Place { root: Arc::clone(&root), source: self.source.number, path: name, strip: 0 };
        let looked = self.lister.look(&*root, &place);
        self.take(looked, place);
        Ok(())
    }

    fn local_parent(&mut self, parent: &Path) -> io::Result<Arc<OwnedFd>> {
        let Starts::Local { last_parent, .. } = &mut self.starts else {
            unreachable!("only local sources have a parent of their own");
        };
        if let Some((path, root)) = last_parent
            && path == parent
        {
            return Ok(Arc::clone(root));
        }
        let root = Arc::new(read::open_root(parent)?);
        *last_parent = Some((parent.to_owned(), Arc::clone(&root)));
        Ok(root)
    }

    /// A request of a peer: nothing outside of the root, no link followed.
    fn begin_request(&mut self, request: &[u8]) -> Result<(), BeginError> {
        let Starts::Served { dirs, .. } = &mut self.starts else {
            unreachable!("only served sources are requests");
        };
        let asked = request.strip_suffix(b"/").unwrap_or(request);
        self.source.wants_contents = asked.len() < request.len();
        let root = dirs.root();
        if matches!(asked, b"" | b".") {
            let dir = read::open_dir(&*root, b".")?;
            self.enter(dir, root, None, 0, None);
            return Ok(());
        }
        let path = RelPath::parse(asked)?;
        let found = dirs.parent_of(&path).and_then(|(dir, last)| Ok((read::stat_at(&*dir, last)?, dir)));
        let (meta, parent) = match found {
            Ok(found) => found,
            Err(error) => return self.begin_pattern(&path, root, error),
        };
        let last = path.split_last().1;
        let is_dir = meta.file_type == FileType::Directory;
        if self.source.wants_contents || (is_dir && self.lister.is_shown) {
            let dir = read::open_dir(&*parent, last)?;
            let strip = path.as_bytes().len() + 1;
            self.enter(dir, root, Some(path), strip, None);
            return Ok(());
        }
        let strip = if self.lister.is_shown { 0 } else { path.as_bytes().len() - last.len() };
        let place = Place { root, source: self.source.number, path, strip };
        let looked = self.lister.look(&*parent, &place);
        self.take(looked, place);
        Ok(())
    }

    /// A request of which no file has just that name: perhaps a pattern. `error` is why not.
    fn begin_pattern(
        &mut self,
        path: &RelPath,
        root: Arc<OwnedFd>,
        error: io::Error,
    ) -> Result<(), BeginError> {
        match Pattern::parse(path) {
            Some(pattern) if is_no_directory(&error) => {
                let dir = read::open_dir(&*root, b".")?;
                self.source.pattern = Some(pattern);
                self.enter(dir, root, None, 0, Some(0));
                Ok(())
            }
            _ => Err(error.into()),
        }
    }

    /// Tells why a source gives nothing.
    fn fail_source(&mut self, error: &BeginError) {
        let is_served = matches!(self.starts, Starts::Served { .. });
        let (code, text) = match error {
            // A peer does not learn of our unfinished files.
            BeginError::Name(PathError::Reserved) if is_served => {
                (Code::NotFound, io::Error::from(Errno::NOENT).to_string())
            }
            BeginError::Name(PathError::TooLong) => (Code::File, PathError::TooLong.to_string()),
            BeginError::Name(why) => (Code::NotAllowed, why.to_string()),
            BeginError::Disk(error) if is_errno(error, Errno::NOENT) || is_errno(error, Errno::NOTDIR) => {
                (Code::NotFound, error.to_string())
            }
            BeginError::Disk(error) if is_served && is_errno(error, Errno::LOOP) => {
                (Code::NotAllowed, "a symbolic link stands in the way".to_owned())
            }
            BeginError::Disk(error) => (Code::File, error.to_string()),
        };
        let asked = self.source.asked.clone();
        self.fail(asked, code, text);
    }
}

/// Why a source gives nothing.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Name(#[from] PathError),
    #[error(transparent)]
    Disk(#[from] io::Error),
}

fn is_errno(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
