//! Sends as much as the window lets it, finds losses by what was sent later and has arrived, and repairs them.
//!
//! Losses are found as RACK does (RFC 8985); in recovery, what leaves is a share of what arrives (PRR, RFC 6937); when
//! nothing is heard for long, all that is out is given up (RFC 6298). There is always more to send.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{SEGMENT_BYTES, law::Law, receiver::Ack};

/// Least time beyond the round trip until a timeout (`TCP_RTO_MIN` of Linux), and the timeout until there is a round trip
/// (RFC 6298, section 2).
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
const TIMEOUT_FIRST: Duration = Duration::from_secs(1);
/// Timeouts in a row double the wait up to this power of two.
const BACKOFF_MAX: u32 = 8;
/// So many arrivals behind a gap make it a loss at once (RFC 8985, section 7.2).
const DUPLICATES: u64 = 3;
/// A burst is as long at 1.2 times the window in a round trip (a pacing rate that is not used to pace), and has as many
/// segments at least.
const BURST_MICROS: u64 = 1200;
const BURST_MIN: u64 = 2;
/// A burst waits for more if the last has left so shortly before it.
const RECENT: Duration = Duration::from_millis(1);
/// What the socket keeps until it is acknowledged (`net.ipv4.tcp_wmem` of Linux), segments.
const BUFFER: u64 = (4 << 20) / SEGMENT_BYTES;

/// A segment on its way.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Its place in the stream, counted in segments.
    pub number: u64,
}

/// The sending end.
#[derive(Debug)]
pub struct Sender {
    law: Law,
    /// It sends until then.
    end: Duration,
    /// All before this one is acknowledged.
    first: u64,
    /// The first that was never sent.
    next: u64,
    /// What is neither acknowledged nor told of.
    missing: BTreeMap<u64, Sent>,
    /// Those of them that are under way, in the order of their sending.
    out: BTreeMap<u64, u64>,
    /// Those of them that are given up and not sent again.
    lost: BTreeSet<u64>,
    /// Transmissions so far.
    order: u64,
    state: State,
    newest: Newest,
    rtt: Rtt,
    /// When the last segment left.
    sent_at: Duration,
    /// Since when it waits for an acknowledgement.
    waits_since: Duration,
    backoff: u32,
    /// When what is out may be lost for having waited too long.
    reorder_timer: Option<Duration>,
}

/// The last transmission of a segment.
#[derive(Clone, Copy, Debug)]
struct Sent {
    order: u64,
    at: Duration,
    is_again: bool,
}

/// The latest transmission that has arrived.
#[derive(Clone, Copy, Debug, Default)]
struct Newest {
    order: u64,
    rtt: Duration,
}

/// What it does about loss. What was sent before `until` belongs to a loss that was answered.
#[derive(Clone, Copy, Debug)]
enum State {
    Open,
    /// Proportional rate reduction.
    Recovery {
        until: u64,
        from: u64,
        delivered: u64,
        out: u64,
    },
    /// Behind a timeout.
    Loss {
        until: u64,
    },
}

/// Round trips (RFC 6298).
#[derive(Clone, Copy, Debug, Default)]
struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    min: Option<Duration>,
}

/// What one acknowledgement told.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    /// Segments of which it is the first word.
    delivered: u64,
    rtt: Option<Duration>,
    has_advanced: bool,
}

impl Sender {
    /// Sends from `start` until `end`.
    pub fn new(start: Duration, end: Duration) -> Self {
        Self {
            law: Law::default(),
            end,
            first: 0,
            next: 0,
            missing: BTreeMap::new(),
            out: BTreeMap::new(),
            lost: BTreeSet::new(),
            order: 0,
            state: State::Open,
            newest: Newest::default(),
            rtt: Rtt::default(),
            sent_at: start,
            waits_since: start,
            backoff: 0,
            reorder_timer: None,
        }
    }

    /// The receiver's word.
    pub fn handle_ack(&mut self, now: Duration, ack: &Ack) {
        let news = self.take_in(now, ack);
        if news.delivered > 0 {
            self.waits_since = now;
            self.backoff = 0;
        }
        if let Some(rtt) = news.rtt {
            self.rtt.on_sample(rtt);
            self.law.on_rtt(now, rtt, self.first, self.next);
        }
        self.end_recovery();
        let lost_before = self.lost.len();
        self.detect_losses(now);
        let has_lost = self.lost.len() > lost_before;
        self.answer();
        self.adjust_window(now, news, has_lost);
    }

