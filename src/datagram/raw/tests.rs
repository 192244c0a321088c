//! Both ends over a link that loses, repeats, swaps and damages, and counts what it did.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::*;
use crate::{
    datagram::{FlowConfig, Path, Transmit},
    security::{FlowId, Opener, ProofKey, Sealer, Side, Transcript},
    transfer::raw::RawChunk,
    wire::packet::{self, Header},
};

const MS: Duration = Duration::from_millis(1);
/// One way.
const TRIP: Duration = Duration::from_millis(10);
const RATE: u64 = 12_500_000;

/// What a link does to a datagram from the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Arrives,
    Lost,
    Twice,
    Damaged,
    /// Comes so much later.
    Late(Duration),
}

/// Two ends, and what is between them.
struct World {
    now: Duration,
    sender: RawSender,
    receiver: RawReceiver,
    client: SocketAddr,
    server: SocketAddr,
    is_push: bool,
    /// Datagrams on their way, by time and order: to the receiver or not.
    on_the_way: BTreeMap<(Duration, u64), (bool, Vec<u8>)>,
    order: u64,
    /// What came out, by file and offset.
    pieces: Vec<(u64, u64, Vec<u8>)>,
    /// Files that were given up.
    overdue: BTreeMap<u64, Duration>,
    lens: Vec<usize>,
}

impl World {
    fn new(is_push: bool, is_plain: bool, update_after: u64) -> Self {
        let address = |last, port| SocketAddr::new(Ipv4Addr::new(192, 0, 2, last).into(), port);
        let (client, server) = (address(1, 50_000), address(2, 7420));
        let config = |own: Side, seed| {
            let flow = FlowId { session: [5; 16], attempt: 0, client: 7, server: 8 };
            let secret = ProofKey::open().session_secret(&Transcript::new(None, b"client", b"server"));
            FlowConfig {
                sealer: match is_plain {
                    true => Sealer::plain(&flow, own),
                    false => Sealer::new(&secret, &flow, own, update_after),
                },
                opener: match is_plain {
                    true => Opener::plain(&flow, own),
                    false => Opener::new(&secret, &flow, own),
                },
                path: if own == Side::Client { Path::to_server(server) } else { Path::to_client() },
                seed: [seed; 32],
            }
        };
        let (sends, receives) =
            if is_push { (Side::Client, Side::Server) } else { (Side::Server, Side::Client) };
        let now = Duration::from_secs(1);
        Self {
            now,
            sender: RawSender::new(now, config(sends, 1), RATE),
            receiver: RawReceiver::new(now, config(receives, 2), 2 * TRIP, !is_push),
            client,
            server,
            is_push,
            on_the_way: BTreeMap::new(),
            order: 0,
            pieces: Vec::new(),
            overdue: BTreeMap::new(),
            lens: Vec::new(),
        }
    }

    /// Runs until nothing happens within `end`; `fate` decides by number and length.
    fn run(&mut self, end: Duration, fate: &mut dyn FnMut(u64, usize) -> Fate) {
        loop {
            self.drain(fate);
            let arrival = self.on_the_way.first_key_value().map(|(&(at, _), _)| at);
            let timers = [self.sender.poll_timeout(self.now), self.receiver.poll_timeout(self.now)];
            // What was due has been done.
            let later = timers.into_iter().flatten().filter(|&at| at > self.now);
            let Some(next) = later.chain(arrival).min().filter(|&next| next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.on_the_way.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let (to_receiver, mut datagram) = entry.remove();
                let from = if to_receiver == self.is_push { self.client } else { self.server };
                let result = match to_receiver {
                    true => self.receiver.handle_datagram(self.now, from, &mut datagram),
                    false => self.sender.handle_datagram(self.now, from, &mut datagram),
                };
                assert_eq!(result, Ok(()));
            }
        }
    }

