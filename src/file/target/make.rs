//! Makes what has no content of its own: directories, symbolic links, and further names of files.

use std::sync::Arc;

use rustix::io::Errno;

use super::ProtocolViolation;
use super::config::LinkRule;
use super::directories::Filling;
use super::examine::{Plan, Site, dir_failure, examine};
use super::ledger::{Ledger, failed};
use super::links::{Linked, is_escaping};
use super::tree::{Incoming, Seen, Stage, Tree};
use crate::file::disk::target_dirs::Dir;
use crate::file::disk::temp_name::TempNames;
use crate::file::disk::{FileKind, write};
use crate::file::failure::Failure;
use crate::file::part::{Existing, Part, Replace};
use crate::file::path::RelPath;
use crate::wire::message::{Code, Mtime, Outcome, Overwrite};

impl Tree {
    /// A directory was announced.
    pub(super) fn on_directory(&mut self, ledger: &mut Ledger, seen: &Seen, broken: Option<Failure>) {
        match broken.map_or_else(|| self.make_directory(seen), Err) {
            Ok(filling) => self.directories.enter(seen.number, filling),
            Err(failure) => {
                self.directories.enter_broken(seen.path.clone(), failure.code);
                self.settle(ledger, seen.settled(failed(failure)));
            }
        }
    }

    /// Makes a symbolic link, unless the rule or what is there forbids it.
    pub(super) fn make_symlink(&mut self, seen: &Seen, target: &[u8]) -> Result<Outcome, Failure> {
        let path = &seen.path;
        // protocol.md [LINK-1]
        if self.rules.links == LinkRule::RefuseEscaping && is_escaping(path, target) {
            let text = "a symbolic link that may lead out of this server's directory is refused";
            return Err(Failure::new(Code::NotAllowed, path.as_bytes(), text));
        }
        let (mut existing, mut is_same_target) = (None, false);
        if let Site { dir: Some(dir), found: Some(found) } = examine(&mut self.dirs, path)? {
            if found.kind != FileKind::Symlink {
                let text = "something that is not a symbolic link is in the way";
                return Err(Failure::new(Code::Conflict, path.as_bytes(), text));
            }
            let points = write::read_link(dir.handle(), path.split_last().1)
                .map_err(|errno| Failure::of(errno, "read the link", path.as_bytes()))?;
            if points == target && found.existing.mtime == seen.mtime {
                return Ok(Outcome::Unchanged);
            }
            existing = Some(found.existing);
            is_same_target = points == target;
        }
        let plan = match self.wish(None, seen.mtime).plan_link(existing) {
            // Only its time differs, and that stays.
            Plan::Leave(_) if is_same_target => return Ok(Outcome::Unchanged),
            plan => plan,
        };
        self.make_link(path, plan, |dir, names| {
            let part = Part::symlink(dir, target, names)?;
            part.set_link_mtime(seen.mtime)?;
            Ok(part)
        })
    }

    /// Another name of an earlier file was announced: made now, or when that file has its outcome.
    pub(super) fn on_hardlink(
        &mut self,
        ledger: &mut Ledger,
        seen: Seen,
        file: u64,
        broken: Option<Failure>,
    ) -> Result<(), ProtocolViolation> {
        let linked = self.linked.look(file, seen.number)?;
        let result = match (broken, linked) {
            (Some(failure), _) => Err(failure),
            (None, Linked::Pending(_)) => {
                let incoming = Incoming {
                    path: seen.path,
                    mode: seen.mode,
                    mtime: seen.mtime,
                    size: None,
                    sparse: false,
                    linked: false,
                    expected: None,
                    parent: seen.parent,
                    replace: Replace::Nothing,
                    owed_bytes: 0,
                    stage: Stage::Waiting,
                    _claim: None,
                };
                self.open.insert(seen.number, Box::new(incoming));
                return Ok(());
            }
            (None, linked) => self.make_hardlink(&linked, &seen.path, seen.mtime),
        };
        self.settle(ledger, seen.settled(result.unwrap_or_else(failed)));
        Ok(())
    }

