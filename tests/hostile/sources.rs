//! Files that change while they are sent: their own error, never silent, and never under the live name.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::world::{World, exit, noise};

/// More than a sender reads ahead, at a rate that leaves time to act.
const SIZE: usize = 24 << 20;
const RATE: &str = "120mbit";

/// Sends `big`, lets `change` act while that is under way, and fails unless both ends tell of it.
fn changes(change: impl FnOnce(&Path)) {
    let world = World::new();
    world.write("big", noise(SIZE));
    world.write("root/big", "as it was");
    let server = world.serve("root", &["--overwrite", "always"]);

    let overwrite = ["--overwrite", "always"];
    let send =
        world.start("client", [&["send", "--rate", RATE, "big", &server.ticket], &overwrite[..]].concat());
    world.await_partial("root");
    change(&world.path("big"));

    let send = send.wait();
    send.fails(exit::SOURCE_CHANGED, &["big: ", "the file changed while it was sent"]).in_one_line();
    let line = server.process.says("the file changed while it was sent");
    assert!(line.contains("big"), "{line}");
    assert_eq!(world.read("root/big"), b"as it was");
    assert_eq!(world.live("root"), ["big"]);
}

#[test]
fn a_file_that_shrinks_while_it_is_sent() {
    changes(|path| OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap());
}

#[test]
fn a_file_that_grows_while_it_is_sent() {
    changes(|path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap());
}

#[test]
fn a_file_that_is_written_to_while_it_is_sent() {
    changes(|path| OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"!", 7).unwrap());
}

#[test]
fn a_file_that_is_removed_while_it_is_sent() {
    changes(|path| fs::remove_file(path).unwrap());
}

#[test]
fn a_file_that_is_replaced_while_it_is_sent() {
    changes(|path| {
        let other = path.with_extension("other");
        fs::write(&other, "another file").unwrap();
        fs::rename(other, path).unwrap();
    });
}

#[test]
fn a_file_that_is_gone_before_its_turn_fails_alone() {
    let world = World::new();
    world.write("src/a", noise(SIZE));
    world.write("src/b", "gone soon");
    world.write("src/c", "stays");
    let server = world.recv("in", &[]);

    let send = world.start("client", ["send", "--rate", RATE, "src/", &server.ticket]);
    world.await_partial("in");
    fs::remove_file(world.path("src/b")).unwrap();

    for ended in [send.wait(), server.wait()] {
        ended.fails(exit::SOME_FAILED, &["1 of 3 failed", "b: ", "vanished"]);
    }
    assert_eq!(world.names("in"), ["a", "c"]);
    assert_eq!(world.read("in/a"), world.read("src/a"));
}

#[test]
fn a_served_file_that_changes_while_it_is_got() {
    let world = World::new();
    world.write("root/big", noise(SIZE));
    world.write("out/big", "as it was");
    let server = world.serve("root", &["--rate", RATE]);

    let get = world.start("client", ["get", "--overwrite", "always", &server.at("big"), "-o", "out/"]);
    world.await_partial("out");
    fs::write(world.path("root/big"), "short").unwrap();

    get.wait().fails(exit::SOURCE_CHANGED, &["big: ", "the file changed while it was sent"]).in_one_line();
    assert_eq!(world.read("out/big"), b"as it was");
    assert_eq!(world.live("out"), ["big"]);
}

#[test]
fn fifos_and_sockets_are_left_out_and_counted() {
    let world = World::new();
    world.write("src/a", "1");
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("src/fifo"), rustix::fs::Mode::from_raw_mode(0o644))
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.path("src/socket")).unwrap();
    let server = world.serve("root", &[]);

    let tree = world.run("client", ["send", "src/", &server.ticket]);
    let alone = world.run("client", ["send", "src/fifo", &server.ticket]);

    assert!(tree.is_done().stderr.contains("not kept: 2 special files"), "{tree:?}");
    assert!(alone.stderr.contains("not kept: 1 special files"), "{alone:?}");
    assert_eq!(world.names("root"), ["a"]);
}
