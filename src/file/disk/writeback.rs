//! Asks the system to begin to write what waits in memory.

#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "a system call that rustix does not have"))]

use rustix::fd::OwnedFd;

/// Begins to write `len` bytes from `offset`; does not wait, and promises nothing. An error has no meaning: whoever
/// wants the bytes on the disk syncs them, and hears of it there.
#[cfg(target_os = "linux")]
pub(super) fn start(file: &OwnedFd, offset: u64, len: u64) {
    use rustix::fd::AsRawFd;

    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    // SAFETY: takes numbers only, and the descriptor is open as long as it is borrowed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
}

/// This platform has no such call.
#[cfg(not(target_os = "linux"))]
pub(super) fn start(_file: &OwnedFd, _offset: u64, _len: u64) {}
