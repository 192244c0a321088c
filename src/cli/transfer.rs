//! What `send`, `get`, `recv`, `offer` and `serve` have in common: options, the progress, signals, the final line.

use std::{
    fs::File,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use clap::builder::FalseyValueParser;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use super::{
    again::{self, Patience},
    exit::{self, Exit, Failure},
    options::{DigestOption, TcpOption},
    output::{Output, shown},
    peer::{self, Place},
    progress::{Phase, Progress},
    raw,
};
use crate::{
    file::target::Expect,
    integrity::{digest::Digest, sums::Sums},
    limits,
    run::{
        client::{Client, Ended, Options, Running, Streams},
        connect::Peer,
        error::{Cause, RunError},
        flow::FlowWish,
        home::Home,
        report::Report,
        session::Role,
        verdict::Limit,
    },
    transfer::Announced,
    units::{self, Bitrate},
    wire::message::{DigestKind, FlowMode, Law, Overwrite},
};

/// How often the progress is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Options of the commands that connect to a server.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientOptions {
    /// How data travels
    #[arg(long, value_enum, default_value = "auto", env = "HAUL_TRANSPORT", hide_env = true)]
    pub transport: Transport,
    /// How a UDP sender shares the network
    #[arg(long, value_enum, default_value = "bbr", env = "HAUL_CONGESTION", hide_env = true)]
    pub congestion: CongestionOption,
    /// How TCP shares it.
    #[command(flatten)]
    pub tcp: TcpOption,
    /// Connections: a number, or `auto` for as many as the rate rises with
    #[arg(long, value_name = "N", default_value = "auto", env = "HAUL_STREAMS", hide_env = true)]
    pub streams: StreamsOption,
    /// Connect without encryption; the server must allow it
    #[arg(long)]
    pub plain: bool,
    /// Give up on a peer that is silent for so long
    #[arg(long, value_name = "TIME", default_value = super::peer::TIMEOUT_DEFAULT, value_parser = super::peer::parse_timeout, env = "HAUL_TIMEOUT", hide_env = true)]
    pub timeout: Duration,
    /// The digest.
    #[command(flatten)]
    pub digest: DigestOption,
    /// What to do about names that exist
    #[arg(long, value_enum, default_value = "different")]
    pub overwrite: OverwriteOption,
    /// Compare existing files by digest, not by size and time
    #[arg(long, env = "HAUL_CHECKSUM", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub checksum: bool,
    /// Only files that match; may stand several times
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No files or directories that match; may stand several times
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Only files that failed in an earlier run, whose --json result FILE is
    #[arg(long, value_name = "FILE", conflicts_with = "include")]
    pub retry_failed: Option<PathBuf>,
    /// After the loss of a connection, try for so long to go on; or `never` [default: 1m; if given, also before the
    /// first connection]
    #[arg(long, value_name = "TIME", value_parser = again::parse_retry_for, env = "HAUL_RETRY_FOR", hide_env = true)]
    pub retry_for: Option<Duration>,
    /// Accept only these digests: a manifest, or sha256:HEX for a single file
    #[arg(long, value_name = "MANIFEST|ALGORITHM:HEX", env = "HAUL_EXPECT", hide_env = true)]
    pub expect: Option<String>,
    /// Say what would happen, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write down what the flow over UDP does at this end, packet by packet, as lines of JSON
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// End with 13 when there was nothing to do
    #[arg(long, env = "HAUL_FAIL_IF_NOTHING", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub fail_if_nothing: bool,
}

/// Options of the side that writes files.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct WriteOptions {
    /// Do not wait for the disk: after a crash of this machine, reported files may be lost
    #[arg(long)]
    pub no_sync: bool,
    /// Read every file back from the disk before it gets its name
    #[arg(long, env = "HAUL_VERIFY_DISK", value_parser = FalseyValueParser::new(), hide_env = true)]
    pub verify_disk: bool,
    /// Keep setuid, setgid and sticky bits
    #[arg(long)]
    pub keep_setid: bool,
}

/// Values of `--transport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// The best that there is
    Auto,
    /// TCP
    Tcp,
    /// UDP, with acknowledgement and repair of our own
    Udp,
    /// UDP as it is, at the rate of --rate: nothing is repaired, and a report says what arrived
    UdpRaw,
}

/// Values of `--congestion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CongestionOption {
    /// A model of the path: its rate and its shortest round trip
    Bbr,
    /// The textbook: halves at every loss
    Cubic,
    /// The rate of --rate, whatever the path says
    Fixed,
}

