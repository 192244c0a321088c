//! A client or a server: its connections, its flows, and the core that they share, coupled as the program does it.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use super::{
    super::{chance::Chance, window::WindowGuard, witness::Witness},
    flow::{FlowEnd, FlowOutcome, FlowSide},
    net::{Net, SERVER},
    plan::Plan,
    source::Source,
    target::Target,
};
use crate::{
    datagram::{self, FlowConfig, Path},
    file::disk::memory::Memory,
    limits,
    security::{Channel, FlowId, Opener, ProofKey, Sealer, Side},
    session::{ClientOpening, Credential, Opened, Prover, ServerOpening},
    stream::{Link, LinkError},
    transfer::{CONTROL, Carrier, ControlLog, Receiver, Sender},
    wire::{
        frame::Frame,
        hello::{Hello, Join},
        message::{
            Close, Code, DigestKind, FlowAccept, FlowMode, FlowOpen, Heard, Intent, Law, Message, Open,
            Outcome, Overwrite,
        },
        packet::{ConnectionId, Header},
    },
};

/// No further frame is taken while so many bytes wait for a connection.
const OUT_HIGH_BYTES: usize = 256 << 10;
/// The key of the sender, which may go on with what it sent before.
const OWNER: [u8; 32] = [3; 32];
/// Rounds that a host may take over one event.
const ROUNDS_MAX: u32 = 100_000;

/// One end of the session.
pub struct Host {
    side: Side,
    plan: Arc<Plan>,
    chance: Chance,
    streams: Vec<Stream>,
    opened: Option<Opened>,
    core: Option<Core>,
    about_flows: VecDeque<Frame>,
    /// What went over its control connections.
    log: ControlLog,
    /// It goes on without its control connection until another one comes.
    awaits_control: bool,
    flows: Vec<FlowEnd>,
    /// The client's request that is not answered.
    pending: Option<FlowOpen>,
    /// Flows asked for so far, or seen asked for.
    attempts: u16,
    refuses_next: bool,
    wants_flow: bool,
    /// The diaries of flows that have ended.
    diary: Vec<String>,
    /// Content that came on flows that have ended, bytes.
    flow_bytes: u64,
    /// Outcomes as the sender heard them.
    heard: Vec<(u64, Outcome)>,
    receipt_at: Option<Duration>,
    /// How its session ended.
    end: Option<Result<(), String>>,
    trace_lines: usize,
    /// Where it puts what it receives.
    disk: Memory,
}

/// A connection.
#[derive(Debug)]
struct Stream {
    /// Its number in the net.
    connection: usize,
    /// Its number in the session, once that is known.
    carrier: Option<Carrier>,
    link: Link,
    opening: Option<Opening>,
    /// It takes the place of a lost control connection, and has not said yet where the peer stands.
    is_resuming: bool,
    is_gone: bool,
}

#[derive(Debug)]
enum Opening {
    Client(ClientOpening),
    Server(ServerOpening),
}

/// The core of either role, with the disk behind it.
pub enum Core {
    /// Bytes flow away from here.
    Sender(Box<Sender<usize>>, Box<Source>),
    /// Bytes flow to here.
    Receiver(Box<Receiver>, Box<Target>),
}

impl Host {
    /// A client that has not dialled yet, or a server that waits.
    pub fn new(side: Side, plan: &Arc<Plan>, disk: &Memory, trace_lines: usize) -> Self {
        let is_client = side == Side::Client;
        Self {
            side,
            plan: plan.clone(),
            chance: Chance::new(plan.seed, if is_client { "client" } else { "server" }),
            streams: Vec::new(),
            opened: None,
            core: is_client.then(|| Core::new(plan, disk, plan.is_push)),
            about_flows: VecDeque::new(),
            log: ControlLog::keeping(),
            awaits_control: false,
            flows: Vec::new(),
            pending: None,
            attempts: 0,
            refuses_next: false,
            wants_flow: plan.wants_flow,
            diary: Vec::new(),
            flow_bytes: 0,
            heard: Vec::new(),
            receipt_at: None,
            end: None,
            trace_lines,
            disk: disk.clone(),
        }
    }

