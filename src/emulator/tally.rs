//! Counts what one direction did: as a whole, for each flow, and where the machine was too slow to be the link.

use std::collections::HashMap;
use std::time::Duration;

use super::flow::{FlowKey, Headers};
use super::samples::Sample;
use crate::limits;
use crate::link::{Cause, Counters, Fate, Link};

/// A delivery that is late by more than this is counted: as much as a round trip may be off.
pub const LATE_BOUND: Duration = Duration::from_millis(1);

/// What one direction did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All packets.
    pub total: Share,
    /// Each flow, in the order in which they appeared.
    pub flows: Vec<Flow>,
    /// What belongs to flows after the first [`limits::LINK_FLOWS_MAX`].
    pub other_flows: Share,
    /// Where the machine stood in the link's place.
    pub machine: Machine,
    /// What happened in each interval since the link's first moment, the one that holds its last included; empty if
    /// nobody asked for it.
    pub samples: Vec<Sample>,
    /// Where a flow's counts are.
    places: HashMap<FlowKey, usize>,
    /// The flow of the last packet, which mostly is that of the next.
    last: Option<(FlowKey, usize)>,
}

/// A flow and its share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Which.
    pub key: FlowKey,
    /// Its part of the traffic.
    pub share: Share,
}

/// A part of the traffic, or all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// What the link did to it.
    pub counters: Counters,
    /// Of the damaged arrivals: those whose flipped bit is in a header, so that no program sees them.
    pub corrupted_headers: u64,
    /// The most that the queue held when one of its packets had come, bytes with framing.
    pub peak_queue_bytes: u64,
    /// What the packets waited in the bottleneck's queue, all together; that which found no room there did not wait.
    pub queue_delay_sum: Duration,
}

/// What the link's model knows nothing of. Packets, unless the name says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Read from the sending host's device and offered to the link.
    pub read: u64,
    /// Handed to the receiving host.
    pub written: u64,
    /// Of these, late by more than [`LATE_BOUND`].
    pub late: u64,
    /// The most that one was late.
    pub latest: Duration,
    /// Sum over all.
    pub lateness: Duration,
    /// Of those read, may have waited for longer than [`LATE_BOUND`] until the emulator did, so that the link saw them
    /// late.
    pub waited: u64,
    /// The longest that one may have waited.
    pub longest_wait: Duration,
    /// Dropped by the sending host's device, since the emulator did not read it in time.
    pub dropped_by_device: u64,
    /// Dropped since more were under way than the emulator holds.
    pub overflowed: u64,
    /// Damaged so that the receiving host's device refused them.
    pub refused: u64,
    /// Not taken by the receiving host for another reason.
    pub not_taken: u64,
    /// Not of IPv4, hence not carried.
    pub not_ipv4: u64,
    /// Still under way when the link ended.
    pub under_way: u64,
}

/// A link as a packet finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    counters: Counters,
    queue_delay: Duration,
}

impl Tally {
    /// A packet was offered to the link at `now`, and this became of it; `before` is the link from before that. Gives
    /// the packet's share of the traffic.
    pub(super) fn on_offer(
        &mut self,
        now: Duration,
        link: &Link,
        before: &Before,
        headers: &Headers,
        fate: &Fate,
    ) -> Share {
        let has_waited = !matches!(fate, Fate::Dropped(Cause::Queue | Cause::Policer));
        let share = Share {
            counters: *link.counters() - before.counters,
            corrupted_headers: fate
                .deliveries()
                .filter(|delivery| delivery.flipped_bit.is_some_and(|bit| headers.holds(bit)))
                .map(|_| 1)
                .sum(),
            peak_queue_bytes: link.queue_bytes(now),
            queue_delay_sum: if has_waited { before.queue_delay } else { Duration::ZERO },
        };
        self.total.add(&share);
        match self.place(headers.flow) {
            Some(place) => self.flows[place].share.add(&share),
            None => self.other_flows.add(&share),
        }
        share
    }

