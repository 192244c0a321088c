//! Real processes on the loopback: a place for them, their output while they run, and waits that always end.

#![allow(dead_code, reason = "several test programs share this, and none uses all of it")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use haul::run::clock;
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a busy machine; whoever waits so long is killed and the test fails.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The exit codes of the design, section 4.
pub mod exit {
    pub const DONE: i32 = 0;
    pub const USAGE: i32 = 2;
    pub const CONNECT: i32 = 3;
    pub const NOT_ALLOWED: i32 = 4;
    pub const INTEGRITY: i32 = 5;
    pub const SOME_FAILED: i32 = 6;
    pub const SOURCE_CHANGED: i32 = 7;
    pub const NO_SPACE: i32 = 8;
    pub const FILE: i32 = 9;
    pub const PEER: i32 = 10;
    pub const TIMED_OUT: i32 = 12;
    pub const INTERRUPTED: i32 = 130;
}

/// A temporary directory that other users may enter, with a state directory for each person of a test.
pub struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    /// A path in this place, of any bytes.
    pub fn path(&self, name: impl AsRef<[u8]>) -> PathBuf {
        self.dir.path().join(OsStr::from_bytes(name.as_ref()))
    }

    /// A directory in this place, made if it is missing.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A file in this place, with the directories that lead to it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The state directory of `who`, as a person's own: 0700.
    pub fn home(&self, who: &str) -> PathBuf {
        let home = self.dir(&format!("home-{who}"));
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
        home
    }

    /// haul as `who` runs it, in this place, without any `HAUL_*` of the surroundings.
    pub fn command<A: AsRef<OsStr>>(&self, who: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_haul")), who, arguments)
    }

    /// The same for a program that starts haul.
    pub fn command_of<A: AsRef<OsStr>>(
        &self,
        program: &Path,
        who: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"HAUL_")) {
            command.env_remove(name);
        }
        command.current_dir(self.dir.path()).env("HAUL_HOME", self.home(who)).args(arguments);
        command.env("HAUL_RETRY_FOR", "never");
        command
    }

    /// Starts haul as `who`.
    pub fn start<A: AsRef<OsStr>>(&self, who: &str, arguments: impl IntoIterator<Item = A>) -> Process {
        Process::start(&mut self.command(who, arguments))
    }

    /// Runs haul as `who` to its end.
    pub fn run<A: AsRef<OsStr>>(&self, who: &str, arguments: impl IntoIterator<Item = A>) -> Ended {
        self.start(who, arguments).wait()
    }

    /// Starts `haul serve ROOT` with these options, as the person `server`.
    pub fn serve(&self, root: &str, options: &[&str]) -> Listening {
        self.dir(root);
        self.listen("server", &["serve", root], options)
    }

    /// Starts `haul recv DIR` with these options, as the person `server`.
    pub fn recv(&self, dir: &str, options: &[&str]) -> Listening {
        self.dir(dir);
        self.listen("server", &["recv", dir], options)
    }

    /// Starts `haul offer PATH` with these options, as the person `server`.
    pub fn offer(&self, path: &str, options: &[&str]) -> Listening {
        self.listen("server", &["offer", path], options)
    }

    /// Starts a command that waits for clients, on a port that the system chooses.
    pub fn listen(&self, who: &str, command: &[&str], options: &[&str]) -> Listening {
        if !options.contains(&"--json") {
            return Listening::of(self.start(who, listening(command, options)));
        }
        // Standard output is for the result then.
        let file = self.path("ticket");
        let mut arguments = listening(command, options);
        arguments.extend(["--ticket-file".into(), file.clone().into()]);
        let process = self.start(who, arguments);
        process.says("listening on");
        let ticket = fs::read_to_string(file).unwrap().trim_end().to_owned();
        Listening { process, ticket }
    }

    /// Names in a directory of this place, sorted, without those of what may be gone on with.
    pub fn live(&self, dir: &str) -> Vec<String> {
        let mut names = self.names(dir);
        names.retain(|name| !name.starts_with(".haul-"));
        names
    }

    /// Names in a directory of this place, sorted, those of unfinished files included.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(dir))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// Waits until an unfinished file of at least one byte stands in `dir`: the transfer is under way.
    pub fn await_partial(&self, dir: &str) {
        eventually(&format!("an unfinished file in {dir}"), || {
            let entries = fs::read_dir(self.path(dir)).ok()?;
            let is_partial = |entry: &fs::DirEntry| entry.file_name().as_bytes().starts_with(b".haul-");
            entries.flatten().find(is_partial).map(drop)
        });
    }
}

/// The arguments of a command that waits for clients on the loopback.
pub fn listening(command: &[&str], options: &[&str]) -> Vec<OsString> {
    [command, &["--listen", "127.0.0.1:0"], options].concat().into_iter().map(OsString::from).collect()
}

