//! The proof of a file: a digest over all of its bytes, in order.

use sha2::Digest as _;

use crate::wire::message::DigestKind;

/// Takes a file's bytes in order and gives its digest.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256, by the processor's instructions where it has them.
    Sha256(sha2::Sha256),
    /// BLAKE3 on one thread; its state is large, so it lives on the heap.
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(kind: DigestKind) -> Self {
        match kind {
            DigestKind::Sha256 => Self::Sha256(sha2::Sha256::new()),
            DigestKind::Blake3 => Self::Blake3(Box::default()),
        }
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    /// The digest of everything that was taken.
    pub fn finish(self) -> [u8; 32] {
        match self {
            Self::Sha256(hasher) => hasher.finalize().into(),
            Self::Blake3(hasher) => *hasher.finalize().as_bytes(),
        }
    }
}
