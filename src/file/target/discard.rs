//! A target that keeps nothing: content is hashed in the order of its file, compared with the sender's digest, and thrown
//! away. For who wants to measure a path and not a disk. protocol.md, section 27.
//!
//! Nothing here knows a disk or a directory. What comes before its turn is held in memory, since there is no file to read
//! it back from. A file of which more has to wait than [`Memory`] has is taken to its end, and cannot be proven then.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ProtocolViolation;
use super::held::{Held, price_bytes};
use super::ledger::{Ledger, failed};
use super::links::{Linked, LinkedFiles};
use super::raw::{describe, lack_of};
use super::receive::Piece;
use crate::file::failure::Failure;
use crate::file::path::{PathError, RelPath};
use crate::file::publish::Verdict;
use crate::limits;
use crate::transfer::cursor::DigestCursor;
use crate::transfer::placement::{PlaceError, Placement};
use crate::transfer::raw::RawPiece;
use crate::wire::message::{Code, DigestKind, Entry, Kind, Outcome, Want};

/// Memory for what comes before its turn, shared by the sessions of a server.
#[derive(Debug)]
pub struct Memory {
    /// Bytes that nobody holds.
    left: AtomicU64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { left: AtomicU64::new(limits::DISCARD_HELD_TOTAL_BYTES) }
    }
}

impl Memory {
    /// Takes so many bytes, if they are there.
    fn try_take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.left.fetch_add(bytes, Relaxed);
    }
}

/// The files of one session, none of which is kept.
#[derive(Debug)]
pub(super) struct Discard {
    digest: DigestKind,
    /// Bytes that the session may send, and how many of them are not spoken for.
    bytes_max: u64,
    bytes_left: u64,
    memory: Arc<Memory>,
    /// Of `memory`, what this session has, bytes, `<= limits::DISCARD_HELD_BYTES`.
    memory_taken: u64,
    /// Files and waiting hard links without an outcome, by number.
    open: HashMap<u64, Incoming>,
    linked: LinkedFiles,
}

/// A file, or a hard link that waits for its file, without an outcome.
#[derive(Debug)]
struct Incoming {
    path: RelPath,
    kind: Awaited,
    placement: Placement,
    /// `None`: too much came before its turn to follow.
    cursor: Option<DigestCursor>,
    /// What came before its turn.
    held: Held,
}

/// What a number without an outcome waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// As many bytes as were announced.
    File { size: u64, linked: bool },
    /// Bytes that are counted as they come.
    Stream,
    /// The outcome of the file that it is another name of.
    Link,
}

impl Discard {
    pub(super) fn new(digest: DigestKind, bytes_max: u64, memory: Arc<Memory>) -> Self {
        Self {
            digest,
            bytes_max,
            bytes_left: bytes_max,
            memory,
            memory_taken: 0,
            open: HashMap::new(),
            linked: LinkedFiles::default(),
        }
    }

    pub(super) fn on_entry(
        &mut self,
        ledger: &mut Ledger,
        number: u64,
        entry: Entry,
    ) -> Result<(), ProtocolViolation> {
        let path = match RelPath::parse(&entry.name) {
            Ok(path) => path,
            // protocol.md [NAME-2]
            Err(why @ (PathError::TooLong | PathError::Reserved)) => {
                if matches!(entry.kind, Kind::File { linked: true, .. }) {
                    self.linked.refuse(number)?;
                }
                let outcome = failed(Failure::new(Code::Conflict, &entry.name, &why.to_string()));
                tell(ledger, number, entry.name, 0, None, outcome);
                return Ok(());
            }
            // The name reaches no disk, but a sender that has such names is not to be trusted.
            Err(why) => return Err(ProtocolViolation::BadName { name: entry.name, why }),
        };
        match entry.kind {
            Kind::File { size, linked, .. } => {
                if linked {
                    self.linked.announce(number)?;
                }
                let incoming = self.incoming(path, Awaited::File { size, linked });
                match self.take_bytes(&incoming.path, size) {
                    Ok(()) => self.want(ledger, number, incoming),
                    Err(failure) => self.settle(ledger, number, &incoming, None, failed(failure)),
                }
            }
            Kind::Stream => {
                let incoming = self.incoming(path, Awaited::Stream);
                self.want(ledger, number, incoming);
            }
            Kind::Dir | Kind::Symlink { .. } => {
                tell(ledger, number, path.as_bytes().to_vec(), 0, None, Outcome::Done);
            }
            Kind::Hardlink { file } => match self.linked.look(file, number)? {
                Linked::Pending(_) => drop(self.open.insert(number, self.incoming(path, Awaited::Link))),
                linked => tell(ledger, number, path.as_bytes().to_vec(), 0, None, of_link(&linked, &path)),
            },
        }
        Ok(())
    }

