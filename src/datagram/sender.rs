//! The sending end of a flow: chunks into packets, acknowledgements into decisions.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{
    BASE_BYTES, FlowConfig, FlowError, Transmit,
    chance::Chance,
    congestion::{AckEvent, Congestion, Controller, LostPacket, RateSampler},
    loss::Reordering,
    mtu::Mtu,
    outgoing::Outgoing,
    pacer::Pacer,
    path::Arrived,
    rtt::Rtt,
    sent::{Fate, Piece, SentPacket, SentPackets},
    shell::Shell,
    trace::{Micros, Trace},
};
use crate::{
    limits,
    wire::packet::{self, Ack, Block, CloseReason, Floor, HEADER_BYTES, Numbers, PacketNumber, blocks},
};

/// A receiver acknowledges so often in a round trip …
const ACKS_PER_ROUND: u32 = 8;
/// … but not more often than this …
const ACK_INTERVAL_MIN: Duration = Duration::from_millis(1);
/// … except on a path shorter than `SHORT_PATH`.
const ACK_INTERVAL_SHORT: Duration = Duration::from_micros(250);
const SHORT_PATH: Duration = Duration::from_millis(1);
/// FLOOR goes out so often in a round trip.
const FLOORS_PER_ROUND: u32 = 4;
/// A lost packet is remembered for so many round trips, in case it turns up.
const REMEMBERED_ROUNDS: u32 = 2;
/// Packets that a probe timeout sends (RFC 9002, section 6.2.4).
const PROBES_PER_TIMEOUT: u32 = 2;
/// The probe timeout doubles up to this multiple: a path that comes back is noticed soon.
const BACKOFF_MAX: u32 = 16;
/// Longest probe timeout.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(1);
/// In the tail, so many packets may be sent twice, or one in `COPY_PART` of all.
const COPIES_MIN: u64 = 64;
const COPY_PART: u64 = 100;
/// Most datagrams of one batch, and their bytes: what one call with segmentation offload takes.
const BATCH_PACKETS: usize = 64;
const BATCH_BYTES: usize = 64_000;
/// Room for FLOOR, CHALLENGE, RESPONSE and CLOSE alone.
const SMALL_BYTES: u64 = 128;
/// An end is told so often at most.
const CLOSES: u32 = 3;

/// A chunk that the receiver has placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Entry number of its file.
    pub file: u64,
    /// Where it begins in the file.
    pub offset: u64,
}

/// What a flow has sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderStats {
    /// Packets.
    pub packets: u64,
    /// Content, copies and repetitions included, bytes.
    pub payload_bytes: u64,
    /// Packets declared lost.
    pub lost: u64,
    /// Packets declared lost that had arrived.
    pub spurious: u64,
    /// Packets copied in the tail.
    pub copies: u64,
    /// Probe timeouts.
    pub timeouts: u64,
}

