//! Sockets: names become addresses, addresses become connections and listeners.

mod tcp;

pub use tcp::{Listener, close_write, dial, local_addresses, resolve};
