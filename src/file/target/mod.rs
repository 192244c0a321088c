//! The receiving worker: entries, chunks and digests in, files on the disk and outcomes out.
//!
//! ```text
//! Job ──> ledger (numbers, counts)
//!          └─> tree     examine: keep, compare, or take ──> receive: place, hash, prove
//!               ├─> make: directories, links            └─> publish ──> finish: what waited, directories
//!               ├─> output   one file to standard output, in order
//!               └─> discard  nothing is kept
//! Event <── what is wanted, what is placed, what became of each entry
//! ```
//!
//! A [`Target`] is called by one thread: one [`Target::handle`], then [`Target::poll_event`] until it is empty. It
//! blocks on the disk and on nothing else. What it receives is not trusted: a name, number or range that an honest
//! sender cannot send ends the session ([`ProtocolViolation`]), and nothing is allocated on a peer's word alone. A
//! local failure is the outcome of one entry and leaves the others alone.
//!
//! No live name ever holds bytes that were not proven: see `file::part`. Dropping a target gives what is proven its
//! name, and keeps or removes the other parts.

mod busy;
mod config;
mod directories;
mod discard;
mod examine;
mod expected;
mod finish;
mod held;
mod ledger;
mod links;
mod make;
mod output;
mod raw;
mod receive;
mod repair;
mod resume;
#[cfg(test)]
mod tests;
mod tree;

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

pub use busy::{BusyNames, Claim};
pub use config::{Accept, Asked, Expect, LinkRule, Place, TargetConfig, TargetError};
pub use discard::Memory;
pub use ledger::{FailedEntry, Summary};

use self::discard::Discard;
use self::examine::dir_failure;
use self::ledger::Ledger;
use self::output::Output;
use self::receive::Piece;
use self::tree::Tree;
use crate::file::disk::target_dirs::{DirError, TargetDirs};
use crate::file::disk::{Handle, write};
use crate::file::failure::reason;
use crate::file::path::{PathError, RelPath, escape};
use crate::limits;
use crate::transfer::placement::PlaceError;
pub use crate::transfer::{Event, Job};
use crate::wire::message::{Code, Entry, Kind};

/// The sender did what the protocol does not allow; the session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are numbers of entries and bytes, and each message says which")]
pub enum ProtocolViolation {
    /// Entry numbers have a gap or repeat.
    #[error("the sender numbered entries from {first} where {expected} was next")]
    Numbering { first: u64, expected: u64 },
    /// Entries after the end of the listing.
    #[error("the sender announced entries after the end of its listing")]
    AfterListed,
    /// More entries without outcome than `limits::OPEN_ENTRIES_MAX`.
    #[error("the sender announced more than {} entries ahead of their outcomes", limits::OPEN_ENTRIES_MAX)]
    TooManyOpen,
    /// More linked files than `limits::HARDLINKS_MAX`.
    #[error("the sender announced more than {} files with further names", limits::HARDLINKS_MAX)]
    TooManyLinked,
    /// A name that no honest sender has.
    #[error("the sender sent the name \"{}\": {why}", escape(name))]
    BadName { name: Vec<u8>, why: PathError },
    /// A name outside of what was asked for.
    #[error("the sender sent a name nobody asked for: \"{}\"", escape(name))]
    Unasked { name: Vec<u8> },
    /// A message about an entry that was never announced.
    #[error("the sender spoke of entry {file}, which it never announced")]
    Unknown { file: u64 },
    /// Content or a digest that was not wanted.
    #[error("the sender sent content or a digest of entry {file} that nobody wanted")]
    Unwanted { file: u64 },
    /// Bytes where none can go.
    #[error("the sender sent entry {file} wrongly: {why}")]
    Placement { file: u64, why: PlaceError },
    /// The size at the end is not the announced one.
    #[error("the sender announced entry {file} with {announced} bytes and ended it with {ended}")]
    SizeChanged { file: u64, announced: u64, ended: u64 },
    /// The end came before all bytes.
    #[error("the sender ended entry {file} at {size} bytes, but {placed} had come")]
    Incomplete { file: u64, size: u64, placed: u64 },
    /// A hard link to something that is no earlier linked file.
    #[error("the sender announced entry {link} as another name of {file}, which is no file that allows it")]
    NotLinked { link: u64, file: u64 },
}

