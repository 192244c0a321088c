//! From what was seen of a run to its record.

use std::time::Duration;

use super::contender::Contender;
use super::doubt::doubts;
use super::guarantee::{Carrier, Guarantees};
use super::place::{Observed, Task};
use super::plan::NetworkPath;
use super::reason::reasons;
use super::record::{Cost, RECORD_VERSION, Record, Timeline, TransportFigures, Wire};
use super::told::Told;
use crate::emulator::{Carried, HostFacts, Tally};
use crate::link::LinkConfig;

/// Puts together all that is known.
pub(super) fn record(task: &Task<'_>, observed: &Observed) -> Record {
    let plan = task.plan;
    let scenario = &plan.scenarios[task.run.scenario];
    let contender = &plan.contenders[task.run.contender];
    let links = task.links();
    let carried = observed.carried.as_deref();
    let content_bytes = content_bytes(task, observed);
    let elapsed_s = observed.elapsed.as_secs_f64();
    let goodput_bits_per_s = content_bytes as f64 * 8.0 / elapsed_s.max(1e-9);
    let link_rate = links.as_ref().and_then(|(there, _)| Some(there.bottleneck.as_ref()?.bits_per_s));
    let carrier = match contender {
        Contender::Tcp { .. } => Carrier::Tcp,
        Contender::Udp { .. } | Contender::Raw => Carrier::Udp,
        Contender::Rival(_) => Carrier::Any,
    };
    let guarantees = Guarantees::new(
        carrier,
        observed.arrived.as_ref(),
        observed.sender.as_ref(),
        observed.receiver.as_ref(),
        carried.map(|it| &it.there),
    );
    let host = carried.and_then(|it| it.host.as_ref());
    let peer = carried.and_then(|it| it.peer.as_ref());
    let sender = observed.sender.as_ref();
    let tcp = sender.and_then(|told| told.tcp.as_ref());
    let flow = sender.and_then(|told| told.flow.as_ref());
    let transport = transport(contender, sender, host);
    let mut record = Record {
        version: RECORD_VERSION,
        scenario: scenario.name.clone(),
        link: links.as_ref().map(|(there, _)| there.to_string()),
        back_link: links.as_ref().filter(|(there, back)| there != back).map(|(_, back)| back.to_string()),
        link_rate_bits_per_s: link_rate,
        link_rtt_s: links.as_ref().map(|(there, back)| (there.one_way() + back.one_way()).as_secs_f64()),
        link_loss_percent: links.as_ref().map(|(there, _)| loss_percent(there)),
        contender: contender.to_string(),
        round: task.run.round,
        seed: plan.seed_of(task.run.round),
        is_warmup: task.run.is_warmup,
        command: observed.command.clone(),
        peer_command: observed.peer_command.clone(),
        exit_code: observed.exit_code,
        was_cut: observed.was_cut,
        error: error(observed),
        file_bytes: task.payload.bytes,
        arrived: observed.arrived.clone(),
        content_bytes,
        elapsed_s,
        data_time_s: sender.and_then(|told| Some(told.receiver.as_ref()?.data_time_s)),
        goodput_bits_per_s,
        link_share_percent: link_rate.map(|rate| 100.0 * goodput_bits_per_s / rate as f64),
        wire: carried.map(|carried| wire(carried, task.payload.bytes)),
        sent_again_percent: sent_again_percent(contender, sender, host, task.payload.bytes),
        min_rtt_s: flow.and_then(|flow| flow.min_rtt_s).or(tcp.and_then(|tcp| tcp.min_rtt_s)),
        rtt_s: tcp.and_then(|tcp| tcp.rtt_s).filter(|_| carrier == Carrier::Tcp),
        sender: cost(host, sender.and_then(|told| told.sender.as_ref()), content_bytes),
        receiver: cost(peer, sender.and_then(|told| told.receiver.as_ref()), content_bytes),
        limited_by: sender.and_then(|told| told.limited_by.as_ref()).map(|limit| limit.limit.clone()),
        guarantees,
        doubts: Vec::new(),
        why: Vec::new(),
        transport,
        timeline: carried.map(|carried| timeline(&carried.there, task.sample_every())),
        sender_kernel: host.map(|it| it.counters.clone()).unwrap_or_default(),
        receiver_kernel: peer.map(|it| it.counters.clone()).unwrap_or_default(),
    };
    record.doubts = doubts(&record, carried);
    record.why = reasons(&record).iter().map(ToString::to_string).collect();
    record
}

impl Task<'_> {
    /// The links of the run, with its seed.
    pub(super) fn links(&self) -> Option<(LinkConfig, LinkConfig)> {
        let seed = self.plan.seed_of(self.run.round);
        match &self.plan.scenarios[self.run.scenario].path {
            NetworkPath::Link { there, back } => {
                Some((LinkConfig { seed, ..(**there).clone() }, LinkConfig { seed, ..(**back).clone() }))
            }
            NetworkPath::Loopback | NetworkPath::Server { .. } => None,
        }
    }
}

/// Bytes that arrived and are right: by looking, else as the sender was told.
fn content_bytes(task: &Task<'_>, observed: &Observed) -> u64 {
    let told = observed.sender.as_ref();
    if let Some(raw) = told.and_then(|told| told.raw.as_ref()) {
        return task.payload.bytes.saturating_sub(raw.missing_bytes);
    }
    match &observed.arrived {
        Some(arrived) if arrived.is_there => {
            task.payload.bytes.saturating_sub(arrived.missing_bytes + arrived.wrong_bytes)
        }
        Some(_) => told.map_or(0, |told| told.bytes_moved.max(told.bytes)).min(task.payload.bytes),
        // A rival that leaves no file: the link knows what crossed it, and its exit code whether that was all.
        None if observed.exit_code == 0 && !observed.was_cut => task.payload.bytes,
        None => 0,
    }
}

