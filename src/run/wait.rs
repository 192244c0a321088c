//! Waits of threads that pace: until a deadline, to some microseconds, or until another thread has something.
//!
//! A pacing thread sends a quantum, waits until the next may go, and must hear at once of an acknowledgement or of more
//! to send. [`UdpSocket::recv`](crate::net::UdpSocket::recv) with [`remaining`] as its timeout waits the same way for
//! datagrams besides.

use std::{
    io,
    time::{Duration, Instant},
};

use super::clock;
use crate::net::Waker;

/// Makes the calling thread's waits end when their time is over. Linux lets them end up to 50 µs later, so that it can
/// wake several threads at once; without this, a wait for a quantum at 1 Gbit/s would take a tenth longer. It holds for
/// this thread only, and does nothing where the system has no such setting.
pub fn make_precise() {
    #[cfg(target_os = "linux")]
    {
        let slack = std::num::NonZeroU64::new(SLACK_NS);
        // Refused by some sandboxes: waits are then longer, and the pacer makes up for it.
        let _ = rustix::thread::set_current_timer_slack(slack);
    }
}

/// Waits until the deadline has passed or the waker is woken; without a deadline for as long as it takes. Takes the
/// waking and says whether there was one: if not, the deadline has passed.
///
/// It never ends early, and ends late by what it takes to wake a thread: some microseconds, milliseconds when all
/// processors are busy. The caller goes on from the time that is, not from the deadline.
pub fn wait_until(deadline: Option<Instant>, waker: &Waker) -> io::Result<bool> {
    loop {
        let remaining = remaining(deadline);
        if waker.wait(remaining)? {
            return Ok(true);
        }
        if remaining == Some(Duration::ZERO) {
            return Ok(false);
        }
    }
}

/// The time until a deadline, zero once it has passed; `None` without a deadline.
pub fn remaining(deadline: Option<Instant>) -> Option<Duration> {
    deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
}

/// How much later than asked a wait may end, ns. Zero would mean the system's default.
#[cfg(target_os = "linux")]
const SLACK_NS: u64 = 1;

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_wait_never_ends_before_its_deadline() {
        let waker = Waker::new().unwrap();
        make_precise();

        for us in [0, 1, 50, 1000] {
            let deadline = clock::now() + Duration::from_micros(us);

            assert!(!wait_until(Some(deadline), &waker).unwrap());

            assert!(clock::now() >= deadline);
        }
    }

    #[test]
    fn a_deadline_in_the_past_is_over() {
        let (waker, past) = (Waker::new().unwrap(), clock::now());

        assert!(!wait_until(Some(past), &waker).unwrap());
        assert_eq!(remaining(Some(past)), Some(Duration::ZERO));
        assert_eq!(remaining(None), None);
    }

    #[test]
    fn a_waking_ends_a_wait_before_its_deadline() {
        let waker = Waker::new().unwrap();
        let deadline = clock::now() + Duration::from_secs(30);

        thread::scope(|scope| {
            let bounded = scope.spawn(|| wait_until(Some(deadline), &waker).unwrap());
            waker.wake();
            assert!(bounded.join().unwrap());
            let unbounded = scope.spawn(|| wait_until(None, &waker).unwrap());
            waker.wake();
            assert!(unbounded.join().unwrap());
        });
        assert!(clock::now() < deadline);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn precision_is_a_matter_of_the_thread() {
        let slack = || rustix::thread::current_timer_slack().unwrap();
        let before = thread::spawn(slack).join().unwrap();

        let precise = thread::spawn(move || {
            make_precise();
            slack()
        });

        assert_eq!(precise.join().unwrap(), SLACK_NS);
        assert_eq!(thread::spawn(slack).join().unwrap(), before);
    }
}
