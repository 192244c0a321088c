//! Which parameters make a link: their bounds, and how they have to fit each other.

use std::time::Duration;

use super::bottleneck::FRAMING_BYTES;
use super::config::{Bottleneck, Buffer, Depth, LinkConfig, Loss, Share};

/// Why parameters do not make a link. `part` is the name that a SPEC has for the parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A rate out of bounds.
    #[error("`{part}`: a rate lies between 1kbit and 1tbit")]
    Rate {
        /// The parameter.
        part: &'static str,
    },
    /// A time out of bounds.
    #[error("`{part}`: a time is at most 24h")]
    Time {
        /// The parameter.
        part: &'static str,
    },
    /// A depth out of bounds.
    #[error("`{part}`: at most 1024GiB or 1000bdp")]
    Depth {
        /// The parameter.
        part: &'static str,
    },
    /// Zero of something that is only given when there is some.
    #[error("`{part}`: it has to be more than zero, or left out")]
    Zero {
        /// The parameter.
        part: &'static str,
    },
    /// Steps at zero or not one after the other.
    #[error("`{part}`: each moment has to be later than the one before it, the first later than 0s")]
    StepOrder {
        /// The parameter.
        part: &'static str,
    },
    /// Rate steps of a trace, or another average than its own.
    #[error("`trace`: it says itself what it carries; `step` is for a `rate`")]
    TraceAndRate,
    /// No packet of full size would ever pass.
    #[error("`policer`: it has {has} bytes and needs {needs} for one packet of the `mtu`")]
    PolicerTooSmall {
        /// Bytes that it holds.
        has: u64,
        /// Bytes that one packet takes with its framing.
        needs: u64,
    },
    /// Losing this share takes longer bursts.
    #[error(
        "`burst`: with this much `loss`, a mean burst is at least {needs} packets, or 1 for independent losses"
    )]
    BurstTooShort {
        /// The shortest mean.
        needs: u32,
    },
    /// Losing everything leaves nothing between bursts.
    #[error("`burst`: with a `loss` of 100% there are no bursts; leave it out")]
    BurstOfAll,
    /// An MTU out of bounds.
    #[error("`{part}`: it lies between {MTU_MIN_BYTES} and {MTU_MAX_BYTES} bytes")]
    Mtu {
        /// The parameter.
        part: &'static str,
    },
    /// Overtaking without a delay to skip.
    #[error("`reorder`: it needs an `rtt`, since a packet overtakes by skipping the delay")]
    ReorderWithoutRtt,
}

/// Longest time and latest moment.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Lowest rate, bits a second. Lower ones are blackouts.
pub const RATE_MIN_BITS_PER_S: u64 = 1_000;
/// Highest rate, bits a second. Chosen arbitrarily, far above what can be carried or simulated.
pub const RATE_MAX_BITS_PER_S: u64 = 1_000_000_000_000;
/// Deepest queue, bytes. Chosen arbitrarily.
pub const DEPTH_MAX_BYTES: u64 = 1 << 40;
/// Deepest queue, thousandths of a BDP. Chosen arbitrarily.
pub const DEPTH_MAX_BDP_MILLI: u32 = 1_000_000;
/// What a queue in BDP holds at least, bytes: ten Ethernet frames.
pub const DEPTH_MIN_BYTES: u64 = 10 * (1500 + FRAMING_BYTES);
/// Smallest MTU, bytes: RFC 791's.
pub const MTU_MIN_BYTES: usize = 68;
/// Largest MTU, bytes: the longest IPv4 packet.
pub const MTU_MAX_BYTES: usize = 65_535;

// Work is counted in billionths of a bit and 128 bits: `line` relies on times fitting 64 bits of nanoseconds.
const _: () = assert!(TIME_MAX.as_nanos() * 4 < u64::MAX as u128);
const _: () = assert!(RATE_MAX_BITS_PER_S <= 1 << 40);

