//! What the controllers have to show, row by row.

use std::time::Duration;

use super::super::{Congestion, whole};
use super::{Link, Loss, Peer, Report, World};

const SEEDS: u64 = 9;
const FAIRNESS_SEEDS: u64 = 5;

/// A row of the table: name, link, and the least steady and whole parts of the ideal.
struct Row(String, Link, f64, f64);

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for mbit in [100.0, 300.0] {
        for rtt in [20.0, 100.0, 300.0] {
            for loss in [0.0, 0.001, 0.01, 0.02, 0.05] {
                let least = if loss == 0.0 { (0.92, 0.80) } else { (0.90, 0.78) };
                let name = format!("{mbit} Mbit/s {rtt} ms {:.1} %", loss * 100.0);
                rows.push(Row(name, Link::new(mbit, rtt, loss), least.0, least.1));
            }
            let base = Link::new(mbit, rtt, 0.0);
            let name = |what: &str| format!("{mbit} Mbit/s {rtt} ms {what}");
            rows.push(Row(name("10 %"), Link::new(mbit, rtt, 0.10), 0.80, 0.70));
            rows.push(Row(name("bursts 1 %"), Link { loss: Loss::Bursts(0.01), ..base }, 0.80, 0.70));
            rows.push(Row(name("late"), Link { late: true, ..base }, 0.88, 0.76));
            rows.push(Row(name("policed"), Link { policed: true, ..base }, 0.75, 0.65));
            rows.push(Row(name("queue 0.25"), Link { queue: 0.25, ..base }, 0.75, 0.65));
            rows.push(Row(name("queue 4"), Link { queue: 4.0, ..base }, 0.75, 0.65));
            rows.push(Row(name("queue 8"), Link { queue: 8.0, ..base }, 0.75, 0.65));
        }
    }
    rows.extend(rougher_rows());
    rows
}

/// Paths that the specification's table doesn't have, held to the same bounds.
fn rougher_rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (mbit, rtt) in [(100.0, 20.0), (100.0, 100.0), (300.0, 300.0)] {
        let base = Link::new(mbit, rtt, 0.02);
        let name = |what: &str| format!("{mbit} Mbit/s {rtt} ms 2 % {what}");
        rows.push(Row(name("ack jitter"), Link { back_jitter_ms: rtt / 5.0, ..base }, 0.88, 0.76));
        rows.push(Row(name("ack loss"), Link { back_loss: 0.3, ..base }, 0.88, 0.76));
        rows.push(Row(name("ticks"), Link { tick_ms: 1.0, ..base }, 0.88, 0.76));
        rows.push(Row(name("late"), Link { late: true, ..base }, 0.80, 0.70));
        rows.push(Row(name("policed"), Link { policed: true, ..base }, 0.75, 0.65));
        rows.push(Row(name("queue 0.25"), Link { queue: 0.25, ..base }, 0.75, 0.65));
        rows.push(Row(name("queue 0.1"), Link { queue: 0.1, ..base }, 0.75, 0.65));
    }
    rows.push(Row("1000 Mbit/s 1 ms".into(), Link::new(1000.0, 1.0, 0.0), 0.75, 0.65));
    rows.push(Row("1000 Mbit/s 10 ms".into(), Link::new(1000.0, 10.0, 0.0), 0.90, 0.78));
    rows.push(Row("10 Mbit/s 50 ms 1 %".into(), Link::new(10.0, 50.0, 0.01), 0.88, 0.76));
    rows.push(Row(
        "1 Mbit/s 50 ms 1 %".into(),
        Link { queue: 4.0, ..Link::new(1.0, 50.0, 0.01) },
        0.80,
        0.70,
    ));
    rows
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn of(reports: &[Report], value: fn(&Report) -> f64) -> f64 {
    median(reports.iter().map(value).collect())
}

