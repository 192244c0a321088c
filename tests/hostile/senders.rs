//! A sender that lies about its entries and their content: to a server that takes a push, and as a server to a client
//! that gets.

use std::os::unix::fs::MetadataExt as _;

use haul::limits;
use haul::wire::frame::{FileEnd, Frame, FrameType};
use haul::wire::message::{
    Code, Entries, Entry, Finish, Kind, Listed, Message, Mtime, NotKept, Outcome, Stats, Sums,
};

use crate::frames::frame;
use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, content, entry, file, listing, push, send_all, symlink};
use crate::world::{World, exit};

/// What is wrong, and how to say it.
type Lie = (&'static str, fn(&mut Wire));

const HUGE: u64 = u64::MAX;

#[test]
fn sizes_and_offsets_that_overflow_end_the_session() {
    // protocol.md [DATA-1], [DATA-2], [FILE-3]
    refused_in_both_directions(&[
        ("a chunk that ends beyond the largest file", |wire| {
            announce(wire, &[entry("f", Kind::Stream)]);
            let payload =
                [&0_u64.to_le_bytes()[..], &(limits::FILE_MAX_BYTES - 1).to_le_bytes(), b"ab"].concat();
            wire.send_raw(&frame(18, FrameType::Data.number(), 0, &payload));
        }),
        ("a chunk whose end does not fit 64 bits", |wire| {
            announce(wire, &[file("f", 5)]);
            let payload = [&0_u64.to_le_bytes()[..], &HUGE.to_le_bytes(), b"ab"].concat();
            wire.send_raw(&frame(18, FrameType::Data.number(), 0, &payload));
        }),
        ("a hole whose end does not fit 64 bits", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send_raw(&hole(0, HUGE, 1));
        }),
        ("a hole that ends beyond the largest file", |wire| {
            announce(wire, &[entry("f", Kind::Stream)]);
            wire.send_raw(&hole(0, limits::FILE_MAX_BYTES, 1));
        }),
        ("a hole that is longer than one may be", |wire| {
            announce(wire, &[entry("f", Kind::Stream)]);
            wire.send_raw(&hole(0, 0, limits::HOLE_MAX_BYTES + 1));
        }),
        ("an end that is beyond what was announced and beyond what came", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(data(0, 0, b"12345"));
            wire.send(Frame::FileEnd(FileEnd { file: 0, size: HUGE, digest: [0; 32] }));
            wire.send(data(0, 5, b"6"));
        }),
    ]);
}

#[test]
fn chunks_outside_a_file_or_over_each_other_end_the_session() {
    // protocol.md [DATA-5], [DATA-6], [FILE-2], [FILE-3]
    refused_in_both_directions(&[
        ("content behind the announced size", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(data(0, 3, b"abc"));
        }),
        ("a hole behind the announced size", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send_raw(&hole(0, 0, 6));
        }),
        ("content twice", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(data(0, 0, b"abc"));
            wire.send(data(0, 2, b"cd"));
        }),
        ("a hole over content", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(data(0, 0, b"abc"));
            wire.send_raw(&hole(0, 2, 3));
        }),
        ("content over a hole", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send_raw(&hole(0, 0, 3));
            wire.send(data(0, 0, b"abc"));
        }),
        ("an end with a gap before it", |wire| {
            announce(wire, &[entry("f", Kind::Stream)]);
            wire.send(data(0, 0, b"ab"));
            wire.send(data(0, 3, b"de"));
            wire.send(Frame::FileEnd(FileEnd { file: 0, size: 4, digest: [0; 32] }));
        }),
        ("content behind the end", |wire| {
            announce(wire, &[file("f", 5), file("g", 1)]);
            // Of another content, so that the file is not proven, and gets no name, before the last frame is read.
            let end = Frame::FileEnd(FileEnd { file: 0, size: 5, digest: [0; 32] });
            let frames = [data(0, 0, b"12345"), end, data(0, 0, b"1")];
            let bytes: Vec<u8> = frames.into_iter().flat_map(|frame| frame.encode()).collect();
            wire.send_raw(&bytes);
        }),
        ("content of a directory", |wire| {
            announce(wire, &[entry("d", Kind::Dir)]);
            wire.send(data(0, 0, b"abc"));
        }),
        ("content of what was never announced", |wire| {
            announce(wire, &[file("f", 5)]);
            let listed = Listed { entries: 1, bytes: 5, ..Listed::default() };
            wire.send(Frame::Message(Message::Listed(listed)));
            wire.send(data(7, 0, b"abc"));
        }),
        ("a hole ahead of its entry", |wire| wire.send_raw(&hole(7, 0, 1))),
        ("content in more pieces than are kept apart", |wire| {
            announce(wire, &[entry("f", Kind::Stream)]);
            // The pieces from the back to the front, so that none touches another.
            for piece in (1..=65_537_u64).rev() {
                wire.send_raw(&hole(0, 2 * piece, 1));
            }
        }),
        ("more than the credit", |wire| {
            announce(wire, &[file("f", 5)]);
            let chunk = vec![0; usize::try_from(limits::CREDIT_MIN_BYTES).unwrap()];
            (0..17).for_each(|at| wire.send(data(9, at << 22, &chunk)));
        }),
    ]);
}

