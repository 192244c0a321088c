//! Says which names of a tree are sent: the patterns of `--include` and `--exclude`.
//!
//! A pattern without a slash is about the last component, wherever it stands; one with a slash is about the whole
//! name as it is sent (`tree/src/*.rs`), and a slash in front changes nothing else. `*` and `?` do not cross a
//! slash, `**` does. A slash at the end speaks of directories: excluded are only directories of that name, included
//! is everything below them. Directories are walked and announced whatever is included, unless excluded.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::path::escape;
use crate::limits;

/// Which names are sent; by default all of them.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these names and what is below them, except for directories.
    only: Option<BTreeSet<Vec<u8>>>,
    /// Only what matches one of these, except for directories.
    include: Option<GlobSet>,
    /// Nothing that matches one of these, nor what is below it.
    exclude: Option<GlobSet>,
    /// No directory that matches one of these, nor what is below it.
    exclude_dirs: Option<GlobSet>,
}

/// Why patterns do not make a selection. The patterns may come from a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// More than `limits::PATTERNS_MAX`.
    #[error("more than {} include and exclude patterns", limits::PATTERNS_MAX)]
    TooMany,
    /// One is longer than `limits::PATH_MAX_BYTES`.
    #[error("an include or exclude pattern is longer than {} bytes", limits::PATH_MAX_BYTES)]
    TooLong,
    /// One is no pattern.
    #[error("the pattern `{pattern}` is not valid: {why}")]
    Invalid {
        /// The pattern, escaped.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Selection {
    /// Takes the patterns of `--include` and `--exclude`.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, SelectionError> {
        if include.len() + exclude.len() > limits::PATTERNS_MAX {
            return Err(SelectionError::TooMany);
        }
        let (dirs, names): (Vec<&String>, Vec<&String>) = exclude.iter().partition(|p| p.ends_with('/'));
        Ok(Self {
            only: None,
            include: set(include.iter().map(|p| (p, if p.ends_with('/') { "/**" } else { "" })))?,
            exclude: set(names.into_iter().map(|p| (p, "")))?,
            exclude_dirs: set(dirs.into_iter().map(|p| (p, "")))?,
        })
    }

    /// Narrows the selection to these names and what is below them.
    pub fn only(self, names: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { only: Some(names.into_iter().collect()), ..self }
    }

    /// Whether an entry of this name is sent.
    pub fn takes(&self, name: &[u8], is_dir: bool) -> bool {
        let matches =
            |set: &Option<GlobSet>| set.as_ref().is_some_and(|s| s.is_match(OsStr::from_bytes(name)));
        if matches(&self.exclude) || (is_dir && matches(&self.exclude_dirs)) {
            return false;
        }
        is_dir || ((self.include.is_none() || matches(&self.include)) && self.is_named(name))
    }

    /// Whether `only` has the name or a directory that it is in.
    fn is_named(&self, name: &[u8]) -> bool {
        let Some(only) = &self.only else { return true };
        let slashes = name.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
        slashes.chain([name.len()]).any(|end| only.contains(&name[..end]))
    }
}

/// An include pattern for this name and what is below it. Bytes that are no UTF-8 become `*`, one for all in a row: two
/// stars mean directories.
pub fn pattern_of(name: &[u8]) -> String {
    let mut pattern = String::new();
    let mut is_behind_star = false;
    for chunk in name.utf8_chunks() {
        for char in chunk.valid().chars() {
            if "\\*?[]{},!".contains(char) {
                pattern.push('\\');
            }
            pattern.push(char);
            is_behind_star = false;
        }
        if !chunk.invalid().is_empty() && !std::mem::replace(&mut is_behind_star, true) {
            pattern.push('*');
        }
    }
    format!("{{{pattern},{pattern}/**}}")
}

/// Makes one set of patterns, each with something to add at its end.
fn set<'p>(
    patterns: impl Iterator<Item = (&'p String, &'static str)>,
) -> Result<Option<GlobSet>, SelectionError> {
    let mut set = GlobSetBuilder::new();
    let mut is_empty = true;
    for (pattern, end) in patterns {
        if pattern.len() > limits::PATH_MAX_BYTES {
            return Err(SelectionError::TooLong);
        }
        let glob = anchored(pattern) + end;
        let glob = GlobBuilder::new(&glob).literal_separator(true).build().map_err(|error| {
            SelectionError::Invalid { pattern: escape(pattern.as_bytes()), why: error.kind().to_string() }
        })?;
        set.add(glob);
        is_empty = false;
    }
    if is_empty {
        return Ok(None);
    }
    set.build().map(Some).map_err(|error| SelectionError::Invalid {
        pattern: error.glob().map_or_else(String::new, |glob| escape(glob.as_bytes())),
        why: error.kind().to_string(),
    })
}

