//! Remembers, beside a part, which of its bytes are on the disk, so that another transfer goes on behind them.
//!
//! ```text
//!  header  magic 8 | size u64 | mtime i64, u32 | CRC-32C u32
//!  record  kind u32 | count u32 | count times: start u64, length u64 | CRC-32C u32       integers little-endian
//!  record  …
//! ```
//!
//! It is only appended to. A record of kind 1 claims ranges that were synced before, one of kind 2 takes ranges back.
//! What a crash tears off at the end has a wrong checksum and does not count, nor does anything behind it. A claim is
//! never believed: whoever goes on proves the whole file by its digest. Whoever has the journal locked owns the part.

use std::ops::Range;

use rustix::io::{Errno, Result};

use super::disk::target_dirs::Dir;
use super::disk::temp_name::TempName;
use super::disk::{Handle, write};
use crate::integrity::crc32c::crc32c;
use crate::limits;
use crate::transfer::placement::Placement;
use crate::wire::message::Mtime;

/// What the part is to become: another size or time shows that its source is another one by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Bytes of the whole file.
    pub size: u64,
    /// Modification time of the source.
    pub mtime: Mtime,
}

/// An open and locked journal.
#[derive(Debug)]
pub struct Journal {
    name: TempName,
    file: Handle,
    /// End of the last whole record, bytes.
    len: u64,
    /// Whether its name is known to be on the disk.
    is_named: bool,
}

/// What a journal says.
#[derive(Debug)]
pub struct Claims {
    /// Of the part that it was begun for.
    pub identity: Identity,
    /// What is on the disk of it.
    pub placed: Placement,
    /// Bytes of the journal that count.
    pub len: usize,
}

/// Why there is no journal to write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// Somebody else has it.
    Locked,
    /// No journal of this user can be there: something else stands under its name, or nothing can be locked.
    Foreign,
    /// The system refused.
    System(Errno),
}

impl From<Errno> for JournalError {
    fn from(errno: Errno) -> Self {
        match errno {
            // A link, a directory, or a FIFO without a reader.
            Errno::LOOP | Errno::ISDIR | Errno::NXIO => Self::Foreign,
            errno => Self::System(errno),
        }
    }
}

impl Journal {
    /// Opens the journal `name` in `dir`, or begins one, and locks it. `None` in the place of claims where it says
    /// nothing yet, or nothing that can be read.
    pub fn open(dir: &Dir, name: TempName) -> std::result::Result<(Self, Option<Claims>), JournalError> {
        for _ in 0..TRIES_MAX {
            let file = match write::open_or_create(dir.handle(), name.as_bytes()) {
                // Another user's.
                Err(Errno::ACCESS | Errno::PERM) => return Err(JournalError::Foreign),
                file => file?,
            };
            let stat = write::stat_of(&file)?;
            if !stat.is_own_file() {
                return Err(JournalError::Foreign);
            }
            match write::try_lock(&file) {
                Ok(true) => {}
                Ok(false) => return Err(JournalError::Locked),
                // A file system without locks, or none at this moment: nothing can be kept there, and files arrive all
                // the same. One that says something may be somebody's.
                Err(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    if stat.size == 0 {
                        let _ = write::unlink(dir.handle(), name.as_bytes());
                    }
                    return Err(JournalError::Foreign);
                }
                Err(errno) => return Err(errno.into()),
            }
            // Whoever had it may have ended and removed it between the two calls.
            let is_there = write::stat(dir.handle(), name.as_bytes())?;
            if is_there.is_none_or(|there| there.identity != stat.identity) {
                continue;
            }
            let mut bytes = vec![0; usize::try_from(stat.size.min(limits::JOURNAL_MAX_BYTES)).unwrap_or(0)];
            let read = write::read_at(&file, &mut bytes, 0)?;
            let claims = parse(&bytes[..read]);
            let len = claims.as_ref().map_or(0, |claims| claims.len as u64);
            // A torn tail would stand between what is there and what follows.
            if len < stat.size {
                write::set_len(&file, len)?;
            }
            return Ok((Self { name, file, len, is_named: false }, claims));
        }
        Err(JournalError::Locked)
    }

    /// Begins anew, for a part of this identity of which `placed` is on the disk.
    pub fn begin(&mut self, identity: Identity, placed: &[Range<u64>]) -> Result<()> {
        write::set_len(&self.file, 0)?;
        self.len = 0;
        self.append(&header(identity))?;
        self.claim(placed)
    }

    /// Claims ranges, which the caller has synced.
    pub fn claim(&mut self, ranges: &[Range<u64>]) -> Result<()> {
        self.record(CLAIM, ranges)
    }

    /// Takes ranges back.
    pub fn forget(&mut self, ranges: &[Range<u64>]) -> Result<()> {
        self.record(FORGET, ranges)
    }

