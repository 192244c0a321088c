//! A large file whose transfer is interrupted at each call on the disk, and gone on with.
//!
//! What a journal claims has to be on the disk: a session that goes on never has to ask what is wrong, and comes to
//! the sender's bytes whatever came before it.

use std::collections::VecDeque;
use std::ops::Range;

use rustix::io::Errno;

use super::{all_names, config, digest, entry, is_temporary, read};
use crate::file::disk::memory::{Call, Fault, Lie, Memory};
use crate::file::disk::write;
use crate::file::target::{Event, Job, Place, Target};
use crate::integrity::crc32c::crc32c;
use crate::limits;
use crate::wire::message::{Code, Entry, Kind, Mtime, Outcome, Overwrite, Want};

#[test]
fn what_is_claimed_is_there_whenever_the_power_goes() {
    assert_eq!(false_claim(|_| {}), None);
}

#[test]
fn without_the_sync_of_the_part_a_claim_may_be_false() {
    assert!(false_claim(|memory| memory.deceive(Lie::Files)).is_some());
}

#[test]
fn a_claim_is_worth_something_after_a_power_loss_and_after_a_kill() {
    let source = Source::first();
    let memory = disk();
    source.send(&memory, SENT_BEFORE);

    for left in [memory.kill(), memory.crash(0)] {
        let report = source.send(&left, usize::MAX);

        assert_eq!(report.told, Some(Outcome::Done));
        assert_eq!(report.kept_bytes, SIZE - PIECE_BYTES);
        assert_eq!(all_names(&left), [NAME]);
    }
}

#[test]
fn a_session_that_ends_or_is_killed_at_any_call_is_gone_on_with() {
    let source = Source::first();
    // Without a rename that replaces nothing, a name is given in two calls, and the file has two names in between.
    let has_no_rename_new = |memory: &Memory| memory.fail_all(Call::RenameNew, Fault::Error(Errno::INVAL));
    for spoil in [|_: &Memory| {}, has_no_rename_new] {
        let counted = disk();
        spoil(&counted);
        source.send(&counted, usize::MAX);
        for call in 0..counted.calls().len() {
            let memory = disk();
            spoil(&memory);
            memory.fail_at(call, Fault::PowerLoss);
            source.send(&memory, usize::MAX);

            let left = memory.kill();
            expect_whole_or_nothing(&left, &source);
            let report = source.send(&left, usize::MAX);

            assert_eq!((report.told, report.checks), (Some(Outcome::Done), 0), "call {call}");
            assert!(read(&left.root(), NAME.as_bytes()) == source.content, "call {call}");
            assert_eq!(all_names(&left), [NAME], "call {call}");
        }
    }
}

#[test]
fn what_another_source_has_left_never_gets_into_a_file() {
    for (first, other) in [(Source::first(), Source::changed()), (Source::changed(), Source::first())] {
        let interrupted = disk();
        first.send(&interrupted, SENT_BEFORE);
        // A third of the calls is enough: the seeds take turns.
        for call in (0..count_calls(&interrupted.kill(), &other)).step_by(3) {
            let memory = interrupted.kill();
            memory.fail_at(call, Fault::PowerLoss);
            other.send(&memory, usize::MAX);

            let left = memory.crash(call as u64);
            expect_whole_or_nothing(&left, &other);
            let report = other.send(&left, usize::MAX);

            assert_eq!(report.told, Some(Outcome::Done), "call {call}");
            assert!(read(&left.root(), NAME.as_bytes()) == other.content, "call {call}");
        }
    }
}

#[test]
fn what_is_there_and_not_claimed_never_gets_into_a_file() {
    let (first, other) = (Source { notes: false, ..Source::changed() }, Source::first());
    for call in 0..count_calls(&disk(), &first) {
        let memory = disk();
        memory.fail_at(call, Fault::PowerLoss);
        first.send(&memory, usize::MAX);

        for seed in [3, 4, 8, 9] {
            let left = memory.crash(seed);
            let report = other.send(&left, usize::MAX);

            assert_eq!(report.told, Some(Outcome::Done), "call {call}, seed {seed}");
            assert!(read(&left.root(), NAME.as_bytes()) == other.content, "call {call}, seed {seed}");
        }
    }
}

