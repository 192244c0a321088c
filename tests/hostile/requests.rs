//! What a client asks a server for, wrongly: patterns, our own names, more connections than there may be, and words in a
//! listing. And listings without end.

use std::io::Read as _;
use std::os::unix::fs::symlink as make_symlink;
use std::process::Stdio;
use std::time::Duration;

use haul::file::disk::temp_name::TempName;
use haul::limits;
use haul::security::{Identity, Ticket};
use haul::session::{Credential, OpeningError};
use haul::wire::frame::Frame;
use haul::wire::hello::Join;
use haul::wire::message::{Code, Entries, Intent, Message, Outcome, StreamEnd, Want, Wants};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, file, open_of, push, send_all};
use crate::world::{World, exit, noise};

#[test]
fn patterns_that_grow_are_refused_and_the_server_goes_on() {
    let world = World::new();
    world.write("root/f", "1");
    let server = world.serve("root", &["--read-only"]);
    let deep = format!("{}a{}", "{".repeat(2000), "}".repeat(2000));
    let wide = "{a,b}".repeat(800);
    let stars = "**/".repeat(1300) + "x";
    let sets = "[!a-z]".repeat(600);
    for (what, pattern, count) in [
        ("deep", deep, 1),
        ("wide", wide, limits::PATTERNS_MAX / 8),
        ("stars", stars, limits::PATTERNS_MAX / 8),
        ("sets", sets, limits::PATTERNS_MAX / 8),
    ] {
        let intent = Intent::Pull {
            sources: vec![b"f".to_vec()],
            eager: false,
            include: vec![pattern; count],
            exclude: Vec::new(),
        };
        let (mut wire, _) = Guest::new().open(&server.ticket, intent);

        let first = wire.next();

        // Refused, or understood: a word comes in any case, and the others are served.
        assert!(first.is_some(), "{what}");
        is_serving(&world, &server);
    }
}

#[test]
fn more_patterns_than_there_may_be_end_the_connection() {
    // protocol.md [MSG-3]
    let world = World::new();
    let server = world.serve("root", &[]);
    let intent = Intent::Pull {
        sources: Vec::new(),
        eager: false,
        include: vec!["x".to_owned(); limits::PATTERNS_MAX],
        exclude: vec!["x".to_owned()],
    };
    let ticket = Ticket::parse(&server.ticket).unwrap();
    let credential = Credential::Token(haul::security::ProofKey::from_token(&ticket.token));

    let opened = Guest::new().try_open(&ticket.addresses[0], credential, None, Some(open_of(intent).into()));

    // What came with the proof may end the connection before the proof is answered.
    if let Ok((mut wire, _)) = opened {
        let close = wire.close_of_peer().unwrap();
        assert_eq!(close.code, Code::Protocol, "{close:?}");
    }
    is_serving(&world, &server);
}

#[test]
fn our_unfinished_files_are_nobodys_to_get_or_to_push_into() {
    // protocol.md [NAME-2], [OPEN-2]
    let world = World::new();
    world.dir("out");
    world.write("root/.haul-0123456789", "somebody's part");
    world.write("root/.haul-d/f", "below");
    let server = world.serve("root", &[]);

    for path in [".haul-0123456789", ".haul-*", ".haul-d/f", "*/f", ".haul-d/"] {
        let get = world.run("client", ["get", &server.at(path), "-o", "out/"]);

        assert_eq!(get.code, exit::FILE, "{path}: {get:?}");
        assert!(get.stderr.contains("No such file") || get.stderr.contains("nothing matches"), "{get:?}");
    }
    assert!(world.names("out").is_empty());
    for target in [&b".haul-d"[..], b"x/.haul-d"] {
        let (mut wire, _) = Guest::new().open(&server.ticket, Intent::Push { target: target.to_vec() });
        let close = send_all(&mut wire, &[file("f", 1)], b"x").unwrap_err().unwrap();
        assert_eq!(close.code, Code::NotAllowed, "{close:?}");
    }
    assert_eq!(world.read("root/.haul-d/f"), b"below");
}

