//! One connection: bytes in, frames out, and back; notices when the peer is gone.

use std::{collections::VecDeque, io, time::Duration};

use crate::{
    integrity::crc32c::Crc32c,
    limits,
    security::{Channel, ChannelError},
    wire::{
        frame::{self, Frame, FrameError, FrameReader},
        hello::{Hello, HelloError},
        message::{Message, Ping},
    },
};

/// What ended a connection, and whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The TLS layer failed: not haul, another key, tampering.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The first bytes are no hello.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More bytes than a peer may send before it has authenticated.
    #[error("it sent too much before it had authenticated")]
    TooMuchBeforeAuth,
    /// Nothing came for the whole idle time, heartbeats included.
    #[error("nothing was heard from it for {} s, although it was asked", .0.as_secs())]
    Silent(Duration),
}

/// One connection of a session. Time is a `Duration` since any fixed start.
#[derive(Debug)]
pub struct Link {
    channel: Channel,
    has_checksums: bool,
    frames: FrameReader,
    /// Bytes of the peer's hello so far; `None` once it is read.
    hello_bytes: Option<Vec<u8>>,
    peer_hello: Option<(Hello, Vec<u8>)>,
    is_authenticated: bool,
    /// Plaintext bytes received before authentication.
    early_bytes: usize,
    inbox: VecDeque<Frame>,
    idle_timeout: Duration,
    last_heard: Duration,
    last_sent: Duration,
    /// Bytes to and from the socket.
    wire_bytes: u64,
    ping: u64,
}

impl Link {
    /// A connection over `channel` that began at `now`.
    pub fn new(channel: Channel, idle_timeout: Duration, now: Duration) -> Self {
        let has_checksums = !channel.is_tls();
        Self {
            channel,
            has_checksums,
            frames: FrameReader::before_auth(has_checksums, limits::CHUNK_MAX_BYTES),
            hello_bytes: Some(Vec::new()),
            peer_hello: None,
            is_authenticated: false,
            early_bytes: 0,
            inbox: VecDeque::new(),
            idle_timeout,
            last_heard: now,
            last_sent: now,
            wire_bytes: 0,
            ping: 0,
        }
    }

