//! Going on with what another session has left, and repair.

use super::{config, digest, file_entry, outcomes};
use crate::file::disk::memory::{Call, Fault, Memory};
use crate::file::disk::target_dirs::TargetDirs;
use crate::file::disk::write;
use crate::file::journal::Identity;
use crate::file::kept::Keep;
use crate::file::part::Part;
use crate::file::target::{Event, Job, Place, Target, TargetConfig};
use crate::integrity::crc32c::crc32c;
use crate::limits;
use crate::wire::message::{Code, Entry, Outcome, Overwrite, Span};
use rustix::io::Errno;

const MIB: usize = 1 << 20;
const SIZE: usize = 5 * MIB + 77;
const CAPACITY_BYTES: u64 = 64 << 20;

#[test]
fn another_session_goes_on_where_one_was_cut() {
    let memory = cut_at(3 * MIB);

    let mut target = open(&memory, 1);
    assert_eq!(announce(&mut target, SIZE), [resume(&[(0, 3 * MIB)])]);
    send(&mut target, 3 * MIB, &content()[3 * MIB..]);

    assert_eq!(end(&mut target, &content()), [Outcome::Done]);
    assert_eq!(live(&memory), Some(content()));
    assert_eq!(names(&memory), ["f"]);
}

#[test]
fn what_arrives_does_not_wait_for_the_proof_of_what_is_there() {
    let memory = cut_at(4 * MIB);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);

    target.handle(data(4 * MIB, &content()[4 * MIB..5 * MIB])).unwrap();

    let placed = std::iter::from_fn(|| target.poll_event()).any(|e| matches!(e, Event::Placed { .. }));
    assert!(placed && target.has_work());
}

#[test]
fn pieces_that_were_scattered_are_kept_as_they_are() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, MIB, &content()[MIB..2 * MIB]);
    send(&mut target, 4 * MIB, &content()[4 * MIB..5 * MIB]);
    drop(target);

    let mut target = open(&memory, 1);

    assert_eq!(announce(&mut target, SIZE), [resume(&[(MIB, MIB), (4 * MIB, MIB)])]);
    send(&mut target, 0, &content()[..MIB]);
    send(&mut target, 2 * MIB, &content()[2 * MIB..4 * MIB]);
    send(&mut target, 5 * MIB, &content()[5 * MIB..]);
    assert_eq!(end(&mut target, &content()), [Outcome::Done]);
    assert_eq!(live(&memory), Some(content()));
}

#[test]
fn a_partial_file_that_was_changed_is_found_out_and_only_what_differs_is_sent_again() {
    // protocol.md [FILE-4], [REPAIR-1], [RESUME-3]
    let memory = cut_at(4 * MIB);
    spoil(&memory, MIB + 5);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 4 * MIB, &content()[4 * MIB..]);
    assert_eq!(end(&mut target, &content()), []);

    let asked = answer_checks(&mut target, &content());

    assert_eq!(asked, [resume(&[(0, MIB), (2 * MIB, SIZE - 2 * MIB)])]);
    assert_eq!(live(&memory), None);
    send(&mut target, MIB, &content()[MIB..2 * MIB]);
    assert_eq!(end(&mut target, &content()), [Outcome::Done]);
    assert_eq!(live(&memory), Some(content()));
    assert_eq!(names(&memory), ["f"]);
}

#[test]
fn what_is_wrong_is_asked_once_also_where_the_proof_came_before_its_turn() {
    // protocol.md [REPAIR-1]
    let memory = cut_at(MIB);
    spoil(&memory, 5);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);

    // What arrives makes good what is behind, while the file still waits for its turn.
    send(&mut target, MIB, &content()[MIB..]);
    assert_eq!(end(&mut target, &content()), []);

    assert_eq!(answer_checks(&mut target, &content()), [resume(&[(MIB, SIZE - MIB)])]);
}

#[test]
fn a_repair_whose_sync_fails_is_told_and_nothing_is_gone_on_with() {
    // The system tells it once: the sync before the name would succeed.
    let memory = cut_at(4 * MIB);
    spoil(&memory, MIB + 5);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 4 * MIB, &content()[4 * MIB..]);
    memory.fail_all(Call::SyncFile, Fault::Error(Errno::IO));

    let told = end(&mut target, &content());

    assert!(matches!(told[..], [Outcome::Failed { code: Code::File, .. }]), "{told:?}");
    memory.heal();
    drop(target);
    assert!(names(&memory).is_empty());
}

