//! Runs the real binary in a directory, with a home of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

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
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        Self { dir }
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

    /// The command for `program` in `data`, without any `HAUL_*` but `HAUL_HOME`.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"HAUL_")) {
            command.env_remove(name);
        }
        command.current_dir(self.path("")).env("HAUL_HOME", self.dir.path().join("home"));
        command
    }

    /// Runs haul with these arguments and nothing on standard input.
    pub fn haul<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Ended {
        run(self.command(haul()).args(arguments), b"")
    }
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
