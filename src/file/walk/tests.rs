use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::Mode;
use tempfile::TempDir;

use super::*;
use crate::file::path::escape;
use crate::wire::message::Kind;

// --- What a local person names ---

#[test]
fn a_directory_gives_its_name_and_a_slash_gives_its_contents() {
    // protocol.md [ENTRY-4]
    let tree = tree(&["tree/a", "tree/b/c", "tree/empty/"]);
    let at = |name: &str| vec![tree.path().join(name)];

    assert_eq!(names(local(&at("tree"))), ["tree", "tree/a", "tree/b", "tree/b/c", "tree/empty"]);
    assert_eq!(names(local(&at("tree/"))), ["a", "b", "b/c", "empty"]);
    assert_eq!(names(local(&at("tree/."))), ["a", "b", "b/c", "empty"]);
    assert_eq!(names(local(&at("tree/b/.."))), ["a", "b", "b/c", "empty"]);
    assert_eq!(names(local(&at("tree/b/c"))), ["c"]);
}

#[test]
fn nothing_is_hidden_from_a_copy_but_our_own_unfinished_files() {
    let tree = tree(&["t/.git/HEAD", "t/.gitignore", "t/ignored", "t/.hidden", "t/.haul-x1", "t/.haul-d/f"]);
    fs::write(tree.path().join("t/.gitignore"), "ignored\n").unwrap();

    let found = names(local(&[tree.path().join("t/")]));

    assert_eq!(found, [".git", ".git/HEAD", ".gitignore", ".hidden", "ignored"]);
}

#[test]
fn names_are_bytes() {
    let tree = tree(&[]);
    let long = vec![b'l'; limits::NAME_MAX_BYTES];
    for name in [&b"\xff\xfe"[..], b"new\nline", b"-rf", b" ", b"*", &long] {
        fs::write(tree.path().join(OsStr::from_bytes(name)), b"").unwrap();
    }

    let found: Vec<Vec<u8>> = founds(local(&[tree.path().join("")])).map(|f| f.entry.name).collect();

    assert_eq!(found, [&b" "[..], b"*", b"-rf", &long, b"new\nline", b"\xff\xfe"]);
}

#[test]
fn a_tree_is_walked_just_to_the_depth_that_a_path_may_have() {
    let tree = tree(&[]);
    let mut dir = read::open_root(tree.path()).unwrap();
    for _ in 0..limits::PATH_MAX_DEPTH + 3 {
        rustix::fs::mkdirat(&dir, "d", Mode::from_raw_mode(0o755)).unwrap();
        dir = read::open_dir(&dir, b"d").unwrap();
    }

    let steps: Vec<Step> = local(&[tree.path().join("")]).collect();

    assert_eq!(steps.len(), limits::PATH_MAX_DEPTH + 1);
    assert!(matches!(steps.last(), Some(Step::Failed { code: Code::File, .. })));
}

#[test]
fn links_are_kept_and_never_followed_but_for_a_slash_behind_a_local_path() {
    let tree = tree(&["real/f"]);
    symlink("real", tree.path().join("link")).unwrap();
    symlink(".", tree.path().join("real/loop")).unwrap();
    symlink("nowhere", tree.path().join("real/dangling")).unwrap();

    let walk = founds(local(&[tree.path().join("link")])).collect::<Vec<_>>();

    assert_eq!(walk.len(), 1);
    assert_eq!(walk[0].entry.kind, Kind::Symlink { target: b"real".to_vec() });
    assert_eq!(names(local(&[tree.path().join("link/")])), ["dangling", "f", "loop"]);
    assert_eq!(names(local(&[tree.path().join("real")])), ["real", "real/dangling", "real/f", "real/loop"]);
}

#[test]
fn a_missing_path_fails_alone() {
    let tree = tree(&["a", "b"]);
    let paths = ["a", "none", "b/", "b"].map(|name| tree.path().join(name));

    let steps: Vec<String> = local(&paths).map(|step| shown(&step, tree.path())).collect();

    assert_eq!(steps, ["a", "failed none NotFound", "failed b/ NotFound", "b"]);
}

#[test]
fn the_second_source_of_a_name_is_a_conflict() {
    let tree = tree(&["x/same/f", "y/same", "y/other"]);
    let paths = ["x/same", "y/same", "y/"].map(|name| tree.path().join(name));

    let steps: Vec<String> = local(&paths).map(|step| shown(&step, tree.path())).collect();

    assert_eq!(steps, ["same", "same/f", "failed same Conflict", "other", "failed same Conflict"]);
}

#[test]
fn a_local_path_cannot_name_our_own_unfinished_file() {
    let tree = tree(&[".haul-x"]);

    let steps: Vec<String> =
        local(&[tree.path().join(".haul-x")]).map(|step| shown(&step, tree.path())).collect();

    assert_eq!(steps, ["failed .haul-x NotAllowed"]);
}

