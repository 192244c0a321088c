//! The hello: the first bytes of a connection, both directions, in a layout frozen for all versions.
//!
//! ```text
//!  0      4        6             8             10             length - 4
//!  +------+--------+-------------+-------------+--------------+---------+
//!  | HAUL | length | min version | max version | extensions   | CRC-32C |   integers little-endian
//!  +------+--------+-------------+-------------+--------------+---------+
//!           u16: of all            each: type u16, len u16, `len` bytes    over all before it
//! ```
//!
//! Unknown extensions are skipped, so that the hello can grow; the checksum is there with and without TLS.

use crate::{integrity::crc32c::crc32c, limits};

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"HAUL";
/// The lowest protocol version that this program speaks.
pub const VERSION_MIN: u16 = 1;
/// The highest protocol version that this program speaks.
pub const VERSION_MAX: u16 = 1;
/// Feature bit: BLAKE3 digests.
pub const FEATURE_BLAKE3: u64 = 1;
/// Feature bit: flows over UDP.
pub const FEATURE_UDP: u64 = 2;
/// Feature bit: the session may outlive its control connection. Of a client that wants a flow.
pub const FEATURE_REJOIN: u64 = 4;
/// Feature bit: DISCARD is known, whether it is granted or not.
pub const FEATURE_DISCARD: u64 = 8;
/// Feature bit: RESUME, CHECK and SUMS are known.
pub const FEATURE_RESUME: u64 = 16;
/// Feature bits that this program has.
pub const FEATURES: u64 = FEATURE_BLAKE3 | FEATURE_UDP | FEATURE_REJOIN | FEATURE_DISCARD | FEATURE_RESUME;
/// Longest agent text, bytes.
pub const AGENT_MAX_BYTES: usize = 64;

/// What a hello without a chunk limit means, bytes.
const CHUNK_DEFAULT_BYTES: u32 = 1 << 20;
/// What this program takes, bytes.
const CHUNK_LIMIT_BYTES: u32 = 4 << 20;
const _: () = assert!(CHUNK_DEFAULT_BYTES as usize == limits::CHUNK_BYTES);
const _: () = assert!(CHUNK_LIMIT_BYTES as usize == limits::CHUNK_MAX_BYTES);
const FIXED_BYTES: usize = 10;
const CHECKSUM_BYTES: usize = 4;
const EXT_NONCE: u16 = 1;
const EXT_FEATURES: u16 = 2;
const EXT_CHUNK_MAX: u16 = 3;
const EXT_AGENT: u16 = 4;
const EXT_JOIN: u16 = 5;
const EXT_PREVIOUS: u16 = 6;

/// Asks to become one more connection of a session (client's hello only).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    /// As the WELCOME of the control connection named it.
    pub session: [u8; 16],
    /// Which connection of the session this is, below `limits::STREAMS_MAX`; 0 takes the place of its lost control
    /// connection.
    pub stream: u16,
}

/// One side's opening words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest version spoken.
    pub version_min: u16,
    /// Highest version spoken, not below the lowest.
    pub version_max: u16,
    /// Fresh random bytes.
    pub nonce: [u8; 32],
    /// Feature bits; what both sides have is agreed.
    pub features: u64,
    /// Largest content of a DATA frame that this side takes, bytes; the smaller of both is agreed.
    pub chunk_max: u32,
    /// Program and version, for people; at most [`AGENT_MAX_BYTES`].
    pub agent: String,
    /// Set when this connection joins a session.
    pub join: Option<Join>,
    /// A session of this client that was cut, and that its next one takes the place of.
    pub previous: Option<[u8; 16]>,
}

/// Why bytes are not a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Another magic: the other end is not haul.
    #[error("the other end does not speak the haul protocol")]
    NotHaul,
    /// It is longer than a hello may be, or its parts do not fit.
    #[error("a malformed hello")]
    Malformed,
    /// The checksum differs.
    #[error("a hello with a wrong checksum")]
    Checksum,
}

