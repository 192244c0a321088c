//! One scenario: what the link does, what each contender brought, kept and cost, why, and what speaks against the numbers.

use super::super::record::Record;
use super::costs::costs;
use super::dots;
use super::kept::kept;
use super::number::list;
use super::plot::{Line, Plot};
use super::series::{self, Points, arriving, dropped, link_rate, round_trip};
use super::tag::{Tag, tag};
use super::verdict::verdict;
use super::view::{Row, View};
use super::words::Lane;
use crate::units::{self, counted};

/// As many doubts as are shown without asking.
const DOUBTS_SHOWN: usize = 4;

/// A section, or with many scenarios one that is opened on demand; lines have at most so many points.
pub(super) fn section(view: &View<'_>, is_one_of_many: bool, points_max: usize) -> Tag {
    let title = tag("h2").text(view.name);
    let verdict = |name| tag(name).class("verdict").text(format_args!("{}.", verdict(view)));
    let inside = [link(view)].into_iter().chain(doubts(view)).chain(why(view)).chain([
        plots(view, points_max),
        costs(view),
        kept(view),
    ]);
    if is_one_of_many {
        let summary = tag("summary").add(title).add(verdict("span"));
        tag("details").class("scenario").add(summary).add_all(inside)
    } else {
        tag("section").class("scenario").add(title).add(verdict("p")).add_all(inside)
    }
}

/// What lies between the two ends, and what is sent.
fn link(view: &View<'_>) -> Tag {
    let mut paragraph = tag("p").class("link").with("id", view.id("link"));
    paragraph = match &view.link {
        Some(link) => described(paragraph, link),
        None => paragraph.text("No emulated link: nobody counts what happens to packets on the way."),
    };
    if let Some(back) = &view.back {
        paragraph = described(paragraph.text(" Back to the sender: "), back);
    }
    let Some(run) = view.any_run() else { return paragraph };
    let runs = counted(view.runs_each() as u64, "run");
    paragraph.text(format_args!(" A file of {}, {runs} each.", units::bytes(run.file_bytes)))
}

fn described(paragraph: Tag, lane: &Lane) -> Tag {
    paragraph.text(lane.in_words()).text(". SPEC: ").add(tag("code").text(&lane.spec)).text(".")
}

/// What speaks against the numbers; what is said of several contenders, once.
fn doubts(view: &View<'_>) -> Option<Tag> {
    let mut said: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in &view.rows {
        for doubt in &row.summary.doubts {
            match said.iter_mut().find(|(what, _)| what == doubt) {
                Some((_, who)) => who.push(row.contender()),
                None => said.push((doubt, vec![row.contender()])),
            }
        }
    }
    let item = |(doubt, who): &(&str, Vec<&str>)| match who.len() {
        all if all == view.rows.len() => tag("li").text(doubt),
        _ => tag("li").add(tag("b").text(list(who))).text(": ").text(doubt),
    };
    let mut items: Vec<Tag> = said.iter().map(item).collect();
    let rest = items.split_off(items.len().min(DOUBTS_SHOWN));
    let shown = (!items.is_empty()).then(|| warning("What speaks against these numbers", items))?;
    if rest.is_empty() {
        return Some(shown);
    }
    let summary = tag("summary").text(format_args!("{} more", rest.len()));
    Some(shown.add(tag("details").add(summary).add(tag("ul").add_all(rest))))
}

/// A box that is not overlooked.
pub(super) fn warning(title: &str, items: Vec<Tag>) -> Tag {
    let head = tag("p").class("head").text(title);
    tag("div").class("warning").with("role", "note").add(head).add(tag("ul").add_all(items))
}

fn why(view: &View<'_>) -> Option<Tag> {
    let told = |row: &Row<'_>| {
        let why = &row.typical?.why;
        let who = tag("dt").add(row.look.key()).text(row.contender());
        (!why.is_empty()).then(|| [who, tag("dd").text(why.join(" "))])
    };
    let told: Vec<Tag> = view.rows.iter().filter_map(told).flatten().collect();
    (!told.is_empty()).then(|| tag("dl").class("why").add_all(told))
}

/// What can be seen of runs: all of them as dots, the typical one of each contender over time.
fn plots(view: &View<'_>, points_max: usize) -> Tag {
    let over_time =
        [arriving_plot(view, points_max), dropped_plot(view, points_max), rtt_plot(view, points_max)];
    let figures = dots::figure(view).into_iter().chain(over_time.iter().filter_map(Plot::figure));
    tag("div").class("plots").add_all(figures)
}

fn arriving_plot<'a>(view: &'a View<'_>, points_max: usize) -> Plot<'a> {
    let lines = lines(view, points_max, arriving);
    // What a trace carries at each moment is not known here.
    let link = view.link.as_ref().filter(|link| link.trace.is_none()).and_then(|link| link.config.as_ref());
    let rate = link.map_or_else(Points::new, |link| link_rate(link, end_s(&lines)));
    Plot {
        id: view.id("arriving"),
        title: "Throughput over time, of the typical run",
        quantity: "arriving at the receiver, Mbit/s",
        lines,
        bound: (!rate.is_empty()).then_some(("the link", rate)),
        together: series::mean,
    }
}

fn dropped_plot<'a>(view: &'a View<'_>, points_max: usize) -> Plot<'a> {
    Plot {
        id: view.id("dropped"),
        title: "Loss over time, of the typical run",
        quantity: "packets dropped by the link so far",
        lines: lines(view, points_max, dropped),
        bound: None,
        together: series::last,
    }
}

fn rtt_plot<'a>(view: &'a View<'_>, points_max: usize) -> Plot<'a> {
    let lines = lines(view, points_max, round_trip);
    let rtt_ms = view.any_run().and_then(|run| run.link_rtt_s).map(|rtt_s| rtt_s * 1e3);
    let bound = rtt_ms.filter(|rtt| rtt.is_finite()).map(|rtt| vec![(0.0, rtt), (end_s(&lines), rtt)]);
    Plot {
        id: view.id("rtt"),
        title: "Delay over time, of the typical run",
        quantity: "round trip with queue, ms",
        lines,
        bound: bound.map(|points| ("no queue", points)),
        together: series::mean,
    }
}

/// A line for each contender.
fn lines<'a>(view: &'a View<'_>, points_max: usize, of: fn(&Record, usize) -> Points) -> Vec<Line<'a>> {
    let line = |row: &'a Row<'_>| {
        let points = row.typical.map_or_else(Points::new, |run| of(run, points_max));
        Line { name: row.contender(), look: row.look, points }
    };
    view.rows.iter().map(line).collect()
}

/// The last moment of all.
fn end_s(lines: &[Line<'_>]) -> f64 {
    lines.iter().filter_map(|line| line.points.last()).map(|point| point.0).fold(0.0, f64::max)
}
