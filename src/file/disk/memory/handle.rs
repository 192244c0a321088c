//! The calls on a disk in memory: each is noted, may be made to fail, and is carried out under the lock of the disk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::{Errno, Result};

use super::Disk;
use super::fault::{Call, Lie};
use super::inode::Body;
use super::volume::Volume;
use crate::file::disk::stat::{FileKind, Stat};
use crate::wire::message::Mtime;

/// An open file or directory of a disk in memory.
#[derive(Debug)]
pub struct Handle {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    /// Tells the handles of one disk apart.
    number: u64,
    may_write: bool,
}

impl Handle {
    /// Opens an inode.
    pub(super) fn new(disk: Arc<Mutex<Disk>>, inode: u64, may_write: bool) -> Self {
        let mut locked = lock(&disk);
        locked.handles += 1;
        let number = locked.handles;
        locked.volume.inode_mut(inode).handles += 1;
        drop(locked);
        Self { disk, inode, number, may_write }
    }

    pub(in crate::file::disk) fn open_dir(&self, name: &[u8]) -> Result<Self> {
        let inode = self.call(Call::OpenDir, |volume| {
            let inode = volume.find(self.inode, name)?;
            volume.inode(inode).names().map(|_| inode)
        })?;
        Ok(self.open(inode, false))
    }

    pub(in crate::file::disk) fn open_file(&self, name: &[u8]) -> Result<Self> {
        let inode = self.call(Call::OpenFile, |volume| self.find_file(volume, name))?;
        Ok(self.open(inode, false))
    }

    pub(in crate::file::disk) fn open_to_write(&self, name: &[u8]) -> Result<Self> {
        let inode = self.call(Call::OpenFile, |volume| {
            let inode = self.find_file(volume, name)?;
            volume.inode(inode).file().map(|_| inode)
        })?;
        Ok(self.open(inode, true))
    }

    pub(in crate::file::disk) fn open_or_create(&self, name: &[u8]) -> Result<Self> {
        let inode = self.call(Call::Create, |volume| match self.find_file(volume, name) {
            Ok(inode) => volume.inode(inode).file().map(|_| inode),
            Err(Errno::NOENT) => volume.create(self.inode, name, 0o600),
            Err(errno) => Err(errno),
        })?;
        Ok(self.open(inode, true))
    }

    pub(in crate::file::disk) fn create_new(&self, name: &[u8]) -> Result<Self> {
        let inode = self.call(Call::Create, |volume| volume.create(self.inode, name, 0o600))?;
        Ok(self.open(inode, true))
    }

    pub(in crate::file::disk) fn symlink(&self, target: &[u8], name: &[u8]) -> Result<()> {
        self.call(Call::Symlink, |volume| volume.symlink(self.inode, target, name))
    }

    pub(in crate::file::disk) fn link(&self, name: &[u8], dir: &Self, other: &[u8]) -> Result<()> {
        if !Arc::ptr_eq(&self.disk, &dir.disk) {
            return Err(Errno::XDEV);
        }
        self.call(Call::Link, |volume| volume.link(self.inode, name, dir.inode, other))
    }

    pub(in crate::file::disk) fn make_dir(&self, name: &[u8], mode: u32) -> Result<()> {
        self.call(Call::MakeDir, |volume| volume.make_dir(self.inode, name, mode))
    }

    pub(in crate::file::disk) fn set_mode_of_dir(&self, name: &[u8], mode: u32) -> Result<()> {
        self.call(Call::SetMode, |volume| {
            let inode = volume.find(self.inode, name)?;
            volume.inode(inode).names()?;
            volume.inode_mut(inode).set_mode(mode);
            Ok(())
        })
    }

    pub(in crate::file::disk) fn set_mode_of_file(&self, name: &[u8], mode: u32) -> Result<()> {
        self.call(Call::SetMode, |volume| {
            let inode = volume.find(self.inode, name)?;
            volume.inode_mut(inode).set_mode(mode);
            Ok(())
        })
    }

    pub(in crate::file::disk) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<usize> {
        let mut disk = self.lock();
        let extent = disk.plan.admit(Call::Write)?;
        self.expect_writable()?;
        disk.carry_out(|volume| volume.write(self.inode, &bytes[..extent.of(bytes.len())], offset))
    }

