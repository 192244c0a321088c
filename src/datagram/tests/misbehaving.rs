use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::bed::*;
use crate::{
    datagram::{FlowError, Receiver, Sender},
    limits,
    security::{Opener, Sealer, Side},
    wire::packet::{self, AckFacts, Data, Floor, HEADER_BYTES, PacketNumber, put_numbers},
};

#[test]
fn acknowledging_what_was_never_sent_ends_the_flow() {
    // protocol.md [FLOW-4]
    let skipped = just_skipped(&under_way());
    let last = skipped + 1;
    let attempts = [
        ("beyond the last", acking(last + 1, 0)),
        ("far beyond", acking(1 << 61, 0)),
        ("a number that was left out", acking_range(skipped, skipped)),
        ("all at once", acking_range(0, last)),
        ("in an older block", older_range(skipped, skipped)),
        ("in an older block, beyond", older_range(last + 1, last + 1)),
    ];

    let answer = |blocks: &[u8]| {
        let mut bed = under_way();
        assert_eq!(just_skipped(&bed), skipped);
        bed.deliver(server_address(), false, &mut sealed(Side::Server, 1 << 40, blocks))
    };
    assert_eq!(answer(&acking(last, 0)), Ok(()), "the last one was sent");
    for (what, blocks) in attempts {
        assert!(matches!(answer(&blocks), Err(FlowError::Violation(_))), "{what}");
    }
}

#[test]
fn placing_what_was_never_sent_ends_the_flow() {
    // protocol.md [FLOW-4]
    // The first chunk is out, the second one only in part.
    for (floor, ranges, is_fine) in [
        (0, vec![], true),
        (1, vec![], true),
        (2, vec![], false),
        (3, vec![], false),
        (1 << 60, vec![], false),
        (0, vec![1..=1], false),
        (0, vec![5..=1 << 40], false),
    ] {
        let mut blocks = Vec::new();
        packet::put_ack(&mut blocks, &AckFacts::default(), floor, ranges.clone().into_iter());
        put_numbers(&mut blocks, std::iter::once(0..=0), 100);

        let result = to_sender(&mut sender_like(&[100, 1 << 20]), &blocks);

        assert_eq!(result.is_ok(), is_fine, "{floor} {ranges:?}: {result:?}");
    }
}

#[test]
fn hearing_what_was_never_sent_ends_the_flow() {
    // protocol.md [FLOW-4]
    for (heard, is_fine) in [(0, true), (1, true), (2, false), (1 << 61, false)] {
        let mut receiver = receiver(false);
        receiver.poll_transmit(Duration::ZERO, &mut Vec::new()).unwrap().expect("a greeting, number 0");
        let mut blocks = Vec::new();
        packet::put_floor(&mut blocks, &Floor { floor: 0, ack_interval_us: 1000, heard });

        let result =
            receiver.handle_datagram(MS, server_address(), &mut sealed(Side::Server, 0, &blocks), WINDOW);

        assert_eq!(result.is_ok(), is_fine, "{heard}");
    }
}

#[test]
fn a_floor_above_all_that_came_leaves_the_newest_to_be_acknowledged() {
    // protocol.md [ACK-4], [FLOW-6]
    for floor in [5, 6, 7, 1 << 61] {
        let (mut receiver, mut out) = (receiver(true), Vec::new());
        let mut blocks = Vec::new();
        packet::put_floor(&mut blocks, &Floor { floor, ack_interval_us: 1000, heard: 0 });
        packet::put_padding(&mut blocks, 1000);
        receiver
            .handle_datagram(MS, client_address(), &mut sealed(Side::Client, 5, &blocks), WINDOW)
            .unwrap();

        receiver.poll_transmit(100 * MS, &mut out).unwrap().expect("an acknowledgement");

        let mut opener = Opener::new(&secret(), &FLOW, Side::Client);
        let (_, payload) = opener.open(&mut out).unwrap();
        let acked: Vec<_> = packet::blocks(payload)
            .filter_map(|block| match block.unwrap() {
                packet::Block::Ack(ack) => Some(ack.numbers.ranges().collect::<Vec<_>>()),
                _ => None,
            })
            .collect();
        assert_eq!(acked, [[5..=5]], "a floor of {floor}");
    }
}

#[test]
fn each_side_sends_only_what_is_its_own() {
    // protocol.md [FLOW-1]
    let mut data = Vec::new();
    Data { chunk: 0, file: 0, offset: 0, len: 1, at: 0, bytes: &[1] }.put(&mut data);
    let mut floor = Vec::new();
    packet::put_floor(&mut floor, &Floor { floor: 0, ack_interval_us: 1000, heard: 0 });
    let both = [data, floor];
    let back = [acking(0, 0), older_range(0, 0)];

    for blocks in &both {
        assert!(to_sender(&mut sender_like(&[100]), blocks).is_err());
    }
    for blocks in &back {
        let mut receiver = receiver(true);
        let from = client_address();
        assert!(receiver.handle_datagram(MS, from, &mut sealed(Side::Client, 0, blocks), WINDOW).is_err());
    }
}

