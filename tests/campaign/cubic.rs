//! The simulator's model of kernel TCP with CUBIC, beside the kernel's own.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use haul::sim::{Cell, median};

use crate::{beside, on_all, setting};

/// A difference of more than this part of the kernel's number is a miss.
const WITHIN: f64 = 0.15;
/// Seeds of the model.
const SEEDS: u64 = 15;

/// What the kernel did on a link.
struct Kernel {
    spec: &'static str,
    /// Second at which each flow begins.
    starts: &'static [u64],
    /// Seconds between which goodput was measured.
    between: (u64, u64),
    /// Mbit/s of content of each flow, one line for each run.
    runs: &'static [&'static [f64]],
}

const KERNEL: [Kernel; 14] = [
    alone("rtt=20ms,rate=100mbit", (10, 20), &[&[94.46]]),
    alone("rtt=20ms,rate=100mbit,loss=0.01%", (10, 60), &[&[66.43], &[71.02], &[66.65]]),
    alone("rtt=20ms,rate=100mbit,loss=0.1%", (10, 40), &[&[23.25], &[20.42], &[17.60]]),
    alone("rtt=20ms,rate=100mbit,loss=1%", (10, 40), &[&[5.16], &[5.98], &[5.46]]),
    alone("rtt=20ms,rate=100mbit,loss=2%", (10, 40), &[&[3.07], &[3.57], &[3.20]]),
    alone("rtt=100ms,rate=100mbit", (10, 40), &[&[95.02]]),
    alone(
        "rtt=100ms,rate=100mbit,loss=0.01%",
        (10, 60),
        &[&[24.82], &[31.69], &[29.93], &[45.80], &[23.95], &[23.10], &[24.80]],
    ),
    alone(
        "rtt=100ms,rate=100mbit,loss=0.1%",
        (10, 40),
        &[&[5.55], &[6.14], &[4.82], &[5.10], &[5.46], &[5.83], &[3.59]],
    ),
    alone(
        "rtt=100ms,rate=100mbit,loss=1%",
        (10, 40),
        &[&[1.24], &[1.62], &[1.39], &[1.31], &[1.32], &[1.42], &[1.08]],
    ),
    alone(
        "rtt=100ms,rate=100mbit,loss=2%",
        (10, 40),
        &[&[0.65], &[1.03], &[0.83], &[0.78], &[0.82], &[0.81], &[0.88]],
    ),
    two("rtt=20ms,rate=100mbit", &[0, 20], (50, 110), &[&[41.4, 53.7], &[47.4, 47.4], &[50.3, 44.0]]),
    two("rtt=100ms,rate=100mbit", &[0, 20], (50, 110), &[&[58.2, 37.3], &[64.9, 30.6], &[59.2, 34.9]]),
    two("rtt=100ms,rate=100mbit", &[0, 0], (30, 90), &[&[47.3, 47.5]]),
    two("rtt=100ms,rate=100mbit,queue=2bdp", &[0, 0], (30, 90), &[&[48.3, 47.1]]),
];

const HEAD: &str = "\
# CUBIC, the kernel's and the model's

The model: simulated, by `HAUL_WRITE=1 cargo test --release --test campaign -- --ignored cubic`, 15 seeds. The kernel:
Linux 6.18.44 (`iperf3 -C cubic`, default settings, `pfifo_fast`) between two network namespaces over an emulator that
shares no code with haul, at 100 Mbit/s with a drop-tail queue of one BDP unless the row says otherwise; the receiving
iperf3's bytes in each second. Both ways lose. Mbit/s of content between two seconds after the first flow's start;
median, and the least and the most, of one to seven runs of the kernel: more where few losses decide a run. (Of flows that
begin together, the bytes of IP packets were counted, of which 1448/1500 are content.) A difference of more than 15 % is a
miss.

| link | flow | seconds | kernel | model | difference | misses |
|---|---|---|---|---|---|---|
";

#[test]
#[ignore = "a campaign: a minute"]
fn cubic() {
    let mut table = HEAD.to_owned();
    for kernel in &KERNEL {
        let seeds: Vec<u64> = (1..=SEEDS).collect();
        let model = on_all(&seeds, |&seed| kernel.model(seed));
        for flow in 0..kernel.starts.len() {
            writeln!(table, "{}", kernel.line(flow, &model)).expect("a string takes all");
        }
    }
    if setting("HAUL_WRITE", 0) == 1 {
        fs::write(beside("cubic.md"), &table).expect("the table can be written");
        return;
    }
    assert!(!table.contains("| miss |"), "the model is not the kernel's:\n{table}");
}

/// One flow from the start on.
const fn alone(spec: &'static str, between: (u64, u64), runs: &'static [&'static [f64]]) -> Kernel {
    Kernel { spec, starts: &[0], between, runs }
}

/// Two flows that begin at these seconds.
const fn two(
    spec: &'static str,
    starts: &'static [u64],
    between: (u64, u64),
    runs: &'static [&'static [f64]],
) -> Kernel {
    Kernel { spec, starts, between, runs }
}

impl Kernel {
    /// Mbit/s of each flow of the model.
    fn model(&self, seed: u64) -> Vec<f64> {
        let (from, to) = self.between;
        // No two runs of the kernel begin their flows at the very same distance.
        let shift = Duration::from_millis(seed * 17 % 101);
        let starts: Vec<_> =
            self.starts.iter().zip(0..).map(|(&s, flow)| Duration::from_secs(s) + shift * flow).collect();
        let cell =
            Cell::new(self.spec).beside(&starts).between(Duration::from_secs(from), Duration::from_secs(to));
        cell.share(&[], seed).iter().map(|&bytes| bytes as f64 * 8e-6 / (to - from) as f64).collect()
    }

    fn line(&self, flow: usize, model: &[Vec<f64>]) -> String {
        let kernel: Vec<f64> = self.runs.iter().map(|run| run[flow]).collect();
        let model: Vec<f64> = model.iter().map(|run| run[flow]).collect();
        let (theirs, ours) = (median(kernel.iter().copied()), median(model.iter().copied()));
        let off = ours / theirs - 1.0;
        let which = match (self.starts.len(), self.starts[flow]) {
            (1, _) => "alone".to_owned(),
            (_, 0) => format!("{} of two", if flow == 0 { "first" } else { "second" }),
            (_, s) => format!("second, {s} s later"),
        };
        format!(
            "| {} | {which} | {} to {} | {theirs:.2} ({}) | {ours:.2} ({}) | {:+.0} % | {} |",
            self.spec,
            self.between.0,
            self.between.1,
            range(&kernel),
            range(&model),
            100.0 * off,
            if off.abs() > WITHIN { "miss" } else { "" },
        )
    }
}

fn range(of: &[f64]) -> String {
    let least = of.iter().copied().fold(f64::INFINITY, f64::min);
    let most = of.iter().copied().fold(0.0, f64::max);
    format!("{least:.1} to {most:.1}")
}
