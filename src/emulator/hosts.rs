//! A whole run: starts two hosts, carries packets between them while the command runs, and ends everything in order.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::clock::Clock;
use super::descendants;
use super::host;
use super::lane::{self, RunningLane, Stopper};
use super::refusal::Refusal;
use super::tally::Tally;
use super::words::{self, End, FromHost, Program, ToHost, Wish};
use crate::link::{Direction, LinkConfig};

/// Address of the host on which the command runs.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Address of the host at the other end.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

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
    /// What runs at the other end meanwhile, and its arguments; empty: nothing.
    pub peer: Vec<OsString>,
    /// Whether the command's standard output is for people, since the caller's is for a program.
    pub stdout_is_taken: bool,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Carried {
    /// How the command ended, as a shell has it.
    pub code: u8,
    /// The same of what ran at the other end, if it ended by itself before the command did.
    pub peer_code: Option<u8>,
    /// From the first moment of the link to its last.
    pub elapsed: Duration,
    /// From the command's host to the peer.
    pub there: Tally,
    /// From the peer to the command's host.
    pub back: Tally,
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
    #[error("a host of the link ended unexpectedly")]
    HostLost,
    /// Something else.
    #[error("the emulator failed: {0}")]
    Io(#[from] io::Error),
}

/// A host as its emulator knows it.
struct HostHandle {
    process: Child,
    end: End,
    has_own_users: bool,
}

/// Carries packets while the command runs.
pub fn run(plan: &Plan) -> Result<Carried, EmulatorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_all(plan))
}

async fn run_all(plan: &Plan) -> Result<Carried, EmulatorError> {
    let mut signals = CaughtSignals::new()?;
    // If a host's process is killed, what ran there comes to us, and to its end below.
    descendants::adopt()?;
    let (mut host, host_tun) = HostHandle::start(plan, HOST, None).await?;
    let (mut peer, peer_tun) = HostHandle::start(plan, PEER, Some(&host)).await?;
    let clock = Clock::start();
    let lanes = Lanes::start(plan, clock, &host_tun, &peer_tun)?;

    let ended = run_programs(plan, &host, &peer, &mut signals).await;
    // The command's host first, as the peer may be what it needs until then.
    let dropped_there = host.end().await;
    let dropped_back = peer.end().await;
    let (mut there, mut back) = lanes.end()?;
    let elapsed = clock.now();
    there.machine.dropped_by_device = dropped_there.unwrap_or(0);
    back.machine.dropped_by_device = dropped_back.unwrap_or(0);
    let (code, peer_code) = ended?;
    Ok(Carried { code, peer_code, elapsed, there, back })
}

/// The peer's program, then the command, until that has ended; how both ended.
async fn run_programs(
    plan: &Plan,
    host: &HostHandle,
    peer: &HostHandle,
    signals: &mut CaughtSignals,
) -> Result<(u8, Option<u8>), EmulatorError> {
    let mut peer_code = None;
    if !plan.peer.is_empty() {
        peer.end.tell(&ToHost::Start(program(&plan.peer, (PEER, HOST), &host.process, true)), None)?;
        match peer.hear().await? {
            FromHost::Ended { code } => peer_code = Some(code),
            FromHost::NotStarted { code, why } => return Err(not_started(&plan.peer, code, why)),
            _ => {}
        }
    }
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let command = program(&plan.command, (HOST, PEER), &peer.process, false);
    host.end.tell(&ToHost::Start(command), Some(&stdin))?;
    drop(stdin);
    let mut asked = 0;
    loop {
        tokio::select! {
            heard = host.hear() => match heard? {
                FromHost::Ended { code } => return Ok((code, peer_code)),
                FromHost::NotStarted { code, why } => return Err(not_started(&plan.command, code, why)),
                _ => {}
            },
            heard = peer.hear() => if let FromHost::Ended { code } = heard? {
                peer_code = Some(code);
            },
            signal = signals.next() => {
                asked += 1;
                // Who asks again does not want to wait for the command.
                let signal = if asked > 1 { Signal::KILL } else { signal };
                host.end.tell(&ToHost::Signal(signal.as_raw()), None)?;
            }
        }
    }
}

