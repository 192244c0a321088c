//! `haul verify MANIFEST [DIR]`: compares files with a manifest in sha256sum format.
//!
//! Four things can be wrong: a file has changed, is missing, can't be read, or is there without being named. With
//! `--json` it prints one object:
//!
//! ```text
//! {"version":1, "command":"verify", "algorithm":"sha256",
//!  "changed":[{"name":…, "name_hex":…, "expected":…, "actual":…}],     name_hex only where name is not UTF-8
//!  "missing":[{"name":…}], "extra":[{"name":…}], "unreadable":[{"name":…, "reason":…}],
//!  "counts":{"named":…, "matched":…, "changed":…, "missing":…, "extra":…, "unreadable":…},
//!  "bytes":…, "elapsed_s":…, "exit_code":…}
//! ```

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::digests::{self, Meter, ReadError, Reading, Source, Work};
use super::exit::{Exit, Failure};
use super::options::DigestOption;
use super::output::{JSON_VERSION, JsonName, Output, shown};
use super::tree::{FileId, Found, FoundKind, Tree, id_of_handle, name_of, path_of};
use crate::file::path::escape;
use crate::integrity::digest::{Digest, DigestKind};
use crate::integrity::sums::{LineError, Sum, Sums, SumsError};
use crate::run::clock;
use crate::units;

/// Compare files with a manifest in sha256sum format
///
/// Reads what `haul hash`, `sha256sum` and `b3sum` write. Names are relative to DIR. Ends with 0 when every file
/// matches, with 5 when one has changed, is missing or is not named, with 9 when one can't be read, and with 2 when
/// the manifest is not understood or names nothing.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Manifest; `-` is standard input
    pub manifest: PathBuf,
    /// Directory that the names are relative to [default: the current one]; files below it that are not named count
    /// as differences
    pub dir: Option<PathBuf>,
    /// Count files that are not named as differences also without DIR
    #[arg(long, env = "HAUL_EXTRA", value_parser = clap::builder::FalseyValueParser::new(), hide_env = true)]
    pub extra: bool,
    /// The digest.
    #[command(flatten)]
    pub digest: DigestOption,
}

/// Compares every file that the manifest names, then looks for files that it does not name.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    let start = clock::now();
    let kind = args.digest.kind();
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from("."));
    let is_extra_wanted = args.extra || args.dir.is_some();
    if is_extra_wanted {
        fs::read_dir(&dir).map_err(|error| cannot_read(&dir, &error))?;
    }
    let (sums, manifest_id) = read_manifest(&args.manifest, kind)?;
    let meter = Meter::default();
    let mut report = Report::new(out, kind);

    digests::in_order(
        sums.iter().map(|sum| Work { tag: sum, source: Some(source(&dir, &sum.name)) }),
        kind,
        &meter,
        |sum, answer| {
            report.compare(sum, answer.expect("every name has a source"));
            Ok(())
        },
        |sum| out.progress().show(&meter.progress(sum.map(|sum| sum.name.as_slice())), start.elapsed()),
    )?;
    if is_extra_wanted {
        report.find_extra(&dir, &sums, manifest_id)?;
    }

    out.progress().finish();
    report.finish(start.elapsed())
}

/// Every sum, and which file they came from if it is a regular one. A manifest is understood whole before any file
/// is read.
fn read_manifest(path: &Path, kind: DigestKind) -> Result<(Vec<Sum>, Option<FileId>), Failure> {
    if path == Path::new("-") {
        let stdin = io::stdin();
        let id = id_of_handle(&stdin);
        return Ok((read_sums(stdin.lock(), "standard input", kind)?, id));
    }
    let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
    let id = id_of_handle(&file);
    Ok((read_sums(BufReader::new(file), &shown(path), kind)?, id))
}

fn read_sums(input: impl BufRead, name: &str, kind: DigestKind) -> Result<Vec<Sum>, Failure> {
    let sums: Vec<Sum> = Sums::new(input, kind).collect::<Result<_, _>>().map_err(|error| match &error {
        SumsError::Io(io) => Failure::new(Exit::of_io(io), format!("cannot read {name}: {io}")),
        SumsError::Line { why: LineError::OtherDigest(_), .. } => {
            Failure::new(Exit::Usage, format!("{name}: {error}; --digest says which one the manifest holds"))
        }
        SumsError::Line { .. } => Failure::new(Exit::Usage, format!("{name}: {error}")),
    })?;
    if sums.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("{name}: names no file")));
    }
    Ok(sums)
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::of_io(error), format!("cannot read {}: {error}", shown(path)))
}

