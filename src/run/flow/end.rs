//! One end of a flow: its value behind a mutex, its thread that sends, and the session on its other side.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    super::{
        clock,
        error::{Cause, RunError},
        meter::Wait,
        report::{FlowReport, SenderFigures},
        session::{Role, Session},
        wait,
    },
    choice::{Choice, Seen, Turn},
    diary::{self, Diary},
    hub::{Intake, Shared},
    patience::Patience,
};
use crate::{
    datagram::{self, FlowError, Trace, Whole},
    limits,
    net::Waker,
    stream::LinkError,
    transfer::Carrier,
    wire::{
        frame::Frame,
        packet::{ChunkNumber, CloseReason, ConnectionId},
    },
};

/// A wait that is due already and cannot go on is tried again so soon.
const STEP: Duration = Duration::from_micros(50);
/// How often it is asked where content is best sent.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Of a TCP connection that lives, something comes each second.
const TCP_SILENT: Duration = limits::HEARTBEAT.saturating_mul(2);
/// What a person is told about a flow that is not heard.
pub(super) const BLOCKED: &str = "UDP does not get through: a firewall on the way, or at the other end, blocks its port; use --transport auto or tcp";

/// What an end is part of.
#[derive(Debug)]
pub struct EndConfig {
    /// Its number in the session.
    pub carrier: Carrier,
    /// What it is called in packets that come in.
    pub id: ConnectionId,
    /// Content goes over this flow alone: without it, the session fails.
    pub is_only: bool,
    /// This side has opened it.
    pub is_client: bool,
    /// After so long without a sign of life, the peer counts as gone.
    pub idle_timeout: Duration,
}

/// One end of a flow at work.
#[derive(Debug)]
pub struct End {
    config: EndConfig,
    session: Arc<Session>,
    hub: Arc<Shared>,
    waker: Arc<Waker>,
    start: Instant,
    core: Mutex<Core>,
    /// What the socket had dropped at the start, where the system counts that.
    drops_before: Option<u32>,
    /// What chunks that have begun may hold, bytes.
    room: AtomicU64,
    /// Until when the thread sleeps, nanoseconds since the start.
    sleeps_until: AtomicU64,
}

/// The value, and our address that the peer writes to.
#[derive(Debug)]
struct Core {
    side: Side,
    answer_from: Option<IpAddr>,
    error: Option<FlowError>,
}

/// What an end does.
#[derive(Debug)]
pub enum Side {
    /// Content leaves here.
    Sender(Box<datagram::Sender>),
    /// Content comes here; the chunks that are not placed, by file and offset.
    Receiver(Box<datagram::Receiver>, BTreeMap<(u64, u64), ChunkNumber>),
}

impl Side {
    fn keep_trace(&mut self) {
        match self {
            Self::Sender(sender) => sender.keep_trace(diary::LINES),
            Self::Receiver(receiver, _) => receiver.keep_trace(diary::LINES),
        }
    }

    fn trace(&mut self) -> Option<&mut Trace> {
        match self {
            Self::Sender(sender) => sender.trace(),
            Self::Receiver(receiver, _) => receiver.trace(),
        }
    }
}

/// How a thread's work ended.
enum Outcome {
    /// The session is over, or the flow is told to be.
    Done,
    /// The other side of the flow is not there.
    Silent,
    /// The congestion controller gave up.
    Unfit,
    /// TCP moves content faster.
    Slower,
    /// The peer broke the protocol.
    Broken(FlowError),
}

impl End {
    /// An end that is registered at the hub and at the session, with its thread.
    pub fn start(
        config: EndConfig,
        session: &Arc<Session>,
        hub: &Arc<Shared>,
        start: Instant,
        mut side: Side,
        mut diary: Option<Diary>,
    ) -> Result<(), RunError> {
        let failed = |error| RunError::new(Cause::Unexpected, format!("cannot start a flow: {error}"));
        let waker = Arc::new(Waker::new().map_err(failed)?);
        session.attach_thread(config.carrier, waker.clone());
        if diary.is_some() {
            side.keep_trace();
        }
        let end = Arc::new(Self {
            session: session.clone(),
            hub: hub.clone(),
            waker,
            start,
            core: Mutex::new(Core { side, answer_from: None, error: None }),
            drops_before: hub.socket.drops(),
            room: AtomicU64::new(0),
            sleeps_until: AtomicU64::new(0),
            config,
        });
        hub.register(end.config.id, Intake::End(end.clone()));
        super::super::sending::spawn(session, "flow", move || end.run(&mut diary))
    }

