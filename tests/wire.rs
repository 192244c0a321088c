//! The golden bytes of `fixtures/wire`: what they hold, and that it is written as they stand.
//!
//! The values below are written by hand; the bytes were made by `fixtures/wire/check.py`, which knows nothing but
//! protocol.md. Both directions are checked, and that the examples in protocol.md are these bytes.

#[path = "wire/packets.rs"]
mod packets;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use data_encoding::HEXLOWER;
use haul::integrity::crc32c::crc32c;
use haul::integrity::digest::{DigestKind, Hasher};
use haul::limits;
use haul::wire::frame::{FileEnd, Frame, FrameError, FrameReader, FrameType, Placed};
use haul::wire::hello::{Hello, Join};
use haul::wire::message::{
    Auth, AuthMethod, Check, Close, Code, Discard, Entries, Entry, FileFailed, Finish, FlowAccept, FlowMode,
    FlowOpen, Heard, Intent, Kind, Law, Listed, Message, MessageError, Mtime, NOT_KNOWN, NotKept, Open,
    Outcome, Outcomes, Overwrite, Ping, RawEnd, RawRange, RawReport, Receipt, Resume, Span, Stats, StreamEnd,
    Sums, Unlisted, Want, Wants, Welcome,
};
use serde_json::Value;

#[test]
fn frames_are_the_golden_ones_in_both_directions() {
    // protocol.md [FRAME-1], [MSG-1]
    let vectors = vectors();
    let mut values = frames();

    for (name, vector) in vectors.iter().filter(|(_, vector)| vector.kind != "HELLO") {
        let frame =
            values.remove(name.as_str()).unwrap_or_else(|| panic!("{name}: has no value in this test"));
        let mut reader = FrameReader::new(vector.has_checksum, limits::CHUNK_BYTES);
        // protocol.md [FRAME-6]: the flags too.
        let mut encoded = frame.encode();
        if vector.has_checksum {
            let checksum = crc32c(&encoded).to_le_bytes();
            encoded.extend_from_slice(&checksum);
        }

        reader.handle_input(&vector.bytes).unwrap_or_else(|error| panic!("{name}: {error}"));

        assert_eq!(reader.poll_frame().as_ref(), Some(&frame), "{name}: decoded");
        assert!(reader.is_between_frames(), "{name}: bytes are left");
        assert_eq!(HEXLOWER.encode(&encoded), HEXLOWER.encode(&vector.bytes), "{name}: encoded");
        assert_eq!(frame_name(frame.frame_type()), vector.kind, "{name}");
    }

    assert!(values.is_empty(), "values without golden bytes: {:?}", values.keys());
}

#[test]
fn hellos_are_the_golden_ones_in_both_directions() {
    let vectors = vectors();
    let plain = Hello {
        version_min: 1,
        version_max: 1,
        nonce: counting(0),
        features: 1,
        chunk_max: 4 << 20,
        agent: "haul/0.1.0".to_owned(),
        join: None,
        previous: None,
    };
    let joining = Hello {
        nonce: counting(0x20),
        join: Some(Join { session: counting(0xa0), stream: 3 }),
        ..plain.clone()
    };
    let again =
        Hello { nonce: counting(0x20), features: 31, previous: Some(counting(0xa0)), ..plain.clone() };

    for (name, hello) in [("hello", plain), ("hello-join", joining), ("hello-again", again)] {
        let bytes = &vectors[name].bytes;

        assert_eq!(Hello::decode(bytes), Ok(Some((hello.clone(), bytes.len()))), "{name}: decoded");
        assert_eq!(HEXLOWER.encode(&hello.encode()), HEXLOWER.encode(bytes), "{name}: encoded");
    }
}

#[test]
fn every_type_of_frame_has_golden_bytes() {
    let kinds: BTreeSet<_> = vectors().into_values().map(|vector| vector.kind).collect();
    let mut wanted: BTreeSet<_> = FrameType::ALL.into_iter().map(frame_name).collect();
    wanted.insert("HELLO".to_owned());

    assert_eq!(kinds, wanted);
}

