//! What a receiver is told before the first entry: where things go, what is expected, what may be replaced.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::busy::BusyNames;
use super::discard::Memory;
use crate::file::disk::Handle;
use crate::file::failure::Failure;
use crate::file::path::{RelPath, escape};
use crate::wire::message::{DigestKind, Overwrite};

/// Everything that a [`Target`](super::Target) needs to know.
pub struct TargetConfig {
    /// Where entries go.
    pub place: Place,
    /// The digest that proves each file.
    pub digest: DigestKind,
    /// What to do about names that exist already.
    pub overwrite: Overwrite,
    /// Compare existing files of the same size by digest.
    pub checksum: bool,
    /// Change nothing; outcomes say what would happen.
    pub dry_run: bool,
    /// Sync before anything is reported as done.
    pub sync: bool,
    /// Read each file back from the disk before it gets its name.
    pub verify_disk: bool,
    /// Which symbolic links are made.
    pub links: LinkRule,
    /// Keep setuid, setgid and sticky bits.
    pub keep_setid: bool,
    /// The sender sends without waiting for [`Event::Want`](super::Event::Want), so none is given, and nothing is gone on
    /// with.
    pub eager: bool,
    /// Digests that are known beforehand.
    pub expect: Expect,
    /// Which names the sender may use.
    pub accept: Accept,
    /// The names that are being written in this process.
    pub busy: Arc<BusyNames>,
    /// Random; temporary names come from it.
    pub seed: u64,
}

/// Where entries go.
pub enum Place {
    /// Below a directory.
    Directory {
        /// Exists; may be reached over symbolic links, since a person named it.
        root: PathBuf,
        /// Names land below this directory of the root, which is made where it is missing.
        below: Option<RelPath>,
        /// The first component of every name becomes this (`get H/tree -o new`). One component.
        rename_top: Option<Vec<u8>>,
    },
    /// As [`Place::Directory`], with a root that is open already.
    Opened {
        /// The root.
        root: Handle,
        /// Names land below this directory of the root, which is made where it is missing.
        below: Option<RelPath>,
    },
    /// The content of exactly one file goes here, in order.
    Stdout(Box<dyn Write + Send>),
    /// Nowhere: content is compared with its digest and thrown away. Everything is wanted, whatever is expected or to
    /// be overwritten.
    Nowhere {
        /// Content that the session may send, bytes.
        bytes_max: u64,
        /// For what comes out of order.
        memory: Arc<Memory>,
    },
}

/// Which symbolic links are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRule {
    /// All, as they are: one's own `recv` and `get`.
    KeepAll,
    /// Only those that cannot lead out of the root: `serve`.
    RefuseEscaping,
}

/// Digests that are known beforehand. What does not match never gets its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// None are.
    None,
    /// Every file has this digest.
    One([u8; 32]),
    /// Every file is named here, as the sender names it, with its digest.
    Manifest(BTreeMap<Vec<u8>, [u8; 32]>),
}

/// Which names the sender may use.
#[derive(Clone, Debug)]
pub enum Accept {
    /// Any: the sender decides what it pushes.
    Anything,
    /// Only what was asked for, by source number.
    Asked(Vec<Asked>),
}

/// What was asked for as one source.
#[derive(Clone, Debug)]
pub enum Asked {
    /// This name and what is below it. One component.
    Exact(Vec<u8>),
    /// Names whose first component matches, and what is below them.
    Glob(globset::GlobMatcher),
    /// What is in a directory, without that directory's name.
    Contents,
}

/// The target cannot take anything.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The root cannot be opened.
    #[error("{}: cannot open the target directory: {reason}", crate::file::failure::shown(path.as_os_str().as_bytes()))]
    Root {
        /// The root.
        path: PathBuf,
        /// Why, in words.
        reason: String,
    },
    /// The new name for what is received is not one component.
    #[error("{}: is not a name that something can be received as", crate::file::failure::shown(name))]
    Top {
        /// That name.
        name: Vec<u8>,
    },
    /// The directory below the root cannot be made.
    #[error("{}", .0.text)]
    Below(Failure),
}

impl Expect {
    /// Whether `name` may have this digest: the check of a side that knows the digest before it sends it.
    pub fn check(&self, name: &[u8], digest: &[u8; 32]) -> Result<(), String> {
        let expected = match self {
            Self::None => return Ok(()),
            Self::One(expected) => expected,
            Self::Manifest(sums) => match sums.get(name) {
                Some(expected) => expected,
                None => return Err(format!("{}: the manifest does not name this file", escape(name))),
            },
        };
        if expected == digest {
            return Ok(());
        }
        Err(format!("{}: its digest is not the expected one", escape(name)))
    }
}

impl Accept {
    /// Whether `name`, sent for `source`, is inside what was asked for. protocol.md [NAME-3]
    pub fn allows(&self, source: u32, name: &[u8]) -> bool {
        let Self::Asked(asked) = self else {
            return true;
        };
        let top = name.split(|&byte| byte == b'/').next().unwrap_or_default();
        let source = usize::try_from(source).unwrap_or(usize::MAX);
        asked.get(source).is_some_and(|asked| match asked {
            Asked::Exact(component) => component == top,
            Asked::Glob(glob) => glob.is_match(Path::new(OsStr::from_bytes(top))),
            Asked::Contents => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_inside_what_was_asked_are_accepted() {
        let glob = globset::Glob::new("*.log").unwrap().compile_matcher();
        let accept = Accept::Asked(vec![Asked::Exact(b"tree".to_vec()), Asked::Glob(glob), Asked::Contents]);

        for (source, name) in
            [(0, "tree"), (0, "tree/a"), (1, "a.log"), (1, "d.log/x"), (2, "anything/at/all")]
        {
            assert!(accept.allows(source, name.as_bytes()), "{source} {name}");
        }
        for (source, name) in [(0, "trees"), (0, "a.log"), (1, "tree"), (1, "x/a.log"), (3, "tree")] {
            assert!(!accept.allows(source, name.as_bytes()), "{source} {name}");
        }
        assert!(Accept::Anything.allows(9, b"a"));
    }
}
