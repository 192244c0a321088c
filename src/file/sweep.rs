//! Removes what interrupted transfers have left and nobody has come back for.
//!
//! Only names of ours are looked at ([`TEMP_PREFIX`]), and only files and links of this user under them. A part and its
//! journal go together: when both are old, and nobody has the journal locked. A large part without a journal is locked
//! itself while it is open. Anything else is protected by its age alone.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::io::{Errno, Result};

use super::disk::temp_name::TempName;
use super::disk::{FileKind, Handle, Stat, write};
use super::path::TEMP_PREFIX;
use crate::limits;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished files, their journals and links that were removed.
    pub files: u64,
    /// What they took on the disk, bytes.
    pub bytes: u64,
}

/// Removes what was left below `root` and did not change since `before`, a time since 1970. Directories that cannot be
/// read are passed over.
pub fn sweep(root: Handle, before: Duration) -> Swept {
    let mut swept = Swept::default();
    // Directories on the way down, each with the names below it that are still to be looked at.
    let mut levels = vec![Level::of(root, before, &mut swept)];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.directories.pop() else {
            levels.pop();
            continue;
        };
        if levels.len() < limits::PATH_MAX_DEPTH
            && let Some(level) = levels.last()
            && let Ok(below) = write::open_dir(&level.dir, &name)
        {
            levels.push(Level::of(below, before, &mut swept));
        }
    }
    swept
}

struct Level {
    dir: Handle,
    directories: Vec<Vec<u8>>,
}

impl Level {
    /// Sweeps one directory.
    fn of(dir: Handle, before: Duration, swept: &mut Swept) -> Self {
        let (mut ours, mut others) = (BTreeSet::new(), Vec::new());
        // What cannot be listed has nothing to remove.
        let _ = write::any_name(&dir, |name, _| {
            if name.starts_with(TEMP_PREFIX) {
                ours.insert(name.to_vec());
            } else {
                others.push(name.to_vec());
            }
            false
        });
        let part_of = |name: &Vec<u8>| {
            let part = TempName::of_part(name).as_bytes().to_vec();
            ours.contains(&part).then_some(part)
        };
        let parts: BTreeSet<_> = ours.iter().filter_map(part_of).collect();
        for name in ours.difference(&parts) {
            let part = part_of(name);
            // What cannot be looked at is not known to be left.
            let _ = remove_if_left(&dir, name, part.as_deref(), before, swept);
        }
        others.retain(
            |name| matches!(write::stat(&dir, name), Ok(Some(stat)) if stat.kind == FileKind::Directory),
        );
        Self { dir, directories: others }
    }
}