#[test]
fn the_examples_in_the_protocol_are_the_golden_bytes() {
    let mut examples = packets::examples();
    examples.extend(vectors().into_iter().map(|(name, vector)| (name, (vector.kind, vector.bytes))));
    let text = fs::read_to_string(root().join("protocol.md")).unwrap();
    let mut shown = BTreeSet::new();

    for block in text.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let lines = rest.split("```").next().unwrap().lines();
        let hex: String = lines.map(|line| line.split(';').next().unwrap().replace(' ', "")).collect();
        let (kind, bytes) = examples.get(name).unwrap_or_else(|| panic!("{name}: is no golden vector"));

        assert_eq!(hex, HEXLOWER.encode(bytes), "{name}");
        shown.insert(kind.clone());
    }

    assert_eq!(shown, examples.into_values().map(|(kind, _)| kind).collect(), "kinds without an example");
}

#[test]
fn an_encoder_in_another_language_agrees() {
    let check = Command::new("python3").arg("-B").arg(root().join("fixtures/wire/check.py")).output();

    // A machine without Python proves nothing here, and nothing against it.
    let Ok(check) = check else { return };
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn a_payload_that_is_cut_or_has_bytes_behind_it_is_malformed() {
    // protocol.md [MSG-2]
    for (name, vector) in &vectors() {
        let Some(kind) = message_type(&vector.kind) else { continue };
        let payload = vector.payload();
        assert!(Message::decode(kind, payload).is_ok(), "{name}");

        for end in 0..payload.len() {
            let error = Message::decode(kind, &payload[..end]).unwrap_err();
            assert_eq!(error, MessageError::Malformed(kind), "{name} cut at {end}");
        }
        let longer = [payload, &[0]].concat();
        assert_eq!(
            Message::decode(kind, &longer),
            Err(MessageError::Malformed(kind)),
            "{name} with a byte more"
        );
    }
}

#[test]
fn what_no_value_encodes_to_is_malformed() {
    // protocol.md [MSG-4]
    let vectors = vectors();
    let bend = |name: &str, at: usize, bytes: &[u8]| {
        let vector = &vectors[name];
        let mut payload = vector.payload().to_vec();
        payload[at..at + bytes.len()].copy_from_slice(bytes);
        Message::decode(message_type(&vector.kind).unwrap(), &payload).map_err(|_| ())
    };
    let synced_at = vectors["receipt"].payload().len() - 1;
    let text_at = vectors["close-refused"].payload().len() - 1;

    assert!(bend("receipt", synced_at, &[0]).is_ok());
    assert_eq!(bend("receipt", synced_at, &[2]), Err(()), "a bool of 2");
    assert!(bend("auth-key", 0, &[3]).is_ok());
    assert_eq!(bend("auth-key", 0, &[4]), Err(()), "a method that does not exist");
    assert_eq!(bend("auth-key", 3, &[1]), Err(()), "a variant beyond 16 bits");
    assert_eq!(bend("close-done", 0, &[15]), Err(()), "a code that does not exist");
    assert_eq!(bend("close-refused", text_at, &[0xff]), Err(()), "a text that is not UTF-8");
    for length in [u64::MAX, 1 << 63, 1 << 40, 1 << 17, 6] {
        assert_eq!(bend("want", 0, &length.to_le_bytes()), Err(()), "{length} wants");
        assert_eq!(bend("close-done", 4, &length.to_le_bytes()), Err(()), "{length} bytes of text");
    }
}

#[test]
fn lists_texts_and_numbers_are_taken_just_to_their_limits() {
    // protocol.md [MSG-3]
    let text = |len: usize| "x".repeat(len);
    let name = |len: usize| vec![b'n'; len];
    let entries = |count: usize| Message::Entries(Entries { first: 0, entries: vec![entry(name(1)); count] });
    let one = |entry: Entry| Message::Entries(Entries { first: 0, entries: vec![entry] });
    let mode = |mode: u32| one(Entry { mode, ..entry(name(1)) });
    let nanos = |nanos: u32| one(Entry { mtime: Mtime { secs: 0, nanos }, ..entry(name(1)) });
    let symlink = |len: usize| one(Entry { kind: Kind::Symlink { target: name(len) }, ..entry(name(1)) });
    let wants = |count: usize| Message::Wants(Wants { wants: vec![(0, Want::Content); count] });
    let outcomes = |count: usize| Message::Outcomes(Outcomes { outcomes: vec![(0, Outcome::Done); count] });
    let failed = |len: usize| {
        let outcome = Outcome::Failed { code: Code::File, text: text(len) };
        Message::Outcomes(Outcomes { outcomes: vec![(0, outcome)] })
    };
    let given_up =
        |len: usize| Message::FileFailed(FileFailed { file: 0, code: Code::File, text: text(len) });
    let close = |len: usize| Message::Close(Close { code: Code::Done, text: text(len) });
    let streams =
        |max_streams: u16| Message::Welcome(Welcome { proof: [0; 32], session: [0; 16], max_streams });
    let ended = |stream: u16| Message::StreamEnd(StreamEnd { stream, received: 0 });
    let opened = |attempt: u16, connection: u32| Message::FlowOpen(flow_open(attempt, connection));
    let raw = |ranges: usize| Message::RawReport(raw_report(ranges as u64));
    let kept = |count: usize| resume(&(0..count as u64).map(|i| (2 * i, 1)).collect::<Vec<_>>());
    let check = |count: u64| Message::Check(Check { file: 1, first: 0, count });
    let sums = |count: usize| Message::Sums(Sums { file: 1, first: 0, sums: vec![7; count] });
    let sources = |count: usize, len: usize| pull(vec![name(len); count], Vec::new(), Vec::new());
    let patterns = |include: usize, exclude: usize, len: usize| {
        pull(Vec::new(), vec![text(len); include], vec![text(len); exclude])
    };
    let listing = |count: usize| open(Intent::List { sources: vec![name(1); count], recursive: false });
    let target = |len: usize| open(Intent::Push { target: name(len) });
    let long = limits::PATH_MAX_BYTES;

    let pairs = [
        ("entries", entries(limits::ENTRIES_PER_BATCH), entries(limits::ENTRIES_PER_BATCH + 1)),
        ("no entries", entries(1), entries(0)),
        ("a name", one(entry(name(long))), one(entry(name(long + 1)))),
        ("an empty name", one(entry(name(1))), one(entry(name(0)))),
        ("a mode", mode(0o7777), mode(0o10000)),
        ("nanoseconds", nanos(999_999_999), nanos(1_000_000_000)),
        ("a link's target", symlink(long), symlink(long + 1)),
        ("an empty target", symlink(1), symlink(0)),
        ("wants", wants(limits::RECORDS_PER_FRAME), wants(limits::RECORDS_PER_FRAME + 1)),
        ("outcomes", outcomes(limits::RECORDS_PER_FRAME), outcomes(limits::RECORDS_PER_FRAME + 1)),
        ("an outcome's text", failed(limits::TEXT_MAX_BYTES), failed(limits::TEXT_MAX_BYTES + 1)),
        ("a failure's text", given_up(limits::TEXT_MAX_BYTES), given_up(limits::TEXT_MAX_BYTES + 1)),
        (
            "an unlisted name",
            unlisted(&name(limits::UNLISTED_NAME_MAX_BYTES), ""),
            unlisted(&name(limits::UNLISTED_NAME_MAX_BYTES + 1), ""),
        ),
        (
            "the reason why",
            unlisted(b"n", &text(limits::TEXT_MAX_BYTES)),
            unlisted(b"n", &text(limits::TEXT_MAX_BYTES + 1)),
        ),
        ("a last text", close(limits::TEXT_MAX_BYTES), close(limits::TEXT_MAX_BYTES + 1)),
        ("connections", streams(16), streams(17)),
        ("no connection", streams(1), streams(0)),
        ("a stream", ended(15), ended(16)),
        ("the control connection", ended(1), ended(0)),
        ("ranges that are there", kept(limits::RESUME_SPANS_MAX), kept(limits::RESUME_SPANS_MAX + 1)),
        ("blocks to check", check(limits::SUMS_PER_FRAME as u64), check(limits::SUMS_PER_FRAME as u64 + 1)),
        ("no block to check", check(1), check(0)),
        ("sums", sums(limits::SUMS_PER_FRAME), sums(limits::SUMS_PER_FRAME + 1)),
        ("no sums", sums(1), sums(0)),
        ("missing ranges", raw(limits::RECORDS_PER_FRAME), raw(limits::RECORDS_PER_FRAME + 1)),
        ("a flow", ended(256), ended(255)),
        ("the last flow", opened(u16::MAX - 256, 1), opened(u16::MAX - 255, 1)),
        ("a flow's name", opened(0, 1), opened(0, 0)),
        ("sources", sources(limits::SOURCES_MAX, 1), sources(limits::SOURCES_MAX + 1, 1)),
        ("a source", sources(1, long), sources(1, long + 1)),
        ("listed sources", listing(limits::SOURCES_MAX), listing(limits::SOURCES_MAX + 1)),
        ("patterns", patterns(200, 56, 1), patterns(200, 57, 1)),
        ("a pattern", patterns(1, 0, long), patterns(0, 1, long + 1)),
        ("a target", target(long), target(long + 1)),
    ];
    for (what, inside, outside) in pairs {
        let kind = inside.frame_type();
        let decode = |message: &Message| Message::decode(kind, &frame_payload(message));

        assert_eq!(decode(&inside), Ok(inside), "{what}: just inside");
        assert_eq!(decode(&outside), Err(MessageError::TooLong(kind)), "{what}: just outside");
    }
}

#[test]
fn a_message_as_long_as_a_frame_may_be_is_taken() {
    // protocol.md [FRAME-2]
    let mut sources = Vec::new();
    let mut left = limits::CONTROL_MAX_BYTES - frame_payload(&pull(Vec::new(), Vec::new(), Vec::new())).len();
    while left > 0 {
        // A length of eight bytes stands before each.
        let len = limits::PATH_MAX_BYTES.min(left - 8);
        sources.push(vec![b's'; if left - 8 - len < 8 { left - 8 } else { len }]);
        left -= 8 + sources.last().map_or(0, Vec::len);
    }
    let whole = pull(sources, Vec::new(), Vec::new());
    let bytes = Frame::Message(whole.clone()).encode();
    assert_eq!(bytes.len(), 8 + limits::CONTROL_MAX_BYTES);
    let mut reader = FrameReader::new(false, limits::CHUNK_BYTES);

    assert_eq!(reader.handle_input(&bytes), Ok(()));
    assert_eq!(reader.poll_frame(), Some(Frame::Message(whole)));
}

#[test]
fn flags_that_nobody_knows_are_ignored() {
    // protocol.md [FRAME-6]
    let mut bytes = vectors()["ping"].bytes.clone();
    bytes[6..8].copy_from_slice(&0xfffe_u16.to_le_bytes());
    let mut reader = FrameReader::new(false, limits::CHUNK_BYTES);

    reader.handle_input(&bytes).unwrap();

    assert_eq!(reader.poll_frame(), Some(Frame::Message(Message::Ping(Ping { number: 42 }))));
}

#[test]
fn an_error_in_a_frame_keeps_what_came_before_it() {
    // protocol.md [ERR-2]
    let vectors = vectors();
    let bad = [&vectors["ping"].bytes[..], &[0, 0, 0, 0, 0, 0, 0, 0]].concat();
    let mut reader = FrameReader::new(false, limits::CHUNK_BYTES);

    assert_eq!(reader.handle_input(&bad), Err(FrameError::UnknownType(0)));
    assert!(reader.poll_frame().is_some());
}

/// The values of all golden frames.
fn frames() -> BTreeMap<&'static str, Frame> {
    let stats = Stats {
        elapsed_us: 1_500_000,
        payload_bytes: 1_048_576,
        wire_bytes: 1_050_000,
        source_wait_us: 250_000,
        network_wait_us: 100_000,
        credit_wait_us: 50_000,
        target_wait_us: 0,
        peer_wait_us: 75_000,
        cpu_us: 900_000,
        busiest_us: 800_000,
        peak_rss_bytes: 16 << 20,
        streams: 2,
    };
    let receiver_stats = Stats {
        elapsed_us: 1_500_001,
        payload_bytes: 1_048_576,
        wire_bytes: 1_050_001,
        source_wait_us: 0,
        network_wait_us: 0,
        credit_wait_us: 0,
        target_wait_us: 600_000,
        peer_wait_us: 300_000,
        cpu_us: 700_000,
        busiest_us: 650_000,
        peak_rss_bytes: 8 << 20,
        streams: 2,
    };
    let data = Frame::Data { file: 1, offset: 0, bytes: b"hello".to_vec() };
    let range = Placed { file: 1, offset: 0, len: 5 };
    let pong = Message::Pong(Ping { number: 42 });
    let messages = [
        ("auth-token", Message::Auth(Auth { method: AuthMethod::Token, proof: counting(0x40) })),
        ("auth-key", Message::Auth(Auth { method: AuthMethod::Key, proof: [0; 32] })),
        (
            "welcome",
            Message::Welcome(Welcome { proof: counting(0x60), session: counting(0xa0), max_streams: 16 }),
        ),
        ("open-push", open(Intent::Push { target: b"in".to_vec() })),
        ("open-pull", golden_pull()),
        (
            "open-list",
            Message::Open(Open {
                intent: Intent::List { sources: Vec::new(), recursive: true },
                digest: DigestKind::Sha256,
                overwrite: Overwrite::Never,
                checksum: false,
                dry_run: false,
            }),
        ),
        ("entries", golden_entries()),
        ("entries-kinds", golden_kinds()),
        (
            "listed",
            Message::Listed(Listed {
                entries: 5,
                bytes: 5,
                not_kept: NotKept { special: 1, owner: 2, attributes: 3, hardlinks: 4 },
            }),
        ),
        ("want", Message::Wants(Wants { wants: vec![(1, Want::Content), (2, Want::Digest)] })),
        (
            "file-failed",
            Message::FileFailed(FileFailed {
                file: 4,
                code: Code::SourceChanged,
                text: "it changed".to_owned(),
            }),
        ),
        ("unlisted", unlisted(b"nope", "no such file")),
        (
            "outcomes",
            Message::Outcomes(Outcomes {
                outcomes: vec![
                    (1, Outcome::Done),
                    (2, Outcome::Identical),
                    (4, Outcome::Failed { code: Code::NoSpace, text: "full".to_owned() }),
                ],
            }),
        ),
        ("finish", Message::Finish(Finish { stats })),
        ("receipt", Message::Receipt(Receipt { stats: receiver_stats, done: 4, failed: 1, synced: true })),
        ("ping", Message::Ping(Ping { number: 42 })),
        ("pong", pong.clone()),
        ("pong-plain", pong),
        ("close-done", Message::Close(Close { code: Code::Done, text: String::new() })),
        (
            "close-refused",
            Message::Close(Close { code: Code::NotAllowed, text: "nein, danke – für heute".to_owned() }),
        ),
        ("stream-end-sender", Message::StreamEnd(StreamEnd { stream: 3, received: 0 })),
        ("stream-end", Message::StreamEnd(StreamEnd { stream: 3, received: 1 << 20 })),
        ("stream-end-flow", Message::StreamEnd(StreamEnd { stream: 257, received: 1 << 20 })),
        ("flow-open", Message::FlowOpen(flow_open(0, 0x1122_3344))),
        (
            "flow-open-raw",
            Message::FlowOpen(FlowOpen {
                mode: FlowMode::Raw,
                law: Law::Fixed,
                rate_bps: 200_000_000,
                ..flow_open(1, 7)
            }),
        ),
        ("flow-accept", Message::FlowAccept(FlowAccept { attempt: 0, connection: 0x5d6d_7d8d, port: 7420 })),
        ("flow-refused", Message::FlowAccept(FlowAccept { attempt: 1, connection: 0, port: 0 })),
        ("raw-end", Message::RawEnd(RawEnd { attempt: 0, packets: 8343 })),
        ("raw-report", Message::RawReport(raw_report(2))),
        ("heard", Message::Heard(Heard { frames: 64 })),
        ("discard", Message::Discard(Discard { digest: DigestKind::Blake3 })),
        ("resume", resume(&[(0, 64 << 20), (96 << 20, 1 << 20)])),
        ("check", Message::Check(Check { file: 1, first: 0, count: 2 })),
        (
            "sums",
            Message::Sums(Sums { file: 1, first: 0, sums: vec![crc32c(&[0; 1 << 20]), crc32c(b"hello")] }),
        ),
        (
            "raw-report-unknown",
            Message::RawReport(RawReport {
                received: 5,
                dropped: NOT_KNOWN,
                checksum_errors: NOT_KNOWN,
                intact_files: 1,
                ..RawReport::default()
            }),
        ),
    ];
    let by_hand = [
        ("data", data.clone()),
        ("data-plain", data),
        ("hole", Frame::Hole(Placed { file: 3, offset: 1 << 40, len: 64 << 20 })),
        ("file-end", Frame::FileEnd(FileEnd { file: 1, size: 5, digest: sha256(b"hello") })),
        ("file-digest", Frame::FileDigest(FileEnd { file: 2, size: 0, digest: sha256(b"") })),
        ("feedback", Frame::Feedback { credit: 4 << 20, placed: vec![range] }),
        ("feedback-credit", Frame::Feedback { credit: 64 << 20, placed: Vec::new() }),
    ];
    messages.map(|(name, message)| (name, Frame::Message(message))).into_iter().chain(by_hand).collect()
}

