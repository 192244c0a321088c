//! What speaks against a run's numbers: a benchmark that does not say this lies.

use super::record::Record;
use crate::emulator::Carried;
use crate::units::counted;

/// What speaks against this run; `carried` is what an emulated link did.
pub(super) fn doubts(record: &Record, carried: Option<&Carried>) -> Vec<String> {
    let mut doubts = Vec::new();
    if cfg!(debug_assertions) {
        doubts.push("this is a debug build of haul".to_owned());
    }
    if record.was_cut {
        doubts.push(format!("it was ended after {:.1} s", record.elapsed_s));
    } else if !record.is_complete() {
        doubts.push(format!("it failed with exit code {}", record.exit_code));
    }
    // One is enough to doubt a run.
    let limits =
        carried.into_iter().flat_map(|it| [&it.there, &it.back]).flat_map(|tally| tally.machine.limits());
    doubts.extend(limits.take(1).map(|limit| format!("this machine was too slow to be this link: {limit}")));
    let of_sender = |name: &str| record.sender_kernel.get(name).copied().unwrap_or(0);
    let of_receiver = |name: &str| record.receiver_kernel.get(name).copied().unwrap_or(0);
    for (packets, what) in [
        (of_sender("Udp.SndbufErrors"), "were dropped by the sender itself: its send buffer was full"),
        (
            of_receiver("Udp.RcvbufErrors"),
            "were dropped by the receiver itself: its socket's buffer was full",
        ),
        (of_receiver("TcpExt.TCPRcvQDrop"), "were dropped by the receiver itself: it had no memory for them"),
    ] {
        if packets > 0 {
            doubts.push(format!("{} {what}", counted(packets, "packet")));
        }
    }
    if record.receiver_kernel.is_empty()
        && let Some(drops) = record.guarantees.receiver_drops.filter(|drops| *drops > 0)
    {
        doubts.push(format!("{} were dropped by the receiver itself", counted(drops, "datagram")));
    }
    if let Some(limit @ ("sender_cpu" | "receiver_cpu" | "source" | "target")) = record.limited_by.as_deref()
    {
        doubts.push(format!("this machine was the limit, not the network: {}", limit.replace('_', "'s ")));
    }
    if let Some(accounts) = record.guarantees.accounts
        && !record.was_cut
        && !accounts.agree()
    {
        doubts.push(format!(
            "the link delivered {} whole and {} damaged datagrams, the receiver counted {} and {}",
            accounts.whole_by_link,
            accounts.damaged_by_link,
            accounts.whole_by_receiver,
            accounts.damaged_by_receiver
        ));
    }
    doubts
}
