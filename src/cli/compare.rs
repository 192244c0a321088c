//! `haul compare`: the same file over the same link by TCP, by our UDP, by raw UDP, and by whatever else.
//!
//! With `--json`, one object, `compare::comparison::Comparison`: `version`, `command`, `exit_code`, `machine`, `reproduce`,
//! `is_quick_look`, `left_out`, `caveats`, `summaries` and `runs`. README documents the fields; `src/compare/record.rs` has every one.

mod look;
mod records;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::spec;
use crate::compare::campaign::{self, Outcome, Progress};
use crate::compare::comparison::{COMPARISON_VERSION, Comparison};
use crate::compare::contender::{Contender, Named, Rival, UdpCongestion};
use crate::compare::grid::Grid;
use crate::compare::machine::{Machine, tcp_congestions};
use crate::compare::page::page;
use crate::compare::payload::Payload;
use crate::compare::place::Place;
use crate::compare::plan::{NetworkPath, Plan, Scenario, file_bytes_for};
use crate::compare::record::Record;
use crate::compare::summary::Summary;
use crate::compare::table::table;
use crate::link::LinkConfig;
use crate::run::clock;
use crate::units::{self, Bitrate};

use records::RecordFile;

/// Compare TCP, UDP and raw UDP with the same file over the same link
///
/// Without arguments, a quick look: three links, made on this machine, in less than a minute. Every contender is a process of its own on
/// the link's hosts. What arrived is compared byte for byte; what the link did to its packets stands beside it.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Compare two results
    #[command(subcommand)]
    pub what: Option<What>,
    /// The file to send; without one, random bytes
    pub path: Option<PathBuf>,
    /// The link: a profile, parts, or both, as for `haul link`; may stand several times
    #[arg(long, value_name = "SPEC")]
    pub link: Vec<String>,
    /// The link back to the sender, where it differs
    #[arg(long, value_name = "SPEC", requires = "link", value_parser = spec::read)]
    pub back: Option<LinkConfig>,
    /// Every combination, upon one --link [default: rate=100mbit]: 'loss=0,0.1,1,5 rtt=10,50,100,300'
    #[arg(long, value_name = "AXES")]
    pub grid: Option<Grid>,
    /// Over the real path to a server that was started with --discard: its ticket, or @FILE with it
    #[arg(long, value_name = "TICKET", conflicts_with_all = ["link", "grid"])]
    pub to: Option<String>,
    /// Who runs: tcp, tcp/cubic, tcp/bbr*4 (four streams), udp, udp/cubic, udp/fixed, udp-raw
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub contenders: Vec<Contender>,
    /// Another program over the same link; {file}, {host}, {dir} and {bytes} stand for what is sent, the other host, an empty
    /// directory that both see, and the file's length; NAME=COMMAND names it; may stand several times
    #[arg(long, value_name = "COMMAND", conflicts_with = "to")]
    pub with: Vec<Named>,
    /// What a shell runs on the other host while a command of --with runs here, with the same marks; NAME=COMMAND is for that name
    /// alone; may stand several times
    #[arg(long, value_name = "COMMAND", requires = "with")]
    pub peer: Vec<Named>,
    /// Runs of each contender that count [default: 5; in a quick look 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeats: Option<u32>,
    /// Runs of each before that do not count [default: 1; in a quick look 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub warmup: Option<u32>,
    /// The first round's seed of the links, and of the random bytes; each round has the next
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Length of the random file, such as 64MB [default: what the link carries in 5 s or 50 round trips]
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes, conflicts_with = "path")]
    pub size: Option<u64>,
    /// End a run that takes longer
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "60s")]
    pub at_most: Duration,
    /// What raw UDP and udp/fixed send at [default: 94 % of the link's rate; 100mbit where nobody knows it]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Bitrate>,
    /// Add each run to this file, a line of JSON; runs that are in it already are not done again
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Write a page with plots, for a browser
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Explain what is compared, layer by layer, with commands that show it, and end
    #[arg(long)]
    pub explain: bool,
}

/// `haul compare diff`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum What {
    /// Say what became faster or slower from one result of --json to another, beyond the noise
    Diff(super::compare_diff::Args),
}

/// What is to be done, and what a reader has to know of it.
struct Task {
    plan: Plan,
    payloads: Vec<Payload>,
    is_quick_look: bool,
    caveats: Vec<String>,
}

