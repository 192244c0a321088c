//! The sending side's disk: files whose bytes follow from a seed, listed and read in memory at a rate.
//!
//! It couples a [`Sender`] as the program's lister and reader do: entries in batches, one file after the other, each
//! piece only while there is room, what was lost read again in between.

use std::{collections::BTreeMap, time::Duration};

use super::super::chance::Chance;
use crate::{
    integrity::{crc32c::crc32c, digest::Hasher},
    limits,
    transfer::{Piece, ReadJob, Sender},
    wire::{
        frame::{FileEnd, Placed},
        message::{Code, DigestKind, Entry, Kind, Listed, Mtime, Span, Sums},
    },
};

/// One entry.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Its bytes follow from this.
    pub seed: u64,
    /// Bytes.
    pub size: u64,
    /// What it is.
    pub form: Form,
    /// A range that was never written; empty where there is none.
    pub hole: (u64, u64),
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A file of known size.
    File,
    /// Standard input.
    Stream,
    /// A directory.
    Dir,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// At this time it gets other bytes.
    Changes(Duration),
    /// It cannot be read from here on.
    CannotBeRead(u64),
    /// Something of this name is there already, with the same bytes or not.
    IsThere {
        /// It has the same bytes.
        is_same: bool,
    },
}

impl FileSpec {
    /// An entry of this size.
    pub fn new(chance: &mut Chance, size: u64) -> Self {
        let form = match chance.below(20) {
            0 if size > 0 => Form::Stream,
            1 => Form::Dir,
            _ => Form::File,
        };
        let size = if form == Form::Dir { 0 } else { size };
        let hole = if form == Form::File && size > 10_000 && chance.percent(25) {
            let at = chance.below(size / 2);
            (at, chance.between(1, size - at))
        } else {
            (0, 0)
        };
        Self { seed: chance.next(), size, form, hole, trouble: None }
    }

    /// A file of this size with nothing special about it.
    pub fn plain(chance: &mut Chance, size: u64) -> Self {
        Self { seed: chance.next(), size, form: Form::File, hole: (0, 0), trouble: None }
    }

    /// The entry that announces it.
    pub fn entry(&self, number: usize) -> Entry {
        let kind = match self.form {
            Form::File => Kind::File { size: self.size, sparse: self.hole.1 > 0, linked: false },
            Form::Stream => Kind::Stream,
            Form::Dir => Kind::Dir,
        };
        let mtime = Mtime { secs: 0, nanos: 0 };
        Entry { source: 0, name: Self::name(number), mode: 0o644, mtime, kind }
    }

    /// Its bytes in a range, as they stand at this time.
    pub fn bytes(&self, now: Duration, offset: u64, len: usize) -> Vec<u8> {
        let has_changed = matches!(self.trouble, Some(Trouble::Changes(at)) if at <= now);
        let seed = self.seed ^ u64::from(has_changed);
        let first = offset / 8;
        let skip = usize::try_from(offset % 8).expect("below 8");
        let words = first..=(offset + len as u64) / 8;
        let mut bytes: Vec<u8> = words
            .flat_map(|word| (word ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes())
            .skip(skip)
            .take(len)
            .collect();
        let (hole, end) = (self.hole.0, self.hole.0 + self.hole.1);
        for (at, byte) in (offset..).zip(&mut bytes) {
            if (hole..end).contains(&at) {
                *byte = 0;
            }
        }
        bytes
    }

    /// All of its bytes before anything changes.
    pub fn content(&self) -> Vec<u8> {
        self.bytes(Duration::ZERO, 0, usize::try_from(self.size).expect("a small file"))
    }

    /// Whether the source may give it up.
    pub fn may_fail(&self) -> bool {
        matches!(self.trouble, Some(Trouble::Changes(_) | Trouble::CannotBeRead(_)))
    }

    /// As [`Self::entry`] names it.
    pub fn name(number: usize) -> Vec<u8> {
        format!("entry {number}").into_bytes()
    }
}

/// The lister and the reader.
#[derive(Debug)]
pub struct Source {
    files: Vec<FileSpec>,
    chunk_bytes: usize,
    rate: u64,
    listed: usize,
    is_listed: bool,
    busy_until: Duration,
    reading: Option<Reading>,
    /// A piece that was read and finds no room.
    ready: Option<Piece>,
    /// Digests of what was read, by file.
    digests: BTreeMap<u64, [u8; 32]>,
}

/// A file that is being read.
#[derive(Debug)]
struct Reading {
    file: u64,
    at: u64,
    hasher: Hasher,
    /// What is not sent.
    kept: Vec<Span>,
}

/// Entries of the first batch; later ones have what a batch may have.
const FIRST_BATCH: usize = 4;
const DIGEST: DigestKind = DigestKind::Blake3;

impl Source {
    /// Nothing is listed yet.
    pub fn new(files: Vec<FileSpec>, chunk_bytes: usize, rate: u64) -> Self {
        Self {
            files,
            chunk_bytes,
            rate,
            listed: 0,
            is_listed: false,
            busy_until: Duration::ZERO,
            reading: None,
            ready: None,
            digests: BTreeMap::new(),
        }
    }

    /// Gives nothing until then.
    pub fn stall(&mut self, until: Duration) {
        self.busy_until = self.busy_until.max(until);
    }

    /// The digest of what was read of a file, once it was read to its end.
    pub fn digest(&self, file: u64) -> Option<[u8; 32]> {
        self.digests.get(&file).copied()
    }

    /// When it has something to do, if nothing else happens.
    pub fn poll_timeout(&self) -> Duration {
        self.busy_until
    }

