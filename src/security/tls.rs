//! What a channel asks of rustls: TLS 1.3 between two keys, pinned by hash.
//!
//! Certificates are envelopes: chain, dates and names are not looked at. What is checked is the hash of the public
//! key, if it is pinned, and always the handshake signature, which only the holder of the private key can make
//! (protocol.md [TLS-1] to [TLS-4]). Both sides show a key. No session is resumed and no early data is sent.

use std::fmt;
use std::io::{BufRead, IoSlice, Write};
use std::sync::{Arc, LazyLock, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, DigitallySignedStruct,
    DistinguishedName, Error, PeerIncompatible, ServerConfig, ServerConnection, SignatureScheme,
};

use super::channel::ChannelError;
use super::identity::{Identity, KeyHash};

/// The protocol's name in TLS. Another major version has another name. protocol.md [TLS-2]
pub const ALPN: &[u8] = b"haul/1";

/// Label of the exporter that binds proofs to a connection. protocol.md [AUTH-2]
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-haul-auth-v1";

/// Which key a client takes the server's to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// This one; another ends the handshake with [`ChannelError::WrongKey`].
    Exact(KeyHash),
    /// Any: the caller looks at the key afterwards (trust on first use). The server still has to hold it.
    Any,
}

/// A TLS connection without its socket.
pub(super) struct Tls {
    connection: Connection,
    /// Which key the peer showed, as soon as it did so, proven or not.
    shown: Arc<OnceLock<KeyHash>>,
    pin: Pin,
    /// Bytes of the first record's header that were checked to look like TLS, 0..=2.
    start_checked: usize,
    /// The handshake is over and the peers agree on the protocol: data may flow.
    established: bool,
    /// The peer's close_notify was received.
    peer_closed: bool,
    /// What ended the connection; further input gets the same answer.
    failed: Option<ChannelError>,
}

impl Tls {
    pub(super) fn client(identity: &Identity, pin: Pin) -> Self {
        let shown = Arc::default();
        let config = client_config(identity, pin, Arc::clone(&shown));
        let name = ServerName::try_from("haul").expect("a DNS name; it is not sent");
        let connection = ClientConnection::new(Arc::new(config), name)
            .expect("the configuration is the same for every connection");
        Self::new(connection.into(), pin, shown)
    }

    pub(super) fn server(identity: &Identity) -> Self {
        let shown = Arc::default();
        let config = server_config(identity, Arc::clone(&shown));
        let connection = ServerConnection::new(Arc::new(config))
            .expect("the configuration is the same for every connection");
        Self::new(connection.into(), Pin::Any, shown)
    }

    pub(super) fn new(mut connection: Connection, pin: Pin, shown: Arc<OnceLock<KeyHash>>) -> Self {
        // The caller bounds what it queues (`Channel::pending_bytes`); a limit here would only cut frames.
        connection.set_buffer_limit(None);
        Self {
            connection,
            shown,
            pin,
            start_checked: 0,
            established: false,
            peer_closed: false,
            failed: None,
        }
    }

