//! A server: accepts connections, admits clients, runs their sessions side by side.
//!
//! Before a connection has authenticated it costs one task and little memory, has an absolute deadline, and gives
//! way to newer ones; nothing it says is answered with more than a refusal.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};

use super::{
    client::Running,
    clock,
    connect::{exchange, tell_heard},
    error::{Cause, RunError},
    flow::{FlowHost, Hub},
    home::{Home, StoredTicket},
    pump::{self, Wire},
    receiving,
    report::{Facts, Report},
    results::Results,
    sending::{self, Reading, Source},
    session::{Role, Session},
};
use crate::{
    file::{
        path::{RelPath, escape},
        selection::Selection,
        target::{Accept, BusyNames, Expect, LinkRule, Memory, Place, Target, TargetConfig},
        walk::Walk,
    },
    limits,
    net::Listener,
    security::{Channel, Identity, KeyHash, ProofKey, SessionSecret, Side, is_tls_first_byte},
    session::{AuthRequest, Opened, Prover, Request, ServerOpening, refuse},
    stream::Link,
    transfer::{CONTROL, Receiver, Sender},
    wire::{
        frame::Frame,
        hello::{FEATURE_BLAKE3, FEATURE_DISCARD, FEATURE_REJOIN, Hello, MAGIC},
        message::{AuthMethod, Code, DigestKind, Discard, Intent, Message, Open, Overwrite},
    },
};

/// What a server offers.
#[derive(Clone, Debug)]
pub enum Service {
    /// A directory, for many clients.
    Serve {
        /// The directory.
        root: PathBuf,
        /// Clients may get and list.
        may_pull: bool,
        /// Clients may send.
        may_push: bool,
        /// So many bytes of content may be sent in a session, of which nothing is kept; `None`: none.
        discard_bytes_max: Option<u64>,
    },
    /// A directory, for one push.
    Receive {
        /// The directory.
        root: PathBuf,
    },
    /// Paths, for one pull.
    Offer {
        /// The paths.
        paths: Vec<PathBuf>,
    },
}

/// How a server runs.
#[derive(Clone)]
pub struct ServerConfig {
    /// What it offers.
    pub service: Service,
    /// Its own key pair.
    pub identity: Identity,
    /// Where the authorized keys are.
    pub home: Home,
    /// The ticket's token.
    pub token: ProofKey,
    /// Set when the ticket is for one client only.
    pub one_time: Option<OneTime>,
    /// Nobody needs a secret.
    pub is_open: bool,
    /// Connections without TLS are taken too.
    pub takes_plain: bool,
    /// The most that a sender may overwrite.
    pub overwrite: Overwrite,
    /// Sync before reporting.
    pub syncs: bool,
    /// Read back from the disk before publishing.
    pub verify_disk: bool,
    /// Keep setuid, setgid and sticky bits.
    pub keep_setid: bool,
    /// Content sent at most by one session, bits a second.
    pub rate_bps: Option<u64>,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Connections of one session.
    pub max_streams: usize,
    /// After this time without a sign of life, a peer counts as gone.
    pub idle_timeout: Duration,
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig").field("service", &self.service).finish_non_exhaustive()
    }
}

/// A one-time ticket, and where it is kept.
#[derive(Clone)]
pub struct OneTime {
    /// Its name in the state directory.
    pub name: String,
    /// What is kept of it.
    pub ticket: StoredTicket,
}

/// What a server tells whoever runs it.
#[derive(Debug)]
pub enum Event {
    /// A session has begun.
    Started {
        /// Its progress.
        running: Running,
        /// Who the client is.
        peer: String,
    },
    /// A session has ended.
    Ended(Box<Report>),
    /// A connection was refused or failed before it was a session.
    Refused {
        /// Where it came from.
        from: SocketAddr,
        /// Why.
        why: String,
    },
}

