//! What an acknowledgement tells: which packets have arrived, which are lost, what the law is told of both.

use std::time::Duration;

use super::Sender;
use crate::{
    datagram::{
        FlowError,
        congestion::{AckEvent, LostPacket},
        sent::Fate,
        trace::Micros,
    },
    limits,
    wire::packet::{Ack, Numbers, PacketNumber},
};

/// A lost packet is remembered for so many round trips, in case it turns up.
const REMEMBERED_ROUNDS: u32 = 2;

/// What one datagram acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acked {
    /// Whether it has overtaken none that it could have, as far as one can tell.
    is_in_order: bool,
    pub(super) has_ack: bool,
    pub(super) packets: u64,
    bytes: u64,
    prior_in_flight: u64,
    rtt: Option<Duration>,
    drops: u64,
    look: Option<Look>,
}

impl Acked {
    /// Nothing yet.
    pub(super) fn new(is_in_order: bool) -> Self {
        Self { is_in_order, ..Self::default() }
    }

    /// What it told was about a path that has been left. protocol.md [CONG-9]
    pub(super) fn forget_path(&mut self) {
        (self.bytes, self.rtt, self.drops) = (0, None, 0);
    }
}

/// The receiver at the moment of an acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    largest: PacketNumber,
    /// When `largest` was sent.
    sent_at: Duration,
    /// How long `largest` had been there.
    delay: Duration,
}

impl Look {
    /// How much later than `largest` a packet is that was sent at `sent_at` and is missing.
    fn overdue(&self, sent_at: Duration) -> Duration {
        self.sent_at.saturating_sub(sent_at) + self.delay
    }
}

impl Sender {
    pub(super) fn on_ack(
        &mut self,
        now: Duration,
        ack: &Ack<'_>,
        acked: &mut Acked,
    ) -> Result<(), FlowError> {
        let largest = ack.numbers.largest;
        let prior_in_flight = self.sent.in_flight();
        if !acked.has_ack {
            acked.prior_in_flight = prior_in_flight;
            acked.has_ack = true;
        }
        let delay = Duration::from_micros(ack.delay_us.min(limits::ACK_DELAY_MAX_US));
        let sent_at = self.sent.get(largest).map(|packet| (packet.state.sent_at, packet.fate));
        acked.look = sent_at.map(|(sent_at, _)| Look { largest, sent_at, delay });
        self.on_numbers(now, &ack.numbers, acked)?;
        let is_newest = self.largest_acked.is_none_or(|before| largest > before);
        if is_newest {
            self.largest_acked = Some(largest);
            self.shell.on_acked(largest);
            if let Some((sent_at, Fate::InFlight | Fate::Lost(_))) = sent_at
                && largest >= self.path_from
                && acked.is_in_order
            {
                acked.rtt = Some(self.rtt.on_sample(now.saturating_sub(sent_at), delay));
            }
        }
        self.on_state(ack)?;
        // protocol.md [CONG-7]
        acked.drops = acked.drops.max(ack.drops.saturating_sub(self.drops));
        self.drops = self.drops.max(ack.drops);
        Ok(())
    }

    /// Credit and placement. protocol.md [ACK-4]
    fn on_state(&mut self, ack: &Ack<'_>) -> Result<(), FlowError> {
        if ack.credit > self.credit {
            self.credit = ack.credit;
            self.owes_floor = true;
        }
        let end = self.outgoing.cut_below();
        let last = ack.placed.ranges().last().map_or(ack.placed.floor, |range| range.end() + 1);
        // protocol.md [FLOW-4]
        if last > end {
            return Err(FlowError::Violation("it placed what was never sent"));
        }
        let below = self.unplaced_from..ack.placed.floor.max(self.unplaced_from);
        for number in below.chain(ack.placed.ranges().flatten()) {
            let Some(index) = number.checked_sub(self.unplaced_from) else { continue };
            let index = usize::try_from(index).expect("below the count");
            if let Some(placed) = self.unplaced[index].take() {
                self.newly_placed.push_back(placed);
                self.owes_floor = true;
            }
        }
        while self.unplaced.front().is_some_and(Option::is_none) {
            self.unplaced.pop_front();
            self.unplaced_from += 1;
        }
        Ok(())
    }

    pub(super) fn on_numbers(
        &mut self,
        now: Duration,
        numbers: &Numbers<'_>,
        acked: &mut Acked,
    ) -> Result<(), FlowError> {
        const NEVER_SENT: FlowError = FlowError::Violation("it acknowledged what was never sent");
        // protocol.md [FLOW-4]
        if numbers.largest >= self.sent.next() {
            return Err(NEVER_SENT);
        }
        for range in numbers.ranges() {
            if *range.end() < self.sent.floor() {
                break;
            }
            for number in (*range.start()).max(self.sent.floor())..=*range.end() {
                if self.sent.get(number).is_some_and(|packet| packet.fate == Fate::Skipped) {
                    return Err(NEVER_SENT);
                }
                self.on_number(now, number, acked);
            }
        }
        Ok(())
    }

