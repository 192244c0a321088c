//! Flows and worlds from seeds: nothing wrong ever happens, and what was begun ends.
//!
//! What takes longer (a million seeds, the whole grid) stands in `tests/campaign`.

mod paths;
mod rivals;

use std::time::Duration;

use super::{Cell, Fault, Flows, LaneConfig, Plan, Restarts, World, jain};
use crate::{datagram::congestion::Congestion, link::LinkConfig};

const ENOUGH: Duration = Duration::from_secs(120);
const MS: Duration = Duration::from_millis(1);

#[test]
fn worlds_of_hundreds_of_seeds_end_well() {
    let failures: Vec<_> = (0..400).filter_map(|seed| World::check(seed).err()).take(2).collect();

    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Replays what a failure names: `HAUL_SIM_SEED=7 cargo test --lib sim::tests::one_seed`.
#[test]
fn one_seed() {
    if let Ok(seed) = std::env::var("HAUL_SIM_SEED") {
        let seed = seed.parse().expect("HAUL_SIM_SEED is a number");
        if let Err(why) = World::check(seed) {
            panic!("{why}");
        }
    }
}

#[test]
fn whatever_ends_sessions_another_one_makes_everything_right() {
    let all: Vec<_> = (0..120).map(Restarts::check).collect();
    let failures: Vec<_> = all.iter().filter_map(|run| run.as_ref().err().cloned()).take(2).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));

    let seen = |what: fn(&Restarts) -> u64| all.iter().flatten().map(what).sum::<u64>();
    assert!(seen(|run| run.cuts) > 50 && seen(|run| run.kills) > 50 && seen(|run| run.power_losses) > 50);
    assert!(seen(|run| run.faults) > 50);
    assert!(seen(|run| run.resumed_bytes) > 50 << 20, "{} bytes", seen(|run| run.resumed_bytes));
    assert!(seen(|run| run.flow_bytes) > 50 << 20, "{} bytes", seen(|run| run.flow_bytes));
    assert!(seen(|run| run.checks) > 5, "{} checks", seen(|run| run.checks));
}

