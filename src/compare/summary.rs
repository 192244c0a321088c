//! Median and spread of the runs of one contender in one scenario.

use serde::{Deserialize, Serialize};

use super::record::Record;

/// What a contender does in a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// Who ran.
    pub contender: String,
    /// Runs that count.
    pub runs: usize,
    /// Runs that were to count and failed or were ended.
    pub failed: usize,
    /// Of the command.
    pub goodput_bits_per_s: Spread,
    /// Of the link's rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_share_percent: Option<Spread>,
    /// The command from start to exit.
    pub elapsed_s: Spread,
    /// What was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_again_percent: Option<Spread>,
    /// Mean wait in the link's queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_delay_mean_s: Option<Spread>,
    /// Processor time of the sender for 10^9 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_cpu_s_per_gb: Option<Spread>,
    /// Processor time of the receiver for 10^9 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver_cpu_s_per_gb: Option<Spread>,
    /// The most memory of either process in any run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_rss_bytes: Option<u64>,
    /// Runs of which the file is known to have arrived intact, and those of which it is known not to.
    pub intact: usize,
    /// See `intact`.
    pub damaged: usize,
    /// What speaks against the numbers, each said once.
    pub doubts: Vec<String>,
}

/// The middle of some numbers, and their ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number, the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// With fewer runs, a median says little and a spread nothing.
pub const RUNS_ENOUGH: usize = 3;

impl Spread {
    /// Of these numbers; none, if there are none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let (min, max) = (*numbers.first()?, *numbers.last()?);
        let middle = numbers.len() / 2;
        let median = if numbers.len() % 2 == 1 {
            numbers[middle]
        } else {
            f64::midpoint(numbers[middle - 1], numbers[middle])
        };
        Some(Self { median, min, max })
    }
}

impl Summary {
    /// All contenders in all scenarios, in the order of the records.
    pub fn all(records: &[Record]) -> Vec<Self> {
        let mut cells: Vec<(&str, &str)> = Vec::new();
        for record in records {
            let cell = (record.scenario.as_str(), record.contender.as_str());
            if !cells.contains(&cell) {
                cells.push(cell);
            }
        }
        cells.iter().map(|cell| Self::of(records, cell.0, cell.1)).collect()
    }

    fn of(records: &[Record], scenario: &str, contender: &str) -> Self {
        let all =
            records.iter().filter(|it| it.scenario == scenario && it.contender == contender && !it.is_warmup);
        let all: Vec<&Record> = all.collect();
        // What was ended has a speed as well; what failed has none.
        let runs: Vec<&Record> = all.iter().filter(|it| it.is_complete() || it.was_cut).copied().collect();
        let spread = |number: fn(&Record) -> Option<f64>| Spread::of(runs.iter().filter_map(|it| number(it)));
        let none = Spread { median: 0.0, min: 0.0, max: 0.0 };
        let mut doubts: Vec<String> = Vec::new();
        if all.len() < RUNS_ENOUGH {
            doubts.push(format!(
                "{} of each: too few for a spread",
                crate::units::counted(all.len() as u64, "run")
            ));
        }
        for doubt in all.iter().flat_map(|it| &it.doubts) {
            // Of doubts that differ in their numbers only, the first stands for all.
            let kind = |doubt: &str| doubt.split(':').next().unwrap_or_default().to_owned();
            if !doubts.iter().any(|said| kind(said) == kind(doubt)) {
                doubts.push(doubt.clone());
            }
        }
        let memory =
            |it: &&Record| Some(it.sender?.peak_rss_bytes.max(it.receiver.map_or(0, |it| it.peak_rss_bytes)));
        let is_intact = |it: &&Record| it.guarantees.is_intact;
        Self {
            scenario: scenario.to_owned(),
            contender: contender.to_owned(),
            runs: all.iter().filter(|it| it.counts()).count(),
            failed: all.iter().filter(|it| !it.is_complete()).count(),
            goodput_bits_per_s: spread(|it| Some(it.goodput_bits_per_s)).unwrap_or(none),
            link_share_percent: spread(|it| it.link_share_percent),
            elapsed_s: spread(|it| Some(it.elapsed_s)).unwrap_or(none),
            sent_again_percent: spread(|it| it.sent_again_percent),
            queue_delay_mean_s: spread(|it| it.wire.map(|wire| wire.queue_delay_mean_s)),
            sender_cpu_s_per_gb: spread(|it| it.sender?.cpu_s_per_gb),
            receiver_cpu_s_per_gb: spread(|it| it.receiver?.cpu_s_per_gb),
            peak_rss_bytes: runs.iter().filter_map(memory).max(),
            intact: all.iter().filter(|it| is_intact(it) == Some(true)).count(),
            damaged: all.iter().filter(|it| is_intact(it) == Some(false)).count(),
            doubts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_middle_two() {
        let spread = |numbers: &[f64]| Spread::of(numbers.iter().copied());

        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(spread(&[]), None);
    }
}
