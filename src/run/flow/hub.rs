//! One UDP socket for all flows of a process, and the thread that receives on it.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{
        clock,
        report::{FlowReport, ReceiverFigures},
        session::Session,
    },
    end::End,
    raw::RawFlow,
};
use crate::{
    datagram::{self, ReceiverStats},
    net::{
        Listener, UdpSocket, Waker,
        udp::{Batch, Received, Stop, Transmit, UdpOptions},
    },
    wire::packet::{ConnectionId, Header},
};

/// How often the socket's drop counter is read.
const DROPS_EVERY: Duration = Duration::from_millis(20);
/// After a receive that failed for want of resources.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the system's buffer may stay full.
const FULL_WAIT: Duration = Duration::from_millis(5);

/// A datagram is larger than our own network lets through; it and those behind it were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// A socket with its thread, which ends with it.
#[derive(Debug)]
pub struct Hub(Arc<Shared>);

/// What the ends of flows need of it.
#[derive(Debug)]
pub struct Shared {
    /// Sends for all flows.
    pub socket: UdpSocket,
    waker: Waker,
    ends: Mutex<BTreeMap<ConnectionId, Intake>>,
    /// Raw flows that send without the checksum of UDP.
    without_checksum: Mutex<usize>,
    is_over: AtomicBool,
}

/// Who takes the packets of a flow.
#[derive(Clone, Debug)]
pub enum Intake {
    /// An end that acknowledges and repairs.
    End(Arc<End>),
    /// One that does not.
    Raw(Arc<RawFlow>),
}

impl Intake {
    fn before_input(&self) {
        match self {
            Self::End(end) => end.before_input(),
            Self::Raw(_) => {}
        }
    }

    fn input(&self, from: SocketAddr, to: Option<IpAddr>, datagram: &mut [u8]) {
        match self {
            Self::End(end) => end.input(from, to, datagram),
            Self::Raw(flow) => flow.input(from, to, datagram),
        }
    }

    fn after_input(&self, drops: Option<u64>) {
        match self {
            Self::End(end) => end.after_input(drops),
            Self::Raw(flow) => flow.after_input(),
        }
    }
}

impl Hub {
    /// A socket beside a listener: the same address and, unless another program has it, the same port number.
    pub fn beside(listener: &Listener) -> io::Result<Self> {
        Self::start(UdpSocket::beside(listener, UdpOptions::default())?)
    }

    /// A socket on any port, for a client of `server`.
    pub fn towards(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr =
            if server.is_ipv6() { "[::]:0".parse() } else { "0.0.0.0:0".parse() }.expect("an address");
        Self::start(UdpSocket::bind(any, UdpOptions::default())?)
    }

    fn start(socket: UdpSocket) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            socket,
            waker: Waker::new()?,
            ends: Mutex::default(),
            without_checksum: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let thread = shared.clone();
        thread::Builder::new().name("udp".to_owned()).spawn(move || thread.receive())?;
        Ok(Self(shared))
    }

    /// What flows need of it.
    pub fn shared(&self) -> Arc<Shared> {
        self.0.clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.0.is_over.store(true, Relaxed);
        self.0.waker.wake();
    }
}

impl Shared {
    /// The port of the socket.
    pub fn port(&self) -> u16 {
        self.socket.address().port()
    }

    /// What a receiver's report says of a flow, before whose first datagram the socket had dropped `drops_before`.
    pub fn receiver_report(&self, stats: ReceiverStats, drops_before: Option<u32>) -> FlowReport {
        let ReceiverStats { received, out_of_order, duplicates, damaged } = stats;
        let drops = self.socket.drops().zip(drops_before);
        FlowReport::Receiver(ReceiverFigures {
            recv_buffer_bytes: self.socket.buffers().recv_bytes,
            received,
            out_of_order,
            duplicates,
            damaged,
            // A counter of the system's, which wraps.
            dropped_by_socket: drops.map(|(after, before)| after.wrapping_sub(before).into()),
        })
    }

