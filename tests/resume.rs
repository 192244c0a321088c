//! Transfers that are cut and go on: by themselves, by the same command again, on either side, over either transport.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use common::process::{Process, Server};
use common::proxy::{Cut, Manner, Proxy};
use common::tree::{self, noise};
use common::{Place, haul, until};
use rustix::process::Signal;
use serde_json::Value;

/// More than a checkpoint brings to the disk at once would be: what is claimed is claimed by time.
const BYTES: usize = 40_000_000;
/// So slow that a transfer lasts longer than the time between checkpoints.
const RATE: &str = "120mbit";

#[test]
fn a_connection_that_is_cut_is_made_again_and_what_came_is_not_sent_again() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("file", noise(1, BYTES));
    let recv = there.listen(["recv", ".", "--json"]);
    let cut = Some(Cut::First(25_000_000));
    let proxy = Proxy::start(recv.address(), Manner { cut, ..Manner::default() });

    let ticket = recv.over(proxy.address);
    let send =
        ["send", "file", &ticket, "--json", "--transport", "tcp", "--streams", "1", "--retry-for", "30s"];
    let sent = here.start(send).end().with(0).json();
    let received = recv.end().with(0).json();

    assert!(proxy.was_cut());
    assert_eq!(sent["sessions"], 2, "{sent}");
    assert!(number(&received, "bytes_resumed") > 10_000_000, "{received}");
    assert!(number(&received, "bytes_moved") < BYTES as u64 - 10_000_000, "{received}");
    assert_eq!((number(&sent, "files"), number(&sent, "bytes")), (1, BYTES as u64), "{sent}");
    assert_eq!(sent["digest"], received["digest"]);
    assert_same(&here, &there);
}

#[test]
fn a_receiver_that_is_killed_comes_back_with_its_ticket_and_the_sender_goes_on() {
    for transport in ["tcp", "udp"] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        here.write("file", noise(2, BYTES));
        let recv = there.listen(["recv", "."]);
        let (ticket, address) = (recv.ticket.clone(), recv.address().to_string());
        let send = ["send", "file", &ticket, "--json", "--transport", transport, "--rate", RATE];
        let send = here.start([&send[..], &["--retry-for", "30s"]].concat());

        until_claimed(&there.path(""));
        recv.process.kill();
        assert!(!there.path("file").exists());
        let again =
            Server::start_as_it_is(there.command(haul()).args(["recv", ".", "--json", "--listen", &address]));

        assert_eq!(again.ticket, ticket);
        let sent = send.end().with(0).json();
        let received = again.end().with(0).json();
        assert!(number(&received, "bytes_resumed") > 0, "{transport}: {received}");
        assert_eq!(sent["sessions"], 2, "{transport}: {sent}");
        assert_same(&here, &there);
    }
}

#[test]
fn a_sender_that_is_killed_goes_on_when_the_same_command_is_run_again() {
    for transport in ["tcp", "udp"] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        here.write("file", noise(3, BYTES));
        let recv = there.listen(["recv", ".", "--json"]);
        let send = ["send", "file", &recv.ticket, "--json", "--transport", transport];
        let first = here.start([&send[..], &["--rate", RATE]].concat());

        until_claimed(&there.path(""));
        first.kill();
        let sent = here.start([&send[..], &["--retry-for", "40s"]].concat()).end().with(0).json();

        let received = recv.end().with(0).json();
        assert!(number(&received, "bytes_resumed") > 0, "{transport}: {received}");
        assert_eq!(number(&sent, "bytes_resumed"), number(&received, "bytes_resumed"), "{sent}");
        assert_same(&here, &there);
    }
}

