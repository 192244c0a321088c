//! Frames: message boundaries on a byte stream that has none.
//!
//! ```text
//!  0        4      6       8                 8 + length      + 4
//!  +--------+------+-------+-----------------+---------------+
//!  | length | type | flags | payload         | CRC-32C       |   integers little-endian
//!  +--------+------+-------+-----------------+---------------+
//!    u32      u16    u16     `length` bytes    only without TLS: over header and payload
//! ```
//!
//! [`FrameReader`] takes the bytes in whatever pieces TCP delivers them and allocates no more than a frame's type
//! allows. The frames that carry file content are laid out by hand here; all others hold a
//! [`message`](super::message).

use std::collections::VecDeque;

use super::message::{Message, MessageError};
use crate::{integrity::crc32c::Crc32c, limits};

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;
/// Bytes of the checksum behind a frame on a connection without TLS.
pub const CHECKSUM_BYTES: usize = 4;
/// Flag: a receiver that does not know the frame's type skips it instead of closing (protocol.md [FRAME-5]).
pub const FLAG_OPTIONAL: u16 = 1;
/// Bytes of one placed range in a FEEDBACK frame.
const PLACED_BYTES: usize = 24;

/// Which message a frame carries; the discriminant is its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "each variant is the message of its name, documented in `message` and below")]
pub enum FrameType {
    Auth = 1,
    Welcome = 2,
    Open = 3,
    Entries = 4,
    Listed = 5,
    Want = 6,
    Data = 7,
    Hole = 8,
    FileEnd = 9,
    FileDigest = 10,
    FileFailed = 11,
    Feedback = 12,
    Outcomes = 13,
    Finish = 14,
    Receipt = 15,
    Ping = 16,
    Pong = 17,
    Close = 18,
    StreamEnd = 19,
    Unlisted = 20,
    FlowOpen = 21,
    FlowAccept = 22,
    RawEnd = 23,
    RawReport = 24,
    Heard = 25,
    Discard = 26,
    Resume = 27,
    Check = 28,
    Sums = 29,
}

impl FrameType {
    /// Every type, in the order of their numbers.
    pub const ALL: [Self; 29] = [
        Self::Auth,
        Self::Welcome,
        Self::Open,
        Self::Entries,
        Self::Listed,
        Self::Want,
        Self::Data,
        Self::Hole,
        Self::FileEnd,
        Self::FileDigest,
        Self::FileFailed,
        Self::Feedback,
        Self::Outcomes,
        Self::Finish,
        Self::Receipt,
        Self::Ping,
        Self::Pong,
        Self::Close,
        Self::StreamEnd,
        Self::Unlisted,
        Self::FlowOpen,
        Self::FlowAccept,
        Self::RawEnd,
        Self::RawReport,
        Self::Heard,
        Self::Discard,
        Self::Resume,
        Self::Check,
        Self::Sums,
    ];

    /// The type with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// The type's number.
    pub fn number(self) -> u16 {
        self as u16
    }
}

/// A range of a file that the receiver has placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Entry number.
    pub file: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub len: u64,
}

/// The end of a file's content, or the answer to `Want::Digest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileEnd {
    /// Entry number.
    pub file: u64,
    /// Bytes of the whole file.
    pub size: u64,
    /// Digest of the whole file, of the session's kind.
    pub digest: [u8; 32],
}

/// One frame, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// DATA: content of a file.
    Data {
        /// Entry number.
        file: u64,
        /// Where the bytes belong.
        offset: u64,
        /// 1..=the agreed chunk limit bytes.
        bytes: Vec<u8>,
    },
    /// HOLE: a range of zeros that was never written at the source.
    Hole(Placed),
    /// FILE_END: no further content of this file.
    FileEnd(FileEnd),
    /// FILE_DIGEST: the digest of a file whose content was not sent.
    FileDigest(FileEnd),
    /// FEEDBACK: credit and placement.
    Feedback {
        /// Total bytes of DATA content that the sender may have sent in this session; never falls.
        credit: u64,
        /// Ranges placed since the last FEEDBACK, at most `limits::RECORDS_PER_FRAME`.
        placed: Vec<Placed>,
    },
    /// Every other frame.
    Message(Message),
}

