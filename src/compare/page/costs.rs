//! What a contender brought and what it cost.

use super::super::summary::Spread;
use super::number::{DASH, milliseconds, number, percent, rate, seconds};
use super::tables::table;
use super::tag::{Tag, tag};
use super::view::{Row, View};
use crate::units;

const COLUMNS: [&str; 10] = [
    "",
    "goodput",
    "min to max",
    "of the link",
    "time",
    "sent again",
    "queue",
    "CPU s/GB, sender",
    "CPU s/GB, receiver",
    "memory",
];

/// The table of costs.
pub(super) fn costs(view: &View<'_>) -> Tag {
    table("What it brought and what it cost: medians", COLUMNS, view.rows.iter().map(row))
}

fn row(row: &Row<'_>) -> Tag {
    let it = row.summary;
    let goodput = row.goodput_bits_per_s();
    let range = format!("{} to {}", rate(it.goodput_bits_per_s.min), rate(it.goodput_bits_per_s.max));
    let median = |spread: Option<Spread>, text: fn(f64) -> String| {
        tag("td").text(spread.map_or(DASH.to_owned(), |it| text(it.median)))
    };
    let elapsed = goodput.is_some().then_some(it.elapsed_s);
    tag("tr")
        .add(row.head())
        .add(tag("td").class("main").text(goodput.map_or_else(|| "failed".to_owned(), rate)))
        .add(tag("td").text(if row.runs.len() > 1 { range } else { DASH.to_owned() }))
        .add(median(it.link_share_percent, percent))
        .add(median(elapsed, seconds))
        .add(median(it.sent_again_percent, percent))
        .add(median(it.queue_delay_mean_s, milliseconds))
        .add(median(it.sender_cpu_s_per_gb, number))
        .add(median(it.receiver_cpu_s_per_gb, number))
        .add(tag("td").text(it.peak_rss_bytes.map_or(DASH.to_owned(), units::bytes)))
}
