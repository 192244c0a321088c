//! The golden packets of `fixtures/wire/packets.json`: each is written and read again, from the session's proof on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::RangeInclusive;

use data_encoding::HEXLOWER;
use haul::security::{FlowId, Opener, ProofKey, Sealer, SessionSecret, Side, Token, Transcript};
use haul::wire::packet::{
    self, AckFacts, Block, CloseReason, Data, Floor, HEADER_BYTES, Header, Numbers, put_ack, put_challenge,
    put_close, put_floor, put_numbers, put_older, put_padding, put_ping, put_response,
};
use serde_json::{Value, json};

use super::root;

#[test]
fn blocks_are_the_golden_ones_in_both_directions() {
    // protocol.md [PACKET-4]
    for packet in file()["packets"].as_array().unwrap() {
        let payload = bytes(&packet["payload"]);
        let values = packet["blocks"].as_array().unwrap();
        let mut encoded = Vec::new();
        for value in values {
            put(&mut encoded, value);
        }

        let read: Vec<_> = packet::blocks(&payload).map(|block| value_of(&block.unwrap())).collect();
        let written: Vec<_> = values.iter().filter(|value| value.get("PAD").is_none()).cloned().collect();

        assert_eq!(HEXLOWER.encode(&encoded), HEXLOWER.encode(&payload), "{}: encoded", packet["name"]);
        assert_eq!(read, written, "{}: decoded", packet["name"]);
    }
}

#[test]
fn packets_are_the_golden_ones_in_both_directions() {
    // protocol.md [PACKET-1], [SEAL-1], [SEAL-2], [SEAL-3], [SEAL-7]
    let file = file();
    let flow = &file["flows"][0];
    let secret = session_secret(&flow["proof"]);
    let id = flow_id(flow);

    for packet in file["packets"].as_array().unwrap() {
        let (name, golden, payload) = (&packet["name"], bytes(&packet["hex"]), bytes(&packet["payload"]));
        let (phase, number) = (packet["phase"].as_u64().unwrap(), packet["number"].as_u64().unwrap());
        let (own, peer) = match packet["from"].as_str().unwrap() {
            "client" => (Side::Client, Side::Server),
            _ => (Side::Server, Side::Client),
        };
        let (mut sealer, mut opener) = if packet["plain"].as_bool().unwrap() {
            (Sealer::plain(&id, own), Opener::plain(&id, peer))
        } else {
            (Sealer::new(&secret, &id, own, 1), Opener::new(&secret, &id, peer))
        };
        let seal = |sealer: &mut Sealer, number: u64| {
            let mut packet = vec![0; HEADER_BYTES];
            packet.extend_from_slice(&payload);
            sealer.seal(number, &mut packet, 0).unwrap();
            packet
        };
        // One packet of each phase before, so that the keys change.
        for number in number - phase..number {
            opener.open(&mut seal(&mut sealer, number)).unwrap();
            sealer.on_acked(number);
        }

        let header = Header { key_phase: phase % 2 == 1, connection: id.id_at(peer), number };
        assert_eq!(HEXLOWER.encode(&seal(&mut sealer, number)), HEXLOWER.encode(&golden), "{name}: sealed");
        assert_eq!(opener.open(&mut golden.clone()), Ok((header, &payload[..])), "{name}: opened");
    }
}

#[test]
fn every_type_of_block_has_a_golden_packet() {
    let file = file();
    let blocks =
        file["packets"].as_array().unwrap().iter().flat_map(|packet| packet["blocks"].as_array().unwrap());
    let kinds: BTreeSet<_> = blocks.map(kind_of).collect();

    let all = ["ACK", "CHALLENGE", "CLOSE", "DATA", "FLOOR", "OLDER", "PAD", "PING", "RESPONSE"];
    assert!(kinds.iter().eq(&all));
}

/// What the examples of the protocol may show: the blocks of each packet under its name, and all of it under its name
/// with `whole` behind it; each with what it is an example of.
pub fn examples() -> BTreeMap<String, (String, Vec<u8>)> {
    let mut examples = BTreeMap::new();
    for packet in file()["packets"].as_array().unwrap() {
        let name = packet["name"].as_str().unwrap();
        let whole = if packet["plain"] == true { "plain packet" } else { "encrypted packet" };
        examples.insert(format!("{name} whole"), (whole.to_owned(), bytes(&packet["hex"])));
        if let Some(first) = packet["blocks"].get(0) {
            examples
                .insert(name.to_owned(), (format!("block {}", kind_of(first)), bytes(&packet["payload"])));
        }
    }
    examples
}

