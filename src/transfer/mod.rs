//! The heart: chunks, placement, credit.

pub mod cursor;
pub mod placement;