#[test]
fn entries_that_change_or_are_out_of_order_end_the_session() {
    // protocol.md [ENTRY-1], [ENTRY-5], [FILE-2], [FILE-3], [FILE-5], [FILE-6], [END-1], [REPAIR-3]
    refused_in_both_directions(&[
        ("a gap in the numbers", |wire| again(wire, 1, &[file("f", 5)])),
        ("a number twice", |wire| {
            announce(wire, &[file("f", 5)]);
            again(wire, 0, &[file("g", 5)]);
        }),
        ("a number that overflows", |wire| again(wire, HUGE, &[file("f", 5)])),
        ("an entry behind the end of the listing", |wire| {
            listing(&[entry("l", Kind::Stream)]).into_iter().for_each(|frame| wire.send(frame));
            again(wire, 1, &[file("f", 5)]);
        }),
        ("the end of the listing twice", |wire| {
            let [announced, listed] = listing(&[file("f", 5)]);
            [announced, listed.clone(), listed].into_iter().for_each(|frame| wire.send(frame));
        }),
        ("a listing that ends with another count", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(Frame::Message(Message::Listed(Listed { entries: HUGE, ..Listed::default() })));
        }),
        ("another size at the end", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(data(0, 0, b"abc"));
            content(0, b"abc").into_iter().skip(1).for_each(|frame| wire.send(frame));
        }),
        ("two ends", |wire| {
            announce(wire, &[file("f", 5)]);
            let end = Frame::FileEnd(FileEnd { file: 0, size: 5, digest: [0; 32] });
            [end.clone(), end].into_iter().for_each(|frame| wire.send(frame));
        }),
        ("a digest that nobody wanted", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(Frame::FileDigest(FileEnd { file: 0, size: 5, digest: [0; 32] }));
        }),
        ("sums that nobody wanted", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(Frame::Message(Message::Sums(Sums { file: 0, first: 0, sums: vec![0] })));
        }),
        ("an end of what was never announced", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(Frame::FileEnd(FileEnd { file: 7, size: 5, digest: [0; 32] }));
        }),
        ("the last word before the outcomes", |wire| {
            announce(wire, &[file("f", 5)]);
            wire.send(Frame::Message(Message::Finish(Finish::default())));
        }),
        ("what only a receiver says", |wire| {
            wire.send(Frame::Feedback { credit: 1 << 30, placed: Vec::new() });
        }),
    ]);
}

#[test]
fn an_entry_of_no_kind_that_haul_has_ends_the_session() {
    // protocol.md [MSG-3], [MSG-4]: there are files, pipes, directories and links, so that no device can be named.
    refused_in_both_directions(&[
        ("a kind that is none", |wire| {
            let mut bytes = listing(&[entry("device", Kind::Dir)])[0].encode();
            let kind = bytes.len() - 4;
            bytes[kind..].copy_from_slice(&5_u32.to_le_bytes());
            wire.send_raw(&bytes);
        }),
        ("a mode that says the kind, of a block device", |wire| {
            announce(wire, &[Entry { mode: 0o060_644, ..file("f", 5) }]);
        }),
        ("a time with too many nanoseconds", |wire| {
            announce(wire, &[Entry { mtime: Mtime { secs: 0, nanos: 1_000_000_000 }, ..file("f", 5) }]);
        }),
    ]);
}