    /// The client begins.
    pub fn dial(&mut self, now: Duration, net: &mut Net) {
        let intent = if self.plan.is_push {
            Intent::Push { target: Vec::new() }
        } else {
            let eager = self.plan.is_eager;
            Intent::Pull { sources: vec![b"all".to_vec()], eager, include: Vec::new(), exclude: Vec::new() }
        };
        let open = Open {
            intent,
            digest: DigestKind::Blake3,
            overwrite: Overwrite::Never,
            checksum: false,
            dry_run: false,
        };
        let hello = Hello::ours(self.chance.bytes(), None);
        let opening = ClientOpening::new(Credential::Open, hello, Some(open.into()));
        self.connect(now, net, CONTROL, opening);
    }

    /// A connection was made to the server.
    pub fn accept(&mut self, now: Duration, connection: usize) {
        let hello = Hello::ours(self.chance.bytes(), None);
        self.streams.push(Stream {
            connection,
            carrier: None,
            link: Link::new(Channel::plain(), self.plan.idle_timeout, now),
            opening: Some(Opening::Server(ServerOpening::new(hello))),
            is_resuming: false,
            is_gone: false,
        });
    }

    /// A datagram arrived.
    pub fn handle_datagram(&mut self, now: Duration, from: SocketAddr, datagram: &mut [u8]) {
        if let (Some(flow), Some(core)) = (flow_of(&mut self.flows, datagram), &mut self.core)
            && self.end.is_none()
        {
            flow.handle_datagram(now, from, datagram, core);
        }
    }

    /// Whether a datagram would reach a flow.
    pub fn has_flow_for(&mut self, datagram: &[u8]) -> bool {
        self.end.is_none() && flow_of(&mut self.flows, datagram).is_some()
    }

