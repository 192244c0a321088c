//! What one person gives to another: where to connect, whom to expect there, and a secret that lets them in.
//!
//! ```text
//! haul://HOST[:PORT][/PATH]#SECRET         PATH percent-encoded; SECRET is base64url without padding of
//!
//! | version 1 | flags | key hash 32 | token 16 | count | count x (len, host, port u16 LE) | checksum 4 |
//! ```
//!
//! HOST:PORT is the first address and may be edited by hand (a tunnel, a forwarded port); the further ones stand in
//! the secret. Flags: bit 0 is a one-time ticket, the others are zero. The checksum is the first four bytes of
//! SHA-256 over `haul ticket v1` and all bytes before it, in this version and all later ones: it tells a cut paste
//! from a wrong secret and from a newer version (protocol.md [TICKET-1] to [TICKET-3]). Hosts are kept in lower case
//! and IPv6 addresses in their shortest form.
//!
//! A [`Ticket`] and its [`Token`] redact themselves in Debug and Display; only [`Ticket::to_line`] says all of it.

use std::fmt;
use std::net::Ipv6Addr;

use data_encoding::BASE64URL_NOPAD;

use super::identity::KeyHash;
use super::secret::{equal, wipe};
use crate::limits;

/// Most addresses in one ticket.
pub const ADDRESSES_MAX: usize = 8;

/// Longest host name, bytes (RFC 1035 allows 253); its length has to fit one byte.
pub const HOST_MAX_BYTES: usize = 255;

/// The secret of a ticket: 128 random bits. Redacts itself and is wiped when dropped.
#[derive(Clone)]
pub struct Token([u8; 16]);

/// A name or address and a port. A host is a DNS name in lower case, an IPv4 address, or an IPv6 address without
/// brackets; shown as `HOST:PORT`, IPv6 in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

/// All that a client needs to reach one server and be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The server's public key.
    pub key: KeyHash,
    /// Proves that the client has this ticket.
    pub token: Token,
    /// Admits one client, for one transfer.
    pub one_time: bool,
    /// Where the server may be reached, 1..=`ADDRESSES_MAX`, best first.
    pub addresses: Vec<HostPort>,
    /// Path on the server, any bytes; `None` is the server's root. Empty is never parsed, and printed as `None`.
    pub path: Option<Vec<u8>>,
}

/// Where a source or destination is, as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// With a secret.
    Ticket(Ticket),
    /// Without: for servers whose key is known, or that know ours.
    Plain {
        /// Where to connect.
        host: HostPort,
        /// Path on the server; `None` is its root.
        path: Option<Vec<u8>>,
    },
}

/// Why text is not an address or a ticket. Never repeats the text: it may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Neither `haul://…` nor `HOST:PATH`, or the host is none.
    #[error("this is not a haul address: haul://HOST[:PORT][/PATH] or HOST:PATH")]
    NotHaul,
    /// An address without the part behind `#`, where a ticket is needed.
    #[error("this is an address without a ticket's secret (the part behind #)")]
    NoSecret,
    /// Wrong checksum, length or characters in the secret.
    #[error("the ticket was cut or mistyped; paste the whole line")]
    Mistyped,
    /// The secret is whole but of a version that this haul does not know.
    #[error("the ticket was made by a newer haul (ticket version {0}); update this one")]
    UnknownVersion(u8),
    /// The port is not 1..=65535.
    #[error("the port in the address is not a number from 1 to 65535")]
    Port,
    /// `HOST:PORT:PATH`, which would be the path `PORT:PATH` on the default port.
    #[error("a port needs the long form, haul://HOST:PORT/PATH (a path that begins like one: HOST:./PATH)")]
    ShortPort,
    /// A `%` in the path without two hex digits behind it.
    #[error("the path in the address has a % without two hex digits behind it")]
    Escape,
}

impl Token {
    /// Wraps 16 bytes, random ones where a new ticket is made.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The secret bytes, for a proof or a file that only its owner can read.
    pub fn expose(&self) -> &[u8; 16] {
        &self.0
    }
}

