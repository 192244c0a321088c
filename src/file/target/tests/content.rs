//! Content: any order, holes, proof, credit, and what no honest sender sends.

use std::os::unix::fs::MetadataExt;

use super::{MTIME, World, digest, entry, file_entry, on_a_small_disk, wants};
use crate::file::target::{Event, Job, ProtocolViolation};
use crate::transfer::placement::PlaceError;
use crate::wire::message::{Code, Kind, Outcome, Want};

#[test]
fn a_file_arrives_with_its_bytes_mode_and_time() {
    let mut world = World::new();
    let content = sample(10_000);
    world.announce(vec![file_entry("f", 10_000)]).unwrap();
    assert_eq!(wants(&mut world.target), [(0, Want::Content)]);

    world.send(0, &content, 3000);
    assert_eq!(world.names().len(), 1);
    assert!(!world.path("f").exists());

    assert_eq!(world.finish(), [(0, Outcome::Done)]);
    let metadata = std::fs::metadata(world.path("f")).unwrap();
    assert_eq!(world.read("f"), content);
    assert_eq!(metadata.mode() & 0o7777, 0o644);
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (MTIME.secs, i64::from(MTIME.nanos)));
    assert_eq!(world.names(), ["f"]);
    assert_eq!(world.target.summary().digest, Some(digest(&content)));
    assert_eq!(world.target.summary().bytes, 10_000);
}

#[test]
fn chunks_may_come_in_any_order() {
    let mut world = World::new();
    let content = sample(3 << 20);
    world.announce(vec![file_entry("f", 3 << 20)]).unwrap();

    for i in [11, 3, 1, 0, 2, 10, 9, 4, 5, 6, 7, 8] {
        let at = i * (256 << 10);
        let bytes = content[at..at + (256 << 10)].to_vec();
        world.target.handle(Job::Data { file: 0, offset: at as u64, bytes }).unwrap();
    }
    world.end(0, &content);

    assert_eq!(world.finish(), [(0, Outcome::Done)]);
    assert_eq!(world.read("f"), content);
}

#[test]
fn every_chunk_gives_its_credit_and_its_buffer_back() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 4)]).unwrap();
    wants(&mut world.target);

    world.target.handle(Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() }).unwrap();
    world.target.handle(Job::Hole { file: 0, offset: 2, len: 2 }).unwrap();

    let Some(Event::Placed { file: 0, offset: 0, len: 2, buffer }) = world.target.poll_event() else {
        panic!("the chunk was not placed");
    };
    assert!(buffer.is_empty() && buffer.capacity() >= 2);
    let hole = Event::Placed { file: 0, offset: 2, len: 2, buffer: Vec::new() };
    assert_eq!(world.target.poll_event(), Some(hole));
}

#[test]
fn an_empty_file_is_made() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 0)]).unwrap();

    world.end(0, b"");

    assert_eq!(world.finish(), [(0, Outcome::Done)]);
    assert_eq!(world.read("f"), b"");
}

#[test]
fn holes_stay_holes_and_read_as_zeros() {
    let mut world = World::new();
    let size = 8_u64 << 20;
    let mut content = vec![0; 8 << 20];
    content[4 << 20] = 7;
    world.announce(vec![entry("f", Kind::File { size, sparse: true, linked: false })]).unwrap();

    world.target.handle(Job::Hole { file: 0, offset: (4 << 20) + 1, len: (4 << 20) - 1 }).unwrap();
    world.target.handle(Job::Data { file: 0, offset: 4 << 20, bytes: vec![7] }).unwrap();
    world.target.handle(Job::Hole { file: 0, offset: 0, len: 4 << 20 }).unwrap();
    world.end(0, &content);

    assert_eq!(world.finish(), [(0, Outcome::Done)]);
    assert_eq!(world.read("f"), content);
    assert!(std::fs::metadata(world.path("f")).unwrap().blocks() * 512 < 1 << 20);
}

#[test]
fn a_stream_needs_no_size_beforehand() {
    let mut world = World::new();
    world.announce(vec![entry("f", Kind::Stream)]).unwrap();

    world.send(0, b"hello", 2);

    assert_eq!(world.finish(), [(0, Outcome::Done)]);
    assert_eq!(world.read("f"), b"hello");
}

#[test]
fn bytes_with_another_digest_never_get_the_name() {
    // protocol.md [FILE-4]
    let mut world = World::new();
    world.announce(vec![file_entry("f", 5)]).unwrap();

    world.target.handle(Job::Data { file: 0, offset: 0, bytes: b"hellx".to_vec() }).unwrap();
    world.end(0, b"hello");

    assert_eq!(code(&world.finish()), [Code::Integrity]);
    assert!(world.names().is_empty());
    assert!(world.target.summary().failures[0].text.starts_with("f: the bytes on this disk do not have"));
}

