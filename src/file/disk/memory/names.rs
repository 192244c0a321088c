//! The names in one directory, as programs see them and as a power loss may leave them.

use std::collections::BTreeMap;

use super::power::NamesFate;
use crate::file::disk::chance::Chance;

/// What a name stood for from one moment on: an inode, or nothing.
type Change = (u64, Option<u64>);

/// The names of a directory with their inodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    now: BTreeMap<Vec<u8>, u64>,
    /// What the last sync made safe.
    safe: BTreeMap<Vec<u8>, u64>,
    /// What each name became since, and when, the oldest first.
    unsafe_names: BTreeMap<Vec<u8>, Vec<Change>>,
}

impl Names {
    /// The inode that has this name.
    pub(super) fn get(&self, name: &[u8]) -> Option<u64> {
        self.now.get(name).copied()
    }

    /// All names with their inodes, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.now.iter().map(|(name, &inode)| (name.as_slice(), inode))
    }

    /// At `moment`, the name becomes that of `inode`, or nobody's.
    pub(super) fn set(&mut self, moment: u64, name: &[u8], inode: Option<u64>) {
        match inode {
            Some(inode) => self.now.insert(name.to_vec(), inode),
            None => self.now.remove(name),
        };
        self.unsafe_names.entry(name.to_vec()).or_default().push((moment, inode));
    }

    /// Makes all names safe.
    pub(super) fn sync(&mut self) {
        self.safe = self.now.clone();
        self.unsafe_names.clear();
    }

    /// What a power loss leaves. Each name is on its own: of a rename, either half may be lost.
    pub(super) fn after_power_loss(&self, fate: NamesFate, chance: &mut Chance) -> Self {
        let mut left = self.safe.clone();
        for (name, changes) in &self.unsafe_names {
            let kept = match fate {
                NamesFate::Lost => 0,
                NamesFate::Kept => changes.len(),
                NamesFate::Before(moment) => changes.iter().take_while(|(at, _)| *at < moment).count(),
                NamesFate::Any => chance.below(changes.len() + 1),
            };
            match kept.checked_sub(1).map(|last| changes[last].1) {
                None => None,
                Some(Some(inode)) => left.insert(name.clone(), inode),
                Some(None) => left.remove(name),
            };
        }
        Self { now: left.clone(), safe: left, unsafe_names: BTreeMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synced_name_survives_and_a_later_change_may() {
        let mut names = Names::default();
        names.set(1, b"f", Some(5));
        names.sync();
        names.set(2, b"f", Some(6));
        names.set(3, b"t", None);

        let left = |fate, seed| names.after_power_loss(fate, &mut Chance::new(seed)).get(b"f");
        assert_eq!(left(NamesFate::Lost, 0), Some(5));
        assert_eq!(left(NamesFate::Kept, 0), Some(6));
        assert_eq!(left(NamesFate::Before(2), 0), Some(5));
        assert_eq!(left(NamesFate::Before(3), 0), Some(6));
        assert!((0..20).any(|seed| left(NamesFate::Any, seed) == Some(5)));
        assert!((0..20).any(|seed| left(NamesFate::Any, seed) == Some(6)));
    }

    #[test]
    fn either_half_of_a_rename_may_be_lost() {
        let mut names = Names::default();
        names.set(1, b"t", Some(5));
        names.sync();
        names.set(2, b"t", None);
        names.set(2, b"f", Some(5));

        let seen: std::collections::BTreeSet<_> = (0..50)
            .map(|seed| names.after_power_loss(NamesFate::Any, &mut Chance::new(seed)))
            .map(|left| (left.get(b"t"), left.get(b"f")))
            .collect();

        assert_eq!(seen.len(), 4);
    }
}
