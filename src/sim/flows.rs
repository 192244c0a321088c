//! Flows over UDP that share a link in each direction.
//!
//! Whole packets under their real keys cross two [`Link`]s; each lane has a source of known bytes and a target that
//! checks them. Every step is checked for safety; a run gives what a person would measure.

use std::{net::SocketAddr, time::Duration};

use super::agenda::Agenda;
use crate::{
    datagram::{FlowConfig, Path, Receiver, Sender, SenderStats, congestion::Congestion},
    limits,
    link::{Direction, Link, LinkConfig},
    security::{FlowId, Opener, ProofKey, Sealer, Side, Transcript},
};

/// Bytes of IPv4 and UDP headers.
const HEADERS_BYTES: usize = 28;
/// Chunks of a lane.
const CHUNK_BYTES: u64 = 256 << 10;
/// What a receiver lets its sender have unplaced, bytes.
const CREDIT_BYTES: u64 = 64 << 20;

/// One flow.
#[derive(Clone, Copy, Debug)]
pub struct LaneConfig {
    /// When it begins.
    pub start: Duration,
    /// Content, bytes; `None` never ends.
    pub bytes: Option<u64>,
    /// Its congestion control.
    pub congestion: Congestion,
    /// Packets after which keys change.
    pub key_update_after: u64,
    /// Whether the sender is the client.
    pub is_push: bool,
}

/// What a lane did.
#[derive(Clone, Debug, Default)]
pub struct LaneReport {
    /// When its first packet left.
    pub first_sent: Duration,
    /// When the last new byte arrived; `None` if not all did.
    pub done: Option<Duration>,
    /// New bytes by the time they arrived, one entry for each chunk that came whole.
    pub arrivals: Vec<(Duration, u64)>,
    /// What its sender sent.
    pub sent: SenderStats,
    /// Bytes of UDP datagrams in both directions, with IP and UDP headers.
    pub wire_bytes: u64,
}

/// Lanes over one link.
pub struct World {
    now: Duration,
    agenda: Agenda<Event>,
    there: Link,
    back: Link,
    lanes: Vec<Lane>,
    queue_delays: Vec<(Duration, Duration)>,
    out: Vec<u8>,
}

struct Lane {
    config: LaneConfig,
    sender: Sender,
    receiver: Receiver,
    /// Content that was pushed, bytes.
    pushed: u64,
    arrived: u64,
    sender_wakes: Option<Duration>,
    receiver_wakes: Option<Duration>,
    has_begun: bool,
    report: LaneReport,
}

enum Event {
    Arrive { lane: usize, at_receiver: bool, datagram: Vec<u8> },
    Wake { lane: usize, is_receiver: bool },
}

