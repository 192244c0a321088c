//! Does all runs of a plan, one after the other.

use std::time::Duration;

use super::measure;
use super::payload::Payload;
use super::place::{Place, Task};
use super::plan::{Plan, Run};
use super::record::Record;
use crate::run::clock;

/// What is told while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A run begins.
    Begins {
        /// Which of all, from 1 on.
        number: usize,
        /// All.
        of: usize,
        /// Its scenario's name.
        scenario: &'a str,
        /// Who runs.
        contender: &'a str,
    },
    /// It has ended.
    Ended(&'a Record),
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// In the order in which they ran; those that were there before, first.
    pub records: Vec<Record>,
    /// Runs that were left out for want of time.
    pub left_out: usize,
    /// Whether somebody interrupted.
    pub was_interrupted: bool,
}

/// Exit codes of a command that was interrupted: by Ctrl-C, or by `kill`.
const INTERRUPTED: [u8; 2] = [130, 143];

/// Runs the plan. `payloads` are those of the scenarios; `known` are runs that need not run again. `tell` hears how it goes, and
/// may end it by an error.
pub fn run(
    plan: &Plan,
    payloads: &[Payload],
    place: &mut Place,
    known: Vec<Record>,
    tell: &mut dyn FnMut(&Progress<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let started = clock::now();
    let runs = plan.runs();
    let mut outcome = Outcome { records: known, ..Outcome::default() };
    for (number, run) in (1..).zip(&runs) {
        let payload = &payloads[run.scenario];
        let mut task = Task { plan, run: *run, payload, at_most: plan.run_at_most };
        if is_known(&outcome.records, &task, run) {
            continue;
        }
        if let Some(all_at_most) = plan.all_at_most {
            let left = all_at_most.saturating_sub(started.elapsed());
            if left < SHORTEST {
                outcome.left_out += 1;
                continue;
            }
            task.at_most = task.at_most.min(left);
        }
        let (scenario, contender) =
            (&plan.scenarios[run.scenario].name, plan.contenders[run.contender].to_string());
        tell(&Progress::Begins { number, of: runs.len(), scenario, contender: &contender })?;
        let observed = place.run(&task)?;
        let was_interrupted = observed.was_interrupted;
        let record = measure::record(&task, &observed);
        if was_interrupted || (INTERRUPTED.contains(&record.exit_code) && !record.was_cut) {
            outcome.was_interrupted = true;
            break;
        }
        tell(&Progress::Ended(&record))?;
        outcome.records.push(record);
    }
    Ok(outcome)
}

/// A run of less time shows nothing.
const SHORTEST: Duration = Duration::from_secs(2);

fn is_known(records: &[Record], task: &Task<'_>, run: &Run) -> bool {
    let link = task.links().map(|(there, _)| there.to_string());
    let scenario = &task.plan.scenarios[run.scenario].name;
    let contender = task.plan.contenders[run.contender].to_string();
    let is_it = |it: &Record| it.is_run(scenario, link.as_deref(), &contender, run.round, task.payload.bytes);
    records.iter().any(is_it)
}
