//! Bytes that come from a pipe, go to one, or take several connections at once, of which some are lost.

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::process::{Command, Stdio};

use common::process::Process;
use common::proxy::{Cut, Manner, Proxy};
use common::tree::{self, noise, sha256};
use common::{Place, haul, run};
use serde_json::json;

#[test]
fn a_tar_goes_through_both_pipes() {
    let (here, there) = (Place::new(), Place::new());
    for name in ["in/a", "in/sub/b", "in/.hidden"] {
        here.write(name, name);
    }
    fs::create_dir(here.path("out")).unwrap();
    let serve = there.listen(["serve", "."]);

    shell(&here, "tar c -C in . | $HAUL send - --name x.tar $TICKET", &serve.ticket);
    shell(&here, "$HAUL get $TICKET -o - | tar x -C out", &serve.at("x.tar"));

    // Not every tar keeps nanoseconds.
    for name in tree::names(&here.path("in")) {
        let (sent, got) = (here.path(format!("in/{name}")), here.path(format!("out/{name}")));
        assert_eq!(fs::read(sent).ok(), fs::read(got).ok(), "{name}");
    }
    assert_eq!(tree::names(&here.path("in")), tree::names(&here.path("out")));
}

#[test]
fn standard_input_may_be_empty() {
    let (here, there) = (Place::new(), Place::new());
    let recv = there.listen(["recv", ".", "--json"]);

    let send = here.start(["send", "-", "--name", "dir/empty", &recv.ticket, "--json"]).end();

    let sent = send.with(0).json();
    assert_eq!(
        (&sent["files"], &sent["bytes"], &sent["digest"]),
        (&json!(1), &json!(0), &json!(sha256(b"")))
    );
    recv.end().with(0);
    assert_eq!(fs::metadata(there.path("dir/empty")).unwrap().len(), 0);
}

#[test]
fn standard_input_is_what_the_manifest_says_of_its_name() {
    let (here, there) = (Place::new(), Place::new());
    here.write("SUMS", format!("{}  right\n{}  wrong\n", sha256(b"hello"), sha256(b"other")));
    let serve = there.listen(["serve", "."]);
    let send = |name: &str| {
        let arguments = ["send", "-", "--name", name, "--expect", "SUMS", &serve.ticket];
        run(here.command(haul()).args(arguments), b"hello")
    };

    send("right").with(0);
    send("wrong").with(5);

    assert!(there.path("right").exists() && !there.path("wrong").exists());
}

/// More than a sender keeps of what it cannot read again.
#[test]
fn standard_input_may_be_large_and_take_several_connections() {
    let content = noise(2, 110_000_000);
    let digest = sha256(&content);
    for streams in ["1", "4"] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        let recv = there.listen(["recv", ".", "--json", "--no-sync"]);

        let mut command = here.command(haul());
        command.args(["send", "-", "--name", "big", &recv.ticket, "--json", "--streams", streams]);
        let mut send = Process::start(command.stdin(Stdio::piped()));
        send.stdin().write_all(&content).unwrap();
        let sent = send.end().with(0).json();

        assert_eq!((&sent["digest"], &sent["bytes"]), (&json!(digest), &json!(content.len())));
        assert_eq!(recv.end().with(0).json()["digest"], json!(digest));
        assert!(fs::read(there.path("big")).unwrap() == content);
    }
}

#[test]
fn standard_output_gets_a_file_in_order_however_many_connections_were_asked_for() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(3, 20_000_000);
    there.write("big", &content);
    there.write("empty", "");
    let serve = there.listen(["serve", "."]);

    for streams in ["1", "4", "auto"] {
        let get = here.start(["get", &serve.at("big"), "-o", "-", "--streams", streams]).end().with(0);
        assert!(get.stdout == content, "{streams}");
        assert!(get.stderr.contains(&sha256(&content)), "{}", get.stderr);
    }
    let empty = here.start(["get", &serve.at("empty"), "-o", "-"]).end().with(0);
    assert!(empty.stdout.is_empty());
}

