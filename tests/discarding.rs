//! A server that throws away what it takes, for who measures the way there: nothing is kept, nothing is touched.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use common::tree::{noise, sha256};
use common::{Place, haul, run};
use serde_json::json;

const BYTES: usize = 3_000_000;

/// protocol.md [DISCARD-2]
#[test]
fn every_transport_delivers_a_file_of_which_nothing_is_kept() {
    let content = noise(1, BYTES);
    for (transport, plain) in [("tcp", false), ("tcp", true), ("udp", false)] {
        let (here, there) = (Place::new(), Place::new());
        here.write("file", &content);
        there.write("kept/file", "what was there");
        let plain: &[&str] = if plain { &["--plain"] } else { &[] };
        let serve = there.listen([&["serve", ".", "--discard", "10MB", "-v"], plain].concat());
        let before = snapshot(&there.path(""));

        let options = ["--transport", transport, "--streams", "4", "--json"];
        let send = [&["send", "file", &serve.ticket, "--discard"], &options[..], plain].concat();
        let sent = here.start(send).end().with(0).json();

        assert_eq!((&sent["digest"], &sent["bytes"]), (&json!(sha256(&content)), &json!(BYTES)), "{sent}");
        assert_eq!(
            (&sent["discarded"], &sent["synced"], &sent["confirmed"]),
            (&json!(true), &json!(false), &json!(true))
        );
        assert_eq!((&sent["transport"], &sent["bytes_moved"]), (&json!(transport), &json!(BYTES)), "{sent}");
        let mut serve = serve;
        let line = serve.process.line_with("received, checked and thrown away");
        assert!(!line.contains("not synced"), "{line}");
        assert_eq!(snapshot(&there.path("")), before, "{transport}");
    }
}

#[test]
fn a_raw_flow_is_counted_and_leaves_no_damaged_file() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(2, BYTES));
    let serve = there.listen(["serve", ".", "--discard", "10MB"]);
    let before = snapshot(&there.path(""));

    // So fast that some of it is lost wherever that is possible.
    let options = ["--transport", "udp-raw", "--rate", "20gbit", "--json"];
    let ended = here.start([&["send", "file", &serve.ticket, "--discard"], &options[..]].concat()).end();

    let sent = ended.json();
    assert!([0, 5].contains(&ended.code), "{ended}");
    assert_eq!((&sent["transport"], &sent["discarded"]), (&json!("udp-raw"), &json!(true)), "{sent}");
    let raw = &sent["raw"];
    let number = |field: &str| raw[field].as_u64().unwrap_or_else(|| panic!("no {field}: {sent}"));
    assert!(number("sent") > 2000 && number("received") <= number("sent"), "{sent}");
    assert_eq!(number("intact_files") + number("damaged_files"), 1, "{sent}");
    assert!((number("missing_bytes") > 0) <= (ended.code == 5), "{sent}");
    assert_eq!(snapshot(&there.path("")), before);
}

#[test]
fn a_tree_with_any_names_and_kinds_leaves_nothing() {
    let (here, there) = (Place::new(), Place::new());
    for name in [&b"t/a"[..], b"t/sub/deep/b", b"t/\xff\n", b"t/ "] {
        here.write(name, "content");
    }
    fs::create_dir(here.path("t/empty")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", here.path("t/link")).unwrap();
    fs::hard_link(here.path("t/a"), here.path("t/z")).unwrap();
    there.write("t/a", "what was there, and is no business of who measures");
    let serve = there.listen(["serve", ".", "--read-only", "--discard", "1MB"]);
    let before = snapshot(&there.path(""));

    let sent = here.start(["send", "t", &serve.ticket, "--discard", "--json"]).end().with(0).json();

    assert_eq!(
        (&sent["files"], &sent["failed"], &sent["unchanged"]),
        (&json!(6), &json!(0), &json!(0)),
        "{sent}"
    );
    assert_eq!(snapshot(&there.path("")), before);
}

#[test]
fn the_root_may_be_one_that_nobody_can_write_to() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(3, BYTES));
    let Some(mut command) = there.command_of_nobody() else { return };
    fs::set_permissions(there.path(""), fs::Permissions::from_mode(0o555)).unwrap();
    let before = snapshot(&there.path(""));
    let serve =
        common::process::Server::start(command.args(["serve", ".", "--read-only", "--discard", "10MB"]));

    let line = here.start(["send", "file", &serve.ticket, "--discard"]).end().with(0).stderr;
    let refused = here.start(["send", "file", &serve.ticket]).end().with(4);

    assert!(line.contains("received, checked and thrown away there"), "{line}");
    assert!(refused.stderr.contains("read-only"), "{refused}");
    assert_eq!(snapshot(&there.path("")), before);
}

