//! `haul serve ROOT`, `haul recv [DIR]` and `haul offer PATH...`: the commands that wait for a client.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{sync::mpsc, time::interval};

use super::{
    exit::{Exit, Failure},
    options::TcpOption,
    output::{JSON_VERSION, Output, shown, write_file},
    peer,
    progress::{Phase, Progress},
    transfer::{self, OverwriteOption, WriteOptions},
};
use crate::{
    file::sweep::sweep,
    limits,
    net::{Listener, TcpCongestion, local_addresses},
    run::{
        client::Running,
        clock,
        error::{Cause, RunError},
        flow::Hub,
        home::StoredTicket,
        report::Report,
        server::{Event, OneTime, Server, ServerConfig, Service},
    },
    security::{HostPort, ProofKey, Ticket, Token},
    units::{self, Bitrate},
};

/// Options of all three.
#[derive(Clone, Debug, clap::Args)]
pub struct Listening {
    /// Where to listen [default: all addresses, port 7420]
    #[arg(short, long, value_name = "ADDR:PORT", env = "HAUL_LISTEN", hide_env = true)]
    pub listen: Option<String>,
    /// A name or address to put into the ticket, first; may stand several times
    #[arg(long, value_name = "HOST[:PORT]")]
    pub advertise: Vec<String>,
    /// Also write the ticket to this file, readable by you alone
    #[arg(long, value_name = "FILE", env = "HAUL_TICKET_FILE", hide_env = true)]
    pub ticket_file: Option<PathBuf>,
    /// Make a new ticket; the one before is worth nothing from then on
    #[arg(long)]
    pub new_ticket: bool,
    /// Admit everybody without a secret
    #[arg(long)]
    pub open: bool,
    /// Take connections without encryption too
    #[arg(long)]
    pub plain: bool,
    /// How TCP shares the network.
    #[command(flatten)]
    pub tcp: TcpOption,
    /// Give up on a client that is silent for so long
    #[arg(long, value_name = "TIME", default_value = peer::TIMEOUT_DEFAULT, value_parser = peer::parse_timeout, env = "HAUL_TIMEOUT", hide_env = true)]
    pub timeout: Duration,
}

/// Wait for one push
///
/// Prints the ticket to give to `haul send` on the other machine, and ends when the transfer is complete. The same
/// command after a crash prints the same ticket.
#[derive(Clone, Debug, clap::Args)]
pub struct RecvArgs {
    /// Directory to put it in
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// The most that the sender may overwrite
    #[arg(long, value_enum, default_value = "different")]
    pub overwrite: OverwriteOption,
    /// How files are written.
    #[command(flatten)]
    pub write: WriteOptions,
    /// Where to listen, whom to admit.
    #[command(flatten)]
    pub listening: Listening,
}

/// Wait for one pull
///
/// Prints the ticket to give to `haul get` on the other machine, and ends when the transfer is complete. The same
/// command after a crash prints the same ticket.
#[derive(Clone, Debug, clap::Args)]
pub struct OfferArgs {
    /// What to offer
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// Send at most at this rate, such as 200mbit
    #[arg(long, value_name = "RATE", env = "HAUL_RATE", hide_env = true)]
    pub rate: Option<Bitrate>,
    /// Where to listen, whom to admit.
    #[command(flatten)]
    pub listening: Listening,
}

