//! Transfers whose processes are killed: a short slice of the campaign of that name, and what it has found.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod play;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::Place;
use common::proxy::{Cut, Manner, Proxy};
use common::tree::{self, noise};
use play::watch::Watch;

/// Each way, over each transport, of a tree and of one file, with and without patience.
#[test]
fn what_is_killed_and_started_again_comes_to_the_same_end() {
    for seed in [3, 7, 8, 10, 15, 18, 26] {
        let replay =
            format!("HAUL_FROM={seed} HAUL_RUNS=1 cargo test --release --test campaign -- --ignored kills");
        if let Err(failure) = play::check(seed, &replay) {
            panic!("{failure}");
        }
    }
}

/// Or no run would show anything.
#[test]
fn the_watch_sees_what_is_made_or_changed_under_its_name_and_what_has_other_bytes() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    for name in ["dir/moved", "dir/made", "dir/other"] {
        here.write(name, "content");
    }
    tree::age(&here.path(""));
    std::fs::create_dir(there.path("dir")).unwrap();
    let watched = |change: &dyn Fn()| {
        let mut watch = Watch::start(&there.path(""), tree::look(&here.path("")));
        change();
        catch_unwind(AssertUnwindSafe(|| watch.look())).is_ok()
    };
    let bring = |name: &str, content: &str| {
        there.write(".haul-part", content);
        let part = std::fs::File::options().write(true).open(there.path(".haul-part")).unwrap();
        part.set_modified(std::fs::metadata(here.path(name)).unwrap().modified().unwrap()).unwrap();
        std::fs::rename(there.path(".haul-part"), there.path(name)).unwrap();
    };

    assert!(watched(&|| bring("dir/moved", "content")));
    assert!(!watched(&|| there.write("dir/moved", "content")));
    std::fs::remove_file(there.path("dir/moved")).unwrap();
    assert!(!watched(&|| bring("dir/other", "contents")));
    std::fs::remove_file(there.path("dir/other")).unwrap();
    assert!(!watched(&|| there.write("dir/made", "content")));
}

/// It may be one that is killed at that moment, and comes back.
#[test]
fn a_server_that_ends_while_it_is_greeted_is_waited_for() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("file", "content");
    let recv = there.listen(["recv"]);
    let proxy = Proxy::start(recv.address(), Manner { cut: Some(Cut::First(1)), ..Manner::default() });

    let send = ["send", "file", &recv.over(proxy.address), "--transport", "tcp", "--retry-for", "30s"];
    here.start(send).end().with(0);

    assert!(proxy.was_cut());
    recv.end().with(0);
}

/// Over UDP, a server waits for the control connection to come back before it gives up a session.
#[test]
fn a_killed_client_that_was_asked_for_patience_waits_until_the_server_has_room() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("big", noise(1, 20_000_000));
    let recv = there.listen(["recv"]);
    let mut watch = Watch::start(&there.path(""), tree::look(&here.path("")));
    let send = |options: &[&str]| {
        here.start(
            [&["send", "big", &recv.ticket, "--transport", "udp", "--rate", "100mbit"], options].concat(),
        )
    };
    let first = send(&[]);
    watch.wait_until_moved();
    first.kill();

    send(&["--retry-for", "30s"]).end().with(0);

    recv.end().with(0);
    assert!(std::fs::read(there.path("big")).unwrap() == noise(1, 20_000_000));
}
