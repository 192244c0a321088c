//! CUBIC as Linux counts it: RFC 9438 in whole packets, with the original HyStart.
//!
//! It differs from [`crate::datagram::congestion`]'s in what can be seen from outside: slow start ends when a train of
//! acknowledgements spans half of the least round trip, growth is counted in packets for each packet of growth, the
//! curve is looked at every 32 ms, and its Reno-friendly estimate never grows faster than `3 (1-b) / (1+b)`.

use std::time::Duration;

/// Packets before anything is known (RFC 6928).
const INITIAL_PACKETS: u64 = 10;
/// What is left of the window after a loss, of 1024 (RFC 9438, section 4.6).
const BETA: u64 = 717;
const WHOLE: u64 = 1024;
/// Steepness of the curve, packets per second cubed (RFC 9438, section 5.1).
const STEEPNESS: f64 = 0.4;
/// Eight times the acknowledged windows for which Reno's would grow by a packet: `8 (1+b) / 3 (1-b)`, in whole numbers.
const FRIENDLY_EIGHTHS: u64 = 8 * (WHOLE + BETA) / 3 / (WHOLE - BETA);
/// The curve is looked at as seldom, unless the window has changed.
const LOOK: Duration = Duration::from_millis(32);
/// Until there was a loss, the window grows by one of so many packets at least.
const SEARCH_GAP: u64 = 20;
/// Least window, packets (RFC 5681, section 3.1).
const MIN_PACKETS: u64 = 2;
/// HyStart: from which window on, how close acknowledgements of a train are, how many samples a round needs.
const HYSTART_PACKETS: u64 = 16;
const TRAIN_GAP: Duration = Duration::from_millis(2);
const SAMPLES: u32 = 8;
/// Bounds of the rise of the round trip that ends slow start.
const MIN_RISE: Duration = Duration::from_millis(4);
const MAX_RISE: Duration = Duration::from_millis(16);
/// Round trips so soon after a loss say nothing about the path.
const DEAF: Duration = Duration::from_secs(1);

/// One flow's window, packets.
#[derive(Debug)]
pub struct Law {
    window: u64,
    /// Below it, slow start.
    threshold: u64,
    /// Acknowledged packets that have not made the window grow.
    credit: u64,
    /// Acknowledged packets for which it grows by one.
    gap: u64,
    /// The window at the last loss, lowered when windows shrink from loss to loss; zero: there was none.
    plateau: u64,
    epoch: Option<Epoch>,
    /// When the curve was last looked at, and for which window.
    looked: Option<(Duration, u64)>,
    /// The least round trip.
    delay_min: Option<Duration>,
    hystart: HyStart,
}

/// A stretch of growth between two losses.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    started_at: Duration,
    /// Seconds until the curve is flat, and the window there.
    until_origin_s: f64,
    origin: u64,
    /// Acknowledged packets that have not made Reno's window grow, and what it would be.
    acked: u64,
    friendly: u64,
}

/// Watches a round of slow start.
#[derive(Debug, Default)]
struct HyStart {
    is_done: bool,
    /// The segment with which the round ends.
    round_ends: u64,
    began: Duration,
    /// The last acknowledgement of the train that began with the round.
    train: Duration,
    min: Option<Duration>,
    samples: u32,
}

impl Default for Law {
    fn default() -> Self {
        Self {
            window: INITIAL_PACKETS,
            threshold: u64::MAX,
            credit: 0,
            gap: 0,
            plateau: 0,
            epoch: None,
            looked: None,
            delay_min: None,
            hystart: HyStart::default(),
        }
    }
}

impl Law {
    /// Packets that may be in flight.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The window that recovery aims at.
    pub fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Recovery's window.
    pub fn set_window(&mut self, packets: u64) {
        self.window = packets;
    }

    /// A round trip was measured; segments before `first` are acknowledged, `next` was not sent yet.
    pub fn on_rtt(&mut self, now: Duration, rtt: Duration, first: u64, next: u64) {
        if self.epoch.is_some_and(|epoch| now - epoch.started_at < DEAF) {
            return;
        }
        let least = self.delay_min.map_or(rtt, |min| min.min(rtt));
        self.delay_min = Some(least);
        let is_watched = self.window < self.threshold && self.window >= HYSTART_PACKETS;
        if is_watched && self.hystart.is_over(now, rtt, least, first, next) {
            self.threshold = self.window;
        }
    }

    /// So many packets have arrived, and no loss is being repaired.
    pub fn on_ack(&mut self, now: Duration, acked: u64) {
        let mut acked = acked;
        if self.window < self.threshold {
            let grown = (self.window + acked).min(self.threshold);
            acked -= grown - self.window;
            self.window = grown;
        }
        if acked > 0 {
            self.look(now, acked);
            self.grow(acked);
        }
    }

    /// A packet is lost: the threshold falls at once, the window goes there in recovery.
    pub fn on_loss(&mut self) {
        self.epoch = None;
        // Fast convergence (RFC 9438, section 4.7).
        self.plateau =
            if self.window < self.plateau { self.window * (WHOLE + BETA) / (2 * WHOLE) } else { self.window };
        self.threshold = (self.window * BETA / WHOLE).max(MIN_PACKETS);
    }

    /// What was lost is repaired.
    pub fn end_recovery(&mut self) {
        self.window = self.threshold;
        self.credit = 0;
    }

    /// All that was out is lost.
    pub fn on_timeout(&mut self, is_answered: bool) {
        if !is_answered {
            self.on_loss();
        }
        *self = Self { window: 1, threshold: self.threshold, ..Self::default() };
    }

