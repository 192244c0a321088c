//! Decides what a receiver accepts, and when it grants more.
//!
//! Frames become [`Job`]s for the target in an order that the target can rely on: an entry before its content, a
//! file's end after all of its content, whatever the order in which the carriers delivered them. What the target did
//! becomes WANT, FEEDBACK and OUTCOMES.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Announced, Carrier, Event, Job, Violation,
    raw::{RawIn, RawPiece},
};
use crate::{
    limits,
    wire::{
        frame::{FileEnd, Frame, Placed},
        message::{
            Check, Finish, Kind, Listed, Message, Outcome, Outcomes, RawEnd, RawReport, Receipt, Resume,
            Span, StreamEnd, Sums, Want, Wants,
        },
    },
};

/// The receiving side of a session.
#[derive(Debug)]
pub struct Receiver {
    /// Entries announced so far.
    listed: Option<Listed>,
    /// Announced entries without an outcome.
    open: BTreeMap<u64, Open>,
    /// Content that overtook its entry, by file, with the carrier that brought it; bounded by the credit.
    early: BTreeMap<u64, Vec<(Carrier, Frame)>>,
    /// Frames in `early`.
    early_frames: usize,
    jobs: VecDeque<Job>,
    /// Bytes of content in `jobs` and at the target, not yet placed.
    unplaced_bytes: u64,
    /// What is placed, and waits in the target's memory for its turn, bytes.
    held_bytes: u64,
    /// Bytes of DATA content received in this session.
    received_bytes: u64,
    /// What the sender may have sent in all, as it was last told.
    credit: u64,
    /// How much may stay unplaced, bytes: `limits::CREDIT_MIN_BYTES`..=`window_max`, or `window_max` if that is less.
    window: u64,
    /// How far `window` may grow, bytes; set from outside as sessions come and go.
    window_max: u64,
    /// `received_bytes` when it was last asked whether the window should grow, or at the start.
    judged_at: u64,
    /// Largest `unplaced_bytes` since then.
    most_unplaced_bytes: u64,
    received_on: BTreeMap<Carrier, OnCarrier>,
    /// Carriers that are gone: what still comes of them is dropped, since the sender will send it again.
    down: BTreeSet<Carrier>,
    /// Carriers of `down` whose last word is still to be told.
    untold: BTreeSet<Carrier>,
    /// Placed chunks that flows brought, for who tells it over them.
    placed_of_flows: Vec<(Carrier, u64, u64)>,
    placed: Vec<Placed>,
    wants: Vec<(u64, Want)>,
    outcomes: Vec<(u64, Outcome)>,
    control: VecDeque<Frame>,
    finish: Option<Finish>,
    receipt_sent: bool,
    /// Content comes over a raw flow.
    raw: Option<RawIn>,
    carriers_used: BTreeSet<Carrier>,
    done: u64,
    failed: u64,
    placed_total: u64,
    /// Content that was there before, bytes.
    resumed_bytes: u64,
    announced: Announced,
}

#[derive(Debug, Default)]
struct Open {
    /// Content handed to the target, or there before, bytes.
    received: u64,
    /// An end that came before all content.
    end: Option<FileEnd>,
    /// The end went to the target; nothing may follow.
    is_ended: bool,
    is_file: bool,
    /// Sums that were asked for and have not come: the first block, and how many.
    asked: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
struct OnCarrier {
    /// Content that arrived on it, bytes.
    received: u64,
    /// What of it is not placed, by file and offset.
    unplaced: BTreeSet<(u64, u64)>,
}

impl Receiver {
    /// A receiver that grants at most `window_max` bytes of unplaced content. It begins with little and grants more
    /// only while the target keeps up: what arrives faster than it is placed waits in memory, and leaves the cache.
    pub fn new(window_max: u64) -> Self {
        Self {
            listed: None,
            open: BTreeMap::new(),
            early: BTreeMap::new(),
            early_frames: 0,
            jobs: VecDeque::new(),
            unplaced_bytes: 0,
            held_bytes: 0,
            received_bytes: 0,
            credit: 0,
            window: window_max.min(limits::CREDIT_MIN_BYTES),
            window_max,
            judged_at: 0,
            most_unplaced_bytes: 0,
            received_on: BTreeMap::new(),
            down: BTreeSet::new(),
            untold: BTreeSet::new(),
            placed_of_flows: Vec::new(),
            placed: Vec::new(),
            wants: Vec::new(),
            outcomes: Vec::new(),
            control: VecDeque::new(),
            finish: None,
            receipt_sent: false,
            raw: None,
            carriers_used: BTreeSet::new(),
            done: 0,
            failed: 0,
            placed_total: 0,
            resumed_bytes: 0,
            announced: Announced::default(),
        }
    }