#[test]
fn what_is_allocated_for_a_file_that_is_compared_is_not_asked_for_again() {
    let memory = Memory::new(2 * SIZE as u64 + MIB as u64);
    let file = write::open_or_create(&memory.root(), b"f").unwrap();
    write::write_all_at(&file, &vec![1; SIZE], 0).unwrap();
    drop(file);
    let start = || {
        let place = Place::Opened { root: memory.root(), below: None };
        let config = TargetConfig { checksum: true, overwrite: Overwrite::Always, ..config(place) };
        let mut target = Target::new(config).unwrap();
        target.handle(Job::Resumable { owner: Some([1; 32]) }).unwrap();
        target
    };
    let told = |target: &mut Target| {
        let told = Job::Digest { file: 0, size: SIZE as u64, digest: digest(&content()) };
        target.handle(told).unwrap();
        target.poll_event()
    };
    let mut target = start();
    announce(&mut target, SIZE);
    assert_eq!(told(&mut target), Some(want()));
    send(&mut target, 0, &content()[..4 * MIB]);
    drop(target);

    let mut target = start();
    announce(&mut target, SIZE);

    assert_eq!(told(&mut target), Some(resume(&[(0, 4 * MIB)])));
}

#[test]
fn where_nothing_can_be_locked_files_arrive_all_the_same() {
    for errno in [Errno::NOLCK, Errno::OPNOTSUPP] {
        let memory = Memory::new(CAPACITY_BYTES);
        memory.fail_all(Call::TryLock, Fault::Error(errno));
        let mut target = open(&memory, 1);
        assert_eq!(announce(&mut target, SIZE), [want()]);
        send(&mut target, 0, &content());

        assert_eq!(end(&mut target, &content()), [Outcome::Done]);

        assert_eq!(live(&memory), Some(content()));
        assert_eq!(names(&memory), ["f"]);
    }
}

#[test]
fn a_source_that_was_changed_costs_what_differs() {
    let memory = cut_at(5 * MIB);
    let mut other = content();
    other[2 * MIB] ^= 1;
    other[SIZE - 1] ^= 1;
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 5 * MIB, &other[5 * MIB..]);
    assert_eq!(end(&mut target, &other), []);

    let asked = answer_checks(&mut target, &other);

    assert_eq!(asked, [resume(&[(0, 2 * MIB), (3 * MIB, SIZE - 3 * MIB)])]);
    send(&mut target, 2 * MIB, &other[2 * MIB..3 * MIB]);
    assert_eq!(end(&mut target, &other), [Outcome::Done]);
    assert_eq!(live(&memory), Some(other));
}

#[test]
fn a_source_that_shrank_is_gone_on_with_as_far_as_it_reaches() {
    let memory = cut_at(5 * MIB);
    let shorter = &content()[..4 * MIB + 3];
    let mut target = open(&memory, 1);

    assert_eq!(announce(&mut target, shorter.len()), [resume(&[(0, 4 * MIB + 3)])]);

    assert_eq!(end(&mut target, shorter), [Outcome::Done]);
    assert_eq!(live(&memory).as_deref(), Some(shorter));
}

#[test]
fn what_cannot_be_repaired_fails_and_leaves_the_name_as_it_was() {
    // protocol.md [REPAIR-1]
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 0, &content());
    let wrong = [9; 32];
    for _ in 0..limits::REPAIRS_MAX {
        assert_eq!(end_with(&mut target, SIZE, wrong), []);
        // All blocks are equal, and nothing has to be sent.
        assert_eq!(answer_checks(&mut target, &content()), [resume(&[(0, SIZE)])]);
    }

    let told = end_with(&mut target, SIZE, wrong);

    assert!(matches!(&told[..], [Outcome::Failed { code: Code::Integrity, .. }]), "{told:?}");
    drop(target);
    assert!(names(&memory).is_empty(), "{:?}", names(&memory));
}

#[test]
fn a_peer_that_knows_no_repair_is_told_the_failure_at_once_and_nothing_is_kept_of_a_cut() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = Target::new(config(Place::Opened { root: memory.root(), below: None })).unwrap();
    announce(&mut target, SIZE);
    send(&mut target, 0, &content());

    let told = end_with(&mut target, SIZE, [9; 32]);

    assert!(matches!(&told[..], [Outcome::Failed { code: Code::Integrity, .. }]), "{told:?}");
    drop(target);
    assert!(names(&memory).is_empty());
}

