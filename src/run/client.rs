//! The client's commands: push, pull, list.

use std::{
    fs::File,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use super::{
    clock, connect,
    connect::Peer,
    error::{Cause, RunError},
    flow::{FlowHost, FlowWish, HostState, Hub},
    pump::{self, Wire},
    receiving,
    report::{Facts, Report},
    results::Results,
    sending::{self, Reading, Source},
    session::{Role, Session, SessionEnd},
};
use crate::{
    file::target::{Expect, Target},
    limits,
    net::{self, Segments},
    security::{HostPort, KeyHash, Side},
    session::{ClientOpening, Opened, Request},
    stream::Growth,
    transfer::{Receiver, Sender},
    wire::{
        hello::{FEATURE_BLAKE3, FEATURE_REJOIN, FEATURE_UDP, Hello},
        message::{DigestKind, Discard, FlowMode, FlowOpen, Intent, Message, Open, Overwrite, open_fits},
    },
};

/// How many connections a session uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// As many as the total rate rises with.
    Auto,
    /// So many, 1..=`limits::STREAMS_MAX`.
    Fixed(usize),
}

/// What all commands of a client have in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// The digest that proves each file.
    pub digest: DigestKind,
    /// What to do about names that exist.
    pub overwrite: Overwrite,
    /// Compare existing files by digest.
    pub checksum: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// Connections.
    pub streams: Streams,
    /// Content sent at most, bits a second (of a push).
    pub rate_bps: Option<u64>,
    /// The flow over UDP to ask for, if any.
    pub flow: Option<FlowWish>,
    /// Where the flow writes down what it does.
    pub trace: Option<Arc<File>>,
}

/// A session under way: what the progress and the signal handler need of it.
#[derive(Clone, Debug)]
pub struct Running {
    /// The session.
    pub session: Arc<Session>,
    /// What became of its entries so far.
    pub results: Arc<Results>,
}

/// What a client asks for.
#[derive(Debug)]
pub enum Wish {
    /// Sends `source` to the server.
    Push {
        /// What to send.
        source: Source,
        /// Where to.
        to: Landing,
        /// Digests that the files must have.
        expect: Expect,
    },
    /// Receives what `intent` asks for.
    Pull {
        /// A pull.
        intent: Intent,
        /// Where it goes.
        target: Box<Target>,
        /// The target cannot take content out of order.
        is_in_order: bool,
    },
    /// Lists; the entries are taken from the session.
    List {
        /// A listing.
        intent: Intent,
    },
}

/// Where a push goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// Below this directory, relative to the server's root; empty is the root.
    Below(Vec<u8>),
    /// Nowhere: checked and thrown away.
    Nowhere,
}

/// How a client's session ended.
#[derive(Debug)]
pub struct Ended {
    /// The result.
    pub report: Report,
    /// Under which of its addresses the server was reached, and its key, when there was a session with TLS.
    pub reached: Option<(HostPort, KeyHash)>,
    /// The key that the server showed in the place of the pinned one.
    pub wrong_key: Option<KeyHash>,
    /// The session, once the server had admitted it.
    pub session: Option<[u8; 16]>,
    /// For the connections of the session that follows: small once there was silence, which large packets that vanish on
    /// their way cause too.
    pub segments: Segments,
}

/// A command that is ready to run.
#[derive(Debug)]
pub struct Client {
    peer: Peer,
    options: Options,
    wish: Wish,
    running: Running,
    command: &'static str,
    /// A session that was cut, and that this one takes the place of.
    previous: Option<[u8; 16]>,
}

impl Ended {
    /// This one, behind one that was cut: what both did together. One that did not come to a session changes nothing.
    pub fn after(mut self, before: Self) -> Self {
        let is_lost = matches!(
            self.report.cause,
            Some(Cause::Connection | Cause::TimedOut | Cause::Busy | Cause::Peer)
        );
        if self.session.is_none() && is_lost {
            return Self {
                report: Report {
                    elapsed_s: before.report.elapsed_s + self.report.elapsed_s,
                    ..before.report
                },
                segments: self.segments,
                ..before
            };
        }
        self.report.add_before(&before.report);
        self
    }
}

