//! Real sockets on loopback, each at a port of its own.

use std::{collections::BTreeMap, net::Ipv6Addr, thread};

use super::*;
use crate::net::canonical;

/// Longer than any test takes.
const LONG: Option<Duration> = Some(Duration::from_secs(30));
/// Both ways of sending and receiving: the fast one and its slow twin.
const BOTH: [UdpOptions; 2] = [options(true), options(false)];

#[test]
fn segments_keep_their_boundaries_with_and_without_offload() {
    for (sending, receiving) in BOTH.iter().flat_map(|s| BOTH.iter().map(move |r| (*s, *r))) {
        for (len, segment_bytes) in [(1, 1), (1472, 1472), (4000, 1472), (64 * 1000, 1000), (200_000, 1472)] {
            let (sender, receiver) = (v4(sending), v4(receiving));
            let contents = pattern(len);

            let sent = sender.send(&train(&receiver, &contents, Some(segment_bytes)));

            assert!(sent.stop.is_none(), "{sent:?}");
            assert_eq!(sent.bytes, len);
            let want: Vec<_> = contents.chunks(segment_bytes).map(<[u8]>::to_vec).collect();
            assert_eq!(receive(&receiver, want.len()), want, "{len} in {segment_bytes}");
        }
    }
}

#[test]
fn a_train_without_offload_is_received_one_by_one() {
    let (sender, receiver) = (v4(options(true)), v4(options(false)));
    let contents = pattern(3000);

    assert_eq!(sender.send(&train(&receiver, &contents, Some(1000))).bytes, 3000);

    let (mut batch, waker) = (Batch::new(), Waker::new().unwrap());
    let mut lens = Vec::new();
    while lens.len() < 3 {
        assert_eq!(receiver.recv(&mut batch, &waker, LONG).unwrap(), Received::Datagrams);
        lens.extend(batch.groups().map(|group| group.datagrams.count()));
    }
    assert_eq!(lens, [1, 1, 1]);
}

#[test]
fn datagrams_of_every_length_pass() {
    let (sender, receiver) = (v4(options(true)), v4(options(true)));
    let contents = pattern(limits::DATAGRAM_MAX_BYTES);
    let (mut batch, waker) = (Batch::new(), Waker::new().unwrap());

    for len in 0..=limits::DATAGRAM_MAX_BYTES {
        let sent = sender.send(&train(&receiver, &contents[..len], None));
        assert!(sent.stop.is_none(), "{len}: {sent:?}");

        assert_eq!(receiver.recv(&mut batch, &waker, LONG).unwrap(), Received::Datagrams);
        let got: Vec<_> = batch.groups().flat_map(|group| group.datagrams).collect();
        assert!(got == [&contents[..len]], "{len}");
    }
}

#[test]
fn lengths_that_change_on_the_way_do_not_mix() {
    let (sender, receiver) = (v4(options(true)), v4(options(true)));
    let contents = pattern(3000);
    let lens = [0, 1200, 1200, 700, 1200, 0, 0, 3000, 1, 1200];

    for len in lens {
        assert!(sender.send(&train(&receiver, &contents[..len], None)).stop.is_none());
    }

    assert_eq!(receive(&receiver, lens.len()), lens.map(|len| contents[..len].to_vec()));
}

#[test]
fn datagrams_of_several_peers_keep_their_senders() {
    let receiver = v4(options(true));
    let senders = [v4(options(true)), v4(options(true)), v4(options(true))];
    let (mut batch, waker) = (Batch::new(), Waker::new().unwrap());
    let mut want = BTreeMap::new();

    for (sender, len) in senders.iter().zip([1000, 1001, 1002]) {
        assert!(sender.send(&train(&receiver, &pattern(5 * len), Some(len))).stop.is_none());
        want.insert(sender.address(), vec![len; 5]);
    }

    let mut got: BTreeMap<_, Vec<_>> = BTreeMap::new();
    while got.values().map(Vec::len).sum::<usize>() < 15 {
        assert_eq!(receiver.recv(&mut batch, &waker, LONG).unwrap(), Received::Datagrams);
        for group in batch.groups() {
            got.entry(group.from).or_default().extend(group.datagrams.map(|datagram| datagram.len()));
        }
    }
    assert_eq!(got, want);
}

