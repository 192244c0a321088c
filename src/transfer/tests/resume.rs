//! Going on with what is there, and repair: what each side may ask of the other. protocol.md, section 28.

use super::*;
use crate::wire::message::Span;

const MIB: u64 = 1 << 20;

#[test]
fn a_receiver_goes_on_where_it_might_want_and_only_once() {
    // protocol.md [RESUME-1], [WANT-1]
    let mut sender = sending(&[file(10), file(10), Kind::Stream, Kind::Dir]);
    sender.handle_frame(resume(0, &[(0, 4)])).unwrap();

    assert_violation(sender.handle_frame(resume(0, &[(0, 4)])));
    assert_violation(sender.handle_frame(want(0, Want::Content)));
    assert_violation(sender.handle_frame(resume(2, &[(0, 4)])));
    assert_violation(sender.handle_frame(resume(3, &[])));
    assert_violation(sender.handle_frame(resume(4, &[])));
    sender.handle_frame(want(1, Want::Content)).unwrap();
    assert_violation(sender.handle_frame(resume(1, &[(0, 4)])));
}

#[test]
fn ranges_ascend_are_apart_and_lie_in_the_file() {
    // protocol.md [RESUME-1]
    let good: [&[(u64, u64)]; 4] = [&[], &[(0, 10)], &[(0, 1), (2, 8)], &[(9, 1)]];
    for kept in good {
        sending(&[file(10)]).handle_frame(resume(0, kept)).unwrap();
    }
    let bad: [&[(u64, u64)]; 7] = [
        &[(0, 11)],
        &[(10, 1)],
        &[(0, 0)],
        &[(0, 2), (1, 2)],
        &[(0, 2), (2, 2)],
        &[(4, 2), (0, 2)],
        &[(u64::MAX, 2)],
    ];
    for kept in bad {
        assert_violation(sending(&[file(10)]).handle_frame(resume(0, kept)));
    }
}

#[test]
fn a_sender_reads_what_is_lacked_and_counts_what_is_there() {
    // protocol.md [RESUME-2]
    let mut sender = sending(&[file(10)]);

    sender.handle_frame(resume(0, &[(0, 4), (6, 1)])).unwrap();

    let spans = vec![Span { offset: 0, len: 4 }, Span { offset: 6, len: 1 }];
    assert!(
        matches!(sender.poll_job(), Some(ReadJob::Content { file: 0, kept, .. }) if kept == spans),
        "it is told what not to send"
    );
    assert_eq!(sender.resumed_bytes(), 5);
}

#[test]
fn a_raw_flow_is_neither_gone_on_with_nor_repaired() {
    // protocol.md [RESUME-1]
    let mut sender = sending(&[file(10)]);
    sender.set_raw(limits::FLOW_NUMBER_MIN).unwrap();

    assert_violation(sender.handle_frame(resume(0, &[])));
    assert_violation(sender.handle_frame(check(0, 0, 1)));
}

#[test]
fn only_what_was_sent_to_its_end_is_checked_and_only_its_blocks() {
    // protocol.md [REPAIR-1]
    let mut sender = sending(&[file(2 * MIB + 1)]);
    assert_violation(sender.handle_frame(check(0, 0, 1)));
    sender.handle_frame(want(0, Want::Content)).unwrap();
    assert_violation(sender.handle_frame(check(0, 0, 1)));
    sender.on_piece(Piece::End(end(0, 2 * MIB + 1)));

    assert_violation(sender.handle_frame(check(0, 0, 4)));
    assert_violation(sender.handle_frame(check(0, 3, 1)));
    assert_violation(sender.handle_frame(check(0, u64::MAX, 1)));
    sender.handle_frame(check(0, 0, 3)).unwrap();
    assert_violation(sender.handle_frame(check(0, 0, 3)));
    assert_violation(sender.handle_frame(resume(0, &[])));
}