/// Compares, and says what was seen.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    if let Some(What::Diff(diff)) = &args.what {
        return super::compare_diff::run(diff, out);
    }
    if args.explain {
        out.result(crate::compare::explain::chapter().as_bytes())?;
        return Ok(Exit::Done);
    }
    let mut place = Place::new()?;
    let machine = Machine::here(clock::unix_time().as_secs());
    let mut file = args.records.as_deref().map(RecordFile::open).transpose()?;
    let report = args.report.as_ref().map(|path| {
        fs::File::create(path).with_context(|| format!("cannot write the page {}", path.display()))
    });
    let report = report.transpose()?;
    let task = task(args, &place, out)?;
    for caveat in &task.caveats {
        out.say(caveat);
    }
    let known = file.as_mut().map(RecordFile::take_known).unwrap_or_default();
    let mut tell = |progress: &Progress<'_>| {
        if let (Progress::Ended(record), Some(file)) = (progress, &mut file) {
            file.add(record)?;
        }
        say(progress, out);
        Ok(())
    };
    let outcome = campaign::run(&task.plan, &task.payloads, &mut place, known, &mut tell)?;
    let exit = exit(&outcome);
    let comparison = Comparison {
        version: COMPARISON_VERSION,
        command: "compare".to_owned(),
        exit_code: exit.code(),
        machine,
        reproduce: reproduce(),
        is_quick_look: task.is_quick_look,
        left_out: outcome.left_out,
        caveats: task.caveats,
        summaries: Summary::all(&outcome.records),
        runs: outcome.records,
    };
    if let Some(mut report) = report {
        report.write_all(page(&comparison).as_bytes()).context("cannot write the page")?;
    }
    show(&comparison, out)?;
    Ok(exit)
}

fn show(comparison: &Comparison, out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        return out.json(comparison);
    }
    out.result(table(&comparison.runs, &comparison.summaries).as_bytes())?;
    if comparison.left_out > 0 {
        out.say(&format!("{} left out: the time was up", units::counted(comparison.left_out as u64, "run")));
    }
    if comparison.is_quick_look {
        out.say(
            "this was a quick look, one run each; `haul compare --link SPEC` repeats and shows the spread",
        );
    }
    Ok(())
}

fn say(progress: &Progress<'_>, out: &Output) {
    match progress {
        Progress::Begins { number, of, scenario, contender } => {
            out.detail(&format!("[{number}/{of}] {scenario}, {contender} begins"));
        }
        Progress::Ended(record) => {
            let what = if record.is_complete() || record.was_cut {
                let cut = if record.was_cut { ", ended" } else { "" };
                let rate = units::bit_rate(record.goodput_bits_per_s);
                format!("{rate} in {:.1} s{cut}", record.elapsed_s)
            } else {
                format!("failed: {}", record.error.as_deref().unwrap_or("it said nothing"))
            };
            let warmup = if record.is_warmup { " (warm-up)" } else { "" };
            out.say(&format!("{}, {}{warmup}: {what}", record.scenario, record.contender));
        }
    }
}

/// What the command line asks for.
fn task(args: &Args, place: &Place, out: &Output) -> anyhow::Result<Task> {
    let is_quick_look = args.link.is_empty() && args.grid.is_none() && args.to.is_none();
    let mut caveats = Vec::new();
    let scenarios = match &args.to {
        Some(ticket) => vec![to_server(args, ticket, place)?],
        None => match (Place::can_emulate(), is_quick_look) {
            (Ok(()), true) => look::quick_look(args.size),
            (Ok(()), false) => links(args)?,
            (Err(why), true) => {
                caveats.push(format!("no link can be made here, so this is over loopback: {why}"));
                caveats.push(LOOPBACK_CAVEAT.to_owned());
                vec![look::loopback(args.size)]
            }
            (Err(why), false) => return Err(Failure::new(Exit::LocalFile, why).into()),
        },
    };
    let is_loopback = !caveats.is_empty();
    if is_loopback && !args.with.is_empty() {
        caveats.push("other programs are left out: they run over links".to_owned());
    }
    let mut contenders = contenders(args, args.to.is_some() || is_loopback, out);
    contenders.retain(|it| it.is_ours() || !is_loopback);
    let (scenarios, payloads) = payloads(args, scenarios, place)?;
    let quick = |quick: u32, else_: u32| if is_quick_look { quick } else { else_ };
    let plan = Plan {
        scenarios,
        contenders,
        warmup_rounds: args.warmup.unwrap_or(quick(0, 1)),
        rounds: args.repeats.unwrap_or(quick(1, 5)),
        seed: args.seed,
        run_at_most: if is_quick_look { args.at_most.min(look::RUN_AT_MOST) } else { args.at_most },
        all_at_most: (is_quick_look && args.repeats.is_none()).then_some(look::ALL_AT_MOST),
        rate_bits_per_s: args.rate.map(Bitrate::bits_per_s),
    };
    Ok(Task { plan, payloads, is_quick_look, caveats })
}

/// Said where nothing lies between the two ends.
const LOOPBACK_CAVEAT: &str = "over loopback nothing is far away, lost or out of order: this shows what each transport costs the processor, \
                               and nothing of what it is for";

