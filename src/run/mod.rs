//! Couples everything with the world: the only folder with threads, tasks, the clock and the system's randomness.

pub mod home;
