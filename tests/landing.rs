//! Where things land, under which name, and what they may replace: as with rsync, and as the policy says.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use common::process::{Process, Server};
use common::tree::{self, set_mtime};
use common::{Ended, Place, haul};
use serde_json::{Value, json};

/// Of everything here that is compared by time.
const NOON: i64 = 1_700_000_000;

#[test]
fn what_is_sent_lands_as_with_rsync() {
    let cases: [(&[&str], &str, &[&str]); 8] = [
        (&["tree"], "", &["tree", "tree/a", "tree/sub", "tree/sub/b"]),
        (&["tree/"], "", &["a", "sub", "sub/b"]),
        (&["tree/."], "", &["a", "sub", "sub/b"]),
        (&["tree/sub/b"], "", &["b"]),
        (&["tree/sub", "file"], "", &["file", "sub", "sub/b"]),
        (&["tree/sub/", "file"], "", &["b", "file"]),
        (&["file"], "deep/down", &["deep", "deep/down", "deep/down/file"]),
        (&["tree/sub/"], "deep", &["deep", "deep/b"]),
    ];

    for (sources, below, wanted) in cases {
        let (here, there) = (small_tree(), Place::new());
        let serve = there.listen(["serve", "."]);
        let ticket = if below.is_empty() { serve.ticket.clone() } else { serve.at(below) };

        let send = here.start([&["send"][..], sources, &[&ticket]].concat()).end();

        send.with(0);
        assert_eq!(tree::names(&there.path("")), wanted, "{sources:?} {below}");
    }
}

#[test]
fn what_is_got_lands_as_with_rsync() {
    let cases: [(&[&str], Option<&str>, &[&str]); 16] = [
        (&["tree"], None, &["old", "tree", "tree/a", "tree/sub", "tree/sub/b"]),
        (&["tree/"], None, &["a", "old", "sub", "sub/b"]),
        (&["tree"], Some("new"), &["new", "new/a", "new/sub", "new/sub/b", "old"]),
        (&["tree/"], Some("new"), &["new", "new/a", "new/sub", "new/sub/b", "old"]),
        (
            &["tree"],
            Some("new/"),
            &["new", "new/tree", "new/tree/a", "new/tree/sub", "new/tree/sub/b", "old"],
        ),
        (&["tree"], Some("old"), &["old", "old/tree", "old/tree/a", "old/tree/sub", "old/tree/sub/b"]),
        (&["tree"], Some("old/"), &["old", "old/tree", "old/tree/a", "old/tree/sub", "old/tree/sub/b"]),
        (&["tree/sub/"], Some("old"), &["old", "old/b"]),
        (&["tree/sub/b"], None, &["b", "old"]),
        (&["tree/sub/b"], Some("c"), &["c", "old"]),
        (&["file"], Some("old/"), &["old", "old/file"]),
        (&["file", "tree/sub"], Some("new"), &["new", "new/file", "new/sub", "new/sub/b", "old"]),
        (&["*.log"], None, &["old", "one.log", "two.log"]),
        (&["t*/s?b/[ab]"], None, &["b", "old"]),
        (&["*/sub"], Some("old"), &["old", "old/sub", "old/sub/b"]),
        (&["a%20name%2541"], None, &["a name%41", "old"]),
    ];

    let there = small_tree();
    for name in ["one.log", "two.log", "three.txt", "a name%41"] {
        there.write(name, name);
    }
    let serve = there.listen(["serve", "."]);
    for (sources, output, wanted) in cases {
        let here = Place::new();
        fs::create_dir(here.path("old")).unwrap();
        let mut arguments = vec!["get".to_owned()];
        arguments.extend(sources.iter().map(|source| serve.at(source)));
        arguments.extend(output.into_iter().flat_map(|output| ["-o".to_owned(), output.to_owned()]));

        here.start(&arguments).end().with(0);

        assert_eq!(tree::names(&here.path("")), wanted, "{sources:?} {output:?}");
    }
}

