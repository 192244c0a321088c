//! Our flows beside kernel TCP with CUBIC, and that model against the kernel.

use std::time::Duration;

use super::{
    super::{Cell, Flows, LaneConfig, RivalConfig, jain, median},
    MS,
    paths::state,
};
use crate::link::LinkConfig;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn beside_cubic_it_has_its_share() {
    for queue in [1, 4] {
        let cell = Cell::new(&format!("rtt=20ms,rate=25mbit,queue={queue}bdp"));
        let share = |seed: u64| {
            let (own, rival) = (seed_shift(seed, 1), seed_shift(seed, 2));
            let cell = cell.clone().between(20 * SECOND, 60 * SECOND).beside(&[2 * SECOND + rival]);
            let bytes = cell.share(&[own], seed);
            bytes[0] as f64 / (bytes[0] + bytes[1]) as f64
        };
        let share = median((1..=3).map(share));

        assert!((0.3..0.7).contains(&share), "queue {queue}: {share}");
    }
}

#[test]
fn it_competes_as_long_as_cubic_is_there() {
    let link: LinkConfig = "rtt=20ms,rate=25mbit,queue=4bdp".parse().unwrap();
    let rival = RivalConfig { start: 2 * SECOND, end: Some(30 * SECOND) };
    let mut flows = Flows::new(&link, &[LaneConfig::endless()]).beside(&[rival]);
    flows.run(30 * SECOND);
    let state = state(&flows);
    flows.run(50 * SECOND);
    flows.settle();

    flows.run(60 * SECOND);

    let ideal = 25e6 / 8.0 * 1400.0 / 1518.0;
    let alone = flows.reports()[0].curve.between(50 * SECOND, 60 * SECOND) as f64 / 10.0 / ideal;
    let queue = flows.settled().queue_delay();
    assert!(["compete", "probe-rtt"].contains(&state), "{state}");
    assert!(alone > 0.95, "{alone}");
    assert!(queue < 10 * MS, "{queue:?}");
}

/// Cells of `tests/campaign/cubic.md`, which says how the kernel's numbers were measured: Mbit/s of content.
#[test]
fn the_model_of_cubic_moves_what_the_kernel_moves() {
    for (spec, kernel) in [
        ("rtt=20ms,rate=100mbit", 94.46),
        ("rtt=20ms,rate=100mbit,loss=0.1%", 20.42),
        ("rtt=20ms,rate=100mbit,loss=1%", 5.46),
        ("rtt=20ms,rate=100mbit,loss=2%", 3.20),
        ("rtt=100ms,rate=100mbit,loss=0.1%", 5.46),
        ("rtt=100ms,rate=100mbit,loss=2%", 0.82),
    ] {
        let cell = Cell::new(spec).beside(&[Duration::ZERO]).between(10 * SECOND, 30 * SECOND);
        let seeds = if spec.contains("loss") { 9 } else { 1 };
        let mbit = median((1..=seeds).map(|seed| cell.share(&[], seed)[0] as f64 * 8e-6 / 20.0));

        assert!((mbit / kernel - 1.0).abs() < 0.15, "{spec}: {mbit}, the kernel {kernel}");
    }
}

#[test]
fn two_flows_of_cubic_share_as_the_kernels_do() {
    let cell = Cell::new("rtt=20ms,rate=25mbit").between(20 * SECOND, 80 * SECOND);
    let bytes = cell.beside(&[Duration::ZERO, 137 * MS]).share(&[], 1);
    let index = jain(&bytes.iter().map(|&bytes| bytes as f64).collect::<Vec<_>>());

    assert!(index > 0.95, "{index}: {bytes:?}");
}

/// Flows that begin at slightly other times with each seed.
fn seed_shift(seed: u64, flow: u64) -> Duration {
    Duration::from_millis(seed * 17 * flow % 101)
}
