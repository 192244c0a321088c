//! What is announced: names, numbers, bounds, and where things land.

use std::os::unix::fs::MetadataExt;

use super::{MTIME, World, entry, file_entry};
use crate::file::disk::write;
use crate::file::path::RelPath;
use crate::file::target::{Accept, Asked, Job, Place, ProtocolViolation, Target, TargetError};
use crate::limits;
use crate::wire::message::{Code, Entry, Kind, Mtime, Outcome};

#[test]
fn names_that_could_leave_the_target_end_the_session() {
    // protocol.md [NAME-1], [NAME-2]
    for name in ["..", "../x", "/etc/passwd", "a/../../x", "", "a//b", "a\0b"] {
        let mut world = World::new();

        let result = world.announce(vec![file_entry(name, 1)]);

        assert!(matches!(result, Err(ProtocolViolation::BadName { .. })), "{name}");
    }
}

#[test]
fn reserved_and_too_long_names_fail_alone() {
    // protocol.md [NAME-2]
    let mut world = World::new();
    let long = "x".repeat(256);

    world.announce(vec![file_entry(".haul-abc", 1), file_entry(&long, 1), file_entry("f", 0)]).unwrap();
    world.end(2, b"");

    let told = world.finish();
    assert!(matches!(told[0].1, Outcome::Failed { code: Code::Conflict, .. }));
    assert!(matches!(told[1].1, Outcome::Failed { code: Code::Conflict, .. }));
    assert_eq!(told[2].1, Outcome::Done);
}

#[test]
fn numbers_have_to_continue() {
    let mut world = World::new();
    let entries = vec![file_entry("f", 1)];

    let result = world.target.handle(Job::Entries { first: 1, entries });

    assert_eq!(result, Err(ProtocolViolation::Numbering { first: 1, expected: 0 }));
}

#[test]
fn entries_without_outcome_are_bounded_just_there() {
    let mut world = World::new();
    let batch = |from: usize, count: usize| -> Vec<Entry> {
        (from..from + count).map(|i| file_entry(&format!("f{i}"), 1)).collect()
    };
    world.announce(batch(0, limits::OPEN_ENTRIES_MAX)).unwrap();

    assert_eq!(world.announce(batch(limits::OPEN_ENTRIES_MAX, 1)), Err(ProtocolViolation::TooManyOpen));
}

#[test]
fn nothing_is_announced_after_the_listing() {
    let mut world = World::new();
    world.finish();

    assert_eq!(world.announce(vec![file_entry("f", 1)]), Err(ProtocolViolation::AfterListed));
}

#[test]
fn a_name_that_nobody_asked_for_ends_the_session() {
    // protocol.md [NAME-3]
    let mut world = World::with(|config| config.accept = Accept::Asked(vec![Asked::Exact(b"tree".to_vec())]));

    world.announce(vec![entry("tree", Kind::Dir), file_entry("tree/f", 1)]).unwrap();
    let result = world.announce(vec![file_entry("other", 1)]);

    assert_eq!(result, Err(ProtocolViolation::Unasked { name: b"other".to_vec() }));
}

#[test]
fn names_land_below_the_directory_that_was_named() {
    let temp = tempfile::tempdir().unwrap();
    let mut world = World::over(temp, |config| {
        if let Place::Directory { below, rename_top, .. } = &mut config.place {
            *below = Some(RelPath::parse(b"in/here").unwrap());
            *rename_top = Some(b"new".to_vec());
        }
    });
    assert!(world.path("in/here").is_dir());

    world.announce(vec![entry("tree", Kind::Dir), file_entry("tree/f", 1)]).unwrap();
    world.send(1, b"x", 1);

    assert_eq!(world.finish(), [(0, Outcome::Done), (1, Outcome::Done)]);
    assert_eq!(world.read("in/here/new/f"), b"x");
}

#[test]
fn a_new_name_that_is_no_name_is_refused_before_anything_happens() {
    for top in ["..", "a/b", ""] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_owned();
        let rename_top = Some(top.as_bytes().to_vec());
        let config = super::config(Place::Directory { root, below: None, rename_top });

        assert!(matches!(Target::new(config), Err(TargetError::Top { .. })), "{top}");
    }
}

#[test]
fn a_root_that_is_not_there_is_named_in_the_error() {
    let place = Place::Directory { root: "/nowhere/at all".into(), below: None, rename_top: None };

    let error = Target::new(super::config(place)).err().unwrap();

    assert_eq!(error.to_string(), "/nowhere/at all: cannot open the target directory: it does not exist");
}

#[test]
fn files_that_cannot_fit_fail_before_their_first_byte() {
    let mut world = World::new();
    let free = write::free_bytes(&world.open_root()).unwrap();
    let third = free / 3;

    world.announce((0..4).map(|i| file_entry(&format!("f{i}"), third)).collect()).unwrap();

    let told = world.idle();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(matches!(told[0], (3, Outcome::Failed { code: Code::NoSpace, .. })));
}

#[test]
fn special_bits_are_kept_only_when_asked() {
    // protocol.md [MODE-1]
    for (keep, want) in [(false, 0o755), (true, 0o4755)] {
        let mut world = World::with(|config| config.keep_setid = keep);
        world.announce(vec![Entry { mode: 0o4755, ..file_entry("f", 1) }]).unwrap();
        world.send(0, b"x", 1);

        world.finish();

        assert_eq!(std::fs::metadata(world.path("f")).unwrap().mode() & 0o7777, want);
    }
}

#[test]
fn odd_times_are_kept() {
    let mut world = World::new();
    let mtime = Mtime { secs: -1, nanos: 999_999_999 };
    world.announce(vec![Entry { mtime, ..file_entry("f", 1) }]).unwrap();
    world.send(0, b"x", 1);
    world.finish();

    let metadata = std::fs::metadata(world.path("f")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-1, 999_999_999));
    assert_ne!(MTIME, mtime);
}