fn raw_report(ranges: u64) -> RawReport {
    RawReport {
        attempt: 0,
        received: 8341,
        out_of_order: 7,
        farthest: 12,
        duplicated: 3,
        damaged: 1,
        intact_files: 2,
        damaged_files: 1,
        missing_bytes: ranges * 1405,
        missing: (1..=ranges).map(|i| RawRange { file: 2, offset: i * 140_500, len: 1405 }).collect(),
        ..RawReport::default()
    }
}

fn resume(kept: &[(u64, u64)]) -> Message {
    let kept = kept.iter().map(|&(offset, len)| Span { offset, len }).collect();
    Message::Resume(Resume { file: 1, kept })
}

fn flow_open(attempt: u16, connection: u32) -> FlowOpen {
    FlowOpen { attempt, connection, is_only: true, mode: FlowMode::Reliable, law: Law::Bbr, rate_bps: 0 }
}

fn unlisted(name: &[u8], text: &str) -> Message {
    Message::Unlisted(Unlisted { name: name.to_vec(), code: Code::NotFound, text: text.to_owned() })
}

fn golden_pull() -> Message {
    Message::Open(Open {
        intent: Intent::Pull {
            sources: vec![b"tree/".to_vec(), b"*.log".to_vec()],
            eager: true,
            include: vec!["*.rs".to_owned()],
            exclude: vec!["target/".to_owned()],
        },
        digest: DigestKind::Blake3,
        overwrite: Overwrite::Always,
        checksum: true,
        dry_run: true,
    })
}

