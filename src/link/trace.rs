//! A recorded link: the moments at which it could carry a packet, as mahimahi's tools record and replay them.
//!
//! Each line of a trace is a whole number of milliseconds and one opportunity to carry [`OPPORTUNITY_BYTES`] then;
//! several in one millisecond are several lines. After its last moment a trace begins again. An opportunity that finds the
//! queue empty is lost; one that is larger than what is first in the queue goes on with the next, and what does not fit
//! waits for the following one. That is what mm-link does (Netravali et al., USENIX ATC 2015), so that its traces mean the
//! same here, except that moments within a millisecond are told apart here.
//!
//! Reads no files: it is given their text.

use std::time::Duration;

use super::check::TIME_MAX;
use super::line::{Work, work_of};

/// Bytes that each opportunity carries, framing included: a packet of 1500 bytes and what mahimahi charges in front of
/// it.
pub const OPPORTUNITY_BYTES: u64 = 1504;
/// Charged for each packet beside its own bytes: the information that a TUN device can put in front of a packet, which
/// mahimahi counts.
pub const OPPORTUNITY_FRAMING_BYTES: u64 = 4;
/// Most opportunities of a trace. Chosen arbitrarily: ten minutes at 80 Mbit/s.
pub const TRACE_MAX_OPPORTUNITIES: usize = 4_000_000;

/// When a link can carry something, over and over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// What a SPEC calls it.
    name: String,
    /// The moments in milliseconds, ascending or equal; at least one, the last more than zero and at most `TIME_MAX`.
    moments_ms: Vec<u32>,
}

/// Why a text is no trace. `name` is what the SPEC calls it, `line` counts from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It cannot be read at all.
    #[error("`{name}` cannot be read: {why}")]
    Unreadable {
        /// The trace.
        name: String,
        /// The system's reason.
        why: String,
    },
    /// A line is no moment.
    #[error(
        "`{name}`, line {line}: a moment is a whole number of milliseconds, at most a day, and alone in its line"
    )]
    Line {
        /// The trace.
        name: String,
        /// Which line.
        line: usize,
    },
    /// A moment is before that of the line above.
    #[error("`{name}`, line {line}: {moment_ms} comes after {before_ms}; moments ascend or are equal")]
    Descends {
        /// The trace.
        name: String,
        /// Which line.
        line: usize,
        /// The moment there.
        moment_ms: u32,
        /// The moment above.
        before_ms: u32,
    },
    /// There is no line.
    #[error("`{name}` is empty; a trace has a moment in milliseconds in each line")]
    Empty {
        /// The trace.
        name: String,
    },
    /// All moments are zero, so that it would begin again at once.
    #[error("`{name}` takes no time: its last moment has to be more than 0")]
    NoTime {
        /// The trace.
        name: String,
    },
    /// There are more lines than are kept.
    #[error("`{name}` has more than {TRACE_MAX_OPPORTUNITIES} lines")]
    TooLong {
        /// The trace.
        name: String,
    },
}

impl Trace {
    /// Reads the text of a trace that a SPEC calls by this name.
    pub fn read(name: &str, text: &str) -> Result<Self, TraceError> {
        let name = name.to_owned();
        let mut moments_ms: Vec<u32> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let Some(moment_ms) = moment(line) else {
                return Err(TraceError::Line { name, line: at + 1 });
            };
            if let Some(&before_ms) = moments_ms.last()
                && moment_ms < before_ms
            {
                return Err(TraceError::Descends { name, line: at + 1, moment_ms, before_ms });
            }
            if moments_ms.len() == TRACE_MAX_OPPORTUNITIES {
                return Err(TraceError::TooLong { name });
            }
            moments_ms.push(moment_ms);
        }
        match moments_ms.last() {
            None => Err(TraceError::Empty { name }),
            Some(0) => Err(TraceError::NoTime { name }),
            Some(_) => Ok(Self { name, moments_ms }),
        }
    }

    /// What a SPEC calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// After this time it begins again; more than zero.
    pub fn period(&self) -> Duration {
        Duration::from_millis(self.period_ms())
    }

    /// What it carries on average, bits a second, rounded down, framing included.
    pub fn mean_bits_per_s(&self) -> u64 {
        let bits = u128::from(self.len()) * u128::from(OPPORTUNITY_BYTES) * 8;
        u64::try_from(bits * 1000 / u128::from(self.period_ms())).unwrap_or(u64::MAX)
    }

    /// What it can have carried by then if it was never idle, an opportunity of that very moment included.
    pub(super) fn work_at(&self, now_ns: u128) -> Work {
        let period_ns = u128::from(self.period_ms()) * NS_PER_MS;
        let (rounds, since_ns) = (now_ns / period_ns, now_ns % period_ns);
        let in_this = self.moments_ms.partition_point(|&ms| u128::from(ms) * NS_PER_MS <= since_ns);
        let in_this = u128::try_from(in_this).expect("a length fits");
        (rounds * u128::from(self.len()) + in_this) * PER_OPPORTUNITY
    }

    /// The moment of the opportunity at which it can have carried this much, nanoseconds.
    pub(super) fn time_of(&self, work: Work) -> u128 {
        let Some(before) = work.div_ceil(PER_OPPORTUNITY).checked_sub(1) else { return 0 };
        let len = u128::from(self.len());
        let place = usize::try_from(before % len).expect("a place in the trace fits");
        let ms = before / len * u128::from(self.period_ms()) + u128::from(self.moments_ms[place]);
        ms * NS_PER_MS
    }

    fn period_ms(&self) -> u64 {
        (*self.moments_ms.last().expect("a trace is not empty")).into()
    }

    fn len(&self) -> u64 {
        u64::try_from(self.moments_ms.len()).expect("a length fits")
    }
}

