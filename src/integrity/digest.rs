//! The digest that proves a file, computed while its bytes pass.

use sha2::{Digest, Sha256};

use crate::wire::message::DigestKind;

/// A digest in the making.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Starts with no bytes.
    pub fn new(kind: DigestKind) -> Self {
        match kind {
            DigestKind::Sha256 => Self(State::Sha256(Sha256::new())),
            DigestKind::Blake3 => Self(State::Blake3(Box::new(blake3::Hasher::new()))),
        }
    }

    /// Takes the next bytes, in file order.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> [u8; 32] {
        match self.0 {
            State::Sha256(hasher) => hasher.finalize().into(),
            State::Blake3(hasher) => hasher.finalize().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_input_has_the_published_sha256() {
        let digest = Hasher::new(DigestKind::Sha256).finish();

        assert_eq!(digest[..4], [0xe3, 0xb0, 0xc4, 0x42]);
    }
}