/// Receives the entries of one session.
pub struct Target {
    accept: Accept,
    ledger: Ledger,
    sink: Sink,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// Where content goes.
enum Sink {
    Tree(Box<Tree>),
    Output(Box<Output>),
    Discard(Box<Discard>),
}

impl Target {
    /// A receiver that has seen nothing. Makes the directory below the root, unless nothing may change.
    pub fn new(mut config: TargetConfig) -> Result<Self, TargetError> {
        let accept = std::mem::replace(&mut config.accept, Accept::Anything);
        let sink = match std::mem::replace(&mut config.place, Place::Stdout(Box::new(std::io::sink()))) {
            Place::Directory { root, below, rename_top } => {
                let made = below.as_ref().filter(|_| !config.dry_run);
                let dirs = dirs_below(&root, write::open_root(&root), made)?;
                Sink::Tree(Box::new(Tree::new(config, dirs, below, rename_top)?))
            }
            Place::Opened { root, below } => {
                let made = below.as_ref().filter(|_| !config.dry_run);
                let dirs = dirs_below(Path::new(""), Ok(root), made)?;
                Sink::Tree(Box::new(Tree::new(config, dirs, below, None)?))
            }
            Place::Stdout(writer) => Sink::Output(Box::new(Output::new(config, writer))),
            Place::Nowhere { bytes_max, memory } => {
                Sink::Discard(Box::new(Discard::new(config.digest, bytes_max, memory)))
            }
        };
        Ok(Self { accept, ledger: Ledger::default(), sink })
    }

    /// Reads what is there, to compare it, only while somebody waits for that: a long comparison ends with its session.
    #[must_use]
    pub fn while_wanted(mut self, is_wanted: impl Fn() -> bool + Send + 'static) -> Self {
        if let Sink::Tree(tree) = &mut self.sink {
            tree.is_wanted = Box::new(is_wanted);
        }
        self
    }

