//! Knows when something of the peer came last, and over what, so that silence of TCP alone is told from silence of the
//! path. Pure: whoever hears says when.

use std::time::{Duration, Instant};

use crate::limits;

/// When something of the peer came last, and over what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// Over TCP, on any connection; the session's start before that.
    tcp: Instant,
    /// Over UDP, on a flow of any kind.
    udp: Option<Instant>,
    /// Between which times the flow was heard without a silence of `limits::FLOW_FRESH`.
    flow: Option<(Instant, Instant)>,
}

impl Heard {
    /// A session starts.
    pub const fn new(now: Instant) -> Self {
        Self { tcp: now, udp: None, flow: None }
    }

    /// Something came on a connection.
    pub fn on_tcp(&mut self, at: Instant) {
        self.tcp = self.tcp.max(at);
    }

    /// Something came on a flow of any kind.
    pub fn on_udp(&mut self, at: Instant) {
        self.udp = self.udp.max(Some(at));
    }

    /// Something came on the flow.
    pub fn on_flow(&mut self, at: Instant) {
        self.on_udp(at);
        self.flow = match self.flow {
            Some((since, last)) if at.saturating_duration_since(last) < limits::FLOW_FRESH => {
                Some((since, last.max(at)))
            }
            _ => Some((at, at)),
        };
    }

    /// For how long nothing came, over TCP or UDP.
    pub fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.udp.map_or(self.tcp, |udp| udp.max(self.tcp)))
    }

    /// For how long nothing came on any connection, whatever its flow brings.
    pub fn tcp_silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.tcp)
    }

    /// Whether the flow is not silent.
    pub fn flow_is_fresh(&self, now: Instant) -> bool {
        self.flow.is_some_and(|(_, last)| now.saturating_duration_since(last) < limits::FLOW_FRESH)
    }

    /// For how long the flow was heard behind the last byte of a control connection, which came at `control`; zero where
    /// the flow is silent. Where both are silent, the path is, and that says nothing about the connection.
    /// protocol.md [REJOIN-3]
    pub fn flow_alone_for(&self, now: Instant, control: Instant) -> Duration {
        match self.flow {
            Some((since, last)) if self.flow_is_fresh(now) => {
                last.saturating_duration_since(since.max(control))
            }
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::clock, *};

    #[test]
    fn who_is_heard_over_udp_alone_is_not_silent() {
        // protocol.md [RESUME-4]
        for on in [Heard::on_udp, Heard::on_flow] {
            let start = clock::now();
            let mut heard = Heard::new(start);

            on(&mut heard, start + s(5.0));

            assert_eq!(heard.silent_for(start + s(7.0)), s(2.0));
            assert_eq!(heard.tcp_silent_for(start + s(7.0)), s(7.0));
        }
    }

    #[test]
    fn what_is_told_late_takes_nothing_back() {
        let start = clock::now();
        let mut heard = Heard::new(start);

        for on in [Heard::on_tcp, Heard::on_udp, Heard::on_flow] {
            on(&mut heard, start + s(5.0));
            on(&mut heard, start + s(4.0));
        }

        assert_eq!(heard.silent_for(start + s(5.0)), s(0.0));
        assert_eq!(heard.tcp_silent_for(start + s(5.0)), s(0.0));
        assert_eq!(heard.flow, Some((start + s(5.0), start + s(5.0))));
    }

    #[test]
    fn a_flow_is_silent_after_three_seconds() {
        let path = Path::new().flow(0.0, 1.0);

        assert!(path.heard.flow_is_fresh(path.at(3.999)));
        assert!(!path.heard.flow_is_fresh(path.at(4.0)));
        assert!(!Path::new().heard.flow_is_fresh(path.at(0.0)), "there is none");
    }

    #[test]
    fn a_control_connection_that_is_silent_alone_is_lost() {
        let path = Path::new().flow(0.0, 20.0);

        assert_eq!(path.alone_at(20.0, 1.0), s(19.0));
        assert_eq!(path.alone_at(20.0, 19.5), s(0.5));
    }

    #[test]
    fn a_control_connection_is_not_lost_while_the_whole_path_is_silent() {
        // The last byte of TCP is one heartbeat older than the last datagram.
        let path = Path::new().flow(0.0, 4.0);

        for tenth in 40..300 {
            assert!(path.alone_at(f64::from(tenth) / 10.0, 3.0) <= s(1.0), "{tenth}");
        }
    }

    #[test]
    fn a_control_connection_has_the_time_behind_a_blackout_to_come_back() {
        for dark in [4.0, 7.0, 8.0, 25.0] {
            let again = 4.0 + dark;
            let path = Path::new().flow(0.0, 4.0).flow(again, again + 2.9);

            assert_eq!(path.alone_at(again + 2.9, 3.0), s(2.9), "{dark}");
        }
    }

    #[test]
    fn a_control_connection_that_stays_silent_behind_a_blackout_is_lost_with_time_left_to_dial() {
        let path = Path::new().flow(0.0, 4.0).flow(12.0, 15.0);

        let alone = path.alone_at(15.0, 3.0);

        assert!(alone >= limits::REJOIN_AFTER);
        assert!(alone <= limits::REJOIN_WITHIN - s(5.0), "the dark seconds do not count");
    }

    #[test]
    fn a_flow_that_has_gone_silent_was_not_heard_alone() {
        let path = Path::new().flow(0.0, 10.0);

        assert_eq!(path.alone_at(12.9, 1.0), s(9.0));
        assert_eq!(path.alone_at(13.0, 1.0), s(0.0));
    }

    /// What a flow brings, seconds from the start.
    struct Path {
        start: Instant,
        heard: Heard,
    }

    impl Path {
        fn new() -> Self {
            let start = clock::now();
            Self { start, heard: Heard::new(start) }
        }

        /// A datagram each tenth of a second, and at the end.
        fn flow(mut self, from: f64, to: f64) -> Self {
            let mut at = self.at(from);
            while at < self.at(to) {
                self.heard.on_flow(at);
                at += s(0.1);
            }
            self.heard.on_flow(self.at(to));
            self
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + s(seconds)
        }

        /// With the last byte of the control connection at `control`.
        fn alone_at(&self, now: f64, control: f64) -> Duration {
            self.heard.flow_alone_for(self.at(now), self.at(control))
        }
    }

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }
}
