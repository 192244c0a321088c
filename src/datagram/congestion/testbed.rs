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

pub use flow::{Flow, Peer};
pub use link::{Link, Loss, Random};
pub use world::{Report, World};
