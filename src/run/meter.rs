//! Measures what a session waited for, so that the result can say what limited it.
//!
//! Waiting is wall time less CPU time around each call that may block. What a thread waited for a CPU is taken off
//! at the end, from the kernel's own count (`schedstat`), where the platform has one.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use super::clock;
use crate::wire::message::Stats;

/// Something that a session waits for, in the order of `Stats`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The source, when reading.
    Source,
    /// A socket that takes no more.
    Network,
    /// The receiver's credit.
    Credit,
    /// The target, when writing and syncing.
    Target,
    /// The other side of the pipeline: no data to write, or no room for what was read.
    Peer,
}

/// The clock and the counters of one session.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    waits_us: [AtomicU64; 5],
    wire_bytes: AtomicU64,
    /// Time of the first and the last content byte since the start, microseconds; 0 before the first.
    first_us: AtomicU64,
    last_us: AtomicU64,
    cpu_at_start_us: u64,
    threads_at_start: BTreeMap<u64, ThreadTime>,
    /// Most CPU and run-queue time of a thread that has ended.
    ended: Mutex<ThreadTime>,
}

/// What the kernel counted for one thread, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ThreadTime {
    cpu_us: u64,
    starved_us: u64,
}

/// A span of one thread's time: wall and CPU.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    wall: Instant,
    cpu: Duration,
}

impl Span {
    /// Begins now.
    pub fn begin() -> Self {
        Self { wall: clock::now(), cpu: cpu_time(ClockId::ThreadCPUTime) }
    }

    /// The part of the span in which the thread did not run.
    pub fn blocked(self) -> Duration {
        let cpu = cpu_time(ClockId::ThreadCPUTime).saturating_sub(self.cpu);
        clock::now().duration_since(self.wall).saturating_sub(cpu)
    }
}

impl Meter {
    /// Starts the clock.
    pub fn new() -> Self {
        Self {
            start: clock::now(),
            waits_us: Default::default(),
            wire_bytes: AtomicU64::new(0),
            first_us: AtomicU64::new(0),
            last_us: AtomicU64::new(0),
            cpu_at_start_us: micros(cpu_time(ClockId::ProcessCPUTime)),
            threads_at_start: thread_times(),
            ended: Mutex::default(),
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        clock::now().duration_since(self.start)
    }

    /// Counts time waited.
    pub fn add(&self, wait: Wait, time: Duration) {
        self.waits_us[wait as usize].fetch_add(micros(time), Relaxed);
    }

    /// Counts bytes to or from sockets.
    pub fn add_wire(&self, bytes: u64) {
        self.wire_bytes.fetch_add(bytes, Relaxed);
    }

    /// Bytes to and from sockets so far.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes.load(Relaxed)
    }

    /// Content moved now.
    pub fn on_content(&self) {
        let now_us = micros(self.elapsed()).max(1);
        let _ = self.first_us.compare_exchange(0, now_us, Relaxed, Relaxed);
        self.last_us.fetch_max(now_us, Relaxed);
    }

    /// A working thread of the session is about to end, or the session is about to be measured: takes its time
    /// waited for a CPU off what it counted as `wait`.
    pub fn on_thread_end(&self, wait: Wait) {
        let Some(time) = own_thread_time() else { return };
        let waited = &self.waits_us[wait as usize];
        let _ = waited.fetch_update(Relaxed, Relaxed, |us| Some(us.saturating_sub(time.starved_us)));
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if time.cpu_us + time.starved_us > ended.cpu_us + ended.starved_us {
            *ended = time;
        }
    }

    /// Time from the first content byte to the last.
    pub fn data_time(&self) -> Duration {
        let (first, last) = (self.first_us.load(Relaxed), self.last_us.load(Relaxed));
        Duration::from_micros(last.saturating_sub(first))
    }

    /// All of it.
    pub fn stats(&self, payload_bytes: u64, streams: usize) -> Stats {
        let waited = |wait: Wait| self.waits_us[wait as usize].load(Relaxed);
        let mut busiest = *self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, time) in thread_times() {
            let before = self.threads_at_start.get(&id).copied().unwrap_or_default();
            let time = ThreadTime {
                cpu_us: time.cpu_us.saturating_sub(before.cpu_us),
                starved_us: time.starved_us.saturating_sub(before.starved_us),
            };
            if time.cpu_us + time.starved_us > busiest.cpu_us + busiest.starved_us {
                busiest = time;
            }
        }
        let streams = streams.max(1) as u64;
        Stats {
            elapsed_us: micros(self.data_time()),
            payload_bytes,
            wire_bytes: self.wire_bytes.load(Relaxed),
            source_wait_us: waited(Wait::Source),
            network_wait_us: waited(Wait::Network) / streams,
            credit_wait_us: waited(Wait::Credit),
            target_wait_us: waited(Wait::Target),
            peer_wait_us: waited(Wait::Peer),
            cpu_us: micros(cpu_time(ClockId::ProcessCPUTime)).saturating_sub(self.cpu_at_start_us),
            busiest_us: busiest.cpu_us + busiest.starved_us,
            peak_rss_bytes: peak_rss_bytes(),
            streams,
        }
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Peak resident memory of this process, bytes; 0 where the platform does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn own_thread_time() -> Option<ThreadTime> {
    parse_schedstat(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
}

/// By thread; empty where the platform does not tell.
fn thread_times() -> BTreeMap<u64, ThreadTime> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let time_of = |task: fs::DirEntry| {
        let id = task.file_name().to_str()?.parse().ok()?;
        Some((id, parse_schedstat(&fs::read_to_string(task.path().join("schedstat")).ok()?)?))
    };
    tasks.flatten().filter_map(time_of).collect()
}

/// "CPU nanoseconds, nanoseconds ready without a CPU, slices" (Documentation/scheduler/sched-stats.rst).
fn parse_schedstat(text: &str) -> Option<ThreadTime> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let cpu_us = numbers.next()?.ok()? / 1000;
    let starved_us = numbers.next()?.ok()? / 1000;
    Some(ThreadTime { cpu_us, starved_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_is_read_in_microseconds() {
        let time = parse_schedstat("1500000 2500 7\n").unwrap();

        assert_eq!(time, ThreadTime { cpu_us: 1500, starved_us: 2 });
        assert_eq!(parse_schedstat("x"), None);
    }

    #[test]
    fn waits_are_summed_and_averaged_over_connections() {
        let meter = Meter::new();
        meter.add(Wait::Network, Duration::from_micros(300));
        meter.add(Wait::Network, Duration::from_micros(100));
        meter.add(Wait::Source, Duration::from_micros(7));

        let stats = meter.stats(10, 2);

        assert_eq!(stats.network_wait_us, 200);
        assert_eq!(stats.source_wait_us, 7);
        assert_eq!(stats.payload_bytes, 10);
    }
}
