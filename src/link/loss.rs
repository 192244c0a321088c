//! Decides which places in the sequence are lost: each on its own, or in bursts.
//!
//! Bursts come from two states (Gilbert and Elliott): in the good one nothing is lost, in the bad one everything.
//!
//! ```text
//!              enter = leave * loss / (1 - loss)
//!         good ---------------------------------> bad        mean burst  = 1 / leave
//!              <---------------------------------            share lost  = enter / (enter + leave)
//!              leave = 1 / burst
//! ```
//!
//! The first place draws its state by the share itself, so that every place is lost with the same probability. The
//! states move at every place, whatever other stages do to its packet: the lost places are a function of the seed.

use super::chance::Odds;
use super::config::{Loss, Share};

/// The stage that loses packets.
#[derive(Debug)]
pub(super) enum LossStage {
    /// Loses none.
    Never,
    /// Each place on its own.
    Alone(Odds),
    /// In runs.
    Bursts {
        /// The share: decides the first place.
        first: Odds,
        /// From good to bad.
        enter: Odds,
        /// From bad to good.
        leave: Odds,
        /// The state of the place before, if there was one.
        was_bad: Option<bool>,
    },
}

impl LossStage {
    /// The stage for a loss that the configuration has checked.
    pub(super) fn new(loss: Option<&Loss>) -> Self {
        let Some(loss) = loss else { return Self::Never };
        let share = loss.share.odds();
        if loss.burst_packets <= 1 {
            return Self::Alone(share);
        }
        let (lost, kept) = (loss.share.ppb(), Share::WHOLE.ppb() - loss.share.ppb());
        let burst = u64::from(loss.burst_packets);
        Self::Bursts {
            first: share,
            enter: Odds::ratio(lost.into(), u64::from(kept) * burst),
            leave: Odds::ratio(1, burst),
            was_bad: None,
        }
    }

    /// Whether the next place is lost, given what it drew. To be asked once for each place, in order.
    pub(super) fn is_lost(&mut self, drawn: u64) -> bool {
        match self {
            Self::Never => false,
            Self::Alone(odds) => odds.allow(drawn),
            Self::Bursts { first, enter, leave, was_bad } => {
                let is_bad = match was_bad {
                    None => first.allow(drawn),
                    Some(false) => enter.allow(drawn),
                    Some(true) => !leave.allow(drawn),
                };
                *was_bad = Some(is_bad);
                is_bad
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Direction;
    use super::super::chance::{Chance, Draw};
    use super::*;

    /// Lost places and the runs that they form, of 400,000.
    fn lost_and_runs(percent: u32, burst_packets: u32) -> (u32, u32) {
        let loss = Loss { share: Share::from_ppb(percent * 10_000_000), burst_packets };
        let mut stage = LossStage::new(Some(&loss));
        let chance = Chance::new(5, Direction::Forward);
        let (mut lost, mut runs, mut was_lost) = (0, 0, false);
        for place in 0..400_000 {
            let is_lost = stage.is_lost(chance.draw(place, Draw::Loss));
            lost += u32::from(is_lost);
            runs += u32::from(is_lost && !was_lost);
            was_lost = is_lost;
        }
        (lost, runs)
    }

    #[test]
    fn the_share_is_lost_each_on_its_own() {
        let (lost, runs) = lost_and_runs(2, 1);

        assert!((7_800..=8_200).contains(&lost), "{lost}");
        // Of independent losses, 98 of 100 begin a run.
        assert!((9_700..=9_900).contains(&(runs * 10_000 / lost)), "{runs} runs of {lost}");
    }

    #[test]
    fn bursts_lose_the_same_share_in_runs_of_their_mean_length() {
        let (lost, runs) = lost_and_runs(2, 8);

        assert!((7_300..=8_700).contains(&lost), "{lost}");
        assert!((74..=86).contains(&(lost * 10 / runs)), "{runs} runs of {lost}");
    }

    #[test]
    fn most_can_be_lost_in_bursts() {
        let (lost, runs) = lost_and_runs(80, 5);

        assert!((316_000..=324_000).contains(&lost), "{lost}");
        assert!((47..=53).contains(&(lost * 10 / runs)), "{runs} runs of {lost}");
    }

    #[test]
    fn the_first_place_is_lost_as_often_as_any_other() {
        let loss = Loss { share: Share::from_ppb(200_000_000), burst_packets: 8 };
        let lost = (0..10_000)
            .filter(|&seed| {
                let drawn = Chance::new(seed, Direction::Forward).draw(0, Draw::Loss);
                LossStage::new(Some(&loss)).is_lost(drawn)
            })
            .count();

        assert!((1_850..=2_150).contains(&lost), "{lost}");
    }

    #[test]
    fn all_is_all_and_none_is_none() {
        let mut all = LossStage::new(Some(&Loss { share: Share::WHOLE, burst_packets: 1 }));
        assert!(all.is_lost(0) && all.is_lost(u64::MAX));

        let mut none = LossStage::new(None);
        assert!(!none.is_lost(0) && !none.is_lost(u64::MAX));
    }
}
