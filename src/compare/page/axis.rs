//! An axis from zero on, with round numbers at its ticks.

use super::number::number;

/// From zero to a round number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    step: f64,
    steps: u32,
}

/// About as many steps as a small plot has room for.
const STEPS: f64 = 4.0;

impl Axis {
    /// Up to this number at least.
    pub(super) fn up_to(most: f64) -> Self {
        if !most.is_finite() || most <= f64::MIN_POSITIVE * STEPS {
            return Self { step: 0.25, steps: 4 };
        }
        let rough = most / STEPS;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let rounds = [1.0, 2.0, 2.5, 5.0, 10.0].map(|it| it * magnitude);
        // Rounding may put the last a little below.
        let step = rounds.into_iter().find(|it| *it >= rough).unwrap_or(rough);
        // Of what needs a hair more than so many steps, nothing would be seen in one more.
        let steps = (1..=5).find(|steps| f64::from(*steps) * step * 1.000_001 >= most).unwrap_or(5);
        Self { step, steps }
    }

    /// Its end.
    pub(super) fn end(self) -> f64 {
        self.step * f64::from(self.steps)
    }

    /// Where a value lies on it: 0 at its start, 1 at its end.
    pub(super) fn place(self, value: f64) -> f64 {
        (value / self.end()).clamp(0.0, 1.0)
    }

    /// What is marked on it, with its text.
    pub(super) fn ticks(self) -> impl Iterator<Item = (f64, String)> {
        (0..=self.steps).map(move |tick| f64::from(tick) * self.step).map(|value| (value, number(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_not_far_above_the_most() {
        let end = |most: f64| Axis::up_to(most).end();

        assert_eq!([0.9, 1.0, 37.0, 40.0, 94.1, 101.0].map(end), [1.0, 1.0, 40.0, 40.0, 100.0, 150.0]);
        for most in [1e-9, 0.03, 7.7, 123.4, 9.9e9, 1e300] {
            assert!(end(most) >= most * 0.999_99 && end(most) <= most * 1.5, "{most}: {}", end(most));
        }
    }

    #[test]
    fn an_axis_of_nothing_is_still_one() {
        for most in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE] {
            assert_eq!(Axis::up_to(most).end(), 1.0);
        }
        assert_eq!(Axis::up_to(40.0).place(f64::MAX), 1.0);
        let ticks: Vec<String> = Axis::up_to(40.0).ticks().map(|(_, text)| text).collect();
        assert_eq!(ticks, ["0", "10", "20", "30", "40"]);
    }
}
