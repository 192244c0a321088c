//! The goodput of every run as a dot: how far chance moves a result.

use super::axis::Axis;
use super::number::{DASH, rate};
use super::svg::{Anchor, WIDTH, canvas, path, pixels, shortened, words};
use super::tables::{in_numbers, table};
use super::tag::{Tag, tag};
use super::view::{Row, View};
use crate::compare::record::Record;

const LEFT: f64 = 12.0;
const RIGHT: f64 = WIDTH - 20.0;
/// The first name's line.
const TOP: f64 = 22.0;
/// From one contender to the next.
const ROW_HEIGHT: f64 = 46.0;
/// As many characters as stand beside a rate.
const NAME_CHARS: usize = 26;
const TITLE: &str = "Goodput of every run";

/// The plot with its numbers; none if nothing arrived in any run.
pub(super) fn figure(view: &View<'_>) -> Option<Tag> {
    let most = view.rows.iter().flat_map(|row| &row.runs).filter_map(|run| megabits(run)).reduce(f64::max)?;
    let link = view.any_run().and_then(|run| run.link_rate_bits_per_s).map(|rate| rate as f64 / 1e6);
    let axis = Axis::up_to(link.unwrap_or(0.0).max(most));
    let bottom = TOP + ROW_HEIGHT * view.rows.len() as f64;
    let rows = view.rows.iter().zip(0_u32..);
    let drawing = canvas(&view.id("dots"), bottom + 44.0, TITLE, &about(view))
        .add_all(scale(axis, bottom))
        .add_all(link.into_iter().flat_map(|link| bound(at(axis, link), bottom)))
        .add_all(rows.flat_map(|(row, place)| strip(row, axis, TOP + ROW_HEIGHT * f64::from(place))));
    Some(tag("figure").add(tag("figcaption").text(TITLE)).add(drawing).add(numbers(view)))
}

/// Of a run that brought something.
fn megabits(run: &Record) -> Option<f64> {
    Some(run.goodput_bits_per_s / 1e6).filter(|rate| rate.is_finite() && *rate > 0.0)
}

fn at(axis: Axis, megabits: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * axis.place(megabits)
}

fn scale(axis: Axis, bottom: f64) -> Vec<Tag> {
    let mut drawn = vec![path("grid", [(LEFT, bottom), (RIGHT, bottom)])];
    for (value, text) in axis.ticks() {
        let x = at(axis, value);
        drawn.push(path("grid", [(x, TOP), (x, bottom + 5.0)]));
        drawn.push(words("tick", (x, bottom + 19.0), Anchor::Middle, text));
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    drawn.push(words(
        "axis",
        (middle, bottom + 38.0),
        Anchor::Middle,
        "Mbit/s of the file, connecting included",
    ));
    drawn
}

fn bound(x: f64, bottom: f64) -> [Tag; 2] {
    [path("bound", [(x, TOP - 4.0), (x, bottom)]), words("axis", (x, TOP - 8.0), Anchor::End, "the link")]
}

/// One contender: its name, its median, its spread, its runs.
fn strip(row: &Row<'_>, axis: Axis, top: f64) -> Vec<Tag> {
    let (name_y, y) = (top + 16.0, top + 31.0);
    let class = row.look.class();
    let median = row.goodput_bits_per_s().map_or_else(|| "failed".to_owned(), rate);
    let name = words("name", (LEFT, name_y), Anchor::Start, shortened(row.contender(), NAME_CHARS))
        .add(tag("tspan").class("tick").with("dx", 8).text(median));
    let places: Vec<(f64, &Record)> =
        row.runs.iter().filter_map(|run| Some((at(axis, megabits(run)?), *run))).collect();
    let ends = |pick: fn(f64, f64) -> f64| places.iter().map(|place| place.0).reduce(pick);
    let spread = ends(f64::min)
        .zip(ends(f64::max))
        .map(|(from, to)| path(format_args!("spread {class}"), [(from, y), (to, y)]));
    let median = row.goodput_bits_per_s().map(|it| at(axis, it / 1e6));
    let median = median.map(|x| path(format_args!("median {class}"), [(x, y - 8.0), (x, y + 8.0)]));
    let dots = places.iter().map(|(x, run)| {
        let title = format!("{}, seed {}: {}", run.contender, run.seed, rate(run.goodput_bits_per_s));
        tag("circle")
            .class(format_args!("dot {class}"))
            .with("cx", pixels(*x))
            .with("cy", pixels(y))
            .with("r", 5)
            .add(tag("title").text(title))
    });
    [name].into_iter().chain(spread).chain(median).chain(dots).collect()
}

fn about(view: &View<'_>) -> String {
    let about = |row: &Row<'_>| {
        let spread = row.summary.goodput_bits_per_s;
        format!("{} {} to {}", row.contender(), rate(spread.min), rate(spread.max))
    };
    let rows: Vec<String> = view.rows.iter().map(about).collect();
    format!("A dot for each run. {}. The table below has the numbers.", rows.join("; "))
}

/// A row for each contender, a column for each seed.
fn numbers(view: &View<'_>) -> Tag {
    let mut seeds: Vec<u64> = view.rows.iter().flat_map(|row| &row.runs).map(|run| run.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let columns = ["".to_owned()].into_iter().chain(seeds.iter().map(|seed| format!("seed {seed}")));
    let row = |row: &Row<'_>| {
        let cell = |seed: &u64| {
            let run = row.runs.iter().find(|run| run.seed == *seed);
            let text = run.map_or(DASH.to_owned(), |run| match megabits(run) {
                Some(_) => rate(run.goodput_bits_per_s),
                None => "failed".to_owned(),
            });
            tag("td").text(text)
        };
        tag("tr").add(row.head()).add_all(seeds.iter().map(cell))
    };
    let caption = "Bits of the file a second, from start to exit of the command";
    in_numbers(table(caption, columns, view.rows.iter().map(row)))
}
