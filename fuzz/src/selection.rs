//! The patterns of `--include` and `--exclude`, which a server takes from its clients.

use haul::file::selection::{Selection, pattern_of};

use super::bytes::Bytes;

/// What is excluded is not taken, whatever is included; a directory is taken unless it is excluded; and a pattern made of
/// a name means that name.
pub fn selection(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let patterns = |bytes: &mut Bytes<'_>| {
        let count = bytes.below(4);
        (0..count).filter_map(|_| String::from_utf8(bytes.some().to_vec()).ok()).collect::<Vec<_>>()
    };
    let (include, exclude) = (patterns(&mut bytes), patterns(&mut bytes));
    let name = bytes.rest();

    if let Ok(own) = Selection::new(&[pattern_of(name)], &[])
        && is_name(name)
    {
        assert!(own.takes(name, false), "{name:?}");
        assert!(own.takes(&[name, b"/below"].concat(), false), "{name:?}");
    }
    let Ok(both) = Selection::new(&include, &exclude) else { return };
    let without = |patterns: &[String]| Selection::new(&[], patterns).expect("it was valid before");
    for is_dir in [false, true] {
        let is_left = without(&exclude).takes(name, is_dir);
        assert!(is_left || !both.takes(name, is_dir));
        assert!(!is_dir || both.takes(name, is_dir) == is_left);
        if both.takes(name, is_dir) {
            assert!(both.clone().only([name.to_vec()]).takes(name, is_dir));
        }
    }
}

/// Whether an entry can have this name.
fn is_name(name: &[u8]) -> bool {
    haul::file::path::RelPath::parse(name).is_ok()
}
