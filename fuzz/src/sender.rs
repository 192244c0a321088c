//! The sending side of a session against a receiver that does as it likes.

use std::collections::{BTreeMap, BTreeSet};

use haul::integrity::crc32c::crc32c;
use haul::limits;
use haul::transfer::{CONTROL, Carrier, Piece, ReadJob, Sender, Violation};
use haul::wire::frame::{FileEnd, Frame, Placed};
use haul::wire::message::{Code, Kind, Listed, Unlisted};

use super::bytes::Bytes;
use super::frame_of::{self, CARRIERS};

/// Frames in any order, and a reader that does what it may: content goes out within the credit, to carriers that are
/// there, as it was read; messages go over the control connection only; no file has two outcomes; what is queued stays
/// bounded; and what breaks the protocol ends the session.
pub fn sender(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut session = Session::new(&mut bytes);
    while !bytes.is_empty() {
        if session.step(&mut bytes).is_err() {
            return;
        }
    }
}

struct Session {
    sender: Sender<u64>,
    kinds: Vec<Kind>,
    is_listed: bool,
    is_raw: bool,
    reading: Option<Reading>,
    /// The most that was granted.
    credit: u64,
    /// What left and was not taken back, as far as this side knows.
    sent: Vec<Placed>,
    /// Content that left over the control connection since that was last taken over.
    on_control: Vec<(u64, u64)>,
    /// Content that left over flows.
    on_flows: Vec<(u64, u64)>,
    raw_to: u64,
    down: BTreeSet<Carrier>,
    outcomes: BTreeMap<u64, u64>,
}

/// A file that is being read.
struct Reading {
    job: ReadJob<u64>,
    offset: u64,
}

