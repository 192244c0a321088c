//! Words about flows that do not belong: the session ends, in words.

use haul::limits::{FLOW_NUMBER_MIN, STREAMS_MAX};
use haul::security::Ticket;
use haul::session::Credential;
use haul::wire::frame::Frame;
use haul::wire::hello::{FEATURE_REJOIN, Join};
use haul::wire::message::{Code, FlowAccept, FlowMode, FlowOpen, Heard, Law, Message, StreamEnd};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, file, listing, push};
use crate::world::{World, exit};

#[test]
fn a_server_takes_one_attempt_at_a_time_and_each_once() {
    // protocol.md [FLOW-2]
    let world = World::new();
    let server = world.serve("root", &[]);
    for again in [open(5), open(4), open(6), Message::FlowAccept(accept(5))] {
        let (mut wire, _) = Guest::new().open(&server.ticket, push());
        wire.send(Frame::Message(open(5)));
        assert_eq!(accept_of(&mut wire).attempt, 5);

        wire.send(Frame::Message(again));

        let close = wire.close_of_peer().expect("it says why");
        assert_eq!(close.code, Code::Protocol, "{close:?}");
    }
    // Nor again when the first is over.
    for again in [5, 4] {
        let (mut wire, _) = Guest::new().open(&server.ticket, push());
        wire.send(Frame::Message(open(5)));
        assert_eq!(accept_of(&mut wire).attempt, 5);
        let over = StreamEnd { stream: FLOW_NUMBER_MIN + 5, received: 0 };
        wire.send(Frame::Message(Message::StreamEnd(over)));

        wire.send(Frame::Message(open(again)));

        let close = wire.close_of_peer().expect("it says why");
        assert_eq!(close.code, Code::Protocol, "{close:?}");
    }
    is_serving(&world, &server);
}

#[test]
fn a_server_takes_a_further_attempt_when_the_one_before_is_over_or_was_refused() {
    // protocol.md [FLOW-2]
    let world = World::new();
    let server = world.serve("root", &[]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    wire.send(Frame::Message(open(0)));
    assert_ne!(accept_of(&mut wire).connection, 0);

    wire.send(Frame::Message(Message::StreamEnd(StreamEnd { stream: FLOW_NUMBER_MIN, received: 0 })));
    wire.send(Frame::Message(open(1)));
    assert_ne!(accept_of(&mut wire).connection, 0);

    let many = u16::try_from(STREAMS_MAX).unwrap();
    wire.send(Frame::Message(Message::StreamEnd(StreamEnd { stream: FLOW_NUMBER_MIN + 1, received: 0 })));
    for attempt in [many, many + 1] {
        wire.send(Frame::Message(open(attempt)));
        assert_eq!(accept_of(&mut wire), FlowAccept { attempt, connection: 0, port: 0 });
    }
}

#[test]
fn a_client_takes_no_answer_to_what_it_has_not_asked() {
    // protocol.md [FLOW-2]
    for transport in ["tcp", "udp"] {
        let world = World::new();
        let impostor = Impostor::new();
        let ticket = impostor.ticket("a");
        let client = world.start("client", ["get", &ticket, "-o", "out/", "--transport", transport]);
        let (mut wire, _) = impostor.accept_open();
        wire.send(listing(&[file("a", 5)])[0].clone());

        wire.send(Frame::Message(Message::FlowAccept(accept(7))));

        client.wait().fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
    }
}

#[test]
fn a_control_connection_is_taken_over_only_where_both_said_so_and_by_who_knows_the_secret() {
    // protocol.md [REJOIN-1], [REJOIN-2]
    let world = World::new();
    let server = world.serve("root", &[]);
    let address = &Ticket::parse(&server.ticket).unwrap().addresses[0];
    let rejoin = |guest: &Guest, session: [u8; 16], secret: &haul::security::SessionSecret| {
        let join = Join { session, stream: 0 };
        guest.try_open(address, Credential::Join { secret: secret.clone(), join }, Some(join), None)
    };

    let mut guest = Guest::new();
    let (mut wire, opened) = guest.open(&server.ticket, push());
    wire.next().expect("a first word, from a session that runs");
    let (_other, other) = guest.open(&server.ticket, push());
    assert!(rejoin(&guest, opened.session, &other.secret).is_err(), "another secret");
    assert!(rejoin(&Guest::new(), opened.session, &opened.secret).is_err(), "another key");
    // Its own is taken over, and the connection before is closed.
    let (mut again, _) = rejoin(&guest, opened.session, &opened.secret).map_err(drop).unwrap();
    assert!(matches!(again.next(), Some(Frame::Message(Message::Heard(heard))) if heard.frames == 0));
    assert_eq!(wire.close_of_peer(), None);

    guest.features &= !FEATURE_REJOIN;
    let (_wire, opened) = guest.open(&server.ticket, push());
    assert!(rejoin(&guest, opened.session, &opened.secret).is_err(), "without the feature");
    is_serving(&world, &server);
}

#[test]
fn hearing_what_was_not_sent_ends_the_session() {
    // protocol.md [REJOIN-2]
    let world = World::new();
    let server = world.serve("root", &[]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());

    wire.send(Frame::Message(Message::Heard(Heard { frames: 1 << 40 })));

    assert_eq!(wire.close_of_peer().expect("it says why").code, Code::Protocol);
    is_serving(&world, &server);
}

fn open(attempt: u16) -> Message {
    let (mode, law) = (FlowMode::Reliable, Law::Bbr);
    Message::FlowOpen(FlowOpen { attempt, connection: 7, is_only: false, mode, law, rate_bps: 0 })
}

fn accept(attempt: u16) -> FlowAccept {
    FlowAccept { attempt, connection: 7, port: 7 }
}

fn accept_of(wire: &mut Wire) -> FlowAccept {
    loop {
        if let Frame::Message(Message::FlowAccept(accept)) = wire.next().expect("an answer") {
            return accept;
        }
    }
}