#[test]
fn what_has_come_is_claimed_at_the_end_of_a_session_at_the_latest() {
    let memory = disk();
    Source { notes: false, ..Source::first() }.send(&memory, SENT_BEFORE);

    let report = Source::first().send(&memory.crash(0), usize::MAX);

    assert_eq!(report.kept_bytes, SIZE - PIECE_BYTES);
}

#[test]
fn a_call_that_fails_leaves_what_can_be_gone_on_with_and_nothing_else() {
    let source = Source::first();
    for call in 0..count_calls(&disk(), &source) {
        let (errno, expected) = [(Errno::NOSPC, Code::NoSpace), (Errno::IO, Code::File)][call % 2];
        let memory = disk();
        memory.fail_at(call, Fault::Error(errno));

        let report = source.send(&memory, usize::MAX);

        let is_told = match &report.told {
            Some(Outcome::Failed { code, .. }) => *code == expected,
            told => *told == Some(Outcome::Done) || call == 0,
        };
        assert!(is_told, "call {call}, {errno:?}: {report:?}");
        let left = memory.crash(call as u64);
        expect_whole_or_nothing(&left, &source);
        let again = source.send(&left, usize::MAX);
        assert_eq!(again.told, Some(Outcome::Done), "call {call}, {errno:?}");
        assert!(read(&left.root(), NAME.as_bytes()) == source.content, "call {call}, {errno:?}");
        assert!(!all_names(&left).iter().any(|name| is_temporary(name)), "call {call}, {errno:?}");
    }
}

/// One file at its sender.
struct Source {
    entry: Entry,
    content: Vec<u8>,
    digest: [u8; 32],
    /// Each piece is brought to the disk when it has come.
    notes: bool,
}

/// How a session went.
#[derive(Debug, Default)]
struct Report {
    told: Option<Outcome>,
    /// What was gone on behind.
    kept_bytes: u64,
    /// How often it was asked for sums.
    checks: usize,
}

impl Source {
    /// Its first piece is a hole.
    fn first() -> Self {
        let mut content = dense();
        content[..usize::try_from(PIECE_BYTES).unwrap()].fill(0);
        let entry = entry(NAME, Kind::File { size: SIZE, sparse: true, linked: false });
        Self { entry, digest: digest(&content), content, notes: true }
    }

    /// The same file later, without a hole, and with changed bytes in each piece.
    fn changed() -> Self {
        let mut content = dense();
        content.iter_mut().skip(1000).step_by(1 << 20).for_each(|byte| *byte ^= 2);
        let mtime = Mtime { secs: 2_000_000_000, nanos: 0 };
        let entry = Entry { mtime, ..Self::first().entry };
        Self { entry, digest: digest(&content), content, notes: true }
    }

    /// A session that may go on with what is there, and that ends behind so many pieces.
    fn send(&self, memory: &Memory, pieces_max: usize) -> Report {
        let mut report = Report::default();
        let mut config = config(Place::Opened { root: memory.root(), below: None });
        config.overwrite = Overwrite::Always;
        let Ok(mut target) = Target::new(config) else { return report };
        let mut jobs = VecDeque::from([
            Job::Resumable { owner: Some([7; 32]) },
            Job::Entries { first: 0, entries: vec![self.entry.clone()] },
            Job::Listed,
        ]);
        let mut pieces_left = pieces_max;
        while let Some(job) = jobs.pop_front().or_else(|| target.has_work().then_some(Job::Work)) {
            target.handle(job).unwrap();
            while let Some(event) = target.poll_event() {
                self.answer(event, &mut report, &mut jobs);
            }
            let is_data = |job: &Job| matches!(job, Job::Data { .. } | Job::Hole { .. });
            if jobs.front().is_some_and(is_data) {
                match pieces_left.checked_sub(1) {
                    Some(left) => pieces_left = left,
                    None => return report,
                }
            }
            if jobs.is_empty() && !target.has_work() && report.told.is_none() {
                jobs.extend([Job::Idle]);
            }
        }
        report
    }