/// Removes a name of ours that nobody has touched for so long, and the part whose journal it is, if it is one.
fn remove_if_left(
    dir: &Handle,
    name: &[u8],
    part: Option<&[u8]>,
    before: Duration,
    swept: &mut Swept,
) -> Result<()> {
    let is_ours = |stat: &Stat| stat.is_own_file() || stat.kind == FileKind::Symlink;
    let is_old = |stat: &Stat| u64::try_from(stat.ctime_secs).is_ok_and(|time| time < before.as_secs());
    let part_stat = part.map_or(Ok(None), |part| write::stat(dir, part))?.filter(is_ours);
    let Some(stat) = write::stat(dir, name)?.filter(is_ours) else { return Ok(()) };
    if !is_old(&stat) || part_stat.as_ref().is_some_and(|stat| !is_old(stat)) {
        return Ok(());
    }
    let file = match stat.kind {
        FileKind::File => match write::open_file(dir, name) {
            // One of ours that may not be opened is locked by nobody.
            Err(Errno::ACCESS) => None,
            file => Some(file?),
        },
        _ => None,
    };
    if let Some(file) = &file {
        // Whoever had it may have ended, and another session begun, in between.
        let is_same = || Ok(write::stat(dir, name)?.is_some_and(|there| there.identity == stat.identity));
        if write::stat_of(file)?.identity != stat.identity || !write::try_lock(file)? || !is_same()? {
            return Ok(());
        }
    }
    // The journal's lock keeps others out, so the part goes first.
    for (name, stat) in part.zip(part_stat).into_iter().chain([(name, stat)]) {
        write::unlink(dir, name)?;
        swept.files += 1;
        swept.bytes += if stat.kind == FileKind::File { stat.blocks_bytes } else { 0 };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::file::disk::target_dirs::TargetDirs;
    use crate::file::disk::temp_name::TempNames;
    use crate::file::journal::Identity;
    use crate::file::kept::Keep;
    use crate::file::part::Part;
    use crate::wire::message::Mtime;

    const FUTURE: Duration = Duration::from_secs(1 << 40);

    #[test]
    fn what_was_left_is_removed_everywhere_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        fs::create_dir_all(path("d/e")).unwrap();
        fs::create_dir(path(".haul-directory00")).unwrap();
        for name in ["f", "d/.hidden", "d/e/g", ".haul", "d/.haul-aaaaaaaaaaaa", "d/e/.haul-bbbbbbbbbbbb"] {
            fs::write(path(name), "content").unwrap();
        }
        symlink("f", path(".haul-cccccccccccc")).unwrap();
        // Not ours: it has another name besides.
        fs::hard_link(path("f"), path(".haul-dddddddddddd")).unwrap();

        let swept = sweep(write::open_root(temp.path()).unwrap(), FUTURE);

        assert_eq!(swept.files, 3);
        for left in ["f", "d/.hidden", "d/e/g", ".haul", ".haul-dddddddddddd", ".haul-directory00"] {
            assert!(path(left).exists(), "{left}");
        }
        assert!(!path("d/.haul-aaaaaaaaaaaa").exists());
        assert!(fs::symlink_metadata(path(".haul-cccccccccccc")).is_err());
    }

    #[test]
    fn what_is_young_or_in_use_stays() {
        let temp = tempfile::tempdir().unwrap();
        let name = ".haul-aaaaaaaaaaaa";
        fs::write(temp.path().join(name), "content").unwrap();
        let root = || write::open_root(temp.path()).unwrap();
        let hour_ago = std::time::UNIX_EPOCH.elapsed().unwrap() - Duration::from_secs(3600);

        assert_eq!(sweep(root(), hour_ago), Swept::default());
        let file = write::open_file(&root(), name.as_bytes()).unwrap();
        assert!(write::try_lock(&file).unwrap());
        assert_eq!(sweep(root(), FUTURE), Swept::default());
        drop(file);

        assert_eq!(sweep(root(), FUTURE).files, 1);
    }

    #[test]
    fn a_part_stays_while_somebody_has_its_journal_or_the_part_itself_and_goes_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let root = || write::open_root(temp.path()).unwrap();
        let dir = || Arc::clone(TargetDirs::new(root()).unwrap().root());
        let identity = Identity { size: 100, mtime: Mtime { secs: 5, nanos: 6 } };
        let keep = Keep { owner: [1; 32], identity, syncs: false };
        let mut kept = Part::keep(dir(), b"kept", &keep).unwrap();
        let mut idle = Part::create(dir(), &mut TempNames::new(1)).unwrap();
        kept.write_at(0, b"content").unwrap();
        kept.checkpoint().unwrap();
        kept.park();
        idle.lock();

        assert_eq!(sweep(root(), FUTURE), Swept::default());
        idle.park();
        idle.write_at(0, b"content").unwrap();
        assert_eq!(sweep(root(), FUTURE), Swept::default());
        drop((kept, idle));

        assert_eq!(sweep(root(), FUTURE).files, 2);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_to_a_directory_is_not_followed() {
        let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join(".haul-aaaaaaaaaaaa"), "content").unwrap();
        symlink(outside.path(), temp.path().join("link")).unwrap();

        assert_eq!(sweep(write::open_root(temp.path()).unwrap(), FUTURE), Swept::default());
    }
}
