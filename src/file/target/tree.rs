//! A target that is a directory: what is announced is examined, and decided upon at once.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use super::ProtocolViolation;
use super::busy::{BusyNames, Claim};
use super::config::{LinkRule, TargetConfig, TargetError};
use super::directories::{Around, Directories};
use super::examine::{Plan, Site, Wish, examine};
use super::expected::Expected;
use super::ledger::{Ledger, failed};
use super::links::LinkedFiles;
use super::receive::{NOT_EXPECTED, Receiving};
use super::repair::Repair;
use crate::file::disk::target_dirs::{Dir, TargetDirs};
use crate::file::disk::temp_name::TempNames;
use crate::file::disk::write;
use crate::file::failure::Failure;
use crate::file::part::{Existing, Replace};
use crate::file::path::{PathError, RelPath};
use crate::file::publish::{Publisher, Verdict};
use crate::wire::message::{Code, DigestKind, Entry, Kind, Mtime, Outcome, Overwrite, Want};

/// The files, directories and links of one session below one root.
pub(super) struct Tree {
    pub(super) rules: Rules,
    pub(super) dirs: TargetDirs,
    pub(super) names: TempNames,
    pub(super) publisher: Publisher,
    pub(super) directories: Directories,
    pub(super) linked: LinkedFiles,
    /// Files and waiting hard links without an outcome, by number.
    pub(super) open: HashMap<u64, Box<Incoming>>,
    /// Parts whose descriptors may be open, the one opened first in front.
    pub(super) unparked: VecDeque<u64>,
    /// Bytes that wanted files will still take from the free space.
    pub(super) promised_bytes: u128,
    /// Who may go on with what is interrupted, if anybody may.
    pub(super) resume: Option<[u8; 32]>,
    /// Shared by the files that are kept for another session, and so counts them.
    pub(super) kept: Arc<()>,
    /// Files whose digest or comparison is behind, each once.
    pub(super) lagging: VecDeque<u64>,
    /// Files of which something was written since their last checkpoint.
    pub(super) unclaimed: HashSet<u64>,
    /// For reading files back.
    pub(super) scratch: Vec<u8>,
    /// Whether anybody still waits for what is read.
    pub(super) is_wanted: Box<dyn Fn() -> bool + Send>,
    /// Free space when the current batch came, if it was asked for and the disk says.
    free_bytes: Option<Option<u64>>,
    expected: Expected,
    /// Of files that hard links may name, those with an expected digest.
    expected_of_linked: HashMap<u64, [u8; 32]>,
    busy: Arc<BusyNames>,
    below: Option<RelPath>,
    rename_top: Option<Vec<u8>>,
}

/// What of the configuration holds for every entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) digest: DigestKind,
    pub(super) verify_disk: bool,
    pub(super) syncs: bool,
    pub(super) dry_run: bool,
    pub(super) eager: bool,
    pub(super) overwrite: Overwrite,
    checksum: bool,
    pub(super) links: LinkRule,
    keep_setid: bool,
}

/// A file, or a hard link that waits for its file, without an outcome.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) path: RelPath,
    /// Permission bits that it gets.
    pub(super) mode: u32,
    /// Modification time that it gets.
    pub(super) mtime: Mtime,
    /// As announced; `None` for a stream.
    pub(super) size: Option<u64>,
    /// Holes are worth keeping: no space is reserved.
    pub(super) sparse: bool,
    /// Later hard links may name it.
    pub(super) linked: bool,
    /// The digest that it has to have, where one is known.
    pub(super) expected: Option<[u8; 32]>,
    /// The directory entry around it.
    pub(super) parent: Option<u64>,
    /// What it may replace.
    pub(super) replace: Replace,
    /// Its share of `Tree::promised_bytes`.
    pub(super) owed_bytes: u64,
    pub(super) stage: Stage,
    /// Keeps other sessions off the name.
    pub(super) _claim: Option<Claim>,
}

