//! Where a command's other end is: addresses, tickets from safe places, known keys.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _},
    path::Path,
    time::Duration,
};

use super::{
    exit::{Exit, Failure},
    output::Output,
};
use crate::{
    limits,
    net::Segments,
    run::{
        connect::Peer,
        error::{Cause, RunError},
        home::Home,
    },
    security::{Address, HostPort, KeyHash, ProofKey, Ticket, TicketError},
    units,
};

/// The variable that a ticket may come from, so that it stands on no command line.
pub const TICKET_VARIABLE: &str = "HAUL_TICKET";
/// Longest ticket in a file, bytes.
const TICKET_FILE_MAX_BYTES: u64 = 16 << 10;

/// An address as a person gave it, with the path on the server taken out.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the server is.
    pub address: Address,
    /// Path on the server; empty is its root.
    pub path: Vec<u8>,
}

impl Place {
    fn new(address: Address) -> Self {
        let path = address.path().unwrap_or_default().to_vec();
        Self { address, path }
    }

    /// Whether both mean the same server and secret.
    pub fn is_same_server(&self, other: &Self) -> bool {
        match (&self.address, &other.address) {
            (Address::Ticket(a), Address::Ticket(b)) => {
                a.key == b.key && a.token == b.token && a.addresses == b.addresses
            }
            (Address::Plain { host: a, .. }, Address::Plain { host: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Whether the ticket is for one client only (`recv` and `offer`).
    pub fn is_one_time(&self) -> bool {
        matches!(&self.address, Address::Ticket(Ticket { one_time: true, .. }))
    }
}

/// The address that `text` is or names (`@FILE`); `None` when it looks like neither.
pub fn parse(text: &str) -> anyhow::Result<Option<Place>> {
    if let Some(file) = text.strip_prefix('@') {
        return address(&from_file(Path::new(file))?).map(Some);
    }
    if text.starts_with("haul://") {
        return address(text).map(Some);
    }
    match Address::parse(text) {
        Ok(address) => Ok(Some(Place::new(address))),
        Err(error @ TicketError::ShortPort) => Err(Failure::new(Exit::Usage, error.to_string()).into()),
        Err(_) => Ok(None),
    }
}

/// The ticket that stands in the environment, or that a person types when asked.
pub fn from_elsewhere(out: &Output) -> anyhow::Result<Option<Place>> {
    if let Some(ticket) = std::env::var(TICKET_VARIABLE).ok().filter(|ticket| !ticket.is_empty()) {
        return address(&ticket).map(Some);
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() || out.is_json() {
        return Ok(None);
    }
    let mut line = String::new();
    write!(io::stderr(), "ticket: ")?;
    io::stdin().lock().take(TICKET_FILE_MAX_BYTES).read_line(&mut line)?;
    if line.trim().is_empty() { Ok(None) } else { address(&line).map(Some) }
}

fn address(text: &str) -> anyhow::Result<Place> {
    match Address::parse(text.trim()) {
        Ok(address) => Ok(Place::new(address)),
        Err(error) => Err(Failure::new(Exit::Usage, error.to_string()).into()),
    }
}

fn from_file(path: &Path) -> anyhow::Result<String> {
    let read = fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(TICKET_FILE_MAX_BYTES).read_to_string(&mut text)?;
        Ok(text)
    });
    read.map_err(|error| {
        let path = super::output::shown(path);
        Failure::new(Exit::LocalFile, format!("{path}: cannot read the ticket: {error}")).into()
    })
}

/// Opens our state directory.
pub fn home() -> anyhow::Result<Home> {
    let opened = Home::locate(|name| std::env::var_os(name)).and_then(Home::open);
    opened.map_err(|error| Failure::new(Exit::LocalFile, error.to_string()).into())
}

/// What is needed to connect: addresses, the key to expect, the secret.
pub fn peer(place: &Place, home: &Home, is_plain: bool, idle_timeout: Duration) -> anyhow::Result<Peer> {
    let failed = |error: crate::run::home::HomeError| Failure::new(Exit::LocalFile, error.to_string());
    let identity = home.identity().map_err(failed)?;
    let (addresses, key, token) = match &place.address {
        Address::Ticket(ticket) => {
            (ticket.addresses.clone(), Some(ticket.key), Some(ProofKey::from_token(&ticket.token)))
        }
        Address::Plain { host, .. } => {
            (vec![host.clone()], home.known_peer(host).map_err(failed)?.map(|known| known.key), None)
        }
    };
    let segments = Segments::Usual;
    Ok(Peer { addresses, key, token, identity, is_plain, idle_timeout, congestion: None, segments })
}

/// Decides about a server whose key is not known: a person may compare and accept it; nobody else is asked.
pub fn decide(home: &Home, host: &HostPort, key: KeyHash) -> Result<(), RunError> {
    let refused = |text: String| RunError::new(Cause::NotAllowed, text);
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(refused(format!(
            "{host}: its key is not known ({key}); use its ticket, or connect once from a terminal and compare"
        )));
    }
    let asked = write!(
        io::stderr(),
        "{host} shows the key\n  {key}\nwhich is not known. Is that the key that `haul serve` printed there? [y/N] "
    );
    let mut answer = String::new();
    let read = asked.and_then(|()| io::stdin().lock().take(100).read_line(&mut answer));
    if read.is_err() || !matches!(answer.trim(), "y" | "Y" | "yes") {
        return Err(refused(format!("{host}: its key was not accepted")));
    }
    home.remember_peer(host, key).map_err(|error| RunError::new(Cause::File, error.to_string()))
}

/// What another key than the known one means: told with file and line.
pub fn explain_wrong_key(place: &Place, home: &Home, found: KeyHash) -> Option<String> {
    let Address::Plain { host, .. } = &place.address else { return None };
    let known = home.known_peer(host).ok().flatten()?;
    Some(home.key_changed(host, known, found).to_string())
}

/// Keeps the key of a standing server whose ticket has worked, for the address under which it was reached: what the
/// ticket says of others is nothing but its word.
pub fn remember(place: &Place, home: &Home, reached: Option<(HostPort, KeyHash)>, out: &Output) {
    let (Address::Ticket(ticket), Some((host, key))) = (&place.address, reached) else { return };
    if !ticket.one_time
        && matches!(home.known_peer(&host), Ok(None))
        && let Err(error) = home.remember_peer(&host, key)
    {
        out.detail(&error.to_string());
    }
}

/// Reads `--timeout`.
pub fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = units::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout < limits::IDLE_TIMEOUT_MIN {
        let least = limits::IDLE_TIMEOUT_MIN.as_secs();
        return Err(format!("at least {least}s: a peer that has nothing to say is heard from once a second"));
    }
    Ok(timeout)
}

/// Default of `--timeout`, as text for the help.
pub const TIMEOUT_DEFAULT: &str = "30s";
const _: () = assert!(limits::IDLE_TIMEOUT.as_secs() == 30, "TIMEOUT_DEFAULT says so");
