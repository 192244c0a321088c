//! One flow of a simulated link: its two ends, a source of known bytes, a target that checks them, and a witness.
//!
//! Every step is checked: bytes that arrive are the source's, nothing is acknowledged or placed that was not sent, no
//! packet number comes twice, packets in flight stay within the window, kept and begun chunks within the credit.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use super::{
    chance::Chance,
    figures::Curve,
    road::HEADERS_BYTES,
    window::WindowGuard,
    witness::{Seen, Witness},
};
use crate::{
    datagram::{FlowConfig, Path, Receiver, Sender, SenderStats, congestion::Congestion},
    limits,
    security::{FlowId, Opener, ProofKey, Sealer, Side, Transcript},
    wire::packet::PacketNumber,
};

/// What a receiver lets its sender have unplaced, bytes.
const CREDIT_BYTES: u64 = limits::CREDIT_MAX_BYTES;
/// The first round-trip time that a flow is told, if its link has none.
const RTT_MIN: Duration = Duration::from_micros(100);

/// One flow.
#[derive(Clone, Copy, Debug)]
pub struct LaneConfig {
    /// When it begins.
    pub start: Duration,
    /// Content, bytes; `None` never ends.
    pub bytes: Option<u64>,
    /// Bytes of a chunk; a multiple of 8.
    pub chunk_bytes: u64,
    /// Its congestion control.
    pub congestion: Congestion,
    /// Packets after which keys change.
    pub key_update_after: u64,
    /// Whether the sender is the client.
    pub is_push: bool,
}

impl LaneConfig {
    /// A flow with a file of this size that begins at once.
    pub fn file(bytes: u64) -> Self {
        Self { bytes: Some(bytes), ..Self::endless() }
    }

    /// A flow that begins at once and never ends.
    pub fn endless() -> Self {
        Self {
            start: Duration::ZERO,
            bytes: None,
            chunk_bytes: limits::CHUNK_BYTES as u64,
            congestion: Congestion::Bbr,
            key_update_after: limits::KEY_UPDATE_PACKETS,
            is_push: true,
        }
    }
}

/// What a lane did.
#[derive(Clone, Debug, Default)]
pub struct LaneReport {
    /// When its first packet left.
    pub first_sent: Option<Duration>,
    /// When the first packet with content left.
    pub first_content: Option<Duration>,
    /// When the last new byte arrived.
    pub last_arrival: Duration,
    /// Whether all of its content arrived.
    pub is_done: bool,
    /// New bytes by the time they arrived.
    pub curve: Curve,
    /// What its sender sent.
    pub sent: SenderStats,
    /// Bytes of IP packets in both directions.
    pub wire_bytes: u64,
    /// Times that an end woke itself and found nothing to do.
    pub idle_wakes: u64,
}

/// One flow at work.
#[derive(Debug)]
pub struct Lane {
    config: LaneConfig,
    sender: Sender,
    receiver: Receiver,
    of_sender: Witness,
    of_receiver: Witness,
    /// Content that was pushed, bytes.
    pushed: u64,
    /// Content of whole chunks, bytes.
    whole: u64,
    /// Where the chunks begin that were placed and that the sender has not heard of.
    placed: BTreeSet<u64>,
    /// What the receiver last granted, bytes.
    credit: u64,
    window: WindowGuard,
    report: LaneReport,
}

/// Which end of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Content leaves here.
    Sender,
    /// Content comes here.
    Receiver,
}

