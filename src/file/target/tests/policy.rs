//! What is there already: overwriting, racing, expecting, and dry runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{World, digest, entry, file_entry, wants};
use crate::file::target::{BusyNames, Expect, Job, Place, Target};
use crate::wire::message::{Code, Kind, Outcome, Overwrite, Want};

#[test]
fn what_is_there_unchanged_is_not_sent() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 1)]).unwrap();
    world.send(0, b"x", 1);
    world.idle();

    world.announce(vec![file_entry("f", 1), file_entry("f", 2)]).unwrap();

    assert_eq!(world.idle(), [(1, Outcome::Unchanged)]);
    world.send(2, b"yy", 2);
    assert_eq!(world.finish(), [(2, Outcome::Done)]);
    assert_eq!(world.read("f"), b"yy");
}

#[test]
fn a_kept_file_stays_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("f"), "mine").unwrap();
    let mut world = World::over(temp, |config| config.overwrite = Overwrite::Never);

    world.announce(vec![file_entry("f", 1)]).unwrap();

    assert_eq!(world.finish(), [(0, Outcome::Kept)]);
    assert_eq!(world.read("f"), b"mine");
}

#[test]
fn what_appears_while_a_file_is_received_is_kept() {
    for (overwrite, wins) in [(Overwrite::Different, false), (Overwrite::Always, true)] {
        let mut world = World::with(|config| config.overwrite = overwrite);
        world.announce(vec![file_entry("f", 3)]).unwrap();

        std::fs::write(world.path("f"), "theirs").unwrap();
        world.send(0, b"our", 3);

        let told = world.finish();
        assert_eq!(told[0].1 == Outcome::Done, wins);
        assert_eq!(world.read("f"), if wins { &b"our"[..] } else { b"theirs" });
        assert_eq!(world.names(), ["f"]);
    }
}

#[test]
fn a_file_that_changes_while_it_is_replaced_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("f"), "old").unwrap();
    let mut world = World::over(temp, |_| {});
    world.announce(vec![file_entry("f", 5)]).unwrap();

    std::fs::write(world.path("f"), "edited").unwrap();
    world.send(0, b"hello", 5);

    let told = world.finish();
    let Outcome::Failed { code: Code::Conflict, text } = &told[0].1 else {
        panic!("{told:?}");
    };
    assert_eq!(text, "f: changed while it was being replaced; kept as it is");
    assert_eq!(world.read("f"), b"edited");
}

#[test]
fn what_is_no_file_is_never_replaced_by_one() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("d")).unwrap();
    std::os::unix::fs::symlink("nowhere", temp.path().join("l")).unwrap();
    let mut world = World::over(temp, |config| config.overwrite = Overwrite::Always);

    world.announce(vec![file_entry("d", 1), file_entry("l", 1), file_entry("l/x", 1)]).unwrap();

    let told = world.idle();
    let reasons: Vec<&str> = told.iter().filter_map(|(_, outcome)| text(outcome)).collect();
    assert_eq!(reasons[..2], ["d: is a directory", "l: a symbolic link is in the way"]);
    assert!(matches!(told[2].1, Outcome::Failed { code: Code::Conflict, .. }));
}

#[test]
fn a_name_that_another_session_writes_is_busy_until_that_has_its_outcome() {
    let busy = Arc::new(BusyNames::new());
    let mut first = World::with(|config| config.busy = Arc::clone(&busy));
    first.announce(vec![file_entry("f", 1)]).unwrap();
    let root = first.temp.path().to_owned();
    let mut config = super::config(Place::Directory { root, below: None, rename_top: None });
    config.busy = busy;
    let mut second = Target::new(config).unwrap();

    second.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 2)] }).unwrap();
    let told = super::outcomes(&mut second);
    assert!(matches!(told[0].1, Outcome::Failed { code: Code::Busy, .. }));

    first.send(0, b"x", 1);
    first.idle();
    second.handle(Job::Entries { first: 1, entries: vec![file_entry("f", 2)] }).unwrap();
    assert_eq!(wants(&mut second), [(1, Want::Content)]);
}

#[test]
fn two_entries_of_one_name_do_not_write_into_each_other() {
    let mut world = World::new();

    world.announce(vec![file_entry("f", 1), file_entry("f", 1)]).unwrap();
    world.send(0, b"x", 1);

    let told = world.finish();
    assert_eq!(told[0], (0, Outcome::Done));
    assert!(matches!(told[1].1, Outcome::Failed { code: Code::Busy, .. }));
}

