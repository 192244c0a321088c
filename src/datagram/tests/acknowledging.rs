use std::time::Duration;

use super::bed::*;
use crate::{
    datagram::Receiver,
    wire::packet::{self, AckFacts, Block, Data, Floor, PacketNumber, blocks, put_numbers},
};

#[test]
fn acknowledgements_come_by_time_and_not_by_packets() {
    // protocol.md [ACK-1], [ACK-2]
    for (rtt, interval) in [(80 * MS, 10 * MS), (4 * MS, MS), (500 * MS / 1000, 250 * MS / 1000)] {
        let mut bed = Bed::at_rate(true, rtt, if rtt < 10 * MS { 25 * RATE } else { RATE });
        bed.queue_file(32 << 20, 1 << 20);
        bed.run(rtt * 10);
        bed.log.clear();
        let from = bed.now;
        bed.run(from + rtt * 40);

        let acks: Vec<_> = bed.sent(false).filter(|passing| passing.blocks.ack.is_some()).collect();
        let packets = bed.sent(true).count();
        let expected = (rtt * 40).as_micros() / interval.as_micros();
        assert!(packets > 2 * acks.len(), "{rtt:?}: {packets} packets, {} acknowledgements", acks.len());
        // Numbers that are skipped at random look like a first gap, now and then.
        let most = usize::try_from(expected).unwrap() + packets / 200 + 3;
        assert!(acks.len() <= most, "{rtt:?}: {} of {most}", acks.len());
        // Packets leave in quanta, and what does not arrive is not acknowledged.
        assert!(acks.len() as u128 >= expected / 3, "{rtt:?}: {} of {expected}", acks.len());
        for floor in bed.sent(true).filter_map(|passing| passing.blocks.floor) {
            let named = Duration::from_micros(floor.ack_interval_us);
            assert!(named.abs_diff(interval) <= interval / 4, "{named:?}, not {interval:?}");
        }
    }
}

#[test]
fn the_first_gap_is_told_at_once_and_the_next_one_by_time() {
    // protocol.md [ACK-1]
    let mut receiver = heard_below(10);
    let now = 100 * MS;
    take(&mut receiver, now, 10);
    assert!(ack_of(&mut receiver, now).is_some(), "an interval has gone by");

    take(&mut receiver, now, 11);
    assert!(ack_of(&mut receiver, now).is_none(), "too soon");
    take(&mut receiver, now, 13);
    assert!(ack_of(&mut receiver, now).is_some(), "12 is missing");
    take(&mut receiver, now, 15);
    assert!(ack_of(&mut receiver, now).is_none(), "the sender knows of trouble");
    assert_eq!(receiver.poll_timeout(), Some(now + 10 * MS));
}

#[test]
fn an_interval_that_is_asked_for_is_kept_within_bounds() {
    // protocol.md [ACK-2]
    for (asked, kept) in [
        (0, 250),
        (249, 250),
        (250, 250),
        (10_000, 10_000),
        (250_000, 250_000),
        (250_001, 250_000),
        ((1 << 62) - 1, 250_000),
    ] {
        let mut receiver = heard_below(10);
        let now = 1000 * MS;
        floor(&mut receiver, now, 10, Floor { floor: 0, ack_interval_us: asked, heard: 0 }).unwrap();
        ack_of(&mut receiver, now).unwrap();

        take(&mut receiver, now, 11);

        assert_eq!(receiver.poll_timeout(), Some(now + Duration::from_micros(kept)), "{asked}");
    }
}

#[test]
fn what_does_not_fit_follows_in_older_blocks_until_all_is_told() {
    // protocol.md [ACK-3]
    // Every other number: a bitmap of one datagram holds less than ten thousand.
    let mut receiver = heard_below(1);
    for number in (2..40_000).step_by(2) {
        take(&mut receiver, 100 * MS, number);
    }
    let mut told = std::collections::BTreeSet::new();
    for step in 0..12_u64 {
        let now = (200 + 20 * u32::try_from(step).unwrap()) * MS;
        take(&mut receiver, now, 40_000 + 2 * step);
        let mut out = Vec::new();
        while receiver.poll_transmit(now, &mut out).unwrap().is_some() {
            assert!(out.len() <= 1200);
            let (numbers, ..) = numbers_in(&mut out);
            told.extend(numbers);
        }
    }

    assert_eq!(told.len(), 20_012);
}

#[test]
fn new_credit_is_told_until_it_is_heard_however_often_it_is_lost() {
    // protocol.md [ACK-4]
    for is_push in [true, false] {
        for lost in [1, 2, 5, 10] {
            let mut bed = Bed::new(is_push, 40 * MS);
            bed.is_placing = false;
            bed.told_credit = 100_000;
            bed.queue_file(300_000, 100_000);
            // The receiver has granted four windows of a chunk at first.
            bed.run(500 * MS);
            let already = bed.sender.credit();
            let new = already + 1_000_000;
            let mut left = lost;
            bed.fate = Box::new(move |passing| {
                let is_new = passing.blocks.ack.as_ref().is_some_and(|ack| ack.credit >= new);
                left -= i32::from(is_new && left > 0);
                (!is_new || left == 0).then_some(Duration::ZERO)
            });

            let now = bed.now;
            bed.receiver.set_credit(now, new);

            assert!(
                bed.run_while(now + 9000 * MS, |bed| bed.sender.credit() < new),
                "push {is_push}, lost {lost} times"
            );
            let at = bed.now;
            bed.fate = Box::new(|_| Some(Duration::ZERO));
            bed.run(at + 1000 * MS);
            let from = at + 300 * MS;
            let repeated =
                bed.sent(false).filter(|passing| passing.at > from && passing.blocks.ack.is_some());
            assert!(repeated.count() <= 4, "it is told no more once it was heard");
        }
    }
}

