//! Holds protocol.md and the source to each other: every rule is enforced somewhere and proven somewhere, every
//! citation means a rule, the limits are the same in both, and imports go down only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use haul::limits;

/// Folders and files of `src`, from the top; those of one line do not import each other.
const LAYERS: &[&[&str]] = &[
    &["sim"],
    &["main"],
    &["cli"],
    &["compare", "sim"],
    &["run", "emulator"],
    &["net"],
    &["session"],
    &["stream", "datagram", "file"],
    &["transfer"],
    &["security", "link"],
    &["wire"],
    &["integrity"],
    &["units", "limits"],
];

/// Defines the rules; stands before each citation.
const PROTOCOL: &str = "protocol.md";

/// Where a rule is cited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Code,
    Test,
}

/// One line of the source with its place.
struct Line {
    /// Path below the repository.
    file: PathBuf,
    /// Counted from 1.
    number: usize,
    text: String,
    side: Side,
}

#[test]
fn every_rule_is_defined_once() {
    let mut seen = BTreeSet::new();
    for rule in defined_rules() {
        assert!(seen.insert(rule.clone()), "protocol.md defines [{rule}] twice");
    }
    for (number, line) in (1..).zip(protocol().lines()) {
        for rule in rules_in(line) {
            assert!(
                seen.contains(&rule),
                "protocol.md:{number} speaks of [{rule}], which it does not define"
            );
        }
    }
}

#[test]
fn every_citation_means_a_rule() {
    let defined: BTreeSet<_> = defined_rules().into_iter().collect();
    for line in source_lines() {
        for rule in cited_in(&line.text) {
            assert!(
                defined.contains(&rule),
                "{}:{} cites [{rule}], which protocol.md does not define",
                line.file.display(),
                line.number
            );
        }
    }
}

#[test]
fn every_rule_is_enforced_by_code_and_proven_by_a_test() {
    let mut cited: BTreeMap<String, BTreeSet<Side>> = BTreeMap::new();
    for line in source_lines() {
        for rule in cited_in(&line.text) {
            cited.entry(rule).or_default().insert(line.side);
        }
    }

    let lacks = |side| {
        let has = |rule: &String| cited.get(rule).is_some_and(|sides| sides.contains(&side));
        defined_rules().into_iter().filter(|rule| !has(rule)).collect::<BTreeSet<_>>()
    };

    assert_eq!(lacks(Side::Code), BTreeSet::new(), "rules that no code cites");
    assert_eq!(lacks(Side::Test), BTreeSet::new(), "rules that no test cites");
}