impl Client {
    /// Prepares `wish`.
    pub fn new(command: &'static str, peer: Peer, options: Options, wish: Wish) -> Self {
        let role = match &wish {
            Wish::Push { .. } => Role::Sender(Sender::new(false)),
            Wish::Pull { .. } => Role::Receiver(Receiver::new(limits::CREDIT_MAX_BYTES)),
            Wish::List { .. } => Role::Lister(super::session::Listing::default()),
        };
        let results = Arc::<Results>::default();
        let session = Session::new(role, options.rate_bps, &peer.name(), results.clone());
        let running = Running { session, results };
        Self { peer, options, wish, running, command, previous: None }
    }

    /// Goes on where a session of the same wish was cut: with the same server, in that session's place.
    pub fn follow(&mut self, ended: &Ended) {
        self.previous = ended.session;
        self.peer.segments = ended.segments;
        if let Some((_, key)) = ended.reached {
            self.peer.key = Some(key);
        }
    }

    /// What the progress and the signal handler need.
    pub fn running(&self) -> Running {
        self.running.clone()
    }

    /// Runs it to its end. `decide` is asked about a server whose key is not pinned.
    pub async fn run(self, decide: impl AsyncFnOnce(KeyHash) -> Result<(), RunError>) -> Ended {
        let Self { peer, options, wish, running, command, previous } = self;
        let is_sender = matches!(wish, Wish::Push { .. });
        let is_discarded = matches!(wish, Wish::Push { to: Landing::Nowhere, .. });
        let start = clock::now();
        let mut wrong_key = None;
        let mut session = None;
        let (end, name, reached) = match drive(&peer, &options, wish, &running, previous, decide).await {
            Ok((end, opened, at)) => (
                {
                    session = Some(opened.session);
                    end
                },
                format!("{} ({})", peer.name(), crate::file::path::escape(opened.peer_agent.as_bytes())),
                opened.peer_key.map(|key| (at, key)),
            ),
            Err(error) => {
                wrong_key = error.wrong_key;
                (Err(error), peer.name(), None)
            }
        };
        let counts = running.results.counts();
        let report = Report::new(Facts {
            command,
            peer: name,
            is_sender,
            is_encrypted: !peer.is_plain,
            travel: running.session.travel(),
            digest: options.digest,
            is_dry_run: options.dry_run,
            is_discarded,
            rate_bps: options.rate_bps,
            elapsed: clock::now().duration_since(start),
            moved_bytes: running.session.moved_bytes(),
            resumed_bytes: running.session.resumed_bytes(),
            wire_bytes: running.session.meter.wire_bytes(),
            end,
            counts: &counts,
        });
        let segments = match report.cause {
            Some(Cause::TimedOut) => Segments::Small,
            _ => peer.segments,
        };
        Ended { report, reached, wrong_key, session, segments }
    }
}

type Driven = (Result<SessionEnd, RunError>, Opened, HostPort);