/// A name is used as it stands, `..` and all, and read through symbolic links, as sha256sum does: the manifest is
/// the user's own.
fn source(dir: &Path, name: &[u8]) -> Source {
    let path = dir.join(path_of(name));
    let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
    Source::File { path, follow: true, size }
}

/// The names of `sums` that lie in `dir`, as a walk of `dir` would show them.
fn names_within(dir: &Path, sums: &[Sum]) -> io::Result<HashSet<Vec<u8>>> {
    let bases = [fs::canonicalize(dir)?, clean(&std::path::absolute(dir)?)];
    Ok(sums.iter().filter_map(|sum| name_within(&bases, path_of(&sum.name))).collect())
}

fn name_within(bases: &[PathBuf], name: &Path) -> Option<Vec<u8>> {
    bases.iter().find_map(|base| clean(&base.join(name)).strip_prefix(base).ok().map(name_of))
}

/// An absolute path without `.` and `..`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            component => out.push(component),
        }
    }
    out
}

/// What becomes the JSON object and the lines for people.
struct Report<'a> {
    out: &'a Output,
    json: JsonVerify,
}

impl<'a> Report<'a> {
    fn new(out: &'a Output, kind: DigestKind) -> Self {
        Self { out, json: JsonVerify::new(kind) }
    }

    fn compare(&mut self, sum: &Sum, answer: Result<Reading, ReadError>) {
        let name = JsonName::new(&sum.name);
        let shown = escape(&sum.name);
        self.json.counts.named += 1;
        match answer {
            Ok(reading) => {
                self.json.bytes += reading.bytes;
                if reading.digest == sum.digest {
                    self.json.counts.matched += 1;
                    self.out.detail(&format!("{shown}: matches"));
                } else {
                    self.out.problem(&format!("{shown}: changed"));
                    self.json.changed.push(JsonChanged::new(name, sum.digest, reading.digest));
                }
            }
            Err(ReadError::Io(error)) if is_missing(&error) => {
                self.out.problem(&format!("{shown}: missing"));
                self.json.missing.push(JsonNamed { name });
            }
            Err(error) => self.unreadable(&sum.name, error.to_string()),
        }
    }