#[test]
fn what_cannot_be_read_twice_is_not_checked() {
    // protocol.md [REPAIR-1]
    let mut sender = sending(&[Kind::Stream]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.on_piece(Piece::End(end(0, MIB)));

    assert_violation(sender.handle_frame(check(0, 0, 1)));
}

#[test]
fn a_file_is_checked_so_often_and_no_more() {
    // protocol.md [REPAIR-2]
    let mut sender = sending(&[file(2 * MIB)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    for _ in 0..limits::REPAIRS_MAX {
        sender.on_piece(Piece::End(end(0, 2 * MIB)));
        sender.handle_frame(check(0, 0, 2)).unwrap();
        sender.on_piece(Piece::Sums(Sums { file: 0, first: 0, sums: vec![1, 2] }));
        sender.handle_frame(resume(0, &[(0, 2 * MIB)])).unwrap();
    }
    sender.on_piece(Piece::End(end(0, 2 * MIB)));

    assert_violation(sender.handle_frame(check(0, 0, 1)));
}

#[test]
fn a_file_is_done_only_behind_the_end_that_follows_its_repair() {
    // protocol.md [OUTCOME-2]
    let mut sender = sending(&[file(MIB)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.on_piece(Piece::End(end(0, MIB)));
    sender.handle_frame(check(0, 0, 1)).unwrap();
    assert_violation(sender.handle_frame(outcome(0, Outcome::Done)));
}

#[test]
fn sums_are_told_as_they_were_asked_for_and_once() {
    // protocol.md [REPAIR-3]
    let mut receiver = complete(2 * MIB);
    receiver.on_event(Event::Check { file: 0, first: 0, count: 2 });
    assert!(answers(&mut receiver).contains(&check(0, 0, 2)));

    receiver.handle_frame(CONTROL, sums(0, 0, 2)).unwrap();
    assert!(matches!(&jobs(&mut receiver)[..], [Job::Sums { file: 0, first: 0, .. }]));
    assert_violation(receiver.handle_frame(CONTROL, sums(0, 0, 2)));
    for (first, count) in [(0, 1), (0, 3), (1, 2)] {
        let mut receiver = complete(2 * MIB);
        receiver.on_event(Event::Check { file: 0, first: 0, count: 2 });
        assert_violation(receiver.handle_frame(CONTROL, sums(0, first, count)));
    }
    assert_violation(complete(2 * MIB).handle_frame(CONTROL, sums(0, 0, 2)));
    assert_violation(complete(2 * MIB).handle_frame(CONTROL, sums(1, 0, 2)));
}

#[test]
fn what_is_placed_is_told_before_a_file_is_checked_or_gone_on_with() {
    // protocol.md [REPAIR-1]
    for event in [Event::Check { file: 0, first: 0, count: 1 }, Event::Resume { file: 0, kept: Vec::new() }] {
        let mut receiver = receiving(&[file(5)]);
        receiver.handle_frame(CONTROL, content_of(0, 0, 5)).unwrap();
        receiver.on_event(placed(0, 0, 5));

        receiver.on_event(event);

        let frames = answers(&mut receiver);
        assert!(matches!(&frames[0], Frame::Feedback { placed, .. } if placed.len() == 1), "{frames:?}");
        assert!(matches!(&frames[1], Frame::Message(Message::Check(_) | Message::Resume(_))), "{frames:?}");
    }
}

#[test]
fn the_end_of_a_resumed_file_waits_for_what_was_lacked() {
    // protocol.md [RESUME-2], [FILE-1]
    let mut receiver = receiving(&[file(10)]);
    receiver.on_event(Event::Resume { file: 0, kept: vec![Span { offset: 0, len: 6 }] });
    assert_eq!(receiver.resumed_bytes(), 6);
    jobs(&mut receiver);

    receiver.handle_frame(CONTROL, Frame::FileEnd(end(0, 10))).unwrap();
    assert!(jobs(&mut receiver).is_empty());
    receiver.handle_frame(CONTROL, content_of(0, 6, 4)).unwrap();

    assert!(matches!(&jobs(&mut receiver)[..], [Job::Data { .. }, Job::End { .. }]));
}

#[test]
fn a_repaired_file_gets_its_content_and_its_end_again() {
    // protocol.md [RESUME-3], [FILE-2]
    let mut receiver = complete(10);
    receiver.on_event(Event::Resume { file: 0, kept: vec![Span { offset: 0, len: 6 }] });

    receiver.handle_frame(CONTROL, content_of(0, 6, 4)).unwrap();
    receiver.handle_frame(CONTROL, Frame::FileEnd(end(0, 10))).unwrap();

    assert!(matches!(&jobs(&mut receiver)[..], [Job::Data { .. }, Job::End { .. }]));
    assert_eq!(receiver.resumed_bytes(), 0, "what it brought itself was not there before");
    assert_violation(receiver.handle_frame(CONTROL, Frame::FileEnd(end(0, 10))));
}

#[test]
fn a_raw_flow_makes_nothing_resumable() {
    // A server hears of it in this order, a client in the other.
    let mut server = receiving(&[]);
    server.allow_resume([7; 32]);
    server.set_raw(limits::FLOW_NUMBER_MIN).unwrap();
    let mut client = receiving(&[]);
    client.set_raw(limits::FLOW_NUMBER_MIN).unwrap();
    client.allow_resume([7; 32]);

    for mut receiver in [server, client] {
        let last = jobs(&mut receiver).pop();
        assert!(matches!(last, Some(Job::Resumable { owner: None })));
    }
}

/// A receiver that has all of its only file, whose end went to the target.
fn complete(size: u64) -> Receiver {
    let mut receiver = receiving(&[file(size)]);
    receiver.handle_frame(CONTROL, Frame::Hole(Placed { file: 0, offset: 0, len: size })).unwrap();
    receiver.handle_frame(CONTROL, Frame::FileEnd(end(0, size))).unwrap();
    jobs(&mut receiver);
    receiver
}

fn resume(file: u64, kept: &[(u64, u64)]) -> Frame {
    let kept = kept.iter().map(|&(offset, len)| Span { offset, len }).collect();
    Frame::Message(Message::Resume(Resume { file, kept }))
}

fn check(file: u64, first: u64, count: u64) -> Frame {
    Frame::Message(Message::Check(Check { file, first, count }))
}

fn sums(file: u64, first: u64, count: usize) -> Frame {
    Frame::Message(Message::Sums(Sums { file, first, sums: vec![7; count] }))
}
