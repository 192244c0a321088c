//! Flows over UDP at work: sockets, threads and the clock around [`datagram`](crate::datagram).
//!
//! ```text
//!   hub       one socket, one thread that receives; finds the flow of each packet
//!   host      what a session needs to open flows: keys, numbers, the hub
//!   choice    when content moves between TCP and a flow
//!   end       one end of a flow: its value, its thread that sends, and the session on its other side
//!   raw       the same of a flow that only shows what UDP does
//!   patience  when nothing is heard any more
//!   diary     the file in which an end writes down what it does
//! ```
//!
//! The receiving thread opens packets and puts chunks together; it never waits for a disk or a digest, since chunks go
//! to the session's queue. Each end sends from a thread of its own, which waits to the nanosecond.

mod choice;
mod diary;
mod end;
mod host;
mod hub;
mod patience;
mod raw;

pub use host::{FlowHost, FlowWish, HostState};
pub use hub::Hub;