    fn now(&self) -> Duration {
        clock::now().duration_since(self.start)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- The hub's side ---

    /// Datagrams for this end are about to be handed over.
    pub fn before_input(&self) {
        self.room.store(self.session.flow_room(), Relaxed);
    }

    /// Takes a datagram.
    pub fn input(&self, from: SocketAddr, to: Option<IpAddr>, datagram: &mut [u8]) {
        let now = self.now();
        let mut core = self.lock();
        let result = match &mut core.side {
            Side::Sender(sender) => sender.handle_datagram(now, from, datagram),
            Side::Receiver(receiver, _) => {
                receiver.handle_datagram(now, from, datagram, self.room.load(Relaxed))
            }
        };
        core.answer_from = to;
        if let Err(error) = result {
            core.error.get_or_insert(error);
        }
    }

    /// Some datagrams were handed over.
    pub fn after_input(&self, drops: Option<u64>) {
        let mut whole: Vec<Whole> = Vec::new();
        let mut core = self.lock();
        let heard = match &core.side {
            Side::Sender(sender) => sender.last_heard(),
            Side::Receiver(receiver, _) => receiver.last_heard(),
        };
        if let Some(heard) = heard {
            self.session.note_flow_heard(self.start + heard);
        }
        if let Side::Receiver(receiver, unplaced) = &mut core.side {
            receiver.set_drops(drops.unwrap_or(0));
            while let Some(chunk) = receiver.poll_chunk() {
                unplaced.insert((chunk.file, chunk.offset), chunk.number);
                whole.push(chunk);
            }
            while receiver.wants_spare() {
                let spare = self.session.take_spare();
                if spare.capacity() == 0 {
                    break;
                }
                receiver.recycle(spare);
            }
            // What is due goes out from here: no other thread has to wake for it.
            drop(core);
            let mut out = Vec::new();
            while self.transmit(self.lock(), &mut out) {}
        } else {
            drop(core);
        }
        for Whole { file, offset, bytes, .. } in whole {
            self.session.on_frame(self.config.carrier, Frame::Data { file, offset, bytes });
        }
        if self.deadline() < Duration::from_nanos(self.sleeps_until.load(Relaxed)) {
            self.waker.wake();
        }
    }

    fn deadline(&self) -> Duration {
        let now = self.now();
        let mut core = self.lock();
        if core.error.is_some() {
            return Duration::ZERO;
        }
        match &mut core.side {
            // An acknowledgement opens the window, asks for content, tells of credit.
            Side::Sender(_) => Duration::ZERO,
            Side::Receiver(receiver, _) => receiver.poll_timeout().unwrap_or(now + limits::HEARTBEAT),
        }
    }

    // --- The thread ---

    fn run(&self, diary: &mut Option<Diary>) {
        // The session's report waits for what is counted here.
        let _counting = self.session.writing();
        wait::make_precise();
        let outcome = self.work(diary);
        self.say_goodbye(&outcome);
        self.hub.remove(self.config.id);
        self.write_down(diary, true);
        let wire_bytes = match &self.lock().side {
            Side::Sender(sender) => {
                if sender.stats().payload_bytes > 0 {
                    self.session.note_flow(report(sender));
                }
                sender.wire_bytes()
            }
            Side::Receiver(receiver, _) => {
                if receiver.new_bytes() > 0 {
                    self.session.note_flow(self.hub.receiver_report(receiver.stats(), self.drops_before));
                }
                receiver.wire_bytes()
            }
        };
        self.session.meter.add_wire(wire_bytes);
        let error = match outcome {
            Outcome::Done | Outcome::Slower => None,
            Outcome::Silent => Some(blocked_or_lost(&self.session.peer(), self.session.tcp_silent_for())),
            Outcome::Unfit => {
                let text = format!("{}: the path does not carry the rate asked for", self.session.peer());
                Some(RunError::new(Cause::UdpBlocked, text))
            }
            Outcome::Broken(error) => Some(RunError::violation(&self.session.peer(), &error)),
        };
        match error {
            Some(error) if error.cause == Cause::Peer || self.config.is_only => self.session.fail(error),
            error => {
                if !self.config.is_only && self.session.has_only() && !self.session.is_over() {
                    let why = match outcome {
                        Outcome::Silent => "UDP has gone silent",
                        Outcome::Unfit => "the path does not carry the rate asked for",
                        Outcome::Slower => "UDP was slower",
                        Outcome::Broken(_) => "what came over UDP broke the protocol",
                        Outcome::Done => "the other end has given UDP up",
                    };
                    self.session.note_move("tcp", why.to_owned());
                }
                self.session.detach(self.config.carrier, error);
            }
        }
    }

    fn work(&self, diary: &mut Option<Diary>) -> Outcome {
        let mut out = Vec::with_capacity(limits::DATAGRAM_MAX_BYTES);
        let mut choice = Choice::new();
        let mut look_at = Duration::ZERO;
        loop {
            if self.session.is_over() || self.session.is_down(self.config.carrier) {
                return Outcome::Done;
            }
            self.write_down(diary, false);
            let now = self.now();
            let mut core = self.lock();
            if let Some(error) = core.error {
                return Outcome::Broken(error);
            }
            let wait = match &mut core.side {
                Side::Sender(sender) => self.serve_sender(now, sender),
                Side::Receiver(receiver, unplaced) => {
                    self.serve_receiver(now, receiver, unplaced);
                    None
                }
            };
            if let Some(outcome) = self.judge(now, &core.side) {
                return outcome;
            }
            if now >= look_at
                && let (false, Side::Sender(sender)) = (self.config.is_only, &core.side)
            {
                look_at = now + LOOK_EVERY;
                if self.choose(now, sender, &mut choice) == Turn::ToTcp {
                    return Outcome::Slower;
                }
            }
            if self.transmit(core, &mut out) {
                continue;
            }
            self.sleep(wait);
        }
    }

    /// Lets the diary have what was noted since the last call.
    fn write_down(&self, diary: &mut Option<Diary>, is_end: bool) {
        let Some(diary) = diary else { return };
        let now = self.now();
        let lines = self.lock().side.trace().map(|trace| diary::take(now, trace, is_end));
        diary.write(&lines.unwrap_or_default());
        if is_end {
            diary.flush();
        }
    }

    fn sleep(&self, wait: Option<Duration>) {
        let now = self.now();
        let (deadline, is_full) = match &mut self.lock().side {
            Side::Sender(sender) => (sender.poll_timeout(now), !sender.wants_chunk()),
            Side::Receiver(receiver, _) => (receiver.poll_timeout(), false),
        };
        let deadline = deadline.unwrap_or(Duration::MAX).min(now + wait.unwrap_or(limits::HEARTBEAT));
        let deadline = deadline.max(now + STEP);
        self.sleeps_until.store(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        let left = deadline.saturating_sub(self.now());
        let began = self.session.meter.elapsed();
        let _ = self.waker.wait(Some(left));
        if is_full {
            self.session.meter.add(Wait::Network, self.session.meter.elapsed().saturating_sub(began));
        }
        self.sleeps_until.store(0, Relaxed);
    }

    /// Sends what there is; whether there was anything.
    fn transmit(&self, mut core: MutexGuard<'_, Core>, out: &mut Vec<u8>) -> bool {
        let now = self.now();
        let transmit = match &mut core.side {
            Side::Sender(sender) => sender.poll_transmit(now, out),
            Side::Receiver(receiver, _) => receiver.poll_transmit(now, out),
        };
        let transmit = match transmit {
            Ok(Some(transmit)) => transmit,
            Ok(None) => return false,
            Err(error) => {
                core.error.get_or_insert(error);
                return false;
            }
        };
        let from = core.answer_from.filter(|_| !self.config.is_client);
        drop(core);
        if self.hub.send(transmit, from, out, &self.waker, &self.session).is_err()
            && let Side::Sender(sender) = &mut self.lock().side
        {
            sender.on_too_large(now);
        }
        true
    }

    /// Moves chunks from the session to the flow, and what the flow has heard to the session. Gives how long the pace
    /// asked for makes it wait.
    fn serve_sender(&self, now: Duration, sender: &mut datagram::Sender) -> Option<Duration> {
        sender.handle_timeout(now);
        let placed: Vec<_> = std::iter::from_fn(|| sender.poll_placed()).collect();
        self.session.on_flow_heard(sender.credit(), &placed);
        let spare: Vec<_> = std::iter::from_fn(|| sender.poll_spare()).collect();
        if !spare.is_empty() {
            self.session.keep_spare(spare.into_iter().map(emptied));
        }
        let mut wait = None;
        let mut has_more = true;
        while has_more && sender.wants_chunk() {
            match self.session.poll_frame(self.config.carrier) {
                Ok(Some(Frame::Data { file, offset, bytes })) => sender.push_chunk(file, offset, bytes),
                Ok(_) => has_more = false,
                Err(pace) => {
                    wait = Some(pace);
                    has_more = false;
                }
            }
        }
        sender.set_tail(
            !has_more && self.session.look(|role| matches!(role, Role::Sender(sender) if sender.is_tail())),
        );
        wait
    }

    fn serve_receiver(
        &self,
        now: Duration,
        receiver: &mut datagram::Receiver,
        unplaced: &mut BTreeMap<(u64, u64), ChunkNumber>,
    ) {
        let (placed, credit) = self.session.flow_state(self.config.carrier);
        for (file, offset) in placed {
            if let Some(number) = unplaced.remove(&(file, offset)) {
                receiver.on_placed(now, number);
            }
        }
        receiver.set_credit(now, credit);
    }

    /// Whether the flow is of any use. protocol.md [FLOW-7]
    fn judge(&self, now: Duration, side: &Side) -> Option<Outcome> {
        let (last_heard, silent_since) = match side {
            Side::Sender(sender) => {
                if sender.is_unfit() {
                    return Some(Outcome::Unfit);
                }
                if sender.closed_by_peer().is_some() {
                    return Some(Outcome::Done);
                }
                (sender.last_heard(), sender.silent_since())
            }
            Side::Receiver(receiver, _) => {
                if receiver.closed_by_peer().is_some() {
                    return Some(Outcome::Done);
                }
                (receiver.last_heard(), receiver.last_heard())
            }
        };
        let patience = Patience {
            is_client: self.config.is_client,
            path_rtt: self.session.path_rtt(),
            rtt_beside_tcp: match side {
                Side::Sender(sender) if !self.config.is_only => Some(sender.rtt().smoothed()),
                Side::Sender(_) | Side::Receiver(..) => None,
            },
            idle_timeout: self.config.idle_timeout,
        };
        patience.is_over(now, last_heard, silent_since).then_some(Outcome::Silent)
    }

    /// Lets content move to the flow when that is better.
    fn choose(&self, now: Duration, sender: &datagram::Sender, choice: &mut Choice) -> Turn {
        let (sent_bytes, resent_bytes) = self.session.tcp_bytes();
        let (placed_bytes, is_waiting) = self.session.look(|role| match role {
            Role::Sender(sender) => {
                (sender.placed_bytes(), sender.has_chunks() && !sender.is_blocked_by_credit())
            }
            Role::Receiver(_) | Role::Lister(_) => (0, false),
        });
        let rtt = self.session.path_rtt();
        let is_confirmed = sender.is_confirmed();
        let seen = Seen { is_confirmed, sent_bytes, resent_bytes, rtt, placed_bytes, is_waiting };
        let turn = choice.look(now, &seen);
        if turn == Turn::ToFlow {
            let (loss, rtt) = (seen.loss() * 100.0, rtt.as_secs_f64() * 1e3);
            self.session.note_move("udp", format!("TCP lost {loss:.1} % at a round trip of {rtt:.0} ms"));
            self.session.set_only(self.config.carrier);
        }
        turn
    }

    fn say_goodbye(&self, outcome: &Outcome) {
        let reason = match outcome {
            Outcome::Done => CloseReason::Done,
            Outcome::Silent | Outcome::Unfit | Outcome::Slower => CloseReason::Unfit,
            Outcome::Broken(_) => CloseReason::Violation,
        };
        let mut core = self.lock();
        match &mut core.side {
            Side::Sender(sender) => sender.close(reason),
            Side::Receiver(receiver, _) => receiver.close(reason),
        }
        let mut out = Vec::new();
        self.transmit(core, &mut out);
    }
}

/// Why a flow is silent: where TCP is heard, UDP is blocked; where nothing is heard, the path is gone, and may come back.
pub(super) fn blocked_or_lost(peer: &str, tcp_silent_for: Duration) -> RunError {
    if tcp_silent_for >= TCP_SILENT {
        return RunError::link(peer, &LinkError::Silent(tcp_silent_for));
    }
    RunError::new(Cause::UdpBlocked, format!("{peer}: {BLOCKED}"))
}

fn report(sender: &datagram::Sender) -> FlowReport {
    let stats = sender.stats();
    FlowReport::Sender(SenderFigures {
        packets: stats.packets,
        packet_bytes: sender.packet_bytes(),
        payload_bytes: stats.payload_bytes,
        lost: stats.lost,
        spurious: stats.spurious,
        copies: stats.copies,
        timeouts: stats.timeouts,
        min_rtt_s: sender.rtt().min().as_secs_f64(),
    })
}

pub(super) fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_is_blocked_where_tcp_is_heard_and_the_connection_is_lost_where_it_is_not() {
        let cause = |tcp_silent_for| blocked_or_lost("there", tcp_silent_for).cause;

        assert_eq!(cause(TCP_SILENT - Duration::from_millis(1)), Cause::UdpBlocked);
        assert_eq!(cause(TCP_SILENT), Cause::TimedOut);
    }
}
