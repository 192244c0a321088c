//! Transfers that are cut, killed and lose their power again and again, on a disk that fails, from one seed.
//!
//! **Goal.** A name never holds anything but a whole version of its file; what was told to be done stays done, also
//! without power; and once the faults are over, one more session makes everything right.
//!
//! **Method.** The real sender, receiver and target, with the real journal, over a disk in memory; two connections whose
//! frames overtake each other as the seed says. Each attempt ends in its own way: with the transfer, a cut, the death of the
//! receiving process, or a loss of power, at any step or at any call on the disk; calls fail on the way. Between attempts
//! a source may change, and a part may be spoilt. The last attempt meets no fault.
//!
//! What the network does to single packets is for [`super::World`].

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use rustix::io::Errno;

use super::{
    chance::Chance,
    world::source::{FileSpec, Source, hash},
};
use crate::{
    file::{
        disk::{
            memory::{Fault, Memory},
            write,
        },
        path::TEMP_PREFIX,
        target::{Accept, BusyNames, Event, Expect, LinkRule, Place, Target, TargetConfig},
    },
    limits,
    transfer::{CONTROL, Carrier, Job, Receiver, Sender},
    wire::{
        frame::Frame,
        message::{DigestKind, Message, Outcome, Overwrite},
    },
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

/// Both sides of a session and what is between them.
struct Session {
    source: Source,
    sender: Sender<usize>,
    receiver: Receiver,
    target: Target,
    to_receiver: [VecDeque<Frame>; 2],
    to_sender: VecDeque<Frame>,
    now: Duration,
    /// Outcomes as the target has told them.
    told: Vec<(u64, Outcome)>,
    checks: u64,
}

const OWNER: [u8; 32] = [3; 32];
const ATTEMPTS_MAX: u64 = 6;
const CHUNK_BYTES: usize = 128 << 10;
/// A disk of this rate never keeps a source waiting, bytes a second.
const RATE: u64 = 1 << 40;
const CAPACITY_BYTES: u64 = 40 << 20;
/// Far more rounds than any session needs.
const ROUNDS_MAX: u64 = 100_000;
/// Rounds within which most sessions are complete.
const ROUNDS: u64 = 60;
/// Calls on the disk within which most sessions are complete.
const CALLS: u64 = 150;

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
            let versions = vec![hash(b"old"), hash(&content(&spec))];
            files.push(File { spec, versions, done: None });
        }
        for number in 0..files.len() {
            let file = write::open_or_create(&disk.root(), &name(number)).expect("there is room");
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
        let rounds = self.chance.below(ROUNDS);
        let made = self.disk.calls().len();
        let first = usize::try_from(self.chance.below(CALLS)).expect("a few");
        if end == End::PowerLoss && self.chance.percent(50) {
            self.disk.fail_at(made + first, Fault::PowerLoss);
        } else if self.chance.percent(40) {
            for _ in 0..self.chance.between(1, 3) {
                let at = made + usize::try_from(self.chance.below(CALLS)).expect("a few");
                let errnos = [Errno::NOSPC, Errno::IO, Errno::MFILE, Errno::ROFS, Errno::ACCESS];
                let errno = self.chance.pick(&errnos);
                let fault = if self.chance.percent(20) { Fault::Short } else { Fault::Error(errno) };
                self.disk.fail_at(at, fault);
                self.tally.faults += 1;
            }
        }
        self.tally.attempts += 1;
        let Some(mut session) = self.open() else {
            // The first look at the disk failed.
            self.end(end);
            return;
        };
        for _ in 0..rounds {
            if session.is_over() {
                break;
            }
            session.round(&mut self.chance);
        }
        self.note(&session);
        match end {
            End::Cut => drop(session),
            // What is dropped behind it finds no disk.
            End::Kill | End::PowerLoss => {
                self.end(end);
                drop(session);
                return;
            }
        }
        self.end(end);
    }

    /// A session that meets no fault: everything is there behind it, and nothing else.
    fn last_attempt(&mut self) {
        self.disk.heal();
        self.tally.attempts += 1;
        let mut session = self.open().expect("nothing is wrong with the disk");
        for _ in 0..ROUNDS_MAX {
            if session.is_over() {
                break;
            }
            session.round(&mut self.chance);
        }
        assert!(session.is_over(), "a session without faults does not end");
        assert_eq!(session.told.len(), self.files.len());
        for (file, outcome) in &session.told {
            assert!(matches!(outcome, Outcome::Done | Outcome::Identical), "entry {file}: {outcome:?}");
        }
        self.note(&session);
        drop(session);
        self.check_names();
        for (number, file) in self.files.iter().enumerate() {
            assert_eq!(file.done, Some(file.versions.len() - 1), "entry {number} is not the last version");
        }
        for left in names(&self.disk).into_iter().filter(|name| name.starts_with(TEMP_PREFIX)) {
            // Of a killed process, small files stay: nobody knows them.
            let bytes = read(&self.disk, &left).expect("it was listed");
            let is_small = (bytes.len() as u64) < limits::RESUME_MIN_BYTES && self.tally.kills > 0;
            let is_power = self.tally.power_losses > 0;
            assert!(is_small || is_power, "{} was left", String::from_utf8_lossy(&left));
            assert!(!bytes.starts_with(b"haulJrn"), "a journal was left");
        }
    }

    fn open(&mut self) -> Option<Session> {
        let config = TargetConfig {
            place: Place::Opened { root: self.disk.root(), below: None },
            digest: DigestKind::Blake3,
            overwrite: Overwrite::Always,
            checksum: true,
            dry_run: false,
            sync: true,
            verify_disk: self.chance.percent(10),
            links: LinkRule::KeepAll,
            keep_setid: false,
            eager: false,
            expect: Expect::None,
            accept: Accept::Anything,
            busy: Arc::new(BusyNames::new()),
            seed: self.chance.next(),
        };
        let target = Target::new(config).ok()?;
        let mut receiver = Receiver::new(limits::CREDIT_MAX_BYTES);
        receiver.allow_resume(OWNER);
        let specs = self.files.iter().map(|file| file.spec.clone()).collect();
        Some(Session {
            source: Source::new(specs, CHUNK_BYTES, RATE),
            sender: Sender::new(false),
            receiver,
            target,
            to_receiver: Default::default(),
            to_sender: VecDeque::new(),
            now: Duration::ZERO,
            told: Vec::new(),
            checks: 0,
        })
    }

    /// What the session has promised.
    fn note(&mut self, session: &Session) {
        for (number, outcome) in &session.told {
            if matches!(outcome, Outcome::Done | Outcome::Identical) {
                let file = &mut self.files[usize::try_from(*number).expect("an index")];
                file.done = Some(file.versions.len() - 1);
            }
        }
        self.tally.checks += session.checks;
        self.tally.moved_bytes += session.receiver.received_bytes();
        self.tally.resumed_bytes += session.receiver.resumed_bytes();
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
            let bytes = read(&self.disk, &name(number)).expect("a name is never without a file");
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
            file.versions.push(hash(&content(&file.spec)));
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

impl Session {
    /// Whether the sender has the receiver's last word.
    fn is_over(&self) -> bool {
        self.sender.end().is_some()
    }

    /// Everybody does a little, in an order and to an extent that the seed says.
    fn round(&mut self, chance: &mut Chance) {
        self.now += Duration::from_secs(1);
        self.source.work(self.now, &mut self.sender);
        for _ in 0..chance.below(8) {
            let carrier = usize::try_from(chance.below(2)).expect("two");
            self.to_receiver[carrier].extend(self.sender.poll_frame(carrier_of(carrier)));
        }
        self.to_receiver[0].extend(self.sender.poll_frame(CONTROL));
        for _ in 0..chance.below(8) {
            let carrier = usize::try_from(chance.below(2)).expect("two");
            if let Some(frame) = self.to_receiver[carrier].pop_front() {
                let taken = self.receiver.handle_frame(carrier_of(carrier), frame);
                taken.unwrap_or_else(|why| panic!("the sender: {why}"));
            }
        }
        for _ in 0..chance.between(1, 8) {
            let job = match self.receiver.poll_job() {
                Some(job) => job,
                None if self.target.has_work() => Job::Work,
                None if chance.percent(50) => Job::Idle,
                None => Job::Checkpoint,
            };
            self.target.handle(job).unwrap_or_else(|why| panic!("the sender: {why}"));
            while let Some(event) = self.target.poll_event() {
                if let Event::Outcome { file, outcome } = &event {
                    self.told.push((*file, outcome.clone()));
                }
                self.receiver.on_event(event);
            }
        }
        while let Some(frame) = self.receiver.poll_frame() {
            self.checks += u64::from(matches!(frame, Frame::Message(Message::Check(_))));
            self.to_sender.push_back(frame);
        }
        while let Some(frame) = self.to_sender.pop_front() {
            self.sender.handle_frame(frame).unwrap_or_else(|why| panic!("the receiver: {why}"));
        }
    }
}

fn carrier_of(index: usize) -> Carrier {
    if index == 0 { CONTROL } else { 1 }
}

fn content(spec: &FileSpec) -> Vec<u8> {
    spec.bytes(Duration::ZERO, 0, usize::try_from(spec.size).expect("a small file"))
}

/// As [`FileSpec::entry`] names it.
fn name(number: usize) -> Vec<u8> {
    format!("entry {number}").into_bytes()
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

fn read(disk: &Memory, name: &[u8]) -> Option<Vec<u8>> {
    let root = disk.root();
    let stat = write::stat(&root, name).expect("a healthy disk")?;
    let mut bytes = vec![0; usize::try_from(stat.size).expect("a small file")];
    let file = write::open_file(&root, name).expect("a healthy disk");
    write::read_at(&file, &mut bytes, 0).expect("a healthy disk");
    Some(bytes)
}
