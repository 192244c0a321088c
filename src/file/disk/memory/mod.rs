//! A disk in memory, for tests: what POSIX promises of a disk and no more, power loss and faults included.
//!
//! ```text
//! Memory ──root──> Handle ──call──> fault: let through?  ──> volume: inodes, names, room
//!    │                                                         ├─ content  bytes: now, safe, and in between
//!    └─ crash, kill ──> another Memory                         └─ names    likewise
//!         └─ power: which of the changes since the last sync are left
//! ```
//!
//! Bytes are safe after the sync of their file, names after the sync of their directory, and everything after that of
//! the file system. A symbolic link is safe with its name; no call makes its time safe but the sync of the file system.
//! Equal calls give equal disks: there is no clock, and chance comes from seeds.
//!
//! Left out, since nobody here asks for it: permissions (see [`Fault`] for refusals), special files, access times,
//! removing and renaming directories.

mod content;
mod fault;
mod handle;
mod inode;
mod names;
mod power;
#[cfg(test)]
mod tests;
mod volume;

use std::sync::{Arc, Mutex};

use rustix::io::Result;

use self::fault::Plan;
pub use self::fault::{Call, Fault, Lie};
pub use self::handle::Handle;
use self::handle::lock;
use self::volume::{ROOT, Volume};

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct Memory {
    disk: Arc<Mutex<Disk>>,
}

/// What the handles of one disk share.
#[derive(Debug)]
struct Disk {
    volume: Volume,
    plan: Plan,
    /// Handles opened so far.
    handles: u64,
    /// Files whose sync was put off ([`Lie::FilesLate`]).
    late: Vec<u64>,
}

impl Memory {
    /// An empty disk with room for so many bytes of content.
    pub fn new(capacity_bytes: u64) -> Self {
        Self::over(Volume::new(capacity_bytes))
    }

    /// The root directory.
    pub fn root(&self) -> super::Handle {
        super::Handle::Memory(Handle::new(Arc::clone(&self.disk), ROOT, false))
    }

    /// The power goes, and comes back: the disk as it may be then. Equal seeds draw equally, and five that follow each
    /// other are of different kinds. All handles of this disk are dead from here on.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut disk = lock(&self.disk);
        disk.plan.end();
        Self::over(disk.volume.after_power_loss(seed))
    }

    /// The process ends and the disk goes on: everything is there, nothing is locked. All handles of this disk are dead
    /// from here on.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut disk = lock(&self.disk);
        disk.plan.end();
        Self::over(disk.volume.without_handles())
    }

    /// The call with this number, counted from 0, meets this fault.
    pub fn fail_at(&self, number: usize, fault: Fault) {
        lock(&self.disk).plan.fail_at(number, fault);
    }

    /// All calls of one kind meet this fault from here on.
    pub fn fail_all(&self, call: Call, fault: Fault) {
        lock(&self.disk).plan.fail_all(call, fault);
    }

    /// No call meets a fault any more.
    pub fn heal(&self) {
        lock(&self.disk).plan.heal();
    }

    /// The disk deceives from here on.
    pub fn deceive(&self, lie: Lie) {
        lock(&self.disk).plan.lie = Some(lie);
    }

    /// The calls so far, in order. The number of the next one is their count.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.disk).plan.log().to_vec()
    }

    fn over(volume: Volume) -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk { volume, plan: Plan::default(), handles: 0, late: Vec::new() })),
        }
    }
}

impl Disk {
    fn carry_out<T>(&mut self, act: impl FnOnce(&mut Volume) -> Result<T>) -> Result<T> {
        self.volume.tick();
        act(&mut self.volume)
    }
}
