//! `haul compare diff BEFORE AFTER`: what became faster or slower beyond the noise; exit 14 if something became slower or broke.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::output::{JSON_VERSION, Output};
use crate::compare::comparison::{COMPARISON_VERSION, Comparison};
use crate::compare::diff::{Change, Verdict, changes};
use crate::units::bit_rate;

/// Say what became faster or slower, beyond the noise
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What `haul compare --json` printed before
    pub before: PathBuf,
    /// What it printed after
    pub after: PathBuf,
    /// Differences of less do not matter, percent
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    pub threshold: f64,
}

/// What `--json` prints.
#[derive(Serialize)]
struct JsonDiff<'a> {
    version: u32,
    command: &'static str,
    exit_code: u8,
    notes: &'a [String],
    changes: &'a [Change],
}

/// Compares two results.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let changes = changes(&before, &after, args.threshold);
    if changes.is_empty() {
        let text = "the two results have no contender in a common scenario";
        return Err(Failure::new(Exit::Usage, text).into());
    }
    let notes = notes(&before, &after);
    let is_worse = changes.iter().any(|it| matches!(it.verdict, Verdict::Slower | Verdict::Broken));
    let exit = if is_worse { Exit::Slower } else { Exit::Done };
    for note in &notes {
        out.say(note);
    }
    if out.is_json() {
        let (version, exit_code) = (JSON_VERSION, exit.code());
        out.json(&JsonDiff {
            version,
            command: "compare diff",
            exit_code,
            notes: &notes,
            changes: &changes,
        })?;
    } else {
        out.result(table(&changes).as_bytes())?;
    }
    Ok(exit)
}

fn read(path: &Path) -> anyhow::Result<Comparison> {
    let failed = |exit, why: String| Failure::new(exit, format!("{}: {why}", path.display()));
    let text = fs::read(path).map_err(|error| failed(Exit::LocalFile, error.to_string()))?;
    let comparison: Comparison = serde_json::from_slice(&text)
        .map_err(|error| failed(Exit::Usage, format!("not a result of `haul compare --json`: {error}")))?;
    if comparison.version != COMPARISON_VERSION {
        let text = format!("its version is {}, and this haul knows {COMPARISON_VERSION}", comparison.version);
        return Err(failed(Exit::Usage, text).into());
    }
    Ok(comparison)
}

/// What else differs, and may be the cause.
fn notes(before: &Comparison, after: &Comparison) -> Vec<String> {
    let (a, b) = (&before.machine, &after.machine);
    let facts = [
        ("the build", &a.build, &b.build),
        ("the kernel", &a.kernel, &b.kernel),
        ("the processor", &a.cpu, &b.cpu),
        ("the system's TCP", &a.tcp_congestion, &b.tcp_congestion),
        ("haul's version", &a.haul, &b.haul),
    ];
    let differ = facts.into_iter().filter(|(_, a, b)| a != b);
    differ.map(|(what, a, b)| format!("{what} differs: {a} before, {b} after")).collect()
}

fn table(changes: &[Change]) -> String {
    let mut text = String::new();
    let mut scenario = "";
    for it in changes {
        if it.scenario != scenario {
            scenario = &it.scenario;
            text += &format!("{scenario}\n");
        }
        text += &format!(
            "  {:<12} {:>12} {:>12} {:>+8.1} %   p {:<6.3} {}\n",
            it.contender,
            bit_rate(it.before_bits_per_s.median),
            bit_rate(it.after_bits_per_s.median),
            it.change_percent,
            it.p,
            it.verdict
        );
    }
    text
}