/// protocol.md [DISCARD-1]
#[test]
fn a_server_that_was_not_told_to_refuses_and_says_which_option_is_missing() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "content");
    for command in [&["serve", "."][..], &["serve", ".", "--read-only"], &["recv"], &["offer", "."]] {
        let server = there.listen(command);
        let before = snapshot(&there.path(""));

        let refused = here.start(["send", "file", &server.ticket, "--discard"]).end().with(4);

        assert!(
            refused.stderr.contains("haul serve") && refused.stderr.contains("--discard SIZE"),
            "{refused}"
        );
        assert_eq!(snapshot(&there.path("")), before);
    }
}

/// protocol.md [DISCARD-3]
#[test]
fn what_goes_beyond_the_bound_is_refused_before_its_data() {
    let (here, there) = (Place::new(), Place::new());
    here.write("fits", noise(4, 1_000_000));
    here.write("large", noise(5, 1_000_001));
    here.write("small", "x");
    let serve = there.listen(["serve", ".", "--discard", "1MB"]);
    let before = snapshot(&there.path(""));
    let send = |names: &[&str]| {
        here.start([&["send"], names, &[&serve.ticket, "--discard", "--json"]].concat()).end()
    };

    send(&["fits"]).with(0);
    let large = send(&["large"]).with(8);
    let both = send(&["fits", "small"]).with(6);

    assert!(large.stderr.contains("only 1000000 are left") && large.stderr.contains("--discard"), "{large}");
    assert_eq!((&large.json()["bytes_moved"], &large.json()["cause"]), (&json!(0), &json!("no_space")));
    assert_eq!((&both.json()["files"], &both.json()["failures"][0]["name"]), (&json!(1), &json!("small")));
    // Of a stream, nobody knows the size before its end.
    let stream = ["send", "-", "--name", "stream", &serve.ticket, "--discard"];
    run(here.command(haul()).args(stream), &noise(6, 1_000_000)[..60_000]).with(0);
    let serve = there.listen(["serve", ".", "--discard", "1kB"]);
    let stream = ["send", "-", "--name", "stream", &serve.ticket, "--discard"];
    run(here.command(haul()).args(stream), &[7; 1001]).with(8);
    run(here.command(haul()).args(stream), &[7; 1000]).with(0);
    assert_eq!(snapshot(&there.path("")), before);
}

#[test]
fn an_option_that_has_no_meaning_beside_it_is_a_usage_error() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", "content");
    let serve = there.listen(["serve", ".", "--discard", "1MB"]);

    for option in ["--dry-run", "--checksum"] {
        here.start(["send", "file", &serve.ticket, "--discard", option]).end().with(2);
    }
    let path = here.start(["send", "file", &serve.at("sub"), "--discard"]).end().with(2);
    assert!(path.stderr.contains("leave the path out"), "{path}");
    let size = there.start(["serve", ".", "--discard", "10"]).end().with(2);
    assert!(size.stderr.contains("it needs a unit such as"), "{size}");
    here.start(["send", "file", &serve.ticket]).end().with(0);
    assert!(there.path("file").exists(), "without the option it is a server as any other");
}

/// Everything below a directory with content, modes, and times of change to the nanosecond, the directory's own too.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, (metadata.mode(), metadata.ctime(), metadata.ctime_nsec(), content));
    }
    all
}
