//! The emulator's door to the clock.

use std::time::{Duration, Instant};

/// The clock of a link: both directions count from one start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts.
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    pub(super) fn now(self) -> Duration {
        self.start.elapsed()
    }
}
