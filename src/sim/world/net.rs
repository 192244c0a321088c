//! What lies between client and server: connections, the road of datagrams, a NAT, and people who mean harm.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use super::{
    super::{chance::Chance, forger::mutate, road::Road, witness::Witness},
    flow::FlowOutcome,
    pipe::{Pipe, PipeConfig, PipeWriter},
    plan::Plan,
};
use crate::{link::Direction, security::Side, transfer::Carrier, wire::packet::PacketNumber};

/// Where the server takes datagrams.
pub const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 7420);
/// Bytes that may go to an address that has proven nothing for each that came from it (RFC 9000, section 8.1).
const AMPLIFICATION: u64 = 3;

/// The net.
#[derive(Debug)]
pub struct Net {
    plan_pipe: PipeConfig,
    chance: Chance,
    connections: Vec<Connection>,
    /// Connections that the server has not taken yet.
    pub dialled: Vec<usize>,
    road: Road,
    /// Where the client's datagrams come from.
    client: SocketAddr,
    /// Where it can be reached.
    reachable: BTreeSet<SocketAddr>,
    /// Where it ever was.
    own: BTreeSet<SocketAddr>,
    /// Bytes from and to addresses of people who mean harm.
    harm: BTreeMap<SocketAddr, (u64, u64)>,
    stolen_percent: u64,
    forged_percent: u64,
    /// Of each flow, what the client and the server sent.
    witnesses: BTreeMap<u16, [Witness; 2]>,
    /// Datagrams on their way.
    pub arrivals: Vec<(Duration, Datagram)>,
    /// Flows that ended.
    pub ends: Vec<String>,
    /// Reads so far: each made room for the other side.
    pub reads: u64,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Datagram {
    /// The flow of whoever sent it.
    pub attempt: u16,
    /// Who sent it, or is said to.
    pub from: Side,
    /// From which address.
    pub source: SocketAddr,
    /// To which.
    pub target: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its number, if it is as it was sent.
    pub number: Option<PacketNumber>,
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    /// Its number in the session.
    pub carrier: Carrier,
    /// What client and server write.
    pipes: [Pipe; 2],
    /// When client and server notice that it was cut.
    gone_at: [Option<Duration>; 2],
}

impl Connection {
    /// When this side notices that it was cut.
    pub fn gone_at(&self, side: Side) -> Option<Duration> {
        self.gone_at[index(side)]
    }

    /// When this side can read.
    pub fn readable_at(&self, side: Side) -> Option<Duration> {
        self.pipes[index(side.other())].readable_at()
    }
}

impl Net {
    /// The net of a plan.
    pub fn new(plan: &Plan) -> Self {
        let client = SocketAddr::from(([10, 0, 0, 1], 5001));
        Self {
            plan_pipe: plan.pipe,
            chance: Chance::new(plan.seed, "net"),
            connections: Vec::new(),
            dialled: Vec::new(),
            road: Road::new(&plan.link),
            client,
            reachable: BTreeSet::from([client]),
            own: BTreeSet::from([client]),
            harm: BTreeMap::new(),
            stolen_percent: plan.stolen_percent,
            forged_percent: plan.forged_percent,
            witnesses: BTreeMap::new(),
            arrivals: Vec::new(),
            ends: Vec::new(),
            reads: 0,
        }
    }

    /// From here on the road has no faults, and nobody means harm.
    pub fn heal(&mut self, plan: &Plan) {
        self.road = Road::new(&plan.healed);
        (self.stolen_percent, self.forged_percent) = (0, 0);
    }

    // --- Connections ---

    /// The client dials.
    pub fn connect(&mut self, now: Duration, carrier: Carrier) -> usize {
        let opens_at = now + self.plan_pipe.one_way * 2;
        let mut pipe = || {
            let chance = Chance::new(self.chance.next(), "pipe");
            Pipe::new(self.plan_pipe, opens_at, chance)
        };
        let connection = Connection { carrier, pipes: [pipe(), pipe()], gone_at: [None, None] };
        self.connections.push(connection);
        self.dialled.push(self.connections.len() - 1);
        self.connections.len() - 1
    }

    /// A connection.
    pub fn connection(&self, number: usize) -> &Connection {
        &self.connections[number]
    }

    /// Where a side writes.
    pub fn writer(&mut self, now: Duration, connection: usize, side: Side) -> PipeWriter<'_> {
        PipeWriter { pipe: &mut self.connections[connection].pipes[index(side)], now }
    }

    /// What a side can read. The other side has room again then, and is to be asked.
    pub fn read(&mut self, now: Duration, connection: usize, side: Side) -> Option<Vec<u8>> {
        let bytes = self.connections[connection].pipes[index(side.other())].read(now)?;
        self.reads += 1;
        Some(bytes)
    }

    /// Cuts the newest connection of this number. One side notices at once or soon, the other perhaps never.
    pub fn cut(&mut self, now: Duration, carrier: Carrier) {
        let Some(connection) = self.connections.iter_mut().rev().find(|it| it.carrier == carrier) else {
            return;
        };
        connection.pipes.iter_mut().for_each(Pipe::cut);
        let soon = now + Duration::from_millis(self.chance.below(300));
        let later = self.chance.percent(60).then(|| now + Duration::from_millis(self.chance.below(2000)));
        connection.gone_at = if self.chance.percent(50) { [Some(soon), later] } else { [later, Some(soon)] };
    }

