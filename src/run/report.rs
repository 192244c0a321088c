//! What a run amounted to, for the final line and for `--json`.

use std::{collections::BTreeMap, time::Duration};

use data_encoding::HEXLOWER;
use serde::Serialize;

use super::{
    error::{Cause, RunError},
    results::{Counts, Failure},
    session::SessionEnd,
    tcp::TcpFigures,
    verdict::{Verdict, verdict},
};
use crate::{
    file::path::escape,
    net::udp::recv_buffer_advice,
    wire::message::{DigestKind, NOT_KNOWN, NotKept, RawReport, Stats},
};

/// The result of one session. README, JSON, documents every field.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Shape of this object; grows with incompatible changes only.
    pub version: u32,
    /// The command that ran.
    pub command: &'static str,
    /// Who was at the other end: address and program.
    pub peer: String,
    /// `sender` or `receiver`.
    pub role: &'static str,
    /// What carried content: `tcp`, `udp`, `tcp+udp`, or `udp-raw`.
    pub transport: &'static str,
    /// When content moved from one to the other, and why.
    pub moves: Vec<Move>,
    /// How often another control connection took the place of a lost one.
    pub rejoined: u32,
    /// What its TCP connections did at this end, where the system says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpFigures>,
    /// What the flow over UDP did, at its sender; what came of it, at its receiver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<FlowReport>,
    /// What UDP did to the datagrams of a raw flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<RawFigures>,
    /// Encrypted and authenticated by TLS; `false` with `--plain`: checksums only.
    pub encrypted: bool,
    /// Nothing was done: this is what would happen.
    pub dry_run: bool,
    /// Files and links that arrived.
    pub files: u64,
    /// Directories made or found.
    pub directories: u64,
    /// Those of them that were made or got another mode or time (in a dry run: would).
    pub directories_changed: u64,
    /// Content of the files that arrived, bytes.
    pub bytes: u64,
    /// Content that is known to be placed at the receiver, holes included, whatever became of its files, bytes.
    pub bytes_moved: u64,
    /// Content that the receiver had already of files that were gone on with, bytes.
    pub bytes_resumed: u64,
    /// Sessions that it took: one, and another for each time the connection was lost.
    pub sessions: u32,
    /// Bytes on the wire, both directions, as this side saw them.
    pub wire_bytes: u64,
    /// There already with the same size and time; not compared.
    pub unchanged: u64,
    /// There already with the same digest.
    pub identical: u64,
    /// There already and kept by the policy.
    pub kept: u64,
    /// Would be sent (dry run).
    pub planned: u64,
    /// Failed.
    pub failed: u64,
    /// The first failures, by name.
    pub failures: Vec<Failure>,
    /// What was not kept of what was sent.
    pub not_kept: NotKeptCounts,
    /// From the connection to the end, seconds.
    pub elapsed_s: f64,
    /// Content moved over that time, bytes a second.
    pub rate_bytes_per_s: f64,
    /// `sha256` or `blake3`.
    pub digest_algorithm: &'static str,
    /// Digest of the file, when there was exactly one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the receiver published was on the disk before it was reported.
    pub synced: bool,
    /// Nothing was kept: it was received, compared with its digest, and thrown away.
    pub discarded: bool,
    /// Both sides know that all is done.
    pub confirmed: bool,
    /// What limited the speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<Verdict>,
    /// What the sender measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<StatsReport>,
    /// What the receiver measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<StatsReport>,
    /// Why it failed, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The class of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// Content moved from one transport to the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Since the start, milliseconds.
    pub at_ms: u64,
    /// `tcp` or `udp`.
    pub to: &'static str,
    /// Why, in words.
    pub why: String,
}

/// What is known of a flow over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum FlowReport {
    /// What it did, as its sender counts it.
    Sender(SenderFigures),
    /// What came of it, as its receiver counts it.
    Receiver(ReceiverFigures),
}

