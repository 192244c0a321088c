//! Says which packets have arrived, in few bytes.
//!
//! Two forms, and the shorter one is sent. Both start from the largest number and go down:
//!
//! ```text
//! ranges   largest, 0, further ranges n, length below largest, n times (gap, length)    long runs, few holes
//! bitmap   largest, 1, bytes n, n bytes; bit i of byte j is largest - 1 - 8 * j - i     short runs, many holes
//! ```
//!
//! Gap and length are those of RFC 9000, section 19.3.1. A number that is not named has not arrived, or is below all
//! that the form had room for; a reader cannot tell these apart and need not.

use std::ops::RangeInclusive;

use super::packet::{PacketError, PacketNumber, take_array, take_slice, take_varint, take_varints};
use super::varint;

/// Smallest room for [`put_numbers`], bytes: the largest number and one range, whatever they are.
pub const NUMBERS_MIN_BYTES: usize = 8 + 1 + 1 + 8;

/// Numbers that have arrived, from `largest` downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers<'a> {
    /// The largest; it has arrived.
    pub largest: PacketNumber,
    form: Form<'a>,
}

/// The encoded rest, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form<'a> {
    /// Length below `largest`, then pairs of gap and length.
    Ranges(&'a [u8]),
    /// Bit i of byte j says whether `largest - 1 - 8 * j - i` has arrived.
    Bitmap(&'a [u8]),
}

impl<'a> Numbers<'a> {
    /// Whether each number has a bit of its own.
    pub fn is_bitmap(&self) -> bool {
        matches!(self.form, Form::Bitmap(_))
    }

    /// The ranges that have arrived, descending, without touching; never empty.
    pub fn ranges(&self) -> Ranges<'a> {
        let form = match self.form {
            Form::Ranges(bytes) => RangesForm::Pairs { bytes, next: Some(self.largest) },
            Form::Bitmap(bytes) => RangesForm::Bits { bytes, largest: self.largest, at: 0, is_first: true },
        };
        Ranges { form }
    }
}

/// Ranges of numbers that have arrived, descending.
#[derive(Clone, Debug)]
pub struct Ranges<'a> {
    form: RangesForm<'a>,
}

#[derive(Clone, Debug)]
enum RangesForm<'a> {
    /// `next` is the end of the next range; its length is at the front of `bytes`.
    Pairs { bytes: &'a [u8], next: Option<PacketNumber> },
    /// Bits from `at` on are still to be told.
    Bits { bytes: &'a [u8], largest: PacketNumber, at: u64, is_first: bool },
}

impl Iterator for Ranges<'_> {
    type Item = RangeInclusive<PacketNumber>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.form {
            RangesForm::Pairs { bytes, next } => {
                let end = (*next)?;
                let start = end - varint::take(bytes)?;
                *next = varint::take(bytes).map(|gap| start - gap - 2);
                Some(start..=end)
            }
            RangesForm::Bits { bytes, largest, at, is_first } => {
                let end = if std::mem::take(is_first) {
                    *largest
                } else {
                    *at = next_bit(bytes, *at, true)?;
                    *largest - 1 - *at
                };
                *at = next_bit(bytes, *at, false).unwrap_or(bytes.len() as u64 * 8);
                Some(*largest - *at..=end)
            }
        }
    }
}

/// The first bit from `at` on that is `wanted`.
fn next_bit(bytes: &[u8], at: u64, wanted: bool) -> Option<u64> {
    let mut index = usize::try_from(at / 8).ok()?;
    let mut skip = at % 8;
    while let Some(&byte) = bytes.get(index) {
        let byte = (if wanted { byte } else { !byte }) >> skip;
        if byte != 0 {
            return Some(index as u64 * 8 + skip + u64::from(byte.trailing_zeros()));
        }
        skip = 0;
        index += 1;
    }
    None
}

const RANGES: u8 = 0;
const BITMAP: u8 = 1;