    /// Does all that there is to do.
    pub fn work(&mut self, now: Duration, net: &mut Net) {
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "a host works on and on");
            let mut has_worked = self.read(now, net);
            has_worked |= self.work_at_files(now);
            has_worked |= self.serve_flows(now, net);
            has_worked |= self.write(now, net);
            if !has_worked {
                return;
            }
        }
    }

    /// When there is something to do although nothing arrives.
    pub fn poll_timeout(&mut self, now: Duration, net: &Net) -> Duration {
        let mut at = Duration::MAX;
        for stream in self.streams.iter().filter(|stream| !stream.is_gone) {
            let connection = net.connection(stream.connection);
            if self.end.is_none() {
                at = at.min(stream.link.poll_timeout());
                at = at.min(connection.gone_at(self.side).unwrap_or(Duration::MAX));
            }
            at = at.min(connection.readable_at(self.side).unwrap_or(Duration::MAX));
        }
        if self.end.is_some() {
            return at;
        }
        if let Some(core) = &self.core {
            at = at.min(core.poll_timeout(now).unwrap_or(Duration::MAX));
        }
        if let Some(receipt_at) = self.receipt_at {
            at = at.min(receipt_at + limits::LINGER);
        }
        self.flows.iter_mut().map(|flow| flow.poll_timeout(now)).fold(at, Duration::min)
    }

    // --- What a plan does to it ---

    /// The client asks for a flow; `false` if it has to wait with that.
    pub fn open_flow(&mut self) -> bool {
        if self.end.is_some() {
            return true;
        }
        if self.opened.is_none() || self.pending.is_some() {
            return false;
        }
        let open = FlowOpen {
            attempt: self.attempts,
            connection: u32::from(self.attempts) + 1,
            is_only: false,
            mode: FlowMode::Reliable,
            law: Law::Bbr,
            rate_bps: 0,
        };
        self.attempts += 1;
        self.pending = Some(open);
        self.about_flows.push_back(Frame::Message(Message::FlowOpen(open)));
        true
    }

    /// It has no UDP for the next flow that it is asked for.
    pub fn refuse_next_flow(&mut self) {
        self.refuses_next = true;
    }

    /// Content goes to the flow as soon as one works.
    pub fn want_flow(&mut self) {
        self.wants_flow = true;
    }

    /// Content goes to this carrier, or to all.
    pub fn set_only(&mut self, carrier: Option<Carrier>) {
        self.wants_flow = false;
        if let Some(Core::Sender(sender, _)) = &mut self.core {
            sender.set_only(carrier);
        }
    }

    /// The client loses its control connection and will dial another one; `false` if it has none that is open.
    pub fn lose_control(&mut self) -> bool {
        let mut open =
            self.streams.iter().filter(|stream| !stream.is_gone && stream.carrier == Some(CONTROL));
        let may = self.end.is_none()
            && self.opened.is_some()
            && open.any(|stream| stream.opening.is_none() && !stream.is_resuming);
        self.awaits_control |= may;
        may
    }

    /// The server goes on without its control connection.
    pub fn keep_session(&mut self) {
        self.awaits_control = true;
    }

    /// Ends its newest flow.
    pub fn end_flow(&mut self, now: Duration, net: &mut Net) {
        if !self.flows.is_empty() && self.end.is_none() {
            self.finish_flow(now, net, self.flows.len() - 1, FlowOutcome::Done);
        }
    }

    /// Its newest flow is gone, and nobody has noticed.
    pub fn mute_flow(&mut self) {
        if let Some(flow) = self.flows.last_mut() {
            flow.is_mute = true;
        }
    }

    /// The disk does nothing until then.
    pub fn stall(&mut self, until: Duration, is_source: bool) {
        match &mut self.core {
            Some(Core::Sender(_, source)) if is_source => source.stall(until),
            Some(Core::Receiver(_, target)) if !is_source => target.stall(until),
            _ => {}
        }
    }

    // --- What there is to see ---

    /// How its session ended, if it has.
    pub fn end(&self) -> Option<&Result<(), String>> {
        self.end.as_ref()
    }

    /// The core.
    pub fn core(&self) -> Option<&Core> {
        self.core.as_ref()
    }

    /// Outcomes as the sender heard them, in that order.
    pub fn heard(&self) -> &[(u64, Outcome)] {
        &self.heard
    }

    /// Content that came on flows, bytes.
    pub fn flow_bytes(&self) -> u64 {
        self.flow_bytes + self.flows.iter().map(|flow| flow.content_bytes).sum::<u64>()
    }

    /// Flows that it has begun or was asked for.
    pub fn attempts(&self) -> u16 {
        self.attempts
    }

    /// The last lines of its flows' diaries.
    pub fn take_trace(&mut self) -> Vec<String> {
        let mut lines = std::mem::take(&mut self.diary);
        lines.extend(self.flows.iter_mut().flat_map(FlowEnd::take_trace));
        lines
    }

    /// Where it stands, in a line.
    pub fn summary(&self) -> String {
        let carriers: Vec<_> = self.streams.iter().map(|it| (it.carrier, it.is_gone)).collect();
        let flows: Vec<_> = self.flows.iter().map(|it| (it.carrier, it.is_mute)).collect();
        let core = match &self.core {
            None => "no core".to_owned(),
            Some(Core::Sender(sender, _)) => format!(
                "announced {:?}, sent {}, placed {}, chunks wait: {}, only for credit: {}, finished: {}",
                sender.announced(),
                sender.sent_bytes(),
                sender.placed_bytes(),
                sender.has_chunks(),
                sender.is_blocked_by_credit(),
                sender.is_finished(),
            ),
            Some(Core::Receiver(receiver, target)) => format!(
                "announced {:?}, received {}, placed {}, room {}, {} outcomes",
                receiver.announced(),
                receiver.received_bytes(),
                receiver.placed_bytes(),
                receiver.room(),
                target.outcomes().len(),
            ),
        };
        format!("{:?}: end {:?}; streams {carriers:?}, flows {flows:?}; {core}", self.side, self.end)
    }

    // --- Connections ---

    fn connect(&mut self, now: Duration, net: &mut Net, carrier: Carrier, opening: ClientOpening) {
        let connection = net.connect(now, carrier);
        self.streams.push(Stream {
            connection,
            carrier: Some(carrier),
            link: Link::new(Channel::plain(), self.plan.idle_timeout, now),
            opening: Some(Opening::Client(opening)),
            is_resuming: carrier == CONTROL && self.opened.is_some(),
            is_gone: false,
        });
    }

    /// Takes what has arrived on connections.
    fn read(&mut self, now: Duration, net: &mut Net) -> bool {
        let mut has_worked = false;
        for at in 0..self.streams.len() {
            if self.streams[at].is_gone {
                continue;
            }
            let connection = self.streams[at].connection;
            if net.connection(connection).gone_at(self.side).is_some_and(|gone| gone <= now) {
                self.lose_stream(now, net, at, "it was cut");
                has_worked = true;
                continue;
            }
            let wants_input = match &self.core {
                Some(Core::Receiver(receiver, _)) => !receiver.is_congested(),
                _ => true,
            };
            if wants_input && let Some(bytes) = net.read(now, connection, self.side) {
                has_worked = true;
                if self.end.is_none() {
                    self.streams[at].link.handle_input(now, &bytes).expect("an honest peer sends frames");
                }
            }
            if self.end.is_some() {
                continue;
            }
            if !wants_input {
                self.streams[at].link.on_unread(now);
            }
            if now >= self.streams[at].link.poll_timeout()
                && let Err(error) = self.streams[at].link.handle_timeout(now)
            {
                assert!(matches!(error, LinkError::Silent(_)), "{error}");
                self.lose_stream(now, net, at, "it is silent");
                has_worked = true;
                continue;
            }
            has_worked |= self.open(now, net, at);
            while self.streams[at].opening.is_none()
                && let Some(frame) = self.streams[at].link.poll_frame()
            {
                has_worked = true;
                self.on_frame(now, net, at, frame);
            }
        }
        if self.end.is_none() && self.receipt_at.is_some_and(|at| now >= at + limits::LINGER) {
            self.end = Some(Ok(()));
        }
        has_worked
    }

    fn lose_stream(&mut self, now: Duration, net: &mut Net, at: usize, why: &str) {
        self.streams[at].is_gone = true;
        // Who has not said which connection it is, is the first.
        let first = self.opened.is_none().then_some(CONTROL);
        let Some(carrier) = self.streams[at].carrier.or(first) else { return };
        match &mut self.core {
            // protocol.md [REJOIN-3]
            _ if carrier == CONTROL && self.awaits_control && self.end.is_none() => {
                self.rejoin(now, net);
            }
            _ if carrier == CONTROL => {
                // protocol.md [END-4]: what was said before holds.
                let end = if self.receipt_at.is_some() { Ok(()) } else { Err(why.to_owned()) };
                self.end.get_or_insert(end);
            }
            Some(core) => core.on_carrier_down(carrier),
            None => {}
        }
    }

    /// Goes on with an opening.
    fn open(&mut self, now: Duration, net: &mut Net, at: usize) -> bool {
        let stream = &mut self.streams[at];
        match &mut stream.opening {
            None => false,
            Some(Opening::Client(opening)) => {
                let opened = opening.advance(now, &mut stream.link).expect("an honest server opens");
                let Some(opened) = opened else { return false };
                stream.opening = None;
                if stream.is_resuming {
                    self.tell_heard(now, at);
                } else if stream.carrier == Some(CONTROL) {
                    self.opened = Some(opened);
                    self.open_further(now, net);
                }
                true
            }
            Some(Opening::Server(opening)) => {
                let request = opening.advance(now, &mut stream.link).expect("an honest client opens");
                let Some(request) = request else { return false };
                stream.opening = None;
                let (prover, carrier) = match (request.join(), &self.opened) {
                    (None, _) => (Prover::Key(ProofKey::open()), CONTROL),
                    (Some(join), Some(opened)) => {
                        assert_eq!(join.session, opened.session);
                        (Prover::Join { secret: opened.secret.clone(), join }, join.stream)
                    }
                    (Some(_), None) => panic!("a connection joins before there is a session"),
                };
                assert!(request.is_proven(&prover), "an honest client proves itself");
                stream.carrier = Some(carrier);
                let session = self.chance.bytes();
                let opened = request.accept(
                    now,
                    &mut stream.link,
                    &prover,
                    session,
                    usize::from(self.plan.streams) + 1,
                );
                if carrier == CONTROL && self.opened.is_some() {
                    // protocol.md [REJOIN-1]
                    stream.is_resuming = true;
                    let before = self.streams.iter_mut().take(at);
                    before.filter(|it| it.carrier == Some(CONTROL)).for_each(|it| it.is_gone = true);
                    self.tell_heard(now, at);
                } else if carrier == CONTROL {
                    self.opened = Some(opened);
                }
                true
            }
        }
    }

    /// A client dials another control connection; a server waits for it.
    fn rejoin(&mut self, now: Duration, net: &mut Net) {
        if self.side == Side::Server {
            return;
        }
        let opened = self.opened.clone().expect("a session that is open may lose its connection");
        let join = Join { session: opened.session, stream: CONTROL };
        let hello = Hello::ours(self.chance.bytes(), Some(join));
        let credential = Credential::Join { secret: opened.secret, join };
        self.connect(now, net, CONTROL, ClientOpening::new(credential, hello, None));
    }

    fn tell_heard(&mut self, now: Duration, at: usize) {
        let frames = self.log.tell();
        self.streams[at].link.queue(now, Frame::Message(Message::Heard(Heard { frames })));
    }

    /// protocol.md [REJOIN-2], [REJOIN-4]
    fn on_heard(&mut self, at: usize, frames: u64) {
        if !std::mem::take(&mut self.streams[at].is_resuming) {
            self.log.on_heard(frames).expect("an honest peer hears what was sent");
            return;
        }
        let lost = self.log.resume(frames).expect("an honest peer hears what was sent");
        if let Some(Core::Sender(sender, _)) = &mut self.core {
            lost.into_iter().for_each(|(file, offset)| sender.on_content_lost(file, offset));
        }
    }

    fn open_further(&mut self, now: Duration, net: &mut Net) {
        let opened = self.opened.clone().expect("the session is open");
        for stream in 1..=self.plan.streams {
            let join = Join { session: opened.session, stream };
            let hello = Hello::ours(self.chance.bytes(), Some(join));
            let credential = Credential::Join { secret: opened.secret.clone(), join };
            self.connect(now, net, stream, ClientOpening::new(credential, hello, None));
        }
    }

    fn on_frame(&mut self, now: Duration, net: &mut Net, at: usize, frame: Frame) {
        let carrier = self.streams[at].carrier.expect("an open connection has its number");
        if let Frame::Message(Message::Heard(heard)) = frame {
            return self.on_heard(at, heard.frames);
        }
        let is_counted = !matches!(frame, Frame::Message(Message::Open(_) | Message::Close(_)));
        if carrier == CONTROL && is_counted {
            assert!(!self.streams[at].is_resuming, "HEARD comes first");
            self.log.on_received();
        }
        match frame {
            Frame::Message(Message::Open(_)) => {
                assert!(self.side == Side::Server && self.core.is_none());
                self.core = Some(Core::new(&self.plan, &self.disk, !self.plan.is_push));
            }
            Frame::Message(Message::FlowOpen(open)) => self.on_flow_open(now, net, &open),
            Frame::Message(Message::FlowAccept(accept)) => self.on_flow_accept(now, net, &accept),
            Frame::Message(Message::Close(close)) => {
                assert_eq!(close.code, Code::Done, "{}", close.text);
                assert!(self.receipt_at.is_some(), "it closed before the end");
                self.end.get_or_insert(Ok(()));
            }
            frame => {
                let core = self.core.as_mut().expect("OPEN comes first");
                core.handle_frame(carrier, frame);
                if let Core::Sender(sender, _) = core {
                    while let Some((file, _, outcome)) = sender.poll_outcome() {
                        self.heard.push((file, outcome));
                    }
                    if sender.end().is_some() && self.end.is_none() {
                        self.end = Some(Ok(()));
                        let close = Close { code: Code::Done, text: String::new() };
                        self.streams[at].link.queue(now, Frame::Message(Message::Close(close)));
                    }
                }
            }
        }
    }

    /// Fills connections.
    fn write(&mut self, now: Duration, net: &mut Net) -> bool {
        let mut has_worked = false;
        for stream in self.streams.iter_mut().filter(|stream| !stream.is_gone) {
            let may_talk = match &stream.opening {
                None => !stream.is_resuming,
                Some(Opening::Client(opening)) => {
                    stream.carrier == Some(CONTROL) && !stream.is_resuming && opening.is_auth_sent()
                }
                Some(Opening::Server(_)) => false,
            };
            let carrier = stream.carrier.unwrap_or(CONTROL);
            while may_talk && self.end.is_none() && stream.link.pending_bytes() < OUT_HIGH_BYTES {
                let again = if carrier == CONTROL { self.log.poll_again() } else { None };
                if again.is_none()
                    && carrier == CONTROL
                    && let Some(frames) = self.log.poll_heard()
                {
                    stream.link.queue(now, Frame::Message(Message::Heard(Heard { frames })));
                    has_worked = true;
                }
                let frame = again.or_else(|| match &mut self.core {
                    _ if carrier == CONTROL && !self.about_flows.is_empty() => self.about_flows.pop_front(),
                    Some(core) => core.poll_frame(carrier),
                    None => None,
                });
                let Some(frame) = frame else { break };
                if carrier == CONTROL {
                    self.log.on_sent(&frame);
                }
                if matches!(frame, Frame::Message(Message::Receipt(_))) {
                    self.receipt_at = Some(now);
                }
                stream.link.queue(now, frame);
                has_worked = true;
            }
            while stream.link.wants_write() {
                match stream.link.transmit(&mut net.writer(now, stream.connection, self.side)) {
                    Ok(_) => has_worked = true,
                    Err(_) => break,
                }
            }
        }
        has_worked
    }

    fn work_at_files(&mut self, now: Duration) -> bool {
        match &mut self.core {
            _ if self.end.is_some() => false,
            None => false,
            Some(Core::Sender(sender, source)) => source.work(now, sender),
            Some(Core::Receiver(receiver, target)) => target.work(now, receiver),
        }
    }

    // --- Flows ---

    fn on_flow_open(&mut self, now: Duration, net: &mut Net, open: &FlowOpen) {
        assert!(self.side == Side::Server && open.attempt >= self.attempts);
        self.attempts = open.attempt + 1;
        let is_refused = std::mem::take(&mut self.refuses_next) || self.core.is_none();
        let connection = if is_refused { 0 } else { 1_000_000 + u32::from(open.attempt) };
        let accept = FlowAccept { attempt: open.attempt, connection, port: limits::PORT };
        if !is_refused {
            self.start_flow(now, net, open, connection, Path::to_client());
        }
        self.about_flows.push_back(Frame::Message(Message::FlowAccept(accept)));
    }

    fn on_flow_accept(&mut self, now: Duration, net: &mut Net, accept: &FlowAccept) {
        let open = self.pending.take().expect("it was asked for");
        assert_eq!(open.attempt, accept.attempt);
        if accept.connection != 0 {
            self.start_flow(now, net, &open, accept.connection, Path::to_server(SERVER));
        }
    }

    fn start_flow(
        &mut self,
        now: Duration,
        net: &mut Net,
        open: &FlowOpen,
        server: ConnectionId,
        path: Path,
    ) {
        let opened = self.opened.as_ref().expect("flows are asked for in a session");
        let flow = FlowId { session: opened.session, attempt: open.attempt, client: open.connection, server };
        let config = FlowConfig {
            sealer: Sealer::new(&opened.secret, &flow, self.side, self.plan.key_update_after),
            opener: Opener::new(&opened.secret, &flow, self.side),
            path,
            seed: self.chance.bytes(),
        };
        if !net.is_watched(open.attempt) {
            let witness = |of: Side| Witness::new(Opener::new(&opened.secret, &flow, of.other()));
            net.watch(open.attempt, [witness(Side::Client), witness(Side::Server)]);
        }
        let is_client = self.side == Side::Client;
        let zero = Duration::ZERO;
        let side = match self.core.as_ref().expect("a session has a core") {
            Core::Sender(..) => {
                let rtt = self.plan.link.rtt;
                let sender = datagram::Sender::new(zero, config, self.plan.law, rtt, false);
                FlowSide::Sender(Box::new(sender), WindowGuard::default())
            }
            Core::Receiver(..) => {
                let receiver = datagram::Receiver::new(zero, config, is_client);
                FlowSide::Receiver(Box::new(receiver), Default::default())
            }
        };
        let carrier = limits::FLOW_NUMBER_MIN + open.attempt;
        let idle_timeout = self.plan.idle_timeout;
        let mut end = FlowEnd::new(now, carrier, flow.id_at(self.side), is_client, idle_timeout, side);
        if self.trace_lines > 0 {
            end.keep_trace(self.trace_lines);
        }
        self.flows.push(end);
    }

    fn serve_flows(&mut self, now: Duration, net: &mut Net) -> bool {
        let Some(core) = &mut self.core else { return false };
        let mut has_worked = false;
        let mut at = 0;
        while at < self.flows.len() {
            let core = &mut *core;
            let flow = &mut self.flows[at];
            if self.end.is_some() || core.is_down(flow.carrier) {
                self.finish_flow(now, net, at, FlowOutcome::Done);
                return true;
            }
            has_worked |= flow.serve(now, core);
            if self.wants_flow && flow.is_confirmed() {
                self.wants_flow = false;
                if let Core::Sender(sender, _) = core {
                    sender.set_only(Some(flow.carrier));
                    has_worked = true;
                }
            }
            if let Some(outcome) = flow.judge(now) {
                self.finish_flow(now, net, at, outcome);
                return true;
            }
            has_worked |= transmit(now, flow, self.side, net);
            at += 1;
        }
        has_worked
    }

    fn finish_flow(&mut self, now: Duration, net: &mut Net, at: usize, outcome: FlowOutcome) {
        let mut flow = self.flows.remove(at);
        flow.close(outcome);
        transmit(now, &mut flow, self.side, net);
        net.note(now, self.side, flow.carrier, outcome, flow.is_sender());
        self.flow_bytes += flow.content_bytes;
        self.diary.extend(flow.take_trace());
        if let Some(core) = &mut self.core
            && self.end.is_none()
        {
            core.on_carrier_down(flow.carrier);
        }
    }
}

