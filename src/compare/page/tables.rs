//! Tables, each in a box of its own that scrolls where the screen is too narrow.

use super::tag::{Tag, tag};

/// A table in its box, below its title; the first column has the heads of the rows.
pub(super) fn table<T: AsRef<str>>(
    title: &str,
    columns: impl IntoIterator<Item = T>,
    rows: impl IntoIterator<Item = Tag>,
) -> Tag {
    let head = |column: T| match column.as_ref() {
        // A head without a word would be one that tells nothing.
        "" => tag("td"),
        column => tag("th").with("scope", "col").text(column),
    };
    let table = tag("table")
        .with("aria-label", title)
        .add(tag("thead").add(tag("tr").add_all(columns.into_iter().map(head))))
        .add(tag("tbody").add_all(rows));
    // Above the box and not a caption within, which would scroll out of sight.
    tag("div").add(tag("p").class("title").text(title)).add(scrolling(title, table))
}

/// What scrolls by itself; with keys as well.
pub(super) fn scrolling(name: &str, inside: Tag) -> Tag {
    tag("div").class("scroll").with("role", "region").with("aria-label", name).with("tabindex", 0).add(inside)
}

/// A plot's table, which is shown to those who want it.
pub(super) fn in_numbers(table: Tag) -> Tag {
    tag("details").class("numbers").add(tag("summary").text("The same in numbers")).add(table)
}
