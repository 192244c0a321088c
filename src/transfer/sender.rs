//! Decides what a sender reads and sends next.
//!
//! Entries are announced as they are listed; files become read jobs when the receiver wants them; what was read
//! waits in one queue that all carriers drain, within the receiver's credit. What is in flight on a carrier is
//! remembered until the receiver has placed it, with its CRC, so that it can be read and sent again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Announced, CONTROL, Carrier, Violation,
    raw::{RawChunk, RawOut},
};
use crate::{
    limits,
    wire::{
        frame::{FileEnd, Frame, Placed},
        message::{
            Check, Code, Entries, Entry, FileFailed, Finish, Kind, Listed, Message, Outcome, RawEnd,
            RawReport, Resume, Span, Stats, StreamEnd, Sums, Unlisted, Want,
        },
    },
};

/// What the reading side has to do, in this order.
#[derive(Debug)]
pub enum ReadJob<S> {
    /// Read the file and hand over its pieces except what the receiver has, the last one a [`Piece::End`].
    Content {
        /// Entry number.
        file: u64,
        /// What was announced with it.
        source: S,
        /// What the receiver has, ascending, neither overlapping nor touching.
        kept: Vec<Span>,
    },
    /// Read these blocks and hand over a [`Piece::Sums`].
    Sums {
        /// Entry number.
        file: u64,
        /// What was announced with it.
        source: S,
        /// Number of the first.
        first: u64,
        /// How many, at least 1; all of them are in the file.
        count: u64,
    },
    /// Read the file and hand over a [`Piece::Digest`].
    Digest {
        /// Entry number.
        file: u64,
        /// What was announced with it.
        source: S,
    },
    /// Read one range again; it must have the CRC of its first reading.
    Again {
        /// Entry number.
        file: u64,
        /// What was announced with it.
        source: S,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: usize,
        /// CRC-32C of the first reading.
        crc: u32,
    },
}

/// What the reading side hands over.
#[derive(Debug)]
pub enum Piece {
    /// Content. `keep`: the source cannot be read twice, so the bytes stay here until they are placed.
    Data {
        /// Entry number.
        file: u64,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
        /// CRC-32C of the bytes.
        crc: u32,
        /// Whether to keep a copy.
        keep: bool,
    },
    /// A range of zeros that was never written.
    Hole(Placed),
    /// The file's end.
    End(FileEnd),
    /// The digest that was asked for.
    Digest(FileEnd),
    /// The sums that were asked for.
    Sums(Sums),
    /// The file cannot be completed.
    Failed {
        /// Entry number.
        file: u64,
        /// Why.
        code: Code,
        /// Why, in words.
        text: String,
    },
}

/// How a session ended at the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderEnd {
    /// The receiver's last word.
    pub receipt: crate::wire::message::Receipt,
}

/// The sending side of a session. `S` is what the reading side needs to find a file again.
#[derive(Debug)]
pub struct Sender<S> {
    /// Send content without waiting for WANT.
    eager: bool,
    /// Content that the receiver is known not to want: nothing is read (a listing).
    listing_only: bool,
    announced: Announced,
    listed: Option<Listed>,
    /// Announced entries that still wait for the control connection.
    unsent_entries: usize,
    /// Announced entries without an outcome.
    open: BTreeMap<u64, Open<S>>,
    jobs: VecDeque<ReadJob<S>>,
    control: VecDeque<Frame>,
    chunks: VecDeque<Chunk>,
    queued_bytes: usize,
    /// Sent and not yet placed, by file and offset.
    in_flight: BTreeMap<(u64, u64), Sent>,
    kept_bytes: u64,
    /// Bytes of DATA content sent in this session, less what a dead carrier lost.
    sent_bytes: u64,
    /// By carrier: bytes of DATA content sent on it.
    sent_on: BTreeMap<Carrier, u64>,
    /// Carriers that are gone.
    down: BTreeSet<Carrier>,
    /// The only carrier that takes content, if it is not all of them.
    only: Option<Carrier>,
    /// What may be sent in all, bytes.
    credit: u64,
    /// What the last FEEDBACK said about it; a flow may have said more.
    told_credit: u64,
    /// Content that the receiver has placed, bytes, holes included.
    placed_bytes: u64,
    /// Content that it had before, bytes.
    resumed_bytes: u64,
    finish: FinishState,
    /// Content leaves over a raw flow.
    raw: Option<RawOut>,
    /// Outcomes, in the order in which they came, for who reports them.
    outcomes: VecDeque<(u64, Entry, Outcome)>,
}

