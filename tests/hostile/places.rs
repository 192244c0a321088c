//! What is in the way on the disk: files where directories are needed, permissions, and space.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::crowds::skip;
use crate::world::{Ended, Listening, Process, World, exit, is_root, listening, noise};

#[test]
fn a_root_that_is_no_directory_is_refused_at_the_start() {
    let world = World::new();
    world.write("file", "as it was");

    for command in ["recv", "serve"] {
        world.run("server", [command, "file"]).fails(exit::FILE, &["file: is no directory"]).in_one_line();
        world.run("server", [command, "none"]).fails(exit::FILE, &["none: "]).in_one_line();
    }
    world.run("server", ["offer", "none"]).fails(exit::FILE, &["none: "]).in_one_line();
    assert_eq!(world.read("file"), b"as it was");
}

#[test]
fn a_file_stays_where_a_directory_is_needed() {
    let world = World::new();
    world.write("tree/dir/inner", "new");
    world.write("tree/z", "fine");
    world.write("root/tree/dir", "a file");
    world.write("out/tree/dir", "a file");
    world.write("out2/dir", "a file");
    let server = world.serve("root", &["--overwrite", "always"]);
    let source = world.listen("other", &["serve", "."], &["--read-only"]);

    let send = world.run("client", ["send", "--overwrite", "always", "tree", &server.ticket]);
    let get = world.run("client", ["get", "--overwrite", "always", &source.at("tree"), "-o", "out/"]);
    let onto = world.run("client", ["get", &source.at("tree/"), "-o", "out2/dir/"]);
    let below = world.run("client", ["get", &source.at("tree/z"), "-o", "out2/dir/new"]);

    for ended in [&send, &get] {
        ended.fails(exit::SOME_FAILED, &["2 of 3 failed", "tree/dir: ", "is in the way"]);
    }
    assert_eq!(onto.code, exit::FILE, "{onto:?}");
    onto.fails(exit::FILE, &["out2/dir"]).in_one_line();
    below.fails(exit::FILE, &["out2/dir"]).in_one_line();
    for root in ["root", "out"] {
        assert_eq!(world.read(&format!("{root}/tree/dir")), b"a file");
        assert_eq!(world.read(&format!("{root}/tree/z")), b"fine");
        assert_eq!(world.names(&format!("{root}/tree")), ["dir", "z"]);
    }
    assert_eq!(world.read("out2/dir"), b"a file");
}

#[test]
fn a_directory_stays_where_a_file_is_to_go() {
    let world = World::new();
    world.write("a", "a file");
    world.write("root/a/inner", "in a directory");
    world.write("out/a/inner", "in a directory");
    let server = world.serve("root", &["--overwrite", "always"]);
    let source = world.listen("other", &["serve", "."], &["--read-only"]);

    let send = world.run("client", ["send", "--overwrite", "always", "a", &server.ticket]);
    let get = world.run("client", ["get", "--overwrite", "always", &source.at("a"), "-o", "out/"]);

    for ended in [&send, &get] {
        ended.fails(exit::FILE, &["a: is a directory"]).in_one_line();
    }
    for root in ["root", "out"] {
        assert_eq!(world.read(&format!("{root}/a/inner")), b"in a directory");
        assert_eq!(world.names(root), ["a"]);
    }
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let world = World::new();
    world.write("there", "1");
    let server = world.serve("root", &[]);

    let alone = world.run("client", ["send", "missing", &server.ticket]);
    let with = world.run("client", ["send", "missing", "there", &server.ticket]);

    alone.fails(exit::FILE, &["missing: ", "No such file"]).in_one_line();
    with.fails(exit::SOME_FAILED, &["1 of 2 failed", "missing"]);
    assert_eq!(world.names("root"), ["there"]);
}

