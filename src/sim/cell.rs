//! One line of a table: a link, a file, a law; several seeds.
//!
//! ```text
//! Cell::new("rtt=100ms,rate=100mbit,loss=2%").file_rtts(100).law(Congestion::Bbr).run(9).median(|it| it.steady)
//! ```

use std::{fmt, time::Duration};

use super::{
    figures::{Figures, jain, median},
    flows::Flows,
    lane::LaneConfig,
    rival::{Rival, RivalConfig},
    road::Road,
};
use crate::{datagram::congestion::Congestion, link::LinkConfig};

/// A run may take so many times as long as the line needs for the file, and some seconds.
const PATIENCE: u32 = 8;
const PATIENCE_MORE: Duration = Duration::from_secs(30);
/// Between these times shares are compared, unless others are asked for.
const SHARED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(90));

/// A link with one file on it.
#[derive(Clone, Debug)]
pub struct Cell {
    link: LinkConfig,
    device: Option<LinkConfig>,
    back: Option<LinkConfig>,
    tick: Duration,
    bytes: u64,
    lane: LaneConfig,
    rivals: Vec<RivalConfig>,
    shared: (Duration, Duration),
}

/// What the seeds gave, in their order.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One for each seed.
    pub figures: Vec<Figures>,
}

impl Cell {
    /// A cell over the link that a SPEC describes, with a file of a hundred round trips.
    ///
    /// # Panics
    /// If it is no SPEC.
    pub fn new(spec: &str) -> Self {
        let link = spec.parse().unwrap_or_else(|why| panic!("{spec}: {why}"));
        let lane = LaneConfig::endless();
        let (device, back, tick, rivals) = (None, None, Duration::ZERO, Vec::new());
        Self { link, device, back, tick, bytes: 0, lane, rivals, shared: SHARED }.file_rtts(100)
    }

    /// The file is what the link's line carries in so many round trips.
    #[must_use]
    pub fn file_rtts(mut self, rounds: u32) -> Self {
        let bits_per_s = self.link.bottleneck.as_ref().map_or(0, |line| line.bits_per_s);
        let micros = u64::try_from((self.link.rtt * rounds).as_micros()).expect("a simulated time");
        self.bytes = bits_per_s / 8 * micros / 1_000_000;
        self
    }

    /// The file has so many bytes.
    #[must_use]
    pub fn file_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }

    /// The sender's congestion control.
    #[must_use]
    pub fn law(mut self, law: Congestion) -> Self {
        self.lane.congestion = law;
        self
    }

    /// The server sends.
    #[must_use]
    pub fn pull(mut self) -> Self {
        self.lane.is_push = false;
        self
    }

    /// Each side's device is a line of its own in front of the link, as a SPEC describes it.
    ///
    /// # Panics
    /// If it is no SPEC.
    #[must_use]
    pub fn behind(mut self, spec: &str) -> Self {
        self.device = Some(spec.parse().unwrap_or_else(|why| panic!("{spec}: {why}")));
        self
    }

    /// The way back is as another SPEC describes it.
    ///
    /// # Panics
    /// If it is no SPEC.
    #[must_use]
    pub fn back(mut self, spec: &str) -> Self {
        self.back = Some(spec.parse().unwrap_or_else(|why| panic!("{spec}: {why}")));
        self
    }

    /// The sender's clock wakes it only so often.
    #[must_use]
    pub fn tick(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Flows of kernel TCP with CUBIC that begin at these times are on the link, too.
    #[must_use]
    pub fn beside(mut self, starts: &[Duration]) -> Self {
        self.rivals = starts.iter().map(|&start| RivalConfig::from(start)).collect();
        self
    }

    /// Shares are compared between these times.
    #[must_use]
    pub fn between(mut self, from: Duration, to: Duration) -> Self {
        self.shared = (from, to);
        self
    }

    /// Runs seeds 1 to `seeds`.
    pub fn run(&self, seeds: u64) -> Outcome {
        Outcome { figures: (1..=seeds).map(|seed| self.run_seed(seed)).collect() }
    }

    /// Runs one seed.
    pub fn run_seed(&self, seed: u64) -> Figures {
        let link = LinkConfig { seed, ..self.link.clone() };
        let lane = LaneConfig { bytes: Some(self.bytes), ..self.lane };
        let mut flows = self.flows(&link, &[lane]);
        flows.run(self.line_time() * PATIENCE + PATIENCE_MORE);
        Figures::of(&flows, &link, self.bytes)
    }

    /// Runs one seed with endless flows that begin at these times, and gives the bytes of content that each moved from
    /// second 30 to second 90, or between the times that were asked for; and those of the flows beside them.
    pub fn share(&self, starts: &[Duration], seed: u64) -> Vec<u64> {
        let link = LinkConfig { seed, ..self.link.clone() };
        let lanes: Vec<_> =
            starts.iter().map(|&start| LaneConfig { start, bytes: None, ..self.lane }).collect();
        let mut flows = self.flows(&link, &lanes);
        let (from, to) = self.shared;
        flows.run(to);
        let (own, rivals) = (flows.reports(), flows.rivals());
        let curves = own.iter().map(|report| &report.curve).chain(rivals.iter().map(Rival::curve));
        curves.map(|curve| curve.between(from, to)).collect()
    }

    /// Jain's index of [`Self::share`], median of seeds 1 to `seeds`.
    pub fn fairness(&self, starts: &[Duration], seeds: u64) -> f64 {
        let index = |seed| jain(&self.share(starts, seed).iter().map(|&it| it as f64).collect::<Vec<_>>());
        median((1..=seeds).map(index))
    }

    /// The link.
    pub fn link(&self) -> &LinkConfig {
        &self.link
    }

    fn flows(&self, link: &LinkConfig, lanes: &[LaneConfig]) -> Flows {
        let mut road = Road::new(link);
        if let Some(device) = &self.device {
            road = road.behind(device);
        }
        if let Some(back) = &self.back {
            road = road.back(&LinkConfig { seed: link.seed, ..back.clone() });
        }
        Flows::over(road, link, lanes).beside(&self.rivals).ticking(self.tick)
    }

    fn line_time(&self) -> Duration {
        let bits_per_s = self.link.bottleneck.as_ref().map_or(u64::MAX, |line| line.bits_per_s);
        Duration::from_secs_f64(self.bytes as f64 * 8.0 / bits_per_s as f64)
    }
}

impl Outcome {
    /// The middle one.
    pub fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        median(self.figures.iter().map(of))
    }

    /// The least.
    pub fn least(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        self.figures.iter().map(of).fold(f64::INFINITY, f64::min)
    }

    /// The most.
    pub fn most(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        self.figures.iter().map(of).fold(f64::NEG_INFINITY, f64::max)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |of: fn(&Figures) -> f64| 100.0 * self.median(of);
        write!(
            f,
            "steady {:.1} % (worst {:.1}), whole {:.1}, payload {:.1}, overhead {:.1}, spurious {:.2}, loss {:.2}, \
             queue {:.2} rtt, {:.1} rounds, {:.0} timeouts, {} of {} done",
            percent(|it| it.steady),
            100.0 * self.least(|it| it.steady),
            percent(|it| it.whole),
            percent(|it| it.payload),
            percent(|it| it.overhead),
            percent(|it| it.spurious),
            percent(|it| it.loss),
            self.median(|it| it.queue_rounds),
            self.median(|it| it.rounds),
            self.median(|it| it.timeouts),
            self.figures.iter().filter(|it| it.is_done).count(),
            self.figures.len(),
        )
    }
}
