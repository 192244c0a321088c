//! Openings in memory: a client and a server over TLS and without, with every byte in the test's hands.

use std::sync::LazyLock;
use std::time::Duration;

use super::*;
use crate::{
    security::{Channel, Identity, Pin, Token},
    stream::Link,
    wire::{
        frame::{Frame, HEADER_BYTES},
        hello::FEATURES,
        message::{Auth, AuthMethod, Intent, Message, Open, Overwrite, Welcome},
    },
};

#[test]
fn the_right_token_admits_both_however_the_bytes_are_cut() {
    // protocol.md [AUTH-3], [AUTH-4], [AUTH-9]
    for is_tls in [true, false] {
        for piece in [1, 2, 7, 64, 1000, usize::MAX] {
            let mut pair = Pair::new(is_tls, Credential::Token(token(1)));
            pair.piece = piece;

            let (client, server) = pair.open(&Prover::Key(token(1))).unwrap();

            assert_eq!((client.version, client.chunk_bytes), (server.version, server.chunk_bytes));
            assert_eq!((client.session, client.max_streams), (SESSION, 4));
            assert_eq!((server.session, server.max_streams), (SESSION, 4));
            assert!(have_one_secret(&client, &server));
            assert_eq!(client.peer_key, is_tls.then(|| SERVER.key_hash()));
            assert_eq!(server.peer_key, is_tls.then(|| CLIENT.key_hash()));
            assert!(matches!(pair.server.poll_frame(), Some(Frame::Message(Message::Open(_)))));
        }
    }
}

#[test]
fn a_wrong_token_is_refused_in_words() {
    // protocol.md [AUTH-3], [CLOSE-1]
    for is_tls in [true, false] {
        for credential in [Credential::Token(token(2)), Credential::Open, Credential::Key] {
            let mut pair = Pair::new(is_tls, credential);

            let request = pair.request().unwrap();
            assert!(!request.is_proven(&Prover::Key(token(1))));
            refuse(NOW, &mut pair.server, Code::NotAllowed, "no");
            pair.carry();

            let answer = pair.client_opening.advance(NOW, &mut pair.client);
            assert!(
                matches!(answer, Err(OpeningError::Refused { code: Code::NotAllowed, text }) if text == "no")
            );
        }
    }
}

#[test]
fn a_server_that_does_not_know_the_token_is_found_out() {
    // protocol.md [AUTH-9]
    for is_tls in [true, false] {
        for wrong in [Prover::Key(token(2)), Prover::Key(ProofKey::open())] {
            let result = Pair::new(is_tls, Credential::Token(token(1))).open_unchecked(&wrong);

            assert!(matches!(result, Err(OpeningError::WrongProof)), "{result:?}");
        }
    }
}

#[test]
fn a_proof_is_of_no_use_on_another_connection() {
    // protocol.md [AUTH-2], [AUTH-3]
    for is_tls in [true, false] {
        let mut first = Pair::new(is_tls, Credential::Token(token(1)));
        let heard = first.request().unwrap();
        assert!(heard.is_proven(&Prover::Key(token(1))));

        // The same hello and the same AUTH, word for word, on a second connection.
        let mut second = Pair::new(is_tls, Credential::Open);
        let replayed = second.request_with(HELLO_OF_CLIENT.encode(), heard.auth()).unwrap();

        assert!(!replayed.is_proven(&Prover::Key(token(1))));
    }
}

#[test]
fn a_proof_cannot_be_sent_back_to_its_maker() {
    // protocol.md [AUTH-3], [AUTH-9]
    for is_tls in [true, false] {
        let mut pair = Pair::new(is_tls, Credential::Token(token(1)));
        let proof = pair.request().unwrap().auth().proof;

        let welcome = Welcome { proof, session: SESSION, max_streams: 1 };
        pair.server.queue(NOW, Frame::Message(Message::Welcome(welcome)));
        pair.carry();

        let result = pair.client_opening.advance(NOW, &mut pair.client);
        assert!(matches!(result, Err(OpeningError::WrongProof)), "{result:?}");
    }
}

