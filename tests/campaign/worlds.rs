//! Whole clients and servers, and sessions that end badly, from many seeds.

use std::time::{Duration, Instant};

use haul::sim::{Restarts, World};

use crate::{ledger, on_all, setting};

/// Seeds between two looks at the clock.
const BATCH: u64 = 1000;
/// Failures that are shown.
const SHOWN: usize = 3;

#[test]
#[ignore = "a campaign: minutes to hours"]
fn worlds() {
    from_many_seeds("worlds", |seed| World::check(seed).err());
}

#[test]
#[ignore = "a campaign: minutes to hours"]
fn restarts() {
    from_many_seeds("restarts", |seed| Restarts::check(seed).err());
}

#[expect(clippy::disallowed_methods, reason = "a campaign is measured and bounded on the real clock")]
fn from_many_seeds(campaign: &str, failure_of: impl Fn(u64) -> Option<String> + Sync) {
    let (from, count): (u64, u64) = (setting("HAUL_FROM", 0), setting("HAUL_SEEDS", 10_000));
    let most = Duration::from_secs(setting("HAUL_SECONDS", u64::MAX));
    let begun = Instant::now();
    let mut failures = Vec::new();
    let mut next = from;

    while next < from + count && begun.elapsed() < most {
        let seeds: Vec<u64> = (next..(next + BATCH).min(from + count)).collect();
        failures.extend(on_all(&seeds, |&seed| failure_of(seed)).into_iter().flatten());
        next += seeds.len() as u64;
    }

    ledger::add(campaign, &format!("{from}..{next}"), failures.len(), begun.elapsed());
    let shown = failures.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(failures.is_empty(), "{} of {} seeds failed:\n{shown}", failures.len(), next - from);
}