#[test]
fn an_offer_comes_whole_and_may_be_renamed_on_the_way() {
    let cases: [(&[&str], Option<&str>, &[&str]); 4] = [
        (&["tree"], None, &["tree", "tree/a", "tree/sub", "tree/sub/b"]),
        (&["tree"], Some("new"), &["new", "new/a", "new/sub", "new/sub/b"]),
        (&["file"], Some("new"), &["new"]),
        (&["file", "tree/sub/"], Some("new/"), &["new", "new/b", "new/file"]),
    ];

    for (offered, output, wanted) in cases {
        let (here, there) = (Place::new(), small_tree());
        let offer = there.listen([&["offer"][..], offered].concat());
        let output = output.into_iter().flat_map(|output| ["-o", output]);

        here.start(["get", &offer.ticket].into_iter().chain(output)).end().with(0);

        offer.end().with(0);
        assert_eq!(tree::names(&here.path("")), wanted, "{offered:?}");
    }
}

#[test]
fn tickets_come_from_the_environment_and_from_files_too() {
    let (here, there) = (Place::new(), small_tree());
    let serve = there.listen(["serve", "."]);
    fs::write(here.path("ticket"), format!("{}\n", serve.ticket)).unwrap();
    here.write("mine", "mine");
    let with_variable = |arguments: &[&str]| {
        let mut command = here.command(haul());
        command.args(arguments).env("HAUL_TICKET", &serve.ticket).stdin(Stdio::null());
        Process::start(&mut command).end()
    };

    with_variable(&["get", "file", "tree/sub/b"]).with(0);
    with_variable(&["send", "mine"]).with(0);
    with_variable(&["get", "tree", "-o", "all"]).with(0);
    let from_file = here.start(["send", "ticket", "@ticket"]).end();

    from_file.with(0);
    assert_eq!(tree::names(&here.path("all")), ["a", "sub", "sub/b"]);
    for (place, name) in [(&here, "file"), (&here, "b"), (&there, "mine"), (&there, "ticket")] {
        assert!(place.path(name).exists(), "{name}");
    }
    assert!(with_variable(&["ls"]).with(0).stdout.ends_with(b"  tree/\n"));
}

#[test]
fn a_wrong_target_is_said_before_anything_moves() {
    let (here, there) = (Place::new(), small_tree());
    let serve = there.listen(["serve", "."]);
    let other = Place::new();
    let second = other.listen(["serve", "."]);
    here.write("file", "mine");
    let (at_tree, at_file) = (serve.at("tree"), serve.at("file"));

    let cases: [(&[&str], i32, &str); 8] = [
        (&["get", &at_tree, "-o", "file/"], 9, "is a file, and a directory is needed"),
        (&["get", &at_tree, &at_file, "-o", "file"], 9, "is a file, and a directory is needed"),
        (&["get", &at_tree, &second.at("x")], 2, "one server"),
        (&["get", &at_file, &at_tree, "-o", "-"], 2, "one file"),
        (&["get", &serve.at("nothing")], 9, "nothing: No such file"),
        (&["send", "no-such-file", &serve.ticket], 9, "no-such-file: No such file"),
        (&["send", "file", "file"], 2, "where to?"),
        (&["send", &serve.ticket], 2, "what?"),
    ];

    for (arguments, code, message) in cases {
        let ended = here.start(arguments).end().with(code);
        assert!(ended.stderr.contains(message), "{arguments:?} {ended}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended}");
    }
    assert_eq!(tree::names(&here.path("")), ["file"]);
    assert_eq!(fs::read(here.path("file")).unwrap(), b"mine");
}

