//! Every bound and default of haul on one page: unit, reason, relation to its neighbours.
//!
//! Anything that a peer can make grow has its bound here. Values that are part of the protocol are repeated in
//! protocol.md, section Limits ([LIMIT-1]); changing one changes the other in the same commit.

use std::time::Duration;

// --- Frames and messages -------------------------------------------------------------------------------------

/// Default payload of a data chunk, bytes. One mebibyte keeps the per-chunk cost far below the cost of hashing it.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Smallest chunk limit that a peer may announce, bytes.
pub const CHUNK_MIN_BYTES: usize = 64 << 10;
/// Largest chunk limit that a peer may announce, bytes.
pub const CHUNK_MAX_BYTES: usize = 4 << 20;
/// Largest payload of a control frame (every frame that is not DATA), bytes.
pub const CONTROL_MAX_BYTES: usize = 256 << 10;
/// Bytes in front of a data chunk's content in a DATA frame: file number and offset.
pub const DATA_HEADER_BYTES: usize = 16;
/// Largest hello, bytes, header and checksum included.
pub const HELLO_MAX_BYTES: usize = 4096;
/// Largest text in an error that a peer sends, bytes.
pub const TEXT_MAX_BYTES: usize = 1024;
/// Most plaintext bytes that a connection may send before it has authenticated. Holds a hello and one AUTH frame.
pub const PRE_AUTH_MAX_BYTES: usize = 16 << 10;
/// Most entries in one ENTRIES frame. Chosen so that a batch of long names still fits a control frame.
pub const ENTRIES_PER_BATCH: usize = 512;
/// Bytes of encoded entries after which the sender closes a batch, so that it fits a control frame.
pub const ENTRIES_BATCH_BYTES: usize = 128 << 10;
/// Most records in one FEEDBACK, WANT or OUTCOMES frame.
pub const RECORDS_PER_FRAME: usize = 1024;
/// Most paths in one OPEN of a pull or a listing.
pub const SOURCES_MAX: usize = 1024;
/// Most include and exclude patterns in one OPEN.
pub const PATTERNS_MAX: usize = 256;

/// Largest file, bytes: what a signed 64-bit file offset can say.
pub const FILE_MAX_BYTES: u64 = i64::MAX as u64;
/// Largest file that is sent, bytes: packets cannot say offsets beyond it. Hashing so many takes decades: nobody misses
/// what lies above.
pub const SENT_FILE_MAX_BYTES: u64 = (1 << 62) - 1;

// --- Names ---------------------------------------------------------------------------------------------------

/// Longest single name, bytes: what Linux and macOS file systems allow.
pub const NAME_MAX_BYTES: usize = 255;
/// Longest relative path, bytes: Linux's PATH_MAX less its NUL.
pub const PATH_MAX_BYTES: usize = 4095;
/// Longest name of something that cannot be announced, bytes; for people. Such a name may be longer than any path: a
/// directory's and a name in it.
pub const UNLISTED_NAME_MAX_BYTES: usize = PATH_MAX_BYTES + 1 + NAME_MAX_BYTES;
/// Deepest relative path, components. Bounds the directory handles that a session keeps open.
pub const PATH_MAX_DEPTH: usize = 256;
/// Longest line of a manifest, bytes, its end included: holds a digest and a path of which every byte is escaped.
pub const SUMS_LINE_MAX_BYTES: usize = 16 << 10;

// --- Listing and reading -------------------------------------------------------------------------------------

/// Names that a walk reads from a directory at once, at most.
pub const NAMES_PER_BATCH: usize = 8192;
/// Names that a walk keeps over all directories that it is in, about: past it, batches shrink to
/// `NAMES_BATCH_MIN`, so that a deep tree of large directories stays bounded too.
pub const NAMES_HELD_MAX: usize = 65_536;
/// Smallest batch of names.
pub const NAMES_BATCH_MIN: usize = 64;
/// Top-level names that a walk of several sources remembers to tell that two sources give the same one. Past it,
/// the receiver is the one who refuses the second.
pub const TOP_NAMES_MAX: usize = 65_536;
/// Longest hole in one frame, bytes: a receiver hashes it in one go.
pub const HOLE_MAX_BYTES: u64 = 64 << 20;

// --- Going on where a transfer ended -------------------------------------------------------------------------------

