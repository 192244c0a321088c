//! A whole client and a whole server, from one seed: sessions over TCP, flows over UDP, disks, and everything that can
//! go wrong with them.
//!
//! **Goal.** Whatever the path does, no byte is wrong, none is placed twice, and nothing hangs.
//!
//! **Method.** [`Plan`] draws from the seed what there is and which faults are on. The values of the program (openings,
//! `transfer`, `stream`, `datagram`, under real packet keys) are coupled as the program does it, on a virtual clock;
//! without TLS, which cannot be replayed. Connections are [`pipes`](pipe): bytes in order.
//!
//! **What is checked.** At every step: nobody breaks a rule of the protocol; a packet number never comes twice; what is
//! acknowledged has arrived; what is in flight fits the window; addresses that have proven nothing get little; content
//! within the credit is placed once, in files that were wanted, and Done means the source's digest. And at the end:
//! both sides know the same outcomes, all files that nothing was wrong with are there, byte for byte, and it took no
//! longer than [`Plan::deadline`], which counts from the end of the faults.
//!
//! ```text
//!   plan     what the seed draws           host     connections, flows and core of one side
//!   source   the sender's disk             flow     one end of a flow
//!   target   the receiver's disk           net      connections, road, NAT, people who mean harm
//!                                          pipe     one direction of a connection
//! ```

mod flow;
mod host;
mod net;
mod pipe;
mod plan;
pub(super) mod source;
pub(super) mod target;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

pub use plan::{DISK_CALLS, Fault, Plan};

use host::{Core, Host};
use net::{Datagram, Net};
use source::{FileSpec, Form};
use target::{Target, disk_for, read};

use super::agenda::Agenda;
use crate::{
    file::disk::memory::Memory,
    security::Side,
    transfer::{CONTROL, Receiver},
    wire::message::Outcome,
};

/// What is due and cannot go on is tried again so soon.
const STEP: Duration = Duration::from_micros(50);
/// A flow that cannot be asked for yet is asked for a little later.
const LATER: Duration = Duration::from_millis(20);
/// Events of a world at most; a few of them for each packet.
const EVENTS_MAX: u64 = 3_000_000;
/// Lines of each flow's diary that are kept when a seed is replayed, and that are shown.
const TRACE_LINES: usize = 2000;
const TRACE_SHOWN: usize = 60;

/// A client and a server.
pub struct World {
    plan: Arc<Plan>,
    now: Duration,
    agenda: Agenda<Event>,
    client: Host,
    server: Host,
    net: Net,
    wakes: [Option<Duration>; 2],
    events: u64,
    /// The receiver's.
    disk: Memory,
}

#[derive(Debug)]
enum Event {
    Arrive(Datagram),
    Wake(Side),
    Fault(Fault),
    Heal,
}

/// What a world did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Whether both sides ended well.
    pub is_done: bool,
    /// When both had ended, on the virtual clock.
    pub took: Duration,
    /// Bytes of files that were announced.
    pub bytes: u64,
    /// Bytes of content that came over flows.
    pub flow_bytes: u64,
    /// Flows that were asked for.
    pub flows: u64,
    /// Ends of flows that gave up because nothing was heard.
    pub silent_ends: u64,
    /// Events.
    pub events: u64,
}

impl World {
    /// The world of a plan, with a disk of its own; keeps so many lines of each flow's diary.
    pub fn new(plan: Plan, trace_lines: usize) -> Self {
        let disk = disk_for(&plan.files);
        Self::over(plan, disk, trace_lines)
    }

    /// The world of a plan whose receiver has this disk.
    pub(super) fn over(plan: Plan, disk: Memory, trace_lines: usize) -> Self {
        let plan = Arc::new(plan);
        let mut world = Self {
            now: Duration::ZERO,
            agenda: Agenda::new(),
            client: Host::new(Side::Client, &plan, &disk, trace_lines),
            server: Host::new(Side::Server, &plan, &disk, trace_lines),
            net: Net::new(&plan),
            wakes: [None, None],
            events: 0,
            plan,
            disk,
        };
        world.agenda.push(world.plan.heals_at, Event::Heal);
        for &(at, fault) in &world.plan.faults {
            world.agenda.push(at, Event::Fault(fault));
        }
        world
    }