/// One row, judged; what it says, and whether all of it is met.
fn judge(row: &Row, congestion: Congestion, seeds: u64) -> (String, bool) {
    let reports: Vec<Report> =
        (0..seeds).map(|seed| World::transfer(row.1, Peer::Haul(congestion), seed + 1)).collect();
    let steady = of(&reports, |r| r.steady);
    let whole = of(&reports, |r| r.whole);
    let worst = reports.iter().map(|r| r.steady).fold(f64::INFINITY, f64::min) / steady;
    let overhead = of(&reports, |r| r.overhead);
    let queue = of(&reports, |r| r.queue);
    let late_loss = of(&reports, |r| r.late_loss);
    let spurious = of(&reports, |r| r.spurious);
    let mut bad = String::new();
    for (is_bad, name) in [
        (steady < row.2, "steady"),
        (whole < row.3, "whole"),
        (worst < 0.85, "worst"),
        (overhead > 1.03, "sent"),
        (row.1.queue == 4.0 && queue > 0.5, "queue"),
        (row.1.policed && late_loss > 0.03 + row.1.loss_rate(), "loss"),
        (row.1.late && spurious > 0.02, "spurious"),
    ] {
        if is_bad {
            bad.push_str(" !");
            bad.push_str(name);
        }
    }
    let text = format!(
        "{:28} | {:5.1} | {:5.1} | {worst:5.2} | {overhead:6.3} | {queue:5.2} | {:5.2} | {:5.2} |{bad}",
        row.0,
        100.0 * steady,
        100.0 * whole,
        100.0 * late_loss,
        100.0 * spurious
    );
    (text, bad.is_empty())
}

const HEAD: &str = "link | steady % | whole % | worst/median | sent/needed | queue RTT | loss % | spurious %";

#[test]
#[ignore = "the whole grid takes a minute: run it in release"]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn the_whole_grid() {
    let only = std::env::var("ROWS").unwrap_or_default();
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS);
    println!("{HEAD}");
    for row in rows().iter().filter(|row| row.0.contains(&only)) {
        println!("{}", judge(row, Congestion::Bbr, seeds).0);
    }
}

fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

#[test]
#[ignore = "takes a minute: run it in release"]
#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn the_whole_fairness_table() {
    let ours = Peer::Haul(Congestion::Bbr);
    let start = |ms| Duration::from_millis(ms);
    for rtt in [20.0, 100.0] {
        for queue in [1.0, 2.0, 4.0] {
            let link = Link { queue, ..Link::new(100.0, rtt, 0.0) };
            for (name, peers) in [
                ("2 own", vec![(ours, start(0)), (ours, start(37))]),
                ("4 own", vec![(ours, start(0)), (ours, start(37)), (ours, start(53)), (ours, start(71))]),
                ("late-comer", vec![(ours, start(0)), (ours, start(15_000))]),
            ] {
                let runs: Vec<Vec<f64>> = (0..FAIRNESS_SEEDS)
                    .map(|seed| World::shares(link, &vary(&peers, seed), seed + 1, 30, 90))
                    .collect();
                let all = runs.iter().map(|shares| jain(shares)).collect();
                let used = median(runs.iter().map(|s| s.iter().sum::<f64>() / 60.0 / link.ideal()).collect());
                println!("{rtt} ms queue {queue} {name}: Jain {:.3} use {used:.2}", median(all));
            }
            for (name, first, second) in
                [("cubic together", 0, 0), ("cubic first", 10_000, 0), ("cubic later", 0, 10_000)]
            {
                let peers = [(ours, start(first)), (Peer::KernelCubic, start(second))];
                let runs: Vec<Vec<f64>> = (0..FAIRNESS_SEEDS)
                    .map(|seed| World::shares(link, &vary(&peers, seed), seed + 1, 30, 90))
                    .collect();
                let parts: Vec<f64> = runs.iter().map(|s| s[0] / (s[0] + s[1])).collect();
                let used = median(runs.iter().map(|s| s.iter().sum::<f64>() / 60.0 / link.ideal()).collect());
                println!(
                    "{rtt} ms queue {queue} {name}: own share {:.2} use {used:.2} {parts:.2?}",
                    median(parts.clone())
                );
            }
        }
    }
}

/// The same flows, started at slightly other times.
fn vary(peers: &[(Peer, Duration)], seed: u64) -> Vec<(Peer, Duration)> {
    let shift = |index: usize| Duration::from_millis(seed * 17 * (index as u64 + 1) % 101);
    peers.iter().enumerate().map(|(index, (peer, start))| (*peer, *start + shift(index))).collect()
}

