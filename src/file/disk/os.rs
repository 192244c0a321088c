//! The system calls behind [`write`](super::write), one thin wrapper each: what a handle of the operating system
//! does.
//!
//! Each is relative to an open directory and takes one name component; nothing here follows a symbolic link except
//! [`open_root`].

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{
    self, AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT,
};
use rustix::io::{Errno, Result, retry_on_intr};

use super::stat::{FileKind, Stat};
use crate::wire::message::Mtime;

pub(super) fn open_root(path: &Path) -> Result<OwnedFd> {
    retry_on_intr(|| fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
}

pub(super) fn open_dir(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(dir, name, flags, Mode::empty()))
}

pub(super) fn open_file(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(dir, name, flags, Mode::empty()))
}

pub(super) fn open_to_write(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(dir, name, flags, Mode::empty()))
}

pub(super) fn open_or_create(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR))
}

pub(super) fn create_new(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
}

pub(super) fn symlink(dir: &OwnedFd, target: &[u8], name: &[u8]) -> Result<()> {
    fs::symlinkat(target, dir, name)
}

pub(super) fn link(from: &OwnedFd, name: &[u8], dir: &OwnedFd, other: &[u8]) -> Result<()> {
    fs::linkat(from, name, dir, other, AtFlags::empty())
}

pub(super) fn make_dir(dir: &OwnedFd, name: &[u8], mode: u32) -> Result<()> {
    fs::mkdirat(dir, name, mode_of(mode))
}

pub(super) fn set_mode_of_dir(dir: &OwnedFd, name: &[u8], mode: u32) -> Result<()> {
    set_mode_of(dir, name, mode, OFlags::DIRECTORY)
}

pub(super) fn set_mode_of_file(dir: &OwnedFd, name: &[u8], mode: u32) -> Result<()> {
    set_mode_of(dir, name, mode, OFlags::empty())
}

fn set_mode_of(dir: &OwnedFd, name: &[u8], mode: u32, kind: OFlags) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fd::AsRawFd;

        // Before Linux 6.6 no call changes the mode of a name without following links.
        let flags = OFlags::PATH | kind | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(dir, name, flags, Mode::empty())?;
        fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode_of(mode))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = kind;
        fs::chmodat(dir, name, mode_of(mode), AtFlags::SYMLINK_NOFOLLOW)
    }
}

pub(super) fn write_at(file: &OwnedFd, bytes: &[u8], offset: u64) -> Result<usize> {
    retry_on_intr(|| rustix::io::pwrite(file, bytes, offset))
}

pub(super) fn read_at(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    retry_on_intr(|| rustix::io::pread(file, &mut *buffer, offset))
}

pub(super) fn set_len(file: &OwnedFd, len: u64) -> Result<()> {
    retry_on_intr(|| fs::ftruncate(file, len))
}

