//! What happens when: events in the order of their times, and of their entry where times are equal.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, binary_heap::PeekMut},
    time::Duration,
};

/// Events to come.
#[derive(Debug)]
pub struct Agenda<E> {
    heap: BinaryHeap<Reverse<Entry<E>>>,
    entered: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Duration,
    order: u64,
    event: E,
}

impl<E> Agenda<E> {
    /// Nothing to come.
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), entered: 0 }
    }

    /// Enters an event.
    pub fn push(&mut self, at: Duration, event: E) {
        self.entered += 1;
        self.heap.push(Reverse(Entry { at, order: self.entered, event }));
    }

    /// The next event and its time, if it is not later than `end`.
    pub fn pop(&mut self, end: Duration) -> Option<(Duration, E)> {
        let entry = self.heap.peek_mut().filter(|entry| entry.0.at <= end)?;
        let Reverse(entry) = PeekMut::pop(entry);
        Some((entry.at, entry.event))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