    /// The next segment.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Segment> {
        self.handle_timeout(now);
        let in_flight = self.out.len() as u64;
        let room = self.law.window().saturating_sub(in_flight);
        if room == 0 {
            return None;
        }
        let has_more = now < self.end && self.next - self.first < BUFFER;
        let (number, is_again) = match self.lost.pop_first() {
            Some(number) => (number, true),
            None if has_more && !self.waits_for_more(now, room) => {
                self.next += 1;
                (self.next - 1, false)
            }
            None => return None,
        };
        if in_flight == 0 {
            self.waits_since = now;
        }
        self.order += 1;
        self.sent_at = now;
        self.missing.insert(number, Sent { order: self.order, at: now, is_again });
        self.out.insert(self.order, number);
        if let State::Recovery { out, .. } = &mut self.state {
            *out += 1;
        }
        Some(Segment { number })
    }

    /// When it wants to be asked again.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let timeout = (!self.missing.is_empty()).then(|| self.waits_since + self.timeout());
        [timeout, self.reorder_timer].into_iter().flatten().min()
    }

    /// Linux lets a burst wait that is smaller than a millisecond's worth and than a third of the window, if the last one
    /// has just left and the next acknowledgement is near (`tcp_tso_should_defer`).
    fn waits_for_more(&self, now: Duration, room: u64) -> bool {
        let Some(rtt) = self.rtt.smoothed else { return false };
        let Some(oldest) = self.missing.values().next() else { return false };
        let window = self.law.window();
        let burst = window * BURST_MICROS / u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1);
        matches!(self.state, State::Open)
            && room < burst.max(BURST_MIN)
            && 3 * room < window
            && now - self.sent_at < RECENT
            && now - oldest.at > rtt / 2
    }

    fn timeout(&self) -> Duration {
        self.rtt.timeout() * 2_u32.pow(self.backoff)
    }

    fn handle_timeout(&mut self, now: Duration) {
        if self.reorder_timer.take_if(|at| *at <= now).is_some() {
            self.detect_losses(now);
            self.answer();
        }
        if self.missing.is_empty() || now < self.waits_since + self.timeout() {
            return;
        }
        self.lost.extend(std::mem::take(&mut self.out).into_values());
        // A loss that was answered already is not answered again (RFC 5681, section 4.3).
        let is_answered = match self.state {
            State::Open => false,
            State::Recovery { until, .. } => self.first < until,
            State::Loss { until } => self.first < until && self.backoff > 0,
        };
        self.law.on_timeout(is_answered);
        self.state = State::Loss { until: self.next };
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
        self.waits_since = now;
        self.reorder_timer = None;
    }

    /// Notes what has arrived.
    fn take_in(&mut self, now: Duration, ack: &Ack) -> News {
        let mut news = News { has_advanced: ack.next > self.first, ..News::default() };
        self.first = self.first.max(ack.next);
        let acknowledged = std::iter::once(0..ack.next);
        for range in acknowledged.chain(ack.blocks.iter().cloned()) {
            while let Some((&number, &sent)) = self.missing.range(range.clone()).next() {
                self.missing.remove(&number);
                self.lost.remove(&number);
                self.out.remove(&sent.order);
                news.delivered += 1;
                let rtt = now - sent.at;
                if !sent.is_again {
                    news.rtt = Some(news.rtt.map_or(rtt, |least| least.min(rtt)));
                }
                // An acknowledgement that comes too soon is for the first transmission (RFC 8985, section 6.2).
                let is_true = !sent.is_again || self.rtt.min.is_none_or(|min| rtt >= min);
                if is_true && sent.order > self.newest.order {
                    self.newest = Newest { order: sent.order, rtt };
                }
            }
        }
        news
    }

    /// What was sent before the newest that has arrived is lost, at once if enough came behind it or if losses are being
    /// repaired, else after a quarter of a round trip (RFC 8985, section 6.2).
    fn detect_losses(&mut self, now: Duration) {
        let told = self.next - self.first - self.missing.len() as u64;
        let is_sure = told >= DUPLICATES || !matches!(self.state, State::Open);
        let patience = if is_sure { Duration::ZERO } else { self.rtt.min.unwrap_or_default() / 4 };
        self.reorder_timer = None;
        while let Some((&order, &number)) = self.out.first_key_value()
            && order < self.newest.order
        {
            let due = self.missing[&number].at + self.newest.rtt + patience;
            if due > now && !is_sure {
                self.reorder_timer = Some(due);
                return;
            }
            self.out.remove(&order);
            self.lost.insert(number);
        }
    }

    /// All that was sent when the loss was answered has arrived.
    fn end_recovery(&mut self) {
        match self.state {
            State::Recovery { until, .. } if self.first >= until => self.law.end_recovery(),
            State::Loss { until } if self.first >= until => {}
            _ => return,
        }
        self.state = State::Open;
    }

    /// Answers a loss that no answer covers.
    fn answer(&mut self) {
        if matches!(self.state, State::Open) && !self.lost.is_empty() {
            self.state = State::Recovery { until: self.next, from: self.law.window(), delivered: 0, out: 0 };
            self.law.on_loss();
        }
    }

    fn adjust_window(&mut self, now: Duration, news: News, has_lost: bool) {
        let in_flight = self.out.len() as u64;
        let State::Recovery { from, delivered, out, .. } = &mut self.state else {
            if news.has_advanced {
                self.law.on_ack(now, news.delivered);
            }
            return;
        };
        if news.delivered == 0 {
            return;
        }
        *delivered += news.delivered;
        let target = self.law.threshold();
        let may_send = if in_flight > target {
            (target * *delivered).div_ceil(*from).saturating_sub(*out)
        } else {
            let repaid = delivered.saturating_sub(*out).max(news.delivered);
            (repaid + u64::from(news.has_advanced && !has_lost)).min(target - in_flight)
        };
        // The first repair always leaves.
        self.law.set_window(in_flight + may_send.max(u64::from(*out == 0)));
    }
}

