//! The heart: what is sent, what is placed, who may send how much. Values, not tasks.
//!
//! ```text
//!   lister ── announce ──► Sender ──► carriers ──► Receiver ── poll_job ──► target
//!   reader ◄─ poll_job ───   │  ▲                     │  ▲                    │
//!      └──── on_piece ───────┘  └──── FEEDBACK, ──────┘  └──── on_event ──────┘
//!                                     WANT, OUTCOMES
//! ```
//!
//! **Contract of a carrier** (a TCP connection, a flow over UDP): it takes the next piece with [`Sender::poll_frame`] and
//! delivers it whole or not at all, each at most once; pieces on different carriers may overtake each other. When it
//! dies, whoever runs it tells both sides; what the receiver did not get returns to the queue. Carrier 0 is the
//! control connection: it alone carries messages other than DATA. A session outlives it only where another can take its
//! place ([`ControlLog`]).
//!
//! **Bounds.** The sender keeps at most `limits::SEND_QUEUE_BYTES` read but unsent; the receiver at most its credit;
//! both at most `limits::OPEN_ENTRIES_MAX` entries.

mod control;
pub mod cursor;
pub mod placement;
pub mod raw;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use control::ControlLog;
pub use receiver::Receiver;
pub use sender::{Piece, ReadJob, Sender, SenderEnd};

use crate::wire::message::{Code, Entry, Kind, Outcome, Span, Want};

/// Number of a carrier within its session: 0 is the control connection, the flows over UDP count from
/// `limits::FLOW_NUMBER_MIN`, and what lies between are further TCP connections.
pub type Carrier = u16;
/// The control connection.
pub const CONTROL: Carrier = 0;

/// Whether TCP connections, and whether flows, are among them.
fn kinds_of<'a>(carriers: impl IntoIterator<Item = &'a Carrier>) -> (bool, bool) {
    let is_flow = |carrier: &Carrier| *carrier >= crate::limits::FLOW_NUMBER_MIN;
    carriers
        .into_iter()
        .fold((false, false), |(tcp, flow), carrier| (tcp || !is_flow(carrier), flow || is_flow(carrier)))
}

/// What the receiving side has to do with the target, in this order.
#[derive(Debug)]
pub enum Job {
    /// The next entries of the listing, numbered on from `first`.
    Entries {
        /// Number of the first.
        first: u64,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Content of a file.
    Data {
        /// Entry number.
        file: u64,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A range that was never written at the source.
    Hole {
        /// Entry number.
        file: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// All content of the file was handed over before this.
    End {
        /// Entry number.
        file: u64,
        /// Its size, bytes.
        size: u64,
        /// What the sender computed over it.
        digest: [u8; 32],
    },
    /// Content that came over a raw flow.
    RawPiece(raw::RawPiece),
    /// All content of the file that came over a raw flow, and all that will come, was handed over before this.
    RawEnd {
        /// Entry number.
        file: u64,
        /// Its size, bytes.
        size: u64,
        /// What the sender computed over it.
        digest: [u8; 32],
    },
    /// The source's digest of a file that was asked for with `Want::Digest`.
    Digest {
        /// Entry number.
        file: u64,
        /// Its size, bytes.
        size: u64,
        /// What the sender computed over it.
        digest: [u8; 32],
    },
    /// The sender's sums of blocks that were asked for with [`Event::Check`].
    Sums {
        /// Entry number.
        file: u64,
        /// Number of the first block.
        first: u64,
        /// The CRC-32C of each.
        sums: Vec<u32>,
    },
    /// The sender gave the file up.
    Failed {
        /// Entry number.
        file: u64,
        /// Why.
        code: Code,
        /// Why, in words.
        text: String,
    },
    /// No further entries follow.
    Listed,
    /// What waits for company need not wait longer.
    Idle,
    /// What was interrupted may be gone on with, if it came of this owner; `None`: not at all.
    Resumable {
        /// Names the sender.
        owner: Option<[u8; 32]>,
    },
    /// Nothing else is at hand: go on with what takes long, for a while.
    Work,
    /// What has arrived of large files is to be brought to the disk, and noted.
    Checkpoint,
}

/// How far the listing has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// Entries announced.
    pub entries: u64,
    /// Of these, all that are no directories.
    pub files: u64,
    /// Bytes of files whose size is known.
    pub bytes: u64,
}

impl Announced {
    fn add(&mut self, kind: &Kind) {
        self.entries += 1;
        self.files += u64::from(*kind != Kind::Dir);
        if let Kind::File { size, .. } = kind {
            self.bytes = self.bytes.saturating_add(*size);
        }
    }
}

/// What the target did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The file's content or digest is needed.
    Want {
        /// Entry number.
        file: u64,
        /// Which of both.
        want: Want,
    },
    /// These ranges of the file are there already; the rest of its content is needed.
    Resume {
        /// Entry number.
        file: u64,
        /// Ascending, neither overlapping nor touching; at most `limits::RESUME_SPANS_MAX`.
        kept: Vec<Span>,
    },
    /// The file came whole and does not have its digest; the sums of these blocks are needed.
    Check {
        /// Entry number.
        file: u64,
        /// Number of the first block of `limits::SUM_BLOCK_BYTES`.
        first: u64,
        /// How many, 1..=`limits::SUMS_PER_FRAME`.
        count: u64,
    },
    /// So much waits in memory for what comes before it in its file, although it was told as placed.
    Held {
        /// Bytes in all.
        bytes: u64,
    },
    /// A range was written, kept until its turn, or discarded because its file has an outcome.
    Placed {
        /// Entry number.
        file: u64,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
        /// The chunk's buffer, for reuse; without capacity for a hole.
        buffer: Vec<u8>,
    },
    /// A [`Job::RawPiece`] was written, or discarded.
    RawPlaced {
        /// Bytes.
        len: u64,
        /// Datagrams whose content was left out although it is wanted.
        discarded: u64,
    },
    /// A [`Job::RawEnd`] was worked off.
    RawEnded {
        /// Entry number.
        file: u64,
        /// Whether its bytes are those that were sent.
        is_intact: bool,
        /// What did not come.
        lack: raw::Lack,
    },
    /// The end of an entry.
    Outcome {
        /// Entry number.
        file: u64,
        /// What became of it.
        outcome: Outcome,
    },
}

/// A peer did what the protocol does not allow; the session ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

impl Violation {
    /// A violation, described from the view of who noticed it: "it sent …".
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}