    fn drain(&mut self, fate: &mut dyn FnMut(u64, usize) -> Fate) {
        let mut out = Vec::new();
        while let Some(Transmit { segment_bytes, .. }) =
            self.sender.poll_transmit(self.now, &mut out).unwrap()
        {
            for datagram in out.chunks(segment_bytes) {
                self.lens.push(datagram.len());
                let number = Header::decode(datagram).unwrap().number;
                let mut damaged = datagram.to_vec();
                *damaged.last_mut().unwrap() ^= 1;
                match fate(number, datagram.len()) {
                    Fate::Arrives => self.send(TRIP, true, datagram.to_vec()),
                    Fate::Lost => {}
                    Fate::Twice => (0..2).for_each(|_| self.send(TRIP, true, datagram.to_vec())),
                    Fate::Damaged => self.send(TRIP, true, damaged),
                    Fate::Late(by) => self.send(TRIP + by, true, datagram.to_vec()),
                }
            }
        }
        while self.receiver.poll_transmit(self.now, &mut out).unwrap().is_some() {
            self.send(TRIP, false, out.clone());
        }
        while let Some(file) = self.receiver.poll_overdue(self.now) {
            self.overdue.insert(file, self.now);
        }
        for piece in self.receiver.take_pieces() {
            self.pieces.push((piece.file, piece.offset, piece.bytes));
        }
    }

    fn send(&mut self, after: Duration, to_receiver: bool, datagram: Vec<u8>) {
        self.order += 1;
        self.on_the_way.insert((self.now + after, self.order), (to_receiver, datagram));
    }

    /// Pushes a file in chunks; gives its bytes.
    fn push(&mut self, file: u64, len: usize, chunk_bytes: usize) -> Vec<u8> {
        let content: Vec<u8> = (0..len).map(|i| (i * 31 + i / 251 + 7).to_le_bytes()[0]).collect();
        let (mut offset, mut to) = (0, self.sender.sent_to() + 1_000_000 * file);
        for bytes in content.chunks(chunk_bytes) {
            to += bytes.len() as u64;
            self.sender.push_chunk(RawChunk { file, offset, bytes: bytes.to_vec(), to });
            offset += bytes.len() as u64;
        }
        content
    }

    /// Puts the pieces of a file together; `None` where nothing came.
    fn file(&self, file: u64, len: usize) -> Vec<Option<u8>> {
        let mut content = vec![None; len];
        for (_, offset, bytes) in self.pieces.iter().filter(|(of, ..)| *of == file) {
            for (at, &byte) in (usize::try_from(*offset).unwrap()..).zip(bytes) {
                assert_eq!(content[at].replace(byte), None, "a range came twice");
            }
        }
        content
    }
}

fn arrives(_: u64, _: usize) -> Fate {
    Fate::Arrives
}

#[test]
fn content_goes_across_in_both_roles_encrypted_and_not() {
    for (is_push, is_plain) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = World::new(is_push, is_plain, 1 << 20);
        let sent = world.push(3, 300_000, 70_000);

        world.run(Duration::from_secs(3), &mut arrives);

        let came: Option<Vec<u8>> = world.file(3, sent.len()).into_iter().collect();
        assert_eq!(came.as_ref(), Some(&sent), "{is_push} {is_plain}");
        let counts = RawCounts { received: world.sender.packets(), ..RawCounts::default() };
        assert_eq!(world.receiver.counts(), counts);
        assert!(world.sender.is_empty());
        assert!(world.lens.iter().all(|&len| len <= 1452));
    }
}

/// Goal: the report is what happened. Method: a link that decides by chance, from a seed, and keeps its own count.
/// Checked: each count, the content, and what is missing of it.
#[test]
fn the_counts_are_those_of_the_link() {
    // protocol.md [RAW-5]
    for seed in 0..40 {
        let mut world = World::new(seed % 2 == 0, seed % 3 == 0, 1 << 20);
        let sent = world.push(1, 400_000, 50_000);
        let mut chance = super::super::chance::Chance::new([u8::try_from(seed).unwrap(); 32]);
        let mut fates = BTreeMap::new();

        world.run(Duration::from_secs(10), &mut |number, _| {
            // So that content begins.
            let fate = match chance.below(20) {
                _ if number == 0 => Fate::Arrives,
                0 | 1 => Fate::Lost,
                2 => Fate::Twice,
                3 => Fate::Damaged,
                4 => Fate::Late(MS * u32::try_from(chance.below(5)).unwrap()),
                _ => Fate::Arrives,
            };
            fates.insert(number, fate);
            fate
        });

        let count = |wanted: fn(&Fate) -> bool| fates.values().filter(|fate| wanted(fate)).count() as u64;
        let counts = world.receiver.counts();
        let lost = count(|fate| matches!(fate, Fate::Lost | Fate::Damaged));
        assert_eq!(counts.received, world.sender.packets() - lost, "seed {seed}");
        assert_eq!(counts.duplicated, count(|fate| *fate == Fate::Twice), "seed {seed}");
        assert_eq!(counts.damaged, count(|fate| *fate == Fate::Damaged), "seed {seed}");
        assert!(counts.out_of_order <= count(|fate| matches!(fate, Fate::Late(_))), "seed {seed}");
        let came = world.file(1, sent.len());
        assert!(came.iter().zip(&sent).all(|(came, sent)| came.is_none_or(|came| came == *sent)));
        assert_eq!(came.iter().any(Option::is_none), lost > 0, "seed {seed}");
    }
}

