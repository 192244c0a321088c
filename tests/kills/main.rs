//! Transfers whose processes are killed: a short slice of the campaign of that name, and what it has found.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod play;

use common::Place;
use common::proxy::{Cut, Manner, Proxy};
use common::tree::{self, noise};
use play::watch::Watch;

/// Each way, over each transport, of a tree and of one file, with and without patience.
#[test]
fn what_is_killed_and_started_again_comes_to_the_same_end() {
    for seed in [3, 8, 10, 15, 18, 26] {
        let replay =
            format!("HAUL_FROM={seed} HAUL_RUNS=1 cargo test --release --test campaign -- --ignored kills");
        if let Err(failure) = play::check(seed, &replay) {
            panic!("{failure}");
        }
    }
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
