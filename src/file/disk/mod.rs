//! The seam to the operating system: thin wrappers over system calls on open directory handles.
//!
//! [`read`] looks and reads; [`dirs`] finds the directory of a path without ever following a symbolic link.
pub mod dirs;
pub mod read;