// --- What an entry says ---

#[test]
fn an_entry_holds_mode_time_and_size() {
    let tree = tree(&["f"]);
    let path = tree.path().join("f");
    fs::write(&path, b"12345").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 123_456_789);
    fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();

    let found = founds(local(std::slice::from_ref(&path))).next().unwrap();

    assert_eq!(found.number, 0);
    assert_eq!(found.entry.mode, 0o4751);
    assert_eq!((found.entry.mtime.secs, found.entry.mtime.nanos), (1_000_000_007, 123_456_789));
    assert_eq!(found.entry.kind, Kind::File { size: 5, sparse: false, linked: false });
    assert_eq!(found.origin.path.as_bytes(), b"f");
}

#[test]
fn further_names_of_a_file_are_links_to_its_entry() {
    let tree = tree(&["t/a", "t/c/"]);
    fs::hard_link(tree.path().join("t/a"), tree.path().join("t/b")).unwrap();
    fs::hard_link(tree.path().join("t/a"), tree.path().join("t/c/d")).unwrap();

    let kinds: Vec<Kind> =
        founds(local(&[tree.path().join("t/")])).map(|f| f.entry.kind).filter(|k| *k != Kind::Dir).collect();

    let file = Kind::File { size: 0, sparse: false, linked: true };
    assert_eq!(kinds, [file, Kind::Hardlink { file: 0 }, Kind::Hardlink { file: 0 }]);
}

#[test]
fn a_file_with_holes_says_so() {
    let tree = tree(&["f"]);
    fs::File::options().write(true).open(tree.path().join("f")).unwrap().set_len(1 << 20).unwrap();

    let found = founds(local(&[tree.path().join("f")])).next().unwrap();

    assert_eq!(found.entry.kind, Kind::File { size: 1 << 20, sparse: true, linked: false });
}

#[test]
fn special_files_are_counted_and_left_out() {
    let tree = tree(&["t/a"]);
    read::tests::make_fifo(&tree.path().join("t/fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("t/socket")).unwrap();

    let mut walk = local(&[tree.path().join("t/")]);
    let count = walk.by_ref().count();

    assert_eq!(count, 1);
    assert_eq!(walk.not_kept().special, 2);
    assert_eq!(walk.listed().entries, 1);
}

#[cfg(target_os = "linux")]
#[test]
fn attributes_of_people_are_counted_where_the_file_system_has_them() {
    let tree = tree(&["t/a", "t/b"]);
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(tree.path().join("t/a"), "user.haul", b"x", flags).is_err() {
        return;
    }
    let long = vec![b'n'; 200];
    for suffix in 0..3 {
        let name = [b"user.".as_slice(), &long, &[b'0' + suffix]].concat();
        rustix::fs::setxattr(tree.path().join("t/b"), &name, b"x", flags).unwrap();
    }

    let mut walk = local(&[tree.path().join("t")]);
    assert_eq!(walk.by_ref().count(), 3);

    assert_eq!(walk.not_kept().attributes, 2);
    assert_eq!(walk.not_kept().owner, 0);
}

#[test]
#[expect(clippy::print_stderr, reason = "says that it proves nothing")]
fn an_unreadable_directory_is_announced_fails_and_ends_nothing() {
    let tree = tree(&["t/a/x", "t/b"]);
    let closed = tree.path().join("t/a");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    if read::effective_uid() == 0 {
        eprintln!("skipped: root may read every directory");
        return;
    }

    let steps: Vec<String> = local(&[tree.path().join("t/")]).map(|step| shown(&step, tree.path())).collect();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();

    assert_eq!(steps, ["a", "failed a File", "b"]);
}

#[test]
fn a_directory_that_may_be_entered_and_not_listed_is_no_obstacle() {
    let tree = tree(&["closed/t/a"]);
    let closed = tree.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o111)).unwrap();

    let found = names(local(&[closed.join("t")]));
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();

    assert_eq!(found, ["t", "t/a"]);
}

#[test]
fn a_file_that_vanishes_while_it_is_listed_fails_alone() {
    let tree = tree(&["t/a", "t/b", "t/c"]);
    let mut walk = local(&[tree.path().join("t/")]);

    let first = walk.next().unwrap();
    fs::remove_file(tree.path().join("t/b")).unwrap();
    let rest: Vec<String> = walk.map(|step| shown(&step, tree.path())).collect();

    assert_eq!(shown(&first, tree.path()), "a");
    assert_eq!(rest, ["failed b SourceChanged", "c"]);
}

