//! One direction of the link on a thread of its own: reads what one host sends, asks the model, and hands each packet
//! to the other host at its moment.
//!
//! ```text
//!   the sender's TUN --> read, up to a batch --> Link::offer --> Schedule --> write when due --> the receiver's TUN
//! ```
//!
//! Reading and writing take turns, a batch each. With nothing to read and nothing due, the thread sleeps until the next
//! packet's moment or the next packet, whichever is first.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::clock::Clock;
use super::flow::Headers;
use super::plan::Plan;
use super::runqueue::RunDelay;
use super::samples::Sampler;
use super::schedule::{Schedule, Waiting};
use super::tally::{Before, Tally};
use crate::limits;
use crate::link::{Direction, Link};

/// A lane that runs.
#[derive(Debug)]
pub(super) struct RunningLane {
    thread: thread::JoinHandle<io::Result<Tally>>,
}

/// What both lanes look at to know whether to go on.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    is_over: Arc<AtomicBool>,
    /// Its other end closes when all is over, which wakes who sleeps.
    bell: Arc<OwnedFd>,
}

/// Ends the lanes when it is dropped.
#[derive(Debug)]
pub(super) struct Stopper {
    is_over: Arc<AtomicBool>,
    _bell: OwnedFd,
}

/// One direction.
struct Lane {
    /// What the sending host sends.
    from: OwnedFd,
    /// What is written arrives at the receiving host.
    to: OwnedFd,
    clock: Clock,
    link: Link,
    schedule: Schedule,
    tally: Tally,
    /// Takes note of each interval, if asked to.
    sampler: Option<Sampler>,
    /// When there was nothing to read the last time: no packet waits for longer.
    read_all_at: Duration,
    /// What comes between the moment that should wake the thread and its waking; of its own thread.
    run_delay: Option<RunDelay>,
    /// Buffers without a packet.
    free: Vec<Box<[u8]>>,
    /// Room for the longest packet of the sending host.
    buffer_bytes: usize,
}

/// Packets that are read, or written, before it is the other's turn.
const BATCH: usize = 64;
/// Buffers that are kept for the next packets; a few batches.
const FREE_MAX: usize = 1024;

/// A pair to end lanes with.
pub(super) fn stop() -> io::Result<(Stopper, Stop)> {
    let (bell, rope) = rustix::pipe::pipe()?;
    let is_over = Arc::new(AtomicBool::new(false));
    Ok((Stopper { is_over: is_over.clone(), _bell: rope }, Stop { is_over, bell: Arc::new(bell) }))
}

impl Drop for Stopper {
    fn drop(&mut self) {
        // Before the bell, which goes with this value.
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl RunningLane {
    /// Starts to carry packets between two TUN devices; they must not block.
    pub(super) fn start(
        direction: Direction,
        plan: &Plan,
        clock: Clock,
        stop: Stop,
        (from, to): (OwnedFd, OwnedFd),
    ) -> io::Result<Self> {
        let config = match direction {
            Direction::Forward => &plan.there,
            Direction::Backward => &plan.back,
        };
        let lane = Lane {
            from,
            to,
            clock,
            link: Link::new(config, direction),
            schedule: Schedule::default(),
            tally: Tally::default(),
            sampler: plan.sample_every.map(Sampler::new),
            read_all_at: clock.now(),
            run_delay: None,
            free: Vec::new(),
            buffer_bytes: plan.mtu_bytes.into(),
        };
        let name = match direction {
            Direction::Forward => "link there",
            Direction::Backward => "link back",
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || lane.run(&stop))?;
        Ok(Self { thread })
    }

    /// Waits until it has stopped; what it did.
    pub(super) fn end(self) -> io::Result<Tally> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread of the emulator panicked")))
    }
}

impl Lane {
    fn run(mut self, stop: &Stop) -> io::Result<Tally> {
        // Wakes within microseconds of a packet's moment instead of 50 later. It works without.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        self.run_delay = Some(RunDelay::of_this_thread());
        while !stop.is_over.load(Ordering::Relaxed) {
            let was_due = self.write_due();
            let was_there = self.read_batch()?;
            if !was_due && !was_there {
                self.sleep(&stop.bell)?;
            }
        }
        if let Some(sampler) = self.sampler {
            self.tally.samples = sampler.finish(self.clock.now());
        }
        self.tally.machine.under_way = self.schedule.len().try_into().unwrap_or(u64::MAX);
        Ok(self.tally)
    }

