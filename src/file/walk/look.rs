//! Looks at one name and says what is to be announced under it.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::FileType;

use super::links::{Links, Name};
use super::{Found, Origin, Step, failed};
use crate::file::disk::read::{self, Meta};
use crate::file::path::RelPath;
use crate::file::selection::Selection;
use crate::limits;
use crate::wire::message::{Code, Entry, Kind, Listed};

/// Turns names into entries, and counts.
#[derive(Debug)]
pub(super) struct Lister {
    selection: Selection,
    links: Links,
    /// Names without a slash that were announced, at most `limits::TOP_NAMES_MAX`; `None` where no two sources
    /// can give the same one.
    tops: Option<HashSet<Vec<u8>>>,
    /// What was announced and left out; `entries` is also the number of the next entry.
    pub(super) listed: Listed,
    /// For a person to read: hard links are files, and nobody asks what would be kept.
    pub(super) is_shown: bool,
    /// Every name of a file is sent as a file of its own.
    pub(super) copies_links: bool,
    /// Directories are entered.
    is_recursive: bool,
    /// The user whose files keep their owner.
    uid: u32,
}

/// Where a name stands.
pub(super) struct Place {
    /// The path starts here.
    pub(super) root: Arc<OwnedFd>,
    /// The source that it belongs to.
    pub(super) source: u32,
    /// Below the root.
    pub(super) path: RelPath,
    /// Bytes at the front of the path that do not belong to the name of the entry.
    pub(super) strip: usize,
}

/// What looking at a name gives.
pub(super) struct Looked {
    /// `None` when the name is left out.
    pub(super) step: Option<Step>,
    /// Of a directory that was found and is to be entered: itself, open.
    pub(super) inside: Option<io::Result<OwnedFd>>,
}

impl Place {
    /// The name of the entry.
    pub(super) fn name(&self) -> &[u8] {
        &self.path.as_bytes()[self.strip..]
    }
}

impl Lister {
    /// For sending what `selection` takes.
    pub(super) fn new(selection: Selection, remembers_tops: bool) -> Self {
        Self {
            selection,
            links: Links::default(),
            tops: remembers_tops.then(HashSet::new),
            listed: Listed::default(),
            is_shown: false,
            copies_links: false,
            is_recursive: true,
            uid: read::effective_uid(),
        }
    }

    /// For a person to read.
    pub(super) fn showing(is_recursive: bool) -> Self {
        Self { is_shown: true, is_recursive, ..Self::new(Selection::default(), false) }
    }

    /// Looks at the last component of a path, which stands in `dir`.
    pub(super) fn look(&mut self, dir: impl AsFd, place: &Place) -> Looked {
        let last = place.path.split_last().1;
        let name = place.name();
        let step = match read::stat_at(&dir, last) {
            Ok(meta) => self.announce(&dir, &meta, place, name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(failed(name.to_vec(), Code::SourceChanged, "vanished while it was listed".to_owned()))
            }
            Err(error) => Some(failed(name.to_vec(), Code::File, error.to_string())),
        };
        let enters =
            self.is_recursive && matches!(&step, Some(Step::Found(found)) if found.entry.kind == Kind::Dir);
        let inside = enters.then(|| read::open_dir(&dir, last));
        Looked { step, inside }
    }

