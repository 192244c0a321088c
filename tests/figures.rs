//! What a result says of the sockets that carried it, and the options that choose how they behave.

mod common;

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use common::process::Process;
use common::proxy::{Cut, Manner, Proxy};
use common::tree::noise;
use common::{Place, haul};
use rustix::process::Signal;
use serde_json::Value;

#[cfg(target_os = "linux")]
#[test]
fn a_congestion_control_that_the_kernel_does_not_have_is_a_usage_error() {
    let here = Place::new();
    here.write("file", "content");
    let with = |arguments: &[&str]| {
        let ended = here.haul(arguments.iter().chain(&["--tcp-congestion", "pigeon"])).with(2);
        assert!(ended.stderr.contains("--tcp-congestion pigeon: "), "{ended}");
        assert!(ended.stderr.contains("/proc/sys/net/ipv4/tcp_available_congestion_control"), "{ended}");
    };

    with(&["send", "file", "localhost:in"]);
    with(&["get", "localhost:file"]);
    with(&["recv"]);
    with(&["offer", "file"]);
    with(&["serve", "."]);
}

#[cfg(target_os = "linux")]
#[test]
fn each_end_tells_what_its_kernel_counted_with_its_own_congestion_control() {
    const BYTES: usize = 3_000_000;
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(1, BYTES));
    let system = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap();
    for is_plain in [false, true] {
        let plain: &[&str] = if is_plain { &["--plain"] } else { &[] };
        let recv = there.listen([&["recv", ".", "--json", "--overwrite", "always"], plain].concat());

        let send = ["send", "file", &recv.ticket, "--json", "--transport", "tcp", "--overwrite", "always"];
        let sent =
            here.start([&send[..], &["--tcp-congestion", "reno"], plain].concat()).end().with(0).json();
        let received = recv.end().with(0).json();

        let (tcp, tcp_there) = (&sent["tcp"], &received["tcp"]);
        assert_eq!(tcp["congestion"], "reno", "{sent}");
        assert_eq!(tcp_there["congestion"], system.trim(), "{received}");
        assert!(number(tcp, "bytes_sent") - number(tcp, "retransmitted_bytes") > BYTES as u64, "{sent}");
        assert!(number(tcp_there, "bytes_sent") < BYTES as u64, "{received}");
        assert!(number(tcp, "segments_out") > number(tcp, "retransmitted_segments"), "{sent}");
        assert!(tcp["min_rtt_s"].as_f64() > Some(0.0) && tcp["rtt_s"].as_f64() > Some(0.0), "{sent}");
        // The kernel counts these in clock ticks, so that a short transfer over a fast machine may show none.
        for field in ["rwnd_limited_s", "sndbuf_limited_s"] {
            assert!(
                tcp[field].as_f64().is_some_and(|limited| Some(limited) <= tcp["busy_s"].as_f64()),
                "{sent}"
            );
        }
        for field in ["dsack_dups", "out_of_order_in", "timeouts", "recoveries"] {
            assert!(tcp[field].is_u64() || tcp[field].is_null(), "{sent}");
        }
        assert_eq!(
            (sent["bytes_moved"].as_u64(), received["bytes_moved"].as_u64()),
            (Some(BYTES as u64), Some(BYTES as u64))
        );
    }
}

