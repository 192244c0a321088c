//! A peer that speaks the real protocol through the library, blocking, and can be made to speak it wrongly.

#![allow(dead_code, reason = "several test programs share this, and none uses all of it")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use haul::integrity::digest::{DigestKind, Hasher};
use haul::run::clock;
use haul::security::{Channel, HostPort, Identity, KeyHash, Pin, ProofKey, Ticket, Token};
use haul::session::{
    AuthRequest, ClientOpening, Credential, Opened, OpeningError, Prover, Request, ServerOpening,
};
use haul::stream::Link;
use haul::wire::frame::{FileEnd, Frame};
use haul::wire::hello::{self, Hello, Join};
use haul::wire::message::{
    AuthMethod, Close, Entries, Entry, Finish, Intent, Kind, Listed, Message, Mtime, Open, Outcome,
    Overwrite, Ping, Want,
};
use rustix::net::sockopt;

use super::world::LIMIT;

/// A connection, blocking, with a bound on every wait.
pub struct Wire {
    pub tcp: TcpStream,
    pub link: Link,
    start: Instant,
    is_open: bool,
    /// Frames that were asked for behind the end.
    asked_in_vain: u32,
}

impl Wire {
    pub fn new(tcp: TcpStream, channel: Channel) -> Self {
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        tcp.set_write_timeout(Some(LIMIT)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Self {
            tcp,
            link: Link::new(channel, LIMIT, Duration::ZERO),
            start: clock::now(),
            is_open: true,
            asked_in_vain: 0,
        }
    }

    fn now(&self) -> Duration {
        clock::now().duration_since(self.start)
    }

    /// Queues a frame and writes it.
    pub fn send(&mut self, frame: Frame) {
        let now = self.now();
        self.link.queue(now, frame);
        self.flush();
    }

    /// Sends bytes as they are, inside the channel.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        let now = self.now();
        self.link.queue_hello(now, bytes.to_vec());
        self.flush();
    }

    /// Writes what is queued; a peer that is gone does not matter.
    pub fn flush(&mut self) {
        while self.link.wants_write() {
            if self.link.transmit(&mut self.tcp).is_err() {
                return;
            }
        }
    }

    /// Reads once. `false`: the other end has closed or the bytes were refused.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        let read = match self.tcp.read(&mut buffer) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the other end said nothing for {LIMIT:?}")
            }
            Err(_) => 0,
        };
        let now = self.now();
        assert!(now < LIMIT, "the other end lives, and does not do what is waited for");
        self.is_open = read > 0 && self.link.handle_input(now, &buffer[..read]).is_ok();
        self.flush();
        self.is_open
    }

    /// The next frame; `None` once the connection is over.
    pub fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.link.poll_frame() {
                return Some(frame);
            }
            if !self.is_open {
                // Whoever waits for a certain frame would ask for ever.
                self.asked_in_vain += 1;
                assert!(self.asked_in_vain < 100, "the other end is gone, and what is waited for never came");
                return None;
            }
            self.read();
        }
    }

    /// Waits until the client at the other end is done with the opening: from then on, whatever ends the session is told.
    pub fn await_running(&mut self) {
        self.next().expect("its first word, which may come with its opening");
        self.send(Frame::Message(Message::Ping(Ping { number: 1 })));
        // Nothing else is said before the opening is over.
        assert!(self.read(), "the other end left");
    }

    /// Reads to the end of the connection: the CLOSE in it, if there was one.
    pub fn close_of_peer(&mut self) -> Option<Close> {
        while let Some(frame) = self.next() {
            if let Frame::Message(Message::Close(close)) = frame {
                return Some(close);
            }
        }
        None
    }

    /// Cuts the connection without a word.
    pub fn cut(self) {
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}

/// Reads and advances until `step` gives something.
pub fn drive<T>(
    wire: &mut Wire,
    mut step: impl FnMut(Duration, &mut Link) -> Result<Option<T>, OpeningError>,
) -> Result<T, Option<OpeningError>> {
    loop {
        let now = wire.now();
        let stepped = step(now, &mut wire.link);
        wire.flush();
        match stepped {
            Ok(Some(value)) => return Ok(value),
            Ok(None) if !wire.is_open => return Err(None),
            Ok(None) => drop(wire.read()),
            Err(error) => return Err(Some(error)),
        }
    }
}

/// Who connects, and with what.
pub struct Guest {
    pub identity: Identity,
    pub pin: Pin,
    pub is_plain: bool,
    /// Feature bits that it says it has.
    pub features: u64,
}

