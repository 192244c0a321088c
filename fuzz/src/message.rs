//! The control messages, each with its type.

use haul::limits;
use haul::wire::frame::FrameType;
use haul::wire::message::{Message, open_fits, short_text};

/// A message has one encoding: what is taken is written as the same bytes, and nothing is taken with a byte less.
pub fn message(data: &[u8]) {
    let Some((&choice, payload)) = data.split_first() else { return };
    let kind = FrameType::ALL[usize::from(choice) % FrameType::ALL.len()];

    let Ok(message) = Message::decode(kind, payload) else { return };

    assert_eq!(message.frame_type(), kind);
    let mut written = Vec::new();
    message.encode(&mut written);
    assert_eq!(written, payload);
    let shorter = payload.split_last().and_then(|(_, shorter)| Message::decode(kind, shorter).ok());
    assert_eq!(shorter, None);
    match message {
        Message::Open(open) => assert!(open_fits(&open) || payload.len() > limits::CONTROL_MAX_BYTES / 2),
        Message::Close(close) => assert_eq!(short_text(close.text.clone()), close.text),
        _ => {}
    }
}
