//! The sending side's threads: one lists, one reads.
//!
//! The lister announces entries as the session has room for them; the reader works off read jobs, hashes on the way
//! and hands over pieces. Both sleep on the session and end with it.

use std::{sync::Arc, thread};

use super::{
    error::{Cause, RunError},
    meter::{Span, Wait},
    results::{Failure, Results},
    session::{Origin, Role, Session},
};
use crate::{
    file::{
        path::escape,
        source::{self, ResumedSource, SourceError, Sources, StreamSource},
        target::Expect,
        walk::{Found, Step, Walk},
    },
    limits,
    transfer::{Piece, ReadJob, Sender},
    wire::{
        frame::{FileEnd, Placed},
        message::{self, Code, DigestKind, Entry, Kind, Listed, Mtime, Sums, Unlisted},
    },
};

/// Entries in the first batch: little, so that the first of them leaves at once.
const FIRST_BATCH: usize = 16;

/// What there is to send.
#[derive(Debug)]
pub enum Source {
    /// What a walk finds.
    Walk(Box<Walk>),
    /// Standard input, under this name.
    Stdin(Vec<u8>),
}

/// What the reader needs to know.
#[derive(Debug)]
pub struct Reading {
    /// The agreed digest.
    pub digest: DigestKind,
    /// Digests that the files must have.
    pub expect: Expect,
}

/// Starts the lister and the reader.
pub fn start(
    session: &Arc<Session>,
    results: &Arc<Results>,
    source: Source,
    reading: Reading,
) -> Result<(), RunError> {
    let stdin_name = if let Source::Stdin(name) = &source { name.clone() } else { Vec::new() };
    let (s, r) = (session.clone(), results.clone());
    spawn(session, "lister", move || match source {
        Source::Walk(walk) => list(&s, &r, *walk),
        Source::Stdin(name) => announce_stdin(&s, name),
    })?;
    let (s, r) = (session.clone(), results.clone());
    spawn(session, "reader", move || Reader::new(s, r, reading, stdin_name).run())
}

/// Starts only the lister, for a peer that asked what there is.
pub fn start_listing(session: &Arc<Session>, results: &Arc<Results>, walk: Walk) -> Result<(), RunError> {
    let (s, r) = (session.clone(), results.clone());
    spawn(session, "lister", move || list(&s, &r, walk))
}

/// A named thread that works for `session`. Should it panic, the session ends and does not wait for it.
pub(super) fn spawn(
    session: &Arc<Session>,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), RunError> {
    let guard = Guard(session.clone());
    let failed = |error| RunError::new(Cause::Unexpected, format!("cannot start a thread: {error}"));
    let body = move || {
        let _guard = guard;
        body();
    };
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(failed)
}

struct Guard(Arc<Session>);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(RunError::new(Cause::Unexpected, "a fault in haul itself; please report it"));
        }
    }
}

fn sender(role: &mut Role) -> &mut Sender<Origin> {
    match role {
        Role::Sender(sender) => sender,
        Role::Receiver(_) | Role::Lister(_) => unreachable!("the threads of a sender run only for one"),
    }
}

fn list(session: &Session, results: &Results, mut walk: Walk) {
    let mut most = FIRST_BATCH;
    loop {
        let room = session.wait_for(|role| Some(sender(role).room_for_entries()).filter(|&room| room > 0));
        let Some(room) = room else { return };
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut is_end = false;
        let mut unlisted = Vec::new();
        while batch.len() + unlisted.len() < room.min(most) && bytes < limits::ENTRIES_BATCH_BYTES {
            match walk.next() {
                None => {
                    is_end = true;
                    break;
                }
                Some(Step::Failed { name, code, text }) => {
                    results.add_failure(Failure::new(&name, code, text.clone()));
                    unlisted.push(Unlisted { name: shortened(name), code, text });
                }
                Some(Step::Found(found)) => {
                    bytes += entry_bytes(&found.entry);
                    batch.push((found.entry.clone(), Origin::File(Arc::new(found))));
                }
            }
        }
        most = limits::ENTRIES_PER_BATCH;
        session.update(|role| {
            let sender = sender(role);
            sender.announce(batch);
            unlisted.into_iter().for_each(|unlisted| sender.on_unlisted(unlisted));
            if is_end {
                sender.on_listed(walk.listed());
            }
        });
        if is_end {
            results.set_not_kept(walk.not_kept());
            return;
        }
    }
}

