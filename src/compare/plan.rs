//! Which runs there are, and in which order.

use std::path::PathBuf;
use std::time::Duration;

use super::contender::Contender;
use crate::link::LinkConfig;

/// A whole comparison.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is compared on what, one after the other.
    pub scenarios: Vec<Scenario>,
    /// Who is compared; each in every scenario.
    pub contenders: Vec<Contender>,
    /// Rounds that are not counted: they fill caches and wake processors.
    pub warmup_rounds: u32,
    /// Rounds that are counted; more than zero.
    pub rounds: u32,
    /// The first round's seed; each further one has the next, the same for all contenders.
    pub seed: u64,
    /// A run that takes longer is ended, and says so.
    pub run_at_most: Duration,
    /// What has not begun by then is left out.
    pub all_at_most: Option<Duration>,
    /// What raw UDP and a fixed rate send at, bits a second; none: [`RAW_SHARE`] of the link's rate.
    pub rate_bits_per_s: Option<u64>,
}

/// A file over a path.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What the table calls it.
    pub name: String,
    /// The path.
    pub path: NetworkPath,
    /// Length of the file.
    pub file_bytes: u64,
}

/// What lies between the two ends.
#[derive(Clone, Debug)]
pub enum NetworkPath {
    /// An emulated link.
    Link {
        /// From the sender to the receiver.
        there: Box<LinkConfig>,
        /// From the receiver to the sender.
        back: Box<LinkConfig>,
    },
    /// This machine's loopback.
    Loopback,
    /// A real path to a server that throws away what it gets.
    Server {
        /// The file with its ticket.
        ticket: PathBuf,
    },
}

/// One run of one contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which scenario.
    pub scenario: usize,
    /// Which contender.
    pub contender: usize,
    /// Which round, from 0 on, warm-up first.
    pub round: u32,
    /// Whether it does not count.
    pub is_warmup: bool,
}

/// Share of a link's rate at which raw UDP sends: a datagram of 1472 bytes takes 1518 of the line, and a little is left for what
/// goes with it.
pub const RAW_SHARE: f64 = 0.94;
/// The rate of raw UDP where nobody knows what the path carries, bits a second.
const RAW_BITS_PER_S: u64 = 100_000_000;

impl Plan {
    /// All runs: scenario by scenario, each round with every contender, each round beginning with another one, so that what
    /// a machine does over time hits all alike.
    pub fn runs(&self) -> Vec<Run> {
        let contenders = self.contenders.len();
        let mut runs = Vec::new();
        for scenario in 0..self.scenarios.len() {
            for round in 0..self.warmup_rounds + self.rounds {
                for place in 0..contenders {
                    let contender = (place + round as usize) % contenders;
                    runs.push(Run { scenario, contender, round, is_warmup: round < self.warmup_rounds });
                }
            }
        }
        runs
    }

    /// The seed of a round.
    pub fn seed_of(&self, round: u32) -> u64 {
        self.seed.wrapping_add(round.into())
    }

    /// What raw UDP sends at in a scenario, bits a second.
    pub fn raw_rate(&self, scenario: &Scenario) -> u64 {
        let of_link = match &scenario.path {
            NetworkPath::Link { there, .. } => there.bottleneck.as_ref().map(|line| line.bits_per_s),
            NetworkPath::Loopback | NetworkPath::Server { .. } => None,
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a rate is a rate"
        )]
        let share = of_link.map(|rate| (rate as f64 * RAW_SHARE) as u64);
        self.rate_bits_per_s.or(share).unwrap_or(RAW_BITS_PER_S)
    }
}

impl Scenario {
    /// Over a link that is alike in both directions.
    pub fn over(name: &str, link: &LinkConfig, file_bytes: u64) -> Self {
        let (there, back) = (Box::new(link.clone()), Box::new(link.clone()));
        Self { name: name.to_owned(), path: NetworkPath::Link { there, back }, file_bytes }
    }

    /// The link that content crosses.
    pub fn link(&self) -> Option<&LinkConfig> {
        match &self.path {
            NetworkPath::Link { there, .. } => Some(there),
            NetworkPath::Loopback | NetworkPath::Server { .. } => None,
        }
    }
}

/// A file that takes as long as a comparison needs: 5 s, or 50 round trips, of what the link carries; 1 GiB at most.
pub fn file_bytes_for(link: &LinkConfig) -> u64 {
    const SIZE_MAX: u64 = 1 << 30;
    let Some(line) = &link.bottleneck else { return SIZE_MAX / 4 };
    let time = Duration::from_secs(5).max(link.rtt * 50);
    let bytes = u128::from(line.bits_per_s / 8) * time.as_millis() / 1000;
    u64::try_from(bytes).unwrap_or(SIZE_MAX).clamp(1_000_000, SIZE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(contenders: usize) -> Plan {
        let link: LinkConfig = "rtt=10ms,rate=100mbit".parse().unwrap();
        Plan {
            scenarios: vec![Scenario::over("a", &link, 1), Scenario::over("b", &link, 1)],
            contenders: vec![Contender::Raw; contenders],
            warmup_rounds: 1,
            rounds: 2,
            seed: 7,
            run_at_most: Duration::from_secs(1),
            all_at_most: None,
            rate_bits_per_s: None,
        }
    }

    #[test]
    fn contenders_take_turns_and_each_round_begins_with_another() {
        let runs = plan(3).runs();

        assert_eq!(runs.len(), 2 * 3 * 3);
        let order: Vec<usize> = runs[..9].iter().map(|run| run.contender).collect();
        assert_eq!(order, [0, 1, 2, 1, 2, 0, 2, 0, 1]);
        assert!(runs[..3].iter().all(|run| run.is_warmup));
        assert!(runs[3..9].iter().all(|run| !run.is_warmup));
        assert_eq!(runs[9].scenario, 1);
    }

    #[test]
    fn every_round_has_a_seed_of_its_own_and_raw_udp_a_little_less_than_the_link() {
        let plan = plan(1);

        assert_eq!([0, 1, 2].map(|round| plan.seed_of(round)), [7, 8, 9]);
        assert_eq!(plan.raw_rate(&plan.scenarios[0]), 94_000_000);
    }

    #[test]
    fn a_file_is_as_long_as_its_link_needs() {
        let bytes = |spec: &str| file_bytes_for(&spec.parse().unwrap());

        assert_eq!(bytes("rtt=10ms,rate=100mbit"), 62_500_000);
        assert_eq!(bytes("rtt=300ms,rate=100mbit"), 187_500_000);
        assert_eq!(bytes("rtt=10ms,rate=10kbit"), 1_000_000);
        assert_eq!(bytes("rtt=10ms,rate=10gbit"), 1 << 30);
    }
}
