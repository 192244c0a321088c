//! Bytes that are no frames, and frames that do not belong, in both directions. The connection ends, in words; the
//! server goes on, and a client's target is as it was.

use std::io::Read as _;

use haul::limits;
use haul::wire::frame::{Frame, FrameType};
use haul::wire::message::{Code, Message, Outcome, Ping};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, content, file, listing, push, send_all};
use crate::world::{World, exit, noise};

/// How bytes are wrong, what to say, and what the other end calls it.
type Wrong = (&'static str, fn(&mut Wire), &'static str);

const WRONG: [Wrong; 8] = [
    // protocol.md [FRAME-2]
    (
        "a huge length",
        |wire| wire.send_raw(&frame(u32::MAX, FrameType::Ping.number(), 0, &[])),
        "4294967295 bytes",
    ),
    // protocol.md [FRAME-2]
    (
        "a huge chunk",
        |wire| wire.send_raw(&frame(64 << 20, FrameType::Data.number(), 0, &[0; 16])),
        "67108864 bytes",
    ),
    // protocol.md [FRAME-5]
    ("an unknown type", |wire| wire.send_raw(&frame(0, 99, 0, &[])), "unknown type 99"),
    // protocol.md [MSG-2]
    (
        "a trailing byte",
        |wire| wire.send_raw(&frame(9, FrameType::Ping.number(), 0, &[0; 9])),
        "malformed Ping",
    ),
    // protocol.md [MSG-2]
    (
        "a byte too few",
        |wire| wire.send_raw(&frame(7, FrameType::Ping.number(), 0, &[0; 7])),
        "malformed Ping",
    ),
    // protocol.md [DATA-1]
    (
        "a chunk without content",
        |wire| wire.send_raw(&frame(16, FrameType::Data.number(), 0, &[0; 16])),
        "malformed",
    ),
    // protocol.md [MSG-4]: a list that says it is long and is not there.
    (
        "a list of 2^60",
        |wire| {
            let list = [&0_u64.to_le_bytes()[..], &(1_u64 << 60).to_le_bytes()].concat();
            wire.send_raw(&frame(16, FrameType::Entries.number(), 0, &list));
        },
        "malformed Entries",
    ),
    // protocol.md [ROLE-1]
    (
        "a frame that belongs elsewhere",
        |wire| {
            let open = crate::peer::open_of(push());
            wire.send(Frame::Message(Message::Open(open)));
        },
        "Open",
    ),
];

#[test]
fn a_server_ends_the_connection_and_goes_on() {
    let world = World::new();
    let server = world.serve("root", &[]);
    for (what, say, named) in WRONG {
        let (mut wire, _) = Guest::new().open(&server.ticket, push());
        for frame in listing(&[file("a", 5)]) {
            wire.send(frame);
        }
        say(&mut wire);

        let close = wire.close_of_peer();

        // protocol.md [ERR-1], [ERR-2]
        let close = close.unwrap_or_else(|| panic!("{what}: no CLOSE"));
        assert_eq!(close.code, Code::Protocol, "{what}: {close:?}");
        assert!(close.text.contains(named), "{what}: {close:?}");
        let line = server.process.says(named);
        assert!(
            line.starts_with("haul: 127.0.0.1:") && line.contains("broke the protocol"),
            "{what}: {line}"
        );
        assert!(world.names("root").is_empty(), "{what}");
    }
    is_serving(&world, &server);
}

#[test]
fn a_client_ends_with_the_code_for_a_bad_peer_and_its_target_is_untouched() {
    for (what, say, named) in WRONG {
        let world = World::new();
        world.write("out/a", "as it was");
        let impostor = Impostor::new();

        let client = world.start("client", ["get", &impostor.ticket("a"), "-o", "out/"]);
        let (mut wire, _) = impostor.accept_open();
        wire.send(listing(&[file("a", 5)])[0].clone());
        while !matches!(wire.next(), Some(Frame::Message(Message::Wants(_)))) {}
        say(&mut wire);
        let close = wire.close_of_peer();

        let ended = client.wait();
        ended.fails(exit::PEER, &["127.0.0.1:", "broke the protocol", named]).in_one_line();
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{what}");
        assert_eq!(world.read("out/a"), b"as it was", "{what}");
        assert_eq!(world.names("out"), ["a"], "{what}");
    }
}

