//! Finds what is wrong with a file whose digest differs, so that only that is sent again.
//!
//! ```text
//!   Wanted ── digest differs ──► Repairing: CHECK ─► SUMS, read back and compared ─┐
//!     ▲                              ▲                 │ blocks are left ──────────┘
//!     └── RESUME, with what is right ─┴────────────────┘ no blocks are left
//! ```
//!
//! The sums say where, and no more than that: the digest judges again behind it.

use std::collections::VecDeque;
use std::ops::Range;

use super::ProtocolViolation;
use super::ledger::{Ledger, failed};
use super::receive::{Receiving, window};
use super::tree::{Stage, Tree};
use crate::file::failure::Failure;
use crate::file::part::Part;
use crate::integrity::crc32c::Crc32c;
use crate::limits;
use crate::transfer::cursor::DigestCursor;
use crate::wire::message::{Code, Span};

/// A file of which something is wrong.
#[derive(Debug)]
pub(super) struct Repair {
    pub(super) receiving: Box<Receiving>,
    /// Bytes of the whole file.
    size: u64,
    /// The sender's sums of the blocks from `next` on, as far as they have come.
    sums: VecDeque<u32>,
    /// Number of the first block that was not compared.
    next: u64,
    /// Blocks that differ, as ranges of bytes.
    wrong: Vec<Range<u64>>,
}

impl Tree {
    /// The file has other bytes than the sender: asks where, unless it was asked often enough. protocol.md [REPAIR-1]
    pub(super) fn begin_repair(&mut self, ledger: &mut Ledger, file: u64, size: u64, what: &str) {
        let can_ask = self.resume.is_some();
        let incoming = self.open.get_mut(&file).expect("the caller looked it up");
        let is_file = incoming.size.is_some();
        let stage = std::mem::replace(&mut incoming.stage, Stage::Waiting);
        let Stage::Wanted(Some(mut receiving)) = stage else {
            unreachable!("the caller has seen that it is being received");
        };
        if !can_ask || !is_file || size == 0 || receiving.repairs == limits::REPAIRS_MAX {
            let tries = match receiving.repairs {
                0 => String::new(),
                tries => format!(", also after {tries} repairs"),
            };
            if let Some(part) = receiving.part.take() {
                part.discard();
            }
            let text = format!("{what}{tries}; send it again");
            let failure = Failure::new(Code::Integrity, incoming.path.as_bytes(), &text);
            self.settle_open(ledger, file, failed(failure), None);
            return;
        }
        receiving.repairs += 1;
        // What is compared comes from the disk. A sync that fails is told once: later ones would say nothing of the loss.
        if let Some(Err(errno)) = receiving.part.as_mut().map(Part::sync_and_drop_cache) {
            let failure = Failure::of(errno, "bring it safely to the disk", incoming.path.as_bytes());
            drop(receiving);
            self.settle_open(ledger, file, failed(failure), None);
            return;
        }
        tracing::info!(file, what, tries = receiving.repairs, "a file is wrong and being repaired");
        let repair = Repair { receiving, size, sums: VecDeque::new(), next: 0, wrong: Vec::new() };
        ledger.check(file, 0, repair.ask());
        incoming.stage = Stage::Repairing(Box::new(repair));
    }

    /// The sender's sums.
    pub(super) fn on_sums(&mut self, file: u64, first: u64, sums: Vec<u32>) -> Result<(), ProtocolViolation> {
        let Some(incoming) = self.open.get_mut(&file) else { return Ok(()) };
        let Stage::Repairing(repair) = &mut incoming.stage else {
            return Err(ProtocolViolation::Unwanted { file });
        };
        assert!(repair.sums.is_empty() && first == repair.next, "the session asks for one answer at a time");
        repair.sums = sums.into();
        self.lagging.push_back(file);
        Ok(())
    }

    /// Compares a few blocks; whether more are at hand.
    pub(super) fn compare_blocks(&mut self, ledger: &mut Ledger, file: u64) -> bool {
        let incoming = self.open.get_mut(&file).expect("the caller looked it up");
        let Stage::Repairing(repair) = &mut incoming.stage else {
            unreachable!("the caller has seen that it is being repaired");
        };
        for _ in 0..BLOCKS_AT_ONCE {
            if !repair.compare_next(&mut self.scratch) {
                break;
            }
        }
        if repair.has_sums() {
            return true;
        }
        match repair.ask() {
            0 => self.end_repair(ledger, file),
            count => ledger.check(file, repair.next, count),
        }
        false
    }

    /// All blocks were compared: asks for those that differ, and begins the proof anew.
    fn end_repair(&mut self, ledger: &mut Ledger, file: u64) {
        let kind = self.rules.digest;
        let incoming = self.open.get_mut(&file).expect("the caller looked it up");
        let Stage::Repairing(repair) = std::mem::replace(&mut incoming.stage, Stage::Waiting) else {
            unreachable!("the caller has seen that it is being repaired");
        };
        let Repair { mut receiving, size, wrong, .. } = *repair;
        for range in &wrong {
            receiving.placement.uncover(range.clone());
        }
        receiving.placement = receiving.placement.within(size, limits::RESUME_SPANS_MAX);
        receiving.cursor = DigestCursor::new(kind);
        receiving.has_old_bytes = true;
        receiving.end = None;
        receiving.is_lagging = false;
        let part = receiving.part.as_mut().expect("a file whose bytes were compared has a part");
        // A journal that cannot say so still claims what the digest will refuse again.
        let _ = part.forget(&wrong);
        let kept = spans(receiving.placement.ranges());
        incoming.stage = Stage::Wanted(Some(receiving));
        ledger.resume(file, kept);
        self.note_lag(file);
    }
}

impl Repair {
    /// Whether there is something to compare with.
    pub(super) fn has_sums(&self) -> bool {
        !self.sums.is_empty()
    }

    /// How many sums to ask for next; none when all blocks were compared.
    fn ask(&self) -> u64 {
        (self.size.div_ceil(limits::SUM_BLOCK_BYTES) - self.next).min(limits::SUMS_PER_FRAME as u64)
    }

    /// Compares the next block, if its sum is there. What cannot be read is wrong.
    fn compare_next(&mut self, scratch: &mut Vec<u8>) -> bool {
        let Some(sum) = self.sums.pop_front() else { return false };
        let start = self.next * limits::SUM_BLOCK_BYTES;
        let range = start..self.size.min(start + limits::SUM_BLOCK_BYTES);
        self.next += 1;
        if self.sum_of(range.clone(), scratch) != Some(sum) {
            match self.wrong.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => self.wrong.push(range),
            }
        }
        true
    }

    fn sum_of(&mut self, range: Range<u64>, scratch: &mut Vec<u8>) -> Option<u32> {
        let part = self.receiving.part.as_mut()?;
        let mut crc = Crc32c::new();
        let mut at = range.start;
        while at < range.end {
            let buffer = window(scratch, range.end - at);
            part.read_back(at, buffer).ok()?;
            crc.update(buffer);
            at += buffer.len() as u64;
        }
        Some(crc.finish())
    }
}

/// Ranges as a message says them.
pub(super) fn spans(ranges: &[Range<u64>]) -> Vec<Span> {
    ranges.iter().map(|range| Span { offset: range.start, len: range.end - range.start }).collect()
}

/// Blocks that are compared before anything else gets its turn.
const BLOCKS_AT_ONCE: usize = 8;
