//! What a session needs to open flows: the socket, the keys, the numbers that were used.

use std::{
    fs::File,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    super::{
        clock,
        error::{Cause, RunError},
        session::{Role, Session},
    },
    diary::Diary,
    end::{End, EndConfig, Side as EndSide},
    hub::Shared,
    raw::{RawFlow, RawSide},
};
use crate::{
    datagram::{
        self, FlowConfig, Path,
        congestion::Congestion,
        raw::{RawReceiver, RawSender},
    },
    limits,
    security::{FlowId, Opener, Sealer, SessionSecret, Side},
    transfer::{Carrier, Violation},
    wire::{
        message::{FlowAccept, FlowMode, FlowOpen, Law},
        packet::ConnectionId,
    },
};

/// What a client asks of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowWish {
    /// Content goes over the flow alone.
    pub is_only: bool,
    /// What it is to do about loss.
    pub mode: FlowMode,
    /// The sender's congestion control.
    pub law: Law,
    /// Bits a second; 0: no limit.
    pub rate_bps: u64,
}

impl FlowWish {
    /// The first request of a session.
    pub fn request(self) -> FlowOpen {
        FlowOpen {
            attempt: 0,
            connection: ConnectionId::from_le_bytes(clock::random()).max(1),
            is_only: self.is_only,
            mode: self.mode,
            law: self.law,
            rate_bps: self.rate_bps,
        }
    }
}

/// Opens the flows of a session.
#[derive(Debug)]
pub struct FlowHost {
    /// `None`: there is no socket, and every flow is refused.
    pub hub: Option<Arc<Shared>>,
    /// Which side this is.
    pub side: Side,
    /// Names the session.
    pub session: [u8; 16],
    /// Keys come from it; `None` without encryption.
    pub secret: Option<SessionSecret>,
    /// The other end of the control connection.
    pub peer: SocketAddr,
    /// Our port of the control connection.
    pub own_port: u16,
    /// After so long without a sign of life, the peer counts as gone.
    pub idle_timeout: Duration,
    /// The client's request that is not answered, or the server's count of requests.
    pub state: Mutex<HostState>,
}

/// What has been asked for.
#[derive(Debug, Default)]
pub struct HostState {
    /// At the client: the request that waits for its answer.
    pub pending: Option<FlowOpen>,
    /// At the client: where the flow is to write down what it does.
    pub trace: Option<Arc<File>>,
    /// At the server: the smallest number of the next request.
    pub next_attempt: u16,
    /// At the server: the flow that was granted last.
    pub granted: Option<Carrier>,
}

