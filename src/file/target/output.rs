//! A target that is a stream, usually standard output: one file, in order, proven at its end.
//!
//! Bytes are passed on as they come, so whoever reads them has them before the proof; the outcome tells whether they
//! were the right ones.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};

use super::ProtocolViolation;
use super::config::TargetConfig;
use super::expected::Expected;
use super::ledger::{Ledger, failed};
use crate::file::failure::{Failure, plain};
use crate::file::path::{PathError, RelPath};
use crate::file::publish::Verdict;
use crate::limits;
use crate::transfer::cursor::DigestCursor;
use crate::transfer::placement::PlaceError;
use crate::wire::message::{Code, DigestKind, Entry, Kind, Outcome, Want};

/// The one file and where it goes.
pub(super) struct Output {
    writer: Box<dyn Write + Send>,
    digest: DigestKind,
    eager: bool,
    dry_run: bool,
    expected: Expected,
    /// A file was announced; further ones fail.
    taken: bool,
    /// The file, while it has no outcome.
    passing: Option<Passing>,
}

/// A file that is passed on.
struct Passing {
    number: u64,
    name: Vec<u8>,
    /// As announced; `None` for a stream.
    size: Option<u64>,
    /// The digest that it has to have, where one is known.
    expected: Option<[u8; 32]>,
    /// Has taken everything that was passed on.
    cursor: DigestCursor,
    /// Holes behind the cursor's place, by offset; at most `limits::BACKLOG_MAX_FRAMES`.
    early_holes: BTreeMap<u64, u64>,
}

impl Output {
    pub(super) fn new(config: TargetConfig, writer: Box<dyn Write + Send>) -> Self {
        Self {
            writer,
            digest: config.digest,
            eager: config.eager,
            dry_run: config.dry_run,
            expected: Expected::new(config.expect),
            taken: false,
            passing: None,
        }
    }

    pub(super) fn on_entry(
        &mut self,
        ledger: &mut Ledger,
        number: u64,
        entry: &Entry,
    ) -> Result<(), ProtocolViolation> {
        // The name reaches no disk, but a sender that has such names is not to be trusted.
        match RelPath::parse(&entry.name) {
            Ok(_) | Err(PathError::TooLong | PathError::Reserved) => {}
            Err(why) => return Err(ProtocolViolation::BadName { name: entry.name.clone(), why }),
        }
        match self.take(number, entry) {
            Ok(passing) if self.dry_run => tell(ledger, passing.number, passing.name, Outcome::Planned, None),
            Ok(passing) => {
                self.passing = Some(passing);
                if !self.eager {
                    ledger.want(number, Want::Content);
                }
            }
            Err(failure) => tell(ledger, number, entry.name.clone(), failed(failure), None),
        }
        Ok(())
    }

    pub(super) fn on_data(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), ProtocolViolation> {
        if self.expects(file, offset, bytes.len() as u64)? {
            self.pass(ledger, bytes);
            self.pass_early_holes(ledger);
        }
        Ok(())
    }

    pub(super) fn on_hole(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        offset: u64,
        len: u64,
    ) -> Result<(), ProtocolViolation> {
        // A hole costs no credit, so that it may come before the content in front of it.
        let is_early =
            |passing: &&mut Passing| passing.number == file && offset > passing.cursor.hashed_bytes();
        if let Some(passing) = self.passing.as_mut().filter(is_early) {
            let is_within =
                offset.checked_add(len).is_some_and(|end| passing.size.is_none_or(|size| end <= size));
            if !is_within || passing.early_holes.len() >= limits::BACKLOG_MAX_FRAMES {
                let size = passing.size.unwrap_or(u64::MAX);
                return Err(ProtocolViolation::Placement {
                    file,
                    why: PlaceError::BeyondSize { offset, len, size },
                });
            }
            passing.early_holes.insert(offset, len);
            return Ok(());
        }
        if self.expects(file, offset, len)? {
            self.pass_zeros(ledger, len);
            self.pass_early_holes(ledger);
        }
        Ok(())
    }

    fn pass_zeros(&mut self, ledger: &mut Ledger, mut left: u64) {
        while left > 0 && self.passing.is_some() {
            let step = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.pass(ledger, &ZEROS[..step]);
            left -= step as u64;
        }
    }

    fn pass_early_holes(&mut self, ledger: &mut Ledger) {
        while let Some(passing) = &mut self.passing
            && let Some(len) = passing.early_holes.remove(&passing.cursor.hashed_bytes())
        {
            self.pass_zeros(ledger, len);
        }
    }

