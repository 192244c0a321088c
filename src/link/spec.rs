//! A link as a line of text: `wifi,loss=3%,seed=7`.
//!
//! ```text
//! SPEC = [PROFILE] {"," PART "=" VALUE}          without a profile it begins with a part
//!
//! rtt=80ms              there and back, without queues                             none: 0s
//! rate=100mbit          of each direction; `none`: no bottleneck                   none
//! trace=FILE            instead of a rate: mahimahi's trace, a moment in ms in each line, over and over
//! queue=100ms           what waits before it: a time, bytes or multiples of bdp    1bdp
//! policer=64KiB         instead of a queue: a bucket; what does not fit is dropped
//! step=10s:20mbit       from then on another rate; several: 10s:20mbit/20s:5mbit   none
//! loss=1%               share that vanishes                                        0%
//! burst=8               in runs of this mean length; 1: each packet on its own     1
//! jitter=5ms            every packet takes up to this longer                       0s
//! late=25%/20ms         a share takes up to this longer still                      none
//! reorder=1%            share that overtakes by skipping the delay                 0%
//! dup=0.1%              share that arrives twice                                   0%
//! corrupt=0.01%         share in which one bit is flipped                          0%
//! mtu=1500              longer packets vanish; bytes                               1500
//! mtustep=10s:1280      from then on another MTU; several: 10s:1280/20s:1500      none
//! blackout=3s+2s        at 3 s, for 2 s, nothing arrives; several: 3s+2s/9s+1s     none
//! seed=7                equal seeds give equal fates                               1
//!
//! times: ns us ms s min h      rates: bit kbit mbit gbit tbit      sizes: B kB KiB MB MiB GB GiB
//! ```
//!
//! Parts may have any order, each at most once; they replace what the profile says. A `policer` replaces a
//! profile's queue and a `queue` its policer; giving both is refused, as is a `rate` with a `trace`. `Display` writes
//! what differs from the defaults, and reading that gives the same configuration.
//!
//! A trace's file has a name without commas. It is read by who knows of files and calls [`LinkConfig::read`]; a SPEC
//! that is only parsed has none.

use std::fmt;
use std::str::FromStr;

use super::check::ConfigError;
use super::config::LinkConfig;
use super::parts::{Load, PARTS, Part, Refusal};
use super::profiles::{self, PROFILES};
use super::trace::{Trace, TraceError};