    fn answer(&self, event: Event, report: &mut Report, jobs: &mut VecDeque<Job>) {
        match event {
            Event::Want { want: Want::Content, .. } => {
                jobs.extend(self.jobs_for(std::slice::from_ref(&(0..SIZE))));
            }
            Event::Resume { kept, .. } => {
                let mut missing = Vec::new();
                let mut at = 0;
                for span in &kept {
                    missing.push(at..span.offset);
                    at = span.offset + span.len;
                }
                missing.push(at..SIZE);
                report.kept_bytes = kept.iter().map(|span| span.len).sum();
                jobs.extend(self.jobs_for(&missing));
            }
            Event::Check { file, first, count } => {
                report.checks += 1;
                let blocks = self.content.chunks(usize::try_from(limits::SUM_BLOCK_BYTES).unwrap());
                let from = usize::try_from(first).unwrap();
                let sums = blocks.skip(from).take(usize::try_from(count).unwrap()).map(crc32c).collect();
                jobs.push_back(Job::Sums { file, first, sums });
            }
            Event::Outcome { outcome, .. } => report.told = Some(outcome),
            _ => {}
        }
    }

    /// The content of these ranges in pieces, the later half of them first, each brought to the disk; then the end.
    fn jobs_for(&self, ranges: &[Range<u64>]) -> Vec<Job> {
        let cut = |range: &Range<u64>| {
            let end = range.end;
            let step = usize::try_from(PIECE_BYTES).unwrap();
            range.clone().step_by(step).map(move |at| at..end.min(at + PIECE_BYTES)).collect::<Vec<_>>()
        };
        let mut pieces: Vec<_> = ranges.iter().flat_map(cut).collect();
        let half = pieces.len() / 2;
        pieces.rotate_left(half);
        let data = pieces.into_iter().flat_map(|piece| {
            let bytes = self.content
                [usize::try_from(piece.start).unwrap()..usize::try_from(piece.end).unwrap()]
                .to_vec();
            let (file, offset, len) = (0, piece.start, bytes.len() as u64);
            let is_hole = bytes.iter().all(|&byte| byte == 0);
            let content =
                if is_hole { Job::Hole { file, offset, len } } else { Job::Data { file, offset, bytes } };
            std::iter::once(content).chain(self.notes.then_some(Job::Checkpoint))
        });
        let end = Job::End { file: 0, size: SIZE, digest: self.digest };
        data.chain([end]).collect()
    }
}

/// Where a session that goes on after a power loss had to ask what is wrong, on disks that were spoiled.
fn false_claim(spoil: fn(&Memory)) -> Option<String> {
    let source = Source::first();
    (0..count_calls(&disk(), &source)).find_map(|call| {
        let memory = disk();
        spoil(&memory);
        memory.fail_at(call, Fault::PowerLoss);
        source.send(&memory, usize::MAX);
        (0..SEEDS).find_map(|seed| {
            let left = memory.crash(seed);
            let report = source.send(&left, usize::MAX);
            assert_eq!(report.told, Some(Outcome::Done), "call {call}, seed {seed}");
            assert!(read(&left.root(), NAME.as_bytes()) == source.content, "call {call}, seed {seed}");
            (report.checks > 0).then(|| format!("call {call}, seed {seed}: {report:?}"))
        })
    })
}

/// Bytes of which none is zero.
fn dense() -> Vec<u8> {
    (0..SIZE).map(|at| (at / 7).to_le_bytes()[0] | 1).collect()
}

fn disk() -> Memory {
    Memory::new(64 << 20)
}

/// The calls of a session on this disk that goes well. The disk is used up.
fn count_calls(memory: &Memory, source: &Source) -> usize {
    let memory = memory.kill();
    assert_eq!(source.send(&memory, usize::MAX).told, Some(Outcome::Done));
    memory.calls().len()
}

/// The live name is free, or holds what the source has.
fn expect_whole_or_nothing(memory: &Memory, source: &Source) {
    let root = memory.root();
    if write::stat(&root, NAME.as_bytes()).unwrap().is_some() {
        let bytes = read(&root, NAME.as_bytes());
        assert!(source.content == bytes, "what is not proven has a name");
    }
}

const NAME: &str = "large";
/// A little more than what is worth to be gone on with, and no whole number of pages.
const SIZE: u64 = limits::RESUME_MIN_BYTES + 1000;
const PIECE_BYTES: u64 = 1_500_000;
/// Pieces sent before a session ends early: all but the first of the file.
const SENT_BEFORE: usize = 2;
/// Power losses tried at each call: one of each kind.
const SEEDS: u64 = 5;
