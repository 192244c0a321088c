//! Seals the packets of a UDP flow, and opens those of the peer.
//!
//! ```text
//! flow secret  = HKDF-SHA256(salt "haul udp v1", ikm session secret,
//!                            info session id || attempt u16 LE || client's id u32 LE || server's id u32 LE || side)
//!                side: "client" or "server", whoever sends the packets                                     32 bytes
//! key          = HKDF-Expand-SHA256(flow secret, "haul udp key")                                           16 bytes
//! iv           = HKDF-Expand-SHA256(flow secret, "haul udp iv")                                            12 bytes
//! next secret  = HKDF-Expand-SHA256(flow secret, "haul udp next"): the flow secret of the next phase       32 bytes
//! nonce        = iv XOR (4 zeros || packet number u64 BE)
//! packet       = header || AES-128-GCM(key, nonce, associated data header, blocks)
//! plain packet = header || blocks || CRC-32C(header || blocks) u32 LE
//! ```
//!
//! Each direction changes its keys by itself, and the lowest bit of the header says when:
//!
//! ```text
//! sealer  [phase n] ── so many packets sealed, and one of them acknowledged ──► [phase n + 1]
//! opener  has keys n - 1 (if there was one), n and n + 1
//!         bit of n ──► n;   another bit, number below all of n ──► n - 1;   another bit else ──► n + 1, and if it
//!         opens, that is the phase from then on
//! ```
//!
//! A packet of phase n + 1 is sealed only when the peer is known to have opened one of phase n, so that the opener is
//! never more than one phase behind. What nobody sealed changes nothing but a count. A packet that comes twice opens
//! twice: whoever keeps the received numbers tells. protocol.md [SEAL-1] to [SEAL-7]; `fixtures/wire/packets.json`
//! holds whole packets with their keys.

mod keys;

use std::mem;

use super::proof::{SessionSecret, Side};
use crate::integrity::crc32c::crc32c;
use crate::limits;
use crate::wire::packet::{ConnectionId, HEADER_BYTES, Header, PacketNumber};

pub use keys::FlowId;
pub(super) use keys::FlowSecret;
use keys::{Keys, TAG_BYTES};

/// Bytes of a CRC-32C.
const CRC_BYTES: usize = 4;
/// Longest packet, bytes: for these the limits of the keys were computed.
const PACKET_MAX_BYTES: usize = 1 << 16;

/// Seals one direction's packets.
#[derive(Debug)]
pub struct Sealer {
    /// What the receiver calls the flow.
    connection: ConnectionId,
    /// The number sealed last; the next one is above it.
    last: Option<PacketNumber>,
    protection: SealerProtection,
}

#[derive(Debug)]
enum SealerProtection {
    Keys(Box<SealerKeys>),
    Plain,
}

/// The keys of a [`Sealer`], and how much they were used.
#[derive(Debug)]
struct SealerKeys {
    current: Keys,
    next: FlowSecret,
    /// The phase's lowest bit.
    phase: bool,
    /// First number of this phase.
    first: Option<PacketNumber>,
    /// Packets of this phase.
    sealed: u64,
    /// Whether the peer has opened a packet of this phase.
    is_acked: bool,
    /// Packets of a phase after which the next one begins, as soon as it may.
    update_after: u64,
    /// Packets that one key may seal.
    most: u64,
}

/// Why a packet cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key has sealed all that it may, and the next is not to be used before the peer has acknowledged a packet
    /// of this one.
    #[error("the peer has acknowledged none of the packets that one key may seal")]
    Unacknowledged,
}

impl Sealer {
    /// Encrypts what `own` sends on this flow. Keys change after `update_after` packets, usually
    /// `limits::KEY_UPDATE_PACKETS`; between 1 and `limits::KEY_MAX_PACKETS`.
    pub fn new(secret: &SessionSecret, flow: &FlowId, own: Side, update_after: u64) -> Self {
        assert!((1..=limits::KEY_MAX_PACKETS).contains(&update_after));
        let (current, next) = secret.flow_secret(flow, own).split();
        let keys = SealerKeys {
            current,
            next,
            phase: false,
            first: None,
            sealed: 0,
            is_acked: false,
            update_after,
            most: limits::KEY_MAX_PACKETS,
        };
        Self::with(flow, own, SealerProtection::Keys(Box::new(keys)))
    }

