//! Tells loss that comes of the rate from loss that is just there.
//!
//! What leaves is counted in stretches, and each lost packet is charged to the stretch in which it was sent. Stretches
//! that were sent slower than the path delivers, into an empty queue, lose what the path loses by itself: the baseline.
//! A stretch that loses clearly more than the baseline was sent too fast, be it that a queue overflowed, or that a
//! policer cut it off without any queue. Comparing two rates is the only thing that finds a policer, as nothing else
//! about its losses differs from those of a bad radio link.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::LostPacket;

/// Loss above the baseline that a stretch may have (LossThresh of draft-ietf-ccwg-bbr, section 2.5).
const TOLERANCE: f64 = 0.02;
/// The largest baseline that is believed: 10 % and what chance adds to it.
pub const BASELINE_MAX: f64 = 0.125;
/// Packets over which the baseline is averaged, about.
const MEMORY: f64 = 3000.0;
/// The baseline of fewer packets than these is taken as if the others had arrived.
const ENOUGH: f64 = 150.0;
/// Packets below the path's rate that a good baseline rests on.
pub const BASELINE_PACKETS: f64 = 300.0;
/// How many standard deviations are chance, and how many packets a burst of loss takes, when one reckons with chance.
const SIGMAS: f64 = 3.0;
const BURST: f64 = 4.0;
/// Packets that one burst may take at any time.
const ONE_BURST: f64 = 12.0;
/// A stretch was slower than the path delivers if its rate was below this part of it.
const SLOWER: f64 = 0.8;
/// A stretch that lost more than this part was without any path for a while, which is no loss that one can send against.
const OUTAGE: f64 = 0.5;
/// Stretches kept: loss is known within about two round trips, and a stretch is a round trip or a phase.
const KEPT: usize = 24;

/// Packets that were sent in a row.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    since: Duration,
    until: Option<Duration>,
    sent: f64,
    lost: f64,
    /// The most bytes in flight when one of the lost was sent.
    in_flight: u64,
    /// There was a queue in its time.
    queued: bool,
    /// Its excess has been reported.
    judged: bool,
}

/// Loss above the baseline.
#[derive(Clone, Copy, Debug)]
pub struct Excess {
    /// There was a queue in its time.
    pub is_queued: bool,
    /// Bytes in flight when it was sent.
    pub in_flight: u64,
    /// When what lost it began to be sent.
    pub since: Duration,
    /// Packets lost of it so far.
    pub lost: f64,
}

impl Stretch {
    /// Packets a second.
    fn rate(&self, now: Duration) -> f64 {
        let length = self.until.unwrap_or(now).saturating_sub(self.since);
        self.sent / length.as_secs_f64().max(1e-6)
    }
}

/// Stretches at full pace, taken together: what each of them loses too much may hide in chance, all of them may not.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    since: Option<Duration>,
    sent: f64,
    lost: f64,
}

/// Counts loss by stretch.
#[derive(Debug)]
pub struct LossMeter {
    datagram: f64,
    stretches: VecDeque<Stretch>,
    /// Packets of the baseline, and those of them that were lost.
    sent: f64,
    lost: f64,
    /// What has ended at full pace since the last report.
    run: Run,
    /// Packets that the receiver's socket dropped, whose losses are still to come; and until when.
    excused: f64,
    excused_until: Duration,
}

impl LossMeter {
    /// Nothing was sent yet.
    pub fn new(datagram: u64) -> Self {
        Self {
            datagram: datagram.max(1) as f64,
            stretches: VecDeque::with_capacity(KEPT + 1),
            sent: 0.0,
            lost: 0.0,
            run: Run::default(),
            excused: 0.0,
            excused_until: Duration::ZERO,
        }
    }

    /// Packets have another size.
    pub fn on_mtu(&mut self, bytes: u64) {
        self.datagram = bytes.max(1) as f64;
    }

    /// A stretch begins here.
    pub fn start(&mut self, now: Duration) {
        if let Some(last) = self.stretches.back_mut() {
            last.until = Some(now);
        }
        let fresh = Stretch {
            since: now,
            until: None,
            sent: 0.0,
            lost: 0.0,
            in_flight: 0,
            queued: false,
            judged: false,
        };
        self.stretches.push_back(fresh);
        if self.stretches.len() > KEPT {
            self.stretches.pop_front();
        }
    }

    /// A packet leaves.
    pub fn on_sent(&mut self, bytes: u64) {
        let packets = bytes as f64 / self.datagram;
        if let Some(last) = self.stretches.back_mut() {
            last.sent += packets;
        }
    }

