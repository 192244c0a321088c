//! The receiving side of a session against a sender that does as it likes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use haul::limits;
use haul::transfer::raw::{Lack, RawPiece};
use haul::transfer::{CONTROL, Carrier, Event, Job, Receiver, Violation};
use haul::wire::frame::{Frame, Placed};
use haul::wire::message::{Entry, Kind, Message, Outcome, RawReport, Want};

use super::bytes::Bytes;
use super::frame_of::{self, CARRIERS};

/// Frames in any order, and a target that does what it may: nothing but the granted credit is taken, the target hears of
/// an entry before its content and of an end behind it, every piece is told placed once, every lost carrier once, and
/// what breaks the protocol ends the session.
pub fn receiver(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut session = Session::new(&mut bytes);
    while !bytes.is_empty() {
        if session.step(&mut bytes).is_err() {
            return;
        }
    }
    session.come_to_rest();
}

struct Session {
    receiver: Receiver,
    target: FakeTarget,
    events: VecDeque<Event>,
    raw: Option<Carrier>,
    is_reported: bool,
    /// What the sender was told that it may send.
    credit: u64,
    /// The most that may ever have been unplaced.
    window_max: u64,
    /// Content and holes that were taken and not told placed, with how often.
    taken: BTreeMap<(u64, u64, u64), usize>,
    down: BTreeSet<Carrier>,
    told_down: BTreeSet<Carrier>,
    outcomes_told: BTreeSet<u64>,
    has_receipt: bool,
}