    /// Takes bytes from the socket.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) -> Result<(), LinkError> {
        // protocol.md [AUTH-6]: what came before was looked at, and it held no proof.
        if !self.is_authenticated && self.early_bytes > limits::PRE_AUTH_MAX_BYTES {
            return Err(LinkError::TooMuchBeforeAuth);
        }
        self.last_heard = now;
        self.wire_bytes += bytes.len() as u64;
        let mut result = Ok(());
        let Self { channel, frames, hello_bytes, peer_hello, is_authenticated, early_bytes, .. } = self;
        let mut sink = |plain: &[u8]| {
            if result.is_ok() {
                result = take_plain(plain, frames, hello_bytes, peer_hello, *is_authenticated, early_bytes);
            }
        };
        channel.handle_input(bytes, &mut sink)?;
        result?;
        while let Some(frame) = self.frames.poll_frame() {
            match frame {
                // protocol.md [PING-1]
                Frame::Message(Message::Ping(ping)) => {
                    // A stranger gets none, and a peer that asks and does not read its answers gets no more of them.
                    if self.is_authenticated && self.pending_bytes() <= limits::CONTROL_MAX_BYTES {
                        self.queue(now, Frame::Message(Message::Pong(ping)));
                    }
                }
                Frame::Message(Message::Pong(_)) => {}
                frame => self.inbox.push_back(frame),
            }
        }
        Ok(())
    }

    /// The next frame for the session.
    pub fn poll_frame(&mut self) -> Option<Frame> {
        self.inbox.pop_front()
    }

    /// Whether what came last ended inside a frame.
    pub fn is_inside_frame(&self) -> bool {
        !self.frames.is_between_frames()
    }

    /// The peer's hello and its bytes, once it is there.
    pub fn peer_hello(&self) -> Option<&(Hello, Vec<u8>)> {
        self.peer_hello.as_ref()
    }

    /// Whether data may be sent: the TLS handshake is over.
    pub fn is_established(&self) -> bool {
        self.channel.is_established()
    }

    /// Lifts the cap on what the peer may send.
    pub fn on_authenticated(&mut self) {
        self.is_authenticated = true;
    }

    /// The TLS channel, for its exporter and the peer's key.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Queues our hello.
    pub fn queue_hello(&mut self, now: Duration, bytes: Vec<u8>) {
        self.last_sent = now;
        self.channel.send(&[], bytes);
    }

    /// Queues a frame. The content of DATA is moved, not copied, on a connection without TLS.
    pub fn queue(&mut self, now: Duration, frame: Frame) {
        self.last_sent = now;
        let (head, body) = match frame {
            Frame::Data { file, offset, bytes } => {
                (frame::data_header(file, offset, bytes.len()).to_vec(), bytes)
            }
            frame => (frame.encode(), Vec::new()),
        };
        let checksum = self.has_checksums.then(|| {
            let mut crc = Crc32c::new();
            crc.update(&head);
            crc.update(&body);
            crc.finish().to_le_bytes()
        });
        self.channel.send(&head, body);
        if let Some(checksum) = checksum {
            self.channel.send(&checksum, Vec::new());
        }
    }

    /// Whether a buffer is welcome for later DATA frames.
    pub fn wants_spare(&self) -> bool {
        self.frames.wants_spare()
    }

    /// Gives a buffer back for later DATA frames.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.frames.recycle(buffer);
    }

    /// A large buffer whose frame was sent, emptied for reuse.
    pub fn take_spare(&mut self) -> Option<Vec<u8>> {
        self.channel.take_spare()
    }

    /// Ends our half of the TLS channel behind everything queued.
    pub fn close(&mut self) {
        self.channel.close();
    }

    /// Writes queued bytes to the socket, once.
    pub fn transmit(&mut self, out: &mut dyn io::Write) -> io::Result<usize> {
        let written = self.channel.transmit(out)?;
        self.wire_bytes += written as u64;
        Ok(written)
    }

    /// Bytes queued for the socket, about.
    pub fn pending_bytes(&self) -> usize {
        self.channel.pending_bytes()
    }

    /// Whether there is anything to write.
    pub fn wants_write(&self) -> bool {
        self.channel.wants_write()
    }

    /// Bytes moved to and from the socket.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// The socket was left unread on purpose: its silence says nothing about the peer.
    pub fn on_unread(&mut self, now: Duration) {
        self.last_heard = now;
    }

    /// When the last byte came, or the socket was last left unread on purpose.
    pub fn last_heard(&self) -> Duration {
        self.last_heard
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Duration {
        (self.last_heard + self.idle_timeout).min(self.last_sent + limits::HEARTBEAT)
    }

    /// The time of [`Self::poll_timeout`] has come: asks a silent peer, gives up on a dead one.
    pub fn handle_timeout(&mut self, now: Duration) -> Result<(), LinkError> {
        // protocol.md [PING-3]
        if now >= self.last_heard + self.idle_timeout {
            return Err(LinkError::Silent(self.idle_timeout));
        }
        // protocol.md [PING-2]: asking also tells the peer that we live.
        if now >= self.last_sent + limits::HEARTBEAT {
            self.last_sent = now;
            if self.is_authenticated {
                self.ping += 1;
                self.queue(now, Frame::Message(Message::Ping(Ping { number: self.ping })));
            }
        }
        Ok(())
    }
}

/// Plaintext: the hello first, then frames.
fn take_plain(
    plain: &[u8],
    frames: &mut FrameReader,
    hello_bytes: &mut Option<Vec<u8>>,
    peer_hello: &mut Option<(Hello, Vec<u8>)>,
    is_authenticated: bool,
    early_bytes: &mut usize,
) -> Result<(), LinkError> {
    if !is_authenticated {
        *early_bytes = early_bytes.saturating_add(plain.len());
    }
    let Some(so_far) = hello_bytes else {
        // protocol.md [ERR-2]: an error here ends the connection.
        return Ok(frames.handle_input(plain)?);
    };
    so_far.extend_from_slice(plain);
    let Some((hello, len)) = Hello::decode(so_far)? else { return Ok(()) };
    let rest = so_far.split_off(len);
    let bytes = std::mem::take(so_far);
    *peer_hello = Some((hello, bytes));
    *hello_bytes = None;
    Ok(frames.handle_input(&rest)?)
}