#[test]
fn entries_are_numbered_and_failures_are_not() {
    let tree = tree(&["a", "b"]);
    let paths = ["a", "none", "b"].map(|name| tree.path().join(name));

    let found: Vec<(u64, u32)> = founds(local(&paths)).map(|f| (f.number, f.entry.source)).collect();

    assert_eq!(found, [(0, 0), (1, 2)]);
}

#[test]
fn a_large_directory_is_never_held_whole() {
    let tree = tree(&["t/"]);
    for number in 0..100_000 {
        fs::File::create(tree.path().join(format!("t/{number}"))).unwrap();
    }
    let mut walk = local(&[tree.path().join("t")]);

    let (mut count, mut most) = (0, 0);
    while let Some(step) = walk.next() {
        assert!(matches!(step, Step::Found(_)));
        count += 1;
        most = most.max(walk.names_held() + walk.ready.len());
    }

    assert_eq!(count, 100_001);
    assert!((limits::NAMES_PER_BATCH / 2..=limits::NAMES_PER_BATCH).contains(&most), "{most}");
}

// --- What is selected ---

#[test]
fn what_is_excluded_is_not_entered_and_what_is_included_is_sought_everywhere() {
    let tree = tree(&["t/src/a.rs", "t/src/a.c", "t/target/b.rs", "t/c.rs"]);
    let selection = Selection::new(&["*.rs".to_owned()], &["target".to_owned()]).unwrap();

    let found = names(Walk::local(&[tree.path().join("t")], selection));

    assert_eq!(found, ["t", "t/c.rs", "t/src", "t/src/a.rs"]);
}

// --- What a peer asks for ---

#[test]
fn a_request_is_named_as_a_local_path_is() {
    let tree = tree(&["a/b/c", "a/b/d/e", "f"]);

    assert_eq!(served(&tree, &["a/b"]), ["b", "b/c", "b/d", "b/d/e"]);
    assert_eq!(served(&tree, &["a/b/"]), ["c", "d", "d/e"]);
    assert_eq!(served(&tree, &["a/b/c"]), ["c"]);
    for all in ["", "/", ".", "./"] {
        assert_eq!(served(&tree, &[all]), ["a", "a/b", "a/b/c", "a/b/d", "a/b/d/e", "f"], "{all}");
    }
    assert_eq!(served(&tree, &["f", "a/b/c", "a/b/d/"]), ["f", "c", "e"]);
}

#[test]
fn the_path_of_an_entry_leads_back_to_it() {
    let tree = tree(&["a/b/c"]);
    let requests = [b"a/b".to_vec()];

    let walk = Walk::served(tree.path(), &requests, Selection::default()).unwrap();
    let paths: Vec<String> = founds(walk).map(|f| f.origin.path.to_string()).collect();

    assert_eq!(paths, ["a/b", "a/b/c"]);
}

#[test]
fn a_request_cannot_leave_the_root() {
    let outer = tree(&["root/f", "secret"]);
    let root = outer.path().join("root");
    symlink("..", root.join("up")).unwrap();
    symlink("../secret", root.join("end")).unwrap();
    let cases = [
        ("..", "failed .. NotAllowed"),
        ("../secret", "failed ../secret NotAllowed"),
        ("a/../../secret", "failed a/../../secret NotAllowed"),
        ("/etc/passwd", "failed /etc/passwd NotAllowed"),
        ("up/secret", "failed up/secret NotAllowed"),
        ("up/", "failed up/ NotAllowed"),
        ("up/*", "failed up/* NotFound"),
        ("*/secret", "failed */secret NotFound"),
        ("u?/", "failed u?/ NotFound"),
        ("end", "end"),
        ("f/x", "failed f/x NotFound"),
    ];

    for (request, expected) in cases {
        let requests = [request.as_bytes().to_vec()];
        let walk = Walk::served(&root, &requests, Selection::default()).unwrap();
        let steps: Vec<String> = walk.map(|step| shown(&step, &root)).collect();
        assert_eq!(steps, [expected]);
    }
    let end = Walk::served(&root, &[b"end".to_vec()], Selection::default()).unwrap();
    assert!(matches!(founds(end).next().unwrap().entry.kind, Kind::Symlink { .. }), "kept, not followed");
}

#[test]
fn a_peer_does_not_see_our_unfinished_files() {
    let tree = tree(&["a", ".haul-x", "d/.haul-y/z"]);

    assert_eq!(served(&tree, &[""]), ["a", "d"]);
    assert_eq!(served(&tree, &[".haul-x"]), ["failed .haul-x NotFound"]);
    assert_eq!(served(&tree, &["d/.haul-y/"]), ["failed d/.haul-y/ NotFound"]);
    assert_eq!(served(&tree, &["?haul-*"]), ["failed ?haul-* NotFound"]);
}

