//! Flows over UDP that share a link in each direction.
//!
//! Whole packets under their real keys cross one [`Road`]; a run gives what a person would measure.

use std::time::Duration;

use super::{
    agenda::Agenda,
    forger::Forger,
    lane::{End, Lane, LaneConfig, LaneReport},
    road::Road,
};
use crate::{
    link::{Counters, Direction, LinkConfig},
    wire::packet::PacketNumber,
};

/// Round trips after which a flow counts as started up.
pub const STARTUP_ROUNDS: u32 = 20;
/// Between two looks at something that is due and cannot go on.
const STEP: Duration = Duration::from_micros(1);

/// Lanes over one road.
#[derive(Debug)]
pub struct Flows {
    now: Duration,
    agenda: Agenda<Event>,
    road: Road,
    lanes: Vec<Lane>,
    wakes: Vec<[Option<Duration>; 2]>,
    /// Twenty round trips behind the first content.
    settled_at: Option<Duration>,
    rtt: Duration,
    settled: Settled,
    /// Somebody who makes up so many datagrams for each that arrives.
    forger: Option<(Forger, u32)>,
    out: Vec<(PacketNumber, Vec<u8>)>,
}

/// The link on the way there, from the time on that the first lane counts as started up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settled {
    /// Counters at that time.
    pub before: Counters,
    /// Sum of the queue's delays at each packet that was offered since.
    queue_delay: Duration,
    offered: u32,
}

#[derive(Debug)]
enum Event {
    Arrive { lane: usize, at: End, number: Option<PacketNumber>, datagram: Vec<u8> },
    Wake { lane: usize, of: End },
}

impl Flows {
    /// Lanes over a link of this kind.
    pub fn new(link: &LinkConfig, lanes: &[LaneConfig]) -> Self {
        Self::over(Road::new(link), link, lanes)
    }

    /// Lanes over a road of which this is the link.
    pub fn over(road: Road, link: &LinkConfig, lanes: &[LaneConfig]) -> Self {
        let mut flows = Self {
            now: Duration::ZERO,
            agenda: Agenda::new(),
            road,
            lanes: Vec::new(),
            wakes: Vec::new(),
            settled_at: None,
            rtt: link.rtt,
            settled: Settled::default(),
            forger: None,
            out: Vec::new(),
        };
        for (number, config) in lanes.iter().enumerate() {
            flows.lanes.push(Lane::new(number, *config, link.rtt, link.seed));
            flows.wakes.push([None, None]);
            for of in [End::Receiver, End::Sender] {
                flows.agenda.push(config.start, Event::Wake { lane: number, of });
            }
        }
        flows
    }

    /// Runs until all lanes are done, or until `end`.
    pub fn run(&mut self, end: Duration) {
        while !self.lanes.iter().all(Lane::is_done)
            && let Some((at, event)) = self.agenda.pop()
        {
            assert!(at >= self.now);
            if at > end {
                return;
            }
            self.now = at;
            match event {
                Event::Arrive { lane, at, number, mut datagram } => {
                    self.forge(lane, &datagram);
                    self.lanes[lane].handle_datagram(self.now, at, &mut datagram, number);
                    self.drive(lane, at);
                }
                Event::Wake { lane, of } => {
                    if !self.drive(lane, of) {
                        self.lanes[lane].on_idle_wake();
                    }
                }
            }
        }
    }

    /// Somebody sees all that arrives, and makes up so many datagrams for each, to both ends.
    #[must_use]
    pub fn forged(mut self, seed: u64, each: u32) -> Self {
        self.forger = Some((Forger::new(seed), each));
        self
    }

    /// Datagrams that were made up so far.
    pub fn forgeries(&self) -> u64 {
        self.forger.as_ref().map_or(0, |(forger, _)| forger.made())
    }

    /// What each lane did.
    pub fn reports(&self) -> Vec<LaneReport> {
        self.lanes.iter().map(Lane::report).collect()
    }

    /// The lanes.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What the link on the way there did since the first lane counts as started up.
    pub fn settled(&self) -> &Settled {
        &self.settled
    }

    /// What the link on the way there did.
    pub fn counters(&self) -> &Counters {
        self.road.counters(Direction::Forward)
    }

    fn forge(&mut self, lane: usize, datagram: &[u8]) {
        let Some((mut forger, each)) = self.forger.take() else { return };
        for _ in 0..each {
            let mut forged = forger.forge();
            let at = if forger.percent(50) { End::Sender } else { End::Receiver };
            let is_from_peer = forger.percent(50);
            self.lanes[lane].handle_forged(self.now, at, &mut forged, is_from_peer);
            self.drive(lane, at);
        }
        // From now on it can be sent again.
        forger.capture(datagram);
        self.forger = Some((forger, each));
    }

    /// Sends what an end has, and remembers when it wants to be asked again. Whether there was anything.
    fn drive(&mut self, lane: usize, of: End) -> bool {
        let now = self.now;
        let wake = &mut self.wakes[lane][of as usize];
        *wake = wake.filter(|&at| at > now);
        let mut had_any = false;
        loop {
            let mut out = std::mem::take(&mut self.out);
            self.lanes[lane].poll_transmit(now, of, &mut out);
            let is_empty = out.is_empty();
            for (number, datagram) in out.drain(..) {
                self.carry(lane, of, number, &datagram);
            }
            self.out = out;
            if is_empty {
                break;
            }
            had_any = true;
        }
        let wake = &mut self.wakes[lane][of as usize];
        // What is due already waits for something else: a path, say.
        let at = self.lanes[lane].poll_timeout(now, of).map(|at| at.max(now + STEP));
        if let Some(at) = at.filter(|&at| wake.is_none_or(|wakes| at < wakes)) {
            *wake = Some(at);
            self.agenda.push(at, Event::Wake { lane, of });
        }
        had_any
    }

    fn carry(&mut self, lane: usize, from: End, number: PacketNumber, datagram: &[u8]) {
        let direction = match from {
            End::Sender => Direction::Forward,
            End::Receiver => Direction::Backward,
        };
        for arrival in self.road.carry(self.now, direction, datagram) {
            let (at, number) = (from.other(), arrival.is_intact.then_some(number));
            self.agenda.push(arrival.at, Event::Arrive { lane, at, number, datagram: arrival.datagram });
        }
        if from == End::Sender {
            self.look();
        }
    }

    /// Notes the queue once the first lane counts as started up.
    fn look(&mut self) {
        let begins = self.lanes[0].first_content().map(|first| first + self.rtt * STARTUP_ROUNDS);
        if begins.is_none_or(|begins| self.now < begins) {
            return;
        }
        if self.settled_at.is_none() {
            self.settled_at = begins;
            self.settled.before = *self.road.counters(Direction::Forward);
        }
        self.settled.queue_delay += self.road.queue_delay(self.now);
        self.settled.offered += 1;
    }
}

impl Settled {
    /// Mean delay of the queue.
    pub fn queue_delay(&self) -> Duration {
        self.queue_delay / self.offered.max(1)
    }

    /// Share of packets that were lost since, given the counters at the end.
    pub fn loss(&self, end: &Counters) -> f64 {
        let lost = end.dropped() - self.before.dropped();
        lost as f64 / (end.offered - self.before.offered).max(1) as f64
    }
}
