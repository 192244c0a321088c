//! A request with wildcards: one matcher for each component, so that none can cross a slash, `**` included.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobMatcher};

use crate::file::path::RelPath;

/// The components of a request, outermost first; at least one is a wildcard.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Component>);

#[derive(Debug)]
enum Component {
    /// Exactly this name.
    Literal(Vec<u8>),
    /// Every name that matches.
    Wildcard(Box<GlobMatcher>),
}

impl Pattern {
    /// The pattern in `request`; `None` when there is none, or none that is valid.
    pub(super) fn parse(request: &RelPath) -> Option<Self> {
        let components = request.components().map(Component::parse).collect::<Option<Vec<_>>>()?;
        components.iter().any(|c| matches!(c, Component::Wildcard(_))).then_some(Self(components))
    }

    /// Whether `name` may stand at the component `at`.
    pub(super) fn takes(&self, at: usize, name: &[u8]) -> bool {
        match &self.0[at] {
            Component::Literal(literal) => literal == name,
            Component::Wildcard(glob) => glob.is_match(OsStr::from_bytes(name)),
        }
    }

    /// The one name that may stand at the component `at`, when that is known without looking.
    pub(super) fn literal(&self, at: usize) -> Option<&[u8]> {
        match &self.0[at] {
            Component::Literal(literal) => Some(literal),
            Component::Wildcard(_) => None,
        }
    }

    /// Whether `at` is the last component.
    pub(super) fn is_last(&self, at: usize) -> bool {
        at + 1 == self.0.len()
    }
}

impl Component {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let has_wildcard = bytes.iter().any(|b| b"*?[".contains(b));
        match str::from_utf8(bytes) {
            Ok(text) if has_wildcard => {
                let glob = GlobBuilder::new(text).literal_separator(true).build().ok()?;
                Some(Self::Wildcard(Box::new(glob.compile_matcher())))
            }
            _ => Some(Self::Literal(bytes.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_component_is_matched_alone() {
        let pattern = parse("logs/*/[ab]?.txt").unwrap();

        assert_eq!(pattern.literal(0), Some(&b"logs"[..]));
        assert!(pattern.takes(1, b"anything\xff"));
        assert!(pattern.takes(2, b"a1.txt"));
        assert!(!pattern.takes(2, b"c1.txt"));
        assert!(pattern.is_last(2) && !pattern.is_last(1));
    }

    #[test]
    fn a_request_without_a_valid_wildcard_is_no_pattern() {
        assert!(parse("plain/name").is_none());
        assert!(parse("broken[").is_none());
    }

    fn parse(request: &str) -> Option<Pattern> {
        Pattern::parse(&RelPath::parse(request.as_bytes()).unwrap())
    }
}
