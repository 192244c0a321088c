//! Goes on with what another session has left of a file, and works off what the digest is behind with.
//!
//! What is kept is wanted no more, and its bytes are read back for the digest while nothing else is at hand: content is
//! never kept waiting by the proof of what was there before.

use std::sync::Arc;

use super::examine::dir_failure;
use super::ledger::Ledger;
use super::receive::Receiving;
use super::repair::spans;
use super::tree::{Incoming, Stage, Tree};
use crate::file::disk::target_dirs::Dir;
use crate::file::disk::temp_name::TempNames;
use crate::file::failure::Failure;
use crate::file::journal::{Identity, JournalError};
use crate::file::kept::Keep;
use crate::file::part::Part;
use crate::file::path::RelPath;
use crate::limits;
use crate::wire::message::{Code, Want};

impl Tree {
    /// What was interrupted may be gone on with, if it came of this owner.
    pub(super) fn set_resumable(&mut self, owner: Option<[u8; 32]>) {
        self.resume = owner.filter(|_| !self.rules.dry_run);
    }

    /// How a file is kept for another session, if it is worth that.
    pub(super) fn keep(&self, incoming: &Incoming) -> Option<Keep> {
        let size = incoming.size.filter(|&size| size >= limits::RESUME_MIN_BYTES)?;
        let identity = Identity { size, mtime: incoming.mtime };
        Some(Keep { owner: self.resume?, identity, syncs: self.rules.syncs })
    }

    /// Asks for the content of a file: all of it, or what another session has not left here.
    pub(super) fn ask_content(&mut self, ledger: &mut Ledger, file: u64) -> Result<(), Failure> {
        // protocol.md [WANT-3], [RESUME-1]: the sender sends all of it without being asked.
        if self.rules.eager {
            return Ok(());
        }
        let incoming = &self.open[&file];
        let keep = self.keep(incoming).filter(|_| kept_count(&self.kept) < RESUMED_MAX);
        let path = incoming.path.clone();
        let left = keep.map_or(Ok(None), |keep| self.left_of(&path, &keep))?;
        let Some(receiving) = left else {
            ledger.want(file, Want::Content);
            return Ok(());
        };
        let kept = spans(receiving.placement.ranges());
        let incoming = self.open.get_mut(&file).expect("it was there above");
        tracing::info!(file, bytes = receiving.placement.placed_bytes(), "goes on with what is there");
        incoming.stage = Stage::Wanted(Some(Box::new(receiving)));
        ledger.resume(file, kept);
        self.note_lag(file);
        Ok(())
    }

