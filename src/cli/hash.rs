//! `haul hash PATH...`: makes a manifest in sha256sum format.
//!
//! `haul hash tree` prints what `find tree -type f | LC_ALL=C sort | xargs sha256sum` would, for names of any bytes.
//! With `--json` it prints one object instead:
//!
//! ```text
//! {"version":1, "command":"hash", "algorithm":"sha256",
//!  "files":[{"name":…, "name_hex":…, "digest":…, "bytes":…}],      name_hex only where name is not UTF-8
//!  "bytes":…, "elapsed_s":…,
//!  "skipped":{"symlinks":…, "special":…, "unfinished":…, "outputs":…},
//!  "failures":[{"name":…, "name_hex":…, "reason":…, "exit_code":…}], "failed":…,     the first 1000, and how many
//!  "exit_code":…}
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::digests::{self, Meter, ReadError, Reading, Source, Work};
use super::exit::{Exit, Failure};
use super::options::DigestOption;
use super::output::{JSON_VERSION, JsonName, Output, shown, write_file};
use super::tree::{FileId, Found, FoundKind, Tree, id_of_handle, name_of};
use crate::file::path::escape;
use crate::integrity::sums::write_sum;
use crate::limits;
use crate::run::clock;
use crate::units;

/// Make a manifest of files and trees in sha256sum format
///
/// Directories are walked in byte order, hidden files included. Symbolic links below them are not followed, special
/// files and unfinished files of haul are left out; standard error says how many. The manifest itself is left out
/// when it lies in the tree. Check it with `haul verify`, or with `sha256sum -c` or `b3sum -c`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Files and directories; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// File to write the manifest to, replaced in one step, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The digest.
    #[command(flatten)]
    pub digest: DigestOption,
}

/// Hashes what was asked for. Files that fail do not keep others from being hashed.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    let start = clock::now();
    let outputs = outputs(args);
    let meter = Meter::default();
    let mut report = Report::new(args, out);

    digests::in_order(
        args.paths.iter().flat_map(|path| steps(path, &outputs)),
        args.digest.kind(),
        &meter,
        |step, answer| report.take(step, answer),
        |step| out.progress().show(&meter.progress(step.map(|step| step.name.as_slice())), start.elapsed()),
    )?;

    out.progress().finish();
    report.finish(start.elapsed())
}

/// One name on its way through the pipeline.
#[derive(Debug)]
struct Step {
    name: Vec<u8>,
    what: What,
}

/// What is to be done about a name.
#[derive(Debug)]
enum What {
    /// Its content is being read.
    Digest,
    /// It is left out.
    Skip(Skip),
    /// It could not be looked at.
    Fail(ReadError),
}

/// Why something below a directory is left out.
#[derive(Clone, Copy, Debug)]
enum Skip {
    Symlink,
    Special,
    Unfinished,
    Output,
}

/// All work for one path of the command line. What a person names is read through symbolic links.
fn steps<'a>(path: &Path, outputs: &'a [FileId]) -> Box<dyn Iterator<Item = Work<Step>> + Send + 'a> {
    let name = name_of(path);
    if name == b"-" {
        return one(name, What::Digest, Some(Source::Stdin));
    }
    match fs::metadata(path) {
        Err(error) => one(name, What::Fail(error.into()), None),
        Ok(metadata) if metadata.is_dir() => match Tree::new(path, with_slash(&name)) {
            Err(error) => one(name, What::Fail(error.into()), None),
            Ok(tree) => Box::new(tree.map(|found| step_below(found, outputs))),
        },
        Ok(metadata) => {
            let source = Source::File { path: path.to_owned(), follow: true, size: metadata.len() };
            one(name, What::Digest, Some(source))
        }
    }
}

fn one(name: Vec<u8>, what: What, source: Option<Source>) -> Box<dyn Iterator<Item = Work<Step>> + Send> {
    Box::new(std::iter::once(Work { tag: Step { name, what }, source }))
}

/// The work for something below a directory.
fn step_below(found: Found, outputs: &[FileId]) -> Work<Step> {
    let Found { name, path, kind } = found;
    let (what, source) = match kind {
        FoundKind::File { id, .. } if outputs.contains(&id) => (What::Skip(Skip::Output), None),
        FoundKind::File { size, .. } => (What::Digest, Some(Source::File { path, follow: false, size })),
        FoundKind::Symlink => (What::Skip(Skip::Symlink), None),
        FoundKind::Special => (What::Skip(Skip::Special), None),
        FoundKind::Unfinished => (What::Skip(Skip::Unfinished), None),
        FoundKind::Unreadable(error) => (What::Fail(error.into()), None),
    };
    Work { tag: Step { name, what }, source }
}

/// The name of a directory as the names below it begin.
fn with_slash(name: &[u8]) -> Vec<u8> {
    let mut prefix = name.to_vec();
    if !prefix.ends_with(b"/") {
        prefix.push(b'/');
    }
    prefix
}

/// The files that the manifest goes to, which may lie in a tree that is hashed.
fn outputs(args: &Args) -> Vec<FileId> {
    let file = args.file().and_then(|path| fs::metadata(path).ok()).map(|metadata| FileId::of(&metadata));
    file.into_iter().chain(id_of_handle(io::stdout())).collect()
}

impl Args {
    /// The file to write to, if it is not standard output.
    fn file(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }
}

/// What becomes the manifest, the JSON object and the lines for people.
struct Report<'a> {
    args: &'a Args,
    out: &'a Output,
    /// Lines that were not written yet.
    manifest: Vec<u8>,
    /// Kept for JSON only.
    files: Vec<JsonFile>,
    hashed: u64,
    bytes: u64,
    skipped: JsonSkipped,
    /// The first `limits::FAILURES_KEPT`.
    failures: Vec<JsonFailure>,
    failed: u64,
    causes: BTreeSet<Exit>,
}