const NS_PER_MS: u128 = 1_000_000;
/// What one opportunity carries, as a line counts it.
const PER_OPPORTUNITY: Work = work_of(OPPORTUNITY_BYTES);
/// A day in milliseconds.
const MOMENT_MAX_MS: u32 = 86_400_000;

const _: () = assert!(MOMENT_MAX_MS as u128 == TIME_MAX.as_millis());

/// Digits only.
fn moment(line: &str) -> Option<u32> {
    let is_number = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| line.parse().ok())?.filter(|&ms| ms <= MOMENT_MAX_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trace(text: &str) -> Trace {
        Trace::read("it", text).unwrap()
    }

    fn opportunities(number: u128) -> Work {
        number * PER_OPPORTUNITY
    }

    const MS: u128 = NS_PER_MS;

    #[test]
    fn opportunities_come_at_their_moments_and_over_and_over() {
        let trace = trace("0\n5\n5\n20\n");
        let times: Vec<_> = (1..=9).map(|it| trace.time_of(opportunities(it)) / MS).collect();

        assert_eq!(times, [0, 5, 5, 20, 20, 25, 25, 40, 40]);
        assert_eq!(trace.time_of(0), 0);
        assert_eq!(trace.time_of(1), 0);
        assert_eq!(trace.time_of(opportunities(1) + 1), 5 * MS);
    }

    #[test]
    fn an_opportunity_is_there_from_its_moment_on() {
        let trace = trace("5\n5\n20");
        let at = |ns| trace.work_at(ns) / PER_OPPORTUNITY;

        assert_eq!([at(0), at(5 * MS - 1), at(5 * MS), at(20 * MS - 1), at(20 * MS)], [0, 0, 2, 2, 3]);
        assert_eq!([at(25 * MS - 1), at(25 * MS), at(40 * MS)], [3, 5, 6]);
        assert_eq!(at(2000 * MS), 300);
    }

    #[test]
    fn one_line_is_a_steady_rate() {
        let trace = trace("1");

        assert_eq!((trace.mean_bits_per_s(), trace.period()), (12_032_000, Duration::from_millis(1)));
        assert_eq!(trace.time_of(opportunities(1000)), 1000 * MS);
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_name_and_line() {
        let cases = [
            (
                "1\n2\nx\n",
                "`it`, line 3: a moment is a whole number of milliseconds, at most a day, and alone in its line",
            ),
            (
                "1\n\n2",
                "`it`, line 2: a moment is a whole number of milliseconds, at most a day, and alone in its line",
            ),
            (
                "86400001",
                "`it`, line 1: a moment is a whole number of milliseconds, at most a day, and alone in its line",
            ),
            (
                "-1",
                "`it`, line 1: a moment is a whole number of milliseconds, at most a day, and alone in its line",
            ),
            ("1\n7\n6\n", "`it`, line 3: 6 comes after 7; moments ascend or are equal"),
            ("", "`it` is empty; a trace has a moment in milliseconds in each line"),
            ("0\n0\n", "`it` takes no time: its last moment has to be more than 0"),
        ];

        for (text, why) in cases {
            assert_eq!(Trace::read("it", text).unwrap_err().to_string(), why);
        }
        assert_eq!(trace("86400000").period(), TIME_MAX);
    }

    #[test]
    fn a_trace_has_so_many_lines_and_not_one_more() {
        let longest = "1\n".repeat(TRACE_MAX_OPPORTUNITIES);

        assert_eq!(trace(&longest).len(), TRACE_MAX_OPPORTUNITIES as u64);
        let too_long = Err(TraceError::TooLong { name: "it".to_owned() });
        assert_eq!(Trace::read("it", &(longest + "1\n")), too_long);
    }

    proptest! {
        #[test]
        fn work_is_there_at_its_time_and_not_before(
            mut moments in proptest::collection::vec(0..50_u32, 1..20),
            work in 1..1_000_000_000_000_000_u128,
        ) {
            moments.push(50);
            moments.sort_unstable();
            let lines: Vec<_> = moments.iter().map(ToString::to_string).collect();
            let trace = trace(&lines.join("\n"));

            let at = trace.time_of(work);

            prop_assert!(trace.work_at(at) >= work);
            prop_assert!(at == 0 || trace.work_at(at - 1) < work);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[0-9\n]{0,40}|(?s:.*)") {
            let _ = Trace::read("it", &text);
        }
    }
}