#[test]
fn a_pull_goes_on_after_either_end_was_killed() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    there.write("file", noise(4, BYTES));
    let offer = there.listen(["offer", "file", "--rate", RATE]);
    let (ticket, address) = (offer.ticket.clone(), offer.address().to_string());
    let get = ["get", &ticket, "--json", "--transport", "tcp", "--retry-for", "40s"];

    let first = here.start(get);
    until_claimed(&here.path(""));
    first.kill();
    let second = here.start(get);
    second_has_begun(&here.path(""));
    offer.process.kill();
    let again = Server::start_as_it_is(there.command(haul()).args(["offer", "file", "--listen", &address]));

    assert_eq!(again.ticket, ticket);
    let got = second.end().with(0).json();
    again.end().with(0);
    assert!(number(&got, "bytes_resumed") > 0, "{got}");
    assert_same(&here, &there);
}

#[test]
fn the_first_pull_of_a_file_may_be_cut_like_any_other() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    there.write("file", noise(10, BYTES));
    let serve = there.listen(["serve", ".", "--rate", RATE]);
    let get = ["get", &serve.at("file"), "--json", "--transport", "tcp"];

    let first = here.start(get);
    until_claimed(&here.path(""));
    first.kill();
    let got = here.start(get).end().with(0).json();

    assert!(number(&got, "bytes_resumed") > 0, "{got}");
    assert_same(&here, &there);
}

#[test]
fn an_interrupted_transfer_loses_nothing_that_came() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("file", noise(5, BYTES));
    let (serve, first) = begun(&here, &there);

    first.signal(Signal::INT);
    first.end().with(130);
    let sent = here.start(send(&serve.ticket)).end().with(0).json();

    assert!(number(&sent, "bytes_resumed") > 0, "{sent}");
    assert!(number(&sent, "bytes_resumed") + number(&sent, "bytes_moved") == BYTES as u64, "{sent}");
    assert_same(&here, &there);
}

#[test]
fn a_wall_clock_that_jumps_between_two_sessions_costs_nothing() {
    const YEAR_2200_S: u64 = 7_258_118_400;
    for stood_at_s in [0, YEAR_2200_S] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        here.write("file", noise(11, BYTES));
        let (serve, first) = begun(&here, &there);
        first.kill();
        serve.process.kill();
        for path in ours(&there.path("")) {
            let stood_at = SystemTime::UNIX_EPOCH + Duration::from_secs(stood_at_s);
            fs::File::options().write(true).open(path).unwrap().set_modified(stood_at).unwrap();
        }

        let serve = there.listen(["serve", "."]);
        let sent = here.start(send(&serve.ticket)).end().with(0).json();

        assert!(number(&sent, "bytes_resumed") > 0, "{sent}");
        assert_same(&here, &there);
    }
}

#[test]
fn of_a_source_that_changed_only_what_differs_is_sent_again() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let mut content = noise(6, BYTES);
    here.write("file", &content);
    let (serve, first) = begun(&here, &there);
    first.kill();

    content[1000] ^= 1;
    here.write("file", &content);
    let sent = [&send(&serve.ticket)[..], &["--retry-for", "40s"]].concat();
    let sent = here.start(sent).end().with(0).json();

    let lacked = BYTES as u64 - number(&sent, "bytes_resumed");
    assert_eq!(number(&sent, "bytes_moved"), lacked + (1 << 20), "one block of it: {sent}");
    assert_same(&here, &there);
}

#[test]
fn a_partial_file_that_was_changed_is_repaired() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("file", noise(7, BYTES));
    let (serve, first) = begun(&here, &there);
    first.signal(Signal::INT);
    first.end().with(130);

    let part =
        ours(&there.path("")).into_iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&part).unwrap();
    bytes[0] ^= 1;
    fs::write(&part, bytes).unwrap();
    let sent = here.start(send(&serve.ticket)).end().with(0).json();

    assert_eq!(number(&sent, "bytes_resumed") + number(&sent, "bytes_moved"), BYTES as u64 + (1 << 20));
    assert_same(&here, &there);
}

