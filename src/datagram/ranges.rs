//! Sets of numbers as sorted ranges: which bytes of a chunk have arrived, which chunks are placed.

use std::ops::Range;

/// A set of numbers; its ranges are non-empty and neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    ranges: Vec<Range<u64>>,
}

impl Ranges {
    /// Adds a range; says how many of its numbers are new.
    pub fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        // The usual case: right behind the last one.
        if let Some(last) = self.ranges.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
            return range.end - range.start;
        }
        let from = self.ranges.partition_point(|other| other.end < range.start);
        let to = self.ranges.partition_point(|other| other.start <= range.end);
        let touched = &self.ranges[from..to];
        let known: u64 = touched
            .iter()
            .map(|other| other.end.min(range.end).saturating_sub(other.start.max(range.start)))
            .sum();
        let start = touched.first().map_or(range.start, |other| other.start.min(range.start));
        let end = touched.last().map_or(range.end, |other| other.end.max(range.end));
        self.ranges.splice(from..to, std::iter::once(start..end));
        range.end - range.start - known
    }

    /// The first part of `range` that is not in the set, if any.
    pub fn first_missing(&self, range: Range<u64>) -> Option<Range<u64>> {
        let at = self.ranges.partition_point(|other| other.end <= range.start);
        let (start, next) = match self.ranges.get(at) {
            Some(other) if other.start <= range.start => {
                (other.end, self.ranges.get(at + 1).map(|next| next.start))
            }
            Some(other) => (range.start, Some(other.start)),
            None => (range.start, None),
        };
        let end = next.map_or(range.end, |next| next.min(range.end));
        (start < end).then_some(start..end)
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Range<u64>> {
        self.ranges.iter()
    }

    /// Takes the first range out if it begins at `start`; gives its end.
    pub fn take_front(&mut self, start: u64) -> Option<u64> {
        let end = self.ranges.first().filter(|first| first.start == start)?.end;
        self.ranges.remove(0);
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_melt_together_and_only_new_numbers_count() {
        let mut ranges = Ranges::default();

        assert_eq!(ranges.insert(10..20), 10);
        assert_eq!(ranges.insert(30..40), 10);
        assert_eq!(ranges.insert(15..35), 10);
        assert_eq!(ranges.insert(15..35), 0);

        assert_eq!(ranges.iter().next(), Some(&(10..40)));
        assert_eq!(ranges.len(), 1);
        assert_eq!(ranges.first_missing(0..50), Some(0..10));
        assert_eq!(ranges.first_missing(10..50), Some(40..50));
        assert_eq!(ranges.first_missing(10..40), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in prop::collection::vec((0_u64..60, 0_u64..10), 0..50)) {
            let mut ranges = Ranges::default();
            let mut set = BTreeSet::new();

            for (start, len) in steps {
                let before = set.len();
                set.extend(start..start + len);
                prop_assert_eq!(ranges.insert(start..start + len), (set.len() - before) as u64);
            }

            let all: Vec<u64> = ranges.iter().cloned().flatten().collect();
            prop_assert_eq!(all, set.iter().copied().collect::<Vec<_>>());
            for pair in ranges.iter().collect::<Vec<_>>().windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
            for start in 0..70 {
                let missing: Vec<u64> = (start..70)
                    .skip_while(|n| set.contains(n))
                    .take_while(|n| !set.contains(n))
                    .collect();
                let expected = missing.first().map(|first| *first..first + missing.len() as u64);
                prop_assert_eq!(ranges.first_missing(start..70), expected);
            }
        }
    }
}
