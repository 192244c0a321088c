//! Trees arrive as they are: every kind of entry, mode, time and name, on every way that a tree can take.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Stdio;

use common::process::{Process, Server};
use common::tree::{self, Kind};
use common::{Place, skip};
use serde_json::json;

#[test]
fn a_tree_arrives_as_it_is_by_send_at_recv() {
    let (here, there) = (Place::new(), Place::new());
    odd_tree(&here.path("tree"));
    keep_escaping_links(&here.path("tree"));
    there.write("dst/other", "");
    let recv = there.listen(["recv", "dst", "--json"]);

    let send = here.start(["send", "tree", &recv.ticket, "--json"]).end();

    let (sent, received) = (send.with(0).json(), recv.end().with(0).json());
    assert_same_top(&here.path("tree"), &there.path("dst/tree"));
    let count = |kind: fn(&Kind) -> bool| {
        tree::look(&here.path("tree")).values().filter(|node| kind(&node.kind)).count() as u64
    };
    for result in [&sent, &received] {
        assert_eq!(result["directories"], count(|kind| *kind == Kind::Directory) + 1);
        assert_eq!(result["files"], count(|kind| *kind != Kind::Directory));
        assert_eq!(result["failed"], 0);
        assert_eq!(
            (&result["synced"], &result["confirmed"], &result["encrypted"]),
            (&json!(true), &json!(true), &json!(true))
        );
    }
    assert_eq!(sent["bytes"], received["bytes"]);
}

#[test]
fn a_tree_arrives_as_it_is_by_send_at_serve() {
    let (here, there) = (Place::new(), Place::new());
    odd_tree(&here.path("tree"));
    fs::create_dir(there.path("root")).unwrap();
    let serve = there.listen(["serve", "root"]);

    let send = here.start(["send", "tree", &serve.ticket, "--json"]).end();

    assert_eq!(send.with(0).json()["failed"], 0);
    assert_same_top(&here.path("tree"), &there.path("root/tree"));
}

#[test]
fn a_tree_arrives_as_it_is_by_get_from_serve() {
    let (here, there) = (Place::new(), Place::new());
    odd_tree(&there.path("root/tree"));
    keep_escaping_links(&there.path("root/tree"));
    let serve = there.listen(["serve", "root", "--read-only"]);

    let get = here.start(["get", &serve.at("tree"), "--json"]).end();

    assert_eq!(get.with(0).json()["failed"], 0);
    assert_same_top(&there.path("root/tree"), &here.path("tree"));
}

#[test]
fn a_tree_arrives_as_it_is_by_get_from_offer() {
    let (here, there) = (Place::new(), Place::new());
    odd_tree(&there.path("tree"));
    keep_escaping_links(&there.path("tree"));
    let offer = there.listen(["offer", "tree", "--json"]);

    let get = here.start(["get", &offer.ticket, "--json"]).end();

    assert_eq!(get.with(0).json()["failed"], 0);
    assert_eq!(offer.end().with(0).json()["role"], "sender");
    assert_same_top(&there.path("tree"), &here.path("tree"));
}

#[test]
fn an_ordinary_user_receives_every_mode_twice() {
    let (here, there) = (Place::new(), Place::new());
    odd_tree(&here.path("tree"));
    keep_escaping_links(&here.path("tree"));
    for again in [false, true] {
        if again {
            // Directories that cannot be written to get something more.
            fs::write(here.path("tree/closed/later"), "later").unwrap();
            fs::write(here.path("tree/closed/in/later"), "later").unwrap();
            tree::age(&here.path("tree"));
        }
        let Some(mut recv) = there.command_of_nobody() else { return };
        let recv = Server::start(recv.args(["recv", ".", "--json"]));

        let send = here.start(["send", "tree", &recv.ticket, "--json"]).end();

        send.with(0);
        recv.end().with(0);
        assert_same_top(&here.path("tree"), &there.path("tree"));
        let owner = fs::metadata(there.path("tree/closed/in/file")).unwrap().uid();
        assert_ne!(owner, 0, "this shows nothing if the receiver is root");
    }
}

