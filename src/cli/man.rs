//! `haul man [COMMAND]`: the manual page in roff, from the same definition that parses the command line.

use std::io::{self, Write as _};

use clap_mangen::Man;

use super::exit::{Exit, Failure};
use super::output::Output;

/// Print the manual page, for `man -l -`
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Command whose page to print, instead of the page of haul itself
    pub command: Option<String>,
}

/// Prints the page asked for.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    let mut command = super::definition();
    if let Some(name) = &args.command {
        let found = command.find_subcommand(name).cloned();
        command = found.ok_or_else(|| Failure::new(Exit::Usage, format!("there is no command `{name}`")))?;
    }
    out.result(&page(&command)?)?;
    Ok(Exit::Done)
}

fn page(command: &clap::Command) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone()).section("1");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    writeln!(page, ".SH \"EXIT STATUS\"")?;
    for exit in Exit::ALL {
        writeln!(page, ".TP\n{}\n{}", exit.code(), exit.meaning().replace('-', "\\-"))?;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_exit_codes() {
        let haul = crate::cli::definition();
        let pages = haul.get_subcommands().cloned().chain([haul.clone()]);

        for command in pages {
            let name = command.get_name().to_owned();
            let page = String::from_utf8(page(&command).unwrap()).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
            assert!(page.contains(".TP\n130\ninterrupted"), "{name}");
        }
    }
}
