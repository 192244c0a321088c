//! Comes back after a lost connection: the same wish in another session, until it is done or `--retry-for` is over.

use std::{cell::Cell, pin::pin, time::Duration};

use tokio::time::sleep;

use super::{
    output::Output,
    peer::{self, Place},
    transfer::{interrupted, interruption, runtime, watch},
};
use crate::{
    limits,
    run::{
        client::{Client, Ended},
        clock,
        error::{Cause, RunError},
        home::Home,
    },
    security::Address,
    units,
};

/// Reads the value of `--retry-for`.
pub fn parse_retry_for(text: &str) -> Result<Duration, units::UnitError> {
    if text == "never" { Ok(Duration::ZERO) } else { units::parse_duration(text) }
}

/// How long a client tries to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// What it does cannot be done twice.
    None,
    /// For so long after a loss; also before the first connection, if a person said so.
    For(Option<Duration>),
}

/// Runs a client's sessions, one after the other while the connection is lost, to the end of the last. `make` prepares one,
/// and is told whether it is another one.
pub fn client_session(
    mut make: impl FnMut(bool) -> anyhow::Result<Client>,
    patience: Patience,
    place: &Place,
    home: &Home,
    out: &Output,
) -> anyhow::Result<Ended> {
    let decide = async |key| match &place.address {
        Address::Plain { host, .. } => {
            let (home, host) = (home.clone(), host.clone());
            out.progress().go_away();
            // On a thread of its own, so that a signal is heard while a person thinks.
            let answer = tokio::task::spawn_blocking(move || peer::decide(&home, &host, key)).await;
            out.progress().come_back();
            answer.unwrap_or_else(|error| Err(RunError::new(Cause::Unexpected, error.to_string())))
        }
        Address::Ticket(_) => Ok(()),
    };
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let is_interrupted = Cell::new(false);
        let mut signal = pin!(async {
            interrupted().await;
            is_interrupted.set(true);
        });
        let mut loss = Loss::new(patience);
        let mut last: Option<Ended> = None;
        loop {
            let mut client = make(last.is_some())?;
            if let Some(last) = &last {
                client.follow(last);
            }
            let running = client.running();
            let ended = watch(client.run(&decide), &running, signal.as_mut(), out).await;
            let (was_open, has_moved) = (ended.session.is_some(), ended.report.bytes_moved > 0);
            let is_first = last.is_none();
            let ended = match last.take() {
                None => ended,
                Some(before) => ended.after(before),
            };
            let Some(error) = ended.report.error.clone().filter(|_| loss.may_pass(&ended)) else {
                return Ok(ended);
            };
            if is_interrupted.get() {
                // The session had lost its connection before.
                return Ok(interrupted_after(ended));
            }
            let Some(pause) = loss.next_pause(was_open && (has_moved || is_first)) else { return Ok(ended) };
            if loss.is_news() {
                let most = units::duration(loss.most());
                out.say(&format!("{error}; trying to go on, for up to {most}"));
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = &mut signal => return Ok(interrupted_after(ended)),
            }
            last = Some(ended);
        }
    });
    // A reader may still wait for standard input; nobody waits for it.
    runtime.shutdown_background();
    ended
}

/// A person has had enough of waiting behind this end.
fn interrupted_after(mut ended: Ended) -> Ended {
    let interruption = interruption();
    (ended.report.cause, ended.report.error) = (Some(interruption.cause), Some(interruption.text));
    ended
}

/// A lost connection, and how long it is waited for.
struct Loss {
    patience: Patience,
    /// Since when there is none.
    since: Option<std::time::Instant>,
    /// A session was open once.
    was_open: bool,
    pause: Duration,
    /// Attempts since the loss.
    attempts: u32,
}

impl Loss {
    fn new(patience: Patience) -> Self {
        Self { patience, since: None, was_open: false, pause: limits::RETRY_PAUSE_MIN, attempts: 0 }
    }

    /// Whether what ended the session may pass.
    fn may_pass(&mut self, ended: &Ended) -> bool {
        self.was_open |= ended.session.is_some();
        let is_asked_for = matches!(self.patience, Patience::For(Some(_)));
        match ended.report.cause {
            Some(Cause::Connection | Cause::TimedOut) => self.was_open || is_asked_for,
            // A server that ends while it is being greeted looks like one that is not haul.
            Some(Cause::Peer) if ended.session.is_none() => self.was_open || is_asked_for,
            // What is in the way may be what a lost connection has left there.
            Some(Cause::Busy) => true,
            Some(Cause::SomeFailed) => {
                let failures = &ended.report.failures;
                failures.len() as u64 == ended.report.failed
                    && failures.iter().all(|failure| failure.cause == Cause::Busy)
            }
            _ => false,
        }
    }

    /// How long to wait before the next attempt; `None` when it is time to give up.
    fn next_pause(&mut self, has_moved: bool) -> Option<Duration> {
        let now = clock::now();
        if has_moved || self.since.is_none() {
            (self.since, self.pause, self.attempts) = (Some(now), limits::RETRY_PAUSE_MIN, 0);
        }
        self.attempts += 1;
        // Clients that lost the same server do not all come back at once.
        let spread = f64::from(u16::from_le_bytes(clock::random())) / f64::from(u16::MAX);
        let pause = self.pause.mul_f64(0.5 + 0.5 * spread);
        self.pause = (self.pause * 2).min(limits::RETRY_PAUSE_MAX);
        let until = self.since? + self.most();
        (now + pause <= until).then_some(pause)
    }

    fn most(&self) -> Duration {
        match self.patience {
            Patience::None => Duration::ZERO,
            Patience::For(asked) => asked.unwrap_or(limits::RETRY_FOR),
        }
    }

    /// Whether this is the first attempt after a loss.
    fn is_news(&self) -> bool {
        self.attempts == 1
    }
}
