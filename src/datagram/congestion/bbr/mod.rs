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
    /// Until the next probe, no more than this is believed (bw_shortterm of draft-ietf-ccwg-bbr, section 5.5.10.3): a
    /// policer's bucket that has filled up meanwhile lets more through, but not for long.
    bandwidth_short: Option<u64>,
    path: PathRtt,
    loss: LossMeter,
    phase: Phase,
    phase_since: Duration,
    /// Round trips since the phase began.
    phase_rounds: u32,
    rounds: u64,
    /// Deliveries at which the round trip ends.
    round_ends: u64,
    /// The best rate of the latest round, bytes a second, and of this one so far.
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
    /// The round in which drops at the receiver were last answered.
    drops_answered_in: Option<u64>,
    undo: Option<Undo>,
}

/// The model as it was before a loss was answered.
#[derive(Clone, Copy, Debug)]
struct Undo {
    bandwidth: MaxBandwidth,
    inflight_high: Option<u64>,
    lost_bytes: u64,
    spurious_bytes: u64,
    /// When the packets were sent whose loss was answered.
    since: Duration,
    until: Duration,
}

impl Undo {
    fn covers(&self, packet: &LostPacket) -> bool {
        (self.since..=self.until).contains(&packet.state.sent_at)
    }
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
            bandwidth_short: None,
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
            drops_answered_in: None,
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
            && undo.covers(packet)
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
        if !undo.covers(packet) {
            return;
        }
        undo.spurious_bytes += packet.bytes;
        // With half of it gone, what is left is no more than chance and the tolerance.
        if 2 * undo.spurious_bytes >= undo.lost_bytes {
            self.bandwidth = undo.bandwidth;
            self.bandwidth_short = None;
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
        self.on_receiver_drops(now, ack);
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
        let believed = sample.rate.min(self.bandwidth_short.unwrap_or(u64::MAX));
        self.bandwidth.on_sample(believed, sample.is_app_limited);
        if !sample.is_app_limited {
            self.newest = sample.rate;
        }
        self.round_latest = self.round_latest.max(sample.rate);
        if sample.prior_delivered < self.round_ends {
            return false;
        }
        self.round_ends = sample.prior_delivered + sample.delivered;
        self.rounds += 1;
        self.latest = self.round_latest;
        self.round_latest = 0;
        self.phase_rounds += 1;
        self.loss.start(now);
        true
    }

    /// Datagrams that the receiver's socket dropped are no sign of the path's state: their loss is excused, and the rate
    /// falls to what the receiver takes, round by round, as long as there are more. protocol.md [CONG-7]
    fn on_receiver_drops(&mut self, now: Duration, ack: &AckEvent) {
        if ack.receiver_drops == 0 {
            return;
        }
        self.loss.excuse(ack.receiver_drops, now + 2 * self.smoothed_rtt);
        if self.drops_answered_in != Some(self.rounds) {
            self.drops_answered_in = Some(self.rounds);
            self.limit_bandwidth(self.newest);
        }
    }

    /// What arrives is what can be had; but one answer does not take all on the word of one sample.
    fn limit_bandwidth(&mut self, rate: u64) {
        let least = whole(BETA * self.bandwidth.max() as f64);
        self.bandwidth.limit(rate.max(least));
    }

