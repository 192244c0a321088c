//! What a hostile sender can do to a directory: nothing but what it was allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use haul::file::path::{RelPath, TEMP_PREFIX};
use haul::file::target::{
    Accept, Asked, BusyNames, Expect, LinkRule, Memory, Place, ProtocolViolation, Target, TargetConfig,
};
use haul::integrity::digest::Hasher;
use haul::transfer::raw::RawPiece;
use haul::transfer::{Event, Job};
use haul::wire::message::{Code, DigestKind, Kind, Overwrite};

use super::bytes::Bytes;
use super::frame_of;

/// Jobs in any order, into a directory with links that lead out of it: nothing outside is touched, a name has what it had
/// or bytes whose digest the sender told, no entry has two outcomes, what may not change does not, and nothing of ours
/// stays behind.
pub fn target(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let ground = Ground::new();
    let outside = ground.outside();
    let (rules, mut session) = Session::new(&mut bytes, &ground);
    if let Some(session) = &mut session {
        while !bytes.is_empty() && session.step(&mut bytes).is_ok() {
            session.drain();
        }
        assert!(session.output.is_of_one_file(session.sizes.len()));
    }
    let told = session.map(|session| session.told).unwrap_or_default();

    assert_eq!(ground.outside(), outside, "something outside was touched");
    ground.check(&rules, &told);
}

/// A directory in memory, and what is around it.
struct Ground {
    temp: tempfile::TempDir,
    before: BTreeMap<PathBuf, Thing>,
}

/// What stands under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    Dir,
    /// Its content, unless that is too long to look at, and its mode.
    File(Option<Vec<u8>>, u32),
    Link(PathBuf),
    Other,
}

impl Ground {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let temp = temp.expect("a temporary directory can be made");
        let (secret, root) = (temp.path().join("secret"), temp.path().join("root"));
        let make = || -> io::Result<()> {
            fs::write(secret, "secret")?;
            fs::create_dir_all(root.join("dir"))?;
            fs::write(root.join("existing"), "existing")?;
            fs::write(root.join("dir/old"), "old")?;
            symlink("..", root.join("out"))?;
            symlink("../new", root.join("gone"))?;
            symlink("../secret", root.join("dir/leak"))
        };
        make().expect("it can be filled");
        let mut ground = Self { temp, before: BTreeMap::new() };
        ground.before = ground.inside();
        ground
    }

    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }

    /// Everything outside of the root.
    fn outside(&self) -> BTreeMap<PathBuf, (Thing, i64)> {
        let mut things = BTreeMap::new();
        let entries = fs::read_dir(self.temp.path()).expect("it can be read");
        for path in entries.map(|entry| entry.expect("as before").path()).filter(|path| *path != self.root())
        {
            let changed = fs::symlink_metadata(&path).expect("it is there").mtime_nsec();
            things.insert(path.clone(), (thing(&path), changed));
        }
        things
    }

    /// Everything in the root, by its path there.
    fn inside(&self) -> BTreeMap<PathBuf, Thing> {
        let (root, mut things) = (self.root(), BTreeMap::new());
        let mut dirs = vec![root.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).expect("it can be read") {
                let path = entry.expect("as before").path();
                let thing = thing(&path);
                if thing == Thing::Dir {
                    dirs.push(path.clone());
                }
                things.insert(path.strip_prefix(&root).expect("it was found below").to_owned(), thing);
            }
        }
        things
    }

    fn check(&self, rules: &Rules, told: &BTreeSet<[u8; 32]>) {
        let after = self.inside();
        if rules.dry_run || rules.place != PlaceKind::Directory {
            assert_eq!(after, self.before, "nothing may change");
            return;
        }
        for (path, thing) in &after {
            let name = path.file_name().expect("it has a name").as_bytes();
            assert!(!name.starts_with(TEMP_PREFIX), "{} stays behind", path.display());
            if self.before.get(path) == Some(thing) {
                continue;
            }
            match thing {
                Thing::Dir => {
                    assert!(!matches!(self.before.get(path), Some(Thing::Link(_))), "{}", path.display());
                }
                Thing::File(_, mode) if !rules.keep_setid => {
                    assert_eq!(mode & 0o7000, 0, "{}", path.display());
                }
                Thing::File(..) => {}
                Thing::Link(to) => {
                    assert!(rules.links == LinkRule::KeepAll || stays_inside(path, to), "{}", path.display());
                }
                Thing::Other => panic!("{} is no file", path.display()),
            }
            if let Thing::File(content, _) = thing
                && !name.windows(8).any(|part| part == b".damaged")
            {
                let content = content.as_ref().expect("what is proven was sent");
                assert!(told.contains(&digest(content)), "{} was not proven", path.display());
            }
        }
    }
}

fn thing(path: &Path) -> Thing {
    let about = fs::symlink_metadata(path).expect("it was listed");
    if about.is_dir() {
        Thing::Dir
    } else if about.is_symlink() {
        Thing::Link(fs::read_link(path).expect("it is a link"))
    } else if about.is_file() {
        let content = (about.len() <= READ_MAX_BYTES).then(|| fs::read(path).expect("it can be read"));
        Thing::File(content, about.mode() & 0o7777)
    } else {
        Thing::Other
    }
}

