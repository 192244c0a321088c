//! Decides when content moves between TCP and a flow over UDP.
//!
//! ```text
//!            both ways proven, loss above 0.1 %, RTT above 20 ms
//!   [TCP] ──────────────────────────────────────────────────────► [flow] ── silent, or slower than TCP was ──► [TCP]
//! ```
//!
//! Data never waits for a decision: it begins over TCP, and what TCP shows decides. A flow that was given up is not
//! tried again in the same session.

use std::time::Duration;

/// TCP loses more than this part of its bytes.
const LOSS_MIN: f64 = 0.001;
/// So many bytes were sent again, so that one loss decides nothing.
const RESENT_MIN_BYTES: u64 = 4 * 1448;
/// Below this, kernel TCP recovers fast enough.
const RTT_MIN: Duration = Duration::from_millis(20);
/// Time over which rates are compared.
const WINDOW: Duration = Duration::from_secs(5);
/// The flow is worse if it moves less than this part of what TCP moved, percent.
const WORSE_PERCENT: u64 = 80;

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The flow has carried packets in both directions.
    pub is_confirmed: bool,
    /// Bytes that TCP has sent, and those of them that it sent again.
    pub sent_bytes: u64,
    /// See `sent_bytes`.
    pub resent_bytes: u64,
    /// Round trip of the path without a queue.
    pub rtt: Duration,
    /// Content that the receiver has placed, bytes.
    pub placed_bytes: u64,
    /// Content waits for the network and for nothing else.
    pub is_waiting: bool,
}

impl Seen {
    /// Part of TCP's bytes that were sent again.
    pub fn loss(&self) -> f64 {
        if self.sent_bytes == 0 { 0.0 } else { self.resent_bytes as f64 / self.sent_bytes as f64 }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// As before.
    Stay,
    /// Content goes over the flow from here on.
    ToFlow,
    /// The flow is worth nothing: content goes over TCP again.
    ToTcp,
}

/// Where the content of one session goes.
#[derive(Debug)]
pub struct Choice {
    /// When content moved to the flow, and what TCP had moved in a second before.
    moved: Option<(Duration, u64)>,
    /// Begin of the running window, with what was placed by then.
    window: Option<(Duration, u64)>,
    /// Whether content waited for the network all through the window.
    is_waiting: bool,
}

impl Choice {
    /// Content goes over TCP.
    pub fn new() -> Self {
        Self { moved: None, window: None, is_waiting: true }
    }

    /// Looks at what is known. Time is a `Duration` since any fixed start.
    pub fn look(&mut self, now: Duration, seen: &Seen) -> Turn {
        let (since, placed) = *self.window.get_or_insert((now, seen.placed_bytes));
        self.is_waiting &= seen.is_waiting;
        let elapsed = now.saturating_sub(since);
        let per_second = |bytes: u64| {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
            bytes.saturating_mul(1000) / millis
        };
        let rate = per_second(seen.placed_bytes.saturating_sub(placed));
        let Some((_, before)) = self.moved else {
            let is_lossy = seen.loss() > LOSS_MIN && seen.resent_bytes >= RESENT_MIN_BYTES;
            if !(seen.is_confirmed && is_lossy && seen.rtt > RTT_MIN) {
                return Turn::Stay;
            }
            self.moved = Some((now, rate));
            self.begin_window(now, seen);
            return Turn::ToFlow;
        };
        if elapsed < WINDOW {
            return Turn::Stay;
        }
        let is_worse = self.is_waiting && rate.saturating_mul(100) < before.saturating_mul(WORSE_PERCENT);
        self.begin_window(now, seen);
        if is_worse { Turn::ToTcp } else { Turn::Stay }
    }

    fn begin_window(&mut self, now: Duration, seen: &Seen) {
        self.window = Some((now, seen.placed_bytes));
        self.is_waiting = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lossy() -> Seen {
        Seen {
            is_confirmed: true,
            sent_bytes: 10_000_000,
            resent_bytes: 20_000,
            rtt: Duration::from_millis(80),
            placed_bytes: 0,
            is_waiting: true,
        }
    }

    #[test]
    fn content_moves_when_tcp_loses_on_a_long_path_and_udp_is_proven() {
        assert_eq!(Choice::new().look(SECOND, &lossy()), Turn::ToFlow);

        let blocked = Seen { is_confirmed: false, ..lossy() };
        let clean = Seen { resent_bytes: 9_999, ..lossy() };
        let once = Seen { sent_bytes: 100_000, resent_bytes: 1448, ..lossy() };
        let near = Seen { rtt: RTT_MIN, ..lossy() };
        for seen in [blocked, clean, once, near] {
            assert_eq!(Choice::new().look(SECOND, &seen), Turn::Stay, "{seen:?}");
        }
    }

    /// One second on TCP at 1 MB/s, then five on the flow at `rate`.
    fn after_move(rate: u64, is_waiting: bool) -> Turn {
        let mut choice = Choice::new();
        let waits = Seen { is_confirmed: false, ..lossy() };
        assert_eq!(choice.look(SECOND, &waits), Turn::Stay);
        assert_eq!(choice.look(2 * SECOND, &Seen { placed_bytes: 1_000_000, ..lossy() }), Turn::ToFlow);
        let seen = |placed_bytes| Seen { placed_bytes, is_waiting, ..lossy() };
        assert_eq!(choice.look(6 * SECOND, &seen(1_000_000 + 4 * rate)), Turn::Stay);
        choice.look(7 * SECOND, &seen(1_000_000 + 5 * rate))
    }

    #[test]
    fn a_flow_that_moves_less_than_tcp_did_is_given_up() {
        assert_eq!(after_move(790_000, true), Turn::ToTcp);
        assert_eq!(after_move(810_000, true), Turn::Stay);
    }

    #[test]
    fn a_flow_that_waits_for_content_is_not_blamed() {
        assert_eq!(after_move(1000, false), Turn::Stay);
    }
}
