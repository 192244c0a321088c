//! A link as it is typed: a SPEC, with the trace that it names read from its file.

use std::fs::File;
use std::io::{self, Read as _};

use crate::link::{LinkConfig, SpecError, TRACE_MAX_OPPORTUNITIES, Trace, TraceError};

/// Longest file of a trace, bytes: as many lines as a trace has, of a moment's eight digits each.
const TRACE_MAX_BYTES: usize = TRACE_MAX_OPPORTUNITIES * 9;

/// Reads a SPEC, for clap.
pub fn read(text: &str) -> Result<LinkConfig, SpecError> {
    LinkConfig::read(text, load)
}

fn load(name: &str) -> Result<Trace, TraceError> {
    let text = content(name)
        .map_err(|error| TraceError::Unreadable { name: name.to_owned(), why: error.to_string() })?;
    if text.len() > TRACE_MAX_BYTES {
        return Err(TraceError::TooLong { name: name.to_owned() });
    }
    Trace::read(name, &text)
}

/// The file's text, up to a byte more than a trace may have.
fn content(name: &str) -> io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(TRACE_MAX_BYTES).unwrap_or(u64::MAX);
    File::open(name)?.take(most.saturating_add(1)).read_to_string(&mut text)?;
    Ok(text)
}
