//! Acknowledges every second segment, and every one at once while some are missing (RFC 5681, section 4.2).

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::sender::Segment;

/// How long one segment alone waits for another (`TCP_DELACK_MIN` of Linux).
const DELAY: Duration = Duration::from_millis(40);
/// Blocks that fit an acknowledgement beside timestamps (RFC 2018, section 3).
const BLOCKS: usize = 3;

/// What has arrived.
#[derive(Clone, Debug)]
pub struct Ack {
    /// All segments before this one.
    pub next: u64,
    /// And these, the newest first.
    pub blocks: Vec<Range<u64>>,
}

impl Ack {
    /// Bytes of its SACK option (RFC 2018, section 3), with padding.
    pub fn option_bytes(&self) -> usize {
        if self.blocks.is_empty() { 0 } else { 4 + 8 * self.blocks.len() }
    }
}

/// The receiving end.
#[derive(Debug, Default)]
pub struct Receiver {
    /// The first segment that is missing.
    next: u64,
    /// What has arrived behind it: first to the one behind the last.
    blocks: BTreeMap<u64, u64>,
    /// First segments of blocks in the order in which they grew, the newest last.
    grown: Vec<u64>,
    /// Segments that were not acknowledged.
    waiting: u32,
    due: Option<Duration>,
}

impl Receiver {
    /// A segment arrives; whether it is a new one.
    pub fn handle_segment(&mut self, now: Duration, segment: Segment) -> bool {
        let number = segment.number;
        let had_gap = !self.blocks.is_empty();
        let is_new = number >= self.next && !self.holds(number);
        if is_new {
            self.insert(number);
        }
        self.waiting += 1;
        let is_urgent = had_gap || !self.blocks.is_empty() || !is_new || self.waiting >= 2;
        self.due = Some(if is_urgent { now } else { now + DELAY });
        is_new
    }

    /// The acknowledgement that is due.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Ack> {
        self.due.take_if(|due| *due <= now)?;
        self.waiting = 0;
        let block = |first: &u64| self.blocks.get(first).map(|&end| *first..end);
        Some(Ack {
            next: self.next,
            blocks: self.grown.iter().rev().filter_map(block).take(BLOCKS).collect(),
        })
    }

    /// When it wants to be asked again.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    fn holds(&self, number: u64) -> bool {
        self.blocks.range(..=number).next_back().is_some_and(|(_, &end)| number < end)
    }

    fn insert(&mut self, number: u64) {
        let end = self.blocks.remove(&(number + 1)).unwrap_or(number + 1);
        let before = self.blocks.range(..number).next_back().filter(|(_, end)| **end == number);
        let first = before.map_or(number, |(&first, _)| first);
        self.grown.retain(|&it| it != first && it != number + 1);
        if first == self.next {
            self.next = end;
            return;
        }
        self.blocks.insert(first, end);
        self.grown.push(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    fn receive(receiver: &mut Receiver, numbers: &[u64]) -> Option<(u64, Vec<(u64, u64)>)> {
        for &number in numbers {
            receiver.handle_segment(NOW, Segment { number });
        }
        let pairs = |ack: &Ack| ack.blocks.iter().map(|block| (block.start, block.end)).collect();
        receiver.poll_transmit(NOW).map(|ack| (ack.next, pairs(&ack)))
    }

    #[test]
    fn every_second_segment_is_acknowledged_and_one_alone_after_a_while() {
        let mut receiver = Receiver::default();

        assert_eq!(receive(&mut receiver, &[0]), None);
        assert_eq!(receive(&mut receiver, &[1]), Some((2, vec![])));
        assert_eq!(receive(&mut receiver, &[2]), None);
        assert_eq!(receiver.poll_timeout(), Some(NOW + DELAY));
        assert!(receiver.poll_transmit(NOW + DELAY).is_some_and(|ack| ack.next == 3));
    }

    #[test]
    fn what_came_behind_a_gap_is_told_at_once_and_the_newest_first() {
        let mut receiver = Receiver::default();

        assert_eq!(receive(&mut receiver, &[1]), Some((0, vec![(1, 2)])));
        assert_eq!(receive(&mut receiver, &[3, 5, 7]), Some((0, vec![(7, 8), (5, 6), (3, 4)])));
        assert_eq!(receive(&mut receiver, &[2]), Some((0, vec![(1, 4), (7, 8), (5, 6)])));
        assert_eq!(receive(&mut receiver, &[0]), Some((4, vec![(7, 8), (5, 6)])));
        assert_eq!(receive(&mut receiver, &[6, 4]), Some((8, vec![])));
    }

    #[test]
    fn a_segment_that_comes_twice_is_acknowledged_and_counts_once() {
        let mut receiver = Receiver::default();

        assert!(receiver.handle_segment(NOW, Segment { number: 0 }));
        assert!(!receiver.handle_segment(NOW, Segment { number: 0 }));
        assert!(receiver.poll_transmit(NOW).is_some());
    }
}
