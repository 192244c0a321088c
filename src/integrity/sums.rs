//! Manifests: digests with names, in the format that `sha256sum` and `b3sum` write and check.
//!
//! ```text
//! 64 hex digits, space, space or *, name          read and written
//! \ before the digits: the name is escaped        read and written; \\ \n \r, as coreutils 9 does
//! SHA256 (name) = 64 hex digits, BLAKE3 (…) = …   read (BSD style, `sha256sum --tag`), with \ in front as well
//! # comment, empty line                           ignored
//! ```
//!
//! Names are any bytes but NUL. Line ends may be LF or CRLF; a name that ends in CR is written escaped, so that it
//! survives. Every other line is an error that says its number: a manifest that is only half understood proves
//! nothing. Both digests have 64 hex digits, so which one a plain line holds is for the reader to know.

use std::io::{self, BufRead, Read as _, Write};

use super::digest::{DIGEST_BYTES, Digest, DigestKind};
use crate::limits;

/// One line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The digest that the named file should have.
    pub digest: Digest,
    /// The name as bytes, unescaped, not empty; relative or absolute, whatever its writer chose.
    pub name: Vec<u8>,
}

/// Why a manifest can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SumsError {
    /// The file or pipe that holds it failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line is not a sum.
    #[error("line {line}: {why}")]
    Line {
        /// Number of the line, counted from 1.
        line: u64,
        /// What is wrong with it.
        why: LineError,
    },
}

/// Why a line is not a sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Neither `HEX  NAME` nor `SHA256 (NAME) = HEX`.
    #[error("not a digest and a name")]
    Malformed,
    /// A digest of another length: another algorithm (`b2sum`, `sha1sum`).
    #[error("a digest of {0} hex digits, not of 64")]
    Length(usize),
    /// The line says that it holds another digest than the one asked for.
    #[error("not a {0} digest")]
    OtherDigest(DigestKind),
    /// The line is marked as escaped, and a backslash in the name is followed by something unknown.
    #[error("a backslash in the name that is not \\\\, \\n or \\r")]
    Escape,
    /// The name holds a NUL byte.
    #[error("a NUL byte in the name")]
    Nul,
    /// Longer than `limits::SUMS_LINE_MAX_BYTES`.
    #[error("longer than a name can be")]
    TooLong,
}

/// Writes the line for one file. The name is not empty and holds no NUL, as no file's does.
pub fn write_sum(out: &mut impl Write, digest: &Digest, name: &[u8]) -> io::Result<()> {
    assert!(!name.is_empty(), "a manifest names files");
    if name.iter().any(|b| b"\\\n\r".contains(b)) {
        write!(out, "\\{digest}  ")?;
        out.write_all(&escape(name))?;
    } else {
        write!(out, "{digest}  ")?;
        out.write_all(name)?;
    }
    out.write_all(b"\n")
}

/// Reads a manifest line by line; ends after the first error.
#[derive(Debug)]
pub struct Sums<R> {
    input: R,
    /// The digest that plain lines are taken for and tagged lines must be.
    kind: DigestKind,
    /// Number of the line read last, counted from 1.
    line: u64,
    /// The line read last; at most `limits::SUMS_LINE_MAX_BYTES` and one.
    buffer: Vec<u8>,
    /// An error or the end was given out.
    is_over: bool,
}

impl<R: BufRead> Sums<R> {
    /// Reads from `input`, whose plain lines hold digests of `kind`.
    pub fn new(input: R, kind: DigestKind) -> Self {
        Self { input, kind, line: 0, buffer: Vec::new(), is_over: false }
    }

    /// The next sum, skipping empty lines and comments; `None` at the end.
    fn read(&mut self) -> Result<Option<Sum>, SumsError> {
        loop {
            self.buffer.clear();
            let bound = limits::SUMS_LINE_MAX_BYTES as u64 + 1;
            if (&mut self.input).take(bound).read_until(b'\n', &mut self.buffer)? == 0 {
                return Ok(None);
            }
            self.line += 1;
            let text = without_line_end(&self.buffer);
            let sum = match text.first() {
                _ if self.buffer.len() as u64 == bound => Err(LineError::TooLong),
                None | Some(b'#') => continue,
                Some(_) => parse(text, self.kind),
            };
            return sum.map(Some).map_err(|why| SumsError::Line { line: self.line, why });
        }
    }
}

