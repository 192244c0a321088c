use std::{net::SocketAddr, time::Duration};

use super::bed::*;
use crate::wire::packet::{self, Floor};

/// Where a NAT may put the client.
fn elsewhere() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 6001))
}

#[test]
fn a_server_follows_its_client_to_another_port_in_mid_flow() {
    // protocol.md [PATH-1], [PATH-2]
    for is_push in [true, false] {
        for at in [100, 117, 130, 173] {
            let mut bed = Bed::new(is_push, 40 * MS);
            bed.queue_file(16 << 20, 256 << 10);
            bed.run(at * MS);
            assert!(bed.placed < bed.pushed, "it is under way");

            bed.client = elsewhere();

            assert!(bed.run_to_placed(20_000 * MS), "push {is_push} at {at}");
            let response = bed
                .log
                .iter()
                .find(|passing| passing.from == elsewhere() && passing.blocks.response.is_some());
            assert!(response.is_some(), "it has proven its address");
        }
    }
}

#[test]
fn another_host_is_another_path() {
    // protocol.md [PATH-2], [MTU-1]
    let mut bed = Bed::new(false, 40 * MS);
    bed.queue_file(16 << 20, 256 << 10);
    bed.run(1000 * MS);
    assert_eq!(bed.sender.packet_bytes(), 1472);

    bed.client = SocketAddr::from(([10, 0, 9, 9], 5001));
    bed.fate = Box::new(|passing| (passing.datagram.len() <= 1372).then_some(Duration::ZERO));
    assert!(bed.run_while(3000 * MS, |bed| bed.bytes_to(bed.client) == 0));

    assert_eq!(bed.sender.packet_bytes(), 1200);
    assert!(bed.run_to_placed(20_000 * MS));
    assert_eq!(bed.sender.packet_bytes(), 1372);
}

#[test]
fn a_client_that_only_receives_shows_its_address_before_long() {
    // protocol.md [PATH-4]
    let mut bed = Bed::new(false, 40 * MS);
    bed.queue_file(100, 100);
    assert!(bed.run_to_placed(1000 * MS));
    bed.run(3010 * MS);

    bed.client = elsewhere();
    bed.queue_file(100_000, 100_000);
    bed.run(3900 * MS);

    assert!(
        bed.arrived.len() >= 2 || bed.arrived.values().any(|bytes| bytes.len() == 100_000),
        "within a second"
    );
}

#[test]
fn an_unproven_address_gets_at_most_three_times_what_came_from_it() {
    // protocol.md [PATH-1]
    for is_push in [true, false] {
        for len in 30..1200 {
            let [client, _] = if is_push { sides(true) } else { [sides(false)[1], sides(false)[0]] };
            let mut bed = Bed::new(is_push, 40 * MS);
            bed.queue_file(1 << 20, 1 << 20);
            bed.client = stranger();
            let mut blocks = vec![0; len - 29];
            if let Some(first) = blocks.first_mut() {
                *first = 1;
            }
            let mut datagram = sealed(client, 0, &blocks);
            assert_eq!(datagram.len(), len);

            bed.deliver(stranger(), is_push, &mut datagram).unwrap();
            let quiet = Box::new(|_: &Passing| None);
            bed.fate = quiet;
            for at in 0..20 {
                bed.now = at * 100 * MS;
                bed.sender.handle_timeout(bed.now);
                let mut out = Vec::new();
                loop {
                    let sent = if is_push {
                        bed.receiver.poll_transmit(bed.now, &mut out)
                    } else {
                        bed.sender.poll_transmit(bed.now, &mut out)
                    };
                    let Some(transmit) = sent.unwrap() else { break };
                    for part in out.chunks(transmit.segment_bytes) {
                        bed.log.push(Passing {
                            at: bed.now,
                            to_receiver: !is_push,
                            from: server_address(),
                            to: transmit.to,
                            datagram: part.to_vec(),
                            number: number_of(part),
                            blocks: Blocks::default(),
                        });
                    }
                }
            }

            assert!(
                bed.bytes_to(stranger()) <= 3 * len,
                "push {is_push}: {} for {len}",
                bed.bytes_to(stranger())
            );
        }
    }
}