    /// A stretch lost more than the path does by itself.
    fn on_congestion(&mut self, now: Duration, excess: Excess) {
        self.undo = Some(Undo {
            bandwidth: self.bandwidth,
            inflight_high: self.inflight_high,
            lost_bytes: whole(excess.lost) * self.datagram,
            spurious_bytes: 0,
            since: excess.since,
            until: now,
        });
        if excess.is_queued {
            let least = self.product(1.0) + self.allowance();
            self.inflight_high = Some(least.max(whole((1.0 - HEADROOM) * excess.in_flight as f64)));
        } else {
            self.limit_bandwidth(self.newest);
            // A burst of chance may have spoilt the newest sample, but seldom the best one of a round.
            self.bandwidth_short = Some(self.bandwidth.max().max(self.latest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::RateSample;
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// An acknowledgement that measured this rate, each in a round of its own.
    fn measured(number: u64, rate: u64) -> AckEvent {
        let sample = RateSample {
            rate,
            prior_delivered: number * 1000,
            delivered: 1000,
            lost: 0,
            interval: RTT,
            in_flight: 0,
            is_app_limited: false,
        };
        AckEvent { rate: Some(sample), rtt: Some(RTT), in_flight: 0, ..AckEvent::plain(1000, 0) }
    }

    /// In steady state at a megabyte a second.
    fn cruising() -> (Bbr, u64) {
        let mut bbr = Bbr::new(1000, 32_000, RTT);
        let mut number = 0;
        while bbr.phase != Phase::Cruise {
            number += 1;
            bbr.on_ack(at(100 * number), &measured(number, 1_000_000));
        }
        (bbr, number)
    }

    #[test]
    fn who_has_less_probes_sooner() {
        let rounds = |rate: u64| {
            let mut bbr = Bbr::new(1000, 32_000, RTT);
            let mut number = 0;
            let mut cruised = 0;
            while bbr.phase != Phase::Refill || number < 100 {
                number += 1;
                bbr.on_ack(at(100 * number), &measured(number, rate));
                cruised = if bbr.phase == Phase::Cruise { cruised + 1 } else { cruised };
                cruised = if bbr.phase == Phase::Down { 0 } else { cruised };
            }
            cruised
        };

        assert!(2 * rounds(320_000) < rounds(5_120_000), "{} {}", rounds(320_000), rounds(5_120_000));
    }

    #[test]
    fn the_first_window_is_paced_over_a_round_trip() {
        let bbr = Bbr::new(1000, 32_000, RTT);

        assert_eq!(bbr.window(), 32_000);
        assert_eq!(bbr.pacing_rate(), 320_000);
    }

    #[test]
    fn cruising_sends_what_arrives() {
        let (bbr, _) = cruising();

        assert_eq!(bbr.pacing_rate(), 1_000_000);
        assert!((200_000..230_000).contains(&bbr.window()), "{}", bbr.window());
    }

    /// Sends a round trip's worth at `start_ms` and loses a fifth of it, packet by packet.
    fn lose_a_fifth(bbr: &mut Bbr, start_ms: u64) {
        bbr.loss.start(at(start_ms));
        for n in 0..100 {
            bbr.on_sent(at(start_ms + n), 1000, 100_000);
        }
        bbr.loss.start(at(start_ms + 100));
        for _ in 0..20 {
            bbr.on_lost(at(start_ms + 110), &LostPacket::sent_at(at(start_ms)));
        }
    }

    #[test]
    fn loss_without_a_queue_lowers_the_rate_to_what_arrived() {
        let (mut bbr, number) = cruising();
        lose_a_fifth(&mut bbr, 100 * number);
        bbr.on_ack(at(100 * (number + 2)), &measured(number + 1, 800_000));

        assert_eq!(bbr.bandwidth.max(), 800_000);
        assert_eq!(bbr.phase, Phase::Down);
    }

    #[test]
    fn what_a_policers_bucket_lets_through_is_not_believed_before_the_next_probe() {
        let (mut bbr, mut number) = cruising();
        lose_a_fifth(&mut bbr, 100 * number);
        number += 1;
        bbr.on_ack(at(100 * (number + 1)), &measured(number, 800_000));
        while bbr.phase != Phase::Refill {
            assert_eq!(bbr.bandwidth.max(), 800_000);
            number += 1;
            bbr.on_ack(at(100 * (number + 1)), &measured(number, 900_000));
        }

        bbr.on_ack(at(100 * (number + 2)), &measured(number + 1, 900_000));
        assert_eq!(bbr.bandwidth.max(), 900_000);
    }

    #[test]
    fn one_answer_never_takes_more_than_thirty_percent() {
        let (mut bbr, number) = cruising();
        lose_a_fifth(&mut bbr, 100 * number);
        bbr.on_ack(at(100 * (number + 2)), &measured(number + 1, 100_000));

        assert_eq!(bbr.bandwidth.max(), 700_000);
    }

    #[test]
    fn an_answer_to_loss_that_was_none_is_taken_back() {
        let (mut bbr, number) = cruising();
        lose_a_fifth(&mut bbr, 100 * number);
        bbr.on_ack(at(100 * (number + 2)), &measured(number + 1, 800_000));
        for _ in 0..9 {
            bbr.on_spurious(&LostPacket::sent_at(at(100 * number)));
        }
        assert_eq!(bbr.bandwidth.max(), 800_000, "more than half of it is still believed");

        bbr.on_spurious(&LostPacket::sent_at(at(100 * number)));
        assert_eq!(bbr.bandwidth.max(), 1_000_000);
    }

    #[test]
    fn rounds_that_do_not_grow_end_startup_at_once_with_a_queue_and_late_without() {
        let rounds = |rtt: Duration| {
            let mut bbr = Bbr::new(1000, 32_000, RTT);
            bbr.on_ack(at(100), &measured(1, 1_000_000));
            bbr.on_ack(at(200), &measured(2, 1_000_000));
            let mut rounds = 1;
            while bbr.phase == Phase::Startup {
                rounds += 1;
                let number = 1 + rounds;
                let slow = AckEvent { rtt: Some(rtt), ..measured(number, 1_000_000) };
                bbr.on_ack(at(100 * number), &slow);
            }
            rounds
        };

        assert_eq!(rounds(RTT * 2), 2);
        assert_eq!(rounds(RTT), 8);
    }

    #[test]
    fn loss_among_arrivals_ends_startup() {
        let mut bbr = Bbr::new(1000, 32_000, RTT);
        bbr.on_ack(at(100), &measured(1, 200_000));
        for ms in 0..8 {
            bbr.on_ack(at(200 + ms), &AckEvent::plain(2000, 3000));
        }

        assert_eq!(bbr.phase, Phase::Drain);
    }

    /// The client's address has changed under a download: 19 of the first 24 packets go nowhere, and one small packet is
    /// acknowledged then. Startup ended with it, at a rate that three packets had measured: 46 of 1250 kB/s.
    #[test]
    fn a_moment_without_a_path_does_not_end_startup() {
        let mut bbr = Bbr::new(1200, 38_400, RTT);
        bbr.on_ack(at(100), &AckEvent { acked_bytes: 3600, ..measured(1, 62_803) });
        bbr.on_ack(at(200), &AckEvent { acked_bytes: 38, lost_bytes: 19 * 1200, ..AckEvent::plain(0, 0) });

        assert_eq!(bbr.phase, Phase::Startup);
        assert_eq!(bbr.window(), 38_400);
    }

    #[test]
    fn what_the_receivers_socket_drops_is_excused_while_the_rate_falls() {
        let (mut bbr, number) = cruising();
        let drops = AckEvent { receiver_drops: 20, ..measured(number + 1, 800_000) };
        bbr.on_ack(at(100 * (number + 1)), &drops);
        lose_a_fifth(&mut bbr, 100 * (number + 1));
        bbr.on_ack(at(100 * (number + 3)), &measured(number + 2, 800_000));

        assert_eq!(bbr.bandwidth.max(), 800_000, "the receiver takes no more");
        assert_ne!(bbr.phase, Phase::Down, "the path is not to blame");
    }
}