#[test]
fn absurd_facts_do_no_harm() {
    // protocol.md [ACK-4]
    let most = (1 << 62) - 1;
    let mut sender = sender_like(&[100, 100]);
    let facts = AckFacts { received_us: most, delay_us: most, drops: most, credit: most };
    let mut blocks = Vec::new();
    packet::put_ack(&mut blocks, &facts, 0, std::iter::empty());
    put_numbers(&mut blocks, std::iter::once(0..=0), 100);

    let mut datagram = sealed(Side::Server, 0, &blocks);
    sender.handle_datagram(40 * MS, server_address(), &mut datagram).unwrap();
    sender.handle_timeout(80 * MS);

    assert_eq!(sender.credit(), most);
    assert!(sender.poll_timeout(80 * MS).is_some());
    assert!(sender.rtt().smoothed() <= 40 * MS);
}

#[test]
fn the_last_number_that_there_is_can_be_told_of() {
    // protocol.md [PACKET-1]: FLOOR says one more than the largest number.
    let mut sender = sender_like(&[100]);
    let mut ping = Vec::new();
    packet::put_ping(&mut ping);
    let mut datagram = sealed(Side::Server, (1 << 62) - 2, &ping);
    sender.handle_datagram(40 * MS, server_address(), &mut datagram).unwrap();

    let answer = sender.poll_transmit(500 * MS, &mut Vec::new()).unwrap();

    assert!(answer.is_some());
}

#[test]
fn a_peer_that_never_acknowledges_gets_no_more_than_the_first_window() {
    // protocol.md [FLOW-7], [LOSS-3], [CONG-2]
    let mut bed = Bed::new(true, 40 * MS);
    bed.queue_file(32 << 20, 1 << 20);
    bed.fate = Box::new(|passing| passing.to_receiver.then_some(Duration::ZERO));
    bed.run(30_000 * MS);

    assert_eq!(bed.sender.silent_since(), Some(Duration::ZERO));
    let packets = bed.sent(true).count();
    assert!(packets < 600, "{packets}");
    assert!(bed.sender.kept_bytes() <= 4 << 20);
}

#[test]
fn a_peer_that_acknowledges_only_what_is_old_is_silent() {
    // protocol.md [FLOW-7]
    let mut bed = Bed::new(true, 40 * MS);
    bed.queue_file(32 << 20, 1 << 20);
    bed.run(500 * MS);
    let heard = bed.now;
    bed.fate = Box::new(|_| None);
    for step in 1..100_u32 {
        bed.run(heard + step * 100 * MS);
        let mut datagram = sealed(Side::Server, 1_000_000 + u64::from(step), &acking(0, WINDOW));
        bed.deliver(server_address(), false, &mut datagram).unwrap();
    }

    let silent = bed.sender.silent_since().expect("nothing new was acknowledged for ten seconds");
    assert!(silent <= heard + 40 * MS, "{silent:?}");
    let after = bed.sent(true).filter(|passing| passing.at > heard + 1000 * MS).count();
    assert!(after < 200, "{after}");
}

#[test]
fn a_whole_session_that_is_replayed_changes_nothing_and_is_not_answered() {
    // protocol.md [FLOW-6], [PACKET-2]
    for is_push in [true, false] {
        let mut bed = Bed::new(is_push, 20 * MS);
        bed.fate = Box::new(|_| Some(Duration::ZERO));
        bed.queue_file(2 << 20, 256 << 10);
        assert!(bed.run_to_placed(10_000 * MS));
        let now = bed.now + 1000 * MS;
        bed.run(now);
        bed.drive().unwrap();
        let has_arrived = |passing: &&Passing| passing.at + bed.one_way <= now;
        let log: Vec<_> = bed.log.iter().filter(has_arrived).cloned().collect();
        let (stats, arrived) = (bed.sender.stats(), bed.arrived.len());
        let heard = (bed.sender.last_heard(), bed.receiver.last_heard());
        let timers = (bed.sender.poll_timeout(now), bed.receiver.poll_timeout());

        for passing in &log {
            for from in [passing.from, stranger()] {
                bed.deliver(from, passing.to_receiver, &mut passing.datagram.clone()).unwrap();
            }
        }

        assert_eq!(bed.receiver.poll_transmit(now, &mut Vec::new()), Ok(None));
        assert_eq!(bed.sender.poll_transmit(now, &mut Vec::new()), Ok(None));
        assert_eq!((bed.sender.stats(), bed.arrived.len()), (stats, arrived));
        assert_eq!((bed.sender.last_heard(), bed.receiver.last_heard()), heard);
        assert_eq!((bed.sender.poll_timeout(now), bed.receiver.poll_timeout()), timers);
        // Another flow has other keys.
        let mut other = Bed::new(is_push, 20 * MS);
        let id = crate::security::FlowId { attempt: 1, ..FLOW };
        let [sender_side, receiver_side] = sides(is_push);
        let config = |own| crate::datagram::FlowConfig {
            opener: Opener::new(&secret(), &id, own),
            sealer: Sealer::new(&secret(), &id, own, limits::KEY_UPDATE_PACKETS),
            ..config(own, limits::KEY_UPDATE_PACKETS)
        };
        other.receiver = Receiver::new(Duration::ZERO, config(receiver_side), false);
        let congestion = crate::datagram::congestion::Congestion::Bbr;
        other.sender = Sender::new(Duration::ZERO, config(sender_side), congestion, 20 * MS, false);
        for passing in &log {
            other.deliver(passing.from, passing.to_receiver, &mut passing.datagram.clone()).unwrap();
        }
        assert_eq!((other.sender.last_heard(), other.receiver.last_heard()), (None, None));
    }
}

