//! Shows what UDP did to a raw transfer, in plain words.

use crate::{run::report::RawFigures, units};

/// Ranges that are told one by one; more stand in the JSON.
const RANGES_SHOWN: usize = 8;

/// Aligned lines for people.
pub fn lines(raw: &RawFigures) -> Vec<String> {
    let mut rows = vec![
        ("sent", raw.sent.to_string(), "datagrams".to_owned()),
        ("received", raw.received.to_string(), String::new()),
        ("missing", raw.missing.to_string(), missing(raw)),
        ("out of order", raw.out_of_order.to_string(), farthest(raw)),
        ("duplicated", raw.duplicated.to_string(), String::new()),
        ("damaged", raw.damaged.to_string(), String::new()),
        ("dropped there", known(raw.dropped_by_socket), "by the receiver's full socket buffer".to_owned()),
    ];
    if raw.discarded > 0 {
        rows.push(("left out", raw.discarded.to_string(), "since the receiver's disk was behind".to_owned()));
    }
    if raw.checksum_errors.is_some_and(|count| count > 0) {
        let note = "by the receiver's system, for their UDP checksum".to_owned();
        rows.push(("refused there", known(raw.checksum_errors), note));
    }
    let files = format!("{} intact, {} damaged", raw.intact_files, raw.damaged_files);
    let label = rows.iter().map(|(label, ..)| label.len()).max().unwrap_or(0);
    let width = rows.iter().map(|(_, count, _)| count.len()).max().unwrap_or(0);
    let mut lines = vec!["what UDP did, nothing repaired:".to_owned()];
    lines.extend(rows.into_iter().map(|(name, count, note)| {
        format!("  {name:label$}  {count:>width$}  {note}").trim_end().to_owned()
    }));
    lines.push(format!("  {:label$}  {files}", "files"));
    for range in raw.missing_ranges.iter().take(RANGES_SHOWN) {
        lines.push(format!("  missing: {}, {} bytes from byte {} on", range.file, range.len, range.offset));
    }
    let shown = raw.missing_ranges.len().min(RANGES_SHOWN) as u64;
    let more = raw.missing_ranges.len() as u64 - shown + raw.more_ranges;
    if more > 0 {
        lines.push(format!("  missing: and {more} more"));
    }
    lines
}

fn missing(raw: &RawFigures) -> String {
    if raw.missing_bytes == 0 {
        return String::new();
    }
    format!("{} of content", units::bytes(raw.missing_bytes))
}

fn farthest(raw: &RawFigures) -> String {
    if raw.out_of_order == 0 { String::new() } else { format!("the latest by {}", raw.farthest) }
}

fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "?".to_owned(), |count| count.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::report::MissingRange;

    #[test]
    fn counts_stand_below_each_other_and_long_lists_are_cut() {
        let range = |offset: u64| MissingRange { file: "big".to_owned(), offset: offset * 4000, len: 1400 };
        let raw = RawFigures {
            sent: 10_000,
            received: 9_990,
            missing: 10,
            missing_bytes: 14_000,
            missing_ranges: (0..9).map(range).collect(),
            more_ranges: 1,
            out_of_order: 3,
            farthest: 12,
            duplicated: 2,
            damaged: 1,
            dropped_by_socket: None,
            discarded: 0,
            checksum_errors: Some(0),
            intact_files: 0,
            damaged_files: 1,
        };

        let lines = lines(&raw);

        let expected = [
            "what UDP did, nothing repaired:",
            "  sent           10000  datagrams",
            "  received        9990",
            "  missing           10  14.0 kB of content",
            "  out of order       3  the latest by 12",
            "  duplicated         2",
            "  damaged            1",
            "  dropped there      ?  by the receiver's full socket buffer",
            "  files          0 intact, 1 damaged",
            "  missing: big, 1400 bytes from byte 0 on",
        ];
        assert_eq!(lines[..expected.len()], expected);
        assert_eq!(lines.len(), expected.len() + RANGES_SHOWN);
        assert_eq!(lines.last().unwrap(), "  missing: and 2 more");
    }
}
