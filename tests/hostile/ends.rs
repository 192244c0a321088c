//! How transfers end before their end: by signals, by peers that die or fall asleep; and how slow ones do not.

use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use haul::run::clock;
use haul::wire::frame::Frame;
use haul::wire::message::{Close, Code, Message, Outcome, Outcomes, Want, Wants};
use rustix::process::Signal;

use crate::opening::is_serving;
use crate::peer::{Impostor, file, listing, proxy, redirect};
use crate::world::{Ended, Listening, World, eventually, exit, noise, timed};

const SIZE: usize = 8 << 20;
/// Leaves seconds to act.
const SLOW: [&str; 2] = ["--rate", "16mbit"];

/// A world with something to send, and a file of the same name that was there before.
fn with_big() -> World {
    let world = World::new();
    world.write("big", noise(SIZE));
    world.write("in/big", "as it was");
    world
}

/// The target is as it was, and no part is left.
#[track_caller]
fn is_untouched(world: &World) {
    assert_eq!(world.live("in"), ["big"]);
    assert_eq!(world.read("in/big"), b"as it was");
}

#[track_caller]
fn is_complete(world: &World) {
    assert_eq!(world.names("in"), ["big"]);
    assert!(world.read("in/big") == world.read("big"));
}

/// The receiver waits, and takes the file with the same ticket.
#[track_caller]
fn goes_on(world: &World, recv: Listening) {
    is_untouched(world);
    world.run("client", ["send", "big", &recv.ticket, "--retry-for", "20s"]).is_done();
    recv.wait().is_done();
    is_complete(world);
}

/// What an end that was not wanted here says, in one line.
#[track_caller]
fn is_lost(ended: &Ended) {
    ended.fails(exit::CONNECT, &["127.0.0.1:", "run the same command again"]).in_one_line();
}

#[test]
fn an_interrupted_sender_says_how_to_go_on_and_the_receiver_waits() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = with_big();
        let recv = world.recv("in", &[]);
        let send = world.start("client", [&["send", "big", &recv.ticket], &SLOW[..]].concat());
        world.await_partial("in");

        send.signal(signal);
        let send = send.wait_within(Duration::from_secs(20));
        let line = recv.process.says("still waiting");

        send.fails(exit::INTERRUPTED, &["interrupted", "run the same command again"]).in_one_line();
        assert!(line.contains("127.0.0.1:") && line.contains("was interrupted there"), "{line}");
        goes_on(&world, recv);
    }
}

#[test]
fn an_interrupted_receiver_goes_on_with_the_same_ticket() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = with_big();
        let recv = world.recv("in", &[]);
        let ticket = recv.ticket.clone();
        let send = world.start("client", [&["send", "big", &ticket], &SLOW[..]].concat());
        world.await_partial("in");

        recv.process.signal(signal);
        let recv = recv.process.wait_within(Duration::from_secs(20));
        let send = send.wait_within(Duration::from_secs(20));

        recv.fails(exit::INTERRUPTED, &["interrupted", "run the same command again"]);
        is_lost(&send);
        assert!(send.stderr.contains("was interrupted there"), "{send:?}");
        is_untouched(&world);
        let again = world.recv("in", &[]);
        assert_eq!(again.ticket, ticket);
        world.run("client", ["send", "big", &ticket]).is_done();
        again.wait().is_done();
        is_complete(&world);
    }
}

#[test]
fn a_signal_while_waiting_keeps_the_ticket() {
    let world = with_big();
    for command in [&["recv", "in"][..], &["offer", "big"], &["serve", "in"]] {
        let first = world.listen("server", command, &[]);
        let ticket = first.ticket.clone();
        first.process.signal(Signal::TERM);
        let ended = first.process.wait_within(Duration::from_secs(20));
        let again = world.listen("server", command, &[]);

        ended.fails(exit::INTERRUPTED, &["interrupted"]);
        assert_eq!(again.ticket, ticket, "{command:?}");
    }
}

#[test]
fn an_interrupted_get_leaves_nothing_and_completes_when_run_again() {
    let world = with_big();
    let offer = world.offer("big", &SLOW);
    let ticket = offer.ticket.clone();
    let arguments = ["get", "--overwrite", "always", &ticket, "-o", "in/"];
    let get = world.start("client", arguments);
    world.await_partial("in");

    get.signal(Signal::INT);
    let get = get.wait_within(Duration::from_secs(20));

    get.fails(exit::INTERRUPTED, &["interrupted", "run the same command again"]).in_one_line();
    is_untouched(&world);
    let line = offer.process.says("still waiting");
    assert!(line.contains("was interrupted there"), "{line}");
    drop(offer);
    let offer = world.offer("big", &[]);
    world.run("client", arguments).is_done();
    offer.wait().is_done();
    is_complete(&world);
}

