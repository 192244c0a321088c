//! Couples one TCP connection with its session: socket ⇄ link ⇄ session.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, sync::Notify, time::sleep_until};

use super::{
    clock,
    error::RunError,
    meter::Wait,
    session::{Session, Writing},
    tcp::TcpEnd,
};
use crate::{
    net,
    stream::{Link, LinkError},
    transfer::{CONTROL, Carrier},
    wire::{frame::Frame, message::Message},
};

/// Bytes read from a socket at once. A quarter of a chunk keeps the copies in the cache.
const READ_BYTES: usize = 256 << 10;
/// No further frame is taken while so many bytes wait for the socket. A chunk may lie on top.
const OUT_HIGH_BYTES: usize = 256 << 10;
/// How long the end of a session may take: our threads to clear up, and then the peer to close its end after ours is
/// closed; without this, unread bytes would turn our last words into a reset.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How often the kernel is asked what it knows of the connection.
const TCP_LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often a control connection looks for its own silence, where UDP would go on without it.
const CONTROL_LOOK_EVERY: Duration = Duration::from_millis(250);

/// A connection with its time base.
#[derive(Debug)]
pub struct Wire {
    /// The socket.
    pub tcp: TcpStream,
    /// The frames on it.
    pub link: Link,
    /// Time zero of the link.
    pub start: Instant,
    buffer: Vec<u8>,
    /// Reads that brought bytes.
    reads: u64,
    /// Those of them after which the link stood inside a frame.
    reads_inside_frame: u64,
}

impl Wire {
    /// A connection whose link counts time from `start`.
    pub fn new(tcp: TcpStream, link: Link, start: Instant) -> Self {
        Self { tcp, link, start, buffer: Vec::new(), reads: 0, reads_inside_frame: 0 }
    }

    /// The link's time.
    pub fn now(&self) -> Duration {
        clock::now().duration_since(self.start)
    }

    /// When the last byte came, or the socket was last left unread on purpose.
    fn heard_at(&self) -> Instant {
        self.start + self.link.last_heard()
    }