/// A running server.
pub struct Server {
    config: ServerConfig,
    events: mpsc::UnboundedSender<Event>,
    waiting: Mutex<VecDeque<(u64, AbortHandle)>>,
    next_id: AtomicU64,
    sessions: Mutex<BTreeMap<[u8; 16], Live>>,
    gate: Arc<Mutex<Gate>>,
    busy: Arc<BusyNames>,
    /// For sessions of which nothing is kept.
    memory: Arc<Memory>,
    /// The socket for flows over UDP, if there is one.
    hub: Option<Hub>,
}

struct Live {
    session: Weak<Session>,
    /// Ends when its place is free again.
    place: watch::Receiver<()>,
    secret: SessionSecret,
    peer_key: Option<KeyHash>,
    /// Numbers of connections that have joined; none is given twice.
    streams: BTreeSet<u16>,
}

/// Who is in. Counted from the admission on, so that of two who come at once only one finds the last place.
#[derive(Debug)]
struct Gate {
    /// Whose the one-time ticket is.
    claim: Claim,
    /// Admitted control connections.
    inside: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    Free,
    /// By the first valid proof; only this key may come again, to go on. Without TLS there is no key to know a
    /// client by: whoever has the ticket may go on.
    By(Option<KeyHash>),
}

/// A place behind the gate, until it is dropped.
#[derive(Debug)]
struct Seat {
    gate: Arc<Mutex<Gate>>,
    /// Dropped behind that.
    place: watch::Sender<()>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.gate).inside -= 1;
    }
}

/// What an admitted connection is.
enum Admitted {
    /// The control connection of a new session.
    Session(Seat),
    /// One more connection of a session, with this number.
    Stream(u16),
    /// It takes the place of a session's lost control connection.
    Control(Arc<Session>),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Why a client is not admitted; the text is the same for every wrong secret (protocol.md [AUTH-10]).
const NOT_ALLOWED: &str =
    "not allowed: the ticket is wrong, used or expired, or this key is not authorized there";
/// How long a client waits at most until its last sessions are gone, all of them together.
const MAKE_WAY: Duration = Duration::from_secs(3);
/// After an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Server {
    /// A server that reports to `events`; without `hub`, it offers no flows over UDP.
    pub fn new(config: ServerConfig, events: mpsc::UnboundedSender<Event>, hub: Option<Hub>) -> Arc<Self> {
        let claimed_by = config.one_time.as_ref().and_then(|one_time| one_time.ticket.claimed_by);
        Arc::new(Self {
            gate: Arc::new(Mutex::new(Gate {
                claim: claimed_by.map_or(Claim::Free, |key| Claim::By(Some(key))),
                inside: 0,
            })),
            config,
            events,
            waiting: Mutex::default(),
            next_id: AtomicU64::new(0),
            sessions: Mutex::default(),
            busy: Arc::default(),
            memory: Arc::default(),
            hub,
        })
    }