impl Session {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let window = bytes.one_of(&[1, 300, 10_000, limits::CREDIT_MAX_BYTES]);
        let mut receiver = Receiver::new(window);
        let raw = bytes.coin().then_some(limits::FLOW_NUMBER_MIN);
        if let Some(carrier) = raw {
            receiver.set_raw(carrier).expect("nothing was before");
        }
        Self {
            receiver,
            target: FakeTarget::default(),
            events: VecDeque::new(),
            raw,
            is_reported: false,
            credit: 0,
            window_max: window,
            taken: BTreeMap::new(),
            down: BTreeSet::new(),
            told_down: BTreeSet::new(),
            outcomes_told: BTreeSet::new(),
            has_receipt: false,
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Violation> {
        match bytes.below(12) {
            0..=4 => self.hear(bytes)?,
            5 | 6 => self.work(bytes),
            7 => self.tell_target(),
            8 => {
                self.tell_sender();
            }
            9 => {
                let carrier = bytes.one_of(&CARRIERS[1..]);
                if Some(carrier) != self.raw {
                    self.receiver.on_carrier_down(carrier);
                    self.down.insert(carrier);
                }
            }
            10 => {
                let window = bytes.number() % (2 * limits::CREDIT_MAX_BYTES);
                self.receiver.set_window_max(window);
                self.window_max = self.window_max.max(window);
            }
            _ => self.hear_raw(bytes)?,
        }
        // What comes over a raw flow has a window of its own.
        let windows = 1 + u64::from(self.raw.is_some());
        assert!(self.receiver.unplaced_bytes() <= windows * self.window_max);
        Ok(())
    }

    /// A frame comes.
    fn hear(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Violation> {
        let carrier = if bytes.coin() { CONTROL } else { bytes.one_of(&CARRIERS) };
        let Some(frame) = frame_of::of_sender(bytes, &self.receiver.announced()) else { return Ok(()) };
        let piece = match &frame {
            Frame::Data { file, offset, bytes } => Some((*file, *offset, bytes.len() as u64)),
            Frame::Hole(Placed { file, offset, len }) => Some((*file, *offset, *len)),
            _ => None,
        };
        let ended = match &frame {
            Frame::Message(Message::StreamEnd(end)) => Some(end.stream),
            _ => None,
        };
        let was_down = self.receiver.is_down(carrier);
        self.receiver.handle_frame(carrier, frame)?;
        if !was_down {
            self.down.extend(ended);
            if let Some(piece) = piece {
                *self.taken.entry(piece).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Content comes over a raw flow, or is given up there.
    fn hear_raw(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Violation> {
        if self.raw.is_none() {
            return Ok(());
        }
        match bytes.below(4) {
            0 => {
                for file in self.receiver.take_raw_ended() {
                    self.receiver.on_raw_overdue(file);
                }
            }
            1 => self.receiver.on_raw_overdue(frame_of::file(bytes)),
            2 if self.receiver.raw_packets().is_some() && !self.is_reported => {
                self.is_reported = true;
                self.receiver.tell_raw_report(RawReport::default());
            }
            _ => {
                let (file, offset) = (frame_of::file(bytes), bytes.number() & limits::SENT_FILE_MAX_BYTES);
                let piece = vec![bytes.byte(); 1 + bytes.below(256)];
                self.receiver.on_raw_pieces(vec![RawPiece { file, offset, bytes: piece, datagrams: 1 }])?;
            }
        }
        Ok(())
    }

    fn work(&mut self, bytes: &mut Bytes<'_>) {
        match self.receiver.poll_job() {
            Some(job) => self.target.handle(job, bytes, &mut self.events),
            None => self.target.settle_some(bytes, &mut self.events),
        }
    }

    fn tell_target(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.receiver.on_event(event);
        }
    }

    /// A frame leaves, if there is one.
    fn tell_sender(&mut self) -> bool {
        let Some(frame) = self.receiver.poll_frame() else { return false };
        frame.encode();
        match frame {
            Frame::Feedback { credit, placed } => {
                assert!(credit >= self.credit, "credit only grows");
                self.credit = credit;
                for Placed { file, offset, len } in placed {
                    let count = self.taken.get_mut(&(file, offset, len)).expect("it was taken");
                    *count -= 1;
                    if *count == 0 {
                        self.taken.remove(&(file, offset, len));
                    }
                }
            }
            Frame::Message(Message::StreamEnd(end)) => {
                assert!(self.down.contains(&end.stream));
                assert!(self.told_down.insert(end.stream), "it is told once");
            }
            Frame::Message(Message::Outcomes(outcomes)) => {
                for (file, _) in outcomes.outcomes {
                    assert!(self.outcomes_told.insert(file), "an entry has one outcome");
                }
            }
            Frame::Message(Message::Receipt(receipt)) => {
                assert!(!std::mem::replace(&mut self.has_receipt, true), "it is the last word");
                assert_eq!(receipt.done + receipt.failed, self.receiver.announced().entries);
                assert!(self.receiver.is_settled() && self.receiver.finish().is_some());
            }
            Frame::Message(Message::Wants(_) | Message::RawReport(_)) => {}
            other => panic!("a receiver does not send {other:?}"),
        }
        true
    }

    /// Nothing more comes: what was taken is worked off and told.
    fn come_to_rest(&mut self) {
        let mut none = Bytes::new(&[]);
        while let Some(job) = self.receiver.poll_job() {
            self.target.handle(job, &mut none, &mut self.events);
        }
        while !self.events.is_empty() {
            self.tell_target();
        }
        while self.tell_sender() {}
        // Only what has no entry may wait.
        let announced = self.receiver.announced().entries;
        assert!(self.taken.keys().all(|(file, _, _)| *file >= announced), "what was taken is told placed");
        if self.receiver.listed().is_some() {
            assert_eq!(self.receiver.unplaced_bytes(), 0);
            assert_eq!(self.down, self.told_down);
        }
    }
}

/// Keeps to what the receiver promises its target, and to what a target promises.
#[derive(Default)]
struct FakeTarget {
    /// Announced, by number: whether it has content.
    has_content: Vec<bool>,
    open: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    is_listed: bool,
}

impl FakeTarget {
    fn handle(&mut self, job: Job, bytes: &mut Bytes<'_>, events: &mut VecDeque<Event>) {
        match job {
            Job::Entries { first, entries } => {
                assert!(!self.is_listed && first == self.has_content.len() as u64);
                for (file, entry) in (first..).zip(entries) {
                    self.announce(file, &entry, bytes, events);
                }
            }
            Job::Data { file, offset, bytes: mut buffer } => {
                self.take(file);
                let len = buffer.len() as u64;
                buffer.clear();
                events.push_back(Event::Placed { file, offset, len, buffer });
            }
            Job::Hole { file, offset, len } => {
                self.take(file);
                events.push_back(Event::Placed { file, offset, len, buffer: Vec::new() });
            }
            Job::RawPiece(piece) => {
                self.take(piece.file);
                let (len, discarded) = (piece.bytes.len() as u64, u64::from(bytes.coin()));
                events.push_back(Event::RawPlaced { len, discarded });
            }
            Job::End { file, .. } => self.end(file, events),
            Job::RawEnd { file, size, .. } => {
                if self.open.contains(&file) {
                    let is_intact = bytes.coin();
                    let lack = Lack { bytes: size, ranges: vec![(0, size)], more_ranges: 0 };
                    let lack = if is_intact { Lack::default() } else { lack };
                    events.push_back(Event::RawEnded { file, is_intact, lack });
                }
                self.end(file, events);
            }
            Job::Digest { file, .. } => {
                self.known(file);
                if self.open.contains(&file) && bytes.coin() {
                    events.push_back(Event::Want { file, want: Want::Content });
                } else {
                    self.settle(file, Outcome::Identical, events);
                }
            }
            Job::Failed { file, code, text } => {
                self.known(file);
                self.settle(file, Outcome::Failed { code, text }, events);
            }
            Job::Listed => assert!(!std::mem::replace(&mut self.is_listed, true)),
            Job::Idle => {}
        }
    }

    fn announce(&mut self, file: u64, entry: &Entry, bytes: &mut Bytes<'_>, events: &mut VecDeque<Event>) {
        let has_content = matches!(entry.kind, Kind::File { .. } | Kind::Stream);
        self.has_content.push(has_content);
        self.open.insert(file);
        match bytes.below(8) {
            0 => self.settle(file, Outcome::Kept, events),
            1 if has_content => events.push_back(Event::Want { file, want: Want::Digest }),
            _ if has_content => events.push_back(Event::Want { file, want: Want::Content }),
            _ => {}
        }
    }

    /// Content of a file that was announced, that has content, and that has not ended.
    fn take(&mut self, file: u64) {
        self.known(file);
        assert!(self.has_content[usize::try_from(file).expect("it is known")]);
        assert!(!self.ended.contains(&file), "content behind the end");
    }

    fn end(&mut self, file: u64, events: &mut VecDeque<Event>) {
        self.known(file);
        assert!(self.ended.insert(file), "a file ends once");
        self.settle(file, Outcome::Done, events);
    }

    /// Entries get their outcome at any time.
    fn settle_some(&mut self, bytes: &mut Bytes<'_>, events: &mut VecDeque<Event>) {
        let file = frame_of::file(bytes);
        let outcome = frame_of::outcome(bytes);
        self.settle(file, outcome, events);
    }

    fn settle(&mut self, file: u64, outcome: Outcome, events: &mut VecDeque<Event>) {
        if self.open.remove(&file) {
            events.push_back(Event::Outcome { file, outcome });
        }
    }

    fn known(&self, file: u64) {
        assert!(file < self.has_content.len() as u64, "it was never announced");
    }
}