fn flow_of<'a>(flows: &'a mut [FlowEnd], datagram: &[u8]) -> Option<&'a mut FlowEnd> {
    let header = Header::decode(datagram)?;
    flows.iter_mut().find(|flow| flow.id == header.connection && !flow.is_mute)
}

/// Sends all that a flow has; whether there was anything.
fn transmit(now: Duration, flow: &mut FlowEnd, side: Side, net: &mut Net) -> bool {
    let mut out = Vec::new();
    let mut had_any = false;
    while let Some(transmit) = flow.poll_transmit(now, &mut out) {
        had_any = true;
        for datagram in out.chunks(transmit.segment_bytes) {
            let attempt = flow.carrier - limits::FLOW_NUMBER_MIN;
            net.send(now, side, attempt, transmit.to, datagram, flow.is_mute);
        }
    }
    had_any
}

impl Core {
    fn new(plan: &Plan, disk: &Memory, is_sender: bool) -> Self {
        if is_sender {
            let source = Source::new(plan.files.clone(), plan.chunk_bytes, plan.read_rate);
            let mut sender = Sender::new(plan.is_eager);
            if plan.waits_for_flow {
                sender.set_only(Some(limits::FLOW_NUMBER_MIN));
            }
            Self::Sender(Box::new(sender), Box::new(source))
        } else {
            let mut receiver = Receiver::new(plan.window_max);
            receiver.allow_resume(OWNER);
            Self::Receiver(Box::new(receiver), Box::new(Target::new(plan, disk)))
        }
    }

