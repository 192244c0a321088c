//! The processes that a process started, and those that they started: to reach all of them with a signal, and to know
//! when all are gone.
//!
//! A process that adopts orphans ([`adopt`]) has no descendants exactly when it has no children.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait, waitpid,
};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// From asking to forcing.
const GRACE: Duration = Duration::from_secs(2);
/// From forcing to forcing those that were just started once more.
const AGAIN: Duration = Duration::from_millis(50);
/// How often they are forced. A process that outlasts this cannot be ended by anyone.
const FORCED_MAX: u32 = 100;

/// Children that end.
#[derive(Debug)]
pub(super) struct Children {
    ended: Signals,
}

/// Makes this process the parent of its descendants' orphans.
pub(super) fn adopt() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

impl Children {
    /// Before the first is started.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { ended: signal(SignalKind::child())? })
    }

    /// Waits until one may have ended; then [`reap`] says.
    pub(super) async fn changed(&mut self) {
        self.ended.recv().await;
    }

    /// Ends all descendants: asks, and after a grace forces.
    pub(super) async fn end_all(&mut self) {
        while let Some(Reaped::One(..)) = reap() {}
        if reap().is_none() {
            // Mostly so, and it saves looking at every process of the machine.
            return;
        }
        signal_all(Signal::TERM);
        let mut until = Instant::now() + GRACE;
        for _ in 0..FORCED_MAX {
            loop {
                while let Some(Reaped::One(..)) = reap() {}
                if reap().is_none() {
                    return;
                }
                tokio::select! {
                    () = self.changed() => {}
                    () = sleep_until(until) => break,
                }
            }
            signal_all(Signal::KILL);
            until = Instant::now() + AGAIN;
        }
    }
}

/// What became of the children.
#[derive(Debug)]
pub(super) enum Reaped {
    /// One ended.
    One(Pid, WaitStatus),
    /// There are some, and none has ended.
    Nobody,
}

/// Takes note of one child that ended; `None` if there are no children.
pub(super) fn reap() -> Option<Reaped> {
    match wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Some(Reaped::One(pid, status)),
        Ok(None) => Some(Reaped::Nobody),
        Err(_) => None,
    }
}

/// Sends a signal to every descendant.
pub(super) fn signal_all(signal: Signal) {
    for pid in descendants_of(getpid(), &parents()) {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}

/// The name of the network that a process is in, while it runs.
pub(super) fn network_of(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// Ends the descendants that are in a network: those of a host that was killed, and cannot end them itself. Others that
/// this process has started are left alone.
pub(super) fn end_all_in(network: &Path) {
    for _ in 0..FORCED_MAX {
        let mut found = descendants_of(getpid(), &parents());
        found.retain(|pid| network_of(pid.as_raw_pid()).is_some_and(|it| it == network));
        if found.is_empty() {
            return;
        }
        for pid in &found {
            // It may have ended.
            let _ = kill_process(*pid, Signal::KILL);
        }
        for pid in found {
            // Who has another parent that still runs is not ours to wait for.
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Every process of this machine with its parent.
fn parents() -> Vec<(Pid, Pid)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let pid = Pid::from_raw(name.to_str()?.parse().ok()?)?;
            let parent =
                parent_in(&fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)?;
            Some((pid, parent))
        })
        .collect()
}

/// The parent in a line of `/proc/PID/stat`: the second field behind the name, which may hold anything.
fn parent_in(stat: &str) -> Option<Pid> {
    let (_, behind) = stat.rsplit_once(')')?;
    Pid::from_raw(behind.split_ascii_whitespace().nth(1)?.parse().ok()?)
}

/// Those below `root`, parents before their children.
fn descendants_of(root: Pid, parents: &[(Pid, Pid)]) -> Vec<Pid> {
    let mut found = vec![root];
    let mut looked_at = 0;
    while let Some(parent) = found.get(looked_at).copied() {
        let children = parents.iter().filter(|(pid, of)| *of == parent && !found.contains(pid));
        let children: Vec<_> = children.map(|(pid, _)| *pid).collect();
        found.extend(children);
        looked_at += 1;
    }
    found.remove(0);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    #[test]
    fn children_of_children_are_descendants_and_others_are_not() {
        let parents = [(1, 9), (12, 11), (11, 10), (10, 5), (20, 5), (21, 20)].map(|(a, b)| (pid(a), pid(b)));

        assert_eq!(descendants_of(pid(10), &parents), [pid(11), pid(12)]);
        assert!(descendants_of(pid(12), &parents).is_empty());
    }

    #[test]
    fn a_parent_is_read_behind_any_name() {
        assert_eq!(parent_in("7 (a) b (c) S 42 7 7 0"), Some(pid(42)));
        assert_eq!(parent_in("7 (a) S 0 0"), None);
        assert_eq!(parent_in("7 a"), None);
    }

    #[test]
    fn this_process_has_a_parent() {
        assert!(parents().iter().any(|(pid, _)| *pid == getpid()));
    }
}
