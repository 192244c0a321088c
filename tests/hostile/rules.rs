//! What was said beforehand holds: expected digests, known keys, who is authorized, what a server allows.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use haul::integrity::digest::{DigestKind, Hasher};
use haul::security::{HostPort, Identity, KeyHash, ProofKey, Ticket};
use haul::session::Credential;
use haul::wire::frame::Frame;
use haul::wire::message::{Code, Message, Open, Outcome};

use crate::opening::is_serving;
use crate::peer::{Guest, Impostor, file, listing, open_of, push, send_all};
use crate::world::{Listening, World, exit};

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(bytes);
    data_encoding::HEXLOWER.encode(&hasher.finish())
}

#[test]
fn what_does_not_have_the_expected_digest_never_gets_its_name() {
    let world = World::new();
    world.write("f", "these bytes");
    world.write("root/f", "as it was");
    world.write("out/f", "as it was");
    let server = world.serve("root", &["--overwrite", "always"]);
    let source = world.listen("other", &["serve", "."], &["--read-only"]);
    let wrong = format!("sha256:{}", sha256(b"other bytes"));
    let right = format!("sha256:{}", sha256(b"these bytes"));
    let always = ["--overwrite", "always", "--expect"];

    let send = world.run("client", [&["send"], &always[..], &[&wrong, "f", &server.ticket]].concat());
    let get = world.run("client", [&["get"], &always[..], &[&wrong, &source.at("f"), "-o", "out/"]].concat());
    let new = world.run("client", ["get", "--expect", &wrong, &source.at("f"), "-o", "out/new"]);

    send.fails(exit::INTEGRITY, &["f: ", "not the expected"]).in_one_line();
    get.fails(exit::INTEGRITY, &["f: ", "does not have the expected digest"]).in_one_line();
    new.fails(exit::INTEGRITY, &["new: ", "does not have the expected digest"]).in_one_line();
    assert_eq!([world.read("root/f"), world.read("out/f")], [b"as it was", b"as it was"]);
    assert_eq!([world.names("root"), world.names("out")], [["f"], ["f"]]);

    world.run("client", [&["send"], &always[..], &[&right, "f", &server.ticket]].concat()).is_done();
    world.run("client", [&["get"], &always[..], &[&right, &source.at("f"), "-o", "out/"]].concat()).is_done();
    assert_eq!([world.read("root/f"), world.read("out/f")], [b"these bytes", b"these bytes"]);
}

#[test]
fn a_manifest_lets_through_what_it_names_and_nothing_else() {
    let world = World::new();
    for name in ["a", "b", "unnamed"] {
        world.write(&format!("tree/{name}"), name);
        world.write(&format!("out/tree/{name}"), "as it was");
    }
    let lines = format!("{}  tree/a\n{}  tree/b\n", sha256(b"a"), sha256(b"not b"));
    world.write("SHA256SUMS", lines);
    let server = world.serve("root", &[]);
    let source = world.listen("other", &["serve", "."], &["--read-only"]);
    let expect = ["--overwrite", "always", "--expect", "SHA256SUMS"];

    let send = world.run("client", [&["send"], &expect[..], &["tree", &server.ticket]].concat());
    let get = world.run("client", [&["get"], &expect[..], &[&source.at("tree"), "-o", "out/"]].concat());
    let bad = world.run("client", ["get", "--expect", "none", &source.at("tree"), "-o", "out/"]);

    for ended in [&send, &get] {
        ended.fails(exit::SOME_FAILED, &["2 of 3 failed"]);
        ended.fails(exit::SOME_FAILED, &["haul: tree/unnamed: the manifest does not name this file"]);
    }
    bad.fails(exit::FILE, &["none: ", "manifest"]).in_one_line();
    assert_eq!(world.names("root/tree"), ["a"]);
    assert_eq!(world.read("out/tree/a"), b"a");
    assert_eq!([world.read("out/tree/b"), world.read("out/tree/unnamed")], [b"as it was", b"as it was"]);
}

#[test]
fn a_changed_key_is_refused_with_file_and_line() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &["--open"]);
    let key = Ticket::parse(&server.ticket).unwrap().key;
    let other = Identity::generate().unwrap().key_hash();
    let address = server.address();
    let known = format!("# servers\nelsewhere:1 {key}\n{address} {other}\n");
    fs::write(world.home("client").join("known_peers"), known).unwrap();
    let place = format!("haul://{address}/");

    let send = world.run("client", ["send", "a", &place]);
    let ls = world.run("client", ["ls", &place]);

    for ended in [&send, &ls] {
        let parts =
            [address, "has changed", "home-client/known_peers, line 3", &other.to_string(), &key.to_string()];
        ended.fails(exit::NOT_ALLOWED, &parts).in_one_line();
    }
    assert!(world.names("root").is_empty());
}

