//! Who may talk to whom, and what a third party may learn: nothing.
//!
//! ```text
//! identity   our key pair; a public key's name is the hash of its SPKI
//! ticket     addresses, the server's key hash and a token, in one line to paste; addresses without a secret
//! proof      knowledge of the token or of a session's secret, proven for one connection, never sent
//! channel    between a TCP socket and frames: plain, or TLS with pinned keys; sans-IO
//! packet     the packets of a UDP flow: sealed and opened, with keys that change
//! tls        what `channel` asks of rustls: configurations, and verifiers that pin a key and nothing else
//! secret     wiping and comparing secret bytes
//! ```
//!
//! The order of a connection: the channel ends its handshake and knows the peer's key ([`Channel::peer_key`]); the
//! hellos are exchanged; a [`Transcript`] of them and of the channel's exporter binds the proofs of a [`ProofKey`] in
//! both directions; further connections of the session prove a [`SessionSecret`].
//!
//! Nothing here opens files or sockets or asks for the time. Key generation and TLS draw the system's randomness
//! inside rcgen and rustls; tokens and session ids are made by the caller.

mod channel;
mod identity;
mod packet;
mod proof;
mod secret;
mod ticket;
mod tls;

pub use channel::{Channel, ChannelError, is_tls_first_byte};
pub use identity::{Identity, IdentityError, KeyHash, KeyHashError};
pub use packet::{FlowId, OpenError, Opener, SealError, Sealer};
pub use proof::{Join, ProofKey, SessionSecret, Side, Transcript};
pub use ticket::{ADDRESSES_MAX, Address, HOST_MAX_BYTES, HostPort, Ticket, TicketError, Token};
pub use tls::{ALPN, EXPORTER_LABEL, Pin};
