//! The one seam to the disk: thin wrappers of system calls, all relative to open directories.
pub mod letter_case;
pub mod target_dirs;
pub mod write;
