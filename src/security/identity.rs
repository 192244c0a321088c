//! Who a haul is to others: a long-lived key pair, shown as a self-signed certificate and named by its hash.
//!
//! The certificate is only the envelope that TLS wants around a public key: its names, dates and issuer mean
//! nothing here. What a peer pins is the [`KeyHash`], the SHA-256 of the DER SubjectPublicKeyInfo
//! (protocol.md [KEY-1]). Where an identity is kept is the business of `run::home`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::secret::SecretBytes;

/// A key pair and its certificate. Clones share one key; Debug shows only the public key's hash.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    /// Private key and certificate, as they stand in the file. Wiped on drop.
    pem: SecretBytes,
    /// The same, as rustls takes it.
    certified: Arc<SingleCertAndKey>,
    /// Names the public key.
    key_hash: KeyHash,
}

/// The SHA-256 of a DER SubjectPublicKeyInfo: the name of a public key. Shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The key or its certificate could not be made.
    #[error("a key pair could not be made: {0}")]
    Generate(#[from] rcgen::Error),
    /// The text holds no private key.
    #[error("there is no usable private key in the PEM text: {0}")]
    NoKey(rustls::pki_types::pem::Error),
    /// The text holds no certificate.
    #[error("there is no usable certificate in the PEM text: {0}")]
    NoCertificate(rustls::pki_types::pem::Error),
    /// Key or certificate are of a kind that TLS does not know, or they do not belong together.
    #[error("the private key and the certificate do not fit together: {0}")]
    Unfit(#[from] rustls::Error),
}

/// Text is not a key hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key hash is 64 hex digits")]
pub struct KeyHashError;

impl Identity {
    /// Makes a new key pair (ECDSA on P-256) with the system's randomness, which is the one thing here that two
    /// calls do not share.
    pub fn generate() -> Result<Self, IdentityError> {
        let key = rcgen::KeyPair::generate()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "haul");
        let certificate = params.self_signed(&key)?;
        let secret = SecretBytes(key.serialize_pem().into_bytes());
        let mut pem = SecretBytes(Vec::with_capacity(secret.0.len() + 2048));
        pem.0.extend_from_slice(&secret.0);
        pem.0.extend_from_slice(certificate.pem().as_bytes());
        Self::from_secret(pem)
    }

    /// Reads what [`Self::to_pem`] wrote: a PKCS #8 private key and its certificate, in either order. The two must
    /// belong together.
    pub fn from_pem(pem: &str) -> Result<Self, IdentityError> {
        Self::from_secret(SecretBytes(pem.as_bytes().to_vec()))
    }

    fn from_secret(pem: SecretBytes) -> Result<Self, IdentityError> {
        let key = PrivatePkcs8KeyDer::from_pem_slice(&pem.0).map_err(IdentityError::NoKey)?;
        let certificate = CertificateDer::from_pem_slice(&pem.0).map_err(IdentityError::NoCertificate)?;
        let key_hash = KeyHash::of_certificate(&certificate)?;
        let certified = CertifiedKey::new(vec![certificate], any_supported_type(&PrivateKeyDer::from(key))?);
        certified.keys_match()?;
        Ok(Self(Arc::new(Inner { pem, certified: Arc::new(certified.into()), key_hash })))
    }

    /// Private key and certificate as PEM text. A secret: for a file that only its owner can read.
    pub fn to_pem(&self) -> String {
        String::from_utf8(self.0.pem.0.clone()).expect("the bytes came from a String")
    }

    /// Names our public key: what others pin.
    pub fn key_hash(&self) -> KeyHash {
        self.0.key_hash
    }

    /// Key and certificate as a TLS configuration takes them, for either role.
    pub(super) fn certified(&self) -> Arc<SingleCertAndKey> {
        Arc::clone(&self.0.certified)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0.key_hash)
    }
}

impl KeyHash {
    /// Wraps a hash that was computed elsewhere (read from a ticket, for example).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hashes the public key of a certificate. Says nothing about who holds the private key.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        Ok(Self::of_public_key(&parsed.subject_public_key_info()))
    }

    /// protocol.md [KEY-1]
    fn of_public_key(spki_der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, spki_der);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    /// Takes 64 hex digits of either case.
    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| KeyHashError)?;
        bytes.try_into().map(Self).map_err(|_| KeyHashError)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    #[test]
    fn an_identity_survives_its_pem_text() {
        let identity = Identity::generate().unwrap();

        let read = Identity::from_pem(&identity.to_pem()).unwrap();

        assert_eq!(read.key_hash(), identity.key_hash());
        assert_eq!(read.to_pem(), identity.to_pem());
    }

    #[test]
    fn the_hash_is_that_of_the_public_key_and_of_nothing_else_in_the_certificate() {
        // protocol.md [KEY-1]
        let identity = Identity::generate().unwrap();
        let pem = identity.to_pem();
        let key = rcgen::KeyPair::from_pem(&pem[..pem.find("-----BEGIN CERTIFICATE").unwrap()]).unwrap();
        let other =
            rcgen::CertificateParams::new(["else.example".to_owned()]).unwrap().self_signed(&key).unwrap();

        assert_eq!(identity.key_hash(), KeyHash::of_public_key(&key.subject_public_key_info()));
        assert_eq!(identity.key_hash(), KeyHash::of_certificate(other.der()).unwrap());
    }

    #[test]
    fn two_identities_differ() {
        assert_ne!(Identity::generate().unwrap().key_hash(), Identity::generate().unwrap().key_hash());
    }

    #[test]
    fn a_key_with_the_certificate_of_another_is_refused() {
        let (a, b) = (Identity::generate().unwrap().to_pem(), Identity::generate().unwrap().to_pem());
        let cut = "-----BEGIN CERTIFICATE";
        let mixed = [&a[..a.find(cut).unwrap()], &b[b.find(cut).unwrap()..]].concat();

        assert!(matches!(Identity::from_pem(&mixed), Err(IdentityError::Unfit(_))));
    }

    #[test]
    fn text_without_key_or_certificate_is_refused() {
        let pem = Identity::generate().unwrap().to_pem();
        let at = pem.find("-----BEGIN CERTIFICATE").unwrap();

        assert!(matches!(Identity::from_pem(""), Err(IdentityError::NoKey(_))));
        assert!(matches!(Identity::from_pem(&pem[at..]), Err(IdentityError::NoKey(_))));
        assert!(matches!(Identity::from_pem(&pem[..at]), Err(IdentityError::NoCertificate(_))));
        for end in (0..pem.len() - 1).step_by(7) {
            assert!(Identity::from_pem(&pem[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let identity = Identity::generate().unwrap();

        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.key_hash()));
    }

    #[test]
    fn a_key_hash_survives_its_text_and_nothing_else_is_one() {
        let hash = KeyHash::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        let text = hash.to_string();

        assert_eq!(text.parse(), Ok(hash));
        assert_eq!(text.to_uppercase().parse(), Ok(hash));
        assert_eq!(text[1..].parse::<KeyHash>(), Err(KeyHashError));
        assert_eq!(format!("{text}00").parse::<KeyHash>(), Err(KeyHashError));
        assert_eq!(text.replace("07", "0g").parse::<KeyHash>(), Err(KeyHashError));
        assert_eq!("".parse::<KeyHash>(), Err(KeyHashError));
    }
}
