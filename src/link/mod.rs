//! What a path does to packets: one direction of an impaired link, as a value.
//!
//! ```text
//!  offer --> bottleneck --> blackout, loss --> delay, jitter, --> duplication --> one flipped --> MTU --> deliveries
//!            queue or       each on its        lateness,                          bit
//!            policer        own or bursts      overtaking
//! ```
//!
//! Each packet meets the stages in this order; the first that drops it is the cause. A link moves no bytes: it is
//! told lengths and times and answers when a packet arrives, how often, and with which bit flipped. The simulator
//! keeps those packets until then on a virtual clock, the emulator on a real one.
//!
//! **Chance.** What a packet draws is a function of the seed, the direction and its place in the sequence, drawn at
//! every place, whether or not the packet came so far. Two runs of one seed see the same losses at the same places,
//! even if one of them filled the queue.
//!
//! **Time** is a `Duration` since the link's start, never decreasing; the moments of the schedule (rate steps,
//! blackouts) count from the same start. Lengths are bytes of IP packets; the bottleneck alone charges
//! [`FRAMING_BYTES`] more, and one that replays a [`Trace`] charges [`OPPORTUNITY_FRAMING_BYTES`].
//!
//! [`LinkConfig`] has the parameters, `spec` their text, [`PROFILES`] their names. No clock, socket or thread here.

mod bottleneck;
mod chance;
mod check;
mod config;
mod counters;
mod delay;
mod line;
mod loss;
mod parts;
mod profiles;
mod quantity;
mod spec;
#[cfg(test)]
mod tests;
mod trace;

use std::{iter::Peekable, time::Duration, vec};

pub use bottleneck::FRAMING_BYTES;
pub use check::{
    ConfigError, DEPTH_MAX_BDP_MILLI, DEPTH_MAX_BYTES, DEPTH_MIN_BYTES, MTU_MAX_BYTES, MTU_MIN_BYTES,
    RATE_MAX_BITS_PER_S, RATE_MIN_BITS_PER_S, TIME_MAX,
};
pub use config::{Blackout, Bottleneck, Buffer, Depth, Late, LinkConfig, Loss, MtuStep, RateStep, Share};
pub use counters::Counters;
pub use profiles::{PROFILES, Profile};
pub use spec::SpecError;
pub use trace::{OPPORTUNITY_BYTES, OPPORTUNITY_FRAMING_BYTES, TRACE_MAX_OPPORTUNITIES, Trace, TraceError};

use bottleneck::BottleneckStage;
use chance::{Chance, Draw, Odds};
use delay::{Arrival, DelayStage};
use loss::LossStage;

/// One direction of a link.
#[derive(Debug)]
pub struct Link {
    chance: Chance,
    /// Place in the sequence of the packet that is offered next.
    place: u64,
    /// When the last packet was offered.
    last: Duration,
    bottleneck: Option<BottleneckStage>,
    blackouts: Vec<Blackout>,
    loss: LossStage,
    delay: DelayStage,
    duplicate: Odds,
    corrupt: Odds,
    mtu_bytes: usize,
    mtu_steps: Peekable<vec::IntoIter<MtuStep>>,
    counters: Counters,
}

/// Which way packets go. The two draw apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the one who opens the connection.
    Forward,
    /// To the one who opens the connection.
    Backward,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives. Of deliveries at the same moment, the one offered first arrives first, a packet before its copy.
    Delivered {
        /// The packet.
        first: Delivery,
        /// The same packet once more.
        copy: Option<Delivery>,
    },
    /// It does not.
    Dropped(Cause),
}

/// One arrival of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When, never before it was offered.
    pub at: Duration,
    /// The bit to flip: `bytes[bit / 8] ^= 1 << (bit % 8)`, counted from the start of the IP packet. Who carries less
    /// than the whole packet treats one that is damaged outside of that as lost, as a router or a kernel would.
    pub flipped_bit: Option<usize>,
}

/// Why a packet does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The queue was full.
    Queue,
    /// The bucket was empty.
    Policer,
    /// It came during a blackout.
    Blackout,
    /// Chance.
    Loss,
    /// It is longer than the MTU.
    Mtu,
}

