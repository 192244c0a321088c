//! The `haul` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: haul::run::memory::Aligned = haul::run::memory::Aligned;

fn main() -> ExitCode {
    haul::cli::main()
}
