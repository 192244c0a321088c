//! Adds up what the TCP connections of a session have counted, those that have ended included.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    net::TcpInfo,
    transfer::{CONTROL, Carrier},
};

/// The TCP connections of a session.
#[derive(Debug, Default)]
pub struct TcpTally {
    /// The last that the kernel said of those that are there.
    open: BTreeMap<Carrier, TcpInfo>,
    /// Bytes that those sent which have ended, and those of them that they sent again.
    gone_bytes: (u64, u64),
    /// The shortest round trip of the last control connection; zero before it is known.
    control_rtt: Duration,
    figures: Option<TcpFigures>,
}

/// What a connection has counted by its end.
#[derive(Debug, Default)]
pub struct TcpEnd {
    /// What the kernel knows of it, where it says so.
    pub info: Option<TcpInfo>,
    /// Its congestion control.
    pub congestion: Option<String>,
    /// Reads of its socket that brought bytes.
    pub reads: u64,
    /// Those of them after which the decoder stood inside a frame.
    pub reads_inside_frame: u64,
}

/// What the TCP connections of a session did at this end, together. README, JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TcpFigures {
    /// How many there were.
    pub connections: u64,
    /// The congestion control at this end of the one that moved most bytes.
    pub congestion: Option<String>,
    /// Segments sent, those sent again and those without data included.
    pub segments_out: u64,
    /// Segments sent again.
    pub retransmitted_segments: u64,
    /// Bytes sent, those sent again included.
    pub bytes_sent: u64,
    /// Bytes sent again.
    pub retransmitted_bytes: u64,
    /// The smoothed round trip at the end, of the one that moved most bytes, seconds.
    pub rtt_s: Option<f64>,
    /// The shortest round trip of any, seconds.
    pub min_rtt_s: Option<f64>,
    /// Time with something to send, seconds, summed over the connections.
    pub busy_s: f64,
    /// Of it, with the peer's window full.
    pub rwnd_limited_s: f64,
    /// Of it, with this end's send buffer too small.
    pub sndbuf_limited_s: f64,
    /// Segments that the peer told had come twice; `null` where the kernel does not say.
    pub dsack_dups: Option<u64>,
    /// Segments that came out of order, likewise.
    pub out_of_order_in: Option<u64>,
    /// Times that the retransmission timer ran out, likewise.
    pub timeouts: Option<u64>,
    /// Times that it had to recover from that, likewise.
    pub recoveries: Option<u64>,
    /// At the receiver of content: reads of sockets that brought bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<u64>,
    /// Those of them that did not end where a frame ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads_inside_frame: Option<u64>,
    /// What the busiest connection has moved in both directions.
    #[serde(skip)]
    most_bytes: u64,
}

impl TcpTally {
    /// What the kernel knows of a connection that is there.
    pub fn note(&mut self, carrier: Carrier, info: TcpInfo) {
        if carrier == CONTROL {
            self.control_rtt = info.min_rtt;
        }
        self.open.insert(carrier, info);
    }

    /// A connection has ended, or the session does not use it any more.
    pub fn note_end(&mut self, carrier: Carrier, end: TcpEnd) {
        let last = self.open.remove(&carrier);
        let Some(info) = end.info.or(last) else { return };
        self.gone_bytes.0 += info.sent_bytes;
        self.gone_bytes.1 += info.resent_bytes;
        self.figures.get_or_insert_with(TcpFigures::none).add(&info, end);
    }

    /// Bytes that were sent, and those of them that were sent again.
    pub fn bytes(&self) -> (u64, u64) {
        self.open.values().fold(self.gone_bytes, |(sent, resent), info| {
            (sent + info.sent_bytes, resent + info.resent_bytes)
        })
    }

    /// The shortest round trip of the control connection, if one is known.
    pub fn control_rtt(&self) -> Option<Duration> {
        Some(self.control_rtt).filter(|rtt| !rtt.is_zero())
    }

    /// What those that have ended counted together; what only a receiver of content is asked for, if this is one.
    pub fn figures(&self, is_receiver: bool) -> Option<TcpFigures> {
        let mut figures = self.figures.clone()?;
        if !is_receiver {
            figures.reads = None;
            figures.reads_inside_frame = None;
        }
        Some(figures)
    }
}

impl TcpFigures {
    fn none() -> Self {
        Self {
            connections: 0,
            congestion: None,
            segments_out: 0,
            retransmitted_segments: 0,
            bytes_sent: 0,
            retransmitted_bytes: 0,
            rtt_s: None,
            min_rtt_s: None,
            busy_s: 0.0,
            rwnd_limited_s: 0.0,
            sndbuf_limited_s: 0.0,
            dsack_dups: Some(0),
            out_of_order_in: Some(0),
            timeouts: Some(0),
            recoveries: Some(0),
            reads: Some(0),
            reads_inside_frame: Some(0),
            most_bytes: 0,
        }
    }