    /// Takes content or a hole.
    pub(super) fn on_piece(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        offset: u64,
        piece: Piece<'_>,
    ) -> Result<(), ProtocolViolation> {
        if let Some(incoming) = self.wanted(file)? {
            let placed = incoming.placement.place(offset, piece.len());
            placed.map_err(|why| ProtocolViolation::Placement { file, why })?;
            self.follow(file, offset, piece);
            self.charge_stream(ledger, file, piece.len());
        }
        Ok(())
    }

    /// All content has come.
    pub(super) fn on_end(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        size: u64,
        digest: [u8; 32],
    ) -> Result<(), ProtocolViolation> {
        let Some(incoming) = self.wanted(file)? else { return Ok(()) };
        incoming.ends_at(file, size)?;
        // protocol.md [FILE-3]
        if !incoming.placement.is_complete(size) {
            let placed = incoming.placement.placed_bytes();
            return Err(ProtocolViolation::Incomplete { file, size, placed });
        }
        let outcome = incoming.prove(size, digest).map_or_else(failed, |()| Outcome::Done);
        self.settle_open(ledger, file, outcome, Some((size, digest)));
        Ok(())
    }

    /// Takes what came over a raw flow, unless it makes the file too scattered.
    pub(super) fn on_raw_piece(
        &mut self,
        ledger: &mut Ledger,
        piece: &RawPiece,
    ) -> Result<(), ProtocolViolation> {
        let RawPiece { file, offset, ref bytes, datagrams } = *piece;
        let len = bytes.len() as u64;
        let mut discarded = 0;
        if let Some(incoming) = self.wanted(file)? {
            match incoming.placement.place_raw(offset, len) {
                Ok(()) => {
                    self.follow(file, offset, Piece::Bytes(bytes));
                    self.charge_stream(ledger, file, len);
                }
                Err(PlaceError::TooScattered) => discarded = datagrams,
                Err(why) => return Err(ProtocolViolation::Placement { file, why }),
            }
        }
        ledger.raw_placed(len, discarded);
        Ok(())
    }

    /// Nothing more of the file comes over the raw flow. protocol.md [RAW-6]
    pub(super) fn on_raw_end(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        size: u64,
        digest: [u8; 32],
    ) -> Result<(), ProtocolViolation> {
        let Some(incoming) = self.wanted(file)? else { return Ok(()) };
        incoming.ends_at(file, size)?;
        let Some(lack) = lack_of(&incoming.placement, size) else {
            let placed = incoming.placement.placed_bytes();
            return Err(ProtocolViolation::Incomplete { file, size, placed });
        };
        let proof = match lack.bytes {
            0 => incoming.prove(size, digest),
            _ => Err(describe(incoming.path.as_bytes(), size, &lack, "nothing of it is kept")),
        };
        ledger.raw_ended(file, proof.is_ok(), lack);
        self.settle_open(ledger, file, proof.map_or_else(failed, |()| Outcome::Done), Some((size, digest)));
        Ok(())
    }

    /// The sender gives an entry up.
    pub(super) fn on_failed(&mut self, ledger: &mut Ledger, file: u64, code: Code, text: String) {
        self.settle_open(ledger, file, Outcome::Failed { code, text }, None);
    }

    fn incoming(&self, path: RelPath, kind: Awaited) -> Incoming {
        let size = if let Awaited::File { size, .. } = kind { Some(size) } else { None };
        Incoming {
            path,
            kind,
            placement: Placement::new(size),
            cursor: Some(DigestCursor::new(self.digest)),
            held: Held::default(),
        }
    }

