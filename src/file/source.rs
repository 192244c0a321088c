//! Reads one file that a walk found into chunks, and hashes it on the way.
//!
//! The bytes that leave here belong to one state of the file: the one that the listing saw. Identity is compared at
//! open and again at the end; whatever differs is [`SourceError::Changed`], and the file is to be listed anew. A
//! chunk that has to be read a second time must have the CRC of its first reading.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::disk::dirs::DirCache;
use super::disk::read::{self, Identity};
use super::walk::Origin;
use crate::integrity::crc32c::crc32c;
use crate::integrity::digest::Hasher;
use crate::limits;
use crate::wire::message::{Code, DigestKind, Span};

pub use resumed::ResumedSource;

mod resumed;

/// Opens found files; keeps the directories of the last one open, since the next stands nearby.
#[derive(Debug, Default)]
pub struct Sources {
    dirs: Option<DirCache>,
}

/// A file being read, front to back, or again in parts.
pub struct OpenSource {
    file: OwnedFd,
    /// As the listing saw it, and as it was at open.
    identity: Identity,
    /// Fewer blocks are allocated than the size needs, so that holes are looked for.
    is_sparse: bool,
    /// End of the data segment that holds `position`, as far as known: 0..=size.
    data_end: u64,
    /// Everything before it was handed out and hashed: 0..=size.
    position: u64,
    /// `None` where only a part is read.
    hasher: Option<Hasher>,
    chunk_bytes: usize,
}

/// A source that cannot be read twice and whose size shows at its end: standard input.
pub struct StreamSource {
    stream: OwnedFd,
    position: u64,
    hasher: Hasher,
    chunk_bytes: usize,
}

/// The next part of a source, in file order and without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Content.
    Data {
        /// Where it stands in the file, bytes.
        offset: u64,
        /// The content: 1..=`chunk_bytes` bytes.
        bytes: Vec<u8>,
        /// CRC-32C of the content.
        crc: u32,
    },
    /// Zeros for which nothing is allocated.
    Hole {
        /// Where it stands in the file, bytes.
        offset: u64,
        /// Its length: 1..=`limits::HOLE_MAX_BYTES`.
        len: u64,
    },
    /// The source is complete and did not change while it was read.
    End {
        /// All of its bytes, holes included.
        size: u64,
        /// Digest of all of its bytes, holes as zeros.
        digest: [u8; 32],
    },
}

/// Why a source cannot be sent as listed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file is not what it was when it was listed or when it was read first.
    #[error("the file changed while it was sent: {what}")]
    Changed {
        /// What differs.
        what: &'static str,
    },
    /// Nothing stands under the name any more.
    #[error("the file vanished after it was listed")]
    Vanished,
    /// The system refused to open or to read it.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
}

impl SourceError {
    /// The code that tells a peer.
    pub fn code(&self) -> Code {
        match self {
            Self::Changed { .. } | Self::Vanished => Code::SourceChanged,
            Self::Io(_) => Code::File,
        }
    }
}

impl Sources {
    /// With nothing open.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the regular file at `origin` for reading in chunks of at most `chunk_bytes`. It must be in the state
    /// that the listing saw.
    pub fn open(
        &mut self,
        origin: &Origin,
        digest: DigestKind,
        chunk_bytes: usize,
    ) -> Result<OpenSource, SourceError> {
        assert!((1..=limits::CHUNK_MAX_BYTES).contains(&chunk_bytes));
        let dirs = self.dirs.get_or_insert_with(|| DirCache::shared(origin.root.clone()));
        dirs.rebase(&origin.root);
        let (parent, name) = dirs.parent_of(&origin.path).map_err(gone)?;
        let (file, meta) = read::open_file(&*parent, name).map_err(gone)?;
        unchanged(&origin.identity, &meta.identity)?;
        if meta.identity.size > chunk_bytes as u64 {
            read::will_read_in_order(&file);
        }
        Ok(OpenSource {
            file,
            identity: meta.identity,
            is_sparse: meta.is_sparse(),
            data_end: 0,
            position: 0,
            hasher: Some(Hasher::new(digest)),
            chunk_bytes,
        })
    }