#[test]
fn an_unknown_key_is_not_taken_without_a_person() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &["--open"]);
    let place = format!("haul://{}/", server.address());
    let key = Ticket::parse(&server.ticket).unwrap().key.to_string();

    let unknown = world.run("client", ["send", "a", &place]);
    let with_ticket = world.run("client", ["send", "a", &server.ticket]);
    let known = world.run("client", ["ls", &place]);

    unknown.fails(exit::NOT_ALLOWED, &[server.address(), &key, "not known"]).in_one_line();
    with_ticket.is_done();
    // The ticket has made it known.
    known.is_done();
    let kept = fs::read_to_string(world.home("client").join("known_peers")).unwrap();
    assert_eq!(kept, format!("{} {key}\n", server.address()));
}

#[test]
fn a_damaged_list_of_known_keys_is_an_error_and_not_an_empty_list() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &["--open"]);
    let known = format!("{} {}\nnonsense\n", server.address(), Ticket::parse(&server.ticket).unwrap().key);
    fs::write(world.home("client").join("known_peers"), known).unwrap();

    let ended = world.run("client", ["send", "a", &format!("haul://{}/", server.address())]);

    ended.fails(exit::FILE, &["known_peers, line 2: expected HOST:PORT HEXHASH"]).in_one_line();
    assert!(world.names("root").is_empty());
}

/// The key of a person of this world, made by its first run.
fn key_of(world: &World, who: &str) -> KeyHash {
    if !world.home(who).join("identity.pem").exists() {
        let nobody = "haul://127.0.0.1:1/";
        world.run(who, ["ls", nobody]);
    }
    Identity::from_pem(&fs::read_to_string(world.home(who).join("identity.pem")).unwrap()).unwrap().key_hash()
}

/// Makes the server known to `who`, so that no ticket is needed to trust it.
fn introduce(world: &World, who: &str, server: &Listening) -> String {
    let line = format!("{} {}\n", server.address(), Ticket::parse(&server.ticket).unwrap().key);
    fs::write(world.home(who).join("known_peers"), line).unwrap();
    format!("haul://{}/", server.address())
}

#[test]
fn an_authorized_key_needs_no_token_and_another_one_does() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &[]);
    let friend = key_of(&world, "friend");
    let place = introduce(&world, "friend", &server);
    introduce(&world, "stranger", &server);
    let authorized = world.home("server").join("authorized");
    fs::write(&authorized, format!("# who may come\n{friend} a friend\n")).unwrap();

    let admitted = world.run("friend", ["send", "a", &place]);
    let refused = world.run("stranger", ["send", "a", &place]);

    admitted.is_done();
    refused.fails(exit::NOT_ALLOWED, &[server.address(), "not allowed"]).in_one_line();

    // A list that is not understood, or that others can write, admits nobody. It is read anew each time.
    fs::write(&authorized, format!("{friend}\nnot a key\n")).unwrap();
    let malformed = world.run("friend", ["ls", &place]);
    fs::write(&authorized, format!("{friend}\n")).unwrap();
    fs::set_permissions(&authorized, fs::Permissions::from_mode(0o666)).unwrap();
    let too_open = world.run("friend", ["ls", &place]);
    fs::set_permissions(&authorized, fs::Permissions::from_mode(0o600)).unwrap();
    let again = world.run("friend", ["ls", &place]);

    for ended in [&malformed, &too_open] {
        ended.fails(exit::NOT_ALLOWED, &[server.address(), "not allowed"]).in_one_line();
    }
    again.is_done();
    is_serving(&world, &server);
}

#[test]
fn an_authorized_key_is_no_ticket_for_what_is_for_one() {
    // protocol.md [AUTH-8]
    let world = World::new();
    world.write("a", "1");
    let recv = world.recv("in", &[]);
    let friend = key_of(&world, "friend");
    let place = introduce(&world, "friend", &recv);
    fs::write(world.home("server").join("authorized"), format!("{friend}\n")).unwrap();

    let refused = world.run("friend", ["send", "a", &place]);

    refused.fails(exit::NOT_ALLOWED, &[recv.address(), "not allowed"]).in_one_line();
    world.run("client", ["send", "a", &recv.ticket]).is_done();
    recv.wait().is_done();
}