/// Smallest file that is gone on with, bytes. Below it, sending the file again costs less than asking.
pub const RESUME_MIN_BYTES: u64 = 4 << 20;
/// Ranges that one RESUME may name. What came nearly in order leaves a few.
pub const RESUME_SPANS_MAX: usize = 1024;
/// Block of a file that one CRC of SUMS is about, bytes.
pub const SUM_BLOCK_BYTES: u64 = 1 << 20;
/// CRCs in one SUMS frame: 16 GiB of a file in 64 KiB.
pub const SUMS_PER_FRAME: usize = 16 << 10;
/// How often a receiver asks for what is wrong with a file before it gives it up.
pub const REPAIRS_MAX: u32 = 3;
/// What has arrived of large files and is not claimed by their journals, bytes: so much is brought to the disk at once.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;
/// The same as a time, while anything arrives.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// What a server keeps of interrupted transfers, by default: nobody has come back for so long.
pub const KEEP_PARTIAL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest time for that: a transfer that is at work touches its small files far more often, and locks its large ones.
pub const KEEP_PARTIAL_MIN: Duration = Duration::from_secs(60);
/// How often a server looks for what nobody has come back for.
pub const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Largest journal that is read, bytes: a checkpoint of two ranges for every 64 MiB of 16 TiB.
pub const JOURNAL_MAX_BYTES: u64 = 16 << 20;

// --- Sessions ------------------------------------------------------------------------------------------------

/// Entries that a sender may have announced without having learned their outcome.
pub const OPEN_ENTRIES_MAX: usize = 8192;
/// Frames that a receiver takes before its target has worked them off, or its feedback has left; beyond, it stops
/// reading. A frame may carry one byte, so that the credit alone would not bound them.
pub const BACKLOG_MAX_FRAMES: usize = 65_536;
/// Hard-linked inodes that a sender remembers; further links are sent as copies and counted.
pub const HARDLINKS_MAX: usize = 65_536;
/// Connections that one session may have, the control connection included.
pub const STREAMS_MAX: usize = 16;
/// Connections up to which the automatic number of streams grows (GridFTP practice: 4 to 8).
pub const STREAMS_AUTO_MAX: usize = 8;
/// Data that a receiver lets one session keep unplaced, bytes, while few sessions run.
pub const CREDIT_MAX_BYTES: u64 = 64 << 20;
/// Data that a receiver lets one session keep unplaced, bytes, however many sessions run. Two default chunks at least.
pub const CREDIT_MIN_BYTES: u64 = 4 << 20;
/// Data that a receiver lets all of its sessions keep unplaced together, bytes, above the minimum of each.
pub const CREDIT_TOTAL_BYTES: u64 = 256 << 20;
/// Content that came before its turn and that a session keeps in memory where nothing is kept on a disk (`serve
/// --discard`), bytes: what several connections bring while one of them stalls for a while.
pub const DISCARD_HELD_BYTES: u64 = 64 << 20;
/// The same of all such sessions of a process together.
pub const DISCARD_HELD_TOTAL_BYTES: u64 = 256 << 20;
/// Content that came before its turn on its way to standard output, bytes: what the credit lets be there, and eight times
/// its least on top, since that much is granted however much is held.
pub const OUTPUT_HELD_BYTES: u64 = CREDIT_MAX_BYTES + 8 * CREDIT_MIN_BYTES;
/// Read but unsent data that a sender keeps, bytes.
pub const SEND_QUEUE_BYTES: usize = 8 << 20;
/// Data that a sender keeps for a source that cannot be read twice (standard input), bytes, until it is placed.
pub const STDIN_KEEP_BYTES: u64 = 64 << 20;
/// Received files that wait for one sync together, at most.
pub const PUBLISH_BATCH_FILES: usize = 512;
/// Bytes of received files that wait for one sync together, at most.
pub const PUBLISH_BATCH_BYTES: u64 = 256 << 20;
/// Files of a batch up to which each is synced alone; above it, the file system is synced once.
pub const SYNC_EACH_MAX: usize = 8;
/// Peak resident memory of a process with one session, sender or receiver, bytes, whatever is moved: queues and
/// credit above, listings and names below, and the program itself. A server grants `CREDIT_TOTAL_BYTES` and
/// `CREDIT_MIN_BYTES` for each session on top.
pub const RSS_MAX_BYTES: u64 = 200 << 20;
/// Failures kept by name in a result; further ones are only counted.
pub const FAILURES_KEPT: usize = 1000;
/// Sessions that a server runs at once by default.
pub const SESSIONS_MAX: usize = 512;
/// Connections that a server keeps before they have authenticated; a further one evicts the oldest.
pub const UNAUTHENTICATED_MAX: usize = 256;

// --- The UDP flow ---------------------------------------------------------------------------------------------

