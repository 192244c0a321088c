//! Sizes, rates and times: how people read them and how they write them.
//!
//! Everything is decimal, as networks and disks are sold: 1 kB is 1000 bytes, 1 kbit is 1000 bits. What is typed
//! names its unit (`200mbit`, `25MB/s`, `30s`), because a bare number or a lone `mb` has misled too many people;
//! binary prefixes (`MiB`) are understood. Zero is refused: it never means unlimited.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A rate in bits per second, more than zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate {
    bits_per_s: u64,
}

/// Why a text is not a rate, a size or a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// No number in front.
    #[error("it has to start with a number")]
    NoNumber,
    /// A rate with a unit that is missing, unknown or could mean two things.
    #[error("it needs a unit such as 200mbit or 25MB/s (B are bytes, bit are bits)")]
    RateUnit,
    /// A size with a unit that is missing or unknown.
    #[error("it needs a unit such as 64MiB or 10GB")]
    SizeUnit,
    /// A time with a unit that is missing or unknown.
    #[error("it needs a unit: ms, s, m, h or d")]
    TimeUnit,
    /// Zero, or so little that it rounds to zero.
    #[error("it has to be more than zero")]
    Zero,
    /// More than a number of 64 bits holds.
    #[error("it is too large")]
    TooLarge,
}

impl Bitrate {
    /// Bits per second.
    pub fn bits_per_s(self) -> u64 {
        self.bits_per_s
    }

    /// Bytes per second, at least one.
    pub fn bytes_per_s(self) -> u64 {
        (self.bits_per_s / 8).max(1)
    }
}

impl FromStr for Bitrate {
    type Err = UnitError;

    /// Reads `200mbit`, `1.5Gbit/s`, `25MB/s`, `10MiB`. Prefixes may have either case; a byte's B is a capital.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (number, unit) = split_number(text)?;
        let unit = unit.strip_suffix("/s").unwrap_or(unit);
        let lower = unit.to_ascii_lowercase();
        let (prefix, bits) = if let Some(prefix) = unit.strip_suffix('B') {
            (prefix.to_ascii_lowercase(), 8)
        } else if let Some(prefix) = lower.strip_suffix("bit") {
            (prefix.to_owned(), 1)
        } else {
            return Err(UnitError::RateUnit);
        };
        let scale = scale_of(&prefix).ok_or(UnitError::RateUnit)?;
        Ok(Self { bits_per_s: number.times(bits * scale)? })
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&scaled(
            self.bits_per_s,
            &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s", "Pbit/s", "Ebit/s"],
        ))
    }
}

/// Reads a number of bytes: `10GB`, `64MiB`, `1000B`.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let (number, unit) = split_number(text)?;
    let prefix = unit.strip_suffix('B').ok_or(UnitError::SizeUnit)?;
    number.times(scale_of(&prefix.to_ascii_lowercase()).ok_or(UnitError::SizeUnit)?)
}

/// What a prefix in lower case multiplies by.
fn scale_of(prefix: &str) -> Option<u128> {
    Some(match prefix {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    })
}

/// Reads `30s`, `5m`, `500ms`, `1.5h`, `2d`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let (number, unit) = split_number(text)?;
    let nanos_per_unit: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(UnitError::TimeUnit),
    };
    number.times(nanos_per_unit).map(Duration::from_nanos)
}

/// A number of bytes: `999 B`, `1.50 GB`, `123 TB`.
pub fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// A rate in bytes per second: `12.3 MB/s`.
pub fn rate(bytes_per_s: u64) -> String {
    format!("{}/s", bytes(bytes_per_s))
}

/// A measured rate in bits per second: `93.1 Mbit/s`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a negative rate is none")]
pub fn bit_rate(bits_per_s: f64) -> String {
    Bitrate { bits_per_s: bits_per_s.max(0.0).round() as u64 }.to_string()
}

/// A time in at most seven columns: `0.4s`, `59s`, `2m05s`, `3h07m`, `4d03h`, `>99d`.
pub fn duration(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0..=9 => format!("{secs}.{}s", time.subsec_millis() / 100),
        10..=59 => format!("{secs}s"),
        60..=3599 => format!("{}m{:02}s", secs / 60, secs % 60),
        3600..=86_399 => format!("{}h{:02}m", secs / 3600, secs / 60 % 60),
        86_400..=8_639_999 => format!("{}d{:02}h", secs / 86_400, secs / 3600 % 24),
        _ => ">99d".to_owned(),
    }
}

/// A count of things whose plural ends in s: `1 file`, `12 files`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// At most three digits, rounded, and a unit, each 1000 times the one before it.
fn scaled(count: u64, units: &[&str; 7]) -> String {
    if count < 1000 {
        return format!("{count} {}", units[0]);
    }
    let mut scale: u128 = 1;
    for unit in &units[1..] {
        scale *= 1000;
        for (divisor, places) in [(100, 2), (10, 1), (1, 0)] {
            let digits = (u128::from(count) * divisor + scale / 2) / scale;
            match (digits, places) {
                (1000.., _) => {}
                (digits, 0) => return format!("{digits} {unit}"),
                (digits, places) => {
                    return format!("{}.{:0places$} {unit}", digits / divisor, digits % divisor);
                }
            }
        }
    }
    unreachable!("a number of 64 bits is less than a thousand of the seventh unit")
}

/// A decimal number as it was typed, exact: `digits` divided by a power of ten.
struct Decimal {
    digits: u128,
    divisor: u128,
}

