//! Going on, asked for wrongly: a session that is not one's own, ranges that are not there, checks without end.

use haul::limits;
use haul::run::clock;
use haul::security::{ProofKey, Ticket};
use haul::session::{ClientOpening, Credential, Opened};
use haul::wire::frame::{FileEnd, Frame};
use haul::wire::hello::Hello;
use haul::wire::message::{Check, Code, Entries, Message, Resume, Span, Sums, Want, Wants};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, drive, file, listing, open_of, push, symlink};
use crate::world::{Listening, World, exit, noise};

const MIB: usize = 1 << 20;
const SIZE: usize = 5 * MIB;

#[test]
fn a_session_makes_way_for_its_own_client_and_for_nobody_else() {
    // protocol.md [RESUME-4]
    let world = World::new();
    world.dir("root");
    let server = world.serve("root", &[]);
    let (owner, stranger) = (Guest::new(), Guest::new());
    let (mut first, opened) = owner.open(&server.ticket, push());

    let (mut other, _) = open_in_place_of(&stranger, &server, &opened);
    assert!(answers(&mut first, 0), "a stranger ended a session");
    let (mut second, _) = open_in_place_of(&owner, &server, &opened);

    assert!(!answers(&mut first, 1), "the session of the same client is still there");
    assert!(answers(&mut other, 0) && answers(&mut second, 0));
    is_serving(&world, &server);
}

#[test]
fn ranges_that_are_not_in_the_file_end_a_push() {
    // protocol.md [RESUME-1]
    let world = World::new();
    world.write("f", noise(SIZE));
    for kept in [vec![(0, SIZE as u64 + 1)], vec![(5, 1), (0, 1)], vec![(u64::MAX, 2)]] {
        let impostor = Impostor::new();
        let client = world.start("client", ["send", "f", &impostor.ticket(""), "--transport", "tcp"]);
        let (mut wire, _) = impostor.accept_open();
        await_listed(&mut wire);

        wire.send(resume(&kept));

        client.wait().fails(exit::PEER, &["broke the protocol", "ranges"]).in_one_line();
    }
}

#[test]
fn a_receiver_that_checks_again_and_again_is_left() {
    // protocol.md [REPAIR-2]
    let world = World::new();
    world.write("f", noise(SIZE));
    let impostor = Impostor::new();
    let client = world.start("client", ["send", "f", &impostor.ticket(""), "--transport", "tcp"]);
    let (mut wire, _) = impostor.accept_open();
    await_listed(&mut wire);
    wire.send(Frame::Feedback { credit: 64 << 20, placed: Vec::new() });
    wire.send(Frame::Message(Message::Wants(Wants { wants: vec![(0, Want::Content)] })));

    let blocks = SIZE.div_ceil(MIB) as u64;
    let mut answered = 0;
    for _ in 0..=limits::REPAIRS_MAX {
        await_frame(&mut wire, |frame| matches!(frame, Frame::FileEnd(_)));
        wire.send(Frame::Message(Message::Check(Check { file: 0, first: 0, count: blocks })));
        if !await_frame(&mut wire, |frame| matches!(frame, Frame::Message(Message::Sums(_)))) {
            break;
        }
        answered += 1;
        wire.send(resume(&[(0, SIZE as u64)]));
    }

    assert_eq!(answered, limits::REPAIRS_MAX);
    client.wait().fails(exit::PEER, &["broke the protocol", "again and again"]).in_one_line();
}

#[test]
fn sums_that_nobody_asked_for_end_the_session_and_leave_no_name() {
    // protocol.md [REPAIR-3]
    let world = World::new();
    world.dir("root");
    let server = world.serve("root", &[]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    for frame in listing(&[file("f", SIZE)]) {
        wire.send(frame);
    }

    wire.send(Frame::Message(Message::Sums(Sums { file: 0, first: 0, sums: vec![0; 5] })));

    let close = wire.close_of_peer().unwrap();
    assert_eq!(close.code, Code::Protocol, "{close:?}");
    assert!(world.names("root").is_empty());
    is_serving(&world, &server);
}

#[test]
fn a_sender_that_lies_about_its_digest_is_asked_so_often_and_gets_no_name() {
    // protocol.md [REPAIR-1]: the blocks are as it says, and their digest never is.
    let world = World::new();
    world.dir("root");
    let server = world.serve("root", &[]);
    let content = noise(SIZE);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    for frame in listing(&[file("f", SIZE)]) {
        wire.send(frame);
    }
    await_frame(&mut wire, |frame| matches!(frame, Frame::Message(Message::Wants(_))));
    // Within the first credit.
    let mut offset = 0;
    for chunk in content.chunks(MIB / 2) {
        let (bytes, len) = (chunk.to_vec(), chunk.len() as u64);
        wire.send(Frame::Data { file: 0, offset, bytes });
        offset += len;
        await_frame(&mut wire, |frame| matches!(frame, Frame::Feedback { placed, .. } if !placed.is_empty()));
    }
    let end = || Frame::FileEnd(FileEnd { file: 0, size: SIZE as u64, digest: [9; 32] });

    let mut checks = 0;
    wire.send(end());
    while let Some(frame) = wire.next() {
        match frame {
            Frame::Message(Message::Check(check)) => {
                checks += 1;
                let sums = content.chunks(MIB).map(haul::integrity::crc32c::crc32c).collect();
                wire.send(Frame::Message(Message::Sums(Sums { file: 0, first: check.first, sums })));
            }
            Frame::Message(Message::Resume(_)) => wire.send(end()),
            Frame::Message(Message::Outcomes(outcomes)) => {
                let told = format!("{:?}", outcomes.outcomes);
                assert!(told.contains("Integrity") && told.contains("after 3 repairs"), "{told}");
                break;
            }
            _ => {}
        }
    }

    assert_eq!(checks, limits::REPAIRS_MAX);
    drop(wire);
    is_serving(&world, &server);
    assert!(!world.names("root").contains(&"f".to_owned()));
}

fn open_in_place_of(guest: &Guest, server: &Listening, session: &Opened) -> (Wire, Opened) {
    let ticket = Ticket::parse(&server.ticket).unwrap();
    let credential = Credential::Token(ProofKey::from_token(&ticket.token));
    let hello = Hello { previous: Some(session.session), ..Hello::ours(clock::random(), None) };
    let mut wire = guest.dial(server.address());
    let mut opening = ClientOpening::new(credential, hello, Some(open_of(push()).into()));
    let opened = drive(&mut wire, |now, link| opening.advance(now, link)).unwrap();
    (wire, opened)
}

/// Whether a session goes on: its next entry, a link, gets its outcome.
fn answers(wire: &mut Wire, first: u64) -> bool {
    let entries = vec![symlink("link", "target")];
    wire.send(Frame::Message(Message::Entries(Entries { first, entries })));
    await_frame(wire, |frame| matches!(frame, Frame::Message(Message::Outcomes(_))))
}

fn await_listed(wire: &mut Wire) {
    await_frame(wire, |frame| matches!(frame, Frame::Message(Message::Listed(_))));
}

/// Waits for a frame; `false` if the session ends first.
fn await_frame(wire: &mut Wire, is_it: impl Fn(&Frame) -> bool) -> bool {
    while let Some(frame) = wire.next() {
        if is_it(&frame) {
            return true;
        }
        if matches!(frame, Frame::Message(Message::Close(_))) {
            return false;
        }
    }
    false
}

fn resume(kept: &[(u64, u64)]) -> Frame {
    let kept = kept.iter().map(|&(offset, len)| Span { offset, len }).collect();
    Frame::Message(Message::Resume(Resume { file: 0, kept }))
}
