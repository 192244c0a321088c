//! What people and programs see: progress on a terminal, lines, one documented object, exit codes.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use common::process::Process;
use common::tree::{noise, sha256};
use common::{Place, haul, skip};
use serde_json::{Value, json};

#[test]
fn the_object_has_every_documented_field_and_no_other() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "file");
    let recv = there.listen(["recv", ".", "--json"]);
    let send = here.start(["send", "file", &recv.ticket, "--json"]).end().with(0).json();
    let recv = recv.end().with(0).json();
    let offer = there.listen(["offer", "file", "--json"]);
    let get = here.start(["get", &offer.ticket, "-o", "back", "--json"]).end().with(0).json();
    let offer = offer.end().with(0).json();

    // Only of failures, only over UDP, and only on Linux.
    let mut not_here: BTreeSet<_> = ["error", "cause", "flow", "raw"].map(str::to_owned).into();
    not_here.extend((!cfg!(target_os = "linux")).then(|| "tcp".to_owned()));
    let documented: BTreeSet<_> = documented_fields().difference(&not_here).cloned().collect();
    for (result, command, role) in [
        (&send, "send", "sender"),
        (&recv, "recv", "receiver"),
        (&offer, "offer", "sender"),
        (&get, "get", "receiver"),
    ] {
        assert_eq!(fields(result), documented, "{command}");
        assert_eq!((&result["command"], &result["role"]), (&json!(command), &json!(role)));
        assert_eq!((&result["version"], &result["transport"]), (&json!(1), &json!("tcp")));
        assert_eq!(
            (&result["files"], &result["bytes"], &result["exit_code"]),
            (&json!(1), &json!(4), &json!(0))
        );
        assert_eq!(fields(&result["not_kept"]), explained_at("not_kept"));
        if cfg!(target_os = "linux") {
            let of_receivers: BTreeSet<_> = ["reads", "reads_inside_frame"].map(str::to_owned).into();
            let not_here = if role == "sender" { of_receivers } else { BTreeSet::new() };
            let explained = explained_at("tcp").difference(&not_here).cloned().collect();
            assert_eq!(fields(&result["tcp"]), explained, "{command}");
        }
        assert_eq!(fields(&result["sender"]), explained_at("sender"));
        assert_eq!(fields(&result["receiver"]), explained_at("sender"));
        assert!(result["peer"].as_str().unwrap().contains("haul/"), "{result}");
        assert!(result["wire_bytes"].as_u64().unwrap() > 4);
    }
}

#[test]
fn a_failure_is_one_line_and_one_object_with_the_code() {
    let (here, there, other) = (Place::new(), Place::new(), Place::new());
    here.write("file", "file");
    let serve = there.listen(["serve", "."]);
    let foreign = other.listen(["serve", "."]);
    let (_, foreign_secret) = foreign.ticket.split_once('#').unwrap();
    let not_theirs = format!("haul://{}#{foreign_secret}", serve.address());
    let nobody = format!("haul://{}#{foreign_secret}", unused_address());
    let cut = &serve.ticket[..serve.ticket.len() - 3];
    let missing = serve.at("missing");
    let cases: [(&[&str], i32, &str); 6] = [
        (&["send", "file", &nobody], 3, "nobody listens there"),
        (&["send", "file", &not_theirs], 4, "another key than expected"),
        (&["send", "file", cut], 2, "the ticket was cut or mistyped"),
        (&["send", "missing", &serve.ticket], 9, "missing: No such file"),
        (&["get", &missing], 9, "missing: No such file"),
        (&["get", &serve.ticket, "--expect", "no-such"], 9, "no-such: cannot read the manifest"),
    ];

    for (arguments, code, message) in cases {
        let people = here.start(arguments).end().with(code);
        let program = here.start([arguments, &["--json"]].concat()).end().with(code);

        assert!(people.stderr.starts_with("haul: ") && people.stderr.contains(message), "{people}");
        assert_eq!((people.stderr.lines().count(), people.stdout.len()), (1, 0), "{people}");
        let object = program.json();
        assert_eq!(object["exit_code"], code);
        assert!(object["error"].as_str().unwrap().contains(message), "{object}");
    }
}

