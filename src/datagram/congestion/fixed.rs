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
const TOO_LITTLE: f64 = 0.8;
const ENOUGH: f64 = 0.95;
const GROWTH: f64 = 1.05;
/// The breaker: loss above this, for this many round trips, so many times.
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
