//! Stands between two ends of TCP connections and treats what passes badly: late, slowly, or not at all.

#![allow(dead_code, reason = "several test programs share this, and none uses all of it")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// What a proxy does to what passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Each byte arrives so much later.
    pub delay: Duration,
    /// Bytes a second, over all connections and both directions.
    pub rate: Option<u64>,
    /// A connection is cut.
    pub cut: Option<Cut>,
    /// A byte of the first connection is changed.
    pub damage: Option<Damage>,
}

/// Which byte is changed: the one behind so many in its direction.
#[derive(Clone, Copy, Debug)]
pub struct Damage {
    /// Of those of the client.
    pub is_from_client: bool,
    /// So many are before it.
    pub behind: u64,
}

/// Which connection is cut, once it has carried so many bytes.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// The first.
    First(u64),
    /// Of all others, the one that has carried them earliest.
    Further(u64),
}

/// A listener that passes connections on.
pub struct Proxy {
    /// Where to connect in the place of the real address.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    manner: Manner,
    to: SocketAddr,
    accepted: AtomicUsize,
    was_cut: AtomicBool,
    /// Bytes that the first has carried.
    by_first: AtomicU64,
    /// Those that pass now are cut, or pass nothing more.
    reset: Notify,
    mute: Notify,
    /// Further connections are cut at once.
    is_closed: AtomicBool,
    /// When the link is free again.
    free_at: Mutex<Option<Instant>>,
    /// One-way trips before the first data, see [`Proxy::trips_before_data`].
    trips: AtomicU64,
}

/// One connection.
struct Passage {
    shared: Arc<Shared>,
    number: usize,
    carried: AtomicU64,
    ended: Notify,
    /// The longest chain of messages that has reached the client and the server: each is an answer to the one
    /// before. The clock of Lamport, counting one-way trips.
    reached: [AtomicU64; 2],
    /// Bytes of content that have passed in each direction.
    passed: [AtomicU64; 2],
}

/// So many bytes in one direction cannot be hellos and keys.
const SURELY_DATA_BYTES: u64 = 100_000;
/// Small, so that what passes is never far ahead of what arrives.
const BUFFER_BYTES: u32 = 64 << 10;

impl Proxy {
    /// Starts to pass connections on to `to`.
    pub fn start(to: SocketAddr, manner: Manner) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared {
            manner,
            to,
            accepted: AtomicUsize::new(0),
            was_cut: AtomicBool::new(false),
            by_first: AtomicU64::new(0),
            reset: Notify::new(),
            mute: Notify::new(),
            is_closed: AtomicBool::new(false),
            free_at: Mutex::default(),
            trips: AtomicU64::new(0),
        });
        let listener = runtime.block_on(listen());
        let address = listener.local_addr().unwrap();
        runtime.spawn(accept(listener, shared.clone()));
        Self { address, shared, _runtime: runtime }
    }

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// Cuts all connections that there are.
    pub fn reset(&self) {
        self.shared.reset.notify_waiters();
    }

    /// Lets nothing more pass on the connections that there are, and cuts none.
    pub fn mute(&self) {
        self.shared.mute.notify_waiters();
    }

    /// Cuts further connections at once.
    pub fn close(&self) {
        self.shared.is_closed.store(true, SeqCst);
    }

    /// Bytes that the first connection has carried, in both directions.
    pub fn carried_by_first(&self) -> u64 {
        self.shared.by_first.load(SeqCst)
    }

    /// Whether a connection was cut.
    pub fn was_cut(&self) -> bool {
        self.shared.was_cut.load(SeqCst)
    }

    /// One-way trips, each begun by the arrival of the one before, up to the one that carried the first content; 0
    /// when nothing large has passed. What TCP needs to connect is not in it.
    pub fn trips_before_data(&self) -> u64 {
        self.shared.trips.load(SeqCst)
    }
}

