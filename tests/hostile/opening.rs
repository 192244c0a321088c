//! Who is there: wrong, cut and foreign tickets; listeners that are not haul, silent, newer or without encryption.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use haul::run::clock;
use haul::security::{Identity, Ticket, Token};
use haul::session::{ClientOpening, Credential};
use haul::wire::hello::Hello;
use haul::wire::message::Code;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};

use crate::peer::{Guest, Impostor, drive, open_of, push, redirect};
use crate::world::{Listening, World, exit, timed};

#[test]
fn a_wrong_secret_is_refused_and_the_server_goes_on() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &["-v"]);
    let mut wrong = Ticket::parse(&server.ticket).unwrap();
    wrong.token = Token::from_bytes([7; 16]);

    let refused = world.run("client", ["send", "a", &wrong.to_line()]);

    refused.fails(exit::NOT_ALLOWED, &[server.address(), "not allowed", "ticket is wrong"]).in_one_line();
    server.process.says("not allowed");
    assert!(world.names("root").is_empty());
    is_serving(&world, &server);
}

#[test]
fn a_cut_or_mistyped_ticket_is_told_from_a_wrong_one() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &[]);
    let ticket = &server.ticket;
    let cut = &ticket[..ticket.len() - 5];
    let at = ticket.len() - 20;
    let other = if &ticket[at..=at] == "A" { "B" } else { "A" };
    let mistyped = format!("{}{other}{}", &ticket[..at], &ticket[at + 1..]);

    for bad in [cut, &mistyped] {
        let ended = world.run("client", ["send", "a", bad]);
        ended.fails(exit::USAGE, &["the ticket was cut or mistyped"]).in_one_line();
        assert!(!ended.stderr.contains(bad.split_once('#').unwrap().1), "an error repeats no secret");
    }
    let bare = world.run("client", ["send", "a", ticket.split_once('#').unwrap().0]);
    bare.fails(exit::NOT_ALLOWED, &[server.address(), "its key is not known"]).in_one_line();
    is_serving(&world, &server);
}

#[test]
fn nobody_listening_is_said_with_the_address() {
    let world = World::new();
    world.write("a", "1");
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ticket = redirect(&Impostor::new().ticket(""), &gone);

    let send = world.run("client", ["send", "a", &ticket]);
    let get = world.run("client", ["get", &ticket, "-o", "new/"]);

    send.fails(exit::CONNECT, &[&gone, "nobody listens there"]).in_one_line();
    get.fails(exit::CONNECT, &[&gone, "nobody listens there"]).in_one_line();
}

#[test]
fn an_http_server_is_not_haul() {
    let world = World::new();
    world.write("a", "1");
    let ticket = answering(|mut tcp| {
        let _ = tcp.read(&mut [0; 4096]);
        let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    });

    for options in [&[][..], &["--plain"]] {
        let ended = world.run("client", [&["send", "a", &ticket], options].concat());
        ended.fails(exit::PEER, &["127.0.0.1:", "is not haul"]).in_one_line();
    }
}

#[test]
fn a_silent_port_and_a_slow_speaker_are_given_up_after_the_connect_timeout() {
    let world = World::new();
    world.write("a", "1");
    // Both at once: they cost ten seconds.
    let silent = answering(|mut tcp| drop(tcp.read_to_end(&mut Vec::new())));
    let drip = answering(|mut tcp| {
        // A TLS record that never ends.
        let _ = tcp.write_all(&[0x16, 3, 3, 0x40, 0]);
        tcp.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        while tcp.write_all(&[2]).is_ok() {
            let mut bytes = [0; 4096];
            if let Ok(0) = tcp.read(&mut bytes) {
                return;
            }
        }
    });

    let start = clock::now();
    let waiting = [&silent, &drip].map(|ticket| world.start("client", ["send", "a", ticket]));

    for process in waiting {
        let ended = process.wait();
        ended.fails(exit::TIMED_OUT, &["127.0.0.1:", "said no hello within 10 s"]).in_one_line();
    }
    assert!(clock::now().duration_since(start) < Duration::from_secs(20));
}