/// Number of the first flow of a session where flows and connections are numbered together.
pub const FLOW_NUMBER_MIN: u16 = 256;
/// Most ranges of placed chunks above the floor in one acknowledgement. Chunks are placed nearly in order.
pub const PLACED_RANGES_MAX: usize = 32;
/// Packet numbers that one end of a flow remembers at most, from the newest down: several round trips at 10 Gbit/s, in
/// 128 KiB of bits.
pub const PACKET_WINDOW_MAX: u64 = 1 << 20;
/// Longest time that a receiver's word about its own delay is believed for, microseconds.
pub const ACK_DELAY_MAX_US: u64 = 10_000_000;
/// Packets that one key may seal. What AES-GCM gives away grows with the square of what it encrypts; with packets of
/// 64 KiB, the odds to tell it from noise are below 2^-57 up to here (RFC 9001, section 6.6 and appendix B.1).
pub const KEY_MAX_PACKETS: u64 = 1 << 23;
/// Packets after which a key is changed. Half of what is allowed, so that there is time to hear that the peer has it.
pub const KEY_UPDATE_PACKETS: u64 = 1 << 22;
/// Packets that may fail to open in a flow's direction, over all its keys. Each may be a guess at a tag; with packets
/// of 64 KiB, forging one stays out of reach up to here (RFC 9001, section 6.6 and appendix B.1).
pub const FORGERIES_MAX: u64 = 1 << 52;
/// Receive buffer that a UDP socket asks for, bytes: 25 ms at 10 Gbit/s, while the receiving thread is held up.
pub const UDP_RECV_BUFFER_BYTES: usize = 32 << 20;
/// Granted receive buffer below which a person is told how to raise it, bytes: 30 ms at 1 Gbit/s, and what current
/// kernels grant unasked.
pub const UDP_RECV_BUFFER_FEW_BYTES: usize = 4 << 20;
/// Send buffer that a UDP socket asks for, bytes. Pacing keeps it nearly empty; it takes up what a busy device holds
/// back for some milliseconds.
pub const UDP_SEND_BUFFER_BYTES: usize = 4 << 20;
/// Largest content of a datagram over IPv4, bytes: a packet of 65,535 less the headers of IP and UDP.
pub const DATAGRAM_MAX_BYTES: usize = 65_507;

/// A flow on which nothing of the peer was heard for so long after its opening is blocked somewhere.
pub const FLOW_BLOCKED_AFTER: Duration = Duration::from_secs(3);

/// Frames of the control connection after which the peer is told that they were heard.
pub const HEARD_EVERY_FRAMES: u64 = 64;
/// Frames of the control connection that are kept until the peer has heard them: far more than a connection holds.
pub const CONTROL_LOG_MAX_FRAMES: usize = 65_536;
/// What these may take, bytes.
pub const CONTROL_LOG_MAX_BYTES: usize = 32 << 20;

// --- The emulator ---------------------------------------------------------------------------------------------

/// Flows that are counted apart in one direction of an emulated link; the rest is counted together. Chosen
/// arbitrarily: more than anyone reads.
pub const LINK_FLOWS_MAX: usize = 1024;
/// Packets that one direction of an emulated link keeps until their moment, bytes of their buffers. Two seconds of
/// what the emulator can carry.
pub const LINK_HELD_MAX_BYTES: usize = 512 << 20;
/// Intervals of which one direction of an emulated link keeps what happened in them; later ones are not kept. A day in
/// seconds, in some megabytes.
pub const LINK_SAMPLES_MAX: usize = 100_000;
/// Counters of the kernel that a host tells at its end. Current kernels have some 400, of which few are not zero.
pub const LINK_COUNTERS_MAX: usize = 512;

// --- Times ---------------------------------------------------------------------------------------------------

/// From accept until a connection has authenticated, absolute.
pub const AUTH_DEADLINE: Duration = Duration::from_secs(10);
/// From dialling until the peer has said its hello.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between attempts on the addresses of one ticket (RFC 8305, section 5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Without anything to send, a PING goes out after this time.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Smallest `--timeout`: holds several heartbeats, so that a slow or busy peer is not taken for a dead one.
pub const IDLE_TIMEOUT_MIN: Duration = Duration::from_secs(3);
/// Default of `--timeout`: nothing received for so long means that the peer is gone. Holds several heartbeats.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a receiver waits for the sender's acknowledgement of the last word.
pub const LINGER: Duration = Duration::from_secs(5);