/// The pattern without a slash at its end, in the form that globset matches against a whole name.
fn anchored(pattern: &str) -> String {
    let pattern = pattern.trim_end_matches('/');
    if pattern.contains('/') {
        pattern.strip_prefix('/').unwrap_or(pattern).to_owned()
    } else {
        format!("**/{pattern}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_slash_is_about_the_last_component_anywhere() {
        let selection = select(&[], &["*.o", ".git"]);

        assert!(!selection.takes(b"a.o", false));
        assert!(!selection.takes(b"deep/down/a.o", false));
        assert!(!selection.takes(b"tree/.git", true));
        assert!(selection.takes(b"a.o/b", false), "only the last component");
        assert!(selection.takes(b"a.oo", false));
    }

    #[test]
    fn a_pattern_with_a_slash_is_about_the_whole_name() {
        let selection = select(&[], &["tree/*.o", "/top", "a/**/z", "out/**"]);

        assert!(!selection.takes(b"tree/x.o", false));
        assert!(selection.takes(b"tree/sub/x.o", false));
        assert!(selection.takes(b"other/tree/x.o", false));
        assert!(!selection.takes(b"top", false));
        assert!(selection.takes(b"tree/top", false));
        assert!(!selection.takes(b"a/b/c/z", false));
        assert!(!selection.takes(b"out/x", false));
        assert!(selection.takes(b"tree/out/x", false));
    }

    #[test]
    fn a_slash_at_the_end_speaks_of_directories() {
        let selection = select(&["docs/"], &["build/"]);

        assert!(!selection.takes(b"x/build", true));
        assert!(select(&[], &["build/"]).takes(b"x/build", false));
        assert!(selection.takes(b"x/docs/deep/file", false));
        assert!(!selection.takes(b"x/other/file", false));
    }

    #[test]
    fn directories_are_walked_whatever_is_included() {
        let selection = select(&["*.rs"], &[]);

        assert!(selection.takes(b"src", true));
        assert!(selection.takes(b"src/a.rs", false));
        assert!(!selection.takes(b"src/a.c", false));
    }

    #[test]
    fn names_of_any_bytes_are_matched() {
        let selection = select(&[], &["*.bin"]);

        assert!(!selection.takes(b"a\xff\n.bin", false));
        assert!(selection.takes(b"a\xff\n", false));
    }

    #[test]
    fn names_alone_are_taken_with_what_is_below_them() {
        let only = Selection::default().only([b"a/b".to_vec(), b"c*\xff".to_vec()]);

        assert!(only.takes(b"a/b", false));
        assert!(only.takes(b"a/b/c", false));
        assert!(only.takes(b"c*\xff", false));
        assert!(only.takes(b"other", true), "directories are walked");
        assert!(!only.takes(b"a/bc", false));
        assert!(!only.takes(b"a", false));
        assert!(!only.takes(b"cc\xff", false));
    }

    #[test]
    fn the_pattern_of_a_name_takes_it_and_what_is_below_it() {
        let strange = b"!x/{a,b}[c]*?\\\"d\n";
        let pattern = select(&[&pattern_of(strange)], &[]);

        assert!(pattern.takes(strange, false));
        assert!(pattern.takes(&[strange, &b"/deep/down"[..]].concat(), false));
        assert!(!pattern.takes(&[strange, &b"e"[..]].concat(), false));
        assert!(!pattern.takes(&[&b"in/"[..], strange].concat(), false));
        assert!(select(&[&pattern_of(b"f\xffg")], &[]).takes(b"f\xffg", false));
        assert!(!select(&[&pattern_of(b"f")], &[]).takes(b"dir/f", false), "the whole name");
    }

    #[test]
    fn the_pattern_of_a_name_takes_it_whatever_of_it_is_no_text() {
        for name in [&b"\xff\xfe"[..], b"a\xff\xfe\xfdb", b"dir/\xff\xff", b"\xff\xff/\xfe\xfe", b"\xff*\xff"]
        {
            let pattern = select(&[&pattern_of(name)], &[]);

            assert!(pattern.takes(name, false), "{name:?}");
            assert!(pattern.takes(&[name, b"/below"].concat(), false), "{name:?}");
        }
    }

    #[test]
    fn patterns_of_a_peer_are_bounded_just_there() {
        let most = vec!["x".to_owned(); limits::PATTERNS_MAX];
        let long = "y".repeat(limits::PATH_MAX_BYTES);

        assert!(Selection::new(&most, &[]).is_ok());
        assert_eq!(Selection::new(&most, &["x".to_owned()]).unwrap_err(), SelectionError::TooMany);
        assert!(Selection::new(&[], std::slice::from_ref(&long)).is_ok());
        assert_eq!(Selection::new(&[], &[long + "y"]).unwrap_err(), SelectionError::TooLong);
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_by_name() {
        let error = Selection::new(&["[z-".to_owned()], &[]).unwrap_err();

        assert!(matches!(error, SelectionError::Invalid { pattern, .. } if pattern == "[z-"));
    }

    fn select(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude)).unwrap()
    }
}
