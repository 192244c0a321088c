//! Ends a thread's wait from another thread.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
};

/// Ends the wait of the one thread that waits for it; any number of threads may wake. Wakings that nobody has taken
/// yet are one waking. One that comes while nobody waits ends the next wait at once, so none is lost.
///
/// What a thread is woken for is handed over elsewhere: first hand over, then wake; first [`take`](Self::take), then
/// look.
#[derive(Debug)]
pub struct Waker {
    /// Whether there is an untaken waking. Saves the system call of every further one.
    is_woken: AtomicBool,
    /// Has a byte in it while there is an untaken waking, or is about to.
    reader: PipeReader,
    writer: PipeWriter,
}

impl Waker {
    /// A waker without a waking. Takes two descriptors.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        ioctl_fionbio(&reader, true)?;
        ioctl_fionbio(&writer, true)?;
        Ok(Self { is_woken: AtomicBool::new(false), reader, writer })
    }

    /// Ends the current or the next wait.
    pub fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            // A full pipe has what it takes to end a wait; nothing else can fail while we hold both ends.
            let _ = (&self.writer).write(&[1]);
        }
    }

    /// Takes the waking, if there is one.
    pub fn take(&self) -> bool {
        if !self.is_woken.load(Ordering::Relaxed) {
            return false;
        }
        // The byte goes before the flag: in the other order, a waking in between would write the byte that is then
        // thrown away. A waker that has set the flag but not yet written leaves a byte behind, which ends one wait
        // too early.
        self.drain();
        self.is_woken.swap(false, Ordering::AcqRel)
    }

    /// Waits until woken, at most so long; without a timeout for as long as it takes. Takes the waking and says
    /// whether there was one. May return early without one: look at the clock.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        if self.take() {
            return Ok(true);
        }
        let mut fds = [self.poll_fd()];
        wait_for(&mut fds, timeout)?;
        if !fds[0].revents().is_empty() {
            return Ok(self.take_ready());
        }
        Ok(self.take())
    }

    /// What to wait for.
    pub(super) fn poll_fd(&self) -> PollFd<'_> {
        PollFd::new(&self.reader, PollFlags::IN)
    }

    /// Takes the waking after a wait has seen the pipe ready: there may be a byte whose waking was taken before.
    pub(super) fn take_ready(&self) -> bool {
        self.drain();
        self.is_woken.swap(false, Ordering::AcqRel)
    }

    fn drain(&self) {
        // Fails where another byte is yet to come. Bytes that this leaves end a wait too early.
        let _ = (&self.reader).read(&mut [0; 8]);
    }
}

impl AsFd for Waker {
    /// Readable while there is a waking.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// Waits until a descriptor is ready, at most so long, to the nanosecond where the system can. A signal ends it early.
pub(super) fn wait_for(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    // A timeout that the system cannot express is longer than anybody waits.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;

    /// Longer than any test takes.
    const LONG: Option<Duration> = Some(Duration::from_secs(30));

    #[test]
    fn a_waking_ends_the_wait_that_follows_and_no_other() {
        let waker = Waker::new().unwrap();

        waker.wake();
        waker.wake();

        assert!(waker.wait(LONG).unwrap());
        assert!(!waker.wait(Some(Duration::ZERO)).unwrap());
        assert!(!waker.take());
    }

    #[test]
    fn a_waking_ends_a_wait_of_another_thread() {
        let waker = Waker::new().unwrap();

        thread::scope(|scope| {
            let waiting = scope.spawn(|| waker.wait(LONG).unwrap());
            waker.wake();
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn no_waking_is_lost_between_busy_threads() {
        let waker = Waker::new().unwrap();
        let (sender, receiver) = mpsc::channel();

        thread::scope(|scope| {
            for _ in 0..2 {
                let sender = sender.clone();
                let waker = &waker;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        sender.send(()).unwrap();
                        waker.wake();
                    }
                });
            }
            let mut seen = 0;
            while seen < 40_000 {
                waker.wait(LONG).unwrap();
                seen += receiver.try_iter().count();
            }
        });
    }
}
