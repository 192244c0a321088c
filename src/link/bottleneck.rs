//! The slowest part of the path: a line with a queue in front of it, or a policer.
//!
//! Both keep one number: how much work has been taken on, on the scale of [`Line`]. What was taken and is not
//! carried yet is the queue; a packet leaves when the line has reached its end. A policer counts the same way and
//! forgets the waiting: what fits its bucket goes on at once, and what does not is dropped.
//!
//! A line that is replayed from a trace carries at its moments and not between them. What is taken begins behind what
//! the line can have carried by then, so that a moment that finds the queue empty is lost, and what it has left over
//! for the next packet is used only by one that was there.

use std::time::Duration;

use super::config::{Bottleneck, Buffer};
use super::line::{Line, Work, bytes_of, work_of};
use super::trace::OPPORTUNITY_FRAMING_BYTES;

/// Charged for each packet beside its own bytes by a line with a rate: an Ethernet header and its checksum.
pub const FRAMING_BYTES: u64 = 18;

/// The stage that a packet meets first.
#[derive(Debug)]
pub(super) struct BottleneckStage {
    line: Line,
    /// Charged for each packet beside its own bytes.
    framing_bytes: u64,
    /// What may be ahead of a packet and in it.
    limit: Work,
    /// Where on the line's scale the last packet taken ends.
    taken: Work,
    is_policer: bool,
}

impl BottleneckStage {
    /// The stage for a rate and a buffer; the round trip says what a depth in BDP means.
    pub(super) fn new(bottleneck: &Bottleneck, rtt: Duration) -> Self {
        let (line, framing_bytes) = match &bottleneck.trace {
            Some(trace) => (Line::Trace(trace.clone()), OPPORTUNITY_FRAMING_BYTES),
            None => (Line::new(bottleneck.bits_per_s, &bottleneck.steps), FRAMING_BYTES),
        };
        Self {
            line,
            framing_bytes,
            limit: work_of(bottleneck.depth_bytes(rtt)),
            taken: 0,
            is_policer: matches!(bottleneck.buffer, Buffer::Policer(_)),
        }
    }

    /// When a packet that arrives now has passed, or `None` if it does not fit. A queue always takes what finds it
    /// empty, since such a packet does not wait.
    pub(super) fn pass(&mut self, now: Duration, len_bytes: usize) -> Option<Duration> {
        let len = u64::try_from(len_bytes).expect("a packet is shorter than 2^64 bytes");
        let ahead = self.ahead(now);
        let charge = work_of(len.saturating_add(self.framing_bytes));
        let is_direct = ahead == 0 && !self.is_policer;
        if ahead + charge > self.limit && !is_direct {
            return None;
        }
        self.taken = self.line.work_at(now) + ahead + charge;
        Some(if self.is_policer { now } else { self.line.time_of(self.taken) })
    }

    /// Whether it drops instead of delaying.
    pub(super) fn is_policer(&self) -> bool {
        self.is_policer
    }

    /// Bytes that wait or are being carried, framing included; a policer has none.
    pub(super) fn queue_bytes(&self, now: Duration) -> u64 {
        if self.is_policer { 0 } else { bytes_of(self.ahead(now)) }
    }

    /// How long a packet that arrives now would wait until its first bit is carried.
    pub(super) fn queue_delay(&self, now: Duration) -> Duration {
        if self.is_policer {
            return Duration::ZERO;
        }
        self.line.goes_on(self.taken.max(self.line.work_at(now))).saturating_sub(now)
    }

