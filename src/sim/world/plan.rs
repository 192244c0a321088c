//! What a seed draws: a path, files, how fast disks are, and which faults there are.
//!
//! Each seed first draws which kinds of fault are on, and then when and how much (swarm testing): a world in which
//! only one thing goes wrong finds what a world full of noise covers up.

use std::time::Duration;

use rustix::io::Errno;

use super::{
    super::chance::Chance,
    pipe::PipeConfig,
    source::{FileSpec, Trouble},
};
use crate::{
    datagram::congestion::Congestion,
    file::disk::memory,
    limits,
    link::{Blackout, Bottleneck, Buffer, Depth, Late, LinkConfig, Loss, MtuStep, RateStep, Share},
    security::Side,
};

/// A world.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From which all of it comes.
    pub seed: u64,
    /// The client sends.
    pub is_push: bool,
    /// The sender does not wait for WANT.
    pub is_eager: bool,
    /// The path of datagrams while there are faults.
    pub link: LinkConfig,
    /// The path of datagrams from then on.
    pub healed: LinkConfig,
    /// When that is. Faults end before.
    pub heals_at: Duration,
    /// Every connection.
    pub pipe: PipeConfig,
    /// Further connections.
    pub streams: u16,
    /// Content goes to a flow as soon as one works.
    pub wants_flow: bool,
    /// No content goes anywhere but to the first flow, until that has ended.
    pub waits_for_flow: bool,
    /// What is sent.
    pub files: Vec<FileSpec>,
    /// Bytes a second that the source gives, and that the target takes.
    pub read_rate: u64,
    /// See [`Self::read_rate`].
    pub write_rate: u64,
    /// What the receiver grants at most, bytes.
    pub window_max: u64,
    /// Bytes of a chunk.
    pub chunk_bytes: usize,
    /// Packets after which keys change.
    pub key_update_after: u64,
    /// The flows' law.
    pub law: Congestion,
    /// `--timeout`.
    pub idle_timeout: Duration,
    /// What happens when, in the order of time.
    pub faults: Vec<(Duration, Fault)>,
    /// Calls on the receiver's disk, counted from the session's first, and what happens to them.
    pub disk_faults: Vec<(usize, memory::Fault)>,
    /// Of a hundred datagrams that arrive, so many are preceded by one that somebody has made up of it.
    pub forged_percent: u64,
    /// Of a hundred datagrams from the client, so many arrive a second time from another address, and earlier.
    pub stolen_percent: u64,
    /// Whether somebody cuts the control connection for good: then the transfer may fail.
    pub has_end: bool,
}

/// What happens at some time. What cannot happen then does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client asks for a flow.
    OpenFlow,
    /// The server has no UDP for the next flow that it is asked for.
    RefuseFlow,
    /// The sender moves all content to the flow, if there is one that works.
    MoveToFlow,
    /// The sender moves all content to the control connection.
    MoveToControl,
    /// The sender gives content to every carrier that asks.
    MoveToAll,
    /// One side ends its flow.
    EndFlow(Side),
    /// One side's flow is gone without a word.
    DropFlow(Side),
    /// A further connection is cut.
    CutStream(u16),
    /// The control connection is cut, and the session with it.
    CutControl,
    /// The control connection is cut, and the client dials another one.
    LoseControl,
    /// The client's datagrams come from another port, or from another host.
    Rebind {
        /// It is another host.
        is_other_host: bool,
        /// What is sent to the old address still arrives.
        keeps_old: bool,
    },
    /// The target does nothing for so long.
    StallTarget(Duration),
    /// The source gives nothing for so long.
    StallSource(Duration),
}

const MS: Duration = Duration::from_millis(1);
const PERCENT: u32 = 10_000_000;
/// Calls on the disk within which most sessions are complete.
pub const DISK_CALLS: u64 = 150;

impl Plan {
    /// A world in which nothing goes wrong: one file of a mebibyte, 50 ms, 10 Mbit/s, content on a flow from the start.
    pub fn calm(seed: u64, is_push: bool) -> Self {
        let mut chance = Chance::new(seed, "calm");
        let healed = LinkConfig {
            rtt: 50 * MS,
            bottleneck: Some(Bottleneck::new(10_000_000)),
            seed,
            ..LinkConfig::default()
        };
        Self {
            seed,
            is_push,
            is_eager: false,
            link: healed.clone(),
            healed,
            heals_at: 10_000 * MS,
            pipe: PipeConfig { one_way: 25 * MS, rate: 1_250_000, buffer: 256 << 10, stalls_percent: 0 },
            streams: 0,
            wants_flow: true,
            waits_for_flow: true,
            files: vec![FileSpec::plain(&mut chance, 1 << 20)],
            read_rate: 1_000_000_000,
            write_rate: 1_000_000_000,
            window_max: limits::CREDIT_MAX_BYTES,
            chunk_bytes: 64 << 10,
            key_update_after: 64,
            law: Congestion::Bbr,
            idle_timeout: limits::IDLE_TIMEOUT_MIN,
            faults: vec![(Duration::ZERO, Fault::OpenFlow)],
            disk_faults: Vec::new(),
            forged_percent: 0,
            stolen_percent: 0,
            has_end: false,
        }
    }