#[test]
fn the_limits_are_those_of_the_protocol() {
    // protocol.md [LIMIT-1]
    let bytes = |bytes: usize| bytes.to_string();
    let seconds = |time: Duration| time.as_secs_f64().to_string();
    let ours = BTreeMap::from([
        ("PORT", limits::PORT.to_string()),
        ("HELLO_MAX_BYTES", bytes(limits::HELLO_MAX_BYTES)),
        ("PRE_AUTH_MAX_BYTES", bytes(limits::PRE_AUTH_MAX_BYTES)),
        ("CONTROL_MAX_BYTES", bytes(limits::CONTROL_MAX_BYTES)),
        ("CHUNK_MIN_BYTES", bytes(limits::CHUNK_MIN_BYTES)),
        ("CHUNK_BYTES", bytes(limits::CHUNK_BYTES)),
        ("CHUNK_MAX_BYTES", bytes(limits::CHUNK_MAX_BYTES)),
        ("DATA_HEADER_BYTES", bytes(limits::DATA_HEADER_BYTES)),
        ("TEXT_MAX_BYTES", bytes(limits::TEXT_MAX_BYTES)),
        ("ENTRIES_PER_BATCH", bytes(limits::ENTRIES_PER_BATCH)),
        ("RECORDS_PER_FRAME", bytes(limits::RECORDS_PER_FRAME)),
        ("SOURCES_MAX", bytes(limits::SOURCES_MAX)),
        ("PATTERNS_MAX", bytes(limits::PATTERNS_MAX)),
        ("FILE_MAX_BYTES", limits::FILE_MAX_BYTES.to_string()),
        ("NAME_MAX_BYTES", bytes(limits::NAME_MAX_BYTES)),
        ("PATH_MAX_BYTES", bytes(limits::PATH_MAX_BYTES)),
        ("PATH_MAX_DEPTH", bytes(limits::PATH_MAX_DEPTH)),
        ("OPEN_ENTRIES_MAX", bytes(limits::OPEN_ENTRIES_MAX)),
        ("HARDLINKS_MAX", bytes(limits::HARDLINKS_MAX)),
        ("UNLISTED_NAME_MAX_BYTES", bytes(limits::UNLISTED_NAME_MAX_BYTES)),
        ("BACKLOG_MAX_FRAMES", bytes(limits::BACKLOG_MAX_FRAMES)),
        ("HOLE_MAX_BYTES", limits::HOLE_MAX_BYTES.to_string()),
        ("STREAMS_MAX", bytes(limits::STREAMS_MAX)),
        ("CREDIT_MIN_BYTES", limits::CREDIT_MIN_BYTES.to_string()),
        ("CREDIT_MAX_BYTES", limits::CREDIT_MAX_BYTES.to_string()),
        ("PLACED_RANGES_MAX", bytes(limits::PLACED_RANGES_MAX)),
        ("KEY_MAX_PACKETS", limits::KEY_MAX_PACKETS.to_string()),
        ("KEY_UPDATE_PACKETS", limits::KEY_UPDATE_PACKETS.to_string()),
        ("FORGERIES_MAX", limits::FORGERIES_MAX.to_string()),
        ("FLOW_NUMBER_MIN", limits::FLOW_NUMBER_MIN.to_string()),
        ("PACKET_WINDOW_MAX", limits::PACKET_WINDOW_MAX.to_string()),
        ("ACK_DELAY_MAX_US", limits::ACK_DELAY_MAX_US.to_string()),
        ("DATAGRAM_MAX_BYTES", bytes(limits::DATAGRAM_MAX_BYTES)),
        ("FLOW_BLOCKED_AFTER", seconds(limits::FLOW_BLOCKED_AFTER)),
        ("UNAUTHENTICATED_MAX", bytes(limits::UNAUTHENTICATED_MAX)),
        ("AUTH_DEADLINE", seconds(limits::AUTH_DEADLINE)),
        ("CONNECT_TIMEOUT", seconds(limits::CONNECT_TIMEOUT)),
        ("ATTEMPT_DELAY", seconds(limits::ATTEMPT_DELAY)),
        ("HEARTBEAT", seconds(limits::HEARTBEAT)),
        ("IDLE_TIMEOUT", seconds(limits::IDLE_TIMEOUT)),
        ("HEARD_EVERY_FRAMES", limits::HEARD_EVERY_FRAMES.to_string()),
        ("CONTROL_LOG_MAX_FRAMES", bytes(limits::CONTROL_LOG_MAX_FRAMES)),
        ("CONTROL_LOG_MAX_BYTES", bytes(limits::CONTROL_LOG_MAX_BYTES)),
        ("REJOIN_WITHIN", seconds(limits::REJOIN_WITHIN)),
        ("REJOIN_AFTER", seconds(limits::REJOIN_AFTER)),
        ("FLOW_FRESH", seconds(limits::FLOW_FRESH)),
        ("LINGER", seconds(limits::LINGER)),
        ("RESUME_SPANS_MAX", bytes(limits::RESUME_SPANS_MAX)),
        ("RESUME_MIN_BYTES", limits::RESUME_MIN_BYTES.to_string()),
        ("SUM_BLOCK_BYTES", limits::SUM_BLOCK_BYTES.to_string()),
        ("SUMS_PER_FRAME", bytes(limits::SUMS_PER_FRAME)),
        ("REPAIRS_MAX", limits::REPAIRS_MAX.to_string()),
        ("GONE_AFTER", seconds(limits::GONE_AFTER)),
    ]);
    let text = protocol();
    let mut theirs = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = row.split('|').map(str::trim);
        let (Some(name), Some(value)) = (cells.next(), cells.next()) else { continue };
        if let Some(name) = name.strip_suffix('`')
            && name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
        {
            theirs.insert(name, value.to_owned());
        }
    }

    assert_eq!(theirs, ours);
}

