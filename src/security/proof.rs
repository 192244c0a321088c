//! Proves knowledge of a secret without sending it, and only for this connection.
//!
//! A proof is an HMAC over the role, a value that only this connection has (the *binding*) and the hash of the
//! hellos. A man in the middle has another binding on each side, so that a proof he hears is of no use to him; the
//! two directions have different labels, so that a proof cannot be sent back to who made it.
//!
//! ```text
//! K              = HKDF-SHA256(salt "haul token v1", ikm token, info "proof")                   32 bytes
//! client proof   = HMAC-SHA256(K, "haul client v1\0" || binding || SHA-256(client hello))
//! server proof   = HMAC-SHA256(K, "haul server v1\0" || binding || SHA-256(client hello || server hello))
//!
//! session secret = HKDF-SHA256(salt "haul session v1", ikm K or 32 zeros,
//!                              info binding || SHA-256(client hello || server hello))           32 bytes
//! join proof     = HMAC-SHA256(session secret, label || binding || session id || stream u16 LE || SHA-256(hellos))
//!                  labels "haul join client v1\0", "haul join server v1\0"; hellos and binding of the joining
//!                  connection
//! binding        = TLS exporter "EXPORTER-haul-auth-v1" with an empty context, 32 bytes; without TLS
//!                  SHA-256(server hello)
//! ```
//!
//! protocol.md [AUTH-2] to [AUTH-5], [AUTH-12]; `fixtures/wire/proofs.json` holds inputs and outputs for other languages.

use std::fmt;

use ring::{digest, hkdf, hmac};

use super::packet::{FlowId, FlowSecret};
use super::secret::{equal, wipe};
use super::ticket::Token;

/// Whose proof it is: who connected, or who was connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected.
    Client,
    /// Who was connected to.
    Server,
}

impl Side {
    /// The peer of this side.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What a proof is bound to: this connection and what both sides said first on it.
#[derive(Clone, Debug)]
pub struct Transcript {
    /// Only this connection has it.
    binding: [u8; 32],
    /// SHA-256 of the client's hello.
    client_hello: [u8; 32],
    /// SHA-256 of the client's hello followed by the server's.
    both_hellos: [u8; 32],
}

/// What a ticket's token gives to prove: the key of both proofs, or none for a server that asks for no secret.
#[derive(Clone)]
pub struct ProofKey(Option<[u8; 32]>);

/// Known to both ends of a session and to nobody else: lets further connections join it, and keys its UDP flows.
/// Redacts itself.
#[derive(Clone)]
pub struct SessionSecret([u8; 32]);

/// Which connection of which session a join proof is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// Names the session; from its WELCOME.
    pub session: [u8; 16],
    /// Number of the joining connection within the session; the control connection is 0.
    pub stream: u16,
}

impl Transcript {
    /// `exporter` is [`super::Channel::exporter`] of the connection (`None` without TLS); the hellos are their
    /// bytes as sent, all of them.
    pub fn new(exporter: Option<[u8; 32]>, client_hello: &[u8], server_hello: &[u8]) -> Self {
        Self {
            // protocol.md [AUTH-2]
            binding: exporter.unwrap_or_else(|| sha256(&[server_hello])),
            client_hello: sha256(&[client_hello]),
            both_hellos: sha256(&[client_hello, server_hello]),
        }
    }

    fn hellos(&self, side: Side) -> &[u8; 32] {
        match side {
            Side::Client => &self.client_hello,
            Side::Server => &self.both_hellos,
        }
    }
}

impl ProofKey {
    /// The key that belongs to a ticket's token.
    pub fn from_token(token: &Token) -> Self {
        Self(Some(derive(b"haul token v1", token.expose(), &[b"proof"])))
    }

    /// No secret: proofs are all zeros, and only all zeros pass. For an open server and for clients whose TLS key
    /// is in the `authorized` file. protocol.md [AUTH-12]
    pub fn open() -> Self {
        Self(None)
    }

    /// The proof that `side` sends. protocol.md [AUTH-3]
    pub fn prove(&self, side: Side, transcript: &Transcript) -> [u8; 32] {
        match &self.0 {
            Some(key) => tag(self.mac(key, side, transcript)),
            None => [0; 32],
        }
    }