    /// What this owner has sent before may be gone on with, unless content comes over a raw flow. protocol.md, section 28
    pub fn allow_resume(&mut self, owner: [u8; 32]) {
        // protocol.md [RESUME-1]
        if self.raw.is_none() {
            self.jobs.push_back(Job::Resumable { owner: Some(owner) });
        }
    }

    /// How much content may stay unplaced from now on, bytes. What was granted stays granted.
    pub fn set_window_max(&mut self, window_max: u64) {
        self.window_max = window_max;
        self.window = self.window.min(window_max);
    }

    /// Handles a frame of the sender.
    pub fn handle_frame(&mut self, carrier: Carrier, frame: Frame) -> Result<(), Violation> {
        // protocol.md [STREAM-2]
        if carrier != super::CONTROL && !matches!(frame, Frame::Data { .. }) {
            return Err(Violation::new(format!(
                "{:?} belongs on the control connection",
                frame.frame_type()
            )));
        }
        if self.down.contains(&carrier) {
            return Ok(());
        }
        match frame {
            Frame::Data { file, offset, bytes } => {
                // protocol.md [CREDIT-1]
                self.received_bytes += bytes.len() as u64;
                if self.received_bytes > self.credit {
                    return Err(Violation::new("it sent more than its credit"));
                }
                let on = self.received_on.entry(carrier).or_default();
                on.received += bytes.len() as u64;
                self.carriers_used.insert(carrier);
                on.unplaced.insert((file, offset));
                self.unplaced_bytes += bytes.len() as u64;
                self.most_unplaced_bytes = self.most_unplaced_bytes.max(self.unplaced_bytes);
                self.on_content(carrier, Frame::Data { file, offset, bytes })
            }
            Frame::Hole(range) => self.on_content(carrier, Frame::Hole(range)),
            Frame::FileEnd(end) => self.on_end(end),
            Frame::FileDigest(end) => {
                self.known(end.file)?;
                self.jobs.push_back(Job::Digest { file: end.file, size: end.size, digest: end.digest });
                Ok(())
            }
            Frame::Message(message) => self.on_message(message),
            // protocol.md [ROLE-1]
            Frame::Feedback { .. } => Err(Violation::new("a sender may not send Feedback")),
        }
    }

