//! The default: a model of the path. BBRv3's skeleton (draft-ietf-ccwg-bbr) with an answer to loss of its own.
//!
//! ```text
//!   Startup ─► Drain ─► Down ─► Cruise ─► Refill ─► Up ─┐         any ─► ProbeRtt ─► Down     (the queue is ours)
//!                        ▲                              │                   │ ▲
//!                        └──────────────────────────────┘                   ▼ │
//!                                                                         Compete             (the queue is others')
//! ```
//!
//! The model is the most that the path delivered lately and the least round trip. Three things differ from the draft:
//! - **Loss** counts only above the baseline that is lost at rates below what the path delivers (`loss`). Random loss is
//!   sent over again and made up for in the pacing rate; a full queue or a policer loses more the faster one sends.
//! - **Queues** of one's own are kept short while cruising: the pacing rate is trimmed as long as there is one.
//! - **Queues of others**, which remain when one's own packets have drained, are met with what builds them: the flow
//!   follows CUBIC until they are gone.

mod bandwidth;
mod loss;
mod phases;
mod rtt;

use std::time::Duration;

use super::cubic::Cubic;
use super::{AckEvent, LostPacket, Snapshot, whole};
use bandwidth::MaxBandwidth;
use loss::{Excess, LossMeter};
use phases::Phase;
use rtt::PathRtt;

/// In flight at most this many bandwidth-delay products (draft-ietf-ccwg-bbr, section 2.5).
const WINDOW_GAIN: f64 = 2.0;
/// Least window, packets (draft-ietf-ccwg-bbr, section 2.7).
const MIN_PACKETS: u64 = 4;
/// One answer to loss takes away no more than this leaves (draft-ietf-ccwg-bbr, section 2.5).
const BETA: f64 = 0.7;
/// Part of what overflowed a queue that is left free (draft-ietf-ccwg-bbr, section 2.5).
const HEADROOM: f64 = 0.15;
/// Longest burst that pacing makes, as time: the window must not cut into it.
const QUANTUM: Duration = Duration::from_millis(1);

/// The controller.
#[derive(Debug)]
pub struct Bbr {
    datagram: u64,
    initial_window: u64,
    bandwidth: MaxBandwidth,
    path: PathRtt,
    loss: LossMeter,
    phase: Phase,
    phase_since: Duration,
    /// Round trips since the phase began.
    phase_rounds: u32,
    rounds: u64,
    /// Deliveries at which the round trip ends.
    round_ends: u64,
    /// The rate that the latest round delivered, bytes a second, and the one that this round has so far.
    latest: u64,
    round_latest: u64,
    /// The newest sample, bytes a second.
    newest: u64,
    smoothed_rtt: Duration,
    ack_interval: Duration,
    in_flight: u64,
    startup: phases::Startup,
    cycle: phases::Cycle,
    probe_rtt: phases::ProbeRtt,
    /// More in flight than this has overflowed a queue.
    inflight_high: Option<u64>,
    /// The law of those whose queue it is.
    rival: Option<Cubic>,
    /// Largest queue seen while competing.
    rival_queue: Duration,
    undo: Option<Undo>,
}

/// The model as it was before a loss was answered.
#[derive(Clone, Copy, Debug)]
struct Undo {
    bandwidth: MaxBandwidth,
    inflight_high: Option<u64>,
    lost_bytes: u64,
    spurious_bytes: u64,
    at: Duration,
}

impl Bbr {
    /// Starts with `window` bytes over a path whose round trip was seen to be `rtt`.
    pub fn new(datagram: u64, window: u64, rtt: Duration) -> Self {
        let mut loss = LossMeter::new(datagram);
        loss.start(Duration::ZERO);
        Self {
            datagram,
            initial_window: window,
            bandwidth: MaxBandwidth::default(),
            path: PathRtt::new(rtt),
            loss,
            phase: Phase::Startup,
            phase_since: Duration::ZERO,
            phase_rounds: 0,
            rounds: 0,
            round_ends: 0,
            latest: 0,
            round_latest: 0,
            newest: 0,
            smoothed_rtt: rtt,
            ack_interval: rtt / 8,
            in_flight: 0,
            startup: phases::Startup::default(),
            cycle: phases::Cycle::default(),
            probe_rtt: phases::ProbeRtt::default(),
            inflight_high: None,
            rival: None,
            rival_queue: Duration::ZERO,
            undo: None,
        }
    }

    /// A packet leaves.
    pub fn on_sent(&mut self, _now: Duration, bytes: u64, in_flight: u64) {
        self.in_flight = in_flight;
        self.loss.on_sent(bytes);
    }

    /// A packet was given up for lost.
    pub fn on_lost(&mut self, now: Duration, packet: &LostPacket) {
        self.loss.on_lost(now, packet);
        if let Some(undo) = &mut self.undo
            && packet.state.sent_at <= undo.at
        {
            undo.lost_bytes += packet.bytes;
        }
        self.compete_on_lost(now, packet);
    }

    /// A packet given up for lost has arrived.
    pub fn on_spurious(&mut self, packet: &LostPacket) {
        self.loss.on_spurious(packet.bytes, packet.state.sent_at);
        if let Some(rival) = &mut self.rival {
            rival.on_spurious(packet);
        }
        let Some(undo) = &mut self.undo else { return };
        undo.spurious_bytes += packet.bytes;
        if 2 * undo.spurious_bytes >= undo.lost_bytes {
            self.bandwidth = undo.bandwidth;
            self.inflight_high = undo.inflight_high;
            self.undo = None;
        }
    }

