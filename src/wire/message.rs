//! The control messages and their encoding: the one place that names `bincode`.
//!
//! Each message travels alone in a frame whose type says which it is ([`Message::frame_type`]); the payload is the
//! bincode encoding of the struct below, fields in the order written here, integers little-endian and of fixed
//! width, lengths as u64, enum variants as u32 counted from 0 (protocol.md [MSG-1]). A message never changes its
//! shape: a new one with a new frame type replaces it.

use serde::{Deserialize, Serialize};

use super::frame::{self, FrameType};
pub use crate::integrity::digest::DigestKind;
use crate::limits;

/// How a client proves that it may use the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMethod {
    /// No secret: the server must be open.
    Open,
    /// Proof of a ticket's token.
    Token,
    /// The client's TLS key, found in the server's `authorized` file; the proof is all zeros.
    Key,
    /// Proof of the session secret: one more connection of a session.
    Join,
}

/// AUTH, client to server: the first message after the hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// What is being proven.
    pub method: AuthMethod,
    /// HMAC-SHA256, see `security::proof`; zeros where the method has none.
    pub proof: [u8; 32],
}

/// WELCOME, server to client: authentication passed, and the server's own proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The server's proof, in the other direction and with another label than the client's.
    pub proof: [u8; 32],
    /// Names this session for connections that join it. Admits nobody by itself.
    pub session: [u8; 16],
    /// Connections that the session may have, this one included; 1..=`limits::STREAMS_MAX`.
    pub max_streams: u16,
}

/// What to do about a name that exists already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Overwrite {
    /// Keep what is there.
    Never,
    /// Replace it when the source's modification time is newer.
    Newer,
    /// Replace it when size or modification time differ.
    Different,
    /// Replace it.
    Always,
}

/// What a client wants of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Intent {
    /// The client sends; names land below `target`, relative to the server's root; empty is the root.
    Push {
        /// Directory below the server's root, components joined by `/`.
        target: Vec<u8>,
    },
    /// The server sends what `sources` name.
    Pull {
        /// Paths or globs relative to the server's root, at most `limits::SOURCES_MAX`; a trailing `/` asks for a
        /// directory's contents without its name.
        sources: Vec<Vec<u8>>,
        /// The receiver expects every name to be new: the sender sends data without waiting for WANT.
        eager: bool,
        /// Only files that match one of these globs, if there are any.
        include: Vec<String>,
        /// No file or directory that matches one of these globs.
        exclude: Vec<String>,
    },
    /// The server lists what `sources` name and sends no data.
    List {
        /// As in `Pull`; empty lists the root.
        sources: Vec<Vec<u8>>,
        /// Also what is below directories.
        recursive: bool,
    },
}

/// OPEN, client to server: what this session is for. Sent once, on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// What the client wants.
    pub intent: Intent,
    /// The digest that proves each file.
    pub digest: DigestKind,
    /// The sender's wish; the receiver's own policy is the ceiling.
    pub overwrite: Overwrite,
    /// Compare existing files by digest instead of size and modification time.
    pub checksum: bool,
    /// Change nothing; outcomes say what would happen.
    pub dry_run: bool,
}

/// DISCARD, client to server, in the place of OPEN: the client sends, and nothing of it is kept. For who measures a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discard {
    /// The digest that proves each file.
    pub digest: DigestKind,
}

/// A modification time: seconds and nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mtime {
    /// Seconds, negative before 1970.
    pub secs: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file of known size.
    File {
        /// Bytes, as the sender saw them when it listed the file.
        size: u64,
        /// Fewer blocks are allocated than the size needs: holes are worth keeping.
        sparse: bool,
        /// Later `Hardlink` entries may name this one.
        linked: bool,
    },
    /// A file whose size is known only at its end (standard input).
    Stream,
    /// A directory. Its entries follow before any entry outside of it.
    Dir,
    /// A symbolic link.
    Symlink {
        /// Where it points, as it stands in the link.
        target: Vec<u8>,
    },
    /// Another name of an earlier file entry of this session.
    Hardlink {
        /// Number of that entry, which has `linked` set.
        file: u64,
    },
}

/// One file, directory or link that a sender announces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which of the asked-for sources this belongs to, counted from 0.
    pub source: u32,
    /// Relative path, components joined by `/`; any bytes that the sender's platform allows.
    pub name: Vec<u8>,
    /// Permission bits, 0o7777 at most.
    pub mode: u32,
    /// Modification time.
    pub mtime: Mtime,
    /// What it is.
    pub kind: Kind,
}

