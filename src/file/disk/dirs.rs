//! Finds the directory in which a path's last component stands, without following a symbolic link.
//!
//! The handles of the last path stay open, so that paths in tree order cost one component each. A handle names
//! the directory that was there when it was opened: who renames or replaces directories calls [`DirCache::forget`].

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::read;
use crate::file::path::RelPath;
use crate::limits;

/// The open directories from a root down to the parent of the last path asked for.
#[derive(Debug)]
pub struct DirCache {
    /// Everything happens below this directory.
    root: Arc<OwnedFd>,
    /// Name and handle of each directory below the root, outermost first; fewer than `limits::PATH_MAX_DEPTH`.
    chain: Vec<(Vec<u8>, Arc<OwnedFd>)>,
}

impl DirCache {
    /// A cache below `root`, an open directory.
    pub fn new(root: OwnedFd) -> Self {
        Self::shared(Arc::new(root))
    }

    /// A cache below a root that others hold too.
    pub fn shared(root: Arc<OwnedFd>) -> Self {
        Self { root, chain: Vec::new() }
    }

    /// The directory that holds `path`, and the last component, which is not looked at. Each directory on the way
    /// is opened without following links: a link in the middle is `ELOOP`, anything else that is no directory
    /// `ENOTDIR`.
    pub fn parent_of<'p>(&mut self, path: &'p RelPath) -> io::Result<(Arc<OwnedFd>, &'p [u8])> {
        let (parents, last) = path.split_last();
        let known = match parents {
            Some(parents) => self.descend(parents)?,
            None => 0,
        };
        self.chain.truncate(known);
        assert!(self.chain.len() < limits::PATH_MAX_DEPTH);
        Ok((Arc::clone(self.innermost()), last))
    }

    /// The directory at `path` itself (the root for `None`), opened without following links.
    pub fn directory(&mut self, path: Option<&RelPath>) -> io::Result<Arc<OwnedFd>> {
        let Some(path) = path else { return Ok(self.root()) };
        let (parent, last) = self.parent_of(path)?;
        Ok(Arc::new(read::pass_dir(&*parent, last)?))
    }

    /// Moves the cache to another root, unless it is there already.
    pub fn rebase(&mut self, root: &Arc<OwnedFd>) {
        if !Arc::ptr_eq(&self.root, root) {
            self.root = Arc::clone(root);
            self.chain.clear();
        }
    }

    /// Closes all handles but the root's, since directories were renamed or replaced.
    pub fn forget(&mut self) {
        self.chain.clear();
    }

    /// The root.
    pub fn root(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.root)
    }

    /// Opens what is not open yet of `parents`; returns the number of its components.
    fn descend(&mut self, parents: &[u8]) -> io::Result<usize> {
        let mut depth = 0;
        for component in parents.split(|&b| b == b'/') {
            let is_open = self.chain.get(depth).is_some_and(|(name, _)| name == component);
            if !is_open {
                self.chain.truncate(depth);
                let dir = read::pass_dir(&**self.innermost(), component)?;
                self.chain.push((component.to_vec(), Arc::new(dir)));
            }
            depth += 1;
        }
        Ok(depth)
    }

    fn innermost(&self) -> &Arc<OwnedFd> {
        self.chain.last().map_or(&self.root, |(_, dir)| dir)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_in_tree_order_share_their_open_directories() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("a/b/c")).unwrap();
        let mut dirs = DirCache::new(read::open_root(tree.path()).unwrap());

        let first = dirs.parent_of(&path("a/b/x")).unwrap().0;
        let (second, last) = (dirs.parent_of(&path("a/b/y")).unwrap().0, b"y");
        let third = dirs.parent_of(&path("a/z")).unwrap().0;
        let root = dirs.parent_of(&path("z")).unwrap().0;

        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(dirs.parent_of(&path("a/b/y")).unwrap().1, last);
        assert!(!Arc::ptr_eq(&first, &third));
        assert!(Arc::ptr_eq(&root, &dirs.root()));
    }

    #[test]
    fn a_link_in_the_middle_is_never_followed() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("real/deep")).unwrap();
        symlink("real", tree.path().join("link")).unwrap();
        symlink("/", tree.path().join("real/up")).unwrap();
        let mut dirs = DirCache::new(read::open_root(tree.path()).unwrap());

        for name in ["link/deep", "real/up/etc", "link/deep/x"] {
            let error = dirs.parent_of(&path(name)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()), "{name}");
        }
        assert!(dirs.parent_of(&path("real/deep/x")).is_ok());
    }

    #[test]
    fn a_missing_or_wrong_component_leaves_the_cache_usable() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("a/b")).unwrap();
        fs::write(tree.path().join("a/file"), b"").unwrap();
        let mut dirs = DirCache::new(read::open_root(tree.path()).unwrap());

        assert_eq!(dirs.parent_of(&path("a/none/x")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(dirs.parent_of(&path("a/file/x")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert!(dirs.parent_of(&path("a/b/x")).is_ok());
    }

    fn path(name: &str) -> RelPath {
        RelPath::parse(name.as_bytes()).unwrap()
    }
}
