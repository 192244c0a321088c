//! A process on this machine, with a time after which it ends.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::run::clock;

/// A process that runs; it ends with this.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Can be read once the process has ended.
    end: OwnedFd,
    started: Instant,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// As a shell has it.
    pub(super) code: u8,
    /// Whether it was ended since it took too long.
    pub(super) was_cut: bool,
    /// From its start on.
    pub(super) elapsed: Duration,
}

/// From the request to end until the end.
const GRACE: Duration = Duration::from_secs(3);

impl Process {
    /// Starts a program; its standard input is empty, and what it says goes nowhere.
    pub(super) fn start(line: &[OsString]) -> io::Result<Self> {
        let (name, arguments) = line.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let started = clock::now();
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { child, end, started })
    }

    /// Waits for its end; after `at_most` from its start on, asks it to end, and then ends it.
    pub(super) fn wait(&mut self, at_most: Duration) -> io::Result<Ended> {
        let was_cut = !self.ends_within(at_most.saturating_sub(self.started.elapsed()))?;
        if was_cut {
            // It may have ended by itself just now.
            let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
            if !self.ends_within(GRACE)? {
                self.child.kill()?;
            }
        }
        let status = self.child.wait()?;
        Ok(Ended { code: code_of(status), was_cut, elapsed: self.started.elapsed() })
    }

    fn ends_within(&self, time: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(time).map_err(io::Error::other)?;
        let mut end = [PollFd::new(&self.end, PollFlags::IN)];
        loop {
            match poll(&mut end, Some(&timeout)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended, unless something failed on the way here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(script: &str, at_most: Duration) -> Ended {
        let line = ["/bin/sh", "-c", script].map(OsString::from);
        Process::start(&line).unwrap().wait(at_most).unwrap()
    }

    #[test]
    fn a_process_ends_with_its_code_or_after_its_time() {
        let hour = Duration::from_secs(3600);

        assert_eq!(ran("exit 7", hour).code, 7);
        assert_eq!(ran("kill -9 $$", hour).code, 137);
        let cut = ran("exec sleep 3600", Duration::from_millis(1));
        assert!(cut.was_cut);
        // Asked to end while it is still being made, it may not have heard; then it is forced to.
        assert!([130, 137].contains(&cut.code), "{}", cut.code);
    }
}