/// Run a standing server for many clients
///
/// Prints its ticket, which survives restarts. Clients put a path behind the port: haul://HOST:PORT/PATH#SECRET. Keys
/// in the file `authorized` of the state directory need no ticket.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Directory to serve
    pub root: PathBuf,
    /// Clients may get and list, not send
    #[arg(long, conflicts_with = "drop_only")]
    pub read_only: bool,
    /// Clients may send, not get or list
    #[arg(long)]
    pub drop_only: bool,
    /// The most that a sender may overwrite
    #[arg(long, value_enum, default_value = "never")]
    pub overwrite: OverwriteOption,
    /// Let clients send up to SIZE bytes in a session (such as 10GB) that are checked and thrown away, for measuring
    /// the way here
    #[arg(long, value_name = "SIZE", value_parser = units::parse_bytes)]
    pub discard: Option<u64>,
    /// Remove what interrupted transfers have left when nobody has come back for so long; at least 1m
    #[arg(long, value_name = "TIME", default_value = KEEP_PARTIAL_DEFAULT, value_parser = parse_keep_partial, env = "HAUL_KEEP_PARTIAL", hide_env = true)]
    pub keep_partial: Duration,
    /// Sessions at once
    #[arg(long, value_name = "N", default_value_t = limits::SESSIONS_MAX, env = "HAUL_MAX_SESSIONS", hide_env = true)]
    pub max_sessions: usize,
    /// Send at most at this rate in each session, such as 200mbit
    #[arg(long, value_name = "RATE", env = "HAUL_RATE", hide_env = true)]
    pub rate: Option<Bitrate>,
    /// Read options from a file: one a line, without the dashes, such as `listen = 0.0.0.0:7420`
    #[arg(long, value_name = "FILE", env = "HAUL_CONFIG", hide_env = true)]
    pub config: Option<PathBuf>,
    /// How files are written.
    #[command(flatten)]
    pub write: WriteOptions,
    /// Where to listen, whom to admit.
    #[command(flatten)]
    pub listening: Listening,
}

/// `haul recv`.
pub fn recv(args: &RecvArgs, out: &Output) -> anyhow::Result<Exit> {
    let root = directory(&args.dir)?;
    let name = ticket_name("recv", [root.as_path()]);
    let service = Service::Receive { root };
    let setup = Setup {
        service,
        name,
        overwrite: args.overwrite,
        write: Some(args.write),
        rate: None,
        max_sessions: 1,
        keep_partial: None,
    };
    start(&setup, &args.listening, out)
}

/// `haul offer`.
pub fn offer(args: &OfferArgs, out: &Output) -> anyhow::Result<Exit> {
    for path in &args.paths {
        std::fs::symlink_metadata(path)
            .map_err(|error| Failure::new(Exit::LocalFile, format!("{}: {error}", shown(path))))?;
    }
    let absolute: Vec<_> =
        args.paths.iter().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone())).collect();
    let name = ticket_name("offer", absolute.iter().map(PathBuf::as_path));
    let service = Service::Offer { paths: args.paths.clone() };
    let setup = Setup {
        service,
        name,
        overwrite: OverwriteOption::Never,
        write: None,
        rate: args.rate,
        max_sessions: 1,
        keep_partial: None,
    };
    start(&setup, &args.listening, out)
}

/// `haul serve`.
pub fn serve(args: &ServeArgs, out: &Output) -> anyhow::Result<Exit> {
    if let Some(path) = &args.config {
        let args = with_config(path)?;
        return serve(&ServeArgs { config: None, ..args }, out);
    }
    let root = directory(&args.root)?;
    let name = ticket_name("serve", [root.as_path()]);
    let service = Service::Serve {
        root,
        may_pull: !args.drop_only,
        may_push: !args.read_only,
        discard_bytes_max: args.discard,
    };
    let setup = Setup {
        service,
        name,
        overwrite: args.overwrite,
        write: Some(args.write),
        rate: args.rate,
        max_sessions: args.max_sessions.max(1),
        keep_partial: Some(args.keep_partial),
    };
    start(&setup, &args.listening, out)
}

/// What differs between the three.
struct Setup {
    service: Service,
    /// Under which the ticket is kept.
    name: String,
    overwrite: OverwriteOption,
    write: Option<WriteOptions>,
    rate: Option<Bitrate>,
    max_sessions: usize,
    /// For how long interrupted transfers are kept, where they are cleaned up.
    keep_partial: Option<Duration>,
}

