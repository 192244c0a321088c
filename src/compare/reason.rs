//! Why a run was as fast as it was: a cause from its counters, in words for a newcomer.

use std::fmt;

use super::record::Record;

/// A cause, with the numbers that show it.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// It did not work.
    Failed {
        /// In its own words.
        error: String,
    },
    /// TCP's loss-based congestion control reduced its window for losses by chance.
    LossAsCongestion {
        /// The kernel's congestion control.
        congestion: String,
        /// What the link lost by chance, percent of the packets.
        loss_percent: f64,
        /// Times that the window was reduced.
        reductions: u64,
        /// What was kept of the link, percent.
        share_percent: f64,
    },
    /// Chance took packets, and they were sent again.
    Repaired {
        /// What the link lost by chance, percent of the packets.
        loss_percent: f64,
        /// What was sent again, percent of what was sent.
        again_percent: f64,
        /// What was kept of the link, percent.
        share_percent: f64,
    },
    /// The link was full.
    Filled {
        /// What was kept of the link, percent.
        share_percent: f64,
    },
    /// Nothing was sent again.
    NothingRepaired {
        /// Datagrams that did not come.
        missing: u64,
        /// Of the datagrams sent, percent.
        missing_percent: f64,
    },
    /// A policer dropped what came faster than its rate.
    Policer {
        /// Packets that it dropped.
        drops: u64,
        /// Of the packets sent, percent.
        percent: f64,
    },
    /// Packets that came in blackouts.
    Blackout {
        /// How many.
        drops: u64,
    },
    /// Packets longer than the path carries vanished.
    TooLong {
        /// How many.
        drops: u64,
    },
    /// The queue before the bottleneck overflowed.
    QueueFull {
        /// Packets that found it full.
        drops: u64,
        /// Times that the kernel's TCP reduced its window, if it was TCP.
        reductions: Option<u64>,
    },
    /// The receiver's window was too small for the path.
    ReceiveWindow {
        /// Of the time in which the sender had something to send, percent.
        percent: f64,
    },
    /// The sender's socket buffer was too small for the path.
    SendBuffer {
        /// Of the time in which the sender had something to send, percent.
        percent: f64,
    },
    /// It had the link's rate, but not from the beginning on.
    Rising {
        /// When it had, seconds from the link's first moment.
        after_s: f64,
        /// What arrived from then on, percent of the link's rate, headers included.
        then_percent: f64,
    },
    /// Over before the rate could rise.
    TooShort {
        /// Round trips that it took, with connecting.
        rounds: f64,
    },
    /// Something other than the network.
    Elsewhere {
        /// `sender_cpu`, `receiver_cpu`, `source`, `target` or `rate`.
        limit: String,
    },
}

/// A transfer that gets so much of the link's rate has filled it: headers take the rest. Percent.
const FILLED_PERCENT: f64 = 80.0;
/// What accounts for so much of the time is the cause. Percent.
const EXPLAINS_PERCENT: f64 = 30.0;
/// A beginning that takes more of the whole is worth a word.
const RISING_SHARE: f64 = 0.1;
/// A transfer of fewer round trips is start-up: from ten packets, doubling each, a window of some thousand takes eight, and
/// connecting takes five.
const SHORT_ROUNDS: f64 = 25.0;

/// The causes, the first the weightiest; at most two.
pub fn reasons(record: &Record) -> Vec<Reason> {
    let mut found = Vec::new();
    if !record.is_complete() && !record.was_cut {
        let error = record.error.clone().unwrap_or_else(|| format!("exit code {}", record.exit_code));
        return vec![Reason::Failed { error }];
    }
    if let Some(reason) = lost_for_good(record) {
        found.push(reason);
    }
    found.extend(faults(record));
    found.extend(elsewhere(record));
    let share_percent = record.link_share_percent.unwrap_or(0.0);
    let loss_percent = loss_percent(record);
    let is_raw = record.contender == "udp-raw";
    if share_percent >= FILLED_PERCENT * (1.0 - loss_percent / 100.0) && !is_raw {
        found.push(match record.sent_again_percent {
            Some(again_percent) if loss_percent > 0.0 => {
                Reason::Repaired { loss_percent, again_percent, share_percent }
            }
            _ => Reason::Filled { share_percent },
        });
    } else if !is_raw {
        found.extend(held_back(record, loss_percent, share_percent));
    }
    found.truncate(2);
    found
}

