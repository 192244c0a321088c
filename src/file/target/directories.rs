//! Knows which directories are still being filled, so that each gets its mode and time when nothing follows.
//!
//! A directory is filled until the listing has left it and everything announced below it has its outcome. Only such
//! directories are remembered: the ones on the way from the root to the listing, and those that wait for content.
//! A directory that could not be made is remembered while the listing is in it, so that what is below fails shortly.
//! This is bookkeeping alone; `tree` touches the disk.

use std::collections::{BTreeMap, HashMap};

use crate::file::path::RelPath;
use crate::wire::message::{Code, Mtime, Outcome};

/// A directory that is being filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filling {
    pub(super) path: RelPath,
    /// Permission bits that it gets in the end.
    pub(super) mode: u32,
    /// Modification time that it gets in the end; `None` for one that stood there and is left as it was.
    pub(super) mtime: Option<Mtime>,
    /// The directory around it.
    pub(super) parent: Option<u64>,
    /// What will be told unless its metadata cannot be set; [`Outcome::Unchanged`] as long as it was there already
    /// with its mode.
    pub(super) outcome: Outcome,
}

/// What entries that come next stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Around {
    /// No announced directory.
    Nothing,
    /// This one.
    Directory(u64),
    /// One that could not be made, for this reason.
    Broken(Code),
}

/// All directories that are being filled.
#[derive(Debug, Default)]
pub(super) struct Directories {
    /// From the outermost to the one that the listing is in.
    levels: Vec<(RelPath, Around)>,
    /// By entry number.
    filling: BTreeMap<u64, State>,
    /// The latest of each path: two sources may announce the same directory.
    latest: HashMap<RelPath, u64>,
}

#[derive(Debug)]
struct State {
    directory: Filling,
    /// Entries directly below that have no outcome.
    pending: u64,
    /// The listing has left it.
    left: bool,
}

impl Directories {
    /// The listing comes to `path`: leaves the directories that it is not in. Those that are full, innermost first.
    pub(super) fn leave_for(&mut self, path: &RelPath) -> Vec<u64> {
        let is_around = |level: &RelPath| path.is_within(level) && path != level;
        let staying = self.levels.iter().take_while(|(level, _)| is_around(level)).count();
        self.leave(staying)
    }

    /// The listing has ended. The directories that are full, innermost first.
    pub(super) fn leave_all(&mut self) -> Vec<u64> {
        self.leave(0)
    }

    /// The listing goes into a directory.
    pub(super) fn enter(&mut self, number: u64, directory: Filling) {
        self.levels.push((directory.path.clone(), Around::Directory(number)));
        self.latest.insert(directory.path.clone(), number);
        self.filling.insert(number, State { directory, pending: 0, left: false });
    }

    /// The listing goes into a directory that could not be made.
    pub(super) fn enter_broken(&mut self, path: RelPath, code: Code) {
        self.levels.push((path, Around::Broken(code)));
    }

    /// An entry was announced in `parent`.
    pub(super) fn add_child(&mut self, parent: u64) {
        if let Some(state) = self.filling.get_mut(&parent) {
            state.pending += 1;
        }
    }

    /// An entry in `parent` has its outcome; whether `parent` is full now.
    pub(super) fn child_done(&mut self, parent: u64) -> bool {
        let state =
            self.filling.get_mut(&parent).expect("a directory stays until its children have outcomes");
        state.pending -= 1;
        state.is_full()
    }

    /// Forgets a full directory. The flag says whether no later entry names the same directory.
    pub(super) fn remove(&mut self, number: u64) -> (Filling, bool) {
        let State { directory, .. } =
            self.filling.remove(&number).expect("only full directories are removed");
        let is_latest = self.latest.get(&directory.path) == Some(&number);
        if is_latest {
            self.latest.remove(&directory.path);
        }
        (directory, is_latest)
    }

    /// Every directory that is still being filled, innermost first, is given up.
    pub(super) fn take_all(&mut self) -> Vec<Filling> {
        let all = std::mem::take(&mut self.filling);
        all.into_values().rev().map(|state| state.directory).collect()
    }

    /// Whether the directory is being filled and is ours to change.
    pub(super) fn is_ours(&self, path: &RelPath) -> bool {
        let latest = self.latest.get(path).and_then(|number| self.filling.get(number));
        latest.is_some_and(|state| state.directory.mtime.is_some())
    }

    /// A directory that is being filled.
    pub(super) fn filling_mut(&mut self, number: u64) -> Option<&mut Filling> {
        self.filling.get_mut(&number).map(|state| &mut state.directory)
    }

    /// Whether entry `number` is a directory that is being filled.
    pub(super) fn is_filling(&self, number: u64) -> bool {
        self.filling.contains_key(&number)
    }

    /// What the listing is in.
    pub(super) fn around(&self) -> Around {
        self.levels.last().map_or(Around::Nothing, |(_, around)| *around)
    }

    fn leave(&mut self, staying: usize) -> Vec<u64> {
        let mut full = Vec::new();
        for (_, around) in self.levels.drain(staying..).rev() {
            if let Around::Directory(number) = around {
                let state =
                    self.filling.get_mut(&number).expect("a directory stays until the listing has left it");
                state.left = true;
                if state.is_full() {
                    full.push(number);
                }
            }
        }
        full
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.left && self.pending == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_full_when_the_listing_left_and_its_children_are_done() {
        let mut directories = Directories::default();
        directories.enter(0, filling("d", None));
        directories.add_child(0);

        assert!(!directories.child_done(0));
        directories.add_child(0);
        assert!(directories.leave_for(&path("e")).is_empty());
        assert!(directories.child_done(0));

        assert!(directories.remove(0).1);
        assert!(!directories.is_filling(0));
    }

    #[test]
    fn an_empty_directory_is_full_when_the_listing_leaves_it() {
        let mut directories = Directories::default();
        directories.enter(0, filling("d", None));

        assert!(directories.leave_for(&path("d/x")).is_empty());
        assert_eq!(directories.around(), Around::Directory(0));
        assert_eq!(directories.leave_for(&path("dx")), [0]);
        assert_eq!(directories.around(), Around::Nothing);
    }

    #[test]
    fn inner_directories_are_left_before_outer_ones() {
        let mut directories = Directories::default();
        directories.enter(0, filling("a", None));
        directories.add_child(0);
        directories.enter(1, filling("a/b", Some(0)));

        assert_eq!(directories.leave_all(), [1]);
        directories.remove(1);
        assert!(directories.child_done(0));
    }

    #[test]
    fn what_is_below_a_broken_directory_knows_why() {
        let mut directories = Directories::default();
        directories.enter_broken(path("a"), Code::Conflict);

        directories.leave_for(&path("a/b"));
        assert_eq!(directories.around(), Around::Broken(Code::Conflict));
        directories.leave_for(&path("b"));
        assert_eq!(directories.around(), Around::Nothing);
    }

    #[test]
    fn the_later_of_two_entries_for_one_directory_has_the_last_word() {
        let mut directories = Directories::default();
        directories.enter(0, filling("d", None));
        assert_eq!(directories.leave_for(&path("d")), [0]);
        directories.enter(1, filling("d", None));

        assert!(!directories.remove(0).1);
        directories.leave_all();
        assert!(directories.remove(1).1);
    }

    fn filling(name: &str, parent: Option<u64>) -> Filling {
        let mtime = Mtime { secs: 0, nanos: 0 };
        Filling { path: path(name), mode: 0o755, mtime: Some(mtime), parent, outcome: Outcome::Done }
    }

    fn path(name: &str) -> RelPath {
        RelPath::parse(name.as_bytes()).unwrap()
    }
}