/// What came on a flow, as its receiver counts it. Packets and datagrams are those of this direction, whether they had
/// content or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReceiverFigures {
    /// The buffer of its socket as the system has granted it, bytes.
    pub recv_buffer_bytes: usize,
    /// Packets that arrived whole, each counted once.
    pub received: u64,
    /// Those of them that came after one with a larger number.
    pub out_of_order: u64,
    /// Packets whose number had come already.
    pub duplicates: u64,
    /// Datagrams for this flow that did not open: damaged on the way, or sent by somebody else.
    pub damaged: u64,
    /// Datagrams that the socket dropped since the flow began because its buffer was full, as the system counts them:
    /// of all flows of this socket. `null` where it does not say.
    pub dropped_by_socket: Option<u64>,
}

/// What a flow did, as its sender counts it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[expect(missing_docs, reason = "as the fields of datagram::SenderStats")]
pub struct SenderFigures {
    pub packets: u64,
    pub packet_bytes: u64,
    pub payload_bytes: u64,
    pub lost: u64,
    pub spurious: u64,
    pub copies: u64,
    pub timeouts: u64,
    pub min_rtt_s: f64,
}

/// How content travelled.
#[derive(Clone, Debug, Default)]
pub struct Travel {
    /// See [`Report::transport`].
    pub transport: &'static str,
    /// See [`Report::moves`].
    pub moves: Vec<Move>,
    /// See [`Report::rejoined`].
    pub rejoined: u32,
    /// See [`Report::tcp`].
    pub tcp: Option<TcpFigures>,
    /// See [`Report::flow`].
    pub flow: Option<FlowReport>,
    /// See [`Report::raw`].
    pub raw: Option<RawFigures>,
}

/// What UDP did to the datagrams of a raw flow: counted by the receiver, told to both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RawFigures {
    /// Datagrams sent: content, and the few before it that show that the path works.
    pub sent: u64,
    /// Those of them that arrived whole.
    pub received: u64,
    /// Those that did not: `sent - received`.
    pub missing: u64,
    /// What is missing of files, bytes.
    pub missing_bytes: u64,
    /// Where it is missing: the first ranges.
    pub missing_ranges: Vec<MissingRange>,
    /// Further ranges.
    pub more_ranges: u64,
    /// Datagrams that arrived after one that was sent later.
    pub out_of_order: u64,
    /// How many numbers the latest of these was behind.
    pub farthest: u64,
    /// Arrivals of datagrams that had arrived already.
    pub duplicated: u64,
    /// Datagrams that arrived damaged (or were sent by somebody else); they are missing too.
    pub damaged: u64,
    /// What the receiver's socket dropped because its buffer was full, as its system counts it: of all flows of this
    /// socket. `null` where it does not say.
    pub dropped_by_socket: Option<u64>,
    /// Datagrams that arrived and whose content the receiver left out, since its disk was too far behind.
    pub discarded: u64,
    /// Datagrams that the receiver's system dropped for a wrong UDP checksum, whoever they were for; over IPv4 those of
    /// a raw flow have none. `null` where it does not say.
    pub checksum_errors: Option<u64>,
    /// Files that came whole.
    pub intact_files: u64,
    /// Files that did not.
    pub damaged_files: u64,
}

/// Bytes of a file that did not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingRange {
    /// Its name, escaped; its number where the name was not kept.
    pub file: String,
    /// The first of them.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