#[test]
fn several_failures_are_named_each_with_its_cause() {
    let (here, there) = (Place::new(), Place::new());
    here.write("tree/good", "good");
    here.write("tree/in-the-way", "in the way");
    std::os::unix::fs::symlink("/etc", here.path("tree/link")).unwrap();
    there.write("tree/in-the-way/x", "a directory");
    let serve = there.listen(["serve", "."]);

    let people = here.start(["send", "tree", &serve.ticket]).end().with(6);
    let program =
        here.start(["send", "tree", &serve.ticket, "--json", "--fail-if-nothing"]).end().with(6).json();

    for name in ["tree/in-the-way", "tree/link"] {
        let starts = format!("haul: {name}: ");
        assert!(people.stderr.lines().any(|line| line.starts_with(&starts)), "{people}");
    }
    assert!(people.stderr.contains("2 of 3 failed") && people.stderr.contains("sent 1 file"), "{people}");
    let failures = program["failures"].as_array().unwrap().iter();
    let mut causes: Vec<_> =
        failures.map(|one| (one["name"].as_str().unwrap(), one["cause"].as_str().unwrap())).collect();
    causes.sort_unstable();
    assert_eq!(causes, [("tree/in-the-way", "file"), ("tree/link", "not_allowed")]);
    assert_eq!((&program["cause"], &program["failed"]), (&json!("some_failed"), &json!(2)));
}

#[test]
fn quiet_is_silent_on_success_and_not_on_failure() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "file");
    let recv = there.listen(["recv", "-q"]);
    let ticket = recv.ticket.clone();

    let send = here.start(["send", "file", &ticket, "-q"]).end().with(0);
    let recv = recv.end().with(0);
    let late = here.start(["send", "file", &ticket, "-q"]).end().with(3);

    assert_eq!((send.stdout.len(), send.stderr.as_str()), (0, ""));
    assert_eq!((String::from_utf8(recv.stdout).unwrap(), recv.stderr.as_str()), (format!("{ticket}\n"), ""));
    assert_eq!(late.stderr.lines().count(), 1);
}

#[test]
fn the_last_line_says_what_happened() {
    let (here, there) = (Place::new(), Place::new());
    here.write("one", noise(1, 1_500_000));
    here.write("two", "two");
    let serve = there.listen(["serve", "."]);

    let one = here.start(["send", "one", &serve.ticket]).end().with(0);
    let both = here.start(["send", "one", "two", &serve.ticket]).end().with(0);

    assert_eq!(
        (one.stdout.len(), one.stderr.lines().count()),
        (0, 1),
        "no progress where there is no terminal"
    );
    assert!(one.stderr.starts_with("haul: sent 1 file, 1.50 MB, in "), "{one}");
    assert!(one.stderr.contains(&format!("sha256 {}", sha256(&noise(1, 1_500_000)))), "{one}");
    assert!(
        both.stderr.contains("sent 1 file, 3 B") && both.stderr.contains("1 unchanged (not compared)"),
        "{both}"
    );
}

#[test]
fn progress_fits_the_window() {
    for columns in [12, 40, 80] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        here.write("tree/a name that is long, with spaces, and \u{1f600} in the middle", noise(2, 6_000_000));
        here.write("tree/short", noise(3, 4_000_000));
        let recv = there.listen(["recv", "."]);

        let shown = on_terminal(&here, columns, "send tree --rate 40mbit", &recv.ticket);

        let Some(shown) = shown else { return };
        let mut rows = Vec::new();
        for drawn in drawn(&shown) {
            let two = rows_of(&drawn, columns);
            assert_eq!(two.len(), 2, "{columns}: {drawn:?}");
            // The last column stays free.
            assert!(two.iter().all(|row| row.ends_with(' ')), "{columns}: {drawn:?}");
            rows.extend(two);
        }
        assert!(rows.iter().any(|row| row.contains('%')), "{columns}: {rows:?}");
        assert!(columns < 40 || rows.iter().any(|row| row.starts_with("sending")), "{columns}: {rows:?}");
        assert!(shown.contains("haul: sent 2 files"), "{shown:?}");
        recv.end().with(0);
    }
}

