//! Attacks on the authentication: proofs replayed, reflected and relayed, a one-time ticket raced for, a session
//! joined with another's secret.

use std::io::Read as _;
use std::sync::{Arc, Mutex};

use haul::run::clock;
use haul::security::{ProofKey, Ticket};
use haul::session::{ClientOpening, Credential, OpeningError};
use haul::stream::Link;
use haul::wire::frame::Frame;
use haul::wire::hello::{Hello, Join};
use haul::wire::message::{Auth, AuthMethod, Code, Message, Outcome, Welcome};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, drive, file, open_of, proxy, push, redirect, send_all, send_bare};
use crate::world::{Process, World, exit, noise};

#[test]
fn a_recorded_session_is_worth_nothing_on_a_second_connection() {
    // protocol.md [AUTH-1], [AUTH-2]: without TLS, the server's nonce alone makes the proof fresh.
    let world = World::new();
    world.write("a", "recorded");
    let server = world.serve("root", &["--plain", "-v"]);
    let recorded = Arc::<Mutex<Vec<u8>>>::default();
    let tape = recorded.clone();
    let through = proxy(server.address(), move |is_up, bytes, to| {
        if is_up {
            tape.lock().unwrap().extend_from_slice(bytes);
        }
        std::io::Write::write_all(to, bytes)
    });
    let ticket = redirect(&server.ticket, &through);
    world.run("client", ["send", "--plain", "--streams", "1", "a", &ticket]).is_done();
    std::fs::remove_file(world.path("root/a")).unwrap();

    let mut replay = Guest::plain().dial(server.address());
    send_bare(&mut replay.tcp, &recorded.lock().unwrap());
    let close = replay.close_of_peer().unwrap();

    assert_eq!(close.code, Code::NotAllowed, "{close:?}");
    assert!(world.names("root").is_empty());
    server.process.says("not allowed");
    is_serving(&world, &server);
}

#[test]
fn a_clients_own_proof_sent_back_to_it_is_refused() {
    // protocol.md [AUTH-3]: the two directions have different labels.
    let world = World::new();
    world.write("a", "1");
    let impostor = Impostor::plain();

    let client = world.start("client", ["send", "--plain", "a", &impostor.ticket("")]);
    let mut wire = impostor.accept();
    let proof = proof_of_client(&mut wire.link, &mut wire.tcp);
    wire.send(Frame::Message(Message::Welcome(Welcome { proof, session: [1; 16], max_streams: 1 })));

    client.wait().fails(exit::NOT_ALLOWED, &["127.0.0.1:", "could not prove", "ticket"]).in_one_line();
}

#[test]
fn a_server_without_the_token_is_refused_though_its_key_is_right() {
    // protocol.md [AUTH-9]
    let world = World::new();
    world.write("a", "1");
    let impostor = Impostor::new();

    let client = world.start("client", ["send", "a", &impostor.ticket("")]);
    let (mut wire, request) = impostor.accept_auth().unwrap();
    drop(request);
    wire.send(Frame::Message(Message::Welcome(Welcome { proof: [0; 32], session: [1; 16], max_streams: 1 })));

    client.wait().fails(exit::NOT_ALLOWED, &["127.0.0.1:", "could not prove"]).in_one_line();
}

