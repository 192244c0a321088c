//! Finds a peer: races its addresses, checks its key, and opens a connection of a session.

use std::{fmt, io, net::SocketAddr, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    clock,
    error::{Cause, RunError},
    pump::{Wire, WireError},
    session::Session,
};
use crate::{
    limits,
    net::{self, Segments, TcpCongestion},
    security::{Channel, ChannelError, HostPort, Identity, KeyHash, Pin, ProofKey},
    session::{ClientOpening, Credential, Opened},
    stream::{Link, LinkError},
    transfer::CONTROL,
    wire::{
        frame::Frame,
        hello::{Hello, Join},
        message::{Heard, Message},
    },
};

/// Where a server is, which key it must have, and what admits us.
#[derive(Clone)]
pub struct Peer {
    /// Where it may be; raced.
    pub addresses: Vec<HostPort>,
    /// The key that it must have; `None`: whatever it shows, the caller decides.
    pub key: Option<KeyHash>,
    /// The ticket's token, if there is a ticket.
    pub token: Option<ProofKey>,
    /// Our own key pair.
    pub identity: Identity,
    /// Without TLS.
    pub is_plain: bool,
    /// After this time without a sign of life, the peer counts as gone.
    pub idle_timeout: Duration,
    /// Congestion control of our connections to it; `None`: the system's.
    pub congestion: Option<TcpCongestion>,
    /// How large the segments of our connections to it may be, both ways.
    pub segments: Segments,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("addresses", &self.addresses)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Peer {
    /// How messages name it.
    pub fn name(&self) -> String {
        self.addresses.first().map_or_else(|| "the server".to_owned(), ToString::to_string)
    }

    /// What the control connection shows to be admitted.
    pub fn credential(&self) -> Credential {
        match &self.token {
            Some(key) => Credential::Token(key.clone()),
            None if self.is_plain => Credential::Open,
            None => Credential::Key,
        }
    }

    /// protocol.md [PLAIN-2]
    fn channel(&self) -> Channel {
        if self.is_plain {
            return Channel::plain();
        }
        Channel::client_tls(&self.identity, self.key.map_or(Pin::Any, Pin::Exact))
    }
}

/// Connects: the first address whose TLS handshake passes wins, and is named.
pub async fn connect(peer: &Peer) -> Result<(Wire, HostPort), RunError> {
    let mut addresses = Vec::new();
    let mut last = None;
    for at in &peer.addresses {
        match net::resolve(at.host(), at.port()).await {
            Ok(found) => addresses.extend(found.into_iter().map(|address| (at.clone(), address))),
            Err(error) => {
                last =
                    Some(RunError::new(Cause::Connection, format!("{at}: cannot find this host: {error}")));
            }
        }
    }
    addresses.dedup_by_key(|(_, address)| *address);
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.into_iter();
    let mut next_at = Instant::now();
    loop {
        if attempts.is_empty() || Instant::now() >= next_at {
            match waiting.next() {
                Some((at, address)) => {
                    let attempt = attempt(peer.clone(), address);
                    attempts.spawn(async move { attempt.await.map(|wire| (wire, at)) });
                    next_at = Instant::now() + limits::ATTEMPT_DELAY;
                }
                None if attempts.is_empty() => {
                    return Err(last.unwrap_or_else(|| {
                        RunError::new(Cause::Connection, format!("{}: has no address", peer.name()))
                    }));
                }
                None => {}
            }
        }
        tokio::select! {
            Some(result) = attempts.join_next() => match result {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => {
                    next_at = Instant::now();
                    last = Some(more_telling(last, error));
                }
                Err(error) => return Err(RunError::new(Cause::Unexpected, format!("an attempt ended early: {error}"))),
            },
            () = sleep_until(next_at), if waiting.len() > 0 => {}
        }
    }
}

/// Of two failures, the one that says more: a peer that answered beats one that did not.
fn more_telling(old: Option<RunError>, new: RunError) -> RunError {
    match old {
        Some(old) if old.cause != Cause::Connection && new.cause == Cause::Connection => old,
        _ => new,
    }
}

async fn attempt(peer: Peer, address: SocketAddr) -> Result<Wire, RunError> {
    let name = peer.name();
    let deadline = Instant::now() + limits::CONNECT_TIMEOUT;
    let dialled = net::dial(address, peer.congestion.as_ref(), peer.segments);
    let tcp = match timeout_at(deadline, dialled).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return Err(cannot_connect(&name, address, &error)),
        Err(_) => return Err(cannot_connect(&name, address, &io::ErrorKind::TimedOut.into())),
    };
    let start = clock::now();
    let mut wire = Wire::new(tcp, Link::new(peer.channel(), peer.idle_timeout, Duration::ZERO), start);
    exchange(&mut wire, &name, deadline, |wire| Ok(wire.link.is_established().then_some(()))).await?;
    Ok(wire)
}