/// Rows of the table on a link on which 100 round trips are few packets: what every test run checks.
fn quick_rows() -> Vec<Row> {
    let base = Link::new(50.0, 20.0, 0.0);
    let mut rows = Vec::new();
    for loss in [0.0, 0.001, 0.01, 0.05] {
        let least = if loss == 0.0 { (0.92, 0.80) } else { (0.90, 0.78) };
        rows.push(Row(format!("loss {loss}"), Link::new(50.0, 20.0, loss), least.0, least.1));
    }
    rows.push(Row("10 %".into(), Link::new(50.0, 20.0, 0.10), 0.80, 0.70));
    rows.push(Row("bursts".into(), Link { loss: Loss::Bursts(0.01), ..base }, 0.80, 0.70));
    rows.push(Row("late".into(), Link { late: true, ..Link::new(50.0, 100.0, 0.0) }, 0.88, 0.76));
    rows.push(Row("policed".into(), Link { policed: true, ..Link::new(100.0, 100.0, 0.0) }, 0.75, 0.65));
    for queue in [0.25, 4.0, 8.0] {
        rows.push(Row(format!("queue {queue}"), Link { queue, ..base }, 0.75, 0.65));
    }
    rows
}

#[test]
fn the_default_meets_every_kind_of_path() {
    for row in quick_rows() {
        let (text, is_met) = judge(&row, Congestion::Bbr, 3);

        assert!(is_met, "{HEAD}\n{text}");
    }
}

#[test]
fn cubic_fills_a_clean_path_and_collapses_under_random_loss() {
    let clean = World::transfer(Link::new(50.0, 100.0, 0.0), Peer::Haul(Congestion::Cubic), 1);
    let lossy = World::transfer(Link::new(50.0, 100.0, 0.01), Peer::Haul(Congestion::Cubic), 1);

    assert!(clean.steady > 0.9, "{clean:?}");
    assert!(lossy.steady < 0.2, "{lossy:?}");
}

#[test]
fn a_fixed_rate_arrives_through_random_loss() {
    let link = Link::new(100.0, 50.0, 0.05);
    let rate = 5_000_000;
    let report = World::transfer(link, Peer::Haul(Congestion::Fixed(rate)), 1);
    // Of the datagrams' rate, as part of the link's ideal.
    let expected = rate as f64 / 1472.0 / link.ideal();

    assert!((report.steady / expected - 1.0).abs() < 0.03, "{report:?} {expected}");
}

#[test]
fn alone_it_never_stops_to_look_at_the_round_trip() {
    let mut world =
        World::new(Link::new(20.0, 40.0, 0.01), &[(Peer::Haul(Congestion::Bbr), Duration::ZERO)], 1);
    while world.now < Duration::from_secs(30) {
        world.step();

        assert_ne!(world.flows[0].controller.state().state, "probe-rtt", "at {:?}", world.now);
    }
}

#[test]
fn two_flows_share_a_link() {
    let ours = Peer::Haul(Congestion::Bbr);
    let peers = [(ours, Duration::ZERO), (ours, Duration::from_millis(500))];
    let shares = World::shares(Link::new(25.0, 20.0, 0.0), &peers, 1, 20, 60);

    assert!(jain(&shares) > 0.95, "{shares:?}");
}

#[test]
fn beside_cubic_it_has_its_share() {
    for queue in [1.0, 4.0] {
        let link = Link { queue, ..Link::new(25.0, 20.0, 0.0) };
        let peers =
            [(Peer::Haul(Congestion::Bbr), Duration::ZERO), (Peer::KernelCubic, Duration::from_secs(2))];
        let parts = (1..=3).map(|seed| {
            let counts = World::shares(link, &vary(&peers, seed), seed, 20, 60);
            counts[0] / (counts[0] + counts[1])
        });
        let share = median(parts.collect());

        assert!((0.3..0.7).contains(&share), "queue {queue}: {share}");
    }
}

#[test]
fn it_competes_as_long_as_cubic_is_there() {
    let link = Link { queue: 4.0, ..Link::new(25.0, 20.0, 0.0) };
    let peers = [(Peer::Haul(Congestion::Bbr), Duration::ZERO), (Peer::KernelCubic, Duration::from_secs(2))];
    let mut world = World::new(link, &peers, 1);
    world.run_until(Duration::from_secs(30));
    let state = world.flows[0].controller.state().state;
    world.flows[1].has_stopped = true;
    world.run_until(Duration::from_secs(50));
    let before = world.flows[0].unique;
    world.bottleneck.forget_delays();
    world.run_until(Duration::from_secs(60));
    let alone = (world.flows[0].unique - before) as f64 / 10.0 / link.ideal();

    assert!(["compete", "probe-rtt"].contains(&state), "{state}");
    assert!(alone > 0.95, "{alone}");
    assert!(world.bottleneck.mean_delay() < 0.010, "{}", world.bottleneck.mean_delay());
}

