//! What the flow does at which time: the states of BBR and what leads from one to the next.

use std::time::Duration;

use super::super::cubic::Cubic;
use super::super::{AckEvent, LostPacket};
use super::{Bbr, loss};

/// Pacing gains (draft-ietf-ccwg-bbr, section 2.4; Down drains faster than there, to be out of one's own queue within a
/// round trip or two). Startup nearly triples the rate in a round trip: protocol.md [CONG-4].
const STARTUP_GAIN: f64 = 2.77;
const DRAIN_GAIN: f64 = 0.5;
const DOWN_GAIN: f64 = 0.85;
/// Down, when loss asks for a comparison: a policer's bucket makes the path look up to a third faster than it is, and
/// the rate must be below the true one all the same.
const DEEP_DOWN_GAIN: f64 = 0.7;
const UP_GAIN: f64 = 1.25;
/// Cruising with a queue: slower by this part for each base round trip of queue, but not by more than the second.
const TRIM_SLOPE: f64 = 0.5;
const TRIM_MAX: f64 = 0.2;
/// In flight while looking at the round trip, bandwidth-delay products.
pub const PROBE_RTT_GAIN: f64 = 0.75;

/// A round of Startup that grew less than this found the limit (draft-ietf-ccwg-bbr, section 5.3.1.2).
const STARTUP_GROWTH: f64 = 1.25;
/// Startup sends 2.77 times what arrives, so that a rate which is too high loses less than so many packets for each that
/// arrives. An acknowledgement that tells of more (and of more than a few) tells of a moment without any path, which says
/// nothing about its rate; draft-ietf-ccwg-bbr, section 5.3.1.3, asks for losses in six places to the same end.
const EXPLAINED: u64 = 2;
/// So many such rounds end it if no queue shows that the pipe is full. The draft has three; but who sends 2.77 times what
/// the path carries sees a queue or loss at once, and three rounds without either are what a machine makes that was busy
/// with something else for a moment.
const FLAT_ROUNDS: u32 = 8;

/// How long to cruise: as in the draft (section 5.3.3.5) two to three seconds, but not so few round trips that probing
/// costs more than it finds.
const CRUISE_MIN: Duration = Duration::from_secs(2);
const CRUISE_SPREAD_MS: u64 = 1000;
const CRUISE_ROUNDS: u32 = 16;
/// That is for a flow with so many packets in flight; one with more or less waits longer or shorter, within these bounds.
const PATIENT_PACKETS: f64 = 128.0;
const PATIENCE_MIN: f64 = 0.35;
const PATIENCE_MAX: f64 = 2.0;
/// Futile probes stretch the wait by two to this power at most.
const MAX_FUTILE: u32 = 6;
/// One Up takes no more than so many steps while there is a queue: what it gains there, others lose.
const CONTENDED_GAINS: u32 = 1;
/// After a probe that found more.
const GAINED_ROUNDS: u32 = 8;
/// So many rounds behind a long queue are no passing burst.
const LONG_ROUNDS: u32 = 8;
/// Up goes on while a round delivers this much more than the last.
const UP_GROWTH: f64 = 1.03;
/// Drain ends after so many rounds at the latest: what is there then isn't its own.
const DRAIN_ROUNDS: u32 = 4;
/// Down ends after so many rounds at the latest.
const DOWN_ROUNDS: u32 = 4;

/// Without a look at the empty queue for this long, the flow makes one (draft-ietf-ccwg-bbr, section 2.6).
const PROBE_RTT_INTERVAL: Duration = Duration::from_secs(5);
/// The same, while competing: a look costs some of the share.
const COMPETE_INTERVAL: Duration = Duration::from_secs(10);
/// How long to look, at least.
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);

/// The state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Doubles each round trip until the pipe is full.
    Startup,
    /// Lets Startup's queue run empty.
    Drain,
    /// Lets Up's queue run empty, and finds out what is lost at a lower rate.
    Down,
    /// Sends what the path delivers.
    Cruise,
    /// Fills the pipe before Up, so that what Up loses is Up's.
    Refill,
    /// Sends more, to see whether more arrives.
    Up,
    /// Takes its own packets out of the queue, to see what remains.
    ProbeRtt,
    /// Follows CUBIC among others whose queue it is.
    Compete,
}