    /// Brings what it says to the disk, and its name in `dir` the first time.
    pub fn sync(&mut self, dir: &Dir) -> Result<()> {
        write::sync_data(&self.file)?;
        if !self.is_named {
            write::sync_dir(dir.handle())?;
            self.is_named = true;
        }
        Ok(())
    }

    /// Removes it from `dir`.
    pub fn remove(self, dir: &Dir) -> Result<()> {
        write::unlink(dir.handle(), self.name.as_bytes())
    }

    fn record(&mut self, kind: u32, ranges: &[Range<u64>]) -> Result<()> {
        if ranges.is_empty() {
            return Ok(());
        }
        let count = u32::try_from(ranges.len()).map_err(|_| Errno::FBIG)?;
        let mut bytes = Vec::with_capacity(RECORD_BYTES + ranges.len() * RANGE_BYTES);
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        for range in ranges {
            bytes.extend_from_slice(&range.start.to_le_bytes());
            bytes.extend_from_slice(&(range.end - range.start).to_le_bytes());
        }
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.append(&bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.len + bytes.len() as u64 > limits::JOURNAL_MAX_BYTES {
            return Err(Errno::FBIG);
        }
        // A record that was cut short is written over by the next.
        write::write_all_at(&self.file, bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

/// What the bytes of a journal say, up to the first that make no sense; `None` without a header.
pub fn parse(bytes: &[u8]) -> Option<Claims> {
    let (head, crc) = bytes.get(..HEADER_BYTES)?.split_last_chunk()?;
    if !head.starts_with(&MAGIC) || crc32c(head) != u32::from_le_bytes(*crc) {
        return None;
    }
    let size = u64_at(head, 8)?;
    let mtime = Mtime { secs: u64_at(head, 16)?.cast_signed(), nanos: u32_at(head, 24)? };
    let mut claims =
        Claims { identity: Identity { size, mtime }, placed: Placement::new(None), len: HEADER_BYTES };
    while let Some(record) = bytes.get(claims.len..)
        && let Some(len) = apply(record, &mut claims.placed)
    {
        claims.len += len;
    }
    Some(claims)
}

/// Applies the record at the front of `bytes`; its length, if it is whole.
fn apply(bytes: &[u8], placed: &mut Placement) -> Option<usize> {
    let (kind, count) = (u32_at(bytes, 0)?, usize::try_from(u32_at(bytes, 4)?).ok()?);
    let len = count.checked_mul(RANGE_BYTES)?.checked_add(RECORD_BYTES)?;
    let (body, crc) = bytes.get(..len)?.split_last_chunk()?;
    if crc32c(body) != u32::from_le_bytes(*crc) {
        return None;
    }
    for at in (8..body.len()).step_by(RANGE_BYTES) {
        let (start, len) = (u64_at(body, at)?, u64_at(body, at + 8)?);
        let range = start..start.checked_add(len)?;
        match kind {
            CLAIM => placed.cover(range),
            FORGET => placed.uncover(range),
            _ => return None,
        }
    }
    Some(len)
}

fn header(identity: Identity) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&identity.size.to_le_bytes());
    bytes.extend_from_slice(&identity.mtime.secs.to_le_bytes());
    bytes.extend_from_slice(&identity.mtime.nanos.to_le_bytes());
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    assert_eq!(bytes.len(), HEADER_BYTES);
    bytes
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// `1` is the version of the layout above.
const MAGIC: [u8; 8] = *b"haulJrn1";
const HEADER_BYTES: usize = 32;
/// Kind, count and checksum of a record.
const RECORD_BYTES: usize = 12;
const RANGE_BYTES: usize = 16;
const CLAIM: u32 = 1;
const FORGET: u32 = 2;
/// Journals that may vanish while one is being opened.
const TRIES_MAX: u32 = 3;

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "what is kept may be a single range of bytes")]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::file::disk::memory::{Call, Fault, Memory};
    use crate::file::disk::target_dirs::TargetDirs;

    const IDENTITY: Identity = Identity { size: 1000, mtime: Mtime { secs: -3, nanos: 7 } };

    #[test]
    fn what_was_claimed_is_found_again_and_what_was_taken_back_is_not() {
        let memory = Memory::new(1 << 20);
        let (mut journal, claims) = open(&memory).unwrap();
        assert!(claims.is_none());

        journal.begin(IDENTITY, &[0..10]).unwrap();
        journal.claim(&[10..20, 50..60]).unwrap();
        journal.forget(&[5..12]).unwrap();
        journal.claim(&[]).unwrap();
        drop(journal);

        let (_, claims) = open(&memory).unwrap();
        let claims = claims.unwrap();
        assert_eq!(claims.identity, IDENTITY);
        assert_eq!(claims.placed.ranges(), [0..5, 12..20, 50..60]);
    }

    #[test]
    fn a_second_writer_is_refused_until_the_first_is_gone() {
        let memory = Memory::new(1 << 20);
        let (first, _) = open(&memory).unwrap();

        assert!(matches!(open(&memory), Err(JournalError::Locked)));
        drop(first);

        assert!(open(&memory).is_ok());
    }

