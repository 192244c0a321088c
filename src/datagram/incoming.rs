//! Puts chunks together from pieces in any order, and remembers which are placed.
//!
//! A piece goes to its place in its chunk's buffer at once; nothing waits for what is missing before it. What peers
//! can open is bounded by what they may send: partial chunks together never exceed the credit that is left.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
};

use super::{FlowError, ranges::Ranges};
use crate::{
    limits,
    wire::{
        packet::{ChunkNumber, Data},
        varint::VARINT_MAX,
    },
};

/// A chunk of which all bytes have come.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its number in the flow.
    pub number: ChunkNumber,
    /// Entry number of its file.
    pub file: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A set of chunk numbers that fills up from 0: all below a floor, and some above.
#[derive(Debug, Default)]
pub struct Filling {
    floor: ChunkNumber,
    above: Ranges,
}

impl Filling {
    fn contains(&self, number: ChunkNumber) -> bool {
        number < self.floor || self.above.first_missing(number..number + 1).is_none()
    }

    fn insert(&mut self, number: ChunkNumber) -> bool {
        if number < self.floor {
            return false;
        }
        let is_new = self.above.insert(number..number + 1) > 0;
        if let Some(end) = self.above.take_front(self.floor) {
            self.floor = end;
        }
        is_new
    }

    /// All below are in the set.
    pub fn floor(&self) -> ChunkNumber {
        self.floor
    }

    /// What is in the set above the floor, ascending.
    pub fn above(&self) -> impl ExactSizeIterator<Item = RangeInclusive<ChunkNumber>> {
        self.above.iter().map(|Range { start, end }| *start..=end - 1)
    }
}

/// The chunks of a flow on their way in.
#[derive(Debug, Default)]
pub struct Incoming {
    partial: BTreeMap<ChunkNumber, Partial>,
    /// Sum of the lengths of `partial`.
    partial_bytes: u64,
    /// Separate pieces that `partial` holds.
    pieces: usize,
    whole: Filling,
    placed: Filling,
    /// Bytes of content that came for the first time.
    new_bytes: u64,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Partial {
    file: u64,
    offset: u64,
    len: u32,
    bytes: Vec<u8>,
    have: Ranges,
    have_bytes: u64,
}

impl Incoming {
    /// Takes a DATA block; gives its chunk when that is whole. Partial chunks may hold `room` bytes together.
    pub fn on_data(&mut self, data: &Data<'_>, room: u64) -> Result<Option<Whole>, FlowError> {
        if self.whole.contains(data.chunk) {
            return Ok(None);
        }
        // protocol.md [FLOW-3]: nobody could be told that it is placed.
        if data.chunk >= VARINT_MAX {
            return Err(FlowError::Violation("it numbered a chunk beyond all numbers"));
        }
        if data.bytes.len() == data.len as usize && !self.partial.contains_key(&data.chunk) {
            let mut bytes = self.spare.pop().unwrap_or_default();
            bytes.extend_from_slice(data.bytes);
            self.new_bytes += u64::from(data.len);
            return self.complete(data.chunk, data.file, data.offset, bytes);
        }
        if !self.partial.contains_key(&data.chunk) {
            self.open(data, room)?;
        }
        let chunk = self.partial.get_mut(&data.chunk).expect("it is open");
        // protocol.md [FLOW-3]
        if (chunk.file, chunk.offset, chunk.len) != (data.file, data.offset, data.len) {
            return Err(FlowError::Violation("it described a chunk in two ways"));
        }
        let at = u64::from(data.at);
        let before = chunk.have.iter().len();
        let new = chunk.have.insert(at..at + data.bytes.len() as u64);
        if new == 0 {
            return Ok(None);
        }
        self.pieces = self.pieces + chunk.have.iter().len() - before;
        // protocol.md [FLOW-3]: what lies between the pieces is remembered too.
        if self.pieces > limits::BACKLOG_MAX_FRAMES {
            return Err(FlowError::Violation("it sent chunks in too many pieces"));
        }
        put_at(&mut chunk.bytes, data.at as usize, data.bytes);
        chunk.have_bytes += new;
        self.new_bytes += new;
        if chunk.have_bytes < u64::from(chunk.len) {
            return Ok(None);
        }
        let chunk = self.partial.remove(&data.chunk).expect("it is open");
        self.partial_bytes -= u64::from(chunk.len);
        self.pieces -= chunk.have.iter().len();
        self.complete(data.chunk, chunk.file, chunk.offset, chunk.bytes)
    }

    /// A chunk was placed.
    pub fn on_placed(&mut self, number: ChunkNumber) {
        self.placed.insert(number);
    }

    /// Chunks that are placed.
    pub fn placed(&self) -> &Filling {
        &self.placed
    }

    /// Bytes that partial chunks will hold when they are whole.
    pub fn partial_bytes(&self) -> u64 {
        self.partial_bytes
    }

    /// Bytes of content that have come, each counted once.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes
    }

