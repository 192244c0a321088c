//! The command line: one command, one file, and the frame around them.
//!
//! ```text
//! mod        Cli, its global options, the list of commands, and main
//! exit       the exit codes, and errors that carry one
//! output     standard output for results, standard error for people
//! progress   the two lines that show a transfer
//! options    options that several commands share
//! tree       the files below a directory, in byte order
//! digests    digests of many files by several threads, in order
//! peer       addresses, tickets, known keys
//! transfer   what all commands that move files have in common
//! spec       a link as it is typed
//! send  get  ls  serve (also recv, offer)  hash  verify  compare  link  completions  man      commands
//! ```
//!
//! A command is a file with `Args` (clap derive) and `run(args, &Output) -> anyhow::Result<Exit>`, a variant of
//! [`Command`] and a line in its `run`. `link` alone ends as the program that it ran. Nothing below `cli` prints, parses arguments or knows exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, CommandFactory as _, Parser, Subcommand};

#[cfg(target_os = "linux")]
pub mod again;
pub mod compare;
#[cfg(target_os = "linux")]
mod compare_diff;
pub mod completions;
pub mod digests;
pub mod exit;
pub mod get;
pub mod hash;
#[cfg(target_os = "linux")]
pub mod link;
pub mod ls;
pub mod man;
pub mod options;
pub mod output;
pub mod peer;
pub mod progress;
mod raw;
pub mod retry;
pub mod send;
pub mod serve;
#[cfg(target_os = "linux")]
pub mod spec;
pub mod transfer;
pub mod tree;
pub mod verify;

use exit::{Ending, Exit};
use output::Output;

#[cfg(target_os = "linux")]
use crate::emulator::host;

/// Moves files between machines and proves every byte
#[derive(Debug, Parser)]
#[command(name = "haul", version, max_term_width = 100, disable_help_subcommand = true, after_help = ENVIRONMENT)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const ENVIRONMENT: &str = "Options can come from environment variables, such as HAUL_DIGEST for --digest; not those that lower safety.";

/// Options that every command takes, before or after its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Global {
    /// Print one JSON object with the result to standard output
    #[arg(long, global = true, env = "HAUL_JSON", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub json: bool,
    /// Say only what went wrong
    #[arg(short, long, global = true, env = "HAUL_QUIET", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub quiet: bool,
    /// Say more; twice also logs what happens inside
    #[arg(short, long, global = true, env = "HAUL_VERBOSE", action = ArgAction::Count, hide_env = true)]
    pub verbose: u8,
    /// Do not draw progress on a terminal
    #[arg(long, global = true, env = "HAUL_NO_PROGRESS", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub no_progress: bool,
}

/// Every command.
#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "each variant wraps the arguments of the command of its name, documented there"
)]
pub enum Command {
    Recv(serve::RecvArgs),
    Offer(serve::OfferArgs),
    Send(send::Args),
    Get(get::Args),
    Serve(serve::ServeArgs),
    Ls(ls::Args),
    Hash(hash::Args),
    Verify(verify::Args),
    #[cfg(target_os = "linux")]
    Compare(compare::Args),
    #[cfg(target_os = "linux")]
    Link(link::Args),
    Completions(completions::Args),
    Man(man::Args),
}

impl Command {
    fn run(self, out: &Output) -> anyhow::Result<Ending> {
        let exit = match self {
            Self::Recv(args) => serve::recv(&args, out),
            Self::Offer(args) => serve::offer(&args, out),
            Self::Send(args) => send::run(&args, out),
            Self::Get(args) => get::run(&args, out),
            Self::Serve(args) => serve::serve(&args, out),
            Self::Ls(args) => ls::run(&args, out),
            Self::Hash(args) => hash::run(&args, out),
            Self::Verify(args) => verify::run(&args, out),
            #[cfg(target_os = "linux")]
            Self::Compare(args) => compare::run(&args, out),
            #[cfg(target_os = "linux")]
            Self::Link(args) => return link::run(&args, out),
            Self::Completions(args) => completions::run(&args, out),
            Self::Man(args) => man::run(&args, out),
        };
        exit.map(Ending::Ours)
    }
}

/// Does what the process's arguments ask for.
pub fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if std::env::args_os().next().is_some_and(|name| name == host::NAME) {
        return host::main();
    }
    run(std::env::args_os()).into()
}

/// Does what `arguments` ask for; the first is the program's own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Ending {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results, all else is a usage error; if nobody reads either, nothing is lost.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    if cli.global.verbose >= 2 {
        log_to_stderr(cli.global.verbose);
    }
    let out = Output::new(cli.global);
    match cli.command.run(&out) {
        Ok(ending) => ending,
        Err(error) => out.end_with(&error).into(),
    }
}

/// The command line as clap knows it, for completions and the manual.
pub fn definition() -> clap::Command {
    let mut command = Cli::command();
    command.build();
    command
}

fn log_to_stderr(verbose: u8) {
    let level = if verbose == 2 { tracing::Level::DEBUG } else { tracing::Level::TRACE };
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    // Only fails when a subscriber is set already, as in a test that runs two commands.
    let _ = subscriber.with_ansi(false).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        for line in ["haul --json -q hash a", "haul hash --json -q a", "haul hash a --json -q"] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert!(cli.global.json);
            assert!(cli.global.quiet);
        }
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error_and_help_is_not() {
        let run = |line: &str| run(line.split(' ').map(OsString::from));

        assert_eq!(run("haul --no-such-option"), Ending::Ours(Exit::Usage));
        assert_eq!(run("haul hash"), Ending::Ours(Exit::Usage));
        assert_eq!(run("haul --version"), Ending::Ours(Exit::Done));
    }
}