impl Hello {
    /// What this program says, with fresh random bytes.
    pub fn ours(nonce: [u8; 32], join: Option<Join>) -> Self {
        Self {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            nonce,
            features: FEATURES,
            chunk_max: CHUNK_LIMIT_BYTES,
            agent: concat!("haul/", env!("CARGO_PKG_VERSION")).to_owned(),
            join,
            previous: None,
        }
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.version_max.to_le_bytes());
        put_extension(EXT_NONCE, &self.nonce, &mut out);
        put_extension(EXT_FEATURES, &self.features.to_le_bytes(), &mut out);
        put_extension(EXT_CHUNK_MAX, &self.chunk_max.to_le_bytes(), &mut out);
        put_extension(EXT_AGENT, self.agent.as_bytes(), &mut out);
        if let Some(join) = &self.join {
            let mut value = join.session.to_vec();
            value.extend_from_slice(&join.stream.to_le_bytes());
            put_extension(EXT_JOIN, &value, &mut out);
        }
        if let Some(previous) = &self.previous {
            put_extension(EXT_PREVIOUS, previous, &mut out);
        }
        let length = out.len() + CHECKSUM_BYTES;
        assert!(length <= limits::HELLO_MAX_BYTES);
        out[4..6].copy_from_slice(&u16::try_from(length).expect("checked above").to_le_bytes());
        let checksum = crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Parses a hello at the front of `input`: `Ok(None)` while bytes are missing, else the hello and its length.
    /// Says [`HelloError::NotHaul`] as early as the first wrong byte (protocol.md [HELLO-1]).
    pub fn decode(input: &[u8]) -> Result<Option<(Self, usize)>, HelloError> {
        let seen = input.len().min(MAGIC.len());
        if input[..seen] != MAGIC[..seen] {
            return Err(HelloError::NotHaul);
        }
        if input.len() < 6 {
            return Ok(None);
        }
        // protocol.md [HELLO-2]
        let length = usize::from(u16::from_le_bytes([input[4], input[5]]));
        if !(FIXED_BYTES + CHECKSUM_BYTES..=limits::HELLO_MAX_BYTES).contains(&length) {
            return Err(HelloError::Malformed);
        }
        let Some(hello) = input.get(..length) else { return Ok(None) };
        let (covered, checksum) = hello.split_at(length - CHECKSUM_BYTES);
        // protocol.md [HELLO-7]
        if crc32c(covered).to_le_bytes() != *checksum {
            return Err(HelloError::Checksum);
        }
        Ok(Some((Self::parse(covered)?, length)))
    }

    fn parse(covered: &[u8]) -> Result<Self, HelloError> {
        let version_min = u16::from_le_bytes([covered[6], covered[7]]);
        let version_max = u16::from_le_bytes([covered[8], covered[9]]);
        // protocol.md [HELLO-7]
        if version_min > version_max {
            return Err(HelloError::Malformed);
        }
        let mut extensions = Extensions::default();
        let mut rest = &covered[FIXED_BYTES..];
        while !rest.is_empty() {
            let (head, tail) = rest.split_first_chunk::<4>().ok_or(HelloError::Malformed)?;
            let kind = u16::from_le_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let value = tail.get(..len).ok_or(HelloError::Malformed)?;
            extensions.take(kind, value)?;
            rest = &tail[len..];
        }
        // protocol.md [HELLO-4]: the nonce is mandatory, all else has a default.
        Ok(Self {
            version_min,
            version_max,
            nonce: extensions.nonce.ok_or(HelloError::Malformed)?,
            features: extensions.features.unwrap_or(0),
            chunk_max: extensions.chunk_max.unwrap_or(CHUNK_DEFAULT_BYTES),
            agent: extensions.agent.unwrap_or_default(),
            join: extensions.join,
            previous: extensions.previous,
        })
    }
}

#[derive(Default)]
struct Extensions {
    nonce: Option<[u8; 32]>,
    features: Option<u64>,
    chunk_max: Option<u32>,
    agent: Option<String>,
    join: Option<Join>,
    previous: Option<[u8; 16]>,
}

