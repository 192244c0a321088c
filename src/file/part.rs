//! One unfinished file: it stands beside its target under a temporary name until it is proven.
//!
//! The live name never holds a partial file, because bytes only ever go here. Dropping a part removes it from the
//! disk, unless another session can go on with it ([`Part::keep`]); only [`Part::publish`] gives it its name. Its descriptor may be closed and opened again between writes
//! ([`Part::park`]), so that thousands of parts need not be thousands of open files.

use std::ops::Range;
use std::sync::Arc;

use rustix::io::{Errno, Result};

use super::disk::letter_case;
use super::disk::target_dirs::Dir;
use super::disk::temp_name::{TempName, TempNames};
use super::disk::{Handle, Stat, write};
use super::journal::{Journal, JournalError};
use super::kept::{Keep, Kept};
use crate::limits;
use crate::transfer::placement::Placement;
use crate::wire::message::{Code, Mtime};

/// An unfinished file, link, or other name of a file, that has no live name.
#[derive(Debug)]
pub struct Part {
    /// Where it stands and will stand.
    dir: Arc<Dir>,
    /// Its name until it is published.
    temp: TempName,
    /// Open while it is written.
    file: Option<Handle>,
    /// Whether the temporary name is gone, so that there is nothing to remove.
    published: bool,
    /// What lets another session go on with it, if anything does.
    kept: Option<Kept>,
    /// Whether its own file is locked while it is open; a journal needs no such help.
    is_locked: bool,
}

/// A file that stood under the target's name when it was examined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Existing {
    /// Device and inode.
    pub identity: (u64, u64),
    /// Length, bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Mtime,
}

impl Existing {
    /// What `stat` says of it.
    pub fn of(stat: &Stat) -> Self {
        Self { identity: stat.identity, size: stat.size, mtime: stat.mtime }
    }
}

/// What a published file may replace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Nothing.
    Nothing,
    /// Nothing was there; what has appeared is replaced, unless it is a directory.
    Appeared,
    /// Exactly what was examined.
    Examined(Existing),
}

/// Why a finished part did not get its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// Something appeared under the name since it was examined.
    Appeared,
    /// What stood there is not what was examined any more.
    Changed,
    /// A directory is there.
    Directory,
    /// What is there has a name that differs only in case, and this directory does not tell the two apart.
    OtherCase,
    /// The system refused.
    System(Errno),
}

impl PublishError {
    /// The code and the reason, to stand behind the name.
    pub fn describe(self) -> (Code, String) {
        match self {
            Self::Appeared => {
                (Code::Conflict, "something else got this name while the file was received".to_owned())
            }
            Self::Changed => {
                (Code::Conflict, "changed while it was being replaced; kept as it is".to_owned())
            }
            Self::Directory => (Code::Conflict, "is a directory".to_owned()),
            Self::OtherCase => (
                Code::Conflict,
                "differs only in case from another name, and this disk does not tell the two apart"
                    .to_owned(),
            ),
            Self::System(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                (Code::NoSpace, super::failure::reason(errno))
            }
            Self::System(errno) => {
                (Code::File, format!("cannot give the file its name: {}", super::failure::reason(errno)))
            }
        }
    }
}

impl From<Errno> for PublishError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::EXIST | Errno::NOTEMPTY => Self::Appeared,
            Errno::ISDIR => Self::Directory,
            errno => Self::System(errno),
        }
    }
}

impl Part {
    /// An empty file in `dir` for the name `name` that another session can go on with, and that it owns alone.
    pub fn keep(dir: Arc<Dir>, name: &[u8], keep: &Keep) -> std::result::Result<Self, JournalError> {
        let (mut journal, _) = Journal::open(&dir, journal_name(&keep.owner, name))?;
        let temp = part_name(&keep.owner, name);
        release_named(&dir, temp)?;
        make_writable(&dir, temp)?;
        let file = write::open_or_create(dir.handle(), temp.as_bytes())?;
        if !write::stat_of(&file)?.is_own_file() {
            return Err(JournalError::Foreign);
        }
        write::set_len(&file, 0)?;
        journal.begin(keep.identity, &[])?;
        let kept = Some(Kept::new(journal, false, keep.syncs));
        Ok(Self { dir, temp, file: Some(file), published: false, kept, is_locked: false })
    }

