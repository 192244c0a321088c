//! A matrix of links.

use std::collections::BTreeSet;

use haul::compare::grid::Grid;
use haul::link::LinkConfig;

/// Each cell of a grid is a link that can be read again, and the names of all are told apart if their values are.
pub fn grid(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (base, text) = text.split_once('\n').unwrap_or(("", text));
    let Ok(grid) = text.parse::<Grid>() else { return };
    let Ok(cells) = grid.cells(base, |spec| spec.parse::<LinkConfig>()) else { return };

    assert!(!cells.is_empty());
    for (_, link) in &cells {
        assert_eq!(link.to_string().parse().as_ref(), Ok(link));
    }
    let names: BTreeSet<_> = cells.iter().map(|(name, _)| name).collect();
    assert!(names.len() <= cells.len());
}
