//! Words about flows that do not belong: the session ends, in words.

use haul::limits::{FLOW_NUMBER_MIN, STREAMS_MAX};
use haul::wire::frame::Frame;
use haul::wire::message::{Code, FlowAccept, FlowMode, FlowOpen, Law, Message, StreamEnd};

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
