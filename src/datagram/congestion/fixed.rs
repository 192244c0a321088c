//! Sends at the rate that was asked for, for a path that is known to carry it. Opt-in.
//!
//! Loss does not slow it down: what is lost is made up for by sending up to a quarter more, as Hysteria's Brutal does.
//! A sender without congestion control may do so only on a path that is provisioned for it (RFC 8085, section 3.1.6), so two
//! guards check that this one is: the rate falls to what the receiver really gets, and a circuit breaker (RFC 8084)
//! halves it when a fifth is lost for long, and gives up after the third time.

use std::time::Duration;

use super::{AckEvent, LostPacket, Snapshot, whole};

/// At most this much more is sent to make up for loss (1/0.8, the bound that Brutal has).
const MAX_COMPENSATION: f64 = 1.25;
/// Packets that a period needs before its loss says something (Brutal: 50).
const MIN_SAMPLES: u64 = 50;
/// How long goodput and loss are measured before they are judged.
const PERIOD: Duration = Duration::from_secs(5);
/// Goodput below this part of the rate lowers it to the goodput and [`GROWTH`]; above [`ENOUGH`] it grows back.
/// protocol.md [CONG-6]
const TOO_LITTLE: f64 = 0.8;
const ENOUGH: f64 = 0.95;
const GROWTH: f64 = 1.05;
/// The breaker: loss above this, for this many round trips, so many times. protocol.md [CONG-6]
const BREAKER_LOSS: f64 = 0.2;
const BREAKER_ROUNDS: u32 = 10;
const BREAKER_TRIPS: u32 = 3;
/// Least rate, bytes a second: the guards don't argue about less.
const MIN_RATE: f64 = 10_000.0;

/// The controller.
#[derive(Debug)]
pub struct Fixed {
    datagram: u64,
    /// What was asked for, bytes a second.
    asked: f64,
    /// What the guards leave of it.
    rate: f64,
    compensation: f64,
    smoothed_rtt: Duration,
    ack_interval: Duration,
    period: Counts,
    /// The sender paused in this period: its goodput says nothing.
    paused: bool,
    round: Counts,
    /// Rounds in a row that lost too much.
    bad_rounds: u32,
    trips: u32,
}

/// What happened since a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    since: Option<Duration>,
    delivered: u64,
    lost: u64,
}

impl Counts {
    fn loss(&self) -> f64 {
        self.lost as f64 / (self.delivered + self.lost).max(1) as f64
    }

    fn add(&mut self, now: Duration, ack: &AckEvent) -> Duration {
        self.delivered += ack.acked_bytes;
        self.lost += ack.lost_bytes;
        now.saturating_sub(*self.since.get_or_insert(now))
    }

    fn restart(&mut self, now: Duration) {
        *self = Self { since: Some(now), ..Self::default() };
    }
}

impl Fixed {
    /// `rate` bytes a second of datagrams.
    pub fn new(datagram: u64, rate: u64, rtt: Duration) -> Self {
        Self {
            datagram,
            asked: (rate as f64).max(MIN_RATE),
            rate: (rate as f64).max(MIN_RATE),
            compensation: 1.0,
            smoothed_rtt: rtt,
            ack_interval: rtt / 8,
            period: Counts::default(),
            paused: false,
            round: Counts::default(),
            bad_rounds: 0,
            trips: 0,
        }
    }

    /// An acknowledgement came.
    pub fn on_ack(&mut self, now: Duration, ack: &AckEvent) {
        self.smoothed_rtt = ack.smoothed_rtt;
        self.ack_interval = ack.ack_interval;
        self.paused |= ack.rate.is_some_and(|sample| sample.is_app_limited);
        if self.round.add(now, ack) >= ack.smoothed_rtt.max(Duration::from_millis(1)) {
            self.end_round(now);
        }
        let elapsed = self.period.add(now, ack);
        if elapsed >= PERIOD {
            self.end_period(now, elapsed);
        } else if self.period.delivered + self.period.lost >= MIN_SAMPLES * self.datagram {
            self.compensation = (1.0 / (1.0 - self.period.loss())).min(MAX_COMPENSATION);
        }
    }

    /// A packet given up for lost has arrived.
    pub fn on_spurious(&mut self, packet: &LostPacket) {
        self.period.lost = self.period.lost.saturating_sub(packet.bytes);
        self.round.lost = self.round.lost.saturating_sub(packet.bytes);
    }

    /// Datagrams have another size.
    pub fn on_mtu(&mut self, bytes: u64) {
        self.datagram = bytes;
    }

    /// Twice what the rate keeps in flight, so that the window does not bind unless the path has stopped.
    pub fn window(&self) -> u64 {
        let horizon = 2 * (self.smoothed_rtt + self.ack_interval) + Duration::from_millis(10);
        whole(self.rate * self.compensation * horizon.as_secs_f64()).max(4 * self.datagram)
    }

    /// Bytes a second.
    pub fn pacing_rate(&self) -> u64 {
        whole(self.rate * self.compensation)
    }

    /// The breaker has tripped for the last time: this path is not one for a fixed rate.
    pub fn is_broken(&self) -> bool {
        self.trips >= BREAKER_TRIPS
    }

