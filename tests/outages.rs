//! Networks that fail in the middle of a transfer, as real runs: what goes on by itself, what ends in words, and that no byte
//! is wrong.
//!
//! | fault | test |
//! |---|---|
//! | blackout | `a_blackout_within_the_idle_time_costs_no_session`, `a_blackout_beyond_the_idle_time_is_outlived`; 60 s: campaign `outages` |
//! | nothing passes one way | `a_link_that_is_dark_one_way_is_outlived`; 20 s: campaign |
//! | half-open: a peer that is silent and not gone | `a_peer_that_falls_asleep_and_wakes_is_gone_on_with`, `a_connection_on_which_nothing_passes_is_made_again`; `hostile`: `a_peer_that_sleeps_is_given_up_after_the_timeout` |
//! | reset | `a_reset_connection_is_made_again`; `resume`: `a_connection_that_is_cut_…`; of one of several: `streams` |
//! | the client's address changes | `a_client_that_gets_another_address_goes_on`; its port: `flows`: `a_nat_that_forgets_…` |
//! | the MTU drops to 1280 | `a_path_that_ceases_to_carry_large_packets_costs_udp_no_byte`; TCP, from the start and later: `a_path_that_swallows_large_packets_stalls_tcp_once` |
//! | a middlebox that damages | `what_is_damaged_on_its_way_over_tcp_…`; UDP: `flows` |
//! | … that repeats and replays | `datagrams_that_come_again_much_later_cost_no_byte`; `flows`: `a_path_that_loses_…`; TCP: `hostile`: `a_recorded_session_…` |
//! | UDP is blocked in mid-transfer | `auto_goes_on_over_tcp_when_udp_is_blocked`, `who_is_told_that_udp_is_blocked_goes_on_over_tcp`; 10 s in: campaign |
//! | the control connection is cut, UDP flows | `flows`: `a_transfer_over_udp_outlives_its_control_connection` and the two behind it |
//! | the last word is lost | `a_transfer_that_is_cut_at_its_last_words_is_done_once`; `hostile`: `a_sender_whose_confirmation_…` |
//! | the wall clock jumps | `resume`: `a_wall_clock_that_jumps_…`; while a session runs, nothing asks it: `.clippy.toml` |

mod common;

use std::collections::VecDeque;
use std::fs;
use std::net::UdpSocket;

use common::process::{Process, Server};
use common::proxy::{Cut, Damage, Manner, Proxy};
use common::relay::Relay;
use common::tree::{names, noise};
use common::{Ended, Place, skip, until};
use rustix::process::Signal;

#[cfg(target_os = "linux")]
mod links {
    use std::process::{Command, Stdio};

    use super::common::can_have_hosts;
    use super::common::hosts::{Crossed, Crossing, UDP_BLOCKED};
    use super::*;

