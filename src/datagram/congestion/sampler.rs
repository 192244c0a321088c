//! Measures how fast packets arrive, from when they were sent and acknowledged.
//!
//! The method is that of draft-ietf-ccwg-bbr, section 4.1: every packet notes how much had been delivered when it was
//! sent, and its acknowledgement tells how much more has been delivered since, over the longer of the time that
//! sending and the time that acknowledging took. The longer of the two keeps acknowledgements that were held up and
//! then came all at once from looking like a fast path.

use std::time::Duration;

/// What a packet remembers of the moment it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendState {
    /// When it was sent.
    pub sent_at: Duration,
    /// Bytes delivered by then.
    pub delivered: u64,
    /// When those were delivered.
    pub delivered_at: Duration,
    /// When the packet was sent whose acknowledgement was the latest by then: the start of the time that sending took.
    pub first_sent_at: Duration,
    /// Bytes lost by then.
    pub lost: u64,
    /// Bytes in flight then, with this packet.
    pub in_flight: u64,
    /// The sender had nothing more to send then.
    pub is_app_limited: bool,
}

/// A measurement of the delivery rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes a second.
    pub rate: u64,
    /// `SendState::delivered` of the packet that it began with: tells rounds apart.
    pub prior_delivered: u64,
    /// Bytes delivered in the interval.
    pub delivered: u64,
    /// Bytes lost in the interval.
    pub lost: u64,
    /// The interval; not zero.
    pub interval: Duration,
    /// Bytes in flight when the packet was sent that ends the interval.
    pub in_flight: u64,
    /// It says less than the path can do, since the sender had nothing more to send.
    pub is_app_limited: bool,
}

/// Counts deliveries and turns them into [`RateSample`]s.
///
/// For each acknowledgement: `on_acked` for every packet that it newly tells of, `on_lost` for every packet that it
/// gives up, then `sample` once.
#[derive(Debug, Default)]
pub struct RateSampler {
    /// Bytes delivered in all.
    delivered: u64,
    /// When the latest of them was acknowledged.
    delivered_at: Duration,
    /// Bytes lost in all, less those that arrived after all.
    lost: u64,
    /// When the latest acknowledged packet was sent.
    first_sent_at: Duration,
    /// Deliveries at which the sender's pause will be out of all samples; zero: it has not paused.
    app_limited_until: u64,
    /// Of the packets that this acknowledgement told of, the one sent last.
    latest: Option<SendState>,
}

impl RateSampler {
    /// A packet leaves; `in_flight` is without it.
    pub fn on_sent(&mut self, now: Duration, bytes: u64, in_flight: u64) -> SendState {
        // With nothing on its way, the time since the last acknowledgement says nothing about the path.
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        SendState {
            sent_at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            in_flight: in_flight.saturating_add(bytes),
            is_app_limited: self.app_limited_until != 0,
        }
    }

    /// A packet is newly acknowledged.
    pub fn on_acked(&mut self, now: Duration, bytes: u64, state: &SendState) {
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_at = now;
        // Packets of one burst share `sent_at`; the one that saw more deliveries is the later.
        let is_later = self.latest.is_none_or(|latest| {
            (state.sent_at, state.delivered, state.in_flight)
                >= (latest.sent_at, latest.delivered, latest.in_flight)
        });
        if is_later {
            self.latest = Some(*state);
        }
    }

    /// A packet is given up for lost.
    pub fn on_lost(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_add(bytes);
    }

    /// A packet that was given up for lost is acknowledged after all. It counts as delivered at this moment; as it was
    /// sent long ago, it starts no sample of its own.
    pub fn on_spurious(&mut self, now: Duration, bytes: u64) {
        self.lost = self.lost.saturating_sub(bytes);
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_at = now;
    }

    /// The sender has nothing more to send although it might: samples say too little until what is in flight has
    /// arrived. protocol.md [CONG-8]
    pub fn set_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = self.delivered.saturating_add(in_flight).max(1);
    }

    /// Ends an acknowledgement. No sample comes of one that told nothing new, or of an interval shorter than the
    /// smallest round trip ever seen, which cannot be true (draft-ietf-ccwg-bbr, section 4.1.2.3).
    pub fn sample(&mut self, min_rtt: Duration) -> Option<RateSample> {
        if self.app_limited_until != 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let packet = self.latest.take()?;
        let sending = packet.sent_at.saturating_sub(packet.first_sent_at);
        let acknowledging = self.delivered_at.saturating_sub(packet.delivered_at);
        self.first_sent_at = self.first_sent_at.max(packet.sent_at);
        let interval = sending.max(acknowledging);
        if interval.is_zero() || interval < min_rtt {
            return None;
        }
        let delivered = self.delivered.saturating_sub(packet.delivered);
        Some(RateSample {
            rate: rate(delivered, interval),
            prior_delivered: packet.delivered,
            delivered,
            lost: self.lost.saturating_sub(packet.lost),
            interval,
            in_flight: packet.in_flight,
            is_app_limited: packet.is_app_limited,
        })
    }

    /// Bytes delivered in all.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }
}