/// The sending end of a flow.
#[derive(Debug)]
pub struct Sender {
    shell: Shell,
    sent: SentPackets,
    outgoing: Outgoing,
    rtt: Rtt,
    reordering: Reordering,
    sampler: RateSampler,
    congestion: Congestion,
    controller: Controller,
    /// What may be sent at most, bytes a second.
    rate_max: u64,
    pacer: Pacer,
    mtu: Mtu,
    /// Packets before this one may have gone to where the peer was before, and tell nothing of where it is.
    path_from: PacketNumber,
    largest_acked: Option<PacketNumber>,
    /// When a packet is lost unless an acknowledgement says otherwise.
    loss_at: Option<Duration>,
    /// Bytes declared lost that no event has told the controller yet.
    lost_bytes: u64,
    /// Since when nothing was acknowledged: the last acknowledgement, the last packet into an empty path, or the last
    /// probe.
    quiet_since: Duration,
    /// As `quiet_since`, but for probes.
    stalled_since: Duration,
    timeouts: u32,
    probes_due: u32,
    last_sent: Duration,
    floor_at: Duration,
    /// What is told in FLOOR has changed while there is nothing else to send.
    owes_floor: bool,
    credit: u64,
    drops: u64,
    /// Chunks that are not placed, with where they belong, by number from `unplaced_from`.
    unplaced: VecDeque<Option<Placed>>,
    unplaced_from: u64,
    newly_placed: VecDeque<Placed>,
    /// Nothing follows what is on its way.
    is_tail: bool,
    /// Packets from here down are looked at for copying.
    copy_below: PacketNumber,
    close: Option<(CloseReason, u32)>,
    closed_by_peer: Option<CloseReason>,
    stats: SenderStats,
    trace: Option<Box<Trace>>,
}

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
    /// A sending end. The control connection has measured `initial_rtt`.
    pub fn new(
        now: Duration,
        config: FlowConfig,
        congestion: Congestion,
        initial_rtt: Duration,
        is_ipv6: bool,
    ) -> Self {
        let chance = Chance::new(config.seed);
        let is_client = config.path.is_proven();
        Self {
            shell: Shell::new(config.sealer, config.opener, config.path, chance),
            sent: SentPackets::default(),
            outgoing: Outgoing::default(),
            rtt: Rtt::new(initial_rtt),
            reordering: Reordering::default(),
            sampler: RateSampler::default(),
            congestion,
            controller: Controller::new(congestion, BASE_BYTES, initial_rtt),
            rate_max: u64::MAX,
            pacer: Pacer::default(),
            mtu: Mtu::new(is_ipv6),
            path_from: 0,
            largest_acked: None,
            loss_at: None,
            lost_bytes: 0,
            quiet_since: now,
            stalled_since: now,
            timeouts: 0,
            probes_due: 0,
            last_sent: now,
            floor_at: now,
            // A client makes itself known at once.
            owes_floor: is_client,
            credit: 0,
            drops: 0,
            unplaced: VecDeque::new(),
            unplaced_from: 0,
            newly_placed: VecDeque::new(),
            is_tail: false,
            copy_below: 0,
            close: None,
            closed_by_peer: None,
            stats: SenderStats::default(),
            trace: None,
        }
    }

    // --- Input ---

    /// Takes a datagram.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(), FlowError> {
        let Some(opened) = self.shell.open(now, from, datagram) else { return Ok(()) };
        if opened.arrived != Arrived::Same
            && let Some(trace) = &mut self.trace
        {
            trace.note(now, "moved", format_args!(r#","to":"{from}""#));
        }
        if opened.arrived == Arrived::Moved {
            // protocol.md [MTU-1]: another host is another path.
            self.mtu.restart();
            self.controller.on_mtu(self.mtu.current());
        }
        let (mut challenge, mut response) = (None, None);
        let mut acked = Acked::default();
        for block in blocks(opened.payload) {
            match block? {
                Block::Ping => self.owes_floor = true,
                Block::Ack(ack) => self.on_ack(now, &ack, &mut acked)?,
                Block::Older(numbers) => self.on_numbers(now, &numbers, &mut acked)?,
                Block::Challenge(token) => challenge = Some(token),
                Block::Response(token) => response = Some(token),
                Block::Close(reason) => self.on_close(now, reason),
                // protocol.md [FLOW-1]
                Block::Data(_) | Block::Floor(_) => {
                    return Err(FlowError::Violation("it sent content to who sends content"));
                }
            }
        }
        if let Some(token) = challenge {
            self.shell.on_challenge(token);
        }
        if let Some(token) = response {
            let is_other_host = self.shell.path.on_response(from, token);
            if is_other_host {
                self.begin_path();
                acked = Acked { bytes: 0, rtt: None, drops: 0, ..acked };
            }
        }
        if acked.packets > 0 || acked.has_ack {
            self.after_ack(now, &acked);
        }
        Ok(())
    }

    fn on_close(&mut self, now: Duration, reason: CloseReason) {
        self.closed_by_peer = Some(reason);
        if let Some(trace) = &mut self.trace {
            trace.note(now, "closed", format_args!(r#","reason":"{reason:?}""#));
        }
    }

    /// The peer has proven to be at another host: that path is learned anew (RFC 9000, section 9.4). Not before the proof,
    /// so that who sends a captured datagram from elsewhere does not make the flow forget what it knows.
    /// protocol.md [CONG-9]
    fn begin_path(&mut self) {
        self.path_from = self.sent.next();
        self.sampler = RateSampler::default();
        self.lost_bytes = 0;
        self.rtt = Rtt::new(self.rtt.smoothed());
        self.controller = Controller::new(self.congestion, self.mtu.current(), self.rtt.smoothed());
    }

    fn on_ack(&mut self, now: Duration, ack: &Ack<'_>, acked: &mut Acked) -> Result<(), FlowError> {
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

    fn on_numbers(
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

    fn after_ack(&mut self, now: Duration, acked: &Acked) {
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

    // --- Loss ---

    /// Declares packets lost: those that the receiver's look shows overdue, and those whose time is over.
    /// protocol.md [LOSS-1]
    fn detect_lost(&mut self, now: Duration, look: Option<Look>) {
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

    // --- Time ---

    /// When [`Self::handle_timeout`] or [`Self::poll_transmit`] has something to do without further input.
    pub fn poll_timeout(&mut self, now: Duration) -> Option<Duration> {
        // What waits for the path waits for a packet of the peer.
        let room = self.shell.path.room();
        let may_send = self.close.is_none() && room >= self.mtu.current() && self.fits_window();
        let send_at = (may_send && self.has_content()).then(|| self.pacer.next().max(now));
        let heartbeat = self.last_sent + limits::HEARTBEAT;
        let small = [self.shell.poll_timeout(), Some(heartbeat)].map(|at| at.filter(|_| room >= SMALL_BYTES));
        let timers = [self.loss_at, self.probe_at(), send_at];
        timers.into_iter().chain(small).flatten().min()
    }

    /// Time has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.detect_lost(now, None);
        }
        if self.probe_at().is_some_and(|at| at <= now) {
            self.on_probe_timeout(now);
        }
        if self.last_sent + limits::HEARTBEAT <= now {
            self.owes_floor = true;
        }
    }

    fn on_probe_timeout(&mut self, now: Duration) {
        self.timeouts += 1;
        self.stats.timeouts += 1;
        self.quiet_since = now;
        self.probes_due = PROBES_PER_TIMEOUT;
        if let Some(trace) = &mut self.trace {
            let (count, in_flight) = (self.timeouts, self.sent.in_flight());
            trace.note(now, "timeout", format_args!(r#","count":{count},"in_flight":{in_flight}"#));
        }
        if self.mtu.on_timeout(now, self.timeouts) {
            self.controller.on_mtu(self.mtu.current());
        }
    }

    /// When to probe; only while something is in flight. protocol.md [LOSS-3]
    fn probe_at(&self) -> Option<Duration> {
        if self.sent.count_in_flight() == 0 || self.probes_due > 0 {
            return None;
        }
        let timeout = self.rtt.probe_timeout(2 * self.ack_interval());
        let backed_off = timeout * (1 << self.timeouts.min(BACKOFF_MAX.ilog2()));
        Some(self.quiet_since + backed_off.min(PROBE_TIMEOUT_MAX.max(timeout)))
    }

    /// How long a receiver may wait before it acknowledges. protocol.md [ACK-2]
    fn ack_interval(&self) -> Duration {
        let rtt = self.rtt.smoothed();
        if rtt < SHORT_PATH { ACK_INTERVAL_SHORT } else { (rtt / ACKS_PER_ROUND).max(ACK_INTERVAL_MIN) }
    }

    // --- Output ---

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
    fn pacing_rate(&self) -> u64 {
        self.controller.pacing_rate().min(self.rate_max)
    }

    fn has_content(&mut self) -> bool {
        self.outgoing.has_content() || self.is_tail && self.next_copy().is_some()
    }

    /// protocol.md [CONG-2], and [CONG-4] as long as nothing is known of the path
    fn fits_window(&self) -> bool {
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
            self.pacer.on_sent(now, bytes, rate, Pacer::quantum(rate, self.mtu.current()));
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

    /// The socket refused a datagram as too large: it was the probe for a larger size.
    pub fn on_too_large(&mut self, now: Duration) {
        self.mtu.on_too_large(now);
    }

    // --- The session's side ---

    /// Takes a chunk to send.
    pub fn push_chunk(&mut self, file: u64, offset: u64, bytes: Vec<u8>) {
        self.outgoing.push(file, offset, bytes);
        self.unplaced.push_back(Some(Placed { file, offset }));
    }

    /// Whether a further chunk would soon find its turn.
    pub fn wants_chunk(&self) -> bool {
        let ahead = super::pacer::scaled(self.pacing_rate(), CHUNK_AHEAD);
        self.outgoing.unsent_bytes() < ahead.clamp(CHUNK_AHEAD_MIN, limits::CHUNK_BYTES as u64)
    }

    /// What may be sent at most, bytes a second; at least 1.
    pub fn set_rate_max(&mut self, bytes_per_s: u64) {
        self.rate_max = bytes_per_s.max(1);
    }

    /// Whether nothing follows what was pushed: then losses are guarded against by copies.
    pub fn set_tail(&mut self, is_tail: bool) {
        self.is_tail = is_tail;
    }

    /// The credit that the receiver last told in this flow, bytes.
    pub fn credit(&self) -> u64 {
        self.credit
    }

    /// The next chunk that the receiver has placed.
    pub fn poll_placed(&mut self) -> Option<Placed> {
        self.newly_placed.pop_front()
    }

    /// The buffer of a chunk that has arrived.
    pub fn poll_spare(&mut self) -> Option<Vec<u8>> {
        self.outgoing.poll_spare()
    }

    // --- The diary ---

    /// Keeps a diary from here on, of so many lines until they are taken.
    pub fn keep_trace(&mut self, lines: usize) {
        self.trace = Some(Box::new(Trace::new("sender", lines)));
    }

    /// The diary, if one is kept.
    pub fn trace(&mut self) -> Option<&mut Trace> {
        self.trace.as_deref_mut()
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

    /// Ends the flow from this side: no content follows. protocol.md [FLOW-5]
    pub fn close(&mut self, reason: CloseReason) {
        self.close.get_or_insert((reason, 0));
    }

    /// Whether the peer has ended the flow.
    pub fn closed_by_peer(&self) -> Option<CloseReason> {
        self.closed_by_peer
    }

    fn has_close(&self) -> bool {
        self.close.is_some_and(|(_, times)| times == 0 || (self.owes_floor && times < CLOSES))
    }

    /// Whether both directions are known to work.
    pub fn is_confirmed(&self) -> bool {
        self.largest_acked.is_some() && self.shell.path.is_proven()
    }

    /// Since when packets are in flight and nothing new was acknowledged, whatever else the peer may say; `None` while
    /// there is no reason to worry. protocol.md [FLOW-7]
    pub fn silent_since(&self) -> Option<Duration> {
        let is_waiting = self.timeouts > 0 && self.sent.count_in_flight() > 0;
        is_waiting.then_some(self.stalled_since)
    }

    /// Whether the congestion controller has found the path unfit. protocol.md [CONG-6]
    pub fn is_unfit(&self) -> bool {
        self.controller.is_broken()
    }

    /// When an authentic packet came last.
    pub fn last_heard(&self) -> Option<Duration> {
        self.shell.last_heard
    }

    /// What was sent so far.
    pub fn stats(&self) -> SenderStats {
        self.stats
    }

    /// Bytes of datagrams sent and received.
    pub fn wire_bytes(&self) -> u64 {
        self.shell.wire_bytes
    }

    /// Round-trip times.
    pub fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// The congestion controller.
    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Bytes in flight.
    pub fn in_flight(&self) -> u64 {
        self.sent.in_flight()
    }

    /// Bytes of content that are kept until they have arrived.
    pub fn kept_bytes(&self) -> u64 {
        self.outgoing.kept_bytes()
    }

    /// Bytes of UDP payload in a full packet.
    pub fn packet_bytes(&self) -> u64 {
        self.mtu.current()
    }
}

/// What one datagram acknowledged.
#[derive(Debug, Default)]
struct Acked {
    has_ack: bool,
    packets: u64,
    bytes: u64,
    prior_in_flight: u64,
    rtt: Option<Duration>,
    drops: u64,
    look: Option<Look>,
}

/// The receiver at the moment of an acknowledgement.
#[derive(Clone, Copy, Debug)]
struct Look {
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

/// Content that waits in the flow, as time at the pacing rate, and at least.
const CHUNK_AHEAD: Duration = Duration::from_millis(20);
const CHUNK_AHEAD_MIN: u64 = 64 << 10;