    /// Gives an emptied buffer back for a later chunk.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.spare.push(buffer);
    }

    /// Whether a buffer is welcome.
    pub fn wants_spare(&self) -> bool {
        self.spare.len() < SPARE_MAX
    }

    fn open(&mut self, data: &Data<'_>, room: u64) -> Result<(), FlowError> {
        // protocol.md [CREDIT-1]: as soon as a chunk begins.
        if self.partial_bytes + u64::from(data.len) > room {
            return Err(FlowError::Violation("it began more chunks than its credit allows"));
        }
        if self.partial.len() >= limits::BACKLOG_MAX_FRAMES {
            return Err(FlowError::Violation("it began too many chunks at once"));
        }
        self.partial_bytes += u64::from(data.len);
        let bytes = self.spare.pop().unwrap_or_default();
        let (file, offset, len) = (data.file, data.offset, data.len);
        let partial = Partial { file, offset, len, bytes, have: Ranges::default(), have_bytes: 0 };
        self.partial.insert(data.chunk, partial);
        Ok(())
    }

    fn complete(
        &mut self,
        number: ChunkNumber,
        file: u64,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<Option<Whole>, FlowError> {
        self.whole.insert(number);
        // protocol.md [FLOW-3]: numbers are given without gaps, so that only what is on its way is missing.
        if self.whole.above.len() > limits::BACKLOG_MAX_FRAMES {
            return Err(FlowError::Violation("it left too many chunks out"));
        }
        Ok(Some(Whole { number, file, offset, bytes }))
    }
}

/// Writes `bytes` at `at`, lengthening the buffer as far as is needed.
fn put_at(buffer: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if buffer.len() < at {
        buffer.resize(at, 0);
    }
    let over = bytes.len().min(buffer.len() - at);
    buffer[at..at + over].copy_from_slice(&bytes[..over]);
    buffer.extend_from_slice(&bytes[over..]);
}

/// Emptied buffers that are kept.
const SPARE_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet;

    fn piece(chunk: u64, at: u32, bytes: &[u8]) -> Data<'_> {
        Data { chunk, file: 7, offset: 1000 * chunk, len: 10, at, bytes }
    }

    #[test]
    fn pieces_in_any_order_and_twice_make_one_chunk() {
        let mut incoming = Incoming::default();

        assert_eq!(incoming.on_data(&piece(0, 6, &[6, 7, 8, 9]), 10), Ok(None));
        assert_eq!(incoming.on_data(&piece(0, 6, &[6, 7, 8, 9]), 10), Ok(None));
        assert_eq!(incoming.on_data(&piece(0, 0, &[0, 1, 2]), 10), Ok(None));
        let whole = incoming.on_data(&piece(0, 2, &[2, 3, 4, 5, 6]), 10).unwrap().unwrap();

        assert_eq!(whole.bytes, (0..10).collect::<Vec<u8>>());
        assert_eq!(incoming.on_data(&piece(0, 0, &[0; 10]), 10), Ok(None), "it was whole already");
        assert_eq!(incoming.partial_bytes(), 0);
    }

    #[test]
    fn chunks_are_begun_within_the_credit_only() {
        // protocol.md [CREDIT-1]
        let mut incoming = Incoming::default();

        assert_eq!(incoming.on_data(&piece(0, 0, &[0]), 20), Ok(None));
        assert_eq!(incoming.on_data(&piece(1, 0, &[0]), 20), Ok(None), "just inside");
        assert!(incoming.on_data(&piece(2, 0, &[0]), 20).is_err(), "just outside");
    }

    #[test]
    fn a_chunk_has_one_description() {
        // protocol.md [FLOW-3]
        let mut incoming = Incoming::default();
        incoming.on_data(&piece(0, 0, &[0]), 20).unwrap();

        assert!(incoming.on_data(&Data { file: 8, ..piece(0, 1, &[1]) }, 20).is_err());
        assert!(incoming.on_data(&Data { offset: 1, ..piece(0, 1, &[1]) }, 20).is_err());
        assert!(incoming.on_data(&Data { len: 11, ..piece(0, 1, &[1]) }, 20).is_err());
    }

    #[test]
    fn a_chunk_has_a_number_that_can_be_told_placed() {
        // protocol.md [FLOW-3]
        let mut incoming = Incoming::default();
        let one = |chunk| Data { chunk, file: 0, offset: 0, len: 1, at: 0, bytes: &[1] };
        let placed_in_ack = |incoming: &Incoming| {
            let (mut out, placed) = (Vec::new(), incoming.placed());
            packet::put_ack(&mut out, &packet::AckFacts::default(), placed.floor(), placed.above());
            packet::put_numbers(&mut out, std::iter::once(0..=0), 100);
            packet::blocks(&out).next().unwrap().map(|_| ())
        };

        assert!(incoming.on_data(&one(VARINT_MAX - 1), 10).unwrap().is_some(), "just inside");
        incoming.on_placed(VARINT_MAX - 1);
        assert_eq!(placed_in_ack(&incoming), Ok(()));
        assert!(incoming.on_data(&one(VARINT_MAX), 10).is_err(), "just outside");
    }

    #[test]
    fn what_is_placed_is_a_floor_and_ranges_above_it() {
        let mut incoming = Incoming::default();
        for number in [0, 3, 4, 1, 9] {
            incoming.on_placed(number);
        }

        assert_eq!(incoming.placed().floor(), 2);
        assert_eq!(incoming.placed().above().collect::<Vec<_>>(), [3..=4, 9..=9]);
    }

    #[test]
    fn chunks_that_are_left_out_do_not_choose_our_memory() {
        // protocol.md [FLOW-3]
        let mut incoming = Incoming::default();
        let one = |chunk| Data { chunk, file: 0, offset: 0, len: 1, at: 0, bytes: &[1] };
        for number in 0..limits::BACKLOG_MAX_FRAMES as u64 {
            assert!(incoming.on_data(&one(number * 2 + 1), 10).is_ok());
        }

        assert!(incoming.on_data(&one(1 << 40), 10).is_err());
    }
}
