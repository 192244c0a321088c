//! How long a thread had to wait for a processor although it could have run: what makes it see packets late.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// The waits of the thread that has made it.
#[derive(Debug)]
pub(super) struct RunDelay {
    /// The kernel's count; none where the kernel does not count.
    count: Option<File>,
    /// What it said the last time.
    last: Duration,
}

impl RunDelay {
    /// Those of this thread from here on.
    pub(super) fn of_this_thread() -> Self {
        let mut delay = Self { count: File::open("/proc/thread-self/schedstat").ok(), last: Duration::ZERO };
        delay.since_last();
        delay
    }

    /// The waits since this was asked the last time, all together; zero where the kernel does not count.
    pub(super) fn since_last(&mut self) -> Duration {
        let mut line = [0; 64];
        let read = self.count.as_ref().and_then(|count| count.read_at(&mut line, 0).ok());
        let Some(total) = read.and_then(|len| delay_in(line.get(..len)?)) else { return Duration::ZERO };
        let since = total.saturating_sub(self.last);
        self.last = total;
        since
    }
}

/// The second of the numbers: nanoseconds on a processor, nanoseconds waiting for one, turns.
fn delay_in(line: &[u8]) -> Option<Duration> {
    let number = std::str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?;
    number.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_second_number() {
        assert_eq!(delay_in(b"152 87871 1\n"), Some(Duration::from_nanos(87_871)));
        assert_eq!(delay_in(b"152"), None);
        assert_eq!(delay_in(b""), None);
    }

    #[test]
    fn a_wait_is_told_once() {
        let mut delay = RunDelay::of_this_thread();
        let first = delay.since_last();
        let total = delay.last;

        assert!(first <= total);
        assert_eq!(RunDelay { count: None, last: total }.since_last(), Duration::ZERO);
    }
}
