//! Numbers as a reader of the page sees them. What is no finite number is a dash.

use crate::units;

/// Stands where nothing is known.
pub(super) const DASH: &str = "–";

/// Three digits that tell something: `37.2`, `1840`, `0.052`.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return DASH.to_owned();
    }
    let places = match value.abs() {
        100.0.. => 0,
        10.0..100.0 => 1,
        1.0..10.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    let text = if places > 0 { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// A share: `1.9 %`.
pub(super) fn percent(value: f64) -> String {
    with_unit(value, "%")
}

/// A time that stands in seconds, in milliseconds: `84.3 ms`.
pub(super) fn milliseconds(seconds: f64) -> String {
    with_unit(seconds * 1e3, "ms")
}

/// A time in seconds: `2.31 s`.
pub(super) fn seconds(seconds: f64) -> String {
    with_unit(seconds, "s")
}

/// A rate in bits a second: `37.2 Mbit/s`.
pub(super) fn rate(bits_per_s: f64) -> String {
    if bits_per_s.is_finite() { units::bit_rate(bits_per_s) } else { DASH.to_owned() }
}

/// A count in groups of three digits: `12,345`.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The date and the time of day in UTC of so many seconds since 1970: `2026-11-23 18:12 UTC`.
pub(super) fn moment(unix_time_s: u64) -> String {
    let (mut days, time) = (unix_time_s / 86_400, unix_time_s % 86_400);
    // The calendar repeats after 400 years.
    let mut year = 1970 + 400 * (days / 146_097);
    days %= 146_097;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, time / 3600, time / 60 % 60)
}

fn with_unit(value: f64, unit: &str) -> String {
    // A space that no line ends at.
    if value.is_finite() { format!("{}\u{a0}{unit}", number(value)) } else { DASH.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_tell_something() {
        let shown = [0.0, -0.0, 0.0523, 3.8, 4.0, 37.25, 100.0, 1840.4].map(number);

        assert_eq!(shown, ["0", "0", "0.052", "3.8", "4", "37.2", "100", "1840"]);
        assert_eq!([f64::NAN, f64::INFINITY].map(percent), [DASH, DASH]);
        assert_eq!([f64::NAN, f64::NEG_INFINITY].map(rate), [DASH, DASH]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn moments_are_civil() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(moment(1_795_457_548), "2026-11-23 18:12 UTC");
        assert_eq!(moment(4_102_444_799), "2099-12-31 23:59 UTC");
    }
}
