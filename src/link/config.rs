//! What a link is like: every parameter of both of its directions, and which of them make sense.

use std::sync::Arc;
use std::time::Duration;

use super::chance::Odds;
use super::check::DEPTH_MIN_BYTES;
use super::trace::Trace;

/// An impaired link. Both directions are alike and independent of each other.
///
/// The fields are free to set; [`check`](Self::check) tells whether they make a link. Moments count from the link's
/// start, which is `now` zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Propagation delay there and back, without waiting in queues; half of it each way. At most `TIME_MAX`.
    pub rtt: Duration,
    /// The slowest part of each direction; none: packets pass at once.
    pub bottleneck: Option<Bottleneck>,
    /// Packets that vanish, each way.
    pub loss: Option<Loss>,
    /// Every packet takes longer by zero to this. At most `TIME_MAX`.
    pub jitter: Duration,
    /// A share takes longer still.
    pub late: Option<Late>,
    /// This share skips the delay and overtakes those before it; needs an `rtt`.
    pub reorder: Share,
    /// This share arrives twice, at the same moment.
    pub duplicate: Share,
    /// In this share of the packets that arrive, copies included, one bit is flipped.
    pub corrupt: Share,
    /// Longer packets vanish silently; bytes of an IP packet, `MTU_MIN_BYTES`..=`MTU_MAX_BYTES`.
    pub mtu_bytes: usize,
    /// Later MTUs, in ascending order of their moments.
    pub mtu_steps: Vec<MtuStep>,
    /// When nothing that is offered arrives.
    pub blackouts: Vec<Blackout>,
    /// Equal seeds give equal fates.
    pub seed: u64,
}

/// A line of limited rate and what stands in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bottleneck {
    /// Bits a second, framing included, `RATE_MIN_BITS_PER_S`..=`RATE_MAX_BITS_PER_S`; of a trace, what it carries on
    /// average.
    pub bits_per_s: u64,
    /// Later rates, in ascending order of their moments.
    pub steps: Vec<RateStep>,
    /// Instead of a rate: the moments at which something is carried. There are no steps then.
    pub trace: Option<Arc<Trace>>,
    /// What becomes of packets that come faster.
    pub buffer: Buffer,
}

/// From a moment on, another rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStep {
    /// The moment, more than zero, at most `TIME_MAX`.
    pub at: Duration,
    /// The rate from then on, bounds as [`Bottleneck::bits_per_s`].
    pub bits_per_s: u64,
}

/// What becomes of packets that come faster than the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// They wait, up to this depth, and are dropped beyond.
    Queue(Depth),
    /// A token bucket of this depth: what fits goes on undelayed, the rest is dropped.
    Policer(Depth),
}

/// How much a queue or a bucket holds, framing included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// So many bytes, at most `DEPTH_MAX_BYTES`.
    Bytes(u64),
    /// What the first rate, or the trace on average, carries in this time, at most `TIME_MAX`.
    Time(Duration),
    /// Thousandths of what the first rate, or the trace on average, carries in a round trip, at most `DEPTH_MAX_BDP_MILLI`. Never less than
    /// `DEPTH_MIN_BYTES`, since a short link has hardly any product of bandwidth and delay.
    BdpMilli(u32),
}

/// Packets that vanish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Their share, more than zero.
    pub share: Share,
    /// Mean length of a run of losses, at least 1. 1: each packet on its own, whatever runs that gives.
    pub burst_packets: u32,
}

/// Packets that are delayed beyond the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// Their share, more than zero.
    pub share: Share,
    /// They take longer by zero to this, more than zero, at most `TIME_MAX`.
    pub up_to: Duration,
}

/// From a moment on, another MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuStep {
    /// The moment, more than zero, at most `TIME_MAX`.
    pub at: Duration,
    /// The MTU from then on, bounds as [`LinkConfig::mtu_bytes`].
    pub mtu_bytes: usize,
}

/// A time in which all that is offered vanishes. What was offered before still arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blackout {
    /// Its first moment, at most `TIME_MAX`.
    pub at: Duration,
    /// How long it lasts, more than zero, at most `TIME_MAX`.
    pub lasts: Duration,
}

/// A share of all packets, zero to all of them, in steps of a billionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    ppb: u32,
}

impl Default for LinkConfig {
    /// A link that changes nothing, with Ethernet's MTU and seed 1.
    fn default() -> Self {
        Self {
            rtt: Duration::ZERO,
            bottleneck: None,
            loss: None,
            jitter: Duration::ZERO,
            late: None,
            reorder: Share::NONE,
            duplicate: Share::NONE,
            corrupt: Share::NONE,
            mtu_bytes: 1500,
            mtu_steps: Vec::new(),
            blackouts: Vec::new(),
            seed: 1,
        }
    }
}

