//! A comparison as the page goes through it: scenario by scenario, contender by contender.

use super::super::comparison::Comparison;
use super::super::record::Record;
use super::super::summary::Summary;
use super::super::table::typical;
use super::tag::{Tag, tag};
use super::words::Lane;

/// One scenario.
pub(super) struct View<'a> {
    /// Which of all, from 0 on.
    pub(super) index: usize,
    /// Its name.
    pub(super) name: &'a str,
    /// The link that content crosses, if it is an emulated one.
    pub(super) link: Option<Lane>,
    /// The link of the other direction, if it differs.
    pub(super) back: Option<Lane>,
    /// All who ran.
    pub(super) rows: Vec<Row<'a>>,
}

/// One contender in a scenario.
pub(super) struct Row<'a> {
    /// How it is drawn.
    pub(super) look: Look,
    /// Who, and what it does.
    pub(super) summary: &'a Summary,
    /// Its runs, without warm-up.
    pub(super) runs: Vec<&'a Record>,
    /// The one of them whose goodput is nearest to the median.
    pub(super) typical: Option<&'a Record>,
}

/// How a contender is drawn everywhere: a colour, and a dash for those who see no colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    place: usize,
}

/// Colours in `style.css`.
const COLOURS: usize = 7;
/// Dashes in `style.css`. They repeat at another place than the colours do, so that 35 contenders differ.
const DASHES: usize = 5;

impl<'a> View<'a> {
    /// All scenarios, in the order of the comparison.
    pub(super) fn all(comparison: &'a Comparison) -> Vec<Self> {
        let (mut names, mut contenders): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for summary in &comparison.summaries {
            for (known, name) in [(&mut names, &summary.scenario), (&mut contenders, &summary.contender)] {
                if !known.contains(&name.as_str()) {
                    known.push(name);
                }
            }
        }
        let view = |(index, name): (usize, &&'a str)| Self::of(comparison, index, name, &contenders);
        names.iter().enumerate().map(view).collect()
    }

    fn of(comparison: &'a Comparison, index: usize, name: &'a str, contenders: &[&str]) -> Self {
        let runs: Vec<&Record> =
            comparison.runs.iter().filter(|it| it.scenario == name && !it.is_warmup).collect();
        let row = |summary: &'a Summary| Row {
            look: Look { place: contenders.iter().position(|it| *it == summary.contender).unwrap_or(0) },
            summary,
            runs: runs.iter().filter(|it| it.contender == summary.contender).copied().collect(),
            typical: typical(&runs, summary),
        };
        let rows = comparison.summaries.iter().filter(|it| it.scenario == name).map(row).collect();
        let first = runs.first();
        let lane = |run: &&Record| Some(Lane::new(run.link.as_ref()?, run.link_rate_bits_per_s));
        // Its rate was not recorded, and a trace is not read again.
        let back = |run: &&Record| Some(Lane::new(run.back_link.as_ref()?, None));
        Self { index, name, link: first.and_then(lane), back: first.and_then(back), rows }
    }

    /// One of its runs: what is the same in all can be had from it.
    pub(super) fn any_run(&self) -> Option<&'a Record> {
        self.rows.iter().find_map(|row| row.runs.first().copied())
    }

    /// How many runs each contender has that were to count.
    pub(super) fn runs_each(&self) -> usize {
        self.rows.iter().map(|row| row.runs.len()).max().unwrap_or(0)
    }

    /// What an anchor calls one of its parts.
    pub(super) fn id(&self, part: &str) -> String {
        format!("s{}-{part}", self.index)
    }
}

impl Row<'_> {
    /// Its name.
    pub(super) fn contender(&self) -> &str {
        &self.summary.contender
    }

    /// Median goodput, if any run got so far as to have one.
    pub(super) fn goodput_bits_per_s(&self) -> Option<f64> {
        Some(self.summary.goodput_bits_per_s.median).filter(|rate| rate.is_finite() && *rate > 0.0)
    }

    /// The head of its line in a table.
    pub(super) fn head(&self) -> Tag {
        tag("th").with("scope", "row").add(self.look.key()).add(tag("span").text(self.contender()))
    }
}

impl Look {
    /// The classes of what is drawn so.
    pub(super) fn class(self) -> String {
        format!("c{} d{}", self.place % COLOURS, self.place % DASHES)
    }

    /// A short piece of its line, beside its name.
    pub(super) fn key(self) -> Tag {
        let line = tag("path").class(format_args!("line {}", self.class())).with("d", "M1 5H33");
        tag("svg").class("key").with("viewBox", "0 0 34 10").with("aria-hidden", "true").add(line)
    }
}
