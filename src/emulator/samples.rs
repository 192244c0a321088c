//! What one direction did in each interval of its time, for plots over time.

use std::time::Duration;

use super::tally::Share;
use crate::limits;

/// One interval of one direction. A packet counts where it was offered, an arrival where it was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Bytes of IP packets that were offered to the link.
    pub offered_bytes: u64,
    /// Bytes of IP packets that were handed over to the receiving host, copies included.
    pub delivered_bytes: u64,
    /// Packets offered that the link dropped, whatever the cause.
    pub dropped: u64,
    /// How long the packets offered waited in the bottleneck's queue on average; zero if none entered it.
    pub queue_delay: Duration,
    /// The most that the queue held when a packet had come, bytes with framing.
    pub peak_queue_bytes: u64,
}

/// Takes note of what happens, interval by interval from the link's first moment.
#[derive(Debug)]
pub(super) struct Sampler {
    /// More than zero.
    every_ns: u64,
    intervals: Vec<Interval>,
}

#[derive(Clone, Debug, Default)]
struct Interval {
    offered: Share,
    delivered_bytes: u64,
}

impl Sampler {
    /// Intervals of this length.
    ///
    /// # Panics
    /// If it is zero.
    pub(super) fn new(every: Duration) -> Self {
        assert!(!every.is_zero(), "an interval takes some time");
        Self { every_ns: nanos(every), intervals: Vec::new() }
    }

    /// A packet was offered at `now`, and this is its share of the traffic.
    pub(super) fn on_offer(&mut self, now: Duration, share: &Share) {
        if let Some(interval) = self.interval(now) {
            interval.offered.add(share);
        }
    }

    /// A packet was handed over at `now`.
    pub(super) fn on_delivery(&mut self, now: Duration, len_bytes: usize) {
        if let Some(interval) = self.interval(now) {
            interval.delivered_bytes += u64::try_from(len_bytes).unwrap_or(u64::MAX);
        }
    }

    /// All intervals up to the one that holds `now`, or the first [`limits::LINK_SAMPLES_MAX`].
    pub(super) fn finish(mut self, now: Duration) -> Vec<Sample> {
        if self.interval(now).is_none() {
            self.intervals.resize(limits::LINK_SAMPLES_MAX, Interval::default());
        }
        self.intervals.iter().map(Sample::from).collect()
    }

    fn interval(&mut self, now: Duration) -> Option<&mut Interval> {
        let place = usize::try_from(nanos(now) / self.every_ns).ok()?;
        if place >= limits::LINK_SAMPLES_MAX {
            return None;
        }
        if place >= self.intervals.len() {
            self.intervals.resize(place + 1, Interval::default());
        }
        self.intervals.get_mut(place)
    }
}

impl From<&Interval> for Sample {
    fn from(interval: &Interval) -> Self {
        let Interval { offered, delivered_bytes } = interval;
        Self {
            offered_bytes: offered.counters.offered_bytes,
            delivered_bytes: *delivered_bytes,
            dropped: offered.counters.dropped(),
            queue_delay: offered.mean_queue_delay(),
            peak_queue_bytes: offered.peak_queue_bytes,
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Counters;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn share(offered_bytes: u64, queue_delay_sum: Duration) -> Share {
        let counters = Counters { offered: 1, offered_bytes, ..Counters::default() };
        Share { counters, queue_delay_sum, peak_queue_bytes: offered_bytes, ..Share::default() }
    }

    #[test]
    fn a_packet_counts_where_it_was_offered_and_its_arrival_where_it_was_handed_over() {
        let mut sampler = Sampler::new(ms(100));
        sampler.on_offer(ms(99), &share(1000, ms(4)));
        sampler.on_offer(ms(99), &share(500, ms(8)));
        sampler.on_delivery(ms(100), 1000);

        let samples = sampler.finish(ms(150));

        let first =
            Sample { offered_bytes: 1500, queue_delay: ms(6), peak_queue_bytes: 1000, ..Sample::default() };
        assert_eq!(samples, [first, Sample { delivered_bytes: 1000, ..Sample::default() }]);
    }

    #[test]
    fn what_was_dropped_before_the_queue_has_no_part_in_the_mean_wait() {
        let mut sampler = Sampler::new(ms(100));
        sampler.on_offer(ms(1), &share(1000, ms(4)));
        let counters = Counters { offered: 1, dropped_queue: 1, ..Counters::default() };
        sampler.on_offer(ms(2), &Share { counters, ..Share::default() });

        let samples = sampler.finish(ms(3));

        assert_eq!((samples[0].dropped, samples[0].queue_delay), (1, ms(4)));
    }

    #[test]
    fn intervals_in_which_nothing_happens_are_there_too() {
        let mut sampler = Sampler::new(ms(100));
        sampler.on_delivery(ms(250), 7);

        let samples = sampler.finish(ms(500));

        assert_eq!(samples.len(), 6);
        assert_eq!(samples.iter().map(|it| it.delivered_bytes).collect::<Vec<_>>(), [0, 0, 7, 0, 0, 0]);
    }

    #[test]
    fn there_are_as_many_intervals_as_the_limit_allows_and_no_more() {
        let every = Duration::from_nanos(1);
        let last = Duration::from_nanos(limits::LINK_SAMPLES_MAX as u64 - 1);
        let mut sampler = Sampler::new(every);
        sampler.on_delivery(last, 1);
        sampler.on_delivery(last + every, 2);

        let samples = sampler.finish(ms(1));

        assert_eq!(samples.len(), limits::LINK_SAMPLES_MAX);
        assert_eq!(samples.iter().map(|it| it.delivered_bytes).sum::<u64>(), 1);
    }
}
