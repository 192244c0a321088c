//! What the fuzzer has found, once more, on the stable compiler: every input of `fuzz/corpus`, by the target of its folder.
//!
//! `fuzz/run.sh` looks for further ones. An input on which a target panicked has a test of its own where the code lives, and
//! stays in the corpus.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A test of each target's name, and all the names.
macro_rules! targets {
    ($($(#[$attribute:meta])* $target:ident),* $(,)?) => {
        mod replays {
            $(
                $(#[$attribute])*
                #[test]
                fn $target() {
                    super::replay(stringify!($target), super::fuzz::$target);
                }
            )*
        }

        const TARGETS: &[&str] = &[$(stringify!($target)),*];
    };
}

targets! {
    connection,
    control_log,
    flow_receiver,
    flow_sender,
    frames,
    #[cfg(target_os = "linux")]
    grid,
    hello,
    link,
    message,
    numbers,
    opening,
    packet,
    path,
    placement,
    raw_flow,
    receiver,
    #[cfg(target_os = "linux")]
    records,
    selection,
    sender,
    sums,
    target,
    ticket,
    trace,
    units,
    varint,
}

#[test]
fn every_target_is_replayed_and_can_be_fuzzed() {
    let targets: BTreeSet<_> = TARGETS.iter().map(|target| (*target).to_owned()).collect();
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    let bins = manifest.lines().filter_map(|line| line.strip_prefix("path = \"bins/")?.strip_suffix(".rs\""));

    assert_eq!(names_in(&fuzz_folder().join("corpus")), targets);
    assert_eq!(names_in(&fuzz_folder().join("bins")), targets.iter().map(|it| format!("{it}.rs")).collect());
    assert_eq!(bins.map(str::to_owned).collect::<BTreeSet<_>>(), targets);
}

#[test]
fn the_corpus_stays_small() {
    let folders = names_in(&fuzz_folder().join("corpus"));
    let inputs = folders.iter().flat_map(|folder| inputs_of(folder));
    let bytes: u64 = inputs.map(|input| fs::metadata(input).unwrap().len()).sum();

    assert!(bytes <= CORPUS_MAX_BYTES, "{bytes} bytes: cargo fuzz cmin, or shorter inputs");
}

/// Gives each input of a target's folder to the target.
#[expect(clippy::print_stderr, reason = "how much was replayed is to be seen")]
fn replay(name: &str, target: fn(&[u8])) {
    let inputs = inputs_of(name);
    assert!(!inputs.is_empty(), "fuzz/corpus/{name} is empty");
    for input in &inputs {
        let data = fs::read(input).unwrap();
        if std::panic::catch_unwind(|| target(&data)).is_err() {
            panic!("{name} fails with {}", input.display());
        }
    }
    eprintln!("{name}: replayed {} inputs", inputs.len());
}

fn inputs_of(target: &str) -> Vec<PathBuf> {
    let folder = fuzz_folder().join("corpus").join(target);
    names_in(&folder).iter().map(|name| folder.join(name)).collect()
}

fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().expect("our names are text")).collect()
}

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What a clone carries for it.
const CORPUS_MAX_BYTES: u64 = 500_000;