#[test]
fn a_man_in_the_middle_passes_on_a_proof_that_is_wrong_there() {
    // protocol.md [AUTH-2]: he has two connections with two exporters, and passes on all that is said.
    let mut towards_client = Pair::new(true, Credential::Token(token(1)));
    let mut towards_server = Pair::new(true, Credential::Open);
    let heard = towards_client.request().unwrap();
    assert!(heard.is_proven(&Prover::Key(token(1))), "it is right where it was made");

    let passed_on = towards_server.request_with(HELLO_OF_CLIENT.encode(), heard.auth()).unwrap();

    assert!(!passed_on.is_proven(&Prover::Key(token(1))));
}

#[test]
fn only_who_knows_the_session_joins_it() {
    // protocol.md [AUTH-5]
    for is_tls in [true, false] {
        let (mine, at_server) =
            Pair::new(is_tls, Credential::Token(token(1))).open(&Prover::Key(token(1))).unwrap();
        let (foreign, _) =
            Pair::new(is_tls, Credential::Token(token(1))).open(&Prover::Key(token(1))).unwrap();
        let join = Join { session: SESSION, stream: 3 };
        let prover = Prover::Join { secret: at_server.secret, join };

        let right = Pair::new(is_tls, Credential::Join { secret: mine.secret, join }).open(&prover);
        let mut wrong = Pair::new(is_tls, Credential::Join { secret: foreign.secret, join });

        assert_eq!(right.unwrap().0.session, SESSION);
        assert!(!wrong.request().unwrap().is_proven(&prover));
    }
}

#[test]
fn a_join_is_asked_for_in_the_hello_and_proven_as_one_or_neither() {
    // protocol.md [AUTH-11]
    let join = Some(Join { session: SESSION, stream: 3 });
    for (join, method) in [(join, AuthMethod::Token), (join, AuthMethod::Open), (None, AuthMethod::Join)] {
        let mut pair = Pair::new(true, Credential::Open);
        let hello = Hello { join, ..HELLO_OF_CLIENT.clone() };

        let result = pair.request_with(hello.encode(), Auth { method, proof: [0; 32] });

        assert!(matches!(result, Err(OpeningError::Unexpected(_))), "{method:?}");
    }
}

#[test]
fn nothing_but_a_proof_follows_the_clients_hello() {
    // protocol.md [ROLE-1]
    let mut pair = Pair::new(false, Credential::Open);
    pair.client.queue_hello(NOW, HELLO_OF_CLIENT.encode());
    pair.client.queue(NOW, Frame::Message(Message::Open(push())));
    pair.carry();

    let result = pair.server_opening.advance(NOW, &mut pair.server);

    assert!(matches!(result, Err(OpeningError::Unexpected(_))));
}

#[test]
fn without_tls_the_client_waits_for_the_servers_hello_and_with_tls_it_does_not() {
    // protocol.md [AUTH-1]
    for is_tls in [true, false] {
        let mut pair = Pair::new(is_tls, Credential::Token(token(1)));
        while !pair.client.is_established() {
            pair.carry();
        }

        assert!(pair.client_opening.advance(NOW, &mut pair.client).unwrap().is_none());

        assert!(pair.client.peer_hello().is_none());
        assert_eq!(pair.client_opening.is_auth_sent(), is_tls);
    }
}

#[test]
fn peers_without_a_common_version_both_say_so() {
    // protocol.md [HELLO-5]
    for (client, server) in [((1, 1), (2, 3)), ((2, 3), (1, 1))] {
        for is_tls in [true, false] {
            let speaks = |(version_min, version_max), hello: &Hello| Hello {
                version_min,
                version_max,
                ..hello.clone()
            };
            let mut pair = Pair::with_hellos(
                is_tls,
                Credential::Open,
                speaks(client, &HELLO_OF_CLIENT),
                speaks(server, &HELLO_OF_SERVER),
            );

            let at_server = pair.request();
            refuse(NOW, &mut pair.server, Code::Incompatible, "another version");
            pair.carry();
            let at_client = pair.client_opening.advance(NOW, &mut pair.client);

            let (theirs_min, theirs_max) = client;
            assert!(matches!(at_server, Err(OpeningError::Version { theirs_min: min, theirs_max: max, .. })
                if (min, max) == (theirs_min, theirs_max)));
            let (theirs_min, theirs_max) = server;
            assert!(matches!(at_client, Err(OpeningError::Version { theirs_min: min, theirs_max: max, .. })
                if (min, max) == (theirs_min, theirs_max)));
        }
    }
}

