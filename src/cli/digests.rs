//! Digests of many files by several threads, given out in the order in which they were asked for.
//!
//! ```text
//! work ──feeder──┬─ jobs ──> hashing threads ──┐
//!                └─ slots, in order ─────────> caller, who waits for each slot's own answer
//! ```
//!
//! Both queues are bounded, so a tree of a million files is never held whole, and a slow file at the front stops
//! the feeder instead of filling memory with what comes behind it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;

use super::exit::Exit;
use super::progress::{Phase, Progress};
use super::tree::FileId;
use crate::file::path::escape;
use crate::integrity::digest::{Digest, DigestKind, Hasher};
use crate::limits;

/// Something to pass through the pipeline in order, with or without a file to read.
#[derive(Debug)]
pub struct Work<T> {
    /// What the caller gets back.
    pub tag: T,
    /// What to digest, if anything.
    pub source: Option<Source>,
}

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A regular file.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether `path` may be a symbolic link.
        follow: bool,
        /// Bytes, as listed; counted as known.
        size: u64,
    },
    /// Standard input, to its end.
    Stdin,
}

/// The digest of a file, and how long it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The digest of everything that was read.
    pub digest: Digest,
    /// Bytes read.
    pub bytes: u64,
    /// The file was the same before and after.
    pub is_stable: bool,
}

/// Why a file has no digest.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be opened or read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is a directory, FIFO, socket or device.
    #[error("not a regular file")]
    NotAFile,
}

impl ReadError {
    /// The exit code that this alone would give.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Io(error) => Exit::of_io(error),
            Self::NotAFile => Exit::LocalFile,
        }
    }
}

/// How far the pipeline is; shared by its threads.
#[derive(Debug, Default)]
pub struct Meter {
    /// Files listed.
    files: AtomicU64,
    /// Bytes of the files listed.
    bytes: AtomicU64,
    /// Files whose digest was given out, or that failed.
    files_done: AtomicU64,
    /// Bytes read.
    bytes_read: AtomicU64,
    /// Nothing more will be listed.
    is_listed: AtomicBool,
    /// The caller gave up; whatever is being read does not matter.
    is_stopped: AtomicBool,
}

impl Meter {
    /// The same for people, while the file called `current` is waited for.
    pub fn progress(&self, current: Option<&[u8]>) -> Progress {
        Progress {
            files_done: self.files_done.load(Ordering::Relaxed),
            files_total: self.files.load(Ordering::Relaxed),
            bytes_done: self.bytes_read.load(Ordering::Relaxed),
            bytes_total: self.bytes.load(Ordering::Relaxed),
            listing_complete: self.is_listed.load(Ordering::Relaxed),
            current: current.map(escape),
            phase: Phase::Hashing,
        }
    }
}

/// Passes all of `work` through in order; `each` gets every tag with its digest, if it had a source. `tick` is
/// called after each and at least every [`TICK`] while nothing happens. The first error of `each` ends it.
pub fn in_order<T: Send>(
    work: impl Iterator<Item = Work<T>> + Send,
    kind: DigestKind,
    meter: &Meter,
    mut each: impl FnMut(T, Option<Result<Reading, ReadError>>) -> anyhow::Result<()>,
    mut tick: impl FnMut(Option<&T>),
) -> anyhow::Result<()> {
    let (job_tx, job_rx) = sync_channel::<Job>(QUEUE);
    let (slot_tx, slot_rx) = sync_channel::<Slot<T>>(QUEUE);
    let job_rx = Mutex::new(job_rx);
    thread::scope(|scope| {
        scope.spawn(move || feed(work, meter, &job_tx, &slot_tx));
        for _ in 0..threads() {
            scope.spawn(|| hash_jobs(&job_rx, kind, meter));
        }
        let mut drain = || {
            while let Some(slot) = wait(&slot_rx, || tick(None)) {
                let answer = slot.answer.map(|answer| {
                    wait(&answer, || tick(Some(&slot.tag)))
                        .expect("a hashing thread answers each job it has taken")
                });
                if answer.is_some() {
                    meter.files_done.fetch_add(1, Ordering::Relaxed);
                }
                tick(Some(&slot.tag));
                each(slot.tag, answer)?;
            }
            Ok(())
        };
        let result = drain();
        meter.is_stopped.store(true, Ordering::Relaxed);
        // The feeder may wait for room in this queue.
        drop(slot_rx);
        result
    })
}

