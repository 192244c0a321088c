//! Who runs, and how it is started.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::str::FromStr;

/// One way to move the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contender {
    /// haul over TCP.
    Tcp {
        /// The kernel's congestion control; none: the system's choice.
        congestion: Option<String>,
        /// Connections, `1..=64`.
        streams: u16,
    },
    /// haul over UDP.
    Udp {
        /// `bbr`, `cubic` or `fixed`.
        congestion: UdpCongestion,
    },
    /// haul over UDP as it is.
    Raw,
    /// Another program.
    Rival(Rival),
}

/// How our UDP shares the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as the values of --congestion")]
pub enum UdpCongestion {
    Bbr,
    Cubic,
    Fixed,
}

/// A program that is not haul.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// What the table calls it.
    pub name: String,
    /// What a shell runs, with `{file}`, `{host}`, `{dir}`, `{bytes}` in place of what they stand for.
    pub template: String,
    /// What a shell runs on the other host meanwhile, with the same marks.
    pub peer: Option<String>,
}

/// A command with a name, or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What stands before the first `=`, if that can be a name.
    pub name: Option<String>,
    /// The rest.
    pub command: String,
}

/// Why a text is no contender.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContenderError {
    /// Not one of ours.
    #[error(
        "`{0}` is no contender; there are tcp, tcp/CONGESTION, tcp/CONGESTION*STREAMS, udp, udp/bbr, udp/cubic, udp/fixed and udp-raw"
    )]
    Unknown(String),
    /// Streams that are no number or too many.
    #[error("`{0}`: streams are a number from 1 to {STREAMS_MAX}")]
    Streams(String),
    /// A command of nothing.
    #[error("--with needs a command, such as 'scp {{file}} {{host}}:{{dir}}/'")]
    NoCommand,
}

/// What a command line is filled with.
#[derive(Clone, Copy, Debug)]
pub struct Filling<'a> {
    /// This program.
    pub haul: &'a Path,
    /// The file that is sent.
    pub file: &'a Path,
    /// Its length, bytes.
    pub file_bytes: u64,
    /// Where the ticket stands.
    pub ticket: &'a Path,
    /// Address of the other host.
    pub host: &'a str,
    /// An empty directory that both hosts see.
    pub dir: &'a Path,
    /// What raw UDP and a fixed rate send at, bits a second.
    pub rate_bits_per_s: u64,
    /// Whether the server is to throw the content away.
    pub is_discarded: bool,
}

/// As many as a client may ask for.
const STREAMS_MAX: u16 = 64;

impl Contender {
    /// The line that a shell on the sending host runs; it replaces the shell.
    pub fn command(&self, with: &Filling<'_>) -> OsString {
        let mut words: Vec<OsString> = vec![with.haul.into(), "send".into(), with.file.into()];
        let mut ticket = OsString::from("@");
        ticket.push(with.ticket);
        words.push(ticket);
        words.push("--json".into());
        let rate = format!("--rate={}bit", with.rate_bits_per_s);
        match self {
            Self::Tcp { congestion, streams } => {
                words.push("--transport=tcp".into());
                words.push(format!("--streams={streams}").into());
                words.extend(congestion.iter().map(|name| format!("--tcp-congestion={name}").into()));
            }
            Self::Udp { congestion } => {
                words.push("--transport=udp".into());
                words.push(format!("--congestion={congestion}").into());
                if *congestion == UdpCongestion::Fixed {
                    words.push(rate.into());
                }
            }
            Self::Raw => words.extend(["--transport=udp-raw".into(), rate.into()]),
            Self::Rival(rival) => return with.fill(&rival.template),
        }
        if with.is_discarded {
            words.push("--discard".into());
        }
        line(&words)
    }

    /// Whether it is haul's, so that `haul recv` is at the other end.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Rival(_))
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { congestion, streams } => {
                f.write_str("tcp")?;
                if let Some(name) = congestion {
                    write!(f, "/{name}")?;
                }
                if *streams > 1 { write!(f, "*{streams}") } else { Ok(()) }
            }
            Self::Udp { congestion } => write!(f, "udp/{congestion}"),
            Self::Raw => f.write_str("udp-raw"),
            Self::Rival(rival) => f.write_str(&rival.name),
        }
    }
}

