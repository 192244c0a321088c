//! What two peers say to each other before and around the data: who they are, what is wanted. Sans-IO.
//!
//! ```text
//!   client                               server
//!     │  HELLO, AUTH, OPEN, ENTRIES…  ►    │    one flight on TLS; without TLS the client waits for the
//!     │  ◄  HELLO, WELCOME, WANT…          │    server's HELLO before its AUTH
//!     │     sender and receiver now talk (`transfer`), whoever connected
//!     │  FINISH ►  ◄ RECEIPT   CLOSE ►     │    sender, receiver, sender
//! ```
//!
//! [`ClientOpening`] and [`ServerOpening`] drive a [`Link`](crate::stream::Link) until both ends have proven what
//! they must; then the link carries frames of the session.

mod client;
mod server;
#[cfg(test)]
mod tests;

pub use client::{ClientOpening, Credential};
pub use server::{AuthRequest, ServerOpening, refuse};

use crate::{
    limits,
    security::{self, KeyHash, ProofKey, SessionSecret, Side, Transcript},
    stream::LinkError,
    wire::{
        hello::{self, FEATURE_DISCARD, Hello, Join},
        message::{Code, DigestKind, Discard, Message, Open},
    },
};

/// What a client asks for in the first frame behind its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A push, a pull or a listing.
    Open(Open),
    /// A push of which nothing is kept.
    Discard(Discard),
}

impl Request {
    /// Features that the server must have, or it would take the request for something else or not at all.
    fn needs(&self) -> u64 {
        match self {
            Self::Open(_) => 0,
            Self::Discard(_) => FEATURE_DISCARD,
        }
    }

    /// The digest that proves every file of the session.
    pub fn digest(&self) -> DigestKind {
        match self {
            Self::Open(open) => open.digest,
            Self::Discard(discard) => discard.digest,
        }
    }

    /// Whether nothing is to change.
    pub fn is_dry_run(&self) -> bool {
        matches!(self, Self::Open(Open { dry_run: true, .. }))
    }
}

impl From<Open> for Request {
    fn from(open: Open) -> Self {
        Self::Open(open)
    }
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        match request {
            Request::Open(open) => Self::Open(open),
            Request::Discard(discard) => Self::Discard(discard),
        }
    }
}

/// What both ends know once a connection is open.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The agreed protocol version.
    pub version: u16,
    /// Feature bits that both sides have.
    pub features: u64,
    /// Largest content of a DATA frame that both sides take, bytes.
    pub chunk_bytes: usize,
    /// Names the session.
    pub session: [u8; 16],
    /// Connections that the session may have, this one included.
    pub max_streams: usize,
    /// Admits further connections.
    pub secret: SessionSecret,
    /// The peer's TLS key; `None` without TLS.
    pub peer_key: Option<KeyHash>,
    /// The peer's program, as it calls itself.
    pub peer_agent: String,
}

/// Why a connection did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpeningError {
    /// The connection failed or spoke no haul.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No common version.
    #[error(
        "it speaks haul protocol {theirs_min} to {theirs_max}, and this program {ours_min} to {ours_max}; update the older one"
    )]
    Version {
        /// Lowest version of the peer.
        theirs_min: u16,
        /// Highest version of the peer.
        theirs_max: u16,
        /// Lowest version of this program.
        ours_min: u16,
        /// Highest version of this program.
        ours_max: u16,
    },
    /// The peer closed the connection and said why.
    #[error("{text}")]
    Refused {
        /// Why.
        code: Code,
        /// Why, in words; they come from the peer and are to be escaped before they are shown.
        text: String,
    },
    /// The server could not prove that it knows the ticket.
    #[error("it could not prove that it knows this ticket: it is not the machine that made it")]
    WrongProof,
    /// The server does not know what it was to be asked for.
    #[error("it does not know --discard; update the haul there")]
    Lacking,
    /// Something else than the protocol's next message.
    #[error("it sent {0} during the opening")]
    Unexpected(String),
}

/// What the proofs of one connection are made with.
#[derive(Clone, Debug)]
pub enum Prover {
    /// A ticket's token, or nothing.
    Key(ProofKey),
    /// The secret of the session that the connection joins.
    Join {
        /// The session's secret.
        secret: SessionSecret,
        /// Which session, and the connection's number in it.
        join: Join,
    },
}

impl Prover {
    fn prove(&self, side: Side, transcript: &Transcript) -> [u8; 32] {
        match self {
            Self::Key(key) => key.prove(side, transcript),
            Self::Join { secret, join } => secret.prove_join(side, proof_join(*join), transcript),
        }
    }

    fn verify(&self, side: Side, transcript: &Transcript, proof: &[u8; 32]) -> bool {
        match self {
            Self::Key(key) => key.verify(side, transcript, proof),
            Self::Join { secret, join } => secret.verify_join(side, proof_join(*join), transcript, proof),
        }
    }

    /// The secret of the session that a control connection opens; a joining connection has it already.
    fn session_secret(&self, transcript: &Transcript) -> SessionSecret {
        match self {
            Self::Key(key) => key.session_secret(transcript),
            Self::Join { secret, .. } => secret.clone(),
        }
    }
}

fn proof_join(join: Join) -> security::Join {
    security::Join { session: join.session, stream: join.stream }
}

/// protocol.md [HELLO-5], [HELLO-6]
fn agree(ours: &Hello, theirs: &Hello) -> Result<(u16, u64, usize), OpeningError> {
    let version = hello::agreed_version(ours, theirs).ok_or(OpeningError::Version {
        theirs_min: theirs.version_min,
        theirs_max: theirs.version_max,
        ours_min: ours.version_min,
        ours_max: ours.version_max,
    })?;
    let chunk = ours.chunk_max.min(theirs.chunk_max);
    let chunk = usize::try_from(chunk).unwrap_or(limits::CHUNK_MAX_BYTES).min(limits::CHUNK_BYTES);
    Ok((version, ours.features & theirs.features, chunk))
}
