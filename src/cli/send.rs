//! `haul send PATH... DEST`: pushes files and trees.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::{
    again::Patience,
    exit::{Exit, Failure},
    output::Output,
    peer::{self, Place},
    retry,
    transfer::{self, ClientOptions},
};
use crate::{
    file::{path::RelPath, selection::Selection, target::Expect, walk::Walk},
    run::{
        client::{Client, Landing, Wish},
        sending::Source,
    },
    units::Bitrate,
};

/// Send files and trees
///
/// DEST is the ticket that `haul recv` or `haul serve` printed, `@FILE` with a ticket in it, or HOST:PATH of a known
/// server; it may be left out when HAUL_TICKET is set. `tree` arrives as `tree`, `tree/` as its contents. `-` is
/// standard input and needs `--name`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to send, and last where to
    #[arg(required = true, value_name = "PATH... DEST")]
    pub paths: Vec<OsString>,
    /// Name of standard input at the other end
    #[arg(long, value_name = "NAME")]
    pub name: Option<OsString>,
    /// Send at most at this rate, such as 200mbit
    #[arg(long, value_name = "RATE", env = "HAUL_RATE", hide_env = true)]
    pub rate: Option<Bitrate>,
    /// Have the server check what comes and throw it away, for measuring; it must run with --discard
    #[arg(long, conflicts_with_all = ["dry_run", "checksum"])]
    pub discard: bool,
    /// What all transfers have in common.
    #[command(flatten)]
    pub options: ClientOptions,
}

/// Sends, and says what happened.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    let (paths, place) = destination(args, out)?;
    let expect = args.options.expected()?;
    let home = peer::home()?;
    let peer = args.options.peer(&place, &home)?;
    let to = landing(args, &place)?;
    let make = |is_again| {
        let options = args.options.session(args.rate, is_again)?;
        let source = source(&paths, args, &expect)?;
        let wish = Wish::Push { source, to: to.clone(), expect: expect.clone() };
        Ok(Client::new("send", peer.clone(), options, wish))
    };
    // What standard input gave is gone; what shows a path is not to be shown twice.
    let can_again = !paths.iter().any(|path| is_stdin(path)) && !args.options.is_raw() && !args.discard;
    let patience = if can_again { Patience::For(args.options.retry_for) } else { Patience::None };
    transfer::run_client(make, patience, &place, &home, args.options.fail_if_nothing, out)
}

/// Splits the last argument off, if it is an address.
fn destination(args: &Args, out: &Output) -> anyhow::Result<(Vec<PathBuf>, Place)> {
    let (last, rest) = args.paths.split_last().expect("clap asks for one");
    let place = match last.to_str() {
        Some(text) => peer::parse(text)?,
        None => None,
    };
    let (paths, place) = match place {
        Some(place) => (rest, place),
        None => {
            let place = peer::from_elsewhere(out)?.ok_or_else(|| {
                let text =
                    "where to? The last argument has to be a ticket, @FILE or HOST:PATH, or set HAUL_TICKET";
                Failure::new(Exit::Usage, text)
            })?;
            (&args.paths[..], place)
        }
    };
    if paths.is_empty() {
        return Err(Failure::new(Exit::Usage, "what? Name a file or a directory before the address").into());
    }
    Ok((paths.iter().map(PathBuf::from).collect(), place))
}

fn landing(args: &Args, place: &Place) -> anyhow::Result<Landing> {
    if !args.discard {
        return Ok(Landing::Below(place.path.clone()));
    }
    if !place.path.is_empty() {
        let text = "--discard keeps nothing: leave the path out of the address";
        return Err(Failure::new(Exit::Usage, text).into());
    }
    Ok(Landing::Nowhere)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn source(paths: &[PathBuf], args: &Args, expect: &Expect) -> anyhow::Result<Source> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    if paths.iter().any(|path| is_stdin(path)) {
        if paths.len() > 1 {
            return Err(usage("standard input travels alone".to_owned()).into());
        }
        if args.options.retry_failed.is_some() {
            return Err(usage("--retry-failed is not for standard input".to_owned()).into());
        }
        let name = args.name.as_ref().ok_or_else(|| usage("standard input needs a --name".to_owned()))?;
        let name = RelPath::parse(name.as_bytes()).map_err(|error| usage(format!("--name: {error}")))?;
        return Ok(Source::Stdin(name.as_bytes().to_vec()));
    }
    if args.name.is_some() {
        return Err(usage("--name is for standard input".to_owned()).into());
    }
    if matches!(expect, Expect::One(_)) && (paths.len() > 1 || paths[0].is_dir()) {
        return Err(usage("--expect with one digest is for a single file; use a manifest".to_owned()).into());
    }
    let mut selection = Selection::new(&args.options.include, &args.options.exclude)
        .map_err(|error| usage(error.to_string()))?;
    if let Some(result) = &args.options.retry_failed {
        selection = selection.only(retry::failed_names(result)?);
    }
    let walk = Walk::local(paths, selection);
    // Only what is read is compared with what is expected.
    let walk = if matches!(expect, Expect::None) { walk } else { walk.copying_links() };
    Ok(Source::Walk(Box::new(walk)))
}
