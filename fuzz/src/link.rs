//! A link as a line of text, and what it does to packets.

use std::time::Duration;

use haul::link::{Direction, Fate, Link, LinkConfig, Trace};

use super::bytes::Bytes;

/// What was read is written as the same link; a link delivers nothing before it was offered and counts what it does.
pub fn link(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let packets = bytes.some();
    let Ok(text) = std::str::from_utf8(bytes.rest()) else { return };
    let load = |name: &str| Trace::read(name, "0\n3\n3\n7\n");
    let Ok(config) = LinkConfig::read(text, load) else { return };

    let shown = config.to_string();
    assert_eq!(LinkConfig::read(&shown, load).as_ref(), Ok(&config), "{shown}");

    for direction in [Direction::Forward, Direction::Backward] {
        offer(&config, direction, Bytes::new(packets));
    }
}

/// Packets of some lengths at some times.
pub fn offer(config: &LinkConfig, direction: Direction, mut packets: Bytes<'_>) {
    let mut link = Link::new(config, direction);
    let mut now = Duration::ZERO;
    let (mut offered, mut dropped) = (0, 0);
    while !packets.is_empty() {
        now += Duration::from_micros(packets.number() >> STEP_SHIFT);
        let len = usize::from(packets.half());
        let fate = link.offer(now, len);
        offered += 1;
        dropped += u64::from(matches!(fate, Fate::Dropped(_)));
        for delivery in fate.deliveries() {
            assert!(delivery.at >= now);
            assert!(delivery.flipped_bit.is_none_or(|bit| bit < len * 8));
        }
        link.queue_bytes(now);
        link.queue_delay(now);
        assert_eq!(link.counters().dropped(), dropped);
        assert!(offered >= dropped);
    }
}

/// Steps of at most three hours: what an input has of them stays below the 584 years that a link knows.
const STEP_SHIFT: u32 = 30;