    fn place(&mut self, key: FlowKey) -> Option<usize> {
        if let Some((last, place)) = self.last
            && last == key
        {
            return Some(place);
        }
        let place = match self.places.get(&key) {
            Some(place) => *place,
            None if self.flows.len() >= limits::LINK_FLOWS_MAX => return None,
            None => {
                self.flows.push(Flow { key, share: Share::default() });
                self.places.insert(key, self.flows.len() - 1);
                self.flows.len() - 1
            }
        };
        self.last = Some((key, place));
        Some(place)
    }
}

impl Before {
    /// What the next packet finds at `now`.
    pub(super) fn of(link: &Link, now: Duration) -> Self {
        Self { counters: *link.counters(), queue_delay: link.queue_delay(now) }
    }
}

impl Share {
    /// How long those of its packets that entered the bottleneck's queue waited there on average, until their first bit
    /// was on the line; zero if there were none.
    pub fn mean_queue_delay(&self) -> Duration {
        let counters = &self.counters;
        let entered = counters.offered - counters.dropped_queue - counters.dropped_policer;
        Duration::from_secs_f64(self.queue_delay_sum.as_secs_f64() / entered.max(1) as f64)
    }

    pub(super) fn add(&mut self, more: &Self) {
        self.counters += more.counters;
        self.corrupted_headers += more.corrupted_headers;
        self.peak_queue_bytes = self.peak_queue_bytes.max(more.peak_queue_bytes);
        self.queue_delay_sum += more.queue_delay_sum;
    }
}

impl Machine {
    /// A packet that was due at `at` was handed over at `now`.
    pub(super) fn on_written(&mut self, at: Duration, now: Duration) {
        let late = now.saturating_sub(at);
        self.written += 1;
        self.late += u64::from(late > LATE_BOUND);
        self.latest = self.latest.max(late);
        self.lateness += late;
    }

    /// A packet was read that may have waited for so long.
    pub(super) fn on_read(&mut self, waited: Duration) {
        self.read += 1;
        self.waited += u64::from(waited > LATE_BOUND);
        self.longest_wait = self.longest_wait.max(waited);
    }

    /// How much later than due packets came, on average.
    pub fn mean_lateness(&self) -> Duration {
        Duration::from_secs_f64(self.lateness.as_secs_f64() / self.written.max(1) as f64)
    }

    /// Why the numbers may be the machine's and not the link's; empty if they are the link's.
    pub fn limits(&self) -> Vec<String> {
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        let bound_ms = LATE_BOUND.as_millis();
        let mut limits = Vec::new();
        let late = percent(self.late, self.written);
        if late > MANY_PERCENT {
            limits.push(format!("{late:.1} % of the packets came more than {bound_ms} ms late"));
        }
        let waited = percent(self.waited, self.read);
        if waited > MANY_PERCENT {
            limits.push(format!(
                "{waited:.1} % may have waited for more than {bound_ms} ms before the link saw them"
            ));
        }
        for (packets, what) in [
            (self.dropped_by_device, "found the device's own queue full"),
            (self.overflowed, "were more than the emulator holds"),
            (self.not_taken, "were not taken by the receiving host"),
        ] {
            if packets > 0 {
                limits.push(format!("{packets} packets {what}"));
            }
        }
        limits
    }
}