    fn announce(&mut self, dir: impl AsFd, meta: &Meta, place: &Place, name: &[u8]) -> Option<Step> {
        if !self.selection.takes(name, meta.file_type == FileType::Directory) {
            return None;
        }
        if !matches!(meta.file_type, FileType::RegularFile | FileType::Directory | FileType::Symlink) {
            self.listed.not_kept.special += 1;
            return None;
        }
        if !self.is_first_of_its_name(name) {
            let text = "another source gives the same name".to_owned();
            return Some(failed(name.to_vec(), Code::Conflict, text));
        }
        // protocol.md [PACKET-8]: no carrier is asked for what one of them cannot say.
        let is_sent = !self.is_shown && meta.file_type == FileType::RegularFile;
        if is_sent && meta.identity.size > limits::SENT_FILE_MAX_BYTES {
            return Some(failed(name.to_vec(), Code::File, "too large: 4 EiB or more".to_owned()));
        }
        let kind = match meta.file_type {
            FileType::RegularFile => self.file(meta),
            FileType::Directory => Kind::Dir,
            _ => match link_target(&dir, place.path.split_last().1) {
                Ok(target) => Kind::Symlink { target },
                Err(error) => return Some(failed(name.to_vec(), Code::File, error.to_string())),
            },
        };
        if matches!(kind, Kind::File { .. } | Kind::Dir) {
            self.count_losses(&dir, meta, place);
        }
        let number = self.listed.entries;
        self.listed.entries += 1;
        let (mode, mtime) = (meta.mode, meta.identity.mtime);
        let entry = Entry { source: place.source, name: name.to_vec(), mode, mtime, kind };
        let origin =
            Origin { root: Arc::clone(&place.root), path: place.path.clone(), identity: meta.identity };
        Some(Step::Found(Found { number, entry, origin }))
    }

    /// The kind of a regular file: itself, or one more name of one that was announced.
    fn file(&mut self, meta: &Meta) -> Kind {
        let name = match meta.nlink {
            _ if self.is_shown => Name::Only,
            2.. if self.copies_links => Name::Copy,
            _ => self.links.see(meta, self.listed.entries),
        };
        if let Name::Further(file) = name {
            assert!(file < self.listed.entries, "a link names an earlier entry");
            return Kind::Hardlink { file };
        }
        self.listed.not_kept.hardlinks += u64::from(name == Name::Copy);
        let size = meta.identity.size;
        self.listed.bytes = self.listed.bytes.saturating_add(size);
        Kind::File { size, sparse: meta.is_sparse(), linked: name == Name::First }
    }

    fn count_losses(&mut self, dir: impl AsFd, meta: &Meta, place: &Place) {
        if self.is_shown {
            return;
        }
        let has_attributes = read::has_attributes(dir, place.path.split_last().1);
        self.listed.not_kept.owner += u64::from(meta.uid != self.uid);
        self.listed.not_kept.attributes += u64::from(has_attributes);
    }

    /// Whether no other source gave this name at the top. Below the top, names differ if their tops do.
    fn is_first_of_its_name(&mut self, name: &[u8]) -> bool {
        match &mut self.tops {
            Some(tops) if !name.contains(&b'/') => {
                if tops.len() < limits::TOP_NAMES_MAX {
                    tops.insert(name.to_vec())
                } else {
                    !tops.contains(name)
                }
            }
            _ => true,
        }
    }
}

/// The target of a link, if a message can carry it.
fn link_target(dir: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let target = read::read_link(dir, name)?;
    if (1..=limits::PATH_MAX_BYTES).contains(&target.len()) {
        Ok(target)
    } else {
        Err(io::Error::other("the link's target is empty or too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_too_large_just_where_packets_cannot_say_its_offsets() {
        // protocol.md [PACKET-8]
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("a"), b"").unwrap();
        let root = Arc::new(read::open_root(tree.path()).unwrap());
        let of_size = |mut lister: Lister, size| {
            let mut meta = read::stat_at(&*root, b"a").unwrap();
            meta.identity.size = size;
            let path = RelPath::parse(b"a").unwrap();
            let place = Place { root: root.clone(), source: 0, path, strip: 0 };
            lister.announce(&*root, &meta, &place, b"a")
        };
        let sent = |size| of_size(Lister::new(Selection::default(), false), size);

        let largest = sent(limits::SENT_FILE_MAX_BYTES);
        let larger = sent(limits::SENT_FILE_MAX_BYTES + 1);
        let listed = of_size(Lister::showing(false), limits::FILE_MAX_BYTES);

        let size = limits::SENT_FILE_MAX_BYTES;
        assert!(
            matches!(largest, Some(Step::Found(Found { entry: Entry { kind: Kind::File { size: s, .. }, .. }, .. })) if s == size)
        );
        assert!(matches!(larger, Some(Step::Failed { code: Code::File, .. })));
        assert!(matches!(listed, Some(Step::Found(_))));
    }
}