    fn add(&mut self, info: &TcpInfo, end: TcpEnd) {
        let seconds = |time: Duration| (!time.is_zero()).then_some(time.as_secs_f64());
        let bytes = info.sent_bytes.saturating_add(info.received_bytes);
        if self.connections == 0 || bytes > self.most_bytes {
            self.most_bytes = bytes;
            self.congestion = end.congestion;
            self.rtt_s = seconds(info.srtt);
        }
        self.connections += 1;
        self.segments_out += u64::from(info.sent_segments);
        self.retransmitted_segments += u64::from(info.resent_segments);
        self.bytes_sent += info.sent_bytes;
        self.retransmitted_bytes += info.resent_bytes;
        let min_rtts = [self.min_rtt_s, seconds(info.min_rtt)];
        self.min_rtt_s = min_rtts.into_iter().flatten().reduce(f64::min);
        self.busy_s += info.busy.as_secs_f64();
        self.rwnd_limited_s += info.receiver_limited.as_secs_f64();
        self.sndbuf_limited_s += info.buffer_limited.as_secs_f64();
        add_known(&mut self.dsack_dups, info.told_duplicates);
        add_known(&mut self.out_of_order_in, info.out_of_order);
        add_known(&mut self.timeouts, info.timeouts);
        add_known(&mut self.recoveries, info.timeout_recoveries);
        add_known(&mut self.reads, Some(end.reads));
        add_known(&mut self.reads_inside_frame, Some(end.reads_inside_frame));
    }
}

/// What one connection does not say is not known of all.
fn add_known(total: &mut Option<u64>, more: Option<impl Into<u64>>) {
    *total = total.zip(more).map(|(total, more)| total + more.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(sent_bytes: u64, min_rtt_ms: u64) -> TcpInfo {
        TcpInfo {
            sent_bytes,
            resent_bytes: sent_bytes / 10,
            min_rtt: Duration::from_millis(min_rtt_ms),
            srtt: Duration::from_millis(2 * min_rtt_ms),
            out_of_order: Some(3),
            ..TcpInfo::default()
        }
    }

    fn end(info: TcpInfo, congestion: &str) -> TcpEnd {
        TcpEnd { info: Some(info), congestion: Some(congestion.to_owned()), reads: 5, reads_inside_frame: 2 }
    }

    #[test]
    fn connections_that_are_gone_still_count() {
        let mut tally = TcpTally::default();
        tally.note(CONTROL, info(500, 20));
        tally.note(1, info(50, 30));

        tally.note_end(1, end(info(1000, 30), "cubic"));
        tally.note_end(CONTROL, end(info(700, 20), "reno"));
        // Another connection takes the place of the control connection.
        tally.note(CONTROL, info(200, 40));

        assert_eq!(tally.bytes(), (1900, 190));
        assert_eq!(tally.control_rtt(), Some(Duration::from_millis(40)));
        tally.note_end(CONTROL, TcpEnd::default());
        assert_eq!(tally.bytes(), (1900, 190), "what it was last seen with stays");
        let figures = tally.figures(true).unwrap();
        assert_eq!((figures.connections, figures.bytes_sent), (3, 1900));
        assert_eq!(figures.congestion.as_deref(), Some("cubic"), "of the one with most bytes");
        assert_eq!((figures.rtt_s, figures.min_rtt_s), (Some(0.06), Some(0.02)));
        assert_eq!((figures.reads, figures.reads_inside_frame), (Some(10), Some(4)));
    }

    #[test]
    fn what_is_not_known_of_one_is_not_known_of_all() {
        let mut tally = TcpTally::default();
        tally.note_end(CONTROL, end(info(700, 20), "reno"));
        tally.note_end(1, end(TcpInfo { out_of_order: None, ..info(1, 1) }, "reno"));

        let figures = tally.figures(false).unwrap();

        assert_eq!((figures.out_of_order_in, figures.timeouts), (None, None));
        assert_eq!(figures.reads, None, "a sender of content is not asked");
    }

    #[test]
    fn without_a_word_of_the_kernel_there_are_no_figures() {
        let mut tally = TcpTally::default();

        tally.note_end(CONTROL, TcpEnd { reads: 7, ..TcpEnd::default() });

        assert_eq!(tally.figures(true), None);
        assert_eq!(tally.control_rtt(), None);
    }
}
