//! The one seam to the operating system: thin wrappers over system calls on open directory handles.
//!
//! [`read`] looks and reads, [`dirs`] finds the directory of a path for it; [`mod@write`] makes and changes,
//! [`target_dirs`] finds and makes directories for it. Neither ever follows a symbolic link. [`letter_case`] finds out
//! whether a directory folds case.
pub mod dirs;
pub mod letter_case;
pub mod read;
pub mod target_dirs;
pub mod write;
