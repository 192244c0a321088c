//! Decides when one more connection is worth having.
//!
//! The practice of parallel-stream tools (GridFTP): a connection is added while the total rate rises by a tenth for
//! it; the first that brings less is the last. Rates are compared over whole intervals, so that one stall does not
//! decide.

use std::time::Duration;

/// Length of an interval over which a rate is taken.
const INTERVAL: Duration = Duration::from_millis(500);
/// A further connection must have raised the rate to this multiple, in percent.
const WORTH_PERCENT: u64 = 110;

/// The automatic number of connections of one session.
#[derive(Debug)]
pub struct Growth {
    /// Connections in use or being opened.
    streams: usize,
    max: usize,
    /// Start of the running interval and the bytes moved by then.
    since: Option<(Duration, u64)>,
    /// Bytes per interval before the last connection was added.
    before: u64,
    /// The first interval after a connection was added holds its slow start and does not count.
    is_settling: bool,
    is_done: bool,
}

impl Growth {
    /// Growth from one connection to at most `max`.
    pub fn new(max: usize) -> Self {
        assert!(max >= 1);
        Self { streams: 1, max, since: None, before: 0, is_settling: false, is_done: max == 1 }
    }

    /// Tells how many bytes the session has moved by `now` (time since any fixed start); `true` asks for one
    /// connection more.
    pub fn on_progress(&mut self, now: Duration, moved_bytes: u64) -> bool {
        if self.is_done || moved_bytes == 0 {
            return false;
        }
        let Some((start, start_bytes)) = self.since else {
            self.since = Some((now, moved_bytes));
            return false;
        };
        let elapsed = now.saturating_sub(start);
        if elapsed < INTERVAL {
            return false;
        }
        self.since = Some((now, moved_bytes));
        if std::mem::take(&mut self.is_settling) {
            return false;
        }
        let moved = moved_bytes.saturating_sub(start_bytes);
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = moved / millis;
        if self.streams > 1 && rate * 100 < self.before * WORTH_PERCENT {
            self.is_done = true;
            return false;
        }
        self.before = rate;
        self.streams += 1;
        self.is_settling = true;
        self.is_done = self.streams >= self.max;
        true
    }

    /// The peer or the path refused a further connection.
    pub fn on_refused(&mut self) {
        self.is_done = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs intervals in which each connection carries what `rate` says for their number; returns the number reached.
    fn grow(max: usize, rate: impl Fn(usize) -> u64) -> usize {
        let mut growth = Growth::new(max);
        let mut streams = 1;
        let mut moved = 1;
        for step in 0..100 {
            streams += usize::from(growth.on_progress(INTERVAL * step, moved));
            moved += rate(streams);
        }
        streams
    }

    #[test]
    fn connections_are_added_while_the_total_rises() {
        assert_eq!(grow(8, |streams| 1_000_000 * streams as u64), 8);
    }

    #[test]
    fn growth_stops_at_the_first_connection_that_brings_nothing() {
        assert_eq!(grow(8, |_| 1_000_000), 2);
        assert_eq!(grow(8, |streams| 1_000_000 * streams.min(3) as u64), 4);
    }

    #[test]
    fn a_refusal_ends_it() {
        let mut growth = Growth::new(8);
        growth.on_progress(Duration::ZERO, 1);
        growth.on_refused();

        assert!(!growth.on_progress(INTERVAL, 1 << 30));
    }

    #[test]
    fn nothing_is_added_before_data_flows() {
        let mut growth = Growth::new(8);

        assert!(!growth.on_progress(Duration::ZERO, 0));
        assert!(!growth.on_progress(INTERVAL * 10, 0));
    }
}
