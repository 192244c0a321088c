//! Whole sessions in memory, and every way to break the rules.
//!
//! Goal: whatever the carriers do, each file arrives once and whole, each entry gets one outcome, no bound is
//! broken, and the session ends. Method: a sender and a receiver with a fake disk each, joined by first-in-first-out
//! carriers; one seed chooses files, sizes, policies, failures, and which of all possible steps comes next. Carriers
//! die at any step with any part of what is in flight, and either end notices first. Checked: the fake target sees
//! each byte once and right, all outcomes are the expected ones, credit is never exceeded, and nothing is left in
//! memory at the end.

mod raw;
mod resume;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::{
    integrity::crc32c::crc32c,
    limits,
    wire::{
        frame::{FileEnd, Frame, Placed},
        message::{
            Check, DigestKind, Entries, FileFailed, Finish, Intent, Kind, Listed, Message, Mtime, Open,
            Outcomes, Overwrite, Ping, Receipt, Resume, StreamEnd, Sums, Unlisted, Wants,
        },
    },
};

#[test]
fn every_file_arrives_once_whatever_the_carriers_do() {
    // protocol.md [CREDIT-1] to [CREDIT-3], [STREAM-3], [FILE-1], [FILE-7], [DATA-3], [DATA-4], [END-1], [END-2]
    for seed in 0..400 {
        std::panic::catch_unwind(|| World::new(seed).run())
            .unwrap_or_else(|_| panic!("to replay: World::new({seed}).run()"));
    }
}

#[test]
fn the_simulation_reaches_what_it_is_meant_to_reach() {
    let mut seen = Seen::default();
    for seed in 0..400 {
        let world = World::new(seed).run();
        seen.add(&world.seen);
    }

    assert!(seen.deaths > 100, "{seen:?}");
    assert!(seen.sent_again > 100, "{seen:?}");
    assert!(seen.overtook_entry > 10, "{seen:?}");
    assert!(seen.discarded > 10, "{seen:?}");
    assert!(seen.told_by_sender > 30 && seen.told_by_receiver > 30, "{seen:?}");
    assert!(seen.failed_at_sender > 30 && seen.failed_at_receiver > 30, "{seen:?}");
}

/// A sender and a receiver with everything around them.
struct World {
    rng: Rng,
    plans: Vec<Plan>,
    is_eager: bool,
    sender: Sender<u64>,
    receiver: Receiver,
    window: u64,
    listed: usize,
    reading: Option<(ReadJob<u64>, usize)>,
    target: FakeTarget,
    events: VecDeque<Event>,
    carriers: BTreeMap<Carrier, FakeCarrier>,
    to_sender: VecDeque<Frame>,
    outcomes: BTreeMap<u64, Outcome>,
    next_carrier: Carrier,
    deaths_left: usize,
    seen: Seen,
}

/// What a seed made happen.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    deaths: usize,
    sent_again: usize,
    overtook_entry: usize,
    discarded: usize,
    told_by_sender: usize,
    told_by_receiver: usize,
    failed_at_sender: usize,
    failed_at_receiver: usize,
}

/// One entry, and all that will happen to it.
#[derive(Clone, Debug)]
struct Plan {
    kind: Kind,
    /// Offset, length, and whether it is a hole.
    pieces: Vec<(u64, u64, bool)>,
    size: u64,
    answer: Answer,
    /// The sender fails instead of this piece.
    fails_at: Option<usize>,
    /// What is read again differs.
    changes: bool,
    /// The receiver fails when so many bytes are placed.
    target_fails_at: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Take,
    CompareEqual,
    CompareDifferent,
    Keep,
}

#[derive(Default)]
struct FakeCarrier {
    /// In flight to the receiver.
    wire: VecDeque<Frame>,
    is_dead: bool,
    sender_knows: bool,
    receiver_knows: bool,
}

#[derive(Default)]
struct FakeTarget {
    /// Bytes of each file, and which are placed.
    files: BTreeMap<u64, Vec<Option<u8>>>,
    placed: BTreeMap<u64, u64>,
    announced: u64,
    told: BTreeSet<u64>,
    /// Done, and waiting for the sync of the batch.
    waiting: Vec<u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let count = rng.below(12);
        let plans = (0..count).map(|_| Plan::draw(&mut rng)).collect();
        let is_eager = rng.one_in(3);
        let window = 1 + PIECE_MAX + rng.below(6000);
        let streams = rng.below(4);
        let mut carriers = BTreeMap::new();
        for carrier in 0..=streams {
            carriers.insert(Carrier::try_from(carrier).unwrap(), FakeCarrier::default());
        }
        Self {
            deaths_left: usize::try_from(rng.below(5)).unwrap(),
            rng,
            plans,
            is_eager,
            sender: Sender::new(is_eager),
            receiver: Receiver::new(window),
            window,
            listed: 0,
            reading: None,
            target: FakeTarget::default(),
            events: VecDeque::new(),
            next_carrier: Carrier::try_from(streams + 1).unwrap(),
            carriers,
            to_sender: VecDeque::new(),
            outcomes: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn run(mut self) -> Self {
        for _ in 0..STEPS_MAX {
            self.step();
            if self.sender.end().is_some() && self.is_silent() {
                self.check_end();
                return self;
            }
        }
        panic!("it does not end: {:?} of {} entries have outcomes", self.outcomes.keys(), self.plans.len());
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0 => self.list(),
            1 | 2 => self.read(),
            3 | 4 => self.send(),
            5 | 6 => self.deliver(),
            7 => self.answer(),
            8 => self.return_answer(),
            9 => self.work(),
            10 => self.tell(),
            _ => self.disturb(),
        }
        assert!(self.receiver.unplaced_bytes() <= self.window, "more than the window is unplaced");
    }

    /// Announces some entries, and then the end of the listing.
    fn list(&mut self) {
        if self.listed > self.plans.len() {
            return;
        }
        let most = self.sender.room_for_entries().min(self.plans.len() - self.listed);
        let count = usize::try_from(self.rng.below(4)).unwrap().min(most);
        let batch = (self.listed..self.listed + count).map(|i| (self.plans[i].entry(i), i as u64)).collect();
        self.sender.announce(batch);
        self.listed += count;
        if self.listed == self.plans.len() {
            self.listed += 1;
            self.sender.on_listed(Listed { entries: self.plans.len() as u64, ..Listed::default() });
        }
    }

