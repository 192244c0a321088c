//! Lists trees into entries, one at a time, without ever holding a tree.
//!
//! ```text
//! sources ──► begin ──► stack of directories ──► look at a name ──► Found | Failed
//!              │          each: a batch of names      │
//!              └── wildcards match on the way down    └── a directory goes on top of the stack
//! ```
//!
//! Depth first: a directory's entry comes before its contents, and these before anything outside of it
//! (protocol.md [ENTRY-4]). In a batch of names the order is that of their bytes. Nothing ends a walk early: what
//! cannot be listed is a [`Step::Failed`], and the walk goes on behind it. Links are never followed below a source,
//! and our own unfinished files are never seen.
//!
//! What a name means is settled where a source begins (`begin`); entries are numbered as they are found, as the
//! receiver numbers them.

mod begin;
mod glob;
mod links;
mod look;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use rustix::io::Errno;

use self::begin::{Source, Starts};
use self::look::{Lister, Looked, Place};
use super::disk::dirs::DirCache;
use super::disk::read::{self, Identity, Names};
use super::path::{PathError, RelPath, TEMP_PREFIX};
use super::selection::Selection;
use crate::limits;
use crate::wire::message::{Code, Entry, Listed, NotKept, short_text};

/// One step of a walk.
#[derive(Debug)]
pub enum Step {
    /// Something to announce.
    Found(Found),
    /// Something that could not be listed, or a source that gives nothing. The walk goes on.
    Failed {
        /// As it would have been announced; of a source, as it was asked for. May be longer than a `RelPath`.
        name: Vec<u8>,
        /// Why.
        code: Code,
        /// Why, in words, at most `limits::TEXT_MAX_BYTES`.
        text: String,
    },
}

/// An entry and where it came from.
#[derive(Clone, Debug)]
pub struct Found {
    /// Counted from 0 over the whole walk; a failure has no number.
    pub number: u64,
    /// What the peer is told.
    pub entry: Entry,
    /// Where to read it.
    pub origin: Origin,
}

/// Where a found entry stands on the disk, and in which state it was.
#[derive(Clone, Debug)]
pub struct Origin {
    /// An open directory, shared by all entries of a source.
    pub root: Arc<OwnedFd>,
    /// Path below the root; no component of it was a link, except perhaps the last.
    pub path: RelPath,
    /// The state that was listed.
    pub identity: Identity,
}

/// Why a walk cannot begin at all.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The served directory cannot be opened.
    #[error("cannot open the directory {}: {error}", super::path::escape(root))]
    Root {
        /// The directory.
        root: Vec<u8>,
        /// Why.
        error: io::Error,
    },
    /// A peer asks for more than `limits::SOURCES_MAX` sources.
    #[error("more than {} sources in one request", limits::SOURCES_MAX)]
    TooMany,
}

/// A listing under way: an iterator over what there is to send.
#[derive(Debug)]
pub struct Walk {
    /// Sources that have not begun.
    starts: Starts,
    /// Sources that have begun.
    begun: u32,
    /// The source that is being walked.
    source: Source,
    /// The directories that the walk is in, all of this source, outermost first; at most `limits::PATH_MAX_DEPTH` + 1.
    stack: Vec<Level>,
    /// Steps that came out and were not asked for yet; at most a few.
    ready: VecDeque<Step>,
    /// Turns names into entries, and counts.
    lister: Lister,
}

/// A directory that the walk is in.
#[derive(Debug)]
struct Level {
    names: Names,
    /// Paths start here.
    root: Arc<OwnedFd>,
    /// Names read and not looked at.
    batch: vec::IntoIter<Vec<u8>>,
    /// Where the directory stands below the source's root; `None` is the root itself.
    path: Option<RelPath>,
    /// Bytes at the front of each path here that do not belong to the name of its entry.
    strip: usize,
    /// The component of the source's pattern that names here have to match; `None` once all have matched.
    part: Option<usize>,
}

impl Walk {
    /// Walks what a local person named. As with rsync, `tree` gives `tree`, `tree/a`…, and `tree/` (also `.`, and
    /// whatever ends in `..`) gives `a`…; `dir/file` gives `file`. A link is kept as a link, unless a slash
    /// follows it.
    pub fn local(paths: &[PathBuf], selection: Selection) -> Self {
        let remembers_tops = paths.len() > 1;
        let starts = Starts::Local { paths: VecDeque::from(paths.to_vec()), last_parent: None };
        Self::new(starts, Lister::new(selection, remembers_tops))
    }

