//! The receiving side's disk: files in memory, filled in any order, proven at their end; slow, or faulty.
//!
//! It holds to what a target promises: every range is placed exactly once, a file has its outcome once, and Done only
//! with the source's digest.

use std::{collections::BTreeMap, time::Duration};

use super::source::{FileSpec, Form, Trouble, hash};
use crate::{
    integrity::crc32c::crc32c,
    limits,
    transfer::{Event, Job, Receiver, placement::Placement},
    wire::message::{Code, Outcome, Span, Want},
};

/// The thread that owns the target, and the disk.
#[derive(Debug)]
pub struct Target {
    specs: Vec<FileSpec>,
    is_eager: bool,
    rate: u64,
    files: BTreeMap<u64, File>,
    /// What is done once `busy_until` is there.
    current: Option<Job>,
    busy_until: Duration,
    /// Files that are proven and wait for company.
    proven: Vec<u64>,
    /// When those are published although no company came.
    publish_at: Duration,
    /// Entries by outcome.
    outcomes: BTreeMap<u64, Outcome>,
}

/// A file that is being received.
#[derive(Debug)]
struct File {
    placement: Placement,
    bytes: Vec<u8>,
    may_get_content: bool,
    /// Reported as failed; what still comes of it is thrown away.
    is_over: bool,
    /// How often it was repaired.
    repairs: u32,
}

/// Proven files wait so long for company.
const PUBLISH_WAIT: Duration = Duration::from_millis(50);
/// So many are published at once.
const PUBLISH_FILES: usize = 64;

impl Target {
    /// Nothing is there but what the specs say.
    pub fn new(specs: Vec<FileSpec>, is_eager: bool, rate: u64) -> Self {
        Self {
            specs,
            is_eager,
            rate,
            files: BTreeMap::new(),
            current: None,
            busy_until: Duration::ZERO,
            proven: Vec::new(),
            publish_at: Duration::MAX,
            outcomes: BTreeMap::new(),
        }
    }

    /// Does nothing until then.
    pub fn stall(&mut self, until: Duration) {
        self.busy_until = self.busy_until.max(until);
    }

    /// What became of the entries.
    pub fn outcomes(&self) -> &BTreeMap<u64, Outcome> {
        &self.outcomes
    }

    /// The bytes of a file that got its name.
    pub fn bytes(&self, file: u64) -> Option<&[u8]> {
        self.files.get(&file).map(|file| file.bytes.as_slice())
    }

