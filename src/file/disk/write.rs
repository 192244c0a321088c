//! The system calls that change the disk, one thin wrapper each.
//!
//! Everything is relative to an open directory and takes one name component; nothing here follows a symbolic link
//! except [`open_root`], whose path a person chose. No decision is taken here, and no name is checked: names come
//! from a [`RelPath`](super::super::path::RelPath) or are ours.

use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::{Errno, Result, retry_on_intr};

use crate::file::path::TEMP_PREFIX;
use crate::limits;
use crate::wire::message::Mtime;

/// Whether one call can sync a whole file system ([`sync_file_system`]).
pub const HAS_SYNCFS: bool = cfg!(target_os = "linux");

/// Opens the directory that everything happens below. Follows links: the path is a person's.
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    retry_on_intr(|| fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
}

/// Opens the directory `name` in `dir`; a symbolic link is an error (`ENOTDIR` or `ELOOP`). protocol.md [LINK-2]
pub fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(dir.as_fd(), name, flags, Mode::empty()))
}

/// Opens an existing regular file for reading. Never waits for the writer of a FIFO.
pub fn open_file(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(dir.as_fd(), name, flags, Mode::empty()))
}

/// Opens a temporary file of ours again.
pub fn open_temp(dir: impl AsFd, name: TempName) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(dir.as_fd(), name.as_bytes(), flags, Mode::empty()))
}

/// Creates a file that nobody else can have opened, mode 0600, under the next free temporary name.
pub fn create_temp(dir: impl AsFd, names: &mut TempNames) -> Result<(OwnedFd, TempName)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    under_free_name(names, |name| fs::openat(dir.as_fd(), name, flags, Mode::RUSR | Mode::WUSR))
}

/// Creates a symbolic link under the next free temporary name.
pub fn symlink_temp(dir: impl AsFd, target: &[u8], names: &mut TempNames) -> Result<TempName> {
    under_free_name(names, |name| fs::symlinkat(target, dir.as_fd(), name)).map(|((), name)| name)
}

/// Gives the file `name` in `from` another name: the next free temporary one in `dir`. A link is not followed.
pub fn link_temp(from: impl AsFd, name: &[u8], dir: impl AsFd, names: &mut TempNames) -> Result<TempName> {
    under_free_name(names, |temp| fs::linkat(from.as_fd(), name, dir.as_fd(), temp, AtFlags::empty()))
        .map(|((), name)| name)
}

/// Creates the directory `name` in `dir`.
pub fn make_dir(dir: impl AsFd, name: &[u8], mode: u32) -> Result<()> {
    fs::mkdirat(dir.as_fd(), name, mode_of(mode))
}

/// Sets the mode of the directory `name` in `dir`, which need not be readable; a link is not followed.
pub fn set_mode_of_dir(dir: impl AsFd, name: &[u8], mode: u32) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fd::AsRawFd;

        // Before Linux 6.6 no call changes the mode of a name without following links.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(dir.as_fd(), name, flags, Mode::empty())?;
        fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), mode_of(mode))
    }
    #[cfg(not(target_os = "linux"))]
    fs::chmodat(dir.as_fd(), name, mode_of(mode), AtFlags::SYMLINK_NOFOLLOW)
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: impl AsFd, mut bytes: &[u8], mut offset: u64) -> Result<()> {
    while !bytes.is_empty() {
        let written = retry_on_intr(|| rustix::io::pwrite(file.as_fd(), bytes, offset))?;
        if written == 0 {
            return Err(Errno::IO);
        }
        bytes = &bytes[written..];
        offset += written as u64;
    }
    Ok(())
}

/// Reads at `offset` until `buffer` is full or the file ends; how many bytes were read.
pub fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset + filled as u64;
        match retry_on_intr(|| rustix::io::pread(file.as_fd(), &mut buffer[filled..], at))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Sets the length of a file; bytes that appear are a hole.
pub fn set_len(file: impl AsFd, len: u64) -> Result<()> {
    retry_on_intr(|| fs::ftruncate(file.as_fd(), len))
}

/// Reserves the blocks of a file of `len` bytes, so that a full disk shows before the first byte. A file system
/// that cannot reserve is no error. Neither is one in memory, where to reserve is to allocate: that takes as long as
/// a third of the transfer, and nothing else could go on meanwhile.
pub fn reserve(file: impl AsFd, len: u64) -> Result<()> {
    if is_in_memory(file.as_fd()) {
        return Ok(());
    }
    match retry_on_intr(|| fs::fallocate(file.as_fd(), fs::FallocateFlags::empty(), 0, len)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        result => result,
    }
}

#[cfg(target_os = "linux")]
fn is_in_memory(file: BorrowedFd<'_>) -> bool {
    /// statfs(2).
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    fs::fstatfs(file).is_ok_and(|statfs| u64::try_from(statfs.f_type) == Ok(TMPFS_MAGIC))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_file: BorrowedFd<'_>) -> bool {
    false
}

/// Sets the permission bits exactly; the umask has no say.
pub fn set_mode(file: impl AsFd, mode: u32) -> Result<()> {
    fs::fchmod(file.as_fd(), mode_of(mode))
}

/// Sets the modification time of an open file or directory and leaves the access time.
pub fn set_mtime(file: impl AsFd, mtime: Mtime) -> Result<()> {
    fs::futimens(file.as_fd(), &times(mtime))
}

/// Sets the modification time of `name` itself, also where it is a symbolic link.
pub fn set_mtime_of(dir: impl AsFd, name: &[u8], mtime: Mtime) -> Result<()> {
    fs::utimensat(dir.as_fd(), name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW)
}