#[derive(Debug)]
struct Open<S> {
    entry: Entry,
    source: S,
    state: State,
    /// It cannot be read twice.
    is_stream: bool,
    /// Blocks whose sums may still be asked for, once that was asked.
    checks_left: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Announced,
    Digesting,
    /// Its digest was told; only its content may still be wanted.
    Digested,
    Sending,
    /// All of it was handed over.
    Ended,
    /// Sums of it were asked for.
    Checking,
    /// They were told.
    Checked,
    /// It was given up.
    Failed,
}

#[derive(Debug)]
struct Chunk {
    file: u64,
    offset: u64,
    bytes: Vec<u8>,
    crc: u32,
    keep: bool,
}

#[derive(Debug)]
struct Sent {
    carrier: Carrier,
    len: u64,
    crc: u32,
    kept: Option<Vec<u8>>,
    /// A flow told that it is placed; the FEEDBACK that says so is on its way.
    is_placed: bool,
}

impl Sent {
    fn new(carrier: Carrier, len: u64, crc: u32, kept: Option<Vec<u8>>) -> Self {
        Self { carrier, len, crc, kept, is_placed: false }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FinishState {
    Open,
    Sent,
    Received(SenderEnd),
}

impl<S: Clone> Sender<S> {
    /// A sender that waits for WANT before it sends a file, or does not (`eager`).
    pub fn new(eager: bool) -> Self {
        Self {
            eager,
            listing_only: false,
            announced: Announced::default(),
            listed: None,
            unsent_entries: 0,
            open: BTreeMap::new(),
            jobs: VecDeque::new(),
            control: VecDeque::new(),
            chunks: VecDeque::new(),
            queued_bytes: 0,
            in_flight: BTreeMap::new(),
            kept_bytes: 0,
            sent_bytes: 0,
            sent_on: BTreeMap::new(),
            down: BTreeSet::new(),
            only: None,
            credit: 0,
            told_credit: 0,
            placed_bytes: 0,
            resumed_bytes: 0,
            finish: FinishState::Open,
            raw: None,
            outcomes: VecDeque::new(),
        }
    }

    /// A sender of entries only: they need no outcome.
    pub fn listing() -> Self {
        Self { listing_only: true, ..Self::new(false) }
    }

    /// Announces the next entries, numbered on from the last. At most [`Self::room_for_entries`].
    pub fn announce(&mut self, batch: Vec<(Entry, S)>) {
        assert!(self.listed.is_none(), "nothing is announced after the end of the listing");
        assert!(batch.len() <= self.room_for_entries());
        if batch.is_empty() {
            return;
        }
        let first = self.announced.entries;
        self.unsent_entries += batch.len();
        let entries = batch.iter().map(|(entry, _)| entry.clone()).collect();
        self.control.push_back(Frame::Message(Message::Entries(Entries { first, entries })));
        for (entry, source) in batch {
            let file = self.announced.entries;
            self.announced.add(&entry.kind);
            if self.listing_only {
                continue;
            }
            let mut state = State::Announced;
            // protocol.md [WANT-3]
            if self.eager && matches!(entry.kind, Kind::File { .. } | Kind::Stream) {
                state = State::Sending;
                self.jobs.push_back(ReadJob::Content { file, source: source.clone(), kept: Vec::new() });
            }
            let is_stream = entry.kind == Kind::Stream;
            self.open.insert(file, Open { entry, source, state, is_stream, checks_left: None });
        }
    }

    /// How many entries may be announced now. 0 asks the lister to wait.
    pub fn room_for_entries(&self) -> usize {
        // A listing needs no outcomes; there, only what waits for the connection counts.
        let ahead = self.open.len().max(self.unsent_entries);
        (limits::OPEN_ENTRIES_MAX - ahead).min(limits::ENTRIES_PER_BATCH)
    }

    /// Tells the receiver of something that cannot be announced; counts as an announced entry in
    /// [`Self::room_for_entries`].
    pub fn on_unlisted(&mut self, unlisted: Unlisted) {
        assert!(self.listed.is_none(), "nothing is told after the end of the listing");
        self.unsent_entries += 1;
        self.control.push_back(Frame::Message(Message::Unlisted(unlisted)));
    }

    /// The listing is complete.
    pub fn on_listed(&mut self, listed: Listed) {
        assert_eq!(listed.entries, self.announced.entries);
        self.listed = Some(listed);
        self.control.push_back(Frame::Message(Message::Listed(listed)));
    }

    /// What to read next.
    pub fn poll_job(&mut self) -> Option<ReadJob<S>> {
        while let Some(job) = self.jobs.pop_front() {
            let (ReadJob::Content { file, .. }
            | ReadJob::Digest { file, .. }
            | ReadJob::Sums { file, .. }
            | ReadJob::Again { file, .. }) = &job;
            if self.open.contains_key(file) {
                return Some(job);
            }
        }
        None
    }

    /// What was lost and is to be read again before anything else, also before the rest of a file that is being read:
    /// whoever needs the bytes in order keeps in memory all that overtakes them.
    pub fn poll_again(&mut self) -> Option<ReadJob<S>> {
        while let Some(ReadJob::Again { file, .. }) = self.jobs.front() {
            let is_open = self.open.contains_key(file);
            let job = self.jobs.pop_front();
            if is_open {
                return job;
            }
        }
        None
    }

    /// Whether the reader may hand over another chunk. `false` asks it to wait.
    pub fn has_room(&self) -> bool {
        self.queued_bytes + limits::CHUNK_MIN_BYTES <= limits::SEND_QUEUE_BYTES
            && self.kept_bytes < limits::STDIN_KEEP_BYTES
    }

    /// Whether content of this file is still of use: it has no outcome yet.
    pub fn is_open(&self, file: u64) -> bool {
        self.open.contains_key(&file)
    }

    /// Takes what the reader has read. Pieces of a file that has an outcome are dropped.
    pub fn on_piece(&mut self, piece: Piece) {
        match piece {
            Piece::Data { file, offset, bytes, crc, keep } => {
                if self.open.contains_key(&file) {
                    self.queued_bytes += bytes.len();
                    if let Some(raw) = &mut self.raw {
                        raw.queued += bytes.len() as u64;
                    }
                    self.chunks.push_back(Chunk { file, offset, bytes, crc, keep });
                }
            }
            Piece::Hole(range) => {
                if self.open.contains_key(&range.file) {
                    let sent = Sent::new(CONTROL, range.len, 0, None);
                    self.in_flight.insert((range.file, range.offset), sent);
                    self.control.push_back(Frame::Hole(range));
                }
            }
            Piece::End(end) => {
                if let Some(open) = self.open.get_mut(&end.file) {
                    open.state = State::Ended;
                    // Of a stream, the size is known only here.
                    if open.entry.kind == Kind::Stream {
                        open.entry.kind = Kind::File { size: end.size, sparse: false, linked: false };
                    }
                    match &mut self.raw {
                        Some(raw) => raw.on_end(end),
                        None => self.control.push_back(Frame::FileEnd(end)),
                    }
                    self.release_raw_ends();
                }
            }
            Piece::Digest(end) => {
                if let Some(open) = self.open.get_mut(&end.file) {
                    open.state = State::Digested;
                    self.control.push_back(Frame::FileDigest(end));
                }
            }
            Piece::Sums(sums) => {
                if let Some(open) = self.open.get_mut(&sums.file) {
                    open.state = State::Checked;
                    self.control.push_back(Frame::Message(Message::Sums(sums)));
                }
            }
            Piece::Failed { file, code, text } => {
                if let Some(open) = self.open.get_mut(&file) {
                    open.state = State::Failed;
                    let text = crate::wire::message::short_text(text);
                    self.control.push_back(Frame::Message(Message::FileFailed(FileFailed {
                        file,
                        code,
                        text,
                    })));
                }
            }
        }
    }

    /// The next frame for this carrier, within the receiver's credit. Messages go first, and only on the control
    /// connection.
    pub fn poll_frame(&mut self, carrier: Carrier) -> Option<Frame> {
        if carrier == CONTROL {
            if let Some(frame) = self.control.pop_front() {
                self.unsent_entries -= match &frame {
                    Frame::Message(Message::Entries(batch)) => batch.entries.len(),
                    Frame::Message(Message::Unlisted(_)) => 1,
                    _ => 0,
                };
                return Some(frame);
            }
            // protocol.md [END-1]
            let is_raw_over = self.raw.as_ref().is_none_or(|raw| raw.packets.is_some());
            if self.finish == FinishState::Open && self.is_finished() && is_raw_over && !self.listing_only {
                self.finish = FinishState::Sent;
                return Some(Frame::Message(Message::Finish(Finish { stats: Stats::default() })));
            }
        }
        // A flow takes content only once content has moved to it.
        let is_chosen = match self.only {
            Some(only) => only == carrier,
            None => carrier < limits::FLOW_NUMBER_MIN,
        };
        if self.down.contains(&carrier) || !is_chosen {
            return None;
        }
        loop {
            let chunk = self.chunks.front()?;
            // protocol.md [CREDIT-1]
            if self.sent_bytes + chunk.bytes.len() as u64 > self.credit && self.open.contains_key(&chunk.file)
            {
                return None;
            }
            let chunk = self.chunks.pop_front().expect("it has a front");
            self.queued_bytes -= chunk.bytes.len();
            if !self.open.contains_key(&chunk.file) {
                continue;
            }
            let len = chunk.bytes.len() as u64;
            self.sent_bytes += len;
            *self.sent_on.entry(carrier).or_default() += len;
            let kept = chunk.keep.then(|| chunk.bytes.clone());
            self.kept_bytes += if chunk.keep { len } else { 0 };
            let sent = Sent::new(carrier, len, chunk.crc, kept);
            self.in_flight.insert((chunk.file, chunk.offset), sent);
            return Some(Frame::Data { file: chunk.file, offset: chunk.offset, bytes: chunk.bytes });
        }
    }

    /// Handles a frame of the receiver, which comes on the control connection.
    pub fn handle_frame(&mut self, frame: Frame) -> Result<(), Violation> {
        match frame {
            Frame::Feedback { credit, placed } => self.on_feedback(credit, &placed),
            Frame::Message(Message::Wants(wants)) => {
                wants.wants.into_iter().try_for_each(|(file, want)| self.on_want(file, want))
            }
            Frame::Message(Message::Outcomes(outcomes)) => {
                outcomes.outcomes.into_iter().try_for_each(|(file, outcome)| self.on_outcome(file, outcome))
            }
            Frame::Message(Message::Receipt(receipt)) => {
                // protocol.md [END-2]
                if self.finish != FinishState::Sent {
                    return Err(Violation::new("it sent a receipt before everything was sent"));
                }
                self.finish = FinishState::Received(SenderEnd { receipt });
                Ok(())
            }
            Frame::Message(Message::StreamEnd(end)) => self.on_stream_end(end),
            Frame::Message(Message::RawReport(report)) => self.on_raw_report(report),
            Frame::Message(Message::Resume(resume)) => self.on_resume(resume),
            Frame::Message(Message::Check(check)) => self.on_check(check),
            // protocol.md [ROLE-1]
            other => Err(Violation::new(format!("a receiver may not send {:?}", other.frame_type()))),
        }
    }

    /// From here on, content goes to this carrier only, or to all that ask.
    pub fn set_only(&mut self, carrier: Option<Carrier>) {
        self.only = carrier;
    }

    /// The only carrier that content goes to, if it is not all of them.
    pub fn only(&self) -> Option<Carrier> {
        self.only
    }

    /// Whether TCP connections, and whether flows, have carried content.
    pub fn carried_by(&self) -> (bool, bool) {
        super::kinds_of(self.sent_on.keys().chain(self.raw_used()))
    }

    // --- Over a raw flow ---

    /// Content goes over this raw flow, and over nothing else.
    pub fn set_raw(&mut self, carrier: Carrier) -> Result<(), Violation> {
        // protocol.md [RAW-2]: content is wanted before it is sent, and so the flow is known before it is read.
        if self.eager || self.raw.is_some() || !self.sent_on.is_empty() {
            return Err(Violation::new("it asked for a raw flow twice, behind content, or eagerly"));
        }
        self.raw = Some(RawOut::new(carrier));
        self.only = Some(carrier);
        Ok(())
    }

    /// Whether content goes over a raw flow.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// The next content for the raw flow. protocol.md [RAW-3]: whatever the credit, and only once.
    pub fn poll_raw(&mut self) -> Option<RawChunk> {
        let raw = self.raw.as_mut()?;
        let Chunk { file, offset, mut bytes, .. } = self.chunks.pop_front()?;
        self.queued_bytes -= bytes.len();
        raw.taken += bytes.len() as u64;
        if self.open.contains_key(&file) {
            raw.sent_bytes += bytes.len() as u64;
            self.placed_bytes += bytes.len() as u64;
        } else {
            bytes.clear();
        }
        Some(RawChunk { file, offset, bytes, to: raw.taken })
    }

    /// All content before [`RawChunk::to`] has left.
    pub fn on_raw_sent(&mut self, to: u64) {
        if let Some(raw) = &mut self.raw {
            raw.on_sent(to);
        }
        self.release_raw_ends();
    }

    fn release_raw_ends(&mut self) {
        let raw = self.raw.as_mut();
        self.control.extend(
            raw.into_iter().flat_map(|raw| std::iter::from_fn(|| raw.poll_end())).map(Frame::FileEnd),
        );
    }

    /// Whether RAW_END is due: everything has its outcome, and what waits no longer matters.
    pub fn wants_raw_end(&self) -> bool {
        self.listed.is_some()
            && self.open.is_empty()
            && self.raw.as_ref().is_some_and(|raw| raw.packets.is_none())
    }

    /// Tells how many packets the raw flow has sent. None follow.
    pub fn tell_raw_end(&mut self, packets: u64) {
        let raw = self.raw.as_mut().expect("who tells of a raw flow has one");
        assert!(raw.packets.is_none());
        raw.packets = Some(packets);
        let attempt = raw.carrier - limits::FLOW_NUMBER_MIN;
        self.control.push_back(Frame::Message(Message::RawEnd(RawEnd { attempt, packets })));
    }

    /// What became of the raw flow's packets: how many there were, and what the receiver says.
    pub fn raw_report(&self) -> Option<(u64, &RawReport)> {
        let raw = self.raw.as_ref()?;
        Some((raw.packets?, raw.report.as_ref()?))
    }

    /// protocol.md [RAW-7]
    fn on_raw_report(&mut self, report: RawReport) -> Result<(), Violation> {
        let raw = self.raw.as_mut().filter(|raw| raw.packets.is_some() && raw.report.is_none());
        let Some(raw) = raw.filter(|raw| raw.carrier - limits::FLOW_NUMBER_MIN == report.attempt) else {
            return Err(Violation::new("it reported on a raw flow that has not ended"));
        };
        raw.report = Some(report);
        Ok(())
    }

    fn raw_used(&self) -> Option<&Carrier> {
        self.raw.as_ref().filter(|raw| raw.sent_bytes > 0).map(|raw| &raw.carrier)
    }

    /// A flow told of credit; FEEDBACK may be behind it. protocol.md [ACK-4]
    pub fn on_flow_credit(&mut self, credit: u64) {
        self.credit = self.credit.max(credit);
    }

    /// A flow told that a chunk is placed; its FEEDBACK follows. protocol.md [ACK-4]
    pub fn on_flow_placed(&mut self, file: u64, offset: u64) {
        if let Some(sent) = self.in_flight.get_mut(&(file, offset))
            && !std::mem::replace(&mut sent.is_placed, true)
        {
            self.kept_bytes -= sent.kept.take().map_or(0, |bytes| bytes.len() as u64);
            self.placed_bytes += sent.len;
        }
    }

    /// Whether no content will follow what carriers have taken, unless something is lost.
    pub fn is_tail(&self) -> bool {
        let is_read = |open: &Open<S>| match open.state {
            State::Announced => !matches!(open.entry.kind, Kind::File { .. } | Kind::Stream),
            State::Digesting | State::Sending | State::Checking | State::Checked => false,
            State::Digested | State::Ended | State::Failed => true,
        };
        self.listed.is_some() && self.chunks.is_empty() && self.open.values().all(is_read)
    }

    /// Tells the receiver that a connection is gone; it answers with what it got of it.
    pub fn on_carrier_down(&mut self, carrier: Carrier) {
        assert!(carrier != CONTROL, "the control connection is not given up, but taken over");
        if !self.down.insert(carrier) {
            return;
        }
        let end = StreamEnd { stream: carrier, received: 0 };
        self.control.push_back(Frame::Message(Message::StreamEnd(end)));
    }

    /// Whether a carrier is gone.
    pub fn is_down(&self, carrier: Carrier) -> bool {
        self.down.contains(&carrier)
    }

    /// Everything announced has its outcome, and nothing more will be announced.
    pub fn is_finished(&self) -> bool {
        self.listed.is_some() && self.open.is_empty() && self.control.is_empty()
    }

    /// How the session ended, once the receiver's last word is there.
    pub fn end(&self) -> Option<SenderEnd> {
        match self.finish {
            FinishState::Received(end) => Some(end),
            FinishState::Open | FinishState::Sent => None,
        }
    }

    /// Whether everything is sent and only the receiver's last word is missing.
    pub fn awaits_receipt(&self) -> bool {
        self.finish == FinishState::Sent
    }

    /// The next outcome that the receiver told.
    pub fn poll_outcome(&mut self) -> Option<(u64, Entry, Outcome)> {
        self.outcomes.pop_front()
    }

    /// Whether data waits only for the receiver's credit.
    pub fn is_blocked_by_credit(&self) -> bool {
        self.raw.is_none()
            && self
                .chunks
                .front()
                .is_some_and(|chunk| self.sent_bytes + chunk.bytes.len() as u64 > self.credit)
    }

    /// Whether messages wait for the control connection.
    pub fn has_messages(&self) -> bool {
        !self.control.is_empty()
    }

    /// Whether this only lists.
    pub fn is_listing(&self) -> bool {
        self.listing_only
    }

    /// Whether content waits for a carrier.
    pub fn has_chunks(&self) -> bool {
        !self.chunks.is_empty()
    }

    /// Content that the receiver has placed, bytes, holes included.
    pub fn placed_bytes(&self) -> u64 {
        self.placed_bytes
    }

    /// Content that the receiver is known to have placed, bytes, holes included; over a raw flow nobody knows before
    /// its report.
    pub fn known_placed_bytes(&self) -> u64 {
        match &self.raw {
            None => self.placed_bytes,
            Some(raw) => {
                let missing = raw.report.as_ref().map_or(u64::MAX, |report| report.missing_bytes);
                raw.sent_bytes.saturating_sub(missing)
            }
        }
    }

    /// Content that the receiver had before, bytes.
    pub fn resumed_bytes(&self) -> u64 {
        self.resumed_bytes
    }

    /// Content sent, bytes.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes + self.raw.as_ref().map_or(0, |raw| raw.sent_bytes)
    }

    /// Connections that carried content.
    pub fn carriers_used(&self) -> usize {
        self.sent_on.len() + self.raw_used().into_iter().count()
    }

    /// What has been announced.
    pub fn announced(&self) -> Announced {
        self.announced
    }

    /// The end of the listing, once it is known.
    pub fn listed(&self) -> Option<Listed> {
        self.listed
    }

    /// Bytes queued, pieces in flight, bytes kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize, u64) {
        (self.queued_bytes, self.in_flight.len(), self.kept_bytes)
    }

