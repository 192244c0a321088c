//! Frames on a byte stream, with and without TLS.

use haul::integrity::crc32c::crc32c;
use haul::limits;
use haul::wire::frame::{CHECKSUM_BYTES, Frame, FrameError, FrameReader, HEADER_BYTES};

use super::bytes::Bytes;
use super::cuts::pieces;

/// A stream gives the same frames and the same fault wherever it is cut; no frame holds more than came; what was read is
/// written as the same frame, with a checksum and without.
pub fn frames(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let choice = bytes.byte();
    let (has_checksums, is_stranger) = (choice & 1 != 0, choice & 2 != 0);
    let chunk_max = bytes.one_of(&[limits::CHUNK_MIN_BYTES, limits::CHUNK_BYTES, limits::CHUNK_MAX_BYTES]);
    let seed = bytes.half();
    let input = bytes.rest();
    // A fuzzer does not find checksums.
    let stream = if has_checksums && choice & 4 != 0 { with_checksums(input) } else { input.to_vec() };
    let reader = || match is_stranger {
        true => FrameReader::before_auth(has_checksums, chunk_max),
        false => FrameReader::new(has_checksums, chunk_max),
    };

    let at_once = read(reader(), &[&stream]);
    let cut = read(reader(), &pieces(&stream, seed));

    assert_eq!(at_once, cut);
    if has_checksums && choice & 4 != 0 {
        let bare = read(FrameReader::new(false, chunk_max), &[input]);
        assert!(is_stranger || bare.0.starts_with(&at_once.0), "a checksum adds no frame");
    }
    let content: usize = at_once.0.iter().map(content_bytes).sum();
    assert!(content <= stream.len());
    for frame in at_once.0 {
        survives(&frame);
    }
}

/// The frames; the fault, or whether the stream may end here.
type Reading = (Vec<Frame>, Result<bool, FrameError>);

fn read(mut reader: FrameReader, pieces: &[&[u8]]) -> Reading {
    let mut frames = Vec::new();
    for piece in pieces {
        let result = reader.handle_input(piece);
        frames.extend(std::iter::from_fn(|| reader.poll_frame()));
        if let Err(error) = result {
            return (frames, Err(error));
        }
    }
    (frames, Ok(reader.is_between_frames()))
}

fn content_bytes(frame: &Frame) -> usize {
    match frame {
        Frame::Data { bytes, .. } => bytes.len(),
        Frame::Feedback { placed, .. } => placed.len(),
        _ => 0,
    }
}

fn survives(frame: &Frame) {
    let mut written = frame.encode();
    for has_checksums in [false, true] {
        if has_checksums {
            let checksum = crc32c(&written).to_le_bytes();
            written.extend_from_slice(&checksum);
        }
        let reader = FrameReader::new(has_checksums, limits::CHUNK_MAX_BYTES);
        assert_eq!(read(reader, &[&written]), (vec![frame.clone()], Ok(true)));
    }
}

/// The stream's frames, as far as their headers say where they end, each with its checksum.
fn with_checksums(stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stream.len() + 64 * CHECKSUM_BYTES);
    let mut rest = stream;
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let len =
            HEADER_BYTES.saturating_add(usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX));
        let Some((frame, after)) = rest.split_at_checked(len) else { break };
        out.extend_from_slice(frame);
        out.extend_from_slice(&crc32c(frame).to_le_bytes());
        rest = after;
    }
    out.extend_from_slice(rest);
    out
}