impl World {
    /// Lanes over a link of this kind.
    pub fn new(link: &LinkConfig, lanes: &[LaneConfig]) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            agenda: Agenda::new(),
            there: Link::new(link, Direction::Forward),
            back: Link::new(link, Direction::Backward),
            lanes: Vec::new(),
            queue_delays: Vec::new(),
            out: Vec::new(),
        };
        for (number, config) in lanes.iter().enumerate() {
            world.lanes.push(Lane::new(number, *config, link));
            world.agenda.push(config.start, Event::Wake { lane: number, is_receiver: true });
            world.agenda.push(config.start, Event::Wake { lane: number, is_receiver: false });
        }
        world
    }

    /// Runs until all lanes are done, or until `end`.
    pub fn run(&mut self, end: Duration) {
        while !self.lanes.iter().all(Lane::is_done)
            && let Some((at, event)) = self.agenda.pop()
            && at <= end
        {
            assert!(at >= self.now);
            self.now = at;
            match event {
                Event::Arrive { lane, at_receiver: true, datagram } => self.at_receiver(lane, datagram),
                Event::Arrive { lane, at_receiver: false, datagram } => self.at_sender(lane, datagram),
                Event::Wake { lane, is_receiver: true } => self.drive_receiver(lane),
                Event::Wake { lane, is_receiver: false } => self.drive_sender(lane),
            }
        }
    }

    /// What each lane did.
    pub fn reports(&self) -> Vec<LaneReport> {
        self.lanes
            .iter()
            .map(|lane| {
                let headers = HEADERS_BYTES as u64 * lane.sender.stats().packets;
                let wire_bytes = lane.sender.wire_bytes() + headers;
                LaneReport { sent: lane.sender.stats(), wire_bytes, ..lane.report.clone() }
            })
            .collect()
    }

    /// Delay of the queue on the way there, at each packet that was offered: time, delay.
    pub fn queue_delays(&self) -> &[(Duration, Duration)] {
        &self.queue_delays
    }

    /// The link on the way there.
    pub fn link(&self) -> &Link {
        &self.there
    }

    fn at_receiver(&mut self, lane: usize, mut datagram: Vec<u8>) {
        let lane_state = &mut self.lanes[lane];
        let room = CREDIT_BYTES;
        let result = lane_state.receiver.handle_datagram(self.now, sender_address(), &mut datagram, room);
        result.expect("an honest sender breaks no rule");
        lane_state.take_chunks(self.now);
        self.drive_receiver(lane);
    }

    fn at_sender(&mut self, lane: usize, mut datagram: Vec<u8>) {
        let result = self.lanes[lane].sender.handle_datagram(self.now, receiver_address(), &mut datagram);
        result.expect("an honest receiver breaks no rule");
        self.drive_sender(lane);
    }

    fn drive_receiver(&mut self, lane: usize) {
        let now = self.now;
        let state = &mut self.lanes[lane];
        state.receiver_wakes = state.receiver_wakes.filter(|&at| at > now);
        while state.receiver.poll_transmit(now, &mut self.out).expect("keys last").is_some() {
            for delivery in self.back.offer(now, self.out.len() + HEADERS_BYTES).deliveries() {
                let datagram = flipped(&self.out, delivery.flipped_bit);
                self.agenda.push(delivery.at, Event::Arrive { lane, at_receiver: false, datagram });
            }
        }
        if let Some(at) = state.receiver.poll_timeout()
            && state.receiver_wakes.is_none_or(|wakes| at < wakes)
        {
            // What is due already waits for something else: a path, say.
            let at = at.max(now + STEP);
            state.receiver_wakes = Some(at);
            self.agenda.push(at, Event::Wake { lane, is_receiver: true });
        }
    }

    fn drive_sender(&mut self, lane: usize) {
        let now = self.now;
        let state = &mut self.lanes[lane];
        state.sender_wakes = state.sender_wakes.filter(|&at| at > now);
        if !std::mem::replace(&mut state.has_begun, true) {
            state.report.first_sent = now;
        }
        state.sender.handle_timeout(now);
        loop {
            state.feed();
            let Some(transmit) = state.sender.poll_transmit(now, &mut self.out).expect("keys last") else {
                break;
            };
            for datagram in self.out.chunks(transmit.segment_bytes) {
                let fate = self.there.offer(now, datagram.len() + HEADERS_BYTES);
                self.queue_delays.push((now, self.there.queue_delay(now)));
                for delivery in fate.deliveries() {
                    let datagram = flipped(datagram, delivery.flipped_bit);
                    self.agenda.push(delivery.at, Event::Arrive { lane, at_receiver: true, datagram });
                }
            }
        }
        if let Some(at) = state.sender.poll_timeout(now)
            && state.sender_wakes.is_none_or(|wakes| at < wakes)
        {
            let at = at.max(now + STEP);
            state.sender_wakes = Some(at);
            self.agenda.push(at, Event::Wake { lane, is_receiver: false });
        }
    }
}

/// Between two looks at something that is due and cannot go on.
const STEP: Duration = Duration::from_micros(1);

impl Lane {
    fn new(number: usize, config: LaneConfig, link: &LinkConfig) -> Self {
        let id = u32::try_from(number + 1).expect("a few lanes");
        let flow = FlowId { session: [7; 16], attempt: 0, client: id, server: id + 1000 };
        let secret = ProofKey::open().session_secret(&Transcript::new(None, b"client", b"server"));
        let (sender_side, receiver_side) =
            if config.is_push { (Side::Client, Side::Server) } else { (Side::Server, Side::Client) };
        let flow_config = |own: Side, path: Path| FlowConfig {
            sealer: Sealer::new(&secret, &flow, own, config.key_update_after),
            opener: Opener::new(&secret, &flow, own),
            path,
            seed: seed(link.seed, number, own),
        };
        let (sender_path, receiver_path) = if config.is_push {
            (Path::to_server(receiver_address()), Path::to_client())
        } else {
            (Path::to_client(), Path::to_server(sender_address()))
        };
        let initial_rtt = link.rtt.max(Duration::from_micros(100));
        let sender = Sender::new(
            config.start,
            flow_config(sender_side, sender_path),
            config.congestion,
            initial_rtt,
            false,
        );
        let mut receiver =
            Receiver::new(config.start, flow_config(receiver_side, receiver_path), !config.is_push);
        receiver.set_credit(config.start, CREDIT_BYTES);
        Self {
            config,
            sender,
            receiver,
            pushed: 0,
            arrived: 0,
            sender_wakes: None,
            receiver_wakes: None,
            has_begun: false,
            report: LaneReport::default(),
        }
    }

