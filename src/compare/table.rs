//! What a person reads, in 80 columns: for each scenario a table of costs, a table of guarantees, and why.

use std::fmt::Write as _;

use super::guarantee::{Guarantees, Kept};
use super::record::Record;
use super::summary::{RUNS_ENOUGH, Spread, Summary};
use crate::units;

/// As wide as a terminal is at least.
const WIDTH: usize = 80;

/// All scenarios.
pub fn table(records: &[Record], summaries: &[Summary]) -> String {
    let mut text = String::new();
    let mut scenarios: Vec<&str> = Vec::new();
    for summary in summaries {
        if !scenarios.contains(&summary.scenario.as_str()) {
            scenarios.push(&summary.scenario);
        }
    }
    for name in scenarios {
        let of_it: Vec<&Summary> = summaries.iter().filter(|it| it.scenario == name).collect();
        let runs: Vec<&Record> = records.iter().filter(|it| it.scenario == name && !it.is_warmup).collect();
        if !text.is_empty() {
            text.push('\n');
        }
        scenario(&mut text, name, &runs, &of_it);
    }
    text
}

fn scenario(text: &mut String, name: &str, runs: &[&Record], summaries: &[&Summary]) {
    let Some(first) = runs.first() else { return };
    let what = first.link.as_deref().map(without_seed);
    let title = match what {
        Some(link) if link == name => name.to_owned(),
        Some(link) => format!("{name}: {link}"),
        None => name.to_owned(),
    };
    let many = summaries.iter().map(|it| it.runs + it.failed).max().unwrap_or(0);
    wrapped(
        text,
        &format!(
            "{title}; {}, {}",
            units::bytes(first.file_bytes),
            units::counted(many as u64, "run") + " each"
        ),
        "",
    );
    text.push('\n');
    costs(text, summaries, many >= RUNS_ENOUGH);
    text.push('\n');
    guarantees(text, runs, summaries);
    text.push('\n');
    for summary in summaries {
        if let Some(run) = typical(runs, summary) {
            for why in &run.why {
                wrapped(text, &format!("{:<12} {why}", fitted(&summary.contender)), &" ".repeat(13));
            }
        }
    }
    doubts(text, summaries);
}

/// With enough runs the spread stands where else the time does: of equal files, one says the other.
fn costs(text: &mut String, summaries: &[&Summary], has_spread: bool) {
    let second = if has_spread { "min to max" } else { "time" };
    let _ = writeln!(
        text,
        "{:<12} {:>11} {second:>12} {:>6} {:>6} {:>7} {:>11} {:>7}",
        "", "goodput", "link", "again", "queue", "CPU s/GB", "memory"
    );
    for it in summaries {
        let goodput = it.goodput_bits_per_s;
        let second = if has_spread { range(goodput) } else { seconds(it.elapsed_s.median) };
        let cpu = match (it.sender_cpu_s_per_gb, it.receiver_cpu_s_per_gb) {
            (Some(sender), Some(receiver)) => format!("{}+{}", short(sender.median), short(receiver.median)),
            (Some(one), None) | (None, Some(one)) => short(one.median),
            (None, None) => "-".to_owned(),
        };
        let shown = |spread: Option<Spread>, as_text: fn(f64) -> String| {
            spread.map_or("-".to_owned(), |it| as_text(it.median))
        };
        let _ = writeln!(
            text,
            "{:<12} {:>11} {second:>12} {:>6} {:>6} {:>7} {cpu:>11} {:>7}",
            fitted(&it.contender),
            if it.runs + it.failed > 0 && goodput.median > 0.0 {
                units::bit_rate(goodput.median)
            } else {
                "failed".to_owned()
            },
            shown(it.link_share_percent, |share| format!("{} %", short(share))),
            shown(it.sent_again_percent, |share| format!("{} %", short(share))),
            shown(it.queue_delay_mean_s, |delay| format!("{} ms", short(delay * 1000.0))),
            it.peak_rss_bytes.map_or("-".to_owned(), units::bytes),
        );
    }
}

/// What each program saw, and in brackets what the link did to its packets.
fn guarantees(text: &mut String, runs: &[&Record], summaries: &[&Summary]) {
    let _ = writeln!(
        text,
        "{:<12} {:>13} {:>14} {:>11} {:>11} {:>7} {:>6}",
        "seen (done)", "lost", "out of order", "damaged", "doubled", "cut", "intact"
    );
    for it in summaries {
        let own: Vec<&Guarantees> =
            runs.iter().filter(|run| run.contender == it.contender).map(|run| &run.guarantees).collect();
        let sum = |kept: fn(&Guarantees) -> Kept| {
            let add = |part: fn(Kept) -> Option<u64>| {
                own.iter().map(|it| part(kept(it))).reduce(|a, b| Some(a? + b?)).flatten()
            };
            let (seen, beneath) = (add(|it| it.seen), add(|it| it.beneath));
            let seen = seen.map_or("-".to_owned(), count);
            beneath.map_or(seen.clone(), |it| format!("{seen} ({})", count(it)))
        };
        let intact = match (it.intact, it.damaged) {
            (0, 0) => "-".to_owned(),
            (_, 0) => "yes".to_owned(),
            (0, _) => "NO".to_owned(),
            (some, others) => format!("{some}/{}", some + others),
        };
        let _ = writeln!(
            text,
            "{:<12} {:>13} {:>14} {:>11} {:>11} {:>7} {intact:>6}",
            fitted(&it.contender),
            sum(|it| it.lost),
            sum(|it| it.out_of_order),
            sum(|it| it.damaged),
            sum(|it| it.duplicated),
            cut_reads(&own),
        );
    }
}

