//! A receiver that lies: a server that takes what a client sends, and says what no receiver says.

use haul::wire::frame::{Frame, Placed};
use haul::wire::message::{
    Check, Code, Entries, Message, Outcome, Outcomes, RawReport, Receipt, Resume, Span, StreamEnd, Want,
    Wants,
};

use crate::peer::{Impostor, Wire, file};
use crate::world::{World, exit};

/// What is wrong, and how to say it, after the listing has come: file 0 has five bytes and 1 is a directory.
type Lie = (&'static str, fn(&mut Wire));

const LIES: [Lie; 15] = [
    // protocol.md [CREDIT-2]
    ("credit that is taken back", |wire| {
        feedback(wire, 100, Vec::new());
        feedback(wire, 99, Vec::new());
    }),
    // protocol.md [DATA-4]
    ("a place for what was not sent", |wire| {
        feedback(wire, 0, vec![Placed { file: 0, offset: 0, len: 5 }]);
    }),
    ("a place for more than was sent", |wire| {
        await_content(wire);
        feedback(wire, 1 << 20, vec![Placed { file: 0, offset: 0, len: 6 }]);
    }),
    ("a place twice", |wire| {
        await_content(wire);
        let placed = Placed { file: 0, offset: 0, len: 5 };
        feedback(wire, 1 << 20, vec![placed, placed]);
    }),
    // protocol.md [WANT-1]
    ("a wish for the same twice", |wire| wants(wire, &[(0, Want::Content), (0, Want::Content)])),
    ("a wish for a directory", |wire| wants(wire, &[(1, Want::Content)])),
    ("a wish for what was never announced", |wire| wants(wire, &[(u64::MAX, Want::Digest)])),
    // protocol.md [OUTCOME-1], [OUTCOME-2]
    ("an outcome of what was never announced", |wire| outcome(wire, 99, Outcome::Done)),
    ("two outcomes", |wire| {
        outcome(wire, 1, Outcome::Done);
        outcome(wire, 1, Outcome::Done);
    }),
    ("done before it was sent", |wire| outcome(wire, 0, Outcome::Done)),
    // protocol.md [END-2]
    ("a receipt before the end", |wire| wire.send(Frame::Message(Message::Receipt(Receipt::default())))),
    // protocol.md [RESUME-1]
    ("ranges of a directory", |wire| {
        let kept = vec![Span { offset: 0, len: 1 }];
        wire.send(Frame::Message(Message::Resume(Resume { file: 1, kept })));
    }),
    // protocol.md [REPAIR-2]
    ("sums of blocks that no file has", |wire| {
        wire.send(Frame::Message(Message::Check(Check { file: 0, first: u64::MAX, count: 1 })));
    }),
    // protocol.md [STREAM-3]
    ("more received on a connection than was sent", |wire| {
        wire.send(Frame::Message(Message::StreamEnd(StreamEnd { stream: 1, received: u64::MAX })));
    }),
    // protocol.md [ROLE-1]
    ("what only a sender says", |wire| {
        let entries = Entries { first: 0, entries: vec![file("planted", 5)] };
        wire.send(Frame::Message(Message::Entries(entries)));
    }),
];

#[test]
fn a_receiver_that_says_what_none_says_is_left() {
    // protocol.md [ERR-1]
    let world = World::new();
    world.write("src/f", "12345");
    world.dir("src/z");
    for (what, lie) in LIES {
        let impostor = Impostor::new();

        let send = world.start("client", ["send", "src/", &impostor.ticket(""), "--transport", "tcp"]);
        let (mut wire, _) = impostor.accept_open();
        while !matches!(wire.next(), Some(Frame::Message(Message::Listed(_)))) {}
        lie(&mut wire);
        let close = wire.close_of_peer();
        drop(wire);

        send.wait().fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{what}");
    }
    assert_eq!(world.names("src"), ["f", "z"]);
}

#[test]
fn a_report_on_a_raw_flow_that_nobody_asked_for_ends_the_session() {
    // protocol.md [RAW-7]
    let world = World::new();
    world.write("f", "12345");
    let impostor = Impostor::new();
    let report = RawReport {
        attempt: 0,
        received: u64::MAX,
        farthest: u64::MAX,
        out_of_order: 0,
        duplicated: 0,
        damaged: 0,
        dropped: 0,
        discarded: 0,
        checksum_errors: 0,
        intact_files: 1,
        damaged_files: 0,
        missing_bytes: u64::MAX,
        missing: Vec::new(),
        more_ranges: u64::MAX,
    };

    let send = world.start("client", ["send", "f", &impostor.ticket("")]);
    let (mut wire, _) = impostor.accept_open();
    wire.send(Frame::Message(Message::RawReport(report)));
    let close = wire.close_of_peer();

    send.wait().fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
    assert_eq!(close.map(|close| close.code), Some(Code::Protocol));
}

fn feedback(wire: &mut Wire, credit: u64, placed: Vec<Placed>) {
    wire.send(Frame::Feedback { credit, placed });
}

fn wants(wire: &mut Wire, wants: &[(u64, Want)]) {
    wire.send(Frame::Message(Message::Wants(Wants { wants: wants.to_vec() })));
}

fn outcome(wire: &mut Wire, number: u64, outcome: Outcome) {
    wire.send(Frame::Message(Message::Outcomes(Outcomes { outcomes: vec![(number, outcome)] })));
}

/// Asks for file 0 and waits until all of it has come.
fn await_content(wire: &mut Wire) {
    feedback(wire, 1 << 20, Vec::new());
    wants(wire, &[(0, Want::Content)]);
    while !matches!(wire.next().expect("the session goes on"), Frame::FileEnd(_)) {}
}