    /// Whether `proof` is what `side` has to send, compared in constant time.
    pub fn verify(&self, side: Side, transcript: &Transcript, proof: &[u8; 32]) -> bool {
        equal(&self.prove(side, transcript), proof)
    }

    /// The secret of the session whose control connection has this transcript. protocol.md [AUTH-4]
    pub fn session_secret(&self, transcript: &Transcript) -> SessionSecret {
        let ikm = self.0.unwrap_or([0; 32]);
        SessionSecret(derive(b"haul session v1", &ikm, &[&transcript.binding, &transcript.both_hellos]))
    }

    fn mac(&self, key: &[u8; 32], side: Side, transcript: &Transcript) -> hmac::Context {
        let label: &[u8] = match side {
            Side::Client => b"haul client v1\0",
            Side::Server => b"haul server v1\0",
        };
        start(key, &[label, &transcript.binding, transcript.hellos(side)])
    }
}

impl SessionSecret {
    /// The proof that `side` sends on a connection that joins the session; the transcript is that connection's.
    /// protocol.md [AUTH-5]
    pub fn prove_join(&self, side: Side, join: Join, transcript: &Transcript) -> [u8; 32] {
        let label: &[u8] = match side {
            Side::Client => b"haul join client v1\0",
            Side::Server => b"haul join server v1\0",
        };
        let stream = join.stream.to_le_bytes();
        tag(start(&self.0, &[label, &transcript.binding, &join.session, &stream, transcript.hellos(side)]))
    }

    /// Whether `proof` is what `side` has to send, compared in constant time.
    pub fn verify_join(&self, side: Side, join: Join, transcript: &Transcript, proof: &[u8; 32]) -> bool {
        equal(&self.prove_join(side, join, transcript), proof)
    }

    /// The secret that keys the packets which `side` sends on a UDP flow of the session. protocol.md [SEAL-1]
    pub(super) fn flow_secret(&self, flow: &FlowId, side: Side) -> FlowSecret {
        FlowSecret::from_bytes(derive(b"haul udp v1", &self.0, &[&flow.info(side)]))
    }
}

impl Drop for ProofKey {
    fn drop(&mut self) {
        if let Some(key) = &mut self.0 {
            wipe(key);
        }
    }
}

impl Drop for SessionSecret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ProofKey([redacted])" } else { "ProofKey(open)" })
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret([redacted])")
    }
}

/// HKDF-SHA256, 32 bytes.
fn derive(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(ikm)
        .expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out))
        .expect("32 bytes are within HKDF's 255 blocks");
    out
}

fn start(key: &[u8; 32], parts: &[&[u8]]) -> hmac::Context {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    context
}

