//! Two ends and what lies between them. Every packet that leaves is written down, and opened by a bystander who has the
//! keys; a `fate` says when it arrives, if it does.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use crate::{
    datagram::{FlowConfig, FlowError, Path, Receiver, Sender, congestion::Congestion},
    limits,
    security::{FlowId, Opener, ProofKey, Sealer, SessionSecret, Side, Transcript},
    wire::packet::{Block, CloseReason, Floor, HEADER_BYTES, Header, PacketNumber, blocks},
};

pub const MS: Duration = Duration::from_millis(1);
pub const FLOW: FlowId = FlowId { session: [7; 16], attempt: 0, client: 0x1111, server: 0x2222 };
/// What the sender sends, bytes a second: tests are about everything but this.
pub const RATE: u64 = 4_000_000;
/// Content that a receiver lets its sender have unplaced, bytes.
pub const WINDOW: u64 = 4 << 20;

/// A datagram that left.
#[derive(Clone, Debug)]
pub struct Passing {
    pub at: Duration,
    pub to_receiver: bool,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub datagram: Vec<u8>,
    pub number: PacketNumber,
    pub blocks: Blocks,
}

/// What is in a packet, as far as a test asks.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    pub ping: bool,
    /// Chunk and place in it.
    pub data: Vec<(u64, u32)>,
    pub ack: Option<AckSeen>,
    pub floor: Option<Floor>,
    pub challenge: Option<[u8; 8]>,
    pub response: Option<[u8; 8]>,
    pub close: Option<CloseReason>,
}

#[derive(Clone, Debug)]
pub struct AckSeen {
    pub credit: u64,
}

/// Decides what becomes of a datagram: how much later than the link's delay it arrives, or that it does not.
pub type Fate = Box<dyn FnMut(&Passing) -> Option<Duration>>;

/// A path that loses nothing that fits an Ethernet frame.
pub fn on_ethernet() -> Fate {
    Box::new(|passing| (passing.datagram.len() <= 1472).then_some(Duration::ZERO))
}

pub struct Bed {
    pub now: Duration,
    pub sender: Sender,
    pub receiver: Receiver,
    pub is_push: bool,
    pub one_way: Duration,
    pub fate: Fate,
    /// Where the client seems to be; what is sent elsewhere goes astray.
    pub client: SocketAddr,
    pub log: Vec<Passing>,
    /// Chunks that wait for the flow.
    pub queue: VecDeque<(u64, Vec<u8>)>,
    /// Chunks that came whole: by offset.
    pub arrived: BTreeMap<u64, Vec<u8>>,
    /// Whether chunks are placed as they come, and credit follows.
    pub is_placing: bool,
    /// Credit that the control connection has told the sender.
    pub told_credit: u64,
    pub pushed: u64,
    pub placed: u64,
    wire: BTreeMap<(Duration, usize), (SocketAddr, bool, Vec<u8>)>,
    order: usize,
    bystanders: [Opener; 2],
}

impl Bed {
    /// A flow over a link with this round trip, on which nothing is lost.
    pub fn new(is_push: bool, rtt: Duration) -> Self {
        Self::at_rate(is_push, rtt, RATE)
    }

    /// As [`Self::new`], sending so many bytes a second.
    pub fn at_rate(is_push: bool, rtt: Duration, rate: u64) -> Self {
        Self::with_law(is_push, rtt, Congestion::Fixed(rate))
    }

    /// As [`Self::new`], under another law.
    pub fn with_law(is_push: bool, rtt: Duration, law: Congestion) -> Self {
        let [sender_side, receiver_side] = sides(is_push);
        let mut receiver =
            Receiver::new(Duration::ZERO, config(receiver_side, limits::KEY_UPDATE_PACKETS), !is_push);
        receiver.set_credit(Duration::ZERO, WINDOW);
        Self {
            now: Duration::ZERO,
            sender: sender_under(is_push, rtt, law),
            receiver,
            is_push,
            one_way: rtt / 2,
            fate: on_ethernet(),
            client: client_address(),
            log: Vec::new(),
            queue: VecDeque::new(),
            arrived: BTreeMap::new(),
            is_placing: true,
            told_credit: WINDOW,
            pushed: 0,
            placed: 0,
            wire: BTreeMap::new(),
            order: 0,
            bystanders: [
                Opener::new(&secret(), &FLOW, sender_side),
                Opener::new(&secret(), &FLOW, receiver_side),
            ],
        }
    }

