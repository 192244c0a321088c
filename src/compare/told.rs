//! What haul's own processes say in the JSON of `--json`, as far as a comparison needs it; README documents the fields.

use serde::Deserialize;

use super::payload::{Arrived, Payload};

/// One end's report.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    pub(super) error: Option<String>,
    pub(super) bytes: u64,
    pub(super) bytes_moved: u64,
    pub(super) digest: Option<String>,
    pub(super) limited_by: Option<Limit>,
    pub(super) sender: Option<Side>,
    pub(super) receiver: Option<Side>,
    pub(super) tcp: Option<Tcp>,
    pub(super) flow: Option<Flow>,
    pub(super) raw: Option<Raw>,
}

/// What limited the speed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Limit {
    pub(super) limit: String,
    pub(super) share_percent: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Side {
    pub(super) data_time_s: f64,
    pub(super) cpu_s: f64,
    pub(super) peak_rss_bytes: u64,
}

/// From TCP_INFO.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tcp {
    pub(super) congestion: Option<String>,
    pub(super) segments_out: Option<u64>,
    pub(super) retransmitted_segments: Option<u64>,
    pub(super) rtt_s: Option<f64>,
    pub(super) min_rtt_s: Option<f64>,
    pub(super) busy_s: Option<f64>,
    pub(super) rwnd_limited_s: Option<f64>,
    pub(super) sndbuf_limited_s: Option<f64>,
    pub(super) reads: Option<u64>,
    pub(super) reads_inside_frame: Option<u64>,
}

/// Of a sender the first ones, of a receiver the others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Flow {
    pub(super) packets: Option<u64>,
    pub(super) payload_bytes: Option<u64>,
    pub(super) lost: Option<u64>,
    pub(super) spurious: Option<u64>,
    pub(super) min_rtt_s: Option<f64>,
    pub(super) received: Option<u64>,
    pub(super) duplicates: Option<u64>,
    pub(super) damaged: Option<u64>,
    pub(super) out_of_order: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) missing: u64,
    pub(super) missing_bytes: u64,
    pub(super) out_of_order: u64,
    pub(super) duplicated: u64,
    pub(super) damaged: u64,
    pub(super) dropped_by_socket: Option<u64>,
    pub(super) discarded: u64,
    pub(super) intact_files: u64,
}

impl Told {
    /// Reads the object; none, if there is none.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// What the other end says that it has, where nobody can look: it compared digests with the sender.
    pub(super) fn arrived(&self, payload: &Payload) -> Option<Arrived> {
        if let Some(raw) = &self.raw {
            let is_intact = raw.intact_files > 0;
            return Some(Arrived {
                is_there: true,
                missing_bytes: raw.missing_bytes,
                is_intact,
                ..Arrived::default()
            });
        }
        let is_intact = self.error.is_none() && self.digest.is_some() && self.bytes == payload.bytes;
        is_intact.then(|| Arrived {
            is_there: true,
            is_intact,
            sha256: self.digest.clone(),
            ..Arrived::default()
        })
    }
}
