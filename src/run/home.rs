//! What haul remembers between runs: who we are, whom we know, whom we let in, and which tickets are out.
//!
//! ```text
//! HOME/                 0700
//!   identity.pem        0600   our private key and certificate, made on first use
//!   known_peers         lines `HOST:PORT HEXHASH`: servers whose key we have seen
//!   authorized          lines `HEXHASH [comment]`: clients that our server lets in; written by a person
//!   tickets/NAME.json   0600   a token per purpose, so that the same command prints the same ticket again
//!   lock                held while known_peers is rewritten
//! ```
//!
//! Every file is written beside its name, synced and moved there whole. Of two processes that make the same file at
//! once the first wins and the other reads what it wrote. Whatever cannot be understood is an error with file and
//! line, never an empty list; secrets that others can read, and lists that others can write, are refused, as ssh does.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::security::{HostPort, Identity, IdentityError, KeyHash, Token};

/// The state directory.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

/// A server whose key was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// The key that it had.
    pub key: KeyHash,
    /// Line of the `known_peers` file that says so, counted from 1.
    pub line: usize,
}

/// What has to stay the same for the same command to print the same ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTicket {
    /// The secret.
    pub token: Token,
    /// The port that was listened on.
    pub port: u16,
    /// The client that has claimed the ticket, if it is for one client and was claimed.
    pub claimed_by: Option<KeyHash>,
}

/// What is wrong with the state directory.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No environment variable says where it is.
    #[error("there is no place for haul's keys: set HAUL_HOME or HOME")]
    Nowhere,
    /// A file or directory could not be read, written or made.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than its owner can read a secret, or write what decides whom we trust.
    #[error("{path}: its permissions {mode:03o} are too open; try chmod go-{take} {path}")]
    TooOpen {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What to take from group and others, as chmod has it.
        take: &'static str,
    },
    /// The identity file holds no identity.
    #[error("{path}: {source}")]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// A line is not what the file is made of.
    #[error("{path}, line {line}: expected {expected}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What a good line looks like.
        expected: &'static str,
    },
    /// A server has another key than before.
    #[error(
        "the key of {peer} has changed: {path}, line {line} knows {known}, it shows {found}; \
         if you know why, delete that line"
    )]
    KeyChanged {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The server.
        peer: Box<HostPort>,
        /// The key that is known.
        known: KeyHash,
        /// The key that it shows.
        found: KeyHash,
    },
}