#[test]
fn what_is_read_back_from_the_disk_is_compared_too() {
    let mut world = World::with(|config| config.verify_disk = true);
    let content = sample(600_000);
    world.announce(vec![file_entry("f", 600_000)]).unwrap();

    world.send(0, &content, 100_000);

    assert_eq!(world.finish(), [(0, Outcome::Done)]);
    assert_eq!(world.read("f"), content);
}

#[test]
fn a_disk_that_gives_back_other_bytes_is_found_out() {
    let mut world = World::with(|config| config.verify_disk = true);
    world.announce(vec![file_entry("f", 5)]).unwrap();
    world.target.handle(Job::Data { file: 0, offset: 0, bytes: b"hello".to_vec() }).unwrap();

    std::fs::write(world.path(&world.names()[0]), "hallo").unwrap();
    world.end(0, b"hello");

    assert_eq!(code(&world.finish()), [Code::Integrity]);
    assert!(world.names().is_empty());
}

#[test]
fn a_sender_that_gives_up_leaves_nothing_behind() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 5), file_entry("g", 1)]).unwrap();
    world.target.handle(Job::Data { file: 0, offset: 0, bytes: b"hel".to_vec() }).unwrap();

    let text = "f: changed\nwhile".to_owned();
    world.target.handle(Job::Failed { file: 0, code: Code::SourceChanged, text }).unwrap();
    world.send(1, b"x", 1);

    let told = world.finish();
    let text = "f: changed while".to_owned();
    assert_eq!(told[0], (0, Outcome::Failed { code: Code::SourceChanged, text }));
    assert_eq!(told[1], (1, Outcome::Done));
    assert_eq!(world.names(), ["g"]);
}

#[test]
fn what_still_comes_of_a_failed_file_is_discarded_and_gives_its_credit_back() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 5)]).unwrap();
    let text = String::new();
    world.target.handle(Job::Failed { file: 0, code: Code::File, text }).unwrap();
    while world.target.poll_event().is_some() {}

    world.target.handle(Job::Data { file: 0, offset: 0, bytes: b"hello".to_vec() }).unwrap();
    world.end(0, b"hello");

    assert!(matches!(world.target.poll_event(), Some(Event::Placed { len: 5, .. })));
    assert_eq!(world.target.poll_event(), None);
    assert!(world.names().is_empty());
}

#[test]
fn what_no_honest_sender_sends_ends_the_session() {
    // protocol.md [FILE-3], [FILE-5], [DATA-6]
    let data = |file, offset, len| Job::Data { file, offset, bytes: vec![0; len] };
    let misplaced = |why| ProtocolViolation::Placement { file: 0, why };
    let cases = [
        (data(9, 0, 1), ProtocolViolation::Unknown { file: 9 }),
        (data(1, 0, 1), ProtocolViolation::Unwanted { file: 1 }),
        (data(0, 4, 2), misplaced(PlaceError::BeyondSize { offset: 4, len: 2, size: 5 })),
        (data(0, 0, 0), misplaced(PlaceError::Empty { offset: 0 })),
        (data(0, 1, 2), misplaced(PlaceError::Overlap { offset: 1, len: 2 })),
        (
            Job::Hole { file: 0, offset: 5, len: u64::MAX },
            misplaced(PlaceError::TooFar { offset: 5, len: u64::MAX }),
        ),
        (
            Job::End { file: 0, size: 6, digest: [0; 32] },
            ProtocolViolation::SizeChanged { file: 0, announced: 5, ended: 6 },
        ),
        (
            Job::End { file: 0, size: 5, digest: [0; 32] },
            ProtocolViolation::Incomplete { file: 0, size: 5, placed: 1 },
        ),
        (Job::Digest { file: 0, size: 5, digest: [0; 32] }, ProtocolViolation::Unwanted { file: 0 }),
    ];
    for (job, violation) in cases {
        let mut world = World::new();
        world.announce(vec![file_entry("f", 5), entry("d", Kind::Dir)]).unwrap();
        world.target.handle(data(0, 2, 1)).unwrap();

        assert_eq!(world.target.handle(job), Err(violation));
    }
}

