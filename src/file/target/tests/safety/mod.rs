//! A session on a disk in memory, for power losses and faults at every one of its calls.
//!
//! Goal: a live name never holds anything but what was there before or what is proven, and what was told to be done
//! is done for good. Method: the session is run once to count its calls on the disk, and then again for each of them,
//! which goes wrong. What is left is compared with what was there, with what the sender has, and with what was told.

mod faults;
mod journal;
mod power;

use std::collections::HashMap;

use super::{MTIME, config, digest, entry, file_entry, outcomes};
use crate::file::disk::memory::Memory;
use crate::file::disk::{FileKind, Handle, Stat, write};
use crate::file::path::TEMP_PREFIX;
use crate::file::target::{Event, Job, Place, Target, TargetConfig, TargetError};
use crate::wire::message::{Entry, Kind, Outcome, Overwrite, Want};

/// What is sent, and how it is received.
struct Scene {
    listing: Vec<Entry>,
    change: fn(&mut TargetConfig),
    /// Makes the disk one of a certain kind.
    prepare: fn(&Memory),
}

/// What was told of each entry.
type Told = Vec<(u64, Outcome)>;

impl Scene {
    /// One of everything; [`REPLACED`] is there before, and is replaced.
    fn of_everything() -> Self {
        let listing = vec![
            file_entry(REPLACED, 9000),
            file_entry("small", 10),
            entry("d", Kind::Dir),
            entry("d/a", Kind::File { size: 5000, sparse: false, linked: true }),
            entry("d/e", Kind::Dir),
            file_entry("d/e/empty", 0),
            entry("d/h", Kind::Hardlink { file: 3 }),
            entry("d/s", Kind::Symlink { target: b"a".to_vec() }),
            file_entry("x/y", 4096),
        ];
        Self { listing, change: |_| {}, prepare: |_| {} }
    }

    /// A link, whose name is covered by the sync of the files behind it: more than are synced one by one.
    fn of_many_files() -> Self {
        let files = (0..crate::limits::SYNC_EACH_MAX + 4).map(|i| file_entry(&format!("f{i}"), 100));
        let link = entry("s", Kind::Symlink { target: b"f0".to_vec() });
        Self { listing: std::iter::once(link).chain(files).collect(), ..Self::of_everything() }
    }

    /// More directories than are synced one by one.
    fn of_many_directories() -> Self {
        let listing =
            (0..crate::limits::SYNC_EACH_MAX + 2).map(|i| entry(&format!("d{i}"), Kind::Dir)).collect();
        Self { listing, ..Self::of_everything() }
    }

    /// Each kind of entry with nothing else around it, whose syncs would cover it.
    fn each_alone() -> Vec<Self> {
        let listings = [
            vec![entry("d", Kind::Dir)],
            vec![entry("s", Kind::Symlink { target: b"a".to_vec() })],
            vec![file_entry("x/y/z", 10)],
            vec![
                entry(REPLACED, Kind::File { size: 10, sparse: false, linked: true }),
                entry("x/h", Kind::Hardlink { file: 0 }),
            ],
        ];
        listings.into_iter().map(|listing| Self { listing, ..Self::of_everything() }).collect()
    }

    /// The disk before the session. Everything on it is safe, and no call was made.
    fn disk(&self) -> Memory {
        let memory = Memory::new(CAPACITY_BYTES);
        let root = memory.root();
        let file = write::open_or_create(&root, REPLACED.as_bytes()).unwrap();
        write::write_all_at(&file, &old(), 0).unwrap();
        write::sync(&file).unwrap();
        write::sync(&root).unwrap();
        let memory = memory.kill();
        (self.prepare)(&memory);
        memory
    }

    /// The whole session. The file that is replaced gets its name before anything else comes.
    fn run(&self, memory: &Memory) -> Result<Told, TargetError> {
        let mut config = config(Place::Opened { root: memory.root(), below: None });
        config.overwrite = Overwrite::Always;
        (self.change)(&mut config);
        let mut target = Target::new(config)?;
        let mut told = Vec::new();
        let mut wanted = HashMap::new();
        let mut handle = |job| {
            target.handle(job).unwrap();
            while let Some(event) = target.poll_event() {
                match event {
                    Event::Outcome { file, outcome } => told.push((file, outcome)),
                    Event::Want { file, want } => drop(wanted.insert(file, want)),
                    _ => {}
                }
            }
            wanted.clone()
        };

        let mut wanted = handle(Job::Entries { first: 0, entries: self.listing.clone() });
        for (number, entry) in (0..).zip(&self.listing) {
            let Some(content) = self.content(number) else { continue };
            if wanted.get(&number) == Some(&Want::Digest) {
                let (size, digest) = (content.len() as u64, digest(&content));
                wanted = handle(Job::Digest { file: number, size, digest });
            }
            if wanted.get(&number) == Some(&Want::Content) {
                send(&mut |job| drop(handle(job)), number, &content);
            }
            if entry.name == REPLACED.as_bytes() {
                handle(Job::Idle);
            }
        }
        handle(Job::Listed);
        handle(Job::Idle);

        assert!(target.is_settled());
        Ok(told)
    }

    /// The calls that the session makes where nothing goes wrong.
    fn count_calls(&self) -> usize {
        let memory = self.disk();
        let told = self.run(&memory).unwrap();

        assert_eq!(told.len(), self.listing.len());
        assert!(told.iter().all(|(_, outcome)| *outcome == Outcome::Done), "{told:?}");
        memory.calls().len()
    }

