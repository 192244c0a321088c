//! Directories, symbolic links and hard links.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::{MTIME, World, as_ordinary_user, entry, file_entry};
use crate::file::target::{Job, LinkRule, ProtocolViolation};
use crate::wire::message::{Code, Entry, Kind, Outcome, Overwrite};

#[test]
fn a_symbolic_link_is_made_as_it_is_with_its_time() {
    let mut world = World::new();

    world.announce(vec![symlink("l", "/nowhere/../x")]).unwrap();

    assert_eq!(world.finish(), [(0, Outcome::Done)]);
    let metadata = std::fs::symlink_metadata(world.path("l")).unwrap();
    assert_eq!(std::fs::read_link(world.path("l")).unwrap().to_str(), Some("/nowhere/../x"));
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (MTIME.secs, i64::from(MTIME.nanos)));
    assert_eq!(world.names(), ["l"]);
}

#[test]
fn a_server_refuses_links_that_lead_out() {
    // protocol.md [LINK-1]
    let mut world = World::with(|config| config.links = LinkRule::RefuseEscaping);

    world.announce(vec![symlink("a", "/etc"), symlink("b", "../x"), symlink("c", "d/e")]).unwrap();

    let told = world.finish();
    assert!(matches!(told[0].1, Outcome::Failed { code: Code::NotAllowed, .. }));
    assert!(matches!(told[1].1, Outcome::Failed { code: Code::NotAllowed, .. }));
    assert_eq!(told[2].1, Outcome::Done);
}

#[test]
fn an_existing_link_follows_the_policy() {
    for (overwrite, other, same, target) in [
        (Overwrite::Never, Outcome::Kept, Outcome::Unchanged, "old"),
        (Overwrite::Different, Outcome::Done, Outcome::Done, "new"),
    ] {
        let temp = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("old", temp.path().join("l")).unwrap();
        std::os::unix::fs::symlink("same", temp.path().join("s")).unwrap();
        let mut world = World::over(temp, |config| config.overwrite = overwrite);

        world.announce(vec![symlink("l", "new"), symlink("s", "same")]).unwrap();

        assert_eq!(world.finish(), [(0, other), (1, same)]);
        assert_eq!(std::fs::read_link(world.path("l")).unwrap().to_str(), Some(target));
    }
}

#[test]
fn a_link_with_the_same_target_gets_its_time_and_is_unchanged_then() {
    let mut world = World::new();
    std::os::unix::fs::symlink("same", world.path("s")).unwrap();

    world.announce(vec![symlink("s", "same")]).unwrap();
    world.announce(vec![symlink("s", "same")]).unwrap();

    assert_eq!(world.finish(), [(0, Outcome::Done), (1, Outcome::Unchanged)]);
    let metadata = std::fs::symlink_metadata(world.path("s")).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (MTIME.secs, i64::from(MTIME.nanos)));
}

#[test]
fn a_link_does_not_replace_a_file() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("l"), "mine").unwrap();
    let mut world = World::over(temp, |config| config.overwrite = Overwrite::Always);

    world.announce(vec![symlink("l", "new")]).unwrap();

    assert!(matches!(world.finish()[0].1, Outcome::Failed { code: Code::Conflict, .. }));
    assert_eq!(world.read("l"), b"mine");
}

