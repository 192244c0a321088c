//! What takes too long for every run of the tests: millions of worlds and forgeries, the whole goodput grid.
//!
//! ```text
//! cargo test --release --test campaign -- --ignored            everything, at its default size
//! cargo test --release --test campaign -- --ignored worlds     one campaign of: worlds, restarts, forgeries,
//!                                                              goodput, sharing, cubic, emulator, kills, soak,
//!                                                              outages
//!
//! HAUL_SEEDS=1000000   worlds, restarts: how many (10,000)     goodput: seeds of each cell (9)
//! HAUL_FROM=5000       worlds, restarts, kills: the first seed (0)
//! HAUL_SECONDS=3600    worlds, restarts, kills: stop after so long (none)
//! HAUL_JOBS=4          worlds, restarts, goodput, sharing, cubic, kills, outages: threads (1)
//!                      soak: clients at once (3)
//! HAUL_RUNS=1000       kills: how many (100)
//! HAUL_TRANSFERS=10000 soak: how many (10,000)
//! HAUL_FORGERIES=N     forgeries: how many (1,000,000)
//! HAUL_ROWS=loss=5%    goodput: only rows that have this in their link
//! HAUL_LEDGER=1        worlds, forgeries, kills, soak, outages: add a line to tests/campaign/ledger.md
//! HAUL_WRITE=1         goodput, sharing, cubic, emulator: write the table of that name in tests/campaign instead of
//!                      comparing
//! ```
//!
//! A world that fails prints the seed that replays it: `HAUL_SIM_SEED=7 cargo test --lib sim::tests::one_seed`. A goodput
//! that is more than a point below the table's fails, too: whoever writes the table anew says in the commit why.

#[path = "../common/mod.rs"]
mod common;
mod cubic;
#[cfg(target_os = "linux")]
mod emulator;
mod forgeries;
mod goodput;
#[cfg(target_os = "linux")]
mod kills;
mod ledger;
#[cfg(target_os = "linux")]
mod outages;
#[cfg(target_os = "linux")]
#[path = "../kills/play/mod.rs"]
mod play;
mod sharing;
#[cfg(target_os = "linux")]
mod soak;
mod worlds;

use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A setting from the environment.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no value for it")),
        Err(_) => default,
    }
}

/// Does `work` for all items on as many threads as were asked for; the results in the order of the items.
fn on_all<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..setting("HAUL_JOBS", 1) {
            scope.spawn(|| {
                while let Some((at, item)) =
                    Some(next.fetch_add(1, Relaxed)).and_then(|at| Some((at, items.get(at)?)))
                {
                    let result = work(item);
                    results.lock().expect("nobody panics with it").push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("nobody panics with it");
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// A file beside this one.
fn beside(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/campaign").join(name)
}