impl Phase {
    /// As a trace shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Drain => "drain",
            Self::Down => "down",
            Self::Cruise => "cruise",
            Self::Refill => "refill",
            Self::Up => "up",
            Self::ProbeRtt => "probe-rtt",
            Self::Compete => "compete",
        }
    }
}

/// What Startup has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Startup {
    /// The bandwidth at the last round that grew, bytes a second.
    full: u64,
    /// Rounds in a row that did not.
    flat: u32,
    /// Bytes acknowledged and lost in this round.
    delivered: u64,
    lost: u64,
}

/// Where the probing cycle is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cycle {
    /// How long this one cruises.
    cruise: Duration,
    /// What was delivered before the latest round of Up.
    before: u64,
    /// When Up began, or was last found to be of use.
    judged_at: Duration,
    /// Down is an experiment on loss.
    is_deep: bool,
    /// The bandwidth was found in haste, or lowered for a loss that may have been chance: probe soon.
    is_unsure: bool,
    /// How often the last Up found that it gained.
    gains: u32,
    /// How often in a row probing found nothing but loss: each time, the next probe waits twice as long.
    futile: u32,
    /// Rounds in a row behind a long queue.
    long_rounds: u32,
    /// Draws the cruising time; any number does.
    dice: u64,
}

/// A look at the round trip.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProbeRtt {
    /// When it last ended.
    ended_at: Duration,
    /// When the window had drained.
    drained: Option<Duration>,
    /// When round trips began to count.
    counting: Option<Duration>,
    /// Bytes in flight before.
    before: u64,
}

