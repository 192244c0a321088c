//! A standing server: many clients, one after another and at once; tickets that survive; listings.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use common::process::{Process, Server};
use common::tree::{self, noise, set_mtime, sha256};
use common::{Place, haul};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn clients_come_one_after_another_and_twenty_at_once() {
    let there = Place::new();
    there.write("common", noise(1, 2 << 20));
    let serve = there.listen(["serve", "."]);
    let clients: Vec<Place> = (0..20).map(|_| Place::new()).collect();
    let name = |number: usize| format!("from-{number}");
    for (number, client) in clients.iter().enumerate() {
        client.write(name(number), noise(number as u64 + 100, 2 << 20));
    }

    for (number, client) in clients.iter().enumerate().take(5) {
        client.start(["send", &name(number), &serve.at("early")]).end().with(0);
    }
    let running: Vec<_> = clients
        .iter()
        .enumerate()
        .flat_map(|(number, client)| {
            let send = client.start(["send", &name(number), &serve.ticket, "--json"]);
            let get = client.start(["get", &serve.at("common")]);
            [(Some(number), send), (None, get)]
        })
        .collect();
    for (number, process) in running {
        let ended = process.end().with(0);
        if let Some(number) = number {
            assert_eq!(ended.json()["digest"], json!(sha256(&noise(number as u64 + 100, 2 << 20))));
        }
    }

    for (number, client) in clients.iter().enumerate() {
        let sent = fs::read(client.path(name(number))).unwrap();
        assert!(fs::read(there.path(name(number))).unwrap() == sent);
        assert!(fs::read(client.path("common")).unwrap() == noise(1, 2 << 20));
    }
    assert_eq!(tree::names(&there.path("early")).len(), 5);
}

#[test]
fn two_writers_of_one_name_do_not_mix() {
    let there = Place::in_memory();
    let serve = there.listen(["serve", ".", "--overwrite", "always"]);
    let clients = [Place::in_memory(), Place::in_memory()];
    for (client, seed) in clients.iter().zip([1, 2]) {
        client.write("same", noise(seed, 10_000_000));
    }

    let sends: Vec<_> = clients
        .iter()
        .map(|client| {
            client.start(["send", "same", &serve.ticket, "--overwrite", "always", "--rate", "200mbit"])
        })
        .collect();
    let ended: Vec<_> = sends.into_iter().map(Process::end).collect();

    let done: Vec<_> = ended.iter().map(|ended| ended.code == 0).collect();
    assert!(done.contains(&true), "{} {}", ended[0], ended[1]);
    for ended in ended.iter().filter(|ended| ended.code != 0) {
        assert!(ended.code == 9 && ended.stderr.contains("same: "), "{ended}");
    }
    let there = fs::read(there.path("same")).unwrap();
    assert!([1, 2].iter().any(|&seed| there == noise(seed, 10_000_000)));
}

#[test]
fn a_server_may_be_for_reading_or_for_dropping_only() {
    let (here, there) = (Place::new(), Place::new());
    here.write("mine", "mine");
    there.write("theirs", "theirs");
    let reading = there.listen(["serve", ".", "--read-only"]);
    assert!(here.start(["send", "mine", &reading.ticket]).end().with(4).stderr.contains("read-only"));
    here.start(["get", &reading.at("theirs")]).end().with(0);
    reading.process.kill();

    let dropping = there.listen(["serve", ".", "--drop-only"]);
    for command in ["get", "ls"] {
        let ended = here.start([command, &dropping.at("theirs")]).end().with(4);
        assert!(ended.stderr.contains("only takes files"), "{ended}");
    }
    here.start(["send", "mine", &dropping.ticket]).end().with(0);

    assert_eq!(tree::names(&there.path("")), ["mine", "theirs"]);
}

