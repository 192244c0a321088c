//! Content arrives: written where it belongs, followed by the digest, proven at its end.

use rustix::fd::OwnedFd;
use rustix::io::Errno;

use super::ProtocolViolation;
use super::examine::dir_failure;
use super::ledger::{Ledger, failed};
use super::tree::{Incoming, Stage, Tree};
use crate::file::disk::write;
use crate::file::failure::Failure;
use crate::file::part::{Existing, Part};
use crate::file::path::RelPath;
use crate::file::publish::Ready;
use crate::integrity::digest::Hasher;
use crate::limits;
use crate::transfer::cursor::DigestCursor;
use crate::transfer::placement::Placement;
use crate::wire::message::{Code, DigestKind, Outcome, Want};

/// A file whose content has begun to arrive.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Made with the first byte.
    part: Option<Part>,
    placement: Placement,
    cursor: DigestCursor,
    /// How long the part is on the disk, bytes.
    part_len: u64,
}

/// Bytes or a hole.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Bytes(&'a [u8]),
    Hole(u64),
}

impl Tree {
    pub(super) fn on_data(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ProtocolViolation> {
        self.on_piece(ledger, file, offset, Piece::Bytes(bytes))
    }

    pub(super) fn on_hole(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        offset: u64,
        len: u64,
    ) -> Result<(), ProtocolViolation> {
        self.on_piece(ledger, file, offset, Piece::Hole(len))
    }

    /// All content has come: prove it and let it wait for its name.
    pub(super) fn on_end(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        size: u64,
        digest: [u8; 32],
    ) -> Result<(), ProtocolViolation> {
        let kind = self.rules.digest;
        let Some(incoming) = self.wanted(file)? else {
            return Ok(());
        };
        if let Some(announced) = incoming.size
            && announced != size
        {
            return Err(ProtocolViolation::SizeChanged { file, announced, ended: size });
        }
        let receiving = incoming.receiving(kind);
        // protocol.md [FILE-3]
        if !receiving.placement.is_complete(size) {
            let placed = receiving.placement.placed_bytes();
            return Err(ProtocolViolation::Incomplete { file, size, placed });
        }
        match self.prove(file, size, digest) {
            Ok(ready) => self.publisher.add(ready),
            Err(failure) => self.settle_open(ledger, file, failed(failure), None),
        }
        if self.publisher.is_full() {
            self.publish(ledger);
        }
        Ok(())
    }

    /// The sender's digest of a file that is there already.
    pub(super) fn on_digest(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        size: u64,
        digest: [u8; 32],
    ) -> Result<(), ProtocolViolation> {
        let Some(incoming) = self.open.get(&file) else {
            return if self.directories.is_filling(file) {
                Err(ProtocolViolation::Unwanted { file })
            } else {
                Ok(())
            };
        };
        let Stage::Comparing(existing) = incoming.stage else {
            return Err(ProtocolViolation::Unwanted { file });
        };
        if let Some(announced) = incoming.size
            && announced != size
        {
            return Err(ProtocolViolation::SizeChanged { file, announced, ended: size });
        }
        let path = incoming.path.clone();
        let expected = incoming.expected;
        let sparse = incoming.sparse;
        let outcome = match self.digest_of_existing(&path, existing) {
            Err(failure) => failed(failure),
            Ok(_) if expected.is_some_and(|expected| expected != digest) => {
                failed(Failure::new(Code::Integrity, path.as_bytes(), NOT_EXPECTED))
            }
            Ok(own) if own == digest => Outcome::Identical,
            Ok(_) if self.rules.dry_run => Outcome::Planned,
            Ok(_) => {
                let owed = if sparse { 0 } else { size };
                let dir = self.dirs.open(path.split_last().0, false).ok();
                match self.promise(&path, dir.as_deref(), owed) {
                    Err(failure) => failed(failure),
                    Ok(()) => {
                        let incoming = self.open.get_mut(&file).expect("it was open above");
                        incoming.owed_bytes = owed;
                        incoming.stage = Stage::Wanted(None);
                        ledger.want(file, Want::Content);
                        return Ok(());
                    }
                }
            }
        };
        let proven = (outcome == Outcome::Identical).then_some(digest);
        self.settle_open(ledger, file, outcome, proven);
        Ok(())
    }

    /// The sender gives an entry up.
    pub(super) fn on_failed(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        code: Code,
        text: String,
    ) -> Result<(), ProtocolViolation> {
        let outcome = Outcome::Failed { code, text };
        if let Some(directory) = self.directories.filling_mut(file) {
            directory.outcome = outcome;
            return Ok(());
        }
        match self.open.get(&file).map(|incoming| &incoming.stage) {
            None => Ok(()),
            Some(Stage::Publishing { .. }) => Err(ProtocolViolation::Unwanted { file }),
            Some(_) => {
                self.settle_open(ledger, file, outcome, None);
                Ok(())
            }
        }
    }

    /// The digest of a file that was there before, which must still be the one that was examined.
    pub(super) fn digest_of_existing(
        &mut self,
        path: &RelPath,
        examined: Existing,
    ) -> Result<[u8; 32], Failure> {
        let (parent, name) = path.split_last();
        let dir = self.dirs.open(parent, false).map_err(|error| dir_failure(&error))?;
        let cannot = |errno| Failure::of(errno, "compare it", path.as_bytes());
        let fd = write::open_file(&*dir, name).map_err(cannot)?;
        let before = rustix::fs::fstat(&fd).map_err(cannot)?;
        let digest = digest_of(&fd, self.rules.digest, &mut self.scratch).map_err(cannot)?;
        let after = rustix::fs::fstat(&fd).map_err(cannot)?;
        if Existing::of(&before) != examined || Existing::of(&after) != examined {
            return Err(Failure::new(Code::Conflict, path.as_bytes(), "changed while it was being compared"));
        }
        Ok(digest)
    }

    fn on_piece(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        offset: u64,
        piece: Piece<'_>,
    ) -> Result<(), ProtocolViolation> {
        let kind = self.rules.digest;
        let Some(incoming) = self.wanted(file)? else {
            return Ok(());
        };
        let len = piece.len();
        let receiving = incoming.receiving(kind);
        receiving.placement.place(offset, len).map_err(|why| ProtocolViolation::Placement { file, why })?;
        if let Err(failure) = self.store(file, offset, piece) {
            self.settle_open(ledger, file, failed(failure), None);
        }
        Ok(())
    }

    /// The file, if its content is wanted; `None` if it has an outcome and what still comes is discarded.
    /// protocol.md [FILE-5]
    fn wanted(&mut self, file: u64) -> Result<Option<&mut Incoming>, ProtocolViolation> {
        let is_filling = self.directories.is_filling(file);
        match self.open.get_mut(&file) {
            Some(incoming) if matches!(incoming.stage, Stage::Wanted(_)) => Ok(Some(&mut **incoming)),
            None if !is_filling => Ok(None),
            _ => Err(ProtocolViolation::Unwanted { file }),
        }
    }

    fn store(&mut self, file: u64, offset: u64, piece: Piece<'_>) -> Result<(), Failure> {
        self.open_part(file)?;
        let incoming = self.open.get_mut(&file).expect("open_part found it");
        let owed = incoming.owed_bytes.min(piece.len());
        incoming.owed_bytes -= owed;
        self.promised_bytes -= u128::from(owed);
        let path = &incoming.path;
        let Stage::Wanted(Some(receiving)) = &mut incoming.stage else {
            unreachable!("open_part has checked the stage");
        };
        let cannot = |errno| Failure::of(errno, "write to it", path.as_bytes());
        let end = offset + piece.len();
        let part = receiving.part.as_mut().expect("open_part made it");
        match piece {
            Piece::Bytes(bytes) => {
                part.write_at(offset, bytes).map_err(cannot)?;
                receiving.cursor.offer(offset, bytes);
            }
            Piece::Hole(len) => {
                if end > receiving.part_len {
                    part.set_len(end).map_err(cannot)?;
                }
                receiving.cursor.offer_zeros(offset, len);
            }
        }
        receiving.part_len = receiving.part_len.max(end);
        receiving.catch_up(&mut self.scratch).map_err(cannot)
    }

    /// Makes the part, or sees that its descriptor is counted.
    fn open_part(&mut self, file: u64) -> Result<(), Failure> {
        let incoming = self.open.get_mut(&file).expect("the caller looked it up");
        let Stage::Wanted(Some(receiving)) = &mut incoming.stage else {
            unreachable!("the caller has seen that it is being received");
        };
        match &receiving.part {
            Some(part) if !part.is_parked() => return Ok(()),
            Some(_) => {}
            None => {
                let path = &incoming.path;
                let dir = self.dirs.open(path.split_last().0, true).map_err(|error| dir_failure(&error))?;
                let cannot = |errno| Failure::of(errno, "create it", path.as_bytes());
                let part = receiving.part.insert(Part::create(dir, &mut self.names).map_err(cannot)?);
                if let Some(size) = incoming.size
                    && size > limits::CHUNK_BYTES as u64
                    && !incoming.sparse
                {
                    let cannot = |errno| Failure::of(errno, "reserve space for it", path.as_bytes());
                    part.reserve(size).map_err(cannot)?;
                    self.promised_bytes -= u128::from(incoming.owed_bytes);
                    incoming.owed_bytes = 0;
                }
                self.dirs.take_changed().into_iter().for_each(|dir| self.publisher.touch(dir));
            }
        }
        self.unparked.push_back(file);
        while self.unparked.len() > PARTS_OPEN_MAX {
            let oldest = self.unparked.pop_front().and_then(|oldest| self.open.get_mut(&oldest));
            if let Some(Stage::Wanted(Some(receiving))) = oldest.map(|oldest| &mut oldest.stage)
                && let Some(part) = &mut receiving.part
            {
                part.park();
            }
        }
        Ok(())
    }

    /// Compares the digests and makes the part ready for its name. All bytes are placed.
    fn prove(&mut self, file: u64, size: u64, digest: [u8; 32]) -> Result<Ready, Failure> {
        // An empty file has had no first byte.
        self.open_part(file)?;
        let incoming = self.open.get_mut(&file).expect("open_part found it");
        let path = incoming.path.as_bytes();
        let publishing = Stage::Publishing { size_bytes: size, digest };
        let Stage::Wanted(Some(receiving)) = std::mem::replace(&mut incoming.stage, publishing) else {
            unreachable!("open_part has checked the stage");
        };
        let Receiving { part, cursor, .. } = *receiving;
        let mut part = part.expect("open_part made it");
        let own =
            cursor.finish(size).expect("all bytes are placed, and the cursor follows to the end of them");
        // protocol.md [FILE-4]
        if own != digest {
            let text =
                "the bytes on this disk do not have the digest that the sender computed; send it again";
            return Err(Failure::new(Code::Integrity, path, text));
        }
        if incoming.expected.is_some_and(|expected| expected != own) {
            return Err(Failure::new(Code::Integrity, path, NOT_EXPECTED));
        }
        if self.rules.verify_disk {
            let cannot = |errno| Failure::of(errno, "read it back", path);
            part.sync_and_drop_cache().map_err(cannot)?;
            if digest_of_part(&mut part, size, self.rules.digest, &mut self.scratch).map_err(cannot)? != own {
                let text = "the disk gives back other bytes than were written to it; check the disk";
                return Err(Failure::new(Code::Integrity, path, text));
            }
        }
        part.set_metadata(incoming.mode, incoming.mtime)
            .map_err(|errno| Failure::of(errno, "set its mode and time", path))?;
        let name = incoming.path.split_last().1.to_vec();
        let path = path.to_vec();
        Ok(Ready { file, part, path, name, replace: incoming.replace, size_bytes: size })
    }
}

impl Incoming {
    fn receiving(&mut self, kind: DigestKind) -> &mut Receiving {
        let Stage::Wanted(receiving) = &mut self.stage else {
            unreachable!("the caller has checked the stage");
        };
        receiving.get_or_insert_with(|| {
            let placement = Placement::new(self.size);
            Box::new(Receiving { part: None, placement, cursor: DigestCursor::new(kind), part_len: 0 })
        })
    }
}

impl Receiving {
    /// Hashes what is placed at the cursor but came too early to be hashed from memory.
    fn catch_up(&mut self, scratch: &mut Vec<u8>) -> rustix::io::Result<()> {
        while let Some(gap) = self.cursor.next_gap(&self.placement) {
            let buffer = window(scratch, gap.end - gap.start);
            let part = self.part.as_mut().ok_or(Errno::IO)?;
            part.read_back(gap.start, buffer)?;
            self.cursor.feed(buffer);
        }
        Ok(())
    }
}

impl Piece<'_> {
    fn len(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Hole(len) => len,
        }
    }
}