fn start(setup: &Setup, listening: &Listening, out: &Output) -> anyhow::Result<Exit> {
    let failed = |error: crate::run::home::HomeError| Failure::new(Exit::LocalFile, error.to_string());
    let congestion = listening.tcp.chosen()?;
    raise_open_files();
    let home = peer::home()?;
    let identity = home.identity().map_err(failed)?;
    let is_one_time = !matches!(setup.service, Service::Serve { .. });
    if listening.new_ticket {
        home.remove_ticket(&setup.name).map_err(failed)?;
    }
    let stored = home.ticket(&setup.name).map_err(failed)?;
    let runtime = transfer::runtime()?;
    let _guard = runtime.enter();
    let stored_port = stored.as_ref().map(|stored| stored.port);
    let listener = listen(listening, congestion.as_ref(), stored_port, is_one_time)?;
    let address = listener.address()?;
    let fresh =
        StoredTicket { token: Token::from_bytes(clock::random()), port: address.port(), claimed_by: None };
    let stored = home.ticket_or(&setup.name, fresh).map_err(failed)?;
    let ticket = Ticket {
        key: identity.key_hash(),
        token: stored.token.clone(),
        one_time: is_one_time,
        addresses: addresses(listening, address)?,
        path: None,
    };
    let write = setup.write.unwrap_or(WriteOptions { no_sync: false, verify_disk: false, keep_setid: false });
    let config = ServerConfig {
        service: setup.service.clone(),
        identity,
        home: home.clone(),
        token: ProofKey::from_token(&stored.token),
        one_time: is_one_time.then(|| OneTime { name: setup.name.clone(), ticket: stored.clone() }),
        is_open: listening.open,
        takes_plain: listening.plain,
        overwrite: setup.overwrite.into(),
        syncs: !write.no_sync,
        verify_disk: write.verify_disk,
        keep_setid: write.keep_setid,
        rate_bps: setup.rate.map(Bitrate::bits_per_s),
        max_sessions: setup.max_sessions,
        max_streams: limits::STREAMS_MAX,
        idle_timeout: listening.timeout,
    };
    // Whoever has read the ticket may send a signal.
    let signal = transfer::interrupted();
    announce(&ticket, &setup.service, address, listening, out)?;
    let (events, told) = mpsc::unbounded_channel();
    let hub = match Hub::beside(&listener) {
        Ok(hub) => {
            let (wished, own) = (address.port(), hub.shared().port());
            if own != wished {
                // A firewall may have to let it through.
                out.say(&format!("UDP port {wished} is in use: UDP has port {own} here"));
            }
            Some(hub)
        }
        Err(error) => {
            out.detail(&format!("no UDP here, only TCP: {error}"));
            None
        }
    };
    if let (Some(keep), Service::Serve { root, may_push: true, .. }) = (setup.keep_partial, &setup.service) {
        runtime.spawn(keep_swept(root.clone(), keep));
    }
    let server = Server::new(config, events, hub);
    let exit = runtime.block_on(serve_until_done(&server, &listener, told, signal, is_one_time, out));
    runtime.shutdown_timeout(SHUTDOWN);
    if is_one_time && matches!(exit, Ok(Exit::Done)) {
        home.remove_ticket(&setup.name).map_err(failed)?;
    }
    exit
}

/// Removes below `root` what nobody has come back for within `keep`, at once and from time to time.
async fn keep_swept(root: PathBuf, keep: Duration) {
    let mut due = interval(limits::SWEEP_EVERY.min(keep));
    loop {
        due.tick().await;
        let Some(before) = clock::unix_time().checked_sub(keep) else { continue };
        let root = root.clone();
        let swept = tokio::task::spawn_blocking(move || {
            crate::file::disk::write::open_root(&root).map(|root| sweep(root, before))
        });
        if let Ok(Ok(swept)) = swept.await
            && swept.files > 0
        {
            tracing::info!(swept.files, swept.bytes, "removed what nobody has come back for");
        }
    }
}

/// `limits::KEEP_PARTIAL` as a person writes it.
const KEEP_PARTIAL_DEFAULT: &str = "7d";

fn parse_keep_partial(text: &str) -> Result<Duration, String> {
    let time = units::parse_duration(text).map_err(|error| error.to_string())?;
    if time < limits::KEEP_PARTIAL_MIN {
        return Err(format!("at least {}", units::duration(limits::KEEP_PARTIAL_MIN)));
    }
    Ok(time)
}

