//! Sees every name that a directory gets, the moment it gets it, and what is behind the name.
//!
//! A file that has its name is never changed again, so that its bytes may be read after the event. Events of a directory
//! come from the moment it is watched: what got into a new one before that is looked at, too, but not how it came.

use std::collections::HashMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use haul::file::path::{TEMP_PREFIX, escape};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

use crate::common::process::PATIENCE;
use crate::common::tree::{Kind, Tree, sha256};

/// The names of a directory and of all below it.
pub struct Watch {
    inotify: OwnedFd,
    top: PathBuf,
    /// The watched directories, from the top.
    directories: HashMap<i32, Vec<u8>>,
    /// What there may be, in the end.
    expected: Tree,
    /// Whether anything was written since [`Watch::begin`].
    has_moved: bool,
}

/// An event, without what it borrows.
struct Seen {
    directory: i32,
    events: ReadFlags,
    name: Vec<u8>,
}

impl Watch {
    /// Watches `top`, where nothing but `expected` may appear.
    pub fn start(top: &Path, expected: Tree) -> Self {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let directories = HashMap::new();
        let mut watch = Self { inotify, top: top.to_owned(), directories, expected, has_moved: false };
        watch.enter(b"");
        watch
    }

    /// From here on, nothing has moved.
    pub fn begin(&mut self) {
        self.look();
        self.has_moved = false;
    }

    /// Looks at all that has happened.
    pub fn look(&mut self) {
        for seen in self.seen() {
            self.on_seen(&seen);
        }
    }

    /// Whether content has moved since [`Self::begin`].
    pub fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Waits for the first content.
    pub fn wait_until_moved(&mut self) {
        while !self.has_moved {
            let time = Timespec::try_from(PATIENCE).expect("not too long");
            let ready = poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], Some(&time)).unwrap();
            assert!(ready > 0, "nothing moves");
            self.look();
        }
    }

    /// What is readable when something has happened.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    fn seen(&self) -> Vec<Seen> {
        let mut buffer = [MaybeUninit::uninit(); 1 << 14];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut all = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => all.push(Seen {
                    directory: event.wd(),
                    events: event.events(),
                    name: event.file_name().map_or_else(Vec::new, |name| name.to_bytes().to_vec()),
                }),
                Err(Errno::AGAIN) => return all,
                Err(errno) => panic!("cannot read events: {errno}"),
            }
        }
    }

    fn on_seen(&mut self, seen: &Seen) {
        assert!(!seen.events.contains(ReadFlags::QUEUE_OVERFLOW), "events were lost");
        let is_temporary = seen.name.starts_with(TEMP_PREFIX);
        self.has_moved |= is_temporary && seen.events.contains(ReadFlags::MODIFY);
        // A directory is modified when it gets its time.
        let is_aged = seen.events.contains(ReadFlags::MODIFY | ReadFlags::ISDIR);
        if is_temporary || is_aged || seen.name.is_empty() {
            return;
        }
        let path = below(&self.directories[&seen.directory], &seen.name);
        if seen.events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO)
            && seen.events.contains(ReadFlags::ISDIR)
        {
            self.enter(&path);
        } else if seen.events.contains(ReadFlags::MOVED_TO) {
            self.has_moved = true;
            self.on_there(&path);
        } else if seen.events.contains(ReadFlags::CREATE) {
            let is_link = fs::symlink_metadata(self.path(&path)).is_ok_and(|there| there.is_symlink());
            assert!(is_link, "{} was made under its name", escape(&path));
        } else {
            panic!("{}: {:?}", escape(&path), seen.events);
        }
    }

    /// Watches a directory, and looks at what is in it already.
    fn enter(&mut self, path: &[u8]) {
        let dir = self.path(path);
        let events = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE
            | WatchFlags::ONLYDIR;
        let number = add_watch(&self.inotify, &dir, events).unwrap();
        self.directories.insert(number, path.to_vec());
        for entry in fs::read_dir(&dir).unwrap() {
            let name = entry.unwrap().file_name().into_vec();
            if name.starts_with(TEMP_PREFIX) {
                continue;
            }
            let path = below(path, &name);
            match fs::symlink_metadata(self.path(&path)).unwrap().is_dir() {
                true => self.enter(&path),
                false => self.on_there(&path),
            }
        }
    }

    /// What has got its name is all that it is to be.
    fn on_there(&self, path: &[u8]) {
        let shown = escape(path);
        let expected = self.expected.get(path).unwrap_or_else(|| panic!("{shown} was never sent"));
        let there = fs::symlink_metadata(self.path(path)).unwrap_or_else(|error| panic!("{shown}: {error}"));
        match &expected.kind {
            Kind::File(size, digest, _) => {
                let content = fs::read(self.path(path)).unwrap();
                assert_eq!(content.len() as u64, *size, "{shown} is too short or too long");
                assert_eq!(sha256(&content), digest.to_string(), "{shown} has other bytes");
                let (mode, mtime) = (there.mode() & 0o7777, (there.mtime(), there.mtime_nsec()));
                assert_eq!((mode, mtime), (expected.mode, expected.mtime), "mode and time of {shown}");
            }
            Kind::Link(target) => {
                assert_eq!(fs::read_link(self.path(path)).unwrap().as_os_str().as_bytes(), target, "{shown}");
            }
            kind => panic!("{shown} is to be a {kind:?}"),
        }
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        self.top.join(std::ffi::OsStr::from_bytes(path))
    }
}

fn below(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}