    /// One step of the reading thread.
    fn read(&mut self) {
        let Some((job, at)) = self.reading.take().or_else(|| self.sender.poll_job().map(|job| (job, 0)))
        else {
            return;
        };
        let file = match &job {
            ReadJob::Content { file, .. }
            | ReadJob::Digest { file, .. }
            | ReadJob::Sums { file, .. }
            | ReadJob::Again { file, .. } => *file,
        };
        let plan = &self.plans[usize::try_from(file).unwrap()];
        let failed = Piece::Failed { file, code: Code::SourceChanged, text: "as planned".to_owned() };
        let end = FileEnd { file, size: plan.size, digest: plan.digest(file) };
        if !self.sender.is_open(file) {
            return;
        }
        match &job {
            ReadJob::Content { .. } if plan.fails_at == Some(at) => {
                self.seen.failed_at_sender += 1;
                self.sender.on_piece(failed);
            }
            ReadJob::Content { .. } if at == plan.pieces.len() => self.sender.on_piece(Piece::End(end)),
            ReadJob::Content { .. } => {
                if !self.sender.has_room() {
                    self.reading = Some((job, at));
                    return;
                }
                let (offset, len, is_hole) = plan.pieces[at];
                let keep = plan.kind == Kind::Stream;
                self.sender.on_piece(match is_hole {
                    true => Piece::Hole(Placed { file, offset, len }),
                    false => data(file, offset, len, keep),
                });
                self.reading = Some((job, at + 1));
            }
            ReadJob::Digest { .. } => {
                assert_ne!(plan.kind, Kind::Stream);
                self.sender.on_piece(Piece::Digest(end));
            }
            ReadJob::Sums { .. } => unreachable!("this target repairs nothing"),
            ReadJob::Again { .. } if plan.changes => {
                self.seen.failed_at_sender += 1;
                self.sender.on_piece(failed);
            }
            &ReadJob::Again { offset, len, crc, .. } => {
                assert_ne!(plan.kind, Kind::Stream, "what cannot be read twice was kept");
                assert_eq!(crc32c(&content(file, offset, len as u64)), crc);
                self.seen.sent_again += 1;
                self.sender.on_piece(data(file, offset, len as u64, false));
            }
        }
    }

    /// A carrier takes the sender's next frame.
    fn send(&mut self) {
        let carrier = self.any_carrier();
        let state = self.carriers.get_mut(&carrier).unwrap();
        if state.sender_knows || state.wire.len() > 8 {
            return;
        }
        if let Some(frame) = self.sender.poll_frame(carrier) {
            assert!(carrier == CONTROL || matches!(frame, Frame::Data { .. }), "{frame:?} on {carrier}");
            if !state.is_dead {
                state.wire.push_back(frame);
            }
        }
    }

    /// A frame reaches the receiver.
    fn deliver(&mut self) {
        let carrier = self.any_carrier();
        let state = self.carriers.get_mut(&carrier).unwrap();
        if state.receiver_knows {
            return;
        }
        if let Some(frame) = state.wire.pop_front() {
            if let Frame::Data { file, .. } = &frame {
                self.seen.overtook_entry += usize::from(*file >= self.receiver.announced().entries);
            }
            self.receiver.handle_frame(carrier, frame).unwrap();
        }
    }

    fn answer(&mut self) {
        if let Some(frame) = self.receiver.poll_frame() {
            self.to_sender.push_back(frame);
        }
    }

    fn return_answer(&mut self) {
        if let Some(frame) = self.to_sender.pop_front() {
            self.sender.handle_frame(frame).unwrap();
        }
        while let Some((file, _, outcome)) = self.sender.poll_outcome() {
            assert!(self.outcomes.insert(file, outcome).is_none(), "two outcomes of {file}");
        }
    }

    /// One step of the writing thread.
    fn work(&mut self) {
        match self.receiver.poll_job() {
            Some(job) => {
                let events = self.target.handle(job, &self.plans, self.is_eager, &mut self.seen);
                self.events.extend(events);
            }
            None => self.events.extend(self.target.sync()),
        }
    }

    fn tell(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.receiver.on_event(event);
        }
    }

    /// Kills a carrier, lets one end notice a death, or adds a carrier.
    fn disturb(&mut self) {
        let carrier = self.any_carrier();
        let choice = self.rng.below(3);
        if choice == 0 && self.carriers.len() < 6 && self.next_carrier < 16 {
            self.carriers.insert(self.next_carrier, FakeCarrier::default());
            self.next_carrier += 1;
            return;
        }
        if carrier == CONTROL {
            return;
        }
        let state = self.carriers.get_mut(&carrier).unwrap();
        if !state.is_dead && self.deaths_left > 0 {
            self.deaths_left -= 1;
            self.seen.deaths += 1;
            state.is_dead = true;
            let arrives = self.rng.below(state.wire.len() as u64 + 1);
            state.wire.truncate(usize::try_from(arrives).unwrap());
        } else if state.is_dead && choice == 1 && !state.sender_knows {
            state.sender_knows = true;
            self.seen.told_by_sender += usize::from(!state.receiver_knows);
            self.sender.on_carrier_down(carrier);
        } else if state.is_dead && choice == 2 && !state.receiver_knows {
            state.receiver_knows = true;
            self.seen.told_by_receiver += usize::from(!state.sender_knows);
            self.receiver.on_carrier_down(carrier);
        }
    }

    fn any_carrier(&mut self) -> Carrier {
        let at = self.rng.below(self.carriers.len() as u64);
        *self.carriers.keys().nth(usize::try_from(at).unwrap()).unwrap()
    }

    /// Nothing is on its way and everybody knows about every death.
    fn is_silent(&self) -> bool {
        let is_quiet =
            |c: &FakeCarrier| (c.wire.is_empty() && !c.is_dead) || (c.sender_knows && c.receiver_knows);
        self.carriers.values().all(is_quiet)
            && self.to_sender.is_empty()
            && self.events.is_empty()
            && !self.receiver.has_jobs()
            && !self.receiver.has_frames()
            && !self.sender.has_messages()
            && !self.sender.has_chunks()
            && self.reading.is_none()
    }

    fn check_end(&self) {
        assert_eq!(self.outcomes.len(), self.plans.len());
        for (file, plan) in (0..).zip(&self.plans) {
            let outcome = &self.outcomes[&file];
            let is_fine = match outcome {
                Outcome::Done => plan.may_be_done() && self.target.is_whole(file, plan),
                Outcome::Identical => plan.answer == Answer::CompareEqual && !self.is_eager,
                Outcome::Kept => plan.answer == Answer::Keep,
                Outcome::Failed { .. } => plan.may_fail(),
                Outcome::Unchanged | Outcome::Planned => false,
            };
            assert!(is_fine, "entry {file}: {outcome:?} of {plan:?}");
        }
        let failed = self.outcomes.values().filter(|o| matches!(o, Outcome::Failed { .. })).count() as u64;
        let receipt = self.sender.end().unwrap().receipt;
        assert_eq!((receipt.done, receipt.failed), (self.plans.len() as u64 - failed, failed));
        assert_eq!(self.receiver.unplaced_bytes(), 0);
        assert_eq!(self.receiver.received_bytes(), self.sender.sent_bytes());
        assert_eq!(self.receiver.placed_bytes(), self.sender.placed_bytes());
        assert_eq!(self.receiver.held(), 0, "the receiver still holds something");
        assert_eq!(self.sender.held(), (0, 0, 0), "the sender still holds something");
    }
}

