//! A bulk sender and its receiver: loss detection by time (RACK), acknowledgements by time or by packet.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::{AckEvent, Congestion, Controller, LostPacket, RateSampler, SendState};

/// UDP payload of a packet of 1500 bytes.
pub const DATAGRAM: u64 = 1472;

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// Our flow.
    Haul(Congestion),
    /// Kernel TCP with CUBIC: not paced, acknowledged every second packet.
    KernelCubic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    InFlight,
    Acked,
    Lost,
}

struct Packet {
    state: SendState,
    id: u64,
    fate: Fate,
}

/// What an acknowledgement carries.
pub struct Ack {
    pub numbers: Vec<u64>,
    pub largest: u64,
    pub delay: Duration,
}

/// One flow, both ends.
pub struct Flow {
    pub peer: Peer,
    pub controller: Controller,
    sampler: RateSampler,
    packets: VecDeque<Packet>,
    /// Number of the first of `packets`.
    first: u64,
    unjudged: u64,
    in_flight: u64,
    again: VecDeque<u64>,
    next_id: u64,
    srtt: Duration,
    min_rtt: Duration,
    sampled: bool,
    rack_sent_at: Duration,
    rack_rtt: Duration,
    lateness: Duration,
    lost_bytes: u64,
    pub next_send: Duration,
    pub heard_at: Duration,
    pub spurious: u64,
    /// It sends no more.
    pub has_stopped: bool,
    // Receiver.
    pub pending: Vec<u64>,
    arrived: Vec<bool>,
    pub largest: Option<(u64, Duration)>,
    /// Distinct packets that have arrived.
    pub unique: u64,
    /// Packets sent; and those that were sent after start-up, and lost of them.
    pub sent: u64,
}

impl Flow {
    pub fn new(peer: Peer, rtt: Duration) -> Self {
        let controller = match peer {
            Peer::Haul(congestion) => Controller::new(congestion, DATAGRAM, rtt),
            Peer::KernelCubic => Controller::new(Congestion::Cubic, DATAGRAM, rtt),
        };
        Self {
            peer,
            controller,
            sampler: RateSampler::default(),
            packets: VecDeque::new(),
            first: 0,
            unjudged: 0,
            in_flight: 0,
            again: VecDeque::new(),
            next_id: 0,
            srtt: rtt,
            min_rtt: rtt,
            sampled: false,
            rack_sent_at: Duration::ZERO,
            rack_rtt: rtt,
            lateness: Duration::ZERO,
            lost_bytes: 0,
            next_send: Duration::ZERO,
            heard_at: Duration::ZERO,
            spurious: 0,
            has_stopped: false,
            pending: Vec::new(),
            arrived: Vec::new(),
            largest: None,
            unique: 0,
            sent: 0,
        }
    }

    pub fn is_paced(&self) -> bool {
        matches!(self.peer, Peer::Haul(_))
    }

    /// How long the receiver collects before it acknowledges.
    pub fn ack_interval(&self) -> Duration {
        match self.peer {
            Peer::Haul(_) => (self.srtt / 8).max(Duration::from_millis(1)),
            Peer::KernelCubic => Duration::from_millis(40),
        }
    }

    pub fn has_room(&self) -> bool {
        !self.has_stopped && self.in_flight + DATAGRAM <= self.controller.window()
    }

    /// Bytes of one burst.
    pub fn quantum(&self) -> u64 {
        (self.controller.pacing_rate() / 1000).clamp(2 * DATAGRAM, 65_536)
    }