    /// When it has something to do, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let job = self.current.is_some().then_some(self.busy_until);
        let publish = (!self.proven.is_empty()).then_some(self.publish_at.max(self.busy_until));
        [job, publish].into_iter().flatten().min()
    }

    /// Does as much as there is time for; whether it did anything.
    pub fn work(&mut self, now: Duration, receiver: &mut Receiver) -> bool {
        let mut has_worked = false;
        while self.busy_until <= now {
            if let Some(job) = self.current.take() {
                self.finish(job, receiver);
            } else if let Some(job) = receiver.poll_job() {
                let bytes = if let Job::Data { bytes, .. } = &job { bytes.len() as u64 } else { 0 };
                self.busy_until = now + Duration::from_nanos(1_000_000_000 * bytes / self.rate);
                self.publish_at = self.busy_until + PUBLISH_WAIT;
                self.current = Some(job);
            } else if self.proven.is_empty() || now < self.publish_at {
                break;
            } else {
                self.publish(receiver);
            }
            has_worked = true;
        }
        if self.proven.len() >= PUBLISH_FILES {
            self.publish(receiver);
        }
        has_worked
    }

    fn finish(&mut self, job: Job, receiver: &mut Receiver) {
        match job {
            Job::Entries { first, entries } => {
                (first..).zip(&entries).for_each(|(file, _)| self.on_entry(file, receiver));
            }
            Job::Data { file, offset, bytes } => {
                let len = bytes.len() as u64;
                self.place(file, offset, Some(&bytes), len, receiver);
                let mut buffer = bytes;
                buffer.clear();
                receiver.on_event(Event::Placed { file, offset, len, buffer });
            }
            Job::Hole { file, offset, len } => {
                self.place(file, offset, None, len, receiver);
                receiver.on_event(Event::Placed { file, offset, len, buffer: Vec::new() });
            }
            Job::End { file, size, digest } => self.on_end(file, size, digest, receiver),
            Job::Digest { file, digest, .. } => {
                if matches!(self.spec(file).trouble, Some(Trouble::IsThere { .. })) {
                    let there = self.there(file);
                    if hash(&there) == digest {
                        self.tell(file, Outcome::Identical, receiver);
                    } else {
                        self.want(file, receiver);
                    }
                }
            }
            Job::Failed { file, code, text } => {
                if !self.outcomes.contains_key(&file) {
                    assert!(self.spec(file).may_fail(), "entry {file} failed without a reason: {text}");
                    self.fail(file, code, receiver);
                }
            }
            Job::Sums { file, sums, .. } => self.compare(file, &sums, receiver),
            Job::RawPiece(_) | Job::RawEnd { .. } => unreachable!("no world has a raw flow"),
            Job::Listed | Job::Idle | Job::Resumable { .. } | Job::Work | Job::Checkpoint => {}
        }
    }

    fn on_entry(&mut self, number: u64, receiver: &mut Receiver) {
        let spec = self.spec(number).clone();
        if spec.form == Form::Dir {
            return self.tell(number, Outcome::Done, receiver);
        }
        let size = (spec.form == Form::File).then_some(spec.size);
        let (placement, bytes) = (Placement::new(size), Vec::new());
        let file = File { placement, bytes, may_get_content: self.is_eager, is_over: false, repairs: 0 };
        self.files.insert(number, file);
        if self.is_eager {
            return;
        }
        if matches!(spec.trouble, Some(Trouble::IsThere { .. })) && spec.form == Form::File {
            receiver.on_event(Event::Want { file: number, want: Want::Digest });
        } else {
            self.want(number, receiver);
        }
    }

    fn want(&mut self, number: u64, receiver: &mut Receiver) {
        self.files.get_mut(&number).expect("it was announced").may_get_content = true;
        let spec = self.spec(number).clone();
        let Some(Trouble::WasCut { from, len, is_right }) = spec.trouble.filter(|_| !self.is_eager) else {
            receiver.on_event(Event::Want { file: number, want: Want::Content });
            return;
        };
        let whole = |len: u64| usize::try_from(len).expect("a small file");
        let mut bytes = vec![0; whole(from)];
        bytes.extend(spec.bytes(Duration::ZERO, from, whole(len)));
        if !is_right && let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let file = self.files.get_mut(&number).expect("it was announced");
        file.bytes = bytes;
        file.placement.cover(from..from + len);
        let kept = spans(&file.placement);
        receiver.on_event(Event::Resume { file: number, kept });
    }

    fn place(&mut self, number: u64, offset: u64, bytes: Option<&[u8]>, len: u64, receiver: &mut Receiver) {
        let end = usize::try_from(offset + len).expect("a small file");
        let trouble = self.spec(number).trouble;
        let file = self.files.get_mut(&number).expect("content comes behind its entry");
        assert!(file.may_get_content, "content of entry {number}, which nobody wanted");
        if file.is_over {
            return;
        }
        assert!(!self.outcomes.contains_key(&number), "content of entry {number} behind its outcome");
        let placed = file.placement.place(offset, len);
        placed.unwrap_or_else(|why| panic!("entry {number}: {why}"));
        if file.bytes.len() < end {
            file.bytes.resize(end, 0);
        }
        let range = &mut file.bytes[end - usize::try_from(len).expect("a small file")..end];
        match bytes {
            Some(bytes) => range.copy_from_slice(bytes),
            None => range.fill(0),
        }
        if matches!(trouble, Some(Trouble::CannotBeWritten(from)) if from < offset + len) {
            self.fail(number, Code::NoSpace, receiver);
        }
    }

    fn on_end(&mut self, number: u64, size: u64, digest: [u8; 32], receiver: &mut Receiver) {
        let was_wrong = matches!(self.spec(number).trouble, Some(Trouble::WasCut { is_right: false, .. }));
        let file = self.files.get_mut(&number).expect("content comes behind its entry");
        if file.is_over {
            return;
        }
        assert!(file.placement.is_complete(size), "entry {number} ended before all of it was placed");
        if hash(&file.bytes) == digest {
            return self.proven.push(number);
        }
        assert!(was_wrong && file.repairs == 0, "entry {number} has other bytes than its source");
        file.repairs += 1;
        let count = size.div_ceil(limits::SUM_BLOCK_BYTES);
        receiver.on_event(Event::Check { file: number, first: 0, count });
    }

    /// Asks for the blocks that differ once more.
    fn compare(&mut self, number: u64, sums: &[u32], receiver: &mut Receiver) {
        let file = self.files.get_mut(&number).expect("its sums were asked for");
        if file.is_over {
            return;
        }
        let blocks = file.bytes.chunks(usize::try_from(limits::SUM_BLOCK_BYTES).expect("a block"));
        assert_eq!(blocks.len(), sums.len());
        for (at, (block, sum)) in (0..).zip(blocks.zip(sums)) {
            let start = at * limits::SUM_BLOCK_BYTES;
            if crc32c(block) != *sum {
                file.placement.uncover(start..start + block.len() as u64);
            }
        }
        let kept = spans(&file.placement);
        receiver.on_event(Event::Resume { file: number, kept });
    }

    fn publish(&mut self, receiver: &mut Receiver) {
        for file in std::mem::take(&mut self.proven) {
            self.tell(file, Outcome::Done, receiver);
        }
    }

    fn fail(&mut self, number: u64, code: Code, receiver: &mut Receiver) {
        if let Some(file) = self.files.get_mut(&number) {
            file.is_over = true;
            file.bytes = Vec::new();
        }
        self.tell(number, Outcome::Failed { code, text: "a fault of the plan".to_owned() }, receiver);
    }

    fn tell(&mut self, file: u64, outcome: Outcome, receiver: &mut Receiver) {
        let before = self.outcomes.insert(file, outcome.clone());
        assert!(before.is_none(), "two outcomes of entry {file}: {before:?}, {outcome:?}");
        receiver.on_event(Event::Outcome { file, outcome });
    }

    /// What stood there before.
    fn there(&self, file: u64) -> Vec<u8> {
        let spec = self.spec(file);
        let mut bytes = spec.bytes(Duration::ZERO, 0, usize::try_from(spec.size).expect("a small file"));
        if spec.trouble == Some(Trouble::IsThere { is_same: false }) {
            bytes.push(0);
        }
        bytes
    }

    fn spec(&self, file: u64) -> &FileSpec {
        &self.specs[usize::try_from(file).expect("an index")]
    }
}

fn spans(placement: &Placement) -> Vec<Span> {
    placement
        .ranges()
        .iter()
        .map(|range| Span { offset: range.start, len: range.end - range.start })
        .collect()
}