async fn listen() -> TcpListener {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(BUFFER_BYTES).unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.listen(64).unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.accepted.fetch_add(1, SeqCst);
        let shared = shared.clone();
        if shared.is_closed.load(SeqCst) {
            continue;
        }
        tokio::spawn(async move {
            let Ok(server) = dial(shared.to).await else { return };
            let passage = Passage {
                shared,
                number,
                carried: AtomicU64::new(0),
                ended: Notify::new(),
                reached: Default::default(),
                passed: Default::default(),
            };
            tokio::select! {
                _ = async { tokio::join!(passage.pass(&client, &server, 0), passage.pass(&server, &client, 1)) } => {}
                () = passage.ended.notified() => reset([client, server]),
                () = passage.shared.reset.notified() => reset([client, server]),
                () = passage.shared.mute.notified() => std::future::pending().await,
            }
        });
    }
}

/// Both ends learn at once, as from a middlebox that forgot the connection.
fn reset(sockets: [TcpStream; 2]) {
    for socket in sockets {
        let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    }
}

async fn dial(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Passage {
    /// Passes bytes on until their end; `side` is 0 for those of the client.
    async fn pass(&self, from: &TcpStream, to: &TcpStream, side: usize) {
        let waiting = Mutex::new(VecDeque::new());
        let more = Notify::new();
        tokio::join!(self.read(from, side, &waiting, &more), self.write(to, side, &waiting, &more));
    }

    async fn read(&self, from: &TcpStream, side: usize, waiting: &Waiting, more: &Notify) {
        let mut buffer = vec![0; BUFFER_BYTES as usize];
        loop {
            if from.readable().await.is_err() {
                break;
            }
            match from.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => {
                    let trip = self.reached[side].load(SeqCst) + 1;
                    let passed = self.passed[side].fetch_add(len as u64, SeqCst) + len as u64;
                    if passed >= SURELY_DATA_BYTES {
                        let _ = self.shared.trips.compare_exchange(0, trip, SeqCst, SeqCst);
                    }
                    self.damage(&mut buffer[..len], side, passed - len as u64);
                    let at = Instant::now() + self.shared.manner.delay;
                    waiting.lock().unwrap().push_back(Some((at, trip, buffer[..len].to_vec())));
                    more.notify_one();
                    self.count(len as u64);
                    self.shared.pace(len as u64).await;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        waiting.lock().unwrap().push_back(None);
        more.notify_one();
    }

    async fn write(&self, to: &TcpStream, side: usize, waiting: &Waiting, more: &Notify) {
        loop {
            let next = waiting.lock().unwrap().pop_front();
            match next {
                None => more.notified().await,
                Some(None) => {
                    let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
                    return;
                }
                Some(Some((at, trip, bytes))) => {
                    sleep_until(at).await;
                    self.reached[1 - side].fetch_max(trip, SeqCst);
                    if write_all(to, &bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Changes the byte that is to be changed, if it is one of these, which come behind so many.
    fn damage(&self, bytes: &mut [u8], side: usize, behind: u64) {
        let Some(damage) = self.shared.manner.damage else { return };
        if self.number == 0 && damage.is_from_client == (side == 0) {
            let at =
                damage.behind.checked_sub(behind).and_then(|at| bytes.get_mut(usize::try_from(at).ok()?));
            at.into_iter().for_each(|byte| *byte ^= 4);
        }
    }

    fn count(&self, len: u64) {
        let carried = self.carried.fetch_add(len, SeqCst) + len;
        if self.number == 0 {
            self.shared.by_first.fetch_max(carried, SeqCst);
        }
        let is_meant = match self.shared.manner.cut {
            Some(Cut::First(after)) => self.number == 0 && carried >= after,
            Some(Cut::Further(after)) => self.number > 0 && carried >= after,
            None => false,
        };
        if is_meant && !self.shared.was_cut.swap(true, SeqCst) {
            self.ended.notify_one();
        }
    }
}

impl Shared {
    /// Waits until the link has carried so many bytes more.
    async fn pace(&self, len: u64) {
        let Some(rate) = self.manner.rate else { return };
        let until = {
            let mut free_at = self.free_at.lock().unwrap();
            let now = Instant::now();
            let until = free_at.map_or(now, |at| at.max(now))
                + Duration::from_secs(1).mul_f64(len as f64 / rate as f64);
            *free_at = Some(until);
            until
        };
        sleep_until(until).await;
    }
}

/// Bytes with the moment of their arrival and their place in the chain; `None` is the end.
type Waiting = Mutex<VecDeque<Option<(Instant, u64, Vec<u8>)>>>;

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