/// What raw UDP did not bring.
fn lost_for_good(record: &Record) -> Option<Reason> {
    let missing = record.guarantees.lost.seen.filter(|_| record.contender == "udp-raw")?;
    let reads = record.guarantees.boundaries.map_or(0, |it| it.reads);
    let sent = missing + reads.saturating_sub(record.guarantees.duplicated.seen.unwrap_or(0));
    Some(Reason::NothingRepaired { missing, missing_percent: percent(missing, sent) })
}

/// What the link did on purpose.
fn faults(record: &Record) -> Option<Reason> {
    let wire = record.wire?;
    if wire.blackout_drops > 0 {
        return Some(Reason::Blackout { drops: wire.blackout_drops });
    }
    if wire.mtu_drops > 10 {
        return Some(Reason::TooLong { drops: wire.mtu_drops });
    }
    let policed = percent(wire.policer_drops, wire.there_packets);
    (policed > 0.5).then_some(Reason::Policer { drops: wire.policer_drops, percent: policed })
}

/// What haul found to be the limit, if it was not the network.
fn elsewhere(record: &Record) -> Option<Reason> {
    let limit = record.limited_by.as_deref()?;
    let is_raw_rate = record.contender == "udp-raw" && limit == "rate";
    let is_elsewhere = matches!(limit, "sender_cpu" | "receiver_cpu" | "source" | "target" | "rate");
    (is_elsewhere && !is_raw_rate).then(|| Reason::Elsewhere { limit: limit.to_owned() })
}

/// Why the link was not filled.
fn held_back(record: &Record, loss_percent: f64, share_percent: f64) -> Option<Reason> {
    let tcp = &record.transport;
    let part = |time: Option<f64>| 100.0 * time.unwrap_or(0.0) / tcp.tcp_busy_s.unwrap_or(0.0).max(1e-3);
    let (window, buffer) = (part(tcp.tcp_rwnd_limited_s), part(tcp.tcp_sndbuf_limited_s));
    if window > EXPLAINS_PERCENT && window >= buffer {
        return Some(Reason::ReceiveWindow { percent: window });
    }
    if buffer > EXPLAINS_PERCENT {
        return Some(Reason::SendBuffer { percent: buffer });
    }
    let reductions = tcp.tcp_reductions.unwrap_or(0);
    let congestion = tcp.tcp_congestion.clone().unwrap_or_default();
    let takes_loss_for_congestion = !congestion.is_empty() && !congestion.starts_with("bbr");
    if loss_percent > 0.0 && reductions > 0 && takes_loss_for_congestion {
        return Some(Reason::LossAsCongestion { congestion, loss_percent, reductions, share_percent });
    }
    if let Some(rising) = rising(record) {
        return Some(rising);
    }
    let rounds = record.elapsed_s / record.link_rtt_s.or(record.min_rtt_s)?.max(1e-4);
    if rounds < SHORT_ROUNDS {
        return Some(Reason::TooShort { rounds });
    }
    let drops = record.wire?.queue_drops;
    if drops > 0 {
        return Some(Reason::QueueFull {
            drops,
            reductions: Some(reductions).filter(|it| *it > 0 && takes_loss_for_congestion),
        });
    }
    let again_percent = record.sent_again_percent.filter(|_| loss_percent > 0.0)?;
    Some(Reason::Repaired { loss_percent, again_percent, share_percent })
}

/// Whether the link was full from some moment on until the last packets, and empty enough before to matter.
fn rising(record: &Record) -> Option<Reason> {
    let timeline = record.timeline.as_ref()?;
    let full_bytes = record.link_rate_bits_per_s? as f64 / 8.0 * timeline.interval_s;
    let arrived = &timeline.delivered_bytes;
    let first = arrived.iter().position(|&bytes| bytes as f64 >= full_bytes * FILLED_PERCENT / 100.0)?;
    let last = arrived.iter().rposition(|&bytes| bytes as f64 >= full_bytes * FILLED_PERCENT / 100.0)?;
    let then: u64 = arrived[first..=last].iter().sum();
    let then_percent = 100.0 * then as f64 / (full_bytes * (last - first + 1) as f64);
    let after_s = first as f64 * timeline.interval_s;
    (then_percent >= FILLED_PERCENT && last > first && after_s >= RISING_SHARE * record.elapsed_s)
        .then_some(Reason::Rising { after_s, then_percent })
}

