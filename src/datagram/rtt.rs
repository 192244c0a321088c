//! How long a round trip takes (RFC 9002, section 5).

use std::time::Duration;

/// Smallest sample that is believed; clocks are read in steps.
const GRANULARITY: Duration = Duration::from_micros(1);
/// Smallest variance that a timeout allows for (RFC 9002, section 6.1.2, kGranularity).
const VARIANCE_MIN: Duration = Duration::from_millis(1);
/// Shortest probe timeout: a few slices of a scheduler (RFC 8985, section 7.2 lets Linux take two of its ticks).
const PROBE_TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// Smoothed, smallest and latest round-trip time of a path.
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    latest: Duration,
    smoothed: Duration,
    variance: Duration,
    min: Duration,
    has_sample: bool,
}

impl Rtt {
    /// A path whose round trip is `initial`, as the control connection measured it; the first sample replaces it.
    pub fn new(initial: Duration) -> Self {
        let initial = initial.max(GRANULARITY);
        Self { latest: initial, smoothed: initial, variance: initial / 2, min: initial, has_sample: false }
    }

    /// Takes the time from sending to acknowledgement, less what the receiver says it waited, and gives the sample.
    pub fn on_sample(&mut self, elapsed: Duration, receiver_delay: Duration) -> Duration {
        let sample = elapsed.saturating_sub(receiver_delay).max(GRANULARITY);
        self.latest = sample;
        if self.has_sample {
            let difference = self.smoothed.abs_diff(sample);
            self.variance = self.variance * 3 / 4 + difference / 4;
            self.smoothed = self.smoothed * 7 / 8 + sample / 8;
            self.min = self.min.min(sample);
        } else {
            *self = Self::new(sample);
            self.has_sample = true;
        }
        sample
    }

    /// The last sample.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// The smoothed round-trip time.
    pub fn smoothed(&self) -> Duration {
        self.smoothed
    }

    /// The smallest sample of this path.
    pub fn min(&self) -> Duration {
        self.min
    }

    /// When to probe after the last packet, without backing off (RFC 9002, section 6.2.1); `ack_delay` is how long the
    /// receiver may wait. On a short path, what is late is more often a busy machine than a lost packet.
    pub fn probe_timeout(&self, ack_delay: Duration) -> Duration {
        (self.smoothed + (self.variance * 4).max(VARIANCE_MIN) + ack_delay).max(PROBE_TIMEOUT_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_first_sample_replaces_the_guess() {
        let mut rtt = Rtt::new(500 * MS);

        assert_eq!(rtt.on_sample(120 * MS, 20 * MS), 100 * MS);

        assert_eq!((rtt.smoothed(), rtt.min(), rtt.latest()), (100 * MS, 100 * MS, 100 * MS));
        assert_eq!(rtt.probe_timeout(10 * MS), 310 * MS);
    }

    #[test]
    fn later_samples_count_an_eighth() {
        let mut rtt = Rtt::new(100 * MS);
        rtt.on_sample(100 * MS, Duration::ZERO);
        rtt.on_sample(180 * MS, Duration::ZERO);

        assert_eq!(rtt.smoothed(), 110 * MS);
        assert_eq!(rtt.min(), 100 * MS);
    }

    #[test]
    fn a_delay_beyond_the_elapsed_time_is_not_believed_below_a_microsecond() {
        let mut rtt = Rtt::new(100 * MS);

        assert_eq!(rtt.on_sample(10 * MS, 20 * MS), GRANULARITY);
    }
}
