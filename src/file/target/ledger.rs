//! Keeps count of what was announced and what became of it, and queues what the session is to be told.

use std::collections::VecDeque;

use super::{Event, ProtocolViolation};
use crate::file::failure::Failure;
use crate::file::publish::Verdict;
use crate::limits;
use crate::transfer::raw::Lack;
use crate::wire::message::{Code, Outcome, Span, Want};

/// What came of a session, as its receiver saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries received and published.
    pub done: u64,
    /// Entries that were there already and not compared.
    pub unchanged: u64,
    /// Files that were there already with the same digest.
    pub identical: u64,
    /// Entries kept as they were by the overwrite policy.
    pub kept: u64,
    /// Entries that a dry run would have received.
    pub planned: u64,
    /// Entries that failed.
    pub failed: u64,
    /// Content of the published files, bytes.
    pub bytes: u64,
    /// The failures by name, the first `limits::FAILURES_KEPT`.
    pub failures: Vec<FailedEntry>,
    /// The digest, where exactly one file was announced and its digest was computed.
    pub digest: Option<[u8; 32]>,
    /// Files that the manifest names and the sender did not announce.
    pub missing: u64,
    /// Their names, the first `limits::FAILURES_KEPT`.
    pub missing_names: Vec<Vec<u8>>,
}

/// One entry that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedEntry {
    /// Entry number.
    pub file: u64,
    /// Path from the root; as the peer said it where it is no path.
    pub path: Vec<u8>,
    /// Why.
    pub code: Code,
    /// Why, in words, the escaped name included.
    pub text: String,
}

/// The counts and the queue.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Entries announced; the number of the next one.
    announced: u64,
    /// Entries whose outcome is in the queue or was told.
    told: u64,
    /// Regular files among the announced.
    files: u64,
    /// No entries follow.
    listed: bool,
    /// What waits for its turn in memory, as the session was told, bytes.
    held_bytes: u64,
    /// For the session.
    events: VecDeque<Event>,
    summary: Summary,
}

impl Ledger {
    /// Checks that a batch continues the listing and that not too many entries are open.
    pub(super) fn admit(&self, first: u64, count: usize) -> Result<(), ProtocolViolation> {
        if self.listed {
            return Err(ProtocolViolation::AfterListed);
        }
        if first != self.announced {
            return Err(ProtocolViolation::Numbering { first, expected: self.announced });
        }
        if self.announced - self.told + count as u64 > limits::OPEN_ENTRIES_MAX as u64 {
            return Err(ProtocolViolation::TooManyOpen);
        }
        Ok(())
    }

    /// The number of the next entry.
    pub(super) fn number(&mut self, is_file: bool) -> u64 {
        let number = self.announced;
        self.announced += 1;
        self.files += u64::from(is_file);
        number
    }

    pub(super) fn on_listed(&mut self) {
        self.listed = true;
    }

    /// Whether entry `file` was announced; an error for the session otherwise.
    pub(super) fn check_announced(&self, file: u64) -> Result<(), ProtocolViolation> {
        if file < self.announced { Ok(()) } else { Err(ProtocolViolation::Unknown { file }) }
    }

    pub(super) fn want(&mut self, file: u64, want: Want) {
        self.events.push_back(Event::Want { file, want });
    }

    pub(super) fn resume(&mut self, file: u64, kept: Vec<Span>) {
        self.events.push_back(Event::Resume { file, kept });
    }

    pub(super) fn check(&mut self, file: u64, first: u64, count: u64) {
        self.events.push_back(Event::Check { file, first, count });
    }

    pub(super) fn placed(&mut self, file: u64, offset: u64, len: u64, buffer: Vec<u8>) {
        self.events.push_back(Event::Placed { file, offset, len, buffer });
    }

    /// So much waits for its turn in memory, bytes; told where it differs from what was told.
    pub(super) fn held(&mut self, bytes: u64) {
        if self.held_bytes != bytes {
            self.held_bytes = bytes;
            self.events.push_back(Event::Held { bytes });
        }
    }

    pub(super) fn raw_placed(&mut self, len: u64, discarded: u64) {
        self.events.push_back(Event::RawPlaced { len, discarded });
    }

    pub(super) fn raw_ended(&mut self, file: u64, is_intact: bool, lack: Lack) {
        self.events.push_back(Event::RawEnded { file, is_intact, lack });
    }

    /// The end of an entry: counted, remembered where it failed, and told.
    pub(super) fn tell(&mut self, verdict: Verdict) {
        let Verdict { file, path, size_bytes, digest, outcome } = verdict;
        self.told += 1;
        assert!(self.told <= self.announced, "each entry has one outcome");
        match &outcome {
            Outcome::Done | Outcome::Identical => self.summary.digest = digest.or(self.summary.digest),
            _ => {}
        }
        match &outcome {
            Outcome::Done => {
                self.summary.done += 1;
                self.summary.bytes += size_bytes;
            }
            Outcome::Unchanged => self.summary.unchanged += 1,
            Outcome::Identical => self.summary.identical += 1,
            Outcome::Kept => self.summary.kept += 1,
            Outcome::Planned => self.summary.planned += 1,
            Outcome::Failed { code, text } => {
                self.summary.failed += 1;
                if self.summary.failures.len() < limits::FAILURES_KEPT {
                    let (code, text) = (*code, text.clone());
                    self.summary.failures.push(FailedEntry { file, path, code, text });
                }
            }
        }
        self.events.push_back(Event::Outcome { file, outcome });
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.told == self.announced
    }

    /// The counts so far, without what the manifest misses.
    pub(super) fn summary(&self) -> Summary {
        let mut summary = self.summary.clone();
        if self.files != 1 {
            summary.digest = None;
        }
        summary
    }
}

/// A failure as an outcome.
pub(super) fn failed(failure: Failure) -> Outcome {
    Outcome::Failed { code: failure.code, text: failure.text }
}