    /// An acknowledgement came.
    pub fn on_ack(&mut self, now: Duration, ack: &AckEvent) {
        self.smoothed_rtt = ack.smoothed_rtt;
        self.ack_interval = ack.ack_interval;
        self.in_flight = ack.in_flight;
        if let Some(rtt) = ack.rtt {
            self.path.on_sample(now, rtt);
        }
        if self.path.queue() > self.path.threshold() {
            self.loss.on_queue(now, self.smoothed_rtt);
        }
        let round_ended = self.on_rate(now, ack);
        self.on_receiver_drops(now, ack, round_ended);
        self.loss.settle(now, 2 * self.smoothed_rtt, self.bandwidth.max());
        self.advance(now, ack, round_ended);
    }

    /// Datagrams have another size.
    pub fn on_mtu(&mut self, bytes: u64) {
        self.datagram = bytes;
        self.loss.on_mtu(bytes);
        if let Some(rival) = &mut self.rival {
            rival.on_mtu(bytes);
        }
    }

    /// Bytes that may be in flight.
    pub fn window(&self) -> u64 {
        let least = MIN_PACKETS * self.datagram;
        if self.bandwidth.max() == 0 {
            return self.initial_window;
        }
        let window = match (&self.phase, &self.rival) {
            (Phase::ProbeRtt, _) => self.product(phases::PROBE_RTT_GAIN),
            (Phase::Compete, Some(rival)) => rival.window(),
            (Phase::Startup, _) => self.initial_window.max(self.product(WINDOW_GAIN) + self.allowance()),
            _ => self.product(WINDOW_GAIN) + self.allowance(),
        };
        let high = match self.phase {
            // It probes for more than was possible before.
            Phase::Refill | Phase::Up | Phase::Compete => u64::MAX,
            _ => self.inflight_high.unwrap_or(u64::MAX),
        };
        window.min(high).max(least)
    }

    /// Bytes a second.
    pub fn pacing_rate(&self) -> u64 {
        if let (Phase::Compete, Some(rival)) = (&self.phase, &self.rival) {
            return rival.pacing_rate();
        }
        let initial = self.initial_window as f64 / self.path.base().as_secs_f64().max(1e-6);
        if self.bandwidth.max() == 0 {
            return whole(initial);
        }
        let rate = self.gain() * self.send_rate();
        whole(if self.phase == Phase::Startup { rate.max(initial) } else { rate })
    }

    /// What a trace shows.
    pub fn state(&self) -> Snapshot {
        Snapshot {
            state: self.phase.name(),
            bandwidth: self.bandwidth.max(),
            base_rtt: Some(self.path.base()),
            inflight_high: self.inflight_high,
            baseline_loss_ppm: whole(self.loss.baseline() * 1e6),
        }
    }

    /// Bytes a second that have to leave for `bandwidth` to arrive: what the path loses anyway is made up for, or each
    /// round would deliver less than the one before by the loss.
    fn send_rate(&self) -> f64 {
        self.bandwidth.max() as f64 / (1.0 - self.loss.baseline())
    }

    /// Bytes in flight at the send rate and the base round trip, `gain` times.
    fn product(&self, gain: f64) -> u64 {
        whole(gain * self.send_rate() * self.path.base().as_secs_f64())
    }

    /// What acknowledgements that come in intervals, and packets that leave in bursts, keep in flight beside it.
    fn allowance(&self) -> u64 {
        let time = self.ack_interval + QUANTUM;
        whole(self.send_rate() * time.as_secs_f64()) + 2 * self.datagram
    }

    /// Takes in a delivery rate; whether a round trip has ended with it.
    fn on_rate(&mut self, now: Duration, ack: &AckEvent) -> bool {
        let Some(sample) = ack.rate else { return false };
        self.bandwidth.on_sample(sample.rate, sample.is_app_limited);
        self.round_latest = self.round_latest.max(sample.rate);
        self.newest = sample.rate;
        if sample.prior_delivered < self.round_ends {
            return false;
        }
        self.round_ends = sample.prior_delivered + sample.delivered;
        self.rounds += 1;
        self.phase_rounds += 1;
        self.latest = self.round_latest;
        self.round_latest = 0;
        self.loss.start(now);
        true
    }

    /// Datagrams that the receiver's socket dropped are no sign of the path's state: their loss is excused, and the rate
    /// falls to what the receiver takes, round by round, as long as there are more.
    fn on_receiver_drops(&mut self, now: Duration, ack: &AckEvent, round_ended: bool) {
        if ack.receiver_drops == 0 {
            return;
        }
        self.loss.excuse(ack.receiver_drops, now + 2 * self.smoothed_rtt);
        if round_ended {
            self.bandwidth.limit(self.latest);
        }
    }

    /// A stretch lost more than the path does by itself.
    fn on_congestion(&mut self, now: Duration, excess: Excess) {
        self.undo = Some(Undo {
            bandwidth: self.bandwidth,
            inflight_high: self.inflight_high,
            lost_bytes: 0,
            spurious_bytes: 0,
            at: now,
        });
        if excess.is_queued {
            let least = self.product(1.0) + self.allowance();
            self.inflight_high = Some(least.max(whole((1.0 - HEADROOM) * excess.in_flight as f64)));
        } else {
            let least = whole(BETA * self.bandwidth.max() as f64);
            self.bandwidth.limit(self.newest.max(least));
        }
    }
}