/// Whether a link cannot lead out of the root, as far as its text says.
fn stays_inside(path: &Path, to: &Path) -> bool {
    let mut depth = path.components().count() - 1;
    to.is_relative()
        && to.components().all(|component| match component {
            std::path::Component::ParentDir => depth.checked_sub(1).map(|up| depth = up).is_some(),
            std::path::Component::Normal(_) => {
                depth += 1;
                true
            }
            _ => true,
        })
}

struct Session {
    target: Target,
    /// Announced files' sizes, by number; of a stream one of ours.
    sizes: Vec<u64>,
    told: BTreeSet<[u8; 32]>,
    outcomes: BTreeSet<u64>,
    output: Output,
}

/// What of the configuration the checks have to know.
struct Rules {
    place: PlaceKind,
    dry_run: bool,
    keep_setid: bool,
    links: LinkRule,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    Directory,
    Output,
    Nowhere,
}

impl Session {
    /// The rules, and the session unless there is none.
    fn new(bytes: &mut Bytes<'_>, ground: &Ground) -> (Rules, Option<Self>) {
        let output = Output::default();
        let kind = match bytes.below(8) {
            0 => PlaceKind::Output,
            1 => PlaceKind::Nowhere,
            _ => PlaceKind::Directory,
        };
        let below = bytes.one_of(&[None, None, None, Some("below"), Some("out/below"), Some("dir")]);
        let rename_top = bytes.one_of(&[None, None, None, Some("top")]);
        let place = match kind {
            PlaceKind::Directory => Place::Directory {
                root: ground.root(),
                below: below.map(|below| RelPath::parse(below.as_bytes()).expect("a path")),
                rename_top: rename_top.map(|top: &str| top.as_bytes().to_vec()),
            },
            PlaceKind::Output => Place::Stdout(Box::new(output.clone())),
            PlaceKind::Nowhere => Place::Nowhere { bytes_max: 5000, memory: Arc::new(Memory::default()) },
        };
        let rules = Rules {
            place: kind,
            dry_run: bytes.below(8) == 0,
            keep_setid: bytes.below(4) == 0,
            links: bytes.one_of(&[LinkRule::RefuseEscaping, LinkRule::KeepAll]),
        };
        let expect = match bytes.below(8) {
            0 => Expect::One(digest(&content(0, 0, 40))),
            1 => Expect::Manifest(BTreeMap::from([(b"a".to_vec(), digest(&content(0, 0, 40)))])),
            _ => Expect::None,
        };
        let accept = match bytes.below(8) {
            0 => Accept::Asked(vec![Asked::Exact(b"dir".to_vec()), Asked::Contents]),
            _ => Accept::Anything,
        };
        let overwrite = [Overwrite::Never, Overwrite::Newer, Overwrite::Different, Overwrite::Always];
        let config = TargetConfig {
            place,
            digest: DigestKind::Sha256,
            overwrite: bytes.one_of(&overwrite),
            checksum: bytes.coin(),
            dry_run: rules.dry_run,
            sync: bytes.below(8) == 0,
            verify_disk: bytes.below(8) == 0,
            links: rules.links,
            keep_setid: rules.keep_setid,
            eager: bytes.coin(),
            expect,
            accept,
            busy: Arc::new(BusyNames::new()),
            seed: 1,
        };
        // A directory behind a link is refused.
        let target = Target::new(config).ok();
        let session = target.map(|target| Self {
            target,
            sizes: Vec::new(),
            told: BTreeSet::new(),
            outcomes: BTreeSet::new(),
            output,
        });
        (rules, session)
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) -> Result<(), ProtocolViolation> {
        let file = if self.sizes.is_empty() { 0 } else { bytes.below(256) % (self.sizes.len() + 1) };
        let size = self.sizes.get(file).copied().unwrap_or(9);
        let number = file as u64;
        match bytes.below(16) {
            0..=3 => self.announce(bytes)?,
            4..=6 => {
                // All of a file, in two pieces of any order, and its end.
                let cut = u64::from(bytes.byte()).min(size);
                let mut pieces = [(0, cut), (cut, size - cut)];
                pieces[..].rotate_left(bytes.below(2));
                for (offset, len) in pieces.into_iter().filter(|(_, len)| *len > 0) {
                    self.target.handle(data(number, offset, len))?;
                }
                self.end(number, size, true, false)?;
            }
            7 => {
                let (offset, len) = (bytes.number() & MOST, 1 + u64::from(bytes.byte()));
                self.target.handle(data(number, offset, len))?;
            }
            8 => {
                let (offset, len) = (bytes.number() & MOST, 1 + (bytes.number() & 0xffff));
                self.target.handle(Job::Hole { file: number, offset, len })?;
            }
            9 => {
                let size = if bytes.coin() { size } else { bytes.number() & MOST };
                let (is_right, is_raw) = (bytes.coin(), bytes.coin());
                self.end(number, size, is_right, is_raw)?;
            }
            10 => {
                let digest = self.digest_of(number, size, bytes.coin());
                self.target.handle(Job::Digest { file: number, size, digest })?;
            }
            11 => {
                let failed =
                    Job::Failed { file: number, code: Code::SourceChanged, text: "\u{1b}[2J".to_owned() };
                self.target.handle(failed)?;
            }
            12 => {
                let (offset, len) = (u64::from(bytes.byte()), 1 + usize::from(bytes.byte()));
                let piece =
                    RawPiece { file: number, offset, bytes: content(number, offset, len), datagrams: 1 };
                self.target.handle(Job::RawPiece(piece))?;
            }
            13 if bytes.below(4) == 0 => self.target.handle(Job::Listed)?,
            _ => self.target.handle(Job::Idle)?,
        }
        Ok(())
    }

