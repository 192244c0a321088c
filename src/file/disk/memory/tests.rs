//! A disk in memory beside the real one: the same calls get the same answers; and what only the one in memory can do.

use rustix::io::Errno;

use super::{Call, Fault, Lie, Memory};
use crate::file::disk::temp_name::TempNames;
use crate::file::disk::{FileKind, Handle, write};
use crate::wire::message::Mtime;

#[test]
fn files_are_made_written_cut_and_read_alike() {
    on_both_disks(|root| {
        let (file, name) = write::create_temp(root, &mut TempNames::new(1)).unwrap();
        write::write_all_at(&file, b"hello", 5000).unwrap();
        write::set_len(&file, 5003).unwrap();
        write::set_len(&file, 5005).unwrap();
        write::set_mode(&file, 0o4751).unwrap();
        write::set_mtime(&file, MTIME).unwrap();

        let mut buffer = [1; 8192];
        let read = write::read_at(&file, &mut buffer, 4999).unwrap();
        let stat = write::stat_of(&file).unwrap();
        assert_eq!(write::stat(root, name.as_bytes()), Ok(Some(stat)));
        assert_eq!(buffer[..read], *b"\0hel\0\0");
        assert_eq!((stat.kind, stat.size, stat.mode), (FileKind::File, 5005, 0o4751));
        assert_eq!((stat.nlink, stat.mtime), (1, MTIME));
        assert_eq!(write::stat(root, b"none"), Ok(None));
    });
}

#[test]
fn names_are_given_and_taken_alike() {
    on_both_disks(|root| {
        for name in [b"a", b"b", b"c"] {
            write::write_all_at(&write::open_or_create(root, name).unwrap(), name, 0).unwrap();
        }
        write::make_dir(root, b"d", 0o755).unwrap();

        assert_eq!(write::rename_new(root, b"a", b"b"), Err(Errno::EXIST));
        assert_eq!(write::rename_new(root, b"none", b"x"), Err(Errno::NOENT));
        assert_eq!(write::rename_over(root, b"a", b"d"), Err(Errno::ISDIR));
        write::rename_over(root, b"a", b"b").unwrap();
        write::rename_new(root, b"c", b"e").unwrap();
        assert_eq!(write::unlink(root, b"none"), Err(Errno::NOENT));
        assert_eq!(write::make_dir(root, b"b", 0o700), Err(Errno::EXIST));
        assert_eq!(write::stat(root, &[b'n'; 256]), Err(Errno::NAMETOOLONG));

        assert_eq!(listed(root), ["b", "d", "e"]);
        assert_eq!(read(root, b"b"), b"a");
    });
}

#[test]
fn an_unlinked_file_lives_as_long_as_its_handle_and_both_names_of_one_stay() {
    on_both_disks(|root| {
        let file = write::open_or_create(root, b"f").unwrap();
        write::write_all_at(&file, b"text", 0).unwrap();
        let temp = write::link_temp(root, b"f", root, &mut TempNames::new(1)).unwrap();

        write::rename_over(root, temp.as_bytes(), b"f").unwrap();
        assert_eq!(listed(root).len(), 2, "renaming a name of a file over another of it does nothing");
        assert_eq!(write::stat_of(&file).unwrap().nlink, 2);
        write::unlink(root, b"f").unwrap();
        write::unlink(root, temp.as_bytes()).unwrap();

        let mut buffer = [0; 8];
        assert_eq!(write::read_at(&file, &mut buffer, 0), Ok(4));
        assert_eq!(write::stat_of(&file).unwrap().nlink, 0);
        assert!(listed(root).is_empty());
    });
}

