//! Transfers that are cut, killed and lose their power again and again, on a disk that fails, over any path, from one seed.
//!
//! **Goal.** A name never holds anything but a whole version of its file; what was told to be done stays done, also
//! without power; and once the faults are over, one more session makes everything right.
//!
//! **Method.** Each attempt is a [`World`] with its own faults, over connections and flows, and all of them have one disk
//! in memory. It ends in its own way: with the transfer, a cut, the death of the receiving process, or a loss of power, at
//! any time or at any call on the disk; calls fail on the way. Between attempts a source may change, and a part may be
//! spoilt. In the last attempt no call on the disk fails and nobody cuts the session off.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{
    chance::Chance,
    world::{
        DISK_CALLS, Plan, World,
        source::{FileSpec, Trouble, hash},
        target::read,
    },
};
use crate::{
    file::{
        disk::{
            memory::{Fault, Memory},
            write,
        },
        path::TEMP_PREFIX,
    },
    limits,
    wire::message::Outcome,
};

/// What became of a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restarts {
    /// Sessions.
    pub attempts: u64,
    /// Of these, those that were cut.
    pub cuts: u64,
    /// The receiving process was killed.
    pub kills: u64,
    /// The power was lost.
    pub power_losses: u64,
    /// Calls on the disk that were to fail.
    pub faults: u64,
    /// Files that were asked about since their digest differed.
    pub checks: u64,
    /// Content that arrived, bytes.
    pub moved_bytes: u64,
    /// Of it, bytes that came over flows.
    pub flow_bytes: u64,
    /// Content that was there from before when a session went on, bytes.
    pub resumed_bytes: u64,
}

impl Restarts {
    /// Runs a seed; a failure says how to replay it.
    pub fn check(seed: u64) -> Result<Self, String> {
        let run = catch_unwind(AssertUnwindSafe(|| Story::new(seed).run()));
        run.map_err(|panic| {
            let text = super::world::panic_text(panic.as_ref());
            format!("HAUL_RESTARTS_SEED={seed} cargo test --lib sim::tests::one_story: {text}")
        })
    }
}

/// One file through all attempts.
struct File {
    spec: FileSpec,
    /// Digests of what it may hold, the oldest first; what it held before anything was sent is the first.
    versions: Vec<[u8; 32]>,
    /// Which of them was told to be done.
    done: Option<usize>,
}

struct Story {
    chance: Chance,
    disk: Memory,
    files: Vec<File>,
    tally: Restarts,
}

/// How an attempt ends, unless the transfer is complete before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Cut,
    Kill,
    PowerLoss,
}

const ATTEMPTS_MAX: u64 = 5;
const CAPACITY_BYTES: u64 = 40 << 20;