/// How long tasks may take to end once everything is done.
const SHUTDOWN: Duration = Duration::from_secs(2);
/// How long sessions may take to tell their peers that they are interrupted.
const INTERRUPT_WAIT: Duration = Duration::from_secs(2);

async fn serve_until_done(
    server: &std::sync::Arc<Server>,
    listener: &Listener,
    mut told: mpsc::UnboundedReceiver<Event>,
    signal: impl Future<Output = ()>,
    is_one_time: bool,
    out: &Output,
) -> anyhow::Result<Exit> {
    let start = clock::now();
    let mut accept = std::pin::pin!(server.run(listener));
    let mut signal = std::pin::pin!(signal);
    let mut draw = interval(Duration::from_millis(100));
    let mut running: Option<Running> = None;
    let mut last: Option<Box<Report>> = None;
    let mut interrupted_at = None;
    let mut is_advised = false;
    loop {
        if let Some(at) = interrupted_at {
            // The report of a session comes when it is no session any more.
            let is_quiet = server.session_count() == 0 && told.is_empty() && running.is_none();
            if is_quiet || clock::now().duration_since(at) > INTERRUPT_WAIT {
                let waited = clock::now().duration_since(start);
                return end_of_signal(is_one_time, last.as_deref(), waited, out);
            }
        }
        tokio::select! {
            error = &mut accept => return Err(Failure::new(super::exit::of_cause(error.cause), error.text).into()),
            () = &mut signal, if interrupted_at.is_none() => {
                server.interrupt();
                interrupted_at = Some(clock::now());
            }
            _ = draw.tick() => {
                if is_one_time {
                    running.iter().for_each(|running| transfer::tell_news(running, out));
                    let shown = running.as_ref().map_or_else(waiting, transfer::progress);
                    out.progress().show(&shown, clock::now().duration_since(start));
                }
            }
            Some(event) = told.recv() => match event {
                Event::Started { running: started, peer } => {
                    out.detail(&format!("{peer} connected"));
                    running = Some(started).filter(|_| is_one_time);
                }
                Event::Refused { from, why } if why.starts_with(&from.to_string()) => out.detail(&why),
                Event::Refused { from, why } => out.detail(&format!("{from}: {why}")),
                Event::Ended(report) => {
                    running = None;
                    is_advised = is_advised || transfer::advise(&report, out);
                    if is_one_time && is_final(&report) {
                        out.progress().finish();
                        return transfer::conclude(&report, false, out);
                    }
                    if !(is_one_time && interrupted_at.is_some()) {
                        tell(&report, is_one_time, out);
                    }
                    last = Some(report).filter(|_| is_one_time);
                }
            }
        }
    }
}

/// Whether a one-time transfer is over: it ended with a receipt, whatever became of single files.
fn is_final(report: &Report) -> bool {
    report.receiver.is_some() && !report.dry_run
}

/// One line about a session of a standing server, or about one that has to be tried again.
fn tell(report: &Report, is_one_time: bool, out: &Output) {
    match &report.error {
        Some(error) if is_one_time => out.say(&format!("{error}; still waiting, with the same ticket")),
        Some(error) => out.say(&format!("{}: {error}", report.peer)),
        None if is_one_time => {
            out.say(&format!(
                "{}: {}; still waiting, with the same ticket",
                report.peer,
                transfer::summary(report)
            ));
        }
        None => out.say(&format!("{}: {}", report.peer, transfer::summary(report))),
    }
    transfer::say_raw(report, out);
}

/// What `--json` prints when a signal came before a client.
#[derive(serde::Serialize)]
struct JsonWaited {
    version: u32,
    elapsed_s: f64,
    bytes_moved: u64,
    error: String,
    cause: Cause,
    exit_code: Exit,
}

