//! Digests, checksums and manifests.
