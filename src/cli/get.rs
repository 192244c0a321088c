//! `haul get SOURCE... [-o TARGET]`: pulls.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, IsTerminal as _},
    os::{
        fd::AsFd as _,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use globset::GlobBuilder;

use super::{
    again::Patience,
    exit::{Exit, Failure},
    output::Output,
    peer::{self, Place},
    retry,
    transfer::{self, ClientOptions, Transport, WriteOptions},
};
use crate::{
    file::path::RelPath,
    file::selection::pattern_of,
    file::target::{self, Accept, Asked, Expect, LinkRule, Target, TargetConfig, TargetError},
    limits,
    run::{
        client::{Client, Wish},
        clock,
        connect::Peer,
    },
    units::Bitrate,
    wire::message::{Code, Intent},
};

/// Get files and trees
///
/// SOURCE is the ticket that `haul offer` or `haul serve` printed (with the path put behind the port), `@FILE` with a
/// ticket in it, or HOST:PATH of a known server. With HAUL_TICKET set, SOURCE is a path there, or left out. Paths
/// may hold the wildcards `*`, `?` and `[..]`. `tree` arrives as `tree`, `tree/` as its contents.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What to get
    pub sources: Vec<OsString>,
    /// Directory to put it in, or its new name; `-` writes one file to standard output, in order, and proves it at
    /// the end
    #[arg(short, long, value_name = "TARGET")]
    pub output: Option<PathBuf>,
    /// Ask the sender for at most this rate, such as 200mbit; with --transport udp or udp-raw
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Bitrate>,
    /// How files are written.
    #[command(flatten)]
    pub write: WriteOptions,
    /// What all transfers have in common.
    #[command(flatten)]
    pub options: ClientOptions,
}

/// Gets, and says what happened.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    if args.rate.is_some() && !matches!(args.options.transport, Transport::Udp | Transport::UdpRaw) {
        let text = "--rate asks for a rate over UDP: add --transport udp or udp-raw";
        return Err(Failure::new(Exit::Usage, text).into());
    }
    let (place, sources) = sources(args, out)?;
    let expect = args.options.expected()?;
    let home = peer::home()?;
    let peer = args.options.peer(&place, &home)?;
    let is_in_order = args.output.as_deref().is_some_and(|output| output.as_os_str() == "-");
    if is_in_order && out.is_json() {
        return Err(Failure::new(Exit::Usage, "--json and -o - both need standard output").into());
    }
    if is_in_order && args.options.is_raw() {
        let text = "-o - needs every byte in order, and --transport udp-raw promises none";
        return Err(Failure::new(Exit::Usage, text).into());
    }
    // Once: what the first session has made would make another landing of the same words.
    let landing = landing(args, &place, &sources)?;
    let make = |is_again| client(args, is_again, &place, &sources, &landing, &expect, &peer);
    let can_again = !is_in_order && !args.options.is_raw();
    let patience = if can_again { Patience::For(args.options.retry_for) } else { Patience::None };
    transfer::run_client(make, patience, &place, &home, args.options.fail_if_nothing, out)
}

/// One session of the command.
fn client(
    args: &Args,
    is_again: bool,
    place: &Place,
    sources: &[Place],
    landing: &Landing,
    expect: &Expect,
    peer: &Peer,
) -> anyhow::Result<Client> {
    let mut options = args.options.session(args.rate, is_again)?;
    // It limits what leaves here, and that is not content.
    options.rate_bps = None;
    let is_in_order = matches!(landing.place, Where::Output);
    // protocol.md [RAW-2], [RESUME-1]
    let eager = !args.options.is_raw()
        && landing.is_new
        && !is_again
        && !landing.has_parts()
        && !options.dry_run
        && matches!(expect, Expect::None | Expect::One(_));
    let target = Target::new(TargetConfig {
        place: landing.place()?,
        digest: options.digest,
        overwrite: options.overwrite,
        checksum: options.checksum,
        dry_run: options.dry_run,
        sync: !args.write.no_sync,
        verify_disk: args.write.verify_disk,
        links: LinkRule::KeepAll,
        keep_setid: args.write.keep_setid,
        eager,
        expect: expect.clone(),
        accept: accept(place, sources)?,
        busy: Arc::default(),
        seed: u64::from_le_bytes(clock::random()),
    })
    .map_err(|error| {
        let is_full = matches!(&error, TargetError::Below(failure) if failure.code == Code::NoSpace);
        let exit = if is_full { Exit::NoSpace } else { Exit::LocalFile };
        Failure::new(exit, error.to_string())
    })?;
    let intent = Intent::Pull {
        sources: sources.iter().map(|source| source.path.clone()).collect(),
        eager,
        include: include(&args.options)?,
        exclude: args.options.exclude.clone(),
    };
    let wish = Wish::Pull { intent, target: Box::new(target), is_in_order };
    let client = Client::new("get", peer.clone(), options, wish);
    if args.write.no_sync || is_in_order {
        client.running().session.set_unsynced();
    }
    Ok(client)
}

