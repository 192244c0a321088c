//! The way between two hosts: datagrams go in, and come out late, twice, damaged, or never.
//!
//! A [`Link`] decides; the road knows how many bytes a system puts around a datagram, and that it drops a packet of
//! which those are damaged.

use std::time::Duration;

use crate::link::{Counters, Delivery, Direction, Link, LinkConfig};

/// Bytes of IPv4 and UDP headers.
pub const HEADERS_BYTES: usize = 28;

/// Both directions.
#[derive(Debug)]
pub struct Road {
    there: Line,
    back: Line,
}

/// One direction.
#[derive(Debug)]
struct Line {
    /// The sender's own device, in front of the link.
    device: Option<Link>,
    link: Link,
}

/// A datagram that comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When.
    pub at: Duration,
    /// Its bytes.
    pub datagram: Vec<u8>,
    /// Whether they are what went in.
    pub is_intact: bool,
}

impl Road {
    /// A road over this link.
    pub fn new(link: &LinkConfig) -> Self {
        let line = |direction| Line { device: None, link: Link::new(link, direction) };
        Self { there: line(Direction::Forward), back: line(Direction::Backward) }
    }

    /// The same with a device of each side in front of it: a line of its own, without delay. It must not reorder.
    pub fn behind(mut self, device: &LinkConfig) -> Self {
        self.there.device = Some(Link::new(device, Direction::Forward));
        self.back.device = Some(Link::new(device, Direction::Backward));
        self
    }

    /// The same with another link on the way back.
    pub fn back(mut self, link: &LinkConfig) -> Self {
        self.back.link = Link::new(link, Direction::Backward);
        self
    }

    /// Takes a datagram; gives its arrivals.
    pub fn carry(&mut self, now: Duration, direction: Direction, datagram: &[u8]) -> Vec<Arrival> {
        let deliveries = self.pass(now, direction, datagram.len() + HEADERS_BYTES);
        deliveries.filter_map(|delivery| arrival(delivery.at, datagram, delivery.flipped_bit)).collect()
    }

    /// Takes an IP packet of so many bytes; gives its arrivals.
    pub fn pass(
        &mut self,
        now: Duration,
        direction: Direction,
        len_bytes: usize,
    ) -> impl Iterator<Item = Delivery> + use<> {
        let line = match direction {
            Direction::Forward => &mut self.there,
            Direction::Backward => &mut self.back,
        };
        let enters = match &mut line.device {
            None => Some(now),
            Some(device) => device.offer(now, len_bytes).deliveries().next().map(|delivery| delivery.at),
        };
        enters.map(|at| line.link.offer(at, len_bytes)).into_iter().flat_map(|fate| fate.deliveries())
    }

    /// What one direction has done.
    pub fn counters(&self, direction: Direction) -> &Counters {
        match direction {
            Direction::Forward => self.there.link.counters(),
            Direction::Backward => self.back.link.counters(),
        }
    }

    /// How long a datagram that enters on the way there would wait in the link's queue.
    pub fn queue_delay(&self, now: Duration) -> Duration {
        self.there.link.queue_delay(now)
    }
}

/// A system drops a packet whose headers are damaged, so that nobody above sees it.
fn arrival(at: Duration, datagram: &[u8], flipped_bit: Option<usize>) -> Option<Arrival> {
    let mut datagram = datagram.to_vec();
    if let Some(bit) = flipped_bit {
        let byte = (bit / 8).checked_sub(HEADERS_BYTES)?;
        datagram[byte] ^= 1 << (bit % 8);
    }
    Some(Arrival { at, datagram, is_intact: flipped_bit.is_none() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_to_the_headers_is_a_loss_and_elsewhere_one_flipped_bit() {
        let datagram = [0; 4];

        assert_eq!(arrival(Duration::ZERO, &datagram, Some(8 * HEADERS_BYTES - 1)), None);
        let damaged = arrival(Duration::ZERO, &datagram, Some(8 * HEADERS_BYTES)).unwrap();

        assert_eq!((damaged.datagram.as_slice(), damaged.is_intact), ([1, 0, 0, 0].as_slice(), false));
        assert!(arrival(Duration::ZERO, &datagram, None).unwrap().is_intact);
    }

    #[test]
    fn a_device_slows_what_leaves_before_the_link_sees_it() {
        let link: LinkConfig = "rtt=20ms,rate=100mbit,policer=64KiB".parse().unwrap();
        let device: LinkConfig = "rate=8mbit".parse().unwrap();
        let mut road = Road::new(&link).behind(&device);
        let datagram = [0; 1000 - HEADERS_BYTES - 18];

        road.carry(Duration::ZERO, Direction::Forward, &datagram);
        let second = road.carry(Duration::ZERO, Direction::Forward, &datagram);

        assert_eq!(second[0].at, Duration::from_millis(12));
    }
}