impl Home {
    /// Where the state directory is: `$HAUL_HOME`, else `$XDG_CONFIG_HOME/haul`, else `$HOME/.config/haul`. Empty
    /// variables count as missing, and so does a relative `XDG_CONFIG_HOME`, as its specification has it.
    pub fn locate(var: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf, HomeError> {
        let path = |name| var(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        path("HAUL_HOME")
            .or_else(|| Some(path("XDG_CONFIG_HOME").filter(|p| p.is_absolute())?.join("haul")))
            .or_else(|| Some(path("HOME")?.join(".config/haul")))
            .ok_or(HomeError::Nowhere)
    }

    /// Opens the state directory, making it if it is not there.
    pub fn open(dir: PathBuf) -> Result<Self, HomeError> {
        make_dir(&dir)?;
        Ok(Self { dir })
    }

    /// Our identity, made on first use.
    pub fn identity(&self) -> Result<Identity, HomeError> {
        let path = self.dir.join("identity.pem");
        let unfit = |source| HomeError::Identity { path: path.clone(), source };
        if let Some(pem) = read(&path, SECRET)? {
            return Identity::from_pem(&pem).map_err(unfit);
        }
        let fresh = Identity::generate().map_err(unfit)?;
        match place_new(&path, &fresh.to_pem())? {
            None => Ok(fresh),
            Some(earlier) => Identity::from_pem(&earlier).map_err(unfit),
        }
    }

    /// The key that `peer` had when it was last seen.
    pub fn known_peer(&self, peer: &HostPort) -> Result<Option<KnownPeer>, HomeError> {
        let path = self.known_peers_path();
        let text = read(&path, TRUSTED)?.unwrap_or_default();
        find_peer(&path, &text, peer)
    }

    /// Remembers the key of `peer`. Another key than the known one is an error that names the line.
    pub fn remember_peer(&self, peer: &HostPort, key: KeyHash) -> Result<(), HomeError> {
        let _lock = self.lock()?;
        let path = self.known_peers_path();
        let mut text = read(&path, TRUSTED)?.unwrap_or_default();
        match find_peer(&path, &text, peer)? {
            Some(known) if known.key == key => return Ok(()),
            Some(known) => return Err(self.key_changed(peer, known, key)),
            None => {}
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("{peer} {key}\n"));
        replace(&path, &text)
    }

    /// The error to report when `peer` shows `found` instead of the known key.
    pub fn key_changed(&self, peer: &HostPort, known: KnownPeer, found: KeyHash) -> HomeError {
        HomeError::KeyChanged {
            path: self.known_peers_path(),
            line: known.line,
            peer: Box::new(peer.clone()),
            known: known.key,
            found,
        }
    }

    /// The keys of the clients that our server lets in without a ticket; none when there is no `authorized` file.
    /// One line that is no key makes all of it an error.
    pub fn authorized(&self) -> Result<Vec<KeyHash>, HomeError> {
        let path = self.dir.join("authorized");
        let text = read(&path, TRUSTED)?.unwrap_or_default();
        let mut keys = Vec::new();
        for (line, content) in lines(&text) {
            let word = content.split_whitespace().next().expect("lines() leaves out blank ones");
            let malformed =
                |_| HomeError::Malformed { path: path.clone(), line, expected: "HEXHASH [comment]" };
            keys.push(word.parse().map_err(malformed)?);
        }
        Ok(keys)
    }

    /// The ticket that is out for a purpose. `name` is the caller's name for the purpose: lower-case hex digits, at
    /// most 64.
    pub fn ticket(&self, name: &str) -> Result<Option<StoredTicket>, HomeError> {
        let path = self.ticket_path(name);
        read(&path, SECRET)?.map(|text| parse_ticket(&path, &text)).transpose()
    }

    /// The ticket that is out for a purpose, or else `fresh`, which is out from then on.
    pub fn ticket_or(&self, name: &str, fresh: StoredTicket) -> Result<StoredTicket, HomeError> {
        if let Some(ticket) = self.ticket(name)? {
            return Ok(ticket);
        }
        let path = self.ticket_path(name);
        make_dir(&self.dir.join("tickets"))?;
        match place_new(&path, &ticket_text(&fresh))? {
            None => Ok(fresh),
            Some(earlier) => parse_ticket(&path, &earlier),
        }
    }

    /// Keeps a ticket, in the place of an earlier one for this purpose.
    pub fn store_ticket(&self, name: &str, ticket: &StoredTicket) -> Result<(), HomeError> {
        make_dir(&self.dir.join("tickets"))?;
        replace(&self.ticket_path(name), &ticket_text(ticket))
    }

    /// Forgets the ticket for a purpose, if there is one.
    pub fn remove_ticket(&self, name: &str) -> Result<(), HomeError> {
        let path = self.ticket_path(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| sync_parent(&path)).map_err(|source| HomeError::Io { path, source }),
        }
    }

    fn known_peers_path(&self) -> PathBuf {
        self.dir.join("known_peers")
    }

    fn ticket_path(&self, name: &str) -> PathBuf {
        let hex = name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        assert!(
            hex && (1..=64).contains(&name.len()),
            "names of tickets are hex digits, chosen by ourselves"
        );
        self.dir.join("tickets").join(format!("{name}.json"))
    }

    /// Waits until no other process rewrites a file here. The lock ends with the value.
    fn lock(&self) -> Result<File, HomeError> {
        let path = self.dir.join("lock");
        let lock = || {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            match file.lock() {
                // Some network file systems have no locks; the rewrite is still atomic there.
                Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(file),
                other => other.map(|()| file),
            }
        };
        lock().map_err(|source| HomeError::Io { path: path.clone(), source })
    }
}

/// A ticket as its file holds it. Apart from [`StoredTicket`], so that no secret is serialised by accident.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketFile {
    token: String,
    port: u16,
    claimed_by: Option<String>,
}