    fn on_message(&mut self, message: Message) -> Result<(), Violation> {
        match message {
            Message::Entries(batch) => {
                // protocol.md [ENTRY-1]
                if self.listed.is_some() || batch.first != self.announced.entries {
                    return Err(Violation::new("it announced entries out of order"));
                }
                // protocol.md [ENTRY-2]
                if self.open.len() + batch.entries.len() > limits::OPEN_ENTRIES_MAX {
                    return Err(Violation::new("it announced more entries than may be open"));
                }
                for entry in &batch.entries {
                    let is_file = matches!(entry.kind, Kind::File { .. } | Kind::Stream);
                    self.open.insert(self.announced.entries, Open { is_file, ..Open::default() });
                    self.announced.add(&entry.kind);
                }
                self.jobs.push_back(Job::Entries { first: batch.first, entries: batch.entries });
                let later = self.early.split_off(&self.announced.entries);
                for (carrier, frame) in std::mem::replace(&mut self.early, later).into_values().flatten() {
                    self.early_frames -= 1;
                    self.on_content(carrier, frame)?;
                }
                Ok(())
            }
            Message::Listed(listed) => {
                // protocol.md [ENTRY-5]
                if self.listed.is_some() || listed.entries != self.announced.entries || !self.early.is_empty()
                {
                    return Err(Violation::new("it ended its listing with a wrong count, or twice"));
                }
                self.listed = Some(listed);
                self.jobs.push_back(Job::Listed);
                Ok(())
            }
            // protocol.md [FILE-7]
            Message::FileFailed(failed) => {
                self.known(failed.file)?;
                self.jobs.push_back(Job::Failed { file: failed.file, code: failed.code, text: failed.text });
                Ok(())
            }
            Message::Finish(finish) => {
                // protocol.md [END-1]
                if self.finish.is_some() || self.listed.is_none() || !self.is_settled() {
                    return Err(Violation::new("it finished before every entry had its outcome"));
                }
                self.finish = Some(finish);
                Ok(())
            }
            // protocol.md [RAW-3]
            Message::StreamEnd(end) if self.raw.as_ref().is_some_and(|raw| raw.carrier == end.stream) => {
                Err(Violation::new("it gave a raw flow up"))
            }
            Message::StreamEnd(end) => {
                self.on_carrier_down(end.stream);
                Ok(())
            }
            Message::RawEnd(end) => self.on_raw_end(end),
            Message::Sums(sums) => self.on_sums(sums),
            // protocol.md [ROLE-1]; [OPEN-1]: a session is opened once.
            other => Err(Violation::new(format!("a sender may not send {:?}", other.frame_type()))),
        }
    }

    /// DATA and HOLE: to the target, or aside while the entry is still on its way.
    fn on_content(&mut self, carrier: Carrier, frame: Frame) -> Result<(), Violation> {
        let (file, offset, len) = match &frame {
            Frame::Data { file, offset, bytes } => (*file, *offset, bytes.len() as u64),
            Frame::Hole(range) => (range.file, range.offset, range.len),
            _ => unreachable!("only content comes here"),
        };
        if file >= self.announced.entries {
            // protocol.md [DATA-3]: within the credit, checked above; HOLE comes in order on the control connection.
            if matches!(frame, Frame::Hole(_)) || self.listed.is_some() {
                return Err(Violation::new("it sent content of an entry that it never announced"));
            }
            if self.early_frames >= limits::BACKLOG_MAX_FRAMES {
                return Err(Violation::new("it sent too much content ahead of its entries"));
            }
            self.early_frames += 1;
            self.early.entry(file).or_default().push((carrier, frame));
            return Ok(());
        }
        let Some(open) = self.open.get_mut(&file) else {
            // Its outcome is told already; the content is of no use, but its credit comes back.
            let buffer = if let Frame::Data { bytes, .. } = frame { bytes } else { Vec::new() };
            self.on_placed(file, offset, len, buffer.capacity() > 0);
            return Ok(());
        };
        // protocol.md [DATA-5]
        if !open.is_file {
            return Err(Violation::new("it sent content of an entry that has none"));
        }
        // protocol.md [FILE-2]
        if open.is_ended {
            return Err(Violation::new("it sent content behind the end of a file"));
        }
        open.received = open.received.checked_add(len).ok_or_else(|| Violation::new("it sent too much"))?;
        self.jobs.push_back(match frame {
            Frame::Data { bytes, .. } => Job::Data { file, offset, bytes },
            _ => Job::Hole { file, offset, len },
        });
        self.release_end(file);
        Ok(())
    }

    fn on_end(&mut self, end: FileEnd) -> Result<(), Violation> {
        self.known(end.file)?;
        let Some(open) = self.open.get_mut(&end.file) else { return Ok(()) };
        // protocol.md [FILE-2]
        if open.end.is_some() {
            return Err(Violation::new("it ended a file twice"));
        }
        open.end = Some(end);
        if let Some(raw) = &mut self.raw
            && open.received < end.size
        {
            raw.ended.push(end.file);
        }
        self.release_end(end.file);
        Ok(())
    }

