//! The file side: what is on the disk becomes entries and chunks, and chunks become files.
//!
//! Sending: [`walk`] lists trees into entries, [`selection`] says which, [`source`] reads one found file into
//! chunks. Receiving: [`target`] decides what is needed and places it, [`part`] holds an unfinished file beside its
//! name, [`journal`] and [`kept`] let another session go on with it, [`sweep`] removes
//! what nobody came back for, [`publish`] syncs and renames. Every name passes through [`path`], every system call through [`disk`].
pub mod disk;
pub mod failure;
pub mod journal;
pub mod kept;
pub mod part;
pub mod path;
pub mod publish;
pub mod selection;
pub mod source;
pub mod sweep;
pub mod target;
pub mod walk;
