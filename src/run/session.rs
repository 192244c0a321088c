//! A running session: the one value that its connections and its threads share.
//!
//! The sans-IO core ([`Sender`] or [`Receiver`]) lives behind a mutex. Connections feed it frames and drain frames
//! from it; the threads of the file side feed it pieces or events and drain jobs. Whoever changes it wakes the
//! others. A session ends once, with success or with the first error, and everybody notices.
//!
//! ```text
//!   session   frames in and out, waits of threads, ends
//!   control   how it outlives its control connection
//!   flows     what flows over UDP ask of it and tell it
//!   heard     when something of the peer came last
//! ```

mod control;
mod flows;
mod heard;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use control::Control;

use super::{
    clock,
    error::{Cause, RunError},
    flow::FlowHost,
    meter::{Meter, Wait},
    report::Travel,
    results::{Failure, Results},
    tcp::TcpTally,
};
use crate::{
    file::walk::Found,
    limits,
    net::Waker,
    security::KeyHash,
    stream::{Link, Pacer},
    transfer::{CONTROL, Carrier, Receiver, Sender, Violation},
    wire::{
        frame::Frame,
        hello::FEATURE_RESUME,
        message::{Close, Code, Heard, Kind, Listed, Message, Outcome, Receipt, Stats},
    },
};

/// What the sending side needs to find an entry's bytes again.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file on the disk.
    File(Arc<Found>),
    /// Standard input.
    Stdin,
}

/// The core of either role.
#[derive(Debug)]
pub enum Role {
    /// Bytes flow away from here.
    Sender(Sender<Origin>),
    /// Bytes flow to here.
    Receiver(Receiver),
    /// A listing that is being received: entries as they come, nothing flows back.
    Lister(Listing),
}

/// A listing that is being received.
#[derive(Debug, Default)]
pub struct Listing {
    /// Entries so far, to be taken by who shows them.
    pub entries: Vec<crate::wire::message::Entry>,
    /// Entries announced so far.
    pub announced: u64,
    /// The end, once it came.
    pub listed: Option<Listed>,
}

/// How a session ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionEnd {
    /// The receiver's last word.
    pub receipt: Receipt,
    /// What the sender measured.
    pub sender: Stats,
    /// The sender knows that the receiver has everything (the receiver may end without knowing that it knows).
    pub is_confirmed: bool,
}

/// The state behind the mutex.
#[derive(Debug)]
struct State {
    role: Role,
    end: Option<Result<SessionEnd, RunError>>,
    /// To be sent on the control connection as its last frame.
    close: Option<Close>,
    /// Set while data waits only for credit.
    credit_blocked_since: Option<Duration>,
    /// Kept for the result.
    sender_stats: Stats,
    /// When the receipt went out, at the receiver, and what it means: from then on nothing undoes the end.
    last_word: Option<(Duration, SessionEnd)>,
    spare: Vec<Vec<u8>>,
    /// Frames about flows that wait for the control connection.
    about_flows: VecDeque<Frame>,
    /// Names of entries that failed while content went over a raw flow, at most `limits::RECORDS_PER_FRAME`.
    raw_names: BTreeMap<u64, Vec<u8>>,
    control: Control,
}

/// A running session.
#[derive(Debug)]
pub struct Session {
    state: Mutex<State>,
    work: Condvar,
    carriers: Mutex<BTreeMap<Carrier, Wakes>>,
    /// What opens flows over UDP, where there may be any.
    flows: OnceLock<FlowHost>,
    /// What its TCP connections have counted.
    tcp: Mutex<TcpTally>,
    me: Weak<Self>,
    /// How content has travelled, and what of that a person has not been told yet.
    travel: Mutex<(Travel, Vec<String>)>,
    heard: Notify,
    is_heard: AtomicBool,
    /// When something of the peer came last; behind a lock of its own, since each batch from the network moves it.
    heard_last: Mutex<heard::Heard>,
    /// Another session of the same client has taken its place.
    is_superseded: AtomicBool,
    /// A control connection has ended.
    control_left: Notify,
    ended: Notify,
    is_over: AtomicBool,
    /// Threads that write below the target, and tidy up what they began when the session ends early.
    writers: AtomicUsize,
    cleared: Notify,
    pacer: Option<Mutex<Pacer>>,
    rate_bps: Option<u64>,
    chunk_bytes: AtomicUsize,
    /// Whether everything that was published was synced first.
    synced: AtomicBool,
    /// Name of the other end, for messages.
    peer: Mutex<String>,
    /// What became of its entries; the receiving side's thread adds to it too.
    results: Arc<Results>,
    /// What it waited for.
    pub meter: Meter,
}