/// protocol.md [ENTRY-7]
#[test]
fn what_cannot_be_listed_is_told_to_whoever_asked() {
    let there = small_tree();
    let serve = there.listen(["serve", "."]);
    for command in ["ls", "get"] {
        let here = Place::new();
        for (source, code) in [("nothing", 9), ("no*match", 9), ("../out", 4), ("a//b", 4)] {
            let ended = here.start([command, &serve.at(source)]).end().with(code);
            assert!(ended.stderr.starts_with(&format!("haul: {source}: ")), "{ended}");
        }
    }
    let here = Place::new();
    let some = here.start(["get", &serve.at("nothing"), &serve.at("file"), "--json"]).end().with(6).json();
    assert_eq!(
        (&some["files"], &some["failed"], &some["failures"][0]["name"]),
        (&json!(1), &json!(1), &json!("nothing"))
    );
    serve.process.kill();

    fs::set_permissions(there.path("tree/sub"), fs::Permissions::from_mode(0o000)).unwrap();
    let Some(mut serve) = there.command_of_nobody() else { return };
    let mut serve = Server::start(serve.args(["serve", "."]));
    let here = Place::new();
    let got = here.start(["get", &serve.at("tree"), "--json"]).end().with(6).json();
    let mine = serve.process.line_with("1 of");

    assert_eq!(got["failures"][0]["name"], "tree/sub");
    assert!(got["failures"][0]["reason"].as_str().unwrap().contains("ermission denied"), "{got}");
    assert!(mine.contains("tree/sub"), "{mine}");
    assert_eq!(files_in(&here.path("")), ["tree/a"]);
}

#[test]
fn patterns_choose_what_is_sent_and_what_is_got() {
    let files = ["t/a.rs", "t/b.txt", "t/target/c.rs", "t/src/d.rs", "t/src/e.txt", "t/.git/f.rs"];
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--include", "*.rs"], &["t/.git/f.rs", "t/a.rs", "t/src/d.rs", "t/target/c.rs"]),
        (&["--include", "*.rs", "--exclude", "target/"], &["t/.git/f.rs", "t/a.rs", "t/src/d.rs"]),
        (&["--include", "*.rs", "--exclude", "target", "--exclude", ".git"], &["t/a.rs", "t/src/d.rs"]),
        (&["--include", "t/src/*"], &["t/src/d.rs", "t/src/e.txt"]),
        (&["--exclude", "t/src/**", "--exclude", "*.txt"], &["t/.git/f.rs", "t/a.rs", "t/target/c.rs"]),
        (&["--exclude", "*"], &[]),
    ];

    for (patterns, wanted) in cases {
        let (here, there) = (Place::new(), Place::new());
        files.iter().for_each(|name| here.write(name, name));
        let serve = there.listen(["serve", "."]);

        here.start([&["send", "t", &serve.ticket][..], patterns].concat()).end().with(0);
        let back = Place::new();
        files.iter().for_each(|name| there.write(name, name));
        back.start([&["get", &serve.at("t")][..], patterns].concat()).end().with(0);

        assert_eq!(files_in(&back.path("")), wanted, "get {patterns:?}");
    }
    let (here, there) = (Place::new(), Place::new());
    files.iter().for_each(|name| here.write(name, name));
    let serve = there.listen(["serve", "."]);
    here.start(["send", "t", &serve.ticket, "--include", "*.rs", "--exclude", "target/"]).end().with(0);
    assert_eq!(files_in(&there.path("")), ["t/.git/f.rs", "t/a.rs", "t/src/d.rs"]);
    let bad = here.start(["send", "t", &serve.ticket, "--exclude", "[z-a]"]).end();
    assert!(bad.with(2).stderr.contains("the pattern `[z-a]` is not valid"));
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would() {
    let (here, there) = (small_tree(), Place::new());
    there.write("tree/a", "old");
    let serve = there.listen(["serve", ".", "--overwrite", "different"]);
    let before = tree::look(&there.path(""));

    let send =
        here.start(["send", "tree", "file", &serve.at("new/sub"), "--dry-run", "--json"]).end().with(0);
    let over = here.start(["send", "tree", &serve.ticket, "--dry-run"]).end().with(0);

    assert_eq!((&send.json()["planned"], &send.json()["files"]), (&json!(3), &json!(0)));
    assert!(over.stderr.contains("would have sent 2 files"), "{over}");
    tree::assert_trees_same(&before, &tree::look(&there.path("")));

    let back = Place::new();
    back.write("file", "old");
    let before = tree::look(&back.path(""));
    for output in ["new", "new/", "."] {
        let get = back.start(["get", &serve.at("tree"), "-o", output, "--dry-run", "--json"]).end();
        assert_eq!(get.with(0).json()["planned"], 1, "{output}");
    }
    let contents = back.start(["get", &serve.at("tree/"), "-o", "new", "--dry-run"]).end().with(0);
    assert!(contents.stderr.contains("would have received 1 file"), "{contents}");
    tree::assert_trees_same(&before, &tree::look(&back.path("")));
}

