//! Where the peer is, and whether it really is there.
//!
//! A client knows its server's address from the control connection and keeps it. A server follows its client: the
//! authentic packet with the highest number says where it is. Until an address has echoed a challenge, at most three
//! times the bytes go there that came from there (RFC 9000, sections 8 and 9).

use std::net::SocketAddr;

/// Bytes that may go to an unproven address for each byte that came from it (RFC 9000, section 8.1).
const AMPLIFICATION: u64 = 3;

/// The peer's address.
#[derive(Clone, Debug)]
pub struct Path {
    remote: Option<SocketAddr>,
    /// Whether the peer may be followed to another address.
    may_move: bool,
    is_proven: bool,
    /// The last address that was proven; coming back to it needs no new proof.
    proven: Option<SocketAddr>,
    /// Bytes from and to an unproven address.
    received: u64,
    sent: u64,
    challenge: Option<[u8; 8]>,
}

/// What a packet's source says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrived {
    /// Where it was.
    Same,
    /// It moved to another port of the same host: a NAT has a new mapping.
    Rebound,
    /// It moved to another host, or this is the first that is heard of it.
    Moved,
}

impl Path {
    /// A client's path to its server.
    pub fn to_server(server: SocketAddr) -> Self {
        Self {
            remote: Some(server),
            may_move: false,
            is_proven: true,
            proven: Some(server),
            received: 0,
            sent: 0,
            challenge: None,
        }
    }

    /// A server's path to a client that it has not heard yet.
    pub fn to_client() -> Self {
        Self {
            remote: None,
            may_move: true,
            is_proven: false,
            proven: None,
            received: 0,
            sent: 0,
            challenge: None,
        }
    }

    /// Where packets go, if that is known.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// An authentic packet came. `token` is a fresh challenge, used if the address is another one.
    pub fn on_packet(
        &mut self,
        from: SocketAddr,
        bytes: u64,
        is_newest: bool,
        token: impl FnOnce() -> [u8; 8],
    ) -> Arrived {
        if self.remote == Some(from) {
            self.received += bytes;
            return Arrived::Same;
        }
        // protocol.md [PATH-2]: an old packet moves nothing.
        if !self.may_move || (!is_newest && self.remote.is_some()) {
            return Arrived::Same;
        }
        let is_same_host = self.remote.is_some_and(|remote| remote.ip() == from.ip());
        self.remote = Some(from);
        self.is_proven = self.proven == Some(from);
        (self.received, self.sent) = (bytes, 0);
        self.challenge = (!self.is_proven).then(token);
        if is_same_host { Arrived::Rebound } else { Arrived::Moved }
    }

    /// The challenge to send with the next packets, until it is answered. protocol.md [PATH-1]
    pub fn challenge(&self) -> Option<[u8; 8]> {
        self.challenge
    }

    /// A RESPONSE came. Says whether it proves another host than the one that was proven before.
    pub fn on_response(&mut self, from: SocketAddr, token: [u8; 8]) -> bool {
        let is_answer = self.remote == Some(from) && self.challenge == Some(token);
        if !is_answer {
            return false;
        }
        let is_other_host = self.proven.is_some_and(|proven| proven.ip() != from.ip());
        self.is_proven = true;
        self.proven = self.remote;
        self.challenge = None;
        is_other_host
    }

    /// Whether the peer has shown that it receives what is sent to its address.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Bytes that may go there now.
    pub fn room(&self) -> u64 {
        match (self.remote, self.is_proven) {
            (None, _) => 0,
            (Some(_), true) => u64::MAX,
            // protocol.md [PATH-1]
            (Some(_), false) => (self.received * AMPLIFICATION).saturating_sub(self.sent),
        }
    }

    /// Bytes went there.
    pub fn on_sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, host], port))
    }

    #[test]
    fn an_unproven_address_gets_three_times_what_came_from_it() {
        // protocol.md [PATH-1]
        let mut path = Path::to_client();
        assert_eq!(path.room(), 0);
        assert_eq!(path.on_packet(at(1, 5), 100, true, || [7; 8]), Arrived::Moved);

        assert_eq!(path.room(), 300);
        path.on_sent(299);
        assert_eq!(path.room(), 1);
        path.on_packet(at(1, 5), 10, false, || unreachable!());
        assert_eq!(path.room(), 31);

        path.on_response(at(1, 5), [8; 8]);
        path.on_response(at(2, 5), [7; 8]);
        assert!(!path.is_proven(), "another token, another address");
        path.on_response(at(1, 5), [7; 8]);
        assert!(path.is_proven());
        assert_eq!(path.room(), u64::MAX);
    }

    #[test]
    fn only_the_newest_packet_moves_the_path() {
        // protocol.md [PATH-2]
        let mut path = Path::to_client();
        path.on_packet(at(1, 5), 100, true, || [1; 8]);
        path.on_response(at(1, 5), [1; 8]);

        assert_eq!(path.on_packet(at(6, 6), 100, false, || unreachable!()), Arrived::Same);
        assert_eq!(path.remote(), Some(at(1, 5)));
        assert_eq!(path.on_packet(at(1, 6), 100, true, || [2; 8]), Arrived::Rebound);
        assert_eq!(path.room(), 300);
    }

    #[test]
    fn who_comes_back_to_a_proven_address_needs_no_new_proof() {
        let mut path = Path::to_client();
        path.on_packet(at(1, 5), 100, true, || [1; 8]);
        path.on_response(at(1, 5), [1; 8]);

        path.on_packet(at(6, 6), 100, true, || [2; 8]);
        path.on_packet(at(1, 5), 100, true, || unreachable!());

        assert!(path.is_proven());
        assert_eq!(path.challenge(), None);
    }

    #[test]
    fn a_client_stays_with_its_server() {
        let mut path = Path::to_server(at(1, 7420));

        assert_eq!(path.on_packet(at(2, 7420), 100, true, || unreachable!()), Arrived::Same);
        assert_eq!(path.remote(), Some(at(1, 7420)));
    }
}