    /// Encrypts nothing: a checksum against accidents.
    pub fn plain(flow: &FlowId, own: Side) -> Self {
        Self::with(flow, own, SealerProtection::Plain)
    }

    fn with(flow: &FlowId, own: Side, protection: SealerProtection) -> Self {
        Self { connection: flow.id_at(own.other()), last: None, protection }
    }

    /// Makes a packet of `packet[start..]`, which is [`HEADER_BYTES`] of room and then the blocks: writes the header,
    /// encrypts the blocks where they stand, appends the tag. `number` is above all before it. When it fails, nothing
    /// has changed.
    pub fn seal(
        &mut self,
        number: PacketNumber,
        packet: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), SealError> {
        // protocol.md [PACKET-3]: a number that comes twice would be a nonce that comes twice.
        assert!(self.last.is_none_or(|last| number > last));
        assert!(packet.len() >= start + HEADER_BYTES);
        assert!(packet.len() + self.tag_bytes() <= start + PACKET_MAX_BYTES);
        let mut header = Header { key_phase: false, connection: self.connection, number };
        match &mut self.protection {
            SealerProtection::Keys(keys) => {
                keys.advance(number)?;
                header.key_phase = keys.phase;
                let (head, blocks) = packet[start..].split_at_mut(HEADER_BYTES);
                head.copy_from_slice(&header.encode());
                let tag = keys.current.seal(number, head, blocks);
                packet.extend_from_slice(&tag);
            }
            SealerProtection::Plain => {
                packet[start..start + HEADER_BYTES].copy_from_slice(&header.encode());
                let crc = crc32c(&packet[start..]);
                packet.extend_from_slice(&crc.to_le_bytes());
            }
        }
        self.last = Some(number);
        Ok(())
    }

    /// The peer has opened the packet of this number, which was sealed here.
    pub fn on_acked(&mut self, number: PacketNumber) {
        if let SealerProtection::Keys(keys) = &mut self.protection {
            keys.is_acked |= keys.first.is_some_and(|first| number >= first);
        }
    }

    /// What [`Self::seal`] appends, bytes.
    pub fn tag_bytes(&self) -> usize {
        match self.protection {
            SealerProtection::Keys(_) => TAG_BYTES,
            SealerProtection::Plain => CRC_BYTES,
        }
    }
}

impl SealerKeys {
    /// Counts a packet, of the next phase if it is time for that.
    fn advance(&mut self, number: PacketNumber) -> Result<(), SealError> {
        // protocol.md [SEAL-4]
        if self.sealed >= self.update_after && self.is_acked {
            (self.current, self.next) = self.next.split();
            self.phase = !self.phase;
            self.first = None;
            self.sealed = 0;
            self.is_acked = false;
        }
        // protocol.md [SEAL-6]
        if self.sealed >= self.most {
            return Err(SealError::Unacknowledged);
        }
        self.first.get_or_insert(number);
        self.sealed += 1;
        Ok(())
    }
}

/// Opens the packets of the other direction.
#[derive(Debug)]
pub struct Opener {
    /// What this side calls the flow.
    connection: ConnectionId,
    /// Packets that did not open.
    failures: u64,
    /// So many, and no packet opens any more.
    failures_max: u64,
    protection: OpenerProtection,
}

#[derive(Debug)]
enum OpenerProtection {
    Keys(Box<OpenerKeys>),
    Plain,
}

/// The keys of an [`Opener`]: of the phase that it is in, and of both its neighbours.
#[derive(Debug)]
struct OpenerKeys {
    previous: Option<Keys>,
    current: Keys,
    /// Made ahead of time, so that a forged packet costs no derivation.
    next: Keys,
    /// From which the keys after `next` are made.
    after_next: FlowSecret,
    /// The current phase's lowest bit.
    phase: bool,
    /// Lowest number that was opened in the current phase; the largest there is before the first.
    lowest: PacketNumber,
}

