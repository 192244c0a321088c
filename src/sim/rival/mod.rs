//! A flow of kernel TCP with CUBIC, as far as a path and those who share it can tell: what leaves when, and what is lost
//! on it. It has no bytes and no headers, only segments with numbers, and lengths as they are on the wire.
//!
//! ```text
//!   Sender: scoreboard, RACK, PRR, timeout ──── segments ───► Receiver: blocks, every second segment
//!      ▲ window                           ▲                                 │
//!     Law: CUBIC and HyStart of Linux     └────── acknowledgements ─────────┘
//! ```
//!
//! It follows Linux where that is not what the RFCs say, since it stands for what is met in the field: the law counts in
//! whole packets as `tcp_cubic.c` does, ends slow start by the original HyStart and not by RFC 9406, and nothing is
//! paced. `tests/campaign/cubic.md` holds it against the kernel. Left out, as they change nothing on a link that keeps
//! packets in order: undo of false losses, F-RTO, tail loss probes, the compression of acknowledgements, the headers.

mod law;
mod receiver;
mod sender;

use std::time::Duration;

use super::{figures::Curve, lane::End};
use receiver::{Ack, Receiver};
use sender::{Segment, Sender};

/// Content of a full segment with timestamps over Ethernet, bytes.
pub const SEGMENT_BYTES: u64 = 1448;
/// Bytes of IPv4 and TCP headers with timestamps.
const HEADERS_BYTES: usize = 52;

/// When a CUBIC flow sends.
#[derive(Clone, Copy, Debug)]
pub struct RivalConfig {
    /// Its first moment.
    pub start: Duration,
    /// From then on it sends nothing; `None` never ends.
    pub end: Option<Duration>,
}

impl RivalConfig {
    /// A flow that begins at this time and never ends.
    pub fn from(start: Duration) -> Self {
        Self { start, end: None }
    }
}

/// One flow, both ends.
#[derive(Debug)]
pub struct Rival {
    sender: Sender,
    receiver: Receiver,
    curve: Curve,
}

/// What is on the way between its ends.
#[derive(Clone, Debug)]
pub enum Packet {
    /// To the receiver.
    Segment(Segment),
    /// To the sender.
    Ack(Ack),
}

impl Packet {
    /// Bytes of the IP packet.
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Segment(_) => HEADERS_BYTES + usize::try_from(SEGMENT_BYTES).expect("a packet"),
            Self::Ack(ack) => HEADERS_BYTES + ack.option_bytes(),
        }
    }
}

impl Rival {
    /// A flow that has not sent yet.
    pub fn new(config: RivalConfig) -> Self {
        Self {
            sender: Sender::new(config.start, config.end.unwrap_or(Duration::MAX)),
            receiver: Receiver::default(),
            curve: Curve::default(),
        }
    }

    /// A packet reaches the end that it is for.
    pub fn handle_packet(&mut self, now: Duration, packet: &Packet) {
        match packet {
            Packet::Segment(segment) => {
                if self.receiver.handle_segment(now, *segment) {
                    self.curve.add(now, SEGMENT_BYTES);
                }
            }
            Packet::Ack(ack) => self.sender.handle_ack(now, ack),
        }
    }

    /// The next packet of an end.
    pub fn poll_transmit(&mut self, now: Duration, of: End) -> Option<Packet> {
        match of {
            End::Sender => self.sender.poll_transmit(now).map(Packet::Segment),
            End::Receiver => self.receiver.poll_transmit(now).map(Packet::Ack),
        }
    }

    /// When an end wants to be asked again.
    pub fn poll_timeout(&self, of: End) -> Option<Duration> {
        match of {
            End::Sender => self.sender.poll_timeout(),
            End::Receiver => self.receiver.poll_timeout(),
        }
    }

    /// New content by the time it arrived.
    pub fn curve(&self) -> &Curve {
        &self.curve
    }
}
