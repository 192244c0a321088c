//! Sockets: names become addresses, addresses become connections and listeners.

mod tcp;

pub use tcp::{Listener, dial, local_addresses, resolve};
