//! Says what limited the speed of a session, from what both sides measured.
//!
//! Every stage of the pipeline either works or waits for a neighbour; the one that (nearly) always works is the
//! limit, and pressure from it shows upstream as waiting for the network or for credit. So the ends are looked at
//! first, and the network is named only when nothing behind it explains why it took no more.

use serde::Serialize;

use crate::wire::message::Stats;

/// What limited the speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Reading the source.
    Source,
    /// The sender's processor (hashing, encrypting).
    SenderCpu,
    /// The network between both.
    Network,
    /// The receiver's processor (decrypting, hashing).
    ReceiverCpu,
    /// Writing or syncing the target.
    Target,
    /// The rate that was asked for.
    Rate,
    /// Too little data to say.
    TooShort,
}

/// The limit, with its share of the time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// What limited.
    pub limit: Limit,
    /// Part of the transfer's time that it accounts for, percent.
    pub share_percent: u8,
}

/// Below this, start-up is all there is.
const SHORTEST_US: u64 = 100_000;
/// An end that accounts for this much of the time explains pressure on the network before it, percent.
const EXPLAINS_PERCENT: u64 = 55;
/// What accounts for less of the time than this limits nothing, percent.
const SHOWS_PERCENT: u64 = 20;
/// From this share of the asked-for rate on, the rate was the limit, percent.
const RATE_KEPT_PERCENT: u64 = 90;

/// Decides from both sides' measurements. `rate_bps` is the rate asked for, if one was.
pub fn verdict(sender: &Stats, receiver: &Stats, rate_bps: Option<u64>) -> Verdict {
    let elapsed_us = sender.elapsed_us.max(receiver.elapsed_us);
    if elapsed_us < SHORTEST_US {
        return Verdict { limit: Limit::TooShort, share_percent: 0 };
    }
    let percent = |us: u64| (us.saturating_mul(100) / elapsed_us).min(100);
    if let Some(rate_bps) = rate_bps {
        let reached_bps = sender.payload_bytes.saturating_mul(8_000_000) / elapsed_us;
        let kept = reached_bps.saturating_mul(100) / rate_bps.max(1);
        if kept >= RATE_KEPT_PERCENT {
            return named(Limit::Rate, kept.min(100));
        }
    }
    let ends = [
        (Limit::Source, percent(sender.source_wait_us)),
        (Limit::Target, percent(receiver.target_wait_us)),
        (Limit::SenderCpu, percent(sender.busiest_us)),
        (Limit::ReceiverCpu, percent(receiver.busiest_us)),
    ];
    // What the sender had written and the receiver had not seen was on its way, in the buffers of the sockets too.
    let on_its_way_us = receiver.elapsed_us.saturating_sub(sender.elapsed_us);
    let pressure_us = sender.network_wait_us.max(sender.credit_wait_us);
    let network = (Limit::Network, percent(pressure_us.saturating_add(on_its_way_us)));
    let worst_end = ends.into_iter().reduce(|a, b| if b.1 > a.1 { b } else { a }).expect("four of them");
    // The sender's queue was full, and nothing behind it explains why: it kept to a rate that this side was not told.
    let held_back = percent(sender.peer_wait_us);
    let explained = worst_end.1.max(network.1);
    if explained < EXPLAINS_PERCENT && explained < held_back && network.1 < SHOWS_PERCENT {
        return named(Limit::Rate, held_back);
    }
    if explained < SHOWS_PERCENT {
        // Nobody was at work and nothing was full: the time went into round trips.
        return named(Limit::Network, 100 - explained);
    }
    let (limit, share) =
        if worst_end.1 >= EXPLAINS_PERCENT || worst_end.1 >= network.1 { worst_end } else { network };
    named(limit, share)
}

fn named(limit: Limit, share: u64) -> Verdict {
    Verdict { limit, share_percent: u8::try_from(share.min(100)).expect("at most 100") }
}

