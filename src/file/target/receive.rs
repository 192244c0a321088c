//! Content arrives: written where it belongs, followed by the digest, proven at its end.

use rustix::io::Errno;

use super::ProtocolViolation;
use super::examine::dir_failure;
use super::ledger::{Ledger, failed};
use super::resume::new_part;
use super::tree::{Incoming, Stage, Tree};
use crate::file::disk::{Handle, write};
use crate::file::failure::Failure;
use crate::file::part::{Existing, Part};
use crate::file::path::RelPath;
use crate::file::publish::Ready;
use crate::integrity::digest::Hasher;
use crate::limits;
use crate::transfer::cursor::DigestCursor;
use crate::transfer::placement::Placement;
use crate::wire::message::{Code, DigestKind, Outcome};

/// A file whose content has begun to arrive, or of which some was there.
#[derive(Debug)]
pub(super) struct Receiving {
    /// Made with the first byte.
    pub(super) part: Option<Part>,
    pub(super) placement: Placement,
    pub(super) cursor: DigestCursor,
    /// How long the part is on the disk, bytes.
    pub(super) part_len: u64,
    /// Bytes may stand where none are placed: of another session, or wrong ones.
    pub(super) has_old_bytes: bool,
    /// Size and digest, once all of it is placed and the digest has to catch up.
    pub(super) end: Option<(u64, [u8; 32])>,
    /// How often it was repaired.
    pub(super) repairs: u32,
    /// It is one of `Tree::lagging`.
    pub(super) is_lagging: bool,
}

