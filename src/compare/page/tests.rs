//! The page as a whole: nothing that is unknown, hostile or empty makes it a page that is wrong.

use std::collections::BTreeMap;

use super::*;
use crate::compare::record::Record;
use crate::compare::summary::{Spread, Summary};

/// Two links, three contenders, three runs of each, with timelines.
pub(super) fn links() -> Comparison {
    serde_json::from_str(include_str!("../../../fixtures/compare/links.json")).unwrap()
}

/// Three losses by three round trips, one run of each contender, without timelines.
fn grid() -> Comparison {
    serde_json::from_str(include_str!("../../../fixtures/compare/grid.json")).unwrap()
}

/// With what follows from changed runs.
fn with_runs(change: impl FnMut(&mut Record)) -> Comparison {
    let mut it = links();
    it.runs.iter_mut().for_each(change);
    it.summaries = Summary::all(&it.runs);
    it
}

#[test]
fn the_page_has_everything_and_is_well_formed() {
    for comparison in [links(), grid()] {
        let page = page(&comparison);

        assert_well_formed(&page);
        for summary in &comparison.summaries {
            assert!(page.contains(&summary.contender), "{}", summary.contender);
            assert!(page.contains(&summary.scenario), "{}", summary.scenario);
        }
        for row in View::all(&comparison).iter().flat_map(|view| &view.rows) {
            for why in &row.typical.unwrap().why {
                assert!(page.contains(&why.replace('\'', "&#39;")), "{why}");
            }
        }
        for part in ["What it brought", "What the receiving program saw", "Machine and build", "Commands"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(page.contains(&comparison.reproduce.replace('\'', "&#39;")));
    }
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    for page in [page(&links()), page(&grid())] {
        for word in ["http://", "https://", "src=", "url(", "<script", "@import", "<link", "javascript:"] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}

#[test]
fn what_records_say_stays_text() {
    let hostile = "</p><script>alert(1)</script>\"'&";
    let mut comparison = with_runs(|run| {
        run.contender = format!("{} {hostile}", run.contender);
        run.scenario = format!("{} {hostile}", run.scenario);
        run.command = hostile.to_owned();
        run.peer_command = Some(hostile.to_owned());
        run.error = Some(hostile.to_owned());
        run.doubts = vec![hostile.to_owned()];
        run.why = vec![hostile.to_owned()];
        run.guarantees.unit = hostile.to_owned();
        run.link = Some(hostile.to_owned());
    });
    comparison.reproduce = hostile.to_owned();
    comparison.caveats = vec![hostile.to_owned()];
    comparison.machine.cpu = hostile.to_owned();
    comparison.machine.haul = hostile.to_owned();

    let page = page(&comparison);

    assert_well_formed(&page);
    assert!(!page.contains("<script"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn what_is_unknown_or_no_number_is_a_dash() {
    let nothing = Spread { median: f64::NAN, min: f64::NEG_INFINITY, max: f64::INFINITY };
    let mut comparison = with_runs(|run| {
        run.elapsed_s = f64::NAN;
        run.goodput_bits_per_s = f64::INFINITY;
        run.link_share_percent = Some(f64::NAN);
        run.link_rtt_s = Some(f64::INFINITY);
        run.sent_again_percent = Some(f64::NAN);
        let timeline = run.timeline.as_mut().unwrap();
        timeline.queue_delay_s.fill(f64::NAN);
        timeline.interval_s = 1e-320;
    });
    for summary in &mut comparison.summaries {
        summary.goodput_bits_per_s = nothing;
        summary.queue_delay_mean_s = Some(nothing);
        summary.sender_cpu_s_per_gb = Some(nothing);
    }

    assert_well_formed(&page(&comparison));
}

#[test]
fn without_timelines_links_or_runs_there_is_still_a_page() {
    let bare = with_runs(|run| {
        run.timeline = None;
        run.link = None;
        run.link_rate_bits_per_s = None;
        run.link_rtt_s = None;
        run.wire = None;
        run.arrived = None;
        run.sender = None;
        run.receiver = None;
        run.peer_command = None;
        run.why.clear();
    });
    let text = page(&bare);
    assert_well_formed(&text);
    assert!(text.contains("No emulated link"));
    assert!(!text.contains("over time"));

    let empty = with_runs(|run| run.timeline = Some(Default::default()));
    assert_well_formed(&page(&empty));

    let failed = with_runs(|run| {
        run.exit_code = 2;
        run.goodput_bits_per_s = 0.0;
    });
    assert!(page(&failed).contains("nothing arrived."));
    assert_well_formed(&page(&failed));

    let warm = with_runs(|run| run.is_warmup = true);
    assert_well_formed(&page(&warm));
    assert_well_formed(&page(&Comparison { runs: Vec::new(), summaries: Vec::new(), ..links() }));
}

#[test]
fn a_single_run_has_no_spread() {
    let mut single = links();
    single.runs.truncate(1);
    single.summaries = Summary::all(&single.runs);

    let page = page(&single);

    assert_well_formed(&page);
    assert!(!page.contains(" kbit/s to "));
    assert!(page.contains("is the only one whose file arrived whole"));
}

#[test]
fn there_is_a_map_of_a_grid_and_of_nothing_else() {
    let is_mapped = |comparison: &Comparison| page(comparison).contains("class=\"map\"");

    assert!(is_mapped(&grid()));
    assert!(!is_mapped(&links()));
    let other_rate = |run: &mut Record| run.link = run.link.take().map(|it| it.replace("20mbit", "30mbit"));
    assert!(!is_mapped(&with_runs(other_rate)));
    let mut one = grid();
    let first = one.runs[0].scenario.clone();
    one.runs.retain(|run| run.scenario == first);
    one.summaries.retain(|it| it.scenario == first);
    assert!(!is_mapped(&one));
}

#[test]
fn many_scenarios_are_opened_on_demand() {
    let (many, few) = (page(&grid()), page(&links()));

    assert_eq!(many.matches("<details class=\"scenario\">").count(), 9);
    assert_eq!(few.matches("<details class=\"scenario\">").count(), 0);
    assert_eq!(few.matches("<section class=\"scenario\">").count(), 2);
    assert!(few.contains("In short") && !many.contains("In short"));
}

#[test]
fn the_verdict_names_the_fastest_whose_file_arrived() {
    let comparison = with_runs(|run| {
        run.goodput_bits_per_s = match (run.contender.as_str(), run.scenario.as_str()) {
            ("udp-raw", _) => 38e6,
            ("udp/bbr", _) => 36e6,
            (_, "all faults") => 36e6 - 1e3 + f64::from(run.round) * 1e3,
            _ => 4e6,
        }
    });
    let views = View::all(&comparison);

    assert_eq!(
        verdict::verdict(&views[0]),
        "udp/bbr is fastest with 36.0 Mbit/s, 9 times tcp with 4.00 Mbit/s; udp-raw (38.0 Mbit/s) did not bring the whole file"
    );
    assert!(verdict::verdict(&views[1]).contains("no clear winner"));
}

#[test]
fn text_can_be_read_in_both_schemes() {
    let schemes: Vec<BTreeMap<&str, &str>> = STYLE.split(":root {").skip(1).take(2).map(variables).collect();
    assert_eq!(schemes.len(), 2);
    for scheme in schemes {
        for (text, paper) in [
            ("--ink", "--paper"),
            ("--ink", "--panel"),
            ("--ink", "--warn-paper"),
            ("--quiet", "--paper"),
            ("--link", "--paper"),
        ] {
            assert!(contrast(scheme[text], scheme[paper]) >= 4.5, "{text} on {paper}");
        }
        // Lines are no text; those of the first four, as many as there are without being asked for, stand out by themselves.
        for colour in ["--c0", "--c1", "--c2", "--c3", "--c4"] {
            assert!(contrast(scheme[colour], scheme["--paper"]) >= 3.0, "{colour}");
        }
    }
    let cells: Vec<_> = STYLE.lines().filter(|line| line.starts_with(".map .h")).map(variables).collect();
    assert_eq!(cells.len(), 10);
    for cell in cells {
        assert!(contrast(cell["background"], cell["color"]) >= 4.5, "{cell:?}");
    }
}

/// What is declared in a block of a style.
fn variables(block: &str) -> BTreeMap<&str, &str> {
    let inside = block.split('}').next().unwrap_or("");
    let inside = inside.split('{').next_back().unwrap_or("");
    inside
        .split(';')
        .filter_map(|line| line.split_once(':'))
        .map(|(name, it)| (name.trim(), it.trim()))
        .collect()
}

/// As the guidelines for accessible content of the W3C have it, 1 to 21.
fn contrast(one: &str, other: &str) -> f64 {
    let light = |colour: &str| {
        let part = |at: usize, weight: f64| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            weight * if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        part(1, 0.2126) + part(3, 0.7152) + part(5, 0.0722) + 0.05
    };
    let ratio = light(one) / light(other);
    ratio.max(1.0 / ratio)
}

/// Whether every element is closed where it should be, every anchor leads somewhere, and no number is none.
#[track_caller]
fn assert_well_formed(page: &str) {
    let body = &page[page.find("<style>").unwrap()..];
    let mut open = vec!["html", "head"];
    for piece in body.split('<').skip(1) {
        let name = piece.split([' ', '>', '\n']).next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{piece}"),
            None => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    for word in ["NaN", ">inf", " inf", "\"inf", "-inf"] {
        assert!(!page.contains(word), "{word}");
    }
    let ids: Vec<&str> = values(page, " id=\"");
    for anchor in values(page, "href=\"#") {
        assert!(ids.contains(&anchor), "{anchor}");
    }
    for id in &ids {
        assert_eq!(ids.iter().filter(|it| it == &id).count(), 1, "{id}");
    }
}

fn values<'a>(page: &'a str, before: &str) -> Vec<&'a str> {
    page.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}
