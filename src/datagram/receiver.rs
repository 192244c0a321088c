//! The receiving end of a flow: chunks out of packets, acknowledgements back.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use super::{
    BASE_BYTES, FlowConfig, FlowError, Transmit,
    chance::Chance,
    incoming::{Incoming, Whole},
    path::Arrived,
    received::Arrival,
    shell::Shell,
    trace::Trace,
};
use crate::wire::packet::{
    self, AckFacts, Block, ChunkNumber, CloseReason, Floor, HEADER_BYTES, PacketNumber, blocks,
};

/// Bounds of what a sender may ask for as the time between acknowledgements.
const INTERVAL_MIN: Duration = Duration::from_micros(250);
const INTERVAL_MAX: Duration = Duration::from_millis(250);
/// The interval until the sender has named one.
const INTERVAL_FIRST: Duration = Duration::from_millis(1);
/// When a client that has heard nothing of its server's flow says where it is, since the start. protocol.md [PATH-4]
const GREETINGS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(350)];
/// Between further greetings, and until one when the server has become silent: a NAT may have lost the way back.
const GREETING_PERIOD: Duration = Duration::from_millis(500);
/// First time after which a state that the sender may have missed is told again; doubles up to `REPEAT_MAX`.
const REPEAT_MIN: Duration = Duration::from_millis(20);
const REPEAT_MAX: Duration = Duration::from_secs(1);
/// Room for anything but ACK and padding …
const SMALL_BYTES: u64 = 96;
/// … and for an ACK with all placed ranges and the largest numbers.
const ACK_BYTES: u64 = 640;
/// An end is told so often at most.
const CLOSES: u32 = 3;

/// What a receiving end has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverStats {
    /// Packets that arrived whole, each counted once.
    pub received: u64,
    /// Those of them that came after one with a larger number.
    pub out_of_order: u64,
    /// Packets whose number had come already, or was too old to tell.
    pub duplicates: u64,
    /// Datagrams for this flow that did not open: damaged on the way, or sent by somebody else.
    pub damaged: u64,
}

/// The receiving end of a flow.
#[derive(Debug)]
pub struct Receiver {
    shell: Shell,
    incoming: Incoming,
    whole: VecDeque<Whole>,
    start: Duration,
    /// Number of the next packet.
    next: PacketNumber,
    /// What the sender asked for.
    interval: Duration,
    ack_due: Option<Duration>,
    last_ack: Duration,
    /// The last acknowledgement told of missing numbers.
    told_gaps: bool,
    /// When the largest number arrived.
    largest_at: Duration,
    /// Numbers from here down are told next in an OLDER block, if they fit no ACK.
    older: Option<PacketNumber>,
    /// Where the last ACK ended.
    acked_down_to: PacketNumber,
    drops: u64,
    credit: u64,
    /// Credit or placement changed since the last ACK.
    is_state_new: bool,
    /// The first packet that told the present state, until the sender has heard it.
    state_in: Option<PacketNumber>,
    repeat_at: Duration,
    repeat_period: Duration,
    /// It has to make itself known.
    is_client: bool,
    /// How often the server was greeted, and when last.
    greetings: usize,
    greeted_at: Duration,
    close: Option<(CloseReason, u32)>,
    closed_by_peer: Option<CloseReason>,
    trace: Option<Box<Trace>>,
}

impl Receiver {
    /// A receiving end; `is_client` says that it has to make itself known.
    pub fn new(now: Duration, config: FlowConfig, is_client: bool) -> Self {
        let chance = Chance::new(config.seed);
        Self {
            shell: Shell::new(config.sealer, config.opener, config.path, chance),
            incoming: Incoming::default(),
            whole: VecDeque::new(),
            start: now,
            next: 0,
            interval: INTERVAL_FIRST,
            ack_due: None,
            last_ack: now,
            told_gaps: false,
            largest_at: now,
            older: None,
            acked_down_to: 0,
            drops: 0,
            credit: 0,
            is_state_new: false,
            state_in: None,
            repeat_at: now,
            repeat_period: REPEAT_MIN,
            is_client,
            greetings: 0,
            greeted_at: now,
            close: None,
            closed_by_peer: None,
            trace: None,
        }
    }