    /// Takes a frame.
    pub fn handle_frame(&mut self, carrier: Carrier, frame: Frame) {
        let result = match self {
            Self::Sender(sender, _) => {
                assert_eq!(carrier, CONTROL, "only the control connection carries what a receiver says");
                sender.handle_frame(frame)
            }
            Self::Receiver(receiver, _) => receiver.handle_frame(carrier, frame),
        };
        result.expect("an honest peer breaks no rule");
        if let Self::Receiver(receiver, _) = self {
            let most = limits::CREDIT_MAX_BYTES;
            assert!(receiver.unplaced_bytes() <= most, "more is unplaced than was granted");
        }
    }

    /// The next frame for a carrier.
    pub fn poll_frame(&mut self, carrier: Carrier) -> Option<Frame> {
        match self {
            Self::Sender(sender, _) => sender.poll_frame(carrier),
            Self::Receiver(receiver, _) if carrier == CONTROL => receiver.poll_frame(),
            Self::Receiver(..) => None,
        }
    }

    /// A further connection or a flow is gone.
    fn on_carrier_down(&mut self, carrier: Carrier) {
        match self {
            Self::Sender(sender, _) => {
                sender.on_carrier_down(carrier);
                if sender.only() == Some(carrier) {
                    sender.set_only(None);
                }
            }
            Self::Receiver(receiver, _) => receiver.on_carrier_down(carrier),
        }
    }

