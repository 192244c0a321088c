//! Numbers that a peer cannot guess, from a seed of the operating system: skipped packet numbers, challenges.

use sha2::{Digest, Sha256};

/// A stream of unpredictable numbers: SHA-256 over the seed and a counter.
#[derive(Clone)]
pub struct Chance {
    seed: [u8; 32],
    counter: u64,
}

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chance").finish_non_exhaustive()
    }
}

impl Chance {
    /// A stream from 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// The next eight bytes.
    pub fn bytes(&mut self) -> [u8; 8] {
        self.counter += 1;
        let digest =
            Sha256::new().chain_update(self.seed).chain_update(self.counter.to_le_bytes()).finalize();
        *digest.first_chunk().expect("32 bytes")
    }

    /// A number of `0..bound`, about evenly.
    pub fn below(&mut self, bound: u64) -> u64 {
        u64::from_le_bytes(self.bytes()) % bound
    }
}
