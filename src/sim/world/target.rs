//! The receiving side's disk: the program's own target over a [`Memory`], which is slow, or fails.
//!
//! It couples a [`Receiver`] as the program's thread does: one job after the other, what is finished gets its name when
//! nothing more comes for a while, and what has arrived of large files is brought to the disk every second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    super::chance::Chance,
    plan::Plan,
    source::{FileSpec, Form, Trouble},
};
use crate::{
    file::{
        disk::{memory::Memory, write},
        target::{self, Accept, BusyNames, Event, Expect, LinkRule, Place, TargetConfig},
    },
    limits,
    transfer::{Job, Receiver},
    wire::message::{DigestKind, Outcome, Overwrite},
};

/// The thread that owns the target.
pub struct Target {
    target: target::Target,
    rate: u64,
    /// What is done once `busy_until` is there.
    current: Option<Job>,
    busy_until: Duration,
    /// Something was done since the target was last told that nothing more is at hand.
    is_dirty: bool,
    /// When it is told so.
    idle_at: Duration,
    checkpoint_at: Duration,
    /// Entries by outcome.
    outcomes: BTreeMap<u64, Outcome>,
    checks: u64,
}

/// What is finished waits so long for company.
const PUBLISH_WAIT: Duration = Duration::from_millis(50);

impl Target {
    /// The target of a session on this disk, whose faults begin with its first entry.
    pub fn new(plan: &Plan, disk: &Memory) -> Self {
        let mut chance = Chance::new(plan.seed, "target");
        let config = TargetConfig {
            place: Place::Opened { root: disk.root(), below: None },
            digest: DigestKind::Blake3,
            overwrite: Overwrite::Always,
            checksum: true,
            dry_run: false,
            sync: true,
            verify_disk: chance.percent(10),
            links: LinkRule::KeepAll,
            keep_setid: false,
            eager: plan.is_eager,
            expect: Expect::None,
            accept: Accept::Anything,
            busy: Arc::new(BusyNames::new()),
            seed: chance.next(),
        };
        let target = target::Target::new(config).expect("the disk works until the first entry");
        let made = disk.calls().len();
        for &(call, fault) in &plan.disk_faults {
            disk.fail_at(made + call, fault);
        }
        Self {
            target,
            rate: plan.write_rate,
            current: None,
            busy_until: Duration::ZERO,
            is_dirty: false,
            idle_at: Duration::MAX,
            checkpoint_at: limits::CHECKPOINT_EVERY,
            outcomes: BTreeMap::new(),
            checks: 0,
        }
    }

    /// Does nothing until then.
    pub fn stall(&mut self, until: Duration) {
        self.busy_until = self.busy_until.max(until);
    }

    /// What became of the entries.
    pub fn outcomes(&self) -> &BTreeMap<u64, Outcome> {
        &self.outcomes
    }

    /// How often the source was asked what is wrong with a file.
    pub fn checks(&self) -> u64 {
        self.checks
    }

    /// When it has something to do, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let is_busy = self.current.is_some() || self.target.has_work();
        let idle = self.is_dirty.then_some(self.idle_at.max(self.busy_until));
        [is_busy.then_some(self.busy_until), idle].into_iter().flatten().min()
    }

    /// Does as much as there is time for; whether it did anything.
    pub fn work(&mut self, now: Duration, receiver: &mut Receiver) -> bool {
        let mut has_worked = false;
        while self.busy_until <= now {
            if let Some(job) = self.current.take() {
                self.handle(job, receiver);
                self.idle_at = now + PUBLISH_WAIT;
                self.is_dirty = true;
            } else if let Some(job) = receiver.poll_job() {
                let bytes = if let Job::Data { bytes, .. } = &job { bytes.len() as u64 } else { 0 };
                self.busy_until = now + Duration::from_nanos(1_000_000_000 * bytes / self.rate);
                self.current = Some(job);
            } else if self.target.has_work() {
                self.handle(Job::Work, receiver);
            } else if self.is_dirty && now >= self.idle_at {
                self.handle(Job::Idle, receiver);
                self.is_dirty = false;
            } else {
                break;
            }
            has_worked = true;
        }
        if has_worked && now >= self.checkpoint_at {
            self.handle(Job::Checkpoint, receiver);
            self.checkpoint_at = now + limits::CHECKPOINT_EVERY;
        }
        has_worked
    }

    fn handle(&mut self, job: Job, receiver: &mut Receiver) {
        self.target.handle(job).expect("an honest sender breaks no rule");
        while let Some(event) = self.target.poll_event() {
            match &event {
                Event::Outcome { file, outcome } => {
                    let before = self.outcomes.insert(*file, outcome.clone());
                    assert!(before.is_none(), "two outcomes of entry {file}: {before:?}, {outcome:?}");
                }
                Event::Check { .. } => self.checks += 1,
                _ => {}
            }
            receiver.on_event(event);
        }
    }
}

/// A disk with room for these files, and what is there before.
pub fn disk_for(files: &[FileSpec]) -> Memory {
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    let disk = Memory::new(4 * bytes + (16 << 20));
    let root = disk.root();
    for (number, spec) in files.iter().enumerate() {
        if let Some(Trouble::IsThere { is_same }) = spec.trouble
            && spec.form != Form::Dir
        {
            let mut bytes = spec.content();
            if !is_same && let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            let file = write::open_or_create(&root, &FileSpec::name(number)).expect("there is room");
            write::write_all_at(&file, &bytes, 0).expect("there is room");
        }
    }
    disk
}

/// The bytes of a name.
pub fn read(disk: &Memory, name: &[u8]) -> Option<Vec<u8>> {
    let root = disk.root();
    let stat = write::stat(&root, name).expect("a healthy disk")?;
    let mut bytes = vec![0; usize::try_from(stat.size).expect("a small file")];
    let file = write::open_file(&root, name).expect("a healthy disk");
    write::read_at(&file, &mut bytes, 0).expect("a healthy disk");
    Some(bytes)
}
