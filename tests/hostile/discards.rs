//! Who asks that nothing be kept gets no more than that, and nowhere but where it is allowed.

use haul::security::{ProofKey, Ticket};
use haul::session::{Credential, Opened, Request};
use haul::wire::frame::Frame;
use haul::wire::hello::{FEATURE_DISCARD, FEATURES};
use haul::wire::message::{Code, DigestKind, Discard, Kind, Message, Outcome};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, entry, file, listing, open_of, push, send_all, symlink};
use crate::world::{World, exit};

const DISCARD: Discard = Discard { digest: DigestKind::Sha256 };

/// A client that discards keeps every name to itself.
#[test]
fn a_name_that_could_leave_the_root_ends_a_session_that_keeps_nothing_too() {
    // protocol.md [DISCARD-2], [NAME-1]
    let world = World::new();
    let server = world.serve("deep/root", &["--discard", "1MB"]);
    for name in ["../x", "/tmp/haul-discarded", "a/../../x", ""] {
        for kind in [Kind::File { size: 1, sparse: false, linked: false }, Kind::Dir, Kind::Stream] {
            let mut wire = discarding(&Guest::new(), &server.ticket).0;

            let close = send_all(&mut wire, &[file("before", 1), entry(name, kind)], b"x").unwrap_err();

            // An empty name is no entry at all.
            assert!(close.is_none_or(|close| close.code == Code::Protocol), "{name:?}");
        }
    }
    let mut wire = discarding(&Guest::new(), &server.ticket).0;
    let told = send_all(&mut wire, &[file("f", 1), symlink("l", "/etc"), file(".haul-x", 1)], b"x").unwrap();
    assert_eq!((&told[&0], &told[&1]), (&Outcome::Done, &Outcome::Done));
    assert!(matches!(told[&2], Outcome::Failed { code: Code::Conflict, .. }), "{told:?}");
    assert_eq!(world.names("deep"), ["root"]);
    assert!(world.names("deep/root").is_empty());
    is_serving(&world, &server);
}

#[test]
fn a_server_without_the_option_takes_nothing_of_who_goes_on_all_the_same() {
    // protocol.md [DISCARD-1]
    let world = World::new();
    let server = world.serve("root", &[]);
    let (mut wire, _) = discarding(&Guest::new(), &server.ticket);

    let mut frames = listing(&[file("f", 1), entry("d", Kind::Dir)]).into_iter();
    frames.by_ref().for_each(|frame| wire.send(frame));
    wire.send(Frame::Data { file: 0, offset: 0, bytes: b"x".to_vec() });
    let close = wire.close_of_peer().unwrap();

    assert_eq!(close.code, Code::NotAllowed, "{close:?}");
    assert!(close.text.contains("--discard SIZE"), "{close:?}");
    assert!(world.names("root").is_empty());
    is_serving(&world, &server);
}

#[test]
fn it_is_for_two_that_know_it_and_comes_once_in_the_place_of_open() {
    // protocol.md [DISCARD-1], [OPEN-1], [ROLE-1]
    let world = World::new();
    let server = world.serve("root", &["--discard", "1MB"]);
    let old = Guest { features: FEATURES & !FEATURE_DISCARD, ..Guest::new() };

    let (mut wire, _) = opened(&old, &server.ticket, None);
    wire.send(Frame::Message(Message::Discard(DISCARD)));
    let of_old = wire.close_of_peer().unwrap();
    let mut again = discarding(&Guest::new(), &server.ticket).0;
    again.send(Frame::Message(Message::Discard(DISCARD)));
    let of_again = again.close_of_peer().unwrap();
    let (mut behind, _) = opened(&Guest::new(), &server.ticket, Some(open_of(push()).into()));
    behind.send(Frame::Message(Message::Discard(DISCARD)));
    let of_behind = behind.close_of_peer().unwrap();

    assert_eq!(of_old.code, Code::Incompatible, "{of_old:?}");
    assert_eq!((of_again.code, of_behind.code), (Code::Protocol, Code::Protocol));
    assert!(world.names("root").is_empty());
    is_serving(&world, &server);
}

/// What an older server is asked for would be kept there.
#[test]
fn a_server_that_does_not_know_it_hears_nothing_that_it_could_take_for_a_push() {
    // protocol.md [DISCARD-1]
    let world = World::new();
    world.write("f", "content");
    for impostor in [Impostor::new(), Impostor::plain()] {
        let impostor = impostor.with_features(FEATURES & !FEATURE_DISCARD);
        let plain: &[&str] = if impostor.is_plain() { &["--plain"] } else { &[] };
        let ticket = impostor.ticket("");
        let arguments = [&["send", "f", &ticket, "--discard"], plain].concat();

        let send = world.start("client", arguments);
        let asked = impostor.accept_auth().map(drop);

        assert!(asked.is_err(), "the client has shown what admits it");
        send.wait().fails(exit::PEER, &["does not know --discard"]).in_one_line();
    }
}

/// A session that asks for it.
fn discarding(guest: &Guest, ticket: &str) -> (Wire, Opened) {
    opened(guest, ticket, Some(Request::Discard(DISCARD)))
}

fn opened(guest: &Guest, ticket: &str, request: Option<Request>) -> (Wire, Opened) {
    let ticket = Ticket::parse(ticket).unwrap();
    let credential = Credential::Token(ProofKey::from_token(&ticket.token));
    guest.try_open(&ticket.addresses[0], credential, None, request).unwrap()
}
