//! How flows of our own share a path, with each other and with kernel TCP.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use haul::datagram::congestion::Congestion;
use haul::sim::{Cell, jain, median};

use crate::{beside, on_all, setting};

/// Jain's index that has to be reached.
const BOUND: f64 = 0.95;
/// Our share beside one CUBIC flow has to be within these.
const SHARE_LEAST: f64 = 0.3;
const SHARE_MOST: f64 = 0.7;

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// Our share of the bytes beside one flow of kernel TCP with CUBIC that begins with ours, by round trip and queue: five
/// runs over an emulator that is not ours, in ascending order. Linux 6.18, both in bytes of IP packets.
const KERNEL: [(u32, u32, [f64; 5]); 6] = [
    (20, 1, [0.52, 0.53, 0.56, 0.60, 0.65]),
    (20, 2, [0.49, 0.50, 0.54, 0.56, 0.56]),
    (20, 4, [0.50, 0.50, 0.53, 0.56, 0.59]),
    (100, 1, [0.65, 0.67, 0.67, 0.71, 0.71]),
    (100, 2, [0.53, 0.62, 0.66, 0.68, 0.75]),
    (100, 4, [0.62, 0.62, 0.64, 0.64, 0.67]),
];

const HEAD: &str = "\
# Sharing

Simulated, by `HAUL_WRITE=1 cargo test --release --test campaign -- --ignored sharing`. Endless flows of our own at 100
Mbit/s with a drop-tail queue of one BDP; what each moves from second 30 to second 90; Jain's index, median of 5 seeds,
and the least share of any flow, where 100 % is an equal part.

| round trip | law | flows | Jain's index | least share | misses |
|---|---|---|---|---|---|
";

const HEAD_CUBIC: &str = "
One flow of ours beside one of kernel TCP with CUBIC, of which ours has so much: in the simulator beside its model of
CUBIC (`cubic.md`), by bytes of content, and over an emulated link beside the kernel's (Linux 6.18), by bytes of IP
packets; median and range of 5 seeds each.

| round trip | queue | who begins | simulated | kernel | misses |
|---|---|---|---|---|---|
";

#[test]
#[ignore = "a campaign: tens of minutes"]
fn sharing() {
    let mut table = HEAD.to_owned();
    for rtt in [20, 100] {
        for (law, name) in [(Congestion::Bbr, "bbr"), (Congestion::Cubic, "cubic")] {
            let cell = Cell::new(&format!("rtt={rtt}ms,rate=100mbit")).law(law);
            for (flows, starts) in [("2", &[0, 0][..]), ("2, one 10 s later", &[0, 10]), ("4", &[0, 0, 0, 0])]
            {
                let line = own_line(&cell, starts, name == "bbr");
                writeln!(table, "| {rtt} ms | {name} | {flows} | {line} |").expect("a string takes all");
            }
        }
    }
    table += HEAD_CUBIC;
    for (rtt, queue, kernel) in KERNEL {
        for (who, own, rival) in
            [("both", 0, 0), ("CUBIC, we 10 s later", 10, 0), ("we, CUBIC 10 s later", 0, 10)]
        {
            let cell = Cell::new(&format!("rtt={rtt}ms,rate=100mbit,queue={queue}bdp"));
            let shares = on_all(&SEEDS, |&seed| share_beside_cubic(&cell, own, rival, seed));
            let share = median(shares.iter().copied());
            let beside = if who == "both" { spread(&kernel) } else { String::new() };
            let misses = if (SHARE_LEAST..=SHARE_MOST).contains(&share) { "" } else { "share" };
            writeln!(table, "| {rtt} ms | {queue} BDP | {who} | {} | {beside} | {misses} |", spread(&shares))
                .expect("a string takes all");
        }
    }
    if setting("HAUL_WRITE", 0) == 1 {
        fs::write(beside("sharing.md"), &table).expect("the table can be written");
        return;
    }
    assert!(!table.contains("| index |"), "flows do not share:\n{table}");
    assert!(!table.contains("| share |"), "flows do not share with CUBIC:\n{table}");
}

/// Jain's index and the least share of flows that begin at these seconds.
fn own_line(cell: &Cell, starts: &[u64], is_bound: bool) -> String {
    let starts: Vec<_> = starts.iter().map(|&s| Duration::from_secs(s)).collect();
    let shares = on_all(&SEEDS, |&seed| cell.share(&starts, seed));
    let shares: Vec<Vec<f64>> =
        shares.iter().map(|of| of.iter().map(|&bytes| bytes as f64).collect()).collect();
    let index = median(shares.iter().map(|of| jain(of)));
    let least = |of: &[f64]| {
        of.iter().copied().fold(f64::INFINITY, f64::min) * of.len() as f64 / of.iter().sum::<f64>()
    };
    let least = median(shares.iter().map(|of| least(of)));
    let misses = if is_bound && index < BOUND { "index" } else { "" };
    format!("{index:.2} | {:.0} % | {misses}", 100.0 * least)
}

/// Our part of what both move, if they begin at these seconds.
fn share_beside_cubic(cell: &Cell, own_s: u64, rival_s: u64, seed: u64) -> f64 {
    // Two programs never begin at the very same moment, and nothing else differs from seed to seed on a link without
    // chance.
    let shift = Duration::from_millis(seed * 37 % 101);
    let bytes = cell
        .clone()
        .beside(&[Duration::from_secs(rival_s) + shift])
        .share(&[Duration::from_secs(own_s)], seed);
    bytes[0] as f64 / (bytes[0] + bytes[1]) as f64
}

fn spread(shares: &[f64]) -> String {
    let percent = |share: f64| format!("{:.0}", 100.0 * share);
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    let most = shares.iter().copied().fold(0.0, f64::max);
    format!("{} % ({} to {})", percent(median(shares.iter().copied())), percent(least), percent(most))
}
