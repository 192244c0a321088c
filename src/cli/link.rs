//! `haul link SPEC -- COMMAND`: runs any command on one end of an emulated link, and says what the link did.
//!
//! With `--json`, one object: `version`, `command` (`link`), `exit_code` (the command's), `peer_exit_code` (of what
//! `--peer` ran, if it ended before the command did), `elapsed_s` (of the link), `command_elapsed_s` (of the command),
//! `limited_by_machine` (whether the machine was too slow to be this link), `host` (the command's) and `peer`, each null if
//! it was killed or an object with `cpu_s` (user and system time of all that ran there), `peak_rss_bytes` (of the largest of
//! these processes) and `counters` (the kernel's in that network, such as `Tcp.RetransSegs`, those that are not zero), and
//! `there` (from the command's host) and `back`, each with
//!
//! - `spec`, with everything that differs from the defaults;
//! - the packets' fates (`offered`, `offered_bytes`, `delivered` and `delivered_bytes` with copies, `dropped_queue`,
//!   `dropped_policer`, `dropped_blackout`, `dropped_loss`, `dropped_mtu`, `duplicated`, `corrupted` of the delivered,
//!   `corrupted_headers` of these those that no program sees, `late`, `overtaking`), `peak_queue_bytes` and `mean_queue_delay_us` (of the packets
//!   that found room in the queue);
//! - `flows`, in the order of their first packet: `protocol`, `source`, `destination`, `source_port` and
//!   `destination_port` where there are some, and the same fates; `other_flows`: those after the first 1024, together;
//! - `machine`: what the model does not know: packets `read`, `written`, `late` (by more than 1 ms), `waited` (perhaps for more
//!   than 1 ms before the link saw them), `dropped_by_device`, `overflowed`, `refused`, `not_taken`, `not_ipv4`,
//!   `under_way`; `mean_lateness_us`, `latest_us`, `longest_wait_us`; `limits`, why the numbers may be the machine's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::net::Ipv4Addr;

use serde::Serialize;

use super::exit::{Ending, Exit, Failure};
use super::output::{JSON_VERSION, Output};
use super::spec;
use crate::emulator::{self, Carried, EmulatorError, Flow, HostFacts, Machine, Plan, Share, Streams, Tally};
use crate::link::{LinkConfig, PROFILES};
use crate::units;

/// Run a command on one end of an emulated link
///
/// The command runs on a host of its own, with its own network, and sees one other host. Its kernel's TCP, its tools and
/// your user are the real ones; the link between the two is made. HAUL_LINK_HOST is the command's own address,
/// HAUL_LINK_PEER the other host's; HAUL_LINK_PEER_PID is a process there, for `nsenter --net --target`. Works without
/// root where the system allows user namespaces and access to /dev/net/tun.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The link: a profile, parts, or both: `rtt=80ms,rate=100mbit,loss=1%`, `wifi,loss=3%`; `trace=FILE` instead of a
    /// rate replays a trace of mahimahi's form
    #[arg(required_unless_present = "list", value_parser = spec::read)]
    pub spec: Option<LinkConfig>,
    /// The command and its arguments; without one, a shell
    #[arg(last = true)]
    pub command: Vec<OsString>,
    /// The link back to the command, where it differs; each direction takes half of its own rtt
    #[arg(long, value_name = "SPEC", value_parser = spec::read)]
    pub back: Option<LinkConfig>,
    /// What a shell runs on the other host: started before the command, which waits until something listens there, and
    /// ended after it
    #[arg(long, value_name = "COMMAND")]
    pub peer: Option<OsString>,
    /// Longest packet of the hosts' interfaces, bytes [default: 1500, or the link's if that is more]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(576..))]
    pub mtu: Option<u16>,
    /// List the profiles
    #[arg(long, conflicts_with_all = ["spec", "command", "back", "peer", "mtu"])]
    pub list: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct JsonLink<'a> {
    version: u32,
    command: &'static str,
    exit_code: u8,
    peer_exit_code: Option<u8>,
    elapsed_s: f64,
    command_elapsed_s: f64,
    limited_by_machine: bool,
    host: Option<JsonHost<'a>>,
    peer: Option<JsonHost<'a>>,
    there: JsonLane<'a>,
    back: JsonLane<'a>,
}

#[derive(Serialize)]
struct JsonHost<'a> {
    cpu_s: f64,
    peak_rss_bytes: u64,
    counters: &'a BTreeMap<String, u64>,
}

#[derive(Serialize)]
struct JsonLane<'a> {
    spec: String,
    #[serde(flatten)]
    total: JsonShare,
    flows: Vec<JsonFlow>,
    other_flows: JsonShare,
    machine: JsonMachine<'a>,
}

#[derive(Serialize)]
struct JsonFlow {
    protocol: String,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
    #[serde(flatten)]
    share: JsonShare,
}