    /// Takes one message of the sender. After an error the session is over; the target is to be dropped.
    pub fn handle(&mut self, job: Job) -> Result<(), ProtocolViolation> {
        match job {
            Job::Entries { first, entries } => self.announce(first, entries),
            Job::Data { file, offset, mut bytes } => {
                self.ledger.check_announced(file)?;
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_data(&mut self.ledger, file, offset, &bytes)?,
                    Sink::Output(output) => {
                        output.on_piece(&mut self.ledger, file, offset, Piece::Bytes(&bytes))?;
                    }
                    Sink::Discard(discard) => {
                        discard.on_piece(&mut self.ledger, file, offset, Piece::Bytes(&bytes))?;
                    }
                }
                let len = bytes.len() as u64;
                bytes.clear();
                self.ledger.placed(file, offset, len, bytes);
                Ok(())
            }
            Job::Hole { file, offset, len } => {
                self.ledger.check_announced(file)?;
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_hole(&mut self.ledger, file, offset, len)?,
                    Sink::Output(output) => {
                        output.on_piece(&mut self.ledger, file, offset, Piece::Hole(len))?;
                    }
                    Sink::Discard(discard) => {
                        discard.on_piece(&mut self.ledger, file, offset, Piece::Hole(len))?;
                    }
                }
                self.ledger.placed(file, offset, len, Vec::new());
                Ok(())
            }
            Job::End { file, size, digest } => {
                self.ledger.check_announced(file)?;
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_end(&mut self.ledger, file, size, digest),
                    Sink::Output(output) => output.on_end(&mut self.ledger, file, size, digest),
                    Sink::Discard(discard) => discard.on_end(&mut self.ledger, file, size, digest),
                }
            }
            Job::RawPiece(piece) => {
                self.ledger.check_announced(piece.file)?;
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_raw_piece(&mut self.ledger, &piece),
                    Sink::Output(_) => Err(ProtocolViolation::Unwanted { file: piece.file }),
                    Sink::Discard(discard) => discard.on_raw_piece(&mut self.ledger, &piece),
                }
            }
            Job::RawEnd { file, size, digest } => {
                self.ledger.check_announced(file)?;
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_raw_end(&mut self.ledger, file, size, digest),
                    Sink::Output(_) => Err(ProtocolViolation::Unwanted { file }),
                    Sink::Discard(discard) => discard.on_raw_end(&mut self.ledger, file, size, digest),
                }
            }
            Job::Digest { file, size, digest } => {
                self.ledger.check_announced(file)?;
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_digest(&mut self.ledger, file, size, digest),
                    Sink::Output(_) | Sink::Discard(_) => Err(ProtocolViolation::Unwanted { file }),
                }
            }
            Job::Failed { file, code, text } => {
                self.ledger.check_announced(file)?;
                // An orderly end is no failure.
                let code = if code == Code::Done { Code::Protocol } else { code };
                let text = one_line(text);
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_failed(&mut self.ledger, file, code, text)?,
                    Sink::Output(output) => output.on_failed(&mut self.ledger, file, code, text),
                    Sink::Discard(discard) => discard.on_failed(&mut self.ledger, file, code, text),
                }
                Ok(())
            }
            Job::Listed => {
                self.ledger.on_listed();
                if let Sink::Tree(tree) = &mut self.sink {
                    tree.on_listed(&mut self.ledger);
                }
                Ok(())
            }
            Job::Idle => {
                if let Sink::Tree(tree) = &mut self.sink {
                    tree.on_idle(&mut self.ledger);
                }
                Ok(())
            }
            Job::Sums { file, first, sums } => {
                self.ledger.check_announced(file)?;
                match &mut self.sink {
                    Sink::Tree(tree) => tree.on_sums(file, first, sums),
                    Sink::Output(_) | Sink::Discard(_) => Err(ProtocolViolation::Unwanted { file }),
                }
            }
            Job::Resumable { owner } => {
                if let Sink::Tree(tree) = &mut self.sink {
                    tree.set_resumable(owner);
                }
                Ok(())
            }
            Job::Work => {
                if let Sink::Tree(tree) = &mut self.sink {
                    tree.work(&mut self.ledger);
                }
                Ok(())
            }
            Job::Checkpoint => {
                if let Sink::Tree(tree) = &mut self.sink {
                    tree.checkpoint(&mut self.ledger);
                }
                Ok(())
            }
        }
    }

    /// The next thing that the session is to be told.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.ledger.poll_event()
    }

    /// Whether [`Job::Work`] has something to go on with.
    pub fn has_work(&self) -> bool {
        matches!(&self.sink, Sink::Tree(tree) if tree.has_work())
    }

    /// Whether every announced entry has its outcome. What waits for a batch gets it with [`Job::Idle`].
    pub fn is_settled(&self) -> bool {
        self.ledger.is_settled()
    }

    /// What came of the session so far.
    pub fn summary(&self) -> Summary {
        let mut summary = self.ledger.summary();
        match &self.sink {
            Sink::Tree(tree) => tree.expected().add_missing(&mut summary),
            Sink::Output(output) => output.expected().add_missing(&mut summary),
            Sink::Discard(_) => {}
        }
        summary
    }

    fn announce(&mut self, first: u64, entries: Vec<Entry>) -> Result<(), ProtocolViolation> {
        self.ledger.admit(first, entries.len())?;
        if let Sink::Tree(tree) = &mut self.sink {
            tree.forget_free_space();
        }
        if let Some(unasked) = entries.iter().find(|entry| !self.accept.allows(entry.source, &entry.name)) {
            return Err(ProtocolViolation::Unasked { name: unasked.name.clone() });
        }
        for entry in entries {
            let number = self.ledger.number(matches!(entry.kind, Kind::File { .. } | Kind::Stream));
            match &mut self.sink {
                Sink::Tree(tree) => tree.on_entry(&mut self.ledger, number, entry)?,
                Sink::Output(output) => output.on_entry(&mut self.ledger, number, &entry)?,
                Sink::Discard(discard) => discard.on_entry(&mut self.ledger, number, entry)?,
            }
        }
        Ok(())
    }
}

/// The directories below a root, which `path` is the name of in messages.
/// The directories below a root that a person calls `path`, with `below` made there.
fn dirs_below(
    path: &Path,
    root: rustix::io::Result<Handle>,
    below: Option<&RelPath>,
) -> Result<TargetDirs, TargetError> {
    let cannot = |errno| TargetError::Root { path: path.to_owned(), reason: reason(errno) };
    let mut dirs = root.and_then(TargetDirs::new).map_err(cannot)?;
    if let Some(below) = below {
        dirs.open(Some(below.as_bytes()), true).map_err(|error| {
            let path = path.join(OsStr::from_bytes(&error.path)).into_os_string().into_vec();
            TargetError::Below(dir_failure(&DirError { path, ..error }))
        })?;
    }
    Ok(dirs)
}

/// A peer's text as a person may see it: no control characters.
fn one_line(text: String) -> String {
    let text = if text.chars().any(char::is_control) { text.replace(char::is_control, " ") } else { text };
    crate::wire::message::short_text(text)
}
