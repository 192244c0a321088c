//! The one door to the clock and to randomness; everything below takes both as arguments.

use std::time::{Duration, Instant, SystemTime};

use ring::rand::{SecureRandom as _, SystemRandom};

/// The monotonic clock, for intervals and deadlines.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time since 1970-01-01 UTC, for people and for files; zero where the clock stands before that.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Bytes that nobody can guess, from the operating system.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("every supported system gives random bytes once it has booted");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_forward_and_stands_after_2020() {
        let before = now();

        assert!(now() >= before);
        assert!(unix_time() > Duration::from_secs(1_577_836_800));
    }

    #[test]
    fn no_two_draws_are_equal() {
        assert_ne!(random::<16>(), random::<16>());
    }
}
