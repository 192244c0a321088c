//! Which packets have arrived, in few bytes.

use std::ops::RangeInclusive;

use haul::wire::packet::{Block, NUMBERS_MIN_BYTES, PacketNumber, blocks, put_numbers, put_older};
use haul::wire::varint::VARINT_MAX;

use super::bytes::Bytes;

/// What is written fits its room and says exactly what has arrived, from the lowest number that it tells of up.
pub fn numbers(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let room = NUMBERS_MIN_BYTES + usize::from(bytes.half() % 1500);
    let ranges = ranges(&mut bytes);
    if ranges.is_empty() {
        return;
    }

    let mut out = Vec::new();
    put_older(&mut out);
    let start = out.len();
    let lowest = put_numbers(&mut out, ranges.iter().cloned(), room);

    assert!(out.len() - start <= room);
    let told: Vec<_> = ranges
        .iter()
        .take_while(|range| *range.end() >= lowest)
        .map(|range| lowest.max(*range.start())..=*range.end())
        .collect();
    let Some(Ok(Block::Older(numbers))) = blocks(&out).next() else { panic!("what was put is taken") };
    assert_eq!(numbers.ranges().collect::<Vec<_>>(), told);
}

/// Ranges without touching, descending from anywhere.
fn ranges(bytes: &mut Bytes<'_>) -> Vec<RangeInclusive<PacketNumber>> {
    let mut top = Some(bytes.number().min(VARINT_MAX));
    let mut ranges = Vec::new();
    while let Some(end) = top.filter(|_| !bytes.is_empty()) {
        let start = end.saturating_sub(bytes.number());
        ranges.push(start..=end);
        top = start.checked_sub(2).and_then(|top| top.checked_sub(bytes.number()));
    }
    ranges
}
