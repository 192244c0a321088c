//! One file, directory or symbolic link, whatever names it has.

use rustix::io::{Errno, Result};

use super::content::{Content, PAGE_BYTES};
use super::names::Names;
use super::power::PowerLoss;
use crate::file::disk::stat::{FileKind, Stat};
use crate::wire::message::Mtime;

/// Something on the disk.
#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) body: Body,
    attributes: Attributes,
    /// As the last sync made them safe.
    safe: Attributes,
    /// Names that it has.
    pub(super) nlink: u64,
    /// Handles that are open.
    pub(super) handles: u64,
    /// The number of the handle that has its lock.
    pub(super) lock: Option<u64>,
}

/// What it consists of.
#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Content),
    Directory(Names),
    /// Points there, from its making on.
    Symlink(Vec<u8>),
}

/// What can be set besides the bytes.
#[derive(Clone, Copy, Debug)]
struct Attributes {
    mode: u32,
    mtime: Mtime,
}

impl Inode {
    /// Nobody has a name for it.
    pub(super) fn new(body: Body, mode: u32, moment: u64) -> Self {
        let attributes = Attributes { mode: mode & MODE_BITS, mtime: at(moment) };
        Self { body, attributes, safe: attributes, nlink: 0, handles: 0, lock: None }
    }

    pub(super) fn file(&self) -> Result<&Content> {
        match &self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(Errno::ISDIR),
            Body::Symlink(_) => Err(Errno::BADF),
        }
    }

    pub(super) fn file_mut(&mut self) -> Result<&mut Content> {
        match &mut self.body {
            Body::File(content) => Ok(content),
            Body::Directory(_) => Err(Errno::ISDIR),
            Body::Symlink(_) => Err(Errno::BADF),
        }
    }

    pub(super) fn names(&self) -> Result<&Names> {
        match &self.body {
            Body::Directory(names) => Ok(names),
            Body::File(_) | Body::Symlink(_) => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn names_mut(&mut self) -> Result<&mut Names> {
        match &mut self.body {
            Body::Directory(names) => Ok(names),
            Body::File(_) | Body::Symlink(_) => Err(Errno::NOTDIR),
        }
    }

    pub(super) fn kind(&self) -> FileKind {
        match self.body {
            Body::File(_) => FileKind::File,
            Body::Directory(_) => FileKind::Directory,
            Body::Symlink(_) => FileKind::Symlink,
        }
    }

    /// What `stat` says of the inode with this number.
    pub(super) fn stat(&self, inode: u64) -> Stat {
        let size = match &self.body {
            Body::File(content) => content.size(),
            Body::Directory(_) => 0,
            Body::Symlink(target) => target.len() as u64,
        };
        Stat {
            identity: (DEVICE, inode),
            kind: self.kind(),
            mode: self.attributes.mode,
            uid: rustix::process::geteuid().as_raw(),
            nlink: self.nlink,
            size,
            blocks_bytes: self.pages() * PAGE_BYTES as u64,
            mtime: self.attributes.mtime,
            ctime_secs: 0,
        }
    }

    /// Pages that its bytes take.
    pub(super) fn pages(&self) -> u64 {
        match &self.body {
            Body::File(content) => content.pages(),
            Body::Directory(_) | Body::Symlink(_) => 0,
        }
    }

    /// Whether somebody can still reach it.
    pub(super) fn is_in_use(&self) -> bool {
        self.nlink > 0 || self.handles > 0
    }

    pub(super) fn set_mode(&mut self, mode: u32) {
        self.attributes.mode = mode & MODE_BITS;
    }

    pub(super) fn set_mtime(&mut self, mtime: Mtime) {
        self.attributes.mtime = mtime;
    }

    /// Its content changed at this moment.
    pub(super) fn touch(&mut self, moment: u64) {
        self.attributes.mtime = at(moment);
    }

    /// Makes its bytes or names safe, and its attributes.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.sync_data()?;
        self.safe = self.attributes;
        Ok(())
    }

    /// Makes its bytes or names safe.
    pub(super) fn sync_data(&mut self) -> Result<()> {
        match &mut self.body {
            Body::File(content) => content.sync(),
            Body::Directory(names) => {
                names.sync();
                Ok(())
            }
            Body::Symlink(_) => Ok(()),
        }
    }

    /// As [`Content::has_failed`].
    pub(super) fn has_failed(&self) -> bool {
        matches!(&self.body, Body::File(content) if content.has_failed())
    }

    /// A sync failed; `told` says whether it was one of this file.
    pub(super) fn fail_sync(&mut self, told: bool) {
        if let Body::File(content) = &mut self.body {
            content.fail_sync(told);
        }
    }

    /// What a power loss leaves; its names are to be counted anew.
    pub(super) fn after_power_loss(&self, loss: &mut PowerLoss) -> Self {
        let body = match &self.body {
            Body::File(content) => Body::File(content.after_power_loss(loss.content, &mut loss.chance)),
            Body::Directory(names) => Body::Directory(names.after_power_loss(loss.names, &mut loss.chance)),
            Body::Symlink(target) => Body::Symlink(target.clone()),
        };
        let attributes = if loss.keeps_attributes() { self.attributes } else { self.safe };
        Self { body, attributes, safe: attributes, nlink: 0, handles: 0, lock: None }
    }

    /// What the end of all processes leaves.
    pub(super) fn without_handles(&self) -> Self {
        Self { handles: 0, lock: None, ..self.clone() }
    }
}

/// The modification time of what happens at this moment. There is no clock here.
fn at(moment: u64) -> Mtime {
    Mtime { secs: i64::try_from(moment).unwrap_or(i64::MAX), nanos: 0 }
}

const MODE_BITS: u32 = 0o7777;
/// The number of the file system. Every disk in memory has the same.
const DEVICE: u64 = 1;
