//! The goodput grid: links, laws, and what is left of the ideal.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use haul::datagram::congestion::Congestion;
use haul::sim::{Cell, Figures, Outcome, ideal_rate, median};

use crate::{beside, on_all, setting};

/// A row of the table.
struct Row {
    /// The link, and what else is special.
    spec: String,
    cell: Cell,
    law: &'static str,
    /// What it has to reach, steady and whole; the textbook's law has to reach nothing.
    bounds: Option<(f64, f64)>,
    /// Bound of packets lost after start-up.
    loss: Option<f64>,
    /// Bound of the queue's mean delay, round trips.
    queue: Option<f64>,
    /// Bound of packets sent again for nothing.
    spurious: Option<f64>,
}

const HEAD: &str = "\
# Goodput

Simulated, by `HAUL_WRITE=1 cargo test --release --test campaign -- --ignored goodput`. One file of 100 round trips
alone on a link with a drop-tail queue of one BDP, unless the row says otherwise; median of the seeds, and the worst of
them. Ideal: rate x (1 - loss) x 1400/1518, Mbit/s of content. *Steady*: from the 20th round trip after the first
content to the last new byte. *Whole*: from the command's start to its end, where the session's own 5.5 round trips are
reckoned, not simulated. *Sent*: content, repetitions included, for each byte of the file. *Headers*: everything else in
IP packets both ways, for each byte of content sent. *Lost*, *queue*: of the link after start-up; the queue's mean delay
in round trips. The last column names what misses its bound.

| link | law | ideal | steady | worst | whole | sent | headers | spurious | lost | queue | misses |
|---|---|---|---|---|---|---|---|---|---|---|---|
";

#[test]
#[ignore = "a campaign: tens of minutes"]
fn goodput() {
    let seeds: u64 = setting("HAUL_SEEDS", 9);
    let only: String = setting("HAUL_ROWS", String::new());
    let rows: Vec<_> = rows().into_iter().filter(|row| row.spec.contains(&only)).collect();
    let tasks: Vec<_> = (0..rows.len()).flat_map(|row| (1..=seeds).map(move |seed| (row, seed))).collect();

    let mut results = on_all(&tasks, |&(row, seed)| rows[row].cell.run_seed(seed)).into_iter();

    let mut table = HEAD.to_owned();
    for row in &rows {
        let count = usize::try_from(seeds).expect("a few seeds");
        let outcome = Outcome { figures: results.by_ref().take(count).collect() };
        let line = row.line(&outcome);
        writeln!(table, "{line}").expect("a string takes all");
    }
    let small = Cell::new("rtt=100ms,rate=100mbit,loss=2%").file_bytes(1 << 20);
    let seeds: Vec<u64> = (1..=100).collect();
    // The last word is one and a half round trips behind the last byte.
    let rounds = median(on_all(&seeds, |&seed| small.run_seed(seed).rounds + 1.5));
    writeln!(
        table,
        "\n1 MiB at 100 Mbit/s, 100 ms and 2 % loss: {rounds:.1} round trips from the first content to the last word, \
         median of 100 seeds."
    )
    .expect("a string takes all");

    if setting("HAUL_WRITE", 0) == 1 {
        assert!(only.is_empty(), "a part of the table does not replace it");
        fs::write(beside("goodput.md"), &table).expect("the table can be written");
        return;
    }
    let before = fs::read_to_string(beside("goodput.md")).unwrap_or_default();
    let worse = worse(&before, &table);
    assert!(worse.is_empty(), "worse than goodput.md by more than a point:\n{}\n\n{table}", worse.join("\n"));
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |spec: String, bounds: (f64, f64)| {
        for (law, name) in [(Congestion::Bbr, "bbr"), (Congestion::Cubic, "cubic")] {
            let cell = Cell::new(&spec).file_rtts(100).law(law);
            let is_bound = name == "bbr";
            let within = |is_on: bool, bound: f64| (is_on && is_bound).then_some(bound);
            rows.push(Row {
                cell: if spec.contains("policer") { cell.behind(&device(&spec)) } else { cell },
                law: name,
                bounds: is_bound.then_some(bounds),
                loss: within(spec.contains("policer"), 0.03),
                queue: within(spec.contains("queue=4bdp"), 0.5),
                spurious: within(spec.contains("late="), 0.02),
                spec: spec.clone(),
            });
        }
    };
    for rate in [100, 300] {
        for rtt in [20, 100, 300] {
            let path = format!("rtt={rtt}ms,rate={rate}mbit");
            add(path.clone(), (0.92, 0.80));
            for loss in ["0.1", "1", "2", "5"] {
                add(format!("{path},loss={loss}%"), (0.90, 0.78));
            }
            add(format!("{path},loss=10%"), (0.80, 0.70));
            add(format!("{path},loss=1%,burst=8"), (0.80, 0.70));
            add(format!("{path},late=25%/20ms"), (0.88, 0.76));
            for queue in ["0.25", "8"] {
                add(format!("{path},queue={queue}bdp"), (0.75, 0.65));
            }
            add(format!("{path},queue=4bdp"), (0.75, 0.65));
            // Ten milliseconds, and 64 KiB at least.
            let bucket = (rate / 2 * 1000 / 8 * 10).max(65_536);
            add(format!("rtt={rtt}ms,rate={}mbit,policer={bucket}B", rate / 2), (0.75, 0.65));
        }
    }
    rows.extend(rougher_rows());
    rows
}

