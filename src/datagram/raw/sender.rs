//! The sending end of a raw flow: chunks into packets, at a rate.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{
    super::{
        FlowConfig, FlowError, Transmit,
        chance::Chance,
        pacer::{LATE_MAX, Pacer, scaled},
        path::Arrived,
        received::{Arrival, Received},
    },
    CHECK_EVERY, FULL_TRIES, NO_PLACE, RAW_PACKET_BYTES, RAW_PACKET_FEW_BYTES, tries_by, try_at,
};
use crate::{
    datagram::Path,
    limits,
    security::{Opener, Sealer},
    transfer::raw::RawChunk,
    wire::packet::{self, Block, ChunkNumber, Data, HEADER_BYTES, PacketNumber, blocks},
};

/// Most datagrams of one batch.
const BATCH_PACKETS: usize = 64;
/// Content is put into a packet that has so much room left behind other content, bytes.
const ROOM_MIN: usize = 64;
/// Content that waits in the flow, as time at its rate, and at least.
const CHUNK_AHEAD: Duration = Duration::from_millis(20);
const CHUNK_AHEAD_MIN: u64 = 64 << 10;
/// Challenges that may still be answered.
const CHECKS_MAX: usize = 8;

/// The sending end of a raw flow.
#[derive(Debug)]
pub struct RawSender {
    sealer: Sealer,
    opener: Opener,
    path: Path,
    chance: Chance,
    /// Numbers received of the peer.
    seen: Received,
    /// Number of the next packet.
    next: PacketNumber,
    pacer: Pacer,
    /// Bytes of datagrams a second.
    rate: u64,
    /// Bytes of a datagram.
    packet_bytes: u64,
    queue: VecDeque<Outgoing>,
    queued_bytes: u64,
    /// Number of the chunk at the front of the queue.
    chunk: ChunkNumber,
    /// See [`RawChunk::to`]: all before has left.
    sent_to: u64,
    spare: Vec<Vec<u8>>,
    checks: VecDeque<Check>,
    /// Whether the peer has answered from where it is.
    is_confirmed: bool,
    /// Since when it has not, how often it was asked, and how many times that was due.
    asking_since: Duration,
    asked: usize,
    due: usize,
    check_every: u64,
    /// The number of the packet that asks next, once confirmed.
    check_at: PacketNumber,
    /// Nothing is sent any more.
    is_over: bool,
    wire_bytes: u64,
}

/// A chunk that waits.
#[derive(Debug)]
struct Outgoing {
    chunk: RawChunk,
    /// Bytes of it that have left.
    at: usize,
}

/// A challenge on its way.
#[derive(Clone, Copy, Debug)]
struct Check {
    token: [u8; 8],
    number: PacketNumber,
    /// Length of its packet.
    bytes: u64,
}

impl RawSender {
    /// A sending end at `rate` bytes of datagrams a second, which is not 0.
    pub fn new(now: Duration, config: FlowConfig, rate: u64) -> Self {
        assert!(rate > 0);
        Self {
            sealer: config.sealer,
            opener: config.opener,
            path: config.path,
            chance: Chance::new(config.seed),
            seen: Received::default(),
            next: 0,
            pacer: Pacer::default(),
            rate,
            packet_bytes: RAW_PACKET_BYTES,
            queue: VecDeque::new(),
            queued_bytes: 0,
            chunk: 0,
            sent_to: 0,
            spare: Vec::new(),
            checks: VecDeque::new(),
            is_confirmed: false,
            asking_since: now,
            asked: 0,
            due: 0,
            check_every: CHECK_EVERY,
            check_at: 0,
            is_over: false,
            wire_bytes: 0,
        }
    }

    // --- Input ---

