//! Looks at the disk and reads from it: one wrapper for each system call that the sending side needs.
//!
//! Names are single components below an open directory. Nothing here follows a symbolic link, except
//! [`open_root`] and [`open_dir_following`], whose paths a local person wrote.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, SeekFrom, Stat};
use rustix::io::{Errno, retry_on_intr};

use crate::wire::message::Mtime;

/// What tells one state of one file from another. Equal identities mean the same unchanged bytes, as far as a file
/// system can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number in it.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Mtime,
    /// Last change of content, name count, owner or permissions.
    pub ctime: Mtime,
}

impl Identity {
    /// In what `other` differs, in words; `None` when the two are equal.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        if (self.dev, self.ino) != (other.dev, other.ino) {
            Some("another file stands under its name")
        } else if self.size != other.size {
            Some("its size changed")
        } else if self.mtime != other.mtime {
            Some("its modification time changed")
        } else if self.ctime != other.ctime {
            Some("its change time changed")
        } else {
            None
        }
    }
}

/// What a stat call says, in the widths that haul uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Which file in which state.
    pub identity: Identity,
    /// File, directory, link or something special.
    pub file_type: FileType,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Names that the inode has.
    pub nlink: u64,
    /// Bytes allocated on the disk; less than the size when there are holes.
    pub allocated: u64,
}

impl Meta {
    /// Whether fewer blocks are allocated than the size needs: there are holes.
    pub fn is_sparse(&self) -> bool {
        self.allocated < self.identity.size
    }

    fn of(stat: &Stat) -> Self {
        Self {
            identity: Identity {
                dev: bits(stat.st_dev),
                ino: bits(stat.st_ino),
                size: bits(stat.st_size),
                mtime: Mtime { secs: stat.st_mtime, nanos: nanos(stat.st_mtime_nsec) },
                ctime: Mtime { secs: stat.st_ctime, nanos: nanos(stat.st_ctime_nsec) },
            },
            file_type: FileType::from_raw_mode(stat.st_mode as RawMode),
            mode: permissions(stat.st_mode),
            uid: stat.st_uid,
            nlink: bits(stat.st_nlink),
            allocated: bits(stat.st_blocks).saturating_mul(512),
        }
    }
}

/// Opens the directory at `path`, following links; the root of everything below.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    passing(|access| rustix::fs::open(path, access | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))
}

/// Opens the directory at `path`, following links, so that it can be listed.
pub fn open_dir_following(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?)
}

/// Opens the directory `name` (or `.`) in `dir`, so that it can be listed. A link is `ELOOP`.
pub fn open_dir(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    open_below(&dir, name, OFlags::RDONLY).map_err(|error| explain(&dir, name, error))
}

/// Opens the directory `name` in `dir` to go through it: like [`open_dir`], but where permissions allow to enter
/// the directory and not to list it, a handle comes back that can do no more than that (on Linux).
pub fn pass_dir(dir: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    passing(|access| open_below(&dir, name, access)).map_err(|error| match error.raw_os_error() {
        Some(raw) => explain(&dir, name, Errno::from_raw_os_error(raw)),
        None => error,
    })
}

