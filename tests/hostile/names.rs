//! What a peer may not name: nothing outside the target, nothing through links, nothing that was not asked for.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink as make_symlink};
use std::process::Command;

use haul::wire::frame::Frame;
use haul::wire::message::{Code, Entry, Intent, Kind, Outcome};

use crate::crowds::skip;
use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, Wire, content, entry, file, listing, push, send_all, symlink};
use crate::places::succeeds;
use crate::world::{World, exit, is_root};

/// Names that no honest sender has. protocol.md [NAME-1]
const BAD: [&[u8]; 10] =
    [b"..", b"../x", b"/tmp/haul-absolute", b"a/../../x", b"a/..", b"./x", b"a//b", b"a/", b"a\0b", b"\0"];

#[test]
fn a_pushed_name_that_could_leave_the_root_ends_the_session() {
    // protocol.md [NAME-1], [NAME-2], [ERR-1]
    let world = World::new();
    let server = world.serve("deep/root", &["--overwrite", "always"]);
    world.write("deep/x", "outside");
    for name in BAD {
        for kind in [Kind::File { size: 1, sparse: false, linked: false }, Kind::Dir, Kind::Stream] {
            let (mut wire, _) = Guest::new().open(&server.ticket, push());

            let close =
                send_all(&mut wire, &[file("before", 1), entry(name, kind)], b"x").unwrap_err().unwrap();

            assert_eq!(close.code, Code::Protocol, "{name:?}: {close:?}");
        }
    }
    let empty = empty_name(&server.ticket);
    assert_eq!(empty.code, Code::Protocol, "{empty:?}");
    let line = server.process.says("broke the protocol");
    assert!(line.starts_with("haul: 127.0.0.1:"), "{line}");
    assert_eq!(world.names("deep"), ["root", "x"]);
    assert_eq!(world.read("deep/x"), b"outside");
    assert!(!fs::exists("/tmp/haul-absolute").unwrap());
    is_serving(&world, &server);
}

#[test]
fn the_target_of_a_push_stays_below_the_root() {
    // protocol.md [OPEN-2]
    let world = World::new();
    let server = world.serve("deep/root", &[]);
    for target in BAD {
        let (mut wire, _) = Guest::new().open(&server.ticket, Intent::Push { target: target.to_vec() });

        let close = send_all(&mut wire, &[file("f", 1)], b"x").unwrap_err().unwrap();

        assert_eq!(close.code, Code::NotAllowed, "{target:?}: {close:?}");
    }
    assert_eq!(world.names("deep"), ["root"]);
    is_serving(&world, &server);
}

#[test]
fn what_is_pulled_or_listed_stays_below_the_root() {
    let world = World::new();
    world.write("deep/secret", "outside");
    world.dir("deep/root");
    make_symlink("../secret", world.path("deep/root/link")).unwrap();
    make_symlink("..", world.path("deep/root/up")).unwrap();
    let server = world.serve("deep/root", &[]);

    for path in
        ["../secret", "a/../../secret", "%2e%2e/secret", "up/secret", "link/", "up/", "up/*", "*/secret"]
    {
        let get = world.run("client", ["get", &server.at(path), "-o", "out/"]);
        let ls = world.run("client", ["ls", &server.at(path)]);

        assert_ne!(get.code, exit::DONE, "{path}: {get:?}");
        assert!(!ls.stdout.contains("secret"), "{path}: {ls:?}");
        if let Ok(found) = fs::read_dir(world.path("out")) {
            assert_eq!(found.count(), 0, "{path}");
        }
    }
    is_serving(&world, &server);
}

#[test]
fn names_of_unfinished_files_are_refused_alone_and_never_listed() {
    // protocol.md [NAME-2]
    let world = World::new();
    let server = world.serve("root", &[]);
    world.write("root/.haul-0123456789", "somebody's part");
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    let entries = [file(".haul-0123456789", 1), file("d/.haul-x/y", 1), file("fine", 1)];

    let outcomes = send_all(&mut wire, &entries, b"x").unwrap();
    let ls = world.run("client", ["ls", "-r", &server.ticket]);

    for number in [0, 1] {
        let Outcome::Failed { code: Code::Conflict, text } = &outcomes[&number] else {
            panic!("{outcomes:?}")
        };
        assert!(text.contains(".haul-") && text.contains("reserved"), "{text}");
    }
    assert_eq!(outcomes[&2], Outcome::Done);
    assert_eq!(world.read("root/.haul-0123456789"), b"somebody's part");
    assert!(ls.is_done().stdout.contains("fine") && !ls.stdout.contains(".haul-"), "{ls:?}");
}