    /// Takes a datagram. Chunks that have begun may hold `room` bytes together.
    pub fn handle_datagram(
        &mut self,
        now: Duration,
        from: SocketAddr,
        datagram: &mut [u8],
        room: u64,
    ) -> Result<(), FlowError> {
        let bytes = datagram.len();
        let Some(opened) = self.shell.open(now, from, datagram) else { return Ok(()) };
        let arrival = opened.arrival;
        if let Some(trace) = &mut self.trace {
            let number = opened.number;
            let facts = format_args!(r#","number":{number},"bytes":{bytes},"as":"{}""#, arrival.name());
            trace.note(now, "received", facts);
            if opened.arrived != Arrived::Same {
                trace.note(now, "moved", format_args!(r#","to":"{from}""#));
            }
        }
        if matches!(arrival, Arrival::Next | Arrival::Ahead) {
            self.largest_at = now;
        }
        let mut challenge = None;
        let mut response = None;
        let mut floor = None;
        for block in blocks(opened.payload) {
            match block? {
                Block::Ping => {}
                Block::Data(data) => self.whole.extend(self.incoming.on_data(&data, room)?),
                Block::Floor(new) => floor = Some(new),
                Block::Challenge(token) => challenge = Some(token),
                Block::Response(token) => response = Some(token),
                Block::Close(reason) => self.on_close(now, reason),
                // protocol.md [FLOW-1]
                Block::Ack(_) | Block::Older(_) => {
                    return Err(FlowError::Violation("it acknowledged what it was never sent"));
                }
            }
        }
        if let Some(token) = challenge {
            self.shell.on_challenge(token);
        }
        if let Some(token) = response {
            self.shell.path.on_response(from, token);
        }
        if let Some(floor) = floor {
            self.on_floor(&floor)?;
        }
        self.schedule_ack(now, arrival);
        Ok(())
    }

    fn on_close(&mut self, now: Duration, reason: CloseReason) {
        self.closed_by_peer = Some(reason);
        if let Some(trace) = &mut self.trace {
            trace.note(now, "closed", format_args!(r#","reason":"{reason:?}""#));
        }
    }

    fn on_floor(&mut self, floor: &Floor) -> Result<(), FlowError> {
        // protocol.md [FLOW-4]: what was never sent cannot have been heard.
        if floor.heard > self.next {
            return Err(FlowError::Violation("it heard what was never sent"));
        }
        self.shell.received.set_floor(floor.floor);
        let interval = Duration::from_micros(floor.ack_interval_us);
        self.interval = interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        if let Some(last) = floor.heard.checked_sub(1) {
            self.shell.on_acked(last);
            self.state_in = self.state_in.filter(|&first| first > last);
        }
        Ok(())
    }

    /// protocol.md [ACK-1]: by time, and at once when the first number goes missing.
    fn schedule_ack(&mut self, now: Duration, arrival: Arrival) {
        let by_time = now.max(self.last_ack + self.interval);
        let is_first_gap = arrival == Arrival::Ahead && !self.told_gaps;
        let due = if is_first_gap { now } else { by_time };
        self.ack_due = Some(self.ack_due.map_or(due, |earlier| earlier.min(due)));
    }

    /// What the session's sender may have sent in all, bytes.
    pub fn set_credit(&mut self, now: Duration, credit: u64) {
        if credit > self.credit {
            self.credit = credit;
            self.on_state(now);
        }
    }

    /// A chunk was placed.
    pub fn on_placed(&mut self, now: Duration, number: ChunkNumber) {
        self.incoming.on_placed(number);
        self.on_state(now);
    }

    /// Datagrams that the socket has dropped so far.
    pub fn set_drops(&mut self, drops: u64) {
        self.drops = self.drops.max(drops);
    }

    fn on_state(&mut self, now: Duration) {
        self.is_state_new = true;
        if self.shell.received.end() > 0 {
            let due = now.max(self.last_ack + self.interval);
            self.ack_due = Some(self.ack_due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// The next chunk that has come whole.
    pub fn poll_chunk(&mut self) -> Option<Whole> {
        self.whole.pop_front()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Result<Option<Transmit>, FlowError> {
        out.clear();
        let Some(to) = self.shell.path.remote() else { return Ok(None) };
        let room = self.shell.path.room().min(BASE_BYTES);
        if room < SMALL_BYTES {
            return Ok(None);
        }
        // protocol.md [PATH-1]
        let is_ack_due =
            room >= ACK_BYTES && (self.ack_due.is_some_and(|due| due <= now) || self.is_repeat_due(now));
        let is_greeting_due = self.greeting_at().is_some_and(|at| at <= now);
        let has_close = self.has_close();
        let older = self.older.take();
        if !(is_ack_due || is_greeting_due || has_close || older.is_some() || self.shell.has_urgent(now)) {
            return Ok(None);
        }

        while self.shell.skips(self.next) {
            self.next += 1;
        }
        let start = Shell::begin(out);
        let end = usize::try_from(room).expect("a datagram") - self.shell.trailer_bytes();
        self.shell.put_urgent(now, out);
        if has_close && let Some((reason, times)) = &mut self.close {
            packet::put_close(out, *reason);
            *times += 1;
        }
        if is_ack_due && self.shell.received.end() > 0 {
            self.put_ack(now, out, end);
        } else {
            // protocol.md [ACK-4]: who hears this packet has not heard the state.
            self.state_in = self.state_in.map(|_| self.next + 1);
            if let Some(below) = older {
                self.put_older(out, end, below);
            }
        }
        if is_greeting_due {
            self.greetings += 1;
            self.greeted_at = now;
            packet::put_ping(out);
            packet::put_padding(out, end);
        }
        if out.len() == start + HEADER_BYTES {
            packet::put_ping(out);
        }
        let number = self.next;
        self.next += 1;
        self.shell.seal(number, out, start)?;
        Ok(Some(Transmit { to, segment_bytes: out.len() }))
    }

    fn put_ack(&mut self, now: Duration, out: &mut Vec<u8>, end: usize) {
        let received = &self.shell.received;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let facts = AckFacts {
            received_us: micros(self.largest_at.saturating_sub(self.start)),
            delay_us: micros(now.saturating_sub(self.largest_at)),
            drops: self.drops,
            credit: self.credit,
        };
        let placed = self.incoming.placed();
        packet::put_ack(out, &facts, placed.floor(), placed.above());
        let room = end.saturating_sub(out.len()).max(MIN_NUMBERS_BYTES);
        let lowest = packet::put_numbers(out, received.ranges_below(PacketNumber::MAX), room);
        self.told_gaps = received.has_gaps();
        self.schedule_older(lowest);

        if std::mem::take(&mut self.is_state_new) {
            self.state_in = Some(self.next);
            self.repeat_period = REPEAT_MIN.max(self.interval * 4);
        } else if self.is_repeat_due(now) {
            self.repeat_period = (self.repeat_period * 2).min(REPEAT_MAX);
        }
        self.repeat_at = now + self.repeat_period;
        self.last_ack = now;
        self.ack_due = None;
        if let Some(trace) = &mut self.trace {
            let largest = self.shell.received.end().saturating_sub(1);
            let (number, credit) = (self.next, self.credit);
            let facts = format_args!(r#","number":{number},"largest":{largest},"credit":{credit}"#);
            trace.note(now, "ack", facts);
        }
    }

    /// What did not fit an ACK follows behind it, part by part. protocol.md [ACK-3]
    fn schedule_older(&mut self, lowest: PacketNumber) {
        let has_more = |below| self.shell.received.ranges_below(below).next().is_some();
        // It goes on where the last one ended, and begins anew at the bottom.
        let next = Some(lowest.min(self.acked_down_to)).filter(|&below| has_more(below));
        self.older = next.or(Some(lowest).filter(|&below| has_more(below)));
    }

    fn put_older(&mut self, out: &mut Vec<u8>, end: usize, below: PacketNumber) {
        let received = &self.shell.received;
        if received.ranges_below(below).next().is_none() {
            return;
        }
        packet::put_older(out);
        let room = end.saturating_sub(out.len());
        self.acked_down_to = packet::put_numbers(out, received.ranges_below(below), room);
    }

    /// Keeps a diary from here on, of so many lines until they are taken.
    pub fn keep_trace(&mut self, lines: usize) {
        self.trace = Some(Box::new(Trace::new("receiver", lines)));
    }

    /// The diary, if one is kept.
    pub fn trace(&mut self) -> Option<&mut Trace> {
        self.trace.as_deref_mut()
    }

    /// Ends the flow from this side. protocol.md [FLOW-5]
    pub fn close(&mut self, reason: CloseReason) {
        self.close.get_or_insert((reason, 0));
    }

    /// Whether the peer has ended the flow.
    pub fn closed_by_peer(&self) -> Option<CloseReason> {
        self.closed_by_peer
    }

    fn has_close(&self) -> bool {
        self.close.is_some_and(|(_, times)| times == 0 || (self.ack_due.is_some() && times < CLOSES))
    }

    /// When [`Self::poll_transmit`] has something to send without further input.
    pub fn poll_timeout(&self) -> Option<Duration> {
        // What waits for the path waits for a packet of the peer.
        let room = self.shell.path.room();
        let small =
            [self.shell.poll_timeout(), self.greeting_at()].map(|at| at.filter(|_| room >= SMALL_BYTES));
        let acks =
            [self.ack_due, self.state_in.map(|_| self.repeat_at)].map(|at| at.filter(|_| room >= ACK_BYTES));
        small.into_iter().chain(acks).flatten().min()
    }

    /// Gives an emptied buffer back for a later chunk.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.incoming.recycle(buffer);
    }

    /// Whether a buffer is welcome.
    pub fn wants_spare(&self) -> bool {
        self.incoming.wants_spare()
    }

    /// When an authentic packet came last.
    pub fn last_heard(&self) -> Option<Duration> {
        self.shell.last_heard
    }

    /// Bytes of datagrams sent and received.
    pub fn wire_bytes(&self) -> u64 {
        self.shell.wire_bytes
    }

    /// What has been counted so far.
    pub fn stats(&self) -> ReceiverStats {
        let Shell { opened: received, late: out_of_order, duplicates, rejected: damaged, .. } = self.shell;
        ReceiverStats { received, out_of_order, duplicates, damaged }
    }

    /// Bytes of content that have come, each counted once.
    pub fn new_bytes(&self) -> u64 {
        self.incoming.new_bytes()
    }

    /// Bytes that partial chunks will hold when they are whole.
    pub fn partial_bytes(&self) -> u64 {
        self.incoming.partial_bytes()
    }

    fn is_repeat_due(&self, now: Duration) -> bool {
        self.state_in.is_some() && self.repeat_at <= now && self.shell.received.end() > 0
    }

    /// protocol.md [PATH-4]
    fn greeting_at(&self) -> Option<Duration> {
        let at = match (self.shell.last_heard, GREETINGS.get(self.greetings)) {
            (Some(heard), _) => heard.max(self.greeted_at) + GREETING_PERIOD,
            (None, Some(&after)) => self.start + after,
            (None, None) => self.greeted_at + GREETING_PERIOD,
        };
        self.is_client.then_some(at)
    }
}

/// Least room for numbers; a datagram of the base size has more behind every other block.
const MIN_NUMBERS_BYTES: usize = 24;
