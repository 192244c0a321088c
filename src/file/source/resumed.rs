//! Reads what a receiver lacks of a file, and hashes all of it.
//!
//! What is lacked goes out first, and at once; what the receiver has is read behind it, or meanwhile when nothing more
//! may be handed out, since the digest is over the whole file in its order.

use std::collections::VecDeque;
use std::ops::Range;

use super::{OpenSource, Piece, SourceError};
use crate::wire::message::Span;

/// A file being read for a receiver that has parts of it.
pub struct ResumedSource {
    /// Reads and hashes in the file's order.
    whole: OpenSource,
    /// Reads what is lacked ahead of that.
    ahead: OpenSource,
    /// What is lacked and was not handed out, ascending.
    lacked: VecDeque<Range<u64>>,
}

impl ResumedSource {
    /// Two readers of one file; `kept` ascends, and is inside the file.
    pub(super) fn new(whole: OpenSource, ahead: OpenSource, kept: &[Span]) -> Self {
        let starts = std::iter::once(0).chain(kept.iter().map(|span| span.offset + span.len));
        let ends = kept.iter().map(|span| span.offset).chain(std::iter::once(whole.size()));
        let lacked = starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty());
        Self { lacked: lacked.collect(), whole, ahead }
    }

    /// The next piece of what is lacked; `None` when all of it was handed out. `buffer` as in [`OpenSource::next`].
    pub fn next_lacked(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Piece>, SourceError> {
        let Some(range) = self.lacked.front_mut() else { return Ok(None) };
        // Where the hashing has come just here, one reading does for both.
        let reader = if self.whole.position() == range.start { &mut self.whole } else { &mut self.ahead };
        reader.seek(range.start);
        let piece = reader.next_before(range.end, buffer)?;
        range.start = reader.position();
        if range.is_empty() {
            self.lacked.pop_front();
        }
        Ok(Some(piece))
    }

    /// Hashes a part, if that is of use before more is handed out; whether it was. `buffer` is filled and emptied.
    pub fn hash_ahead(&mut self, buffer: &mut Vec<u8>) -> Result<bool, SourceError> {
        let limit = self.lacked.front().map_or(self.whole.size(), |range| range.start);
        if self.whole.position() == limit {
            return Ok(false);
        }
        if let Piece::Data { bytes, .. } = self.whole.next_before(limit, buffer)? {
            *buffer = bytes;
        }
        Ok(true)
    }

    /// The end of the file, once everything was handed out and hashed.
    pub fn end(&mut self) -> Result<Piece, SourceError> {
        assert!(self.lacked.is_empty() && self.whole.position() == self.whole.size());
        self.whole.next(&mut Vec::new())
    }
}