fn tag(context: hmac::Context) -> [u8; 32] {
    context.sign().as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use serde_json::Value;

    use super::*;

    #[test]
    fn proofs_are_those_of_the_golden_vectors() {
        // protocol.md [AUTH-3], [AUTH-4], [AUTH-5]
        let file: Value = serde_json::from_str(include_str!("../../fixtures/wire/proofs.json")).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 4);

        for case in cases {
            let transcript = Transcript::new(
                case["exporter"].as_str().map(|_| fixed(&case["exporter"])),
                &bytes(&case["client_hello"]),
                &bytes(&case["server_hello"]),
            );
            let key = match case["token"].as_str() {
                Some(_) => ProofKey::from_token(&Token::from_bytes(fixed(&case["token"]))),
                None => ProofKey::open(),
            };
            let secret = key.session_secret(&transcript);
            let join = Join {
                session: fixed(&case["session"]),
                stream: case["stream"].as_u64().unwrap().try_into().unwrap(),
            };
            let joining = Transcript::new(
                case["join_exporter"].as_str().map(|_| fixed(&case["join_exporter"])),
                &bytes(&case["join_client_hello"]),
                &bytes(&case["join_server_hello"]),
            );

            assert_eq!(
                key.prove(Side::Client, &transcript),
                fixed(&case["client_proof"]),
                "{}",
                case["name"]
            );
            assert_eq!(
                key.prove(Side::Server, &transcript),
                fixed(&case["server_proof"]),
                "{}",
                case["name"]
            );
            assert_eq!(secret.0, fixed(&case["session_secret"]), "{}", case["name"]);
            for (side, field) in [(Side::Client, "join_client_proof"), (Side::Server, "join_server_proof")] {
                let proof = fixed(&case[field]);
                assert_eq!(secret.prove_join(side, join, &joining), proof, "{} {field}", case["name"]);
                assert!(secret.verify_join(side, join, &joining, &proof));
            }
        }
    }

    #[test]
    fn a_proof_passes_only_for_its_key_side_connection_and_hellos() {
        let (key, transcript, others_key, others) = (key(1), transcript(1), key(2), transcript(2));
        let proof = key.prove(Side::Client, &transcript);
        let mut bent = proof;
        bent[31] ^= 1;

        assert!(key.verify(Side::Client, &transcript, &proof));
        assert!(!key.verify(Side::Server, &transcript, &proof));
        assert!(!others_key.verify(Side::Client, &transcript, &proof));
        assert!(!key.verify(Side::Client, &others, &proof));
        assert!(!key.verify(Side::Client, &Transcript::new(Some([1; 32]), b"other", b"server"), &proof));
        assert!(!key.verify(Side::Client, &transcript, &bent));
        assert!(!key.verify(Side::Client, &transcript, &[0; 32]));
    }

    #[test]
    fn the_servers_proof_covers_both_hellos_and_the_clients_only_its_own() {
        let key = key(1);
        let a = Transcript::new(Some([1; 32]), b"client", b"server");
        let b = Transcript::new(Some([1; 32]), b"client", b"another");

        assert_eq!(key.prove(Side::Client, &a), key.prove(Side::Client, &b));
        assert_ne!(key.prove(Side::Server, &a), key.prove(Side::Server, &b));
    }

    #[test]
    fn without_tls_the_servers_hello_binds_the_clients_proof() {
        // protocol.md [AUTH-2]
        let key = key(1);
        let a = Transcript::new(None, b"client", b"server");
        let b = Transcript::new(None, b"client", b"another");

        assert_ne!(key.prove(Side::Client, &a), key.prove(Side::Client, &b));
    }

    #[test]
    fn an_open_server_takes_zeros_and_only_zeros() {
        // protocol.md [AUTH-12]
        let transcript = transcript(1);
        let mut nearly = [0; 32];
        nearly[7] = 1;

        assert!(ProofKey::open().verify(Side::Client, &transcript, &[0; 32]));
        assert!(!ProofKey::open().verify(Side::Client, &transcript, &nearly));
        assert!(!ProofKey::open().verify(
            Side::Client,
            &transcript,
            &key(1).prove(Side::Client, &transcript)
        ));
    }

    #[test]
    fn a_join_proof_passes_only_for_its_session_stream_and_connection() {
        // protocol.md [AUTH-5]
        let secret = key(1).session_secret(&transcript(1));
        let join = Join { session: [9; 16], stream: 1 };
        let joining = transcript(2);
        let proof = secret.prove_join(Side::Client, join, &joining);

        assert!(secret.verify_join(Side::Client, join, &joining, &proof));
        assert!(!secret.verify_join(Side::Server, join, &joining, &proof));
        assert!(!secret.verify_join(Side::Client, Join { stream: 2, ..join }, &joining, &proof));
        assert!(!secret.verify_join(Side::Client, Join { session: [8; 16], ..join }, &joining, &proof));
        assert!(!secret.verify_join(Side::Client, join, &transcript(3), &proof));
        let other = key(1).session_secret(&transcript(4));
        assert!(!other.verify_join(Side::Client, join, &joining, &proof));
    }

    #[test]
    fn secrets_show_nothing_of_themselves() {
        let key = key(0xab);
        let secret = key.session_secret(&transcript(1));

        assert_eq!(format!("{key:?} {secret:?}"), "ProofKey([redacted]) SessionSecret([redacted])");
        assert_eq!(format!("{:?}", ProofKey::open()), "ProofKey(open)");
    }

    fn key(seed: u8) -> ProofKey {
        ProofKey::from_token(&Token::from_bytes([seed; 16]))
    }

    fn transcript(seed: u8) -> Transcript {
        Transcript::new(Some([seed; 32]), b"client", b"server")
    }

    fn bytes(value: &Value) -> Vec<u8> {
        HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
    }

    fn fixed<const N: usize>(value: &Value) -> [u8; N] {
        bytes(value).try_into().unwrap()
    }
}
