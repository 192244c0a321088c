//! Networks that fail for long, in the middle of a transfer: a blackout of a minute, nothing one way, an address that
//! changes, UDP that is blocked after ten seconds; each over every transport, both ways, with the defaults of a person.
//!
//! Each transfer ends well by itself, but where UDP was asked for by name and is blocked: that ends in words, and the same
//! command over TCP is for the person to run. What it tells is how long after the fault content flowed again.

use std::fmt::Write as _;

use haul::run::clock;

use crate::common::can_have_hosts;
use crate::common::hosts::{Crossed, Crossing, TEN_SECONDS_ON, UDP_BLOCKED};
use crate::{ledger, on_all};

/// What happens, how long it lasts, in seconds, and the link there, the link back, and what is done meanwhile.
const FAULTS: [Fault; 5] = [
    Fault { name: "blackout of 60 s", lasts_s: 60.0, there: DARK_60, back: DARK_60, meanwhile: ":" },
    Fault { name: "20 s of nothing there", lasts_s: 20.0, there: DARK_20, back: CLEAN, meanwhile: ":" },
    Fault { name: "20 s of nothing back", lasts_s: 20.0, there: CLEAN, back: DARK_20, meanwhile: ":" },
    Fault { name: "another address", lasts_s: 0.0, there: CLEAN, back: CLEAN, meanwhile: MOVED },
    Fault { name: "UDP blocked", lasts_s: 0.0, there: CLEAN, back: CLEAN, meanwhile: UDP_BLOCKED },
];

const CLEAN: &str = "rtt=30ms,rate=8mbit,loss=0.2%";
const DARK_60: &str = "rtt=30ms,rate=8mbit,loss=0.2%,blackout=8s+60s";
const DARK_20: &str = "rtt=30ms,rate=8mbit,loss=0.2%,blackout=8s+20s";
const MOVED: &str = "ip addr del 10.77.0.1/24 dev haul0; ip addr add 10.77.0.5/24 dev haul0";

struct Fault {
    name: &'static str,
    lasts_s: f64,
    there: &'static str,
    back: &'static str,
    meanwhile: &'static str,
}

#[test]
#[ignore = "a campaign: minutes to hours"]
#[expect(clippy::print_stderr, reason = "what a campaign found out is for the person who runs it")]
fn outages() {
    if !can_have_hosts() {
        return;
    }
    let begun = clock::now();
    let (mut told, mut failures) = (Vec::new(), Vec::new());

    for fault in &FAULTS {
        let meanwhile = format!("{TEN_SECONDS_ON}; {}", fault.meanwhile);
        let like = Crossing {
            there: fault.there,
            back: fault.back,
            bytes: 16_000_000,
            meanwhile: &meanwhile,
            ..Crossing::default()
        };
        let crossings = Crossing::each_way(like);
        let mut line = fault.name.to_owned();
        for (crossing, crossed) in crossings.iter().zip(on_all(&crossings, Crossing::run)) {
            let Crossing { transport, way, .. } = crossing;
            let after_s = crossed.pause_s - fault.lasts_s;
            let _ = write!(
                line,
                ", {transport} {way} {}",
                if crossed.code == 0 { format!("{after_s:.1} s") } else { format!("exit {}", crossed.code) }
            );
            if !is_right(fault, crossing, &crossed) {
                failures.push(format!("{}: {crossing:?}: {crossed}", fault.name));
            }
        }
        eprintln!("{line}");
        told.push(line);
    }

    let took = clock::now().duration_since(begun);
    ledger::add("outages", &format!("flows again after: {}", told.join("; ")), failures.len(), took);
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Whether it ended as it is to.
fn is_right(fault: &Fault, crossing: &Crossing<'_>, crossed: &Crossed) -> bool {
    if fault.meanwhile == UDP_BLOCKED && crossing.transport == "udp" {
        return crossed.code == 11 && crossed.stderr.contains("use --transport auto or tcp");
    }
    crossed.code == 0 && crossed.is_same && crossed.left.is_empty()
}
