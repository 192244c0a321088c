//! The receiving end of a raw flow: takes what comes, and counts.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{
    super::{
        FlowConfig, FlowError, Transmit,
        chance::Chance,
        received::{Arrival, Received},
    },
    GRACE_MIN, GRACE_ROUNDS, GRACE_TIMES, NO_PLACE, tries_by, try_at,
};
use crate::{
    datagram::{BASE_BYTES, Path},
    limits,
    security::{Opener, Sealer},
    transfer::raw::RawPiece,
    wire::{
        packet::{self, Block, Data, HEADER_BYTES, PacketNumber, blocks},
        varint::VARINT_MAX,
    },
};

/// Content that follows each other is handed over together, up to so many bytes.
const RUN_BYTES: usize = 256 << 10;

/// What UDP did to the packets of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawCounts {
    /// Packets that arrived whole, each counted once.
    pub received: u64,
    /// Those of them that came after one with a larger number.
    pub out_of_order: u64,
    /// How far the latest of these was behind, packets.
    pub farthest: u64,
    /// Packets that came once more, or later than `limits::PACKET_WINDOW_MAX` packets behind.
    pub duplicated: u64,
    /// Datagrams for this flow that did not open.
    pub damaged: u64,
}

/// The receiving end of a raw flow.
#[derive(Debug)]
pub struct RawReceiver {
    sealer: Sealer,
    opener: Opener,
    path: Path,
    chance: Chance,
    seen: Received,
    counts: RawCounts,
    /// Number of the next packet.
    next: PacketNumber,
    pieces: Vec<RawPiece>,
    /// Challenge to echo.
    response: Option<[u8; 8]>,
    /// When a client makes itself known again, and how often it did; `None` for a server.
    greeting: Option<(Duration, usize)>,
    start: Duration,
    /// When an authentic packet came last.
    last_heard: Option<Duration>,
    grace: Duration,
    /// Files that have ended and lack something.
    waiting: BTreeMap<u64, Waiting>,
    /// When the flow's end was told.
    ended: Option<Duration>,
    wire_bytes: u64,
}

/// A file that has ended and lacks something.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Duration,
    /// When something of it came last.
    last: Duration,
}

impl RawReceiver {
    /// A receiving end; the control connection has measured `rtt`; `is_client` says that it has to make itself known.
    pub fn new(now: Duration, config: FlowConfig, rtt: Duration, is_client: bool) -> Self {
        Self {
            sealer: config.sealer,
            opener: config.opener,
            path: config.path,
            chance: Chance::new(config.seed),
            seen: Received::default(),
            counts: RawCounts::default(),
            next: 0,
            pieces: Vec::new(),
            response: None,
            greeting: is_client.then_some((now, 0)),
            start: now,
            last_heard: None,
            grace: GRACE_MIN.max(rtt.saturating_mul(GRACE_ROUNDS)),
            waiting: BTreeMap::new(),
            ended: None,
            wire_bytes: 0,
        }
    }

    // --- Input ---

