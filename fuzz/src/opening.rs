//! Opening a connection, at both ends, with a stranger.

use std::sync::LazyLock;
use std::time::Duration;

use haul::limits;
use haul::security::{Channel, Identity, KeyHash, Pin, ProofKey, Token, Transcript};
use haul::session::{ClientOpening, Credential, OpeningError, Prover, Request, ServerOpening, refuse};
use haul::stream::Link;
use haul::wire::hello::{FEATURES, Hello, Join};
use haul::wire::message::{AuthMethod, Code, DigestKind, Discard, Intent, Open, Overwrite};

use super::bytes::Bytes;
use super::cuts::pieces;
use super::stream_of;

/// A stranger's bytes, wherever they are cut, come to the same, and nobody is admitted who does not know the secret.
pub fn opening(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let (is_client, is_tls) = (bytes.coin(), bytes.below(16) == 0);
    let choice = bytes.byte();
    let seed = bytes.half();
    let stream = if is_tls { bytes.rest().to_vec() } else { stream_of::opening(&mut bytes) };

    let run = |pieces: &[&[u8]]| match is_client {
        true => as_client(is_tls, choice, pieces),
        false => as_server(is_tls, choice, pieces),
    };
    let (at_once, cut) = (run(&[&stream]), run(&pieces(&stream, seed)));

    // What comes too early for its size is judged by what was read before.
    if stream.len() > limits::PRE_AUTH_MAX_BYTES {
        return;
    }
    // What lies behind the end is read at once with it, and may be the fault.
    if at_once != End::Failed || cut == End::Waiting {
        assert_eq!(at_once, cut);
    }
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// More is needed.
    Waiting,
    /// A server was asked, and did not believe it.
    Asked(AuthMethod, Option<Join>),
    /// The other end was admitted, without a secret.
    Admitted,
    /// The other end said no.
    Refused,
    /// The other end is at fault.
    Failed,
}

fn as_server(is_tls: bool, choice: u8, pieces: &[&[u8]]) -> End {
    let channel = if is_tls { Channel::server_tls(&IDENTITY) } else { Channel::plain() };
    let mut link = Link::new(channel, limits::IDLE_TIMEOUT, NOW);
    let mut opening = ServerOpening::new(Hello { features: features(choice), ..Hello::ours([2; 32], None) });
    for piece in pieces {
        if link.handle_input(NOW, piece).is_err() {
            return End::Failed;
        }
        match opening.advance(NOW, &mut link) {
            Ok(None) => {}
            Err(OpeningError::Refused { .. }) => return End::Refused,
            Err(_) => return End::Failed,
            Ok(Some(request)) => {
                assert!(!request.is_proven(&Prover::Key(secret())), "nobody knows it");
                assert_eq!(request.join().is_some(), request.method() == AuthMethod::Join);
                assert_eq!(request.client_key(), None::<KeyHash>);
                if let Some(join) = request.join() {
                    let secret = secret().session_secret(&Transcript::new(None, b"", b""));
                    assert!(!request.is_proven(&Prover::Join { secret, join }));
                }
                let end = match request.is_proven(&Prover::Key(ProofKey::open())) {
                    true => End::Admitted,
                    false => End::Asked(request.method(), request.join()),
                };
                if end == End::Admitted {
                    request.accept(NOW, &mut link, &Prover::Key(ProofKey::open()), [9; 16], 4);
                } else {
                    refuse(NOW, &mut link, Code::NotAllowed, "no");
                }
                return end;
            }
        }
    }
    End::Waiting
}

fn as_client(is_tls: bool, choice: u8, pieces: &[&[u8]]) -> End {
    let channel = if is_tls {
        Channel::client_tls(&IDENTITY, Pin::Exact(IDENTITY.key_hash()))
    } else {
        Channel::plain()
    };
    let mut link = Link::new(channel, limits::IDLE_TIMEOUT, NOW);
    let join = Join { session: [9; 16], stream: 3 };
    let credential = match choice % 4 {
        0 => Credential::Open,
        1 => Credential::Key,
        2 => Credential::Token(secret()),
        _ => Credential::Join { secret: secret().session_secret(&Transcript::new(None, b"", b"")), join },
    };
    let has_secret = matches!(credential, Credential::Token(_) | Credential::Join { .. });
    let is_join = matches!(credential, Credential::Join { .. });
    let ours = Hello::ours([1; 32], is_join.then_some(join));
    let request = (!is_join).then(|| request(choice & 16 != 0));
    let mut opening = ClientOpening::new(credential, Hello { features: features(choice), ..ours }, request);
    for piece in [&[][..]].iter().chain(pieces) {
        if link.handle_input(NOW, piece).is_err() {
            return End::Failed;
        }
        match opening.advance(NOW, &mut link) {
            Ok(None) => assert!(is_tls || !opening.is_auth_sent() || link.peer_hello().is_some()),
            Ok(Some(opened)) => {
                assert!(!has_secret, "nobody knows it");
                assert!((1..=limits::STREAMS_MAX).contains(&opened.max_streams));
                assert!(opened.chunk_bytes <= limits::CHUNK_BYTES);
                return End::Admitted;
            }
            Err(OpeningError::Refused { .. }) => return End::Refused,
            Err(_) => return End::Failed,
        }
    }
    End::Waiting
}

fn request(is_discard: bool) -> Request {
    let digest = DigestKind::Sha256;
    if is_discard {
        return Request::Discard(Discard { digest });
    }
    let intent = Intent::Push { target: Vec::new() };
    Request::Open(Open { intent, digest, overwrite: Overwrite::Never, checksum: false, dry_run: false })
}

fn features(choice: u8) -> u64 {
    if choice & 32 == 0 { FEATURES } else { 0 }
}

fn secret() -> ProofKey {
    ProofKey::from_token(&Token::from_bytes([0x5e; 16]))
}

const NOW: Duration = Duration::ZERO;
static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::generate().expect("the system has randomness"));