fn golden_entries() -> Message {
    let dir = Entry {
        source: 0,
        name: b"d".to_vec(),
        mode: 0o755,
        mtime: Mtime { secs: 1_700_000_000, nanos: 0 },
        kind: Kind::Dir,
    };
    let file = Entry {
        source: 0,
        name: b"d/a".to_vec(),
        mode: 0o644,
        mtime: Mtime { secs: -1, nanos: 999_999_999 },
        kind: Kind::File { size: 5, sparse: false, linked: true },
    };
    Message::Entries(Entries { first: 0, entries: vec![dir, file] })
}

fn golden_kinds() -> Message {
    let entry = |source, name: &[u8], mode, secs, nanos, kind| Entry {
        source,
        name: name.to_vec(),
        mode,
        mtime: Mtime { secs, nanos },
        kind,
    };
    Message::Entries(Entries {
        first: 2,
        entries: vec![
            entry(1, b"b", 0o644, 1, 2, Kind::Hardlink { file: 1 }),
            entry(1, b"\xff/ ", 0o777, 3, 4, Kind::Symlink { target: b"../x".to_vec() }),
            entry(2, b"-", 0o7777, 5, 6, Kind::Stream),
        ],
    })
}

fn open(intent: Intent) -> Message {
    Message::Open(Open {
        intent,
        digest: DigestKind::Sha256,
        overwrite: Overwrite::Different,
        checksum: false,
        dry_run: false,
    })
}

