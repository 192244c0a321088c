//! Exit codes: what a script may rely on, and errors that carry one.

use std::process::ExitCode;

use serde::{Serialize, Serializer};

use crate::run::error::Cause;

/// How a command ended. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// Done and verified.
    Done = 0,
    /// Something that haul did not expect; worth a report.
    Unexpected = 1,
    /// The command line or an input file is not understood.
    Usage = 2,
    /// No connection to the other end (no TCP).
    CannotConnect = 3,
    /// Not allowed, or the other end is not the one that it should be.
    NotAllowed = 4,
    /// Bytes are not what they should be.
    Integrity = 5,
    /// Several files were asked for and some failed, for different reasons.
    SomeFailed = 6,
    /// A source file changed while it was read.
    SourceChanged = 7,
    /// No space or quota.
    NoSpace = 8,
    /// A local file or directory could not be read, written, made or renamed.
    LocalFile = 9,
    /// The other end is not haul, is incompatible or broke the protocol.
    Peer = 10,
    /// UDP was asked for by name and is blocked.
    UdpBlocked = 11,
    /// Timed out, also: TCP connects, but no hello comes in time.
    TimedOut = 12,
    /// Nothing to do, with `--fail-if-nothing`.
    NothingToDo = 13,
    /// Slower than before beyond the noise (`compare diff`).
    Slower = 14,
    /// Interrupted; the same command resumes.
    Interrupted = 130,
}

impl Exit {
    /// Every code, lowest first.
    pub const ALL: [Self; 16] = [
        Self::Done,
        Self::Unexpected,
        Self::Usage,
        Self::CannotConnect,
        Self::NotAllowed,
        Self::Integrity,
        Self::SomeFailed,
        Self::SourceChanged,
        Self::NoSpace,
        Self::LocalFile,
        Self::Peer,
        Self::UdpBlocked,
        Self::TimedOut,
        Self::NothingToDo,
        Self::Slower,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for the manual.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done and verified",
            Self::Unexpected => "unexpected",
            Self::Usage => "usage: the command line or an input file is not understood",
            Self::CannotConnect => "cannot connect (no TCP)",
            Self::NotAllowed => "not allowed, or not the peer it should be",
            Self::Integrity => "integrity failed",
            Self::SomeFailed => "several files were asked for and some failed, for different reasons",
            Self::SourceChanged => "a source file changed while it was read",
            Self::NoSpace => "no space or quota",
            Self::LocalFile => "local file error",
            Self::Peer => "the other end is not haul, is incompatible or broke the protocol",
            Self::UdpBlocked => "UDP was asked for by name and is blocked",
            Self::TimedOut => "timed out",
            Self::NothingToDo => "nothing to do, with --fail-if-nothing",
            Self::Slower => "slower than before beyond the noise (compare diff)",
            Self::Interrupted => "interrupted, resumable",
        }
    }

    /// The code for an error of a local file or device.
    pub fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::LocalFile,
        }
    }

    /// The code for several files, of which some ended with `causes`: done when there are none, their common
    /// cause, or that some failed.
    pub fn of_files(causes: impl IntoIterator<Item = Self>) -> Self {
        causes.into_iter().reduce(|a, b| if a == b { a } else { Self::SomeFailed }).unwrap_or(Self::Done)
    }

    /// The code that an error carries, if a [`Failure`] or an I/O error is among its causes.
    pub fn of_error(error: &anyhow::Error) -> Self {
        error
            .chain()
            .find_map(|cause| match cause.downcast_ref::<Failure>() {
                Some(failure) => Some(failure.exit),
                None => cause.downcast_ref::<std::io::Error>().map(Self::of_io),
            })
            .unwrap_or(Self::Unexpected)
    }
}

/// How the process ends: with a code of ours, or with that of the program that it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With what a command of ours came to.
    Ours(Exit),
    /// As the program ended that `haul link` ran.
    Program(u8),
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Ours(exit) => exit.into(),
            Ending::Program(code) => Self::from(code),
        }
    }
}

impl From<Exit> for Ending {
    fn from(exit: Exit) -> Self {
        Self::Ours(exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}

/// An error of a command as a whole that knows its exit code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the process ends with.
    pub exit: Exit,
    /// What failed, on what, why, what to try: one line, lowercase.
    pub message: String,
}

impl Failure {
    /// An error that ends the process with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// The code for the end of a session (design: one `match`).
pub fn of_cause(cause: Cause) -> Exit {
    match cause {
        Cause::Unexpected => Exit::Unexpected,
        Cause::Usage => Exit::Usage,
        Cause::Connection => Exit::CannotConnect,
        Cause::UdpBlocked => Exit::UdpBlocked,
        Cause::NotAllowed => Exit::NotAllowed,
        Cause::Integrity => Exit::Integrity,
        Cause::SomeFailed => Exit::SomeFailed,
        Cause::SourceChanged => Exit::SourceChanged,
        Cause::NoSpace => Exit::NoSpace,
        Cause::File | Cause::Busy => Exit::LocalFile,
        Cause::Peer | Cause::Incompatible => Exit::Peer,
        Cause::TimedOut => Exit::TimedOut,
        Cause::NothingToDo => Exit::NothingToDo,
        Cause::Interrupted => Exit::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn codes_are_those_of_the_manual_and_rise() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();

        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 130]);
    }

    #[test]
    fn files_that_fail_for_one_reason_keep_it() {
        assert_eq!(Exit::of_files([]), Exit::Done);
        assert_eq!(Exit::of_files([Exit::LocalFile, Exit::LocalFile]), Exit::LocalFile);
        assert_eq!(Exit::of_files([Exit::LocalFile, Exit::SourceChanged, Exit::LocalFile]), Exit::SomeFailed);
    }

    #[test]
    fn an_error_keeps_its_code_under_any_context() {
        let failure = Err::<(), _>(Failure::new(Exit::Integrity, "no")).context("while testing").unwrap_err();
        let full = Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull)).context("writing").unwrap_err();

        assert_eq!(Exit::of_error(&failure), Exit::Integrity);
        assert_eq!(Exit::of_error(&full), Exit::NoSpace);
        assert_eq!(Exit::of_error(&anyhow::anyhow!("surprise")), Exit::Unexpected);
    }
}
