//! haul moves files between machines over TCP and UDP, and proves every byte.
//!
//! The map of the house, in the order in which a file travels from one disk to the other:
//!
//! ```text
//! sim        a world on a virtual clock, for tests and campaigns; nothing imports it
//! cli        reads the wish, shows the progress, says what happened
//! compare    contenders over one link, each a process: what each kept and cost; table, JSON, page
//! run        threads, tasks, clock and chance: couples everything below with the world
//! emulator   real packets through a `link`, between two hosts in network namespaces of their own
//! net        sockets
//! session    who are you, what do you want: opening a connection (sans-IO)
//! file       a tree becomes entries and chunks; chunks become parts beside their targets, and parts become files
//! datagram   the carrier over UDP: packets, repair, pacing, congestion control (sans-IO)
//! stream     the carrier over TCP: frames on a byte stream, heartbeats, one connection more or not (sans-IO)
//! transfer   the heart: what is wanted, sent, placed and granted; one queue for all connections (sans-IO)
//! security   identities, tickets, proofs, the TLS channel
//! link       what a path does to packets: queue, loss, delay (pure)
//! wire       values to bytes and back
//! integrity  digests, checksums, manifests
//! units      sizes, rates and times, as people read and write them
//! limits     every bound and default
//! ```
//!
//! Imports go down this list only; `tests/protocol.rs` holds that order. `protocol.md` specifies what is on the wire.

pub mod cli;
#[cfg(target_os = "linux")]
pub mod compare;
pub mod datagram;
#[cfg(target_os = "linux")]
pub mod emulator;
pub mod file;
pub mod integrity;
pub mod limits;
pub mod link;
pub mod net;
pub mod run;
pub mod security;
pub mod session;
pub mod sim;
pub mod stream;
pub mod transfer;
pub mod units;
pub mod wire;