    /// Both ends give a silent peer up so soon; the client tries to come back.
    const IMPATIENT: Crossing<'_> = Crossing {
        there: "rtt=20ms,rate=8mbit",
        back: "rtt=20ms,rate=8mbit",
        transport: "auto",
        way: "send",
        is_piped: false,
        options: "--timeout 3s --retry-for 40s",
        of_server: "--timeout 3s",
        bytes: 6_000_000,
        meanwhile: ":",
    };

    #[test]
    fn a_blackout_beyond_the_idle_time_is_outlived() {
        let dark = "rtt=20ms,rate=8mbit,blackout=3s+6s";
        for (crossing, crossed) in
            at_once(&Crossing::each_way(Crossing { there: dark, back: dark, ..IMPATIENT }))
        {
            assert!(crossed.dropped("dropped_blackout") > 0, "{crossing:?}");
            crossed.goes_well();
        }
    }

    #[test]
    fn a_blackout_within_the_idle_time_costs_no_session() {
        // protocol.md [REJOIN-3]: the path is silent, and not TCP alone.
        let dark = |dark, transport, is_piped| Crossing {
            there: dark,
            back: dark,
            transport,
            is_piped,
            bytes: 6_000_000,
            ..Crossing::default()
        };
        let (four, eight) = ("rtt=20ms,rate=8mbit,blackout=4s+4s", "rtt=20ms,rate=8mbit,blackout=4s+8s");
        let crossings = [
            dark(four, "auto", true),
            dark(four, "udp", true),
            dark(four, "auto", false),
            dark(eight, "udp", true),
        ];
        for (crossing, crossed) in at_once(&crossings) {
            assert!(crossed.dropped("dropped_blackout") > 0, "{crossing:?}");
            let crossed = crossed.goes_well();
            assert_eq!(crossed.report["sessions"], 1, "{crossing:?}: {crossed}");
        }
    }

    #[test]
    fn a_link_that_is_dark_one_way_is_outlived() {
        let dark = "rtt=20ms,rate=8mbit,blackout=3s+6s";
        let mut crossings = Crossing::each_way(Crossing { there: dark, ..IMPATIENT });
        crossings.extend(Crossing::each_way(Crossing { back: dark, ..IMPATIENT }));
        crossings.retain(|crossing| crossing.transport != "auto");
        for (crossing, crossed) in at_once(&crossings) {
            assert!(crossed.dropped("dropped_blackout") > 0, "{crossing:?}");
            crossed.goes_well();
        }
    }

    #[test]
    fn a_client_that_gets_another_address_goes_on() {
        // protocol.md [PATH-2], [REJOIN-3]
        let meanwhile = format!(
            "{TWO_MEGABYTES_ON}; ip addr del 10.77.0.1/24 dev haul0; ip addr add 10.77.0.5/24 dev haul0"
        );
        let like = Crossing { meanwhile: &meanwhile, ..IMPATIENT };
        if !has_ip() {
            return;
        }
        for (crossing, crossed) in at_once(&Crossing::each_way(like)) {
            let flows = crossed.link["there"]["flows"].as_array().cloned().unwrap_or_default();
            assert!(flows.iter().any(|flow| flow["source"] == "10.77.0.5"), "{crossing:?}");
            let crossed = crossed.goes_well();
            if crossing.transport == "udp" {
                assert_eq!(crossed.report["sessions"], 1, "{crossing:?}: {crossed}");
                assert_eq!(crossed.report["transport"], "udp", "{crossing:?}: {crossed}");
            }
        }
    }

    #[test]
    fn a_path_that_swallows_large_packets_stalls_tcp_once() {
        // The hosts take each other for neighbours at 1500 bytes, and nobody tells them otherwise.
        let crossings =
            ["rtt=20ms,rate=8mbit,mtu=1280", "rtt=20ms,rate=8mbit,mtustep=3s:1280"].map(|narrow| {
                let like = Crossing { there: narrow, back: narrow, transport: "tcp", ..IMPATIENT };
                ["send", "get"].map(|way| Crossing { way, ..like })
            });
        for (crossing, crossed) in at_once(crossings.as_flattened()) {
            assert!(crossed.dropped("dropped_mtu") > 0, "{crossing:?}");
            let crossed = crossed.goes_well();
            assert_eq!(crossed.report["sessions"], 2, "{crossing:?}: {crossed}");
        }
    }

    #[test]
    fn auto_goes_on_over_tcp_when_udp_is_blocked() {
        if !has_ip() {
            return;
        }
        // So short a queue makes TCP lose much, and content moves to UDP.
        let lossy = "rtt=40ms,rate=8mbit,queue=16kB";
        let meanwhile = format!("{CONTENT_OVER_UDP}; {UDP_BLOCKED}");
        let like =
            Crossing { there: lossy, back: lossy, bytes: 12_000_000, meanwhile: &meanwhile, ..IMPATIENT };
        let crossings = ["send", "get"].map(|way| Crossing { way, ..like });
        for (crossing, crossed) in at_once(&crossings) {
            let crossed = crossed.goes_well();
            assert_eq!(crossed.report["transport"], "tcp+udp", "{crossing:?}: {crossed}");
            assert_eq!(crossed.report["sessions"], 1, "{crossing:?}: {crossed}");
        }
    }

    /// Runs all at once; nothing where there are no hosts, which is said.
    fn at_once<'a>(crossings: &[Crossing<'a>]) -> Vec<(Crossing<'a>, Crossed)> {
        if !can_have_hosts() {
            return Vec::new();
        }
        std::thread::scope(|scope| {
            let running: Vec<_> = crossings.iter().map(|crossing| scope.spawn(|| crossing.run())).collect();
            let crossed = running.into_iter().map(|it| it.join().expect("it ran"));
            crossings.iter().copied().zip(crossed).collect()
        })
    }

    fn has_ip() -> bool {
        let probe = Command::new("ip").arg("-V").stdout(Stdio::null()).status();
        let has_ip = probe.is_ok_and(|status| status.success());
        if !has_ip {
            skip("ip is not installed");
        }
        has_ip
    }

    /// Waits until there are so many datagrams that whole pieces of content have come in them.
    const CONTENT_OVER_UDP: &str =
        "while [ $(awk '/^Udp: [0-9]/ { print $2 + $5 }' /proc/net/snmp) -lt 4000 ]; do sleep 0.1; done";
    /// Waits until so much has passed in both directions.
    const TWO_MEGABYTES_ON: &str =
        "while [ $(awk '/haul0/ { print $2 + $10 }' /proc/net/dev) -lt 2000000 ]; do sleep 0.1; done";
}

