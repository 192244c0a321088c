//! Files over UDP: the real binary, both roles, paths that lose, repeat, rebind and block.

mod common;

use std::collections::VecDeque;
use std::fs;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::process::Server;
use common::proxy::{Manner, Proxy};
use common::relay::Relay;
use common::tree::{self, noise, sha256};
use common::{Place, haul, run};
use haul::wire::packet::HEADER_BYTES;
use serde_json::{Value, json};

const UDP: [&str; 2] = ["--transport", "udp"];
/// A long way, for loopback.
const LATE: Duration = Duration::from_millis(100);

#[test]
fn files_go_over_udp_in_both_directions() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(1, 3_000_000);
    here.write("tree/large", &content);
    for i in 0..300 {
        here.write(format!("tree/sub/{i}"), noise(i, usize::try_from(i).unwrap() * 40));
    }
    let serve = there.listen(["serve", "."]);

    let sent =
        here.start(["send", "tree", &serve.ticket, "--json"].into_iter().chain(UDP)).end().with(0).json();
    let got = here
        .start(["get", &serve.at("tree"), "-o", "back", "--json"].into_iter().chain(UDP))
        .end()
        .with(0)
        .json();

    for report in [&sent, &got] {
        assert_eq!(report["transport"], json!("udp"));
        assert_eq!(report["files"], json!(301));
    }
    assert!(sent["flow"]["packets"].as_u64() > Some(0));
    assert_eq!(tree::names(&here.path("tree")), tree::names(&here.path("back")));
    for name in tree::names(&here.path("tree")) {
        let (a, b) = (here.path(format!("tree/{name}")), here.path(format!("back/{name}")));
        assert_eq!(fs::read(a).ok(), fs::read(b).ok(), "{name}");
    }
}

#[test]
fn a_server_whose_udp_port_is_taken_has_another() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(1, 1_000_000));
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut command = there.command(haul());
    let mut serve = Server::start_as_it_is(command.args(["serve", ".", "--listen", &address.to_string()]));
    assert_eq!(serve.address(), address);
    serve.process.line_with(&format!("UDP port {} is in use: UDP has port ", address.port()));

    here.start(["send", "file", &serve.ticket].into_iter().chain(UDP)).end().with(0);

    assert!(fs::read(there.path("file")).unwrap() == noise(1, 1_000_000));
}

#[test]
fn what_is_to_go_over_udp_stays_there_when_other_connections_end() {
    let (here, there) = (Place::new(), Place::new());
    there.write("file", noise(11, 4_000_000));
    let serve = there.listen(["serve", ".", "--rate", "16mbit"]);

    // The server ends all connections but one, since content goes over the flow.
    let arguments = ["get", &serve.at("file"), "--json", "--streams", "4"];
    let got = here.start(arguments.into_iter().chain(UDP)).end().with(0).json();

    assert_eq!(got["transport"], json!("udp"), "{got}");
}

#[test]
fn a_path_that_loses_repeats_and_swaps_datagrams_costs_no_byte() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(2, 2_000_000);
    here.write("file", &content);
    let serve = there.listen(["serve", "."]);
    let mut held: Option<Vec<u8>> = None;
    let relay = Relay::start(
        serve.address(),
        Box::new(move |_, count, datagram| {
            let mut out = match count % 50 {
                3 | 17 | 31 => Vec::new(),
                8 => vec![datagram.to_vec(), datagram.to_vec()],
                21 => vec![damaged(datagram)],
                40 => {
                    held = Some(datagram.to_vec());
                    return Vec::new();
                }
                _ => vec![datagram.to_vec()],
            };
            if count % 50 == 44 {
                out.extend(held.take());
            }
            out
        }),
    );
    let ticket = serve.over(relay.proxy.address);

    let sent = here.start(["send", "file", &ticket, "--json"].into_iter().chain(UDP)).end().with(0).json();

    assert_eq!(sent["digest"], json!(sha256(&content)));
    assert!(sent["flow"]["lost"].as_u64() > Some(0));
    assert!(fs::read(there.path("file")).unwrap() == content);
}

#[test]
fn forged_datagrams_cost_no_byte() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(2, 4_000_000);
    here.write("file", &content);
    let serve = there.listen(["serve", "."]);
    let server = serve.address();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let forged = Arc::new(AtomicUsize::new(0));
    let count_forged = forged.clone();
    // Who sees all packets puts forgeries between them, and sends them to the server from elsewhere, too.
    let relay = Relay::start(
        server,
        Box::new(move |_, count, datagram| {
            let mut out = forgeries(count, datagram);
            for forgery in &out {
                // A full buffer or nobody there is no matter of the test.
                let _ = stranger.send_to(forgery, server);
            }
            count_forged.fetch_add(out.len(), Relaxed);
            out.push(datagram.to_vec());
            out
        }),
    );
    let ticket = serve.over(relay.proxy.address);

    let sent = here.start(["send", "file", &ticket, "--json"].into_iter().chain(UDP)).end().with(0).json();

    assert_eq!(sent["transport"], json!("udp"));
    assert_eq!(sent["digest"], json!(sha256(&content)));
    assert!(fs::read(there.path("file")).unwrap() == content);
    assert!(forged.load(Relaxed) > 1000, "{forged:?}");
}

