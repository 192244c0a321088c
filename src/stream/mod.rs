//! The carrier over TCP: frames on a byte stream, below a session and above a socket. Sans-IO.
//!
//! ```text
//!   socket bytes ─► Channel (TLS or plain) ─► hello, then FrameReader ─► frames
//!   socket bytes ◄─ Channel                ◄─ hello, then frames      ◄─ queue
//! ```
//!
//! [`Link`] is one connection: it takes bytes and the time, gives frames, and says when it wants to be asked again.
//! [`Growth`] decides when one connection more is worth having; [`Pacer`] keeps a session at the rate asked for.

mod growth;
mod link;
mod pacer;
#[cfg(test)]
mod tests;

pub use growth::Growth;
pub use link::{Link, LinkError};
pub use pacer::Pacer;
