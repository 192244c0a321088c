//! Real packets through a [`link`](crate::link): two hosts in network namespaces of their own, joined by TUN devices.
//!
//! ```text
//!   host, 10.77.0.1          the emulator           peer, 10.77.0.2
//!  +----------------+    +---------------------+    +----------------+
//!  | COMMAND        |    |  there: Link, timer |    | another, if    |
//!  |                | -> |         thread      | -> | there is one   |
//!  | kernel's TCP/IP|    |  back:  Link, timer |    | kernel's TCP/IP|
//!  | TUN haul0      | <- |         thread      | <- | TUN haul0      |
//!  +----------------+    +---------------------+    +----------------+
//! ```
//!
//! ```text
//! plan         what a run is to be, and what came of it
//! hosts        the whole run
//! handle       starts, ends and talks to a host's process
//! host         that process: its network and the program there
//! facts        what a host knows of itself at its end
//! words        what the two tell each other
//! lane         one direction: reads, asks the model, waits, writes
//! schedule     packets until their moment
//! runqueue     how long a lane waits for a processor
//! tally, flow  what was done, in all and for each flow; whether the machine kept up
//! samples      the same over time
//! device       namespaces and the TUN interface
//! refusal      what to change where the system allows none of it
//! descendants  all processes of a host, to end them
//! signals      what would end the caller, and is for the command
//! system       three system calls
//! clock        the door to the clock
//! ```
//!
//! The k-th packet of a direction has the same fate in every run of one seed; when it comes is up to the programs. The link
//! carries IPv4. It decides nothing by itself: what the model says is done to the packet at that time, and what the machine
//! was too slow for is counted apart ([`Machine`]).

mod clock;
mod descendants;
mod device;
mod facts;
mod flow;
mod handle;
pub mod host;
mod hosts;
mod lane;
mod plan;
mod refusal;
mod runqueue;
mod samples;
mod schedule;
mod signals;
mod system;
mod tally;
mod words;

pub use facts::HostFacts;
pub use flow::FlowKey;
pub use hosts::{HOST, PEER, run};
pub use plan::{Carried, EmulatorError, OURSELVES, Plan, Side, Streams};
pub use samples::Sample;
pub use tally::{Flow, LATE_BOUND, Machine, Share, Tally};
