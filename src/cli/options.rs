//! Options that several commands share.

use crate::integrity::digest::DigestKind;

/// `--digest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct DigestOption {
    /// Digest that proves each file
    #[arg(long, value_enum, value_name = "NAME", default_value = "sha256", env = "HAUL_DIGEST")]
    pub digest: DigestChoice,
}

/// Values of `--digest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DigestChoice {
    /// SHA-256, as sha256sum writes it
    Sha256,
    /// BLAKE3, as b3sum writes it
    Blake3,
}

impl DigestOption {
    /// The digest chosen.
    pub fn kind(self) -> DigestKind {
        match self.digest {
            DigestChoice::Sha256 => DigestKind::Sha256,
            DigestChoice::Blake3 => DigestKind::Blake3,
        }
    }
}