#[derive(Serialize)]
struct JsonShare {
    offered: u64,
    offered_bytes: u64,
    delivered: u64,
    delivered_bytes: u64,
    dropped_queue: u64,
    dropped_policer: u64,
    dropped_blackout: u64,
    dropped_loss: u64,
    dropped_mtu: u64,
    duplicated: u64,
    corrupted: u64,
    corrupted_headers: u64,
    late: u64,
    overtaking: u64,
    peak_queue_bytes: u64,
    mean_queue_delay_us: u128,
}

#[derive(Serialize)]
struct JsonMachine<'a> {
    read: u64,
    written: u64,
    late: u64,
    waited: u64,
    dropped_by_device: u64,
    overflowed: u64,
    refused: u64,
    not_taken: u64,
    not_ipv4: u64,
    under_way: u64,
    mean_lateness_us: u128,
    latest_us: u128,
    longest_wait_us: u128,
    limits: &'a [String],
}

/// Flows that a person is shown, the busiest first.
const FLOWS_SHOWN: usize = 16;

/// Runs the command over the link; ends as it does.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Ending> {
    if args.list {
        list(out)?;
        return Ok(Exit::Done.into());
    }
    let plan = plan(args, out)?;
    let carried = match emulator::run(&plan) {
        Ok(carried) => carried,
        Err(error) => return failed(&error, out),
    };
    let limits = [carried.there.machine.limits(), carried.back.machine.limits()];
    say(&carried, &limits, out);
    if out.is_json() {
        out.json(&json(&plan, &carried, &limits))?;
    }
    Ok(Ending::Program(carried.code))
}

fn list(out: &Output) -> anyhow::Result<()> {
    if out.is_json() {
        let profiles = PROFILES.iter().map(|it| JsonProfile {
            name: it.name,
            about: it.about,
            spec: it.spec,
            source: it.source,
        });
        return out.json(&JsonProfiles { version: JSON_VERSION, profiles: profiles.collect() });
    }
    let mut text = String::new();
    for it in PROFILES {
        text += &format!("{:<18}{}\n{:<18}{}\n{:<18}{}\n", it.name, it.about, "", it.spec, "", it.source);
    }
    out.result(text.as_bytes())
}

#[derive(Serialize)]
struct JsonProfiles {
    version: u32,
    profiles: Vec<JsonProfile>,
}

#[derive(Serialize)]
struct JsonProfile {
    name: &'static str,
    about: &'static str,
    spec: &'static str,
    source: &'static str,
}

fn plan(args: &Args, out: &Output) -> anyhow::Result<Plan> {
    let there = args.spec.clone().expect("clap asks for it without --list");
    let back = args.back.clone().unwrap_or_else(|| there.clone());
    let command = if args.command.is_empty() { vec![shell()?] } else { args.command.clone() };
    let peer = args.peer.as_ref();
    let longest = there.mtu_bytes.max(back.mtu_bytes).max(1500);
    let mtu_bytes = args.mtu.unwrap_or(u16::try_from(longest).unwrap_or(u16::MAX));
    Ok(Plan {
        mtu_bytes,
        back,
        peer: peer.map(|line| vec!["/bin/sh".into(), "-c".into(), line.clone()]).unwrap_or_default(),
        streams: if out.is_json() { Streams::OursForPeople } else { Streams::Ours },
        ..Plan::new(there, command)
    })
}

/// The shell of the one who sits at the terminal.
fn shell() -> anyhow::Result<OsString> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message =
            "a command is missing (`haul link SPEC -- COMMAND`); a shell is started only at a terminal";
        return Err(Failure::new(Exit::Usage, message).into());
    }
    Ok(std::env::var_os("SHELL").filter(|it| !it.is_empty()).unwrap_or_else(|| "/bin/sh".into()))
}

/// The system's refusals have a code of ours; a command that cannot be started has that of a shell.
fn failed(error: &EmulatorError, out: &Output) -> anyhow::Result<Ending> {
    let exit = match error {
        EmulatorError::NotStarted { code, .. } => {
            let code = *code;
            // Says it in JSON too; the code is the better one.
            let _ = out.end_with(&Failure::new(Exit::Usage, error.to_string()).into());
            return Ok(Ending::Program(code));
        }
        EmulatorError::Refused(_) => Exit::LocalFile,
        EmulatorError::HostLost { .. } | EmulatorError::Io(_) => Exit::Unexpected,
    };
    Err(Failure::new(exit, error.to_string()).into())
}

fn say(carried: &Carried, limits: &[Vec<String>; 2], out: &Output) {
    if let Some(code) = carried.peer_code
        && code != 0
    {
        out.say(&format!("what ran on the other host ended before the command, with exit code {code}"));
    }
    for (name, tally, limits) in [("there", &carried.there, &limits[0]), ("back", &carried.back, &limits[1])]
    {
        out.say(&format!("{name}: {}", share_line(&tally.total)));
        let mut flows: Vec<&Flow> = tally.flows.iter().collect();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.share.counters.offered_bytes));
        for flow in flows.into_iter().take(FLOWS_SHOWN) {
            out.detail(&format!("  {}: {}", flow.key, share_line(&flow.share)));
        }
        for limit in limits {
            out.say(&format!("{name}: this machine was too slow to be this link: {limit}"));
        }
    }
}

