//! The sending end of a flow against a receiver that does as it likes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use haul::datagram::congestion::Congestion;
use haul::datagram::{FlowError, Sender};
use haul::security::Side;
use haul::wire::packet::{self, AckFacts, Block, CloseReason, blocks};
use haul::wire::varint::VARINT_MAX;

use super::bytes::Bytes;
use super::packets::{self, byte_of, client_addresses, described, server_address};

/// Acknowledgements of anything, at any time, from several addresses: what was never sent cannot be acknowledged or
/// placed, what was can; each chunk is placed once; numbers ascend, content is right, and no more is kept than was
/// pushed.
pub fn flow_sender(data: &[u8]) {
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
    sender: Sender,
    own: Side,
    now: Duration,
    /// Number of the receiver's next packet.
    next: u64,
    /// Numbers that left.
    sent: BTreeSet<u64>,
    /// Chunks that were pushed, those of which all bytes have left, and where those are that were told placed.
    pushed: u64,
    pushed_bytes: u64,
    left: u64,
    placed: BTreeSet<u64>,
    challenge: Option<[u8; 8]>,
}

impl End {
    fn new(bytes: &mut Bytes<'_>) -> Self {
        let own = bytes.one_of(&[Side::Client, Side::Server]);
        let law = bytes.one_of(&[
            Congestion::Bbr,
            Congestion::Cubic,
            Congestion::Fixed(2_000_000),
            Congestion::Fixed(1),
        ]);
        let rtt = Duration::from_micros(bytes.half().into());
        let now = Duration::from_secs(1);
        let mut sender = Sender::new(now, packets::config(own), law, rtt, bytes.coin());
        if bytes.coin() {
            sender.keep_trace(8);
        }
        Self {
            sender,
            own,
            now,
            next: 0,
            sent: BTreeSet::new(),
            pushed: 0,
            pushed_bytes: 0,
            left: 0,
            placed: BTreeSet::new(),
            challenge: None,
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), FlowError> {
        match bytes.below(12) {
            0 | 1 => self.push(),
            2..=6 => self.hear(bytes)?,
            7 => {
                let mut garbage = bytes.some().to_vec();
                let heard = self.sender.last_heard();
                self.sender.handle_datagram(self.now, self.address(bytes), &mut garbage)?;
                assert_eq!(self.sender.last_heard(), heard);
            }
            8 => self.now += packets::step(bytes),
            9 => match bytes.below(5) {
                0 => self.sender.set_tail(bytes.coin()),
                1 => self.sender.set_rate_max(bytes.number()),
                2 => self.sender.on_too_large(self.now),
                3 if bytes.below(16) == 0 => self.sender.close(CloseReason::Done),
                _ => {}
            },
            _ => self.now = self.sender.poll_timeout(self.now).unwrap_or(self.now).max(self.now),
        }
        self.sender.handle_timeout(self.now);
        Ok(())
    }

    fn push(&mut self) {
        if self.sender.wants_chunk() && self.pushed < 64 {
            let (file, offset, len) = described(self.pushed);
            let content = (0..len).map(|at| byte_of(self.pushed, at)).collect();
            self.sender.push_chunk(file, offset, content);
            self.pushed += 1;
            self.pushed_bytes += u64::from(len);
        }
    }

    fn address(&self, bytes: &mut Bytes<'_>) -> SocketAddr {
        match self.own {
            Side::Client => server_address(),
            Side::Server => client_addresses()[bytes.byte().leading_zeros() as usize % 3],
        }
    }

    /// A packet of the receiver.
    fn hear(&mut self, bytes: &mut Bytes<'_>) -> Result<(), FlowError> {
        let number = packets::number(bytes, &mut self.next);
        let from = self.address(bytes);
        let mut payload = Vec::new();
        let mut told = Told { is_right: true, is_wrong: false, is_garbled: false };
        for _ in 0..=bytes.below(2) {
            match bytes.below(12) {
                0..=6 => self.put_ack(bytes, &mut payload, &mut told),
                7 => {
                    packet::put_older(&mut payload);
                    self.put_numbers(bytes, &mut payload, &mut told);
                }
                8 => packet::put_challenge(&mut payload, bytes.array()),
                9 => packet::put_response(&mut payload, self.challenge.unwrap_or_else(|| bytes.array())),
                10 => packet::put_ping(&mut payload),
                _ => {
                    payload.extend_from_slice(bytes.some());
                    told.is_garbled = true;
                }
            }
        }
        let mut datagram = packets::sealed(self.own.other(), number, &payload);
        let heard = self.sender.last_heard();

        let result = self.sender.handle_datagram(self.now, from, &mut datagram);

        if !told.is_garbled {
            // A repetition is not looked at; what came in the same moment cannot be told from one.
            let is_heard = heard != self.sender.last_heard();
            assert!(!told.is_right || result.is_ok(), "{result:?}");
            assert!(!told.is_wrong || !is_heard || result.is_err());
        }
        result?;
        while let Some(placed) = self.sender.poll_placed() {
            let chunk = placed.offset / 4096;
            assert!(chunk < self.left && described(chunk).0 == placed.file);
            assert!(self.placed.insert(chunk), "a chunk is placed once");
        }
        Ok(())
    }

    fn put_ack(&self, bytes: &mut Bytes<'_>, out: &mut Vec<u8>, told: &mut Told) {
        let mut value = || bytes.number().min(VARINT_MAX);
        let facts = AckFacts { received_us: value(), delay_us: value(), drops: value(), credit: value() };
        let floor = if bytes.below(8) == 0 {
            bytes.number().min(VARINT_MAX - 8)
        } else {
            self.near(bytes, self.left)
        };
        let mut end = floor;
        let mut ranges = Vec::new();
        for _ in 0..bytes.below(3) {
            let start = end + 1 + u64::from(bytes.byte() % 2);
            end = start + u64::from(bytes.byte() % 2);
            ranges.push(start..=end);
            end += 1;
        }
        let end = ranges.last().map_or(floor, |range| range.end() + 1);
        told.is_right &= end <= self.left;
        told.is_wrong |= end > self.pushed;
        packet::put_ack(out, &facts, floor, ranges.into_iter());
        self.put_numbers(bytes, out, told);
    }

    /// Ranges of numbers, mostly of packets that left.
    fn put_numbers(&self, bytes: &mut Bytes<'_>, out: &mut Vec<u8>, told: &mut Told) {
        let last = self.sent.last().copied();
        let mut top = Some(match bytes.below(8) {
            0 => bytes.number().min(VARINT_MAX),
            _ => self.near(bytes, last.unwrap_or(0)),
        });
        told.is_wrong |= last < top;
        let mut ranges = Vec::new();
        for _ in 0..=bytes.below(4) {
            let Some(end) = top else { break };
            let start = end.saturating_sub(u64::from(bytes.byte() % 16));
            told.is_right &= (start..=end).all(|number| self.sent.contains(&number));
            ranges.push(start..=end);
            top = start.checked_sub(2 + u64::from(bytes.byte() % 4));
        }
        packet::put_numbers(out, ranges.into_iter(), 200);
    }

    /// Up to a few below.
    fn near(&self, bytes: &mut Bytes<'_>, number: u64) -> u64 {
        number.saturating_sub(u64::from(bytes.byte() % 8))
    }

    /// What may leave now leaves, up to a bound.
    fn drain(&mut self) {
        let mut out = Vec::new();
        for _ in 0..32 {
            let Ok(Some(transmit)) = self.sender.poll_transmit(self.now, &mut out) else { break };
            for datagram in out.chunks(transmit.segment_bytes) {
                let (number, payload) = packets::opened(self.own.other(), datagram);
                assert!(self.sent.last().is_none_or(|&last| last < number), "numbers ascend");
                self.sent.insert(number);
                for block in blocks(&payload) {
                    self.on_block(&block.expect("our own blocks"));
                }
            }
        }
        assert!(self.sender.kept_bytes() <= self.pushed_bytes);
        while self.sender.poll_spare().is_some() {}
    }

    fn on_block(&mut self, block: &Block<'_>) {
        match block {
            Block::Data(data) => {
                assert!(data.chunk < self.pushed);
                assert_eq!((data.file, data.offset, data.len), described(data.chunk));
                assert!(data.bytes.iter().zip(data.at..).all(|(byte, at)| *byte == byte_of(data.chunk, at)));
                if data.at as usize + data.bytes.len() == data.len as usize {
                    self.left = self.left.max(data.chunk + 1);
                }
            }
            Block::Challenge(token) => self.challenge = Some(*token),
            Block::Ack(_) | Block::Older(_) => panic!("a sender acknowledges nothing"),
            _ => {}
        }
    }
}

/// What a packet says.
struct Told {
    /// All of it is true, as far as it speaks of what was sent.
    is_right: bool,
    /// Some of it was never sent.
    is_wrong: bool,
    /// Who knows what it says.
    is_garbled: bool,
}
