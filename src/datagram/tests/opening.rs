use std::time::Duration;

use super::bed::*;
use crate::wire::packet::CloseReason;

#[test]
fn a_file_crosses_in_either_role() {
    // protocol.md [FLOW-3]
    for is_push in [true, false] {
        let mut bed = Bed::new(is_push, 40 * MS);
        bed.queue_file(3 << 20, 256 << 10);

        assert!(bed.run_to_placed(20_000 * MS), "push {is_push}");

        assert_eq!(bed.arrived.len(), 12);
        assert!(bed.sender.is_confirmed());
        assert_eq!(bed.sender.stats().lost, 0);
    }
}

#[test]
fn a_client_that_sends_begins_at_once_with_a_full_packet() {
    // protocol.md [PATH-4]
    for len in [0, 5, 100_000] {
        let mut bed = Bed::new(true, 40 * MS);
        bed.queue_file(len, 1 << 20);

        bed.run(MS);

        let first = &bed.log[0];
        assert_eq!(first.at, Duration::ZERO);
        assert_eq!(first.datagram.len(), 1200, "{len}");
        assert!(first.blocks.floor.is_some());
        assert_eq!(first.to, server_address());
    }
}

#[test]
fn a_client_that_receives_greets_until_it_hears_the_server() {
    // protocol.md [PATH-4]
    let mut bed = Bed::new(false, 40 * MS);
    bed.fate = Box::new(|passing| passing.to_receiver.then_some(Duration::ZERO));
    bed.run(1900 * MS);

    let greetings: Vec<_> =
        bed.sent(false).map(|passing| (passing.at.as_millis(), passing.datagram.len())).collect();
    assert_eq!(greetings, [0, 50, 150, 350, 850, 1350, 1850].map(|at| (at, 1200)));
    assert!(bed.sent(false).all(|passing| passing.blocks.ping));
    assert_eq!(bed.sent(true).count(), 0, "a server that has heard nothing sends nothing");

    bed.fate = Box::new(|_| Some(Duration::ZERO));
    bed.run(2350 * MS);
    bed.log.clear();
    bed.run(2390 * MS + 2 * MS);

    assert!(bed.receiver.last_heard().is_some());
}

#[test]
fn a_server_waits_for_its_client_without_a_stir() {
    // protocol.md [PACKET-2]
    let mut sender = sender(false, 40 * MS);
    let mut receiver = receiver(true);
    let now = 5000 * MS;
    sender.push_chunk(0, 0, vec![1; 1000]);
    sender.handle_timeout(now);

    assert_eq!(sender.poll_transmit(now, &mut Vec::new()), Ok(None));
    assert!(sender.poll_timeout(now).is_none_or(|at| at > now));
    assert_eq!(receiver.poll_transmit(now, &mut Vec::new()), Ok(None));
    assert_eq!(receiver.poll_timeout(), None);
}

#[test]
fn the_first_packets_may_be_lost() {
    // protocol.md [PATH-4]
    for is_push in [true, false] {
        for lost in 1..6 {
            let mut bed = Bed::new(is_push, 40 * MS);
            bed.queue_file(100, 100);
            let mut left = lost;
            bed.fate = Box::new(move |_| {
                left -= i32::from(left > 0);
                (left == 0).then_some(Duration::ZERO)
            });

            assert!(bed.run_to_placed(6000 * MS), "push {is_push}, {lost} lost");
        }
    }
}

#[test]
fn either_side_ends_a_flow_and_the_other_hears_of_it() {
    // protocol.md [FLOW-5]
    for is_push in [true, false] {
        for by_sender in [true, false] {
            let mut bed = Bed::new(is_push, 40 * MS);
            bed.queue_file(3 << 20, 1 << 20);
            bed.run(100 * MS);

            if by_sender {
                bed.sender.close(CloseReason::Done);
            } else {
                bed.receiver.close(CloseReason::Unfit);
            }
            let at = bed.now;
            bed.run(at + 30 * MS);

            let (heard, said) = if by_sender {
                (bed.receiver.closed_by_peer(), CloseReason::Done)
            } else {
                (bed.sender.closed_by_peer(), CloseReason::Unfit)
            };
            assert_eq!(heard, Some(said), "push {is_push}, by the sender {by_sender}");
            if by_sender {
                bed.run(at + 2000 * MS);
                let after: Vec<_> = bed.sent(true).filter(|passing| passing.at > at).collect();
                assert!(
                    after.iter().all(|passing| passing.blocks.data.is_empty()),
                    "no content behind the end"
                );
                assert!(after.len() < 12);
            }
        }
    }
}

#[test]
fn a_session_that_idles_keeps_its_flow_alive() {
    // protocol.md [FLOW-7]
    for is_push in [true, false] {
        let mut bed = Bed::new(is_push, 40 * MS);
        bed.queue_file(100, 100);
        assert!(bed.run_to_placed(1000 * MS));

        bed.run(10_000 * MS);

        for heard in [bed.sender.last_heard(), bed.receiver.last_heard()] {
            assert!(heard.unwrap() > 8900 * MS);
        }
        assert!(bed.log.len() < 150, "and costs little: {}", bed.log.len());
        assert_eq!(bed.sender.silent_since(), None);
    }
}