/// Paths that the specification's table doesn't have: several troubles at once, very slow and very fast lines.
fn rougher_rows() -> Vec<Row> {
    let row = |spec: &str, and: &str, cell: Cell, bounds| Row {
        spec: if and.is_empty() { spec.to_owned() } else { format!("{spec}; {and}") },
        cell: cell.file_rtts(100).law(Congestion::Bbr),
        law: "bbr",
        bounds: Some(bounds),
        loss: spec.contains("policer").then_some(0.03 + 0.02),
        queue: None,
        spurious: spec.contains("late=").then_some(0.02),
    };
    let mut rows = Vec::new();
    for (rate, rtt) in [(100, 20), (100, 100), (300, 300)] {
        let line = format!("rtt={rtt}ms,rate={rate}mbit");
        let lossy = format!("{line},loss=2%");
        let cell = || Cell::new(&lossy);
        let jitter = format!("jitter={}ms", rtt / 5);
        rows.push(row(
            &lossy,
            &format!("back {jitter}"),
            cell().back(&format!("{line},{jitter}")),
            (0.88, 0.76),
        ));
        rows.push(row(&lossy, "back loss=30%", cell().back(&format!("{line},loss=30%")), (0.88, 0.76)));
        rows.push(row(&lossy, "wakes each ms", cell().tick(Duration::from_millis(1)), (0.88, 0.76)));
        for (part, bounds) in
            [("late=25%/20ms", (0.80, 0.70)), ("queue=0.25bdp", (0.75, 0.65)), ("queue=0.1bdp", (0.75, 0.65))]
        {
            let spec = format!("{lossy},{part}");
            rows.push(row(&spec, "", Cell::new(&spec), bounds));
        }
        let bucket = (rate / 2 * 1000 / 8 * 10).max(65_536);
        let spec = format!("rtt={rtt}ms,rate={}mbit,loss=2%,policer={bucket}B", rate / 2);
        rows.push(row(&spec, "", Cell::new(&spec).behind(&device(&spec)), (0.75, 0.65)));
    }
    for (spec, bounds) in [
        ("rtt=1ms,rate=1000mbit", (0.75, 0.65)),
        ("rtt=10ms,rate=1000mbit", (0.90, 0.78)),
        ("rtt=50ms,rate=10mbit,loss=1%", (0.88, 0.76)),
        ("rtt=50ms,rate=1mbit,loss=1%,queue=4bdp", (0.80, 0.70)),
    ] {
        rows.push(row(spec, "", Cell::new(spec), bounds));
    }
    rows
}

