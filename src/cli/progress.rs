//! The two lines that show how far a command is.
//!
//! ```text
//! ████████████          42%  1.23 GB of ≥ 2.95 GB  12.3 MB/s (average 11.0 MB/s)  ETA 2m05s
//! sending 12 of ≥ 340 files  photos/2024/harbour.jpg
//! ```
//!
//! Whoever works hands a [`Progress`] to [`ProgressView::show`] as often as it likes; the view keeps the rates and
//! draws ten times a second at most. `≥` stands before totals while the listing goes on. What does not fit the
//! window is left out, never wrapped, since a wrapped line leaves its remains on the screen.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::units;

/// How far a command is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Files that need nothing more.
    pub files_done: u64,
    /// Files known so far.
    pub files_total: u64,
    /// Bytes of file content that were moved or read.
    pub bytes_done: u64,
    /// Bytes of file content known so far; 0 when nothing is known, as of standard input.
    pub bytes_total: u64,
    /// The totals will not grow any more.
    pub listing_complete: bool,
    /// The file that is being worked on, as `file::path::escape` shows it.
    pub current: Option<String>,
    /// What is being done.
    pub phase: Phase,
}

/// What is being done, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Dialling, or waiting for the peer's hello.
    Connecting,
    /// Waiting for somebody to connect.
    Waiting,
    /// Looking for files.
    Listing,
    /// Reading files for their digests.
    Hashing,
    /// Content goes out.
    Sending,
    /// Content comes in.
    Receiving,
    /// Re-reading what a resumed transfer had kept.
    Proving,
    /// Syncing and renaming.
    Publishing,
}

impl Phase {
    fn verb(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Listing => "listing",
            Self::Hashing => "hashing",
            Self::Sending => "sending",
            Self::Receiving => "receiving",
            Self::Proving => "proving",
            Self::Publishing => "publishing",
        }
    }
}

/// How fast it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// Over the last second, bytes per second.
    pub last_second_bytes: u64,
    /// Since the first bytes, bytes per second.
    pub average_bytes: u64,
    /// Until the known total is reached; `None` when nobody can say.
    pub eta: Option<Duration>,
}

/// Shows [`Progress`] on a terminal, or nowhere.
#[derive(Debug)]
pub struct ProgressView {
    bar: ProgressBar,
    /// Somebody else has the terminal.
    is_away: AtomicBool,
    pace: Mutex<Pace>,
}

impl ProgressView {
    /// A display on standard error, or one that shows nothing.
    pub fn new(is_visible: bool) -> Self {
        let target = if is_visible {
            ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S)
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{msg}").expect("the template is well-formed");
        Self {
            bar: ProgressBar::with_draw_target(None, target).with_style(style),
            is_away: AtomicBool::new(false),
            pace: Mutex::new(Pace::default()),
        }
    }

    /// Takes the latest state; `now` runs from any fixed moment. Cheap enough for each file and each chunk.
    pub fn show(&self, progress: &Progress, now: Duration) {
        if self.bar.is_hidden() || self.is_away.load(Relaxed) {
            return;
        }
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.record(progress, now);
        if pace.drawn_at.is_some_and(|drawn_at| now.saturating_sub(drawn_at) < DRAW_EVERY) {
            return;
        }
        pace.drawn_at = Some(now);
        // The last column stays free: terminals differ in what a full line does to the cursor.
        self.bar.set_message(
            lines(progress, &pace.rates(progress), window_columns().saturating_sub(1)).join("\n"),
        );
    }

    /// Takes the display away while `f` writes to the terminal. `f` must not use the view.
    pub fn suspend<T>(&self, f: impl FnOnce() -> T) -> T {
        self.bar.suspend(f)
    }

    /// Takes the display away until [`Self::come_back`].
    pub fn go_away(&self) {
        self.is_away.store(true, Relaxed);
        self.bar.finish_and_clear();
    }

    /// Shows again what [`Self::show`] is told.
    pub fn come_back(&self) {
        self.bar.reset();
        self.is_away.store(false, Relaxed);
    }