impl FromStr for Contender {
    type Err = ContenderError;

    /// Reads `tcp`, `tcp/cubic*4`, `udp/bbr`, `udp-raw`.
    fn from_str(text: &str) -> Result<Self, ContenderError> {
        let unknown = || ContenderError::Unknown(text.to_owned());
        let (what, streams) = match text.split_once('*') {
            Some((what, streams)) => {
                let streams = streams.parse().ok().filter(|it| (1..=STREAMS_MAX).contains(it));
                (what, streams.ok_or_else(|| ContenderError::Streams(text.to_owned()))?)
            }
            None => (text, 1),
        };
        let (transport, congestion) = match what.split_once('/') {
            Some((transport, congestion)) => (transport, Some(congestion)),
            None => (what, None),
        };
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        };
        match (transport, congestion) {
            ("tcp", None) => Ok(Self::Tcp { congestion: None, streams }),
            // 15: TCP_CA_NAME_MAX without the zero at its end, include/net/tcp.h.
            ("tcp", Some(name)) if is_name(name) && name.len() <= 15 => {
                Ok(Self::Tcp { congestion: Some(name.to_owned()), streams })
            }
            ("udp", None | Some("bbr")) if streams == 1 => Ok(Self::Udp { congestion: UdpCongestion::Bbr }),
            ("udp", Some("cubic")) if streams == 1 => Ok(Self::Udp { congestion: UdpCongestion::Cubic }),
            ("udp", Some("fixed")) if streams == 1 => Ok(Self::Udp { congestion: UdpCongestion::Fixed }),
            ("udp-raw", None) if streams == 1 => Ok(Self::Raw),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for UdpCongestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bbr => "bbr",
            Self::Cubic => "cubic",
            Self::Fixed => "fixed",
        })
    }
}

impl Rival {
    /// A rival of this command; with the first of `peers` that has its name, else with the first that has none. Without a name it is
    /// called as the command's first word.
    pub fn new(command: &Named, peers: &[Named]) -> Self {
        let first = command.command.split_whitespace().next().unwrap_or_default();
        let own = || Path::new(first).file_name().map_or(first.into(), OsStr::to_string_lossy).into_owned();
        let name = command.name.clone().unwrap_or_else(own);
        let of_name = peers.iter().find(|peer| peer.name.as_ref() == Some(&name));
        let peer = of_name.or_else(|| peers.iter().find(|peer| peer.name.is_none()));
        Self { name, template: command.command.clone(), peer: peer.map(|peer| peer.command.clone()) }
    }

    /// The line for the other host.
    pub fn peer_command(&self, with: &Filling<'_>) -> Option<OsString> {
        self.peer.as_ref().map(|template| with.fill(template))
    }
}

impl FromStr for Named {
    type Err = ContenderError;

    /// Reads `COMMAND`, or `NAME=COMMAND`.
    fn from_str(text: &str) -> Result<Self, ContenderError> {
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+.".contains(&b))
        };
        let (name, command) = match text.split_once('=') {
            Some((name, rest)) if is_name(name) => (Some(name.to_owned()), rest),
            _ => (None, text),
        };
        let command = command.trim().to_owned();
        if command.is_empty() { Err(ContenderError::NoCommand) } else { Ok(Self { name, command }) }
    }
}

impl Filling<'_> {
    /// A template with everything in the place of its mark.
    fn fill(&self, template: &str) -> OsString {
        let fillings: [(&str, OsString); 4] = [
            ("{file}", quoted(self.file.as_os_str())),
            ("{dir}", quoted(self.dir.as_os_str())),
            ("{host}", self.host.into()),
            ("{bytes}", self.file_bytes.to_string().into()),
        ];
        let fill = |line: Vec<u8>, (mark, filling): &(&str, OsString)| {
            replaced(&line, mark.as_bytes(), filling.as_bytes())
        };
        OsString::from_vec(fillings.iter().fold(template.as_bytes().to_vec(), fill))
    }
}