/// ENTRIES, sender to receiver: the next entries of the listing, numbered on from `first`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entries {
    /// Number of the first entry; equals the count of all entries announced before.
    pub first: u64,
    /// 1..=`limits::ENTRIES_PER_BATCH` entries.
    pub entries: Vec<Entry>,
}

/// What a sender's listing left out or could not keep, by count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotKept {
    /// FIFOs, sockets and devices, not sent.
    pub special: u64,
    /// Files and directories that belong to somebody other than the sending user; they get the receiver's owner.
    pub owner: u64,
    /// Files and directories with extended attributes or access control lists, sent without them.
    pub attributes: u64,
    /// Hard links sent as independent files, past `limits::HARDLINKS_MAX`.
    pub hardlinks: u64,
}

/// LISTED, sender to receiver: no further entries follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Entries announced in all.
    pub entries: u64,
    /// Sum of the sizes of all `File` entries, bytes.
    pub bytes: u64,
    /// What could not be announced or kept.
    pub not_kept: NotKept,
}

/// What a receiver needs of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Want {
    /// All of its bytes, then FILE_END.
    Content,
    /// Only its digest, in a FILE_DIGEST; a WANT or an outcome follows.
    Digest,
}

/// WANT, receiver to sender: files that the sender is to send or to digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wants {
    /// Entry numbers with what is wanted, at most `limits::RECORDS_PER_FRAME`.
    pub wants: Vec<(u64, Want)>,
}

/// Why something failed, by its number on the wire. One `match` maps it to an exit code (`run::error`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Code {
    /// Nothing failed: orderly end.
    Done,
    /// A fault of the program itself.
    Internal,
    /// Refused: wrong secret, unknown key, forbidden by the server's rules.
    NotAllowed,
    /// The bytes received are not the bytes sent, or not the expected ones.
    Integrity,
    /// The source changed while it was read.
    SourceChanged,
    /// No space or quota left at the receiver.
    NoSpace,
    /// A file or directory could not be read, written, created or renamed.
    File,
    /// The name asked for does not exist.
    NotFound,
    /// Something else stands where the name has to go, or the name cannot stand there.
    Conflict,
    /// Another transfer writes the same name, or a one-time ticket is in use.
    Busy,
    /// A message that the protocol does not allow.
    Protocol,
    /// No common version, or a feature that one side lacks.
    Incompatible,
    /// The peer was silent for too long.
    TimedOut,
    /// A person or a service manager asked for the end.
    Interrupted,
    /// Content was to go over UDP alone, and the path does not carry it.
    UdpBlocked,
}

/// FILE_FAILED, sender to receiver: this file will not be completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFailed {
    /// Entry number.
    pub file: u64,
    /// Why.
    pub code: Code,
    /// Why, in words, at most `limits::TEXT_MAX_BYTES`.
    pub text: String,
}

/// UNLISTED, sender to receiver: something that was asked for, or stands in a tree that was, cannot be announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlisted {
    /// Its name, as it would have been announced; of a source, as it was asked for. For people and never a path: may
    /// be anything of at most `limits::UNLISTED_NAME_MAX_BYTES`.
    pub name: Vec<u8>,
    /// Why.
    pub code: Code,
    /// Why, in words, at most `limits::TEXT_MAX_BYTES`.
    pub text: String,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Received, proven and published under its name (for directories and links: made, or there already).
    Done,
    /// There already with the same size and modification time; not compared.
    Unchanged,
    /// There already with the same digest.
    Identical,
    /// Something is there, and the policy keeps it.
    Kept,
    /// Only in a dry run: it would be sent.
    Planned,
    /// It failed; nothing stands under its name that was not there before.
    Failed {
        /// Why.
        code: Code,
        /// Why, in words, at most `limits::TEXT_MAX_BYTES`.
        text: String,
    },
}

/// OUTCOMES, receiver to sender: the end of these entries. Each entry gets exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    /// Entry numbers with what became of them, at most `limits::RECORDS_PER_FRAME`.
    pub outcomes: Vec<(u64, Outcome)>,
}