#[test]
fn an_eager_sender_is_told_only_what_it_need_not_send() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("kept"), "mine").unwrap();
    let mut world = World::over(temp, |config| {
        config.eager = true;
        config.overwrite = Overwrite::Never;
    });

    world.announce(vec![file_entry("kept", 1), file_entry("new", 1)]).unwrap();
    world.send(0, b"x", 1);
    world.send(1, b"y", 1);

    assert_eq!(world.finish(), [(0, Outcome::Kept), (1, Outcome::Done)]);
    assert_eq!(world.read("kept"), b"mine");
    assert_eq!(world.read("new"), b"y");
}

#[test]
fn a_dry_run_says_what_would_happen_and_changes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("kept"), "mine").unwrap();
    let mut world = World::over(temp, |config| {
        config.dry_run = true;
        config.overwrite = Overwrite::Never;
        if let Place::Directory { below, .. } = &mut config.place {
            *below = None;
        }
    });
    let link = entry("d/l", Kind::Symlink { target: b"f".to_vec() });
    let entries = vec![entry("d", Kind::Dir), file_entry("d/f", 1), link, file_entry("kept", 1)];

    world.announce(entries).unwrap();

    let planned = |n| (n, Outcome::Planned);
    assert_eq!(world.finish(), [planned(0), planned(1), planned(2), (3, Outcome::Kept)]);
    assert!(world.target.is_settled());
    assert_eq!(world.names(), ["kept"]);
}

#[test]
fn a_file_with_another_than_the_expected_digest_never_gets_its_name() {
    let mut world = World::with(|config| config.expect = Expect::One(digest(b"right")));
    world.announce(vec![file_entry("f", 5), file_entry("g", 5)]).unwrap();

    world.send(0, b"wrong", 5);
    world.send(1, b"right", 5);

    let told = world.finish();
    assert!(matches!(told[0].1, Outcome::Failed { code: Code::Integrity, .. }));
    assert_eq!(told[1], (1, Outcome::Done));
    assert_eq!(world.names(), ["g"]);
}

#[test]
fn a_manifest_names_all_that_may_come_and_what_is_missing() {
    let sums = BTreeMap::from([
        (b"a".to_vec(), digest(b"a")),
        (b"b".to_vec(), digest(b"other")),
        (b"absent".to_vec(), digest(b"")),
    ]);
    let mut world = World::with(|config| config.expect = Expect::Manifest(sums));

    world.announce(vec![file_entry("a", 1), file_entry("b", 1), file_entry("c", 1)]).unwrap();
    world.send(0, b"a", 1);
    world.send(1, b"b", 1);

    let told = world.finish();
    assert_eq!(told[0].1, Outcome::Done);
    assert_eq!(text(&told[1].1), Some("b: the sender's file does not have the expected digest"));
    assert_eq!(text(&told[2].1), Some("c: the manifest does not name this file"));
    assert_eq!(world.target.summary().missing_names, [b"absent".to_vec()]);
    assert_eq!(world.names(), ["a"]);
}

#[test]
fn what_is_there_is_compared_when_a_digest_is_expected() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 5)]).unwrap();
    world.send(0, b"there", 5);
    world.finish();
    for (overwrite, expected, outcome) in [
        (Overwrite::Different, b"there", Some(Outcome::Identical)),
        (Overwrite::Different, b"hello", None),
        (Overwrite::Never, b"there", Some(Outcome::Identical)),
    ] {
        let root = world.temp.path().to_owned();
        let place = Place::Directory { root, below: None, rename_top: None };
        let mut config = super::config(place);
        config.expect = Expect::One(digest(expected));
        config.overwrite = overwrite;
        let mut target = Target::new(config).unwrap();

        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 5)] }).unwrap();
        target.handle(Job::Idle).unwrap();

        let told = super::outcomes(&mut target);
        assert_eq!(told.first().map(|(_, outcome)| outcome.clone()), outcome);
    }
}

fn text(outcome: &Outcome) -> Option<&str> {
    match outcome {
        Outcome::Failed { text, .. } => Some(text),
        _ => None,
    }
}
