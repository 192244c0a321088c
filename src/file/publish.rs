//! Gives finished parts their names, many at a time: sync, rename, sync the names, and only then report.
//!
//! ```text
//! add ──> ready ──publish──> renamed, held ──commit, or the next publish──> reported
//!           │ sync the bytes      │ sync the names
//! ```
//!
//! Up to `limits::SYNC_EACH_MAX` files are synced one by one. Larger batches close their descriptors as they come
//! and sync the file system once; that sync also covers the names that the batch before was given, so a run of
//! small files costs one sync per batch. An error of such a sync fails everything that it was to cover: the kernel does
//! not say which file it was. Nor does it tell the next sync of the file system, which may be to cover what was lost
//! now, and is not finished yet: from then on each file is synced alone, and tells its own errors.
//!
//! Without `sync` parts are renamed as they come and reported at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rustix::io::Errno;

use super::disk::target_dirs::Dir;
use super::disk::{Handle, write};
use super::failure::Failure;
use super::part::{Part, Replace};
use crate::limits;
use crate::wire::message::Outcome;

/// A proven part that waits for its name.
#[derive(Debug)]
pub struct Ready {
    /// Entry number.
    pub file: u64,
    /// The part, complete, with its metadata set.
    pub part: Part,
    /// Path from the root, for messages.
    pub path: Vec<u8>,
    /// The name to give: the last component.
    pub name: Vec<u8>,
    /// What may be replaced.
    pub replace: Replace,
    /// Length, bytes.
    pub size_bytes: u64,
}

/// What became of an entry, with what a summary needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Entry number.
    pub file: u64,
    /// Path from the root; as the peer said it where it is no path.
    pub path: Vec<u8>,
    /// Bytes of content that were received for it.
    pub size_bytes: u64,
    /// Digest of its content, where that was computed.
    pub digest: Option<[u8; 32]>,
    /// What became of it.
    pub outcome: Outcome,
}

/// Something that a sync is due for.
#[derive(Debug)]
enum Touched {
    /// A directory, for the names in it and its own metadata.
    Dir(Arc<Dir>),
    /// A file that stands under its name, for its content; with its volume, if that is its directory's.
    File(Handle, Option<Arc<Handle>>),
}

impl Touched {
    fn volume(&self) -> Option<&Arc<Handle>> {
        match self {
            Self::Dir(dir) => Some(dir.volume()),
            Self::File(_, volume) => volume.as_ref(),
        }
    }

    fn sync(&self) -> Result<(), Errno> {
        match self {
            Self::Dir(dir) => write::sync_dir(dir.handle()),
            Self::File(file, _) => write::sync(file),
        }
    }
}

/// A part that waits for its name.
#[derive(Debug)]
struct Waiting {
    ready: Ready,
    /// What its own sync gave, if it had one already.
    synced: Option<Result<(), Errno>>,
}

/// Batches finished parts.
#[derive(Debug)]
pub struct Publisher {
    /// Whether anything is synced at all.
    sync: bool,
    /// Whether each file is synced alone however many there are: there is no sync of a file system, or a sync has failed.
    syncs_each: bool,
    /// Wait for their names.
    ready: Vec<Waiting>,
    /// Sum of their lengths.
    ready_bytes: u64,
    /// The directories that they keep open, by identity.
    ready_dirs: BTreeSet<(u64, u64)>,
    /// Have their names, which are not synced.
    held: Vec<Verdict>,
    /// What has to be synced, by device and inode; at most `limits::SYNC_EACH_MAX`.
    touched: BTreeMap<(u64, u64), Touched>,
    /// The file systems that have to be synced as a whole, by device; see [`Dir::volume`].
    volumes: BTreeMap<u64, Arc<Handle>>,
    /// Something touched was synced early, and that has failed; told at the next commit.
    failed: Option<Errno>,
    /// May be told.
    reports: VecDeque<Verdict>,
}

impl Publisher {
    /// Nothing waits.
    pub fn new(sync: bool) -> Self {
        Self {
            sync,
            syncs_each: !write::HAS_SYNCFS,
            ready: Vec::new(),
            ready_bytes: 0,
            ready_dirs: BTreeSet::new(),
            held: Vec::new(),
            touched: BTreeMap::new(),
            volumes: BTreeMap::new(),
            failed: None,
            reports: VecDeque::new(),
        }
    }