    fn on_feedback(&mut self, credit: u64, placed: &[Placed]) -> Result<(), Violation> {
        // protocol.md [CREDIT-2]
        if credit < self.told_credit {
            return Err(Violation::new("it took credit back"));
        }
        self.told_credit = credit;
        self.credit = self.credit.max(credit);
        for range in placed {
            let sent = self.in_flight.remove(&(range.file, range.offset));
            let Some(sent) = sent.filter(|sent| sent.len == range.len) else {
                // protocol.md [DATA-4]
                return Err(Violation::new("it placed a range that was not sent"));
            };
            self.kept_bytes -= sent.kept.map_or(0, |bytes| bytes.len() as u64);
            self.placed_bytes += if sent.is_placed { 0 } else { range.len };
        }
        Ok(())
    }

    fn on_want(&mut self, file: u64, want: Want) -> Result<(), Violation> {
        // protocol.md [WANT-1]: once for an entry that has content, and once more after a digest.
        let Some(open) = self.open.get_mut(&file) else {
            return Err(Violation::new("it wants an entry that has an outcome or was never announced"));
        };
        let has_content = matches!(open.entry.kind, Kind::File { .. } | Kind::Stream);
        let may_want = match want {
            Want::Content => matches!(open.state, State::Announced | State::Digested),
            Want::Digest => open.state == State::Announced,
        };
        if !may_want || !has_content {
            return Err(Violation::new("it wants an entry twice, or one without content"));
        }
        let source = open.source.clone();
        let job = match want {
            Want::Content => {
                open.state = State::Sending;
                ReadJob::Content { file, source, kept: Vec::new() }
            }
            Want::Digest => {
                if matches!(open.entry.kind, Kind::Stream) {
                    // protocol.md [WANT-2]
                    return Err(Violation::new("it wants the digest of a stream before its content"));
                }
                open.state = State::Digesting;
                ReadJob::Digest { file, source }
            }
        };
        self.jobs.push_back(job);
        Ok(())
    }

