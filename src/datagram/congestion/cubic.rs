//! CUBIC as the textbook has it (RFC 9438), with HyStart++ (RFC 9406): the baseline that the others are compared with.
//!
//! A loss takes 30 % off the window, which then grows along a cubic curve in real time, flat around
//! the window at which the loss came. A loss that proves false is undone (RFC 9438, section 4.9).

use std::time::Duration;

use super::hystart::HyStart;
use super::{AckEvent, LostPacket, Snapshot, whole};

/// What is left of the window after a loss (RFC 9438, section 4.6).
const BETA: f64 = 0.7;
/// Steepness of the curve, packets per second cubed (RFC 9438, section 5.1).
const STEEPNESS: f64 = 0.4;
/// Growth per window of the Reno-friendly estimate, so that it averages what Reno does (RFC 9438, section 4.3).
const FRIENDLY_GROWTH: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// Least window, packets (RFC 9002, section 7.2).
const MIN_PACKETS: f64 = 2.0;
/// The window is sent in this part of a round trip, so that pacing never holds it back: doubling needs twice the rate,
/// growth by a few packets does not (as Linux paces, 2.0 and 1.2).
const SLOW_START_PACING: f64 = 2.0;
const AVOIDANCE_PACING: f64 = 1.2;

/// The controller. Windows are in packets of `datagram` bytes, as in the RFC.
#[derive(Debug)]
pub struct Cubic {
    datagram: f64,
    window: f64,
    /// Below it, slow start.
    threshold: f64,
    hystart: HyStart,
    epoch: Option<Epoch>,
    /// The window at the last loss, lowered when windows shrink from loss to loss, so that others find room.
    plateau: f64,
    /// Packets sent before this moment belong to a loss that was answered already.
    answered_until: Duration,
    /// What to return to if the last loss proves false.
    undo: Option<Undo>,
    smoothed_rtt: Duration,
}

/// A stretch of growth between two losses.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    started_at: Duration,
    /// Seconds from the start to the plateau.
    until_plateau_s: f64,
    /// What Reno's window would be.
    friendly: f64,
    /// The window that the loss before it was answered from.
    before: f64,
}

/// What a loss was answered from, and how much of it is still believed.
#[derive(Clone, Copy, Debug)]
struct Undo {
    window: f64,
    threshold: f64,
    plateau: f64,
    epoch: Option<Epoch>,
    lost_bytes: u64,
    spurious_bytes: u64,
    since: Duration,
}

impl Cubic {
    /// Starts with `window` bytes in packets of `datagram` bytes.
    pub fn new(datagram: u64, window: u64, rtt: Duration) -> Self {
        let datagram = datagram.max(1) as f64;
        Self {
            datagram,
            window: (window as f64 / datagram).max(MIN_PACKETS),
            threshold: f64::INFINITY,
            hystart: HyStart::default(),
            epoch: None,
            plateau: 0.0,
            answered_until: Duration::ZERO,
            undo: None,
            smoothed_rtt: rtt,
        }
    }

    /// Goes on from a window that another law has found: growth from there, no slow start.
    pub fn resume(datagram: u64, window: u64, rtt: Duration) -> Self {
        let mut cubic = Self::new(datagram, window, rtt);
        cubic.threshold = cubic.window;
        cubic.plateau = cubic.window;
        cubic
    }