impl HostHandle {
    /// Starts a host, beside another in the same user namespace; gives its TUN device.
    async fn start(
        plan: &Plan,
        address: Ipv4Addr,
        beside: Option<&Self>,
    ) -> Result<(Self, OwnedFd), EmulatorError> {
        let (ours, its) = words::pair()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(host::NAME).stdin(Stdio::from(its));
        // What the peer says is for people, and so is what the command says where a program reads our result.
        if beside.is_some() || plan.stdout_is_taken {
            command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
        }
        if beside.is_some() {
            // Not reached by the terminal's Ctrl-C: the command may still need its peer.
            command.process_group(0);
        }
        let process = command.spawn()?;
        // Or its standard input would stay open here.
        drop(command);
        let join = match beside {
            Some(beside) if beside.has_own_users => {
                Some(i32::try_from(beside.process.id()).map_err(io::Error::other)?)
            }
            _ => None,
        };
        let mut handle = Self { process, end: End::new(ours)?, has_own_users: false };
        handle.end.tell(&ToHost::Be(Wish { address, mtu_bytes: plan.mtu_bytes, join }), None)?;
        match handle.end.hear().await? {
            Some((FromHost::Ready { has_own_users }, Some(tun))) => {
                handle.has_own_users = has_own_users;
                Ok((handle, tun))
            }
            Some((FromHost::Refused(refusal), _)) => Err(refusal.into()),
            _ => Err(EmulatorError::HostLost),
        }
    }

    async fn hear(&self) -> Result<FromHost, EmulatorError> {
        let heard = self.end.hear().await?;
        heard.map(|(words, _)| words).ok_or(EmulatorError::HostLost)
    }

    /// Ends all that runs there; the packets that its device dropped, if it is there to say so.
    async fn end(&mut self) -> Option<u64> {
        self.end.finish();
        let mut dropped = None;
        while let Ok(words) = self.hear().await {
            if let FromHost::Over { dropped_by_device } = words {
                dropped = dropped_by_device;
            }
        }
        // It has closed its socket as its last deed, or is dead.
        let _ = self.process.wait();
        dropped
    }
}

/// Both directions.
struct Lanes {
    stopper: Stopper,
    there: RunningLane,
    back: RunningLane,
}

impl Lanes {
    fn start(plan: &Plan, clock: Clock, host: &OwnedFd, peer: &OwnedFd) -> io::Result<Self> {
        let (stopper, stop) = lane::stop()?;
        let start = |config, direction, from: &OwnedFd, to: &OwnedFd| {
            let devices = (from.try_clone()?, to.try_clone()?);
            RunningLane::start(config, direction, plan.mtu_bytes, clock, stop.clone(), devices)
        };
        let there = start(&plan.there, Direction::Forward, host, peer)?;
        let back = start(&plan.back, Direction::Backward, peer, host)?;
        Ok(Self { stopper, there, back })
    }

    fn end(self) -> io::Result<(Tally, Tally)> {
        self.stopper.stop();
        Ok((self.there.end()?, self.back.end()?))
    }
}

/// What would end haul, and is for the command instead.
struct CaughtSignals {
    interrupt: Signals,
    quit: Signals,
    terminate: Signals,
    hangup: Signals,
}

impl CaughtSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one that has to be passed on.
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                // The terminal sends these to the command as well, which knows best what they mean to it.
                _ = self.interrupt.recv() => if !is_in_foreground() { return Signal::INT },
                _ = self.quit.recv() => if !is_in_foreground() { return Signal::QUIT },
                _ = self.terminate.recv() => return Signal::TERM,
                _ = self.hangup.recv() => return Signal::HUP,
            }
        }
    }
}

/// Whether what is typed at the terminal reaches this process.
fn is_in_foreground() -> bool {
    [io::stdin().as_fd(), io::stderr().as_fd()]
        .into_iter()
        .any(|it| tcgetpgrp(it).is_ok_and(|group| group == rustix::process::getpgrp()))
}

fn program(
    line: &[OsString],
    (own, other): (Ipv4Addr, Ipv4Addr),
    neighbour: &Child,
    serves: bool,
) -> Program {
    Program {
        line: line.iter().map(|part| part.as_bytes().to_vec()).collect(),
        environment: vec![
            ("HAUL_LINK_HOST".to_owned(), own.to_string()),
            ("HAUL_LINK_PEER".to_owned(), other.to_string()),
            ("HAUL_LINK_PEER_PID".to_owned(), neighbour.id().to_string()),
        ],
        serves,
    }
}

fn not_started(line: &[OsString], code: u8, why: String) -> EmulatorError {
    EmulatorError::NotStarted { name: line.first().cloned().unwrap_or_default(), why, code }
}

impl From<Refusal> for EmulatorError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}