#[test]
fn what_may_not_be_read_fails_and_the_rest_arrives() {
    let world = World::new();
    let Some(user) = User::new(&world) else { return };
    world.write("src/a", "readable");
    world.write("src/closed/inner", "secret");
    world.write("src/secret", "secret");
    for closed in ["src/closed", "src/secret"] {
        fs::set_permissions(world.path(closed), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let server = world.serve("root", &[]);

    let alone = user.run(["send", "src/secret", &server.ticket]);
    let tree = user.run(["send", "src/", &server.ticket]);

    alone.fails(exit::FILE, &["secret: cannot read", "ermission denied"]).in_one_line();
    tree.fails(exit::SOME_FAILED, &["2 of", "failed", "ermission denied"]);
    assert_eq!(world.read("root/a"), b"readable");
    assert!(!world.path("root/secret").exists());
    assert!(!world.path("root/closed/inner").exists());
    fs::set_permissions(world.path("src/closed"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn where_nothing_may_be_written_both_sides_say_so() {
    let world = World::new();
    let Some(user) = User::new(&world) else { return };
    world.write("a", "content");
    world.write("locked/a", "as it was");
    world.dir("empty");
    let source = world.serve(".", &["--read-only"]);

    let get = user.run(["get", "--overwrite", "always", &source.at("a"), "-o", "locked/"]);
    let new = user.run(["get", &source.at("a"), "-o", "empty/made/"]);
    let recv = Listening::of(user.start(listening(&["recv", "locked"], &["--overwrite", "always"])));
    let send = world.run("client", ["send", "--overwrite", "always", "a", &recv.ticket]);

    get.fails(exit::FILE, &["a: ", "permission denied"]).in_one_line();
    new.fails(exit::FILE, &["empty/made", "ermission denied"]).in_one_line();
    send.fails(exit::FILE, &["a: ", "permission denied"]).in_one_line();
    recv.wait().fails(exit::FILE, &["a: ", "permission denied"]);
    assert_eq!(world.read("locked/a"), b"as it was");
    assert_eq!(world.names("locked"), ["a"]);
    assert!(world.names("empty").is_empty());
}

#[test]
fn a_state_directory_that_others_may_write_is_refused() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &[]);
    let mut command = world.command("client", ["send", "a", &server.ticket]);
    fs::set_permissions(world.path("home-client"), fs::Permissions::from_mode(0o777)).unwrap();

    let open = Process::start(&mut command).wait();
    fs::set_permissions(world.path("home-client"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(world.path("home-client/identity.pem"), "not a key").unwrap();
    fs::set_permissions(world.path("home-client/identity.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let damaged = world.run("client", ["send", "a", &server.ticket]);

    open.fails(exit::FILE, &["home-client", "too open", "chmod"]).in_one_line();
    damaged.fails(exit::FILE, &["home-client/identity.pem", "no usable private key"]).in_one_line();
    assert!(world.names("root").is_empty());
}

#[test]
fn a_disk_that_gets_full_half_way_keeps_what_is_done_and_no_part() {
    let world = World::new();
    let Some(_disk) = Tmpfs::mount(&world, "disk", "2m") else { return };
    world.write("disk/big", "as it was");
    let content = noise(6 << 20);

    // Of standard input nobody knows the size before its end.
    let server = world.recv("disk", &["--overwrite", "always"]);
    let mut command =
        world.command("client", ["send", "-", "--name", "big", "--overwrite", "always", &server.ticket]);
    let send = Process::start_with_input(&mut command, content.clone()).wait();
    let recv = server.wait();

    for ended in [&send, &recv] {
        ended.fails(exit::NO_SPACE, &["big: ", "no space left on the disk"]);
    }
    assert_eq!(world.read("disk/big"), b"as it was");
    assert_eq!(world.names("disk"), ["big"]);

    // A sparse file takes what its data needs, so no room is reserved for it.
    world.write("src/a", "before");
    world.write("src/z", "behind");
    let sparse = fs::File::create(world.path("src/m")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &content, 0).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let server = world.recv("disk", &[]);
    let send = world.run("client", ["send", "src/", &server.ticket]);
    let recv = server.wait();

    for ended in [&send, &recv] {
        ended.fails(exit::SOME_FAILED, &["1 of 3 failed", "m: ", "no space left"]);
    }
    assert_eq!(world.names("disk"), ["a", "big", "z"]);
    assert_eq!([world.read("disk/a"), world.read("disk/z")], [b"before", b"behind"]);
}

#[test]
fn a_file_that_cannot_fit_is_refused_before_its_first_byte() {
    let world = World::new();
    let Some(_disk) = Tmpfs::mount(&world, "disk", "2m") else { return };
    world.write("big", noise(3 << 20));
    let server = world.recv("disk", &[]);
    let source = world.listen("other", &["serve", "."], &["--read-only"]);

    let send = world.run("client", ["send", "big", &server.ticket]);
    let get = world.run("client", ["get", &source.at("big"), "-o", "disk/"]);

    for ended in [&send, &server.wait(), &get] {
        ended.fails(exit::NO_SPACE, &["big: ", "needs 3145728 bytes", "are free"]);
    }
    assert!(world.names("disk").is_empty());
}

#[test]
fn a_source_behind_a_link_and_a_link_itself_are_sent_as_they_are() {
    let world = World::new();
    world.write("real/f", "1");
    symlink("real", world.path("link")).unwrap();
    let server = world.serve("root", &[]);

    world.run("client", ["send", "link", &server.ticket]).is_done();
    world.run("client", ["send", "link/", &server.ticket]).is_done();

    assert_eq!(fs::read_link(world.path("root/link")).unwrap(), Path::new("real"));
    assert_eq!(world.read("root/f"), b"1");
}

/// Whether this command can be run and ends with 0; it says nothing.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Somebody who is not root, with a state directory of his own.
struct User<'a> {
    world: &'a World,
    haul: PathBuf,
    /// What to put before the command.
    become_user: Vec<String>,
}

impl<'a> User<'a> {
    /// The user 65534, or whoever runs this if that is not root.
    fn new(world: &'a World) -> Option<Self> {
        let built = Path::new(env!("CARGO_BIN_EXE_haul"));
        if !is_root() {
            return Some(Self { world, haul: built.to_owned(), become_user: vec!["env".into()] });
        }
        let setpriv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        if !succeeds(Command::new(setpriv[0]).args(&setpriv[1..]).arg("true")) {
            skip("setpriv is missing, so nothing can be run as another user than root");
            return None;
        }
        // Where it was built, others may not look.
        let haul = world.path("haul-for-others");
        fs::copy(built, &haul).unwrap();
        chown(world.home("user"), Some(65534), Some(65534)).unwrap();
        Some(Self { world, haul, become_user: setpriv.map(String::from).to_vec() })
    }

    fn start<A: Into<std::ffi::OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Process {
        // Root could do what is to be refused here.
        let not_as_root = r#"test "$(id -u)" != 0 || exit 99; exec "$@""#;
        let (program, options) = self.become_user.split_first().unwrap();
        let words = options.iter().map(String::as_str).chain(["sh", "-c", not_as_root, "sh"]);
        let words = words.map(Into::into).chain([self.haul.clone().into()]);
        let words = words.chain(arguments.into_iter().map(Into::into));
        Process::start(&mut self.world.command_of(Path::new(program), "user", words))
    }

    fn run<A: Into<std::ffi::OsString>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        let ended = self.start(arguments).wait();
        assert_ne!(ended.code, 99, "this must not run as root");
        ended
    }
}

/// A small disk, unmounted when it is dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(world: &World, name: &str, size: &str) -> Option<Self> {
        let point = world.dir(name);
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        if !is_root() || !succeeds(mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&point)) {
            skip("no small disk can be mounted here");
            return None;
        }
        Some(Self(point))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        succeeds(Command::new("umount").arg("-l").arg(&self.0));
    }
}
