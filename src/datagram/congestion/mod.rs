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
//!
//! The flow calls, in this order:
//! - for a packet that leaves: `RateSampler::on_sent`, then `Controller::on_sent`;
//! - for an acknowledgement: `RateSampler::on_acked` for each packet that it newly tells of (or `on_spurious` at both
//!   for one that had been given up), then for each packet given up `on_lost` at both, then `RateSampler::sample`, then
//!   `Controller::on_ack` once;
//! - for packets given up by a timer: `on_lost` at both; `AckEvent::lost_bytes` of the next acknowledgement has them.
//!
//! It may send while the bytes in flight are below `window()`, at `pacing_rate()` in bursts of at most a millisecond.
//! When it could send but has nothing to send, or the receiver's credit forbids it, it says so with
//! `RateSampler::set_app_limited`.

mod bbr;
mod cubic;
mod fixed;
mod hystart;
mod sampler;

use std::time::Duration;

use bbr::Bbr;
use cubic::Cubic;
use fixed::Fixed;
pub use sampler::{RateSample, RateSampler, SendState};

/// Packets that may be sent before anything is known, paced over the first round trip. protocol.md [CONG-4]
const INITIAL_PACKETS: u64 = 32;

/// Which law a flow follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// A model of the path: rate and round trip. The default.
    #[default]
    Bbr,
    /// The textbook's answer to loss.
    Cubic,
    /// A fixed rate, bytes a second.
    Fixed(u64),
}

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

#[cfg(test)]
impl AckEvent {
    /// So many bytes acknowledged and lost on a path of 100 ms, with nothing remarkable about it.
    fn plain(acked_bytes: u64, lost_bytes: u64) -> Self {
        Self {
            acked_bytes,
            lost_bytes,
            prior_in_flight: 1 << 40,
            in_flight: 1 << 20,
            rtt: None,
            smoothed_rtt: Duration::from_millis(100),
            rate: None,
            ack_interval: Duration::from_millis(12),
            receiver_drops: 0,
        }
    }
}

#[cfg(test)]
impl LostPacket {
    /// A packet of 1000 bytes that was sent then.
    fn sent_at(sent_at: Duration) -> Self {
        let (delivered_at, first_sent_at) = (Duration::ZERO, Duration::ZERO);
        let state = SendState {
            sent_at,
            delivered: 0,
            delivered_at,
            first_sent_at,
            lost: 0,
            in_flight: 0,
            is_app_limited: false,
        };
        Self { bytes: 1000, state }
    }
}

/// What a controller thinks, for a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The state's name.
    pub state: &'static str,
    /// What the path is believed to deliver, bytes a second; zero: the law has no such belief.
    pub bandwidth: u64,
    /// What its round trip is believed to be without any queue.
    pub base_rtt: Option<Duration>,
    /// Bytes in flight above which loss was seen.
    pub inflight_high: Option<u64>,
    /// Loss that does not come from the rate, packets in a million.
    pub baseline_loss_ppm: u64,
}

impl Snapshot {
    /// Nothing is known but the state.
    fn of(state: &'static str) -> Self {
        Self { state, ..Self::default() }
    }
}

/// One flow's congestion controller.
#[derive(Debug)]
pub enum Controller {
    /// See [`Congestion::Bbr`].
    Bbr(Box<Bbr>),
    /// See [`Congestion::Cubic`].
    Cubic(Cubic),
    /// See [`Congestion::Fixed`].
    Fixed(Fixed),
}

impl Controller {
    /// A flow of datagrams of `datagram` bytes over a path whose round trip was seen to be `rtt`.
    pub fn new(congestion: Congestion, datagram: u64, rtt: Duration) -> Self {
        let rtt = rtt.max(Duration::from_micros(10));
        match congestion {
            Congestion::Bbr => Self::Bbr(Box::new(Bbr::new(datagram, INITIAL_PACKETS * datagram, rtt))),
            Congestion::Cubic => Self::Cubic(Cubic::new(datagram, INITIAL_PACKETS * datagram, rtt)),
            Congestion::Fixed(rate) => Self::Fixed(Fixed::new(datagram, rate, rtt)),
        }
    }

    /// A packet leaves; `in_flight` is with it.
    pub fn on_sent(&mut self, now: Duration, bytes: u64, in_flight: u64) {
        match self {
            Self::Bbr(bbr) => bbr.on_sent(now, bytes, in_flight),
            Self::Cubic(_) | Self::Fixed(_) => {}
        }
    }

    /// A packet was given up for lost.
    pub fn on_lost(&mut self, now: Duration, packet: &LostPacket) {
        match self {
            Self::Bbr(bbr) => bbr.on_lost(now, packet),
            Self::Cubic(cubic) => cubic.on_lost(now, packet),
            // It reads losses from acknowledgements.
            Self::Fixed(_) => {}
        }
    }

    /// A packet that was given up for lost has arrived.
    pub fn on_spurious(&mut self, _now: Duration, packet: &LostPacket) {
        match self {
            Self::Bbr(bbr) => bbr.on_spurious(packet),
            Self::Cubic(cubic) => cubic.on_spurious(packet),
            Self::Fixed(fixed) => fixed.on_spurious(packet),
        }
    }

    /// An acknowledgement was digested.
    pub fn on_ack(&mut self, now: Duration, ack: &AckEvent) {
        match self {
            Self::Bbr(bbr) => bbr.on_ack(now, ack),
            Self::Cubic(cubic) => cubic.on_ack(now, ack),
            Self::Fixed(fixed) => fixed.on_ack(now, ack),
        }
    }

    /// Datagrams are of another size from here on.
    pub fn on_mtu(&mut self, bytes: u64) {
        match self {
            Self::Bbr(bbr) => bbr.on_mtu(bytes),
            Self::Cubic(cubic) => cubic.on_mtu(bytes),
            Self::Fixed(fixed) => fixed.on_mtu(bytes),
        }
    }

    /// Bytes that may be in flight.
    pub fn window(&self) -> u64 {
        match self {
            Self::Bbr(bbr) => bbr.window(),
            Self::Cubic(cubic) => cubic.window(),
            Self::Fixed(fixed) => fixed.window(),
        }
    }

    /// Bytes a second at which packets may leave; not zero.
    pub fn pacing_rate(&self) -> u64 {
        let rate = match self {
            Self::Bbr(bbr) => bbr.pacing_rate(),
            Self::Cubic(cubic) => cubic.pacing_rate(),
            Self::Fixed(fixed) => fixed.pacing_rate(),
        };
        rate.max(1)
    }

    /// The law's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bbr(_) => "bbr",
            Self::Cubic(_) => "cubic",
            Self::Fixed(_) => "fixed",
        }
    }

    /// The law has given up on this path: the flow belongs on another transport.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Fixed(fixed) => fixed.is_broken(),
            Self::Bbr(_) | Self::Cubic(_) => false,
        }
    }

    /// What a trace shows.
    pub fn state(&self) -> Snapshot {
        match self {
            Self::Bbr(bbr) => bbr.state(),
            Self::Cubic(cubic) => cubic.state(),
            Self::Fixed(fixed) => fixed.state(),
        }
    }
}

/// The whole part of a count that was reckoned in fractions.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and NaN becomes zero"
)]
fn whole(value: f64) -> u64 {
    value as u64
}
