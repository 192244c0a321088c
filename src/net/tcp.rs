//! TCP sockets as haul wants them: no delay for small writes, both IP versions on one listener, buffers left to the
//! kernel's own tuning.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use super::canonical;

/// Connections that the kernel may keep for us until they are accepted.
const BACKLOG: i32 = 1024;
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// A listening socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Listens on `address`. The unspecified IPv6 address takes IPv4 connections too; where there is no IPv6, the
    /// unspecified IPv4 address is taken instead.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        match Self::bind_one(address) {
            Err(error)
                if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                    && error.kind() != io::ErrorKind::AddrInUse =>
            {
                Self::bind_one((Ipv4Addr::UNSPECIFIED, address.port()).into())
            }
            result => result,
        }
    }

    fn bind_one(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // A server that restarts must not wait for the last connection's TIME-WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
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

/// Connects to one address.
pub async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
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
