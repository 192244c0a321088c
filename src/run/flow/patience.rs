//! Decides when a flow is of no use, since nothing is heard on it.

use std::time::Duration;

use crate::limits;

/// A flow on which nothing was heard for so many round trips after its opening is blocked.
const BLOCKED_ROUNDS: u32 = 6;
/// A sender gives a flow beside TCP up when it is silent for so long …
const SILENCE: Duration = Duration::from_millis(600);
/// … or for so many round trips, if that is more.
const SILENT_ROUNDS: u32 = 3;

/// How long an end of a flow waits for the other. protocol.md [FLOW-7]
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// This side has opened the flow.
    pub is_client: bool,
    /// Round trip of the control connection.
    pub path_rtt: Duration,
    /// Round trip of the flow, at a sender whose content can go on over TCP: nobody waits long then.
    pub rtt_beside_tcp: Option<Duration>,
    /// After so long without a sign of life, the peer counts as gone.
    pub idle_timeout: Duration,
}

impl Patience {
    /// Whether the other end has been silent for too long. Times count from the opening of the flow; nothing is missed
    /// while there is no `silent_since`.
    pub fn is_over(
        &self,
        now: Duration,
        last_heard: Option<Duration>,
        silent_since: Option<Duration>,
    ) -> bool {
        match (last_heard, silent_since) {
            (None, _) => now >= blocked_after(self.path_rtt, self.is_client),
            (Some(_), Some(since)) => now.saturating_sub(since) >= self.silence(),
            (Some(_), None) => false,
        }
    }

    fn silence(&self) -> Duration {
        // The server waits longer, so that it is the client who says what is wrong.
        let alone =
            self.idle_timeout + if self.is_client { Duration::ZERO } else { limits::FLOW_BLOCKED_AFTER };
        self.rtt_beside_tcp.map_or(alone, |rtt| SILENCE.max(rtt * SILENT_ROUNDS))
    }
}

/// When a flow is blocked of which nothing was heard yet. The server waits longer, so that it is the client who says what
/// is wrong. protocol.md [FLOW-7]
pub fn blocked_after(path_rtt: Duration, is_client: bool) -> Duration {
    limits::FLOW_BLOCKED_AFTER.max(path_rtt * BLOCKED_ROUNDS) * if is_client { 1 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Patience = Patience {
        is_client: true,
        path_rtt: Duration::from_millis(100),
        rtt_beside_tcp: None,
        idle_timeout: Duration::from_secs(30),
    };

    /// The first millisecond at which it is over; every earlier one is asked too.
    fn over_at(patience: Patience, last_heard_ms: Option<u64>, silent_since_ms: Option<u64>) -> Option<u64> {
        let ms = Duration::from_millis;
        (0..100_000).find(|&now| patience.is_over(ms(now), last_heard_ms.map(ms), silent_since_ms.map(ms)))
    }

    #[test]
    fn a_flow_of_which_nothing_is_heard_is_blocked_after_three_seconds_or_six_round_trips() {
        // protocol.md [FLOW-7]
        let long = Patience { path_rtt: Duration::from_millis(501), ..IDLE };
        let server = |patience| Patience { is_client: false, ..patience };

        assert_eq!(over_at(IDLE, None, None), Some(3000));
        assert_eq!(over_at(long, None, None), Some(3006));
        assert_eq!(over_at(server(IDLE), None, None), Some(6000));
        assert_eq!(over_at(server(long), None, None), Some(6012));
        // What is in flight does not make it sooner, nor does a TCP beside it.
        let beside = Patience { rtt_beside_tcp: Some(Duration::from_millis(10)), ..IDLE };
        assert_eq!(over_at(beside, None, Some(100)), Some(3000));
    }

    #[test]
    fn a_flow_that_was_heard_is_given_up_after_the_idle_time_and_sooner_beside_tcp() {
        // protocol.md [FLOW-7]
        let beside = |rtt_ms| Patience { rtt_beside_tcp: Some(Duration::from_millis(rtt_ms)), ..IDLE };

        assert_eq!(over_at(IDLE, Some(900), Some(1000)), Some(31_000));
        let server = Patience { is_client: false, ..IDLE };
        assert_eq!(over_at(server, Some(900), Some(1000)), Some(34_000), "the client says so first");
        assert_eq!(over_at(beside(10), Some(900), Some(1000)), Some(1600));
        assert_eq!(over_at(beside(200), Some(900), Some(1000)), Some(1600));
        assert_eq!(over_at(beside(201), Some(900), Some(1000)), Some(1603));
    }

    #[test]
    fn a_flow_that_waits_for_nothing_is_never_given_up() {
        // protocol.md [FLOW-7]: only while something is in flight.
        assert_eq!(over_at(IDLE, Some(1000), None), None);
    }
}