#[test]
fn standard_output_ends_with_5_when_the_proof_fails() {
    let (here, there) = (Place::new(), Place::new());
    there.write("file", "content");
    let serve = there.listen(["serve", "."]);
    let expected = |content: &[u8]| format!("sha256:{}", sha256(content));

    let wrong = here.start(["get", &serve.at("file"), "-o", "-", "--expect", &expected(b"other")]).end();
    let right = here.start(["get", &serve.at("file"), "-o", "-", "--expect", &expected(b"content")]).end();

    let wrong = wrong.with(5);
    assert!(
        wrong.stderr.contains("does not have the expected digest, but its bytes were passed on"),
        "{wrong}"
    );
    assert_eq!(right.with(0).stdout, b"content");
}

#[test]
fn a_file_of_other_bytes_than_expected_never_gets_its_name() {
    let content = noise(4, 3_000_000);
    let (right, wrong) = (format!("sha256:{}", sha256(&content)), format!("sha256:{}", sha256(b"")));
    for is_send in [true, false] {
        let (source, target) = (Place::new(), Place::new());
        source.write("file", &content);
        target.write("file", "old");
        let server = if is_send {
            target.listen(["serve", ".", "--overwrite", "always"])
        } else {
            source.listen(["serve", "."])
        };
        let moved = |expect: &str| {
            if is_send {
                source
                    .start(["send", "file", &server.ticket, "--expect", expect, "--overwrite", "always"])
                    .end()
            } else {
                target.start(["get", &server.at("file"), "--expect", expect]).end()
            }
        };

        let refused = moved(&wrong).with(5);
        assert_eq!(fs::read(target.path("file")).unwrap(), b"old");
        assert_eq!(tree::names(&target.path("")), ["file"]);
        moved(&right).with(0);

        assert!(
            refused.stderr.starts_with("haul: file: ") && refused.stderr.contains("expected"),
            "{refused}"
        );
        assert!(fs::read(target.path("file")).unwrap() == content);
    }
}

#[test]
fn a_manifest_names_all_that_may_arrive() {
    let (here, there) = (Place::new(), Place::new());
    for name in ["tree/a", "tree/sub/b"] {
        here.write(name, name);
    }
    let manifest = here.haul(["hash", "tree", "-o", "SUMS"]);
    manifest.with(0);
    let serve = there.listen(["serve", "."]);

    let good = here.start(["send", "tree", &serve.at("good"), "--expect", "SUMS"]).end();
    here.write("tree/sub/b", "changed");
    here.write("tree/more", "more");
    let bad = here.start(["send", "tree", &serve.at("bad"), "--expect", "SUMS", "--json"]).end();

    good.with(0);
    let bad = bad.with(6).json();
    let mut failed: Vec<_> =
        bad["failures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    failed.sort_unstable();
    assert_eq!(failed, ["tree/more", "tree/sub/b"]);
    assert!(bad["failures"].as_array().unwrap().iter().all(|failure| failure["cause"] == "integrity"));
    assert_eq!(tree::names(&there.path("bad")), ["tree", "tree/a", "tree/sub"]);
}

#[test]
fn any_number_of_connections_brings_the_same_bytes() {
    for is_send in [true, false] {
        for streams in ["1", "4", "16", "auto"] {
            let (here, there) = (Place::in_memory(), Place::in_memory());
            let (source, target) = if is_send { (&here, &there) } else { (&there, &here) };
            source.write("big", noise(5, 48_000_000));
            source.write("small", "small");
            let serve = there.listen(["serve", ".", "--no-sync"]);

            let moved = if is_send {
                here.start(["send", "big", "small", &serve.ticket, "--streams", streams, "--json"])
            } else {
                here.start([
                    "get",
                    &serve.at("big"),
                    &serve.at("small"),
                    "--streams",
                    streams,
                    "--json",
                    "--no-sync",
                ])
            };

            let moved = moved.end().with(0).json();
            tree::assert_same(&source.path(""), &target.path(""));
            assert_eq!(moved["files"], 2);
            let used = moved["sender"]["streams"].as_u64().unwrap();
            assert!(streams != "1" || used == 1, "{moved}");
            assert!((1..=16).contains(&used), "{moved}");
        }
    }
}

/// protocol.md [STREAM-3]: what a lost connection had not delivered travels again on the others.
#[test]
fn a_connection_that_is_cut_takes_nothing_with_it() {
    for is_send in [true, false] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        let (source, target) = if is_send { (&here, &there) } else { (&there, &here) };
        let content = noise(6, 40_000_000);
        source.write("big", &content);
        let rate: &[&str] = &["--rate", "160mbit"];
        let options = if is_send { &[][..] } else { rate };
        let serve = there.listen([&["serve", "."], options].concat());
        let proxy =
            Proxy::start(serve.address(), Manner { cut: Some(Cut::Further(CUT_BYTES)), ..Manner::default() });
        let ticket = serve.over(proxy.address);

        let moved = if is_send {
            here.start([&["send", "big", &ticket, "--streams", "4", "--json"], rate].concat())
        } else {
            let source = ticket.replace('#', "/big#");
            here.start(["get", &source, "--streams", "4", "--json"])
        };

        let moved = moved.end().with(0).json();
        assert!(proxy.was_cut(), "{} connections, {moved}", proxy.accepted());
        assert_eq!((&moved["digest"], &moved["failed"]), (&json!(sha256(&content)), &json!(0)));
        assert!(fs::read(target.path("big")).unwrap() == content);
    }
}

