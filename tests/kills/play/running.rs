//! One process of a run: whether it lives, what it has written, how it is killed.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::common::Ended;
use crate::common::process::{PATIENCE, Process};

/// A process that was started.
pub struct Running {
    process: Process,
    /// Readable once it has ended.
    end: OwnedFd,
}

impl Running {
    /// Watches over a process.
    pub fn of(process: Process) -> Self {
        let id = Pid::from_raw(process.id().cast_signed()).expect("a process has a number");
        Self { process, end: pidfd_open(id, PidfdFlags::empty()).unwrap() }
    }

    /// Ends it without giving it a moment. What it has written by then, bytes.
    pub fn kill(self) -> u64 {
        self.process.signal(Signal::KILL);
        assert!(self.ends_within(PATIENCE), "it outlived SIGKILL");
        let written = self.written();
        self.process.kill();
        written
    }

    /// What it has written, bytes, and how it ended.
    pub fn end(self) -> (u64, Ended) {
        assert!(self.ends_within(PATIENCE), "it does not end");
        (self.written(), self.process.end())
    }

    /// Whether it ends in this time.
    pub fn ends_within(&self, time: std::time::Duration) -> bool {
        let time = Timespec::try_from(time).expect("not too long");
        poll(&mut [PollFd::new(&self.end, PollFlags::IN)], Some(&time)).unwrap() > 0
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.ends_within(std::time::Duration::ZERO)
    }

    /// What it has written to files, bytes, for as long as nobody has asked how it ended: of a receiver, the content that
    /// it has placed, and kilobytes for its journals and messages. Content that comes or goes over a socket is not in it.
    pub fn written(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.process.id())).unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("the system counts that");
        line.parse().expect("a number")
    }

    /// Readable once it has ended.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}
