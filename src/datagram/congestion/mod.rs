//! How much may be on its way, and how fast it may leave: one law a file.
//!
//! ```text
//!   sent, acknowledged, lost packets ─► RateSampler ─► RateSample ─┐
//!                                                                  ▼
//!   AckEvent, LostPacket, spurious losses ────────────────► Controller ─► window(), pacing_rate()
//! ```
//!
//! A controller is a value: it has no clock and no packets, it only hears events and answers two questions. All
//! counts of bytes are of whole datagrams as UDP carries them (header and tag included, IP and UDP headers not).

mod sampler;

use std::time::Duration;

pub use sampler::{RateSample, RateSampler, SendState};

/// What one acknowledgement told, after loss detection has seen it too.
#[derive(Clone, Copy, Debug)]
pub struct AckEvent {
    /// Bytes that this acknowledgement newly says have arrived.
    pub acked_bytes: u64,
    /// Bytes of packets declared lost since the last event.
    pub lost_bytes: u64,
    /// Bytes in flight before this acknowledgement.
    pub prior_in_flight: u64,
    /// Bytes in flight behind it.
    pub in_flight: u64,
    /// The round-trip time that it measured, less the receiver's delay; only if its largest number is newly
    /// acknowledged.
    pub rtt: Option<Duration>,
    /// Smoothed round-trip time (RFC 9002, section 5.3).
    pub smoothed_rtt: Duration,
    /// The delivery rate that it measured.
    pub rate: Option<RateSample>,
    /// How long the receiver may wait before it acknowledges: the window has to allow for it.
    pub ack_interval: Duration,
    /// Datagrams that the receiver's socket newly reports as dropped: loss that is the receiver's and no sign of
    /// congestion on the path.
    pub receiver_drops: u64,
}

/// A packet that was declared lost.
#[derive(Clone, Copy, Debug)]
pub struct LostPacket {
    /// Its bytes.
    pub bytes: u64,
    /// What was noted when it was sent.
    pub state: SendState,
}

#[derive(Clone, Copy, Debug)]
pub enum Congestion {
    Bbr,
    Cubic,
    Fixed { bytes_per_s: u64 },
}
#[derive(Debug)]
pub struct Controller {
    w: u64,
}
impl Controller {
    pub fn new(_c: Congestion, _p: u64, _rtt: Duration) -> Self {
        Self { w: 1_200_000 }
    }
    pub fn on_sent(&mut self, _now: Duration, _b: u64, _f: u64) {}
    pub fn on_lost(&mut self, _now: Duration, _l: &LostPacket) {}
    pub fn on_ack(&mut self, _now: Duration, _l: &AckEvent) {}
    pub fn on_spurious(&mut self, _now: Duration, _l: &LostPacket) {}
    pub fn on_mtu(&mut self, _l: u64) {}
    pub fn on_path_change(&mut self, _now: Duration) {}
    pub fn window(&self) -> u64 {
        self.w
    }
    pub fn pacing_rate(&self) -> u64 {
        12_000_000
    }
    pub fn is_broken(&self) -> bool {
        false
    }
}