fn ticket_text(ticket: &StoredTicket) -> String {
    let file = TicketFile {
        token: HEXLOWER.encode(ticket.token.expose()),
        port: ticket.port,
        claimed_by: ticket.claimed_by.map(|key| key.to_string()),
    };
    let mut text = serde_json::to_string(&file).expect("strings and numbers have a JSON form");
    text.push('\n');
    text
}

fn parse_ticket(path: &Path, text: &str) -> Result<StoredTicket, HomeError> {
    let parse = || {
        let file: TicketFile = serde_json::from_str(text).ok()?;
        let token = HEXLOWER.decode(file.token.as_bytes()).ok()?.try_into().ok()?;
        let claimed_by = file.claimed_by.map(|key| key.parse()).transpose().ok()?;
        Some(StoredTicket { token: Token::from_bytes(token), port: file.port, claimed_by })
    };
    parse().ok_or_else(|| HomeError::Malformed {
        path: path.to_path_buf(),
        line: 1,
        expected: "a stored ticket; delete the file to get a new one",
    })
}

/// The line about `peer`. Every line is checked, also behind the one that is found.
fn find_peer(path: &Path, text: &str, peer: &HostPort) -> Result<Option<KnownPeer>, HomeError> {
    let mut found = None;
    for (line, content) in lines(text) {
        let parse = || {
            let mut words = content.split_whitespace();
            let (who, key) = (words.next()?, words.next()?);
            if words.next().is_some() {
                return None;
            }
            Some((HostPort::parse(who).ok()?, key.parse().ok()?))
        };
        let (who, key) = parse().ok_or_else(|| HomeError::Malformed {
            path: path.to_path_buf(),
            line,
            expected: "HOST:PORT HEXHASH",
        })?;
        if who == *peer && found.is_none() {
            found = Some(KnownPeer { key, line });
        }
    }
    Ok(found)
}

/// Lines that are neither blank nor comments, with their numbers from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// What group and others may not do with a file.
#[derive(Clone, Copy)]
struct Forbidden {
    mask: u32,
    take: &'static str,
}

const SECRET: Forbidden = Forbidden { mask: 0o077, take: "rwx" };
const TRUSTED: Forbidden = Forbidden { mask: 0o022, take: "w" };

/// Largest file that is read here, bytes. Room for a hundred thousand peers.
const FILE_MAX_BYTES: u64 = 16 << 20;