    #[test]
    fn what_is_no_file_of_this_user_alone_is_left_alone() {
        for prepare in [
            |root: &Dir| write::make_dir(root.handle(), name().as_bytes(), 0o700).unwrap(),
            |root: &Dir| {
                write::make_dir(root.handle(), b"d", 0o700).unwrap();
                let temp = write::symlink_temp(root.handle(), b"d", &mut names()).unwrap();
                write::rename_new(root.handle(), temp.as_bytes(), name().as_bytes()).unwrap();
            },
            |root: &Dir| {
                write::open_or_create(root.handle(), b"other").unwrap();
                let temp = write::link_temp(root.handle(), b"other", root.handle(), &mut names()).unwrap();
                write::rename_new(root.handle(), temp.as_bytes(), name().as_bytes()).unwrap();
            },
        ] {
            let memory = Memory::new(1 << 20);
            prepare(&root(&memory));

            assert!(matches!(open(&memory), Err(JournalError::Foreign)));
        }
    }

    #[test]
    fn a_torn_tail_is_cut_off_and_what_follows_is_found() {
        let whole = written(&[(CLAIM, &[0..10]), (CLAIM, &[10..30]), (FORGET, &[2..3])]);
        let ends: Vec<usize> = [1, 2, 3].map(|count| written(&records()[..count]).len()).to_vec();
        for cut in HEADER_BYTES..whole.len() {
            let memory = Memory::new(1 << 20);
            let file = write::open_or_create(root(&memory).handle(), name().as_bytes()).unwrap();
            write::write_all_at(&file, &whole[..cut], 0).unwrap();
            drop(file);

            let (mut journal, claims) = open(&memory).unwrap();
            let kept = ends.iter().rev().find(|&&end| end <= cut).copied().unwrap_or(HEADER_BYTES);
            assert_eq!(claims.unwrap().len, kept, "cut at {cut}");
            journal.claim(&[70..80]).unwrap();
            drop(journal);

            let (_, claims) = open(&memory).unwrap();
            assert!(claims.unwrap().placed.ranges().contains(&(70..80)), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_what_counts() {
        let whole = written(&records());
        let all = parse(&whole).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);

            let claims = parse(&flipped);

            assert!(claims.is_none_or(|claims| claims.len < all.len), "bit {bit}");
        }
    }

    #[test]
    fn a_record_that_could_not_be_written_is_written_over() {
        let memory = Memory::new(1 << 20);
        let (mut journal, _) = open(&memory).unwrap();
        journal.begin(IDENTITY, &[]).unwrap();
        memory.fail_all(Call::Write, Fault::Error(Errno::NOSPC));
        assert_eq!(journal.claim(&[0..1]), Err(Errno::NOSPC));
        memory.heal();

        journal.claim(&[5..6]).unwrap();
        drop(journal);

        let (_, claims) = open(&memory).unwrap();
        assert_eq!(claims.unwrap().placed.ranges(), [5..6]);
    }

    #[test]
    fn a_range_that_ends_beyond_all_numbers_does_not_count() {
        let mut record = vec![1, 0, 0, 0, 1, 0, 0, 0];
        record.extend_from_slice(&u64::MAX.to_le_bytes());
        record.extend_from_slice(&2_u64.to_le_bytes());
        let crc = crc32c(&record);
        record.extend_from_slice(&crc.to_le_bytes());

        let claims = parse(&[header(IDENTITY), record].concat()).unwrap();

        assert_eq!((claims.len, claims.placed.placed_bytes()), (HEADER_BYTES, 0));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
            parse(&[header(IDENTITY), bytes].concat());
        }
    }

    type Records<'a> = [(u32, &'a [Range<u64>]); 3];

    fn records() -> Records<'static> {
        [(CLAIM, &[0..10]), (CLAIM, &[10..30]), (FORGET, &[2..3])]
    }

    /// The bytes of a journal with these records.
    fn written(records: &[(u32, &[Range<u64>])]) -> Vec<u8> {
        let memory = Memory::new(1 << 20);
        let (mut journal, _) = open(&memory).unwrap();
        journal.begin(IDENTITY, &[]).unwrap();
        records.iter().for_each(|(kind, ranges)| journal.record(*kind, ranges).unwrap());
        let mut bytes = vec![0; usize::try_from(journal.len).unwrap()];
        write::read_at(&journal.file, &mut bytes, 0).unwrap();
        bytes
    }

    fn open(memory: &Memory) -> std::result::Result<(Journal, Option<Claims>), JournalError> {
        Journal::open(&root(memory), name())
    }

    fn root(memory: &Memory) -> Arc<Dir> {
        Arc::clone(TargetDirs::new(memory.root()).unwrap().root())
    }

    fn name() -> TempName {
        TempName::found_again(&[1; 32], b"journal", b"f")
    }

    fn names() -> crate::file::disk::temp_name::TempNames {
        crate::file::disk::temp_name::TempNames::new(5)
    }
}
