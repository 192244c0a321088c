//! Flows over UDP that share a link in each direction, among themselves and with kernel TCP.
//!
//! Whole packets under their real keys cross one [`Road`]; a run gives what a person would measure.

use std::time::Duration;

use super::{
    agenda::Agenda,
    forger::Forger,
    lane::{End, Lane, LaneConfig, LaneReport},
    rival::{Packet, Rival, RivalConfig},
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

/// Lanes over one road, and rivals beside them.
#[derive(Debug)]
pub struct Flows {
    now: Duration,
    agenda: Agenda<Event>,
    road: Road,
    lanes: Vec<Lane>,
    rivals: Vec<Rival>,
    /// When each end of each flow wakes, lanes before rivals.
    wakes: Vec<[Option<Duration>; 2]>,
    /// A lane's sender wakes at multiples of this; zero: exactly.
    tick: Duration,
    /// The link is watched: from twenty round trips behind the first content on.
    is_settled: bool,
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
    Wake { who: Who, of: End },
    Rival { rival: usize, at: End, packet: Packet },
}

/// A flow.
#[derive(Clone, Copy, Debug)]
enum Who {
    Lane(usize),
    Rival(usize),
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
            rivals: Vec::new(),
            wakes: Vec::new(),
            tick: Duration::ZERO,
            is_settled: false,
            rtt: link.rtt,
            settled: Settled::default(),
            forger: None,
            out: Vec::new(),
        };
        for (number, config) in lanes.iter().enumerate() {
            flows.lanes.push(Lane::new(number, *config, link.rtt, link.seed));
            flows.wakes.push([None, None]);
            for of in [End::Receiver, End::Sender] {
                flows.agenda.push(config.start, Event::Wake { who: Who::Lane(number), of });
            }
        }
        flows
    }

    /// The same with flows of kernel TCP beside the lanes.
    #[must_use]
    pub fn beside(mut self, rivals: &[RivalConfig]) -> Self {
        for &config in rivals {
            self.agenda
                .push(config.start, Event::Wake { who: Who::Rival(self.rivals.len()), of: End::Sender });
            self.rivals.push(Rival::new(config));
            self.wakes.push([None, None]);
        }
        self
    }

    /// The same with a clock that wakes the lanes' senders only so often.
    #[must_use]
    pub fn ticking(mut self, tick: Duration) -> Self {
        self.tick = tick;
        self
    }

    /// Runs until all lanes are done, if there are any, or until `end`. It can go on from there.
    pub fn run(&mut self, end: Duration) {
        while (self.lanes.is_empty() || !self.lanes.iter().all(Lane::is_done))
            && let Some((at, event)) = self.agenda.pop(end)
        {
            assert!(at >= self.now);
            self.now = at;
            match event {
                Event::Arrive { lane, at, number, mut datagram } => {
                    self.forge(lane, &datagram);
                    self.lanes[lane].handle_datagram(self.now, at, &mut datagram, number);
                    self.drive(lane, at);
                }
                Event::Wake { who: Who::Lane(lane), of } => {
                    if !self.drive(lane, of) {
                        self.lanes[lane].on_idle_wake();
                    }
                }
                Event::Wake { who: Who::Rival(rival), of } => self.drive_rival(rival, of),
                Event::Rival { rival, at, packet } => {
                    self.rivals[rival].handle_packet(self.now, &packet);
                    self.drive_rival(rival, at);
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

    /// The rivals.
    pub fn rivals(&self) -> &[Rival] {
        &self.rivals
    }

    /// The time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What the link on the way there did since the first lane counts as started up, or since [`Self::settle`].
    pub fn settled(&self) -> &Settled {
        &self.settled
    }

    /// From here on the link is watched anew.
    pub fn settle(&mut self) {
        self.is_settled = true;
        self.settled = Settled { before: *self.counters(), ..Settled::default() };
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
        let due = self.lanes[lane].poll_timeout(now, of);
        self.wake(Who::Lane(lane), of, due.map(|at| if of == End::Sender { self.next_tick(at) } else { at }));
        had_any
    }

    fn drive_rival(&mut self, rival: usize, of: End) {
        while let Some(packet) = self.rivals[rival].poll_transmit(self.now, of) {
            for delivery in self.road.pass(self.now, direction(of), packet.len_bytes()) {
                // A damaged one fails its checksum.
                if delivery.flipped_bit.is_none() {
                    let event = Event::Rival { rival, at: of.other(), packet: packet.clone() };
                    self.agenda.push(delivery.at, event);
                }
            }
            if of == End::Sender {
                self.look();
            }
        }
        let due = self.rivals[rival].poll_timeout(of);
        self.wake(Who::Rival(rival), of, due);
    }

    /// Sees to it that an end is asked then, unless it is asked earlier anyway.
    fn wake(&mut self, who: Who, of: End, due: Option<Duration>) {
        let flow = match who {
            Who::Lane(lane) => lane,
            Who::Rival(rival) => self.lanes.len() + rival,
        };
        let wake = &mut self.wakes[flow][of as usize];
        *wake = wake.filter(|&at| at > self.now);
        // What is due already waits for something else: a path, say.
        let at = due.map(|at| at.max(self.now + STEP));
        if let Some(at) = at.filter(|&at| wake.is_none_or(|wakes| at < wakes)) {
            *wake = Some(at);
            self.agenda.push(at, Event::Wake { who, of });
        }
    }

    /// When a sender wakes that wants to wake at `at`.
    fn next_tick(&self, at: Duration) -> Duration {
        let over = at.as_nanos().checked_rem(self.tick.as_nanos()).unwrap_or(0);
        if over == 0 {
            at
        } else {
            at + self.tick - Duration::from_nanos(u64::try_from(over).expect("a tick"))
        }
    }

    fn carry(&mut self, lane: usize, from: End, number: PacketNumber, datagram: &[u8]) {
        for arrival in self.road.carry(self.now, direction(from), datagram) {
            let (at, number) = (from.other(), arrival.is_intact.then_some(number));
            self.agenda.push(arrival.at, Event::Arrive { lane, at, number, datagram: arrival.datagram });
        }
        if from == End::Sender {
            self.look();
        }
    }

    /// Notes the queue once the first lane counts as started up.
    fn look(&mut self) {
        if !self.is_settled {
            let first = self.lanes.first().and_then(Lane::first_content);
            if first.is_none_or(|first| self.now < first + self.rtt * STARTUP_ROUNDS) {
                return;
            }
            self.settle();
        }
        self.settled.queue_delay += self.road.queue_delay(self.now);
        self.settled.offered += 1;
    }
}

fn direction(from: End) -> Direction {
    match from {
        End::Sender => Direction::Forward,
        End::Receiver => Direction::Backward,
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