#[test]
fn a_nat_that_forgets_the_client_ends_nothing() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(3, 8_000_000);
    here.write("file", &content);
    let serve = there.listen(["serve", "."]);
    let relay = Relay::transparent(serve.address());
    let ticket = serve.over(relay.proxy.address);

    let arguments = ["send", "file", &ticket, "--json", "--rate", "40mbit"];
    let send = here.start(arguments.into_iter().chain(UDP));
    for count in [100, 300, 500] {
        relay.await_from_clients(count);
        relay.rebind();
    }

    assert_eq!(send.end().with(0).json()["digest"], json!(sha256(&content)));
    assert!(fs::read(there.path("file")).unwrap() == content);
}

#[test]
fn a_transfer_over_udp_outlives_its_control_connection() {
    // protocol.md [REJOIN-1], [REJOIN-3], [REJOIN-4]
    let (here, there) = (Place::new(), Place::new());
    let content = noise(8, 8_000_000);
    here.write("tree/large", &content);
    for i in 0..200 {
        here.write(format!("tree/sub/{i}"), noise(i, 2000));
    }
    let serve = there.listen(["serve", "."]);
    let cut_three_times = |relay: &Relay| {
        for count in [200, 400, 600] {
            relay.await_from_clients(count);
            relay.proxy.reset();
            relay.rebind();
        }
    };

    let relay = Relay::transparent(serve.address());
    let ticket = serve.over(relay.proxy.address);
    let send = here
        .start(["send", "tree", &ticket, "--json", "--checksum", "--rate", "40mbit"].into_iter().chain(UDP));
    cut_three_times(&relay);
    let sent = send.end().with(0).json();

    assert!(sent["rejoined"].as_u64() > Some(0), "{sent}");
    assert_eq!(sent["files"], json!(201));
    assert_eq!(sent["transport"], json!("udp"));
    let relay = Relay::transparent(serve.address());
    let ticket = serve.over(relay.proxy.address);
    let arguments = ["get", &ticket, "-o", "back", "--json", "--rate", "40mbit"];
    let get = here.start(arguments.into_iter().chain(UDP));
    // Who receives sends little.
    for count in [30, 60, 90] {
        relay.await_from_clients(count);
        relay.proxy.reset();
    }
    let got = get.end().with(0).json();

    assert!(got["rejoined"].as_u64() > Some(0), "{got}");
    for name in tree::names(&here.path("tree")) {
        let (a, b) = (here.path(format!("tree/{name}")), here.path(format!("back/tree/{name}")));
        assert_eq!(fs::read(a).ok(), fs::read(b).ok(), "{name}");
    }
}

#[test]
fn a_control_connection_that_falls_silent_is_replaced() {
    // protocol.md [REJOIN-3]
    let (here, there) = (Place::new(), Place::new());
    let content = noise(9, 6_000_000);
    here.write("file", &content);
    let serve = there.listen(["serve", "."]);
    let relay = Relay::transparent(serve.address());
    let ticket = serve.over(relay.proxy.address);

    let arguments = ["send", "file", &ticket, "--json", "--rate", "8mbit"];
    let send = here.start(arguments.into_iter().chain(UDP));
    relay.await_from_clients(100);
    relay.proxy.mute();
    let sent = send.end().with(0).json();

    assert_eq!(sent["rejoined"], json!(1));
    assert_eq!(sent["digest"], json!(sha256(&content)));
}

#[test]
fn a_session_whose_control_connection_does_not_come_back_ends_in_words() {
    // protocol.md [REJOIN-3]
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(10, 30_000_000));
    let serve = there.listen(["serve", "."]);
    let relay = Relay::transparent(serve.address());
    let ticket = serve.over(relay.proxy.address);

    let arguments = ["send", "file", &ticket, "--rate", "8mbit"];
    let send = here.start(arguments.into_iter().chain(UDP));
    relay.await_from_clients(100);
    relay.proxy.close();
    relay.proxy.reset();

    let failed = send.end().with(3);
    assert!(failed.stderr.contains("run the same command again"), "{}", failed.stderr);
    assert!(!there.path("file").exists());
}