async fn drive(
    peer: &Peer,
    options: &Options,
    wish: Wish,
    running: &Running,
    previous: Option<[u8; 16]>,
    decide: impl AsyncFnOnce(KeyHash) -> Result<(), RunError>,
) -> Result<Driven, RunError> {
    let Running { session, results } = running;
    let is_in_order = matches!(wish, Wish::Pull { is_in_order: true, .. });
    let is_listing = matches!(wish, Wish::List { .. });
    let Options { digest, overwrite, mut checksum, dry_run, .. } = *options;
    let intent = match wish {
        Wish::Push { source, to, expect } => {
            // What is there already is compared too: the source has to be read for that.
            checksum |= !matches!(expect, Expect::None);
            sending::start(session, results, source, Reading { digest: options.digest, expect })?;
            match to {
                Landing::Below(target) => Some(Intent::Push { target }),
                Landing::Nowhere => None,
            }
        }
        Wish::Pull { intent, target, .. } => {
            receiving::start(session, results, *target)?;
            Some(intent)
        }
        Wish::List { intent } => Some(intent),
    };
    let request = match intent {
        Some(intent) => Request::Open(Open { intent, digest, overwrite, checksum, dry_run }),
        None => Request::Discard(Discard { digest }),
    };
    if matches!(&request, Request::Open(open) if !open_fits(open)) {
        let text = "too many or too long sources and patterns for one command; split it";
        let error = RunError::new(Cause::Usage, text);
        session.fail(error.clone());
        return Err(error);
    }

    let flow = options.flow.filter(|_| !is_listing).map(FlowWish::request);
    if let Some(flow) = flow {
        // protocol.md [FLOW-2]: the server knows of it before it has any credit.
        if flow.mode == FlowMode::Raw {
            session.set_raw(limits::FLOW_NUMBER_MIN).expect("nothing has been sent");
        } else if flow.is_only {
            session.set_only(limits::FLOW_NUMBER_MIN);
        }
        session.queue_about_flow(Message::FlowOpen(flow));
        if flow.mode == FlowMode::Reliable {
            session.keep_control();
        }
    }
    let may_rejoin = session.may_outlive_control();

    let opening = async {
        let (mut wire, mut at) = connect::connect(peer).await?;
        if let (None, Some(key)) = (peer.key, wire.link.channel().peer_key()) {
            decide(key).await?;
            // The server does not wait as long as a person thinks.
            (wire, at) = connect::connect(&Peer { key: Some(key), ..peer.clone() }).await?;
        }
        let mut hello = Hello { previous, ..Hello::ours(clock::random(), None) };
        if !may_rejoin {
            hello.features &= !FEATURE_REJOIN;
        }
        let opening = ClientOpening::new(peer.credential(), hello, Some(request));
        let (wire, opened) = connect::open(wire, &peer.name(), opening, Some(session)).await?;
        Ok((wire, opened, at))
    };
    let (wire, opened, at) = tokio::select! {
        opened = opening => opened.inspect_err(|error: &RunError| session.fail(error.clone()))?,
        // A local failure or a signal before there is a connection.
        end = session.ended() => return Err(end.err().unwrap_or_else(|| RunError::cut_off(&peer.name()))),
    };
    // protocol.md [OPEN-5]
    if digest == DigestKind::Blake3 && opened.features & FEATURE_BLAKE3 == 0 {
        session.fail(RunError::new(
            Cause::Incompatible,
            format!("{}: does not know BLAKE3; leave --digest out", peer.name()),
        ));
    }
    session.set_chunk_bytes(opened.chunk_bytes);
    session.allow_resume(opened.features, opened.peer_key);
    if opened.features & FEATURE_REJOIN == 0 {
        session.forget_control();
    }
    let _hub = flow.and_then(|flow| await_flow(flow, options, peer, &wire, &opened, session));
    let mut streams = JoinSet::new();
    let most = if is_in_order || is_listing { 1 } else { opened.max_streams };
    streams.spawn(add_streams(peer.clone(), opened.clone(), session.clone(), options.streams, most));
    control(wire, peer, &opened, session).await;
    let end = session.cleared().await;
    streams.shutdown().await;
    Ok((end.map_err(|error| without_last_word(error, session)), opened, at))
}

/// Runs the control connection, and those that take its place. protocol.md [REJOIN-3]
async fn control(wire: Wire, peer: &Peer, opened: &Opened, session: &Arc<Session>) {
    let mut goes_on = pump::run_control(wire, 0, session).await;
    // It may be that large packets vanish: UDP has found a size that passes, and TCP would not.
    let peer = &Peer { segments: Segments::Small, ..peer.clone() };
    while goes_on {
        let (turn, frames) = session.call_control().await;
        let rejoined = tokio::select! {
            rejoined = connect::rejoin(peer, opened, frames) => rejoined,
            () = session.await_control() => return,
        };
        match rejoined {
            Ok((wire, heard)) => match session.resume_control(turn, heard) {
                Ok(true) => goes_on = pump::run_control(wire, turn, session).await,
                Ok(false) => return,
                Err(violation) => {
                    session.fail(RunError::violation(&peer.name(), &violation));
                    return;
                }
            },
            Err(error) if matches!(error.cause, Cause::Connection | Cause::TimedOut) => {
                tracing::info!(%error, "no control connection yet");
                sleep(REDIAL_AFTER).await;
            }
            // It is over there, or has forgotten us.
            Err(error) => {
                let text =
                    format!("{}: the connection was lost, and no other may go on ({error})", peer.name());
                session.fail(RunError::new(Cause::Connection, format!("{text}; run the same command again")));
                return;
            }
        }
    }
}

