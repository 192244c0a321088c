//! `haul link`: real packets over an emulated link, between hosts made for it. No times are asserted, only what the link
//! counted, what programs saw, and how they ended.

#![cfg(target_os = "linux")]

mod common;

use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use common::datagrams::{RECEIVER, SENDER};
use common::{Ended, Place, can_have_hosts, skip};

/// Sends 500 datagrams of 100 bytes of content; nobody has to listen.
const FIVE_HUNDRED: &str = "import os, socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for k in range(500):
    s.sendto(bytes(100), (os.environ['HAUL_LINK_PEER'], 9))
    time.sleep(0.0002)";

/// Listens, so that no errors come back, until it is ended.
const SINK: &str = "exec python3 -c \"import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 9))
while True: s.recv(2000)\"";

/// Runs a command over a link and gives the one object.
#[track_caller]
fn link(arguments: &[&str]) -> Value {
    let ended = Place::new().haul([&["--json", "link"], arguments].concat()).with(0);
    ended.json()
}

#[test]
fn losses_are_the_same_for_one_seed_and_others_for_another() {
    if !can_have_hosts() {
        return;
    }
    let lost = |spec: &str| {
        let there = link(&[spec, "--peer", SINK, "--", "python3", "-c", FIVE_HUNDRED])["there"].take();
        assert_eq!(there["offered"], 500, "{there}");
        assert_eq!(there["flows"].as_array().unwrap().len(), 1, "{there}");
        assert_eq!(there["flows"][0]["offered_bytes"], 500 * 128);
        assert_eq!(there["flows"][0]["destination_port"], 9);
        assert_eq!(there["flows"][0]["dropped_loss"], there["dropped_loss"]);
        there["dropped_loss"].as_u64().unwrap()
    };

    let first = lost("rtt=2ms,loss=10%,seed=3");
    assert!((20..=85).contains(&first), "{first} of 500 at 10 %");
    assert_eq!(lost("rtt=2ms,loss=10%,seed=3"), first);
    assert_ne!(lost("rtt=2ms,loss=10%,seed=4"), first);
}

#[test]
fn packets_that_are_longer_than_the_link_allows_vanish_and_are_counted() {
    if !can_have_hosts() {
        return;
    }
    let program = "import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, 10, 3)
for size in (1252, 1253): s.sendto(bytes(size), (os.environ['HAUL_LINK_PEER'], 9))";

    let there = link(&["rtt=0s,mtu=1280", "--peer", SINK, "--", "python3", "-c", program])["there"].take();

    assert_eq!((&there["offered"], &there["dropped_mtu"]), (&2.into(), &1.into()));
}

#[test]
fn a_trace_is_replayed_from_its_file_in_each_direction() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    // Nothing is carried before the tenth second; the queue holds three of these packets.
    place.write("slow.down", "10000\n10000\n");
    place.write("fast.up", "0\n1\n1\n2\n");
    let program = "import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for k in range(10): s.sendto(bytes(1472), (os.environ['HAUL_LINK_PEER'], 9))";

    let (there, back) = ("rtt=40ms,trace=slow.down,queue=4512B", "rtt=40ms,trace=fast.up");
    let ended = place.haul(["--json", "link", there, "--back", back, "--", "python3", "-c", program]).with(0);

    let object = ended.json();
    assert_eq!((&object["there"]["spec"], &object["back"]["spec"]), (&there.into(), &back.into()));
    assert_eq!((&object["there"]["offered"], &object["there"]["dropped_queue"]), (&10.into(), &7.into()));
    assert_eq!(object["there"]["peak_queue_bytes"], 4512);
    assert_eq!(object["there"]["machine"]["under_way"], 3);
}

#[test]
fn a_queue_takes_what_fits_it_to_the_byte() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    place.write("slow", "10000\n10000\n");
    let program = "import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for k in range(10): s.sendto(bytes(1472), (os.environ['HAUL_LINK_PEER'], 9))";

    for (queue, dropped) in [("6016B", 6), ("6015B", 7)] {
        let spec = format!("rtt=1ms,trace=slow,queue={queue}");
        let ended = place.haul(["--json", "link", &spec, "--", "python3", "-c", program]).with(0);
        assert_eq!(ended.json()["there"]["dropped_queue"], dropped, "{queue}");
    }
}