    /// Makes `path` another name of the file that `linked` tells of.
    pub(super) fn make_hardlink(
        &mut self,
        linked: &Linked,
        path: &RelPath,
        mtime: Mtime,
    ) -> Result<Outcome, Failure> {
        let live = match linked {
            Linked::Live(live) => live,
            Linked::Planned => return Ok(Outcome::Planned),
            Linked::Pending(_) | Linked::Missing => {
                let text = "the file that it is another name of was not received";
                return Err(Failure::new(Code::Conflict, path.as_bytes(), text));
            }
        };
        let source = examine(&mut self.dirs, live)?.dir;
        let cannot = |errno| Failure::of(errno, "link it", path.as_bytes());
        let source = source.ok_or_else(|| cannot(Errno::NOENT))?;
        let name = live.split_last().1;
        let stat = write::stat(source.handle(), name).map_err(cannot)?.ok_or_else(|| cannot(Errno::NOENT))?;
        let found = examine(&mut self.dirs, path)?.found;
        let there = found.map(|found| found.expect_file(path)).transpose()?;
        if there.is_some_and(|there| there.identity == Existing::of(&stat).identity) {
            return Ok(Outcome::Unchanged);
        }
        let wish = self.wish(None, mtime);
        self.make_link(path, wish.plan_link(there), |dir, names| Part::hardlink(dir, &source, name, names))
    }

    /// Makes the directory, or makes the one that is there writable for as long as it is filled. That one gets mode and
    /// time of the source only if the policy lets it be changed. protocol.md [OPEN-4]
    fn make_directory(&mut self, seen: &Seen) -> Result<Filling, Failure> {
        let path = &seen.path;
        let filling = |outcome| Filling {
            path: path.clone(),
            mode: seen.mode,
            mtime: Some(seen.mtime),
            parent: seen.parent,
            outcome,
        };
        let cannot = |errno| Failure::of(errno, "make the directory", path.as_bytes());
        let (parent, name) = path.split_last();
        if !self.rules.dry_run {
            let dir = self.dirs.open(parent, true).map_err(|error| dir_failure(&error))?;
            match write::make_dir(dir.handle(), name, 0o700 | seen.mode & 0o777) {
                Ok(()) => return Ok(filling(Outcome::Done)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(cannot(errno)),
            }
        }
        let site = examine(&mut self.dirs, path)?;
        let Some(found) = site.found else {
            return if self.rules.dry_run {
                Ok(filling(Outcome::Planned))
            } else {
                Err(cannot(Errno::NOENT))
            };
        };
        if found.kind != FileKind::Directory {
            let text = "something that is not a directory is in the way";
            return Err(Failure::new(Code::Conflict, path.as_bytes(), text));
        }
        if let Some(dir) = site.dir
            && !self.rules.dry_run
            && found.mode & 0o700 != 0o700
        {
            // Where this is not allowed, what is put into it will say so.
            let _ = write::set_mode_of_dir(dir.handle(), name, found.mode | 0o700);
        }
        let may_change = self.directories.is_ours(path)
            || match self.rules.overwrite {
                Overwrite::Never => false,
                Overwrite::Newer => seen.mtime > found.existing.mtime,
                Overwrite::Different | Overwrite::Always => true,
            };
        if !may_change {
            return Ok(Filling { mode: found.mode, mtime: None, ..filling(Outcome::Unchanged) });
        }
        Ok(filling(match found.mode == seen.mode {
            true => Outcome::Unchanged,
            false if self.rules.dry_run => Outcome::Planned,
            false => Outcome::Done,
        }))
    }

    /// Carries out the plan for a link: `make` puts it beside its name.
    fn make_link(
        &mut self,
        path: &RelPath,
        plan: Plan,
        make: impl FnOnce(Arc<Dir>, &mut TempNames) -> rustix::io::Result<Part>,
    ) -> Result<Outcome, Failure> {
        let replace = match plan {
            Plan::Take(replace) => replace,
            Plan::Leave(outcome) => return Ok(outcome),
            Plan::Compare(_) => unreachable!("links have no digest"),
        };
        if self.rules.dry_run {
            return Ok(Outcome::Planned);
        }
        let _claim = self.claim(path)?;
        let (parent, name) = path.split_last();
        let dir = self.dirs.open(parent, true).map_err(|error| dir_failure(&error))?;
        let part = make(dir, &mut self.names)
            .map_err(|errno| Failure::of(errno, "make the link", path.as_bytes()))?;
        part.publish(name, replace).map_err(|error| {
            let (code, reason) = error.describe();
            Failure::new(code, path.as_bytes(), &reason)
        })?;
        Ok(Outcome::Done)
    }
}