#[test]
fn a_listener_that_closes_at_once_is_not_haul() {
    let world = World::new();
    world.write("a", "1");
    let ticket = answering(drop);

    for options in [&[][..], &["--plain"]] {
        let ended = world.run("client", [&["send", "a", &ticket], options].concat());
        ended.fails(exit::PEER, &["127.0.0.1:", "is not haul"]).in_one_line();
    }
}

#[test]
fn a_newer_server_is_named_with_both_versions() {
    // protocol.md [HELLO-5]
    for impostor in [Impostor::new(), Impostor::plain()] {
        let world = World::new();
        world.write("a", "1");
        let is_plain = impostor.is_plain();
        let impostor = impostor.with_versions(2, 3);
        let ticket = impostor.ticket("");
        let options: &[&str] = if is_plain { &["--plain"] } else { &[] };

        let client = world.start("client", [&["send", "a", &ticket], options].concat());
        let at_server = impostor.accept_auth().map(drop);

        assert!(at_server.is_err());
        client.wait().fails(exit::PEER, &["127.0.0.1:", "protocol 2 to 3", "1 to 1", "update"]).in_one_line();
    }
}

#[test]
fn a_newer_client_is_told_the_versions_and_the_server_goes_on() {
    // protocol.md [HELLO-5]
    let world = World::new();
    let server = world.serve("root", &["-v", "--plain"]);
    for guest in [Guest::new(), Guest::plain()] {
        let mut wire = guest.dial(server.address());
        let hello = Hello { version_min: 2, version_max: 3, ..Hello::ours(clock::random(), None) };
        let mut opening = ClientOpening::new(Credential::Open, hello, Some(open_of(push()).into()));

        let error = drive(&mut wire, |now, link| opening.advance(now, link)).unwrap_err();

        assert!(error.unwrap().to_string().contains("protocol 1 to 1"), "its hello came");
        let close = wire.close_of_peer().unwrap();
        assert_eq!(close.code, Code::Incompatible);
        assert!(close.text.contains("2 to 3"), "{close:?}");
    }
    server.process.says("protocol 2 to 3");
    is_serving(&world, &server);
}

#[test]
fn a_tls_server_of_another_protocol_generation_is_incompatible() {
    // protocol.md [TLS-2]
    let world = World::new();
    world.write("a", "1");
    for protocols in [vec![b"haul/2".to_vec()], vec![b"h2".to_vec()], Vec::new()] {
        let identity = Identity::generate().unwrap();
        let config = tls_config(&identity, &identity, protocols);
        let ticket = tls_server(&identity, config);

        let ended = world.run("client", ["send", "a", &ticket]);

        ended.fails(exit::PEER, &["127.0.0.1:", "TLS", "not this version of haul"]).in_one_line();
    }
}

#[test]
fn another_key_than_the_tickets_is_refused_before_anything_is_said() {
    // protocol.md [TLS-3]
    let world = World::new();
    world.write("a", "1");
    let impostor = Impostor::new();
    let ticket = impostor.ticket_with_key("", Identity::generate().unwrap().key_hash());

    let client = world.start("client", ["send", "a", &ticket]);
    let seen = impostor.accept_auth().map(drop);

    assert!(seen.is_err(), "no hello and no proof for a stranger");
    client.wait().fails(exit::NOT_ALLOWED, &["127.0.0.1:", "another key than expected"]).in_one_line();
}

#[test]
fn the_right_certificate_with_another_key_is_refused() {
    // protocol.md [TLS-3]
    let world = World::new();
    world.write("a", "1");
    let (real, thief) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let config = tls_config(&real, &thief, vec![b"haul/1".to_vec()]);
    let ticket = tls_server(&real, config);

    let ended = world.run("client", ["send", "a", &ticket]);

    ended.fails(exit::NOT_ALLOWED, &["127.0.0.1:", "does not hold it", "in the middle"]).in_one_line();
}

#[test]
fn a_plain_client_is_refused_by_a_server_that_encrypts() {
    // protocol.md [PLAIN-1]
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &[]);

    let ended = world.run("client", ["send", "--plain", "a", &server.ticket]);

    ended.fails(exit::NOT_ALLOWED, &[server.address(), "only speaks encrypted", "--plain"]).in_one_line();
    assert!(world.names("root").is_empty());
    is_serving(&world, &server);
}

