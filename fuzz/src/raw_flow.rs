//! Both ends of a raw flow, each against a peer that does as it likes.

use std::time::Duration;

use haul::datagram::FlowError;
use haul::datagram::raw::{RawReceiver, RawSender};
use haul::limits;
use haul::security::Side;
use haul::transfer::raw::RawChunk;
use haul::wire::packet::{self, Block, blocks};

use super::bytes::Bytes;
use super::packets::{self, byte_of, client_addresses, described, server_address};

/// A sender's numbers have no gap and each byte leaves once, in its order; a receiver hands over no more than came; and
/// neither is woken for nothing.
pub fn raw_flow(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let own = bytes.one_of(&[Side::Client, Side::Server]);
    if bytes.coin() {
        let mut end = Sending::new(own, &mut bytes);
        while !bytes.is_empty() && end.step(&mut bytes).is_ok() {
            end.drain();
        }
    } else {
        let mut end = Receiving::new(own);
        while !bytes.is_empty() && end.step(&mut bytes).is_ok() {
            end.drain();
        }
    }
}

struct Sending {
    sender: RawSender,
    own: Side,
    now: Duration,
    /// Number of the receiver's next packet.
    next: u64,
    /// Number of our next packet.
    number: u64,
    pushed: u64,
    to: u64,
    /// The chunk and the place in it where the next byte stands.
    at: (u64, u32),
    challenge: Option<[u8; 8]>,
}

impl Sending {
    fn new(own: Side, bytes: &mut Bytes<'_>) -> Self {
        let now = Duration::from_secs(1);
        let rate = bytes.one_of(&[1, 100_000, 50_000_000, u64::MAX]);
        Self {
            sender: RawSender::new(now, packets::config(own), rate),
            own,
            now,
            next: 0,
            number: 0,
            pushed: 0,
            to: 0,
            at: (0, 0),
            challenge: None,
        }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), FlowError> {
        match bytes.below(8) {
            0 | 1 if self.sender.wants_chunk() && self.pushed < 64 => {
                let (file, offset, len) = described(self.pushed);
                let content: Vec<u8> = (0..len).map(|at| byte_of(self.pushed, at)).collect();
                self.to += u64::from(len);
                self.sender.push_chunk(RawChunk { file, offset, bytes: content, to: self.to });
                self.pushed += 1;
            }
            2 if bytes.below(16) == 0 => self.sender.finish(),
            3 => self.now += packets::step(bytes),
            4 | 5 => self.now = self.sender.poll_timeout(self.now).unwrap_or(self.now).max(self.now),
            _ => {
                let number = packets::number(bytes, &mut self.next);
                let mut payload = Vec::new();
                match bytes.below(8) {
                    0..=4 => {
                        packet::put_response(&mut payload, self.challenge.unwrap_or_else(|| bytes.array()));
                    }
                    5 | 6 => packet::put_ping(&mut payload),
                    _ => payload.extend_from_slice(bytes.some()),
                }
                packet::put_padding(&mut payload, usize::from(bytes.byte()) * 6);
                let mut datagram = packets::sealed(self.own.other(), number, &payload);
                let from = match self.own {
                    Side::Client => server_address(),
                    Side::Server => client_addresses()[bytes.byte().leading_zeros() as usize % 3],
                };
                self.sender.handle_datagram(self.now, from, &mut datagram)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        let mut out = Vec::new();
        let is_asking = self.sender.asking_since().is_some();
        for round in 0..8 {
            let Ok(Some(transmit)) = self.sender.poll_transmit(self.now, &mut out) else { break };
            assert!(!is_asking || round == 0, "it asks once at a time");
            for datagram in out.chunks(transmit.segment_bytes) {
                let (number, payload) = packets::opened(self.own.other(), datagram);
                assert_eq!(number, self.number, "no number is left out");
                self.number += 1;
                for block in blocks(&payload) {
                    self.on_block(&block.expect("our own blocks"));
                }
            }
        }
        assert_eq!(self.sender.packets(), self.number);
        assert!(self.sender.sent_to() <= self.to);
        while self.sender.poll_spare().is_some() {}
    }

    fn on_block(&mut self, block: &Block<'_>) {
        match block {
            Block::Challenge(token) => self.challenge = Some(*token),
            Block::Data(data) => {
                assert_eq!((data.chunk, data.at), self.at, "each byte leaves once");
                assert_eq!((data.file, data.offset, data.len), described(data.chunk));
                assert!(data.bytes.iter().zip(data.at..).all(|(byte, at)| *byte == byte_of(data.chunk, at)));
                let end = data.at + u32::try_from(data.bytes.len()).expect("a datagram");
                self.at = if end == data.len { (data.chunk + 1, 0) } else { (data.chunk, end) };
            }
            other => panic!("a raw sender does not send {other:?}"),
        }
    }
}

struct Receiving {
    receiver: RawReceiver,
    own: Side,
    now: Duration,
    next: u64,
    /// Content that came, bytes.
    came: usize,
    handed_over: usize,
}

impl Receiving {
    fn new(own: Side) -> Self {
        let now = Duration::from_secs(1);
        let rtt = Duration::from_millis(20);
        let receiver = RawReceiver::new(now, packets::config(own), rtt, own == Side::Client);
        Self { receiver, own, now, next: 0, came: 0, handed_over: 0 }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), FlowError> {
        match bytes.below(8) {
            0 => self.receiver.on_file_end(self.now, bytes.number() % 4),
            1 if bytes.below(8) == 0 => self.receiver.on_end(self.now, bytes.number())?,
            2 => self.now += packets::step(bytes),
            3 => self.now = self.receiver.poll_timeout(self.now).unwrap_or(self.now).max(self.now),
            _ => {
                let number = packets::number(bytes, &mut self.next);
                let mut payload = Vec::new();
                for _ in 0..=bytes.below(3) {
                    match bytes.below(8) {
                        0..=5 => packets::put_data(bytes, &mut payload),
                        6 => packet::put_challenge(&mut payload, bytes.array()),
                        _ => payload.extend_from_slice(bytes.some()),
                    }
                }
                self.came += blocks(&payload).flatten().map(|block| content_bytes(&block)).sum::<usize>();
                let mut datagram = packets::sealed(self.own.other(), number, &payload);
                let from = match self.own {
                    Side::Client => server_address(),
                    Side::Server => client_addresses()[bytes.byte().leading_zeros() as usize % 3],
                };
                self.receiver.handle_datagram(self.now, from, &mut datagram)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) {
        for piece in self.receiver.take_pieces() {
            assert!(!piece.bytes.is_empty() && piece.datagrams <= 1);
            assert!(piece.offset + piece.bytes.len() as u64 <= limits::FILE_MAX_BYTES);
            self.handed_over += piece.bytes.len();
        }
        assert!(self.handed_over <= self.came);
        while self.receiver.poll_overdue(self.now).is_some() {}
        if self.receiver.is_settled(self.now) {
            self.receiver.finish();
        }
        let mut out = Vec::new();
        for _ in 0..100 {
            let Ok(Some(_)) = self.receiver.poll_transmit(self.now, &mut out) else {
                let next = self.receiver.poll_timeout(self.now);
                assert!(next.is_none_or(|at| at > self.now), "it is woken for nothing");
                return;
            };
            for block in blocks(&packets::opened(self.own.other(), &out).1) {
                assert!(matches!(block, Ok(Block::Response(_) | Block::Ping)));
            }
        }
        panic!("it sends without end");
    }
}

fn content_bytes(block: &Block<'_>) -> usize {
    if let Block::Data(data) = block { data.bytes.len() } else { 0 }
}