impl Session {
    /// A session of this role, at most `rate_bps` bits of content a second.
    pub fn new(role: Role, rate_bps: Option<u64>, peer: &str, results: Arc<Results>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(State {
                role,
                end: None,
                close: None,
                credit_blocked_since: None,
                sender_stats: Stats::default(),
                last_word: None,
                spare: Vec::new(),
                about_flows: VecDeque::new(),
                raw_names: BTreeMap::new(),
                control: Control::default(),
            }),
            rate_bps,
            work: Condvar::new(),
            carriers: Mutex::default(),
            flows: OnceLock::new(),
            tcp: Mutex::default(),
            me: me.clone(),
            travel: Mutex::default(),
            heard: Notify::new(),
            is_heard: AtomicBool::new(false),
            heard_last: Mutex::new(heard::Heard::new(clock::now())),
            is_superseded: AtomicBool::new(false),
            control_left: Notify::new(),
            ended: Notify::new(),
            is_over: AtomicBool::new(false),
            writers: AtomicUsize::new(0),
            cleared: Notify::new(),
            pacer: rate_bps.map(|rate| Mutex::new(Pacer::new(rate / 8))),
            chunk_bytes: AtomicUsize::new(limits::CHUNK_MIN_BYTES),
            synced: AtomicBool::new(true),
            peer: Mutex::new(peer.to_owned()),
            results,
            meter: Meter::new(),
        })
    }

    /// Lets a receiver go on with what came of this peer before, if both know how. protocol.md, section 28
    pub fn allow_resume(&self, features: u64, peer: Option<KeyHash>) {
        if features & FEATURE_RESUME != 0
            && let Role::Receiver(receiver) = &mut self.lock().role
        {
            receiver.allow_resume(peer.map_or([0; 32], |key| *key.as_bytes()));
        }
    }

    /// What the opening agreed on; before that, chunks are small.
    pub fn set_chunk_bytes(&self, bytes: usize) {
        self.chunk_bytes.store(bytes, Relaxed);
    }

    /// Largest content of a DATA frame, bytes.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes.load(Relaxed)
    }

    /// Records that something was published without a sync.
    pub fn set_unsynced(&self) {
        self.synced.store(false, Relaxed);
    }

    /// Names the other end in messages.
    pub fn set_peer(&self, peer: &str) {
        peer.clone_into(&mut self.peer.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The other end's name.
    pub fn peer(&self) -> String {
        self.peer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    // --- For connections ---

    /// A connection that wants to be woken when there may be something to send. `turn`: which control connection it
    /// is, if it is one.
    pub fn attach(&self, carrier: Carrier, turn: u32) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        if carrier == CONTROL {
            self.lock().control.attach(turn);
        }
        self.lock_carriers().insert(carrier, Wakes::Task(notify.clone()));
        notify
    }

    /// The control connection of this turn is gone, whose last byte came at `heard_at`.
    pub fn detach_control(&self, turn: u32, heard_at: Instant, error: Option<RunError>) {
        self.lock_carriers().remove(&CONTROL);
        if self.leave_control(turn, heard_at, error.as_ref()) {
            return;
        }
        match error {
            // A connection that failed carries no words.
            Some(error) if error.cause == Cause::Connection => self.finish(Err(error)),
            // protocol.md [ERR-2]: where the peer still listens, it learns why.
            Some(error) => self.fail(error),
            // protocol.md [CONN-2]
            None => self.finish(Err(RunError::cut_off(&self.peer()))),
        }
    }

    /// A further connection or a flow is gone.
    pub fn detach(&self, carrier: Carrier, error: Option<RunError>) {
        self.lock_carriers().remove(&carrier);
        if !self.is_over() {
            tracing::info!(carrier, error = error.map(|e| e.text), "a connection of the session is gone");
            match &mut self.lock().role {
                Role::Sender(sender) => sender.on_carrier_down(carrier),
                Role::Receiver(receiver) => receiver.on_carrier_down(carrier),
                Role::Lister(_) => {}
            }
            // Another connection that goes does not change where content goes.
            if let Role::Sender(sender) = &mut self.lock().role
                && sender.only() == Some(carrier)
            {
                sender.set_only(None);
            }
            self.wake();
        }
    }

    /// Takes a frame from a connection.
    pub fn on_frame(&self, carrier: Carrier, frame: Frame) {
        if !self.is_heard.swap(true, Relaxed) {
            self.heard.notify_waiters();
        }
        if matches!(frame, Frame::Data { .. }) {
            self.meter.on_content();
        }
        if carrier == CONTROL {
            if let Frame::Message(Message::Heard(heard)) = frame {
                let result = self.lock().control.log.on_heard(heard.frames);
                if let Err(violation) = result {
                    self.fail(RunError::violation(&self.peer(), &violation));
                }
                return;
            }
            self.lock().control.log.on_received();
        }
        if carrier == CONTROL
            && let Frame::Message(message @ (Message::FlowOpen(_) | Message::FlowAccept(_))) = &frame
        {
            if let Err(violation) = self.on_flow_message(message) {
                self.fail(RunError::violation(&self.peer(), &violation));
            }
            return;
        }
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        let result = state.handle_frame(carrier, frame, &self.meter, &self.results);
        state.tell_outcomes(&self.results);
        drop(state);
        match result {
            Ok(None) => {
                self.wake_workers();
                if carrier == CONTROL {
                    self.wake_flows();
                }
            }
            Ok(Some(end)) => {
                self.finish(end.map_err(|(code, text)| RunError::said_by(&self.peer(), code, &text)));
            }
            // protocol.md [ERR-1]
            Err(violation) => self.fail(RunError::violation(&self.peer(), &violation)),
        }
        self.wake_control();
    }

    /// The next frame for a connection. `Err` says how long to wait for the pace.
    pub fn poll_frame(&self, carrier: Carrier) -> Result<Option<Frame>, Duration> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Ok(None);
        }
        if carrier == CONTROL
            && let Some(frame) = state.poll_before_all()
        {
            return Ok(Some(frame));
        }
        let now = self.meter.elapsed();
        if let (Some(pacer), Role::Sender(sender)) = (&self.pacer, &state.role)
            && sender.has_chunks()
        {
            let wait = pacer.lock().unwrap_or_else(PoisonError::into_inner).wait(now);
            let has_message = carrier == CONTROL && sender.has_messages();
            if !wait.is_zero() && !has_message {
                return Err(wait);
            }
        }
        let mut frame = match &mut state.role {
            Role::Sender(sender) => sender.poll_frame(carrier),
            Role::Receiver(receiver) if carrier == CONTROL => receiver.poll_frame(),
            Role::Receiver(_) | Role::Lister(_) => None,
        };
        state.note_credit(now, &self.meter);
        match &mut frame {
            Some(Frame::Data { bytes, .. }) => {
                self.meter.on_content();
                if let Some(pacer) = &self.pacer {
                    pacer.lock().unwrap_or_else(PoisonError::into_inner).on_sent(now, bytes.len() as u64);
                }
                self.work.notify_all();
            }
            Some(Frame::Message(Message::Finish(finish))) => {
                finish.stats = state.stats(&self.meter);
                state.sender_stats = finish.stats;
            }
            Some(Frame::Message(Message::Receipt(receipt))) => {
                receipt.stats = state.stats(&self.meter);
                receipt.synced = self.synced.load(Relaxed);
                // A receiver is done with its own work now; the sender's CLOSE only confirms it.
                let end = SessionEnd { receipt: *receipt, sender: state.sender_stats, is_confirmed: false };
                state.last_word = Some((now, end));
            }
            _ => {}
        }
        if let (CONTROL, Some(frame)) = (carrier, &frame) {
            state.control.log.on_sent(frame);
        }
        Ok(frame)
    }

    /// The CLOSE to send as the last frame of the control connection, once the session has ended here.
    pub fn take_close(&self) -> Option<Close> {
        self.lock().close.take()
    }

    /// A receiver that has said its last word does not wait for its confirmation beyond this; time since the start.
    /// protocol.md [END-4]
    pub fn linger_until(&self) -> Option<Duration> {
        self.lock().last_word.map(|(at, _)| at + limits::LINGER)
    }

    /// The confirmation of the last word did not come in time.
    pub fn give_up_lingering(&self) {
        let end = self.lock().lingering_end();
        if let Some(end) = end {
            self.finish(Ok(end));
        }
    }

    /// Whether connections are to be read: what they bring has somewhere to go.
    pub fn wants_input(&self) -> bool {
        self.look(|role| match role {
            Role::Sender(_) => true,
            Role::Receiver(receiver) => !receiver.is_congested(),
            Role::Lister(listing) => listing.entries.len() <= LISTING_BACKLOG,
        })
    }

    /// Moves emptied chunk buffers between a connection and the file side, to where they are filled next.
    pub fn exchange_spare(&self, link: &mut Link) {
        let mut state = self.lock();
        match state.role {
            Role::Sender(_) => {
                let sent = std::iter::from_fn(|| link.take_spare());
                state.spare.extend(sent);
                state.spare.truncate(SPARE_MAX);
            }
            Role::Receiver(_) => {
                while link.wants_spare()
                    && let Some(buffer) = state.spare.pop()
                {
                    link.recycle(buffer);
                }
            }
            Role::Lister(_) => {}
        }
    }

    /// An emptied chunk buffer, or a new one.
    pub fn take_spare(&self) -> Vec<u8> {
        self.lock().spare.pop().unwrap_or_default()
    }

    // --- For the threads of the file side ---

    /// Runs `step` on the core until it gives something, sleeping in between; `None` once the session is over.
    pub fn wait_for<T>(&self, mut step: impl FnMut(&mut Role) -> Option<T>) -> Option<T> {
        let mut state = self.lock();
        loop {
            if self.is_over() {
                return None;
            }
            if let Some(value) = step(&mut state.role) {
                return Some(value);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs `step` on the core once, without sleeping.
    pub fn try_for<T>(&self, step: impl FnOnce(&mut Role) -> Option<T>) -> Option<T> {
        if self.is_over() { None } else { step(&mut self.lock().role) }
    }

    /// As [`Self::wait_for`], but gives `None` after `most` as well; ask [`Self::is_over`] which it was.
    pub fn wait_at_most<T>(&self, most: Duration, mut step: impl FnMut(&mut Role) -> Option<T>) -> Option<T> {
        let until = clock::now() + most;
        let mut state = self.lock();
        loop {
            if self.is_over() {
                return None;
            }
            if let Some(value) = step(&mut state.role) {
                return Some(value);
            }
            let left = until.checked_duration_since(clock::now()).filter(|left| !left.is_zero())?;
            state = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Changes or asks the core, and wakes whoever may care.
    pub fn update<T>(&self, change: impl FnOnce(&mut Role) -> T) -> T {
        let value = change(&mut self.lock().role);
        self.wake();
        value
    }

    /// Only looks.
    pub fn look<T>(&self, look: impl FnOnce(&Role) -> T) -> T {
        look(&self.lock().role)
    }

    /// Keeps emptied chunk buffers for connections.
    pub fn keep_spare(&self, buffers: impl IntoIterator<Item = Vec<u8>>) {
        let mut state = self.lock();
        state.spare.extend(buffers);
        state.spare.truncate(SPARE_MAX);
    }

    /// To be held by a thread for as long as anything of it stands below the target that is not to stay; and by whoever
    /// still counts what the report is to tell.
    pub fn writing(self: &Arc<Self>) -> Writing {
        self.writers.fetch_add(1, Relaxed);
        Writing(self.clone())
    }

    /// Waits for the peer's first frame: from then on it knows the session.
    pub async fn heard(&self) {
        let heard = self.heard.notified();
        if !self.is_heard.load(Relaxed) {
            heard.await;
        }
    }

    // --- Ends ---

    /// Ends the session with an error of ours, which the peer is told.
    pub fn fail(&self, error: RunError) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.close = Some(Close {
                code: error.cause.code(),
                text: crate::wire::message::short_text(error.text.clone()),
            });
        }
        drop(state);
        self.finish(Err(error));
    }

    /// Ends the session, since its client goes on with another one. protocol.md [RESUME-4]
    pub fn supersede(&self) {
        self.is_superseded.store(true, Relaxed);
        let text = format!("{}: the connection was lost; its client is here again", self.peer());
        self.fail(RunError::new(Cause::Connection, text));
    }

    /// Whether another session of the same client has taken its place.
    pub fn is_superseded(&self) -> bool {
        self.is_superseded.load(Relaxed)
    }

    /// The last byte on a connection came then.
    pub fn note_tcp_heard(&self, at: Instant) {
        self.lock_heard().on_tcp(at);
    }

    /// Something came on a flow of any kind.
    pub fn note_udp_heard(&self, at: Instant) {
        self.lock_heard().on_udp(at);
    }

    /// Something came on the flow.
    pub fn note_flow_heard(&self, at: Instant) {
        self.lock_heard().on_flow(at);
    }

    /// For how long nothing came, over TCP or UDP.
    pub fn silent_for(&self) -> Duration {
        self.lock_heard().silent_for(clock::now())
    }

    /// For how long nothing came on any connection, whatever its flow brings.
    pub fn tcp_silent_for(&self) -> Duration {
        self.lock_heard().tcp_silent_for(clock::now())
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    /// Waits for the end.
    pub async fn ended(&self) -> Result<SessionEnd, RunError> {
        loop {
            let ended = self.ended.notified();
            if let Some(end) = self.result() {
                return end;
            }
            ended.await;
        }
    }

    /// Waits for the end, and until nothing unfinished stands below the target any more.
    pub async fn cleared(&self) -> Result<SessionEnd, RunError> {
        let end = self.ended().await;
        loop {
            let cleared = self.cleared.notified();
            if self.writers.load(Acquire) == 0 {
                return end;
            }
            cleared.await;
        }
    }

    /// The end, if it has come.
    pub fn result(&self) -> Option<Result<SessionEnd, RunError>> {
        self.lock().end.clone()
    }

    /// Content that is known to be placed, of files that were not finished too, bytes.
    pub fn moved_bytes(&self) -> u64 {
        self.look(|role| match role {
            Role::Sender(sender) => sender.known_placed_bytes(),
            Role::Receiver(receiver) => receiver.placed_bytes(),
            Role::Lister(_) => 0,
        })
    }

    /// Content that was there before of files that are gone on with, bytes.
    pub fn resumed_bytes(&self) -> u64 {
        self.look(|role| match role {
            Role::Sender(sender) => sender.resumed_bytes(),
            Role::Receiver(receiver) => receiver.resumed_bytes(),
            Role::Lister(_) => 0,
        })
    }

    /// Everything was sent, but the receiver's last word is missing.
    pub fn awaits_receipt(&self) -> bool {
        self.look(|role| matches!(role, Role::Sender(sender) if sender.awaits_receipt()))
    }

    fn finish(&self, end: Result<SessionEnd, RunError>) {
        let mut state = self.lock();
        if state.end.is_none() {
            // An error after our own last word does not undo it.
            let end = match (end, state.lingering_end()) {
                (Err(error), Some(done)) if error.cause != Cause::Interrupted => {
                    tracing::info!(%error, "the sender's confirmation did not come");
                    Ok(done)
                }
                (end, _) => end,
            };
            state.end = Some(end);
        }
        drop(state);
        self.is_over.store(true, Relaxed);
        self.ended.notify_waiters();
        self.wake();
    }

    fn wake(&self) {
        self.wake_workers();
        self.lock_carriers().values().for_each(Wakes::wake);
    }

    fn wake_flows(&self) {
        let carriers = self.lock_carriers();
        carriers.range(limits::FLOW_NUMBER_MIN..).for_each(|(_, wakes)| wakes.wake());
    }

    fn wake_control(&self) {
        if let Some(wakes) = self.lock_carriers().get(&CONTROL) {
            wakes.wake();
        }
    }

    /// The lock is taken once, so that a thread between its look and its sleep does not miss the call.
    fn wake_workers(&self) {
        drop(self.lock());
        self.work.notify_all();
    }

    fn lock_carriers(&self) -> MutexGuard<'_, BTreeMap<Carrier, Wakes>> {
        self.carriers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_heard(&self) -> MutexGuard<'_, heard::Heard> {
        self.heard_last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a carrier is woken.
#[derive(Debug)]
enum Wakes {
    /// A connection's task.
    Task(Arc<Notify>),
    /// A flow's thread.
    Thread(Arc<Waker>),
}

impl Wakes {
    fn wake(&self) {
        match self {
            Self::Task(notify) => notify.notify_one(),
            Self::Thread(waker) => waker.wake(),
        }
    }
}

/// Something that the end of a session waits for; see [`Session::writing`].
#[derive(Debug)]
pub struct Writing(Arc<Session>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Release);
        self.0.cleared.notify_waiters();
    }
}

/// `Ok(Some(_))` ends the session.
type Handled = Result<Option<Result<SessionEnd, (Code, String)>>, Violation>;

impl State {
    /// What the control connection sends before anything else.
    fn poll_before_all(&mut self) -> Option<Frame> {
        let log = &mut self.control.log;
        let again = log.poll_again();
        if again.is_none()
            && let Some(frames) = log.poll_heard()
        {
            return Some(Frame::Message(Message::Heard(Heard { frames })));
        }
        let frame = again.or_else(|| self.about_flows.pop_front())?;
        log.on_sent(&frame);
        Some(frame)
    }

    fn handle_frame(&mut self, carrier: Carrier, frame: Frame, meter: &Meter, results: &Results) -> Handled {
        let frame = match frame {
            // protocol.md [ENTRY-7]: it has no number and changes nothing but the result.
            Frame::Message(Message::Unlisted(unlisted)) if carrier == CONTROL && self.takes_entries() => {
                results.add_failure(Failure::new(&unlisted.name, unlisted.code, unlisted.text));
                return Ok(None);
            }
            frame => frame,
        };
        if let Frame::Message(Message::Close(close)) = frame {
            // protocol.md [CLOSE-1]
            if carrier != CONTROL {
                return Err(Violation::new("it sent Close on a further connection"));
            }
            return Ok(Some(self.on_close(close)));
        }
        match &mut self.role {
            // protocol.md [LIST-1]
            Role::Sender(sender) if sender.is_listing() => {
                Err(Violation::new(format!("who asked for a listing may not send {:?}", frame.frame_type())))
            }
            Role::Sender(sender) if carrier == CONTROL => {
                sender.handle_frame(frame)?;
                let end = sender.end();
                self.note_credit(meter.elapsed(), meter);
                Ok(end.map(|end| {
                    self.close = Some(Close { code: Code::Done, text: String::new() });
                    Ok(SessionEnd { receipt: end.receipt, sender: self.sender_stats, is_confirmed: true })
                }))
            }
            Role::Sender(_) => {
                Err(Violation::new("only the control connection carries what a receiver says"))
            }
            Role::Receiver(receiver) => {
                match &frame {
                    Frame::Message(Message::Finish(finish)) => self.sender_stats = finish.stats,
                    Frame::Message(Message::Listed(listed)) => results.set_not_kept(listed.not_kept),
                    _ => {}
                }
                receiver.handle_frame(carrier, frame)?;
                Ok(None)
            }
            // protocol.md [LIST-1]
            Role::Lister(listing) => match frame {
                Frame::Message(Message::Entries(batch)) => {
                    // protocol.md [ENTRY-1]
                    if batch.first != listing.announced {
                        return Err(Violation::new("it announced entries out of order"));
                    }
                    listing.announced += batch.entries.len() as u64;
                    listing.entries.extend(batch.entries);
                    Ok(None)
                }
                Frame::Message(Message::Listed(listed)) => {
                    listing.listed = Some(listed);
                    self.close = Some(Close { code: Code::Done, text: String::new() });
                    Ok(Some(Ok(SessionEnd::default())))
                }
                other => Err(Violation::new(format!("a listing has no {:?}", other.frame_type()))),
            },
        }
    }

    /// Whether the other end may still say what there is.
    fn takes_entries(&self) -> bool {
        match &self.role {
            Role::Sender(_) => false,
            Role::Receiver(receiver) => receiver.listed().is_none(),
            Role::Lister(listing) => listing.listed.is_none(),
        }
    }

    fn tell_outcomes(&mut self, results: &Results) {
        let Role::Sender(sender) = &mut self.role else { return };
        let is_raw = sender.is_raw();
        let told: Vec<_> = std::iter::from_fn(|| sender.poll_outcome()).collect();
        for (file, entry, outcome) in told {
            let size = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
            if is_raw && matches!(outcome, Outcome::Failed { .. }) {
                self.note_raw_name(file, &entry.name);
            }
            results.add(&entry.name, &entry.kind, size, outcome);
        }
    }

    fn note_raw_name(&mut self, file: u64, name: &[u8]) {
        if self.raw_names.len() < limits::RECORDS_PER_FRAME {
            self.raw_names.insert(file, name.to_vec());
        }
    }

    fn on_close(&self, close: Close) -> Result<SessionEnd, (Code, String)> {
        match (close.code, self.lingering_end(), &self.role) {
            (Code::Done, Some(end), _) => Ok(SessionEnd { is_confirmed: true, ..end }),
            // Whoever asked for a listing closes it.
            (Code::Done, None, Role::Sender(sender)) if sender.is_listing() => Ok(SessionEnd::default()),
            // protocol.md [END-3]
            (Code::Done, None, _) => Err((Code::Protocol, "it closed the session before its end".to_owned())),
            (code, _, _) => Err((code, close.text)),
        }
    }

    /// How the session ends for a receiver whose last word is out.
    fn lingering_end(&self) -> Option<SessionEnd> {
        self.last_word.map(|(_, end)| end)
    }

    fn stats(&self, meter: &Meter) -> Stats {
        match &self.role {
            Role::Sender(sender) => meter.stats(sender.sent_bytes(), sender.carriers_used()),
            Role::Receiver(receiver) => meter.stats(receiver.received_bytes(), receiver.carriers_used()),
            Role::Lister(_) => Stats::default(),
        }
    }

    /// Counts the time in which data waits only for credit.
    fn note_credit(&mut self, now: Duration, meter: &Meter) {
        let Role::Sender(sender) = &self.role else { return };
        match (self.credit_blocked_since, sender.is_blocked_by_credit()) {
            (None, true) => self.credit_blocked_since = Some(now),
            (Some(since), false) => {
                meter.add(Wait::Credit, now.saturating_sub(since));
                self.credit_blocked_since = None;
            }
            _ => {}
        }
    }
}

/// Emptied chunk buffers that are kept: as many as were ever in use at once, since fresh memory costs more than the copy
/// into it. The credit bounds both.
const SPARE_MAX: usize = 64;
const _: () = assert!((SPARE_MAX * limits::CHUNK_BYTES) as u64 <= limits::CREDIT_MAX_BYTES);
/// Listed entries that may wait for whoever shows them; beyond, the connection is not read.
const LISTING_BACKLOG: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Unlisted;

    /// protocol.md [ENTRY-7]
    #[test]
    fn what_is_unlisted_is_reported_before_the_end_of_the_listing_and_a_violation_behind_it() {
        let results = Arc::<Results>::default();
        let session = Session::new(Role::Receiver(Receiver::new(1 << 20)), None, "there", results.clone());
        let unlisted = || {
            let (name, text) = (b"../any name".to_vec(), "no".to_owned());
            Frame::Message(Message::Unlisted(Unlisted { name, code: Code::NotFound, text }))
        };

        session.on_frame(CONTROL, unlisted());
        session.on_frame(CONTROL, Frame::Message(Message::Listed(Listed::default())));
        assert!(session.result().is_none());
        session.on_frame(CONTROL, unlisted());

        assert_eq!(session.result().unwrap().unwrap_err().cause, Cause::Peer);
        assert_eq!(results.counts().failed, 1);
        assert_eq!(results.counts().failures[0].name, "../any name");
    }

    #[test]
    fn a_close_on_a_further_connection_is_a_violation_whatever_it_says() {
        // protocol.md [CLOSE-1]
        let cause_of = |carrier| {
            let session = Session::new(Role::Receiver(Receiver::new(1 << 20)), None, "there", Arc::default());
            let close = Close { code: Code::NotAllowed, text: "no".to_owned() };
            session.on_frame(carrier, Frame::Message(Message::Close(close)));
            session.result().unwrap().unwrap_err().cause
        };

        assert_eq!(cause_of(CONTROL), Cause::NotAllowed);
        assert_eq!(cause_of(1), Cause::Peer);
    }

    #[test]
    fn who_asked_for_a_listing_may_close_it_at_any_time_and_who_asked_for_files_may_not() {
        // protocol.md [END-3]
        let closed = |sender| {
            let session = Session::new(Role::Sender(sender), None, "there", Arc::default());
            let close = Close { code: Code::Done, text: String::new() };
            session.on_frame(CONTROL, Frame::Message(Message::Close(close)));
            session.result().unwrap()
        };

        assert!(closed(Sender::listing()).is_ok());
        assert_eq!(closed(Sender::new(false)).unwrap_err().cause, Cause::Peer);
    }

    #[test]
    fn a_sender_answers_the_receipt_with_its_close() {
        // protocol.md [END-3]
        let mut sender = Sender::new(false);
        sender.on_listed(Listed::default());
        let session = Session::new(Role::Sender(sender), None, "there", Arc::default());
        while session.poll_frame(CONTROL).unwrap().is_some() {}
        assert_eq!(session.take_close(), None);

        session.on_frame(CONTROL, Frame::Message(Message::Receipt(Receipt::default())));

        assert_eq!(session.take_close(), Some(Close { code: Code::Done, text: String::new() }));
        assert!(session.result().unwrap().unwrap().is_confirmed);
    }

    #[test]
    fn content_stays_on_its_flow_when_another_connection_ends() {
        let session = Session::new(Role::Sender(Sender::new(false)), None, "there", Arc::default());
        session.set_only(limits::FLOW_NUMBER_MIN);

        session.detach(1, None);
        assert!(session.has_only());
        session.detach(limits::FLOW_NUMBER_MIN, None);

        assert!(!session.has_only(), "TCP carries it from here on");
    }

    #[test]
    fn a_control_connection_is_left_behind_where_the_flow_goes_on_and_not_where_the_path_is_silent() {
        // protocol.md [REJOIN-3]
        let is_lost = |note: fn(&Session, Instant)| {
            let session = Session::new(Role::Sender(Sender::new(false)), None, "there", Arc::default());
            session.keep_control();
            let start = clock::now();
            for seconds in 0..=10 {
                note(&session, start + Duration::from_secs(seconds));
            }
            session.is_control_lost(start)
        };

        assert!(is_lost(Session::note_flow_heard));
        assert!(!is_lost(Session::note_udp_heard), "a raw flow keeps no session");
        assert!(!is_lost(Session::note_tcp_heard));
    }

    #[test]
    fn a_receiver_counts_what_the_sender_could_not_keep() {
        let results = Arc::<Results>::default();
        let session = Session::new(Role::Receiver(Receiver::new(1 << 20)), None, "there", results.clone());
        let listed = Listed {
            not_kept: crate::wire::message::NotKept { special: 2, ..Default::default() },
            ..Listed::default()
        };

        session.on_frame(CONTROL, Frame::Message(Message::Listed(listed)));

        assert_eq!(results.counts().not_kept.special, 2);
    }
}