#[test]
fn a_receiver_sees_every_loss_copy_and_damage_that_the_link_counts() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    place.write("receiver", RECEIVER);
    let peer = "exec python3 receiver seen";
    let send = ["python3", "-c", SENDER, "2000", "1000", "10", "0.001"];

    let spec = "rtt=10ms,loss=5%,dup=5%,corrupt=5%";
    let ended = place.haul([&["--json", "link", spec, "--peer", peer, "--"], &send[..]].concat()).with(0);

    let object = ended.json();
    let flows = object["there"]["flows"].as_array().unwrap();
    let flow = flows.iter().find(|flow| flow["destination_port"] == 9).unwrap();
    let count = |name: &str| flow[name].as_u64().unwrap();
    let seen: Value = serde_json::from_slice(&std::fs::read(place.path("seen")).unwrap()).unwrap();
    let intact = seen["numbers"].as_array().unwrap().len() as u64;
    let damaged = seen["damaged"].as_u64().unwrap();
    assert_eq!((count("offered"), count("dropped_queue")), (2000, 0));
    assert_eq!(count("delivered"), 2000 - count("dropped_loss") + count("duplicated"));
    // What is damaged in its headers may be lost, damaged or whole to the receiver.
    let in_headers = count("corrupted_headers");
    assert!(damaged.abs_diff(count("corrupted") - in_headers) <= in_headers, "{flow} {damaged}");
    assert!((count("delivered") - count("corrupted")).abs_diff(intact) <= in_headers, "{flow} {intact}");
    let mut numbers: Vec<_> =
        seen["numbers"].as_array().unwrap().iter().map(|it| it.as_u64().unwrap()).collect();
    assert!(numbers.is_sorted(), "a quiet link keeps the order");
    numbers.dedup();
    assert!(numbers.len() as u64 <= 2000 - count("dropped_loss"), "{flow}");
}

#[test]
fn each_direction_has_a_link_of_its_own() {
    if !can_have_hosts() {
        return;
    }
    let object = link(&["rtt=2ms,dup=100%", "--back", "rtt=4ms,seed=9", "--", "true"]);

    assert_eq!(object["host"]["counters"].as_object().map(|it| it.len() < 20), Some(true), "{object}");
    assert!(object["peer"]["cpu_s"].is_f64() && object["command_elapsed_s"].is_f64(), "{object}");
    assert_eq!(object["there"]["spec"], "rtt=2ms,dup=100%");
    assert_eq!(object["back"]["spec"], "rtt=4ms,seed=9");
}

#[test]
fn the_command_has_its_input_its_environment_and_its_exit_code() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let line = "read word; echo $word $HAUL_LINK_HOST $HAUL_LINK_PEER; exit 7";
    let ended =
        common::run(place.command(common::haul()).args(["link", "lan", "--", "sh", "-c", line]), b"hello\n");

    assert_eq!(String::from_utf8_lossy(&ended.stdout), "hello 10.77.0.1 10.77.0.2\n", "{ended}");
    ended.with(7);
    place.haul(["link", "lan", "--", "sh", "-c", "kill -TERM $$"]).with(128 + 15);
    place.haul(["link", "lan", "--", "no-such-command-anywhere"]).with(127);
}

#[test]
fn what_runs_at_the_other_end_starts_before_the_command_and_ends_after_it() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let peer = "trap 'echo ended > peer; exit' TERM; echo started > peer; python3 -m http.server 8000 & wait";
    let get = "import os, urllib.request
urllib.request.urlopen('http://%s:8000/' % os.environ['HAUL_LINK_PEER']).read()
assert open('peer').read() == 'started\\n'";

    place.haul(["link", "rtt=10ms", "--peer", peer, "--", "python3", "-c", get]).with(0);

    assert_eq!(std::fs::read_to_string(place.path("peer")).unwrap(), "ended\n");
}

#[test]
fn nothing_that_the_command_left_behind_goes_on() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    place.haul(["link", "lan", "--", "sh", "-c", "sleep 4321 & setsid sleep 4321 & echo $! > id"]).with(0);

    let id = std::fs::read_to_string(place.path("id")).unwrap();
    assert!(!std::path::Path::new("/proc").join(id.trim()).exists());
}

#[test]
fn a_signal_goes_to_the_command_and_the_counters_are_still_told() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let mut running = place.start(["link", "lan", "--", "sh", "-c", "echo runs >&2; sleep 4321; exit 1"]);
    running.line_with("runs");

    running.signal(Signal::TERM);

    let ended = running.end().with(128 + 15);
    assert!(ended.stderr.contains("haul: there: 0 packets"), "{ended}");
}

