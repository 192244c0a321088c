//! What lets another transfer go on with a part: its journal, and what of the part that does not claim yet.

use std::ops::Range;
use std::sync::Arc;

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
    /// Nothing is claimed any more: it could not be written, or the part could not be synced.
    is_broken: bool,
    syncs: bool,
    /// Counts it, where somebody does.
    counted: Option<Arc<()>>,
}

impl Kept {
    /// Goes on with `journal`.
    pub fn new(journal: Journal, has_claims: bool, syncs: bool) -> Self {
        Self {
            journal,
            unclaimed: Vec::new(),
            unclaimed_bytes: 0,
            has_claims,
            is_broken: false,
            syncs,
            counted: None,
        }
    }

    /// Has a share of `all` while its journal is open.
    pub fn count_among(&mut self, all: &Arc<()>) {
        self.counted = Some(Arc::clone(all));
    }

    /// A range of the part was written.
    pub fn on_written(&mut self, range: Range<u64>) {
        if self.is_broken {
            return;
        }
        self.unclaimed_bytes += range.end - range.start;
        match self.unclaimed.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.unclaimed.push(range),
        }
    }

    /// Whether so much is unclaimed that it is time.
    pub fn is_due(&self) -> bool {
        self.unclaimed_bytes >= limits::CHECKPOINT_BYTES || self.unclaimed.len() >= UNCLAIMED_MAX
    }

    /// Claims what was written to `part`, which stands in `dir`, once it is on the disk. An error is one of the part; a
    /// journal that fails only claims no more.
    pub fn checkpoint(&mut self, part: &Handle, dir: &Dir) -> Result<()> {
        if self.unclaimed.is_empty() || self.is_broken {
            return Ok(());
        }
        // The order is the promise: what is claimed is on the disk.
        if self.syncs
            && let Err(error) = write::sync_data(part)
        {
            self.give_up();
            return Err(error);
        }
        self.unclaimed_bytes = 0;
        let ranges = std::mem::take(&mut self.unclaimed);
        let claimed = self.journal.claim(&ranges);
        let claimed = if self.syncs { claimed.and_then(|()| self.journal.sync(dir)) } else { claimed };
        match claimed {
            Ok(()) => self.has_claims = true,
            Err(error) => {
                tracing::warn!(%error, "cannot note what has arrived: an interrupted transfer would begin anew");
                self.end_claims();
            }
        }
        Ok(())
    }

    /// A sync of the part has failed: what it was to bring to the disk may be lost, and the next sync would not say so.
    /// Nobody may go on with it.
    pub fn give_up(&mut self) {
        self.end_claims();
        self.has_claims = false;
    }

    fn end_claims(&mut self) {
        self.is_broken = true;
        self.unclaimed = Vec::new();
        self.unclaimed_bytes = 0;
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

/// Ranges that are remembered until they are claimed: what arrives in order, or in chunks, is far fewer.
const UNCLAIMED_MAX: usize = 4096;

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "what is kept may be a single range of bytes")]
mod tests {
    use std::sync::Arc;

    use crate::file::disk::memory::{Call, Fault, Lie, Memory};
    use crate::file::disk::target_dirs::{Dir, TargetDirs};
    use crate::file::journal::{Identity, JournalError};
    use crate::file::kept::{Keep, UNCLAIMED_MAX};
    use crate::file::part::{Part, Replace};
    use crate::wire::message::Mtime;
    use rustix::io::Errno;

    const SIZE: u64 = 40_000;