#[test]
fn a_hard_link_to_anything_but_an_earlier_file_that_allows_it_ends_the_session() {
    // protocol.md [ENTRY-3]
    refused_in_both_directions(&[
        ("to itself", |wire| announce(wire, &[entry("l", Kind::Hardlink { file: 0 })])),
        ("to what comes later", |wire| {
            announce(wire, &[entry("l", Kind::Hardlink { file: 1 }), linked("f")]);
        }),
        ("to nothing", |wire| announce(wire, &[entry("l", Kind::Hardlink { file: HUGE })])),
        ("to a file that does not allow it", |wire| {
            announce(wire, &[file("f", 5), entry("l", Kind::Hardlink { file: 0 })]);
        }),
        ("to a directory", |wire| {
            announce(wire, &[entry("d", Kind::Dir), entry("d/l", Kind::Hardlink { file: 0 })]);
        }),
        ("to a link", |wire| {
            announce(wire, &[symlink("s", "/etc/passwd"), entry("l", Kind::Hardlink { file: 0 })]);
        }),
    ]);
}

#[test]
fn more_entries_than_may_be_open_end_the_session() {
    // protocol.md [ENTRY-2]: whoever announces millions waits for outcomes in between.
    refused_in_both_directions(&[("files without content", |wire| {
        let most = limits::OPEN_ENTRIES_MAX / limits::ENTRIES_PER_BATCH;
        for batch in 0..=most {
            let first = batch * limits::ENTRIES_PER_BATCH;
            let names = first..first + limits::ENTRIES_PER_BATCH;
            let entries: Vec<_> = names.map(|name| file(name.to_string(), 1)).collect();
            again(wire, first as u64, &entries);
        }
    })]);
}

#[test]
fn a_file_that_says_it_is_larger_than_any_disk_fails_alone() {
    let world = World::new();
    let server = world.serve("root", &[]);
    let entries = |size| {
        let kind = Kind::File { size, sparse: false, linked: false };
        [entry("a", kind.clone()), entry("b", kind), entry("c", Kind::Dir)]
    };

    for size in [HUGE, limits::FILE_MAX_BYTES, 1 << 60] {
        let (mut wire, _) = Guest::new().open(&server.ticket, push());
        let told = send_all(&mut wire, &entries(size), b"x").unwrap();

        for number in [0, 1] {
            assert!(matches!(told[&number], Outcome::Failed { code: Code::NoSpace, .. }), "{told:?}");
        }
        assert!(!matches!(told[&2], Outcome::Failed { .. }), "{told:?}");
    }
    assert_eq!(world.names("root"), ["c"]);
    is_serving(&world, &server);
}