/// Ends after a signal; `last` is how far a transfer has come.
fn end_of_signal(
    is_one_time: bool,
    last: Option<&Report>,
    waited: Duration,
    out: &Output,
) -> anyhow::Result<Exit> {
    out.progress().finish();
    let RunError { text, cause, .. } = transfer::interruption();
    if !is_one_time {
        out.say("interrupted; the same command goes on with the same ticket");
        return Ok(Exit::Interrupted);
    }
    if let Some(last) = last {
        let report = Report { error: Some(text), cause: Some(cause), ..last.clone() };
        return transfer::conclude(&report, false, out);
    }
    out.problem(&text);
    if out.is_json() {
        let (elapsed_s, exit_code) = (waited.as_secs_f64(), Exit::Interrupted);
        out.json(&JsonWaited {
            version: JSON_VERSION,
            elapsed_s,
            bytes_moved: 0,
            error: text,
            cause,
            exit_code,
        })?;
    }
    Ok(Exit::Interrupted)
}

fn waiting() -> Progress {
    Progress {
        files_done: 0,
        files_total: 0,
        bytes_done: 0,
        bytes_total: 0,
        listing_complete: false,
        current: None,
        phase: Phase::Waiting,
    }
}

/// Says where we are and what to do on the other machine.
fn announce(
    ticket: &Ticket,
    service: &Service,
    address: SocketAddr,
    listening: &Listening,
    out: &Output,
) -> anyhow::Result<()> {
    let line = ticket.to_line();
    if let Some(path) = &listening.ticket_file {
        write_secret(path, line.as_bytes())?;
    }
    let hint = match service {
        Service::Serve { .. } => "its ticket, for `haul send`, `haul get` and `haul ls`",
        Service::Receive { .. } => "on the other machine: haul send PATH... TICKET, with this ticket",
        Service::Offer { .. } => "on the other machine: haul get TICKET, with this ticket",
    };
    out.say(&format!("listening on {address}, key {}", ticket.key));
    if listening.open {
        out.problem("open: whoever reaches this port is admitted without a secret");
    }
    if listening.plain {
        out.problem("plain: connections without encryption are taken; what they move can be read and changed on the way");
    }
    out.say(hint);
    if out.is_json() {
        // Standard output is for the result, and a result never holds a secret.
        if listening.ticket_file.is_none() {
            out.problem(&line);
        }
        return Ok(());
    }
    out.result(format!("{line}\n").as_bytes())
}

fn write_secret(path: &Path, secret: &[u8]) -> anyhow::Result<()> {
    use std::{fs, os::unix::fs::PermissionsExt as _};
    let written = match fs::symlink_metadata(path) {
        Ok(_) => fs::set_permissions(path, fs::Permissions::from_mode(0o600)),
        Err(_) => {
            use std::os::unix::fs::OpenOptionsExt as _;
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
        }
    };
    let line = [secret, b"\n"].concat();
    written.and_then(|()| write_file(path, &line)).map_err(|error| {
        Failure::new(Exit::of_io(&error), format!("{}: cannot write the ticket: {error}", shown(path))).into()
    })
}

fn listen(
    listening: &Listening,
    congestion: Option<&TcpCongestion>,
    stored_port: Option<u16>,
    is_one_time: bool,
) -> anyhow::Result<Listener> {
    let bind = |address| Listener::bind(address, congestion);
    let any = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let bound = match &listening.listen {
        Some(text) => {
            let address = parse_listen(text)?;
            // A port of one's own choice stays the one that the ticket names.
            let port = if address.port() == 0 { stored_port.unwrap_or(0) } else { address.port() };
            bind(SocketAddr::new(address.ip(), port))
                .or_else(|error| if address.port() == 0 { bind(address) } else { Err(error) })
        }
        None => {
            let port = stored_port.unwrap_or(limits::PORT);
            bind(any(port)).or_else(|error| if is_one_time { bind(any(0)) } else { Err(error) })
        }
    };
    bound.map_err(|error| {
        let text = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "the port is in use; end the other server, or choose another port with --listen ADDR:PORT"
                    .to_owned()
            }
            _ => format!("cannot listen: {error}"),
        };
        Failure::new(Exit::CannotConnect, text).into()
    })
}