impl Guest {
    pub fn new() -> Self {
        Self {
            identity: Identity::generate().unwrap(),
            pin: Pin::Any,
            is_plain: false,
            features: hello::FEATURES,
        }
    }

    pub fn plain() -> Self {
        Self { is_plain: true, ..Self::new() }
    }

    /// Connects, without a word yet.
    pub fn dial(&self, address: &str) -> Wire {
        let channel =
            if self.is_plain { Channel::plain() } else { Channel::client_tls(&self.identity, self.pin) };
        Wire::new(TcpStream::connect(address).unwrap(), channel)
    }

    /// Connects and opens a session with the ticket in `line`.
    pub fn open(&self, line: &str, intent: Intent) -> (Wire, Opened) {
        let ticket = Ticket::parse(line).unwrap();
        let credential = Credential::Token(ProofKey::from_token(&ticket.token));
        self.try_open(&ticket.addresses[0], credential, None, Some(open_of(intent).into())).unwrap()
    }

    /// Opens a connection with any credential.
    pub fn try_open(
        &self,
        address: &HostPort,
        credential: Credential,
        join: Option<Join>,
        request: Option<Request>,
    ) -> Result<(Wire, Opened), Option<OpeningError>> {
        let mut wire = self.dial(&address.to_string());
        let hello = Hello { features: self.features, ..Hello::ours(clock::random(), join) };
        let mut opening = ClientOpening::new(credential, hello, request);
        let opened = drive(&mut wire, |now, link| opening.advance(now, link))?;
        Ok((wire, opened))
    }
}

/// A server that is ours to misbehave.
pub struct Impostor {
    listener: TcpListener,
    pub identity: Identity,
    token: Token,
    is_plain: bool,
    hello: Hello,
}

impl Impostor {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Nobody is waited for without end.
        sockopt::set_socket_timeout(&listener, sockopt::Timeout::Recv, Some(LIMIT)).unwrap();
        Self {
            listener,
            identity: Identity::generate().unwrap(),
            token: Token::from_bytes(clock::random()),
            is_plain: false,
            hello: Hello::ours(clock::random(), None),
        }
    }

    pub fn plain() -> Self {
        Self { is_plain: true, ..Self::new() }
    }

    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Says that it speaks other versions.
    pub fn with_versions(mut self, min: u16, max: u16) -> Self {
        (self.hello.version_min, self.hello.version_max) = (min, max);
        self
    }

    /// Says that it has these feature bits.
    pub fn with_features(mut self, features: u64) -> Self {
        self.hello.features = features;
        self
    }

    /// Says that it is this program.
    pub fn with_agent(mut self, agent: &str) -> Self {
        agent.clone_into(&mut self.hello.agent);
        self
    }

    /// HOST:PORT.
    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// Its ticket, for this path; standing, as that of `serve`.
    pub fn ticket(&self, path: &str) -> String {
        self.ticket_with_key(path, self.identity.key_hash())
    }

    /// A ticket that leads here but pins another key.
    pub fn ticket_with_key(&self, path: &str, key: KeyHash) -> String {
        let addresses = vec![HostPort::parse(&self.address()).unwrap()];
        let path = Some(path.as_bytes().to_vec()).filter(|path| !path.is_empty());
        Ticket { key, token: self.token.clone(), one_time: false, addresses, path }.to_line()
    }

    /// The next connection, as it comes.
    pub fn accept_tcp(&self) -> TcpStream {
        self.listener.accept().unwrap().0
    }

    /// The next connection, under the channel that this server speaks.
    pub fn accept(&self) -> Wire {
        let channel = if self.is_plain { Channel::plain() } else { Channel::server_tls(&self.identity) };
        Wire::new(self.accept_tcp(), channel)
    }

    /// The next connection, with what it asks to be admitted with.
    pub fn accept_auth(&self) -> Result<(Wire, AuthRequest), Option<OpeningError>> {
        let mut wire = self.accept();
        let mut opening = ServerOpening::new(self.hello.clone());
        let request = drive(&mut wire, |now, link| opening.advance(now, link))?;
        Ok((wire, request))
    }

    /// Accepts the next client properly, until its OPEN.
    pub fn accept_open(&self) -> (Wire, Open) {
        let (mut wire, request) = self.accept_auth().unwrap();
        let prover = match request.method() {
            AuthMethod::Token => Prover::Key(ProofKey::from_token(&self.token)),
            _ => Prover::Key(ProofKey::open()),
        };
        assert!(request.is_proven(&prover));
        let now = wire.now();
        request.accept(now, &mut wire.link, &prover, clock::random(), 1);
        wire.flush();
        match wire.next() {
            Some(Frame::Message(Message::Open(open))) => (wire, open),
            other => panic!("no OPEN but {other:?}"),
        }
    }
}