    /// Queues a file in chunks.
    pub fn queue_file(&mut self, len: u64, chunk: u64) {
        let mut offset = 0;
        while offset < len {
            let bytes = content(offset, chunk.min(len - offset));
            self.queue.push_back((offset, bytes));
            offset += chunk;
        }
    }

    /// Goes on until `end`, or until all that was queued has arrived and its placement is known.
    pub fn run_to_placed(&mut self, end: Duration) -> bool {
        self.run_while(end, |bed| !bed.queue.is_empty() || bed.placed < bed.pushed)
    }

    /// Goes on until `end`.
    pub fn run(&mut self, end: Duration) {
        self.run_while(end, |_| true);
    }

    /// Goes on while `goes_on`; whether that ended before `end`.
    pub fn run_while(&mut self, end: Duration, goes_on: impl Fn(&Self) -> bool) -> bool {
        self.try_run(end, goes_on).expect("honest ends break no rule")
    }

    pub fn try_run(&mut self, end: Duration, goes_on: impl Fn(&Self) -> bool) -> Result<bool, FlowError> {
        loop {
            self.drive()?;
            if !goes_on(self) {
                return Ok(true);
            }
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let timers = [self.sender.poll_timeout(self.now), self.receiver.poll_timeout()];
            for timer in timers.iter().flatten() {
                assert!(*timer > self.now, "an end asks to be woken at once, and does nothing: {timers:?}");
            }
            let next = timers.into_iter().chain([arrival]).flatten().min().unwrap_or(end);
            if next > end {
                self.now = end;
                return Ok(false);
            }
            self.now = next;
            while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= next) {
                let (from, to_receiver, mut datagram) = entry.remove();
                self.deliver(from, to_receiver, &mut datagram)?;
            }
        }
    }

    /// Hands a datagram to an end.
    pub fn deliver(
        &mut self,
        from: SocketAddr,
        to_receiver: bool,
        datagram: &mut [u8],
    ) -> Result<(), FlowError> {
        if !to_receiver {
            return self.sender.handle_datagram(self.now, from, datagram);
        }
        self.receiver.handle_datagram(self.now, from, datagram, WINDOW)?;
        while let Some(whole) = self.receiver.poll_chunk() {
            assert!(whole.bytes == content(whole.offset, whole.bytes.len() as u64), "wrong bytes");
            self.arrived.insert(whole.offset, whole.bytes);
            if self.is_placing {
                self.receiver.on_placed(self.now, whole.number);
                let arrived: usize = self.arrived.values().map(Vec::len).sum();
                self.receiver.set_credit(self.now, arrived as u64 + WINDOW);
            }
        }
        Ok(())
    }

    /// Lets both ends send what they have to.
    pub fn drive(&mut self) -> Result<(), FlowError> {
        let mut out = Vec::new();
        self.sender.handle_timeout(self.now);
        loop {
            self.feed();
            let Some(transmit) = self.sender.poll_transmit(self.now, &mut out)? else { break };
            for datagram in out.chunks(transmit.segment_bytes) {
                self.pass(true, transmit.to, datagram);
            }
        }
        while let Some(transmit) = self.receiver.poll_transmit(self.now, &mut out)? {
            self.pass(false, transmit.to, &out);
        }
        Ok(())
    }

    fn feed(&mut self) {
        while let Some(placed) = self.sender.poll_placed() {
            self.placed += self.arrived[&placed.offset].len() as u64;
        }
        let credit = self.told_credit.max(self.sender.credit());
        while self.sender.wants_chunk()
            && self.queue.front().is_some_and(|(_, bytes)| self.pushed + bytes.len() as u64 <= credit)
        {
            let (offset, bytes) = self.queue.pop_front().expect("it has a front");
            self.pushed += bytes.len() as u64;
            self.sender.push_chunk(0, offset, bytes);
        }
        self.sender.set_tail(self.queue.is_empty());
    }

    fn pass(&mut self, to_receiver: bool, to: SocketAddr, datagram: &[u8]) {
        let from_client = to_receiver == self.is_push;
        let from = if from_client { self.client } else { server_address() };
        let mut open = datagram.to_vec();
        let (header, payload) =
            self.bystanders[usize::from(to_receiver)].open(&mut open).expect("it is ours");
        let passing = Passing {
            at: self.now,
            to_receiver,
            from,
            to,
            datagram: datagram.to_vec(),
            number: header.number,
            blocks: read(payload),
        };
        // protocol.md [PACKET-3]
        let before = self.log.iter().rev().find(|other| other.to_receiver == to_receiver);
        assert!(before.is_none_or(|before| before.number < passing.number), "numbers ascend");
        let later = (self.fate)(&passing);
        self.log.push(passing);
        let is_there = from_client || to == self.client;
        if let Some(later) = later.filter(|_| is_there) {
            self.order += 1;
            let key = (self.now + self.one_way + later, self.order);
            self.wire.insert(key, (from, to_receiver, datagram.to_vec()));
        }
    }

    /// What left in one direction.
    pub fn sent(&self, to_receiver: bool) -> impl DoubleEndedIterator<Item = &Passing> {
        self.log.iter().filter(move |passing| passing.to_receiver == to_receiver)
    }

    /// Bytes that left towards an address.
    pub fn bytes_to(&self, to: SocketAddr) -> usize {
        self.log.iter().filter(|passing| passing.to == to).map(|passing| passing.datagram.len()).sum()
    }
}

