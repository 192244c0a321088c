use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::file::selection::Selection;
use crate::file::walk::{Step, Walk};

const CHUNK: usize = 64 << 10;

#[test]
fn a_file_comes_in_chunks_and_its_proof_at_the_end() {
    for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
        let dir = tempfile::tempdir().unwrap();
        let content = bytes(len);
        let mut source = open(&file(&dir, &content)).unwrap();

        let (read, sizes, end) = drain(&mut source);

        assert_eq!(read, content);
        assert!(sizes.iter().all(|&size| size <= CHUNK));
        assert_eq!(sizes.len(), len.div_ceil(CHUNK));
        assert_eq!(end, (len as u64, sha256(&content)));
    }
}

#[test]
fn a_buffer_of_the_right_capacity_is_used_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = open(&file(&dir, &bytes(2 * CHUNK))).unwrap();
    let mut buffer = Vec::with_capacity(CHUNK);
    let at = buffer.as_ptr();

    for _ in 0..2 {
        let Piece::Data { bytes, .. } = source.next(&mut buffer).unwrap() else { panic!("data is left") };
        assert_eq!(bytes.as_ptr(), at);
        assert_eq!(bytes.capacity(), CHUNK);
        buffer = bytes;
    }
    assert!(matches!(source.next(&mut buffer), Ok(Piece::End { .. })));
    assert_eq!(buffer.as_ptr(), at, "the end takes no buffer");
}

#[test]
fn a_larger_buffer_makes_no_larger_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let content = bytes(5 * CHUNK + 7);
    let mut source = open(&file(&dir, &content)).unwrap();
    let mut buffer = Vec::with_capacity(4 * CHUNK);

    let mut read = Vec::new();
    while let Piece::Data { bytes, .. } = source.next(&mut buffer).unwrap() {
        assert!(bytes.len() <= CHUNK);
        read.extend_from_slice(&bytes);
        buffer = bytes;
    }

    assert_eq!(read, content);
}

#[test]
fn both_digests_and_the_short_way_to_them_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &bytes(100_000));
    let origin = listed(&path);
    let by =
        |kind| Sources::new().open(&origin, kind, CHUNK).unwrap().digest_while(|| true).unwrap().unwrap();

    assert_eq!(by(DigestKind::Sha256), (100_000, sha256(&bytes(100_000))));
    assert_eq!(by(DigestKind::Blake3), (100_000, *blake3::hash(&bytes(100_000)).as_bytes()));
}

#[test]
fn holes_are_told_and_hash_as_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, b"");
    let disk = File::options().write(true).open(&path).unwrap();
    let (first, second, size) = (1 << 20, 150 << 20, (200 << 20) + 5);
    disk.write_all_at(&bytes(CHUNK + 1), first).unwrap();
    disk.write_all_at(b"island", second).unwrap();
    disk.set_len(size).unwrap();
    let mut source = open(&path).unwrap();

    let (mut position, mut data, mut buffer) = (0, 0, Vec::new());
    let end = loop {
        match source.next(&mut buffer).unwrap() {
            Piece::Data { offset, bytes, .. } => {
                assert_eq!(offset, position);
                position += bytes.len() as u64;
                data += bytes.len();
                buffer = bytes;
            }
            Piece::Hole { offset, len } => {
                assert_eq!(offset, position);
                assert!((1..=limits::HOLE_MAX_BYTES).contains(&len));
                let has = |at: u64| (offset..offset + len).contains(&at);
                assert!(!has(first) && !has(second), "no data in a hole");
                position += len;
            }
            Piece::End { size, digest } => break (size, digest),
        }
    };

    assert_eq!(position, size);
    assert!(data < 1 << 20, "{data} bytes of data: what is not allocated is not read");
    assert_eq!(end, (size, sha256(&fs::read(&path).unwrap())));
}

