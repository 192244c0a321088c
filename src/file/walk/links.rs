//! Remembers which inodes were announced, so that their further names travel as hard links.

use std::collections::HashMap;

use crate::file::disk::read::{Identity, Meta};
use crate::limits;

/// Inodes with several names of which not all have been seen: at most `limits::HARDLINKS_MAX`.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// By device and inode. Never iterated.
    known: HashMap<(u64, u64), Link>,
}

#[derive(Debug)]
struct Link {
    /// Entry that announced it.
    file: u64,
    /// State that was announced: an inode number may be used again for another file.
    identity: Identity,
    /// Names not seen yet, at least 1.
    left: u64,
}

/// How a name of a file is to be announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// As a file that has no other name.
    Only,
    /// As a file that later entries may name.
    First,
    /// As one more name of this entry.
    Further(u64),
    /// As a copy, though it has other names: no room to remember it.
    Copy,
}

impl Links {
    /// Sees one name of the file `meta`, which becomes entry `number` unless an earlier one holds the file.
    pub(super) fn see(&mut self, meta: &Meta, number: u64) -> Name {
        if meta.nlink < 2 {
            return Name::Only;
        }
        let inode = (meta.identity.dev, meta.identity.ino);
        if let Some(link) = self.known.get_mut(&inode)
            && link.identity == meta.identity
        {
            let file = link.file;
            link.left -= 1;
            if link.left == 0 {
                self.known.remove(&inode);
            }
            return Name::Further(file);
        }
        if self.known.len() >= limits::HARDLINKS_MAX && !self.known.contains_key(&inode) {
            return Name::Copy;
        }
        let link = Link { file: number, identity: meta.identity, left: meta.nlink - 1 };
        self.known.insert(inode, link);
        Name::First
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;
    use crate::wire::message::Mtime;

    #[test]
    fn an_inode_is_forgotten_once_all_its_names_were_seen() {
        let mut links = Links::default();

        assert_eq!(links.see(&meta(1, 3), 10), Name::First);
        assert_eq!(links.see(&meta(2, 1), 11), Name::Only);
        assert_eq!(links.see(&meta(1, 3), 12), Name::Further(10));
        assert_eq!(links.see(&meta(1, 3), 13), Name::Further(10));
        assert!(links.known.is_empty());
    }

    #[test]
    fn past_the_bound_names_travel_as_copies() {
        let mut links = Links::default();
        for ino in 0..limits::HARDLINKS_MAX as u64 {
            assert_eq!(links.see(&meta(ino, 2), ino), Name::First);
        }

        assert_eq!(links.see(&meta(u64::MAX, 2), 0), Name::Copy);
        assert_eq!(links.see(&meta(7, 2), 0), Name::Further(7));
        assert_eq!(links.see(&meta(u64::MAX, 2), 99), Name::First);
    }

    #[test]
    fn an_inode_number_used_again_is_another_file() {
        let mut links = Links::default();
        let mut reused = meta(1, 2);
        reused.identity.size = 77;

        assert_eq!(links.see(&meta(1, 2), 0), Name::First);
        assert_eq!(links.see(&reused, 1), Name::First);
        assert_eq!(links.see(&reused, 2), Name::Further(1));
    }

    fn meta(ino: u64, nlink: u64) -> Meta {
        let time = Mtime { secs: 0, nanos: 0 };
        Meta {
            identity: Identity { dev: 1, ino, size: 0, mtime: time, ctime: time },
            file_type: FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            nlink,
            allocated: 0,
        }
    }
}
