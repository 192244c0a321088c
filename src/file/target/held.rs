//! Keeps what came before its turn in memory, where no file is there to read it back from.
//!
//! Carriers deliver the pieces of a file in any order, and whoever hashes or passes on needs them in one. Nothing here
//! knows how much may be kept: its owner asks for the price of a piece first.

use std::collections::BTreeMap;

use super::receive::Piece;

/// Pieces of one file, by offset.
#[derive(Debug, Default)]
pub(super) struct Held {
    pieces: BTreeMap<u64, Early>,
    /// Memory that all of them take, bytes, about.
    memory_bytes: u64,
}

/// A piece, owned.
#[derive(Debug)]
pub(super) enum Early {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// So many zeros.
    Hole(u64),
}

impl Held {
    /// Keeps a piece that overlaps no other.
    pub(super) fn hold(&mut self, offset: u64, piece: Piece<'_>) {
        self.memory_bytes += price_bytes(piece);
        let early = match piece {
            Piece::Bytes(bytes) => Early::Bytes(bytes.to_vec()),
            Piece::Hole(len) => Early::Hole(len),
        };
        assert!(self.pieces.insert(offset, early).is_none(), "nothing is placed twice");
    }

    /// Gives the piece that begins at `offset`.
    pub(super) fn take(&mut self, offset: u64) -> Option<Early> {
        let early = self.pieces.remove(&offset)?;
        self.memory_bytes -= price_bytes(early.as_piece());
        Some(early)
    }

    /// Memory that is taken, bytes, about.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}

impl Early {
    pub(super) fn as_piece(&self) -> Piece<'_> {
        match self {
            Self::Bytes(bytes) => Piece::Bytes(bytes),
            Self::Hole(len) => Piece::Hole(*len),
        }
    }
}

/// Memory that a piece takes while it is held, bytes, about.
pub(super) fn price_bytes(piece: Piece<'_>) -> u64 {
    match piece {
        Piece::Bytes(bytes) => bytes.len() as u64 + OVERHEAD_BYTES,
        Piece::Hole(_) => OVERHEAD_BYTES,
    }
}

/// What a piece takes besides its bytes, about, so that nobody fills our memory with small ones.
pub(super) const OVERHEAD_BYTES: u64 = 128;
