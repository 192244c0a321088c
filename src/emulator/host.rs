//! A host, in a process of its own: a network, a TUN interface, and the program that runs there.
//!
//! ```text
//!   emulator                       host                          program
//!      | Be --------------------->  |  own network, interface        |
//!      | <------ Ready + the TUN    |                                |
//!      | Start + standard input ->  | ---- starts --------------->   |
//!      | <---------------- Serves   |  something listens there       |
//!      | <----------------- Ended   | <------------------- ends -----'
//!      | (closes) --------------->  |  ends all that still runs
//!      | <------------------ Over   |
//! ```
//!
//! The emulator starts its own binary under the name [`NAME`] and knows the host by the socket on standard input. When the
//! socket closes, however the emulator ended, all that runs on the host ends; with the last process the namespaces go.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitStatus};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::descendants::{Children, Reaped, adopt, reap, signal_all};
use super::device::{dropped_by_interface, enter_network, is_listening, make_interface};
use super::facts::HostFacts;
use super::refusal::{Refusal, Step};
use super::words::{End, FromHost, Program, ToHost, Wish};

/// What the binary is called when it is to be a host.
pub const NAME: &str = "haul-link-host";

/// How often it is asked whether the program listens.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a program may take until it listens.
const SERVES_WITHIN: Duration = Duration::from_secs(5);

/// The program that runs.
struct Running {
    pid: Pid,
    /// Until when it is expected to listen; `None` when that is known or does not matter.
    serves_until: Option<Instant>,
}

/// Is a host until its emulator ends or ends it.
pub fn main() -> ExitCode {
    let served = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve())
    };
    match served() {
        Ok(()) => ExitCode::SUCCESS,
        // Its emulator sees that it is gone, and says so.
        Err(_) => ExitCode::FAILURE,
    }
}

async fn serve() -> io::Result<()> {
    let emulator = End::new(io::stdin().as_fd().try_clone_to_owned()?)?;
    let Some((ToHost::Be(wish), _)) = emulator.hear().await? else { return Ok(()) };
    match become_host(&wish) {
        Ok((has_own_users, tun)) => emulator.tell(&FromHost::Ready { has_own_users }, Some(&tun))?,
        Err(refusal) => return emulator.tell(&FromHost::Refused(refusal), None),
    }
    adopt()?;
    let mut children = Children::new()?;
    attend(&emulator, &mut children).await?;
    children.end_all().await;
    // Nothing runs any more, so that this is all there will be.
    emulator
        .tell(&FromHost::Over { dropped_by_device: dropped_by_interface(), facts: HostFacts::read() }, None)
}

fn become_host(wish: &Wish) -> Result<(bool, OwnedFd), Refusal> {
    // The runtime has one thread, this one, as the namespaces demand.
    let join = match wish.join {
        Some(pid) => Some(Pid::from_raw(pid).ok_or(Refusal { step: Step::Namespaces, errno: libc::ESRCH })?),
        None => None,
    };
    let has_own_users = enter_network(join)?;
    Ok((has_own_users, make_interface(wish.address, wish.mtu_bytes)?))
}

/// Starts the program and tells what becomes of it, until the emulator closes.
async fn attend(emulator: &End, children: &mut Children) -> io::Result<()> {
    // What a terminal sends goes to the program as well, which decides; the host stays until it is told.
    let mut ignored = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()].map(signal);
    for kind in &mut ignored {
        kind.as_mut().map_err(|error| io::Error::from(error.kind()))?;
    }
    let mut asked = signal(SignalKind::terminate())?;
    let mut running: Option<Running> = None;
    loop {
        let look = running.as_ref().and_then(|it| it.serves_until).map(|_| Instant::now() + LOOK_EVERY);
        tokio::select! {
            heard = emulator.hear() => match heard? {
                None | Some((ToHost::Be(_), _)) => return Ok(()),
                Some((ToHost::Start(program), stdin)) => match start(&program, stdin) {
                    Ok(started) => running = Some(started),
                    Err(error) => emulator.tell(&not_started(&error), None)?,
                },
                Some((ToHost::Signal(number), _)) => {
                    if let Some(signal) = Signal::from_named_raw(number) {
                        signal_all(signal);
                    }
                }
            },
            () = children.changed() => {
                while let Some(Reaped::One(pid, status)) = reap() {
                    if running.as_ref().is_some_and(|it| it.pid == pid) {
                        running = None;
                        emulator.tell(&FromHost::Ended { code: code_of(status) }, None)?;
                    }
                }
            }
            () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {
                if let Some(it) = &mut running
                    && (is_listening() || it.serves_until.is_some_and(|until| until <= Instant::now()))
                {
                    it.serves_until = None;
                    emulator.tell(&FromHost::Serves, None)?;
                }
            }
            _ = asked.recv() => return Ok(()),
        }
    }
}

fn start(program: &Program, stdin: Option<OwnedFd>) -> io::Result<Running> {
    let mut line = program.line.iter().map(|part| OsString::from_vec(part.clone()));
    let name = line.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut command = Command::new(&name);
    command.args(line).arg0(&name).stdin(stdin.map_or_else(Stdio::null, Stdio::from));
    for (variable, value) in &program.environment {
        command.env(variable, value);
    }
    let child = command.spawn()?;
    let serves_until = program.serves.then(|| Instant::now() + SERVES_WITHIN);
    Ok(Running { pid: Pid::from_child(&child), serves_until })
}

fn not_started(error: &io::Error) -> FromHost {
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    FromHost::NotStarted { code, why: error.to_string() }
}

/// As a shell has it.
fn code_of(status: WaitStatus) -> u8 {
    let code = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}
