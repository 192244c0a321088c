//! A matrix of links: `loss=0,0.1,1,5 rtt=10,50,100,300`.

use std::str::FromStr;

use crate::link::{LinkConfig, SpecError};

/// Axes, each a part of a SPEC with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    axes: Vec<Axis>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Axis {
    part: String,
    values: Vec<String>,
}

/// Why a text is no grid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// Not of the form `part=value,value part=value`.
    #[error("`{0}` is not PART=VALUE,VALUE; a grid is written like 'loss=0,1,5 rtt=10,100'")]
    Axis(String),
    /// The same part twice.
    #[error("`{0}` stands twice in the grid")]
    Twice(String),
    /// More links than anybody waits for.
    #[error("{0} links are too many; at most {CELLS_MAX}")]
    TooMany(usize),
    /// A cell is no link.
    #[error("`{spec}`: {why}")]
    Cell {
        /// The cell's SPEC.
        spec: String,
        /// Why not.
        why: SpecError,
    },
}

/// Enough for any table that a person reads.
const CELLS_MAX: usize = 400;

/// Units of values that have none.
const UNITS: [(&str, &str); 8] = [
    ("loss", "%"),
    ("reorder", "%"),
    ("dup", "%"),
    ("corrupt", "%"),
    ("rtt", "ms"),
    ("jitter", "ms"),
    ("rate", "mbit"),
    ("queue", "bdp"),
];

impl Grid {
    /// All links: those of `base` with each combination of the axes' values in its place; each with the text that tells it from the
    /// others. `read` reads a SPEC.
    pub fn cells(
        &self,
        base: &str,
        read: impl Fn(&str) -> Result<LinkConfig, SpecError>,
    ) -> Result<Vec<(String, LinkConfig)>, GridError> {
        let count =
            self.axes.iter().try_fold(1_usize, |product, axis| product.checked_mul(axis.values.len()));
        match count {
            Some(count) if count <= CELLS_MAX => {}
            count => return Err(GridError::TooMany(count.unwrap_or(usize::MAX))),
        }
        let kept: Vec<&str> =
            base.split(',').map(str::trim).filter(|part| !part.is_empty() && !self.replaces(part)).collect();
        let mut cells = vec![String::new()];
        for axis in &self.axes {
            let with = |cell: &String, value: &String| {
                let comma = if cell.is_empty() { "" } else { "," };
                format!("{cell}{comma}{}={value}", axis.part)
            };
            cells = cells
                .iter()
                .flat_map(|cell| axis.values.iter().map(move |value| with(cell, value)))
                .collect();
        }
        let link = |cell: String| {
            let spec = kept.iter().copied().chain([cell.as_str()]).collect::<Vec<_>>().join(",");
            let link = read(&spec).map_err(|why| GridError::Cell { spec, why })?;
            Ok((cell, link))
        };
        cells.into_iter().map(link).collect()
    }

    fn replaces(&self, part: &str) -> bool {
        part.split_once('=').is_some_and(|(name, _)| self.axes.iter().any(|axis| axis.part == name.trim()))
    }
}

impl FromStr for Grid {
    type Err = GridError;

    fn from_str(text: &str) -> Result<Self, GridError> {
        let mut axes: Vec<Axis> = Vec::new();
        for item in text.split_whitespace() {
            let wrong = || GridError::Axis(item.to_owned());
            let (part, values) = item.split_once('=').ok_or_else(wrong)?;
            if axes.iter().any(|axis| axis.part == part) {
                return Err(GridError::Twice(part.to_owned()));
            }
            let values: Vec<String> = values.split(',').map(|value| with_unit(part, value)).collect();
            if part.is_empty() || values.iter().any(String::is_empty) {
                return Err(wrong());
            }
            axes.push(Axis { part: part.to_owned(), values });
        }
        if axes.is_empty() { Err(GridError::Axis(text.to_owned())) } else { Ok(Self { axes }) }
    }
}

fn with_unit(part: &str, value: &str) -> String {
    let is_bare = value.parse::<f64>().is_ok();
    let unit = UNITS.iter().find(|(name, _)| *name == part).map(|(_, unit)| *unit).filter(|_| is_bare);
    format!("{value}{}", unit.unwrap_or(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_is_every_combination_upon_the_base() {
        let grid: Grid = "loss=0,0.1,5% rtt=10,300".parse().unwrap();
        let cells = grid.cells("rate=50mbit,loss=9%,queue=2bdp", str::parse).unwrap();

        let names: Vec<&str> = cells.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), 6);
        assert_eq!(names[..3], ["loss=0%,rtt=10ms", "loss=0%,rtt=300ms", "loss=0.1%,rtt=10ms"]);
        assert_eq!(cells[5].1, "rate=50mbit,queue=2bdp,loss=5%,rtt=300ms".parse().unwrap());
    }

    #[test]
    fn what_is_no_grid_is_refused_with_its_place() {
        let parse = |text: &str| text.parse::<Grid>().unwrap_err().to_string();

        assert!(parse("").contains("is not PART=VALUE"));
        assert!(parse("loss").starts_with("`loss`"));
        assert!(parse("loss=1,,2").starts_with("`loss=1,,2`"));
        assert_eq!(parse("loss=1 loss=2"), "`loss` stands twice in the grid");
        let cells = |text: &str| {
            text.parse::<Grid>().unwrap().cells("rate=1mbit", str::parse).unwrap_err().to_string()
        };
        assert!(cells("speed=1").starts_with("`rate=1mbit,speed=1`: `speed` is no part"));
        let many = (0..21).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert!(cells(&format!("loss={many} rtt={many}")).starts_with("441 links"));
    }
}
