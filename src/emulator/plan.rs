//! What a run is to be, and what came of it.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::facts::HostFacts;
use super::refusal::Refusal;
use super::tally::Tally;
use crate::link::LinkConfig;

/// What to run, over what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The link from the command's host to the peer.
    pub there: LinkConfig,
    /// The link from the peer to the command's host.
    pub back: LinkConfig,
    /// The longest packet of the hosts' interfaces, bytes.
    pub mtu_bytes: u16,
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
    /// After this time since its start, the command is asked to end (SIGINT), and three seconds later it is forced to.
    /// `None`: it may take as long as it likes.
    pub command_at_most: Option<Duration>,
    /// What runs at the other end meanwhile, and its arguments; empty: nothing.
    pub peer: Vec<OsString>,
    /// How long the peer's program may go on when the command has ended, to end by itself.
    pub peer_grace: Duration,
    /// What command and peer read from and write to.
    pub streams: Streams,
    /// How long the intervals are of which each direction keeps what happened in them, more than zero; `None`: it keeps
    /// nothing.
    pub sample_every: Option<Duration>,
    /// The program that becomes a host when it is started under the name [`host::NAME`](super::host::NAME): haul.
    pub host_binary: PathBuf,
}

/// What the programs on the hosts have for standard input, output and error. Only the command ever has an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// The caller's; what the peer says is for people, and goes to standard error.
    Ours,
    /// The caller's; what the command says is for people too, since a program reads the caller's standard output.
    OursForPeople,
    /// None: there is nothing to read, and what they say goes nowhere.
    Null,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Carried {
    /// How the command ended, as a shell has it.
    pub code: u8,
    /// Whether the command took as long as it may, and was asked to end.
    pub was_cut: bool,
    /// Whether the caller's process was asked to end meanwhile, by a signal that was for the command instead.
    pub was_interrupted: bool,
    /// From telling the command's host to start it, when the peer served already, to hearing that it had ended.
    pub command_elapsed: Duration,
    /// How what ran at the other end ended, as a shell has it, if it did so by itself before the command did or within
    /// [`Plan::peer_grace`].
    pub peer_code: Option<u8>,
    /// From the first moment of the link to its last.
    pub elapsed: Duration,
    /// From the command's host to the peer.
    pub there: Tally,
    /// From the peer to the command's host.
    pub back: Tally,
    /// What the command's host knows of itself; `None` if it was killed at its end.
    pub host: Option<HostFacts>,
    /// The same of the peer's.
    pub peer: Option<HostFacts>,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The system does not let us have hosts.
    #[error("{0}")]
    Refused(String),
    /// A program cannot be started.
    #[error("cannot run `{}`: {why}", .name.display())]
    NotStarted {
        /// Its name.
        name: OsString,
        /// The system's reason.
        why: String,
        /// As a shell has it.
        code: u8,
    },
    /// A host's process is gone.
    #[error("{side} of the link ended unexpectedly{}", how(.status))]
    HostLost {
        /// Which.
        side: Side,
        /// How it ended, where that is known.
        status: Option<ExitStatus>,
    },
    /// Something else.
    #[error("the emulator failed: {0}")]
    Io(#[from] io::Error),
}

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where the command runs.
    Host,
    /// The other one.
    Peer,
}

/// What a host is made of where the caller is haul itself.
pub const OURSELVES: &str = "/proc/self/exe";

impl Plan {
    /// A command over a link that is the same in both directions, with nothing at its other end.
    pub fn new(link: LinkConfig, command: Vec<OsString>) -> Self {
        Self {
            there: link.clone(),
            back: link,
            mtu_bytes: 1500,
            command,
            command_at_most: None,
            peer: Vec::new(),
            peer_grace: Duration::ZERO,
            streams: Streams::Ours,
            sample_every: None,
            host_binary: OURSELVES.into(),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "the command's host",
            Self::Peer => "the other host",
        })
    }
}

impl From<Refusal> for EmulatorError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

fn how(status: &Option<ExitStatus>) -> String {
    status.map(|it| format!(" ({it})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn a_lost_host_is_named_with_how_it_ended() {
        let said = |side, status| EmulatorError::HostLost { side, status }.to_string();

        let killed = Some(ExitStatus::from_raw(9));
        assert_eq!(
            said(Side::Peer, killed),
            "the other host of the link ended unexpectedly (signal: 9 (SIGKILL))"
        );
        let failed = Some(ExitStatus::from_raw(1 << 8));
        assert_eq!(
            said(Side::Host, failed),
            "the command's host of the link ended unexpectedly (exit status: 1)"
        );
        assert_eq!(said(Side::Host, None), "the command's host of the link ended unexpectedly");
    }
}