#[test]
fn a_waking_ends_a_wait_for_datagrams() {
    let (receiver, waker) = (v4(options(true)), Waker::new().unwrap());

    thread::scope(|scope| {
        let waiting = scope.spawn(|| receiver.recv(&mut Batch::new(), &waker, LONG).unwrap());
        waker.wake();
        assert_eq!(waiting.join().unwrap(), Received::Woken);
    });
    let after = receiver.recv(&mut Batch::new(), &waker, Some(Duration::ZERO)).unwrap();
    assert_eq!(after, Received::Nothing, "a waking is taken once");
}

#[test]
fn a_waking_is_heard_in_a_stream_of_datagrams() {
    let (sender, receiver, waker) = (v4(options(true)), v4(options(true)), Waker::new().unwrap());
    let mut batch = Batch::new();

    assert!(sender.send(&train(&receiver, &[7; 100], None)).stop.is_none());
    waker.wake();

    assert_eq!(receiver.recv(&mut batch, &waker, LONG).unwrap(), Received::Woken);
    assert!(batch.is_empty());
    assert_eq!(receiver.recv(&mut batch, &waker, LONG).unwrap(), Received::Datagrams);
}

#[test]
fn an_idle_socket_has_room_to_send() {
    let (socket, waker) = (v4(options(true)), Waker::new().unwrap());

    assert!(!socket.wait_for_room(&waker, LONG.unwrap()).unwrap());
    waker.wake();
    assert!(socket.wait_for_room(&waker, LONG.unwrap()).unwrap());
}

#[test]
fn a_too_large_datagram_is_reported_and_smaller_ones_still_go() {
    for options in BOTH {
        let (sender, receiver) = (v4(options), v4(options));
        let contents = pattern(limits::DATAGRAM_MAX_BYTES + 1);

        let sent = sender.send(&train(&receiver, &contents, None));
        assert!(matches!(sent, Sent { bytes: 0, stop: Some(Stop::TooLarge) }), "{sent:?}");

        let sent = sender.send(&train(&receiver, &contents[1..], None));
        assert!(matches!(sent, Sent { bytes: limits::DATAGRAM_MAX_BYTES, stop: None }), "{sent:?}");
        assert_eq!(sender.is_segmenting(), v4(options).is_segmenting(), "no reason to send one by one");
    }
}

#[test]
fn what_the_system_says_of_a_send_has_three_meanings() {
    let stop = |errno: Errno| Stop::from(io::Error::from(errno));

    for errno in [Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM] {
        assert!(matches!(stop(errno), Stop::Full), "{errno:?}");
    }
    assert!(matches!(stop(Errno::MSGSIZE), Stop::TooLarge));
    for errno in [Errno::PERM, Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::CONNREFUSED, Errno::NETDOWN] {
        assert!(matches!(stop(errno), Stop::Refused(_)), "{errno:?}");
    }
}

#[test]
fn a_call_takes_what_the_system_can_cut() {
    assert_eq!(segments_per_call(1), SEGMENTS_MAX);
    assert_eq!(segments_per_call(limits::DATAGRAM_MAX_BYTES / SEGMENTS_MAX), SEGMENTS_MAX);
    assert_eq!(segments_per_call(limits::DATAGRAM_MAX_BYTES / SEGMENTS_MAX + 1), SEGMENTS_MAX - 1);
    assert_eq!(segments_per_call(limits::DATAGRAM_MAX_BYTES), 1);
    assert_eq!(segments_per_call(limits::DATAGRAM_MAX_BYTES + 1), 1);
}

#[test]
fn a_peer_that_is_gone_is_not_an_error() {
    let (sender, gone, waker) = (v4(options(true)), v4(options(true)), Waker::new().unwrap());
    let there = v4(options(true));
    let address = gone.address();
    drop(gone);

    for _ in 0..4 {
        let to_nobody = Transmit { to: address, from: None, contents: &[7; 100], segment_bytes: None };
        assert!(sender.send(&to_nobody).stop.is_none());
    }

    let nothing = sender.recv(&mut Batch::new(), &waker, Some(Duration::ZERO)).unwrap();
    assert_eq!(nothing, Received::Nothing);
    assert!(sender.send(&train(&there, &[7; 100], None)).stop.is_none());
    assert_eq!(receive(&there, 1), [[7; 100]]);
}