#[test]
fn an_ordinary_user_sends_what_it_may_read() {
    let (here, there) = (Place::new(), Place::new());
    odd_tree(&here.path("tree"));
    let Some(mut send) = here.command_of_nobody() else { return };
    let recv = there.listen(["recv", ".", "--json"]);

    let send = Process::start(send.args(["send", "tree", &recv.ticket, "--json"]).stdin(Stdio::null())).end();

    // One file has no mode at all, and its owner may not read it.
    let sent = send.with(6).json();
    assert_eq!((&sent["failed"], &sent["failures"][0]["name"]), (&json!(1), &json!("tree/modes/0")));
    assert!(sent["failures"][0]["reason"].as_str().unwrap().contains("ermission denied"), "{sent}");
    recv.end().with(6);
    let mut wanted = tree::look(&here.path("tree"));
    wanted.remove(&b"modes/0"[..]);
    tree::assert_trees_same(&wanted, &tree::look(&there.path("tree")));
}

#[test]
fn what_is_no_file_is_left_out_and_counted() {
    let (here, there) = (Place::new(), Place::new());
    here.write("tree/file", "file");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, here.path("tree/fifo"), fifo, 0o644.into(), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(here.path("tree/socket")).unwrap();
    let recv = there.listen(["recv"]);

    let send = here.start(["send", "tree", &recv.ticket]).end().with(0);

    assert!(send.stderr.contains("not kept: 2 special files"), "{send}");
    assert!(recv.end().with(0).stderr.contains("received 1 file"));
    assert_eq!(tree::names(&there.path("")), ["tree", "tree/file"]);
}

#[test]
fn a_server_refuses_links_that_lead_out_and_takes_the_rest() {
    let (here, there) = (Place::new(), Place::new());
    here.write("tree/sub/file", "file");
    for (name, target) in [("absolute", "/etc/passwd"), ("up", "../../x"), ("sub/stays", "../sub/file")] {
        symlink(target, here.path(format!("tree/{name}"))).unwrap();
    }
    let serve = there.listen(["serve", "."]);

    let send = here.start(["send", "tree", &serve.ticket, "--json"]).end();

    let sent = send.with(6).json();
    let mut failed: Vec<(&str, &str)> = sent["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| (failure["name"].as_str().unwrap(), failure["cause"].as_str().unwrap()))
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, [("tree/absolute", "not_allowed"), ("tree/up", "not_allowed")]);
    assert_eq!(tree::names(&there.path("tree")), ["sub", "sub/file", "sub/stays"]);
}