    /// What a trace shows.
    pub fn state(&self) -> Snapshot {
        let state = match (self.trips, self.rate < self.asked) {
            (0, false) => "steady",
            (0, true) => "lowered",
            (trips, _) if trips >= BREAKER_TRIPS => "broken",
            _ => "tripped",
        };
        Snapshot { bandwidth: whole(self.rate), ..Snapshot::of(state) }
    }

    fn end_round(&mut self, now: Duration) {
        self.bad_rounds = if self.round.loss() > BREAKER_LOSS { self.bad_rounds + 1 } else { 0 };
        self.round.restart(now);
        if self.bad_rounds >= BREAKER_ROUNDS {
            self.bad_rounds = 0;
            self.trips += 1;
            self.rate = (self.rate / 2.0).max(MIN_RATE);
            // What was measured at the old rate says nothing about the one that follows.
            self.compensation = 1.0;
            self.paused = false;
            self.period.restart(now);
        }
    }

    fn end_period(&mut self, now: Duration, elapsed: Duration) {
        let goodput = self.period.delivered as f64 / elapsed.as_secs_f64();
        if !self.paused && goodput < TOO_LITTLE * self.rate {
            self.rate = (goodput * GROWTH).max(MIN_RATE);
        } else if !self.paused && goodput > ENOUGH * self.rate && self.trips == 0 {
            self.rate = (self.rate * GROWTH).min(self.asked);
        }
        self.paused = false;
        self.period.restart(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000_000;

    fn fixed() -> Fixed {
        Fixed::new(1000, RATE, Duration::from_millis(100))
    }

    /// `seconds` in which each 100 ms this many bytes arrive and are lost.
    fn run(fixed: &mut Fixed, from_s: u64, seconds: u64, acked: u64, lost: u64) {
        for tenth in from_s * 10..=(from_s + seconds) * 10 {
            fixed.on_ack(Duration::from_millis(100 * tenth), &AckEvent::plain(acked, lost));
        }
    }

    #[test]
    fn the_rate_is_the_one_asked_for() {
        let mut fixed = fixed();
        run(&mut fixed, 0, 20, 100_000, 0);

        assert_eq!(fixed.pacing_rate(), RATE);
        assert_eq!(fixed.state().state, "steady");
    }

    #[test]
    fn loss_is_made_up_for_by_a_quarter_at_most() {
        let mut fixed = fixed();
        run(&mut fixed, 0, 3, 100_000, 11_111);
        let tenth = fixed.pacing_rate();
        run(&mut fixed, 4, 3, 60_000, 40_000);

        assert!((1_100_000..1_112_000).contains(&tenth), "{tenth}");
        assert!(fixed.pacing_rate() <= 1_250_000);
    }

    #[test]
    fn a_receiver_that_gets_less_lowers_the_rate() {
        let mut fixed = fixed();
        run(&mut fixed, 0, 5, 50_000, 0);

        let expected = 525_000;
        assert!(fixed.pacing_rate().abs_diff(expected) < 20_000, "{}", fixed.pacing_rate());
    }

    #[test]
    fn a_lowered_rate_grows_back_when_all_of_it_arrives() {
        let mut fixed = fixed();
        run(&mut fixed, 0, 5, 50_000, 0);
        run(&mut fixed, 6, 200, 100_000, 0);

        assert_eq!(fixed.pacing_rate(), RATE);
    }

    #[test]
    fn a_sender_that_paused_is_not_taken_for_a_slow_path() {
        let mut fixed = fixed();
        let sample = super::super::RateSample {
            rate: 1,
            prior_delivered: 0,
            delivered: 1,
            lost: 0,
            interval: Duration::from_secs(1),
            in_flight: 0,
            is_app_limited: true,
        };
        for tenth in 0..=60 {
            let ack = AckEvent { rate: Some(sample), ..AckEvent::plain(10_000, 0) };
            fixed.on_ack(Duration::from_millis(100 * tenth), &ack);
        }

        assert_eq!(fixed.pacing_rate(), RATE);
    }

    #[test]
    fn the_breaker_halves_and_gives_up_after_the_third_time() {
        let mut fixed = fixed();
        let mut halved = Vec::new();
        for tenth in 0..34 {
            fixed.on_ack(Duration::from_millis(100 * tenth), &AckEvent::plain(70_000, 30_000));
            if halved.last() != Some(&fixed.rate) {
                halved.push(fixed.rate);
            }
        }

        assert_eq!(halved, [1_000_000.0, 500_000.0, 250_000.0, 125_000.0]);
        assert!(fixed.is_broken());
    }

    #[test]
    fn nine_bad_rounds_do_not_trip_the_breaker() {
        let mut fixed = fixed();
        for tenth in 0..=9 {
            fixed.on_ack(Duration::from_millis(100 * tenth), &AckEvent::plain(70_000, 30_000));
        }
        fixed.on_ack(Duration::from_secs(1), &AckEvent::plain(100_000, 0));

        assert_eq!(fixed.trips, 0);
    }

    #[test]
    fn what_arrived_after_all_was_not_lost() {
        let mut fixed = fixed();
        fixed.on_ack(Duration::from_millis(0), &AckEvent::plain(99_000, 1000));
        fixed.on_spurious(&LostPacket::sent_at(Duration::ZERO));
        fixed.on_ack(Duration::from_millis(1), &AckEvent::plain(100_000, 0));

        assert_eq!(fixed.pacing_rate(), RATE);
    }
}
