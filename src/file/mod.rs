//! The file side: what is on the disk becomes entries and chunks, and chunks become files.
//!
//! Sending: [`walk`] lists trees into entries, [`selection`] says which, [`source`] reads one found file into
//! chunks. Every name passes through [`path`], every system call through [`disk`].
pub mod disk;
pub mod path;
pub mod selection;
pub mod source;
pub mod walk;
