//! Writes down what the end of a flow does, for a person who wants to know why it is slow.
//!
//! The end's value notes lines in memory. The end's thread takes them between two packets and writes them out, so that
//! only the disk bounds how many there are. A diary that cannot be written ends, and the flow does not care.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    sync::Arc,
    time::Duration,
};

use crate::datagram::Trace;

/// Lines that an end keeps until its thread takes them, which it does at least once a second.
pub const LINES: usize = 1 << 18;

/// A file for the lines of one end.
#[derive(Debug)]
pub struct Diary {
    /// `None` once writing has failed.
    out: Option<BufWriter<Arc<File>>>,
}

impl Diary {
    /// Writes to `file` from where it stands.
    pub fn new(file: Arc<File>) -> Self {
        Self { out: Some(BufWriter::new(file)) }
    }

    /// Writes these lines.
    pub fn write(&mut self, lines: &[String]) {
        self.attempt(|out| lines.iter().try_for_each(|line| writeln!(out, "{line}")));
    }

    /// Nothing follows soon: all of it is to be in the file.
    pub fn flush(&mut self) {
        self.attempt(BufWriter::flush);
    }

    fn attempt(&mut self, step: impl FnOnce(&mut BufWriter<Arc<File>>) -> io::Result<()>) {
        let Some(out) = &mut self.out else { return };
        if let Err(error) = step(out) {
            tracing::warn!(%error, "cannot write the trace of the flow");
            // What is buffered is not tried again.
            let (_, _) = self.out.take().expect("it was there").into_parts();
        }
    }
}

/// The lines that nobody has taken yet; at the end, also how many were lost since nobody took them in time.
pub fn take(now: Duration, trace: &mut Trace, is_end: bool) -> Vec<String> {
    let mut lines: Vec<_> = std::iter::from_fn(|| trace.poll_line()).collect();
    if is_end {
        trace.note_forgotten(now);
        lines.extend(trace.poll_line());
    }
    lines
}