    /// What contradicts the promise, if anything does: on this disk, when so much was told.
    fn violation(&self, memory: &Memory, told: &[(u64, Outcome)]) -> Option<String> {
        let all = all_names(memory);
        let is_ours = |name: &str| self.listing.iter().any(|entry| entry.name == name.as_bytes());
        let is_known = |name: &&String| {
            is_ours(name) || is_temporary(name) || ["x", "x/y", REPLACED].contains(&name.as_str())
        };
        if let Some(name) = all.iter().find(|name| !is_known(name)) {
            return Some(format!("{name} is nothing that was sent"));
        }
        (0..self.listing.len()).find_map(|number| {
            let says_so = |(file, outcome): &(u64, Outcome)| {
                *file == number as u64
                    && matches!(outcome, Outcome::Done | Outcome::Unchanged | Outcome::Identical)
            };
            self.contradiction(memory, number, told.iter().any(says_so))
        })
    }

    fn contradiction(&self, memory: &Memory, number: usize, is_there: bool) -> Option<String> {
        let entry = &self.listing[number];
        let name = String::from_utf8(entry.name.clone()).unwrap();
        let Some((dir, stat)) = find(memory, &name) else {
            return (is_there || name == REPLACED).then(|| format!("{name} is missing"));
        };
        let last = name.rsplit('/').next().unwrap().as_bytes();
        let is_right = match &entry.kind {
            Kind::File { .. } | Kind::Stream => {
                let bytes = read(&dir, last);
                let is_old = name == REPLACED && bytes == old() && !is_there;
                is_old
                    || Some(bytes) == self.content(number as u64) && (!is_there || has_metadata(&stat, entry))
            }
            Kind::Dir => stat.kind == FileKind::Directory && (!is_there || has_metadata(&stat, entry)),
            // No call but the sync of the file system makes its time safe.
            Kind::Symlink { target } => write::read_link(&dir, last).as_ref() == Ok(target),
            Kind::Hardlink { file } => {
                let first = std::str::from_utf8(&self.listing[usize::try_from(*file).unwrap()].name).unwrap();
                let is_same =
                    || find(memory, first).is_some_and(|(_, first)| first.identity == stat.identity);
                Some(read(&dir, last)) == self.content(*file) && (!is_there || is_same())
            }
        };
        (!is_right).then(|| format!("{name} is wrong"))
    }

    /// The bytes of a file; `None` for what has none.
    fn content(&self, number: u64) -> Option<Vec<u8>> {
        match self.listing[usize::try_from(number).unwrap()].kind {
            Kind::File { size, .. } => {
                Some((0..size).map(|at| (at * 7 + number * 2).to_le_bytes()[0] | 1).collect())
            }
            _ => None,
        }
    }
}

/// Sends a file in pieces, the last one first.
fn send(handle: &mut impl FnMut(Job), file: u64, content: &[u8]) {
    let pieces: Vec<_> = content.chunks(3000).enumerate().collect();
    for (i, piece) in pieces.into_iter().rev() {
        handle(Job::Data { file, offset: i as u64 * 3000, bytes: piece.to_vec() });
    }
    handle(Job::End { file, size: content.len() as u64, digest: digest(content) });
}

fn has_metadata(stat: &Stat, entry: &Entry) -> bool {
    stat.mode == entry.mode && stat.mtime == MTIME
}

/// What [`REPLACED`] holds before.
fn old() -> Vec<u8> {
    vec![b'o'; 6000]
}

/// What stands at a path, with the directory that holds it.
fn find(memory: &Memory, path: &str) -> Option<(Handle, Stat)> {
    let mut dir = memory.root();
    let mut rest = path;
    while let Some((first, below)) = rest.split_once('/') {
        write::stat(&dir, first.as_bytes()).unwrap()?;
        dir = write::open_dir(&dir, first.as_bytes()).unwrap();
        rest = below;
    }
    let stat = write::stat(&dir, rest.as_bytes()).unwrap()?;
    Some((dir, stat))
}

fn read(dir: &Handle, name: &[u8]) -> Vec<u8> {
    let file = write::open_file(dir, name).unwrap();
    let mut bytes = vec![0; usize::try_from(write::stat_of(&file).unwrap().size).unwrap()];
    assert_eq!(write::read_at(&file, &mut bytes, 0), Ok(bytes.len()));
    bytes
}

/// The paths of everything on a disk.
fn all_names(memory: &Memory) -> Vec<String> {
    let mut all = Vec::new();
    list(&memory.root(), "", &mut all);
    all
}

/// Adds the paths of everything below a directory.
fn list(dir: &Handle, path: &str, all: &mut Vec<String>) {
    let mut names = Vec::new();
    write::any_name(dir, |name, _| {
        names.push(name.to_vec());
        false
    })
    .unwrap();
    for name in names {
        let below = format!("{path}{}", std::str::from_utf8(&name).unwrap());
        if write::stat(dir, &name).unwrap().unwrap().kind == FileKind::Directory {
            list(&write::open_dir(dir, &name).unwrap(), &format!("{below}/"), all);
        }
        all.push(below);
    }
}

fn is_temporary(path: &str) -> bool {
    path.rsplit('/').next().unwrap().as_bytes().starts_with(TEMP_PREFIX)
}

/// There before, and sent.
const REPLACED: &str = "replaced";
/// More than is sent.
const CAPACITY_BYTES: u64 = 1 << 20;
