//! The digests that are known beforehand, and which of the expected files were announced.

use std::collections::BTreeMap;

use super::config::Expect;
use super::ledger::Summary;
use crate::file::failure::Failure;
use crate::limits;
use crate::wire::message::Code;

/// What [`Expect`] says, and what of it has come.
#[derive(Debug)]
pub(super) enum Expected {
    Nothing,
    One([u8; 32]),
    /// Digests by name, with whether the name was announced.
    Manifest(BTreeMap<Vec<u8>, ([u8; 32], bool)>),
}

impl Expected {
    pub(super) fn new(expect: Expect) -> Self {
        match expect {
            Expect::None => Self::Nothing,
            Expect::One(digest) => Self::One(digest),
            Expect::Manifest(sums) => {
                Self::Manifest(sums.into_iter().map(|(name, digest)| (name, (digest, false))).collect())
            }
        }
    }

    /// The digest that the file `name` has to have, if one is expected; a failure where the manifest lacks it.
    pub(super) fn of(&mut self, name: &[u8]) -> Result<Option<[u8; 32]>, Failure> {
        match self {
            Self::Nothing => Ok(None),
            Self::One(digest) => Ok(Some(*digest)),
            Self::Manifest(sums) => match sums.get_mut(name) {
                Some((digest, announced)) => {
                    *announced = true;
                    Ok(Some(*digest))
                }
                None => Err(Failure::new(Code::Integrity, name, "the manifest does not name this file")),
            },
        }
    }

    /// Adds what the manifest names and nobody announced.
    pub(super) fn add_missing(&self, summary: &mut Summary) {
        if let Self::Manifest(sums) = self {
            for name in sums.iter().filter(|(_, (_, announced))| !announced).map(|(name, _)| name) {
                summary.missing += 1;
                if summary.missing_names.len() < limits::FAILURES_KEPT {
                    summary.missing_names.push(name.clone());
                }
            }
        }
    }
}