/// Replays what a failure names.
#[test]
fn one_story() {
    if let Ok(seed) = std::env::var("HAUL_RESTARTS_SEED") {
        let seed = seed.parse().expect("HAUL_RESTARTS_SEED is a number");
        if let Err(why) = Restarts::check(seed) {
            panic!("{why}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_world_twice() {
    assert_eq!(Restarts::check(5).unwrap(), Restarts::check(5).unwrap());
    for seed in [3, 19, 24] {
        assert_eq!(World::check(seed).unwrap(), World::check(seed).unwrap());
    }
}

#[test]
fn hundreds_of_worlds_use_what_there_is() {
    let tallies: Vec<_> = (0..200).map(|seed| World::check(seed).unwrap()).collect();
    let bytes: u64 = tallies.iter().map(|tally| tally.bytes).sum();
    let over_flows: u64 = tallies.iter().map(|tally| tally.flow_bytes).sum();
    let flows: u64 = tallies.iter().map(|tally| tally.flows).sum();

    assert!(over_flows * 10 > bytes, "{over_flows} of {bytes} bytes went over flows");
    assert!(flows > 200, "{flows}");
    assert!(tallies.iter().filter(|tally| tally.is_done).count() > 180);
}

#[test]
fn a_flow_survives_another_address_of_its_client_at_any_time() {
    for is_push in [true, false] {
        for ms in (150..1300).step_by(25) {
            let mut plan = Plan::calm(1, is_push);
            plan.faults.push((ms * MS, Fault::Rebind { is_other_host: false, keeps_old: false }));
            let mut world = World::new(plan, 0);

            world.run();

            let tally = world.tally();
            assert_eq!((tally.is_done, tally.silent_ends), (true, 0), "push {is_push}, at {ms} ms");
            // Undisturbed it takes 1.3 s, and half a second may pass until the other side knows.
            assert!(tally.took < 2500 * MS, "push {is_push}, at {ms} ms: {:?}", tally.took);
        }
    }
}

#[test]
fn content_goes_on_over_connections_when_a_flow_is_gone() {
    use crate::security::Side::{Client, Server};
    for is_push in [true, false] {
        for fault in
            [Fault::DropFlow(Client), Fault::DropFlow(Server), Fault::EndFlow(Client), Fault::EndFlow(Server)]
        {
            let mut plan = Plan::calm(1, is_push);
            plan.faults.push((700 * MS, fault));
            let bound = plan.idle_timeout * 2 + 4000 * MS;
            let mut world = World::new(plan, 0);

            world.run();

            let tally = world.tally();
            assert!(tally.is_done && tally.flow_bytes > 0, "push {is_push}, {fault:?}");
            assert!(tally.took < bound, "push {is_push}, {fault:?}: {:?}", tally.took);
        }
    }
}

#[test]
fn a_file_arrives_whole_over_any_path() {
    for spec in [
        "rtt=20ms,rate=100mbit",
        "rtt=20ms,rate=100mbit,loss=5%",
        "rtt=20ms,rate=100mbit,loss=2%,reorder=1%,dup=1%,corrupt=1%,late=25%/20ms",
        "rtt=20ms,rate=100mbit,loss=30%",
        "rtt=20ms,rate=100mbit,mtu=1280",
        "rtt=20ms,rate=100mbit,blackout=100ms+2s",
        "rtt=20ms,rate=100mbit,step=100ms:2mbit",
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
fn keys_change_every_64_packets_on_both_sides_at_once() {
    for spec in ["loss=5%", "reorder=20%,late=25%/20ms", "dup=50%", "loss=10%,reorder=10%,dup=10%,corrupt=5%"]
    {
        for is_push in [true, false] {
            let link: LinkConfig = format!("rtt=20ms,rate=100mbit,{spec}").parse().unwrap();
            let lane = LaneConfig { is_push, key_update_after: 64, ..LaneConfig::file(8 << 20) };
            let mut flows = Flows::new(&link, &[lane]);

            flows.run(ENOUGH);

            let sent = flows.reports()[0].sent;
            assert!(flows.lanes()[0].is_done(), "{spec} push {is_push}: {sent:?}");
            assert!(sent.packets > 50 * 64, "{sent:?}");
        }
    }
}

#[test]
fn tens_of_thousands_of_forgeries_change_nothing() {
    for (seed, is_push) in [(1, true), (2, false)] {
        let link: LinkConfig = "rtt=20ms,rate=50mbit,loss=1%".parse().unwrap();
        let lane = LaneConfig { is_push, key_update_after: 64, ..LaneConfig::file(2 << 20) };
        let mut flows = Flows::new(&link, &[lane]).forged(seed, 10);

        flows.run(ENOUGH);

        assert!(flows.lanes()[0].is_done(), "{:?}", flows.reports()[0].sent);
        assert!(flows.forgeries() > 10_000, "{}", flows.forgeries());
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

/// A dozen cells at a tenth of the usual rate; the bounds are looser than those of the whole grid, whose files are longer.
#[test]
fn small_cells_reach_their_goodput() {
    for (spec, steady) in [
        ("rtt=20ms,rate=20mbit", 0.90),
        ("rtt=100ms,rate=10mbit", 0.88),
        ("rtt=100ms,rate=10mbit,loss=1%", 0.80),
        ("rtt=100ms,rate=10mbit,loss=5%", 0.75),
        ("rtt=100ms,rate=10mbit,late=25%/20ms", 0.80),
        ("rtt=100ms,rate=10mbit,queue=8bdp", 0.75),
        // protocol.md [ACK-5]: packets that skip the delay make round trips look shorter than they are.
        ("rtt=40ms,rate=20mbit,loss=2%,reorder=5%,dup=1%,corrupt=0.5%", 0.60),
    ] {
        let outcome = Cell::new(spec).file_rtts(60).law(Congestion::Bbr).run(1);

        assert!(outcome.least(|it| it.steady) >= steady, "{spec}: {outcome}");
    }
}

#[test]
fn a_mebibyte_over_a_long_path_that_loses_packets_takes_few_round_trips() {
    let outcome = Cell::new("rtt=100ms,rate=100mbit,loss=2%").file_bytes(1 << 20).run(20);

    assert!(outcome.median(|it| it.rounds) < 8.5, "{outcome}");
}

#[test]
fn flows_of_our_own_share_a_path() {
    let index = Cell::new("rtt=20ms,rate=10mbit").fairness(&[Duration::ZERO; 2], 1);

    assert!(index > 0.9, "{index}");
}

/// With this seed, shares drifted from 15 to 38 % of the path while all flows waited equally long for their next probe.
#[test]
fn four_flows_of_our_own_share_a_path_with_a_long_queue() {
    let shares = Cell::new("rtt=100ms,rate=10mbit,queue=2bdp").share(&[Duration::ZERO; 4], 4);
    let index = jain(&shares.iter().map(|&bytes| bytes as f64).collect::<Vec<_>>());

    assert!(index > 0.95, "{index}: {shares:?}");
}
