//! Both processes of a run, from the first start to the comparison at the end.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use haul::file::path::{TEMP_PREFIX, escape};
use haul::limits;
use haul::run::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Told;
use super::path::Path;
use super::payload::{self, NAME};
use super::plan::{End, Kill, Payload, Plan, Way, When};
use super::running::Running;
use super::watch::Watch;
use crate::common::Place;
use crate::common::process::{PATIENCE, Server};
use crate::common::tree::{self, Kind, Tree};

/// A run.
pub struct Scene<'a> {
    plan: &'a Plan,
    here: &'a Place,
    there: &'a Place,
    source: Tree,
    target: PathBuf,
    rate: String,
    watch: Watch,
    ticket: String,
    path: Option<Path>,
    /// The ticket that leads over it.
    ticket_over: String,
    /// `None` once it has done what it was there for.
    server: Option<Running>,
    /// `None` once all has come.
    client: Option<Running>,
    /// The server was killed since the client was started.
    is_cut: bool,
    /// How often the path had reset its connections by then.
    resets_before: u32,
    /// When the client was started for the first time, or one of both was killed.
    since: Instant,
    /// What receivers that are no more have written, bytes.
    written: u64,
    told: Told,
}

impl<'a> Scene<'a> {
    /// Plays a run to its end.
    pub fn play(plan: &'a Plan, here: &'a Place, there: &'a Place) -> Told {
        let mut scene = Self::set(plan, here, there);
        for kill in &plan.kills {
            if !scene.comes_to(kill.when) {
                break;
            }
            scene.kill(kill);
        }
        while scene.goes_on() {
            scene.wait(PATIENCE);
        }
        scene.end_server();
        scene.compare();
        scene.weigh();
        scene.told
    }

    /// Makes what is sent and starts both.
    fn set(plan: &'a Plan, here: &'a Place, there: &'a Place) -> Self {
        let (sends, receives) = if plan.way.sender() == End::Client { (here, there) } else { (there, here) };
        for dir in [sends.path("from"), receives.path("into")] {
            fs::create_dir(dir).unwrap();
        }
        let target = receives.path("into");
        payload::make(plan, &sends.path("from"), &target);
        let source = tree::look(&sends.path("from"));
        let told = Told {
            content: content(&source),
            is_file: matches!(plan.payload, Payload::File(_)),
            ..Told::default()
        };
        let rate = plan.rate(told.content);
        let watch = Watch::start(&target, source.clone());
        let server = start_server(plan, there, &rate);
        let path = plan.road.as_ref().map(|road| Path::start(server.address(), road, plan.seed));
        let ticket_over = path.as_ref().map_or(server.ticket.clone(), |path| server.over(path.address()));
        let client = start_client(plan, here, &ticket_over, &rate);
        Self {
            plan,
            here,
            there,
            source,
            target,
            rate,
            watch,
            ticket: server.ticket,
            path,
            ticket_over,
            server: Some(Running::of(server.process)),
            client: Some(client),
            is_cut: false,
            resets_before: 0,
            since: clock::now(),
            written: 0,
            told,
        }
    }

    /// Waits for a moment; whether it comes before all is done.
    fn comes_to(&mut self, when: When) -> bool {
        let mut begun = None;
        while self.goes_on() {
            begun = begun.or_else(|| self.watch.has_moved().then(clock::now));
            let left = match when {
                When::Written(share) if self.written() * 1000 >= self.told.content * share => Duration::ZERO,
                When::Written(_) => PATIENCE,
                When::After(time) => begun.map_or(PATIENCE, |begun| time.saturating_sub(since(begun))),
            };
            if begun.is_some() && left.is_zero() {
                return true;
            }
            self.wait(left);
        }
        false
    }