    #[test]
    fn what_was_brought_to_the_disk_is_there_for_the_next_session() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 0, 10_000);
        part.checkpoint().unwrap();
        write(&mut part, 20_000, 5_000);
        part.checkpoint().unwrap();
        write(&mut part, 30_000, 10);
        let memory = memory.kill();
        drop(part);

        let (mut part, placed) = Part::go_on(root(&memory), b"f", &keep(1)).unwrap().unwrap();

        assert_eq!(placed.ranges(), [0..10_000, 20_000..25_000]);
        assert!(is_right(&mut part, placed.ranges()));
    }

    #[test]
    fn a_session_that_ends_in_order_leaves_all_that_came() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 7, 100);
        drop(part);

        let (_, placed) = Part::go_on(root(&memory), b"f", &keep(1)).unwrap().unwrap();

        assert_eq!(placed.ranges(), [7..107]);
    }

    #[test]
    fn a_part_of_which_nothing_came_or_that_got_its_name_or_is_wrong_leaves_nothing() {
        type End = fn(Part);
        let ends: [(End, usize); 4] = [
            (drop, 0),
            (|part| part.publish(b"f", Replace::Nothing).unwrap(), 1),
            (Part::discard, 0),
            (|part| drop(part.keep_damaged(b"f", 0o644).unwrap()), 1),
        ];
        for (at, (end, names)) in ends.into_iter().enumerate() {
            let memory = Memory::new(1 << 20);
            let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
            if at > 0 {
                write(&mut part, 0, 100);
                part.checkpoint().unwrap();
            }

            end(part);

            assert_eq!(count(&memory), names, "end {at}");
        }
    }

    #[test]
    fn nobody_else_goes_on_with_it_or_writes_it_meanwhile() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 0, 100);
        part.checkpoint().unwrap();

        assert!(Part::go_on(root(&memory), b"f", &keep(2)).unwrap().is_none());
        assert!(matches!(Part::go_on(root(&memory), b"f", &keep(1)), Err(JournalError::Locked)));
        assert!(matches!(Part::keep(root(&memory), b"f", &keep(1)), Err(JournalError::Locked)));
    }

    #[test]
    fn another_size_clips_what_is_there() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 0, 10_000);
        drop(part);
        let identity = Identity { size: 3_000, ..keep(1).identity };

        let (mut part, placed) =
            Part::go_on(root(&memory), b"f", &Keep { identity, ..keep(1) }).unwrap().unwrap();

        assert_eq!(placed.ranges(), [0..3_000]);
        assert_eq!(part.size().unwrap(), 3_000);
    }

    #[test]
    fn a_claim_without_its_bytes_does_not_count() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 0, 10_000);
        part.checkpoint().unwrap();
        part.set_len(4_000).unwrap();
        drop(part);

        let (_, placed) = Part::go_on(root(&memory), b"f", &keep(1)).unwrap().unwrap();

        assert_eq!(placed.ranges(), [0..4_000]);
    }

    #[test]
    fn a_part_that_was_made_read_only_is_gone_on_with() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 0, 100);
        part.checkpoint().unwrap();
        part.set_metadata(0o444, keep(1).identity.mtime).unwrap();
        drop(part);

        let (mut part, _) = Part::go_on(root(&memory), b"f", &keep(1)).unwrap().unwrap();

        write(&mut part, 100, 100);
    }

    #[test]
    fn whenever_the_power_goes_what_is_claimed_is_on_the_disk() {
        assert_eq!(false_claim(|_| {}), None);
    }

    #[test]
    fn without_the_sync_of_the_part_a_claim_may_be_false() {
        assert!(false_claim(|memory| memory.deceive(Lie::Files)).is_some());
    }

    #[test]
    fn a_claim_before_the_sync_of_the_part_may_be_false() {
        assert!(false_claim(|memory| memory.deceive(Lie::FilesLate)).is_some());
    }

    #[test]
    fn what_a_checkpoint_has_claimed_outlives_the_power() {
        assert_eq!(lost_claim(|_| {}), None);
        // It bites: so a directory whose sync is forgotten would be noticed.
        assert!(lost_claim(|memory| memory.deceive(Lie::Directories)).is_some());
    }

    #[test]
    fn a_journal_that_cannot_be_written_costs_only_the_way_back() {
        let memory = Memory::new(SIZE);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 0, 30_000);
        let filler = crate::file::disk::write::open_or_create(root(&memory).handle(), b"filler").unwrap();
        while crate::file::disk::write::free_bytes(root(&memory).handle()).unwrap() > 0
            && let at = crate::file::disk::write::stat_of(&filler).unwrap().size
            && crate::file::disk::write::write_all_at(&filler, &[1; 512], at).is_ok()
        {}

        part.checkpoint().unwrap();

        part.publish(b"g", Replace::Nothing).unwrap();
    }

    #[test]
    fn a_journal_that_broke_remembers_nothing_more() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 39_999, 1);
        memory.fail_all(Call::Write, Fault::Error(Errno::NOSPC));
        part.checkpoint().unwrap();
        memory.heal();

        let scattered = |part: &mut Part| {
            for at in (0..2 * UNCLAIMED_MAX as u64).rev() {
                part.note_written(2 * at, 1);
            }
        };
        scattered(&mut part);
        assert!(!part.wants_checkpoint());

        let mut whole = Part::keep(root(&memory), b"g", &keep(1)).unwrap();
        scattered(&mut whole);
        assert!(whole.wants_checkpoint(), "so many ranges are enough");
    }

    #[test]
    fn a_sync_that_fails_is_told() {
        let memory = Memory::new(1 << 20);
        let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
        write(&mut part, 0, 100);
        memory.fail_all(Call::SyncData, Fault::Error(Errno::IO));

        assert_eq!(part.checkpoint(), Err(Errno::IO));
    }

    #[test]
    fn nobody_goes_on_with_what_could_not_be_synced() {
        // The system forgets what it could not write, and the next sync succeeds.
        type Sync = fn(&mut Part) -> rustix::io::Result<()>;
        for (call, sync) in
            [(Call::SyncData, Part::checkpoint as Sync), (Call::SyncFile, Part::sync_and_drop_cache as Sync)]
        {
            let memory = Memory::new(1 << 20);
            let mut part = Part::keep(root(&memory), b"f", &keep(1)).unwrap();
            write(&mut part, 0, 100);
            part.checkpoint().unwrap();
            write(&mut part, 100, 100);
            memory.fail_all(call, Fault::Error(Errno::IO));
            assert_eq!(sync(&mut part), Err(Errno::IO));
            memory.heal();

            drop(part);

            assert_eq!(count(&memory), 0);
        }
    }

    /// The power goes at each call of a session with several checkpoints. What of a part is claimed and is not there.
    fn false_claim(spoil: impl Fn(&Memory)) -> Option<String> {
        each_power_loss(spoil, |memory, _| {
            let (mut part, placed) = Part::go_on(root(memory), b"f", &keep(1)).unwrap()?;
            (!is_right(&mut part, placed.ranges())).then(|| format!("{:?}", placed.ranges()))
        })
    }

    /// What a checkpoint had claimed before the power went, and is not claimed behind it.
    fn lost_claim(spoil: impl Fn(&Memory)) -> Option<String> {
        each_power_loss(spoil, |memory, claimed| {
            let found = Part::go_on(root(memory), b"f", &keep(1)).unwrap();
            let placed = found.map_or(0, |(_, placed)| placed.placed_bytes());
            (placed < claimed).then(|| format!("{placed} of {claimed} bytes"))
        })
    }

    fn each_power_loss(
        spoil: impl Fn(&Memory),
        wrong: impl Fn(&Memory, u64) -> Option<String>,
    ) -> Option<String> {
        let session = |memory: &Memory| {
            let mut claimed = 0;
            let Ok(dirs) = TargetDirs::new(memory.root()) else { return claimed };
            let Ok(mut part) = Part::keep(Arc::clone(dirs.root()), b"f", &keep(1)) else { return claimed };
            for step in 0..4 {
                let is_written = part.write_at(step * 9_000, &content(step * 9_000, 9_000)).is_ok();
                if !is_written || part.checkpoint().is_err() {
                    return claimed;
                }
                // A journal that fails is no error; without power nothing works any more.
                if crate::file::disk::write::stat(dirs.root().handle(), b"f").is_err() {
                    return claimed;
                }
                claimed = (step + 1) * 9_000;
            }
            claimed
        };
        let calm = Memory::new(1 << 20);
        session(&calm);
        let calls = calm.calls().len();
        assert!(calls > 10);
        (0..calls).find_map(|call| {
            let memory = Memory::new(1 << 20);
            spoil(&memory);
            memory.fail_at(call, Fault::PowerLoss);
            let claimed = session(&memory);
            (0..15).find_map(|seed| {
                let why = wrong(&memory.crash(seed), claimed)?;
                Some(format!("call {call}, seed {seed}: {why}"))
            })
        })
    }

    fn keep(owner: u8) -> Keep {
        let mtime = Mtime { secs: 5, nanos: 6 };
        Keep { owner: [owner; 32], identity: Identity { size: SIZE, mtime }, syncs: true }
    }

    fn content(offset: u64, len: u64) -> Vec<u8> {
        (offset..offset + len).map(|at| (at % 251).to_le_bytes()[0] | 1).collect()
    }

    fn write(part: &mut Part, offset: u64, len: u64) {
        part.write_at(offset, &content(offset, len)).unwrap();
    }

    fn is_right(part: &mut Part, ranges: &[std::ops::Range<u64>]) -> bool {
        ranges.iter().all(|range| {
            let mut buffer = vec![0; usize::try_from(range.end - range.start).unwrap()];
            part.read_back(range.start, &mut buffer).is_ok()
                && buffer == content(range.start, range.end - range.start)
        })
    }

    fn root(memory: &Memory) -> Arc<Dir> {
        Arc::clone(TargetDirs::new(memory.root()).unwrap().root())
    }

    fn count(memory: &Memory) -> usize {
        let mut names = 0;
        crate::file::disk::write::any_name(root(memory).handle(), |_, _| {
            names += 1;
            false
        })
        .unwrap();
        names
    }
}