impl From<CongestionOption> for Law {
    fn from(option: CongestionOption) -> Self {
        match option {
            CongestionOption::Bbr => Self::Bbr,
            CongestionOption::Cubic => Self::Cubic,
            CongestionOption::Fixed => Self::Fixed,
        }
    }
}

/// Values of `--overwrite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum OverwriteOption {
    /// Keep what is there
    Never,
    /// Replace what is older than the source
    Newer,
    /// Replace what differs in size or time
    Different,
    /// Replace everything
    Always,
}

impl From<OverwriteOption> for Overwrite {
    fn from(option: OverwriteOption) -> Self {
        match option {
            OverwriteOption::Never => Self::Never,
            OverwriteOption::Newer => Self::Newer,
            OverwriteOption::Different => Self::Different,
            OverwriteOption::Always => Self::Always,
        }
    }
}

/// Value of `--streams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamsOption(pub Streams);

impl FromStr for StreamsOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self(Streams::Auto));
        }
        let count = text.parse().ok().filter(|count| (1..=limits::STREAMS_MAX).contains(count));
        let count = count.ok_or_else(|| format!("a number from 1 to {}, or auto", limits::STREAMS_MAX))?;
        Ok(Self(Streams::Fixed(count)))
    }
}

impl ClientOptions {
    /// Whether content goes over a raw flow.
    pub fn is_raw(&self) -> bool {
        self.transport == Transport::UdpRaw
    }

    /// As the session needs them.
    /// `is_again`: what another session of this command has done is not to be done again.
    pub fn session(&self, rate: Option<Bitrate>, is_again: bool) -> anyhow::Result<Options> {
        if self.is_raw() && rate.is_none() {
            let text = "--transport udp-raw needs a --rate, such as 100mbit: nothing tells it to slow down";
            return Err(Failure::new(Exit::Usage, text).into());
        }
        if self.congestion == CongestionOption::Fixed && rate.is_none() {
            return Err(Failure::new(Exit::Usage, "--congestion fixed needs --rate").into());
        }
        Ok(Options {
            digest: self.digest.kind(),
            overwrite: self.overwrite.into(),
            checksum: self.checksum || (is_again && self.overwrite == OverwriteOption::Always),
            dry_run: self.dry_run,
            streams: self.streams.0,
            rate_bps: rate.map(Bitrate::bits_per_s),
            // Without content there is nothing to show.
            flow: self.flow(rate).filter(|_| !(self.is_raw() && self.dry_run)),
            trace: self.trace.as_deref().map(|path| self.trace_file(path)).transpose()?,
        })
    }

    /// What is needed to connect.
    pub fn peer(&self, place: &Place, home: &Home) -> anyhow::Result<Peer> {
        let congestion = self.tcp.chosen()?;
        Ok(Peer { congestion, ..peer::peer(place, home, self.plain, self.timeout)? })
    }

    /// The flow over UDP that `--transport` asks for.
    fn flow(&self, rate: Option<Bitrate>) -> Option<FlowWish> {
        let is_only = match self.transport {
            Transport::Tcp => return None,
            Transport::Auto => false,
            Transport::Udp | Transport::UdpRaw => true,
        };
        let (mode, law) = match self.is_raw() {
            true => (FlowMode::Raw, Law::Fixed),
            false => (FlowMode::Reliable, self.congestion.into()),
        };
        Some(FlowWish { is_only, mode, law, rate_bps: rate.map_or(0, Bitrate::bits_per_s) })
    }

    /// The file of `--trace`, empty: who asks for one is not told at the end that there is none.
    fn trace_file(&self, path: &Path) -> anyhow::Result<Arc<File>> {
        if matches!(self.transport, Transport::Tcp | Transport::UdpRaw) {
            let text = "--trace shows how UDP is repaired: it needs --transport udp or auto";
            return Err(Failure::new(Exit::Usage, text).into());
        }
        let file = File::create(path).map_err(|error| {
            Failure::new(Exit::LocalFile, format!("{}: cannot write the trace: {error}", shown(path)))
        })?;
        Ok(Arc::new(file))
    }

    /// The digests that `--expect` asks for.
    pub fn expected(&self) -> anyhow::Result<Expect> {
        let kind = self.digest.kind();
        self.expect.as_deref().map_or(Ok(Expect::None), |text| expected(text, kind))
    }
}

