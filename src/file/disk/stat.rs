//! What the receiving side wants to know of a file, in the widths that haul uses.

use crate::wire::message::Mtime;

/// What stands at a name, or is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Device and inode: the same for every name and every handle of one file.
    pub identity: (u64, u64),
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Names that it has.
    pub nlink: u64,
    /// Length, bytes.
    pub size: u64,
    /// What is allocated for it, bytes; less than `size` where there are holes.
    pub blocks_bytes: u64,
    /// Last change of its content.
    pub mtime: Mtime,
    /// Last change of anything about it, seconds since 1970; nobody can set it. 0 on a disk in memory.
    pub ctime_secs: i64,
}

impl Stat {
    /// Whether it is a regular file of this user under one name: nobody else made it, and it is nothing else besides.
    pub fn is_own_file(&self) -> bool {
        self.nlink == 1 && self.is_file_of_user()
    }

    /// Whether it is a regular file of this user, whatever names it has besides.
    pub fn is_file_of_user(&self) -> bool {
        self.kind == FileKind::File && self.uid == rustix::process::geteuid().as_raw()
    }
}

/// Of what kind something on the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a FIFO, a socket.
    Other,
}