#[test]
fn what_carries_no_acknowledgement_does_not_count_as_having_told() {
    // protocol.md [ACK-4]
    let mut receiver = heard_below(10);
    let now = 100 * MS;
    receiver.set_credit(now, 1 << 30);
    let told = ack_of(&mut receiver, now + 10 * MS).expect("new credit");
    let mut challenge = Vec::new();
    packet::put_challenge(&mut challenge, [3; 8]);
    packet_in(&mut receiver, now + 11 * MS, 10, &challenge).unwrap();
    let mut out = Vec::new();
    receiver.poll_transmit(now + 11 * MS, &mut out).unwrap().expect("an echo");
    let echo = number_of(&out);
    assert!(numbers_in(&mut out).0.is_empty());
    assert_eq!(echo, told + 1);

    // The sender has the echo, and not the acknowledgement in front of it.
    let heard = Floor { floor: 0, ack_interval_us: 10_000, heard: echo + 1 };
    floor(&mut receiver, now + 30 * MS, 11, heard).unwrap();
    let later = ack_of(&mut receiver, now + 31 * MS).expect("this very packet is acknowledged");
    let mut repeated = 0;
    for at in 32..400 {
        repeated += u32::from(ack_of(&mut receiver, now + at * MS).is_some());
    }

    assert!(repeated > 0, "the credit of {told} was lost, that of {later} may be");
}

#[test]
fn placement_and_credit_only_grow() {
    // protocol.md [ACK-4]
    let mut sender = sender(true, 40 * MS);
    sender.push_chunk(0, 0, vec![1; 100]);
    sender.push_chunk(0, 100, vec![2; 100]);
    sender.poll_transmit(Duration::ZERO, &mut Vec::new()).unwrap().unwrap();
    let ack = |credit, floor| {
        let mut out = Vec::new();
        packet::put_ack(&mut out, &AckFacts { credit, ..AckFacts::default() }, floor, std::iter::empty());
        put_numbers(&mut out, std::iter::once(0..=0), 100);
        out
    };
    let server = sides(true)[1];
    for (number, credit, floor) in [(5, 1000, 1), (3, 500, 0), (6, 900, 0)] {
        sender
            .handle_datagram(40 * MS, server_address(), &mut sealed(server, number, &ack(credit, floor)))
            .unwrap();
    }

    assert_eq!(sender.credit(), 1000);
    assert_eq!(std::iter::from_fn(|| sender.poll_placed()).count(), 1);
}

#[test]
fn a_repetition_is_not_answered() {
    // protocol.md [FLOW-6]
    let mut receiver = heard_below(10);
    for number in 0..10 {
        take(&mut receiver, 200 * MS, number);
    }

    assert_eq!(receiver.poll_transmit(300 * MS, &mut Vec::new()), Ok(None));
}

/// A client's receiver that has the numbers below `end`, from 1 on each with one chunk of a byte, and has acknowledged
/// them; acknowledgements are 10 ms apart.
fn heard_below(end: PacketNumber) -> Receiver {
    let mut receiver = receiver(false);
    floor(&mut receiver, 50 * MS, 0, Floor { floor: 0, ack_interval_us: 10_000, heard: 0 }).unwrap();
    for number in 1..end {
        take(&mut receiver, 50 * MS, number);
    }
    while receiver.poll_transmit(70 * MS, &mut Vec::new()).unwrap().is_some() {}
    receiver
}

/// A packet with a chunk of one byte.
fn take(receiver: &mut Receiver, now: Duration, number: PacketNumber) {
    let mut block = Vec::new();
    Data { chunk: number, file: 0, offset: number, len: 1, at: 0, bytes: &[1] }.put(&mut block);
    packet_in(receiver, now, number, &block).unwrap();
}

fn floor(
    receiver: &mut Receiver,
    now: Duration,
    number: PacketNumber,
    floor: Floor,
) -> Result<(), crate::datagram::FlowError> {
    let mut block = Vec::new();
    packet::put_floor(&mut block, &floor);
    packet_in(receiver, now, number, &block)
}

fn packet_in(
    receiver: &mut Receiver,
    now: Duration,
    number: PacketNumber,
    block: &[u8],
) -> Result<(), crate::datagram::FlowError> {
    let from = sides(false)[0];
    receiver.handle_datagram(now, server_address(), &mut sealed(from, number, block), WINDOW)
}

/// The number of the packet with an acknowledgement that is due, if one is.
fn ack_of(receiver: &mut Receiver, now: Duration) -> Option<PacketNumber> {
    let mut out = Vec::new();
    let mut found = None;
    while receiver.poll_transmit(now, &mut out).unwrap().is_some() {
        let number = number_of(&out);
        found = found.or((!numbers_in(&mut out).0.is_empty()).then_some(number));
    }
    found
}

/// Numbers that a packet of the receiver acknowledges, and its credit.
fn numbers_in(datagram: &mut [u8]) -> (Vec<PacketNumber>, u64) {
    let mut bystander = crate::security::Opener::new(&secret(), &FLOW, sides(false)[0]);
    let (_, payload) = bystander.open(datagram).unwrap();
    let mut credit = 0;
    let mut numbers = Vec::new();
    for block in blocks(payload) {
        match block.unwrap() {
            Block::Ack(ack) => {
                credit = ack.credit;
                numbers.extend(ack.numbers.ranges().flatten());
            }
            Block::Older(older) => numbers.extend(older.ranges().flatten()),
            _ => {}
        }
    }
    (numbers, credit)
}