#[test]
fn a_captured_datagram_sent_from_elsewhere_costs_three_times_its_bytes_and_the_flow_comes_back() {
    // protocol.md [PATH-1], [PATH-2]
    for is_push in [true, false] {
        let mut bed = Bed::new(is_push, 40 * MS);
        bed.queue_file(16 << 20, 256 << 10);
        bed.run(150 * MS);
        assert!(bed.placed < bed.pushed, "it is under way");
        // The next packet of the client is held back, and everything behind it for half a second.
        bed.fate = Box::new(move |passing| (passing.to_receiver != is_push).then_some(Duration::ZERO));
        let seen = bed.sent(is_push).count();
        assert!(bed.run_while(5000 * MS, |bed| bed.sent(is_push).count() <= seen));
        let captured = bed.sent(is_push).nth(seen).unwrap().datagram.clone();

        bed.deliver(stranger(), is_push, &mut captured.clone()).unwrap();
        let at = bed.now;
        bed.run(at + 500 * MS);
        bed.fate = Box::new(|_| Some(Duration::ZERO));

        assert!(bed.run_to_placed(20_000 * MS), "push {is_push}");
        let astray = bed.bytes_to(stranger());
        assert!(astray > 0, "it was followed");
        assert!(astray <= 3 * captured.len(), "push {is_push}: {astray} for {}", captured.len());
    }
}

#[test]
fn a_repeated_or_old_datagram_moves_nothing() {
    // protocol.md [PATH-2]
    for is_push in [true, false] {
        let mut bed = Bed::new(is_push, 40 * MS);
        bed.queue_file(4 << 20, 256 << 10);
        let mut count = 0;
        // One packet is caught on its way.
        bed.fate = Box::new(move |passing| {
            count += u32::from(passing.to_receiver == is_push);
            (count != 3 || passing.to_receiver != is_push).then_some(Duration::ZERO)
        });
        bed.run(200 * MS);
        let datagrams: Vec<_> = bed.sent(is_push).take(5).map(|passing| passing.datagram.clone()).collect();

        for mut datagram in datagrams {
            bed.deliver(stranger(), is_push, &mut datagram).unwrap();
        }
        bed.run(400 * MS);

        assert_eq!(bed.bytes_to(stranger()), 0);
    }
}

#[test]
fn a_challenge_is_echoed_to_where_the_peer_is() {
    // protocol.md [PATH-3]
    let mut block = Vec::new();
    packet::put_challenge(&mut block, [9; 8]);
    for is_push in [true, false] {
        let mut bed = Bed::new(is_push, 40 * MS);
        let server = sides(is_push)[usize::from(is_push)];

        bed.deliver(stranger(), !is_push, &mut sealed(server, 0, &block)).unwrap();
        bed.drive().unwrap();

        let response = bed.log.iter().find(|passing| passing.blocks.response == Some([9; 8])).unwrap();
        assert_eq!(response.to, server_address());
    }
}

#[test]
fn only_the_echo_from_the_address_itself_proves_it() {
    // protocol.md [PATH-1], [PATH-3]
    let mut bed = Bed::new(true, 40 * MS);
    let mut ping = vec![1];
    packet::put_padding(&mut ping, 300);
    bed.deliver(client_address(), true, &mut sealed(sides(true)[0], 0, &ping)).unwrap();
    let mut out = Vec::new();
    bed.receiver.poll_transmit(bed.now, &mut out).unwrap().unwrap();
    let mut open = out.clone();
    let mut bystander = crate::security::Opener::new(&secret(), &FLOW, sides(true)[0]);
    let (_, payload) = bystander.open(&mut open).unwrap();
    let token = packet::blocks(payload)
        .find_map(|block| if let Ok(packet::Block::Challenge(token)) = block { Some(token) } else { None })
        .unwrap();
    let mut response = Vec::new();
    packet::put_response(&mut response, token);
    // An old packet from elsewhere does not move the path, and its echo proves nothing.
    bed.deliver(client_address(), true, &mut sealed(sides(true)[0], 9, &[1])).unwrap();
    bed.deliver(stranger(), true, &mut sealed(sides(true)[0], 5, &response)).unwrap();
    let floor = Floor { floor: 0, ack_interval_us: 250, heard: 0 };
    let flood = |bed: &mut Bed, from: u32| {
        let mut sent = 0;
        for step in from..from + 200 {
            let now = step * 10 * MS;
            bed.receiver.set_credit(now, WINDOW + u64::from(step));
            while bed.receiver.poll_transmit(now, &mut Vec::new()).unwrap().is_some() {
                sent += 1;
            }
        }
        sent
    };
    let mut block = Vec::new();
    packet::put_floor(&mut block, &floor);

    let unproven = flood(&mut bed, 1);
    bed.deliver(client_address(), true, &mut sealed(sides(true)[0], 10, &response)).unwrap();
    let proven = flood(&mut bed, 201);

    assert!(unproven < 50, "{unproven}");
    assert!(proven > 100, "{proven}");
}
