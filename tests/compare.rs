//! `haul compare`: real runs of real processes, over links and without. No speeds are asserted, only what arrived, what was counted,
//! and what was said.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;

use serde_json::Value;

use common::{Ended, Place, can_have_hosts, skip};

/// A link that does everything to packets, at a rate that a debug build carries.
const ALL_FAULTS: &str = "rtt=10ms,rate=20mbit,loss=2%,reorder=5%,dup=1%,corrupt=0.5%";

#[track_caller]
fn compare(place: &Place, arguments: &[&str]) -> Ended {
    place.haul([&["compare", "--repeats", "1", "--warmup", "0"], arguments].concat())
}

#[track_caller]
fn json(place: &Place, arguments: &[&str]) -> Value {
    compare(place, &[arguments, &["--json"]].concat()).with(0).json()
}

/// The run of a contender.
#[track_caller]
fn run<'a>(object: &'a Value, contender: &str) -> &'a Value {
    let runs = object["runs"].as_array().unwrap();
    runs.iter()
        .find(|run| run["contender"] == contender)
        .unwrap_or_else(|| panic!("no {contender} in {object}"))
}

#[test]
fn reliable_transports_keep_what_they_promise_and_raw_udp_accounts_for_every_datagram() {
    if !can_have_hosts() {
        return;
    }
    let object =
        json(&Place::new(), &["--link", ALL_FAULTS, "--size", "600kB", "--contenders", "tcp,udp,udp-raw"]);

    for reliable in ["tcp", "udp/bbr"] {
        let run = run(&object, reliable);
        let kept = &run["guarantees"];
        assert_eq!(kept["is_intact"], true, "{run}");
        for what in ["lost", "out_of_order", "damaged", "duplicated"] {
            assert_eq!(kept[what]["seen"], 0, "{what}: {run}");
        }
        assert!(kept["lost"]["beneath"].as_u64().unwrap() > 0, "{run}");
        assert_eq!(run["content_bytes"], 600_000);
    }
    let tcp = &run(&object, "tcp")["guarantees"]["boundaries"];
    assert!(tcp["inside_message"].as_u64().unwrap() > 0, "{tcp}");
    let raw = &run(&object, "udp-raw")["guarantees"];
    assert_eq!(raw["boundaries"]["inside_message"], 0);
    assert_eq!(raw["is_intact"], false);
    let (accounts, drops) = (&raw["accounts"], raw["receiver_drops"].as_u64().unwrap_or(0));
    assert_eq!(accounts["damaged_by_link"], accounts["damaged_by_receiver"], "{raw}");
    assert_eq!(accounts["whole_by_link"], accounts["whole_by_receiver"], "{raw}, {drops} dropped");
}

#[test]
fn the_table_says_all_of_it_in_eighty_columns() {
    if !can_have_hosts() {
        return;
    }
    let ended =
        compare(&Place::new(), &["--link", ALL_FAULTS, "--size", "300kB", "--contenders", "tcp,udp,udp-raw"]);
    let text = String::from_utf8(ended.with(0).stdout).unwrap();

    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    for part in
        ["goodput", "seen (done)", "tcp ", "udp/bbr", "udp-raw", "nobody asked for them", "debug build"]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

#[test]
fn what_was_measured_is_not_measured_again() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let plan =
        ["--link", "rtt=1ms,rate=50mbit", "--size", "100kB", "--records", "runs.jsonl", "--contenders"];
    compare(&place, &[&plan[..], &["udp"]].concat()).with(0);
    let first = fs::read_to_string(place.path("runs.jsonl")).unwrap();
    // The end of a line that was being written when the machine went away.
    fs::write(place.path("runs.jsonl"), format!("{first}{}", &first[..first.len() / 2])).unwrap();

    compare(&place, &[&plan[..], &["udp,tcp"]].concat()).with(0);

    let both = fs::read_to_string(place.path("runs.jsonl")).unwrap();
    assert_eq!(both.lines().count(), 2, "{both}");
    assert!(both.starts_with(&first));
    assert!(both.lines().last().unwrap().contains("\"contender\":\"tcp\""));
}

#[test]
fn a_file_that_holds_no_records_is_left_alone() {
    let place = Place::new();
    fs::write(place.path("mine"), "dear diary\n").unwrap();

    let ended = compare(&place, &["--records", "mine"]).with(2);

    assert!(ended.stderr.contains("mine: line 1 is no record of a comparison"), "{ended}");
    assert_eq!(fs::read_to_string(place.path("mine")).unwrap(), "dear diary\n");
}