/// What stands at `name` in `dir`; of a link, the link itself.
pub fn stat_at(dir: impl AsFd, name: &[u8]) -> io::Result<Meta> {
    Ok(Meta::of(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
}

/// What an open file is.
pub fn stat(file: impl AsFd) -> io::Result<Meta> {
    Ok(Meta::of(&rustix::fs::fstat(file)?))
}

/// Where the link `name` in `dir` points.
pub fn read_link(dir: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// Opens the regular file `name` in `dir` for reading. Never waits (a FIFO may have taken the file's place), never
/// follows a link (`ELOOP`); anything but a regular file is `InvalidInput`.
pub fn open_file(dir: impl AsFd, name: &[u8]) -> io::Result<(OwnedFd, Meta)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match retry_on_intr(|| rustix::fs::openat(&dir, name, flags, Mode::empty())) {
        Err(Errno::NXIO | Errno::OPNOTSUPP) => return Err(not_regular()),
        opened => opened?,
    };
    let meta = stat(&file)?;
    if meta.file_type == FileType::RegularFile { Ok((file, meta)) } else { Err(not_regular()) }
}

/// The names in a directory, in batches.
#[derive(Debug)]
pub struct Names {
    dir: Dir,
    /// Reading ended; what it ended with comes after the names that were read before.
    end: Option<io::Result<()>>,
}

impl Names {
    /// Reads the directory `dir`, which [`open_dir`] opened.
    pub fn new(dir: OwnedFd) -> io::Result<Self> {
        Ok(Self { dir: Dir::new(dir)?, end: None })
    }

    /// The next names, at most `most`, sorted by their bytes; empty at the end. `.` and `..` are left out.
    pub fn next_batch(&mut self, most: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        while self.end.is_none() && names.len() < most {
            match self.dir.read() {
                None => self.end = Some(Ok(())),
                Some(Err(error)) => self.end = Some(Err(error.into())),
                Some(Ok(entry)) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => names.push(name.to_vec()),
                },
            }
        }
        if names.is_empty() {
            return self.end.replace(Ok(())).unwrap_or(Ok(())).map(|()| names);
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads no further names.
    pub fn finish(&mut self) {
        self.end = Some(Ok(()));
    }

    /// The directory, for calls on what it holds.
    pub fn as_dir(&self) -> io::Result<BorrowedFd<'_>> {
        Ok(self.dir.fd()?)
    }
}

/// Appends up to `want` bytes at `offset` to the empty `buffer` and returns how many; fewer only at the end of the
/// file. When the file is known to end there (`is_last`), one surplus byte or more shows that it has grown.
///
/// Reads into spare capacity, without clearing it first, where the capacity does not reach past what is wanted;
/// otherwise only the wanted part is cleared and filled.
pub fn read_at(
    file: impl AsFd,
    offset: u64,
    want: usize,
    is_last: bool,
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    fill(want, is_last, buffer, Input::At(file.as_fd(), offset))
}

/// Appends up to `want` bytes of a stream to the empty `buffer` and returns how many; fewer only at its end.
pub fn read_stream(stream: impl AsFd, want: usize, buffer: &mut Vec<u8>) -> io::Result<usize> {
    fill(want, false, buffer, Input::Stream(stream.as_fd()))
}

/// The first offset at or behind `from` that holds data; `None` when only a hole follows. Where the file system
/// cannot tell, everything is data.
pub fn next_data(file: impl AsFd, from: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::NOTTY | Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(error) => Err(error.into()),
    }
}

/// The first offset behind `from`, which is data, that is a hole or the end of the file; `None` where the file
/// system cannot tell.
pub fn next_hole(file: impl AsFd, from: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Hole(from)) {
        Ok(at) => Ok(Some(at)),
        Err(Errno::NXIO | Errno::INVAL | Errno::NOTTY | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tells the system that a file will be read front to back. Advice: failure does not matter.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub fn will_read_in_order(file: impl AsFd) {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Sequential).ok();
}

/// Tells the system that a file will be read front to back: this platform has no such call.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub fn will_read_in_order(_file: impl AsFd) {}

/// Whether `name` in `dir` has extended attributes that a person set: those of security modules do not count.
/// Where the system cannot tell, it has none.
#[cfg(target_os = "linux")]
pub fn has_attributes(dir: impl AsFd, name: &[u8]) -> bool {
    // llistxattr has no form that takes a directory handle; the handle's own name in /proc serves as one.
    let handle = std::os::fd::AsRawFd::as_raw_fd(&dir.as_fd());
    let path = [format!("/proc/self/fd/{handle}/").as_bytes(), name].concat();
    let mut list = [0; ATTRIBUTES_USUAL_BYTES];
    match rustix::fs::llistxattr(&path, &mut list[..]) {
        Ok(len) => counts_as_attributes(list.get(..len).unwrap_or_default()),
        Err(Errno::RANGE) => {
            let mut list = vec![0; ATTRIBUTES_MAX_BYTES];
            let len = rustix::fs::llistxattr(&path, &mut list[..]).unwrap_or(0);
            counts_as_attributes(list.get(..len).unwrap_or_default())
        }
        Err(_) => false,
    }
}

/// Whether `name` in `dir` has extended attributes: not looked at on this platform.
#[cfg(not(target_os = "linux"))]
pub fn has_attributes(_dir: impl AsFd, _name: &[u8]) -> bool {
    false
}

/// The user whose rights this process has.
pub fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The bytes of a path that a person wrote.
pub fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn open_below(dir: impl AsFd, name: &[u8], access: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(&dir, name, flags, Mode::empty()))
}

/// Opens for listing, or failing that for going through, where the platform has such a thing.
fn passing(open: impl Fn(OFlags) -> rustix::io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    match retry_on_intr(|| open(OFlags::RDONLY)) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Err(Errno::ACCESS) => Ok(open(OFlags::PATH)?),
        opened => Ok(opened?),
    }
}

