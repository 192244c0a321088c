//! A whole comparison: what `--json` prints, the page shows, and `diff` reads.

use serde::{Deserialize, Serialize};

use super::machine::Machine;
use super::record::Record;
use super::summary::Summary;

/// Number of the object's shape; fields may be added without a new number.
pub const COMPARISON_VERSION: u32 = 1;

/// Everything that was measured, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// [`COMPARISON_VERSION`].
    pub version: u32,
    /// `compare`.
    pub command: String,
    /// The code of the process.
    pub exit_code: u8,
    /// The machine and the program.
    pub machine: Machine,
    /// The command that does it again.
    pub reproduce: String,
    /// Whether it is the quick look of a command without arguments: one run each.
    pub is_quick_look: bool,
    /// Runs that were left out for want of time.
    pub left_out: usize,
    /// What the place of the comparison cannot show, for a reader; empty over emulated links.
    pub caveats: Vec<String>,
    /// Median and spread of each contender in each scenario.
    pub summaries: Vec<Summary>,
    /// Every run, warm-up included.
    pub runs: Vec<Record>,
}
