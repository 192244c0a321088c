//! Keeps a session at the rate that was asked for.
//!
//! A leaky bucket on time: each chunk moves the moment at which the next may go by its own length at the rate.
//! After a pause, at most [`BURST`] is caught up.

use std::time::Duration;

/// How far the schedule may lie in the past.
const BURST: Duration = Duration::from_millis(20);

/// When the next content may be sent. Time is a `Duration` since any fixed start.
#[derive(Debug)]
pub struct Pacer {
    bytes_per_s: u64,
    next: Duration,
}

impl Pacer {
    /// At most `bytes_per_s` bytes of content a second, at least 1.
    pub fn new(bytes_per_s: u64) -> Self {
        Self { bytes_per_s: bytes_per_s.max(1), next: Duration::ZERO }
    }

    /// How long to wait before sending; zero: go.
    pub fn wait(&self, now: Duration) -> Duration {
        self.next.saturating_sub(now)
    }

    /// Content was sent.
    pub fn on_sent(&mut self, now: Duration, bytes: u64) {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s);
        let length = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.next = self.next.max(now.saturating_sub(BURST)).saturating_add(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_a_second() {
        let mut pacer = Pacer::new(10_000_000);
        let mut now = Duration::from_secs(5);
        let mut sent = 0;
        while now < Duration::from_secs(6) {
            now += pacer.wait(now);
            pacer.on_sent(now, 65_536);
            sent += 65_536;
        }

        assert!((9_900_000..=10_400_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pacer = Pacer::new(1_000_000);
        let now = Duration::from_secs(100);
        let mut burst = 0;
        while pacer.wait(now).is_zero() {
            pacer.on_sent(now, 1000);
            burst += 1000;
        }

        assert!(burst <= 21_000, "{burst}");
    }

    #[test]
    fn absurd_rates_do_not_overflow() {
        let mut pacer = Pacer::new(0);
        pacer.on_sent(Duration::ZERO, u64::MAX);
        assert!(!pacer.wait(Duration::from_secs(1)).is_zero());
    }
}
