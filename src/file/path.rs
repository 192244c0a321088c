//! The one type that may reach the disk: a relative path that was checked at the door.
//!
//! Names from peers and from the command line become a [`RelPath`] or an error; nothing else in `file` takes a
//! name. A `RelPath` has at least one component, and none is empty, `.`, `..`, longer than a file system allows, or
//! one of our own temporary names; none holds a NUL or a slash. What stands at the path on the disk (a symbolic
//! link in the middle, say) is not its business: `file::disk` opens each component without following links.

use std::fmt;

use crate::limits;

/// Every temporary name of haul starts with this; peers may not use it and listings hide it.
pub const TEMP_PREFIX: &[u8] = b".haul-";

/// A checked relative path: components joined by `/`, any other bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(Vec<u8>);

/// Why bytes are not a relative path that may reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Starts with `/`.
    #[error("the name is absolute")]
    Absolute,
    /// A component is `..` or `.`, or empty (`a//b`, `a/`).
    #[error("the name has an empty, `.` or `..` component")]
    Dots,
    /// Holds a NUL byte.
    #[error("the name holds a NUL byte")]
    Nul,
    /// Longer than `limits::PATH_MAX_BYTES`, a component longer than `limits::NAME_MAX_BYTES`, or too deep.
    #[error("the name is too long or too deep")]
    TooLong,
    /// Uses the prefix of our temporary names.
    #[error("the name starts with .haul-, which is reserved for unfinished files")]
    Reserved,
}

impl RelPath {
    /// Checks `bytes`, which come from a peer or a person. protocol.md [NAME-1]
    pub fn parse(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes[0] == b'/' {
            return Err(PathError::Absolute);
        }
        if bytes.contains(&0) {
            return Err(PathError::Nul);
        }
        if bytes.len() > limits::PATH_MAX_BYTES {
            return Err(PathError::TooLong);
        }
        let mut depth = 0;
        for component in bytes.split(|&b| b == b'/') {
            depth += 1;
            match component {
                b"" | b"." | b".." => return Err(PathError::Dots),
                c if c.len() > limits::NAME_MAX_BYTES => return Err(PathError::TooLong),
                c if c.starts_with(TEMP_PREFIX) => return Err(PathError::Reserved),
                _ => {}
            }
        }
        if depth > limits::PATH_MAX_DEPTH {
            return Err(PathError::TooLong);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes, components joined by `/`.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The components, first to last.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/')
    }

    /// The path of the directory that holds this (`None` at the top) and the last component.
    pub fn split_last(&self) -> (Option<&[u8]>, &[u8]) {
        match self.0.iter().rposition(|&b| b == b'/') {
            Some(at) => (Some(&self.0[..at]), &self.0[at + 1..]),
            None => (None, &self.0),
        }
    }

    /// The paths of the directories that hold this, the nearest first; the last is `None`, the top.
    pub fn parents(&self) -> impl Iterator<Item = Option<&[u8]>> {
        let bytes = self.0.as_slice();
        let slashes = (0..bytes.len()).rev().filter(|&at| bytes[at] == b'/');
        slashes.map(|at| Some(&bytes[..at])).chain([None])
    }

    /// The first component and what follows it (`None` when it stands alone).
    pub fn split_first(&self) -> (&[u8], Option<&[u8]>) {
        match self.0.iter().position(|&b| b == b'/') {
            Some(at) => (&self.0[..at], Some(&self.0[at + 1..])),
            None => (&self.0, None),
        }
    }

    /// This path with `name` behind it.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name);
        Self::parse(&bytes)
    }

    /// Whether this is `dir` or stands below it.
    pub fn is_within(&self, dir: &Self) -> bool {
        self.0.strip_prefix(dir.0.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escape(&self.0))
    }
}

/// A name as a person or a log may see it: control characters, bidirectional overrides, backslashes and bytes that
/// are not UTF-8 become `\n`, `\t`, `\\`, `\u{..}` or `\xNN`; all else stays. Reversible, since a backslash is
/// itself escaped. protocol.md [NAME-4]
pub fn escape(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\t' => out.push_str("\\t"),
                '\r' => out.push_str("\\r"),
                c if c.is_control() || is_invisible(c) => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Whether a text may be shown as it is: nothing in it moves the cursor, or turns or hides what stands around it.
pub fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_invisible(c))
}

/// Characters that change how the text around them is shown, without being seen (Unicode TR 36).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_any_bytes_that_a_disk_allows_is_accepted() {
        for name in [&b"a"[..], b"-rf", b"a b/\n/\xff\xfe", b".hidden", b"...", &[b'x'; 255], b".haul"] {
            assert_eq!(RelPath::parse(name).unwrap().as_bytes(), name);
        }
    }

    #[test]
    fn a_name_that_could_leave_its_directory_is_refused() {
        // protocol.md [NAME-1]
        let cases: [(&[u8], PathError); 10] = [
            (b"", PathError::Empty),
            (b"/etc/passwd", PathError::Absolute),
            (b"..", PathError::Dots),
            (b"a/../b", PathError::Dots),
            (b"a/./b", PathError::Dots),
            (b"a//b", PathError::Dots),
            (b"a/", PathError::Dots),
            (b"a\0b", PathError::Nul),
            (&[b'x'; 256], PathError::TooLong),
            (b"d/.haul-abc", PathError::Reserved),
        ];

        for (name, why) in cases {
            assert_eq!(RelPath::parse(name), Err(why), "{}", escape(name));
        }
    }

    #[test]
    fn depth_and_length_are_bounded_just_there() {
        // protocol.md [NAME-1]
        let deep = vec![b"a".as_slice(); limits::PATH_MAX_DEPTH].join(&b'/');
        let long = vec![[b'x'; 15].as_slice(); 256].join(&b'/');

        assert!(RelPath::parse(&deep).is_ok());
        assert_eq!(RelPath::parse(&[&deep[..], b"/a"].concat()), Err(PathError::TooLong));
        assert_eq!(long.len(), limits::PATH_MAX_BYTES);
        assert!(RelPath::parse(&long).is_ok());
        assert_eq!(RelPath::parse(&[&long[..], b"x"].concat()), Err(PathError::TooLong));
    }

    #[test]
    fn an_escaped_name_cannot_move_the_cursor_or_hide_text() {
        // protocol.md [NAME-4]
        let shown = escape(b"\x1b[2Jevil\r\n\xe2\x80\xae\xff\\");

        assert_eq!(shown, "\\u{1b}[2Jevil\\r\\n\\u{202e}\\xff\\\\");
    }

    #[test]
    fn within_means_whole_components() {
        let dir = RelPath::parse(b"a/b").unwrap();

        assert!(RelPath::parse(b"a/b").unwrap().is_within(&dir));
        assert!(RelPath::parse(b"a/b/c").unwrap().is_within(&dir));
        assert!(!RelPath::parse(b"a/bc").unwrap().is_within(&dir));
    }
}