#[test]
fn a_second_run_skips_what_is_there() {
    let (here, there) = (small_tree(), Place::new());
    let serve = there.listen(["serve", ".", "--overwrite", "different"]);
    let send = || here.start(["send", "tree", &serve.ticket, "--json"]).end().with(0).json();
    let back = Place::new();
    let get = || back.start(["get", &serve.at("tree"), "--json"]).end().with(0).json();

    let (first_send, second_send, first_get, second_get) = (send(), send(), get(), get());

    for (first, second) in [(first_send, second_send), (first_get, second_get)] {
        assert_eq!(counts(&first), [2, 0, 0, 0]);
        assert_eq!(counts(&second), [0, 2, 0, 0]);
        assert_eq!(second["bytes"], 0);
    }
    let people = here.start(["send", "tree", &serve.ticket]).end().with(0);
    assert!(people.stderr.contains("2 unchanged (not compared)"), "{people}");
    let nothing = here.start(["send", "tree/a", &serve.at("tree"), "--fail-if-nothing", "--json"]).end();
    assert_eq!(nothing.with(13).json()["error"], "there was nothing to do");
}

#[test]
fn what_failed_is_retried_alone() {
    for is_send in [true, false] {
        let (source, target) = (Place::new(), Place::new());
        let strange: &[u8] = b"tree/{b,c}*\\\xff";
        for name in [&b"tree/a"[..], strange, b"tree/sub/c"] {
            source.write(name, "right");
        }
        // Directories stand where files are to go.
        for name in [&b"tree/a"[..], strange] {
            fs::create_dir_all(target.path(name)).unwrap();
        }
        let serve = if is_send { &target } else { &source }.listen(["serve", "."]);
        let run = |further: &[&str]| {
            let (place, arguments) = if is_send {
                (&source, vec!["send", "tree", &serve.ticket, "--json"])
            } else {
                (&target, vec!["get", serve.at("tree").leak() as &str, "--json"])
            };
            place.start([arguments, further.to_vec()].concat()).end()
        };

        let first = run(&[]).with(6);
        let earlier = if is_send { &source } else { &target };
        earlier.write("result.json", &first.stdout);
        source.write("tree/new", "not asked for");
        for name in [&b"tree/a"[..], strange] {
            fs::remove_dir(target.path(name)).unwrap();
        }
        let retry = run(&["--retry-failed", "result.json"]).with(0);
        earlier.write("result.json", &retry.stdout);
        let again = run(&["--retry-failed", "result.json"]).with(2);

        assert_eq!((&first.json()["files"], &first.json()["failed"]), (&json!(1), &json!(2)), "{first}");
        assert_eq!((&retry.json()["files"], &retry.json()["unchanged"]), (&json!(2), &json!(0)), "{retry}");
        assert_eq!(fs::read(target.path(strange)).unwrap(), b"right");
        assert!(!target.path("tree/new").exists());
        assert!(again.stderr.contains("lists no failed file"), "{again}");
        earlier
            .write("result.json", br#"{"confirmed": false, "failed": 1, "failures": [{"name": "tree/a"}]}"#);
        let broken_off = run(&["--retry-failed", "result.json"]).with(2);
        assert!(broken_off.stderr.contains("a run that broke off"), "{broken_off}");
    }
}

#[test]
fn the_policy_holds_for_directories_too() {
    // protocol.md [OPEN-4]
    let here = small_tree();
    fs::set_permissions(here.path("tree"), fs::Permissions::from_mode(0o777)).unwrap();
    set_mtime(&here.path("tree"), NOON, 5);
    for (policy, is_changed) in [("never", false), ("newer", false), ("different", true), ("always", true)] {
        let there = Place::new();
        there.write("tree/own", "own");
        fs::set_permissions(there.path("tree"), fs::Permissions::from_mode(0o750)).unwrap();
        let serve = there.listen(["serve", ".", "--overwrite", policy]);

        here.start(["send", "tree", &serve.ticket, "--overwrite", "always"]).end().with(0);

        let mode = fs::metadata(there.path("tree")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if is_changed { 0o777 } else { 0o750 }, "{policy}");
        assert!(there.path("tree/a").exists());
    }
}

#[test]
fn checksums_find_what_time_and_size_do_not() {
    for is_send in [true, false] {
        let (source, target) = (Place::new(), Place::new());
        for (name, ours, theirs, age) in [
            ("same", "same", "same", 0),
            ("other", "bytes", "BYTES", 0),
            ("touched", "same", "same", 60),
            ("longer", "longer", "long", 0),
        ] {
            source.write(name, ours);
            target.write(name, theirs);
            set_mtime(&source.path(name), NOON, 5);
            set_mtime(&target.path(name), NOON + age, 5);
        }

        let sources = ["same", "other", "touched"];
        let plain = move_files(&source, &target, is_send, "different", &sources, &[]);
        assert_eq!(counts(&plain.0), [1, 2, 0, 0]);
        set_mtime(&target.path("touched"), NOON + 60, 5);
        let checked = move_files(
            &source,
            &target,
            is_send,
            "different",
            &["same", "other", "touched", "longer"],
            &["--checksum"],
        );

        // The file of another length needs no comparison.
        assert_eq!(counts(&checked.0), [2, 0, 2, 0], "{}", checked.0);
        assert_eq!(fs::read(target.path("other")).unwrap(), b"bytes");
        assert_eq!(fs::read(target.path("longer")).unwrap(), b"longer");
    }
}

#[test]
fn each_policy_replaces_what_it_says() {
    let states = [("missing", None), ("same", Some(0)), ("older", Some(-1)), ("newer", Some(1))];
    let cases: [(&str, &[&str], [u64; 4]); 4] = [
        ("never", &["missing"], [1, 1, 0, 2]),
        ("newer", &["missing", "older"], [2, 1, 0, 1]),
        ("different", &["missing", "older", "newer"], [3, 1, 0, 0]),
        ("always", &["missing", "older", "newer", "same"], [4, 0, 0, 0]),
    ];

    for (policy, replaced, wanted) in cases {
        for is_send in [true, false] {
            let (source, target) = (Place::new(), Place::new());
            for (name, age) in states {
                source.write(name, "new");
                set_mtime(&source.path(name), NOON, 500);
                if let Some(age) = age {
                    target.write(name, "old");
                    // A nanosecond is enough.
                    set_mtime(&target.path(name), NOON, 500 + age);
                }
            }

            let names = states.map(|(name, _)| name);
            let (result, ended) = move_files(&source, &target, is_send, policy, &names, &[]);

            assert_eq!(counts(&result), wanted, "{policy} {is_send} {ended}");
            for (name, _) in states {
                let wanted = if replaced.contains(&name) { "new" } else { "old" };
                assert_eq!(fs::read(target.path(name)).unwrap(), wanted.as_bytes(), "{policy} {name}");
            }
        }
    }
}

#[test]
fn the_policy_of_the_receiver_is_the_ceiling() {
    // Standing server, what it allows, what the sender wishes, whether the newer file there is replaced.
    let cases = [
        ("serve", None, "always", false),
        ("serve", Some("newer"), "always", false),
        ("serve", Some("different"), "always", true),
        ("serve", Some("always"), "newer", false),
        ("recv", None, "always", true),
        ("recv", Some("never"), "always", false),
        ("recv", None, "never", false),
    ];

    for (command, ceiling, wish, is_replaced) in cases {
        let (here, there) = (Place::new(), Place::new());
        here.write("file", "new");
        there.write("file", "old");
        set_mtime(&here.path("file"), NOON, 0);
        set_mtime(&there.path("file"), NOON + 1, 0);
        let ceiling = ceiling.into_iter().flat_map(|ceiling| ["--overwrite", ceiling]);
        let server = there.listen([command, "."].into_iter().chain(ceiling));

        let send = here.start(["send", "file", &server.ticket, "--overwrite", wish, "--json"]).end().with(0);

        let kept = u64::from(!is_replaced);
        assert_eq!(send.json()["kept"], kept, "{command} {wish} {send}");
        assert_eq!(fs::read(there.path("file")).unwrap(), if is_replaced { b"new" } else { b"old" });
    }
}

#[test]
fn what_stands_in_the_way_is_kept_and_named() {
    let (here, there) = (small_tree(), Place::new());
    there.write("tree/sub", "a file where a directory is needed");
    fs::create_dir_all(there.path("file")).unwrap();
    let serve = there.listen(["serve", ".", "--overwrite", "always"]);

    let tree = here.start(["send", "tree", &serve.ticket, "--json"]).end().with(6).json();
    let file = here.start(["send", "file", &serve.ticket]).end().with(9);

    let failed = tree["failures"].as_array().unwrap().iter();
    let names: Vec<_> = failed.map(|failure| failure["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tree/sub", "tree/sub/b"]);
    assert_eq!(tree["files"], 1);
    assert!(file.stderr.contains("file: is a directory"), "{file}");
    assert_eq!(tree::names(&there.path("")), ["file", "tree", "tree/a", "tree/sub"]);
}

/// `file`, and `tree` with `a` and `sub/b`.
fn small_tree() -> Place {
    let place = Place::new();
    for name in ["file", "tree/a", "tree/sub/b"] {
        place.write(name, name);
    }
    place
}

fn files_in(top: &Path) -> Vec<String> {
    let found = tree::look(top).into_iter().filter(|(_, node)| node.kind != tree::Kind::Directory);
    found.map(|(name, _)| String::from_utf8(name).unwrap()).collect()
}

/// Moves by `send` at a server that allows everything, or by `get`.
fn move_files(
    source: &Place,
    target: &Place,
    is_send: bool,
    policy: &str,
    names: &[&str],
    options: &[&str],
) -> (Value, Ended) {
    let options = [&["--overwrite", policy, "--json"][..], options].concat();
    let ended = if is_send {
        let serve = target.listen(["serve", ".", "--overwrite", "always"]);
        source.start([&["send"][..], names, &[&serve.ticket], &options].concat()).end()
    } else {
        let serve: Server = source.listen(["serve", "."]);
        let sources: Vec<_> = names.iter().map(|name| serve.at(name)).collect();
        let sources: Vec<_> = sources.iter().map(String::as_str).collect();
        target.start([&["get"][..], &sources, &options].concat()).end()
    };
    let ended = ended.with(0);
    (ended.json(), ended)
}

/// Moved, unchanged, identical, kept.
fn counts(result: &Value) -> [u64; 4] {
    ["files", "unchanged", "identical", "kept"].map(|name| result[name].as_u64().unwrap())
}
