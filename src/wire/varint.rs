//! Variable-length integers of RFC 9000, section 16: the two high bits of the first byte say the length.
//!
//! ```text
//! 00xxxxxx                  1 byte    up to 63
//! 01xxxxxx ...              2 bytes   up to 16,383
//! 10xxxxxx ... ... ...      4 bytes   up to 1,073,741,823
//! 11xxxxxx ... (7 more)     8 bytes   up to 2^62 - 1
//! ```
//!
//! Big-endian, as the RFC has them. There is exactly one encoding for each value: a longer one than needed is refused.

/// Largest value that fits.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes.
pub const fn len(value: u64) -> usize {
    match value {
        0..=63 => 1,
        64..=16_383 => 2,
        16_384..=1_073_741_823 => 4,
        _ => 8,
    }
}

/// Appends `value`, at most [`VARINT_MAX`].
pub fn put(out: &mut Vec<u8>, value: u64) {
    assert!(value <= VARINT_MAX);
    let bytes = value.to_be_bytes();
    match len(value) {
        1 => out.push(bytes[7]),
        2 => out.extend_from_slice(&[bytes[6] | 0x40, bytes[7]]),
        4 => out.extend_from_slice(&[bytes[4] | 0x80, bytes[5], bytes[6], bytes[7]]),
        _ => {
            out.push(bytes[0] | 0xc0);
            out.extend_from_slice(&bytes[1..]);
        }
    }
}

/// Takes a value from the front of `bytes`; `None` if it is cut off or longer than it need be. protocol.md [PACKET-4]
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let n = 1 << (first >> 6);
    let (head, rest) = bytes.split_at_checked(n)?;
    let value = head[1..].iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    *bytes = rest;
    (len(value) == n).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_change_where_the_rfc_says() {
        // protocol.md [PACKET-4]
        for (value, expected) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 4),
            (1_073_741_823, 4),
            (1_073_741_824, 8),
            (VARINT_MAX, 8),
        ] {
            let mut out = Vec::new();
            put(&mut out, value);

            assert_eq!(out.len(), expected, "{value}");
            assert_eq!(take(&mut &out[..]), Some(value));
            assert_eq!(take(&mut &out[..expected - 1]), None);
        }
    }

    #[test]
    fn the_examples_of_the_rfc_decode() {
        // RFC 9000, appendix A.1.
        assert_eq!(take(&mut &hex("c2197c5eff14e88c")[..]), Some(151_288_809_941_952_652));
        assert_eq!(take(&mut &hex("9d7f3e7d")[..]), Some(494_878_333));
        assert_eq!(take(&mut &hex("7bbd")[..]), Some(15_293));
        assert_eq!(take(&mut &hex("25")[..]), Some(37));
    }

    #[test]
    fn a_longer_encoding_than_needed_is_refused() {
        // protocol.md [PACKET-4]; the RFC's own example of 37 in two bytes.
        assert_eq!(take(&mut &hex("4025")[..]), None);
    }

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..=VARINT_MAX, tail: Vec<u8>) {
            let mut out = Vec::new();
            put(&mut out, value);
            prop_assert_eq!(out.len(), len(value));
            out.extend_from_slice(&tail);
            let mut rest = &out[..];

            prop_assert_eq!(take(&mut rest), Some(value));
            prop_assert_eq!(rest, &tail[..]);
        }
    }
}