/// Takes numbers from the front of `rest`. protocol.md [PACKET-7]
pub(super) fn take_numbers<'a>(rest: &mut &'a [u8]) -> Result<Numbers<'a>, PacketError> {
    let below_zero = PacketError("acknowledged numbers below zero");
    let largest = take_varint(rest)?;
    let [form] = take_array(rest)?;
    let form = match form {
        RANGES => {
            let more = take_varint(rest)?;
            let whole = *rest;
            let mut left = largest.checked_sub(take_varint(rest)?).ok_or(below_zero)?;
            for _ in 0..more {
                let [gap, len] = take_varints(rest)?;
                left = left
                    .checked_sub(gap)
                    .and_then(|left| left.checked_sub(2))
                    .and_then(|end| end.checked_sub(len))
                    .ok_or(below_zero)?;
            }
            Form::Ranges(&whole[..whole.len() - rest.len()])
        }
        BITMAP => {
            let len = take_varint(rest)?;
            let bytes = take_slice(rest, len)?;
            // The bits that are set must be of numbers that exist.
            let lowest = bytes.iter().enumerate().rev().find(|(_, byte)| **byte != 0);
            let depth = lowest.map_or(0, |(at, byte)| at as u64 * 8 + 8 - u64::from(byte.leading_zeros()));
            if depth > largest {
                return Err(below_zero);
            }
            Form::Bitmap(bytes)
        }
        _ => return Err(PacketError("an unknown form of acknowledgement")),
    };
    Ok(Numbers { largest, form })
}

/// Appends numbers that have arrived, in at most `room` bytes, which is at least [`NUMBERS_MIN_BYTES`]. `ranges`
/// descend without touching; the first one ends with the largest.
///
/// Takes the form that reaches further down, and of two that reach as far the shorter. Returns the lowest number that
/// is told of; it has arrived, and everything from there up is said, what has arrived and what has not. What has
/// arrived below is for another block.
pub fn put_numbers(
    out: &mut Vec<u8>,
    ranges: impl Iterator<Item = RangeInclusive<PacketNumber>> + Clone,
    room: usize,
) -> PacketNumber {
    assert!(room >= NUMBERS_MIN_BYTES);
    let largest = *ranges.clone().next().expect("something has arrived").end();
    let (before, room) = (out.len(), room - varint::len(largest) - 1);
    let pairs = plan_pairs(ranges.clone(), room);
    let bits = plan_bits(ranges.clone(), largest, room);
    varint::put(out, largest);
    let plan = if (pairs.lowest, pairs.bytes) <= (bits.lowest, bits.bytes) {
        out.push(RANGES);
        put_pairs(out, ranges, pairs.lowest);
        pairs
    } else {
        out.push(BITMAP);
        put_bits(out, ranges, largest, bits.lowest);
        bits
    };
    assert_eq!(out.len() - before, varint::len(largest) + 1 + plan.bytes);
    plan.lowest
}

/// How far down a form reaches, and what it takes behind its type.
struct Plan {
    lowest: PacketNumber,
    bytes: usize,
}

/// As many whole ranges as there is room for.
fn plan_pairs(ranges: impl Iterator<Item = RangeInclusive<PacketNumber>>, room: usize) -> Plan {
    let mut plan = Plan { lowest: 0, bytes: 0 };
    let mut pairs = 0;
    for (further, range) in (0_u64..).zip(ranges) {
        let gap = if further == 0 { 0 } else { varint::len(plan.lowest - range.end() - 2) };
        let grown = pairs + gap + varint::len(range.end() - range.start());
        if grown + varint::len(further) > room {
            break;
        }
        pairs = grown;
        plan = Plan { lowest: *range.start(), bytes: pairs + varint::len(further) };
    }
    assert!(plan.bytes > 0, "the first range fits");
    plan
}

/// Down to the lowest number within reach.
fn plan_bits(
    ranges: impl Iterator<Item = RangeInclusive<PacketNumber>>,
    largest: PacketNumber,
    room: usize,
) -> Plan {
    let bottom = largest.saturating_sub(most_bits(room));
    let lowest = ranges
        .take_while(|range| *range.end() >= bottom)
        .last()
        .map_or(largest, |range| bottom.max(*range.start()));
    let len = (largest - lowest).div_ceil(8);
    Plan { lowest, bytes: varint::len(len) + usize::try_from(len).expect("it is at most the room") }
}

