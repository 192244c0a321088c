//! The server's side of an opening.

use std::time::Duration;

use super::{Opened, OpeningError, Prover, agree};
use crate::{
    security::{KeyHash, Side, Transcript},
    stream::Link,
    wire::{
        frame::Frame,
        hello::{Hello, Join},
        message::{Auth, AuthMethod, Close, Code, Message, Welcome, short_text},
    },
};

/// A connection that a server has accepted and that is not open yet.
#[derive(Debug)]
pub struct ServerOpening {
    hello: Hello,
    hello_bytes: Vec<u8>,
    is_hello_sent: bool,
}

/// What a client asks to be admitted with. Whoever decides checks it with [`Self::is_proven`], then answers with
/// [`Self::accept`] or [`refuse`].
#[derive(Debug)]
pub struct AuthRequest {
    auth: Auth,
    transcript: Transcript,
    client_key: Option<KeyHash>,
    join: Option<Join>,
    previous: Option<[u8; 16]>,
    agreed: (u16, u64, usize),
    agent: String,
}

impl ServerOpening {
    /// An opening with our hello.
    pub fn new(hello: Hello) -> Self {
        assert!(hello.join.is_none());
        let hello_bytes = hello.encode();
        Self { hello, hello_bytes, is_hello_sent: false }
    }

    /// Goes on as far as what has arrived allows, until the client's proof is there. Call it after every input.
    pub fn advance(&mut self, now: Duration, link: &mut Link) -> Result<Option<AuthRequest>, OpeningError> {
        if !link.is_established() {
            return Ok(None);
        }
        let Some((theirs, client_hello)) = link.peer_hello() else { return Ok(None) };
        let agreed = agree(&self.hello, theirs);
        let (join, previous, agent) = (theirs.join, theirs.previous, theirs.agent.clone());
        let transcript = Transcript::new(link.channel().exporter(), client_hello, &self.hello_bytes);
        // protocol.md [HELLO-5]: our hello goes out even without a common version, so that the client can say so.
        if !self.is_hello_sent {
            self.is_hello_sent = true;
            link.queue_hello(now, self.hello_bytes.clone());
        }
        let agreed = agreed?;
        match link.poll_frame() {
            None => Ok(None),
            // protocol.md [AUTH-11]: a join is asked for in the hello and proven as one, or neither.
            Some(Frame::Message(Message::Auth(auth)))
                if join.is_some() == (auth.method == AuthMethod::Join) =>
            {
                let client_key = link.channel().peer_key();
                Ok(Some(AuthRequest { auth, transcript, client_key, join, previous, agreed, agent }))
            }
            Some(Frame::Message(Message::Close(close))) => {
                Err(OpeningError::Refused { code: close.code, text: close.text })
            }
            Some(other) => Err(OpeningError::Unexpected(format!("{:?}", other.frame_type()))),
        }
    }
}

impl AuthRequest {
    /// How the client wants to be admitted.
    pub fn method(&self) -> AuthMethod {
        self.auth.method
    }

    /// The client's TLS key, which it has proven in the handshake; `None` without TLS.
    pub fn client_key(&self) -> Option<KeyHash> {
        self.client_key
    }

    /// Which session the connection wants to join.
    pub fn join(&self) -> Option<Join> {
        self.join
    }

    /// Which session of the same client this one takes the place of.
    pub fn previous(&self) -> Option<[u8; 16]> {
        self.previous
    }

    /// What the client sent, for whoever wants to repeat it.
    #[cfg(test)]
    pub(super) fn auth(&self) -> Auth {
        self.auth.clone()
    }

    /// Whether the proof was made with this for this connection. Takes the same time for every wrong proof.
    pub fn is_proven(&self, prover: &Prover) -> bool {
        prover.verify(Side::Client, &self.transcript, &self.auth.proof)
    }

    /// Admits the client to `session` and gives our own proof.
    pub fn accept(
        self,
        now: Duration,
        link: &mut Link,
        prover: &Prover,
        session: [u8; 16],
        max_streams: usize,
    ) -> Opened {
        let proof = prover.prove(Side::Server, &self.transcript);
        let streams = u16::try_from(max_streams).expect("limits::STREAMS_MAX fits");
        link.on_authenticated();
        link.queue(now, Frame::Message(Message::Welcome(Welcome { proof, session, max_streams: streams })));
        let (version, features, chunk_bytes) = self.agreed;
        Opened {
            version,
            features,
            chunk_bytes,
            session,
            max_streams,
            secret: prover.session_secret(&self.transcript),
            peer_key: self.client_key,
            peer_agent: self.agent,
        }
    }
}

/// Tells the client why it is not admitted, or why the session ends (protocol.md [CLOSE-1]).
pub fn refuse(now: Duration, link: &mut Link, code: Code, text: impl Into<String>) {
    let close = Close { code, text: short_text(text.into()) };
    link.queue(now, Frame::Message(Message::Close(close)));
    link.close();
}
