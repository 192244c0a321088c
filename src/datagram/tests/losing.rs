use std::{collections::BTreeSet, time::Duration};

use super::bed::*;

const RTT: Duration = Duration::from_millis(100);

/// Under way on a path of 100 ms without loss, long after its opening.
fn under_way() -> Bed {
    let mut bed = Bed::new(true, RTT);
    bed.queue_file(24 << 20, 256 << 10);
    bed.run(1500 * MS);
    assert_eq!(bed.sender.stats().lost, 0);
    assert!(!bed.queue.is_empty());
    bed
}

/// The `nth` packet of content from now on comes later by `extra`.
fn delay_one(bed: &mut Bed, nth: u32, extra: Option<Duration>) {
    let mut count = 0;
    bed.fate = Box::new(move |passing| {
        count += u32::from(passing.to_receiver && !passing.blocks.data.is_empty());
        if count == nth && passing.to_receiver { extra } else { Some(Duration::ZERO) }
    });
}

#[test]
fn a_packet_that_comes_late_within_the_window_is_not_lost() {
    // protocol.md [LOSS-1], [LOSS-2]
    for extra in [1, 5, 10] {
        let mut bed = under_way();
        delay_one(&mut bed, 20, Some(extra * MS));

        bed.run(2000 * MS);

        assert_eq!(bed.sender.stats().lost, 0, "{extra} ms of 12.5");
    }
}

#[test]
fn a_packet_beyond_the_window_is_lost_and_sent_again_under_another_number() {
    // protocol.md [LOSS-1], [PACKET-3]
    let mut bed = under_way();
    delay_one(&mut bed, 20, None);
    let from = bed.now;
    bed.run(2000 * MS);

    assert_eq!(bed.sender.stats().lost, 1);
    let content: Vec<_> = bed.sent(true).filter(|passing| !passing.blocks.data.is_empty()).collect();
    let lost = content.iter().filter(|passing| passing.at >= from).nth(19).unwrap();
    let piece = lost.blocks.data[0];
    let is_again = |passing: &&&Passing| passing.number > lost.number && passing.blocks.data.contains(&piece);
    let again: Vec<_> = content.iter().filter(is_again).collect();
    assert_eq!(again.len(), 1);
    let took = again[0].at - lost.at;
    assert!((112 * MS..150 * MS).contains(&took), "a round trip, the window, an interval: {took:?}");
}

#[test]
fn a_loss_that_was_none_is_taken_back_and_widens_the_window() {
    // protocol.md [LOSS-2], [LOSS-4]
    let mut bed = under_way();
    delay_one(&mut bed, 20, Some(40 * MS));
    bed.run(2000 * MS);
    assert_eq!((bed.sender.stats().lost, bed.sender.stats().spurious), (1, 1));

    delay_one(&mut bed, 20, Some(40 * MS));
    bed.run(2500 * MS);

    assert_eq!(
        (bed.sender.stats().lost, bed.sender.stats().spurious),
        (1, 1),
        "as late as before is not lost"
    );
    assert!(bed.run_to_placed(60_000 * MS));
}

#[test]
fn a_count_of_packets_decides_nothing() {
    // protocol.md [LOSS-1]
    let mut bed = under_way();
    // Every tenth packet is overtaken by dozens.
    let mut count = 0;
    bed.fate = Box::new(move |passing| {
        count += u32::from(passing.to_receiver);
        Some(if passing.to_receiver && count % 10 == 0 { 8 * MS } else { Duration::ZERO })
    });

    assert!(bed.run_to_placed(60_000 * MS));

    assert_eq!(bed.sender.stats().lost, 0);
}

#[test]
fn no_number_is_used_twice_whatever_is_lost() {
    // protocol.md [PACKET-3], [FLOW-4]
    let mut bed = Bed::new(true, 20 * MS);
    bed.queue_file(4 << 20, 256 << 10);
    let mut count = 0_u32;
    bed.fate = Box::new(move |_| {
        count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (count >> 24 > 50).then_some(Duration::from_micros(u64::from(count >> 20 & 0xfff)))
    });

    assert!(bed.run_to_placed(120_000 * MS));

    let numbers: BTreeSet<_> = bed.sent(true).map(|passing| passing.number).collect();
    assert_eq!(numbers.len(), bed.sent(true).count());
    let skipped = numbers.last().unwrap() + 1 - numbers.len() as u64;
    let packets = numbers.len() as u64;
    assert!((packets / 4000..packets / 100).contains(&skipped), "{skipped} of {packets} are left out");
}

#[test]
fn probes_are_two_and_their_timeout_doubles_to_a_second() {
    // protocol.md [LOSS-3]
    let mut bed = Bed::new(true, 20 * MS);
    bed.queue_file(4 << 20, 256 << 10);
    bed.run(300 * MS);
    bed.fate = Box::new(|_| None);
    bed.log.clear();
    bed.run(9000 * MS);

    let after = bed.sent(true).filter(|passing| passing.at > 360 * MS && passing.datagram.len() > 200);
    let mut times: Vec<(Duration, usize)> = Vec::new();
    for passing in after {
        match times.last_mut() {
            Some((at, count)) if passing.at - *at < MS => *count += 1,
            _ => times.push((passing.at, 1)),
        }
    }
    assert!(times.iter().all(|(_, count)| *count <= 2), "{times:?}");
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] >= pair[0] - MS), "{gaps:?}");
    assert!(gaps.windows(2).filter(|pair| pair[1] > pair[0] * 19 / 10).count() >= 2, "{gaps:?}");
    assert!(gaps.iter().all(|gap| *gap <= 1000 * MS), "{gaps:?}");
    assert!(gaps.last().unwrap() > &(300 * MS), "{gaps:?}");
}

