use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::security::{ProofKey, Transcript};

const FLOW: FlowId = FlowId { session: [7; 16], attempt: 1, client: 0x1111, server: 0x2222 };

#[test]
fn what_is_sealed_opens_at_the_other_end() {
    // protocol.md [SEAL-2], [SEAL-3]
    for (mut sealer, mut opener) in [keyed(64), plain()] {
        let mut packet = seal(&mut sealer, 5, b"blocks");

        assert_eq!(packet.len(), HEADER_BYTES + 6 + sealer.tag_bytes());
        let header = Header { key_phase: false, connection: FLOW.server, number: 5 };
        assert_eq!(opener.open(&mut packet), Ok((header, &b"blocks"[..])));
        assert_eq!(opener.failures(), 0);
    }
}

#[test]
fn only_without_encryption_can_the_blocks_be_read() {
    let encrypted = seal(&mut keyed(64).0, 5, b"a rather long block");
    let plain = seal(&mut plain().0, 5, b"a rather long block");

    assert_ne!(encrypted[HEADER_BYTES..][..19], b"a rather long block"[..]);
    assert_eq!(plain[HEADER_BYTES..][..19], b"a rather long block"[..]);
}

#[test]
fn packets_are_sealed_one_behind_the_other() {
    for (mut sealer, mut opener) in [keyed(64), plain()] {
        let mut batch = Vec::new();
        for number in 0..3 {
            let start = batch.len();
            batch.resize(start + HEADER_BYTES, 0);
            batch.extend_from_slice(&[9; 100]);
            sealer.seal(number, &mut batch, start).unwrap();
        }

        let each = batch.len() / 3;
        for (number, packet) in (0..).zip(batch.chunks_exact_mut(each)) {
            let (header, blocks) = opener.open(packet).unwrap();
            assert_eq!((header.number, blocks), (number, &[9; 100][..]));
        }
    }
}

#[test]
#[should_panic(expected = "number > last")]
fn a_number_is_never_sealed_twice() {
    // protocol.md [PACKET-3]
    let mut sealer = keyed(64).0;
    seal(&mut sealer, 5, b"");

    seal(&mut sealer, 5, b"");
}

#[test]
#[should_panic(expected = "number > last")]
fn numbers_ascend_over_a_change_of_keys() {
    // protocol.md [PACKET-3]
    let mut sealer = keyed(1).0;
    seal(&mut sealer, 5, b"");
    sealer.on_acked(5);
    assert!(phase_of(&seal(&mut sealer, 6, b"")));

    seal(&mut sealer, 6, b"");
}

#[test]
fn what_is_cut_longer_or_bent_is_refused_and_changes_nothing() {
    // protocol.md [PACKET-2], [SEAL-7]
    for (mut sealer, mut opener) in [keyed(64), plain()] {
        for len in [0, 1, 15, 16, 17, 100] {
            let number = sealer.last.map_or(0, |last| last + 1);
            let whole = seal(&mut sealer, number, &vec![9; len]);
            let before = facts(&opener);
            let refuse = |opener: &mut Opener, mut packet: Vec<u8>| {
                assert_eq!(opener.open(&mut packet), Err(OpenError::Refused));
            };

            for end in 0..whole.len() {
                refuse(&mut opener, whole[..end].to_vec());
            }
            for more in 1..20 {
                refuse(&mut opener, [&whole[..], &vec![0; more]].concat());
            }
            for bit in 0..8 * whole.len() {
                let mut bent = whole.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                refuse(&mut opener, bent);
            }

            assert_eq!(facts(&opener), before);
            assert_eq!(opener.open(&mut whole.clone()).unwrap().1, vec![9; len]);
        }
        assert!(opener.failures() > 1000);
    }
}

#[test]
fn a_packet_opens_only_for_its_session_attempt_ids_and_direction() {
    // protocol.md [SEAL-1]
    let packet = seal(&mut keyed(64).0, 5, b"blocks");
    let opens = |secret: &SessionSecret, flow: &FlowId, own: Side, connection: ConnectionId| {
        let mut opener = Opener::new(secret, flow, own);
        // Only the keys are to tell them apart.
        opener.connection = connection;
        opener.open(&mut packet.clone()).is_ok()
    };
    let opens = |secret: u8, flow: &FlowId, own: Side| opens(&session_secret(secret), flow, own, FLOW.server);

    assert!(opens(1, &FLOW, Side::Server));
    assert!(!opens(1, &FLOW, Side::Client));
    assert!(!opens(2, &FLOW, Side::Server));
    assert!(!opens(1, &FlowId { session: [8; 16], ..FLOW }, Side::Server));
    assert!(!opens(1, &FlowId { attempt: 2, ..FLOW }, Side::Server));
    assert!(!opens(1, &FlowId { client: 0x1112, ..FLOW }, Side::Server));
    assert!(!opens(1, &FlowId { server: 0x2223, ..FLOW }, Side::Server));
}