    /// Writes what the socket takes; `false` when it takes no more although there is more.
    pub fn write_some(&mut self) -> io::Result<bool> {
        let mut out = TryWrite(&self.tcp);
        while self.link.wants_write() {
            match self.link.transmit(&mut out) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads what is there into the link: `Ok(false)` when the peer has closed its end.
    pub fn read_some(&mut self, most: usize) -> Result<bool, WireError> {
        self.buffer.resize(most.max(self.buffer.len()), 0);
        match self.tcp.try_read(&mut self.buffer[..most]) {
            Ok(0) => Ok(false),
            Ok(read) => {
                let now = self.now();
                self.reads += 1;
                self.link.handle_input(now, &self.buffer[..read])?;
                self.reads_inside_frame += u64::from(self.link.is_inside_frame());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(WireError::Socket(error)),
        }
    }

    /// What it has counted so far.
    fn counted(&self) -> TcpEnd {
        TcpEnd {
            info: net::tcp_info(&self.tcp),
            congestion: net::tcp_congestion(&self.tcp),
            reads: self.reads,
            reads_inside_frame: self.reads_inside_frame,
        }
    }

    /// Writes all that is queued, closes our end, and waits a little for the peer to close its own.
    pub async fn finish(mut self) {
        let finish = async {
            while !self.write_some()? {
                self.tcp.writable().await?;
            }
            net::close_write(&self.tcp)?;
            loop {
                self.tcp.readable().await?;
                match self.tcp.try_read(&mut [0; 4096]) {
                    Ok(0) => return Ok(()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
            }
        };
        let _: Result<io::Result<()>, _> = tokio::time::timeout(CLOSE_WAIT, finish).await;
    }
}

/// What went wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] io::Error),
}

impl WireError {
    /// As the session reports it.
    pub fn into_run(self, peer: &str) -> RunError {
        match self {
            Self::Link(error) => RunError::link(peer, &error),
            Self::Socket(error) => RunError::socket(peer, &error),
        }
    }
}

/// A non-blocking socket as a writer.
struct TryWrite<'a>(&'a TcpStream);

impl io::Write for TryWrite<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a further connection until the session or the connection ends.
pub async fn run(mut wire: Wire, carrier: Carrier, session: &Arc<Session>) {
    let result = couple(&mut wire, carrier, 0, session).await;
    session.detach(carrier, result.err().map(|error| error.into_run(&session.peer())));
    wire.link.close();
    wire.finish().await;
}

/// Runs the control connection of this turn until it or the session ends; returns whether the session goes on.
pub async fn run_control(mut wire: Wire, turn: u32, session: &Arc<Session>) -> bool {
    let result = couple(&mut wire, CONTROL, turn, session).await;
    session.detach_control(turn, wire.heard_at(), result.err().map(|error| error.into_run(&session.peer())));
    let is_over = session.is_over();
    if is_over {
        // Whoever is told why may come again at once, and then the names are free.
        let _ = tokio::time::timeout(CLOSE_WAIT, session.cleared()).await;
        if let Some(close) = session.take_close() {
            let now = wire.now();
            wire.link.queue(now, Frame::Message(Message::Close(close)));
        }
        // Nobody is there any more to close the other end.
        if !session.is_superseded() {
            wire.link.close();
            wire.finish().await;
        }
    }
    !is_over
}

async fn couple(
    wire: &mut Wire,
    carrier: Carrier,
    turn: u32,
    session: &Arc<Session>,
) -> Result<(), WireError> {
    let notify = session.attach(carrier, turn);
    let wire_bytes_before = wire.link.wire_bytes();
    let coupled = Coupled { wire, carrier, session, wire_bytes_before, _counting: session.writing() };
    let mut blocked_since = None;
    let result = drive(coupled.wire, carrier, turn, session, &notify, &mut blocked_since).await;
    note_blocked(&mut blocked_since, true, session);
    result
}

/// A connection while the session uses it. However that ends, the session has what it counted, and its report waits for
/// that.
struct Coupled<'a> {
    wire: &'a mut Wire,
    carrier: Carrier,
    session: &'a Session,
    wire_bytes_before: u64,
    _counting: Writing,
}

impl Drop for Coupled<'_> {
    fn drop(&mut self) {
        self.session.meter.add_wire(self.wire.link.wire_bytes() - self.wire_bytes_before);
        self.session.note_tcp_end(self.carrier, self.wire.counted());
    }
}

/// Returns when the session is over or the peer has closed its end.
async fn drive(
    wire: &mut Wire,
    carrier: Carrier,
    turn: u32,
    session: &Session,
    notify: &Notify,
    blocked_since: &mut Option<Duration>,
) -> Result<(), WireError> {
    let mut look_at = Duration::ZERO;
    loop {
        let now = wire.now();
        if now >= look_at {
            look_at = now + TCP_LOOK_EVERY;
            if let Some(info) = net::tcp_info(&wire.tcp) {
                session.note_tcp(carrier, info);
            }
            if carrier == CONTROL && session.is_control_lost(wire.heard_at()) {
                return Err(LinkError::Silent(now.saturating_sub(wire.link.last_heard())).into());
            }
        }
        if carrier == CONTROL && !session.has_turn(turn) {
            return Ok(());
        }
        let wants_input = session.wants_input();
        let is_open = !wants_input || wire.read_some(READ_BYTES)?;
        session.note_tcp_heard(wire.heard_at());
        while let Some(frame) = wire.link.poll_frame() {
            session.on_frame(carrier, frame);
        }
        // With content on a flow, a connection that is there for content only is in its way.
        if session.is_over() || !is_open || (carrier != CONTROL && session.has_only()) {
            return Ok(());
        }
        session.exchange_spare(&mut wire.link);
        let pace = fill(wire, carrier, session);
        let had_output = wire.link.wants_write();
        let is_flushed = wire.write_some()?;
        note_blocked(blocked_since, is_flushed, session);
        if had_output && is_flushed {
            // The socket keeps up: take more at once, after what came in meanwhile.
            tokio::task::yield_now().await;
            continue;
        }
        if !wants_input {
            let now = wire.now();
            wire.link.on_unread(now);
        }
        let deadline = next_deadline(wire, carrier, session, pace);
        tokio::select! {
            ready = wire.tcp.readable(), if wants_input => ready?,
            ready = wire.tcp.writable(), if wire.link.wants_write() => ready?,
            () = notify.notified() => {}
            () = sleep_until((wire.start + deadline).into()) => {
                let now = wire.now();
                if now >= wire.link.poll_timeout() {
                    wire.link.handle_timeout(now)?;
                }
                if session.linger_until().is_some_and(|until| session.meter.elapsed() >= until) {
                    session.give_up_lingering();
                }
            }
        }
    }
}

/// Takes frames from the session while the socket keeps up; says how long the pace asks to wait.
fn fill(wire: &mut Wire, carrier: Carrier, session: &Session) -> Option<Duration> {
    while wire.link.pending_bytes() < OUT_HIGH_BYTES {
        match session.poll_frame(carrier) {
            Ok(Some(frame)) => {
                let now = wire.now();
                wire.link.queue(now, frame);
            }
            Ok(None) => return None,
            Err(wait) => return Some(wait),
        }
    }
    None
}

/// Counts the time in which data was ready and the socket took none.
fn note_blocked(blocked_since: &mut Option<Duration>, is_flushed: bool, session: &Session) {
    let now = session.meter.elapsed();
    match (*blocked_since, is_flushed) {
        (None, false) => *blocked_since = Some(now),
        (Some(since), true) => {
            session.meter.add(Wait::Network, now.saturating_sub(since));
            *blocked_since = None;
        }
        _ => {}
    }
}

/// When to wake without any event, on the link's time.
fn next_deadline(wire: &Wire, carrier: Carrier, session: &Session, pace: Option<Duration>) -> Duration {
    let mut deadline = wire.link.poll_timeout();
    if carrier == CONTROL && session.may_outlive_control() {
        deadline = deadline.min(wire.now() + CONTROL_LOOK_EVERY);
    }
    if let Some(wait) = pace {
        deadline = deadline.min(wire.now() + wait);
    }
    if carrier == CONTROL
        && let Some(until) = session.linger_until()
    {
        let left = until.saturating_sub(session.meter.elapsed());
        deadline = deadline.min(wire.now() + left);
    }
    deadline
}
