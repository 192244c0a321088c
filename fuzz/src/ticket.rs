//! Addresses and tickets, as they are pasted.

use data_encoding::BASE64URL_NOPAD;
use haul::integrity::digest::{DigestKind, Hasher};
use haul::security::{ADDRESSES_MAX, Address, HostPort, Ticket, TicketError};

use super::bytes::Bytes;

/// What was read is written as the same address, and only its line for the other person holds the secret.
pub fn ticket(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let has_secret = bytes.coin();
    let secret = if has_secret { Some(whole_secret(bytes.some())) } else { None };
    let Ok(mut text) = String::from_utf8(bytes.rest().to_vec()) else { return };
    if let Some(secret) = &secret {
        text = format!("{}#{}", text.trim_end(), BASE64URL_NOPAD.encode(secret));
    }

    if let Ok(host) = HostPort::parse(&text) {
        assert_eq!(HostPort::parse(&host.to_string()), Ok(host.clone()));
        assert_eq!(HostPort::new(host.host(), host.port()), Ok(host));
    }
    match Address::parse(&text) {
        Err(_) => {}
        Ok(Address::Plain { host, path }) => {
            let plain = Address::Plain { host, path };
            assert_eq!(Address::parse(&plain.to_string()), Ok(plain));
            assert_eq!(Ticket::parse(&text), Err(TicketError::NoSecret));
        }
        Ok(Address::Ticket(ticket)) => survives(&ticket),
    }
}

fn survives(ticket: &Ticket) {
    assert!((1..=ADDRESSES_MAX).contains(&ticket.addresses.len()));
    assert_eq!(ticket.path.as_deref(), Address::Ticket(ticket.clone()).path());
    let line = ticket.to_line();
    assert_eq!(Ticket::parse(&format!(" {line}\n")), Ok(ticket.clone()));
    let (location, _) = line.split_once('#').expect("a line has a secret");
    assert_eq!(ticket.to_string(), format!("{location}#[redacted]"));
    assert_eq!(format!("{ticket:?}"), format!("Ticket({location}#[redacted])"));
}

/// The part behind `#` that holds this, with its checksum: a fuzzer finds none. protocol.md [TICKET-3]
fn whole_secret(body: &[u8]) -> Vec<u8> {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(b"haul ticket v1");
    hasher.update(body);
    [body, &hasher.finish()[..4]].concat()
}