impl PartialEq for Token {
    /// In a time that does not depend on where the two differ.
    fn eq(&self, other: &Self) -> bool {
        equal(&self.0, &other.0)
    }
}

impl Eq for Token {}

impl Drop for Token {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl HostPort {
    /// Checks a host (an IPv6 address without brackets, a zone like `%eth0` allowed) and a port that is not 0.
    pub fn new(host: &str, port: u16) -> Result<Self, TicketError> {
        if port == 0 {
            return Err(TicketError::Port);
        }
        let host = if host.contains(':') { ipv6(host) } else { name(host) }.ok_or(TicketError::NotHaul)?;
        assert!((1..=HOST_MAX_BYTES).contains(&host.len()));
        Ok(Self { host, port })
    }

    /// Parses `HOST` or `HOST:PORT`, IPv6 in brackets; the default port is `limits::PORT`.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let (host, rest) = split_host(text).ok_or(TicketError::NotHaul)?;
        let port = match rest.strip_prefix(':') {
            Some(port) => parse_port(port)?,
            None if rest.is_empty() => limits::PORT,
            None => return Err(TicketError::NotHaul),
        };
        Self::new(host, port)
    }

    /// The name or address, IPv6 without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `HOST[:PORT]`, the port only if it is not the default.
    fn short(&self) -> String {
        let text = self.to_string();
        match text.strip_suffix(&format!(":{}", limits::PORT)) {
            Some(host) => host.to_owned(),
            None => text,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Ticket {
    /// Parses a whole ticket. White space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        match Address::parse(text)? {
            Address::Ticket(ticket) => Ok(ticket),
            Address::Plain { .. } => Err(TicketError::NoSecret),
        }
    }

    /// The line to give to the other person. A secret: for standard output and nothing else.
    pub fn to_line(&self) -> String {
        format!("{}#{}", self.location(), BASE64URL_NOPAD.encode(&self.secret()))
    }

    /// The line without what stands behind `#`.
    fn location(&self) -> String {
        let first = self.addresses.first().expect("a ticket has an address");
        location(first, self.path.as_deref())
    }

    /// protocol.md [TICKET-1]
    fn secret(&self) -> Vec<u8> {
        assert!((1..=ADDRESSES_MAX).contains(&self.addresses.len()), "a ticket has 1 to 8 addresses");
        let mut out = vec![VERSION, u8::from(self.one_time)];
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(self.token.expose());
        let further = &self.addresses[1..];
        out.push(u8::try_from(further.len()).expect("at most seven"));
        for address in further {
            out.push(u8::try_from(address.host.len()).expect("HostPort::new checked the length"));
            out.extend_from_slice(address.host.as_bytes());
            out.extend_from_slice(&address.port.to_le_bytes());
        }
        let checksum = checksum(&out);
        out.extend_from_slice(&checksum);
        out
    }

    /// protocol.md [TICKET-1], [TICKET-2]
    fn from_secret(secret: &[u8], first: HostPort, path: Option<Vec<u8>>) -> Result<Self, TicketError> {
        let (body, sum) = secret.split_last_chunk::<4>().ok_or(TicketError::Mistyped)?;
        if checksum(body) != *sum {
            return Err(TicketError::Mistyped);
        }
        // Whole, so what we do not understand was made by somebody who knows more than we do.
        let version = *body.first().ok_or(TicketError::Mistyped)?;
        if version != VERSION || body.get(1).is_some_and(|flags| flags & !ONE_TIME != 0) {
            return Err(TicketError::UnknownVersion(version));
        }
        Self::from_body(body, first, path).ok_or(TicketError::Mistyped)
    }

    fn from_body(body: &[u8], first: HostPort, path: Option<Vec<u8>>) -> Option<Self> {
        let (&[_version, flags], rest) = body.split_first_chunk()?;
        let (&key, rest) = rest.split_first_chunk()?;
        let (&token, rest) = rest.split_first_chunk()?;
        let (&count, mut rest) = rest.split_first()?;
        if usize::from(count) >= ADDRESSES_MAX {
            return None;
        }
        let mut addresses = vec![first];
        for _ in 0..count {
            let (&len, after) = rest.split_first()?;
            let (host, after) = after.split_at_checked(usize::from(len))?;
            let (&port, after) = after.split_first_chunk()?;
            addresses.push(HostPort::new(std::str::from_utf8(host).ok()?, u16::from_le_bytes(port)).ok()?);
            rest = after;
        }
        let whole = Self {
            key: KeyHash::from_bytes(key),
            token: Token::from_bytes(token),
            one_time: flags & ONE_TIME != 0,
            addresses,
            path,
        };
        rest.is_empty().then_some(whole)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#[redacted]", self.location())
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({self})")
    }
}

impl Address {
    /// Parses `haul://HOST[:PORT][/PATH][#SECRET]` or, as scp has it, `HOST:PATH`. White space around it is
    /// ignored. A name with a slash before its first colon is a local path, and so [`TicketError::NotHaul`].
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        match text.strip_prefix(SCHEME) {
            Some(rest) => Self::parse_url(rest),
            None => {
                let (host, rest) = split_host(text).ok_or(TicketError::NotHaul)?;
                let path = rest.strip_prefix(':').ok_or(TicketError::NotHaul)?;
                if path.starts_with("//") {
                    return Err(TicketError::NotHaul); // `http://…`
                }
                let plain = HostPort::new(host, limits::PORT)?;
                if path.split_once(':').is_some_and(|(port, _)| parse_port(port).is_ok()) {
                    return Err(TicketError::ShortPort);
                }
                Ok(Self::Plain { host: plain, path: non_empty(path.into()) })
            }
        }
    }