#[test]
fn counts_and_times_that_overflow_are_no_more_than_wrong() {
    let stats = Stats {
        elapsed_us: HUGE,
        payload_bytes: HUGE,
        wire_bytes: HUGE,
        source_wait_us: HUGE,
        network_wait_us: HUGE,
        credit_wait_us: HUGE,
        target_wait_us: HUGE,
        peer_wait_us: HUGE,
        cpu_us: HUGE,
        busiest_us: HUGE,
        peak_rss_bytes: HUGE,
        streams: HUGE,
    };
    let not_kept = NotKept { special: HUGE, owner: HUGE, attributes: HUGE, hardlinks: HUGE };
    let far = |name, secs| Entry { mtime: Mtime { secs, nanos: 999_999_999 }, ..file(name, 1) };
    let say = |wire: &mut Wire| {
        let entries = vec![far("past", i64::MIN), far("future", i64::MAX), file("now", 1)];
        wire.send(Frame::Message(Message::Entries(Entries { first: 0, entries })));
        wire.send(Frame::Message(Message::Listed(Listed { entries: 3, bytes: HUGE, not_kept })));
        let mut told = 0;
        while told < 3 {
            match wire.next().expect("the session goes on") {
                Frame::Message(Message::Wants(wants)) => {
                    let frames = wants.wants.into_iter().flat_map(|(number, _)| content(number, b"x"));
                    frames.for_each(|frame| wire.send(frame));
                }
                Frame::Message(Message::Outcomes(outcomes)) => told += outcomes.outcomes.len(),
                _ => {}
            }
        }
        wire.send(Frame::Message(Message::Finish(Finish { stats })));
        while !matches!(wire.next().expect("the last word"), Frame::Message(Message::Receipt(_))) {}
        let close = haul::wire::message::Close { code: Code::Done, text: String::new() };
        wire.send(Frame::Message(Message::Close(close)));
    };
    let world = World::new();
    world.dir("out");
    let server = world.serve("root", &[]);
    let impostor = Impostor::new();

    say(&mut Guest::new().open(&server.ticket, push()).0);
    let line = server.process.says("3 files");
    let get = world.start("client", ["get", "--json", &impostor.ticket("a/"), "-o", "out/"]);
    say(&mut impostor.accept_open().0);
    let get = get.wait();

    assert!(line.starts_with("haul: 127.0.0.1:"), "{line}");
    assert!(get.code == exit::DONE || get.code == exit::SOME_FAILED, "{get:?}");
    for shown in [&server.process.stderr(), &get.stderr] {
        assert!(!shown.contains("panicked") && !shown.contains("a fault in haul"), "{shown}");
    }
    assert_eq!(world.read("out/now"), b"x");
    is_serving(&world, &server);
}

#[test]
fn holes_cost_the_session_that_sends_them_and_nobody_else() {
    // A few bytes each, and 64 MiB to hash: what comes closest to a compressed bomb.
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &["--max-sessions", "2"]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    let count = 20_000;
    let size = count * limits::HOLE_MAX_BYTES;
    announce(&mut wire, &[entry("f", Kind::File { size, sparse: true, linked: false })]);
    for at in 0..count {
        wire.send_raw(&hole(0, at * limits::HOLE_MAX_BYTES, limits::HOLE_MAX_BYTES));
    }

    world.run("client", ["send", "a", &server.ticket]).is_done();
    wire.cut();

    server.process.says("closed the connection without finishing");
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.id())).unwrap_or_default();
    if let Some(peak) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
        let peak_kib: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
        assert!(peak_kib * 1024 < limits::RSS_MAX_BYTES, "{peak_kib} KiB");
    }
    is_serving(&world, &server);
}