    /// As [`Self::open`], for a receiver that has the ranges `kept` already.
    pub fn open_resumed(
        &mut self,
        origin: &Origin,
        digest: DigestKind,
        chunk_bytes: usize,
        kept: &[Span],
    ) -> Result<ResumedSource, SourceError> {
        let whole = self.open(origin, digest, chunk_bytes)?;
        let ahead = OpenSource { hasher: None, ..self.open(origin, digest, chunk_bytes)? };
        Ok(ResumedSource::new(whole, ahead, kept))
    }
}

impl OpenSource {
    /// The next piece. `buffer` is taken for `Data` and left alone otherwise. Its content does not matter; one of
    /// exactly `chunk_bytes` capacity is neither grown nor cleared before it is read into.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Piece, SourceError> {
        if self.position == self.identity.size {
            return self.end();
        }
        self.next_before(self.identity.size, buffer)
    }

    /// As [`Self::next`], for a piece that ends at `limit` at the latest: `position < limit <= size`.
    fn next_before(&mut self, limit: u64, buffer: &mut Vec<u8>) -> Result<Piece, SourceError> {
        match self.hole_len()?.min(limit - self.position) {
            0 => self.data(limit, buffer),
            len => Ok(self.hole(len)),
        }
    }

    /// The CRC-32C of so many blocks of `limits::SUM_BLOCK_BYTES`, from the one with number `first` on; all of them are
    /// in the file. `None` when that is not wanted any more.
    pub fn sums_while(
        &self,
        first: u64,
        count: u64,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<Vec<u32>>, SourceError> {
        let size = self.identity.size;
        let mut buffer = Vec::new();
        let mut sums = Vec::new();
        for number in first..first + count {
            if !is_wanted() {
                return Ok(None);
            }
            let offset = number * limits::SUM_BLOCK_BYTES;
            let len =
                usize::try_from(limits::SUM_BLOCK_BYTES.min(size - offset)).expect("a block fits memory");
            if read::read_at(&self.file, offset, len, offset + len as u64 == size, &mut buffer)? != len {
                return Err(SourceError::Changed { what: SIZE });
            }
            sums.push(crc32c(&buffer));
        }
        unchanged(&self.identity, &read::stat(&self.file)?.identity)?;
        Ok(Some(sums))
    }

    /// Reads a part again that `next` gave out, here or when the same origin was open before: the same bytes, by
    /// their CRC, or the file has changed.
    pub fn read_again(
        &self,
        offset: u64,
        len: usize,
        expected_crc: u32,
        mut buffer: Vec<u8>,
    ) -> Result<Vec<u8>, SourceError> {
        let is_inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.identity.size);
        assert!(len > 0 && is_inside, "only what was given out is read again");
        let is_last = offset + len as u64 == self.identity.size;
        if read::read_at(&self.file, offset, len, is_last, &mut buffer)? != len {
            return Err(SourceError::Changed { what: SIZE });
        }
        // protocol.md [STREAM-4]
        if crc32c(&buffer) != expected_crc {
            return Err(SourceError::Changed { what: "its content changed" });
        }
        Ok(buffer)
    }

    /// Reads what is left and gives size and digest of the whole file; `None` when that is not wanted any more.
    pub fn digest_while(
        mut self,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<(u64, [u8; 32])>, SourceError> {
        let mut buffer = Vec::new();
        while is_wanted() {
            match self.next(&mut buffer)? {
                Piece::Data { bytes, .. } => buffer = bytes,
                Piece::Hole { .. } => {}
                Piece::End { size, digest } => return Ok(Some((size, digest))),
            }
        }
        Ok(None)
    }

    /// Bytes of the file, as listed.
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// Bytes given out, from the front.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Length of the hole at `position`, 0 when data stands there; notes where that data ends.
    fn hole_len(&mut self) -> Result<u64, SourceError> {
        let size = self.identity.size;
        if self.position < self.data_end {
            return Ok(0);
        }
        if !self.is_sparse {
            self.data_end = size;
            return Ok(0);
        }
        let data = read::next_data(&self.file, self.position)?.unwrap_or(size).min(size);
        if data > self.position {
            return Ok(data - self.position);
        }
        self.data_end = read::next_hole(&self.file, self.position)?.unwrap_or(size).min(size);
        // A hole that appears at this moment must not stop the reading.
        self.data_end = self.data_end.max(self.position + 1);
        Ok(0)
    }

    fn hole(&mut self, len: u64) -> Piece {
        let len = len.min(limits::HOLE_MAX_BYTES);
        if let Some(hasher) = &mut self.hasher {
            let mut left = len;
            while left > 0 {
                let step = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
                hasher.update(&ZEROS[..step]);
                left -= step as u64;
            }
        }
        let offset = self.position;
        self.position += len;
        Piece::Hole { offset, len }
    }

    fn data(&mut self, limit: u64, buffer: &mut Vec<u8>) -> Result<Piece, SourceError> {
        let left = self.data_end.min(limit) - self.position;
        let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.chunk_bytes);
        let is_last = self.position + want as u64 == self.identity.size;
        if read::read_at(&self.file, self.position, want, is_last, buffer)? != want {
            return Err(SourceError::Changed { what: SIZE });
        }
        let bytes = std::mem::take(buffer);
        let (offset, crc) = (self.position, crc32c(&bytes));
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        self.position += want as u64;
        assert!(self.position <= self.identity.size);
        Ok(Piece::Data { offset, bytes, crc })
    }

    fn end(&self) -> Result<Piece, SourceError> {
        unchanged(&self.identity, &read::stat(&self.file)?.identity)?;
        let hasher = self.hasher.clone().expect("who reads a part does not come to the end");
        Ok(Piece::End { size: self.identity.size, digest: hasher.finish() })
    }

    /// Goes on reading from `position`.
    fn seek(&mut self, position: u64) {
        if self.position != position {
            self.position = position;
            // What stands there has to be looked up.
            self.data_end = 0;
        }
    }
}

