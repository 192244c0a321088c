//! The carrier over UDP: numbered packets, acknowledgement, repair, pacing, congestion control. Sans-IO.
//!
//! ```text
//!   chunks ─► Sender ── DATA, FLOOR ──────► Receiver ─► chunks
//!               ▲                              │
//!               └── ACK: numbers, credit, ◄────┘ ◄── placed, credit
//!                   what is placed
//!
//!   Sender     outgoing (pieces), sent + loss (who is missing), rtt, congestion + pacer (how fast), mtu (how large)
//!   Receiver   incoming (pieces), received (numbers), when to acknowledge
//!   both       shell: keys, numbers, path; trace: a diary, if somebody wants one
//! ```
//!
//! **Contract.** Both are values: `handle_datagram`, then drain `poll_transmit` and the events, then wait until
//! `poll_timeout` and call `handle_timeout`. Time is a `Duration` since any fixed start. Whatever a peer sends, the
//! answer is a [`FlowError`] at most; what is not authentic changes nothing.
//!
//! **A chunk** is delivered whole and once; chunks may overtake each other. A packet number is never used twice: what
//! is sent again has another. What the receiver says about credit and placement is a state, not an event: each ACK
//! repeats all of it, so that a lost one costs nothing.

mod chance;
pub mod congestion;
mod incoming;
mod loss;
mod mtu;
mod outgoing;
pub mod pacer;
mod path;
mod ranges;
pub mod raw;
mod received;
mod receiver;
mod rtt;
mod sender;
mod sent;
mod shell;
#[cfg(test)]
mod tests;
mod trace;

use std::net::SocketAddr;

pub use incoming::Whole;
pub use mtu::BASE_BYTES;
pub use path::Path;
pub use receiver::{Receiver, ReceiverStats};
pub use sender::{Placed, Sender, SenderStats};
pub use trace::Trace;

use crate::{
    security::{Opener, Sealer},
    wire::packet::PacketError,
};

/// What both ends of a flow are made with.
#[derive(Debug)]
pub struct FlowConfig {
    /// Our keys.
    pub sealer: Sealer,
    /// The peer's keys.
    pub opener: Opener,
    /// Where the peer is.
    pub path: Path,
    /// Fresh random bytes.
    pub seed: [u8; 32],
}

/// Datagrams to send: `out` holds them one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub to: SocketAddr,
    /// Length of each datagram, bytes; the last may be shorter.
    pub segment_bytes: usize,
}

/// Why a flow cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// An authentic packet holds no blocks. protocol.md [PACKET-5]
    #[error(transparent)]
    Malformed(#[from] PacketError),
    /// The peer did what the protocol does not allow.
    #[error("{0}")]
    Violation(&'static str),
    /// The keys may not be used for further packets.
    #[error("the keys of the flow are used up")]
    Spent,
}
