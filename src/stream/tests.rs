//! One connection and the time: who is asked, who is given up on, and who is only slow.

use std::time::Duration;

use super::*;
use crate::{
    limits,
    security::Channel,
    wire::{
        frame::Frame,
        hello::Hello,
        message::{Message, Ping},
    },
};

#[test]
fn a_ping_is_answered_with_its_number_on_the_same_connection() {
    // protocol.md [PING-1]
    let (mut a, mut b) = (authenticated(IDLE), authenticated(IDLE));

    a.queue(START, ping(7));
    deliver(&mut a, &mut b, START);

    assert_eq!(b.poll_frame(), None, "the session does not see it");
    let bytes = sent(&mut b);
    assert_eq!(bytes[..8], [8, 0, 0, 0, 17, 0, 0, 0]);
    assert_eq!(bytes[8..16], 7_u64.to_le_bytes());
    a.handle_input(START, &bytes).unwrap();
    assert_eq!(a.poll_frame(), None);
}

#[test]
fn who_has_said_nothing_for_the_heartbeats_time_asks() {
    // protocol.md [PING-2]
    let mut link = authenticated(IDLE);
    let due = START + limits::HEARTBEAT;
    assert_eq!(link.poll_timeout(), due);

    link.handle_timeout(due - MOMENT).unwrap();
    assert!(!link.wants_write());
    link.handle_timeout(due).unwrap();
    assert_eq!(sent(&mut link)[4..6], [16, 0]);

    assert_eq!(link.poll_timeout(), due + limits::HEARTBEAT);
    link.queue(due + MOMENT, ping(0));
    assert_eq!(link.poll_timeout(), due + MOMENT + limits::HEARTBEAT, "whatever is sent counts");
}

#[test]
fn nobody_asks_before_authentication() {
    // protocol.md [PING-2]
    let mut link = Link::new(Channel::plain(), IDLE, START);

    link.handle_timeout(START + limits::HEARTBEAT).unwrap();

    assert!(!link.wants_write());
    assert_eq!(link.poll_timeout(), START + limits::HEARTBEAT * 2);
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up_on() {
    // protocol.md [PING-2], [PING-3]
    let mut link = authenticated(IDLE);
    let mut asked = 0;

    let given_up_at = loop {
        let now = link.poll_timeout();
        if let Err(error) = link.handle_timeout(now) {
            assert!(matches!(error, LinkError::Silent(IDLE)), "{error}");
            break now;
        }
        asked += usize::from(!sent(&mut link).is_empty());
    };

    assert_eq!(given_up_at, START + IDLE);
    assert!(asked >= 3, "asked {asked} times");
}

#[test]
fn a_peer_that_sends_a_byte_each_second_is_slow_and_not_gone() {
    // protocol.md [PING-3]
    let mut link = authenticated(IDLE);
    let frame = Frame::Data { file: 0, offset: 0, bytes: vec![7; 200] }.encode();
    let mut now = START;

    for byte in &frame[..frame.len() - 1] {
        now += Duration::from_secs(1);
        link.handle_input(now, std::slice::from_ref(byte)).unwrap();
        while link.poll_timeout() <= now {
            link.handle_timeout(now).unwrap();
        }
        assert_eq!(link.poll_frame(), None);
    }

    assert!(now - START > IDLE * 3);
    assert!(link.handle_timeout(now + IDLE - MOMENT).is_ok());
    assert!(link.handle_timeout(now + IDLE).is_err());
}

#[test]
fn time_in_which_nobody_reads_says_nothing_about_the_peer() {
    // protocol.md [PING-3]
    let mut link = authenticated(IDLE);

    link.on_unread(START + IDLE);

    assert!(link.handle_timeout(START + IDLE * 2 - MOMENT).is_ok());
    assert!(link.handle_timeout(START + IDLE * 2).is_err());
}

#[test]
fn bytes_that_are_no_frame_end_the_connection() {
    // protocol.md [ERR-2]
    let mut link = authenticated(IDLE);

    let result = link.handle_input(START, &[0xff; 8]);

    assert!(matches!(result, Err(LinkError::Frame(_))), "{result:?}");
}

const START: Duration = Duration::from_secs(100);
const IDLE: Duration = limits::IDLE_TIMEOUT;
const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn a_stranger_that_asks_is_not_answered() {
    // protocol.md [PING-1]
    let mut stranger = Link::new(Channel::plain(), IDLE, START);
    stranger.handle_input(START, &Hello::ours([1; 32], None).encode()).unwrap();
    let mut friend = authenticated(IDLE);
    let mut asking = authenticated(IDLE);

    asking.queue(START, ping(7));
    let bytes = sent(&mut asking);
    stranger.handle_input(START, &bytes).unwrap();
    friend.handle_input(START, &bytes).unwrap();

    assert!(sent(&mut stranger).is_empty());
    assert!(!sent(&mut friend).is_empty());
}

/// A link without TLS whose peer has said hello and has authenticated.
fn authenticated(idle: Duration) -> Link {
    let mut link = Link::new(Channel::plain(), idle, START);
    link.handle_input(START, &Hello::ours([1; 32], None).encode()).unwrap();
    assert!(link.peer_hello().is_some());
    link.on_authenticated();
    link
}

fn ping(number: u64) -> Frame {
    Frame::Message(Message::Ping(Ping { number }))
}

fn deliver(from: &mut Link, to: &mut Link, now: Duration) {
    let bytes = sent(from);
    to.handle_input(now, &bytes).unwrap();
}

/// Everything that waits for the socket.
fn sent(link: &mut Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    while link.wants_write() {
        link.transmit(&mut bytes).unwrap();
    }
    bytes
}