fn loss_percent(record: &Record) -> f64 {
    record.wire.map_or(0.0, |wire| percent(wire.lost, wire.there_packets))
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { error } => write!(f, "It failed: {error}."),
            Self::LossAsCongestion { congestion, loss_percent, reductions, share_percent } => write!(
                f,
                "TCP ({congestion}) took {} loss for congestion {} and reduced its window each time: {} of the link.",
                Percent(*loss_percent),
                times(*reductions),
                Percent(*share_percent)
            ),
            Self::Repaired { loss_percent, again_percent, share_percent } => write!(
                f,
                "The link lost {}; {} of what was sent was sent again, and {} of the link was kept.",
                Percent(*loss_percent),
                Percent(*again_percent),
                Percent(*share_percent)
            ),
            Self::Filled { share_percent } => {
                write!(
                    f,
                    "It filled the link: {} of its rate are content, headers take the rest.",
                    Percent(*share_percent)
                )
            }
            Self::NothingRepaired { missing, missing_percent } if *missing > 0 => write!(
                f,
                "{missing} datagrams ({}) never came whole, and nobody asked for them again.",
                Percent(*missing_percent)
            ),
            Self::NothingRepaired { .. } => f.write_str("Every datagram came, and nobody promised that."),
            Self::Policer { drops, percent } => write!(
                f,
                "A policer dropped {drops} packets ({}) that came faster than its rate: no queue warned of it.",
                Percent(*percent)
            ),
            Self::Blackout { drops } => write!(f, "{drops} packets came while the link was dark."),
            Self::TooLong { drops } => {
                write!(f, "{drops} packets were longer than the path carries, and vanished.")
            }
            Self::QueueFull { drops, reductions: Some(reductions) } => write!(
                f,
                "The queue before the bottleneck was full for {drops} packets, and TCP reduced its window {}.",
                times(*reductions)
            ),
            Self::QueueFull { drops, reductions: None } => {
                write!(f, "The queue before the bottleneck was full for {drops} packets.")
            }
            Self::ReceiveWindow { percent } => write!(
                f,
                "For {} of the time TCP waited for the receiver's window: its receive buffer is too small for this path.",
                Percent(*percent)
            ),
            Self::SendBuffer { percent } => write!(
                f,
                "For {} of the time TCP had no more to send: the sender's buffer is too small for this path.",
                Percent(*percent)
            ),
            Self::Rising { after_s, then_percent } => write!(
                f,
                "It had the link's rate after {after_s:.1} s ({} from then on): the longer the file, the less that beginning counts.",
                Percent(*then_percent)
            ),
            Self::TooShort { rounds } => write!(
                f,
                "It was over after {rounds:.0} round trips, connecting included, before the rate had risen to the link's."
            ),
            Self::Elsewhere { limit } => f.write_str(match limit.as_str() {
                "sender_cpu" => "The sender's processor was the limit, not the network.",
                "receiver_cpu" => "The receiver's processor was the limit, not the network.",
                "source" => "Reading the file was the limit, not the network.",
                "target" => "Writing the file was the limit, not the network.",
                _ => "The rate that was asked for was the limit.",
            }),
        }
    }
}

/// Two digits, so that little is not nothing.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            10.0.. => write!(f, "{:.0} %", self.0),
            1.0..10.0 => write!(f, "{:.1} %", self.0),
            _ => write!(f, "{:.2} %", self.0),
        }
    }
}

