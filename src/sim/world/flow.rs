//! One end of a flow and the session on its other side, coupled as the program does it, without a thread.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{super::window::WindowGuard, host::Core};
use crate::{
    datagram::{self, FlowError, Transmit},
    limits,
    transfer::Carrier,
    wire::{
        frame::Frame,
        packet::{ChunkNumber, CloseReason, ConnectionId},
    },
};

/// One end of a flow.
#[derive(Debug)]
pub struct FlowEnd {
    /// Its number in the session.
    pub carrier: Carrier,
    /// What it is called in packets that come in.
    pub id: ConnectionId,
    /// Nothing comes in or goes out any more, and nobody has said so.
    pub is_mute: bool,
    /// Content that came on it, bytes.
    pub content_bytes: u64,
    is_client: bool,
    idle_timeout: Duration,
    /// Each end has a clock of its own.
    started: Duration,
    side: FlowSide,
}

/// What an end does.
#[derive(Debug)]
pub enum FlowSide {
    /// Content leaves here.
    Sender(Box<datagram::Sender>, WindowGuard),
    /// Content comes here; chunks that are not placed, by file and offset.
    Receiver(Box<datagram::Receiver>, BTreeMap<(u64, u64), ChunkNumber>),
}

/// Why an end is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowOutcome {
    /// The session is over, or the other end is.
    Done,
    /// Nothing is heard of the other end.
    Silent,
    /// The path does not carry it.
    Unfit,
}

impl FlowEnd {
    /// An end that begins now.
    pub fn new(
        started: Duration,
        carrier: Carrier,
        id: ConnectionId,
        is_client: bool,
        idle_timeout: Duration,
        side: FlowSide,
    ) -> Self {
        Self { carrier, id, is_mute: false, content_bytes: 0, is_client, idle_timeout, started, side }
    }