/// What one side measured of a session. Times in microseconds, sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// From the first data byte to the last.
    pub elapsed_us: u64,
    /// File content sent or received.
    pub payload_bytes: u64,
    /// Bytes written to or read from sockets, both directions.
    pub wire_bytes: u64,
    /// The reading thread waited for the source (sender).
    pub source_wait_us: u64,
    /// Data was ready and the sockets took none, averaged over the connections (sender).
    pub network_wait_us: u64,
    /// Data was ready and the receiver's credit was used up (sender).
    pub credit_wait_us: u64,
    /// The writing thread waited for the target to write or sync (receiver).
    pub target_wait_us: u64,
    /// The writing thread waited for data (receiver), or the reading thread for room in the queue (sender).
    pub peer_wait_us: u64,
    /// CPU time of the whole process.
    pub cpu_us: u64,
    /// CPU time, and time ready to run but without a CPU, of the busiest thread.
    pub busiest_us: u64,
    /// Peak resident memory of the process.
    pub peak_rss_bytes: u64,
    /// Connections that carried data.
    pub streams: u64,
}

/// FINISH, sender to receiver: every entry has its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finish {
    /// What the sender measured.
    pub stats: Stats,
}

/// RECEIPT, receiver to sender: the last word. The sender answers with CLOSE(Done).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What the receiver measured.
    pub stats: Stats,
    /// Entries published.
    pub done: u64,
    /// Entries that failed.
    pub failed: u64,
    /// Whether everything published was synced to the disk before it was reported.
    pub synced: bool,
}

/// STREAM_END, both directions, on the control connection: a further connection of the session is gone.
///
/// The sender says it when it notices first, with `received` 0; the receiver says it once everything that arrived on
/// that connection is placed, so that the sender knows exactly what to send again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Number of the connection within the session, 1..`limits::STREAMS_MAX`; of a flow, 256 and its attempt.
    pub stream: u16,
    /// From the receiver: bytes of DATA content in whole frames that arrived on it.
    pub received: u64,
}

/// What a flow is to do about loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowMode {
    /// Acknowledge and repair.
    Reliable,
    /// Nothing: show what UDP does.
    Raw,
}

/// Which congestion control a flow's sender uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Law {
    /// A model of the path (BBR).
    Bbr,
    /// CUBIC.
    Cubic,
    /// The rate asked for, whatever the path says.
    Fixed,
}

/// FLOW_OPEN, client to server: asks for a flow over UDP. What is sent over UDP is under keys of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowOpen {
    /// Counts the flows of the session from 0.
    pub attempt: u16,
    /// What the client calls the flow: stands in packets to the client. Not 0.
    pub connection: u32,
    /// Content goes over this flow alone. Otherwise the sender of content moves to it when that is better.
    pub is_only: bool,
    /// What it is to do about loss.
    pub mode: FlowMode,
    /// What the sender is to do about congestion.
    pub law: Law,
    /// Most bits a second that the sender is to send; 0: no limit. With `Fixed` and `Raw`, just so many.
    pub rate_bps: u64,
}

/// FLOW_ACCEPT, server to client: the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowAccept {
    /// Of the FLOW_OPEN that it answers.
    pub attempt: u16,
    /// What the server calls the flow: stands in packets to the server. 0: it is refused.
    pub connection: u32,
    /// Where the server takes UDP, at the address to which the control connection goes.
    pub port: u16,
}

/// RAW_END, sender to receiver: no further packets come on a raw flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawEnd {
    /// Of the flow's FLOW_OPEN.
    pub attempt: u16,
    /// Packets that were sent on it: their numbers are 0 up to one less.
    pub packets: u64,
}

/// A range of a file that a raw flow did not bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawRange {
    /// Entry number.
    pub file: u64,
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub len: u64,
}

/// In [`RawReport`]: a count that the receiver's system does not tell.
pub const NOT_KNOWN: u64 = u64::MAX;

/// RAW_REPORT, receiver to sender: what became of the packets of a raw flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawReport {
    /// Of the flow's FLOW_OPEN.
    pub attempt: u16,
    /// Packets that arrived whole, each counted once.
    pub received: u64,
    /// Those of them that came after one with a larger number.
    pub out_of_order: u64,
    /// How far the latest of these was behind, packets.
    pub farthest: u64,
    /// Packets that came once more.
    pub duplicated: u64,
    /// Datagrams for this flow that did not open.
    pub damaged: u64,
    /// Datagrams that the receiver's socket dropped for want of room, or [`NOT_KNOWN`].
    pub dropped: u64,
    /// Packets that arrived and whose content was left out, since the target was too far behind.
    pub discarded: u64,
    /// Datagrams that the receiver's system dropped for their UDP checksum, or [`NOT_KNOWN`].
    pub checksum_errors: u64,
    /// Files that came whole.
    pub intact_files: u64,
    /// Files that did not.
    pub damaged_files: u64,
    /// What did not come of them, bytes.
    pub missing_bytes: u64,
    /// Where it did not, at most `limits::RECORDS_PER_FRAME` ranges.
    pub missing: Vec<RawRange>,
    /// Further such ranges.
    pub more_ranges: u64,
}

