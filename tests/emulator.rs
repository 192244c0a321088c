//! The emulator as other code calls it: many runs in one process, each with what it tells of itself.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use haul::emulator::{self, Carried, EmulatorError, Plan, Side, Streams};
use haul::link::LinkConfig;

use common::{Place, haul, skip};

#[test]
fn runs_leave_no_descriptor_thread_or_process_behind() {
    let _alone = alone();
    let plan = plan("rtt=1ms", &["true"]);
    // What a process opens once for all of its runs.
    let Some(_) = run(&plan) else { return };
    let before = held();

    for _ in 0..20 {
        assert_eq!(run(&plan).unwrap().code, 0);
    }

    assert_eq!(held(), before);
}

#[test]
fn a_run_that_is_refused_leaves_nothing_behind() {
    let _alone = alone();
    let mut plan = plan("rtt=1ms", &["no-such-command-anywhere"]);
    if !is_possible(&plan) {
        return;
    }
    let before = held();

    let refused = emulator::run(&plan).unwrap_err();
    assert!(matches!(refused, EmulatorError::NotStarted { code: 127, .. }), "{refused}");
    plan.host_binary = "/bin/true".into();
    let lost = emulator::run(&plan).unwrap_err();

    assert_eq!(lost.to_string(), "the command's host of the link ended unexpectedly (exit status: 0)");
    assert_eq!(held(), before);
}

#[test]
fn a_host_that_is_killed_is_named_and_takes_its_programs_along() {
    let _alone = alone();
    let place = Place::new();
    let id = place.path("id");
    let line = format!("sleep 4321 & echo $! > {}; kill -9 $PPID; wait", id.display());
    let plan = plan("rtt=1ms", &["sh", "-c", &line]);
    if !is_possible(&plan) {
        return;
    }

    let lost = emulator::run(&plan).unwrap_err();

    let EmulatorError::HostLost { side: Side::Host, status: Some(status) } = &lost else { panic!("{lost}") };
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(status), Some(9));
    let id = fs::read_to_string(id).unwrap();
    assert!(!Path::new("/proc").join(id.trim()).exists());
}

#[test]
fn a_command_that_takes_too_long_is_asked_to_end() {
    let _alone = alone();
    let plan =
        Plan { command_at_most: Some(Duration::from_millis(200)), ..plan("rtt=1ms", &["sleep", "4321"]) };
    let Some(carried) = run(&plan) else { return };

    assert!(carried.was_cut);
    assert!(!carried.was_interrupted);
    assert!(carried.command_elapsed >= Duration::from_millis(200));
    assert_eq!(carried.code, 128 + 2, "it was only asked");
}

#[test]
fn a_command_that_does_not_end_when_it_is_asked_is_forced_to() {
    let _alone = alone();
    let plan = Plan {
        command_at_most: Some(Duration::from_secs(2)),
        ..plan("rtt=1ms", &["sh", "-c", "trap '' INT; sleep 4321"])
    };
    let Some(carried) = run(&plan) else { return };

    assert_eq!((carried.was_cut, carried.code), (true, 128 + 9));
}

#[test]
fn a_command_that_ends_in_time_is_not_cut() {
    let _alone = alone();
    let plan = Plan { command_at_most: Some(Duration::MAX), ..plan("rtt=1ms", &["true"]) };
    let Some(carried) = run(&plan) else { return };

    assert_eq!((carried.was_cut, carried.code), (false, 0));
    assert!(carried.command_elapsed <= carried.elapsed);
}

#[test]
fn programs_without_streams_read_nothing_and_write_nowhere() {
    let _alone = alone();
    let line = "for n in 0 1 2; do [ $(readlink /proc/$$/fd/$n) = /dev/null ] || exit 9; done; exit 5";
    let mut plan = plan("rtt=1ms", &["sh", "-c", line]);
    plan.peer = plan.command.clone();
    let Some(carried) = run(&plan) else { return };

    assert_eq!((carried.code, carried.peer_code), (5, Some(5)));
}

#[test]
fn a_transfer_is_seen_in_the_samples_and_in_what_the_hosts_tell() {
    let _alone = alone();
    let peer = "import os, socket
server = socket.create_server((os.environ['HAUL_LINK_HOST'], 5000))
connection, _ = server.accept()
while connection.recv(65536): pass";
    let command = "import os, socket
connection = socket.create_connection((os.environ['HAUL_LINK_PEER'], 5000))
connection.sendall(bytes(1000000))
connection.shutdown(socket.SHUT_WR)
connection.recv(1)";
    let plan = Plan {
        peer: ["python3", "-c", peer].map(Into::into).to_vec(),
        sample_every: Some(Duration::from_millis(10)),
        ..plan("rtt=10ms,rate=20mbit,loss=2%", &["python3", "-c", command])
    };
    let Some(carried) = run(&plan) else { return };

    let Carried { there, back, .. } = &carried;
    for tally in [there, back] {
        let sum = |value: fn(&emulator::Sample) -> u64| tally.samples.iter().map(value).sum::<u64>();
        assert_eq!(sum(|it| it.offered_bytes), tally.total.counters.offered_bytes);
        assert_eq!(sum(|it| it.dropped), tally.total.counters.dropped());
        assert!(sum(|it| it.delivered_bytes) <= tally.total.counters.delivered_bytes);
        assert!(tally.samples.len() as u128 <= carried.elapsed.as_millis() / 10 + 1);
    }
    let delivered: u64 = there.samples.iter().map(|it| it.delivered_bytes).sum();
    assert!(delivered > 1_000_000, "{delivered}");
    let peak = there.samples.iter().map(|it| it.peak_queue_bytes).max();
    assert_eq!(peak, Some(there.total.peak_queue_bytes));
    assert!(there.total.mean_queue_delay() > Duration::ZERO);
    let (host, peer) = (carried.host.as_ref().unwrap(), carried.peer.as_ref().unwrap());
    assert_eq!((host.counters["Tcp.ActiveOpens"], peer.counters["Tcp.PassiveOpens"]), (1, 1));
    assert!(host.counters["Tcp.RetransSegs"] > 0);
    assert!(!peer.counters.contains_key("Tcp.ActiveOpens"));
    assert!(host.cpu > Duration::ZERO && peer.cpu > Duration::ZERO);
    assert!(host.peak_rss_bytes > 1_000_000, "{}", host.peak_rss_bytes);
}

fn plan(spec: &str, command: &[&str]) -> Plan {
    let link: LinkConfig = spec.parse().unwrap();
    Plan {
        streams: Streams::Null,
        host_binary: haul().into(),
        ..Plan::new(link, command.iter().map(Into::into).collect())
    }
}

/// What came of it; `None` where this machine does not let us have hosts.
fn run(plan: &Plan) -> Option<Carried> {
    match emulator::run(plan) {
        Ok(carried) => Some(carried),
        Err(EmulatorError::Refused(why)) => {
            skip(&why);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether this machine lets us have hosts.
fn is_possible(like: &Plan) -> bool {
    run(&Plan { command: vec!["true".into()], ..like.clone() }).is_some()
}

/// Descriptors, threads and children of this process.
fn held() -> [usize; 3] {
    let entries = |path: &str| fs::read_dir(path).unwrap().count();
    let children = fs::read_dir("/proc/self/task").unwrap().map(|task| {
        // A thread of the tests' own may end meanwhile.
        let children = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        children.split_whitespace().count()
    });
    [entries("/proc/self/fd"), entries("/proc/self/task"), children.sum()]
}

/// These tests look at what their process holds, and one of them does at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