/// Of a stream's reads, the receiver says how many ended inside a frame; a chunk is larger than a read, so that at
/// least one does.
#[cfg(target_os = "linux")]
#[test]
fn a_receiver_tells_how_the_stream_cut_its_frames() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(2, 4_000_000));
    for plain in [&["--transport", "tcp"][..], &["--transport", "tcp", "--plain"]] {
        let serve = there.listen(["serve", ".", "--plain", "--overwrite", "always"]);
        there.write("file", noise(3, 4_000_000));
        let get = ["get", &serve.at("file"), "-o", "got", "--json", "--overwrite", "always"];
        let got = here.start([&get[..], plain].concat());
        let got = got.end().with(0).json();
        let sent = here
            .start([&["send", "file", &serve.ticket, "--json", "--overwrite", "always"][..], plain].concat())
            .end()
            .with(0)
            .json();

        let (reads, inside) = (number(&got["tcp"], "reads"), number(&got["tcp"], "reads_inside_frame"));
        assert!(0 < inside && inside <= reads, "{got}");
        assert!(sent["tcp"].get("reads").is_none(), "content does not come to a sender: {sent}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_was_lost_still_counts() {
    const BYTES: usize = 30_000_000;
    let (here, there) = (Place::in_memory(), Place::in_memory());
    here.write("file", noise(4, BYTES));
    let recv = there.listen(["recv", ".", "--json"]);
    let cut = Some(Cut::Further(2_000_000));
    let proxy = Proxy::start(recv.address(), Manner { cut, ..Manner::default() });

    let ticket = recv.over(proxy.address);
    let send =
        ["send", "file", &ticket, "--json", "--streams", "4", "--transport", "tcp", "--rate", "160mbit"];
    let sent = here.start(send).end().with(0).json();
    let received = recv.end().with(0).json();

    assert!(proxy.was_cut(), "{} connections, {sent}", proxy.accepted());
    assert!(number(&sent["tcp"], "bytes_sent") > BYTES as u64, "{sent}");
    assert!(number(&sent["tcp"], "connections") > 1, "{sent}");
    assert!(number(&received["tcp"], "reads") > 0, "{received}");
}

/// Standard input stays open, so that no transfer is over before the signal; and a sender takes no more of it than this
/// unless the receiver has placed some.
#[test]
fn an_interrupted_transfer_says_in_its_json_how_far_it_came() {
    const BYTES: usize = 110_000_000;
    let content = noise(5, BYTES);
    for (is_sender, transport) in [(true, "tcp"), (false, "tcp"), (true, "udp"), (false, "udp")] {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        let recv = there.listen(["recv", ".", "--json"]);
        let mut command = here.command(haul());
        command.args(["send", "-", "--name", "file", &recv.ticket, "--json", "--transport", transport]);
        let mut send = Process::start(command.stdin(Stdio::piped()));
        let mut stdin = send.stdin();
        stdin.write_all(&content).unwrap();

        let ended = if is_sender {
            send.signal(Signal::INT);
            send.end().with(130)
        } else {
            recv.process.signal(Signal::INT);
            recv.end().with(130)
        };

        let json = ended.json();
        assert_eq!((&json["cause"], &json["exit_code"]), (&Value::from("interrupted"), &Value::from(130)));
        assert!(json["elapsed_s"].as_f64() > Some(0.0), "{ended}");
        let moved = number(&json, "bytes_moved");
        assert!(0 < moved && moved <= BYTES as u64, "{ended}");
        assert_eq!(number(&json, "bytes"), 0, "{ended}");
    }
}

#[test]
fn a_signal_before_a_client_yields_json_too() {
    let there = Place::new();
    for command in [&["recv", "."][..], &["offer", "."]] {
        let waiting = there.listen([command, &["--json"]].concat());
        waiting.process.signal(Signal::INT);
        let ended = waiting.end().with(130);

        let json = ended.json();
        assert_eq!((&json["cause"], number(&json, "bytes_moved")), (&Value::from("interrupted"), 0));
        assert!(json["elapsed_s"].as_f64() >= Some(0.0), "{ended}");
    }
}

#[test]
fn a_receiver_over_udp_counts_what_the_path_did_to_its_packets() {
    let (here, there) = (Place::new(), Place::new());
    here.write("file", noise(6, 2_000_000));
    for transport in [&["--transport", "udp"][..], &["--transport", "udp-raw", "--rate", "200mbit"]] {
        let recv = there.listen(["recv", ".", "--json", "--overwrite", "always"]);

        let send =
            [&["send", "file", &recv.ticket, "--json", "--overwrite", "always"][..], transport].concat();
        let sent = here.start(send).end();
        let received = recv.end().json();

        let flow = &received["flow"];
        // Of at most 9000 bytes each; over a raw flow, some may be lost.
        assert!(number(flow, "received") > 100, "{received}");
        assert_eq!(number(flow, "damaged"), 0, "{received}");
        for field in ["out_of_order", "duplicates", "recv_buffer_bytes"] {
            assert!(flow[field].is_u64(), "{received}");
        }
        assert!(flow["dropped_by_socket"].is_u64() || cfg!(not(target_os = "linux")), "{received}");
        if sent.code == 0 {
            assert_eq!(received["bytes_moved"], 2_000_000, "{received}");
        }
    }
}

#[track_caller]
fn number(json: &Value, field: &str) -> u64 {
    json[field].as_u64().unwrap_or_else(|| panic!("no number {field}: {json}"))
}
