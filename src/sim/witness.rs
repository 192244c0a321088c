//! Reads every packet of a flow with the flow's own keys, and holds both ends to what they promise.
//!
//! It shares no state with the ends: what one acknowledges is compared with what really came out of the road.

use crate::{
    security::Opener,
    wire::packet::{Block, Numbers, PacketNumber, blocks},
};

/// What is known of the packets of one end.
#[derive(Debug)]
pub struct Witness {
    opener: Opener,
    /// The number that was sent last.
    last: Option<PacketNumber>,
    /// Numbers that have arrived intact at the other end, one bit each.
    arrived: Vec<u64>,
    scratch: Vec<u8>,
}

/// A packet that was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub number: PacketNumber,
    /// Bytes of content in it.
    pub content_bytes: u64,
}

impl Witness {
    /// Knows nothing; opens what the watched end seals.
    pub fn new(opener: Opener) -> Self {
        Self { opener, last: None, arrived: Vec::new(), scratch: Vec::new() }
    }

    /// A packet of the watched end leaves. `other` watches the end that it goes to: what is acknowledged here must
    /// have arrived here.
    ///
    /// # Panics
    /// If its number is not above all before it, if it is not sealed with the flow's keys, or if it acknowledges what
    /// did not arrive.
    pub fn on_sent(&mut self, datagram: &[u8], other: &Self) -> Seen {
        self.scratch.clear();
        self.scratch.extend_from_slice(datagram);
        let (header, payload) = self.opener.open(&mut self.scratch).expect("an end seals with its keys");
        let number = header.number;
        // protocol.md [PACKET-3]
        assert!(self.last.is_none_or(|last| number > last), "packet number {number} came twice or late");
        self.last = Some(number);
        let mut seen = Seen { number, content_bytes: 0 };
        for block in blocks(payload) {
            match block.expect("an end emits what can be parsed") {
                Block::Data(data) => seen.content_bytes += data.bytes.len() as u64,
                Block::Ack(ack) => other.check(&ack.numbers),
                Block::Older(numbers) => other.check(&numbers),
                _ => {}
            }
        }
        seen
    }

    /// A packet of the watched end comes out of the road as it went in.
    pub fn on_arrived(&mut self, number: PacketNumber) {
        let (word, bit) = place(number);
        if self.arrived.len() <= word {
            self.arrived.resize(word + 1, 0);
        }
        self.arrived[word] |= 1 << bit;
    }

    /// All these numbers have arrived.
    fn check(&self, numbers: &Numbers<'_>) {
        for range in numbers.ranges() {
            let (first, from) = place(*range.start());
            let (last, to) = place(*range.end());
            for word in first..=last {
                let low = if word == first { u64::MAX << from } else { u64::MAX };
                let high = if word == last { u64::MAX >> (63 - to) } else { u64::MAX };
                let have = self.arrived.get(word).copied().unwrap_or(0);
                assert_eq!(!have & low & high, 0, "{range:?} is acknowledged, and not all of it arrived");
            }
        }
    }
}

fn place(number: PacketNumber) -> (usize, u32) {
    let word = usize::try_from(number / 64).expect("a simulated flow is short");
    (word, u32::try_from(number % 64).expect("below 64"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        security::{FlowId, ProofKey, Sealer, Side, Transcript},
        wire::packet::{self, AckFacts, HEADER_BYTES},
    };

    #[test]
    fn it_lets_pass_what_is_true() {
        let mut world = Small::new();
        for number in [0, 1, 63, 64, 130] {
            world.client.on_arrived(number);
        }

        world.acknowledge(0, &[63..=64, 0..=1]);
        world.acknowledge(1, &[130..=130, 63..=64, 0..=1]);
    }

    #[test]
    #[should_panic(expected = "not all of it arrived")]
    fn it_notices_an_acknowledgement_of_what_never_came() {
        let mut world = Small::new();
        (0..200).filter(|&number| number != 100).for_each(|number| world.client.on_arrived(number));

        world.acknowledge(0, &[0..=199]);
    }

    #[test]
    #[should_panic(expected = "came twice or late")]
    fn it_notices_a_number_that_comes_twice() {
        let mut world = Small::new();
        world.client.on_arrived(0);
        world.acknowledge(7, &[0..=0]);
        world.sealer = Small::new().sealer;

        world.acknowledge(7, &[0..=0]);
    }

    struct Small {
        client: Witness,
        server: Witness,
        sealer: Sealer,
    }

    impl Small {
        fn new() -> Self {
            let flow = FlowId { session: [7; 16], attempt: 0, client: 1, server: 2 };
            let secret = ProofKey::open().session_secret(&Transcript::new(None, b"client", b"server"));
            Self {
                client: Witness::new(Opener::new(&secret, &flow, Side::Server)),
                server: Witness::new(Opener::new(&secret, &flow, Side::Client)),
                sealer: Sealer::new(&secret, &flow, Side::Server, 1 << 20),
            }
        }

        fn acknowledge(&mut self, number: PacketNumber, ranges: &[std::ops::RangeInclusive<PacketNumber>]) {
            let mut out = vec![0; HEADER_BYTES];
            let facts = AckFacts { received_us: 0, delay_us: 0, drops: 0, credit: 0 };
            packet::put_ack(&mut out, &facts, 0, std::iter::empty());
            packet::put_numbers(&mut out, ranges.iter().cloned(), 1000);
            self.sealer.seal(number, &mut out, 0).unwrap();
            self.server.on_sent(&out, &self.client);
        }
    }
}