#[test]
fn other_programs_run_over_the_same_link_and_what_they_brought_is_looked_at() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let get = "python3 -c \"import socket, sys; s = socket.create_connection((sys.argv[1], 9000)); \
               s.sendall(open(sys.argv[2], 'rb').read()); s.shutdown(1); s.recv(1)\" {host} {file}";
    let peer = "python3 -c \"import socket
s = socket.create_server(('10.77.0.2', 9000))
while True: s.accept()[0].recv(1 << 20, socket.MSG_WAITALL)\"";
    let copy = "copy=cp {file} {dir}/";
    let bad = "bad=echo it went wrong >&2; exit 3";
    let plan = ["--link", "rtt=2ms,rate=50mbit", "--size", "100kB", "--contenders", "udp", "--peer", peer];
    let with = ["--with", get, "--with", copy, "--with", bad, "--json"];
    let object = compare(&place, &[&plan[..], &with[..]].concat()).with(6).json();

    let get = run(&object, "python3");
    assert_eq!(get["exit_code"], 0, "{get}");
    assert!(get["wire"]["there_bytes"].as_u64().unwrap() > 100_000, "{get}");
    assert_eq!(get["guarantees"]["is_intact"], Value::Null, "{get}");
    assert_eq!(run(&object, "copy")["guarantees"]["is_intact"], true);
    assert_eq!(run(&object, "bad")["error"], "it went wrong");
}

#[test]
fn a_run_that_takes_too_long_is_ended_and_says_how_far_it_came() {
    if !can_have_hosts() {
        return;
    }
    let plan = ["--link", "rtt=1ms,rate=1mbit", "--size", "1MB", "--contenders", "tcp", "--at-most", "2s"];
    let object = json(&Place::new(), &plan);

    let run = run(&object, "tcp");
    assert_eq!(run["was_cut"], true, "{run}");
    assert!(run["content_bytes"].as_u64().unwrap() < 1_000_000, "{run}");
    assert!(run["doubts"].to_string().contains("it was ended after"), "{run}");
}

#[test]
fn a_grid_runs_every_combination() {
    if !can_have_hosts() {
        return;
    }
    let plan =
        ["--grid", "loss=0,1 rtt=1,5", "--link", "rate=50mbit", "--size", "50kB", "--contenders", "udp"];
    let object = json(&Place::new(), &plan);

    let names: Vec<&str> =
        object["summaries"].as_array().unwrap().iter().map(|it| it["scenario"].as_str().unwrap()).collect();
    assert_eq!(names, ["loss=0%,rtt=1ms", "loss=0%,rtt=5ms", "loss=1%,rtt=1ms", "loss=1%,rtt=5ms"]);
}

#[test]
fn a_server_that_allows_it_is_measured_and_nothing_is_left_there() {
    let place = Place::new();
    fs::create_dir(place.path("root")).unwrap();
    let server = place.listen(["serve", "root", "--discard", "10MB"]);
    let ticket = server.at("");
    let plan = ["--to", &ticket, "--size", "500kB", "--contenders", "tcp,udp,udp-raw", "--rate", "50mbit"];
    let ended = compare(&place, &[&plan[..], &["--json"]].concat());

    let secret = ticket.rsplit('#').next().unwrap();
    assert!(!ended.stderr.contains(secret) && !String::from_utf8_lossy(&ended.stdout).contains(secret));
    let object = ended.with(0).json();
    for contender in ["tcp", "udp/bbr", "udp-raw"] {
        assert_eq!(run(&object, contender)["content_bytes"], 500_000, "{object}");
    }
    assert_eq!(fs::read_dir(place.path("root")).unwrap().count(), 0);
}

