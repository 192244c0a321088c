//! Counts what a line can have carried by any moment: one of changing rate, or one that is replayed from a trace.
//!
//! Work is counted in billionths of a bit, so that a rate in bits a second times a time in nanoseconds is exact: a
//! link at 300 Mbit/s carries neither more nor less over an hour than it says. Carries nothing itself; `bottleneck`
//! puts packets on it.

use std::sync::Arc;
use std::time::Duration;

use super::config::RateStep;
use super::trace::Trace;

/// Billionths of a bit.
pub(super) type Work = u128;

/// What a line carries over all time.
#[derive(Debug)]
pub(super) enum Line {
    /// At each moment at some rate. Never empty; ascending in both time and work; the first begins at zero.
    Pieces(Vec<Piece>),
    /// At moments that were recorded.
    Trace(Arc<Trace>),
}

/// From here on the rate is this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    from_ns: u128,
    /// What the line has carried by then if it was never idle.
    work: Work,
    bits_per_s: u128,
}

impl Line {
    /// A line of this rate, more than zero, and then of those, whose moments ascend.
    pub(super) fn new(bits_per_s: u64, steps: &[RateStep]) -> Self {
        let mut last = Piece { from_ns: 0, work: 0, bits_per_s: bits_per_s.into() };
        let mut pieces = vec![last];
        for step in steps {
            let from_ns = nanos(step.at);
            let work = last.work + (from_ns - last.from_ns) * last.bits_per_s;
            last = Piece { from_ns, work, bits_per_s: step.bits_per_s.into() };
            pieces.push(last);
        }
        Self::Pieces(pieces)
    }

    /// What it has carried by `now` if it was never idle.
    pub(super) fn work_at(&self, now: Duration) -> Work {
        let now_ns = nanos(now);
        match self {
            Self::Pieces(pieces) => {
                let piece = last_piece(pieces, |piece| piece.from_ns <= now_ns);
                piece.work + (now_ns - piece.from_ns) * piece.bits_per_s
            }
            Self::Trace(trace) => trace.work_at(now_ns),
        }
    }

    /// The first nanosecond at which it has carried this much.
    pub(super) fn time_of(&self, work: Work) -> Duration {
        let ns = match self {
            Self::Pieces(pieces) => {
                let piece = last_piece(pieces, |piece| piece.work <= work);
                piece.from_ns + (work - piece.work).div_ceil(piece.bits_per_s)
            }
            Self::Trace(trace) => trace.time_of(work),
        };
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }

    /// When it begins with what comes behind this much. A rate goes on at once; a trace waits for its next moment.
    pub(super) fn goes_on(&self, work: Work) -> Duration {
        match self {
            Self::Pieces(_) => self.time_of(work),
            Self::Trace(_) => self.time_of(work + 1),
        }
    }
}

fn last_piece(pieces: &[Piece], holds: impl Fn(&Piece) -> bool) -> Piece {
    let after = pieces.partition_point(holds);
    pieces[after.checked_sub(1).expect("the first piece begins at zero")]
}

/// Work that is in so many bytes.
pub(super) const fn work_of(bytes: u64) -> Work {
    bytes as u128 * 8_000_000_000
}

/// Bytes that hold so much work, rounded up.
pub(super) fn bytes_of(work: Work) -> u64 {
    u64::try_from(work.div_ceil(8_000_000_000)).unwrap_or(u64::MAX)
}

/// Time as the line counts it, at most 584 years.
fn nanos(time: Duration) -> u128 {
    time.as_nanos().min(u64::MAX.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_that_divides_nothing_drifts_by_nothing() {
        let line = Line::new(300_000_007, &[]);
        let hour = Duration::from_secs(3600);

        assert_eq!(line.work_at(hour), 3600 * 300_000_007 * 1_000_000_000);
        assert_eq!(line.time_of(line.work_at(hour)), hour);
        assert_eq!(line.time_of(line.work_at(hour) + 1), hour + Duration::from_nanos(1));
    }

    #[test]
    fn work_that_a_step_divides_is_done_at_both_rates() {
        let step = RateStep { at: Duration::from_secs(10), bits_per_s: 500 };
        let line = Line::new(1000, &[step]);

        // 9.5 s and then 1000 bits: half of them at 1000 bit/s, half at 500.
        let start = line.work_at(Duration::from_millis(9500));
        assert_eq!(line.time_of(start + 1000 * 1_000_000_000), Duration::from_millis(11_000));
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let line = Line::new(1_000_000_000_000, &[]);
        let work = line.work_at(Duration::MAX);

        assert_eq!(line.time_of(work + work_of(u64::MAX)), Duration::from_nanos(u64::MAX));
    }

    proptest! {
        #[test]
        fn time_and_work_are_each_others_inverse(
            first in 1_u64..1 << 40,
            second in 1_u64..1 << 40,
            at_ns in 1_u64..1 << 40,
            now_ns in 0_u64..1 << 41,
        ) {
            let step = RateStep { at: Duration::from_nanos(at_ns), bits_per_s: second };
            let line = Line::new(first, &[step]);
            let now = Duration::from_nanos(now_ns);

            prop_assert_eq!(line.time_of(line.work_at(now)), now);
        }
    }
}
