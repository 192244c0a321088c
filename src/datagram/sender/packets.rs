//! What goes into the next packet: what is due, what the window and the pace allow, and in which order.

use std::time::Duration;

use super::{SMALL_BYTES, Sender};
use crate::{
    datagram::{
        BASE_BYTES, FlowError, Transmit,
        pacer::{LATE_MAX, Pacer},
        sent::{Fate, Piece, SentPacket},
        shell::Shell,
    },
    wire::packet::{self, Floor, HEADER_BYTES, PacketNumber},
};

/// FLOOR goes out so often in a round trip.
const FLOORS_PER_ROUND: u32 = 4;
/// Of a round trip, at most this part is made up for when the sender woke late. protocol.md [CONG-1]
const LATE_PART: u32 = 4;
/// In the tail, so many packets may be sent twice, or one in `COPY_PART` of all.
const COPIES_MIN: u64 = 64;
const COPY_PART: u64 = 100;
/// Most datagrams of one batch, and their bytes: what one call with segmentation offload takes.
const BATCH_PACKETS: usize = 64;
const BATCH_BYTES: usize = 64_000;

/// What the next packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Content,
    Copy(PacketNumber),
    /// A probe timeout: content, or the newest packet once more, or a PING.
    Probe,
    MtuProbe(u64),
    /// No content: a first sign of life, an answer, a heartbeat.
    Small,
}

impl Sender {
    /// The next datagrams to send.
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<Option<Transmit>, FlowError> {
        out.clear();
        let Some(to) = self.shell.path.remote() else { return Ok(None) };
        let segment = self.mtu.current();
        let quantum = Pacer::quantum(self.pacing_rate(), segment);
        let mut count = 0;
        let segment = usize::try_from(segment).expect("a datagram");
        let mut segment_bytes = segment;
        while count < BATCH_PACKETS && out.len() + segment <= BATCH_BYTES {
            let is_first = count == 0;
            let Some(purpose) = self.next_purpose(now, is_first, (out.len() as u64) < quantum) else { break };
            let before = out.len();
            self.put_packet(now, purpose, out)?;
            count += 1;
            let len = out.len() - before;
            if is_first {
                segment_bytes = len;
            }
            if len != segment || matches!(purpose, Purpose::MtuProbe(_)) {
                break;
            }
        }
        Ok((count > 0).then_some(Transmit { to, segment_bytes }))
    }

    fn next_purpose(&mut self, now: Duration, is_first: bool, is_within_quantum: bool) -> Option<Purpose> {
        let room = self.shell.path.room();
        let segment = self.mtu.current();
        if self.probes_due > 0 && room >= BASE_BYTES && self.close.is_none() {
            return is_first.then_some(Purpose::Probe);
        }
        let is_small_due = self.owes_floor || self.shell.has_urgent(now) || self.has_close();
        let is_due = if is_first { self.pacer.is_due(now) } else { is_within_quantum };
        if self.close.is_none() && room >= segment && is_due && self.fits_window() {
            if is_first
                && self.largest_acked.is_some()
                && self.shell.path.is_proven()
                && let Some(size) = self.mtu.poll_probe(now, self.controller.window())
            {
                return Some(Purpose::MtuProbe(size));
            }
            if self.outgoing.has_content() {
                return Some(Purpose::Content);
            }
            if let Some(number) = self.next_copy() {
                return Some(Purpose::Copy(number));
            }
            // protocol.md [CONG-8]
            self.sampler.set_app_limited(self.sent.in_flight());
        }
        (is_first && is_small_due && room >= SMALL_BYTES).then_some(Purpose::Small)
    }

    /// protocol.md [CONG-5]
    pub(super) fn pacing_rate(&self) -> u64 {
        self.controller.pacing_rate().min(self.rate_max)
    }

    pub(super) fn has_content(&mut self) -> bool {
        self.outgoing.has_content() || self.is_tail && self.next_copy().is_some()
    }

    /// protocol.md [CONG-2], and [CONG-4] as long as nothing is known of the path
    pub(super) fn fits_window(&self) -> bool {
        let in_flight = self.sent.in_flight();
        in_flight == 0 || in_flight + self.mtu.current() <= self.controller.window()
    }

    /// In the tail, the newest packet in flight that was not sent twice: a loss there costs the most.
    /// protocol.md [LOSS-5]
    fn next_copy(&mut self) -> Option<PacketNumber> {
        let budget = COPIES_MIN.max(self.stats.packets / COPY_PART);
        if !self.is_tail || self.stats.copies >= budget {
            return None;
        }
        let below = self.copy_below;
        let may_copy = |packet: &SentPacket| !packet.is_copied && packet.piece.is_some();
        let found = self
            .sent
            .iter_in_flight()
            .rev()
            .find(|(number, packet)| *number < below && may_copy(packet))
            .map(|(number, _)| number);
        self.copy_below = found.map_or(0, |number| number + 1);
        found
    }

