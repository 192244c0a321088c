//! Draws what a power loss leaves.
//!
//! A disk keeps what was synced and promises nothing of the rest: each change may have reached it or not, in any order
//! across files and directories, and a page of 4 KiB may be torn between its sectors.

use crate::file::disk::chance::Chance;

/// What becomes of the bytes, modes and times that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are as they were at the last sync.
    Lost,
    /// They are as they were last.
    Kept,
    /// Each is as it was at some moment since.
    Any,
}

/// What becomes of the names that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamesFate {
    /// They are as they were at the last sync.
    Lost,
    /// They are as they were last.
    Kept,
    /// They are as they were before this moment, on the whole disk: a file system with a journal.
    Before(u64),
    /// Each is as it was at some moment since.
    Any,
}

/// What one power loss does.
#[derive(Debug)]
pub(super) struct PowerLoss {
    pub(super) content: Fate,
    pub(super) names: NamesFate,
    pub(super) chance: Chance,
}

impl PowerLoss {
    /// The power loss of this seed on a disk that has lived until `moment`. The seeds come in turns of five. Of what was
    /// not synced there is left: nothing; the names alone; the bytes alone; names up to some moment; anything.
    pub(super) fn of(seed: u64, moment: u64) -> Self {
        let mut chance = Chance::new(seed);
        let (content, names) = match seed % 5 {
            0 => (Fate::Lost, NamesFate::Lost),
            1 => (Fate::Lost, NamesFate::Kept),
            2 => (Fate::Kept, NamesFate::Lost),
            3 => (Fate::Any, NamesFate::Before(chance.next() % (moment + 1))),
            _ => (Fate::Any, NamesFate::Any),
        };
        Self { content, names, chance }
    }

    /// Whether the mode and time of the next file are as they were last.
    pub(super) fn keeps_attributes(&mut self) -> bool {
        match self.content {
            Fate::Lost => false,
            Fate::Kept => true,
            Fate::Any => self.chance.below(2) == 1,
        }
    }
}