    /// A packet is lost.
    pub fn on_lost(&mut self, now: Duration, packet: &LostPacket) {
        let packets = packet.bytes as f64 / self.datagram;
        if self.excused >= packets && now <= self.excused_until {
            self.excused -= packets;
            return;
        }
        if let Some(stretch) = self.find(packet.state.sent_at) {
            stretch.lost += packets;
            stretch.in_flight = stretch.in_flight.max(packet.state.in_flight);
        }
    }

    /// A packet that was counted as lost has arrived.
    pub fn on_spurious(&mut self, bytes: u64, sent_at: Duration) {
        let packets = bytes as f64 / self.datagram;
        if let Some(stretch) = self.find(sent_at) {
            stretch.lost = (stretch.lost - packets).max(0.0);
        }
    }

    /// The receiver's socket dropped this many: as many losses until `until` are not the path's. protocol.md [CONG-7]
    pub fn excuse(&mut self, packets: u64, until: Duration) {
        self.excused += packets as f64;
        self.excused_until = until;
    }

    /// There is a queue: what is on its way may have overflowed it.
    pub fn on_queue(&mut self, now: Duration, rtt: Duration) {
        let since = now.saturating_sub(rtt);
        for stretch in self.stretches.iter_mut().rev() {
            stretch.queued = true;
            if stretch.since <= since {
                break;
            }
        }
    }

    /// Takes what is settled into the baseline: stretches that ended more than `horizon` ago. `bandwidth` is what the
    /// path delivers, bytes a second.
    pub fn settle(&mut self, now: Duration, horizon: Duration, bandwidth: u64) {
        let bound = SLOWER * bandwidth as f64 / self.datagram;
        while let Some(first) = self.stretches.front() {
            if first.until.is_none_or(|until| until + horizon > now) {
                break;
            }
            let is_outage = first.lost > OUTAGE * first.sent;
            let says_nothing = first.queued || first.judged || is_outage;
            if !says_nothing && first.rate(now) <= bound {
                add(&mut self.sent, &mut self.lost, first);
            } else if !says_nothing {
                self.run.since.get_or_insert(first.since);
                add(&mut self.run.sent, &mut self.run.lost, first);
            }
            self.stretches.pop_front();
        }
    }

    /// All stretches at full pace that have ended, if they lost more than a good baseline explains. They are reported once.
    pub fn long_excess(&mut self) -> Option<Excess> {
        let Run { since, sent, lost } = self.run;
        if self.sent < BASELINE_PACKETS || lost <= allowed(sent, self.baseline()) {
            return None;
        }
        self.run = Run::default();
        Some(Excess { is_queued: false, in_flight: 0, since: since?, lost })
    }

    /// The oldest stretch at full pace, not reported yet, that lost more than the baseline and chance explain: loss that
    /// rises with the rate. protocol.md [CONG-3]
    pub fn excess(&mut self, now: Duration, bandwidth: u64) -> Option<Excess> {
        let baseline = self.baseline();
        let bound = SLOWER * bandwidth as f64 / self.datagram;
        let found = self.stretches.iter_mut().find(|stretch| {
            !stretch.judged && stretch.rate(now) > bound && stretch.lost > allowed(stretch.sent, baseline)
        })?;
        found.judged = true;
        self.run = Run::default();
        Some(Excess {
            is_queued: found.queued,
            in_flight: found.in_flight,
            since: found.since,
            lost: found.lost,
        })
    }

    /// Loss that does not come of the rate, as a part of what is sent.
    pub fn baseline(&self) -> f64 {
        (self.lost / self.sent.max(ENOUGH)).min(BASELINE_MAX)
    }

    /// Packets that the baseline rests on.
    pub fn evidence(&self) -> f64 {
        self.sent
    }

    /// Something was lost that the baseline doesn't explain, or that there is no good baseline for yet.
    pub fn has_unexplained(&self) -> bool {
        let baseline = self.baseline();
        let is_sure = self.sent >= MEMORY / 2.0;
        self.stretches.iter().any(|stretch| {
            if is_sure { stretch.lost > allowed(stretch.sent, baseline) } else { stretch.lost > 0.0 }
        })
    }

    fn find(&mut self, sent_at: Duration) -> Option<&mut Stretch> {
        self.stretches.iter_mut().rev().find(|stretch| stretch.since <= sent_at)
    }
}

/// Adds a stretch to an average over the last packets.
fn add(sent: &mut f64, lost: &mut f64, stretch: &Stretch) {
    *sent += stretch.sent;
    *lost += stretch.lost;
    if *sent > MEMORY {
        let keep = MEMORY / *sent;
        *sent *= keep;
        *lost *= keep;
    }
}

