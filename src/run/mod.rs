//! Where haul meets time and chance: the one place that reads the clock and draws random bytes.
//!
//! ```text
//! clock   the clock and the operating system's randomness
//! ```

pub mod clock;