    fn on_number(&mut self, now: Duration, number: PacketNumber, acked: &mut Acked) {
        let Some((before, packet)) = self.sent.settle(number, Fate::Acked) else { return };
        acked.packets += 1;
        let (bytes, state) = (packet.bytes, packet.state);
        let is_probe = packet.is_mtu_probe;
        for piece in packet.pieces() {
            self.outgoing.on_acked(piece);
        }
        // protocol.md [LOSS-4]
        let is_spurious = matches!(before, Fate::Lost(_));
        self.stats.spurious += u64::from(is_spurious && !is_probe);
        // protocol.md [CONG-9]
        if number >= self.path_from {
            acked.bytes += bytes;
            if is_spurious {
                self.sampler.on_spurious(now, bytes);
                self.controller.on_spurious(now, &LostPacket { bytes, state });
            } else {
                self.sampler.on_acked(now, bytes, &state);
            }
        }
        // It came although an earlier acknowledgement did not have it.
        if let Some(look) = acked.look
            && self.largest_acked.is_some_and(|largest| number < largest)
        {
            self.reordering.on_late(look.overdue(state.sent_at));
        }
        if self.mtu.on_acked(now, bytes, is_probe) {
            self.controller.on_mtu(self.mtu.current());
        }
    }

    pub(super) fn after_ack(&mut self, now: Duration, acked: &Acked) {
        if acked.packets > 0 {
            self.timeouts = 0;
            self.probes_due = 0;
            self.quiet_since = now;
            self.stalled_since = now;
        }
        self.reordering.on_time(now, &self.rtt);
        let lost_before = self.stats.lost;
        self.detect_lost(now, acked.look);
        // protocol.md [CONG-3]: all that shows a full queue.
        let event = AckEvent {
            acked_bytes: acked.bytes,
            lost_bytes: std::mem::take(&mut self.lost_bytes),
            prior_in_flight: acked.prior_in_flight,
            in_flight: self.sent.in_flight(),
            rtt: acked.rtt,
            smoothed_rtt: self.rtt.smoothed(),
            rate: self.sampler.sample(self.rtt.min()),
            ack_interval: self.ack_interval(),
            receiver_drops: acked.drops,
        };
        self.controller.on_ack(now, &event);
        if self.trace.is_some() {
            self.trace_ack(now, acked, self.stats.lost - lost_before);
        }
        let remembered = self.rtt.smoothed() * REMEMBERED_ROUNDS + self.reordering.window(&self.rtt);
        self.sent.forget(now.saturating_sub(remembered));
    }

    /// Declares packets lost: those that the receiver's look shows overdue, and those whose time is over.
    /// protocol.md [LOSS-1]
    pub(super) fn detect_lost(&mut self, now: Duration, look: Option<Look>) {
        let Some(largest) = self.largest_acked else { return };
        let look = look.filter(|look| look.largest == largest);
        let window = self.reordering.window(&self.rtt);
        let patience = self.rtt.latest().max(self.rtt.smoothed()) + window + 2 * self.ack_interval();
        let mut lost = Vec::new();
        self.loss_at = None;
        for (number, packet) in self.sent.iter_in_flight() {
            if number >= largest {
                break;
            }
            let sent_at = packet.state.sent_at;
            let is_overdue = look.is_some_and(|look| look.overdue(sent_at) >= window);
            if is_overdue || sent_at + patience <= now {
                lost.push(number);
            } else {
                self.loss_at = Some(sent_at + patience);
                break;
            }
        }
        for number in lost {
            self.on_lost(now, number);
        }
    }

    fn on_lost(&mut self, now: Duration, number: PacketNumber) {
        let Some((_, packet)) = self.sent.settle(number, Fate::Lost(now)) else { return };
        let (bytes, state, is_probe) = (packet.bytes, packet.state, packet.is_mtu_probe);
        for piece in packet.pieces() {
            self.outgoing.on_lost(piece);
        }
        if let Some(trace) = &mut self.trace {
            let age_us = now.saturating_sub(state.sent_at).as_micros();
            let facts = format_args!(r#","number":{number},"bytes":{bytes},"age_us":{age_us}"#);
            trace.note(now, "lost", facts);
        }
        self.mtu.on_lost(now, bytes, is_probe);
        self.stats.lost += u64::from(!is_probe);
        // protocol.md [CONG-9]
        if !is_probe && number >= self.path_from {
            self.lost_bytes += bytes;
            self.sampler.on_lost(bytes);
            self.controller.on_lost(now, &LostPacket { bytes, state });
        }
    }

    fn trace_ack(&mut self, now: Duration, acked: &Acked, lost: u64) {
        let Some(trace) = &mut self.trace else { return };
        let (controller, rtt) = (&self.controller, &self.rtt);
        let believed = controller.state();
        let facts = format_args!(
            concat!(
                r#","largest":{},"packets":{},"bytes":{},"lost":{},"rtt_us":{},"srtt_us":{},"min_rtt_us":{}"#,
                r#","in_flight":{},"window":{},"rate":{},"mtu":{},"law":"{}","state":"{}","bandwidth":{}"#,
                r#","lost_ppm":{},"credit":{}"#
            ),
            self.largest_acked.unwrap_or(0),
            acked.packets,
            acked.bytes,
            lost,
            Micros(acked.rtt),
            Micros(Some(rtt.smoothed())),
            Micros(Some(rtt.min())),
            self.sent.in_flight(),
            controller.window(),
            controller.pacing_rate(),
            self.mtu.current(),
            controller.name(),
            believed.state,
            believed.bandwidth,
            believed.baseline_loss_ppm,
            self.credit,
        );
        trace.note(now, "acked", facts);
    }
}
