//! Ends slow start before the queue is full: HyStart++ (RFC 9406).
//!
//! When the smallest round trip of a round is clearly above that of the round before, growth slows down to a quarter;
//! five such rounds end slow start, unless the round trip falls back, which says that it was a false alarm.

use std::time::Duration;

use super::AckEvent;

/// Bounds of the rise that counts, and its part of the round trip (RFC 9406, section 4.3).
const MIN_RISE: Duration = Duration::from_millis(4);
const MAX_RISE: Duration = Duration::from_millis(16);
const RISE_DIVISOR: u32 = 8;
/// Samples that a round needs before it is judged. The RFC says 8; a receiver that acknowledges eight times a round
/// trip gives that many only just.
const SAMPLES: u32 = 6;
/// Growth in the careful phase, and its length in rounds (RFC 9406, section 4.3).
const CAREFUL_DIVISOR: f64 = 4.0;
const CAREFUL_ROUNDS: u32 = 5;

/// Watches round trips in slow start.
#[derive(Debug, Default)]
pub struct HyStart {
    /// Deliveries at which the round ends.
    round_ends: u64,
    /// Smallest round trip of this round and of the last.
    now_min: Option<Duration>,
    last_min: Option<Duration>,
    samples: u32,
    /// The careful phase: its rounds so far, and the round trip that it began with.
    careful: Option<(u32, Duration)>,
}

impl HyStart {
    /// Packets by which the window grows for `acked` packets: it doubles in a round trip at most. protocol.md [CONG-4]
    pub fn growth(&mut self, acked: f64, ack: &AckEvent) -> f64 {
        self.count_round(ack);
        if let Some(rtt) = ack.rtt {
            self.samples += 1;
            self.now_min = Some(self.now_min.map_or(rtt, |min| min.min(rtt)));
        }
        if self.samples >= SAMPLES {
            self.judge();
        }
        if self.careful.is_some() { acked / CAREFUL_DIVISOR } else { acked }
    }

    /// Slow start is over.
    pub fn is_done(&self) -> bool {
        self.careful.is_some_and(|(rounds, _)| rounds >= CAREFUL_ROUNDS)
    }

    fn count_round(&mut self, ack: &AckEvent) {
        let Some(sample) = ack.rate else { return };
        if sample.prior_delivered < self.round_ends {
            return;
        }
        self.round_ends = sample.prior_delivered + sample.delivered;
        self.last_min = self.now_min.take();
        self.samples = 0;
        if let Some((rounds, _)) = &mut self.careful {
            *rounds += 1;
        }
    }

    fn judge(&mut self) {
        let (Some(now), Some(last)) = (self.now_min, self.last_min) else { return };
        match self.careful {
            None if now >= last + (last / RISE_DIVISOR).clamp(MIN_RISE, MAX_RISE) => {
                self.careful = Some((0, now));
            }
            Some((_, began)) if now < began => self.careful = None,
            _ => {}
        }
    }
}