#[test]
fn a_block_that_cannot_be_read_back_is_one_that_differs() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 0, &content());
    end_with(&mut target, SIZE, [9; 32]);
    memory.fail_all(Call::Read, Fault::Error(Errno::IO));

    let asked = answer_checks(&mut target, &content());

    assert_eq!(asked, [resume(&[])]);
    memory.heal();
    send(&mut target, 0, &content());
    assert_eq!(end(&mut target, &content()), [Outcome::Done]);
}

#[test]
fn what_is_read_back_from_the_disk_and_differs_is_repaired_too() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut rules = config(Place::Opened { root: memory.root(), below: None });
    rules.verify_disk = true;
    let mut target = Target::new(rules).unwrap();
    target.handle(Job::Resumable { owner: Some([1; 32]) }).unwrap();
    announce(&mut target, SIZE);
    send(&mut target, 0, &content());
    spoil(&memory, 3 * MIB);

    assert_eq!(end(&mut target, &content()), []);
    assert_eq!(answer_checks(&mut target, &content()), [resume(&[(0, 3 * MIB), (4 * MIB, SIZE - 4 * MIB)])]);
    send(&mut target, 3 * MIB, &content()[3 * MIB..4 * MIB]);
    assert_eq!(end(&mut target, &content()), [Outcome::Done]);
}

#[test]
fn a_hole_where_other_bytes_stood_reads_as_zeros() {
    let memory = cut_at(5 * MIB);
    let mut holed = content();
    holed[MIB..2 * MIB].fill(0);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 5 * MIB, &holed[5 * MIB..]);
    end(&mut target, &holed);
    answer_checks(&mut target, &holed);

    target.handle(Job::Hole { file: 0, offset: MIB as u64, len: MIB as u64 }).unwrap();

    assert_eq!(end(&mut target, &holed), [Outcome::Done]);
    assert_eq!(live(&memory), Some(holed));
}

#[test]
fn what_comes_unasked_is_kept_and_not_gone_on_with() {
    // protocol.md [RESUME-1]
    let memory = Memory::new(CAPACITY_BYTES);
    let eager = |memory: &Memory| {
        let mut rules = config(Place::Opened { root: memory.root(), below: None });
        rules.eager = true;
        let mut target = Target::new(rules).unwrap();
        target.handle(Job::Resumable { owner: Some([1; 32]) }).unwrap();
        target
    };
    let mut target = eager(&memory);
    assert_eq!(announce(&mut target, SIZE), []);
    send(&mut target, 0, &content()[..2 * MIB]);
    drop(target);

    assert_eq!(announce(&mut open(&memory, 1), SIZE), [resume(&[(0, 2 * MIB)])]);
    let mut target = eager(&memory);
    assert_eq!(announce(&mut target, SIZE), []);
    send(&mut target, 0, &content());
    assert_eq!(end(&mut target, &content()), [Outcome::Done]);
}

#[test]
fn small_files_are_not_kept() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    let small = usize::try_from(limits::RESUME_MIN_BYTES).unwrap() - 1;
    announce(&mut target, small);
    send(&mut target, 0, &content()[..small / 2]);

    drop(target);

    assert!(names(&memory).is_empty());
}

#[test]
fn so_many_are_kept_at_once_and_any_further_one_leaves_nothing() {
    let size = limits::RESUME_MIN_BYTES;
    let memory = Memory::new(1 << 30);
    let mut target = open(&memory, 1);
    let count = super::super::resume::KEPT_MAX as u64 + 1;
    let entries: Vec<_> = (0..count).map(|i| file_entry(&format!("f{i}"), size)).collect();
    target.handle(Job::Entries { first: 0, entries }).unwrap();
    for file in 0..count {
        target.handle(Job::Data { file, offset: 0, bytes: vec![1] }).unwrap();
    }
    // A part each, and a journal each but for the last.
    assert_eq!(names(&memory).len() as u64, 2 * count - 1);

    drop(target);

    assert_eq!(names(&memory).len() as u64, 2 * (count - 1));
}

#[test]
fn nobody_else_learns_what_is_there() {
    let memory = cut_at(3 * MIB);

    assert_eq!(announce(&mut open(&memory, 2), SIZE), [want()]);
}

