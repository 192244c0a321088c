//! Decides when a packet is lost: by time only (RACK, RFC 8985).
//!
//! An acknowledgement is a look at the receiver at one moment: it had `largest`, and some before it were missing. A
//! missing packet is overdue by the time between both sendings and the time that the receiver has waited since. It is
//! lost when it is overdue by more than the **reordering window**, which begins at an eighth of a round trip and
//! follows the lateness of packets that did come: no count of packets decides, so that a path that reorders
//! hundreds of them at a high rate is not taken for one that loses them.

use std::time::Duration;

use super::rtt::Rtt;

/// The window without any reordering: this part of the smoothed round trip …
const WINDOW_PART: u32 = 8;
/// … and at least this (RFC 9002, section 6.1.2, kGranularity).
const WINDOW_MIN: Duration = Duration::from_millis(1);
/// The window exceeds the largest lateness seen by this part of it, since the next may be later still.
const MARGIN_PART: u32 = 4;
/// Round trips after which a lateness that was not seen again is forgotten (RFC 8985, section 6.2: 16 recoveries).
const MEMORY_ROUNDS: u32 = 16;

/// The reordering window of a path.
#[derive(Clone, Debug, Default)]
pub struct Reordering {
    /// Largest lateness since `since`, and in the period before.
    latest: Duration,
    before: Duration,
    /// When the running period began.
    since: Duration,
}

impl Reordering {
    /// How overdue a packet may be before it is lost. At most a round trip (RFC 8985, section 6.2).
    /// protocol.md [LOSS-2]
    pub fn window(&self, rtt: &Rtt) -> Duration {
        let base = (rtt.smoothed() / WINDOW_PART).max(WINDOW_MIN);
        let lateness = self.latest.max(self.before);
        base.max(lateness + lateness / MARGIN_PART).min(rtt.smoothed().max(WINDOW_MIN))
    }

    /// A packet arrived that an earlier acknowledgement showed as missing; it was at most this late.
    pub fn on_late(&mut self, lateness: Duration) {
        self.latest = self.latest.max(lateness);
    }

    /// Time goes on: what was not seen for long is forgotten.
    pub fn on_time(&mut self, now: Duration, rtt: &Rtt) {
        if now.saturating_sub(self.since) >= rtt.smoothed() * MEMORY_ROUNDS {
            self.before = std::mem::take(&mut self.latest);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_window_is_an_eighth_of_a_round_trip_until_something_comes_late() {
        let rtt = Rtt::new(80 * MS);
        let mut reordering = Reordering::default();
        assert_eq!(reordering.window(&rtt), 10 * MS);

        reordering.on_late(16 * MS);

        assert_eq!(reordering.window(&rtt), 20 * MS);
    }

    #[test]
    fn the_window_is_at_most_a_round_trip_and_at_least_a_millisecond() {
        let mut reordering = Reordering::default();
        assert_eq!(reordering.window(&Rtt::new(MS / 10)), MS);

        reordering.on_late(500 * MS);

        assert_eq!(reordering.window(&Rtt::new(80 * MS)), 80 * MS);
    }

    #[test]
    fn a_lateness_that_is_not_seen_again_is_forgotten() {
        let rtt = Rtt::new(80 * MS);
        let mut reordering = Reordering::default();
        reordering.on_late(40 * MS);

        reordering.on_time(16 * 80 * MS, &rtt);
        assert_eq!(reordering.window(&rtt), 50 * MS);
        reordering.on_time(32 * 80 * MS, &rtt);

        assert_eq!(reordering.window(&rtt), 10 * MS);
    }
}
