//! `haul ls SOURCE`: lists what a server has.
//!
//! With `--json` it prints one object:
//!
//! ```text
//! {"version":1, "command":"ls", "entries":[{"name":…, "name_hex":…, "kind":"file|directory|link",
//!  "size":…, "mode":…, "mtime_s":…, "target":…}], "exit_code":0}
//! ```

use std::ffi::OsString;

use serde::Serialize;

use super::{
    again::Patience,
    exit::{Exit, Failure},
    output::{JSON_VERSION, JsonName, Output},
    peer,
    transfer::{self, StreamsOption},
};
use crate::{
    file::path::escape,
    run::{
        client::{Client, Options, Streams, Wish},
        session::Role,
    },
    units,
    wire::message::{DigestKind, Entry, Intent, Kind, Overwrite},
};

/// List what a server has
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A ticket (with the path put behind the port), @FILE or HOST:PATH; or a path with HAUL_TICKET set
    pub source: Option<OsString>,
    /// Also what is below directories
    #[arg(short, long)]
    pub recursive: bool,
    /// Connect without encryption; the server must allow it
    #[arg(long)]
    pub plain: bool,
    /// Give up on a peer that is silent for so long
    #[arg(long, value_name = "TIME", default_value = peer::TIMEOUT_DEFAULT, value_parser = peer::parse_timeout, env = "HAUL_TIMEOUT", hide_env = true)]
    pub timeout: std::time::Duration,
}

#[derive(Serialize)]
struct JsonEntry {
    #[serde(flatten)]
    name: JsonName,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    mode: u32,
    mtime_s: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

#[derive(Serialize)]
struct JsonListing {
    version: u32,
    command: &'static str,
    entries: Vec<JsonEntry>,
    exit_code: Exit,
}

/// Lists.
pub fn run(args: &Args, out: &Output) -> anyhow::Result<Exit> {
    let parsed = match args.source.as_ref().map(|source| source.to_str()) {
        Some(Some(text)) => peer::parse(text)?,
        _ => None,
    };
    let place = match (parsed, &args.source) {
        (Some(place), _) => place,
        (None, source) => {
            let mut place = peer::from_elsewhere(out)?.ok_or_else(|| {
                Failure::new(Exit::Usage, "what? Name a ticket, @FILE or HOST:PATH, or set HAUL_TICKET")
            })?;
            if let Some(path) = source {
                place.path = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()).to_vec();
            }
            place
        }
    };
    let home = peer::home()?;
    let peer = peer::peer(&place, &home, args.plain, args.timeout)?;
    let sources = if place.path.is_empty() { Vec::new() } else { vec![place.path.clone()] };
    let wish = Wish::List { intent: Intent::List { sources, recursive: args.recursive } };
    let options = Options {
        digest: DigestKind::Sha256,
        overwrite: Overwrite::Never,
        checksum: false,
        dry_run: false,
        streams: StreamsOption(Streams::Fixed(1)).0,
        rate_bps: None,
        flow: None,
        trace: None,
    };
    let client = Client::new("ls", peer, options, wish);
    let running = client.running();
    let (shown, ended) = std::thread::scope(|scope| {
        let printer = scope.spawn(|| print(&running, out));
        let mut client = Some(client);
        let once = |_| Ok(client.take().expect("a listing is asked for once"));
        let ended = transfer::client_session(once, Patience::None, &place, &home, out);
        (printer.join().expect("the printer does not panic"), ended)
    });
    let (entries, ended) = (shown?, ended?);
    if ended.report.error.is_some() {
        return transfer::conclude(&ended.report, false, out);
    }
    if out.is_json() {
        out.json(&JsonListing { version: JSON_VERSION, command: "ls", entries, exit_code: Exit::Done })?;
    }
    Ok(Exit::Done)
}

/// Prints entries as they come; for JSON, collects them.
fn print(running: &crate::run::client::Running, out: &Output) -> anyhow::Result<Vec<JsonEntry>> {
    let mut all = Vec::new();
    loop {
        let more = running.session.wait_for(|role| match role {
            Role::Lister(listing) if !listing.entries.is_empty() => {
                Some(std::mem::take(&mut listing.entries))
            }
            _ => None,
        });
        // What came with the end is still there.
        let entries = more.clone().unwrap_or_else(|| {
            running.session.update(|role| match role {
                Role::Lister(listing) => std::mem::take(&mut listing.entries),
                Role::Sender(_) | Role::Receiver(_) => Vec::new(),
            })
        });
        running.session.update(|_| ());
        if out.is_json() {
            all.extend(entries.iter().map(json));
        } else {
            let lines: String = entries.iter().map(line).collect();
            out.result(lines.as_bytes())?;
        }
        if more.is_none() {
            return Ok(all);
        }
    }
}

fn json(entry: &Entry) -> JsonEntry {
    let (kind, size, target) = match &entry.kind {
        Kind::File { size, .. } => ("file", Some(*size), None),
        Kind::Stream | Kind::Hardlink { .. } => ("file", None, None),
        Kind::Dir => ("directory", None, None),
        Kind::Symlink { target } => ("link", None, Some(escape(target))),
    };
    JsonEntry {
        name: JsonName::new(&entry.name),
        kind,
        size,
        mode: entry.mode,
        mtime_s: entry.mtime.secs,
        target,
    }
}

/// `rwxr-xr-x  12.3 MB  2026-11-23 04:12  name`
fn line(entry: &Entry) -> String {
    let (letter, size, mark) = match &entry.kind {
        Kind::File { size, .. } => ('-', units::bytes(*size), String::new()),
        Kind::Stream | Kind::Hardlink { .. } => ('-', String::new(), String::new()),
        Kind::Dir => ('d', String::new(), "/".to_owned()),
        Kind::Symlink { target } => ('l', String::new(), format!(" -> {}", escape(target))),
    };
    let mode: String = "rwxrwxrwx"
        .chars()
        .enumerate()
        .map(|(at, c)| if entry.mode & (0o400 >> at) == 0 { '-' } else { c })
        .collect();
    format!("{letter}{mode}  {size:>9}  {}  {}{mark}\n", date(entry.mtime.secs), escape(&entry.name))
}

/// Date and time in UTC (days to civil date as in Howard Hinnant's `civil_from_days`).
fn date(secs: i64) -> String {
    let (days, time) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", time / 3600, time % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::Mtime;

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(1_795_406_400), "2026-11-23 04:00");
        assert_eq!(date(-1), "1969-12-31 23:59");
    }

    #[test]
    fn a_line_shows_what_ls_shows_and_escapes_the_name() {
        let entry = Entry {
            source: 0,
            name: b"a\x1b[2J".to_vec(),
            mode: 0o750,
            mtime: Mtime { secs: 0, nanos: 0 },
            kind: Kind::File { size: 12, sparse: false, linked: false },
        };

        let line = line(&entry);

        assert!(line.starts_with("-rwxr-x---"), "{line}");
        assert!(line.ends_with("1970-01-01 00:00  a\\u{1b}[2J\n"), "{line}");
    }
}