fn expected(text: &str, kind: DigestKind) -> anyhow::Result<Expect> {
    let usage = |text: String| Failure::new(Exit::Usage, text);
    for other in [DigestKind::Sha256, DigestKind::Blake3] {
        if let Some(hex) = text.strip_prefix(other.name()).and_then(|rest| rest.strip_prefix(':')) {
            if other != kind {
                return Err(usage(format!(
                    "--expect names {other}, but the digest of this transfer is {kind}; see --digest"
                ))
                .into());
            }
            let digest: Digest =
                hex.parse().map_err(|_| usage(format!("--expect {other}: needs 64 hexadecimal digits")))?;
            return Ok(Expect::One(digest.0));
        }
    }
    let path = PathBuf::from(text);
    let file = File::open(&path).map_err(|error| {
        Failure::new(Exit::LocalFile, format!("{}: cannot read the manifest: {error}", shown(&path)))
    })?;
    let sums = Sums::new(std::io::BufReader::new(file), kind)
        .map(|sum| sum.map(|sum| (sum.name, sum.digest.0)))
        .collect::<Result<_, _>>()
        .map_err(|error| usage(format!("{}: {error}", shown(&path))))?;
    Ok(Expect::Manifest(sums))
}

/// A runtime for connections; files have threads of their own.
pub fn runtime() -> anyhow::Result<Runtime> {
    let failed = |error| Failure::new(Exit::Unexpected, format!("cannot start the runtime: {error}"));
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("net").build().map_err(failed)?)
}

/// Completes at the first SIGINT or SIGTERM; the second ends the process at once. Signals count from this call on,
/// which a runtime has to be entered for, and not only from the first poll.
pub fn interrupted() -> impl Future<Output = ()> {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut int), Ok(mut term)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            std::process::exit(i32::from(Exit::Interrupted.code()));
        });
    }
}

/// Runs `work` while the progress of `running` is drawn; a signal ends the session in order.
pub async fn watch<T>(
    work: impl Future<Output = T>,
    running: &Running,
    mut signal: Pin<&mut impl Future<Output = ()>>,
    out: &Output,
) -> T {
    let mut draw = interval(DRAW_EVERY);
    draw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut work = std::pin::pin!(work);
    let mut is_signalled = false;
    loop {
        tokio::select! {
            result = &mut work => {
                out.progress().finish();
                return result;
            }
            () = signal.as_mut(), if !is_signalled => {
                is_signalled = true;
                running.session.fail(interruption());
            }
            _ = draw.tick() => {
                tell_news(running, out);
                out.progress().show(&progress(running), running.session.meter.elapsed());
            }
        }
    }
}

/// Says where content goes, and why, as soon as that changes.
pub fn tell_news(running: &Running, out: &Output) {
    running.session.take_news().iter().for_each(|news| out.say(news));
}

/// How a signal ends a session.
pub fn interruption() -> RunError {
    RunError::new(
        Cause::Interrupted,
        "interrupted; run the same command again to go on: what has arrived is not sent again",
    )
}

/// A session as the progress shows it.
pub fn progress(running: &Running) -> Progress {
    let counts = running.results.counts();
    let (phase, listing, bytes_done, listing_complete) = running.session.look(|role| match role {
        Role::Sender(sender) => (
            Phase::Sending,
            sender.announced(),
            sender.placed_bytes() + sender.resumed_bytes(),
            sender.listed().is_some(),
        ),
        Role::Receiver(receiver) => (
            Phase::Receiving,
            receiver.announced(),
            receiver.placed_bytes() + receiver.resumed_bytes(),
            receiver.listed().is_some(),
        ),
        Role::Lister(found) => {
            let files = found.entries.len() as u64;
            (Phase::Listing, Announced { files, ..Announced::default() }, 0, false)
        }
    });
    Progress {
        files_done: counts.settled(),
        files_total: listing.files,
        bytes_done,
        bytes_total: listing.bytes,
        listing_complete,
        current: Some(counts.current).filter(|name| !name.is_empty()),
        phase,
    }
}

/// A report as `--json` prints it.
#[derive(serde::Serialize)]
struct JsonReport<'a> {
    #[serde(flatten)]
    report: &'a Report,
    exit_code: Exit,
}

/// Prints how a session ended, for people and programs, and gives the exit code.
pub fn conclude(report: &Report, fail_if_nothing: bool, out: &Output) -> anyhow::Result<Exit> {
    let mut report = report.clone();
    let is_nothing = report.files + report.directories_changed + report.planned == 0;
    if fail_if_nothing && report.error.is_none() && is_nothing {
        report.cause = Some(Cause::NothingToDo);
        report.error = Some("there was nothing to do".to_owned());
    }
    let exit = report.cause.map_or(Exit::Done, exit::of_cause);
    for failure in report.failures.iter().take(FAILURES_SHOWN) {
        if report.failed > 1 {
            out.problem(&failure.line());
        }
    }
    if let Some(error) = &report.error {
        out.problem(error);
    }
    if report.error.is_none() || report.files > 0 {
        out.say(&summary(&report));
    }
    say_raw(&report, out);
    if out.is_json() {
        out.json(&JsonReport { report: &report, exit_code: exit })?;
    }
    Ok(exit)
}