/// Client and server, as sender and receiver of content.
pub fn sides(is_push: bool) -> [Side; 2] {
    if is_push { [Side::Client, Side::Server] } else { [Side::Server, Side::Client] }
}

pub fn sender(is_push: bool, rtt: Duration) -> Sender {
    sender_under(is_push, rtt, Congestion::Fixed(RATE))
}

fn sender_under(is_push: bool, rtt: Duration, law: Congestion) -> Sender {
    let config = config(sides(is_push)[0], limits::KEY_UPDATE_PACKETS);
    Sender::new(Duration::ZERO, config, law, rtt, false)
}

pub fn receiver(is_push: bool) -> Receiver {
    Receiver::new(Duration::ZERO, config(sides(is_push)[1], limits::KEY_UPDATE_PACKETS), !is_push)
}

pub fn config(own: Side, update_after: u64) -> FlowConfig {
    let path = match own {
        Side::Client => Path::to_server(server_address()),
        Side::Server => Path::to_client(),
    };
    FlowConfig {
        sealer: Sealer::new(&secret(), &FLOW, own, update_after),
        opener: Opener::new(&secret(), &FLOW, own),
        path,
        seed: [own as u8; 32],
    }
}

/// A packet under the keys of `from`.
pub fn sealed(from: Side, number: PacketNumber, blocks: &[u8]) -> Vec<u8> {
    let mut sealer = Sealer::new(&secret(), &FLOW, from, limits::KEY_UPDATE_PACKETS);
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(blocks);
    sealer.seal(number, &mut packet, 0).expect("a fresh key");
    packet
}

pub fn number_of(datagram: &[u8]) -> PacketNumber {
    Header::decode(datagram).expect("a packet").number
}

pub fn client_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 5001))
}

pub fn server_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2], 7420))
}

pub fn stranger() -> SocketAddr {
    SocketAddr::from(([10, 6, 6, 6], 666))
}

/// Bytes that tell where they are.
pub fn content(offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len).map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[7]).collect()
}

pub fn secret() -> SessionSecret {
    ProofKey::open().session_secret(&Transcript::new(None, b"client", b"server"))
}

fn read(payload: &[u8]) -> Blocks {
    let mut seen = Blocks::default();
    for block in blocks(payload) {
        match block.expect("our own blocks") {
            Block::Ping => seen.ping = true,
            Block::Data(data) => seen.data.push((data.chunk, data.at)),
            Block::Ack(ack) => seen.ack = Some(AckSeen { credit: ack.credit }),
            Block::Older(_) => {}
            Block::Floor(floor) => seen.floor = Some(floor),
            Block::Challenge(token) => seen.challenge = Some(token),
            Block::Response(token) => seen.response = Some(token),
            Block::Close(reason) => seen.close = Some(reason),
        }
    }
    seen
}
