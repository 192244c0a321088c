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
    /// Under its name stands what is no journal of this user.
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
            let file = write::open_or_create(dir.handle(), name.as_bytes())?;
            let stat = write::stat_of(&file)?;
            if !stat.is_own_file() {
                return Err(JournalError::Foreign);
            }
            if !write::try_lock(&file)? {
                return Err(JournalError::Locked);
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
            write::sync(dir.handle())?;
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