impl Link {
    /// One direction of the link that the parameters describe.
    ///
    /// # Panics
    /// If they do not make a link: see [`LinkConfig::check`]. A SPEC that was parsed always does.
    pub fn new(config: &LinkConfig, direction: Direction) -> Self {
        if let Err(why) = config.check() {
            panic!("these parameters make no link: {why}");
        }
        Self {
            chance: Chance::new(config.seed, direction),
            place: 0,
            last: Duration::ZERO,
            bottleneck: config.bottleneck.as_ref().map(|it| BottleneckStage::new(it, config.rtt)),
            blackouts: config.blackouts.clone(),
            loss: LossStage::new(config.loss.as_ref()),
            delay: DelayStage::new(config),
            duplicate: config.duplicate.odds(),
            corrupt: config.corrupt.odds(),
            mtu_bytes: config.mtu_bytes,
            mtu_steps: config.mtu_steps.clone().into_iter().peekable(),
            counters: Counters::default(),
        }
    }

    /// A packet of so many bytes enters the link.
    ///
    /// # Panics
    /// If `now` is before that of an earlier packet.
    pub fn offer(&mut self, now: Duration, len_bytes: usize) -> Fate {
        assert!(now >= self.last, "packets are offered in the order of time");
        self.last = now;
        let place = self.place;
        self.place += 1;

        let fate = self.decide(now, len_bytes, place);
        self.counters.on_fate(len_bytes, &fate);
        fate
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that wait in the queue or are on the line, framing included. A policer has no queue.
    pub fn queue_bytes(&self, now: Duration) -> u64 {
        self.bottleneck.as_ref().map_or(0, |stage| stage.queue_bytes(now))
    }

    /// How long a packet would wait before its first bit is on the line: until the line is done with those before it,
    /// and where a trace is replayed, until its next moment.
    pub fn queue_delay(&self, now: Duration) -> Duration {
        self.bottleneck.as_ref().map_or(Duration::ZERO, |stage| stage.queue_delay(now))
    }

    /// Leads the packet through the stages.
    fn decide(&mut self, now: Duration, len_bytes: usize, place: u64) -> Fate {
        // Before any stage can drop the packet, since its place moves the state of the bursts.
        let is_lost = self.loss.is_lost(self.chance.draw(place, Draw::Loss));
        let left = match &mut self.bottleneck {
            None => now,
            Some(stage) => match stage.pass(now, len_bytes) {
                Some(left) => left,
                None if stage.is_policer() => return Fate::Dropped(Cause::Policer),
                None => return Fate::Dropped(Cause::Queue),
            },
        };
        if self.blackouts.iter().any(|blackout| blackout.holds(now)) {
            return Fate::Dropped(Cause::Blackout);
        }
        if is_lost {
            return Fate::Dropped(Cause::Loss);
        }
        let arrival = self.delay.arrival(left, self.chance, place);
        while let Some(step) = self.mtu_steps.next_if(|step| step.at <= now) {
            self.mtu_bytes = step.mtu_bytes;
        }
        if len_bytes > self.mtu_bytes {
            return Fate::Dropped(Cause::Mtu);
        }
        self.deliver(arrival, len_bytes, place)
    }

    /// The packet arrives, perhaps twice, perhaps damaged; packet and copy are damaged apart.
    fn deliver(&mut self, arrival: Arrival, len_bytes: usize, place: u64) -> Fate {
        self.counters.late += u64::from(arrival.is_late);
        self.counters.overtaking += u64::from(arrival.overtakes);
        let at = arrival.at;
        let first = Delivery { at, flipped_bit: self.flipped(len_bytes, place, Draw::Corrupt, Draw::Bit) };
        let copy = self.chance.happens(place, Draw::Duplicate, self.duplicate).then(|| Delivery {
            at,
            flipped_bit: self.flipped(len_bytes, place, Draw::CorruptCopy, Draw::BitOfCopy),
        });
        Fate::Delivered { first, copy }
    }

    /// Whether a bit is flipped, and which.
    fn flipped(&self, len_bytes: usize, place: u64, whether: Draw, which: Draw) -> Option<usize> {
        if len_bytes == 0 || !self.chance.happens(place, whether, self.corrupt) {
            return None;
        }
        let bits = u64::try_from(len_bytes).ok()?.checked_mul(8)?;
        usize::try_from(self.chance.below(place, which, bits)).ok()
    }
}

impl Fate {
    /// The arrivals: none, one or two.
    pub fn deliveries(&self) -> impl Iterator<Item = Delivery> + use<> {
        let (first, copy) = match *self {
            Self::Delivered { first, copy } => (Some(first), copy),
            Self::Dropped(_) => (None, None),
        };
        first.into_iter().chain(copy)
    }
}