#[test]
fn recv_and_offer_say_what_they_are_for() {
    let (here, there) = (Place::new(), Place::new());
    here.write("mine", "mine");
    there.write("theirs", "theirs");
    let recv = there.listen(["recv"]);
    let offer = there.listen(["offer", "theirs"]);

    let get = here.start(["get", &recv.ticket]).end().with(4);
    let send = here.start(["send", "mine", &offer.ticket]).end().with(4);
    let part = here.start(["get", &offer.at("part")]).end().with(9);

    assert!(get.stderr.contains("use `haul send`"), "{get}");
    assert!(send.stderr.contains("get it with `haul get`"), "{send}");
    assert!(part.stderr.contains("leave the path out of the ticket"), "{part}");
    here.start(["get", &offer.ticket]).end().with(0);
    offer.end().with(0);
}

#[test]
fn listings_show_what_is_there() {
    let (here, there) = (Place::new(), Place::new());
    there.write("tree/sub/file", "12345");
    there.write("tree/.hidden", "");
    there.write("top", noise(1, 1_500_000));
    there.write(b"odd\n\xff", "odd");
    there.write(".haul-0123", "unfinished");
    std::os::unix::fs::symlink("tree/sub", there.path("link")).unwrap();
    fs::set_permissions(there.path("top"), fs::Permissions::from_mode(0o640)).unwrap();
    set_mtime(&there.path("top"), 951_782_400, 0);
    let serve = there.listen(["serve", "."]);
    let names = |arguments: &[&str]| {
        let ended = here.start([&["ls", "--json"][..], arguments].concat()).end().with(0);
        let listed = ended.json();
        assert_eq!(
            (&listed["version"], &listed["command"], &listed["exit_code"]),
            (&json!(1), &json!("ls"), &json!(0))
        );
        let entries = listed["entries"].as_array().unwrap().clone();
        let mut names: Vec<_> =
            entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        (names, entries)
    };

    let (top, entries) = names(&[&serve.ticket]);
    let (all, _) = names(&[&serve.ticket, "-r"]);
    let (below, _) = names(&[&serve.at("tree")]);
    let (file, _) = names(&[&serve.at("tree/sub/file")]);
    let (matching, _) = names(&[&serve.at("t*")]);
    let people = here.start(["ls", &serve.ticket]).end().with(0);
    let missing = here.start(["ls", &serve.at("missing")]).end().with(9);

    assert_eq!(top, ["link", "odd\\n\\xff", "top", "tree"]);
    assert_eq!(all, ["link", "odd\\n\\xff", "top", "tree", "tree/.hidden", "tree/sub", "tree/sub/file"]);
    assert_eq!(below.len(), 2, "{below:?}");
    assert_eq!(file.len(), 1, "{file:?}");
    assert_eq!(matching, ["top", "tree"]);
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap();
    assert_eq!(
        *entry("top"),
        json!({"name": "top", "kind": "file", "size": 1_500_000, "mode": 0o640, "mtime_s": 951_782_400})
    );
    assert_eq!((&entry("link")["kind"], &entry("link")["target"]), (&json!("link"), &json!("tree/sub")));
    assert_eq!(
        (&entry("tree")["kind"], &entry("odd\\n\\xff")["name_hex"]),
        (&json!("directory"), &json!("6f64640aff"))
    );
    let people = String::from_utf8(people.stdout).unwrap();
    assert!(people.contains("-rw-r-----    1.50 MB  2000-02-29 00:00  top\n"), "{people}");
    assert_eq!(people.lines().count(), 4, "{people}");
    assert!(missing.stderr.contains("missing: No such file"), "{missing}");
}

#[test]
fn a_long_listing_is_whole() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    for number in 0..30_000 {
        fs::File::create(there.path(format!("{number:05}"))).unwrap();
    }
    let serve = there.listen(["serve", "."]);

    let listed = here.start(["ls", &serve.ticket]).end().with(0);

    let names: Vec<_> = listed.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(names.len(), 30_000);
    let mut last: Vec<_> = names.iter().map(|line| &line[line.len() - 5..]).collect();
    last.sort_unstable();
    last.dedup();
    assert_eq!(last.len(), 30_000);
}

