//! The receiving side's thread: works off the jobs of the session at the target.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    error::RunError,
    meter::{Span, Wait},
    results::Results,
    sending::spawn,
    session::{Role, Session},
};
use crate::{
    file::target::Target,
    transfer::{Event, Job, Receiver},
    wire::message::{Entry, Kind},
};

/// Jobs taken at once, so that small files cost less than a lock each.
const JOBS_AT_ONCE: usize = 64;
/// Finished files wait so long for company before they are synced alone.
const PUBLISH_WAIT: Duration = Duration::from_millis(50);

/// Starts the thread that owns the target.
pub fn start(session: &Arc<Session>, results: &Arc<Results>, target: Target) -> Result<(), RunError> {
    let (session, results) = (session.clone(), results.clone());
    spawn("writer", move || Writer { session, results, target, open: BTreeMap::new() }.run())
}

struct Writer {
    session: Arc<Session>,
    results: Arc<Results>,
    target: Target,
    /// Entries without an outcome, for the result.
    open: BTreeMap<u64, Entry>,
}

impl Writer {
    fn run(mut self) {
        while let Some(jobs) = self.next_jobs() {
            let mut events = Vec::new();
            for job in jobs {
                self.note(&job);
                let span = Span::begin();
                let result = self.target.handle(job);
                self.session.meter.add(Wait::Target, span.blocked());
                if let Err(violation) = result {
                    self.session.fail(RunError::violation(&self.session.peer(), &violation));
                    return;
                }
                events.extend(std::iter::from_fn(|| self.target.poll_event()));
            }
            self.report(events);
        }
        self.session.meter.on_thread_end(Wait::Target);
    }

    /// The next jobs; when there are none, [`Job::Idle`] as soon as nothing more can come before something is
    /// published, or after a short wait for company.
    fn next_jobs(&mut self) -> Option<Vec<Job>> {
        if let Some(jobs) = self.session.try_for(|role| take_jobs(receiver(role))) {
            return Some(jobs);
        }
        let waiting = self.target.waiting();
        let idle = self.session.meter.elapsed();
        let jobs = if waiting == 0 {
            self.session.wait_for(|role| take_jobs(receiver(role)))
        } else if waiting >= self.open.len() && self.session.look(is_listed) {
            Some(vec![Job::Idle])
        } else {
            let jobs = self.session.wait_at_most(PUBLISH_WAIT, |role| take_jobs(receiver(role)));
            if jobs.is_none() && !self.session.is_over() { Some(vec![Job::Idle]) } else { jobs }
        };
        self.session.meter.add(Wait::Peer, self.session.meter.elapsed().saturating_sub(idle));
        jobs
    }

    fn note(&mut self, job: &Job) {
        match job {
            Job::Entries { first, entries } => self.open.extend((*first..).zip(entries.iter().cloned())),
            Job::Data { file, .. } | Job::Hole { file, .. } => {
                if let Some(entry) = self.open.get(file) {
                    self.results.set_current(&entry.name);
                }
            }
            Job::End { file, size, digest } => {
                self.results.set_digest(*digest);
                if let Some(entry) = self.open.get_mut(file)
                    && entry.kind == Kind::Stream
                {
                    entry.kind = Kind::File { size: *size, sparse: false, linked: false };
                }
            }
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
    let jobs: Vec<_> = std::iter::from_fn(|| receiver.poll_job()).take(JOBS_AT_ONCE).collect();
    (!jobs.is_empty()).then_some(jobs)
}
