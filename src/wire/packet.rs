//! Packets: what a datagram of the UDP flow holds.
//!
//! ```text
//!  0       1               5                 13
//!  +-------+---------------+-----------------+------------------+---------------------+
//!  | first | connection id | packet number   | blocks           | tag, or CRC-32C     |
//!  +-------+---------------+-----------------+------------------+---------------------+
//!    u8      u32             u64               encrypted          16 bytes, or 4
//! ```
//!
//! The header travels in clear and is authenticated; [`security`](crate::security) seals the rest. Inside are
//! blocks, one after the other: a type byte, then its fields as [varints](super::varint). Everything is validated
//! before it is handed out; nothing is copied and nothing is allocated.

use std::ops::RangeInclusive;

use super::numbers::take_numbers;
pub use super::numbers::{NUMBERS_MIN_BYTES, Numbers, Ranges, put_numbers};
use super::varint::{self, VARINT_MAX};
use crate::limits;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 13;
/// The first byte without its key phase.
const FIRST: u8 = 0x40;
/// The bit of the first byte that alternates with each key update.
pub const KEY_PHASE: u8 = 0x01;

/// Names a flow at the side that receives the packet; never 0.
pub type ConnectionId = u32;
/// Number of a packet in its direction; never used twice.
pub type PacketNumber = u64;
/// Number of a chunk in its flow, counted from 0.
pub type ChunkNumber = u64;

/// What stands in front of every packet, in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which generation of keys, as its lowest bit.
    pub key_phase: bool,
    /// Which flow, as the receiver of the packet calls it.
    pub connection: ConnectionId,
    /// The packet's number; below 2⁶² − 1, so that the count of numbers can be said too.
    pub number: PacketNumber,
}

impl Header {
    /// The bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        assert!(self.number < VARINT_MAX);
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = FIRST | if self.key_phase { KEY_PHASE } else { 0 };
        bytes[1..5].copy_from_slice(&self.connection.to_le_bytes());
        bytes[5..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads the header of a datagram; `None` if it is no packet of haul. protocol.md [PACKET-1]
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let (header, _) = datagram.split_first_chunk::<HEADER_BYTES>()?;
        let number = u64::from_le_bytes(header[5..].try_into().ok()?);
        (header[0] & !KEY_PHASE == FIRST && number < VARINT_MAX).then(|| Self {
            key_phase: header[0] & KEY_PHASE != 0,
            connection: u32::from_le_bytes([header[1], header[2], header[3], header[4]]),
            number,
        })
    }
}

/// One block of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// Asks for an acknowledgement, and nothing else.
    Ping,
    /// Content.
    Data(Data<'a>),
    /// What the receiver of content has.
    Ack(Ack<'a>),
    /// Older numbers, in the same packet as an [`Ack`] or alone.
    Older(Numbers<'a>),
    /// What the sender of content tells its receiver about the flow.
    Floor(Floor),
    /// To be echoed from where it arrives.
    Challenge([u8; 8]),
    /// The echo.
    Response([u8; 8]),
    /// The flow is over in this direction.
    Close(CloseReason),
}

/// A piece of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Number of the chunk in the flow.
    pub chunk: ChunkNumber,
    /// Entry number of its file.
    pub file: u64,
    /// Where the chunk begins in the file, bytes.
    pub offset: u64,
    /// Length of the chunk, bytes; 1..=`limits::CHUNK_MAX_BYTES`.
    pub len: u32,
    /// Where these bytes begin in the chunk.
    pub at: u32,
    /// At least one; they end within the chunk.
    pub bytes: &'a [u8],
}

impl Data<'_> {
    /// Most bytes that stand in front of the content of a block.
    pub fn overhead(chunk: ChunkNumber, file: u64, offset: u64, len: u32) -> usize {
        let len = u64::from(len);
        1 + varint::len(chunk) + varint::len(file) + varint::len(offset) + 2 * varint::len(len) + 2
    }

    /// Appends the block.
    pub fn put(&self, out: &mut Vec<u8>) {
        assert!(!self.bytes.is_empty());
        assert!(self.at as usize + self.bytes.len() <= self.len as usize);
        // protocol.md [PACKET-8]: every offset of a file that is sent can be said.
        const { assert!(limits::SENT_FILE_MAX_BYTES <= VARINT_MAX) };
        out.push(DATA);
        varint::put(out, self.chunk);
        varint::put(out, self.file);
        varint::put(out, self.offset);
        varint::put(out, self.len.into());
        varint::put(out, self.at.into());
        let n = u16::try_from(self.bytes.len()).expect("what fits a datagram");
        out.extend_from_slice(&n.to_le_bytes());
        out.extend_from_slice(self.bytes);
    }
}