#[test]
fn blocked_udp_is_an_error_where_it_was_asked_for_by_name_and_none_where_it_was_not() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(4, 100_000));
    there.write("other", noise(5, 100_000));
    let serve = there.listen(["serve", "."]);
    // TCP alone passes.
    let proxy = Proxy::start(serve.address(), Manner::default());
    let ticket = serve.over(proxy.address);

    for command in [&["send", "file", &ticket][..], &["get", &ticket, "-o", "there"]] {
        let failed = here.start(command.iter().copied().chain(UDP)).end().with(11);
        assert!(failed.stderr.contains("UDP"), "{}", failed.stderr);
    }
    let sent = here.start(["send", "file", &ticket, "--transport", "auto", "--json"]).end().with(0).json();

    assert_eq!(sent["transport"], json!("tcp"));
}

#[test]
fn udp_that_is_blocked_in_mid_transfer_ends_with_an_error_and_no_hang() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(5, 20_000_000));
    let serve = there.listen(["serve", "."]);
    let relay = Relay::transparent(serve.address());
    let ticket = serve.over(relay.proxy.address);

    let arguments = ["send", "file", &ticket, "--rate", "40mbit", "--timeout", "3s"];
    let send = here.start(arguments.into_iter().chain(UDP));
    relay.await_from_clients(100);
    relay.block();

    assert!(send.end().with(11).stderr.contains("UDP"));
    assert!(!there.path("file").exists());
}

#[test]
fn udp_that_passes_one_way_only_is_blocked_also_when_the_server_says_so() {
    // The client hears the server, whose content nobody acknowledges: protocol.md [FLOW-7]
    let (here, there) = (Place::new(), Place::new());
    there.write("file", noise(5, 20_000_000));
    let serve = there.listen(["serve", ".", "--timeout", "3s", "--rate", "40mbit"]);
    let treatment = |is_from_client: bool, count: u64, datagram: &[u8]| {
        if is_from_client && count > 20 { Vec::new() } else { vec![datagram.to_vec()] }
    };
    let relay = Relay::start(serve.address(), Box::new(treatment));
    let ticket = serve.over(relay.proxy.address).replace('#', "/file#");

    let got = here.start(["get", &ticket].into_iter().chain(UDP)).end().with(11);

    assert!(got.stderr.contains("UDP"), "{}", got.stderr);
}

#[test]
fn who_receives_over_udp_is_told_of_a_small_buffer_and_nobody_else() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(10, 100_000));
    let serve = there.listen(["serve", "."]);
    let advice = "KiB of receive buffer";

    let sent = here.start(["send", "file", &serve.ticket].into_iter().chain(UDP)).end().with(0);
    let ticket = serve.at("file");
    let over_tcp = ["get", &ticket, "-o", "a", "--transport", "tcp"];
    let over_tcp = here.start(over_tcp).end().with(0);
    let got = here.start(["get", &ticket, "-o", "b"].into_iter().chain(UDP)).end().with(0);
    let told = here.start(["get", &ticket, "-o", "c", "--json"].into_iter().chain(UDP)).end().with(0);

    let granted = told.json()["flow"]["recv_buffer_bytes"].as_u64().unwrap();
    let is_few = granted < haul::limits::UDP_RECV_BUFFER_FEW_BYTES as u64;
    assert_eq!(got.stderr.contains(advice), is_few, "{granted}: {}", got.stderr);
    for end in [sent, over_tcp, told] {
        assert!(!end.stderr.contains(advice), "{}", end.stderr);
    }
}

#[test]
fn a_trace_says_what_the_flow_did_at_either_end() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(7, 1_000_000));
    let serve = there.listen(["serve", "."]);

    here.start(["send", "file", &serve.ticket, "--trace", "sent.jsonl"].into_iter().chain(UDP)).end().with(0);
    let ticket = serve.at("file");
    let arguments = ["get", &ticket, "-o", "back", "--trace", "got.jsonl"];
    here.start(arguments.into_iter().chain(UDP)).end().with(0);

    let sent = trace(&here, "sent.jsonl", "sender");
    let content: u64 = of_event(&sent, "sent").filter_map(|line| line["bytes"].as_u64()).sum();
    assert!(content > 1_000_000, "{content}");
    assert!(of_event(&sent, "acked").all(|line| line["window"].as_u64() > Some(0)));
    assert!(of_event(&sent, "acked").count() > 0);
    let got = trace(&here, "got.jsonl", "receiver");
    let content: u64 = of_event(&got, "received").filter_map(|line| line["bytes"].as_u64()).sum();
    assert!(content > 1_000_000, "{content}");
    assert!(of_event(&got, "ack").count() > 0);
}

#[test]
fn a_trace_is_there_also_when_udp_is_blocked() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(8, 20_000_000));
    let serve = there.listen(["serve", "."]);
    let relay = Relay::transparent(serve.address());
    let ticket = serve.over(relay.proxy.address);

    let arguments = ["send", "file", &ticket, "--rate", "40mbit", "--timeout", "3s", "--trace", "trace"];
    let send = here.start(arguments.into_iter().chain(UDP));
    relay.await_from_clients(100);
    relay.block();
    send.end().with(11);

    let lines = trace(&here, "trace", "sender");
    assert!(of_event(&lines, "sent").count() >= 100);
    assert!(of_event(&lines, "timeout").count() > 0);
}