    pub(super) fn handle_input(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), ChannelError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.check_start(bytes)
            .and_then(|()| self.process(bytes, sink))
            .inspect_err(|e| self.failed = Some(e.clone()))
    }

    /// Tells a peer that does not speak TLS from one that speaks it wrongly: a first record is a handshake or an
    /// alert, of version 3.x.
    fn check_start(&mut self, bytes: &[u8]) -> Result<(), ChannelError> {
        for &byte in bytes.iter().take(2 - self.start_checked) {
            let fits = if self.start_checked == 0 { matches!(byte, ALERT | HANDSHAKE) } else { byte == 3 };
            if !fits {
                return Err(ChannelError::NotTls);
            }
            self.start_checked += 1;
        }
        Ok(())
    }

    fn process(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<(), ChannelError> {
        while !bytes.is_empty() {
            let taken = self.connection.read_tls(&mut bytes);
            if taken.map_err(|e| ChannelError::Tls(Error::General(e.to_string())))? == 0 {
                return Ok(()); // After close_notify nothing counts (RFC 8446, section 6.1).
            }
            let processed = self.connection.process_new_packets();
            if !self.connection.is_handshaking() && !self.established {
                self.on_handshake_done()?;
            }
            // What was received whole before an error is still worth having: the peer's last words.
            if self.established {
                self.drain(sink);
            }
            self.peer_closed = processed.map_err(|e| self.name_error(e))?.peer_has_closed();
        }
        Ok(())
    }

    /// A peer that ignores ALPN altogether gets past rustls, but not past this. protocol.md [TLS-2]
    fn on_handshake_done(&mut self) -> Result<(), ChannelError> {
        if self.connection.alpn_protocol() != Some(ALPN) {
            return Err(ChannelError::NoCommonProtocol);
        }
        assert!(self.shown.get().is_some(), "no handshake ends without the peer's certificate");
        self.established = true;
        Ok(())
    }

    fn drain(&mut self, sink: &mut impl FnMut(&[u8])) {
        let mut reader = self.connection.reader();
        while let Ok(plain) = reader.fill_buf() {
            let len = plain.len();
            if len == 0 {
                break;
            }
            sink(plain);
            reader.consume(len);
        }
    }

    /// Names the guilty.
    fn name_error(&self, error: Error) -> ChannelError {
        let shown = self.shown.get().copied();
        match (error, self.pin, shown) {
            (Error::NoApplicationProtocol, ..)
            | (Error::AlertReceived(AlertDescription::NoApplicationProtocol), ..) => {
                ChannelError::NoCommonProtocol
            }
            (Error::NoCertificatesPresented, ..) => ChannelError::NoKey,
            (
                Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure),
                Pin::Exact(expected),
                Some(found),
            ) => ChannelError::WrongKey { expected, found },
            (Error::InvalidCertificate(CertificateError::BadSignature), _, Some(found)) => {
                ChannelError::UnprovenKey { found }
            }
            (Error::DecryptError | Error::AlertReceived(AlertDescription::BadRecordMac), ..) => {
                ChannelError::Damaged
            }
            (error @ Error::AlertReceived(_), ..) => ChannelError::Alert(error),
            (error, ..) => ChannelError::Tls(error),
        }
    }

    /// Encrypts plaintext for [`Self::transmit`] and says how much it took: all of it.
    pub(super) fn seal(&mut self, parts: &[IoSlice<'_>]) -> usize {
        let len = parts.iter().map(|part| part.len()).sum();
        match self.connection.writer().write_vectored(parts) {
            Ok(written) => assert_eq!(written, len, "the buffer has no limit"),
            // The connection has failed; `handle_input` has said or will say so.
            Err(error) => tracing::debug!(%error, "data for a failed connection is dropped"),
        }
        len
    }

    pub(super) fn transmit(&mut self, out: &mut dyn Write) -> std::io::Result<usize> {
        self.connection.write_tls(out)
    }

    pub(super) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    pub(super) fn is_established(&self) -> bool {
        self.established
    }

    pub(super) fn peer_key(&self) -> Option<KeyHash> {
        self.shown.get().copied().filter(|_| self.established)
    }

    /// protocol.md [AUTH-2]
    pub(super) fn exporter(&self) -> Option<[u8; 32]> {
        if !self.established {
            return None;
        }
        self.connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&[])).ok()
    }

    pub(super) fn close(&mut self) {
        self.connection.send_close_notify();
    }

    pub(super) fn received_close_notify(&self) -> bool {
        self.peer_closed
    }
}

/// protocol.md [TLS-1], [TLS-3]
fn client_config(identity: &Identity, pin: Pin, shown: Arc<OnceLock<KeyHash>>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(KeyVerifier { pin, shown }))
        .with_client_cert_resolver(identity.certified());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config
}

/// protocol.md [TLS-1], [TLS-4]
fn server_config(identity: &Identity, shown: Arc<OnceLock<KeyHash>>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .with_client_cert_verifier(Arc::new(KeyVerifier { pin: Pin::Any, shown }))
        .with_cert_resolver(identity.certified());
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// ring, with the cipher suite that is fastest where there is AES hardware, then the one that is fastest without.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_128_GCM_SHA256,
                cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
                cipher_suite::TLS13_AES_256_GCM_SHA384,
            ],
            ..default_provider()
        })
    });
    Arc::clone(&PROVIDER)
}

/// Checks a peer's key in either role: its hash against the pin, and that the peer holds it.
struct KeyVerifier {
    pin: Pin,
    /// Where the key's hash is left for [`Tls`].
    shown: Arc<OnceLock<KeyHash>>,
}

