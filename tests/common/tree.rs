//! Looks at a tree and says where two differ: content, modes, times to the nanosecond, links.
//!
//! Everything is reached from one open directory to the next, so that no path is too long.

#![allow(dead_code, reason = "several test programs share this, and none uses all of it")]

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use haul::file::path::escape;
use haul::integrity::digest::{Digest, DigestKind, Hasher};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Timespec, Timestamps, chmodat, mkdirat, openat, readlinkat, statat,
    utimensat,
};

/// Every name below a directory, with what it is.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// File, directory, link.
    pub kind: Kind,
    /// Permission bits; of a link, nothing.
    pub mode: u32,
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
}

/// What a name can be.
#[derive(Clone, PartialEq, Eq)]
pub enum Kind {
    /// With size, digest, and the first of its names.
    File(u64, Digest, Vec<u8>),
    /// A directory.
    Directory,
    /// With what it points to.
    Link(Vec<u8>),
    /// Neither.
    Special,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(size, digest, first) => {
                write!(f, "file of {size}, {digest}, first name {}", escape(first))
            }
            Self::Directory => f.write_str("directory"),
            Self::Link(target) => write!(f, "link to {}", escape(target)),
            Self::Special => f.write_str("special"),
        }
    }
}

/// Everything below `top`.
pub fn look(top: &Path) -> Tree {
    let mut looker = Looker::default();
    looker.directory(&open_top(top), b"");
    looker.tree
}

/// Says which names differ, and how.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path) {
    assert_trees_same(&look(left), &look(right));
}

/// Says which names differ, and how.
#[track_caller]
pub fn assert_trees_same(left: &Tree, right: &Tree) {
    let names = left.keys().chain(right.keys().filter(|name| !left.contains_key(*name)));
    let different: Vec<String> = names
        .filter(|name| left.get(*name) != right.get(*name))
        .map(|name| {
            let shown = if name.len() > 300 { format!("{}…", escape(&name[..300])) } else { escape(name) };
            format!("{shown}\n  left:  {:?}\n  right: {:?}", left.get(name), right.get(name))
        })
        .collect();
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

/// The names below `top`, as text.
pub fn names(top: &Path) -> Vec<String> {
    look(top).keys().map(|name| escape(name)).collect()
}

/// Makes the directory `name` in the open directory and opens it.
pub fn make_dir(parent: &OwnedFd, name: &[u8]) -> OwnedFd {
    mkdirat(parent, name, Mode::from_raw_mode(0o755)).unwrap();
    open_dir(parent, name)
}

/// Makes a file in the open directory.
pub fn make_file(parent: &OwnedFd, name: &[u8], content: &[u8]) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut file = File::from(openat(parent, name, flags, Mode::from_raw_mode(0o644)).unwrap());
    std::io::Write::write_all(&mut file, content).unwrap();
}

/// Opens a directory that a path leads to.
pub fn open_top(top: &Path) -> OwnedFd {
    File::open(top).unwrap_or_else(|error| panic!("{}: {error}", top.display())).into()
}

/// Gives everything below `top` and itself a time of its own, directories after what is in them, links included.
pub fn age(top: &Path) {
    let mut count = 0;
    age_below(&open_top(top), &mut count);
    age_one(rustix::fs::CWD, top, &mut count);
}

/// Blocks of 512 bytes that a file takes.
pub fn blocks(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap())
}

/// Bytes that no one has seen before, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64 (Marsaglia).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The SHA-256 of bytes, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(bytes);
    Digest(hasher.finish()).to_string()
}

/// Changes the mode of a name in an open directory.
pub fn set_mode(parent: &OwnedFd, name: &[u8], mode: u32) {
    chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty()).unwrap();
}

/// Gives a path one modification time.
pub fn set_mtime(path: &Path, secs: i64, nanos: i64) {
    let time = Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[derive(Default)]
struct Looker {
    tree: Tree,
    /// The first name of each inode.
    first: HashMap<(u64, u64), Vec<u8>>,
}

impl Looker {
    fn directory(&mut self, dir: &OwnedFd, prefix: &[u8]) {
        for name in names_in(dir) {
            let path = [prefix, &name].concat();
            let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            let kind = match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => {
                    let first = self.first.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| path.clone());
                    let (size, digest) = digest(dir, &name);
                    Kind::File(size, digest, first.clone())
                }
                FileType::Directory => Kind::Directory,
                FileType::Symlink => Kind::Link(readlinkat(dir, &name, Vec::new()).unwrap().into_bytes()),
                _ => Kind::Special,
            };
            let mode = if matches!(kind, Kind::Link(_)) { 0 } else { stat.st_mode & 0o7777 };
            let mtime = (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap());
            let is_dir = kind == Kind::Directory;
            self.tree.insert(path.clone(), Node { kind, mode, mtime });
            if is_dir {
                self.directory(&open_dir(dir, &name), &[&path[..], b"/"].concat());
            }
        }
    }
}

fn digest(dir: &OwnedFd, name: &[u8]) -> (u64, Digest) {
    let mut file = File::from(openat(dir, name, OFlags::RDONLY, Mode::empty()).unwrap());
    let mut hasher = Hasher::new(DigestKind::Sha256);
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        let len = file.read(&mut buffer).unwrap();
        if len == 0 {
            return (size, Digest(hasher.finish()));
        }
        hasher.update(&buffer[..len]);
        size += len as u64;
    }
}

/// In the order of their bytes.
fn names_in(dir: &OwnedFd) -> Vec<Vec<u8>> {
    let entries = Dir::read_from(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_bytes().to_vec());
    let mut names: Vec<_> = names.filter(|name| name != b"." && name != b"..").collect();
    names.sort();
    names
}

fn open_dir(dir: &OwnedFd, name: &[u8]) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    openat(dir, name, flags, Mode::empty()).unwrap_or_else(|error| panic!("{}: {error}", escape(name)))
}

fn age_below(dir: &OwnedFd, count: &mut i64) {
    for name in names_in(dir) {
        let stat = statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            age_below(&open_dir(dir, &name), count);
        }
        age_one(dir, name, count);
    }
}

fn age_one(dir: impl std::os::fd::AsFd, name: impl rustix::path::Arg, count: &mut i64) {
    *count += 1;
    let time = Timespec { tv_sec: 1_000_000_000 + *count * 1000, tv_nsec: 123_456_789 + *count };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}