#[test]
fn what_stands_where_our_journal_and_part_are_to_stand_is_left_alone() {
    let identity = Identity::generate().unwrap();
    let owner = *identity.key_hash().as_bytes();
    let size = usize::try_from(limits::RESUME_MIN_BYTES).unwrap() + 1;
    let bytes = noise(size);
    let journal = TempName::found_again(&owner, b"journal", b"f");
    for (what, name) in [("journal", journal), ("part", TempName::of_part(journal.as_bytes()))] {
        for kind in ["a link", "a hard link", "a pipe", "a directory"] {
            let world = World::new();
            let victim = world.write("victim", "as it was");
            world.dir("in");
            let at = world.path([b"in/", name.as_bytes()].concat());
            match kind {
                "a link" => make_symlink("../victim", &at).unwrap(),
                "a hard link" => std::fs::hard_link(&victim, &at).unwrap(),
                "a pipe" => make_pipe(&at),
                _ => std::fs::create_dir(&at).unwrap(),
            }
            let recv = world.recv("in", &[]);
            let guest = Guest { identity: identity.clone(), ..Guest::new() };

            let (mut wire, _) = guest.open(&recv.ticket, push());
            let told = send_in_chunks(&mut wire, &bytes);

            assert_eq!(told, Outcome::Done, "{kind} for the {what}");
            drop(wire);
            assert_eq!(world.read("victim"), b"as it was", "{kind}");
            assert!(world.read("in/f") == bytes, "{kind}");
        }
    }
}

#[test]
fn a_pipe_that_stands_in_the_target_is_neither_opened_nor_replaced() {
    let world = World::new();
    world.write("src/f", "12345");
    world.write("src/g", "fine");
    for dir in ["root", "out"] {
        world.dir(dir);
        make_pipe(&world.path(format!("{dir}/f")));
    }
    let server = world.serve("root", &["--overwrite", "always"]);
    let source = world.listen("other", &["serve", "src"], &["--read-only"]);

    let send = world.run("client", ["send", "--overwrite", "always", "src/", &server.ticket]);
    let get =
        world.run("client", ["get", "--overwrite", "always", "--checksum", &source.at("/"), "-o", "out/"]);

    for ended in [&send, &get] {
        ended.fails(exit::SOME_FAILED, &["1 of 2 failed", "f: something that is not a file is in the way"]);
    }
    for dir in ["root", "out"] {
        use std::os::unix::fs::FileTypeExt as _;
        let there = std::fs::symlink_metadata(world.path(format!("{dir}/f"))).unwrap();
        assert!(there.file_type().is_fifo(), "{dir}");
        assert_eq!(world.read(&format!("{dir}/g")), b"fine");
    }
}

#[test]
fn a_session_has_no_more_connections_than_it_may() {
    // protocol.md [STREAM-5], [HELLO-3]
    let world = World::new();
    let server = world.serve("root", &[]);
    let address = &Ticket::parse(&server.ticket).unwrap().addresses[0];
    let guest = Guest::new();
    let (_wire, opened) = guest.open(&server.ticket, push());
    let join = |stream: u16| {
        let join = Join { session: opened.session, stream };
        let credential = Credential::Join { secret: opened.secret.clone(), join };
        guest.try_open(address, credential, Some(join), None)
    };
    let most = u16::try_from(limits::STREAMS_MAX).unwrap();

    let joined: Vec<_> = (1..most).map(|stream| join(stream).map_err(drop).unwrap()).collect();
    let again = join(1).map(drop);
    let beyond = [most, u16::MAX].map(|stream| join(stream).is_err());

    assert_eq!(joined.len(), limits::STREAMS_MAX - 1);
    assert!(matches!(again, Err(Some(OpeningError::Refused { code: Code::Busy, .. }))), "{again:?}");
    assert_eq!(beyond, [true, true]);
    is_serving(&world, &server);
}

