//! One end of a raw flow: its value behind a mutex, its thread, and the session on its other side.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    super::{
        clock,
        error::{Cause, RunError},
        meter::Wait,
        session::{Role, Session},
        wait,
    },
    end::{EndConfig, blocked_or_lost, emptied},
    hub::{Intake, Shared},
    patience::blocked_after,
};
use crate::{
    datagram::{
        FlowError, ReceiverStats,
        raw::{RawCounts, RawReceiver, RawSender},
    },
    limits,
    net::{Waker, udp},
    wire::message::{NOT_KNOWN, RawReport},
};

/// A wait that is due already and cannot go on is tried again so soon.
const STEP: Duration = Duration::from_micros(50);

/// One end of a raw flow at work.
#[derive(Debug)]
pub struct RawFlow {
    config: EndConfig,
    /// The other end of the control connection.
    peer: SocketAddr,
    session: Arc<Session>,
    hub: Arc<Shared>,
    waker: Arc<Waker>,
    start: Instant,
    core: Mutex<Core>,
    /// What the system had counted at the start.
    before: Counted,
    /// The receiver's report is out.
    is_told: AtomicBool,
}

#[derive(Debug)]
struct Core {
    side: RawSide,
    /// Our address that the peer writes to.
    answer_from: Option<IpAddr>,
    error: Option<FlowError>,
}

/// What an end does.
#[derive(Debug)]
pub enum RawSide {
    /// Content leaves here.
    Sender(Box<RawSender>),
    /// Content comes here.
    Receiver(Box<RawReceiver>),
}

/// What the system counts, where it does.
#[derive(Clone, Copy, Debug)]
struct Counted {
    drops: Option<u32>,
    checksum_errors: Option<u64>,
}

/// How a thread's work ended.
enum Outcome {
    /// The session is over.
    Done,
    /// The other side of the flow is not there.
    Silent,
    /// The peer broke the protocol.
    Broken(FlowError),
}

impl RawFlow {
    /// An end that is registered at the hub and at the session, with its thread.
    pub fn start(
        config: EndConfig,
        peer: SocketAddr,
        session: &Arc<Session>,
        hub: &Arc<Shared>,
        start: Instant,
        side: RawSide,
    ) -> Result<(), RunError> {
        let failed = |error| RunError::new(Cause::Unexpected, format!("cannot start a flow: {error}"));
        let waker = Arc::new(Waker::new().map_err(failed)?);
        session.attach_thread(config.carrier, waker.clone());
        let flow = Arc::new(Self {
            config,
            peer,
            session: session.clone(),
            hub: hub.clone(),
            waker,
            start,
            core: Mutex::new(Core { side, answer_from: None, error: None }),
            before: Counted::now(hub),
            is_told: AtomicBool::new(false),
        });
        hub.register(flow.config.id, Intake::Raw(flow.clone()));
        super::super::sending::spawn(session, "raw flow", move || flow.run())
    }