    fn is_down(&self, carrier: Carrier) -> bool {
        match self {
            Self::Sender(sender, _) => sender.is_down(carrier),
            Self::Receiver(receiver, _) => receiver.is_down(carrier),
        }
    }

    /// What a flow may begin, bytes.
    pub fn room(&self) -> u64 {
        if let Self::Receiver(receiver, _) = self { receiver.room() } else { 0 }
    }

    /// A flow's sender has heard of credit.
    pub fn on_flow_credit(&mut self, credit: u64) {
        if let Self::Sender(sender, _) = self {
            sender.on_flow_credit(credit);
        }
    }

    /// A flow's sender has heard of a chunk that is placed.
    pub fn on_flow_placed(&mut self, file: u64, offset: u64) {
        if let Self::Sender(sender, _) = self {
            sender.on_flow_placed(file, offset);
        }
    }

    /// What a flow's receiver has to tell.
    pub fn flow_state(&mut self, carrier: Carrier) -> (Vec<(u64, u64)>, u64) {
        let Self::Receiver(receiver, _) = self else { return (Vec::new(), 0) };
        let placed = receiver.take_placed_of_flows().into_iter().filter(|(of, ..)| *of == carrier);
        (placed.map(|(_, file, offset)| (file, offset)).collect(), receiver.grant())
    }

    /// Nothing follows what is on its way.
    pub fn is_tail(&self) -> bool {
        matches!(self, Self::Sender(sender, _) if sender.is_tail())
    }

    fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Sender(_, source) => Some(source.poll_timeout()).filter(|&at| at > now),
            Self::Receiver(_, target) => target.poll_timeout(),
        }
    }
}