impl Decimal {
    /// This many of something, rounded down.
    fn times(&self, unit: u128) -> Result<u64, UnitError> {
        let product = self.digits.checked_mul(unit).ok_or(UnitError::TooLarge)? / self.divisor;
        match u64::try_from(product) {
            Ok(0) => Err(UnitError::Zero),
            Ok(count) => Ok(count),
            Err(_) => Err(UnitError::TooLarge),
        }
    }
}

/// A number, whole or with a decimal point, and the unit behind it.
fn split_number(text: &str) -> Result<(Decimal, &str), UnitError> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err(UnitError::NoNumber);
    }
    if number.len() > 20 {
        return Err(UnitError::TooLarge);
    }
    let digits = format!("{whole}{fraction}").parse().map_err(|_| UnitError::NoNumber)?;
    let places = u32::try_from(fraction.len()).map_err(|_| UnitError::TooLarge)?;
    Ok((Decimal { digits, divisor: 10_u128.pow(places) }, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_have_three_digits_and_never_a_thousand() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1_234, "1.23 kB"),
            (12_345, "12.3 kB"),
            (123_456, "123 kB"),
            (999_999, "1.00 MB"),
            (1_500_000_000, "1.50 GB"),
            (u64::MAX, "18.4 EB"),
        ];

        for (count, shown) in cases {
            assert_eq!(bytes(count), shown);
        }
        assert_eq!(rate(12_300_000), "12.3 MB/s");
    }

    #[test]
    fn a_size_names_its_unit() {
        assert_eq!(parse_bytes("10GB"), Ok(10_000_000_000));
        assert_eq!(parse_bytes("64 MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("1.5kB"), Ok(1500));
        assert_eq!(parse_bytes("7B"), Ok(7));
        for (text, why) in [
            ("10", UnitError::SizeUnit),
            ("10G", UnitError::SizeUnit),
            ("10mb", UnitError::SizeUnit),
            ("0B", UnitError::Zero),
            ("GB", UnitError::NoNumber),
            ("99999999999TB", UnitError::TooLarge),
        ] {
            assert_eq!(parse_bytes(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_size_is_wider_than_seven_columns(count in any::<u64>(), shift in 0..64_u32) {
            prop_assert!(bytes(count >> shift).len() <= 7);
        }

        #[test]
        fn no_time_is_wider_than_six_columns(millis in any::<u64>(), shift in 0..64_u32) {
            prop_assert!(duration(Duration::from_millis(millis >> shift)).len() <= 6);
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in "[0-9.]{0,24}[a-zA-Z/ ]{0,6}|.*") {
            let _ = text.parse::<Bitrate>();
            let _ = parse_duration(&text);
        }
    }

    #[test]
    fn times_are_short() {
        let cases = [
            (0, "0.0s"),
            (440, "0.4s"),
            (59_999, "59s"),
            (125_000, "2m05s"),
            (3_599_000, "59m59s"),
            (11_220_000, "3h07m"),
            (356_400_000, "4d03h"),
            (8_640_000_000, ">99d"),
        ];

        for (millis, shown) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn rates_are_read_in_bits_and_in_bytes() {
        let cases = [
            ("200mbit", 200_000_000),
            ("200 Mbit/s", 200_000_000),
            ("1.5Gbit", 1_500_000_000),
            ("25MB/s", 200_000_000),
            ("25mB", 200_000_000),
            ("1MiB/s", 8 << 20),
            ("9kbit", 9_000),
            ("800bit", 800),
            ("1B", 8),
        ];

        for (text, bits) in cases {
            assert_eq!(text.parse::<Bitrate>().map(Bitrate::bits_per_s), Ok(bits), "{text}");
        }
        assert_eq!("200mbit".parse::<Bitrate>().unwrap().to_string(), "200 Mbit/s");
        assert_eq!("200mbit".parse::<Bitrate>().unwrap().bytes_per_s(), 25_000_000);
        assert_eq!("1bit".parse::<Bitrate>().unwrap().bytes_per_s(), 1);
    }

    #[test]
    fn a_rate_that_could_mean_two_things_is_refused() {
        let cases = [
            ("200", UnitError::RateUnit),
            ("200m", UnitError::RateUnit),
            ("25mb/s", UnitError::RateUnit),
            ("200mbps", UnitError::RateUnit),
            ("0mbit", UnitError::Zero),
            ("0.1bit", UnitError::Zero),
            ("mbit", UnitError::NoNumber),
            (".5mbit", UnitError::NoNumber),
            ("1.2.3mbit", UnitError::NoNumber),
            ("-1mbit", UnitError::NoNumber),
            ("99999999999999999999tbit", UnitError::TooLarge),
            ("999999999999999999999mbit", UnitError::TooLarge),
        ];

        for (text, why) in cases {
            assert_eq!(text.parse::<Bitrate>(), Err(why), "{text}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        let cases = [
            ("30s", Ok(Duration::from_secs(30))),
            ("5m", Ok(Duration::from_secs(300))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("1.5h", Ok(Duration::from_secs(5400))),
            ("2d", Ok(Duration::from_secs(172_800))),
            ("30", Err(UnitError::TimeUnit)),
            ("30S", Err(UnitError::TimeUnit)),
            ("0s", Err(UnitError::Zero)),
            ("forever", Err(UnitError::NoNumber)),
            ("99999999999999999999d", Err(UnitError::TooLarge)),
        ];

        for (text, wanted) in cases {
            assert_eq!(parse_duration(text), wanted, "{text}");
        }
    }
}