    /// protocol.md [RESUME-1], [RESUME-2]
    fn on_resume(&mut self, resume: Resume) -> Result<(), Violation> {
        let Resume { file, kept } = resume;
        let Some(open) = self.open.get_mut(&file).filter(|_| self.raw.is_none()) else {
            return Err(Violation::new("it goes on with an entry that has an outcome, or over a raw flow"));
        };
        let Kind::File { size, .. } = open.entry.kind else {
            return Err(Violation::new("it goes on with an entry that is no file"));
        };
        let is_first = matches!(open.state, State::Announced | State::Digested);
        if !is_first && open.state != State::Checked {
            return Err(Violation::new("it goes on with a file that is being sent"));
        }
        let mut end = 0;
        for (number, span) in kept.iter().enumerate() {
            let is_behind = if number == 0 { span.offset >= end } else { span.offset > end };
            let fits = span.offset.checked_add(span.len).filter(|&end| end <= size && span.len > 0);
            end = fits
                .filter(|_| is_behind)
                .ok_or_else(|| Violation::new("it has ranges that are not in the file, or in no order"))?;
        }
        if is_first {
            self.resumed_bytes += kept.iter().map(|span| span.len).sum::<u64>();
        }
        open.state = State::Sending;
        self.jobs.push_back(ReadJob::Content { file, source: open.source.clone(), kept });
        Ok(())
    }

