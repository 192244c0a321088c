//! Runs a contender once, somewhere: on an emulated link, over loopback, or to a real server.

mod local;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::contender::{Contender, Filling, line, quoted};
use super::payload::{Arrived, Payload};
use super::plan::{NetworkPath, Plan, Run};
use super::told::Told;
use crate::emulator::{self, Carried, Streams};
use crate::link::LinkConfig;

/// Where all runs of a comparison happen.
#[derive(Debug)]
pub struct Place {
    /// This program.
    haul: PathBuf,
    /// Holds everything that runs write; goes with this.
    work: tempfile::TempDir,
    runs: usize,
}

/// A run, seen from outside.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) command: String,
    pub(super) peer_command: Option<String>,
    pub(super) exit_code: u8,
    pub(super) was_cut: bool,
    /// Whether this process was asked to end meanwhile.
    pub(super) was_interrupted: bool,
    pub(super) elapsed: Duration,
    /// What stands at the other end; none, if that is not here to be seen.
    pub(super) arrived: Option<Arrived>,
    pub(super) sender: Option<Told>,
    pub(super) receiver: Option<Told>,
    /// The last line that the command said, for people.
    pub(super) last_words: Option<String>,
    /// What the link did, where there is one.
    pub(super) carried: Option<Box<Carried>>,
}

/// What one run needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) plan: &'a Plan,
    pub(super) run: Run,
    pub(super) payload: &'a Payload,
    pub(super) at_most: Duration,
}

/// A run's own directory.
struct Desk {
    dir: PathBuf,
}

/// What both processes of a run are started with.
struct Lines {
    command: OsString,
    peer: Option<OsString>,
}

/// How often the link is looked at for the timeline.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// How long the receiver may take to say its last words after the sender has ended.
const PEER_GRACE: Duration = Duration::from_secs(5);
/// Of what a program said, at most so much is read.
const WORDS_MAX: u64 = 4 << 20;

impl Place {
    /// Makes room for what runs write.
    pub fn new() -> anyhow::Result<Self> {
        let work = tempfile::Builder::new().prefix("haul-compare-").tempdir();
        let work = work.context("cannot make a directory for the runs (TMPDIR names another place)")?;
        let haul = std::env::current_exe().context("cannot find this program")?;
        Ok(Self { haul, work, runs: 0 })
    }