    /// What another session has left of `name`, and which of its bytes; `None` where there is nothing to go on with.
    pub fn go_on(
        dir: Arc<Dir>,
        name: &[u8],
        keep: &Keep,
    ) -> std::result::Result<Option<(Self, Placement)>, JournalError> {
        let journal_name = journal_name(&keep.owner, name);
        if write::stat(dir.handle(), journal_name.as_bytes())?.is_none() {
            return Ok(None);
        }
        let (mut journal, claims) = Journal::open(&dir, journal_name)?;
        let temp = part_name(&keep.owner, name);
        let there = write::stat(dir.handle(), temp.as_bytes())?;
        let (Some(claims), Some(there)) = (claims, there.filter(Stat::is_own_file)) else { return Ok(None) };
        make_writable(&dir, temp)?;
        let file = write::open_temp(dir.handle(), temp)?;
        let size = keep.identity.size;
        let placed = claims.placed.within(there.size.min(size), limits::RESUME_SPANS_MAX).of_size(size);
        if there.size > size {
            write::set_len(&file, size)?;
        }
        // Of another source, the same bytes may still be of use; the journal is about this one from here on.
        if claims.identity != keep.identity {
            journal.begin(keep.identity, placed.ranges())?;
        }
        let kept = Some(Kept::new(journal, placed.placed_bytes() > 0, keep.syncs));
        Ok(Some((Self { dir, temp, file: Some(file), published: false, kept, is_locked: false }, placed)))
    }

    /// Removes what another session has left of `name`, of which nothing is wanted any more.
    pub fn remove_left(dir: &Dir, name: &[u8], owner: &[u8; 32]) {
        let journal_name = journal_name(owner, name);
        if !matches!(write::stat(dir.handle(), journal_name.as_bytes()), Ok(Some(_))) {
            return;
        }
        // Somebody else may be writing it.
        let Ok((journal, _)) = Journal::open(dir, journal_name) else { return };
        let _ = write::unlink(dir.handle(), part_name(owner, name).as_bytes());
        let _ = journal.remove(dir);
    }

    /// What is allocated for what another session has left of `name`, bytes.
    pub fn allocated(dir: &Dir, name: &[u8], owner: &[u8; 32]) -> u64 {
        let there = write::stat(dir.handle(), part_name(owner, name).as_bytes());
        there.ok().flatten().filter(Stat::is_own_file).map_or(0, |stat| stat.blocks_bytes)
    }

    /// An empty file in `dir`, readable by this user alone.
    pub fn create(dir: Arc<Dir>, names: &mut TempNames) -> Result<Self> {
        let (file, temp) = write::create_temp(dir.handle(), names)?;
        Ok(Self { dir, temp, file: Some(file), published: false, kept: None, is_locked: false })
    }

    /// While it is open, no sweep takes it for one that was left, however long nothing comes.
    pub fn lock(&mut self) {
        self.is_locked = true;
        if let Some(file) = &self.file {
            lock(file);
        }
    }

    /// A symbolic link to `target`.
    pub fn symlink(dir: Arc<Dir>, target: &[u8], names: &mut TempNames) -> Result<Self> {
        let temp = write::symlink_temp(dir.handle(), target, names)?;
        Ok(Self { dir, temp, file: None, published: false, kept: None, is_locked: false })
    }