    /// protocol.md [REPAIR-3]
    fn on_sums(&mut self, sums: Sums) -> Result<(), Violation> {
        self.known(sums.file)?;
        let Some(open) = self.open.get_mut(&sums.file) else { return Ok(()) };
        if open.asked.take() != Some((sums.first, sums.sums.len() as u64)) {
            return Err(Violation::new("it told sums that nobody asked for"));
        }
        self.jobs.push_back(Job::Sums { file: sums.file, first: sums.first, sums: sums.sums });
        Ok(())
    }

    /// The target has these ranges of a file, and wants the rest and the end. protocol.md [RESUME-3]
    fn on_resume(&mut self, file: u64, kept: Vec<Span>) {
        let Some(open) = self.open.get_mut(&file) else { return };
        let bytes = kept.iter().map(|span| span.len).sum();
        if open.end.take().is_none() {
            self.resumed_bytes += bytes;
        }
        open.received = bytes;
        open.is_ended = false;
        // What was placed is told before, so that no range is in flight twice.
        self.flush_placed();
        self.control.push_back(Frame::Message(Message::Resume(Resume { file, kept })));
    }

    /// The target asks for the sums of these blocks.
    fn on_check(&mut self, file: u64, first: u64, count: u64) {
        let Some(open) = self.open.get_mut(&file) else { return };
        open.asked = Some((first, count));
        self.flush_placed();
        self.control.push_back(Frame::Message(Message::Check(Check { file, first, count })));
    }

    /// Hands the end of a file to the target once all content went before it. A size below what was received goes
    /// too: the target finds the contradiction. protocol.md [FILE-1]
    fn release_end(&mut self, file: u64) {
        if let Some(open) = self.open.get_mut(&file)
            && let Some(end) = open.end
            && open.received >= end.size
        {
            open.is_ended = true;
            let FileEnd { file, size, digest } = end;
            self.jobs.push_back(match self.raw {
                Some(_) => Job::RawEnd { file, size, digest },
                None => Job::End { file, size, digest },
            });
        }
    }

    // --- Over a raw flow ---

    /// Content comes over this raw flow.
    pub fn set_raw(&mut self, carrier: Carrier) -> Result<(), Violation> {
        // protocol.md [RAW-2]
        if self.raw.is_some() || self.received_bytes > 0 {
            return Err(Violation::new("it asked for a raw flow twice, or behind content"));
        }
        self.raw = Some(RawIn::new(carrier));
        // protocol.md [RESUME-1]
        self.jobs.push_back(Job::Resumable { owner: None });
        Ok(())
    }

    /// Whether content comes over a raw flow.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// Takes what came over the raw flow, each range at most once. protocol.md [RAW-5]: what finds no room is left out.
    pub fn on_raw_pieces(&mut self, pieces: Vec<RawPiece>) -> Result<(), Violation> {
        let Some(raw) = &mut self.raw else {
            return Err(Violation::new("it sent content over a raw flow that nobody has"));
        };
        for piece in pieces {
            if piece.file >= self.announced.entries {
                return Err(Violation::new("it sent content of an entry that it never announced"));
            }
            let len = piece.bytes.len() as u64;
            raw.received += len;
            self.carriers_used.insert(raw.carrier);
            // Late, or of no use any more.
            let Some(open) = self.open.get_mut(&piece.file).filter(|open| !open.is_ended) else { continue };
            // protocol.md [DATA-5]
            if !open.is_file {
                return Err(Violation::new("it sent content of an entry that has none"));
            }
            if raw.unplaced + len > self.window_max || self.jobs.len() >= limits::BACKLOG_MAX_FRAMES {
                raw.discarded += piece.datagrams;
                continue;
            }
            raw.unplaced += len;
            open.received =
                open.received.checked_add(len).ok_or_else(|| Violation::new("it sent too much"))?;
            let (has_all, file) = (open.end.is_some_and(|end| open.received >= end.size), piece.file);
            self.jobs.push_back(Job::RawPiece(piece));
            if has_all && let Some(FileEnd { size, digest, .. }) = open.end {
                open.is_ended = true;
                self.jobs.push_back(Job::RawEnd { file, size, digest });
            }
        }
        Ok(())
    }

