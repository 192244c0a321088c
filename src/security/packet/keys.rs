//! Derives the keys of a flow's direction, one phase after the other.

use std::fmt;

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;

use super::super::proof::Side;
use super::super::secret::wipe;
use crate::wire::packet::{ConnectionId, PacketNumber};

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;

/// Which flow of which session, as both ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowId {
    /// Names the session; from its WELCOME.
    pub session: [u8; 16],
    /// Counts the session's flows; never the same for two of them.
    pub attempt: u16,
    /// What the client calls the flow: stands in packets to it.
    pub client: ConnectionId,
    /// What the server calls the flow: stands in packets to it.
    pub server: ConnectionId,
}

impl FlowId {
    /// What this side calls the flow.
    pub fn id_at(&self, side: Side) -> ConnectionId {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    /// What the flow secret of the packets from `side` is bound to. protocol.md [SEAL-1]
    pub(in crate::security) fn info(&self, side: Side) -> Vec<u8> {
        let side: &[u8] = match side {
            Side::Client => b"client",
            Side::Server => b"server",
        };
        let (client, server) = (self.client.to_le_bytes(), self.server.to_le_bytes());
        [&self.session, &self.attempt.to_le_bytes()[..], &client, &server, side].concat()
    }
}

/// From which one phase's keys and the secret of the next are derived. Redacts itself.
pub(in crate::security) struct FlowSecret([u8; 32]);

impl FlowSecret {
    /// Takes over secret bytes.
    pub(in crate::security) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The keys of this phase, and the secret of the next one. protocol.md [SEAL-1]
    pub(super) fn split(&self) -> (Keys, Self) {
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &self.0);
        let key = secret.expand(&[b"haul udp key"], &AES_128_GCM).expect("16 bytes are within HKDF's bounds");
        let mut iv = [0; NONCE_LEN];
        let mut next = Self([0; 32]);
        expand(&secret, b"haul udp iv", &mut iv);
        expand(&secret, b"haul udp next", &mut next.0);
        (Keys { key: LessSafeKey::new(UnboundKey::from(key)), iv }, next)
    }
}

impl Drop for FlowSecret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for FlowSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowSecret([redacted])")
    }
}

/// HKDF-Expand-SHA256 of as many bytes as `out` has.
fn expand(secret: &hkdf::Prk, label: &[u8], out: &mut [u8]) {
    struct Bytes(usize);
    impl hkdf::KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    secret
        .expand(&[label], Bytes(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("few bytes are within HKDF's 255 blocks");
}

/// What seals and opens the packets of one phase. Redacts itself.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl Keys {
    /// Encrypts `blocks` where they stand; the caller uses no number twice.
    pub(super) fn seal(&self, number: PacketNumber, header: &[u8], blocks: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self.key.seal_in_place_separate_tag(self.nonce(number), Aad::from(header), blocks);
        let tag = tag.expect("a packet is far shorter than what GCM can seal");
        tag.as_ref().try_into().expect("a tag of GCM has 16 bytes")
    }

    /// The blocks, decrypted where they stand, of blocks and tag; `None` if they were not sealed like this.
    pub(super) fn open<'a>(
        &self,
        number: PacketNumber,
        header: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a [u8]> {
        let blocks = self.key.open_in_place(self.nonce(number), Aad::from(header), sealed).ok()?;
        Some(blocks)
    }

    /// protocol.md [SEAL-2], [SEAL-3]
    fn nonce(&self, number: PacketNumber) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use serde_json::Value;

    use super::*;

    #[test]
    fn each_phase_leads_to_the_next_as_in_the_golden_vectors() {
        // protocol.md [SEAL-1]
        let file: Value = serde_json::from_str(include_str!("../../../fixtures/wire/packets.json")).unwrap();
        for side in ["from_client", "from_server"] {
            let phases = file["flows"][0][side].as_array().unwrap();
            let mut secret = FlowSecret(fixed(&phases[0]["secret"]));

            for phase in phases {
                assert_eq!(secret.0, fixed(&phase["secret"]));
                let (keys, next) = secret.split();
                assert_eq!(keys.iv, fixed(&phase["iv"]));
                secret = next;
            }
        }
    }

    #[test]
    fn the_number_is_the_end_of_the_nonce() {
        // protocol.md [SEAL-2]
        let (mut keys, _) = FlowSecret([1; 32]).split();
        keys.iv = [0xf0; 12];
        let number = 0x0102_0304_0506_0708;

        let nonce = keys.nonce(number);

        assert_eq!(HEXLOWER.encode(nonce.as_ref()), "f0f0f0f0f1f2f3f4f5f6f7f8");
    }

    fn fixed<const N: usize>(value: &Value) -> [u8; N] {
        HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap().try_into().unwrap()
    }
}
