//! One connection and its time, with a peer that sends, is silent, or does not read.

use std::io::{self, Write};
use std::time::Duration;

use haul::limits;
use haul::security::Channel;
use haul::stream::{Link, LinkError};
use haul::wire::frame::{Frame, FrameReader};
use haul::wire::hello::Hello;
use haul::wire::message::{Message, Ping};

use super::bytes::Bytes;
use super::stream_of;

/// A peer is given up on exactly when it was silent for the idle time; time never stands still; what leaves is frames,
/// in whatever pieces the socket takes them; and a peer that does not read its answers cannot make them pile up.
pub fn connection(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut now = Duration::from_secs(1000);
    let mut link = Link::new(Channel::plain(), limits::IDLE_TIMEOUT, now);
    if bytes.coin() {
        link.handle_input(now, &Hello::ours([1; 32], None).encode()).expect("our own hello");
        link.on_authenticated();
    }
    let mut socket = Socket::default();
    let mut queued = 0;

    while !bytes.is_empty() {
        match bytes.below(8) {
            0..=2 => {
                let input =
                    if bytes.below(4) == 0 { bytes.some().to_vec() } else { stream_of::frame(&mut bytes) };
                let cut = bytes.below(256).min(input.len());
                for part in [&input[..cut], &input[cut..]] {
                    if link.handle_input(now, part).is_err() {
                        return;
                    }
                }
                while link.poll_frame().is_some() {}
            }
            3 => {
                let frame = Frame::Message(Message::Ping(Ping { number: bytes.number() }));
                queued += frame.encode().len() + 4;
                link.queue(now, frame);
            }
            4 => {
                let content = vec![7; 1 + bytes.below(256)];
                queued += content.len() + 64;
                link.queue(now, Frame::Data { file: 0, offset: bytes.number() & (1 << 40), bytes: content });
            }
            5 => {
                socket.room = usize::from(bytes.half());
                let before = socket.taken.len();
                match link.transmit(&mut socket) {
                    Ok(written) => assert_eq!(written, socket.taken.len() - before),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            6 => link.on_unread(now),
            _ => {
                let timeout = link.poll_timeout();
                let step = Duration::from_millis(bytes.half().into());
                now = if bytes.coin() { timeout.max(now) } else { now + step };
                let is_silent = now >= link.last_heard() + limits::IDLE_TIMEOUT;
                match link.handle_timeout(now) {
                    Ok(()) => assert!(!is_silent && link.poll_timeout() > now),
                    Err(error) => {
                        assert!(is_silent && matches!(error, LinkError::Silent(limits::IDLE_TIMEOUT)));
                        return;
                    }
                }
                // A PING of our own.
                queued += 32;
            }
        }
        // An answer more than the bound may be there: it is asked before each.
        assert!(link.pending_bytes() <= limits::CONTROL_MAX_BYTES + queued + 64);
    }

    socket.room = usize::MAX;
    while link.wants_write() {
        link.transmit(&mut socket).expect("it takes everything");
    }
    let mut reader = FrameReader::new(true, limits::CHUNK_MAX_BYTES);
    reader.handle_input(&socket.taken).expect("what leaves is frames");
    assert!(reader.is_between_frames());
}

/// Takes so many bytes at a time.
#[derive(Default)]
struct Socket {
    room: usize,
    taken: Vec<u8>,
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = bytes.len().min(self.room);
        self.room -= len;
        self.taken.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
