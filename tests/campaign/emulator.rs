//! Whether the emulator is the link that it says: real datagrams over `emulator::run`, as their receiver sees them.
//!
//! What is measured comes from the programs at the two ends, not from the link's counters; where the two have to be equal,
//! that is a condition of the row too. What is up to chance is measured over several seeds together.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use haul::emulator::{self, Carried, Machine, Plan, Share, Streams};
use haul::link::{LinkConfig, Trace};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::common::datagrams::{PINGER, RECEIVER, SENDER};
use crate::{beside, setting};

const HEAD: &str = "\
# The emulator's precision

Real datagrams over `haul link`, by `HAUL_WRITE=1 cargo test --release --test campaign -- --ignored emulator`, as the
programs at its two ends saw them. Round trips within 1 ms or 2 %, rates within 2 %, shares within 3 standard deviations
over 4 seeds of 50,000 packets each, and every loss, copy and damaged datagram equal to the link's own counters. The last
column but one is the machine's: the share of packets that came more than 1 ms late, or may have waited for so long to be
read; with more than 1 %, times prove little.

| what | link | specified | measured | allowed | late | misses |
|---|---|---|---|---|---|---|
";

/// Content of a datagram that fills a packet of 1500 bytes.
const FULL: usize = 1472;
/// Such a packet with its framing, bytes.
const ON_THE_LINE: usize = 1518;
/// Packets of each seed where something is up to chance.
const COUNT: usize = 50_000;
/// The seeds.
const SEEDS: std::ops::RangeInclusive<u32> = 1..=4;

#[test]
#[ignore = "a campaign: two minutes; the machine has to be quiet"]
fn emulator() {
    let mut table = Table { text: HEAD.to_owned(), place: tempfile::tempdir().expect("there is room") };
    for (rtt_ms, trips) in [(1, 500), (20, 100), (100, 40), (300, 20)] {
        table.round_trip(rtt_ms, trips);
    }
    for mbit in [5, 100, 300] {
        table.rate(mbit);
    }
    table.loss();
    table.bursts();
    table.reordering();
    table.duplication();
    table.corruption();
    table.drop_tail(30_080, 20);
    table.drop_tail(30_079, 19);

    if setting("HAUL_WRITE", 0) == 1 {
        fs::write(beside("emulator.md"), &table.text).expect("the table can be written");
    }
    assert!(!table.text.contains("| yes |"), "the emulator is not the link that it says:\n{}", table.text);
}

/// What a receiver saw.
#[derive(Deserialize)]
struct Seen {
    numbers: Vec<usize>,
    damaged: u64,
    seconds: f64,
}

struct Table {
    text: String,
    place: tempfile::TempDir,
}

/// What a row says, and whether it is right.
struct Row<'a> {
    what: &'a str,
    spec: &'a str,
    specified: String,
    measured: String,
    allowed: String,
    is_met: bool,
    /// Whether a busy machine may be why it is not.
    is_time: bool,
}

impl Table {
    fn round_trip(&mut self, rtt_ms: u32, trips: u32) {
        let spec = format!("rtt={rtt_ms}ms");
        let file = self.place.path().join("trips");
        let program = ["python3", "-c", PINGER, &trips.to_string(), text(&file)];
        let carried = self.run(&spec.parse().expect(&spec), &program);
        let mut trips: Vec<f64> = read(&file);
        trips.sort_by(f64::total_cmp);
        let (median, wanted) = (1000.0 * trips[trips.len() / 2], f64::from(rtt_ms));
        let allowed = (0.02 * wanted).max(1.0);
        let row = Row {
            what: "round trip",
            spec: &spec,
            specified: format!("{wanted} ms"),
            measured: format!("{median:.2} ms"),
            allowed: format!("{allowed} ms"),
            is_met: (median - wanted).abs() <= allowed,
            is_time: true,
        };
        self.row(&row, &[carried]);
    }

    /// Four seconds of a third more than the link carries.
    fn rate(&mut self, mbit: usize) {
        let spec = format!("rtt=10ms,rate={mbit}mbit,queue=50ms");
        let per_second = mbit * 1_000_000 * 4 / (ON_THE_LINE * 8 * 3);
        let burst = per_second.div_ceil(500);
        let (seen, carried) = self.send(&spec, 4 * per_second, FULL, burst, burst as f64 / per_second as f64);
        let bits = ((seen.numbers.len() - 1) * ON_THE_LINE * 8) as f64;
        let measured = bits / seen.seconds / 1e6;
        let wanted = mbit as f64;
        let row = Row {
            what: "rate",
            spec: &spec,
            specified: format!("{mbit} Mbit/s"),
            measured: format!("{measured:.2} Mbit/s"),
            allowed: "2 %".to_owned(),
            is_met: (measured - wanted).abs() <= 0.02 * wanted,
            is_time: true,
        };
        self.row(&row, &[carried]);
    }