#[test]
fn the_ticket_of_a_server_survives_it_and_ends_when_asked() {
    let (here, there) = (Place::new(), Place::new());
    there.write("file", "file");
    let first = there.listen(["serve", "."]);
    let old = first.ticket.clone();
    first.process.signal(Signal::TERM);
    let ended = first.end().with(130);
    assert!(ended.stderr.contains("the same command goes on with the same ticket"), "{ended}");

    let second = there.listen(["serve", "."]);
    assert_eq!(second.ticket, old);
    here.start(["get", &second.at("file")]).end().with(0);
    second.process.kill();
    let third = there.listen(["serve", ".", "--new-ticket"]);
    let port = third.address();

    assert_ne!(third.ticket, old);
    let (_, old_secret) = old.split_once('#').unwrap();
    let refused =
        here.start(["get", &format!("haul://{port}/file#{old_secret}"), "-o", "again"]).end().with(4);
    assert!(refused.stderr.contains("not allowed"), "{refused}");
    here.start(["get", &third.at("file"), "-o", "again"]).end().with(0);
}

#[test]
fn a_one_time_ticket_survives_a_crash_and_ends_with_its_transfer() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "file");
    there.write("offered", "offered");

    for (command, client) in [("recv", "send"), ("offer", "get")] {
        let arguments = if command == "recv" { ["recv", "."] } else { ["offer", "offered"] };
        let first = there.listen(arguments);
        let ticket = first.ticket.clone();
        first.process.kill();
        let second = there.listen(arguments);
        assert_eq!(second.ticket, ticket, "{command}");
        let used: &[&str] = if client == "send" { &["send", "file", &ticket] } else { &["get", &ticket] };

        here.start(used).end().with(0);

        second.end().with(0);
        let third = there.listen(arguments);
        assert_ne!(third.ticket, ticket, "{command}");
        let (_, old_secret) = ticket.split_once('#').unwrap();
        let late = format!("haul://{}#{old_secret}", third.address());
        let late: &[&str] = if client == "send" { &["send", "file", &late] } else { &["get", &late] };
        here.start(late).end().with(4);
    }
}

#[test]
fn a_ticket_is_written_for_its_owner_alone_and_kept_out_of_results() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "file");
    let mut recv = there.start(["recv", ".", "--listen", "127.0.0.1:0", "--ticket-file", "ticket", "--json"]);
    recv.line_with("listening on");
    recv.line_with("on the other machine");

    let mode = fs::metadata(there.path("ticket")).unwrap().permissions().mode();
    let ticket = fs::read_to_string(there.path("ticket")).unwrap();
    fs::copy(there.path("ticket"), here.path("ticket")).unwrap();
    here.start(["send", "file", "@ticket"]).end().with(0);

    let (_, secret) = ticket.trim_end().split_once('#').unwrap();
    let ended = recv.end().with(0);
    assert_eq!(mode & 0o777, 0o600);
    assert!(
        !ended.stderr.contains(secret) && !String::from_utf8_lossy(&ended.stdout).contains(secret),
        "{ended}"
    );
}

#[test]
fn a_server_takes_its_options_from_a_file() {
    let (here, there) = (Place::new(), Place::new());
    there.write("root/file", "old");
    here.write("file", "new");
    there.write("options", "# how we serve\nlisten = 127.0.0.1:0\n\n overwrite=always\nopen\n");
    let start = |arguments: &[&str]| Server::start_as_it_is(there.command(haul()).args(arguments));

    let serve = start(&["serve", "root", "--config", "options"]);
    let send = here.start(["send", "file", &serve.ticket, "--overwrite", "always", "--json"]).end().with(0);
    assert_eq!(send.json()["files"], 1);
    serve.process.kill();
    // The command line is stronger.
    let serve = start(&["serve", "--config", "options", "root", "--overwrite", "never"]);
    here.write("file", "newer");
    let send = here.start(["send", "file", &serve.ticket, "--overwrite", "always", "--json"]).end().with(0);

    assert_eq!(send.json()["kept"], 1);
    assert_eq!(fs::read(there.path("root/file")).unwrap(), b"new");
    there.write("wrong", "no-such-option = 1\n");
    let wrong = there.start(["serve", "root", "--config", "wrong"]).end().with(2);
    assert!(wrong.stderr.contains("wrong: ") && wrong.stderr.contains("--no-such-option"), "{wrong}");
    there.start(["serve", "root", "--config", "missing"]).end().with(9);
}

