//! Content over a raw flow.

use super::*;
use crate::{
    transfer::raw::{Lack, RawChunk, RawPiece},
    wire::message::{RawEnd, RawRange, RawReport},
};

const FLOW: Carrier = limits::FLOW_NUMBER_MIN;

#[test]
fn a_raw_flow_is_for_content_that_is_asked_for() {
    // protocol.md [RAW-2]
    assert!(Sender::<u64>::new(false).set_raw(FLOW).is_ok());
    assert!(Sender::<u64>::new(true).set_raw(FLOW).is_err());

    let mut sender = sending(&[file(5)]);
    sender.handle_frame(want(0, Want::Content)).unwrap();
    sender.handle_frame(credit(5, &[])).unwrap();
    sender.on_piece(data(0, 0, 5, false));
    assert!(sender.poll_frame(CONTROL).is_some());
    assert!(sender.set_raw(FLOW).is_err(), "some of it went over TCP");
    assert!(raw_sending(&[]).set_raw(FLOW + 1).is_err(), "there is one already");
    assert!(raw_receiving(&[]).set_raw(FLOW + 1).is_err(), "there is one already");
    let mut receiver = receiving(&[file(5)]);
    receiver.handle_frame(CONTROL, content_of(0, 0, 5)).unwrap();
    assert!(receiver.set_raw(FLOW).is_err(), "some of it came over TCP");
}

#[test]
fn content_leaves_once_and_without_credit() {
    // protocol.md [RAW-3]
    let mut sender = raw_sending(&[file(8)]);
    sender.on_piece(data(0, 0, 5, true));
    sender.on_piece(data(0, 5, 3, true));

    assert!(sender.poll_frame(CONTROL).is_none() && sender.poll_frame(FLOW).is_none());
    assert!(!sender.is_blocked_by_credit());
    assert_eq!(sender.poll_raw(), Some(chunk(0, 0, 5, 5)));
    assert_eq!(sender.poll_raw(), Some(chunk(0, 5, 3, 8)));
    assert_eq!(sender.poll_raw(), None);

    assert_eq!(sender.held(), (0, 0, 0));
    assert_eq!((sender.sent_bytes(), sender.placed_bytes(), sender.carriers_used()), (8, 8, 1));
    assert!(sender.handle_frame(stream_end(FLOW, 0)).is_err(), "nothing is repaired");
    let mut receiver = raw_receiving(&[file(8)]);
    assert!(receiver.handle_frame(CONTROL, stream_end(FLOW, 0)).is_err());
}

#[test]
fn what_nobody_wants_any_more_leaves_empty() {
    let mut sender = raw_sending(&[file(5), file(1)]);
    sender.on_piece(data(0, 0, 5, false));
    sender.on_piece(data(1, 0, 1, false));
    sender.handle_frame(outcome(0, failure())).unwrap();

    assert_eq!(sender.poll_raw(), Some(RawChunk { file: 0, offset: 0, bytes: Vec::new(), to: 5 }));
    assert_eq!(sender.poll_raw(), Some(chunk(1, 0, 1, 6)));
}

#[test]
fn a_file_ends_when_its_content_has_left() {
    // protocol.md [RAW-4]
    let mut sender = raw_sending(&[file(0), file(5), file(3)]);
    sender.on_piece(Piece::End(end(0, 0)));
    assert_eq!(drain(&mut sender), [Frame::FileEnd(end(0, 0))], "it has none");

    sender.on_piece(data(1, 0, 5, false));
    sender.on_piece(Piece::End(end(1, 5)));
    sender.on_piece(data(2, 0, 3, false));
    sender.on_piece(Piece::End(end(2, 3)));
    assert_eq!(drain(&mut sender), []);

    sender.on_raw_sent(4);
    assert_eq!(drain(&mut sender), []);
    sender.on_raw_sent(5);
    assert_eq!(drain(&mut sender), [Frame::FileEnd(end(1, 5))]);
    sender.on_raw_sent(8);
    assert_eq!(drain(&mut sender), [Frame::FileEnd(end(2, 3))]);
}

