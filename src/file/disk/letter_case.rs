//! Tells a name from one that differs only in case, on disks that do not (macOS, vfat, casefolded directories).
//!
//! On such a disk `Readme` is found when `README` is there. Writing over it would put one file's bytes under
//! another file's name, so whoever finds something at a name asks [`twin_of`] first. Nothing is written to find out.

use rustix::io::Result;

use super::target_dirs::Dir;
use super::write;

/// The name under which what stands at `name` is listed, if that is another name in this directory's eyes the same.
/// `None` where `name` itself is listed, or nothing stands there.
pub fn twin_of(dir: &Dir, name: &[u8]) -> Result<Option<Vec<u8>>> {
    if name.iter().all(|byte| byte.is_ascii() && !byte.is_ascii_alphabetic()) {
        return Ok(None);
    }
    let Some(stat) = write::stat(dir.handle(), name)? else {
        return Ok(None);
    };
    let folds = match swapped(name) {
        Some(other) => dir.folds_case(|| {
            // An error leaves the question open; the listing answers it.
            write::stat(dir.handle(), &other)
                .map_or(true, |found| found.is_some_and(|found| found.identity == stat.identity))
        }),
        None => dir.is_known_to_fold_case().unwrap_or(true),
    };
    if !folds {
        return Ok(None);
    }
    let mut twin = Twin::new(name, stat.identity.1);
    write::any_name(dir.handle(), |listed, inode| twin.see(listed, inode))?;
    Ok(twin.decide())
}

/// The same name with every ASCII letter in the other case; `None` where there is none.
fn swapped(name: &[u8]) -> Option<Vec<u8>> {
    let swap = |&byte: &u8| if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { byte };
    let other: Vec<u8> = name.iter().map(swap).collect();
    (other != name).then_some(other)
}

/// The decision, over a listing: pure.
#[derive(Debug)]
struct Twin<'a> {
    /// What was asked for.
    wanted: &'a [u8],
    /// The inode that was found under it.
    inode: u64,
    /// A listed name of that inode, or one equal but for ASCII case.
    other: Option<Vec<u8>>,
    /// `wanted` is listed byte for byte.
    exact: bool,
}

impl<'a> Twin<'a> {
    fn new(wanted: &'a [u8], inode: u64) -> Self {
        Self { wanted, inode, other: None, exact: false }
    }

    /// Takes one listed name; `true` when no more are needed.
    fn see(&mut self, listed: &[u8], inode: u64) -> bool {
        self.exact |= listed == self.wanted;
        if listed.eq_ignore_ascii_case(self.wanted) || (self.other.is_none() && inode == self.inode) {
            self.other = Some(listed.to_vec());
        }
        self.exact
    }

    fn decide(self) -> Option<Vec<u8>> {
        if self.exact { None } else { self.other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_listed_byte_for_byte_has_no_twin() {
        assert_eq!(decide(b"Readme", 7, &[(b"README", 7), (b"Readme", 7)]), None);
        assert_eq!(decide(b"Readme", 7, &[(b"Readme", 7), (b"README", 9)]), None);
    }

    #[test]
    fn a_name_found_only_in_another_case_has_that_twin() {
        assert_eq!(decide(b"readme", 7, &[(b"a", 1), (b"README", 7)]), Some(b"README".to_vec()));
    }

    #[test]
    fn a_name_folded_beyond_ascii_is_found_by_its_inode() {
        let listed = "STRASSE-É".as_bytes();

        assert_eq!(decide("strasse-é".as_bytes(), 7, &[(b"a", 1), (listed, 7)]), Some(listed.to_vec()));
    }

    #[test]
    fn a_name_that_vanished_meanwhile_has_no_twin() {
        assert_eq!(decide(b"readme", 7, &[(b"a", 1)]), None);
    }

    #[test]
    fn only_letters_are_swapped() {
        assert_eq!(swapped(b"aB-3"), Some(b"Ab-3".to_vec()));
        assert_eq!(swapped("33-é".as_bytes()), None);
    }

    #[test]
    fn an_ordinary_disk_tells_cases_apart() {
        let temp = tempfile::tempdir().unwrap();
        let root = write::open_root(temp.path()).unwrap();
        let dirs = super::super::target_dirs::TargetDirs::new(root).unwrap();
        for name in ["Readme", "é", "33"] {
            std::fs::write(temp.path().join(name), "").unwrap();
            assert_eq!(twin_of(dirs.root(), name.as_bytes()).unwrap(), None);
        }

        if cfg!(target_os = "linux") {
            assert_eq!(dirs.root().is_known_to_fold_case(), Some(false));
        }
    }

    fn decide(wanted: &[u8], inode: u64, listed: &[(&[u8], u64)]) -> Option<Vec<u8>> {
        let mut twin = Twin::new(wanted, inode);
        let _ = listed.iter().any(|(name, inode)| twin.see(name, *inode));
        twin.decide()
    }
}