#[test]
fn setuid_and_setgid_of_a_server_are_stripped() {
    // protocol.md [MODE-1]
    let world = World::new();
    world.dir("out");
    let impostor = Impostor::new();
    let entries = [Entry { mode: 0o6755, ..file("f", 1) }, Entry { mode: 0o7777, ..entry("d", Kind::Dir) }];

    let get = world.start("client", ["get", &impostor.ticket("a/"), "-o", "out/"]);
    let told = send_all(&mut impostor.accept_open().0, &entries, b"x").unwrap();

    get.wait().is_done();
    assert!(told.values().all(|outcome| *outcome == Outcome::Done), "{told:?}");
    for (name, mode) in [("out/f", 0o755), ("out/d", 0o777)] {
        assert_eq!(std::fs::metadata(world.path(name)).unwrap().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn a_client_writes_through_no_link_that_a_server_has_made_and_takes_none_of_our_names() {
    // protocol.md [LINK-2], [NAME-2]
    let world = World::new();
    world.dir("out");
    world.dir("elsewhere");
    let impostor = Impostor::new();
    let target = world.path("elsewhere").to_str().unwrap().to_owned();
    let entries = [
        symlink("l", &target),
        file("l/f", 1),
        symlink("m", "../elsewhere/g"),
        file("m", 1),
        file(".haul-0123456789", 1),
        entry(".haul-d", Kind::Dir),
    ];

    let get = world.start("client", ["get", "--overwrite", "always", &impostor.ticket("a/"), "-o", "out/"]);
    let told = send_all(&mut impostor.accept_open().0, &entries, b"x").unwrap();

    get.wait().fails(exit::SOME_FAILED, &["4 of 6 failed"]);
    for number in [1, 3, 4, 5] {
        assert!(matches!(told[&number], Outcome::Failed { code: Code::Conflict, .. }), "{told:?}");
    }
    assert!(world.names("elsewhere").is_empty());
    assert_eq!(world.names("out"), ["l", "m"]);
}

#[test]
fn what_goes_to_standard_output_comes_once_and_within_its_size() {
    let lies: [Lie; 5] = [
        ("content twice", |wire| {
            wire.send(data(0, 0, b"ab"));
            wire.send(data(0, 1, b"b"));
        }),
        ("what waits for its turn twice", |wire| {
            wire.send(data(0, 2, b"cd"));
            wire.send(data(0, 3, b"d"));
        }),
        ("content behind the end", |wire| wire.send(data(0, 4, b"ef"))),
        ("more than was announced", |wire| wire.send(data(0, 0, b"123456"))),
        ("a hole behind the end", |wire| wire.send_raw(&hole(0, 4, 2))),
    ];
    for (what, lie) in lies {
        let world = World::new();
        let impostor = Impostor::new();

        let get = world.start("client", ["get", &impostor.ticket("f"), "-o", "-"]);
        let (mut wire, _) = impostor.accept_open();
        wire.await_running();
        announce(&mut wire, &[file("f", 5)]);
        lie(&mut wire);
        let close = wire.close_of_peer();
        drop(wire);

        get.wait().fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{what}");
    }
}

/// Tells each lie to a server and to a client: both end with a word about the protocol, and no name is there then.
#[track_caller]
fn refused_in_both_directions(lies: &[Lie]) {
    let world = World::new();
    let server = world.serve("root", &[]);
    for (what, lie) in lies {
        let (mut wire, _) = Guest::new().open(&server.ticket, push());
        lie(&mut wire);
        let close = wire.close_of_peer();

        // protocol.md [ERR-1]
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{what}, to a server");
        for name in world.names("root") {
            let kind = std::fs::symlink_metadata(world.path(format!("root/{name}"))).unwrap();
            assert!(kind.is_dir() || kind.is_symlink(), "{what}, to a server: {name}");
        }

        let world = World::new();
        world.dir("out");
        let impostor = Impostor::new();
        let get = world.start("client", ["get", &impostor.ticket("a/"), "-o", "out/"]);
        let (mut wire, _) = impostor.accept_open();
        wire.await_running();
        lie(&mut wire);
        let close = wire.close_of_peer();
        drop(wire);

        get.wait().fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
        assert_eq!(close.map(|close| close.code), Some(Code::Protocol), "{what}, to a client");
        for name in world.names("out") {
            let kind = std::fs::symlink_metadata(world.path(format!("out/{name}"))).unwrap();
            assert!(kind.is_dir() || kind.is_symlink(), "{what}, to a client: {name}");
        }
    }
    is_serving(&world, &server);
}

/// ENTRIES from number 0 on, without the end of the listing.
fn announce(wire: &mut Wire, entries: &[Entry]) {
    again(wire, 0, entries);
}

fn again(wire: &mut Wire, first: u64, entries: &[Entry]) {
    wire.send(Frame::Message(Message::Entries(Entries { first, entries: entries.to_vec() })));
}

fn linked(name: &str) -> Entry {
    entry(name, Kind::File { size: 1, sparse: false, linked: true })
}

fn data(file: u64, offset: u64, bytes: &[u8]) -> Frame {
    Frame::Data { file, offset, bytes: bytes.to_vec() }
}

/// A HOLE with any numbers, which the library does not even encode.
fn hole(file: u64, offset: u64, len: u64) -> Vec<u8> {
    let payload = [file, offset, len].map(u64::to_le_bytes).concat();
    frame(24, FrameType::Hole.number(), 0, &payload)
}