#[test]
fn datagrams_of_every_length_never_panic() {
    // protocol.md [PACKET-1], [PACKET-2]
    let mut sender = sender(true, 40 * MS);
    let mut receiver = receiver(true);
    let lengths = (0..2000).chain((2000..=limits::DATAGRAM_MAX_BYTES).step_by(997));
    for len in lengths.chain([65_506, limits::DATAGRAM_MAX_BYTES]) {
        for first in [0, 0x40, 0x41, 0xff] {
            let mut datagram = content(len as u64 * 7, len as u64);
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            for (at, id) in FLOW.server.to_le_bytes().into_iter().enumerate() {
                if let Some(byte) = datagram.get_mut(1 + at) {
                    *byte = id;
                }
            }
            assert_eq!(receiver.handle_datagram(MS, stranger(), &mut datagram.clone(), WINDOW), Ok(()));
            assert_eq!(sender.handle_datagram(MS, stranger(), &mut datagram), Ok(()));
        }
    }

    assert_eq!(receiver.poll_transmit(2 * MS, &mut Vec::new()), Ok(None));
    assert_eq!((sender.last_heard(), receiver.last_heard()), (None, None));
}

#[test]
fn an_authentic_packet_as_large_as_a_datagram_may_be_is_taken() {
    // protocol.md [PACKET-6]
    let len = limits::DATAGRAM_MAX_BYTES - HEADER_BYTES - 16;
    let mut block = Vec::new();
    let bytes = content(0, len as u64 - 12);
    Data { chunk: 0, file: 0, offset: 0, len: u32::try_from(bytes.len()).unwrap(), at: 0, bytes: &bytes }
        .put(&mut block);
    let mut receiver = receiver(true);

    receiver.handle_datagram(MS, client_address(), &mut sealed(Side::Client, 0, &block), WINDOW).unwrap();

    assert_eq!(receiver.poll_chunk().unwrap().bytes, bytes);
}

#[test]
fn chunks_in_the_smallest_pieces_do_not_choose_our_memory() {
    // protocol.md [FLOW-3]
    let mut receiver = receiver(true);
    let mut taken = 0;
    let result = (0_u64..).try_for_each(|number| {
        let mut block = Vec::new();
        // Every other byte of chunks of 4 MiB.
        for piece in 0..64 {
            let (chunk, at) = ((number * 64 + piece) >> 21, (number * 64 + piece) << 1 & ((4 << 20) - 1));
            let at = u32::try_from(at).unwrap();
            Data { chunk, file: 0, offset: chunk << 22, len: 4 << 20, at, bytes: &[1] }.put(&mut block);
        }
        receiver.handle_datagram(
            MS,
            client_address(),
            &mut sealed(Side::Client, number, &block),
            64 << 20,
        )?;
        taken += 64;
        assert!(taken < 1 << 20, "a million pieces");
        Ok::<(), FlowError>(())
    });

    assert!(result.is_err());
    assert!(taken >= limits::BACKLOG_MAX_FRAMES - 64);
}

#[test]
fn partial_chunks_stay_within_the_room() {
    // protocol.md [CREDIT-1]
    let mut receiver = receiver(true);
    let begin = |receiver: &mut Receiver, number: PacketNumber| {
        let mut block = Vec::new();
        Data { chunk: number, file: 0, offset: number << 20, len: 1 << 20, at: 9, bytes: &[1] }
            .put(&mut block);
        receiver.handle_datagram(MS, client_address(), &mut sealed(Side::Client, number, &block), 4 << 20)
    };

    for number in 0..4 {
        assert_eq!(begin(&mut receiver, number), Ok(()), "just inside");
    }
    assert!(begin(&mut receiver, 4).is_err(), "just outside");
    assert_eq!(receiver.partial_bytes(), 4 << 20);
}

