//! Flows and worlds from seeds: nothing wrong ever happens, and what was begun ends.

use std::time::Duration;

use super::{Cell, Flows, LaneConfig, World};
use crate::link::LinkConfig;

const ENOUGH: Duration = Duration::from_secs(120);

#[test]
fn a_file_arrives_whole_over_any_path() {
    for spec in [
        "rtt=20ms,rate=100mbit",
        "rtt=20ms,rate=100mbit,loss=5%",
        "rtt=20ms,rate=100mbit,loss=2%,reorder=1%,dup=1%,corrupt=1%,late=25%/20ms",
        "rtt=20ms,rate=100mbit,loss=30%",
    ] {
        for is_push in [true, false] {
            let link: LinkConfig = spec.parse().unwrap();
            let mut flows = Flows::new(&link, &[LaneConfig { is_push, ..LaneConfig::file(4 << 20) }]);

            flows.run(ENOUGH);

            assert!(flows.lanes()[0].is_done(), "{spec} push {is_push}: {:?}", flows.reports()[0].sent);
        }
    }
}

#[test]
fn a_long_path_that_loses_packets_is_filled() {
    let outcome = Cell::new("rtt=100ms,rate=100mbit,loss=2%").file_rtts(40).run(1);

    assert!(outcome.least(|it| it.steady) > 0.9, "{outcome}");
}

#[test]
fn worlds_of_hundreds_of_seeds_end_well() {
    let seeds: u64 = std::env::var("N").map_or(400, |n| n.parse().unwrap());
    let mut failures = Vec::new();
    for seed in 0..seeds {
        match World::check(seed) {
            Ok(tally) => {
                let plan = crate::sim::Plan::of(seed);
                let has = format!("{:?}", plan.faults).contains("DropFlow")
                    || !plan.link.blackouts.is_empty()
                    || plan.has_end;
                if tally.silent_ends > 0 && !has {
                    eprintln!("SILENT {seed} {} {:?} {}", plan.link, plan.faults, plan.is_push)
                }
                eprintln!("{seed} {tally:?}")
            }
            Err(why) => {
                failures.push(why);
                if failures.len() > 3 {
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn one_seed() {
    if let Ok(seed) = std::env::var("HAUL_SIM_SEED") {
        let seed = seed.parse().expect("HAUL_SIM_SEED is a number");
        World::check(seed).unwrap();
    }
}

#[test]
fn an_end_that_cannot_send_does_not_wake_again_and_again() {
    for spec in ["rtt=100ms,rate=100mbit", "rtt=100ms,rate=100mbit,loss=10%"] {
        for cell in [Cell::new(spec), Cell::new(spec).pull()] {
            let outcome = cell.file_rtts(5).run(2);

            assert!(outcome.most(|it| it.idle_wakes) < 0.2, "{spec}: {outcome}");
        }
    }
}

#[test]
fn zz_debug() {
    let seed = std::env::var("HAUL_SIM_SEED").unwrap().parse().unwrap();
    let mut world = World::new(crate::sim::Plan::of(seed), 100000);
    world.run();
    eprintln!("{}", world.report());
}