#[test]
fn what_comes_late_is_out_of_order_by_as_much_as_overtook_it() {
    let mut world = World::new(true, false, 1 << 20);
    world.push(1, 40_000, 40_000);
    world.run(Duration::from_millis(1019), &mut arrives);

    // Packets of 1452 bytes leave every 116 µs, and those of a quantum together.
    let mut order = Vec::new();
    world.run(Duration::from_secs(2), &mut |number, _| {
        order.push(number);
        if number == 4 || number == 9 { Fate::Late(500 * MS) } else { Fate::Arrives }
    });

    let last = *order.last().unwrap();
    let counts = world.receiver.counts();
    assert_eq!((counts.out_of_order, counts.farthest), (2, last - 4));
    assert_eq!(counts.received, world.sender.packets());
}

#[test]
fn the_rate_is_kept() {
    let mut world = World::new(true, false, 1 << 20);
    world.push(1, 12_500_000, 1 << 20);
    let mut bytes = 0;

    // The first round trip is for the challenge.
    world.run(Duration::from_millis(1500) + 2 * TRIP, &mut |_, len| {
        bytes += len as u64;
        Fate::Arrives
    });

    assert!(bytes.abs_diff(RATE / 2) < RATE / 50, "{bytes}");
}

#[test]
fn nothing_is_sent_before_the_peer_has_answered_and_nothing_after_the_end() {
    // protocol.md [RAW-1], [RAW-3]
    let mut world = World::new(true, false, 1 << 20);
    world.push(1, 50_000, 50_000);

    world.run(Duration::from_millis(1900), &mut |_, _| Fate::Lost);

    assert_eq!(world.lens, [1452, 1452, 1452, 1200, 1200], "challenges, the later ones short");
    assert_eq!(world.sender.asking_since(), Some(Duration::from_secs(1)));
    assert!(!world.sender.is_empty());
    world.sender.finish();
    assert_eq!(world.sender.asking_since(), None);
    world.run(Duration::from_secs(9), &mut |_, _| unreachable!("it is over"));
    assert_eq!(world.sender.packets(), 5);
}

#[test]
fn who_wakes_late_makes_up_for_no_greeting_and_no_challenge() {
    // protocol.md [PATH-4]
    for late in [51 * MS, 3_600_000 * MS, Duration::from_secs(1 << 30)] {
        let mut out = Vec::new();
        let (mut pull, mut push) = (World::new(false, true, 1), World::new(true, true, 1));
        let now = pull.now + late;

        let mut greet = || pull.receiver.poll_transmit(now, &mut out).unwrap();
        let greetings = std::iter::from_fn(&mut greet).take(9).count();
        let mut ask = || push.sender.poll_transmit(now, &mut out).unwrap();
        let challenges: Vec<_> = std::iter::from_fn(&mut ask).take(9).map(|it| it.segment_bytes).collect();

        assert_eq!((greetings, challenges), (1, vec![1452]));
        assert!(pull.receiver.poll_timeout(now).unwrap() > now);
        assert!(push.sender.poll_timeout(now).unwrap() > now);
        // What was missed was not asked in full length, and is not held against it.
        let next = push.sender.poll_timeout(now).unwrap();
        let again = push.sender.poll_transmit(next, &mut out).unwrap();
        assert_eq!(again.map(|it| it.segment_bytes), Some(1452));
    }
}

