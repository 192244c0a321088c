//! The heart: chunks, placement, credit.