/// Content goes on over UDP for so long after the last sign of life of the control connection.
pub const REJOIN_WITHIN: Duration = Duration::from_secs(10);
/// A client whose control connection is silent for so long, while UDP is not, dials another one: three heartbeats.
pub const REJOIN_AFTER: Duration = Duration::from_secs(3);
/// A flow that was not heard for so long does not keep a session without its control connection.
pub const FLOW_FRESH: Duration = Duration::from_secs(3);

/// A session from which nothing came for so long makes way for another one of the same client: three heartbeats.
pub const GONE_AFTER: Duration = Duration::from_secs(3);
/// After the loss of a connection, a client tries for so long to come back, by default.
pub const RETRY_FOR: Duration = Duration::from_secs(60);
/// Pause before the first of these attempts; each further one is twice as long.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between them.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Default port, TCP and UDP.
pub const PORT: u16 = 7420;

const _: () = assert!(CHUNK_MIN_BYTES <= CHUNK_BYTES && CHUNK_BYTES <= CHUNK_MAX_BYTES);
const _: () = assert!(SENT_FILE_MAX_BYTES <= FILE_MAX_BYTES);
const _: () = assert!(CREDIT_MIN_BYTES >= CHUNK_MAX_BYTES as u64, "one chunk always fits the credit");
const _: () = assert!(CREDIT_MIN_BYTES <= CREDIT_MAX_BYTES && CREDIT_MAX_BYTES <= CREDIT_TOTAL_BYTES);
const _: () = assert!(DISCARD_HELD_BYTES <= DISCARD_HELD_TOTAL_BYTES);
const _: () = assert!(DISCARD_HELD_BYTES + CREDIT_MAX_BYTES <= RSS_MAX_BYTES);
const _: () = assert!(OUTPUT_HELD_BYTES + CREDIT_MAX_BYTES <= RSS_MAX_BYTES);
const _: () = assert!(RESUME_MIN_BYTES >= CHUNK_BYTES as u64 && RESUME_MIN_BYTES <= CHECKPOINT_BYTES);
const _: () = assert!(SUMS_PER_FRAME * 4 + 64 <= CONTROL_MAX_BYTES);
const _: () = assert!(RESUME_SPANS_MAX * 16 + 64 <= CONTROL_MAX_BYTES);
const _: () = assert!(
    GONE_AFTER.as_millis() >= 3 * HEARTBEAT.as_millis()
        && GONE_AFTER.as_millis() <= IDLE_TIMEOUT_MIN.as_millis()
);
const _: () = assert!(RETRY_PAUSE_MIN.as_millis() <= RETRY_PAUSE_MAX.as_millis());
const _: () = assert!(HELLO_MAX_BYTES < PRE_AUTH_MAX_BYTES);
const _: () = assert!(SEND_QUEUE_BYTES >= CHUNK_MAX_BYTES);
const _: () = assert!(STDIN_KEEP_BYTES >= CHUNK_MAX_BYTES as u64);
const _: () = assert!(ENTRIES_BATCH_BYTES + PATH_MAX_BYTES * 2 + 256 <= CONTROL_MAX_BYTES);
const _: () = assert!(NAMES_BATCH_MIN <= NAMES_PER_BATCH && NAMES_PER_BATCH <= NAMES_HELD_MAX);
const _: () =
    assert!(NAMES_BATCH_MIN * PATH_MAX_DEPTH <= NAMES_HELD_MAX, "the smallest batches fit any depth");
const _: () = assert!(STREAMS_AUTO_MAX <= STREAMS_MAX);
const _: () = assert!(RECORDS_PER_FRAME * 24 + 16 <= CONTROL_MAX_BYTES);
const _: () = assert!(SUMS_LINE_MAX_BYTES >= 2 * PATH_MAX_BYTES + 128, "what we write, we read");
const _: () = assert!(KEY_UPDATE_PACKETS * 2 <= KEY_MAX_PACKETS);
const _: () = assert!(UDP_RECV_BUFFER_FEW_BYTES <= UDP_RECV_BUFFER_BYTES);
const _: () =
    assert!(UDP_SEND_BUFFER_BYTES >= 2 * DATAGRAM_MAX_BYTES, "one send never fills the buffer alone");
const _: () = assert!(HEARTBEAT.as_secs() * 3 <= IDLE_TIMEOUT_MIN.as_secs());
const _: () = assert!(IDLE_TIMEOUT_MIN.as_secs() <= IDLE_TIMEOUT.as_secs());
const _: () = assert!(PUBLISH_BATCH_FILES <= OPEN_ENTRIES_MAX / 2, "listing goes on while a batch is synced");