#[test]
fn content_that_nobody_wanted_yet_ends_the_session() {
    // protocol.md [FILE-5]
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("f"), "there").unwrap();
    let mut world = World::over(temp, |config| config.checksum = true);
    world.announce(vec![file_entry("f", 5)]).unwrap();

    let result = world.target.handle(Job::Data { file: 0, offset: 0, bytes: b"x".to_vec() });

    assert_eq!(result, Err(ProtocolViolation::Unwanted { file: 0 }));
}

#[test]
fn an_existing_file_with_the_same_digest_is_not_sent() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("same"), "there").unwrap();
    std::fs::write(temp.path().join("other"), "there").unwrap();
    let mut world = World::over(temp, |config| config.checksum = true);

    world.announce(vec![file_entry("same", 5), file_entry("other", 5)]).unwrap();
    assert_eq!(wants(&mut world.target), [(0, Want::Digest), (1, Want::Digest)]);
    world.target.handle(Job::Digest { file: 0, size: 5, digest: digest(b"there") }).unwrap();
    world.target.handle(Job::Digest { file: 1, size: 5, digest: digest(b"hello") }).unwrap();

    assert_eq!(wants(&mut world.target), [(1, Want::Content)]);
    world.send(1, b"hello", 5);
    assert_eq!(world.finish(), [(0, Outcome::Identical), (1, Outcome::Done)]);
    assert_eq!(world.read("other"), b"hello");
}

#[test]
fn a_file_larger_than_the_disk_fails_alone() {
    let mut world = World::new();
    world.announce(vec![file_entry("huge", 1 << 60), file_entry("f", 1)]).unwrap();

    world.send(1, b"x", 1);

    let told = world.finish();
    assert_eq!(code(&told), [Code::NoSpace]);
    assert_eq!(told[1], (1, Outcome::Done));
}

#[test]
fn a_disk_that_fills_up_fails_that_file_alone_and_gets_its_space_back() {
    const NAME: &str =
        "file::target::tests::content::a_disk_that_fills_up_fails_that_file_alone_and_gets_its_space_back";
    let Some(disk) = on_a_small_disk(NAME) else {
        return;
    };
    let mut world = World::over(disk, |_| {});
    let sparse = Kind::File { size: 4 << 20, sparse: true, linked: false };
    world.announce(vec![entry("large", sparse), file_entry("f", 4096)]).unwrap();

    for i in 0..4 {
        let bytes = vec![1; 1 << 20];
        world.target.handle(Job::Data { file: 0, offset: i << 20, bytes }).unwrap();
    }
    world.send(1, &[7; 4096], 4096);

    let told = world.finish();
    assert_eq!(code(&told), [Code::NoSpace]);
    assert_eq!(told[1], (1, Outcome::Done));
    assert!(world.target.summary().failures[0].text.ends_with("no space left on the disk"));
    assert_eq!(world.names(), ["f"]);
}

#[test]
fn thousands_of_unfinished_files_do_not_need_as_many_descriptors() {
    let mut world = World::new();
    let entries = (0..500).map(|i| file_entry(&format!("f{i}"), 2)).collect();
    world.announce(entries).unwrap();

    for half in 0..2 {
        for file in 0..500 {
            world.target.handle(Job::Data { file, offset: half, bytes: vec![b'x'] }).unwrap();
        }
    }
    let ours = |fd: std::io::Result<std::fs::DirEntry>| {
        fd.and_then(|fd| std::fs::read_link(fd.path())).is_ok_and(|path| path.starts_with(world.temp.path()))
    };
    let open = std::fs::read_dir("/proc/self/fd")
        .map_or(0, |fds| fds.filter_map(|fd| ours(fd).then_some(())).count());
    for file in 0..500 {
        world.end(file, b"xx");
    }

    assert!(open < 100, "{open} descriptors are open");
    assert!(world.finish().iter().all(|(_, outcome)| *outcome == Outcome::Done));
    assert_eq!(world.read("f499"), b"xx");
}

#[test]
fn a_dropped_target_names_what_is_proven_and_removes_what_is_not() {
    let World { temp, mut target, .. } = {
        let mut world = World::new();
        world.announce(vec![file_entry("f", 2), file_entry("g", 1)]).unwrap();
        world.send(1, b"x", 1);
        world
    };
    target.handle(Job::Data { file: 0, offset: 0, bytes: vec![1] }).unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);

    drop(target);

    let left: Vec<_> =
        std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["g"]);
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

fn code(told: &[(u64, Outcome)]) -> Vec<Code> {
    told.iter()
        .filter_map(|(_, outcome)| match outcome {
            Outcome::Failed { code, .. } => Some(*code),
            _ => None,
        })
        .collect()
}