impl Rtt {
    fn on_sample(&mut self, rtt: Duration) {
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
        match &mut self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                *smoothed = (*smoothed * 7 + rtt) / 8;
            }
        }
    }

    fn timeout(&self) -> Duration {
        self.smoothed.map_or(TIMEOUT_FIRST, |smoothed| smoothed + (self.variation * 4).max(TIMEOUT_MIN))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sent(sender: &mut Sender, now: Duration) -> Vec<u64> {
        std::iter::from_fn(|| sender.poll_transmit(now)).map(|segment| segment.number).collect()
    }

    fn acknowledge(sender: &mut Sender, now: Duration, next: u64, block: Range<u64>) {
        sender.handle_ack(now, &Ack { next, blocks: std::iter::once(block).collect() });
    }

    /// With its first window on its way since `at(0)`.
    fn begun() -> Sender {
        let mut sender = Sender::new(at(0), Duration::MAX);
        assert_eq!(sent(&mut sender, at(0)), (0..10).collect::<Vec<_>>());
        sender
    }

    #[test]
    fn an_acknowledgement_makes_room_for_as_much_and_for_growth() {
        let mut sender = begun();
        acknowledge(&mut sender, at(100), 10, 0..0);

        assert_eq!(sent(&mut sender, at(100)), (10..30).collect::<Vec<_>>());
    }

    #[test]
    fn a_segment_alone_waits_for_the_next_acknowledgement() {
        let mut sender = begun();
        acknowledge(&mut sender, at(100), 2, 0..0);
        assert_eq!(sent(&mut sender, at(100)), [10, 11, 12], "there is room for one more");

        acknowledge(&mut sender, at(100), 4, 0..0);
        assert_eq!(sent(&mut sender, at(100)), [13, 14, 15, 16]);
    }

    #[test]
    fn three_arrivals_behind_a_gap_make_it_a_loss() {
        let mut sender = begun();
        acknowledge(&mut sender, at(100), 0, 1..2);
        acknowledge(&mut sender, at(100), 0, 1..3);
        assert_eq!(sent(&mut sender, at(100)), [10], "what has arrived made room");

        acknowledge(&mut sender, at(100), 0, 1..4);
        assert_eq!(sent(&mut sender, at(100)), [0]);
    }

    #[test]
    fn one_arrival_behind_a_gap_makes_it_a_loss_a_quarter_of_a_round_trip_later() {
        let mut sender = begun();
        acknowledge(&mut sender, at(100), 0, 1..2);
        assert_eq!(sent(&mut sender, at(100)), [10]);
        assert_eq!(sender.poll_timeout(), Some(at(125)));

        assert!(sent(&mut sender, at(125)).contains(&0));
    }

    #[test]
    fn recovery_sends_seven_for_each_ten_that_arrive() {
        let mut sender = begun();
        sender.law.set_window(100);
        sent(&mut sender, at(0));
        let mut count = 0;
        for n in 1..100 {
            acknowledge(&mut sender, at(100), 0, 1..n + 1);
            count += sent(&mut sender, at(100)).len();
        }

        // Two left before the loss was known.
        assert!((69..=73).contains(&count), "{count}");
        acknowledge(&mut sender, at(200), 100, 0..0);
        assert_eq!(sender.law.window(), 70);
    }

    #[test]
    fn a_repair_that_is_lost_is_repaired() {
        let mut sender = begun();
        acknowledge(&mut sender, at(100), 0, 1..10);
        assert_eq!(sent(&mut sender, at(100))[0], 0);
        sent(&mut sender, at(100));

        acknowledge(&mut sender, at(200), 0, 1..11);

        assert_eq!(sent(&mut sender, at(200))[0], 0);
    }

    #[test]
    fn silence_gives_up_all_that_is_out_and_waits_twice_as_long_each_time() {
        let mut sender = begun();
        assert_eq!(sender.poll_timeout(), Some(TIMEOUT_FIRST));

        assert_eq!(sent(&mut sender, at(1000)), [0]);
        assert_eq!(sender.poll_timeout(), Some(at(3000)));
        assert_eq!(sent(&mut sender, at(3000)), [0]);
        assert_eq!(sender.poll_timeout(), Some(at(7000)));
        acknowledge(&mut sender, at(3100), 1, 0..0);
        assert_eq!(sent(&mut sender, at(3100)), [1, 2]);
    }

    #[test]
    fn a_flow_that_has_ended_repairs_and_sends_nothing_else() {
        let mut sender = Sender::new(at(0), at(50));
        sent(&mut sender, at(0));
        acknowledge(&mut sender, at(100), 0, 1..10);

        assert_eq!(sent(&mut sender, at(100)), [0]);
        acknowledge(&mut sender, at(100) + RTT, 10, 0..0);
        assert_eq!((sent(&mut sender, at(200)), sender.poll_timeout()), (vec![], None));
    }
}