/// How far it is.
#[derive(Debug)]
pub(super) enum Stage {
    /// The sender was asked for its digest, to compare this with.
    Comparing(Existing),
    /// The sender sends its content. Nothing is allocated before the first byte.
    Wanted(Option<Box<Receiving>>),
    /// All of it came, and some of it is wrong.
    Repairing(Box<Repair>),
    /// Proven; waits for its name.
    Publishing { size_bytes: u64, digest: [u8; 32] },
    /// A hard link whose file has no outcome.
    Waiting,
}

/// An entry that has its outcome.
pub(super) struct Settled {
    pub(super) number: u64,
    pub(super) path: RelPath,
    pub(super) parent: Option<u64>,
    pub(super) linked: bool,
    pub(super) size_bytes: u64,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) outcome: Outcome,
}

impl Tree {
    pub(super) fn new(
        config: TargetConfig,
        dirs: TargetDirs,
        below: Option<RelPath>,
        rename_top: Option<Vec<u8>>,
    ) -> Result<Self, TargetError> {
        if let Some(top) = &rename_top
            && RelPath::parse(top).map_or(true, |path| path.components().count() != 1)
        {
            return Err(TargetError::Top { name: top.clone() });
        }
        let rules = Rules {
            digest: config.digest,
            verify_disk: config.verify_disk,
            syncs: config.sync,
            dry_run: config.dry_run,
            eager: config.eager,
            overwrite: config.overwrite,
            checksum: config.checksum,
            links: config.links,
            keep_setid: config.keep_setid,
        };
        Ok(Self {
            rules,
            dirs,
            names: TempNames::new(config.seed),
            publisher: Publisher::new(config.sync),
            directories: Directories::default(),
            linked: LinkedFiles::default(),
            open: HashMap::new(),
            unparked: VecDeque::new(),
            promised_bytes: 0,
            resume: None,
            kept: Arc::default(),
            lagging: VecDeque::new(),
            unclaimed: HashSet::new(),
            scratch: Vec::new(),
            is_wanted: Box::new(|| true),
            free_bytes: None,
            expected: Expected::new(config.expect),
            expected_of_linked: HashMap::new(),
            busy: config.busy,
            below,
            rename_top,
        })
    }

    /// Something was written since the free space was asked for: the next promise asks anew.
    pub(super) fn forget_free_space(&mut self) {
        self.free_bytes = None;
    }

    /// One announced entry.
    pub(super) fn on_entry(
        &mut self,
        ledger: &mut Ledger,
        number: u64,
        entry: Entry,
    ) -> Result<(), ProtocolViolation> {
        let path = match RelPath::parse(&entry.name).and_then(|name| self.locate(&name)) {
            Ok(path) => path,
            // protocol.md [NAME-2]
            Err(why @ (PathError::TooLong | PathError::Reserved)) => {
                return self.refuse_name(ledger, number, entry, why);
            }
            Err(why) => return Err(ProtocolViolation::BadName { name: entry.name, why }),
        };
        for full in self.directories.leave_for(&path) {
            self.finish_directory(ledger, full);
        }
        let around = self.directories.around();
        let parent = match around {
            Around::Directory(parent) => {
                self.directories.add_child(parent);
                Some(parent)
            }
            Around::Nothing | Around::Broken(_) => None,
        };
        let broken = match around {
            Around::Broken(code) => {
                Some(Failure::new(code, path.as_bytes(), "its directory could not be received"))
            }
            _ => None,
        };
        let seen = Seen { number, parent, path, mode: self.mode(entry.mode), mtime: entry.mtime };
        match entry.kind {
            Kind::File { size, sparse, linked } => {
                if linked {
                    self.linked.announce(number)?;
                }
                let file = FileSeen { size: Some(size), sparse, linked, name: entry.name };
                self.on_file(ledger, &seen, &file, broken);
            }
            Kind::Stream => {
                let file = FileSeen { size: None, sparse: false, linked: false, name: entry.name };
                self.on_file(ledger, &seen, &file, broken);
            }
            Kind::Dir => self.on_directory(ledger, &seen, broken),
            Kind::Symlink { target } => {
                let result = broken.map_or_else(|| self.make_symlink(&seen, &target), Err);
                self.settle(ledger, seen.settled(result.unwrap_or_else(failed)));
            }
            Kind::Hardlink { file } => {
                let unexpected = self.check_hardlink(&entry.name, file).err();
                self.on_hardlink(ledger, seen, file, broken.or(unexpected))?;
            }
        }
        Ok(())
    }

