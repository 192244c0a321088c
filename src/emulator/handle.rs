//! A host as its emulator knows it: starts its process, talks to it, ends it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::descendants;
use super::facts::HostFacts;
use super::host;
use super::hosts::{HOST, PEER};
use super::plan::{EmulatorError, Plan, Side, Streams};
use super::words::{self, End, FromHost, ToHost, Wish};

/// A host that runs.
pub(super) struct HostHandle {
    side: Side,
    process: Child,
    end: End,
    has_own_users: bool,
    /// The name of its network, to find what it leaves behind if it is killed.
    network: Option<PathBuf>,
}

/// What a host said last, if it could, and how its process ended.
#[derive(Debug, Default)]
pub(super) struct HostEnd {
    pub(super) status: Option<ExitStatus>,
    pub(super) dropped_by_device: Option<u64>,
    pub(super) facts: Option<HostFacts>,
}

impl HostHandle {
    /// Starts a host, beside another in the same user namespace; gives its TUN device.
    pub(super) async fn start(plan: &Plan, beside: Option<&Self>) -> Result<(Self, OwnedFd), EmulatorError> {
        let side = if beside.is_some() { Side::Peer } else { Side::Host };
        let (ours, its) = words::pair()?;
        let process = spawn(plan, side, its)?;
        let mut handle = Self { side, process, end: End::new(ours)?, has_own_users: false, network: None };
        let introduced = handle.introduce(plan, beside).await;
        match introduced {
            Ok(tun) => Ok((handle, tun)),
            Err(error) => {
                let status = handle.end().await.status;
                Err(error.with_status(side, status))
            }
        }
    }

    /// Tells it what to be, and waits until it is.
    async fn introduce(&mut self, plan: &Plan, beside: Option<&Self>) -> Result<OwnedFd, EmulatorError> {
        let join = match beside {
            Some(beside) if beside.has_own_users => Some(beside.id()?),
            _ => None,
        };
        let address = match self.side {
            Side::Host => HOST,
            Side::Peer => PEER,
        };
        self.tell(&ToHost::Be(Wish { address, mtu_bytes: plan.mtu_bytes, join }), None)?;
        match self.end.hear().await? {
            Some((FromHost::Ready { has_own_users }, Some(tun))) => {
                self.has_own_users = has_own_users;
                self.network = descendants::network_of(self.id()?);
                Ok(tun)
            }
            Some((FromHost::Refused(refusal), _)) => Err(refusal.into()),
            _ => Err(self.lost()),
        }
    }

    /// Tells it something.
    pub(super) fn tell(&self, words: &ToHost, descriptor: Option<&OwnedFd>) -> Result<(), EmulatorError> {
        self.end.tell(words, descriptor).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.lost(),
            _ => error.into(),
        })
    }

    /// What it tells next.
    pub(super) async fn hear(&self) -> Result<FromHost, EmulatorError> {
        let heard = self.end.hear().await?;
        heard.map(|(words, _)| words).ok_or_else(|| self.lost())
    }

    /// The number of its process.
    pub(super) fn id(&self) -> io::Result<i32> {
        i32::try_from(self.process.id()).map_err(io::Error::other)
    }

    /// Ends all that runs there.
    pub(super) async fn end(mut self) -> HostEnd {
        self.end.finish();
        let mut end = HostEnd::default();
        while let Ok(words) = self.hear().await {
            if let FromHost::Over { dropped_by_device, facts } = words {
                end.dropped_by_device = dropped_by_device;
                end.facts = Some(facts);
            }
        }
        // It has closed its socket as its last deed, or is dead.
        end.status = self.process.wait().ok();
        if end.facts.is_none()
            && let Some(network) = &self.network
        {
            descendants::end_all_in(network);
        }
        end
    }

    fn lost(&self) -> EmulatorError {
        EmulatorError::HostLost { side: self.side, status: None }
    }
}

impl EmulatorError {
    /// The same, with how the host ended if it is this one that was lost.
    pub(super) fn with_status(self, of: Side, how: Option<ExitStatus>) -> Self {
        match self {
            Self::HostLost { side, status: None } if side == of => Self::HostLost { side, status: how },
            other => other,
        }
    }
}

/// Starts a host's process, which finds the emulator at its standard input.
fn spawn(plan: &Plan, side: Side, emulator: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(&plan.host_binary);
    command.arg0(host::NAME).stdin(Stdio::from(emulator));
    match (plan.streams, side) {
        (Streams::Null, _) => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        (Streams::Ours, Side::Host) => {}
        (Streams::Ours, Side::Peer) | (Streams::OursForPeople, _) => {
            command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
        }
    }
    if side == Side::Peer {
        // Not reached by the terminal's Ctrl-C: the command may still need its peer.
        command.process_group(0);
    }
    // The command goes with its end of the socket, which would stay open here otherwise.
    command.spawn()
}
