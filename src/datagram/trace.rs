//! A flow's diary: what one end did, as lines of JSON.
//!
//! An end keeps one only when it was given one; whoever gave it takes the lines out, or lets the oldest fall out and
//! looks at the rest when something went wrong. Each line is one object:
//!
//! ```text
//! us         time, microseconds on the end's clock
//! end        "sender" or "receiver"
//! event      what happened; it decides what else there is:
//!
//! sent       number, bytes (of the datagram), what (content, copy, probe, mtu, small), in_flight
//! acked      largest, packets and bytes (newly acknowledged), lost (packets declared lost by it), rtt_us (the sample,
//!            or null), and how the flow stands behind it:
//!            srtt_us, min_rtt_us   round-trip times           in_flight, window   bytes
//!            rate                  pacing, bytes a second     mtu                 bytes of a full packet
//!            law, state            of the controller          bandwidth           what it believes in, bytes a second
//!            lost_ppm              its loss that does not come from the rate, packets in a million
//!            credit                what the receiver has granted, bytes
//! lost       number, bytes, age_us (since it was sent)
//! spurious   number: it was declared lost, and has arrived
//! timeout    count (in a row), in_flight
//! moved      to: the address that packets go to from here on
//! received   number, bytes, as (next, ahead, late)
//! ack        number (of the packet that acknowledges), largest, credit
//! closed     reason: the peer has ended the flow
//! forgotten  lines: so many were not taken in time, and are missing
//! ```

use std::{collections::VecDeque, fmt, time::Duration};

/// The last lines of a diary.
#[derive(Clone, Debug)]
pub struct Trace {
    end: &'static str,
    keep: usize,
    lines: VecDeque<String>,
    forgotten: u64,
}

impl Trace {
    /// A diary of an end of this kind that keeps so many lines until they are taken.
    pub(super) fn new(end: &'static str, keep: usize) -> Self {
        Self { end, keep, lines: VecDeque::new(), forgotten: 0 }
    }

    /// Takes the oldest line.
    pub fn poll_line(&mut self) -> Option<String> {
        self.lines.pop_front()
    }

    /// Lines that nobody took in time.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Adds a line that says how many are missing, if any.
    pub fn note_forgotten(&mut self, now: Duration) {
        let lines = self.forgotten;
        if lines > 0 {
            self.note(now, "forgotten", format_args!(r#","lines":{lines}"#));
        }
    }

    /// Something happened; `facts` are further fields, each with a comma in front.
    pub(super) fn note(&mut self, now: Duration, event: &str, facts: fmt::Arguments<'_>) {
        if self.lines.len() >= self.keep {
            self.lines.pop_front();
            self.forgotten += 1;
        }
        let (us, end) = (now.as_micros(), self.end);
        self.lines.push_back(format!(r#"{{"us":{us},"end":"{end}","event":"{event}"{facts}}}"#));
    }
}

/// A number of microseconds or `null`.
pub(super) struct Micros(pub(super) Option<Duration>);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => time.as_micros().fmt(f),
            None => f.write_str("null"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_and_the_oldest_is_forgotten() {
        let mut trace = Trace::new("sender", 2);
        for number in 0..3 {
            trace.note(Duration::from_millis(7), "lost", format_args!(r#","number":{number}"#));
        }

        assert_eq!(trace.forgotten(), 1);
        let line = trace.poll_line().unwrap();
        assert_eq!(line, r#"{"us":7000,"end":"sender","event":"lost","number":1}"#);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["number"], 1);
        assert_eq!(Micros(None).to_string(), "null");
    }
}
