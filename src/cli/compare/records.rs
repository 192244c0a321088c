//! The file of `--records`: a line of JSON for each run, written when the run has ended.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::cli::exit::{Exit, Failure};
use crate::compare::record::Record;

/// The open file.
#[derive(Debug)]
pub(super) struct RecordFile {
    file: File,
    path: PathBuf,
    known: Vec<Record>,
}

/// More than a thousand long runs.
const FILE_MAX_BYTES: u64 = 1 << 30;

impl RecordFile {
    /// Opens or makes it, and reads the runs that it has. A last line that was cut off is no run; anything else that is none is refused,
    /// since the file may be something else.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot use {} for the records", path.display());
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).with_context(context)?;
        let mut text = String::new();
        (&mut file).take(FILE_MAX_BYTES).read_to_string(&mut text).with_context(context)?;
        let mut known = Vec::new();
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            match serde_json::from_str(line) {
                Ok(record) => known.push(record),
                Err(_) if !line.ends_with('\n') => {
                    let whole = text.len() - line.len();
                    file.set_len(whole as u64).with_context(context)?;
                }
                Err(error) => {
                    let text =
                        format!("{}: line {number} is no record of a comparison: {error}", path.display());
                    return Err(Failure::new(Exit::Usage, text).into());
                }
            }
        }
        Ok(Self { file, path: path.to_owned(), known })
    }

    /// The runs that were in it.
    pub(super) fn take_known(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.known)
    }

    /// Adds a run.
    pub(super) fn add(&mut self, record: &Record) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("cannot write to {}", self.path.display()))
    }
}
