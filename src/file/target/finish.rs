//! Entries come to their ends: names are given, links that waited are made, full directories get their metadata.

use super::directories::Filling;
use super::examine::dir_failure;
use super::ledger::{Ledger, failed};
use super::tree::{Incoming, Settled, Stage, Tree};
use crate::file::disk::write;
use crate::file::failure::Failure;
use crate::file::part::Part;
use crate::file::path::RelPath;
use crate::file::publish::Verdict;
use crate::wire::message::{Code, Mtime, Outcome};

impl Tree {
    /// No entries follow: the last directories are left.
    pub(super) fn on_listed(&mut self, ledger: &mut Ledger) {
        for full in self.directories.leave_all() {
            self.finish_directory(ledger, full);
        }
        self.report(ledger);
    }

    /// Nothing more is at hand: everything that waits for its name or for a sync gets it.
    pub(super) fn on_idle(&mut self, ledger: &mut Ledger) {
        self.publish(ledger);
        if !self.publisher.is_idle() {
            self.publisher.commit();
        }
        self.report(ledger);
    }

    /// Gives names to everything that is proven.
    pub(super) fn publish(&mut self, ledger: &mut Ledger) {
        for (file, result) in self.publisher.publish() {
            let outcome = result.map_or_else(failed, |()| Outcome::Done);
            self.settle_open(ledger, file, outcome, None);
        }
        self.report(ledger);
    }

    /// A file or a waiting hard link has its outcome. `digest` is that of an existing file, where it was compared.
    pub(super) fn settle_open(
        &mut self,
        ledger: &mut Ledger,
        number: u64,
        outcome: Outcome,
        digest: Option<[u8; 32]>,
    ) {
        let Some(settled) = self.close(number, outcome, digest) else {
            return;
        };
        self.settle(ledger, settled);
    }

    /// An entry has its outcome; so may what waited for it: hard links, and the directories around.
    pub(super) fn settle(&mut self, ledger: &mut Ledger, settled: Settled) {
        let mut queue = vec![settled];
        while let Some(Settled { number, path, parent, linked, size_bytes, digest, outcome }) = queue.pop() {
            if linked {
                let (state, waiting) = self.linked.settle(number, &path, &outcome);
                for link in waiting {
                    // One that failed meanwhile does not wait any more.
                    if let Some(incoming) = self.open.get(&link) {
                        let (path, mtime) = (incoming.path.clone(), incoming.mtime);
                        let outcome = self.make_hardlink(&state, &path, mtime).unwrap_or_else(failed);
                        queue.extend(self.close(link, outcome, None));
                    }
                }
            }
            let verdict =
                Verdict { file: number, path: path.as_bytes().to_vec(), size_bytes, digest, outcome };
            self.conclude(ledger, &path, verdict);
            if let Some(parent) = parent
                && self.directories.child_done(parent)
            {
                queue.push(self.finish(parent));
            }
        }
        self.report(ledger);
    }

    /// A directory is full: it gets its metadata, and its outcome.
    pub(super) fn finish_directory(&mut self, ledger: &mut Ledger, number: u64) {
        let settled = self.finish(number);
        self.settle(ledger, settled);
    }

    /// Takes a file or a waiting link out of those without an outcome. Its part, if it has no name, is removed.
    fn close(&mut self, number: u64, outcome: Outcome, digest: Option<[u8; 32]>) -> Option<Settled> {
        let Incoming { path, parent, linked, owed_bytes, stage, .. } = *self.open.remove(&number)?;
        self.promised_bytes -= u128::from(owed_bytes);
        let stage = match (stage, &outcome) {
            // What it takes is what the others lack.
            (Stage::Wanted(Some(mut receiving)), Outcome::Failed { code: Code::NoSpace, .. }) => {
                receiving.part.take().into_iter().for_each(Part::discard);
                Stage::Wanted(None)
            }
            (stage, _) => stage,
        };
        let (size_bytes, digest) = match stage {
            Stage::Publishing { size_bytes, digest } => (size_bytes, Some(digest)),
            Stage::Comparing(_) | Stage::Wanted(_) | Stage::Repairing(_) | Stage::Waiting => (0, digest),
        };
        Some(Settled { number, path, parent, linked, size_bytes, digest, outcome })
    }

    /// Removes a full directory from those that are being filled.
    fn finish(&mut self, number: u64) -> Settled {
        let (Filling { path, mode, mtime, parent, mut outcome }, is_latest) = self.directories.remove(number);
        if is_latest && !self.rules.dry_run {
            let result = self.set_directory_metadata(&path, mode, mtime);
            outcome = match (outcome, result) {
                (Outcome::Done | Outcome::Unchanged, Err(failure)) => failed(failure),
                (Outcome::Unchanged, Ok(had_time)) if !had_time => Outcome::Done,
                (outcome, _) => outcome,
            };
        }
        Settled { number, path, parent, linked: false, size_bytes: 0, digest: None, outcome }
    }

    /// Gives a directory what it does not have yet. Whether it had its time.
    fn set_directory_metadata(
        &mut self,
        path: &RelPath,
        mode: u32,
        mtime: Option<Mtime>,
    ) -> Result<bool, Failure> {
        let cannot = |errno| Failure::of(errno, "set its mode and time", path.as_bytes());
        let dir = self.dirs.open(Some(path.as_bytes()), false).map_err(|error| dir_failure(&error))?;
        let stat = write::stat_of(dir.handle()).map_err(cannot)?;
        let has_mode = stat.mode == mode;
        let has_time = mtime.is_none_or(|mtime| stat.mtime == mtime);
        if !has_mode {
            write::set_mode(dir.handle(), mode).map_err(cannot)?;
        }
        if let Some(mtime) = mtime.filter(|_| !has_time) {
            write::set_mtime(dir.handle(), mtime).map_err(cannot)?;
        }
        self.publisher.touch(dir);
        Ok(has_time)
    }

    /// Lets the outcome be told: at once, or after the sync of what it says is there.
    fn conclude(&mut self, ledger: &mut Ledger, path: &RelPath, mut verdict: Verdict) {
        let is_there = matches!(verdict.outcome, Outcome::Done | Outcome::Unchanged | Outcome::Identical);
        if is_there
            && !self.rules.dry_run
            && let Err(failure) = self.sync_names(path)
        {
            verdict.outcome = failed(failure);
        }
        if is_there {
            self.publisher.hold(verdict);
        } else {
            ledger.tell(verdict);
        }
    }

    /// Has the names on the way to `path` synced, also those from before: who gave them may not have done so, or may
    /// have failed to. protocol.md [OUTCOME-3]
    fn sync_names(&mut self, path: &RelPath) -> Result<(), Failure> {
        for parent in path.parents() {
            let dir = self.dirs.open(parent, false).map_err(|error| dir_failure(&error))?;
            self.publisher.touch(dir);
        }
        Ok(())
    }

    fn report(&mut self, ledger: &mut Ledger) {
        while let Some(verdict) = self.publisher.poll_report() {
            ledger.tell(verdict);
        }
    }
}

impl Drop for Tree {
    /// The session ends here, complete or not. What is proven gets its name, so that nobody has to send it again; what is
    /// not is kept or removed, as its part knows. Directories that were made writable only to be filled get the mode that
    /// they were announced with; their times stay those of the interruption.
    fn drop(&mut self) {
        // Best effort: there is nobody left to tell.
        drop(self.publisher.publish());
        self.open.clear();
        if !self.rules.dry_run {
            for directory in self.directories.take_all() {
                let _ = self.set_directory_metadata(&directory.path, directory.mode, None);
            }
        }
        self.publisher.commit();
    }
}