/// Platforms disagree on the error of `O_NOFOLLOW | O_DIRECTORY` at a link: here it is `ELOOP` everywhere.
fn explain(dir: impl AsFd, name: &[u8], error: Errno) -> io::Error {
    let is_link = || stat_at(&dir, name).is_ok_and(|meta| meta.file_type == FileType::Symlink);
    match error {
        Errno::NOTDIR | Errno::MLINK if is_link() => Errno::LOOP.into(),
        error => error.into(),
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// Where bytes come from.
#[derive(Clone, Copy)]
enum Input<'f> {
    At(BorrowedFd<'f>, u64),
    Stream(BorrowedFd<'f>),
}

impl Input<'_> {
    fn read<B: rustix::buffer::Buffer<u8>>(self, have: usize, buffer: B) -> rustix::io::Result<B::Output> {
        match self {
            Self::At(file, offset) => rustix::io::pread(file, buffer, offset.saturating_add(have as u64)),
            Self::Stream(stream) => rustix::io::read(stream, buffer),
        }
    }
}

fn fill(want: usize, is_last: bool, buffer: &mut Vec<u8>, input: Input<'_>) -> io::Result<usize> {
    assert!(want > 0);
    let fits = buffer.capacity() <= want || is_last;
    if fits {
        buffer.clear();
        buffer.reserve_exact(want);
        while buffer.len() < want {
            match input.read(buffer.len(), spare_capacity(buffer)) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        return Ok(buffer.len());
    }
    buffer.resize(want, 0);
    let mut have = 0;
    while have < want {
        match input.read(have, &mut buffer[have..]) {
            Ok(0) => break,
            Ok(more) => have += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    buffer.truncate(have);
    Ok(have)
}

fn counts_as_attributes(list: &[u8]) -> bool {
    list.split(|&b| b == 0).any(|name| !name.is_empty() && !name.starts_with(b"security."))
}

/// The low 64 bits of a number whose width and sign differ between platforms.
fn bits(number: impl Into<i128>) -> u64 {
    u64::try_from(number.into() & i128::from(u64::MAX)).expect("masked to 64 bits")
}

fn permissions(mode: impl Into<i128>) -> u32 {
    u32::try_from(bits(mode) & 0o7777).expect("masked to 12 bits")
}

/// Nanoseconds below one second; a file system that says otherwise says nothing.
fn nanos(number: impl Into<i128>) -> u32 {
    u32::try_from(number.into()).ok().filter(|&n| n < 1_000_000_000).unwrap_or(0)
}

/// Room for the names of the attributes that most files have, bytes; chosen arbitrarily.
const ATTRIBUTES_USUAL_BYTES: usize = 256;
/// The longest list of attribute names that Linux returns, bytes (XATTR_LIST_MAX).
const ATTRIBUTES_MAX_BYTES: usize = 65_536;

#[cfg(test)]
pub(in crate::file) mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_fifo_in_the_place_of_a_file_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let handle = open_root(dir.path()).unwrap();
        make_fifo(&dir.path().join("fifo"));

        let error = open_file(&handle, b"fifo").unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn links_are_seen_and_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let handle = open_root(dir.path()).unwrap();
        symlink("/etc", dir.path().join("to-dir")).unwrap();
        symlink("/etc/passwd", dir.path().join("to-file")).unwrap();
        let is_loop = |error: io::Error| error.raw_os_error() == Some(Errno::LOOP.raw_os_error());

        assert!(is_loop(open_dir(&handle, b"to-dir").unwrap_err()));
        assert!(is_loop(pass_dir(&handle, b"to-dir").unwrap_err()));
        assert!(is_loop(open_file(&handle, b"to-file").unwrap_err()));
        assert_eq!(stat_at(&handle, b"to-dir").unwrap().file_type, FileType::Symlink);
        assert_eq!(read_link(&handle, b"to-file").unwrap(), b"/etc/passwd");
    }

    #[test]
    fn names_come_in_sorted_batches_without_dots() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["c", "a", "b", ".d", "e"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        let mut names = Names::new(open_dir_following(dir.path()).unwrap()).unwrap();

        let mut all = Vec::new();
        for most in [2, 2, 1] {
            let batch = names.next_batch(most).unwrap();
            assert_eq!(batch.len(), most);
            assert!(batch.is_sorted());
            all.extend(batch);
        }
        all.sort();

        assert_eq!(all, [&b".d"[..], b"a", b"b", b"c", b"e"]);
        assert!(names.next_batch(2).unwrap().is_empty());
    }

    #[test]
    fn only_what_is_wanted_is_read_whatever_the_buffer_holds() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), b"0123456789").unwrap();
        let (file, _) = open_file(open_root(dir.path()).unwrap(), b"f").unwrap();

        for mut buffer in [Vec::new(), Vec::with_capacity(4), Vec::with_capacity(100), vec![b'x'; 100]] {
            assert_eq!(read_at(&file, 3, 4, false, &mut buffer).unwrap(), 4);
            assert_eq!(buffer, b"3456");
            assert_eq!(read_at(&file, 8, 4, false, &mut buffer).unwrap(), 2);
            assert_eq!(buffer, b"89");
        }
        let mut roomy = Vec::with_capacity(100);
        assert_eq!(read_at(&file, 3, 4, true, &mut roomy).unwrap(), 7, "the file is longer than thought");
    }

    /// Not every platform has a call for it that rustix wraps.
    pub(in crate::file) fn make_fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }
}