    /// Files that have ended since the last call and of which something is missing.
    pub fn take_raw_ended(&mut self) -> Vec<u64> {
        self.raw.as_mut().map(|raw| std::mem::take(&mut raw.ended)).unwrap_or_default()
    }

    /// Nobody waits any longer for what is missing of a file. protocol.md [RAW-6]
    pub fn on_raw_overdue(&mut self, file: u64) {
        if let Some(open) = self.open.get_mut(&file)
            && let Some(FileEnd { file, size, digest }) = open.end.filter(|_| !open.is_ended)
        {
            open.is_ended = true;
            self.jobs.push_back(Job::RawEnd { file, size, digest });
        }
    }

    /// How many packets the raw flow has carried, once that was told.
    pub fn raw_packets(&self) -> Option<u64> {
        self.raw.as_ref()?.packets
    }

    /// Tells what became of them. `counts` is what the flow has counted.
    pub fn tell_raw_report(&mut self, counts: RawReport) {
        let raw = self.raw.as_mut().expect("who reports on a raw flow has one");
        assert!(raw.packets.is_some() && raw.report.is_none());
        let attempt = raw.carrier - limits::FLOW_NUMBER_MIN;
        let report = raw.complete(&RawReport { attempt, ..counts });
        raw.report = Some(report.clone());
        self.control.push_back(Frame::Message(Message::RawReport(report)));
    }

    /// What became of the raw flow's packets, and how many there were.
    pub fn raw_report(&self) -> Option<(u64, &RawReport)> {
        let raw = self.raw.as_ref()?;
        Some((raw.packets?, raw.report.as_ref()?))
    }

    /// protocol.md [RAW-7]
    fn on_raw_end(&mut self, end: RawEnd) -> Result<(), Violation> {
        let is_over = self.listed.is_some() && self.is_settled() && self.finish.is_none();
        let raw = self.raw.as_mut().filter(|raw| is_over && raw.packets.is_none());
        let Some(raw) = raw.filter(|raw| raw.carrier - limits::FLOW_NUMBER_MIN == end.attempt) else {
            return Err(Violation::new(
                "it ended a raw flow twice, before every entry had its outcome, or none",
            ));
        };
        raw.packets = Some(end.packets);
        Ok(())
    }

    /// protocol.md [FILE-6]
    fn known(&self, file: u64) -> Result<(), Violation> {
        if file < self.announced.entries {
            return Ok(());
        }
        Err(Violation::new("it spoke of an entry that it never announced"))
    }

    /// What the target has to do next.
    pub fn poll_job(&mut self) -> Option<Job> {
        self.jobs.pop_front()
    }

    /// Takes what the target did; gives the chunk's buffer back, if there is one.
    pub fn on_event(&mut self, event: Event) -> Option<Vec<u8>> {
        match event {
            Event::Want { file, want } => {
                self.wants.push((file, want));
                None
            }
            Event::Resume { file, kept } => {
                self.on_resume(file, kept);
                None
            }
            Event::Check { file, first, count } => {
                self.on_check(file, first, count);
                None
            }
            Event::Held { bytes } => {
                self.held_bytes = bytes;
                None
            }
            Event::Placed { file, offset, len, buffer } => {
                let is_data = buffer.capacity() > 0;
                self.on_placed(file, offset, len, is_data);
                is_data.then_some(buffer)
            }
            Event::RawPlaced { len, discarded } => {
                self.placed_total += len;
                if let Some(raw) = &mut self.raw {
                    raw.unplaced -= len;
                    raw.discarded += discarded;
                }
                None
            }
            Event::RawEnded { file, is_intact, lack } => {
                if let Some(raw) = &mut self.raw {
                    raw.on_file(file, is_intact, &lack);
                }
                None
            }
            Event::Outcome { file, outcome } => {
                self.open.remove(&file);
                match outcome {
                    Outcome::Failed { .. } => self.failed += 1,
                    _ => self.done += 1,
                }
                self.outcomes.push((file, outcome));
                None
            }
        }
    }