#[test]
fn standard_input_survives_the_loss_of_a_connection() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let content = noise(7, 40_000_000);
    here.write("big", &content);
    let serve = there.listen(["serve", "."]);
    let proxy =
        Proxy::start(serve.address(), Manner { cut: Some(Cut::Further(CUT_BYTES)), ..Manner::default() });

    let mut command = here.command(haul());
    command.args([
        "send",
        "-",
        "--name",
        "x",
        &serve.over(proxy.address),
        "--streams",
        "4",
        "--rate",
        "160mbit",
    ]);
    let send = Process::start(command.stdin(File::open(here.path("big")).unwrap())).end();

    send.with(0);
    assert!(proxy.was_cut());
    assert!(fs::read(there.path("x")).unwrap() == content);
}

#[test]
fn a_lost_control_connection_is_said_and_leaves_nothing_under_the_name() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("big", noise(8, 40_000_000));
    let recv = there.listen(["recv", "."]);
    let proxy =
        Proxy::start(recv.address(), Manner { cut: Some(Cut::First(10_000_000)), ..Manner::default() });

    let lost = here.start(["send", "big", &recv.over(proxy.address), "--json"]).end().with(3);

    assert!(proxy.was_cut());
    assert_eq!(lost.json()["cause"], "connection");
    assert!(lost.stderr.contains("run the same command again"), "{lost}");
    let mut recv = recv;
    recv.process.line_with("still waiting, with the same ticket");
    let live = |name: &String| !name.starts_with(".haul-");
    assert_eq!(
        tree::names(&there.path("")).into_iter().filter(live).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    here.start(["send", "big", &recv.ticket]).end().with(0);
    recv.end().with(0);
    tree::assert_same(&here.path(""), &there.path(""));
}

#[test]
fn blake3_proves_too_when_asked_for() {
    let (here, there) = (Place::new(), Place::new());
    here.write("empty", "");
    let serve = there.listen(["serve", "."]);

    let send =
        here.start(["send", "empty", &serve.ticket, "--digest", "blake3", "--json"]).end().with(0).json();
    let get = here.start(["get", &serve.at("empty"), "-o", "back", "--digest", "blake3"]).end().with(0);

    let digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    assert_eq!((&send["digest"], &send["digest_algorithm"]), (&json!(digest), &json!("blake3")));
    assert!(get.stderr.contains(&format!("blake3 {digest}")), "{get}");
}