#[test]
fn imports_go_down_only() {
    let depth = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    for line in source_lines().iter().filter(|line| line.side == Side::Code) {
        let below = line.file.strip_prefix("src").expect("code stands in src");
        let first = below.iter().next().expect("a file has a name").to_str().expect("our names are text");
        let here = first.strip_suffix(".rs").unwrap_or(first);
        if here == "lib" {
            continue;
        }
        let own = depth(here).unwrap_or_else(|| panic!("src/{here} has no place in the order of folders"));
        let code = line.text.split("//").next().unwrap_or_default();
        for there in imported_in(code) {
            let Some(other) = depth(there) else { continue };
            assert!(
                there == here || other > own,
                "{}:{}: `{here}` imports `{there}`, which does not lie below it",
                line.file.display(),
                line.number
            );
        }
    }
}

#[test]
fn the_reading_of_rules_is_right() {
    // In two parts, so that these lines cite nothing themselves.
    let citing = |rules: &str| cited_in(&format!("/// Whole. {PROTOCOL} {rules}"));

    assert_eq!(citing("[AB-1], [CD-20]"), ["AB-1", "CD-20"]);
    assert_eq!(citing("[A-2] to [A-4]: see [x]"), ["A-2", "A-4", "A-3"]);
    assert_eq!(citing("[a-1] [A-] [-1] [A1]"), Vec::<String>::new());
    assert_eq!(cited_in("let x = list[A-1];"), Vec::<String>::new());
    assert_eq!(imported_in("use crate::wire::frame; crate::limits::X"), ["wire", "limits"]);
}

/// Ids behind the name of the protocol's page on a line of the source; from 1 `to` 3 is three.
fn cited_in(line: &str) -> Vec<String> {
    let Some((_, rest)) = line.split_once(PROTOCOL) else { return Vec::new() };
    let mut rules = rules_in(rest);
    for (at, _) in rest.match_indices("] to [") {
        let (Some(from), Some(to)) =
            (rules_in(&rest[..=at]).pop(), rules_in(&rest[at + 1..]).into_iter().next())
        else {
            continue;
        };
        let split =
            |rule: &str| rule.split_once('-').map(|(name, n)| (name.to_owned(), n.parse::<u32>().unwrap()));
        let (Some((name, from)), Some((_, to))) = (split(&from), split(&to)) else { continue };
        rules.extend((from + 1..to).map(|n| format!("{name}-{n}")));
    }
    rules
}

/// Everything of the form `[WORD-7]`.
fn rules_in(text: &str) -> Vec<String> {
    let id = |part: &str| {
        let (name, number) = part.split_once(']')?.0.split_once('-')?;
        let is_id = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit());
        is_id.then(|| format!("{name}-{number}"))
    };
    text.split('[').skip(1).filter_map(id).collect()
}

/// Folders named behind `crate::`.
fn imported_in(code: &str) -> Vec<&str> {
    code.split("crate::")
        .skip(1)
        .map(|part| part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default())
        .filter(|name| !name.is_empty())
        .collect()
}

/// A rule is defined by its id in bold at the start of a line.
fn defined_rules() -> Vec<String> {
    let text = protocol();
    text.lines()
        .filter(|line| line.starts_with("**["))
        .flat_map(|line| rules_in(line).into_iter().take(1))
        .collect()
}

fn protocol() -> String {
    fs::read_to_string(root().join(PROTOCOL)).expect("protocol.md is there")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All lines below `src` and `tests`. Files named `tests.rs`, folders named `tests`, and what follows `#[cfg(test)]`
/// with a module in braces are tests.
fn source_lines() -> Vec<Line> {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        files_below(&root().join(folder), &mut files);
    }
    files.sort();
    let mut lines = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("our sources are text");
        let file = file.strip_prefix(root()).expect("it was found below").to_owned();
        let is_test = file.iter().any(|part| part == "tests" || part == "tests.rs");
        let mut side = if is_test { Side::Test } else { Side::Code };
        let mut was_cfg = false;
        for (number, text) in (1..).zip(text.lines()) {
            if was_cfg && text.trim_start().starts_with("mod ") && text.ends_with('{') {
                side = Side::Test;
            }
            was_cfg = text.trim() == "#[cfg(test)]";
            lines.push(Line { file: file.clone(), number, text: text.to_owned(), side });
        }
    }
    lines
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            files_below(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