    /// Runs the world of a seed. A failure is told with all that is needed to look at it.
    pub fn check(seed: u64) -> Result<Tally, String> {
        let mut world = Self::new(Plan::of(seed), 0);
        let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.run())) else { return Ok(world.tally()) };
        let what = panic_text(panic.as_ref());
        // Once more, with a diary.
        let mut world = Self::new(Plan::of(seed), TRACE_LINES);
        let again = catch_unwind(AssertUnwindSafe(|| world.run()));
        let is_same = again.is_err_and(|panic| panic_text(panic.as_ref()) == what);
        let doubt = if is_same { "" } else { "; another run of the same seed ended in another way" };
        Err(format!(
            "HAUL_SIM_SEED={seed} cargo test --lib sim::tests::one_seed: {what}{doubt}\n{}",
            world.report()
        ))
    }

    /// Runs until both sides have ended, and checks what they know.
    ///
    /// # Panics
    /// If anything is wrong.
    pub fn run(&mut self) {
        assert!(self.run_until(Duration::MAX));
        self.check_end();
    }

    /// Runs until both sides have ended, or until this time; whether they have ended.
    pub(super) fn run_until(&mut self, end: Duration) -> bool {
        self.client.dial(self.now, &mut self.net);
        self.settle();
        let deadline = self.plan.deadline();
        while self.client.end().is_none() || self.server.end().is_none() {
            if self.now >= end {
                return false;
            }
            let (at, event) = self.agenda.pop(Duration::MAX).expect("somebody wants to do something");
            assert!(at <= deadline, "it is not over by {deadline:?}");
            assert!(at >= self.now);
            self.now = at;
            self.events += 1;
            assert!(self.events < EVENTS_MAX, "too much happens for what there is to do");
            self.handle(event);
        }
        true
    }

    /// The receiving side, once it knows that it is one.
    pub(super) fn receiver(&self) -> Option<(&Receiver, &Target)> {
        let host = if self.plan.is_push { &self.server } else { &self.client };
        match host.core()? {
            Core::Receiver(receiver, target) => Some((receiver, target)),
            Core::Sender(..) => None,
        }
    }

    /// What happened, if it has run to its end.
    pub fn tally(&self) -> Tally {
        let is_ok = |host: &Host| host.end().is_some_and(Result::is_ok);
        Tally {
            is_done: is_ok(&self.client) && is_ok(&self.server),
            took: self.now,
            bytes: self.plan.bytes(),
            flow_bytes: self.client.flow_bytes() + self.server.flow_bytes(),
            flows: u64::from(self.client.attempts()),
            silent_ends: self.net.ends.iter().filter(|end| end.ends_with("Silent")).count() as u64,
            events: self.events,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(datagram) => self.arrive(datagram),
            Event::Wake(side) => {
                let wake = &mut self.wakes[side as usize];
                *wake = wake.filter(|&at| at > self.now);
                self.work(side);
            }
            Event::Heal => {
                self.net.heal(&self.plan);
                self.settle();
            }
            Event::Fault(fault) => {
                self.apply(fault);
                self.settle();
            }
        }
    }

    fn arrive(&mut self, mut datagram: Datagram) {
        let to = datagram.from.other();
        let host = match to {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        if self.net.deliver(&datagram, host.has_flow_for(&datagram.bytes)) {
            host.handle_datagram(self.now, datagram.source, &mut datagram.bytes);
            self.work(to);
        }
    }

    fn apply(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::OpenFlow => {
                if !self.client.open_flow() {
                    self.agenda.push(now + LATER, Event::Fault(fault));
                }
            }
            Fault::RefuseFlow => self.server.refuse_next_flow(),
            Fault::MoveToFlow => [&mut self.client, &mut self.server].into_iter().for_each(Host::want_flow),
            Fault::MoveToControl => {
                [&mut self.client, &mut self.server]
                    .into_iter()
                    .for_each(|host| host.set_only(Some(CONTROL)));
            }
            Fault::MoveToAll => {
                [&mut self.client, &mut self.server].into_iter().for_each(|host| host.set_only(None));
            }
            Fault::EndFlow(Side::Client) => self.client.end_flow(now, &mut self.net),
            Fault::EndFlow(Side::Server) => self.server.end_flow(now, &mut self.net),
            Fault::DropFlow(Side::Client) => self.client.mute_flow(),
            Fault::DropFlow(Side::Server) => self.server.mute_flow(),
            Fault::CutStream(carrier) => self.net.cut(now, carrier),
            Fault::CutControl => self.net.cut(now, CONTROL),
            Fault::LoseControl => {
                if self.client.lose_control() {
                    self.server.keep_session();
                    self.net.cut_at_client(now, CONTROL);
                }
            }
            Fault::Rebind { is_other_host, keeps_old } => self.net.rebind(is_other_host, keeps_old),
            Fault::StallTarget(lasts) => {
                [&mut self.client, &mut self.server]
                    .into_iter()
                    .for_each(|host| host.stall(now + lasts, false));
            }
            Fault::StallSource(lasts) => {
                [&mut self.client, &mut self.server]
                    .into_iter()
                    .for_each(|host| host.stall(now + lasts, true));
            }
        }
    }

    /// Lets both sides work.
    fn settle(&mut self) {
        self.work(Side::Client);
        self.work(Side::Server);
    }

    /// Lets a side work, and the other one too if it has room again.
    fn work(&mut self, side: Side) {
        let mut side = side;
        loop {
            let reads = self.net.reads;
            let host = match side {
                Side::Client => &mut self.client,
                Side::Server => &mut self.server,
            };
            host.work(self.now, &mut self.net);
            for connection in std::mem::take(&mut self.net.dialled) {
                self.server.accept(self.now, connection);
            }
            if self.net.reads == reads {
                break;
            }
            side = side.other();
        }
        for (at, datagram) in std::mem::take(&mut self.net.arrivals) {
            self.agenda.push(at.max(self.now), Event::Arrive(datagram));
        }
        for side in [Side::Client, Side::Server] {
            let host = match side {
                Side::Client => &mut self.client,
                Side::Server => &mut self.server,
            };
            let at = host.poll_timeout(self.now, &self.net).max(self.now + STEP);
            let wake = &mut self.wakes[side as usize];
            if at < Duration::MAX && wake.is_none_or(|wakes| at < wakes) {
                *wake = Some(at);
                self.agenda.push(at, Event::Wake(side));
            }
        }
    }

    /// Both sides have ended: what do they know?
    fn check_end(&self) {
        for host in [&self.client, &self.server] {
            if let Some(Err(why)) = host.end() {
                assert!(self.plan.has_end, "the session failed: {why}");
                return;
            }
        }
        let sender = if self.plan.is_push { &self.client } else { &self.server };
        let (Some(Core::Sender(_, source)), Some((_, target))) = (sender.core(), self.receiver()) else {
            panic!("a session ended well that had not begun");
        };
        assert_eq!(sender.heard().len(), self.plan.files.len(), "an outcome is missing");
        for (number, outcome) in sender.heard() {
            assert_eq!(target.outcomes().get(number), Some(outcome), "entry {number}");
        }
        self.disk.heal();
        for (number, file) in (0..).zip(&self.plan.files) {
            let outcome = &target.outcomes()[&number];
            let is_there = matches!(outcome, Outcome::Done | Outcome::Identical);
            let may_fail = file.may_fail() || !self.plan.disk_faults.is_empty();
            assert!(is_there || may_fail, "entry {number}: {outcome:?}");
            if is_there && file.form != Form::Dir && !file.may_fail() {
                let whole = file.content();
                let name = FileSpec::name(usize::try_from(number).expect("an index"));
                assert!(read(&self.disk, &name).as_ref() == Some(&whole), "entry {number} has other bytes");
                assert!(source.digest(number).is_none_or(|digest| digest == source::hash(&whole)));
            }
        }
    }

    /// Where everything stands, for a person.
    fn report(&mut self) -> String {
        let mut lines = self.client.take_trace();
        lines.extend(self.server.take_trace());
        lines.sort_by_key(|line| time_of(line));
        let from = lines.len().saturating_sub(TRACE_SHOWN);
        let plan = &self.plan;
        format!(
            "at {:?}, after {} events\n{}\n{}\nflows that ended: {:#?}\nplan: {:?}, {} files, {} bytes, {} streams, \
             push {}, eager {}, chunks of {}, law {:?}, keys for {}, idle {:?}, heals at {:?}\nlink {}\nfaults {:?}\n{}",
            self.now,
            self.events,
            self.client.summary(),
            self.server.summary(),
            self.net.ends,
            plan.pipe,
            plan.files.len(),
            plan.bytes(),
            plan.streams,
            plan.is_push,
            plan.is_eager,
            plan.chunk_bytes,
            plan.law,
            plan.key_update_after,
            plan.idle_timeout,
            plan.heals_at,
            plan.link,
            plan.faults,
            lines[from..].join("\n"),
        )
    }
}

/// The time that a line of a diary begins with.
fn time_of(line: &str) -> u64 {
    let digits = line.strip_prefix("{\"us\":").and_then(|rest| rest.split(',').next());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
