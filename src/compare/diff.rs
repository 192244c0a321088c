//! What became faster or slower from one comparison to another, beyond the noise.
//!
//! The runs of a contender in a scenario are two samples, and the question is whether both come from the same source. The Mann-Whitney
//! U test answers it without a belief about how goodput is distributed: how often would chance alone put the two samples so far apart?
//! Its exact distribution is counted, since samples are small (Mann and Whitney, Annals of Mathematical Statistics 18, 1947).

use std::fmt;

use serde::Serialize;

use super::comparison::Comparison;
use super::summary::Spread;

/// A contender in a scenario that both comparisons have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The scenario's name.
    pub scenario: String,
    /// Who ran.
    pub contender: String,
    /// Goodput before.
    pub before_bits_per_s: Spread,
    /// Goodput after.
    pub after_bits_per_s: Spread,
    /// From median to median, percent of the first; more is faster.
    pub change_percent: f64,
    /// How often chance alone makes such a difference, `0..=1`.
    pub p: f64,
    /// What that says.
    pub verdict: Verdict,
}

/// What a difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Faster, and not by chance.
    Faster,
    /// Slower, and not by chance.
    Slower,
    /// A difference that chance makes as well, or one too small to matter.
    Same,
    /// Too few runs for any difference to mean something.
    TooFew,
    /// It worked, and does not.
    Broken,
}

/// A difference that chance makes in fewer of the cases than this is none of chance.
const ALPHA: f64 = 0.05;

/// All contenders in all scenarios that both have; a difference of the medians below `threshold_percent` does not matter.
pub fn changes(before: &Comparison, after: &Comparison, threshold_percent: f64) -> Vec<Change> {
    let of = |comparison: &Comparison, scenario: &str, contender: &str| -> Vec<f64> {
        let runs =
            comparison.runs.iter().filter(|run| run.scenario == scenario && run.contender == contender);
        runs.filter(|run| run.counts() || (run.was_cut && !run.is_warmup))
            .map(|run| run.goodput_bits_per_s)
            .collect()
    };
    let mut changes = Vec::new();
    for cell in &before.summaries {
        let is_there =
            |it: &&super::summary::Summary| it.scenario == cell.scenario && it.contender == cell.contender;
        if after.summaries.iter().find(is_there).is_none() {
            continue;
        }
        let old = of(before, &cell.scenario, &cell.contender);
        let new = of(after, &cell.scenario, &cell.contender);
        let Some(before_bits_per_s) = Spread::of(old.iter().copied()) else { continue };
        let after_bits_per_s = Spread::of(new.iter().copied());
        let is_broken = after_bits_per_s.is_none();
        let after_bits_per_s = after_bits_per_s.unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 });
        let change_percent = 100.0 * (after_bits_per_s.median / before_bits_per_s.median.max(1.0) - 1.0);
        let p = chance(&old, &new);
        let verdict = if is_broken {
            Verdict::Broken
        } else if least_chance(old.len(), new.len()) > ALPHA {
            Verdict::TooFew
        } else if p > ALPHA || change_percent.abs() < threshold_percent {
            Verdict::Same
        } else if change_percent > 0.0 {
            Verdict::Faster
        } else {
            Verdict::Slower
        };
        let (scenario, contender) = (cell.scenario.clone(), cell.contender.clone());
        changes.push(Change {
            scenario,
            contender,
            before_bits_per_s,
            after_bits_per_s,
            change_percent,
            p,
            verdict,
        });
    }
    changes
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::Slower => "SLOWER",
            Self::Same => "same",
            Self::TooFew => "too few runs",
            Self::Broken => "BROKEN",
        })
    }
}

/// How often chance alone puts two samples of one source as far apart as these, to either side. Equal numbers count half.
fn chance(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().flat_map(|x| b.iter().map(move |y| (x, y)));
    let twice_u: u64 = pairs.map(|(x, y)| if x > y { 2 } else { u64::from(x == y) }).sum();
    let twice_all = 2 * (a.len() * b.len()) as u64;
    let extreme = twice_u.min(twice_all - twice_u);
    // Half a step between is as extreme as the step above it: on the side of less certainty.
    let extreme = usize::try_from(extreme.div_ceil(2)).unwrap_or(usize::MAX);
    let counts = arrangements(a.len(), b.len());
    let total: f64 = counts.iter().sum();
    let tail: f64 = counts.iter().take(extreme.saturating_add(1)).sum();
    (2.0 * tail / total).min(1.0)
}

/// What [`chance`] is for samples that do not overlap at all.
fn least_chance(a: usize, b: usize) -> f64 {
    2.0 / arrangements(a, b).iter().sum::<f64>()
}

/// In how many orders of two samples U is 0, 1, 2 and so on: the coefficients of the Gaussian binomial.
fn arrangements(a: usize, b: usize) -> Vec<f64> {
    let most = a * b;
    let mut counts = vec![0.0; most + 1];
    counts[0] = 1.0;
    for i in 1..=b {
        // Times (1 - q^(a+i)), and then divided by (1 - q^i).
        for u in (a + i..=most).rev() {
            counts[u] -= counts[u - a - i];
        }
        for u in i..=most {
            counts[u] += counts[u - i];
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_of_u_is_that_of_the_tables() {
        assert_eq!(arrangements(2, 2), [1.0, 1.0, 2.0, 1.0, 1.0]);
        assert_eq!(arrangements(5, 5).iter().sum::<f64>(), 252.0);
        // The published critical value of U for two samples of five at 5 %, two-sided, is 2.
        let tail = |most: usize| 2.0 * arrangements(5, 5).iter().take(most + 1).sum::<f64>() / 252.0;
        assert!(tail(2) <= 0.05);
        assert!(tail(3) > 0.05);
    }

    #[test]
    fn samples_that_overlap_are_the_same_and_samples_apart_are_not() {
        let slow = [10.0, 11.0, 12.0, 13.0, 14.0];
        let fast = [20.0, 21.0, 22.0, 23.0, 24.0];
        let mixed = [10.5, 11.5, 12.5, 13.5, 9.5];

        assert!(chance(&slow, &fast) < 0.01);
        assert!(chance(&fast, &slow) < 0.01);
        assert!(chance(&slow, &mixed) > 0.5);
        assert!(chance(&slow, &slow) > 0.99);
    }

    #[test]
    fn three_runs_can_never_tell() {
        assert!(least_chance(3, 3) > ALPHA);
        assert!(least_chance(4, 4) < ALPHA);
        assert!(least_chance(3, 5) < ALPHA);
    }
}
