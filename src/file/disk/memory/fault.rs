//! What goes wrong on a disk, and when.

use std::collections::BTreeMap;

use rustix::io::{Errno, Result};

/// The kinds of calls on a disk, as [`write`](crate::file::disk::write) makes them: one of its functions may be
/// several calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named after its function")]
pub enum Call {
    OpenDir,
    OpenFile,
    Create,
    Symlink,
    Link,
    MakeDir,
    Write,
    Read,
    SetLen,
    Reserve,
    SetMode,
    SetMtime,
    RenameNew,
    RenameOver,
    Unlink,
    Stat,
    ReadLink,
    List,
    TryLock,
    StartWriteback,
    SyncFile,
    SyncDirectory,
    SyncData,
    SyncFileSystem,
    DropCache,
    FreeBytes,
}

/// What happens to a call instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing. A sync that fails loses what it was to write for good: no later sync writes it.
    Error(Errno),
    /// A write or read does half of what it was asked for; any other call is carried out.
    Short,
    /// The power goes before it. Nothing works from there on, and nothing changes.
    PowerLoss,
}

/// A disk that claims to have synced: what the tests of crash safety have to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// The sync of a file does nothing.
    Files,
    /// The sync of a directory does nothing.
    Directories,
    /// The sync of the file system does nothing.
    FileSystem,
    /// The sync of a file is carried out just before the next sync of a directory: as if somebody had given the file
    /// its name and only then synced it.
    FilesLate,
}

/// What is to go wrong, and what was called so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// By number of the call, from 0.
    once: BTreeMap<usize, Fault>,
    /// By kind, as long as it stands.
    always: BTreeMap<Call, Fault>,
    pub(super) lie: Option<Lie>,
    /// All calls, in order.
    log: Vec<Call>,
    /// The power is gone, or the process is.
    is_over: bool,
}

/// A call that is let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    Half,
}

impl Plan {
    pub(super) fn fail_at(&mut self, number: usize, fault: Fault) {
        self.once.insert(number, fault);
    }

    pub(super) fn fail_all(&mut self, call: Call, fault: Fault) {
        self.always.insert(call, fault);
    }

    pub(super) fn heal(&mut self) {
        self.once.clear();
        self.always.clear();
    }

    pub(super) fn log(&self) -> &[Call] {
        &self.log
    }

    /// Nothing works any more.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes note of a call and decides whether it is carried out.
    pub(super) fn admit(&mut self, call: Call) -> Result<Extent> {
        if self.is_over {
            return Err(Errno::IO);
        }
        let number = self.log.len();
        self.log.push(call);
        match self.once.get(&number).or_else(|| self.always.get(&call)) {
            None => Ok(Extent::Whole),
            Some(Fault::Short) => Ok(Extent::Half),
            Some(Fault::Error(errno)) => Err(*errno),
            Some(Fault::PowerLoss) => {
                self.is_over = true;
                Err(Errno::IO)
            }
        }
    }
}

impl Extent {
    /// How many of so many bytes: at least one, unless there are none.
    pub(super) fn of(self, len: usize) -> usize {
        match self {
            Self::Whole => len,
            Self::Half => len.div_ceil(2),
        }
    }
}