    /// Sends one packet; its number.
    pub fn send(&mut self, now: Duration) -> u64 {
        let id = self.again.pop_front().unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id - 1
        });
        let state = self.sampler.on_sent(now, DATAGRAM, self.in_flight);
        self.in_flight += DATAGRAM;
        self.controller.on_sent(now, DATAGRAM, self.in_flight);
        self.packets.push_back(Packet { state, id, fate: Fate::InFlight });
        self.sent += 1;
        let gap = Duration::from_secs_f64(DATAGRAM as f64 / self.controller.pacing_rate() as f64);
        self.next_send = self.next_send.max(now.saturating_sub(Duration::from_millis(1))) + gap;
        self.first + self.packets.len() as u64 - 1
    }

    /// A packet reaches the receiver.
    pub fn on_arrival(&mut self, now: Duration, number: u64) {
        self.pending.push(number);
        if self.largest.is_none_or(|(largest, _)| number > largest) {
            self.largest = Some((number, now));
        }
        let Some(packet) = self.place(number).and_then(|at| self.packets.get(at)) else {
            return;
        };
        let id = usize::try_from(packet.id).expect("ids count packets");
        if self.arrived.len() <= id {
            self.arrived.resize(id + 1024, false);
        }
        if !self.arrived[id] {
            self.arrived[id] = true;
            self.unique += 1;
        }
    }

    /// The receiver's acknowledgement.
    pub fn acknowledge(&mut self, now: Duration) -> Option<Ack> {
        let (largest, at) = self.largest?;
        if self.pending.is_empty() {
            return None;
        }
        Some(Ack { numbers: std::mem::take(&mut self.pending), largest, delay: now - at })
    }

    /// It reaches the sender.
    pub fn on_ack(&mut self, now: Duration, ack: &Ack) {
        let prior_in_flight = self.in_flight;
        let mut acked_bytes = 0;
        let mut rtt = None;
        for &number in &ack.numbers {
            let Some(packet) = self.place(number).and_then(|at| self.packets.get_mut(at)) else {
                continue;
            };
            let state = packet.state;
            match packet.fate {
                Fate::InFlight => {
                    packet.fate = Fate::Acked;
                    self.in_flight -= DATAGRAM;
                    self.sampler.on_acked(now, DATAGRAM, &state);
                    if number == ack.largest {
                        rtt = Some(now - state.sent_at - ack.delay);
                    }
                }
                Fate::Lost => {
                    packet.fate = Fate::Acked;
                    self.spurious += 1;
                    self.lateness = self.lateness.max(now - state.sent_at - self.min_rtt);
                    self.sampler.on_spurious(now, DATAGRAM);
                    self.controller.on_spurious(now, &LostPacket { bytes: DATAGRAM, state });
                }
                Fate::Acked => continue,
            }
            acked_bytes += DATAGRAM;
            if state.sent_at >= self.rack_sent_at {
                self.rack_sent_at = state.sent_at;
                self.rack_rtt = now - state.sent_at;
            }
        }
        self.heard_at = now;
        if let Some(rtt) = rtt {
            self.min_rtt = if self.sampled { self.min_rtt.min(rtt) } else { rtt };
            self.srtt = if self.sampled { (self.srtt * 7 + rtt) / 8 } else { rtt };
            self.sampled = true;
        }
        self.detect_losses(now);
        let event = AckEvent {
            acked_bytes,
            lost_bytes: std::mem::take(&mut self.lost_bytes),
            prior_in_flight,
            in_flight: self.in_flight,
            rtt,
            smoothed_rtt: self.srtt,
            rate: self.sampler.sample(self.min_rtt),
            ack_interval: if self.is_paced() { self.ack_interval() } else { Duration::ZERO },
            receiver_drops: 0,
        };
        self.controller.on_ack(now, &event);
        self.forget(now);
    }

    /// Nothing was heard for long: all that is out is given up.
    pub fn on_timeout(&mut self, now: Duration) {
        self.rack_sent_at = now;
        self.rack_rtt = Duration::ZERO;
        self.detect_losses(now + Duration::from_secs(100));
        self.heard_at = now;
    }

    pub fn timeout(&self) -> Duration {
        self.heard_at + self.srtt * 3 + Duration::from_millis(100)
    }

    pub fn in_flight_packets(&self) -> f64 {
        (self.in_flight / DATAGRAM) as f64
    }

    pub fn has_packets_out(&self) -> bool {
        self.in_flight > 0
    }

    /// Where a packet is kept.
    fn place(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok())
    }

    fn detect_losses(&mut self, now: Duration) {
        let window = match self.peer {
            Peer::Haul(_) => (self.srtt / 8).max(Duration::from_millis(1)),
            Peer::KernelCubic => self.min_rtt / 4,
        };
        let window = window.max(self.lateness + self.lateness / 8);
        while let Some(packet) = self.place(self.unjudged).and_then(|at| self.packets.get_mut(at)) {
            if packet.fate == Fate::InFlight {
                let state = packet.state;
                if state.sent_at >= self.rack_sent_at || state.sent_at + self.rack_rtt + window > now {
                    break;
                }
                packet.fate = Fate::Lost;
                self.again.push_back(packet.id);
                self.in_flight -= DATAGRAM;
                self.lost_bytes += DATAGRAM;
                self.sampler.on_lost(DATAGRAM);
                self.controller.on_lost(now.min(self.heard_at), &LostPacket { bytes: DATAGRAM, state });
            }
            self.unjudged += 1;
        }
    }

    fn forget(&mut self, now: Duration) {
        let keep = self.srtt * 3;
        while let Some(packet) = self.packets.front() {
            if self.first >= self.unjudged || packet.state.sent_at + keep > now {
                break;
            }
            self.packets.pop_front();
            self.first += 1;
        }
    }
}