    /// protocol.md [REPAIR-1], [REPAIR-2]
    fn on_check(&mut self, check: Check) -> Result<(), Violation> {
        let Check { file, first, count } = check;
        let Some(open) = self.open.get_mut(&file).filter(|_| self.raw.is_none()) else {
            return Err(Violation::new("it checks an entry that has an outcome, or a raw flow"));
        };
        let Kind::File { size, .. } = open.entry.kind else {
            return Err(Violation::new("it checks an entry that is no file"));
        };
        // At its end it has a size like a file.
        if open.is_stream {
            return Err(Violation::new("it checks an entry that is no file"));
        }
        let blocks = size.div_ceil(limits::SUM_BLOCK_BYTES);
        if !matches!(open.state, State::Ended | State::Checked) {
            return Err(Violation::new("it checks a file that was not sent to its end"));
        }
        if first.checked_add(count).is_none_or(|end| end > blocks) {
            return Err(Violation::new("it checks blocks that the file does not have"));
        }
        // Whoever asks makes this side read.
        let left = open.checks_left.unwrap_or(blocks.saturating_mul(u64::from(limits::REPAIRS_MAX)));
        let Some(left) = left.checked_sub(count) else {
            return Err(Violation::new("it checks the same file again and again"));
        };
        open.checks_left = Some(left);
        open.state = State::Checking;
        self.jobs.push_back(ReadJob::Sums { file, source: open.source.clone(), first, count });
        Ok(())
    }

