//! Drawing: a canvas that tells those who cannot see it what it shows, lines and words.

use std::fmt::{Display, Write as _};

use super::tag::{Tag, tag};

/// Width of every canvas; a browser scales it.
pub(super) const WIDTH: f64 = 460.0;
/// Room that a line of text needs where a narrow screen makes it larger.
pub(super) const LINE_HEIGHT: f64 = 17.0;

/// Which end of a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Its start.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// An empty canvas of this height.
pub(super) fn canvas(id: &str, height: f64, title: &str, about: &str) -> Tag {
    tag("svg")
        .with("viewBox", format_args!("0 0 {WIDTH} {height}"))
        .with("role", "img")
        .with("aria-labelledby", format_args!("{id}-title {id}-about"))
        .add(tag("title").with("id", format_args!("{id}-title")).text(title))
        .add(tag("desc").with("id", format_args!("{id}-about")).text(about))
}

/// A line through these places.
pub(super) fn path(class: impl Display, places: impl IntoIterator<Item = (f64, f64)>) -> Tag {
    let mut data = String::new();
    for (x, y) in places {
        let command = if data.is_empty() { 'M' } else { 'L' };
        let _ = write!(data, "{command}{} {}", pixels(x), pixels(y));
    }
    tag("path").class(class).with("d", data)
}

/// Words; their baseline lies at the place.
pub(super) fn words(class: impl Display, place: (f64, f64), anchor: Anchor, text: impl Display) -> Tag {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    tag("text")
        .class(class)
        .with("x", pixels(place.0))
        .with("y", pixels(place.1))
        .with("text-anchor", anchor)
        .text(text)
}

/// A name as long as there is room for it.
pub(super) fn shortened(name: &str, chars_max: usize) -> String {
    if name.chars().count() <= chars_max {
        return name.to_owned();
    }
    name.chars().take(chars_max - 1).chain(['…']).collect()
}

/// To a tenth, which is finer than what a screen shows.
pub(super) fn pixels(place: f64) -> String {
    assert!(place.is_finite(), "what is no number is no place");
    let text = format!("{place:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_goes_from_place_to_place() {
        let path = path("line", [(0.0, 1.0), (2.25, 3.0)]).into_html();

        assert_eq!(path, "<path class=\"line\" d=\"M0 1L2.2 3\"></path>\n");
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(shortened("tcp/cubic", 9), "tcp/cubic");
        assert_eq!(shortened("tcp/cubic*4", 9), "tcp/cubi…");
    }
}
