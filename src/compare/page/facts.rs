//! Where all of it was measured, and the commands that do it again.

use super::super::comparison::Comparison;
use super::super::machine::Machine;
use super::number::{DASH, count, moment};
use super::tables::scrolling;
use super::tag::{Tag, tag};
use super::view::{Row, View};
use crate::units;

/// The end of the page.
pub(super) fn facts(comparison: &Comparison, views: &[View<'_>]) -> [Tag; 2] {
    let machine = tag("section")
        .with("id", "machine")
        .add(tag("h2").text("Machine and build"))
        .add(machine(&comparison.machine));
    let commands = tag("section")
        .with("id", "commands")
        .add(tag("h2").text("Commands"))
        .add(tag("p").text("All of it again:"))
        .add(code("The command that does all of it again", &comparison.reproduce))
        .add(tag("p").text("One run of each contender, as it was done; the link stands above:"))
        .add_all(contenders(views).into_iter().flat_map(|row| commands(row)));
    [machine, commands]
}

fn machine(machine: &Machine) -> Tag {
    let bytes = |bytes: u64| if bytes == 0 { DASH.to_owned() } else { units::bytes(bytes) };
    let known = |text: &str| if text.is_empty() { DASH.to_owned() } else { text.to_owned() };
    let facts = [
        ("haul", format!("{}, {} build", machine.haul, machine.build)),
        ("measured", moment(machine.unix_time_s)),
        ("kernel", known(&machine.kernel)),
        ("processor", format!("{} × {}", count(machine.cpus as u64), known(&machine.cpu))),
        ("the system's TCP", known(&machine.tcp_congestion)),
        ("largest receive buffer", bytes(machine.rmem_max_bytes)),
        ("largest send buffer", bytes(machine.wmem_max_bytes)),
    ];
    let fact = |(name, fact): (&str, String)| [tag("dt").text(name), tag("dd").text(fact)];
    tag("dl").class("facts").add_all(facts.into_iter().flat_map(fact))
}

/// Each once, where it ran first.
fn contenders<'a>(views: &'a [View<'a>]) -> Vec<&'a Row<'a>> {
    let mut rows: Vec<&Row<'_>> = Vec::new();
    for row in views.iter().flat_map(|view| &view.rows) {
        if row.typical.is_some() && !rows.iter().any(|it| it.contender() == row.contender()) {
            rows.push(row);
        }
    }
    rows
}

fn commands(row: &Row<'_>) -> Vec<Tag> {
    let Some(run) = row.typical else { return Vec::new() };
    let mut told = vec![
        tag("h3").add(row.look.key()).text(row.contender()),
        code(&format!("Command of {}", row.contender()), &run.command),
    ];
    if let Some(peer) = &run.peer_command {
        told.push(tag("p").class("quiet").text("and on the receiving host"));
        told.push(code(&format!("Command of {} on the receiving host", row.contender()), peer));
    }
    told
}

fn code(name: &str, command: &str) -> Tag {
    scrolling(name, tag("pre").add(tag("code").text(command)))
}