#[test]
fn an_address_without_a_way_to_it_refuses() {
    let sender = v4(options(true));
    let to = (Ipv6Addr::LOCALHOST, 7420).into();

    let sent = sender.send(&Transmit { to, from: None, contents: &[7], segment_bytes: None });

    assert!(matches!(sent, Sent { bytes: 0, stop: Some(Stop::Refused(_)) }), "{sent:?}");
}

#[test]
fn what_overflows_the_receive_buffer_is_counted() {
    let small = UdpOptions { recv_buffer_bytes: 64 << 10, ..options(true) };
    let (sender, receiver) = (v4(options(true)), v4(small));
    let Some(before) = receiver.drops() else {
        skip("this system does not count drops");
        return;
    };

    for _ in 0..1000 {
        sender.send(&train(&receiver, &pattern(1000), None));
    }

    let dropped = receiver.drops().unwrap() - before;
    assert!(dropped > 0);
    assert_eq!(receive(&receiver, 1000 - dropped as usize).len(), 1000 - dropped as usize);
    assert!(!receiver.recv_now(&mut Batch::new()).unwrap(), "what was not dropped has been received");
}

#[test]
fn an_ipv4_peer_has_one_address_over_tcp_and_udp() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let Some((listener, server)) = both_at_one_port() else { return };
    let client = v4(options(true));
    let port = server.address().port();
    let (mut batch, waker) = (Batch::new(), Waker::new().unwrap());

    // The client's two sockets differ in the port only.
    let (by_tcp, near) = runtime.block_on(async {
        let near = crate::net::dial((Ipv4Addr::LOCALHOST, port).into(), None, crate::net::Segments::Usual)
            .await
            .unwrap();
        (listener.accept().await.unwrap().1, near.local_addr().unwrap())
    });
    let to = (Ipv4Addr::LOCALHOST, port).into();
    let sent = client.send(&Transmit { to, from: None, contents: &[7; 3000], segment_bytes: Some(1000) });
    assert!(sent.stop.is_none(), "{sent:?}");
    assert_eq!(server.recv(&mut batch, &waker, LONG).unwrap(), Received::Datagrams);
    let group = batch.groups().next().unwrap();

    assert_eq!(by_tcp, near);
    assert_eq!(group.from, client.address());
    assert_eq!(group.from.ip(), by_tcp.ip());
    assert_eq!(group.to, Some(Ipv4Addr::LOCALHOST.into()));

    // An answer goes back to the address as it was shown, from the address that was written to.
    let (to, from) = (group.from, group.to);
    let sent = server.send(&Transmit { to, from, contents: &[8; 3000], segment_bytes: Some(1000) });
    assert!(sent.stop.is_none(), "{sent:?}");
    assert_eq!(receive(&client, 3), [[8; 1000]; 3]);
}

#[test]
fn an_ipv6_peer_is_answered() {
    let Ok(server) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0).into(), options(true)) else {
        skip("there is no IPv6 here");
        return;
    };
    let client = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0).into(), options(true)).unwrap();
    let (mut batch, waker) = (Batch::new(), Waker::new().unwrap());

    assert!(client.send(&train(&server, &pattern(3000), Some(1000))).stop.is_none());
    assert_eq!(server.recv(&mut batch, &waker, LONG).unwrap(), Received::Datagrams);
    let group = batch.groups().next().unwrap();
    assert_eq!(group.to, Some(Ipv6Addr::LOCALHOST.into()));
    let (to, from) = (group.from, group.to);
    let contents = pattern(3000);
    let answer = Transmit { to, from, contents: &contents, segment_bytes: Some(1000) };
    assert!(server.send(&answer).stop.is_none());

    assert_eq!(receive(&client, 3).concat(), contents);
}

#[test]
fn the_buffers_are_what_the_system_says() {
    let few = v4(UdpOptions { recv_buffer_bytes: 100_000, send_buffer_bytes: 200_000, has_offload: true });

    assert_eq!(few.buffers(), Buffers { recv_bytes: 100_000, send_bytes: 200_000 });
    assert!(v4(options(true)).buffers().recv_bytes >= few.buffers().recv_bytes);
}

#[test]
fn without_a_checksum_datagrams_go_one_by_one_and_arrive() {
    let (sender, receiver) = (v4(options(true)), v4(options(true)));
    let contents = pattern(4000);

    let is_off = sender.switch_checksum_off();

    assert_eq!(is_off, cfg!(target_os = "linux"));
    assert!(!is_off || !sender.is_segmenting());
    assert!(sender.send(&train(&receiver, &contents, Some(1472))).stop.is_none());
    assert_eq!(receive(&receiver, 3).concat(), contents);
}