impl FlowHost {
    /// A client asks for a flow; gives the answer. protocol.md [FLOW-2]
    pub fn on_open(&self, session: &Arc<Session>, open: &FlowOpen) -> Result<FlowAccept, Violation> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.side != Side::Server || open.attempt < state.next_attempt {
            return Err(Violation::new("it asked for a flow twice, or was not to ask at all"));
        }
        if state.granted.is_some_and(|granted| !session.is_down(granted)) {
            return Err(Violation::new("it asked for a flow beside another one"));
        }
        state.next_attempt = open.attempt + 1;
        if open.mode == FlowMode::Raw {
            // protocol.md [RAW-2]
            if !open.is_only || open.rate_bps == 0 {
                return Err(Violation::new("it asked for a raw flow without a rate, or beside another way"));
            }
            session.set_raw(limits::FLOW_NUMBER_MIN + open.attempt)?;
        }
        let refusal = FlowAccept { attempt: open.attempt, connection: 0, port: 0 };
        // A client that comes again and again does not choose our threads.
        let Some(hub) = self.hub.as_ref().filter(|_| usize::from(open.attempt) < limits::STREAMS_MAX) else {
            return Ok(refusal);
        };
        let id = hub.free_id();
        let flow =
            FlowId { session: self.session, attempt: open.attempt, client: open.connection, server: id };
        // The same number as for TCP is told as 0: it holds behind a forwarded port too.
        let port = if hub.port() == self.own_port { 0 } else { hub.port() };
        match self.start(session, hub, open, &flow, Path::to_client(), None) {
            Ok(()) => {
                state.granted = Some(limits::FLOW_NUMBER_MIN + open.attempt);
                Ok(FlowAccept { connection: id, port, ..refusal })
            }
            Err(error) => {
                tracing::warn!(%error, "no flow");
                Ok(refusal)
            }
        }
    }

    /// The server answered. protocol.md [FLOW-2]
    pub fn on_accept(&self, session: &Arc<Session>, accept: &FlowAccept) -> Result<(), Violation> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (pending, trace) = (state.pending.take(), state.trace.take());
        drop(state);
        let Some(open) = pending.filter(|open| open.attempt == accept.attempt) else {
            return Err(Violation::new("it answered a request for a flow that nobody has made"));
        };
        let hub = self.hub.as_ref().filter(|_| accept.connection != 0);
        let Some(hub) = hub else {
            self.on_refused(session, &open, "the other end has no UDP");
            return Ok(());
        };
        let port = if accept.port == 0 { self.peer.port() } else { accept.port };
        let server = SocketAddr::new(self.peer.ip(), port);
        let flow = FlowId {
            session: self.session,
            attempt: open.attempt,
            client: open.connection,
            server: accept.connection,
        };
        if let Err(error) = self.start(session, hub, &open, &flow, Path::to_server(server), trace) {
            self.on_refused(session, &open, &error.text);
        }
        Ok(())
    }

    fn on_refused(&self, session: &Session, open: &FlowOpen, why: &str) {
        if open.is_only {
            session.fail(RunError::new(Cause::UdpBlocked, format!("{}: {why}", session.peer())));
        } else {
            tracing::info!(why, "no flow");
        }
    }

    fn start(
        &self,
        session: &Arc<Session>,
        hub: &Arc<Shared>,
        open: &FlowOpen,
        flow: &FlowId,
        path: Path,
        trace: Option<Arc<File>>,
    ) -> Result<(), RunError> {
        let (sealer, opener) = match &self.secret {
            Some(secret) => (
                Sealer::new(secret, flow, self.side, limits::KEY_UPDATE_PACKETS),
                Opener::new(secret, flow, self.side),
            ),
            None => (Sealer::plain(flow, self.side), Opener::plain(flow, self.side)),
        };
        let config = FlowConfig { sealer, opener, path, seed: clock::random() };
        let is_client = self.side == Side::Client;
        let start = clock::now();
        let now = Duration::ZERO;
        let carrier = limits::FLOW_NUMBER_MIN + open.attempt;
        let is_sender = session.look(|role| matches!(role, Role::Sender(_)));
        let id: ConnectionId = flow.id_at(self.side);
        let end =
            EndConfig { carrier, id, is_only: open.is_only, is_client, idle_timeout: self.idle_timeout };
        if open.mode == FlowMode::Raw {
            let side = if is_sender {
                let rate_bps = session.rate_bps().map_or(open.rate_bps, |own| own.min(open.rate_bps));
                RawSide::Sender(Box::new(RawSender::new(now, config, (rate_bps / 8).max(1))))
            } else {
                let rtt = session.path_rtt();
                RawSide::Receiver(Box::new(RawReceiver::new(now, config, rtt, is_client)))
            };
            return RawFlow::start(end, self.peer, session, hub, start, side);
        }
        let side = if is_sender {
            let congestion = congestion(open);
            let rtt = session.path_rtt();
            let mut sender = datagram::Sender::new(now, config, congestion, rtt, self.peer.is_ipv6());
            if open.rate_bps > 0 {
                sender.set_rate_max(open.rate_bps / 8);
            }
            EndSide::Sender(Box::new(sender))
        } else {
            EndSide::Receiver(
                Box::new(datagram::Receiver::new(now, config, is_client)),
                std::collections::BTreeMap::new(),
            )
        };
        if open.is_only {
            session.set_only(carrier);
        }
        End::start(end, session, hub, start, side, trace.map(Diary::new))
    }
}

fn congestion(open: &FlowOpen) -> Congestion {
    match (open.mode, open.law) {
        (_, Law::Bbr) => Congestion::Bbr,
        (_, Law::Cubic) => Congestion::Cubic,
        (FlowMode::Raw | FlowMode::Reliable, Law::Fixed) => Congestion::Fixed(open.rate_bps / 8),
    }
}