    /// Accepts until dropped.
    pub async fn run(self: &Arc<Self>, listener: &Listener) -> RunError {
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((tcp, from)) => {
                    let id = self.next_id.fetch_add(1, Relaxed);
                    let server = self.clone();
                    // It must be among those that wait before it can have authenticated.
                    let mut waiting = lock(&self.waiting);
                    let task = tasks.spawn(async move { server.connection(id, tcp, from).await });
                    await_auth(&mut waiting, id, task);
                }
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
                Err(error) => {
                    return RunError::new(
                        Cause::Connection,
                        format!("cannot accept connections any more: {error}"),
                    );
                }
            }
        }
    }

    /// Ends all sessions; their peers are told.
    pub fn interrupt(&self) {
        for live in lock(&self.sessions).values() {
            if let Some(session) = live.session.upgrade() {
                session.fail(RunError::new(Cause::Interrupted, "interrupted"));
            }
        }
    }

    /// Sessions that run.
    pub fn session_count(&self) -> usize {
        lock(&self.sessions).len()
    }

    fn on_authenticated(&self, id: u64) {
        lock(&self.waiting).retain(|(other, _)| *other != id);
    }

    async fn connection(self: Arc<Self>, id: u64, tcp: TcpStream, from: SocketAddr) {
        if let Err(error) = self.serve(id, tcp, from).await {
            tracing::debug!(%from, %error, "a connection ended");
            let _ = self.events.send(Event::Refused { from, why: error.text });
        }
    }

    async fn serve(&self, id: u64, tcp: TcpStream, from: SocketAddr) -> Result<(), RunError> {
        // protocol.md [AUTH-6]: one absolute deadline from accept to proof.
        let deadline = Instant::now() + limits::AUTH_DEADLINE;
        let name = from.to_string();
        let Some((channel, is_plain)) = self.first_byte(&tcp, deadline).await else { return Ok(()) };
        let link = Link::new(channel, self.config.idle_timeout, Duration::ZERO);
        let mut wire = Wire::new(tcp, link, clock::now());
        let mut opening = ServerOpening::new(Hello::ours(clock::random(), None));
        let request = exchange(&mut wire, &name, deadline, |wire| {
            let now = wire.now();
            opening.advance(now, &mut wire.link).map_err(|error| RunError::opening(&name, &error))
        })
        .await;
        let request = match request {
            Ok(request) => request,
            Err(error) => {
                let now = wire.now();
                refuse(now, &mut wire.link, error.cause.code(), error.text.clone());
                wire.finish().await;
                return Err(error);
            }
        };
        self.make_way(&request).await;
        let (prover, admitted) = match self.admit(&request, is_plain) {
            Ok(admitted) => admitted,
            Err((code, text)) => {
                let now = wire.now();
                refuse(now, &mut wire.link, code, text);
                wire.finish().await;
                return Err(RunError::new(Cause::from_code(code), text));
            }
        };
        self.on_authenticated(id);
        let session_id = request.join().map_or_else(clock::random, |join| join.session);
        let now = wire.now();
        let opened = request.accept(now, &mut wire.link, &prover, session_id, self.config.max_streams);
        match admitted {
            Admitted::Stream(number) => {
                let session = lock(&self.sessions).get(&session_id).and_then(|live| live.session.upgrade());
                if let Some(session) = session {
                    pump::run(wire, number, &session).await;
                }
                Ok(())
            }
            Admitted::Control(session) => {
                let (turn, frames) = session.call_control().await;
                let heard = tell_heard(&mut wire, &name, frames).await?;
                match session.resume_control(turn, heard) {
                    Ok(true) if pump::run_control(wire, turn, &session).await => {
                        session.await_control().await;
                    }
                    Ok(_) => {}
                    Err(violation) => session.fail(RunError::violation(&name, &violation)),
                }
                Ok(())
            }
            Admitted::Session(seat) => {
                let place = seat.place.subscribe();
                self.session(wire, opened, name, is_plain, place).await
            }
        }
    }

    /// TLS or plain, by the first byte; anything else is not worth an answer. protocol.md [CONN-1]
    async fn first_byte(&self, tcp: &TcpStream, deadline: Instant) -> Option<(Channel, bool)> {
        let mut first = [0];
        match timeout_at(deadline, tcp.peek(&mut first)).await {
            Ok(Ok(1)) if is_tls_first_byte(first[0]) => {
                Some((Channel::server_tls(&self.config.identity), false))
            }
            Ok(Ok(1)) if first[0] == MAGIC[0] => Some((Channel::plain(), true)),
            _ => None,
        }
    }

    /// Ends what the same client has left behind, and waits a little until that is gone. protocol.md [RESUME-4]
    async fn make_way(&self, request: &AuthRequest) {
        let Some(key) = request.client_key().filter(|_| request.join().is_none()) else { return };
        let left: Vec<_> = lock(&self.sessions)
            .iter()
            .filter(|(_, live)| live.peer_key == Some(key))
            .filter_map(|(id, live)| Some((*id, live.session.upgrade()?, live.place.clone())))
            .filter(|(id, session, _)| {
                request.previous() == Some(*id)
                    || session.is_adrift()
                    || session.silent_for() >= limits::GONE_AFTER
            })
            .map(|(_, session, place)| (session, place))
            .collect();
        end_left(left).await;
    }

    /// Decides who may come in. The claim of a one-time ticket is taken here, atomically.
    fn admit(
        &self,
        request: &AuthRequest,
        is_plain: bool,
    ) -> Result<(Prover, Admitted), (Code, &'static str)> {
        let refused = (Code::NotAllowed, NOT_ALLOWED);
        // protocol.md [PLAIN-1]
        if is_plain && !self.config.takes_plain {
            return Err((Code::NotAllowed, "this server only speaks encrypted; leave --plain out"));
        }
        if let Some(join) = request.join() {
            // protocol.md [STREAM-1]
            let mut sessions = lock(&self.sessions);
            let live = sessions.get_mut(&join.session).ok_or(refused)?;
            let prover = Prover::Join { secret: live.secret.clone(), join };
            let is_same_key = live.peer_key == request.client_key();
            if !request.is_proven(&prover) || !is_same_key {
                return Err(refused);
            }
            // protocol.md [REJOIN-1]
            if join.stream == CONTROL
                && let Some(session) = live.session.upgrade().filter(|session| session.may_outlive_control())
            {
                return Ok((prover, Admitted::Control(session)));
            }
            // protocol.md [STREAM-5]
            let is_within = usize::from(join.stream) < self.config.max_streams;
            if !is_within || !live.streams.insert(join.stream) {
                return Err((
                    Code::Busy,
                    "this connection of the session exists already, or is one too many",
                ));
            }
            return Ok((prover, Admitted::Stream(join.stream)));
        }
        let open = Prover::Key(ProofKey::open());
        let prover = match request.method() {
            AuthMethod::Token => Prover::Key(self.config.token.clone()),
            // protocol.md [AUTH-8]: what is for the holder of one ticket is for nobody else.
            AuthMethod::Key if self.config.one_time.is_none() && self.is_authorized(request.client_key()) => {
                open
            }
            AuthMethod::Open | AuthMethod::Key if self.config.is_open => open,
            AuthMethod::Open | AuthMethod::Key | AuthMethod::Join => return Err(refused),
        };
        if !request.is_proven(&prover) {
            return Err(refused);
        }
        let seat = self.enter(request.client_key())?;
        Ok((prover, Admitted::Session(seat)))
    }

    /// Takes a place for a client that has proven what it must. A one-time ticket is bound to the first of them; only
    /// the same may come again, to go on. protocol.md [AUTH-8]
    fn enter(&self, key: Option<KeyHash>) -> Result<Seat, (Code, &'static str)> {
        let mut gate = lock(&self.gate);
        if let Claim::By(owner) = gate.claim
            && owner != key
        {
            return Err((Code::NotAllowed, NOT_ALLOWED));
        }
        if gate.inside >= self.config.max_sessions {
            return Err((Code::Busy, "this server runs as many sessions as it may; try again later"));
        }
        if let (Some(one_time), Claim::Free) = (&self.config.one_time, gate.claim) {
            gate.claim = Claim::By(key);
            let ticket = StoredTicket { claimed_by: key, ..one_time.ticket.clone() };
            if let Err(error) = self.config.home.store_ticket(&one_time.name, &ticket) {
                tracing::warn!(%error, "a crash would free the ticket again");
            }
        }
        gate.inside += 1;
        Ok(Seat { gate: self.gate.clone(), place: watch::Sender::new(()) })
    }

    /// A damaged `authorized` file admits nobody.
    fn is_authorized(&self, key: Option<KeyHash>) -> bool {
        let Some(key) = key else { return false };
        match self.config.home.authorized() {
            Ok(keys) => keys.contains(&key),
            Err(error) => {
                tracing::warn!(%error, "nobody is admitted by key");
                false
            }
        }
    }

    /// The control connection of a session, from its OPEN to its end.
    async fn session(
        &self,
        mut wire: Wire,
        opened: Opened,
        from: String,
        is_plain: bool,
        place: watch::Receiver<()>,
    ) -> Result<(), RunError> {
        let deadline = Instant::now() + limits::AUTH_DEADLINE;
        let request = exchange(&mut wire, &from, deadline, |wire| match wire.link.poll_frame() {
            None => Ok(None),
            Some(Frame::Message(Message::Open(open))) => Ok(Some(Request::Open(open))),
            Some(Frame::Message(Message::Discard(discard))) => Ok(Some(Request::Discard(discard))),
            // protocol.md [OPEN-1]
            Some(other) => Err(RunError::new(
                Cause::Peer,
                format!("{from}: sent {:?} where OPEN belongs", other.frame_type()),
            )),
        })
        .await;
        let prepared =
            request.and_then(|request| self.prepare(&request, &opened, &from).map(|work| (request, work)));
        let (request, (running, work)) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let now = wire.now();
                refuse(now, &mut wire.link, error.cause.code(), error.text.clone());
                wire.finish().await;
                return Err(error);
            }
        };
        let session = running.session.clone();
        session.set_chunk_bytes(opened.chunk_bytes);
        session.allow_resume(opened.features, opened.peer_key);
        if opened.features & FEATURE_REJOIN != 0 {
            session.keep_control();
        }
        let live = Live {
            session: Arc::downgrade(&session),
            place,
            secret: opened.secret.clone(),
            peer_key: opened.peer_key,
            streams: BTreeSet::from([CONTROL]),
        };
        lock(&self.sessions).insert(opened.session, live);
        self.share_credit();
        let peer = format!("{from} ({})", escape(opened.peer_agent.as_bytes()));
        let is_listing = matches!(work, Work::List(_));
        if !is_listing {
            let _ = self.events.send(Event::Started { running: running.clone(), peer: peer.clone() });
        }
        let is_sender = !matches!(work, Work::Receive(_));
        if let Err(error) = self.start(work, &running, request.digest()) {
            session.fail(error);
        }
        if !is_listing && let Ok(client) = wire.tcp.peer_addr() {
            session.set_flows(FlowHost {
                hub: self.hub.as_ref().map(Hub::shared),
                side: Side::Server,
                session: opened.session,
                secret: (!is_plain).then(|| opened.secret.clone()),
                peer: crate::net::canonical(client),
                own_port: wire.tcp.local_addr().map_or(0, |own| own.port()),
                idle_timeout: self.config.idle_timeout,
                state: Mutex::default(),
            });
        }
        if pump::run_control(wire, 0, &session).await {
            session.await_control().await;
        }
        let end = session.cleared().await;
        lock(&self.sessions).remove(&opened.session);
        self.share_credit();
        if is_listing {
            return end.map(drop);
        }
        let counts = running.results.counts();
        let report = Report::new(Facts {
            command: self.config.service.command(),
            peer,
            is_sender,
            is_encrypted: !is_plain,
            travel: session.travel(),
            digest: request.digest(),
            is_dry_run: request.is_dry_run(),
            is_discarded: matches!(request, Request::Discard(_)),
            rate_bps: self.config.rate_bps,
            elapsed: session.meter.elapsed(),
            moved_bytes: session.moved_bytes(),
            resumed_bytes: session.resumed_bytes(),
            wire_bytes: session.meter.wire_bytes(),
            end,
            counts: &counts,
        });
        let _ = self.events.send(Event::Ended(Box::new(report)));
        Ok(())
    }

    /// What the client asks for, if it may have it.
    fn prepare(&self, request: &Request, opened: &Opened, from: &str) -> Result<(Running, Work), RunError> {
        // protocol.md [OPEN-5]
        if request.digest() == DigestKind::Blake3 && opened.features & FEATURE_BLAKE3 == 0 {
            return Err(RunError::new(Cause::Incompatible, "asks for BLAKE3 without having it"));
        }
        let config = &self.config;
        let (role, work) = match request {
            Request::Open(open) => self.prepare_open(open)?,
            Request::Discard(discard) => self.prepare_discard(*discard, opened)?,
        };
        let results = Arc::<Results>::default();
        let session = Session::new(role, config.rate_bps, from, results.clone());
        if !config.syncs || matches!(request, Request::Discard(_)) {
            session.set_unsynced();
        }
        Ok((Running { session, results }, work))
    }

    fn prepare_open(&self, open: &Open) -> Result<(Role, Work), RunError> {
        let refused = |text: &str| RunError::new(Cause::NotAllowed, text);
        let service = &self.config.service;
        Ok(match (&open.intent, service) {
            (
                Intent::Push { target },
                Service::Serve { root, may_push: true, .. } | Service::Receive { root },
            ) => {
                let target = self.target(root, target, open)?;
                let receiver = Receiver::new(limits::CREDIT_MAX_BYTES);
                (Role::Receiver(receiver), Work::Receive(Box::new(target)))
            }
            (Intent::Pull { sources, eager, include, exclude }, _) if service.may_pull() => {
                let selection = Selection::new(include, exclude)
                    .map_err(|error| RunError::new(Cause::Usage, error.to_string()))?;
                let walk = service.walk(sources, selection)?;
                (Role::Sender(Sender::new(*eager)), Work::Send(Box::new(walk)))
            }
            (Intent::List { sources, recursive }, _) if service.may_pull() => {
                let walk = match service {
                    Service::Serve { root, .. } => {
                        Walk::listing(root, sources, *recursive).map_err(file_error)?
                    }
                    _ => service.walk(sources, Selection::default())?,
                };
                (Role::Sender(Sender::listing()), Work::List(Box::new(walk)))
            }
            // protocol.md [OPEN-3]
            (Intent::Push { .. }, Service::Offer { .. }) => {
                return Err(refused("this is an offer: get it with `haul get`"));
            }
            (Intent::Push { .. }, _) => return Err(refused("this server is read-only")),
            (_, Service::Receive { .. }) => {
                return Err(refused("this one waits for a push: use `haul send`"));
            }
            (_, _) => return Err(refused("this server only takes files, it gives none")),
        })
    }

    /// protocol.md [DISCARD-1], [DISCARD-2]
    fn prepare_discard(&self, discard: Discard, opened: &Opened) -> Result<(Role, Work), RunError> {
        if opened.features & FEATURE_DISCARD == 0 {
            return Err(RunError::new(Cause::Incompatible, "asks for DISCARD without having it"));
        }
        let Service::Serve { discard_bytes_max: Some(bytes_max), .. } = self.config.service else {
            let text =
                "keeps what it takes; to send there for measuring, run `haul serve` with --discard SIZE";
            return Err(RunError::new(Cause::NotAllowed, text));
        };
        let place = Place::Nowhere { bytes_max, memory: self.memory.clone() };
        let target = Target::new(self.target_config(place, discard.digest)).map_err(file_error)?;
        Ok((Role::Receiver(Receiver::new(limits::CREDIT_MAX_BYTES)), Work::Receive(Box::new(target))))
    }

    fn target(&self, root: &std::path::Path, below: &[u8], open: &Open) -> Result<Target, RunError> {
        let below =
            match below {
                b"" => None,
                // protocol.md [OPEN-2]
                bytes => Some(RelPath::parse(bytes).map_err(|error| {
                    RunError::new(Cause::NotAllowed, format!("{}: {error}", escape(bytes)))
                })?),
            };
        let place = Place::Directory { root: root.to_owned(), below, rename_top: None };
        let config = TargetConfig {
            // protocol.md [OPEN-4]
            overwrite: self.config.overwrite.min(open.overwrite),
            checksum: open.checksum,
            dry_run: open.dry_run,
            ..self.target_config(place, open.digest)
        };
        Target::new(config).map_err(file_error)
    }

    /// A target that takes what is not there yet.
    fn target_config(&self, place: Place, digest: DigestKind) -> TargetConfig {
        let is_own = matches!(self.config.service, Service::Receive { .. });
        TargetConfig {
            place,
            digest,
            overwrite: Overwrite::Never,
            checksum: false,
            dry_run: false,
            sync: self.config.syncs,
            verify_disk: self.config.verify_disk,
            links: if is_own { LinkRule::KeepAll } else { LinkRule::RefuseEscaping },
            keep_setid: self.config.keep_setid,
            eager: false,
            expect: Expect::None,
            accept: Accept::Anything,
            busy: self.busy.clone(),
            seed: u64::from_le_bytes(clock::random()),
        }
    }

    fn start(&self, work: Work, running: &Running, digest: DigestKind) -> Result<(), RunError> {
        let Running { session, results } = running;
        match work {
            Work::Receive(target) => receiving::start(session, results, *target),
            Work::Send(walk) => {
                let reading = Reading { digest, expect: Expect::None };
                sending::start(session, results, Source::Walk(walk), reading)
            }
            Work::List(walk) => sending::start_listing(session, results, *walk),
        }
    }

    /// Shares the memory for unplaced content among the sessions that receive.
    fn share_credit(&self) {
        let sessions = lock(&self.sessions);
        let share = limits::CREDIT_TOTAL_BYTES / sessions.len().max(1) as u64;
        let window = share.clamp(limits::CREDIT_MIN_BYTES, limits::CREDIT_MAX_BYTES);
        for session in sessions.values().filter_map(|live| live.session.upgrade()) {
            session.update(|role| {
                if let Role::Receiver(receiver) = role {
                    receiver.set_window_max(window);
                }
            });
        }
    }
}