    /// Takes a proven part. Keeps at most `limits::SYNC_EACH_MAX` descriptors open.
    pub fn add(&mut self, ready: Ready) {
        self.ready_bytes += ready.size_bytes;
        self.ready_dirs.insert(ready.part.dir().identity());
        self.ready.push(Waiting { ready, synced: None });
        if !self.sync {
            return;
        }
        let crowd = match self.ready.len() {
            count if count <= limits::SYNC_EACH_MAX => 0..0,
            count if count == limits::SYNC_EACH_MAX + 1 => 0..count,
            count => count - 1..count,
        };
        for waiting in &mut self.ready[crowd] {
            if self.syncs_each {
                waiting.synced = Some(waiting.ready.part.sync());
            }
            waiting.ready.part.park();
        }
    }

    /// Whether it is time to publish: enough files, bytes or directories wait.
    pub fn is_full(&self) -> bool {
        !self.sync
            || self.ready.len() >= limits::PUBLISH_BATCH_FILES
            || self.ready_bytes >= limits::PUBLISH_BATCH_BYTES
            || self.ready_dirs.len() >= BATCH_DIRS_MAX
    }

    /// Syncs and names everything that waits; what became of each, in the order of arrival. The caller then calls
    /// [`Self::hold`] for each that has its name.
    pub fn publish(&mut self) -> Vec<(u64, Result<(), Failure>)> {
        let batch = std::mem::take(&mut self.ready);
        self.ready_bytes = 0;
        self.ready_dirs.clear();
        let is_whole = self.sync && !self.syncs_each && batch.len() > limits::SYNC_EACH_MAX;
        let mut whole = Ok(());
        if is_whole {
            for dir in batch.iter().map(|waiting| waiting.ready.part.dir()) {
                self.volumes.entry(dir.device()).or_insert_with(|| Arc::clone(dir.volume()));
            }
            whole = self.sync_touched();
        }
        let mut results = Vec::with_capacity(batch.len());
        for Waiting { mut ready, synced } in batch {
            let synced = match synced {
                Some(synced) => synced,
                None if is_whole || !self.sync => whole,
                None => ready.part.sync(),
            };
            results.push((ready.file, self.name(ready, synced)));
        }
        results
    }

    /// Gives a part its name, if that is `synced`.
    fn name(&mut self, ready: Ready, synced: Result<(), Errno>) -> Result<(), Failure> {
        let Ready { mut part, path, name, replace, .. } = ready;
        if let Err(errno) = synced {
            // The next sync of the file system would tell it once more, of files that have nothing to do with it.
            self.syncs_each = true;
            part.give_up();
            return Err(cannot_sync(errno, &path));
        }
        let dir = Arc::clone(part.dir());
        part.publish(&name, replace).map_err(|error| {
            let (code, reason) = error.describe();
            Failure::new(code, &path, &reason)
        })?;
        self.touch(dir);
        Ok(())
    }

    /// Names in `dir` or its metadata have to be synced: they changed, or will be told as what was there already.
    pub fn touch(&mut self, dir: Arc<Dir>) {
        self.note(dir.identity(), Touched::Dir(dir));
    }

    /// The content of `file` in `dir`, whose device and inode are `identity`, has to be synced: it was there already.
    pub fn touch_file(&mut self, identity: (u64, u64), file: Handle, dir: &Dir) {
        let volume = (identity.0 == dir.device()).then(|| Arc::clone(dir.volume()));
        self.note(identity, Touched::File(file, volume));
    }

    fn note(&mut self, identity: (u64, u64), touched: Touched) {
        let (device, _) = identity;
        if !self.sync || self.volumes.contains_key(&device) {
            return;
        }
        self.touched.insert(identity, touched);
        if self.touched.len() <= limits::SYNC_EACH_MAX {
            return;
        }
        for ((device, _), touched) in std::mem::take(&mut self.touched) {
            match touched.volume().filter(|_| !self.syncs_each) {
                Some(volume) => {
                    self.volumes.entry(device).or_insert_with(|| Arc::clone(volume));
                }
                None => {
                    if let Err(errno) = touched.sync() {
                        self.failed = Some(errno);
                    }
                }
            }
        }
    }

