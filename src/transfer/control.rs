//! What went over the control connection, so that another one can go on where it ended.
//!
//! Both sides count the frames of the session that they send and take. Whoever sends keeps them until the other has
//! said HEARD; over a new connection both say first how far they have come, and send on from there. Content that was
//! on its way is not kept: it returns to the queue, as with any carrier.

use std::collections::VecDeque;

use super::Violation;
use crate::{limits, wire::frame::Frame};

/// The frames of both directions. Of a session that is not to outlive its control connection it keeps nothing.
#[derive(Debug, Default)]
pub struct ControlLog {
    /// What is kept, unless nothing is to be.
    kept: Option<Kept>,
    /// Frames taken from the peer.
    received: u64,
    /// How many of them the peer was told of.
    told: u64,
}

#[derive(Debug, Default)]
struct Kept {
    /// Frames that the peer has said to have.
    heard: u64,
    /// Those behind them, in the order in which they were sent.
    sent: VecDeque<Sent>,
    bytes: usize,
    /// To be sent again, before anything else.
    again: VecDeque<Frame>,
}

#[derive(Debug)]
enum Sent {
    Frame(Frame, usize),
    /// Content, by file and offset.
    Content(u64, u64),
}

impl ControlLog {
    /// A log that keeps, from the first frame on.
    pub fn keeping() -> Self {
        Self { kept: Some(Kept::default()), ..Self::default() }
    }

    /// Whether another connection may go on.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// The peer cannot go on over another connection: nothing is kept any more.
    pub fn forget(&mut self) {
        self.kept = None;
    }

    /// A frame of the session leaves.
    pub fn on_sent(&mut self, frame: &Frame) {
        let Some(kept) = &mut self.kept else { return };
        let sent = match frame {
            Frame::Data { file, offset, .. } => Sent::Content(*file, *offset),
            frame => Sent::Frame(frame.clone(), frame.encode().len()),
        };
        kept.bytes += sent.bytes();
        kept.sent.push_back(sent);
        // A peer that never says HEARD costs no more memory than this.
        if kept.bytes > limits::CONTROL_LOG_MAX_BYTES || kept.sent.len() > limits::CONTROL_LOG_MAX_FRAMES {
            tracing::warn!("the peer does not say what it has heard: the session ends with its connection");
            self.kept = None;
        }
    }

    /// A frame of the session was taken.
    pub fn on_received(&mut self) {
        self.received += 1;
    }

    /// Frames of the session taken so far; the peer is told.
    pub fn tell(&mut self) -> u64 {
        self.told = self.received;
        self.received
    }

    /// What is to be told now, if it is time. protocol.md [REJOIN-2]
    pub fn poll_heard(&mut self) -> Option<u64> {
        let is_due = self.is_kept() && self.received - self.told >= limits::HEARD_EVERY_FRAMES;
        is_due.then(|| self.tell())
    }

    /// What is to be sent again, before anything else.
    pub fn poll_again(&mut self) -> Option<Frame> {
        self.kept.as_mut()?.again.pop_front()
    }

    /// The peer says how many frames it has taken.
    pub fn on_heard(&mut self, frames: u64) -> Result<(), Violation> {
        let Some(kept) = &mut self.kept else {
            return Ok(());
        };
        // protocol.md [REJOIN-2]
        let new = frames.checked_sub(kept.heard).filter(|&new| new <= kept.sent.len() as u64);
        let Some(new) = new else {
            return Err(Violation::new("it heard what was not sent, or less than before"));
        };
        kept.heard = frames;
        for sent in kept.sent.drain(..usize::try_from(new).expect("no more than are kept")) {
            kept.bytes -= sent.bytes();
        }
        Ok(())
    }