#[test]
fn a_newer_peer_comes_down_to_what_the_older_knows() {
    // protocol.md [HELLO-5], [HELLO-6]
    let newer = Hello { version_max: 7, features: u64::MAX, chunk_max: 4 << 20, ..HELLO_OF_CLIENT.clone() };
    let small = Hello { chunk_max: 1 << 16, ..HELLO_OF_SERVER.clone() };

    let (client, server) =
        Pair::with_hellos(true, Credential::Open, newer, small).open(&Prover::Key(ProofKey::open())).unwrap();

    for opened in [client, server] {
        assert_eq!(opened.version, 1);
        assert_eq!(opened.features, FEATURES);
        assert_eq!(opened.chunk_bytes, 1 << 16);
    }
}

#[test]
fn chunks_stay_small_however_large_both_take_them() {
    // protocol.md [HELLO-6]
    let takes = |hello: &Hello| Hello { chunk_max: 4 << 20, ..hello.clone() };
    let (client, server) = (takes(&HELLO_OF_CLIENT), takes(&HELLO_OF_SERVER));

    let (client, server) = Pair::with_hellos(true, Credential::Open, client, server)
        .open(&Prover::Key(ProofKey::open()))
        .unwrap();

    assert_eq!((client.chunk_bytes, server.chunk_bytes), (1 << 20, 1 << 20));
}

#[test]
fn before_authentication_a_peer_may_send_just_so_much() {
    // protocol.md [AUTH-6]
    let hello = HELLO_OF_CLIENT.encode();
    for (early, is_taken) in [(limits::PRE_AUTH_MAX_BYTES, true), (limits::PRE_AUTH_MAX_BYTES + 1, false)] {
        for is_authenticated in [false, true] {
            let mut pair = Pair::new(false, Credential::Open);
            pair.server.handle_input(NOW, &hello).unwrap();
            if is_authenticated {
                pair.server.on_authenticated();
            }
            // A frame that may be skipped, without its last byte.
            let payload = early + 1 - hello.len() - HEADER_BYTES;
            let mut frame = u32::try_from(payload).unwrap().to_le_bytes().to_vec();
            frame.extend_from_slice(&[0xff, 0x7f, 1, 0]);
            frame.resize(early - hello.len(), 0);
            pair.server.handle_input(NOW, &frame).unwrap();

            let result = pair.server.handle_input(NOW, &[0]);

            assert_eq!(result.is_ok(), is_taken || is_authenticated, "{early} bytes: {result:?}");
        }
    }
}

/// A client and a server with their openings, and the wire between them.
struct Pair {
    client: Link,
    server: Link,
    client_opening: ClientOpening,
    server_opening: ServerOpening,
    /// Bytes are handed over in pieces of this length.
    piece: usize,
}

impl Pair {
    fn new(is_tls: bool, credential: Credential) -> Self {
        let join = if let Credential::Join { join, .. } = &credential { Some(*join) } else { None };
        let client = Hello { join, ..HELLO_OF_CLIENT.clone() };
        // Each connection of a server has its own nonce; so has a client's, but what is replayed has not.
        let nonce = [next_nonce(); 32];
        Self::with_hellos(is_tls, credential, client, Hello { nonce, ..HELLO_OF_SERVER.clone() })
    }

    fn with_hellos(is_tls: bool, credential: Credential, client: Hello, server: Hello) -> Self {
        let channels = if is_tls {
            let pin = Pin::Exact(SERVER.key_hash());
            (Channel::client_tls(&CLIENT, pin), Channel::server_tls(&SERVER))
        } else {
            (Channel::plain(), Channel::plain())
        };
        let is_join = matches!(credential, Credential::Join { .. });
        Self {
            client: Link::new(channels.0, limits::IDLE_TIMEOUT, NOW),
            server: Link::new(channels.1, limits::IDLE_TIMEOUT, NOW),
            client_opening: ClientOpening::new(credential, client, (!is_join).then(|| push().into())),
            server_opening: ServerOpening::new(server),
            piece: usize::MAX,
        }
    }