impl Plan {
    fn draw(rng: &mut Rng) -> Self {
        let mut plan = Self {
            kind: Kind::Dir,
            pieces: Vec::new(),
            size: 0,
            answer: Answer::Take,
            fails_at: None,
            changes: false,
            target_fails_at: None,
        };
        if rng.one_in(6) {
            return plan;
        }
        for _ in 0..rng.below(12) {
            let len = 1 + rng.below(PIECE_MAX);
            plan.pieces.push((plan.size, len, rng.one_in(5)));
            plan.size += len;
        }
        let is_stream = rng.one_in(8);
        plan.kind = if is_stream {
            Kind::Stream
        } else {
            Kind::File { size: plan.size, sparse: true, linked: false }
        };
        plan.answer = match rng.below(8) {
            0 => Answer::Keep,
            1 if !is_stream => Answer::CompareEqual,
            2 if !is_stream => Answer::CompareDifferent,
            _ => Answer::Take,
        };
        plan.fails_at =
            rng.one_in(8).then(|| usize::try_from(rng.below(plan.pieces.len() as u64 + 1)).unwrap());
        plan.changes = rng.one_in(8);
        plan.target_fails_at = rng.one_in(8).then(|| rng.below(plan.size + 1));
        plan
    }

    fn entry(&self, number: usize) -> Entry {
        let name = format!("entry {number}").into_bytes();
        Entry { source: 0, name, mode: 0o644, mtime: Mtime { secs: 0, nanos: 0 }, kind: self.kind.clone() }
    }

    fn has_content(&self) -> bool {
        self.kind != Kind::Dir
    }

    fn may_be_done(&self) -> bool {
        self.fails_at.is_none()
    }

    fn may_fail(&self) -> bool {
        self.fails_at.is_some() || self.changes || self.target_fails_at.is_some()
    }

    fn digest(&self, file: u64) -> [u8; 32] {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&file.to_le_bytes());
        digest[8..16].copy_from_slice(&self.size.to_le_bytes());
        digest
    }
}

impl FakeTarget {
    fn handle(&mut self, job: Job, plans: &[Plan], is_eager: bool, seen: &mut Seen) -> Vec<Event> {
        let mut out = Vec::new();
        match job {
            Job::Entries { first, entries } => {
                assert_eq!(first, self.announced);
                self.announced += entries.len() as u64;
                for (file, _) in (first..).zip(entries) {
                    self.decide(file, &plans[usize::try_from(file).unwrap()], is_eager, &mut out);
                }
            }
            Job::Data { file, offset, bytes } => {
                self.place(file, plans, offset, bytes.len() as u64, Some(&bytes), seen, &mut out);
                out.push(Event::Placed { file, offset, len: bytes.len() as u64, buffer: bytes });
            }
            Job::Hole { file, offset, len } => {
                self.place(file, plans, offset, len, None, seen, &mut out);
                out.push(Event::Placed { file, offset, len, buffer: Vec::new() });
            }
            Job::End { file, size, digest } => {
                let plan = &plans[usize::try_from(file).unwrap()];
                assert_eq!((size, digest), (plan.size, plan.digest(file)));
                if !self.told.contains(&file) {
                    assert!(self.is_whole(file, plan), "the end of {file} came before all of its content");
                    self.waiting.push(file);
                }
            }
            Job::Digest { file, .. } => {
                let plan = &plans[usize::try_from(file).unwrap()];
                if plan.answer == Answer::CompareEqual {
                    self.settle(file, Outcome::Identical, &mut out);
                } else {
                    out.push(Event::Want { file, want: Want::Content });
                }
            }
            Job::Failed { file, code, text } => {
                assert!(!self.waiting.contains(&file), "a complete file failed");
                if !self.told.contains(&file) {
                    self.settle(file, Outcome::Failed { code, text }, &mut out);
                }
            }
            Job::RawPiece(_) | Job::RawEnd { .. } => unreachable!("nothing goes over a raw flow here"),
            Job::Sums { .. } => unreachable!("this target repairs nothing"),
            Job::Listed | Job::Idle | Job::Resumable { .. } | Job::Work | Job::Checkpoint => {}
        }
        out
    }

    fn decide(&mut self, file: u64, plan: &Plan, is_eager: bool, out: &mut Vec<Event>) {
        match plan.answer {
            _ if !plan.has_content() => self.waiting.push(file),
            Answer::Keep => self.settle(file, Outcome::Kept, out),
            _ if is_eager => {}
            Answer::Take => out.push(Event::Want { file, want: Want::Content }),
            Answer::CompareEqual | Answer::CompareDifferent => {
                out.push(Event::Want { file, want: Want::Digest });
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a test's helper")]
    fn place(
        &mut self,
        file: u64,
        plans: &[Plan],
        offset: u64,
        len: u64,
        bytes: Option<&[u8]>,
        seen: &mut Seen,
        out: &mut Vec<Event>,
    ) {
        assert!(file < self.announced, "content before its entry");
        let plan = &plans[usize::try_from(file).unwrap()];
        if self.told.contains(&file) {
            seen.discarded += 1;
            return;
        }
        let whole = self.files.entry(file).or_insert_with(|| vec![None; usize::try_from(plan.size).unwrap()]);
        let wanted =
            if bytes.is_some() { content(file, offset, len) } else { vec![0; usize::try_from(len).unwrap()] };
        assert!(bytes.is_none_or(|bytes| bytes == wanted), "wrong bytes");
        for (at, byte) in (usize::try_from(offset).unwrap()..).zip(wanted) {
            assert!(whole[at].replace(byte).is_none(), "byte {at} of {file} was placed twice");
        }
        let placed = self.placed.entry(file).or_default();
        *placed += len;
        if plan.target_fails_at.is_some_and(|at| *placed > at) {
            seen.failed_at_receiver += 1;
            self.settle(file, Outcome::Failed { code: Code::NoSpace, text: String::new() }, out);
        }
    }

    /// What waits for a sync gets it.
    fn sync(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        for file in std::mem::take(&mut self.waiting) {
            self.settle(file, Outcome::Done, &mut out);
        }
        out
    }

    fn settle(&mut self, file: u64, outcome: Outcome, out: &mut Vec<Event>) {
        assert!(self.told.insert(file));
        out.push(Event::Outcome { file, outcome });
    }

    fn is_whole(&self, file: u64, plan: &Plan) -> bool {
        !plan.has_content() || self.placed.get(&file).copied().unwrap_or(0) == plan.size
    }
}

/// Splitmix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.deaths += other.deaths;
        self.sent_again += other.sent_again;
        self.overtook_entry += other.overtook_entry;
        self.discarded += other.discarded;
        self.told_by_sender += other.told_by_sender;
        self.told_by_receiver += other.told_by_receiver;
        self.failed_at_sender += other.failed_at_sender;
        self.failed_at_receiver += other.failed_at_receiver;
    }
}

/// What stands there in a file.
fn content(file: u64, offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|at| (at ^ (at >> 7) ^ file.wrapping_mul(31)).to_le_bytes()[0] | 1).collect()
}