/// Bytes a second; `interval` is not zero.
fn rate(bytes: u64, interval: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / interval.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::super::chance::Chance;
    use super::*;

    /// Bytes of a packet.
    const SIZE: u64 = 1000;

    /// A sender over a path that delivers one packet each `gap`, `rtt` after it was sent at the earliest. The path's
    /// true rate is known, so that no sample may claim more.
    struct Path {
        sampler: RateSampler,
        gap: Duration,
        rtt: Duration,
        free_at: Duration,
        /// What is on its way: when it arrives back, its state, whether it is lost.
        out: VecDeque<(Duration, SendState, bool)>,
        in_flight: u64,
        chance: Chance,
        loss_percent: u64,
    }

    impl Path {
        fn new(gap_us: u64, rtt_ms: u64, loss_percent: u64) -> Self {
            Self {
                sampler: RateSampler::default(),
                gap: Duration::from_micros(gap_us),
                rtt: Duration::from_millis(rtt_ms),
                free_at: Duration::ZERO,
                out: VecDeque::new(),
                in_flight: 0,
                chance: Chance::new([7; 32]),
                loss_percent,
            }
        }

        fn true_rate(&self) -> f64 {
            SIZE as f64 / self.gap.as_secs_f64()
        }

        fn send(&mut self, now: Duration) {
            let state = self.sampler.on_sent(now, SIZE, self.in_flight);
            self.in_flight += SIZE;
            self.free_at = self.free_at.max(now) + self.gap;
            let is_lost = self.chance.below(100) < self.loss_percent;
            self.out.push_back((self.free_at + self.rtt, state, is_lost));
        }

        /// One acknowledgement of all that has arrived by now.
        fn acknowledge(&mut self, now: Duration) -> Option<RateSample> {
            while self.out.front().is_some_and(|(at, ..)| *at <= now) {
                let Some((_, state, is_lost)) = self.out.pop_front() else { break };
                self.in_flight -= SIZE;
                if is_lost {
                    self.sampler.on_lost(SIZE);
                } else {
                    self.sampler.on_acked(now, SIZE, &state);
                }
            }
            self.sampler.sample(self.rtt)
        }

        /// Sends `per_ms` packets each millisecond and acknowledges each `ack_ms`; the samples after the first three round
        /// trips, over the true rate.
        fn run(&mut self, from_ms: u64, to_ms: u64, per_ms: u64, ack_ms: u64) -> Vec<f64> {
            let mut samples = Vec::new();
            let settled = Duration::from_millis(from_ms) + 3 * self.rtt;
            for ms in from_ms..to_ms {
                let now = Duration::from_millis(ms);
                for _ in 0..per_ms {
                    self.send(now);
                }
                if ms % ack_ms == 0
                    && let Some(sample) = self.acknowledge(now)
                    && now > settled
                {
                    samples.push(sample.rate as f64 / self.true_rate());
                }
            }
            samples
        }
    }

    fn least(samples: &[f64]) -> f64 {
        samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn most(samples: &[f64]) -> f64 {
        samples.iter().copied().fold(0.0, f64::max)
    }

    #[test]
    fn a_full_path_is_measured_exactly() {
        let samples = Path::new(100, 20, 0).run(0, 500, 11, 1);

        assert!(samples.len() > 400);
        assert!(least(&samples) > 0.98, "{}", least(&samples));
        assert!(most(&samples) < 1.02, "{}", most(&samples));
    }

    #[test]
    fn a_path_that_is_not_full_shows_what_is_sent() {
        let samples = Path::new(100, 20, 0).run(0, 500, 5, 1);

        assert!(least(&samples) > 0.48, "{}", least(&samples));
        assert!(most(&samples) < 0.52, "{}", most(&samples));
    }

    #[test]
    fn random_loss_lowers_a_sample_by_what_was_lost_and_no_more() {
        let samples = Path::new(100, 20, 10).run(0, 2000, 11, 1);
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;

        assert!((0.88..0.92).contains(&mean), "{mean}");
        assert!(most(&samples) <= 1.02, "{}", most(&samples));
        assert!(least(&samples) > 0.7, "{}", least(&samples));
    }

    #[test]
    fn acknowledgements_an_eighth_of_a_round_trip_apart_measure_as_well() {
        let samples = Path::new(100, 80, 0).run(0, 1000, 11, 10);

        assert!(least(&samples) > 0.95, "{}", least(&samples));
        assert!(most(&samples) < 1.05, "{}", most(&samples));
    }

    #[test]
    fn held_up_acknowledgements_do_not_make_the_path_look_faster() {
        let mut path = Path::new(100, 20, 0);
        path.run(0, 200, 10, 1);
        // Nothing comes back for 15 ms, then all of it in one millisecond.
        for ms in 200..215 {
            for _ in 0..10 {
                path.send(Duration::from_millis(ms));
            }
        }

        let samples = path.run(215, 300, 10, 1);

        assert!(most(&samples) < 1.1, "{}", most(&samples));
    }

    #[test]
    fn a_pause_with_nothing_in_flight_is_not_measured() {
        let mut path = Path::new(100, 20, 0);
        path.run(0, 200, 10, 1);
        path.acknowledge(Duration::from_millis(900));
        assert_eq!(path.in_flight, 0);

        let samples = path.run(1000, 1200, 11, 1);

        assert!(least(&samples) > 0.95, "{}", least(&samples));
    }

    #[test]
    fn a_sender_without_data_is_marked_until_what_it_sent_has_arrived() {
        let mut path = Path::new(100, 20, 0);
        path.run(0, 100, 10, 1);
        path.sampler.set_app_limited(path.in_flight);
        path.send(Duration::from_millis(100));
        let limited = path.out.back().map(|(_, state, _)| state.is_app_limited);
        path.run(101, 160, 10, 1);
        path.send(Duration::from_millis(160));

        assert_eq!(limited, Some(true));
        assert_eq!(path.out.back().map(|(_, state, _)| state.is_app_limited), Some(false));
    }

    #[test]
    fn a_sample_of_a_limited_packet_says_so() {
        let mut sampler = RateSampler::default();
        sampler.set_app_limited(0);
        let state = sampler.on_sent(Duration::from_millis(1), SIZE, 0);
        sampler.on_acked(Duration::from_millis(21), SIZE, &state);

        assert!(sampler.sample(Duration::ZERO).is_some_and(|sample| sample.is_app_limited));
    }

    #[test]
    fn a_packet_that_proves_delivered_counts_once_and_is_no_longer_lost() {
        let mut sampler = RateSampler::default();
        let early = sampler.on_sent(Duration::from_millis(0), SIZE, 0);
        let later = sampler.on_sent(Duration::from_millis(1), SIZE, SIZE);
        sampler.on_acked(Duration::from_millis(20), SIZE, &later);
        sampler.on_lost(SIZE);
        let before = sampler.sample(Duration::ZERO);
        sampler.on_spurious(Duration::from_millis(25), SIZE);
        let alone = sampler.sample(Duration::ZERO);
        let next = sampler.on_sent(Duration::from_millis(26), SIZE, 0);

        assert_eq!(before.map(|sample| (sample.delivered, sample.lost)), Some((SIZE, SIZE)));
        assert_eq!(alone, None, "it was sent too long ago to tell the rate of this moment");
        assert_eq!((next.delivered, next.lost), (2 * SIZE, 0));
        assert_eq!(early.delivered, 0);
    }

    #[test]
    fn a_retransmission_is_a_packet_of_its_own() {
        let mut sampler = RateSampler::default();
        let first = sampler.on_sent(Duration::from_millis(0), SIZE, 0);
        let other = sampler.on_sent(Duration::from_millis(1), SIZE, SIZE);
        sampler.on_acked(Duration::from_millis(21), SIZE, &other);
        sampler.on_lost(SIZE);
        sampler.sample(Duration::ZERO);
        let again = sampler.on_sent(Duration::from_millis(30), SIZE, 0);
        sampler.on_acked(Duration::from_millis(50), SIZE, &again);
        let sample = sampler.sample(Duration::ZERO);

        assert_eq!(first.sent_at, Duration::ZERO);
        assert_eq!(sample.map(|sample| sample.rate), Some(SIZE * 50), "one packet in 20 ms");
    }

    #[test]
    fn of_a_burst_sent_at_once_the_last_packet_is_the_sample() {
        let mut sampler = RateSampler::default();
        let states: Vec<SendState> =
            (0..4).map(|n| sampler.on_sent(Duration::from_millis(5), SIZE, n * SIZE)).collect();
        for state in states.iter().rev() {
            sampler.on_acked(Duration::from_millis(25), SIZE, state);
        }

        assert_eq!(sampler.sample(Duration::ZERO).map(|sample| sample.in_flight), Some(4 * SIZE));
    }

    #[test]
    fn an_interval_shorter_than_any_round_trip_is_no_sample() {
        let mut sampler = RateSampler::default();
        let state = sampler.on_sent(Duration::from_millis(0), SIZE, 0);
        sampler.on_acked(Duration::from_millis(19), SIZE, &state);
        assert_eq!(sampler.sample(Duration::from_millis(20)), None);

        let state = sampler.on_sent(Duration::from_millis(30), SIZE, 0);
        sampler.on_acked(Duration::from_millis(50), SIZE, &state);
        assert!(sampler.sample(Duration::from_millis(20)).is_some());
    }

    #[test]
    fn an_acknowledgement_without_news_is_no_sample() {
        let mut sampler = RateSampler::default();
        sampler.on_sent(Duration::from_millis(0), SIZE, 0);

        assert_eq!(sampler.sample(Duration::ZERO), None);
    }

    #[test]
    fn absurd_counts_do_not_overflow() {
        let mut sampler = RateSampler::default();
        let state = sampler.on_sent(Duration::ZERO, u64::MAX, u64::MAX);
        sampler.on_acked(Duration::from_nanos(1), u64::MAX, &state);
        sampler.on_acked(Duration::from_nanos(1), u64::MAX, &state);
        sampler.on_lost(u64::MAX);
        sampler.set_app_limited(u64::MAX);

        assert_eq!(sampler.sample(Duration::ZERO).map(|sample| sample.rate), Some(u64::MAX));
    }
}