#[test]
fn a_server_refuses_more_sessions_than_it_may_run() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "file");
    let serve = there.listen(["serve", ".", "--max-sessions", "1", "-v"]);

    let mut command = here.command(haul());
    command.args(["send", "-", "--name", "slow", &serve.ticket]);
    let mut slow = Process::start(command.stdin(Stdio::piped()));
    let mut serve = serve;
    serve.process.line_with("connected");
    let refused = here.start(["send", "file", &serve.ticket]).end().with(9);
    drop(slow.stdin());
    slow.end().with(0);
    serve.process.line_with("received 1 file");
    here.start(["send", "file", &serve.ticket]).end().with(0);

    assert!(refused.stderr.contains("as many sessions as it may; try again later"), "{refused}");
}

#[test]
fn a_used_port_is_said_in_one_line() {
    let there = Place::new();
    let serve = there.listen(["serve", "."]);
    let address = serve.address().to_string();

    for arguments in [["serve", "."], ["recv", "."]] {
        let other = Place::new();
        let second = other.start([&arguments[..], &["--listen", &address]].concat()).end().with(3);
        assert_eq!(second.stderr.lines().count(), 1);
        assert!(second.stderr.contains("the port is in use"), "{second}");
        let json = other.start([&arguments[..], &["--listen", &address, "--json"]].concat()).end().with(3);
        assert_eq!(json.json()["exit_code"], 3);
    }
}

#[test]
fn known_servers_need_no_ticket_any_more_if_they_know_us() {
    let (here, there) = (Place::new(), Place::new());
    there.write("dir/file", "file");
    let open = there.listen(["serve", ".", "--open"]);
    let address = open.address();

    let unknown = here.start(["get", &format!("haul://{address}/dir/file")]).end().with(4);
    here.start(["ls", &open.ticket]).end().with(0);
    here.start(["get", &format!("haul://{address}/dir/file")]).end().with(0);
    here.start(["send", "file", &format!("haul://{address}/dir/back")]).end().with(0);
    open.process.kill();
    let closed = there.listen(["serve", "."]);
    assert_eq!(closed.address(), address);
    let refused = here.start(["get", &format!("haul://{address}/dir/file"), "-o", "x"]).end().with(4);

    assert!(unknown.stderr.contains("its key is not known"), "{unknown}");
    assert!(refused.stderr.contains("not allowed"), "{refused}");
    assert!(there.path("dir/back/file").exists());
}

#[test]
fn an_interrupt_ends_in_order_on_both_sides() {
    for is_sender in [true, false] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        here.write("big", noise(1, 30_000_000));
        let mut recv = there.listen(["recv", ".", "-v"]);
        let ticket = recv.ticket.clone();
        let send = here.start(["send", "big", &ticket, "--rate", "40mbit", "--json"]);
        recv.process.line_with("connected");

        if is_sender {
            send.signal(Signal::INT);
            let ended = send.end().with(130);
            assert_eq!(ended.json()["cause"], "interrupted");
            assert!(ended.stderr.contains("run the same command again"), "{ended}");
            recv.process.line_with("still waiting, with the same ticket");
            here.start(["send", "big", &ticket]).end().with(0);
            recv.end().with(0);
            tree::assert_same(&here.path(""), &there.path(""));
        } else {
            recv.process.signal(Signal::TERM);
            recv.end().with(130);
            let ended = send.end().with(3);
            assert!(ended.stderr.contains("was interrupted there"), "{ended}");
            assert!(tree::names(&there.path("")).is_empty());
        }
    }
}
