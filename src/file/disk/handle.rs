//! An open file or directory of the receiving side: the operating system's, or one of a disk in memory.
//!
//! [`write`](super::write) acts on handles and asks of neither kind more than both can do. The receiving side never
//! asks which kind it has.

use rustix::fd::OwnedFd;

use super::memory;

/// An open file or directory. Dropping it closes it and gives its lock up.
#[derive(Debug)]
pub enum Handle {
    /// A descriptor of the operating system.
    Os(OwnedFd),
    /// One of a disk in memory.
    Memory(memory::Handle),
}

impl From<OwnedFd> for Handle {
    fn from(fd: OwnedFd) -> Self {
        Self::Os(fd)
    }
}
