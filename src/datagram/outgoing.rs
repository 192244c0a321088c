//! Cuts chunks into pieces for packets, and keeps each chunk until all of it has arrived.
//!
//! Lost pieces go before new ones. A piece is looked at again when it leaves: what has arrived meanwhile is left out,
//! and what no longer fits a packet is split.

use std::collections::VecDeque;

use super::{ranges::Ranges, sent::Piece};
use crate::wire::packet::{ChunkNumber, Data};

/// The chunks of a flow from the oldest that is not acknowledged to the newest.
#[derive(Debug, Default)]
pub struct Outgoing {
    chunks: VecDeque<Chunk>,
    /// Number of the first of `chunks`.
    first: ChunkNumber,
    /// Number of the chunk that is being cut.
    cutting: ChunkNumber,
    lost: VecDeque<Piece>,
    /// Bytes that were never sent.
    unsent_bytes: u64,
    /// Bytes of chunks that are kept.
    kept_bytes: u64,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Chunk {
    file: u64,
    offset: u64,
    /// Emptied once all of it has arrived.
    bytes: Vec<u8>,
    len: u32,
    /// Bytes that were sent once.
    cut: u32,
    acked: Ranges,
    acked_bytes: u64,
}

impl Outgoing {
    /// Takes a chunk; its number is the count of those before it.
    pub fn push(&mut self, file: u64, offset: u64, bytes: Vec<u8>) -> ChunkNumber {
        let len = u32::try_from(bytes.len()).expect("chunks are small");
        assert!(len > 0);
        self.unsent_bytes += u64::from(len);
        self.kept_bytes += u64::from(len);
        self.chunks.push_back(Chunk {
            file,
            offset,
            bytes,
            len,
            cut: 0,
            acked: Ranges::default(),
            acked_bytes: 0,
        });
        self.next() - 1
    }

    /// One more than the number of the last chunk.
    pub fn next(&self) -> ChunkNumber {
        self.first + self.chunks.len() as u64
    }

    /// Chunks below were sent whole at least once.
    pub fn cut_below(&self) -> ChunkNumber {
        self.cutting
    }

    /// Bytes that were never sent.
    pub fn unsent_bytes(&self) -> u64 {
        self.unsent_bytes
    }

    /// Bytes of chunks that have not arrived whole.
    pub fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Whether there is anything to send that is not on its way.
    pub fn has_content(&mut self) -> bool {
        while let Some(piece) = self.lost.front() {
            if self.missing(*piece).is_some() {
                return true;
            }
            self.lost.pop_front();
        }
        self.unsent_bytes > 0
    }

    /// Appends the next DATA block, in at most `room` bytes; says what is in it. `None` if there is nothing, or it
    /// does not fit.
    pub fn put_next(&mut self, out: &mut Vec<u8>, room: usize) -> Option<Piece> {
        if let Some(sent) = self.put_lost(out, room) {
            return Some(sent);
        }
        if !self.lost.is_empty() {
            return None;
        }
        let number = self.cutting;
        let chunk = self.chunk(number)?;
        let (cut, len) = (chunk.cut, chunk.len);
        let piece = Piece { chunk: number, at: cut, len: len - cut };
        let sent = self.put_piece(out, room, piece)?;
        let chunk = self.chunk_mut(number).expect("it was there");
        chunk.cut += sent.len;
        if chunk.cut == len {
            self.cutting += 1;
        }
        self.unsent_bytes -= u64::from(sent.len);
        Some(sent)
    }

    /// Appends a piece once more, as far as it has not arrived and fits.
    pub fn put_again(&self, out: &mut Vec<u8>, room: usize, piece: Piece) -> Option<Piece> {
        let missing = self.missing(piece)?;
        self.put_piece(out, room, missing)
    }

    /// A piece did not arrive.
    pub fn on_lost(&mut self, piece: Piece) {
        if self.missing(piece).is_some() {
            self.lost.push_back(piece);
        }
    }

    /// A piece arrived; gives how many of its bytes are new.
    pub fn on_acked(&mut self, piece: Piece) -> u64 {
        let Some(chunk) = self.chunk_mut(piece.chunk) else { return 0 };
        if chunk.acked_bytes == u64::from(chunk.len) {
            return 0;
        }
        let at = u64::from(piece.at);
        let new = chunk.acked.insert(at..at + u64::from(piece.len));
        chunk.acked_bytes += new;
        if chunk.acked_bytes == u64::from(chunk.len) {
            let (len, bytes) = (u64::from(chunk.len), std::mem::take(&mut chunk.bytes));
            chunk.acked = Ranges::default();
            self.kept_bytes -= len;
            self.spare.push(bytes);
            while self.chunks.front().is_some_and(|front| front.acked_bytes == u64::from(front.len)) {
                self.chunks.pop_front();
                self.first += 1;
            }
        }
        new
    }

    /// The buffer of a chunk that has arrived.
    pub fn poll_spare(&mut self) -> Option<Vec<u8>> {
        self.spare.pop()
    }