/// Why a text is not a SPEC.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Nothing, or nothing between two commas.
    #[error("an empty part; a link is written like `wifi,loss=3%` or `rtt=80ms,rate=100mbit`")]
    Empty,
    /// The first part has no `=` and is no profile.
    #[error("`{name}` is no profile; there are {}", profile_names())]
    UnknownProfile {
        /// What stands there.
        name: String,
    },
    /// A later part without `=`.
    #[error("`{text}` is not PART=VALUE; a profile has to stand first")]
    NoValue {
        /// What stands there.
        text: String,
    },
    /// A part of another name.
    #[error("`{name}` is no part of a link; there are {}", part_names())]
    UnknownPart {
        /// What stands before the `=`.
        name: String,
    },
    /// The same part a second time.
    #[error("`{part}` is given twice; once is right")]
    Twice {
        /// The part.
        part: &'static str,
    },
    /// Parts that exclude each other.
    #[error("`{one}` and `{other}` exclude each other; give the one that the bottleneck has")]
    Excluding {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A trace that is none.
    #[error("`trace`: {0}")]
    Trace(#[from] TraceError),
    /// A part that means nothing without another.
    #[error("`{part}` needs a `{needs}`")]
    Needs {
        /// The part.
        part: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// A value that cannot be read.
    #[error("`{part}={value}`: it has to be {wanted}")]
    Value {
        /// The part.
        part: &'static str,
        /// What stands behind the `=`.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// Values that do not fit each other or are out of bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl FromStr for LinkConfig {
    type Err = SpecError;

    /// Reads a SPEC without a `trace`.
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::read_with(text, &mut |name| {
            let why = "files have no place here".to_owned();
            Err(TraceError::Unreadable { name: name.to_owned(), why })
        })
    }
}

impl LinkConfig {
    /// Reads a SPEC; `load` gives the trace that it names, if it names one.
    pub fn read(
        text: &str,
        mut load: impl FnMut(&str) -> Result<Trace, TraceError>,
    ) -> Result<Self, SpecError> {
        Self::read_with(text, &mut load)
    }

    fn read_with(text: &str, load: &mut Load<'_>) -> Result<Self, SpecError> {
        let mut items: Vec<&str> = text.split(',').map(str::trim).collect();
        if items.contains(&"") {
            return Err(SpecError::Empty);
        }
        let mut config = Self::default();
        if !items[0].contains('=') {
            let name = items.remove(0);
            let profile = profiles::find(name);
            let profile = profile.ok_or_else(|| SpecError::UnknownProfile { name: name.to_owned() })?;
            config = profile.config();
        }

        let given = split_items(&items)?;
        for (one, other) in EXCLUDING {
            if given_value(&given, one).is_some() && given_value(&given, other).is_some() {
                return Err(SpecError::Excluding { one, other });
            }
        }
        // In the table's order, since some parts refine others.
        for part in PARTS {
            let Some(value) = given_value(&given, part.name) else { continue };
            (part.read)(&mut config, value, load).map_err(|refusal| error(part, value, refusal))?;
        }
        config.check()?;
        Ok(config)
    }
}

impl fmt::Display for LinkConfig {
    /// Writes the SPEC of this configuration, always with its `rtt`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for part in PARTS {
            if let Some(value) = (part.write)(self) {
                write!(f, "{comma}{}={value}", part.name)?;
                comma = ",";
            }
        }
        Ok(())
    }
}

/// Parts of which a bottleneck has one.
const EXCLUDING: [(&str, &str); 2] = [("queue", "policer"), ("rate", "trace")];

/// Names the part that was refused.
fn error(part: &Part, value: &str, refusal: Refusal) -> SpecError {
    let (name, wanted) = (part.name, part.wanted);
    match refusal {
        Refusal::Trace(error) => error.into(),
        Refusal::Value => SpecError::Value { part: name, value: value.to_owned(), wanted },
        Refusal::Needs(needs) => SpecError::Needs { part: name, needs },
    }
}