/// Gives `from` the name `to` in the same directory, unless something has it (`EEXIST`).
pub fn rename_new(dir: impl AsFd, from: &[u8], to: &[u8]) -> Result<()> {
    let dir = dir.as_fd();
    match fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // NFS and others: a link never replaces, and its file is complete under both names.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::linkat(dir, from, dir, to, AtFlags::empty())?;
            // The name is given; a temporary one that cannot be removed stays behind, reserved and unread.
            let _ = fs::unlinkat(dir, from, AtFlags::empty());
            Ok(())
        }
        result => result,
    }
}

/// Gives `from` the name `to` in the same directory, in place of what has it.
pub fn rename_over(dir: impl AsFd, from: &[u8], to: &[u8]) -> Result<()> {
    fs::renameat(dir.as_fd(), from, dir.as_fd(), to)
}

/// Removes a file or link.
pub fn unlink(dir: impl AsFd, name: &[u8]) -> Result<()> {
    fs::unlinkat(dir.as_fd(), name, AtFlags::empty())
}

/// What stands at `name` itself, links not followed; `None` where nothing does.
pub fn stat(dir: impl AsFd, name: &[u8]) -> Result<Option<Stat>> {
    match fs::statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        result => result.map(Some),
    }
}

/// Where the symbolic link `name` points.
pub fn read_link(dir: impl AsFd, name: &[u8]) -> Result<Vec<u8>> {
    fs::readlinkat(dir.as_fd(), name, Vec::new()).map(std::ffi::CString::into_bytes)
}

/// Waits until a file's bytes and metadata, or a directory's names, are on the disk.
pub fn sync(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| sync_once(file.as_fd()))
}

/// Waits until everything written to the file system of `file` is on the disk. Reports errors of earlier writes
/// since `file` was opened. Where the system lacks this, `EOPNOTSUPP`; see [`HAS_SYNCFS`].
pub fn sync_file_system(file: impl AsFd) -> Result<()> {
    #[cfg(target_os = "linux")]
    return retry_on_intr(|| fs::syncfs(file.as_fd()));
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        Err(Errno::OPNOTSUPP)
    }
}

/// Asks the system to forget what it keeps of a synced file in memory, so that reading reaches the disk.
pub fn drop_cache(file: impl AsFd) -> Result<()> {
    #[cfg(target_os = "linux")]
    return fs::fadvise(file.as_fd(), 0, None, fs::Advice::DontNeed);
    #[cfg(target_vendor = "apple")]
    return fs::fcntl_nocache(file.as_fd(), true);
    #[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
    {
        let _ = file;
        Ok(())
    }
}

/// Bytes that this user may still write to the file system of `dir`; `None` where it does not say.
pub fn free_bytes(dir: impl AsFd) -> Option<u64> {
    let stats = fs::fstatvfs(dir.as_fd()).ok()?;
    (stats.f_blocks > 0).then(|| stats.f_bavail.saturating_mul(stats.f_frsize))
}

/// Calls `look` with each name in `dir` except `.` and `..`, until it says stop with `true`.
pub fn any_name(dir: impl AsFd, mut look: impl FnMut(&[u8], u64) -> bool) -> Result<bool> {
    for entry in fs::Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && look(name, entry.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A modification time out of what `stat` found.
pub fn mtime_of(stat: &Stat) -> Mtime {
    Mtime { secs: number(stat.st_mtime, 0), nanos: number(stat.st_mtime_nsec, 0) }
}

/// A number of another width, for the fields of system structs that differ between platforms.
pub fn number<From: TryInto<Into>, Into>(value: From, otherwise: Into) -> Into {
    value.try_into().unwrap_or(otherwise)
}

/// One temporary name: [`TEMP_PREFIX`] and twelve random characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempName([u8; TEMP_NAME_BYTES]);

impl TempName {
    /// The name as one component.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Draws temporary names: random to others, the same for the same seed.
#[derive(Clone, Debug)]
pub struct TempNames {
    /// Chosen by the caller at random, so that nobody can guess the names and two sessions rarely meet.
    seed: u64,
    /// How many names were drawn.
    counter: u64,
}

impl TempNames {
    /// Names from `seed`, which is to be random.
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next name.
    pub fn draw(&mut self) -> TempName {
        self.counter = self.counter.wrapping_add(1);
        let mut bits = mix(self.seed.wrapping_add(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut name = [0; TEMP_NAME_BYTES];
        name[..TEMP_PREFIX.len()].copy_from_slice(TEMP_PREFIX);
        for character in &mut name[TEMP_PREFIX.len()..] {
            *character = BASE32[usize::from(bits.to_le_bytes()[0] & 31)];
            bits >>= 5;
        }
        TempName(name)
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

fn sync_once(file: impl AsFd) -> Result<()> {
    // There, fsync leaves the bytes in the drive's own cache.
    #[cfg(target_vendor = "apple")]
    if fs::fcntl_fullfsync(file.as_fd()).is_ok() {
        return Ok(());
    }
    fs::fsync(file.as_fd())
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

/// The finishing step of SplitMix64: every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const TEMP_NAME_BYTES: usize = TEMP_PREFIX.len() + 12;
/// Names drawn before a directory full of our leftovers is an error. A second one is rare already.
const TEMP_TRIES_MAX: u32 = 100;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const _: () = assert!(TEMP_NAME_BYTES <= limits::NAME_MAX_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_is_ours_and_differs_from_the_next() {
        let mut names = TempNames::new(7);
        let drawn: std::collections::BTreeSet<Vec<u8>> =
            (0..1000).map(|_| names.draw().as_bytes().to_vec()).collect();

        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|name| name.len() == 18 && name.starts_with(TEMP_PREFIX)));
    }

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
        assert_eq!(stat.st_mode & 0o7777, 0o666);
        assert_eq!(mtime_of(&stat), mtime);
    }
}