/// Share of the reads that ended inside a message.
fn cut_reads(runs: &[&Guarantees]) -> String {
    let boundaries = runs.iter().filter_map(|it| it.boundaries);
    let (reads, inside) = boundaries.fold((0, 0), |sum, it| (sum.0 + it.reads, sum.1 + it.inside_message));
    if reads == 0 { "-".to_owned() } else { format!("{} %", short(100.0 * inside as f64 / reads as f64)) }
}

/// The run whose goodput is nearest to the median.
pub(super) fn typical<'a>(runs: &[&'a Record], summary: &Summary) -> Option<&'a Record> {
    let distance = |run: &Record| (run.goodput_bits_per_s - summary.goodput_bits_per_s.median).abs();
    let own = runs.iter().filter(|run| run.contender == summary.contender);
    own.min_by(|a, b| distance(a).total_cmp(&distance(b))).copied()
}

/// What all contenders share is said once.
fn doubts(text: &mut String, summaries: &[&Summary]) {
    let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
    for summary in summaries {
        for doubt in &summary.doubts {
            match said.iter_mut().find(|(what, _)| what == doubt) {
                Some((_, who)) => who.push(&summary.contender),
                None => said.push((doubt, vec![&summary.contender])),
            }
        }
    }
    for (doubt, who) in said {
        let who = if who.len() == summaries.len() { String::new() } else { format!("{}: ", who.join(", ")) };
        wrapped(text, &format!("! {who}{doubt}"), "  ");
    }
}

/// A link as one reads it; the seed differs from round to round.
fn without_seed(link: &str) -> String {
    let parts: Vec<&str> = link.split(',').filter(|part| !part.starts_with("seed=")).collect();
    parts.join(",")
}

fn wrapped(text: &mut String, line: &str, indent: &str) {
    let mut column = 0;
    for (at, word) in line.split(' ').enumerate() {
        let len = word.chars().count();
        if at > 0 && column + 1 + len > WIDTH {
            text.push('\n');
            text.push_str(indent);
            column = indent.len();
        } else if at > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += len;
    }
    text.push('\n');
}

/// In as many columns as there are for it.
fn fitted(contender: &str) -> String {
    const COLUMNS: usize = 12;
    if contender.chars().count() <= COLUMNS {
        return contender.to_owned();
    }
    contender.chars().take(COLUMNS - 1).chain(['…']).collect()
}

fn range(spread: Spread) -> String {
    let (scale, places) = match spread.max {
        1e9.. => (1e9, 2),
        100e6.. => (1e6, 0),
        1e6.. => (1e6, 1),
        _ => (1e3, 0),
    };
    format!("{:.places$} to {:.places$}", spread.min / scale, spread.max / scale)
}

fn seconds(time: f64) -> String {
    if time < 10.0 { format!("{time:.2} s") } else { format!("{time:.1} s") }
}

/// A count in at most four columns, if it is less than 10,000,000.
fn count(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..10_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

/// A number in at most four columns, if it is less than 10,000.
fn short(number: f64) -> String {
    match number {
        10.0.. => format!("{number:.0}"),
        1.0..10.0 => format!("{number:.1}"),
        0.005..1.0 => format!("{number:.2}"),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::record::{Cost, Wire};

    fn run(contender: &str, round: u32) -> Record {
        let kept = Kept { seen: Some(1_234_567), beneath: Some(123_456) };
        Record {
            scenario: "a far place with a long name".to_owned(),
            link: Some("rtt=280ms,rate=100mbit,queue=50ms,loss=2%,burst=4,dup=1%,corrupt=0.5%,seed=77".to_owned()),
            contender: contender.to_owned(),
            round,
            file_bytes: 123_456_789,
            goodput_bits_per_s: 98_765_432.1 + f64::from(round),
            elapsed_s: 12.34,
            link_share_percent: Some(98.7),
            sent_again_percent: Some(12.3),
            wire: Some(Wire { queue_delay_mean_s: 0.123, ..Wire::default() }),
            sender: Some(Cost { cpu_s: 1.0, cpu_s_per_gb: Some(12.3), peak_rss_bytes: 123_456_789 }),
            receiver: Some(Cost { cpu_s: 1.0, cpu_s_per_gb: Some(123.4), peak_rss_bytes: 123_456_789 }),
            guarantees: Guarantees {
                lost: kept,
                out_of_order: kept,
                damaged: Kept { seen: Some(12_345), beneath: Some(1234) },
                duplicated: Kept { seen: Some(12_345), beneath: Some(1234) },
                is_intact: Some(true),
                ..Guarantees::default()
            },
            why: vec!["A sentence that is long enough to be wrapped, since nobody wants to turn their head to read it.".to_owned()],
            ..Record::default()
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        for rounds in [1, 5] {
            let names = ["tcp/cubic*64", "udp/bbr", "a rival with a name that never ends"];
            let runs: Vec<Record> =
                names.iter().flat_map(|name| (0..rounds).map(|round| run(name, round))).collect();
            let text = table(&runs, &Summary::all(&runs));

            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
            assert!(text.contains("a rival wit…"), "{text}");
            assert!(text.contains("98.8 Mbit/s"), "{text}");
        }
    }

    #[test]
    fn a_spread_stands_there_only_if_there_are_enough_runs() {
        let text = |rounds: u32| {
            let runs: Vec<Record> = (0..rounds).map(|round| run("udp/bbr", round)).collect();
            table(&runs, &Summary::all(&runs))
        };

        assert!(text(1).contains("12.3 s") && text(1).contains("too few for a spread"));
        assert!(text(3).contains("min to max") && !text(3).contains("too few"));
    }
}