/// The patterns to ask for.
fn include(options: &ClientOptions) -> anyhow::Result<Vec<String>> {
    let Some(result) = &options.retry_failed else { return Ok(options.include.clone()) };
    let names = retry::failed_names(result)?;
    if names.len() + options.exclude.len() > limits::PATTERNS_MAX {
        let text = format!(
            "more than {} files failed; run the command without --retry-failed, what is there already is skipped",
            limits::PATTERNS_MAX
        );
        return Err(Failure::new(Exit::Usage, text).into());
    }
    Ok(names.iter().map(|name| pattern_of(name)).collect())
}

/// The server, and what is asked of it.
fn sources(args: &Args, out: &Output) -> anyhow::Result<(Place, Vec<Place>)> {
    let usage = |text: &str| anyhow::Error::from(Failure::new(Exit::Usage, text));
    let mut sources: Vec<Place> = Vec::new();
    let mut elsewhere: Option<Place> = None;
    for source in &args.sources {
        let parsed = match source.to_str() {
            Some(text) => peer::parse(text)?,
            None => None,
        };
        match parsed {
            Some(place) => sources.push(place),
            None => {
                if elsewhere.is_none() {
                    elsewhere = peer::from_elsewhere(out)?;
                }
                let server = elsewhere.as_ref().ok_or_else(|| {
                    usage("a source has to be a ticket, @FILE or HOST:PATH, or a path with HAUL_TICKET set")
                })?;
                sources.push(Place { path: source.clone().into_vec(), ..server.clone() });
            }
        }
    }
    if sources.is_empty() {
        let place = peer::from_elsewhere(out)?;
        sources
            .push(place.ok_or_else(|| usage("what? Name a ticket, @FILE or HOST:PATH, or set HAUL_TICKET"))?);
    }
    let server = sources[0].clone();
    if !sources.iter().all(|source| source.is_same_server(&server)) {
        return Err(usage("all sources have to be on one server; run the command once for each"));
    }
    Ok((server, sources))
}

/// Where things go.
struct Landing {
    place: Where,
    /// Nothing of that name was there before: data may come without asking.
    is_new: bool,
}

enum Where {
    Directory { root: PathBuf, below: Option<RelPath>, rename_top: Option<Vec<u8>> },
    Output,
}

impl Landing {
    /// As a target takes it.
    fn place(&self) -> anyhow::Result<target::Place> {
        match &self.place {
            Where::Directory { root, below, rename_top } => Ok(target::Place::Directory {
                root: root.clone(),
                below: below.clone(),
                rename_top: rename_top.clone(),
            }),
            Where::Output => {
                let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from);
                let stdout = stdout
                    .map_err(|error| Failure::new(Exit::LocalFile, format!("standard output: {error}")))?;
                Ok(target::Place::Stdout(Box::new(stdout)))
            }
        }
    }

    /// Whether something unfinished stands there, that may be gone on with.
    fn has_parts(&self) -> bool {
        let Where::Directory { root, below, .. } = &self.place else { return false };
        let below = below.as_ref().map_or(OsStr::new(""), |below| OsStr::from_bytes(below.as_bytes()));
        std::fs::read_dir(root.join(below)).is_ok_and(|names| {
            names
                .flatten()
                .any(|name| name.file_name().as_bytes().starts_with(crate::file::path::TEMP_PREFIX))
        })
    }
}

