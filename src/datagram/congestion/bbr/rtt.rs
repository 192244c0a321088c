//! What the round trip is without a queue, and whether there is a queue.

use std::collections::VecDeque;
use std::time::Duration;

/// The base is the smallest round trip of one to two of these. Long, so that a queue which others keep up for tens of
/// seconds does not become the base; finite, so that a path that has become longer is believed in the end.
const ERA: Duration = Duration::from_secs(30);
/// Samples of which the smallest tells the queue of this moment: enough to see past packets that came late.
const RECENT: usize = 3;
/// A queue counts when it is longer than this part of the base, and than this.
const QUEUE_DIVISOR: u32 = 8;
const QUEUE_MIN: Duration = Duration::from_millis(1);
/// A round trip this close to the base says that the queue is empty (the rule of 2 % comes from the specification).
const CLOSE_DIVISOR: u32 = 50;

/// Follows the round trip.
#[derive(Debug)]
pub struct PathRtt {
    /// Smallest round trip of this era and of the last.
    era_min: Option<Duration>,
    last_era_min: Option<Duration>,
    era_ends: Duration,
    /// What the control connection saw, until there is a sample.
    initial: Duration,
    recent: VecDeque<Duration>,
    /// Smallest since `start_round`.
    round_min: Option<Duration>,
    /// Smallest since `start_look`.
    look_min: Option<Duration>,
    /// When a sample last was close to the base.
    confirmed_at: Duration,
}

impl PathRtt {
    /// A path whose round trip was seen to be `initial`.
    pub fn new(initial: Duration) -> Self {
        Self {
            era_min: None,
            last_era_min: None,
            era_ends: Duration::ZERO,
            initial,
            recent: VecDeque::with_capacity(RECENT + 1),
            round_min: None,
            look_min: None,
            confirmed_at: Duration::ZERO,
        }
    }

    /// A round trip was measured.
    pub fn on_sample(&mut self, now: Duration, rtt: Duration) {
        if now >= self.era_ends {
            self.last_era_min = self.era_min.take();
            self.era_ends = now + ERA;
        }
        self.era_min = Some(self.era_min.map_or(rtt, |min| min.min(rtt)));
        self.round_min = Some(self.round_min.map_or(rtt, |min| min.min(rtt)));
        self.look_min = Some(self.look_min.map_or(rtt, |min| min.min(rtt)));
        self.recent.push_back(rtt);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        if rtt <= self.base() + self.base() / CLOSE_DIVISOR {
            self.confirmed_at = now;
        }
    }

    /// What is asked for by `round_queue` begins here.
    pub fn start_round(&mut self) {
        self.round_min = None;
    }

    /// What is asked for by `look_queue` begins here.
    pub fn start_look(&mut self) {
        self.look_min = None;
    }

    /// The round trip without a queue.
    pub fn base(&self) -> Duration {
        match (self.era_min, self.last_era_min) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => self.initial,
        }
    }

    /// When the queue was last seen to be empty.
    pub fn confirmed_at(&self) -> Duration {
        self.confirmed_at
    }

    /// The queueing delay of this moment.
    pub fn queue(&self) -> Duration {
        self.recent.iter().min().map_or(Duration::ZERO, |min| min.saturating_sub(self.base()))
    }

    /// The least queueing delay since `start_round`.
    pub fn round_queue(&self) -> Duration {
        self.round_min.map_or(Duration::ZERO, |min| min.saturating_sub(self.base()))
    }

    /// The least queueing delay since `start_look`.
    pub fn look_queue(&self) -> Duration {
        self.look_min.map_or(Duration::ZERO, |min| min.saturating_sub(self.base()))
    }

    /// The delay from which on a queue counts as one.
    pub fn threshold(&self) -> Duration {
        (self.base() / QUEUE_DIVISOR).max(QUEUE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_sample_within_two_percent_confirms_the_base() {
        let mut path = PathRtt::new(ms(100));
        path.on_sample(ms(1000), ms(100));
        path.on_sample(ms(2000), ms(102));
        path.on_sample(ms(3000), ms(103));

        assert_eq!(path.confirmed_at(), ms(2000));
    }

    #[test]
    fn one_late_packet_is_no_queue() {
        let mut path = PathRtt::new(ms(100));
        for rtt in [100, 120, 118] {
            path.on_sample(ms(1000), ms(rtt));
        }
        assert_eq!(path.queue(), ms(0));

        path.on_sample(ms(1000), ms(119));
        assert_eq!(path.queue(), ms(18));
    }

    #[test]
    fn a_longer_path_becomes_the_base_within_two_eras() {
        let mut path = PathRtt::new(ms(100));
        path.on_sample(ms(0), ms(100));
        for second in 1..=61 {
            path.on_sample(ms(1000 * second), ms(150));
            if second < 30 {
                assert_eq!(path.base(), ms(100));
            }
        }

        assert_eq!(path.base(), ms(150));
    }
}