    fn on_placed(&mut self, file: u64, offset: u64, len: u64, is_data: bool) {
        self.placed.push(Placed { file, offset, len });
        self.placed_total += len;
        if is_data {
            self.unplaced_bytes -= len;
            self.judge_window();
            for (&carrier, on) in &mut self.received_on {
                if on.unplaced.remove(&(file, offset)) {
                    if carrier >= limits::FLOW_NUMBER_MIN && !self.down.contains(&carrier) {
                        self.placed_of_flows.push((carrier, file, offset));
                    }
                    break;
                }
            }
            self.tell_downs();
        }
    }

    /// A further connection of the session is gone; its last word goes out once what it brought is placed.
    pub fn on_carrier_down(&mut self, carrier: Carrier) {
        assert!(carrier != super::CONTROL, "the control connection is not given up, but taken over");
        if self.down.insert(carrier) {
            self.untold.insert(carrier);
            self.tell_downs();
        }
    }

    /// protocol.md [STREAM-3], [FLOW-5]: after the FEEDBACK that tells of its last chunk.
    fn tell_downs(&mut self) {
        let on = &self.received_on;
        let is_placed = |carrier: &Carrier| on.get(carrier).is_none_or(|on| on.unplaced.is_empty());
        let told: Vec<_> = self.untold.extract_if(.., is_placed).collect();
        for stream in told {
            self.flush_placed();
            let received = self.received_on.remove(&stream).map_or(0, |on| on.received);
            self.control.push_back(Frame::Message(Message::StreamEnd(StreamEnd { stream, received })));
        }
    }

    /// Once a window has arrived: if less than half of it ever waited for the target, the window may be what holds the
    /// sender up, and is doubled.
    fn judge_window(&mut self) {
        if self.received_bytes - self.judged_at < self.window {
            return;
        }
        if self.most_unplaced_bytes <= self.window / 2 {
            self.window = self.window.saturating_mul(2).min(self.window_max);
        }
        self.judged_at = self.received_bytes;
        self.most_unplaced_bytes = self.unplaced_bytes;
    }

    /// What the sender may send in all, bytes, as a flow tells it at once.
    pub fn grant(&mut self) -> u64 {
        self.credit = self.credit.max(self.granted());
        self.credit
    }

    /// The same without what was promised before. What waits for its turn takes of the window, so that a sender which
    /// has overtaken itself slows down; but never all of it, since the piece that is missing may have to come again.
    fn granted(&self) -> u64 {
        // protocol.md [CREDIT-3]
        let least = self.window.min(limits::CREDIT_MIN_BYTES);
        let window = self.window.saturating_sub(self.held_bytes).max(least);
        self.received_bytes - self.unplaced_bytes + window
    }

    /// Whether a carrier is gone.
    pub fn is_down(&self, carrier: Carrier) -> bool {
        self.down.contains(&carrier)
    }

    /// Content that may still come, as far as the sender was told, bytes.
    pub fn room(&self) -> u64 {
        self.credit.saturating_sub(self.received_bytes)
    }

    /// Chunks that were placed since the last call: carrier, file, offset.
    pub fn take_placed_of_flows(&mut self) -> Vec<(Carrier, u64, u64)> {
        std::mem::take(&mut self.placed_of_flows)
    }

    fn flush_placed(&mut self) {
        self.grant();
        let placed = std::mem::take(&mut self.placed);
        let mut chunks = placed.chunks(limits::RECORDS_PER_FRAME).peekable();
        loop {
            let part = chunks.next().unwrap_or_default().to_vec();
            self.control.push_back(Frame::Feedback { credit: self.credit, placed: part });
            if chunks.peek().is_none() {
                return;
            }
        }
    }

