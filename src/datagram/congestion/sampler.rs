//! Measures how fast packets arrive, from when they were sent and acknowledged.

use std::time::Duration;

/// What a packet remembers of the moment it was sent.
#[derive(Clone, Copy, Debug)]
pub struct SendState {
    /// When it was sent.
    pub sent_at: Duration,
    /// Bytes delivered by then.
    pub delivered: u64,
    /// When those were delivered.
    pub delivered_at: Duration,
    /// When the first packet of the flight was sent that `delivered_at` ended.
    pub first_sent_at: Duration,
    /// Bytes lost by then.
    pub lost: u64,
    /// Bytes in flight then, with this packet.
    pub in_flight: u64,
    /// The sender had nothing more to send then.
    pub is_app_limited: bool,
}

/// A measurement of the delivery rate.
#[derive(Clone, Copy, Debug)]
pub struct RateSample {
    /// Bytes a second.
    pub rate: u64,
    /// `SendState::delivered` of the packet that it began with: tells rounds apart.
    pub prior_delivered: u64,
    /// Bytes delivered in the interval.
    pub delivered: u64,
    /// Bytes lost in the interval.
    pub lost: u64,
    /// The interval.
    pub interval: Duration,
    /// Bytes in flight when the packet was sent that ends the interval.
    pub in_flight: u64,
    /// It says less than the path can do, since the sender had nothing more to send.
    pub is_app_limited: bool,
}

/// Counts deliveries and turns them into [`RateSample`]s.
#[derive(Debug, Default)]
pub struct RateSampler {}

impl RateSampler {
    pub fn on_sent(&mut self, now: Duration, _bytes: u64, in_flight: u64) -> SendState {
        SendState {
            sent_at: now,
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            lost: 0,
            in_flight,
            is_app_limited: false,
        }
    }
    pub fn on_acked(&mut self, _now: Duration, _state: &SendState, _bytes: u64) {}
    pub fn on_lost(&mut self, _bytes: u64) {}
    pub fn on_spurious(&mut self, _bytes: u64) {}
    pub fn set_app_limited(&mut self, _in_flight: u64) {}
    pub fn sample(&mut self, _now: Duration, _min: Duration) -> Option<RateSample> {
        None
    }
}