    fn parse_url(rest: &str) -> Result<Self, TicketError> {
        let (location, secret) = match rest.split_once('#') {
            Some((location, secret)) => (location, Some(secret)),
            None => (rest, None),
        };
        let (host, path) = match location.split_once('/') {
            Some((host, path)) => (host, non_empty(percent_decode(path)?)),
            None => (location, None),
        };
        let host = HostPort::parse(host)?;
        match secret {
            Some(secret) => {
                let secret = BASE64URL_NOPAD.decode(secret.as_bytes()).map_err(|_| TicketError::Mistyped)?;
                Ticket::from_secret(&secret, host, path).map(Self::Ticket)
            }
            None => Ok(Self::Plain { host, path }),
        }
    }

    /// Path on the server; `None` is its root.
    pub fn path(&self) -> Option<&[u8]> {
        match self {
            Self::Ticket(ticket) => ticket.path.as_deref(),
            Self::Plain { path, .. } => path.as_deref(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(ticket) => ticket.fmt(f),
            Self::Plain { host, path } => f.write_str(&location(host, path.as_deref())),
        }
    }
}

const SCHEME: &str = "haul://";
const VERSION: u8 = 1;
const ONE_TIME: u8 = 1;

/// protocol.md [TICKET-3]
fn checksum(body: &[u8]) -> [u8; 4] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(b"haul ticket v1");
    context.update(body);
    context.finish().as_ref()[..4].try_into().expect("SHA-256 has 32 bytes")
}

/// Splits `[IPV6]rest` or `HOST:rest` or `HOST`; the rest keeps its colon.
fn split_host(text: &str) -> Option<(&str, &str)> {
    match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.contains(':').then_some((host, rest))
        }
        None => Some(text.split_at(text.find(':').unwrap_or(text.len()))),
    }
}

fn parse_port(text: &str) -> Result<u16, TicketError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&port| digits && port != 0).ok_or(TicketError::Port)
}