/// PING and PONG: a PONG repeats the number of the PING that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Chosen by who asks.
    pub number: u64,
}

/// CLOSE, both directions: the last message of a connection, orderly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Why; `Code::Done` after a receipt.
    pub code: Code,
    /// Why, in words, at most `limits::TEXT_MAX_BYTES`.
    pub text: String,
}

/// HEARD, both directions, on the control connection: how far the peer's frames have come, so that a control connection
/// that takes the place of a lost one goes on behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Frames of the session that were taken from the peer's control connections so far.
    pub frames: u64,
}

/// A range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First byte.
    pub offset: u64,
    /// Bytes, at least 1.
    pub len: u64,
}

/// RESUME, receiver to sender, in the place of WANT: the content of a file is wanted, except for what is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Entry number.
    pub file: u64,
    /// What is there, ascending, neither overlapping nor touching; at most `limits::RESUME_SPANS_MAX`.
    pub kept: Vec<Span>,
}

/// CHECK, receiver to sender: the file came whole and does not have its digest; what are the sums of these blocks?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Entry number.
    pub file: u64,
    /// Number of the first block: a file has one for each `limits::SUM_BLOCK_BYTES`, the last being what is left.
    pub first: u64,
    /// Blocks, 1..=`limits::SUMS_PER_FRAME`.
    pub count: u64,
}

/// SUMS, sender to receiver: the answer to CHECK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Entry number.
    pub file: u64,
    /// Number of the first block, as it was asked for.
    pub first: u64,
    /// CRC-32C of each block that was asked for; 1..=`limits::SUMS_PER_FRAME`.
    pub sums: Vec<u32>,
}

/// Every control message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant wraps the struct of its name, documented there")]
pub enum Message {
    Auth(Auth),
    Welcome(Welcome),
    Open(Open),
    Entries(Entries),
    Listed(Listed),
    Wants(Wants),
    FileFailed(FileFailed),
    Outcomes(Outcomes),
    Finish(Finish),
    Receipt(Receipt),
    Ping(Ping),
    Pong(Ping),
    Close(Close),
    StreamEnd(StreamEnd),
    Unlisted(Unlisted),
    FlowOpen(FlowOpen),
    FlowAccept(FlowAccept),
    RawEnd(RawEnd),
    RawReport(RawReport),
    Heard(Heard),
    Discard(Discard),
    Resume(Resume),
    Check(Check),
    Sums(Sums),
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The payload is not the encoding of the frame type's message, or bytes are left over.
    #[error("a malformed {0:?} message")]
    Malformed(FrameType),
    /// A list or text is longer than its limit.
    #[error("a {0:?} message with more than the protocol allows")]
    TooLong(FrameType),
}

impl Message {
    /// The type of the frame that carries this message.
    pub fn frame_type(&self) -> FrameType {
        match self {
            Self::Auth(_) => FrameType::Auth,
            Self::Welcome(_) => FrameType::Welcome,
            Self::Open(_) => FrameType::Open,
            Self::Entries(_) => FrameType::Entries,
            Self::Listed(_) => FrameType::Listed,
            Self::Wants(_) => FrameType::Want,
            Self::FileFailed(_) => FrameType::FileFailed,
            Self::Outcomes(_) => FrameType::Outcomes,
            Self::Finish(_) => FrameType::Finish,
            Self::Receipt(_) => FrameType::Receipt,
            Self::Ping(_) => FrameType::Ping,
            Self::Pong(_) => FrameType::Pong,
            Self::Close(_) => FrameType::Close,
            Self::StreamEnd(_) => FrameType::StreamEnd,
            Self::Unlisted(_) => FrameType::Unlisted,
            Self::FlowOpen(_) => FrameType::FlowOpen,
            Self::FlowAccept(_) => FrameType::FlowAccept,
            Self::RawEnd(_) => FrameType::RawEnd,
            Self::RawReport(_) => FrameType::RawReport,
            Self::Heard(_) => FrameType::Heard,
            Self::Discard(_) => FrameType::Discard,
            Self::Resume(_) => FrameType::Resume,
            Self::Check(_) => FrameType::Check,
            Self::Sums(_) => FrameType::Sums,
        }
    }

