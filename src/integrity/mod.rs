//! Digests, checksums and manifests.
pub mod crc32c;
pub mod digest;