    /// Takes the display away for good.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The two lines for a window of `columns`; neither is wider.
pub fn lines(progress: &Progress, rates: &Rates, columns: usize) -> [String; 2] {
    [first_that_fits(amounts(progress, rates), columns), names(progress, columns)]
}

/// The first line, fullest form first.
fn amounts(progress: &Progress, rates: &Rates) -> Vec<String> {
    let done = units::bytes(progress.bytes_done);
    let total = units::bytes(progress.bytes_total);
    let rate = units::rate(rates.last_second_bytes);
    let average = units::rate(rates.average_bytes);
    let more = at_least(progress);
    let eta = rates.eta.map_or("-".to_owned(), |eta| format!("{}{}", more.trim_end(), units::duration(eta)));
    let Some(percent) = percent(progress) else {
        return vec![
            format!("{done}  {rate} (average {average})"),
            format!("{done}  {rate} (avg {average})"),
            format!("{done} {rate}"),
            done,
        ];
    };
    let bar = bar(percent);
    let tight = more.trim_end();
    vec![
        format!("{bar}  {percent:3}%  {done} of {more}{total}  {rate} (average {average})  ETA {eta}"),
        format!("{percent:3}%  {done} of {more}{total}  {rate} (average {average})  ETA {eta}"),
        format!("{percent}% {done}/{tight}{total}  {rate} (avg {average})  {eta}"),
        format!("{percent}% {done}/{tight}{total} {rate} {eta}"),
        format!("{percent}% {rate} {eta}"),
        format!("{percent}% {rate}"),
        format!("{percent}%"),
    ]
}

/// The second line: what is done, to how many files, to which.
fn names(progress: &Progress, columns: usize) -> String {
    let verb = progress.phase.verb();
    let more = at_least(progress);
    let (done, total) = (progress.files_done, progress.files_total);
    let counts = match (total, progress.listing_complete) {
        (0, _) | (1, true) => vec![verb.to_owned()],
        _ => vec![
            format!("{verb} {done} of {more}{total} files"),
            format!("{verb} {done}/{}{total}", more.trim_end()),
            verb.to_owned(),
        ],
    };
    let Some(current) = &progress.current else {
        return first_that_fits(counts, columns);
    };
    let wanted = columns_of(current).min(NAME_MIN_COLUMNS);
    let head = first_that_fits(counts, columns.saturating_sub(wanted + 2));
    if head.is_empty() {
        return cut_left(current, columns);
    }
    let room = columns.saturating_sub(columns_of(&head) + 2);
    format!("{head}  {}", cut_left(current, room))
}

fn at_least(progress: &Progress) -> &'static str {
    if progress.listing_complete { "" } else { "≥ " }
}

/// Whole percent, 100 only when everything is done; `None` when the total is not known.
fn percent(progress: &Progress) -> Option<u64> {
    let total = u128::from(progress.bytes_total);
    let done = u128::from(progress.bytes_done).min(total);
    u64::try_from((done * 100).checked_div(total)?).ok()
}

/// Twenty columns of blocks.
fn bar(percent: u64) -> String {
    let full = usize::try_from(percent / 5).unwrap_or(BAR_COLUMNS).min(BAR_COLUMNS);
    format!("{}{}", "█".repeat(full), "░".repeat(BAR_COLUMNS - full))
}

/// The first text that fits; none is an empty one.
fn first_that_fits(texts: Vec<String>, columns: usize) -> String {
    texts.into_iter().find(|text| columns_of(text) <= columns).unwrap_or_default()
}

/// The end of a name, which tells more than its beginning, in at most `columns`.
fn cut_left(name: &str, columns: usize) -> String {
    if columns_of(name) <= columns {
        return name.to_owned();
    }
    let mut left = columns.saturating_sub(columns_of_char('…'));
    let mut from = name.len();
    for (at, c) in name.char_indices().rev() {
        if columns_of_char(c) > left {
            break;
        }
        left -= columns_of_char(c);
        from = at;
    }
    if columns < columns_of_char('…') { String::new() } else { format!("…{}", &name[from..]) }
}

fn columns_of(text: &str) -> usize {
    text.chars().map(columns_of_char).sum()
}

/// Columns that a character takes at most. Wide ones take two; rather than know which, all but ASCII and our own
/// blocks count as two, so that a line may end early but never wraps.
fn columns_of_char(c: char) -> usize {
    if c.is_ascii() || matches!(c, '█' | '░') { 1 } else { 2 }
}

/// The width of the window that standard error shows, as it is at this moment.
fn window_columns() -> usize {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => 80,
    }
}

/// What has to be remembered to know rates.
#[derive(Debug, Default)]
struct Pace {
    /// When and where the average began.
    start: Option<(Duration, u64)>,
    /// When something was drawn last.
    drawn_at: Option<Duration>,
    /// Bytes over time, oldest first; the last [`ETA_SPAN`] of them, one per [`SAMPLE_EVERY`].
    samples: VecDeque<(Duration, u64)>,
    /// The latest state, which may be too young for a sample.
    latest: (Duration, u64),
}

