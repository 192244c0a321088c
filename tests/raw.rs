//! Raw UDP: the real binary says exactly what a path did to its datagrams, and keeps what is damaged beside the name.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};

use common::proxy::{Manner, Proxy};
use common::relay::Relay;
use common::tree::{self, noise, sha256};
use common::{Place, haul, run};
use serde_json::{Value, json};

const RAW: [&str; 4] = ["--transport", "udp-raw", "--rate", "80mbit"];

#[test]
fn what_a_path_leaves_whole_gets_its_name_in_both_directions() {
    for plain in [&[][..], &["--plain"]] {
        let (here, there) = (Place::new(), Place::new());
        here.write("tree/large", noise(1, 1_500_000));
        here.write("tree/empty", "");
        for i in 0..100 {
            here.write(format!("tree/sub/{i}"), noise(i, usize::try_from(i).unwrap() * 40));
        }
        let serve = there.listen([&["serve", "."], plain].concat());

        let send = [&["send", "tree", &serve.ticket, "--json"], &RAW[..], plain].concat();
        let sent = here.start(send).end().with(0).json();
        let source = serve.at("tree");
        let get = [&["get", &source, "-o", "back", "--json"], &RAW[..], plain].concat();
        let got = here.start(get).end().with(0).json();

        for report in [&sent, &got] {
            assert_eq!((&report["transport"], &report["files"]), (&json!("udp-raw"), &json!(102)));
            let raw = &report["raw"];
            assert!(raw["sent"].as_u64() > Some(1000) && raw["sent"] == raw["received"], "{raw}");
            for count in ["missing", "missing_bytes", "duplicated", "damaged", "discarded", "damaged_files"] {
                assert_eq!(raw[count], json!(0), "{count}: {raw}");
            }
            assert_eq!(raw["intact_files"], json!(102));
        }
        tree::assert_same(&here.path("tree"), &there.path("tree"));
        tree::assert_same(&here.path("tree"), &here.path("back"));
    }
}

/// Goal: the report equals what the path did. Method: a relay that treats content by packet number and remembers what it
/// did. Checked: both reports, the kept file byte by byte, the live name, the exit codes, in both directions.
#[test]
fn the_report_is_what_the_path_did_and_a_damaged_file_stands_beside_its_name() {
    for is_send in [true, false] {
        let (here, there) = (Place::new(), Place::new());
        let (source, target) = if is_send { (&here, &there) } else { (&there, &here) };
        let content = noise(2, 1_000_000);
        source.write("file", &content);
        target.write("file", "live");
        let server = match is_send {
            true => there.listen(["recv", ".", "--json", "--overwrite", "always"]),
            false => there.listen(["offer", "file", "--json"]),
        };
        let (relay, numbers) = relay(server.address(), is_send);
        let ticket = server.over(relay.proxy.address);

        let client = match is_send {
            true => &["send", "file", &ticket, "--json", "--overwrite", "always"][..],
            false => &["get", &ticket, "--json", "--overwrite", "always"],
        };
        let ended = here.start(client.iter().copied().chain(RAW)).end().with(5);
        let other = server.end().with(5);

        let (report, raw) = (ended.json(), ended.json()["raw"].clone());
        assert_eq!((&report["cause"], &other.json()["raw"]), (&json!("integrity"), &raw));
        let sent = numbers.lock().unwrap().len() as u64;
        let counts = [
            ("sent", sent),
            ("received", sent - 5),
            ("missing", 5),
            ("duplicated", 3),
            ("damaged", 1),
            ("out_of_order", 2),
            ("farthest", 9),
            ("discarded", 0),
            ("intact_files", 0),
            ("damaged_files", 1),
            ("more_ranges", 0),
        ];
        for (name, count) in counts {
            assert_eq!(raw[name], json!(count), "{name}: {raw}");
        }
        assert_eq!(fs::read(target.path("file")).unwrap(), b"live");
        assert_eq!(tree::names(&target.path("")), ["file", "file.damaged"]);
        let expected = without(&content, &raw);
        assert!(fs::read(target.path("file.damaged")).unwrap() == expected);
        // 100 to 102, 110 and 130 did not arrive.
        assert_eq!(raw["missing_ranges"].as_array().unwrap().len(), 3, "{raw}");
        for ended in [&ended, &other] {
            assert!(ended.stderr.contains("kept as file.damaged"), "{ended}");
            assert!(ended.stderr.contains("what UDP did, nothing repaired:"), "{ended}");
        }
    }
}

