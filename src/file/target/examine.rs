//! Decides what to do about a name: take the content, compare, or leave what is there. The decision is pure.

use std::sync::Arc;

use rustix::io::Errno;

use crate::file::disk::target_dirs::{Dir, DirError, TargetDirs};
use crate::file::disk::{FileKind, letter_case, write};
use crate::file::failure::{Failure, shown};
use crate::file::part::{Existing, Replace};
use crate::file::path::RelPath;
use crate::wire::message::{Code, Mtime, Outcome, Overwrite};

/// A name on the disk.
#[derive(Debug, Default)]
pub(super) struct Site {
    /// The directory that holds it, if that is there.
    pub(super) dir: Option<Arc<Dir>>,
    /// What stands there.
    pub(super) found: Option<Found>,
}

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: FileKind,
    pub(super) existing: Existing,
    /// Permission bits.
    pub(super) mode: u32,
}

/// What to do about an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Receive it, and replace this.
    Take(Replace),
    /// Ask for its digest and compare this with it.
    Compare(Existing),
    /// Leave what is there.
    Leave(Outcome),
}

/// The policy, with what an entry says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) overwrite: Overwrite,
    /// Compare by digest where the sizes are equal.
    pub(super) checksum: bool,
    /// `None` for a stream, whose size shows at its end.
    pub(super) size: Option<u64>,
    pub(super) mtime: Mtime,
}

impl Wish {
    /// What to do about a regular file, given the one that is there.
    pub(super) fn plan(self, existing: Option<Existing>) -> Plan {
        let Some(existing) = existing else {
            return Plan::Take(self.replace_nothing());
        };
        let same_size = self.size == Some(existing.size);
        let same = same_size && self.mtime == existing.mtime;
        match self.overwrite {
            Overwrite::Never if same => Plan::Leave(Outcome::Unchanged),
            Overwrite::Never => Plan::Leave(Outcome::Kept),
            Overwrite::Newer if !same && self.mtime <= existing.mtime => Plan::Leave(Outcome::Kept),
            _ if self.checksum && same_size => Plan::Compare(existing),
            Overwrite::Newer | Overwrite::Different if same => Plan::Leave(Outcome::Unchanged),
            Overwrite::Newer | Overwrite::Different | Overwrite::Always => {
                Plan::Take(Replace::Examined(existing))
            }
        }
    }

    /// What to do about a link that differs from `existing`.
    pub(super) fn plan_link(self, existing: Option<Existing>) -> Plan {
        let Some(existing) = existing else {
            return Plan::Take(self.replace_nothing());
        };
        match self.overwrite {
            Overwrite::Never => Plan::Leave(Outcome::Kept),
            Overwrite::Newer if self.mtime <= existing.mtime => Plan::Leave(Outcome::Kept),
            _ => Plan::Take(Replace::Examined(existing)),
        }
    }

    fn replace_nothing(self) -> Replace {
        if self.overwrite == Overwrite::Always { Replace::Appeared } else { Replace::Nothing }
    }
}

impl Found {
    /// A conflict unless this is a regular file.
    pub(super) fn expect_file(self, path: &RelPath) -> Result<Existing, Failure> {
        match self.kind {
            FileKind::File => Ok(self.existing),
            FileKind::Directory => Err(Failure::new(Code::Conflict, path.as_bytes(), "is a directory")),
            FileKind::Symlink => {
                Err(Failure::new(Code::Conflict, path.as_bytes(), "a symbolic link is in the way"))
            }
            FileKind::Other => Err(Failure::new(
                Code::Conflict,
                path.as_bytes(),
                "something that is not a file is in the way",
            )),
        }
    }
}