/// Packets that may be lost of `sent` without a reason to slow down.
pub fn allowed(sent: f64, baseline: f64) -> f64 {
    (baseline + TOLERANCE) * sent + (SIGMAS * (BURST * sent * baseline).sqrt()).max(ONE_BURST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path's rate: a thousand packets a second of 1000 bytes.
    const RATE: u64 = 1_000_000;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A second in which `sent` packets leave and `lost` of them are lost; the next stretch begins.
    fn second(meter: &mut LossMeter, from_s: u64, sent: u64, lost: u64) {
        meter.start(at(1000 * from_s));
        for _ in 0..sent {
            meter.on_sent(1000);
        }
        for _ in 0..lost {
            meter.on_lost(at(1000 * from_s + 500), &LostPacket::sent_at(at(1000 * from_s)));
        }
        meter.start(at(1000 * from_s + 1000));
    }

    #[test]
    fn loss_below_the_rate_is_the_baseline() {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 700, 35);
        meter.settle(at(9000), at(100), RATE);

        assert!((meter.baseline() - 0.05).abs() < 1e-9);
    }

    #[test]
    fn a_moment_without_a_path_is_not() {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 700, 400);
        meter.settle(at(9000), at(100), RATE);

        assert_eq!(meter.evidence(), 0.0);
    }

    #[test]
    fn loss_at_the_rate_is_not() {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 1000, 50);
        meter.settle(at(9000), at(100), RATE);

        assert_eq!(meter.baseline(), 0.0);
    }

    #[test]
    fn loss_behind_a_queue_is_not_either() {
        let mut meter = LossMeter::new(1000);
        meter.start(at(1000));
        meter.on_sent(1000);
        meter.on_queue(at(1500), at(100));
        second(&mut meter, 2, 0, 0);
        meter.settle(at(9000), at(100), RATE);

        assert_eq!(meter.evidence(), 0.0);
    }

    #[test]
    fn as_much_loss_at_the_rate_as_below_it_is_no_excess() {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 700, 35);
        meter.settle(at(2500), at(100), RATE);
        second(&mut meter, 3, 1000, 60);

        assert!(meter.excess(at(4500), RATE).is_none());
    }

    #[test]
    fn more_loss_at_the_rate_than_below_it_is_reported_once() {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 700, 0);
        meter.settle(at(2500), at(100), RATE);
        second(&mut meter, 3, 1250, 250);

        assert!(meter.excess(at(4500), RATE).is_some_and(|excess| !excess.is_queued));
        assert!(meter.excess(at(4500), RATE).is_none());
    }

    /// Five seconds of which each loses a little more than the one below the rate.
    fn five_seconds(lost: u64) -> LossMeter {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 700, 14);
        for from_s in 3..8 {
            second(&mut meter, from_s, 1000, lost);
        }
        meter.settle(at(9500), at(100), RATE);
        meter
    }

    #[test]
    fn a_little_more_loss_at_the_rate_is_found_in_the_long_run() {
        let mut meter = five_seconds(60);
        assert!(meter.excess(at(9500), RATE).is_none());

        assert!(meter.long_excess().is_some_and(|excess| excess.since == at(3000)));
        assert!(meter.long_excess().is_none(), "it is reported once");
    }

    #[test]
    fn what_the_baseline_and_its_tolerance_explain_is_no_excess_in_the_long_run() {
        assert!(five_seconds(40).long_excess().is_none());
    }

    #[test]
    fn loss_that_proved_false_is_no_excess() {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 1000, 100);
        for _ in 0..80 {
            meter.on_spurious(1000, at(1000));
        }

        assert!(meter.excess(at(2500), RATE).is_none());
    }

    #[test]
    fn what_the_receiver_dropped_is_no_excess() {
        let mut meter = LossMeter::new(1000);
        meter.excuse(100, at(9000));
        second(&mut meter, 1, 1000, 100);

        assert!(meter.excess(at(2500), RATE).is_none());
    }

    #[test]
    fn an_excuse_does_not_last() {
        let mut meter = LossMeter::new(1000);
        meter.excuse(100, at(1400));
        second(&mut meter, 1, 1000, 100);

        assert!(meter.excess(at(2500), RATE).is_some());
    }

    #[test]
    fn a_baseline_is_never_more_than_is_believed() {
        let mut meter = LossMeter::new(1000);
        second(&mut meter, 1, 700, 300);
        meter.settle(at(9000), at(100), RATE);

        assert_eq!(meter.baseline(), BASELINE_MAX);
    }
}
