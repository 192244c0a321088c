//! What a transport promised, what was kept, and what the link did beneath it.
//!
//! A stream shows its program nothing of loss, order, damage and copies if it keeps its promise. So what the program saw is what
//! stands at the other end, compared with the source byte for byte: a byte that is lost, out of place, damaged or there twice makes a
//! difference. Raw UDP shows its program all of it; its receiver counts datagrams by their numbers.

use serde::{Deserialize, Serialize};

use super::payload::Arrived;
use super::told::{Raw, Told};
use crate::emulator::Tally;

/// The table's row of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Guarantees {
    /// What `seen` counts: `bytes` or `datagrams`.
    pub unit: String,
    /// What was sent and did not arrive.
    pub lost: Kept,
    /// What arrived behind what was sent later.
    pub out_of_order: Kept,
    /// What arrived changed.
    pub damaged: Kept,
    /// What arrived twice.
    pub duplicated: Kept,
    /// Whether what was written in one piece was read in one piece.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boundaries: Option<Boundaries>,
    /// Datagrams that the receiver's own socket or program dropped: the machine, not the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiver_drops: Option<u64>,
    /// Whether the file that arrived has the source's SHA-256; absent if none arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_intact: Option<bool>,
    /// For raw UDP over an emulated link: whether the receiver's counts and the link's are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Accounts>,
}

/// One guarantee.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// What the program at the receiving end saw of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// Packets to which the link did it beneath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beneath: Option<u64>,
}

/// Reads of the receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundaries {
    /// Reads from the socket: of a stream, or datagrams.
    pub reads: u64,
    /// Those that did not end where a message of the sender did.
    pub inside_message: u64,
}

/// Datagrams of a raw flow: those of which the link knows, and where the receiver has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// Arrivals that the link made whole, copies included.
    pub whole_by_link: u64,
    /// Datagrams and copies that the receiver took, and those that its socket dropped.
    pub whole_by_receiver: u64,
    /// Arrivals that the link damaged in their content.
    pub damaged_by_link: u64,
    /// Arrivals that the receiver found damaged.
    pub damaged_by_receiver: u64,
    /// Arrivals that the link damaged in a header of IP or UDP: no program sees them.
    pub damaged_headers: u64,
}

/// Which packets of the link belong to a contender's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// TCP's.
    Tcp,
    /// UDP's.
    Udp,
    /// All.
    Any,
}

impl Accounts {
    /// Whether nothing is unaccounted for.
    pub fn agree(&self) -> bool {
        self.whole_by_link == self.whole_by_receiver && self.damaged_by_link == self.damaged_by_receiver
    }
}

impl Guarantees {
    /// From what arrived, from what the receiver told, and from what the link did from sender to receiver.
    pub(super) fn new(
        carrier: Carrier,
        arrived: Option<&Arrived>,
        sender: Option<&Told>,
        receiver: Option<&Told>,
        there: Option<&Tally>,
    ) -> Self {
        let beneath = there.map(|tally| Beneath::of(tally, carrier));
        let raw = receiver.or(sender).and_then(|told| told.raw.as_ref());
        let mut it = match raw {
            Some(raw) => Self::raw(raw),
            None => Self::stream(arrived),
        };
        it.is_intact = arrived.filter(|arrived| arrived.is_there).map(|arrived| arrived.is_intact);
        it.boundaries = boundaries(raw, receiver);
        if let Some(beneath) = beneath {
            it.lost.beneath = Some(beneath.lost);
            it.out_of_order.beneath = Some(beneath.reordered);
            it.damaged.beneath = Some(beneath.damaged);
            it.duplicated.beneath = Some(beneath.duplicated);
            it.accounts = raw.map(|raw| beneath.accounts(raw));
        }
        it
    }

    fn raw(raw: &Raw) -> Self {
        let seen = |seen| Kept { seen: Some(seen), beneath: None };
        Self {
            unit: "datagrams".to_owned(),
            lost: seen(raw.missing),
            out_of_order: seen(raw.out_of_order),
            damaged: seen(raw.damaged),
            duplicated: seen(raw.duplicated),
            receiver_drops: raw.dropped_by_socket.map(|dropped| dropped + raw.discarded),
            ..Self::default()
        }
    }

    /// A file that equals its source has no byte out of place and none twice; of one that differs, nobody can say which it was.
    fn stream(arrived: Option<&Arrived>) -> Self {
        let compared = arrived.filter(|arrived| arrived.is_there);
        let seen = |count: fn(&Arrived) -> u64| Kept { seen: compared.map(count), beneath: None };
        let in_place = Kept { seen: compared.filter(|arrived| arrived.is_intact).map(|_| 0), beneath: None };
        Self {
            unit: "bytes".to_owned(),
            lost: seen(|arrived| arrived.missing_bytes),
            damaged: seen(|arrived| arrived.wrong_bytes),
            out_of_order: in_place,
            duplicated: in_place,
            ..Self::default()
        }
    }
}

/// A datagram that is read is always one that was sent; of a stream, reads are counted.
fn boundaries(raw: Option<&Raw>, receiver: Option<&Told>) -> Option<Boundaries> {
    if let Some(raw) = raw {
        return Some(Boundaries { reads: raw.received + raw.duplicated, inside_message: 0 });
    }
    let told = receiver?;
    if let Some(received) = told.flow.as_ref().and_then(|flow| flow.received) {
        return Some(Boundaries { reads: received, inside_message: 0 });
    }
    let tcp = told.tcp.as_ref()?;
    Some(Boundaries { reads: tcp.reads?, inside_message: tcp.reads_inside_frame? })
}

/// What the link did to the packets of one carrier.
#[derive(Clone, Copy, Debug, Default)]
struct Beneath {
    lost: u64,
    reordered: u64,
    damaged: u64,
    damaged_headers: u64,
    duplicated: u64,
    delivered: u64,
}

impl Beneath {
    fn of(tally: &Tally, carrier: Carrier) -> Self {
        let mut sum = Self::default();
        for flow in &tally.flows {
            let belongs = match carrier {
                Carrier::Tcp => flow.key.protocol_name() == "tcp",
                Carrier::Udp => flow.key.protocol_name() == "udp",
                Carrier::Any => true,
            };
            if belongs {
                let it = flow.share.counters;
                sum.lost += it.dropped_queue
                    + it.dropped_policer
                    + it.dropped_blackout
                    + it.dropped_loss
                    + it.dropped_mtu;
                sum.reordered += it.overtaking + it.late;
                sum.damaged += it.corrupted;
                sum.damaged_headers += flow.share.corrupted_headers;
                sum.duplicated += it.duplicated;
                sum.delivered += it.delivered;
            }
        }
        sum
    }

    fn accounts(&self, raw: &Raw) -> Accounts {
        Accounts {
            whole_by_link: self.delivered - self.damaged.min(self.delivered),
            whole_by_receiver: raw.received + raw.duplicated + raw.dropped_by_socket.unwrap_or(0),
            damaged_by_link: self.damaged - self.damaged_headers.min(self.damaged),
            damaged_by_receiver: raw.damaged,
            damaged_headers: self.damaged_headers,
        }
    }
}
