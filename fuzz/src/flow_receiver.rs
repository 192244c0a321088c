//! The receiving end of a flow against a sender that does as it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use haul::datagram::{BASE_BYTES, FlowError, Receiver};
use haul::security::Side;
use haul::wire::packet::{self, Block, CloseReason, blocks};

use super::bytes::Bytes;
use super::packets::{self, byte_of, client_addresses, described, server_address};

/// Packets with any blocks and numbers, from several addresses, and garbage: a chunk comes whole, right and once; chunks
/// that have begun hold no more than they may; an address that was not proven gets at most three times what came from
/// it; and who has sent what it had to is woken later, not now.
pub fn flow_receiver(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut end = End::new(&mut bytes);
    while !bytes.is_empty() {
        if end.step(&mut bytes).is_err() {
            return;
        }
        end.drain();
    }
}

struct End {
    receiver: Receiver,
    own: Side,
    now: Duration,
    room: u64,
    next: u64,
    credit: u64,
    /// Chunks that came, and those that are placed.
    whole: BTreeSet<u64>,
    placed: BTreeSet<u64>,
    /// Chunks that were described in another way than [`described`].
    is_odd: bool,
    challenge: Option<[u8; 8]>,
    from: BTreeMap<SocketAddr, usize>,
    to: BTreeMap<SocketAddr, usize>,
    proven: BTreeSet<SocketAddr>,
}

impl End {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let own = bytes.one_of(&[Side::Server, Side::Client]);
        let now = Duration::from_secs(1);
        let mut receiver = Receiver::new(now, packets::config(own), own == Side::Client);
        if bytes.coin() {
            receiver.keep_trace(8);
        }
        Self {
            receiver,
            own,
            now,
            room: bytes.one_of(&[4 << 20, 5000, 0]),
            next: 0,
            credit: 0,
            whole: BTreeSet::new(),
            placed: BTreeSet::new(),
            is_odd: false,
            challenge: None,
            from: BTreeMap::new(),
            to: BTreeMap::new(),
            proven: BTreeSet::new(),
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), FlowError> {
        match bytes.below(10) {
            0..=4 => self.hear(bytes)?,
            5 => {
                let mut garbage = bytes.some().to_vec();
                let before = self.receiver.stats();
                self.receiver.handle_datagram(self.now, self.address(bytes), &mut garbage, self.room)?;
                assert_eq!(self.receiver.stats().received, before.received);
            }
            6 => {
                self.credit = self.credit.max(bytes.number() >> 2);
                self.receiver.set_credit(self.now, self.credit);
                self.receiver.set_drops(bytes.number() >> 2);
            }
            7 => {
                let at = bytes.below(256);
                let waiting: Vec<_> = self.whole.difference(&self.placed).copied().collect();
                if let Some(&chunk) = waiting.get(at % waiting.len().max(1)) {
                    self.placed.insert(chunk);
                    self.receiver.on_placed(self.now, chunk);
                }
            }
            8 if bytes.below(16) == 0 => self.receiver.close(CloseReason::Done),
            8 => self.now += packets::step(bytes),
            _ => self.now = self.receiver.poll_timeout().unwrap_or(self.now).max(self.now),
        }
        Ok(())
    }

    fn address(&self, bytes: &mut Bytes<'_>) -> SocketAddr {
        match self.own {
            Side::Client => server_address(),
            Side::Server => client_addresses()[bytes.byte().leading_zeros() as usize % 3],
        }
    }

    /// A packet of the sender.
    fn hear(&mut self, bytes: &mut Bytes<'_>) -> Result<(), FlowError> {
        let number = packets::number(bytes, &mut self.next);
        let from = self.address(bytes);
        let mut payload = Vec::new();
        for _ in 0..=bytes.below(3) {
            match bytes.below(12) {
                0..=6 => packets::put_data(bytes, &mut payload),
                7 => packets::put_floor(bytes, &mut payload),
                8 => packet::put_challenge(&mut payload, bytes.array()),
                9 => packet::put_response(&mut payload, self.challenge.unwrap_or_else(|| bytes.array())),
                10 => packet::put_ping(&mut payload),
                _ => payload.extend_from_slice(bytes.some()),
            }
        }
        let odd = |block: &Block<'_>| {
            matches!(block, Block::Data(data) if (data.file, data.offset, data.len) != described(data.chunk)
                || data.bytes.iter().zip(data.at..).any(|(byte, at)| *byte != byte_of(data.chunk, at)))
        };
        self.is_odd |= blocks(&payload).any(|block| block.as_ref().is_ok_and(odd));
        let answers =
            |block: &Block<'_>| matches!(block, Block::Response(token) if Some(*token) == self.challenge);
        let is_answer = blocks(&payload).any(|block| block.as_ref().is_ok_and(answers));
        let mut datagram = packets::sealed(self.own.other(), number, &payload);
        *self.from.entry(from).or_default() += datagram.len();

        self.receiver.handle_datagram(self.now, from, &mut datagram, self.room)?;

        if is_answer {
            self.proven.insert(from);
        }
        assert!(self.receiver.partial_bytes() <= self.room);
        while let Some(whole) = self.receiver.poll_chunk() {
            assert!(self.whole.insert(whole.number), "a chunk comes once");
            if !self.is_odd {
                let (file, offset, len) = described(whole.number);
                assert_eq!((whole.file, whole.offset), (file, offset));
                assert!((0..len).map(|at| byte_of(whole.number, at)).eq(whole.bytes.iter().copied()));
            }
            if self.receiver.wants_spare() {
                let mut buffer = whole.bytes;
                buffer.clear();
                self.receiver.recycle(buffer);
            }
        }
        Ok(())
    }

    /// All that is to be sent leaves.
    fn drain(&mut self) {
        let mut out = Vec::new();
        for _ in 0..1000 {
            let Ok(Some(transmit)) = self.receiver.poll_transmit(self.now, &mut out) else {
                assert!(
                    self.receiver.poll_timeout().is_none_or(|at| at > self.now),
                    "it is woken for nothing"
                );
                return;
            };
            assert!(out.len() as u64 <= BASE_BYTES && out.len() <= transmit.segment_bytes);
            let to = self.to.entry(transmit.to).or_default();
            *to += out.len();
            let came = self.from.get(&transmit.to).copied().unwrap_or(0);
            assert!(self.own == Side::Client || self.proven.contains(&transmit.to) || *to <= 3 * came);
            for block in blocks(&packets::opened(self.own.other(), &out).1) {
                match block.expect("our own blocks") {
                    Block::Challenge(token) => self.challenge = Some(token),
                    Block::Data(_) | Block::Floor(_) => panic!("a receiver sends no content"),
                    Block::Ack(ack) => assert_eq!(ack.credit, self.credit),
                    _ => {}
                }
            }
        }
        panic!("it sends without end");
    }
}
