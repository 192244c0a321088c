//! What a law makes of each kind of path, alone or among its own.

use std::time::Duration;

use super::{
    super::{Cell, Flows, LaneConfig, jain},
    MS,
};
use crate::{datagram::congestion::Congestion, link::LinkConfig};

const SECOND: Duration = Duration::from_secs(1);

/// A link, and what has to be reached on it as parts of the ideal: steady, whole.
struct Path {
    cell: Cell,
    spec: &'static str,
    steady: f64,
    whole: f64,
}

fn path(spec: &'static str, steady: f64, whole: f64) -> Path {
    Path { cell: Cell::new(spec).law(Congestion::Bbr), spec, steady, whole }
}

/// Rows of the goodput grid (`tests/campaign`) on links on which 100 round trips are few packets.
#[test]
fn the_default_meets_every_kind_of_path() {
    for it in [
        path("rtt=20ms,rate=50mbit", 0.92, 0.80),
        path("rtt=20ms,rate=50mbit,loss=0.1%", 0.90, 0.78),
        path("rtt=20ms,rate=50mbit,loss=1%", 0.90, 0.78),
        path("rtt=20ms,rate=50mbit,loss=5%", 0.90, 0.78),
        path("rtt=20ms,rate=50mbit,loss=10%", 0.80, 0.70),
        path("rtt=20ms,rate=50mbit,loss=1%,burst=8", 0.80, 0.70),
        path("rtt=20ms,rate=50mbit,queue=0.25bdp", 0.75, 0.65),
        path("rtt=20ms,rate=50mbit,queue=8bdp", 0.75, 0.65),
    ] {
        let outcome = it.cell.run(3);

        it.check(&outcome);
        let loss = it.cell.link().loss.as_ref().map_or(0.0, |loss| loss.share.as_fraction());
        assert!(outcome.median(|it| it.payload) <= 1.03 / (1.0 - loss), "{}: {outcome}", it.spec);
    }
}

#[test]
fn the_default_keeps_a_long_queue_short() {
    let it = path("rtt=20ms,rate=50mbit,queue=4bdp", 0.75, 0.65);
    let outcome = it.cell.run(3);

    it.check(&outcome);
    assert!(outcome.median(|it| it.queue_rounds) <= 0.5, "{outcome}");
    assert!(outcome.median(|it| it.payload) <= 1.03, "{outcome}");
}

#[test]
fn the_default_takes_no_late_packet_for_lost() {
    let it = path("rtt=100ms,rate=50mbit,late=25%/20ms", 0.88, 0.76);
    let outcome = it.cell.run(3);

    it.check(&outcome);
    assert!(outcome.median(|it| it.spurious) <= 0.02, "{outcome}");
    assert!(outcome.median(|it| it.payload) <= 1.03, "{outcome}");
}

#[test]
fn the_default_finds_the_rate_of_a_policer() {
    let mut it = path("rtt=100ms,rate=50mbit,policer=64KiB", 0.75, 0.65);
    it.cell = it.cell.behind("rate=100mbit,queue=10ms");
    let outcome = it.cell.run(3);

    it.check(&outcome);
    assert!(outcome.median(|it| it.loss) <= 0.03, "{outcome}");
    // What start-up loses, and a hundredth of copies in the tail.
    assert!(outcome.median(|it| it.payload) <= 1.05, "{outcome}");
}

#[test]
fn cubic_fills_a_clean_path_and_collapses_under_random_loss() {
    let steady = |spec: &str| Cell::new(spec).law(Congestion::Cubic).run_seed(1).steady;

    let (clean, lossy) = (steady("rtt=100ms,rate=50mbit"), steady("rtt=100ms,rate=50mbit,loss=1%"));

    assert!(clean > 0.9, "{clean}");
    assert!(lossy < 0.2, "{lossy}");
}

#[test]
fn a_fixed_rate_arrives_through_random_loss() {
    let rate = 5_000_000;
    let cell = Cell::new("rtt=50ms,rate=100mbit,loss=5%").law(Congestion::Fixed(rate));
    let figures = cell.run_seed(1);
    // Of the datagrams' rate, as part of the link's ideal.
    let expected = rate as f64 / 1472.0 / (100e6 / 8.0 / 1518.0 * 0.95);

    assert!((figures.steady / expected - 1.0).abs() < 0.03, "{figures:?} {expected}");
}

#[test]
fn alone_it_never_stops_to_look_at_the_round_trip() {
    let link: LinkConfig = "rtt=40ms,rate=20mbit,loss=1%".parse().unwrap();
    let mut flows = Flows::new(&link, &[LaneConfig::endless()]);

    // A look takes 200 ms at least.
    for end in (0..30_000).step_by(50) {
        flows.run(end * MS);

        assert_ne!(state(&flows), "probe-rtt", "at {end} ms");
    }
}

#[test]
fn it_follows_a_link_that_becomes_slower_and_faster() {
    for (mbit, seconds) in [(4, 10), (100, 5)] {
        let link: LinkConfig = format!("rtt=40ms,rate=20mbit,loss=1%,step=5s:{mbit}mbit").parse().unwrap();
        let mut flows = Flows::new(&link, &[LaneConfig::endless()]);
        let (from, to) = ((5 + seconds) * SECOND, (10 + seconds) * SECOND);
        flows.run(from);
        flows.settle();

        flows.run(to);

        let ideal = f64::from(mbit) * 125_000.0 * 0.99 * 1400.0 / 1518.0;
        let used = flows.reports()[0].curve.between(from, to) as f64 / 5.0 / ideal;
        let queue = flows.settled().queue_delay();
        assert!(used > 0.9, "{mbit} Mbit/s: {used}");
        assert!(queue < 20 * MS, "{mbit} Mbit/s: {queue:?}");
    }
}

#[test]
fn it_survives_random_loss_on_acknowledgements_and_coarse_timers() {
    let cell = Cell::new("rtt=20ms,rate=50mbit,loss=2%");
    for (what, cell) in [
        ("loss", cell.clone().back("rtt=20ms,rate=50mbit,loss=30%")),
        ("jitter", cell.clone().back("rtt=20ms,rate=50mbit,jitter=4ms")),
        ("ticks", cell.tick(MS)),
    ] {
        let figures = cell.run_seed(1);

        assert!(figures.steady > 0.88, "{what}: {figures:?}");
    }
}

#[test]
fn a_late_comer_gets_its_part_of_a_path() {
    let cell = Cell::new("rtt=20ms,rate=25mbit").between(20 * SECOND, 60 * SECOND);
    let shares = cell.share(&[Duration::ZERO, 500 * MS], 1);
    let index = jain(&shares.iter().map(|&bytes| bytes as f64).collect::<Vec<_>>());

    assert!(index > 0.95, "{index}: {shares:?}");
}

impl Path {
    fn check(&self, outcome: &super::super::Outcome) {
        let median = outcome.median(|it| it.steady);

        assert!(outcome.figures.iter().all(|it| it.is_done), "{}: {outcome}", self.spec);
        assert!(median >= self.steady, "{}: {outcome}", self.spec);
        assert!(outcome.median(|it| it.whole) >= self.whole, "{}: {outcome}", self.spec);
        assert!(outcome.least(|it| it.steady) >= 0.85 * median, "{}: {outcome}", self.spec);
    }
}

/// What the first lane's law does.
pub fn state(flows: &Flows) -> &'static str {
    flows.lanes()[0].sender().controller().state().state
}
