//! The token of a ticket, looked for in everything that a person, a log or another program gets to see.

use std::fs;
use std::path::Path;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use haul::security::{Ticket, Token};

use crate::world::{Ended, Listening, Process, World, exit, noise};

/// Everything by which a secret could be told.
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    fn of(ticket: &str) -> Self {
        let token = *Ticket::parse(ticket).unwrap().token.expose();
        let secret = ticket.split_once('#').unwrap().1;
        let mut needles = vec![
            ("the token".into(), token.to_vec()),
            ("the secret part".into(), secret.as_bytes().to_vec()),
            // The part of it that is the token and nothing else.
            ("the token within the secret".into(), secret.as_bytes()[46..66].to_vec()),
        ];
        for (name, text) in [
            ("hex", HEXLOWER.encode(&token)),
            ("HEX", HEXUPPER.encode(&token)),
            ("base64", BASE64.encode(&token)[..20].to_owned()),
            ("base64url", BASE64URL_NOPAD.encode(&token)[..20].to_owned()),
            ("decimals", format!("{token:?}").trim_matches(['[', ']']).to_owned()),
        ] {
            needles.push((format!("the token in {name}"), text.into_bytes()));
        }
        Self(needles)
    }

    #[track_caller]
    fn are_not_in(&self, place: &str, bytes: &[u8]) {
        for (what, needle) in &self.0 {
            let is_there = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!is_there, "{what} stands in {place}: {}", String::from_utf8_lossy(bytes));
        }
    }

    /// Below a state directory, but for the two places that are there to hold secrets.
    fn are_not_below(&self, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if entry.file_name() == "tickets" || entry.file_name() == "identity.pem" {
                continue;
            }
            if path.is_dir() {
                self.are_not_below(&path);
            } else {
                self.are_not_in(&path.display().to_string(), &fs::read(&path).unwrap());
            }
        }
    }

    /// What other users of the machine may see of a running process, and what its children would get.
    fn are_not_around(&self, process: &Process) {
        for file in ["cmdline", "environ", "comm"] {
            let path = format!("/proc/{}/{file}", process.id());
            if let Ok(bytes) = fs::read(&path) {
                self.are_not_in(&path, &bytes);
            }
        }
    }

    fn are_not_in_outputs(&self, who: &str, ended: &Ended) {
        self.are_not_in(&format!("standard output of {who}"), ended.stdout.as_bytes());
        self.are_not_in(&format!("standard error of {who}"), ended.stderr.as_bytes());
    }
}

#[test]
fn the_needles_are_found_where_they_are() {
    let token = Token::from_bytes(std::array::from_fn(|at| 200 - u8::try_from(at).unwrap()));
    let mut ticket = Ticket::parse(&crate::peer::Impostor::new().ticket("")).unwrap();
    ticket.token = token;
    let line = ticket.to_line();

    for (what, needle) in Needles::of(&line).0 {
        let places =
            [line.clone(), format!("{:?}", ticket.token.expose()), "c8c7c6c5c4c3c2c1c0bfbebdbcbbbab9".into()];
        let places = places.iter().map(|text| text.to_ascii_lowercase());
        let needle = String::from_utf8_lossy(&needle).to_ascii_lowercase();
        let is_found = places.clone().any(|text| text.contains(&needle));
        // Base64 of the token alone is another one than within the secret.
        assert!(is_found || what.contains("base64") || what == "the token", "{what}: {needle}");
    }
}

#[test]
fn no_log_result_or_file_holds_the_token_of_a_transfer() {
    let world = World::new();
    world.write("a", noise(300_000));
    for options in [&["-vv"][..], &["--json"], &["-vvvv", "--json"]] {
        let server = world.recv("in", options);
        let needles = Needles::of(&server.ticket);
        fs::write(world.path("ticket-for-client"), &server.ticket).unwrap();
        needles.are_not_around(&server.process);

        let arguments = ["send", "--rate", "20mbit", "--streams", "3", "a", "@ticket-for-client"];
        let send = world.start("client", [&arguments, options].concat());
        server_is_reached(&world);
        needles.are_not_around(&send);
        let (send, mut recv) = (send.wait(), server.wait());
        send.is_done();
        recv.is_done();

        // Without --json, the ticket is what standard output is for.
        recv.stdout = recv.stdout.lines().filter(|line| !line.starts_with("haul://")).collect();
        needles.are_not_in_outputs("recv", &recv);
        needles.are_not_in_outputs("send", &send);
        for who in ["server", "client"] {
            needles.are_not_below(&world.home(who));
        }
        fs::remove_file(world.path("in/a")).unwrap();
    }
}

#[test]
fn no_error_holds_the_token() {
    let world = World::new();
    world.write("a", "1");
    let server = world.serve("root", &["-vv", "--plain"]);
    let needles = Needles::of(&server.ticket);
    let mut other = Ticket::parse(&server.ticket).unwrap();
    other.token = Token::from_bytes([3; 16]);
    let (other, wrong) = (other.to_line(), Needles::of(&other.to_line()));
    let mut elsewhere = Ticket::parse(&server.ticket).unwrap();
    elsewhere.key = haul::security::Identity::generate().unwrap().key_hash();
    let elsewhere = elsewhere.to_line();
    let twice = format!("{}#x", server.ticket);
    let bad_path = server.at("%zz");

    let cases: [(&[&str], i32); 7] = [
        (&["send", "a", &other], exit::NOT_ALLOWED),
        (&["send", "--plain", "a", &other], exit::NOT_ALLOWED),
        (&["send", "a", &elsewhere], exit::NOT_ALLOWED),
        (&["send", "missing", &server.ticket], exit::FILE),
        (&["send", "a", &twice], exit::USAGE),
        (&["get", &bad_path], exit::USAGE),
        (&["get", &server.ticket, &other], exit::USAGE),
    ];
    for (arguments, code) in cases {
        for options in [&[][..], &["-vv", "--json"]] {
            let ended = world.run("client", [arguments, options].concat());

            assert_eq!(ended.code, code, "{ended:?}");
            needles.are_not_in_outputs("the client", &ended);
            wrong.are_not_in_outputs("the client", &ended);
        }
    }
    needles.are_not_in("standard error of the server", server.process.stderr().as_bytes());
    wrong.are_not_in("standard error of the server", server.process.stderr().as_bytes());
}

#[test]
fn files_with_secrets_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    world.write("other", "was there, readable by all");
    let server = world.start("server", ["recv", ".", "--listen", "127.0.0.1:0", "--ticket-file", "other"]);
    let server = Listening::of(server);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(fs::read_to_string(world.path("other")).unwrap().trim_end(), server.ticket);
    assert_eq!(mode(&world.path("other")), 0o600);
    let home = world.home("server");
    assert_eq!(mode(&home.join("identity.pem")), 0o600);
    assert_eq!(mode(&home.join("tickets")), 0o700);
    for entry in fs::read_dir(home.join("tickets")).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

/// Waits until the sender has got through.
fn server_is_reached(world: &World) {
    crate::world::eventually("a first byte", || fs::read_dir(world.path("in")).unwrap().next().map(drop));
}