/// A DNS name or IPv4 address, in lower case. Underscores are no DNS, but they are in many a hosts file.
fn name(host: &str) -> Option<String> {
    let fits = (1..=HOST_MAX_BYTES).contains(&host.len());
    (fits && host.bytes().all(is_name_byte) && !host.starts_with('-')).then(|| host.to_ascii_lowercase())
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

fn ipv6(host: &str) -> Option<String> {
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (host, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    match zone {
        None => Some(address.to_string()),
        Some(zone) if (1..=32).contains(&zone.len()) && zone.bytes().all(is_name_byte) => {
            Some(format!("{address}%{zone}"))
        }
        Some(_) => None,
    }
}

fn location(host: &HostPort, path: Option<&[u8]>) -> String {
    let mut out = format!("{SCHEME}{}", host.short());
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        out.push('/');
        percent_encode(path, &mut out);
    }
    out
}

/// Keeps RFC 3986's unreserved characters and slashes.
fn percent_encode(path: &[u8], out: &mut String) {
    for &byte in path {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn percent_decode(text: &str) -> Result<Vec<u8>, TicketError> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = digit(bytes.next()).ok_or(TicketError::Escape)?;
                let low = digit(bytes.next()).ok_or(TicketError::Escape)?;
                high << 4 | low
            }
            byte => byte,
        });
    }
    Ok(out)
}

