//! Handles bytes that must not leak: overwrites them when they go, compares them without telling where they differ.
//!
//! Both are done against an optimiser that means well, and neither is a guarantee: copies in registers and in
//! buffers that were freed earlier are out of reach.

/// Bytes of any length that are overwritten when they are dropped.
pub(super) struct SecretBytes(pub(super) Vec<u8>);

impl Drop for SecretBytes {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites secret bytes in a way that the compiler does not take for a useless write.
pub(super) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

/// Compares in a time that does not depend on where the two differ.
pub(super) fn equal<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    let difference = a.iter().zip(b).fold(0, |all, (x, y)| std::hint::black_box(all | (x ^ y)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_in_any_bit_is_seen() {
        let a = [0x5a; 16];

        assert!(equal(&a, &a));
        for bit in 0..128 {
            let mut b = a;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(!equal(&a, &b), "bit {bit}");
        }
    }

    #[test]
    fn wiped_bytes_are_zero() {
        let mut bytes = *b"secret";

        wipe(&mut bytes);

        assert_eq!(bytes, [0; 6]);
    }
}
