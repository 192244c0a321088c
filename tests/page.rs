//! The page of `haul compare --report` in a real browser: it fits a desk's screen and a telephone's, shows all of its parts, and gives the
//! browser nothing to complain of.
//!
//! The comparisons in `fixtures/compare` are of real runs, from `haul compare --json`; only their timelines were drawn by hand.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::process::Command;

use haul::compare::comparison::Comparison;
use haul::compare::page::page;
use serde_json::Value;

use common::{Ended, run, skip};

/// Longer than any browser takes for a page that stands on the disk, seconds.
const PATIENCE_S: &str = "60";
/// Widths of a desk's screen and of a telephone's.
const WIDTHS: [u32; 2] = [1200, 360];

/// What the browser is asked for each of the frames: its width, how far its content reaches with everything opened, its titles, how many
/// drawings are seen, and whether lines have their colours.
const MEASURE: &str = "onload = () => {
  const told = [...document.querySelectorAll('iframe')].map(frame => {
    const inside = frame.contentDocument;
    inside.querySelectorAll('details').forEach(it => it.open = true);
    const drawings = [...inside.querySelectorAll('figure svg')].map(it => it.getBoundingClientRect());
    const texts = [...inside.querySelectorAll('figure svg text')].map(it => it.getBoundingClientRect());
    const line = inside.querySelector('path.line');
    return {
      width: frame.contentWindow.innerWidth,
      reach: inside.documentElement.scrollWidth,
      titles: [...inside.querySelectorAll('h1, h2')].map(it => it.textContent),
      drawings: drawings.filter(it => it.height > 100 && it.width > 300).length,
      smallest_text: Math.min(...texts.map(it => it.height)),
      stroke: frame.contentWindow.getComputedStyle(line).stroke,
    };
  });
  console.error('measured');
  document.title = JSON.stringify(told);
}";

#[test]
fn the_page_fits_every_screen_and_shows_every_part() {
    let Some(browser) = browser() else { return };
    for (name, drawings) in [("links", 8), ("grid", 9)] {
        let comparison = comparison(name);

        let (told, complaints) = open(browser, &page(&comparison));

        assert_eq!(complaints, Vec::<String>::new(), "{name}");
        for (frame, width) in told.as_array().unwrap().iter().zip(WIDTHS) {
            assert_eq!((&frame["width"], &frame["reach"]), (&width.into(), &width.into()), "{name}: {frame}");
            assert_eq!(frame["drawings"], drawings, "{name}: {frame}");
            assert!(frame["smallest_text"].as_f64().unwrap() > 9.0, "{name}: {frame}");
            assert!(frame["stroke"].as_str().unwrap().starts_with("rgb("), "{name}: {frame}");
            let titles: Vec<&str> =
                frame["titles"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let scenarios = comparison.summaries.iter().map(|it| it.scenario.as_str());
            for title in scenarios.chain(["Machine and build", "Commands"]) {
                assert!(titles.contains(&title), "{name}: no {title} in {titles:?}");
            }
        }
    }
}

fn comparison(name: &str) -> Comparison {
    let path = format!("{}/fixtures/compare/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The first browser that starts here; says so if there is none.
fn browser() -> Option<&'static str> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let starts = |name: &&str| {
        let version = Command::new("timeout").args([PATIENCE_S, name, "--version"]).output();
        version.is_ok_and(|it| it.status.success())
    };
    let found = names.into_iter().find(starts);
    if found.is_none() {
        skip(&format!("no browser to open the page in: none of {} is installed", names.join(", ")));
    }
    found
}

/// Opens a page at every width, in frames, since a window has a least width. Gives what was measured, and what the browser wrote to the
/// page's console besides that it had measured.
fn open(browser: &str, page: &str) -> (Value, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
    let frame = |width| {
        format!("<iframe style='border:0' width='{width}' height='800' srcdoc=\"{escaped}\"></iframe>\n")
    };
    let frames: String = WIDTHS.map(frame).concat();
    let outer = dir.path().join("outer.html");
    fs::write(&outer, format!("<!DOCTYPE html>\n<title>none</title>\n{frames}<script>{MEASURE}</script>\n"))
        .unwrap();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", PATIENCE_S, browser]);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-sync",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ]);
    command.args([
        "--disable-background-networking",
        "--disable-component-update",
        "--window-size=1300,1700",
    ]);
    command.args(["--enable-logging=stderr", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", dir.path().join("user").display()));
    command.arg(format!("file://{}", outer.display()));

    let ended = run(&mut command, b"").with(0);

    let told = title(&ended);
    let mut console: Vec<String> =
        ended.stderr.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    let heard = console.len();
    console.retain(|line| !line.contains("\"measured\""));
    assert_eq!(heard, console.len() + 1, "the console cannot be heard: {ended}");
    (told, console)
}

/// The page's title, as the browser wrote it.
fn title(ended: &Ended) -> Value {
    let dom = String::from_utf8_lossy(&ended.stdout);
    let (_, rest) = dom.split_once("<title>").unwrap_or_else(|| panic!("no title: {ended}"));
    let (title, _) = rest.split_once("</title>").unwrap();
    let title = title.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&title).unwrap_or_else(|_| panic!("{title}: {ended}"))
}
