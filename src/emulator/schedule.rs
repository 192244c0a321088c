//! Keeps packets until their moment.
//!
//! Most links deliver in the order of arrival, so most packets stand in a line to which each is added at the end.
//! Only those that are due before the last of the line (jitter, overtaking) go into a heap.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// Packets under way.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// In the order of their moments.
    line: VecDeque<Waiting>,
    /// What would not have been in order at the line's end.
    others: BinaryHeap<Reverse<Waiting>>,
    /// The order of the packet that is added next.
    next: u64,
    /// Bytes that the packets' buffers take.
    held_bytes: usize,
}

/// A packet with its moment.
#[derive(Debug)]
pub(super) struct Waiting {
    /// When it is due, since the link's start.
    pub(super) at: Duration,
    /// Of packets with one moment, the lower is first.
    order: u64,
    /// Where in the buffer the packet ends.
    pub(super) len_bytes: usize,
    /// Whether a bit of it is flipped.
    pub(super) is_damaged: bool,
    /// The packet and what is left of its buffer.
    pub(super) buffer: Box<[u8]>,
}

impl Schedule {
    /// Adds a packet; of those due at the same moment, the one added first comes out first.
    pub(super) fn add(&mut self, at: Duration, buffer: Box<[u8]>, len_bytes: usize, is_damaged: bool) {
        assert!(len_bytes <= buffer.len());
        self.held_bytes += buffer.len();
        let waiting = Waiting { at, order: self.next, len_bytes, is_damaged, buffer };
        self.next += 1;
        if self.line.back().is_none_or(|last| last.at <= at) {
            self.line.push_back(waiting);
        } else {
            self.others.push(Reverse(waiting));
        }
    }

    /// Takes the first packet if its moment has come.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Waiting> {
        if self.next_at()? > now {
            return None;
        }
        let from_heap = match (self.line.front(), self.others.peek()) {
            (Some(line), Some(Reverse(other))) => other < line,
            (line, _) => line.is_none(),
        };
        let due = if from_heap { self.others.pop().map(|it| it.0) } else { self.line.pop_front() }?;
        self.held_bytes -= due.buffer.len();
        Some(due)
    }

    /// The moment of the first packet.
    pub(super) fn next_at(&self) -> Option<Duration> {
        let line = self.line.front().map(|it| it.at);
        let other = self.others.peek().map(|it| it.0.at);
        line.into_iter().chain(other).min()
    }

    /// Bytes that the packets' buffers take.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Packets that wait.
    pub(super) fn len(&self) -> usize {
        self.line.len() + self.others.len()
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    fn add(schedule: &mut Schedule, at: u64, name: u8) {
        schedule.add(us(at), Box::new([name]), 1, false);
    }

    fn names(schedule: &mut Schedule, now: u64) -> Vec<u8> {
        std::iter::from_fn(|| schedule.take_due(us(now))).map(|it| it.buffer[0]).collect()
    }

    #[test]
    fn packets_come_out_at_their_moment_and_not_before() {
        let mut schedule = Schedule::default();
        add(&mut schedule, 10, 1);
        add(&mut schedule, 20, 2);

        assert_eq!(schedule.next_at(), Some(us(10)));
        assert!(names(&mut schedule, 9).is_empty());
        assert_eq!(names(&mut schedule, 19), [1]);
        assert_eq!(names(&mut schedule, 20), [2]);
        assert_eq!((schedule.next_at(), schedule.len(), schedule.held_bytes()), (None, 0, 0));
    }

    #[test]
    fn of_one_moment_the_first_added_is_first_wherever_it_stands() {
        let mut schedule = Schedule::default();
        add(&mut schedule, 10, 1);
        add(&mut schedule, 30, 2);
        add(&mut schedule, 10, 3);
        add(&mut schedule, 30, 4);
        add(&mut schedule, 10, 5);

        assert_eq!(schedule.held_bytes(), 5);
        assert_eq!(names(&mut schedule, 30), [1, 3, 5, 2, 4]);
    }

    proptest! {
        #[test]
        fn any_mixture_comes_out_as_a_stable_sort_would_have_it(
            steps in proptest::collection::vec((0..50_u64, 0..4_u64), 0..200)
        ) {
            let mut schedule = Schedule::default();
            let mut waiting: Vec<(u64, u8)> = Vec::new();
            let mut now = 0;
            for (name, (ahead, passes)) in (0..).zip(steps) {
                add(&mut schedule, now + ahead, name);
                waiting.push((now + ahead, name));
                now += passes;
                waiting.sort_by_key(|(at, _)| *at);
                let due: Vec<u8> = waiting.iter().filter(|(at, _)| *at <= now).map(|(_, name)| *name).collect();
                waiting.retain(|(at, _)| *at > now);
                prop_assert_eq!(names(&mut schedule, now), due);
                prop_assert_eq!(schedule.len(), waiting.len());
            }
        }
    }
}