/// A request with the usual options.
pub fn open_of(intent: Intent) -> Open {
    Open { intent, digest: DigestKind::Sha256, overwrite: Overwrite::Always, checksum: false, dry_run: false }
}

/// A push to the root.
pub fn push() -> Intent {
    Intent::Push { target: Vec::new() }
}

/// An entry of this kind.
pub fn entry(name: impl AsRef<[u8]>, kind: Kind) -> Entry {
    let mtime = Mtime { secs: 1_700_000_000, nanos: 0 };
    let mode = if kind == Kind::Dir { 0o755 } else { 0o644 };
    Entry { source: 0, name: name.as_ref().to_vec(), mode, mtime, kind }
}

/// A file of these many bytes.
pub fn file(name: impl AsRef<[u8]>, size: usize) -> Entry {
    entry(name, Kind::File { size: size as u64, sparse: false, linked: false })
}

/// A symbolic link.
pub fn symlink(name: &str, target: &str) -> Entry {
    entry(name, Kind::Symlink { target: target.as_bytes().to_vec() })
}

/// ENTRIES from number 0 on, and LISTED.
pub fn listing(entries: &[Entry]) -> [Frame; 2] {
    let sizes = entries.iter().map(|e| if let Kind::File { size, .. } = e.kind { size } else { 0 });
    let bytes = sizes.fold(0, u64::saturating_add);
    let listed = Listed { entries: entries.len() as u64, bytes, ..Listed::default() };
    [
        Frame::Message(Message::Entries(Entries { first: 0, entries: entries.to_vec() })),
        Frame::Message(Message::Listed(listed)),
    ]
}

/// DATA, if there is any, and FILE_END.
pub fn content(number: u64, bytes: &[u8]) -> Vec<Frame> {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(bytes);
    let end = FileEnd { file: number, size: bytes.len() as u64, digest: hasher.finish() };
    let data = Frame::Data { file: number, offset: 0, bytes: bytes.to_vec() };
    (!bytes.is_empty()).then_some(data).into_iter().chain([Frame::FileEnd(end)]).collect()
}

/// Sends these entries as an honest sender does, each file with `bytes`, and gives the outcomes; the CLOSE where the
/// other end broke it off.
pub fn send_all(
    wire: &mut Wire,
    entries: &[Entry],
    bytes: &[u8],
) -> Result<BTreeMap<u64, Outcome>, Option<Close>> {
    for frame in listing(entries) {
        wire.send(frame);
    }
    let mut outcomes = BTreeMap::new();
    while outcomes.len() < entries.len() {
        match wire.next() {
            Some(Frame::Message(Message::Wants(wants))) => {
                for (number, want) in wants.wants {
                    assert_eq!(want, Want::Content);
                    content(number, bytes).into_iter().for_each(|frame| wire.send(frame));
                }
            }
            Some(Frame::Message(Message::Outcomes(told))) => outcomes.extend(told.outcomes),
            Some(Frame::Message(Message::Close(close))) => return Err(Some(close)),
            Some(_) => {}
            None => return Err(None),
        }
    }
    wire.send(Frame::Message(Message::Finish(Finish::default())));
    while let Some(frame) = wire.next() {
        if let Frame::Message(Message::Receipt(_)) = frame {
            let close = Close { code: haul::wire::message::Code::Done, text: String::new() };
            wire.send(Frame::Message(Message::Close(close)));
            break;
        }
    }
    Ok(outcomes)
}

/// A proxy for one connection after the other that hands every piece to `pass`, which writes what it likes to the
/// other side; `true` is the way from the client to the server.
pub fn proxy(
    server: &str,
    pass: impl Fn(bool, &[u8], &mut TcpStream) -> std::io::Result<()> + Clone + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = server.to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(&server) else { return };
            for (is_up, mut from, mut to) in
                [(true, client.try_clone().unwrap(), server.try_clone().unwrap()), (false, server, client)]
            {
                let pass = pass.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 16 << 10];
                    while let Ok(read @ 1..) = from.read(&mut buffer) {
                        if pass(is_up, &buffer[..read], &mut to).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

/// The ticket in `line`, leading to another address.
pub fn redirect(line: &str, address: &str) -> String {
    let mut ticket = Ticket::parse(line).unwrap();
    ticket.addresses = vec![HostPort::parse(address).unwrap()];
    ticket.to_line()
}

/// Sends bytes on a bare TCP connection.
pub fn send_bare(tcp: &mut TcpStream, bytes: &[u8]) {
    tcp.write_all(bytes).unwrap();
}
