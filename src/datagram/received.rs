//! Remembers which packet numbers have arrived: the replay window, and what there is to acknowledge.
//!
//! One bit a number, from a floor to the largest. The floor is the peer's: it says which numbers it no longer waits
//! for, so that the window is as wide as its rate and the path's reordering make it. Only a peer that never moves it
//! is cut short, at `limits::PACKET_WINDOW_MAX`. What lies below the floor counts as received.

use std::{collections::VecDeque, ops::RangeInclusive};

use crate::{limits, wire::packet::PacketNumber};

/// Received numbers of one direction of a flow.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Numbers below are neither remembered nor taken.
    floor: PacketNumber,
    /// One more than the largest received; 0 for none.
    end: PacketNumber,
    /// Bits of the numbers from `first_word * 64` on.
    words: VecDeque<u64>,
    first_word: u64,
}

/// What a number is to the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Seen before, or too old to tell.
    Duplicate,
    /// The largest so far, right behind the one before.
    Next,
    /// The largest so far; numbers before it are missing.
    Ahead,
    /// One that was missing.
    Late,
}

impl Arrival {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Next => "next",
            Self::Ahead => "ahead",
            Self::Late => "late",
        }
    }
}

impl Received {
    /// Whether `number` was seen before, or lies below the floor.
    pub fn is_duplicate(&self, number: PacketNumber) -> bool {
        number < self.floor || (number < self.end && self.bit(number))
    }

    /// Enters a number.
    pub fn insert(&mut self, number: PacketNumber) -> Arrival {
        if self.is_duplicate(number) {
            return Arrival::Duplicate;
        }
        let arrival = match number.checked_sub(self.end) {
            None => Arrival::Late,
            Some(0) => Arrival::Next,
            Some(_) => Arrival::Ahead,
        };
        if number >= self.end {
            self.end = number + 1;
            if self.end - self.floor.min(self.end) > limits::PACKET_WINDOW_MAX {
                self.set_floor(self.end - limits::PACKET_WINDOW_MAX);
            }
        }
        let word = number / 64;
        if self.words.is_empty() {
            self.first_word = self.floor / 64;
        }
        let at = usize::try_from(word - self.first_word).expect("within the window");
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (number % 64);
        arrival
    }

    /// Forgets all below `floor`. It never falls, and does not pass the largest that was received: while there is one,
    /// there is something to acknowledge.
    pub fn set_floor(&mut self, floor: PacketNumber) {
        self.floor = self.floor.max(floor.min(self.end.saturating_sub(1)));
        while self.first_word < self.floor / 64 && self.words.pop_front().is_some() {
            self.first_word += 1;
        }
    }

    /// One more than the largest number received; 0 for none.
    pub fn end(&self) -> PacketNumber {
        self.end
    }

    /// Whether a number between the floor and the largest is missing.
    pub fn has_gaps(&self) -> bool {
        self.ranges_below(self.end).next().is_some_and(|newest| *newest.start() > self.floor)
    }

    /// The received ranges below `end`, descending. Above the floor only.
    pub fn ranges_below(
        &self,
        end: PacketNumber,
    ) -> impl Iterator<Item = RangeInclusive<PacketNumber>> + Clone {
        let mut next = end.min(self.end);
        std::iter::from_fn(move || {
            let last = self.last_below(next, true)?;
            let start = self.last_below(last, false).map_or(self.floor, |missing| missing + 1);
            next = start;
            Some(start..=last)
        })
    }

    /// The largest number below `end` and not below the floor whose bit is as asked for.
    fn last_below(&self, end: PacketNumber, is_set: bool) -> Option<PacketNumber> {
        let mut end = end;
        while end > self.floor {
            let word = (end - 1) / 64;
            let bits = self.words[usize::try_from(word - self.first_word).expect("within the window")];
            let bits = if is_set { bits } else { !bits };
            let bits = bits & (u64::MAX >> (63 - (end - 1) % 64));
            if bits != 0 {
                let number = word * 64 + 63 - u64::from(bits.leading_zeros());
                return (number >= self.floor).then_some(number);
            }
            end = word * 64;
        }
        None
    }

    fn bit(&self, number: PacketNumber) -> bool {
        (number / 64)
            .checked_sub(self.first_word)
            .and_then(|word| self.words.get(usize::try_from(word).ok()?))
            .is_some_and(|word| word & 1 << (number % 64) != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_number_is_taken_once_in_any_order() {
        let mut received = Received::default();

        assert_eq!(received.insert(0), Arrival::Next);
        assert_eq!(received.insert(3), Arrival::Ahead);
        assert_eq!(received.insert(1), Arrival::Late);
        assert_eq!(received.insert(3), Arrival::Duplicate);
        assert!(received.has_gaps());
        assert_eq!(received.insert(2), Arrival::Late);
        assert!(!received.has_gaps());
        assert_eq!(received.ranges_below(u64::MAX).collect::<Vec<_>>(), [0..=3]);
    }

    #[test]
    fn what_lies_below_the_floor_is_not_taken_again() {
        let mut received = Received::default();
        received.insert(100);
        received.set_floor(90);

        assert_eq!(received.insert(89), Arrival::Duplicate);
        assert_eq!(received.insert(90), Arrival::Late);
        assert_eq!(received.ranges_below(u64::MAX).collect::<Vec<_>>(), [100..=100, 90..=90]);
    }

    #[test]
    fn a_floor_beyond_what_was_received_leaves_what_is_to_come() {
        let mut received = Received::default();
        received.insert(10);
        received.set_floor(1 << 60);

        assert_eq!(received.ranges_below(u64::MAX).collect::<Vec<_>>(), [10..=10]);
        assert_eq!(received.insert(10), Arrival::Duplicate);
        assert_eq!(received.insert(9), Arrival::Duplicate);
        assert_eq!(received.insert(11), Arrival::Next);
        assert_eq!(received.ranges_below(u64::MAX).collect::<Vec<_>>(), [10..=11]);
    }

    #[test]
    fn a_peer_that_never_moves_its_floor_does_not_choose_our_memory() {
        // protocol.md [FLOW-6]
        let mut received = Received::default();
        received.insert(0);
        received.insert(limits::PACKET_WINDOW_MAX - 1);
        assert!(!received.is_duplicate(1), "just inside");

        received.insert(limits::PACKET_WINDOW_MAX + 1);

        assert!(received.is_duplicate(1), "just outside");
        received.insert(1 << 61);
        assert!(received.words.len() as u64 <= limits::PACKET_WINDOW_MAX / 64 + 1);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in prop::collection::vec((0_u64..300, any::<bool>()), 1..200)) {
            let mut received = Received::default();
            let mut set = BTreeSet::new();
            let mut floor = 0;

            for (number, is_floor) in steps {
                if is_floor {
                    floor = floor.max((number / 4).min(set.last().copied().unwrap_or(0)));
                    received.set_floor(number / 4);
                } else {
                    let is_new = number >= floor && set.insert(number);
                    prop_assert_eq!(received.insert(number) != Arrival::Duplicate, is_new);
                }
            }

            let ours: Vec<u64> = received.ranges_below(u64::MAX).flat_map(|range| range.rev()).collect();
            let theirs: Vec<u64> = set.iter().rev().copied().filter(|number| *number >= floor).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