impl<R: BufRead> Iterator for Sums<R> {
    type Item = Result<Sum, SumsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.read().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next
    }
}

/// A line without its LF or CRLF.
fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Parses a line that is neither empty nor a comment. Leading blanks are ignored, as coreutils does.
fn parse(line: &[u8], kind: DigestKind) -> Result<Sum, LineError> {
    let line = line.trim_ascii_start();
    let (is_escaped, line) = match line.strip_prefix(b"\\") {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let (hex, name) = if let Some((tag, name, hex)) = split_tagged(line) {
        if tag != tag_of(kind) {
            return Err(LineError::OtherDigest(kind));
        }
        (hex, name)
    } else {
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (hex, rest) = line.split_at(digits);
        let name = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"));
        (hex, name.ok_or(LineError::Malformed)?)
    };
    if name.is_empty() || hex.is_empty() {
        return Err(LineError::Malformed);
    }
    if name.contains(&0) {
        return Err(LineError::Nul);
    }
    if hex.len() != 2 * DIGEST_BYTES {
        return Err(LineError::Length(hex.len()));
    }
    let digest = Digest::from_hex(hex).map_err(|_| LineError::Malformed)?;
    let name = if is_escaped { unescape(name)? } else { name.to_vec() };
    Ok(Sum { digest, name })
}

/// Takes `TAG (NAME) = HEX` apart; a name may itself hold `) = `, so the last one counts.
fn split_tagged(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let open = line.windows(2).position(|w| w == b" (")?;
    let (tag, rest) = (&line[..open], &line[open + 2..]);
    if tag.is_empty() || !tag.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-') {
        return None;
    }
    let close = rest.windows(4).rposition(|w| w == b") = ")?;
    let hex = &rest[close + 4..];
    hex.iter().all(u8::is_ascii_hexdigit).then_some((tag, &rest[..close], hex))
}

fn tag_of(kind: DigestKind) -> &'static [u8] {
    match kind {
        DigestKind::Sha256 => b"SHA256",
        DigestKind::Blake3 => b"BLAKE3",
    }
}

fn escape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 8);
    for &byte in name {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            byte => out.push(byte),
        }
    }
    out
}

