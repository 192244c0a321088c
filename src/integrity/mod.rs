//! Digests, checksums and manifests.

pub mod digest;