#[test]
fn links_are_read_and_never_followed_alike() {
    on_both_disks(|root| {
        let link = write::symlink_temp(root, b"to/there", &mut TempNames::new(1)).unwrap();
        let link = link.as_bytes();
        write::set_mtime_of(root, link, MTIME).unwrap();
        write::make_dir(root, b"d", 0o750).unwrap();
        write::set_mode_of_dir(root, b"d", 0o500).unwrap();

        let stat = write::stat(root, link).unwrap().unwrap();
        assert_eq!((stat.kind, stat.mtime, stat.size), (FileKind::Symlink, MTIME, 8));
        assert_eq!(write::read_link(root, link).unwrap(), b"to/there");
        assert_eq!(write::read_link(root, b"d"), Err(Errno::INVAL));
        assert_eq!(write::open_file(root, link).unwrap_err(), Errno::LOOP);
        assert_eq!(write::open_or_create(root, link).unwrap_err(), Errno::LOOP);
        assert_eq!(write::open_dir(root, link).unwrap_err(), Errno::NOTDIR);
        assert_eq!(write::open_or_create(root, b"d").unwrap_err(), Errno::ISDIR);
        assert_eq!(write::open_dir(root, b"none").unwrap_err(), Errno::NOENT);
        assert_eq!(write::stat(root, b"d").unwrap().unwrap().mode, 0o500);
        write::set_mode_of_dir(root, b"d", 0o700).unwrap();
    });
}

#[test]
fn locks_keep_others_out_alike() {
    on_both_disks(|root| {
        let first = write::open_or_create(root, b"f").unwrap();
        let second = write::open_or_create(root, b"f").unwrap();

        assert_eq!(write::try_lock(&first), Ok(true));
        assert_eq!(write::try_lock(&first), Ok(true));
        assert_eq!(write::try_lock(&second), Ok(false));
        drop(first);
        assert_eq!(write::try_lock(&second), Ok(true));
    });
}

#[test]
fn space_is_used_up_and_given_back() {
    let memory = Memory::new(3 * 4096);
    let root = memory.root();
    let file = write::open_or_create(&root, b"f").unwrap();

    write::reserve(&file, 4096).unwrap();
    assert_eq!(write::free_bytes(&root), Some(2 * 4096));
    assert_eq!(write::reserve(&file, 5 * 4096), Err(Errno::NOSPC));
    assert_eq!(write::write_all_at(&file, &[7; 4 * 4096], 0), Err(Errno::NOSPC));
    assert_eq!(write::stat_of(&file).unwrap().size, 3 * 4096, "what fits was written");
    write::unlink(&root, b"f").unwrap();
    assert_eq!(write::free_bytes(&root), Some(0));
    drop(file);

    assert_eq!(write::free_bytes(&root), Some(3 * 4096));
}

#[test]
fn a_power_loss_takes_what_is_not_synced_and_a_kill_takes_nothing() {
    let memory = Memory::new(1 << 20);
    let root = memory.root();
    let file = write::open_or_create(&root, b"f").unwrap();
    write::write_all_at(&file, b"text", 0).unwrap();
    assert_eq!(write::try_lock(&file), Ok(true));

    let killed = memory.kill();
    assert_eq!(read(&killed.root(), b"f"), b"text");
    assert_eq!(write::try_lock(&write::open_or_create(&killed.root(), b"f").unwrap()), Ok(true));
    assert_eq!(write::sync(&file), Err(Errno::IO), "its handles are dead");
    assert_eq!(listed(&killed.crash(0).root()), Vec::<String>::new());

    let names_alone = killed.crash(1).root();
    assert_eq!(read(&names_alone, b"f"), b"");
}

#[test]
fn a_synced_file_with_a_synced_name_survives_every_power_loss() {
    for seed in 0..50 {
        let memory = Memory::new(1 << 20);
        let root = memory.root();
        let file = write::open_or_create(&root, b"f").unwrap();
        write::write_all_at(&file, &[7; 10_000], 0).unwrap();
        write::sync_data(&file).unwrap();
        write::sync(&root).unwrap();
        write::write_all_at(&file, &[8; 10_000], 0).unwrap();
        write::open_or_create(&root, b"g").unwrap();

        let left = memory.crash(seed).root();

        let bytes = read(&left, b"f");
        assert_eq!(bytes.len(), 10_000, "{seed}");
        assert!(bytes.chunks(512).all(|sector| [[7; 512], [8; 512]].iter().any(|of| of.starts_with(sector))));
    }
}

