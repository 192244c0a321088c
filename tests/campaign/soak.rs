//! One server that serves thousands of clients, some of them killed: what it holds on to does not grow.
//!
//! Clients send and get in turn, over TCP and UDP, a few at a time, each with a key of its own. Every
//! [`KILLED_EACH`]-th moves a larger file and is killed somewhere in between; a little later, the same command ends well.
//! Before and after each quarter, when all sessions are over, the server is measured.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use haul::limits;
use haul::run::clock;
use rustix::event::{Timespec, poll};

use crate::common::Place;
use crate::common::process::{Process, Server};
use crate::common::tree::{names, noise};
use crate::play::plan::Dice;
use crate::{ledger, setting};

#[test]
#[ignore = "a campaign: minutes to hours"]
#[expect(clippy::print_stderr, reason = "what a campaign found out is for the person who runs it")]
fn soak() {
    let transfers: u64 = setting("HAUL_TRANSFERS", 10_000);
    let at_once: usize = setting("HAUL_JOBS", 3);
    let begun = clock::now();
    let there = Place::in_memory();
    for (name, content) in [("common", &small()), ("big", &big())] {
        there.write(format!("root/{name}"), content);
    }
    fs::create_dir(there.path("root/in")).unwrap();
    let serve = there.listen(["serve", "root", "--overwrite", "always"]);
    let mut measured = vec![Measured::once_quiet(&serve, &there)];
    let (mut killed, mut count): (VecDeque<Client>, u64) = (VecDeque::new(), 0);

    for quarter in 0..4 {
        let numbers: Vec<u64> = (quarter * transfers / 4..(quarter + 1) * transfers / 4).collect();
        for numbers in numbers.chunks(at_once) {
            let mut clients: Vec<Client> =
                numbers.iter().map(|&number| Client::start(number, &serve)).collect();
            if let Some(at) = clients.iter().position(|client| client.is_big) {
                killed.push_back(clients.swap_remove(at).killed());
                count += 1;
            }
            if killed.len() > KILLED_WAIT {
                clients.extend(killed.pop_front().map(|client| client.again(&serve)));
            }
            clients.into_iter().for_each(Client::ends_well);
        }
        // What was just killed is over for the server first.
        Measured::once_quiet(&serve, &there);
        for client in killed.drain(..) {
            client.again(&serve).ends_well();
        }
        measured.push(Measured::once_quiet(&serve, &there));
    }

    let shown: Vec<String> = measured.iter().map(Measured::to_string).collect();
    let text = format!("{transfers}, {count} killed; before and after each quarter: {}", shown.join("; "));
    eprintln!("{text}");
    let growths = growths(&measured);
    ledger::add("soak", &text, growths.len(), clock::now().duration_since(begun));
    assert!(growths.is_empty(), "{growths:?}");
}

/// What grew from the end of the first quarter on.
fn growths(measured: &[Measured]) -> Vec<&Measured> {
    let first = &measured[1];
    let has_grown = |later: &&Measured| {
        later.rss_bytes > first.rss_bytes + RSS_SLACK_BYTES
            || later.descriptors > first.descriptors
            || later.threads > first.threads + THREADS_SLACK
            || later.files != first.files
    };
    measured[2..].iter().filter(has_grown).collect()
}

/// A client with a key of its own.
struct Client {
    place: Place,
    process: Option<Process>,
    number: u64,
    is_big: bool,
}

impl Client {
    fn start(number: u64, serve: &Server) -> Self {
        let place = Place::in_memory();
        let is_big = number % KILLED_EACH == KILLED_EACH - 1;
        let content = if is_big { big() } else { small() };
        place.write(Self::name(number, is_big), content);
        Self { place, process: None, number, is_big }.again(serve)
    }

    /// Starts its command.
    fn again(mut self, serve: &Server) -> Self {
        let name = Self::name(self.number, self.is_big);
        let transport = ["tcp", "udp"][usize::from(self.number / 2 % 2 == 1)];
        let source = serve.at(if self.is_big { "big" } else { "common" });
        let arguments = match self.number.is_multiple_of(2) {
            true => ["send", &name, &serve.at("in"), "--overwrite", "always"],
            false => ["get", &source, "--no-sync", "--overwrite", "always"],
        };
        self.process = Some(self.place.start(arguments.iter().chain(&["--transport", transport])));
        self
    }

    /// Kills it after a while.
    fn killed(mut self) -> Self {
        pause(Duration::from_millis(Dice(self.number).below(KILLED_WITHIN_MS)));
        self.process.take().expect("it was started").kill();
        self
    }

    fn ends_well(mut self) {
        self.process.take().expect("it was started").end().with(0);
    }

    /// Few names, so that the files of the server are as many at the end as after a quarter.
    fn name(number: u64, is_big: bool) -> String {
        match is_big {
            true => format!("big{}", number / KILLED_EACH % BIG_NAMES),
            false => format!("small{}", number % NAMES),
        }
    }
}

/// What a server holds on to.
#[derive(Debug)]
struct Measured {
    rss_bytes: u64,
    descriptors: usize,
    threads: usize,
    /// In the directory that it serves, and in its home.
    files: usize,
}

impl Measured {
    /// As it is when every session is over: when its descriptors have been as many as they are for longer than any session
    /// waits for a client that is gone.
    fn once_quiet(serve: &Server, there: &Place) -> Self {
        let id = serve.process.id();
        let (mut descriptors, mut since) = (count(id, "fd"), clock::now());
        while clock::now().duration_since(since) < limits::REJOIN_WITHIN + Duration::from_secs(2) {
            pause(Duration::from_millis(100));
            let next = count(id, "fd");
            if next != descriptors {
                (descriptors, since) = (next, clock::now());
            }
        }
        Self::now(id, there)
    }

    fn now(id: u32, there: &Place) -> Self {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the system says that");
        let rss_kib: u64 = rss.trim().trim_end_matches(" kB").parse().expect("a number");
        let files = |path: &Path| names(path).len();
        Self {
            rss_bytes: rss_kib << 10,
            descriptors: count(id, "fd"),
            threads: count(id, "task"),
            files: files(&there.path("root")) + files(&there.path("../home")),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rss_bytes, descriptors, threads, files } = self;
        write!(f, "{} MiB, {descriptors} descriptors, {threads} threads, {files} files", rss_bytes >> 20)
    }
}

/// What there is of a process.
fn count(id: u32, what: &str) -> usize {
    fs::read_dir(format!("/proc/{id}/{what}")).unwrap().count()
}

fn small() -> Vec<u8> {
    noise(1, 20_000)
}

fn big() -> Vec<u8> {
    noise(2, 12_000_000)
}

/// Lets time pass, where time is what it is about.
fn pause(time: Duration) {
    poll(&mut [], Some(&Timespec::try_from(time).expect("not too long"))).unwrap();
}

/// Of so many clients, one is killed. Odd, so that both those who send and those who get are.
const KILLED_EACH: u64 = 21;
/// Within so long after its start.
const KILLED_WITHIN_MS: u64 = 120;
/// So many others are killed before one comes back: its session is over for the server by then.
const KILLED_WAIT: usize = 12;
/// Names of small files that are sent to the server.
const NAMES: u64 = 100;
/// Names of larger ones: no two clients that were killed and have not come back have the same.
const BIG_NAMES: u64 = 2 * (KILLED_WAIT as u64 + 1);
/// What the allocator may keep more than after the first quarter, bytes.
const RSS_SLACK_BYTES: u64 = 16 << 20;
/// Threads for work that blocks come and go.
const THREADS_SLACK: usize = 4;