    /// The next frame for the control connection.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        // Credit alone goes out in steps, so that it does not cost a frame per byte, nor one for nothing.
        if !self.placed.is_empty() || self.granted() >= self.credit + (self.window / 4).max(1) {
            self.flush_placed();
            return self.control.pop_front();
        }
        if !self.wants.is_empty() {
            let wants = drain_front(&mut self.wants, |_| 12);
            return Some(Frame::Message(Message::Wants(Wants { wants })));
        }
        if !self.outcomes.is_empty() {
            let outcomes = drain_front(&mut self.outcomes, |(_, outcome)| match outcome {
                Outcome::Failed { text, .. } => 32 + text.len(),
                _ => 12,
            });
            return Some(Frame::Message(Message::Outcomes(Outcomes { outcomes })));
        }
        // protocol.md [END-2]
        let is_raw_told = self.raw.as_ref().is_none_or(|raw| raw.packets.is_none() || raw.report.is_some());
        if self.finish.is_some() && is_raw_told && !self.receipt_sent {
            self.receipt_sent = true;
            let receipt = Receipt { done: self.done, failed: self.failed, ..Receipt::default() };
            return Some(Frame::Message(Message::Receipt(receipt)));
        }
        None
    }

    /// Every announced entry has its outcome.
    pub fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// What the sender measured, once it has finished.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Whether the last word was handed to the control connection.
    pub fn is_receipt_sent(&self) -> bool {
        self.receipt_sent
    }

    /// The end of the listing, once it is known.
    pub fn listed(&self) -> Option<Listed> {
        self.listed
    }

    /// What has been announced.
    pub fn announced(&self) -> Announced {
        self.announced
    }

    /// Content placed, bytes, holes included.
    pub fn placed_bytes(&self) -> u64 {
        self.placed_total
    }

    /// Content that was there before, bytes.
    pub fn resumed_bytes(&self) -> u64 {
        self.resumed_bytes
    }

    /// Content received, bytes.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes + self.raw.as_ref().map_or(0, |raw| raw.received)
    }

    /// Whether TCP connections, and whether flows, have brought content.
    pub fn carried_by(&self) -> (bool, bool) {
        super::kinds_of(&self.carriers_used)
    }

    /// Connections that brought content.
    pub fn carriers_used(&self) -> usize {
        self.carriers_used.len()
    }

    /// Content received and not yet placed, bytes.
    pub fn unplaced_bytes(&self) -> u64 {
        self.unplaced_bytes + self.raw.as_ref().map_or(0, |raw| raw.unplaced)
    }

    /// Pieces of content, and carriers whose last word is to be told, that are still remembered.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let unplaced: usize = self.received_on.values().map(|on| on.unplaced.len()).sum();
        unplaced + self.early_frames + self.untold.len() + self.open.len()
    }

    /// Whether something waits for the control connection.
    #[cfg(test)]
    pub(super) fn has_frames(&self) -> bool {
        let has_records = !(self.placed.is_empty() && self.wants.is_empty() && self.outcomes.is_empty());
        has_records || !self.control.is_empty()
    }

    /// Whether so much waits for the target, or for the sender to hear of it, that nothing more is to be read from
    /// the connections until less does.
    pub fn is_congested(&self) -> bool {
        // No honest sender has more entries without an outcome than may be open.
        self.jobs.len() > limits::BACKLOG_MAX_FRAMES
            || self.placed.len() > limits::BACKLOG_MAX_FRAMES
            || self.outcomes.len() > limits::OPEN_ENTRIES_MAX
            || self.wants.len() > limits::OPEN_ENTRIES_MAX
    }

    /// Whether the target has something to do.
    pub fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }
}

/// Takes records from the front, as many as fit one frame.
fn drain_front<T>(records: &mut Vec<T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut bytes = 0;
    let mut count = 0;
    for record in records.iter().take(limits::RECORDS_PER_FRAME) {
        bytes += size(record);
        if count > 0 && bytes > limits::CONTROL_MAX_BYTES / 2 {
            break;
        }
        count += 1;
    }
    records.drain(..count).collect()
}