    /// Appends the payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Auth(m) => put(m, out),
            Self::Welcome(m) => put(m, out),
            Self::Open(m) => put(m, out),
            Self::Entries(m) => put(m, out),
            Self::Listed(m) => put(m, out),
            Self::Wants(m) => put(m, out),
            Self::FileFailed(m) => put(m, out),
            Self::Outcomes(m) => put(m, out),
            Self::Finish(m) => put(m, out),
            Self::Receipt(m) => put(m, out),
            Self::Ping(m) | Self::Pong(m) => put(m, out),
            Self::Close(m) => put(m, out),
            Self::StreamEnd(m) => put(m, out),
            Self::Unlisted(m) => put(m, out),
            Self::FlowOpen(m) => put(m, out),
            Self::FlowAccept(m) => put(m, out),
            Self::RawEnd(m) => put(m, out),
            Self::RawReport(m) => put(m, out),
            Self::Heard(m) => put(m, out),
            Self::Discard(m) => put(m, out),
            Self::Resume(m) => put(m, out),
            Self::Check(m) => put(m, out),
            Self::Sums(m) => put(m, out),
        }
    }

    /// Parses the payload of a control frame. Trailing bytes and lists over their limit are errors
    /// (protocol.md [MSG-2], [MSG-3]).
    pub fn decode(kind: FrameType, payload: &[u8]) -> Result<Self, MessageError> {
        let message = match kind {
            FrameType::Auth => Self::Auth(take(kind, payload)?),
            FrameType::Welcome => Self::Welcome(take(kind, payload)?),
            FrameType::Open => Self::Open(take(kind, payload)?),
            FrameType::Entries => Self::Entries(take(kind, payload)?),
            FrameType::Listed => Self::Listed(take(kind, payload)?),
            FrameType::Want => Self::Wants(take(kind, payload)?),
            FrameType::FileFailed => Self::FileFailed(take(kind, payload)?),
            FrameType::Outcomes => Self::Outcomes(take(kind, payload)?),
            FrameType::Finish => Self::Finish(take(kind, payload)?),
            FrameType::Receipt => Self::Receipt(take(kind, payload)?),
            FrameType::Ping => Self::Ping(take(kind, payload)?),
            FrameType::Pong => Self::Pong(take(kind, payload)?),
            FrameType::Close => Self::Close(take(kind, payload)?),
            FrameType::StreamEnd => Self::StreamEnd(take(kind, payload)?),
            FrameType::Unlisted => Self::Unlisted(take(kind, payload)?),
            FrameType::FlowOpen => Self::FlowOpen(take(kind, payload)?),
            FrameType::FlowAccept => Self::FlowAccept(take(kind, payload)?),
            FrameType::RawEnd => Self::RawEnd(take(kind, payload)?),
            FrameType::RawReport => Self::RawReport(take(kind, payload)?),
            FrameType::Heard => Self::Heard(take(kind, payload)?),
            FrameType::Discard => Self::Discard(take(kind, payload)?),
            FrameType::Resume => Self::Resume(take(kind, payload)?),
            FrameType::Check => Self::Check(take(kind, payload)?),
            FrameType::Sums => Self::Sums(take(kind, payload)?),
            FrameType::Data
            | FrameType::Hole
            | FrameType::FileEnd
            | FrameType::FileDigest
            | FrameType::Feedback => return Err(MessageError::Malformed(kind)),
        };
        if message.is_within_limits() { Ok(message) } else { Err(MessageError::TooLong(kind)) }
    }

    /// protocol.md [MSG-3]
    fn is_within_limits(&self) -> bool {
        let short = |text: &str| text.len() <= limits::TEXT_MAX_BYTES;
        match self {
            Self::Open(m) => match &m.intent {
                Intent::Push { target } => target.len() <= limits::PATH_MAX_BYTES,
                Intent::Pull { sources, include, exclude, .. } => {
                    paths_fit(sources)
                        && include.len() + exclude.len() <= limits::PATTERNS_MAX
                        && include.iter().chain(exclude).all(|p| p.len() <= limits::PATH_MAX_BYTES)
                }
                Intent::List { sources, .. } => paths_fit(sources),
            },
            Self::Entries(m) => {
                (1..=limits::ENTRIES_PER_BATCH).contains(&m.entries.len()) && m.entries.iter().all(entry_fits)
            }
            Self::Wants(m) => m.wants.len() <= limits::RECORDS_PER_FRAME,
            Self::Outcomes(m) => {
                m.outcomes.len() <= limits::RECORDS_PER_FRAME
                    && m.outcomes.iter().all(|(_, o)| match o {
                        Outcome::Failed { text, .. } => short(text),
                        _ => true,
                    })
            }
            Self::FileFailed(m) => short(&m.text),
            Self::Unlisted(m) => m.name.len() <= limits::UNLISTED_NAME_MAX_BYTES && short(&m.text),
            Self::Close(m) => short(&m.text),
            Self::Welcome(m) => (1..=limits::STREAMS_MAX).contains(&usize::from(m.max_streams)),
            Self::StreamEnd(m) => {
                let stream = usize::from(m.stream);
                (1..limits::STREAMS_MAX).contains(&stream) || m.stream >= limits::FLOW_NUMBER_MIN
            }
            Self::RawReport(m) => m.missing.len() <= limits::RECORDS_PER_FRAME,
            Self::Resume(m) => m.kept.len() <= limits::RESUME_SPANS_MAX,
            Self::Check(m) => (1..=limits::SUMS_PER_FRAME as u64).contains(&m.count),
            Self::Sums(m) => (1..=limits::SUMS_PER_FRAME).contains(&m.sums.len()),
            Self::FlowOpen(m) => m.connection != 0 && m.attempt <= u16::MAX - limits::FLOW_NUMBER_MIN,
            Self::Auth(_)
            | Self::Listed(_)
            | Self::Finish(_)
            | Self::Receipt(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::FlowAccept(_)
            | Self::RawEnd(_)
            | Self::Heard(_)
            | Self::Discard(_) => true,
        }
    }
}