    /// Where a file to send can be made.
    pub fn file(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Whether links can be emulated here; the reason, if not.
    pub fn can_emulate() -> Result<(), String> {
        let plan = emulator_plan(&LinkConfig::default(), &LinkConfig::default(), vec!["true".into()]);
        emulator::run(&plan).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Does one run.
    pub(super) fn run(&mut self, task: &Task<'_>) -> anyhow::Result<Observed> {
        let desk = Desk { dir: self.work.path().join(format!("run-{}", self.runs)) };
        self.runs += 1;
        fs::create_dir_all(desk.inbox()).context("cannot make a directory for a run")?;
        let observed = match (&task.plan.scenarios[task.run.scenario].path, task.links()) {
            (NetworkPath::Server { ticket }, _) => self.to_server(task, &desk, ticket),
            (_, Some((there, back))) => self.over_link(task, &desk, &there, &back),
            (_, None) => self.over_loopback(task, &desk),
        };
        // Files of other runs must not fill the disk.
        fs::remove_dir_all(&desk.dir).context("cannot remove what a run left")?;
        observed
    }

    fn over_link(
        &self,
        task: &Task<'_>,
        desk: &Desk,
        there: &LinkConfig,
        back: &LinkConfig,
    ) -> anyhow::Result<Observed> {
        let host = emulator::PEER.to_string();
        let lines = self.lines(task, desk, &host, &desk.ticket());
        let is_ours = task.contender().is_ours();
        let mut plan = emulator_plan(there, back, desk.shell(task, &lines.command, "sender", is_ours));
        plan.peer =
            lines.peer.as_ref().map(|line| desk.shell(task, line, "receiver", false)).unwrap_or_default();
        plan.command_at_most = Some(task.at_most);
        if is_ours {
            plan.peer_grace = PEER_GRACE;
        }
        let carried = emulator::run(&plan)?;
        let mut observed = desk.observed(task, &lines)?;
        observed.was_interrupted = carried.was_interrupted;
        observed.exit_code = carried.code;
        observed.was_cut = carried.was_cut;
        observed.elapsed = carried.command_elapsed;
        observed.carried = Some(Box::new(carried));
        Ok(observed)
    }

    /// Ours only: on one host, nobody could end what another program has started.
    fn over_loopback(&self, task: &Task<'_>, desk: &Desk) -> anyhow::Result<Observed> {
        let lines = self.lines(task, desk, "127.0.0.1", &desk.ticket());
        let peer =
            lines.peer.as_ref().map(|line| local::Process::start(&desk.shell(task, line, "receiver", false)));
        let peer = peer.transpose().context("cannot start the receiver")?;
        let mut sender = local::Process::start(&desk.shell(task, &lines.command, "sender", true))?;
        let ended = sender.wait(task.at_most)?;
        if let Some(mut peer) = peer {
            peer.wait(ended.elapsed + PEER_GRACE)?;
        }
        desk.observed(task, &lines).map(|observed| observed.ended(&ended))
    }

    fn to_server(&self, task: &Task<'_>, desk: &Desk, ticket: &Path) -> anyhow::Result<Observed> {
        let mut lines = self.lines(task, desk, "", ticket);
        lines.peer = None;
        let mut sender = local::Process::start(&desk.shell(task, &lines.command, "sender", false))?;
        let ended = sender.wait(task.at_most)?;
        let mut observed = desk.observed(task, &lines)?.ended(&ended);
        observed.arrived = observed.sender.as_ref().and_then(|told| told.arrived(task.payload));
        Ok(observed)
    }

    /// The two command lines, as a user would type them.
    fn lines(&self, task: &Task<'_>, desk: &Desk, host: &str, ticket: &Path) -> Lines {
        let scenario = &task.plan.scenarios[task.run.scenario];
        let filling = Filling {
            haul: &self.haul,
            file: &task.payload.path,
            file_bytes: task.payload.bytes,
            ticket,
            host,
            dir: &desk.inbox(),
            rate_bits_per_s: task.plan.raw_rate(scenario),
            is_discarded: matches!(scenario.path, NetworkPath::Server { .. }),
        };
        let command = task.contender().command(&filling);
        let peer = match task.contender() {
            Contender::Rival(rival) => rival.peer_command(&filling),
            Contender::Tcp { .. } | Contender::Udp { .. } | Contender::Raw => Some(self.receiver(desk, host)),
        };
        Lines { command, peer }
    }

    fn receiver(&self, desk: &Desk, host: &str) -> OsString {
        let haul = self.haul.clone().into_os_string();
        let mut words = vec![haul, "recv".into(), desk.inbox().into(), "--no-sync".into(), "--json".into()];
        let port = if host == "127.0.0.1" { ":0" } else { "" };
        words.push(format!("--listen={host}{port}").into());
        let mut ticket = OsString::from("--ticket-file=");
        ticket.push(desk.ticket());
        words.push(ticket);
        line(&words)
    }
}

impl Task<'_> {
    pub(super) fn sample_every(&self) -> Duration {
        SAMPLE_EVERY
    }

    fn contender(&self) -> &Contender {
        &self.plan.contenders[self.run.contender]
    }
}

impl Desk {
    fn inbox(&self) -> PathBuf {
        self.dir.join("in")
    }

    fn ticket(&self) -> PathBuf {
        self.dir.join("ticket")
    }

    fn said(&self, who: &str, what: &str) -> PathBuf {
        self.dir.join(format!("{who}.{what}"))
    }