/// What the receiver of content has and what it grants. Each one repeats all that its reader may have missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// When the largest number of `numbers` arrived: microseconds of the receiver's clock.
    pub received_us: u64,
    /// How long ago that was, microseconds.
    pub delay_us: u64,
    /// Datagrams that the receiver's socket has dropped for want of room so far, as far as it knows.
    pub drops: u64,
    /// Content that the session's sender may have sent in all, bytes; the same count as in FEEDBACK.
    pub credit: u64,
    /// Chunks of this flow that are placed.
    pub placed: Placed<'a>,
    /// Numbers received.
    pub numbers: Numbers<'a>,
}

/// Chunks of a flow that are placed: all below a floor, and ranges above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// All chunks below this number are placed.
    pub floor: ChunkNumber,
    /// Encoded ranges, validated.
    ranges: &'a [u8],
}

impl Placed<'_> {
    /// The ranges above the floor, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<ChunkNumber>> {
        let mut bytes = self.ranges;
        let mut next = self.floor;
        std::iter::from_fn(move || {
            let start = next + varint::take(&mut bytes)? + 1;
            let end = start + varint::take(&mut bytes)?;
            next = end + 1;
            Some(start..=end)
        })
    }
}

/// What the sender of content tells its receiver about the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// Numbers below this need not be acknowledged any more.
    pub floor: PacketNumber,
    /// How long the receiver may wait before it acknowledges, microseconds.
    pub ack_interval_us: u64,
    /// One more than the largest number received of the other direction; 0 for none.
    pub heard: PacketNumber,
}

/// Why a flow ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CloseReason {
    /// It is no longer needed.
    Done = 0,
    /// The peer broke the protocol.
    Violation = 1,
    /// The path does not carry the flow well enough.
    Unfit = 2,
}

impl CloseReason {
    fn from_u8(value: u8) -> Option<Self> {
        [Self::Done, Self::Violation, Self::Unfit].into_iter().find(|&reason| reason as u8 == value)
    }
}

const PAD: u8 = 0;
const PING: u8 = 1;
const DATA: u8 = 2;
const ACK: u8 = 3;
const OLDER: u8 = 4;
const FLOOR: u8 = 5;
const CHALLENGE: u8 = 6;
const RESPONSE: u8 = 7;
const CLOSE: u8 = 8;

/// Bytes that are no packet, from a peer that has the keys: it broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it sent a malformed packet: {0}")]
pub struct PacketError(pub(super) &'static str);

/// The blocks of an opened packet, in order; ends at padding, at the end, or with the first error.
pub fn blocks(payload: &[u8]) -> impl Iterator<Item = Result<Block<'_>, PacketError>> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let block = take_block(&mut rest).transpose()?;
        if block.is_err() {
            rest = &[];
        }
        Some(block)
    })
}

fn take_block<'a>(rest: &mut &'a [u8]) -> Result<Option<Block<'a>>, PacketError> {
    let Some((&kind, after)) = rest.split_first() else { return Ok(None) };
    *rest = after;
    let block = match kind {
        PAD => {
            let is_clean = std::mem::take(rest).iter().all(|&byte| byte == 0);
            return if is_clean { Ok(None) } else { Err(PacketError("padding that is not zero")) };
        }
        PING => Block::Ping,
        DATA => Block::Data(take_data(rest)?),
        ACK => {
            let [received_us, delay_us, drops, credit] = take_varints(rest)?;
            let placed = take_placed(rest)?;
            let numbers = take_numbers(rest)?;
            Block::Ack(Ack { received_us, delay_us, drops, credit, placed, numbers })
        }
        OLDER => Block::Older(take_numbers(rest)?),
        FLOOR => {
            let [floor, ack_interval_us, heard] = take_varints(rest)?;
            Block::Floor(Floor { floor, ack_interval_us, heard })
        }
        CHALLENGE => Block::Challenge(take_array(rest)?),
        RESPONSE => Block::Response(take_array(rest)?),
        CLOSE => {
            let [reason] = take_array(rest)?;
            Block::Close(CloseReason::from_u8(reason).ok_or(PacketError("an unknown reason to close"))?)
        }
        // protocol.md [PACKET-5]
        _ => return Err(PacketError("an unknown block")),
    };
    Ok(Some(block))
}

const CUT: PacketError = PacketError("a block that is cut off, or a number that is longer than it need be");

pub(super) fn take_varint(rest: &mut &[u8]) -> Result<u64, PacketError> {
    varint::take(rest).ok_or(CUT)
}