fn put(out: &mut Vec<u8>, block: &Value) {
    let kind = kind_of(block);
    let fields = &block[kind];
    let int = |field: &str| fields[field].as_u64().unwrap();
    match kind {
        "PAD" => {
            let len = out.len() + usize::try_from(fields.as_u64().unwrap()).unwrap();
            put_padding(out, len);
        }
        "PING" => put_ping(out),
        "DATA" => Data {
            chunk: int("chunk"),
            file: int("file"),
            offset: int("offset"),
            len: int("len").try_into().unwrap(),
            at: int("at").try_into().unwrap(),
            bytes: &bytes(&fields["bytes"]),
        }
        .put(out),
        "ACK" => {
            let facts = AckFacts {
                received_us: int("received_us"),
                delay_us: int("delay_us"),
                drops: int("drops"),
                credit: int("credit"),
            };
            let placed = &fields["placed"];
            put_ack(out, &facts, placed["floor"].as_u64().unwrap(), ranges(&placed["ranges"]).into_iter());
            put_numbers(out, ranges(&fields["numbers"]["ranges"]).into_iter(), 1000);
        }
        "OLDER" => {
            put_older(out);
            put_numbers(out, ranges(&fields["numbers"]["ranges"]).into_iter(), 1000);
        }
        "FLOOR" => put_floor(
            out,
            &Floor { floor: int("floor"), ack_interval_us: int("ack_interval_us"), heard: int("heard") },
        ),
        "CHALLENGE" => put_challenge(out, bytes(&fields["token"]).try_into().unwrap()),
        "RESPONSE" => put_response(out, bytes(&fields["token"]).try_into().unwrap()),
        "CLOSE" => put_close(
            out,
            match fields["reason"].as_str().unwrap() {
                "Done" => CloseReason::Done,
                "Violation" => CloseReason::Violation,
                "Unfit" => CloseReason::Unfit,
                other => panic!("{other}"),
            },
        ),
        other => panic!("{other}"),
    }
}

fn value_of(block: &Block<'_>) -> Value {
    match block {
        Block::Ping => json!({"PING": {}}),
        Block::Data(data) => json!({"DATA": {
            "chunk": data.chunk,
            "file": data.file,
            "offset": data.offset,
            "len": data.len,
            "at": data.at,
            "bytes": HEXLOWER.encode(data.bytes),
        }}),
        Block::Ack(ack) => json!({"ACK": {
            "received_us": ack.received_us,
            "delay_us": ack.delay_us,
            "drops": ack.drops,
            "credit": ack.credit,
            "placed": {"floor": ack.placed.floor, "ranges": pairs(ack.placed.ranges())},
            "numbers": numbers(&ack.numbers),
        }}),
        Block::Older(older) => json!({"OLDER": {"numbers": numbers(older)}}),
        Block::Floor(floor) => json!({"FLOOR": {
            "floor": floor.floor,
            "ack_interval_us": floor.ack_interval_us,
            "heard": floor.heard,
        }}),
        Block::Challenge(token) => json!({"CHALLENGE": {"token": HEXLOWER.encode(token)}}),
        Block::Response(token) => json!({"RESPONSE": {"token": HEXLOWER.encode(token)}}),
        Block::Close(reason) => json!({"CLOSE": {"reason": format!("{reason:?}")}}),
    }
}

fn numbers(numbers: &Numbers<'_>) -> Value {
    let form = if numbers.is_bitmap() { "bitmap" } else { "ranges" };
    json!({"form": form, "ranges": pairs(numbers.ranges())})
}

fn pairs(ranges: impl Iterator<Item = RangeInclusive<u64>>) -> Vec<[u64; 2]> {
    ranges.map(|range| [*range.start(), *range.end()]).collect()
}

fn ranges(pairs: &Value) -> Vec<RangeInclusive<u64>> {
    let pairs: Vec<[u64; 2]> = serde_json::from_value(pairs.clone()).unwrap();
    pairs.into_iter().map(|[first, last]| first..=last).collect()
}

fn kind_of(block: &Value) -> &str {
    block.as_object().unwrap().keys().next().unwrap()
}

/// The secret of the session that a case of `proofs.json` opens.
fn session_secret(case: &Value) -> SessionSecret {
    let file = read("proofs.json");
    let case = file["cases"].as_array().unwrap().iter().find(|other| &other["name"] == case).unwrap();
    let transcript = Transcript::new(
        Some(bytes(&case["exporter"]).try_into().unwrap()),
        &bytes(&case["client_hello"]),
        &bytes(&case["server_hello"]),
    );
    let token = Token::from_bytes(bytes(&case["token"]).try_into().unwrap());
    ProofKey::from_token(&token).session_secret(&transcript)
}

fn flow_id(flow: &Value) -> FlowId {
    let int = |field: &str| flow[field].as_u64().unwrap();
    FlowId {
        session: bytes(&flow["session"]).try_into().unwrap(),
        attempt: int("attempt").try_into().unwrap(),
        client: int("client").try_into().unwrap(),
        server: int("server").try_into().unwrap(),
    }
}

fn file() -> Value {
    read("packets.json")
}

fn read(name: &str) -> Value {
    let text = fs::read_to_string(root().join("fixtures/wire").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}