    /// The world of this seed.
    pub fn of(seed: u64) -> Self {
        Self::with(seed, None)
    }

    /// The world of this seed, in which just these files are sent.
    pub fn sending(seed: u64, files: Vec<FileSpec>) -> Self {
        Self::with(seed, Some(files))
    }

    fn with(seed: u64, files: Option<Vec<FileSpec>>) -> Self {
        let mut chance = Chance::new(seed, "plan");
        let mut on = |percent| chance.percent(percent);
        let kinds = Kinds {
            loss: on(50),
            reorder: on(30),
            duplicate: on(30),
            corrupt: on(25),
            mtu: on(20),
            blackout: on(25),
            steps: on(20),
            policer: on(15),
            rebind: on(30),
            cuts: on(30),
            flow_ends: on(35),
            moves: on(50),
            disks: on(25),
            trouble: on(25),
            forgery: on(25),
            theft: on(20),
            end: on(4),
            rejoins: Chance::new(seed, "rejoins").percent(40),
            disk_errors: Chance::new(seed, "disk errors").percent(20),
            flows: on(90),
        };
        let rtt = MS * u32::try_from(chance.pick(&[1, 2, 5, 10, 20, 50, 100, 200])).expect("small");
        let bits_per_s = chance.pick(&[2_000_000, 10_000_000, 50_000_000, 100_000_000, 400_000_000]);
        let healed = LinkConfig {
            rtt,
            bottleneck: Some(Bottleneck::new(bits_per_s)),
            seed: chance.next(),
            ..LinkConfig::default()
        };
        let most_bytes = bits_per_s / 8 * 2;
        let files =
            files.unwrap_or_else(|| FileSpec::draw(&mut chance, most_bytes.min(4 << 20), kinds.trouble));
        // While the transfer runs, and for longer if much goes wrong.
        let bytes: u64 = files.iter().map(|file| file.size).sum();
        let transfer = rtt * 6 + Duration::from_micros(bytes * 8_000_000 / bits_per_s);
        let heals_at = (transfer * chance.pick(&[1, 1, 2, 5])).clamp(50 * MS, 6000 * MS);
        let mut link = link(&mut chance, &kinds, &healed, heals_at);
        link.mtu_steps = mtu_steps(seed, heals_at);
        let streams = u16::try_from(chance.pick(&[0, 0, 0, 1, 3])).expect("few");
        let is_push = chance.percent(50);
        let faults = faults(&mut chance, &kinds, heals_at, streams);
        let is_asked_at_once = faults.iter().any(|(at, fault)| at.is_zero() && *fault == Fault::OpenFlow);
        let is_refused = faults.iter().any(|(_, fault)| *fault == Fault::RefuseFlow);
        Self {
            seed,
            is_push,
            is_eager: !is_push && chance.percent(30),
            link,
            healed,
            heals_at,
            pipe: PipeConfig {
                one_way: rtt / 2,
                rate: bits_per_s / 8 / chance.pick(&[1, 4]),
                buffer: 256 << 10,
                stalls_percent: if kinds.loss { chance.pick(&[0, 1, 5]) } else { 0 },
            },
            streams,
            wants_flow: kinds.flows && chance.percent(60),
            waits_for_flow: is_asked_at_once && !is_refused && chance.percent(40),
            files,
            read_rate: chance.pick(&[5_000_000, 50_000_000, 1_000_000_000]),
            write_rate: chance.pick(&[2_000_000, 20_000_000, 1_000_000_000]),
            window_max: chance.pick(&[limits::CREDIT_MIN_BYTES, limits::CREDIT_MAX_BYTES]),
            chunk_bytes: chance.pick(&[64 << 10, 64 << 10, 256 << 10, 1 << 20]),
            key_update_after: chance.pick(&[64, 64, 500, limits::KEY_UPDATE_PACKETS]),
            law: chance.pick(&[Congestion::Bbr, Congestion::Bbr, Congestion::Cubic]),
            idle_timeout: chance.pick(&[
                limits::IDLE_TIMEOUT_MIN,
                limits::IDLE_TIMEOUT_MIN,
                limits::IDLE_TIMEOUT,
            ]),
            faults,
            disk_faults: if kinds.disk_errors { disk_faults(seed) } else { Vec::new() },
            forged_percent: if kinds.forgery { chance.pick(&[1, 10, 50]) } else { 0 },
            stolen_percent: if kinds.theft { chance.pick(&[1, 10]) } else { 0 },
            has_end: kinds.end,
        }
    }