    /// What another session has left of a file.
    fn left_of(&mut self, path: &RelPath, keep: &Keep) -> Result<Option<Receiving>, Failure> {
        let (parent, name) = path.split_last();
        let dir = match self.dirs.open(parent, false) {
            Ok(dir) => dir,
            Err(error) if error.errno == rustix::io::Errno::NOENT => return Ok(None),
            Err(error) => return Err(dir_failure(&error)),
        };
        let failed = |error| keep_failure(error, path);
        let (mut part, placement) = match Part::go_on(dir, name, keep) {
            Ok(Some(left)) => left,
            Ok(None) | Err(JournalError::Foreign) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if placement.placed_bytes() == 0 {
            return Ok(None);
        }
        let part_len = part.size().map_err(|errno| failed(JournalError::System(errno)))?;
        part.park();
        part.count_among(&self.kept);
        let receiving = Receiving::new(placement, self.rules.digest);
        Ok(Some(Receiving { part: Some(part), part_len, has_old_bytes: true, ..receiving }))
    }

    /// A file is there as it is wanted, or is not to be: what another session has left of it is of no use.
    pub(super) fn remove_left(&mut self, path: &RelPath, size: Option<u64>) {
        let is_large = size.is_some_and(|size| size >= limits::RESUME_MIN_BYTES);
        let (parent, name) = path.split_last();
        if let Some(owner) = self.resume.filter(|_| is_large)
            && let Ok(dir) = self.dirs.open(parent, false)
        {
            Part::remove_left(&dir, name, &owner);
        }
    }

    /// What a file will take of the free space, bytes: its size, less what is allocated for what another session has left.
    pub(super) fn lacking(&self, dir: Option<&Dir>, path: &RelPath, size: Option<u64>) -> u64 {
        let is_large = size.is_some_and(|size| size >= limits::RESUME_MIN_BYTES);
        let there = match (dir, self.resume.filter(|_| is_large)) {
            (Some(dir), Some(owner)) => Part::allocated(dir, path.split_last().1, &owner),
            _ => 0,
        };
        size.unwrap_or(0).saturating_sub(there)
    }

    /// Goes on with one file of which the digest or the comparison is behind.
    pub(super) fn work(&mut self, ledger: &mut Ledger) {
        let Some(file) = self.lagging.pop_front() else { return };
        match self.open.get_mut(&file).map(|incoming| &mut incoming.stage) {
            // One that still had its turn when the proof failed has no sums yet.
            Some(Stage::Repairing(repair)) if repair.has_sums() => {
                let has_more = self.compare_blocks(ledger, file);
                self.lagging.extend(has_more.then_some(file));
            }
            Some(Stage::Wanted(Some(receiving))) => {
                receiving.is_lagging = false;
                if let Err(failure) = self.catch_up(file, WORK_BYTES) {
                    self.settle_open(ledger, file, super::ledger::failed(failure), None);
                } else {
                    self.complete_if_proven(ledger, file);
                }
            }
            _ => {}
        }
    }

    /// Whether [`Self::work`] has something to do.
    pub(super) fn has_work(&self) -> bool {
        !self.lagging.is_empty()
    }

    /// Brings to the disk what has arrived of files that may be gone on with.
    pub(super) fn checkpoint(&mut self, ledger: &mut Ledger) {
        let mut files: Vec<u64> = std::mem::take(&mut self.unclaimed).into_iter().collect();
        files.sort_unstable();
        for file in files {
            if let Err(failure) = self.checkpoint_of(file) {
                self.settle_open(ledger, file, super::ledger::failed(failure), None);
            }
        }
    }

    pub(super) fn checkpoint_of(&mut self, file: u64) -> Result<(), Failure> {
        self.unclaimed.remove(&file);
        let Some(incoming) = self.open.get_mut(&file) else { return Ok(()) };
        let Stage::Wanted(Some(receiving)) = &mut incoming.stage else { return Ok(()) };
        let Some(part) = &mut receiving.part else { return Ok(()) };
        let was_parked = part.is_parked();
        let result = part.checkpoint();
        if was_parked {
            part.park();
        }
        result.map_err(|errno| Failure::of(errno, "bring it safely to the disk", incoming.path.as_bytes()))
    }
}

/// A part of `path` in `dir`: one that another session may go on with, if it is to be kept, nothing of somebody else
/// stands where it has to be, and the session does not keep too many already, each with a share of `kept`.
pub(super) fn new_part(
    dir: Arc<Dir>,
    path: &RelPath,
    size: Option<u64>,
    keep: Option<Keep>,
    kept: &Arc<()>,
    names: &mut TempNames,
) -> Result<Part, Failure> {
    let name = path.split_last().1;
    match keep {
        Some(keep) if kept_count(kept) < KEPT_MAX => match Part::keep(Arc::clone(&dir), name, &keep) {
            Err(JournalError::Foreign) => {}
            result => {
                let mut part = result.map_err(|error| keep_failure(error, path))?;
                part.count_among(kept);
                return Ok(part);
            }
        },
        // What was left of it takes room that was counted as its own.
        Some(keep) => Part::remove_left(&dir, name, &keep.owner),
        None => {}
    }
    let failed = |errno| Failure::of(errno, "create it", path.as_bytes());
    let mut part = Part::create(dir, names).map_err(failed)?;
    // It may take long until all of it is there: standard input may rest for days.
    if size.is_none_or(|size| size >= limits::RESUME_MIN_BYTES) {
        part.lock();
    }
    Ok(part)
}

fn keep_failure(error: JournalError, path: &RelPath) -> Failure {
    match error {
        JournalError::Locked => {
            Failure::new(Code::Busy, path.as_bytes(), "another transfer is writing it; try again later")
        }
        JournalError::System(errno) => Failure::of(errno, "create it", path.as_bytes()),
        JournalError::Foreign => unreachable!("both callers do without what is not theirs"),
    }
}

/// Read back and hashed before anything else gets its turn, bytes.
const WORK_BYTES: u64 = 4 << 20;
/// How many files have a share of `kept` besides the session.
fn kept_count(kept: &Arc<()>) -> usize {
    Arc::strong_count(kept) - 1
}

/// Files that are kept for another session at the same time, each with its journal open; any further one begins anew after
/// a cut. Well above the number that orderly peers send at once.
pub(super) const KEPT_MAX: usize = 128;
/// What another session has left is gone on with while no more than these are kept: the others are for new files.
const RESUMED_MAX: usize = KEPT_MAX / 2;
const _: () = assert!(KEPT_MAX - RESUMED_MAX >= 2 * limits::STREAMS_MAX);