    /// Takes a datagram.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(), FlowError> {
        let bytes = datagram.len() as u64;
        // protocol.md [PACKET-2]
        let Ok((header, payload)) = self.opener.open(datagram) else { return Ok(()) };
        self.last_heard = Some(now);
        self.wire_bytes += bytes;
        let behind = self.seen.end().saturating_sub(header.number + 1);
        let arrival = self.seen.insert(header.number);
        match arrival {
            Arrival::Duplicate => {
                self.counts.duplicated += 1;
                return Ok(());
            }
            Arrival::Late => {
                self.counts.out_of_order += 1;
                self.counts.farthest = self.counts.farthest.max(behind);
            }
            Arrival::Next | Arrival::Ahead => {}
        }
        self.counts.received += 1;
        let chance = &mut self.chance;
        self.path.on_packet(from, bytes, arrival != Arrival::Late, || chance.bytes());
        let mut datagrams = 1;
        for block in blocks(payload) {
            match block? {
                Block::Ping => {}
                Block::Challenge(token) => self.response = Some(token),
                Block::Data(data) => {
                    if let Some(waiting) = self.waiting.get_mut(&data.file) {
                        waiting.last = now;
                    }
                    take_piece(&data, std::mem::take(&mut datagrams), &mut self.pieces);
                }
                // protocol.md [RAW-1]
                _ => return Err(NO_PLACE),
            }
        }
        Ok(())
    }

    /// A file has ended, and some of it has not come.
    pub fn on_file_end(&mut self, now: Duration, file: u64) {
        self.waiting.insert(file, Waiting { since: now, last: now });
    }

    /// The sender has told that it sent so many packets.
    pub fn on_end(&mut self, now: Duration, packets: u64) -> Result<(), FlowError> {
        // protocol.md [RAW-7]
        if self.seen.end() > packets {
            return Err(FlowError::Violation("it sent more packets than it told"));
        }
        self.ended.get_or_insert(now);
        Ok(())
    }

    /// Everything was reported: nothing more is waited for.
    pub fn finish(&mut self) {
        self.ended = None;
        self.greeting = None;
        self.waiting.clear();
    }

    // --- Output ---

    /// What has come since the last call.
    pub fn take_pieces(&mut self) -> Vec<RawPiece> {
        std::mem::take(&mut self.pieces)
    }

    /// The next file of which nothing more is waited for. protocol.md [RAW-6]
    pub fn poll_overdue(&mut self, now: Duration) -> Option<u64> {
        let grace = self.grace;
        let (&file, _) = self.waiting.iter().find(|(_, waiting)| waiting.until(grace) <= now)?;
        self.waiting.remove(&file);
        Some(file)
    }

    /// Whether the end was told and nothing more is waited for. protocol.md [RAW-7]
    pub fn is_settled(&self, now: Duration) -> bool {
        self.settles_at().is_some_and(|at| at <= now)
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<Option<Transmit>, FlowError> {
        out.clear();
        let Some(to) = self.path.remote() else { return Ok(None) };
        let room = self.path.room().min(BASE_BYTES);
        let is_greeting_due = self.greeting_at().is_some_and(|at| at <= now);
        if room < SMALL_BYTES || !(is_greeting_due || self.response.is_some()) {
            return Ok(None);
        }
        out.resize(HEADER_BYTES, 0);
        if let Some(token) = self.response.take() {
            packet::put_response(out, token);
        }
        if is_greeting_due && let Some((at, times)) = &mut self.greeting {
            (*at, *times) = (now, tries_by(self.start, now));
            packet::put_ping(out);
            packet::put_padding(out, usize::try_from(room).expect("a datagram") - self.sealer.tag_bytes());
        }
        self.sealer.seal(self.next, out, 0).map_err(|_| FlowError::Spent)?;
        self.next += 1;
        self.path.on_sent(out.len() as u64);
        self.wire_bytes += out.len() as u64;
        Ok(Some(Transmit { to, segment_bytes: out.len() }))
    }

    // --- State ---

    /// When there is something to do without further input.
    pub fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        let response = self.response.filter(|_| self.path.room() >= SMALL_BYTES).map(|_| now);
        let overdue = self.waiting.values().map(|waiting| waiting.until(self.grace)).min();
        [response, self.greeting_at(), overdue, self.settles_at()].into_iter().flatten().min()
    }

    /// What was counted so far.
    pub fn counts(&self) -> RawCounts {
        RawCounts { damaged: self.opener.failures(), ..self.counts }
    }

    /// When an authentic packet came last.
    pub fn last_heard(&self) -> Option<Duration> {
        self.last_heard
    }

    /// Bytes of datagrams sent and received.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// Until it is heard, the server does not know where the client is; later, nobody on the way is to forget.
    fn greeting_at(&self) -> Option<Duration> {
        let (last, times) = self.greeting?;
        Some(match self.last_heard {
            None => try_at(self.start, times),
            Some(_) => last + limits::HEARTBEAT,
        })
    }

    fn settles_at(&self) -> Option<Duration> {
        let ended = self.ended?;
        let quiet = self.last_heard.unwrap_or(ended) + self.grace;
        Some(quiet.min(ended + self.grace * GRACE_TIMES))
    }
}

impl Waiting {
    fn until(self, grace: Duration) -> Duration {
        (self.last + grace).min(self.since + grace * GRACE_TIMES)
    }
}

/// Adds content to what came right before it, or begins anew.
fn take_piece(data: &Data<'_>, datagrams: u64, pieces: &mut Vec<RawPiece>) {
    const { assert!(VARINT_MAX + limits::CHUNK_MAX_BYTES as u64 <= limits::FILE_MAX_BYTES) };
    let offset = data.offset + u64::from(data.at);
    match pieces.last_mut() {
        Some(last)
            if last.file == data.file
                && last.offset + last.bytes.len() as u64 == offset
                && last.bytes.len() < RUN_BYTES =>
        {
            last.bytes.extend_from_slice(data.bytes);
            last.datagrams += datagrams;
        }
        _ => pieces.push(RawPiece { file: data.file, offset, bytes: data.bytes.to_vec(), datagrams }),
    }
}

/// Room for an answer.
const SMALL_BYTES: u64 = 64;
