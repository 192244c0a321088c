//! The file side: what is on the disk becomes entries and chunks, and chunks become files.
pub mod disk;
pub mod failure;
pub mod part;
pub mod path;
pub mod publish;
pub mod target;
