//! The first bytes of a connection.

use haul::integrity::crc32c::crc32c;
use haul::limits;
use haul::wire::hello::{Hello, HelloError, MAGIC, agreed_version};

use super::bytes::Bytes;

/// A hello shows its end or its fault at one byte, wherever it is cut, and what was read is written as the same value.
pub fn hello(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let input = if bytes.coin() { whole(bytes.rest()) } else { bytes.rest().to_vec() };

    let decided = (0..=input.len()).find_map(|end| match Hello::decode(&input[..end]) {
        Ok(None) => None,
        decided => Some((end, decided)),
    });

    // What follows changes nothing.
    let at_once = Hello::decode(&input);
    assert_eq!(at_once, decided.as_ref().map_or(Ok(None), |(_, decided)| decided.clone()));
    match decided {
        None => assert!(input.len() < limits::HELLO_MAX_BYTES),
        Some((end, Err(HelloError::NotHaul))) => assert!(end <= MAGIC.len()),
        Some((end, Err(_))) => assert!(end <= limits::HELLO_MAX_BYTES),
        Some((end, Ok(hello))) => {
            let (hello, len) = hello.expect("it was decided");
            assert_eq!(len, end);
            survives(&hello);
        }
    }
}

fn survives(hello: &Hello) {
    let written = hello.encode();
    assert_eq!(Hello::decode(&written), Ok(Some((hello.clone(), written.len()))));
    let ours = Hello::ours([0; 32], None);
    let agreed = agreed_version(&ours, hello);
    assert_eq!(agreed, agreed_version(hello, &ours));
    assert!(agreed.is_none_or(|version| (hello.version_min..=hello.version_max).contains(&version)));
}

/// Versions and extensions as they stand there, in a hello whose length and checksum are right.
fn whole(body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(limits::HELLO_MAX_BYTES - 10)];
    let mut out = MAGIC.to_vec();
    let len = u16::try_from(body.len() + 10).expect("a hello is short");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(body);
    let checksum = crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}