/// A process whose output is collected while it runs. Killed when it is dropped.
pub struct Process {
    child: Child,
    out: Stream,
    err: Stream,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit code, or minus the signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Stream::collect(child.stdout.take().unwrap());
        let err = Stream::collect(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// As [`Self::start`], with `input` on standard input, written as it is taken.
    pub fn start_with_input(command: &mut Command, input: Vec<u8>) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::spawn(move || {
            // Whoever ends early does not read all of it.
            let _ = std::io::Write::write_all(&mut stdin, &input);
        });
        let out = Stream::collect(child.stdout.take().unwrap());
        let err = Stream::collect(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn wait(self) -> Ended {
        self.wait_within(LIMIT)
    }

    /// Waits for its end and fails when it takes longer.
    pub fn wait_within(mut self, limit: Duration) -> Ended {
        let until = clock::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if clock::now() > until {
                let _ = self.child.kill();
                panic!(
                    "still running after {limit:?}\nstdout: {}\nstderr: {}",
                    self.out.text(),
                    self.err.text()
                );
            }
            pause();
        };
        Ended {
            code: status.code().unwrap_or_else(|| -status.signal().unwrap()),
            stdout: self.out.to_end(),
            stderr: self.err.to_end(),
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for a whole line on standard output that starts like this.
    pub fn line(&self, start: &str) -> String {
        self.out.line(&|line| line.starts_with(start)).unwrap_or_else(|| {
            panic!("no line {start:?}\nstdout: {}\nstderr: {}", self.out.text(), self.err.text())
        })
    }

    /// Waits for a whole line on standard error that holds this.
    pub fn says(&self, part: &str) -> String {
        self.err.line(&|line| line.contains(part)).unwrap_or_else(|| {
            panic!("it never said {part:?}\nstdout: {}\nstderr: {}", self.out.text(), self.err.text())
        })
    }

    pub fn stderr(&self) -> String {
        self.err.text()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Fails unless it ended well.
    #[track_caller]
    pub fn is_done(&self) -> &Self {
        assert_eq!(self.code, exit::DONE, "{self:?}");
        self
    }

    /// Fails unless it ended with this code and said so in one line that has all these parts.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) -> &Self {
        assert_eq!(self.code, code, "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("haul: ")).collect();
        let fits = |line: &&&str| parts.iter().all(|part| line.contains(part));
        let fitting = lines.iter().filter(fits).count();
        assert_eq!(fitting, 1, "not one line with {parts:?}: {self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self
    }

    /// Fails unless all that it said is one line.
    #[track_caller]
    pub fn in_one_line(&self) -> &Self {
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("haul: "), "{self:?}");
        self
    }
}

/// A haul that waits for clients.
pub struct Listening {
    pub process: Process,
    /// The whole line.
    pub ticket: String,
}

impl Listening {
    /// Waits for the ticket.
    pub fn of(process: Process) -> Self {
        let ticket = process.line("haul://");
        Self { process, ticket }
    }

    /// Waits for its end.
    pub fn wait(self) -> Ended {
        self.process.wait()
    }

    /// The ticket, for this path on the server.
    pub fn at(&self, path: &str) -> String {
        let (location, secret) = self.ticket.split_once('#').unwrap();
        format!("{location}/{path}#{secret}")
    }

    /// HOST:PORT.
    pub fn address(&self) -> &str {
        self.ticket.strip_prefix("haul://").unwrap().split(['/', '#']).next().unwrap()
    }
}

/// What came out of a pipe so far.
#[derive(Clone)]
struct Stream {
    shared: Arc<(Mutex<Collected>, Condvar)>,
    reader: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    is_over: bool,
}

impl Stream {
    fn collect(mut from: impl Read + Send + 'static) -> Self {
        let shared = Arc::<(Mutex<Collected>, Condvar)>::default();
        let filled = shared.clone();
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64 << 10];
            loop {
                let read = from.read(&mut buffer).unwrap_or(0);
                let mut collected = filled.0.lock().unwrap();
                collected.bytes.extend_from_slice(&buffer[..read]);
                collected.is_over = read == 0;
                filled.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        Self { shared, reader: Arc::new(Mutex::new(Some(reader))) }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.0.lock().unwrap().bytes).into_owned()
    }

    fn to_end(&self) -> String {
        if let Some(reader) = self.reader.lock().unwrap().take() {
            reader.join().unwrap();
        }
        self.text()
    }

    /// The first whole line that fits, as soon as it is there.
    fn line(&self, fits: &dyn Fn(&str) -> bool) -> Option<String> {
        let until = clock::now() + LIMIT;
        let (collected, changed) = &*self.shared;
        let mut collected = collected.lock().unwrap();
        loop {
            let text = String::from_utf8_lossy(&collected.bytes).into_owned();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            if let Some(line) = whole.lines().find(|line| fits(line)) {
                return Some(line.to_owned());
            }
            let left = until.saturating_duration_since(clock::now());
            if collected.is_over || left.is_zero() {
                return None;
            }
            collected = changed.wait_timeout(collected, left).unwrap().0;
        }
    }
}

/// Asks again and again until there is an answer; for what tells nobody when it happens, such as a file.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = clock::now() + LIMIT;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(clock::now() < until, "never came: {what}");
        pause();
    }
}

/// How long `work` took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start: Instant = clock::now();
    let value = work();
    (value, clock::now().duration_since(start))
}

/// Bytes that do not repeat, so that no part of a file is equal to another.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Whether this is root, who may read and write everything.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[expect(clippy::disallowed_methods, reason = "between two looks at something that gives no event")]
fn pause() {
    std::thread::sleep(Duration::from_millis(3));
}