    fn want(&mut self, ledger: &mut Ledger, number: u64, incoming: Incoming) {
        self.open.insert(number, incoming);
        ledger.want(number, Want::Content);
    }

    /// Counts these bytes against what the session may send. protocol.md [DISCARD-3]
    fn take_bytes(&mut self, path: &RelPath, bytes: u64) -> Result<(), Failure> {
        let Some(left) = self.bytes_left.checked_sub(bytes) else {
            let (most, left) = (self.bytes_max, self.bytes_left);
            let text = format!(
                "needs {bytes} bytes, but only {left} are left of the {most} that a session may send there (--discard)"
            );
            return Err(Failure::new(Code::NoSpace, path.as_bytes(), &text));
        };
        self.bytes_left = left;
        Ok(())
    }

    /// A stream's size shows only as it comes.
    fn charge_stream(&mut self, ledger: &mut Ledger, file: u64, len: u64) {
        let Some(incoming) = self.open.get(&file).filter(|incoming| incoming.kind == Awaited::Stream) else {
            return;
        };
        let path = incoming.path.clone();
        if let Err(failure) = self.take_bytes(&path, len) {
            self.settle_open(ledger, file, failed(failure), None);
        }
    }

    /// The file, if its content is wanted; `None` if it has an outcome and what still comes is of no use.
    /// protocol.md [FILE-5]
    fn wanted(&mut self, file: u64) -> Result<Option<&mut Incoming>, ProtocolViolation> {
        match self.open.get_mut(&file) {
            Some(Incoming { kind: Awaited::Link, .. }) => Err(ProtocolViolation::Unwanted { file }),
            incoming => Ok(incoming),
        }
    }

    /// Hashes what has its turn, and holds the rest for as long as there is memory.
    fn follow(&mut self, file: u64, offset: u64, piece: Piece<'_>) {
        let incoming = self.open.get_mut(&file).expect("the caller has just placed it");
        let Some(cursor) = &mut incoming.cursor else { return };
        let is_next = match piece {
            Piece::Bytes(bytes) => cursor.offer(offset, bytes),
            Piece::Hole(len) => cursor.offer_zeros(offset, len),
        };
        if is_next {
            self.catch_up(file);
            return;
        }
        if self.try_hold(price_bytes(piece)) {
            self.open.get_mut(&file).expect("as above").held.hold(offset, piece);
        } else {
            self.give_proof_up(file);
        }
    }

    /// Hashes what was held and has its turn.
    fn catch_up(&mut self, file: u64) {
        let incoming = self.open.get_mut(&file).expect("the caller has just placed it");
        let Some(cursor) = &mut incoming.cursor else { return };
        let held_before = incoming.held.memory_bytes();
        while let Some(early) = incoming.held.take(cursor.hashed_bytes()) {
            match early.as_piece() {
                Piece::Bytes(bytes) => cursor.feed(bytes),
                Piece::Hole(len) => cursor.zeros(len),
            }
        }
        let freed = held_before - incoming.held.memory_bytes();
        self.let_go(freed);
    }

    /// Whether there is memory for so many bytes; then it is taken.
    fn try_hold(&mut self, bytes: u64) -> bool {
        let is_held = self.memory_taken + bytes <= limits::DISCARD_HELD_BYTES && self.memory.try_take(bytes);
        self.memory_taken += if is_held { bytes } else { 0 };
        is_held
    }

    fn let_go(&mut self, bytes: u64) {
        self.memory_taken -= bytes;
        self.memory.give_back(bytes);
    }

    /// The rest of the file is counted, and not hashed.
    fn give_proof_up(&mut self, file: u64) {
        let incoming = self.open.get_mut(&file).expect("the caller has just placed it");
        incoming.cursor = None;
        let freed = std::mem::take(&mut incoming.held).memory_bytes();
        self.let_go(freed);
    }

    /// A file has its outcome; `proof` is its size and digest.
    fn settle_open(
        &mut self,
        ledger: &mut Ledger,
        file: u64,
        outcome: Outcome,
        proof: Option<(u64, [u8; 32])>,
    ) {
        let Some(incoming) = self.open.remove(&file) else { return };
        self.let_go(incoming.held.memory_bytes());
        self.settle(ledger, file, &incoming, proof, outcome);
    }

