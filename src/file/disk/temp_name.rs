//! Draws the names under which unfinished files stand.

use super::chance::Chance;
use crate::file::path::TEMP_PREFIX;
use crate::integrity::digest::{DigestKind, Hasher};
use crate::limits;

/// One temporary name: [`TEMP_PREFIX`] and twelve random characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TempName([u8; TEMP_NAME_BYTES]);

impl TempName {
    /// The same name for the same owner, purpose and name: what stands there is found again.
    pub fn found_again(owner: &[u8; 32], purpose: &[u8], name: &[u8]) -> Self {
        let mut hasher = Hasher::new(DigestKind::Sha256);
        hasher.update(owner);
        hasher.update(&[u8::try_from(purpose.len()).expect("a word")]);
        hasher.update(purpose);
        hasher.update(name);
        let digest = hasher.finish();
        let (first, _) = digest.split_first_chunk().expect("a digest is longer");
        Self::of(u64::from_le_bytes(*first))
    }

    /// Where the part stands whose journal stands under `journal`: who finds only the names can tell which belong
    /// together.
    pub fn of_part(journal: &[u8]) -> Self {
        Self::found_again(&[0; 32], b"part", journal)
    }

    /// A name of 60 bits.
    fn of(mut bits: u64) -> Self {
        let mut name = [0; TEMP_NAME_BYTES];
        name[..TEMP_PREFIX.len()].copy_from_slice(TEMP_PREFIX);
        for character in &mut name[TEMP_PREFIX.len()..] {
            *character = BASE32[usize::from(bits.to_le_bytes()[0] & 31)];
            bits >>= 5;
        }
        Self(name)
    }

    /// The name as one component.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Draws temporary names: random to others, the same for the same seed.
#[derive(Clone, Debug)]
pub struct TempNames {
    chance: Chance,
}

impl TempNames {
    /// Names from `seed`, which is to be random, so that nobody can guess the names and two sessions rarely meet.
    pub fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed) }
    }

    /// The next name.
    pub fn draw(&mut self) -> TempName {
        TempName::of(self.chance.next())
    }
}

const TEMP_NAME_BYTES: usize = TEMP_PREFIX.len() + 12;
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const _: () = assert!(TEMP_NAME_BYTES <= limits::NAME_MAX_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_is_ours_and_differs_from_the_next() {
        let mut names = TempNames::new(7);
        let drawn: std::collections::BTreeSet<Vec<u8>> =
            (0..1000).map(|_| names.draw().as_bytes().to_vec()).collect();

        assert_eq!(drawn.len(), 1000);
        assert!(drawn.iter().all(|name| name.len() == 18 && name.starts_with(TEMP_PREFIX)));
    }
}