    /// Waits until something happens in the target, or to the client, or for so long.
    fn wait(&self, time: Duration) {
        assert!(since(self.since) < PATIENCE, "it does not come to an end");
        let mut fds = vec![PollFd::from_borrowed_fd(self.watch.fd(), PollFlags::IN)];
        fds.extend(self.client.iter().map(|client| PollFd::from_borrowed_fd(client.fd(), PollFlags::IN)));
        poll(&mut fds, Some(&Timespec::try_from(time).expect("not too long"))).unwrap();
    }

    /// Looks at the target and at the client, and starts another client where there is a reason; whether there is
    /// something to wait for.
    fn goes_on(&mut self) -> bool {
        self.watch.look();
        let Some(client) = self.client.take_if(|client| client.has_ended()) else {
            return self.client.is_some();
        };
        let (written, ended) = client.end();
        self.note_written(End::Client, written);
        if ended.code == 0 || self.is_server_done() {
            return false;
        }
        if ended.stderr.contains("try again later") {
            self.told.refused += 1;
            pause(BEFORE_AGAIN);
        } else {
            let is_cut = self.is_cut || self.resets() > self.resets_before;
            assert!(is_cut && !self.plan.is_patient, "the client {ended}");
        }
        self.start_client();
        true
    }

    /// Kills one of both and starts it again.
    fn kill(&mut self, kill: &Kill) {
        if self.is_server_done() {
            return;
        }
        let killed = match kill.end {
            End::Client => self.client.take(),
            End::Server => self.server.take(),
        };
        let written = killed.expect("it is there while the transfer goes on").kill();
        self.note_written(kill.end, written);
        match kill.end == self.plan.way.sender() {
            true => self.told.senders += 1,
            false => self.told.receivers += 1,
        }
        pause(kill.dead);
        match kill.end {
            End::Client if self.is_server_done() => {}
            End::Client => self.start_client(),
            End::Server => self.start_server(),
        }
        self.watch.begin();
        self.since = clock::now();
    }

    fn start_client(&mut self) {
        self.is_cut = false;
        self.resets_before = self.resets();
        self.client = Some(start_client(self.plan, self.here, &self.ticket_over, &self.rate));
    }

    fn resets(&self) -> u32 {
        self.path.as_ref().map_or(0, Path::resets)
    }

    fn start_server(&mut self) {
        self.is_cut = true;
        let server = start_server(self.plan, self.there, &self.rate);
        if server.ticket == self.ticket {
            self.server = Some(Running::of(server.process));
        } else {
            // Its ticket is void from the moment that all has come.
            assert!(self.plan.way.is_one_time(), "another ticket");
            self.compare();
        }
    }

    /// Whether the server was there for one transfer, and that is done.
    fn is_server_done(&mut self) -> bool {
        if let Some(server) = self.server.take_if(|server| server.has_ended()) {
            let (written, ended) = server.end();
            self.note_written(End::Server, written);
            assert!(self.plan.way.is_one_time() && ended.code == 0, "the server {ended}");
        }
        self.server.is_none()
    }

    /// Ends a server that stands, and sees the other end by itself.
    fn end_server(&mut self) {
        if !self.plan.way.is_one_time() {
            let server = self.server.take().filter(|server| !server.has_ended());
            let written = server.expect("a standing server stands").kill();
            return self.note_written(End::Server, written);
        }
        if self.server.as_ref().is_some_and(|server| !server.ends_within(ENDS_WITHIN)) {
            // It was killed after the last word to the client, and waits for another one.
            self.start_client();
            while self.goes_on() {
                self.wait(PATIENCE);
            }
        }
        let ends = self.server.as_ref().is_none_or(|server| server.ends_within(PATIENCE));
        assert!(ends && self.is_server_done(), "the server does not end");
    }

    fn note_written(&mut self, end: End, bytes: u64) {
        if end != self.plan.way.sender() {
            self.written += bytes;
        }
    }

    /// What receivers have written, bytes.
    fn written(&self) -> u64 {
        let receiver = if self.plan.way.sender() == End::Client { &self.server } else { &self.client };
        self.written + receiver.as_ref().map_or(0, Running::written)
    }