#[test]
fn progress_is_hidden_from_those_who_do_not_want_it() {
    for option in ["-q", "--json", "--no-progress"] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        here.write("file", noise(2, 2_000_000));
        let serve = there.listen(["serve", "."]);

        let shown = on_terminal(&here, 80, &format!("send file --rate 40mbit {option}"), &serve.ticket);

        let Some(shown) = shown else { return };
        assert!(!shown.contains('\u{1b}'), "{option}: {shown:?}");
        assert_eq!(shown.is_empty(), option == "-q", "{shown:?}");
    }
}

/// What haul writes to a terminal of this width; `None`, and said, where there is no `script` to make one.
fn on_terminal(place: &Place, columns: usize, arguments: &str, ticket: &str) -> Option<String> {
    let probe = Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        skip("the script of util-linux is not installed");
        return None;
    }
    let line = format!("stty cols {columns} rows 24; exec {} {arguments}", haul().display());
    let mut command = place.command("script");
    command.args(["-qec", &line, "/dev/null"]).env("HAUL_TICKET", ticket).env("TERM", "xterm");
    let ended = Process::start(command.stdin(Stdio::null())).end().with(0);
    Some(String::from_utf8(ended.stdout).unwrap())
}

/// What is drawn between two moves of the cursor: the second line begins where the first has filled its row.
fn drawn(shown: &str) -> Vec<String> {
    let mut parts = shown.split('\u{1b}');
    let first = parts.next().unwrap_or_default();
    // A control sequence ends with its first letter.
    let others = parts.map(|part| &part[part.find(|c: char| c.is_ascii_alphabetic()).unwrap() + 1..]);
    let all = [first].into_iter().chain(others).map(|drawn| drawn.trim_start_matches('\r').to_owned());
    all.filter(|drawn| !drawn.is_empty() && !drawn.starts_with("haul: ")).collect()
}

/// The rows of a window that a text fills.
fn rows_of(text: &str, columns: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    let mut used = 0;
    for c in text.chars() {
        let width = if c == '\u{1f600}' { 2 } else { 1 };
        if used + width > columns {
            rows.push(String::new());
            used = 0;
        }
        used += width;
        rows.last_mut().unwrap().push(c);
    }
    rows
}

/// An address at which nobody listens.
fn unused_address() -> SocketAddr {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap()
}

fn fields(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap_or_else(|| panic!("{object}")).keys().cloned().collect()
}

/// The first column of the README's table.
fn documented_fields() -> BTreeSet<String> {
    rows().iter().flat_map(|(names, _)| in_ticks(names)).collect()
}

/// The fields that the README's table explains beside `name`.
fn explained_at(name: &str) -> BTreeSet<String> {
    let rows = rows();
    let row = rows.iter().find(|(names, _)| in_ticks(names).contains(&name.to_owned())).unwrap();
    in_ticks(&row.1).into_iter().collect()
}

fn rows() -> Vec<(String, String)> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, after) = readme.split_once("### JSON").expect("the README documents the object");
    let lines = after.lines().skip_while(|line| !line.starts_with("| `"));
    let cells = lines.take_while(|line| line.starts_with('|')).map(|row| row.split('|').skip(1));
    cells.map(|mut cells| (cells.next().unwrap().to_owned(), cells.next().unwrap().to_owned())).collect()
}

fn in_ticks(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
