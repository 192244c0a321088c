//! The record of campaigns.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::{beside, setting};

/// Adds a line, if that is asked for.
pub fn add(campaign: &str, range: &str, failures: usize, took: Duration) {
    if setting("HAUL_LEDGER", 0) == 0 {
        return;
    }
    let commit = said_by("git", &["rev-parse", "--short", "HEAD"]);
    let is_clean = said_by("git", &["status", "--porcelain"]).is_empty();
    let commit = if is_clean { commit } else { format!("{commit} with changes") };
    let date = said_by("date", &["-u", "+%Y-%m-%d"]);
    let line = format!("| {date} | {commit} | {campaign} | {range} | {failures} | {} s |\n", took.as_secs());
    let file = OpenOptions::new().append(true).open(beside("ledger.md"));
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the ledger can be written");
}

fn said_by(command: &str, arguments: &[&str]) -> String {
    let output = Command::new(command).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
