//! What a link has done so far.

use std::ops::{AddAssign, Sub};

use super::{Cause, Fate};

/// Counts of one direction. Packets, unless the name says bytes; bytes are those of IP packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Offered to the link.
    pub offered: u64,
    /// Offered to the link.
    pub offered_bytes: u64,
    /// Arrivals, copies included.
    pub delivered: u64,
    /// Arrivals, copies included.
    pub delivered_bytes: u64,
    /// Found the queue full.
    pub dropped_queue: u64,
    /// Found the bucket empty.
    pub dropped_policer: u64,
    /// Came during a blackout.
    pub dropped_blackout: u64,
    /// Lost by chance.
    pub dropped_loss: u64,
    /// Longer than the MTU.
    pub dropped_mtu: u64,
    /// Arrived twice.
    pub duplicated: u64,
    /// Arrivals with a flipped bit; packet and copy count each.
    pub corrupted: u64,
    /// Of the delivered: came later than jitter allows, copies not counted.
    pub late: u64,
    /// Of the delivered: skipped the delay, copies not counted.
    pub overtaking: u64,
}

impl Counters {
    /// All that did not arrive.
    pub fn dropped(&self) -> u64 {
        self.dropped_queue
            + self.dropped_policer
            + self.dropped_blackout
            + self.dropped_loss
            + self.dropped_mtu
    }

    /// A packet was offered, and this became of it.
    pub(super) fn on_fate(&mut self, len_bytes: usize, fate: &Fate) {
        let len = u64::try_from(len_bytes).expect("a packet is shorter than 2^64 bytes");
        self.offered += 1;
        self.offered_bytes += len;
        for delivery in fate.deliveries() {
            self.delivered += 1;
            self.delivered_bytes += len;
            self.corrupted += u64::from(delivery.flipped_bit.is_some());
        }
        match fate {
            Fate::Delivered { copy, .. } => self.duplicated += u64::from(copy.is_some()),
            Fate::Dropped(cause) => *self.dropped_by(*cause) += 1,
        }
        assert_eq!(
            self.offered + self.duplicated,
            self.delivered + self.dropped(),
            "every packet has one fate"
        );
    }

    /// Each count with its counterpart.
    fn zip(&mut self, other: &Self, apply: impl Fn(&mut u64, u64)) {
        let Self {
            offered,
            offered_bytes,
            delivered,
            delivered_bytes,
            dropped_queue,
            dropped_policer,
            dropped_blackout,
            dropped_loss,
            dropped_mtu,
            duplicated,
            corrupted,
            late,
            overtaking,
        } = self;
        apply(offered, other.offered);
        apply(offered_bytes, other.offered_bytes);
        apply(delivered, other.delivered);
        apply(delivered_bytes, other.delivered_bytes);
        apply(dropped_queue, other.dropped_queue);
        apply(dropped_policer, other.dropped_policer);
        apply(dropped_blackout, other.dropped_blackout);
        apply(dropped_loss, other.dropped_loss);
        apply(dropped_mtu, other.dropped_mtu);
        apply(duplicated, other.duplicated);
        apply(corrupted, other.corrupted);
        apply(late, other.late);
        apply(overtaking, other.overtaking);
    }

    fn dropped_by(&mut self, cause: Cause) -> &mut u64 {
        match cause {
            Cause::Queue => &mut self.dropped_queue,
            Cause::Policer => &mut self.dropped_policer,
            Cause::Blackout => &mut self.dropped_blackout,
            Cause::Loss => &mut self.dropped_loss,
            Cause::Mtu => &mut self.dropped_mtu,
        }
    }
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.zip(&other, |count, more| *count += more);
    }
}

impl Sub for Counters {
    type Output = Self;

    /// What was counted since `earlier`, a copy of the same counters.
    fn sub(mut self, earlier: Self) -> Self {
        self.zip(&earlier, |count, before| *count -= before);
        self
    }
}