    /// Another name of the file `name` in `from`.
    pub fn hardlink(dir: Arc<Dir>, from: &Dir, name: &[u8], names: &mut TempNames) -> Result<Self> {
        let temp = write::link_temp(from.handle(), name, dir.handle(), names)?;
        Ok(Self { dir, temp, file: None, published: false, kept: None, is_locked: false })
    }

    /// Reserves the blocks of all `size` bytes and makes the file that long.
    pub fn reserve(&mut self, size: u64) -> Result<()> {
        write::reserve(self.file()?, size)
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        write::write_all_at(self.file()?, bytes, offset)?;
        if let Some(kept) = &mut self.kept {
            kept.on_written(offset..offset + bytes.len() as u64);
            if kept.syncs() {
                write::start_writeback(self.file()?, offset, bytes.len() as u64);
            }
        }
        Ok(())
    }

    /// Sees that `len` bytes at `offset`, which are in the file, are zeros. Where they are, nothing is written.
    pub fn zero(&mut self, offset: u64, len: u64, scratch: &mut [u8]) -> Result<()> {
        let mut at = offset;
        while at < offset + len {
            let step =
                usize::try_from(offset + len - at).map_or(scratch.len(), |left| left.min(scratch.len()));
            let buffer = &mut scratch[..step];
            if let Err(error) = self.read_back(at, buffer) {
                self.give_up();
                return Err(error);
            }
            if buffer.iter().any(|&byte| byte != 0) {
                buffer.fill(0);
                write::write_all_at(self.file()?, buffer, at)?;
            }
            at += step as u64;
        }
        self.note_written(offset, len);
        Ok(())
    }

    /// A range that is to be read as zeros is there.
    pub fn note_written(&mut self, offset: u64, len: u64) {
        if let Some(kept) = &mut self.kept {
            kept.on_written(offset..offset + len);
        }
    }

    /// Whether so much was written since the last checkpoint that it is time for one.
    pub fn wants_checkpoint(&self) -> bool {
        self.kept.as_ref().is_some_and(Kept::is_due)
    }

    /// Brings what was written to the disk and notes it, if another session may go on with this part.
    pub fn checkpoint(&mut self) -> Result<()> {
        if self.kept.is_none() {
            return Ok(());
        }
        self.file()?;
        let (Some(kept), Some(file)) = (&mut self.kept, &self.file) else { return Ok(()) };
        kept.checkpoint(file, &self.dir)
    }

    /// These ranges are wrong: nobody is to go on behind them.
    pub fn forget(&mut self, ranges: &[Range<u64>]) -> Result<()> {
        self.kept.as_mut().map_or(Ok(()), |kept| kept.forget(ranges))
    }

    /// Removes it, whatever another session could do with it.
    pub fn discard(mut self) {
        if let Some(kept) = self.kept.take() {
            kept.remove(&self.dir);
        }
    }

    /// If another session may go on with it, it has a share of `all` while its journal is open.
    pub fn count_among(&mut self, all: &Arc<()>) {
        if let Some(kept) = &mut self.kept {
            kept.count_among(all);
        }
    }

    /// How long it is, bytes.
    pub fn size(&mut self) -> Result<u64> {
        Ok(write::stat_of(self.file()?)?.size)
    }

    /// Reads into all of `buffer` from `offset`; a file that ends before is an error (`EIO`): it was longer.
    pub fn read_back(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = write::read_at(self.file()?, buffer, offset)?;
        if read == buffer.len() { Ok(()) } else { Err(Errno::IO) }
    }

    /// Makes the file `len` bytes long; bytes that appear read as zeros.
    pub fn set_len(&mut self, len: u64) -> Result<()> {
        write::set_len(self.file()?, len)
    }

    /// Gives the file its permissions and its modification time. Writes come before this.
    pub fn set_metadata(&mut self, mode: u32, mtime: Mtime) -> Result<()> {
        let file = self.file()?;
        write::set_mode(file, mode)?;
        write::set_mtime(file, mtime)
    }

