//! The socket for datagrams: many in one system call where the system can, one by one where it cannot.
//!
//! ```text
//! one thread              [`UdpSocket`]                          another thread
//! send(Transmit) ───▶ segmentation offload (GSO)      ┌──▶ recv(&mut Batch)
//!      ◀─── Sent          or one by one               │         ▼
//!                     receive offload (GRO) ──────────┘    groups ▶ datagrams
//!                     buffers, counters
//! ```
//!
//! It belongs to threads of its own: a system call of 64 KiB is the unit of work, and a thread that waits for datagrams
//! must wait for nothing else. Any number of threads may send; one receives. What the network does to datagrams is never
//! an error here: a peer that refuses, a route that is missing or a datagram that is too large are answers.

mod batch;
mod buffers;
mod counters;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use quinn_udp::{UdpSockRef, UdpSocketState};
use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
};
use socket2::{Domain, Protocol, Socket, Type};

pub use batch::{Batch, Datagrams, Group};
pub use buffers::{Buffers, recv_buffer_advice};
pub use counters::checksum_errors;

use super::{Listener, Waker, waker::wait_for};
use crate::limits;

/// How a socket is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// Let the system cut and join datagrams where it can. Without, every datagram is its own system call out and its
    /// own buffer in: slow, and what the fast path is compared with.
    pub has_offload: bool,
    /// Receive buffer to ask for, bytes.
    pub recv_buffer_bytes: usize,
    /// Send buffer to ask for, bytes.
    pub send_buffer_bytes: usize,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            has_offload: true,
            recv_buffer_bytes: limits::UDP_RECV_BUFFER_BYTES,
            send_buffer_bytes: limits::UDP_SEND_BUFFER_BYTES,
        }
    }
}

/// Datagrams to send to one peer.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Where they go.
    pub to: SocketAddr,
    /// Which of our addresses they come from; `None`: what the route says. A server answers from the address that the
    /// peer has written to.
    pub from: Option<IpAddr>,
    /// The datagrams, one behind the other.
    pub contents: &'a [u8],
    /// Bytes of each datagram but the last, which may be shorter; `None`: all of `contents` is one datagram. Not zero.
    pub segment_bytes: Option<usize>,
}

/// How far a send came.
#[derive(Debug)]
pub struct Sent {
    /// Bytes of the contents that the system has taken: whole datagrams from the start.
    pub bytes: usize,
    /// Why it took no more; `None`: it took all.
    pub stop: Option<Stop>,
}

/// Why the system takes no more.
#[derive(Debug)]
pub enum Stop {
    /// Its buffer is full: the rest may go a little later, see [`UdpSocket::wait_for_room`].
    Full,
    /// The next datagram is larger than our own network lets through. It will not go, a smaller one may.
    TooLarge,
    /// The next datagram has no way out: no route, the interface is down, a firewall says no. Take it as lost; another
    /// try may pass.
    Refused(io::Error),
}

/// What ended a wait for datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The batch holds datagrams, one at least.
    Datagrams,
    /// The waker's waking, which is taken. The batch is empty, and there may be datagrams to receive.
    Woken,
    /// Neither; the batch is empty. The time is over, or seems to be: look at the clock.
    Nothing,
}

/// A socket for datagrams, shared by a thread that receives and threads that send.
#[derive(Debug)]
pub struct UdpSocket {
    socket: Socket,
    state: UdpSocketState,
    address: SocketAddr,
    buffers: Buffers,
    /// Whether several datagrams go out in one system call; off for good once the system has refused that.
    is_segmenting: AtomicBool,
    /// Several datagrams went out in one system call before the checksum was switched off.
    may_segment: AtomicBool,
}

impl UdpSocket {
    /// A socket at `address`; port 0: any. The unspecified IPv6 address takes IPv4 too; where there is no IPv6, the
    /// unspecified IPv4 address is taken instead.
    pub fn bind(address: SocketAddr, options: UdpOptions) -> io::Result<Self> {
        match Self::bind_one(address, options) {
            Err(error)
                if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                    && error.kind() != io::ErrorKind::AddrInUse =>
            {
                Self::bind_one((Ipv4Addr::UNSPECIFIED, address.port()).into(), options)
            }
            result => result,
        }
    }