proptest! {
    #[test]
    fn authentic_packets_with_any_content_never_panic(
        payloads in vec(vec(any::<u8>(), 0..300), 1..20),
        starts in vec(0_u8..10, 20),
        gaps in vec(0_u64..1 << 40, 20),
        is_sender: bool,
    ) {
        let (mut sender, mut receiver) = (sender_like(&[100, 1 << 20, 5]), receiver(true));
        let mut number = 0;
        for ((payload, start), gap) in payloads.iter().zip(&starts).zip(&gaps) {
            let mut blocks = vec![*start];
            blocks.extend_from_slice(payload);
            number += 1 + gap;
            let now = Duration::from_micros(number);
            let result = if is_sender {
                sender.handle_datagram(now, server_address(), &mut sealed(Side::Server, number, &blocks))
            } else {
                receiver.handle_datagram(now, client_address(), &mut sealed(Side::Client, number, &blocks), WINDOW)
            };
            if result.is_err() {
                break;
            }
            sender.handle_timeout(now);
            while sender.poll_transmit(now, &mut Vec::new()).unwrap().is_some() {}
            while receiver.poll_transmit(now, &mut Vec::new()).unwrap().is_some() {}
            prop_assert!(sender.poll_timeout(now).is_none_or(|at| at > now));
            prop_assert!(receiver.poll_timeout().is_none_or(|at| at > now));
        }
    }

    #[test]
    fn mutated_and_shuffled_packets_never_panic_or_harm(
        steps in vec((any::<prop::sample::Index>(), 0_u8..6, any::<u16>()), 1..200),
    ) {
        let mut bed = Bed::new(true, 20 * MS);
        bed.queue_file(300_000, 100_000);
        bed.fate = Box::new(|_| Some(Duration::ZERO));
        bed.run(15 * MS);
        for (index, kind, value) in steps {
            let passing = index.get(&bed.log).clone();
            let mut datagram = passing.datagram;
            let at = usize::from(value) % datagram.len();
            match kind {
                0 => datagram.truncate(at),
                1 => datagram[at] ^= 1 << (value % 8),
                2 => datagram.extend(vec![0; at]),
                3 => bed.client = if value % 2 == 0 { client_address() } else { stranger() },
                _ => {}
            }
            bed.deliver(passing.from, passing.to_receiver, &mut datagram).unwrap();
            let now = bed.now + Duration::from_micros(u64::from(value));
            bed.run(now);
        }
        bed.client = client_address();

        prop_assert!(bed.run_to_placed(bed.now + 20_000 * MS));
    }
}

/// A flow that has left a number out with its last packet.
fn under_way() -> Bed {
    let mut bed = Bed::new(true, 40 * MS);
    bed.queue_file(32 << 20, 1 << 20);
    assert!(bed.run_while(5000 * MS, |bed| {
        let mut numbers = bed.sent(true).rev().map(|passing| passing.number);
        numbers.next().zip(numbers.next()).is_none_or(|(last, before)| last == before + 1)
    }));
    bed
}

fn just_skipped(bed: &Bed) -> PacketNumber {
    bed.sent(true).next_back().expect("something was sent").number - 1
}

/// A client's sender with chunks of these sizes, of which it has sent what goes out at once.
fn sender_like(chunks: &[u64]) -> Sender {
    let mut sender = sender(true, 40 * MS);
    let mut offset = 0;
    for len in chunks {
        sender.push_chunk(0, offset, content(offset, *len));
        offset += len;
    }
    sender.poll_transmit(Duration::ZERO, &mut Vec::new()).unwrap().unwrap();
    sender
}

fn to_sender(sender: &mut Sender, blocks: &[u8]) -> Result<(), FlowError> {
    sender.handle_datagram(40 * MS, server_address(), &mut sealed(Side::Server, 0, blocks))
}

fn acking(largest: PacketNumber, credit: u64) -> Vec<u8> {
    ack_block(largest, largest, credit)
}

fn acking_range(from: PacketNumber, to: PacketNumber) -> Vec<u8> {
    ack_block(from, to, 0)
}

fn ack_block(from: PacketNumber, to: PacketNumber, credit: u64) -> Vec<u8> {
    let mut out = Vec::new();
    packet::put_ack(&mut out, &AckFacts { credit, ..AckFacts::default() }, 0, std::iter::empty());
    put_numbers(&mut out, std::iter::once(from..=to), 100);
    out
}

fn older_range(from: PacketNumber, to: PacketNumber) -> Vec<u8> {
    let mut out = Vec::new();
    packet::put_older(&mut out);
    put_numbers(&mut out, std::iter::once(from..=to), 100);
    out
}