impl<'a> Report<'a> {
    fn new(args: &'a Args, out: &'a Output) -> Self {
        Self {
            args,
            out,
            manifest: Vec::new(),
            files: Vec::new(),
            hashed: 0,
            bytes: 0,
            skipped: JsonSkipped::default(),
            failures: Vec::new(),
            failed: 0,
            causes: BTreeSet::new(),
        }
    }

    fn take(&mut self, step: Step, answer: Option<Result<Reading, ReadError>>) -> anyhow::Result<()> {
        let Step { name, what } = step;
        match (what, answer) {
            (What::Skip(skip), _) => self.skipped.count(skip),
            (What::Fail(error), _) | (What::Digest, Some(Err(error))) => {
                self.fail(&name, error.exit(), error.to_string());
            }
            (What::Digest, Some(Ok(reading))) if !reading.is_stable => {
                self.fail(&name, Exit::SourceChanged, "changed while it was read".into());
            }
            (What::Digest, Some(Ok(reading))) => self.add(&name, &reading)?,
            (What::Digest, None) => unreachable!("what is to be digested has a source"),
        }
        Ok(())
    }

    fn add(&mut self, name: &[u8], reading: &Reading) -> anyhow::Result<()> {
        self.hashed += 1;
        self.bytes += reading.bytes;
        if self.is_manifest_wanted() {
            write_sum(&mut self.manifest, &reading.digest, name)?;
        }
        if self.out.is_json() {
            let digest = reading.digest.to_string();
            self.files.push(JsonFile { name: JsonName::new(name), digest, bytes: reading.bytes });
        }
        // Whoever waits for the line of a large file gets it at once.
        let is_due = self.manifest.len() >= FLUSH_BYTES || reading.bytes >= LARGE_BYTES;
        if is_due && self.args.file().is_none() { self.flush() } else { Ok(()) }
    }

    fn fail(&mut self, name: &[u8], exit: Exit, reason: String) {
        self.out.problem(&format!("{}: {reason}", escape(name)));
        self.failed += 1;
        self.causes.insert(exit);
        if self.failures.len() < limits::FAILURES_KEPT {
            self.failures.push(JsonFailure { name: JsonName::new(name), reason, exit_code: exit });
        }
    }

    /// With `--json`, standard output holds the object alone.
    fn is_manifest_wanted(&self) -> bool {
        !self.out.is_json() || self.args.file().is_some()
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let lines = std::mem::take(&mut self.manifest);
        if lines.is_empty() { Ok(()) } else { self.out.result(&lines) }
    }

    fn finish(mut self, elapsed: Duration) -> anyhow::Result<Exit> {
        match self.args.file() {
            Some(path) => write_file(path, &self.manifest).map_err(|error| {
                Failure::new(Exit::of_io(&error), format!("cannot write {}: {error}", shown(path)))
            })?,
            None => self.flush()?,
        }
        if let Some(note) = self.skipped.note() {
            self.out.say(&note);
        }
        if self.failed > 0 {
            self.out.say(&format!(
                "the manifest lacks {} that could not be hashed",
                units::counted(self.failed, "name")
            ));
        }
        let exit = Exit::of_files(self.causes);
        self.out.detail(&format!(
            "{}, {} hashed in {}",
            units::counted(self.hashed, "file"),
            units::bytes(self.bytes),
            units::duration(elapsed)
        ));
        if self.out.is_json() {
            self.out.json(&JsonHash {
                version: JSON_VERSION,
                command: "hash",
                algorithm: self.args.digest.kind().name(),
                files: self.files,
                bytes: self.bytes,
                elapsed_s: elapsed.as_secs_f64(),
                skipped: self.skipped,
                failures: self.failures,
                failed: self.failed,
                exit_code: exit,
            })?;
        }
        Ok(exit)
    }
}

#[derive(Serialize)]
struct JsonHash {
    version: u32,
    command: &'static str,
    algorithm: &'static str,
    files: Vec<JsonFile>,
    bytes: u64,
    elapsed_s: f64,
    skipped: JsonSkipped,
    failures: Vec<JsonFailure>,
    failed: u64,
    exit_code: Exit,
}

#[derive(Serialize)]
struct JsonFile {
    #[serde(flatten)]
    name: JsonName,
    digest: String,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonFailure {
    #[serde(flatten)]
    name: JsonName,
    reason: String,
    exit_code: Exit,
}

/// What was left out, by count.
#[derive(Clone, Copy, Default, Serialize)]
struct JsonSkipped {
    symlinks: u64,
    special: u64,
    unfinished: u64,
    outputs: u64,
}

impl JsonSkipped {
    fn count(&mut self, skip: Skip) {
        *match skip {
            Skip::Symlink => &mut self.symlinks,
            Skip::Special => &mut self.special,
            Skip::Unfinished => &mut self.unfinished,
            Skip::Output => &mut self.outputs,
        } += 1;
    }

    /// One line for people, if anything was left out.
    fn note(&self) -> Option<String> {
        let parts: Vec<String> = [
            (self.symlinks, "symbolic link"),
            (self.special, "special file"),
            (self.unfinished, "unfinished file"),
            (self.outputs, "output file"),
        ]
        .into_iter()
        .filter(|&(count, _)| count > 0)
        .map(|(count, what)| units::counted(count, what))
        .collect();
        (!parts.is_empty()).then(|| format!("left out: {}", parts.join(", ")))
    }
}

/// Lines are written once there are this many bytes of them …
const FLUSH_BYTES: usize = 64 << 10;
/// … and after a file of this many bytes.
const LARGE_BYTES: u64 = 1 << 20;
