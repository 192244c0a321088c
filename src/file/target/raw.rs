//! Content over a raw flow: some of it may never come, and what came is kept beside the name.

use super::ProtocolViolation;
use super::ledger::{Ledger, failed};
use super::receive::Piece;
use super::tree::{Stage, Tree};
use crate::file::failure::{Failure, reason, shown};
use crate::limits;
use crate::transfer::placement::{PlaceError, Placement};
use crate::transfer::raw::{Lack, RawPiece};
use crate::wire::message::Code;

impl Tree {
    /// Places what came, unless it makes the file too scattered.
    pub(super) fn on_raw_piece(
        &mut self,
        ledger: &mut Ledger,
        piece: &RawPiece,
    ) -> Result<(), ProtocolViolation> {
        let RawPiece { file, offset, ref bytes, datagrams } = *piece;
        let kind = self.rules.digest;
        let len = bytes.len() as u64;
        let mut discarded = 0;
        if let Some(incoming) = self.wanted(file)? {
            match incoming.receiving(kind).placement.place_raw(offset, len) {
                Ok(()) => {
                    if let Err(failure) = self.store(file, offset, Piece::Bytes(bytes)) {
                        self.settle_open(ledger, file, failed(failure), None);
                    }
                }
                Err(PlaceError::TooScattered) => discarded = datagrams,
                Err(why) => return Err(ProtocolViolation::Placement { file, why }),
            }
        }
        ledger.raw_placed(len, discarded);
        Ok(())
    }

    /// Nothing more of the file comes: proven, or kept as what it is. protocol.md [RAW-6]
    pub(super) fn on_raw_end(
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
        let Some(lack) = lack_of(&receiving.placement, size) else {
            let placed = receiving.placement.placed_bytes();
            return Err(ProtocolViolation::Incomplete { file, size, placed });
        };
        if lack.bytes == 0
            && let Err(failure) = self.catch_up(file, u64::MAX)
        {
            ledger.raw_ended(file, false, lack);
            self.settle_open(ledger, file, failed(failure), None);
            return Ok(());
        }
        let receiving = self.open.get_mut(&file).expect("it was wanted above").receiving(kind);
        let is_intact = lack.bytes == 0 && receiving.cursor.clone().finish(size) == Some(digest);
        if !is_intact {
            let failure = self.keep_damaged(file, size, &lack);
            ledger.raw_ended(file, false, lack);
            self.settle_open(ledger, file, failed(failure), None);
            return Ok(());
        }
        ledger.raw_ended(file, true, lack);
        self.complete(ledger, file, size, digest);
        Ok(())
    }

    /// Leaves what came under a name that says what it is, as long as the file, what is missing as zeros. A file of which
    /// nothing came leaves nothing.
    fn keep_damaged(&mut self, file: u64, size: u64, lack: &Lack) -> Failure {
        let incoming = self.open.get_mut(&file).expect("the caller looked it up");
        let name = incoming.path.split_last().1;
        let part = match &mut incoming.stage {
            Stage::Wanted(Some(receiving)) => receiving.part.take(),
            _ => None,
        };
        let kept = match part {
            None => "nothing of it came".to_owned(),
            Some(mut part) => {
                let kept = part.set_len(size).and_then(|()| part.keep_damaged(name, incoming.mode));
                match kept {
                    Ok(kept) => format!("what came is kept as {}", shown(&kept)),
                    Err(errno) => format!("what came cannot be kept: {}", reason(errno)),
                }
            }
        };
        describe(incoming.path.as_bytes(), size, lack, &kept)
    }
}

/// What is missing of a file of `size` bytes; `None` if something lies beyond.
pub(super) fn lack_of(placement: &Placement, size: u64) -> Option<Lack> {
    let missing = placement.missing(size)?;
    let mut lack = Lack { bytes: size - placement.placed_bytes(), ..Lack::default() };
    for range in missing {
        match lack.ranges.len() < limits::RECORDS_PER_FRAME {
            true => lack.ranges.push((range.start, range.end - range.start)),
            false => lack.more_ranges += 1,
        }
    }
    Some(lack)
}

/// What a person is told of a file that lacks something or is damaged, with what becomes of the rest.
pub(super) fn describe(path: &[u8], size: u64, lack: &Lack, rest: &str) -> Failure {
    let ranges = lack.ranges.len() as u64 + lack.more_ranges;
    let text = match lack.bytes {
        0 => format!("its bytes do not have the digest that the sender computed; {rest}"),
        bytes if ranges == 1 => format!("{bytes} of {size} bytes are missing, in one piece; {rest}"),
        bytes => format!("{bytes} of {size} bytes are missing, in {ranges} pieces; {rest}"),
    };
    Failure::new(Code::Integrity, path, &text)
}
