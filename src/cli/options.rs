//! Options that several commands share.

use super::exit::{Exit, Failure};
use crate::{integrity::digest::DigestKind, net::TcpCongestion};

/// `--tcp-congestion`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct TcpOption {
    /// Congestion control of haul's TCP connections at this end, such as cubic [default: the system's; Linux only]
    #[arg(long, value_name = "NAME", env = "HAUL_TCP_CONGESTION", hide_env = true)]
    pub tcp_congestion: Option<String>,
}

impl TcpOption {
    /// The congestion control chosen, if this system has it.
    pub fn chosen(&self) -> anyhow::Result<Option<TcpCongestion>> {
        let chosen = self.tcp_congestion.as_deref().map(|name| {
            TcpCongestion::new(name)
                .map_err(|why| Failure::new(Exit::Usage, format!("--tcp-congestion {name}: {why}")))
        });
        Ok(chosen.transpose()?)
    }
}

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
