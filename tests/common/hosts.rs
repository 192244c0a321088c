//! A transfer between two hosts of an emulated link, to which something is done meanwhile.

#![allow(dead_code, reason = "several test programs share this, and none uses all of it")]

use std::fmt;
use std::fs;

use serde_json::Value;

use super::tree::noise;
use super::{Place, haul};

/// A transfer, and what is in its way.
#[derive(Clone, Copy, Debug)]
pub struct Crossing<'a> {
    /// The link from the client.
    pub there: &'a str,
    /// The link to the client.
    pub back: &'a str,
    /// `--transport`.
    pub transport: &'a str,
    /// Who has the content: `send` or `get`.
    pub way: &'a str,
    /// The client sends what comes in on its standard input, which no second session can ask for again.
    pub is_piped: bool,
    /// Further options of the client.
    pub options: &'a str,
    /// Further options of the server.
    pub of_server: &'a str,
    /// Content.
    pub bytes: usize,
    /// What a shell does on the client's host, from the moment on at which `$TICKET` is there.
    pub meanwhile: &'a str,
}

/// How it went.
#[derive(Debug)]
pub struct Crossed {
    /// The client's exit code.
    pub code: u8,
    /// What it said.
    pub stderr: String,
    /// Its result; null if there is none.
    pub report: Value,
    /// What the link did.
    pub link: Value,
    /// The whole file is at its place.
    pub is_same: bool,
    /// What haul has left of its own beside it.
    pub left: Vec<String>,
    /// The longest time in which no content flowed, seconds, if it flowed again.
    pub pause_s: f64,
}

impl Default for Crossing<'_> {
    fn default() -> Self {
        Self {
            there: CLEAN,
            back: CLEAN,
            transport: "auto",
            way: "send",
            is_piped: false,
            options: "",
            of_server: "",
            bytes: 8_000_000,
            meanwhile: ":",
        }
    }
}

impl Crossing<'_> {
    /// All transports, both ways.
    pub fn each_way<'a>(like: Crossing<'a>) -> Vec<Crossing<'a>> {
        let ways = ["tcp", "udp", "auto"]
            .into_iter()
            .flat_map(|transport| ["send", "get"].map(|way| Crossing { transport, way, ..like }));
        ways.collect()
    }

    /// Runs it to its end.
    pub fn run(&self) -> Crossed {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        let content = noise(self.bytes as u64, self.bytes);
        let (source, target, serve, client) = match (self.way, self.is_piped) {
            ("send", false) => (&here, &there, "recv .", "haul send file"),
            ("send", true) => (&here, &there, "recv .", "cat file | haul send - --name file"),
            ("get", false) => (&there, &here, "offer file", "haul get"),
            (other, is_piped) => panic!("{other} is no way, piped: {is_piped}"),
        };
        source.write("file", &content);
        let ticket = here.path("../ticket");
        let cleaned = |place: &Place| {
            let home = place.path("../home");
            format!(
                "cd '{}'; TICKET='{}'; haul() {{ env -i PATH=\"$PATH\" HAUL_HOME='{}' '{}' \"$@\"; }}",
                place.path("").display(),
                ticket.display(),
                home.display(),
                haul().display()
            )
        };
        let peer = format!(
            "{}; haul {serve} --listen 10.77.0.2 --ticket-file $TICKET {} 2> ../said",
            cleaned(&there),
            self.of_server
        );
        // Seen from where the content comes to: what is sent into the dark does not count.
        let place = if self.way == "send" { "nsenter --net --target $HAUL_LINK_PEER_PID" } else { "" };
        let command = format!(
            "{}; {place} sh -c 'while :; do cat /proc/uptime /proc/net/dev; sleep 0.1; done' > ../seen & \
             while [ ! -s $TICKET ]; do sleep 0.05; done; ({}) > ../done 2>&1 & \
             {client} @$TICKET --json --transport {} {} > ../result 2> ../said",
            cleaned(&here),
            self.meanwhile,
            self.transport,
            self.options
        );
        let arguments =
            ["--json", "link", self.there, "--back", self.back, "--peer", &peer, "--", "sh", "-c", &command];
        let link = here.haul(arguments);
        let text = |name: &str| fs::read_to_string(here.path(name)).unwrap_or_default();
        let ours = [&here, &there].into_iter().flat_map(|place| fs::read_dir(place.path("")).unwrap());
        let names = ours.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        Crossed {
            code: u8::try_from(link.code).unwrap_or_else(|_| panic!("{link}")),
            stderr: text("../said"),
            report: serde_json::from_str(&text("../result")).unwrap_or_default(),
            link: serde_json::from_slice(&link.stdout).unwrap_or_default(),
            is_same: fs::read(target.path("file")).is_ok_and(|got| got == content),
            left: names.filter(|name| name.starts_with(".haul-")).collect(),
            pause_s: longest_pause(&text("../seen")),
        }
    }
}

impl Crossed {
    /// Itself, if the file is whole and nothing else is left.
    #[track_caller]
    pub fn goes_well(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        assert!(self.is_same, "{self}");
        assert_eq!(self.left, [""; 0], "{self}");
        self
    }

    /// Packets of both directions that the link dropped for this.
    pub fn dropped(&self, why: &str) -> u64 {
        ["there", "back"].iter().filter_map(|way| self.link[way][why].as_u64()).sum()
    }
}

impl fmt::Display for Crossed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, stderr, report, is_same, left, pause_s, .. } = self;
        write!(f, "exit {code}, same: {is_same}, left: {left:?}, pause: {pause_s:.1} s\n{stderr}\n{report}")
    }
}

/// The longest time in which hardly anything came over the interface, seconds, up to where something came again.
fn longest_pause(seen: &str) -> f64 {
    let (mut at, mut longest) = (0.0, 0.0);
    // Since when it is counted, and how much had come; nothing before anything came.
    let mut last: Option<(f64, u64)> = None;
    let mut has_begun = false;
    for line in seen.lines() {
        if let Some(counters) = line.trim_start().strip_prefix("haul0:") {
            // It is cut off where the program was ended.
            let Some(Ok(bytes)) = counters.split_whitespace().next().map(str::parse::<u64>) else {
                continue;
            };
            let (since, before) = last.unwrap_or((at, bytes));
            let flows = bytes > before + CONTENT_BYTES;
            longest = if flows && has_begun { f64::max(longest, at - since) } else { longest };
            has_begun |= flows;
            last = Some((if flows { at } else { since }, bytes));
        } else if let Some(uptime) = line.split_whitespace().next().and_then(|text| text.parse().ok()) {
            at = uptime;
        }
    }
    longest
}

/// A link that does nothing but carry, at a rate that leaves seconds to act.
pub const CLEAN: &str = "rtt=20ms,rate=8mbit";
/// Neither host takes UDP from the link any more, nor says so.
pub const UDP_BLOCKED: &str = "\
    block='ip rule add pref 100 lookup local; ip rule del pref 0; \
           ip rule add pref 50 iif haul0 ipproto udp blackhole'; \
    sh -c \"$block\"; nsenter --net --target $HAUL_LINK_PEER_PID sh -c \"$block\"";
/// Waits for ten seconds.
pub const TEN_SECONDS_ON: &str = "sleep 10";
/// Probes and heartbeats between two looks are less than so much.
const CONTENT_BYTES: u64 = 8_000;