impl End {
    /// The one it talks to.
    pub fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

impl Lane {
    /// The flow of this number on a link of this round trip, with all chance from `seed`.
    pub fn new(number: usize, config: LaneConfig, rtt: Duration, seed: u64) -> Self {
        let id = u32::try_from(number + 1).expect("a few lanes");
        let flow = FlowId { session: [7; 16], attempt: 0, client: id, server: id + 1000 };
        let secret = ProofKey::open().session_secret(&Transcript::new(None, b"client", b"server"));
        let mut chance = Chance::new(seed, "lanes");
        for _ in 0..number {
            chance.next();
        }
        let mut chance = Chance::new(chance.next(), "lane");
        let (sender_side, receiver_side) =
            if config.is_push { (Side::Client, Side::Server) } else { (Side::Server, Side::Client) };
        let (sender_path, receiver_path) = if config.is_push {
            (Path::to_server(address(End::Receiver)), Path::to_client())
        } else {
            (Path::to_client(), Path::to_server(address(End::Sender)))
        };
        let mut flow_config = |own: Side, path: Path| FlowConfig {
            sealer: Sealer::new(&secret, &flow, own, config.key_update_after),
            opener: Opener::new(&secret, &flow, own),
            path,
            seed: chance.bytes(),
        };
        let sender_config = flow_config(sender_side, sender_path);
        let receiver_config = flow_config(receiver_side, receiver_path);
        let rtt = rtt.max(RTT_MIN);
        Self {
            config,
            sender: Sender::new(config.start, sender_config, config.congestion, rtt, false),
            receiver: Receiver::new(config.start, receiver_config, !config.is_push),
            of_sender: Witness::new(Opener::new(&secret, &flow, receiver_side)),
            of_receiver: Witness::new(Opener::new(&secret, &flow, sender_side)),
            pushed: 0,
            whole: 0,
            placed: BTreeSet::new(),
            credit: 0,
            window: WindowGuard::default(),
            report: LaneReport::default(),
        }
    }

    /// An end takes a datagram; `number` if it is intact.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        at: End,
        datagram: &mut [u8],
        number: Option<PacketNumber>,
    ) {
        self.handle_from(now, at, address(at.other()), datagram, number);
    }

    /// An end takes a datagram that somebody has made up, and that comes from somewhere or seems to come from its peer.
    pub fn handle_forged(&mut self, now: Duration, at: End, datagram: &mut [u8], is_from_peer: bool) {
        let elsewhere = SocketAddr::from(([10, 0, 0, 66], 6000));
        let from = if is_from_peer { address(at.other()) } else { elsewhere };
        self.handle_from(now, at, from, datagram, None);
    }

    fn handle_from(
        &mut self,
        now: Duration,
        at: End,
        from: SocketAddr,
        datagram: &mut [u8],
        number: Option<PacketNumber>,
    ) {
        match at {
            End::Receiver => {
                number.into_iter().for_each(|number| self.of_sender.on_arrived(number));
                let room = self.credit - self.whole;
                let result = self.receiver.handle_datagram(now, from, datagram, room);
                result.expect("an honest sender breaks no rule");
                assert!(self.receiver.partial_bytes() <= room, "more was begun than the credit");
                self.take_chunks(now);
            }
            End::Sender => {
                number.into_iter().for_each(|number| self.of_receiver.on_arrived(number));
                let result = self.sender.handle_datagram(now, from, datagram);
                result.expect("an honest receiver breaks no rule");
            }
        }
    }

    /// The next datagrams of an end, each with its number.
    pub fn poll_transmit(&mut self, now: Duration, from: End, out: &mut Vec<(PacketNumber, Vec<u8>)>) {
        out.clear();
        let mut bytes = Vec::new();
        let sent = match from {
            End::Receiver => {
                if self.credit == 0 {
                    self.grant(now);
                }
                self.receiver.poll_transmit(now, &mut bytes)
            }
            End::Sender => {
                self.sender.handle_timeout(now);
                self.feed();
                let before = WindowGuard::before(&self.sender);
                let sent = self.sender.poll_transmit(now, &mut bytes);
                let datagrams = match &sent {
                    Ok(Some(transmit)) => bytes.len().div_ceil(transmit.segment_bytes),
                    _ => 0,
                };
                self.window.check(before, &self.sender, datagrams);
                sent
            }
        };
        let Some(transmit) = sent.expect("the keys last") else { return };
        self.report.first_sent.get_or_insert(now);
        for datagram in bytes.chunks(transmit.segment_bytes) {
            self.report.wire_bytes += (datagram.len() + HEADERS_BYTES) as u64;
            let Seen { number, content_bytes } = match from {
                End::Sender => self.of_sender.on_sent(datagram, &self.of_receiver),
                End::Receiver => self.of_receiver.on_sent(datagram, &self.of_sender),
            };
            if content_bytes > 0 {
                self.report.first_content.get_or_insert(now);
            }
            out.push((number, datagram.to_vec()));
        }
    }