    /// Gives a link its modification time.
    pub fn set_link_mtime(&self, mtime: Mtime) -> Result<()> {
        write::set_mtime_of(self.dir.handle(), self.temp.as_bytes(), mtime)
    }

    /// Waits until the file is on the disk.
    pub fn sync(&mut self) -> Result<()> {
        let result = write::sync(self.file()?);
        result.inspect_err(|_| self.give_up())
    }

    /// Syncs the file and forgets its bytes in memory: what is read back next comes from the disk, where the system can
    /// do that.
    pub fn sync_and_drop_cache(&mut self) -> Result<()> {
        self.sync()?;
        let _ = write::drop_cache(self.file()?);
        Ok(())
    }

    /// What it holds is lost: a sync that was to bring it to the disk has failed, or it cannot be read back. No other session
    /// may go on with it.
    pub fn give_up(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.give_up();
        }
    }

    /// Closes the descriptor; the next use opens it again.
    pub fn park(&mut self) {
        self.file = None;
    }

    /// Whether the descriptor is closed.
    pub fn is_parked(&self) -> bool {
        self.file.is_none()
    }

    /// The directory that it stands in.
    pub fn dir(&self) -> &Arc<Dir> {
        &self.dir
    }

    /// The name `name` becomes this file's. After an error the name is as it was.
    pub fn publish(mut self, name: &[u8], replace: Replace) -> std::result::Result<(), PublishError> {
        match replace {
            Replace::Nothing | Replace::Appeared => match self.rename_new(name) {
                Err(Errno::EXIST) if letter_case::twin_of(&self.dir, name)?.is_some() => {
                    return Err(PublishError::OtherCase);
                }
                Err(Errno::EXIST) if replace == Replace::Appeared => self.rename_over(name)?,
                result => result?,
            },
            Replace::Examined(examined) => match write::stat(self.dir.handle(), name)? {
                None => self.rename_new(name)?,
                Some(stat) if Existing::of(&stat) != examined => return Err(PublishError::Changed),
                Some(_) => self.rename_over(name)?,
            },
        }
        self.published = true;
        if let Some(kept) = self.kept.take() {
            kept.remove(&self.dir);
        }
        Ok(())
    }

    /// Lets the file stand beside `name`, readable by whom `mode` says, under a name that says that it is damaged; gives
    /// that name. Nothing is ever replaced: the first free one of `name.damaged`, `name.damaged.2`, and so on is taken.
    /// After an error the part is removed.
    pub fn keep_damaged(mut self, name: &[u8], mode: u32) -> Result<Vec<u8>> {
        // Nobody is to run it.
        write::set_mode(self.file()?, mode & 0o666)?;
        for number in 1..=DAMAGED_MAX {
            let mut beside = [name, b".damaged"].concat();
            if number > 1 {
                beside.extend_from_slice(format!(".{number}").as_bytes());
            }
            match self.rename_new(&beside) {
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
                Ok(()) => {
                    self.published = true;
                    if let Some(kept) = self.kept.take() {
                        kept.remove(&self.dir);
                    }
                    return Ok(beside);
                }
            }
        }
        Err(Errno::EXIST)
    }

    fn rename_new(&self, name: &[u8]) -> Result<()> {
        write::rename_new(self.dir.handle(), self.temp.as_bytes(), name)
    }

    fn rename_over(&self, name: &[u8]) -> Result<()> {
        write::rename_over(self.dir.handle(), self.temp.as_bytes(), name)?;
        // Renaming one name of a file over another of the same file does nothing and leaves both.
        let _ = write::unlink(self.dir.handle(), self.temp.as_bytes());
        Ok(())
    }

    fn file(&mut self) -> Result<&Handle> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = write::open_temp(self.dir.handle(), self.temp)?;
                if self.is_locked {
                    lock(&file);
                }
                file
            }
        };
        Ok(self.file.insert(file))
    }
}

