//! Files that come over a raw flow, whole and not.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::limits;
use crate::transfer::raw::{Lack, RawPiece};
use crate::wire::message::Code;

#[test]
fn a_file_that_came_whole_in_any_order_gets_its_name() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 9), file_entry("empty", 0)]).unwrap();

    for (offset, bytes) in [(6, b"ghi"), (0, b"abc"), (3, b"def")] {
        piece(&mut world, 0, offset, bytes);
    }
    let ended = [end(&mut world, 0, b"abcdefghi"), end(&mut world, 1, b"")];

    assert_eq!(ended, [Some((true, Lack::default())), Some((true, Lack::default()))]);
    assert_eq!(world.idle(), [(0, Outcome::Done), (1, Outcome::Done)]);
    assert_eq!(world.read("f"), b"abcdefghi");
    assert_eq!(world.names(), ["empty", "f"]);
}

#[test]
fn what_is_incomplete_stands_beside_the_name_with_zeros_for_what_is_missing() {
    // protocol.md [RAW-6]
    let mut world = World::with(|config| config.overwrite = Overwrite::Always);
    std::fs::write(world.path("f"), "live").unwrap();
    world.announce(vec![Entry { mode: 0o755, ..file_entry("f", 12) }]).unwrap();

    piece(&mut world, 0, 2, b"cde");
    piece(&mut world, 0, 7, b"hi");
    let ended = end(&mut world, 0, b"abcdefghijkl");

    let lack = Lack { bytes: 7, ranges: vec![(0, 2), (5, 2), (9, 3)], more_ranges: 0 };
    assert_eq!(ended, Some((false, lack)));
    assert_eq!(
        failures(&mut world),
        ["f: 7 of 12 bytes are missing, in 3 pieces; what came is kept as f.damaged"]
    );
    assert_eq!(world.read("f"), b"live");
    assert_eq!(world.read("f.damaged"), b"\0\0cde\0\0hi\0\0\0");
    assert_eq!(world.names(), ["f", "f.damaged"]);
    let mode = std::fs::metadata(world.path("f.damaged")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o644, "nobody is to run it");
}

#[test]
fn what_is_wrong_is_kept_too_and_what_never_came_leaves_nothing() {
    // protocol.md [FILE-4]
    let mut world = World::new();
    world.announce(vec![file_entry("wrong", 3), file_entry("gone", 3)]).unwrap();

    piece(&mut world, 0, 0, b"abc");
    assert_eq!(end(&mut world, 0, b"xyz"), Some((false, Lack::default())));
    let texts = failures(&mut world);
    assert!(texts[0].contains("do not have the digest") && texts[0].contains("wrong.damaged"), "{texts:?}");

    let nothing = Lack { bytes: 3, ranges: vec![(0, 3)], more_ranges: 0 };
    assert_eq!(end(&mut world, 1, b"xyz"), Some((false, nothing)));
    assert_eq!(failures(&mut world), ["gone: 3 of 3 bytes are missing, in one piece; nothing of it came"]);
    assert_eq!(world.names(), ["wrong.damaged"]);
}

#[test]
fn a_sender_that_sends_more_than_there_is_or_twice_broke_the_protocol() {
    let mut world = World::new();
    world.announce(vec![file_entry("f", 3), entry("s", Kind::Stream)]).unwrap();
    let raw = |file, offset, bytes: &[u8]| {
        Job::RawPiece(RawPiece { file, offset, bytes: bytes.to_vec(), datagrams: 1 })
    };

    assert!(world.target.handle(raw(0, 1, b"abc")).is_err());
    assert!(world.target.handle(raw(0, 1, b"b")).is_ok());
    assert!(world.target.handle(raw(0, 0, b"ab")).is_err(), "one of them is there");
    assert!(world.target.handle(raw(7, 0, b"ab")).is_err());
    world.target.handle(raw(1, 0, b"abcd")).unwrap();
    let short = Job::RawEnd { file: 1, size: 3, digest: digest(b"abc") };
    assert!(world.target.handle(short).is_err(), "a stream that ends before its content");
    let other = Job::RawEnd { file: 0, size: 4, digest: digest(b"abcd") };
    assert!(world.target.handle(other).is_err(), "another size than announced");
}

#[test]
fn a_file_in_too_many_pieces_is_taken_as_far_as_there_is_room() {
    // protocol.md [RAW-5]
    let most = crate::transfer::placement::RAW_RANGES_MAX as u64;
    let mut world = World::new();
    world.announce(vec![file_entry("f", 2 * most + 2)]).unwrap();

    let mut discarded = 0;
    for i in 0..=most {
        discarded += piece(&mut world, 0, 2 * i, b"x");
    }
    let (is_intact, lack) = end(&mut world, 0, &vec![b'x'; usize::try_from(2 * most + 2).unwrap()]).unwrap();

    assert_eq!(discarded, 3, "the last piece came in three datagrams");
    assert!(!is_intact);
    assert_eq!(lack.bytes, most + 2);
    assert_eq!(lack.ranges.len(), limits::RECORDS_PER_FRAME);
    assert_eq!(lack.more_ranges, most - limits::RECORDS_PER_FRAME as u64);
}

#[test]
fn standard_output_is_no_place_for_it() {
    let mut target = Target::new(config(Place::Stdout(Box::new(std::io::sink())))).unwrap();
    target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 1)] }).unwrap();

    let raw = RawPiece { file: 0, offset: 0, bytes: vec![1], datagrams: 1 };
    assert!(target.handle(Job::RawPiece(raw)).is_err());
    assert!(target.handle(Job::RawEnd { file: 0, size: 1, digest: digest(&[1]) }).is_err());
}

/// Hands a piece over that came in three datagrams; gives how many of them were left out.
fn piece(world: &mut World, file: u64, offset: u64, bytes: &[u8]) -> u64 {
    let raw = RawPiece { file, offset, bytes: bytes.to_vec(), datagrams: 3 };
    world.target.handle(Job::RawPiece(raw)).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| world.target.poll_event()).collect();
    events
        .into_iter()
        .find_map(|event| match event {
            Event::RawPlaced { len, discarded } => {
                assert_eq!(len, bytes.len() as u64);
                Some(discarded)
            }
            _ => None,
        })
        .unwrap()
}

/// Ends a file that has this content at its sender; gives what the target says of it.
fn end(world: &mut World, file: u64, content: &[u8]) -> Option<(bool, Lack)> {
    let size = content.len() as u64;
    world.target.handle(Job::RawEnd { file, size, digest: digest(content) }).unwrap();
    world.target.poll_event().and_then(|event| match event {
        Event::RawEnded { is_intact, lack, file: of } if of == file => Some((is_intact, lack)),
        _ => None,
    })
}

/// The texts of all files, which have failed with Integrity.
fn failures(world: &mut World) -> Vec<String> {
    world
        .idle()
        .into_iter()
        .map(|(_, outcome)| match outcome {
            Outcome::Failed { code: Code::Integrity, text } => text,
            other => panic!("{other:?}"),
        })
        .collect()
}