    /// Reports `verdict` once everything touched so far is synced.
    pub fn hold(&mut self, verdict: Verdict) {
        if !self.sync {
            self.reports.push_back(verdict);
            return;
        }
        self.held.push(verdict);
        if self.held.len() >= HELD_MAX {
            self.commit();
        }
    }

    /// Syncs the names given so far and reports what was held.
    pub fn commit(&mut self) {
        // Whoever it concerns was held.
        let _ = self.sync_touched();
    }

    /// The next verdict that may be told. protocol.md [OUTCOME-3]
    pub fn poll_report(&mut self) -> Option<Verdict> {
        self.reports.pop_front()
    }

    /// Whether nothing waits: neither for a name nor for its sync.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.held.is_empty()
    }

    /// Syncs everything touched, and reports what was held; whether all file systems that were to be synced are.
    fn sync_touched(&mut self) -> Result<(), Errno> {
        let volumes = std::mem::take(&mut self.volumes);
        let mut whole = Ok(());
        for volume in volumes.values() {
            whole = whole.and(write::sync_file_system(volume));
        }
        self.syncs_each |= whole.is_err();
        let mut result = whole.and(self.failed.take().map_or(Ok(()), Err));
        for ((device, _), touched) in std::mem::take(&mut self.touched) {
            if !volumes.contains_key(&device) {
                result = result.and(touched.sync());
            }
        }
        self.report_held(result);
        whole
    }

    fn report_held(&mut self, result: Result<(), Errno>) {
        for mut verdict in self.held.drain(..) {
            if let Err(errno) = result {
                let Failure { code, text } = cannot_sync(errno, &verdict.path);
                verdict.outcome = Outcome::Failed { code, text };
            }
            self.reports.push_back(verdict);
        }
    }
}

fn cannot_sync(errno: Errno, path: &[u8]) -> Failure {
    Failure::of(errno, "bring it safely to the disk", path)
}

