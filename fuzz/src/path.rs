//! Names that reach the disk.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use haul::file::path::{RelPath, TEMP_PREFIX, escape};
use haul::limits;

/// A path that was let in stays below the directory it is put in, is no temporary name of ours, and is shown without
/// anything that a terminal obeys.
pub fn path(data: &[u8]) {
    let shown = escape(data);
    assert!(!shown.chars().any(char::is_control));
    let Ok(path) = RelPath::parse(data) else { return };

    assert_eq!(path.as_bytes(), data);
    let as_std = Path::new(OsStr::from_bytes(data));
    assert!(as_std.components().all(|component| matches!(component, Component::Normal(_))));
    assert!(as_std.components().map(|component| component.as_os_str().as_bytes()).eq(path.components()));
    for component in path.components() {
        assert!(component.len() <= limits::NAME_MAX_BYTES && !component.starts_with(TEMP_PREFIX));
        assert!(!component.contains(&0));
    }
    assert!(path.is_within(&path));

    let (first, rest) = path.split_first();
    let (parent, last) = path.split_last();
    assert_eq!(rest.is_none(), parent.is_none());
    let top = RelPath::parse(first).expect("a component is a path");
    assert!(path.is_within(&top));
    let joined = rest.map_or(Ok(top.clone()), |rest| top.join(rest));
    assert_eq!(joined, Ok(path.clone()));
    if let Some(parent) = parent {
        let parent = RelPath::parse(parent).expect("so is what is before the last one");
        assert_eq!(parent.join(last), Ok(path.clone()));
        assert!(path.is_within(&parent) && !parent.is_within(&path));
    }
}