/// Bytes or a hole.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
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
        incoming.ends_at(file, size)?;
        let receiving = incoming.receiving(kind);
        // protocol.md [FILE-3]
        if !receiving.placement.is_complete(size) {
            let placed = receiving.placement.placed_bytes();
            return Err(ProtocolViolation::Incomplete { file, size, placed });
        }
        receiving.end = Some((size, digest));
        self.complete_if_proven(ledger, file);
        Ok(())
    }

    /// Proves a file once its digest has come to its end; until then it is one of those that lag.
    pub(super) fn complete_if_proven(&mut self, ledger: &mut Ledger, file: u64) {
        let Some(Stage::Wanted(Some(receiving))) = self.open.get(&file).map(|incoming| &incoming.stage)
        else {
            return;
        };
        match receiving.end {
            Some((size, digest)) if receiving.cursor.hashed_bytes() == size => {
                self.complete(ledger, file, size, digest);
            }
            _ => self.note_lag(file),
        }
    }

    /// Sees that a file whose digest is behind gets its turn.
    pub(super) fn note_lag(&mut self, file: u64) {
        if let Some(Stage::Wanted(Some(receiving))) =
            self.open.get_mut(&file).map(|incoming| &mut incoming.stage)
            && receiving.is_behind()
            && !std::mem::replace(&mut receiving.is_lagging, true)
        {
            self.lagging.push_back(file);
        }
    }

    /// Proves a file of which all is there and hashed, and lets it wait for its name.
    pub(super) fn complete(&mut self, ledger: &mut Ledger, file: u64, size: u64, digest: [u8; 32]) {
        match self.prove(file, size, digest) {
            Ok(Proof::Ready(ready)) => self.publisher.add(*ready),
            Ok(Proof::Wrong(what)) => self.begin_repair(ledger, file, size, what),
            Err(failure) => self.settle_open(ledger, file, failed(failure), None),
        }
        if self.publisher.is_full() {
            self.publish(ledger);
        }
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
        incoming.ends_at(file, size)?;
        let path = incoming.path.clone();
        let expected = incoming.expected;
        let sparse = incoming.sparse;
        let outcome = match self.compare_existing(&path, existing, digest) {
            Err(failure) => failed(failure),
            Ok(_) if expected.is_some_and(|expected| expected != digest) => {
                failed(Failure::new(Code::Integrity, path.as_bytes(), NOT_EXPECTED))
            }
            Ok(true) => Outcome::Identical,
            Ok(false) if self.rules.dry_run => Outcome::Planned,
            Ok(false) => {
                let dir = self.dirs.open(path.split_last().0, false).ok();
                let owed = if sparse { 0 } else { self.lacking(dir.as_deref(), &path, Some(size)) };
                self.forget_free_space();
                match self.promise(&path, dir.as_deref(), owed) {
                    Err(failure) => failed(failure),
                    Ok(()) => {
                        let incoming = self.open.get_mut(&file).expect("it was open above");
                        incoming.owed_bytes = owed;
                        incoming.stage = Stage::Wanted(None);
                        match self.ask_content(ledger, file) {
                            Ok(()) => return Ok(()),
                            Err(failure) => failed(failure),
                        }
                    }
                }
            }
        };
        let proven = (outcome == Outcome::Identical).then_some(digest);
        if proven.is_some() {
            self.remove_left(&path, Some(size));
        }
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

    /// Whether a file that was there before, and must still be the one that was examined, has this digest. If so, it is
    /// going to be told as identical, and is synced first. protocol.md [OUTCOME-3]
    pub(super) fn compare_existing(
        &mut self,
        path: &RelPath,
        examined: Existing,
        digest: [u8; 32],
    ) -> Result<bool, Failure> {
        let (parent, name) = path.split_last();
        let dir = self.dirs.open(parent, false).map_err(|error| dir_failure(&error))?;
        let cannot = |errno| Failure::of(errno, "compare it", path.as_bytes());
        let there = write::open_file(dir.handle(), name).map_err(cannot)?;
        let before = write::stat_of(&there).map_err(cannot)?;
        let own =
            digest_of(&there, self.rules.digest, &mut self.scratch, &*self.is_wanted).map_err(cannot)?;
        let after = write::stat_of(&there).map_err(cannot)?;
        if Existing::of(&before) != examined || Existing::of(&after) != examined {
            return Err(Failure::new(Code::Conflict, path.as_bytes(), "changed while it was being compared"));
        }
        if own == digest && !self.rules.dry_run {
            self.publisher.touch_file(before.identity, there, &dir);
        }
        Ok(own == digest)
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
    pub(super) fn wanted(&mut self, file: u64) -> Result<Option<&mut Incoming>, ProtocolViolation> {
        let is_filling = self.directories.is_filling(file);
        match self.open.get_mut(&file) {
            Some(incoming) if matches!(incoming.stage, Stage::Wanted(_)) => Ok(Some(&mut **incoming)),
            None if !is_filling => Ok(None),
            _ => Err(ProtocolViolation::Unwanted { file }),
        }
    }

    pub(super) fn store(&mut self, file: u64, offset: u64, piece: Piece<'_>) -> Result<(), Failure> {
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
                let old = receiving.part_len.clamp(offset, end);
                if end > receiving.part_len {
                    part.set_len(end).map_err(cannot)?;
                }
                match receiving.has_old_bytes {
                    true => part
                        .zero(offset, old - offset, window(&mut self.scratch, u64::MAX))
                        .map_err(cannot)?,
                    false => part.note_written(offset, old - offset),
                }
                part.note_written(old, end - old);
                receiving.cursor.offer_zeros(offset, len);
            }
        }
        receiving.part_len = receiving.part_len.max(end);
        if part.wants_checkpoint() {
            self.checkpoint_of(file)?;
        } else if self.resume.is_some() {
            self.unclaimed.insert(file);
        }
        self.catch_up(file, CATCH_UP_FACTOR * piece.len())?;
        self.note_lag(file);
        Ok(())
    }

    /// Hashes what is placed at the cursor but came too early to be hashed from memory: about so many bytes at most.
    pub(super) fn catch_up(&mut self, file: u64, most: u64) -> Result<(), Failure> {
        let incoming = self.open.get_mut(&file).expect("the caller looked it up");
        let Stage::Wanted(Some(receiving)) = &mut incoming.stage else {
            unreachable!("the caller has seen that it is being received");
        };
        let result = receiving.catch_up(&mut self.scratch, most);
        result.map_err(|errno| Failure::of(errno, "read it back", incoming.path.as_bytes()))
    }

    /// Makes the part, or sees that its descriptor is counted.
    fn open_part(&mut self, file: u64) -> Result<(), Failure> {
        let keep = self.keep(&self.open[&file]);
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
                let part = receiving.part.insert(new_part(
                    dir,
                    path,
                    incoming.size,
                    keep,
                    &self.kept,
                    &mut self.names,
                )?);
                if let Some(size) = incoming.size
                    && size > limits::CHUNK_BYTES as u64
                    && !incoming.sparse
                {
                    let cannot = |errno| Failure::of(errno, "reserve space for it", path.as_bytes());
                    part.reserve(size).map_err(cannot)?;
                    self.promised_bytes -= u128::from(incoming.owed_bytes);
                    incoming.owed_bytes = 0;
                }
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
    fn prove(&mut self, file: u64, size: u64, digest: [u8; 32]) -> Result<Proof, Failure> {
        // An empty file has had no first byte.
        self.open_part(file)?;
        let incoming = self.open.get_mut(&file).expect("open_part found it");
        let path = incoming.path.as_bytes();
        let Stage::Wanted(Some(receiving)) = &mut incoming.stage else {
            unreachable!("open_part has checked the stage");
        };
        let part = receiving.part.as_mut().expect("open_part made it");
        let own = receiving.cursor.clone().finish(size);
        let own = own.expect("all bytes are placed, and the cursor has followed to the end of them");
        // protocol.md [FILE-4]
        if own != digest {
            return Ok(Proof::Wrong(
                "the bytes on this disk do not have the digest that the sender computed",
            ));
        }
        if incoming.expected.is_some_and(|expected| expected != own) {
            if let Some(part) = receiving.part.take() {
                part.discard();
            }
            return Err(Failure::new(Code::Integrity, path, NOT_EXPECTED));
        }
        if self.rules.verify_disk {
            let cannot = |errno| Failure::of(errno, "read it back", path);
            part.sync_and_drop_cache().map_err(cannot)?;
            let (kind, is_wanted) = (self.rules.digest, &*self.is_wanted);
            if digest_of_part(part, size, kind, &mut self.scratch, is_wanted).map_err(cannot)? != own {
                return Ok(Proof::Wrong("the disk gives back other bytes than were written to it"));
            }
        }
        let mut part = receiving.part.take().expect("it was there above");
        incoming.stage = Stage::Publishing { size_bytes: size, digest };
        let path = incoming.path.as_bytes();
        part.set_metadata(incoming.mode, incoming.mtime)
            .map_err(|errno| Failure::of(errno, "set its mode and time", path))?;
        let name = incoming.path.split_last().1.to_vec();
        let path = path.to_vec();
        let ready = Ready { file, part, path, name, replace: incoming.replace, size_bytes: size };
        Ok(Proof::Ready(Box::new(ready)))
    }
}