    pub(super) fn on_end(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        size: u64,
        digest: [u8; 32],
    ) -> Result<(), ProtocolViolation> {
        let Some(passing) = self.passing.take_if(|passing| passing.number == file) else {
            return Ok(());
        };
        if let Some(announced) = passing.size
            && announced != size
        {
            return Err(ProtocolViolation::SizeChanged { file, announced, ended: size });
        }
        let placed = passing.cursor.hashed_bytes();
        let own = passing.cursor.finish(size).ok_or(ProtocolViolation::Incomplete { file, size, placed })?;
        let result = if own != digest {
            let text = "the bytes that were passed on do not have the digest that the sender computed";
            Err(Failure::new(Code::Integrity, &passing.name, text))
        } else if passing.expected.is_some_and(|expected| expected != own) {
            let text = "the sender's file does not have the expected digest, but its bytes were passed on";
            Err(Failure::new(Code::Integrity, &passing.name, text))
        } else {
            self.writer.flush().map_err(|error| cannot_pass(&passing.name, &error))
        };
        let outcome = result.map_or_else(failed, |()| Outcome::Done);
        tell(ledger, file, passing.name, outcome, Some((size, own)));
        Ok(())
    }

    pub(super) fn on_failed(&mut self, ledger: &mut Ledger, file: u64, code: Code, text: String) {
        if let Some(passing) = self.passing.take_if(|passing| passing.number == file) {
            tell(ledger, file, passing.name, Outcome::Failed { code, text }, None);
        }
    }

    /// The digests known beforehand.
    pub(super) fn expected(&self) -> &Expected {
        &self.expected
    }

    fn take(&mut self, number: u64, entry: &Entry) -> Result<Passing, Failure> {
        let size = match entry.kind {
            Kind::File { size, .. } => Some(size),
            Kind::Stream => None,
            Kind::Dir | Kind::Symlink { .. } | Kind::Hardlink { .. } => {
                return Err(not_one_file(&entry.name));
            }
        };
        let expected = self.expected.of(&entry.name)?;
        if self.taken {
            return Err(not_one_file(&entry.name));
        }
        self.taken = true;
        let cursor = DigestCursor::new(self.digest);
        let early_holes = BTreeMap::new();
        Ok(Passing { number, name: entry.name.clone(), size, expected, cursor, early_holes })
    }

    /// Whether these bytes are to be passed on; an error where they are not the next ones.
    fn expects(&self, file: u64, offset: u64, len: u64) -> Result<bool, ProtocolViolation> {
        let Some(passing) = self.passing.as_ref().filter(|passing| passing.number == file) else {
            return Ok(false);
        };
        let misplaced = |why| Err(ProtocolViolation::Placement { file, why });
        let expected = passing.cursor.hashed_bytes();
        if offset != expected {
            return Err(ProtocolViolation::OutOfOrder { file, offset, expected });
        }
        if len == 0 {
            return misplaced(PlaceError::Empty { offset });
        }
        match (offset.checked_add(len), passing.size) {
            (None, _) => misplaced(PlaceError::TooFar { offset, len }),
            (Some(end), Some(size)) if end > size => misplaced(PlaceError::BeyondSize { offset, len, size }),
            _ => Ok(true),
        }
    }

    fn pass(&mut self, ledger: &mut Ledger, bytes: &[u8]) {
        let Some(passing) = &mut self.passing else {
            return;
        };
        match self.writer.write_all(bytes) {
            Ok(()) => passing.cursor.feed(bytes),
            Err(error) => {
                let failure = cannot_pass(&passing.name, &error);
                let (number, name) = (passing.number, std::mem::take(&mut passing.name));
                self.passing = None;
                tell(ledger, number, name, failed(failure), None);
            }
        }
    }
}

fn tell(ledger: &mut Ledger, file: u64, path: Vec<u8>, outcome: Outcome, content: Option<(u64, [u8; 32])>) {
    let (size_bytes, digest) = content.map_or((0, None), |(size, digest)| (size, Some(digest)));
    ledger.tell(Verdict { file, path, size_bytes, digest, outcome });
}

fn cannot_pass(name: &[u8], error: &std::io::Error) -> Failure {
    let reason = match error.kind() {
        ErrorKind::BrokenPipe => "the program that read it is gone".to_owned(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            return Failure::new(Code::NoSpace, name, "cannot write to standard output: no space left");
        }
        _ => plain(error),
    };
    Failure::new(Code::File, name, &format!("cannot write to standard output: {reason}"))
}