    /// Both trees are the same, and nothing of a finished file is left.
    fn compare(&mut self) {
        self.watch.look();
        let (left, there): (Tree, Tree) =
            tree::look(&self.target).into_iter().partition(|(name, _)| is_temporary(name));
        tree::assert_trees_same(&self.source, &there);
        for (name, node) in &left {
            let Kind::File(size, ..) = node.kind else { continue };
            let shown = escape(name);
            assert!(size < limits::RESUME_MIN_BYTES, "a part of {size} bytes is left: {shown}");
            let content = fs::read(self.target.join(OsStr::from_bytes(name))).unwrap();
            assert!(!content.starts_with(b"haulJrn"), "a journal is left: {shown}");
        }
        self.told.left = left.len();
    }

    /// Not more than is promised has travelled again.
    fn weigh(&mut self) {
        let (content, large) = (self.told.content, large(&self.source));
        self.told.again = self.written.saturating_sub(content);
        (self.told.resets, self.told.is_rough) = (self.resets(), self.path.is_some());
        let (senders, receivers) = (u64::from(self.told.senders), u64::from(self.told.receivers));
        let senders = senders + u64::from(self.told.resets);
        // What is not finished of a small file goes with the session. Of a large one, only a receiver's death takes
        // anything: what was not claimed yet.
        let small = (senders + receivers) * (content - large);
        let most = small + receivers * large.min(limits::CHECKPOINT_BYTES) + NOISE_BYTES;
        assert!(self.told.again <= most, "{} bytes again, {most} at most", self.told.again);
    }
}

fn start_server(plan: &Plan, there: &Place, rate: &str) -> Server {
    let from = format!("from/{NAME}");
    there.listen(match plan.way {
        Way::Recv => vec!["recv", "into"],
        Way::Push => vec!["serve", "into", "--overwrite", "different"],
        Way::Pull => vec!["serve", "from", "--rate", rate],
        Way::Offer => vec!["offer", &from, "--rate", rate],
    })
}

fn start_client(plan: &Plan, here: &Place, ticket: &str, rate: &str) -> Running {
    let from = format!("from/{NAME}");
    let path = ticket.replace('#', &format!("/{NAME}#"));
    let mut arguments = match plan.way {
        Way::Recv | Way::Push => vec!["send", &from, ticket, "--rate", rate],
        Way::Pull => vec!["get", &path, "-o", "into"],
        Way::Offer => vec!["get", ticket, "-o", "into"],
    };
    arguments.extend(["--transport", plan.transport, "--json"]);
    if plan.is_patient {
        arguments.extend(["--retry-for", "30s"]);
    }
    Running::of(here.start(arguments))
}

/// Bytes of all files.
fn content(tree: &Tree) -> u64 {
    sizes(tree).sum()
}

/// Bytes of the files that are gone on with.
fn large(tree: &Tree) -> u64 {
    sizes(tree).filter(|&size| size >= limits::RESUME_MIN_BYTES).sum()
}

/// Of each file, whatever names it has.
fn sizes(tree: &Tree) -> impl Iterator<Item = u64> {
    tree.iter().filter_map(|(name, node)| match &node.kind {
        Kind::File(size, _, first) if first == name => Some(*size),
        _ => None,
    })
}

fn is_temporary(path: &[u8]) -> bool {
    path.rsplit(|&byte| byte == b'/').next().is_some_and(|name| name.starts_with(TEMP_PREFIX))
}

fn since(then: Instant) -> Duration {
    clock::now().duration_since(then)
}

/// Lets time pass, where time is what a run is about.
fn pause(time: Duration) {
    poll(&mut [], Some(&Timespec::try_from(time).expect("not too long"))).unwrap();
}

/// Whoever is refused waits for so long before the next attempt.
const BEFORE_AGAIN: Duration = Duration::from_millis(100);
/// A server that is there for one transfer ends within this time after the client, or not by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(8);
/// What a receiver writes that is no content: journals, messages, what it says.
const NOISE_BYTES: u64 = 1 << 20;
