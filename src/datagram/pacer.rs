//! Spreads packets over time: when the next may leave, and how many at once.
//!
//! Each packet moves the moment at which the next may go by its own length at the rate. Packets leave in quanta, so
//! that a system call carries many of them. A sender that woke late catches up by one quantum at once, and by the rest,
//! within bounds, at twice the rate at most: otherwise the rate that a busy machine achieves is taken for the path's.

use std::time::Duration;

/// Time that a quantum covers (draft-ietf-ccwg-bbr, section 4.6.3: 1 ms, at most 64 KiB).
const QUANTUM_TIME: Duration = Duration::from_millis(1);
/// Largest quantum, bytes: what one call with segmentation offload takes.
const QUANTUM_MAX: u64 = 64 << 10;
/// Of what was slept through, at most so much is made up for.
pub const LATE_MAX: Duration = Duration::from_millis(25);
/// Smallest quantum, packets.
const QUANTUM_MIN_PACKETS: u64 = 2;

/// When the next packet may leave. Time is a `Duration` since any fixed start.
#[derive(Clone, Debug, Default)]
pub struct Pacer {
    next: Duration,
    /// How much time was slept through and is not made up for.
    owed: Duration,
}

impl Pacer {
    /// Bytes that may leave at once at `rate` bytes a second, in packets of `packet` bytes.
    pub fn quantum(rate: u64, packet: u64) -> u64 {
        scaled(rate, QUANTUM_TIME).min(QUANTUM_MAX).max(QUANTUM_MIN_PACKETS * packet)
    }

    /// When the next packet may leave.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Whether it may leave now.
    pub fn is_due(&self, now: Duration) -> bool {
        self.next <= now
    }

    /// A packet left at `rate` bytes a second, in quanta of `quantum` bytes. Of the time by which it is late, at most
    /// `late_max` is made up for, as Linux does for TCP (`tcp_update_skb_after_send`): each packet takes no less than half
    /// of its time. protocol.md [CONG-1]
    pub fn on_sent(&mut self, now: Duration, bytes: u64, rate: u64, quantum: u64, late_max: Duration) {
        let earliest = now.saturating_sub(time_for(quantum, rate));
        // Before the first packet, nobody was late.
        let late = if self.next.is_zero() { Duration::ZERO } else { earliest.saturating_sub(self.next) };
        self.owed = self.owed.saturating_add(late).min(late_max);
        let takes = time_for(bytes, rate);
        let saved = self.owed.min(takes / 2);
        self.owed -= saved;
        self.next = self.next.max(earliest).saturating_add(takes - saved);
    }
}

/// Bytes that `rate` moves in `time`.
pub fn scaled(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Time in which `rate`, at least one byte a second, moves `bytes`.
pub fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends all that is due, wakes `late` after the pacer asks to be woken; gives the bytes of the second.
    fn sent_in_a_second(rate: u64, late: Duration) -> u64 {
        let (mut pacer, packet) = (Pacer::default(), 1400);
        let quantum = Pacer::quantum(rate, packet);
        let (mut now, mut sent) = (Duration::from_secs(7), 0);
        while now < Duration::from_secs(8) {
            while pacer.is_due(now) {
                pacer.on_sent(now, packet, rate, quantum, late * 2);
                sent += packet;
            }
            now = pacer.next() + late;
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_although_the_sender_wakes_late() {
        for rate in [100_000, 12_500_000, 1_250_000_000] {
            let sent = sent_in_a_second(rate, Duration::from_micros(40));

            assert!(sent.abs_diff(rate) <= rate / 50 + 3 * 1400, "{sent} of {rate}");
        }
    }

    #[test]
    fn what_was_slept_through_is_made_up_for_within_bounds_at_twice_the_rate() {
        // protocol.md [CONG-1]
        let (mut pacer, rate, most) = (Pacer::default(), 12_500_000, Duration::from_millis(10));
        let (start, mut now, mut sent) = (Duration::from_secs(60), Duration::from_secs(60), Vec::new());
        pacer.on_sent(Duration::from_secs(1), 1250, rate, Pacer::quantum(rate, 1250), most);
        while now < start + Duration::from_millis(100) {
            while pacer.is_due(now) {
                pacer.on_sent(now, 1250, rate, Pacer::quantum(rate, 1250), most);
                sent.push(now - start);
            }
            now = pacer.next();
        }

        let within = |ms: u64| sent.iter().filter(|at| at.as_millis() < u128::from(ms)).count();
        // A quantum of ten packets, and two in the time of one for ten milliseconds; then one in its time.
        assert!((208..=212).contains(&within(10)), "{}", within(10));
        assert!((1108..=1112).contains(&within(100)), "{}", within(100));
    }

    #[test]
    fn a_pause_is_made_up_for_by_one_quantum_at_most() {
        // protocol.md [CONG-1]
        let (mut pacer, rate) = (Pacer::default(), 12_500_000);
        let quantum = Pacer::quantum(rate, 1400);
        let (now, mut burst) = (Duration::from_secs(60), 0);
        while pacer.is_due(now) {
            pacer.on_sent(now, 1400, rate, quantum, Duration::ZERO);
            burst += 1400;
        }

        assert!(burst <= quantum + 1400, "{burst} of {quantum}");
    }

    #[test]
    fn quanta_are_two_packets_to_one_call() {
        // protocol.md [CONG-1]
        assert_eq!(Pacer::quantum(1, 1400), 2800);
        assert_eq!(Pacer::quantum(12_500_000, 1400), 12_500);
        assert_eq!(Pacer::quantum(u64::MAX, 1400), QUANTUM_MAX);
    }
}