pub(super) fn take_varints<const N: usize>(rest: &mut &[u8]) -> Result<[u64; N], PacketError> {
    let mut values = [0; N];
    for value in &mut values {
        *value = take_varint(rest)?;
    }
    Ok(values)
}

pub(super) fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], PacketError> {
    let (head, after) = rest.split_first_chunk::<N>().ok_or(CUT)?;
    *rest = after;
    Ok(*head)
}

pub(super) fn take_slice<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], PacketError> {
    let (head, after) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or(CUT)?;
    *rest = after;
    Ok(head)
}

/// protocol.md [PACKET-6]
fn take_data<'a>(rest: &mut &'a [u8]) -> Result<Data<'a>, PacketError> {
    let [chunk, file, offset, len, at] = take_varints(rest)?;
    let n = u16::from_le_bytes(take_array(rest)?);
    let bytes = take_slice(rest, n.into())?;
    let is_inside = (1..=limits::CHUNK_MAX_BYTES as u64).contains(&len)
        && n > 0
        && at.checked_add(n.into()).is_some_and(|end| end <= len);
    match (u32::try_from(len), u32::try_from(at)) {
        (Ok(len), Ok(at)) if is_inside => Ok(Data { chunk, file, offset, len, at, bytes }),
        _ => Err(PacketError("content outside of its chunk")),
    }
}

/// protocol.md [PACKET-7]
fn take_placed<'a>(rest: &mut &'a [u8]) -> Result<Placed<'a>, PacketError> {
    let [floor, count] = take_varints(rest)?;
    if count > limits::PLACED_RANGES_MAX as u64 {
        return Err(PacketError("too many placed ranges"));
    }
    let whole = *rest;
    let mut next = floor;
    for _ in 0..count {
        for step in take_varints::<2>(rest)? {
            next = next
                .checked_add(step)
                .and_then(|end| end.checked_add(1))
                .filter(|&end| end <= VARINT_MAX)
                .ok_or(PacketError("a placed range beyond all numbers"))?;
        }
    }
    Ok(Placed { floor, ranges: &whole[..whole.len() - rest.len()] })
}

/// Appends a PING.
pub fn put_ping(out: &mut Vec<u8>) {
    out.push(PING);
}

/// Pads with zeros until `out` is `len` bytes long. Nothing may follow.
pub fn put_padding(out: &mut Vec<u8>, len: usize) {
    out.resize(len.max(out.len()), PAD);
}

/// Appends a FLOOR.
pub fn put_floor(out: &mut Vec<u8>, floor: &Floor) {
    out.push(FLOOR);
    varint::put(out, floor.floor);
    varint::put(out, floor.ack_interval_us);
    varint::put(out, floor.heard);
}

/// Appends a CHALLENGE.
pub fn put_challenge(out: &mut Vec<u8>, token: [u8; 8]) {
    out.push(CHALLENGE);
    out.extend_from_slice(&token);
}

/// Appends a RESPONSE.
pub fn put_response(out: &mut Vec<u8>, token: [u8; 8]) {
    out.push(RESPONSE);
    out.extend_from_slice(&token);
}

/// Appends a CLOSE.
pub fn put_close(out: &mut Vec<u8>, reason: CloseReason) {
    out.push(CLOSE);
    out.push(reason as u8);
}

/// What an [`Ack`] says besides the numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckFacts {
    /// See [`Ack::received_us`].
    pub received_us: u64,
    /// See [`Ack::delay_us`].
    pub delay_us: u64,
    /// See [`Ack::drops`].
    pub drops: u64,
    /// See [`Ack::credit`].
    pub credit: u64,
}

/// Appends an ACK without its numbers; [`put_numbers`] has to follow. `placed` ascends above `floor` without touching;
/// at most `limits::PLACED_RANGES_MAX` of it are taken.
pub fn put_ack(
    out: &mut Vec<u8>,
    facts: &AckFacts,
    floor: ChunkNumber,
    placed: impl ExactSizeIterator<Item = RangeInclusive<ChunkNumber>>,
) {
    out.push(ACK);
    for value in [facts.received_us, facts.delay_us, facts.drops, facts.credit, floor] {
        varint::put(out, value.min(VARINT_MAX));
    }
    let count = placed.len().min(limits::PLACED_RANGES_MAX);
    varint::put(out, count as u64);
    let mut next = floor;
    for range in placed.take(count) {
        varint::put(out, range.start() - next - 1);
        varint::put(out, range.end() - range.start());
        next = range.end() + 1;
    }
}

/// Appends the type of an OLDER block; [`put_numbers`] has to follow.
pub fn put_older(out: &mut Vec<u8>) {
    out.push(OLDER);
}

#[cfg(test)]
mod tests;
