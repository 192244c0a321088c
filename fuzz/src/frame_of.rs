//! Frames of a peer that does as it likes, as far as the wire carries them.

use haul::limits;
use haul::transfer::Announced;
use haul::wire::frame::{FileEnd, Frame, FrameReader, FrameType, Placed};
use haul::wire::message::{
    Code, Entries, Entry, FileFailed, Finish, Kind, Listed, Message, Mtime, Outcome, Outcomes, RawEnd,
    RawReport, Receipt, StreamEnd, Unlisted, Want, Wants,
};

use super::bytes::Bytes;

/// Carriers of a session: the control connection, further ones, flows.
pub const CARRIERS: [u16; 6] = [0, 1, 2, 15, limits::FLOW_NUMBER_MIN, limits::FLOW_NUMBER_MIN + 1];

/// A frame of a hostile sender that has announced so much.
pub fn of_sender(bytes: &mut Bytes<'_>, announced: &Announced) -> Option<Frame> {
    let frame = match bytes.below(16) {
        0..=4 => data(bytes),
        5 => Frame::Hole(placed(bytes)),
        6 | 7 => Frame::FileEnd(end(bytes)),
        8 => Frame::FileDigest(end(bytes)),
        9 | 10 => Frame::Message(Message::Entries(entries(bytes, announced.entries))),
        11 => Frame::Message(Message::Listed(listed(bytes, announced))),
        12 => Frame::Message(Message::FileFailed(FileFailed {
            file: file(bytes),
            code: code(bytes),
            text: text(bytes),
        })),
        13 => Frame::Message(Message::Finish(Finish::default())),
        14 => Frame::Message(Message::StreamEnd(stream_end(bytes))),
        _ => rare(bytes)?,
    };
    as_carried(&frame)
}

/// A frame of a hostile receiver. `sent` is content on its way, some of which it may say to have placed.
pub fn of_receiver(bytes: &mut Bytes<'_>, sent: &[Placed]) -> Option<Frame> {
    let frame = match bytes.below(16) {
        0..=4 => feedback(bytes, sent),
        5..=8 => Frame::Message(Message::Wants(Wants {
            wants: (0..=bytes.below(3))
                .map(|_| (file(bytes), bytes.one_of(&[Want::Content, Want::Content, Want::Digest])))
                .collect(),
        })),
        9..=11 => Frame::Message(Message::Outcomes(Outcomes {
            outcomes: (0..=bytes.below(3)).map(|_| (file(bytes), outcome(bytes))).collect(),
        })),
        12 => Frame::Message(Message::Receipt(Receipt::default())),
        13 | 14 => Frame::Message(Message::StreamEnd(stream_end(bytes))),
        _ => rare(bytes)?,
    };
    as_carried(&frame)
}

/// What a frame is when it has been written and read; `None` if the wire does not carry it.
fn as_carried(frame: &Frame) -> Option<Frame> {
    let mut reader = FrameReader::new(false, limits::CHUNK_MAX_BYTES);
    reader.handle_input(&frame.encode()).ok()?;
    let carried = reader.poll_frame().expect("it is whole");
    assert_eq!(carried, *frame);
    Some(carried)
}

/// What belongs to neither, or to few sessions.
fn rare(bytes: &mut Bytes<'_>) -> Option<Frame> {
    let attempt = u16::from(bytes.byte() % 3);
    Some(match bytes.below(5) {
        0 => Frame::Message(Message::RawEnd(RawEnd { attempt, packets: bytes.number() })),
        1 => {
            let report = RawReport { attempt, missing_bytes: bytes.number(), ..RawReport::default() };
            Frame::Message(Message::RawReport(report))
        }
        2 => Frame::Message(Message::Unlisted(Unlisted {
            name: bytes.some().to_vec(),
            code: code(bytes),
            text: text(bytes),
        })),
        3 => feedback(bytes, &[]),
        _ => {
            let kind = FrameType::ALL[bytes.below(FrameType::ALL.len())];
            Frame::Message(Message::decode(kind, bytes.some()).ok()?)
        }
    })
}

/// Mostly of few files, so that frames meet.
pub fn file(bytes: &mut Bytes<'_>) -> u64 {
    let number = bytes.number();
    if number < 192 { number % 6 } else { number }
}

fn data(bytes: &mut Bytes<'_>) -> Frame {
    let (file, offset, len) = (file(bytes), bytes.number(), 1 + bytes.below(256));
    Frame::Data { file, offset, bytes: vec![bytes.byte(); len] }
}

fn placed(bytes: &mut Bytes<'_>) -> Placed {
    Placed { file: file(bytes), offset: bytes.number(), len: bytes.number() }
}

fn end(bytes: &mut Bytes<'_>) -> FileEnd {
    FileEnd { file: file(bytes), size: bytes.number(), digest: [bytes.byte(); 32] }
}

fn entries(bytes: &mut Bytes<'_>, announced: u64) -> Entries {
    let first = if bytes.below(8) == 0 { bytes.number() } else { announced };
    let entries = (0..=bytes.below(4)).map(|_| entry(bytes, Vec::from("name"))).collect();
    Entries { first, entries }
}

/// An entry of this name.
pub fn entry(bytes: &mut Bytes<'_>, name: Vec<u8>) -> Entry {
    let kind = match bytes.below(12) {
        0..=6 => Kind::File { size: bytes.number(), sparse: bytes.coin(), linked: bytes.coin() },
        7 => Kind::Stream,
        8 | 9 => Kind::Dir,
        10 => Kind::Symlink { target: bytes.some().to_vec() },
        _ => Kind::Hardlink { file: file(bytes) },
    };
    let mode = u32::from(bytes.half()) & 0o7777;
    Entry { source: bytes.byte().into(), name, mode, mtime: Mtime { secs: 1_000_000_000, nanos: 5 }, kind }
}

fn listed(bytes: &mut Bytes<'_>, announced: &Announced) -> Listed {
    let entries = if bytes.below(8) == 0 { bytes.number() } else { announced.entries };
    Listed { entries, bytes: bytes.number(), ..Listed::default() }
}

fn stream_end(bytes: &mut Bytes<'_>) -> StreamEnd {
    let stream = if bytes.below(8) == 0 { bytes.half() } else { bytes.one_of(&CARRIERS) };
    StreamEnd { stream, received: bytes.number() }
}

fn feedback(bytes: &mut Bytes<'_>, sent: &[Placed]) -> Frame {
    let credit = bytes.number();
    let count = bytes.below(4);
    let one = |bytes: &mut Bytes<'_>| {
        let at = bytes.below(256);
        if sent.is_empty() || at > 240 { placed(bytes) } else { sent[at % sent.len()] }
    };
    Frame::Feedback { credit, placed: (0..count).map(|_| one(bytes)).collect() }
}

/// What may become of an entry.
pub fn outcome(bytes: &mut Bytes<'_>) -> Outcome {
    match bytes.below(8) {
        0..=3 => Outcome::Done,
        4 => Outcome::Unchanged,
        5 => Outcome::Identical,
        6 => Outcome::Kept,
        _ => Outcome::Failed { code: code(bytes), text: text(bytes) },
    }
}

fn code(bytes: &mut Bytes<'_>) -> Code {
    bytes.one_of(&[Code::File, Code::Done, Code::SourceChanged, Code::NoSpace])
}

fn text(bytes: &mut Bytes<'_>) -> String {
    String::from_utf8_lossy(bytes.some()).into_owned()
}
