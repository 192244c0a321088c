//! Makes what is sent: the same for the same seed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::plan::{Dice, Payload, Plan};
use crate::common::tree::{self, noise};

/// The name of what is sent, in the directory that it is in.
pub const NAME: &str = "what";

/// Makes it in `dir`, and the empty directories of it in `target`, if the plan says so.
pub fn make(plan: &Plan, dir: &Path, target: &Path) {
    let what = dir.join(NAME);
    match plan.payload {
        Payload::File(size) => {
            fs::write(what, noise(plan.seed, usize::try_from(size).expect("it fits the memory"))).unwrap();
        }
        Payload::Tree => {
            let below = directories();
            for one in &below {
                fs::create_dir_all(what.join(one)).unwrap();
                if plan.has_directories {
                    fs::create_dir_all(target.join(NAME).join(one)).unwrap();
                }
            }
            fill(plan.seed, &what, &below);
        }
    }
    tree::age(dir);
}

fn directories() -> Vec<String> {
    (0..DIRECTORIES).map(|number| format!("d{}/e{number}", number % 4)).collect()
}

fn fill(seed: u64, what: &Path, directories: &[String]) {
    let mut dice = Dice(seed ^ 1);
    for number in 0..FILES {
        let dir = what.join(&directories[dice.index(directories.len())]);
        let len = match dice.below(10) {
            0 => 0,
            1..9 => dice.index(20_000),
            _ => dice.index(200_000),
        };
        let path = dir.join(format!("small{number}"));
        fs::write(&path, noise(seed + number, len)).unwrap();
        match dice.below(20) {
            0 => fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap(),
            1 => fs::hard_link(&path, what.join(format!("other{number}"))).unwrap(),
            2 => symlink("../e1/nowhere", dir.join(format!("link{number}"))).unwrap(),
            _ => {}
        }
    }
    for number in 0..MEDIUM {
        let len = 1_000_000 + dice.index(6_000_000);
        fs::write(what.join(format!("medium{number}")), noise(seed ^ (number + 7), len)).unwrap();
    }
}

const DIRECTORIES: usize = 16;
const FILES: u64 = 200;
const MEDIUM: u64 = 4;
