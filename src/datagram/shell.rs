//! What both ends of a flow have: keys, numbers, the path, and a memory of what came.

use std::{net::SocketAddr, time::Duration};

use super::{
    FlowError,
    chance::Chance,
    path::{Arrived, Path},
    received::{Arrival, Received},
};
use crate::{
    security::{Opener, Sealer},
    wire::packet::{self, HEADER_BYTES, PacketNumber},
};

/// About every so many packets, a number is skipped: who acknowledges it did not receive it.
const SKIP_EVERY: u64 = 512;
/// An unanswered challenge is repeated so often.
const CHALLENGE_PERIOD: Duration = Duration::from_millis(100);

/// The outer layer of one end.
#[derive(Debug)]
pub struct Shell {
    sealer: Sealer,
    opener: Opener,
    /// The next number of ours to skip.
    skip_at: PacketNumber,
    chance: Chance,
    /// Where the peer is.
    pub path: Path,
    /// Numbers received of the peer.
    pub received: Received,
    /// Challenge to echo.
    response: Option<[u8; 8]>,
    /// When the own challenge may be repeated.
    challenge_at: Duration,
    /// When an authentic packet came last.
    pub last_heard: Option<Duration>,
    /// Datagrams that were no packets of this flow.
    pub rejected: u64,
    /// Packets that opened, each counted once.
    pub opened: u64,
    /// Those of them that came after one with a larger number.
    pub late: u64,
    /// Packets that opened and whose number had come already, or was too old to tell.
    pub duplicates: u64,
    /// Bytes of datagrams sent and received.
    pub wire_bytes: u64,
}

/// An authentic packet that is not a repetition.
#[derive(Debug)]
pub struct Opened<'a> {
    /// Its number.
    pub number: PacketNumber,
    /// Its blocks.
    pub payload: &'a [u8],
    /// What its number is among the others.
    pub arrival: Arrival,
    /// Whether the peer has moved.
    pub arrived: Arrived,
}

impl Shell {
    /// The shell of a flow with these keys.
    pub fn new(sealer: Sealer, opener: Opener, path: Path, mut chance: Chance) -> Self {
        Self {
            sealer,
            opener,
            skip_at: 1 + chance.below(SKIP_EVERY),
            chance,
            path,
            received: Received::default(),
            response: None,
            challenge_at: Duration::ZERO,
            last_heard: None,
            rejected: 0,
            opened: 0,
            late: 0,
            duplicates: 0,
            wire_bytes: 0,
        }
    }

    /// Opens a datagram. `None`: it is not authentic, or a repetition; nobody answers it and nothing changes.
    /// protocol.md [PACKET-2]
    pub fn open<'a>(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &'a mut [u8],
    ) -> Option<Opened<'a>> {
        let bytes = datagram.len() as u64;
        let Ok((header, payload)) = self.opener.open(datagram) else {
            self.rejected += 1;
            return None;
        };
        // protocol.md [FLOW-6]
        let arrival = self.received.insert(header.number);
        if arrival == Arrival::Duplicate {
            self.duplicates += 1;
            return None;
        }
        self.opened += 1;
        self.late += u64::from(arrival == Arrival::Late);
        self.wire_bytes += bytes;
        self.last_heard = Some(now);
        let is_newest = arrival != Arrival::Late;
        let chance = &mut self.chance;
        let arrived = self.path.on_packet(from, bytes, is_newest, || chance.bytes());
        if arrived != Arrived::Same {
            self.challenge_at = now;
        }
        Some(Opened { number: header.number, payload, arrival, arrived })
    }

    /// A CHALLENGE came. protocol.md [PATH-3]
    pub fn on_challenge(&mut self, token: [u8; 8]) {
        self.response = Some(token);
    }

    /// Whether a challenge or a response waits to be sent.
    pub fn has_urgent(&self, now: Duration) -> bool {
        self.response.is_some() || (self.path.challenge().is_some() && self.challenge_at <= now)
    }

    /// When a challenge or a response is to be sent.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let challenge_at = self.path.challenge().map(|_| self.challenge_at);
        if self.response.is_some() { Some(Duration::ZERO) } else { challenge_at }
    }

    /// Appends the blocks that wait.
    pub fn put_urgent(&mut self, now: Duration, out: &mut Vec<u8>) {
        if let Some(token) = self.response.take() {
            packet::put_response(out, token);
        }
        if let Some(token) = self.path.challenge().filter(|_| self.challenge_at <= now) {
            self.challenge_at = now + CHALLENGE_PERIOD;
            packet::put_challenge(out, token);
        }
    }

    /// Begins a packet at the end of `out`.
    pub fn begin(out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        start
    }

    /// Whether `number` is to be left out; asked for each number once. protocol.md [FLOW-4]
    pub fn skips(&mut self, number: PacketNumber) -> bool {
        let is_skipped = number == self.skip_at;
        if is_skipped {
            self.skip_at = number + 2 + self.chance.below(2 * SKIP_EVERY);
        }
        is_skipped
    }

    /// Seals the packet that begins at `start`.
    pub fn seal(&mut self, number: PacketNumber, out: &mut Vec<u8>, start: usize) -> Result<(), FlowError> {
        self.sealer.seal(number, out, start).map_err(|_| FlowError::Spent)?;
        let bytes = (out.len() - start) as u64;
        self.path.on_sent(bytes);
        self.wire_bytes += bytes;
        Ok(())
    }

    /// The peer has received all below some number of ours, or this very one.
    pub fn on_acked(&mut self, number: PacketNumber) {
        self.sealer.on_acked(number);
    }

    /// Bytes behind the blocks of a packet.
    pub fn trailer_bytes(&self) -> usize {
        self.sealer.tag_bytes()
    }
}