    fn loss(&mut self) {
        let spec = "rtt=10ms,loss=1%";
        let runs = self.send_all(spec, 100);
        let lost = runs.iter().map(|(seen, _)| lost_and_runs(&seen.numbers).0);
        self.share("loss", spec, (0.01, 1.0), &lost.collect::<Vec<_>>(), &runs, |share, lost| {
            share.counters.dropped_loss == lost
        });
    }

    fn bursts(&mut self) {
        let (spec, share, burst) = ("rtt=10ms,loss=2%,burst=8", 0.02, 8.0_f64);
        let all = self.send_all(spec, 100);
        let (lost, runs): (Vec<u64>, Vec<u64>) =
            all.iter().map(|(seen, _)| lost_and_runs(&seen.numbers)).unzip();
        // Neighbours are alike, which widens the spread.
        let alike = 1.0 - (1.0 / burst) / (1.0 - share);
        let wider = ((1.0 + alike) / (1.0 - alike)).sqrt();
        self.share("loss", spec, (share, wider), &lost, &all, |share, lost| {
            share.counters.dropped_loss == lost
        });
        let (lost, runs) = (lost.iter().sum::<u64>() as f64, runs.iter().sum::<u64>() as f64);
        let allowed = 3.0 * (burst * (burst - 1.0) / runs).sqrt();
        let row = Row {
            what: "mean burst",
            spec,
            specified: burst.to_string(),
            measured: format!("{:.2}", lost / runs),
            allowed: format!("{allowed:.2}"),
            is_met: (lost / runs - burst).abs() <= allowed,
            is_time: false,
        };
        self.row(&row, &all.into_iter().map(|(_, carried)| carried).collect::<Vec<_>>());
    }

    fn reordering(&mut self) {
        let spec = "rtt=40ms,reorder=2%";
        let runs = self.send_all(spec, 100);
        let overtaking =
            runs.iter().map(|(seen, _)| count(seen.numbers.len() - longest_ascent(&seen.numbers)));
        // The first and the last packets have hardly any to overtake or to be overtaken by.
        self.share("reordering", spec, (0.02, 1.0), &overtaking.collect::<Vec<_>>(), &runs, |share, seen| {
            share.counters.overtaking.abs_diff(seen) <= 20
        });
    }

    fn duplication(&mut self) {
        let spec = "rtt=10ms,dup=1%";
        let runs = self.send_all(spec, 100);
        let copies = runs.iter().map(|(seen, _)| count(seen.numbers.len() - COUNT));
        self.share("duplication", spec, (0.01, 1.0), &copies.collect::<Vec<_>>(), &runs, |share, copies| {
            share.counters.duplicated == copies
        });
    }

    /// What is damaged in its headers does not reach the receiver, or not as it was sent.
    fn corruption(&mut self) {
        let (spec, share) = ("rtt=10ms,corrupt=1%", 0.01 * 1472.0 / 1500.0);
        let runs = self.send_all(spec, FULL);
        let damaged = runs.iter().map(|(seen, _)| seen.damaged);
        self.share(
            "damage in the content",
            spec,
            (share, 1.0),
            &damaged.collect::<Vec<_>>(),
            &runs,
            |share, damaged| {
                (share.counters.corrupted - share.corrupted_headers..=share.counters.corrupted)
                    .contains(&damaged)
            },
        );
    }

    /// How many packets of 1500 bytes fit a queue of which nothing is carried meanwhile.
    fn drop_tail(&mut self, queue_bytes: u32, fit: u64) {
        let spec = format!("rtt=10ms,trace=slow,queue={queue_bytes}B");
        let link = LinkConfig::read(&spec, |name| Trace::read(name, "10000\n10000\n")).expect(&spec);
        let burst = "import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for k in range(100): s.sendto(bytes(1472), (os.environ['HAUL_LINK_PEER'], 9))";
        let carried = self.run(&link, &["python3", "-c", burst]);
        let taken = 100 - datagrams(&carried).counters.dropped_queue;
        let row = Row {
            what: "packets that fill a queue",
            spec: &spec,
            specified: fit.to_string(),
            measured: taken.to_string(),
            allowed: "0".to_owned(),
            is_met: taken == fit,
            is_time: false,
        };
        self.row(&row, &[carried]);
    }

