//! What a person would measure of a simulated flow.

use std::time::Duration;

use super::{
    flows::{Flows, STARTUP_ROUNDS},
    lane::LaneReport,
};
use crate::link::LinkConfig;

/// Content of a full packet over Ethernet, and what it takes of the line with everything around it.
const PAYLOAD_BYTES: f64 = 1400.0;
const FRAME_BYTES: f64 = 1518.0;
/// Round trips of a whole session that a flow alone does not have: before its first packet one to connect, two for TLS
/// and both proofs, one to open the flow; behind its last byte half a one each for the outcome, the sender's end and
/// the last word.
pub const SESSION_ROUNDS: f64 = 5.5;

/// New bytes by the time of their arrival, in steps of a millisecond.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    steps: Vec<u32>,
    total: u64,
}

impl Curve {
    /// Bytes arrived.
    pub fn add(&mut self, at: Duration, bytes: u64) {
        let step = step(at);
        if self.steps.len() <= step {
            self.steps.resize(step + 1, 0);
        }
        self.steps[step] += u32::try_from(bytes).expect("what arrives in a millisecond");
        self.total += bytes;
    }

    /// All bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that arrived at `from` or later and before `to`, to the millisecond.
    pub fn between(&self, from: Duration, to: Duration) -> u64 {
        let (from, to) = (step(from).min(self.steps.len()), step(to).min(self.steps.len()));
        self.steps[from.min(to)..to].iter().map(|&bytes| u64::from(bytes)).sum()
    }
}

fn step(at: Duration) -> usize {
    usize::try_from(at.as_millis()).expect("a simulated time")
}

/// Bytes a second that the link can carry at most, of content.
pub fn ideal_rate(link: &LinkConfig) -> f64 {
    let bits_per_s = link.bottleneck.as_ref().map_or(0.0, |line| line.bits_per_s as f64);
    let loss = link.loss.as_ref().map_or(0.0, |loss| loss.share.as_fraction());
    bits_per_s / 8.0 * (1.0 - loss) * PAYLOAD_BYTES / FRAME_BYTES
}

/// One flow alone on a link.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Whether all of its content arrived in time; if not, shares are of the time that it had.
    pub is_done: bool,
    /// From the 20th round trip after the first content to the last new byte, as a part of the ideal.
    pub steady: f64,
    /// From the command's start to its end, as a part of the ideal; see [`SESSION_ROUNDS`].
    pub whole: f64,
    /// Content sent, repetitions included, as a multiple of the file.
    pub payload: f64,
    /// Bytes of IP packets in both directions that are not content, as a part of the content sent.
    pub overhead: f64,
    /// Packets declared lost that had arrived, as a part of all.
    pub spurious: f64,
    /// Mean delay of the link's queue after start-up, in round trips of the link without queue.
    pub queue_rounds: f64,
    /// Packets that the link lost after start-up, as a part of all.
    pub loss: f64,
    /// From the first content to the last new byte, in round trips.
    pub rounds: f64,
    /// Probe timeouts.
    pub timeouts: f64,
    /// Times that an end woke itself and found nothing to do, for each packet.
    pub idle_wakes: f64,
}

impl Figures {
    /// The figures of the first lane of a run over this link; `bytes` is its file.
    pub fn of(flows: &Flows, link: &LinkConfig, bytes: u64) -> Self {
        let report: &LaneReport = &flows.reports()[0];
        let rtt = link.rtt.as_secs_f64();
        let ideal = ideal_rate(link);
        let begin = report.first_content.unwrap_or_default();
        let end = if report.is_done { report.last_arrival } else { flows.now() };
        let settled = begin + link.rtt * STARTUP_ROUNDS;
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let sent = report.sent;
        let packets = sent.packets.max(1) as f64;
        let got = report.curve.total() as f64;
        Self {
            is_done: report.is_done,
            steady: report.curve.between(settled, end) as f64 / seconds(settled, end).max(1e-3) / ideal,
            whole: got / (seconds(begin, end) + SESSION_ROUNDS * rtt) / ideal,
            payload: sent.payload_bytes as f64 / bytes as f64,
            overhead: (report.wire_bytes - sent.payload_bytes) as f64 / sent.payload_bytes.max(1) as f64,
            spurious: sent.spurious as f64 / packets,
            queue_rounds: flows.settled().queue_delay().as_secs_f64() / rtt.max(1e-6),
            loss: flows.settled().loss(flows.counters()),
            rounds: seconds(begin, end) / rtt.max(1e-6),
            timeouts: sent.timeouts as f64,
            idle_wakes: report.idle_wakes as f64 / packets,
        }
    }
}

/// Jain's index of shares: 1 if all are equal, 1/n if one has everything.
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares).max(f64::MIN_POSITIVE)
}

/// The middle one.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_curve_counts_what_came_between_two_times() {
        let mut curve = Curve::default();
        for ms in 0..10 {
            curve.add(ms * MS, 100);
        }

        assert_eq!(curve.between(3 * MS, 5 * MS), 200);
        assert_eq!(curve.between(Duration::ZERO, 100 * MS), curve.total());
        assert_eq!(curve.between(50 * MS, 60 * MS), 0);
    }

    #[test]
    fn the_ideal_is_what_is_left_of_the_line_after_headers_and_loss() {
        let ideal = |spec: &str| ideal_rate(&spec.parse().unwrap()).round();

        assert_eq!(ideal("rtt=1s,rate=1518kbit"), 175_000.0);
        assert_eq!(ideal("rtt=1s,rate=1518kbit,loss=10%"), 157_500.0);
    }

    #[test]
    fn equal_shares_have_an_index_of_one() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0]) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn the_median_is_the_middle_value() {
        assert_eq!(median([5.0, 1.0, 3.0]), 3.0);
        assert!(median([]).is_nan());
    }
}