/// Words as one line for a shell.
pub fn line(words: &[OsString]) -> OsString {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(OsStr::new(" "))
}

/// A word as a shell reads it back.
pub fn quoted(word: &OsStr) -> OsString {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+=:@,%".contains(&b);
    if !word.is_empty() && word.as_bytes().iter().copied().all(is_plain) {
        return word.to_owned();
    }
    let mut line = b"'".to_vec();
    line.extend(replaced(word.as_bytes(), b"'", b"'\\''"));
    line.push(b'\'');
    OsString::from_vec(line)
}

fn replaced(text: &[u8], mark: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        if rest.starts_with(mark) {
            out.extend_from_slice(by);
            rest = &rest[mark.len()..];
        } else {
            out.push(*first);
            rest = &rest[1..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(contender: &Contender) -> String {
        let with = Filling {
            haul: Path::new("/bin/haul"),
            file: Path::new("/tmp/it's data"),
            file_bytes: 77,
            ticket: Path::new("/tmp/t"),
            host: "10.77.0.2",
            dir: Path::new("/tmp/in"),
            rate_bits_per_s: 9000,
            is_discarded: false,
        };
        contender.command(&with).into_string().unwrap()
    }

    #[test]
    fn a_contender_reads_as_it_is_written() {
        for text in ["tcp", "tcp/cubic", "tcp/bbr*4", "udp/bbr", "udp/cubic", "udp/fixed", "udp-raw"] {
            assert_eq!(text.parse::<Contender>().unwrap().to_string(), text);
        }
        assert_eq!("udp".parse::<Contender>().unwrap().to_string(), "udp/bbr");
        assert_eq!("tcp*2".parse::<Contender>().unwrap().to_string(), "tcp*2");
    }

    #[test]
    fn what_is_no_contender_is_refused() {
        for text in
            ["", "sctp", "tcp/", "tcp/cu bic", "udp/vegas", "udp*2", "udp-raw/bbr", "tcp/a_name_of_16_chr"]
        {
            assert_eq!(text.parse::<Contender>(), Err(ContenderError::Unknown(text.to_owned())));
        }
        for text in ["tcp*0", "tcp*65", "tcp*x"] {
            assert_eq!(text.parse::<Contender>(), Err(ContenderError::Streams(text.to_owned())));
        }
    }

    #[test]
    fn ours_are_started_as_a_user_would_do_it() {
        let tcp = "tcp/cubic*4".parse::<Contender>().unwrap();
        let raw = Contender::Raw;

        assert_eq!(
            filled(&tcp),
            "/bin/haul send '/tmp/it'\\''s data' @/tmp/t --json --transport=tcp --streams=4 --tcp-congestion=cubic"
        );
        assert_eq!(
            filled(&raw),
            "/bin/haul send '/tmp/it'\\''s data' @/tmp/t --json --transport=udp-raw --rate=9000bit"
        );
    }

    #[test]
    fn a_rival_gets_what_its_marks_stand_for() {
        let rival = |text: &str, peers: &[&str]| {
            let peers: Vec<Named> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
            Rival::new(&text.parse().unwrap(), &peers)
        };
        let scp = rival("scp -P 2222 {file} {host}:{dir}/ # {bytes} {else}", &["scpd", "fast=daemon"]);

        assert_eq!((scp.name.as_str(), scp.peer.as_deref()), ("scp", Some("scpd")));
        assert_eq!(
            filled(&Contender::Rival(scp)),
            "scp -P 2222 '/tmp/it'\\''s data' 10.77.0.2:/tmp/in/ # 77 {else}"
        );
        let fast = rival("fast=/opt/x --y=1", &["scpd", "fast=daemon"]);
        assert_eq!((fast.name.as_str(), fast.peer.as_deref()), ("fast", Some("daemon")));
        assert_eq!(rival("/opt/x --y=1", &[]).name, "x");
        assert_eq!("a=".parse::<Named>(), Err(ContenderError::NoCommand));
    }
}