impl RawFigures {
    /// Of `sent` datagrams; `names` are those of entries that failed.
    pub fn new(sent: u64, report: &RawReport, names: &BTreeMap<u64, Vec<u8>>) -> Self {
        let known = |count: u64| (count != NOT_KNOWN).then_some(count);
        let name = |file: u64| names.get(&file).map_or_else(|| format!("#{file}"), |name| escape(name));
        let missing_ranges = report.missing.iter().map(|range| MissingRange {
            file: name(range.file),
            offset: range.offset,
            len: range.len,
        });
        Self {
            sent,
            received: report.received,
            missing: sent.saturating_sub(report.received),
            missing_bytes: report.missing_bytes,
            missing_ranges: missing_ranges.collect(),
            more_ranges: report.more_ranges,
            out_of_order: report.out_of_order,
            farthest: report.farthest,
            duplicated: report.duplicated,
            damaged: report.damaged,
            dropped_by_socket: known(report.dropped),
            discarded: report.discarded,
            checksum_errors: known(report.checksum_errors),
            intact_files: report.intact_files,
            damaged_files: report.damaged_files,
        }
    }
}

/// What was not kept, by count.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NotKeptCounts {
    /// FIFOs, sockets and devices, not sent.
    pub special: u64,
    /// Entries of another owner than the sending user.
    pub owner: u64,
    /// Entries with extended attributes or access control lists.
    pub attributes: u64,
    /// Hard links sent as files of their own.
    pub hardlinks: u64,
}

/// One side's measurements in seconds and bytes.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "as the fields of wire::message::Stats")]
pub struct StatsReport {
    pub data_time_s: f64,
    pub payload_bytes: u64,
    pub source_wait_s: f64,
    pub network_wait_s: f64,
    pub credit_wait_s: f64,
    pub target_wait_s: f64,
    pub peer_wait_s: f64,
    pub cpu_s: f64,
    pub busiest_thread_s: f64,
    pub peak_rss_bytes: u64,
    pub streams: u64,
}

impl From<Stats> for StatsReport {
    fn from(stats: Stats) -> Self {
        let seconds = |us: u64| Duration::from_micros(us).as_secs_f64();
        Self {
            data_time_s: seconds(stats.elapsed_us),
            payload_bytes: stats.payload_bytes,
            source_wait_s: seconds(stats.source_wait_us),
            network_wait_s: seconds(stats.network_wait_us),
            credit_wait_s: seconds(stats.credit_wait_us),
            target_wait_s: seconds(stats.target_wait_us),
            peer_wait_s: seconds(stats.peer_wait_us),
            cpu_s: seconds(stats.cpu_us),
            busiest_thread_s: seconds(stats.busiest_us),
            peak_rss_bytes: stats.peak_rss_bytes,
            streams: stats.streams,
        }
    }
}

fn per_second(bytes: u64, elapsed_s: f64) -> f64 {
    if elapsed_s > 0.0 { bytes as f64 / elapsed_s } else { 0.0 }
}

/// What a report is made of.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The command that ran.
    pub command: &'static str,
    /// Who was at the other end.
    pub peer: String,
    /// Whether bytes flowed away from here.
    pub is_sender: bool,
    /// Whether TLS was used.
    pub is_encrypted: bool,
    /// How content travelled.
    pub travel: Travel,
    /// The agreed digest.
    pub digest: DigestKind,
    /// Whether it only said what would happen.
    pub is_dry_run: bool,
    /// Whether what was received was thrown away.
    pub is_discarded: bool,
    /// The rate asked for, bits a second.
    pub rate_bps: Option<u64>,
    /// From the connection to the end.
    pub elapsed: Duration,
    /// Content known to be placed, bytes.
    pub moved_bytes: u64,
    /// Content that was there before of files that were gone on with, bytes.
    pub resumed_bytes: u64,
    /// Bytes on the wire.
    pub wire_bytes: u64,
    /// How the session ended.
    pub end: Result<SessionEnd, RunError>,
    /// What became of the entries.
    pub counts: &'a Counts,
}

impl Report {
    /// One line for a person who received over UDP into a buffer so small that packets are lost in it.
    pub fn advice(&self) -> Option<String> {
        match self.flow {
            Some(FlowReport::Receiver(figures)) => recv_buffer_advice(figures.recv_buffer_bytes),
            Some(FlowReport::Sender(_)) | None => None,
        }
    }