/// Ends these sessions, all at once, and waits a little until their places are free.
async fn end_left(left: Vec<(Arc<Session>, watch::Receiver<()>)>) {
    left.iter().for_each(|(session, _)| session.supersede());
    let deadline = Instant::now() + MAKE_WAY;
    // No session is held while its own end is waited for.
    let places: Vec<_> = left.into_iter().map(|(_, place)| place).collect();
    for mut place in places {
        let _ = timeout_at(deadline, place.changed()).await;
    }
}

enum Work {
    Receive(Box<Target>),
    Send(Box<Walk>),
    List(Box<Walk>),
}

impl Service {
    fn command(&self) -> &'static str {
        match self {
            Self::Serve { .. } => "serve",
            Self::Receive { .. } => "recv",
            Self::Offer { .. } => "offer",
        }
    }

    fn may_pull(&self) -> bool {
        match self {
            Self::Serve { may_pull, .. } => *may_pull,
            Self::Offer { .. } => true,
            Self::Receive { .. } => false,
        }
    }

    fn walk(&self, sources: &[Vec<u8>], selection: Selection) -> Result<Walk, RunError> {
        match self {
            Self::Serve { root, .. } | Self::Receive { root } => {
                Walk::served(root, sources, selection).map_err(file_error)
            }
            Self::Offer { paths } if sources.iter().all(|source| matches!(&source[..], b"" | b"/")) => {
                Ok(Walk::local(paths, selection))
            }
            Self::Offer { .. } => Err(RunError::new(
                Cause::File,
                "this is an offer and comes whole: leave the path out of the ticket",
            )),
        }
    }
}