impl Extensions {
    /// protocol.md [HELLO-3]: known ones once and well formed, unknown ones skipped.
    fn take(&mut self, kind: u16, value: &[u8]) -> Result<(), HelloError> {
        let malformed = HelloError::Malformed;
        match kind {
            EXT_NONCE => once(&mut self.nonce, value.try_into().map_err(|_| malformed)?),
            EXT_FEATURES => {
                once(&mut self.features, u64::from_le_bytes(value.try_into().map_err(|_| malformed)?))
            }
            EXT_CHUNK_MAX => {
                let bytes = u32::from_le_bytes(value.try_into().map_err(|_| malformed)?);
                if !(limits::CHUNK_MIN_BYTES..=limits::CHUNK_MAX_BYTES).contains(&(bytes as usize)) {
                    return Err(malformed);
                }
                once(&mut self.chunk_max, bytes)
            }
            EXT_AGENT => {
                if value.len() > AGENT_MAX_BYTES {
                    return Err(malformed);
                }
                once(&mut self.agent, String::from_utf8(value.to_vec()).map_err(|_| malformed)?)
            }
            EXT_JOIN => {
                let (session, stream) = value.split_first_chunk::<16>().ok_or(malformed)?;
                let stream = u16::from_le_bytes(stream.try_into().map_err(|_| malformed)?);
                if usize::from(stream) >= limits::STREAMS_MAX {
                    return Err(malformed);
                }
                once(&mut self.join, Join { session: *session, stream })
            }
            EXT_PREVIOUS => once(&mut self.previous, value.try_into().map_err(|_| malformed)?),
            _ => Ok(()),
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), HelloError> {
    if slot.is_some() {
        return Err(HelloError::Malformed);
    }
    *slot = Some(value);
    Ok(())
}

fn put_extension(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).expect("our extensions are short").to_le_bytes());
    out.extend_from_slice(value);
}