#[test]
fn packets_are_as_long_as_the_challenge_that_was_answered() {
    for (most, used) in [(1452, 1452), (1451, 1200)] {
        let mut world = World::new(true, false, 1 << 20);
        let sent = world.push(1, 200_000, 200_000);

        world.run(Duration::from_secs(4), &mut |_, len| if len > most { Fate::Lost } else { Fate::Arrives });

        assert!(world.file(1, sent.len()).iter().all(Option::is_some));
        assert_eq!(world.lens[world.lens.len() - 2], used);
    }
}

#[test]
fn an_unproven_address_gets_three_times_what_came_from_it() {
    // protocol.md [PATH-1]
    let mut world = World::new(false, false, 1 << 20);
    world.push(1, 100_000, 100_000);
    let mut out = Vec::new();
    let greeting = world.receiver.poll_transmit(world.now, &mut out).unwrap().map(|_| out.clone()).unwrap();
    world.sender.handle_datagram(world.now, world.client, &mut greeting.clone()).unwrap();

    let mut sent = 0;
    for _ in 0..100 {
        world.now += 100 * MS;
        while world.sender.poll_transmit(world.now, &mut out).unwrap().is_some() {
            sent += out.len();
        }
    }

    assert!((1..=3 * greeting.len()).contains(&sent), "{sent}");
}

#[test]
fn a_client_that_moves_is_asked_again_before_it_gets_more() {
    let mut world = World::new(false, false, 1 << 20);
    let sent = world.push(1, 1_000_000, 1_000_000);
    world.run(Duration::from_millis(1060), &mut arrives);
    assert_eq!(world.sender.asking_since(), None);

    world.client.set_port(50_001);
    world.run(Duration::from_secs(6), &mut arrives);

    assert!(world.sender.is_empty() && world.sender.asking_since().is_none());
    assert!(world.file(1, sent.len()).iter().all(Option::is_some));
}

#[test]
fn keys_change_although_nothing_is_acknowledged() {
    // protocol.md [SEAL-4]
    let mut world = World::new(true, false, 64);
    world.sender.check_every(32);
    let sent = world.push(1, 2_000_000, 1 << 20);
    let mut phases = BTreeSet::new();

    let mut datagrams = Vec::new();
    while !world.sender.is_empty() && world.now < Duration::from_secs(5) {
        let end = world.now + MS;
        world.run(end, &mut arrives);
        datagrams.extend(world.on_the_way.values().filter(|(there, _)| *there).map(|(_, d)| d.clone()));
    }
    world.run(Duration::from_secs(6), &mut arrives);
    let mut last = false;
    for datagram in datagrams {
        let header = Header::decode(&datagram).unwrap();
        if header.key_phase != last {
            last = header.key_phase;
            phases.insert(header.number);
        }
    }

    assert!(phases.len() > 2, "{phases:?}");
    assert!(world.file(1, sent.len()).iter().all(Option::is_some));
    assert_eq!(world.receiver.counts().damaged, 0);
}

#[test]
fn small_files_share_packets() {
    let mut world = World::new(true, false, 1 << 20);
    for file in 0..100 {
        world.push(file, 100, 100);
    }

    world.run(Duration::from_secs(2), &mut arrives);

    assert!(world.sender.packets() < 20, "{}", world.sender.packets());
    assert!((0..100).all(|file| world.file(file, 100).iter().all(Option::is_some)));
}

#[test]
fn a_chunk_that_nobody_wants_any_more_is_as_good_as_sent() {
    let mut world = World::new(true, false, 1 << 20);
    let chunk = |file, bytes: &[u8], to| RawChunk { file, offset: 0, bytes: bytes.to_vec(), to };

    world.sender.push_chunk(chunk(0, &[], 10));
    assert_eq!((world.sender.sent_to(), world.sender.is_empty()), (10, true));
    world.sender.push_chunk(chunk(1, &[1], 11));
    world.sender.push_chunk(chunk(2, &[], 20));
    assert_eq!((world.sender.sent_to(), world.sender.is_empty()), (10, false));
    world.run(Duration::from_secs(2), &mut arrives);

    assert_eq!((world.sender.sent_to(), world.sender.is_empty()), (20, true));
}