fn data(file: u64, offset: u64, len: u64, keep: bool) -> Piece {
    let bytes = content(file, offset, len);
    Piece::Data { file, offset, crc: crc32c(&bytes), bytes, keep }
}

/// Longest piece of a file, bytes.
const PIECE_MAX: u64 = 200;
/// Far more than any seed needs.
const STEPS_MAX: usize = 200_000;

// --- Rules that a receiver breaks ----------------------------------------------------------------------------

#[test]
fn a_receiver_wants_only_content_that_there_is_and_only_once() {
    // protocol.md [WANT-1]
    let mut sender = sending(&[file(5), Kind::Dir]);
    sender.handle_frame(want(0, Want::Content)).unwrap();

    assert_violation(sender.handle_frame(want(0, Want::Content)));
    assert_violation(sender.handle_frame(want(1, Want::Content)));
    assert_violation(sender.handle_frame(want(1, Want::Digest)));
    assert_violation(sender.handle_frame(want(2, Want::Content)));
}

#[test]
fn after_a_digest_a_receiver_may_want_the_content() {
    // protocol.md [WANT-1]
    let mut sender = sending(&[file(5)]);
    sender.handle_frame(want(0, Want::Digest)).unwrap();
    assert_violation(sender.handle_frame(want(0, Want::Content)));

    sender.on_piece(Piece::Digest(end(0, 5)));

    assert_violation(sender.handle_frame(want(0, Want::Digest)));
    sender.handle_frame(want(0, Want::Content)).unwrap();
    assert_violation(sender.handle_frame(want(0, Want::Digest)));
}