/// Why a datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is no packet that the peer has sealed for this flow, or is one of long ago: nothing happens.
    #[error("it is no packet of this flow")]
    Refused,
    /// So many did not open that forging one is no longer out of reach: the flow has to end.
    #[error("too many packets of this flow were forged")]
    Exhausted,
}

impl Opener {
    /// Decrypts what the peer of `own` sends on this flow.
    pub fn new(secret: &SessionSecret, flow: &FlowId, own: Side) -> Self {
        let (current, next) = secret.flow_secret(flow, own.other()).split();
        let (next, after_next) = next.split();
        let keys =
            OpenerKeys { previous: None, current, next, after_next, phase: false, lowest: PacketNumber::MAX };
        Self::with(flow, own, OpenerProtection::Keys(Box::new(keys)))
    }

    /// For packets that are not encrypted.
    pub fn plain(flow: &FlowId, own: Side) -> Self {
        Self::with(flow, own, OpenerProtection::Plain)
    }

    fn with(flow: &FlowId, own: Side, protection: OpenerProtection) -> Self {
        Self { connection: flow.id_at(own), failures: 0, failures_max: limits::FORGERIES_MAX, protection }
    }

    /// The header and the blocks of a datagram, decrypted where they stand. What does not open changes nothing here
    /// but [`Self::failures`]; its bytes are of no use then. protocol.md [PACKET-2]
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<(Header, &'a [u8]), OpenError> {
        let header = Header::decode(datagram).filter(|header| header.connection == self.connection);
        let header = header.ok_or(OpenError::Refused)?;
        // protocol.md [SEAL-6]
        if self.failures >= self.failures_max {
            return Err(OpenError::Exhausted);
        }
        let blocks = match &mut self.protection {
            OpenerProtection::Keys(keys) => keys.open(header, datagram),
            OpenerProtection::Plain => open_plain(header, datagram),
        };
        let Some(blocks) = blocks else {
            self.failures += 1;
            return Err(OpenError::Refused);
        };
        Ok((header, blocks))
    }

    /// Datagrams with the header of this flow that did not open: forged, damaged, or of keys that are gone.
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

/// Which keys a packet needs.
enum Phase {
    Previous,
    Current,
    Next,
}

impl OpenerKeys {
    fn open<'a>(&mut self, header: Header, datagram: &'a mut [u8]) -> Option<&'a [u8]> {
        // protocol.md [SEAL-5]
        let phase = if header.key_phase == self.phase {
            Phase::Current
        } else if header.number < self.lowest {
            Phase::Previous
        } else {
            Phase::Next
        };
        let keys = match phase {
            Phase::Previous => self.previous.as_ref()?,
            Phase::Current => &self.current,
            Phase::Next => &self.next,
        };
        let (head, sealed) = datagram.split_at_mut(HEADER_BYTES);
        let blocks = keys.open(header.number, head, sealed)?;
        match phase {
            Phase::Previous => {}
            Phase::Current => self.lowest = self.lowest.min(header.number),
            Phase::Next => self.advance(header.number),
        }
        Some(blocks)
    }

    /// The peer's next phase has begun, as the packet of this number shows.
    fn advance(&mut self, number: PacketNumber) {
        let (next, after_next) = self.after_next.split();
        self.after_next = after_next;
        let current = mem::replace(&mut self.next, next);
        self.previous = Some(mem::replace(&mut self.current, current));
        self.phase = !self.phase;
        self.lowest = number;
    }
}

/// protocol.md [SEAL-7]
fn open_plain(header: Header, datagram: &[u8]) -> Option<&[u8]> {
    let (covered, crc) = datagram.split_last_chunk::<CRC_BYTES>()?;
    let blocks = covered.get(HEADER_BYTES..)?;
    (!header.key_phase && u32::from_le_bytes(*crc) == crc32c(covered)).then_some(blocks)
}

#[cfg(test)]
mod tests;