#[test]
fn a_probe_repairs_the_tail() {
    // protocol.md [LOSS-3]
    for is_push in [true, false] {
        let mut bed = Bed::new(is_push, 40 * MS);
        bed.queue_file(100_000, 10_000);
        // The last chunk, and all copies of it for a while.
        bed.fate = Box::new(move |passing| {
            let is_last = passing.blocks.data.iter().any(|(chunk, _)| *chunk == 9) && passing.at < 150 * MS;
            (!is_last).then_some(Duration::ZERO)
        });

        assert!(bed.run_to_placed(3000 * MS), "push {is_push}");

        assert!(bed.now < 1500 * MS, "{:?}", bed.now);
    }
}

#[test]
fn copies_in_the_tail_are_64_or_one_in_a_hundred() {
    // protocol.md [LOSS-5]
    for (len, most) in [(10_000, 64), (1 << 20, 64), (24 << 20, 260)] {
        let mut bed = Bed::new(true, 100 * MS);
        bed.queue_file(len, 256 << 10);
        bed.fate = Box::new(|passing| (passing.datagram.len() <= 1472).then_some(Duration::ZERO));

        assert!(bed.run_to_placed(60_000 * MS));

        let stats = bed.sender.stats();
        assert!(stats.copies > 0, "the tail is copied");
        assert!(stats.copies <= most, "{} copies of {} packets", stats.copies, stats.packets);
        let sent = stats.payload_bytes;
        assert!(sent <= len + most * 1472 + 2 * 1472 * stats.timeouts, "{sent} of {len}");
    }
}

#[test]
fn a_lost_tail_costs_no_timeout() {
    // protocol.md [LOSS-5]
    let mut bed = Bed::new(true, 100 * MS);
    bed.queue_file(10_000, 10_000);
    let mut seen = BTreeSet::new();
    // The first copy of the last packets is lost.
    bed.fate = Box::new(move |passing| {
        let is_lost = passing.blocks.data.iter().any(|(_, at)| *at > 7_000 && seen.insert(*at));
        (!is_lost).then_some(Duration::ZERO)
    });

    assert!(bed.run_while(1000 * MS, |bed| bed.arrived.is_empty()));

    assert!(bed.now < 150 * MS, "{:?}", bed.now);
    assert_eq!(bed.sender.stats().timeouts, 0);
}

#[test]
fn packets_grow_to_what_the_path_carries() {
    // protocol.md [MTU-1]
    for limit in [1228, 1280, 1400, 1492, 1500, 4352, 9000] {
        let mut bed = Bed::new(true, 10 * MS);
        bed.queue_file(8 << 20, 256 << 10);
        bed.fate = Box::new(move |passing| (passing.datagram.len() + 28 <= limit).then_some(Duration::ZERO));

        assert!(bed.run_to_placed(60_000 * MS), "{limit}");

        assert_eq!(bed.sender.packet_bytes(), limit as u64 - 28);
        assert_eq!(bed.sender.stats().lost, 0, "a probe that is lost is no loss");
    }
}

#[test]
fn nothing_larger_than_1200_bytes_goes_to_an_unproven_address() {
    // protocol.md [MTU-1]
    let mut bed = Bed::new(false, 10 * MS);
    bed.queue_file(1 << 20, 256 << 10);
    bed.fate = Box::new(|passing| passing.blocks.response.is_none().then_some(Duration::ZERO));

    bed.run(3000 * MS);

    assert!(bed.log.iter().all(|passing| passing.datagram.len() <= 1200));
}

#[test]
fn a_path_that_no_longer_carries_large_packets_is_noticed_in_mid_flow() {
    // protocol.md [MTU-2]
    for (before, after) in [(1500, 1300), (9000, 1500), (1500, 1228)] {
        for is_push in [true, false] {
            let mut bed = Bed::new(is_push, 20 * MS);
            bed.queue_file(64 << 20, 256 << 10);
            bed.fate =
                Box::new(move |passing| (passing.datagram.len() + 28 <= before).then_some(Duration::ZERO));
            bed.run(600 * MS);
            assert_eq!(bed.sender.packet_bytes(), before as u64 - 28);
            assert!(!bed.queue.is_empty());

            bed.fate =
                Box::new(move |passing| (passing.datagram.len() + 28 <= after).then_some(Duration::ZERO));
            let from = bed.now;
            let placed = bed.placed;
            let is_moving = bed.run_while(from + 2000 * MS, |bed| bed.placed < placed + (2 << 20));

            assert!(is_moving, "{before} to {after}, push {is_push}");
            assert!(bed.run_to_placed(from + 60_000 * MS), "{before} to {after}, push {is_push}");
            assert!(bed.sender.packet_bytes() + 28 <= after as u64);
        }
    }
}