    /// Walks what a peer asked for below `root`, named as in [`Walk::local`]. `*`, `?` and `[..]` match within a
    /// component, unless something of just that name exists. No link is followed, nothing above `root` is reached,
    /// and our own unfinished files do not exist.
    pub fn served(root: &Path, requests: &[Vec<u8>], selection: Selection) -> Result<Self, WalkError> {
        // Within one directory names differ anyway; several sources or directories may give the same one.
        let has_several_dirs = |r: &Vec<u8>| r.contains(&b'/') && r.iter().any(|b| b"*?[".contains(b));
        let remembers_tops = requests.len() > 1 || requests.iter().any(has_several_dirs);
        Self::below(root, requests.to_vec(), Lister::new(selection, remembers_tops))
    }

    /// Lists what a peer asked for below `root`, for a person to read: the contents of directories (of the root
    /// when nothing is asked for), or a file itself; of a pattern, everything that matches, under its path below
    /// the root. Without `recursive`, directories are not entered. Hard links show as files.
    pub fn listing(root: &Path, requests: &[Vec<u8>], recursive: bool) -> Result<Self, WalkError> {
        let requests = if requests.is_empty() { vec![Vec::new()] } else { requests.to_vec() };
        Self::below(root, requests, Lister::showing(recursive))
    }

    /// Sends every name of a file as a file of its own, so that each of them is read.
    pub fn copying_links(mut self) -> Self {
        self.lister.copies_links = true;
        self
    }

    /// What was left out or is not kept, so far.
    pub fn not_kept(&self) -> NotKept {
        self.lister.listed.not_kept
    }

    /// Counts of everything announced so far; after the last step, what LISTED says.
    pub fn listed(&self) -> Listed {
        self.lister.listed
    }

    /// Names that the walk keeps in memory: at most about `limits::NAMES_HELD_MAX`.
    pub fn names_held(&self) -> usize {
        self.stack.iter().map(|level| level.batch.len()).sum()
    }

    fn below(root: &Path, requests: Vec<Vec<u8>>, lister: Lister) -> Result<Self, WalkError> {
        if requests.len() > limits::SOURCES_MAX {
            return Err(WalkError::TooMany);
        }
        let open = read::open_root(root)
            .map_err(|error| WalkError::Root { root: read::path_bytes(root).to_vec(), error })?;
        let starts = Starts::Served { dirs: DirCache::new(open), requests: VecDeque::from(requests) };
        Ok(Self::new(starts, lister))
    }

    fn new(starts: Starts, lister: Lister) -> Self {
        Self {
            starts,
            begun: 0,
            source: Source::default(),
            stack: Vec::new(),
            ready: VecDeque::new(),
            lister,
        }
    }

    /// Looks at the next name of the innermost directory, or reads more names, or leaves the directory.
    fn advance(&mut self) {
        let room = limits::NAMES_HELD_MAX.saturating_sub(self.names_held());
        let level = self.stack.last_mut().expect("the caller saw a directory on the stack");
        let Some(name) = level.batch.next() else {
            match level.names.next_batch(room.clamp(limits::NAMES_BATCH_MIN, limits::NAMES_PER_BATCH)) {
                Ok(batch) if !batch.is_empty() => level.batch = batch.into_iter(),
                Ok(_) => drop(self.stack.pop()),
                Err(error) => {
                    let name = level.name().to_vec();
                    self.stack.pop();
                    self.fail(name, Code::File, cannot_list(&error));
                }
            }
            return;
        };
        if name.starts_with(TEMP_PREFIX) {
            return;
        }
        match level.join(&name) {
            Ok(path) => self.visit(path, &name),
            Err(error) => {
                let name = [level.name(), b"/", name.as_slice()].concat();
                self.fail(name, Code::File, error.to_string());
            }
        }
    }

