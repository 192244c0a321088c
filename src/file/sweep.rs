//! Removes what interrupted transfers have left and nobody has come back for.
//!
//! Only names of ours are looked at ([`TEMP_PREFIX`]), and only files and links of this user under them. What a transfer
//! is at work on changes all the time, so that its age protects it; a journal is protected by its lock besides.

use std::time::Duration;

use rustix::io::Result;

use super::disk::{FileKind, Handle, write};
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
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        // What cannot be listed has nothing to remove.
        let _ = write::any_name(&dir, |name, _| {
            let names = if name.starts_with(TEMP_PREFIX) { &mut ours } else { &mut others };
            names.push(name.to_vec());
            false
        });
        for name in ours {
            if let Ok(Some(bytes)) = remove_if_left(&dir, &name, before) {
                swept.files += 1;
                swept.bytes += bytes;
            }
        }
        others.retain(
            |name| matches!(write::stat(&dir, name), Ok(Some(stat)) if stat.kind == FileKind::Directory),
        );
        Self { dir, directories: others }
    }
}

/// Removes a name of ours that nobody has touched for so long; what it took, if it was removed.
fn remove_if_left(dir: &Handle, name: &[u8], before: Duration) -> Result<Option<u64>> {
    let Some(stat) = write::stat(dir, name)? else { return Ok(None) };
    let is_old = u64::try_from(stat.ctime_secs).is_ok_and(|changed| changed < before.as_secs());
    let is_ours = stat.is_own_file() || stat.kind == FileKind::Symlink;
    if !is_old || !is_ours {
        return Ok(None);
    }
    if stat.kind == FileKind::File {
        // One that cannot be opened is locked by nobody.
        let file = write::open_file(dir, name);
        if let Ok(file) = &file
            && !write::try_lock(file)?
        {
            return Ok(None);
        }
        write::unlink(dir, name)?;
        return Ok(Some(stat.blocks_bytes));
    }
    write::unlink(dir, name)?;
    Ok(Some(0))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

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
    fn a_link_to_a_directory_is_not_followed() {
        let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join(".haul-aaaaaaaaaaaa"), "content").unwrap();
        symlink(outside.path(), temp.path().join("link")).unwrap();

        assert_eq!(sweep(write::open_root(temp.path()).unwrap(), FUTURE), Swept::default());
    }
}