/// The version that two hellos agree on: the highest that both speak (protocol.md [HELLO-5]).
pub fn agreed_version(ours: &Hello, theirs: &Hello) -> Option<u16> {
    let highest = ours.version_max.min(theirs.version_max);
    (highest >= ours.version_min.max(theirs.version_min)).then_some(highest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Hello {
        Hello::ours([7; 32], Some(Join { session: [9; 16], stream: 3 }))
    }

    /// A hello with these extension bytes, well formed around them.
    fn with_extensions(extensions: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let length = u16::try_from(FIXED_BYTES + extensions.len() + CHECKSUM_BYTES).unwrap();
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[1, 0, 1, 0]);
        out.extend_from_slice(extensions);
        let checksum = crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    fn extension(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_extension(kind, value, &mut out);
        out
    }

    #[test]
    fn a_hello_survives_the_wire_and_waits_for_all_of_its_bytes() {
        let bytes = sample().encode();

        for cut in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let with_more = [&bytes[..], b"more"].concat();
        assert_eq!(Hello::decode(&with_more), Ok(Some((sample(), bytes.len()))));
    }

    #[test]
    fn another_protocol_is_known_by_its_first_byte() {
        // protocol.md [HELLO-1]
        assert_eq!(Hello::decode(b"G"), Err(HelloError::NotHaul));
        assert_eq!(Hello::decode(b"HTTP/1.1 400 Bad Request"), Err(HelloError::NotHaul));
        assert_eq!(Hello::decode(b"HAU"), Ok(None));
    }

    #[test]
    fn a_length_outside_its_bounds_is_refused_at_once() {
        // protocol.md [HELLO-2]
        for (length, fits) in [(13u16, false), (14, true), (4096, true), (4097, false)] {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&length.to_le_bytes());
            assert_eq!(Hello::decode(&bytes).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        // protocol.md [HELLO-7]
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Hello::decode(&damaged), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn unknown_extensions_are_skipped_and_known_ones_stand_once() {
        // protocol.md [HELLO-3]
        let nonce = extension(EXT_NONCE, &[1; 32]);
        let unknown = extension(0x7001, b"from the future");

        let grown = with_extensions(&[&nonce[..], &unknown, &unknown].concat());
        assert!(matches!(Hello::decode(&grown), Ok(Some(_))));

        let twice = with_extensions(&[&nonce[..], &nonce].concat());
        assert_eq!(Hello::decode(&twice), Err(HelloError::Malformed));
        let cut = with_extensions(&nonce[..nonce.len() - 1]);
        assert_eq!(Hello::decode(&cut), Err(HelloError::Malformed));
        let small = with_extensions(&[&nonce[..], &extension(EXT_CHUNK_MAX, &[1, 0, 0, 0])].concat());
        assert_eq!(Hello::decode(&small), Err(HelloError::Malformed));
    }

    #[test]
    fn a_known_extension_has_its_form_just_to_its_bounds() {
        // protocol.md [HELLO-3]
        let chunk = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes().to_vec();
        let join = |stream: usize| [&[9; 16][..], &u16::try_from(stream).unwrap().to_le_bytes()].concat();
        let (least, most) = (limits::CHUNK_MIN_BYTES, limits::CHUNK_MAX_BYTES);
        let agent = |len: usize| vec![b'a'; len];
        let pairs = [
            ("a short nonce", EXT_NONCE, vec![1; 32], vec![1; 31]),
            ("a long nonce", EXT_NONCE, vec![1; 32], vec![1; 33]),
            ("few features", EXT_FEATURES, vec![0xff; 8], vec![0xff; 7]),
            ("many features", EXT_FEATURES, vec![0xff; 8], vec![0xff; 9]),
            ("a small chunk", EXT_CHUNK_MAX, chunk(least), chunk(least - 1)),
            ("a large chunk", EXT_CHUNK_MAX, chunk(most), chunk(most + 1)),
            ("a short number", EXT_CHUNK_MAX, chunk(least), chunk(least)[..3].to_vec()),
            ("a long agent", EXT_AGENT, agent(AGENT_MAX_BYTES), agent(AGENT_MAX_BYTES + 1)),
            ("an agent that is no text", EXT_AGENT, b"\xc3\xa9".to_vec(), b"\xc3".to_vec()),
            ("a stream too many", EXT_JOIN, join(limits::STREAMS_MAX - 1), join(limits::STREAMS_MAX)),
            ("a short join", EXT_JOIN, join(1), join(1)[..17].to_vec()),
            ("a short session", EXT_PREVIOUS, vec![1; 16], vec![1; 15]),
            ("a long session", EXT_PREVIOUS, vec![1; 16], vec![1; 17]),
            ("a long join", EXT_JOIN, join(1), [join(1), vec![0]].concat()),
        ];
        for (what, kind, inside, outside) in pairs {
            let nonce = if kind == EXT_NONCE { Vec::new() } else { extension(EXT_NONCE, &[1; 32]) };
            let decode = |value: &[u8]| {
                Hello::decode(&with_extensions(&[&nonce[..], &extension(kind, value)].concat()))
            };

            assert!(matches!(decode(&inside), Ok(Some(_))), "{what}: just inside");
            assert_eq!(decode(&outside), Err(HelloError::Malformed), "{what}: just outside");
        }
    }

    #[test]
    fn an_extension_that_runs_past_the_end_is_malformed() {
        // protocol.md [HELLO-3]
        let nonce = extension(EXT_NONCE, &[1; 32]);
        let unknown = extension(0x7001, b"from the future");

        for kept in 1..unknown.len() {
            let cut = with_extensions(&[&nonce[..], &unknown[..kept]].concat());
            assert_eq!(Hello::decode(&cut), Err(HelloError::Malformed), "{kept} bytes of it");
        }
    }

    #[test]
    fn only_the_nonce_is_mandatory() {
        // protocol.md [HELLO-4]
        assert_eq!(Hello::decode(&with_extensions(&[])), Err(HelloError::Malformed));

        let (hello, _) = Hello::decode(&with_extensions(&extension(EXT_NONCE, &[1; 32]))).unwrap().unwrap();
        assert_eq!(hello.features, 0);
        assert_eq!(hello.chunk_max as usize, limits::CHUNK_BYTES);
        assert_eq!(hello.join, None);
    }

    #[test]
    fn the_highest_common_version_is_agreed_on() {
        // protocol.md [HELLO-5]
        let speaks = |version_min, version_max| Hello { version_min, version_max, ..sample() };

        assert_eq!(agreed_version(&speaks(1, 1), &speaks(1, 3)), Some(1));
        assert_eq!(agreed_version(&speaks(1, 3), &speaks(2, 5)), Some(3));
        assert_eq!(agreed_version(&speaks(1, 1), &speaks(2, 3)), None);
        assert_eq!(agreed_version(&speaks(4, 5), &speaks(2, 3)), None);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Hello::decode(&bytes);
            let _ = Hello::decode(&with_extensions(&bytes));
        }
    }
}
