//! What the system has counted: datagrams dropped for want of buffer, datagrams dropped as damaged.

use socket2::Socket;

/// Datagrams, or trains of joined ones, that did not fit the socket's receive buffer.
#[cfg(target_os = "linux")]
pub(super) fn drops(socket: &Socket) -> Option<u32> {
    // An array of u32, which may grow at its end.
    const AT: usize = libc::SK_MEMINFO_DROPS as usize * size_of::<u32>();
    const END: usize = AT + size_of::<u32>();
    let mut bytes = [0; END];
    let len = crate::net::option::read(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, &mut bytes).ok()?;
    Some(u32::from_ne_bytes(*bytes.get(..len)?.get(AT..)?.first_chunk()?))
}

/// What did not fit the socket's receive buffer: this system does not say.
#[cfg(not(target_os = "linux"))]
pub(super) fn drops(_socket: &Socket) -> Option<u32> {
    None
}

/// Datagrams that this machine has dropped because their checksum was wrong, over IPv4 and IPv6, whoever they were for.
/// `None` where the system does not say.
pub fn checksum_errors() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let v4 = checksum_errors_v4(&std::fs::read_to_string("/proc/net/snmp").ok()?)?;
    // Is not there where IPv6 is switched off.
    let v6 = std::fs::read_to_string("/proc/net/snmp6").ok().and_then(|text| checksum_errors_v6(&text));
    Some(v4 + v6.unwrap_or(0))
}

/// Reads a table in which a line of names stands above a line of numbers.
fn checksum_errors_v4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|name| name == "InCsumErrors")?;
    numbers.split_whitespace().nth(at)?.parse().ok()
}

/// Reads a table with a name and a number on each line.
fn checksum_errors_v6(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("Udp6InCsumErrors"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_kernel_are_read() {
        let v4 = "Tcp: InErrs InCsumErrors\nTcp: 1 2\nUdp: InDatagrams InCsumErrors MemErrors\nUdp: 30 4 5\n\
                  UdpLite: InDatagrams InCsumErrors\nUdpLite: 6 7\n";
        let v6 = "Udp6InDatagrams                 \t123\nUdp6InCsumErrors                \t9\n";

        assert_eq!(checksum_errors_v4(v4), Some(4));
        assert_eq!(checksum_errors_v6(v6), Some(9));
    }

    #[test]
    fn other_tables_are_no_answer() {
        assert_eq!(checksum_errors_v4(""), None);
        assert_eq!(checksum_errors_v4("Udp: InDatagrams\nUdp: 1\n"), None);
        assert_eq!(checksum_errors_v4("Udp: InDatagrams InCsumErrors\nUdp: 1\n"), None);
        assert_eq!(checksum_errors_v4("Udp: InCsumErrors\nUdp: many\n"), None);
        assert_eq!(checksum_errors_v6("Udp6InDatagrams 1\n"), None);
    }
}