/// A name that cannot be announced, as far as a message carries it.
fn shortened(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(limits::UNLISTED_NAME_MAX_BYTES);
    name
}

/// Upper bound of an entry's encoded size, bytes.
fn entry_bytes(entry: &Entry) -> usize {
    let target = if let Kind::Symlink { target } = &entry.kind { target.len() } else { 0 };
    64 + entry.name.len() + target
}

fn announce_stdin(session: &Session, name: Vec<u8>) {
    let since_1970 = super::clock::unix_time();
    let mtime = Mtime {
        secs: i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX),
        nanos: since_1970.subsec_nanos(),
    };
    let entry = Entry { source: 0, name, mode: 0o644, mtime, kind: Kind::Stream };
    session.update(|role| {
        let sender = sender(role);
        sender.announce(vec![(entry, Origin::Stdin)]);
        sender.on_listed(Listed { entries: 1, ..Listed::default() });
    });
}

/// How a source is read.
struct Reads {
    /// It fills whole chunks.
    is_large: bool,
    /// It cannot be read twice.
    keep: bool,
    /// Began before the source was opened.
    opening: Option<Span>,
}

struct Reader {
    session: Arc<Session>,
    results: Arc<Results>,
    reading: Reading,
    /// What standard input is called at the other end, if it is sent.
    stdin_name: Vec<u8>,
    sources: Sources,
    /// Pieces that were read and not handed over yet: small files travel in company.
    ready: Vec<Piece>,
    ready_bytes: usize,
}

impl Reader {
    fn new(session: Arc<Session>, results: Arc<Results>, reading: Reading, stdin_name: Vec<u8>) -> Self {
        let (sources, ready) = (Sources::new(), Vec::new());
        Self { session, results, reading, stdin_name, sources, ready, ready_bytes: 0 }
    }

    fn run(mut self) {
        while let Some(job) = self.next_job() {
            match job {
                ReadJob::Content { file, source: Origin::Stdin, .. } => self.stream(file),
                ReadJob::Content { file, source: Origin::File(found), kept } if kept.is_empty() => {
                    self.content(file, &found);
                }
                ReadJob::Content { file, source: Origin::File(found), kept } => {
                    self.resumed(file, &found, &kept);
                }
                ReadJob::Sums { file, source: Origin::File(found), first, count } => {
                    self.sums(file, &found, first, count);
                }
                ReadJob::Digest { file, source: Origin::File(found) } => self.digest(file, &found),
                ReadJob::Again { file, source: Origin::File(found), offset, len, crc } => {
                    self.again(file, &found, offset, len, crc);
                }
                ReadJob::Digest { .. } | ReadJob::Sums { .. } | ReadJob::Again { .. } => {
                    unreachable!("the sender keeps what standard input gave, and refuses to read it twice")
                }
            }
        }
        self.session.meter.on_thread_end(Wait::Source);
    }

    /// Hands over what is ready before it sleeps.
    fn next_job(&mut self) -> Option<ReadJob<Origin>> {
        if let Some(job) = self.session.try_for(|role| sender(role).poll_job()) {
            return Some(job);
        }
        self.flush();
        self.session.wait_for(|role| sender(role).poll_job())
    }

    fn content(&mut self, file: u64, found: &Found) {
        self.results.set_current(&found.entry.name);
        let span = Span::begin();
        let opened = self.sources.open(&found.origin, self.reading.digest, self.session.chunk_bytes());
        let mut open = match opened {
            Ok(open) => open,
            Err(error) => return self.failed(file, &found.entry.name, &error),
        };
        let is_large = open.size() >= self.session.chunk_bytes() as u64;
        let how = Reads { is_large, keep: false, opening: Some(span) };
        self.pieces(file, &found.entry.name, how, |buffer| open.next(buffer));
    }

