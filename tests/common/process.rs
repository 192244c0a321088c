//! A running haul: started, awaited within a bound, ended at the latest with the test.

#![allow(dead_code, reason = "several test programs share this, and none uses all of it")]

use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use haul::run::clock;
use rustix::process::{Pid, Signal};

use super::Ended;

/// No step of a test takes longer on any machine that is not broken.
pub const PATIENCE: Duration = Duration::from_secs(100);

/// A process whose output is collected while it runs.
pub struct Process {
    child: Child,
    told: Receiver<Told>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// A `recv`, `offer` or `serve` that has said its ticket.
pub struct Server {
    /// It.
    pub process: Process,
    /// The whole line to paste on the other machine.
    pub ticket: String,
}

/// A line, its end included, or what was left at the end.
enum Told {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

impl Process {
    /// Starts a command; its standard input is what the command says.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (tell, told) = channel();
        collect(child.stdout.take().unwrap(), tell.clone(), Told::Stdout);
        collect(child.stderr.take().unwrap(), tell, Told::Stderr);
        Self { child, told, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Starts a command whose standard output goes where the command says.
    pub fn start_apart(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (tell, told) = channel();
        collect(child.stderr.take().unwrap(), tell, Told::Stderr);
        Self { child, told, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the caller has left open of its standard input.
    pub fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Waits for a line on standard output or standard error.
    #[track_caller]
    pub fn line_with(&mut self, part: &str) -> String {
        let until = clock::now() + PATIENCE;
        while let Ok(told) = self.told.recv_timeout(until.duration_since(clock::now())) {
            let line = String::from_utf8_lossy(told.bytes()).into_owned();
            self.keep(told);
            if line.contains(part) {
                return line.trim_end().to_owned();
            }
        }
        panic!("no line with `{part}`\nstdout: {}\nstderr: {}", lossy(&self.stdout), lossy(&self.stderr));
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let until = clock::now() + PATIENCE;
        loop {
            match self.told.recv_timeout(until.duration_since(clock::now())) {
                Ok(told) => self.keep(told),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    panic!("does not end\nstdout: {}\nstderr: {}", lossy(&self.stdout), lossy(&self.stderr))
                }
            }
        }
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Ended { code, stdout: std::mem::take(&mut self.stdout), stderr: lossy(&self.stderr) }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Ends it without giving it a moment, as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn keep(&mut self, told: Told) {
        match told {
            Told::Stdout(line) => self.stdout.extend(line),
            Told::Stderr(line) => self.stderr.extend(line),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a listening command on a free port of this machine.
    pub fn start(command: &mut Command) -> Self {
        Self::start_as_it_is(command.args(["--listen", "127.0.0.1:0"]))
    }

    /// Starts a listening command that knows where to listen.
    pub fn start_as_it_is(command: &mut Command) -> Self {
        let mut process = Process::start(command.stdin(Stdio::null()));
        let line = process.line_with("haul://");
        let ticket = line.split_whitespace().next_back().unwrap().to_owned();
        Self { process, ticket }
    }

    /// The ticket for a path on the server.
    pub fn at(&self, path: &str) -> String {
        let (address, secret) = self.ticket.split_once('#').unwrap();
        format!("{address}/{path}#{secret}")
    }

    /// The ticket that leads over another address.
    pub fn over(&self, address: SocketAddr) -> String {
        let (_, secret) = self.ticket.split_once('#').unwrap();
        format!("haul://{address}#{secret}")
    }

    /// The ticket for a path on the server that leads over another address.
    pub fn over_at(&self, address: SocketAddr, path: &str) -> String {
        let (_, secret) = self.ticket.split_once('#').unwrap();
        format!("haul://{address}/{path}#{secret}")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        let (address, _) = self.ticket.split_once('#').unwrap();
        address.trim_start_matches("haul://").parse().unwrap()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(self) -> Ended {
        self.process.end()
    }
}

impl Told {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Stdout(bytes) | Self::Stderr(bytes) => bytes,
        }
    }
}

/// Reads lines until the other end is closed.
fn collect(from: impl Read + Send + 'static, tell: Sender<Told>, kind: fn(Vec<u8>) -> Told) {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            match from.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                // The test may be over.
                Ok(_) => drop(tell.send(kind(line))),
            }
        }
    });
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