impl Limit {
    /// In words, for the final line.
    pub fn words(self) -> &'static str {
        match self {
            Self::Source => "reading the source",
            Self::SenderCpu => "the sender's CPU",
            Self::Network => "the network",
            Self::ReceiverCpu => "the receiver's CPU",
            Self::Target => "writing the target",
            Self::Rate => "the rate asked for",
            Self::TooShort => "too short to say",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn stats() -> Stats {
        Stats { elapsed_us: 10 * SECOND, payload_bytes: 1 << 30, busiest_us: SECOND, ..Stats::default() }
    }

    #[test]
    fn each_cause_is_named_by_its_own_mark() {
        let slow_source = Stats { source_wait_us: 9 * SECOND, ..stats() };
        let slow_link = Stats { network_wait_us: 9 * SECOND, ..stats() };
        let slow_cpu = Stats { busiest_us: 9 * SECOND, ..stats() };
        let slow_target = Stats { target_wait_us: 9 * SECOND, ..stats() };

        assert_eq!(verdict(&slow_source, &stats(), None).limit, Limit::Source);
        assert_eq!(verdict(&slow_link, &stats(), None).limit, Limit::Network);
        assert_eq!(verdict(&slow_cpu, &stats(), None).limit, Limit::SenderCpu);
        assert_eq!(verdict(&stats(), &slow_cpu, None).limit, Limit::ReceiverCpu);
        assert_eq!(verdict(&stats(), &slow_target, None).limit, Limit::Target);
    }

    #[test]
    fn pressure_on_the_network_is_blamed_on_what_stands_behind_it() {
        let pressed = Stats { network_wait_us: 9 * SECOND, credit_wait_us: 8 * SECOND, ..stats() };
        let slow_target = Stats { target_wait_us: 7 * SECOND, ..stats() };
        let busy = Stats { busiest_us: 8 * SECOND, ..stats() };

        assert_eq!(verdict(&pressed, &slow_target, None).limit, Limit::Target);
        assert_eq!(verdict(&pressed, &busy, None).limit, Limit::ReceiverCpu);
        assert_eq!(verdict(&pressed, &stats(), None).limit, Limit::Network);
    }

    #[test]
    fn a_rate_that_was_kept_is_the_limit() {
        let sender = Stats { payload_bytes: 10_000_000, network_wait_us: 9 * SECOND, ..stats() };

        assert_eq!(verdict(&sender, &stats(), Some(8_000_000)).limit, Limit::Rate);
        assert_eq!(verdict(&sender, &stats(), Some(80_000_000)).limit, Limit::Network);
    }

    #[test]
    fn what_waits_in_the_buffers_of_the_network_is_the_networks() {
        let soon_done = Stats { elapsed_us: 3 * SECOND, peer_wait_us: 2 * SECOND, ..stats() };
        let slow_target = Stats { target_wait_us: 7 * SECOND, ..stats() };

        assert_eq!(verdict(&soon_done, &stats(), None), Verdict { limit: Limit::Network, share_percent: 70 });
        assert_eq!(verdict(&soon_done, &slow_target, None).limit, Limit::Target);
    }

    #[test]
    fn where_nobody_was_at_work_the_network_took_the_time() {
        let short = Stats { busiest_us: SECOND / 10, ..stats() };

        assert_eq!(verdict(&short, &short, None), Verdict { limit: Limit::Network, share_percent: 99 });
    }

    #[test]
    fn a_full_queue_with_nothing_in_its_way_was_held_back_by_a_rate() {
        let held_back = Stats { peer_wait_us: 9 * SECOND, ..stats() };
        let pressed = Stats { network_wait_us: 8 * SECOND, ..held_back };
        // Several connections, each of them full for a part of the time.
        let in_turns = Stats { network_wait_us: 4 * SECOND, ..held_back };

        assert_eq!(verdict(&held_back, &stats(), None).limit, Limit::Rate);
        assert_eq!(verdict(&in_turns, &stats(), None).limit, Limit::Network);
        assert_eq!(verdict(&pressed, &stats(), None).limit, Limit::Network);
    }

    #[test]
    fn a_moment_is_too_short_to_say() {
        let sender = Stats { elapsed_us: SHORTEST_US - 1, source_wait_us: SHORTEST_US, ..stats() };
        let receiver = Stats { elapsed_us: 0, ..stats() };

        assert_eq!(verdict(&sender, &receiver, None).limit, Limit::TooShort);
    }
}
