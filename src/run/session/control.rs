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
    /// Since when there is none, and why.
    lost: Option<(Instant, RunError)>,
    /// Between which times the flow was heard without a long break.
    flow_heard: Option<(Instant, Instant)>,
    /// When something came last over UDP, on a flow of any kind.
    udp_heard: Option<Instant>,
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

    /// Something came on a flow of any kind.
    pub fn note_udp_heard(&self, at: Instant) {
        let heard = &mut self.lock().control.udp_heard;
        *heard = (*heard).max(Some(at));
    }

    /// Something came on the flow.
    pub fn note_flow_heard(&self, at: Instant) {
        self.note_udp_heard(at);
        let heard = &mut self.lock().control.flow_heard;
        *heard = match *heard {
            Some((since, last)) if at.duration_since(last) < limits::FLOW_FRESH => {
                Some((since, at.max(last)))
            }
            _ => Some((at, at)),
        };
    }

    /// Whether it lives without a control connection.
    pub fn is_adrift(&self) -> bool {
        self.lock().control.lost.is_some()
    }

    /// Whether this control connection is the one that may speak.
    pub fn has_turn(&self, turn: u32) -> bool {
        self.lock().control.turn == turn
    }

    /// Whether a control connection that has been silent for so long counts as lost, since UDP is not silent.
    /// protocol.md [REJOIN-3]
    pub fn is_control_lost(&self, silent_for: Duration) -> bool {
        let is_client = self.flows.get().is_some_and(|host| host.side == Side::Client);
        let most = if is_client { limits::REJOIN_AFTER } else { limits::REJOIN_WITHIN };
        let control = &self.lock().control;
        control.log.is_kept() && control.flow_heard_for().is_some_and(|heard| heard.min(silent_for) >= most)
    }

    /// A control connection ends. Whether the session goes on without it, for a while.
    pub(super) fn leave_control(&self, turn: u32, silent_for: Duration, error: Option<&RunError>) -> bool {
        let cut_off = RunError::cut_off(&self.peer());
        let mut state = self.lock();
        let State { control, end, .. } = &mut *state;
        if control.attached == Some(turn) {
            control.attached = None;
        }
        let is_passing = error.is_none_or(|error| matches!(error.cause, Cause::Connection | Cause::TimedOut));
        let has_followed = control.turn != turn;
        let outlives = end.is_none()
            && (has_followed || (is_passing && control.log.is_kept() && control.flow_heard_for().is_some()));
        if outlives && control.lost.is_none() {
            let since = clock::now().checked_sub(silent_for).unwrap_or_else(clock::now);
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
            let (lost, is_fresh) = {
                let control = &self.lock().control;
                (control.lost.clone(), control.flow_heard_for().is_some())
            };
            let Some((since, error)) = lost else { return };
            if clock::now() >= since + limits::REJOIN_WITHIN || !is_fresh {
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

    /// For how long nothing came over UDP, if anything ever did.
    pub fn udp_silent_for(&self) -> Option<Duration> {
        self.udp_heard.map(|at| clock::now().saturating_duration_since(at))
    }

    /// For how long the flow has been heard up to now; `None` if it is silent.
    fn flow_heard_for(&self) -> Option<Duration> {
        let (since, last) = self.flow_heard?;
        let now = clock::now();
        (now.saturating_duration_since(last) < limits::FLOW_FRESH)
            .then(|| now.saturating_duration_since(since))
    }
}