fn cannot_connect(name: &str, address: SocketAddr, error: &io::Error) -> RunError {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nobody listens there; is haul running, and is this the right port?"
        }
        io::ErrorKind::TimedOut => "no answer; is the address right, and does a firewall let it through?",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "there is no way to this address"
        }
        _ => {
            return RunError::new(Cause::Connection, format!("{name}: cannot connect to {address}: {error}"));
        }
    };
    RunError::new(Cause::Connection, format!("{name}: cannot connect to {address}: {why}"))
}

/// Opens a connection of a session on an established channel. Frames of `early` follow right behind our proof.
pub async fn open(
    mut wire: Wire,
    name: &str,
    mut opening: ClientOpening,
    early: Option<&Session>,
) -> Result<(Wire, Opened), RunError> {
    let deadline = Instant::now() + limits::CONNECT_TIMEOUT;
    let opened = exchange(&mut wire, name, deadline, |wire| {
        let now = wire.now();
        let opened = opening.advance(now, &mut wire.link).map_err(|error| RunError::opening(name, &error))?;
        // The listing goes out before the answer is there: it saves a round trip.
        while let (true, Some(session)) =
            (opening.is_auth_sent() && wire.link.pending_bytes() < 64 << 10, early)
        {
            let Ok(Some(frame)) = session.poll_frame(CONTROL) else { break };
            wire.link.queue(now, frame);
        }
        Ok(opened)
    })
    .await?;
    Ok((wire, opened))
}

/// Opens a connection that takes the place of the session's lost control connection, and tells the server how many of
/// its frames were taken. Gives how many of ours it has taken. protocol.md [REJOIN-4]
pub async fn rejoin(peer: &Peer, session: &Opened, frames: u64) -> Result<(Wire, u64), RunError> {
    let mut wire = join(peer, session, CONTROL).await?;
    let heard = tell_heard(&mut wire, &peer.name(), frames).await?;
    Ok((wire, heard))
}

/// The first words on a control connection that takes the place of another, in both directions.
pub(super) async fn tell_heard(wire: &mut Wire, name: &str, frames: u64) -> Result<u64, RunError> {
    let now = wire.now();
    wire.link.queue(now, Frame::Message(Message::Heard(Heard { frames })));
    let deadline = Instant::now() + limits::AUTH_DEADLINE;
    exchange(wire, name, deadline, |wire| match wire.link.poll_frame() {
        None => Ok(None),
        Some(Frame::Message(Message::Heard(heard))) => Ok(Some(heard.frames)),
        Some(Frame::Message(Message::Close(close))) => Err(RunError::said_by(name, close.code, &close.text)),
        Some(other) => {
            let text = format!("it sent {:?} where HEARD belongs", other.frame_type());
            Err(RunError::violation(name, &text))
        }
    })
    .await
}

/// Opens one more connection of a session.
pub async fn join(peer: &Peer, session: &Opened, stream: u16) -> Result<Wire, RunError> {
    let (wire, _) = connect(peer).await?;
    let join = Join { session: session.session, stream };
    let credential = Credential::Join { secret: session.secret.clone(), join };
    let opening = ClientOpening::new(credential, Hello::ours(clock::random(), Some(join)), None);
    Ok(open(wire, &peer.name(), opening, None).await?.0)
}

/// Moves bytes both ways until `step` gives something.
pub(super) async fn exchange<T>(
    wire: &mut Wire,
    name: &str,
    deadline: Instant,
    mut step: impl FnMut(&mut Wire) -> Result<Option<T>, RunError>,
) -> Result<T, RunError> {
    let failed = |error: WireError| match error {
        WireError::Socket(error) => {
            not_haul(name, &format!("the connection failed during the opening: {error}"))
        }
        WireError::Link(LinkError::Channel(ChannelError::Alert(_))) => {
            RunError::new(Cause::Peer, format!("{name}: refused the encrypted connection"))
        }
        WireError::Link(error) => RunError::link(name, &error),
    };
    loop {
        if let Some(value) = step(wire)? {
            return Ok(value);
        }
        wire.write_some().map_err(|error| failed(error.into()))?;
        tokio::select! {
            ready = wire.tcp.readable() => {
                let is_open = ready.map_err(WireError::from).and_then(|()| wire.read_some(16 << 10));
                if !is_open.map_err(failed)? {
                    // What came with the end may still say why.
                    if let Some(value) = step(wire)? {
                        return Ok(value);
                    }
                    return Err(not_haul(name, "closed the connection before it had said hello"));
                }
            }
            ready = wire.tcp.writable(), if wire.link.wants_write() => ready.map_err(|error| failed(error.into()))?,
            () = sleep_until(deadline) => {
                return Err(RunError::new(
                    Cause::TimedOut,
                    format!("{name}: is connected but said no hello within {} s: is it haul?", limits::CONNECT_TIMEOUT.as_secs()),
                ));
            }
        }
    }
}

fn not_haul(name: &str, what: &str) -> RunError {
    RunError::new(Cause::Peer, format!("{name}: {what}: it is not haul, or it is too busy"))
}
