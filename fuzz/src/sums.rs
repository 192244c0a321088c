//! Manifests: the lines of `sha256sum` and `b3sum`.

use std::io::BufReader;

use haul::integrity::digest::DigestKind;
use haul::integrity::sums::{Sum, Sums, write_sum};
use haul::limits;

use super::bytes::Bytes;

/// A manifest says the same however it is read, and each of its lines is written as the same sum.
pub fn sums(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let kind = bytes.one_of(&[DigestKind::Sha256, DigestKind::Blake3]);
    let capacity = 1 + bytes.below(80);
    let text = bytes.rest();

    let (sums, fault) = read(Sums::new(text, kind));
    let (in_pieces, fault_in_pieces) = read(Sums::new(BufReader::with_capacity(capacity, text), kind));

    assert_eq!((&sums, &fault), (&in_pieces, &fault_in_pieces));
    for sum in sums {
        assert!(!sum.name.is_empty() && !sum.name.contains(&0));
        let mut line = Vec::new();
        write_sum(&mut line, &sum.digest, &sum.name).expect("a Vec takes every write");
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        // A name that fits a file system does; what stands in a line unescaped may take more when it is escaped.
        if line.len() <= limits::SUMS_LINE_MAX_BYTES {
            assert_eq!(read(Sums::new(&line[..], kind)), (vec![sum], None));
        }
    }
}

fn read(
    sums: impl Iterator<Item = Result<Sum, haul::integrity::sums::SumsError>>,
) -> (Vec<Sum>, Option<String>) {
    let mut read = Vec::new();
    for sum in sums {
        match sum {
            Ok(sum) => read.push(sum),
            Err(error) => return (read, Some(error.to_string())),
        }
    }
    (read, None)
}
