//! The path: what happens to a packet between sender and receiver.

use std::time::Duration;

/// A packet on the wire: 1500 bytes of IP and 18 of framing.
pub const WIRE_BYTES: f64 = 1518.0;

/// How packets are lost behind the queue.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Each by itself, with this probability.
    Random(f64),
    /// Gilbert-Elliott: all packets of a bad stretch, whose mean length is 8; this part of all.
    Bursts(f64),
}

/// What a path is like.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub mbit: f64,
    pub rtt_ms: f64,
    /// Of the queue, in bandwidth-delay products.
    pub queue: f64,
    pub loss: Loss,
    /// A quarter of the packets take up to 20 ms longer.
    pub late: bool,
    /// Half of the rate is let through, the rest dropped.
    pub policed: bool,
    /// Acknowledgements take up to this much longer, and this part of them is lost: the next tells what they did.
    pub back_jitter_ms: f64,
    pub back_loss: f64,
    /// The sender's timer ticks this often; zero: exactly.
    pub tick_ms: f64,
    /// From this second on, the rate is this part of what it was.
    pub step: Option<(f64, f64)>,
}

impl Link {
    pub fn new(mbit: f64, rtt_ms: f64, loss: f64) -> Self {
        Self {
            mbit,
            rtt_ms,
            queue: 1.0,
            loss: Loss::Random(loss),
            late: false,
            policed: false,
            back_jitter_ms: 0.0,
            back_loss: 0.0,
            tick_ms: 0.0,
            step: None,
        }
    }

    pub fn rtt(&self) -> Duration {
        Duration::from_secs_f64(self.rtt_ms / 1e3)
    }

    /// When a timer for this moment fires.
    pub fn tick(&self, due: Duration) -> Duration {
        if self.tick_ms == 0.0 {
            return due;
        }
        let tick = self.tick_ms / 1e3;
        Duration::from_secs_f64((due.as_secs_f64() / tick).ceil() * tick)
    }

    /// Bytes a second on the wire that can be had.
    pub fn usable(&self) -> f64 {
        self.mbit * 125_000.0 * if self.policed { 0.5 } else { 1.0 }
    }

    /// Packets in flight that fill it.
    pub fn product(&self) -> f64 {
        self.usable() * self.rtt_ms / 1e3 / WIRE_BYTES
    }

    pub fn loss_rate(&self) -> f64 {
        match self.loss {
            Loss::Random(p) | Loss::Bursts(p) => p,
        }
    }

    /// Packets a second that can arrive at best.
    pub fn ideal(&self) -> f64 {
        self.usable() / WIRE_BYTES * (1.0 - self.loss_rate())
    }
}

/// The bottleneck at work.
pub struct Bottleneck {
    link: Link,
    /// Seconds at which the queue is empty.
    free_at: f64,
    tokens: f64,
    tokens_at: f64,
    in_burst: bool,
    random: Random,
    /// Queueing delay of each packet since `since`, and their number.
    delay_sum: f64,
    delay_count: f64,
    since: f64,
}

impl Bottleneck {
    pub fn new(link: Link, seed: u64) -> Self {
        Self {
            link,
            free_at: 0.0,
            tokens: bucket(&link),
            tokens_at: 0.0,
            in_burst: false,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def1),
            delay_sum: 0.0,
            delay_count: 0.0,
            since: 20.0 * link.rtt_ms / 1e3,
        }
    }

    /// A packet comes; when it arrives at the receiver, unless it doesn't.
    pub fn forward(&mut self, now: f64) -> Option<f64> {
        let is_lost = self.draw_loss();
        let extra = self.draw_delay();
        if self.link.policed && !self.take_tokens(now) {
            return None;
        }
        let factor = self.link.step.map_or(1.0, |(at, factor)| if now >= at { factor } else { 1.0 });
        let rate = self.link.mbit * 125_000.0 * factor;
        let backlog = (self.free_at - now).max(0.0);
        let limit = self.link.queue * self.link.rtt_ms / 1e3 * self.link.mbit * 125_000.0;
        if backlog * rate + WIRE_BYTES > limit.max(4.0 * WIRE_BYTES) {
            return None;
        }
        if now >= self.since {
            self.delay_sum += backlog;
            self.delay_count += 1.0;
        }
        self.free_at = now + backlog + WIRE_BYTES / rate;
        (!is_lost).then_some(self.free_at + self.link.rtt_ms / 2e3 + extra)
    }

    /// Queueing delay of the packets since start-up, or since they were forgotten, seconds.
    pub fn mean_delay(&self) -> f64 {
        self.delay_sum / self.delay_count.max(1.0)
    }

    pub fn forget_delays(&mut self) {
        self.delay_sum = 0.0;
        self.delay_count = 0.0;
    }

    fn take_tokens(&mut self, now: f64) -> bool {
        let gained = (now - self.tokens_at) * self.link.usable();
        self.tokens = (self.tokens + gained).min(bucket(&self.link));
        self.tokens_at = now;
        let is_enough = self.tokens >= WIRE_BYTES;
        if is_enough {
            self.tokens -= WIRE_BYTES;
        }
        is_enough
    }

    fn draw_loss(&mut self) -> bool {
        let draw = self.random.next();
        match self.link.loss {
            Loss::Random(p) => draw < p,
            Loss::Bursts(p) => {
                let leave = 1.0 / 8.0;
                let enter = leave * p / (1.0 - p);
                self.in_burst = if self.in_burst { draw >= leave } else { draw < enter };
                self.in_burst
            }
        }
    }

    fn draw_delay(&mut self) -> f64 {
        let is_late = self.random.next() < 0.25;
        let by = self.random.next() * 0.020;
        if self.link.late && is_late { by } else { 0.0 }
    }
}

/// Bytes that a policer lets through at once.
fn bucket(link: &Link) -> f64 {
    (link.usable() * 0.010).max(65_536.0)
}

/// Numbers from a seed (xorshift64*).
pub struct Random(pub u64);

impl Random {
    /// From 0 to 1.
    pub fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}
