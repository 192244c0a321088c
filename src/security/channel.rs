//! What lies between a TCP socket and frames: nothing, or TLS. Sans-IO.
//!
//! ```text
//! socket -> handle_input(bytes, sink) -> sink(plaintext) -> frame reader
//! socket <- transmit(socket)          <- send(header, body) <- frames
//! ```
//!
//! A channel has no deadline of its own and no bound on what is queued: the caller stops sending while
//! [`Channel::pending_bytes`] is high. What is sent during a TLS handshake waits for its end, and none of it leaves
//! before the peer's key has passed. After an error from [`Channel::handle_input`] the channel takes nothing more;
//! what [`Channel::transmit`] still has is the alert that tells the peer why.
//!
//! A TCP end without [`Channel::received_close_notify`] is a cut, not an end; that frames say for themselves when a
//! connection is over (CLOSE) makes it harmless.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Write};

use super::identity::{Identity, KeyHash};
use super::tls::{HANDSHAKE, Pin, Tls};
use crate::limits;

/// One connection's way from frames to the socket and back.
pub struct Channel {
    /// `None` without TLS.
    tls: Option<Box<Tls>>,
    /// What waits for the socket; with TLS, not encrypted yet.
    queue: Queue,
    /// Encrypted bytes that the socket has not taken, about.
    sealed_bytes: usize,
    /// The end of our direction is to be said behind what is queued.
    is_closing: bool,
    /// Large buffers that were sent, emptied; at most [`SPARE_MAX`].
    spare: Vec<Vec<u8>>,
}

/// Why a channel ended.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChannelError {
    /// The server shows another key than the pinned one. It was not asked to prove that it holds it.
    #[error("the other end shows the key {found}, expected was {expected}")]
    WrongKey {
        /// The pin.
        expected: KeyHash,
        /// What the server showed.
        found: KeyHash,
    },
    /// The peer shows a key but its handshake signature was made by another: somebody is in the middle.
    #[error("the other end shows the key {found} and does not hold it: somebody may be in the middle")]
    UnprovenKey {
        /// What the peer showed.
        found: KeyHash,
    },
    /// The client shows no key.
    #[error("the other end shows no key")]
    NoKey,
    /// The bytes are no TLS: another service, or a haul that runs with `--plain`.
    #[error("the other end does not speak TLS: it is not haul, or it runs with --plain")]
    NotTls,
    /// TLS, but not `haul/1` inside.
    #[error("the other end speaks TLS but not this version of haul's protocol")]
    NoCommonProtocol,
    /// A record does not decrypt, here or there: bytes were changed on the way.
    #[error("encrypted bytes arrived damaged or forged")]
    Damaged,
    /// The peer ended the connection with a TLS alert.
    #[error("the other end refused the connection")]
    Alert(#[source] rustls::Error),
    /// The peer breaks the rules of TLS or has nothing in common with us (another TLS version, say).
    #[error("no TLS connection with the other end")]
    Tls(#[source] rustls::Error),
}

impl Channel {
    /// No encryption: bytes pass through.
    pub fn plain() -> Self {
        Self::new(None)
    }

    /// TLS towards a server whose key has to fit `pin`. [`Self::transmit`] has the first bytes at once.
    pub fn client_tls(identity: &Identity, pin: Pin) -> Self {
        Self::tls(Tls::client(identity, pin))
    }

    /// TLS towards a client, which has to hold the key that it shows. Whose key is welcome is not decided here.
    pub fn server_tls(identity: &Identity) -> Self {
        Self::tls(Tls::server(identity))
    }

    pub(super) fn tls(tls: Tls) -> Self {
        Self::new(Some(Box::new(tls)))
    }

    fn new(tls: Option<Box<Tls>>) -> Self {
        Self { tls, queue: Queue::default(), sealed_bytes: 0, is_closing: false, spare: Vec::new() }
    }

    /// Takes bytes from the socket, split anywhere, and hands what they say to `sink`, in order, in slices of any
    /// length above 0. On an error, what came before it has been handed over. Input may make TLS answer: look at
    /// [`Self::wants_write`] afterwards.
    pub fn handle_input(&mut self, bytes: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<(), ChannelError> {
        match &mut self.tls {
            None if bytes.is_empty() => Ok(()),
            None => {
                sink(bytes);
                Ok(())
            }
            // Nothing but the alert leaves a channel that has failed.
            Some(tls) => tls.handle_input(bytes, sink).inspect_err(|_| self.queue = Queue::default()),
        }
    }

    /// Queues a frame: `header`, then `body`, which is moved and not copied. With TLS it is encrypted as the socket
    /// takes it, so that the encrypted bytes are still in the cache when they are written.
    pub fn send(&mut self, header: &[u8], body: Vec<u8>) {
        self.queue.send(header, body);
    }

    /// Writes queued bytes with one call to `out` and returns how many it took; 0 when nothing is queued.
    pub fn transmit(&mut self, out: &mut dyn Write) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.queue.write(out, &mut self.spare) };
        if tls.is_established() && !tls.wants_write() {
            let sealed = self.queue.with_slices(SEAL_BYTES, |slices| tls.seal(slices));
            self.sealed_bytes = sealed + sealed.div_ceil(RECORD_BYTES) * RECORD_OVERHEAD_BYTES;
            self.queue.on_taken(sealed, &mut self.spare);
            if self.is_closing && self.queue.is_empty() {
                self.is_closing = false;
                tls.close();
            }
        }
        let written = tls.transmit(out)?;
        self.sealed_bytes = if tls.wants_write() { self.sealed_bytes.saturating_sub(written) } else { 0 };
        Ok(written)
    }

    /// A large buffer that was sent, emptied for reuse: fresh memory costs more than the copy into it.
    pub fn take_spare(&mut self) -> Option<Vec<u8>> {
        self.spare.pop()
    }

    /// Whether [`Self::transmit`] has something to write.
    pub fn wants_write(&self) -> bool {
        match &self.tls {
            None => !self.queue.is_empty(),
            Some(tls) => {
                let is_waiting = !self.queue.is_empty() || self.is_closing;
                tls.wants_write() || (tls.is_established() && is_waiting)
            }
        }
    }

    /// How many bytes the socket has not taken; for TLS an estimate without the handshake's own bytes.
    pub fn pending_bytes(&self) -> usize {
        self.queue.bytes + self.sealed_bytes
    }

    /// Whether data flows: at once without TLS, with TLS when the handshake is over and the peer's key has passed.
    /// A client is there before the server has looked at its key.
    pub fn is_established(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_established())
    }

    /// Whether this channel encrypts.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The key that the peer holds; `None` without TLS and before the channel is established.
    pub fn peer_key(&self) -> Option<KeyHash> {
        self.tls.as_ref()?.peer_key()
    }

    /// 32 bytes that only this connection's two ends have; `None` without TLS and before the channel is established.
    pub fn exporter(&self) -> Option<[u8; 32]> {
        self.tls.as_ref()?.exporter()
    }

    /// Says that no further data follows what is queued. Without TLS, only the end of the TCP stream says so.
    pub fn close(&mut self) {
        match &mut self.tls {
            Some(tls) if tls.is_established() => self.is_closing = true,
            Some(tls) => tls.close(),
            None => {}
        }
    }

    /// Whether the peer has said that no further data follows; never without TLS.
    pub fn received_close_notify(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.received_close_notify())
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("tls", &self.is_tls())
            .field("established", &self.is_established())
            .field("pending_bytes", &self.pending_bytes())
            .finish()
    }
}

