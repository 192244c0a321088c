//! The raw flow: packets with numbers, and nothing else. What is lost stays lost, so that a person sees what UDP does.
//!
//! ```text
//!   chunks ─► RawSender ── CHALLENGE, then DATA at the rate ──► RawReceiver ─► pieces, counts
//!                 ▲                                                  │
//!                 └── PING (a client makes itself known), RESPONSE ◄─┘
//! ```
//!
//! Content leaves once a CHALLENGE was answered, so that the path is known to work in both directions and the address to
//! be the peer's. From then on the sender hears nothing more of its content. The challenge is as long as content packets
//! will be: what is not answered may be too long for the path.
//!
//! Packet numbers count from 0 and none is left out, so that the receiver can tell what is missing when it is told how
//! many there were.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use receiver::{RawCounts, RawReceiver};
pub use sender::RawSender;

use super::{BASE_BYTES, FlowError};

/// Bytes of a datagram: what an Ethernet frame holds behind the headers of IPv6 and UDP …
pub const RAW_PACKET_BYTES: u64 = 1452;
/// … or what every path carries, where that was not answered.
pub const RAW_PACKET_FEW_BYTES: u64 = BASE_BYTES;
/// So many challenges of full length go unanswered before shorter ones are tried.
const FULL_TRIES: usize = 3;
/// When a packet that has to be answered is sent again, since the first. protocol.md [PATH-4]
const TRIES: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(50), Duration::from_millis(150), Duration::from_millis(350)];
/// Between further tries.
const TRY_PERIOD: Duration = Duration::from_millis(500);
/// After so many packets, the receiver is asked for a sign of life, so that keys may change ([SEAL-4]).
const CHECK_EVERY: u64 = 1 << 18;
const _: () = assert!(CHECK_EVERY * 8 <= crate::limits::KEY_UPDATE_PACKETS);

/// The receiver waits at least so long for what is late …
const GRACE_MIN: Duration = Duration::from_millis(500);
/// … and at least so many round trips …
const GRACE_ROUNDS: u32 = 2;
/// … since the last that came, but not longer than so many times that in all.
const GRACE_TIMES: u32 = 8;

/// When try number `count` is due.
fn try_at(start: Duration, count: usize) -> Duration {
    let last = TRIES.len() - 1;
    let more = u32::try_from(count.saturating_sub(last)).unwrap_or(u32::MAX);
    start.saturating_add(TRIES[count.min(last)]).saturating_add(TRY_PERIOD.saturating_mul(more))
}

/// How many tries are due by then. Who wakes late makes up for none: what was missed is not sent at once.
fn tries_by(start: Duration, now: Duration) -> usize {
    let since = now.saturating_sub(start);
    match since.checked_sub(TRIES[TRIES.len() - 1]) {
        None => TRIES.iter().filter(|at| **at <= since).count(),
        Some(more) => {
            let more = usize::try_from(more.as_nanos() / TRY_PERIOD.as_nanos()).unwrap_or(usize::MAX);
            more.saturating_add(TRIES.len())
        }
    }
}

/// protocol.md [RAW-1]
const NO_PLACE: FlowError = FlowError::Violation("it sent over a raw flow what has no place there");
