//! Elements of HTML and SVG: every one is closed and every text escaped, because nothing else can be written with them.

use std::fmt::{Display, Write as _};

/// An element with what stands in it.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    name: &'static str,
    /// As they stand behind the name, a space before each.
    attributes: String,
    /// As it stands between the two ends.
    inside: String,
}

/// An element with nothing in it.
pub(super) fn tag(name: &'static str) -> Tag {
    Tag { name, attributes: String::new(), inside: String::new() }
}

impl Tag {
    /// With an attribute.
    pub(super) fn with(mut self, name: &'static str, value: impl Display) -> Self {
        let _ = write!(self.attributes, " {name}=\"{}\"", escaped(&value.to_string()));
        self
    }

    /// Of these classes.
    pub(super) fn class(self, names: impl Display) -> Self {
        self.with("class", names)
    }

    /// With text behind what is in it.
    pub(super) fn text(mut self, text: impl Display) -> Self {
        self.inside.push_str(&escaped(&text.to_string()));
        self
    }

    /// With an element behind what is in it.
    pub(super) fn add(mut self, child: Self) -> Self {
        self.inside.push_str(&child.into_html());
        self
    }

    /// With elements behind what is in it.
    pub(super) fn add_all(self, children: impl IntoIterator<Item = Self>) -> Self {
        children.into_iter().fold(self, Self::add)
    }

    /// As it stands in a file.
    pub(super) fn into_html(self) -> String {
        let Self { name, attributes, inside } = self;
        let end = if LINES.contains(&name) { "\n" } else { "" };
        format!("<{name}{attributes}>{inside}</{name}>{end}")
    }
}

/// Elements that end a line of the file; a space behind one is not seen.
const LINES: [&str; 16] = [
    "p", "h1", "h2", "h3", "ul", "li", "tr", "table", "figure", "svg", "path", "section", "details",
    "summary", "pre", "div",
];

/// Text as it may stand between tags and in quoted attributes. What is not seen, or turns the direction of what is, is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(char),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push(char::REPLACEMENT_CHARACTER),
            char if char.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element_nor_a_value_its_quotes() {
        let it = tag("b").with("title", "\" onclick='x'").text("</b><script>&\u{1b}\u{202e}");

        assert_eq!(
            it.into_html(),
            "<b title=\"&quot; onclick=&#39;x&#39;\">&lt;/b&gt;&lt;script&gt;&amp;\u{fffd}\u{fffd}</b>"
        );
    }

    #[test]
    fn elements_stand_in_elements_in_order() {
        let it = tag("p").text("a").add(tag("b").text("c")).add_all([tag("i"), tag("u")]).text("d");

        assert_eq!(it.into_html(), "<p>a<b>c</b><i></i><u></u>d</p>\n");
    }
}
