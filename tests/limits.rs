//! Memory is bounded whatever is moved, and the first byte comes after few round trips.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::process::Process;
use common::proxy::{Manner, Proxy};
use common::tree::{self, noise};
use common::{Place, haul};
use haul::limits;
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;

#[test]
fn memory_is_bounded_whatever_the_size_of_a_file() {
    let _alone = alone();
    for streams in ["1", "4"] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        let file = File::create(here.path("huge")).unwrap();
        file.set_len(4 * GIB).unwrap();
        for island in 0..8_u64 {
            file.write_all_at(&noise(island + 1, 3 << 20), island * GIB / 2 + island * 1_000_003).unwrap();
        }
        let recv = there.listen(["recv", ".", "--json"]);

        let send = here.start(["send", "huge", &recv.ticket, "--streams", streams, "--json"]).end();

        let sent = send.with(0).json();
        assert_eq!(sent["bytes"], 4 * GIB);
        assert_bounded(&sent);
        recv.end().with(0);
        assert!(tree::blocks(&there.path("huge")) <= tree::blocks(&here.path("huge")) + 4096);
    }
}

#[test]
fn memory_is_bounded_when_all_of_it_is_data_that_cannot_be_read_again() {
    let _alone = alone();
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let zeros = File::open("/dev/zero").unwrap();
    let recv = there.listen(["recv", ".", "--json", "--no-sync"]);

    let mut head =
        here.command("head").args(["-c", "1G"]).stdin(zeros).stdout(Stdio::piped()).spawn().unwrap();
    let mut command = here.command(haul());
    command.args(["send", "-", "--name", "zeros", &recv.ticket, "--streams", "4", "--json"]);
    let send = Process::start(command.stdin(head.stdout.take().unwrap())).end();

    let sent = send.with(0).json();
    head.wait().unwrap();
    assert_eq!(sent["bytes"], GIB);
    assert_bounded(&sent);
    recv.end().with(0);
}

#[test]
fn memory_is_bounded_whatever_the_length_of_a_tree() {
    let _alone = alone();
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let entries = make_wide_tree(&here.path("tree"));
    let serve = there.listen(["serve", "."]);

    let send = here.start(["send", "tree", &serve.ticket, "--json"]).end().with(0).json();
    assert_eq!(send["files"].as_u64().unwrap() + send["directories"].as_u64().unwrap(), entries);
    assert_bounded(&send);
    fs::remove_dir_all(here.path("tree")).unwrap();
    let get = here.start(["get", &serve.at("tree"), "--json"]).end().with(0).json();

    assert_eq!(get["files"], send["files"]);
    assert_bounded(&get);
}

#[test]
fn a_server_of_many_clients_at_once_stays_within_its_bound() {
    const CLIENTS: u64 = 30;
    let _alone = alone();
    let there = Place::in_memory();
    let serve = there.listen(["serve", ".", "--no-sync"]);
    let clients: Vec<Place> = (0..CLIENTS).map(|_| Place::in_memory()).collect();
    clients.iter().for_each(|client| client.write("big", noise(1, 10 << 20)));

    let running: Vec<_> = clients
        .iter()
        .enumerate()
        .map(|(number, client)| client.start(["send", "big", &serve.at(&number.to_string()), "-q"]))
        .collect();
    for process in running {
        process.end().with(0);
    }

    let status = fs::read_to_string(format!("/proc/{}/status", serve.process.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    say(&format!("server {} MiB", peak >> 10));
    let granted = limits::CREDIT_TOTAL_BYTES + CLIENTS * limits::CREDIT_MIN_BYTES;
    assert!(peak * 1024 <= limits::RSS_MAX_BYTES + granted, "{peak} KiB");
}

/// With the one round trip of TCP, the first byte of content arrives at most four round trips after the start.
#[test]
fn the_first_byte_comes_after_few_round_trips() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("big", noise(1, 2_000_000));
    there.write("large", noise(2, 2_000_000));
    let slow = Manner { delay: Duration::from_millis(50), ..Manner::default() };
    let serve = there.listen(["serve", "."]);
    for is_send in [true, false] {
        let proxy = Proxy::start(serve.address(), slow);
        let ticket = serve.over(proxy.address);

        let moved = if is_send {
            here.start(["send", "big", &ticket, "--streams", "1"])
        } else {
            here.start(["get", &ticket.replace('#', "/large#"), "--streams", "1"])
        };

        moved.end().with(0);
        let trips = proxy.trips_before_data();
        say(&format!("is_send {is_send}: {trips} one-way trips after those of TCP"));
        assert!((1..=6).contains(&trips), "is_send {is_send}: {trips} one-way trips after those of TCP");
    }
}

#[track_caller]
fn assert_bounded(result: &Value) {
    for side in ["sender", "receiver"] {
        let peak = result[side]["peak_rss_bytes"].as_u64().unwrap();
        say(&format!("{side} {} MiB of {} files, {} bytes", peak >> 20, result["files"], result["bytes"]));
        assert!(
            peak > 1 << 20 && peak <= limits::RSS_MAX_BYTES,
            "{side} {peak} of {}",
            limits::RSS_MAX_BYTES
        );
    }
    assert_eq!(result["failed"], json!(0));
}

/// Two hundred thousand entries: directories of empty files, one of them with as many as all others together.
fn make_wide_tree(top: &Path) -> u64 {
    let mut entries = 1;
    fs::create_dir_all(top).unwrap();
    for number in 0..201 {
        let dir = top.join(format!("directory-{number:04}"));
        fs::create_dir(&dir).unwrap();
        let files = if number == 100 { 100_000 } else { 499 };
        let open = tree::open_top(&dir);
        for file in 0..files {
            tree::make_file(&open, format!("a file with a name of usual length {file:06}").as_bytes(), b"");
        }
        entries += 1 + files;
    }
    assert!(entries >= 200_000);
    entries
}

/// Peaks add up to more than what one test alone makes.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::print_stderr, reason = "the figures are for the person who runs the test")]
fn say(text: &str) {
    eprintln!("{text}");
}