impl Bbr {
    /// The pacing gain.
    pub(super) fn gain(&self) -> f64 {
        match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Drain => DRAIN_GAIN,
            Phase::Down if self.cycle.is_deep => DEEP_DOWN_GAIN,
            Phase::Down => DOWN_GAIN,
            Phase::Up => UP_GAIN,
            Phase::Cruise => 1.0 - self.trim(),
            Phase::Refill | Phase::ProbeRtt | Phase::Compete => 1.0,
        }
    }

    /// By how much cruising is slowed down so that a queue runs empty: the more, the longer it is.
    fn trim(&self) -> f64 {
        let queue = self.path.queue().saturating_sub(self.path.threshold() / 2);
        (TRIM_SLOPE * queue.as_secs_f64() / self.path.base().as_secs_f64()).min(TRIM_MAX)
    }

    /// Moves on from state to state.
    pub(super) fn advance(&mut self, now: Duration, ack: &AckEvent, round_ended: bool) {
        match self.phase {
            Phase::Startup => self.in_startup(now, ack, round_ended),
            Phase::Drain if self.in_flight <= self.product(1.0) || self.phase_rounds >= DRAIN_ROUNDS => {
                self.go(now, Phase::Down);
            }
            Phase::Down => self.in_down(now),
            Phase::Cruise => self.in_cruise(now),
            // A queue that stands although this flow trims has another builder: Up would only overflow it.
            Phase::Refill
                if self.phase_rounds >= 1 && self.path.round_queue() > self.path.threshold() * 3 =>
            {
                self.bandwidth.start_cycle();
                self.go(now, Phase::Down);
            }
            Phase::Refill if self.phase_rounds >= 1 => {
                self.cycle.before = self.bandwidth.max();
                self.cycle.judged_at = now;
                self.go(now, Phase::Up);
            }
            Phase::Up => self.in_up(now, round_ended),
            Phase::ProbeRtt => self.in_probe_rtt(now, ack),
            Phase::Compete => self.in_compete(now, ack),
            Phase::Drain | Phase::Refill => {}
        }
        if !matches!(self.phase, Phase::Startup | Phase::Drain | Phase::ProbeRtt | Phase::Compete) {
            self.check_loss(now);
            self.check_base(now);
        }
        if round_ended {
            self.forget_faster_times();
            self.path.start_round();
        }
    }

    /// Behind a long queue, what arrives is what the path has for this flow. When that stays below what is believed, the
    /// path has become slower, and waiting for the filter to forget would only keep the queue up.
    fn forget_faster_times(&mut self) {
        let is_long = self.path.round_queue() > self.path.base() * 3 / 4;
        let is_steady = matches!(self.phase, Phase::Down | Phase::Cruise);
        self.cycle.long_rounds = if is_long && is_steady { self.cycle.long_rounds + 1 } else { 0 };
        if self.cycle.long_rounds >= LONG_ROUNDS {
            self.limit_bandwidth(self.latest);
        }
    }

    /// While competing, a loss is answered as CUBIC does, unless the queue is far from full.
    pub(super) fn compete_on_lost(&mut self, now: Duration, packet: &LostPacket) {
        let is_full = self.path.queue() >= self.rival_queue / 2;
        if let Some(rival) = &mut self.rival
            && is_full
        {
            rival.on_lost(now, packet);
        }
    }

    fn go(&mut self, now: Duration, phase: Phase) {
        if phase == Phase::Drain {
            self.cycle.is_unsure = true;
        }
        if phase == Phase::Down {
            self.cycle.is_deep = self.loss.has_unexplained();
        }
        if matches!(phase, Phase::Refill | Phase::Compete) {
            self.bandwidth_short = None;
        }
        self.phase = phase;
        self.phase_since = now;
        self.phase_rounds = 0;
        self.loss.start(now);
    }

    fn in_startup(&mut self, now: Duration, ack: &AckEvent, round_ended: bool) {
        self.startup.delivered += ack.acked_bytes;
        self.startup.lost += ack.lost_bytes.min(EXPLAINED * ack.acked_bytes + EXPLAINED * self.datagram);
        // More loss than is ever put up with: something drops most of what is sent, be there a queue or not.
        let sent = (self.startup.delivered + self.startup.lost) as f64 / self.datagram as f64;
        let lost = self.startup.lost as f64 / self.datagram as f64;
        if lost > loss::allowed(sent, loss::BASELINE_MAX) {
            self.cycle.futile = 1;
            self.go(now, Phase::Drain);
            return;
        }
        if !round_ended || ack.rate.is_some_and(|sample| sample.is_app_limited) {
            return;
        }
        let startup = &mut self.startup;
        startup.delivered = 0;
        startup.lost = 0;
        if self.bandwidth.max() as f64 >= STARTUP_GROWTH * startup.full as f64 {
            startup.full = self.bandwidth.max();
            startup.flat = 0;
            return;
        }
        startup.flat += 1;
        let is_full = self.path.round_queue() > self.path.threshold();
        if startup.flat >= FLAT_ROUNDS || is_full {
            self.go(now, Phase::Drain);
        }
    }

    fn in_down(&mut self, now: Duration) {
        let is_drained = self.in_flight <= self.product(1.0) && self.phase_rounds >= 1;
        let is_confirmed = self.path.confirmed_at() >= self.phase_since;
        let is_known = !self.loss.has_unexplained() || self.loss.evidence() >= loss::BASELINE_PACKETS;
        if (is_drained && is_confirmed && is_known) || self.phase_rounds >= DOWN_ROUNDS {
            self.cycle.dice =
                self.cycle.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(self.latest | 1);
            let spread = Duration::from_millis((self.cycle.dice >> 33) % CRUISE_SPREAD_MS);
            let rounds = self.path.base() * CRUISE_ROUNDS;
            let long = rounds.max(CRUISE_MIN + spread).mul_f64(self.patience());
            let short = (rounds * (1 << self.cycle.futile.min(MAX_FUTILE))).min(long);
            self.cycle.cruise = if self.cycle.gains > 0 {
                self.path.base() * GAINED_ROUNDS
            } else if self.cycle.is_unsure {
                short
            } else {
                long
            };
            self.cycle.is_unsure = false;
            self.cycle.gains = 0;
            self.go(now, Phase::Cruise);
        }
    }

    /// How long the wait for the next probe is stretched: each probe gains the same part of the rate, so that a flow which
    /// waits the longer the more it has leaves room to those that have less. The draft does the same by counting round
    /// trips up to the number of packets in flight (section 5.3.3.5).
    fn patience(&self) -> f64 {
        let packets = self.product(1.0) as f64 / self.datagram as f64;
        (packets / PATIENT_PACKETS).sqrt().clamp(PATIENCE_MIN, PATIENCE_MAX)
    }

    fn in_cruise(&mut self, now: Duration) {
        if now.saturating_sub(self.phase_since) >= self.cycle.cruise {
            self.go(now, Phase::Refill);
        }
    }

    fn in_up(&mut self, now: Duration, round_ended: bool) {
        let has_queue = self.path.queue() > self.path.threshold();
        if round_ended && let Some(high) = &mut self.inflight_high {
            *high += *high / 4;
        }
        // What the first packets of Up achieve is known after a round trip, and half of one more makes it a rate.
        let due =
            self.cycle.judged_at + if self.phase_rounds < 2 { self.smoothed_rtt / 2 } else { Duration::ZERO };
        if self.phase_rounds < 1
            || now < due + self.smoothed_rtt
            || !(has_queue || round_ended && self.phase_rounds >= 2)
        {
            return;
        }
        let got = if has_queue { self.newest } else { self.bandwidth.max() };
        let has_grown = got as f64 > UP_GROWTH * self.cycle.before as f64;
        self.cycle.before = self.cycle.before.max(got);
        self.cycle.judged_at = now;
        self.cycle.gains += u32::from(has_grown);
        if !has_grown || has_queue && self.cycle.gains > CONTENDED_GAINS {
            self.end_up(now);
        }
    }

    fn end_up(&mut self, now: Duration) {
        self.cycle.futile = 0;
        self.bandwidth.start_cycle();
        self.go(now, Phase::Down);
    }

    /// Answers loss that the baseline doesn't explain, and goes below the path's rate to see whether it is the rate's.
    fn check_loss(&mut self, now: Duration) {
        let excess = self.loss.excess(now, self.bandwidth.max());
        if let Some(excess) = excess.or_else(|| self.loss.long_excess()) {
            self.on_congestion(now, excess);
            self.cycle.is_unsure |= !excess.is_queued;
            if self.phase == Phase::Up {
                self.cycle.futile += 1;
            }
            if !excess.is_queued {
                self.cycle.gains = 0;
            }
            if self.phase != Phase::Down {
                self.go(now, Phase::Down);
            }
        }
    }

    /// Looks at the round trip when it hasn't been near the base for long.
    fn check_base(&mut self, now: Duration) {
        let since = self.path.confirmed_at().max(self.probe_rtt.ended_at);
        if now.saturating_sub(since) >= PROBE_RTT_INTERVAL {
            self.start_probe_rtt(now);
        }
    }

    fn start_probe_rtt(&mut self, now: Duration) {
        self.probe_rtt = ProbeRtt { ended_at: now, drained: None, counting: None, before: self.in_flight };
        self.go(now, Phase::ProbeRtt);
    }

    fn in_probe_rtt(&mut self, now: Duration, ack: &AckEvent) {
        let Some(since) = self.probe_rtt.drained else {
            if self.in_flight <= self.product(PROBE_RTT_GAIN) + self.allowance() {
                self.probe_rtt.drained = Some(now);
            }
            return;
        };
        let Some(counting) = self.probe_rtt.counting else {
            // A round trip counts if its packet found the queue without the others of its flow.
            if ack.rtt.is_some_and(|rtt| now.saturating_sub(rtt) >= since) {
                self.probe_rtt.counting = Some(now);
                self.path.start_look();
            }
            return;
        };
        if now.saturating_sub(since) >= PROBE_RTT_TIME && now.saturating_sub(counting) >= self.path.base() {
            self.end_probe_rtt(now);
        }
    }

    fn end_probe_rtt(&mut self, now: Duration) {
        let length = now.saturating_sub(self.phase_since);
        self.probe_rtt.ended_at = now;
        if self.path.look_queue() <= self.path.threshold() {
            self.rival = None;
            self.go(now, Phase::Refill);
            return;
        }
        match &mut self.rival {
            Some(rival) => rival.pause(length),
            None => {
                self.rival = Some(Cubic::new(self.datagram, self.probe_rtt.before, self.smoothed_rtt));
            }
        }
        self.rival_queue = Duration::ZERO;
        self.go(now, Phase::Compete);
    }

    fn in_compete(&mut self, now: Duration, ack: &AckEvent) {
        self.rival_queue = self.rival_queue.max(self.path.queue());
        if let Some(rival) = &mut self.rival {
            rival.on_ack(now, ack);
        }
        if now.saturating_sub(self.phase_since) >= COMPETE_INTERVAL {
            self.bandwidth.start_cycle();
            self.start_probe_rtt(now);
        }
    }
}