/// Says what UDP did, if that was what the transfer was for.
pub fn say_raw(report: &Report, out: &Output) {
    report.raw.iter().flat_map(raw::lines).for_each(|line| out.say(&line));
}

/// Says what would make the next transfer over UDP better, if there is something; in JSON, `flow` has the number.
pub fn advise(report: &Report, out: &Output) -> bool {
    let advice = report.advice().filter(|_| !out.is_json());
    advice.iter().for_each(|advice| out.say(advice));
    advice.is_some()
}

/// Failures that are told one by one; all that are kept stand in the JSON.
const FAILURES_SHOWN: usize = 20;

/// What happened, in one line.
pub fn summary(report: &Report) -> String {
    let verb = match (report.role, report.discarded) {
        ("sender", _) => "sent",
        (_, false) => "received",
        (_, true) => "received, checked and thrown away:",
    };
    let mut line = if report.planned > 0 {
        format!("would have {verb} {}", units::counted(report.planned, "file"))
    } else {
        let mut line =
            format!("{verb} {}, {}", units::counted(report.files, "file"), units::bytes(report.bytes));
        let elapsed = Duration::from_secs_f64(report.elapsed_s.max(0.0));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rate fits, and is not negative"
        )]
        let rate = report.rate_bytes_per_s as u64;
        line += &format!(", in {} ({})", units::duration(elapsed), units::rate(rate));
        line
    };
    match &report.digest {
        Some(digest) => line += &format!(", {} {digest}", report.digest_algorithm),
        None if report.files > 0 && report.planned == 0 => {
            line += &format!(", each proven by {}", report.digest_algorithm);
        }
        None => {}
    }
    let more = [
        (report.unchanged, "unchanged (not compared)"),
        (report.identical, "identical"),
        (report.kept, "kept as they were"),
        (report.failed, "failed"),
    ];
    for (count, what) in more {
        if count > 0 {
            line += &format!("; {count} {what}");
        }
    }
    let not_kept = [
        (report.not_kept.special, "special files"),
        (report.not_kept.owner, "owners"),
        (report.not_kept.attributes, "extended attributes"),
        (report.not_kept.hardlinks, "hard links"),
    ];
    let not_kept: Vec<_> =
        not_kept.iter().filter(|(count, _)| *count > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if report.bytes_resumed > 0 {
        line += &format!("; {} were there from before", units::bytes(report.bytes_resumed));
    }
    if !not_kept.is_empty() {
        line += &format!("; not kept: {}", not_kept.join(", "));
    }
    if report.discarded && report.role == "sender" {
        line += "; received, checked and thrown away there";
    }
    if !report.synced && !report.discarded && report.files > 0 && report.planned == 0 {
        line += "; not synced";
    }
    if !report.encrypted {
        line += "; checksum only, not authenticated";
    }
    if let Some(verdict) = report.limited_by.filter(|verdict| verdict.limit != Limit::TooShort) {
        line += &format!("; limited by {} ({} %)", verdict.limit.words(), verdict.share_percent);
    }
    line
}

/// Runs a client's command to its end and concludes.
pub fn run_client(
    make: impl FnMut(bool) -> anyhow::Result<Client>,
    patience: Patience,
    place: &Place,
    home: &Home,
    fail_if_nothing: bool,
    out: &Output,
) -> anyhow::Result<Exit> {
    let ended = client_session(make, patience, place, home, out)?;
    advise(&ended.report, out);
    conclude(&ended.report, fail_if_nothing, out)
}

/// Runs a client's session to its end.
pub fn client_session(
    make: impl FnMut(bool) -> anyhow::Result<Client>,
    patience: Patience,
    place: &Place,
    home: &Home,
    out: &Output,
) -> anyhow::Result<Ended> {
    let mut ended = again::client_session(make, patience, place, home, out)?;
    if ended.report.error.is_none() {
        peer::remember(place, home, ended.reached.clone(), out);
    }
    if let (Some(error), Some(text)) = (&ended.wrong_key, &mut ended.report.error)
        && let Some(better) = peer::explain_wrong_key(place, home, *error)
    {
        *text = better;
    }
    Ok(ended)
}