#[test]
fn in_a_listing_a_client_says_nothing_but_its_close() {
    // protocol.md [LIST-1]
    let words = [
        Frame::Feedback { credit: 1 << 20, placed: Vec::new() },
        Frame::Message(Message::Wants(Wants { wants: vec![(0, Want::Content)] })),
        Frame::Message(Message::StreamEnd(StreamEnd { stream: 1, received: 0 })),
        Frame::Message(Message::Entries(Entries { first: 0, entries: vec![file("f", 1)] })),
    ];
    let world = World::new();
    let server = world.serve("root", &[]);
    for word in words {
        let intent = Intent::List { sources: Vec::new(), recursive: false };
        let (mut wire, _) = Guest::new().open(&server.ticket, intent);

        wire.send(word.clone());

        let close = wire.close_of_peer();
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{word:?}");
    }
    is_serving(&world, &server);
}

#[test]
fn a_listing_without_end_is_taken_no_faster_than_it_is_shown() {
    let world = World::new();
    let impostor = Impostor::new();
    let mut command = world.command("client", ["ls", "-r", &impostor.ticket("")]);
    let mut ls = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();

    let (mut wire, _) = impostor.accept_open();
    wire.tcp.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let entries: Vec<_> = (0..limits::ENTRIES_PER_BATCH).map(|at| file(format!("{at:0>200}"), 1)).collect();
    let batch = |first| Frame::Message(Message::Entries(Entries { first, entries: entries.clone() }));
    let offered = 600;
    for at in 0..offered {
        wire.send(batch(at * limits::ENTRIES_PER_BATCH as u64));
        // Nothing was taken for a while: nothing more will be.
        if wire.link.wants_write() {
            break;
        }
    }
    let taken = wire.link.wire_bytes();
    let _ = ls.kill();
    let mut shown = Vec::new();
    ls.stdout.take().unwrap().read_to_end(&mut shown).unwrap();
    ls.wait().unwrap();

    let size = batch(0).encode().len() as u64;
    assert!(!shown.is_empty(), "it shows what comes");
    assert!(taken < offered * size / 2, "{taken} of {} bytes", offered * size);
}

#[test]
fn a_listing_of_a_server_is_entries_in_order_and_nothing_else() {
    // protocol.md [LIST-1], [ENTRY-1]
    let wrong = [
        Frame::Message(Message::Entries(Entries { first: 1, entries: vec![file("f", 1)] })),
        Frame::Feedback { credit: 1, placed: Vec::new() },
        Frame::Data { file: 0, offset: 0, bytes: b"x".to_vec() },
        Frame::Message(Message::Wants(Wants { wants: Vec::new() })),
    ];
    for word in wrong {
        let world = World::new();
        let impostor = Impostor::new();

        let ls = world.start("client", ["ls", &impostor.ticket("")]);
        let (mut wire, _) = impostor.accept_open();
        wire.send(word.clone());
        let close = wire.close_of_peer();

        ls.wait().fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{word:?}");
    }
}

/// Sends one file of these bytes, within the credit that everybody has; gives its outcome.
fn send_in_chunks(wire: &mut crate::peer::Wire, bytes: &[u8]) -> Outcome {
    crate::peer::listing(&[file("f", bytes.len())]).into_iter().for_each(|frame| wire.send(frame));
    let mut credit = 0;
    let mut sent = 0;
    let mut is_wanted = false;
    loop {
        match wire.next().expect("the session goes on") {
            Frame::Feedback { credit: more, .. } => credit = usize::try_from(more).unwrap(),
            Frame::Message(Message::Wants(_)) => is_wanted = true,
            Frame::Message(Message::Outcomes(told)) => return told.outcomes[0].1.clone(),
            _ => {}
        }
        while is_wanted && sent < bytes.len() {
            let step = (bytes.len() - sent).min(512 << 10);
            if sent + step > credit {
                break;
            }
            let chunk = bytes[sent..sent + step].to_vec();
            wire.send(Frame::Data { file: 0, offset: sent as u64, bytes: chunk });
            sent += step;
            if sent == bytes.len() {
                let end = crate::peer::content(0, bytes).pop().unwrap();
                wire.send(end);
            }
        }
    }
}

fn make_pipe(path: &std::path::Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
}
