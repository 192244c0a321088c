//! Transfers whose processes are killed: a short slice of the campaign of that name, and what it has found.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod play;

use common::Place;
use common::tree::{self, noise};
use play::plan::Plan;
use play::watch::Watch;

/// Each way once, over all transports; what waits for the server to notice a death is left to the campaign.
#[test]
fn what_is_killed_and_started_again_comes_to_the_same_end() {
    for seed in SEEDS {
        let replay = format!("HAUL_FROM={seed} HAUL_RUNS=1 cargo test --release --test campaign -- --ignored kills");
        let begun = std::time::Instant::now();
        if let Err(failure) = play::check(seed, &replay) {
            panic!("{failure}");
        }
        eprintln!("{seed} {:?} {:?}", begun.elapsed(), Plan::drawn(seed));
    }
}

const SEEDS: [u64; 5] = [0, 1, 2, 3, 4];

#[test]
fn without_patience_the_first_attempt_is_the_last() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("file", "content");
    let serve = there.listen(["serve", "."]);
    let ticket = serve.ticket.clone();
    let send = || here.start(["send", "file", &ticket, "--retry-for", "0s"]).end();

    send().with(0);
    serve.process.kill();

    send().with(3);
}

/// Over UDP, a server waits for the control connection to come back before it gives up a session.
#[test]
fn a_killed_client_that_was_asked_for_patience_waits_until_the_server_has_room() {
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("big", noise(1, 20_000_000));
    let recv = there.listen(["recv"]);
    let mut watch = Watch::start(&there.path(""), tree::look(&here.path("")));
    let send = |options: &[&str]| {
        here.start([&["send", "big", &recv.ticket, "--transport", "udp", "--rate", "100mbit"], options].concat())
    };
    let first = send(&[]);
    watch.wait_until_moved();
    first.kill();

    send(&["--retry-for", "30s"]).end().with(0);

    recv.end().with(0);
    assert!(std::fs::read(there.path("big")).unwrap() == noise(1, 20_000_000));
}
