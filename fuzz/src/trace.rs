//! mahimahi's traces.

use haul::link::{Bottleneck, Direction, LinkConfig, Trace};

use super::bytes::Bytes;
use super::link::offer;

/// A trace is its moments and nothing else: written plainly they are the same trace. What is read can be a link.
pub fn trace(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let packets = bytes.some();
    let Ok(text) = std::str::from_utf8(bytes.rest()) else { return };
    let Ok(trace) = Trace::read("trace", text) else { return };

    let plain: String =
        text.lines().map(|line| format!("{}\n", line.trim().parse::<u32>().expect("a moment"))).collect();
    assert_eq!(Trace::read("trace", &plain), Ok(trace.clone()));
    assert!(!trace.period().is_zero());

    let config = LinkConfig { bottleneck: Some(Bottleneck::replay(trace)), ..LinkConfig::default() };
    if config.check().is_ok() {
        offer(&config, Direction::Forward, Bytes::new(packets));
    }
}
