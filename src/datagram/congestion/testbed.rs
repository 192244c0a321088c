//! A world of senders, one bottleneck and receivers on a virtual clock, for controllers only: no bytes, no wire format.
//!
//! ```text
//!   sender ─► policer ─► queue (drop-tail bytes, rate) ─► loss ─► half the round trip, late packets ─► receiver
//!      ▲                                                                                                  │
//!      └───────────────────────── half the round trip, nothing lost ◄──── acknowledgement each srtt/8 ────┘
//! ```

mod flow;
mod link;
mod scenarios;
mod world;

pub use flow::Peer;
pub use link::{Link, Loss, Random};
pub use world::{Report, World};

use std::time::Duration;

use super::{AckEvent, LostPacket, SendState};

/// An acknowledgement of `acked` and loss of `lost` bytes on a path of 100 ms, with nothing remarkable about it.
pub fn plain_ack(acked: u64, lost: u64) -> AckEvent {
    AckEvent {
        acked_bytes: acked,
        lost_bytes: lost,
        prior_in_flight: 1 << 40,
        in_flight: 1 << 20,
        rtt: None,
        smoothed_rtt: Duration::from_millis(100),
        rate: None,
        ack_interval: Duration::from_millis(12),
        receiver_drops: 0,
    }
}

/// A lost packet of 1000 bytes that was sent then.
pub fn lost_packet(sent_at: Duration) -> LostPacket {
    let state = SendState {
        sent_at,
        delivered: 0,
        delivered_at: Duration::ZERO,
        first_sent_at: Duration::ZERO,
        lost: 0,
        in_flight: 0,
        is_app_limited: false,
    };
    LostPacket { bytes: 1000, state }
}