#[test]
fn two_results_are_the_same_or_one_is_slower() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let plan = [
        "compare",
        "--link",
        "rtt=1ms,rate=50mbit",
        "--size",
        "50kB",
        "--contenders",
        "udp",
        "--repeats",
        "4",
    ];
    let before = place.haul([&plan[..], &["--warmup", "0", "--json"]].concat()).with(0);
    fs::write(place.path("before.json"), &before.stdout).unwrap();
    let mut slower = before.json();
    for run in slower["runs"].as_array_mut().unwrap() {
        let goodput = run["goodput_bits_per_s"].as_f64().unwrap();
        run["goodput_bits_per_s"] = (goodput / 100.0).into();
    }
    fs::write(place.path("after.json"), slower.to_string()).unwrap();

    place.haul(["compare", "diff", "before.json", "before.json"]).with(0);
    place.haul(["compare", "diff", "after.json", "before.json"]).with(0);
    let ended = place.haul(["compare", "diff", "before.json", "after.json"]).with(14);

    assert!(String::from_utf8_lossy(&ended.stdout).contains("SLOWER"), "{ended}");
    place.haul(["compare", "diff", "before.json", "no-such-file"]).with(9);
    fs::write(place.path("other"), "{}").unwrap();
    place.haul(["compare", "diff", "before.json", "other"]).with(2);
}

#[test]
fn without_links_it_compares_over_loopback_and_says_what_that_does_not_show() {
    let ended = without_devices(&["compare", "--size", "300kB", "--rate", "50mbit", "--json"]);
    let Some(ended) = ended else { return };

    let object = ended.with(0).json();
    assert!(object["caveats"][0].as_str().unwrap().contains("loopback"), "{object}");
    for contender in ["tcp", "udp/bbr"] {
        assert_eq!(run(&object, contender)["guarantees"]["is_intact"], true, "{object}");
    }
    let refused = without_devices(&["compare", "--link", "lan"]).unwrap();
    refused.with(9);
}

#[test]
fn an_ordinary_user_compares_over_links_where_the_device_is_everyones() {
    let place = Place::new();
    let Some(mut nobody) = place.nobody_with_device() else { return };
    let plan = [
        "compare",
        "--link",
        "rtt=2ms,rate=50mbit",
        "--size",
        "200kB",
        "--repeats",
        "1",
        "--warmup",
        "0",
        "--json",
    ];
    let ended = common::run(nobody.args(plan), b"");
    if ended.code == 9 || ended.stderr.contains("mount:") {
        return skip(&ended.stderr);
    }

    let object = ended.with(0).json();
    assert_eq!(run(&object, "udp/bbr")["guarantees"]["is_intact"], true, "{object}");
    assert!(run(&object, "udp/bbr")["wire"]["there_bytes"].as_u64().unwrap() > 200_000, "{object}");
}

#[test]
fn what_cannot_be_compared_is_refused_with_its_reason() {
    let place = Place::new();
    fs::create_dir(place.path("tree")).unwrap();
    let refused = |arguments: &[&str], code: i32, said: &str| {
        let ended = compare(&place, arguments).with(code);
        assert!(ended.stderr.contains(said), "{ended}");
    };

    refused(&["--contenders", "sctp"], 2, "no contender");
    refused(&["--link", "speed=1"], 2, "no part of a link");
    refused(&["--grid", "loss"], 2, "PART=VALUE");
    refused(&["--grid", "loss=1", "--link", "lan", "--link", "wifi"], 2, "one --link");
    refused(&["--size", "12"], 2, "needs a unit");
    refused(&["--peer", "true"], 2, "--with");
    refused(&["--report", "no/such/dir/x.html"], 9, "no/such/dir/x.html");
    if can_have_hosts() {
        refused(&["tree", "--link", "lan"], 9, "make one file of it with tar");
        refused(&["none", "--link", "lan"], 9, "cannot send none");
        refused(&["--link", "lan", "--contenders", "tcp/nosuchlaw", "--size", "10kB"], 6, "nosuchlaw");
    }
}

#[test]
fn the_chapter_for_newcomers_is_that_of_the_readme() {
    let ended = Place::new().haul(["compare", "--explain"]).with(0);
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();

    assert!(readme.contains(&*String::from_utf8_lossy(&ended.stdout)));
    assert!(ended.stdout.len() > 2000);
}

/// Runs haul as a user who may not make hosts; none, where nobody can become such a user.
fn without_devices(arguments: &[&str]) -> Option<Ended> {
    let place = Place::new();
    let probe = common::run(place.command_of_nobody()?.args(["link", "lan", "--", "true"]), b"");
    if probe.code == 0 {
        skip("everyone may open /dev/net/tun here");
        return None;
    }
    Some(common::run(place.command_of_nobody()?.args(arguments), b""))
}
