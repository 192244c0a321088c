//! Each call on the disk fails in each way, and the failure is that of one entry.

use std::collections::BTreeSet;

use rustix::io::Errno;

use super::{Scene, Told, all_names, config, entry, file_entry, is_temporary, outcomes, send};
use crate::file::disk::memory::{Call, Fault, Memory};
use crate::file::path::RelPath;
use crate::file::target::{Job, Place, Target, TargetError};
use crate::wire::message::{Code, Entry, Kind, Outcome};

#[test]
fn a_call_that_fails_is_the_failure_of_its_entry_alone() {
    let scene = Scene::of_everything();
    at_each_call_and_error(&scene, &ERRORS, |attempt| {
        let expected = if is_out_of_space(attempt.errno) { Code::NoSpace } else { Code::File };
        let failed = failed(&attempt.told);
        let on_their_own: Vec<_> = failed
            .iter()
            .filter(|(number, _)| !depends_on_one_of(&scene.listing, *number, &failed))
            .collect();

        assert!(on_their_own.iter().all(|(_, code)| *code == expected), "{attempt:?}");
        // A sync covers several entries.
        let is_sync = matches!(attempt.call, Call::SyncFile | Call::SyncDirectory | Call::SyncFileSystem);
        assert!(is_sync || on_their_own.len() <= 1, "{attempt:?}");
        assert_eq!(scene.violation(&attempt.memory.kill(), &attempt.told), None, "{attempt:?}");
    });
}

#[test]
fn nothing_unfinished_stays_on_the_disk_unless_it_cannot_be_removed() {
    for scene in [Scene::of_everything(), Scene::of_many_files()] {
        at_each_call_and_error(&scene, &[Errno::IO], |attempt| {
            let names = all_names(&attempt.memory.kill());
            let is_clean = !names.iter().any(|name| is_temporary(name));
            assert!(is_clean || attempt.call == Call::Unlink, "{attempt:?}: {names:?}");
        });
    }
}

#[test]
fn what_is_told_after_a_failure_survives_the_power_loss() {
    // A sync that failed has lost what it was to write; another sync does not bring it back.
    for scene in [Scene::of_everything(), Scene::of_many_files()] {
        at_each_call_and_error(&scene, &[Errno::IO], |attempt| {
            for seed in 0..5 {
                let violation = scene.violation(&attempt.memory.crash(seed), &attempt.told);
                assert_eq!(violation, None, "seed {seed}: {attempt:?}");
            }
        });
    }
}

#[test]
fn a_short_write_or_read_is_completed() {
    let scene = Scene::of_everything();
    let prepare = |memory: &Memory| {
        memory.fail_all(Call::Write, Fault::Short);
        memory.fail_all(Call::Read, Fault::Short);
    };
    let scene = Scene { prepare, change: |config| config.verify_disk = true, ..scene };

    let memory = scene.disk();
    let told = scene.run(&memory).unwrap();

    assert!(told.iter().all(|(_, outcome)| *outcome == Outcome::Done), "{told:?}");
    assert_eq!(scene.violation(&memory.crash(0), &told), None);
}

#[test]
fn a_disk_that_fills_up_fails_what_does_not_fit_alone() {
    let stream = |name| entry(name, Kind::Stream);
    let memory = Memory::new(3 * 4096);
    let mut target = Target::new(config(Place::Opened { root: memory.root(), below: None })).unwrap();
    let entries = vec![stream("small"), stream("large"), file_entry("announced", 1 << 20)];
    target.handle(Job::Entries { first: 0, entries }).unwrap();

    send(&mut |job| target.handle(job).unwrap(), 0, &[1; 5000]);
    send(&mut |job| target.handle(job).unwrap(), 1, &[2; 9000]);
    target.handle(Job::Idle).unwrap();

    let mut told = outcomes(&mut target);
    told.sort_by_key(|(number, _)| *number);
    assert_eq!(told[0], (0, Outcome::Done));
    assert_eq!(failed(&told), [(1, Code::NoSpace), (2, Code::NoSpace)]);
    assert_eq!(all_names(&memory), ["small"]);
}

#[test]
fn a_root_or_directory_below_it_that_fails_is_the_failure_of_the_target() {
    let below = || Some(RelPath::parse(b"in/to").unwrap());
    let target = |memory: &Memory| {
        Target::new(config(Place::Opened { root: memory.root(), below: below() })).map(drop)
    };
    let memory = Memory::new(1 << 20);
    target(&memory).unwrap();
    let calls = memory.calls();

    for (number, call) in calls.iter().enumerate() {
        let memory = Memory::new(1 << 20);
        memory.fail_at(number, Fault::Error(Errno::NOSPC));

        match target(&memory) {
            Err(TargetError::Root { reason, .. }) => assert!(reason.contains("no space"), "{reason}"),
            Err(TargetError::Below(failure)) => assert_eq!(failure.code, Code::NoSpace),
            other => panic!("{call:?} fails, and it is {other:?}"),
        }
    }
}

/// A session in which one call failed.
struct Attempt {
    number: usize,
    call: Call,
    errno: Errno,
    /// The disk after the session.
    memory: Memory,
    told: Told,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { number, call, errno, told, .. } = self;
        write!(f, "call {number}, {call:?}, fails with {errno:?}; told was {told:?}")
    }
}

/// Runs the session once for each of its calls and each error with which that call fails.
fn at_each_call_and_error(scene: &Scene, errors: &[Errno], check: impl Fn(&Attempt)) {
    for number in 0..scene.count_calls() {
        for &errno in errors {
            let memory = scene.disk();
            memory.fail_at(number, Fault::Error(errno));
            let told = scene.run(&memory);
            let call = memory.calls()[number];
            match told {
                Ok(told) => check(&Attempt { number, call, errno, memory, told }),
                Err(TargetError::Root { .. }) => assert_eq!(number, 0, "the root is looked at first"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn failed(told: &[(u64, Outcome)]) -> Vec<(u64, Code)> {
    told.iter()
        .filter_map(|(number, outcome)| match outcome {
            Outcome::Failed { code, .. } => Some((*number, *code)),
            _ => None,
        })
        .collect()
}

/// Whether an entry cannot be had without one that failed: the directory around it or the file that it links.
fn depends_on_one_of(listing: &[Entry], number: u64, failed: &[(u64, Code)]) -> bool {
    let entry = |number: u64| &listing[usize::try_from(number).unwrap()];
    let others: BTreeSet<u64> =
        failed.iter().map(|(other, _)| *other).filter(|other| *other != number).collect();
    let own = entry(number);
    others.iter().any(|&other| {
        let is_around =
            entry(other).kind == Kind::Dir && own.name.starts_with(&[&entry(other).name[..], b"/"].concat());
        is_around || own.kind == Kind::Hardlink { file: other }
    })
}

fn is_out_of_space(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT)
}

/// How a disk or a system refuses.
const ERRORS: [Errno; 6] = [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::MFILE, Errno::ROFS, Errno::ACCESS];
