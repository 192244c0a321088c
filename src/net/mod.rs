//! Sockets: names become addresses, addresses become connections, listeners, and a socket for datagrams.
//!
//! TCP sockets belong to the async runtime; the UDP socket is used from threads of its own, which block in it with
//! nanosecond timeouts and are called back by a [`Waker`]. Nothing here knows what the bytes mean.

#[cfg(target_os = "linux")]
mod option;
mod tcp;
mod tcp_info;
pub mod udp;
mod waker;

use std::net::SocketAddr;

pub use tcp::{
    Listener, Segments, TcpCongestion, close_write, dial, local_addresses, resolve, tcp_congestion,
};
pub use tcp_info::{TcpInfo, tcp_info};
pub use udp::UdpSocket;
pub use waker::Waker;

/// One form for each address, so that a peer's compares equal however it came: an IPv4 address that a dual-stack
/// socket shows as an IPv6 one becomes IPv4 again.
pub fn canonical(mut address: SocketAddr) -> SocketAddr {
    address.set_ip(address.ip().to_canonical());
    if let SocketAddr::V6(address) = &mut address {
        // A label for routers, not a part of who the peer is.
        address.set_flowinfo(0);
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_form() {
        let form = |text: &str| canonical(text.parse().unwrap()).to_string();

        assert_eq!(form("[::ffff:192.0.2.1]:7420"), "192.0.2.1:7420");
        assert_eq!(form("192.0.2.1:7420"), "192.0.2.1:7420");
        assert_eq!(form("[2001:db8::1]:7420"), "[2001:db8::1]:7420");
        assert_eq!(form("[fe80::1%3]:7420"), "[fe80::1%3]:7420", "the link is a part of the address");
    }
}