/// Reads `source` to its end for its digest; `on_read` hears of every piece.
pub fn digest(
    source: &Source,
    kind: DigestKind,
    buffer: &mut [u8],
    on_read: &mut impl FnMut(u64) -> io::Result<()>,
) -> Result<Reading, ReadError> {
    match source {
        Source::Stdin => {
            let (digest, bytes) = digest_to_end(io::stdin().lock(), kind, buffer, on_read)?;
            Ok(Reading { digest, bytes, is_stable: true })
        }
        Source::File { path, follow, .. } => {
            let file = open(path, *follow)?;
            let before = file.metadata()?;
            if !before.is_file() {
                return Err(ReadError::NotAFile);
            }
            let (digest, bytes) = digest_to_end(&file, kind, buffer, on_read)?;
            let is_stable =
                state(&before) == state(&file.metadata()?) && names(path, *follow, FileId::of(&before));
            Ok(Reading { digest, bytes, is_stable })
        }
    }
}

struct Job {
    source: Source,
    answer: SyncSender<Result<Reading, ReadError>>,
}

struct Slot<T> {
    tag: T,
    answer: Option<Receiver<Result<Reading, ReadError>>>,
}

fn feed<T>(
    work: impl Iterator<Item = Work<T>>,
    meter: &Meter,
    jobs: &SyncSender<Job>,
    slots: &SyncSender<Slot<T>>,
) {
    for Work { tag, source } in work {
        let Some(source) = source else {
            if slots.send(Slot { tag, answer: None }).is_err() {
                return;
            }
            continue;
        };
        meter.files.fetch_add(1, Ordering::Relaxed);
        if let Source::File { size, .. } = source {
            meter.bytes.fetch_add(size, Ordering::Relaxed);
        }
        let (answer_tx, answer_rx) = sync_channel(1);
        if slots.send(Slot { tag, answer: Some(answer_rx) }).is_err()
            || jobs.send(Job { source, answer: answer_tx }).is_err()
        {
            return;
        }
    }
    meter.is_listed.store(true, Ordering::Relaxed);
}

fn hash_jobs(jobs: &Mutex<Receiver<Job>>, kind: DigestKind, meter: &Meter) {
    let mut buffer = vec![0; limits::CHUNK_BYTES];
    let mut on_read = |bytes| {
        meter.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        if meter.is_stopped.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    };
    loop {
        let job = jobs.lock().expect("no thread panics while it holds the queue").recv();
        let Ok(job) = job else { return };
        if meter.is_stopped.load(Ordering::Relaxed) {
            continue;
        }
        let answer = digest(&job.source, kind, &mut buffer, &mut on_read);
        // Nobody waits for it when the caller gave up.
        let _ = job.answer.send(answer);
    }
}