impl LinkConfig {
    /// Whether the parameters make a link.
    pub fn check(&self) -> Result<(), ConfigError> {
        check_time("rtt", self.rtt)?;
        check_time("jitter", self.jitter)?;
        check_mtu("mtu", self.mtu_bytes)?;
        self.mtu_steps.iter().try_for_each(|step| check_mtu("mtustep", step.mtu_bytes))?;
        check_moments("mtustep", self.mtu_steps.iter().map(|step| step.at))?;
        if let Some(bottleneck) = &self.bottleneck {
            bottleneck.check(self.rtt, self.mtu_max_bytes())?;
        }
        if let Some(loss) = &self.loss {
            loss.check()?;
        }
        if let Some(late) = &self.late {
            check_some("late", late.share != Share::NONE && !late.up_to.is_zero())?;
            check_time("late", late.up_to)?;
        }
        if self.reorder != Share::NONE && self.rtt.is_zero() {
            return Err(ConfigError::ReorderWithoutRtt);
        }
        for blackout in &self.blackouts {
            check_time("blackout", blackout.at)?;
            check_time("blackout", blackout.lasts)?;
            check_some("blackout", !blackout.lasts.is_zero())?;
        }
        Ok(())
    }
}

impl Bottleneck {
    fn check(&self, rtt: Duration, mtu_bytes: usize) -> Result<(), ConfigError> {
        check_rate(if self.trace.is_some() { "trace" } else { "rate" }, self.bits_per_s)?;
        if let Some(trace) = &self.trace
            && (trace.mean_bits_per_s() != self.bits_per_s || !self.steps.is_empty())
        {
            return Err(ConfigError::TraceAndRate);
        }
        self.steps.iter().try_for_each(|step| check_rate("step", step.bits_per_s))?;
        check_moments("step", self.steps.iter().map(|step| step.at))?;
        match self.buffer {
            Buffer::Queue(depth) => depth.check("queue"),
            Buffer::Policer(depth) => {
                depth.check("policer")?;
                let needs = u64::try_from(mtu_bytes).unwrap_or(u64::MAX).saturating_add(FRAMING_BYTES);
                let has = self.depth_bytes(rtt);
                if has < needs { Err(ConfigError::PolicerTooSmall { has, needs }) } else { Ok(()) }
            }
        }
    }
}

impl Depth {
    fn check(self, part: &'static str) -> Result<(), ConfigError> {
        match self {
            Self::Time(time) => check_time(part, time),
            Self::Bytes(bytes) if bytes > DEPTH_MAX_BYTES => Err(ConfigError::Depth { part }),
            Self::BdpMilli(milli) if milli > DEPTH_MAX_BDP_MILLI => Err(ConfigError::Depth { part }),
            Self::Bytes(_) | Self::BdpMilli(_) => Ok(()),
        }
    }
}

impl Loss {
    /// At least one packet passes after each burst, so that a large share takes long ones.
    fn check(self) -> Result<(), ConfigError> {
        check_some("loss", self.share != Share::NONE)?;
        check_some("burst", self.burst_packets > 0)?;
        let (lost, kept) = (self.share.ppb(), Share::WHOLE.ppb() - self.share.ppb());
        if self.burst_packets == 1 {
            return Ok(());
        }
        if kept == 0 {
            return Err(ConfigError::BurstOfAll);
        }
        let needs = lost.div_ceil(kept);
        if self.burst_packets < needs { Err(ConfigError::BurstTooShort { needs }) } else { Ok(()) }
    }
}

fn check_rate(part: &'static str, bits_per_s: u64) -> Result<(), ConfigError> {
    if (RATE_MIN_BITS_PER_S..=RATE_MAX_BITS_PER_S).contains(&bits_per_s) {
        Ok(())
    } else {
        Err(ConfigError::Rate { part })
    }
}

fn check_time(part: &'static str, time: Duration) -> Result<(), ConfigError> {
    if time <= TIME_MAX { Ok(()) } else { Err(ConfigError::Time { part }) }
}

fn check_mtu(part: &'static str, mtu_bytes: usize) -> Result<(), ConfigError> {
    if (MTU_MIN_BYTES..=MTU_MAX_BYTES).contains(&mtu_bytes) { Ok(()) } else { Err(ConfigError::Mtu { part }) }
}

/// One after the other, all later than zero.
fn check_moments(part: &'static str, mut moments: impl Iterator<Item = Duration>) -> Result<(), ConfigError> {
    let mut last = Duration::ZERO;
    moments.try_for_each(|at| {
        check_time(part, at)?;
        if at > std::mem::replace(&mut last, at) { Ok(()) } else { Err(ConfigError::StepOrder { part }) }
    })
}

