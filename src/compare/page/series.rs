//! From a run's timeline to the points of a line: of neither more nor other than can be seen.

use super::super::record::{Record, Timeline};
use crate::link::LinkConfig;

/// Moments in seconds, each with a value.
pub(super) type Points = Vec<(f64, f64)>;

/// One value for the points from a moment to another.
pub(super) type Together = fn(&[(f64, f64)], f64, f64) -> Option<f64>;

/// A plot has no more columns of pixels than this on most screens.
const POINTS_MAX: usize = 600;
/// Points of one kind of plot on the whole page; some megabytes.
const POINTS_OF_ALL: usize = 12_000;
/// Below that, a line tells nothing of the time.
const POINTS_MIN: usize = 60;

/// How many points a line has at most, on a page of so many scenarios.
pub(super) fn points_max(scenarios: usize) -> usize {
    (POINTS_OF_ALL / scenarios.max(1)).clamp(POINTS_MIN, POINTS_MAX)
}

/// What arrived, Mbit/s, in the middle of each interval.
pub(super) fn arriving(run: &Record, points_max: usize) -> Points {
    let Some(time) = Time::of(run, points_max) else { return Points::new() };
    let rate = |bytes: &[u64], length_s: f64| total(bytes) as f64 * 8.0 / length_s / 1e6;
    let bytes = &time.line.delivered_bytes;
    time.points(bytes, |part, from_s, to_s| ((from_s + to_s) / 2.0, rate(part, to_s - from_s)))
}

/// Packets dropped up to the end of each interval, since the start.
pub(super) fn dropped(run: &Record, points_max: usize) -> Points {
    let Some(time) = Time::of(run, points_max) else { return Points::new() };
    let mut sum = 0_u64;
    let packets = &time.line.dropped_packets;
    let mut points = time.points(packets, |part, _, to_s| {
        sum = sum.saturating_add(total(part));
        (to_s, sum as f64)
    });
    if !points.is_empty() {
        points.insert(0, (0.0, 0.0));
    }
    points
}

/// The link's round trip and the wait in its queue, ms, in the middle of each interval.
pub(super) fn round_trip(run: &Record, points_max: usize) -> Points {
    let Some(time) = Time::of(run, points_max) else { return Points::new() };
    let base_s = run.link_rtt_s.unwrap_or(0.0);
    let mean = |delays: &[f64]| delays.iter().sum::<f64>() / delays.len() as f64;
    let delays = &time.line.queue_delay_s;
    time.points(delays, |part, from_s, to_s| ((from_s + to_s) / 2.0, 1e3 * (base_s + mean(part))))
}

/// The link's rate, Mbit/s, until a moment: it is a line with steps.
pub(super) fn link_rate(link: &LinkConfig, until_s: f64) -> Points {
    let Some(line) = &link.bottleneck else { return Points::new() };
    let megabits = |rate: u64| rate as f64 / 1e6;
    let mut rate = megabits(line.bits_per_s);
    let mut points = vec![(0.0, rate)];
    for step in line.steps.iter().filter(|step| step.at.as_secs_f64() < until_s) {
        points.push((step.at.as_secs_f64(), rate));
        rate = megabits(step.bits_per_s);
        points.push((step.at.as_secs_f64(), rate));
    }
    points.push((until_s, rate));
    points
}

/// Means of the points between `from_s` and `to_s`.
pub(super) fn mean(points: &[(f64, f64)], from_s: f64, to_s: f64) -> Option<f64> {
    let inside: Vec<f64> = points.iter().filter(|it| it.0 >= from_s && it.0 < to_s).map(|it| it.1).collect();
    (!inside.is_empty()).then(|| inside.iter().sum::<f64>() / inside.len() as f64)
}

/// The last of the points up to `to_s`, if it has not been told before `from_s`.
pub(super) fn last(points: &[(f64, f64)], from_s: f64, to_s: f64) -> Option<f64> {
    points.iter().rfind(|it| it.0 <= to_s).filter(|it| it.0 > from_s).map(|it| it.1)
}

/// A timeline as far as something happened in it, and how many intervals make a point.
struct Time<'a> {
    line: &'a Timeline,
    intervals: usize,
    together: usize,
}

impl<'a> Time<'a> {
    fn of(run: &'a Record, points_max: usize) -> Option<Self> {
        let line = run.timeline.as_ref()?;
        let happened = |counts: &[u64]| counts.iter().rposition(|it| *it > 0).map_or(0, |last| last + 1);
        let intervals = happened(&line.delivered_bytes).max(happened(&line.dropped_packets));
        let together = intervals.div_ceil(points_max).max(1);
        (line.interval_s > 0.0).then_some(Self { line, intervals, together })
    }

    /// A point of each part, from its values, its start and its end.
    fn points<T>(&self, values: &[T], mut point: impl FnMut(&[T], f64, f64) -> (f64, f64)) -> Points {
        let seen = &values[..values.len().min(self.intervals)];
        let mut first = 0;
        let mut points = Points::new();
        for part in seen.chunks(self.together) {
            let from_s = first as f64 * self.line.interval_s;
            first += part.len();
            points.push(point(part, from_s, first as f64 * self.line.interval_s));
        }
        points.retain(|(at, value)| at.is_finite() && value.is_finite());
        points
    }
}

fn total(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, it| sum.saturating_add(*it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::page::tests::links;

    fn run(interval_s: f64, delivered_bytes: Vec<u64>) -> Record {
        let intervals = delivered_bytes.len();
        let dropped_packets = vec![1; intervals];
        let queue_delay_s = vec![0.02; intervals];
        let timeline = Timeline { interval_s, delivered_bytes, dropped_packets, queue_delay_s };
        let first = links().runs.swap_remove(0);
        Record { timeline: Some(timeline), link_rtt_s: Some(0.08), ..first }
    }

    #[test]
    fn a_line_says_what_arrived_in_bits_and_when() {
        let run = run(0.1, vec![500_000, 250_000]);

        assert_eq!(arriving(&run, 600), [(0.05, 40.0), (0.15000000000000002, 20.0)]);
        assert_eq!(dropped(&run, 600), [(0.0, 0.0), (0.1, 1.0), (0.2, 2.0)]);
        assert_eq!(round_trip(&run, 600).len(), 2);
        assert!((round_trip(&run, 600)[0].1 - 100.0).abs() < 1e-9);
    }

    #[test]
    fn a_long_timeline_has_no_more_points_and_the_same_mean() {
        let run = run(0.1, vec![500_000; 100_000]);

        let points = arriving(&run, 600);
        assert!(points.len() <= 600);
        assert!(points.iter().all(|point| (point.1 - 40.0).abs() < 1e-9));
        assert_eq!(dropped(&run, 600).last().unwrap().1, 100_000.0);
    }

    #[test]
    fn what_is_no_number_is_no_point() {
        assert!(arriving(&run(0.0, vec![1]), 600).is_empty());
        assert!(arriving(&run(f64::NAN, vec![1]), 600).is_empty());
        assert!(arriving(&run(1e-320, vec![u64::MAX; 2]), 600).is_empty());
        assert!(arriving(&run(0.1, Vec::new()), 600).is_empty());
    }

    #[test]
    fn the_links_rate_has_the_steps_of_its_schedule() {
        let link = "rtt=1ms,rate=40mbit,step=2s:10mbit/9s:1mbit".parse().unwrap();

        assert_eq!(link_rate(&link, 5.0), [(0.0, 40.0), (2.0, 40.0), (2.0, 10.0), (5.0, 10.0)]);
    }
}
