//! The bad path between both processes: a proxy for TCP and a relay for UDP, shaken as the seed decides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{JoinHandle, spawn};

use super::plan::{Dice, Road, Shake};
use crate::common::proxy::Manner;
use crate::common::relay::Relay;
use haul::run::clock;

/// A path that stands until it is dropped.
pub struct Path {
    address: SocketAddr,
    resets: Arc<AtomicU32>,
    /// Dropped, it ends the thread that shakes.
    over: Option<Sender<()>>,
    shaker: Option<JoinHandle<()>>,
}

impl Path {
    /// Begins to lead to `server`.
    pub fn start(server: SocketAddr, road: &Road, seed: u64) -> Self {
        let Road { lost, repeated, swapped, delay, ref shakes } = *road;
        let mut dice = Dice(seed);
        let mut held = [None, None];
        let treatment = move |is_from_client: bool, _, datagram: &[u8]| {
            let held = &mut held[usize::from(is_from_client)];
            let mut out = Vec::new();
            if dice.below(1000) >= lost {
                out.push(datagram.to_vec());
            }
            if dice.below(1000) < repeated {
                out.push(datagram.to_vec());
            }
            if held.is_none() && dice.below(1000) < swapped {
                *held = out.pop();
            } else {
                out.extend(held.take());
            }
            out
        };
        let relay = Relay::with(server, Manner { delay, ..Manner::default() }, Box::new(treatment));
        let address = relay.proxy.address;
        let resets = Arc::new(AtomicU32::new(0));
        let (over, is_over) = channel::<()>();
        let (shakes, counter, begun) = (shakes.clone(), resets.clone(), clock::now());
        let shaker = spawn(move || {
            for (at, shake) in shakes {
                let left = at.saturating_sub(clock::now().duration_since(begun));
                if is_over.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
                match shake {
                    Shake::Rebind => relay.rebind(),
                    Shake::Reset => {
                        counter.fetch_add(1, SeqCst);
                        relay.proxy.reset();
                    }
                }
            }
            // The path stands as long as it is wanted.
            let _ = is_over.recv();
        });
        Self { address, resets, over: Some(over), shaker: Some(shaker) }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often its connections were reset.
    pub fn resets(&self) -> u32 {
        self.resets.load(SeqCst)
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(shaker) = self.shaker.take() {
            let _ = shaker.join();
        }
    }
}
