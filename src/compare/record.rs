//! All that is known of one run: a line of `--records`, an element of `runs` in `--json`.
//!
//! Times are seconds, rates bits a second, shares percent; the unit ends each name. What could not be seen is absent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::guarantee::Guarantees;
use super::payload::Arrived;

/// Number of a record's shape; fields may be added without a new number.
pub const RECORD_VERSION: u32 = 1;

/// One run of one contender.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// The link that content crosses, with its seed, if it is an emulated one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The link of the other direction, if it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub back_link: Option<String>,
    /// Rate of that link, bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_rate_bits_per_s: Option<u64>,
    /// Its round trip without queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_rtt_s: Option<f64>,
    /// Its loss by chance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_loss_percent: Option<f64>,
    /// Who ran.
    pub contender: String,
    /// In which round, from 0 on.
    pub round: u32,
    /// Seed of the link.
    pub seed: u64,
    /// Whether the round only warmed up.
    pub is_warmup: bool,
    /// What ran, for a shell, on the sending host; and on the receiving one, if something did.
    pub command: String,
    /// See `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_command: Option<String>,

    /// How the command ended; 0 is success, and for raw UDP so is 5.
    pub exit_code: u8,
    /// Whether it was ended because it took too long.
    pub was_cut: bool,
    /// Why it failed, in its own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Length of the file.
    pub file_bytes: u64,
    /// What stands at the other end, compared with the source; absent where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arrived: Option<Arrived>,
    /// Bytes of the file that arrived and are right, as far as that can be seen.
    pub content_bytes: u64,
    /// The command from start to exit.
    pub elapsed_s: f64,
    /// From the first byte of content to the last, as haul's receiver measured it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_time_s: Option<f64>,
    /// `content_bytes` over `elapsed_s`.
    pub goodput_bits_per_s: f64,
    /// Of the link's rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_share_percent: Option<f64>,

    /// What crossed the link, if there is an emulated one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<Wire>,
    /// What was sent again, of all that was sent: segments of TCP, bytes of our UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_again_percent: Option<f64>,
    /// Shortest round trip that the sender saw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_rtt_s: Option<f64>,
    /// The round trip as the sender saw it at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_s: Option<f64>,
    /// What the sending process cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<Cost>,
    /// What the receiving process cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver: Option<Cost>,
    /// What limited the speed, as haul says: see README.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limited_by: Option<String>,
    /// What was promised and what was kept.
    pub guarantees: Guarantees,
    /// What speaks against these numbers.
    pub doubts: Vec<String>,
    /// Why it was as fast as it was.
    pub why: Vec<String>,
    /// TCP's and UDP's own counters.
    pub transport: TransportFigures,
    /// How it went over time, as the link saw it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
    /// Counters of the sending host's kernel that are not zero, as in `/proc/net/snmp` and `/proc/net/netstat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub sender_kernel: BTreeMap<String, u64>,
    /// The same of the receiving host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub receiver_kernel: BTreeMap<String, u64>,
}

/// What crossed an emulated link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    /// Packets that the sending host sent.
    pub there_packets: u64,
    /// Their bytes.
    pub there_bytes: u64,
    /// Bytes that the receiving host sent.
    pub back_bytes: u64,
    /// All bytes over those of the file, less the file: what it cost besides itself.
    pub overhead_percent: f64,
    /// Packets of `there_packets` that chance took.
    pub lost: u64,
    /// That found the queue full.
    pub queue_drops: u64,
    /// That found the bucket empty.
    pub policer_drops: u64,
    /// That came in a blackout.
    pub blackout_drops: u64,
    /// That were too long.
    pub mtu_drops: u64,
    /// How long a packet waited in the queue, on average.
    pub queue_delay_mean_s: f64,
    /// The most that the queue held.
    pub queue_peak_bytes: u64,
}

/// What a process cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Processor time.
    pub cpu_s: f64,
    /// The same for 10^9 bytes that arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_s_per_gb: Option<f64>,
    /// The most memory that it had.
    pub peak_rss_bytes: u64,
}

/// What the transports count themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in the JSON of a transfer, documented in README")]
pub struct TransportFigures {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_congestion: Option<String>,
    /// Times that the kernel took loss for congestion and reduced the window: recoveries and timeouts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_reductions: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_timeouts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_segments_out: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_retransmitted_segments: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_busy_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_rwnd_limited_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_sndbuf_limited_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_lost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_spurious: Option<u64>,
}

/// How a run went over time: one element for each interval from the link's first moment on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Length of an interval.
    pub interval_s: f64,
    /// Bytes of packets handed to the receiving host.
    pub delivered_bytes: Vec<u64>,
    /// Packets that the link dropped.
    pub dropped_packets: Vec<u64>,
    /// How long packets waited in the queue, on average.
    pub queue_delay_s: Vec<f64>,
}

impl Record {
    /// Whether its numbers count: it ended well, in a round that counts.
    pub fn counts(&self) -> bool {
        !self.is_warmup && self.is_complete()
    }

    /// Whether it did what it was to do: for raw UDP, to send.
    pub fn is_complete(&self) -> bool {
        !self.was_cut
            && (self.exit_code == 0 || (self.exit_code == RAW_DAMAGED && self.contender == "udp-raw"))
    }

    /// Whether it is the same run of the same plan, so that it need not run again.
    pub fn is_run(
        &self,
        scenario: &str,
        link: Option<&str>,
        contender: &str,
        round: u32,
        file_bytes: u64,
    ) -> bool {
        self.version == RECORD_VERSION
            && self.scenario == scenario
            && self.link.as_deref() == link
            && self.contender == contender
            && self.round == round
            && self.file_bytes == file_bytes
    }
}

/// Exit code of a raw transfer of which something is missing.
const RAW_DAMAGED: u8 = 5;
