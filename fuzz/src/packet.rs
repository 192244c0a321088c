//! What an opened packet of a flow holds.

use std::ops::RangeInclusive;

use haul::limits;
use haul::wire::packet::{self, Ack, AckFacts, Block, Header, Numbers, blocks};

/// What is taken keeps its rules, and means the same when it is written once more.
pub fn packet(data: &[u8]) {
    if let Some(header) = Header::decode(data) {
        assert!(data.starts_with(&header.encode()));
    }
    let mut content = 0;
    let mut is_over = false;
    for block in blocks(data) {
        assert!(!is_over, "nothing follows an error");
        match block {
            Err(_) => is_over = true,
            Ok(block) => {
                if let Block::Data(piece) = &block {
                    content += piece.bytes.len();
                    assert!(piece.at as usize + piece.bytes.len() <= piece.len as usize);
                    assert!(piece.len as usize <= limits::CHUNK_MAX_BYTES);
                }
                survives(&block);
            }
        }
    }
    assert!(content <= data.len());
}

fn survives(block: &Block<'_>) {
    let mut out = Vec::new();
    match block {
        Block::Ping => packet::put_ping(&mut out),
        Block::Data(piece) => piece.put(&mut out),
        Block::Ack(ack) => put_ack(&mut out, ack),
        Block::Older(numbers) => {
            packet::put_older(&mut out);
            put_numbers(&mut out, numbers);
        }
        Block::Floor(floor) => packet::put_floor(&mut out, floor),
        Block::Challenge(token) => packet::put_challenge(&mut out, *token),
        Block::Response(token) => packet::put_response(&mut out, *token),
        Block::Close(reason) => packet::put_close(&mut out, *reason),
    }
    let again: Vec<_> = blocks(&out).collect::<Result<_, _>>().expect("our own blocks");

    let [again] = again[..] else { panic!("one block was written") };
    match (block, again) {
        (Block::Ack(ack), Block::Ack(again)) => {
            assert_eq!(facts(ack), facts(&again));
            assert_eq!(ack.placed.floor, again.placed.floor);
            assert!(ack.placed.ranges().eq(again.placed.ranges()));
            assert!(ack.numbers.ranges().eq(again.numbers.ranges()));
        }
        (Block::Older(numbers), Block::Older(again)) => assert!(numbers.ranges().eq(again.ranges())),
        (block, again) => assert_eq!(*block, again),
    }
}

fn put_ack(out: &mut Vec<u8>, ack: &Ack<'_>) {
    let placed: Vec<RangeInclusive<u64>> = ack.placed.ranges().collect();
    assert!(placed.len() <= limits::PLACED_RANGES_MAX);
    let mut next = ack.placed.floor;
    for range in &placed {
        assert!(next < *range.start() && range.start() <= range.end());
        next = range.end() + 1;
    }
    packet::put_ack(out, &facts(ack), ack.placed.floor, placed.into_iter());
    put_numbers(out, &ack.numbers);
}

fn put_numbers(out: &mut Vec<u8>, numbers: &Numbers<'_>) {
    let ranges: Vec<RangeInclusive<u64>> = numbers.ranges().collect();
    assert_eq!(ranges.first().map(|range| *range.end()), Some(numbers.largest));
    assert!(ranges.iter().all(|range| range.start() <= range.end()));
    assert!(ranges.windows(2).all(|two| two[1].end() + 1 < *two[0].start()));
    let lowest = packet::put_numbers(out, ranges.iter().cloned(), 1 << 20);
    assert!(ranges.last().is_some_and(|last| lowest == *last.start()));
}

fn facts(ack: &Ack<'_>) -> AckFacts {
    AckFacts { received_us: ack.received_us, delay_us: ack.delay_us, drops: ack.drops, credit: ack.credit }
}