#[test]
fn a_chunk_read_again_is_the_same_or_the_file_changed() {
    // protocol.md [STREAM-4]
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &bytes(3 * CHUNK));
    let mut source = open(&path).unwrap();
    let mut crcs = Vec::new();
    while let Piece::Data { offset, crc, .. } = source.next(&mut Vec::new()).unwrap() {
        crcs.push((offset, crc));
    }

    let (offset, crc) = crcs[1];
    let again = source.read_again(offset, CHUNK, crc, Vec::new()).unwrap();
    let anew = open(&path).unwrap().read_again(offset, CHUNK, crc, Vec::new()).unwrap();
    File::options().write(true).open(&path).unwrap().write_all_at(b"!", offset).unwrap();
    let changed = source.read_again(offset, CHUNK, crc, again.clone());
    File::options().write(true).open(&path).unwrap().set_len(offset).unwrap();
    let shrunk = source.read_again(offset, CHUNK, crc, Vec::new());

    assert_eq!(again, bytes(3 * CHUNK)[CHUNK..2 * CHUNK]);
    assert_eq!(again, anew);
    assert!(matches!(changed, Err(SourceError::Changed { what: "its content changed" })));
    assert!(matches!(shrunk, Err(SourceError::Changed { what: SIZE })));
}

#[test]
fn a_file_that_changed_before_it_was_opened_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let other = file(&dir, b"other");
    let changes: [(&str, &dyn Fn()); 7] = [
        ("grown", &|| append(&path)),
        ("shrunk", &|| File::options().write(true).open(&path).unwrap().set_len(1).unwrap()),
        ("touched", &|| touch(&path)),
        ("replaced", &|| drop(fs::rename(&other, &path))),
        ("a link", &|| {
            fs::remove_file(&path).unwrap();
            symlink("/etc/passwd", &path).unwrap();
        }),
        ("a fifo", &|| {
            fs::remove_file(&path).unwrap();
            read::tests::make_fifo(&path);
        }),
        ("a directory", &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }),
    ];

    for (name, change) in changes {
        fs::remove_file(&path).ok();
        fs::write(&path, b"content").unwrap();
        let origin = listed(&path);
        change();
        let opened = Sources::new().open(&origin, DigestKind::Sha256, CHUNK);
        assert!(matches!(opened, Err(SourceError::Changed { .. })), "{name}");
    }
}

#[test]
fn a_file_that_vanished_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, b"content");
    let origin = listed(&path);
    fs::remove_file(&path).unwrap();

    let error = Sources::new().open(&origin, DigestKind::Sha256, CHUNK).err().unwrap();

    assert!(matches!(error, SourceError::Vanished));
    assert_eq!(error.code(), Code::SourceChanged);
}

#[test]
fn a_directory_swapped_for_a_link_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("t/d")).unwrap();
    fs::write(dir.path().join("t/d/f"), b"content").unwrap();
    let origins: Vec<Origin> = founds(&dir.path().join("t"));
    fs::rename(dir.path().join("t/d"), dir.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", dir.path().join("t/d")).unwrap();

    let opened = Sources::new().open(origins.last().unwrap(), DigestKind::Sha256, CHUNK);

    assert!(matches!(opened, Err(SourceError::Changed { .. })));
}

#[test]
fn a_file_that_changes_while_it_is_read_never_reaches_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let other = dir.path().join("other");
    let changes: [(&str, &dyn Fn()); 4] = [
        ("grown", &|| append(&path)),
        ("shrunk", &|| File::options().write(true).open(&path).unwrap().set_len(CHUNK as u64 + 1).unwrap()),
        ("overwritten in place", &|| {
            File::options().write(true).open(&path).unwrap().write_all_at(b"!", 0).unwrap();
            touch(&path);
        }),
        ("linked", &|| fs::hard_link(&path, &other).unwrap()),
    ];

    for (name, change) in changes {
        fs::write(&path, bytes(2 * CHUNK)).unwrap();
        let mut source = open(&path).unwrap();
        source.next(&mut Vec::new()).unwrap();
        std::thread::park_timeout(Duration::from_millis(20));
        change();
        let end = loop {
            match source.next(&mut Vec::new()) {
                Ok(Piece::Data { .. }) => {}
                end => break end,
            }
        };
        assert!(matches!(end, Err(SourceError::Changed { .. })), "{name}: {end:?}");
    }
}