    /// A name that no flow of this hub has.
    pub fn free_id(&self) -> ConnectionId {
        loop {
            let id = ConnectionId::from_le_bytes(clock::random());
            if id != 0 && !self.lock().contains_key(&id) {
                return id;
            }
        }
    }

    /// Packets for `id` go to this end from here on.
    pub fn register(&self, id: ConnectionId, end: Intake) {
        self.lock().insert(id, end);
    }

    /// Packets for `id` go nowhere any more.
    pub fn remove(&self, id: ConnectionId) {
        self.lock().remove(&id);
    }

    /// Datagrams leave without the checksum of UDP, over IPv4, until [`Self::with_checksum`]; whether they do.
    pub fn without_checksum(&self) -> bool {
        let mut count = self.without_checksum.lock().unwrap_or_else(PoisonError::into_inner);
        let is_off = *count > 0 || self.socket.switch_checksum_off();
        *count += usize::from(is_off);
        is_off
    }

    /// Ends what [`Self::without_checksum`] began, if that said so.
    pub fn with_checksum(&self) {
        let mut count = self.without_checksum.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            self.socket.switch_checksum_on();
        }
    }

    /// Sends a train of datagrams from our address `from`. What finds no way out is as if it had been lost. Waits while
    /// the system's buffer is full, unless the session is over.
    pub fn send(
        &self,
        train: datagram::Transmit,
        from: Option<IpAddr>,
        contents: &[u8],
        waker: &Waker,
        session: &Session,
    ) -> Result<(), TooLarge> {
        let mut rest = contents;
        while !rest.is_empty() {
            let segment_bytes = Some(train.segment_bytes);
            let sent = self.socket.send(&Transmit { to: train.to, from, contents: rest, segment_bytes });
            rest = &rest[sent.bytes..];
            match sent.stop {
                None => break,
                Some(Stop::Full) => {
                    if self.socket.wait_for_room(waker, FULL_WAIT).is_err() || session.is_over() {
                        break;
                    }
                }
                Some(Stop::TooLarge) => return Err(TooLarge),
                Some(Stop::Refused(error)) => {
                    tracing::debug!(%error, "a datagram has no way out");
                    rest = &rest[train.segment_bytes.min(rest.len())..];
                }
            }
        }
        Ok(())
    }

    fn receive(&self) {
        let mut batch = Batch::new();
        let mut touched: BTreeMap<ConnectionId, Intake> = BTreeMap::new();
        let mut drops_at = clock::now();
        while !self.is_over.load(Relaxed) {
            match self.socket.recv(&mut batch, &self.waker, None) {
                Ok(Received::Datagrams) => self.deliver(&mut batch, &mut touched),
                Ok(Received::Woken | Received::Nothing) => continue,
                Err(error) => {
                    tracing::warn!(%error, "cannot receive datagrams");
                    let _ = self.waker.wait(Some(PAUSE));
                }
            }
            let drops = self.drops(&mut drops_at);
            for end in std::mem::take(&mut touched).into_values() {
                end.after_input(drops);
            }
        }
    }

    /// protocol.md [PACKET-2]: what belongs to no flow is dropped without an answer.
    fn deliver(&self, batch: &mut Batch, touched: &mut BTreeMap<ConnectionId, Intake>) {
        for group in batch.groups() {
            for datagram in group.datagrams {
                let Some(header) = Header::decode(datagram) else { continue };
                let end = match touched.get(&header.connection) {
                    Some(end) => end,
                    None => {
                        let Some(end) = self.lock().get(&header.connection).cloned() else { continue };
                        end.before_input();
                        touched.entry(header.connection).or_insert(end)
                    }
                };
                end.input(group.from, group.to, datagram);
            }
        }
    }

    fn drops(&self, at: &mut Instant) -> Option<u64> {
        let now = clock::now();
        if now < *at {
            return None;
        }
        *at = now + DROPS_EVERY;
        self.socket.drops().map(u64::from)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ConnectionId, Intake>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
