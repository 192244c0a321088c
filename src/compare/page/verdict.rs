//! Who was fastest, in one line.

use super::number::{list, number, rate};
use super::view::{Row, View};

/// From this factor on, a ratio is said in times, below in percent.
const TIMES: f64 = 1.95;
/// Below this one, nobody would see it.
const SEEN: f64 = 1.01;

/// The verdict on a scenario.
pub(super) fn verdict(view: &View<'_>) -> String {
    let mut moved: Vec<(&Row<'_>, f64)> =
        view.rows.iter().filter_map(|row| Some((row, row.goodput_bits_per_s()?))).collect();
    moved.sort_by(|a, b| b.1.total_cmp(&a.1));
    // Where nobody can see what arrived, nothing is known to be wrong with it; what was ended has not brought it all.
    let is_whole = |row: &Row<'_>| row.summary.damaged == 0 && row.summary.runs > 0;
    let (whole, parts): (Vec<_>, Vec<_>) = moved.into_iter().partition(|(row, _)| is_whole(row));
    let mut sentences = vec![match whole.as_slice() {
        [] if parts.is_empty() => "nothing arrived".to_owned(),
        [] => "no file arrived whole".to_owned(),
        [(only, goodput)] => {
            format!("{} is the only one whose file arrived whole: {}", only.contender(), rate(*goodput))
        }
        [fastest, next, ..] => of_two(*fastest, *next),
    }];
    if !parts.is_empty() {
        let part = |(row, goodput): &(&Row<'_>, f64)| format!("{} ({})", row.contender(), rate(*goodput));
        let parts: Vec<String> = parts.iter().map(part).collect();
        sentences.push(format!("{} did not bring the whole file", list(&parts)));
    }
    let failed: Vec<&str> = view
        .rows
        .iter()
        .filter(|row| row.goodput_bits_per_s().is_none())
        .map(|row| row.contender())
        .collect();
    if !failed.is_empty() && failed.len() < view.rows.len() {
        sentences.push(format!("{} failed", list(&failed)));
    }
    sentences.join("; ")
}

fn of_two((fastest, most): (&Row<'_>, f64), (next, less): (&Row<'_>, f64)) -> String {
    let (first, second) = (fastest.contender(), next.contender());
    let (spread, other) = (fastest.summary.goodput_bits_per_s, next.summary.goodput_bits_per_s);
    if fastest.runs.len() > 1 && next.runs.len() > 1 && other.max >= spread.min {
        let both = format!("{first} with {} and {second} with {}", rate(most), rate(less));
        return format!("{both}: no clear winner, their runs overlap");
    }
    let ratio = most / less;
    let faster = match ratio {
        TIMES.. => format!("{} times", number(ratio)),
        SEEN..TIMES => format!("{:.0} % more than", 100.0 * (ratio - 1.0)),
        _ => "hardly more than".to_owned(),
    };
    format!("{first} is fastest with {}, {faster} {second} with {}", rate(most), rate(less))
}