#[test]
fn a_proof_relayed_by_a_man_in_the_middle_is_refused() {
    // protocol.md [AUTH-2]: his two connections have different exporters. The client here does not even pin.
    let world = World::new();
    let server = world.serve("root", &[]);
    let impostor = Impostor::new();
    let ticket = Ticket::parse(&server.ticket).unwrap();
    let credential = Credential::Token(ProofKey::from_token(&ticket.token));
    let address = impostor.address();
    let victim = std::thread::spawn(move || {
        let mut wire = Guest::new().dial(&address);
        let mut opening =
            ClientOpening::new(credential, Hello::ours([9; 32], None), Some(open_of(push()).into()));
        drive(&mut wire, |now, link| opening.advance(now, link)).map(drop).is_err()
    });

    // The man answers with the server's own hello and repeats all that the client says.
    let mut to_server = Guest::new().dial(server.address());
    let mut to_client = impostor.accept();
    let hello = until(&mut to_client, |link| link.peer_hello().map(|(_, bytes)| bytes.clone()));
    while !to_server.link.is_established() {
        to_server.flush();
        to_server.read();
    }
    to_server.send_raw(&hello);
    let answer = until(&mut to_server, |link| link.peer_hello().map(|(_, bytes)| bytes.clone()));
    to_client.send_raw(&answer);
    let proof = until(&mut to_client, Link::poll_frame);
    assert!(matches!(proof, Frame::Message(Message::Auth(Auth { method: AuthMethod::Token, .. }))));
    to_server.send(proof);
    let close = to_server.close_of_peer().unwrap();
    to_client.cut();

    assert_eq!(close.code, Code::NotAllowed, "{close:?}");
    assert!(victim.join().unwrap());
    is_serving(&world, &server);
}

#[test]
fn of_two_clients_racing_for_a_one_time_ticket_one_wins() {
    // protocol.md [AUTH-8]
    for _ in 0..2 {
        let world = World::new();
        let names = ["ann", "bob", "cyd"];
        for name in names {
            world.write(name, noise(4 << 20));
        }
        let server = world.recv("in", &[]);

        // Slow, so that the others come while the winner is there.
        let racing = names.map(|name| world.start(name, ["send", "--rate", "20mbit", name, &server.ticket]));
        let ended = racing.map(Process::wait);

        let winner = ended.iter().position(|ended| ended.code == exit::DONE);
        let winner = winner.unwrap_or_else(|| panic!("nobody won: {ended:?}"));
        for loser in ended.iter().enumerate().filter(|(at, _)| *at != winner).map(|(_, ended)| ended) {
            loser.fails(exit::NOT_ALLOWED, &["127.0.0.1:", "not allowed", "used"]).in_one_line();
        }
        server.wait().is_done();
        assert_eq!(world.names("in"), [names[winner]]);
    }
}

#[test]
fn a_claimed_ticket_admits_nobody_else_while_its_owner_is_gone() {
    // protocol.md [AUTH-8]
    let world = World::new();
    world.write("b", "not yours");
    let server = world.recv("in", &[]);
    let owner = Guest::new();
    let (wire, _) = owner.open(&server.ticket, push());
    wire.cut();
    server.process.says("still waiting");

    let other = world.run("other", ["send", "b", &server.ticket]);
    let (mut wire, _) = owner.open(&server.ticket, push());
    let outcomes = send_all(&mut wire, &[file("mine", 2)], b"ok").unwrap();

    other.fails(exit::NOT_ALLOWED, &["not allowed"]).in_one_line();
    assert_eq!(outcomes[&0], Outcome::Done);
    server.wait().is_done();
    assert_eq!(world.names("in"), ["mine"]);
}

#[test]
fn a_claim_outlives_a_crash_of_the_server() {
    // protocol.md [AUTH-8]
    let world = World::new();
    world.write("b", "not yours");
    let server = world.recv("in", &[]);
    let owner = Guest::new();
    let (wire, _) = owner.open(&server.ticket, push());
    let ticket = server.ticket.clone();
    drop(server);
    wire.cut();

    let server = world.recv("in", &[]);
    let other = world.run("other", ["send", "b", &server.ticket]);
    let (mut wire, _) = owner.open(&server.ticket, push());
    let outcomes = send_all(&mut wire, &[file("mine", 2)], b"ok").unwrap();

    assert_eq!(server.ticket, ticket);
    other.fails(exit::NOT_ALLOWED, &["not allowed"]).in_one_line();
    assert_eq!(outcomes[&0], Outcome::Done);
    server.wait().is_done();
    assert_eq!(world.names("in"), ["mine"]);
}