    fn put_packet(&mut self, now: Duration, purpose: Purpose, out: &mut Vec<u8>) -> Result<(), FlowError> {
        while self.shell.skips(self.sent.next()) {
            let skipped = self.skipped(now);
            self.sent.push(skipped);
        }
        let number = self.sent.next();
        let start = Shell::begin(out);
        let size = match purpose {
            Purpose::MtuProbe(size) => size,
            Purpose::Probe | Purpose::Small => BASE_BYTES,
            Purpose::Content | Purpose::Copy(_) => self.mtu.current(),
        };
        // protocol.md [PATH-1]
        let size = start + usize::try_from(size.min(self.shell.path.room())).expect("a datagram");
        let end = size - self.shell.trailer_bytes();
        self.shell.put_urgent(now, out);
        self.put_floor(now, purpose, out);
        if self.has_close()
            && let Some((reason, times)) = &mut self.close
        {
            packet::put_close(out, *reason);
            *times += 1;
        }
        let pieces = self.put_content(purpose, out, end);
        if out.len() == start + HEADER_BYTES {
            packet::put_ping(out);
        }
        // protocol.md [PATH-4]
        if matches!(purpose, Purpose::MtuProbe(_)) || self.largest_acked.is_none() {
            packet::put_padding(out, end);
        }
        self.shell.seal(number, out, start)?;
        self.on_sent(now, purpose, (out.len() - start) as u64, pieces);
        Ok(())
    }

    fn put_content(&mut self, purpose: Purpose, out: &mut Vec<u8>, end: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let copied = match purpose {
            Purpose::Content => None,
            Purpose::Copy(number) => Some(number),
            Purpose::Probe if self.outgoing.has_content() => None,
            Purpose::Probe => {
                let newest = self.sent.iter_in_flight().rev().find(|(_, packet)| packet.piece.is_some());
                match newest {
                    Some((number, _)) => Some(number),
                    None => return pieces,
                }
            }
            Purpose::MtuProbe(_) | Purpose::Small => return pieces,
        };
        if let Some(number) = copied {
            let Some(packet) = self.sent.get_mut(number) else { return pieces };
            packet.is_copied = true;
            for piece in packet.pieces() {
                pieces.extend(self.outgoing.put_again(out, end.saturating_sub(out.len()), piece));
            }
            self.stats.copies += 1;
            return pieces;
        }
        while let Some(piece) = self.outgoing.put_next(out, end.saturating_sub(out.len())) {
            pieces.push(piece);
        }
        if !pieces.is_empty() {
            self.copy_below = PacketNumber::MAX;
        }
        pieces
    }

    fn put_floor(&mut self, now: Duration, purpose: Purpose, out: &mut Vec<u8>) {
        if !(self.owes_floor && purpose == Purpose::Small || self.floor_at <= now) {
            return;
        }
        let interval = self.ack_interval();
        packet::put_floor(
            out,
            &Floor {
                floor: self.sent.floor(),
                ack_interval_us: u64::try_from(interval.as_micros()).expect("shorter than a round trip"),
                heard: self.shell.received.end(),
            },
        );
        self.floor_at = now + self.rtt.smoothed() / FLOORS_PER_ROUND;
        self.owes_floor = false;
    }

    fn on_sent(&mut self, now: Duration, purpose: Purpose, bytes: u64, mut pieces: Vec<Piece>) {
        let before = self.sent.in_flight();
        if before == 0 {
            self.stalled_since = now;
        }
        if before == 0 || purpose == Purpose::Probe {
            self.quiet_since = now;
        }
        let state = self.sampler.on_sent(now, bytes, before);
        let is_small = purpose == Purpose::Small;
        if !is_small {
            let rate = self.pacing_rate();
            // Who had nothing in flight was not late.
            let late_max = if before == 0 { Duration::ZERO } else { self.rtt.smoothed() / LATE_PART };
            let quantum = Pacer::quantum(rate, self.mtu.current());
            self.pacer.on_sent(now, bytes, rate, quantum, late_max.min(LATE_MAX));
        }
        self.controller.on_sent(now, bytes, before + bytes);
        self.probes_due -= u32::from(purpose == Purpose::Probe && self.probes_due > 0);
        self.stats.packets += 1;
        self.stats.payload_bytes += pieces.iter().map(|piece| u64::from(piece.len)).sum::<u64>();
        self.last_sent = now;
        if self.trace.is_some() {
            self.trace_sent(now, purpose, bytes, before + bytes);
        }
        let piece = if pieces.is_empty() { None } else { Some(pieces.remove(0)) };
        self.sent.push(SentPacket {
            fate: Fate::InFlight,
            state,
            bytes,
            is_mtu_probe: matches!(purpose, Purpose::MtuProbe(_)),
            is_copied: matches!(purpose, Purpose::Copy(_)),
            piece,
            more: pieces,
        });
    }

    fn skipped(&mut self, now: Duration) -> SentPacket {
        let state = self.sampler.on_sent(now, 0, self.sent.in_flight());
        SentPacket {
            fate: Fate::Skipped,
            state,
            bytes: 0,
            is_mtu_probe: false,
            is_copied: true,
            piece: None,
            more: Vec::new(),
        }
    }

    fn trace_sent(&mut self, now: Duration, purpose: Purpose, bytes: u64, in_flight: u64) {
        let what = match purpose {
            Purpose::Content => "content",
            Purpose::Copy(_) => "copy",
            Purpose::Probe => "probe",
            Purpose::MtuProbe(_) => "mtu",
            Purpose::Small => "small",
        };
        let number = self.sent.next();
        let Some(trace) = &mut self.trace else { return };
        let facts =
            format_args!(r#","number":{number},"bytes":{bytes},"what":"{what}","in_flight":{in_flight}"#);
        trace.note(now, "sent", facts);
    }
}
