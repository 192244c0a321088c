//! `haul completions SHELL`: the script that lets a shell complete haul's commands and options.

use clap_complete::Shell;

use super::exit::Exit;
use super::output::Output;

/// Print the completion script for a shell
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Args {
    /// Shell to write for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the script for the shell asked for.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::definition(), "haul", &mut script);
    out.result(&script)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        for &shell in Shell::value_variants() {
            let mut script = Vec::new();

            clap_complete::generate(shell, &mut crate::cli::definition(), "haul", &mut script);

            assert!(String::from_utf8(script).unwrap().contains("verify"), "{shell}");
        }
    }
}