    /// Goes to `path`, whose last component `name` stands in the innermost directory.
    fn visit(&mut self, path: RelPath, name: &[u8]) {
        let level = self.stack.last().expect("the caller took the name from a directory on the stack");
        let (root, mut strip) = (Arc::clone(&level.root), level.strip);
        if let (Some(part), Some(pattern)) = (level.part, &self.source.pattern) {
            if !pattern.takes(part, name) {
                return;
            }
            let is_last = pattern.is_last(part);
            if !is_last || self.source.wants_contents {
                self.pass(path, name, (!is_last).then_some(part + 1));
                return;
            }
            // A component without a wildcard was not read from the directory: perhaps nothing has that name.
            let exists = |dir| read::stat_at(dir, name).is_ok();
            if pattern.literal(part).is_some() && !level.names.as_dir().is_ok_and(exists) {
                return;
            }
            self.source.has_matched = true;
            strip = if self.lister.is_shown { 0 } else { path.as_bytes().len() - name.len() };
        }
        let place = Place { root, source: self.source.number, path, strip };
        match level.names.as_dir() {
            Ok(dir) => {
                let looked = self.lister.look(dir, &place);
                self.take(looked, place);
            }
            Err(error) => self.fail(place.name().to_vec(), Code::File, error.to_string()),
        }
    }

    /// Goes through the directory `path`, which is not announced itself, towards what a pattern asks for in it.
    /// What is no directory is passed over: it does not match.
    fn pass(&mut self, path: RelPath, name: &[u8], part: Option<usize>) {
        let level = self.stack.last().expect("the caller took the name from a directory on the stack");
        let root = Arc::clone(&level.root);
        match level.names.as_dir().and_then(|dir| read::open_dir(dir, name)) {
            Ok(dir) => {
                self.source.has_matched |= part.is_none();
                let strip = path.as_bytes().len() + 1;
                self.enter(dir, root, Some(path), strip, part);
            }
            Err(error) if is_no_directory(&error) => {}
            Err(error) => self.fail(path.as_bytes().to_vec(), Code::File, cannot_list(&error)),
        }
    }

    /// Hands on what was found at `place`; when it is a directory, the walk goes into it.
    fn take(&mut self, looked: Looked, place: Place) {
        self.ready.extend(looked.step);
        match looked.inside {
            None => {}
            Some(Ok(dir)) => self.enter(dir, place.root, Some(place.path), place.strip, None),
            Some(Err(error)) => self.fail(place.name().to_vec(), Code::File, cannot_list(&error)),
        }
    }

    /// Puts the open directory `dir` on top of the stack.
    fn enter(
        &mut self,
        dir: OwnedFd,
        root: Arc<OwnedFd>,
        path: Option<RelPath>,
        strip: usize,
        part: Option<usize>,
    ) {
        match Names::new(dir) {
            Ok(names) => {
                let mut level = Level { names, root, batch: Vec::new().into_iter(), path, strip, part };
                let literal = part.and_then(|part| self.source.pattern.as_ref()?.literal(part));
                if let Some(name) = literal {
                    level.names.finish();
                    level.batch = vec![name.to_vec()].into_iter();
                }
                self.stack.push(level);
            }
            Err(error) => {
                let name = path.map(|p| p.as_bytes().to_vec()).unwrap_or_default();
                self.fail(name, Code::File, cannot_list(&error));
            }
        }
        assert!(self.stack.len() <= limits::PATH_MAX_DEPTH + 1);
    }

    fn fail(&mut self, name: Vec<u8>, code: Code, text: String) {
        self.ready.push_back(failed(name, code, text));
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Some(step);
            }
            if !self.stack.is_empty() {
                self.advance();
            } else if !self.begin() {
                return None;
            }
        }
    }
}

impl Level {
    fn join(&self, name: &[u8]) -> Result<RelPath, PathError> {
        match &self.path {
            Some(path) => path.join(name),
            None => RelPath::parse(name),
        }
    }

    /// The directory's own name as it was announced, or its path where it was not.
    fn name(&self) -> &[u8] {
        let path = self.path.as_ref().map_or(&b"."[..], RelPath::as_bytes);
        path.get(self.strip..).filter(|name| !name.is_empty()).unwrap_or(path)
    }
}

fn failed(name: Vec<u8>, code: Code, text: String) -> Step {
    Step::Failed { name, code, text: short_text(text) }
}

fn cannot_list(error: &io::Error) -> String {
    format!("cannot list the directory: {error}")
}

/// Whether opening failed since no directory stands there: nothing, a file, or a link.
fn is_no_directory(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

#[cfg(test)]
mod tests;