/// A share of packets up to which a busy moment of the machine is no reason for doubt.
const MANY_PERCENT: f64 = 1.0;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::link::{Direction, LinkConfig};

    fn headers(port: u16) -> Headers {
        let flow = FlowKey {
            protocol: super::super::flow::UDP,
            source: Ipv4Addr::LOCALHOST,
            destination: Ipv4Addr::LOCALHOST,
            ports: Some((port, 1)),
        };
        Headers { flow, len_bytes: 28 }
    }

    fn offer(tally: &mut Tally, link: &mut Link, now: Duration, port: u16, len_bytes: usize) {
        let before = Before::of(link, now);
        let fate = link.offer(now, len_bytes);
        tally.on_offer(now, link, &before, &headers(port), &fate);
    }

    fn link(spec: &str) -> Link {
        Link::new(&spec.parse::<LinkConfig>().unwrap(), Direction::Forward)
    }

    #[test]
    fn flows_add_up_to_the_link() {
        let mut link =
            link("rtt=1ms,rate=8mbit,queue=5kB,loss=10%,dup=5%,corrupt=20%,late=10%/1ms,reorder=5%");
        let mut tally = Tally::default();
        for packet in 0..5000_u16 {
            offer(
                &mut tally,
                &mut link,
                Duration::from_micros(500) * packet.into(),
                packet % 3,
                100 + usize::from(packet % 900),
            );
        }

        let mut sum = Share::default();
        for flow in &tally.flows {
            assert!(flow.share.counters.corrupted > flow.share.corrupted_headers);
            assert!(flow.share.corrupted_headers > 0);
            sum.add(&flow.share);
        }
        assert_eq!(tally.flows.len(), 3);
        assert_eq!(sum, tally.total);
        assert_eq!(tally.total.counters, *link.counters());
        assert!((4_000..=5_000).contains(&tally.total.peak_queue_bytes), "{}", tally.total.peak_queue_bytes);
    }

    #[test]
    fn the_mean_wait_is_that_of_the_packets_that_entered_the_queue() {
        // With their framing, such packets take 1 ms each; the queue has room for two.
        let mut link = link("rtt=1ms,rate=8mbit,queue=2kB");
        let mut tally = Tally::default();
        for _ in 0..4 {
            offer(&mut tally, &mut link, Duration::ZERO, 1, 982);
        }

        assert_eq!(tally.total.counters.dropped_queue, 2);
        assert_eq!(tally.total.queue_delay_sum, Duration::from_millis(1));
        assert_eq!(tally.total.mean_queue_delay(), Duration::from_micros(500));
        assert_eq!(Share::default().mean_queue_delay(), Duration::ZERO);
    }

    #[test]
    fn flows_beyond_the_limit_are_counted_together() {
        let mut link = link("rtt=0s");
        let mut tally = Tally::default();
        let most = u16::try_from(limits::LINK_FLOWS_MAX).unwrap();
        for port in 0..most + 2 {
            offer(&mut tally, &mut link, Duration::ZERO, port, 50);
        }
        offer(&mut tally, &mut link, Duration::ZERO, 0, 50);

        assert_eq!(tally.flows.len(), limits::LINK_FLOWS_MAX);
        assert_eq!(tally.other_flows.counters.offered, 2);
        assert_eq!(tally.flows[0].share.counters.offered, 2);
    }

    #[test]
    fn a_machine_that_keeps_up_limits_nothing_and_one_that_does_not_says_why() {
        let ms = Duration::from_millis;
        let mut machine = Machine::default();
        for _ in 0..1000 {
            machine.on_written(ms(5), ms(6));
            machine.on_read(ms(1));
        }
        for _ in 0..10 {
            machine.on_written(ms(5), ms(9));
        }
        assert_eq!((machine.late, machine.latest, machine.waited), (10, ms(4), 0));
        assert_eq!(machine.limits(), Vec::<String>::new());

        machine.on_written(ms(5), ms(9));
        machine.dropped_by_device = 3;
        let limits = machine.limits();

        assert_eq!(limits[0], "1.1 % of the packets came more than 1 ms late");
        assert_eq!(limits[1..], ["3 packets found the device's own queue full"]);
    }

    #[test]
    fn the_share_that_waited_is_one_of_what_was_read() {
        let mut machine = Machine::default();
        for _ in 0..4 {
            machine.on_read(Duration::from_millis(2));
        }
        machine.on_written(Duration::ZERO, Duration::ZERO);

        let said = "100.0 % may have waited for more than 1 ms before the link saw them";
        assert_eq!(machine.limits(), [said]);
    }
}