    /// The same world, in which nobody ends the session.
    #[must_use]
    pub fn without_ends(mut self) -> Self {
        self.faults.retain(|(_, fault)| *fault != Fault::CutControl);
        self.has_end = false;
        self
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// How long the session takes where nothing goes wrong, roughly.
    pub fn usual(&self) -> Duration {
        let line = self.healed.bottleneck.as_ref().map_or(u64::MAX, |line| line.bits_per_s / 8);
        let rate = line.min(self.read_rate).min(self.write_rate);
        self.healed.rtt * 6 + Duration::from_micros(self.bytes() * 1_000_000 / rate)
    }

    /// When the session has to be over at the latest:
    ///
    /// - after the faults, the longest silence until a dead carrier is noticed, once for what is dead when they end,
    ///   and once for a flow that is opened then and does not work;
    /// - four times all content, over the slowest of line, buffer per round trip, source and target, since each carrier
    ///   that dies may make all of it travel again;
    /// - a hundred round trips and timeouts of the system's: openings, slow starts, doubled probe timeouts, last words;
    /// - so much for each file as a receiver may wait before it publishes.
    pub fn deadline(&self) -> Duration {
        let round_trip = self.pipe.one_way * 2 + MS;
        let through_buffer = self.pipe.buffer as f64 / round_trip.as_secs_f64();
        let rate =
            [self.pipe.rate as f64 / 2.0, through_buffer, self.read_rate as f64, self.write_rate as f64];
        let rate = rate.into_iter().fold(f64::INFINITY, f64::min);
        let silence = self.idle_timeout + limits::FLOW_BLOCKED_AFTER * 2;
        self.heals_at
            + silence * 2
            + Duration::from_secs_f64(4.0 * self.bytes() as f64 / rate)
            + (round_trip + 200 * MS) * 100
            + 10 * MS * u32::try_from(self.files.len()).expect("few")
    }
}

/// Which kinds of fault there are.
struct Kinds {
    loss: bool,
    reorder: bool,
    duplicate: bool,
    corrupt: bool,
    mtu: bool,
    blackout: bool,
    steps: bool,
    policer: bool,
    rebind: bool,
    cuts: bool,
    flow_ends: bool,
    moves: bool,
    disks: bool,
    trouble: bool,
    forgery: bool,
    theft: bool,
    end: bool,
    rejoins: bool,
    disk_errors: bool,
    flows: bool,
}

fn link(chance: &mut Chance, kinds: &Kinds, healed: &LinkConfig, heals_at: Duration) -> LinkConfig {
    let mut link = LinkConfig { seed: chance.next(), ..healed.clone() };
    let mut share = |percents: &[u32]| Share::from_ppb(chance.pick(percents) * PERCENT);
    if kinds.loss {
        link.loss = Some(Loss { share: share(&[1, 2, 5, 10, 30]), burst_packets: 1 });
    }
    if kinds.reorder {
        link.reorder = share(&[1, 5, 20]);
        link.late = Some(Late { share: share(&[5, 25]), up_to: healed.rtt / 2 + MS });
    }
    if kinds.duplicate {
        link.duplicate = share(&[1, 10, 50]);
    }
    if kinds.corrupt {
        link.corrupt = share(&[1, 5, 20]);
    }
    if let Some(loss) = &mut link.loss {
        loss.burst_packets = chance.pick(&[1, 1, 8]);
    }
    if kinds.mtu {
        link.mtu_bytes = usize::try_from(chance.pick(&[1228, 1280, 1400, 1492, 9000])).expect("small");
    }
    if kinds.blackout {
        let at = chance_time(chance, heals_at);
        let lasts = MS * u32::try_from(chance.pick(&[50, 300, 1000, 5000])).expect("small");
        link.blackouts =
            vec![Blackout { at: at.max(MS), lasts: lasts.min(heals_at.saturating_sub(at)).max(MS) }];
    }
    let line = link.bottleneck.as_mut().expect("the healed link has a line");
    if kinds.steps {
        let at = chance_time(chance, heals_at).max(MS);
        line.steps = vec![RateStep { at, bits_per_s: line.bits_per_s / chance.pick(&[2, 10]) }];
    }
    let bdp = chance.pick(&[250, 1000, 8000]);
    line.buffer = if kinds.policer {
        Buffer::Policer(Depth::Bytes(64 << 10))
    } else {
        Buffer::Queue(Depth::BdpMilli(bdp))
    };
    link
}

fn mtu_steps(seed: u64, heals_at: Duration) -> Vec<MtuStep> {
    let mut chance = Chance::new(seed, "mtu steps");
    let at = chance_time(&mut chance, heals_at).max(MS);
    let mtu_bytes = usize::try_from(chance.pick(&[1228, 1280, 1400, 1500])).expect("small");
    if chance.percent(20) { vec![MtuStep { at, mtu_bytes }] } else { Vec::new() }
}

fn faults(chance: &mut Chance, kinds: &Kinds, heals_at: Duration, streams: u16) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    if kinds.flows {
        // At once, as a command does that was told to use UDP, or later, and again.
        let first = if chance.percent(70) { Duration::ZERO } else { chance_time(chance, heals_at) };
        faults.push((first, Fault::OpenFlow));
        for _ in 0..chance.below(4) {
            faults.push((chance_time(chance, heals_at), Fault::OpenFlow));
        }
        if chance.percent(10) {
            faults.push((Duration::ZERO, Fault::RefuseFlow));
        }
        if chance.percent(70) {
            faults.push(((first + MS).min(heals_at), Fault::MoveToFlow));
        }
    }
    let mut some = |is_on: bool, most: u64, draw: &dyn Fn(&mut Chance) -> Fault| {
        for _ in 0..if is_on { chance.between(1, most) } else { 0 } {
            let at = chance_time(chance, heals_at);
            let fault = draw(chance);
            faults.push((at, fault));
        }
    };
    some(kinds.moves, 6, &|chance| {
        chance.pick(&[Fault::MoveToFlow, Fault::MoveToFlow, Fault::MoveToControl, Fault::MoveToAll])
    });
    some(kinds.flow_ends, 3, &|chance| {
        let side = chance.pick(&[Side::Client, Side::Server]);
        chance.pick(&[Fault::EndFlow(side), Fault::DropFlow(side)])
    });
    some(kinds.cuts && streams > 0, 3, &|chance| {
        Fault::CutStream(u16::try_from(chance.between(1, streams.into())).expect("few"))
    });
    some(kinds.rebind, 3, &|chance| Fault::Rebind {
        is_other_host: chance.percent(20),
        keeps_old: chance.percent(50),
    });
    some(kinds.disks, 3, &|chance| {
        let lasts = MS * u32::try_from(chance.pick(&[50, 500, 2000])).expect("small");
        chance.pick(&[Fault::StallTarget(lasts), Fault::StallSource(lasts)])
    });
    some(kinds.end, 1, &|_| Fault::CutControl);
    some(kinds.rejoins && !kinds.end, 4, &|_| Fault::LoseControl);
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn disk_faults(seed: u64) -> Vec<(usize, memory::Fault)> {
    let mut chance = Chance::new(seed, "disk faults");
    let errnos = [Errno::NOSPC, Errno::IO, Errno::MFILE, Errno::ROFS, Errno::ACCESS];
    let mut draw = |_| {
        let call = usize::try_from(chance.below(DISK_CALLS)).expect("a few");
        let is_short = chance.percent(20);
        (call, if is_short { memory::Fault::Short } else { memory::Fault::Error(chance.pick(&errnos)) })
    };
    (0..3).map(&mut draw).collect()
}

/// A time before `end`.
fn chance_time(chance: &mut Chance, end: Duration) -> Duration {
    end * u32::try_from(chance.between(1, 1000)).expect("a part") / 1001
}

impl FileSpec {
    /// Files of many kinds, of so many bytes together at most.
    fn draw(chance: &mut Chance, most_bytes: u64, has_trouble: bool) -> Vec<Self> {
        let mut left = chance.between(1, 1000) * most_bytes / 1000;
        let count = chance.pick(&[0, 1, 1, 1, 3, 3, 10, 60, 300]);
        let mut files = Vec::new();
        for _ in 0..count {
            let size = match chance.below(6) {
                0 => 0,
                1 => chance.between(1, 100),
                2 => chance.between(1, 5000),
                3 => chance.pick(&[64 << 10, (64 << 10) - 1, (64 << 10) + 1]),
                _ => chance.between(1, most_bytes),
            };
            let size = size.min(left);
            left -= size;
            files.push(Self::new(chance, size));
        }
        if has_trouble {
            for file in &mut files {
                if chance.percent(15) {
                    file.trouble = Some(match chance.below(3) {
                        0 => Trouble::Changes(MS * u32::try_from(chance.between(0, 3000)).expect("small")),
                        1 => Trouble::CannotBeRead(chance.between(0, file.size)),
                        _ => Trouble::IsThere { is_same: chance.percent(50) },
                    });
                }
            }
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_a_world_whose_faults_end() {
        for seed in 0..2000 {
            let plan = Plan::of(seed);

            plan.link.check().unwrap();
            plan.healed.check().unwrap();
            assert!(plan.faults.iter().all(|(at, _)| *at <= plan.heals_at), "seed {seed}");
            assert!(plan.deadline() < Duration::from_secs(600), "seed {seed}: {:?}", plan.deadline());
        }
    }
}
