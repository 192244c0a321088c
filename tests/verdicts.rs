//! What limited the speed is named: each part of the way is made the slowest in turn.
//!
//! One test at a time, since a busy machine is what one of them makes itself.

mod common;

use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::process::{Process, Server};
use common::proxy::{Manner, Proxy};
use common::tree::noise;
use common::{Place, haul, skip};
use serde_json::Value;

/// Bytes a second of what is slow.
const SLOW: u64 = 4_000_000;
/// More than a sender and the sockets hold.
const BYTES: usize = 20_000_000;

#[test]
fn a_slow_source_is_named() {
    let _alone = alone();
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let serve = there.listen(["serve", "."]);

    let mut command = here.command(haul());
    command.args(["send", "-", "--name", "x", &serve.ticket, "--json"]);
    let mut send = Process::start(command.stdin(Stdio::piped()));
    let mut stdin = send.stdin();
    for _ in 0..20 {
        pause(50);
        stdin.write_all(&noise(1, 200_000)).unwrap();
    }
    drop(stdin);

    assert_limit(&send.end().with(0).json(), &["source"]);
}

#[test]
fn a_slow_link_is_named() {
    let _alone = alone();
    for is_send in [true, false] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        let source = if is_send { &here } else { &there };
        source.write("big", noise(2, BYTES));
        let serve = there.listen(["serve", "."]);
        let proxy = Proxy::start(serve.address(), Manner { rate: Some(SLOW), ..Manner::default() });
        let ticket = serve.over(proxy.address);

        let moved = if is_send {
            here.start(["send", "big", &ticket, "--json"])
        } else {
            here.start(["get", &ticket.replace('#', "/big#"), "--json"])
        };

        assert_limit(&moved.end().with(0).json(), &["network"]);
    }
}

#[test]
fn a_slow_target_is_named() {
    let _alone = alone();
    let (here, there) = (Place::in_memory(), Place::in_memory());
    there.write("big", noise(3, BYTES));
    let serve = there.listen(["serve", "."]);

    let (mut output, input) = std::io::pipe().unwrap();
    let mut command = here.command(haul());
    command.args(["get", &serve.at("big"), "-o", "-"]).stdin(Stdio::null()).stdout(input);
    let get = Process::start_apart(&mut command);
    // It holds the writing end too.
    drop(command);
    let mut content: Vec<u8> = Vec::new();
    let mut piece = vec![0; 200_000];
    loop {
        pause(5);
        match output.read(&mut piece).unwrap() {
            0 => break,
            len => content.extend(&piece[..len]),
        }
    }

    assert!(content == noise(3, BYTES));
    let ended = get.end().with(0);
    assert!(ended.stderr.contains("limited by writing the target"), "{ended}");
}

#[test]
fn a_slow_processor_is_named() {
    let _alone = alone();
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let one_core = |place: &Place| {
        let mut command = place.command("taskset");
        command.args(["-c", "0"]).arg(haul());
        command
    };
    let probe = one_core(&here).arg("--version").stdout(Stdio::null()).status();
    if !probe.is_ok_and(|status| status.success()) {
        return skip("taskset is not installed");
    }
    here.write("big", noise(4, 300_000_000));
    let recv = Server::start(one_core(&there).args(["recv", ".", "--json", "--no-sync"]));

    let mut send = one_core(&here);
    send.args(["send", "big", &recv.ticket, "--streams", "1", "--json"]);
    let send = Process::start(send.stdin(Stdio::null())).end().with(0).json();

    assert_limit(&send, &["sender_cpu", "receiver_cpu"]);
    assert_limit(&recv.end().with(0).json(), &["sender_cpu", "receiver_cpu"]);
}

#[track_caller]
fn assert_limit(result: &Value, wanted: &[&str]) {
    let limit = result["limited_by"]["limit"].as_str().unwrap();
    assert!(wanted.contains(&limit), "{wanted:?} {result}");
}

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::disallowed_methods, reason = "slowness is what is tested; nothing waits for anything here")]
fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}