    /// Carries everything that is queued, both ways, once.
    fn carry(&mut self) -> bool {
        let there = carry(&mut self.client, &mut self.server, self.piece);
        let back = carry(&mut self.server, &mut self.client, self.piece);
        there || back
    }

    /// Goes on until the server has the client's proof.
    fn request(&mut self) -> Result<AuthRequest, OpeningError> {
        loop {
            // What the client finds out meanwhile, it finds out again when it is asked.
            let client = self.client_opening.advance(NOW, &mut self.client);
            let is_moving = self.carry();
            if let Some(request) = self.server_opening.advance(NOW, &mut self.server)? {
                self.carry();
                return Ok(request);
            }
            assert!(is_moving || self.server.wants_write(), "nothing moves any more: {client:?}");
        }
    }

    /// As [`Self::request`], from a client that says just these bytes and this proof.
    fn request_with(&mut self, hello: Vec<u8>, auth: Auth) -> Result<AuthRequest, OpeningError> {
        while !self.client.is_established() {
            self.carry();
        }
        self.client.queue_hello(NOW, hello);
        self.client.queue(NOW, Frame::Message(Message::Auth(auth)));
        self.carry();
        self.server_opening
            .advance(NOW, &mut self.server)
            .map(|request| request.expect("all of it has arrived"))
    }

    /// Opens it: the server checks the proof and gives its own, both with `prover`.
    fn open(&mut self, prover: &Prover) -> Result<(Opened, Opened), OpeningError> {
        let request = self.request()?;
        assert!(request.is_proven(prover));
        self.finish(request, prover)
    }

    /// As [`Self::open`], at a server that admits anybody.
    fn open_unchecked(&mut self, prover: &Prover) -> Result<(Opened, Opened), OpeningError> {
        let request = self.request()?;
        self.finish(request, prover)
    }

    fn finish(&mut self, request: AuthRequest, prover: &Prover) -> Result<(Opened, Opened), OpeningError> {
        let server = request.accept(NOW, &mut self.server, prover, SESSION, 4);
        loop {
            let is_moving = self.carry();
            if let Some(client) = self.client_opening.advance(NOW, &mut self.client)? {
                self.carry();
                return Ok((client, server));
            }
            assert!(is_moving, "nothing moves any more");
        }
    }
}

/// Carries what is queued at `from`; whether there was anything.
fn carry(from: &mut Link, to: &mut Link, piece: usize) -> bool {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.transmit(&mut bytes).unwrap();
    }
    for part in bytes.chunks(piece.min(bytes.len().max(1))) {
        to.handle_input(NOW, part).unwrap();
    }
    !bytes.is_empty()
}

fn have_one_secret(a: &Opened, b: &Opened) -> bool {
    let join = security::Join { session: SESSION, stream: 1 };
    let transcript = Transcript::new(Some([5; 32]), b"one", b"two");
    let proof = a.secret.prove_join(Side::Client, join, &transcript);
    b.secret.verify_join(Side::Client, join, &transcript, &proof)
}

fn token(seed: u8) -> ProofKey {
    ProofKey::from_token(&Token::from_bytes([seed; 16]))
}

fn push() -> Open {
    Open {
        intent: Intent::Push { target: Vec::new() },
        digest: DigestKind::Sha256,
        overwrite: Overwrite::Never,
        checksum: false,
        dry_run: false,
    }
}

/// Another byte with every call.
fn next_nonce() -> u8 {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
    static NEXT: AtomicU8 = AtomicU8::new(0);
    NEXT.fetch_add(1, Relaxed)
}

const NOW: Duration = Duration::ZERO;
const SESSION: [u8; 16] = [9; 16];
static CLIENT: LazyLock<Identity> = LazyLock::new(|| Identity::generate().unwrap());
static SERVER: LazyLock<Identity> = LazyLock::new(|| Identity::generate().unwrap());
static HELLO_OF_CLIENT: LazyLock<Hello> = LazyLock::new(|| Hello::ours([1; 32], None));
static HELLO_OF_SERVER: LazyLock<Hello> = LazyLock::new(|| Hello::ours([2; 32], None));