/// Whether a connection that starts with this byte is meant to be TLS: the content type of a handshake record.
/// haul's own hello starts with another (protocol.md [CONN-1], [HELLO-1]).
pub fn is_tls_first_byte(byte: u8) -> bool {
    byte == HANDSHAKE
}

/// What waits for the socket: whole bodies as they came, and small pieces gathered.
#[derive(Default)]
struct Queue {
    /// Not empty, each of them.
    segments: VecDeque<Vec<u8>>,
    /// Bytes of the first segment that are taken already; below its length.
    taken: usize,
    /// All bytes that wait.
    bytes: usize,
}

impl Queue {
    fn send(&mut self, header: &[u8], body: Vec<u8>) {
        self.bytes += header.len() + body.len();
        self.gather(header);
        if body.len() <= GATHER_BYTES / 4 {
            self.gather(&body);
        } else {
            self.segments.push_back(body);
        }
    }

    /// Copies a small piece behind what is queued, where there is room for it without moving anything.
    fn gather(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.segments.back_mut() {
            Some(last) if last.capacity() - last.len() >= bytes.len() => last.extend_from_slice(bytes),
            _ => {
                let mut segment = Vec::with_capacity(GATHER_BYTES.max(bytes.len()));
                segment.extend_from_slice(bytes);
                self.segments.push_back(segment);
            }
        }
    }

    fn write(&mut self, out: &mut dyn Write, spare: &mut Vec<Vec<u8>>) -> io::Result<usize> {
        if self.is_empty() {
            return Ok(0);
        }
        let written = self.with_slices(usize::MAX, |slices| out.write_vectored(slices))?;
        self.on_taken(written, spare);
        Ok(written)
    }