#[test]
fn with_the_checksum_back_datagrams_go_as_before() {
    let (sender, receiver) = (v4(options(true)), v4(options(true)));
    let (before, contents) = (sender.is_segmenting(), pattern(4000));

    for _ in 0..2 {
        sender.switch_checksum_off();
        sender.switch_checksum_on();
    }

    assert_eq!(sender.is_segmenting(), before);
    assert!(sender.send(&train(&receiver, &contents, Some(1472))).stop.is_none());
    assert_eq!(sender.is_segmenting(), before, "nothing was refused");
    assert_eq!(receive(&receiver, 3).concat(), contents);
}

#[cfg(target_os = "linux")]
#[test]
fn a_system_that_refuses_to_cut_is_sent_one_by_one() {
    // Linux refuses to cut datagrams without a checksum, as it refuses for some devices.
    let (sender, receiver) = (v4(options(true)), v4(options(true)));
    if !sender.is_segmenting() {
        skip("this kernel cannot cut datagrams");
        return;
    }
    let contents = pattern(150_000);
    crate::net::option::set(&sender.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();

    let sent = sender.send(&train(&receiver, &contents, Some(1472)));

    assert!(matches!(sent, Sent { bytes: 150_000, stop: None }), "{sent:?}");
    assert!(!sender.is_segmenting(), "it does not ask again");
    assert_eq!(receive(&receiver, 102).concat(), contents);
}

#[cfg(target_os = "linux")]
#[test]
fn no_router_may_cut_or_limit_datagrams() {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu_discover, ipv6_mtu_discover,
    };

    let socket = v4(options(true));
    assert_eq!(ip_mtu_discover(&socket.socket).unwrap(), Ipv4PathMtuDiscovery::PROBE);
    assert!(!socket.may_fragment());

    let Ok(dual) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0).into(), options(true)) else { return };
    assert_eq!(ip_mtu_discover(&dual.socket).unwrap(), Ipv4PathMtuDiscovery::PROBE);
    assert_eq!(ipv6_mtu_discover(&dual.socket).unwrap(), Ipv6PathMtuDiscovery::PROBE);
}

#[cfg(target_os = "linux")]
#[test]
fn this_machine_counts_checksum_errors() {
    assert!(checksum_errors().is_some());
}

/// Says that a test proves nothing here, and why.
#[expect(clippy::print_stderr, reason = "a person who runs the tests reads it")]
fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

const fn options(has_offload: bool) -> UdpOptions {
    UdpOptions {
        has_offload,
        recv_buffer_bytes: limits::UDP_RECV_BUFFER_BYTES,
        send_buffer_bytes: limits::UDP_SEND_BUFFER_BYTES,
    }
}

/// A socket on IPv4 loopback.
fn v4(options: UdpOptions) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), options).unwrap()
}

/// A listener for both IP versions and the socket beside it. `None` where there is no IPv6. Another process may have
/// the port of its own choice, so this tries more than one.
fn both_at_one_port() -> Option<(Listener, UdpSocket)> {
    for _ in 0..20 {
        let listener = Listener::bind((Ipv6Addr::UNSPECIFIED, 0).into(), None).unwrap();
        if listener.address().unwrap().is_ipv4() {
            skip("there is no IPv6 here");
            return None;
        }
        let socket = UdpSocket::beside(&listener, options(true)).unwrap();
        if socket.address() == listener.address().unwrap() {
            return Some((listener, socket));
        }
    }
    panic!("no port is free for TCP and UDP");
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn train<'a>(to: &UdpSocket, contents: &'a [u8], segment_bytes: Option<usize>) -> Transmit<'a> {
    Transmit { to: canonical(to.address()), from: None, contents, segment_bytes }
}

/// The next so many datagrams.
fn receive(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
    let (mut batch, waker) = (Batch::new(), Waker::new().unwrap());
    let mut got = Vec::new();
    while got.len() < count {
        assert_eq!(socket.recv(&mut batch, &waker, LONG).unwrap(), Received::Datagrams);
        got.extend(batch.groups().flat_map(|group| group.datagrams).map(|datagram| datagram.to_vec()));
    }
    got
}
