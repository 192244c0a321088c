//! Words about flows that do not belong: the session ends, in words.

use haul::wire::frame::Frame;
use haul::wire::message::{Code, FlowAccept, FlowMode, FlowOpen, Law, Message};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, file, listing, push};
use crate::world::{World, exit};

#[test]
fn a_server_takes_each_attempt_once_and_answers_it() {
    // protocol.md [FLOW-2]
    let world = World::new();
    let server = world.serve("root", &[]);
    for again in [open(5), open(4), Message::FlowAccept(accept(5))] {
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
