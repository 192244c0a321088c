//! How a session outlives its control connection: while content goes on over UDP, the client dials another one, which
//! goes on where the last one ended. protocol.md, section 12.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    super::{
        clock,
        error::{Cause, RunError},
    },
    Session, State,
};
use crate::{
    limits,
    security::Side,
    transfer::{ControlLog, Violation},
};

/// How often it is asked whether the session still waits for a control connection.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The control connections of a session, one after the other.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// What went over them.
    pub log: ControlLog,
    /// Which of them may speak; the first is 0.
    turn: u32,
    /// Which of them is there.
    attached: Option<u32>,
    /// Since when it counts as gone, and why.
    lost: Option<(Instant, RunError)>,
}

impl Session {
    /// It may outlive its control connection, whose frames are kept from here on.
    pub fn keep_control(&self) {
        self.lock().control.log = ControlLog::keeping();
    }

    /// Whether it may outlive its control connection.
    pub fn may_outlive_control(&self) -> bool {
        self.lock().control.log.is_kept()
    }

    /// The peer knows no other control connection than the first.
    pub fn forget_control(&self) {
        self.lock().control.log.forget();
    }

    /// Whether it lives without a control connection.
    pub fn is_adrift(&self) -> bool {
        self.lock().control.lost.is_some()
    }

    /// Whether this control connection is the one that may speak.
    pub fn has_turn(&self, turn: u32) -> bool {
        self.lock().control.turn == turn
    }

    /// Whether a control connection whose last byte came at `heard_at` counts as lost, since UDP is not silent.
    /// protocol.md [REJOIN-3]
    pub fn is_control_lost(&self, heard_at: Instant) -> bool {
        let is_client = self.flows.get().is_some_and(|host| host.side == Side::Client);
        let most = if is_client { limits::REJOIN_AFTER } else { limits::REJOIN_WITHIN };
        self.may_outlive_control() && self.lock_heard().flow_alone_for(clock::now(), heard_at) >= most
    }

    /// A control connection ends, whose last byte came at `heard_at`. Whether the session goes on without it, for a
    /// while.
    pub(super) fn leave_control(&self, turn: u32, heard_at: Instant, error: Option<&RunError>) -> bool {
        let (now, heard) = (clock::now(), *self.lock_heard());
        let cut_off = RunError::cut_off(&self.peer());
        let mut state = self.lock();
        let State { control, end, .. } = &mut *state;
        if control.attached == Some(turn) {
            control.attached = None;
        }
        let is_passing = error.is_none_or(|error| matches!(error.cause, Cause::Connection | Cause::TimedOut));
        let has_followed = control.turn != turn;
        let outlives = end.is_none()
            && (has_followed || (is_passing && control.log.is_kept() && heard.flow_is_fresh(now)));
        if outlives && control.lost.is_none() {
            let since = now.checked_sub(heard.flow_alone_for(now, heard_at)).unwrap_or(now);
            control.lost = Some((since, error.cloned().unwrap_or(cut_off)));
            tracing::info!(error = error.map(|e| &e.text), "the control connection is gone");
        }
        drop(state);
        self.control_left.notify_waiters();
        outlives
    }

    /// Waits while the session lives without a control connection, and ends it after too long. Returns when there is
    /// one, or the session is over. protocol.md [REJOIN-3]
    pub async fn await_control(&self) {
        while !self.is_over() {
            let Some((since, error)) = self.lock().control.lost.clone() else { return };
            let now = clock::now();
            if now >= since + limits::REJOIN_WITHIN || !self.lock_heard().flow_is_fresh(now) {
                self.finish(Err(error));
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Another control connection is there: the last one leaves. Gives the turn of the new one, and how many frames
    /// of the peer were taken so far.
    pub async fn call_control(&self) -> (u32, u64) {
        let turn = {
            let control = &mut self.lock().control;
            control.turn += 1;
            control.turn
        };
        self.wake_control();
        loop {
            let left = self.control_left.notified();
            {
                let control = &mut self.lock().control;
                if control.attached.is_none() || control.turn != turn {
                    return (turn, control.log.tell());
                }
            }
            left.await;
        }
    }

    /// The control connection of this turn goes on behind the frames that the peer has taken; `false` if the session
    /// is over, or another has followed. protocol.md [REJOIN-4]
    pub fn resume_control(&self, turn: u32, frames: u64) -> Result<bool, Violation> {
        let mut state = self.lock();
        let State { control, role, end, .. } = &mut *state;
        if control.turn != turn || end.is_some() {
            return Ok(false);
        }
        let lost = control.log.resume(frames)?;
        if let super::Role::Sender(sender) = role {
            lost.into_iter().for_each(|(file, offset)| sender.on_content_lost(file, offset));
        }
        control.attached = Some(turn);
        control.lost = None;
        drop(state);
        let mut travel = self.lock_travel();
        travel.0.rejoined += 1;
        travel.1.push("the TCP connection was lost and another one goes on".to_owned());
        drop(travel);
        tracing::info!("another control connection goes on");
        self.wake();
        Ok(true)
    }
}

impl Control {
    /// The first connection, or one that [`Session::resume_control`] has let in, is there.
    pub fn attach(&mut self, turn: u32) {
        if self.turn == turn {
            self.attached = Some(turn);
        }
    }
}
