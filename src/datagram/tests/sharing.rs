//! What a flow does about the path that it shares, whatever its law.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use super::bed::*;
use crate::datagram::congestion::Congestion;

const RTT: Duration = Duration::from_millis(40);
/// What the bottleneck carries, bytes a second.
const NARROW: u64 = 1_250_000;
/// Both laws that look for the path's rate by themselves.
const SEARCHING: [Congestion; 2] = [Congestion::Bbr, Congestion::Cubic];

#[test]
fn a_full_queue_is_answered() {
    // protocol.md [CONG-3]
    for law in SEARCHING {
        let mut bed = Bed::with_law(true, RTT, law);
        bed.queue_file(24 << 20, 256 << 10);
        let dropped = Rc::<Cell<u64>>::default();
        bed.fate = bottleneck(NARROW, 50_000, dropped.clone());
        bed.run(2000 * MS);
        let (from, before) = (bed.now, dropped.get());

        bed.run(8000 * MS);

        let sent = bed.sent(true).filter(|passing| passing.at > from).count() as u64;
        let lost = dropped.get() - before;
        assert!(lost * 100 < sent * 5, "{law:?}: {lost} of {sent}");
        assert!(sent * 1472 > NARROW * 6 * 3 / 4, "{law:?}: {sent}");
    }
}

#[test]
fn a_flow_begins_with_32_packets_and_at_most_triples_them_in_a_round_trip() {
    // protocol.md [CONG-4]
    for law in SEARCHING {
        let mut bed = Bed::with_law(true, RTT, law);
        bed.queue_file(24 << 20, 256 << 10);
        bed.run(6 * RTT);

        let in_round = |round: u32| {
            let span = round * RTT..(round + 1) * RTT;
            bed.sent(true).filter(|passing| span.contains(&passing.at)).count()
        };
        let rounds: Vec<_> = (0..6).map(in_round).collect();

        assert!((1..=32).contains(&rounds[0]), "{law:?}: {rounds:?}");
        assert!(rounds.windows(2).all(|two| two[1] <= two[0] * 3), "{law:?}: {rounds:?}");
        assert!(rounds[5] > rounds[0], "{law:?}: {rounds:?}");
    }
}

#[test]
fn a_rate_that_was_asked_for_is_a_ceiling_for_every_law() {
    // protocol.md [CONG-5]
    for law in [Congestion::Bbr, Congestion::Cubic, Congestion::Fixed(4 * NARROW)] {
        let mut bed = Bed::with_law(true, RTT, law);
        bed.sender.set_rate_max(NARROW);
        bed.queue_file(24 << 20, 256 << 10);
        bed.run(4000 * MS);

        for second in 0..4 {
            let span = second * 1000 * MS..(second + 1) * 1000 * MS;
            let left = bed.sent(true).filter(|passing| span.contains(&passing.at));
            let bytes: usize = left.map(|passing| passing.datagram.len()).sum();
            assert!(bytes as u64 <= NARROW * 102 / 100, "{law:?}: {bytes} in second {second}");
        }
    }
}

#[test]
fn a_fixed_rate_that_the_path_does_not_carry_breaks_the_circuit() {
    // protocol.md [CONG-6]
    let ended = |lost_percent: u64| {
        let mut bed = Bed::at_rate(true, RTT, NARROW);
        bed.queue_file(64 << 20, 256 << 10);
        let mut count = 0;
        bed.fate = Box::new(move |passing| {
            count += u64::from(passing.to_receiver);
            let is_lost = passing.to_receiver && count * 37 % 100 < lost_percent;
            (!is_lost && passing.datagram.len() <= 1472).then_some(Duration::ZERO)
        });
        bed.run_while(20_000 * MS, |bed| !bed.sender.is_unfit())
    };

    assert!(ended(40));
    assert!(!ended(10));
}

#[test]
fn a_receiver_that_drops_gets_what_it_drains() {
    // protocol.md [CONG-7]
    let mut bed = Bed::with_law(true, RTT, Congestion::Bbr);
    bed.queue_file(24 << 20, 256 << 10);
    let dropped = Rc::<Cell<u64>>::default();
    bed.fate = bottleneck(NARROW, 10_000, dropped.clone());
    let mut before = (0, 0);
    for step in 1..=80_u32 {
        bed.run(step * 100 * MS);
        bed.receiver.set_drops(dropped.get());
        if step == 40 {
            before = (bed.sent(true).count() as u64, dropped.get());
        }
    }

    let (sent, lost) = (bed.sent(true).count() as u64 - before.0, dropped.get() - before.1);
    assert!(dropped.get() > 0);
    assert!(lost * 100 < sent * 5, "{lost} of {sent}");
    assert!(sent * 1472 <= NARROW * 4 * 110 / 100, "{sent}");
}

#[test]
fn who_has_little_to_send_does_not_take_that_for_the_rate_of_the_path() {
    // protocol.md [CONG-8]
    let mut bed = Bed::with_law(true, RTT, Congestion::Bbr);
    bed.fate = bottleneck(NARROW, 50_000, Rc::default());
    bed.queue_file(4 << 20, 256 << 10);
    assert!(bed.run_to_placed(6000 * MS));
    let known = bed.sender.controller().state().bandwidth;

    let (from, mut offset) = (bed.now, 4 << 20);
    for step in 1..=40_u32 {
        bed.queue.push_back((offset, content(offset, 5000)));
        offset += 5000;
        bed.run(from + step * 100 * MS);
    }

    let believed = bed.sender.controller().state().bandwidth;
    assert!(known > NARROW * 3 / 4, "{known}");
    assert!(believed > known / 2, "{known} became {believed}");
}

#[test]
fn at_another_host_a_flow_begins_anew() {
    // protocol.md [CONG-9]
    for law in SEARCHING {
        let mut bed = Bed::with_law(false, RTT, law);
        let first = bed.sender.controller().window();
        bed.fate = bottleneck(4 * NARROW, 200_000, Rc::default());
        bed.queue_file(64 << 20, 256 << 10);
        bed.run(2000 * MS);
        let known = bed.sender.controller().window();
        assert!(known > 2 * first, "{law:?}: {known}");

        bed.client = SocketAddr::from(([10, 0, 9, 9], 5001));
        let forgets = bed.run_while(4000 * MS, |bed| bed.sender.controller().window() > first);
        let begun = bed.sender.controller().window();

        assert!(forgets, "{law:?}: {first}, {known}, {begun}");
        assert!(bed.bytes_to(bed.client) > 0);
        // What is heard of the path before does not bring back what was known of it.
        bed.run(bed.now + RTT / 2);
        let heard = bed.sender.controller().window();
        assert!(heard < known / 2, "{law:?}: {known}, {begun}, {heard}");
    }
}

/// A link that carries `rate` bytes a second and holds `queue_bytes` beyond what it is sending; what finds no room is
/// counted.
fn bottleneck(rate: u64, queue_bytes: u64, dropped: Rc<Cell<u64>>) -> Fate {
    let mut free_at = Duration::ZERO;
    Box::new(move |passing| {
        let len = passing.datagram.len() as u64;
        if !passing.to_receiver {
            return Some(Duration::ZERO);
        }
        let waits = free_at.saturating_sub(passing.at);
        let room = Duration::from_secs_f64(queue_bytes as f64 / rate as f64);
        if len > 1472 || waits > room {
            dropped.set(dropped.get() + u64::from(len <= 1472));
            return None;
        }
        free_at = free_at.max(passing.at) + Duration::from_secs_f64(len as f64 / rate as f64);
        Some(free_at - passing.at)
    })
}
