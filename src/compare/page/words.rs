//! A link of the comparison, from its SPEC, in words.

use crate::link::{Bottleneck, Buffer, LinkConfig};
use crate::units;

use super::number::{milliseconds, percent, seconds};

/// A link as a record has it, without the seed, which differs from round to round and says nothing of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lane {
    /// Its SPEC.
    pub(super) spec: String,
    /// What that means; of a trace, whose file nobody reads again, with the rate that it has on average. None: this program does not know.
    pub(super) config: Option<LinkConfig>,
    /// The name of its trace, if it is replayed from one.
    pub(super) trace: Option<String>,
}

impl Lane {
    /// From a SPEC and the rate that was recorded with it.
    pub(super) fn new(spec: &str, bits_per_s: Option<u64>) -> Self {
        let parts: Vec<&str> = spec.split(',').filter(|part| !part.starts_with("seed=")).collect();
        let trace = parts.iter().find_map(|part| part.strip_prefix("trace=")).map(str::to_owned);
        let rate = format!("rate={}bit", bits_per_s.unwrap_or(1));
        let with_rate =
            |part: &&str| if part.starts_with("trace=") { rate.clone() } else { (*part).to_owned() };
        let config = parts.iter().map(with_rate).collect::<Vec<_>>().join(",").parse().ok();
        Self { spec: parts.join(","), config, trace }
    }

    /// What it does to packets, for people who do not know the parts of a SPEC.
    pub(super) fn in_words(&self) -> String {
        match &self.config {
            Some(config) => in_words(config, self.trace.as_deref()),
            None => "an emulated link".to_owned(),
        }
    }
}

fn in_words(link: &LinkConfig, trace: Option<&str>) -> String {
    let mut parts = vec![match (&link.bottleneck, trace) {
        (Some(line), None) => units::bit_rate(line.bits_per_s as f64),
        (Some(line), Some(trace)) => {
            format!("the trace {trace}, on average {}", units::bit_rate(line.bits_per_s as f64))
        }
        (None, _) => "no limit of rate".to_owned(),
    }];
    parts.push(format!("a round trip of {}", milliseconds(link.rtt.as_secs_f64())));
    if let Some(loss) = link.loss {
        let bursts = match loss.burst_packets {
            0..=1 => String::new(),
            packets => format!(", {packets} in a row on average"),
        };
        parts.push(format!("{} of the packets lost by chance{bursts}", share(loss.share.as_fraction())));
    }
    parts.extend(link.bottleneck.iter().flat_map(|line| line_in_words(line, link)));
    parts.extend(faults_in_words(link));
    parts.join("; ")
}

fn line_in_words(line: &Bottleneck, link: &LinkConfig) -> Vec<String> {
    let depth = units::bytes(line.depth_bytes(link.rtt));
    let buffer = match line.buffer {
        Buffer::Queue(_) => format!("a queue of {depth} before the bottleneck"),
        Buffer::Policer(_) => format!("a policer with a bucket of {depth}"),
    };
    let step = |at: f64, rate: u64| format!("from {} on {}", seconds(at), units::bit_rate(rate as f64));
    let steps = line.steps.iter().map(|it| step(it.at.as_secs_f64(), it.bits_per_s));
    [buffer].into_iter().chain(steps).collect()
}

fn faults_in_words(link: &LinkConfig) -> Vec<String> {
    let mut parts = Vec::new();
    if !link.jitter.is_zero() {
        parts.push(format!("up to {} of jitter", milliseconds(link.jitter.as_secs_f64())));
    }
    if let Some(late) = link.late {
        let up_to = milliseconds(late.up_to.as_secs_f64());
        parts.push(format!("{} late by up to {up_to}", share(late.share.as_fraction())));
    }
    for (part, what) in [
        (link.reorder, "overtaking those before them"),
        (link.duplicate, "arriving twice"),
        (link.corrupt, "with a flipped bit"),
    ] {
        if part.ppb() > 0 {
            parts.push(format!("{} {what}", share(part.as_fraction())));
        }
    }
    if link.mtu_bytes != LinkConfig::default().mtu_bytes {
        parts.push(format!("packets of at most {}", units::bytes(link.mtu_bytes as u64)));
    }
    for step in &link.mtu_steps {
        let (at, mtu) = (seconds(step.at.as_secs_f64()), units::bytes(step.mtu_bytes as u64));
        parts.push(format!("from {at} on packets of at most {mtu}"));
    }
    for dark in &link.blackouts {
        let (at, lasts) = (seconds(dark.at.as_secs_f64()), seconds(dark.lasts.as_secs_f64()));
        parts.push(format!("dark from {at} on for {lasts}"));
    }
    parts
}

fn share(fraction: f64) -> String {
    percent(100.0 * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_link_is_said() {
        let words = |spec: &str| Lane::new(spec, Some(5_000_000)).in_words().replace('\u{a0}', " ");

        assert_eq!(words("rtt=0ms"), "no limit of rate; a round trip of 0 ms");
        assert_eq!(
            words("rtt=80ms,rate=100mbit,step=10s:20mbit,loss=1%,burst=8"),
            "100 Mbit/s; a round trip of 80 ms; 1 % of the packets lost by chance, 8 in a row on average; a queue of 1.00 MB before \
             the bottleneck; from 10 s on 20.0 Mbit/s"
        );
        assert_eq!(
            words(
                "rtt=4ms,rate=8mbit,policer=64KiB,jitter=2ms,late=1%/5ms,reorder=5%,dup=1%,corrupt=0.5%,mtu=1400,seed=7"
            ),
            "8.00 Mbit/s; a round trip of 4 ms; a policer with a bucket of 65.5 kB; up to 2 ms of jitter; 1 % late by up to 5 ms; \
             5 % overtaking those before them; 1 % arriving twice; 0.5 % with a flipped bit; packets of at most 1.40 kB"
        );
        assert_eq!(
            words("rtt=4ms,trace=lte.up,queue=20kB").split("; ").next(),
            Some("the trace lte.up, on average 5.00 Mbit/s")
        );
        assert_eq!(words("rtt=4ms,unheard=of"), "an emulated link");
        assert!(words("mtustep=3s:1280").ends_with("; from 3 s on packets of at most 1.28 kB"));
        assert!(words("rtt=4ms,blackout=3s+2s").ends_with("; dark from 3 s on for 2 s"));
    }
}