#[test]
fn a_server_that_is_stopped_tells_its_clients() {
    let world = with_big();
    world.write("root/served", noise(SIZE));
    let serve = world.serve("root", &SLOW);
    let get = world.start("client", ["get", &serve.at("served"), "-o", "in/"]);
    let send = world.start("client", [&["send", "big", &serve.ticket], &SLOW[..]].concat());
    world.await_partial("in");
    world.await_partial("root");

    serve.process.signal(Signal::TERM);
    let serve = serve.process.wait_within(Duration::from_secs(20));

    serve.fails(exit::INTERRUPTED, &["interrupted;", "same ticket"]);
    for ended in [get.wait_within(Duration::from_secs(20)), send.wait_within(Duration::from_secs(20))] {
        is_lost(&ended);
        assert!(ended.stderr.contains("was interrupted there"), "{ended:?}");
    }
    is_untouched(&world);
    assert_eq!(world.live("root"), ["served"]);
}

#[test]
fn a_killed_sender_is_a_cut_and_the_receiver_waits() {
    // protocol.md [CONN-2]
    let world = with_big();
    let recv = world.recv("in", &[]);
    let send = world.start("client", [&["send", "big", &recv.ticket], &SLOW[..]].concat());
    world.await_partial("in");

    send.signal(Signal::KILL);
    let (line, took) = timed(|| recv.process.says("still waiting"));

    assert!(line.contains("127.0.0.1:") && line.contains("run the same command again"), "{line}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    goes_on(&world, recv);
}

#[test]
fn a_killed_receiver_is_a_cut_and_the_live_name_keeps_what_it_had() {
    let world = with_big();
    let recv = world.recv("in", &[]);
    let ticket = recv.ticket.clone();
    let send = world.start("client", [&["send", "big", &ticket], &SLOW[..]].concat());
    world.await_partial("in");

    recv.process.signal(Signal::KILL);
    let (send, took) = timed(|| send.wait_within(Duration::from_secs(20)));

    is_lost(&send);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(world.read("in/big"), b"as it was");
    let again = world.recv("in", &[]);
    assert_eq!(again.ticket, ticket);
    world.run("client", ["send", "big", &ticket]).is_done();
    again.wait().is_done();
    assert!(world.read("in/big") == world.read("big"));
}

#[test]
fn a_killed_server_is_a_cut_for_who_gets() {
    let world = with_big();
    let serve = world.listen("server", &["serve", "."], &SLOW);
    let get = world.start("client", ["get", "--overwrite", "always", &serve.at("big"), "-o", "in/"]);
    world.await_partial("in");

    serve.process.signal(Signal::KILL);
    let (get, took) = timed(|| get.wait_within(Duration::from_secs(20)));

    is_lost(&get);
    assert!(took < Duration::from_secs(5), "{took:?}");
    is_untouched(&world);
}

#[test]
fn a_peer_that_sleeps_is_given_up_after_the_timeout() {
    // protocol.md [PING-3]
    let world = with_big();
    world.write("root/served", noise(SIZE));
    let slow_serve = world.serve("root", &SLOW);
    let recv = world.listen("other", &["recv", "in"], &[]);
    let get = world.start("client", ["get", "--timeout", "3s", &slow_serve.at("served"), "-o", "out/"]);
    let send = world.start("client", [&["send", "--timeout", "3s", "big", &recv.ticket], &SLOW[..]].concat());
    world.dir("out");
    world.await_partial("in");
    world.await_partial("out");

    slow_serve.process.signal(Signal::STOP);
    recv.process.signal(Signal::STOP);
    let start = clock::now();
    let ended = [get.wait_within(Duration::from_secs(20)), send.wait_within(Duration::from_secs(20))];
    let took = clock::now().duration_since(start);

    for ended in ended {
        ended.fails(exit::TIMED_OUT, &["127.0.0.1:", "is gone", "nothing was heard", "3 s"]).in_one_line();
    }
    assert!((Duration::from_secs(2)..Duration::from_secs(12)).contains(&took), "{took:?}");
    assert!(world.live("out").is_empty());
    assert_eq!(world.read("in/big"), b"as it was");
    slow_serve.process.signal(Signal::CONT);
    is_serving(&world, &slow_serve);
    recv.process.signal(Signal::CONT);
    recv.process.says("still waiting");
}

#[test]
fn a_sender_that_sleeps_is_given_up_by_the_receiver_which_waits_on() {
    // protocol.md [PING-3]
    let world = with_big();
    let recv = world.recv("in", &["--timeout", "3s"]);
    let send = world.start("client", [&["send", "big", &recv.ticket], &SLOW[..]].concat());
    world.await_partial("in");

    send.signal(Signal::STOP);
    let line = recv.process.says("still waiting");

    assert!(line.contains("127.0.0.1:") && line.contains("nothing was heard from it for 3 s"), "{line}");
    is_untouched(&world);
    send.signal(Signal::CONT);
    // Awake again, it learns that it is too late.
    let send = send.wait_within(Duration::from_secs(20));
    assert!([exit::CONNECT, exit::TIMED_OUT].contains(&send.code), "{send:?}");
    send.in_one_line();
}

#[test]
fn a_slow_peer_is_not_taken_for_a_dead_one() {
    // protocol.md [PING-2], [PING-3]
    let world = World::new();
    world.write("a", noise(100_000));
    let recv = world.recv("in", &["--timeout", "3s"]);
    let through = proxy(recv.address(), at_rate(20_000));
    let ticket = redirect(&recv.ticket, &through);

    let (send, took) =
        timed(|| world.run("client", ["send", "--timeout", "3s", "--streams", "1", "a", &ticket]));

    send.is_done();
    recv.wait().is_done();
    assert!(took > Duration::from_secs(4), "it was not slow: {took:?}");
    assert!(world.read("in/a") == world.read("a"));
}

#[test]
fn a_timeout_that_leaves_no_room_for_a_heartbeat_is_refused() {
    let world = World::new();
    world.write("a", "1");

    for arguments in [&["send", "--timeout", "1s", "a", "x:y"][..], &["serve", "--timeout", "2900ms", "."]] {
        let ended = world.run("client", arguments);
        assert_eq!(ended.code, exit::USAGE, "{ended:?}");
        assert!(ended.stderr.contains("at least 3s"), "{ended:?}");
    }
}

#[test]
fn a_done_before_the_end_is_no_success() {
    // protocol.md [END-3]
    let world = World::new();
    world.write("a", "12345");
    let impostor = Impostor::new();
    let done = || Frame::Message(Message::Close(Close { code: Code::Done, text: String::new() }));

    let send = world.start("client", ["send", "a", &impostor.ticket("")]);
    let (mut of_sender, _) = impostor.accept_open();
    of_sender.send(done());
    let send = send.wait();
    let get = world.start("client", ["get", &impostor.ticket("b"), "-o", "in/"]);
    let (mut of_receiver, _) = impostor.accept_open();
    listing(&[file("b", 2)]).into_iter().for_each(|frame| of_receiver.send(frame));
    of_receiver.send(done());
    let get = get.wait();

    for ended in [send, get] {
        ended.fails(exit::PEER, &["closed the session before its end"]).in_one_line();
    }
}

#[test]
fn a_sender_whose_confirmation_is_lost_says_that_all_was_sent() {
    // protocol.md [END-4]
    let world = World::new();
    world.write("a", "12345");
    let impostor = Impostor::new();

    let send = world.start("client", ["send", "a", &impostor.ticket("")]);
    let (mut wire, _) = impostor.accept_open();
    while !matches!(wire.next(), Some(Frame::Message(Message::Listed(_)))) {}
    wire.send(Frame::Feedback { credit: 8 << 20, placed: Vec::new() });
    wire.send(Frame::Message(Message::Wants(Wants { wants: vec![(0, Want::Content)] })));
    while !matches!(wire.next(), Some(Frame::FileEnd(_))) {}
    wire.send(Frame::Message(Message::Outcomes(Outcomes { outcomes: vec![(0, Outcome::Done)] })));
    while !matches!(wire.next(), Some(Frame::Message(Message::Finish(_)))) {}
    wire.cut();

    let send = send.wait();
    send.fails(exit::CONNECT, &["127.0.0.1:", "all sent, confirmation missing"]);
}

#[test]
fn what_is_finished_has_its_name_while_more_is_coming() {
    let world = World::new();
    // Too few for a batch, and never a pause that would end one: seconds long.
    for number in 0..400 {
        world.write(&format!("tree/{number}"), noise(20_000));
    }
    let recv = world.recv("in", &[]);
    let send = world.start("client", [&["send", "tree", &recv.ticket], &SLOW[..]].concat());
    let names = || {
        let entries = std::fs::read_dir(world.path("in/tree")).into_iter().flatten().flatten();
        entries.filter(|entry| !entry.file_name().as_bytes().starts_with(b".haul-")).count()
    };

    eventually("the first name", || (names() > 0).then_some(()));
    send.signal(Signal::KILL);
    recv.process.says("still waiting");

    let finished = names();
    assert!((1..400).contains(&finished), "{finished}");
    let again = world.run("client", ["send", "tree", &recv.ticket]);
    recv.wait().is_done();
    assert!(again.is_done().stderr.contains(&format!("{finished} unchanged")), "{finished}: {again:?}");
}

/// Passes so many bytes a second in each direction.
fn at_rate(
    bytes_per_s: u32,
) -> impl Fn(bool, &[u8], &mut std::net::TcpStream) -> std::io::Result<()> + Clone + Send {
    move |_, bytes, to| {
        for piece in bytes.chunks(1000) {
            to.write_all(piece)?;
            pause(Duration::from_secs(1) * u32::try_from(piece.len()).unwrap() / bytes_per_s);
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a slow link is made of time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