#[test]
fn a_tree_goes_on_with_what_is_missing() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    for i in 0..300 {
        here.write(format!("tree/d{}/small{i}", i % 7), noise(i, 1000));
    }
    here.write("tree/zlarge", noise(999, BYTES));
    let serve = there.listen(["serve", "."]);
    let send = ["send", "tree", &serve.ticket, "--json", "--transport", "tcp"];
    let first = here.start([&send[..], &["--rate", RATE]].concat());
    until_claimed(&there.path("tree"));
    first.kill();

    let sent = here.start([&send[..], &["--retry-for", "40s"]].concat()).end().with(0).json();

    assert_eq!(number(&sent, "files") + number(&sent, "unchanged"), 301, "{sent}");
    assert!(number(&sent, "unchanged") >= 250, "{sent}");
    assert!(number(&sent, "bytes_resumed") > 0, "{sent}");
    tree::assert_same(&here.path("tree"), &there.path("tree"));
}

#[test]
fn a_tree_that_is_got_under_a_new_name_has_it_when_the_connection_is_made_again() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    there.write("tree/a/small", "content");
    there.write("tree/large", noise(11, BYTES));
    let serve = there.listen(["serve", "."]);
    let proxy =
        Proxy::start(serve.address(), Manner { cut: Some(Cut::First(20_000_000)), ..Manner::default() });
    let source = serve.over(proxy.address).replace('#', "/tree#");
    let get = ["get", &source, "-o", "new", "--json", "--transport", "tcp", "--streams", "1"];

    let got = here.start([&get[..], &["--retry-for", "30s"]].concat()).end().with(0).json();

    assert_eq!(got["sessions"], 2, "{got}");
    tree::assert_same(&there.path("tree"), &here.path("new"));
}

#[test]
fn who_lost_its_server_says_so_and_gives_up_in_time() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("file", noise(8, BYTES));
    let serve = there.listen(["serve", "."]);
    let send = ["send", "file", &serve.ticket, "--rate", RATE, "--transport", "tcp", "--retry-for", "300ms"];
    let send = here.start(send);
    until_claimed(&there.path(""));

    serve.process.kill();

    let ended = send.end().with(3);
    assert!(ended.stderr.contains("trying to go on, for up to 0.3s"), "{ended}");
    assert!(ended.stderr.contains("connection"), "{ended}");
}

/// A standing server, and a client of which it has claimed something.
fn begun(here: &Place, there: &Place) -> (Server, Process) {
    let serve = there.listen(["serve", "."]);
    let client = here.start([&send(&serve.ticket)[..], &["--rate", RATE]].concat());
    until_claimed(&there.path(""));
    (serve, client)
}

fn send(ticket: &str) -> [&str; 6] {
    ["send", "file", ticket, "--json", "--transport", "tcp"]
}

/// Waits until a journal in a directory claims something.
fn until_claimed(dir: &Path) {
    const HEADER_BYTES: u64 = 32;
    until(|| {
        let lens: Vec<u64> =
            ours(dir).iter().filter_map(|path| Some(fs::metadata(path).ok()?.len())).collect();
        lens.len() == 2 && lens.iter().all(|&len| len > HEADER_BYTES)
    });
}

/// Waits until content comes to a file that is gone on with: its journal grows.
fn second_has_begun(dir: &Path) {
    let journal = ours(dir).into_iter().min_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let before = fs::metadata(&journal).unwrap().len();
    until(|| fs::metadata(&journal).is_ok_and(|now| now.len() > before));
}

/// What haul keeps in a directory under names of its own.
fn ours(dir: &Path) -> Vec<PathBuf> {
    // Nothing was made there yet.
    let Ok(names) = fs::read_dir(dir) else { return Vec::new() };
    let names = names.map(|name| name.unwrap().path());
    names.filter(|path| path.file_name().unwrap().as_encoded_bytes().starts_with(b".haul-")).collect()
}

fn assert_same(here: &Place, there: &Place) {
    assert_eq!(fs::read(here.path("file")).unwrap(), fs::read(there.path("file")).unwrap());
    assert_eq!(ours(&here.path("")), [""; 0].map(PathBuf::from), "something is left");
    assert_eq!(ours(&there.path("")), [""; 0].map(PathBuf::from), "something is left");
}

fn number(json: &Value, field: &str) -> u64 {
    json[field].as_u64().unwrap_or_else(|| panic!("{field} in {json}"))
}