/// `ADDR:PORT`, `ADDR`, `:PORT` or `[IPV6]:PORT`.
fn parse_listen(text: &str) -> anyhow::Result<SocketAddr> {
    let parsed = text.parse::<SocketAddr>().ok().or_else(|| {
        let ip = text.trim_matches(['[', ']']).parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(ip, limits::PORT))
    });
    let parsed = parsed.or_else(|| {
        let port = text.strip_prefix(':')?.parse().ok()?;
        Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
    });
    parsed.ok_or_else(|| {
        Failure::new(Exit::Usage, format!("--listen {text}: not ADDR:PORT, such as 0.0.0.0:7420")).into()
    })
}

/// What the ticket says of where we are.
fn addresses(listening: &Listening, address: SocketAddr) -> anyhow::Result<Vec<HostPort>> {
    let usage = |error| Failure::new(Exit::Usage, format!("--advertise: {error}"));
    let mut all = Vec::new();
    for name in &listening.advertise {
        // Without a port of its own, the port that we listen on.
        let has_port = name.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
        });
        let host = if has_port {
            HostPort::parse(name)
        } else {
            HostPort::new(name.trim_matches(['[', ']']), address.port())
        };
        all.push(host.map_err(usage)?);
    }
    let ips = if address.ip().is_unspecified() { local_addresses() } else { vec![address.ip()] };
    let ips = ips.into_iter().chain(address.ip().is_unspecified().then_some(IpAddr::from([127, 0, 0, 1])));
    for ip in ips.filter(|ip| address.is_ipv6() || ip.is_ipv4()) {
        let host = HostPort::new(&ip.to_string(), address.port()).expect("an address is a host");
        if !all.contains(&host) {
            all.push(host);
        }
    }
    // The machine itself is the last resort, for those without a network.
    if all.len() > 1 && address.ip().is_unspecified() {
        all.retain(|host| host.host() != "127.0.0.1");
    }
    all.truncate(crate::security::ADDRESSES_MAX);
    Ok(all)
}

fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    let failed = |error: std::io::Error| Failure::new(Exit::LocalFile, format!("{}: {error}", shown(path)));
    let canonical = path.canonicalize().map_err(failed)?;
    if !canonical.is_dir() {
        return Err(Failure::new(Exit::LocalFile, format!("{}: is no directory", shown(path))).into());
    }
    Ok(canonical)
}

fn ticket_name<'a>(command: &str, paths: impl IntoIterator<Item = &'a Path>) -> String {
    let mut hash = Sha256::new_with_prefix(command);
    for path in paths {
        hash.update([0]);
        hash.update(path.as_os_str().as_bytes());
    }
    data_encoding::HEXLOWER.encode(&hash.finalize()[..16])
}

/// A server of many clients needs many descriptors; what the system allows is taken.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The command line, with the options of the file before it.
fn with_config(path: &Path) -> anyhow::Result<ServeArgs> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(Exit::LocalFile, format!("{}: cannot read it: {error}", shown(path)))
    })?;
    let options =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
            match line.split_once('=') {
                Some((name, value)) => format!("--{}={}", name.trim(), value.trim()),
                None => format!("--{line}"),
            }
        });
    let mut given = std::env::args_os();
    let mut line: Vec<std::ffi::OsString> = given.by_ref().take(1).collect();
    let rest: Vec<_> = given.collect();
    let at = rest.iter().position(|word| word == "serve").map_or(0, |at| at + 1);
    line.extend(rest[..at].iter().cloned());
    line.extend(options.map(Into::into));
    line.extend(rest[at..].iter().cloned());
    // Not yet built, so that the setting reaches the subcommand: what stands later is stronger.
    let command = <super::Cli as clap::CommandFactory>::command().args_override_self(true);
    let parsed = command.try_get_matches_from(line).and_then(|matches| {
        use clap::FromArgMatches as _;
        super::Cli::from_arg_matches(&matches)
    });
    match parsed {
        Ok(super::Cli { command: super::Command::Serve(args), .. }) => Ok(args),
        Ok(_) => Err(Failure::new(Exit::Usage, format!("{}: is for haul serve", shown(path))).into()),
        Err(error) => {
            let why = error.to_string();
            let first = why.lines().next().unwrap_or_default();
            Err(Failure::new(Exit::Usage, format!("{}: {first}", shown(path))).into())
        }
    }
}