impl KeyVerifier {
    fn verify_key(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let found = KeyHash::of_certificate(certificate)?;
        let first = *self.shown.get_or_init(|| found);
        let fits = match self.pin {
            Pin::Exact(expected) => found == expected,
            Pin::Any => true,
        };
        if fits && first == found {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn refuse_tls12() -> Error {
        PeerIncompatible::Tls12NotOfferedOrEnabled.into()
    }
}

impl fmt::Debug for KeyVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyVerifier({:?})", self.pin)
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify_key(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Self::refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify_key(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Self::refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Content types of TLS records (RFC 8446, section 5.1).
const ALERT: u8 = 0x15;
pub(super) const HANDSHAKE: u8 = 0x16;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};

    use super::super::channel::Channel;
    use super::*;

    #[test]
    fn two_channels_meet_and_know_each_others_keys() {
        let (a, b) = (identity(), identity());
        let mut pair = Pair::new(&a, Pin::Exact(b.key_hash()), &b);
        assert!(!pair.client.is_established());
        assert_eq!((pair.client.peer_key(), pair.client.exporter()), (None, None));

        pair.run().unwrap();

        assert!(pair.client.is_established() && pair.server.is_established());
        assert_eq!(pair.client.peer_key(), Some(b.key_hash()));
        assert_eq!(pair.server.peer_key(), Some(a.key_hash()));
    }

    #[test]
    fn both_ends_export_the_same_and_each_connection_another() {
        let (a, b) = (identity(), identity());
        let mut exporters = Vec::new();
        for _ in 0..2 {
            let mut pair = Pair::new(&a, Pin::Any, &b);
            pair.run().unwrap();
            assert!(pair.client.exporter().is_some());
            assert_eq!(pair.client.exporter(), pair.server.exporter());
            exporters.push(pair.client.exporter());
        }

        assert_ne!(exporters[0], exporters[1]);
    }

    #[test]
    fn a_handshake_may_be_split_anywhere() {
        let (a, b) = (identity(), identity());
        for split in 0..1500 {
            let mut pair = Pair::new(&a, Pin::Exact(b.key_hash()), &b);
            pair.client.send(b"hello ", b"server".to_vec());
            pair.server.send(b"hello ", b"client".to_vec());
            pair.split_at = Some(split);

            pair.run().unwrap();

            assert_eq!(pair.at_server, b"hello server", "split at {split}");
            assert_eq!(pair.at_client, b"hello client", "split at {split}");
        }
    }

    #[test]
    fn a_handshake_arrives_byte_by_byte() {
        let (a, b) = (identity(), identity());
        let mut pair = Pair::new(&a, Pin::Exact(b.key_hash()), &b);
        pair.client.send(b"x", vec![7; 40_000]);
        pair.piece = 1;

        pair.run().unwrap();

        assert_eq!(pair.at_server.len(), 40_001);
    }

    #[test]
    fn ten_megabytes_arrive_as_they_were_sent_in_both_directions() {
        let mut pair = Pair::new(&identity(), Pin::Any, &identity());
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for i in 0..10_u32 {
            let body: Vec<u8> = (0..(1_u32 << 20) + i)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
                .collect();
            pair.client.send(&i.to_le_bytes(), body.clone());
            pair.server.send(&[], body.clone());
            up.extend_from_slice(&i.to_le_bytes());
            up.extend_from_slice(&body);
            down.extend_from_slice(&body);
        }
        assert!(pair.client.pending_bytes() >= up.len());
        pair.piece = 70_001;

        pair.run().unwrap();

        assert!(pair.at_server == up);
        assert!(pair.at_client == down);
        assert_eq!((pair.client.pending_bytes(), pair.server.pending_bytes()), (0, 0));
    }

    #[test]
    fn pending_bytes_follow_what_the_socket_takes() {
        let mut pair = Pair::new(&identity(), Pin::Any, &identity());
        pair.run().unwrap();
        pair.client.send(b"head", vec![0; 100_000]);
        assert_eq!(pair.client.pending_bytes(), 100_004);
        let mut room = vec![0; 30_000];

        let written = pair.client.transmit(&mut room.as_mut_slice()).unwrap();

        assert_eq!(written, 30_000);
        let overhead = pair.client.pending_bytes() + written - 100_004;
        assert!(
            (1..1000).contains(&overhead),
            "what is encrypted counts with its records' overhead: {overhead}"
        );
        let mut rest = Vec::new();
        while pair.client.wants_write() {
            pair.client.transmit(&mut rest).unwrap();
        }
        assert!(rest.len() >= 100_004 - written);
        assert_eq!(pair.client.pending_bytes(), 0);
    }

    #[test]
    fn another_key_than_the_pinned_one_is_refused_and_named() {
        // protocol.md [TLS-3]
        let (a, b, pinned) = (identity(), identity(), identity().key_hash());
        let mut pair = Pair::new(&a, Pin::Exact(pinned), &b);
        pair.client.send(b"hello", Vec::new());

        let error = pair.run().unwrap_err();

        assert_eq!(error, (Who::Client, ChannelError::WrongKey { expected: pinned, found: b.key_hash() }));
        assert_eq!(pair.client.peer_key(), None);
        assert!(
            matches!(pair.run().unwrap_err(), (Who::Server, ChannelError::Alert(_))),
            "the server is told"
        );
        assert!(pair.at_server.is_empty(), "nothing was said to a stranger");
    }

    #[test]
    fn the_right_certificate_with_another_private_key_is_refused_though_the_pin_fits() {
        // protocol.md [TLS-3]
        let (a, real, thief) = (identity(), identity(), identity());
        let stolen = forged(&real, &thief);
        let mut config = server_config(&thief, Arc::default());
        config.cert_resolver = stolen;
        let mut pair = Pair::new(&a, Pin::Exact(real.key_hash()), &thief);
        pair.server = raw_server(config);

        let error = pair.run().unwrap_err();

        assert_eq!(error, (Who::Client, ChannelError::UnprovenKey { found: real.key_hash() }));
    }

    #[test]
    fn a_client_with_anothers_certificate_is_refused() {
        // protocol.md [TLS-4]
        let (real, thief, b) = (identity(), identity(), identity());
        let mut config = client_config(&thief, Pin::Any, Arc::default());
        config.client_auth_cert_resolver = forged(&real, &thief);
        let mut pair = Pair::new(&thief, Pin::Any, &b);
        pair.client = raw_client(config);

        let error = pair.run().unwrap_err();

        assert_eq!(error, (Who::Server, ChannelError::UnprovenKey { found: real.key_hash() }));
        assert_eq!(pair.server.peer_key(), None);
    }

    #[test]
    fn a_client_without_a_key_is_refused() {
        // protocol.md [TLS-4]
        let (a, b) = (identity(), identity());
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(KeyVerifier { pin: Pin::Any, shown: Arc::default() }))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let mut pair = Pair::new(&a, Pin::Any, &b);
        pair.client = raw_client(config);

        assert_eq!(pair.run().unwrap_err(), (Who::Server, ChannelError::NoKey));
    }

    #[test]
    fn a_server_with_other_protocols_or_none_has_nothing_in_common() {
        // protocol.md [TLS-2]
        for protocols in [vec![b"h2".to_vec()], vec![b"haul/2".to_vec()], Vec::new()] {
            let (a, b) = (identity(), identity());
            let mut config = server_config(&b, Arc::default());
            config.alpn_protocols = protocols.clone();
            let mut pair = Pair::new(&a, Pin::Any, &b);
            pair.server = raw_server(config);

            let seen = [pair.run().unwrap_err(), pair.run().unwrap_err()];

            assert!(seen.contains(&(Who::Client, ChannelError::NoCommonProtocol)), "{protocols:?}: {seen:?}");
        }
    }

    #[test]
    fn a_client_with_other_protocols_or_none_has_nothing_in_common() {
        // protocol.md [TLS-2]
        for protocols in [vec![b"h2".to_vec()], vec![b"haul/2".to_vec()], Vec::new()] {
            let (a, b) = (identity(), identity());
            let mut config = client_config(&a, Pin::Any, Arc::default());
            config.alpn_protocols = protocols;
            let mut pair = Pair::new(&a, Pin::Any, &b);
            pair.client = raw_client(config);

            let seen = [pair.run().unwrap_err(), pair.run().unwrap_err()];

            assert!(seen.contains(&(Who::Server, ChannelError::NoCommonProtocol)), "{seen:?}");
        }
    }

    #[test]
    fn an_answer_in_another_protocol_is_no_tls() {
        let answers: [&[u8]; 6] =
            [b"HTTP/1.1 400 Bad Request", b"SSH-2.0-x", b"haul", b"\x16HTTP", b"\x17\x03", b"\0"];
        for answer in answers {
            for mut channel in [Channel::client_tls(&identity(), Pin::Any), Channel::server_tls(&identity())]
            {
                let whole = channel.handle_input(answer, &mut |_| panic!("no plaintext"));
                assert_eq!(whole, Err(ChannelError::NotTls));
                assert_eq!(
                    channel.handle_input(b"\x16", &mut |_| {}),
                    Err(ChannelError::NotTls),
                    "it stays failed"
                );
            }
        }
        let mut channel = Channel::client_tls(&identity(), Pin::Any);
        assert_eq!(channel.handle_input(b"\x16", &mut |_| {}), Ok(()));
        assert_eq!(
            channel.handle_input(b"!", &mut |_| {}),
            Err(ChannelError::NotTls),
            "split after one byte"
        );
    }

    #[test]
    fn a_client_that_offers_only_tls_1_2_is_refused() {
        // protocol.md [TLS-1]
        // ClientHello: TLS 1.2, ECDHE-ECDSA-AES128-GCM, X25519, ecdsa_secp256r1_sha256, no supported_versions.
        let extensions = b"\x00\x0a\x00\x04\x00\x02\x00\x1d\x00\x0d\x00\x04\x00\x02\x04\x03";
        let body = [&b"\x03\x03"[..], &[5; 32], b"\x00\x00\x02\xc0\x2b\x01\x00\x00\x10", extensions].concat();
        let len = u8::try_from(body.len()).unwrap();
        let hello = [&[0x16, 3, 1, 0, len + 4, 1, 0, 0, len], &body[..]].concat();
        let mut server = Channel::server_tls(&identity());

        let error = server.handle_input(&hello, &mut |_| {}).unwrap_err();

        assert!(matches!(error, ChannelError::Tls(Error::PeerIncompatible(_))), "{error:?}");
        assert!(server.wants_write(), "an alert tells the client");
    }

    #[test]
    fn a_record_that_was_changed_is_refused_and_nothing_of_it_is_handed_over() {
        let mut pair = Pair::new(&identity(), Pin::Any, &identity());
        pair.run().unwrap();
        let mut bytes = Vec::new();
        // Each is written before the next is queued, so that it has a record of its own.
        for part in [b"first", b"other"] {
            pair.client.send(part, Vec::new());
            pair.client.transmit(&mut bytes).unwrap();
        }
        *bytes.last_mut().unwrap() ^= 1;
        let mut seen = Vec::new();

        let error = pair.server.handle_input(&bytes, &mut |b| seen.extend_from_slice(b)).unwrap_err();

        assert_eq!(error, ChannelError::Damaged);
        assert_eq!(seen, b"first");
        let mut alert = Vec::new();
        pair.server.transmit(&mut alert).unwrap();
        assert_eq!(pair.client.handle_input(&alert, &mut |_| {}), Err(ChannelError::Damaged), "it is told");
        pair.server.send(b"too late", vec![0; 10]);
    }

    #[test]
    fn a_replayed_record_is_refused() {
        let mut pair = Pair::new(&identity(), Pin::Any, &identity());
        pair.run().unwrap();
        pair.client.send(b"pay", Vec::new());
        let mut bytes = Vec::new();
        pair.client.transmit(&mut bytes).unwrap();

        pair.server.handle_input(&bytes, &mut |_| {}).unwrap();

        assert_eq!(pair.server.handle_input(&bytes, &mut |_| {}), Err(ChannelError::Damaged));
    }

    #[test]
    fn an_orderly_end_is_told_from_a_cut() {
        let mut pair = Pair::new(&identity(), Pin::Any, &identity());
        pair.run().unwrap();
        pair.client.send(b"last", Vec::new());
        pair.client.close();
        assert!(!pair.server.received_close_notify());

        pair.run().unwrap();

        assert_eq!(pair.at_server, b"last");
        assert!(pair.server.received_close_notify() && !pair.client.received_close_notify());
        assert_eq!(pair.server.handle_input(b"anything", &mut |_| panic!("after the end")), Ok(()));
        pair.server.send(b"the other direction is still open", Vec::new());
        pair.run().unwrap();
        assert_eq!(pair.at_client, b"the other direction is still open");
    }

    #[test]
    fn nothing_is_left_to_resume() {
        // protocol.md [TLS-4]
        let mut pair = Pair::new(&identity(), Pin::Any, &identity());
        pair.run().unwrap();

        let after = pair.client_received;
        pair.run().unwrap();

        assert_eq!(after, pair.client_received, "no session ticket follows the handshake");
        assert!(pair.server_flights == 1, "the server spoke once");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn random_bytes_make_neither_side_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..4_u8) {
            let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
            let framed = match kind {
                0 => bytes,
                1 => [&[0x16, 3, 3, len[0], len[1]], &bytes[..]].concat(),
                2 => [&[0x16, 3, 3, len[0], len[1], 2, 0], &bytes[..]].concat(),
                _ => [&[0x15, 3, 3, len[0], len[1]], &bytes[..]].concat(),
            };
            for mut channel in [Channel::client_tls(&IDENTITY, Pin::Any), Channel::server_tls(&IDENTITY)] {
                let _ = channel.handle_input(&framed, &mut |_| panic!("no plaintext"));
                let _ = channel.handle_input(&framed, &mut |_| panic!("no plaintext"));
                prop_assert!(!channel.is_established());
            }
        }

        #[test]
        fn random_bytes_after_the_handshake_hand_nothing_over(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut pair = Pair::new(&IDENTITY, Pin::Any, &IDENTITY);
            pair.run().unwrap();

            let _ = pair.server.handle_input(&bytes, &mut |_| panic!("nobody sent this"));
        }
    }