#[test]
fn of_several_files_only_the_damaged_ones_fail_and_a_second_copy_replaces_nothing() {
    let (here, there) = (Place::new(), Place::new());
    here.write("tree/a", noise(3, 400_000));
    here.write("tree/b", noise(4, 400_000));
    there.write("tree/b.damaged", "somebody's own");
    let serve = there.listen(["serve", "."]);
    // A packet of the second file.
    let relay = Relay::start(
        serve.address(),
        Box::new(|is_from_client, _, datagram| {
            let is_lost = is_from_client && number(datagram) == 450;
            if is_lost { Vec::new() } else { vec![datagram.to_vec()] }
        }),
    );
    let ticket = serve.over(relay.proxy.address);

    let ended = here.start(["send", "tree", &ticket, "--json"].into_iter().chain(RAW)).end().with(6);

    let report = ended.json();
    let raw = &report["raw"];
    assert_eq!(
        (&raw["missing"], &raw["intact_files"], &raw["damaged_files"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(report["failures"][0]["name"], raw["missing_ranges"][0]["file"]);
    let names = tree::names(&there.path("tree"));
    let damaged = report["failures"][0]["name"].as_str().unwrap().trim_start_matches("tree/").to_owned();
    let kept = if damaged == "b" { "b.damaged.2" } else { "a.damaged" };
    assert!(names.contains(&kept.to_owned()) && !names.contains(&damaged), "{names:?}");
    assert_eq!(fs::read(there.path("tree/b.damaged")).unwrap(), b"somebody's own");
}

#[test]
fn a_path_that_dies_in_the_middle_ends_both_sides_with_what_came() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(5, 3_000_000);
    here.write("file", &content);
    let recv = there.listen(["recv", ".", "--json"]);
    let relay = Relay::transparent(recv.address());
    let ticket = recv.over(relay.proxy.address);

    let send = here.start(["send", "file", &ticket, "--json"].into_iter().chain(RAW));
    relay.await_from_clients(100);
    relay.block();

    let raw = send.end().with(5).json()["raw"].clone();
    assert_eq!(recv.end().with(5).json()["raw"], raw);
    assert!(raw["missing"].as_u64() > Some(0) && raw["received"].as_u64() >= Some(99), "{raw}");
    assert_eq!(tree::names(&there.path("")), ["file.damaged"]);
    assert!(fs::read(there.path("file.damaged")).unwrap() == without(&content, &raw));
}

#[test]
fn blocked_udp_is_an_error_in_both_directions() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(6, 100_000));
    there.write("other", noise(7, 100_000));
    let serve = there.listen(["serve", "."]);
    // TCP alone passes.
    let proxy = Proxy::start(serve.address(), Manner::default());
    let ticket = serve.over(proxy.address);

    for command in [&["send", "file", &ticket][..], &["get", &ticket, "-o", "there"]] {
        let failed = here.start(command.iter().copied().chain(RAW)).end().with(11);
        assert!(failed.stderr.contains("UDP"), "{failed}");
    }

    assert_eq!(tree::names(&there.path("")), ["other"]);
}

#[test]
fn a_raw_transfer_needs_a_rate_and_a_file_to_write() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "x");
    there.write("other", "y");
    let serve = there.listen(["serve", "."]);
    let without_rate = &["--transport", "udp-raw"][..];

    for command in [&["send", "file", &serve.ticket][..], &["get", &serve.at("other")]] {
        let refused = here.start([command, without_rate].concat()).end().with(2);
        assert!(refused.stderr.contains("--rate"), "{refused}");
    }
    let piped = here.start([&["get", &serve.at("other"), "-o", "-"], &RAW[..]].concat()).end().with(2);
    assert!(piped.stderr.contains("-o -"), "{piped}");
    here.start(["get", &serve.at("other"), "--rate", "1mbit"]).end().with(2);
    here.start([&["send", "file", &serve.ticket, "--dry-run"], &RAW[..]].concat()).end().with(0);
}

#[test]
fn what_is_there_already_costs_no_content_and_a_pipe_has_its_size_at_the_end() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(8, 300_000);
    here.write("file", &content);
    let serve = there.listen(["serve", ".", "--overwrite", "different"]);
    let ticket = &serve.ticket;

    let mut send = here.command(haul());
    send.args(["send", "-", "--name", "piped", ticket]).args(RAW);
    run(&mut send, &content).with(0);
    here.start(["send", "file", ticket].into_iter().chain(RAW)).end().with(0);
    let again = here.start(["send", "file", ticket, "--json"].into_iter().chain(RAW)).end().with(0).json();

    assert_eq!((&again["unchanged"], &again["raw"]["missing"]), (&json!(1), &json!(0)));
    assert_eq!(again["raw"]["intact_files"], json!(0));
    for name in ["file", "piped"] {
        assert_eq!(sha256(&fs::read(there.path(name)).unwrap()), sha256(&content), "{name}");
    }
}

/// Packets of content that a relay has seen, by number.
type Numbers = Arc<Mutex<BTreeSet<u64>>>;

/// Loses 100 to 102 and 110, damages 130, sends 140, 141 and 150 twice, and lets 160 and 170 be overtaken by 4 and 9.
fn relay(server: std::net::SocketAddr, is_from_client: bool) -> (Relay, Numbers) {
    let numbers = Numbers::default();
    let (seen, mut held) = (numbers.clone(), None);
    let treatment = move |from_client: bool, _: u64, datagram: &[u8]| {
        if from_client != is_from_client {
            return vec![datagram.to_vec()];
        }
        let number = number(datagram);
        seen.lock().unwrap().insert(number);
        let mut out = match number {
            100..=102 | 110 => Vec::new(),
            130 => vec![damaged(datagram)],
            140 | 141 | 150 => vec![datagram.to_vec(); 2],
            160 | 170 => {
                held = Some(datagram.to_vec());
                Vec::new()
            }
            _ => vec![datagram.to_vec()],
        };
        if number == 164 || number == 179 {
            out.extend(held.take());
        }
        out
    };
    (Relay::start(server, Box::new(treatment)), numbers)
}

/// The packet number, which stands in clear behind one byte and the name of the flow.
fn number(datagram: &[u8]) -> u64 {
    u64::from_le_bytes(datagram[5..13].try_into().unwrap())
}

fn damaged(datagram: &[u8]) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    let middle = datagram.len() / 2;
    datagram[middle] ^= 4;
    datagram
}

/// The content with zeros where the report says that bytes are missing.
fn without(content: &[u8], raw: &Value) -> Vec<u8> {
    let mut content = content.to_vec();
    let mut missing = 0;
    for range in raw["missing_ranges"].as_array().unwrap() {
        assert_eq!(range["file"], json!("file"));
        let at = |field: &str| usize::try_from(range[field].as_u64().unwrap()).unwrap();
        content[at("offset")..at("offset") + at("len")].fill(0);
        missing += at("len");
    }
    assert_eq!(raw["missing_bytes"], json!(missing));
    content
}