    /// Cuts the newest connection of this number; the client notices soon, the server perhaps never.
    pub fn cut_at_client(&mut self, now: Duration, carrier: Carrier) {
        self.cut(now, carrier);
        if let Some(connection) = self.connections.iter_mut().rev().find(|it| it.carrier == carrier) {
            connection.gone_at[index(Side::Client)] =
                Some(now + Duration::from_millis(self.chance.below(300)));
        }
    }

    // --- Datagrams ---

    /// A flow has begun; `witnesses` open what the client and what the server sends.
    pub fn watch(&mut self, attempt: u16, witnesses: [Witness; 2]) {
        self.witnesses.insert(attempt, witnesses);
    }

    /// Whether a flow is watched.
    pub fn is_watched(&self, attempt: u16) -> bool {
        self.witnesses.contains_key(&attempt)
    }

    /// A side sends a datagram. What is mute is seen by the witness, and by nobody else.
    pub fn send(
        &mut self,
        now: Duration,
        from: Side,
        attempt: u16,
        target: SocketAddr,
        bytes: &[u8],
        is_mute: bool,
    ) {
        let [client, server] = self.witnesses.get_mut(&attempt).expect("a flow is watched");
        let (own, other) = match from {
            Side::Client => (client, server),
            Side::Server => (server, client),
        };
        let number = own.on_sent(bytes, other).number;
        if let Some((came, went)) = self.harm.get_mut(&target) {
            // protocol.md [PATH-1]
            *went += bytes.len() as u64;
            assert!(*went <= AMPLIFICATION * *came, "{went} bytes to {target}, which has proven nothing");
        }
        if is_mute {
            return;
        }
        let (direction, source) = match from {
            Side::Client => (Direction::Forward, self.client),
            Side::Server => (Direction::Backward, SERVER),
        };
        for arrival in self.road.carry(now, direction, bytes) {
            let number = arrival.is_intact.then_some(number);
            let datagram = Datagram { attempt, from, source, target, bytes: arrival.datagram, number };
            if from == Side::Client && self.chance.percent(self.stolen_percent) {
                self.steal(now, arrival.at, &datagram);
            }
            if self.chance.percent(self.forged_percent) {
                let forged = self.forge(&datagram);
                self.arrivals.push((arrival.at, forged));
            }
            self.arrivals.push((arrival.at, datagram));
        }
    }

    /// Somebody sends the same from elsewhere, and is faster or slower.
    fn steal(&mut self, now: Duration, at: Duration, datagram: &Datagram) {
        let port = 6000 + u16::try_from(self.chance.below(3)).expect("a port");
        let source = SocketAddr::from(([10, 0, 0, 66], port));
        let at = if self.chance.percent(70) { now + (at - now) / 2 } else { at * 2 - now };
        self.arrivals.push((at, Datagram { source, ..datagram.clone() }));
    }

    /// Somebody makes one up.
    fn forge(&mut self, datagram: &Datagram) -> Datagram {
        let mut bytes = datagram.bytes.clone();
        mutate(&mut bytes, &mut self.chance);
        let source = match self.chance.below(3) {
            0 => datagram.source,
            1 => SocketAddr::from(([10, 0, 0, 67], 6000)),
            _ => SocketAddr::from(([10, 0, 0, 1], 6001)),
        };
        let number = datagram.number.filter(|_| bytes == datagram.bytes);
        Datagram { source, bytes, number, ..datagram.clone() }
    }

    /// Whether a datagram gets to where it goes; it is about to be handed over.
    pub fn deliver(&mut self, datagram: &Datagram, is_expected: bool) -> bool {
        let arrives = match datagram.from {
            Side::Client => true,
            Side::Server => self.reachable.contains(&datagram.target),
        };
        if !arrives {
            return false;
        }
        if datagram.from == Side::Client && !self.own.contains(&datagram.source) {
            self.harm.entry(datagram.source).or_default().0 += datagram.bytes.len() as u64;
        }
        if is_expected
            && let (Some(number), Some(witnesses)) =
                (datagram.number, self.witnesses.get_mut(&datagram.attempt))
        {
            witnesses[index(datagram.from)].on_arrived(number);
        }
        true
    }

    /// The client's datagrams come from another address.
    pub fn rebind(&mut self, is_other_host: bool, keeps_old: bool) {
        let [a, b, c, host] = match self.client.ip() {
            std::net::IpAddr::V4(ip) => ip.octets(),
            std::net::IpAddr::V6(_) => unreachable!("the client has IPv4"),
        };
        let host = if is_other_host { host + 10 } else { host };
        self.client = SocketAddr::from(([a, b, c, host], self.client.port() + 1));
        if !keeps_old {
            self.reachable.clear();
        }
        self.reachable.insert(self.client);
        self.own.insert(self.client);
    }

    /// A flow has ended.
    pub fn note(
        &mut self,
        now: Duration,
        side: Side,
        carrier: Carrier,
        outcome: FlowOutcome,
        is_sender: bool,
    ) {
        let role = if is_sender { "sender" } else { "receiver" };
        self.ends.push(format!("{now:?}: flow {carrier} of the {side:?}, a {role}: {outcome:?}"));
    }
}

fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}
