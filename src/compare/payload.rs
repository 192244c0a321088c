//! The file that is sent, and how much of it arrived.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What is sent in every run.
#[derive(Clone, Debug)]
pub struct Payload {
    /// Where it stands.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
}

/// How much of a file arrived, by comparing what stands at the other end with the source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// Whether a file was found there.
    pub is_there: bool,
    /// Bytes of the source that are not there.
    pub missing_bytes: u64,
    /// Bytes that are there and differ.
    pub wrong_bytes: u64,
    /// Bytes behind the source's end.
    pub extra_bytes: u64,
    /// SHA-256 of what is there, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Whether it is that of the source.
    pub is_intact: bool,
}

/// Compared at a time.
const BLOCK_BYTES: usize = 256 << 10;

impl Payload {
    /// Makes a file that does not compress; equal seeds give equal files.
    pub fn make(path: PathBuf, bytes: u64, seed: u64) -> io::Result<Self> {
        let mut noise = blake3::Hasher::new_derive_key("haul compare: content of a test file")
            .update(&seed.to_le_bytes())
            .finalize_xof();
        let mut file = BufWriter::with_capacity(BLOCK_BYTES, File::create(&path)?);
        let mut block = vec![0; BLOCK_BYTES];
        let mut left = bytes;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK_BYTES);
            noise.fill(&mut block[..part]);
            file.write_all(&block[..part])?;
            left -= part as u64;
        }
        file.into_inner()?;
        Ok(Self { path, bytes })
    }

    /// A file that is there already.
    pub fn of(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let metadata = path.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other(
                "it is not a file; to compare with a tree, make one file of it with tar",
            ));
        }
        if metadata.len() == 0 {
            return Err(io::Error::other("it is empty"));
        }
        File::open(&path)?;
        Ok(Self { path, bytes: metadata.len() })
    }

    /// What is at `other` of it.
    pub fn compare(&self, other: &Path) -> io::Result<Arrived> {
        let mut theirs = match File::open(other) {
            Ok(file) => BufReader::with_capacity(BLOCK_BYTES, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Arrived { missing_bytes: self.bytes, ..Arrived::default() });
            }
            Err(error) => return Err(error),
        };
        let mut ours = BufReader::with_capacity(BLOCK_BYTES, File::open(&self.path)?);
        let (mut our_sum, mut their_sum) = (Sha256::new(), Sha256::new());
        let (mut our_block, mut their_block) = (vec![0; BLOCK_BYTES], vec![0; BLOCK_BYTES]);
        let mut arrived = Arrived { is_there: true, ..Arrived::default() };
        loop {
            let our_part = fill(&mut ours, &mut our_block)?;
            let their_part = fill(&mut theirs, &mut their_block)?;
            our_sum.update(our_part);
            their_sum.update(their_part);
            arrived.wrong_bytes += our_part.iter().zip(their_part).filter(|(a, b)| a != b).count() as u64;
            arrived.missing_bytes += our_part.len().saturating_sub(their_part.len()) as u64;
            arrived.extra_bytes += their_part.len().saturating_sub(our_part.len()) as u64;
            if our_part.is_empty() && their_part.is_empty() {
                break;
            }
        }
        let their_sum = their_sum.finalize();
        arrived.is_intact = our_sum.finalize() == their_sum;
        arrived.sha256 = Some(HEXLOWER.encode(&their_sum));
        Ok(arrived)
    }
}

/// As much as there is, up to the block's length.
fn fill<'a>(from: &mut impl Read, block: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut len = 0;
    while len < block.len() {
        match from.read(&mut block[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(&block[..len])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn equal_seeds_make_equal_files_and_others_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, seed| Payload::make(dir.path().join(name), 600_001, seed).unwrap();
        let (a, b, c) = (make("a", 1), make("b", 1), make("c", 2));

        assert!(a.compare(&b.path).unwrap().is_intact);
        assert!(!a.compare(&c.path).unwrap().is_intact);
        assert_eq!(fs::metadata(&a.path).unwrap().len(), 600_001);
    }

    #[test]
    fn every_byte_that_is_missing_wrong_or_too_much_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let source = Payload::make(dir.path().join("a"), 600_000, 1).unwrap();
        let other = dir.path().join("b");
        let write = |change: fn(&mut Vec<u8>)| {
            let mut bytes = fs::read(&source.path).unwrap();
            change(&mut bytes);
            fs::write(&other, bytes).unwrap();
            let it = source.compare(&other).unwrap();
            (it.missing_bytes, it.wrong_bytes, it.extra_bytes, it.is_intact)
        };

        assert_eq!(write(|_| ()), (0, 0, 0, true));
        assert_eq!(write(|bytes| bytes.truncate(599_000)), (1000, 0, 0, false));
        assert_eq!(write(|bytes| bytes[300_000] ^= 1), (0, 1, 0, false));
        assert_eq!(write(|bytes| bytes.extend([0; 7])), (0, 0, 7, false));
        assert_eq!(source.compare(&dir.path().join("none")).unwrap().missing_bytes, 600_000);
    }

    #[test]
    fn a_directory_and_an_empty_file_are_no_payload() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        fs::write(&empty, "").unwrap();

        assert!(Payload::of(dir.path()).unwrap_err().to_string().contains("tar"));
        assert_eq!(Payload::of(&empty).unwrap_err().to_string(), "it is empty");
    }
}