    /// Adds it all up. A session that ended well may still have failed files, which make the error then.
    pub fn new(facts: Facts<'_>) -> Self {
        let counts = facts.counts;
        let error = facts.end.as_ref().err().cloned().or_else(|| counts.error());
        let ended = facts.end.ok();
        let NotKept { special, owner, attributes, hardlinks } = counts.not_kept;
        let elapsed_s = facts.elapsed.as_secs_f64();
        let is_raw = facts.travel.raw.is_some();
        let new_bytes = counts.bytes.saturating_sub(facts.resumed_bytes);
        let is_single = counts.files == 1 && counts.settled() == 1;
        Self {
            version: 1,
            command: facts.command,
            peer: facts.peer,
            role: if facts.is_sender { "sender" } else { "receiver" },
            transport: facts.travel.transport,
            moves: facts.travel.moves,
            rejoined: facts.travel.rejoined,
            tcp: facts.travel.tcp,
            flow: facts.travel.flow,
            raw: facts.travel.raw,
            encrypted: facts.is_encrypted,
            dry_run: facts.is_dry_run,
            files: counts.files,
            directories: counts.directories,
            directories_changed: counts.directories_changed,
            bytes: counts.bytes,
            // Over a raw flow, outcomes come before the report.
            bytes_moved: if is_raw { facts.moved_bytes.max(counts.bytes) } else { facts.moved_bytes },
            bytes_resumed: facts.resumed_bytes,
            sessions: 1,
            wire_bytes: facts.wire_bytes,
            unchanged: counts.unchanged,
            identical: counts.identical,
            kept: counts.kept,
            planned: counts.planned,
            failed: counts.failed,
            failures: counts.failures.clone(),
            not_kept: NotKeptCounts { special, owner, attributes, hardlinks },
            elapsed_s,
            rate_bytes_per_s: per_second(new_bytes, elapsed_s),
            digest_algorithm: match facts.digest {
                DigestKind::Sha256 => "sha256",
                DigestKind::Blake3 => "blake3",
            },
            digest: counts.digest.filter(|_| is_single).map(|digest| HEXLOWER.encode(&digest)),
            synced: ended.is_some_and(|end| end.receipt.synced),
            discarded: facts.is_discarded,
            confirmed: ended.is_some_and(|end| end.is_confirmed),
            limited_by: ended.map(|end| verdict(&end.sender, &end.receipt.stats, facts.rate_bps)),
            sender: ended.map(|end| end.sender.into()),
            receiver: ended.map(|end| end.receipt.stats.into()),
            cause: error.as_ref().map(|error| error.cause),
            error: error.map(|error| error.text),
        }
    }

    /// Adds what an earlier session of the same wish did, that was cut: what it brought is there in this one already.
    pub fn add_before(&mut self, before: &Self) {
        let mut there = before.files;
        for counted in [&mut self.unchanged, &mut self.identical] {
            let same = there.min(*counted);
            *counted -= same;
            there -= same;
        }
        self.files += before.files;
        self.directories = self.directories.max(before.directories);
        self.directories_changed += before.directories_changed;
        self.bytes += before.bytes;
        self.bytes_moved += before.bytes_moved;
        // Of what was there, this transfer has brought a part itself.
        self.bytes_resumed = self.bytes_resumed.min(before.bytes_resumed);
        self.wire_bytes += before.wire_bytes;
        self.sessions += before.sessions;
        self.rejoined += before.rejoined;
        self.elapsed_s += before.elapsed_s;
        self.rate_bytes_per_s = per_second(self.bytes.saturating_sub(self.bytes_resumed), self.elapsed_s);
        let mut moves = before.moves.clone();
        moves.append(&mut self.moves);
        self.moves = moves;
        if self.files == 1 && self.unchanged + self.identical + self.kept + self.failed == 0 {
            self.digest = self.digest.take().or_else(|| before.digest.clone());
        }
    }
}
