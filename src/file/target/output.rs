//! A target that is a stream, usually standard output: one file, in order, proven at its end.
//!
//! Bytes are passed on as they come, so whoever reads them has them before the proof; the outcome tells whether they
//! were the right ones. Pieces overtake each other, on a flow and when one carrier takes over from another: what comes
//! before its turn is held in memory, and counts as placed. It cannot count as unplaced, because a carrier's end is told
//! when all is placed that came on it, and what is missing may come again only then. The memory is bounded twice: the
//! session grants less the more is held ([`Event::Held`](super::Event::Held)), so that a sender which repeats what was
//! lost before it reads on stays far below `limits::OUTPUT_HELD_BYTES`; beyond that, the file fails.

use std::io::{ErrorKind, Write};

use super::ProtocolViolation;
use super::config::TargetConfig;
use super::expected::Expected;
use super::held::{Held, price_bytes};
use super::ledger::{Ledger, failed};
use super::receive::Piece;
use crate::file::failure::{Failure, plain};
use crate::file::path::{PathError, RelPath};
use crate::file::publish::Verdict;
use crate::limits;
use crate::transfer::cursor::DigestCursor;
use crate::transfer::placement::Placement;
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
    /// What has come, passed on or held.
    placement: Placement,
    /// Has taken everything that was passed on.
    cursor: DigestCursor,
    /// What came before its turn, `<= limits::OUTPUT_HELD_BYTES`.
    held: Held,
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

    /// Passes content or a hole on, and what waited for it; or holds it until its turn.
    pub(super) fn on_piece(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        offset: u64,
        piece: Piece<'_>,
    ) -> Result<(), ProtocolViolation> {
        let Some(passing) = self.passing.as_mut().filter(|passing| passing.number == file) else {
            return Ok(());
        };
        let placed = passing.placement.place(offset, piece.len());
        placed.map_err(|why| ProtocolViolation::Placement { file, why })?;
        // What was passed on is placed, so that nothing else comes in front of the cursor.
        if offset == passing.cursor.hashed_bytes() {
            self.pass_piece(ledger, piece);
            self.catch_up(ledger);
        } else if passing.held.memory_bytes() + price_bytes(piece) <= limits::OUTPUT_HELD_BYTES {
            passing.held.hold(offset, piece);
        } else {
            let text =
                "so much of it came before its turn that there is not enough memory to wait for the rest";
            let failure = Failure::new(Code::NoSpace, &passing.name, text);
            self.fail(ledger, failure);
        }
        self.tell_held(ledger);
        Ok(())
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
        // protocol.md [FILE-3]
        if !passing.placement.is_complete(size) {
            let placed = passing.placement.placed_bytes();
            return Err(ProtocolViolation::Incomplete { file, size, placed });
        }
        let own =
            passing.cursor.finish(size).expect("the cursor is at the end of what has come without a gap");
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
            self.tell_held(ledger);
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
        let (placement, held) = (Placement::new(size), Held::default());
        Ok(Passing { number, name: entry.name.clone(), size, expected, placement, cursor, held })
    }

    /// Passes on what was held and has its turn.
    fn catch_up(&mut self, ledger: &mut Ledger) {
        while let Some(passing) = &mut self.passing
            && let Some(early) = passing.held.take(passing.cursor.hashed_bytes())
        {
            self.pass_piece(ledger, early.as_piece());
        }
    }

    fn pass_piece(&mut self, ledger: &mut Ledger, piece: Piece<'_>) {
        match piece {
            Piece::Bytes(bytes) => self.pass(ledger, bytes),
            Piece::Hole(len) => self.pass_zeros(ledger, len),
        }
    }

    fn pass_zeros(&mut self, ledger: &mut Ledger, mut left: u64) {
        while left > 0 && self.passing.is_some() {
            let step = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.pass(ledger, &ZEROS[..step]);
            left -= step as u64;
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
                self.fail(ledger, failure);
            }
        }
    }

    fn fail(&mut self, ledger: &mut Ledger, failure: Failure) {
        if let Some(passing) = self.passing.take() {
            tell(ledger, passing.number, passing.name, failed(failure), None);
        }
    }

    fn tell_held(&self, ledger: &mut Ledger) {
        ledger.held(self.passing.as_ref().map_or(0, |passing| passing.held.memory_bytes()));
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

    use super::super::held::OVERHEAD_BYTES;
    use super::super::tests::{config, digest, entry, file_entry, outcomes};
    use super::super::{Event, Job, Place, Target};
    use super::*;
    use crate::transfer::placement::PlaceError;

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
    fn bytes_and_holes_that_overtake_each_other_are_passed_on_in_order() {
        let content = b"ab\0\0cdef";
        let piece = |number: u8| match number {
            0 => Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() },
            1 => Job::Hole { file: 0, offset: 2, len: 2 },
            2 => Job::Data { file: 0, offset: 4, bytes: b"cd".to_vec() },
            _ => Job::Data { file: 0, offset: 6, bytes: b"ef".to_vec() },
        };
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1], [3, 1, 2, 0]] {
            for kind in [Kind::Stream, Kind::File { size: 8, sparse: true, linked: false }] {
                let (mut target, written) = output();
                target.handle(Job::Entries { first: 0, entries: vec![entry("f", kind)] }).unwrap();

                order.iter().for_each(|&number| target.handle(piece(number)).unwrap());
                target.handle(Job::End { file: 0, size: 8, digest: digest(content) }).unwrap();

                assert_eq!(*written.lock().unwrap(), content, "{order:?}");
                assert_eq!(outcomes(&mut target), [(0, Outcome::Done)]);
            }
        }
    }

    #[test]
    fn what_is_held_is_placed_at_once_and_told_until_it_has_its_turn() {
        let (mut target, _) = output();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 4)] }).unwrap();
        while target.poll_event().is_some() {}

        target.handle(Job::Data { file: 0, offset: 2, bytes: b"cd".to_vec() }).unwrap();
        assert_eq!(target.poll_event(), Some(Event::Held { bytes: 2 + OVERHEAD_BYTES }));
        assert!(matches!(target.poll_event(), Some(Event::Placed { offset: 2, len: 2, .. })));
        target.handle(Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() }).unwrap();

        // In this order, so that the credit that comes back is told with what is placed.
        assert_eq!(target.poll_event(), Some(Event::Held { bytes: 0 }));
        assert!(matches!(target.poll_event(), Some(Event::Placed { offset: 0, len: 2, .. })));
        assert_eq!(target.poll_event(), None);
    }

    #[test]
    fn nothing_is_held_of_a_file_that_its_sender_gives_up() {
        let (mut target, _) = output();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 4)] }).unwrap();
        target.handle(Job::Hole { file: 0, offset: 2, len: 2 }).unwrap();

        target.handle(Job::Failed { file: 0, code: Code::SourceChanged, text: String::new() }).unwrap();

        let told = std::iter::from_fn(|| target.poll_event());
        assert_eq!(
            told.filter(|event| matches!(event, Event::Held { .. })).last(),
            Some(Event::Held { bytes: 0 })
        );
    }

    #[test]
    fn what_overlaps_ends_the_session_whether_it_was_passed_on_or_is_held() {
        // protocol.md [DATA-6]
        for (offset, len) in [(0, 1), (1, 2), (4, 2), (3, 2), (5, 3), (0, 8)] {
            for is_hole in [false, true] {
                let (mut target, _) = output();
                target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 8)] }).unwrap();
                target.handle(Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() }).unwrap();
                target.handle(Job::Data { file: 0, offset: 4, bytes: b"ef".to_vec() }).unwrap();

                let result = target.handle(match is_hole {
                    true => Job::Hole { file: 0, offset, len },
                    false => Job::Data { file: 0, offset, bytes: vec![1; usize::try_from(len).unwrap()] },
                });

                let why = PlaceError::Overlap { offset, len };
                assert_eq!(result, Err(ProtocolViolation::Placement { file: 0, why }));
            }
        }
    }

    #[test]
    fn an_end_with_a_gap_ends_the_session() {
        // protocol.md [FILE-3]: also where as many bytes have come as the end says.
        for size in [1, 2, 4] {
            let (mut target, _) = output();
            target.handle(Job::Entries { first: 0, entries: vec![entry("s", Kind::Stream)] }).unwrap();
            target.handle(Job::Data { file: 0, offset: 0, bytes: b"ab".to_vec() }).unwrap();
            target.handle(Job::Data { file: 0, offset: 4, bytes: b"ef".to_vec() }).unwrap();

            let result = target.handle(Job::End { file: 0, size, digest: digest(b"ab") });

            assert_eq!(result, Err(ProtocolViolation::Incomplete { file: 0, size, placed: 4 }));
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_fails_alone() {
        let (mut target, written) = output();
        target.handle(Job::Entries { first: 0, entries: vec![file_entry("f", 1 << 40)] }).unwrap();
        let piece = limits::CHUNK_MAX_BYTES as u64;
        let count = limits::OUTPUT_HELD_BYTES / (piece + OVERHEAD_BYTES);
        let early = |number: u64| Job::Data {
            file: 0,
            offset: number * piece,
            bytes: vec![1; limits::CHUNK_MAX_BYTES],
        };

        (1..=count).for_each(|number| target.handle(early(number)).unwrap());
        assert_eq!(outcomes(&mut target), [], "just inside");
        target.handle(early(count + 1)).unwrap();
        target.handle(early(0)).unwrap();

        let told = outcomes(&mut target);
        assert!(matches!(told[..], [(0, Outcome::Failed { code: Code::NoSpace, .. })]), "{told:?}");
        assert!(written.lock().unwrap().is_empty());
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

        let placed =
            std::iter::from_fn(|| target.poll_event()).filter(|event| matches!(event, Event::Placed { .. }));
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
