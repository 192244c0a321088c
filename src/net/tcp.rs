//! TCP sockets as haul wants them: no delay for small writes, both IP versions on one listener, buffers left to the
//! kernel's own tuning.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use super::canonical;

/// Connections that the kernel may keep for us until they are accepted.
const BACKLOG: i32 = 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Content and options of a TCP segment of [`Segments::Small`] at most, bytes: every path of IPv6 carries packets of 1280
/// bytes (RFC 8200, section 5), of which its header takes 40 and that of TCP 20. With IPv4, packets are 20 bytes shorter.
#[cfg(target_os = "linux")]
const SMALL_SEGMENT_BYTES: u32 = 1280 - 40 - 20;

/// Longest name of a congestion control, bytes: Linux has room for 16 with the zero behind it.
const CONGESTION_NAME_MAX_BYTES: usize = 15;

/// A congestion control that this system's TCP has and that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpCongestion(String);

impl TcpCongestion {
    /// The one of this name, or why it cannot be used, in words.
    pub fn new(name: &str) -> Result<Self, String> {
        // A longer name would be cut, and the rest might be a name too.
        if name.is_empty()
            || name.len() > CONGESTION_NAME_MAX_BYTES
            || !name.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(format!("a name has 1 to {CONGESTION_NAME_MAX_BYTES} letters and no spaces"));
        }
        let congestion = Self(name.to_owned());
        congestion.probe()?;
        Ok(congestion)
    }

    /// Asks the kernel, with a socket that is good for nothing else.
    #[cfg(target_os = "linux")]
    fn probe(&self) -> Result<(), String> {
        use rustix::io::Errno;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
        socket.and_then(|socket| self.apply(&socket)).map_err(|error| {
            let name = &self.0;
            match Errno::from_io_error(&error) {
                Some(Errno::NOENT) => format!(
                    "this kernel's TCP has no {name}; /proc/sys/net/ipv4/tcp_available_congestion_control lists what it has"
                ),
                Some(Errno::PERM) => format!(
                    "this user may not use {name}; /proc/sys/net/ipv4/tcp_allowed_congestion_control lists what all users may"
                ),
                _ => format!("the kernel refuses {name}: {error}"),
            }
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn probe(&self) -> Result<(), String> {
        Err("only Linux lets a program choose TCP's congestion control".to_owned())
    }

    #[cfg(target_os = "linux")]
    fn apply(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_congestion(self.0.as_bytes())
    }

    #[cfg(not(target_os = "linux"))]
    fn apply(&self, _socket: &Socket) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// How large the segments of a connection may be, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// As the two systems agree.
    Usual,
    /// So small that they pass where large packets vanish without a word, which TCP takes for a dead path. Only on Linux;
    /// elsewhere as usual.
    Small,
}

impl Segments {
    /// Before the connection is made: the peer learns of it with the first packet.
    #[cfg(target_os = "linux")]
    fn apply(self, socket: &Socket) -> io::Result<()> {
        match self {
            Self::Usual => Ok(()),
            Self::Small => socket.set_tcp_mss(SMALL_SEGMENT_BYTES),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn apply(self, _socket: &Socket) -> io::Result<()> {
        Ok(())
    }
}

/// The name of the congestion control of this connection; `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn tcp_congestion(tcp: &TcpStream) -> Option<String> {
    let name = SockRef::from(tcp).tcp_congestion().ok()?;
    let name = name.split(|&byte| byte == 0).next()?;
    String::from_utf8(name.to_vec()).ok()
}

/// The name of the congestion control of this connection: here, nothing that the system says.
#[cfg(not(target_os = "linux"))]
pub fn tcp_congestion(_tcp: &TcpStream) -> Option<String> {
    None
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on `address`. The unspecified IPv6 address takes IPv4 connections too; where there is no IPv6, the
    /// unspecified IPv4 address is taken instead. Connections inherit `congestion`.
    pub fn bind(address: SocketAddr, congestion: Option<&TcpCongestion>) -> io::Result<Self> {
        match Self::bind_one(address, congestion) {
            Err(error)
                if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                    && error.kind() != io::ErrorKind::AddrInUse =>
            {
                Self::bind_one((Ipv4Addr::UNSPECIFIED, address.port()).into(), congestion)
            }
            result => result,
        }
    }

    fn bind_one(address: SocketAddr, congestion: Option<&TcpCongestion>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A server that restarts must not wait for the last connection's TIME-WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        congestion.map_or(Ok(()), |congestion| congestion.apply(&socket))?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self(TcpListener::from_std(socket.into())?))
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The next connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (tcp, from) = self.0.accept().await?;
        tcp.set_nodelay(true)?;
        Ok((tcp, canonical(from)))
    }
}

/// Connects to one address, with the system's congestion control or another, and segments of this size.
pub async fn dial(
    address: SocketAddr,
    congestion: Option<&TcpCongestion>,
    segments: Segments,
) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if let Some(congestion) = congestion {
        congestion.apply(&SockRef::from(&socket))?;
    }
    // Without it the path may still carry what is sent.
    let _ = segments.apply(&SockRef::from(&socket));
    let tcp = socket.connect(address).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// The addresses of a host name or an address in text.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    addresses.dedup();
    addresses.truncate(ADDRESSES_MAX);
    Ok(addresses)
}

/// Addresses under which other machines may reach this one: those that the kernel would send from to far hosts.
/// Nothing is sent to find them.
pub fn local_addresses() -> Vec<IpAddr> {
    let far: [(IpAddr, IpAddr); 2] = [
        // Documentation addresses (RFC 5737, RFC 3849): never assigned, so only the route is looked up.
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    ];
    let source_towards = |(any, far): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    far.into_iter()
        .filter_map(source_towards)
        .filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
        .collect()
}

/// Says the last word on a connection: our half is closed, the other stays open.
pub fn close_write(tcp: &TcpStream) -> io::Result<()> {
    SockRef::from(tcp).shutdown(Shutdown::Write)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_kernel_does_not_have_is_refused_with_the_file_that_lists_them() {
        let why = TcpCongestion::new("carrier-pigeon").unwrap_err();

        assert!(why.contains("/proc/sys/net/ipv4/tcp_available_congestion_control"), "{why}");
    }

    #[test]
    fn a_name_is_not_cut_to_one_that_the_kernel_has() {
        assert!(TcpCongestion::new("reno").is_ok());
        // setsockopt would take the first fifteen bytes of a name.
        assert!(TcpCongestion::new(&format!("reno{}", "\0".repeat(12))).is_err());
        assert!(TcpCongestion::new("").is_err());
        assert!(TcpCongestion::new("re no").is_err());
    }

    #[tokio::test]
    async fn a_connection_has_the_congestion_control_of_its_own_end() {
        let reno = TcpCongestion::new("reno").expect("every Linux has it");
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), Some(&reno)).unwrap();
        let plain = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), None).unwrap();

        let to_reno = dial(listener.address().unwrap(), None, Segments::Usual).await.unwrap();
        let (from_reno, _) = listener.accept().await.unwrap();
        let reno_out = dial(plain.address().unwrap(), Some(&reno), Segments::Usual).await.unwrap();
        let (default, _) = plain.accept().await.unwrap();

        assert_eq!(tcp_congestion(&from_reno).as_deref(), Some("reno"), "accepted ones inherit it");
        assert_eq!(tcp_congestion(&reno_out).as_deref(), Some("reno"));
        assert_eq!(tcp_congestion(&to_reno), tcp_congestion(&default), "the other end keeps its own");
    }

    #[tokio::test]
    async fn small_segments_are_small_in_both_directions() {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into(), None).unwrap();

        let near = dial(listener.address().unwrap(), None, Segments::Small).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();

        assert!(SockRef::from(&near).tcp_mss().unwrap() <= SMALL_SEGMENT_BYTES);
        assert!(SockRef::from(&far).tcp_mss().unwrap() <= SMALL_SEGMENT_BYTES);
    }
}
