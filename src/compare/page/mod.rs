//! The page for a browser: one file of HTML that needs nothing else, with all that was measured.
//!
//! ```text
//! view                        the comparison, scenario by scenario, contender by contender
//! heat                        first, if there is a grid of loss and round trip: what each contender kept of the link
//! section                     a scenario: its link in `words`, its `verdict`, why, doubts, and
//!   dots                        the goodput of every run
//!   series --> plot             lines over time
//!   costs, kept                 the tables
//! facts                       the machine and the commands, last
//! axis, svg                   beneath the plots
//! tables, number, tag         beneath all of it
//! style.css                   colours, dashes and sizes; nothing of these is in the code
//! ```
//!
//! The page runs no script and loads nothing; its policy forbids a browser both. Text of a record is written by `tag` alone, which
//! escapes it: a contender's name or an error may hold anything. Every plot has a title, a description and a table with the same
//! numbers, and every colour a dash or a number beside it.

mod axis;
mod costs;
mod dots;
mod facts;
mod heat;
mod kept;
mod number;
mod plot;
mod section;
mod series;
mod svg;
mod tables;
mod tag;
#[cfg(test)]
mod tests;
mod verdict;
mod view;
mod words;

use super::comparison::Comparison;
use crate::units::counted;
use number::{list, moment};
use section::{section, warning};
use tag::{Tag, tag};
use view::View;

/// With more scenarios, each is opened on demand.
const OPEN_MAX: usize = 4;

/// The page.
pub fn page(comparison: &Comparison) -> String {
    let views = View::all(comparison);
    let title = title(comparison, &views);
    let is_many = views.len() > OPEN_MAX;
    let points_max = series::points_max(views.len());
    let main = tag("main")
        .add(header(comparison, &views, &title))
        .add_all(notes(comparison))
        .add_all(heat::maps(&views))
        .add_all(overview(&views, is_many))
        .add_all(views.iter().map(|view| section(view, is_many, points_max)))
        .add_all(facts::facts(comparison, &views))
        .into_html();
    let title = tag("title").text(format_args!("haul compare: {title}")).into_html();
    format!("{HEAD}<style>\n{STYLE}</style>\n{title}\n</head>\n<body>\n{main}\n</body>\n</html>\n")
}

/// All that is not written by `tag`, since it has no ends.
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <meta name=\"color-scheme\" content=\"light dark\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n";
const STYLE: &str = include_str!("style.css");

/// Who over what.
fn title(comparison: &Comparison, views: &[View<'_>]) -> String {
    let mut contenders: Vec<&str> = Vec::new();
    for summary in &comparison.summaries {
        if !contenders.contains(&summary.contender.as_str()) {
            contenders.push(&summary.contender);
        }
    }
    let name = |view: &View<'_>| match view.name {
        words if words.contains(' ') => format!("“{words}”"),
        word => word.to_owned(),
    };
    let what = match views {
        [] => "nothing".to_owned(),
        all if all.len() <= OPEN_MAX => list(&all.iter().map(name).collect::<Vec<_>>()),
        all if all.iter().all(|view| view.link.is_some()) => counted(all.len() as u64, "link"),
        all => counted(all.len() as u64, "path"),
    };
    if contenders.is_empty() { "no runs".to_owned() } else { format!("{} over {what}", list(&contenders)) }
}

fn header(comparison: &Comparison, views: &[View<'_>], title: &str) -> Tag {
    let machine = &comparison.machine;
    let runs = views.iter().map(View::runs_each).max().unwrap_or(0);
    let facts = format!(
        "{} each; haul {} ({} build), {}, {}",
        counted(runs as u64, "run"),
        machine.haul,
        machine.build,
        machine.kernel,
        moment(machine.unix_time_s)
    );
    tag("header")
        .add(tag("p").class("kicker").text("haul compare: the same file over the same link"))
        .add(tag("h1").text(title))
        .add(tag("p").class("quiet").text(facts))
}

/// What a reader has to know before all numbers.
fn notes(comparison: &Comparison) -> Option<Tag> {
    let mut notes = comparison.caveats.clone();
    if comparison.is_quick_look {
        notes.push(
            "a quick look: one run each, which shows no spread; `haul compare --link SPEC` repeats"
                .to_owned(),
        );
    }
    if comparison.left_out > 0 {
        notes.push(format!("{} left out: the time was up", counted(comparison.left_out as u64, "run")));
    }
    let notes: Vec<Tag> = notes.iter().map(|note| tag("li").text(note)).collect();
    (!notes.is_empty()).then(|| warning("Before you read on", notes))
}

/// The verdicts, where they do not stand below each other anyway.
fn overview(views: &[View<'_>], is_many: bool) -> Option<Tag> {
    let item = |view: &View<'_>| {
        let link = tag("a").with("href", format_args!("#{}", view.id("link"))).text(view.name);
        tag("li").add(link).text(": ").text(verdict::verdict(view))
    };
    let is_told = !is_many && views.len() > 1;
    let list = || tag("ul").class("verdicts").add_all(views.iter().map(item));
    is_told.then(|| tag("section").with("id", "verdicts").add(tag("h2").text("In short")).add(list()))
}
