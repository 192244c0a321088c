//! `haul hash` and `haul verify`, as programs and pipelines see them.

mod common;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

use common::{Ended, Place, haul, run};
use serde_json::{Value, json};

const ODD_NAMES: [&[u8]; 10] = [
    b"plain",
    b"two  spaces ",
    b"-c",
    b"*star",
    b"new\nline",
    b"back\\slash",
    b"cr\r",
    b"\xff\xfe",
    b"sub dir/.hidden",
    b"#comment",
];

#[test]
fn sha256sum_accepts_what_hash_writes() {
    let place = odd_place();

    let hash = place.haul(["hash", "."]);

    assert_eq!(hash.code, 0, "{hash:?}");
    assert_eq!(hash.stdout.iter().filter(|b| **b == b'\n').count(), ODD_NAMES.len());
    let Some(check) = with_sha256sum(&place, &["-c", "--strict", "-"], &hash.stdout) else { return };
    assert_eq!(check.code, 0, "{check:?}");
}

#[test]
fn hash_writes_what_find_sort_and_sha256sum_write() {
    let place = odd_place();
    place.write("a/x", "1");
    place.write("a-b/x", "2");
    place.write("a.txt", "3");
    let pipeline = "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum --";
    if with_sha256sum(&place, &["--version"], b"").is_none() {
        return;
    }

    let theirs = run(place.command("sh").args(["-c", pipeline]), b"");
    let ours = place.haul(["hash", "."]);

    assert_eq!(String::from_utf8_lossy(&ours.stdout), String::from_utf8_lossy(&theirs.stdout));
}

#[test]
fn verify_accepts_what_sha256sum_writes_in_both_styles() {
    let place = odd_place();
    let names: Vec<&str> = ["--", "-c", "*star", "plain", "new\nline", "back\\slash", "cr\r"].to_vec();

    for style in [&[][..], &["--tag"], &["--binary"]] {
        let Some(theirs) = with_sha256sum(&place, &[style, &names].concat(), b"") else { return };
        let verify = run(place.command(haul()).args(["verify", "-"]), &theirs.stdout);

        assert_eq!(verify.code, 0, "{style:?} {verify:?}");
        assert!(verify.stderr.starts_with("haul: 6 of 6 files match"), "{verify:?}");
    }
}

#[test]
fn a_manifest_in_its_own_tree_leaves_itself_out() {
    let place = odd_place();

    for _ in 0..2 {
        let hash = place.haul(["hash", ".", "-o", "SHA256SUMS"]);
        assert_eq!((hash.code, hash.stdout.len()), (0, 0), "{hash:?}");
        let verify = place.haul(["verify", "SHA256SUMS", "."]);
        assert_eq!(verify.code, 0, "{verify:?}");
    }

    let redirected = File::create(place.path("SHA256SUMS")).unwrap();
    let status = place.command(haul()).args(["hash", "."]).stdout(redirected).status().unwrap();
    assert!(status.success());
    let verify = place
        .command(haul())
        .args(["verify", "-", "."])
        .stdin(File::open(place.path("SHA256SUMS")).unwrap())
        .status();
    assert!(verify.unwrap().success());
    assert_eq!(lines(&fs::read(place.path("SHA256SUMS")).unwrap()), ODD_NAMES.len());
}

#[test]
fn blake3_manifests_are_made_and_checked() {
    let place = Place::new();
    place.write("empty", "");

    let hash = place.haul(["hash", "--digest", "blake3", "empty"]);
    fs::write(place.path("B3"), &hash.stdout).unwrap();
    let wrong = place.haul(["verify", "B3"]);
    let by_environment = run(place.command(haul()).args(["verify", "B3"]).env("HAUL_DIGEST", "blake3"), b"");

    assert_eq!(hash.stdout, b"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262  empty\n");
    assert_eq!(wrong.code, 5, "{wrong:?}");
    assert_eq!(by_environment.code, 0, "{by_environment:?}");
}