/// Does nothing on a file system in memory, where to reserve is to allocate: that takes as long as a third of the
/// transfer, and nothing else could go on meanwhile.
pub(super) fn reserve(file: &OwnedFd, len: u64) -> Result<()> {
    if is_in_memory(file) {
        return Ok(());
    }
    match retry_on_intr(|| fs::fallocate(file, fs::FallocateFlags::empty(), 0, len)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        result => result,
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(file: &OwnedFd) -> bool {
    /// statfs(2).
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    fs::fstatfs(file).is_ok_and(|statfs| u64::try_from(statfs.f_type) == Ok(TMPFS_MAGIC))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_file: &OwnedFd) -> bool {
    false
}

pub(super) fn set_mode(file: &OwnedFd, mode: u32) -> Result<()> {
    fs::fchmod(file, mode_of(mode))
}

pub(super) fn set_mtime(file: &OwnedFd, mtime: Mtime) -> Result<()> {
    fs::futimens(file, &times(mtime))
}

pub(super) fn set_mtime_of(dir: &OwnedFd, name: &[u8], mtime: Mtime) -> Result<()> {
    fs::utimensat(dir, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn rename_new(dir: &OwnedFd, from: &[u8], to: &[u8]) -> Result<()> {
    fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE)
}

pub(super) fn rename_over(dir: &OwnedFd, from: &[u8], to: &[u8]) -> Result<()> {
    fs::renameat(dir, from, dir, to)
}

pub(super) fn unlink(dir: &OwnedFd, name: &[u8]) -> Result<()> {
    fs::unlinkat(dir, name, AtFlags::empty())
}

pub(super) fn stat(dir: &OwnedFd, name: &[u8]) -> Result<Stat> {
    fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| told(&stat))
}

pub(super) fn stat_of(file: &OwnedFd) -> Result<Stat> {
    fs::fstat(file).map(|stat| told(&stat))
}

pub(super) fn read_link(dir: &OwnedFd, name: &[u8]) -> Result<Vec<u8>> {
    fs::readlinkat(dir, name, Vec::new()).map(std::ffi::CString::into_bytes)
}

pub(super) fn try_lock(file: &OwnedFd) -> Result<bool> {
    match retry_on_intr(|| fs::flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Err(Errno::WOULDBLOCK) => Ok(false),
        result => result.map(|()| true),
    }
}

pub(super) fn sync(file: &OwnedFd) -> Result<()> {
    // There, fsync leaves the bytes in the drive's own cache.
    #[cfg(target_vendor = "apple")]
    if retry_on_intr(|| fs::fcntl_fullfsync(file)).is_ok() {
        return Ok(());
    }
    retry_on_intr(|| fs::fsync(file))
}

pub(super) fn sync_data(file: &OwnedFd) -> Result<()> {
    #[cfg(target_vendor = "apple")]
    return sync(file);
    #[cfg(not(target_vendor = "apple"))]
    retry_on_intr(|| fs::fdatasync(file))
}

pub(super) fn sync_file_system(file: &OwnedFd) -> Result<()> {
    #[cfg(target_os = "linux")]
    return retry_on_intr(|| fs::syncfs(file));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        Err(Errno::OPNOTSUPP)
    }
}

pub(super) fn drop_cache(file: &OwnedFd) -> Result<()> {
    #[cfg(target_os = "linux")]
    return fs::fadvise(file, 0, None, fs::Advice::DontNeed);
    #[cfg(target_vendor = "apple")]
    return fs::fcntl_nocache(file, true);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = file;
        Ok(())
    }
}

pub(super) fn free_bytes(dir: &OwnedFd) -> Option<u64> {
    let stats = fs::fstatvfs(dir).ok()?;
    (stats.f_blocks > 0).then(|| stats.f_bavail.saturating_mul(stats.f_frsize))
}

pub(super) fn any_name(dir: &OwnedFd, look: &mut impl FnMut(&[u8], u64) -> bool) -> Result<bool> {
    for entry in fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && look(name, entry.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn told(stat: &fs::Stat) -> Stat {
    Stat {
        identity: (number(stat.st_dev, u64::MAX), number(stat.st_ino, u64::MAX)),
        kind: match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        },
        mode: number::<_, u32>(stat.st_mode, 0) & 0o7777,
        uid: stat.st_uid,
        nlink: number(stat.st_nlink, 0),
        size: number(stat.st_size, 0),
        blocks_bytes: number::<_, u64>(stat.st_blocks, 0).saturating_mul(STAT_BLOCK_BYTES),
        mtime: Mtime { secs: number(stat.st_mtime, 0), nanos: number(stat.st_mtime_nsec, 0) },
        ctime_secs: number(stat.st_ctime, 0),
    }
}

/// A number of another width, for the fields of system structs that differ between platforms.
fn number<From: TryInto<Into>, Into>(value: From, otherwise: Into) -> Into {
    value.try_into().unwrap_or(otherwise)
}

fn mode_of(mode: u32) -> Mode {
    Mode::from_bits_truncate(number(mode & 0o7777, 0))
}

fn times(mtime: Mtime) -> Timestamps {
    let nanos = mtime.nanos.min(999_999_999);
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: number(mtime.secs, 0), tv_nsec: number(nanos, 0) },
    }
}

/// The unit of `st_blocks`, whatever the blocks of the file system are (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;