#[test]
fn a_man_who_answers_plain_gets_nothing_from_a_client_that_encrypts() {
    // protocol.md [PLAIN-2]
    let world = World::new();
    world.write("a", "1");
    let impostor = Impostor::new();
    let ticket = impostor.ticket("");

    let client = world.start("client", ["send", "a", &ticket]);
    let mut tcp = impostor.accept_tcp();
    let mut first = [0; 4096];
    let read = tcp.read(&mut first).unwrap();
    tcp.write_all(&Hello::ours([1; 32], None).encode()).unwrap();
    let mut rest = Vec::new();
    let _ = tcp.read_to_end(&mut rest);

    assert_eq!(first[0], 0x16, "TLS and nothing else");
    let said = [&first[..read], &rest].concat();
    assert!(!said.windows(4).any(|four| four == b"HAUL"), "it does not fall back");
    client.wait().fails(exit::PEER, &["127.0.0.1:", "is not haul", "--plain"]).in_one_line();
}

#[test]
fn plain_on_both_sides_works_and_says_what_it_lacks() {
    let world = World::new();
    world.write("a", "some bytes");
    let server = world.recv("in", &["--plain", "--json"]);

    let send = world.run("client", ["send", "--plain", "a", "@ticket", "--json"]);
    let recv = server.wait();

    for ended in [&send, &recv] {
        assert!(ended.is_done().stderr.contains("checksum only, not authenticated"), "{ended:?}");
        assert!(ended.stdout.contains(r#""encrypted":false"#), "{ended:?}");
    }
    assert!(recv.stderr.contains("haul: plain: connections without encryption are taken"), "{recv:?}");
    assert_eq!(world.read("in/a"), b"some bytes");
}

#[test]
fn an_encrypting_client_is_welcome_at_a_server_that_takes_plain_too() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &["--plain"]);

    let ended = world.run("client", ["send", "a", &server.ticket]);

    assert!(!ended.is_done().stderr.contains("not authenticated"), "{ended:?}");
}

#[test]
fn a_dead_address_in_a_ticket_does_not_hold_up_the_others() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &[]);
    let mut ticket = Ticket::parse(&server.ticket).unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    // Connects, and never says a word: that is waited for, also where the other kinds of dead fail at once.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    // Documentation address: nothing answers there.
    for dead in [&gone, "192.0.2.1:7420", &silent_at] {
        ticket.addresses.insert(0, haul::security::HostPort::parse(dead).unwrap());
    }

    let (ended, took) = timed(|| world.run("client", ["send", "a", &ticket.to_line()]));

    ended.is_done();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Fails unless an honest client gets through.
#[track_caller]
pub fn is_serving(world: &World, server: &Listening) {
    let ended = world.run("honest", ["ls", &server.ticket]);
    assert_eq!(ended.code, exit::DONE, "{ended:?}");
}

/// A ticket that leads to a listener which treats every connection like this.
fn answering(answer: impl Fn(TcpStream) + Clone + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || answer(tcp));
        }
    });
    redirect(&Impostor::new().ticket(""), &address)
}

/// A TLS server that shows the certificate of one and signs with the key of another.
fn tls_config(certificate: &Identity, key: &Identity, protocols: Vec<Vec<u8>>) -> ServerConfig {
    let chain = CertificateDer::from_pem_slice(certificate.to_pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from_pem_slice(key.to_pem().as_bytes()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signer = provider.key_provider.load_private_key(key).unwrap();
    let certified = rustls::sign::CertifiedKey::new(vec![chain], signer);
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = protocols;
    config
}

/// A ticket that pins the key of `identity` and leads to a server with this configuration.
fn tls_server(identity: &Identity, config: ServerConfig) -> String {
    let config = Arc::new(config);
    let ticket = answering(move |mut tcp| {
        let mut connection = ServerConnection::new(config.clone()).unwrap();
        while connection.complete_io(&mut tcp).is_ok_and(|(read, written)| read + written > 0) {}
        let _ = tcp.read_to_end(&mut Vec::new());
    });
    let mut ticket = Ticket::parse(&ticket).unwrap();
    ticket.key = identity.key_hash();
    ticket.to_line()
}
