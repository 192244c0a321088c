//! What lets another transfer go on with a part: its journal, and what of the part that does not claim yet.

use std::ops::Range;

use rustix::io::Result;

use super::disk::target_dirs::Dir;
use super::disk::{Handle, write};
use super::journal::{Identity, Journal};
use crate::limits;

/// Who keeps a part, of what, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Who sends it: nobody else goes on with it, or learns what there is of it.
    pub owner: [u8; 32],
    /// What it is to become.
    pub identity: Identity,
    /// Whether what is claimed is synced before.
    pub syncs: bool,
}

/// The journal of one part.
#[derive(Debug)]
pub struct Kept {
    journal: Journal,
    /// Written, and not claimed yet; neighbours that came one after the other are one.
    unclaimed: Vec<Range<u64>>,
    unclaimed_bytes: u64,
    /// Whether it claims anything.
    has_claims: bool,
    /// It could not be written to any more.
    is_broken: bool,
    syncs: bool,
}

impl Kept {
    /// Goes on with `journal`.
    pub fn new(journal: Journal, has_claims: bool, syncs: bool) -> Self {
        Self { journal, unclaimed: Vec::new(), unclaimed_bytes: 0, has_claims, is_broken: false, syncs }
    }

    /// A range of the part was written.
    pub fn on_written(&mut self, range: Range<u64>) {
        self.unclaimed_bytes += range.end - range.start;
        match self.unclaimed.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.unclaimed.push(range),
        }
    }

    /// Whether so much is unclaimed that it is time.
    pub fn is_due(&self) -> bool {
        self.unclaimed_bytes >= limits::CHECKPOINT_BYTES
    }

    /// Claims what was written to `part`, which stands in `dir`, once it is on the disk. An error is one of the part; a
    /// journal that fails only claims no more.
    pub fn checkpoint(&mut self, part: &Handle, dir: &Dir) -> Result<()> {
        if self.unclaimed.is_empty() || self.is_broken {
            return Ok(());
        }
        // The order is the promise: what is claimed is on the disk.
        if self.syncs {
            write::sync_data(part)?;
        }
        self.unclaimed_bytes = 0;
        let ranges = std::mem::take(&mut self.unclaimed);
        let claimed = self.journal.claim(&ranges);
        let claimed = if self.syncs { claimed.and_then(|()| self.journal.sync(dir)) } else { claimed };
        match claimed {
            Ok(()) => self.has_claims = true,
            Err(error) => {
                tracing::warn!(%error, "cannot note what has arrived: an interrupted transfer would begin anew");
                self.is_broken = true;
            }
        }
        Ok(())
    }

    /// Takes claims back.
    pub fn forget(&mut self, ranges: &[Range<u64>]) -> Result<()> {
        self.journal.forget(ranges)
    }

    /// Whether what is claimed is synced before.
    pub fn syncs(&self) -> bool {
        self.syncs
    }

    /// Whether it is worth to be found again.
    pub fn has_claims(&self) -> bool {
        self.has_claims
    }

    /// Removes the journal from `dir`.
    pub fn remove(self, dir: &Dir) {
        // One that stays says nothing false: its part is gone.
        let _ = self.journal.remove(dir);
    }
}
