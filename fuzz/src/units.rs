//! Sizes, rates and times, as people type them.

use std::time::Duration;

use haul::units::{self, Bitrate, parse_bytes, parse_duration};

/// What was read is more than nothing, and the plainest way to write it is read as the same.
pub fn units(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bytes) = parse_bytes(text) {
        assert!(bytes > 0);
        assert_eq!(parse_bytes(&format!("{bytes}B")), Ok(bytes));
        assert!(units::bytes(bytes).len() <= 7);
        assert!(units::rate(bytes).ends_with("B/s"));
    }
    if let Ok(time) = parse_duration(text) {
        assert!(time > Duration::ZERO);
        assert!(units::duration(time).len() <= 7);
        let millis = format!("{}.{:06}ms", time.as_millis(), time.as_nanos() % 1_000_000);
        // Longer numbers are not read.
        assert!(millis.len() > 22 || parse_duration(&millis) == Ok(time), "{millis}");
    }
    if let Ok(rate) = text.parse::<Bitrate>() {
        assert!(rate.bits_per_s() > 0 && rate.bytes_per_s() > 0);
        assert_eq!(format!("{}bit", rate.bits_per_s()).parse(), Ok(rate));
        assert!(rate.to_string().ends_with("bit/s"));
    }
}