    /// Finds the gap (RFC 9438, sections 4.2 to 4.5).
    fn look(&mut self, now: Duration, acked: u64) {
        let window = self.window;
        let epoch = self.epoch.get_or_insert_with(|| {
            self.looked = None;
            let below = self.plateau.saturating_sub(window);
            Epoch {
                started_at: now,
                until_origin_s: (below as f64 / STEEPNESS).cbrt(),
                origin: self.plateau.max(window),
                acked: 0,
                friendly: window,
            }
        });
        epoch.acked += acked;
        if self.looked.is_some_and(|(at, of)| of == window && now - at < LOOK) {
            return;
        }
        self.looked = Some((now, window));
        let ahead = (now - epoch.started_at) + self.delay_min.unwrap_or_default();
        let offset = ahead.as_secs_f64() - epoch.until_origin_s;
        let target = (epoch.origin as f64 + (STEEPNESS * offset.powi(3)).trunc()).max(0.0);
        let rise = target - window as f64;
        let mut gap = if rise >= 1.0 { window as f64 / rise } else { 100.0 * window as f64 };
        if self.plateau == 0 {
            gap = gap.min(SEARCH_GAP as f64);
        }
        let windows = window * FRIENDLY_EIGHTHS / 8;
        while epoch.acked > windows {
            epoch.acked -= windows;
            epoch.friendly += 1;
        }
        if epoch.friendly > window {
            gap = gap.min(window as f64 / (epoch.friendly - window) as f64);
        }
        self.gap = whole(gap).max(2);
    }

    fn grow(&mut self, acked: u64) {
        if self.credit >= self.gap {
            self.credit = 0;
            self.window += 1;
        }
        self.credit += acked;
        self.window += self.credit / self.gap;
        self.credit %= self.gap;
    }
}

impl HyStart {
    /// A round trip was measured; whether slow start is over.
    fn is_over(&mut self, now: Duration, rtt: Duration, least: Duration, first: u64, next: u64) -> bool {
        if self.is_done {
            return false;
        }
        if first > self.round_ends {
            *self = Self { round_ends: next, began: now, train: now, ..Self::default() };
        }
        if now - self.train <= TRAIN_GAP {
            self.train = now;
            self.is_done |= now - self.began > least / 2;
        }
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
        if self.samples < SAMPLES {
            self.samples += 1;
        } else {
            let rise = (least / 8).clamp(MIN_RISE, MAX_RISE);
            self.is_done |= self.min.is_some_and(|min| min > least + rise);
        }
        self.is_done
    }
}

/// The whole part of a gap.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a gap is positive and small")]
fn whole(gap: f64) -> u64 {
    gap as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A window of `packets` whose loss was repaired at `at(0)`.
    fn behind_a_loss(packets: u64) -> Law {
        let mut law = Law { window: packets, ..Law::default() };
        law.on_rtt(at(0), RTT, 0, 0);
        law.on_loss();
        law.end_recovery();
        law
    }

    /// Acknowledges a window each round trip, packet by packet.
    fn grow(law: &mut Law, from_ms: u64, rounds: u64) {
        for round in 0..rounds {
            for _ in 0..law.window() {
                law.on_ack(at(from_ms + 100 * round), 1);
            }
        }
    }

    #[test]
    fn slow_start_doubles_each_round_trip() {
        let mut law = Law::default();
        grow(&mut law, 0, 3);

        assert_eq!(law.window(), 80);
    }

    #[test]
    fn a_loss_takes_three_tenths_and_less_room_is_made_known_by_a_lower_plateau() {
        let mut law = behind_a_loss(1000);
        assert_eq!((law.window(), law.plateau), (700, 1000));

        law.on_loss();
        assert_eq!((law.threshold(), law.plateau), (490, 595));
    }

    #[test]
    fn the_plateau_is_reached_when_the_formula_says() {
        let mut law = behind_a_loss(1000);
        // RFC 9438, section 4.2: K = cbrt(1000 (1 - 0.7) / 0.4) = 9.09 s.
        grow(&mut law, 0, 45);
        let halfway = law.window();
        grow(&mut law, 4500, 46);

        assert!((930..970).contains(&halfway), "{halfway}");
        assert!((995..=1002).contains(&law.window()), "{}", law.window());
    }

    #[test]
    fn a_small_window_grows_as_renos() {
        let mut law = behind_a_loss(14);
        // 9 packets, and 3 (1-b) / (1+b) = 0.53 more each round trip.
        grow(&mut law, 0, 10);

        assert!((13..=15).contains(&law.window()), "{}", law.window());
    }

    #[test]
    fn slow_start_ends_when_acknowledgements_span_half_of_the_round_trip() {
        let mut law = Law { window: 100, ..Law::default() };
        let ended = (0..100).find(|&ms| {
            law.on_rtt(at(1000 + ms), RTT, ms + 1, 200);
            law.threshold() == 100
        });

        assert_eq!(ended, Some(51));
    }

    #[test]
    fn slow_start_ends_when_the_round_trip_has_risen_by_an_eighth() {
        let ends = |rise_ms: u64| {
            let mut law = Law { window: 100, ..Law::default() };
            law.on_rtt(at(0), RTT, 1, 200);
            (1..20).for_each(|n| law.on_rtt(at(200 + 3 * n), RTT + at(rise_ms), 201, 400));
            law.threshold() == 100
        };

        assert!(ends(13));
        assert!(!ends(12));
    }

    #[test]
    fn a_timeout_begins_anew_with_one_packet() {
        let mut law = behind_a_loss(1000);
        law.on_timeout(false);

        assert_eq!((law.window(), law.threshold(), law.plateau), (1, 490, 0));
    }
}
