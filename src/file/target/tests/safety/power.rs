//! The power goes at each call on the disk, and what is left is compared with what was promised.

use super::{Scene, file_entry};
use crate::file::disk::memory::{Call, Fault, Lie, Memory};
use crate::file::disk::write;
use crate::file::target::TargetConfig;
use crate::wire::message::{Outcome, Overwrite};
use rustix::io::Errno;

#[test]
fn whenever_the_power_goes_a_name_holds_what_was_there_or_what_is_proven() {
    // protocol.md [OUTCOME-3]
    assert_eq!(first_violation(&Scene::of_everything()), None);
}

#[test]
fn so_it_is_with_each_kind_of_entry_alone() {
    for scene in Scene::each_alone() {
        assert_eq!(first_violation(&scene), None);
    }
}

#[test]
fn so_it_is_with_many_files_or_directories_that_are_synced_together() {
    assert_eq!(first_violation(&Scene::of_many_files()), None);
    assert_eq!(first_violation(&Scene::of_many_directories()), None);
}

#[test]
fn so_it_is_where_a_rename_cannot_be_kept_from_replacing() {
    let prepare = |memory: &Memory| memory.fail_all(Call::RenameNew, Fault::Error(Errno::INVAL));

    assert_eq!(first_violation(&Scene { prepare, ..Scene::of_everything() }), None);
}

#[test]
fn so_it_is_where_files_are_read_back() {
    assert_eq!(
        first_violation(&Scene { change: |config| config.verify_disk = true, ..Scene::of_everything() }),
        None
    );
}

#[test]
fn what_a_power_loss_left_is_made_whole_by_the_next_session() {
    let scene = Scene::of_everything();
    for call in 0..scene.count_calls() {
        let memory = scene.disk();
        memory.fail_at(call, Fault::PowerLoss);
        let _ = scene.run(&memory);

        let left = memory.crash(call as u64);
        let told = scene.run(&left).unwrap();

        assert!(told.iter().all(|(_, outcome)| is_good(outcome)), "call {call}: {told:?}");
        assert_eq!(scene.violation(&left.crash(0), &told), None, "call {call}");
    }
}

#[test]
fn what_a_failed_session_left_is_safe_before_it_is_told_as_there() {
    // protocol.md [OUTCOME-3]
    let by_time: fn(&mut TargetConfig) = |config| config.overwrite = Overwrite::Different;
    let by_digest: fn(&mut TargetConfig) = |config| config.checksum = true;
    let mut scenes = Scene::each_alone();
    scenes.extend([Scene::of_everything(), Scene::of_many_files(), Scene::of_many_directories()]);
    for scene in scenes {
        for (call, change) in
            (0..scene.count_calls()).flat_map(|call| [by_time, by_digest].map(|change| (call, change)))
        {
            let again = Scene { change, listing: scene.listing.clone(), ..scene };
            let memory = scene.disk();
            memory.fail_at(call, Fault::Error(Errno::IO));
            let _ = scene.run(&memory);

            let left = memory.kill();
            let told = again.run(&left).unwrap();

            // What a sync of the whole file system has lost is told by the next sync of each file.
            let may_fail = memory.calls()[call] == Call::SyncFileSystem;
            assert!(may_fail || told.iter().all(|(_, outcome)| is_good(outcome)), "call {call}: {told:?}");
            for seed in 0..SEEDS {
                assert_eq!(
                    scene.violation(&left.crash(seed), &told),
                    None,
                    "call {call}, seed {seed}: {told:?}"
                );
            }
        }
    }
}

#[test]
fn what_is_told_as_identical_is_safe_whoever_wrote_it() {
    // protocol.md [OUTCOME-3]
    let listing = vec![file_entry("small", 10)];
    let scene = Scene { listing, change: |config| config.checksum = true, ..Scene::of_everything() };
    let memory = scene.disk();
    let content = scene.content(0).unwrap();
    let file = write::open_or_create(&memory.root(), b"small").unwrap();
    write::write_all_at(&file, &content, 0).unwrap();

    assert_eq!(scene.run(&memory).unwrap(), [(0, Outcome::Identical)]);

    for seed in 0..SEEDS {
        let left = memory.crash(seed);
        assert!(super::all_names(&left).contains(&"small".to_owned()), "seed {seed}");
        assert_eq!(super::read(&left.root(), b"small"), content, "seed {seed}");
    }
}

#[test]
fn without_the_sync_of_files_a_name_may_hold_what_is_not_proven() {
    assert_notices(Lie::Files, &Scene::of_everything());
}

#[test]
fn without_the_sync_of_directories_what_was_told_may_be_lost() {
    assert_notices(Lie::Directories, &Scene::of_everything());
}

#[test]
fn with_names_before_the_sync_a_name_may_hold_what_is_not_proven() {
    assert_notices(Lie::FilesLate, &Scene::of_everything());
}

#[test]
fn without_the_sync_of_the_file_system_many_files_may_be_lost() {
    if write::HAS_SYNCFS {
        assert_notices(Lie::FileSystem, &Scene::of_many_files());
    }
}

/// Says how the promise is broken on this disk, if it is.
fn first_violation(scene: &Scene) -> Option<String> {
    violation_on(scene, &|_| {})
}

/// A disk that deceives breaks the promise, and the check sees it: it would see code that forgets the sync as well.
fn assert_notices(lie: Lie, scene: &Scene) {
    assert!(violation_on(scene, &|memory| memory.deceive(lie)).is_some());
}

fn violation_on(scene: &Scene, spoil: &dyn Fn(&Memory)) -> Option<String> {
    (0..=scene.count_calls()).find_map(|call| {
        let memory = scene.disk();
        spoil(&memory);
        memory.fail_at(call, Fault::PowerLoss);
        // Where not even the root was looked at, nothing was told.
        let told = scene.run(&memory).unwrap_or_default();
        let killed = std::iter::once_with(|| (None, memory.kill()));
        let crashed = (0..SEEDS).map(|seed| (Some(seed), memory.crash(seed)));
        killed.chain(crashed).find_map(|(seed, left)| {
            let why = scene.violation(&left, &told)?;
            let calls = memory.calls();
            let around = &calls[call.saturating_sub(5)..calls.len().min(call + 1)];
            Some(format!("call {call}, the last of {around:?}, seed {seed:?}: {why}; told was {told:?}"))
        })
    })
}

fn is_good(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done | Outcome::Unchanged | Outcome::Identical)
}

/// Power losses tried at each call: some of each kind.
const SEEDS: u64 = 15;