    /// A packet was lost.
    pub fn on_lost(&mut self, now: Duration, packet: &LostPacket) {
        // One answer per round trip: packets that were in flight at the last answer don't count again.
        if packet.state.sent_at <= self.answered_until && !self.answered_until.is_zero() {
            if let Some(undo) = &mut self.undo {
                undo.lost_bytes += packet.bytes;
            }
            return;
        }
        self.undo = Some(Undo {
            window: self.window,
            threshold: self.threshold,
            plateau: self.plateau,
            epoch: self.epoch,
            lost_bytes: packet.bytes,
            spurious_bytes: 0,
            since: packet.state.sent_at,
        });
        self.answered_until = now;
        self.epoch = None;
        // Fast convergence (RFC 9438, section 4.7).
        self.plateau =
            if self.window < self.plateau { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(MIN_PACKETS);
        self.threshold = self.window;
    }

    /// A packet given up for lost has arrived: when all of an answered loss have, the answer is taken back.
    pub fn on_spurious(&mut self, packet: &LostPacket) {
        let Some(undo) = &mut self.undo else { return };
        if packet.state.sent_at < undo.since {
            return;
        }
        undo.spurious_bytes += packet.bytes;
        if undo.spurious_bytes >= undo.lost_bytes {
            let undo = *undo;
            self.window = self.window.max(undo.window);
            self.threshold = undo.threshold;
            self.plateau = undo.plateau;
            self.epoch = undo.epoch;
            self.undo = None;
        }
    }

    /// An acknowledgement came.
    pub fn on_ack(&mut self, now: Duration, ack: &AckEvent) {
        self.smoothed_rtt = ack.smoothed_rtt;
        let acked = ack.acked_bytes as f64 / self.datagram;
        // A window that isn't used is no proof that the path would carry more (RFC 9438, section 5.8). One that has no
        // room for a further packet is used.
        let used = ack.prior_in_flight as f64 / self.datagram;
        if used < 0.8 * self.window && used + 1.0 <= self.window {
            return;
        }
        if self.window < self.threshold {
            self.window += self.hystart.growth(acked, ack);
            if self.hystart.is_done() {
                self.threshold = self.window;
            }
        } else {
            self.grow(now, acked);
        }
    }

    /// Datagrams have another size: the window keeps its bytes.
    pub fn on_mtu(&mut self, bytes: u64) {
        let datagram = bytes.max(1) as f64;
        let ratio = self.datagram / datagram;
        self.datagram = datagram;
        self.window = (self.window * ratio).max(MIN_PACKETS);
        self.threshold *= ratio;
        self.plateau *= ratio;
        self.epoch = None;
        self.undo = None;
    }

    /// The window was not used for this long: the curve goes on from where it was, not from where time would have taken
    /// it (RFC 9438, section 5.8).
    pub fn pause(&mut self, length: Duration) {
        if let Some(epoch) = &mut self.epoch {
            epoch.started_at += length;
        }
    }

    /// Bytes that may be in flight.
    pub fn window(&self) -> u64 {
        whole(self.window * self.datagram)
    }

    /// Bytes a second.
    pub fn pacing_rate(&self) -> u64 {
        let gain = if self.window < self.threshold { SLOW_START_PACING } else { AVOIDANCE_PACING };
        whole(gain * self.window * self.datagram / self.smoothed_rtt.as_secs_f64().max(1e-6))
    }

    /// What a trace shows.
    pub fn state(&self) -> Snapshot {
        let state = if self.window < self.threshold { "slow-start" } else { "avoidance" };
        Snapshot { inflight_high: Some(whole(self.plateau * self.datagram)), ..Snapshot::of(state) }
    }

    /// Growth after slow start (RFC 9438, sections 4.2 to 4.5).
    fn grow(&mut self, now: Duration, acked: f64) {
        let window = self.window;
        let plateau = self.plateau.max(window);
        let epoch = self.epoch.get_or_insert_with(|| Epoch {
            started_at: now,
            until_plateau_s: ((plateau - window) / STEEPNESS).cbrt(),
            friendly: window,
            before: plateau,
        });
        let growth = if epoch.friendly < epoch.before { FRIENDLY_GROWTH } else { 1.0 };
        epoch.friendly += growth * acked / window;
        let ahead = now.saturating_sub(epoch.started_at) + self.smoothed_rtt;
        let offset = ahead.as_secs_f64() - epoch.until_plateau_s;
        let curve = STEEPNESS * offset.powi(3) + plateau;
        let target = curve.clamp(window, 1.5 * window);
        self.window = (window + (target - window) * (acked / window).min(1.0)).max(epoch.friendly);
        self.plateau = plateau;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A window of `packets` in congestion avoidance.
    fn steady(packets: u64) -> Cubic {
        Cubic::resume(1000, packets * 1000, RTT)
    }

    /// Acknowledges a window each round trip from `from_ms` on.
    fn grow(cubic: &mut Cubic, from_ms: u64, rounds: u64) {
        for round in 0..rounds {
            let window = cubic.window();
            cubic.on_ack(at(from_ms + 100 * round), &AckEvent::plain(window, 0));
        }
    }

    #[test]
    fn slow_start_doubles_each_round_trip() {
        let mut cubic = Cubic::new(1000, 10_000, RTT);
        grow(&mut cubic, 0, 3);

        assert_eq!(cubic.window(), 80_000);
    }

    #[test]
    fn a_loss_takes_thirty_percent() {
        let mut cubic = steady(100);
        cubic.on_lost(at(1000), &LostPacket::sent_at(at(900)));

        assert_eq!(cubic.window(), 70_000);
    }

    #[test]
    fn losses_of_one_round_trip_are_one_loss() {
        let mut cubic = steady(100);
        cubic.on_lost(at(1000), &LostPacket::sent_at(at(900)));
        cubic.on_lost(at(1001), &LostPacket::sent_at(at(901)));
        cubic.on_lost(at(1100), &LostPacket::sent_at(at(1000)));
        assert_eq!(cubic.window(), 70_000);

        cubic.on_lost(at(1101), &LostPacket::sent_at(at(1001)));
        assert_eq!(cubic.window(), 49_000);
    }

    #[test]
    fn a_loss_that_was_none_is_undone() {
        let mut cubic = steady(100);
        cubic.on_lost(at(1000), &LostPacket::sent_at(at(900)));
        cubic.on_lost(at(1001), &LostPacket::sent_at(at(901)));
        cubic.on_spurious(&LostPacket::sent_at(at(900)));
        assert_eq!(cubic.window(), 70_000, "half of it is still believed");

        cubic.on_spurious(&LostPacket::sent_at(at(901)));
        assert_eq!(cubic.window(), 100_000);
    }

    #[test]
    fn the_plateau_is_reached_when_the_formula_says() {
        let mut cubic = steady(1000);
        cubic.on_lost(at(1), &LostPacket::sent_at(at(1)));
        // RFC 9438, section 4.2: K = cbrt(1000 (1 - 0.7) / 0.4) = 9.09 s.
        grow(&mut cubic, 100, 85);
        let before = cubic.window();
        grow(&mut cubic, 8600, 12);
        let after = cubic.window();

        assert!((990_000..=1_001_000).contains(&before), "{before}");
        assert!((995_000..=1_010_000).contains(&after), "{after}");
    }

    #[test]
    fn short_round_trips_grow_at_least_like_reno() {
        let mut cubic = steady(10);
        cubic.on_lost(at(1), &LostPacket::sent_at(at(1)));
        grow(&mut cubic, 100, 8);

        assert!(cubic.window() >= 10_500, "{}", cubic.window());
    }

    #[test]
    fn a_window_that_is_not_used_does_not_grow() {
        let mut cubic = Cubic::new(1000, 10_000, RTT);
        cubic.on_ack(at(100), &AckEvent { prior_in_flight: 7_000, ..AckEvent::plain(7_000, 0) });

        assert_eq!(cubic.window(), 10_000);
    }

    #[test]
    fn a_window_of_less_than_three_packets_is_full_with_two() {
        let mut cubic = Cubic::new(1000, 2700, RTT);
        cubic.on_ack(at(100), &AckEvent { prior_in_flight: 2_000, ..AckEvent::plain(1_000, 0) });

        assert!(cubic.window() > 2700);
    }

    #[test]
    fn another_datagram_size_keeps_the_bytes() {
        let mut cubic = steady(100);
        cubic.on_mtu(4000);

        assert_eq!(cubic.window(), 100_000);
    }

    #[test]
    fn the_window_never_falls_below_two_packets() {
        let mut cubic = steady(3);
        for n in 1..20 {
            cubic.on_lost(at(1000 * n), &LostPacket::sent_at(at(1000 * n - 1)));
        }

        assert_eq!(cubic.window(), 2000);
    }
}