/// Why bytes are not a frame. All of them are the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is larger than the type allows.
    #[error("a frame of {length} bytes where {limit} are allowed")]
    TooLong {
        /// As the header says.
        length: u32,
        /// What the type allows.
        limit: usize,
    },
    /// A type that this version does not know and that may not be skipped.
    #[error("a frame of unknown type {0}")]
    UnknownType(u16),
    /// The checksum differs.
    #[error("a frame with a wrong checksum")]
    Checksum,
    /// The payload is not what its type says.
    #[error("a malformed {0:?} frame")]
    Malformed(FrameType),
    /// The payload is not the message that its type says.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// The bytes of a DATA frame before its content: header, file number and offset.
pub fn data_header(file: u64, offset: u64, len: usize) -> [u8; HEADER_BYTES + limits::DATA_HEADER_BYTES] {
    assert!(len >= 1);
    assert!(len <= limits::CHUNK_MAX_BYTES);
    let mut out = [0; HEADER_BYTES + limits::DATA_HEADER_BYTES];
    out[..HEADER_BYTES].copy_from_slice(&header(FrameType::Data, limits::DATA_HEADER_BYTES + len));
    out[8..16].copy_from_slice(&file.to_le_bytes());
    out[16..24].copy_from_slice(&offset.to_le_bytes());
    out
}

impl Frame {
    /// The type of this frame.
    pub fn frame_type(&self) -> FrameType {
        match self {
            Self::Data { .. } => FrameType::Data,
            Self::Hole(_) => FrameType::Hole,
            Self::FileEnd(_) => FrameType::FileEnd,
            Self::FileDigest(_) => FrameType::FileDigest,
            Self::Feedback { .. } => FrameType::Feedback,
            Self::Message(message) => message.frame_type(),
        }
    }

    /// Header and payload, without a checksum.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        match self {
            Self::Data { file, offset, bytes } => {
                out.clear();
                out.extend_from_slice(&data_header(*file, *offset, bytes.len()));
                out.extend_from_slice(bytes);
                return out;
            }
            Self::Hole(range) => put_placed(range, &mut out),
            Self::FileEnd(end) | Self::FileDigest(end) => {
                out.extend_from_slice(&end.file.to_le_bytes());
                out.extend_from_slice(&end.size.to_le_bytes());
                out.extend_from_slice(&end.digest);
            }
            Self::Feedback { credit, placed } => {
                assert!(placed.len() <= limits::RECORDS_PER_FRAME);
                out.extend_from_slice(&credit.to_le_bytes());
                for range in placed {
                    put_placed(range, &mut out);
                }
            }
            Self::Message(message) => message.encode(&mut out),
        }
        let payload = out.len() - HEADER_BYTES;
        out[..HEADER_BYTES].copy_from_slice(&header(self.frame_type(), payload));
        out
    }

    /// Parses the payload of any frame but DATA, which [`FrameReader`] assembles.
    fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, FrameError> {
        let malformed = FrameError::Malformed(kind);
        match kind {
            FrameType::Data => unreachable!("DATA is assembled by the reader"),
            FrameType::Hole => {
                let range = parse_placed(payload).ok_or(malformed)?;
                Ok(Self::Hole(range))
            }
            FrameType::FileEnd | FrameType::FileDigest => {
                let payload: &[u8; 48] = payload.try_into().map_err(|_| malformed)?;
                let (numbers, digest) = payload.split_at(16);
                let end = FileEnd {
                    file: u64_at(numbers, 0),
                    size: u64_at(numbers, 8),
                    digest: digest.try_into().expect("48 less 16 bytes"),
                };
                Ok(if kind == FrameType::FileEnd { Self::FileEnd(end) } else { Self::FileDigest(end) })
            }
            FrameType::Feedback => {
                let (credit, ranges) = payload.split_first_chunk::<8>().ok_or(malformed)?;
                let records = ranges.chunks(PLACED_BYTES);
                if records.len() > limits::RECORDS_PER_FRAME {
                    return Err(malformed);
                }
                let placed = records.map(parse_placed).collect::<Option<_>>().ok_or(malformed)?;
                Ok(Self::Feedback { credit: u64::from_le_bytes(*credit), placed })
            }
            _ => Ok(Self::Message(Message::decode(kind, payload)?)),
        }
    }
}

