//! One transfer whose processes are killed while it lasts, as its seed decides, and what must hold in spite of that.
//!
//! ```text
//!  plan      what is sent, which way, over what; who is killed, and when
//!  payload   makes what is sent
//!  path      a bad one between both
//!  watch     sees every name that the target gets, the moment it gets it
//!  running   one process: how it is killed, how much it has written
//!  scene     both processes from the first start to the comparison at the end
//! ```
//!
//! What must hold: names appear in the target by finished renames alone, with the right bytes behind them; the same
//! commands again end with 0, with the same ticket; both trees are the same then; nothing of a finished file is left;
//! and no more travels again than `limits::CHECKPOINT_BYTES` says.

#![allow(dead_code, reason = "the campaign and the short slice of it share this, and neither uses all of it")]

mod path;
mod payload;
pub mod plan;
mod running;
mod scene;
pub mod watch;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::Place;
use plan::Plan;
use scene::Scene;

/// What came of a run that went well.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Processes that were killed while they sent.
    pub senders: u32,
    /// Processes that were killed while they received.
    pub receivers: u32,
    /// Content, bytes.
    pub content: u64,
    /// What the receiver wrote more than that, bytes.
    pub again: u64,
    /// Temporary files that killed processes left behind.
    pub left: usize,
    /// Times at which the path reset all connections.
    pub resets: u32,
    /// Whether the path was a bad one.
    pub is_rough: bool,
    /// Clients that were started again and refused, as what had been cut was not over for the server.
    pub refused: u32,
    /// Whether it was one large file.
    pub is_file: bool,
}

/// Plays the run of this seed. An error says what went wrong, where it can be looked at, and how it is played again.
pub fn check(seed: u64, replay: &str) -> Result<Told, String> {
    let plan = Plan::drawn(seed);
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let played = catch_unwind(AssertUnwindSafe(|| Scene::play(&plan, &here, &there)));
    played.map_err(|panic| {
        let text = panic.downcast::<String>().map_or_else(|_| "panicked".to_owned(), |text| *text);
        let (here, there) = (here.stay(), there.stay());
        let kept = format!("client in {}, server in {}", here.display(), there.display());
        format!("seed {seed}: {plan:?}\n{text}\nkept: {kept}\nagain: {replay}")
    })
}
