//! Measures how fast packets arrive, from when they were sent and acknowledged.
//!
//! The method is that of draft-ietf-ccwg-bbr, section 4.1: every packet notes how much had been delivered when it was
//! sent, and its acknowledgement tells how much more has been delivered since, over the longer of the time that
//! sending and the time that acknowledging took. The longer of the two keeps acknowledgements that were held up and
//! then came all at once from looking like a fast path.

use std::time::Duration;

/// What a packet remembers of the moment it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendState {
    /// When it was sent.
    pub sent_at: Duration,
    /// Bytes delivered by then.
    pub delivered: u64,
    /// When those were delivered.
    pub delivered_at: Duration,
    /// When the packet was sent whose acknowledgement was the latest by then: the start of the time that sending took.
    pub first_sent_at: Duration,
    /// Bytes lost by then.
    pub lost: u64,
    /// Bytes in flight then, with this packet.
    pub in_flight: u64,
    /// The sender had nothing more to send then.
    pub is_app_limited: bool,
}

/// A measurement of the delivery rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSample {
    /// Bytes a second.
    pub rate: u64,
    /// `SendState::delivered` of the packet that it began with: tells rounds apart.
    pub prior_delivered: u64,
    /// Bytes delivered in the interval.
    pub delivered: u64,
    /// Bytes lost in the interval.
    pub lost: u64,
    /// The interval; not zero.
    pub interval: Duration,
    /// Bytes in flight when the packet was sent that ends the interval.
    pub in_flight: u64,
    /// It says less than the path can do, since the sender had nothing more to send.
    pub is_app_limited: bool,
}

/// Counts deliveries and turns them into [`RateSample`]s.
///
/// For each acknowledgement: `on_acked` for every packet that it newly tells of, `on_lost` for every packet that it
/// gives up, then `sample` once.
#[derive(Debug, Default)]
pub struct RateSampler {
    /// Bytes delivered in all.
    delivered: u64,
    /// When the latest of them was acknowledged.
    delivered_at: Duration,
    /// Bytes lost in all, less those that arrived after all.
    lost: u64,
    /// When the latest acknowledged packet was sent.
    first_sent_at: Duration,
    /// Deliveries at which the sender's pause will be out of all samples; zero: it has not paused.
    app_limited_until: u64,
    /// Of the packets that this acknowledgement told of, the one sent last.
    latest: Option<SendState>,
}

impl RateSampler {
    /// A packet leaves; `in_flight` is without it.
    pub fn on_sent(&mut self, now: Duration, bytes: u64, in_flight: u64) -> SendState {
        // With nothing on its way, the time since the last acknowledgement says nothing about the path.
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        SendState {
            sent_at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            lost: self.lost,
            in_flight: in_flight.saturating_add(bytes),
            is_app_limited: self.app_limited_until != 0,
        }
    }

    /// A packet is newly acknowledged.
    pub fn on_acked(&mut self, now: Duration, bytes: u64, state: &SendState) {
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_at = now;
        // Packets of one burst share `sent_at`; the one that saw more deliveries is the later.
        let is_later = self.latest.is_none_or(|latest| {
            (state.sent_at, state.delivered, state.in_flight)
                >= (latest.sent_at, latest.delivered, latest.in_flight)
        });
        if is_later {
            self.latest = Some(*state);
        }
    }

    /// A packet is given up for lost.
    pub fn on_lost(&mut self, bytes: u64) {
        self.lost = self.lost.saturating_add(bytes);
    }

    /// A packet that was given up for lost is acknowledged after all. It counts as delivered at this moment; as it was
    /// sent long ago, it starts no sample of its own.
    pub fn on_spurious(&mut self, now: Duration, bytes: u64) {
        self.lost = self.lost.saturating_sub(bytes);
        self.delivered = self.delivered.saturating_add(bytes);
        self.delivered_at = now;
    }

    /// The sender has nothing more to send although it might: samples say too little until what is in flight has
    /// arrived.
    pub fn set_app_limited(&mut self, in_flight: u64) {
        self.app_limited_until = self.delivered.saturating_add(in_flight).max(1);
    }

    /// Ends an acknowledgement. No sample comes of one that told nothing new, or of an interval shorter than the
    /// smallest round trip ever seen, which cannot be true (draft-ietf-ccwg-bbr, section 4.1.2.3).
    pub fn sample(&mut self, min_rtt: Duration) -> Option<RateSample> {
        if self.app_limited_until != 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        let packet = self.latest.take()?;
        let sending = packet.sent_at.saturating_sub(packet.first_sent_at);
        let acknowledging = self.delivered_at.saturating_sub(packet.delivered_at);
        self.first_sent_at = self.first_sent_at.max(packet.sent_at);
        let interval = sending.max(acknowledging);
        if interval.is_zero() || interval < min_rtt {
            return None;
        }
        let delivered = self.delivered.saturating_sub(packet.delivered);
        Some(RateSample {
            rate: rate(delivered, interval),
            prior_delivered: packet.delivered,
            delivered,
            lost: self.lost.saturating_sub(packet.lost),
            interval,
            in_flight: packet.in_flight,
            is_app_limited: packet.is_app_limited,
        })
    }

    /// Bytes delivered in all.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }
}

/// Bytes a second; `interval` is not zero.
fn rate(bytes: u64, interval: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / interval.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
