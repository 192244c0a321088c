//! A whole run: starts two hosts, carries packets between them while the command runs, and ends everything in order.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep_until, timeout};

use super::clock::Clock;
use super::descendants;
use super::handle::HostHandle;
use super::lane::{self, RunningLane, Stopper};
use super::plan::{Carried, EmulatorError, Plan, Side, Streams};
use super::signals::CaughtSignals;
use super::tally::Tally;
use super::words::{FromHost, Program, ToHost};
use crate::link::Direction;

/// Address of the host on which the command runs.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Address of the host at the other end.
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// From asking a command that has taken too long to end, to forcing it.
const FORCED_AFTER: Duration = Duration::from_secs(3);

/// How the programs ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    code: u8,
    peer_code: Option<u8>,
    was_cut: bool,
    was_interrupted: bool,
    command_elapsed: Duration,
}

/// Carries packets while the command runs. Leaves nothing behind: no process, thread, descriptor or namespace.
///
/// # Panics
/// If [`Plan::sample_every`] is zero, or a link's parameters make no link.
pub fn run(plan: &Plan) -> Result<Carried, EmulatorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_all(plan))
}

async fn run_all(plan: &Plan) -> Result<Carried, EmulatorError> {
    let mut signals = CaughtSignals::new()?;
    // If a host's process is killed, what ran there comes to us, and is ended with its handle.
    descendants::adopt()?;
    let (host, host_tun) = HostHandle::start(plan, None).await?;
    let (peer, peer_tun) = match HostHandle::start(plan, Some(&host)).await {
        Ok(started) => started,
        Err(error) => {
            let status = host.end().await.status;
            return Err(error.with_status(Side::Host, status));
        }
    };
    let clock = Clock::start();
    let (lanes, ended) = match Lanes::start(plan, clock, &host_tun, &peer_tun) {
        Ok(lanes) => (Some(lanes), run_programs(plan, &host, &peer, clock, &mut signals).await),
        Err(error) => (None, Err(error.into())),
    };

    // The command's host first, as the peer may be what it needs until then.
    let host = host.end().await;
    let peer = peer.end().await;
    let tallies = lanes.map(Lanes::end);
    let elapsed = clock.now();
    let ended = ended
        .map_err(|error| error.with_status(Side::Host, host.status).with_status(Side::Peer, peer.status))?;
    let (mut there, mut back) = tallies.expect("without lanes, no program was run")?;
    there.machine.dropped_by_device = host.dropped_by_device.unwrap_or(0);
    back.machine.dropped_by_device = peer.dropped_by_device.unwrap_or(0);
    let Ended { code, peer_code, was_cut, was_interrupted, command_elapsed } = ended;
    Ok(Carried {
        code,
        was_cut,
        was_interrupted,
        command_elapsed,
        peer_code,
        elapsed,
        there,
        back,
        host: host.facts,
        peer: peer.facts,
    })
}

/// The peer's program, then the command, until that has ended; how both ended.
async fn run_programs(
    plan: &Plan,
    host: &HostHandle,
    peer: &HostHandle,
    clock: Clock,
    signals: &mut CaughtSignals,
) -> Result<Ended, EmulatorError> {
    let mut peer_code = None;
    if !plan.peer.is_empty() {
        peer.tell(&ToHost::Start(program(&plan.peer, (PEER, HOST), host, true)?), None)?;
        match peer.hear().await? {
            FromHost::Ended { code } => peer_code = Some(code),
            FromHost::NotStarted { code, why } => return Err(not_started(&plan.peer, code, why)),
            _ => {}
        }
    }
    let stdin = match plan.streams {
        Streams::Ours | Streams::OursForPeople => Some(io::stdin().as_fd().try_clone_to_owned()?),
        Streams::Null => None,
    };
    let command = program(&plan.command, (HOST, PEER), peer, false)?;
    let started = clock.now();
    host.tell(&ToHost::Start(command), stdin.as_ref())?;
    drop(stdin);
    let mut asked = 0;
    let (mut was_cut, mut was_interrupted) = (false, false);
    let mut patience = plan.command_at_most.and_then(|time| Instant::now().checked_add(time));
    loop {
        tokio::select! {
            heard = host.hear() => match heard? {
                FromHost::Ended { code } => {
                    let command_elapsed = clock.now().saturating_sub(started);
                    if peer_code.is_none() && !plan.peer.is_empty() {
                        peer_code = last_code(peer, plan.peer_grace).await?;
                    }
                    return Ok(Ended { code, peer_code, was_cut, was_interrupted, command_elapsed });
                }
                FromHost::NotStarted { code, why } => return Err(not_started(&plan.command, code, why)),
                _ => {}
            },
            heard = peer.hear() => if let FromHost::Ended { code } = heard? {
                peer_code = Some(code);
            },
            signal = signals.next() => {
                was_interrupted = true;
                if let Some(signal) = signal {
                    asked += 1;
                    // Who asks again does not want to wait for the command.
                    let signal = if asked > 1 { Signal::KILL } else { signal };
                    host.tell(&ToHost::Signal(signal.as_raw()), None)?;
                }
            }
            () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                let signal = if was_cut { Signal::KILL } else { Signal::INT };
                patience = (!was_cut).then(|| Instant::now() + FORCED_AFTER);
                was_cut = true;
                host.tell(&ToHost::Signal(signal.as_raw()), None)?;
            }
        }
    }
}

/// How the peer's program ends if it does so by itself in this time.
async fn last_code(peer: &HostHandle, grace: Duration) -> Result<Option<u8>, EmulatorError> {
    let ended = async {
        loop {
            if let FromHost::Ended { code } = peer.hear().await? {
                return Ok(Some(code));
            }
        }
    };
    timeout(grace, ended).await.unwrap_or(Ok(None))
}

/// Both directions; they stop when this is dropped.
struct Lanes {
    stopper: Stopper,
    there: RunningLane,
    back: RunningLane,
}

impl Lanes {
    fn start(plan: &Plan, clock: Clock, host: &OwnedFd, peer: &OwnedFd) -> io::Result<Self> {
        let (stopper, stop) = lane::stop()?;
        let start = |direction, from: &OwnedFd, to: &OwnedFd| {
            let devices = (from.try_clone()?, to.try_clone()?);
            RunningLane::start(direction, plan, clock, stop.clone(), devices)
        };
        let there = start(Direction::Forward, host, peer)?;
        let back = start(Direction::Backward, peer, host)?;
        Ok(Self { stopper, there, back })
    }

    fn end(self) -> io::Result<(Tally, Tally)> {
        drop(self.stopper);
        let (there, back) = (self.there.end(), self.back.end());
        Ok((there?, back?))
    }
}

fn program(
    line: &[OsString],
    (own, other): (Ipv4Addr, Ipv4Addr),
    neighbour: &HostHandle,
    serves: bool,
) -> io::Result<Program> {
    Ok(Program {
        line: line.iter().map(|part| part.as_bytes().to_vec()).collect(),
        environment: vec![
            ("HAUL_LINK_HOST".to_owned(), own.to_string()),
            ("HAUL_LINK_PEER".to_owned(), other.to_string()),
            ("HAUL_LINK_PEER_PID".to_owned(), neighbour.id()?.to_string()),
        ],
        serves,
    })
}

fn not_started(line: &[OsString], code: u8, why: String) -> EmulatorError {
    EmulatorError::NotStarted { name: line.first().cloned().unwrap_or_default(), why, code }
}
