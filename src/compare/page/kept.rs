//! What was kept of what each transport promises: what its program saw, and beneath it what the link did.

use super::super::guarantee::{Guarantees, Kept};
use super::number::{DASH, count, percent};
use super::tables::table;
use super::tag::{Tag, tag};
use super::view::{Row, View};
use crate::units;

const COLUMNS: [&str; 9] = [
    "",
    "lost",
    "out of order",
    "damaged",
    "arrived twice",
    "reads that end inside a message",
    "dropped by its socket",
    "its counts and the link's",
    "intact by SHA\u{2011}256",
];

/// The table of guarantees, of all runs together.
pub(super) fn kept(view: &View<'_>) -> Tag {
    table(
        "What the receiving program saw in all runs; in small, to how many packets the link did it",
        COLUMNS,
        view.rows.iter().map(row),
    )
}

fn row(row: &Row<'_>) -> Tag {
    let runs: Vec<&Guarantees> = row.runs.iter().map(|run| &run.guarantees).collect();
    let unit = runs
        .first()
        .filter(|it| !it.unit.is_empty())
        .map(|it| tag("small").text(format_args!("in {}", it.unit)));
    let all = |kept: fn(&Guarantees) -> Kept| both(&runs, kept);
    tag("tr")
        .add(row.head().add_all(unit))
        .add(all(|it| it.lost))
        .add(all(|it| it.out_of_order))
        .add(all(|it| it.damaged))
        .add(all(|it| it.duplicated))
        .add(cut_reads(&runs))
        .add(tag("td").text(sum(&runs, |it| it.receiver_drops).map_or(DASH.to_owned(), count)))
        .add(tag("td").text(accounts(&runs)))
        .add(tag("td").text(intact(row)))
}

/// What was seen, and beneath it what was done.
fn both(runs: &[&Guarantees], kept: fn(&Guarantees) -> Kept) -> Tag {
    let seen = sum(runs, |it| kept(it).seen);
    let cell = tag("td").text(seen.map_or(DASH.to_owned(), count));
    let beneath = sum(runs, |it| kept(it).beneath);
    cell.add_all(beneath.map(|beneath| tag("small").text(format_args!("link: {}", count(beneath)))))
}

/// A sum, if every run has it.
fn sum(runs: &[&Guarantees], part: impl Fn(&Guarantees) -> Option<u64>) -> Option<u64> {
    runs.iter().map(|it| part(it)).reduce(|a, b| Some(a?.saturating_add(b?))).flatten()
}

/// Their share, and their number.
fn cut_reads(runs: &[&Guarantees]) -> Tag {
    let boundaries = || runs.iter().filter_map(|it| it.boundaries);
    let reads: u64 = boundaries().map(|it| it.reads).fold(0, u64::saturating_add);
    let inside: u64 = boundaries().map(|it| it.inside_message).fold(0, u64::saturating_add);
    if reads == 0 {
        return tag("td").text(DASH);
    }
    let share = percent(100.0 * inside as f64 / reads as f64);
    let counts = format!("{} of {}", count(inside), count(reads));
    tag("td").text(share).add(tag("small").text(counts))
}

/// Of raw UDP, whether every datagram is accounted for.
fn accounts(runs: &[&Guarantees]) -> String {
    let all: Vec<bool> = runs.iter().filter_map(|it| it.accounts).map(|it| it.agree()).collect();
    let agree = all.iter().filter(|agree| **agree).count();
    match all.len() {
        0 => DASH.to_owned(),
        len if agree == len => format!("agree in {}", units::counted(len as u64, "run")),
        len => format!("DIFFER in {} of {len}", len - agree),
    }
}

fn intact(row: &Row<'_>) -> String {
    let (intact, damaged) = (row.summary.intact, row.summary.damaged);
    match (intact, damaged) {
        (0, 0) => DASH.to_owned(),
        (_, 0) => format!("yes, {}", units::counted(intact as u64, "run")),
        (0, _) => format!("NO, {}", units::counted(damaged as u64, "run")),
        _ => format!("{intact} of {}", intact + damaged),
    }
}
