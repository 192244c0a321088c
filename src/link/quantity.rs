//! How the quantities of a SPEC are written: times, rates, sizes, shares.
//!
//! A number without a sign or an exponent, a decimal point allowed, and a unit right behind it. Reading and writing
//! are exact: what has more digits than the quantity keeps is refused, and what is written reads as the same value.

use std::time::Duration;

use super::config::{Depth, Share};

const TIMES: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Largest first, as they are tried when writing.
const RATES: &[(&str, u64)] =
    &[("tbit", 1_000_000_000_000), ("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

/// Largest first, as they are tried when writing.
const SIZES: &[(&str, u64)] = &[
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

const PPB_PER_PERCENT: u128 = 10_000_000;

/// Reads `80ms`, `1.5s`, `250us`, `2min`.
pub(super) fn read_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, nanos) = TIMES.iter().find(|(name, _)| *name == unit)?;
    number.times(*nanos).map(Duration::from_nanos)
}

/// In seconds if they are whole, else in milliseconds.
pub(super) fn write_time(time: Duration) -> String {
    if time.subsec_nanos() == 0 {
        return format!("{}s", time.as_secs());
    }
    format!("{}ms", fixed(time.as_nanos(), 6))
}

/// Reads `100mbit`, `1.5Gbit`, with or without `/s`: bits a second.
pub(super) fn read_rate(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let unit = unit.strip_suffix("/s").unwrap_or(unit).to_ascii_lowercase();
    let (_, bits) = RATES.iter().find(|(name, _)| *name == unit)?;
    number.times((*bits).into())
}

/// In the largest unit of which it is a whole number.
pub(super) fn write_rate(bits_per_s: u64) -> String {
    in_largest(bits_per_s, RATES)
}

/// Reads `64KiB`, `1.5MB`, `1500B`. A byte's B is a capital, the prefix may have either case.
pub(super) fn read_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let prefix = unit.strip_suffix('B')?;
    let (_, bytes) = SIZES.iter().find(|(name, _)| name[..name.len() - 1].eq_ignore_ascii_case(prefix))?;
    number.times((*bytes).into())
}

/// In the largest unit of which it is a whole number.
pub(super) fn write_size(bytes: u64) -> String {
    in_largest(bytes, SIZES)
}

/// Reads a size, a time, or multiples of the BDP such as `0.25bdp`.
pub(super) fn read_depth(text: &str) -> Option<Depth> {
    if let Some(number) = text.strip_suffix("bdp") {
        let milli = Decimal::read(number)?.times(1000)?;
        return u32::try_from(milli).ok().map(Depth::BdpMilli);
    }
    read_size(text).map(Depth::Bytes).or_else(|| read_time(text).map(Depth::Time))
}

/// As it was given.
pub(super) fn write_depth(depth: Depth) -> String {
    match depth {
        Depth::Bytes(bytes) => write_size(bytes),
        Depth::Time(time) => write_time(time),
        Depth::BdpMilli(milli) => format!("{}bdp", fixed(milli.into(), 3)),
    }
}

/// Reads `1%`, `0.01%`, at most all.
pub(super) fn read_share(text: &str) -> Option<Share> {
    let ppb = Decimal::read(text.strip_suffix('%')?)?.times(PPB_PER_PERCENT)?;
    u32::try_from(ppb).ok().filter(|ppb| *ppb <= Share::WHOLE.ppb()).map(Share::from_ppb)
}

/// In percent.
pub(super) fn write_share(share: Share) -> String {
    format!("{}%", fixed(share.ppb().into(), 7))
}

/// A number as it was typed: `digits` divided by ten to the power of `places`.
#[derive(Clone, Copy)]
struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    /// Reads `12`, `0.5`; not `.5`, `5.`, `+5` or `5e3`.
    fn read(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (text, ""),
        };
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || text.len() > DECIMAL_MAX_CHARS {
            return None;
        }
        let digits = format!("{whole}{fraction}").parse().ok()?;
        Some(Self { digits, places: u32::try_from(fraction.len()).ok()? })
    }

    /// So many of a unit; `None` if that is no whole number of 64 bits.
    fn times(self, unit: u128) -> Option<u64> {
        let product = self.digits.checked_mul(unit)?;
        let divisor = 10_u128.pow(self.places);
        if product % divisor != 0 {
            return None;
        }
        u64::try_from(product / divisor).ok()
    }
}

/// Longest number, characters: 64 bits in full and the point. A power of ten of so many places fits 128 bits.
const DECIMAL_MAX_CHARS: usize = 21;

/// A number and the unit behind it.
fn split(text: &str) -> Option<(Decimal, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(end);
    Some((Decimal::read(number)?, unit))
}