#[test]
fn hosts_end_with_an_emulator_that_is_killed() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let mut running = place.start(["link", "lan", "--", "sh", "-c", "echo runs $$ >&2; exec sleep 4321"]);
    let id = running.line_with("runs ").replace("runs ", "");

    running.kill();

    let proc = std::path::Path::new("/proc").join(id.trim());
    let until = haul::run::clock::now() + common::process::PATIENCE;
    while proc.exists() {
        assert!(haul::run::clock::now() < until, "{} still runs", proc.display());
        std::thread::yield_now();
    }
}

#[test]
fn it_works_without_root_where_the_device_is_for_everyone() {
    if !can_have_hosts() {
        return;
    }
    let place = Place::new();
    let Some(mut nobody) = place.nobody_with_device() else { return };

    let ended = common::run(nobody.args(["link", "lan", "--", "id", "-u"]), b"");

    if ended.code == 9 || ended.stderr.contains("mount:") {
        return skip(&ended.stderr);
    }
    assert_eq!(ended.with(0).stdout, b"65534\n");
}

#[test]
fn a_device_that_may_not_be_opened_is_one_clear_error() {
    let place = Place::new();
    let Some(mut nobody) = place.command_of_nobody() else { return };
    let ended = common::run(nobody.args(["link", "lan", "--", "true"]), b"");
    if ended.code == 0 {
        return skip("everyone may open /dev/net/tun here");
    }

    assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    assert!(["/dev/net/tun", "user", "container"].iter().any(|word| ended.stderr.contains(word)), "{ended}");
    ended.with(9);
}

#[test]
fn a_command_line_that_makes_no_link_is_a_usage_error() {
    let place = Place::new();
    let said = |arguments: &[&str]| -> Ended { place.haul([&["link"], arguments].concat()).with(2) };

    assert!(said(&["nowhere", "--", "true"]).stderr.contains("`nowhere` is no profile"));
    assert!(said(&["rtt=1"]).stderr.contains("a time such as 80ms"));
    assert!(said(&["lan"]).stderr.contains("a command is missing"));
    place.write("trace", "1\n2\nthree\n");
    assert!(said(&["trace=trace", "--", "true"]).stderr.contains("`trace`, line 3: a moment is"));
    assert!(said(&["trace=none", "--", "true"]).stderr.contains("`none` cannot be read: No such file"));
    said(&[]);
}

#[test]
fn the_profiles_are_listed_with_where_they_come_from() {
    let ended = Place::new().haul(["link", "--list"]).with(0);

    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(text.contains("satellite") && text.contains("35,786 km"), "{text}");
}

#[test]
fn content_returns_to_tcp_when_udp_is_blocked_in_mid_transfer() {
    // protocol.md [FLOW-7]
    if !can_have_hosts() {
        return;
    }
    if Command::new("ip").arg("-V").output().is_err() {
        skip("there is no `ip` to block UDP with");
        return;
    }
    let place = Place::new();
    place.write("file", common::tree::noise(1, 12_000_000));
    let haul = common::haul().to_str().unwrap();
    let receive = format!("mkdir in && exec {haul} recv in --listen 10.77.0.2:7555 --ticket-file ticket");
    // Rules of a host's own addresses come first, so that this one has to be put before them.
    let send = format!(
        "for i in $(seq 400); do [ -s ticket ] && break; sleep 0.05; done
        {haul} send file @ticket --json --rate 20mbit 2> said > result & sender=$!
        while kill -0 $sender && ! grep -q 'goes over UDP' said; do sleep 0.05; done
        ip rule add pref 10 lookup local && ip rule del pref 0 || exit 99
        ip rule add pref 5 iif haul0 ipproto udp blackhole || exit 98
        wait $sender"
    );

    let spec = "rtt=60ms,rate=50mbit,loss=1%";
    place.haul(["link", spec, "--peer", &receive, "--", "sh", "-c", &send]).with(0);

    let result: Value = serde_json::from_slice(&std::fs::read(place.path("result")).unwrap()).unwrap();
    let to: Vec<_> =
        result["moves"].as_array().unwrap().iter().map(|it| it["to"].as_str().unwrap()).collect();
    assert!(to.starts_with(&["udp", "tcp"]), "{result}");
    assert_eq!(result["transport"], "tcp+udp");
    assert!(std::fs::read(place.path("file")).unwrap() == std::fs::read(place.path("in/file")).unwrap());
}