fn non_empty(path: Vec<u8>) -> Option<Vec<u8>> {
    (!path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ticket_line_is_laid_out_as_the_protocol_says() {
        // protocol.md [TICKET-1]
        let ticket = Ticket { addresses: vec![at("Example.org", 7420), at("::1", 9)], ..ticket() };

        let line = ticket.to_line();

        let (location, secret) = line.split_once('#').unwrap();
        assert_eq!(location, "haul://example.org/a%20b/%FF%23c");
        let secret = BASE64URL_NOPAD.decode(secret.as_bytes()).unwrap();
        let (body, sum) = secret.split_at(secret.len() - 4);
        assert_eq!(body[..2], [1, 1]);
        assert_eq!(body[2..34], [7; 32]);
        assert_eq!(body[34..50], [9; 16]);
        assert_eq!(body[50..], *b"\x01\x03::1\x09\x00");
        assert_eq!(sum, checksum(body));
    }

    #[test]
    fn the_checksum_is_that_of_the_golden_line() {
        // protocol.md [TICKET-3]
        // Computed with Python's hashlib and base64.
        let line = "haul://host.example:7421/dir/file#\
            AQAAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH_Dx8vP09fb3-Pn6-_z9_v8BCTEyNy4wLjAuMfwcWS_J2w";

        let ticket = Ticket::parse(line).unwrap();

        assert_eq!(ticket.to_line(), line);
        assert_eq!(ticket.key.as_bytes()[..3], [0, 1, 2]);
        assert_eq!(ticket.token.expose()[..3], [0xf0, 0xf1, 0xf2]);
        assert_eq!(ticket.addresses, [at("host.example", 7421), at("127.0.0.1", 7420)]);
        assert_eq!(ticket.path.as_deref(), Some(&b"dir/file"[..]));
        assert!(!ticket.one_time);
    }

    #[test]
    fn a_cut_or_mistyped_ticket_is_told_from_a_good_one_at_every_character() {
        let line =
            Ticket { addresses: vec![at("h", 1), at("10.0.0.1", 2)], path: None, ..ticket() }.to_line();
        let start = line.find('#').unwrap() + 1;

        for end in start..line.len() {
            assert_eq!(Ticket::parse(&line[..end]), Err(TicketError::Mistyped), "cut at {end}");
            let other = if &line[end..=end] == "A" { "B" } else { "A" };
            let mistyped = [&line[..end], other, &line[end + 1..]].concat();
            assert_eq!(Ticket::parse(&mistyped), Err(TicketError::Mistyped), "typo at {end}");
        }
        assert_eq!(Ticket::parse(&format!("{line}A")), Err(TicketError::Mistyped));
        assert_eq!(Ticket::parse(&line[..start - 1]), Err(TicketError::NoSecret));
        assert!(TicketError::Mistyped.to_string().contains("cut or mistyped; paste the whole line"));
    }

    #[test]
    fn a_whole_ticket_of_another_version_or_with_unknown_flags_says_so() {
        // protocol.md [TICKET-2]
        for (at, value, version) in [(0, 2, 2), (1, 2, 1), (1, 0x80, 1)] {
            let mut body = ticket().secret();
            body.truncate(body.len() - 4);
            body[at] = value;
            let sum = checksum(&body);
            body.extend_from_slice(&sum);

            let line = format!("haul://h#{}", BASE64URL_NOPAD.encode(&body));

            assert_eq!(Ticket::parse(&line), Err(TicketError::UnknownVersion(version)));
        }
    }

    #[test]
    fn a_whole_secret_with_a_wrong_inside_is_refused() {
        // protocol.md [TICKET-2]
        let whole = ticket().secret();
        let good = &whole[..whole.len() - 4];
        let too_many = [&good[..50], &[8], &b"\x01h\x01\x00".repeat(8)[..]].concat();
        let no_port = [&good[..50], b"\x01\x01h\x00\x00"].concat();
        let no_host = [&good[..50], b"\x01\x00\x01\x00"].concat();
        let trailing = [good, b"x"].concat();

        for body in [&good[..1], &good[..20], &good[..50], &too_many, &no_port, &no_host, &trailing] {
            let secret = [body, &checksum(body)].concat();
            assert_eq!(Ticket::from_secret(&secret, at("h", 1), None), Err(TicketError::Mistyped));
        }
        let seven = [&good[..50], &[7], &b"\x01h\x01\x00".repeat(7)[..]].concat();
        let secret = [&seven[..], &checksum(&seven)].concat();
        assert_eq!(Ticket::from_secret(&secret, at("h", 1), None).unwrap().addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_ticket_shows_nothing_of_its_secret() {
        let ticket = ticket();
        let address = Address::Ticket(ticket.clone());

        assert_eq!(ticket.to_string(), "haul://h/a%20b/%FF%23c#[redacted]");
        assert_eq!(format!("{ticket:?}"), "Ticket(haul://h/a%20b/%FF%23c#[redacted])");
        assert_eq!(address.to_string(), ticket.to_string());
        assert!(!format!("{address:?} {:?} {}", ticket.token, ticket.token).contains('9'));
    }

    #[test]
    fn an_address_is_read_as_a_person_writes_it() {
        let cases: [(&str, &str, u16, Option<&[u8]>); 16] = [
            ("haul://host", "host", 7420, None),
            ("haul://host/", "host", 7420, None),
            ("haul://host:99/a/b", "host", 99, Some(b"a/b")),
            ("haul://host/a%20b%ff", "host", 7420, Some(b"a b\xff")),
            ("haul://[::1]/x", "::1", 7420, Some(b"x")),
            ("haul://[FE80:0::1%eth0]:7421", "fe80::1%eth0", 7421, None),
            ("haul://host//abs", "host", 7420, Some(b"/abs")),
            (" haul://HOST/Path/\n", "host", 7420, Some(b"Path/")),
            ("host:", "host", 7420, None),
            ("host:a b%20:c#d", "host", 7420, Some(b"a b%20:c#d")),
            ("host:80", "host", 7420, Some(b"80")),
            ("host:./80:a", "host", 7420, Some(b"./80:a")),
            ("host:65536:a", "host", 7420, Some(b"65536:a")),
            ("10.0.0.1:/abs", "10.0.0.1", 7420, Some(b"/abs")),
            ("[::1]:path", "::1", 7420, Some(b"path")),
            ("my_host-2.lan:tree/", "my_host-2.lan", 7420, Some(b"tree/")),
        ];

        for (text, host, port, path) in cases {
            let wanted = Address::Plain { host: at(host, port), path: path.map(<[u8]>::to_vec) };
            assert_eq!(Address::parse(text), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        use TicketError::*;
        let cases = [
            ("", NotHaul),
            ("file.txt", NotHaul),
            ("./a:b", NotHaul),
            ("/a:b", NotHaul),
            (":path", NotHaul),
            ("user@host:path", NotHaul),
            ("-host:path", NotHaul),
            ("[host]:path", NotHaul),
            ("[::1:path", NotHaul),
            ("[::1]path", NotHaul),
            ("[::1]", NotHaul),
            ("http://host/", NotHaul),
            ("haul://", NotHaul),
            ("haul:///path", NotHaul),
            ("haul://a b/", NotHaul),
            ("haul://::1/", Port),
            ("haul://host:/", Port),
            ("haul://host:0/", Port),
            ("haul://host:65536", Port),
            ("haul://host:+80", Port),
            ("haul://host/%", Escape),
            ("haul://host/%f", Escape),
            ("haul://host/%+f", Escape),
            ("haul://host#", Mistyped),
            ("haul://host#AQ==", Mistyped),
            ("host:80:a:b", ShortPort),
        ];

        for (text, why) in cases {
            assert_eq!(Address::parse(text), Err(why), "{text}");
        }
        assert!(HostPort::new(&"h".repeat(HOST_MAX_BYTES), 1).is_ok());
        assert_eq!(HostPort::new(&"h".repeat(HOST_MAX_BYTES + 1), 1), Err(NotHaul));
    }

    #[test]
    fn the_default_port_is_not_printed_and_ipv6_is_bracketed() {
        let show = |host, port| Address::Plain { host: at(host, port), path: None }.to_string();

        assert_eq!(show("h", 7420), "haul://h");
        assert_eq!(show("h", 17420), "haul://h:17420");
        assert_eq!(show("::1", 7420), "haul://[::1]");
        assert_eq!(show("::7420", 1), "haul://[::7420]:1");
        assert_eq!(at("::1", 7420).to_string(), "[::1]:7420");
    }

    proptest! {
        #[test]
        fn any_ticket_survives_its_line(
            key: [u8; 32], token: [u8; 16], one_time: bool,
            addresses in prop::collection::vec(host_port(), 1..=ADDRESSES_MAX),
            path in prop::option::of(prop::collection::vec(any::<u8>(), 1..80)),
        ) {
            let key = KeyHash::from_bytes(key);
            let ticket = Ticket { key, token: Token::from_bytes(token), one_time, addresses, path };

            prop_assert_eq!(Ticket::parse(&ticket.to_line()), Ok(ticket));
        }

        #[test]
        fn any_plain_address_survives_its_text(
            host in host_port(), path in prop::option::of(prop::collection::vec(any::<u8>(), 1..80)),
        ) {
            let address = Address::Plain { host, path };

            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*", tail in "[A-Za-z0-9_-]{0,200}", any in any::<String>()) {
            let _ = Address::parse(&text);
            let _ = Address::parse(&any);
            let _ = Address::parse(&format!("haul://{text}"));
            let _ = Address::parse(&format!("haul://{any}#{tail}"));
            let _ = Ticket::parse(&format!("haul://h#{tail}"));
            let _ = HostPort::parse(&text);
        }

        #[test]
        fn no_secret_makes_the_parser_panic(mut body in prop::collection::vec(any::<u8>(), 0..300)) {
            if body.len() > 50 {
                body[..2].copy_from_slice(&[1, 0]);
                body[50] %= 10;
            }
            let sum = checksum(&body);
            body.extend_from_slice(&sum);

            let _ = Ticket::from_secret(&body, at("h", 1), None);
        }
    }

    fn host_port() -> impl Strategy<Value = HostPort> {
        let host = prop_oneof![
            "[A-Za-z0-9_][A-Za-z0-9._-]{0,40}",
            any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).to_string()),
            any::<u16>().prop_map(|bits| format!("fe80::{bits:x}%eth0")),
        ];
        let port = prop_oneof![Just(limits::PORT), 1..=u16::MAX];
        (host, port).prop_map(|(host, port)| at(&host, port))
    }

    fn at(host: &str, port: u16) -> HostPort {
        HostPort::new(host, port).unwrap()
    }

    fn ticket() -> Ticket {
        Ticket {
            key: KeyHash::from_bytes([7; 32]),
            token: Token::from_bytes([9; 16]),
            one_time: true,
            addresses: vec![at("h", limits::PORT)],
            path: Some(b"a b/\xff#c".to_vec()),
        }
    }
}