#[test]
fn the_owner_of_a_one_time_ticket_is_in_only_once() {
    // protocol.md [AUTH-8]
    let world = World::new();
    let server = world.recv("in", &[]);
    let owner = Guest::new();
    let (mut first, _) = owner.open(&server.ticket, push());
    let ticket = Ticket::parse(&server.ticket).unwrap();
    let credential = Credential::Token(ProofKey::from_token(&ticket.token));

    let second =
        owner.try_open(&ticket.addresses[0], credential, None, Some(open_of(push()).into())).map(drop);
    let outcomes = send_all(&mut first, &[file("f", 2)], b"ok").unwrap();

    assert!(matches!(second, Err(Some(OpeningError::Refused { code: Code::Busy, .. }))), "{second:?}");
    assert_eq!(outcomes[&0], Outcome::Done);
    server.wait().is_done();
}

#[test]
fn a_session_is_not_joined_with_another_ones_secret_or_key() {
    // protocol.md [STREAM-1], [AUTH-5]
    let world = World::new();
    let server = world.serve("root", &[]);
    let address = &Ticket::parse(&server.ticket).unwrap().addresses[0];
    let guest = Guest::new();
    let (_a, opened_a) = guest.open(&server.ticket, push());
    let (_b, opened_b) = guest.open(&server.ticket, push());
    let join = |guest: &Guest, session: [u8; 16], secret: &haul::security::SessionSecret| {
        let join = Join { session, stream: 1 };
        guest.try_open(address, Credential::Join { secret: secret.clone(), join }, Some(join), None)
    };

    let foreign_secret = join(&guest, opened_a.session, &opened_b.secret).map(drop);
    let foreign_key = join(&Guest::new(), opened_a.session, &opened_a.secret).map(drop);
    let no_session = join(&guest, [0; 16], &opened_a.secret).map(drop);
    let own = join(&guest, opened_a.session, &opened_a.secret).map(drop);
    let again = join(&guest, opened_a.session, &opened_a.secret).map(drop);

    // protocol.md [AUTH-10]: the answer does not tell why.
    let mut texts = [foreign_secret, foreign_key, no_session].map(|refused| match refused {
        Err(Some(OpeningError::Refused { code: Code::NotAllowed, text })) => text,
        other => panic!("{other:?}"),
    });
    texts.sort();
    assert_eq!(texts[0], texts[2]);
    assert!(own.is_ok(), "{own:?}");
    // protocol.md [STREAM-5]
    assert!(matches!(again, Err(Some(OpeningError::Refused { code: Code::Busy, .. }))), "{again:?}");
    is_serving(&world, &server);
}

#[test]
fn a_join_is_asked_for_and_proven_or_neither() {
    // protocol.md [AUTH-11]
    let world = World::new();
    let server = world.serve("root", &["--open"]);
    let guest = Guest::new();
    let (_wire, opened) = guest.open(&server.ticket, push());

    let mut wire = guest.dial(server.address());
    while !wire.link.is_established() {
        wire.flush();
        wire.read();
    }
    let join = Join { session: opened.session, stream: 1 };
    wire.send_raw(&Hello::ours(clock::random(), Some(join)).encode());
    wire.send(Frame::Message(Message::Auth(Auth { method: AuthMethod::Open, proof: [0; 32] })));

    assert_eq!(wire.close_of_peer().unwrap().code, Code::Protocol);
    is_serving(&world, &server);
}

/// The proof that a client sends to a server without TLS.
fn proof_of_client(link: &mut Link, tcp: &mut std::net::TcpStream) -> [u8; 32] {
    let mut is_answered = false;
    let mut buffer = [0; 4096];
    loop {
        if let Some(Frame::Message(Message::Auth(auth))) = link.poll_frame() {
            return auth.proof;
        }
        if link.peer_hello().is_some() && !is_answered {
            is_answered = true;
            send_bare(tcp, &Hello::ours([2; 32], None).encode());
        }
        let read = tcp.read(&mut buffer).unwrap();
        assert!(read > 0, "the client left");
        link.handle_input(std::time::Duration::ZERO, &buffer[..read]).unwrap();
    }
}

/// Reads until the link has something.
fn until<T>(wire: &mut crate::peer::Wire, mut look: impl FnMut(&mut Link) -> Option<T>) -> T {
    loop {
        if let Some(value) = look(&mut wire.link) {
            return value;
        }
        wire.flush();
        assert!(wire.read(), "the other end left");
    }
}
