//! Couples everything with the world: the only folder with threads, tasks, the clock and the system's randomness.
//!
//! ```text
//! client, server   a command from its first packet to its report
//! connect          finds a peer and opens connections of a session
//! session          the value that connections and threads share, around the sans-IO core
//! flow             flows over UDP: socket, threads
//! pump             one socket ⇄ one link ⇄ the session
//! sending          threads that list and read       receiving   the thread that writes
//! meter, verdict   what was waited for              results, report   what became of what
//! home             keys and tickets on this machine clock       the one door to time and chance
//! tcp              what TCP connections counted
//! memory           large blocks aligned             wait         until a deadline or a call
//! ```

pub mod client;
pub mod clock;
pub mod connect;
pub mod error;
pub mod flow;
pub mod home;
pub mod memory;
pub mod meter;
mod pump;
pub mod receiving;
pub mod report;
pub mod results;
pub mod sending;
pub mod server;
pub mod session;
pub mod tcp;
pub mod verdict;
pub mod wait;
