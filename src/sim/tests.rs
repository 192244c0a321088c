//! Flows and worlds from seeds: nothing wrong ever happens, and what was begun ends.

use std::time::Duration;

use super::{Cell, Flows, LaneConfig};
use crate::link::LinkConfig;

const ENOUGH: Duration = Duration::from_secs(120);

#[test]
fn a_file_arrives_whole_over_any_path() {
    for spec in [
        "rtt=20ms,rate=100mbit",
        "rtt=20ms,rate=100mbit,loss=5%",
        "rtt=20ms,rate=100mbit,loss=2%,reorder=1%,dup=1%,corrupt=1%,late=25%/20ms",
        "rtt=20ms,rate=100mbit,loss=30%",
    ] {
        for is_push in [true, false] {
            let link: LinkConfig = spec.parse().unwrap();
            let mut flows = Flows::new(&link, &[LaneConfig { is_push, ..LaneConfig::file(4 << 20) }]);

            flows.run(ENOUGH);

            assert!(flows.lanes()[0].is_done(), "{spec} push {is_push}: {:?}", flows.reports()[0].sent);
        }
    }
}

#[test]
fn a_long_path_that_loses_packets_is_filled() {
    let outcome = Cell::new("rtt=100ms,rate=100mbit,loss=2%").file_rtts(40).run(1);

    assert!(outcome.least(|it| it.steady) > 0.9, "{outcome}");
}