    /// The socket beside a listener: the same address and, unless another program has it, the same port number.
    pub fn beside(listener: &Listener, options: UdpOptions) -> io::Result<Self> {
        let address = listener.address()?;
        match Self::bind_one(address, options) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Self::bind_one(SocketAddr::new(address.ip(), 0), options)
            }
            result => result,
        }
    }

    fn bind_one(address: SocketAddr, options: UdpOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        // Forbids fragments too, and takes no word of routers about how large a packet may be.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        if !options.has_offload {
            switch_joining_off(&socket)?;
        }
        let buffers = Buffers::ask(&socket, options.recv_buffer_bytes, options.send_buffer_bytes)?;
        let is_segmenting = AtomicBool::new(options.has_offload && state.max_gso_segments() > 1);
        let may_segment = AtomicBool::new(false);
        Ok(Self { socket, state, address, buffers, is_segmenting, may_segment })
    }

    /// Sends datagrams without waiting.
    ///
    /// # Panics
    ///
    /// If the size of a segment is 0.
    pub fn send(&self, transmit: &Transmit<'_>) -> Sent {
        let contents = transmit.contents;
        let segment_bytes = transmit.segment_bytes.unwrap_or(contents.len().max(1));
        assert!(segment_bytes > 0, "a datagram of a train has a size");
        let mut per_call = if self.is_segmenting() { segments_per_call(segment_bytes) } else { 1 };
        let mut was_refused = false;
        let mut bytes = 0;
        loop {
            let rest = &contents[bytes..];
            let now = &rest[..rest.len().min(per_call * segment_bytes)];
            match self.send_once(transmit, now, segment_bytes) {
                Ok(()) => {
                    bytes += now.len();
                    if was_refused {
                        self.is_segmenting.store(false, Ordering::Relaxed);
                    }
                    if bytes == contents.len() {
                        return Sent { bytes, stop: None };
                    }
                }
                // Says either that this device cannot cut datagrams, or that there is something wrong with these; one
                // by one tells which.
                Err(error) if now.len() > segment_bytes && is_refusal_to_cut(&error) => {
                    per_call = 1;
                    was_refused = true;
                }
                Err(error) => return Sent { bytes, stop: Some(Stop::from(error)) },
            }
        }
    }

    fn send_once(&self, transmit: &Transmit<'_>, contents: &[u8], segment_bytes: usize) -> io::Result<()> {
        let transmit = quinn_udp::Transmit {
            destination: self.addressed(transmit.to),
            ecn: None,
            contents,
            segment_size: (contents.len() > segment_bytes).then_some(segment_bytes),
            src_ip: transmit.from.map(|from| self.addressed((from, 0).into()).ip()),
        };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }

    /// Receives into `batch`: at once what is there, else what comes first within the timeout; without a timeout it
    /// waits for as long as it takes. A waking of `waker` is said before any datagram.
    pub fn recv(&self, batch: &mut Batch, waker: &Waker, timeout: Option<Duration>) -> io::Result<Received> {
        batch.clear();
        if waker.take() {
            return Ok(Received::Woken);
        }
        if self.recv_now(batch)? {
            return Ok(Received::Datagrams);
        }
        let (_, is_woken) = self.wait(PollFlags::IN, waker, timeout)?;
        if is_woken {
            return Ok(Received::Woken);
        }
        Ok(if self.recv_now(batch)? { Received::Datagrams } else { Received::Nothing })
    }

    /// Receives what is there into `batch`, without waiting, and says whether there was anything.
    pub fn recv_now(&self, batch: &mut Batch) -> io::Result<bool> {
        batch.clear();
        match batch.fill(|slices, metas| self.state.recv(UdpSockRef::from(&self.socket), slices, metas)) {
            Ok(()) => Ok(!batch.is_empty()),
            Err(error) if is_about_another_datagram(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// After [`Stop::Full`]: waits until the system takes more, at most so long; a waking of `waker` ends it too. Says
    /// whether there was a waking, which is taken.
    pub fn wait_for_room(&self, waker: &Waker, timeout: Duration) -> io::Result<bool> {
        Ok(self.wait(PollFlags::OUT, waker, Some(timeout))?.1)
    }

    /// Waits; says whether the socket is ready and whether there was a waking.
    fn wait(&self, event: PollFlags, waker: &Waker, timeout: Option<Duration>) -> io::Result<(bool, bool)> {
        let mut fds = [PollFd::new(&self.socket, event), waker.poll_fd()];
        wait_for(&mut fds, timeout)?;
        let [is_ready, has_byte] = fds.map(|fd| !fd.revents().is_empty());
        Ok((is_ready, has_byte && waker.take_ready()))
    }

    /// Switches the checksum of datagrams sent over IPv4 off, so that damage on the way reaches the receiver instead of
    /// being dropped by its system. Says whether it is off. Datagrams go one by one meanwhile, since cutting needs the
    /// checksum. IPv6 keeps its checksum.
    pub fn switch_checksum_off(&self) -> bool {
        #[cfg(target_os = "linux")]
        if super::option::set(&self.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).is_ok() {
            let was_segmenting = self.is_segmenting.swap(false, Ordering::Relaxed);
            self.may_segment.fetch_or(was_segmenting, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Switches the checksum on again, and with it whatever it had switched off.
    pub fn switch_checksum_on(&self) {
        #[cfg(target_os = "linux")]
        if super::option::set(&self.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 0).is_ok() {
            self.is_segmenting.store(self.may_segment.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// How often the system has dropped something since the socket was opened because its receive buffer was full: one
    /// datagram or one train of joined ones, so that this says that datagrams were lost here, and how many at least.
    /// Counts on from 0 after `u32::MAX`. `None` where the system does not say.
    pub fn drops(&self) -> Option<u32> {
        counters::drops(&self.socket)
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The buffers that the system has granted.
    pub fn buffers(&self) -> Buffers {
        self.buffers
    }

    /// Whether several datagrams leave in one system call.
    pub fn is_segmenting(&self) -> bool {
        self.is_segmenting.load(Ordering::Relaxed)
    }

    /// Whether routers may cut our datagrams, so that nothing can be learned about how large they may be. Only on
    /// systems that cannot forbid it.
    pub fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// A peer's address as this socket's family writes it. An IPv6 socket knows IPv4 addresses as mapped ones.
    fn addressed(&self, to: SocketAddr) -> SocketAddr {
        match (super::canonical(to), self.address) {
            (SocketAddr::V4(to), SocketAddr::V6(_)) => {
                SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0).into()
            }
            (to, _) => to,
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => Self::Full,
            Some(Errno::MSGSIZE) => Self::TooLarge,
            _ => Self::Refused(error),
        }
    }
}

/// Most datagrams that the system cuts out of one send.
const SEGMENTS_MAX: usize = 64;

/// How many datagrams of a size fit one system call, one at least: together they may be as large as a single one.
fn segments_per_call(segment_bytes: usize) -> usize {
    (limits::DATAGRAM_MAX_BYTES / segment_bytes).clamp(1, SEGMENTS_MAX)
}

/// Whether the system says that it cannot cut datagrams for this device, or not these.
fn is_refusal_to_cut(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::IO | Errno::INVAL))
}

/// Whether a failed receive only reports on what was sent before, or that nothing is there.
fn is_about_another_datagram(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::AGAIN
                | Errno::CONNREFUSED
                | Errno::CONNRESET
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::NETDOWN
                | Errno::MSGSIZE
        )
    )
}

/// Every datagram into a buffer of its own.
#[cfg(target_os = "linux")]
fn switch_joining_off(socket: &Socket) -> io::Result<()> {
    match super::option::set(socket, libc::SOL_UDP, libc::UDP_GRO, 0) {
        // A kernel that does not know the option does not join.
        Err(error) if Errno::from_io_error(&error) != Some(Errno::NOPROTOOPT) => Err(error),
        _ => Ok(()),
    }
}

/// Every datagram into a buffer of its own: nothing else happens here.
#[cfg(not(target_os = "linux"))]
fn switch_joining_off(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