#[test]
fn a_sender_finishes_behind_the_end_of_its_raw_flow() {
    // protocol.md [RAW-7]
    let mut sender = raw_sending(&[file(0)]);
    sender.on_listed(Listed { entries: 1, ..Listed::default() });
    sender.on_piece(Piece::End(end(0, 0)));
    drain(&mut sender);
    assert!(!sender.wants_raw_end());
    assert!(sender.handle_frame(report(0)).is_err(), "it has not ended");
    sender.handle_frame(outcome(0, Outcome::Done)).unwrap();

    assert!(sender.wants_raw_end());
    assert_eq!(drain(&mut sender), []);
    sender.tell_raw_end(7);

    let told = drain(&mut sender);
    assert_eq!(told[0], Frame::Message(Message::RawEnd(RawEnd { attempt: 0, packets: 7 })));
    assert!(matches!(told[1..], [Frame::Message(Message::Finish(_))]), "{told:?}");
    assert!(!sender.wants_raw_end());
    assert!(sender.handle_frame(report(1)).is_err(), "there is no such flow");
    sender.handle_frame(report(0)).unwrap();
    assert_eq!(sender.raw_report().map(|(sent, report)| (sent, report.received)), Some((7, 6)));
    assert!(sender.handle_frame(report(0)).is_err(), "it has reported");
}

#[test]
fn what_comes_is_taken_up_to_the_window_and_the_rest_left_out() {
    // protocol.md [RAW-5]
    let mut receiver = raw_receiving(&[file(3 * WINDOW)]);

    receiver.on_raw_pieces(vec![piece(0, 0, WINDOW), piece(0, WINDOW, 1)]).unwrap();
    assert_eq!(jobs(&mut receiver), ["piece 0"]);
    receiver.on_event(Event::RawPlaced { len: WINDOW, discarded: 2 });
    receiver.on_raw_pieces(vec![piece(0, WINDOW + 1, 1)]).unwrap();

    assert_eq!(jobs(&mut receiver), ["piece 0"]);
    assert_eq!(reported(receiver).discarded, 3 + 2, "a piece came in three datagrams");
}

#[test]
fn content_of_what_was_never_announced_or_has_none_is_a_violation_and_late_content_is_not() {
    let mut receiver = raw_receiving(&[file(5), Kind::Dir]);

    assert!(receiver.on_raw_pieces(vec![piece(2, 0, 1)]).is_err());
    assert!(receiver.on_raw_pieces(vec![piece(1, 0, 1)]).is_err());
    receiver.on_event(Event::Outcome { file: 0, outcome: failure() });
    assert_eq!(receiver.on_raw_pieces(vec![piece(0, 0, 1)]), Ok(()));
    assert_eq!(jobs(&mut receiver), Vec::<String>::new());
    assert!(Receiver::new(WINDOW).on_raw_pieces(vec![piece(0, 0, 1)]).is_err(), "there is no raw flow");
}

#[test]
fn a_file_comes_to_its_end_whole_or_when_it_is_given_up() {
    // protocol.md [RAW-6]
    let mut receiver = raw_receiving(&[file(5), file(5), file(5)]);
    let ended = |receiver: &mut Receiver, file| {
        receiver.handle_frame(CONTROL, Frame::FileEnd(end(file, 5))).unwrap();
    };
    receiver.on_raw_pieces(vec![piece(0, 0, 5), piece(1, 0, 3), piece(2, 0, 1)]).unwrap();
    for file in 0..3 {
        ended(&mut receiver, file);
    }

    assert_eq!(jobs(&mut receiver), ["piece 0", "piece 1", "piece 2", "end 0"]);
    assert_eq!(receiver.take_raw_ended(), [1, 2]);
    receiver.on_raw_pieces(vec![piece(1, 3, 2)]).unwrap();
    for file in 0..3 {
        receiver.on_raw_overdue(file);
        receiver.on_raw_overdue(file);
    }
    receiver.on_raw_pieces(vec![piece(2, 1, 4)]).unwrap();

    assert_eq!(jobs(&mut receiver), ["piece 1", "end 1", "end 2"]);
    assert_eq!(receiver.take_raw_ended(), Vec::<u64>::new());
}