/// Opens a socket for the flow over UDP that the server was asked for, and makes the session ready for its answer.
fn await_flow(
    request: FlowOpen,
    options: &Options,
    peer: &Peer,
    wire: &Wire,
    opened: &Opened,
    session: &Session,
) -> Option<Hub> {
    let blocked = |text: &str| {
        if request.is_only {
            session.fail(RunError::new(Cause::UdpBlocked, format!("{}: {text}", peer.name())));
        } else {
            tracing::info!(text, "no flow");
        }
        None
    };
    if opened.features & FEATURE_UDP == 0 {
        return blocked("does not know UDP; leave --transport out");
    }
    let Ok(server) = wire.tcp.peer_addr().map(net::canonical) else {
        return blocked("its address is not known");
    };
    let hub = match Hub::towards(server) {
        Ok(hub) => hub,
        Err(error) => return blocked(&format!("no socket for UDP here: {error}")),
    };
    session.set_flows(FlowHost {
        hub: Some(hub.shared()),
        side: Side::Client,
        session: opened.session,
        secret: (!peer.is_plain).then(|| opened.secret.clone()),
        peer: server,
        own_port: 0,
        idle_timeout: peer.idle_timeout,
        state: Mutex::new(HostState {
            pending: Some(request),
            trace: options.trace.clone(),
            ..HostState::default()
        }),
    });
    Some(hub)
}

/// A sender that has sent everything and misses only the receiver's last word has not failed, and does not know.
fn without_last_word(error: RunError, session: &Session) -> RunError {
    match error.cause {
        Cause::Connection | Cause::TimedOut if session.awaits_receipt() => {
            let text =
                format!("all sent, confirmation missing ({error}); run the same command again to be sure");
            RunError { text, ..error }
        }
        _ => error,
    }
}

/// Adds connections to the session until there are as many as asked for, or as are worth it.
async fn add_streams(peer: Peer, opened: Opened, session: Arc<Session>, streams: Streams, most: usize) {
    session.heard().await;
    let mut pumps = JoinSet::new();
    let (fixed, mut growth) = match streams {
        Streams::Fixed(count) => (count.min(most), Growth::new(1)),
        Streams::Auto => (1, Growth::new(most.min(limits::STREAMS_AUTO_MAX))),
    };
    for number in 1..u16::try_from(limits::STREAMS_MAX).expect("a few") {
        while usize::from(number) >= fixed || session.has_only() {
            if session.is_over() {
                return;
            }
            sleep(GROWTH_STEP).await;
            // Another connection helps only where connections are what is waited for: data is at hand and may be
            // sent, or all that came is placed.
            let (moved, may_help) = session.look(|role| match role {
                Role::Sender(sender) => {
                    (sender.placed_bytes(), sender.has_chunks() && !sender.is_blocked_by_credit())
                }
                Role::Receiver(receiver) => {
                    (receiver.placed_bytes(), receiver.unplaced_bytes() < limits::CHUNK_BYTES as u64)
                }
                Role::Lister(_) => (0, false),
            });
            if may_help && !session.has_only() && growth.on_progress(session.meter.elapsed(), moved) {
                break;
            }
        }
        match connect::join(&peer, &opened, number).await {
            Ok(wire) => {
                let session = session.clone();
                pumps.spawn(async move { pump::run(wire, number, &session).await });
            }
            Err(error) => {
                tracing::info!(%error, "no further connection");
                growth.on_refused();
                break;
            }
        }
    }
    while pumps.join_next().await.is_some() {}
}

/// Between attempts to dial another control connection.
const REDIAL_AFTER: Duration = Duration::from_millis(250);
/// How often the number of connections is reconsidered.
const GROWTH_STEP: Duration = Duration::from_millis(100);