#[test]
fn a_trace_that_cannot_be_written_is_told_before_anything_is_sent() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(9, 1000));
    let serve = there.listen(["serve", "."]);

    let failed = here.start(["send", "file", &serve.ticket, "--trace", "no/such/trace"]).end().with(9);
    let useless =
        here.start(["send", "file", &serve.ticket, "--trace", "t", "--transport", "tcp"]).end().with(2);

    assert!(failed.stderr.contains("no/such/trace: cannot write the trace"), "{}", failed.stderr);
    assert!(useless.stderr.contains("--trace"), "{}", useless.stderr);
    assert!(!here.path("t").exists());
    assert!(!there.path("file").exists());
}

#[test]
fn pipes_go_over_udp_too() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(6, 5_000_000);
    let serve = there.listen(["serve", "."]);

    let mut send = here.command(haul());
    send.args(["send", "-", "--name", "piped", &serve.ticket]).args(UDP);
    run(&mut send, &content).with(0);
    let got = here.start(["get", &serve.at("piped"), "-o", "-"].into_iter().chain(UDP)).end().with(0).stdout;

    assert!(got == content);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is late is late by the clock")]
fn what_goes_to_a_pipe_is_in_order_also_when_datagrams_are_lost_and_swapped() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(8, 24_000_000);
    there.write("file", &content);
    let serve = there.listen(["serve", "."]);
    // What the client answers is late, so that chunks are under way while what is lost of one is sent again.
    let mut late = VecDeque::new();
    let mut swapped: Option<Vec<u8>> = None;
    let relay = Relay::start(
        serve.address(),
        Box::new(move |is_of_client, count, datagram| {
            if is_of_client {
                late.push_back((Instant::now(), datagram.to_vec()));
                let due = late.iter().take_while(|(since, _)| since.elapsed() > LATE).count();
                return late.drain(..due).map(|(_, datagram)| datagram).collect();
            }
            match count % 500 {
                3 => Vec::new(),
                40 => swapped.replace(datagram.to_vec()).into_iter().collect(),
                _ => vec![datagram.to_vec()],
            }
        }),
    );
    let ticket = serve.over_at(relay.proxy.address, "file");

    let got = here.start(["get", &ticket, "-o", "-"].into_iter().chain(UDP)).end().with(0);

    assert!(got.stdout == content);
}

#[test]
fn without_encryption_a_checksum_finds_what_was_damaged() {
    let (here, there) = (Place::new(), Place::new());
    let content = noise(7, 1_000_000);
    here.write("file", &content);
    let serve = there.listen(["serve", ".", "--plain"]);
    let relay = Relay::start(
        serve.address(),
        Box::new(|_, count, datagram| {
            vec![if count % 7 == 5 { damaged(datagram) } else { datagram.to_vec() }]
        }),
    );
    let address = relay.proxy.address;
    let ticket = serve.over(address);

    let sent = here.start(["send", "file", &ticket, "--plain", "--json"].into_iter().chain(UDP)).end();

    assert_eq!(sent.with(0).json()["encrypted"], json!(false));
    assert!(fs::read(there.path("file")).unwrap() == content);
}

fn damaged(datagram: &[u8]) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    let middle = datagram.len() / 2;
    datagram[middle] ^= 4;
    datagram
}

/// The lines of a trace, each an object of this end.
fn trace(place: &Place, name: &str, end: &str) -> Vec<Value> {
    let text = fs::read_to_string(place.path(name)).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|line| line["end"] == json!(end)));
    assert!(lines.iter().all(|line| line["us"].is_u64()));
    lines
}

fn of_event<'a>(lines: &'a [Value], event: &'a str) -> impl Iterator<Item = &'a Value> {
    lines.iter().filter(move |line| line["event"] == json!(event))
}

/// What somebody without keys makes of a datagram that was seen, who knows its flow and its number: nothing, its header
/// alone, its header with other bytes, bytes of no sense, and a packet of a flow that there is not.
fn forgeries(count: u64, datagram: &[u8]) -> Vec<Vec<u8>> {
    let other = noise(count, 1472);
    let header = datagram.len().min(HEADER_BYTES);
    let changed: Vec<u8> = datagram[..header].iter().chain(&other[header..]).copied().collect();
    let mut elsewhere = datagram.to_vec();
    elsewhere.iter_mut().skip(1).take(4).zip(&other).for_each(|(byte, other)| *byte ^= other | 1);
    vec![Vec::new(), datagram[..header].to_vec(), changed, other, elsewhere]
}
