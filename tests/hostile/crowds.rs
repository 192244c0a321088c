//! What a stranger can take from a server: nothing that an honest client needs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use haul::integrity::crc32c::crc32c;
use haul::limits;
use haul::run::clock;
use haul::wire::frame::Frame;
use haul::wire::hello::Hello;

use crate::opening::is_serving;
use crate::peer::{Guest, push};
use crate::world::{World, timed};

/// Connections that stay idle; 10,000 need as many descriptors here and a quarter of them there.
const IDLE: u64 = 10_000;
/// Below this, the test would show nothing.
const IDLE_LEAST: u64 = 2_000;

#[test]
fn a_client_that_speaks_a_byte_a_second_is_cut_at_the_deadline() {
    // protocol.md [AUTH-6]: absolute, whatever comes.
    let world = World::new();
    let server = world.serve("root", &["--plain"]);
    let hello = Hello::ours([3; 32], None).encode();
    let start = clock::now();
    // A record that is never whole, a hello that is never whole, and silence; all at once, they cost ten seconds.
    let tls = [&[0x16, 3, 1, 0x10, 0, 1][..], &[0; 60]].concat();
    let dripping = [tls, hello, Vec::new()].map(|bytes| {
        let address = server.address().to_owned();
        std::thread::spawn(move || drip(&address, &bytes))
    });

    for thread in dripping {
        thread.join().unwrap();
        let took = clock::now().duration_since(start);
        assert!((Duration::from_secs(9)..Duration::from_secs(16)).contains(&took), "{took:?}");
    }
    is_serving(&world, &server);
}

#[test]
fn a_client_that_says_much_before_its_proof_is_cut_at_once() {
    // protocol.md [AUTH-6]
    let world = World::new();
    let server = world.serve("root", &["--plain", "-v"]);
    let mut wire = Guest::plain().dial(server.address());

    wire.send_raw(&Hello::ours([3; 32], None).encode());
    // Optional frames of no known type, together larger than what may come before the proof; each with a checksum.
    let frame = [&[0, 32, 0, 0, 99, 0, 1, 0][..], &[0; 8 << 10]].concat();
    let frame = [&frame[..], &crc32c(&frame).to_le_bytes()].concat();
    wire.send_raw(&frame.repeat(8));
    let (_, took) = timed(|| wire.close_of_peer());

    assert!(took < Duration::from_secs(5), "{took:?}");
    server.process.says("too much before it had authenticated");
    is_serving(&world, &server);
}

#[test]
fn an_honest_client_completes_among_thousands_of_idle_connections() {
    // protocol.md [AUTH-7]
    let world = World::new();
    world.write("a", "in the crowd");
    let Some(count) = room_for_idle() else { return };
    let server = world.serve("root", &[]);
    let mut idle: Vec<_> = (0..count).map(|_| TcpStream::connect(server.address()).unwrap()).collect();

    let (ended, took) = timed(|| world.run("client", ["send", "a", &server.ticket]));

    ended.is_done();
    assert_eq!(world.read("root/a"), b"in the crowd");
    assert!(took < Duration::from_secs(8), "{took:?}");
    // The oldest gave way; the server holds no more than its limit.
    assert_eq!(idle[0].read(&mut [0]).unwrap(), 0);
    if let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", server.process.id())) {
        let count = descriptors.count();
        assert!(count < 400, "{count} descriptors");
    }
}

#[test]
fn each_of_many_sessions_is_granted_a_largest_chunk() {
    // protocol.md [CREDIT-3]
    let world = World::new();
    let server = world.serve("root", &[]);
    let guest = Guest::new();
    // More than the memory for all of them holds.
    let count = limits::CREDIT_TOTAL_BYTES / limits::CREDIT_MIN_BYTES + 4;

    let mut sessions: Vec<_> = (0..count).map(|_| guest.open(&server.ticket, push()).0).collect();

    for wire in &mut sessions {
        let Some(Frame::Feedback { credit, .. }) = wire.next() else {
            panic!("its first word is the credit")
        };
        assert!(credit >= limits::CREDIT_MIN_BYTES, "{credit} bytes");
    }
}

/// Sends a byte a second, then nothing, until the other end closes.
fn drip(address: &str, bytes: &[u8]) {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    for byte in bytes.iter().map(Some).chain(std::iter::repeat(None)).take(40) {
        if let Some(&byte) = byte
            && tcp.write_all(&[byte]).is_err()
        {
            return;
        }
        match tcp.read(&mut [0; 4096]) {
            Ok(0) => return,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            _ => {}
        }
    }
    panic!("the server never closed");
}

/// How many connections this process may hold; `None`, with the reason on standard error, when they are too few.
fn room_for_idle() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let count = IDLE.min(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(600));
    if count < IDLE_LEAST {
        skip(&format!("`ulimit -n` has room for {count} connections, {IDLE_LEAST} are needed"));
        return None;
    }
    Some(count)
}

/// Says why something is not tested here.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}