#[test]
fn a_dry_run_does_not_use_up_a_ticket() {
    let world = World::new();
    world.write("a", "1");
    let recv = world.recv("in", &[]);

    world.run("client", ["send", "--dry-run", "a", &recv.ticket]).is_done();
    recv.process.says("still waiting");
    let names = world.names("in");
    world.run("client", ["send", "a", &recv.ticket]).is_done();
    recv.wait().is_done();

    assert!(names.is_empty(), "{names:?}");
    assert_eq!(world.names("in"), ["a"]);
}

#[test]
fn only_the_address_that_answered_is_remembered_with_its_key() {
    let world = World::new();
    world.write("root/f", "1");
    let server = world.serve("root", &[]);
    let mut ticket = Ticket::parse(&server.ticket).unwrap();
    ticket.addresses.push(HostPort::parse("127.0.0.1:9").unwrap());

    world.run("client", ["ls", &ticket.to_line()]).is_done();

    let known = fs::read_to_string(world.home("client").join("known_peers")).unwrap();
    assert!(known.contains(server.address()), "{known}");
    assert!(!known.contains("127.0.0.1:9 "), "{known}");
}

#[test]
fn what_is_expected_holds_for_links_and_for_what_is_there_already() {
    let world = World::new();
    world.write("tree/a", "a");
    fs::hard_link(world.path("tree/a"), world.path("tree/b")).unwrap();
    world.write("LINK", format!("{}  tree/a\n{}  tree/b\n", sha256(b"a"), sha256(b"not a")));
    world.write("OLD", format!("{0}  tree/a\n{0}  tree/b\n", sha256(b"as it was")));
    let server = world.serve("root", &["--overwrite", "always"]);
    let source = world.listen("other", &["serve", "."], &["--read-only"]);
    world.dir("out");

    let send = world.run("client", ["send", "--expect", "LINK", "tree", &server.ticket]);
    let get = world.run("client", ["get", "--expect", "LINK", &source.at("tree"), "-o", "out/"]);
    let (sent, got) = (world.names("root/tree"), world.names("out/tree"));
    world.run("client", ["send", "tree", &server.ticket]).is_done();
    let unchanged = world.run("client", ["send", "--expect", "OLD", "tree", &server.ticket]);

    send.fails(exit::SOME_FAILED, &["tree/b: ", "not the expected"]);
    get.fails(exit::SOME_FAILED, &["tree/b: ", "does not have the expected digest"]);
    assert_eq!([sent, got], [["a"], ["a"]]);
    unchanged.fails(exit::SOME_FAILED, &["2 of 2 failed", "not the expected"]);
}

#[test]
fn a_server_gives_or_takes_only_what_it_says() {
    // protocol.md [OPEN-3]
    let world = World::new();
    world.write("a", "1");
    world.write("library/book", "text");
    let library = world.listen("one", &["serve", "library"], &["--read-only"]);
    let dropbox = world.listen("two", &["serve", "library"], &["--drop-only"]);
    let recv = world.listen("three", &["recv", "."], &[]);
    let offer = world.listen("four", &["offer", "library"], &[]);

    let send = world.run("client", ["send", "a", &library.ticket]);
    let get = world.run("client", ["get", &dropbox.at("book"), "-o", "out/"]);
    let ls = world.run("client", ["ls", &dropbox.ticket]);
    let from_recv = world.run("client", ["get", &recv.ticket, "-o", "out/"]);
    let to_offer = world.run("client", ["send", "a", &offer.ticket]);

    send.fails(exit::NOT_ALLOWED, &[library.address(), "read-only"]).in_one_line();
    get.fails(exit::NOT_ALLOWED, &[dropbox.address(), "only takes files"]).in_one_line();
    ls.fails(exit::NOT_ALLOWED, &[dropbox.address(), "only takes files"]).in_one_line();
    from_recv.fails(exit::NOT_ALLOWED, &[recv.address(), "haul send"]).in_one_line();
    to_offer.fails(exit::NOT_ALLOWED, &[offer.address(), "haul get"]).in_one_line();
    assert_eq!(world.names("library"), ["book"]);
    assert!(world.names("out").is_empty());
    world.run("client", ["ls", &library.ticket]).is_done();
    world.run("client", ["send", "a", &dropbox.ticket]).is_done();
}