fn landing(args: &Args, place: &Place, sources: &[Place]) -> anyhow::Result<Landing> {
    let usage = |text: &str| anyhow::Error::from(Failure::new(Exit::Usage, text));
    let directory = |root: PathBuf, rename_top, is_new| Landing {
        place: Where::Directory { root, below: None, rename_top },
        is_new,
    };
    let Some(output) = &args.output else {
        let is_new = sources.iter().all(|source| is_missing(Path::new("."), source));
        return Ok(directory(PathBuf::from("."), None, is_new));
    };
    if output.as_os_str() == "-" {
        if sources.len() > 1 {
            return Err(usage("-o - takes one file"));
        }
        if io::stdout().is_terminal() {
            return Err(usage("-o - writes a file to standard output, which is a terminal; redirect it"));
        }
        return Ok(Landing { place: Where::Output, is_new: true });
    }
    let wants_dir = output.as_os_str().as_bytes().ends_with(b"/");
    if output.is_dir() {
        let is_new = sources.iter().all(|source| is_missing(output, source));
        return Ok(directory(output.clone(), None, is_new));
    }
    let comes_with_contents = |source: &Place| {
        source.path.ends_with(b"/")
            || has_wildcard(&source.path)
            || (source.path.is_empty() && !place.is_one_time())
    };
    if wants_dir || sources.len() > 1 || sources.iter().any(comes_with_contents) {
        // Without the slash at its end, which would ask for a directory.
        let bare: PathBuf = output.components().collect();
        if std::fs::symlink_metadata(&bare).is_ok() {
            let text = format!("{}: is a file, and a directory is needed", super::output::shown(output));
            return Err(Failure::new(Exit::LocalFile, text).into());
        }
        return to_be_made(&bare);
    }
    let name = output.file_name().ok_or_else(|| usage("-o needs a name"))?;
    let root = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok(directory(root, Some(name.as_bytes().to_vec()), std::fs::symlink_metadata(output).is_err()))
}

/// Lands in a directory that is not there: the target makes it, unless nothing may change, and syncs its name.
fn to_be_made(output: &Path) -> anyhow::Result<Landing> {
    let is_there = |dir: &&Path| dir.as_os_str().is_empty() || dir.is_dir();
    let root = output.ancestors().find(is_there).unwrap_or(Path::new(""));
    let below = output.strip_prefix(root).expect("an ancestor is a prefix").as_os_str().as_bytes();
    let below = RelPath::parse(below)
        .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", super::output::shown(output))))?;
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root.to_owned() };
    Ok(Landing { place: Where::Directory { root, below: Some(below), rename_top: None }, is_new: true })
}

fn has_wildcard(path: &[u8]) -> bool {
    path.iter().any(|byte| b"*?[".contains(byte))
}

/// Whether nothing in `dir` has the name under which `source` would arrive.
fn is_missing(dir: &Path, source: &Place) -> bool {
    match last_component(&source.path) {
        Some(name) if !has_wildcard(name) => {
            std::fs::symlink_metadata(dir.join(OsStr::from_bytes(name))).is_err()
        }
        _ => false,
    }
}

/// The name under which a path arrives; `None` when its contents do.
fn last_component(path: &[u8]) -> Option<&[u8]> {
    path.split(|&byte| byte == b'/').next_back().filter(|name| !name.is_empty() && *name != b".")
}

/// Only names inside what was asked for are taken from the server.
fn accept(place: &Place, sources: &[Place]) -> anyhow::Result<Accept> {
    if place.is_one_time() && sources.iter().all(|source| source.path.is_empty()) {
        return Ok(Accept::Anything);
    }
    let asked = sources.iter().map(|source| {
        Ok(match last_component(&source.path) {
            None => Asked::Contents,
            Some(name) if has_wildcard(name) => {
                let text = str::from_utf8(name).map_err(|_| not_a_pattern("it is not UTF-8"))?;
                let glob = GlobBuilder::new(text).literal_separator(true).build();
                Asked::Glob(glob.map_err(|error| not_a_pattern(error.kind()))?.compile_matcher())
            }
            Some(name) => Asked::Exact(name.to_vec()),
        })
    });
    Ok(Accept::Asked(asked.collect::<anyhow::Result<_>>()?))
}

fn not_a_pattern(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Usage, format!("a source is no pattern that haul knows: {why}"))
}