/// Verdicts that wait for the next batch's sync; links and directories bring no batch of their own.
const HELD_MAX: usize = 4 * limits::PUBLISH_BATCH_FILES;
const _: () = assert!(HELD_MAX <= limits::OPEN_ENTRIES_MAX / 2, "the listing goes on meanwhile");
/// Most directories that waiting parts keep open, so that a batch fits the usual limit of 1024 open files.
const BATCH_DIRS_MAX: usize = 128;
const _: () =
    assert!(BATCH_DIRS_MAX > limits::SYNC_EACH_MAX && BATCH_DIRS_MAX <= limits::PUBLISH_BATCH_FILES);

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::file::disk::memory::{Call, Fault, Memory};
    use crate::file::disk::target_dirs::TargetDirs;
    use crate::file::disk::temp_name::TempNames;
    use crate::wire::message::Code;

    #[test]
    fn nothing_has_its_name_before_the_batch_is_published() {
        let mut world = World::new(OFlags::RDONLY);
        let mut publisher = Publisher::new(true);

        publisher.add(world.ready(0));
        assert_eq!(world.live(), 0);

        assert_eq!(publisher.publish(), [(0, Ok(()))]);
        assert_eq!(world.live(), 1);
    }

    #[test]
    fn what_has_its_name_is_told_only_after_the_names_are_synced() {
        // protocol.md [OUTCOME-3]
        let mut world = World::new(OFlags::RDONLY);
        let mut publisher = Publisher::new(true);

        publisher.add(world.ready(0));
        publisher.publish();
        publisher.hold(done(0));

        assert_eq!(publisher.poll_report(), None);
        publisher.commit();
        assert_eq!(publisher.poll_report(), Some(done(0)));
        assert!(publisher.is_idle());
    }

    #[test]
    fn the_sync_of_a_large_batch_covers_the_names_of_the_one_before() {
        let mut world = World::new(OFlags::RDONLY);
        let mut publisher = Publisher::new(true);
        publisher.add(world.ready(0));
        publisher.publish();
        publisher.hold(done(0));

        for file in 1..=limits::SYNC_EACH_MAX as u64 + 1 {
            publisher.add(world.ready(file));
        }
        publisher.publish();

        assert_eq!(publisher.poll_report(), if write::HAS_SYNCFS { Some(done(0)) } else { None });
    }

    #[test]
    fn without_sync_everything_is_named_and_told_as_it_comes() {
        let mut world = World::new(OFlags::RDONLY);
        let mut publisher = Publisher::new(false);

        publisher.add(world.ready(0));
        assert!(publisher.is_full());
        publisher.publish();
        publisher.hold(done(0));

        assert_eq!(publisher.poll_report(), Some(done(0)));
    }

    #[test]
    fn a_batch_is_full_just_at_its_limits() {
        let mut world = World::new(OFlags::RDONLY);
        let mut publisher = Publisher::new(true);
        for file in 1..limits::PUBLISH_BATCH_FILES as u64 {
            publisher.add(world.ready(file));
        }
        assert!(!publisher.is_full());

        publisher.add(world.ready(0));

        assert!(publisher.is_full());
        assert!(publisher.ready.iter().all(|waiting| waiting.ready.part.is_parked()));
        let results = publisher.publish();
        assert_eq!(results.len(), limits::PUBLISH_BATCH_FILES);
        assert!(results.iter().all(|(_, result)| result.is_ok()));
        assert_eq!(world.live(), limits::PUBLISH_BATCH_FILES);

        let large = Ready { size_bytes: limits::PUBLISH_BATCH_BYTES, ..world.ready(5000) };
        publisher.add(large);
        assert!(publisher.is_full());
    }

    /// A directory opened with `O_PATH` can be written in but not synced: a disk that fails at the wrong moment.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_failed_sync_of_the_file_system_fails_the_batch_and_leaves_no_name() {
        let mut world = World::new(OFlags::PATH);
        let mut publisher = Publisher::new(true);
        for file in 0..20 {
            publisher.add(world.ready(file));
        }

        let results = publisher.publish();

        assert_eq!(results.len(), 20);
        assert!(results.iter().all(|(_, result)| matches!(result, Err(Failure { code: Code::File, .. }))));
        assert_eq!(world.count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn names_that_cannot_be_synced_are_told_as_failed() {
        let mut world = World::new(OFlags::PATH);
        let mut publisher = Publisher::new(true);
        publisher.add(world.ready(0));
        publisher.publish();
        publisher.hold(done(0));

        publisher.commit();

        let outcome = publisher.poll_report().unwrap().outcome;
        assert!(matches!(outcome, Outcome::Failed { code: Code::File, .. }));
    }

    #[test]
    fn parts_that_never_got_their_name_are_removed() {
        let mut world = World::new(OFlags::RDONLY);
        let mut publisher = Publisher::new(true);
        publisher.add(world.ready(0));
        assert_eq!(world.count(), 1);

        drop(publisher);

        assert_eq!(world.count(), 0);
    }

    #[test]
    fn bytes_that_a_failed_commit_has_lost_get_no_name() {
        let mut disk = Disk::new();
        let mut publisher = Publisher::new(true);
        (0..=MANY).for_each(|file| publisher.add(disk.ready(file)));
        // Unchanged entries of so many directories.
        disk.directories().into_iter().for_each(|dir| publisher.touch(dir));
        (0..HELD_MAX as u64 - 1).for_each(|file| publisher.hold(done(100 + file)));
        disk.fail_next();
        publisher.hold(done(99));
        assert_eq!(disk.memory.calls().last(), Some(&Call::SyncFileSystem));

        let results = publisher.publish();

        assert!(results.iter().all(|(_, result)| result.is_err()), "{results:?}");
    }

    #[test]
    fn a_file_whose_own_sync_fails_does_not_fail_its_neighbour() {
        let mut disk = Disk::new();
        let mut publisher = Publisher::new(true);
        (0..2).for_each(|file| publisher.add(disk.ready(file)));

        disk.fail_next();
        let results = publisher.publish();

        assert!(results[0].1.is_err() && results[1].1.is_ok(), "{results:?}");
    }

    #[test]
    fn without_a_sync_of_the_file_system_a_part_whose_sync_failed_gets_no_name() {
        let mut disk = Disk::new();
        let mut publisher = Publisher { syncs_each: true, ..Publisher::new(true) };
        (0..MANY).for_each(|file| publisher.add(disk.ready(file)));
        let last = disk.ready(MANY);
        disk.fail_next();
        publisher.add(last);
        // A commit in between is about names.
        (0..HELD_MAX as u64).for_each(|file| publisher.hold(done(100 + file)));

        let results = publisher.publish();

        assert_eq!(results.iter().filter(|(_, result)| result.is_err()).count(), 1, "{results:?}");
        assert_eq!(publisher.poll_report(), Some(done(100)));
    }

    #[test]
    fn without_a_sync_of_the_file_system_a_name_whose_sync_failed_is_not_told() {
        let mut disk = Disk::new();
        let mut publisher = Publisher { syncs_each: true, ..Publisher::new(true) };
        let directories = disk.directories();
        disk.fail_next();
        directories.into_iter().for_each(|dir| publisher.touch(dir));
        publisher.hold(done(100));
        (0..=MANY).for_each(|file| publisher.add(disk.ready(file)));

        let results = publisher.publish();
        publisher.commit();

        assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
        let told = publisher.poll_report().unwrap().outcome;
        assert!(matches!(told, Outcome::Failed { .. }), "{told:?}");
    }

    #[test]
    fn a_directory_that_its_file_system_cannot_sync_fails_nothing() {
        let disk = Disk::new();
        let mut publisher = Publisher::new(true);
        disk.memory.fail_all(Call::SyncDirectory, Fault::Error(Errno::INVAL));

        publisher.touch(Arc::clone(disk.dirs.root()));
        publisher.hold(done(0));
        publisher.commit();

        assert_eq!(publisher.poll_report(), Some(done(0)));
    }

    const MANY: u64 = limits::SYNC_EACH_MAX as u64;

    struct Disk {
        memory: Memory,
        dirs: TargetDirs,
        names: TempNames,
    }

    impl Disk {
        fn new() -> Self {
            let memory = Memory::new(8 << 20);
            let dirs = TargetDirs::new(memory.root()).unwrap();
            Self { memory, dirs, names: TempNames::new(1) }
        }

        fn ready(&mut self, file: u64) -> Ready {
            let mut part = Part::create(Arc::clone(self.dirs.root()), &mut self.names).unwrap();
            part.write_at(0, b"text").unwrap();
            let name = format!("f{file}").into_bytes();
            Ready { file, part, path: name.clone(), name, replace: Replace::Nothing, size_bytes: 4 }
        }

        /// One more than are synced one by one.
        fn directories(&mut self) -> Vec<Arc<Dir>> {
            (0..=MANY).map(|at| self.dirs.open(Some(format!("d{at}").as_bytes()), true).unwrap()).collect()
        }

        /// The next call fails.
        fn fail_next(&self) {
            self.memory.fail_at(self.memory.calls().len(), Fault::Error(Errno::IO));
        }
    }

    struct World {
        temp: tempfile::TempDir,
        dirs: TargetDirs,
        names: TempNames,
    }

    impl World {
        fn new(access: OFlags) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let root = rustix::fs::open(temp.path(), access | OFlags::DIRECTORY, Mode::empty()).unwrap();
            Self { temp, dirs: TargetDirs::new(root.into()).unwrap(), names: TempNames::new(1) }
        }

        fn ready(&mut self, file: u64) -> Ready {
            let name = format!("f{file}").into_bytes();
            let part = Part::create(Arc::clone(self.dirs.root()), &mut self.names).unwrap();
            Ready { file, part, path: name.clone(), name, replace: Replace::Nothing, size_bytes: 1 }
        }

        fn count(&self) -> usize {
            std::fs::read_dir(self.temp.path()).unwrap().count()
        }

        fn live(&self) -> usize {
            let names = std::fs::read_dir(self.temp.path()).unwrap();
            names
                .filter(|entry| !entry.as_ref().unwrap().file_name().as_encoded_bytes().starts_with(b"."))
                .count()
        }
    }

    fn done(file: u64) -> Verdict {
        Verdict { file, path: b"f".to_vec(), size_bytes: 1, digest: None, outcome: Outcome::Done }
    }
}