    pub(in crate::file::disk) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut disk = self.lock();
        let extent = disk.plan.admit(Call::Read)?;
        let len = extent.of(buffer.len());
        disk.carry_out(|volume| Ok(volume.inode(self.inode).file()?.read(&mut buffer[..len], offset)))
    }

    pub(in crate::file::disk) fn set_len(&self, len: u64) -> Result<()> {
        self.call(Call::SetLen, |volume| {
            self.expect_writable()?;
            volume.set_len(self.inode, len)
        })
    }

    pub(in crate::file::disk) fn reserve(&self, len: u64) -> Result<()> {
        self.call(Call::Reserve, |volume| {
            self.expect_writable()?;
            volume.reserve(self.inode, len)
        })
    }

    pub(in crate::file::disk) fn set_mode(&self, mode: u32) -> Result<()> {
        self.call(Call::SetMode, |volume| {
            volume.inode_mut(self.inode).set_mode(mode);
            Ok(())
        })
    }

    pub(in crate::file::disk) fn set_mtime(&self, mtime: Mtime) -> Result<()> {
        self.call(Call::SetMtime, |volume| {
            volume.inode_mut(self.inode).set_mtime(mtime);
            Ok(())
        })
    }

    pub(in crate::file::disk) fn set_mtime_of(&self, name: &[u8], mtime: Mtime) -> Result<()> {
        self.call(Call::SetMtime, |volume| {
            let inode = volume.find(self.inode, name)?;
            volume.inode_mut(inode).set_mtime(mtime);
            Ok(())
        })
    }

    pub(in crate::file::disk) fn rename_new(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.call(Call::RenameNew, |volume| volume.rename_new(self.inode, from, to))
    }

    pub(in crate::file::disk) fn rename_over(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.call(Call::RenameOver, |volume| volume.rename_over(self.inode, from, to))
    }

    pub(in crate::file::disk) fn unlink(&self, name: &[u8]) -> Result<()> {
        self.call(Call::Unlink, |volume| volume.unlink(self.inode, name))
    }

    pub(in crate::file::disk) fn stat(&self, name: &[u8]) -> Result<Stat> {
        self.call(Call::Stat, |volume| {
            let inode = volume.find(self.inode, name)?;
            Ok(volume.inode(inode).stat(inode))
        })
    }

    pub(in crate::file::disk) fn stat_of(&self) -> Result<Stat> {
        self.call(Call::Stat, |volume| Ok(volume.inode(self.inode).stat(self.inode)))
    }

    pub(in crate::file::disk) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.call(Call::ReadLink, |volume| match &volume.inode(volume.find(self.inode, name)?).body {
            Body::Symlink(target) => Ok(target.clone()),
            Body::File(_) | Body::Directory(_) => Err(Errno::INVAL),
        })
    }

    pub(in crate::file::disk) fn try_lock(&self) -> Result<bool> {
        self.call(Call::TryLock, |volume| {
            Ok(*volume.inode_mut(self.inode).lock.get_or_insert(self.number) == self.number)
        })
    }

    pub(in crate::file::disk) fn start_writeback(&self) {
        // It promises nothing, so there is nothing to do and nobody to tell.
        let _ = self.call(Call::StartWriteback, |_| Ok(()));
    }

    pub(in crate::file::disk) fn sync(&self) -> Result<()> {
        let is_directory = self.lock().volume.inode(self.inode).kind() == FileKind::Directory;
        let call = if is_directory { Call::SyncDirectory } else { Call::SyncFile };
        self.sync_by(call, |volume| volume.inode_mut(self.inode).sync())
    }

    pub(in crate::file::disk) fn sync_data(&self) -> Result<()> {
        self.sync_by(Call::SyncData, |volume| volume.inode_mut(self.inode).sync_data())
    }

    pub(in crate::file::disk) fn sync_file_system(&self) -> Result<()> {
        let mut disk = self.lock();
        if let Err(errno) = disk.plan.admit(Call::SyncFileSystem) {
            if !disk.plan.is_over() {
                disk.volume.fail_sync_all();
            }
            return Err(errno);
        }
        match disk.plan.lie {
            Some(Lie::FileSystem) => Ok(()),
            _ => disk.carry_out(Volume::sync_all),
        }
    }

    pub(in crate::file::disk) fn drop_cache(&self) -> Result<()> {
        self.call(Call::DropCache, |_| Ok(()))
    }

    pub(in crate::file::disk) fn free_bytes(&self) -> Option<u64> {
        self.call(Call::FreeBytes, |volume| Ok(volume.free_bytes())).ok()
    }

    pub(in crate::file::disk) fn any_name(&self, look: &mut impl FnMut(&[u8], u64) -> bool) -> Result<bool> {
        let names = self.call(Call::List, |volume| volume.inode(self.inode).names().cloned())?;
        Ok(names.iter().any(|(name, inode)| look(name, inode)))
    }

    fn call<T>(&self, call: Call, act: impl FnOnce(&mut Volume) -> Result<T>) -> Result<T> {
        let mut disk = self.lock();
        disk.plan.admit(call)?;
        disk.carry_out(act)
    }

    fn sync_by(&self, call: Call, act: impl FnOnce(&mut Volume) -> Result<()>) -> Result<()> {
        let mut disk = self.lock();
        if let Err(errno) = disk.plan.admit(call) {
            if !disk.plan.is_over() {
                disk.volume.inode_mut(self.inode).fail_sync(true);
            }
            return Err(errno);
        }
        let is_directory = call == Call::SyncDirectory;
        match disk.plan.lie {
            Some(Lie::Files) if !is_directory => Ok(()),
            Some(Lie::Directories) if is_directory => Ok(()),
            Some(Lie::FilesLate) if !is_directory => {
                disk.late.push(self.inode);
                Ok(())
            }
            _ => {
                for file in std::mem::take(&mut disk.late) {
                    disk.volume.inode_mut(file).sync()?;
                }
                disk.carry_out(act)
            }
        }
    }

    /// A symbolic link is not followed.
    fn find_file(&self, volume: &Volume, name: &[u8]) -> Result<u64> {
        let inode = volume.find(self.inode, name)?;
        match volume.inode(inode).kind() {
            FileKind::Symlink => Err(Errno::LOOP),
            _ => Ok(inode),
        }
    }

    fn expect_writable(&self) -> Result<()> {
        if self.may_write { Ok(()) } else { Err(Errno::BADF) }
    }

    fn open(&self, inode: u64, may_write: bool) -> Self {
        Self::new(Arc::clone(&self.disk), inode, may_write)
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut disk = self.lock();
        let inode = disk.volume.inode_mut(self.inode);
        inode.handles -= 1;
        if inode.lock == Some(self.number) {
            inode.lock = None;
        }
    }
}

/// A panic under the lock is the end of a test, and its destructors still come here.
pub(super) fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}
