//! Packets of a flow without encryption, from a peer that has no keys to want and every freedom with what is inside.

use std::net::SocketAddr;
use std::time::Duration;

use haul::datagram::{FlowConfig, Path};
use haul::security::{FlowId, Opener, Sealer, Side};
use haul::wire::packet::{self, Data, Floor, HEADER_BYTES, PacketNumber};
use haul::wire::varint::VARINT_MAX;

use super::bytes::Bytes;

const FLOW: FlowId = FlowId { session: [7; 16], attempt: 0, client: 0x1111, server: 0x2222 };

/// Where a server is.
pub fn server_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 7420))
}

/// Where a client may be: two ports of a host, and another host.
pub fn client_addresses() -> [SocketAddr; 3] {
    [([10, 0, 0, 1], 5001), ([10, 0, 0, 1], 5002), ([10, 0, 0, 9], 5001)].map(SocketAddr::from)
}

/// What an end on this side is made with.
pub fn config(own: Side) -> FlowConfig {
    let path = match own {
        Side::Client => Path::to_server(server_address()),
        Side::Server => Path::to_client(),
    };
    FlowConfig { sealer: Sealer::plain(&FLOW, own), opener: Opener::plain(&FLOW, own), path, seed: [5; 32] }
}

/// A packet from this side.
pub fn sealed(from: Side, number: PacketNumber, blocks: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(blocks);
    Sealer::plain(&FLOW, from).seal(number, &mut packet, 0).expect("a checksum is never used up");
    packet
}

/// A packet to this side: its number and blocks.
pub fn opened(to: Side, datagram: &[u8]) -> (PacketNumber, Vec<u8>) {
    let mut datagram = datagram.to_vec();
    let (header, blocks) = Opener::plain(&FLOW, to).open(&mut datagram).expect("it is ours");
    (header.number, blocks.to_vec())
}

/// The number of the peer's next packet: mostly the next one, sometimes an old one or one ahead, seldom far ahead: who
/// looks for what is missing looks long there.
pub fn number(bytes: &mut Bytes<'_>, next: &mut PacketNumber) -> PacketNumber {
    let number = match bytes.byte() {
        choice if choice % 8 == 0 => next.saturating_sub(bytes.number()),
        1 => next.saturating_add(bytes.number()),
        choice if choice % 8 == 1 => next.saturating_add(bytes.number() % 1000),
        _ => *next,
    };
    let number = number.min(VARINT_MAX - 1);
    *next = (*next).max(number + 1).min(VARINT_MAX - 1);
    number
}

/// Time that passes: at most twelve days, so that a flow does not outlive who looks at it.
pub fn step(bytes: &mut Bytes<'_>) -> Duration {
    Duration::from_micros(bytes.number() >> 24)
}

/// A piece of a chunk of file content. Which file, where and how long follows from the chunk's number, unless the peer
/// describes it in its own way.
pub fn put_data(bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
    let chunk = bytes.number().min(VARINT_MAX);
    let (mut file, mut offset, mut len) = described(chunk);
    if bytes.below(16) == 0 {
        (file, offset) = (bytes.number().min(VARINT_MAX), bytes.number().min(VARINT_MAX));
        len = 1 + u32::from(bytes.half());
    }
    let at = if bytes.coin() { 0 } else { u32::from(bytes.half()) % len };
    let most = (len - at).min(1000);
    let n = if bytes.coin() { most } else { 1 + u32::from(bytes.half()) % most };
    let content: Vec<u8> = (at..at + n).map(|at| byte_of(chunk, at)).collect();
    Data { chunk, file, offset, len, at, bytes: &content }.put(out);
}

/// File, offset and length of a chunk.
pub fn described(chunk: u64) -> (u64, u64, u32) {
    let len = 1 + u32::from(chunk.wrapping_mul(37).to_le_bytes()[0]) * 12;
    (chunk % 3, chunk.saturating_mul(4096).min(VARINT_MAX), len)
}

/// What stands there in a chunk.
pub fn byte_of(chunk: u64, at: u32) -> u8 {
    chunk.wrapping_mul(31).wrapping_add(at.into()).to_le_bytes()[0]
}

/// A FLOOR.
pub fn put_floor(bytes: &mut Bytes<'_>, out: &mut Vec<u8>) {
    let mut value = || bytes.number().min(VARINT_MAX);
    packet::put_floor(out, &Floor { floor: value(), ack_interval_us: value(), heard: value() });
}