#[test]
fn nothing_is_written_through_a_link_that_stands_in_the_target() {
    // protocol.md [LINK-2]
    let world = World::new();
    world.dir("elsewhere");
    world.write("victim", "outside");
    let server = world.serve("root", &["--overwrite", "always"]);
    make_symlink("../elsewhere", world.path("root/dir")).unwrap();
    make_symlink("../victim", world.path("root/file")).unwrap();
    world.write("src/dir/f", "1");
    world.write("src/file", "2");
    world.write("src/other", "3");

    let ended = world.run("client", ["send", "src/", &server.ticket]);

    ended.fails(exit::SOME_FAILED, &["3 of 4 failed"]);
    ended.fails(exit::SOME_FAILED, &["haul: file: a symbolic link is in the way"]);
    assert!(world.names("elsewhere").is_empty());
    assert_eq!(world.read("victim"), b"outside");
    assert_eq!(world.read("root/other"), b"3");
    assert!(fs::symlink_metadata(world.path("root/dir")).unwrap().is_symlink());
}

#[test]
fn nothing_is_written_through_a_link_that_the_sender_has_just_made() {
    // protocol.md [LINK-2]
    let world = World::new();
    world.dir("elsewhere");
    let server = world.recv("in", &["--overwrite", "always"]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    let target = world.path("elsewhere").to_str().unwrap().to_owned();
    let entries = [symlink("l", &target), file("l/f", 1), symlink("m", "../elsewhere/g"), file("m", 1)];

    let outcomes = send_all(&mut wire, &entries, b"x").unwrap();

    assert_eq!([&outcomes[&0], &outcomes[&2]], [&Outcome::Done, &Outcome::Done]);
    for number in [1, 3] {
        assert!(matches!(outcomes[&number], Outcome::Failed { code: Code::Conflict, .. }), "{outcomes:?}");
    }
    assert!(world.names("elsewhere").is_empty());
    assert_eq!(world.names("in"), ["l", "m"]);
}

#[test]
fn a_standing_server_takes_no_links_that_lead_out() {
    // protocol.md [LINK-1]
    let world = World::new();
    let server = world.serve("root", &[]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    let bad = ["/etc", "../x", "a/../../x", ".."];
    let entries: Vec<Entry> =
        bad.iter().enumerate().map(|(at, to)| symlink(&format!("bad{at}"), to)).collect();
    let entries = [&entries[..], &[symlink("good", "bad0")]].concat();

    let outcomes = send_all(&mut wire, &entries, b"").unwrap();

    for (number, to) in (0..).zip(bad) {
        assert!(
            matches!(outcomes[&number], Outcome::Failed { code: Code::NotAllowed, .. }),
            "{to}: {outcomes:?}"
        );
    }
    assert_eq!(outcomes[&4], Outcome::Done);
    assert_eq!(world.names("root"), ["good"]);
}

#[test]
fn setuid_and_setgid_are_stripped() {
    // protocol.md [MODE-1]
    let world = World::new();
    let server = world.serve("root", &[]);
    let (mut wire, _) = Guest::new().open(&server.ticket, push());
    let entries = [Entry { mode: 0o6755, ..file("f", 1) }, Entry { mode: 0o7777, ..entry("d", Kind::Dir) }];

    let outcomes = send_all(&mut wire, &entries, b"x").unwrap();

    assert!(outcomes.values().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
    assert_eq!(fs::metadata(world.path("root/f")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(world.path("root/d")).unwrap().permissions().mode() & 0o7777, 0o777);
}

#[test]
fn a_server_that_sends_what_nobody_asked_for_is_cut_off() {
    // protocol.md [NAME-3]
    let asked_and_sent: [(&str, Entry); 8] = [
        ("a", file("b", 5)),
        ("a", file(".bashrc", 5)),
        ("a", file("A", 5)),
        ("dir/a", file("dir/a", 5)),
        ("*.txt", file("x.sh", 5)),
        ("a", entry("b", Kind::Dir)),
        ("a", symlink("b", "/etc/passwd")),
        ("a", Entry { source: 1, ..file("a", 5) }),
    ];
    for (asked, sent) in asked_and_sent {
        let world = World::new();
        world.dir("out");
        let impostor = Impostor::new();

        let client = world.start("client", ["get", &impostor.ticket(asked), "-o", "out/"]);
        let (mut wire, _) = impostor.accept_open();
        let close = feed(&mut wire, &[sent]);

        let ended = client.wait();
        ended.fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
        assert_eq!(close, Some(Code::Protocol), "{asked}");
        assert!(world.names("out").is_empty(), "{asked}: {:?}", world.names("out"));
    }
}

#[test]
fn a_server_cannot_make_a_client_leave_its_target() {
    // protocol.md [NAME-1]
    for name in BAD {
        let world = World::new();
        world.dir("deep/out");
        let impostor = Impostor::new();

        let client = world.start("client", ["get", &impostor.ticket("a/"), "-o", "deep/out/"]);
        let (mut wire, _) = impostor.accept_open();
        let close = feed(&mut wire, &[entry(name, Kind::File { size: 5, sparse: false, linked: false })]);

        let ended = client.wait();
        ended.fails(exit::PEER, &["127.0.0.1:", "broke the protocol"]).in_one_line();
        assert_eq!(close, Some(Code::Protocol), "{name:?}");
        assert_eq!(world.names("deep"), ["out"], "{name:?}");
        assert!(world.names("deep/out").is_empty(), "{name:?}");
    }
}

#[test]
fn names_and_texts_of_a_peer_cannot_move_the_cursor() {
    // protocol.md [NAME-4]
    let world = World::new();
    let name = "red\u{1b}[31m\r\nhaul: sent 1 file\u{202e}";
    world.write("src/fine", "1");
    let impostor = Impostor::new();
    let close = haul::wire::message::Close { code: Code::NotAllowed, text: name.to_owned() };

    let refused = world.start("client", ["get", &impostor.ticket("a"), "-o", "out/"]);
    let (mut wire, _) = impostor.accept_open();
    wire.send(Frame::Message(haul::wire::message::Message::Close(close)));
    let refused = refused.wait();
    let listed = world.start("client", ["ls", &impostor.ticket("")]);
    let (mut wire, _) = impostor.accept_open();
    listing(&[file(name, 5)]).into_iter().for_each(|frame| wire.send(frame));
    let listed = listed.wait();

    refused.fails(exit::NOT_ALLOWED, &["red", "[31m"]).in_one_line();
    assert_eq!(listed.is_done().stdout.lines().count(), 1, "{listed:?}");
    for shown in [&refused.stderr, &listed.stdout] {
        assert!(!shown.contains(['\u{1b}', '\r', '\u{202e}']), "{shown:?}");
    }
}

#[test]
fn names_that_collide_where_case_does_not_count_do_not_overwrite_each_other() {
    let world = World::new();
    let Some(_disk) = FoldingDisk::mount(&world, "disk") else { return };
    world.write("src/Readme", "one");
    world.write("src/README", "two");
    world.write("src/other", "three");
    for overwrite in ["different", "always"] {
        let target = format!("disk/{overwrite}");
        let server = world.recv(&target, &["--overwrite", overwrite]);

        let send = world.run("client", ["send", "--overwrite", overwrite, "src/", &server.ticket]);
        let recv = server.wait();

        for ended in [&send, &recv] {
            ended.fails(exit::SOME_FAILED, &["1 of 3 failed", "differs only in case"]);
        }
        assert_eq!(world.names(&target).len(), 2, "{:?}", world.names(&target));
        // In the order of the bytes, README came first. One file's bytes never stand under the other's name.
        assert_eq!(world.read(&format!("{target}/README")), b"two");
    }
}

/// Announces entries as the server of a pull, with five bytes for each file, until the client closes.
fn feed(wire: &mut Wire, entries: &[Entry]) -> Option<Code> {
    listing(entries).into_iter().for_each(|frame| wire.send(frame));
    content(0, b"12345").into_iter().for_each(|frame| wire.send(frame));
    wire.close_of_peer().map(|close| close.code)
}

/// Pushes an entry without a name, which the library does not even encode.
fn empty_name(ticket: &str) -> haul::wire::message::Close {
    let (mut wire, _) = Guest::new().open(ticket, push());
    let [entries, _] = listing(&[file("x", 1)]);
    let mut bytes = entries.encode();
    // Length 1 becomes 0, and the name's only byte goes, from the frame's length too.
    let at = bytes.iter().position(|&byte| byte == b'x').unwrap();
    bytes.remove(at);
    bytes[at - 8] = 0;
    bytes[0] -= 1;
    wire.send_raw(&bytes);
    wire.close_of_peer().unwrap()
}

/// A disk that does not tell `a` from `A`, unmounted when it is dropped.
struct FoldingDisk(std::path::PathBuf);

impl FoldingDisk {
    /// vfat where the kernel has it, else NTFS where there is a program for it.
    fn mount(world: &World, name: &str) -> Option<Self> {
        let image = world.write("image", vec![0; 8 << 20]);
        let point = world.dir(name);
        let runs = |words: &[&str]| succeeds(Command::new(words[0]).args(&words[1..]));
        let (from, to) = (image.to_str().unwrap(), point.to_str().unwrap());
        let is_mounted = is_root()
            && (runs(&["mkfs.vfat", from]) && runs(&["mount", "-o", "loop", from, to])
                || runs(&["mkntfs", "-F", "-q", from])
                    && runs(&["lowntfs-3g", "-o", "ignore_case", from, to]));
        if !is_mounted {
            skip("no disk that ignores case can be mounted here: that takes root and vfat, or ntfs-3g");
            return None;
        }
        Some(Self(point))
    }
}

impl Drop for FoldingDisk {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg("-l").arg(&self.0));
    }
}
