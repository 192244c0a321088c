//! What became of what: counts, failures by name, and what the progress shows. Filled from any thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::error::{Cause, RunError};
use crate::{
    file::path::{escape, is_harmless},
    limits,
    wire::message::{Code, Kind, NotKept, Outcome},
};

/// A file that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Its name, escaped.
    pub name: String,
    /// Its name's bytes in hex, if it is not plain UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_hex: Option<String>,
    /// The class.
    pub cause: Cause,
    /// Why, in words.
    pub reason: String,
}

impl Failure {
    /// A failure of the entry with this name; the text may come from a peer.
    pub fn new(name: &[u8], code: Code, text: String) -> Self {
        let shown = escape(name);
        let name_hex = (shown.as_bytes() != name).then(|| data_encoding::HEXLOWER.encode(name));
        // protocol.md [NAME-4]: texts from our own side are escaped where they are made, and those of a peer here.
        let reason = if is_harmless(&text) { text } else { escape(text.as_bytes()) };
        Self { name: shown, name_hex, cause: Cause::from_code(code), reason }
    }

    /// Name and reason, for people. Reasons that begin with the name already are not given it twice.
    pub fn line(&self) -> String {
        if self.reason.starts_with(&self.name) {
            self.reason.clone()
        } else {
            format!("{}: {}", self.name, self.reason)
        }
    }
}

/// Counts of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files and links published.
    pub files: u64,
    /// Directories made or found.
    pub directories: u64,
    /// Those of them that were made or got another mode or time (in a dry run: would).
    pub directories_changed: u64,
    /// Bytes of the files published.
    pub bytes: u64,
    /// There already with the same size and time; not compared.
    pub unchanged: u64,
    /// There already with the same digest.
    pub identical: u64,
    /// There already and kept by the policy.
    pub kept: u64,
    /// Would be sent (dry run).
    pub planned: u64,
    /// Failed.
    pub failed: u64,
    /// Failures by name, the first `limits::FAILURES_KEPT`.
    pub failures: Vec<Failure>,
    /// What the sender's listing left out.
    pub not_kept: NotKept,
    /// Name of the file in work, escaped.
    pub current: String,
    /// Digest of the file, when there is only one.
    pub digest: Option<[u8; 32]>,
}

/// The counts of a running session.
#[derive(Debug, Default)]
pub struct Results(Mutex<Counts>);

impl Results {
    /// An entry has its outcome.
    pub fn add(&self, name: &[u8], kind: &Kind, size: u64, outcome: Outcome) {
        let mut counts = self.lock();
        let is_dir = matches!(kind, Kind::Dir);
        match outcome {
            Outcome::Done | Outcome::Planned if is_dir => {
                counts.directories += 1;
                counts.directories_changed += 1;
            }
            Outcome::Done => {
                counts.files += 1;
                counts.bytes += size;
            }
            Outcome::Unchanged if is_dir => counts.directories += 1,
            Outcome::Unchanged => counts.unchanged += 1,
            Outcome::Identical => counts.identical += 1,
            Outcome::Kept => counts.kept += 1,
            Outcome::Planned => counts.planned += 1,
            Outcome::Failed { code, text } => counts.add_failure(Failure::new(name, code, text)),
        }
    }

    /// Something failed without being an entry.
    pub fn add_failure(&self, failure: Failure) {
        self.lock().add_failure(failure);
    }

    /// What the listing left out.
    pub fn set_not_kept(&self, not_kept: NotKept) {
        self.lock().not_kept = not_kept;
    }

    /// The file in work.
    pub fn set_current(&self, name: &[u8]) {
        self.lock().current = escape(name);
    }

    /// The digest of the last file that was read or proven.
    pub fn set_digest(&self, digest: [u8; 32]) {
        self.lock().digest = Some(digest);
    }

    /// All of it.
    pub fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add_failure(&mut self, failure: Failure) {
        self.failed += 1;
        if self.failures.len() < limits::FAILURES_KEPT {
            self.failures.push(failure);
        }
    }

    /// Entries that have an outcome.
    pub fn settled(&self) -> u64 {
        self.files + self.unchanged + self.identical + self.kept + self.planned + self.failed
    }

    /// The error that the failures amount to: a single file gives its own cause, several give theirs together.
    pub fn error(&self) -> Option<RunError> {
        let first = self.failures.first()?;
        let is_single = self.failed == 1 && self.settled() == 1;
        if is_single {
            return Some(RunError::new(first.cause, first.line()));
        }
        let text = format!("{} of {} failed; the first: {}", self.failed, self.settled(), first.line());
        Some(RunError::new(Cause::SomeFailed, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Kind = Kind::File { size: 5, sparse: false, linked: false };

    fn failed(code: Code) -> Outcome {
        Outcome::Failed { code, text: "why".to_owned() }
    }

    #[test]
    fn a_single_file_gives_its_own_cause() {
        let results = Results::default();
        results.add(b"d", &Kind::Dir, 0, Outcome::Done);
        results.add(b"a", &FILE, 5, failed(Code::NoSpace));

        assert_eq!(results.counts().error(), Some(RunError::new(Cause::NoSpace, "a: why")));
    }

    #[test]
    fn several_files_give_a_cause_of_their_own() {
        let results = Results::default();
        results.add(b"a", &FILE, 5, failed(Code::NoSpace));
        results.add(b"b", &FILE, 5, Outcome::Done);

        let error = results.counts().error().unwrap();

        assert_eq!(error.cause, Cause::SomeFailed);
        assert_eq!(error.text, "1 of 2 failed; the first: a: why");
    }

    #[test]
    fn failures_are_counted_past_what_is_kept() {
        let results = Results::default();
        for _ in 0..limits::FAILURES_KEPT + 5 {
            results.add(b"a", &FILE, 5, failed(Code::File));
        }

        let counts = results.counts();

        assert_eq!(counts.failures.len(), limits::FAILURES_KEPT);
        assert_eq!(counts.failed, limits::FAILURES_KEPT as u64 + 5);
    }

    #[test]
    fn directories_are_no_files_whatever_becomes_of_them() {
        let results = Results::default();
        for outcome in [Outcome::Done, Outcome::Planned, Outcome::Unchanged] {
            results.add(b"d", &Kind::Dir, 0, outcome);
        }

        let counts = results.counts();

        assert_eq!((counts.directories, counts.directories_changed, counts.settled()), (3, 2, 0));
    }

    #[test]
    fn a_name_that_is_not_text_is_also_given_in_hex() {
        assert_eq!(Failure::new(b"a\xff", Code::File, String::new()).name_hex.as_deref(), Some("61ff"));
        assert_eq!(Failure::new(b"plain", Code::File, String::new()).name_hex, None);
    }
}