impl LinkConfig {
    /// The largest MTU that it ever has.
    pub fn mtu_max_bytes(&self) -> usize {
        self.mtu_steps.iter().fold(self.mtu_bytes, |most, step| most.max(step.mtu_bytes))
    }

    /// Propagation delay of one direction.
    pub fn one_way(&self) -> Duration {
        self.rtt / 2
    }
}

impl Bottleneck {
    /// A line of this rate behind a queue of one BDP.
    pub fn new(bits_per_s: u64) -> Self {
        Self { bits_per_s, steps: Vec::new(), trace: None, buffer: Buffer::default() }
    }

    /// A line that is replayed from a trace, behind a queue of one BDP of its average.
    pub fn replay(trace: Trace) -> Self {
        let line = Self::new(trace.mean_bits_per_s());
        Self { trace: Some(Arc::new(trace)), ..line }
    }

    /// Bytes that the queue or the bucket holds on a link of this round trip, framing included.
    pub fn depth_bytes(&self, rtt: Duration) -> u64 {
        let (Buffer::Queue(depth) | Buffer::Policer(depth)) = self.buffer;
        match depth {
            Depth::Bytes(bytes) => bytes,
            Depth::Time(time) => carried_bytes(self.bits_per_s, time, 1000),
            Depth::BdpMilli(milli) => carried_bytes(self.bits_per_s, rtt, milli).max(DEPTH_MIN_BYTES),
        }
    }
}

impl Default for Buffer {
    /// A queue of one BDP.
    fn default() -> Self {
        Self::Queue(Depth::BdpMilli(1000))
    }
}

impl Blackout {
    /// Whether it is dark: from the first moment on, until before the moment that it ends.
    pub fn holds(&self, now: Duration) -> bool {
        now.checked_sub(self.at).is_some_and(|since| since < self.lasts)
    }
}

impl Share {
    /// No packet.
    pub const NONE: Self = Self { ppb: 0 };
    /// Every packet.
    pub const WHOLE: Self = Self { ppb: 1_000_000_000 };

    /// So many of a billion packets; 10,000,000 are 1 %.
    ///
    /// # Panics
    /// If there are more than a billion.
    pub const fn from_ppb(ppb: u32) -> Self {
        assert!(ppb <= Self::WHOLE.ppb, "a share is at most the whole");
        Self { ppb }
    }

    /// How many of a billion packets.
    pub const fn ppb(self) -> u32 {
        self.ppb
    }

    /// Zero to one.
    pub fn as_fraction(self) -> f64 {
        f64::from(self.ppb) / f64::from(Self::WHOLE.ppb)
    }

    pub(super) fn odds(self) -> Odds {
        Odds::ratio(self.ppb.into(), Self::WHOLE.ppb.into())
    }
}

/// Bytes that a rate carries in a time, times so many thousandths.
fn carried_bytes(bits_per_s: u64, time: Duration, milli: u32) -> u64 {
    let carried = u128::from(bits_per_s).saturating_mul(time.as_nanos()).saturating_mul(milli.into())
        / (8 * 1000 * 1_000_000_000);
    u64::try_from(carried).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_the_same_in_bytes_in_time_and_in_bdp() {
        let rtt = Duration::from_millis(80);
        let depth = |depth| {
            let buffer = Buffer::Queue(depth);
            Bottleneck { buffer, ..Bottleneck::new(100_000_000) }.depth_bytes(rtt)
        };

        assert_eq!(depth(Depth::Bytes(1_000_000)), 1_000_000);
        assert_eq!(depth(Depth::Time(rtt)), 1_000_000);
        assert_eq!(depth(Depth::BdpMilli(1000)), 1_000_000);
        assert_eq!(depth(Depth::BdpMilli(250)), 250_000);
    }

    #[test]
    fn a_bdp_of_next_to_nothing_still_holds_ten_frames() {
        let line = Bottleneck::new(100_000_000);

        assert_eq!(line.depth_bytes(Duration::ZERO), 15_180);
        assert_eq!(
            Bottleneck { buffer: Buffer::Queue(Depth::Bytes(0)), ..line }.depth_bytes(Duration::ZERO),
            0
        );
    }

    #[test]
    fn a_blackout_holds_from_its_first_moment_until_before_its_last() {
        let blackout = Blackout { at: Duration::from_secs(3), lasts: Duration::from_secs(2) };
        let ns = Duration::from_nanos(1);

        assert!(!blackout.holds(Duration::from_secs(3) - ns));
        assert!(blackout.holds(Duration::from_secs(3)));
        assert!(blackout.holds(Duration::from_secs(5) - ns));
        assert!(!blackout.holds(Duration::from_secs(5)));
    }
}