impl Session {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let (is_eager, is_raw) = bytes.one_of(&[(false, false), (true, false), (false, true)]);
        let mut sender = Sender::new(is_eager);
        if is_raw {
            sender.set_raw(limits::FLOW_NUMBER_MIN).expect("nothing was before");
        }
        Self {
            sender,
            kinds: Vec::new(),
            is_listed: false,
            is_raw,
            reading: None,
            credit: 0,
            sent: Vec::new(),
            on_control: Vec::new(),
            on_flows: Vec::new(),
            raw_to: 0,
            down: BTreeSet::new(),
            outcomes: BTreeMap::new(),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Violation> {
        match bytes.below(16) {
            0 => self.announce(bytes),
            1..=3 => self.read(bytes),
            4..=6 => self.send(bytes),
            7..=12 => self.hear(bytes)?,
            13 => self.lose(bytes),
            14 => self.hear_of_flow(bytes),
            _ => self.send_raw(),
        }
        assert!(self.sender.sent_bytes() <= self.credit || self.is_raw);
        Ok(())
    }

    fn announce(&mut self, bytes: &mut Bytes<'_>) {
        if self.is_listed {
            return;
        }
        if bytes.below(4) == 0 {
            self.is_listed = true;
            let entries = self.kinds.len() as u64;
            self.sender.on_listed(Listed { entries, ..Listed::default() });
            return;
        }
        if self.sender.room_for_entries() == 0 {
            return;
        }
        if bytes.below(8) == 0 {
            let name = b"gone".to_vec();
            self.sender.on_unlisted(Unlisted { name, code: Code::NotFound, text: String::new() });
            return;
        }
        let entry = frame_of::entry(bytes, b"name".to_vec());
        self.kinds.push(entry.kind.clone());
        self.sender.announce(vec![(entry, self.kinds.len() as u64 - 1)]);
    }

    /// A step of the reader, which keeps to what it was asked for.
    fn read(&mut self, bytes: &mut Bytes<'_>) {
        let reading = self.reading.take();
        let Some(Reading { job, offset }) =
            reading.or_else(|| self.sender.poll_job().map(|job| Reading { job, offset: 0 }))
        else {
            return;
        };
        let (ReadJob::Content { file, source }
        | ReadJob::Digest { file, source }
        | ReadJob::Again { file, source, .. }) = &job;
        assert_eq!(file, source);
        let file = *file;
        let kind = &self.kinds[usize::try_from(file).expect("it was announced")];
        assert!(matches!(kind, Kind::File { .. } | Kind::Stream), "only files are read");
        if !self.sender.is_open(file) {
            return;
        }
        let is_stream = *kind == Kind::Stream;
        match job {
            ReadJob::Digest { .. } => {
                assert!(!is_stream);
                self.sender.on_piece(Piece::Digest(end(file, bytes.number())));
            }
            ReadJob::Again { offset, len, crc, .. } => {
                assert!(!is_stream, "what cannot be read twice was kept");
                let piece = content(file, offset, len);
                assert_eq!(crc32c(&piece), crc);
                self.sender.on_piece(match bytes.below(8) {
                    0 => failed(file),
                    _ => Piece::Data { file, offset, bytes: piece, crc, keep: false },
                });
            }
            ReadJob::Content { .. } => match bytes.below(12) {
                0 => self.sender.on_piece(failed(file)),
                1 => self.sender.on_piece(Piece::End(end(file, offset))),
                2 if !is_stream => {
                    let len = 1 + u64::from(bytes.byte());
                    self.sender.on_piece(Piece::Hole(Placed { file, offset, len }));
                    self.sent.push(Placed { file, offset, len });
                    self.reading = Some(Reading { job, offset: offset + len });
                }
                _ => {
                    let len = if self.sender.has_room() { 1 + bytes.below(256) } else { 0 };
                    if len > 0 {
                        let piece = content(file, offset, len);
                        let crc = crc32c(&piece);
                        self.sender.on_piece(Piece::Data {
                            file,
                            offset,
                            bytes: piece,
                            crc,
                            keep: is_stream,
                        });
                    }
                    self.reading = Some(Reading { job, offset: offset + len as u64 });
                }
            },
        }
    }

    /// A carrier asks for what is next.
    fn send(&mut self, bytes: &mut Bytes<'_>) {
        let carrier = if bytes.coin() { CONTROL } else { bytes.one_of(&CARRIERS) };
        // What leaves over a raw flow is asked for in another way.
        if self.is_raw && carrier == limits::FLOW_NUMBER_MIN {
            return;
        }
        if bytes.below(16) == 0 && !self.is_raw {
            self.sender.set_only(bytes.coin().then_some(carrier));
        }
        let Some(frame) = self.sender.poll_frame(carrier) else { return };
        frame.encode();
        assert!(carrier == CONTROL || matches!(frame, Frame::Data { .. }));
        if let Frame::Data { file, offset, bytes } = frame {
            assert!(!self.is_raw && !self.sender.is_down(carrier));
            assert!(self.sender.only().is_none_or(|only| only == carrier));
            assert_eq!(bytes, content(file, offset, bytes.len()));
            self.sent.push(Placed { file, offset, len: bytes.len() as u64 });
            match carrier {
                CONTROL => self.on_control.push((file, offset)),
                limits::FLOW_NUMBER_MIN.. => self.on_flows.push((file, offset)),
                _ => {}
            }
        }
    }

    /// The receiver says something.
    fn hear(&mut self, bytes: &mut Bytes<'_>) -> Result<(), Violation> {
        let Some(frame) = frame_of::of_receiver(bytes, &self.sent) else { return Ok(()) };
        if let Frame::Feedback { credit, .. } = &frame {
            self.credit = self.credit.max(*credit);
        }
        self.sender.handle_frame(frame)?;
        while let Some((file, _, _)) = self.sender.poll_outcome() {
            assert_eq!(self.outcomes.insert(file, file), None, "an entry has one outcome");
            assert!(!self.sender.is_open(file));
        }
        Ok(())
    }

    /// A connection is lost: a further one, or the control connection, whose place another takes.
    fn lose(&mut self, bytes: &mut Bytes<'_>) {
        let carrier = bytes.one_of(&CARRIERS);
        if carrier == CONTROL {
            for (file, offset) in std::mem::take(&mut self.on_control) {
                self.sender.on_content_lost(file, offset);
            }
        } else if !(self.is_raw && carrier == limits::FLOW_NUMBER_MIN) {
            self.sender.on_carrier_down(carrier);
            self.down.insert(carrier);
            assert!(self.sender.is_down(carrier));
        }
    }

    /// What a flow is told: its own credit and placement.
    fn hear_of_flow(&mut self, bytes: &mut Bytes<'_>) {
        if bytes.coin() {
            let credit = bytes.number();
            self.credit = self.credit.max(credit);
            self.sender.on_flow_credit(credit);
        } else if !self.on_flows.is_empty() {
            let at = bytes.below(256) % self.on_flows.len();
            let (file, offset) = self.on_flows[at];
            self.sender.on_flow_placed(file, offset);
        }
    }

    fn send_raw(&mut self) {
        if !self.is_raw {
            return;
        }
        match self.sender.poll_raw() {
            Some(chunk) => {
                assert!(chunk.to > self.raw_to);
                assert_eq!(chunk.bytes, content(chunk.file, chunk.offset, chunk.bytes.len()));
                self.raw_to = chunk.to;
            }
            None => {
                self.sender.on_raw_sent(self.raw_to);
                if self.sender.wants_raw_end() {
                    self.sender.tell_raw_end(9);
                }
            }
        }
    }
}

fn failed(file: u64) -> Piece {
    Piece::Failed { file, code: Code::SourceChanged, text: String::new() }
}

fn end(file: u64, size: u64) -> FileEnd {
    FileEnd { file, size, digest: [7; 32] }
}

/// What stands there in a file.
fn content(file: u64, offset: u64, len: usize) -> Vec<u8> {
    let at = |at: usize| (offset + at as u64 + file * 31).to_le_bytes()[0];
    (0..len).map(at).collect()
}
