//! Deals each packet its chances from its place in the sequence alone.
//!
//! A counter, not a stream: what place `k` draws does not depend on what the places before it drew, or on whether
//! they drew at all. The counter runs over all places and, within a place, over the stages; each value is scattered
//! by two rounds of multiply and shift (the finaliser of splitmix64), which leaves no visible relation between
//! neighbours. Good enough for weather, useless for secrets.

use super::Direction;

/// Distance of neighbours before they are scattered: 2^64 divided by the golden ratio, odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Places of the counter that one packet may use; at least as many as [`Draw`] has variants.
const DRAWS_PER_PLACE: u64 = 16;

/// What a packet draws for. Each number is one more column of the counter and never changes its meaning.
#[derive(Clone, Copy, Debug)]
pub(super) enum Draw {
    Loss = 0,
    Jitter = 1,
    Late = 2,
    Lateness = 3,
    Overtake = 4,
    Duplicate = 5,
    Corrupt = 6,
    Bit = 7,
    CorruptCopy = 8,
    BitOfCopy = 9,
}

/// The chances of all packets of one direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chance {
    key: u64,
}

/// How likely something is, in 2^64ths, 0..=2^64. Integers, so that every machine decides alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Odds(u128);

impl Chance {
    /// The chances that belong to a seed and a direction.
    pub(super) fn new(seed: u64, direction: Direction) -> Self {
        let side = match direction {
            Direction::Forward => 1,
            Direction::Backward => 2,
        };
        Self { key: scatter(scatter(seed.wrapping_add(STEP)).wrapping_add(side)) }
    }

    /// A number, any of 64 bits, that is always the same for this place and purpose.
    pub(super) fn draw(self, place: u64, purpose: Draw) -> u64 {
        let counter = place.wrapping_mul(DRAWS_PER_PLACE).wrapping_add(purpose as u64);
        scatter(self.key.wrapping_add(counter.wrapping_mul(STEP)))
    }

    /// A number below `end`, 0 if `end` is 0; all equally likely.
    pub(super) fn below(self, place: u64, purpose: Draw, end: u64) -> u64 {
        let scaled = (u128::from(self.draw(place, purpose)) * u128::from(end)) >> 64;
        u64::try_from(scaled).expect("64 bits times a fraction are 64 bits")
    }

    /// Whether what is this likely happens at this place.
    pub(super) fn happens(self, place: u64, purpose: Draw, odds: Odds) -> bool {
        odds.allow(self.draw(place, purpose))
    }
}

impl Odds {
    /// `part` of `whole`; certain if `part` is no less.
    pub(super) fn ratio(part: u64, whole: u64) -> Self {
        if part >= whole {
            return Self(1 << 64);
        }
        Self((u128::from(part) << 64) / u128::from(whole))
    }

    /// Whether a drawn number lies within.
    pub(super) fn allow(self, drawn: u64) -> bool {
        u128::from(drawn) < self.0
    }
}

/// Sends neighbouring numbers far apart; a bijection.
fn scatter(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_draws_the_same_whatever_was_drawn_before() {
        let chance = Chance::new(7, Direction::Forward);
        let first = chance.draw(1000, Draw::Loss);
        for place in 0..1000 {
            let _ = chance.draw(place, Draw::Bit);
        }

        assert_eq!(chance.draw(1000, Draw::Loss), first);
        assert_eq!(Chance::new(7, Direction::Forward).draw(1000, Draw::Loss), first);
    }

    #[test]
    fn recorded_seeds_replay_in_every_version() {
        let draw = |seed, direction, place, purpose| Chance::new(seed, direction).draw(place, purpose);

        assert_eq!(draw(7, Direction::Forward, 0, Draw::Loss), 0x2484_3B3C_D988_50A8);
        assert_eq!(draw(7, Direction::Backward, 0, Draw::Loss), 0xBEB2_EDFC_8FB1_6A2F);
        assert_eq!(draw(0, Direction::Forward, 1_000_000, Draw::BitOfCopy), 0x5C71_B5D5_EDA8_A493);
    }

    #[test]
    fn seeds_directions_places_and_purposes_draw_apart() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in [0, 1, 2, u64::MAX] {
            for direction in [Direction::Forward, Direction::Backward] {
                for place in 0..1000 {
                    for purpose in [Draw::Loss, Draw::Jitter, Draw::BitOfCopy] {
                        seen.insert(Chance::new(seed, direction).draw(place, purpose));
                    }
                }
            }
        }

        assert_eq!(seen.len(), 4 * 2 * 1000 * 3);
    }

    #[test]
    fn every_bit_is_set_half_of_the_time() {
        let chance = Chance::new(3, Direction::Backward);
        for bit in 0..64 {
            let set = (0..10_000).filter(|&place| (chance.draw(place, Draw::Late) >> bit) & 1 == 1).count();
            assert!((4_750..=5_250).contains(&set), "bit {bit}: {set}");
        }
    }

    #[test]
    fn neighbours_are_independent() {
        let chance = Chance::new(11, Direction::Forward);
        let half = Odds::ratio(1, 2);
        let both = (0..40_000)
            .filter(|&place| {
                chance.happens(place, Draw::Loss, half) && chance.happens(place + 1, Draw::Loss, half)
            })
            .count();

        assert!((9_600..=10_400).contains(&both), "{both}");
    }

    #[test]
    fn never_is_never_and_always_is_always() {
        assert!(!Odds::ratio(0, 9).allow(0));
        assert!(Odds::ratio(9, 9).allow(u64::MAX));
        assert!(Odds::ratio(10, 9).allow(u64::MAX));
        assert!(Odds::ratio(1, 2).allow((1 << 63) - 1));
        assert!(!Odds::ratio(1, 2).allow(1 << 63));
    }

    #[test]
    fn a_number_below_an_end_reaches_both_of_its_ends() {
        let chance = Chance::new(1, Direction::Forward);
        let seen: std::collections::BTreeSet<_> =
            (0..1000).map(|place| chance.below(place, Draw::Bit, 8)).collect();

        assert_eq!(seen, (0..8).collect());
        assert_eq!(chance.below(0, Draw::Bit, 0), 0);
    }
}