    fn put_lost(&mut self, out: &mut Vec<u8>, room: usize) -> Option<Piece> {
        while let Some(&piece) = self.lost.front() {
            let Some(missing) = self.missing(piece) else {
                self.lost.pop_front();
                continue;
            };
            let sent = self.put_piece(out, room, missing)?;
            let (end, sent_end) = (piece.at + piece.len, sent.at + sent.len);
            if sent_end < end {
                self.lost[0] = Piece { at: sent_end, len: end - sent_end, ..piece };
            } else {
                self.lost.pop_front();
            }
            return Some(sent);
        }
        None
    }

    /// The first part of a piece that has not arrived.
    fn missing(&self, piece: Piece) -> Option<Piece> {
        let chunk = self.chunk(piece.chunk)?;
        if chunk.acked_bytes == u64::from(chunk.len) {
            return None;
        }
        let at = u64::from(piece.at);
        let range = chunk.acked.first_missing(at..at + u64::from(piece.len))?;
        let narrow = |value| u32::try_from(value).expect("within a piece");
        Some(Piece { chunk: piece.chunk, at: narrow(range.start), len: narrow(range.end - range.start) })
    }

    fn put_piece(&self, out: &mut Vec<u8>, room: usize, piece: Piece) -> Option<Piece> {
        let chunk = self.chunk(piece.chunk)?;
        let overhead = Data::overhead(piece.chunk, chunk.file, chunk.offset, chunk.len);
        let len = room.checked_sub(overhead).filter(|&len| len > 0)?.min(piece.len as usize);
        let at = piece.at as usize;
        let bytes = &chunk.bytes[at..at + len];
        let Chunk { file, offset, len: chunk_len, .. } = *chunk;
        Data { chunk: piece.chunk, file, offset, len: chunk_len, at: piece.at, bytes }.put(out);
        Some(Piece { len: u32::try_from(len).expect("within a piece"), ..piece })
    }

    fn chunk(&self, number: ChunkNumber) -> Option<&Chunk> {
        self.chunks.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn chunk_mut(&mut self, number: ChunkNumber) -> Option<&mut Chunk> {
        self.chunks.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::{Block, blocks};

    fn taken(out: &[u8]) -> (u64, u32, Vec<u8>) {
        match blocks(out).next() {
            Some(Ok(Block::Data(data))) => (data.chunk, data.at, data.bytes.to_vec()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_chunk_is_cut_to_the_room_that_there_is_and_kept_until_it_has_arrived() {
        let mut outgoing = Outgoing::default();
        outgoing.push(3, 1000, (0..100).collect());
        let mut pieces = Vec::new();
        let mut bytes = Vec::new();
        while outgoing.has_content() {
            let mut out = Vec::new();
            pieces.push(outgoing.put_next(&mut out, 50).unwrap());
            assert!(out.len() <= 50);
            bytes.extend(taken(&out).2);
        }

        assert_eq!(bytes, (0..100).collect::<Vec<u8>>());
        for piece in pieces {
            assert_eq!(outgoing.poll_spare(), None);
            assert_eq!(outgoing.on_acked(piece), u64::from(piece.len));
        }
        assert_eq!(outgoing.poll_spare().map(|bytes| bytes.len()), Some(100));
        assert_eq!(outgoing.kept_bytes(), 0);
    }

    #[test]
    fn what_was_lost_goes_first_and_without_what_has_arrived_meanwhile() {
        let mut outgoing = Outgoing::default();
        outgoing.push(0, 0, vec![1; 100]);
        outgoing.push(0, 100, vec![2; 10]);
        let piece = outgoing.put_next(&mut Vec::new(), 1000).unwrap();
        outgoing.on_lost(piece);
        outgoing.on_acked(Piece { at: 0, len: 40, ..piece });

        let again = outgoing.put_next(&mut Vec::new(), 1000).unwrap();

        assert_eq!(again, Piece { chunk: 0, at: 40, len: 60 });
        assert_eq!(outgoing.put_next(&mut Vec::new(), 1000).unwrap().chunk, 1);
        assert!(!outgoing.has_content());
    }

    #[test]
    fn a_lost_piece_is_split_where_packets_have_become_smaller() {
        let mut outgoing = Outgoing::default();
        outgoing.push(0, 0, vec![1; 100]);
        let piece = outgoing.put_next(&mut Vec::new(), 1000).unwrap();
        outgoing.on_lost(piece);

        let first = outgoing.put_next(&mut Vec::new(), 60).unwrap();
        let second = outgoing.put_next(&mut Vec::new(), 1000).unwrap();

        assert_eq!((first.at, second.at + second.len), (0, 100));
        assert_eq!(first.len, second.at);
    }

    #[test]
    fn small_chunks_fill_what_is_left_of_a_packet() {
        let mut outgoing = Outgoing::default();
        for file in 0..3 {
            outgoing.push(file, 0, vec![0; 10]);
        }
        let mut out = Vec::new();

        while outgoing.put_next(&mut out, 1000).is_some() {}

        assert_eq!(blocks(&out).count(), 3);
    }
}
