//! The client's side of an opening.

use std::time::Duration;

use super::{Opened, OpeningError, Prover, Request, agree};
use crate::{
    security::{ProofKey, SessionSecret, Side, Transcript},
    stream::Link,
    wire::{
        frame::Frame,
        hello::{Hello, Join},
        message::{Auth, AuthMethod, Message},
    },
};

/// What a client shows to be admitted.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing: the server must be open.
    Open,
    /// The token of a ticket.
    Token(ProofKey),
    /// Its TLS key.
    Key,
    /// The secret of a session that this connection joins.
    Join {
        /// The session's secret.
        secret: SessionSecret,
        /// Which session, and the connection's number in it.
        join: Join,
    },
}

/// A connection that a client has dialled and that is not open yet.
#[derive(Debug)]
pub struct ClientOpening {
    credential: Credential,
    hello: Hello,
    hello_bytes: Vec<u8>,
    request: Option<Request>,
    is_hello_sent: bool,
    is_auth_sent: bool,
}

impl ClientOpening {
    /// An opening with our hello (its `join` must match the credential); `request` goes out right behind the proof.
    pub fn new(credential: Credential, hello: Hello, request: Option<Request>) -> Self {
        assert_eq!(matches!(credential, Credential::Join { .. }), hello.join.is_some());
        let hello_bytes = hello.encode();
        Self { credential, hello, hello_bytes, request, is_hello_sent: false, is_auth_sent: false }
    }

    /// Goes on as far as what has arrived allows. Call it once at the start and after every input.
    pub fn advance(&mut self, now: Duration, link: &mut Link) -> Result<Option<Opened>, OpeningError> {
        if !link.is_established() {
            return Ok(None);
        }
        if !self.is_hello_sent {
            self.is_hello_sent = true;
            link.queue_hello(now, self.hello_bytes.clone());
        }
        let is_tls = link.channel().exporter().is_some();
        let needs = self.request.as_ref().map_or(0, Request::needs);
        // protocol.md [AUTH-1]: without TLS, only the server's nonce makes the proof fresh.
        if !self.is_auth_sent && ((is_tls && needs == 0) || link.peer_hello().is_some()) {
            if let Some((theirs, _)) = link.peer_hello() {
                let (_, features, _) = agree(&self.hello, theirs)?;
                // protocol.md [DISCARD-1]
                if features & needs != needs {
                    return Err(OpeningError::Lacking);
                }
            }
            self.is_auth_sent = true;
            let auth = Frame::Message(Message::Auth(self.auth(link)));
            link.queue(now, auth);
            if let Some(request) = self.request.take() {
                link.queue(now, Frame::Message(request.into()));
            }
        }
        let Some((theirs, _)) = link.peer_hello() else { return Ok(None) };
        let (version, features, chunk_bytes) = agree(&self.hello, theirs)?;
        let peer_agent = theirs.agent.clone();
        match link.poll_frame() {
            None => Ok(None),
            Some(Frame::Message(Message::Welcome(welcome))) if self.is_auth_sent => {
                let transcript = self.transcript(link);
                let prover = self.prover();
                // protocol.md [AUTH-9]
                if !prover.verify(Side::Server, &transcript, &welcome.proof) {
                    return Err(OpeningError::WrongProof);
                }
                link.on_authenticated();
                Ok(Some(Opened {
                    version,
                    features,
                    chunk_bytes,
                    session: welcome.session,
                    max_streams: usize::from(welcome.max_streams),
                    secret: prover.session_secret(&transcript),
                    peer_key: link.channel().peer_key(),
                    peer_agent,
                }))
            }
            Some(Frame::Message(Message::Close(close))) => {
                Err(OpeningError::Refused { code: close.code, text: close.text })
            }
            Some(other) => Err(OpeningError::Unexpected(format!("{:?}", other.frame_type()))),
        }
    }

    /// Whether frames of the session may follow: everything that comes before them is queued.
    pub fn is_auth_sent(&self) -> bool {
        self.is_auth_sent
    }

    fn transcript(&self, link: &Link) -> Transcript {
        let server_hello = link.peer_hello().map_or(&[][..], |(_, bytes)| bytes);
        Transcript::new(link.channel().exporter(), &self.hello_bytes, server_hello)
    }

    fn prover(&self) -> Prover {
        match &self.credential {
            Credential::Open | Credential::Key => Prover::Key(ProofKey::open()),
            Credential::Token(key) => Prover::Key(key.clone()),
            Credential::Join { secret, join } => Prover::Join { secret: secret.clone(), join: *join },
        }
    }

    fn auth(&self, link: &Link) -> Auth {
        let method = match self.credential {
            Credential::Open => AuthMethod::Open,
            Credential::Key => AuthMethod::Key,
            Credential::Token(_) => AuthMethod::Token,
            Credential::Join { .. } => AuthMethod::Join,
        };
        Auth { method, proof: self.prover().prove(Side::Client, &self.transcript(link)) }
    }
}