#[test]
fn a_wrong_checksum_ends_a_plain_connection_on_either_side() {
    // protocol.md [FRAME-3]
    let world = World::new();
    let server = world.serve("root", &["--plain"]);
    let impostor = Impostor::plain();
    let spoiled = || {
        let mut bytes = frame(8, FrameType::Ping.number(), 0, &[0; 8]);
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes
    };

    let (mut at_server, _) = Guest::plain().open(&server.ticket, push());
    at_server.send_raw(&spoiled());
    let close = at_server.close_of_peer();
    let client = world.start("client", ["get", "--plain", &impostor.ticket("a"), "-o", "out/"]);
    let (mut at_client, _) = impostor.accept_open();
    at_client.send_raw(&spoiled());

    // It is the network's fault, and nobody's whom one could tell.
    assert_eq!(close, None);
    server.process.says("wrong checksum");
    is_serving(&world, &server);
    client.wait().fails(exit::CONNECT, &["127.0.0.1:", "wrong checksum"]).in_one_line();
    assert!(world.names("out").is_empty());
}

#[test]
fn content_that_was_changed_on_a_plain_connection_never_gets_its_name() {
    // protocol.md [FILE-4]: a checksum that fits does not make the bytes right.
    let world = World::new();
    world.write("root/f", "as it was");
    let server = world.serve("root", &["--plain", "--overwrite", "always"]);
    // It knows no repair.
    let guest = Guest { features: 0, ..Guest::plain() };
    let (mut wire, _) = guest.open(&server.ticket, push());
    for frame in listing(&[file("f", 5), file("g", 5)]) {
        wire.send(frame);
    }
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        match wire.next().expect("the session goes on") {
            Frame::Message(Message::Wants(wants)) => {
                for (number, _) in wants.wants {
                    let [Frame::Data { file, offset, .. }, end] = &content(number, b"right")[..] else {
                        panic!()
                    };
                    let bytes = if *file == 0 { b"wrong".to_vec() } else { b"right".to_vec() };
                    wire.send(Frame::Data { file: *file, offset: *offset, bytes });
                    wire.send(end.clone());
                }
            }
            Frame::Message(Message::Outcomes(told)) => outcomes.extend(told.outcomes),
            _ => {}
        }
    }

    outcomes.sort_by_key(|(number, _)| *number);
    assert!(matches!(outcomes[0].1, Outcome::Failed { code: Code::Integrity, .. }), "{outcomes:?}");
    assert_eq!(outcomes[1].1, Outcome::Done);
    assert_eq!(world.read("root/f"), b"as it was");
    assert_eq!(world.names("root"), ["f", "g"]);
}

#[test]
fn a_connection_that_is_cut_inside_a_frame_is_a_cut_and_leaves_nothing() {
    // protocol.md [FRAME-4], [CONN-2]
    let world = World::new();
    let server = world.serve("root", &[]);
    // A piece that is whole, so that there is an unfinished file, and a piece that is not.
    let cut = |wire: &mut Wire| {
        let bytes = noise(300_000);
        let piece = |offset: usize| Frame::Data {
            file: 0,
            offset: offset as u64,
            bytes: bytes[offset..offset + 150_000].to_vec(),
        };
        wire.send(piece(0));
        while !matches!(wire.next(), Some(Frame::Feedback { placed, .. }) if !placed.is_empty()) {}
        wire.send_raw(&piece(150_000).encode()[..100_000]);
    };

    let (mut at_server, _) = Guest::new().open(&server.ticket, push());
    for frame in listing(&[file("a", 300_000)]) {
        at_server.send(frame);
    }
    while !matches!(at_server.next(), Some(Frame::Message(Message::Wants(_)))) {}
    cut(&mut at_server);
    assert_eq!(world.names("root").len(), 1);
    at_server.cut();
    let line = server.process.says("closed the connection without finishing");

    let impostor = Impostor::new();
    let client = world.start("client", ["get", &impostor.ticket("a"), "-o", "out/"]);
    let (mut at_client, _) = impostor.accept_open();
    for frame in listing(&[file("a", 300_000)]) {
        at_client.send(frame);
    }
    cut(&mut at_client);
    assert_eq!(world.names("out").len(), 1);
    at_client.cut();

    assert!(line.contains("127.0.0.1:"), "{line}");
    is_serving(&world, &server);
    let ended = client.wait();
    ended.fails(exit::CONNECT, &["127.0.0.1:", "closed the connection without finishing"]).in_one_line();
    crate::world::eventually("the server's part is removed", || world.names("root").is_empty().then_some(()));
    assert!(world.names("out").is_empty());
}

#[test]
fn an_unknown_frame_that_may_be_skipped_is_skipped() {
    // protocol.md [FRAME-5]
    let world = World::new();
    let server = world.serve("root", &[]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());

    wire.send_raw(&frame(1000, 99, 1, &[7; 1000]));
    let outcomes = send_all(&mut wire, &[file("a", 2)], b"ok");

    assert_eq!(outcomes.unwrap()[&0], Outcome::Done);
    assert_eq!(world.read("root/a"), b"ok");
}