    /// Shows what waits, from the front, at most so many bytes.
    fn with_slices<T>(&self, most: usize, use_slices: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let (mut skip, mut left, mut count) = (self.taken, most, 0);
        for (slice, segment) in slices.iter_mut().zip(&self.segments) {
            let waiting = &segment[skip..];
            let waiting = &waiting[..waiting.len().min(left)];
            if waiting.is_empty() {
                break;
            }
            *slice = IoSlice::new(waiting);
            left -= waiting.len();
            skip = 0;
            count += 1;
        }
        use_slices(&slices[..count])
    }

    fn on_taken(&mut self, bytes: usize, spare: &mut Vec<Vec<u8>>) {
        assert!(bytes <= self.bytes, "nobody takes more than there is");
        self.bytes -= bytes;
        self.taken += bytes;
        while let Some(first) = self.segments.front() {
            if self.taken < first.len() {
                return;
            }
            self.taken -= first.len();
            let mut buffer = self.segments.pop_front().expect("it has a front");
            if buffer.capacity() >= limits::CHUNK_MIN_BYTES && spare.len() < SPARE_MAX {
                buffer.clear();
                spare.push(buffer);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

/// Emptied buffers that wait for reuse, at most.
const SPARE_MAX: usize = 4;
/// Plaintext that is encrypted and written at once, bytes: four full records. More would leave the cache, and less
/// costs system calls.
const SEAL_BYTES: usize = 4 * RECORD_BYTES;
/// Segments in one write. Linux takes 1024; more than a few megabytes no socket takes at once.
const SLICES_MAX: usize = 64;
/// Room for small pieces that are written together, bytes. Chosen arbitrarily.
const GATHER_BYTES: usize = 4096;
/// Plaintext in a full TLS record, bytes (RFC 8446, section 5.1).
const RECORD_BYTES: usize = 16 << 10;
/// What a record adds to its plaintext, bytes: header 5, content type 1, AEAD tag 16.
const RECORD_OVERHEAD_BYTES: usize = 22;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_channel_passes_bytes_through_whatever_the_writer_takes() {
        let mut channel = Channel::plain();
        let mut expected = Vec::new();
        for i in 0..200_usize {
            let body = vec![u8::try_from(i).unwrap(); [0, 3, 1500, 20_000][i % 4]];
            expected.extend_from_slice(b"head");
            expected.extend_from_slice(&body);
            channel.send(b"head", body);
        }
        assert_eq!(channel.pending_bytes(), expected.len());

        let mut out = Sluggish { taken: Vec::new(), step: 0 };
        while channel.wants_write() {
            channel.transmit(&mut out).unwrap();
            assert_eq!(channel.pending_bytes(), expected.len() - out.taken.len());
        }

        assert!(out.taken == expected);
        assert_eq!(channel.transmit(&mut out).unwrap(), 0);
    }

    #[test]
    fn a_plain_channel_hands_over_the_input_itself() {
        let mut channel = Channel::plain();
        let input = *b"frames";
        let mut seen = Vec::new();

        channel.handle_input(&input, &mut |bytes| seen.push(bytes.as_ptr())).unwrap();
        channel.handle_input(b"", &mut |_| panic!("nothing to hand over")).unwrap();

        assert_eq!(seen, [input.as_ptr()]);
    }

    #[test]
    fn a_large_body_is_queued_without_a_copy() {
        let mut queue = Queue::default();
        let body = vec![1; 1 << 20];
        let at = body.as_ptr();

        queue.send(b"header", body);

        assert_eq!(queue.segments.back().unwrap().as_ptr(), at);
    }

    #[test]
    fn a_plain_channel_is_established_and_knows_nobody() {
        let channel = Channel::plain();

        assert!(channel.is_established() && !channel.is_tls() && !channel.received_close_notify());
        assert_eq!((channel.peer_key(), channel.exporter(), channel.wants_write()), (None, None, false));
    }

    #[test]
    fn a_failing_writer_loses_nothing() {
        let mut channel = Channel::plain();
        channel.send(b"abc", Vec::new());

        assert!(channel.transmit(&mut [0_u8; 0].as_mut_slice()).is_ok_and(|n| n == 0));
        assert!(channel.transmit(&mut Broken).is_err());

        let mut out = Vec::new();
        channel.transmit(&mut out).unwrap();
        assert_eq!(out, b"abc");
    }

    #[test]
    fn only_a_handshake_record_begins_tls() {
        // protocol.md [CONN-1]
        assert!(is_tls_first_byte(0x16));
        assert!(!is_tls_first_byte(b'h') && !is_tls_first_byte(0x15) && !is_tls_first_byte(0));
    }

    /// Takes another number of bytes with every call.
    struct Sluggish {
        taken: Vec<u8>,
        step: usize,
    }

    impl Write for Sluggish {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.step += 1;
            let room = self.step * 37 % 5003;
            let bytes: Vec<u8> = slices.iter().flat_map(|s| s.iter().copied()).take(room).collect();
            self.taken.extend_from_slice(&bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