fn file_error(error: impl fmt::Display) -> RunError {
    RunError::new(Cause::File, error.to_string())
}

/// Caps the connections that have not authenticated: the oldest gives way (protocol.md [AUTH-7]).
fn await_auth(waiting: &mut VecDeque<(u64, AbortHandle)>, id: u64, task: AbortHandle) {
    waiting.retain(|(_, task)| !task.is_finished());
    waiting.push_back((id, task));
    if waiting.len() > limits::UNAUTHENTICATED_MAX
        && let Some((_, oldest)) = waiting.pop_front()
    {
        oldest.abort();
    }
}

/// Errors of accept that pass: out of descriptors or memory, or a connection that went away again.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::PERM,
        Errno::PROTO,
    ];
    error.raw_os_error().is_some_and(|code| passing.iter().any(|errno| errno.raw_os_error() == code))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn all_that_a_client_has_left_ends_before_any_of_it_is_waited_for() {
        let session = || {
            let role = Role::Receiver(Receiver::new(limits::CREDIT_MIN_BYTES));
            Session::new(role, None, "there", Arc::default())
        };
        let sessions = [session(), session()];
        let place = watch::Sender::new(());
        let left = sessions.iter().map(|session| (session.clone(), place.subscribe())).collect();

        tokio::select! {
            biased;
            () = end_left(left) => panic!("nobody has left its place"),
            () = ready(()) => {}
        }

        assert!(sessions.iter().all(|session| session.is_superseded()));
    }
}