#[test]
fn a_reset_connection_is_made_again() {
    for (way, transport) in [("send", "tcp"), ("get", "tcp"), ("send", "auto"), ("get", "auto")] {
        let pair = Pair::new(way, 6_000_000, &["--rate", "40mbit"]);
        let cut = Some(Cut::First(3_000_000));
        let proxy = Proxy::start(pair.serve.address(), Manner { cut, ..Manner::default() });

        let ended = pair.client_over(&proxy, &["--transport", transport, "--streams", "1"]).end().with(0);

        assert!(proxy.was_cut());
        assert_eq!(ended.json()["sessions"], 2, "{way} {transport}: {ended}");
        pair.is_same();
    }
}

#[test]
fn a_connection_on_which_nothing_passes_is_made_again() {
    for way in ["send", "get"] {
        let pair = Pair::new(way, 6_000_000, &["--rate", "16mbit"]);
        let proxy = Proxy::start(pair.serve.address(), Manner::default());

        let options = ["--transport", "tcp", "--timeout", "3s", "--streams", "1"];
        let client = pair.client_over(&proxy, &options);
        pair.has_begun();
        proxy.mute();
        let ended = client.end().with(0);

        assert!(ended.stderr.contains("nothing was heard from it for 3 s"), "{ended}");
        assert_eq!(ended.json()["sessions"], 2, "{way}: {ended}");
        pair.is_same();
    }
}

#[test]
fn a_peer_that_falls_asleep_and_wakes_is_gone_on_with() {
    // Beyond the idle time of both: each has given the other up.
    for (way, transport) in [("send", "tcp"), ("get", "tcp"), ("send", "udp"), ("get", "udp")] {
        let pair = Pair::new(way, 6_000_000, &["--rate", "16mbit", "--timeout", "3s"]);

        let mut client = pair.client(&pair.serve.at("file"), &["--transport", transport, "--timeout", "3s"]);
        pair.has_begun();
        pair.serve.process.signal(Signal::STOP);
        client.line_with("trying to go on");
        pair.serve.process.signal(Signal::CONT);
        let ended = client.end().with(0);

        assert!(ended.json()["sessions"].as_u64() > Some(1), "{way} {transport}: {ended}");
        pair.is_same();
    }
}