#[test]
fn a_link_in_the_middle_of_a_later_name_is_not_followed() {
    // protocol.md [LINK-2]
    let outside = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let target = outside.path().to_str().unwrap();

    world.announce(vec![symlink("l", target), file_entry("l/evil", 1), entry("l/d", Kind::Dir)]).unwrap();

    let told = world.finish();
    assert_eq!(told[0].1, Outcome::Done);
    assert!(matches!(told[1].1, Outcome::Failed { code: Code::Conflict, .. }));
    assert!(matches!(told[2].1, Outcome::Failed { code: Code::Conflict, .. }));
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_hard_link_waits_for_its_file_and_is_the_same_file() {
    // protocol.md [ENTRY-3]
    let mut world = World::new();
    world.announce(vec![linked("f", 1), hardlink("g", 0)]).unwrap();
    assert!(world.idle().is_empty());

    world.send(0, b"x", 1);
    assert_eq!(world.idle(), [(0, Outcome::Done), (1, Outcome::Done)]);
    world.announce(vec![hardlink("h", 0), hardlink("g", 0)]).unwrap();
    assert_eq!(world.finish(), [(2, Outcome::Done), (3, Outcome::Unchanged)]);

    let inode = |name| std::fs::metadata(world.path(name)).unwrap().ino();
    assert_eq!(inode("f"), inode("g"));
    assert_eq!(inode("f"), inode("h"));
    assert_eq!(world.names(), ["f", "g", "h"]);
}

#[test]
fn a_hard_link_to_a_failed_file_fails_too() {
    // protocol.md [ENTRY-3]
    let mut world = World::new();
    world.announce(vec![linked("f", 1), hardlink("g", 0)]).unwrap();

    let text = "gone".to_owned();
    world.target.handle(Job::Failed { file: 0, code: Code::File, text }).unwrap();

    let told = world.finish();
    assert!(matches!(told[1], (1, Outcome::Failed { .. })));
    assert!(world.names().is_empty());
    assert!(world.target.is_settled());
}

#[test]
fn a_hard_link_to_what_allows_none_ends_the_session() {
    // protocol.md [ENTRY-3]
    let mut world = World::new();
    world.announce(vec![file_entry("f", 1)]).unwrap();

    let result = world.announce(vec![hardlink("g", 0)]);

    assert_eq!(result, Err(ProtocolViolation::NotLinked { link: 1, file: 0 }));
}

#[test]
fn directories_get_their_mode_and_time_after_everything_in_them() {
    // protocol.md [ENTRY-4]
    let mut world = World::new();
    let dir = Entry { mode: 0o555, ..entry("d", Kind::Dir) };
    let inner = Entry { mode: 0o700, ..entry("d/e", Kind::Dir) };
    world.announce(vec![dir, inner, file_entry("d/e/f", 1), file_entry("d/g", 1)]).unwrap();

    world.send(2, b"x", 1);
    assert_eq!(world.idle(), [(1, Outcome::Done), (2, Outcome::Done)]);
    world.send(3, b"y", 1);
    assert_eq!(world.finish(), [(0, Outcome::Done), (3, Outcome::Done)]);

    for (name, mode) in [("d", 0o555), ("d/e", 0o700)] {
        let metadata = std::fs::metadata(world.path(name)).unwrap();
        assert_eq!(metadata.mode() & 0o7777, mode, "{name}");
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (MTIME.secs, i64::from(MTIME.nanos)), "{name}");
    }
    std::fs::set_permissions(world.path("d"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_read_only_directory_can_be_filled_by_an_ordinary_user() {
    const NAME: &str = "file::target::tests::made::a_read_only_directory_can_be_filled_by_an_ordinary_user";
    if as_ordinary_user(NAME).is_some() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    for (name, mode) in [("there", 0o555), ("closed", 0)] {
        std::fs::create_dir(temp.path().join(name)).unwrap();
        std::fs::set_permissions(temp.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    let mut world = World::over(temp, |_| {});
    let read_only = |name| Entry { mode: 0o555, ..entry(name, Kind::Dir) };

    for (number, name) in ["there", "closed", "new"].into_iter().enumerate() {
        let number = number as u64 * 2;
        world.announce(vec![read_only(name), file_entry(&format!("{name}/f"), 1)]).unwrap();
        world.send(number + 1, b"x", 1);
    }

    let told = world.finish();
    assert!(told.iter().all(|(_, outcome)| *outcome == Outcome::Done), "{told:?}");
    for name in ["there", "closed", "new"] {
        assert_eq!(std::fs::metadata(world.path(name)).unwrap().mode() & 0o7777, 0o555);
        assert_eq!(world.read(&format!("{name}/f")), b"x");
        std::fs::set_permissions(world.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_directory_that_may_not_be_written_fails_its_files_and_no_others() {
    const NAME: &str =
        "file::target::tests::made::a_directory_that_may_not_be_written_fails_its_files_and_no_others";
    if as_ordinary_user(NAME).is_some() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("d")).unwrap();
    std::fs::set_permissions(temp.path().join("d"), PermissionsExt::from_mode(0o555)).unwrap();
    let mut world = World::over(temp, |_| {});

    world.announce(vec![file_entry("d/f", 1), file_entry("g", 1)]).unwrap();
    world.send(0, b"x", 1);
    world.send(1, b"y", 1);

    let told = world.finish();
    let Outcome::Failed { code: Code::File, text } = &told[0].1 else {
        panic!("{told:?}");
    };
    assert_eq!(text, "d/f: cannot create it: permission denied; check who may write there");
    assert_eq!(told[1], (1, Outcome::Done));
    std::fs::set_permissions(world.path("d"), PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn an_existing_directory_is_merged() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::create_dir(temp.path().join("d")).unwrap();
    std::fs::write(temp.path().join("d/mine"), "mine").unwrap();
    let mut world = World::over(temp, |_| {});

    world.announce(vec![entry("d", Kind::Dir), file_entry("d/f", 1)]).unwrap();
    world.send(1, b"x", 1);

    assert_eq!(world.finish(), [(0, Outcome::Done), (1, Outcome::Done)]);
    assert_eq!(world.read("d/mine"), b"mine");
}

#[test]
fn a_file_in_the_way_of_a_directory_fails_what_is_below_and_no_more() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("d"), "mine").unwrap();
    let mut world = World::over(temp, |_| {});
    let below = vec![entry("d", Kind::Dir), entry("d/e", Kind::Dir), linked("d/e/f", 1), symlink("d/l", "x")];

    world.announce(below).unwrap();
    world.announce(vec![hardlink("h", 2), file_entry("g", 1)]).unwrap();
    world.send(5, b"x", 1);

    let told = world.finish();
    assert!(
        told[..5].iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed { code: Code::Conflict, .. }))
    );
    assert_eq!(told[5], (5, Outcome::Done));
    assert!(
        matches!(&told[2].1, Outcome::Failed { text, .. } if text.ends_with("its directory could not be received"))
    );
    assert_eq!(world.read("d"), b"mine");
    assert!(world.target.is_settled());
}

#[test]
fn a_directory_that_the_sender_could_not_read_is_told_as_failed() {
    let mut world = World::new();
    world.announce(vec![entry("d", Kind::Dir)]).unwrap();

    let text = "d: permission denied".to_owned();
    let failed = Job::Failed { file: 0, code: Code::File, text: text.clone() };
    world.target.handle(failed).unwrap();

    assert_eq!(world.finish(), [(0, Outcome::Failed { code: Code::File, text })]);
}

#[test]
fn an_interrupted_session_leaves_directories_with_their_mode() {
    let temp = {
        let mut world = World::new();
        let dir = Entry { mode: 0o500, ..entry("d", Kind::Dir) };
        world.announce(vec![dir, file_entry("d/f", 2)]).unwrap();
        let data = Job::Data { file: 1, offset: 0, bytes: vec![1] };
        world.target.handle(data).unwrap();
        world.temp
    };

    assert_eq!(std::fs::metadata(temp.path().join("d")).unwrap().mode() & 0o7777, 0o500);
    assert_eq!(std::fs::read_dir(temp.path().join("d")).unwrap().count(), 0);
    std::fs::set_permissions(temp.path().join("d"), PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn two_sources_may_bring_the_same_directory() {
    let mut world = World::new();
    let mode = |mode| Entry { mode, ..entry("d", Kind::Dir) };

    world.announce(vec![mode(0o500), file_entry("d/f", 1), mode(0o750), file_entry("d/g", 1)]).unwrap();
    world.send(1, b"x", 1);
    world.idle();
    world.send(3, b"y", 1);

    world.finish();
    assert!(world.target.is_settled());
    assert_eq!(world.target.summary().done, 4);
    assert_eq!(std::fs::metadata(world.path("d")).unwrap().mode() & 0o7777, 0o750);
}

#[test]
fn a_directory_with_its_mode_and_time_is_unchanged() {
    let mut world = World::new();
    let all = || vec![entry("d", Kind::Dir), entry("d/e", Kind::Dir), file_entry("d/e/f", 1)];
    world.announce(all()).unwrap();
    world.send(2, b"x", 1);
    world.target.handle(Job::Idle).unwrap();

    world.announce(vec![entry("z", Kind::Dir)]).unwrap();
    world.announce(all()).unwrap();

    let told = world.finish();
    assert!(told.contains(&(0, Outcome::Done)) && told.contains(&(1, Outcome::Done)), "{told:?}");
    assert!(told.contains(&(4, Outcome::Unchanged)) && told.contains(&(5, Outcome::Unchanged)), "{told:?}");
}

#[test]
fn a_directory_that_got_something_gets_its_time_again() {
    let mut world = World::new();
    world.announce(vec![entry("d", Kind::Dir), entry("z", Kind::Dir)]).unwrap();

    world.announce(vec![entry("d", Kind::Dir), file_entry("d/f", 1)]).unwrap();
    world.send(3, b"x", 1);

    assert!(world.finish().contains(&(2, Outcome::Done)));
    assert_eq!(std::fs::metadata(world.path("d")).unwrap().mtime(), MTIME.secs);
}

fn symlink(name: &str, target: &str) -> Entry {
    entry(name, Kind::Symlink { target: target.as_bytes().to_vec() })
}

fn linked(name: &str, size: u64) -> Entry {
    entry(name, Kind::File { size, sparse: false, linked: true })
}

fn hardlink(name: &str, file: u64) -> Entry {
    entry(name, Kind::Hardlink { file })
}
