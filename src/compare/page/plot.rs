//! Lines over time, each with its name at its end, and the same in numbers.

use super::axis::Axis;
use super::number::{DASH, number};
use super::series::{Points, Together};
use super::svg::{Anchor, LINE_HEIGHT, WIDTH, canvas, path, shortened, words};
use super::tables::{in_numbers, table};
use super::tag::{Tag, tag};
use super::view::Look;

/// A plot.
pub(super) struct Plot<'a> {
    /// What anchors call it.
    pub(super) id: String,
    /// What it shows.
    pub(super) title: &'static str,
    /// What its values are, and their unit.
    pub(super) quantity: &'static str,
    /// One for each contender that has one.
    pub(super) lines: Vec<Line<'a>>,
    /// What the values are to be compared with, if there is something.
    pub(super) bound: Option<(&'static str, Points)>,
    /// One value for the points of a time from its start to its end.
    pub(super) together: Together,
}

/// A line of a plot; empty if nothing is known.
pub(super) struct Line<'a> {
    /// Whose.
    pub(super) name: &'a str,
    /// Colour and dash.
    pub(super) look: Look,
    /// Where it goes, by the time in seconds.
    pub(super) points: Points,
}

const HEIGHT: f64 = 272.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 36.0;
/// The names stand to the right.
const RIGHT: f64 = WIDTH - 102.0;
const BOTTOM: f64 = HEIGHT - 44.0;
/// As many characters as there is room for to the right.
const NAME_CHARS: usize = 11;
/// Room that a character needs at most.
const CHAR_WIDTH: f64 = 9.0;
/// A piece of the line before its name.
const KEY_WIDTH: f64 = 8.0;

impl Plot<'_> {
    /// The plot with its numbers; none without lines.
    pub(super) fn figure(&self) -> Option<Tag> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let bound = self.bound.iter().flat_map(|(_, points)| points);
        let frame = Frame {
            time: Axis::up_to(points.clone().map(|point| point.0).reduce(f64::max)?),
            value: Axis::up_to(points.chain(bound).map(|point| point.1).reduce(f64::max)?),
        };
        Some(
            tag("figure")
                .add(tag("figcaption").text(self.title))
                .add(self.drawing(frame))
                .add(self.numbers(frame.time)),
        )
    }

    fn drawing(&self, frame: Frame) -> Tag {
        let drawn = |line: &Line<'_>| {
            path(format_args!("line {}", line.look.class()), line.points.iter().map(|it| frame.at(*it)))
        };
        // To the right end, where its name stands.
        let bound = |(_, points): &(&str, Points)| {
            let end = points.last().map(|point| (frame.time.end(), point.1));
            path("bound", points.iter().copied().chain(end).map(|it| frame.at(it)))
        };
        canvas(&self.id, HEIGHT, self.title, &self.about())
            .add_all(frame.grid())
            .add(words("axis", (0.0, 16.0), Anchor::Start, self.quantity))
            .add_all(self.bound.iter().map(bound))
            .add_all(self.with_points().map(drawn))
            .add_all(self.names(frame))
    }

    fn with_points(&self) -> impl Iterator<Item = &Line<'_>> {
        self.lines.iter().filter(|line| !line.points.is_empty())
    }

    /// For those who do not see it.
    fn about(&self) -> String {
        let about = |line: &Line<'_>| {
            let until_s = line.points.last().map_or(0.0, |point| point.0);
            let most = line.points.iter().map(|point| point.1).fold(0.0, f64::max);
            format!("{} until {} s, at most {}", line.name, number(until_s), number(most))
        };
        let lines: Vec<String> = self.with_points().map(about).collect();
        format!("{} over time. {}. The table below has the numbers.", self.quantity, lines.join("; "))
    }

    /// Behind the end of each line, where the line was in its last fifth; moved apart.
    fn names(&self, frame: Frame) -> Vec<Tag> {
        let mut names: Vec<Name> = self
            .with_points()
            .map(|line| {
                let end = &line.points[line.points.len() * 4 / 5..];
                let level = end.iter().map(|point| point.1).sum::<f64>() / end.len() as f64;
                let at = line.points.last().map_or(0.0, |point| point.0);
                Name::new(shortened(line.name, NAME_CHARS), frame.at((at, level)), Some(line.look))
            })
            .collect();
        if let Some((name, (_, value))) =
            self.bound.as_ref().and_then(|(name, points)| Some((name, points.last()?)))
        {
            names.push(Name::new((*name).to_owned(), frame.at((frame.time.end(), *value)), None));
        }
        move_apart(&mut names);
        names.iter().flat_map(Name::drawn).collect()
    }

    /// Some rows, each for a part of the time.
    fn numbers(&self, time: Axis) -> Tag {
        let lines: Vec<&Line<'_>> = self.with_points().collect();
        let until_s = lines.iter().filter_map(|line| line.points.last()).map(|it| it.0).fold(0.0, f64::max);
        let columns = ["seconds"].into_iter().chain(lines.iter().map(|line| line.name));
        let moments: Vec<f64> = time.ticks().map(|(moment, _)| moment).collect();
        let halves = moments.windows(2).flat_map(|it| {
            let middle = f64::midpoint(it[0], it[1]);
            [(it[0], middle), (middle, it[1])]
        });
        let rows = halves.filter(|(from_s, _)| *from_s < until_s).map(|(from_s, to_s)| {
            let value = |line: &&Line<'_>| (self.together)(&line.points, from_s, to_s);
            let cell = |line| tag("td").text(value(line).map_or(DASH.to_owned(), number));
            let when = format!("{} to {}", number(from_s), number(to_s));
            tag("tr").add(tag("th").with("scope", "row").text(when)).add_all(lines.iter().map(cell))
        });
        in_numbers(table(self.quantity, columns, rows))
    }
}

