//! A world on a virtual clock, from one seed. Nothing but tests and campaigns imports it.
//!
//! ```text
//!   agenda     what happens when            chance     what the seed decides
//!   road       a link in each direction, and what systems do to damaged packets
//!   witness    reads every packet, and holds both ends of a flow to what they promise
//!   lane       one flow: both ends, a source, a target, its checks
//!   flows      lanes that share a road                        forger     makes datagrams up
//!   rival      a flow of kernel TCP with CUBIC beside them
//!   figures    what a person would measure
//!   cell       one line of a table: a link, a file, a law, several seeds
//!   window     holds a sender to its window
//!   restarts   sessions that end badly, one after the other, on a disk that fails
//!   world      a whole client and a whole server over both carriers, and everything that can go wrong
//! ```

mod agenda;
mod cell;
mod chance;
mod figures;
mod flows;
mod forger;
mod lane;
mod restarts;
mod rival;
mod road;
#[cfg(test)]
mod tests;
mod window;
mod witness;
mod world;

pub use cell::{Cell, Outcome};
pub use figures::{Figures, SESSION_ROUNDS, ideal_rate, jain, median};
pub use flows::Flows;
pub use lane::{LaneConfig, LaneReport};
pub use restarts::Restarts;
pub use rival::RivalConfig;
pub use world::{Fault, Plan, Tally, World};