    fn on_outcome(&mut self, file: u64, outcome: Outcome) -> Result<(), Violation> {
        // protocol.md [OUTCOME-1]
        let Some(open) = self.open.remove(&file) else {
            return Err(Violation::new("it told the outcome of an entry twice, or of one never announced"));
        };
        let has_content = matches!(open.entry.kind, Kind::File { .. } | Kind::Stream);
        // protocol.md [OUTCOME-2]
        if has_content && outcome == Outcome::Done && open.state != State::Ended {
            return Err(Violation::new("it reports a file as done that was not sent to its end"));
        }
        self.outcomes.push_back((file, open.entry, outcome));
        Ok(())
    }

    /// protocol.md [STREAM-3]: what the receiver did not get returns to the queue, and its credit to the sender.
    fn on_stream_end(&mut self, end: StreamEnd) -> Result<(), Violation> {
        // protocol.md [RAW-3]
        if self.raw.as_ref().is_some_and(|raw| raw.carrier == end.stream) {
            return Err(Violation::new("it wants a raw flow to be repaired"));
        }
        self.down.insert(end.stream);
        let sent = self.sent_on.get_mut(&end.stream).map_or(0, std::mem::take);
        let Some(lost) = sent.checked_sub(end.received) else {
            return Err(Violation::new("it received more on a connection than was sent"));
        };
        self.sent_bytes -= lost;
        // What is known to be placed is not sent again, whatever the receiver says.
        let is_lost = |sent: &Sent| sent.carrier == end.stream && !sent.is_placed;
        let gone: Vec<_> = self.in_flight.extract_if(.., |_, sent| is_lost(sent)).collect();
        for ((file, offset), sent) in gone {
            self.requeue(file, offset, sent);
        }
        Ok(())
    }

    /// Content was lost with a control connection whose place another takes. protocol.md [REJOIN-4]
    pub fn on_content_lost(&mut self, file: u64, offset: u64) {
        let Some(sent) = self.in_flight.get(&(file, offset)) else { return };
        self.sent_bytes -= sent.len;
        if let Some(on) = self.sent_on.get_mut(&sent.carrier) {
            *on -= sent.len;
        }
        // A flow that it was sent over before may have told so late.
        if !sent.is_placed
            && let Some(sent) = self.in_flight.remove(&(file, offset))
        {
            self.requeue(file, offset, sent);
        }
    }

    fn requeue(&mut self, file: u64, offset: u64, sent: Sent) {
        self.kept_bytes -= sent.kept.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let Some(open) = self.open.get(&file) else { return };
        match sent.kept {
            Some(bytes) => {
                self.queued_bytes += bytes.len();
                self.chunks.push_front(Chunk { file, offset, bytes, crc: sent.crc, keep: true });
            }
            None => self.jobs.push_front(ReadJob::Again {
                file,
                source: open.source.clone(),
                offset,
                len: usize::try_from(sent.len).expect("a chunk that was in memory"),
                crc: sent.crc,
            }),
        }
    }
}