/// Parts and their values, of known names and each once.
fn split_items<'a>(items: &[&'a str]) -> Result<Vec<(&'static str, &'a str)>, SpecError> {
    let mut given: Vec<(&'static str, &str)> = Vec::new();
    for item in items {
        let Some((name, value)) = item.split_once('=') else {
            return Err(SpecError::NoValue { text: (*item).to_owned() });
        };
        let name = name.trim_end();
        let Some(part) = PARTS.iter().find(|part| part.name == name) else {
            return Err(SpecError::UnknownPart { name: name.to_owned() });
        };
        if given_value(&given, part.name).is_some() {
            return Err(SpecError::Twice { part: part.name });
        }
        given.push((part.name, value.trim_start()));
    }
    Ok(given)
}

fn given_value<'a>(given: &[(&'static str, &'a str)], name: &str) -> Option<&'a str> {
    given.iter().find(|(given, _)| *given == name).map(|(_, value)| *value)
}

fn part_names() -> String {
    PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ")
}

fn profile_names() -> String {
    PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::check::{MTU_MAX_BYTES, MTU_MIN_BYTES};
    use super::super::config::{Blackout, Bottleneck, Buffer, Depth, Late, Loss, MtuStep, RateStep, Share};
    use super::*;

    fn parse(text: &str) -> Result<LinkConfig, SpecError> {
        text.parse()
    }

    fn refusal(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_spec_says_every_parameter() {
        let text = "rtt=80ms,rate=100mbit,queue=100ms,step=10s:20mbit,loss=1%,burst=8,jitter=5ms,late=25%/20ms,\
                    reorder=1%,dup=0.1%,corrupt=0.01%,mtu=9000,mtustep=5s:1280/10s:1500,blackout=3s+2s/9s+1s,seed=7";
        let config = parse(text).unwrap();

        let queue = Buffer::Queue(Depth::Time(ms(100)));
        let steps = vec![RateStep { at: ms(10_000), bits_per_s: 20_000_000 }];
        let wanted = LinkConfig {
            rtt: ms(80),
            bottleneck: Some(Bottleneck { steps, buffer: queue, ..Bottleneck::new(100_000_000) }),
            loss: Some(Loss { share: Share::from_ppb(10_000_000), burst_packets: 8 }),
            jitter: ms(5),
            late: Some(Late { share: Share::from_ppb(250_000_000), up_to: ms(20) }),
            reorder: Share::from_ppb(10_000_000),
            duplicate: Share::from_ppb(1_000_000),
            corrupt: Share::from_ppb(100_000),
            mtu_bytes: 9000,
            mtu_steps: vec![
                MtuStep { at: ms(5000), mtu_bytes: 1280 },
                MtuStep { at: ms(10_000), mtu_bytes: 1500 },
            ],
            blackouts: vec![
                Blackout { at: ms(3000), lasts: ms(2000) },
                Blackout { at: ms(9000), lasts: ms(1000) },
            ],
            seed: 7,
        };
        assert_eq!(config, wanted);
        assert_eq!(config.to_string(), text);
    }

    #[test]
    fn parts_have_any_order() {
        assert_eq!(
            parse("burst=4,queue=9kB,loss=2%,rate=1gbit"),
            parse("rate=1gbit,loss=2%,queue=9kB,burst=4")
        );
        assert_eq!(parse(" rtt = 80ms , rate=1gbit "), parse("rtt=80ms,rate=1gbit"));
    }

    #[test]
    fn a_profile_is_a_start_that_parts_replace() {
        let wifi = parse("wifi").unwrap();
        let lossy = parse("wifi,loss=3%").unwrap();

        let burst_packets = wifi.loss.unwrap().burst_packets;
        let loss = Some(Loss { share: Share::from_ppb(30_000_000), burst_packets });
        assert_eq!(lossy, LinkConfig { loss, ..wifi });
        assert_eq!(parse("wifi,loss=0%").unwrap().loss, None);
        assert_eq!(parse("wifi,rate=none").unwrap().bottleneck, None);
        assert_eq!(parse("wifi,late=none").unwrap().late, None);
    }

    #[test]
    fn a_policer_replaces_the_profiles_queue() {
        let line = parse("wifi,policer=64KiB").unwrap().bottleneck.unwrap();

        assert_eq!(line.buffer, Buffer::Policer(Depth::Bytes(65_536)));
    }

    #[test]
    fn a_refusal_names_the_part_and_what_would_be_right() {
        let cases = [
            ("", "an empty part; a link is written like `wifi,loss=3%` or `rtt=80ms,rate=100mbit`"),
            (
                "lan,,loss=1%",
                "an empty part; a link is written like `wifi,loss=3%` or `rtt=80ms,rate=100mbit`",
            ),
            ("rtt=80ms,wifi", "`wifi` is not PART=VALUE; a profile has to stand first"),
            ("rtt=80", "`rtt=80`: it has to be a time such as 80ms"),
            ("rtt=1ms,rtt=2ms", "`rtt` is given twice; once is right"),
            ("loss=1", "`loss=1`: it has to be a share from 0% to 100%, such as 1%"),
            ("loss=101%", "`loss=101%`: it has to be a share from 0% to 100%, such as 1%"),
            ("rate=100", "`rate=100`: it has to be a rate such as 100mbit, or none"),
            ("rate=1bit", "`rate`: a rate lies between 1kbit and 1tbit"),
            ("queue=100ms", "`queue` needs a `rate`"),
            ("policer=64KiB", "`policer` needs a `rate`"),
            ("step=1s:1mbit", "`step` needs a `rate`"),
            ("burst=8", "`burst` needs a `loss`"),
            ("loss=1%,burst=0", "`burst`: it has to be more than zero, or left out"),
            (
                "rate=1mbit,queue=1s,policer=1s",
                "`queue` and `policer` exclude each other; give the one that the bottleneck has",
            ),
            (
                "late=25%",
                "`late=25%`: it has to be a share and the most that it is late, such as 25%/20ms, or none",
            ),
            ("mtu=1500B", "`mtu=1500B`: it has to be a whole number of bytes without a unit, such as 1500"),
            ("mtu=67", "`mtu`: it lies between 68 and 65535 bytes"),
            (
                "mtustep=3s",
                "`mtustep=3s`: it has to be moments and bytes such as 10s:1280 or 10s:1280/20s:1500, or none",
            ),
            ("mtustep=3s:67", "`mtustep`: it lies between 68 and 65535 bytes"),
            (
                "mtustep=3s:1280/3s:1500",
                "`mtustep`: each moment has to be later than the one before it, the first later than 0s",
            ),
            (
                "blackout=3s",
                "`blackout=3s`: it has to be moments and lengths such as 3s+2s or 3s+2s/9s+1s, or none",
            ),
            ("seed=-1", "`seed=-1`: it has to be a whole number such as 7"),
            ("reorder=1%", "`reorder`: it needs an `rtt`, since a packet overtakes by skipping the delay"),
        ];

        for (text, why) in cases {
            assert_eq!(refusal(text), why, "{text}");
        }
        assert!(refusal("wlan").starts_with("`wlan` is no profile; there are datacenter, lan, wifi, "));
        assert!(refusal("rtt=1ms,lost=1%").starts_with("`lost` is no part of a link; there are rtt, rate, "));
    }

    #[test]
    fn a_trace_takes_the_place_of_a_rate() {
        let load = |name: &str| Trace::read(name, "1\n2\n");
        let read = |text: &str| LinkConfig::read(text, load);
        let line = |text: &str| read(text).unwrap().bottleneck.unwrap();
        let trace = Trace::read("a b.up", "1\n2\n").unwrap();

        assert_eq!(line("trace=a b.up,rtt=40ms"), Bottleneck::replay(trace));
        assert_eq!(
            line("trace=x,rtt=40ms").depth_bytes(ms(40)),
            60_160,
            "12,032,000 bits a second on average"
        );
        assert_eq!(line("wifi,trace=x,queue=9kB").buffer, Buffer::Queue(Depth::Bytes(9000)));
        assert_eq!(line("wifi,trace=x").buffer, line("wifi").buffer);
        let text = "rtt=40ms,trace=a b.up,queue=100ms,seed=3";
        assert_eq!(read(text).unwrap().to_string(), text);
        let why = |text: &str| read(text).expect_err(text).to_string();
        assert_eq!(
            why("trace=x,rate=1mbit"),
            "`rate` and `trace` exclude each other; give the one that the bottleneck has"
        );
        assert_eq!(why("trace=x,step=1s:1mbit"), "`step` needs a `rate`");
        assert_eq!(why("trace="), "`trace=`: it has to be the name of a file");
    }

    #[test]
    fn a_trace_that_is_none_is_refused_with_its_name() {
        let why = |text| LinkConfig::read("trace=x", |name| Trace::read(name, text)).unwrap_err().to_string();

        assert_eq!(why("1\n0"), "`trace`: `x`, line 2: 0 comes after 1; moments ascend or are equal");
        assert_eq!(why("86400000"), "`trace`: a rate lies between 1kbit and 1tbit");
        assert_eq!(refusal("trace=x"), "`trace`: `x` cannot be read: files have no place here");
    }

    #[test]
    fn the_default_is_the_quiet_link() {
        assert_eq!(LinkConfig::default().to_string(), "rtt=0s");
        assert_eq!(parse("rtt=0s"), Ok(LinkConfig::default()));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_as_the_same(config in configs()) {
            prop_assert_eq!(config.check(), Ok(()));
            prop_assert_eq!(parse(&config.to_string()), Ok(config));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(wifi|[a-z]{3,8}=[0-9.]{0,5}[a-zA-Z%/+:]{0,5}|,){0,6}|.*") {
            let _ = parse(&text);
        }
    }

    fn configs() -> impl Strategy<Value = LinkConfig> {
        let losses = proptest::option::of((1..=900_000_000_u32, prop_oneof![Just(1), 10..1000_u32]));
        let late = proptest::option::of((1..=1_000_000_000_u32, times()));
        let blackouts = proptest::collection::vec((times(), times()), 0..3);
        let parts = (times(), proptest::option::of(bottlenecks()), losses, times(), late);
        let shares = (shares(), shares(), shares());
        let mtu = MTU_MIN_BYTES..=MTU_MAX_BYTES;
        let mtus = (mtu.clone(), proptest::collection::btree_map(times(), mtu, 0..3));
        (parts, shares, mtus, blackouts, any::<u64>()).prop_map(
            |(
                (rtt, bottleneck, loss, jitter, late),
                (reorder, duplicate, corrupt),
                (mtu_bytes, mtu_steps),
                dark,
                seed,
            )| {
                let share = Share::from_ppb;
                LinkConfig {
                    rtt,
                    bottleneck,
                    loss: loss.map(|(ppb, burst_packets)| Loss { share: share(ppb), burst_packets }),
                    jitter,
                    late: late.map(|(ppb, up_to)| Late { share: share(ppb), up_to }),
                    reorder,
                    duplicate,
                    corrupt,
                    mtu_bytes,
                    mtu_steps: mtu_steps
                        .into_iter()
                        .map(|(at, mtu_bytes)| MtuStep { at, mtu_bytes })
                        .collect(),
                    blackouts: dark.into_iter().map(|(at, lasts)| Blackout { at, lasts }).collect(),
                    seed,
                }
            },
        )
    }

    fn bottlenecks() -> impl Strategy<Value = Bottleneck> {
        let queue = prop_oneof![
            (0..1_u64 << 40).prop_map(Depth::Bytes),
            times().prop_map(Depth::Time),
            (0..=1_000_000_u32).prop_map(Depth::BdpMilli),
        ];
        let buffer = prop_oneof![
            queue.prop_map(Buffer::Queue),
            (70_000_u64..1 << 40).prop_map(|bytes| Buffer::Policer(Depth::Bytes(bytes))),
        ];
        let steps = proptest::collection::btree_map(times(), rates(), 0..3).prop_map(|steps| {
            steps.into_iter().map(|(at, bits_per_s)| RateStep { at, bits_per_s }).collect::<Vec<_>>()
        });
        (rates(), steps, buffer).prop_map(|(bits_per_s, steps, buffer)| Bottleneck {
            steps,
            buffer,
            ..Bottleneck::new(bits_per_s)
        })
    }

    /// More than zero, at most a day, of all magnitudes.
    fn times() -> impl Strategy<Value = Duration> {
        let nanos = prop_oneof![1..1000_u64, 1..1_000_000_000_u64, 1..=86_400_000_000_000_u64];
        let whole = (1..=86_400_u64).prop_map(Duration::from_secs);
        prop_oneof![nanos.prop_map(Duration::from_nanos), whole]
    }

    fn rates() -> impl Strategy<Value = u64> {
        prop_oneof![1_000..=1_000_000_000_000_u64, (1..=1000_u64).prop_map(|mbit| mbit * 1_000_000)]
    }

    fn shares() -> impl Strategy<Value = Share> {
        prop_oneof![Just(0), 0..=1_000_000_000_u32].prop_map(Share::from_ppb)
    }
}
