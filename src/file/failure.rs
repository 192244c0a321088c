//! What a failed system call means to a person and to the wire: one line and a [`Code`].

use rustix::io::Errno;

use super::path::escape;
use crate::limits;
use crate::wire::message::{Code, short_text};

/// Why one entry failed. It is that entry's alone: the others go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which exit code it maps to.
    pub code: Code,
    /// One line with the escaped name, at most `limits::TEXT_MAX_BYTES`.
    pub text: String,
}

impl Failure {
    /// `text` says the reason only; the name is put in front.
    pub fn new(code: Code, path: &[u8], text: &str) -> Self {
        Self { code, text: short_text(format!("{}: {text}", shown(path))) }
    }

    /// A system call failed while haul was `doing` something ("create it", "write to it") to `path`.
    pub fn of(errno: Errno, doing: &str, path: &[u8]) -> Self {
        Self::new(code_of(errno), path, &format!("cannot {doing}: {}", reason(errno)))
    }
}

/// The code that says whose fault an error number is.
fn code_of(errno: Errno) -> Code {
    match errno {
        Errno::NOSPC | Errno::DQUOT => Code::NoSpace,
        Errno::EXIST | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NAMETOOLONG => Code::Conflict,
        _ => Code::File,
    }
}

/// An error number in lower case, with what to try where that is known.
pub fn reason(errno: Errno) -> String {
    let known = match errno {
        Errno::NOSPC => "no space left on the disk",
        Errno::DQUOT => "the disk quota is used up",
        Errno::ACCESS => "permission denied; check who may write there",
        Errno::PERM => "not permitted; check who owns it",
        Errno::ROFS => "the file system is read-only",
        Errno::MFILE | Errno::NFILE => "too many open files; raise the limit with `ulimit -n`",
        Errno::NAMETOOLONG => "the name is too long for this disk",
        Errno::NOTDIR => "something that is not a directory is in the way",
        Errno::LOOP => "a symbolic link is in the way",
        Errno::ISDIR => "a directory is in the way",
        Errno::EXIST => "something is there already",
        Errno::NOENT => "it does not exist",
        Errno::IO => "the disk reports an input/output error",
        Errno::FBIG => "the file is too large for this disk or the limit of `ulimit -f`",
        Errno::PIPE => "the reader is gone",
        Errno::XDEV => "it lies on another file system",
        _ => return plain(&std::io::Error::from(errno)),
    };
    known.to_owned()
}

/// The text of a standard library error as this house writes it: lower case, without the number.
pub fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// An escaped name, the middle of a long one left out, so that the reason behind it is never cut off.
pub fn shown(path: &[u8]) -> String {
    let escaped = escape(path);
    if escaped.len() <= NAME_SHOWN_BYTES {
        return escaped;
    }
    let head = escaped.floor_char_boundary(NAME_SHOWN_BYTES / 2);
    let tail = escaped.ceil_char_boundary(escaped.len() - NAME_SHOWN_BYTES / 2);
    format!("{}…{}", &escaped[..head], &escaped[tail..])
}

/// Longest escaped name in a message, bytes; leaves room for a reason.
const NAME_SHOWN_BYTES: usize = 512;
const _: () = assert!(NAME_SHOWN_BYTES * 2 <= limits::TEXT_MAX_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_told_as_no_space() {
        assert_eq!(Failure::of(Errno::NOSPC, "write to it", b"a").code, Code::NoSpace);
        assert_eq!(Failure::of(Errno::DQUOT, "write to it", b"a").code, Code::NoSpace);
        assert_eq!(Failure::of(Errno::ACCESS, "write to it", b"a").code, Code::File);
    }

    #[test]
    fn a_message_is_one_lower_case_line_with_the_escaped_name() {
        let failure = Failure::of(Errno::ROFS, "create it", b"dir/a\nb");

        assert_eq!(failure.text, "dir/a\\nb: cannot create it: the file system is read-only");
        assert_eq!(reason(Errno::NXIO), "no such device or address");
    }

    #[test]
    fn a_long_name_does_not_push_the_reason_out() {
        let failure = Failure::of(Errno::NOSPC, "write to it", &[0xff; 4095]);

        assert!(failure.text.len() <= limits::TEXT_MAX_BYTES);
        assert!(failure.text.ends_with("no space left on the disk"));
    }
}
