//! What the tests of a target share: a world with a directory, a sender's side in one line, and outcomes.

mod content;
mod made;
mod names;
mod policy;
mod raw;
mod resume;
mod safety;

use std::path::PathBuf;
use std::sync::Arc;

use super::{
    Accept, BusyNames, Event, Expect, Job, LinkRule, Place, ProtocolViolation, Target, TargetConfig,
};
use crate::integrity::digest::Hasher;
use crate::wire::message::{DigestKind, Entry, Kind, Mtime, Outcome, Overwrite, Want};

/// A modification time that no test file gets by itself.
pub(super) const MTIME: Mtime = Mtime { secs: 1_000_000_000, nanos: 123_456_789 };

/// A target over a temporary directory.
pub(super) struct World {
    pub(super) temp: tempfile::TempDir,
    pub(super) target: Target,
    /// Entries announced.
    next: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A target whose configuration was changed.
    pub(super) fn with(change: impl FnOnce(&mut TargetConfig)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        Self::over(temp, change)
    }

    /// A target over a directory that holds something.
    pub(super) fn over(temp: tempfile::TempDir, change: impl FnOnce(&mut TargetConfig)) -> Self {
        let root = temp.path().to_owned();
        let mut config = config(Place::Directory { root, below: None, rename_top: None });
        change(&mut config);
        Self { target: Target::new(config).unwrap(), temp, next: 0 }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(super) fn announce(&mut self, entries: Vec<Entry>) -> Result<(), ProtocolViolation> {
        let first = self.next;
        self.next += entries.len() as u64;
        self.target.handle(Job::Entries { first, entries })
    }

    /// Sends the whole content of a file in chunks of `step`, then its end.
    pub(super) fn send(&mut self, file: u64, content: &[u8], step: usize) {
        for (i, chunk) in content.chunks(step).enumerate() {
            let offset = (i * step) as u64;
            self.target.handle(Job::Data { file, offset, bytes: chunk.to_vec() }).unwrap();
        }
        self.end(file, content);
    }

    pub(super) fn end(&mut self, file: u64, content: &[u8]) {
        let size = content.len() as u64;
        self.target.handle(Job::End { file, size, digest: digest(content) }).unwrap();
    }

    /// The end of the listing and a quiet moment; the outcomes told since the last time, by number.
    pub(super) fn finish(&mut self) -> Vec<(u64, Outcome)> {
        self.target.handle(Job::Listed).unwrap();
        self.idle()
    }

    pub(super) fn idle(&mut self) -> Vec<(u64, Outcome)> {
        while self.target.has_work() {
            self.target.handle(Job::Work).unwrap();
        }
        self.target.handle(Job::Idle).unwrap();
        let mut told = outcomes(&mut self.target);
        told.sort_by_key(|(file, _)| *file);
        told
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The root, opened.
    pub(super) fn open_root(&self) -> crate::file::disk::Handle {
        crate::file::disk::write::open_root(self.temp.path()).unwrap()
    }

    /// Names in the root, ours included.
    pub(super) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.temp.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub(super) fn config(place: Place) -> TargetConfig {
    TargetConfig {
        place,
        digest: DigestKind::Sha256,
        overwrite: Overwrite::Different,
        checksum: false,
        dry_run: false,
        sync: true,
        verify_disk: false,
        links: LinkRule::KeepAll,
        keep_setid: false,
        eager: false,
        expect: Expect::None,
        accept: Accept::Anything,
        busy: Arc::new(BusyNames::new()),
        seed: 42,
    }
}

pub(super) fn entry(name: &str, kind: Kind) -> Entry {
    let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    Entry { source: 0, name: name.as_bytes().to_vec(), mode, mtime: MTIME, kind }
}

pub(super) fn file_entry(name: &str, size: u64) -> Entry {
    entry(name, Kind::File { size, sparse: false, linked: false })
}

pub(super) fn outcomes(target: &mut Target) -> Vec<(u64, Outcome)> {
    std::iter::from_fn(|| target.poll_event())
        .filter_map(|event| match event {
            Event::Outcome { file, outcome } => Some((file, outcome)),
            _ => None,
        })
        .collect()
}

pub(super) fn wants(target: &mut Target) -> Vec<(u64, Want)> {
    std::iter::from_fn(|| target.poll_event())
        .filter_map(|event| match event {
            Event::Want { file, want } => Some((file, want)),
            _ => None,
        })
        .collect()
}

pub(super) fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(bytes);
    hasher.finish()
}

/// Whether this process is the superuser, whom permissions do not stop.
pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says in the test's output that something could not be tried here.
#[expect(clippy::print_stderr, reason = "a skipped test has to say so")]
pub(super) fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// Runs the test `name` of this program once more as an ordinary user, where this process is the superuser.
/// `None` where it is not, and the caller goes on itself.
pub(super) fn as_ordinary_user(name: &str) -> Option<()> {
    use std::os::unix::process::CommandExt;

    if !is_root() {
        return None;
    }
    let temp = tempfile::tempdir().unwrap();
    std::fs::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let program = temp.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(["--exact", name, "--nocapture"]).env("TMPDIR", temp.path()).uid(65534).gid(65534);
    match command.output() {
        Err(error) => skip(&format!("cannot run as an ordinary user: {error}")),
        Ok(output) => expect_passed(name, &output),
    }
    Some(())
}

/// A directory on a disk of one mebibyte. Where there is none, makes one out of sight of other processes, runs the
/// test `name` of this program there, and returns `None`.
pub(super) fn on_a_small_disk(name: &str) -> Option<tempfile::TempDir> {
    if let Some(disk) = std::env::var_os(SMALL_DISK) {
        return Some(tempfile::tempdir_in(disk).unwrap());
    }
    let temp = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$0\" || exit 77; exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(temp.path()).arg(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(SMALL_DISK, temp.path());
    match command.output() {
        Ok(output) if output.status.success() || output.status.code() == Some(101) => {
            expect_passed(name, &output);
        }
        _ => skip("no file system of a chosen size can be mounted here"),
    }
    None
}

fn expect_passed(name: &str, output: &std::process::Output) {
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} fails there: {told}{errors}");
    assert!(told.contains("1 passed"), "no test is called {name}");
}

/// Names the directory of the small disk to the inner run of a test.
const SMALL_DISK: &str = "HAUL_TEST_SMALL_DISK";