#[test]
fn a_file_that_was_given_up_is_not_done() {
    // protocol.md [OUTCOME-2]
    let mut sender = sending(&[file(5)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.on_piece(Piece::Failed { file: 0, code: Code::File, text: String::new() });

    let done = Outcomes { outcomes: vec![(0, Outcome::Done)] };

    assert_violation(sender.handle_frame(Frame::Message(Message::Outcomes(done))));
}

#[test]
fn nobody_wants_the_digest_of_a_stream() {
    // protocol.md [WANT-2]
    let mut sender = sending(&[Kind::Stream]);

    assert_violation(sender.handle_frame(want(0, Want::Digest)));
}

#[test]
fn an_eager_sender_reads_at_once_and_is_asked_for_nothing() {
    // protocol.md [WANT-3]
    let mut sender = Sender::new(true);
    sender.announce(vec![(entry(file(5)), 0), (entry(Kind::Dir), 1)]);

    assert!(matches!(sender.poll_job(), Some(ReadJob::Content { file: 0, .. })));
    assert!(sender.poll_job().is_none());
    assert_violation(sender.handle_frame(want(0, Want::Content)));
}

#[test]
fn credit_only_grows() {
    // protocol.md [CREDIT-2]
    let mut sender = sending(&[file(5)]);
    sender.handle_frame(credit(100, &[])).unwrap();
    sender.handle_frame(credit(100, &[])).unwrap();

    assert_violation(sender.handle_frame(credit(99, &[])));
}

#[test]
fn a_sender_keeps_to_the_credit_to_the_byte() {
    // protocol.md [CREDIT-1]
    let mut sender = sending(&[file(5)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.on_piece(data(0, 0, 5, false));

    assert!(drain(&mut sender).is_empty());
    sender.handle_frame(credit(4, &[])).unwrap();
    assert!(drain(&mut sender).is_empty());
    sender.handle_frame(credit(5, &[])).unwrap();
    assert!(matches!(drain(&mut sender)[..], [Frame::Data { file: 0, offset: 0, .. }]));
}

#[test]
fn only_what_was_sent_can_be_placed_and_only_once() {
    // protocol.md [DATA-4]
    let mut sender = sending(&[file(9)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.handle_frame(credit(100, &[])).unwrap();
    sender.on_piece(data(0, 0, 5, false));
    sender.on_piece(data(0, 5, 4, false));
    drain(&mut sender);
    sender.handle_frame(credit(100, &[(0, 0, 5)])).unwrap();

    assert_violation(sender.handle_frame(credit(100, &[(0, 0, 5)])));
    assert_violation(sender.handle_frame(credit(100, &[(0, 5, 3)])));
    assert_violation(sender.handle_frame(credit(100, &[(1, 5, 4)])));
}

#[test]
fn an_entry_has_one_outcome() {
    // protocol.md [OUTCOME-1]
    let mut sender = sending(&[Kind::Dir]);
    sender.handle_frame(outcome(0, Outcome::Done)).unwrap();

    assert_violation(sender.handle_frame(outcome(0, Outcome::Done)));
    assert_violation(sender.handle_frame(outcome(1, Outcome::Kept)));
    assert!(sender.poll_outcome().is_some() && sender.poll_outcome().is_none());
}

#[test]
fn a_file_is_done_only_when_it_was_sent_to_its_end() {
    // protocol.md [OUTCOME-2]
    let mut early = sending(&[file(0)]);
    let mut sending_still = sending(&[file(0)]);
    sending_still.handle_frame(want(0, Want::Content)).unwrap();
    let mut sent = sending(&[file(0)]);
    sent.handle_frame(want(0, Want::Content)).unwrap();
    sent.on_piece(Piece::End(end(0, 0)));

    assert_violation(early.handle_frame(outcome(0, Outcome::Done)));
    assert_violation(sending_still.handle_frame(outcome(0, Outcome::Done)));
    sent.handle_frame(outcome(0, Outcome::Done)).unwrap();
}

#[test]
fn a_receipt_answers_finish_and_nothing_else() {
    // protocol.md [END-2]
    let receipt = || Frame::Message(Message::Receipt(Receipt::default()));
    let mut sender = sending(&[Kind::Dir]);
    sender.on_listed(Listed { entries: 1, ..Listed::default() });
    drain(&mut sender);
    assert_violation(sender.handle_frame(receipt()));
    sender.handle_frame(outcome(0, Outcome::Done)).unwrap();
    assert_violation(sender.handle_frame(receipt()));

    assert!(matches!(drain(&mut sender)[..], [Frame::Message(Message::Finish(_))]));

    sender.handle_frame(receipt()).unwrap();
    assert!(sender.end().is_some());
    assert_violation(sender.handle_frame(receipt()));
}

#[test]
fn a_receiver_cannot_have_received_more_than_was_sent_on_a_connection() {
    // protocol.md [STREAM-3]
    let mut sender = sending(&[file(5)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.handle_frame(credit(100, &[])).unwrap();
    sender.on_piece(data(0, 0, 5, false));
    drain(&mut sender);
    assert!(sender.poll_frame(1).is_none(), "all of it went over the control connection");

    assert_violation(sender.handle_frame(stream_end(1, 1)));
    assert_violation(sender.handle_frame(stream_end(2, 5)));
}

#[test]
fn what_was_lost_with_a_connection_costs_no_credit() {
    // protocol.md [STREAM-3]
    let mut sender = sending(&[file(9)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.handle_frame(credit(9, &[])).unwrap();
    sender.on_piece(data(0, 0, 5, false));
    sender.on_piece(data(0, 5, 4, true));
    drain(&mut sender);
    let mut sender = sending(&[file(9)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    assert!(matches!(sender.poll_job(), Some(ReadJob::Content { .. })));
    sender.handle_frame(credit(9, &[])).unwrap();
    drain(&mut sender);
    sender.on_piece(data(0, 0, 5, false));
    sender.on_piece(data(0, 5, 4, true));
    assert!(sender.poll_frame(3).is_some() && sender.poll_frame(3).is_some());

    sender.on_carrier_down(3);
    assert!(matches!(
        drain(&mut sender)[..],
        [Frame::Message(Message::StreamEnd(StreamEnd { stream: 3, .. }))]
    ));
    assert!(sender.poll_frame(3).is_none());
    sender.handle_frame(credit(9, &[(0, 0, 5)])).unwrap();
    sender.handle_frame(stream_end(3, 5)).unwrap();

    assert_eq!(sender.sent_bytes(), 5);
    assert!(matches!(drain(&mut sender)[..], [Frame::Data { file: 0, offset: 5, .. }]), "it was kept");
    assert!(sender.poll_job().is_none());
}

#[test]
fn what_was_lost_is_read_again_before_the_rest_of_a_file() {
    let mut sender = sending(&[file(9), file(9), file(9)]);
    sender.handle_frame(credit(9, &[])).unwrap();
    (0..3).for_each(|file| sender.handle_frame(want(file, Want::Content)).unwrap());
    assert!(sender.poll_again().is_none(), "nothing is lost");
    (0..2).for_each(|_| drop(sender.poll_job()));
    sender.on_piece(data(0, 0, 5, false));
    sender.on_piece(data(1, 0, 4, false));
    while sender.poll_frame(3).is_some() {}

    sender.handle_frame(stream_end(3, 0)).unwrap();
    sender.handle_frame(outcome(1, failure())).unwrap();

    assert!(matches!(sender.poll_again(), Some(ReadJob::Again { file: 0, offset: 0, len: 5, .. })));
    assert!(sender.poll_again().is_none(), "of a file with an outcome nothing is read, nor is another begun");
    assert!(matches!(sender.poll_job(), Some(ReadJob::Content { file: 2, .. })));
}

#[test]
fn what_was_kept_of_a_file_that_failed_is_let_go_with_its_connection() {
    let mut sender = sending(&[Kind::Stream]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.handle_frame(credit(5, &[])).unwrap();
    drain(&mut sender);
    sender.on_piece(data(0, 0, 5, true));
    assert!(sender.poll_frame(1).is_some());
    sender.handle_frame(outcome(0, failure())).unwrap();

    sender.handle_frame(stream_end(1, 0)).unwrap();

    assert_eq!(sender.held(), (0, 0, 0));
}

#[test]
fn a_receiver_sends_nothing_that_is_the_senders_to_say() {
    // protocol.md [ROLE-1]
    for frame in senders_frames().into_iter().chain(openers_frames()) {
        assert_violation(sending(&[file(5)]).handle_frame(frame));
    }
}

// --- Rules that a sender breaks ------------------------------------------------------------------------------

#[test]
fn a_sender_sends_nothing_that_is_the_receivers_to_say() {
    // protocol.md [ROLE-1], [OPEN-1]
    for frame in receivers_frames().into_iter().chain(openers_frames()) {
        assert_violation(receiving(&[file(5)]).handle_frame(CONTROL, frame));
    }
}

#[test]
fn further_connections_carry_data_and_nothing_else() {
    // protocol.md [STREAM-2]
    for frame in senders_frames() {
        let is_data = matches!(frame, Frame::Data { .. });
        let result = receiving(&[file(5)]).handle_frame(1, frame);
        assert_eq!(result.is_ok(), is_data, "{result:?}");
    }
}

#[test]
fn a_byte_beyond_the_credit_ends_the_session() {
    // protocol.md [CREDIT-1]
    let mut receiver = receiving(&[file(u64::from(u32::MAX))]);
    let window = WINDOW;

    receiver.handle_frame(1, content_of(0, 0, window)).unwrap();
    assert_violation(receiver.handle_frame(1, content_of(0, window, 1)));

    let mut unasked = Receiver::new(WINDOW);
    assert_violation(unasked.handle_frame(CONTROL, content_of(0, 0, 1)));
}

#[test]
fn credit_comes_back_with_placement_and_never_falls_with_the_window() {
    // protocol.md [CREDIT-2], [CREDIT-3]
    let mut receiver = receiving(&[file(u64::from(u32::MAX))]);
    receiver.handle_frame(1, content_of(0, 0, WINDOW)).unwrap();
    assert_eq!(granted(&mut receiver), None, "nothing is placed");

    receiver.set_window_max(WINDOW / 2);
    receiver.on_event(placed(0, 0, WINDOW));

    assert_eq!(granted(&mut receiver), Some(WINDOW + WINDOW / 2));
    receiver.set_window_max(1);
    receiver.handle_frame(1, content_of(0, WINDOW, 1)).unwrap();
    receiver.on_event(placed(0, WINDOW, 1));
    assert_eq!(granted(&mut receiver), Some(WINDOW + WINDOW / 2));
}

#[test]
fn what_waits_for_its_turn_takes_of_the_window_but_for_its_least() {
    // protocol.md [CREDIT-2], [CREDIT-3]
    let (least, piece) = (limits::CREDIT_MIN_BYTES, limits::CHUNK_BYTES as u64);
    let (mut receiver, mut received) = (Receiver::new(4 * least), 0);
    receiver.handle_frame(CONTROL, entries(0, vec![entry(file(1 << 40))])).unwrap();
    granted(&mut receiver);
    let mut window_with = |held: u64| {
        receiver.on_event(Event::Held { bytes: held });
        // The window grows; credit that was granted before is used up.
        loop {
            receiver.handle_frame(CONTROL, content_of(0, received, piece)).unwrap();
            receiver.on_event(placed(0, received, piece));
            received += piece;
            let window = granted(&mut receiver).unwrap() - received;
            if received.is_multiple_of(16 * least) {
                return window;
            }
        }
    };

    assert_eq!(window_with(0), 4 * least);
    assert_eq!(window_with(least), 3 * least);
    assert_eq!(window_with(4 * least), least);
    assert_eq!(window_with(u64::MAX), least);
    assert_eq!(window_with(0), 4 * least);
}

#[test]
fn a_window_of_a_few_bytes_is_granted_once() {
    for window in 0..=5 {
        let mut receiver = Receiver::new(window);

        let told: Vec<_> = std::iter::from_fn(|| receiver.poll_frame()).take(2).collect();

        let granted = Frame::Feedback { credit: window, placed: Vec::new() };
        assert_eq!(told, vec![granted; usize::from(window > 0)], "{window} bytes");
    }
}

#[test]
fn the_window_grows_while_the_target_keeps_up_and_not_while_data_waits() {
    // protocol.md [CREDIT-3]: it never is below the least.
    let least = limits::CREDIT_MIN_BYTES;
    let piece = limits::CHUNK_BYTES as u64;
    let window_after = |bytes: u64, waiting: u64| {
        let mut receiver = Receiver::new(4 * least);
        receiver.handle_frame(CONTROL, entries(0, vec![entry(file(1 << 40))])).unwrap();
        let mut window = granted(&mut receiver).unwrap();
        for step in 0..(bytes / piece) {
            receiver.handle_frame(CONTROL, content_of(0, step * piece, piece)).unwrap();
            if let Some(done) = step.checked_sub(waiting) {
                receiver.on_event(placed(0, done * piece, piece));
                window = granted(&mut receiver).unwrap() - (done + 1) * piece;
            }
        }
        window
    };

    assert_eq!(window_after(least - piece, 0), least);
    assert_eq!(window_after(least, 0), 2 * least);
    assert_eq!(window_after(64 * least, 0), 4 * least, "it has grown to its bound");
    assert_eq!(window_after(least, 1), 2 * least, "one chunk waits and one is being placed: half a window");
    assert_eq!(window_after(64 * least, 2), least, "the target is behind");
    assert_eq!(window_after(3 * least, 3), least);
}

#[test]
fn a_sender_that_does_not_read_its_outcomes_is_not_read_either() {
    let mut receiver = Receiver::new(WINDOW);
    let mut number = 0;
    while !receiver.is_congested() {
        assert!(number <= 2 * limits::OPEN_ENTRIES_MAX as u64, "this goes on for ever");
        receiver.handle_frame(CONTROL, entries(number, vec![entry(Kind::Dir)])).unwrap();
        while receiver.poll_job().is_some() {}
        receiver.on_event(Event::Outcome { file: number, outcome: Outcome::Done });
        number += 1;
    }

    while receiver.poll_frame().is_some() {}

    assert!(!receiver.is_congested());
}

#[test]
fn entries_are_numbered_without_a_gap_and_end_with_the_listing() {
    // protocol.md [ENTRY-1]
    let batch = |first| entries(first, vec![entry(Kind::Dir)]);

    assert_violation(receiving(&[file(5)]).handle_frame(CONTROL, batch(0)));
    assert_violation(receiving(&[file(5)]).handle_frame(CONTROL, batch(2)));
    let mut receiver = receiving(&[file(5)]);
    receiver.handle_frame(CONTROL, batch(1)).unwrap();
    receiver.handle_frame(CONTROL, listed(2)).unwrap();
    assert_violation(receiver.handle_frame(CONTROL, batch(2)));
}

#[test]
fn entries_without_an_outcome_are_bounded_just_there() {
    // protocol.md [ENTRY-2]
    let mut receiver = Receiver::new(WINDOW);
    let batch = |first| entries(first, vec![entry(Kind::Dir); limits::ENTRIES_PER_BATCH]);
    let mut first = 0;
    while first < limits::OPEN_ENTRIES_MAX as u64 {
        receiver.handle_frame(CONTROL, batch(first)).unwrap();
        first += limits::ENTRIES_PER_BATCH as u64;
    }

    assert_violation(receiver.handle_frame(CONTROL, entries(first, vec![entry(Kind::Dir)])));
    receiver.on_event(Event::Outcome { file: 7, outcome: Outcome::Done });
    receiver.handle_frame(CONTROL, entries(first, vec![entry(Kind::Dir)])).unwrap();
}

#[test]
fn a_sender_waits_while_so_many_entries_are_open() {
    // protocol.md [ENTRY-2]
    let mut sender = Sender::new(false);
    let mut announced = 0;
    while sender.room_for_entries() > 0 {
        let room = sender.room_for_entries();
        sender.announce(vec![(entry(Kind::Dir), 0); room]);
        announced += room;
        drain(&mut sender);
    }

    assert_eq!(announced, limits::OPEN_ENTRIES_MAX);
    sender.handle_frame(outcome(3, Outcome::Done)).unwrap();
    assert_eq!(sender.room_for_entries(), 1);
}

#[test]
fn the_listing_ends_once_and_with_the_right_count() {
    // protocol.md [ENTRY-5]
    assert_violation(receiving(&[file(5)]).handle_frame(CONTROL, listed(0)));
    assert_violation(receiving(&[file(5)]).handle_frame(CONTROL, listed(2)));
    let mut receiver = receiving(&[file(5)]);
    receiver.handle_frame(CONTROL, listed(1)).unwrap();
    assert_violation(receiver.handle_frame(CONTROL, listed(1)));
    assert_violation(receiver.handle_frame(1, content_of(1, 0, 1)));

    let mut early = receiving(&[file(5)]);
    early.handle_frame(1, content_of(1, 0, 1)).unwrap();
    assert_violation(early.handle_frame(CONTROL, listed(1)));
}

#[test]
fn data_may_overtake_its_entry_and_a_hole_may_not() {
    // protocol.md [DATA-3]
    let mut receiver = receiving(&[file(5)]);
    jobs(&mut receiver);

    receiver.handle_frame(1, content_of(1, 0, 5)).unwrap();
    assert!(jobs(&mut receiver).is_empty());
    receiver.handle_frame(CONTROL, entries(1, vec![entry(file(5))])).unwrap();

    assert!(matches!(jobs(&mut receiver)[..], [Job::Entries { first: 1, .. }, Job::Data { file: 1, .. }]));
    let hole = Frame::Hole(Placed { file: 2, offset: 0, len: 1 });
    assert_violation(receiver.handle_frame(CONTROL, hole));
}

#[test]
fn content_ahead_of_its_entries_is_bounded_just_there() {
    // protocol.md [DATA-3]
    let mut receiver = Receiver::new(limits::CREDIT_MIN_BYTES);
    granted(&mut receiver);
    for offset in 0..limits::BACKLOG_MAX_FRAMES as u64 {
        receiver.handle_frame(1, content_of(0, offset, 1)).unwrap();
    }

    assert_violation(receiver.handle_frame(1, content_of(0, limits::BACKLOG_MAX_FRAMES as u64, 1)));
}

#[test]
fn what_cannot_be_announced_is_told_before_the_end_of_the_listing() {
    // protocol.md [ENTRY-7]
    let unlisted = Unlisted { name: b"nope".to_vec(), code: Code::NotFound, text: String::new() };
    let mut sender = sending(&[Kind::Dir]);
    let room = sender.room_for_entries();

    sender.on_unlisted(unlisted.clone());
    assert!(sender.room_for_entries() <= room, "it waits in the place of an entry");
    sender.on_listed(Listed { entries: 1, ..Listed::default() });

    let told = drain(&mut sender);
    assert_eq!(told, [Frame::Message(Message::Unlisted(unlisted)), listed(1)]);
}

#[test]
fn only_files_and_streams_have_content() {
    // protocol.md [DATA-5]
    for kind in [Kind::Dir, Kind::Symlink { target: b"x".to_vec() }, Kind::Hardlink { file: 0 }] {
        assert_violation(receiving(&[kind]).handle_frame(1, content_of(0, 0, 1)));
    }
    for kind in [file(1), Kind::Stream] {
        receiving(&[kind]).handle_frame(1, content_of(0, 0, 1)).unwrap();
    }
}

#[test]
fn the_end_of_a_file_waits_for_its_content() {
    // protocol.md [FILE-1]
    let mut receiver = receiving(&[file(5)]);
    jobs(&mut receiver);
    receiver.handle_frame(CONTROL, Frame::FileEnd(end(0, 5))).unwrap();
    receiver.handle_frame(1, content_of(0, 2, 3)).unwrap();
    assert!(matches!(jobs(&mut receiver)[..], [Job::Data { .. }]));

    receiver.handle_frame(2, content_of(0, 0, 2)).unwrap();

    assert!(matches!(jobs(&mut receiver)[..], [Job::Data { .. }, Job::End { file: 0, size: 5, .. }]));
}

#[test]
fn a_file_ends_once_and_nothing_follows() {
    // protocol.md [FILE-2]
    let mut twice = receiving(&[file(5)]);
    twice.handle_frame(CONTROL, Frame::FileEnd(end(0, 5))).unwrap();
    assert_violation(twice.handle_frame(CONTROL, Frame::FileEnd(end(0, 5))));

    let mut more = receiving(&[file(0)]);
    more.handle_frame(CONTROL, Frame::FileEnd(end(0, 0))).unwrap();
    assert_violation(more.handle_frame(1, content_of(0, 0, 1)));
}

#[test]
fn nothing_is_said_about_entries_that_were_never_announced() {
    // protocol.md [FILE-6]
    let failed =
        Frame::Message(Message::FileFailed(FileFailed { file: 1, code: Code::File, text: String::new() }));

    for frame in [Frame::FileEnd(end(1, 0)), Frame::FileDigest(end(1, 0)), failed] {
        assert_violation(receiving(&[file(5)]).handle_frame(CONTROL, frame));
    }
}

#[test]
fn what_is_said_about_an_entry_that_has_its_outcome_is_ignored() {
    // protocol.md [FILE-6], [FILE-7]
    let mut receiver = receiving(&[file(5)]);
    jobs(&mut receiver);
    receiver.on_event(Event::Outcome { file: 0, outcome: failure() });

    receiver.handle_frame(CONTROL, Frame::FileEnd(end(0, 5))).unwrap();
    receiver.handle_frame(1, content_of(0, 0, 5)).unwrap();

    assert!(jobs(&mut receiver).is_empty());
    assert_eq!(receiver.unplaced_bytes(), 0);
}

#[test]
fn a_sender_finishes_once_when_every_entry_has_its_outcome() {
    // protocol.md [END-1]
    let finish = || Frame::Message(Message::Finish(Finish::default()));
    let mut receiver = receiving(&[file(5)]);
    assert_violation(receiver.handle_frame(CONTROL, finish()));
    receiver.handle_frame(CONTROL, listed(1)).unwrap();
    assert_violation(receiver.handle_frame(CONTROL, finish()));
    receiver.on_event(Event::Outcome { file: 0, outcome: failure() });

    receiver.handle_frame(CONTROL, finish()).unwrap();
    assert_violation(receiver.handle_frame(CONTROL, finish()));
}

#[test]
fn the_last_word_about_a_connection_follows_the_placement_of_what_it_brought() {
    // protocol.md [STREAM-3]
    let mut receiver = receiving(&[file(9)]);
    receiver.handle_frame(4, content_of(0, 0, 5)).unwrap();
    receiver.handle_frame(CONTROL, stream_end(4, 0)).unwrap();
    receiver.handle_frame(4, content_of(0, 5, 4)).unwrap();
    assert_eq!(receiver.received_bytes(), 5, "what still comes of it is dropped");
    assert_eq!(answers(&mut receiver), []);

    receiver.on_event(placed(0, 0, 5));

    let range = Placed { file: 0, offset: 0, len: 5 };
    let feedback = Frame::Feedback { credit: WINDOW + 5, placed: vec![range] };
    assert_eq!(answers(&mut receiver), [feedback, stream_end(4, 5)]);
}

#[test]
fn a_flow_ends_as_a_connection_does_and_what_came_in_whole_chunks_counts() {
    // protocol.md [FLOW-5], [STREAM-3]
    const FLOW: Carrier = limits::FLOW_NUMBER_MIN + 1;
    let (mut sender, mut receiver) = (sending(&[file(9)]), receiving(&[file(9)]));
    sender.handle_frame(want(0, Want::Content)).unwrap();
    assert!(matches!(sender.poll_job(), Some(ReadJob::Content { .. })));
    sender.handle_frame(credit(9, &[])).unwrap();
    drain(&mut sender);
    sender.set_only(Some(FLOW));
    sender.on_piece(data(0, 0, 5, false));
    sender.on_piece(data(0, 5, 4, true));
    assert!(sender.poll_frame(FLOW).is_some() && sender.poll_frame(FLOW).is_some());
    receiver.handle_frame(FLOW, content_of(0, 0, 5)).unwrap();

    sender.on_carrier_down(FLOW);
    assert_eq!(drain(&mut sender), [stream_end(FLOW, 0)]);
    receiver.handle_frame(CONTROL, stream_end(FLOW, 0)).unwrap();
    receiver.handle_frame(FLOW, content_of(0, 5, 4)).unwrap();
    receiver.on_event(placed(0, 0, 5));

    let range = Placed { file: 0, offset: 0, len: 5 };
    let feedback = Frame::Feedback { credit: WINDOW + 5, placed: vec![range] };
    assert_eq!(answers(&mut receiver), [feedback.clone(), stream_end(FLOW, 5)]);
    sender.handle_frame(feedback).unwrap();
    sender.handle_frame(stream_end(FLOW, 5)).unwrap();
    sender.set_only(None);
    assert_eq!(sender.sent_bytes(), 5);
    assert!(
        matches!(drain(&mut sender)[..], [Frame::Data { file: 0, offset: 5, .. }]),
        "the rest goes elsewhere"
    );
}

#[test]
fn what_a_flow_tells_first_feedback_tells_once_more() {
    // protocol.md [ACK-4], [DATA-4], [CREDIT-2]
    const FLOW: Carrier = limits::FLOW_NUMBER_MIN;
    let mut sender = sending(&[file(9)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.handle_frame(credit(5, &[])).unwrap();
    drain(&mut sender);
    sender.set_only(Some(FLOW));
    sender.on_piece(data(0, 0, 5, true));
    sender.on_piece(data(0, 5, 4, true));
    assert!(sender.poll_frame(FLOW).is_some() && sender.poll_frame(FLOW).is_none());

    sender.on_flow_credit(9);
    sender.on_flow_placed(0, 0);
    sender.on_flow_placed(0, 0);
    assert_eq!(sender.placed_bytes(), 5);
    assert!(sender.poll_frame(FLOW).is_some(), "its credit holds at once");

    sender.handle_frame(credit(6, &[])).unwrap();
    sender.handle_frame(credit(7, &[(0, 0, 5)])).unwrap();
    assert_eq!(sender.placed_bytes(), 5, "it was counted");
    assert_violation(sender.handle_frame(credit(7, &[(0, 0, 5)])));
    assert_violation(sender.handle_frame(credit(6, &[])));
}

#[test]
fn what_a_flow_has_told_late_is_not_sent_again_though_the_control_connection_lost_it() {
    // protocol.md [REJOIN-4]; a stream cannot be read again.
    const FLOW: Carrier = limits::FLOW_NUMBER_MIN;
    let mut sender = sending(&[Kind::Stream]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.handle_frame(credit(100, &[])).unwrap();
    assert!(sender.poll_job().is_some(), "to read it");
    sender.set_only(Some(FLOW));
    sender.on_piece(data(0, 0, 5, true));
    assert!(sender.poll_frame(FLOW).is_some());
    sender.on_carrier_down(FLOW);
    sender.set_only(None);
    sender.handle_frame(stream_end(FLOW, 0)).unwrap();
    assert!(
        drain(&mut sender).iter().any(|frame| matches!(frame, Frame::Data { .. })),
        "it is sent once more"
    );

    sender.on_flow_placed(0, 0);
    sender.on_content_lost(0, 0);

    assert!(sender.poll_job().is_none(), "nothing is read again");
    assert_eq!((sender.sent_bytes(), sender.placed_bytes()), (0, 5));
    sender.handle_frame(credit(105, &[(0, 0, 5)])).unwrap();
}

const WINDOW: u64 = 1000;

/// A sender that has announced these.
fn sending(kinds: &[Kind]) -> Sender<u64> {
    let mut sender = Sender::new(false);
    sender.announce((0..).zip(kinds).map(|(i, kind)| (entry(kind.clone()), i)).collect());
    drain(&mut sender);
    sender
}

/// A receiver that has granted its window and to which these were announced.
fn receiving(kinds: &[Kind]) -> Receiver {
    let mut receiver = Receiver::new(WINDOW);
    assert_eq!(granted(&mut receiver), Some(WINDOW));
    let batch = kinds.iter().cloned().map(entry).collect();
    receiver.handle_frame(CONTROL, entries(0, batch)).unwrap();
    receiver
}

/// One frame of each kind that a sender sends.
fn senders_frames() -> Vec<Frame> {
    vec![
        content_of(0, 0, 5),
        Frame::Hole(Placed { file: 0, offset: 0, len: 5 }),
        Frame::FileEnd(end(0, 5)),
        Frame::FileDigest(end(0, 5)),
        entries(1, vec![entry(Kind::Dir)]),
        listed(1),
        Frame::Message(Message::FileFailed(FileFailed { file: 0, code: Code::File, text: String::new() })),
        Frame::Message(Message::Finish(Finish::default())),
        Frame::Message(Message::Sums(Sums { file: 0, first: 0, sums: vec![0] })),
    ]
}

/// One frame of each kind that a receiver sends.
fn receivers_frames() -> Vec<Frame> {
    vec![
        credit(1, &[]),
        want(0, Want::Content),
        outcome(0, Outcome::Kept),
        Frame::Message(Message::Resume(Resume { file: 0, kept: Vec::new() })),
        Frame::Message(Message::Check(Check { file: 0, first: 0, count: 1 })),
        Frame::Message(Message::Receipt(Receipt::default())),
    ]
}

/// Frames that belong to an opening, or to the connection.
fn openers_frames() -> Vec<Frame> {
    let intent = Intent::Push { target: Vec::new() };
    let open = Open {
        intent,
        digest: DigestKind::Sha256,
        overwrite: Overwrite::Never,
        checksum: false,
        dry_run: false,
    };
    vec![Frame::Message(Message::Open(open)), Frame::Message(Message::Ping(Ping { number: 0 }))]
}

fn entry(kind: Kind) -> Entry {
    Entry { source: 0, name: b"n".to_vec(), mode: 0o644, mtime: Mtime { secs: 0, nanos: 0 }, kind }
}

fn file(size: u64) -> Kind {
    Kind::File { size, sparse: false, linked: false }
}

fn end(file: u64, size: u64) -> FileEnd {
    FileEnd { file, size, digest: [0; 32] }
}

fn failure() -> Outcome {
    Outcome::Failed { code: Code::NoSpace, text: String::new() }
}

fn want(file: u64, want: Want) -> Frame {
    Frame::Message(Message::Wants(Wants { wants: vec![(file, want)] }))
}

fn outcome(file: u64, outcome: Outcome) -> Frame {
    Frame::Message(Message::Outcomes(Outcomes { outcomes: vec![(file, outcome)] }))
}

fn credit(credit: u64, placed: &[(u64, u64, u64)]) -> Frame {
    let placed = placed.iter().map(|&(file, offset, len)| Placed { file, offset, len }).collect();
    Frame::Feedback { credit, placed }
}

fn stream_end(stream: u16, received: u64) -> Frame {
    Frame::Message(Message::StreamEnd(StreamEnd { stream, received }))
}

fn entries(first: u64, entries: Vec<Entry>) -> Frame {
    Frame::Message(Message::Entries(Entries { first, entries }))
}

fn listed(entries: u64) -> Frame {
    Frame::Message(Message::Listed(Listed { entries, ..Listed::default() }))
}

fn content_of(file: u64, offset: u64, len: u64) -> Frame {
    Frame::Data { file, offset, bytes: content(file, offset, len) }
}

fn placed(file: u64, offset: u64, len: u64) -> Event {
    Event::Placed { file, offset, len, buffer: Vec::with_capacity(1) }
}

fn assert_violation(result: Result<(), Violation>) {
    result.expect_err("this is against the rules and was taken");
}

/// Everything that waits for the control connection.
fn drain(sender: &mut Sender<u64>) -> Vec<Frame> {
    std::iter::from_fn(|| sender.poll_frame(CONTROL)).collect()
}

fn jobs(receiver: &mut Receiver) -> Vec<Job> {
    std::iter::from_fn(|| receiver.poll_job()).collect()
}

fn answers(receiver: &mut Receiver) -> Vec<Frame> {
    std::iter::from_fn(|| receiver.poll_frame()).collect()
}

/// The credit that waits to be told, which never falls.
fn granted(receiver: &mut Receiver) -> Option<u64> {
    let credits = answers(receiver).into_iter().filter_map(|frame| match frame {
        Frame::Feedback { credit, .. } => Some(credit),
        _ => None,
    });
    credits.max()
}
