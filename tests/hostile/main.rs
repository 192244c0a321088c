//! Bad input and bad peers, and what they get: a clear line, the right exit code, and nothing lost.
//!
//! Everything here runs the real binary in real processes on the loopback; the other end is a second one, or a peer
//! that speaks the real protocol through the library and breaks it on purpose.
//!
//! ```text
//! opening    who is there: wrong, cut and foreign tickets; no haul, silent, newer, plain
//! proofs     replayed, reflected, relayed, raced, foreign
//! crowds     slow and idle connections before authentication
//! frames     bytes that are no frames, in both directions
//! flows      words about flows over UDP that do not belong
//! discards   who asks that nothing be kept
//! senders    who lies about entries, sizes and content, to a server and to a client
//! receivers  who lies about what it wants and has
//! requests   what is asked for wrongly, and listings
//! words      what a peer says and a person sees
//! silences   who stops at any step of the protocol
//! names      what a peer may not name
//! places     what is in the way on the disk: files, permissions, space
//! resuming   going on, asked for wrongly
//! sources    files that change while they are sent
//! ends       signals, dead and sleeping peers, slow ones
//! rules      expected digests, known peers, authorized keys, what a server allows
//! secrets    the token, looked for everywhere
//! ```

#[path = "../common/peer.rs"]
mod peer;
#[path = "../common/world.rs"]
mod world;

mod crowds;
mod discards;
mod ends;
mod flows;
mod frames;
mod names;
mod opening;
mod places;
mod proofs;
mod receivers;
mod requests;
mod resuming;
mod rules;
mod secrets;
mod senders;
mod silences;
mod sources;
mod words;
