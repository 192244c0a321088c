//! Random, changed, cut and old datagrams against both ends of a flow at work.

use std::time::{Duration, Instant};

use haul::link::LinkConfig;
use haul::sim::{Flows, LaneConfig};

use crate::{ledger, setting};

/// Forgeries for each datagram that is none.
const EACH: u32 = 20;
const ENOUGH: Duration = Duration::from_secs(600);

#[test]
#[ignore = "a campaign: a minute"]
#[expect(clippy::disallowed_methods, reason = "a campaign is measured on the real clock")]
fn forgeries() {
    let count: u64 = setting("HAUL_FORGERIES", 1_000_000);
    let begun = Instant::now();
    let mut made = 0;
    let mut seed = 0;

    while made < count {
        seed += 1;
        for is_push in [true, false] {
            let spec = format!("rtt=20ms,rate=50mbit,loss=2%,reorder=2%,dup=2%,corrupt=2%,seed={seed}");
            let link: LinkConfig = spec.parse().expect("a link");
            let lane = LaneConfig { is_push, key_update_after: 64, ..LaneConfig::file(4 << 20) };
            let mut flows = Flows::new(&link, &[lane]).forged(seed, EACH);

            flows.run(ENOUGH);

            assert!(flows.lanes()[0].is_done(), "seed {seed}, push {is_push}: {:?}", flows.reports()[0].sent);
            made += flows.forgeries();
        }
    }

    ledger::add("forgeries", &made.to_string(), 0, begun.elapsed());
}
