//! What a peer says and a person or a log gets to see: no word of it moves the cursor or turns the text around.

use std::collections::BTreeMap;

use haul::run::clock;
use haul::security::{ProofKey, Ticket};
use haul::session::{ClientOpening, Credential};
use haul::wire::frame::Frame;
use haul::wire::hello::Hello;
use haul::wire::message::{Code, Entries, FileFailed, Finish, Message, Outcome, Outcomes, Unlisted};

use crate::peer::{Guest, Impostor, Wire, drive, file, listing, open_of, push, send_all};
use crate::world::{World, exit};

/// Colours, a new line that looks like one of ours, a carriage return, and text that runs the other way.
const WORDS: &str = "red\u{1b}[31m\r\nhaul: sent 1 file\u{202e}\u{9b}2J";
/// The same without what every terminal takes: nothing here is a control character.
const TURNED: &str = "name\u{202e}gpj.exe\u{2066}\u{200f}";

#[track_caller]
fn is_harmless(shown: &str) {
    let is_bad = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{2066}\u{200f}".contains(c);
    assert!(!shown.contains(is_bad), "{shown:?}");
    assert!(!shown.lines().any(|line| line.starts_with("haul: sent 1 file")), "{shown:?}");
}

#[test]
fn what_a_sender_says_cannot_move_the_cursor_of_a_server() {
    // protocol.md [NAME-4]
    for words in [WORDS, TURNED] {
        let world = World::new();
        let recv = world.recv("in", &["-vv"]);
        let (mut wire, _) = with_agent(&recv.ticket, words);

        fail_with_words(&mut wire, words);

        let recv = recv.wait();
        recv.fails(exit::SOME_FAILED, &["3 of 3 failed"]);
        is_harmless(&recv.stderr);
    }
}

#[test]
fn what_a_server_says_cannot_move_the_cursor_of_who_gets() {
    // protocol.md [NAME-4]
    for words in [WORDS, TURNED] {
        for options in [&[][..], &["--json"]] {
            let world = World::new();
            world.dir("out");
            let impostor = Impostor::new().with_agent(words);

            let ticket = impostor.ticket("a/");
            let get = world.start("client", [&["get", "-vv", &ticket, "-o", "out/"], options].concat());
            fail_with_words(&mut impostor.accept_open().0, words);

            let get = get.wait();
            assert_eq!(get.code, exit::SOME_FAILED, "{get:?}");
            is_harmless(&get.stderr);
            is_harmless(&get.stdout);
        }
    }
}

#[test]
fn what_a_server_says_cannot_move_the_cursor_of_who_sends() {
    // protocol.md [NAME-4]
    for words in [WORDS, TURNED] {
        let world = World::new();
        world.write("f", "12345");
        let impostor = Impostor::new().with_agent(words);
        let text = words.to_owned();

        let send = world.start("client", ["send", "-vv", "f", &impostor.ticket(""), "--transport", "tcp"]);
        let (mut wire, _) = impostor.accept_open();
        while !matches!(wire.next(), Some(Frame::Message(Message::Listed(_)))) {}
        let outcomes = vec![(0, Outcome::Failed { code: Code::File, text })];
        wire.send(Frame::Message(Message::Outcomes(Outcomes { outcomes })));
        while !matches!(wire.next().expect("the end"), Frame::Message(Message::Finish(_))) {}
        wire.send(Frame::Message(Message::Receipt(Default::default())));
        wire.close_of_peer();

        let send = send.wait();
        assert_eq!(send.code, exit::FILE, "{send:?}");
        is_harmless(&send.stderr);
    }
}

#[test]
fn what_a_peer_is_told_of_its_own_words_is_harmless_too() {
    // protocol.md [NAME-4]: names that nobody asked for, and targets that are no paths, stand in errors.
    let world = World::new();
    world.dir("out");
    let server = world.serve("root", &["-vv"]);
    let impostor = Impostor::new();

    let intent = haul::wire::message::Intent::Push { target: format!("../{WORDS}").into_bytes() };
    let (mut wire, _) = Guest::new().open(&server.ticket, intent);
    let close = wire.close_of_peer().unwrap();
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    let pushed = send_all(&mut wire, &[file(format!("../{WORDS}"), 1)], b"x").unwrap_err().unwrap();
    server.process.says("broke the protocol");
    let get = world.start("client", ["get", &impostor.ticket("a"), "-o", "out/"]);
    let (mut wire, _) = impostor.accept_open();
    listing(&[file(WORDS, 5)]).into_iter().for_each(|frame| wire.send(frame));
    let got = wire.close_of_peer().unwrap();

    get.wait().fails(exit::PEER, &["nobody asked for"]).in_one_line();
    for shown in [&close.text, &pushed.text, &got.text, &server.process.stderr()] {
        is_harmless(shown);
    }
}

/// Three ways to say that something failed, with a name and a text each, and the end.
fn fail_with_words(wire: &mut Wire, words: &str) {
    let told = |text: &str| text.to_owned();
    let name = |at: u32| format!("{at}{words}").into_bytes();
    let unlisted = Unlisted { name: name(2), code: Code::File, text: told(words) };
    wire.send(Frame::Message(Message::Unlisted(unlisted)));
    let entries = vec![file(name(0), 1), file(format!(".haul-{words}"), 1)];
    let listed = haul::wire::message::Listed { entries: 2, bytes: 2, ..Default::default() };
    wire.send(Frame::Message(Message::Entries(Entries { first: 0, entries })));
    wire.send(Frame::Message(Message::Listed(listed)));
    wire.send(Frame::Message(Message::FileFailed(FileFailed {
        file: 0,
        code: Code::File,
        text: told(words),
    })));
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < 2 {
        if let Frame::Message(Message::Outcomes(told)) = wire.next().expect("the session goes on") {
            outcomes.extend(told.outcomes);
        }
    }
    wire.send(Frame::Message(Message::Finish(Finish::default())));
    while !matches!(wire.next().expect("the last word"), Frame::Message(Message::Receipt(_))) {}
    let close = haul::wire::message::Close { code: Code::Done, text: String::new() };
    wire.send(Frame::Message(Message::Close(close)));
}

/// A push by a client that says what program it is in these words.
fn with_agent(line: &str, words: &str) -> (Wire, haul::session::Opened) {
    let ticket = Ticket::parse(line).unwrap();
    let credential = Credential::Token(ProofKey::from_token(&ticket.token));
    let hello = Hello { agent: words.to_owned(), ..Hello::ours(clock::random(), None) };
    let mut wire = Guest::new().dial(&ticket.addresses[0].to_string());
    let mut opening = ClientOpening::new(credential, hello, Some(open_of(push()).into()));
    let opened = drive(&mut wire, |now, link| opening.advance(now, link)).unwrap();
    (wire, opened)
}
