use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn a_header_has_thirteen_bytes() {
    // protocol.md [PACKET-1]
    let header = Header { key_phase: true, connection: 0x0403_0201, number: 0x0c0b_0a09_0807_0605 };

    assert_eq!(header.encode(), [0x41, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    assert_eq!(Header { key_phase: false, ..header }.encode()[0], 0x40);
}

#[test]
fn a_datagram_that_does_not_begin_as_a_packet_is_none() {
    // protocol.md [PACKET-1]
    let header = Header { key_phase: false, connection: 7, number: VARINT_MAX - 1 };
    let whole = header.encode();
    let first = |first: u8| [&[first], &whole[1..]].concat();

    assert_eq!(Header::decode(&whole), Some(header));
    assert_eq!(Header::decode(&whole[..12]), None);
    assert_eq!(Header::decode(&[]), None);
    assert!((0..=255).filter(|&byte| Header::decode(&first(byte)).is_some()).eq([0x40, 0x41]));
    let beyond = [&whole[..5], &VARINT_MAX.to_le_bytes()].concat();
    assert_eq!(Header::decode(&beyond), None, "a number of 2^62");
}

#[test]
fn blocks_come_in_order_and_end_with_padding() {
    let mut payload = Vec::new();
    put_ping(&mut payload);
    put_close(&mut payload, CloseReason::Unfit);
    put_padding(&mut payload, 20);

    assert_eq!(payload.len(), 20);
    assert_eq!(all(&payload), Ok(vec![Block::Ping, Block::Close(CloseReason::Unfit)]));
    assert_eq!(all(&[]), Ok(vec![]));
    assert_eq!(all(&[0; 9]), Ok(vec![]));
}

#[test]
fn padding_never_shortens() {
    let mut payload = vec![PING; 5];

    put_padding(&mut payload, 3);

    assert_eq!(payload, [PING; 5]);
}

#[test]
fn an_error_ends_the_blocks() {
    // protocol.md [PACKET-5]
    let payload = [PING, 9, PING];
    let mut blocks = blocks(&payload);

    assert_eq!(blocks.next(), Some(Ok(Block::Ping)));
    assert_eq!(blocks.next(), Some(Err(PacketError("an unknown block"))));
    assert_eq!(blocks.next(), None);
}

#[test]
fn unknown_blocks_reasons_and_unclean_padding_are_refused() {
    // protocol.md [PACKET-5]
    assert_eq!(all(&[CLOSE, 2]), Ok(vec![Block::Close(CloseReason::Unfit)]));
    assert_eq!(all(&[CLOSE, 3]), Err(PacketError("an unknown reason to close")));
    for kind in 9..=255 {
        assert_eq!(all(&[kind]), Err(PacketError("an unknown block")));
    }
    assert_eq!(all(&[PING, 0, 0, 1]), Err(PacketError("padding that is not zero")));
}

#[test]
fn every_block_that_is_cut_is_refused() {
    // protocol.md [PACKET-5]
    for block in one_of_each() {
        assert_eq!(all(&block).map(|blocks| blocks.len()), Ok(1));
        for end in 1..block.len() {
            assert!(all(&block[..end]).is_err(), "{block:?} cut at {end}");
        }
    }
}

#[test]
fn integers_that_are_longer_than_they_need_be_are_refused() {
    // protocol.md [PACKET-4]
    assert!(all(&[FLOOR, 0, 0, 37]).is_ok());
    assert_eq!(all(&[FLOOR, 0, 0, 0x40, 37]), Err(CUT));
}

#[test]
fn content_lies_within_its_chunk() {
    // protocol.md [PACKET-6]
    let max = u32::try_from(limits::CHUNK_MAX_BYTES).unwrap();
    let content = |len: u32, at: u32, bytes: &[u8]| {
        let mut out = vec![DATA, 0, 0, 0];
        varint::put(&mut out, len.into());
        varint::put(&mut out, at.into());
        out.extend_from_slice(&u16::try_from(bytes.len()).unwrap().to_le_bytes());
        out.extend_from_slice(bytes);
        all(&out).map(|_| ())
    };
    let outside = Err(PacketError("content outside of its chunk"));

    assert_eq!(content(1, 0, &[7]), Ok(()));
    assert_eq!(content(1, 0, &[]), outside, "no content");
    assert_eq!(content(0, 0, &[]), outside, "no chunk");
    assert_eq!(content(1, 1, &[7]), outside);
    assert_eq!(content(100, 97, &[7; 3]), Ok(()));
    assert_eq!(content(100, 98, &[7; 3]), outside);
    assert_eq!(content(max, max - 1, &[7]), Ok(()));
    assert_eq!(content(max + 1, 0, &[7]), outside, "a chunk that is too long");
    assert_eq!(content(max, u32::MAX, &[7]), outside);
}

#[test]
fn content_beyond_all_integers_is_refused() {
    // protocol.md [PACKET-6]
    let content = |len: u64, at: u64| {
        let mut out = vec![DATA, 0, 0, 0];
        varint::put(&mut out, len);
        varint::put(&mut out, at);
        out.extend_from_slice(&[1, 0, 7]);
        all(&out).map(|_| ())
    };

    assert_eq!(content(1 << 16, 0), Ok(()));
    assert!(content((1 << 32) + (1 << 16), 0).is_err(), "a length whose low half is right");
    assert!(content(1 << 16, 1 << 32).is_err(), "a place whose low half is right");
    assert!(content(1 << 16, VARINT_MAX).is_err());
}

#[test]
fn the_overhead_of_content_is_never_too_small() {
    for (chunk, offset, len) in [(0, 0, 1), (63, 64, 65), (VARINT_MAX, VARINT_MAX, 4 << 20)] {
        let block = Data { chunk, file: chunk, offset, len, at: len - 1, bytes: &[7] };
        let mut out = Vec::new();

        block.put(&mut out);

        assert_eq!(out.len(), Data::overhead(chunk, chunk, offset, len) + 1);
    }
}

#[test]
fn placed_ranges_are_few_and_end_below_the_largest_integer() {
    // protocol.md [PACKET-7]
    let ack = |floor: u64, count: u64, steps: &[u64]| {
        let mut out = vec![ACK, 0, 0, 0, 0];
        for &value in [floor, count].iter().chain(steps) {
            varint::put(&mut out, value);
        }
        out.extend_from_slice(&[5, 1, 0]);
        all(&out).map(|_| ())
    };
    let beyond = Err(PacketError("a placed range beyond all numbers"));
    let most = limits::PLACED_RANGES_MAX;

    assert_eq!(ack(0, most as u64, &vec![0; 2 * most]), Ok(()));
    let too_many = ack(0, most as u64 + 1, &vec![0; 2 * most + 2]);
    assert_eq!(too_many, Err(PacketError("too many placed ranges")));
    assert_eq!(ack(VARINT_MAX - 2, 1, &[0, 0]), Ok(()));
    assert_eq!(ack(VARINT_MAX - 1, 1, &[0, 0]), beyond);
    assert_eq!(ack(VARINT_MAX - 2, 1, &[1, 0]), beyond);
    assert_eq!(ack(VARINT_MAX - 2, 1, &[0, 1]), beyond);
    assert_eq!(ack(VARINT_MAX, 1, &[VARINT_MAX, VARINT_MAX]), beyond);
    assert_eq!(ack(VARINT_MAX, 0, &[]), Ok(()));
}

#[test]
fn of_many_placed_ranges_the_lowest_are_said() {
    let placed: Vec<_> = (0..100).map(|i| 10 + 5 * i..=11 + 5 * i).collect();
    let mut out = Vec::new();

    put_ack(&mut out, &AckFacts::default(), 7, placed.iter().cloned());
    put_numbers(&mut out, std::iter::once(3..=3), 24);

    let blocks = all(&out).unwrap();
    let [Block::Ack(ack)] = &blocks[..] else { panic!("{blocks:?}") };
    assert_eq!(ack.placed.floor, 7);
    assert!(ack.placed.ranges().eq(placed[..limits::PLACED_RANGES_MAX].iter().cloned()));
}

proptest! {
    #[test]
    fn a_header_is_read_as_it_was_written(key_phase: bool, connection: u32, number in 0..VARINT_MAX) {
        let header = Header { key_phase, connection, number };

        prop_assert_eq!(Header::decode(&header.encode()), Some(header));
    }

    #[test]
    fn content_is_read_as_it_was_written(
        (chunk, file, offset) in (integer(), integer(), integer()),
        bytes in vec(any::<u8>(), 1..1500),
        (at, behind) in (0_u32..1000, 0_u32..1000),
    ) {
        let len = at + u32::try_from(bytes.len()).unwrap() + behind;
        let data = Data { chunk, file, offset, len, at, bytes: &bytes };
        let mut out = Vec::new();

        data.put(&mut out);

        prop_assert_eq!(all(&out), Ok(vec![Block::Data(data)]));
    }

    #[test]
    fn an_acknowledgement_is_read_as_it_was_written(
        (received_us, delay_us, drops, credit) in (integer(), integer(), integer(), integer()),
        floor in 0_u64..1 << 40,
        steps in vec((0_u64..300, 0_u64..300), 0..limits::PLACED_RANGES_MAX),
        largest in integer(),
    ) {
        let mut next = floor;
        let placed: Vec<_> = steps.iter().map(|(gap, len)| {
            let start = next + gap + 1;
            next = start + len + 1;
            start..=start + len
        }).collect();
        let facts = AckFacts { received_us, delay_us, drops, credit };
        let mut out = Vec::new();

        put_ack(&mut out, &facts, floor, placed.iter().cloned());
        put_numbers(&mut out, std::iter::once(0..=largest), 24);
        put_older(&mut out);
        put_numbers(&mut out, std::iter::once(largest..=largest), 24);

        let blocks = all(&out).unwrap();
        let [Block::Ack(ack), Block::Older(older)] = &blocks[..] else { panic!("{blocks:?}") };
        let Ack { received_us, delay_us, drops, credit, .. } = *ack;
        prop_assert_eq!(AckFacts { received_us, delay_us, drops, credit }, facts);
        prop_assert_eq!(ack.placed.floor, floor);
        prop_assert!(ack.placed.ranges().eq(placed));
        prop_assert!(ack.numbers.ranges().eq([0..=largest]));
        prop_assert!(older.ranges().eq([largest..=largest]));
    }

    #[test]
    fn small_blocks_are_read_as_they_were_written(
        (floor, ack_interval_us, heard) in (integer(), integer(), integer()),
        token: [u8; 8],
        reason in prop_oneof![
            Just(CloseReason::Done), Just(CloseReason::Violation), Just(CloseReason::Unfit),
        ],
    ) {
        let floor = Floor { floor, ack_interval_us, heard };
        let mut out = Vec::new();

        put_floor(&mut out, &floor);
        put_challenge(&mut out, token);
        put_response(&mut out, token);
        put_close(&mut out, reason);
        put_ping(&mut out);

        let blocks = vec![
            Block::Floor(floor),
            Block::Challenge(token),
            Block::Response(token),
            Block::Close(reason),
            Block::Ping,
        ];
        prop_assert_eq!(all(&out), Ok(blocks));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(prop_oneof![0_u8..10, any::<u8>()], 0..300)) {
        let _ = Header::decode(&bytes);
        for block in blocks(&bytes) {
            walk(block);
        }
    }

    #[test]
    fn blocks_with_a_wrong_byte_never_panic(
        which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let all = one_of_each();
        let mut bytes = which.get(&all).clone();
        *at.get_mut(&mut bytes) = byte;
        for block in blocks(&bytes) {
            walk(block);
        }
    }
}

/// Goes through all that a block hands out.
fn walk(block: Result<Block<'_>, PacketError>) {
    match block {
        Ok(Block::Ack(ack)) => {
            assert!(ack.placed.ranges().all(|range| range.end() < &VARINT_MAX));
            assert!(ack.numbers.ranges().all(|range| range.end() <= &ack.numbers.largest));
        }
        Ok(Block::Older(numbers)) => {
            assert!(numbers.ranges().all(|range| range.end() <= &numbers.largest));
        }
        Ok(Block::Data(data)) => assert!(data.at as usize + data.bytes.len() <= data.len as usize),
        _ => {}
    }
}

/// Integers of all lengths.
fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![0..=63_u64, 64..=16_383_u64, 16_384..=1_073_741_823_u64, 1_073_741_824..=VARINT_MAX]
}

/// Every type of block, long enough to be cut anywhere.
fn one_of_each() -> Vec<Vec<u8>> {
    let mut blocks = vec![Vec::new(); 8];
    put_ping(&mut blocks[0]);
    Data { chunk: 1, file: 2, offset: 70_000, len: 100, at: 90, bytes: b"content" }.put(&mut blocks[1]);
    put_ack(
        &mut blocks[2],
        &AckFacts { received_us: 1 << 40, delay_us: 70, drops: 1, credit: 1 << 20 },
        3,
        [5..=6, 9..=9].into_iter(),
    );
    put_numbers(&mut blocks[2], [100..=110, 90..=95].into_iter(), 24);
    put_older(&mut blocks[3]);
    put_numbers(&mut blocks[3], [80..=80, 78..=78, 70..=71].into_iter(), 24);
    put_floor(&mut blocks[4], &Floor { floor: 70, ack_interval_us: 12_500, heard: 1 });
    put_challenge(&mut blocks[5], *b"question");
    put_response(&mut blocks[6], *b"question");
    put_close(&mut blocks[7], CloseReason::Done);
    blocks
}

fn all(payload: &[u8]) -> Result<Vec<Block<'_>>, PacketError> {
    blocks(payload).collect()
}
