//! Runs flows over one bottleneck.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::super::whole;
use super::flow::{Ack, Flow, Peer};
use super::link::{Bottleneck, Link, Random};

enum Event {
    Send(usize),
    Arrive(usize, u64),
    AckTimer(usize),
    Ack(usize, Ack),
    Timeout(usize),
}

struct Entry(Duration, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What a bulk transfer of 100 round trips' worth came to.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Parts of the ideal, from the 20th round trip and from the first packet.
    pub steady: f64,
    pub whole: f64,
    /// Packets sent over those needed at best, 1/(1-loss) of the file.
    pub overhead: f64,
    /// Mean queueing delay after start-up, base round trips.
    pub queue: f64,
    /// Lost of those sent after start-up.
    pub late_loss: f64,
    /// Falsely given up, of those sent.
    pub spurious: f64,
}

/// Flows, a bottleneck, a clock.
pub struct World {
    pub link: Link,
    pub bottleneck: Bottleneck,
    pub flows: Vec<Flow>,
    pub now: Duration,
    queue: BinaryHeap<Reverse<Entry>>,
    serial: u64,
    ack_armed: Vec<bool>,
    send_armed: Vec<Duration>,
    /// Packets sent after start-up, and those of them that the network dropped.
    late_sent: u64,
    late_dropped: u64,
    random: Random,
}

impl World {
    /// Flows, and when each starts.
    pub fn new(link: Link, peers: &[(Peer, Duration)], seed: u64) -> Self {
        let mut world = Self {
            link,
            bottleneck: Bottleneck::new(link, seed),
            flows: peers.iter().map(|(peer, _)| Flow::new(*peer, link.rtt())).collect(),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            serial: 0,
            ack_armed: vec![false; peers.len()],
            send_armed: vec![Duration::MAX; peers.len()],
            late_sent: 0,
            late_dropped: 0,
            random: Random(seed.wrapping_mul(0x9e37_79b9) | 1),
        };
        for (index, (_, start)) in peers.iter().enumerate() {
            world.flows[index].heard_at = *start;
            world.at(*start, Event::Send(index));
            world.at(*start + Duration::from_secs(1), Event::Timeout(index));
        }
        world
    }

    /// Runs one event; the flow that it was about.
    pub fn step(&mut self) -> usize {
        let Some(Reverse(Entry(now, _, event))) = self.queue.pop() else { panic!("nothing is due") };
        self.now = now;
        match event {
            Event::Send(flow) => {
                if self.send_armed[flow] == now {
                    self.send_armed[flow] = Duration::MAX;
                }
                self.send(flow);
                flow
            }
            Event::Arrive(flow, number) => {
                self.flows[flow].on_arrival(now, number);
                self.arm_ack(flow);
                flow
            }
            Event::AckTimer(flow) => {
                self.ack_armed[flow] = false;
                self.acknowledge(flow);
                flow
            }
            Event::Ack(flow, ack) => {
                self.flows[flow].on_ack(now, &ack);
                self.send(flow);
                flow
            }
            Event::Timeout(flow) => {
                if self.flows[flow].timeout() <= now && self.flows[flow].has_packets_out() {
                    self.flows[flow].on_timeout(now);
                    self.send(flow);
                }
                let next = self.flows[flow].timeout().max(now + Duration::from_millis(10));
                self.at(next, Event::Timeout(flow));
                flow
            }
        }
    }

    /// Until this moment.
    pub fn run_until(&mut self, until: Duration) {
        while self.queue.peek().is_some_and(|Reverse(entry)| entry.0 < until) {
            self.step();
        }
    }

    /// One bulk transfer of 100 round trips at the link's rate.
    pub fn transfer(link: Link, peer: Peer, seed: u64) -> Report {
        let mut world = Self::new(link, &[(peer, Duration::ZERO)], seed);
        let file = whole(100.0 * link.product());
        let from = link.rtt() * 20;
        let mut early = None;
        while world.flows[0].unique < file && world.now < link.rtt() * 5000 {
            world.step();
            if early.is_none() && world.now >= from {
                early = Some(world.flows[0].unique);
            }
        }
        let flow = &world.flows[0];
        let early = early.unwrap_or(0);
        let ideal = link.ideal();
        let end = world.now.as_secs_f64();
        Report {
            steady: (flow.unique - early) as f64 / (end - from.as_secs_f64()).max(1e-9) / ideal,
            whole: flow.unique as f64 / end / ideal,
            // What is still in flight at the end would not have been sent by a sender of a finite file.
            overhead: (flow.sent as f64 - flow.in_flight_packets()) / flow.unique as f64
                * (1.0 - link.loss_rate()),
            queue: world.bottleneck.mean_delay() / link.rtt().as_secs_f64(),
            late_loss: world.late_dropped as f64 / world.late_sent.max(1) as f64,
            spurious: flow.spurious as f64 / flow.sent as f64,
        }
    }

    /// Distinct packets of each flow between two moments.
    pub fn shares(link: Link, peers: &[(Peer, Duration)], seed: u64, from: u64, to: u64) -> Vec<f64> {
        let mut world = Self::new(link, peers, seed);
        world.run_until(Duration::from_secs(from));
        let before: Vec<u64> = world.flows.iter().map(|flow| flow.unique).collect();
        world.run_until(Duration::from_secs(to));
        let counts: Vec<f64> =
            world.flows.iter().zip(before).map(|(flow, before)| (flow.unique - before) as f64).collect();
        counts
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse(Entry(time, self.serial, event)));
    }

    fn send(&mut self, index: usize) {
        let now = self.now;
        let mut burst = self.flows[index].quantum();
        loop {
            let flow = &mut self.flows[index];
            if !flow.has_room() {
                return;
            }
            if flow.is_paced() {
                if flow.next_send > now || burst == 0 {
                    let due = self.link.tick(flow.next_send.max(now + Duration::from_micros(1)));
                    if due < self.send_armed[index] {
                        self.send_armed[index] = due;
                        self.at(due, Event::Send(index));
                    }
                    return;
                }
                burst = burst.saturating_sub(super::flow::DATAGRAM);
            }
            let number = self.flows[index].send(now);
            let arrival = self.bottleneck.forward(now.as_secs_f64());
            let is_late = now >= self.link.rtt() * 20;
            self.late_sent += u64::from(is_late);
            match arrival {
                Some(arrival) => self.at(Duration::from_secs_f64(arrival), Event::Arrive(index, number)),
                None => self.late_dropped += u64::from(is_late),
            }
        }
    }

    fn arm_ack(&mut self, index: usize) {
        let flow = &self.flows[index];
        if !flow.is_paced() && flow.pending.len() >= 2 {
            self.acknowledge(index);
        } else if !self.ack_armed[index] {
            self.ack_armed[index] = true;
            let due = self.now + flow.ack_interval();
            self.at(due, Event::AckTimer(index));
        }
    }

    fn acknowledge(&mut self, index: usize) {
        if self.random.next() < self.link.back_loss {
            self.ack_armed[index] = true;
            let due = self.now + self.flows[index].ack_interval();
            self.at(due, Event::AckTimer(index));
            return;
        }
        if let Some(ack) = self.flows[index].acknowledge(self.now) {
            let jitter = self.random.next() * self.link.back_jitter_ms / 1e3;
            let arrival = self.now + self.link.rtt() / 2 + Duration::from_secs_f64(jitter);
            self.at(arrival, Event::Ack(index, ack));
        }
    }
}