/// The interface in front of a policer is twice as fast.
fn device(spec: &str) -> String {
    let policed = spec.split(',').find_map(|part| part.strip_prefix("rate=")?.strip_suffix("mbit"));
    let policed: u64 = policed.and_then(|rate| rate.parse().ok()).expect("a rate in Mbit/s");
    format!("rate={}mbit,queue=10ms", 2 * policed)
}

impl Row {
    fn line(&self, outcome: &Outcome) -> String {
        let percent = |value: f64| format!("{:.0} %", 100.0 * value);
        let of = |what: fn(&Figures) -> f64| outcome.median(what);
        let (steady, whole, payload) = (of(|it| it.steady), of(|it| it.whole), of(|it| it.payload));
        let worst = outcome.least(|it| it.steady);
        let (overhead, spurious, loss) = (of(|it| it.overhead), of(|it| it.spurious), of(|it| it.loss));
        let queue = of(|it| it.queue_rounds);
        let link_loss = self.cell.link().loss.as_ref().map_or(0.0, |loss| loss.share.as_fraction());
        let mut misses = Vec::new();
        if let Some((steady_bound, whole_bound)) = self.bounds {
            let mut check = |is_met: bool, what: &'static str| misses.extend((!is_met).then_some(what));
            check(outcome.figures.iter().all(|it| it.is_done), "end");
            check(steady >= steady_bound, "steady");
            check(whole >= whole_bound, "whole");
            check(worst >= 0.85 * steady, "worst");
            check(payload <= 1.03 / (1.0 - link_loss), "sent");
            check(overhead <= 0.06, "headers");
            check(self.loss.is_none_or(|bound| loss < bound), "lost");
            check(self.queue.is_none_or(|bound| queue <= bound), "queue");
            check(self.spurious.is_none_or(|bound| spurious < bound), "spurious");
        }
        format!(
            "| {} | {} | {:.1} | {} | {} | {} | {} | {} | {:.1} % | {:.1} % | {queue:.2} | {} |",
            self.spec,
            self.law,
            ideal_rate(self.cell.link()) * 8.0 / 1e6,
            percent(steady),
            percent(worst),
            percent(whole),
            percent(payload),
            percent(overhead),
            100.0 * spurious,
            100.0 * loss,
            misses.join(", "),
        )
    }
}

/// Rows of `after` whose steady or whole share is more than a point below that of `before`.
fn worse(before: &str, after: &str) -> Vec<String> {
    let (before, after) = (shares(before), shares(after));
    let mut worse = Vec::new();
    for (row, shares) in &after {
        let Some(earlier) = before.get(row) else { continue };
        for ((what, now), then) in ["steady", "whole"].iter().zip(shares).zip(earlier) {
            if now + 1 < *then {
                worse.push(format!("{row}: {what} {now} %, was {then} %"));
            }
        }
    }
    worse
}

/// Steady and whole share of each row, percent.
fn shares(table: &str) -> BTreeMap<String, [i64; 2]> {
    let percent = |cell: &str| cell.trim().strip_suffix(" %")?.parse().ok();
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').collect();
        let name = format!("{} {}", cells.get(1)?.trim(), cells.get(2)?.trim());
        Some((name, [percent(cells.get(4)?)?, percent(cells.get(6)?)?]))
    };
    table.lines().filter_map(row).collect()
}

#[test]
fn a_drop_of_more_than_a_point_is_noticed() {
    let table =
        |steady, whole| format!("{HEAD}| rtt=1ms | bbr | 9.2 | {steady} % | 90 % | {whole} % | x |\n");

    assert!(worse(&table(92, 80), &table(91, 79)).is_empty());
    assert_eq!(worse(&table(92, 80), &table(90, 80)).len(), 1);
    assert_eq!(worse(&table(92, 80), &table(90, 78)).len(), 2);
}