/// Where values lie on the canvas.
#[derive(Clone, Copy)]
struct Frame {
    time: Axis,
    value: Axis,
}

impl Frame {
    fn at(self, (time, value): (f64, f64)) -> (f64, f64) {
        let x = LEFT + (RIGHT - LEFT) * self.time.place(time);
        (x, BOTTOM - (BOTTOM - TOP) * self.value.place(value))
    }

    /// What lies behind the lines.
    fn grid(self) -> Vec<Tag> {
        let mut drawn = Vec::new();
        for (value, text) in self.value.ticks() {
            let (x, y) = self.at((0.0, value));
            drawn.push(path("grid", [(x, y), (RIGHT, y)]));
            drawn.push(words("tick", (x - 7.0, y + 4.5), Anchor::End, text));
        }
        for (time, text) in self.time.ticks() {
            let (x, y) = self.at((time, 0.0));
            drawn.push(path("grid", [(x, y), (x, y + 5.0)]));
            drawn.push(words("tick", (x, y + 19.0), Anchor::Middle, text));
        }
        let middle = f64::midpoint(LEFT, RIGHT);
        drawn.push(words("axis", (middle, HEIGHT - 6.0), Anchor::Middle, "seconds since the start"));
        drawn
    }
}

/// A name at the end of its line.
struct Name {
    text: String,
    x: f64,
    y: f64,
    /// How its line is drawn, if it is a contender's.
    look: Option<Look>,
}

impl Name {
    fn new(text: String, (x, y): (f64, f64), look: Option<Look>) -> Self {
        Self { text, x: x + 6.0, y, look }
    }

    fn hides(&self, other: &Self) -> bool {
        let end = |name: &Self| name.x + CHAR_WIDTH * name.text.chars().count() as f64;
        self.x < end(other) && other.x < end(self)
    }

    fn drawn(&self) -> Vec<Tag> {
        let class = if self.look.is_some() { "name" } else { "axis" };
        let key = |look: Look| {
            path(format_args!("spread {}", look.class()), [(self.x, self.y), (self.x + KEY_WIDTH, self.y)])
        };
        let indent = self.look.map_or(0.0, |_| KEY_WIDTH + 4.0);
        let text = words(class, (self.x + indent, self.y + 4.5), Anchor::Start, &self.text);
        self.look.map(key).into_iter().chain([text]).collect()
    }
}

/// Down where one hides another, and up again where the canvas ends.
fn move_apart(names: &mut [Name]) {
    names.sort_by(|a, b| a.y.total_cmp(&b.y));
    for at in 1..names.len() {
        let (above, rest) = names.split_at_mut(at);
        let lowest = above.iter().filter(|it| it.hides(&rest[0])).map(|it| it.y + LINE_HEIGHT);
        rest[0].y = lowest.fold(rest[0].y, f64::max);
    }
    for at in (0..names.len()).rev() {
        let (rest, below) = names.split_at_mut(at + 1);
        let name = &mut rest[at];
        let highest = below.iter().filter(|it| it.hides(name)).map(|it| it.y - LINE_HEIGHT);
        name.y = highest.fold(name.y.min(BOTTOM), f64::min);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(x: f64, y: f64) -> Name {
        Name::new("tcp/cubic".to_owned(), (x, y), None)
    }

    #[test]
    fn names_at_one_place_are_moved_apart() {
        let mut names = [name(300.0, 100.0), name(300.0, 101.0), name(310.0, 99.0), name(100.0, 100.0)];

        move_apart(&mut names);

        let mut right: Vec<f64> = names.iter().filter(|it| it.x > 200.0).map(|it| it.y).collect();
        right.sort_by(f64::total_cmp);
        assert_eq!(right, [99.0, 99.0 + LINE_HEIGHT, 99.0 + 2.0 * LINE_HEIGHT]);
        assert_eq!(names.iter().find(|it| it.x < 200.0).unwrap().y, 100.0);
    }

    #[test]
    fn names_at_the_bottom_are_moved_up() {
        let mut names = [name(300.0, BOTTOM), name(300.0, BOTTOM), name(300.0, BOTTOM - 1.0)];

        move_apart(&mut names);

        let mut ys = names.map(|it| it.y);
        ys.sort_by(f64::total_cmp);
        assert_eq!(ys, [BOTTOM - 2.0 * LINE_HEIGHT, BOTTOM - LINE_HEIGHT, BOTTOM]);
    }

    #[test]
    fn without_lines_there_is_no_plot() {
        let plot = Plot {
            id: "x".to_owned(),
            title: "nothing",
            quantity: "Mbit/s",
            lines: Vec::new(),
            bound: Some(("the link", vec![(0.0, 40.0)])),
            together: super::super::series::mean,
        };

        assert!(plot.figure().is_none());
    }
}
