//! The one seam to the disk: thin wrappers over system calls on open directory handles.
//!
//! [`read`] looks and reads, [`dirs`] finds the directory of a path for it; [`mod@write`] makes and changes,
//! [`target_dirs`] finds and makes directories for it. Neither ever follows a symbolic link. [`letter_case`] finds out
//! whether a directory folds case, [`temp_name`] draws names for what is unfinished.
//!
//! What makes and changes goes through a [`Handle`]: to the system, or to a disk in [`memory`] that fails as tests wish.
mod chance;
pub mod dirs;
mod handle;
pub mod letter_case;
pub mod memory;
mod os;
pub mod read;
mod stat;
pub mod target_dirs;
pub mod temp_name;
pub mod write;
mod writeback;

pub use handle::Handle;
pub use stat::{FileKind, Stat};
