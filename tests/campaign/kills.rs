//! Transfers whose processes are killed, from many seeds: see `tests/kills/play`.

use std::time::Duration;

use haul::run::clock;

use crate::play::{Told, check};
use crate::{ledger, on_all, setting};

/// Runs between two looks at the clock.
const BATCH: u64 = 16;
/// Failures that are shown.
const SHOWN: usize = 5;

#[test]
#[ignore = "a campaign: minutes to hours"]
#[expect(clippy::print_stderr, reason = "what a campaign found out is for the person who runs it")]
fn kills() {
    let (from, count): (u64, u64) = (setting("HAUL_FROM", 0), setting("HAUL_RUNS", 100));
    let most = Duration::from_secs(setting("HAUL_SECONDS", u64::MAX));
    let begun = clock::now();
    let (mut told, mut failures) = (Vec::new(), Vec::new());
    let mut next = from;

    while next < from + count && clock::now().duration_since(begun) < most {
        let seeds: Vec<u64> = (next..(next + BATCH).min(from + count)).collect();
        for result in on_all(&seeds, |&seed| check(seed, &replay(seed))) {
            match result {
                Ok(one) => told.push(one),
                Err(failure) => failures.push(failure),
            }
        }
        next += seeds.len() as u64;
    }

    let summary = summary(&told);
    eprintln!("{summary}");
    let took = clock::now().duration_since(begun);
    ledger::add("kills", &format!("{from}..{next}: {summary}"), failures.len(), took);
    let shown = failures.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {} runs failed:\n{shown}", failures.len(), next - from);
}

fn replay(seed: u64) -> String {
    format!("HAUL_FROM={seed} HAUL_RUNS=1 cargo test --release --test campaign -- --ignored kills")
}

/// Who was killed how often, and what travelled again: in runs with and without a receiver that died, of a tree and of one
/// file.
fn summary(told: &[Told]) -> String {
    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let again = |is_file: bool, has_receiver: bool| {
        let is_one = |told: &&Told| {
            told.is_file == is_file
                && (told.receivers > 0) == has_receiver
                && told.senders + told.receivers > 0
        };
        let mut all: Vec<u64> = told.iter().filter(is_one).map(|told| told.again).collect();
        all.sort_unstable();
        let (what, who) =
            (if is_file { "file" } else { "tree" }, if has_receiver { "receiver" } else { "sender" });
        let [median, most] =
            [all.get(all.len() / 2), all.last()].map(|bytes| mb(bytes.copied().unwrap_or(0)));
        format!("{what}, {who} died ({} runs): {median} MB, at most {most}", all.len())
    };
    let kills = [(false, false), (false, true), (true, false), (true, true)]
        .map(|(file, receiver)| again(file, receiver));
    format!(
        "{} senders and {} receivers killed; {} over bad paths, with {} resets; again, median: {}; {} temporary files \
         left; {} clients refused at first",
        sum(|told| told.senders.into()),
        sum(|told| told.receivers.into()),
        sum(|told| told.is_rough.into()),
        sum(|told| told.resets.into()),
        kills.join("; "),
        sum(|told| told.left as u64),
        sum(|told| told.refused.into()),
    )
}

fn mb(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}