    fn settle(
        &mut self,
        ledger: &mut Ledger,
        number: u64,
        incoming: &Incoming,
        proof: Option<(u64, [u8; 32])>,
        outcome: Outcome,
    ) {
        let path = &incoming.path;
        let (size_bytes, digest) = proof.unzip();
        let waiting = match matches!(incoming.kind, Awaited::File { linked: true, .. }) {
            true => Some(self.linked.settle(number, path, &outcome)),
            false => None,
        };
        tell(ledger, number, path.as_bytes().to_vec(), size_bytes.unwrap_or(0), digest, outcome);
        for (linked, link) in waiting
            .into_iter()
            .flat_map(|(linked, links)| links.into_iter().map(move |link| (linked.clone(), link)))
        {
            // One that its sender gave up has its outcome.
            if let Some(Incoming { path, .. }) = self.open.remove(&link) {
                tell(ledger, link, path.as_bytes().to_vec(), 0, None, of_link(&linked, &path));
            }
        }
    }
}

impl Drop for Discard {
    fn drop(&mut self) {
        self.memory.give_back(self.memory_taken);
    }
}

impl Incoming {
    /// What was announced holds at the end.
    fn ends_at(&self, file: u64, size: u64) -> Result<(), ProtocolViolation> {
        match self.kind {
            Awaited::File { size: announced, .. } if announced != size => {
                Err(ProtocolViolation::SizeChanged { file, announced, ended: size })
            }
            _ => Ok(()),
        }
    }

    /// Compares the digests of a file of which all bytes are placed. protocol.md [FILE-4]
    fn prove(&self, size: u64, digest: [u8; 32]) -> Result<(), Failure> {
        let path = self.path.as_bytes();
        let Some(cursor) = &self.cursor else {
            let text = "it came whole, but so far out of order that there is not enough memory to check it";
            return Err(Failure::new(Code::NoSpace, path, text));
        };
        let own = cursor
            .clone()
            .finish(size)
            .expect("all bytes are placed, and the cursor follows to the end of them");
        if own != digest {
            let text = "what came does not have the digest that the sender computed; send it again";
            return Err(Failure::new(Code::Integrity, path, text));
        }
        Ok(())
    }
}

/// What becomes of another name of a file that was thrown away. protocol.md [ENTRY-3]
fn of_link(linked: &Linked, path: &RelPath) -> Outcome {
    match linked {
        Linked::Live(_) => Outcome::Done,
        Linked::Pending(_) | Linked::Planned | Linked::Missing => {
            let text = "the file that it is another name of was not received";
            failed(Failure::new(Code::Conflict, path.as_bytes(), text))
        }
    }
}

fn tell(
    ledger: &mut Ledger,
    file: u64,
    path: Vec<u8>,
    size_bytes: u64,
    digest: Option<[u8; 32]>,
    outcome: Outcome,
) {
    ledger.tell(Verdict { file, path, size_bytes, digest, outcome });
}

#[cfg(test)]
mod tests {
    use super::super::held::OVERHEAD_BYTES;
    use super::super::tests::{config, digest, entry, file_entry, outcomes};
    use super::super::{Event, Job, Place, Target};
    use super::*;

    const SIX: &[u8] = b"abcdef";

    #[test]
    fn a_file_in_any_order_is_proven() {
        for order in [[0, 2, 4], [4, 2, 0], [2, 0, 4], [4, 0, 2]] {
            let mut target = target(100);
            announce(&mut target, vec![file_entry("f", 6)]);

            order.iter().for_each(|&at| data(&mut target, 0, at as u64, &SIX[at..at + 2]));
            end(&mut target, 0, 6, digest(SIX));

            assert_eq!(outcomes(&mut target), [(0, Outcome::Done)], "{order:?}");
        }
    }