    /// Pushes content as the flow asks for it, within the credit it has heard of.
    fn feed(&mut self) {
        while self.sender.poll_placed().is_some() {}
        while self.sender.poll_spare().is_some() {}
        let bytes = self.config.bytes.unwrap_or(u64::MAX);
        while self.pushed < bytes && self.sender.wants_chunk() {
            let len = CHUNK_BYTES.min(bytes - self.pushed);
            let credit =
                if self.sender.credit() == 0 { limits::CREDIT_MIN_BYTES } else { self.sender.credit() };
            if self.pushed + len > credit {
                break;
            }
            self.sender.push_chunk(0, self.pushed, content(self.pushed, len));
            self.pushed += len;
        }
        self.sender.set_tail(self.pushed == bytes);
        assert!(self.sender.kept_bytes() <= CREDIT_BYTES, "more is kept than the credit");
    }

    /// Checks what has come against the source, and places it.
    fn take_chunks(&mut self, now: Duration) {
        while let Some(whole) = self.receiver.poll_chunk() {
            let len = whole.bytes.len() as u64;
            assert!(whole.bytes == content(whole.offset, len), "wrong bytes at {}", whole.offset);
            self.arrived += len;
            self.report.arrivals.push((now, len));
            self.receiver.on_placed(now, whole.number);
            self.receiver.set_credit(now, self.arrived + CREDIT_BYTES);
        }
        assert!(self.arrived <= self.pushed, "more arrived than was sent");
        if Some(self.arrived) == self.config.bytes {
            self.report.done.get_or_insert(now);
        }
    }

    fn is_done(&self) -> bool {
        self.report.done.is_some()
    }
}

/// The source: each eight bytes say where they are.
fn content(offset: u64, len: u64) -> Vec<u8> {
    assert_eq!(offset % 8, 0);
    let words = offset / 8..(offset + len).div_ceil(8);
    let mut bytes: Vec<u8> =
        words.flat_map(|word| (word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect();
    bytes.truncate(usize::try_from(len).expect("a chunk"));
    bytes
}

fn flipped(datagram: &[u8], bit: Option<usize>) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    // Damage in the headers would be noticed by the system; here it hits what UDP carries.
    if let Some(bit) = bit {
        let at = bit / 8 % datagram.len();
        datagram[at] ^= 1 << (bit % 8);
    }
    datagram
}

fn seed(seed: u64, lane: usize, side: Side) -> [u8; 32] {
    let mut bytes = [side as u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&(lane as u64).to_le_bytes());
    bytes
}

fn sender_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5001))
}

fn receiver_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 7420))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(bytes: u64) -> LaneConfig {
        LaneConfig {
            start: Duration::ZERO,
            bytes: Some(bytes),
            congestion: Congestion::Bbr,
            key_update_after: limits::KEY_UPDATE_PACKETS,
            is_push: true,
        }
    }

    #[test]
    fn a_file_arrives_whole_over_any_path() {
        for spec in [
            "rtt=20ms,rate=100mbit",
            "rtt=20ms,rate=100mbit,loss=5%",
            "rtt=20ms,rate=100mbit,loss=2%,reorder=1%,dup=1%,corrupt=1%,late=25%/20ms",
            "rtt=20ms,rate=100mbit,loss=30%",
        ] {
            for is_push in [true, false] {
                let link: LinkConfig = spec.parse().unwrap();
                let mut world =
                    World::new(&link, &[LaneConfig { key_update_after: 64, is_push, ..lane(4 << 20) }]);

                world.run(Duration::from_secs(60));

                let report = &world.reports()[0];
                println!("{spec} push {is_push}: {:?} {:?}", report.done, report.sent);
                assert!(report.done.is_some(), "{spec}");
            }
        }
    }
}