fn links(args: &Args) -> anyhow::Result<Vec<Scenario>> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    let cells: Vec<(String, LinkConfig)> = match &args.grid {
        Some(grid) => {
            if args.link.len() > 1 {
                return Err(usage("--grid stands upon one --link".to_owned()).into());
            }
            let base = args.link.first().map_or("rate=100mbit", String::as_str);
            grid.cells(base, spec::read).map_err(|error| usage(format!("--grid: {error}")))?
        }
        None => {
            let read = |text: &String| match spec::read(text) {
                Ok(link) => Ok((text.clone(), link)),
                Err(error) => Err(usage(format!("--link: {error}"))),
            };
            args.link.iter().map(read).collect::<Result<_, _>>()?
        }
    };
    let scenario = |(name, link): &(String, LinkConfig)| {
        let bytes = args.size.unwrap_or_else(|| file_bytes_for(link));
        let back = Box::new(args.back.clone().unwrap_or_else(|| link.clone()));
        let path = NetworkPath::Link { there: Box::new(link.clone()), back };
        Scenario { name: name.clone(), path, file_bytes: bytes }
    };
    Ok(cells.iter().map(scenario).collect())
}

/// A ticket goes through a file, so that it stands on no command line of a process.
fn to_server(args: &Args, ticket: &str, place: &Place) -> anyhow::Result<Scenario> {
    let file = match ticket.strip_prefix('@') {
        Some(path) => PathBuf::from(path).canonicalize().with_context(|| format!("cannot read {path}"))?,
        None => {
            let path = place.file("to");
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
            file.write_all(ticket.as_bytes())?;
            path
        }
    };
    let path = NetworkPath::Server { ticket: file };
    Ok(Scenario {
        name: "to the server".to_owned(),
        path,
        file_bytes: args.size.unwrap_or(look::SERVER_BYTES),
    })
}

/// Those asked for, or the telling ones of those that this kernel has; and the rivals.
fn contenders(args: &Args, is_single: bool, out: &Output) -> Vec<Contender> {
    let mut contenders = args.contenders.clone();
    if contenders.is_empty() {
        let kernel = tcp_congestions();
        for name in ["cubic", "bbr"] {
            if kernel.iter().any(|it| it == name) {
                contenders.push(Contender::Tcp { congestion: Some(name.to_owned()), streams: 1 });
            } else {
                out.detail(&format!("this kernel lets us have no TCP with {name}"));
            }
        }
        if contenders.is_empty() || is_single {
            contenders = vec![Contender::Tcp { congestion: None, streams: 1 }];
        }
        contenders.push(Contender::Udp { congestion: UdpCongestion::Bbr });
        contenders.push(Contender::Raw);
    }
    contenders.extend(args.with.iter().map(|command| Contender::Rival(Rival::new(command, &args.peer))));
    contenders
}

/// Makes or finds what each scenario sends.
fn payloads(
    args: &Args,
    mut scenarios: Vec<Scenario>,
    place: &Place,
) -> anyhow::Result<(Vec<Scenario>, Vec<Payload>)> {
    if let Some(path) = &args.path {
        let payload = Payload::of(path).map_err(|error| {
            Failure::new(Exit::LocalFile, format!("cannot send {}: {error}", path.display()))
        })?;
        for scenario in &mut scenarios {
            scenario.file_bytes = payload.bytes;
        }
        let payloads = vec![payload; scenarios.len()];
        return Ok((scenarios, payloads));
    }
    let mut payloads: Vec<Payload> = Vec::new();
    for scenario in &scenarios {
        let same = payloads.iter().find(|made| made.bytes == scenario.file_bytes).cloned();
        payloads.push(match same {
            Some(same) => same,
            None => {
                let path = place.file(&format!("random-{}", scenario.file_bytes));
                Payload::make(path, scenario.file_bytes, args.seed).map_err(|error| {
                    let size = units::bytes(scenario.file_bytes);
                    Failure::new(Exit::NoSpace, format!("cannot make a file of {size}: {error}"))
                })?
            }
        });
    }
    Ok((scenarios, payloads))
}

/// What each promised decides: an intact file, or for raw UDP, that it was sent.
fn exit(outcome: &Outcome) -> Exit {
    let is_broken = |it: &Record| {
        it.contender != "udp-raw" && it.exit_code == 0 && it.guarantees.is_intact == Some(false)
    };
    if outcome.was_interrupted {
        Exit::Interrupted
    } else if outcome.records.iter().any(is_broken) {
        Exit::Integrity
    } else if outcome.records.iter().any(|it| !it.is_complete() && !it.was_cut) {
        Exit::SomeFailed
    } else {
        Exit::Done
    }
}

/// The command line without what is secret.
fn reproduce() -> String {
    let mut words = vec!["haul".to_owned()];
    let mut is_secret = false;
    for word in std::env::args_os().skip(1) {
        let shown = match word.to_str() {
            Some(text) if text.starts_with("--to=") => "--to=TICKET".to_owned(),
            _ if is_secret => "TICKET".to_owned(),
            _ => crate::compare::contender::quoted(&word).to_string_lossy().into_owned(),
        };
        is_secret = word == "--to";
        words.push(shown);
    }
    words.join(" ")
}