    #[test]
    fn holes_are_hashed_as_zeros_in_any_order() {
        for is_early in [true, false] {
            let mut target = target(100);
            announce(&mut target, vec![file_entry("f", 6)]);

            let hole = Job::Hole { file: 0, offset: 2, len: 4 };
            if is_early {
                target.handle(hole).unwrap();
                data(&mut target, 0, 0, b"ab");
            } else {
                data(&mut target, 0, 0, b"ab");
                target.handle(hole).unwrap();
            }
            end(&mut target, 0, 6, digest(b"ab\0\0\0\0"));

            assert_eq!(outcomes(&mut target), [(0, Outcome::Done)]);
        }
    }

    #[test]
    fn other_bytes_than_were_sent_are_not_done() {
        let mut target = target(100);
        announce(&mut target, vec![file_entry("f", 6)]);

        data(&mut target, 0, 0, SIX);
        end(&mut target, 0, 6, digest(b"abcdeX"));

        assert!(matches!(outcomes(&mut target)[..], [(0, Outcome::Failed { code: Code::Integrity, .. })]));
    }

    #[test]
    fn a_session_may_send_as_much_as_it_may_and_not_a_byte_more() {
        // protocol.md [DISCARD-3]
        let mut target = target(10);
        let stream = entry("s", Kind::Stream);
        announce(&mut target, vec![file_entry("a", 4), file_entry("b", 7), file_entry("c", 4), stream]);
        let no_space = |outcome: &(u64, Outcome)| matches!(outcome, (_, Outcome::Failed { code: Code::NoSpace, text }) if text.contains("--discard"));

        let wanted: Vec<_> = std::iter::from_fn(|| target.poll_event()).collect();
        assert!(matches!(
            wanted[..],
            [
                Event::Want { file: 0, .. },
                Event::Outcome { file: 1, .. },
                Event::Want { file: 2, .. },
                Event::Want { file: 3, .. }
            ]
        ));
        data(&mut target, 3, 0, b"xy");
        assert_eq!(outcomes(&mut target), [], "just inside");
        data(&mut target, 3, 2, b"z");

        assert!(matches!(&outcomes(&mut target)[..], [outcome @ (3, _)] if no_space(outcome)));
        data(&mut target, 3, 3, b"discarded");
    }

    #[test]
    fn what_waits_for_its_turn_is_bounded_and_given_back() {
        let two = 2 * (2 + OVERHEAD_BYTES);
        let memory = Arc::new(Memory { left: AtomicU64::new(two) });
        let mut target = target_with(100, &memory);
        announce(&mut target, vec![file_entry("f", 6), file_entry("g", 6)]);

        data(&mut target, 0, 2, b"cd");
        data(&mut target, 1, 4, b"ef");
        assert_eq!(memory.left.load(Relaxed), 0, "just inside");
        data(&mut target, 1, 2, b"cd");
        assert_eq!(memory.left.load(Relaxed), two / 2, "what cannot be proven any more holds nothing");
        data(&mut target, 0, 0, b"ab");
        assert_eq!(memory.left.load(Relaxed), two);
        data(&mut target, 1, 0, b"ab");
        end(&mut target, 1, 6, digest(SIX));
        assert!(matches!(outcomes(&mut target)[..], [(1, Outcome::Failed { code: Code::NoSpace, .. })]));

        data(&mut target, 0, 5, b"f");
        drop(target);
        assert_eq!(memory.left.load(Relaxed), two, "nor does a session that is over");
    }

    #[test]
    fn a_session_does_not_hold_more_than_its_share_however_small_the_pieces() {
        let memory = Arc::<Memory>::default();
        let mut target = target_with(1 << 40, &memory);
        announce(&mut target, vec![file_entry("f", 1 << 30)]);
        let least = limits::DISCARD_HELD_TOTAL_BYTES - limits::DISCARD_HELD_BYTES;

        for offset in 1..=limits::DISCARD_HELD_BYTES / (OVERHEAD_BYTES + 1) {
            data(&mut target, 0, offset, b"x");
            assert!(memory.left.load(Relaxed) >= least);
        }
        data(&mut target, 0, 1 << 29, b"x");

        assert_eq!(memory.left.load(Relaxed), limits::DISCARD_HELD_TOTAL_BYTES, "one too many");
    }

