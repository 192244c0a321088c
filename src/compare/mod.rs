//! The same file over the same link by every contender, and what each of them kept and cost.
//!
//! ```text
//!   plan --> runs, interleaved --> a run: two processes on a place --> Record --> Summary --> table, JSON, page
//! ```
//!
//! ```text
//! contender   who runs: TCP, our UDP, raw UDP, any other program; its command lines
//! plan, grid  which runs, in which order
//! payload     the file, and how much of it arrived
//! campaign    does all runs of a plan
//! place       runs a contender once: on an emulated link, over loopback, or to a real server
//! told        what haul's own processes say in JSON
//! record      all that is known of a run: what `--records` and `--json` hold
//! measure     from what was seen of a run to its record
//! guarantee   what was promised, what was kept, and what the link did beneath it
//! doubt       what speaks against a run's numbers
//! reason      why a run was as fast as it was, in words, from its counters
//! summary     median and spread
//! comparison  all of it: what `--json` prints
//! table       for people, in 80 columns
//! page        the same and more, as a page for a browser
//! explain     the chapter for newcomers
//! diff        what became faster or slower beyond the noise
//! machine     where all this was measured
//! ```
//!
//! Every contender is a process as a user would start it, ours like any other's. What the link did is counted by the link, what
//! arrived is compared with the source byte for byte, and what a process cost is counted by the kernel: nothing here believes what a
//! contender says of itself where it can be seen from outside.

pub mod campaign;
pub mod comparison;
pub mod contender;
pub mod diff;
pub mod doubt;
pub mod explain;
pub mod grid;
pub mod guarantee;
pub mod machine;
mod measure;
pub mod page;
pub mod payload;
pub mod place;
pub mod plan;
pub mod reason;
pub mod record;
pub mod summary;
pub mod table;
mod told;