/// Whether an OPEN fits a frame: what a person asks for may be longer than that.
pub fn open_fits(open: &Open) -> bool {
    let mut bytes = 0;
    let mut add = |part: &[u8]| bytes += 8 + part.len();
    match &open.intent {
        Intent::Push { target } => add(target),
        Intent::Pull { sources, include, exclude, .. } => {
            sources.iter().for_each(|source| add(source));
            include.iter().chain(exclude).for_each(|pattern| add(pattern.as_bytes()));
        }
        Intent::List { sources, .. } => sources.iter().for_each(|source| add(source)),
    }
    const FIXED_BYTES: usize = 64;
    bytes + FIXED_BYTES <= limits::CONTROL_MAX_BYTES && Message::Open(open.clone()).is_within_limits()
}

/// Cuts a text to what a message may carry, at a character boundary.
pub fn short_text(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::TEXT_MAX_BYTES));
    text
}

fn paths_fit(paths: &[Vec<u8>]) -> bool {
    paths.len() <= limits::SOURCES_MAX && paths.iter().all(|p| p.len() <= limits::PATH_MAX_BYTES)
}

fn entry_fits(entry: &Entry) -> bool {
    let target_fits = match &entry.kind {
        Kind::Symlink { target } => (1..=limits::PATH_MAX_BYTES).contains(&target.len()),
        _ => true,
    };
    target_fits
        && (1..=limits::PATH_MAX_BYTES).contains(&entry.name.len())
        && entry.mode <= 0o7777
        && entry.mtime.nanos < 1_000_000_000
}

type Config = bincode::config::Configuration<
    bincode::config::LittleEndian,
    bincode::config::Fixint,
    bincode::config::Limit<{ limits::CONTROL_MAX_BYTES }>,
>;

/// protocol.md [MSG-1]
const fn config() -> Config {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit()
}

fn put(message: &impl Serialize, out: &mut Vec<u8>) {
    let before = out.len();
    bincode::serde::encode_into_std_write(message, out, config())
        .expect("our own messages hold only types that bincode encodes, and a Vec takes every write");
    assert!(out.len() - before <= limits::CONTROL_MAX_BYTES, "our own messages fit a control frame");
}

/// protocol.md [MSG-4]
fn take<T: for<'a> Deserialize<'a>>(kind: FrameType, payload: &[u8]) -> Result<T, MessageError> {
    match bincode::serde::decode_from_slice(payload, config()) {
        Ok((message, read)) if read == payload.len() => Ok(message),
        _ => Err(MessageError::Malformed(kind)),
    }
}

const _: () = assert!(frame::HEADER_BYTES == 8);