/// Looks at `path`: the directory that holds it and what stands there.
pub(super) fn examine(dirs: &mut TargetDirs, path: &RelPath) -> Result<Site, Failure> {
    let (parent, name) = path.split_last();
    let dir = match dirs.open(parent, false) {
        Ok(dir) => dir,
        Err(DirError { errno: Errno::NOENT, .. }) => return Ok(Site::default()),
        Err(error) => return Err(dir_failure(&error)),
    };
    let cannot = |errno| Failure::of(errno, "look at it", path.as_bytes());
    let Some(stat) = write::stat(dir.handle(), name).map_err(cannot)? else {
        return Ok(Site { dir: Some(dir), found: None });
    };
    if let Some(twin) = letter_case::twin_of(&dir, name).map_err(cannot)? {
        let text = format!(
            "differs only in case from {}, which is there, and this disk does not tell the two apart",
            shown(&twin)
        );
        return Err(Failure::new(Code::Conflict, path.as_bytes(), &text));
    }
    let found = Some(Found { kind: stat.kind, existing: Existing::of(&stat), mode: stat.mode });
    Ok(Site { dir: Some(dir), found })
}

/// A directory on the way could not be opened or made.
pub(super) fn dir_failure(error: &DirError) -> Failure {
    Failure::of(error.errno, "open the directory", &error.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Mtime = Mtime { secs: 100, nanos: 0 };
    const NEW: Mtime = Mtime { secs: 100, nanos: 1 };

    #[test]
    fn a_free_name_is_taken_and_nothing_replaced() {
        assert_eq!(wish(Overwrite::Never, false, 5, NEW).plan(None), Plan::Take(Replace::Nothing));
        assert_eq!(wish(Overwrite::Always, false, 5, NEW).plan(None), Plan::Take(Replace::Appeared));
    }

    #[test]
    fn never_keeps_whatever_is_there() {
        for checksum in [false, true] {
            let plan = wish(Overwrite::Never, checksum, 5, NEW).plan(Some(there()));
            let same = wish(Overwrite::Never, checksum, 5, OLD).plan(Some(there()));

            assert_eq!(plan, Plan::Leave(Outcome::Kept));
            assert_eq!(same, Plan::Leave(Outcome::Unchanged));
        }
    }

    #[test]
    fn newer_replaces_only_what_is_older() {
        let take = Plan::Take(Replace::Examined(there()));
        let older = Mtime { secs: 99, nanos: 9 };

        assert_eq!(wish(Overwrite::Newer, false, 5, NEW).plan(Some(there())), take);
        assert_eq!(
            wish(Overwrite::Newer, false, 5, OLD).plan(Some(there())),
            Plan::Leave(Outcome::Unchanged)
        );
        assert_eq!(wish(Overwrite::Newer, false, 6, OLD).plan(Some(there())), Plan::Leave(Outcome::Kept));
        assert_eq!(wish(Overwrite::Newer, false, 5, older).plan(Some(there())), Plan::Leave(Outcome::Kept));
    }

    #[test]
    fn different_looks_at_size_and_the_whole_time() {
        let take = Plan::Take(Replace::Examined(there()));

        assert_eq!(
            wish(Overwrite::Different, false, 5, OLD).plan(Some(there())),
            Plan::Leave(Outcome::Unchanged)
        );
        assert_eq!(wish(Overwrite::Different, false, 5, NEW).plan(Some(there())), take);
        assert_eq!(wish(Overwrite::Different, false, 6, OLD).plan(Some(there())), take);
    }

    #[test]
    fn always_replaces_what_is_the_same() {
        let take = Plan::Take(Replace::Examined(there()));

        assert_eq!(wish(Overwrite::Always, false, 5, OLD).plan(Some(there())), take);
    }

    #[test]
    fn checksum_compares_what_has_the_same_size() {
        let compare = Plan::Compare(there());
        let take = Plan::Take(Replace::Examined(there()));

        assert_eq!(wish(Overwrite::Different, true, 5, OLD).plan(Some(there())), compare);
        assert_eq!(wish(Overwrite::Different, true, 5, NEW).plan(Some(there())), compare);
        assert_eq!(wish(Overwrite::Different, true, 6, OLD).plan(Some(there())), take);
        assert_eq!(wish(Overwrite::Newer, true, 5, OLD).plan(Some(there())), compare);
        assert_eq!(wish(Overwrite::Always, true, 5, OLD).plan(Some(there())), compare);
    }

    fn wish(overwrite: Overwrite, checksum: bool, size: u64, mtime: Mtime) -> Wish {
        Wish { overwrite, checksum, size: Some(size), mtime }
    }

    fn there() -> Existing {
        Existing { identity: (1, 2), size: 5, mtime: OLD }
    }
}