/// Bits of the longest bitmap that fits `room` together with its length.
fn most_bits(room: usize) -> u64 {
    let most = |(len_bytes, most): (usize, usize)| room.saturating_sub(len_bytes).min(most) as u64;
    [(1, 63), (2, 16_383), (4, 1_073_741_823)].map(most).into_iter().max().map_or(0, |bytes| bytes * 8)
}

/// Ranges down to the one that starts with `lowest`.
fn put_pairs(
    out: &mut Vec<u8>,
    ranges: impl Iterator<Item = RangeInclusive<PacketNumber>> + Clone,
    lowest: PacketNumber,
) {
    let told = ranges.take_while(|range| *range.start() >= lowest);
    varint::put(out, told.clone().count() as u64 - 1);
    let mut above: Option<PacketNumber> = None;
    for range in told {
        if let Some(above) = above {
            varint::put(out, above - range.end() - 2);
        }
        varint::put(out, range.end() - range.start());
        above = Some(*range.start());
    }
}

/// A bitmap down to `lowest`.
fn put_bits(
    out: &mut Vec<u8>,
    ranges: impl Iterator<Item = RangeInclusive<PacketNumber>>,
    largest: PacketNumber,
    lowest: PacketNumber,
) {
    let len = (largest - lowest).div_ceil(8);
    varint::put(out, len);
    let at = out.len();
    out.resize(at + usize::try_from(len).expect("it is at most the room"), 0);
    for range in ranges.take_while(|range| *range.end() >= lowest) {
        let start = lowest.max(*range.start());
        // The largest itself has no bit.
        for number in start..largest.min(range.end() + 1) {
            let bit = usize::try_from(largest - 1 - number).expect("it is within the bitmap");
            out[at + bit / 8] |= 1 << (bit % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::varint::VARINT_MAX;
    use super::*;

    type Range = RangeInclusive<PacketNumber>;

    #[test]
    fn a_single_number_takes_two_bytes_more_than_itself() {
        for largest in [0, 1, 63, 64, VARINT_MAX] {
            let (bytes, lowest) = put(&[largest..=largest], 24);

            assert_eq!(bytes.len(), varint::len(largest) + 2);
            assert_eq!(lowest, largest);
            assert_eq!(ranges_of(&bytes), [largest..=largest]);
        }
    }

    #[test]
    fn a_long_run_is_one_range() {
        let (bytes, lowest) = put(&[0..=VARINT_MAX], NUMBERS_MIN_BYTES);

        assert_eq!(bytes.len(), NUMBERS_MIN_BYTES);
        assert!(!take(&bytes).unwrap().is_bitmap());
        assert_eq!(lowest, 0);
        assert_eq!(ranges_of(&bytes), [0..=VARINT_MAX]);
    }

    #[test]
    fn of_two_forms_that_say_the_same_the_shorter_is_taken_and_of_two_as_short_the_ranges() {
        let alternating = |n: u64| (0..n).map(|i| 100 - 2 * i..=100 - 2 * i).collect::<Vec<_>>();
        // Eight numbers below the largest take two bytes either way, nine take two as a range and three as bits.
        let (tie, longer) = (put(&[92..=100], 24).0, put(&[91..=100], 24).0);

        assert_eq!(hex(&tie), "4064".to_owned() + "00" + "0008");
        assert_eq!(hex(&longer), "4064".to_owned() + "00" + "0009");
        assert_eq!(hex(&put(&alternating(2), 24).0), "4064".to_owned() + "01" + "0102");
        assert_eq!(hex(&put(&alternating(5), 24).0), "4064".to_owned() + "01" + "01aa");
    }

    #[test]
    fn when_not_all_fits_the_form_that_reaches_further_is_taken() {
        // Runs of 50 with holes of 50: a range tells of 100 numbers with two bytes, a bitmap of 16.
        let runs: Vec<_> = (0..1000).map(|i| 1_000_000 - 100 * i - 49..=1_000_000 - 100 * i).collect();
        // Every fourth number: a range tells of 4 numbers with two bytes, a bitmap of 16.
        let holes: Vec<_> = (0..1000).map(|i| 1_000_000 - 4 * i..=1_000_000 - 4 * i).collect();
        let room = 4 + 1 + 40;

        let (by_ranges, lowest_by_ranges) = put(&runs, room);
        let (by_bits, lowest_by_bits) = put(&holes, room);

        assert!(!take(&by_ranges).unwrap().is_bitmap());
        // One byte says how many follow, one is the first length, 38 are 19 pairs.
        assert_eq!(lowest_by_ranges, 1_000_000 - 19 * 100 - 49);
        assert!(take(&by_bits).unwrap().is_bitmap());
        assert_eq!(lowest_by_bits, 1_000_000 - 39 * 8);
        assert_eq!((by_ranges.len(), by_bits.len()), (room, room));
    }

    #[test]
    fn a_bitmap_that_is_full_ends_with_the_last_number_that_it_holds() {
        let bytes = [&[0x40, 100, BITMAP, 2][..], &[0xff, 0xff]].concat();

        assert_eq!(ranges_of(&bytes), [84..=100]);
    }

    #[test]
    fn the_longest_bitmap_counts_the_bytes_of_its_own_length() {
        for (room, bytes) in
            [(1, 0), (2, 1), (64, 63), (65, 63), (66, 64), (16_385, 16_383), (16_388, 16_384)]
        {
            assert_eq!(most_bits(room), bytes * 8, "{room}");
        }
    }

    #[test]
    fn numbers_below_zero_are_refused() {
        // protocol.md [PACKET-7]
        let ranges = |largest: u8, pairs: &[u8]| {
            let more = u8::try_from(pairs.len() / 2).unwrap();
            take(&[&[largest, RANGES, more], pairs].concat()).map(|_| ())
        };
        let bitmap = |largest: u8, bits: u8| take(&[largest, BITMAP, 1, bits]).map(|_| ());
        let below = Err(PacketError("acknowledged numbers below zero"));

        assert_eq!(ranges(9, &[9]), Ok(()));
        assert_eq!(ranges(9, &[10]), below);
        assert_eq!(ranges(9, &[3, 1, 3]), Ok(()), "9..=6, then a hole of 5 and 4, then 3..=0");
        assert_eq!(ranges(9, &[3, 1, 4]), below);
        assert_eq!(ranges(9, &[3, 4, 0]), Ok(()));
        assert_eq!(ranges(9, &[3, 5, 0]), below);
        assert_eq!(ranges(9, &[8, 0, 0]), below);
        assert_eq!(bitmap(3, 0b0111), Ok(()));
        assert_eq!(bitmap(3, 0b1000), below);
        assert_eq!(bitmap(0, 0b0000), Ok(()));
        assert_eq!(bitmap(0, 0b0001), below);
    }

    #[test]
    fn an_unknown_form_and_a_cut_are_refused() {
        // protocol.md [PACKET-7]
        assert!(take(&[9, BITMAP, 0]).is_ok());
        assert_eq!(take(&[9, 2, 0]), Err(PacketError("an unknown form of acknowledgement")));
        for whole in [&[9, RANGES, 1, 0, 0, 0][..], &[9, BITMAP, 2, 1, 1]] {
            assert!(take(whole).is_ok());
            for end in 0..whole.len() {
                assert!(take(&whole[..end]).is_err(), "{whole:?} cut at {end}");
            }
        }
    }

    proptest! {
        /// Goal: what is written says exactly the numbers from the returned lowest one up. Method: decode and compare
        /// with what went in, cut off there. Checked besides: the room, and that no form would have reached further
        /// or been shorter, by encoding both the slow way.
        #[test]
        fn what_is_said_is_exact_down_to_the_lowest_number_told(
            ranges in descending_ranges(),
            room in prop_oneof![
                NUMBERS_MIN_BYTES..40,
                NUMBERS_MIN_BYTES..120,
                NUMBERS_MIN_BYTES..1400,
                Just(70_000_usize),
            ],
        ) {
            let (bytes, lowest) = put(&ranges, room);

            let told: Vec<_> = cut_off(&ranges, lowest);
            prop_assert_eq!(ranges_of(&bytes), told);
            prop_assert!(bytes.len() <= room);
            let (slow_lowest, slow_bytes) = slow_pairs(&ranges, room).min(slow_bits(&ranges, room));
            prop_assert_eq!((lowest, bytes.len()), (slow_lowest, slow_bytes));
        }

        #[test]
        fn random_bytes_never_panic_and_give_descending_ranges(
            bytes in vec(prop_oneof![0_u8..4, any::<u8>()], 0..80),
        ) {
            if let Ok(numbers) = take(&bytes) {
                let mut above = numbers.largest + 2;
                for range in numbers.ranges() {
                    prop_assert!(range.start() <= range.end() && range.end() + 1 < above);
                    above = *range.start();
                }
            }
        }
    }

    /// Ranges in descending order without touching: short and long runs, small and large holes, anywhere.
    fn descending_ranges() -> impl Strategy<Value = Vec<Range>> {
        let small = || prop_oneof![6 => 0_u64..4, 3 => 0_u64..100, 1 => 0_u64..30_000];
        let bottom = prop_oneof![Just(0), 0_u64..100_000, Just(VARINT_MAX - (1 << 30))];
        (bottom, vec((small(), small()), 1..300)).prop_map(|(mut at, steps)| {
            let mut ranges = Vec::new();
            for (gap, len) in steps {
                ranges.insert(0, at..=at + len);
                at += len + 2 + gap;
            }
            ranges
        })
    }

    fn put(ranges: &[Range], room: usize) -> (Vec<u8>, PacketNumber) {
        let mut out = Vec::new();
        let lowest = put_numbers(&mut out, ranges.iter().cloned(), room);
        (out, lowest)
    }

    /// Takes all of `bytes`.
    fn take(bytes: &[u8]) -> Result<Numbers<'_>, PacketError> {
        let mut rest = bytes;
        let numbers = take_numbers(&mut rest)?;
        if rest.is_empty() { Ok(numbers) } else { Err(PacketError("bytes are left")) }
    }

    fn ranges_of(bytes: &[u8]) -> Vec<Range> {
        take(bytes).unwrap().ranges().collect()
    }

    fn cut_off(ranges: &[Range], lowest: PacketNumber) -> Vec<Range> {
        let reached = ranges.iter().take_while(|range| *range.end() >= lowest);
        reached.map(|range| lowest.max(*range.start())..=*range.end()).collect()
    }

    /// The lowest number and the length of the longest list of whole ranges within `room`.
    fn slow_pairs(ranges: &[Range], room: usize) -> (PacketNumber, usize) {
        let encoded = |count: usize| {
            let gaps = ranges[..count].windows(2).map(|two| two[0].start() - two[1].end() - 2);
            let lens = ranges[..count].iter().map(|range| range.end() - range.start());
            let values = [*ranges[0].end(), count as u64 - 1].into_iter().chain(gaps).chain(lens);
            1 + values.map(varint::len).sum::<usize>()
        };
        let count = (1..=ranges.len()).rev().find(|&count| encoded(count) <= room).unwrap();
        (*ranges[count - 1].start(), encoded(count))
    }

    /// The lowest number and the length of the shortest bitmap within `room` that says as much as any.
    fn slow_bits(ranges: &[Range], room: usize) -> (PacketNumber, usize) {
        let largest = *ranges[0].end();
        let encoded = |len: u64| varint::len(largest) + 1 + varint::len(len) + usize::try_from(len).unwrap();
        let lowest = |len: u64| {
            let told = cut_off(ranges, largest.saturating_sub(len * 8));
            *told.last().unwrap().start()
        };
        let lens = (0..room as u64).filter(|&len| encoded(len) <= room);
        // Longer ones reach at least as far, so that the shortest can be searched for by halves.
        let lens: Vec<_> = lens.collect();
        let best = lowest(lens[lens.len() - 1]);
        let len = lens[lens.partition_point(|&len| lowest(len) > best)];
        (best, encoded(len))
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }
}
