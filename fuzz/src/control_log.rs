//! What went over a control connection, and how far the peer says to have heard it.

use std::collections::VecDeque;

use haul::transfer::ControlLog;
use haul::wire::frame::{Frame, Placed};

use super::bytes::Bytes;

/// Nothing is lost and nothing is repeated, however often the connection is; who hears what was not sent, or less than
/// before, is refused.
pub fn control_log(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut log = ControlLog::keeping();
    let mut next = 0;
    // What was sent and not heard: numbers of frames, or where content belongs.
    let mut unheard: VecDeque<Result<u64, (u64, u64)>> = VecDeque::new();
    let mut again: VecDeque<u64> = VecDeque::new();
    let (mut heard, mut received, mut told) = (0_u64, 0, 0);

    while !bytes.is_empty() {
        match bytes.below(6) {
            0 | 1 => match log.poll_again() {
                Some(frame) => {
                    log.on_sent(&frame);
                    let Frame::Hole(Placed { file, .. }) = frame else { panic!("only this was sent") };
                    assert_eq!(Some(file), again.pop_front());
                    unheard.push_back(Ok(file));
                }
                None => {
                    assert!(again.is_empty());
                    log.on_sent(&Frame::Hole(Placed { file: next, offset: 0, len: 1 }));
                    unheard.push_back(Ok(next));
                    next += 1;
                }
            },
            2 => {
                log.on_sent(&Frame::Data { file: 7, offset: next, bytes: vec![1] });
                unheard.push_back(Err((7, next)));
                next += 1;
            }
            3 => {
                let frames = heard_number(&mut bytes, heard);
                let result = log.on_heard(frames);
                let new = frames.checked_sub(heard).filter(|&new| new <= unheard.len() as u64);
                assert_eq!(result.is_ok(), new.is_some());
                let Some(new) = new else { return };
                heard = frames;
                unheard.drain(..usize::try_from(new).expect("no more than there are"));
            }
            4 => {
                let frames = heard_number(&mut bytes, heard);
                let new = frames.checked_sub(heard).filter(|&new| new <= unheard.len() as u64);
                let Ok(content) = log.resume(frames) else {
                    assert_eq!(new, None);
                    return;
                };
                heard = frames;
                let new = usize::try_from(new.expect("it was taken")).expect("no more than there are");
                let lost: Vec<_> = unheard.drain(..).skip(new).collect();
                assert_eq!(content, lost.iter().filter_map(|it| it.err()).collect::<Vec<_>>());
                let first = lost.iter().filter_map(|it| it.ok());
                again = first.chain(again).collect();
            }
            _ => {
                log.on_received();
                received += 1;
                if bytes.coin() {
                    assert_eq!(log.tell(), received);
                    told = received;
                }
                if let Some(frames) = log.poll_heard() {
                    assert!(frames == received && frames > told);
                    told = frames;
                }
            }
        }
        assert!(log.is_kept());
    }
}

fn heard_number(bytes: &mut Bytes<'_>, heard: u64) -> u64 {
    let number = bytes.number();
    if number < 64 { heard.saturating_add(number).saturating_sub(2) } else { number }
}
