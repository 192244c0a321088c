//! The integers of packets.

use haul::wire::varint::{VARINT_MAX, len, put, take};

use super::bytes::Bytes;

/// A value has one encoding.
pub fn varint(data: &[u8]) {
    let mut rest = data;
    while let Some(value) = take(&mut rest) {
        let mut written = Vec::new();
        put(&mut written, value);
        assert_eq!(written.len(), len(value));
        assert!(data[..data.len() - rest.len()].ends_with(&written));
    }

    let value = u64::from_le_bytes(Bytes::new(data).array()) & VARINT_MAX;
    let mut written = Vec::new();
    put(&mut written, value);
    assert_eq!(take(&mut &written[..]), Some(value));
    assert_eq!(take(&mut &written[..written.len() - 1]), None);
}
