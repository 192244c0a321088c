//! Rules of links: which symbolic links may stay, and what hard links wait for. No disk here.

use std::collections::HashMap;

use super::ProtocolViolation;
use crate::file::path::RelPath;
use crate::limits;
use crate::wire::message::Outcome;

/// Whether a symbolic link at `path` with this `target` could lead out of the root.
///
/// Components before the link are real directories, so as many `..` as it stands deep, at the front, stay inside.
/// A `..` after another component may climb out of wherever that one leads, and is refused.
pub(super) fn is_escaping(path: &RelPath, target: &[u8]) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let depth = path.components().count() - 1;
    let mut climbed = 0;
    let mut descended = false;
    for component in target.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if descended => return true,
            b".." => climbed += 1,
            _ => descended = true,
        }
    }
    climbed > depth
}

/// The files of this session that hard links may name.
#[derive(Debug, Default)]
pub(super) struct LinkedFiles {
    files: HashMap<u64, Linked>,
}

/// What is known of such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    /// No outcome; these hard links wait for it.
    Pending(Vec<u64>),
    /// It stands here.
    Live(RelPath),
    /// A dry run would make it.
    Planned,
    /// It failed, or something else was kept under its name.
    Missing,
}

impl LinkedFiles {
    /// A file that hard links may name was announced. protocol.md [ENTRY-6]
    pub(super) fn announce(&mut self, file: u64) -> Result<(), ProtocolViolation> {
        if self.files.len() >= limits::HARDLINKS_MAX {
            return Err(ProtocolViolation::TooManyLinked);
        }
        self.files.insert(file, Linked::Pending(Vec::new()));
        Ok(())
    }

    /// Such a file was announced under a name that cannot be received.
    pub(super) fn refuse(&mut self, file: u64) -> Result<(), ProtocolViolation> {
        self.announce(file)?;
        self.files.insert(file, Linked::Missing);
        Ok(())
    }

    /// The hard link `link` names `file`: what is known of it. While that is pending, the link is made to wait.
    /// protocol.md [ENTRY-3]
    pub(super) fn look(&mut self, file: u64, link: u64) -> Result<Linked, ProtocolViolation> {
        let linked = self.files.get_mut(&file).ok_or(ProtocolViolation::NotLinked { link, file })?;
        if let Linked::Pending(waiting) = linked {
            waiting.push(link);
            return Ok(Linked::Pending(Vec::new()));
        }
        Ok(linked.clone())
    }

    /// `file` has its outcome: what that means for links, and those that waited for it.
    pub(super) fn settle(&mut self, file: u64, path: &RelPath, outcome: &Outcome) -> (Linked, Vec<u64>) {
        let state = match outcome {
            Outcome::Done | Outcome::Unchanged | Outcome::Identical => Linked::Live(path.clone()),
            Outcome::Planned => Linked::Planned,
            Outcome::Kept | Outcome::Failed { .. } => Linked::Missing,
        };
        match self.files.insert(file, state.clone()) {
            Some(Linked::Pending(waiting)) => (state, waiting),
            _ => (state, Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_stays_inside_is_no_escape() {
        for (path, target) in
            [("a", "b"), ("a", "./b/c"), ("d/a", "../b"), ("d/e/a", "../.././b"), ("a", "..b")]
        {
            assert!(!escapes(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn a_link_that_could_lead_out_is_an_escape() {
        // protocol.md [LINK-1]
        for (path, target) in [
            ("a", "/etc"),
            ("a", ".."),
            ("d/a", "../../b"),
            ("d/a", "x/../../b"),
            ("a/b/c", "d/.."),
            ("a", "./.."),
        ] {
            assert!(escapes(path, target), "{path} -> {target}");
        }
    }

    #[test]
    fn a_hard_link_waits_for_its_file_and_learns_where_it_is() {
        let mut linked = LinkedFiles::default();
        linked.announce(3).unwrap();

        linked.look(3, 5).unwrap();
        let (state, waiting) = linked.settle(3, &path("f"), &Outcome::Done);

        assert_eq!(state, Linked::Live(path("f")));
        assert_eq!(waiting, [5]);
        assert_eq!(linked.look(3, 6), Ok(Linked::Live(path("f"))));
        assert!(matches!(linked.look(4, 6), Err(ProtocolViolation::NotLinked { link: 6, file: 4 })));
    }

    #[test]
    fn files_that_links_may_name_are_bounded_just_there() {
        // protocol.md [ENTRY-6]
        let mut linked = LinkedFiles::default();
        for file in 0..limits::HARDLINKS_MAX as u64 {
            linked.announce(file).unwrap();
        }

        assert_eq!(linked.announce(limits::HARDLINKS_MAX as u64), Err(ProtocolViolation::TooManyLinked));
    }

    fn escapes(at: &str, target: &str) -> bool {
        is_escaping(&path(at), target.as_bytes())
    }

    fn path(name: &str) -> RelPath {
        RelPath::parse(name.as_bytes()).unwrap()
    }
}