#[test]
fn the_last_word_waits_for_the_report_on_the_raw_flow() {
    // protocol.md [RAW-7]
    let raw_end = |attempt| Frame::Message(Message::RawEnd(RawEnd { attempt, packets: 9 }));
    let mut receiver = raw_receiving(&[file(5), file(0)]);
    receiver.handle_frame(CONTROL, listed(2)).unwrap();
    assert!(receiver.handle_frame(CONTROL, raw_end(0)).is_err(), "entries have no outcome");
    let lack = Lack { bytes: 2, ranges: vec![(3, 2)], more_ranges: 0 };
    receiver.on_event(Event::RawEnded { file: 0, is_intact: false, lack });
    receiver.on_event(Event::RawEnded { file: 1, is_intact: true, lack: Lack::default() });
    receiver.on_event(Event::Outcome { file: 0, outcome: failure() });
    receiver.on_event(Event::Outcome { file: 1, outcome: Outcome::Done });
    while receiver.poll_frame().is_some() {}

    assert!(receiver.handle_frame(CONTROL, raw_end(1)).is_err(), "there is no such flow");
    receiver.handle_frame(CONTROL, raw_end(0)).unwrap();
    assert!(receiver.handle_frame(CONTROL, raw_end(0)).is_err());
    receiver.handle_frame(CONTROL, Frame::Message(Message::Finish(Finish::default()))).unwrap();
    assert_eq!(receiver.poll_frame(), None);
    assert_eq!(receiver.raw_packets(), Some(9));
    receiver.tell_raw_report(RawReport { received: 8, ..RawReport::default() });

    let expected = RawReport {
        received: 8,
        intact_files: 1,
        damaged_files: 1,
        missing_bytes: 2,
        missing: vec![RawRange { file: 0, offset: 3, len: 2 }],
        ..RawReport::default()
    };
    assert_eq!(receiver.poll_frame(), Some(Frame::Message(Message::RawReport(expected))));
    assert!(matches!(receiver.poll_frame(), Some(Frame::Message(Message::Receipt(_)))));
}

#[test]
fn a_long_list_of_missing_ranges_is_cut_and_the_rest_counted() {
    let mut receiver = raw_receiving(&[file(5), file(5)]);
    let most = limits::RECORDS_PER_FRAME as u64;
    for file in 0..2 {
        let ranges = (0..most - 1).map(|i| (2 * i, 1)).collect();
        let lack = Lack { bytes: most + 4, ranges, more_ranges: 5 };
        receiver.on_event(Event::RawEnded { file, is_intact: false, lack });
    }

    let report = reported(receiver);

    assert_eq!((report.missing.len() as u64, report.missing_bytes), (most, 2 * most + 8));
    assert_eq!(report.more_ranges, most - 2 + 10);
}

#[test]
fn raw_messages_are_for_their_own_direction() {
    // protocol.md [ROLE-1]
    let raw_end = Frame::Message(Message::RawEnd(RawEnd { attempt: 0, packets: 0 }));
    assert!(raw_sending(&[]).handle_frame(raw_end.clone()).is_err());
    assert!(raw_receiving(&[]).handle_frame(CONTROL, report(0)).is_err());
    assert!(receiving(&[]).handle_frame(CONTROL, raw_end).is_err(), "there is no raw flow");
    assert!(sending(&[]).handle_frame(report(0)).is_err());
}

/// A sender over a raw flow whose entries were announced and are all wanted.
fn raw_sending(kinds: &[Kind]) -> Sender<u64> {
    let mut sender = sending(kinds);
    sender.set_raw(FLOW).unwrap();
    for file in 0..kinds.len() as u64 {
        sender.handle_frame(want(file, Want::Content)).unwrap();
    }
    sender
}

fn raw_receiving(kinds: &[Kind]) -> Receiver {
    let mut receiver = receiving(kinds);
    receiver.set_raw(FLOW).unwrap();
    receiver
}

fn chunk(file: u64, offset: u64, len: u64, to: u64) -> RawChunk {
    RawChunk { file, offset, bytes: content(file, offset, len), to }
}

fn piece(file: u64, offset: u64, len: u64) -> RawPiece {
    RawPiece { file, offset, bytes: vec![0; usize::try_from(len).unwrap()], datagrams: 3 }
}

fn report(attempt: u16) -> Frame {
    Frame::Message(Message::RawReport(RawReport { attempt, received: 6, ..RawReport::default() }))
}

fn jobs(receiver: &mut Receiver) -> Vec<String> {
    std::iter::from_fn(|| receiver.poll_job())
        .filter_map(|job| match job {
            Job::RawPiece(piece) => Some(format!("piece {}", piece.file)),
            Job::RawEnd { file, .. } => Some(format!("end {file}")),
            _ => None,
        })
        .collect()
}

/// What it tells at the end.
fn reported(mut receiver: Receiver) -> RawReport {
    let entries = receiver.announced().entries;
    for file in 0..entries {
        receiver.on_event(Event::Outcome { file, outcome: failure() });
    }
    receiver.handle_frame(CONTROL, listed(entries)).unwrap();
    let raw_end = Frame::Message(Message::RawEnd(RawEnd { attempt: 0, packets: 9 }));
    receiver.handle_frame(CONTROL, raw_end).unwrap();
    receiver.tell_raw_report(RawReport::default());
    receiver.raw_report().unwrap().1.clone()
}