impl Pace {
    fn record(&mut self, progress: &Progress, now: Duration) {
        let bytes = progress.bytes_done;
        if self.start.is_none() || bytes == 0 || bytes < self.latest.1 {
            // Waiting for the first byte does not count, and a count that falls back is another one (the next phase).
            self.start = Some((now, bytes));
            self.samples.clear();
        }
        self.latest = (now, bytes);
        if self.samples.back().is_none_or(|&(at, _)| now.saturating_sub(at) >= SAMPLE_EVERY) {
            self.samples.push_back((now, bytes));
        }
        while self.samples.get(1).is_some_and(|&(at, _)| now.saturating_sub(at) >= ETA_SPAN) {
            self.samples.pop_front();
        }
    }

    fn rates(&self, progress: &Progress) -> Rates {
        let since = |from: Option<(Duration, u64)>| from.map_or(0, |from| per_second(from, self.latest));
        let left = progress.bytes_total.saturating_sub(progress.bytes_done);
        let lately = since(self.samples.front().copied());
        let eta_ms = (u128::from(left) * 1000).checked_div(u128::from(lately));
        Rates {
            last_second_bytes: since(self.sample_before(SECOND)),
            average_bytes: since(self.start),
            eta: eta_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))),
        }
    }

    /// The youngest sample that is at least `span` old, or the oldest there is.
    fn sample_before(&self, span: Duration) -> Option<(Duration, u64)> {
        let is_old = |&&(at, _): &&(Duration, u64)| self.latest.0.saturating_sub(at) >= span;
        self.samples.iter().rev().find(is_old).or_else(|| self.samples.front()).copied()
    }
}

/// Bytes per second from one moment to another.
fn per_second(from: (Duration, u64), to: (Duration, u64)) -> u64 {
    let bytes = u128::from(to.1.saturating_sub(from.1));
    let rate = (bytes * 1_000_000).checked_div(to.0.saturating_sub(from.0).as_micros());
    rate.map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}

