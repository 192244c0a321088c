//! Remembers every packet that was sent, until nobody can say anything new about it.

use std::{collections::VecDeque, time::Duration};

use super::congestion::SendState;
use crate::wire::packet::{ChunkNumber, PacketNumber};

/// Some bytes of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The chunk.
    pub chunk: ChunkNumber,
    /// First byte in the chunk.
    pub at: u32,
    /// Bytes; at least 1.
    pub len: u32,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows yet.
    InFlight,
    /// It arrived.
    Acked,
    /// It was given up at this time, and may still turn out to have arrived.
    Lost(Duration),
    /// The number was never sent: who acknowledges it lies. protocol.md [FLOW-4]
    Skipped,
}

/// A packet that was sent.
#[derive(Debug)]
pub struct SentPacket {
    /// What became of it.
    pub fate: Fate,
    /// When it was sent, and what the sampler noted.
    pub state: SendState,
    /// Its bytes as a datagram.
    pub bytes: u64,
    /// It is larger than its flow's packets to find out whether such a size passes; its loss says nothing else.
    pub is_mtu_probe: bool,
    /// Its content was sent once more, or is itself a second copy.
    pub is_copied: bool,
    /// The content; one piece as a rule.
    pub piece: Option<Piece>,
    /// Further pieces, of small chunks.
    pub more: Vec<Piece>,
}

impl SentPacket {
    /// All its pieces.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> {
        self.piece.iter().chain(&self.more).copied()
    }
}

/// The packets of a flow from the oldest of interest to the newest.
#[derive(Debug, Default)]
pub struct SentPackets {
    packets: VecDeque<SentPacket>,
    /// Number of the first of `packets`.
    first: PacketNumber,
    /// Bytes of packets whose fate is `InFlight`.
    in_flight: u64,
    /// Packets whose fate is `InFlight`.
    count_in_flight: usize,
    /// No packet with a smaller number is in flight.
    oldest_in_flight: PacketNumber,
}

impl SentPackets {
    /// Enters the next packet; its number is [`Self::next`].
    pub fn push(&mut self, packet: SentPacket) {
        if packet.fate == Fate::InFlight {
            self.in_flight += packet.bytes;
            self.count_in_flight += 1;
        }
        self.packets.push_back(packet);
    }

    /// The number of the next packet.
    pub fn next(&self) -> PacketNumber {
        self.first + self.packets.len() as u64
    }

    /// Numbers below are of no interest any more.
    pub fn floor(&self) -> PacketNumber {
        self.first
    }

    /// Bytes in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Packets in flight.
    pub fn count_in_flight(&self) -> usize {
        self.count_in_flight
    }

    /// A packet, unless it is of no interest any more or not sent yet.
    pub fn get_mut(&mut self, number: PacketNumber) -> Option<&mut SentPacket> {
        self.packets.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// As [`Self::get_mut`].
    pub fn get(&self, number: PacketNumber) -> Option<&SentPacket> {
        self.packets.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Settles the fate of a packet; `None` if it had that fate, or a better one, already.
    pub fn settle(&mut self, number: PacketNumber, fate: Fate) -> Option<(Fate, &mut SentPacket)> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let packet = self.packets.get_mut(index)?;
        let before = packet.fate;
        match (before, fate) {
            (Fate::InFlight, Fate::Acked | Fate::Lost(_)) => {
                self.in_flight -= packet.bytes;
                self.count_in_flight -= 1;
            }
            (Fate::Lost(_), Fate::Acked) => {}
            _ => return None,
        }
        packet.fate = fate;
        Some((before, packet))
    }

    /// Packets in flight from the oldest on.
    pub fn iter_in_flight(&mut self) -> impl DoubleEndedIterator<Item = (PacketNumber, &mut SentPacket)> {
        let first = self.first;
        let from = self.oldest_in_flight();
        let skip = usize::try_from(from - first).expect("within the packets");
        self.packets
            .range_mut(skip..)
            .enumerate()
            .map(move |(at, packet)| (from + at as u64, packet))
            .filter(|(_, packet)| packet.fate == Fate::InFlight)
    }

    /// Forgets packets whose fate is certain: acknowledged ones, and those lost before `before`.
    pub fn forget(&mut self, before: Duration) {
        while let Some(packet) = self.packets.front() {
            let is_settled = match packet.fate {
                Fate::InFlight => false,
                Fate::Acked | Fate::Skipped => true,
                Fate::Lost(at) => at < before,
            };
            if !is_settled {
                return;
            }
            self.packets.pop_front();
            self.first += 1;
        }
    }

    fn oldest_in_flight(&mut self) -> PacketNumber {
        let next = self.next();
        let mut number = self.oldest_in_flight.max(self.first);
        while number < next && self.get(number).is_some_and(|packet| packet.fate != Fate::InFlight) {
            number += 1;
        }
        self.oldest_in_flight = number;
        number
    }
}