#[test]
fn what_breaks_the_rules_of_content_ends_the_session() {
    let data = |file, offset, bytes: &[u8]| Frame::Data { file, offset, bytes: bytes.to_vec() };
    let end = |number, bytes: &[u8]| content(number, bytes).pop().unwrap();
    let big = noise(usize::try_from(limits::CREDIT_MIN_BYTES).unwrap());
    // After the WANT for entry 0, a file of 5 bytes.
    let wrong: [(&str, Vec<Frame>); 6] = [
        ("content twice [DATA-6]", vec![data(0, 0, b"abc"), data(0, 2, b"cd")]),
        ("content behind the end [DATA-6]", vec![data(0, 3, b"abc")]),
        ("content of nothing [ENTRY-5]", vec![data(7, 0, b"abc")]),
        ("another size than announced [FILE-3]", vec![data(0, 0, b"abc"), end(0, b"abc")]),
        ("an end before the end [END-1]", vec![Frame::Message(Message::Finish(Default::default()))]),
        // protocol.md [CREDIT-1]
        ("more than the credit [CREDIT-1]", (0..17).map(|i| data(9, i << 22, &big)).collect()),
    ];
    let world = World::new();
    let server = world.serve("root", &[]);
    for (what, frames) in wrong {
        let (mut wire, _) = Guest::new().open(&server.ticket, push());
        let [announced, listed] = listing(&[file("a", 5)]);
        wire.send(announced);
        if !what.contains("CREDIT") {
            wire.send(listed);
        }
        while !matches!(wire.next(), Some(Frame::Message(Message::Wants(_)))) {}
        frames.into_iter().for_each(|frame| wire.send(frame));

        let close = wire.close_of_peer();

        // protocol.md [ERR-1]
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{what}");
        assert!(!world.path("root/a").exists(), "{what}");
    }
    is_serving(&world, &server);
}

#[test]
fn a_client_is_not_told_the_end_of_what_it_never_sent() {
    // protocol.md [OUTCOME-2], [END-2], [WANT-1], [DATA-4]
    type Say = fn(&mut Wire);
    let lies: [(&str, Say); 4] = [
        ("done", |wire| {
            let outcomes = vec![(0, Outcome::Done)];
            wire.send(Frame::Message(Message::Outcomes(haul::wire::message::Outcomes { outcomes })));
        }),
        ("receipt", |wire| wire.send(Frame::Message(Message::Receipt(Default::default())))),
        ("wants", |wire| {
            let wants = vec![(99, haul::wire::message::Want::Content)];
            wire.send(Frame::Message(Message::Wants(haul::wire::message::Wants { wants })));
        }),
        ("placed", |wire| {
            let placed = vec![haul::wire::frame::Placed { file: 0, offset: 0, len: 5 }];
            wire.send(Frame::Feedback { credit: 1 << 20, placed });
        }),
    ];
    for (what, lie) in lies {
        let world = World::new();
        world.write("a", "12345");
        let impostor = Impostor::new();

        let client = world.start("client", ["send", "a", &impostor.ticket("")]);
        let (mut wire, _) = impostor.accept_open();
        while !matches!(wire.next(), Some(Frame::Message(Message::Entries(_)))) {}
        lie(&mut wire);
        let close = wire.close_of_peer();

        client.wait().fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{what}");
    }
}

#[test]
fn a_ping_is_answered() {
    // protocol.md [PING-1]
    let world = World::new();
    let server = world.serve("root", &["--plain", "--timeout", "3s"]);
    let (mut wire, _) = Guest::plain().open(&server.ticket, push());
    let pong = Frame::Message(Message::Pong(Ping { number: 42 })).encode();

    wire.send(Frame::Message(Message::Ping(Ping { number: 42 })));

    // The library takes PONG for itself, so that it is looked for in the bytes. The server ends it where none comes.
    let mut seen = Vec::new();
    while !seen.windows(pong.len()).any(|bytes| bytes == pong) {
        let mut buffer = [0; 4096];
        let read = wire.tcp.read(&mut buffer).unwrap();
        assert!(read > 0, "no answer");
        seen.extend_from_slice(&buffer[..read]);
    }
}

/// A frame as its header says, right or wrong.
pub fn frame(length: u32, kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    [&length.to_le_bytes()[..], &kind.to_le_bytes(), &flags.to_le_bytes(), payload].concat()
}
