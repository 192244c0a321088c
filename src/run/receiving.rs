//! The receiving side's thread: works off the jobs of the session at the target.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    error::RunError,
    meter::{Span, Wait},
    results::Results,
    sending::spawn,
    session::{Role, Session},
};
use crate::{
    file::target::Target,
    limits,
    transfer::{Event, Job, Receiver, raw::RawPiece},
    wire::message::{Entry, Kind, Outcome},
};

/// Jobs taken at once, so that small files cost less than a lock each.
const JOBS_AT_ONCE: usize = 64;
/// Bytes of content taken at once: what is placed has to be told before the sender's credit runs out.
const BYTES_AT_ONCE: usize = 1 << 20;
/// Finished files wait so long for company before they are synced alone.
const PUBLISH_WAIT: Duration = Duration::from_millis(50);

/// While files keep coming, those that are finished wait so long for company.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// Publishing takes at most one part in so many of the time.
const PUBLISH_SHARE: u32 = 5;

/// Starts the thread that owns the target.
pub fn start(session: &Arc<Session>, results: &Arc<Results>, target: Target) -> Result<(), RunError> {
    let (open, incoming) = (BTreeMap::new(), BTreeSet::new());
    let asks = session.clone();
    let target = target.while_wanted(move || !asks.is_over());
    let writer = Writer {
        session: session.clone(),
        results: results.clone(),
        target,
        open,
        incoming,
        is_dirty: false,
        checkpoint_at: limits::CHECKPOINT_EVERY,
        publish_at: PUBLISH_EVERY,
    };
    let writing = session.writing();
    spawn(session, "writer", move || {
        let _writing = writing;
        writer.run();
    })
}

struct Writer {
    session: Arc<Session>,
    results: Arc<Results>,
    target: Target,
    /// Entries without an outcome, for the result.
    open: BTreeMap<u64, Entry>,
    /// Those of `open` whose content or digest may still come.
    incoming: BTreeSet<u64>,
    /// Something was done since the target was last told that nothing more is at hand.
    is_dirty: bool,
    /// When what has arrived of large files is brought to the disk; time since the start.
    checkpoint_at: Duration,
    /// When what is finished is published at the latest, though more is at hand; time since the start.
    publish_at: Duration,
}

impl Writer {
    fn run(mut self) {
        while let Some(jobs) = self.next_jobs() {
            let mut events = Vec::new();
            let span = Span::begin();
            let begun = self.session.meter.elapsed();
            let is_due = begun >= self.publish_at;
            let is_checkpoint = begun >= self.checkpoint_at;
            let further = [is_checkpoint.then_some(Job::Checkpoint), is_due.then_some(Job::Idle)];
            for job in jobs.into_iter().chain(further.into_iter().flatten()) {
                self.note(&job);
                if let Err(violation) = self.target.handle(job) {
                    self.session.fail(RunError::violation(&self.session.peer(), &violation));
                    return;
                }
                events.extend(std::iter::from_fn(|| self.target.poll_event()));
            }
            if is_due {
                let now = self.session.meter.elapsed();
                self.publish_at = now + PUBLISH_EVERY.max((now - begun) * (PUBLISH_SHARE - 1));
            }
            if is_checkpoint {
                let now = self.session.meter.elapsed();
                self.checkpoint_at = now + limits::CHECKPOINT_EVERY.max((now - begun) * (PUBLISH_SHARE - 1));
            }
            self.session.meter.add(Wait::Target, span.blocked());
            self.report(events);
        }
        self.session.meter.on_thread_end(Wait::Target);
    }

    /// The next jobs; when there are none, [`Job::Idle`] as soon as nothing more can come before something is
    /// published, or after a short wait for company.
    fn next_jobs(&mut self) -> Option<Vec<Job>> {
        // What is left to prove is for the session that goes on, and it waits for the names that this one holds.
        if self.session.is_over() {
            return None;
        }
        if let Some(jobs) = self.session.try_for(|role| take_jobs(receiver(role))) {
            self.is_dirty = true;
            return Some(jobs);
        }
        if self.target.has_work() {
            return Some(vec![Job::Work]);
        }
        let idle_since = self.session.meter.elapsed();
        let jobs = if !self.is_dirty {
            self.session.wait_for(|role| take_jobs(receiver(role)))
        } else if self.incoming.is_empty() && self.session.look(is_listed) {
            None
        } else {
            self.session.wait_at_most(PUBLISH_WAIT, |role| take_jobs(receiver(role)))
        };
        self.session.meter.add(Wait::Peer, self.session.meter.elapsed().saturating_sub(idle_since));
        if jobs.is_none() && self.is_dirty && !self.session.is_over() {
            self.is_dirty = false;
            return Some(vec![Job::Idle]);
        }
        self.is_dirty = true;
        jobs
    }

    fn note(&mut self, job: &Job) {
        match job {
            Job::Entries { first, entries } => {
                for (number, entry) in (*first..).zip(entries) {
                    if matches!(entry.kind, Kind::File { .. } | Kind::Stream) {
                        self.incoming.insert(number);
                    }
                    self.open.insert(number, entry.clone());
                }
            }
            Job::Data { file, offset: 0, .. }
            | Job::Hole { file, offset: 0, .. }
            | Job::RawPiece(RawPiece { file, offset: 0, .. }) => {
                if let Some(entry) = self.open.get(file) {
                    self.results.set_current(&entry.name);
                }
            }
            Job::End { file, size, digest } | Job::RawEnd { file, size, digest } => {
                self.incoming.remove(file);
                self.results.set_digest(*digest);
                if let Some(entry) = self.open.get_mut(file)
                    && entry.kind == Kind::Stream
                {
                    entry.kind = Kind::File { size: *size, sparse: false, linked: false };
                }
            }
            Job::Failed { file, .. } => drop(self.incoming.remove(file)),
            _ => {}
        }
    }

    fn report(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for event in &events {
            if let Event::Outcome { file, outcome } = event
                && let Some(entry) = self.open.remove(file)
            {
                self.incoming.remove(file);
                if matches!(outcome, Outcome::Failed { .. }) {
                    self.session.note_failed(*file, &entry.name);
                }
                let size = if let Kind::File { size, .. } = entry.kind { size } else { 0 };
                self.results.add(&entry.name, &entry.kind, size, outcome.clone());
            }
        }
        let spare: Vec<_> = self.session.update(|role| {
            let receiver = receiver(role);
            events.into_iter().filter_map(|event| receiver.on_event(event)).collect()
        });
        self.session.keep_spare(spare);
    }
}

fn receiver(role: &mut Role) -> &mut Receiver {
    match role {
        Role::Receiver(receiver) => receiver,
        Role::Sender(_) | Role::Lister(_) => unreachable!("the thread of a receiver runs only for one"),
    }
}

fn is_listed(role: &Role) -> bool {
    matches!(role, Role::Receiver(receiver) if receiver.listed().is_some())
}

fn take_jobs(receiver: &mut Receiver) -> Option<Vec<Job>> {
    let mut bytes = 0;
    let mut jobs = Vec::new();
    while jobs.len() < JOBS_AT_ONCE && bytes < BYTES_AT_ONCE {
        let Some(job) = receiver.poll_job() else { break };
        if let Job::Data { bytes: content, .. } | Job::RawPiece(RawPiece { bytes: content, .. }) = &job {
            bytes += content.len();
        }
        jobs.push(job);
    }
    (!jobs.is_empty()).then_some(jobs)
}
