//! What `haul compare` reads again: records of runs and whole comparisons.

use haul::compare::comparison::Comparison;
use haul::compare::diff::changes;
use haul::compare::page::page;
use haul::compare::reason::reasons;
use haul::compare::record::Record;
use haul::compare::summary::Summary;
use haul::compare::table::table;
use serde_json::Value;

/// What was read is written as what reads the same, and can be summed up, explained and shown.
pub fn records(data: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(data) {
        let written = serde_json::to_value(&record).expect("a record is JSON");
        let again: Record = serde_json::from_value(written.clone()).expect("and read as one");
        assert_eq!(serde_json::to_value(&again).expect("as before"), written);
        let runs = [record];
        let summaries = Summary::all(&runs);
        assert_eq!(summaries.len(), 1);
        table(&runs, &summaries);
        reasons(&runs[0]);
    }
    if let Ok(comparison) = serde_json::from_slice::<Comparison>(data) {
        let written: Value = serde_json::to_value(&comparison).expect("a comparison is JSON");
        let again: Comparison = serde_json::from_value(written.clone()).expect("and read as one");
        assert_eq!(serde_json::to_value(&again).expect("as before"), written);
        table(&comparison.runs, &comparison.summaries);
        assert!(page(&comparison).contains("</html>"));
        changes(&comparison, &again, 3.0);
    }
}
