//! Peers that fall silent, at every step of the protocol and on both sides: each is given up in time, in words.

use std::io::Read as _;

use haul::run::clock;
use haul::security::{ProofKey, Ticket};
use haul::session::Credential;
use haul::wire::frame::Frame;
use haul::wire::hello::Hello;
use haul::wire::message::{Auth, AuthMethod, Finish, Message, Outcome, Outcomes, Want, Wants, Welcome};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, content, file, listing, push};
use crate::world::{LIMIT, World, exit};

/// How far a peer goes before it falls silent.
type Step<T> = (&'static str, fn(T) -> Wire);

const AT_SERVER: [Step<(Guest, String)>; 9] = [
    ("behind the handshake", |(guest, line)| established(&guest, &line)),
    ("inside the hello", |(guest, line)| {
        let mut wire = established(&guest, &line);
        wire.send_raw(&Hello::ours(clock::random(), None).encode()[..20]);
        wire
    }),
    ("behind the hello", |(guest, line)| {
        let mut wire = established(&guest, &line);
        wire.send_raw(&Hello::ours(clock::random(), None).encode());
        wire
    }),
    ("inside the proof", |(guest, line)| {
        let mut wire = established(&guest, &line);
        wire.send_raw(&Hello::ours(clock::random(), None).encode());
        let auth = Frame::Message(Message::Auth(Auth { method: AuthMethod::Token, proof: [0; 32] }));
        wire.send_raw(&auth.encode()[..20]);
        wire
    }),
    ("behind the proof", |(guest, line)| {
        let ticket = Ticket::parse(&line).unwrap();
        let credential = Credential::Token(ProofKey::from_token(&ticket.token));
        guest.try_open(&ticket.addresses[0], credential, None, None).unwrap().0
    }),
    ("behind the request", |(guest, line)| guest.open(&line, push()).0),
    ("inside a frame", |(guest, line)| {
        let mut wire = guest.open(&line, push()).0;
        wire.send_raw(&listing(&[file("inside", 5)])[0].encode()[..20]);
        wire
    }),
    ("behind the listing", |(guest, line)| {
        let mut wire = guest.open(&line, push()).0;
        listing(&[file("listed", 5)]).into_iter().for_each(|frame| wire.send(frame));
        while !matches!(wire.next(), Some(Frame::Message(Message::Wants(_)))) {}
        wire
    }),
    ("before the last word", |(guest, line)| {
        let mut wire = guest.open(&line, push()).0;
        listing(&[file("whole", 5)]).into_iter().for_each(|frame| wire.send(frame));
        content(0, b"12345").into_iter().for_each(|frame| wire.send(frame));
        while !matches!(wire.next(), Some(Frame::Message(Message::Outcomes(_)))) {}
        wire
    }),
];

#[test]
fn a_client_that_falls_silent_at_any_step_is_given_up() {
    // protocol.md [AUTH-6], [OPEN-1], [PING-3]. All at once: they cost ten seconds.
    let world = World::new();
    let server = world.serve("root", &["--timeout", "3s"]);
    let waiting = AT_SERVER.map(|(what, step)| {
        let line = server.ticket.clone();
        std::thread::spawn(move || (what, closes(step((Guest::new(), line)))))
    });

    for thread in waiting {
        let (what, is_closed) = thread.join().unwrap();
        assert!(is_closed, "{what}");
    }
    assert_eq!(world.live("root"), ["whole"]);
    is_serving(&world, &server);
}

#[test]
fn a_sender_that_never_confirms_the_last_word_does_not_keep_the_receiver() {
    // protocol.md [END-4]: even one that answers all else.
    let world = World::new();
    let recv = world.recv("in", &[]);
    let (mut wire, _) = Guest::new().open(&recv.ticket, push());
    listing(&[file("f", 5)]).into_iter().for_each(|frame| wire.send(frame));
    content(0, b"12345").into_iter().for_each(|frame| wire.send(frame));
    while !matches!(wire.next(), Some(Frame::Message(Message::Outcomes(_)))) {}
    wire.send(Frame::Message(Message::Finish(Finish::default())));

    while wire.next().is_some() {}

    recv.wait().is_done();
    assert_eq!(world.read("in/f"), b"12345");
}

const AT_CLIENT: [Step<Impostor>; 5] = [
    ("behind the hello", |impostor| impostor.accept_auth().unwrap().0),
    ("inside the welcome", |impostor| {
        let (mut wire, _) = impostor.accept_auth().unwrap();
        let welcome = Welcome { proof: [0; 32], session: [1; 16], max_streams: 1 };
        wire.send_raw(&Frame::Message(Message::Welcome(welcome)).encode()[..20]);
        wire
    }),
    ("behind the welcome", |impostor| impostor.accept_open().0),
    ("inside a frame", |impostor| {
        let mut wire = impostor.accept_open().0;
        wire.send_raw(
            &Frame::Message(Message::Wants(Wants { wants: vec![(0, Want::Content)] })).encode()[..9],
        );
        wire
    }),
    ("before the last word", |impostor| {
        let mut wire = impostor.accept_open().0;
        while !matches!(wire.next(), Some(Frame::Message(Message::Listed(_)))) {}
        wire.send(Frame::Feedback { credit: 1 << 20, placed: Vec::new() });
        wire.send(Frame::Message(Message::Wants(Wants { wants: vec![(0, Want::Content)] })));
        while !matches!(wire.next(), Some(Frame::FileEnd(_))) {}
        wire.send(Frame::Message(Message::Outcomes(Outcomes { outcomes: vec![(0, Outcome::Done)] })));
        while !matches!(wire.next(), Some(Frame::Message(Message::Finish(_)))) {}
        wire
    }),
];

#[test]
fn a_server_that_falls_silent_at_any_step_is_given_up_by_who_sends() {
    // protocol.md [PING-3]. All at once: they cost ten seconds.
    let world = World::new();
    world.write("f", "12345");
    let impostors = AT_CLIENT.map(|(what, step)| (what, step, Impostor::new()));
    let sending = impostors.each_ref().map(|(_, _, impostor)| {
        let ticket = impostor.ticket("");
        world.start("client", ["send", "f", &ticket, "--timeout", "3s", "--transport", "tcp"])
    });

    let silent = impostors.map(|(what, step, impostor)| {
        std::thread::spawn(move || {
            let wire = step(impostor);
            (what, closes(wire))
        })
    });

    for (send, thread) in sending.into_iter().zip(silent) {
        let send = send.wait();
        let (what, is_closed) = thread.join().unwrap();
        assert!(is_closed, "{what}");
        assert_eq!(send.code, exit::TIMED_OUT, "{what}: {send:?}");
    }
}

#[test]
fn a_server_that_falls_silent_at_any_step_is_given_up_by_who_gets() {
    // protocol.md [PING-3]
    let steps: [Step<Impostor>; 4] = [
        ("behind the hello", |impostor| impostor.accept_auth().unwrap().0),
        ("behind the welcome", |impostor| impostor.accept_open().0),
        ("behind the listing", |impostor| {
            let mut wire = impostor.accept_open().0;
            listing(&[file("f", 5)]).into_iter().for_each(|frame| wire.send(frame));
            while !matches!(wire.next(), Some(Frame::Feedback { .. })) {}
            wire
        }),
        ("before the last word", |impostor| {
            let mut wire = impostor.accept_open().0;
            listing(&[file("f", 5)]).into_iter().for_each(|frame| wire.send(frame));
            content(0, b"12345").into_iter().for_each(|frame| wire.send(frame));
            while !matches!(wire.next(), Some(Frame::Message(Message::Outcomes(_)))) {}
            wire
        }),
    ];
    let world = World::new();
    world.dir("out");
    let impostors = steps.map(|(what, step)| (what, step, Impostor::new()));
    let getting = impostors.each_ref().map(|(_, _, impostor)| {
        world.start("client", ["get", &impostor.ticket("f"), "-o", "out/", "--timeout", "3s"])
    });

    let silent = impostors.map(|(what, step, impostor)| {
        std::thread::spawn(move || {
            let wire = step(impostor);
            (what, closes(wire))
        })
    });

    for (get, thread) in getting.into_iter().zip(silent) {
        let get = get.wait();
        let (what, is_closed) = thread.join().unwrap();
        assert!(is_closed, "{what}");
        assert_eq!(get.code, exit::TIMED_OUT, "{what}: {get:?}");
    }
}

/// Connects and shakes hands, without a hello.
fn established(guest: &Guest, line: &str) -> Wire {
    let ticket = Ticket::parse(line).unwrap();
    let mut wire = guest.dial(&ticket.addresses[0].to_string());
    while !wire.link.is_established() {
        wire.flush();
        wire.read();
    }
    wire.flush();
    wire
}

/// Says nothing more, answers nothing, and waits for the other end to close; `false` if it never does.
fn closes(wire: Wire) -> bool {
    let mut tcp = wire.tcp;
    let until = clock::now() + LIMIT;
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    while clock::now() < until {
        match tcp.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
    false
}