    #[test]
    fn over_a_raw_flow_a_file_is_counted_on_when_it_cannot_be_proven_any_more() {
        let memory = Arc::new(Memory { left: AtomicU64::new(1) });
        let mut target = target_with(100, &memory);
        announce(&mut target, vec![file_entry("f", 6), file_entry("g", 6), file_entry("h", 2)]);
        let raw = |file, offset: u64, bytes: &[u8]| {
            Job::RawPiece(RawPiece { file, offset, bytes: bytes.to_vec(), datagrams: 1 })
        };

        for (at, bytes) in [(2, &b"cd"[..]), (0, b"ab"), (4, b"ef")] {
            target.handle(raw(0, at, bytes)).unwrap();
        }
        target.handle(Job::RawEnd { file: 0, size: 6, digest: digest(SIX) }).unwrap();
        target.handle(raw(1, 4, b"ef")).unwrap();
        target.handle(Job::RawEnd { file: 1, size: 6, digest: digest(SIX) }).unwrap();
        target.handle(raw(2, 0, b"ab")).unwrap();
        target.handle(Job::RawEnd { file: 2, size: 2, digest: digest(b"ab") }).unwrap();

        let events: Vec<_> = std::iter::from_fn(|| target.poll_event()).collect();
        let lacks = events.iter().filter_map(|event| match event {
            Event::RawEnded { is_intact, lack, .. } => Some((*is_intact, lack.bytes)),
            _ => None,
        });
        assert_eq!(lacks.collect::<Vec<_>>(), [(false, 0), (false, 4), (true, 0)]);
        let told: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                Event::Outcome { outcome, .. } => Some(outcome),
                _ => None,
            })
            .collect();
        assert!(
            matches!(told[0], Outcome::Failed { code: Code::NoSpace, text } if text.contains("came whole"))
        );
        assert!(matches!(told[1], Outcome::Failed { code: Code::Integrity, text }
            if text.contains("4 of 6 bytes are missing") && text.contains("nothing of it is kept")));
        assert_eq!(told[2], &Outcome::Done);
    }

    #[test]
    fn a_hard_link_has_the_outcome_of_its_file() {
        let mut target = target(10);
        let linked = |name, size| entry(name, Kind::File { size, sparse: false, linked: true });
        let link = |name, file| entry(name, Kind::Hardlink { file });

        announce(&mut target, vec![linked("a", 6), linked("big", 7), link("b", 0), link("c", 1)]);
        let told = outcomes(&mut target);
        data(&mut target, 0, 0, SIX);
        end(&mut target, 0, 6, digest(SIX));

        assert!(matches!(
            told[..],
            [
                (1, Outcome::Failed { code: Code::NoSpace, .. }),
                (3, Outcome::Failed { code: Code::Conflict, .. })
            ]
        ));
        assert_eq!(outcomes(&mut target), [(0, Outcome::Done), (2, Outcome::Done)]);
        assert!(target.is_settled());
    }

    #[test]
    fn names_are_looked_at_as_ever() {
        let bad =
            |name: &str| target(10).handle(Job::Entries { first: 0, entries: vec![file_entry(name, 1)] });

        for name in ["../x", "/x", "a/../b", "a//b", "", "."] {
            assert!(matches!(bad(name), Err(ProtocolViolation::BadName { .. })), "{name}");
        }
        let mut target = target(10);
        announce(&mut target, vec![file_entry(".haul-x", 1)]);
        assert!(matches!(outcomes(&mut target)[..], [(0, Outcome::Failed { code: Code::Conflict, .. })]));
    }

    fn target(bytes_max: u64) -> Target {
        target_with(bytes_max, &Arc::default())
    }

    fn target_with(bytes_max: u64, memory: &Arc<Memory>) -> Target {
        Target::new(config(Place::Nowhere { bytes_max, memory: memory.clone() })).unwrap()
    }

    fn announce(target: &mut Target, entries: Vec<Entry>) {
        target.handle(Job::Entries { first: 0, entries }).unwrap();
    }

    fn data(target: &mut Target, file: u64, offset: u64, bytes: &[u8]) {
        target.handle(Job::Data { file, offset, bytes: bytes.to_vec() }).unwrap();
    }

    fn end(target: &mut Target, file: u64, size: u64, digest: [u8; 32]) {
        target.handle(Job::End { file, size, digest }).unwrap();
    }
}
