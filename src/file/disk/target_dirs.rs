//! The directories below a target's root, opened one component at a time and kept open while they are in use.
//!
//! No path with a slash ever reaches the system: each component is opened relative to the one before it, and a
//! symbolic link anywhere is an error, so nothing that a peer names can leave the root. Handles of the directories
//! used last are kept, since files of one directory come together.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;

use super::handle::Handle;
use super::write;

/// One open directory.
#[derive(Debug)]
pub struct Dir {
    handle: Arc<Handle>,
    /// What was opened first on its file system.
    volume: Arc<Handle>,
    /// Path from the root, empty for the root itself.
    path: Vec<u8>,
    /// The file system that it is on.
    device: u64,
    /// Its number there.
    inode: u64,
    /// Whether names that differ only in case are one name here, once that was found out.
    folds_case: OnceLock<bool>,
}

impl Dir {
    fn new(handle: Handle, path: Vec<u8>, volumes: &mut BTreeMap<u64, Arc<Handle>>) -> Result<Self, Errno> {
        let (device, inode) = write::stat_of(&handle)?.identity;
        let handle = Arc::new(handle);
        let volume = Arc::clone(volumes.entry(device).or_insert_with(|| Arc::clone(&handle)));
        Ok(Self { handle, volume, path, device, inode, folds_case: OnceLock::new() })
    }

    /// The open directory.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// What was opened first on its file system, to sync all of it: a handle is told once of each write that failed since
    /// it was opened (syncfs(2)), so that another one could miss it.
    pub fn volume(&self) -> &Arc<Handle> {
        &self.volume
    }

    /// Path from the root, empty for the root itself.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The number of the file system that it is on.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Device and inode: the same for every handle of this directory.
    pub fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether names that differ only in case are one name here; `probe` finds out, once.
    pub fn folds_case(&self, probe: impl FnOnce() -> bool) -> bool {
        *self.folds_case.get_or_init(probe)
    }

    /// As [`Self::folds_case`], where that was found out already.
    pub fn is_known_to_fold_case(&self) -> Option<bool> {
        self.folds_case.get().copied()
    }
}

/// A directory could not be opened or made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirError {
    /// Path from the root up to the component that failed.
    pub path: Vec<u8>,
    /// Why.
    pub errno: Errno,
}

/// The open directories below one root.
#[derive(Debug)]
pub struct TargetDirs {
    root: Arc<Dir>,
    /// Handles by path from the root, with the turn in which each was last used.
    kept: HashMap<Vec<u8>, (Arc<Dir>, u64)>,
    /// What was opened first on each file system, by device: as many as are mounted below the root.
    volumes: BTreeMap<u64, Arc<Handle>>,
    /// Counts the uses.
    turn: u64,
}

impl TargetDirs {
    /// Directories below `root`.
    pub fn new(root: Handle) -> Result<Self, Errno> {
        let mut volumes = BTreeMap::new();
        let root = Arc::new(Dir::new(root, Vec::new(), &mut volumes)?);
        Ok(Self { root, kept: HashMap::new(), volumes, turn: 0 })
    }

    /// The directory at `path`, whose components were checked; `None` is the root. Where `create` says so, missing
    /// ones are made with the user's default permissions.
    pub fn open(&mut self, path: Option<&[u8]>, create: bool) -> Result<Arc<Dir>, DirError> {
        let Some(path) = path else {
            return Ok(Arc::clone(&self.root));
        };
        self.turn += 1;
        if let Some((dir, used)) = self.kept.get_mut(path) {
            *used = self.turn;
            return Ok(Arc::clone(dir));
        }
        let (mut dir, mut done) = self.nearest(path);
        while done < path.len() {
            let start = if done == 0 { 0 } else { done + 1 };
            let end = path[start..].iter().position(|&b| b == b'/').map_or(path.len(), |at| start + at);
            dir = self
                .step(&dir, &path[start..end], &path[..end], create)
                .map_err(|errno| DirError { path: path[..end].to_vec(), errno })?;
            self.keep(Arc::clone(&dir));
            done = end;
        }
        Ok(dir)
    }

    /// The root.
    pub fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// The deepest kept directory on the way to `path`, and how many bytes of `path` it covers.
    fn nearest(&self, path: &[u8]) -> (Arc<Dir>, usize) {
        path.iter()
            .enumerate()
            .rev()
            .filter(|&(_, &byte)| byte == b'/')
            .find_map(|(at, _)| self.kept.get(&path[..at]).map(|(dir, _)| (Arc::clone(dir), at)))
            .unwrap_or_else(|| (Arc::clone(&self.root), 0))
    }

    fn step(&mut self, dir: &Arc<Dir>, name: &[u8], path: &[u8], create: bool) -> Result<Arc<Dir>, Errno> {
        let handle = match write::open_dir(dir.handle(), name) {
            Err(Errno::NOENT) if create => {
                match write::make_dir(dir.handle(), name, 0o777) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                write::open_dir(dir.handle(), name)?
            }
            result => result?,
        };
        Ok(Arc::new(Dir::new(handle, path.to_vec(), &mut self.volumes)?))
    }

    fn keep(&mut self, dir: Arc<Dir>) {
        if self.kept.len() >= KEPT_MAX
            && let Some(oldest) =
                self.kept.iter().min_by_key(|(_, (_, used))| *used).map(|(path, _)| path.clone())
        {
            self.kept.remove(&oldest);
        }
        self.turn += 1;
        self.kept.insert(dir.path.clone(), (dir, self.turn));
    }
}

/// Handles kept open for the next use. Listing and data move through a tree at two places, each with its parents.
const KEPT_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_directories_are_made_only_when_asked() {
        let (temp, mut dirs) = target();

        let missing = dirs.open(Some(b"a/b/c"), false).unwrap_err();
        let made = dirs.open(Some(b"a/b/c"), true).unwrap();

        assert_eq!(missing, DirError { path: b"a".to_vec(), errno: Errno::NOENT });
        assert_eq!(made.path(), b"a/b/c");
        assert!(temp.path().join("a/b/c").is_dir());
    }

    #[test]
    fn a_symbolic_link_in_the_middle_is_not_followed() {
        // protocol.md [LINK-2]
        let (temp, mut dirs) = target();
        let outside = tempfile::tempdir().unwrap();
        std::fs::create_dir(outside.path().join("b")).unwrap();
        std::os::unix::fs::symlink(outside.path(), temp.path().join("a")).unwrap();

        let error = dirs.open(Some(b"a/b"), true).unwrap_err();

        assert_eq!(error.path, b"a");
        assert!(matches!(error.errno, Errno::NOTDIR | Errno::LOOP));
    }

    #[test]
    fn one_directory_keeps_one_handle() {
        let (_temp, mut dirs) = target();

        let first = dirs.open(Some(b"a/b"), true).unwrap();
        let second = dirs.open(Some(b"a/b"), false).unwrap();

        assert!(Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn kept_handles_are_bounded() {
        let (_temp, mut dirs) = target();

        for i in 0..KEPT_MAX * 2 {
            dirs.open(Some(format!("d{i}/e").as_bytes()), true).unwrap();
        }

        assert!(dirs.kept.len() <= KEPT_MAX);
    }

    fn target() -> (tempfile::TempDir, TargetDirs) {
        let temp = tempfile::tempdir().unwrap();
        let dirs = TargetDirs::new(write::open_root(temp.path()).unwrap()).unwrap();
        (temp, dirs)
    }
}
