//! What flows over UDP ask of their session and tell it.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    super::{
        flow::FlowHost,
        report::{FlowReport, Move, RawFigures, Travel},
        tcp::{TcpEnd, TcpTally},
    },
    Role, Session, Wakes,
};
use crate::{
    datagram::Placed,
    net::{TcpInfo, Waker},
    transfer::{Carrier, Violation},
    wire::{frame::Frame, message::Message},
};

/// The round-trip time of a path that the kernel says nothing about.
const RTT_GUESS: Duration = Duration::from_millis(100);

impl Session {
    /// As [`Self::attach`], for a flow's thread.
    pub fn attach_thread(&self, carrier: Carrier, waker: Arc<Waker>) {
        self.lock_carriers().insert(carrier, Wakes::Thread(waker));
    }

    /// Flows may be opened from here on.
    pub fn set_flows(&self, host: FlowHost) {
        assert!(self.flows.set(host).is_ok(), "a session has one way to open flows");
    }

    /// Queues a frame about a flow.
    pub fn queue_about_flow(&self, message: Message) {
        self.lock().about_flows.push_back(Frame::Message(message));
        self.wake_control();
    }

    /// A flow was asked for, or granted.
    pub(super) fn on_flow_message(&self, message: &Message) -> Result<(), Violation> {
        let (Some(host), Some(me)) = (self.flows.get(), self.me.upgrade()) else {
            return Err(Violation::new("it speaks of a flow where there is none"));
        };
        match message {
            Message::FlowOpen(open) => {
                let accept = host.on_open(&me, open)?;
                self.queue_about_flow(Message::FlowAccept(accept));
            }
            Message::FlowAccept(accept) => host.on_accept(&me, accept)?,
            _ => unreachable!("only what is about flows comes here"),
        }
        Ok(())
    }

    /// All content goes to this carrier, if it leaves from here.
    pub fn set_only(&self, carrier: Carrier) {
        if let Role::Sender(sender) = &mut self.lock().role {
            sender.set_only(Some(carrier));
        }
        self.wake();
    }

    /// Whether content goes to one carrier only.
    pub fn has_only(&self) -> bool {
        self.look(|role| matches!(role, Role::Sender(sender) if sender.only().is_some()))
    }

    /// Content goes over this raw flow, and over nothing else.
    pub fn set_raw(&self, carrier: Carrier) -> Result<(), Violation> {
        let result = match &mut self.lock().role {
            Role::Sender(sender) => sender.set_raw(carrier),
            Role::Receiver(receiver) => receiver.set_raw(carrier),
            Role::Lister(_) => Err(Violation::new("a listing has no flow")),
        };
        self.wake();
        result
    }

    /// Most bits of content a second that this side sends, if it was told so.
    pub fn rate_bps(&self) -> Option<u64> {
        self.rate_bps
    }

    /// An entry failed at the receiving side; its name is kept if content goes over a raw flow.
    pub fn note_failed(&self, file: u64, name: &[u8]) {
        let mut state = self.lock();
        if matches!(&state.role, Role::Receiver(receiver) if receiver.is_raw()) {
            state.note_raw_name(file, name);
        }
    }

    /// Content moves, and a person is told why.
    pub fn note_move(&self, to: &'static str, why: String) {
        tracing::info!(to, why, "content moves");
        let at_ms = u64::try_from(self.meter.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut travel = self.lock_travel();
        travel.1.push(format!("content goes over {} from here on: {why}", to.to_uppercase()));
        travel.0.moves.push(Move { at_ms, to, why });
    }

    /// What the flow has done.
    pub fn note_flow(&self, flow: FlowReport) {
        self.lock_travel().0.flow = Some(flow);
    }

    /// What a person has not been told yet of how content travels.
    pub fn take_news(&self) -> Vec<String> {
        std::mem::take(&mut self.lock_travel().1)
    }

    /// How content has travelled so far.
    pub fn travel(&self) -> Travel {
        let (by_tcp, by_flow) = self.look(|role| match role {
            Role::Sender(sender) => sender.carried_by(),
            Role::Receiver(receiver) => receiver.carried_by(),
            Role::Lister(_) => (false, false),
        });
        let state = self.lock();
        let (is_raw, report) = match &state.role {
            Role::Sender(sender) => (sender.is_raw(), sender.raw_report()),
            Role::Receiver(receiver) => (receiver.is_raw(), receiver.raw_report()),
            Role::Lister(_) => (false, None),
        };
        let is_receiver = matches!(state.role, Role::Receiver(_));
        let raw = report.map(|(sent, report)| RawFigures::new(sent, report, &state.raw_names));
        drop(state);
        let transport = match (by_tcp, by_flow) {
            _ if is_raw => "udp-raw",
            (_, false) => "tcp",
            (false, true) => "udp",
            (true, true) => "tcp+udp",
        };
        let tcp = self.lock_tcp().figures(is_receiver);
        Travel { transport, tcp, raw, ..self.lock_travel().0.clone() }
    }

    pub(super) fn lock_travel(&self) -> MutexGuard<'_, (Travel, Vec<String>)> {
        self.travel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a carrier is gone for the other side.
    pub fn is_down(&self, carrier: Carrier) -> bool {
        self.look(|role| match role {
            Role::Sender(sender) => sender.is_down(carrier),
            Role::Receiver(receiver) => receiver.is_down(carrier),
            Role::Lister(_) => false,
        })
    }

    /// What a flow's sender has heard: credit, and chunks that are placed.
    pub fn on_flow_heard(&self, credit: u64, placed: &[Placed]) {
        let mut state = self.lock();
        if let Role::Sender(sender) = &mut state.role {
            sender.on_flow_credit(credit);
            for chunk in placed {
                sender.on_flow_placed(chunk.file, chunk.offset);
            }
        }
        drop(state);
        if !placed.is_empty() {
            self.work.notify_all();
        }
    }

    /// What a flow's receiver has to tell: chunks that were placed, and the credit.
    pub fn flow_state(&self, carrier: Carrier) -> (Vec<(u64, u64)>, u64) {
        let mut state = self.lock();
        let Role::Receiver(receiver) = &mut state.role else { return (Vec::new(), 0) };
        let placed = receiver.take_placed_of_flows();
        let placed = placed.into_iter().filter(|(of, ..)| *of == carrier);
        (placed.map(|(_, file, offset)| (file, offset)).collect(), receiver.grant())
    }

    /// Content that may still come, bytes.
    pub fn flow_room(&self) -> u64 {
        self.look(|role| if let Role::Receiver(receiver) = role { receiver.room() } else { 0 })
    }

    /// What the kernel knows of a TCP connection.
    pub fn note_tcp(&self, carrier: Carrier, info: TcpInfo) {
        self.lock_tcp().note(carrier, info);
    }

    /// A TCP connection is gone, with what it has counted.
    pub fn note_tcp_end(&self, carrier: Carrier, end: TcpEnd) {
        self.lock_tcp().note_end(carrier, end);
    }

    /// Bytes that the kernel has sent over TCP in this session, and those of them that it sent again.
    pub fn tcp_bytes(&self) -> (u64, u64) {
        self.lock_tcp().bytes()
    }

    /// The round-trip time of the control connection.
    pub fn path_rtt(&self) -> Duration {
        self.lock_tcp().control_rtt().unwrap_or(RTT_GUESS)
    }

    fn lock_tcp(&self) -> MutexGuard<'_, TcpTally> {
        self.tcp.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