    fn announce(&mut self, bytes: &mut Bytes<'_>) -> Result<(), ProtocolViolation> {
        let name = match bytes.below(24) {
            at @ 0..=17 => NAMES[at].to_vec(),
            18 => ODD_NAMES[bytes.below(ODD_NAMES.len())].to_vec(),
            19 => bytes.some().to_vec(),
            _ => NAMES[bytes.below(NAMES.len())].to_vec(),
        };
        let mut entry = frame_of::entry(bytes, name);
        // What nobody may enter, nobody could look into afterwards.
        entry.mode |= 0o700;
        let first = if bytes.below(32) == 0 { bytes.number() } else { self.sizes.len() as u64 };
        let size = match &mut entry.kind {
            // In memory, what is reserved is taken.
            Kind::File { size, .. } if *size < 1 << 50 => {
                *size %= 300;
                *size
            }
            Kind::File { size, .. } => *size & MOST,
            _ => u64::from(bytes.byte()),
        };
        self.target.handle(Job::Entries { first, entries: vec![entry] })?;
        self.sizes.push(size);
        Ok(())
    }

    fn end(&mut self, file: u64, size: u64, is_right: bool, is_raw: bool) -> Result<(), ProtocolViolation> {
        let digest = self.digest_of(file, size, is_right);
        self.target.handle(match is_raw {
            true => Job::RawEnd { file, size, digest },
            false => Job::End { file, size, digest },
        })
    }

    fn digest_of(&mut self, file: u64, size: u64, is_right: bool) -> [u8; 32] {
        let len = usize::try_from(size).unwrap_or(usize::MAX).min(4096);
        let told = if is_right { digest(&content(file, 0, len)) } else { [9; 32] };
        self.told.insert(told);
        told
    }

    fn drain(&mut self) {
        while let Some(event) = self.target.poll_event() {
            if let Event::Outcome { file, .. } = event {
                assert!(self.outcomes.insert(file), "an entry has one outcome");
            }
        }
        let announced = self.sizes.len();
        assert!(self.outcomes.len() <= announced);
        assert_eq!(self.target.is_settled(), self.outcomes.len() == announced);
    }
}

/// Standard output.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    /// Whether it has the beginning of one of so many files, whose holes are zeros.
    fn is_of_one_file(&self, files: usize) -> bool {
        let passed = self.0.lock().expect("nobody panics with it");
        let is_of = |file: u64| {
            let content = content(file, 0, passed.len());
            passed.iter().zip(content).all(|(&passed, sent)| passed == sent || passed == 0)
        };
        passed.is_empty() || (0..files as u64).any(is_of)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn data(file: u64, offset: u64, len: u64) -> Job {
    let len = usize::try_from(len).unwrap_or(usize::MAX).min(4096);
    Job::Data { file, offset, bytes: content(file, offset, len) }
}

/// What stands there in a file.
fn content(file: u64, offset: u64, len: usize) -> Vec<u8> {
    let at =
        |at: usize| offset.wrapping_add(at as u64).wrapping_mul(7).wrapping_add(file * 31).to_le_bytes()[0];
    (0..len).map(at).collect()
}

fn digest(content: &[u8]) -> [u8; 32] {
    let mut hasher = Hasher::new(DigestKind::Sha256);
    hasher.update(content);
    hasher.finish()
}

/// Names that meet each other and what is there.
const NAMES: [&[u8]; 18] = [
    b"a",
    b"a",
    b"b",
    b"dir",
    b"dir/a",
    b"dir/old",
    b"dir/leak",
    b"dir/leak/x",
    b"dir/sub",
    b"dir/sub/a",
    b"existing",
    b"existing/x",
    b"out",
    b"out/x",
    b"out/secret",
    b"gone",
    b"gone/x",
    b"new/deep/x",
];
/// Names that no honest sender has.
const ODD_NAMES: [&[u8]; 8] =
    [b"..", b"../secret", b"/etc/x", b"a/../../secret", b".haul-x", b"dir/.haul-x", b"a//b", b"dir/./a"];
/// Largest offset or size: what a file can have.
const MOST: u64 = i64::MAX as u64;
/// Longer files are not looked into.
const READ_MAX_BYTES: u64 = 1 << 20;