#[test]
fn the_sync_of_the_file_system_covers_everything() {
    for lie in [None, Some(Lie::FileSystem)] {
        let memory = Memory::new(1 << 20);
        let root = memory.root();
        if let Some(lie) = lie {
            memory.deceive(lie);
        }
        write::make_dir(&root, b"d", 0o755).unwrap();
        let dir = write::open_dir(&root, b"d").unwrap();
        write::write_all_at(&write::open_or_create(&dir, b"f").unwrap(), b"text", 0).unwrap();

        match write::sync_file_system(&root) {
            Err(Errno::OPNOTSUPP) => return,
            result => result.unwrap(),
        }

        let left = memory.crash(0).root();
        assert_eq!(listed(&left).len(), usize::from(lie.is_none()));
        if lie.is_none() {
            assert_eq!(read(&write::open_dir(&left, b"d").unwrap(), b"f"), b"text");
        }
    }
}

#[test]
fn a_call_fails_when_it_is_told_to_and_short_ones_are_completed() {
    let memory = Memory::new(1 << 20);
    let root = memory.root();
    memory.fail_at(1, Fault::Error(Errno::IO));
    memory.fail_all(Call::Create, Fault::Error(Errno::MFILE));
    memory.fail_all(Call::Write, Fault::Short);
    memory.fail_all(Call::Read, Fault::Short);

    assert_eq!(write::open_or_create(&root, b"f").unwrap_err(), Errno::MFILE);
    assert_eq!(write::make_dir(&root, b"d", 0o700), Err(Errno::IO));
    memory.heal();
    let file = write::open_or_create(&root, b"f").unwrap();
    memory.fail_all(Call::Write, Fault::Short);
    write::write_all_at(&file, &[7; 100], 0).unwrap();

    assert_eq!(memory.calls()[..3], [Call::Create, Call::MakeDir, Call::Create]);
    assert_eq!(memory.calls().len(), 3 + 7);
    assert_eq!(read(&root, b"f"), [7; 100]);
}

#[test]
fn after_the_power_loss_nothing_works_and_nothing_changes() {
    let memory = Memory::new(1 << 20);
    let root = memory.root();
    let file = write::open_or_create(&root, b"f").unwrap();
    memory.fail_at(1, Fault::PowerLoss);

    assert_eq!(write::write_all_at(&file, b"text", 0), Err(Errno::IO));
    assert_eq!(write::unlink(&root, b"f"), Err(Errno::IO));

    assert_eq!(memory.calls().len(), 2, "the dead do not call");
    assert_eq!(listed(&memory.kill().root()), ["f"]);
}

/// Does the same on a disk in memory and on the one of this machine.
fn on_both_disks(scenario: impl Fn(&Handle)) {
    scenario(&Memory::new(1 << 20).root());

    let temp = tempfile::tempdir().unwrap();
    scenario(&write::open_root(temp.path()).unwrap());
}

fn listed(dir: &Handle) -> Vec<String> {
    let mut names = Vec::new();
    write::any_name(dir, |name, _| {
        names.push(String::from_utf8(name.to_vec()).unwrap());
        false
    })
    .unwrap();
    names.sort();
    names
}

fn read(dir: &Handle, name: &[u8]) -> Vec<u8> {
    let file = write::open_file(dir, name).unwrap();
    let mut bytes = vec![0; usize::try_from(write::stat_of(&file).unwrap().size).unwrap()];
    assert_eq!(write::read_at(&file, &mut bytes, 0), Ok(bytes.len()));
    bytes
}

const MTIME: Mtime = Mtime { secs: 1_000_000_000, nanos: 123_456_789 };