/// The next message, or `None` when there will be none.
fn wait<M>(from: &Receiver<M>, mut tick: impl FnMut()) -> Option<M> {
    loop {
        match from.recv_timeout(TICK) {
            Ok(message) => return Some(message),
            Err(RecvTimeoutError::Timeout) => tick(),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

fn digest_to_end(
    mut input: impl Read,
    kind: DigestKind,
    buffer: &mut [u8],
    on_read: &mut impl FnMut(u64) -> io::Result<()>,
) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(kind);
    let mut total = 0;
    loop {
        let len = match input.read(buffer) {
            Ok(0) => return Ok((Digest(hasher.finish()), total)),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..len]);
        total += len as u64;
        on_read(len as u64)?;
    }
}

/// Opens without ever waiting for the other end of a FIFO that took the file's place.
fn open(path: &Path, follow: bool) -> io::Result<File> {
    let flags = if follow { OFlags::NONBLOCK } else { OFlags::NONBLOCK | OFlags::NOFOLLOW };
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// What differs after a write, a truncation or a rename over the file.
fn state(metadata: &Metadata) -> (u64, (i64, i64), (i64, i64)) {
    (metadata.len(), (metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()))
}

/// Whether `path` is still a name of the file `id`.
fn names(path: &Path, follow: bool, id: FileId) -> bool {
    let metadata = if follow { path.metadata() } else { path.symlink_metadata() };
    metadata.is_ok_and(|metadata| FileId::of(&metadata) == id)
}

/// One per core, up to what a disk likes to be asked at once.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// How long the caller's `tick` waits at most while nothing happens.
pub const TICK: Duration = Duration::from_millis(100);
const THREADS_MAX: usize = 4;
/// Files that the feeder may be ahead.
const QUEUE: usize = 256;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    const KIND: DigestKind = DigestKind::Sha256;

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        let dir = tempfile::tempdir().unwrap();
        // Every seventh file is large, every fifth is missing, every third has no source.
        let work: Vec<Work<usize>> = (0..600)
            .map(|tag| {
                let path = dir.path().join(tag.to_string());
                if tag % 5 != 0 {
                    fs::write(&path, vec![1; if tag % 7 == 0 { 200_000 } else { tag }]).unwrap();
                }
                let source = (tag % 3 != 0).then_some(Source::File { path, follow: true, size: 0 });
                Work { tag, source }
            })
            .collect();
        let meter = Meter::default();
        let mut order = Vec::new();

        let each = |tag: usize, answer: Option<Result<Reading, ReadError>>| {
            assert_eq!(answer.is_none(), tag.is_multiple_of(3));
            assert_eq!(
                answer.is_some_and(|answer| answer.is_err()),
                !tag.is_multiple_of(3) && tag.is_multiple_of(5)
            );
            order.push(tag);
            Ok(())
        };
        in_order(work.into_iter(), KIND, &meter, each, |_| {}).unwrap();

        assert_eq!(order, (0..600).collect::<Vec<_>>());
        assert_eq!(meter.files.into_inner(), 400);
        assert!(meter.is_listed.into_inner());
    }

    #[test]
    fn the_callers_error_ends_it_though_work_is_endless() {
        let endless = (0_u64..).map(|tag| Work {
            tag,
            source: Some(Source::File { path: "/dev/null".into(), follow: true, size: 0 }),
        });

        let each = |tag, _| if tag == 1000 { Err(anyhow::anyhow!("enough")) } else { Ok(()) };
        let error = in_order(endless, KIND, &Meter::default(), each, |_| {}).unwrap_err();

        assert_eq!(error.to_string(), "enough");
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_not_stable() {
        let changes: [fn(&Path); 4] = [
            |path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap(),
            |path| OpenOptions::new().write(true).open(path).unwrap().set_len(1).unwrap(),
            |path| fs::remove_file(path).unwrap(),
            |path| {
                fs::write(path.with_extension("new"), b"another").unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let source = Source::File { path: path.clone(), follow: false, size: 0 };

        for (number, change) in changes.into_iter().enumerate() {
            fs::write(&path, [7; 10_000]).unwrap();
            let mut change = Some(change);
            let mut on_read = |_| {
                if let Some(change) = change.take() {
                    change(&path);
                }
                Ok(())
            };

            let read = digest(&source, KIND, &mut [0; 1000], &mut on_read).unwrap();

            assert!(!read.is_stable, "change {number}");
        }
        fs::write(&path, [7; 10_000]).unwrap();
        assert!(digest(&source, KIND, &mut [0; 1000], &mut |_| Ok(())).unwrap().is_stable);
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join("link")).unwrap();
        let read = |path: PathBuf, follow| {
            digest(&Source::File { path, follow, size: 0 }, KIND, &mut [0; 10], &mut |_| Ok(()))
        };

        assert!(matches!(read(fifo, false), Err(ReadError::NotAFile)));
        assert!(matches!(read(dir.path().to_owned(), true), Err(ReadError::NotAFile)));
        assert!(matches!(read(dir.path().join("link"), true), Err(ReadError::NotAFile)));
        assert!(matches!(read(dir.path().join("link"), false), Err(ReadError::Io(_))));
    }
}