    /// Looks for files below `dir` that are not named; the manifest and unfinished files of haul do not count.
    fn find_extra(&mut self, dir: &Path, sums: &[Sum], manifest: Option<FileId>) -> Result<(), Failure> {
        let named = names_within(dir, sums).map_err(|error| cannot_read(dir, &error))?;
        for Found { name, kind, .. } in
            Tree::new(dir, Vec::new()).map_err(|error| cannot_read(dir, &error))?
        {
            match kind {
                FoundKind::File { id, .. } if Some(id) != manifest && !named.contains(&name) => {
                    self.out.problem(&format!("{}: not in the manifest", escape(&name)));
                    self.json.extra.push(JsonNamed { name: JsonName::new(&name) });
                }
                FoundKind::Unreadable(error) => self.unreadable(&name, error.to_string()),
                FoundKind::File { .. } | FoundKind::Symlink | FoundKind::Special | FoundKind::Unfinished => {}
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, name: &[u8], reason: String) {
        self.out.problem(&format!("{}: cannot be read: {reason}", escape(name)));
        self.json.unreadable.push(JsonUnreadable { name: JsonName::new(name), reason });
    }

    fn finish(mut self, elapsed: Duration) -> anyhow::Result<Exit> {
        self.json.close(elapsed);
        self.out.say(&self.json.summary(elapsed));
        if self.out.is_json() {
            self.out.json(&self.json)?;
        }
        Ok(self.json.exit_code)
    }
}

/// Nothing is there under that name, whether the last component is missing or one on the way.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[derive(Serialize)]
struct JsonVerify {
    version: u32,
    command: &'static str,
    algorithm: &'static str,
    changed: Vec<JsonChanged>,
    missing: Vec<JsonNamed>,
    extra: Vec<JsonNamed>,
    unreadable: Vec<JsonUnreadable>,
    counts: JsonCounts,
    bytes: u64,
    elapsed_s: f64,
    exit_code: Exit,
}

#[derive(Serialize)]
struct JsonNamed {
    #[serde(flatten)]
    name: JsonName,
}

#[derive(Serialize)]
struct JsonChanged {
    #[serde(flatten)]
    name: JsonName,
    expected: String,
    actual: String,
}

#[derive(Serialize)]
struct JsonUnreadable {
    #[serde(flatten)]
    name: JsonName,
    reason: String,
}

#[derive(Default, Serialize)]
struct JsonCounts {
    named: u64,
    matched: u64,
    changed: u64,
    missing: u64,
    extra: u64,
    unreadable: u64,
}

impl JsonChanged {
    fn new(name: JsonName, expected: Digest, actual: Digest) -> Self {
        Self { name, expected: expected.to_string(), actual: actual.to_string() }
    }
}

impl JsonVerify {
    fn new(kind: DigestKind) -> Self {
        Self {
            version: JSON_VERSION,
            command: "verify",
            algorithm: kind.name(),
            changed: Vec::new(),
            missing: Vec::new(),
            extra: Vec::new(),
            unreadable: Vec::new(),
            counts: JsonCounts::default(),
            bytes: 0,
            elapsed_s: 0.0,
            exit_code: Exit::Done,
        }
    }

    /// Fills in what is known once everything was looked at. A difference weighs more than a file that no one saw.
    fn close(&mut self, elapsed: Duration) {
        self.counts.changed = self.changed.len() as u64;
        self.counts.missing = self.missing.len() as u64;
        self.counts.extra = self.extra.len() as u64;
        self.counts.unreadable = self.unreadable.len() as u64;
        self.elapsed_s = elapsed.as_secs_f64();
        self.exit_code = if self.counts.changed + self.counts.missing + self.counts.extra > 0 {
            Exit::Integrity
        } else if self.counts.unreadable > 0 {
            Exit::LocalFile
        } else {
            Exit::Done
        };
    }

    /// One line for people.
    fn summary(&self, elapsed: Duration) -> String {
        let counts = &self.counts;
        let problems: Vec<String> = [
            (counts.changed, "changed"),
            (counts.missing, "missing"),
            (counts.unreadable, "unreadable"),
            (counts.extra, "not named"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| format!(", {count} {what}"))
        .collect();
        format!(
            "{} of {} {}{} ({} in {})",
            counts.matched,
            units::counted(counts.named, "file"),
            if counts.matched == 1 { "matches" } else { "match" },
            problems.concat(),
            units::bytes(self.bytes),
            units::duration(elapsed)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_in_the_directory_however_it_is_written() {
        let bases = [PathBuf::from("/real/dir"), PathBuf::from("/link/dir")];
        let cases = [
            ("a", Some("a")),
            ("./a//b/", Some("a/b")),
            ("x/../a", Some("a")),
            ("../dir/a", Some("a")),
            ("/real/dir/a", Some("a")),
            ("/link/dir/a", Some("a")),
            ("../other/a", None),
            ("/real/dirt/a", None),
        ];

        for (name, within) in cases {
            assert_eq!(
                name_within(&bases, Path::new(name)),
                within.map(|name| name.as_bytes().to_vec()),
                "{name}"
            );
        }
    }

    #[test]
    fn the_summary_counts_each_kind_of_problem() {
        let mut json = JsonVerify::new(DigestKind::Sha256);
        json.counts.named = 3;
        json.counts.matched = 1;
        json.missing.push(JsonNamed { name: JsonName::new(b"a") });
        json.unreadable.push(JsonUnreadable { name: JsonName::new(b"b"), reason: "no".into() });

        json.close(Duration::from_secs(61));

        assert_eq!(
            json.summary(Duration::from_secs(61)),
            "1 of 3 files matches, 1 missing, 1 unreadable (0 B in 1m01s)"
        );
        assert_eq!(json.exit_code, Exit::Integrity);
    }

    #[test]
    fn a_manifest_that_is_not_understood_is_a_usage_error() {
        let exit = |text: &str| read_sums(text.as_bytes(), "m", DigestKind::Sha256).unwrap_err();
        let blake3 = format!("BLAKE3 (a) = {}", "0".repeat(64));

        assert_eq!(exit(""), Failure::new(Exit::Usage, "m: names no file"));
        assert_eq!(exit("# only a comment\n"), Failure::new(Exit::Usage, "m: names no file"));
        assert_eq!(exit("\nx\n"), Failure::new(Exit::Usage, "m: line 2: not a digest and a name"));
        assert!(exit(&blake3).message.contains("--digest"));
    }
}