#[test]
fn blake3_is_refused_where_one_side_lacks_it() {
    // protocol.md [OPEN-5]
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("in", &[]);
    let without = Guest { features: 0, ..Guest::new() };
    let ticket = Ticket::parse(&server.ticket).unwrap();
    let credential = Credential::Token(ProofKey::from_token(&ticket.token));
    let open = Open { digest: DigestKind::Blake3, ..open_of(push()) };
    let impostor = Impostor::new().with_features(0);

    let (mut wire, opened) =
        without.try_open(&ticket.addresses[0], credential, None, Some(open.into())).unwrap();
    let close = wire.close_of_peer().unwrap();
    let send = world.start("client", ["send", "--digest", "blake3", "a", &impostor.ticket("")]);
    let (mut wire, _) = impostor.accept_open();
    let close_of_client = wire.close_of_peer().unwrap();

    assert_eq!((opened.features, close.code), (0, Code::Incompatible), "{close:?}");
    assert!(close.text.contains("BLAKE3"), "{close:?}");
    assert_eq!(close_of_client.code, Code::Incompatible);
    send.wait().fails(exit::PEER, &["BLAKE3", "leave --digest out"]).in_one_line();
    is_serving(&world, &server);
}

#[test]
fn the_receivers_policy_is_the_ceiling() {
    // protocol.md [OPEN-4]
    let world = World::new();
    world.write("f", "from the sender, longer");
    for (ceiling, wish, wins) in [
        ("never", "always", false),
        ("newer", "always", true),
        ("different", "always", true),
        ("always", "never", false),
        ("always", "different", true),
    ] {
        let root = format!("root-{ceiling}-{wish}");
        world.write(&format!("{root}/f"), "there before");
        let old = fs::File::options().write(true).open(world.path(format!("{root}/f"))).unwrap();
        old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let server = world.listen(&root, &["serve", &root], &["--overwrite", ceiling]);

        let send = world.run("client", ["send", "--overwrite", wish, "f", &server.ticket]);

        let kept = world.read(&format!("{root}/f")) == b"there before";
        assert_eq!(kept, !wins, "{ceiling} {wish}: {send:?}");
        assert_eq!(
            send.is_done().stderr.contains("1 kept as they were"),
            !wins,
            "{ceiling} {wish}: {send:?}"
        );
    }
}

#[test]
fn an_older_source_does_not_replace_a_newer_file() {
    let world = World::new();
    world.write("f", "older");
    let old = fs::File::options().write(true).open(world.path("f")).unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    world.write("root/f", "newer, and other");
    let server = world.serve("root", &["--overwrite", "always"]);

    let newer = world.run("client", ["send", "--overwrite", "newer", "f", &server.ticket]);
    let kept = world.read("root/f");
    world.run("client", ["send", "--overwrite", "different", "f", &server.ticket]).is_done();
    let unchanged = world.run("client", ["send", "--overwrite", "different", "f", &server.ticket]);
    let nothing = world.run("client", ["send", "--fail-if-nothing", "f", &server.ticket]);

    assert!(newer.is_done().stderr.contains("1 kept as they were"), "{newer:?}");
    assert_eq!(kept, b"newer, and other");
    assert_eq!(world.read("root/f"), b"older");
    assert!(unchanged.is_done().stderr.contains("1 unchanged (not compared)"), "{unchanged:?}");
    nothing.fails(13, &["nothing to do"]);
}

#[test]
fn of_two_writers_of_one_name_the_second_is_told_busy() {
    let world = World::new();
    world.write("f", "the second");
    let server = world.serve("root", &["--overwrite", "always"]);
    let (mut first, _) = Guest::new().open(&server.ticket, push());
    for frame in listing(&[file("f", 9)]) {
        first.send(frame);
    }
    while !matches!(first.next(), Some(Frame::Message(Message::Wants(_)))) {}

    let second = world.run("client", ["send", "--overwrite", "always", "f", &server.ticket]);
    first.cut();
    let third = crate::world::eventually("the name is free again", || {
        let ended = world.run("client", ["send", "--overwrite", "always", "f", &server.ticket]);
        (ended.code == exit::DONE).then_some(ended)
    });

    second.fails(exit::FILE, &["f: ", "another transfer is writing it"]).in_one_line();
    third.is_done();
    assert_eq!(world.read("root/f"), b"the second");
}

#[test]
fn more_sessions_than_allowed_are_told_busy() {
    let world = World::new();
    let server = world.serve("root", &["--max-sessions", "1"]);
    let (mut first, _) = Guest::new().open(&server.ticket, push());

    let second = world.run("client", ["ls", &server.ticket]);
    let outcomes = send_all(&mut first, &[file("f", 2)], b"ok").unwrap();
    drop(first);
    let third = crate::world::eventually("a place is free again", || {
        let ended = world.run("client", ["ls", &server.ticket]);
        (ended.code == exit::DONE).then_some(ended)
    });

    second.fails(exit::FILE, &[server.address(), "as many sessions as it may"]).in_one_line();
    assert_eq!(outcomes[&0], Outcome::Done);
    assert_eq!(third.stdout.lines().count(), 1, "{third:?}");
}
