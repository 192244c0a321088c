//! What is different when content goes over a raw flow: nobody waits for credit, nothing is sent again, and a file ends
//! with what came of it.
//!
//! ```text
//!   Sender                                                     Receiver
//!   chunks ── poll_raw ──► raw flow ──── UDP, or lost ────► on_raw_pieces ──► Job::RawPiece ──► target
//!   FILE_END waits for `on_raw_sent` ─── TCP ─────────────► complete? else after a grace: Job::RawEnd
//!   RAW_END, when all have their outcome ─ TCP ───────────► after a grace: RAW_REPORT, then RECEIPT
//! ```
//!
//! The sender keeps no more of it than its queue; the receiver's bound is the window that it would grant as credit: what
//! comes beyond is left out and counted.

use std::collections::VecDeque;

use super::Carrier;
use crate::{
    limits,
    wire::{
        frame::FileEnd,
        message::{RawRange, RawReport},
    },
};

/// Content that leaves over a raw flow.
#[derive(Debug, PartialEq, Eq)]
pub struct RawChunk {
    /// Entry number.
    pub file: u64,
    /// Where the bytes belong.
    pub offset: u64,
    /// The bytes; none where nobody wants them any more.
    pub bytes: Vec<u8>,
    /// Where they end among all content that was queued for the flow, bytes.
    pub to: u64,
}

/// Content that came over a raw flow.
#[derive(Debug, PartialEq, Eq)]
pub struct RawPiece {
    /// Entry number.
    pub file: u64,
    /// Where the bytes belong; with them it ends within `limits::FILE_MAX_BYTES`.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// In how many datagrams they came.
    pub datagrams: u64,
}

/// What of a file did not come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lack {
    /// Bytes.
    pub bytes: u64,
    /// First byte and length of the first ranges; at most `limits::RECORDS_PER_FRAME`.
    pub ranges: Vec<(u64, u64)>,
    /// Further ranges.
    pub more_ranges: u64,
}

/// The sending side's part.
#[derive(Debug)]
pub(super) struct RawOut {
    pub(super) carrier: Carrier,
    /// Content that was queued and that left the queue, bytes; what nobody wants any more is in both.
    pub(super) queued: u64,
    pub(super) taken: u64,
    /// Content handed to the flow, bytes.
    pub(super) sent_bytes: u64,
    /// All before this has left, bytes as `queued` counts them.
    sent_to: u64,
    /// Ends of files whose content has not left, with where it ends.
    ends: VecDeque<(u64, FileEnd)>,
    /// What RAW_END told.
    pub(super) packets: Option<u64>,
    /// What the receiver answered.
    pub(super) report: Option<RawReport>,
}

impl RawOut {
    pub(super) fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            queued: 0,
            taken: 0,
            sent_bytes: 0,
            sent_to: 0,
            ends: VecDeque::new(),
            packets: None,
            report: None,
        }
    }

    /// A file was read to its end.
    pub(super) fn on_end(&mut self, end: FileEnd) {
        self.ends.push_back((self.queued, end));
    }

    /// All before `to` has left.
    pub(super) fn on_sent(&mut self, to: u64) {
        self.sent_to = self.sent_to.max(to);
    }

    /// The end of the next file of which all content has left. protocol.md [RAW-4]
    pub(super) fn poll_end(&mut self) -> Option<FileEnd> {
        let (_, end) = self.ends.pop_front_if(|(at, _)| *at <= self.sent_to)?;
        Some(end)
    }
}

/// The receiving side's part.
#[derive(Debug)]
pub(super) struct RawIn {
    pub(super) carrier: Carrier,
    /// Content handed to the target and not yet worked off, bytes.
    pub(super) unplaced: u64,
    /// Content that came, bytes.
    pub(super) received: u64,
    /// Datagrams whose content was left out.
    pub(super) discarded: u64,
    /// Files that ended before all of them had come, for who gives them a grace.
    pub(super) ended: Vec<u64>,
    /// What RAW_END told.
    pub(super) packets: Option<u64>,
    /// What was answered.
    pub(super) report: Option<RawReport>,
    intact_files: u64,
    damaged_files: u64,
    missing_bytes: u64,
    missing: Vec<RawRange>,
    more_ranges: u64,
}

impl RawIn {
    pub(super) fn new(carrier: Carrier) -> Self {
        Self {
            carrier,
            unplaced: 0,
            received: 0,
            discarded: 0,
            ended: Vec::new(),
            packets: None,
            report: None,
            intact_files: 0,
            damaged_files: 0,
            missing_bytes: 0,
            missing: Vec::new(),
            more_ranges: 0,
        }
    }

    /// A file came to its end, whole or not.
    pub(super) fn on_file(&mut self, file: u64, is_intact: bool, lack: &Lack) {
        self.intact_files += u64::from(is_intact);
        self.damaged_files += u64::from(!is_intact);
        self.missing_bytes += lack.bytes;
        let room = limits::RECORDS_PER_FRAME - self.missing.len();
        let ranges = lack.ranges.iter().take(room).map(|&(offset, len)| RawRange { file, offset, len });
        self.missing.extend(ranges);
        self.more_ranges += lack.more_ranges + lack.ranges.len().saturating_sub(room) as u64;
    }

    /// Completes what the flow has counted.
    pub(super) fn complete(&self, counts: &RawReport) -> RawReport {
        RawReport {
            discarded: self.discarded,
            intact_files: self.intact_files,
            damaged_files: self.damaged_files,
            missing_bytes: self.missing_bytes,
            missing: self.missing.clone(),
            more_ranges: self.more_ranges,
            ..counts.clone()
        }
    }
}
