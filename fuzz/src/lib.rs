//! What is fuzzed: every decoder of bytes and text that others write, and every state machine that a peer drives.
//!
//! ```text
//! wire       hello, frames, message, packet, numbers, varint
//! text       ticket, sums, link, trace, grid, units, path, selection, records
//! machines   opening, connection, control_log, sender, receiver, placement,
//!            flow_sender, flow_receiver, raw_flow, target
//! ```
//!
//! A target is one function of bytes in the file of its name. It panics when a property does not hold; that nothing else
//! panics is a property of all. `bins` hands each to libFuzzer. `tests/corpus.rs` includes this file and replays `corpus`
//! on the stable compiler, so that only what both have may be used here: `haul`'s public interface, and no crate that
//! its tests do not have.
//!
//! A machine's input is a list of events, read from the bytes one after the other ([`bytes`]); when they are used up, the
//! run ends. Time is part of the events.

pub mod bytes;
pub mod cuts;
mod frame_of;
pub mod packets;
mod stream_of;

mod connection;
mod control_log;
mod flow_receiver;
mod flow_sender;
mod frames;
#[cfg(target_os = "linux")]
mod grid;
mod hello;
mod link;
mod message;
mod numbers;
mod opening;
mod packet;
mod path;
mod placement;
mod raw_flow;
mod receiver;
#[cfg(target_os = "linux")]
mod records;
mod selection;
mod sender;
mod sums;
mod target;
mod ticket;
mod trace;
mod units;
mod varint;

pub use connection::connection;
pub use control_log::control_log;
pub use flow_receiver::flow_receiver;
pub use flow_sender::flow_sender;
pub use frames::frames;
#[cfg(target_os = "linux")]
pub use grid::grid;
pub use hello::hello;
pub use link::link;
pub use message::message;
pub use numbers::numbers;
pub use opening::opening;
pub use packet::packet;
pub use path::path;
pub use placement::placement;
pub use raw_flow::raw_flow;
pub use receiver::receiver;
#[cfg(target_os = "linux")]
pub use records::records;
pub use selection::selection;
pub use sender::sender;
pub use sums::sums;
pub use target::target;
pub use ticket::ticket;
pub use trace::trace;
pub use units::units;
pub use varint::varint;