/// What became of packets, without what did not happen.
fn share_line(share: &Share) -> String {
    let counters = &share.counters;
    let mut line = format!("{} packets, {}", counters.offered, units::bytes(counters.offered_bytes));
    for (count, what) in [
        (counters.dropped_loss, "lost"),
        (counters.dropped_queue, "found the queue full"),
        (counters.dropped_policer, "found the bucket empty"),
        (counters.dropped_blackout, "came in a blackout"),
        (counters.dropped_mtu, "too long"),
        (counters.duplicated, "doubled"),
        (counters.corrupted, "damaged"),
        (counters.late, "late"),
        (counters.overtaking, "overtook"),
    ] {
        if count > 0 {
            line += &format!(", {count} {what}");
        }
    }
    if share.peak_queue_bytes > 0 {
        let (peak, mean) = (units::bytes(share.peak_queue_bytes), share.mean_queue_delay());
        line += &format!("; queue at most {peak} (mean wait {:.1} ms)", 1000.0 * mean.as_secs_f64());
    }
    line
}

fn json<'a>(plan: &Plan, carried: &'a Carried, limits: &'a [Vec<String>; 2]) -> JsonLink<'a> {
    JsonLink {
        version: JSON_VERSION,
        command: "link",
        exit_code: carried.code,
        peer_exit_code: carried.peer_code,
        elapsed_s: carried.elapsed.as_secs_f64(),
        command_elapsed_s: carried.command_elapsed.as_secs_f64(),
        limited_by_machine: limits.iter().any(|it| !it.is_empty()),
        host: carried.host.as_ref().map(JsonHost::from),
        peer: carried.peer.as_ref().map(JsonHost::from),
        there: json_lane(&plan.there, &carried.there, &limits[0]),
        back: json_lane(&plan.back, &carried.back, &limits[1]),
    }
}

fn json_lane<'a>(config: &LinkConfig, tally: &Tally, limits: &'a [String]) -> JsonLane<'a> {
    JsonLane {
        spec: config.to_string(),
        total: (&tally.total).into(),
        flows: tally.flows.iter().map(JsonFlow::from).collect(),
        other_flows: (&tally.other_flows).into(),
        machine: json_machine(&tally.machine, limits),
    }
}

fn json_machine<'a>(machine: &Machine, limits: &'a [String]) -> JsonMachine<'a> {
    JsonMachine {
        read: machine.read,
        written: machine.written,
        late: machine.late,
        waited: machine.waited,
        dropped_by_device: machine.dropped_by_device,
        overflowed: machine.overflowed,
        refused: machine.refused,
        not_taken: machine.not_taken,
        not_ipv4: machine.not_ipv4,
        under_way: machine.under_way,
        mean_lateness_us: machine.mean_lateness().as_micros(),
        latest_us: machine.latest.as_micros(),
        longest_wait_us: machine.longest_wait.as_micros(),
        limits,
    }
}

impl<'a> From<&'a HostFacts> for JsonHost<'a> {
    fn from(facts: &'a HostFacts) -> Self {
        let HostFacts { cpu, peak_rss_bytes, counters } = facts;
        Self { cpu_s: cpu.as_secs_f64(), peak_rss_bytes: *peak_rss_bytes, counters }
    }
}

impl From<&Flow> for JsonFlow {
    fn from(flow: &Flow) -> Self {
        Self {
            protocol: flow.key.protocol_name(),
            source: flow.key.source,
            destination: flow.key.destination,
            source_port: flow.key.ports.map(|ports| ports.0),
            destination_port: flow.key.ports.map(|ports| ports.1),
            share: (&flow.share).into(),
        }
    }
}

impl From<&Share> for JsonShare {
    fn from(share: &Share) -> Self {
        let it = share.counters;
        Self {
            offered: it.offered,
            offered_bytes: it.offered_bytes,
            delivered: it.delivered,
            delivered_bytes: it.delivered_bytes,
            dropped_queue: it.dropped_queue,
            dropped_policer: it.dropped_policer,
            dropped_blackout: it.dropped_blackout,
            dropped_loss: it.dropped_loss,
            dropped_mtu: it.dropped_mtu,
            duplicated: it.duplicated,
            corrupted: it.corrupted,
            corrupted_headers: share.corrupted_headers,
            late: it.late,
            overtaking: it.overtaking,
            peak_queue_bytes: share.peak_queue_bytes,
            mean_queue_delay_us: share.mean_queue_delay().as_micros(),
        }
    }
}