fn unescape(name: &[u8]) -> Result<Vec<u8>, LineError> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'\\') => b'\\',
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            _ => return Err(LineError::Escape),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    use std::process::{Command, Output};

    use proptest::prelude::*;

    use super::*;
    use crate::integrity::digest::Hasher;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn each_form_of_a_line_is_read() {
        let cases: [(String, &[u8]); 10] = [
            (format!("{ABC}  a"), b"a"),
            (format!("{ABC} *a"), b"a"),
            (format!("{ABC}   a "), b" a "),
            (format!("{ABC}  *a"), b"*a"),
            (format!(" \t{ABC}  a"), b"a"),
            (format!("{}  a\\b", ABC.to_uppercase()), b"a\\b"),
            (format!("\\{ABC}  a\\\\b\\nc\\rd"), b"a\\b\nc\rd"),
            (format!("SHA256 (a) = {ABC}"), b"a"),
            (format!("SHA256 (a) = b) = {ABC}"), b"a) = b"),
            (format!("\\SHA256 (a\\nb) = {ABC}"), b"a\nb"),
        ];

        for (line, name) in cases {
            for end in ["", "\n", "\r\n"] {
                let text = format!("{line}{end}");
                let sums = read(text.as_bytes()).unwrap();
                assert_eq!(sums, [Sum { digest: ABC.parse().unwrap(), name: name.to_vec() }], "{text:?}");
            }
        }
    }

    #[test]
    fn empty_lines_and_comments_are_ignored_and_counted() {
        let error = read(format!("# made by hand\n\n\r\n{ABC}  a\n\nnonsense\n").as_bytes()).unwrap_err();

        assert_eq!(error.to_string(), "line 6: not a digest and a name");
    }

    #[test]
    fn a_line_that_is_not_a_sum_is_refused() {
        let cases = [
            (format!("{ABC} a"), LineError::Malformed),
            (ABC.into(), LineError::Malformed),
            (format!("{ABC}  "), LineError::Malformed),
            ("  a".into(), LineError::Malformed),
            (format!("{}g  a", &ABC[1..]), LineError::Malformed),
            (format!("SHA256 () = {ABC}"), LineError::Malformed),
            (format!("{}  a", &ABC[..40]), LineError::Length(40)),
            (format!("{ABC}{ABC}  a"), LineError::Length(128)),
            (format!("SHA256 (a) = {}", &ABC[..40]), LineError::Length(40)),
            (format!("BLAKE3 (a) = {ABC}"), LineError::OtherDigest(DigestKind::Sha256)),
            (format!("BLAKE2b (a) = {ABC}{ABC}"), LineError::OtherDigest(DigestKind::Sha256)),
            (format!("\\{ABC}  a\\"), LineError::Escape),
            (format!("\\{ABC}  a\\t"), LineError::Escape),
            (format!("{ABC}  a\0b"), LineError::Nul),
        ];

        for (line, why) in cases {
            match read(line.as_bytes()) {
                Err(SumsError::Line { line: 1, why: found }) => assert_eq!(found, why, "{line:?}"),
                other => panic!("{line:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_length_of_a_line_is_bounded_just_there() {
        let fits = format!("{ABC}  {}", "x".repeat(limits::SUMS_LINE_MAX_BYTES - ABC.len() - 2));
        let comment = "#".repeat(limits::SUMS_LINE_MAX_BYTES + 1);

        assert!(read(fits.as_bytes()).is_ok());
        for long in [format!("{fits}x"), comment] {
            let error = read(long.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "line 1: longer than a name can be");
        }
    }

    #[test]
    fn a_reader_ends_after_its_first_error() {
        let text = format!("bad\n{ABC}  a\n");
        let mut sums = Sums::new(text.as_bytes(), DigestKind::Sha256);

        assert!(sums.next().unwrap().is_err());
        assert!(sums.next().is_none());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            files in proptest::collection::vec((any::<[u8; 32]>(), names()), 0..8),
            crlf in any::<bool>(),
        ) {
            let mut text = Vec::new();

            for (digest, name) in &files {
                write_sum(&mut text, &Digest(*digest), name).unwrap();
                if crlf {
                    text.insert(text.len() - 1, b'\r');
                }
            }

            let wanted: Vec<Sum> =
                files.into_iter().map(|(digest, name)| Sum { digest: Digest(digest), name }).collect();
            prop_assert_eq!(read(&text).unwrap(), wanted);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn sha256sum_accepts_and_writes_the_same_bytes() {
        let names: [&[u8]; 8] =
            [b"plain", b"two  spaces", b"-c", b"*star", b"new\nline", b"back\\slash", b"cr\r", b"\xff\xfe"];
        let dir = tempfile::tempdir().unwrap();
        let mut ours = Vec::new();
        for name in names {
            std::fs::write(dir.path().join(OsStr::from_bytes(name)), name).unwrap();
            let mut hasher = Hasher::new(DigestKind::Sha256);
            hasher.update(name);
            write_sum(&mut ours, &Digest(hasher.finish()), name).unwrap();
        }
        let manifest = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(manifest.path(), &ours).unwrap();
        let sha256sum = |arguments: &[&OsStr]| -> Option<Output> {
            Command::new("sha256sum").args(arguments).current_dir(dir.path()).output().ok()
        };

        let arguments: Vec<&OsStr> =
            [OsStr::new("--")].into_iter().chain(names.map(OsStr::from_bytes)).collect();
        let Some(theirs) = sha256sum(&arguments) else {
            return skip("sha256sum is not installed");
        };
        let checked =
            sha256sum(&["-c", "--strict", manifest.path().to_str().unwrap()].map(OsStr::new)).unwrap();
        let tagged = sha256sum(&[&[OsStr::new("--tag")], arguments.as_slice()].concat()).unwrap();

        assert_eq!(theirs.stdout, ours, "coreutils before 9.0 does not escape CR");
        assert!(checked.status.success(), "{checked:?}");
        assert_eq!(read(&tagged.stdout).unwrap(), read(&ours).unwrap());
    }

    #[expect(clippy::print_stderr, reason = "the reason of a skipped test is for the person who runs it")]
    fn skip(reason: &str) {
        eprintln!("skipped: {reason}");
    }

    fn read(text: &[u8]) -> Result<Vec<Sum>, SumsError> {
        Sums::new(text, DigestKind::Sha256).collect()
    }

    /// Names of any bytes, those that need care more often than chance has them.
    fn names() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![3 => 1..=u8::MAX, 1 => proptest::sample::select(b"\\\n\r *()=nr".to_vec())];
        proptest::collection::vec(byte, 1..60)
    }
}