#[test]
fn a_packet_for_another_flow_is_no_failure() {
    // protocol.md [PACKET-2]
    let (mut sealer, mut opener) = keyed(64);
    sealer.connection += 1;

    assert_eq!(opener.open(&mut seal(&mut sealer, 0, b"")), Err(OpenError::Refused));
    assert_eq!(opener.open(&mut [0x16; 100]), Err(OpenError::Refused));

    assert_eq!(opener.failures(), 0);
}

#[test]
fn what_was_sent_does_not_open_where_it_came_from() {
    // protocol.md [SEAL-1]
    let flow = FlowId { client: 5, server: 5, ..FLOW };
    let mut sealer = Sealer::new(&session_secret(1), &flow, Side::Client, 64);
    let mut own = Opener::new(&session_secret(1), &flow, Side::Client);

    assert_eq!(own.open(&mut seal(&mut sealer, 0, b"blocks")), Err(OpenError::Refused));
}

#[test]
fn keys_change_when_enough_was_sealed_and_the_peer_has_opened_some_of_it() {
    // protocol.md [SEAL-4]
    let mut sealer = keyed(3).0;
    let mut phases = Vec::new();
    for number in 10..30 {
        phases.push(u8::from(phase_of(&seal(&mut sealer, number, b""))));
        match number {
            // Of the phase that began with 10, and early.
            10 => sealer.on_acked(10),
            // Of the phase before, and so of no use.
            14 => sealer.on_acked(12),
            // Of this one, late.
            19 => sealer.on_acked(15),
            _ => {}
        }
    }

    // 10 to 12; 13 to 19; from 20 on nothing is acknowledged.
    assert_eq!(phases, [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn a_key_seals_no_more_than_it_may() {
    // protocol.md [SEAL-6]
    let (mut sealer, mut opener) = keyed(2);
    let SealerProtection::Keys(keys) = &mut sealer.protection else { unreachable!() };
    assert_eq!(keys.most, limits::KEY_MAX_PACKETS);
    keys.most = 4;
    for number in 0..4 {
        opener.open(&mut seal(&mut sealer, number, b"")).unwrap();
    }
    let room = vec![1; HEADER_BYTES + 1];
    let mut packet = room.clone();

    assert_eq!(sealer.seal(4, &mut packet, 0), Err(SealError::Unacknowledged));
    assert_eq!(packet, room);
    sealer.on_acked(3);
    assert_eq!(sealer.seal(4, &mut packet, 0), Ok(()));

    assert!(opener.open(&mut packet).unwrap().0.key_phase);
}

#[test]
fn after_too_many_forgeries_nothing_opens() {
    // protocol.md [SEAL-6]
    let (mut sealer, mut opener) = keyed(64);
    assert_eq!(opener.failures_max, limits::FORGERIES_MAX);
    opener.failures_max = 3;
    let mut forged =
        [&Header { key_phase: false, connection: FLOW.server, number: 1 }.encode()[..], &[0; 30]].concat();

    for _ in 0..2 {
        assert_eq!(opener.open(&mut forged.clone()), Err(OpenError::Refused));
    }
    assert!(opener.open(&mut seal(&mut sealer, 0, b"")).is_ok());
    assert_eq!(opener.open(&mut forged), Err(OpenError::Refused));

    assert_eq!(opener.open(&mut seal(&mut sealer, 1, b"")), Err(OpenError::Exhausted));
}

#[test]
fn late_packets_open_with_the_keys_before_and_those_of_two_phases_ago_do_not() {
    // protocol.md [SEAL-5]
    let (mut sealer, mut opener) = keyed(2);
    let packets: Vec<_> = (0..6)
        .map(|number| {
            let packet = seal(&mut sealer, number, &[9; 20]);
            sealer.on_acked(number);
            packet
        })
        .collect();
    let mut opens = |number: usize| opener.open(&mut packets[number].clone()).is_ok();

    assert!(opens(1));
    assert!(opens(3), "the second phase begins, before its first packet");
    assert!(opens(2));
    assert!(opens(0), "of the phase before");
    assert!(opens(5), "the third phase begins");
    assert!(opens(2) && opens(3), "of the phase before");
    assert!(!opens(0) && !opens(1), "of two phases ago");
    assert!(opens(4) && opens(5));
}

#[test]
fn a_forged_phase_moves_nothing() {
    // protocol.md [SEAL-5]
    let (mut sealer, mut opener) = keyed(2);
    opener.open(&mut seal(&mut sealer, 0, b"")).unwrap();
    let before = facts(&opener);
    for number in [0, 1, 1 << 61] {
        let header = Header { key_phase: true, connection: FLOW.server, number };
        let mut forged = [&header.encode()[..], &[0; 100]].concat();

        assert_eq!(opener.open(&mut forged), Err(OpenError::Refused));
    }

    assert_eq!(facts(&opener), before);
    assert!(opener.open(&mut seal(&mut sealer, 1, b"")).is_ok());
}

#[test]
fn without_encryption_there_is_one_phase() {
    // protocol.md [SEAL-7]
    let header = Header { key_phase: true, connection: FLOW.server, number: 1 };
    let mut packet = header.encode().to_vec();
    packet.extend_from_slice(&crc32c(&packet).to_le_bytes());

    assert_eq!(plain().1.open(&mut packet), Err(OpenError::Refused));
}

#[test]
fn keys_change_every_64_packets_under_loss_and_reordering() {
    // protocol.md [SEAL-4], [SEAL-5]
    for seed in 0..20 {
        let (phases, refused) = Flow::new(64, seed).run();

        assert!(phases > 100, "seed {seed}: {phases} phases");
        // No packet is so late that its keys are gone.
        assert_eq!(refused, 0, "seed {seed}");
    }
}

#[test]
fn keys_change_every_second_packet_under_loss_and_reordering() {
    // protocol.md [SEAL-4], [SEAL-5]
    for seed in 0..20 {
        let (phases, refused) = Flow::new(2, seed).run();

        assert!(phases > 400, "seed {seed}: {phases} phases");
        assert!(refused > 0, "seed {seed}: nothing was late by two phases");
    }
}

#[test]
fn secrets_show_nothing_of_themselves() {
    let (sealer, opener) = keyed(64);
    let shown = format!("{sealer:?} {opener:?}");

    assert_eq!(shown.matches("Keys([redacted])").count(), 3);
    assert_eq!(shown.matches("FlowSecret([redacted])").count(), 2);
}

proptest! {
    #[test]
    fn datagrams_of_strangers_are_refused(
        mut bytes in vec(any::<u8>(), 0..2000), looks_right: bool, phase: bool, is_plain: bool,
    ) {
        let mut opener = if is_plain { plain() } else { keyed(64) }.1;
        if let (true, Some((head, _))) = (looks_right, bytes.split_first_chunk_mut::<HEADER_BYTES>()) {
            *head = Header { key_phase: phase, connection: FLOW.server, number: 3 }.encode();
        }

        prop_assert_eq!(opener.open(&mut bytes), Err(OpenError::Refused));
    }
}

#[test]
fn datagrams_of_every_length_are_refused() {
    // protocol.md [PACKET-2]
    for mut opener in [keyed(64).1, plain().1] {
        let mut datagram = vec![0; 65_507];
        for len in (0..=2000).chain([65_506, 65_507]) {
            let header = Header { key_phase: false, connection: FLOW.server, number: 3 }.encode();
            let head = len.min(HEADER_BYTES);
            datagram[..head].copy_from_slice(&header[..head]);

            assert_eq!(opener.open(&mut datagram[..len]), Err(OpenError::Refused), "{len}");
        }
    }
}

/// Goal: both directions of a flow change their keys at their own times, and whatever the path does, exactly the
/// packets of the last two phases, and of the one that begins, open. Method: each step, each end sends one packet that
/// says which phase it is of and the largest number that its sender has opened; one in twenty is lost, all of them
/// in some stretches, one in thirty comes twice, and each takes 1 to 20 steps. Checked: every arrival against the
/// count of phases, which the test keeps by itself from the bit in the header.
struct Flow {
    ends: [End; 2],
    /// Packets on their way: when they arrive, in which order, and where.
    path: BTreeMap<(u64, u64), (usize, Sent)>,
    chance: Chance,
    refused: u64,
}

struct End {
    sealer: Sealer,
    opener: Opener,
    next: PacketNumber,
    /// Own phase, counted.
    phase: u64,
    /// The peer's phase that this end has seen, counted.
    seen: u64,
    /// Largest number opened.
    heard: PacketNumber,
}

#[derive(Clone)]
struct Sent {
    phase: u64,
    bytes: Vec<u8>,
    blocks: Vec<u8>,
}

impl Flow {
    fn new(update_after: u64, seed: u64) -> Self {
        let end = |own| End {
            sealer: Sealer::new(&session_secret(1), &FLOW, own, update_after),
            opener: Opener::new(&session_secret(1), &FLOW, own),
            next: 1,
            phase: 0,
            seen: 0,
            heard: 0,
        };
        let ends = [end(Side::Client), end(Side::Server)];
        Self { ends, path: BTreeMap::new(), chance: Chance(seed), refused: 0 }
    }

    /// Phases of the slower end, and packets that came too late to open.
    fn run(mut self) -> (u64, u64) {
        for step in 0..20_000 {
            for from in 0..2 {
                self.send(step, from);
            }
            while let Some(entry) = self.path.first_entry().filter(|entry| entry.key().0 <= step) {
                let (to, sent) = entry.remove();
                self.arrive(to, sent);
            }
        }
        (self.ends[0].phase.min(self.ends[1].phase), self.refused)
    }

    fn send(&mut self, step: u64, from: usize) {
        let end = &mut self.ends[from];
        end.next += 1 + u64::from(self.chance.one_in(50));
        let blocks = [end.next.to_le_bytes(), end.heard.to_le_bytes()].concat();
        let bytes = seal(&mut end.sealer, end.next, &blocks);
        end.phase += u64::from(phase_of(&bytes) != (end.phase % 2 == 1));
        let sent = Sent { phase: end.phase, bytes, blocks };
        let is_blackout = step % 5000 > 4600;
        if !is_blackout && !self.chance.one_in(20) {
            self.path
                .insert((step + 1 + self.chance.below(20), self.chance.next()), (1 - from, sent.clone()));
        }
        if !is_blackout && self.chance.one_in(30) {
            self.path.insert((step + 1 + self.chance.below(20), self.chance.next()), (1 - from, sent));
        }
    }

    fn arrive(&mut self, to: usize, mut sent: Sent) {
        let end = &mut self.ends[to];
        let opened = end.opener.open(&mut sent.bytes);
        if sent.phase + 1 < end.seen {
            assert_eq!(opened, Err(OpenError::Refused));
            self.refused += 1;
            return;
        }
        let (header, blocks) = opened.expect("of the last two phases, or of the next");
        assert_eq!(blocks, sent.blocks);
        assert!(sent.phase <= end.seen + 1);
        end.seen = end.seen.max(sent.phase);
        end.heard = end.heard.max(header.number);
        let acked = PacketNumber::from_le_bytes(blocks[8..].try_into().unwrap());
        end.sealer.on_acked(acked);
    }
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The client's sealer and the server's opener.
fn keyed(update_after: u64) -> (Sealer, Opener) {
    let secret = session_secret(1);
    (Sealer::new(&secret, &FLOW, Side::Client, update_after), Opener::new(&secret, &FLOW, Side::Server))
}

/// The same without encryption.
fn plain() -> (Sealer, Opener) {
    (Sealer::plain(&FLOW, Side::Client), Opener::plain(&FLOW, Side::Server))
}

fn session_secret(seed: u8) -> SessionSecret {
    ProofKey::open().session_secret(&Transcript::new(Some([seed; 32]), b"client", b"server"))
}

fn seal(sealer: &mut Sealer, number: PacketNumber, blocks: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(blocks);
    sealer.seal(number, &mut packet, 0).unwrap();
    packet
}

fn phase_of(packet: &[u8]) -> bool {
    Header::decode(packet).unwrap().key_phase
}

/// What an opener knows besides its keys and the count of failures.
fn facts(opener: &Opener) -> (bool, bool, PacketNumber) {
    match &opener.protection {
        OpenerProtection::Keys(keys) => (keys.previous.is_some(), keys.phase, keys.lowest),
        OpenerProtection::Plain => (false, false, 0),
    }
}