    /// Another name of a file has to be expected with the digest of that file.
    fn check_hardlink(&mut self, name: &[u8], file: u64) -> Result<(), Failure> {
        match self.expected.of(name)? {
            Some(digest) if self.expected_of_linked.get(&file) != Some(&digest) => {
                Err(Failure::new(Code::Integrity, name, NOT_EXPECTED))
            }
            _ => Ok(()),
        }
    }

    /// The digests known beforehand.
    pub(super) fn expected(&self) -> &Expected {
        &self.expected
    }

    /// Reserves the free space for a file of this size, if it is there.
    pub(super) fn promise(&mut self, path: &RelPath, dir: Option<&Dir>, size: u64) -> Result<(), Failure> {
        // Another file system below the root has its own free space.
        if dir.is_none_or(|dir| dir.device() == self.dirs.root().device()) {
            let root = self.dirs.root();
            let free = *self.free_bytes.get_or_insert_with(|| write::free_bytes(root.handle()));
            let left = free.map(|free| u128::from(free).saturating_sub(self.promised_bytes));
            if let Some(left) = left
                && u128::from(size) > left
            {
                let text = format!("needs {size} bytes, but only {left} are free; make room at the target");
                return Err(Failure::new(Code::NoSpace, path.as_bytes(), &text));
            }
        }
        self.promised_bytes += u128::from(size);
        Ok(())
    }

    fn on_file(&mut self, ledger: &mut Ledger, seen: &Seen, file: &FileSeen, broken: Option<Failure>) {
        // Asked in any case: a name that fails below is not missing.
        let expected = self.expected.of(&file.name);
        if let (true, Ok(Some(digest))) = (file.linked, &expected) {
            self.expected_of_linked.insert(seen.number, *digest);
        }
        match broken.map_or(expected, Err).and_then(|expected| self.decide(seen, file, expected)) {
            Ok(Decision::Settle(outcome)) => {
                self.settle(ledger, Settled { linked: file.linked, ..seen.settled(outcome) });
            }
            Ok(Decision::Open { want, incoming }) => {
                self.open.insert(seen.number, incoming);
                if want == Want::Digest {
                    ledger.want(seen.number, want);
                } else if let Err(failure) = self.ask_content(ledger, seen.number) {
                    self.settle_open(ledger, seen.number, failed(failure), None);
                }
            }
            Err(failure) => {
                self.settle(ledger, Settled { linked: file.linked, ..seen.settled(failed(failure)) });
            }
        }
    }

    fn decide(
        &mut self,
        seen: &Seen,
        file: &FileSeen,
        expected: Option<[u8; 32]>,
    ) -> Result<Decision, Failure> {
        let path = &seen.path;
        let Site { dir, found } = examine(&mut self.dirs, path)?;
        let existing = found.map(|found| found.expect_file(path)).transpose()?;
        let mut plan = self.wish(file.size, seen.mtime).plan(existing);
        if let (Plan::Leave(outcome), Some(expected), Some(existing)) = (&plan, expected, existing) {
            plan = match self.compare_existing(path, existing, expected)? {
                true => Plan::Leave(Outcome::Identical),
                false if *outcome == Outcome::Unchanged => Plan::Take(Replace::Examined(existing)),
                false => {
                    let text = "what is there does not have the expected digest, and the policy keeps it";
                    return Err(Failure::new(Code::Integrity, path.as_bytes(), text));
                }
            };
        }
        let (want, replace, stage) = match plan {
            Plan::Leave(outcome) => {
                self.remove_left(path, file.size);
                return Ok(Decision::Settle(outcome));
            }
            Plan::Compare(existing) if !self.rules.eager => {
                (Want::Digest, Replace::Examined(existing), Stage::Comparing(existing))
            }
            Plan::Compare(existing) => (Want::Content, Replace::Examined(existing), Stage::Wanted(None)),
            Plan::Take(replace) => (Want::Content, replace, Stage::Wanted(None)),
        };
        // Busy before space: the other writer's file may be the one that fills the disk.
        let claim = if self.rules.dry_run { None } else { Some(self.claim(path)?) };
        let mut owed_bytes = 0;
        if want == Want::Content && !file.sparse {
            owed_bytes = self.lacking(dir.as_deref(), path, file.size);
            self.promise(path, dir.as_deref(), owed_bytes)?;
        }
        if self.rules.dry_run && want == Want::Content {
            self.promised_bytes -= u128::from(owed_bytes);
            return Ok(Decision::Settle(Outcome::Planned));
        }
        let incoming = Incoming {
            path: path.clone(),
            mode: seen.mode,
            mtime: seen.mtime,
            size: file.size,
            sparse: file.sparse,
            linked: file.linked,
            expected,
            parent: seen.parent,
            replace,
            owed_bytes,
            stage,
            _claim: claim,
        };
        Ok(Decision::Open { want, incoming: Box::new(incoming) })
    }