    /// Sends what the receiver lacks of a file; hashes the rest while there is no room for more, and behind it.
    fn resumed(&mut self, file: u64, found: &Found, kept: &[message::Span]) {
        self.results.set_current(&found.entry.name);
        let (digest, chunk_bytes) = (self.reading.digest, self.session.chunk_bytes());
        if let Err(error) = self
            .sources
            .open_resumed(&found.origin, digest, chunk_bytes, kept)
            .and_then(|source| self.resumed_pieces(file, &found.entry.name, source))
        {
            self.failed(file, &found.entry.name, &error);
        }
    }

    fn resumed_pieces(
        &mut self,
        file: u64,
        name: &[u8],
        mut source: ResumedSource,
    ) -> Result<(), SourceError> {
        self.flush();
        let mut buffer = Vec::new();
        loop {
            let (is_open, has_room) = self.session.look(|role| match role {
                Role::Sender(sender) => (sender.is_open(file), sender.has_room()),
                Role::Receiver(_) | Role::Lister(_) => unreachable!("a reader runs only for a sender"),
            });
            if !is_open || self.session.is_over() {
                return Ok(());
            }
            let span = Span::begin();
            if !has_room && source.hash_ahead(&mut buffer)? {
                self.session.meter.add(Wait::Source, span.blocked());
                continue;
            }
            match source.next_lacked(&mut buffer)? {
                Some(source::Piece::Data { offset, bytes, crc }) => {
                    self.ready.push(Piece::Data { file, offset, bytes, crc, keep: false });
                }
                Some(source::Piece::Hole { offset, len }) => {
                    self.ready.push(Piece::Hole(Placed { file, offset, len }));
                }
                Some(source::Piece::End { .. }) => unreachable!("what is lacked has no end"),
                None if source.hash_ahead(&mut buffer)? => {}
                None => break,
            }
            self.session.meter.add(Wait::Source, span.blocked());
            if !self.ready.is_empty() && !self.hand_over(file) {
                return Ok(());
            }
            self.read_lost();
        }
        if let source::Piece::End { size, digest } = source.end()? {
            self.end(FileEnd { file, size, digest }, name);
        }
        Ok(())
    }

    fn sums(&mut self, file: u64, found: &Found, first: u64, count: u64) {
        let span = Span::begin();
        let opened = self.sources.open(&found.origin, self.reading.digest, self.session.chunk_bytes());
        let sums = opened.and_then(|open| open.sums_while(first, count, || !self.session.is_over()));
        self.session.meter.add(Wait::Source, span.blocked());
        match sums {
            Ok(None) => return,
            _ if self.session.is_over() => return,
            Ok(Some(sums)) => self.ready.push(Piece::Sums(Sums { file, first, sums })),
            Err(error) => self.failed(file, &found.entry.name, &error),
        }
        self.flush();
    }

    fn stream(&mut self, file: u64) {
        let (digest, chunk_bytes) = (self.reading.digest, self.session.chunk_bytes());
        let name = self.stdin_name.clone();
        match StreamSource::stdin(digest, chunk_bytes) {
            Ok(mut stream) => {
                let how = Reads { is_large: true, keep: true, opening: None };
                self.pieces(file, &name, how, |buffer| stream.next(buffer));
            }
            Err(error) => self.failed(file, &name, &SourceError::Io(error)),
        }
    }

    /// Reads a source to its end. Large ones reuse chunk buffers; a small one in a large buffer would waste it.
    fn pieces(
        &mut self,
        file: u64,
        name: &[u8],
        Reads { is_large, keep, mut opening }: Reads,
        mut next: impl FnMut(&mut Vec<u8>) -> Result<source::Piece, SourceError>,
    ) {
        let mut buffer = Vec::new();
        loop {
            if is_large && buffer.capacity() == 0 {
                buffer = self.session.take_spare();
            }
            // A small file is measured once, from its opening to its content: a clock costs as much as a small read.
            let span = opening.take().or_else(|| is_large.then(Span::begin));
            let piece = next(&mut buffer);
            if let Some(span) = span {
                self.session.meter.add(Wait::Source, span.blocked());
            }
            match piece {
                Ok(source::Piece::Data { offset, bytes, crc }) => {
                    self.ready_bytes += bytes.len();
                    self.ready.push(Piece::Data { file, offset, bytes, crc, keep });
                }
                Ok(source::Piece::Hole { offset, len }) => {
                    self.ready.push(Piece::Hole(Placed { file, offset, len }));
                }
                Ok(source::Piece::End { size, digest }) => {
                    return self.end(FileEnd { file, size, digest }, name);
                }
                Err(error) => return self.failed(file, name, &error),
            }
            if self.ready_bytes >= limits::CHUNK_MIN_BYTES {
                if !self.hand_over(file) {
                    return;
                }
                self.read_lost();
            }
        }
    }

