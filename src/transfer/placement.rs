//! Knows which byte ranges of a file have been placed, in whatever order they came.
//!
//! The receiver's map: every chunk and hole is entered once, neighbours melt together, and a file is complete when
//! one range is left that covers it. Memory is proportional to the gaps, not to the chunks, and bounded by
//! [`RANGES_MAX`]. It holds no bytes and knows no file; it refuses what an honest sender never sends.

use std::ops::Range;

/// Most separate placed ranges of one file. Credit bounds what an honest sender can scatter to far fewer.
pub const RANGES_MAX: usize = 65_536;
/// The same for a file that comes over a raw flow, where every loss leaves a gap: 3 GB of which 10 % are lost, and 4 MiB
/// of memory. Further pieces are left out.
pub const RAW_RANGES_MAX: usize = 262_144;
const _: () = assert!(RANGES_MAX <= RAW_RANGES_MAX);

/// The placed ranges of one file.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Sorted, non-empty, neither overlapping nor touching.
    ranges: Vec<Range<u64>>,
    /// The file's size, where it was announced; nothing is placed beyond it.
    declared_size: Option<u64>,
    /// Sum of the lengths of `ranges`, bytes.
    placed_bytes: u64,
}

/// Why a range was not placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// A range without bytes.
    #[error("an empty range at offset {offset}")]
    Empty {
        /// Where it was to go.
        offset: u64,
    },
    /// The end does not fit 64 bits.
    #[error("{len} bytes at offset {offset} end beyond the largest possible file")]
    TooFar {
        /// Where they were to go.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The end lies beyond the announced size.
    #[error("{len} bytes at offset {offset} end beyond the announced size of {size}")]
    BeyondSize {
        /// Where they were to go.
        offset: u64,
        /// How many.
        len: u64,
        /// The announced size, bytes.
        size: u64,
    },
    /// Some of these bytes are placed already.
    #[error("{len} bytes at offset {offset} overlap bytes that are there already")]
    Overlap {
        /// Where they were to go.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// More gaps than [`RANGES_MAX`] allows.
    #[error("the file arrives in more than {RANGES_MAX} separate pieces")]
    TooScattered,
}

impl Placement {
    /// Nothing placed, of a file of `declared_size` bytes; `None` where the size shows only at the end.
    pub fn new(declared_size: Option<u64>) -> Self {
        Self { ranges: Vec::new(), declared_size, placed_bytes: 0 }
    }

    /// Enters `len` bytes at `offset`. After an error nothing has changed.
    pub fn place(&mut self, offset: u64, len: u64) -> Result<(), PlaceError> {
        self.place_among(offset, len, RANGES_MAX)
    }

    /// As [`Self::place`], with room for as many pieces as a path leaves that loses.
    pub fn place_raw(&mut self, offset: u64, len: u64) -> Result<(), PlaceError> {
        self.place_among(offset, len, RAW_RANGES_MAX)
    }

    fn place_among(&mut self, offset: u64, len: u64, ranges_max: usize) -> Result<(), PlaceError> {
        if len == 0 {
            return Err(PlaceError::Empty { offset });
        }
        // protocol.md [DATA-6]
        let end = offset.checked_add(len).ok_or(PlaceError::TooFar { offset, len })?;
        if let Some(size) = self.declared_size
            && end > size
        {
            return Err(PlaceError::BeyondSize { offset, len, size });
        }

        let after = match self.ranges.last() {
            // The usual case: behind everything.
            Some(last) if last.end <= offset => self.ranges.len(),
            _ => self.ranges.partition_point(|range| range.end <= offset),
        };
        if self.ranges.get(after).is_some_and(|next| next.start < end) {
            return Err(PlaceError::Overlap { offset, len });
        }
        let joins_next = self.ranges.get(after).is_some_and(|next| next.start == end);
        let joins_previous = after > 0 && self.ranges[after - 1].end == offset;
        match (joins_previous, joins_next) {
            (true, true) => {
                self.ranges[after - 1].end = self.ranges[after].end;
                self.ranges.remove(after);
            }
            (true, false) => self.ranges[after - 1].end = end,
            (false, true) => self.ranges[after].start = offset,
            (false, false) if self.ranges.len() >= ranges_max => return Err(PlaceError::TooScattered),
            (false, false) => self.ranges.insert(after, offset..end),
        }
        self.placed_bytes += len;
        Ok(())
    }

    /// Enters a range of which some may be placed already; an empty one changes nothing.
    pub fn cover(&mut self, range: Range<u64>) {
        let mut range = range;
        self.uncover(range.clone());
        if range.is_empty() {
            return;
        }
        self.placed_bytes += range.end - range.start;
        let from = self.ranges.partition_point(|before| before.end < range.start);
        let to = self.ranges.partition_point(|before| before.start <= range.end);
        for touching in self.ranges.drain(from..to) {
            range = range.start.min(touching.start)..range.end.max(touching.end);
        }
        self.ranges.insert(from, range);
    }

    /// Takes a range out, of which some may not be placed.
    pub fn uncover(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|placed| placed.end <= range.start);
        let to = self.ranges.partition_point(|placed| placed.start < range.end);
        let cut: Vec<_> = self.ranges.drain(from..to).collect();
        let (Some(first), Some(last)) = (cut.first(), cut.last()) else { return };
        let left = [first.start..range.start, range.end..last.end];
        let left = left.into_iter().filter(|left| !left.is_empty());
        self.placed_bytes -= cut.iter().map(|range| range.end - range.start).sum::<u64>();
        self.placed_bytes += left.clone().map(|range| range.end - range.start).sum::<u64>();
        self.ranges.splice(from..from, left);
    }

    /// The placed ranges, ascending.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// The same ranges, of a file of `size` bytes.
    pub fn of_size(self, size: u64) -> Self {
        Self { declared_size: Some(size), ..self }
    }

    /// The same ranges of a file of `size` bytes: what lies beyond is left out, and at most the `count` longest stay.
    pub fn within(&self, size: u64, count: usize) -> Self {
        let clipped = self.ranges.iter().map(|range| range.start..range.end.min(size));
        let mut ranges: Vec<_> = clipped.filter(|range| !range.is_empty()).collect();
        if ranges.len() > count {
            ranges.sort_by_key(|range| std::cmp::Reverse(range.end - range.start));
            ranges.truncate(count);
            ranges.sort_by_key(|range| range.start);
        }
        let placed_bytes = ranges.iter().map(|range| range.end - range.start).sum();
        Self { ranges, declared_size: Some(size), placed_bytes }
    }

    /// Whether every byte of a file of `size` bytes is placed, and none beyond.
    pub fn is_complete(&self, size: u64) -> bool {
        match self.ranges.as_slice() {
            [] => size == 0,
            [only] => *only == (0..size),
            _ => false,
        }
    }

    /// What is missing of a file of `size` bytes, ascending; `None` if something lies beyond.
    pub fn missing(&self, size: u64) -> Option<impl Iterator<Item = Range<u64>>> {
        if self.ranges.last().is_some_and(|last| last.end > size) {
            return None;
        }
        let starts = std::iter::once(0).chain(self.ranges.iter().map(|range| range.end));
        let ends = self.ranges.iter().map(|range| range.start).chain(std::iter::once(size));
        Some(starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()))
    }

    /// How many bytes are placed.
    pub fn placed_bytes(&self) -> u64 {
        self.placed_bytes
    }

    /// Where the placed bytes that hold `offset` end; `offset` itself where that byte is not placed.
    pub fn contiguous_from(&self, offset: u64) -> u64 {
        let at = self.ranges.partition_point(|range| range.end <= offset);
        match self.ranges.get(at) {
            Some(range) if range.start <= offset => range.end,
            _ => offset,
        }
    }

    /// How many separate ranges are placed.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_in_any_order_become_one_range() {
        let mut placement = Placement::new(Some(30));

        for offset in [20, 0, 10] {
            placement.place(offset, 10).unwrap();
        }

        assert_eq!(placement.range_count(), 1);
        assert!(placement.is_complete(30));
        assert!(!placement.is_complete(29));
        assert!(!placement.is_complete(31));
    }

    #[test]
    fn an_empty_file_is_complete_at_once() {
        assert!(Placement::new(Some(0)).is_complete(0));
        assert!(!Placement::new(None).is_complete(1));
    }

    #[test]
    fn every_refusal_names_its_reason_and_changes_nothing() {
        // protocol.md [DATA-6]
        let mut placement = Placement::new(Some(100));
        placement.place(10, 10).unwrap();

        assert_eq!(placement.place(5, 0), Err(PlaceError::Empty { offset: 5 }));
        assert_eq!(placement.place(90, 11), Err(PlaceError::BeyondSize { offset: 90, len: 11, size: 100 }));
        assert_eq!(placement.place(u64::MAX, 2), Err(PlaceError::TooFar { offset: u64::MAX, len: 2 }));
        for (offset, len) in [(10, 10), (9, 2), (19, 1), (0, 100), (12, 3)] {
            assert_eq!(placement.place(offset, len), Err(PlaceError::Overlap { offset, len }));
        }

        assert_eq!(placement.placed_bytes(), 10);
        assert_eq!(placement.range_count(), 1);
        placement.place(90, 10).unwrap();
        placement.place(0, 10).unwrap();
    }

    #[test]
    fn scatter_is_bounded_just_there() {
        // protocol.md [DATA-6]
        let mut placement = Placement::new(None);
        for i in 0..RANGES_MAX as u64 {
            placement.place(i * 2, 1).unwrap();
        }

        assert_eq!(placement.place(RANGES_MAX as u64 * 2, 1), Err(PlaceError::TooScattered));
        placement.place(1, 1).unwrap();
        placement.place(RANGES_MAX as u64 * 2, 1).unwrap();
    }

    #[test]
    fn a_stream_without_a_size_may_reach_the_end_of_the_number_range() {
        let mut placement = Placement::new(None);

        placement.place(u64::MAX - 1, 1).unwrap();

        assert_eq!(placement.contiguous_from(u64::MAX - 1), u64::MAX);
    }

    #[test]
    fn what_lies_beyond_a_size_is_left_out_and_the_longest_ranges_stay() {
        let mut placement = Placement::new(None);
        for range in [0..5, 10..30, 40..42, 50..90] {
            placement.cover(range);
        }

        let within = placement.within(60, 2);

        assert_eq!(within.ranges(), [10..30, 50..60]);
        assert_eq!(within.placed_bytes(), 30);
        assert_eq!(placement.within(60, 9).placed_bytes(), 37);
        assert!(placement.within(0, 9).ranges().is_empty());
    }

    proptest! {
        #[test]
        fn covering_and_uncovering_agree_with_a_bitmap(
            steps in prop::collection::vec((0_u64..60, 0_u64..20, any::<bool>()), 0..60)
        ) {
            let mut placement = Placement::new(None);
            let mut bitmap = [false; 80];

            for (start, len, is_placed) in steps {
                match is_placed {
                    true => placement.cover(start..start + len),
                    false => placement.uncover(start..start + len),
                }
                let range = usize::try_from(start).unwrap()..usize::try_from(start + len).unwrap();
                bitmap[range].fill(is_placed);
                let runs = (0..80).filter(|&i| bitmap[i] && (i == 0 || !bitmap[i - 1])).count();

                prop_assert_eq!(placement.placed_bytes(), bitmap.iter().filter(|&&placed| placed).count() as u64);
                prop_assert_eq!(placement.range_count(), runs);
                for (at, &placed) in (0..).zip(&bitmap) {
                    prop_assert_eq!(placement.contiguous_from(at) > at, placed);
                }
            }
        }

        #[test]
        fn it_agrees_with_a_bitmap(steps in prop::collection::vec((0_u64..70, 0_u64..12), 0..60)) {
            let mut placement = Placement::new(Some(64));
            let mut bitmap = [false; 64];

            for (offset, len) in steps {
                let fits = len > 0 && offset + len <= 64;
                let range = usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap();
                let free = fits && bitmap[range.clone()].iter().all(|placed| !placed);

                prop_assert_eq!(placement.place(offset, len).is_ok(), free);
                if free {
                    bitmap[range].fill(true);
                }
            }

            let count = bitmap.iter().filter(|&&placed| placed).count();
            prop_assert_eq!(placement.placed_bytes(), count as u64);
            prop_assert_eq!(placement.is_complete(64), count == 64);
            let runs = (0..64).filter(|&i| bitmap[i] && (i == 0 || !bitmap[i - 1])).count();
            prop_assert_eq!(placement.range_count(), runs);
            let mut missing = [true; 64];
            for range in placement.missing(64).unwrap() {
                for at in range {
                    prop_assert!(!bitmap[usize::try_from(at).unwrap()]);
                    missing[usize::try_from(at).unwrap()] = false;
                }
            }
            prop_assert_eq!(&missing[..], &bitmap[..]);
            prop_assert_eq!(placement.missing(63).is_none(), bitmap[63]);
            for start in 0..64 {
                let run = bitmap[start..].iter().take_while(|&&placed| placed).count();
                prop_assert_eq!(placement.contiguous_from(start as u64), (start + run) as u64);
            }
        }
    }
}
