//! The names that are being written in this process, so that two sessions never write one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// A root, by device and inode, and a path below it.
type Name = ((u64, u64), Arc<[u8]>);

/// The names being written, of all sessions. Shared in an [`Arc`].
#[derive(Debug, Default)]
pub struct BusyNames {
    names: Mutex<HashSet<Name>>,
}

/// One name, taken until this is dropped.
#[derive(Debug)]
pub struct Claim {
    busy: Arc<BusyNames>,
    name: Name,
}

impl BusyNames {
    /// Nothing is being written.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `path` below the root with this identity; `None` where somebody else has it.
    pub fn claim(self: &Arc<Self>, root: (u64, u64), path: &[u8]) -> Option<Claim> {
        let name: Name = (root, Arc::from(path));
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.clone()).then(|| Claim { busy: Arc::clone(self), name })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_until_its_claim_is_dropped() {
        let busy = Arc::new(BusyNames::new());

        let claim = busy.claim((1, 1), b"a").unwrap();
        assert!(busy.claim((1, 1), b"a").is_none());
        assert!(busy.claim((1, 1), b"b").is_some());
        assert!(busy.claim((1, 2), b"a").is_some());
        drop(claim);

        assert!(busy.claim((1, 1), b"a").is_some());
    }
}