fn check_some(part: &'static str, is_some: bool) -> Result<(), ConfigError> {
    if is_some { Ok(()) } else { Err(ConfigError::Zero { part }) }
}

#[cfg(test)]
mod tests {
    use super::super::config::RateStep;
    use super::*;

    fn policer(bytes: u64) -> LinkConfig {
        let buffer = Buffer::Policer(Depth::Bytes(bytes));
        let bottleneck = Bottleneck { buffer, ..Bottleneck::new(1_000_000) };
        LinkConfig { bottleneck: Some(bottleneck), ..LinkConfig::default() }
    }

    fn bursts(percent: u32, burst_packets: u32) -> LinkConfig {
        let loss = Loss { share: Share::from_ppb(percent * 10_000_000), burst_packets };
        LinkConfig { loss: Some(loss), ..LinkConfig::default() }
    }

    #[test]
    fn a_policer_holds_one_packet_of_the_mtu() {
        assert_eq!(policer(1518).check(), Ok(()));
        assert_eq!(policer(1517).check(), Err(ConfigError::PolicerTooSmall { has: 1517, needs: 1518 }));
    }

    #[test]
    fn a_burst_is_long_enough_for_its_loss() {
        assert_eq!(bursts(75, 3).check(), Ok(()));
        assert_eq!(bursts(76, 3).check(), Err(ConfigError::BurstTooShort { needs: 4 }));
        assert_eq!(bursts(100, 1).check(), Ok(()));
        assert_eq!(bursts(100, 9).check(), Err(ConfigError::BurstOfAll));
    }

    #[test]
    fn an_mtu_has_bounds() {
        let mtu = |mtu_bytes| LinkConfig { mtu_bytes, ..LinkConfig::default() }.check();

        assert_eq!((mtu(68), mtu(65_535)), (Ok(()), Ok(())));
        assert_eq!(
            (mtu(67), mtu(65_536)),
            (Err(ConfigError::Mtu { part: "mtu" }), Err(ConfigError::Mtu { part: "mtu" }))
        );
    }

    #[test]
    fn times_end_at_a_day() {
        let rtt = |rtt| LinkConfig { rtt, ..LinkConfig::default() }.check();

        assert_eq!(rtt(TIME_MAX), Ok(()));
        assert_eq!(rtt(TIME_MAX + Duration::from_nanos(1)), Err(ConfigError::Time { part: "rtt" }));
    }

    #[test]
    fn rates_have_bounds() {
        let rate = |bits_per_s| {
            let bottleneck = Some(Bottleneck::new(bits_per_s));
            LinkConfig { bottleneck, ..LinkConfig::default() }.check()
        };

        assert_eq!((rate(1_000), rate(1_000_000_000_000)), (Ok(()), Ok(())));
        assert_eq!(rate(999), Err(ConfigError::Rate { part: "rate" }));
        assert_eq!(rate(1_000_000_000_001), Err(ConfigError::Rate { part: "rate" }));
    }

    #[test]
    fn steps_follow_each_other() {
        let steps = |moments: &[u64]| {
            let step = |&s: &u64| RateStep { at: Duration::from_secs(s), bits_per_s: 1_000_000 };
            let steps = moments.iter().map(step).collect();
            let bottleneck = Bottleneck { steps, ..Bottleneck::new(1_000_000) };
            LinkConfig { bottleneck: Some(bottleneck), ..LinkConfig::default() }.check()
        };

        assert_eq!(steps(&[1, 2, 3]), Ok(()));
        assert_eq!(steps(&[0]), Err(ConfigError::StepOrder { part: "step" }));
        assert_eq!(steps(&[2, 2]), Err(ConfigError::StepOrder { part: "step" }));
    }

    #[test]
    fn a_packet_overtakes_only_where_there_is_a_delay() {
        let config = LinkConfig { reorder: Share::from_ppb(1), ..LinkConfig::default() };
        assert_eq!(config.check(), Err(ConfigError::ReorderWithoutRtt));

        assert_eq!(LinkConfig { rtt: Duration::from_millis(1), ..config }.check(), Ok(()));
    }
}