impl Story {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "restarts");
        let disk = Memory::new(CAPACITY_BYTES);
        let mut files = Vec::new();
        for number in 0..chance.between(1, 4) {
            let size = if number == 0 && chance.percent(80) {
                limits::RESUME_MIN_BYTES + chance.below(1 << 20)
            } else {
                chance.below(20_000)
            };
            let mut spec = FileSpec::plain(&mut chance, size);
            if size > 0 && chance.percent(20) {
                let at = chance.below(size);
                spec.hole = (at, chance.between(1, size - at));
            }
            let versions = vec![hash(b"old"), hash(&spec.content())];
            files.push(File { spec, versions, done: None });
        }
        for number in 0..files.len() {
            let file = write::open_or_create(&disk.root(), &FileSpec::name(number)).expect("there is room");
            write::write_all_at(&file, b"old", 0).expect("there is room");
            write::sync(&file).expect("it works");
        }
        write::sync(&disk.root()).expect("it works");
        Self { chance, disk, files, tally: Restarts::default() }
    }

    fn run(mut self) -> Restarts {
        for _ in 0..self.chance.between(1, ATTEMPTS_MAX) {
            self.attempt();
            self.check_names();
            self.change();
        }
        self.last_attempt();
        self.tally
    }

    /// A session that ends somehow.
    fn attempt(&mut self) {
        let end = self.chance.pick(&[End::Cut, End::Kill, End::PowerLoss]);
        let mut plan = Plan::sending(self.chance.next(), self.specs());
        if self.chance.percent(10) {
            let file = self.chance.pick(&(0..plan.files.len()).collect::<Vec<_>>());
            let from = self.chance.between(0, plan.files[file].size);
            plan.files[file].trouble = Some(Trouble::CannotBeRead(from));
        }
        if end == End::PowerLoss && self.chance.percent(50) {
            let call = usize::try_from(self.chance.below(DISK_CALLS)).expect("a few");
            plan.disk_faults.push((call, Fault::PowerLoss));
        }
        let lasts = plan.usual() * u32::try_from(self.chance.between(1, 1500)).expect("a part") / 1000;
        self.tally.faults += plan.disk_faults.len() as u64;
        let mut world = World::over(plan, self.disk.clone(), 0);
        world.run_until(lasts);
        self.note(&world);
        if end == End::Cut {
            drop(world);
            self.end(end);
        } else {
            // What is dropped behind the process's end finds no disk.
            self.end(end);
            drop(world);
        }
    }

    /// A session that meets no fault but those of the path: everything is there behind it, and nothing else.
    fn last_attempt(&mut self) {
        let mut plan = Plan::sending(self.chance.next(), self.specs()).without_ends();
        plan.disk_faults.clear();
        let mut world = World::over(plan, self.disk.clone(), 0);
        world.run();
        self.note(&world);
        drop(world);
        self.check_names();
        for (number, file) in self.files.iter().enumerate() {
            assert_eq!(file.done, Some(file.versions.len() - 1), "entry {number} is not the last version");
        }
        for left in names(&self.disk).into_iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
            // Of a killed process, small files stay, since nobody knows them; and what the disk would not remove.
            let bytes = read(&self.disk, &left).expect("it was listed");
            let may_stay = self.tally.kills > 0 || self.tally.faults > 0;
            let is_small = (bytes.len() as u64) < limits::RESUME_MIN_BYTES && may_stay;
            let is_power = self.tally.power_losses > 0;
            assert!(is_small || is_power, "{} was left", String::from_utf8_lossy(&left));
            assert!(!bytes.starts_with(b"haulJrn"), "a journal was left");
        }
    }

    fn specs(&self) -> Vec<FileSpec> {
        self.files.iter().map(|file| file.spec.clone()).collect()
    }

    /// What the session has promised.
    fn note(&mut self, world: &World) {
        self.tally.attempts += 1;
        let Some((receiver, target)) = world.receiver() else { return };
        for (number, outcome) in target.outcomes() {
            if matches!(outcome, Outcome::Done | Outcome::Identical) {
                let file = &mut self.files[usize::try_from(*number).expect("an index")];
                file.done = Some(file.versions.len() - 1);
            }
        }
        self.tally.checks += target.checks();
        self.tally.moved_bytes += receiver.received_bytes();
        self.tally.resumed_bytes += receiver.resumed_bytes();
        self.tally.flow_bytes += world.tally().flow_bytes;
    }

    fn end(&mut self, end: End) {
        match end {
            End::Cut => self.tally.cuts += 1,
            End::Kill => {
                self.tally.kills += 1;
                self.disk = self.disk.kill();
            }
            End::PowerLoss => {
                self.tally.power_losses += 1;
                self.disk = self.disk.crash(self.chance.next());
            }
        }
        self.disk.heal();
    }

    /// Every name holds a whole version, and none that is older than what was told to be done.
    fn check_names(&self) {
        for (number, file) in self.files.iter().enumerate() {
            let bytes = read(&self.disk, &FileSpec::name(number)).expect("a name is never without a file");
            let held = hash(&bytes);
            let version = file.versions.iter().rposition(|version| *version == held);
            let version = version.unwrap_or_else(|| panic!("entry {number} holds what nobody has sent"));
            assert!(file.done.is_none_or(|done| version >= done), "entry {number} was done and is not");
        }
    }

    /// What happens between two attempts.
    fn change(&mut self) {
        if self.chance.percent(20) {
            let number = usize::try_from(self.chance.below(self.files.len() as u64)).expect("an index");
            let file = &mut self.files[number];
            file.spec.seed ^= self.chance.next();
            if self.chance.percent(30) {
                // What is left of a large file that becomes a small one is for `serve` to sweep.
                let least =
                    if file.spec.size < limits::RESUME_MIN_BYTES { 0 } else { limits::RESUME_MIN_BYTES };
                let size = least + (file.spec.size - least) / 2;
                file.spec = FileSpec { size, hole: (0, 0), ..file.spec.clone() };
            }
            file.versions.push(hash(&file.spec.content()));
        }
        if self.chance.percent(20) {
            self.spoil();
        }
    }

    /// Flips a bit of something unfinished.
    fn spoil(&mut self) {
        let root = self.disk.root();
        for name in names(&self.disk).into_iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
            let len = read(&self.disk, &name).map_or(0, |bytes| bytes.len() as u64);
            // A crash may leave a file that has its name already under ours too.
            let is_alone = write::stat(&root, &name).ok().flatten().is_some_and(|stat| stat.nlink == 1);
            if len > 0 && is_alone {
                let file = write::open_or_create(&root, &name).expect("it is there");
                let at = self.chance.below(len);
                let mut byte = [0];
                write::read_at(&file, &mut byte, at).expect("it is there");
                write::write_all_at(&file, &[byte[0] ^ 1], at).expect("it is there");
            }
        }
    }
}

fn names(disk: &Memory) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let listed = write::any_name(&disk.root(), |name, _| {
        names.push(name.to_vec());
        false
    });
    listed.expect("a healthy disk");
    names
}