impl StreamSource {
    /// Reads from `stream` in chunks of at most `chunk_bytes`.
    pub fn new(stream: OwnedFd, digest: DigestKind, chunk_bytes: usize) -> Self {
        assert!((1..=limits::CHUNK_MAX_BYTES).contains(&chunk_bytes));
        Self { stream, position: 0, hasher: Hasher::new(digest), chunk_bytes }
    }

    /// Reads from standard input. Nothing may have read from it through `std` before.
    pub fn stdin(digest: DigestKind, chunk_bytes: usize) -> io::Result<Self> {
        Ok(Self::new(io::stdin().as_fd().try_clone_to_owned()?, digest, chunk_bytes))
    }

    /// The next piece, never a hole: `Data` is `chunk_bytes` long, except for the last. `buffer` as in
    /// [`OpenSource::next`]. Waits for whoever writes to the stream.
    pub fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Piece, SourceError> {
        if read::read_stream(&self.stream, self.chunk_bytes, buffer)? == 0 {
            return Ok(Piece::End { size: self.position, digest: self.hasher.clone().finish() });
        }
        let bytes = std::mem::take(buffer);
        let (offset, crc) = (self.position, crc32c(&bytes));
        self.hasher.update(&bytes);
        self.position += bytes.len() as u64;
        Ok(Piece::Data { offset, bytes, crc })
    }
}

fn unchanged(before: &Identity, after: &Identity) -> Result<(), SourceError> {
    match before.difference(after) {
        None => Ok(()),
        Some(what) => Err(SourceError::Changed { what }),
    }
}

/// What it means that a listed file cannot be opened: something took its place or that of a directory above it.
fn gone(error: io::Error) -> SourceError {
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    if is(Errno::NOENT) {
        SourceError::Vanished
    } else if is(Errno::LOOP) || is(Errno::NOTDIR) || error.kind() == io::ErrorKind::InvalidInput {
        SourceError::Changed { what: "something else stands under its name" }
    } else {
        SourceError::Io(error)
    }
}

const SIZE: &str = "its size changed";

/// What a hole reads as, one step of hashing it.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests;