    /// Takes a datagram, and hands whole chunks to the session.
    pub fn handle_datagram(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8], core: &mut Core) {
        let now = now - self.started;
        let honest = |result: Result<(), FlowError>| result.expect("an honest peer breaks no rule");
        match &mut self.side {
            FlowSide::Sender(sender, _) => honest(sender.handle_datagram(now, from, datagram)),
            FlowSide::Receiver(receiver, unplaced) => {
                let room = core.room();
                honest(receiver.handle_datagram(now, from, datagram, room));
                assert!(receiver.partial_bytes() <= room.max(limits::CREDIT_MAX_BYTES));
                while let Some(chunk) = receiver.poll_chunk() {
                    self.content_bytes += chunk.bytes.len() as u64;
                    let place = (chunk.file, chunk.offset);
                    unplaced.insert(place, chunk.number);
                    let frame = Frame::Data { file: place.0, offset: place.1, bytes: chunk.bytes };
                    core.handle_frame(self.carrier, frame);
                }
            }
        }
    }

    /// Moves chunks and news between the flow and the session; whether there was anything that the session may want
    /// to act on.
    pub fn serve(&mut self, now: Duration, core: &mut Core) -> bool {
        let now = now - self.started;
        match &mut self.side {
            FlowSide::Sender(sender, _) => {
                sender.handle_timeout(now);
                core.on_flow_credit(sender.credit());
                let mut has_news = false;
                while let Some(placed) = sender.poll_placed() {
                    core.on_flow_placed(placed.file, placed.offset);
                    has_news = true;
                }
                while sender.poll_spare().is_some() {}
                let mut has_more = true;
                while has_more && sender.wants_chunk() {
                    match core.poll_frame(self.carrier) {
                        Some(Frame::Data { file, offset, bytes }) => {
                            sender.push_chunk(file, offset, bytes);
                            has_news = true;
                        }
                        Some(other) => panic!("{:?} on a flow", other.frame_type()),
                        None => has_more = false,
                    }
                }
                sender.set_tail(!has_more && core.is_tail());
                // What it keeps was granted once.
                assert!(sender.kept_bytes() <= limits::CREDIT_MAX_BYTES, "it keeps more than any credit");
                has_news
            }
            FlowSide::Receiver(receiver, unplaced) => {
                let (placed, credit) = core.flow_state(self.carrier);
                for place in placed {
                    if let Some(number) = unplaced.remove(&place) {
                        receiver.on_placed(now, number);
                    }
                }
                receiver.set_credit(now, credit);
                false
            }
        }
    }

    /// The next datagrams.
    pub fn poll_transmit(&mut self, now: Duration, out: &mut Vec<u8>) -> Option<Transmit> {
        let now = now - self.started;
        let sent = match &mut self.side {
            FlowSide::Sender(sender, guard) => {
                let before = WindowGuard::before(sender);
                let sent = sender.poll_transmit(now, out);
                let datagrams = match &sent {
                    Ok(Some(transmit)) => out.len().div_ceil(transmit.segment_bytes),
                    _ => 0,
                };
                guard.check(before, sender, datagrams);
                sent
            }
            FlowSide::Receiver(receiver, _) => receiver.poll_transmit(now, out),
        };
        sent.expect("the keys last")
    }

    /// When it wants to be asked again.
    pub fn poll_timeout(&mut self, now: Duration) -> Duration {
        let local = now - self.started;
        let at = match &mut self.side {
            FlowSide::Sender(sender, _) => sender.poll_timeout(local),
            FlowSide::Receiver(receiver, _) => receiver.poll_timeout(),
        };
        self.started + at.unwrap_or(Duration::MAX).min(local + limits::HEARTBEAT)
    }

    /// Whether both directions are known to work, as far as a sender knows.
    pub fn is_confirmed(&self) -> bool {
        matches!(&self.side, FlowSide::Sender(sender, _) if sender.is_confirmed())
    }

    /// Whether it is of no use any more. protocol.md [FLOW-7]
    pub fn judge(&self, now: Duration) -> Option<FlowOutcome> {
        let now = now - self.started;
        let (last_heard, silent_since) = match &self.side {
            FlowSide::Sender(sender, _) => {
                if sender.is_unfit() {
                    return Some(FlowOutcome::Unfit);
                }
                if sender.closed_by_peer().is_some() {
                    return Some(FlowOutcome::Done);
                }
                (sender.last_heard(), sender.silent_since())
            }
            FlowSide::Receiver(receiver, _) => {
                if receiver.closed_by_peer().is_some() {
                    return Some(FlowOutcome::Done);
                }
                (receiver.last_heard(), receiver.last_heard())
            }
        };
        let blocked_after = limits::FLOW_BLOCKED_AFTER * if self.is_client { 1 } else { 2 };
        let is_silent = match (last_heard, silent_since) {
            (None, _) => now >= blocked_after,
            (Some(_), Some(since)) => now.saturating_sub(since) >= self.idle_timeout,
            (Some(_), None) => false,
        };
        is_silent.then_some(FlowOutcome::Silent)
    }

    /// Says that it ends.
    pub fn close(&mut self, outcome: FlowOutcome) {
        let reason = match outcome {
            FlowOutcome::Done => CloseReason::Done,
            FlowOutcome::Silent | FlowOutcome::Unfit => CloseReason::Unfit,
        };
        match &mut self.side {
            FlowSide::Sender(sender, _) => sender.close(reason),
            FlowSide::Receiver(receiver, _) => receiver.close(reason),
        }
    }

    /// Whether content leaves here.
    pub fn is_sender(&self) -> bool {
        matches!(self.side, FlowSide::Sender(..))
    }

    /// Keeps a diary of the last lines.
    pub fn keep_trace(&mut self, lines: usize) {
        match &mut self.side {
            FlowSide::Sender(sender, _) => sender.keep_trace(lines),
            FlowSide::Receiver(receiver, _) => receiver.keep_trace(lines),
        }
    }

    /// Takes the diary's lines.
    pub fn take_trace(&mut self) -> Vec<String> {
        let trace = match &mut self.side {
            FlowSide::Sender(sender, _) => sender.trace(),
            FlowSide::Receiver(receiver, _) => receiver.trace(),
        };
        let Some(trace) = trace else { return Vec::new() };
        let (carrier, started) = (self.carrier, self.started.as_micros());
        // On one clock, and with the flow's number.
        let line = |line: String| {
            let rest = line.strip_prefix("{\"us\":").and_then(|rest| rest.split_once(','));
            let (us, rest) = rest.expect("a line begins with its time");
            let us: u128 = us.parse().expect("a time is a number");
            format!("{{\"us\":{},\"flow\":{carrier},{rest}", us + started)
        };
        std::iter::from_fn(|| trace.poll_line()).map(line).collect()
    }
}