#[test]
fn a_pattern_matches_within_components() {
    let tree = tree(&["x/a1.txt", "x/a2.txt", "x/b.txt", "x/sub/a3.txt", "y/a1.txt", "y/deep/f", "top.txt"]);

    assert_eq!(served(&tree, &["x/a?.txt"]), ["a1.txt", "a2.txt"]);
    assert_eq!(served(&tree, &["*.txt"]), ["top.txt"]);
    assert_eq!(served(&tree, &["x/[ab]*.txt"]), ["a1.txt", "a2.txt", "b.txt"]);
    assert_eq!(served(&tree, &["*/sub"]), ["sub", "sub/a3.txt"]);
    assert_eq!(served(&tree, &["?/a1.txt"]), ["a1.txt", "failed a1.txt Conflict"]);
    assert_eq!(served(&tree, &["y/d*/"]), ["f"]);
    assert_eq!(served(&tree, &["**.txt"]), ["top.txt"]);
    assert_eq!(served(&tree, &["**/f"]), ["failed **/f NotFound"]);
    assert_eq!(served(&tree, &["z*"]), ["failed z* NotFound"]);
    assert_eq!(served(&tree, &["[z"]), ["failed [z NotFound"]);
}

#[test]
fn a_name_with_wildcards_that_exists_is_taken_as_it_stands() {
    let tree = tree(&["*", "[a]", "a", "b"]);

    assert_eq!(served(&tree, &["*"]), ["*"]);
    assert_eq!(served(&tree, &["[a]"]), ["[a]"]);
    assert_eq!(served(&tree, &["?"]), ["*", "a", "b"]);
}

#[test]
fn too_many_requests_are_refused_just_there() {
    let tree = tree(&["a"]);
    let requests = vec![b"a".to_vec(); limits::SOURCES_MAX + 1];

    assert!(Walk::served(tree.path(), &requests[1..], Selection::default()).is_ok());
    let refused = Walk::served(tree.path(), &requests, Selection::default());
    assert!(matches!(refused, Err(WalkError::TooMany)));
}

// --- What a listing shows ---

#[test]
fn a_listing_shows_what_is_in_a_directory_and_no_more_unless_asked() {
    let tree = tree(&["d/a", "d/s/b", "e"]);
    fs::hard_link(tree.path().join("d/a"), tree.path().join("d/z")).unwrap();
    let list = |requests: &[&str], recursive| {
        let requests: Vec<Vec<u8>> = requests.iter().map(|r| r.as_bytes().to_vec()).collect();
        names(Walk::listing(tree.path(), &requests, recursive).unwrap())
    };

    assert_eq!(list(&[], false), ["d", "e"]);
    assert_eq!(list(&["d"], false), ["a", "s", "z"]);
    assert_eq!(list(&["d/"], true), ["a", "s", "s/b", "z"]);
    assert_eq!(list(&["d/a"], false), ["d/a"]);
    assert_eq!(list(&["*/?"], false), ["d/a", "d/s", "d/z"]);
    let kinds = founds(Walk::listing(tree.path(), &[b"d".to_vec()], false).unwrap());
    assert!(kinds.map(|f| f.entry.kind).all(|kind| !matches!(kind, Kind::Hardlink { .. })));
}

/// A tree of empty files and, where a slash ends the name, directories.
fn tree(names: &[&str]) -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    for name in names {
        let path = tree.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(&path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"").unwrap();
        }
    }
    tree
}

fn local(paths: &[PathBuf]) -> Walk {
    Walk::local(paths, Selection::default())
}

fn served(tree: &TempDir, requests: &[&str]) -> Vec<String> {
    let requests: Vec<Vec<u8>> = requests.iter().map(|r| r.as_bytes().to_vec()).collect();
    let walk = Walk::served(tree.path(), &requests, Selection::default()).unwrap();
    walk.map(|step| shown(&step, tree.path())).collect()
}

/// All entries of a walk in which nothing fails.
fn names(walk: Walk) -> Vec<String> {
    walk.map(|step| match step {
        Step::Found(found) => escape(&found.entry.name),
        failed => panic!("{failed:?}"),
    })
    .collect()
}

fn founds(walk: Walk) -> impl Iterator<Item = Found> {
    walk.filter_map(|step| match step {
        Step::Found(found) => Some(found),
        Step::Failed { .. } => None,
    })
}

/// A step in a few words, local paths without what stands before them.
fn shown(step: &Step, root: &Path) -> String {
    match step {
        Step::Found(found) => escape(&found.entry.name),
        Step::Failed { name, code, .. } => {
            let root = [read::path_bytes(root), b"/"].concat();
            format!("failed {} {code:?}", escape(name.strip_prefix(root.as_slice()).unwrap_or(name)))
        }
    }
}
