//! What a comparison without arguments looks at.

use std::time::Duration;

use crate::compare::plan::{NetworkPath, Scenario};

/// A run that takes longer is ended.
pub(super) const RUN_AT_MOST: Duration = Duration::from_secs(6);
/// No run begins later, so that all is over in a minute.
pub(super) const ALL_AT_MOST: Duration = Duration::from_secs(50);
/// Length of the file over loopback.
const LOOPBACK_BYTES: u64 = 256_000_000;
/// Length of the file to a server of which nothing is known.
pub(super) const SERVER_BYTES: u64 = 64_000_000;

/// Three links that tell: a near one where all do well; a far one with a little loss, where congestion control decides; and one that does
/// everything that a network may do to packets.
const LINKS: [(&str, &str, u64); 3] = [
    ("near", "rtt=4ms,rate=100mbit", 12_000_000),
    ("far, 1 % loss", "rtt=80ms,rate=40mbit,loss=1%", 8_000_000),
    ("all faults", "rtt=40ms,rate=20mbit,loss=2%,reorder=5%,dup=1%,corrupt=0.5%", 3_000_000),
];

/// The scenarios of a quick look.
pub(super) fn quick_look(bytes: Option<u64>) -> Vec<Scenario> {
    let scenario = |(name, spec, usual): &(&str, &str, u64)| {
        let link = spec.parse().expect("a SPEC of ours is one");
        Scenario::over(name, &link, bytes.unwrap_or(*usual))
    };
    LINKS.iter().map(scenario).collect()
}

/// What is left where no link can be made.
pub(super) fn loopback(bytes: Option<u64>) -> Scenario {
    let file_bytes = bytes.unwrap_or(LOOPBACK_BYTES);
    Scenario { name: "loopback".to_owned(), path: NetworkPath::Loopback, file_bytes }
}