    fn end(&mut self, end: FileEnd, name: &[u8]) {
        match self.reading.expect.check(name, &end.digest) {
            Ok(()) => {
                self.results.set_digest(end.digest);
                self.ready.push(Piece::End(end));
            }
            Err(text) => self.ready.push(Piece::Failed { file: end.file, code: Code::Integrity, text }),
        }
        if self.ready.len() >= READY_MAX || self.ready_bytes >= limits::CHUNK_MIN_BYTES {
            self.hand_over(end.file);
        }
    }

    fn digest(&mut self, file: u64, found: &Found) {
        self.results.set_current(&found.entry.name);
        let span = Span::begin();
        let digest = self
            .sources
            .open(&found.origin, self.reading.digest, self.session.chunk_bytes())
            .and_then(|open| open.digest_while(|| !self.session.is_over()));
        self.session.meter.add(Wait::Source, span.blocked());
        match digest {
            Ok(None) => return,
            Ok(Some((size, digest))) => {
                let piece = match self.reading.expect.check(&found.entry.name, &digest) {
                    Ok(()) => Piece::Digest(FileEnd { file, size, digest }),
                    Err(text) => Piece::Failed { file, code: Code::Integrity, text },
                };
                self.ready.push(piece);
            }
            Err(error) => self.failed(file, &found.entry.name, &error),
        }
        self.flush();
    }

    /// Reads what was lost with a carrier, in the middle of a file.
    fn read_lost(&mut self) {
        while let Some(ReadJob::Again { file, source: Origin::File(found), offset, len, crc }) =
            self.session.try_for(|role| sender(role).poll_again())
        {
            self.again(file, &found, offset, len, crc);
        }
    }

    fn again(&mut self, file: u64, found: &Found, offset: u64, len: usize, crc: u32) {
        let bytes = self
            .sources
            .open(&found.origin, self.reading.digest, self.session.chunk_bytes())
            .and_then(|open| open.read_again(offset, len, crc, Vec::new()));
        match bytes {
            Ok(bytes) => {
                self.ready_bytes += bytes.len();
                self.ready.push(Piece::Data { file, offset, bytes, crc, keep: false });
                self.hand_over(file);
            }
            Err(error) => self.failed(file, &found.entry.name, &error),
        }
    }

    fn failed(&mut self, file: u64, name: &[u8], error: &SourceError) {
        tracing::debug!(file, %error, "a source file failed");
        let text = format!("{}: {error}", escape(name));
        self.ready.push(Piece::Failed { file, code: error.code(), text });
        self.flush();
    }

    /// Waits for room, then hands over what is ready; `false` when nobody wants more of this file.
    fn hand_over(&mut self, file: u64) -> bool {
        let span = self.session.meter.elapsed();
        let is_open = self.session.wait_for(|role| {
            let sender = sender(role);
            (sender.has_room() || !sender.is_open(file)).then(|| sender.is_open(file))
        });
        self.session.meter.add(Wait::Peer, self.session.meter.elapsed().saturating_sub(span));
        self.flush();
        is_open == Some(true)
    }

    fn flush(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        self.ready_bytes = 0;
        let ready = std::mem::take(&mut self.ready);
        self.session.update(|role| ready.into_iter().for_each(|piece| sender(role).on_piece(piece)));
    }
}

/// Pieces that travel in company, at most.
const READY_MAX: usize = 128;
