//! Makes datagrams up: random ones, changed ones, old ones once more.

use super::chance::Chance;

/// Captured datagrams that are kept.
const CAPTURED_MAX: usize = 512;
/// Longest datagram that there is, bytes.
const LONGEST: u64 = 65_507;

/// Somebody who sees all packets and has no keys.
#[derive(Debug)]
pub struct Forger {
    chance: Chance,
    captured: Vec<Vec<u8>>,
    made: u64,
}

impl Forger {
    /// Forgeries of this seed.
    pub fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed, "forger"), captured: Vec::new(), made: 0 }
    }

    /// Sees a datagram pass.
    pub fn capture(&mut self, datagram: &[u8]) {
        if self.captured.len() < CAPTURED_MAX {
            self.captured.push(datagram.to_vec());
        } else {
            let at = self.chance.below(CAPTURED_MAX as u64);
            self.captured[usize::try_from(at).expect("an index")] = datagram.to_vec();
        }
    }

    /// Makes one up.
    pub fn forge(&mut self) -> Vec<u8> {
        self.made += 1;
        let count = self.captured.len() as u64;
        if count == 0 || self.chance.percent(15) {
            let most = if self.chance.percent(2) { LONGEST + 1 } else { 1500 };
            let len = usize::try_from(self.chance.below(most)).expect("a datagram");
            let mut bytes = vec![0; len];
            bytes.iter_mut().for_each(|byte| *byte = self.chance.next().to_le_bytes()[0]);
            return bytes;
        }
        let at = usize::try_from(self.chance.below(count)).expect("an index");
        let mut bytes = self.captured[at].clone();
        if self.chance.percent(80) {
            mutate(&mut bytes, &mut self.chance);
        }
        bytes
    }

    /// Whether to do something, in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.chance.percent(percent)
    }

    /// Datagrams made up so far.
    pub fn made(&self) -> u64 {
        self.made
    }
}

/// Changes a datagram: bits, length, everything.
pub fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let len = bytes.len() as u64;
    let some = |chance: &mut Chance, most: u64| usize::try_from(chance.below(most.max(1))).expect("a length");
    match chance.below(6) {
        0 => bytes.truncate(some(chance, len + 1)),
        1 => bytes.extend_from_slice(&chance.bytes::<16>()),
        2 => bytes.iter_mut().skip(HEADER).for_each(|byte| *byte = 0),
        3 => {
            let fresh = some(chance, 1500);
            bytes.clear();
            bytes.resize_with(fresh, || chance.next().to_le_bytes()[0]);
        }
        4 => flip(bytes, some(chance, HEADER as u64), chance),
        _ => {
            for _ in 0..chance.between(1, 8) {
                let at = some(chance, len);
                flip(bytes, at, chance);
            }
        }
    }
}

fn flip(bytes: &mut [u8], at: usize, chance: &mut Chance) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << chance.below(8);
    }
}

/// Bytes in which connection and number stand.
const HEADER: usize = crate::wire::packet::HEADER_BYTES;