#[test]
fn what_another_process_writes_is_busy() {
    let memory = cut_at(3 * MIB);
    let dirs = TargetDirs::new(memory.root()).unwrap();
    let identity = Identity { size: SIZE as u64, mtime: super::MTIME };
    let keep = Keep { owner: [1; 32], identity, syncs: true };
    let _other = Part::go_on(std::sync::Arc::clone(dirs.root()), b"f", &keep).unwrap().unwrap();

    let mut target = open(&memory, 1);
    target.handle(Job::Entries { first: 0, entries: listing(SIZE) }).unwrap();

    let told = told(&mut target);
    assert!(matches!(&told[..], [Outcome::Failed { code: Code::Busy, .. }]), "{told:?}");
}

#[test]
fn a_disk_that_loses_what_it_was_to_keep_fails_the_file() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 0, &content()[..MIB]);
    memory.fail_all(Call::SyncData, Fault::Error(Errno::IO));

    target.handle(Job::Checkpoint).unwrap();

    let told = told(&mut target);
    assert!(matches!(&told[..], [Outcome::Failed { code: Code::File, .. }]), "{told:?}");
}

#[test]
fn a_killed_process_leaves_what_its_checkpoints_claimed() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 0, &content()[..2 * MIB]);
    target.handle(Job::Checkpoint).unwrap();
    send(&mut target, 2 * MIB, &content()[2 * MIB..3 * MIB]);
    let memory = memory.kill();
    drop(target);

    assert_eq!(announce(&mut open(&memory, 1), SIZE), [resume(&[(0, 2 * MIB)])]);
}

#[test]
fn sums_that_were_not_asked_for_end_the_session() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);

    assert!(target.handle(Job::Sums { file: 0, first: 0, sums: vec![1] }).is_err());
}

#[test]
fn what_was_on_its_way_when_a_sync_failed_is_not_told_as_done() {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    let entries = (0..30).map(|n| file_entry(&format!("f{n}"), 10)).collect();
    target.handle(Job::Entries { first: 0, entries }).unwrap();
    let send = |target: &mut Target, file: u64| {
        target.handle(Job::Data { file, offset: 0, bytes: vec![7; 10] }).unwrap();
    };
    let end = |target: &mut Target, file: u64| {
        target.handle(Job::End { file, size: 10, digest: digest(&[7; 10]) }).unwrap();
    };
    (0..30).for_each(|file| send(&mut target, file));
    (0..15).for_each(|file| end(&mut target, file));
    memory.fail_all(Call::SyncFileSystem, Fault::Error(Errno::IO));
    target.handle(Job::Idle).unwrap();
    memory.heal();
    let first = outcomes(&mut target);
    assert!(first.len() == 15 && first.iter().all(|(_, o)| matches!(o, Outcome::Failed { .. })), "{first:?}");

    (15..30).for_each(|file| end(&mut target, file));
    target.handle(Job::Idle).unwrap();

    let left = memory.crash(1).root();
    for (file, outcome) in outcomes(&mut target) {
        if outcome == Outcome::Done {
            let file = write::open_file(&left, format!("f{file}").as_bytes()).unwrap();
            let mut bytes = [0; 10];
            write::read_at(&file, &mut bytes, 0).unwrap();
            assert_eq!(bytes, [7; 10], "told as done, and lost");
        }
    }
}

#[test]
fn what_cannot_be_read_back_is_not_gone_on_with_again() {
    let memory = cut_at(3 * MIB);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    memory.fail_all(Call::Read, Fault::Error(Errno::IO));
    while target.has_work() {
        target.handle(Job::Work).unwrap();
    }
    let said = told(&mut target);
    assert!(matches!(said[..], [Outcome::Failed { .. }]), "{said:?}");
    drop(target);
    memory.heal();

    assert_eq!(names(&memory), Vec::<String>::new());
}

#[test]
fn a_lock_that_cannot_be_had_for_a_moment_costs_nothing_that_is_there() {
    let memory = cut_at(3 * MIB);
    let mut target = open(&memory, 1);
    memory.fail_all(Call::TryLock, Fault::Error(Errno::NOLCK));
    announce(&mut target, SIZE);
    memory.heal();
    drop(target);

    let mut target = open(&memory, 1);
    assert_eq!(announce(&mut target, SIZE), [resume(&[(0, 3 * MIB)])]);
}

