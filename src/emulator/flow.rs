//! Tells flows apart: the five fields of a packet that all packets of one conversation share.

use std::fmt;
use std::net::Ipv4Addr;

/// Protocol, addresses and ports of a packet of IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    /// The number of what it carries: 1 ICMP, 6 TCP, 17 UDP.
    pub protocol: u8,
    /// Who sent it.
    pub source: Ipv4Addr,
    /// Who is to have it.
    pub destination: Ipv4Addr,
    /// Ports of source and destination; `None` where the protocol has none, and in all fragments but the first.
    pub ports: Option<(u16, u16)>,
}

/// What the headers of a packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Its flow.
    pub flow: FlowKey,
    /// Length of the IP header and of the header behind it, as far as it is known; at most the packet's, bytes.
    pub len_bytes: usize,
}

/// Numbers of protocols.
pub const ICMP: u8 = 1;
/// Numbers of protocols.
pub const TCP: u8 = 6;
/// Numbers of protocols.
pub const UDP: u8 = 17;

/// A header of IPv4 without options, bytes.
const IP_HEADER_BYTES: usize = 20;

impl Headers {
    /// Reads them; `None` if this is no packet of IPv4.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let ip_len = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || ip_len < IP_HEADER_BYTES || packet.len() < ip_len {
            return None;
        }
        let (ip, rest) = packet.split_at(ip_len);
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        let protocol = ip[9];
        let is_first_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff == 0;
        // A later fragment has no header of its own behind that of IP.
        let behind = if is_first_fragment { rest } else { &[] };
        let flow = FlowKey {
            protocol,
            source: address(12),
            destination: address(16),
            ports: ports(protocol, behind),
        };
        Some(Self { flow, len_bytes: ip_len + transport_header_bytes(protocol, behind).min(behind.len()) })
    }

    /// Whether this bit, counted from the start of the packet, belongs to a header.
    pub fn holds(&self, bit: usize) -> bool {
        bit / 8 < self.len_bytes
    }
}

impl FlowKey {
    /// The protocol's name, or its number.
    pub fn protocol_name(&self) -> String {
        match self.protocol {
            ICMP => "icmp".to_owned(),
            TCP => "tcp".to_owned(),
            UDP => "udp".to_owned(),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, source, destination) = (self.protocol_name(), self.source, self.destination);
        match self.ports {
            Some((from, to)) => write!(f, "{name} {source}:{from} to {destination}:{to}"),
            None => write!(f, "{name} {source} to {destination}"),
        }
    }
}

fn ports(protocol: u8, behind: &[u8]) -> Option<(u16, u16)> {
    match (protocol, behind) {
        (TCP | UDP, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
        _ => None,
    }
}

fn transport_header_bytes(protocol: u8, behind: &[u8]) -> usize {
    match protocol {
        TCP => behind.get(12).map_or(behind.len(), |byte| usize::from(byte >> 4) * 4),
        UDP | ICMP => 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of `ip_len` bytes with this protocol and fragment field, and what stands behind it.
    fn packet(ip_len: usize, protocol: u8, fragment: u16, behind: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; ip_len];
        packet[0] = 0x40 | u8::try_from(ip_len / 4).unwrap();
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet[9] = protocol;
        packet[12..20].copy_from_slice(&[10, 77, 0, 1, 10, 77, 0, 2]);
        packet.extend(behind);
        packet
    }

    fn udp() -> Vec<u8> {
        packet(20, UDP, 0, &[0x1c, 0xfc, 0, 53, 0, 0, 0, 0, 1, 2, 3])
    }

    #[test]
    fn a_datagram_has_addresses_and_ports() {
        let headers = Headers::read(&udp()).unwrap();

        assert_eq!(headers.flow.ports, Some((7420, 53)));
        assert_eq!(headers.len_bytes, 28);
        assert_eq!(headers.flow.to_string(), "udp 10.77.0.1:7420 to 10.77.0.2:53");
    }

    #[test]
    fn options_of_ip_and_of_tcp_are_part_of_the_headers() {
        let mut tcp = [0; 40];
        tcp[12] = 8 << 4;

        let headers = Headers::read(&packet(24, TCP, 0, &tcp)).unwrap();

        assert_eq!((headers.flow.ports, headers.len_bytes), (Some((0, 0)), 24 + 32));
    }

    #[test]
    fn a_header_ends_with_its_packet() {
        assert_eq!(Headers::read(&packet(20, UDP, 0, &[0; 5])).unwrap().len_bytes, 25);
        assert_eq!(Headers::read(&packet(20, TCP, 0, &[0; 12])).unwrap().len_bytes, 32);
        let mut tcp = [0; 20];
        tcp[12] = 0xf0;
        assert_eq!(Headers::read(&packet(20, TCP, 0, &tcp)).unwrap().len_bytes, 40);
    }

    #[test]
    fn a_later_fragment_has_no_ports_and_the_first_has() {
        let later = Headers::read(&packet(20, UDP, 0x2001, &[1; 8])).unwrap();
        let first = Headers::read(&packet(20, UDP, 0x2000, &[1; 8])).unwrap();

        assert_eq!((later.flow.ports, later.len_bytes), (None, 20));
        assert_eq!((first.flow.ports, first.len_bytes), (Some((257, 257)), 28));
    }

    #[test]
    fn what_is_not_ipv4_has_no_headers() {
        assert_eq!(Headers::read(&[]), None);
        assert_eq!(Headers::read(&[0x60; 40]), None);
        assert_eq!(Headers::read(&[0x44; 40]), None, "a header of 16 bytes");
        assert_eq!(Headers::read(&packet(20, UDP, 0, &[])[..19]), None);
        assert_eq!(Headers::read(&packet(24, UDP, 0, &[])[..23]), None);
    }

    #[test]
    fn every_beginning_of_a_packet_is_read_without_fear() {
        for len in 0..=udp().len() {
            let _ = Headers::read(&udp()[..len]);
        }
    }

    #[test]
    fn a_bit_belongs_to_the_headers_until_their_last() {
        let headers = Headers::read(&udp()).unwrap();

        assert!(headers.holds(28 * 8 - 1));
        assert!(!headers.holds(28 * 8));
    }

    #[test]
    fn a_protocol_without_a_name_has_its_number() {
        let headers = Headers::read(&packet(20, 132, 0, &[1; 8])).unwrap();

        assert_eq!(headers.flow.to_string(), "132 10.77.0.1 to 10.77.0.2");
    }
}