/// Reads a whole file, unless its permissions are too open. `None` when there is none.
fn read(path: &Path, forbidden: Forbidden) -> Result<Option<String>, HomeError> {
    let failed = |source| HomeError::Io { path: path.to_path_buf(), source };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    let metadata = file.metadata().map_err(failed)?;
    check_mode(path, &metadata, forbidden)?;
    if metadata.len() > FILE_MAX_BYTES {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let mut text = String::new();
    (&mut file).take(FILE_MAX_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

fn check_mode(path: &Path, metadata: &fs::Metadata, forbidden: Forbidden) -> Result<(), HomeError> {
    let mode = metadata.mode() & 0o777;
    if mode & forbidden.mask != 0 {
        return Err(HomeError::TooOpen { path: path.to_path_buf(), mode, take: forbidden.take });
    }
    Ok(())
}

/// Makes a directory that only its owner can enter. One that is there may be read by others, but not written.
fn make_dir(path: &Path) -> Result<(), HomeError> {
    let failed = |source| HomeError::Io { path: path.to_path_buf(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    check_mode(path, &fs::metadata(path).map_err(failed)?, TRUSTED)
}

/// Writes a file whole, in the place of what is there.
fn replace(path: &Path, text: &str) -> Result<(), HomeError> {
    let replace = || {
        let temp = write_temp(path, text)?;
        fs::rename(&temp.0, path)?;
        sync_parent(path)
    };
    replace().map_err(|source| HomeError::Io { path: path.to_path_buf(), source })
}

/// Writes a file whole, unless it is there already: then says what is in it.
fn place_new(path: &Path, text: &str) -> Result<Option<String>, HomeError> {
    let place = || {
        let temp = write_temp(path, text)?;
        match link_or_move(&temp.0, path) {
            Ok(()) => sync_parent(path).map(|()| true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    };
    let failed = |source| HomeError::Io { path: path.to_path_buf(), source };
    if place().map_err(failed)? {
        return Ok(None);
    }
    // It was there a moment ago; whoever removes it now has to ask again.
    read(path, SECRET)?.map(Some).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// Gives a file its name without replacing what has that name. Hard links do so everywhere that has them; a rename
/// that refuses to replace serves the file systems that do not.
fn link_or_move(temp: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(temp, path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => move_new(temp, path),
        other => other,
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn move_new(temp: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, temp, CWD, path, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn move_new(_temp: &Path, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A temporary file, removed with the value if it still has its temporary name.
struct Temp(PathBuf);

impl Drop for Temp {
    fn drop(&mut self) {
        // Gone already after a rename; and a leftover is harmless.
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes and syncs a new file, 0600, in the directory of `path`.
fn write_temp(path: &Path, text: &str) -> io::Result<Temp> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temp = path.with_file_name(format!(".haul-{}-{number}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp) {
            // Left by a process that had our number and crashed, or in use by one on another host.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
            Ok(mut file) => {
                let temp = Temp(temp);
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                return Ok(temp);
            }
        }
    }
}

/// Makes a new or removed name survive a crash.
fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().expect("files here are in a directory"))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Barrier;
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_place_comes_from_the_first_variable_that_is_set() {
        let locate = |vars: &[(&str, &str)]| {
            Home::locate(|name| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into())).ok()
        };

        let all = [("HAUL_HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("HOME", "/home/me")];
        assert_eq!(locate(&all), Some("/h".into()));
        assert_eq!(locate(&all[1..]), Some("/x/haul".into()));
        assert_eq!(locate(&all[2..]), Some("/home/me/.config/haul".into()));
        assert_eq!(
            locate(&[("HAUL_HOME", ""), ("XDG_CONFIG_HOME", "rel"), all[2]]),
            Some("/home/me/.config/haul".into())
        );
        assert_eq!(locate(&[]), None);
    }

    #[test]
    fn the_identity_is_made_once_and_only_its_owner_can_read_it() {
        let (_dir, home) = home();

        let made = home.identity().unwrap();

        assert_eq!(home.identity().unwrap().key_hash(), made.key_hash());
        assert_eq!(mode(&home.dir), 0o700);
        assert_eq!(mode(&home.dir.join("identity.pem")), 0o600);
        assert_eq!(names(&home.dir), ["identity.pem"], "no temporary file is left");
    }

    #[test]
    fn of_many_first_users_at_once_one_wins_and_all_agree() {
        let (_dir, home) = home();
        let start = Barrier::new(8);

        let keys: Vec<_> = thread::scope(|scope| {
            let one = || {
                start.wait();
                home.identity().unwrap().key_hash()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        assert!(keys.iter().all(|key| *key == home.identity().unwrap().key_hash()));
        assert_eq!(names(&home.dir), ["identity.pem"]);
    }

    #[test]
    fn an_identity_that_others_can_read_is_refused_with_the_way_out() {
        let (_dir, home) = home();
        home.identity().unwrap();
        let path = home.dir.join("identity.pem");
        chmod(&path, 0o640);

        let error = home.identity().unwrap_err();

        assert!(matches!(error, HomeError::TooOpen { mode: 0o640, .. }));
        let path_shown = path.display();
        let expected =
            format!("{path_shown}: its permissions 640 are too open; try chmod go-rwx {path_shown}");
        assert_eq!(error.to_string(), expected);
        chmod(&path, 0o600);
        assert!(home.identity().is_ok());
    }

    #[test]
    fn a_broken_identity_is_an_error_and_not_replaced() {
        let (_dir, home) = home();
        let path = home.dir.join("identity.pem");
        write(&path, "not a key", 0o600);

        assert!(matches!(home.identity(), Err(HomeError::Identity { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }

    #[test]
    fn a_directory_or_list_that_others_can_write_is_refused() {
        let (_dir, home) = home();
        write(&home.dir.join("authorized"), "", 0o664);
        assert!(matches!(home.authorized(), Err(HomeError::TooOpen { mode: 0o664, take: "w", .. })));
        write(&home.dir.join("known_peers"), "", 0o646);
        assert!(matches!(home.known_peer(&peer("h")), Err(HomeError::TooOpen { .. })));

        chmod(&home.dir, 0o775);
        assert!(matches!(Home::open(home.dir.clone()), Err(HomeError::TooOpen { mode: 0o775, .. })));
        chmod(&home.dir, 0o755);
        assert!(Home::open(home.dir).is_ok());
    }

    #[test]
    fn a_peer_is_known_once_it_was_remembered() {
        let (_dir, home) = home();
        assert_eq!(home.known_peer(&peer("a")).unwrap(), None);

        home.remember_peer(&peer("a"), key(1)).unwrap();
        home.remember_peer(&peer("fe80::1"), key(2)).unwrap();
        home.remember_peer(&peer("a"), key(1)).unwrap();

        assert_eq!(home.known_peer(&peer("a")).unwrap(), Some(KnownPeer { key: key(1), line: 1 }));
        assert_eq!(home.known_peer(&peer("fe80::1")).unwrap(), Some(KnownPeer { key: key(2), line: 2 }));
        assert_eq!(home.known_peer(&HostPort::new("a", 1).unwrap()).unwrap(), None, "another port");
        let text = fs::read_to_string(home.dir.join("known_peers")).unwrap();
        assert_eq!(text, format!("a:7420 {}\n[fe80::1]:7420 {}\n", key(1), key(2)));
        assert_eq!(mode(&home.dir.join("known_peers")), 0o600);
    }

    #[test]
    fn a_changed_key_names_file_and_line_and_changes_nothing() {
        let (_dir, home) = home();
        let path = home.dir.join("known_peers");
        let text = format!("# mine\n\na:7420 {}", key(1));
        write(&path, &text, 0o600);

        let error = home.remember_peer(&peer("A"), key(2)).unwrap_err();

        assert!(matches!(&error, HomeError::KeyChanged { line: 3, .. }));
        assert!(error.to_string().contains(&format!("{}, line 3", path.display())));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_file_without_a_last_newline_is_continued_on_a_new_line() {
        let (_dir, home) = home();
        write(&home.dir.join("known_peers"), &format!("a:7420 {}", key(1)), 0o600);

        home.remember_peer(&peer("b"), key(2)).unwrap();

        assert_eq!(home.known_peer(&peer("b")).unwrap(), Some(KnownPeer { key: key(2), line: 2 }));
    }

    #[test]
    fn a_malformed_line_in_known_peers_is_an_error_with_its_number() {
        let good = format!("a:7420 {}\n", key(1));
        for bad in ["b", "b:7420", "b:7420 12", &format!("b:7420 {} x", key(1)), &format!("b:0 {}", key(1))] {
            let (_dir, home) = home();
            write(&home.dir.join("known_peers"), &format!("{good}{bad}\n"), 0o600);

            let error = home.known_peer(&peer("a")).unwrap_err();

            assert!(matches!(error, HomeError::Malformed { line: 2, .. }), "{bad}");
            assert!(home.remember_peer(&peer("c"), key(1)).is_err());
        }
    }

    #[test]
    fn many_processes_remember_without_losing_a_line() {
        let (_dir, home) = home();
        thread::scope(|scope| {
            for n in 0..8_u8 {
                let home = &home;
                scope.spawn(move || home.remember_peer(&peer(&format!("h{n}")), key(n)).unwrap());
            }
        });

        for n in 0..8 {
            assert_eq!(home.known_peer(&peer(&format!("h{n}"))).unwrap().unwrap().key, key(n));
        }
    }

    #[test]
    fn authorized_keys_are_read_with_comments() {
        let (_dir, home) = home();
        assert_eq!(home.authorized().unwrap(), []);
        let text =
            format!("# who may\n{} laptop of Ada\n\n  {}\n", key(1), key(2).to_string().to_uppercase());
        write(&home.dir.join("authorized"), &text, 0o644);

        assert_eq!(home.authorized().unwrap(), [key(1), key(2)]);
    }

    #[test]
    fn one_malformed_line_lets_nobody_in() {
        let (_dir, home) = home();
        write(&home.dir.join("authorized"), &format!("{}\n{}0 too long\n", key(1), key(2)), 0o600);

        let error = home.authorized().unwrap_err();

        assert!(error.to_string().ends_with("authorized, line 2: expected HEXHASH [comment]"), "{error}");
    }

    #[test]
    fn a_ticket_is_the_same_until_it_is_replaced_or_removed() {
        let (_dir, home) = home();
        let (first, second) = (ticket(1), StoredTicket { claimed_by: Some(key(3)), ..ticket(2) });
        assert_eq!(home.ticket("ab12").unwrap(), None);

        assert_eq!(home.ticket_or("ab12", first.clone()).unwrap(), first);
        assert_eq!(home.ticket_or("ab12", second.clone()).unwrap(), first);
        assert_eq!(home.ticket("ab12").unwrap(), Some(first));
        assert_eq!(home.ticket("ab13").unwrap(), None);
        home.store_ticket("ab12", &second).unwrap();
        assert_eq!(home.ticket("ab12").unwrap(), Some(second));
        home.remove_ticket("ab12").unwrap();
        assert_eq!(home.ticket("ab12").unwrap(), None);
        home.remove_ticket("ab12").unwrap();
        assert!(names(&home.dir.join("tickets")).is_empty());
    }

    #[test]
    fn a_stored_ticket_is_for_its_owner_only() {
        let (_dir, home) = home();
        home.store_ticket("00", &ticket(1)).unwrap();
        let path = home.dir.join("tickets/00.json");
        assert_eq!((mode(&path), mode(&home.dir.join("tickets"))), (0o600, 0o700));

        chmod(&path, 0o604);

        assert!(matches!(home.ticket("00"), Err(HomeError::TooOpen { .. })));
        assert!(!format!("{:?}", ticket(1)).contains("1, 1"));
    }

    #[test]
    fn a_broken_ticket_file_is_an_error_that_shows_no_secret() {
        let (_dir, home) = home();
        home.store_ticket("00", &ticket(1)).unwrap();
        let path = home.dir.join("tickets/00.json");
        let whole = fs::read_to_string(&path).unwrap();
        let secret = HEXLOWER.encode(&[1; 16]);
        assert!(whole.contains(&secret));
        for bad in
            [&whole[..whole.len() - 3], &whole.replace("0101", "01"), &whole.replace("port", "part"), ""]
        {
            write(&path, bad, 0o600);

            let error = home.ticket("00").unwrap_err();

            assert!(error.to_string().contains("00.json") && !error.to_string().contains("0101"));
            assert!(!format!("{error:?}").contains("0101"));
        }
    }

    fn home() -> (TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("a/haul")).unwrap();
        (dir, home)
    }

    fn peer(host: &str) -> HostPort {
        HostPort::new(host, 7420).unwrap()
    }

    fn key(seed: u8) -> KeyHash {
        KeyHash::from_bytes([seed; 32])
    }

    fn ticket(seed: u8) -> StoredTicket {
        StoredTicket { token: Token::from_bytes([seed; 16]), port: 7420, claimed_by: None }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn write(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        chmod(path, mode);
    }

    /// Names in a directory, sorted, without the lock.
    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name != "lock");
        names.sort();
        names
    }
}