    /// A share of all packets of all seeds; `wider`: how much wider than that of independent packets its spread is. What
    /// was seen in each run has to agree with what the link says.
    fn share(
        &mut self,
        what: &str,
        spec: &str,
        (share, wider): (f64, f64),
        seen: &[u64],
        runs: &[(Seen, Carried)],
        agree: impl Fn(&Share, u64) -> bool,
    ) {
        let packets = (COUNT * runs.len()) as f64;
        let allowed = 3.0 * wider * (share * (1.0 - share) / packets).sqrt();
        let measured = seen.iter().sum::<u64>() as f64 / packets;
        let do_agree = seen.iter().zip(runs).all(|(seen, (_, carried))| agree(&datagrams(carried), *seen));
        let percent = |share: f64| format!("{:.3} %", 100.0 * share);
        let row = Row {
            what,
            spec,
            specified: percent(share),
            measured: percent(measured),
            allowed: percent(allowed),
            is_met: (measured - share).abs() <= allowed && do_agree,
            is_time: false,
        };
        self.row(&row, &runs.iter().map(|(_, carried)| carried.clone()).collect::<Vec<_>>());
    }

    /// The same datagrams for each seed.
    fn send_all(&self, spec: &str, bytes: usize) -> Vec<(Seen, Carried)> {
        SEEDS.map(|seed| self.send(&format!("{spec},seed={seed}"), COUNT, bytes, 20, 0.001)).collect()
    }

    fn send(&self, spec: &str, count: usize, bytes: usize, burst: usize, gap_s: f64) -> (Seen, Carried) {
        let [count, bytes, burst, gap_s] =
            [count.to_string(), bytes.to_string(), burst.to_string(), gap_s.to_string()];
        let carried =
            self.run(&spec.parse().expect(spec), &["python3", "-c", SENDER, &count, &bytes, &burst, &gap_s]);
        (read(&self.place.path().join("seen")), carried)
    }

    fn run(&self, link: &LinkConfig, command: &[&str]) -> Carried {
        let file = self.place.path().join("seen");
        let plan = Plan {
            peer: ["python3", "-c", RECEIVER, text(&file)].map(Into::into).to_vec(),
            streams: Streams::Null,
            command_at_most: Some(Duration::from_secs(60)),
            host_binary: env!("CARGO_BIN_EXE_haul").into(),
            ..Plan::new(link.clone(), command.iter().map(Into::into).collect())
        };
        let carried = emulator::run(&plan).expect("this machine lets us have hosts");
        assert_eq!((carried.code, carried.peer_code), (0, None), "{link}");
        let dropped = carried.peer.as_ref().and_then(|it| it.counters.get("Udp.RcvbufErrors"));
        assert_eq!(dropped, None, "the receiver was too slow");
        carried
    }

    fn row(&mut self, row: &Row<'_>, runs: &[Carried]) {
        let Row { what, spec, specified, measured, allowed, is_met, is_time } = row;
        let lanes = runs.iter().flat_map(|it| [&it.there.machine, &it.back.machine]);
        let late = 100.0 * lanes.map(late).fold(0.0, f64::max);
        let misses = match (is_met, *is_time && late > 1.0) {
            (true, _) => "",
            (false, false) => "yes",
            (false, true) => "perhaps: the machine",
        };
        writeln!(
            self.text,
            "| {what} | {spec} | {specified} | {measured} | {allowed} | {late:.1} % | {misses} |"
        )
        .expect("a string takes all");
    }
}

/// The share that came late or may have waited, whichever is more; of lanes with next to no packets, none.
fn late(machine: &Machine) -> f64 {
    if machine.written < 20 {
        return 0.0;
    }
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    share(machine.late, machine.written).max(share(machine.waited, machine.read))
}

/// What the link says of the flow to the receiver.
fn datagrams(carried: &Carried) -> Share {
    let flow = carried.there.flows.iter().find(|flow| flow.key.ports.is_some_and(|ports| ports.1 == 9));
    flow.expect("there were datagrams").share
}

/// How many numbers are missing, and in how many runs.
fn lost_and_runs(numbers: &[usize]) -> (u64, u64) {
    let mut is_there = vec![false; COUNT];
    for number in numbers {
        is_there[*number] = true;
    }
    let lost = is_there.iter().filter(|it| !**it).count();
    let starts = is_there.windows(2).filter(|pair| pair[0] && !pair[1]).count();
    (count(lost), count(starts + usize::from(!is_there[0])))
}

fn count(number: usize) -> u64 {
    u64::try_from(number).expect("a count fits")
}

/// The most numbers that are left in ascending order if the others are taken out.
fn longest_ascent(numbers: &[usize]) -> usize {
    // The lowest last number of an ascent of each length.
    let mut lasts: Vec<usize> = Vec::new();
    for number in numbers {
        let length = lasts.partition_point(|last| last < number);
        match lasts.get_mut(length) {
            Some(last) => *last = *number,
            None => lasts.push(*number),
        }
    }
    lasts.len()
}

fn read<T: DeserializeOwned>(file: &Path) -> T {
    let content = fs::read(file).expect("the program has written it");
    serde_json::from_slice(&content).expect("the program writes JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary files have plain names")
}
