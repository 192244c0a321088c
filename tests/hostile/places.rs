//! What is in the way on the disk: files for directories, permissions, space.

use std::process::{Command, Stdio};

/// Whether this command can be run and ends with 0; it says nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
