//! System calls that no crate makes for us: leaving a network, setting up a network interface, and asking what ended
//! children took.

#![expect(unsafe_code, reason = "three system calls, one wrapper each")]

use std::io;
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::time::Duration;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// What is asked of an interface, or of the descriptor that is to become one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    /// An open `/dev/net/tun` becomes the interface: packets of IP, nothing in front of them.
    BecomeTun,
    /// Its address.
    Address(Ipv4Addr),
    /// The network that its address belongs to.
    Netmask(Ipv4Addr),
    /// The longest packet, bytes.
    Mtu(i32),
    /// It carries packets.
    Up,
}

/// Room for an interface's name and its NUL.
const NAME_BYTES: usize = 16;
/// Room for what is asked, as `struct ifreq` has it.
const VALUE_BYTES: usize = size_of::<libc::ifreq>() - NAME_BYTES;

/// `struct ifreq` as bytes, all of them defined.
#[repr(C, align(8))]
struct Packed {
    name: [u8; NAME_BYTES],
    value: [u8; VALUE_BYTES],
}

const _: () = assert!(size_of::<Packed>() == size_of::<libc::ifreq>());
const _: () = assert!(align_of::<Packed>() >= align_of::<libc::ifreq>());
const _: () = assert!(VALUE_BYTES >= 16, "a socket's address fits");

/// Puts this process, which must have no other thread, into a network of its own, and if asked into a user namespace
/// of its own first.
pub(super) fn leave_network(and_users: bool) -> io::Result<()> {
    let users = if and_users { UnshareFlags::NEWUSER } else { UnshareFlags::empty() };
    // SAFETY: what makes this call unsafe is `FILES`, which is not among the flags.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET | users) }?;
    Ok(())
}

/// Asks something of the interface `name`: `device` is a socket of its network, or for [`Request::BecomeTun`]
/// the open device.
pub(super) fn ask(device: impl AsFd, name: &str, request: Request) -> io::Result<()> {
    let mut packed = Packed { name: [0; NAME_BYTES], value: [0; VALUE_BYTES] };
    assert!(name.len() < NAME_BYTES, "interface names are short");
    packed.name[..name.len()].copy_from_slice(name.as_bytes());
    let code = pack(request, &mut packed.value);
    // SAFETY: the descriptor is borrowed for the whole call. All codes that `pack` gives take a pointer to a `struct
    // ifreq`, whose size, alignment and layout `Packed` has; the kernel reads and writes within it and keeps no pointer.
    let result = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), code, &raw mut packed) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What processes took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time of all of them.
    pub(super) cpu: Duration,
    /// The most memory that the largest of them had, bytes.
    pub(super) peak_rss_bytes: u64,
}

/// What this process's children took that have ended and were waited for, and theirs.
pub(super) fn usage_of_children() -> io::Result<Usage> {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a `struct rusage` that lives for the whole call, which is all that the call asks for.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a `struct rusage` is numbers only, of which zeros are some, and the call has filled it.
    let usage = unsafe { usage.assume_init() };
    let kib = u64::try_from(usage.ru_maxrss).unwrap_or(0);
    Ok(Usage { cpu: time(usage.ru_utime) + time(usage.ru_stime), peak_rss_bytes: kib.saturating_mul(1024) })
}

fn time(value: libc::timeval) -> Duration {
    let part = |it| u64::try_from(it).unwrap_or(0);
    Duration::from_secs(part(value.tv_sec)) + Duration::from_micros(part(value.tv_usec))
}

/// Writes what is asked in the kernel's form; gives the call's code.
fn pack(request: Request, value: &mut [u8; VALUE_BYTES]) -> libc::Ioctl {
    let mut put = |bytes: &[u8]| value[..bytes.len()].copy_from_slice(bytes);
    let short = |flags: libc::c_int| {
        i16::try_from(flags).expect("the flags of an interface are 16 bits").to_ne_bytes()
    };
    match request {
        Request::BecomeTun => {
            put(&short(libc::IFF_TUN | libc::IFF_NO_PI));
            libc::TUNSETIFF
        }
        Request::Address(address) => {
            put(&socket_address(address));
            libc::SIOCSIFADDR as libc::Ioctl
        }
        Request::Netmask(mask) => {
            put(&socket_address(mask));
            libc::SIOCSIFNETMASK as libc::Ioctl
        }
        Request::Mtu(bytes) => {
            put(&bytes.to_ne_bytes());
            libc::SIOCSIFMTU as libc::Ioctl
        }
        Request::Up => {
            put(&short(libc::IFF_UP | libc::IFF_RUNNING));
            libc::SIOCSIFFLAGS as libc::Ioctl
        }
    }
}

/// A `struct sockaddr_in`: family, port, address, zeros.
fn socket_address(address: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    let family = u16::try_from(libc::AF_INET).expect("families are 16 bits");
    bytes[..2].copy_from_slice(&family.to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn an_address_stands_where_the_kernel_reads_it() {
        let mut value = [0; VALUE_BYTES];

        pack(Request::Address(Ipv4Addr::new(10, 77, 0, 1)), &mut value);

        assert_eq!(value[..8], [2_u16.to_ne_bytes(), [0, 0], [10, 77], [0, 1]].concat());
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();

        let refused = ask(&socket, "haul-no-such", Request::Mtu(1500)).unwrap_err();

        assert!(matches!(refused.raw_os_error(), Some(libc::ENODEV | libc::EPERM)), "{refused}");
    }

    #[test]
    fn a_child_that_ended_has_taken_memory() {
        std::process::Command::new("true").status().unwrap();

        assert!(usage_of_children().unwrap().peak_rss_bytes > 0);
    }

    #[test]
    fn what_is_no_tun_device_does_not_become_one() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();

        assert!(ask(&socket, "haul0", Request::BecomeTun).is_err());
    }
}
