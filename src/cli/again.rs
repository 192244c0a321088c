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
        report::Report,
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
            let (running, begun) = (client.running(), clock::now());
            let ended = watch(client.run(&decide), &running, signal.as_mut(), out).await;
            let attempt = Attempt::of(&ended.report, clock::now().duration_since(begun));
            let mut ended = match last.take() {
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
            let Some(pause) = loss.next_pause(&attempt) else { return Ok(ended) };
            if loss.is_news() {
                let most = units::duration(loss.most());
                out.say(&format!("{error}; trying to go on, for up to {most}"));
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = &mut signal => return Ok(interrupted_after(ended)),
            }
            ended.report.elapsed_s += pause.as_secs_f64();
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

/// A session that was cut, or one that there never was.
struct Attempt {
    took: Duration,
    has_moved: bool,
    /// What stands there for good, as far as it came: files, then bytes of an unfinished one that it began behind.
    standing: (u64, u64),
}

impl Attempt {
    fn of(report: &Report, took: Duration) -> Self {
        let files = report.files + report.unchanged + report.identical + report.kept;
        Self { took, has_moved: report.bytes_moved > 0, standing: (files, report.bytes_resumed) }
    }
}

/// A lost connection, and how long it is waited for.
struct Loss {
    patience: Patience,
    /// How long it was waited for: pauses, and attempts in which nothing moved.
    waited: Duration,
    /// The most that stood there behind an attempt; `None` before the first loss.
    best: Option<(u64, u64)>,
    /// A session was open once.
    was_open: bool,
    pause: Duration,
    /// Attempts since the loss.
    attempts: u32,
}

impl Loss {
    fn new(patience: Patience) -> Self {
        let (waited, pause) = (Duration::ZERO, limits::RETRY_PAUSE_MIN);
        Self { patience, waited, best: None, was_open: false, pause, attempts: 0 }
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

    /// How long to wait before the next attempt; `None` when it is time to give up. It is another loss only if more stands
    /// there than before: a file that is cut in each session before anything of it is kept moves bytes for ever.
    fn next_pause(&mut self, attempt: &Attempt) -> Option<Duration> {
        if self.best.is_none_or(|best| attempt.standing > best) {
            self.best = Some(attempt.standing);
            (self.waited, self.pause, self.attempts) = (Duration::ZERO, limits::RETRY_PAUSE_MIN, 0);
        } else if !attempt.has_moved {
            self.waited += attempt.took;
        }
        self.attempts += 1;
        // Clients that lost the same server do not all come back at once.
        let spread = f64::from(u16::from_le_bytes(clock::random())) / f64::from(u16::MAX);
        let pause = self.pause.mul_f64(0.5 + 0.5 * spread);
        self.pause = (self.pause * 2).min(limits::RETRY_PAUSE_MAX);
        self.waited += pause;
        (self.waited <= self.most()).then_some(pause)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Patience = Patience::For(None);

    #[test]
    fn who_gets_on_is_never_given_up() {
        let mut loss = Loss::new(MINUTE);
        let standing = (0..1000).map(|at| (at / 10, at % 10));
        for standing in standing {
            let pause = loss.next_pause(&cut(30, true, standing)).unwrap();
            assert!(loss.is_news() && pause <= limits::RETRY_PAUSE_MIN, "each loss is a new one");
        }
    }

    #[test]
    fn what_moves_and_never_stays_is_given_up_after_pauses_that_grow() {
        let mut loss = Loss::new(MINUTE);
        let pauses: Vec<_> =
            std::iter::from_fn(|| loss.next_pause(&cut(20, true, (3, 0)))).take(1000).collect();

        assert!(pauses.len() < 100, "{pauses:?}");
        assert!(pauses.iter().sum::<Duration>() <= limits::RETRY_FOR);
        assert!(pauses.last() > pauses.first());
    }

    #[test]
    fn a_long_session_behind_a_short_one_takes_nothing_of_the_patience() {
        let mut loss = Loss::new(MINUTE);
        assert!(loss.next_pause(&cut(1, false, (0, 0))).is_some());
        assert!(loss.next_pause(&cut(1200, true, (0, 0))).is_some());
    }

    #[test]
    fn attempts_without_a_session_are_waited_for_as_long_as_is_asked() {
        let mut loss = Loss::new(Patience::For(Some(Duration::from_secs(20))));
        let count = std::iter::from_fn(|| loss.next_pause(&cut(3, false, (0, 0)))).take(1000).count();
        assert!((3..=7).contains(&count), "{count}");
    }

    fn cut(took_s: u64, has_moved: bool, standing: (u64, u64)) -> Attempt {
        Attempt { took: Duration::from_secs(took_s), has_moved, standing }
    }
}