fn pull(sources: Vec<Vec<u8>>, include: Vec<String>, exclude: Vec<String>) -> Message {
    open(Intent::Pull { sources, eager: false, include, exclude })
}

fn entry(name: Vec<u8>) -> Entry {
    Entry { source: 0, name, mode: 0o644, mtime: Mtime { secs: 0, nanos: 0 }, kind: Kind::Dir }
}

fn frame_payload(message: &Message) -> Vec<u8> {
    let mut payload = Vec::new();
    message.encode(&mut payload);
    payload
}

/// `N` bytes that count up from `first`.
fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first.wrapping_add(u8::try_from(i).unwrap()))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(bytes);
    hasher.finish()
}

/// A golden vector.
struct Vector {
    /// As protocol.md names the frame, or `HELLO`.
    kind: String,
    bytes: Vec<u8>,
    has_checksum: bool,
}

impl Vector {
    /// What stands between header and checksum.
    fn payload(&self) -> &[u8] {
        &self.bytes[8..self.bytes.len() - if self.has_checksum { 4 } else { 0 }]
    }
}

fn vectors() -> BTreeMap<String, Vector> {
    let text = fs::read_to_string(root().join("fixtures/wire/vectors.json")).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let vector = |value: &Value| {
        let text = |field: &str| value[field].as_str().unwrap().to_owned();
        let has_checksum = value["checksum"].as_bool().unwrap_or(false);
        let bytes = HEXLOWER.decode(text("hex").as_bytes()).unwrap();
        (text("name"), Vector { kind: text("frame"), bytes, has_checksum })
    };
    file["vectors"].as_array().unwrap().iter().map(vector).collect()
}

/// `FileEnd` is `FILE_END`.
fn frame_name(kind: FrameType) -> String {
    let mut name = String::new();
    for c in format!("{kind:?}").chars() {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

/// The type of this name, if it holds a message.
fn message_type(name: &str) -> Option<FrameType> {
    use FrameType::{Data, Feedback, FileDigest, FileEnd, Hole};
    let kind = FrameType::ALL.into_iter().find(|&kind| frame_name(kind) == name)?;
    (!matches!(kind, Data | Hole | FileEnd | FileDigest | Feedback)).then_some(kind)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