/// A part that got its name and lost the power or its process just then has both names. The file is the live one, and
/// only the other name goes.
fn release_named(dir: &Dir, temp: TempName) -> Result<()> {
    match write::stat(dir.handle(), temp.as_bytes())? {
        Some(stat) if stat.is_file_of_user() && stat.nlink > 1 => {
            write::unlink(dir.handle(), temp.as_bytes())
        }
        _ => Ok(()),
    }
}

/// A part that was about to get its name had the mode of its source, which may be to read only.
fn make_writable(dir: &Dir, temp: TempName) -> Result<()> {
    match write::stat(dir.handle(), temp.as_bytes())?.filter(Stat::is_own_file) {
        Some(stat) if stat.mode & 0o600 != 0o600 => {
            write::set_mode_of_file(dir.handle(), temp.as_bytes(), 0o600)
        }
        _ => Ok(()),
    }
}

/// Where the part of `name` stands that this owner sends.
fn part_name(owner: &[u8; 32], name: &[u8]) -> TempName {
    TempName::of_part(journal_name(owner, name).as_bytes())
}

/// Where its journal does.
fn journal_name(owner: &[u8; 32], name: &[u8]) -> TempName {
    TempName::found_again(owner, b"journal", name)
}

/// Without a lock its age protects it, which is as much as there is where the disk has no locks.
fn lock(file: &Handle) {
    let _ = write::try_lock(file);
}

/// Damaged files of one name that are kept.
const DAMAGED_MAX: u32 = 99;

impl Drop for Part {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        // The session ends here, or this file does: what has come of it stays for another one.
        let _ = self.checkpoint();
        if self.kept.as_ref().is_none_or(|kept| !kept.has_claims()) {
            if let Some(kept) = self.kept.take() {
                kept.remove(&self.dir);
            }
            // A temporary name that cannot be removed stays behind under its reserved name; nothing reads it.
            let _ = write::unlink(self.dir.handle(), self.temp.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::file::disk::target_dirs::TargetDirs;

    #[test]
    fn a_dropped_part_leaves_nothing_behind() {
        let (temp, dir) = directory();
        let mut part = Part::create(dir, &mut TempNames::new(1)).unwrap();
        part.write_at(0, b"half").unwrap();
        assert_eq!(count(&temp), 1);

        drop(part);

        assert_eq!(count(&temp), 0);
    }

    #[test]
    fn a_published_part_is_the_whole_file_with_its_metadata() {
        let (temp, dir) = directory();
        let mtime = Mtime { secs: 1_000_000_000, nanos: 42 };
        let mut part = Part::create(dir, &mut TempNames::new(1)).unwrap();

        part.write_at(3, b"def").unwrap();
        part.park();
        part.write_at(0, b"abc").unwrap();
        part.set_metadata(0o640, mtime).unwrap();
        part.publish(b"name", Replace::Nothing).unwrap();

        let metadata = std::fs::metadata(temp.path().join("name")).unwrap();
        assert_eq!(std::fs::read(temp.path().join("name")).unwrap(), b"abcdef");
        assert_eq!(metadata.mode() & 0o7777, 0o640);
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_000, 42));
        assert_eq!(count(&temp), 1);
    }

    #[test]
    fn what_appeared_meanwhile_is_kept_unless_it_may_be_replaced() {
        let (temp, dir) = directory();
        let mut names = TempNames::new(1);
        std::fs::write(temp.path().join("name"), "theirs").unwrap();

        let refused = Part::create(Arc::clone(&dir), &mut names).unwrap().publish(b"name", Replace::Nothing);
        assert_eq!(refused, Err(PublishError::Appeared));
        assert_eq!(std::fs::read(temp.path().join("name")).unwrap(), b"theirs");

        Part::create(dir, &mut names).unwrap().publish(b"name", Replace::Appeared).unwrap();
        assert_eq!(std::fs::read(temp.path().join("name")).unwrap(), b"");
        assert_eq!(count(&temp), 1);
    }