    /// What was taken and is not carried yet.
    fn ahead(&self, now: Duration) -> Work {
        self.taken.saturating_sub(self.line.work_at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Depth, RateStep};
    use super::super::trace::Trace;
    use super::*;

    /// With its framing, such a packet takes 1 ms at 8 Mbit/s.
    const PACKET: usize = 982;

    fn stage(buffer: Buffer, steps: Vec<RateStep>) -> BottleneckStage {
        let bottleneck = Bottleneck { steps, buffer, ..Bottleneck::new(8_000_000) };
        BottleneckStage::new(&bottleneck, Duration::ZERO)
    }

    /// A queue before a line that carries something at these moments.
    fn replay(bytes: u64, text: &str) -> BottleneckStage {
        let trace = Trace::read("it", text).unwrap();
        let buffer = Buffer::Queue(Depth::Bytes(bytes));
        BottleneckStage::new(&Bottleneck { buffer, ..Bottleneck::replay(trace) }, Duration::ZERO)
    }

    fn queue(bytes: u64) -> BottleneckStage {
        stage(Buffer::Queue(Depth::Bytes(bytes)), Vec::new())
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn packets_leave_one_after_the_other() {
        let mut stage = queue(10_000);

        assert_eq!(stage.pass(ms(5), PACKET), Some(ms(6)));
        assert_eq!(stage.pass(ms(5), PACKET), Some(ms(7)));
        assert_eq!(stage.queue_bytes(ms(5)), 2000);
        assert_eq!(stage.queue_delay(ms(5)), ms(2));
        assert_eq!(stage.queue_delay(ms(6)), ms(1));
        assert_eq!(stage.queue_bytes(ms(7)), 0);
        assert_eq!(stage.queue_delay(ms(100)), Duration::ZERO);
        assert_eq!(stage.pass(ms(100), PACKET), Some(ms(101)));
    }

    #[test]
    fn a_packet_that_fills_the_queue_to_its_last_byte_is_taken() {
        let mut stage = queue(2000);
        assert!(stage.pass(ms(0), PACKET).is_some());

        assert!(stage.pass(ms(0), PACKET).is_some());
        assert_eq!(stage.queue_bytes(ms(0)), 2000);
    }

    #[test]
    fn a_packet_that_is_one_byte_too_long_for_the_queue_is_dropped() {
        let mut stage = queue(2000);
        assert!(stage.pass(ms(0), PACKET).is_some());

        assert_eq!(stage.pass(ms(0), PACKET + 1), None);
        assert_eq!(stage.queue_bytes(ms(0)), 1000);
    }

    #[test]
    fn a_queue_has_room_again_when_the_line_has_carried_that_much() {
        let mut stage = queue(2000);
        assert!(stage.pass(ms(0), PACKET).is_some());
        assert!(stage.pass(ms(0), PACKET).is_some());

        assert_eq!(stage.pass(ms(1) - Duration::from_nanos(1), PACKET), None);
        assert_eq!(stage.pass(ms(1), PACKET), Some(ms(3)));
    }

    #[test]
    fn a_queue_of_nothing_takes_what_does_not_wait() {
        let mut stage = queue(0);

        assert_eq!(stage.pass(ms(0), PACKET), Some(ms(1)));
        assert_eq!(stage.pass(ms(1) - Duration::from_nanos(1), PACKET), None);
        assert_eq!(stage.pass(ms(1), PACKET), Some(ms(2)));
    }

    #[test]
    fn the_queue_never_holds_more_than_its_limit() {
        let mut stage = queue(50_000);
        for us in 0..200_000 {
            let now = Duration::from_micros(us);
            let _ = stage.pass(now, PACKET);
            assert!(stage.queue_bytes(now) <= 50_000);
        }
        assert!(stage.queue_bytes(ms(200)) > 48_000, "it was full");
    }

    #[test]
    fn the_rate_is_kept_under_overload() {
        let mut stage = queue(50_000);
        let end = Duration::from_secs(1);
        let carried = (0..100_000)
            .filter_map(|place| stage.pass(Duration::from_micros(10 * place), PACKET))
            .filter(|&left| left <= end)
            .count();

        assert_eq!(carried, 1000);
    }

    #[test]
    fn a_policer_delays_nothing_and_keeps_the_rate() {
        let mut stage = stage(Buffer::Policer(Depth::Bytes(10_000)), Vec::new());
        let mut passed = 0;
        for us in (0..1_000_000).step_by(100) {
            let now = Duration::from_micros(us);
            if let Some(left) = stage.pass(now, PACKET) {
                assert_eq!(left, now);
                passed += 1;
            }
            assert_eq!((stage.queue_bytes(now), stage.queue_delay(now)), (0, Duration::ZERO));
        }

        // A second's worth and the bucket, which was full.
        assert!((1008..=1010).contains(&passed), "{passed}");
    }

    #[test]
    fn a_policer_passes_a_bucket_at_once_and_not_one_byte_more() {
        let mut exact = stage(Buffer::Policer(Depth::Bytes(2000)), Vec::new());
        assert!(exact.pass(ms(0), PACKET).is_some());
        assert!(exact.pass(ms(0), PACKET).is_some());

        let mut over = stage(Buffer::Policer(Depth::Bytes(2000)), Vec::new());
        assert!(over.pass(ms(0), PACKET).is_some());
        assert_eq!(over.pass(ms(0), PACKET + 1), None);
        assert_eq!(stage(Buffer::Policer(Depth::Bytes(999)), Vec::new()).pass(ms(0), PACKET), None);
    }

    #[test]
    fn a_full_packet_takes_one_moment_of_a_trace() {
        let mut stage = replay(10_000, "5\n5\n20");

        assert_eq!(stage.pass(ms(0), 1500), Some(ms(5)));
        assert_eq!(stage.pass(ms(0), 1500), Some(ms(5)));
        assert_eq!(stage.pass(ms(0), 1500), Some(ms(20)));
        assert_eq!(stage.pass(ms(0), 1500), Some(ms(25)));
        assert_eq!((stage.queue_bytes(ms(4)), stage.queue_bytes(ms(5))), (6016, 3008));
        assert_eq!((stage.queue_delay(ms(4)), stage.queue_delay(ms(30))), (ms(21), ms(10)));
    }

    #[test]
    fn a_moment_that_finds_the_queue_empty_is_lost() {
        let mut stage = replay(10_000, "5\n5\n20");

        // That of 5 ms is over when the packet comes.
        assert_eq!(stage.pass(ms(5), 1500), Some(ms(20)));
        assert_eq!(stage.pass(ms(1000), 1500), Some(ms(1005)));
    }

    #[test]
    fn what_a_moment_has_left_over_is_for_the_next_packet_that_waits() {
        let mut stage = replay(10_000, "5\n5\n20");

        for _ in 0..3 {
            // Two of them and a part of the third.
            assert!(stage.pass(ms(0), 600).is_some());
        }
        assert_eq!(stage.pass(ms(0), 600), Some(ms(5)), "4 times 604 bytes of 2 times 1504");
        assert_eq!(stage.pass(ms(0), 600), Some(ms(20)), "12 bytes are missing");
        assert_eq!(stage.queue_bytes(ms(5)), 12);
    }

    #[test]
    fn what_a_moment_has_left_over_is_lost_to_a_packet_that_comes_later() {
        let mut stage = replay(10_000, "5\n20");

        assert_eq!(stage.pass(ms(0), 100), Some(ms(5)));
        assert_eq!(stage.pass(ms(6), 100), Some(ms(20)));
    }

    #[test]
    fn a_packet_that_is_longer_than_a_moment_carries_takes_several() {
        let mut stage = replay(100_000, "1");

        assert_eq!(stage.pass(ms(0), 9000), Some(ms(6)));
        assert_eq!(stage.pass(ms(0), 1500 - 20), Some(ms(7)));
    }

    #[test]
    fn a_queue_before_a_trace_is_full_at_the_byte() {
        let mut stage = replay(3008, "5");
        assert!(stage.pass(ms(0), 1500).is_some());

        assert_eq!(stage.pass(ms(0), 1501), None);
        assert!(stage.pass(ms(0), 1500).is_some());
        assert_eq!(stage.pass(ms(4), 0), None);
        assert_eq!(stage.pass(ms(5), 1500), Some(ms(15)));
    }

    #[test]
    fn what_waits_when_the_rate_steps_leaves_at_the_rate_it_finds() {
        let slower = RateStep { at: ms(1), bits_per_s: 4_000_000 };
        let mut stage = stage(Buffer::Queue(Depth::Bytes(10_000)), vec![slower]);

        assert_eq!(stage.pass(ms(0), PACKET), Some(ms(1)));
        assert_eq!(stage.pass(ms(0), PACKET), Some(ms(3)));
        assert_eq!(stage.queue_bytes(ms(2)), 500);
        assert_eq!(stage.pass(ms(3), PACKET), Some(ms(5)));
    }
}