    /// When an end wants to be asked again.
    pub fn poll_timeout(&mut self, now: Duration, of: End) -> Option<Duration> {
        match of {
            End::Sender => self.sender.poll_timeout(now),
            End::Receiver => self.receiver.poll_timeout(),
        }
    }

    /// An end woke itself and had nothing to do.
    pub fn on_idle_wake(&mut self) {
        self.report.idle_wakes += 1;
    }

    /// Whether all of its content has arrived.
    pub fn is_done(&self) -> bool {
        self.report.is_done
    }

    /// When the first packet with content left.
    pub fn first_content(&self) -> Option<Duration> {
        self.report.first_content
    }

    /// The sending end.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// What it did so far.
    pub fn report(&self) -> LaneReport {
        LaneReport { sent: self.sender.stats(), ..self.report.clone() }
    }

    /// Pushes content as the flow asks for it, within the credit that it has heard of.
    fn feed(&mut self) {
        while let Some(placed) = self.sender.poll_placed() {
            assert!(self.placed.remove(&placed.offset), "told as placed, and is not: {placed:?}");
        }
        let bytes = self.config.bytes.unwrap_or(u64::MAX);
        while self.pushed < bytes && self.sender.wants_chunk() {
            let len = self.config.chunk_bytes.min(bytes - self.pushed);
            let credit = self.sender.credit().max(limits::CREDIT_MIN_BYTES);
            if self.pushed + len > credit {
                break;
            }
            let mut chunk = self.sender.poll_spare().unwrap_or_default();
            put_content(self.pushed, len, &mut chunk);
            self.sender.push_chunk(0, self.pushed, chunk);
            self.pushed += len;
        }
        while self.sender.poll_spare().is_some() {}
        self.sender.set_tail(self.pushed == bytes);
        assert!(self.sender.kept_bytes() <= CREDIT_BYTES, "more is kept than the credit");
    }

    /// Checks what has come against the source, and places it.
    fn take_chunks(&mut self, now: Duration) {
        let new = self.receiver.new_bytes() - self.report.curve.total();
        if new > 0 {
            self.report.curve.add(now, new);
            self.report.last_arrival = now;
        }
        let mut expected = Vec::new();
        while let Some(mut chunk) = self.receiver.poll_chunk() {
            let len = chunk.bytes.len() as u64;
            put_content(chunk.offset, len, &mut expected);
            assert!(chunk.bytes == expected, "wrong bytes at {}", chunk.offset);
            assert!(self.placed.insert(chunk.offset), "chunk at {} came twice", chunk.offset);
            self.whole += len;
            self.receiver.on_placed(now, chunk.number);
            chunk.bytes.clear();
            if self.receiver.wants_spare() {
                self.receiver.recycle(chunk.bytes);
            }
        }
        assert!(self.receiver.new_bytes() <= self.pushed, "more arrived than was sent");
        self.grant(now);
        self.report.is_done = self.config.bytes == Some(self.whole);
    }

    fn grant(&mut self, now: Duration) {
        self.credit = self.whole + CREDIT_BYTES;
        self.receiver.set_credit(now, self.credit);
    }
}

/// The source: each eight bytes say where they are.
fn put_content(offset: u64, len: u64, out: &mut Vec<u8>) {
    assert_eq!(offset % 8, 0);
    out.clear();
    out.resize(usize::try_from(len).expect("a chunk"), 0);
    for (word, bytes) in (offset / 8..).zip(out.chunks_mut(8)) {
        bytes.copy_from_slice(&word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[..bytes.len()]);
    }
}

fn address(of: End) -> SocketAddr {
    match of {
        End::Sender => SocketAddr::from(([10, 0, 0, 1], 5001)),
        End::Receiver => SocketAddr::from(([10, 0, 0, 2], 7420)),
    }
}
