//! Values to bytes and back: pure, total, bounded.
//!
//! ```text
//! hello      the first bytes of a connection, layout frozen for all versions
//! frame      length, type, flags; an incremental reader for any split of the bytes; the hot frames laid out by hand
//! message    the control messages inside frames (bincode)
//! packet     the datagrams of the UDP flow: header, blocks
//! numbers    which packets have arrived, in few bytes
//! varint     the integers inside them
//! ```
//!
//! Nothing here waits, allocates more than the stated limits, or panics on bytes from a peer. `protocol.md` says
//! the same for other languages; `fixtures/wire` holds golden bytes for both directions.

pub mod frame;
pub mod hello;
pub mod message;
mod numbers;
pub mod packet;
pub mod varint;
