//! The regular files below a directory, in the byte order of their names.
//!
//! The order is that of whole names, as `find -type f | LC_ALL=C sort` gives it, and yet no more than the listing
//! of one directory per level is held: within a directory, a subdirectory sorts as if its name ended in `/`.
//! Symbolic links are not followed, special files not opened, unfinished files of haul not shown.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::file::path::TEMP_PREFIX;

/// Which file this is, whatever its name: device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// The file that `metadata` describes.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Something below the directory.
#[derive(Debug)]
pub struct Found {
    /// The tree's prefix and the path below its top, components joined by `/`.
    pub name: Vec<u8>,
    /// Where to open it.
    pub path: PathBuf,
    /// What it is.
    pub kind: FoundKind,
}

/// What something below a directory is.
#[derive(Debug)]
pub enum FoundKind {
    /// A regular file of this many bytes.
    File {
        /// Bytes.
        size: u64,
        /// Which file.
        id: FileId,
    },
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device.
    Special,
    /// A file or directory with a name that haul gives to what is unfinished.
    Unfinished,
    /// A directory that could not be listed or an entry that could not be looked at.
    Unreadable(io::Error),
}

/// Walks everything below a directory; directories themselves are not shown.
#[derive(Debug)]
pub struct Tree {
    /// Entries still to show of each open directory, the deepest last.
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// Name of the directory with a slash behind it, or the tree's prefix.
    name: Vec<u8>,
    path: PathBuf,
    entries: std::vec::IntoIter<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: OsString,
    is_dir: bool,
}

impl Tree {
    /// What is below `top`, with `prefix` (which brings its own slash) before each name. Fails if `top` can't be
    /// listed.
    pub fn new(top: &Path, prefix: Vec<u8>) -> io::Result<Self> {
        Ok(Self { levels: vec![Level { name: prefix, path: top.to_owned(), entries: list(top)? }] })
    }
}

impl Iterator for Tree {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let level = self.levels.last_mut()?;
            let Some(entry) = level.entries.next() else {
                self.levels.pop();
                continue;
            };
            let mut name = [level.name.as_slice(), entry.name.as_bytes()].concat();
            let path = level.path.join(&entry.name);
            if entry.name.as_bytes().starts_with(TEMP_PREFIX) {
                return Some(Found { name, path, kind: FoundKind::Unfinished });
            }
            if !entry.is_dir {
                let kind = look_at(&path);
                return Some(Found { name, path, kind });
            }
            match list(&path) {
                Ok(entries) => {
                    name.push(b'/');
                    self.levels.push(Level { name, path, entries });
                }
                Err(error) => return Some(Found { name, path, kind: FoundKind::Unreadable(error) }),
            }
        }
    }
}

/// A directory's entries in the order in which the names below it sort.
fn list(dir: &Path) -> io::Result<std::vec::IntoIter<Entry>> {
    let mut entries = fs::read_dir(dir)?
        .map(|entry| {
            let entry = entry?;
            let is_dir = entry.file_type()?.is_dir();
            Ok(Entry { name: entry.file_name(), is_dir })
        })
        .collect::<io::Result<Vec<_>>>()?;
    entries.sort_unstable_by(|a, b| sort_key(a).cmp(sort_key(b)));
    Ok(entries.into_iter())
}

/// The bytes that a name below a directory begins with because of this entry.
fn sort_key(entry: &Entry) -> impl Iterator<Item = &u8> {
    entry.name.as_bytes().iter().chain(entry.is_dir.then_some(&b'/'))
}

fn look_at(path: &Path) -> FoundKind {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {
            FoundKind::File { size: metadata.len(), id: FileId::of(&metadata) }
        }
        Ok(metadata) if metadata.is_symlink() => FoundKind::Symlink,
        Ok(_) => FoundKind::Special,
        Err(error) => FoundKind::Unreadable(error),
    }
}

/// The file behind an open handle, if it is a regular one; standard output may be redirected into a tree.
pub fn id_of_handle(handle: impl AsFd) -> Option<FileId> {
    let file = File::from(handle.as_fd().try_clone_to_owned().ok()?);
    file.metadata().ok().filter(Metadata::is_file).map(|metadata| FileId::of(&metadata))
}

/// The path that a name of any bytes stands for.
pub fn path_of(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// The bytes of a path.
pub fn name_of(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn names_come_in_the_byte_order_of_whole_names() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "a-b/x", "a.d/x", "b/c/d/e", "b/c", "b.txt", "z", ".hidden", "\u{e9}/x", "A"];
        for name in names.iter().filter(|name| **name != "b/c") {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::write(dir.path().join("b/c-"), "").unwrap();
        fs::write(dir.path().join("b/c0"), "").unwrap();

        let found: Vec<Vec<u8>> =
            Tree::new(dir.path(), b"./".to_vec()).unwrap().map(|found| found.name).collect();

        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(found, sorted);
        assert_eq!(found.len(), 11);
        assert!(found.contains(&b"./b/c/d/e".to_vec()));
    }

    #[test]
    fn only_regular_files_are_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".haul-abc"), "half").unwrap();
        fs::create_dir(dir.path().join(".haul-dir")).unwrap();
        fs::write(dir.path().join(".haul-dir/x"), "half").unwrap();
        fs::write(dir.path().join("file"), "1234").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        symlink(".", dir.path().join("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();

        let found: Vec<Found> = Tree::new(dir.path(), Vec::new()).unwrap().collect();

        let kinds: Vec<String> = found
            .iter()
            .map(|found| {
                let kind = match &found.kind {
                    FoundKind::File { size, .. } => format!("file of {size}"),
                    other => format!("{other:?}"),
                };
                format!("{} {kind}", String::from_utf8_lossy(&found.name))
            })
            .collect();
        assert_eq!(
            kinds,
            [
                ".haul-abc Unfinished",
                ".haul-dir Unfinished",
                "file file of 4",
                "link Symlink",
                "loop Symlink",
                "socket Special"
            ]
        );
    }

    #[test]
    fn a_top_that_is_no_directory_is_an_error() {
        assert!(Tree::new(Path::new("/no/such/directory"), Vec::new()).is_err());
    }
}
