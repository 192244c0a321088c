//! The proof of a file: a digest over all of its bytes, in order.
//!
//! A sender feeds a [`Hasher`] as it reads, a receiver as its placement cursor moves; both end with 32 bytes that
//! are equal or the file is not published. Holes of sparse files are fed as zeros, so that a file has one digest
//! however it is stored.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Bytes of every digest that haul knows.
pub const DIGEST_BYTES: usize = 32;

/// Digest algorithms, by their number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DigestKind {
    /// SHA-256 (FIPS 180-4). Every peer knows it.
    Sha256,
    /// BLAKE3 with 32 bytes of output. Needs the feature of that name in both hellos.
    Blake3,
}

impl DigestKind {
    /// The name that options and JSON use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }
}

impl fmt::Display for DigestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A finished digest; shown as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; DIGEST_BYTES]);

/// The text is not 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 64 hex digits")]
pub struct NotADigest;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        Self::from_hex(text.as_bytes())
    }
}

impl Digest {
    /// Reads 64 hex digits of either case.
    pub fn from_hex(hex: &[u8]) -> Result<Self, NotADigest> {
        let bytes = HEXLOWER_PERMISSIVE.decode(hex).map_err(|_| NotADigest)?;
        bytes.try_into().map(Self).map_err(|_| NotADigest)
    }
}

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

    /// Takes `len_bytes` zeros: a hole of a sparse file.
    pub fn zeros(&mut self, len_bytes: u64) {
        let mut left = len_bytes;
        while left > 0 {
            let step = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.update(&ZEROS[..step]);
            left -= step as u64;
        }
    }

    /// The digest of everything that was taken.
    pub fn finish(self) -> [u8; DIGEST_BYTES] {
        match self {
            Self::Sha256(hasher) => hasher.finalize().into(),
            Self::Blake3(hasher) => *hasher.finalize().as_bytes(),
        }
    }
}

/// Fits a first-level cache beside the hasher's own state.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(kind: DigestKind, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(kind);
        hasher.update(bytes);
        Digest(hasher.finish()).to_string()
    }

    #[test]
    fn published_vectors_come_out() {
        assert_eq!(
            digest(DigestKind::Sha256, b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            digest(DigestKind::Sha256, b""),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            digest(DigestKind::Blake3, b""),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }

    #[test]
    fn a_hole_counts_as_the_zeros_that_it_reads_as() {
        for kind in [DigestKind::Sha256, DigestKind::Blake3] {
            for len in [0, 1, ZEROS.len() - 1, ZEROS.len(), ZEROS.len() + 1, 5 * ZEROS.len() + 7] {
                let mut hole = Hasher::new(kind);
                hole.update(b"head");
                hole.zeros(len as u64);
                hole.update(b"tail");

                let written = [&b"head"[..], &vec![0; len], b"tail"].concat();

                assert_eq!(Digest(hole.finish()).to_string(), digest(kind, &written), "{kind} {len}");
            }
        }
    }

    #[test]
    fn the_cut_of_the_updates_does_not_matter() {
        for kind in [DigestKind::Sha256, DigestKind::Blake3] {
            let bytes: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            let mut hasher = Hasher::new(kind);

            for piece in bytes.chunks(977) {
                hasher.update(piece);
            }

            assert_eq!(Digest(hasher.finish()).to_string(), digest(kind, &bytes));
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_shown_in_either_case() {
        let shown = digest(DigestKind::Sha256, b"abc");

        assert_eq!(shown.parse::<Digest>().unwrap().to_string(), shown);
        assert_eq!(shown.to_uppercase().parse::<Digest>().unwrap().to_string(), shown);
        assert_eq!(shown[1..].parse::<Digest>(), Err(NotADigest));
        assert_eq!(format!("{shown}00").parse::<Digest>(), Err(NotADigest));
        assert_eq!(shown.replace('b', "g").parse::<Digest>(), Err(NotADigest));
    }
}