    static IDENTITY: LazyLock<Identity> = LazyLock::new(identity);

    fn identity() -> Identity {
        Identity::generate().unwrap()
    }

    /// The certificate of one with the private key of another.
    fn forged(certificate: &Identity, key: &Identity) -> Arc<SingleCertAndKey> {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
        let chain = CertificateDer::from_pem_slice(certificate.to_pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from_pem_slice(key.to_pem().as_bytes()).unwrap());
        let signer = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        Arc::new(CertifiedKey::new(vec![chain], signer).into())
    }

    /// A server that keeps to nothing but TLS.
    fn raw_server(config: ServerConfig) -> Channel {
        let connection = ServerConnection::new(Arc::new(config)).unwrap();
        Channel::tls(Tls::new(connection.into(), Pin::Any, shown_already()))
    }

    fn raw_client(config: ClientConfig) -> Channel {
        let name = ServerName::try_from("haul").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Channel::tls(Tls::new(connection.into(), Pin::Any, shown_already()))
    }

    fn shown_already() -> Arc<OnceLock<KeyHash>> {
        Arc::new(OnceLock::from(KeyHash::from_bytes([0; 32])))
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Who {
        Client,
        Server,
    }

    /// Two channels with a wire between them that can be cut into pieces.
    struct Pair {
        client: Channel,
        server: Channel,
        at_client: Vec<u8>,
        at_server: Vec<u8>,
        client_received: usize,
        server_flights: usize,
        /// Largest piece that is handed over at once, bytes.
        piece: usize,
        /// Hand each flight over in two pieces, cut here.
        split_at: Option<usize>,
    }

    impl Pair {
        fn new(client: &Identity, pin: Pin, server: &Identity) -> Self {
            Self {
                client: Channel::client_tls(client, pin),
                server: Channel::server_tls(server),
                at_client: Vec::new(),
                at_server: Vec::new(),
                client_received: 0,
                server_flights: 0,
                piece: usize::MAX,
                split_at: None,
            }
        }

        /// Carries bytes until both are silent or one complains.
        fn run(&mut self) -> Result<(), (Who, ChannelError)> {
            while self.client.wants_write() || self.server.wants_write() {
                for piece in self.pieces(Who::Client) {
                    let sink = &mut |bytes: &[u8]| self.at_server.extend_from_slice(bytes);
                    self.server.handle_input(&piece, sink).map_err(|e| (Who::Server, e))?;
                }
                let pieces = self.pieces(Who::Server);
                self.server_flights += usize::from(!pieces.is_empty());
                for piece in pieces {
                    self.client_received += piece.len();
                    let sink = &mut |bytes: &[u8]| self.at_client.extend_from_slice(bytes);
                    self.client.handle_input(&piece, sink).map_err(|e| (Who::Client, e))?;
                }
            }
            Ok(())
        }

        fn pieces(&mut self, from: Who) -> VecDeque<Vec<u8>> {
            let channel = if from == Who::Client { &mut self.client } else { &mut self.server };
            let mut bytes = Vec::new();
            while channel.wants_write() {
                channel.transmit(&mut bytes).unwrap();
            }
            match self.split_at {
                Some(at) if at < bytes.len() => VecDeque::from([bytes[..at].to_vec(), bytes[at..].to_vec()]),
                _ => bytes.chunks(self.piece.min(bytes.len().max(1))).map(<[u8]>::to_vec).collect(),
            }
        }
    }
}
