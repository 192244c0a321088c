//! The parts of a SPEC: how each parameter is read, and how it is written.

use std::str::FromStr;

use super::config::{Blackout, Bottleneck, Buffer, Depth, Late, LinkConfig, Loss, MtuStep, RateStep, Share};
use super::quantity::{
    read_depth, read_rate, read_share, read_time, write_depth, write_rate, write_share, write_time,
};
use super::trace::{Trace, TraceError};

/// One parameter: how it is read and how it is written.
pub(super) struct Part {
    pub(super) name: &'static str,
    /// What a value looks like.
    pub(super) wanted: &'static str,
    pub(super) read: fn(&mut LinkConfig, &str, &mut Load<'_>) -> Result<(), Refusal>,
    /// `None` if it is the default.
    pub(super) write: fn(&LinkConfig) -> Option<String>,
}

/// Gives the trace that a SPEC names.
pub(super) type Load<'a> = dyn FnMut(&str) -> Result<Trace, TraceError> + 'a;

/// Why a part cannot be read.
pub(super) enum Refusal {
    Value,
    Trace(TraceError),
    Needs(&'static str),
}

/// Every part. `rate` and `trace` stand before what needs it, `loss` before `burst`.
pub(super) const PARTS: &[Part] = &[
    Part {
        name: "rtt",
        wanted: "a time such as 80ms",
        read: |config, value, _| set(&mut config.rtt, read_time(value)),
        write: |config| Some(write_time(config.rtt)),
    },
    Part {
        name: "rate",
        wanted: "a rate such as 100mbit, or none",
        read: |config, value, _| read_bottleneck(config, value),
        write: |config| {
            config
                .bottleneck
                .as_ref()
                .filter(|line| line.trace.is_none())
                .map(|line| write_rate(line.bits_per_s))
        },
    },
    Part {
        name: "trace",
        wanted: "the name of a file",
        read: read_trace,
        write: |config| Some(config.bottleneck.as_ref()?.trace.as_ref()?.name().to_owned()),
    },
    Part {
        name: "queue",
        wanted: "a time, bytes or multiples of the BDP: 100ms, 256KiB or 0.5bdp",
        read: |config, value, _| read_buffer(config, value, Buffer::Queue),
        write: |config| match config.bottleneck.as_ref()?.buffer {
            buffer if buffer == Buffer::default() => None,
            Buffer::Queue(depth) => Some(write_depth(depth)),
            Buffer::Policer(_) => None,
        },
    },
    Part {
        name: "policer",
        wanted: "a bucket in bytes, time or multiples of the BDP: 64KiB, 10ms or 0.1bdp",
        read: |config, value, _| read_buffer(config, value, Buffer::Policer),
        write: |config| match config.bottleneck.as_ref()?.buffer {
            Buffer::Policer(depth) => Some(write_depth(depth)),
            Buffer::Queue(_) => None,
        },
    },
    Part {
        name: "step",
        wanted: "moments and rates such as 10s:20mbit or 10s:20mbit/20s:5mbit, or none",
        read: |config, value, _| match &mut config.bottleneck {
            Some(line) if line.trace.is_none() => set(&mut line.steps, read_list(value, read_step)),
            _ => Err(Refusal::Needs("rate")),
        },
        write: |config| {
            write_list(&config.bottleneck.as_ref()?.steps, |step| {
                format!("{}:{}", write_time(step.at), write_rate(step.bits_per_s))
            })
        },
    },
    Part {
        name: "loss",
        wanted: "a share from 0% to 100%, such as 1%",
        read: |config, value, _| read_loss(config, value),
        write: |config| config.loss.map(|loss| write_share(loss.share)),
    },
    Part {
        name: "burst",
        wanted: "a whole number of packets such as 8, or 1 for independent losses",
        read: |config, value, _| match &mut config.loss {
            Some(loss) => set(&mut loss.burst_packets, read_whole(value)),
            None => Err(Refusal::Needs("loss")),
        },
        write: |config| {
            config
                .loss
                .map(|loss| loss.burst_packets)
                .filter(|burst| *burst != 1)
                .map(|burst| burst.to_string())
        },
    },
    Part {
        name: "jitter",
        wanted: "a time such as 5ms",
        read: |config, value, _| set(&mut config.jitter, read_time(value)),
        write: |config| Some(config.jitter).filter(|jitter| !jitter.is_zero()).map(write_time),
    },
    Part {
        name: "late",
        wanted: "a share and the most that it is late, such as 25%/20ms, or none",
        read: |config, value, _| set(&mut config.late, read_late(value)),
        write: |config| {
            config.late.map(|late| format!("{}/{}", write_share(late.share), write_time(late.up_to)))
        },
    },
    Part {
        name: "reorder",
        wanted: "a share from 0% to 100%, such as 1%",
        read: |config, value, _| set(&mut config.reorder, read_share(value)),
        write: |config| write_some(config.reorder),
    },
    Part {
        name: "dup",
        wanted: "a share from 0% to 100%, such as 0.1%",
        read: |config, value, _| set(&mut config.duplicate, read_share(value)),
        write: |config| write_some(config.duplicate),
    },
    Part {
        name: "corrupt",
        wanted: "a share from 0% to 100%, such as 0.01%",
        read: |config, value, _| set(&mut config.corrupt, read_share(value)),
        write: |config| write_some(config.corrupt),
    },
    Part {
        name: "mtu",
        wanted: "a whole number of bytes without a unit, such as 1500",
        read: |config, value, _| set(&mut config.mtu_bytes, read_whole(value)),
        write: |config| {
            Some(config.mtu_bytes)
                .filter(|mtu| *mtu != LinkConfig::default().mtu_bytes)
                .map(|mtu| mtu.to_string())
        },
    },
    Part {
        name: "mtustep",
        wanted: "moments and bytes such as 10s:1280 or 10s:1280/20s:1500, or none",
        read: |config, value, _| set(&mut config.mtu_steps, read_list(value, read_mtu_step)),
        write: |config| {
            write_list(&config.mtu_steps, |step| format!("{}:{}", write_time(step.at), step.mtu_bytes))
        },
    },
    Part {
        name: "blackout",
        wanted: "moments and lengths such as 3s+2s or 3s+2s/9s+1s, or none",
        read: |config, value, _| set(&mut config.blackouts, read_list(value, read_blackout)),
        write: |config| {
            write_list(&config.blackouts, |dark| {
                format!("{}+{}", write_time(dark.at), write_time(dark.lasts))
            })
        },
    },
    Part {
        name: "seed",
        wanted: "a whole number such as 7",
        read: |config, value, _| set(&mut config.seed, read_whole(value)),
        write: |config| {
            Some(config.seed).filter(|seed| *seed != LinkConfig::default().seed).map(|seed| seed.to_string())
        },
    },
];

fn set<T>(place: &mut T, value: Option<T>) -> Result<(), Refusal> {
    *place = value.ok_or(Refusal::Value)?;
    Ok(())
}

/// A rate keeps the profile's buffer and steps.
fn read_bottleneck(config: &mut LinkConfig, value: &str) -> Result<(), Refusal> {
    if value == "none" {
        config.bottleneck = None;
        return Ok(());
    }
    let bits_per_s = read_rate(value).ok_or(Refusal::Value)?;
    match &mut config.bottleneck {
        Some(line) => line.bits_per_s = bits_per_s,
        None => config.bottleneck = Some(Bottleneck::new(bits_per_s)),
    }
    Ok(())
}

/// A trace keeps the profile's buffer, and says itself what it carries and when.
fn read_trace(config: &mut LinkConfig, value: &str, load: &mut Load<'_>) -> Result<(), Refusal> {
    if value.is_empty() {
        return Err(Refusal::Value);
    }
    let line = Bottleneck::replay(load(value).map_err(Refusal::Trace)?);
    let buffer = config.bottleneck.as_ref().map_or(line.buffer, |line| line.buffer);
    config.bottleneck = Some(Bottleneck { buffer, ..line });
    Ok(())
}

fn read_buffer(config: &mut LinkConfig, value: &str, kind: fn(Depth) -> Buffer) -> Result<(), Refusal> {
    let line = config.bottleneck.as_mut().ok_or(Refusal::Needs("rate"))?;
    set(&mut line.buffer, read_depth(value).map(kind))
}

/// A share keeps the profile's bursts; none ends them.
fn read_loss(config: &mut LinkConfig, value: &str) -> Result<(), Refusal> {
    let share = read_share(value).ok_or(Refusal::Value)?;
    let burst_packets = config.loss.map_or(1, |loss| loss.burst_packets);
    config.loss = (share != Share::NONE).then_some(Loss { share, burst_packets });
    Ok(())
}

fn read_late(value: &str) -> Option<Option<Late>> {
    if value == "none" {
        return Some(None);
    }
    let (share, up_to) = value.split_once('/')?;
    Some(Some(Late { share: read_share(share)?, up_to: read_time(up_to)? }))
}

fn read_step(text: &str) -> Option<RateStep> {
    let (at, rate) = text.split_once(':')?;
    Some(RateStep { at: read_time(at)?, bits_per_s: read_rate(rate)? })
}

fn read_mtu_step(text: &str) -> Option<MtuStep> {
    let (at, mtu) = text.split_once(':')?;
    Some(MtuStep { at: read_time(at)?, mtu_bytes: read_whole(mtu)? })
}

fn read_blackout(text: &str) -> Option<Blackout> {
    let (at, lasts) = text.split_once('+')?;
    Some(Blackout { at: read_time(at)?, lasts: read_time(lasts)? })
}

/// Several, joined by slashes.
fn read_list<T>(value: &str, read: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    if value == "none" {
        return Some(Vec::new());
    }
    value.split('/').map(|text| read(text.trim())).collect()
}

fn write_list<T>(list: &[T], write: fn(&T) -> String) -> Option<String> {
    (!list.is_empty()).then(|| list.iter().map(write).collect::<Vec<_>>().join("/"))
}

/// Digits only: a sign is refused.
fn read_whole<T: FromStr>(value: &str) -> Option<T> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

fn write_some(share: Share) -> Option<String> {
    (share != Share::NONE).then(|| write_share(share))
}
