//! Digests, checksums and manifests.
//!
//! ```text
//! digest   SHA-256 or BLAKE3 over a file's bytes in order: the proof that a file arrived
//! crc32c   a checksum per chunk: finds which chunk is wrong when the proof fails, and proves nothing by itself
//! sums     digests with names, in the format that sha256sum and b3sum write and check
//! ```
//!
//! The lowest layer: values and bytes only, no clock, no socket, no file.

pub mod crc32c;
pub mod digest;
pub mod sums;