    fn now(&self) -> Duration {
        clock::now().duration_since(self.start)
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- The hub's side ---

    /// Takes a datagram.
    pub fn input(&self, from: SocketAddr, to: Option<IpAddr>, datagram: &mut [u8]) {
        let now = self.now();
        let mut core = self.lock();
        let result = match &mut core.side {
            RawSide::Sender(sender) => sender.handle_datagram(now, from, datagram),
            RawSide::Receiver(receiver) => receiver.handle_datagram(now, from, datagram),
        };
        core.answer_from = to;
        if let Err(error) = result {
            core.error.get_or_insert(error);
        }
    }

    /// Some datagrams were handed over.
    pub fn after_input(&self) {
        let mut core = self.lock();
        let is_broken = core.error.is_some();
        let RawSide::Receiver(receiver) = &mut core.side else {
            drop(core);
            self.waker.wake();
            return;
        };
        let pieces = receiver.take_pieces();
        if let Some(heard) = receiver.last_heard() {
            self.session.note_udp_heard(self.start + heard);
        }
        let mut out = Vec::new();
        self.transmit(core, &mut out);
        if !pieces.is_empty() {
            self.session.meter.on_content();
            let result = self.session.update(|role| match role {
                Role::Receiver(receiver) => receiver.on_raw_pieces(pieces),
                Role::Sender(_) | Role::Lister(_) => unreachable!("a receiving end belongs to a receiver"),
            });
            if let Err(violation) = result {
                self.session.fail(RunError::violation(&self.session.peer(), &violation));
            }
        }
        if is_broken {
            self.waker.wake();
        }
    }

    // --- The thread ---

    fn run(&self) {
        // The session's report waits for what is counted here.
        let _counting = self.session.writing();
        wait::make_precise();
        let is_sender = matches!(self.lock().side, RawSide::Sender(_));
        // Over IPv6 the receiver's system counts what it drops.
        let is_unchecked = is_sender && self.peer.is_ipv4() && self.hub.without_checksum();
        let outcome = self.work();
        if is_unchecked {
            self.hub.with_checksum();
        }
        self.hub.remove(self.config.id);
        let wire_bytes = match &self.lock().side {
            RawSide::Sender(sender) => sender.wire_bytes(),
            RawSide::Receiver(receiver) => {
                let RawCounts { received, out_of_order, duplicated: duplicates, damaged, .. } =
                    receiver.counts();
                if received > 0 {
                    let stats = ReceiverStats { received, out_of_order, duplicates, damaged };
                    self.session.note_flow(self.hub.receiver_report(stats, self.before.drops));
                }
                receiver.wire_bytes()
            }
        };
        self.session.meter.add_wire(wire_bytes);
        let peer = self.session.peer();
        match outcome {
            Outcome::Done => {}
            Outcome::Silent => {
                self.session.fail(blocked_or_lost(&peer, self.session.tcp_silent_for()));
            }
            Outcome::Broken(error) => self.session.fail(RunError::violation(&peer, &error)),
        }
        self.session.detach(self.config.carrier, None);
    }

    fn work(&self) -> Outcome {
        let mut out = Vec::with_capacity(limits::DATAGRAM_MAX_BYTES);
        let mut told_to = 0;
        loop {
            if self.session.is_over() {
                return Outcome::Done;
            }
            let now = self.now();
            let mut core = self.lock();
            if let Some(error) = core.error {
                return Outcome::Broken(error);
            }
            match &mut core.side {
                RawSide::Sender(sender) => self.serve_sender(sender, &mut told_to),
                RawSide::Receiver(receiver) => {
                    if let Err(error) = self.serve_receiver(now, receiver) {
                        return Outcome::Broken(error);
                    }
                }
            }
            if self.is_silent(now, &core.side) {
                return Outcome::Silent;
            }
            if !self.transmit(core, &mut out) {
                self.sleep();
            }
        }
    }

    /// Moves chunks from the session to the flow, and says what has left.
    fn serve_sender(&self, sender: &mut RawSender, told_to: &mut u64) {
        let spare: Vec<_> = std::iter::from_fn(|| sender.poll_spare()).collect();
        if !spare.is_empty() {
            self.session.keep_spare(spare.into_iter().map(emptied));
        }
        let mut is_changed = false;
        while sender.wants_chunk()
            && let Some(chunk) = self.session.try_for(|role| session_sender(role)?.poll_raw())
        {
            self.session.meter.on_content();
            sender.push_chunk(chunk);
            is_changed = true;
        }
        // What was handed over by the call before has been sent.
        let to = sender.sent_to();
        let packets = sender.is_empty().then(|| sender.packets());
        let is_told = self.session.try_for(|role| {
            let core = session_sender(role)?;
            if to > *told_to {
                core.on_raw_sent(to);
            }
            let packets = packets.filter(|_| core.wants_raw_end())?;
            core.tell_raw_end(packets);
            Some(())
        });
        if is_told.is_some() {
            sender.finish();
        }
        if is_changed || is_told.is_some() || to > *told_to {
            *told_to = to;
            self.session.update(|_| ());
        }
    }

    /// Gives files their grace, and the flow its report.
    fn serve_receiver(&self, now: Duration, receiver: &mut RawReceiver) -> Result<(), FlowError> {
        for file in
            self.session.try_for(|role| Some(session_receiver(role)?.take_raw_ended())).into_iter().flatten()
        {
            receiver.on_file_end(now, file);
        }
        let overdue: Vec<_> = std::iter::from_fn(|| receiver.poll_overdue(now)).collect();
        if !overdue.is_empty() {
            self.session.update(|role| {
                let core = session_receiver(role);
                core.into_iter().for_each(|core| overdue.iter().for_each(|&file| core.on_raw_overdue(file)));
            });
        }
        if self.is_told.load(Relaxed) {
            return Ok(());
        }
        let packets = self.session.try_for(|role| session_receiver(role)?.raw_packets());
        if let Some(packets) = packets {
            receiver.on_end(now, packets)?;
        }
        if receiver.is_settled(now) {
            let report = self.report(receiver);
            receiver.finish();
            self.is_told.store(true, Relaxed);
            self.session.update(|role| session_receiver(role).map(|core| core.tell_raw_report(report)));
        }
        Ok(())
    }

    fn report(&self, receiver: &RawReceiver) -> RawReport {
        let counts = receiver.counts();
        let after = Counted::now(&self.hub);
        let drops = after.drops.zip(self.before.drops).map(|(after, before)| after.wrapping_sub(before));
        let checksum_errors = after.checksum_errors.zip(self.before.checksum_errors);
        RawReport {
            received: counts.received,
            out_of_order: counts.out_of_order,
            farthest: counts.farthest,
            duplicated: counts.duplicated,
            damaged: counts.damaged,
            dropped: drops.map_or(NOT_KNOWN, u64::from),
            checksum_errors: checksum_errors
                .map_or(NOT_KNOWN, |(after, before)| after.saturating_sub(before)),
            ..RawReport::default()
        }
    }

    /// Whether UDP does not get through.
    fn is_silent(&self, now: Duration, side: &RawSide) -> bool {
        let waiting_since = match side {
            RawSide::Sender(sender) => sender.asking_since(),
            RawSide::Receiver(receiver) => receiver.last_heard().is_none().then_some(Duration::ZERO),
        };
        // protocol.md [FLOW-7]
        let blocked_after = blocked_after(self.session.path_rtt(), self.config.is_client);
        waiting_since.is_some_and(|since| now.saturating_sub(since) >= blocked_after)
            && !self.is_told.load(Relaxed)
    }

    fn sleep(&self) {
        let now = self.now();
        let (deadline, is_full) = match &self.lock().side {
            RawSide::Sender(sender) => (sender.poll_timeout(now), !sender.wants_chunk()),
            RawSide::Receiver(receiver) => (receiver.poll_timeout(now), false),
        };
        let deadline = deadline.unwrap_or(Duration::MAX).min(now + limits::HEARTBEAT).max(now + STEP);
        let began = self.session.meter.elapsed();
        let _ = self.waker.wait(Some(deadline.saturating_sub(self.now())));
        if is_full {
            self.session.meter.add(Wait::Network, self.session.meter.elapsed().saturating_sub(began));
        }
    }

    /// Sends what there is; whether there was anything.
    fn transmit(&self, mut core: MutexGuard<'_, Core>, out: &mut Vec<u8>) -> bool {
        let now = self.now();
        let transmit = match &mut core.side {
            RawSide::Sender(sender) => sender.poll_transmit(now, out),
            RawSide::Receiver(receiver) => receiver.poll_transmit(now, out),
        };
        let transmit = match transmit {
            Ok(Some(transmit)) => transmit,
            Ok(None) => return false,
            Err(error) => {
                core.error.get_or_insert(error);
                // It is seen before the next wait.
                return true;
            }
        };
        let from = core.answer_from.filter(|_| !self.config.is_client);
        drop(core);
        // What does not leave is lost, like everything else that does not arrive.
        let _ = self.hub.send(transmit, from, out, &self.waker, &self.session);
        true
    }
}

impl Counted {
    fn now(hub: &Shared) -> Self {
        Self { drops: hub.socket.drops(), checksum_errors: udp::checksum_errors() }
    }
}

fn session_sender(role: &mut Role) -> Option<&mut crate::transfer::Sender<super::super::session::Origin>> {
    match role {
        Role::Sender(sender) => Some(sender),
        Role::Receiver(_) | Role::Lister(_) => None,
    }
}

fn session_receiver(role: &mut Role) -> Option<&mut crate::transfer::Receiver> {
    match role {
        Role::Receiver(receiver) => Some(receiver),
        Role::Sender(_) | Role::Lister(_) => None,
    }
}
