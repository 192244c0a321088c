//! Inodes and their names: what the calls on a disk in memory do once they are let through.

use std::collections::BTreeMap;

use rustix::io::{Errno, Result};

use super::content::{Content, PAGE_BYTES};
use super::inode::{Body, Inode};
use super::names::Names;
use super::power::PowerLoss;
use crate::limits;

/// Everything on one disk.
#[derive(Clone, Debug)]
pub(super) struct Volume {
    /// By number. One without a name stays, since a power loss may give its name back.
    inodes: BTreeMap<u64, Inode>,
    /// Numbers given so far.
    numbers: u64,
    capacity_pages: u64,
    /// Counts the calls: the time of this disk.
    moment: u64,
}

/// The number of the root directory.
pub(super) const ROOT: u64 = 1;

impl Volume {
    /// An empty directory, with room for so many bytes.
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let mut root = Inode::new(Body::Directory(Names::default()), 0o755, 0);
        root.nlink = 1;
        let inodes = BTreeMap::from([(ROOT, root)]);
        Self { inodes, numbers: ROOT, capacity_pages: capacity_bytes / PAGE_BYTES as u64, moment: 0 }
    }

    /// Time passes.
    pub(super) fn tick(&mut self) {
        self.moment += 1;
    }

    pub(super) fn inode(&self, number: u64) -> &Inode {
        self.inodes.get(&number).expect("inodes stay")
    }

    pub(super) fn inode_mut(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("inodes stay")
    }

    /// What `name` in `dir` is a name of.
    pub(super) fn find(&self, dir: u64, name: &[u8]) -> Result<u64> {
        check(name)?;
        self.inode(dir).names()?.get(name).ok_or(Errno::NOENT)
    }

    /// Makes an empty file.
    pub(super) fn create(&mut self, dir: u64, name: &[u8], mode: u32) -> Result<u64> {
        self.make(dir, name, Body::File(Content::default()), mode)
    }

    pub(super) fn make_dir(&mut self, dir: u64, name: &[u8], mode: u32) -> Result<()> {
        self.make(dir, name, Body::Directory(Names::default()), mode & !UMASK).map(drop)
    }

    pub(super) fn symlink(&mut self, dir: u64, target: &[u8], name: &[u8]) -> Result<()> {
        self.make(dir, name, Body::Symlink(target.to_vec()), 0o777).map(drop)
    }

    /// Gives what stands at `name` in `from` the name `other` in `dir` as well.
    pub(super) fn link(&mut self, from: u64, name: &[u8], dir: u64, other: &[u8]) -> Result<()> {
        let inode = self.find(from, name)?;
        if matches!(self.inode(inode).body, Body::Directory(_)) {
            return Err(Errno::PERM);
        }
        self.expect_free(dir, other)?;
        self.set_name(dir, other, Some(inode))
    }

    /// Gives `from` the name `to`, unless something has it.
    pub(super) fn rename_new(&mut self, dir: u64, from: &[u8], to: &[u8]) -> Result<()> {
        let inode = self.find_renamable(dir, from)?;
        self.expect_free(dir, to)?;
        self.set_name(dir, to, Some(inode))?;
        self.set_name(dir, from, None)
    }

    /// Gives `from` the name `to`, in place of what has it. Two names of one file both stay.
    pub(super) fn rename_over(&mut self, dir: u64, from: &[u8], to: &[u8]) -> Result<()> {
        let inode = self.find_renamable(dir, from)?;
        match self.find(dir, to) {
            Ok(there) if there == inode => return Ok(()),
            Ok(there) if matches!(self.inode(there).body, Body::Directory(_)) => return Err(Errno::ISDIR),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        self.set_name(dir, to, Some(inode))?;
        self.set_name(dir, from, None)
    }

    pub(super) fn unlink(&mut self, dir: u64, name: &[u8]) -> Result<()> {
        let inode = self.find(dir, name)?;
        if matches!(self.inode(inode).body, Body::Directory(_)) {
            return Err(Errno::ISDIR);
        }
        self.set_name(dir, name, None)
    }

    /// Writes as much as there is room for; how many bytes.
    pub(super) fn write(&mut self, inode: u64, bytes: &[u8], offset: u64) -> Result<usize> {
        let (free, moment) = (self.free_pages(), self.moment);
        let inode = self.inode_mut(inode);
        let written = inode.file_mut()?.write(bytes, offset, free);
        if written == 0 && !bytes.is_empty() {
            return Err(Errno::NOSPC);
        }
        inode.touch(moment);
        Ok(written)
    }

    pub(super) fn set_len(&mut self, inode: u64, len: u64) -> Result<()> {
        let moment = self.moment;
        let inode = self.inode_mut(inode);
        inode.file_mut()?.set_len(len);
        inode.touch(moment);
        Ok(())
    }

    pub(super) fn reserve(&mut self, inode: u64, len: u64) -> Result<()> {
        let free = self.free_pages();
        match self.inode_mut(inode).file_mut()?.reserve(len, free) {
            true => Ok(()),
            false => Err(Errno::NOSPC),
        }
    }

    /// Makes everything safe but what an earlier sync has lost: that one has told it, and from then on, as on Linux, only
    /// a sync of the file itself does.
    pub(super) fn sync_all(&mut self) -> Result<()> {
        self.inodes.values_mut().filter(|inode| !inode.has_failed()).try_for_each(Inode::sync)
    }

    /// To make everything safe failed.
    pub(super) fn fail_sync_all(&mut self) {
        self.inodes.values_mut().for_each(|inode| inode.fail_sync(false));
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.free_pages() * PAGE_BYTES as u64
    }

    /// What the power loss of this seed leaves.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut loss = PowerLoss::of(seed, self.moment);
        let left = self.inodes.iter().map(|(&number, inode)| (number, inode.after_power_loss(&mut loss)));
        let mut volume = Self { inodes: left.collect(), ..*self };
        volume.count_names();
        volume.inodes.retain(|_, inode| inode.nlink > 0);
        volume
    }

    /// What the end of all processes leaves.
    pub(super) fn without_handles(&self) -> Self {
        let left = self.inodes.iter().map(|(&number, inode)| (number, inode.without_handles()));
        Self { inodes: left.collect(), ..*self }
    }

    fn make(&mut self, dir: u64, name: &[u8], body: Body, mode: u32) -> Result<u64> {
        self.expect_free(dir, name)?;
        self.numbers += 1;
        let number = self.numbers;
        self.inodes.insert(number, Inode::new(body, mode, self.moment));
        self.set_name(dir, name, Some(number))?;
        Ok(number)
    }

    fn find_renamable(&self, dir: u64, name: &[u8]) -> Result<u64> {
        let inode = self.find(dir, name)?;
        // Nobody here renames directories, and a power loss could give one two names.
        let is_directory = matches!(self.inode(inode).body, Body::Directory(_));
        if is_directory { Err(Errno::PERM) } else { Ok(inode) }
    }

    fn expect_free(&self, dir: u64, name: &[u8]) -> Result<()> {
        match self.find(dir, name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn set_name(&mut self, dir: u64, name: &[u8], inode: Option<u64>) -> Result<()> {
        let moment = self.moment;
        let directory = self.inode_mut(dir);
        let names = directory.names_mut()?;
        let had = names.get(name);
        names.set(moment, name, inode);
        directory.touch(moment);
        if let Some(had) = had {
            self.inode_mut(had).nlink -= 1;
        }
        if let Some(inode) = inode {
            self.inode_mut(inode).nlink += 1;
        }
        Ok(())
    }

    fn free_pages(&self) -> u64 {
        let used = self.inodes.values().filter(|inode| inode.is_in_use()).map(Inode::pages).sum();
        self.capacity_pages.saturating_sub(used)
    }

    /// Counts the names that can be reached from the root.
    fn count_names(&mut self) {
        let mut found = vec![ROOT];
        while let Some(number) = found.pop() {
            self.inode_mut(number).nlink += 1;
            if let Ok(names) = self.inode(number).names() {
                found.extend(names.iter().map(|(_, inode)| inode));
            }
        }
    }
}

/// A name is one component: what has a slash must not come this far.
fn check(name: &[u8]) -> Result<()> {
    assert!(!name.is_empty() && !name.contains(&b'/') && !name.contains(&0));
    if name.len() > limits::NAME_MAX_BYTES { Err(Errno::NAMETOOLONG) } else { Ok(()) }
}

/// Of new directories; the usual one.
const UMASK: u32 = 0o022;