/// protocol.md [FRAME-1]
fn header(kind: FrameType, payload: usize) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload).expect("our own payloads are below 4 GiB");
    let mut out = [0; HEADER_BYTES];
    out[..4].copy_from_slice(&length.to_le_bytes());
    out[4..6].copy_from_slice(&kind.number().to_le_bytes());
    // protocol.md [FRAME-6]
    let flags = if kind == FrameType::FlowOpen { FLAG_OPTIONAL } else { 0 };
    out[6..8].copy_from_slice(&flags.to_le_bytes());
    out
}

fn put_placed(range: &Placed, out: &mut Vec<u8>) {
    out.extend_from_slice(&range.file.to_le_bytes());
    out.extend_from_slice(&range.offset.to_le_bytes());
    out.extend_from_slice(&range.len.to_le_bytes());
}

/// A range has bytes, no more than are hashed in one go, and ends within a file's largest size (protocol.md [DATA-2]).
fn parse_placed(bytes: &[u8]) -> Option<Placed> {
    if bytes.len() != PLACED_BYTES {
        return None;
    }
    let range = Placed { file: u64_at(bytes, 0), offset: u64_at(bytes, 8), len: u64_at(bytes, 16) };
    let is_within = range.offset.checked_add(range.len).is_some_and(|end| end <= limits::FILE_MAX_BYTES);
    (is_within && (1..=limits::HOLE_MAX_BYTES).contains(&range.len)).then_some(range)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Turns the bytes of a stream back into frames, whatever the pieces they arrive in.
///
/// [`FrameReader::handle_input`] takes bytes; [`FrameReader::poll_frame`] gives whole frames. An error is final:
/// what follows on the stream has no boundaries any more.
#[derive(Debug)]
pub struct FrameReader {
    /// Whether a CRC-32C follows each payload.
    checksums: bool,
    /// Largest content of a DATA frame that we announced, bytes.
    chunk_max: usize,
    /// Header bytes of the frame that has begun.
    head: Vec<u8>,
    /// What the header said, once it is whole.
    body: Option<Body>,
    frames: VecDeque<Frame>,
    /// Emptied buffers for the content of DATA frames; [`Self::wants_spare`] says when they are enough.
    spare: Vec<Vec<u8>>,
    /// No frame has come yet, and the first one is short: it opens the connection.
    is_first: bool,
}

#[derive(Debug)]
struct Body {
    /// `None`: unknown and optional, to be skipped.
    kind: Option<FrameType>,
    /// Payload bytes that are still missing, not counting the checksum.
    missing: usize,
    payload: Vec<u8>,
    crc: Option<Crc32c>,
    /// The checksum's bytes so far.
    tail: Vec<u8>,
}

impl FrameReader {
    /// A reader of frames with or without checksums, whose DATA frames carry at most `chunk_max` bytes.
    pub fn new(checksums: bool, chunk_max: usize) -> Self {
        Self {
            checksums,
            chunk_max,
            head: Vec::new(),
            body: None,
            frames: VecDeque::new(),
            spare: Vec::new(),
            is_first: false,
        }
    }

    /// As [`Self::new`], for a peer that has not authenticated: its first frame is at most
    /// `limits::PRE_AUTH_MAX_BYTES` (protocol.md [FRAME-2]).
    pub fn before_auth(checksums: bool, chunk_max: usize) -> Self {
        Self { is_first: true, ..Self::new(checksums, chunk_max) }
    }

    /// The next whole frame.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Whether a buffer is welcome for the content of later DATA frames.
    pub fn wants_spare(&self) -> bool {
        self.spare.len() < SPARE_MAX
    }

    /// Gives a buffer back for the content of later DATA frames.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() >= limits::CHUNK_MIN_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Whether the stream may end here: no frame has begun (protocol.md [FRAME-4]).
    pub fn is_between_frames(&self) -> bool {
        self.head.is_empty()
    }

    /// Takes the next bytes of the stream.
    pub fn handle_input(&mut self, mut input: &[u8]) -> Result<(), FrameError> {
        while !input.is_empty() {
            let Some(body) = &mut self.body else {
                // DATA's file number and offset are read with the header, so that its content needs no cut.
                let want = self.head_bytes();
                let take = (want - self.head.len()).min(input.len());
                self.head.extend_from_slice(&input[..take]);
                input = &input[take..];
                if self.head.len() == self.head_bytes() {
                    self.begin_body()?;
                }
                continue;
            };
            let take = body.missing.min(input.len());
            let (mine, rest) = input.split_at(take);
            if body.kind.is_some() {
                body.payload.extend_from_slice(mine);
            }
            if let Some(crc) = &mut body.crc {
                crc.update(mine);
            }
            body.missing -= take;
            input = rest;
            if let (0, Some(_)) = (body.missing, &body.crc) {
                let take = (CHECKSUM_BYTES - body.tail.len()).min(input.len());
                body.tail.extend_from_slice(&input[..take]);
                input = &input[take..];
            }
            self.finish_body()?;
        }
        Ok(())
    }

    /// Bytes before the payload proper, as far as is known.
    fn head_bytes(&self) -> usize {
        let is_data = self.head.len() >= HEADER_BYTES
            && u16::from_le_bytes([self.head[4], self.head[5]]) == FrameType::Data.number();
        if is_data { HEADER_BYTES + limits::DATA_HEADER_BYTES } else { HEADER_BYTES }
    }

    /// The header is whole: checks it before anything is allocated (protocol.md [FRAME-2], [FRAME-5]).
    fn begin_body(&mut self) -> Result<(), FrameError> {
        let length = u32::from_le_bytes(self.head[..4].try_into().expect("four bytes"));
        let number = u16::from_le_bytes([self.head[4], self.head[5]]);
        // protocol.md [FRAME-6]: other flags mean nothing here.
        let flags = u16::from_le_bytes([self.head[6], self.head[7]]);
        let kind = FrameType::from_number(number);
        if kind.is_none() && flags & FLAG_OPTIONAL == 0 {
            return Err(FrameError::UnknownType(number));
        }
        let is_data = kind == Some(FrameType::Data);
        let limit =
            if is_data { limits::DATA_HEADER_BYTES + self.chunk_max } else { limits::CONTROL_MAX_BYTES };
        let limit = if self.is_first { limit.min(limits::PRE_AUTH_MAX_BYTES) } else { limit };
        let payload = usize::try_from(length).unwrap_or(usize::MAX);
        if payload > limit {
            return Err(FrameError::TooLong { length, limit });
        }
        let mut missing = payload;
        let mut buffer = Vec::new();
        if is_data {
            // protocol.md [DATA-1]: content has at least one byte and ends within the largest size.
            missing = payload
                .checked_sub(limits::DATA_HEADER_BYTES)
                .filter(|&content| content > 0)
                .filter(|&content| {
                    let end = u64_at(&self.head, 16).checked_add(content as u64);
                    end.is_some_and(|end| end <= limits::FILE_MAX_BYTES)
                })
                .ok_or(FrameError::Malformed(FrameType::Data))?;
            if missing >= limits::CHUNK_MIN_BYTES {
                buffer = self.spare.pop().unwrap_or_default();
            }
        }
        if kind.is_some() {
            buffer.reserve_exact(missing);
        }
        let crc = self.checksums.then(|| {
            let mut crc = Crc32c::new();
            crc.update(&self.head);
            crc
        });
        self.body = Some(Body { kind, missing, payload: buffer, crc, tail: Vec::new() });
        self.finish_body()
    }

    /// Turns the body into a frame once all of it is there.
    fn finish_body(&mut self) -> Result<(), FrameError> {
        let whole =
            |body: &Body| body.missing == 0 && (body.crc.is_none() || body.tail.len() == CHECKSUM_BYTES);
        let Some(body) = self.body.take_if(|body| whole(body)) else { return Ok(()) };
        // protocol.md [FRAME-3]
        if let Some(crc) = body.crc
            && crc.finish().to_le_bytes() != *body.tail
        {
            return Err(FrameError::Checksum);
        }
        match body.kind {
            None => {}
            Some(FrameType::Data) => self.frames.push_back(Frame::Data {
                file: u64_at(&self.head, 8),
                offset: u64_at(&self.head, 16),
                bytes: body.payload,
            }),
            Some(kind) => self.frames.push_back(Frame::decode(kind, &body.payload)?),
        }
        self.head.clear();
        self.is_first = false;
        Ok(())
    }
}

/// Emptied buffers that a reader asks for: no more chunks begin between two looks at the socket.
const SPARE_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        integrity::crc32c::crc32c,
        wire::message::{Close, Code, Ping},
    };

    fn sample() -> Vec<Frame> {
        let range = Placed { file: 3, offset: 1 << 40, len: 5 };
        vec![
            Frame::Data { file: 7, offset: 1 << 33, bytes: b"content".to_vec() },
            Frame::Hole(range),
            Frame::FileEnd(FileEnd { file: 7, size: 9, digest: [0xab; 32] }),
            Frame::FileDigest(FileEnd { file: 8, size: 0, digest: [0xcd; 32] }),
            Frame::Feedback { credit: 1 << 26, placed: vec![range, Placed { file: 4, offset: 0, len: 1 }] },
            Frame::Feedback { credit: 0, placed: vec![] },
            Frame::Message(Message::Ping(Ping { number: 42 })),
            Frame::Message(Message::Close(Close { code: Code::Done, text: String::new() })),
        ]
    }

    /// The frames as they stand on a connection.
    fn stream(frames: &[Frame], checksums: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for frame in frames {
            let bytes = frame.encode();
            out.extend_from_slice(&bytes);
            if checksums {
                out.extend_from_slice(&crc32c(&bytes).to_le_bytes());
            }
        }
        out
    }

    fn read(reader: &mut FrameReader) -> Vec<Frame> {
        std::iter::from_fn(|| reader.poll_frame()).collect()
    }

    #[test]
    fn frames_survive_every_split_point_and_single_bytes() {
        for checksums in [false, true] {
            let bytes = stream(&sample(), checksums);
            for at in 0..=bytes.len() {
                let mut reader = FrameReader::new(checksums, limits::CHUNK_BYTES);
                reader.handle_input(&bytes[..at]).unwrap();
                reader.handle_input(&bytes[at..]).unwrap();
                assert_eq!(read(&mut reader), sample(), "split at {at}");
                assert!(reader.is_between_frames());
            }

            let mut reader = FrameReader::new(checksums, limits::CHUNK_BYTES);
            for byte in &bytes {
                reader.handle_input(std::slice::from_ref(byte)).unwrap();
            }
            assert_eq!(read(&mut reader), sample());
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_noticed() {
        // protocol.md [FRAME-4]
        let bytes = stream(&sample()[..1], true);
        for at in 1..bytes.len() {
            let mut reader = FrameReader::new(true, limits::CHUNK_BYTES);
            reader.handle_input(&bytes[..at]).unwrap();
            assert!(!reader.is_between_frames(), "cut at {at}");
            assert_eq!(reader.poll_frame(), None);
        }
    }

    #[test]
    fn a_huge_length_is_refused_before_anything_is_allocated() {
        // protocol.md [FRAME-2]
        for kind in FrameType::ALL {
            let mut bytes = header(kind, 0).to_vec();
            bytes[..4].copy_from_slice(&u32::MAX.to_le_bytes());
            bytes.extend_from_slice(&[0; limits::DATA_HEADER_BYTES]);
            let mut reader = FrameReader::new(false, limits::CHUNK_BYTES);

            let error = reader.handle_input(&bytes).unwrap_err();

            assert!(matches!(error, FrameError::TooLong { length: u32::MAX, .. }), "{kind:?}: {error}");
        }
    }

    #[test]
    fn a_frame_is_accepted_at_its_limit_and_refused_one_byte_past_it() {
        // protocol.md [FRAME-2]
        let chunk = limits::CHUNK_MIN_BYTES;
        for (len, fits) in [(chunk, true), (chunk + 1, false)] {
            let mut reader = FrameReader::new(false, chunk);
            let result = reader.handle_input(&data_header(1, 0, len));
            assert_eq!(result.is_ok(), fits, "{len}");
        }
        for (len, fits) in [(limits::CONTROL_MAX_BYTES, true), (limits::CONTROL_MAX_BYTES + 1, false)] {
            let mut reader = FrameReader::new(false, chunk);
            let result = reader.handle_input(&header(FrameType::Entries, len));
            assert_eq!(result.is_ok(), fits, "{len}");
        }
    }

    #[test]
    fn a_stranger_reserves_no_more_than_its_first_frame_needs() {
        // protocol.md [FRAME-2]
        let most = limits::PRE_AUTH_MAX_BYTES;
        let mut reader = FrameReader::before_auth(false, limits::CHUNK_MAX_BYTES);
        assert!(reader.handle_input(&data_header(0, 0, most)).is_err());

        let mut reader = FrameReader::before_auth(false, limits::CHUNK_MAX_BYTES);
        reader.handle_input(&sample()[6].encode()).unwrap();
        assert!(reader.handle_input(&data_header(0, 0, most)).is_ok());
    }

    #[test]
    fn a_flipped_bit_anywhere_is_caught_without_tls() {
        // protocol.md [FRAME-3]
        let bytes = stream(&sample()[..1], true);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut reader = FrameReader::new(true, limits::CHUNK_BYTES);

            let result = reader.handle_input(&damaged);

            assert!(result.is_err() || reader.poll_frame().is_none(), "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_frame_is_skipped_only_when_it_says_so() {
        // protocol.md [FRAME-5]
        for (flags, skipped) in [(FLAG_OPTIONAL, true), (0, false)] {
            let mut bytes = vec![5, 0, 0, 0, 0xff, 0x7f];
            bytes.extend_from_slice(&flags.to_le_bytes());
            bytes.extend_from_slice(b"12345");
            bytes.extend_from_slice(&sample()[6].encode());
            let mut reader = FrameReader::new(false, limits::CHUNK_BYTES);

            let result = reader.handle_input(&bytes);

            if skipped {
                result.unwrap();
                assert_eq!(read(&mut reader), sample()[6..7]);
            } else {
                assert_eq!(result, Err(FrameError::UnknownType(0x7fff)));
            }
        }
    }

    #[test]
    fn content_that_is_empty_or_ends_past_the_largest_file_is_refused() {
        // protocol.md [DATA-1]
        let mut empty = header(FrameType::Data, limits::DATA_HEADER_BYTES).to_vec();
        empty.extend_from_slice(&[0; limits::DATA_HEADER_BYTES]);
        let last = data_header(0, limits::FILE_MAX_BYTES - 1, 1);
        let past = data_header(0, limits::FILE_MAX_BYTES, 1);
        let wraps = data_header(0, u64::MAX, 1);

        let refused =
            |bytes: &[u8]| FrameReader::new(false, limits::CHUNK_BYTES).handle_input(bytes).is_err();

        assert!(!refused(&last));
        assert!(refused(&empty));
        assert!(refused(&past));
        assert!(refused(&wraps));
    }

    #[test]
    fn ranges_that_are_empty_cut_or_overflow_are_refused() {
        // protocol.md [DATA-2]
        let decode = |placed: &Placed| {
            let mut payload = Vec::new();
            put_placed(placed, &mut payload);
            Frame::decode(FrameType::Hole, &payload)
        };
        let malformed = Err(FrameError::Malformed(FrameType::Hole));

        assert!(decode(&Placed { file: 0, offset: 0, len: limits::HOLE_MAX_BYTES }).is_ok());
        assert_eq!(decode(&Placed { file: 0, offset: 0, len: limits::HOLE_MAX_BYTES + 1 }), malformed);
        assert_eq!(decode(&Placed { file: 0, offset: 0, len: 0 }), malformed);
        assert_eq!(decode(&Placed { file: 0, offset: limits::FILE_MAX_BYTES, len: 1 }), malformed);
        assert_eq!(decode(&Placed { file: 0, offset: u64::MAX, len: 1 }), malformed);
        assert_eq!(Frame::decode(FrameType::Hole, &[0; 23]), malformed);
        assert!(Frame::decode(FrameType::FileEnd, &[0; 49]).is_err());
        assert!(Frame::decode(FrameType::Feedback, &[1; 8 + 23]).is_err());
        assert!(Frame::decode(FrameType::Feedback, &[1; 7]).is_err());
    }

    #[test]
    fn ranges_are_whole_records_and_no_more_than_a_frame_has() {
        // protocol.md [DATA-2]
        let ranges = |count: usize| {
            let mut payload = Vec::new();
            for _ in 0..count {
                put_placed(&Placed { file: 0, offset: 0, len: 1 }, &mut payload);
            }
            payload
        };
        let hole = |payload: &[u8]| Frame::decode(FrameType::Hole, payload).is_ok();
        let feedback =
            |payload: Vec<u8>| Frame::decode(FrameType::Feedback, &[vec![0; 8], payload].concat()).is_ok();

        assert!(hole(&ranges(1)));
        assert!(!hole(&[ranges(1), vec![0]].concat()), "a byte behind the range");
        assert!(!hole(&ranges(2)), "two ranges");
        assert!(!feedback([ranges(1), vec![1]].concat()), "a part of a record");
        assert!(feedback(ranges(limits::RECORDS_PER_FRAME)));
        assert!(!feedback(ranges(limits::RECORDS_PER_FRAME + 1)));
    }

    #[test]
    fn numbers_and_types_agree() {
        for kind in FrameType::ALL {
            assert_eq!(FrameType::from_number(kind.number()), Some(kind));
        }
        assert_eq!(FrameType::from_number(0), None);
        assert_eq!(FrameType::from_number(30), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512), checksums: bool) {
            let mut reader = FrameReader::new(checksums, limits::CHUNK_BYTES);
            let _ = reader.handle_input(&bytes);
        }

        #[test]
        fn mutated_frames_never_panic(which in 0..8usize, at: usize, value: u8, cut: usize) {
            let mut bytes = sample()[which].encode();
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut % bytes.len() + 1);
            let mut reader = FrameReader::new(false, limits::CHUNK_BYTES);
            let _ = reader.handle_input(&bytes);
        }

        #[test]
        fn random_payloads_of_every_type_never_panic(
            payload in proptest::collection::vec(any::<u8>(), 0..256),
            kind in 0..FrameType::ALL.len(),
        ) {
            let kind = FrameType::ALL[kind];
            if kind != FrameType::Data {
                let _ = Frame::decode(kind, &payload);
            }
        }
    }
}
