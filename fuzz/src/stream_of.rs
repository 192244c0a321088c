//! What a hostile peer says first on a connection without TLS: something like a hello, something like frames.

use haul::integrity::crc32c::crc32c;
use haul::limits;
use haul::wire::frame::FrameType;
use haul::wire::hello::{FEATURES, Hello, Join};
use haul::wire::message::{Auth, AuthMethod, Message, Welcome};

use super::bytes::Bytes;

/// Bytes whose checksums are right where a fuzzer would not find them.
pub fn opening(bytes: &mut Bytes<'_>) -> Vec<u8> {
    if bytes.below(8) == 0 {
        return bytes.rest().to_vec();
    }
    let mut out = hello(bytes).encode();
    while !bytes.is_empty() {
        out.extend_from_slice(&frame(bytes));
    }
    out
}

fn hello(bytes: &mut Bytes<'_>) -> Hello {
    let (version_min, version_max) = bytes.one_of(&[(1, 1), (1, 3), (2, 3), (0, 0)]);
    let stream = bytes.one_of(&[0, 1, 15]);
    Hello {
        version_min,
        version_max,
        nonce: [bytes.byte(); 32],
        features: if bytes.coin() { FEATURES } else { bytes.number() },
        chunk_max: bytes.one_of(&[1 << 16, 1 << 20, 4 << 20]),
        agent: "fuzz".to_owned(),
        join: bytes.coin().then_some(Join { session: [9; 16], stream }),
    }
}

/// A frame of any type, its checksum right in most cases.
pub fn frame(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let choice = bytes.byte();
    let mut payload = Vec::new();
    let kind = match choice % 8 {
        0 | 1 => {
            let method =
                bytes.one_of(&[AuthMethod::Open, AuthMethod::Token, AuthMethod::Key, AuthMethod::Join]);
            Message::Auth(Auth { method, proof: [bytes.byte(); 32] }).encode(&mut payload);
            FrameType::Auth.number()
        }
        2 => {
            let welcome = Welcome { proof: [bytes.byte(); 32], session: [9; 16], max_streams: 4 };
            Message::Welcome(welcome).encode(&mut payload);
            FrameType::Welcome.number()
        }
        3 => {
            payload.extend_from_slice(&bytes.array::<8>());
            FrameType::Ping.number()
        }
        4..=6 => {
            payload.extend_from_slice(bytes.some());
            FrameType::ALL[bytes.below(FrameType::ALL.len())].number()
        }
        _ => {
            payload.extend_from_slice(bytes.some());
            bytes.half()
        }
    };
    let length = if choice < 240 { payload.len() } else { limits::CONTROL_MAX_BYTES + payload.len() };
    let mut out = u32::try_from(length).expect("a short payload").to_le_bytes().to_vec();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&u16::from(choice & 8 != 0).to_le_bytes());
    out.extend_from_slice(&payload);
    let checksum = crc32c(&out) ^ u32::from(choice == 239);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}
