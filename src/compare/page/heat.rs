//! Loss by round trip: what each contender kept of the link, as a map of coloured cells.
//!
//! There is a map where scenarios differ by nothing but loss and round trip. Links that differ otherwise have maps of their own.

use super::number::{DASH, milliseconds, number, percent};
use super::tables::scrolling;
use super::tag::{Tag, tag};
use super::view::{Row, View};
use super::words::Lane;
use crate::link::LinkConfig;

/// Colours of `style.css`, each for an equal part of the link.
const COLOURS: u8 = 10;

/// Scenarios over links that differ by loss and round trip alone.
struct Grid<'a> {
    /// What they have in common.
    common: Lane,
    cells: Vec<Cell<'a>>,
}

struct Cell<'a> {
    loss_percent: f64,
    rtt_s: f64,
    view: &'a View<'a>,
}

/// All maps; empty where no scenarios make one.
pub(super) fn maps(views: &[View<'_>]) -> Vec<Tag> {
    let grids = Grid::all(views);
    let is_one = grids.len() == 1;
    grids.iter().map(|grid| grid.section(is_one)).collect()
}

impl<'a> Grid<'a> {
    fn all(views: &'a [View<'a>]) -> Vec<Self> {
        let mut grids: Vec<Self> = Vec::new();
        for view in views {
            let (Some(lane), Some(run)) = (&view.link, view.any_run()) else { continue };
            let Some(link) = &lane.config else { continue };
            let (Some(loss_percent), Some(rtt_s)) = (run.link_loss_percent, run.link_rtt_s) else { continue };
            let link = LinkConfig { loss: None, rtt: LinkConfig::default().rtt, ..link.clone() };
            let common = Lane { spec: link.to_string(), config: Some(link), trace: lane.trace.clone() };
            let cell = Cell { loss_percent, rtt_s, view };
            match grids.iter_mut().find(|grid| grid.common == common) {
                Some(grid) => grid.cells.push(cell),
                None => grids.push(Self { common, cells: vec![cell] }),
            }
        }
        grids.retain(Self::is_map);
        grids
    }

    /// Whether there is more than one cell, and one scenario in each.
    fn is_map(&self) -> bool {
        let places = || self.cells.iter().map(|cell| (cell.loss_percent, cell.rtt_s));
        self.cells.len() > 1 && places().all(|place| places().filter(|it| *it == place).count() == 1)
    }

    fn section(&self, is_one: bool) -> Tag {
        let mut contenders: Vec<&Row<'_>> = Vec::new();
        for row in self.cells.iter().flat_map(|cell| &cell.view.rows) {
            if !contenders.iter().any(|it| it.contender() == row.contender()) {
                contenders.push(row);
            }
        }
        let which = if is_one { String::new() } else { format!(": {}", self.common_in_words()) };
        tag("section")
            .class("heat")
            .add(tag("h2").text(format_args!("What is kept of the link, by loss and round trip{which}")))
            .add(legend())
            .add(tag("div").class("maps").add_all(contenders.iter().map(|row| self.map(row))))
    }

    fn common_in_words(&self) -> String {
        let words = self.common.in_words();
        // The round trip is not in common.
        words.split("; ").filter(|part| !part.contains("round trip")).collect::<Vec<_>>().join("; ")
    }

    /// One contender's.
    fn map(&self, contender: &Row<'_>) -> Tag {
        let (losses, rtts) = (self.values(|cell| cell.loss_percent), self.values(|cell| cell.rtt_s));
        let head = |rtt_s: &f64| tag("th").with("scope", "col").text(milliseconds(*rtt_s));
        let row = |loss: &f64| {
            let cells = rtts.iter().map(|rtt_s| self.cell(*loss, *rtt_s, contender.contender()));
            tag("tr").add(tag("th").with("scope", "row").text(percent(*loss))).add_all(cells)
        };
        let corner = tag("th").with("scope", "col").text("loss \\ round trip");
        let title = format!("Share of the link that {} kept", contender.contender());
        let table = tag("table")
            .class("map")
            .with("aria-label", &title)
            .add(tag("thead").add(tag("tr").add(corner).add_all(rtts.iter().map(head))))
            .add(tag("tbody").add_all(losses.iter().map(row)));
        let name = tag("p").class("title").add(contender.look.key()).text(contender.contender());
        let note = || tag("p").class("quiet").text("not every file arrived whole");
        let note = self.is_damaged(contender.contender()).then(note);
        tag("div").add(name).add(scrolling(&title, table)).add_all(note)
    }

    fn cell(&self, loss_percent: f64, rtt_s: f64, contender: &str) -> Tag {
        let is_here = |cell: &&Cell<'_>| cell.loss_percent == loss_percent && cell.rtt_s == rtt_s;
        let Some(cell) = self.cells.iter().find(is_here) else { return tag("td").text(DASH) };
        let row = cell.view.rows.iter().find(|row| row.contender() == contender);
        let share = row.and_then(|row| row.summary.link_share_percent.map(|it| it.median));
        let link = tag("a").with("href", format_args!("#{}", cell.view.id("link")));
        match share.filter(|share| share.is_finite() && *share > 0.0) {
            Some(share) => {
                let colours = 0..COLOURS - 1;
                let part = 100.0 / f64::from(COLOURS);
                let colour = colours.take_while(|it| f64::from(it + 1) * part <= share).count();
                tag("td").class(format_args!("h{colour}")).add(link.text(number(share)))
            }
            None => tag("td").add(link.text(if row.is_some() { "failed" } else { DASH })),
        }
    }

    fn is_damaged(&self, contender: &str) -> bool {
        let rows = self.cells.iter().flat_map(|cell| &cell.view.rows);
        rows.filter(|row| row.contender() == contender).any(|row| row.summary.damaged > 0)
    }

    /// Those of an axis, each once, ascending.
    fn values(&self, of: fn(&Cell<'_>) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.cells.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    }
}

/// What the colours say, which the numbers say too.
fn legend() -> Tag {
    let colour = |place: u8| tag("i").class(format_args!("h{place}"));
    tag("p")
        .class("legend")
        .text("Median goodput in percent of the link's rate: ")
        .add(tag("span").class("nowrap").text("0 ").add_all((0..COLOURS).map(colour)).text(" 100"))
}