    /// Does as much as there is time and room for; whether it did anything.
    pub fn work(&mut self, now: Duration, sender: &mut Sender<usize>) -> bool {
        let mut has_worked = self.list(sender);
        while self.busy_until <= now && self.step(now, sender) {
            has_worked = true;
        }
        has_worked
    }

    fn list(&mut self, sender: &mut Sender<usize>) -> bool {
        let mut has_worked = false;
        while !self.is_listed {
            let most = if self.listed == 0 { FIRST_BATCH } else { limits::ENTRIES_PER_BATCH };
            let count = sender.room_for_entries().min(most).min(self.files.len() - self.listed);
            if count == 0 && self.listed < self.files.len() {
                break;
            }
            let batch = (self.listed..self.listed + count).map(|at| (self.files[at].entry(at), at)).collect();
            sender.announce(batch);
            self.listed += count;
            if self.listed == self.files.len() {
                let entries = self.listed as u64;
                sender.on_listed(Listed { entries, ..Listed::default() });
                self.is_listed = true;
            }
            has_worked = true;
        }
        has_worked
    }

    /// One piece.
    fn step(&mut self, now: Duration, sender: &mut Sender<usize>) -> bool {
        if let Some(piece) = self.ready.take() {
            if !sender.has_room() {
                self.ready = Some(piece);
                return false;
            }
            sender.on_piece(piece);
            return true;
        }
        if let Some(mut reading) = self.reading.take() {
            if sender.is_open(reading.file) {
                let piece = self.next_piece(now, &mut reading);
                if !matches!(piece, Piece::End(_) | Piece::Failed { .. }) {
                    self.reading = Some(reading);
                }
                self.ready = Some(piece);
            }
            return true;
        }
        match sender.poll_job() {
            None => return false,
            Some(ReadJob::Content { file, kept, .. }) => {
                self.reading = Some(Reading { file, at: 0, hasher: Hasher::new(DIGEST), kept });
            }
            Some(ReadJob::Digest { file, source }) => {
                let spec = &self.files[source];
                let all = spec.bytes(now, 0, usize::try_from(spec.size).expect("a small file"));
                let digest = hash(&all);
                self.spend(now, all.len());
                sender.on_piece(Piece::Digest(FileEnd { file, size: all.len() as u64, digest }));
            }
            Some(ReadJob::Sums { file, source, first, count }) => {
                let spec = &self.files[source];
                let all = spec.bytes(now, 0, usize::try_from(spec.size).expect("a small file"));
                self.spend(now, all.len());
                let blocks = all.chunks(usize::try_from(limits::SUM_BLOCK_BYTES).expect("a block"));
                let from = usize::try_from(first).expect("a block of a small file");
                let sums = blocks.skip(from).map(crc32c).collect::<Vec<_>>();
                assert_eq!(sums.len() as u64, count, "worlds have small files");
                sender.on_piece(Piece::Sums(Sums { file, first, sums }));
            }
            Some(ReadJob::Again { file, source, offset, len, crc }) => {
                let bytes = self.files[source].bytes(now, offset, len);
                self.spend(now, len);
                // protocol.md [STREAM-4]
                self.ready = Some(if crc32c(&bytes) == crc {
                    Piece::Data { file, offset, bytes, crc, keep: false }
                } else {
                    Piece::Failed { file, code: Code::SourceChanged, text: "it changed".to_owned() }
                });
            }
        }
        true
    }

    fn next_piece(&mut self, now: Duration, reading: &mut Reading) -> Piece {
        let (file, at) = (reading.file, reading.at);
        let spec = self.files[usize::try_from(file).expect("an index")].clone();
        if matches!(spec.trouble, Some(Trouble::CannotBeRead(from)) if from <= at) {
            return Piece::Failed { file, code: Code::File, text: "it cannot be read".to_owned() };
        }
        if at == spec.size {
            let digest = std::mem::replace(&mut reading.hasher, Hasher::new(DIGEST)).finish();
            self.digests.insert(file, digest);
            return Piece::End(FileEnd { file, size: spec.size, digest });
        }
        if let Some(kept) = reading.kept.iter().find(|kept| kept.offset == at) {
            let len = usize::try_from(kept.len).expect("a small file");
            reading.at += kept.len;
            reading.hasher.update(&spec.bytes(now, at, len));
            self.spend(now, len);
            return self.next_piece(now, reading);
        }
        let limit =
            reading.kept.iter().map(|kept| kept.offset).find(|&start| start > at).unwrap_or(spec.size);
        let (hole, hole_end) = (spec.hole.0, spec.hole.0 + spec.hole.1);
        if (hole..hole_end).contains(&at) {
            let len = (hole_end.min(limit) - at).min(limits::HOLE_MAX_BYTES);
            reading.at += len;
            reading.hasher.zeros(len);
            return Piece::Hole(Placed { file, offset: at, len });
        }
        let until = if at < hole { hole.min(limit) } else { limit };
        let len = usize::try_from(until - at).expect("a small file").min(self.chunk_bytes);
        let bytes = spec.bytes(now, at, len);
        self.spend(now, len);
        reading.at += len as u64;
        reading.hasher.update(&bytes);
        let crc = crc32c(&bytes);
        Piece::Data { file, offset: at, bytes, crc, keep: spec.form == Form::Stream }
    }

    fn spend(&mut self, now: Duration, bytes: usize) {
        let takes = Duration::from_nanos(1_000_000_000 * bytes as u64 / self.rate);
        self.busy_until = self.busy_until.max(now) + takes;
    }
}

/// The digest of these bytes.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new(DIGEST);
    hasher.update(bytes);
    hasher.finish()
}
