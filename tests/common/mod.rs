//! Runs the real binary in a directory, with a home of its own.

#![allow(dead_code, reason = "each test binary uses a part of this")]

pub mod datagrams;
#[cfg(target_os = "linux")]
pub mod hosts;
pub mod process;
pub mod proxy;
pub mod relay;
pub mod tree;

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use process::{Process, Server};

/// A temporary directory with `data`, where commands run, and `home`, where haul keeps its own files.
pub struct Place {
    dir: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Place {
    /// An empty place that other users may read.
    pub fn new() -> Self {
        Self::in_dir(tempfile::tempdir().unwrap())
    }

    fn in_dir(dir: tempfile::TempDir) -> Self {
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::set_permissions(dir.path().join("home"), fs::Permissions::from_mode(0o700)).unwrap();
        Self { dir }
    }

    /// An empty place in memory where there is `/dev/shm`, so that no disk has a part in what is measured.
    pub fn in_memory() -> Self {
        let shm = Path::new("/dev/shm");
        let dir = if shm.is_dir() { tempfile::tempdir_in(shm) } else { tempfile::tempdir() }.unwrap();
        Self::in_dir(dir)
    }

    /// Lets it stand for a person to look at; where it is.
    pub fn stay(self) -> PathBuf {
        self.dir.keep()
    }

    /// A path in `data`, of any bytes.
    pub fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.dir.path().join("data").join(OsStr::from_bytes(name.as_ref()))
    }

    /// Makes a file in `data` and the directories that lead to it.
    pub fn write(&self, name: impl AsRef<[u8]>, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The command for `program` in `data`, without any `HAUL_*` but `HAUL_HOME`, and `HAUL_RETRY_FOR`: a lost connection
    /// is the end, unless a test says something else.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"HAUL_")) {
            command.env_remove(name);
        }
        command.current_dir(self.path("")).env("HAUL_HOME", self.dir.path().join("home"));
        command.env("HAUL_RETRY_FOR", "never");
        command
    }

    /// Runs haul with these arguments and nothing on standard input.
    pub fn haul<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        run(self.command(haul()).args(arguments), b"")
    }

    /// Starts haul with these arguments and nothing on standard input.
    pub fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Process {
        Process::start(self.command(haul()).args(arguments).stdin(Stdio::null()))
    }

    /// haul as a user who owns this place and nothing else: by setpriv when the tests run as root, by itself
    /// otherwise. `None`, and said, where this machine has no way to do that.
    pub fn command_of_nobody(&self) -> Option<Command> {
        const NOBODY: u32 = 65_534;
        if !rustix::process::geteuid().is_root() {
            return Some(self.command(haul()));
        }
        let options = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
        let probe = Command::new("setpriv")
            .args(&options)
            .arg(haul())
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        if !probe.is_ok_and(|status| status.success()) {
            skip("setpriv is not installed, or the binary lies where nobody may look");
            return None;
        }
        for dir in ["data", "home"] {
            assert!(
                self.command("chown")
                    .args(["-hR", &NOBODY.to_string()])
                    .arg(self.dir.path().join(dir))
                    .status()
                    .unwrap()
                    .success()
            );
        }
        let mut command = self.command("setpriv");
        command.args(options).arg(haul());
        Some(command)
    }

    /// [`Self::command_of_nobody`], who may open the TUN device: in a mount namespace of this command, the machine's own left
    /// alone.
    pub fn nobody_with_device(&self) -> Option<Command> {
        let command = self.command_of_nobody()?;
        if !rustix::process::geteuid().is_root() {
            return Some(command);
        }
        let script = "mount -t tmpfs none /mnt && mknod -m 666 /mnt/tun c 10 200 && mount --bind /mnt/tun /dev/net/tun && exec \"$@\"";
        let mut unshare = self.command("unshare");
        unshare
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        Some(unshare)
    }

    /// Starts `recv`, `offer` or `serve` with these arguments on a free port of this machine.
    pub fn listen<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Server {
        Server::start(self.command(haul()).args(arguments))
    }
}

impl Ended {
    /// Itself, if it ended with this exit code.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// The one object on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(4000)]);
        write!(f, "ended with {}\nstdout: {stdout}\nstderr: {}", self.code, self.stderr)
    }
}

/// Whether this machine lets us have the hosts of an emulated link; says why not.
#[track_caller]
pub fn can_have_hosts() -> bool {
    let ended = Place::new().haul(["link", "lan", "--", "true"]);
    if ended.code == 0 {
        return true;
    }
    assert_eq!(ended.code, 9, "{ended}");
    skip(&ended.stderr);
    false
}

/// Says why a test shows nothing on this machine.
#[expect(clippy::print_stderr, reason = "the reason of a skipped test is for the person who runs it")]
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// The binary under test.
pub fn haul() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_haul"))
}

/// Runs a command to its end with `input`, which fits a pipe, on standard input.
pub fn run(command: &mut Command, input: &[u8]) -> Ended {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A command that does not read its input may have closed it.
    let _ = child.stdin.take().unwrap().write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    Ended { code: status.code().unwrap_or(-1), stdout, stderr: String::from_utf8(stderr).unwrap() }
}

/// Looks again and again, for a bounded time.
#[expect(clippy::disallowed_methods, reason = "between two looks at something that gives no event")]
#[track_caller]
pub fn until(is_so: impl Fn() -> bool) {
    for _ in 0..6000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it never came to that");
}
