//! What the receiving side asks of a disk, one small function each.
//!
//! Everything is relative to an open directory and takes one name component; nothing here follows a symbolic link
//! except [`open_root`], whose path a person chose. No decision is taken here, and no name is checked: names come
//! from a [`RelPath`](super::super::path::RelPath) or are ours. A call goes to the operating system or to a disk in
//! memory, as its [`Handle`] says; what takes several calls (all bytes of a write, a free name) is put together here,
//! the same for both.

use std::path::Path;

use rustix::io::{Errno, Result};

use super::handle::Handle;
use super::stat::Stat;
use super::temp_name::{TempName, TempNames};
use super::{os, writeback};
use crate::wire::message::Mtime;

/// Whether one call can sync a whole file system ([`sync_file_system`]).
pub const HAS_SYNCFS: bool = cfg!(target_os = "linux");

/// Makes one call on what the handle is.
macro_rules! call {
    ($handle:expr, $name:ident($($argument:expr),*)) => {
        match $handle {
            Handle::Os(handle) => os::$name(handle, $($argument),*),
            Handle::Memory(handle) => handle.$name($($argument),*),
        }
    };
}

/// As `call!`, for calls that open something.
macro_rules! open {
    ($handle:expr, $name:ident($($argument:expr),*)) => {
        match $handle {
            Handle::Os(handle) => os::$name(handle, $($argument),*).map(Handle::Os),
            Handle::Memory(handle) => handle.$name($($argument),*).map(Handle::Memory),
        }
    };
}

/// Opens the directory that everything happens below. Follows links: the path is a person's.
pub fn open_root(path: &Path) -> Result<Handle> {
    os::open_root(path).map(Handle::Os)
}

/// Opens the directory `name` in `dir`; a symbolic link is an error (`ENOTDIR` or `ELOOP`). protocol.md [LINK-2]
pub fn open_dir(dir: &Handle, name: &[u8]) -> Result<Handle> {
    open!(dir, open_dir(name))
}

/// Opens an existing regular file for reading. Never waits for the writer of a FIFO.
pub fn open_file(dir: &Handle, name: &[u8]) -> Result<Handle> {
    open!(dir, open_file(name))
}

/// Opens a temporary file of ours again.
pub fn open_temp(dir: &Handle, name: TempName) -> Result<Handle> {
    open!(dir, open_to_write(name.as_bytes()))
}

/// Opens the file `name` for reading and writing, as it is; makes an empty one, mode 0600, where there is none. Never
/// waits for the other end of a FIFO.
pub fn open_or_create(dir: &Handle, name: &[u8]) -> Result<Handle> {
    open!(dir, open_or_create(name))
}

/// Creates a file that nobody else can have opened, mode 0600, under the next free temporary name.
pub fn create_temp(dir: &Handle, names: &mut TempNames) -> Result<(Handle, TempName)> {
    under_free_name(names, |name| open!(dir, create_new(name)))
}

/// Creates a symbolic link under the next free temporary name.
pub fn symlink_temp(dir: &Handle, target: &[u8], names: &mut TempNames) -> Result<TempName> {
    under_free_name(names, |name| call!(dir, symlink(target, name))).map(|((), name)| name)
}

/// Gives the file `name` in `from` another name: the next free temporary one in `dir`. A link is not followed.
pub fn link_temp(from: &Handle, name: &[u8], dir: &Handle, names: &mut TempNames) -> Result<TempName> {
    under_free_name(names, |temp| link(from, name, dir, temp)).map(|((), name)| name)
}

/// Creates the directory `name` in `dir`.
pub fn make_dir(dir: &Handle, name: &[u8], mode: u32) -> Result<()> {
    call!(dir, make_dir(name, mode))
}

/// Sets the mode of the directory `name` in `dir`, which need not be readable; a link is not followed.
pub fn set_mode_of_dir(dir: &Handle, name: &[u8], mode: u32) -> Result<()> {
    call!(dir, set_mode_of_dir(name, mode))
}

