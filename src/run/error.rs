//! What ends a run early, and the exit code that it gets.

use std::{fmt, io};

use crate::{
    file::path::escape,
    security::{ChannelError, KeyHash},
    session::OpeningError,
    stream::LinkError,
    wire::{frame::FrameError, hello::HelloError, message::Code},
};

/// Classes of failure; `cli::exit` maps each to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A fault of the program itself.
    Unexpected,
    /// The request makes no sense.
    Usage,
    /// No connection could be made, or it was lost.
    Connection,
    /// UDP was asked for by name and does not get through.
    UdpBlocked,
    /// Wrong secret, unknown or changed key, forbidden.
    NotAllowed,
    /// The bytes are not what they have to be.
    Integrity,
    /// Several files were asked for and some failed.
    SomeFailed,
    /// A source file changed while it was sent.
    SourceChanged,
    /// No space or quota.
    NoSpace,
    /// A local file or directory could not be used.
    File,
    /// Another transfer writes the same name, or the server takes nobody else for the moment.
    Busy,
    /// The other end is not haul or broke the protocol.
    Peer,
    /// The other end speaks no version of the protocol that this program speaks, or lacks a feature.
    Incompatible,
    /// The other end was silent for too long.
    TimedOut,
    /// Nothing had to be done, and the caller wants to know.
    NothingToDo,
    /// A signal asked for the end.
    Interrupted,
}

impl Cause {
    /// The class of a failure that travelled as a code.
    pub fn from_code(code: Code) -> Self {
        match code {
            Code::Done | Code::Internal => Self::Unexpected,
            Code::NotAllowed => Self::NotAllowed,
            Code::Integrity => Self::Integrity,
            Code::SourceChanged => Self::SourceChanged,
            Code::NoSpace => Self::NoSpace,
            Code::File | Code::NotFound | Code::Conflict => Self::File,
            Code::Busy => Self::Busy,
            Code::Protocol => Self::Peer,
            Code::Incompatible => Self::Incompatible,
            Code::TimedOut => Self::TimedOut,
            Code::Interrupted => Self::Interrupted,
            Code::UdpBlocked => Self::UdpBlocked,
        }
    }

    /// How this failure is told to the peer.
    pub fn code(self) -> Code {
        match self {
            Self::Unexpected | Self::Usage | Self::SomeFailed | Self::NothingToDo | Self::Connection => {
                Code::Internal
            }
            Self::NotAllowed => Code::NotAllowed,
            Self::Integrity => Code::Integrity,
            Self::SourceChanged => Code::SourceChanged,
            Self::NoSpace => Code::NoSpace,
            Self::File => Code::File,
            Self::Busy => Code::Busy,
            Self::Peer => Code::Protocol,
            Self::Incompatible => Code::Incompatible,
            Self::TimedOut => Code::TimedOut,
            Self::Interrupted => Code::Interrupted,
            Self::UdpBlocked => Code::UdpBlocked,
        }
    }
}

/// Why a run ended early: one line for a person, and the class for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunError {
    /// The class.
    pub cause: Cause,
    /// What failed, on which file or peer, why, what to try. Safe to show.
    pub text: String,
    /// The key that a server showed in the place of the pinned one.
    pub wrong_key: Option<KeyHash>,
}

impl RunError {
    /// An error of this class.
    pub fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self { cause, text: text.into(), wrong_key: None }
    }

    /// A peer that broke the protocol.
    pub fn violation(peer: &str, violation: &impl fmt::Display) -> Self {
        Self::new(Cause::Peer, format!("{peer}: broke the protocol: {violation}"))
    }

    /// What the peer said when it closed.
    pub fn said_by(peer: &str, code: Code, text: &str) -> Self {
        let text = escape(text.as_bytes());
        let text = match code {
            Code::Interrupted => format!("{peer}: was interrupted there; run the same command again"),
            _ => format!("{peer}: {text}"),
        };
        // An interruption over there is not one of ours: to us, the connection is lost.
        let cause = if code == Code::Interrupted { Cause::Connection } else { Cause::from_code(code) };
        Self::new(cause, text)
    }

    /// A connection that failed after it had been made.
    pub fn link(peer: &str, error: &LinkError) -> Self {
        let (cause, what) = match error {
            LinkError::Channel(ChannelError::WrongKey { .. } | ChannelError::UnprovenKey { .. }) => {
                (Cause::NotAllowed, "has another key than expected: it is not the machine that it should be")
            }
            LinkError::Channel(ChannelError::NotTls) => {
                return Self::new(
                    Cause::Peer,
                    format!("{peer}: is not haul (or only speaks without encryption, --plain)"),
                );
            }
            LinkError::Channel(ChannelError::NoCommonProtocol) => {
                return Self::new(
                    Cause::Incompatible,
                    format!("{peer}: {error}: it is another service, or the older haul wants an update"),
                );
            }
            // Not the peer's fault: another connection may carry them as they are.
            LinkError::Channel(ChannelError::Damaged) | LinkError::Frame(FrameError::Checksum) => {
                return Self::new(
                    Cause::Connection,
                    format!("{peer}: bytes were changed on the way: {error}; run the same command again"),
                );
            }
            LinkError::Hello(HelloError::NotHaul) => (Cause::Peer, "is not haul"),
            LinkError::Silent(_) => (Cause::TimedOut, "is gone"),
            LinkError::Channel(_)
            | LinkError::Hello(_)
            | LinkError::Frame(_)
            | LinkError::TooMuchBeforeAuth => (Cause::Peer, "broke the protocol"),
        };
        match error {
            LinkError::Hello(HelloError::NotHaul) => Self::new(cause, format!("{peer}: {what}")),
            LinkError::Channel(ChannelError::WrongKey { found, .. }) => {
                Self { wrong_key: Some(*found), ..Self::new(cause, format!("{peer}: {what}: {error}")) }
            }
            _ => Self::new(cause, format!("{peer}: {what}: {error}")),
        }
    }

    /// A connection that did not open.
    pub fn opening(peer: &str, error: &OpeningError) -> Self {
        match error {
            OpeningError::Link(error) => Self::link(peer, error),
            OpeningError::Refused { code, text } => Self::said_by(peer, *code, text),
            OpeningError::WrongProof => Self::new(Cause::NotAllowed, format!("{peer}: {error}")),
            // protocol.md [HELLO-5]
            OpeningError::Version { .. } | OpeningError::Lacking => {
                Self::new(Cause::Incompatible, format!("{peer}: {error}"))
            }
            OpeningError::Unexpected(_) => {
                Self::new(Cause::Peer, format!("{peer}: broke the protocol: {error}"))
            }
        }
    }

    /// A socket that failed in the middle of a transfer.
    pub fn socket(peer: &str, error: &io::Error) -> Self {
        let what = match error.kind() {
            io::ErrorKind::ConnectionReset => {
                "the connection was reset: the program there ended, or something between cut it".to_owned()
            }
            io::ErrorKind::BrokenPipe => "the connection was closed there while we were sending".to_owned(),
            _ => format!("the connection failed: {error}"),
        };
        Self::new(Cause::Connection, format!("{peer}: {what}; run the same command again"))
    }

    /// A peer that closed its end without a word.
    pub fn cut_off(peer: &str) -> Self {
        Self::new(
            Cause::Connection,
            format!(
                "{peer}: the program there closed the connection without finishing; run the same command again"
            ),
        )
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RunError {}