    #[test]
    fn only_what_was_examined_is_replaced() {
        let (temp, dir) = directory();
        let mut names = TempNames::new(1);
        std::fs::write(temp.path().join("name"), "old").unwrap();
        let examined = Existing::of(&write::stat(dir.handle(), b"name").unwrap().unwrap());

        std::fs::write(temp.path().join("name"), "changed").unwrap();
        let part = Part::create(Arc::clone(&dir), &mut names).unwrap();
        assert_eq!(part.publish(b"name", Replace::Examined(examined)), Err(PublishError::Changed));
        assert_eq!(std::fs::read(temp.path().join("name")).unwrap(), b"changed");

        let examined = Existing::of(&write::stat(dir.handle(), b"name").unwrap().unwrap());
        let part = Part::create(dir, &mut names).unwrap();
        assert_eq!(part.publish(b"name", Replace::Examined(examined)), Ok(()));
        assert_eq!(std::fs::read(temp.path().join("name")).unwrap(), b"");
    }

    #[test]
    fn a_directory_is_never_replaced() {
        let (temp, dir) = directory();
        std::fs::create_dir(temp.path().join("name")).unwrap();

        let part = Part::create(dir, &mut TempNames::new(1)).unwrap();

        assert_eq!(part.publish(b"name", Replace::Appeared), Err(PublishError::Directory));
        assert_eq!(count(&temp), 1);
    }

    #[test]
    fn a_damaged_file_stands_beside_its_name_and_replaces_nothing() {
        let (temp, dir) = directory();
        let mut names = TempNames::new(1);
        std::fs::write(temp.path().join("name"), "live").unwrap();
        std::fs::write(temp.path().join("name.damaged"), "somebody's").unwrap();

        let mut part = Part::create(Arc::clone(&dir), &mut names).unwrap();
        part.write_at(0, b"half").unwrap();
        let kept = part.keep_damaged(b"name", 0o755).unwrap();
        let again = Part::create(Arc::clone(&dir), &mut names).unwrap().keep_damaged(b"name", 0o600).unwrap();
        let too_long = Part::create(dir, &mut names).unwrap().keep_damaged(&[b'n'; 255], 0o600);

        assert_eq!((&kept[..], &again[..]), (&b"name.damaged.2"[..], &b"name.damaged.3"[..]));
        assert_eq!(too_long, Err(Errno::NAMETOOLONG));
        assert_eq!(std::fs::read(temp.path().join("name")).unwrap(), b"live");
        assert_eq!(std::fs::read(temp.path().join("name.damaged")).unwrap(), b"somebody's");
        assert_eq!(std::fs::read(temp.path().join("name.damaged.2")).unwrap(), b"half");
        assert_eq!(std::fs::metadata(temp.path().join("name.damaged.2")).unwrap().mode() & 0o7777, 0o644);
        assert_eq!(count(&temp), 4);
    }

    #[test]
    fn reserved_space_reads_as_zeros() {
        let (_temp, dir) = directory();
        let mut part = Part::create(dir, &mut TempNames::new(1)).unwrap();
        let mut buffer = [1; 8];

        part.reserve(2 << 20).unwrap();
        part.set_len(2 << 20).unwrap();
        part.read_back((2 << 20) - 8, &mut buffer).unwrap();

        assert_eq!(buffer, [0; 8]);
        assert_eq!(part.read_back((2 << 20) - 7, &mut buffer), Err(Errno::IO));
    }

    fn directory() -> (tempfile::TempDir, Arc<Dir>) {
        let temp = tempfile::tempdir().unwrap();
        let dirs = TargetDirs::new(write::open_root(temp.path()).unwrap()).unwrap();
        let root = Arc::clone(dirs.root());
        (temp, root)
    }

    fn count(temp: &tempfile::TempDir) -> usize {
        std::fs::read_dir(temp.path()).unwrap().count()
    }
}