#[test]
fn what_is_damaged_on_its_way_over_tcp_is_sent_again() {
    for way in ["send", "get"] {
        for plain in [&[][..], &["--plain"]] {
            let pair = Pair::new(way, 6_000_000, &[&["--rate", "80mbit"], plain].concat());
            let damage = Some(Damage { is_from_client: way == "send", behind: 3_000_000 });
            let proxy = Proxy::start(pair.serve.address(), Manner { damage, ..Manner::default() });

            let options = [&["--transport", "tcp", "--streams", "1"], plain].concat();
            let ended = pair.client_over(&proxy, &options).end().with(0);

            assert_eq!(ended.json()["sessions"], 2, "{way} {plain:?}: {ended}");
            pair.is_same();
        }
    }
}

#[test]
fn a_path_that_ceases_to_carry_large_packets_costs_udp_no_byte() {
    // protocol.md [MTU-2]
    const MOST_BYTES: usize = 1280 - 28;
    for way in ["send", "get"] {
        let pair = Pair::new(way, 6_000_000, &["--rate", "40mbit"]);
        let relay = Relay::start(
            pair.serve.address(),
            Box::new(move |_, count, datagram| {
                let is_carried = count < 200 || datagram.len() <= MOST_BYTES;
                is_carried.then(|| datagram.to_vec()).into_iter().collect()
            }),
        );

        let ended = pair.client_over(&relay.proxy, &["--transport", "udp"]).end().with(0);

        assert_eq!(ended.json()["sessions"], 1, "{way}: {ended}");
        pair.is_same();
    }
}

#[test]
fn datagrams_that_come_again_much_later_cost_no_byte() {
    for way in ["send", "get"] {
        let pair = Pair::new(way, 6_000_000, &["--rate", "80mbit"]);
        let server = pair.serve.address();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut seen = [VecDeque::new(), VecDeque::new()];
        let relay = Relay::start(
            server,
            Box::new(move |is_from_client, count, datagram| {
                let seen = &mut seen[usize::from(is_from_client)];
                seen.push_back(datagram.to_vec());
                let mut out = vec![datagram.to_vec()];
                if seen.len() > 300 {
                    let old = seen.pop_front().expect("there are some");
                    if is_from_client && count % 3 == 0 {
                        // A full buffer is no matter of the test.
                        let _ = stranger.send_to(&old, server);
                    }
                    out.push(old);
                }
                out
            }),
        );

        let ended = pair.client_over(&relay.proxy, &["--transport", "udp"]).end().with(0);

        assert_eq!(ended.json()["sessions"], 1, "{way}: {ended}");
        pair.is_same();
    }
}

#[test]
fn who_is_told_that_udp_is_blocked_goes_on_over_tcp() {
    for way in ["send", "get"] {
        let pair = Pair::new(way, 6_000_000, &["--rate", "16mbit", "--timeout", "3s"]);
        let relay = Relay::transparent(pair.serve.address());

        let client = pair.client_over(&relay.proxy, &["--transport", "udp", "--timeout", "3s"]);
        pair.has_begun();
        relay.block();
        let ended = client.end().with(11);
        assert!(ended.stderr.contains("use --transport auto or tcp"), "{ended}");
        let again = pair.client_over(&relay.proxy, &["--transport", "tcp"]).end().with(0);

        assert!(again.json()["bytes_resumed"].as_u64() > Some(0), "{way}: {again}");
        pair.is_same();
    }
}

