//! CRC-32C of a chunk: finds which chunk is wrong; proves nothing by itself.

/// The CRC-32C (Castagnoli; RFC 3720, section 12.1) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_comes_out() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
