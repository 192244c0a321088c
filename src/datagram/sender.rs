//! The sending end of a flow: chunks into packets, acknowledgements into decisions.
//!
//! ```text
//!   chunks ─► packets: what is due, in which order ─► datagrams
//!                │ sent                        ▲ window, pace, what is to be repeated
//!                ▼                             │
//!   acknowledgements ─► acked: what has arrived, what is lost, what the law hears of it
//! ```
//!
//! Here are the state, what comes in, time, and what the session asks.

mod acked;
mod packets;

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use acked::Acked;

use super::{
    BASE_BYTES, FlowConfig, FlowError,
    chance::Chance,
    congestion::{Congestion, Controller, RateSampler},
    loss::Reordering,
    mtu::Mtu,
    outgoing::Outgoing,
    pacer::Pacer,
    path::Arrived,
    received::Arrival,
    rtt::Rtt,
    sent::SentPackets,
    shell::Shell,
    trace::Trace,
};
use crate::{
    limits,
    wire::packet::{Block, CloseReason, PacketNumber, blocks},
};

/// A receiver acknowledges so often in a round trip …
const ACKS_PER_ROUND: u32 = 8;
/// … but not more often than this …
const ACK_INTERVAL_MIN: Duration = Duration::from_millis(1);
/// … except on a path shorter than `SHORT_PATH`.
const ACK_INTERVAL_SHORT: Duration = Duration::from_micros(250);
const SHORT_PATH: Duration = Duration::from_millis(1);
/// Packets that a probe timeout sends (RFC 9002, section 6.2.4).
const PROBES_PER_TIMEOUT: u32 = 2;
/// The probe timeout doubles up to this multiple: a path that comes back is noticed soon.
const BACKOFF_MAX: u32 = 16;
/// Longest probe timeout.
const PROBE_TIMEOUT_MAX: Duration = Duration::from_secs(1);
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
    /// When the last packet came before which others are missing.
    gap_at: Option<Duration>,
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
            gap_at: None,
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
        if opened.arrival == Arrival::Ahead {
            self.gap_at = Some(now);
        }
        // protocol.md [ACK-5]
        let is_in_order = self.gap_at.is_none_or(|at| now.saturating_sub(at) > self.rtt.smoothed() / 2);
        let mut acked = Acked::new(is_in_order);
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
                acked.forget_path();
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

/// Content that waits in the flow, as time at the pacing rate, and at least.
const CHUNK_AHEAD: Duration = Duration::from_millis(20);
const CHUNK_AHEAD_MIN: u64 = 64 << 10;