#[test]
fn a_transfer_that_is_cut_at_its_last_words_is_done_once() {
    // protocol.md [END-4]: FINISH, RECEIPT and CLOSE are in the last few hundred bytes.
    for way in ["send", "get"] {
        let carried = {
            let pair = Pair::new(way, 100_000, &[]);
            let proxy = Proxy::start(pair.serve.address(), Manner::default());
            pair.client_over(&proxy, &["--transport", "tcp", "--streams", "1"]).end().with(0);
            proxy.carried_by_first()
        };
        for before_end in (0..800).step_by(40) {
            let pair = Pair::new(way, 100_000, &[]);
            let cut = Some(Cut::First(carried - before_end));
            let proxy = Proxy::start(pair.serve.address(), Manner { cut, ..Manner::default() });

            let ended = pair.client_over(&proxy, &["--transport", "tcp", "--streams", "1"]).end();

            assert_eq!(ended.code, 0, "{way}, {before_end} bytes before the end: {ended}");
            pair.is_same();
        }
    }
}

#[test]
fn a_sender_whose_receiver_is_done_and_gone_says_what_it_knows() {
    // protocol.md [END-4]: a recv ends when it is done, and cannot be asked any more.
    let send = |before_end: Option<u64>| {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        here.write("file", noise(1, 100_000));
        let recv = there.listen(["recv", ".", "--json"]);
        let cut = before_end.map(Cut::First);
        let proxy = Proxy::start(recv.address(), Manner { cut, ..Manner::default() });
        let ticket = recv.over(proxy.address);
        let options = ["--transport", "tcp", "--streams", "1", "--retry-for", "2s"];
        let sent = here.start([&["send", "file", &ticket][..], &options].concat()).end();
        recv.end().with(0);
        assert!(fs::read(there.path("file")).unwrap() == fs::read(here.path("file")).unwrap());
        (sent, proxy.carried_by_first())
    };
    let (sent, carried) = send(None);
    sent.with(0);

    let ended: Vec<Ended> =
        (0..400).step_by(40).map(|before_end| send(Some(carried - before_end)).0).collect();

    for sent in &ended {
        let knows = sent.code == 0;
        let says = sent.code == 3 && sent.stderr.contains("all sent, confirmation missing");
        assert!(knows || says, "{sent}");
    }
}

/// A client and a server, and a file at one of them.
struct Pair {
    here: Place,
    there: Place,
    serve: Server,
    way: &'static str,
}

impl Pair {
    /// The client is to `send` or to `get`.
    fn new(way: &'static str, bytes: usize, of_server: &[&str]) -> Self {
        let (here, there) = (Place::in_memory(), Place::in_memory());
        [&here, &there][usize::from(way == "get")].write("file", noise(bytes as u64, bytes));
        fs::create_dir_all(there.path("in")).unwrap();
        let serve = there.listen([&["serve", "."], of_server].concat());
        Self { here, there, serve, way }
    }

    /// Starts the client through a proxy.
    fn client_over(&self, proxy: &Proxy, options: &[&str]) -> Process {
        self.client(&self.serve.over_at(proxy.address, "file"), options)
    }

    /// Starts the client with the ticket of the file, so slow that there are seconds to act.
    fn client(&self, of_file: &str, options: &[&str]) -> Process {
        let into = of_file.replacen("/file#", "/in#", 1);
        let command = match self.way {
            "send" => ["send", "file", &into, "--rate", "16mbit"],
            _ => ["get", of_file, "--no-sync", "--overwrite", "always"],
        };
        self.here.start([&command, options, &["--json", "--retry-for", "60s"]].concat())
    }

    /// Waits until a part of the file has come.
    fn has_begun(&self) {
        until(|| names(&self.target()).iter().any(|name| name.starts_with(".haul-")));
    }

    #[track_caller]
    fn is_same(&self) {
        let source = [&self.here, &self.there][usize::from(self.way == "get")];
        assert!(fs::read(source.path("file")).unwrap() == fs::read(self.target().join("file")).unwrap());
        assert!(!names(&self.target()).iter().any(|name| name.starts_with(".haul-")), "something is left");
    }

    fn target(&self) -> std::path::PathBuf {
        if self.way == "send" { self.there.path("in") } else { self.here.path("") }
    }
}
