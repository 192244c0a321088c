//! A host's network: a namespace, a TUN interface with an address, the loopback interface.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use rustix::process::{Pid, getegid, geteuid};
use rustix::thread::{
    LinkNameSpaceType, capabilities, configure_capability_in_ambient_set, move_into_link_name_space,
    set_capabilities,
};

use super::refusal::{Refusal, Step, TUN};
use super::system::{Request, ask, leave_network};

/// The interface's name, on both hosts.
pub(super) const INTERFACE: &str = "haul0";
/// Packets that may wait for the emulator, for as long as it is busy elsewhere.
const QUEUE_PACKETS: u32 = 20_000;
/// The network of both hosts.
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// Takes this process, which must have no other thread, into a network of its own: that of the user namespace of
/// `join` if there is one, else of our own privileges if they suffice, else of a new user namespace. Says whether it is
/// in a user namespace made for this.
pub(super) fn enter_network(join: Option<Pid>) -> Result<bool, Refusal> {
    if let Some(pid) = join {
        let users = File::open(format!("/proc/{}/ns/user", pid.as_raw_nonzero()))
            .map_err(Refusal::at(Step::Namespaces))?;
        let as_users = Some(LinkNameSpaceType::User);
        move_into_link_name_space(users.as_fd(), as_users)
            .map_err(|errno| Refusal::at(Step::Namespaces)(errno.into()))?;
        leave_network(false).map_err(Refusal::at(Step::Namespaces))?;
        pass_on_privileges().map_err(Refusal::at(Step::Identity))?;
        return Ok(true);
    }
    match leave_network(false) {
        Ok(()) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => return Err(Refusal::at(Step::Namespaces)(error)),
    }
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    leave_network(true).map_err(Refusal::at(Step::Namespaces))?;
    // Programs see the user that they see outside: `ssh` finds its keys, and files belong to whom they belong to.
    let map = || {
        fs::write("/proc/self/setgroups", "deny")?;
        fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
        fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
        pass_on_privileges()
    };
    map().map_err(Refusal::at(Step::Identity))?;
    Ok(true)
}

/// Makes the interface of this process's network; what is read from it was sent by the host.
pub(super) fn make_interface(address: Ipv4Addr, mtu_bytes: u16) -> Result<OwnedFd, Refusal> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tun = open(TUN, flags, Mode::empty()).map_err(|errno| Refusal::at(Step::OpenTun)(errno.into()))?;
    ask(&tun, INTERFACE, Request::BecomeTun).map_err(Refusal::at(Step::MakeTun))?;
    let set_up = || {
        // The link carries IPv4 only. Where this cannot be written, what comes of IPv6 is dropped and counted.
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{INTERFACE}/disable_ipv6"), "1");
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        for request in [
            Request::Mtu(mtu_bytes.into()),
            Request::Address(address),
            Request::Netmask(NETMASK),
            Request::Up,
        ] {
            ask(&socket, INTERFACE, request)?;
        }
        // With the default of 500 packets, the device drops more of them when this machine is busy, and counts them.
        let _ = lengthen_queue(name_to_index(&socket, INTERFACE)?, QUEUE_PACKETS);
        ask(&socket, "lo", Request::Up)
    };
    set_up().map_err(Refusal::at(Step::SetUp))?;
    Ok(tun)
}

/// Packets that the interface dropped since nobody read them in time; `None` where the system does not say.
pub(super) fn dropped_by_interface() -> Option<u64> {
    dropped_in(&fs::read_to_string("/proc/self/net/dev").ok()?)
}

/// Whether something listens on a port of this network.
pub(super) fn is_listening() -> bool {
    let has = |name: &str, state: &str| {
        let table = fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
        table.lines().skip(1).any(|line| line.split_ascii_whitespace().nth(3) == Some(state))
    };
    // The states are those of TCP: 0A listens; a socket of UDP that is not connected is closed, 07.
    has("tcp", "0A") || has("tcp6", "0A") || has("udp", "07") || has("udp6", "07")
}

/// What this process may do in its user namespace, programs that it starts may too: ping, watch packets, shape them.
fn pass_on_privileges() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.inheritable = sets.permitted;
    set_capabilities(None, sets)?;
    for capability in sets.permitted.iter() {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

/// Lets so many packets wait in an interface. The older way, a call on a socket, is for the machine's own root alone.
fn lengthen_queue(interface: u32, packets: u32) -> io::Result<()> {
    // Without a protocol, it is that of routes and links.
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&kernel, &queue_message(interface, packets), SendFlags::empty())?;
    let mut answer = [0; 256];
    let (_, len) = recv(&kernel, &mut answer[..], RecvFlags::empty())?;
    // Behind the header, an error's number below zero, or zero.
    match answer[..len].get(16..20).and_then(|it| it.try_into().ok()).map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(errno.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// A message of netlink that sets a link's queue: header, the link, one attribute.
fn queue_message(interface: u32, packets: u32) -> Vec<u8> {
    const ATTRIBUTE_BYTES: u16 = 8;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK).to_ne_bytes();
    let mut message = Vec::new();
    message.extend(40_u32.to_ne_bytes());
    message.extend(libc::RTM_SETLINK.to_ne_bytes());
    message.extend(&flags[if cfg!(target_endian = "little") { 0..2 } else { 2..4 }]);
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(interface.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(ATTRIBUTE_BYTES.to_ne_bytes());
    message.extend(libc::IFLA_TXQLEN.to_ne_bytes());
    message.extend(packets.to_ne_bytes());
    message
}

/// The count of the interface's dropped packets in a table such as `/proc/net/dev`.
fn dropped_in(table: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(INTERFACE)?.strip_prefix(':'))?;
    // Eight columns of what was received; then bytes, packets, errors, dropped of what was sent.
    line.split_ascii_whitespace().nth(11)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_to_the_kernel_is_as_long_as_it_says() {
        let message = queue_message(7, 20_000);

        assert_eq!(message.len(), 40);
        assert_eq!(message[..4], 40_u32.to_ne_bytes());
        assert_eq!(message[20..24], 7_u32.to_ne_bytes());
        assert_eq!(message[36..], 20_000_u32.to_ne_bytes());
    }

    #[test]
    fn dropped_packets_are_read_from_the_interfaces_line() {
        let table = "Inter-|   Receive    |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n    lo:  1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n haul0: 1 2 3 4 5 6 7 8 9 10 11 42 13 14 15 16\n";

        assert_eq!(dropped_in(table), Some(42));
        assert_eq!(dropped_in("haul0: 1 2"), None);
        assert_eq!(dropped_in(""), None);
    }
}