#[test]
fn a_file_replaced_while_it_is_read_is_sent_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &bytes(2 * CHUNK));
    let kept = dir.path().join("kept");
    let mut source = open(&path).unwrap();
    source.next(&mut Vec::new()).unwrap();

    fs::write(&kept, b"new").unwrap();
    fs::rename(&kept, &path).unwrap();
    let second = source.next(&mut Vec::new());
    let end = source.next(&mut Vec::new());

    // The name went to another file, which changed the link count of the one being read.
    assert!(matches!(second, Ok(Piece::Data { .. })));
    assert!(matches!(end, Err(SourceError::Changed { .. })));
}

#[test]
fn neighbours_are_opened_through_the_same_directories() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("t/d/e")).unwrap();
    for name in ["t/d/a", "t/d/e/b", "t/z"] {
        fs::write(dir.path().join(name), name).unwrap();
    }
    let mut sources = Sources::new();

    for path in ["t", "t/d"] {
        for origin in founds(&dir.path().join(path)) {
            let source = sources.open(&origin, DigestKind::Sha256, CHUNK);
            assert_eq!(source.unwrap().size(), origin.identity.size);
        }
    }
}

#[test]
fn a_stream_fills_its_chunks_and_tells_its_size_at_the_end() {
    for len in [0, 5, CHUNK, 2 * CHUNK + 9] {
        let (reader, mut writer) = io::pipe().unwrap();
        let content = bytes(len);
        let mut source = StreamSource::new(reader.into(), DigestKind::Sha256, CHUNK);

        let (mut sizes, mut read) = (Vec::new(), Vec::new());
        let end = std::thread::scope(|scope| {
            let content = &content;
            scope.spawn(move || {
                for part in content.chunks(999) {
                    writer.write_all(part).unwrap();
                }
            });
            let mut buffer = Vec::with_capacity(3 * CHUNK);
            loop {
                match source.next(&mut buffer).unwrap() {
                    Piece::Data { offset, bytes, crc } => {
                        assert_eq!(offset, read.len() as u64);
                        assert_eq!(crc, crc32c(&bytes));
                        sizes.push(bytes.len());
                        read.extend_from_slice(&bytes);
                        buffer = bytes;
                    }
                    end => break end,
                }
            }
        });

        assert_eq!(read, content);
        assert!(sizes.iter().rev().skip(1).all(|&size| size == CHUNK));
        assert_eq!(end, Piece::End { size: len as u64, digest: sha256(&content) });
    }
}

/// All data, the sizes of its pieces, and size and digest.
fn drain(source: &mut OpenSource) -> (Vec<u8>, Vec<usize>, (u64, [u8; 32])) {
    let (mut all, mut sizes, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match source.next(&mut buffer).unwrap() {
            Piece::Data { offset, bytes, crc } => {
                assert_eq!(offset, all.len() as u64);
                assert_eq!(crc, crc32c(&bytes));
                sizes.push(bytes.len());
                all.extend_from_slice(&bytes);
                buffer = bytes;
            }
            Piece::Hole { .. } => panic!("the file has no holes"),
            Piece::End { size, digest } => return (all, sizes, (size, digest)),
        }
    }
}

fn open(path: &Path) -> Result<OpenSource, SourceError> {
    Sources::new().open(&listed(path), DigestKind::Sha256, CHUNK)
}

#[test]
fn what_a_receiver_lacks_comes_first_and_the_digest_is_over_all() {
    let len = 5 * CHUNK + 7;
    let content = bytes(len);
    let whole = len as u64;
    let chunk = CHUNK as u64;
    let kepts: [&[(u64, u64)]; 6] = [
        &[(0, 2 * chunk)],
        &[(3, 10), (chunk, chunk), (4 * chunk + 1, 2)],
        &[(whole - 1, 1)],
        &[(0, whole)],
        &[(1, whole - 1)],
        &[(0, 1), (2, 1), (4, 1)],
    ];
    for kept in kepts {
        // Whatever part of the hashing finds its time before all was handed out.
        for hash_after in [0, 1, 3, usize::MAX] {
            let dir = tempfile::tempdir().unwrap();
            let mut source = resumed(&file(&dir, &content), kept);

            let (pieces, end) = drain_resumed(&mut source, hash_after);

            let mut is_there = vec![false; len];
            for &(offset, len) in kept {
                is_there[usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap()].fill(true);
            }
            for (offset, bytes, crc) in pieces {
                let range = usize::try_from(offset).unwrap()..usize::try_from(offset).unwrap() + bytes.len();
                assert_eq!(bytes, content[range.clone()]);
                assert_eq!(crc, crc32c(&bytes));
                assert!(bytes.len() <= CHUNK);
                assert!(is_there[range.clone()].iter().all(|there| !there), "{kept:?}: {range:?} came twice");
                is_there[range].fill(true);
            }
            assert!(is_there.iter().all(|&there| there), "{kept:?}: something is lacked");
            assert_eq!(end, (whole, sha256(&content)), "{kept:?}");
        }
    }
}