/// protocol.md [PLAIN-1]
#[test]
fn plain_needs_both_sides_and_says_what_it_is() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(9, 2_000_000));
    let strict = there.listen(["serve", "."]);

    let refused = here.start(["send", "file", &strict.ticket, "--plain"]).end().with(4);
    strict.process.kill();
    let plain = there.listen(["serve", ".", "--plain"]);
    let sent =
        here.start(["send", "file", &plain.ticket, "--plain", "--streams", "4", "--json"]).end().with(0);
    let back = here.start(["get", &plain.at("file"), "-o", "back", "--plain"]).end().with(0);
    let encrypted = here.start(["get", &plain.at("file"), "-o", "again", "--json"]).end().with(0);

    assert!(refused.stderr.contains("only speaks encrypted; leave --plain out"), "{refused}");
    assert_eq!(sent.json()["encrypted"], false);
    assert!(back.stderr.contains("checksum only, not authenticated"), "{back}");
    assert_eq!(encrypted.json()["encrypted"], true);
    for name in ["back", "again"] {
        assert!(fs::read(here.path(name)).unwrap() == fs::read(here.path("file")).unwrap());
    }
}

#[test]
fn the_disk_is_read_back_or_not_waited_for_as_asked() {
    let (here, there) = (Place::new(), Place::new());
    here.write("tree/big", noise(10, 5_000_000));
    here.write("tree/sub/small", "small");
    let cases: [(&[&str], bool); 3] = [(&[], true), (&["--verify-disk"], true), (&["--no-sync"], false)];

    for (options, is_synced) in cases {
        let recv = there.listen([&["recv", ".", "--json", "--overwrite", "always"], options].concat());
        let sent =
            here.start(["send", "tree", &recv.ticket, "--overwrite", "always", "--json"]).end().with(0);
        let received = recv.end().with(0);

        assert_eq!((&sent.json()["synced"], &sent.json()["files"]), (&json!(is_synced), &json!(2)));
        assert_eq!(received.json()["synced"], is_synced);
        for ended in [sent, received] {
            assert_eq!(ended.stderr.contains("not synced"), !is_synced, "{ended}");
        }
        tree::assert_same(&here.path("tree"), &there.path("tree"));
    }
    let serve = here.listen(["serve", "."]);
    let get = there.start(["get", &serve.at("tree"), "-o", "got", "--no-sync"]).end().with(0);
    assert!(get.stderr.contains("not synced"), "{get}");
    let get = there.start(["get", &serve.at("tree"), "-o", "read", "--verify-disk", "--json"]).end().with(0);
    assert_eq!(get.json()["synced"], true);
    tree::assert_same(&here.path("tree"), &there.path("read"));
}

#[test]
fn a_rate_is_kept_and_named_as_the_limit() {
    // 80 Mbit/s are 10 MB/s. More than the sender's queue holds.
    let bytes = 25_000_000_u64;
    for is_send in [true, false] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        let (source, target) = if is_send { (&here, &there) } else { (&there, &here) };
        source.write("big", noise(11, usize::try_from(bytes).unwrap()));
        let server;
        let moved = if is_send {
            server = target.listen(["serve", "."]);
            here.start(["send", "big", &server.ticket, "--rate", "80mbit", "--json"])
        } else {
            server = source.listen(["offer", "big", "--rate", "80mbit"]);
            here.start(["get", &server.ticket, "--json"])
        };

        let moved = moved.end().with(0);

        let result = moved.json();
        // The first chunk and a burst of 20 ms go at once.
        let least = (bytes - (1 << 20)) as f64 / 10e6 - 0.025;
        assert!(result["sender"]["data_time_s"].as_f64().unwrap() >= least, "{result}");
        assert_eq!(result["limited_by"]["limit"], "rate", "{result}");
        assert!(moved.stderr.contains("limited by the rate asked for"), "{moved}");
    }
}

/// In the middle of a chunk.
const CUT_BYTES: u64 = 500_000;

fn shell(place: &Place, line: &str, ticket: &str) {
    let mut command: Command = place.command("sh");
    command.args(["-c", &format!("set -e; {line}")]).env("HAUL", haul()).env("TICKET", ticket);
    Process::start(command.stdin(Stdio::null())).end().with(0);
}