    /// Another control connection goes on, and the peer has taken so many frames. What is lost is to be sent again; of
    /// content, gives file and offset. protocol.md [REJOIN-4]
    pub fn resume(&mut self, frames: u64) -> Result<Vec<(u64, u64)>, Violation> {
        self.on_heard(frames)?;
        let Some(kept) = &mut self.kept else { return Ok(Vec::new()) };
        let mut content = Vec::new();
        // What was to be sent again and has not left stays behind what had.
        let mut again = VecDeque::new();
        for sent in kept.sent.drain(..) {
            match sent {
                Sent::Frame(frame, _) => again.push_back(frame),
                Sent::Content(file, offset) => content.push((file, offset)),
            }
        }
        again.append(&mut kept.again);
        kept.again = again;
        kept.bytes = 0;
        Ok(content)
    }
}

impl Sent {
    fn bytes(&self) -> usize {
        if let Self::Frame(_, bytes) = self { *bytes } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Placed;

    fn frame(number: u64) -> Frame {
        Frame::Hole(Placed { file: number, offset: 0, len: 1 })
    }

    fn data(offset: u64) -> Frame {
        Frame::Data { file: 7, offset, bytes: vec![1] }
    }

    fn again(log: &mut ControlLog) -> Vec<Frame> {
        std::iter::from_fn(|| log.poll_again().inspect(|frame| log.on_sent(frame))).collect()
    }

    #[test]
    fn what_the_peer_has_not_heard_is_sent_again_in_its_order_and_content_returns() {
        // protocol.md [REJOIN-4]
        let mut log = ControlLog::keeping();
        for sent in [frame(0), data(0), frame(1), data(100), frame(2)] {
            log.on_sent(&sent);
        }
        log.on_heard(1).unwrap();

        assert_eq!(log.resume(2).unwrap(), [(7, 100)]);
        assert_eq!(again(&mut log), [frame(1), frame(2)]);
        // Numbers go on behind what was heard: the two are 2 and 3 now.
        log.on_heard(4).unwrap();
        assert!(log.resume(4).unwrap().is_empty());
        assert_eq!(again(&mut log), []);
    }

    #[test]
    fn a_second_loss_while_frames_are_sent_again_loses_none_and_repeats_none() {
        let mut log = ControlLog::keeping();
        (0..4).for_each(|number| log.on_sent(&frame(number)));
        log.resume(0).unwrap();
        for number in 0..3 {
            let sent = log.poll_again().unwrap();
            assert_eq!(sent, frame(number));
            log.on_sent(&sent);
        }

        log.resume(1).unwrap();

        assert_eq!(again(&mut log), [frame(1), frame(2), frame(3)]);
    }

    #[test]
    fn a_peer_that_hears_what_was_not_sent_or_takes_it_back_breaks_the_protocol() {
        // protocol.md [REJOIN-2]
        let mut log = ControlLog::keeping();
        (0..3).for_each(|number| log.on_sent(&frame(number)));

        assert!(log.on_heard(4).is_err());
        log.on_heard(2).unwrap();
        assert!(log.on_heard(1).is_err());
        assert!(log.resume(u64::MAX).is_err());
        log.on_heard(2).unwrap();
    }

    #[test]
    fn it_is_told_every_so_many_frames_and_not_before() {
        // protocol.md [REJOIN-2]
        let mut log = ControlLog::keeping();
        let mut told = Vec::new();
        for _ in 0..limits::HEARD_EVERY_FRAMES * 2 + 1 {
            log.on_received();
            told.extend(log.poll_heard());
        }
        assert_eq!(told, [limits::HEARD_EVERY_FRAMES, limits::HEARD_EVERY_FRAMES * 2]);
        assert_eq!(log.tell(), limits::HEARD_EVERY_FRAMES * 2 + 1);
    }

    #[test]
    fn a_peer_that_never_hears_costs_bounded_memory_and_the_way_back() {
        let mut log = ControlLog::keeping();
        (0..limits::CONTROL_LOG_MAX_FRAMES as u64).for_each(|number| log.on_sent(&frame(number)));
        assert!(log.is_kept());

        log.on_sent(&frame(0));

        assert!(!log.is_kept());
        assert_eq!(log.on_heard(7), Ok(()));
    }
}