#[test]
fn a_file_is_given_up_when_nothing_of_it_has_come_for_the_grace() {
    // protocol.md [RAW-6]
    let mut world = World::new(true, false, 1 << 20);
    let start = world.now;
    world.receiver.on_file_end(start, 7);

    assert_eq!(world.receiver.poll_overdue(start + GRACE_MIN - MS), None);
    assert_eq!(world.receiver.poll_timeout(start), Some(start + GRACE_MIN));
    assert_eq!(world.receiver.poll_overdue(start + GRACE_MIN), Some(7));
    assert_eq!(world.receiver.poll_overdue(start + GRACE_MIN), None);

    // Something of file 8 comes every 100 ms, for ever; of file 9 nothing does.
    world.receiver.on_file_end(start, 8);
    world.receiver.on_file_end(start, 9);
    for turn in 1..100 {
        let offset = 100 * turn;
        world.sender.push_chunk(RawChunk { file: 8, offset, bytes: vec![1; 100], to: offset });
        let end = world.now + 100 * MS;
        world.run(end, &mut arrives);
    }
    let expected = [(8, start + GRACE_MIN * GRACE_TIMES), (9, start + GRACE_MIN)];
    assert_eq!(world.overdue, BTreeMap::from(expected));
}

#[test]
fn the_end_is_settled_when_it_was_told_and_the_path_is_quiet() {
    // protocol.md [RAW-7]
    let mut world = World::new(true, false, 1 << 20);
    world.push(1, 1000, 1000);
    world.run(Duration::from_millis(1100), &mut arrives);
    let packets = world.sender.packets();
    assert!(!world.receiver.is_settled(world.now + Duration::from_secs(100)), "nobody told");

    assert!(world.receiver.on_end(world.now, packets - 1).is_err(), "more came than were sent");
    assert_eq!(world.receiver.on_end(world.now, packets), Ok(()));

    let heard = world.receiver.last_heard().unwrap();
    assert!(!world.receiver.is_settled(heard + GRACE_MIN - MS));
    assert!(world.receiver.is_settled(heard + GRACE_MIN));
}

#[test]
fn blocks_that_belong_to_reliable_flows_end_a_raw_one() {
    // protocol.md [RAW-1]
    let ack = |out: &mut Vec<u8>| {
        packet::put_ack(out, &packet::AckFacts::default(), 0, std::iter::empty());
        packet::put_numbers(out, std::iter::once(0..=0), 100);
    };
    let floor = |out: &mut Vec<u8>| {
        packet::put_floor(out, &packet::Floor { floor: 0, ack_interval_us: 0, heard: 0 });
    };
    let close = |out: &mut Vec<u8>| packet::put_close(out, packet::CloseReason::Done);
    let data = |out: &mut Vec<u8>| {
        packet::Data { chunk: 0, file: 0, offset: 0, len: 1, at: 0, bytes: &[1] }.put(out);
    };
    let mut to_sender: Vec<Vec<u8>> = vec![Vec::new(); 5];
    ack(&mut to_sender[0]);
    floor(&mut to_sender[1]);
    close(&mut to_sender[2]);
    data(&mut to_sender[3]);
    packet::put_challenge(&mut to_sender[4], [1; 8]);
    let mut to_receiver: Vec<Vec<u8>> = vec![Vec::new(); 4];
    ack(&mut to_receiver[0]);
    floor(&mut to_receiver[1]);
    close(&mut to_receiver[2]);
    packet::put_response(&mut to_receiver[3], [1; 8]);

    for blocks in to_sender {
        let mut world = World::new(true, false, 1 << 20);
        let (now, server) = (world.now, world.server);
        let mut datagram = sealed(Side::Server, &blocks);
        assert!(world.sender.handle_datagram(now, server, &mut datagram).is_err());
    }
    for blocks in to_receiver {
        let mut world = World::new(true, false, 1 << 20);
        let (now, client) = (world.now, world.client);
        let mut datagram = sealed(Side::Client, &blocks);
        assert!(world.receiver.handle_datagram(now, client, &mut datagram).is_err());
    }
}

/// A packet with these blocks, from this side.
fn sealed(from: Side, blocks: &[u8]) -> Vec<u8> {
    let flow = FlowId { session: [5; 16], attempt: 0, client: 7, server: 8 };
    let secret = ProofKey::open().session_secret(&Transcript::new(None, b"client", b"server"));
    let mut datagram = vec![0; packet::HEADER_BYTES];
    datagram.extend_from_slice(blocks);
    Sealer::new(&secret, &flow, from, 1 << 20).seal(0, &mut datagram, 0).unwrap();
    datagram
}