#[test]
fn a_hole_that_a_receiver_lacks_comes_as_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let sparse = File::create(&path).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(&bytes(CHUNK), 6 << 20).unwrap();
    let mut source = resumed(&path, &[(0, 1 << 20)]);
    let mut buffer = Vec::new();

    let first = source.next_lacked(&mut buffer).unwrap();

    let Some(Piece::Hole { offset, len }) = first else {
        // This file system fills holes.
        assert!(matches!(first, Some(Piece::Data { .. })));
        return;
    };
    assert_eq!(offset, 1 << 20);
    assert!(len <= 5 << 20);
}

#[test]
fn sums_are_those_of_the_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let block = usize::try_from(limits::SUM_BLOCK_BYTES).unwrap();
    let content = bytes(2 * block + 5);
    let source = open(&file(&dir, &content)).unwrap();

    assert_eq!(
        source.sums_while(0, 3, || true).unwrap().unwrap(),
        content.chunks(block).map(crc32c).collect::<Vec<_>>()
    );
    assert_eq!(source.sums_while(2, 1, || true).unwrap().unwrap(), [crc32c(&content[2 * block..])]);
}

#[test]
fn the_sums_of_a_file_that_changed_are_not_told() {
    // protocol.md [REPAIR-2]
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &bytes(100));
    let source = open(&path).unwrap();
    append(&path);

    assert!(matches!(source.sums_while(0, 1, || true), Err(SourceError::Changed { .. })));
}

fn resumed(path: &Path, kept: &[(u64, u64)]) -> ResumedSource {
    let kept: Vec<_> = kept.iter().map(|&(offset, len)| Span { offset, len }).collect();
    Sources::new().open_resumed(&listed(path), DigestKind::Sha256, CHUNK, &kept).unwrap()
}

type Data = (u64, Vec<u8>, u32);

/// All pieces and the end; behind each so many pieces, a step of hashing.
fn drain_resumed(source: &mut ResumedSource, hash_after: usize) -> (Vec<Data>, (u64, [u8; 32])) {
    let mut buffer = Vec::new();
    let mut pieces = Vec::new();
    loop {
        if pieces.len() >= hash_after {
            source.hash_ahead(&mut buffer).unwrap();
        }
        match source.next_lacked(&mut buffer).unwrap() {
            Some(Piece::Data { offset, bytes, crc }) => pieces.push((offset, bytes, crc)),
            Some(other) => panic!("{other:?} in a file without holes"),
            None if source.hash_ahead(&mut buffer).unwrap() => {}
            None => break,
        }
    }
    let Piece::End { size, digest } = source.end().unwrap() else { panic!("that is the end") };
    (pieces, (size, digest))
}

fn listed(path: &Path) -> Origin {
    founds(path).pop().unwrap()
}

/// Every regular file at or below `path`.
fn founds(path: &Path) -> Vec<Origin> {
    Walk::local(&[path.to_owned()], Selection::default())
        .filter_map(|step| match step {
            Step::Found(found) if found.entry.kind != crate::wire::message::Kind::Dir => Some(found.origin),
            _ => None,
        })
        .collect()
}

fn file(dir: &TempDir, content: &[u8]) -> PathBuf {
    let path = dir.path().join("source");
    fs::write(&path, content).unwrap();
    path
}

fn append(path: &Path) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"more").unwrap();
}

fn touch(path: &Path) {
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1);
    File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn bytes(len: usize) -> Vec<u8> {
    (0..=250).cycle().step_by(31).take(len).collect()
}

fn sha256(content: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(content);
    hasher.finish()
}