    /// What a shell is started with to run a line: with keys and state of its own, what it says kept in files, and perhaps once the
    /// receiver has written its ticket.
    fn shell(&self, task: &Task<'_>, command: &OsStr, who: &str, waits_for_ticket: bool) -> Vec<OsString> {
        let path = |what: &str| quoted(self.said(who, what).as_os_str());
        let mut script = OsString::from("export HAUL_HOME=");
        script.push(path("home"));
        script.push("; exec >");
        script.push(path("out"));
        script.push(" 2>");
        script.push(path("err"));
        script.push("; ");
        if waits_for_ticket {
            // Half a minute at most; without a ticket, the command says what is wrong.
            script.push("n=0; while [ ! -s ");
            script.push(quoted(self.ticket().as_os_str()));
            script.push(" ] && [ $n -lt 3000 ]; do sleep 0.01; n=$((n+1)); done; ");
        }
        if task.contender().is_ours() {
            // In the shell's place, so that what ends the shell ends it.
            script.push("exec ");
        }
        script.push(command);
        ["/bin/sh".into(), "-c".into(), script].into()
    }

    /// What the files of the run tell.
    fn observed(&self, task: &Task<'_>, lines: &Lines) -> anyhow::Result<Observed> {
        let told = |who| -> anyhow::Result<Option<Told>> { Ok(Told::read(&read(&self.said(who, "out"))?)) };
        let shown = |line: &OsString| line.to_string_lossy().into_owned();
        let said = read(&self.said("sender", "err"))?;
        let said = String::from_utf8_lossy(&said);
        Ok(Observed {
            command: shown(&lines.command),
            peer_command: lines.peer.as_ref().map(shown),
            exit_code: 0,
            was_cut: false,
            was_interrupted: false,
            elapsed: Duration::ZERO,
            arrived: self.arrived(task)?,
            sender: told("sender")?,
            receiver: told("receiver")?,
            last_words: said
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .map(|line| line.trim().to_owned()),
            carried: None,
        })
    }

    /// What is in the inbox: under the file's name, under the name that raw UDP gives to what is damaged, or, of a rival, whatever
    /// is there alone.
    fn arrived(&self, task: &Task<'_>) -> anyhow::Result<Option<Arrived>> {
        let name = task.payload.path.file_name().unwrap_or_default();
        let mut damaged = name.to_owned();
        damaged.push(".damaged");
        let inbox = self.inbox();
        let mut candidates = vec![inbox.join(name), inbox.join(damaged)];
        if !task.contender().is_ours() {
            let entries = fs::read_dir(&inbox)?.collect::<Result<Vec<_>, _>>()?;
            candidates.extend(entries.iter().map(fs::DirEntry::path));
            if entries.is_empty() {
                // It may have been sent to nowhere, as iperf3 does.
                return Ok(None);
            }
        }
        let there = candidates.iter().find(|path| path.is_file());
        let path = there.unwrap_or(&candidates[0]);
        task.payload.compare(path).context("cannot compare what arrived").map(Some)
    }
}

impl Observed {
    fn ended(mut self, ended: &local::Ended) -> Self {
        self.exit_code = ended.code;
        self.was_cut = ended.was_cut;
        self.elapsed = ended.elapsed;
        self
    }
}

/// A link without anything special about its hosts.
fn emulator_plan(there: &LinkConfig, back: &LinkConfig, command: Vec<OsString>) -> emulator::Plan {
    let longest = there.mtu_max_bytes().max(back.mtu_max_bytes()).max(1500);
    emulator::Plan {
        back: back.clone(),
        mtu_bytes: u16::try_from(longest).unwrap_or(u16::MAX),
        streams: Streams::Null,
        sample_every: Some(SAMPLE_EVERY),
        ..emulator::Plan::new(there.clone(), command)
    }
}

/// A file of a run; nothing, if the program said nothing.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut text = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(WORDS_MAX).read_to_end(&mut text).map(|_| text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(text),
        Err(error) => Err(error),
    }
}