#[test]
fn every_difference_is_found_and_named() {
    let place = Place::new();
    for name in ["same", "changed", "missing", "sub/gone"] {
        place.write(name, name);
    }
    assert_eq!(place.haul(["hash", ".", "-o", "SUMS"]).code, 0);
    place.write("changed", "CHANGED");
    fs::remove_file(place.path("missing")).unwrap();
    fs::remove_dir_all(place.path("sub")).unwrap();
    place.write(b"extra\xff", "");
    place.write(".haul-0123", "unfinished");

    let verify = place.haul(["verify", "--json", "SUMS", "."]);
    let people = place.haul(["verify", "SUMS"]);
    let with_extra = place.haul(["verify", "SUMS", "--extra", "-q"]);

    assert_eq!((verify.code, people.code, with_extra.code), (5, 5, 5));
    let found = object(&verify);
    assert_eq!(
        found["counts"],
        json!({"named": 4, "matched": 1, "changed": 1, "missing": 2, "extra": 1, "unreadable": 0})
    );
    assert_eq!(found["changed"][0]["name"], "./changed");
    assert_ne!(found["changed"][0]["expected"], found["changed"][0]["actual"]);
    assert_eq!(found["missing"], json!([{"name": "./missing"}, {"name": "./sub/gone"}]));
    assert_eq!(found["extra"], json!([{"name": "extra\\xff", "name_hex": "6578747261ff"}]));
    assert_eq!(found["exit_code"], 5);
    assert_eq!(
        people.stderr.lines().take(3).collect::<Vec<_>>(),
        ["haul: ./changed: changed", "haul: ./missing: missing", "haul: ./sub/gone: missing"]
    );
    assert!(people.stderr.contains("haul: 1 of 4 files matches, 1 changed, 2 missing ("), "{people:?}");
    assert!(people.stdout.is_empty());
    assert_eq!(with_extra.stderr.lines().last(), Some("haul: extra\\xff: not in the manifest"));
}

#[test]
fn extra_files_count_only_where_they_were_asked_for() {
    let place = Place::new();
    place.write("tree/a", "a");
    assert_eq!(
        run(place.command(haul()).current_dir(place.path("tree")).args(["hash", "a", "-o", "../m"]), b"")
            .code,
        0
    );
    place.write("tree/b", "b");

    let codes = [
        run(place.command(haul()).current_dir(place.path("tree")).args(["verify", "../m"]), b"").code,
        run(place.command(haul()).current_dir(place.path("tree")).args(["verify", "../m", "--extra"]), b"")
            .code,
        place.haul(["verify", "m", "tree"]).code,
    ];

    assert_eq!(codes, [0, 5, 5]);
}

#[test]
fn a_manifest_that_is_not_understood_is_a_usage_error_with_its_line() {
    let place = Place::new();
    place.write("a", "a");
    let good = place.haul(["hash", "a"]).stdout;
    let cases = [
        (vec![], "standard input: names no file"),
        ([&good[..], b"nonsense\n"].concat(), "standard input: line 2: not a digest and a name"),
        (
            [b"d41d8cd98f00b204e9800998ecf8427e  a\n", &good[..]].concat(),
            "standard input: line 1: a digest of 32 hex digits, not of 64",
        ),
    ];

    for (text, message) in cases {
        let verify = run(place.command(haul()).args(["--json", "verify", "-"]), &text);

        assert_eq!(verify.code, 2, "{verify:?}");
        assert_eq!(verify.stderr, format!("haul: {message}\n"));
        assert_eq!(object(&verify), json!({"version": 1, "error": message, "exit_code": 2}));
    }
    assert_eq!(place.haul(["verify", "no-such-manifest"]).code, 9);
    assert_eq!(place.haul(["verify"]).code, 2);
}

#[test]
fn hash_counts_what_it_leaves_out() {
    let place = Place::new();
    place.write("t/file", "12345");
    place.write("t/.haul-abc", "unfinished");
    symlink("file", place.path("t/link")).unwrap();
    symlink("/", place.path("t/root")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path("t/socket")).unwrap();

    let hash = place.haul(["hash", "t", "--json"]);
    let named = place.haul(["hash", "t/link"]);

    let found = object(&hash);
    assert_eq!(hash.code, 0);
    assert_eq!(hash.stderr, "haul: left out: 2 symbolic links, 1 special file, 1 unfinished file\n");
    assert_eq!(found["skipped"], json!({"symlinks": 2, "special": 1, "unfinished": 1, "outputs": 0}));
    assert_eq!((&found["bytes"], &found["failed"], &found["exit_code"]), (&json!(5), &json!(0), &json!(0)));
    assert_eq!(found["algorithm"], "sha256");
    assert_eq!(
        found["files"],
        json!([{
            "name": "t/file",
            "digest": "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5",
            "bytes": 5
        }])
    );
    assert_eq!(lines(&named.stdout), 1, "a link that a person names is read");
}