fn times(count: u64) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::guarantee::{Boundaries, Kept};
    use crate::compare::record::{Timeline, TransportFigures, Wire};

    /// 80 ms, 40 Mbit/s, 1 % loss, and a run of TCP over it that got a tenth.
    fn run() -> Record {
        Record {
            contender: "tcp/cubic".to_owned(),
            elapsed_s: 20.0,
            link_rtt_s: Some(0.08),
            link_share_percent: Some(10.0),
            wire: Some(Wire { there_packets: 10_000, lost: 100, ..Wire::default() }),
            sent_again_percent: Some(1.1),
            transport: TransportFigures {
                tcp_congestion: Some("cubic".to_owned()),
                tcp_reductions: Some(90),
                tcp_busy_s: Some(19.0),
                ..TransportFigures::default()
            },
            ..Record::default()
        }
    }

    fn first(change: fn(&mut Record)) -> Reason {
        let mut record = run();
        change(&mut record);
        reasons(&record).remove(0)
    }

    #[test]
    fn loss_by_chance_holds_back_a_law_that_takes_it_for_congestion() {
        let why = reasons(&run());

        assert_eq!(
            why[0].to_string(),
            "TCP (cubic) took 1.0 % loss for congestion 90 times and reduced its window each time: 10 % of the link."
        );
        let mut bbr = run();
        bbr.transport.tcp_congestion = Some("bbr".to_owned());
        assert_eq!(
            reasons(&bbr)[0].to_string(),
            "The link lost 1.0 %; 1.1 % of what was sent was sent again, and 10 % of the link was kept."
        );
    }

    #[test]
    fn each_cause_is_named_when_it_is_the_one() {
        let wire = |change: fn(&mut Wire)| {
            let mut record = run();
            change(record.wire.as_mut().unwrap());
            reasons(&record).remove(0)
        };

        assert!(matches!(wire(|wire| wire.blackout_drops = 50), Reason::Blackout { drops: 50 }));
        assert!(matches!(wire(|wire| wire.policer_drops = 500), Reason::Policer { drops: 500, .. }));
        assert!(matches!(wire(|wire| wire.mtu_drops = 500), Reason::TooLong { drops: 500 }));
        assert!(matches!(
            wire(|wire| (wire.lost, wire.queue_drops) = (0, 7)),
            Reason::QueueFull { drops: 7, reductions: Some(90) }
        ));
        assert!(matches!(
            first(|run| run.transport.tcp_rwnd_limited_s = Some(15.0)),
            Reason::ReceiveWindow { percent: 70.0..90.0 }
        ));
        assert!(matches!(
            first(|run| run.transport.tcp_sndbuf_limited_s = Some(15.0)),
            Reason::SendBuffer { percent: 70.0..90.0 }
        ));
        assert!(matches!(first(|run| run.limited_by = Some("target".to_owned())), Reason::Elsewhere { .. }));
        assert!(matches!(first(|run| run.link_share_percent = Some(90.0)), Reason::Repaired { .. }));
        assert!(matches!(
            first(|run| (run.elapsed_s, run.transport.tcp_reductions) = (1.0, None)),
            Reason::TooShort { rounds: 12.0..13.0 }
        ));
        assert!(matches!(first(|run| run.exit_code = 3), Reason::Failed { .. }));
    }

    #[test]
    fn a_link_that_is_full_after_a_beginning_is_told_from_one_that_never_is() {
        let timeline = |delivered_bytes: &[u64]| {
            let mut record = run();
            record.transport = TransportFigures::default();
            (record.elapsed_s, record.link_rate_bits_per_s) = (1.0, Some(8000));
            record.timeline = Some(Timeline {
                interval_s: 0.1,
                delivered_bytes: delivered_bytes.to_vec(),
                ..Timeline::default()
            });
            reasons(&record).remove(0)
        };

        let Reason::Rising { after_s, then_percent } = timeline(&[0, 9, 20, 99, 97, 98, 95, 99, 12]) else {
            panic!("it rose");
        };
        assert!((after_s - 0.3).abs() < 1e-9 && (97.0..98.0).contains(&then_percent));
        assert!(matches!(timeline(&[0, 9, 90, 9, 9, 9, 9, 90, 9]), Reason::TooShort { .. }));
        assert!(matches!(timeline(&[99, 97, 98, 95, 99]), Reason::TooShort { .. }));
    }

    #[test]
    fn a_clean_link_is_filled_and_raw_udp_repairs_nothing() {
        let filled = first(|run| {
            run.link_share_percent = Some(91.0);
            run.wire.as_mut().unwrap().lost = 0;
        });
        let raw = first(|run| {
            run.contender = "udp-raw".to_owned();
            run.guarantees.lost = Kept { seen: Some(20), beneath: Some(20) };
            run.guarantees.boundaries = Some(Boundaries { reads: 980, inside_message: 0 });
        });

        assert_eq!(filled, Reason::Filled { share_percent: 91.0 });
        assert_eq!(
            raw.to_string(),
            "20 datagrams (2.0 %) never came whole, and nobody asked for them again."
        );
    }
}