fn not_one_file(name: &[u8]) -> Failure {
    Failure::new(Code::Conflict, name, "standard output takes exactly one file; name a directory with `-o`")
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::super::tests::{config, digest, entry, file_entry, outcomes};
    use super::super::{Job, Place, Target};
    use super::*;

    #[test]
    fn one_file_is_passed_on_in_order_and_proven_at_its_end() {
        let (mut target, written) = output();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 8)] }).unwrap();

        target.handle(Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() }).unwrap();
        target.handle(Job::Hole { file: 0, offset: 2, len: 4 }).unwrap();
        target.handle(Job::Data { file: 0, offset: 6, bytes: b"cd".to_vec() }).unwrap();
        assert_eq!(*written.lock().unwrap(), b"ab\0\0\0\0cd");
        target.handle(Job::End { file: 0, size: 8, digest: digest(b"ab\0\0\0\0cd") }).unwrap();

        assert_eq!(outcomes(&mut target), [(0, Outcome::Done)]);
        assert_eq!(target.summary().digest, Some(digest(b"ab\0\0\0\0cd")));
    }

    #[test]
    fn holes_that_overtake_content_wait_for_it() {
        let (mut target, written) = output();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 8)] }).unwrap();

        target.handle(Job::Hole { file: 0, offset: 4, len: 2 }).unwrap();
        target.handle(Job::Hole { file: 0, offset: 2, len: 2 }).unwrap();
        assert_eq!(*written.lock().unwrap(), b"");
        target.handle(Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() }).unwrap();
        target.handle(Job::Data { file: 0, offset: 6, bytes: b"cd".to_vec() }).unwrap();
        target.handle(Job::End { file: 0, size: 8, digest: digest(b"ab\0\0\0\0cd") }).unwrap();

        assert_eq!(*written.lock().unwrap(), b"ab\0\0\0\0cd");
        assert_eq!(outcomes(&mut target), [(0, Outcome::Done)]);
    }

    #[test]
    fn bytes_out_of_order_end_the_session() {
        let (mut target, _) = output();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 8)] }).unwrap();

        let result = target.handle(Job::Data { file: 0, offset: 4, bytes: b"late".to_vec() });

        assert_eq!(result, Err(ProtocolViolation::OutOfOrder { file: 0, offset: 4, expected: 0 }));
    }

    #[test]
    fn wrong_bytes_are_told_although_they_were_passed_on() {
        let (mut target, _) = output();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 2)] }).unwrap();

        target.handle(Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() }).unwrap();
        target.handle(Job::End { file: 0, size: 2, digest: digest(b"xy") }).unwrap();

        assert!(matches!(outcomes(&mut target)[..], [(0, Outcome::Failed { code: Code::Integrity, .. })]));
    }

    #[test]
    fn a_second_file_and_a_directory_fail_alone() {
        let (mut target, _) = output();
        let dir = entry("d", Kind::Dir);
        let entries = vec![dir, file_entry("f", 1), file_entry("g", 1)];

        target.handle(Job::Entries { first: 0, entries }).unwrap();
        target.handle(Job::Data { file: 2, offset: 0, bytes: b"x".to_vec() }).unwrap();

        let told = outcomes(&mut target);
        assert!(matches!(
            told[..],
            [
                (0, Outcome::Failed { code: Code::Conflict, .. }),
                (2, Outcome::Failed { code: Code::Conflict, .. })
            ]
        ));
    }

    #[test]
    fn a_reader_that_went_away_fails_the_file_and_its_credit_comes_back() {
        let config = config(Place::Stdout(Box::new(Gone)));
        let mut target = Target::new(config).unwrap();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 2)] }).unwrap();

        target.handle(Job::Data { file: 0, offset: 0, bytes: b"a".to_vec() }).unwrap();
        target.handle(Job::Data { file: 0, offset: 1, bytes: b"b".to_vec() }).unwrap();
        target.handle(Job::End { file: 0, size: 2, digest: digest(b"ab") }).unwrap();

        let placed = std::iter::from_fn(|| target.poll_event())
            .filter(|event| matches!(event, super::super::Event::Placed { .. }));
        assert_eq!(placed.count(), 2);
        assert_eq!(target.summary().failures[0].code, Code::File);
        assert!(target.summary().failures[0].text.contains("the program that read it is gone"));
        assert!(target.is_settled());
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Clone)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output() -> (Target, Arc<Mutex<Vec<u8>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let writer = Shared(Arc::clone(&written));
        (Target::new(config(Place::Stdout(Box::new(writer)))).unwrap(), written)
    }
}
