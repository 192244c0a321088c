//! Standard output for results, standard error for people.
//!
//! A result that nobody reads any more (a broken pipe) is not an error: the command ends as if done. Lines for
//! people start with `haul: `, are one line each and leave a progress display whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::Global;
use super::exit::Exit;
use super::progress::ProgressView;
use crate::file::path::{TEMP_PREFIX, escape};
use crate::run::clock;

/// Number of the JSON objects' shape: fields may be added, and nothing else changes without a new number.
pub const JSON_VERSION: u32 = 1;

/// Where a command's words go.
#[derive(Debug)]
pub struct Output {
    options: Global,
    progress: ProgressView,
}

/// The reader of standard output is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads standard output any more")]
pub struct StdoutClosed;

/// A name in JSON, flattened into the object that names something. JSON holds only Unicode; a name that is not
/// UTF-8 is shown escaped, with its bytes beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JsonName {
    /// The name, or where `name_hex` is there, the name as `file::path::escape` shows it.
    pub name: String,
    /// The name's bytes in hex; only for names that are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_hex: Option<String>,
}

/// What `--json` prints when a command fails as a whole.
#[derive(Serialize)]
struct JsonError {
    version: u32,
    error: String,
    exit_code: Exit,
}

impl Output {
    /// Output as the global options want it.
    pub fn new(options: Global) -> Self {
        // The log of -vv goes to standard error too and would cut through the display.
        let is_silent = options.quiet || options.json || options.no_progress || options.verbose >= 2;
        Self { options, progress: ProgressView::new(!is_silent && io::stderr().is_terminal()) }
    }

    /// Whether the result is to be one JSON object.
    pub fn is_json(&self) -> bool {
        self.options.json
    }

    /// The progress display; hidden where nobody would see it.
    pub fn progress(&self) -> &ProgressView {
        &self.progress
    }

    /// Writes a part of the result to standard output.
    pub fn result(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = self.progress.suspend(|| {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
            written => written.context("cannot write to standard output"),
        }
    }

    /// Writes the result as one JSON object on one line.
    pub fn json(&self, object: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(object)?;
        line.push(b'\n');
        self.result(&line)
    }

    /// Tells a person what went wrong, also with `-q`.
    pub fn problem(&self, line: &str) {
        let line = one_line(line);
        // Standard error is the last resort: where it fails, there is nobody to tell.
        self.progress.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "haul: {line}");
        });
    }

    /// Tells a person what is worth knowing; not with `-q`.
    pub fn say(&self, line: &str) {
        if !self.options.quiet {
            self.problem(line);
        }
    }

    /// Tells a person who asked for more with `-v`.
    pub fn detail(&self, line: &str) {
        if self.options.verbose > 0 {
            self.say(line);
        }
    }

    /// Says why the command failed as a whole, and gives the exit code.
    pub fn end_with(&self, error: &anyhow::Error) -> Exit {
        self.progress.finish();
        if error.is::<StdoutClosed>() {
            return Exit::Done;
        }
        let exit = Exit::of_error(error);
        let text = one_line(&format!("{error:#}"));
        self.problem(&text);
        if self.options.json {
            // Where standard output is what failed, the line above and the exit code say so.
            let _ = self.json(&JsonError { version: JSON_VERSION, error: text, exit_code: exit });
        }
        exit
    }
}

impl JsonName {
    /// The name with these bytes.
    pub fn new(name: &[u8]) -> Self {
        match str::from_utf8(name) {
            Ok(name) => Self { name: name.to_owned(), name_hex: None },
            Err(_) => Self { name: escape(name), name_hex: Some(HEXLOWER.encode(name)) },
        }
    }
}

/// A path as a person may see it.
pub fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}

/// Makes `path` hold `content`, all of it or as it was before: written beside it, synced, renamed. A symbolic link
/// stays and its target is replaced; what is not a regular file (a pipe, `/dev/null`) is written to.
pub fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = match fs::canonicalize(path) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let permissions = match fs::metadata(&target) {
        Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => {
            return OpenOptions::new().write(true).open(&target)?.write_all(content);
        }
        Ok(metadata) => Some(metadata.permissions()),
        Err(_) => None,
    };
    let dir = match target.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let prefix = str::from_utf8(TEMP_PREFIX).expect("the prefix is ASCII");
    let temporary = dir.join(format!("{prefix}{}", HEXLOWER.encode(&clock::random::<8>())));
    let publish = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &target)?;
        File::open(dir)?.sync_all()
    };
    publish().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Makes text one line that cannot move the cursor.
fn one_line(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_name_that_is_not_utf8_keeps_its_bytes_in_json() {
        let json = |name: &[u8]| serde_json::to_string(&JsonName::new(name)).unwrap();

        assert_eq!(json("a\\n\u{e9}".as_bytes()), "{\"name\":\"a\\\\n\u{e9}\"}");
        assert_eq!(json(b"a\xff"), "{\"name\":\"a\\\\xff\",\"name_hex\":\"61ff\"}");
    }

    #[test]
    fn an_error_stays_one_line_that_cannot_move_the_cursor() {
        assert_eq!(one_line("a\nb\x1b[2J\n"), "a b [2J");
    }

    #[test]
    fn a_written_file_is_replaced_with_its_mode_and_through_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("file", &link).unwrap();

        write_file(&link, b"new").unwrap();

        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();

        assert!(write_file(dir.path(), b"x").is_err());
        assert!(write_file(&dir.path().join("no/file"), b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        write_file(Path::new("/dev/null"), b"x").unwrap();
    }
}