    /// Takes a datagram. protocol.md [PACKET-2]: what is not authentic changes nothing.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(), FlowError> {
        let bytes = datagram.len() as u64;
        let Ok((header, payload)) = self.opener.open(datagram) else { return Ok(()) };
        let arrival = self.seen.insert(header.number);
        if arrival == Arrival::Duplicate {
            return Ok(());
        }
        self.wire_bytes += bytes;
        let chance = &mut self.chance;
        let arrived = self.path.on_packet(from, bytes, arrival != Arrival::Late, || chance.bytes());
        if arrived != Arrived::Same {
            // What was asked at another address proves nothing about this one.
            self.checks.clear();
            self.is_confirmed = self.is_confirmed && self.path.is_proven();
            (self.asking_since, self.asked, self.due) = (now, 0, 0);
        }
        for block in blocks(payload) {
            match block? {
                Block::Ping => {}
                Block::Response(token) => self.on_response(from, token),
                // protocol.md [RAW-1]
                _ => return Err(NO_PLACE),
            }
        }
        Ok(())
    }

    fn on_response(&mut self, from: SocketAddr, token: [u8; 8]) {
        let Some(check) = self.checks.iter().find(|check| check.token == token).copied() else { return };
        if self.path.remote() != Some(from) {
            return;
        }
        // What went to this address alone came back from it. protocol.md [PATH-1]
        if let Some(own) = self.path.challenge() {
            self.path.on_response(from, own);
        }
        self.sealer.on_acked(check.number);
        self.checks.clear();
        if !self.is_confirmed {
            self.is_confirmed = true;
            self.packet_bytes = check.bytes;
            self.check_at = self.next + self.check_every;
        }
    }

    /// Takes a chunk to send.
    pub fn push_chunk(&mut self, chunk: RawChunk) {
        self.queued_bytes += chunk.bytes.len() as u64;
        self.queue.push_back(Outgoing { chunk, at: 0 });
        self.drop_finished();
    }

    /// Nothing is sent from here on.
    pub fn finish(&mut self) {
        self.is_over = true;
    }

    // --- Output ---

    /// The next datagrams to send.
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<Option<Transmit>, FlowError> {
        out.clear();
        let Some(to) = self.path.remote().filter(|_| !self.is_over) else { return Ok(None) };
        match self.is_confirmed {
            false => self.put_challenge(now, out)?,
            true => self.put_content(now, out)?,
        }
        let segment_bytes = out.len().min(usize::try_from(self.packet_bytes).expect("a datagram"));
        Ok((!out.is_empty()).then_some(Transmit { to, segment_bytes }))
    }

    /// Asks whether the peer hears, if it is time.
    fn put_challenge(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<(), FlowError> {
        self.packet_bytes = if self.asked < FULL_TRIES { RAW_PACKET_BYTES } else { RAW_PACKET_FEW_BYTES };
        // protocol.md [PATH-1]
        if try_at(self.asking_since, self.due) > now || self.path.room() < self.packet_bytes {
            return Ok(());
        }
        self.asked += 1;
        self.due = tries_by(self.asking_since, now);
        let start = self.begin(out);
        self.put_check(out);
        packet::put_padding(out, start + self.room_in_packet());
        self.seal(out, start)
    }

    /// As many packets as may leave now; all but the last have the same length.
    fn put_content(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<(), FlowError> {
        if !self.pacer.is_due(now) {
            return Ok(());
        }
        let quantum = Pacer::quantum(self.rate, self.packet_bytes);
        for _ in 0..BATCH_PACKETS {
            if self.queue.is_empty() || out.len() as u64 >= quantum || self.path.room() < self.packet_bytes {
                break;
            }
            let start = self.begin(out);
            let end = start + self.room_in_packet();
            if self.next >= self.check_at {
                self.check_at = self.next + self.check_every;
                self.put_check(out);
            }
            self.fill(out, end);
            self.seal(out, start)?;
            let len = (out.len() - start) as u64;
            self.pacer.on_sent(now, len, self.rate, quantum, LATE_MAX);
            if len != self.packet_bytes {
                break;
            }
        }
        Ok(())
    }

    /// Puts content into the packet, up to `end`.
    fn fill(&mut self, out: &mut Vec<u8>, end: usize) {
        let mut least = 1;
        while let Some(Outgoing { chunk, at }) = self.queue.front_mut() {
            let len = u32::try_from(chunk.bytes.len()).expect("a chunk");
            let room =
                end.saturating_sub(out.len() + Data::overhead(self.chunk, chunk.file, chunk.offset, len));
            let left = &chunk.bytes[*at..];
            if room < least.min(left.len()) {
                return;
            }
            let bytes = &left[..left.len().min(room)];
            let (file, offset, from) =
                (chunk.file, chunk.offset, u32::try_from(*at).expect("within a chunk"));
            Data { chunk: self.chunk, file, offset, len, at: from, bytes }.put(out);
            *at += bytes.len();
            self.queued_bytes -= bytes.len() as u64;
            least = ROOM_MIN;
            self.drop_finished();
        }
    }

    /// Chunks of which all bytes have left, or that have none, make room.
    fn drop_finished(&mut self) {
        while let Some(Outgoing { chunk, .. }) =
            self.queue.pop_front_if(|Outgoing { chunk, at }| *at == chunk.bytes.len())
        {
            self.chunk += u64::from(!chunk.bytes.is_empty());
            self.sent_to = chunk.to;
            self.spare.push(chunk.bytes);
        }
    }

    fn put_check(&mut self, out: &mut Vec<u8>) {
        let token = self.chance.bytes();
        if self.checks.len() == CHECKS_MAX {
            self.checks.pop_front();
        }
        self.checks.push_back(Check { token, number: self.next, bytes: self.packet_bytes });
        packet::put_challenge(out, token);
    }

    fn begin(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        start
    }

    /// Where the blocks of a packet end, from its start.
    fn room_in_packet(&self) -> usize {
        usize::try_from(self.packet_bytes).expect("a datagram") - self.sealer.tag_bytes()
    }

    fn seal(&mut self, out: &mut Vec<u8>, start: usize) -> Result<(), FlowError> {
        self.sealer.seal(self.next, out, start).map_err(|_| FlowError::Spent)?;
        self.next += 1;
        let bytes = (out.len() - start) as u64;
        self.path.on_sent(bytes);
        self.wire_bytes += bytes;
        Ok(())
    }

    // --- State ---

    /// When [`Self::poll_transmit`] has something to send without further input.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let room = self.path.room();
        if self.is_over || room == 0 {
            None
        } else if !self.is_confirmed {
            (room >= RAW_PACKET_BYTES).then(|| try_at(self.asking_since, self.due).max(now))
        } else {
            (!self.queue.is_empty() && room >= self.packet_bytes).then(|| self.pacer.next().max(now))
        }
    }

    /// Whether a further chunk would soon find its turn.
    pub fn wants_chunk(&self) -> bool {
        let ahead = scaled(self.rate, CHUNK_AHEAD).clamp(CHUNK_AHEAD_MIN, limits::CHUNK_BYTES as u64);
        self.queued_bytes < ahead
    }

    /// Whether all that was pushed has left.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// See [`RawChunk::to`]: all before has left.
    pub fn sent_to(&self) -> u64 {
        self.sent_to
    }

    /// The buffer of a chunk that has left.
    pub fn poll_spare(&mut self) -> Option<Vec<u8>> {
        self.spare.pop()
    }

    /// Packets sent so far.
    pub fn packets(&self) -> u64 {
        self.next
    }

    /// Since when it waits for the peer's answer, if it does.
    pub fn asking_since(&self) -> Option<Duration> {
        (!self.is_confirmed && !self.is_over).then_some(self.asking_since)
    }

    /// Bytes of datagrams sent and received.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// Asks for a sign of life more often than after [`CHECK_EVERY`] packets.
    #[cfg(test)]
    pub(super) fn check_every(&mut self, packets: u64) {
        self.check_every = packets;
    }
}
