//! Stands between two ends of flows over UDP, beside a proxy for their TCP connections.

#![allow(dead_code, reason = "several test programs share this, and none uses all of it")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use super::proxy::{Manner, Proxy};

/// What a relay does to datagrams from the client (`true`) or the server, by their count in that direction.
pub type Treatment = Box<dyn FnMut(bool, u64, &[u8]) -> Vec<Vec<u8>> + Send>;

/// A TCP proxy and, at the same port number, a relay for datagrams, until it is dropped.
pub struct Relay {
    /// The TCP side.
    pub proxy: Proxy,
    shared: Arc<Shared>,
}

struct Shared {
    /// Where clients send.
    front: UdpSocket,
    server: SocketAddr,
    /// By client: the socket that the server sees.
    backs: Mutex<BTreeMap<SocketAddr, Arc<UdpSocket>>>,
    treatment: Mutex<Treatment>,
    is_blocked: AtomicBool,
    is_over: AtomicBool,
    /// Datagrams from clients and from the server.
    passed: Mutex<[u64; 2]>,
    more: Condvar,
}

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);
/// A socket that nobody uses any more is closed within this.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Relay {
    /// Passes everything on as it is.
    pub fn transparent(server: SocketAddr) -> Self {
        Self::start(server, Box::new(|_, _, datagram| vec![datagram.to_vec()]))
    }

    /// Passes datagrams on as `treatment` says.
    pub fn start(server: SocketAddr, treatment: Treatment) -> Self {
        Self::with(server, Manner::default(), treatment)
    }

    /// Passes connections on as `manner` says, and datagrams as `treatment` does.
    pub fn with(server: SocketAddr, manner: Manner, treatment: Treatment) -> Self {
        let mut treatment = Some(treatment);
        for _ in 0..20 {
            let proxy = Proxy::start(server, manner);
            let Ok(front) = UdpSocket::bind(proxy.address) else { continue };
            front.set_read_timeout(Some(LOOK_EVERY)).unwrap();
            let shared = Arc::new(Shared {
                front,
                server,
                backs: Mutex::default(),
                treatment: Mutex::new(treatment.take().expect("the first that is free")),
                is_blocked: AtomicBool::new(false),
                is_over: AtomicBool::new(false),
                passed: Mutex::default(),
                more: Condvar::new(),
            });
            let there = shared.clone();
            thread::spawn(move || there.serve_clients());
            return Self { proxy, shared };
        }
        panic!("no port is free for TCP and UDP");
    }

    /// Nothing passes from here on.
    pub fn block(&self) {
        self.shared.is_blocked.store(true, SeqCst);
    }

    /// Waits until so many datagrams have come from clients.
    pub fn await_from_clients(&self, count: u64) {
        let mut passed = self.shared.passed.lock().unwrap();
        while passed[0] < count {
            let (guard, wait) = self.shared.more.wait_timeout(passed, LONG).unwrap();
            assert!(!wait.timed_out(), "only {} datagrams came", guard[0]);
            passed = guard;
        }
    }

    /// Gives clients another address at the server from here on, as a NAT does that has forgotten them.
    pub fn rebind(&self) {
        self.shared.backs.lock().unwrap().clear();
    }
}

impl Drop for Relay {
    /// Gives the ports back: a campaign has thousands of relays.
    fn drop(&mut self) {
        self.shared.is_over.store(true, SeqCst);
        self.rebind();
    }
}

impl Shared {
    fn serve_clients(self: Arc<Self>) {
        let mut buffer = [0; 65_536];
        while !self.is_over.load(SeqCst) {
            let Ok((len, client)) = self.front.recv_from(&mut buffer) else { continue };
            let back = self.back(client);
            for datagram in self.treated(true, &buffer[..len]) {
                let _ = back.send(&datagram);
            }
        }
    }

    fn back(self: &Arc<Self>, client: SocketAddr) -> Arc<UdpSocket> {
        let mut backs = self.backs.lock().unwrap();
        if let Some(back) = backs.get(&client) {
            return back.clone();
        }
        let back = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        back.connect(self.server).unwrap();
        back.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        backs.insert(client, back.clone());
        let (shared, socket) = (self.clone(), back.clone());
        thread::spawn(move || shared.serve_server(&socket, client));
        back
    }

    fn serve_server(&self, back: &Arc<UdpSocket>, client: SocketAddr) {
        let mut buffer = [0; 65_536];
        while self.is_used(back, client) {
            while let Ok(len) = back.recv(&mut buffer) {
                for datagram in self.treated(false, &buffer[..len]) {
                    let _ = self.front.send_to(&datagram, client);
                }
            }
        }
    }

    fn is_used(&self, back: &Arc<UdpSocket>, client: SocketAddr) -> bool {
        self.backs.lock().unwrap().get(&client).is_some_and(|used| Arc::ptr_eq(used, back))
    }

    fn treated(&self, is_from_client: bool, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut passed = self.passed.lock().unwrap();
        let count = passed[usize::from(!is_from_client)];
        passed[usize::from(!is_from_client)] += 1;
        drop(passed);
        self.more.notify_all();
        if self.is_blocked.load(SeqCst) {
            return Vec::new();
        }
        (self.treatment.lock().unwrap())(is_from_client, count, datagram)
    }
}
