//! Signals that would end the caller's process, and are for the command instead while it runs.

use std::io;
use std::os::fd::AsFd as _;

use rustix::process::Signal;
use rustix::termios::tcgetpgrp;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

/// Catches them.
pub(super) struct CaughtSignals {
    interrupt: Signals,
    quit: Signals,
    terminate: Signals,
    hangup: Signals,
}

impl CaughtSignals {
    /// From here on they do not end this process.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one; what has to be passed on to the command, if it does not have it already.
    pub(super) async fn next(&mut self) -> Option<Signal> {
        tokio::select! {
            // The terminal sends these to the command as well, which knows best what they mean to it.
            _ = self.interrupt.recv() => (!is_in_foreground()).then_some(Signal::INT),
            _ = self.quit.recv() => (!is_in_foreground()).then_some(Signal::QUIT),
            _ = self.terminate.recv() => Some(Signal::TERM),
            _ = self.hangup.recv() => Some(Signal::HUP),
        }
    }
}

/// Whether what is typed at the terminal reaches this process.
fn is_in_foreground() -> bool {
    [io::stdin().as_fd(), io::stderr().as_fd()]
        .into_iter()
        .any(|it| tcgetpgrp(it).is_ok_and(|group| group == rustix::process::getpgrp()))
}