/// A number of which the last `places` digits are a fraction, without zeros that say nothing.
fn fixed(value: u128, places: u32) -> String {
    let scale = 10_u128.pow(places);
    let (whole, fraction) = (value / scale, value % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0width$}", width = places as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

fn in_largest(value: u64, units: &[(&str, u64)]) -> String {
    let (name, size) = units
        .iter()
        .find(|(_, size)| value >= *size && value.is_multiple_of(*size))
        .unwrap_or(&units[units.len() - 1]);
    format!("{}{name}", value / size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_with_their_unit() {
        assert_eq!(read_time("80ms"), Some(Duration::from_millis(80)));
        assert_eq!(read_time("0.3ms"), Some(Duration::from_micros(300)));
        assert_eq!(read_time("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(read_time("2min"), Some(Duration::from_secs(120)));
        assert_eq!(read_rate("1.5Gbit/s"), Some(1_500_000_000));
        assert_eq!(read_rate("100mbit"), Some(100_000_000));
        assert_eq!(read_size("64KiB"), Some(65_536));
        assert_eq!(read_size("1.5MB"), Some(1_500_000));
        assert_eq!(read_size("1500B"), Some(1500));
        assert_eq!(read_share("0.01%"), Some(Share::from_ppb(100_000)));
        assert_eq!(read_share("100%"), Some(Share::WHOLE));
        assert_eq!(read_depth("0.25bdp"), Some(Depth::BdpMilli(250)));
        assert_eq!(read_depth("100ms"), Some(Depth::Time(Duration::from_millis(100))));
        assert_eq!(read_depth("9kB"), Some(Depth::Bytes(9000)));
    }

    #[test]
    fn what_could_mean_two_things_is_refused() {
        for text in
            ["80", "80 ms", "-1ms", "+1ms", "1e3ms", ".5ms", "5.ms", "1.2.3ms", "80m", "ms", "", "80MS"]
        {
            assert_eq!(read_time(text), None, "{text}");
        }
        for text in ["100", "100m", "100mb", "100mbps", "mbit", "100MB"] {
            assert_eq!(read_rate(text), None, "{text}");
        }
        for text in ["64", "64K", "64kb", "64kib", "1.5B"] {
            assert_eq!(read_size(text), None, "{text}");
        }
        for text in ["1", "1%%", "100.0000001%", "101%", "%", "0.00000001%"] {
            assert_eq!(read_share(text), None, "{text}");
        }
        for text in ["1", "bdp", "0.0001bdp", "99999999bdp", "1Bdp"] {
            assert_eq!(read_depth(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_finer_than_its_quantity_is_refused() {
        assert_eq!(read_time("0.000001ms"), Some(Duration::from_nanos(1)));
        assert_eq!(read_time("0.0000001ms"), None);
        assert_eq!(read_share("0.0000001%"), Some(Share::from_ppb(1)));
        assert_eq!(read_rate("0.5bit"), None);
    }

    #[test]
    fn quantities_are_written_short() {
        assert_eq!(write_time(Duration::from_micros(300)), "0.3ms");
        assert_eq!(write_time(Duration::from_millis(1500)), "1500ms");
        assert_eq!(write_time(Duration::from_secs(90)), "90s");
        assert_eq!(write_time(Duration::ZERO), "0s");
        assert_eq!(write_rate(1_500_000_000), "1500mbit");
        assert_eq!(write_rate(0), "0bit");
        assert_eq!(write_size(65_536), "64KiB");
        assert_eq!(write_size(64_000), "64kB");
        assert_eq!(write_size(0), "0B");
        assert_eq!(write_share(Share::from_ppb(100_000)), "0.01%");
        assert_eq!(write_depth(Depth::BdpMilli(1000)), "1bdp");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same(value in any::<u64>(), shift in 0..64_u32, ppb in 0..=1_000_000_000_u32) {
            let value = value >> shift;
            let time = Duration::from_nanos(value);
            let milli = u32::try_from(value >> 32).unwrap();

            prop_assert_eq!(read_time(&write_time(time)), Some(time));
            prop_assert_eq!(read_rate(&write_rate(value)), Some(value));
            prop_assert_eq!(read_size(&write_size(value)), Some(value));
            prop_assert_eq!(read_share(&write_share(Share::from_ppb(ppb))), Some(Share::from_ppb(ppb)));
            for depth in [Depth::Bytes(value), Depth::Time(time), Depth::BdpMilli(milli)] {
                prop_assert_eq!(read_depth(&write_depth(depth)), Some(depth));
            }
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "[0-9.]{0,24}[a-zA-Z/%]{0,5}|.*") {
            let _ = (read_time(&text), read_rate(&text), read_depth(&text), read_share(&text));
        }
    }
}
