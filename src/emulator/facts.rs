//! What a host's programs took and what its kernel counted, read when the last of them has ended.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::system::{Usage, usage_of_children};
use crate::limits;

/// What a host knows of itself at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Processor time, user and system, of all processes that ran there. What the kernel does with an arriving packet
    /// until it lies in its socket mostly happens on the emulator's threads, and is not in it.
    pub cpu: Duration,
    /// The most memory that the largest of these processes had at once, bytes. Never less than what the host's own
    /// process has, a copy of which each of them starts as.
    pub peak_rss_bytes: u64,
    /// What the kernel counted in the host's network since its beginning, such as `Tcp.RetransSegs`, `TcpExt.TCPTimeouts`
    /// or `Udp.RcvbufErrors`, as `/proc/net/snmp` and `/proc/net/netstat` name it; only what is not zero.
    pub counters: BTreeMap<String, u64>,
}

/// Longest name of a counter that is kept, bytes. The kernel's are below 40.
const NAME_MAX_BYTES: usize = 64;
/// What these tables hold beside counters: settings and states.
const NOT_COUNTED: &[&str] = &[
    "Ip.Forwarding",
    "Ip.DefaultTTL",
    "Tcp.RtoAlgorithm",
    "Tcp.RtoMin",
    "Tcp.RtoMax",
    "Tcp.MaxConn",
    "Tcp.CurrEstab",
];

impl HostFacts {
    /// Those of this process's children, all of which have ended, and of its network.
    pub(super) fn read() -> Self {
        let Usage { cpu, peak_rss_bytes } = usage_of_children().unwrap_or_default();
        let mut counters = BTreeMap::new();
        for table in ["snmp", "netstat"] {
            let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
            read_counters(&text, &mut counters);
        }
        Self { cpu, peak_rss_bytes, counters }
    }
}

/// Adds what a table says: two lines for each group, `Tcp: InSegs OutSegs` and `Tcp: 12 0`. Nothing is kept beyond
/// [`limits::LINK_COUNTERS_MAX`].
fn read_counters(table: &str, counters: &mut BTreeMap<String, u64>) {
    let mut lines = table.lines();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (Some((group, names)), Some((same, values))) = (names.split_once(':'), values.split_once(':'))
        else {
            continue;
        };
        if group != same {
            continue;
        }
        for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
            let name = format!("{group}.{name}");
            // A value below zero is a setting.
            let value = value.parse().unwrap_or(0);
            let is_kept = value != 0 && name.len() <= NAME_MAX_BYTES && !NOT_COUNTED.contains(&name.as_str());
            if is_kept && counters.len() < limits::LINK_COUNTERS_MAX {
                counters.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Vec<(String, u64)> {
        let mut counters = BTreeMap::new();
        read_counters(table, &mut counters);
        counters.into_iter().collect()
    }

    #[test]
    fn counters_have_the_name_of_their_group_and_only_those_that_counted_are_kept() {
        let table = "Ip: Forwarding DefaultTTL InReceives\nIp: 1 64 3\n\
                     Tcp: RtoAlgorithm MaxConn InSegs RetransSegs\nTcp: 1 -1 0 212\n\
                     UdpLite: InDatagrams\nUdpLite: 0\n";

        assert_eq!(read(table), [("Ip.InReceives".to_owned(), 3), ("Tcp.RetransSegs".to_owned(), 212)]);
    }

    #[test]
    fn a_table_of_another_form_gives_what_can_be_read() {
        assert_eq!(read(""), []);
        assert_eq!(read("Tcp: InSegs OutSegs\nTcp: 5\n"), [("Tcp.InSegs".to_owned(), 5)]);
        assert_eq!(read("Tcp: InSegs\n"), []);
        assert_eq!(read("Tcp: InSegs\nUdp: 5\n"), []);
        assert_eq!(read("no table\nat all\n"), []);
        assert_eq!(read("Tcp: InSegs\nTcp: 99999999999999999999\n"), []);
    }

    #[test]
    fn no_more_counters_are_kept_than_the_limit_allows() {
        let names: Vec<_> = (0..=limits::LINK_COUNTERS_MAX).map(|it| format!("n{it}")).collect();
        let values = vec!["1"; names.len()];
        let table = format!("T: {}\nT: {}\n", names.join(" "), values.join(" "));

        assert_eq!(read(&table).len(), limits::LINK_COUNTERS_MAX);
        assert_eq!(read(&format!("T: {}\nT: 1\n", "x".repeat(NAME_MAX_BYTES))), []);
    }

    #[test]
    fn a_host_with_as_many_counters_as_are_kept_can_tell_them() {
        let name = |number: usize| format!("{number:0NAME_MAX_BYTES$}");
        let counters = (0..limits::LINK_COUNTERS_MAX).map(|it| (name(it), u64::MAX)).collect();
        let facts = HostFacts { cpu: Duration::MAX, peak_rss_bytes: u64::MAX, counters };

        let told = serde_json::to_vec(&facts).unwrap();

        assert!(told.len() + 1000 < super::super::words::MESSAGE_MAX_BYTES, "{}", told.len());
    }

    #[test]
    fn this_kernel_has_counters() {
        let facts = HostFacts::read();

        assert!(facts.counters.keys().all(|name| name.contains('.')));
    }
}