const DRAWS_PER_S: u8 = 10;
const DRAW_EVERY: Duration = Duration::from_millis(100);
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);
/// The time left is guessed from this much of the past: long enough to stand still, short enough to adapt.
const ETA_SPAN: Duration = Duration::from_secs(15);
const BAR_COLUMNS: usize = 20;
/// A name with fewer columns than this is worth less than the counts beside it.
const NAME_MIN_COLUMNS: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATES: Rates = Rates {
        last_second_bytes: 12_300_000,
        average_bytes: 11_000_000,
        eta: Some(Duration::from_secs(125)),
    };

    #[test]
    fn a_wide_window_shows_everything() {
        assert_eq!(
            lines(&halfway(), &RATES, 120),
            [
                "████████░░░░░░░░░░░░   41%  1.23 GB of ≥ 2.95 GB  12.3 MB/s (average 11.0 MB/s)  ETA ≥2m05s",
                "sending 12 of ≥ 340 files  photos/2024/summer/harbour.jpg",
            ]
        );
    }

    #[test]
    fn narrower_windows_leave_out_what_matters_least() {
        let shown = |columns| lines(&halfway(), &RATES, columns);

        assert_eq!(
            shown(80),
            [
                " 41%  1.23 GB of ≥ 2.95 GB  12.3 MB/s (average 11.0 MB/s)  ETA ≥2m05s",
                "sending 12 of ≥ 340 files  photos/2024/summer/harbour.jpg",
            ]
        );
        assert_eq!(
            shown(40),
            ["41% 1.23 GB/≥2.95 GB 12.3 MB/s ≥2m05s", "sending 12/≥340  …4/summer/harbour.jpg"]
        );
        assert_eq!(shown(30), ["41% 12.3 MB/s ≥2m05s", "sending  …/summer/harbour.jpg"]);
    }

    #[test]
    fn totals_are_final_when_the_listing_is() {
        let progress = Progress { listing_complete: true, ..halfway() };

        assert_eq!(
            lines(&progress, &RATES, 80)[0],
            " 41%  1.23 GB of 2.95 GB  12.3 MB/s (average 11.0 MB/s)  ETA 2m05s"
        );
        assert!(lines(&progress, &RATES, 80)[1].starts_with("sending 12 of 340 files  "));
    }

    #[test]
    fn without_a_total_there_is_no_percentage() {
        let progress = Progress { bytes_total: 0, files_total: 1, listing_complete: true, ..halfway() };

        assert_eq!(
            lines(&progress, &RATES, 60),
            ["1.23 GB  12.3 MB/s (average 11.0 MB/s)", "sending  photos/2024/summer/harbour.jpg"]
        );
    }

    proptest! {
        #[test]
        fn no_window_is_too_narrow_and_no_number_too_large(
            numbers in any::<[u64; 7]>(),
            shift in 0..64_u32,
            listing_complete in any::<bool>(),
            current in proptest::option::of("\\PC{0,80}"),
            columns in 0..130_usize,
        ) {
            let [files_done, files_total, bytes_done, bytes_total, last_second_bytes, average_bytes, eta_ms] =
                numbers.map(|number| number >> shift);
            let progress = Progress {
                files_done,
                files_total,
                bytes_done,
                bytes_total,
                listing_complete,
                current,
                phase: Phase::Publishing,
            };
            let rates = Rates { last_second_bytes, average_bytes, eta: Some(Duration::from_millis(eta_ms)) };

            for line in lines(&progress, &rates, columns) {
                prop_assert!(columns_of(&line) <= columns, "{line:?} in {columns}");
            }
        }
    }

    #[test]
    fn huge_numbers_keep_the_percentage_and_the_rate_in_forty_columns() {
        let progress = Progress {
            bytes_done: u64::MAX / 2,
            bytes_total: u64::MAX,
            files_done: u64::MAX / 2,
            files_total: u64::MAX,
            ..halfway()
        };
        let rates = Rates { last_second_bytes: u64::MAX, average_bytes: u64::MAX, eta: Some(Duration::MAX) };

        assert_eq!(
            lines(&progress, &rates, 40),
            ["49% 9.22 EB/≥18.4 EB 18.4 EB/s ≥>99d", "sending  photos/2024/summer/harbour.jpg"]
        );
        assert_eq!(lines(&progress, &rates, 30)[0], "49% 18.4 EB/s ≥>99d");
    }

    #[test]
    fn the_rate_is_that_of_the_last_second_and_the_average_that_of_all() {
        let mut pace = Pace::default();
        let mut progress = Progress { bytes_done: 0, bytes_total: 100_000, ..halfway() };

        for step in 0..=50_u64 {
            // Four seconds at 1000 bytes per second, then one at 5000.
            progress.bytes_done = if step <= 40 { step * 100 } else { 4000 + (step - 40) * 500 };
            pace.record(&progress, Duration::from_millis(step * 100));
        }

        let rates = pace.rates(&progress);
        assert_eq!((rates.last_second_bytes, rates.average_bytes), (5000, 1800));
        assert_eq!(rates.eta, Some(Duration::from_millis(91_000 * 1000 / 1800)));
    }

    #[test]
    fn waiting_for_the_first_byte_is_no_part_of_the_average() {
        let mut pace = Pace::default();
        let mut progress = Progress { bytes_done: 0, ..halfway() };

        pace.record(&progress, Duration::from_secs(0));
        pace.record(&progress, Duration::from_secs(60));
        progress.bytes_done = 1000;
        pace.record(&progress, Duration::from_secs(61));

        let rates = pace.rates(&progress);
        assert_eq!((rates.last_second_bytes, rates.average_bytes), (1000, 1000));
    }

    #[test]
    fn what_stands_still_has_no_end_in_sight() {
        let mut pace = Pace::default();
        let progress = halfway();

        for second in 0..100 {
            pace.record(&progress, Duration::from_secs(second));
        }

        assert_eq!(pace.rates(&progress), Rates::default());
        assert!(pace.samples.len() < 20, "what is remembered is bounded");
        assert!(lines(&progress, &Rates::default(), 80)[0].ends_with("ETA -"));
    }

    #[test]
    fn a_count_that_falls_back_begins_anew() {
        let mut pace = Pace::default();
        let mut progress = Progress { bytes_done: 1_000_000, ..halfway() };
        pace.record(&progress, Duration::from_secs(1));
        progress.bytes_done = 0;
        pace.record(&progress, Duration::from_secs(2));

        progress.bytes_done = 700;
        pace.record(&progress, Duration::from_secs(3));

        assert_eq!(pace.rates(&progress).average_bytes, 700);
    }

    fn halfway() -> Progress {
        Progress {
            files_done: 12,
            files_total: 340,
            bytes_done: 1_230_000_000,
            bytes_total: 2_950_000_000,
            listing_complete: false,
            current: Some("photos/2024/summer/harbour.jpg".into()),
            phase: Phase::Sending,
        }
    }
}