    /// Keeps other sessions off the name.
    pub(super) fn claim(&self, path: &RelPath) -> Result<Claim, Failure> {
        self.busy.claim(self.dirs.root().identity(), path.as_bytes()).ok_or_else(|| {
            Failure::new(Code::Busy, path.as_bytes(), "another transfer is writing it; try again later")
        })
    }

    /// An honest sender may have such a name; it fails alone, and so do hard links to it.
    fn refuse_name(
        &mut self,
        ledger: &mut Ledger,
        number: u64,
        entry: Entry,
        why: PathError,
    ) -> Result<(), ProtocolViolation> {
        if matches!(entry.kind, Kind::File { linked: true, .. }) {
            self.linked.refuse(number)?;
        }
        let outcome = failed(Failure::new(Code::Conflict, &entry.name, &why.to_string()));
        ledger.tell(Verdict { file: number, path: entry.name, size_bytes: 0, digest: None, outcome });
        Ok(())
    }

    /// Where a name that the sender gives lies below the root.
    fn locate(&self, name: &RelPath) -> Result<RelPath, PathError> {
        let mut bytes = Vec::with_capacity(name.as_bytes().len() + 32);
        if let Some(below) = &self.below {
            bytes.extend_from_slice(below.as_bytes());
            bytes.push(b'/');
        }
        match &self.rename_top {
            None if self.below.is_none() => return Ok(name.clone()),
            None => bytes.extend_from_slice(name.as_bytes()),
            Some(top) => {
                bytes.extend_from_slice(top);
                if let (_, Some(rest)) = name.split_first() {
                    bytes.push(b'/');
                    bytes.extend_from_slice(rest);
                }
            }
        }
        RelPath::parse(&bytes)
    }

    /// protocol.md [MODE-1]
    fn mode(&self, mode: u32) -> u32 {
        if self.rules.keep_setid { mode & 0o7777 } else { mode & 0o777 }
    }

    /// The policy, for an entry with this size and time.
    pub(super) fn wish(&self, size: Option<u64>, mtime: Mtime) -> Wish {
        Wish { overwrite: self.rules.overwrite, checksum: self.rules.checksum, size, mtime }
    }
}

/// What every announced entry has.
pub(super) struct Seen {
    pub(super) number: u64,
    /// The directory entry around it.
    pub(super) parent: Option<u64>,
    pub(super) path: RelPath,
    /// With the bits that may be kept.
    pub(super) mode: u32,
    pub(super) mtime: Mtime,
}

/// What an announced file has besides.
struct FileSeen {
    size: Option<u64>,
    sparse: bool,
    linked: bool,
    /// As the sender says it.
    name: Vec<u8>,
}

enum Decision {
    Settle(Outcome),
    Open { want: Want, incoming: Box<Incoming> },
}

impl Seen {
    /// Its end, without content.
    pub(super) fn settled(&self, outcome: Outcome) -> Settled {
        Settled {
            number: self.number,
            path: self.path.clone(),
            parent: self.parent,
            linked: false,
            size_bytes: 0,
            digest: None,
            outcome,
        }
    }
}