#[test]
fn it_follows_a_link_that_becomes_slower_and_faster() {
    for (factor, seconds) in [(0.2, 10), (5.0, 5)] {
        let link = Link { step: Some((5.0, factor)), ..Link::new(20.0, 40.0, 0.01) };
        let mut world = World::new(link, &[(Peer::Haul(Congestion::Bbr), Duration::ZERO)], 1);
        world.run_until(Duration::from_secs(5 + seconds));
        let before = world.flows[0].unique;
        world.bottleneck.forget_delays();
        world.run_until(Duration::from_secs(10 + seconds));
        let used = (world.flows[0].unique - before) as f64 / 5.0 / link.ideal() / factor;
        let queue = world.bottleneck.mean_delay() / 0.040;

        assert!(used > 0.9, "{factor}: {used}");
        assert!(queue < 0.5, "{factor}: {queue}");
    }
}

#[test]
fn it_survives_random_loss_on_acknowledgements_and_coarse_timers() {
    for link in [
        Link { back_loss: 0.3, ..Link::new(50.0, 20.0, 0.02) },
        Link { back_jitter_ms: 4.0, ..Link::new(50.0, 20.0, 0.02) },
        Link { tick_ms: 1.0, ..Link::new(50.0, 20.0, 0.02) },
    ] {
        let report = World::transfer(link, Peer::Haul(Congestion::Bbr), 1);

        assert!(report.steady > 0.88, "{link:?} {report:?}");
    }
}

/// Follows one run: `TRACE="rtt queue loss-percent seed seconds cubic-start-ms own-start-ms..."`.
#[test]
#[ignore = "prints what one run does, for whoever tunes"]
#[expect(clippy::print_stdout, reason = "the trace is what it is for")]
fn one_trace() {
    let text = std::env::var("TRACE").unwrap_or_else(|_| "100 1 0 1 10 -1 0".into());
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let policed = std::env::var("POLICED").is_ok();
    let mbit = std::env::var("MBIT").ok().and_then(|text| text.parse().ok()).unwrap_or(100.0);
    let link = Link { queue: numbers[1], policed, ..Link::new(mbit, numbers[0], numbers[2] / 100.0) };
    let link = if std::env::var("BURSTS").is_ok() { Link { loss: Loss::Bursts(0.01), ..link } } else { link };
    let step =
        std::env::var("RATE_STEP").ok().and_then(|text| text.parse().ok()).map(|factor| (10.0, factor));
    let link = Link { step, ..link };
    let mut peers: Vec<(Peer, Duration)> = numbers[6..]
        .iter()
        .map(|start| (Peer::Haul(Congestion::Bbr), Duration::from_secs_f64(start / 1000.0)))
        .collect();
    if numbers[5] >= 0.0 {
        peers.push((Peer::KernelCubic, Duration::from_secs_f64(numbers[5] / 1000.0)));
    }
    let mut world = World::new(link, &peers, whole(numbers[3]));
    let step = Duration::from_secs_f64(
        std::env::var("STEP").ok().and_then(|text| text.parse().ok()).unwrap_or(link.rtt().as_secs_f64()),
    );
    let mut before = vec![0; peers.len()];
    while world.now.as_secs_f64() < numbers[4] {
        let until = world.now.max(Duration::from_nanos(1)) + step;
        world.run_until(until);
        print!("{:7.3}", world.now.as_secs_f64());
        for (flow, before) in world.flows.iter().zip(&mut before) {
            let state = flow.controller.state();
            let share = (flow.unique - *before) as f64 / step.as_secs_f64() / link.ideal();
            *before = flow.unique;
            print!(
                " | {:10} got {share:4.2} bw {:4.2} base {:5.1} p {:4.1} wnd {:5} out {:5} high {:5}",
                state.state,
                state.bandwidth as f64 * 1518.0 / 1472.0 / link.usable(),
                state.base_rtt.unwrap_or_default().as_secs_f64() * 1e3,
                state.baseline_loss_ppm as f64 / 1e4,
                flow.controller.window() / 1472,
                flow.in_flight_packets(),
                state.inflight_high.unwrap_or(0) / 1472,
            );
        }
        println!();
    }
}