#[test]
fn setuid_is_stripped_unless_asked_for() {
    for (options, mode) in [(&[][..], 0o755), (&["--keep-setid"], 0o4755)] {
        let (here, there) = (Place::new(), Place::new());
        here.write("program", "program");
        fs::set_permissions(here.path("program"), fs::Permissions::from_mode(0o4755)).unwrap();
        let recv = there.listen([&["recv", "."][..], options].concat());

        here.start(["send", "program", &recv.ticket]).end().with(0);

        recv.end().with(0);
        assert_eq!(fs::metadata(there.path("program")).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn a_real_tree_arrives_as_it_is() {
    let Some(source) = real_tree() else { return skip("there is no cargo registry or documentation here") };
    let (here, there) = (Place::in_memory(), Place::in_memory());
    let copied = common::run(here.command("cp").args(["-a", &source, "tree"]), b"");
    copied.with(0);
    let recv = there.listen(["recv", ".", "--json"]);

    let send = here.start(["send", "tree", &recv.ticket, "--json"]).end().with(0);

    recv.end().with(0);
    assert_same_top(&here.path("tree"), &there.path("tree"));
    let rerun = there.listen(["recv", ".", "--json"]);
    let again = here.start(["send", "tree", &rerun.ticket, "--json"]).end().with(0);
    assert_eq!(again.json()["unchanged"], send.json()["files"]);
    assert_eq!(again.json()["files"], 0);
    rerun.end().with(0);
}

/// The largest tree of real files that a machine with Rust has, in bounds.
fn real_tree() -> Option<String> {
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME").map(|home| home + "/.cargo")).ok()?;
    let registry = Path::new(&home).join("registry/src");
    let index = fs::read_dir(registry).ok()?.next()?.ok()?.path();
    let mut crates: Vec<_> = fs::read_dir(index).ok()?.map(|entry| entry.unwrap().path()).collect();
    crates.sort();
    let wanted = ["ring-", "tokio-1", "rustix-", "libc-"];
    let found = wanted.iter().find_map(|wanted| {
        crates.iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with(wanted))
    })?;
    Some(found.to_str()?.to_owned())
}

/// Everything that a tree may hold, and a server takes.
fn odd_tree(top: &Path) {
    fs::create_dir_all(top).unwrap();
    let dir = tree::open_top(top);
    tree::make_file(&dir, b"empty", b"");
    tree::make_dir(&dir, b"empty-dir");
    tree::make_file(&dir, b".hidden", b"hidden");
    tree::make_file(&dir, b".gitignore", b"*\n");
    let git = tree::make_dir(&dir, b".git");
    tree::make_file(&git, b"config", b"[core]\n");
    tree::make_file(&dir, b"large", &tree::noise(1, 3_000_001));

    let modes = tree::make_dir(&dir, b"modes");
    for mode in [0o000, 0o444, 0o600, 0o640, 0o755, 0o777] {
        let name = format!("{mode:o}");
        tree::make_file(&modes, name.as_bytes(), name.as_bytes());
        tree::set_mode(&modes, name.as_bytes(), mode);
    }
    for mode in [0o500, 0o700, 0o711, 0o777] {
        let name = format!("directory-{mode:o}");
        tree::make_dir(&modes, name.as_bytes());
        tree::set_mode(&modes, name.as_bytes(), mode);
    }

    let names = tree::make_dir(&dir, b"names");
    let long = [b'n'; 255];
    let odd: [&[u8]; 14] = [
        b"\xff\xfe not UTF-8",
        b"new\nline",
        b"-rf",
        b"--help",
        b" spaces  ",
        b"\x01\x1b[2J\x7f",
        b"back\\slash",
        b"quo\"te'",
        b"*?[a]",
        b"~",
        b"...",
        "\u{e9}\u{1f600}".as_bytes(),
        b"host:name",
        &long,
    ];
    for name in odd {
        tree::make_file(&names, name, name);
        let below = tree::make_dir(&names, &[b"d", &name[..name.len().min(254)]].concat());
        tree::make_file(&below, name, name);
    }

    // `tree/` and fifteen of these, and a name that makes it 4095 bytes.
    let mut deep = tree::make_dir(&dir, &[b'0'; 255]);
    for level in 1..15 {
        deep = tree::make_dir(&deep, &[b'0' + level % 10; 255]);
    }
    tree::make_file(&deep, &[b'f'; 250], b"deep");

    symlink("empty", top.join("link")).unwrap();
    symlink("nowhere", top.join("dangling")).unwrap();
    symlink("names/\u{e9}\u{1f600}", top.join("link-\u{1f600}")).unwrap();
    symlink("../empty", top.join("names/up-one")).unwrap();

    fs::hard_link(top.join("large"), top.join("large-again")).unwrap();
    fs::hard_link(top.join("large"), top.join("names/large-thrice")).unwrap();

    let closed = tree::make_dir(&dir, b"closed");
    let inside = tree::make_dir(&closed, b"in");
    tree::make_file(&inside, b"file", b"file");
    tree::set_mode(&closed, b"in", 0o555);
    tree::set_mode(&dir, b"closed", 0o555);

    fs::File::create(top.join("sparse")).unwrap().set_len(40 << 20).unwrap();
    write_at(&top.join("sparse"), 17 << 20, b"an island");
    fs::File::create(top.join("hole")).unwrap().set_len(5 << 20).unwrap();
    tree::age(top);
}

/// What only one's own `recv` and `get` keep.
fn keep_escaping_links(top: &Path) {
    symlink("/etc/passwd", top.join("absolute")).unwrap();
    symlink("../../..", top.join("out")).unwrap();
    tree::age(top);
}

/// Both trees, both tops, and what no listing shows: that holes stay holes.
#[track_caller]
fn assert_same_top(left: &Path, right: &Path) {
    tree::assert_same(left, right);
    let top = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.mode() & 0o7777, metadata.mtime(), metadata.mtime_nsec())
    };
    assert_eq!(top(left), top(right));
    let Ok(sparse) = fs::metadata(left.join("sparse")) else { return };
    assert_eq!(sparse.len(), 40 << 20);
    let (ours, theirs) = (tree::blocks(&left.join("sparse")), tree::blocks(&right.join("sparse")));
    // A file system may round up; what is sent in chunks may not fill them.
    assert!(theirs <= ours + 4096, "{ours} blocks became {theirs}");
    assert!(tree::blocks(&right.join("hole")) < 4096);
}

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}