    /// Hands over what is due, up to a batch; whether anything was.
    fn write_due(&mut self) -> bool {
        for written in 0..BATCH {
            let now = self.clock.now();
            let Some(due) = self.schedule.take_due(now) else { return written > 0 };
            self.write(due, now);
        }
        true
    }

    fn write(&mut self, due: Waiting, now: Duration) {
        match rustix::io::write(&self.to, &due.buffer[..due.len_bytes]) {
            Ok(_) => {
                self.tally.machine.on_written(due.at, now);
                if let Some(sampler) = &mut self.sampler {
                    sampler.on_delivery(now, due.len_bytes);
                }
            }
            // A device takes no packet of which the version is wrong.
            Err(Errno::INVAL) if due.is_damaged => self.tally.machine.refused += 1,
            Err(_) => self.tally.machine.not_taken += 1,
        }
        self.keep(due.buffer);
    }

    /// Reads what is there, up to a batch; whether anything was.
    fn read_batch(&mut self) -> io::Result<bool> {
        for read in 0..BATCH {
            let mut buffer = self.free.pop().unwrap_or_else(|| vec![0; self.buffer_bytes].into_boxed_slice());
            match rustix::io::read(&self.from, &mut *buffer) {
                Ok(len) => self.take(buffer, len),
                Err(Errno::AGAIN) => {
                    self.keep(buffer);
                    self.read_all_at = self.clock.now();
                    return Ok(read > 0);
                }
                Err(Errno::INTR) => self.keep(buffer),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }

    /// A packet enters the link.
    fn take(&mut self, mut buffer: Box<[u8]>, len: usize) {
        let Some(headers) = Headers::read(&buffer[..len]) else {
            self.tally.machine.not_ipv4 += 1;
            return self.keep(buffer);
        };
        let now = self.clock.now();
        self.tally.machine.on_read(now.saturating_sub(self.read_all_at));
        let before = Before::of(&self.link, now);
        let fate = self.link.offer(now, len);
        let share = self.tally.on_offer(now, &self.link, &before, &headers, &fate);
        if let Some(sampler) = &mut self.sampler {
            sampler.on_offer(now, &share);
        }

        let [first, copy] = {
            let mut deliveries = fate.deliveries();
            [deliveries.next(), deliveries.next()]
        };
        let Some(first) = first else { return self.keep(buffer) };
        if self.schedule.held_bytes() + 2 * buffer.len() > limits::LINK_HELD_MAX_BYTES {
            self.tally.machine.overflowed += 1;
            return self.keep(buffer);
        }
        // The copy is made of what was sent, and added behind its packet.
        let copied = copy.map(|delivery| (delivery, buffer.clone()));
        flip(&mut buffer, first.flipped_bit);
        self.schedule.add(first.at, buffer, len, first.flipped_bit.is_some());
        if let Some((copy, mut buffer)) = copied {
            flip(&mut buffer, copy.flipped_bit);
            self.schedule.add(copy.at, buffer, len, copy.flipped_bit.is_some());
        }
    }

    /// Until there is something to read or to write, or all is over.
    fn sleep(&mut self, bell: &OwnedFd) -> io::Result<()> {
        let wait = match self.schedule.next_at() {
            None => None,
            Some(at) => {
                let left = at.saturating_sub(self.clock.now());
                Some(Timespec::try_from(left).map_err(io::Error::other)?)
            }
        };
        let mut watched = [PollFd::new(&self.from, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        match poll(&mut watched, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // A packet wakes the thread, so that none waits for longer than that takes.
        let waking = self.run_delay.as_mut().map_or(Duration::ZERO, RunDelay::since_last);
        self.read_all_at = self.read_all_at.max(self.clock.now().saturating_sub(waking));
        Ok(())
    }

    fn keep(&mut self, buffer: Box<[u8]>) {
        if self.free.len() < FREE_MAX {
            self.free.push(buffer);
        }
    }
}

fn flip(packet: &mut [u8], bit: Option<usize>) {
    if let Some(bit) = bit {
        packet[bit / 8] ^= 1 << (bit % 8);
    }
}
