//! How flows of our own share a path.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use haul::datagram::congestion::Congestion;
use haul::sim::{Cell, jain, median};

use crate::{beside, on_all, setting};

/// Jain's index that has to be reached.
const BOUND: f64 = 0.95;

const HEAD: &str = "\
# Sharing

Simulated, by `HAUL_WRITE=1 cargo test --release --test campaign -- --ignored sharing`. Endless flows of our own at 100
Mbit/s with a drop-tail queue of one BDP; what each moves from second 30 to second 90; Jain's index, median of 5 seeds,
and the least share of any flow, where 100 % is an equal part.

| round trip | law | flows | Jain's index | least share | misses |
|---|---|---|---|---|---|
";

#[test]
#[ignore = "a campaign: minutes"]
fn sharing() {
    let mut table = HEAD.to_owned();
    for rtt in [20, 100] {
        for (law, name) in [(Congestion::Bbr, "bbr"), (Congestion::Cubic, "cubic")] {
            let cell = Cell::new(&format!("rtt={rtt}ms,rate=100mbit")).law(law);
            for (flows, starts) in [("2", &[0, 0][..]), ("2, one 10 s later", &[0, 10]), ("4", &[0, 0, 0, 0])]
            {
                let starts: Vec<_> = starts.iter().map(|&s| Duration::from_secs(s)).collect();
                let shares = on_all(&[1, 2, 3, 4, 5], |&seed| cell.share(&starts, seed));
                let shares: Vec<Vec<f64>> =
                    shares.iter().map(|of| of.iter().map(|&bytes| bytes as f64).collect()).collect();
                let index = median(shares.iter().map(|of| jain(of)));
                let least = |of: &[f64]| {
                    of.iter().copied().fold(f64::INFINITY, f64::min) * of.len() as f64
                        / of.iter().sum::<f64>()
                };
                let least = median(shares.iter().map(|of| least(of)));
                let misses = if name == "bbr" && index < BOUND { "index" } else { "" };
                writeln!(
                    table,
                    "| {rtt} ms | {name} | {flows} | {index:.2} | {:.0} % | {misses} |",
                    100.0 * least
                )
                .expect("a string takes all");
            }
        }
    }
    if setting("HAUL_WRITE", 0) == 1 {
        fs::write(beside("sharing.md"), &table).expect("the table can be written");
        return;
    }
    assert!(!table.contains("| index |"), "flows do not share:\n{table}");
}
