//! How long a packet is under way: the propagation delay, and what makes packets arrive out of order.
//!
//! Jitter adds an equally likely time up to its bound to every packet. Late packets, a share, take up to a bound
//! longer still. Overtaking packets, another share, skip the delay and all that adds to it. Each packet is on its
//! own, so that any of the three reorders packets that follow each other closely.

use std::time::Duration;

use super::chance::{Chance, Draw, Odds};
use super::config::LinkConfig;

/// The stage that takes time.
#[derive(Debug)]
pub(super) struct DelayStage {
    one_way: Duration,
    jitter: Duration,
    late: Odds,
    late_up_to: Duration,
    overtaking: Odds,
}

/// When a packet arrives, and which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Duration,
    pub(super) is_late: bool,
    pub(super) overtakes: bool,
}

impl DelayStage {
    /// One direction of a link: half of its round trip.
    pub(super) fn new(config: &LinkConfig) -> Self {
        let (late, late_up_to) =
            config.late.map_or((Odds::ratio(0, 1), Duration::ZERO), |late| (late.share.odds(), late.up_to));
        Self {
            one_way: config.one_way(),
            jitter: config.jitter,
            late,
            late_up_to,
            overtaking: config.reorder.odds(),
        }
    }

    /// When the packet at this place, which has left the bottleneck then, arrives.
    pub(super) fn arrival(&self, left: Duration, chance: Chance, place: u64) -> Arrival {
        if chance.happens(place, Draw::Overtake, self.overtaking) {
            return Arrival { at: left, is_late: false, overtakes: true };
        }
        let is_late = chance.happens(place, Draw::Late, self.late);
        let lateness =
            if is_late { up_to(chance, place, Draw::Lateness, self.late_up_to) } else { Duration::ZERO };
        let jitter = up_to(chance, place, Draw::Jitter, self.jitter);
        let at = left.saturating_add(self.one_way).saturating_add(jitter).saturating_add(lateness);
        Arrival { at, is_late, overtakes: false }
    }
}

/// Zero to a bound that the configuration has checked, all equally likely.
fn up_to(chance: Chance, place: u64, purpose: Draw, bound: Duration) -> Duration {
    let nanos = u64::try_from(bound.as_nanos()).expect("times of a link end at a day");
    Duration::from_nanos(chance.below(place, purpose, nanos))
}

#[cfg(test)]
mod tests {
    use super::super::Direction;
    use super::super::config::{Late, Share};
    use super::*;

    const PACKETS: u64 = 40_000;
    const LEFT: Duration = Duration::from_secs(1);

    fn arrivals(config: &LinkConfig) -> Vec<Arrival> {
        let stage = DelayStage::new(config);
        let chance = Chance::new(9, Direction::Forward);
        (0..PACKETS).map(|place| stage.arrival(LEFT, chance, place)).collect()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_quiet_link_takes_half_of_the_round_trip() {
        let config = LinkConfig { rtt: ms(80), ..LinkConfig::default() };

        assert!(arrivals(&config).iter().all(|arrival| arrival.at == LEFT + ms(40)));
    }

    #[test]
    fn jitter_stays_below_its_bound_and_is_half_of_it_on_average() {
        let config = LinkConfig { rtt: ms(80), jitter: ms(10), ..LinkConfig::default() };
        let extra: Vec<_> = arrivals(&config).iter().map(|arrival| arrival.at - LEFT - ms(40)).collect();

        assert!(extra.iter().all(|extra| *extra < ms(10)));
        let mean_us = extra.iter().map(Duration::as_micros).sum::<u128>() / u128::from(PACKETS);
        assert!((4_900..=5_100).contains(&mean_us), "{mean_us}");
    }

    #[test]
    fn the_late_share_is_late_by_up_to_its_bound() {
        let late = Late { share: Share::from_ppb(250_000_000), up_to: ms(20) };
        let config = LinkConfig { rtt: ms(100), late: Some(late), ..LinkConfig::default() };
        let arrivals = arrivals(&config);

        let late: Vec<_> = arrivals.iter().filter(|arrival| arrival.is_late).collect();
        assert!((9_800..=10_200).contains(&late.len()), "{}", late.len());
        assert!(late.iter().all(|arrival| arrival.at < LEFT + ms(70)));
        let mean_us =
            late.iter().map(|arrival| (arrival.at - LEFT - ms(50)).as_micros()).sum::<u128>() / 10_000;
        assert!((9_500..=10_500).contains(&mean_us), "{mean_us}");
        assert!(
            arrivals.iter().filter(|arrival| !arrival.is_late).all(|arrival| arrival.at == LEFT + ms(50))
        );
    }

    #[test]
    fn an_overtaking_packet_skips_delay_and_jitter() {
        let config = LinkConfig {
            rtt: ms(100),
            jitter: ms(5),
            reorder: Share::from_ppb(10_000_000),
            ..LinkConfig::default()
        };
        let arrivals = arrivals(&config);

        let overtaking = arrivals.iter().filter(|arrival| arrival.overtakes).count();
        assert!((340..=460).contains(&overtaking), "{overtaking}");
        for arrival in arrivals {
            assert_eq!(arrival.at == LEFT, arrival.overtakes);
        }
    }
}