/// What came of comparing the digests.
enum Proof {
    /// It may have its name.
    Ready(Box<Ready>),
    /// The bytes are not the sender's, for this reason.
    Wrong(&'static str),
}

impl Incoming {
    /// What was announced holds at the end.
    pub(super) fn ends_at(&self, file: u64, size: u64) -> Result<(), ProtocolViolation> {
        match self.size {
            Some(announced) if announced != size => {
                Err(ProtocolViolation::SizeChanged { file, announced, ended: size })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn receiving(&mut self, kind: DigestKind) -> &mut Receiving {
        let Stage::Wanted(receiving) = &mut self.stage else {
            unreachable!("the caller has checked the stage");
        };
        receiving.get_or_insert_with(|| {
            let placement = Placement::new(self.size);
            Box::new(Receiving::new(placement, kind))
        })
    }
}

impl Receiving {
    /// Of which `placement` is there.
    pub(super) fn new(placement: Placement, kind: DigestKind) -> Self {
        Self {
            part: None,
            placement,
            cursor: DigestCursor::new(kind),
            part_len: 0,
            has_old_bytes: false,
            end: None,
            repairs: 0,
            is_lagging: false,
        }
    }

    /// Whether bytes that are placed wait to be hashed.
    pub(super) fn is_behind(&self) -> bool {
        self.cursor.next_gap(&self.placement).is_some()
    }

    /// Hashes what is placed at the cursor but came too early to be hashed from memory, until `most` bytes are done.
    fn catch_up(&mut self, scratch: &mut Vec<u8>, most: u64) -> rustix::io::Result<()> {
        let mut done = 0;
        while done < most
            && let Some(gap) = self.cursor.next_gap(&self.placement)
        {
            let buffer = window(scratch, gap.end - gap.start);
            let part = self.part.as_mut().ok_or(Errno::IO)?;
            // Nobody else would get further with it.
            part.read_back(gap.start, buffer).inspect_err(|_| part.give_up())?;
            self.cursor.feed(buffer);
            done += buffer.len() as u64;
        }
        Ok(())
    }
}

impl Piece<'_> {
    pub(super) fn len(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Hole(len) => len,
        }
    }
}

/// Ends as cancelled once `is_wanted` says so.
fn digest_of(
    file: &Handle,
    kind: DigestKind,
    scratch: &mut Vec<u8>,
    is_wanted: &dyn Fn() -> bool,
) -> rustix::io::Result<[u8; 32]> {
    let mut hasher = Hasher::new(kind);
    let mut offset = 0;
    while is_wanted() {
        let buffer = window(scratch, u64::MAX);
        let read = write::read_at(file, buffer, offset)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&buffer[..read]);
        offset += read as u64;
    }
    Err(Errno::CANCELED)
}

/// Ends as cancelled once `is_wanted` says so.
fn digest_of_part(
    part: &mut Part,
    size: u64,
    kind: DigestKind,
    scratch: &mut Vec<u8>,
    is_wanted: &dyn Fn() -> bool,
) -> rustix::io::Result<[u8; 32]> {
    let mut hasher = Hasher::new(kind);
    let mut offset = 0;
    while offset < size {
        if !is_wanted() {
            return Err(Errno::CANCELED);
        }
        let buffer = window(scratch, size - offset);
        part.read_back(offset, buffer).inspect_err(|_| part.give_up())?;
        hasher.update(buffer);
        offset += buffer.len() as u64;
    }
    Ok(hasher.finish())
}

/// At most `len` bytes to read into.
pub(super) fn window(scratch: &mut Vec<u8>, len: u64) -> &mut [u8] {
    scratch.resize(READ_BYTES, 0);
    let len = usize::try_from(len).map_or(READ_BYTES, |len| len.min(READ_BYTES));
    &mut scratch[..len]
}

/// Bytes that are read back for each byte that arrives, while the digest is behind: it catches up, and what arrives is
/// not kept waiting.
const CATCH_UP_FACTOR: u64 = 2;
/// Read at once from a file. Fits a second-level cache, so that hashing finds the bytes there.
const READ_BYTES: usize = 256 << 10;
/// Parts whose descriptors stay open while their content arrives; a further one closes the oldest. Above the number
/// of files that arrive at once over `limits::STREAMS_MAX` connections.
const PARTS_OPEN_MAX: usize = 64;
const _: () = assert!(PARTS_OPEN_MAX >= 2 * limits::STREAMS_MAX);
pub(super) const NOT_EXPECTED: &str = "the sender's file does not have the expected digest";