/// A disk on which a session was cut after so many bytes.
fn cut_at(bytes: usize) -> Memory {
    let memory = Memory::new(CAPACITY_BYTES);
    let mut target = open(&memory, 1);
    announce(&mut target, SIZE);
    send(&mut target, 0, &content()[..bytes]);
    memory
}

fn open(memory: &Memory, owner: u8) -> Target {
    let mut target = Target::new(config(Place::Opened { root: memory.root(), below: None })).unwrap();
    target.handle(Job::Resumable { owner: Some([owner; 32]) }).unwrap();
    target
}

fn listing(size: usize) -> Vec<Entry> {
    vec![file_entry("f", size as u64)]
}

/// What is asked for.
fn announce(target: &mut Target, size: usize) -> Vec<Event> {
    target.handle(Job::Entries { first: 0, entries: listing(size) }).unwrap();
    std::iter::from_fn(|| target.poll_event()).collect()
}

fn data(offset: usize, bytes: &[u8]) -> Job {
    Job::Data { file: 0, offset: offset as u64, bytes: bytes.to_vec() }
}

fn send(target: &mut Target, offset: usize, bytes: &[u8]) {
    for (i, chunk) in bytes.chunks(MIB).enumerate() {
        target.handle(data(offset + i * MIB, chunk)).unwrap();
    }
}

/// The end of the file, and all that the target does about it.
fn end(target: &mut Target, whole: &[u8]) -> Vec<Outcome> {
    end_with(target, whole.len(), digest(whole))
}

fn end_with(target: &mut Target, size: usize, digest: [u8; 32]) -> Vec<Outcome> {
    // What came before is told already.
    while target.poll_event().is_some() {}
    target.handle(Job::End { file: 0, size: size as u64, digest }).unwrap();
    while target.has_work() {
        target.handle(Job::Work).unwrap();
    }
    target.handle(Job::Idle).unwrap();
    let mut told = Vec::new();
    let mut asked = Vec::new();
    while let Some(event) = target.poll_event() {
        match event {
            Event::Outcome { outcome, .. } => told.push(outcome),
            other => asked.push(other),
        }
    }
    assert_eq!(told.is_empty(), matches!(&asked[..], [Event::Check { first: 0, .. }]), "{asked:?}");
    told
}

/// Tells the sums of this content; what is asked for then.
fn answer_checks(target: &mut Target, whole: &[u8]) -> Vec<Event> {
    let sums: Vec<_> = whole.chunks(MIB).map(crc32c).collect();
    target.handle(Job::Sums { file: 0, first: 0, sums }).unwrap();
    while target.has_work() && target.handle(Job::Work).is_ok() {}
    std::iter::from_fn(|| target.poll_event()).collect()
}

fn told(target: &mut Target) -> Vec<Outcome> {
    outcomes(target).into_iter().map(|(_, outcome)| outcome).collect()
}

fn resume(kept: &[(usize, usize)]) -> Event {
    let kept = kept.iter().map(|&(offset, len)| Span { offset: offset as u64, len: len as u64 }).collect();
    Event::Resume { file: 0, kept }
}

fn want() -> Event {
    Event::Want { file: 0, want: crate::wire::message::Want::Content }
}

fn content() -> Vec<u8> {
    (0..SIZE as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56).to_le_bytes()[0] | 1).collect()
}

/// What has the live name.
fn live(memory: &Memory) -> Option<Vec<u8>> {
    let root = memory.root();
    let stat = write::stat(&root, b"f").unwrap()?;
    let mut bytes = vec![0; usize::try_from(stat.size).unwrap()];
    write::read_at(&write::open_file(&root, b"f").unwrap(), &mut bytes, 0).unwrap();
    Some(bytes)
}

fn names(memory: &Memory) -> Vec<String> {
    let mut names = Vec::new();
    write::any_name(&memory.root(), |name, _| {
        names.push(String::from_utf8(name.to_vec()).unwrap());
        false
    })
    .unwrap();
    names
}

/// Flips a bit of the part.
fn spoil(memory: &Memory, at: usize) {
    let root = memory.root();
    let large = |name: &String| write::stat(&root, name.as_bytes()).unwrap().unwrap().size > MIB as u64;
    let part = names(memory).into_iter().find(large).unwrap();
    let file = write::open_or_create(&root, part.as_bytes()).unwrap();
    let mut byte = [0];
    write::read_at(&file, &mut byte, at as u64).unwrap();
    write::write_all_at(&file, &[byte[0] ^ 1], at as u64).unwrap();
}