#[test]
fn files_that_fail_do_not_keep_others_from_being_hashed() {
    let place = Place::new();
    place.write("good", "good");

    let hash = place.haul(["hash", "missing", "good", "--json", "-o", "m"]);

    let found = object(&hash);
    assert_eq!(hash.code, 9, "{hash:?}");
    assert_eq!(found["failures"][0]["name"], "missing");
    assert_eq!(found["failures"][0]["exit_code"], 9);
    assert_eq!(found["failed"], 1);
    assert_eq!(found["files"].as_array().unwrap().len(), 1);
    assert_eq!(lines(&fs::read(place.path("m")).unwrap()), 1);
}

#[test]
fn what_may_not_be_read_is_reported_by_name() {
    let place = Place::new();
    place.write("open", "open");
    place.write("closed", "closed");
    assert_eq!(place.haul(["hash", ".", "-o", "m"]).code, 0);
    fs::set_permissions(place.path("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let Some(mut hash) = as_nobody(&place) else { return };
    let mut verify = as_nobody(&place).unwrap();

    let hash = run(hash.args(["hash", "."]), b"");
    let verify = run(verify.args(["verify", "m", ".", "--json"]), b"");

    assert_eq!(hash.code, 9, "{hash:?}");
    assert!(hash.stderr.starts_with("haul: ./closed: Permission denied"), "{hash:?}");
    assert_eq!(lines(&hash.stdout), 2, "the readable file and the manifest");
    assert_eq!(verify.code, 9, "{verify:?}");
    assert_eq!(object(&verify)["unreadable"][0]["name"], "./closed");
    assert_eq!(object(&verify)["counts"]["matched"], 1);
}

#[test]
fn standard_input_is_hashed_under_the_name_of_a_dash() {
    let place = Place::new();

    let hash = run(place.command(haul()).args(["hash", "-"]), b"abc");

    assert_eq!(hash.stdout, b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  -\n");
}

#[test]
fn a_reader_that_leaves_early_is_not_an_error() {
    let place = Place::new();
    for number in 0..3000 {
        place.write(format!("{number}"), "");
    }
    let mut child = place
        .command(haul())
        .args(["hash", "."])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();

    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn a_full_disk_behind_standard_output_is_said() {
    let place = Place::new();
    place.write("a", "a");
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return skip("there is no /dev/full");
    };

    let mut command = place.command(haul());
    let ended =
        command.args(["hash", "a"]).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output();

    let ended = ended.unwrap();
    assert_eq!(ended.status.code(), Some(8));
    assert!(String::from_utf8_lossy(&ended.stderr).starts_with("haul: cannot write to standard output: "));
}

#[test]
fn usage_errors_help_and_the_manual_have_their_codes_and_places() {
    let place = Place::new();

    let [usage, help, man, completions, no_page] =
        [&["hash"][..], &["--help"], &["man", "hash"], &["completions", "bash"], &["man", "nothing"]]
            .map(|arguments| place.haul(arguments));

    assert_eq!((usage.code, usage.stdout.len()), (2, 0));
    assert_eq!((help.code, help.stderr.len()), (0, 0));
    assert!(String::from_utf8(man.stdout).unwrap().contains("haul\\-hash"));
    assert!(String::from_utf8(completions.stdout).unwrap().contains("_haul"));
    assert_eq!((no_page.code, no_page.stderr.as_str()), (2, "haul: there is no command `nothing`\n"));
}

fn odd_place() -> Place {
    let place = Place::new();
    for name in ODD_NAMES {
        place.write(name, name);
    }
    place
}

fn object(ended: &Ended) -> Value {
    serde_json::from_slice(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|b| **b == b'\n').count()
}

/// Runs sha256sum in the place, where it is installed.
fn with_sha256sum(place: &Place, arguments: &[&str], input: &[u8]) -> Option<Ended> {
    if Command::new("sha256sum").arg("--version").stdout(Stdio::null()).status().is_err() {
        skip("sha256sum is not installed");
        return None;
    }
    Some(run(
        place.command("sha256sum").args(arguments.iter().map(|a| OsStr::from_bytes(a.as_bytes()))),
        input,
    ))
}

/// haul as a user who owns nothing: by setpriv when the tests run as root, by itself otherwise.
fn as_nobody(place: &Place) -> Option<Command> {
    if !rustix::process::geteuid().is_root() {
        return Some(place.command(haul()));
    }
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let can_run =
        Command::new("setpriv").args(nobody).arg(haul()).arg("--version").stdout(Stdio::null()).status();
    if !can_run.is_ok_and(|status| status.success()) {
        skip("setpriv is not installed, or the binary lies where nobody may look");
        return None;
    }
    let mut command = place.command("setpriv");
    command.args(nobody).arg(haul());
    Some(command)
}

#[expect(clippy::print_stderr, reason = "the reason of a skipped test is for the person who runs it")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}