fn digest_of(fd: &OwnedFd, kind: DigestKind, scratch: &mut Vec<u8>) -> rustix::io::Result<[u8; 32]> {
    let mut hasher = Hasher::new(kind);
    let mut offset = 0;
    loop {
        let buffer = window(scratch, u64::MAX);
        let read = write::read_at(fd, buffer, offset)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..read]);
        offset += read as u64;
    }
}

fn digest_of_part(
    part: &mut Part,
    size: u64,
    kind: DigestKind,
    scratch: &mut Vec<u8>,
) -> rustix::io::Result<[u8; 32]> {
    let mut hasher = Hasher::new(kind);
    let mut offset = 0;
    while offset < size {
        let buffer = window(scratch, size - offset);
        part.read_back(offset, buffer)?;
        hasher.update(buffer);
        offset += buffer.len() as u64;
    }
    Ok(hasher.finish())
}

/// At most `len` bytes to read into.
fn window(scratch: &mut Vec<u8>, len: u64) -> &mut [u8] {
    scratch.resize(READ_BYTES, 0);
    let len = usize::try_from(len).map_or(READ_BYTES, |len| len.min(READ_BYTES));
    &mut scratch[..len]
}

/// Read at once from a file. Fits a second-level cache, so that hashing finds the bytes there.
const READ_BYTES: usize = 256 << 10;
/// Parts whose descriptors stay open while their content arrives; a further one closes the oldest. Above the number
/// of files that arrive at once over `limits::STREAMS_MAX` connections.
const PARTS_OPEN_MAX: usize = 64;
const _: () = assert!(PARTS_OPEN_MAX >= 2 * limits::STREAMS_MAX);
const NOT_EXPECTED: &str = "the sender's file does not have the expected digest";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::testing::{MTIME, World, digest, entry, file_entry, wants};
    use super::super::{Event, Job};
    use super::*;
    use crate::transfer::placement::PlaceError;
    use crate::wire::message::Kind;

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

        assert_eq!(world.target.poll_event(), Some(Event::Outcome { file: 0, outcome: Outcome::Identical }));
        assert_eq!(wants(&mut world.target), [(1, Want::Content)]);
        world.send(1, b"hello", 5);
        assert_eq!(world.finish(), [(1, Outcome::Done)]);
        assert_eq!(world.read("other"), b"hello");
    }

    #[test]
    fn a_disk_that_takes_no_more_fails_that_file_alone() {
        if !cfg!(target_os = "linux") {
            super::super::testing::skip("there is no /dev/full");
            return;
        }
        let failure = Failure::of(Errno::NOSPC, "write to it", b"f");
        assert_eq!(failure.code, Code::NoSpace);
        let mut world = World::new();
        let huge = 1 << 60;
        world.announce(vec![file_entry("huge", huge), file_entry("f", 1)]).unwrap();

        world.send(1, b"x", 1);

        let told = world.finish();
        assert_eq!(code(&told), [Code::NoSpace]);
        assert_eq!(told[1], (1, Outcome::Done));
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
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        for file in 0..500 {
            world.end(file, b"xx");
        }

        assert!(open < 400, "{open} descriptors are open");
        assert!(world.finish().iter().all(|(_, outcome)| *outcome == Outcome::Done));
        assert_eq!(world.read("f499"), b"xx");
    }

    #[test]
    fn a_dropped_target_removes_every_part() {
        let World { temp, mut target, .. } = {
            let mut world = World::new();
            world.announce(vec![file_entry("f", 2), file_entry("g", 1)]).unwrap();
            world.send(1, b"x", 1);
            world
        };
        target.handle(Job::Data { file: 0, offset: 0, bytes: vec![1] }).unwrap();
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 2);

        drop(target);

        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
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
}