/// Sets the mode of the file `name` in `dir`, which need not be readable; a link is not followed.
pub fn set_mode_of_file(dir: &Handle, name: &[u8], mode: u32) -> Result<()> {
    call!(dir, set_mode_of_file(name, mode))
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: &Handle, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        let written = call!(file, write_at(bytes, offset))?;
        if written == 0 {
            return Err(Errno::IO);
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Reads at `offset` until `buffer` is full or the file ends; how many bytes were read.
pub fn read_at(file: &Handle, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset + filled as u64;
        match call!(file, read_at(&mut buffer[filled..], at))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Sets the length of a file; bytes that appear are a hole.
pub fn set_len(file: &Handle, len: u64) -> Result<()> {
    call!(file, set_len(len))
}

/// Reserves the blocks of a file of `len` bytes, so that a full disk shows before the first byte. A file system
/// that cannot reserve is no error.
pub fn reserve(file: &Handle, len: u64) -> Result<()> {
    call!(file, reserve(len))
}

/// Sets the permission bits exactly; the umask has no say.
pub fn set_mode(file: &Handle, mode: u32) -> Result<()> {
    call!(file, set_mode(mode))
}

/// Sets the modification time of an open file or directory and leaves the access time.
pub fn set_mtime(file: &Handle, mtime: Mtime) -> Result<()> {
    call!(file, set_mtime(mtime))
}

/// Sets the modification time of `name` itself, also where it is a symbolic link.
pub fn set_mtime_of(dir: &Handle, name: &[u8], mtime: Mtime) -> Result<()> {
    call!(dir, set_mtime_of(name, mtime))
}

/// Gives `from` the name `to` in the same directory, unless something has it (`EEXIST`).
pub fn rename_new(dir: &Handle, from: &[u8], to: &[u8]) -> Result<()> {
    match call!(dir, rename_new(from, to)) {
        // NFS and others: a link never replaces, and its file is complete under both names.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            link(dir, from, dir, to)?;
            // The name is given; a temporary one that cannot be removed stays behind, reserved and unread.
            let _ = unlink(dir, from);
            Ok(())
        }
        result => result,
    }
}

/// Gives `from` the name `to` in the same directory, in place of what has it.
pub fn rename_over(dir: &Handle, from: &[u8], to: &[u8]) -> Result<()> {
    call!(dir, rename_over(from, to))
}

/// Removes a file or link.
pub fn unlink(dir: &Handle, name: &[u8]) -> Result<()> {
    call!(dir, unlink(name))
}

/// What stands at `name` itself, links not followed; `None` where nothing does.
pub fn stat(dir: &Handle, name: &[u8]) -> Result<Option<Stat>> {
    match call!(dir, stat(name)) {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// What is open.
pub fn stat_of(file: &Handle) -> Result<Stat> {
    call!(file, stat_of())
}

/// Where the symbolic link `name` points.
pub fn read_link(dir: &Handle, name: &[u8]) -> Result<Vec<u8>> {
    call!(dir, read_link(name))
}

/// Takes the lock of a file, which ends when the handle is dropped; `false` where another handle has it. It binds
/// only those that ask for it.
pub fn try_lock(file: &Handle) -> Result<bool> {
    call!(file, try_lock())
}

/// Asks the system to begin to write `len` bytes from `offset` to the disk, so that a later sync has less to wait
/// for. Promises nothing, and does nothing where the system has no such call.
pub fn start_writeback(file: &Handle, offset: u64, len: u64) {
    match file {
        Handle::Os(fd) => writeback::start(fd, offset, len),
        Handle::Memory(handle) => handle.start_writeback(),
    }
}

/// Waits until a file's bytes and metadata, or a directory's names, are on the disk.
pub fn sync(file: &Handle) -> Result<()> {
    call!(file, sync())
}

/// Waits until a directory's names and metadata are on the disk, as far as its file system can do that: some know no
/// sync of a directory (`EINVAL`), and all of them is synced there, where the system can.
pub fn sync_dir(dir: &Handle) -> Result<()> {
    match sync(dir) {
        Err(Errno::INVAL) if HAS_SYNCFS => sync_file_system(dir),
        Err(Errno::INVAL) => Ok(()),
        result => result,
    }
}

/// Waits until a file's bytes and its length are on the disk. Mode and times may not be.
pub fn sync_data(file: &Handle) -> Result<()> {
    call!(file, sync_data())
}

/// Waits until everything written to the file system of `file` is on the disk. Reports errors of earlier writes
/// since `file` was opened. Where the system lacks this, `EOPNOTSUPP`; see [`HAS_SYNCFS`].
pub fn sync_file_system(file: &Handle) -> Result<()> {
    call!(file, sync_file_system())
}

/// Asks the system to forget what it keeps of a synced file in memory, so that reading reaches the disk.
pub fn drop_cache(file: &Handle) -> Result<()> {
    call!(file, drop_cache())
}

/// Bytes that this user may still write to the file system of `dir`; `None` where it does not say.
pub fn free_bytes(dir: &Handle) -> Option<u64> {
    call!(dir, free_bytes())
}

/// Calls `look` with each name in `dir` except `.` and `..`, and its inode, until it says stop with `true`.
pub fn any_name(dir: &Handle, mut look: impl FnMut(&[u8], u64) -> bool) -> Result<bool> {
    call!(dir, any_name(&mut look))
}

fn link(from: &Handle, name: &[u8], dir: &Handle, other: &[u8]) -> Result<()> {
    match (from, dir) {
        (Handle::Os(from), Handle::Os(dir)) => os::link(from, name, dir, other),
        (Handle::Memory(from), Handle::Memory(dir)) => from.link(name, dir, other),
        (Handle::Os(_), Handle::Memory(_)) | (Handle::Memory(_), Handle::Os(_)) => Err(Errno::XDEV),
    }
}

fn under_free_name<T>(
    names: &mut TempNames,
    mut make: impl FnMut(&[u8]) -> Result<T>,
) -> Result<(T, TempName)> {
    let mut tries = 0;
    loop {
        let name = names.draw();
        match make(name.as_bytes()) {
            Ok(made) => return Ok((made, name)),
            Err(Errno::INTR) => {}
            Err(Errno::EXIST) if tries < TEMP_TRIES_MAX => tries += 1,
            Err(errno) => return Err(errno),
        }
    }
}

/// Names drawn before a directory full of our leftovers is an error. A second one is rare already.
const TEMP_TRIES_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_temporary_name_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        let (_, first) = create_temp(&root, &mut TempNames::new(1)).unwrap();

        let (_, second) = create_temp(&root, &mut TempNames::new(1)).unwrap();

        assert_ne!(first, second);
    }

    #[test]
    fn renaming_without_replacing_does_not_replace() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        std::fs::write(dir.path().join("a"), "new").unwrap();
        std::fs::write(dir.path().join("b"), "old").unwrap();

        assert_eq!(rename_new(&root, b"a", b"b"), Err(Errno::EXIST));
        rename_new(&root, b"a", b"c").unwrap();

        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"old");
        assert_eq!(std::fs::read(dir.path().join("c")).unwrap(), b"new");
    }

    #[test]
    fn a_symbolic_link_is_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink("d", dir.path().join("link")).unwrap();

        assert!(open_dir(&root, b"d").is_ok());
        assert!(matches!(open_dir(&root, b"link"), Err(Errno::NOTDIR | Errno::LOOP)));
        assert!(matches!(open_file(&root, b"link"), Err(Errno::LOOP)));
        assert!(matches!(open_or_create(&root, b"link"), Err(Errno::LOOP)));
    }

    #[test]
    fn times_and_modes_are_set_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        let (file, name) = create_temp(&root, &mut TempNames::new(1)).unwrap();
        let mtime = Mtime { secs: -5, nanos: 123_456_789 };

        set_mode(&file, 0o666).unwrap();
        set_mtime(&file, mtime).unwrap();

        let stat = stat(&root, name.as_bytes()).unwrap().unwrap();
        assert_eq!(stat.mode, 0o666);
        assert_eq!(stat.mtime, mtime);
        assert_eq!(stat_of(&file), Ok(stat));
    }

    #[test]
    fn a_file_that_is_there_is_opened_as_it_is_and_a_missing_one_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();

        let made = open_or_create(&root, b"f").unwrap();
        write_all_at(&made, b"text", 0).unwrap();
        start_writeback(&made, 0, 4);
        sync_data(&made).unwrap();
        let again = open_or_create(&root, b"f").unwrap();

        let mut buffer = [0; 8];
        assert_eq!(read_at(&again, &mut buffer, 0), Ok(4));
        assert_eq!(stat_of(&again).unwrap().mode, 0o600);
    }

    #[test]
    fn a_lock_keeps_others_out_until_its_handle_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let root = open_root(dir.path()).unwrap();
        let first = open_or_create(&root, b"f").unwrap();
        let second = open_or_create(&root, b"f").unwrap();

        assert_eq!(try_lock(&first), Ok(true));
        assert_eq!(try_lock(&first), Ok(true), "it has it already");
        assert_eq!(try_lock(&second), Ok(false));
        drop(first);

        assert_eq!(try_lock(&second), Ok(true));
    }
}