fn error(observed: &Observed) -> Option<String> {
    let told = observed.sender.as_ref().and_then(|told| told.error.clone());
    let failed = observed.exit_code != 0 && !observed.was_cut;
    told.or_else(|| observed.last_words.clone().filter(|_| failed))
}

fn loss_percent(link: &LinkConfig) -> f64 {
    link.loss.as_ref().map_or(0.0, |loss| 100.0 * loss.share.as_fraction())
}

fn wire(carried: &Carried, file_bytes: u64) -> Wire {
    let there = &carried.there.total;
    let counters = &there.counters;
    let back_bytes = carried.back.total.counters.offered_bytes;
    let all = counters.offered_bytes + back_bytes;
    Wire {
        there_packets: counters.offered,
        there_bytes: counters.offered_bytes,
        back_bytes,
        overhead_percent: 100.0 * (all as f64 / file_bytes.max(1) as f64 - 1.0),
        lost: counters.dropped_loss,
        queue_drops: counters.dropped_queue,
        policer_drops: counters.dropped_policer,
        blackout_drops: counters.dropped_blackout,
        mtu_drops: counters.dropped_mtu,
        queue_delay_mean_s: there.mean_queue_delay().as_secs_f64(),
        queue_peak_bytes: there.peak_queue_bytes,
    }
}

/// Counters of the host's kernel where there are some, since they hold for every program; else what haul says.
fn sent_again_percent(
    contender: &Contender,
    sender: Option<&Told>,
    host: Option<&HostFacts>,
    file_bytes: u64,
) -> Option<f64> {
    match contender {
        Contender::Udp { .. } => {
            let payload = sender?.flow.as_ref()?.payload_bytes?;
            Some(100.0 * payload.saturating_sub(file_bytes) as f64 / payload.max(1) as f64)
        }
        Contender::Raw => Some(0.0),
        Contender::Tcp { .. } | Contender::Rival(_) => {
            let (again, all) = segments(sender, host)?;
            Some(100.0 * again as f64 / all.max(1) as f64)
        }
    }
}

/// Segments of TCP that were sent again, and all.
fn segments(sender: Option<&Told>, host: Option<&HostFacts>) -> Option<(u64, u64)> {
    if let Some(host) = host {
        let count = |name: &str| host.counters.get(name).copied().unwrap_or(0);
        // RetransSegs are not in OutSegs: RFC 4022, tcpOutSegs.
        let again = count("Tcp.RetransSegs");
        return Some((again, count("Tcp.OutSegs") + again)).filter(|(_, all)| *all > 0);
    }
    let tcp = sender?.tcp.as_ref()?;
    Some((tcp.retransmitted_segments?, tcp.segments_out?))
}

fn transport(contender: &Contender, sender: Option<&Told>, host: Option<&HostFacts>) -> TransportFigures {
    let mut it = TransportFigures::default();
    if let Some(flow) = sender.and_then(|told| told.flow.as_ref()) {
        (it.udp_packets, it.udp_lost, it.udp_spurious) = (flow.packets, flow.lost, flow.spurious);
    }
    if matches!(contender, Contender::Udp { .. } | Contender::Raw) {
        return it;
    }
    if let Some((again, all)) = segments(sender, host) {
        (it.tcp_segments_out, it.tcp_retransmitted_segments) = (Some(all), Some(again));
    }
    if let Some(host) = host {
        let count = |name: &str| host.counters.get(name).copied().unwrap_or(0);
        let timeouts = count("TcpExt.TCPTimeouts");
        let recoveries = count("TcpExt.TCPSackRecovery") + count("TcpExt.TCPRenoRecovery");
        (it.tcp_timeouts, it.tcp_reductions) = (Some(timeouts), Some(recoveries + timeouts));
    }
    if let Some(tcp) = sender.and_then(|told| told.tcp.as_ref()) {
        it.tcp_congestion = tcp.congestion.clone();
        it.tcp_busy_s = tcp.busy_s;
        it.tcp_rwnd_limited_s = tcp.rwnd_limited_s;
        it.tcp_sndbuf_limited_s = tcp.sndbuf_limited_s;
    }
    it
}

/// As the kernel counts it for the whole host, else as haul says.
fn cost(host: Option<&HostFacts>, told: Option<&super::told::Side>, content_bytes: u64) -> Option<Cost> {
    let (cpu_s, peak_rss_bytes) = match (host, told) {
        (Some(host), _) => (host.cpu.as_secs_f64(), host.peak_rss_bytes),
        (None, Some(told)) => (told.cpu_s, told.peak_rss_bytes),
        (None, None) => return None,
    };
    let cpu_s_per_gb = (content_bytes > 0).then(|| cpu_s * 1e9 / content_bytes as f64);
    Some(Cost { cpu_s, cpu_s_per_gb, peak_rss_bytes })
}

fn timeline(there: &Tally, interval: Duration) -> Timeline {
    let mut timeline = Timeline { interval_s: interval.as_secs_f64(), ..Timeline::default() };
    for sample in &there.samples {
        timeline.delivered_bytes.push(sample.delivered_bytes);
        timeline.dropped_packets.push(sample.dropped);
        timeline.queue_delay_s.push(sample.queue_delay.as_secs_f64());
    }
    timeline
}
