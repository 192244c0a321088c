//! Follows placement with the digest: hashes a file in its order, whatever the order of arrival.
//!
//! Bytes that are next when they arrive are hashed from memory ([`DigestCursor::offer`], the usual way). Bytes that
//! came too early are not kept: once what lies before them is hashed, [`DigestCursor::next_gap`] names them, and
//! the owner reads them back from the file (out of the page cache) into [`DigestCursor::feed`]. It holds no bytes
//! and does no reading itself.

use std::ops::Range;

use super::placement::Placement;
use crate::integrity::digest::Hasher;
use crate::wire::message::DigestKind;

/// The digest of one file, up to the cursor.
#[derive(Clone, Debug)]
pub struct DigestCursor {
    /// Has taken every byte before `next`, in order.
    hasher: Hasher,
    /// Offset of the first byte that is not hashed.
    next: u64,
}

impl DigestCursor {
    /// A cursor at the start of a file.
    pub fn new(kind: DigestKind) -> Self {
        Self { hasher: Hasher::new(kind), next: 0 }
    }

    /// Hashes `bytes` if they stand at the cursor, and says whether they did. Remembers nothing otherwise.
    pub fn offer(&mut self, offset: u64, bytes: &[u8]) -> bool {
        if offset != self.next {
            return false;
        }
        self.feed(bytes);
        true
    }

    /// As [`Self::offer`], for a hole: `len` zeros at `offset`.
    pub fn offer_zeros(&mut self, offset: u64, len: u64) -> bool {
        if offset != self.next {
            return false;
        }
        self.zeros(len);
        true
    }

    /// Hashes the bytes at the cursor.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.advance(bytes.len() as u64);
    }

    /// Hashes `len` zeros at the cursor.
    pub fn zeros(&mut self, len: u64) {
        let mut left = len;
        while left > 0 {
            let step = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.hasher.update(&ZEROS[..step]);
            left -= step as u64;
        }
        self.advance(len);
    }

    /// The bytes at the cursor that are placed but not hashed, if there are any: they are to be read and fed.
    pub fn next_gap(&self, placement: &Placement) -> Option<Range<u64>> {
        let end = placement.contiguous_from(self.next);
        (end > self.next).then_some(self.next..end)
    }

    /// The digest, if exactly the bytes of a file of `size` bytes were hashed.
    pub fn finish(self, size: u64) -> Option<[u8; 32]> {
        (self.next == size).then(|| self.hasher.finish())
    }

    /// How many bytes are hashed: the offset of the cursor.
    pub fn hashed_bytes(&self) -> u64 {
        self.next
    }

    fn advance(&mut self, len: u64) {
        self.next =
            self.next.checked_add(len).expect("placement refuses bytes whose end does not fit 64 bits");
    }
}

/// Fits a first-level cache beside the hasher's own state.
static ZEROS: [u8; 16 << 10] = [0; 16 << 10];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_of_arrival_gives_the_same_digest() {
        let file: Vec<u8> = (0_u8..=249).collect();
        let want = digest(&file);

        for order in orders(&[0, 1, 2, 3, 4]) {
            let got = arrive(&file, 50, &order);

            assert_eq!(got, Some(want), "order {order:?}");
        }
    }

    #[test]
    fn bytes_in_order_are_never_read_back() {
        let mut cursor = DigestCursor::new(DigestKind::Sha256);
        let mut placement = Placement::new(Some(20));

        for offset in [0, 10] {
            placement.place(offset, 10).unwrap();

            assert!(cursor.offer(offset, &[7; 10]));
            assert_eq!(cursor.next_gap(&placement), None);
        }

        assert_eq!(cursor.finish(20), Some(digest(&[7; 20])));
    }

    #[test]
    fn a_hole_counts_as_zeros() {
        for len in [0_usize, 1, ZEROS.len() - 1, ZEROS.len(), ZEROS.len() + 1, 3 * ZEROS.len() + 5] {
            let mut cursor = DigestCursor::new(DigestKind::Blake3);
            let mut whole = Hasher::new(DigestKind::Blake3);

            cursor.feed(b"head");
            assert!(cursor.offer_zeros(4, len as u64));
            cursor.feed(b"tail");
            whole.update(&[&b"head"[..], &vec![0; len], b"tail"].concat());

            assert_eq!(cursor.finish(len as u64 + 8), Some(whole.finish()));
        }
    }

    #[test]
    fn a_file_with_bytes_missing_has_no_digest() {
        let mut cursor = DigestCursor::new(DigestKind::Sha256);
        cursor.feed(b"abc");

        assert_eq!(cursor.clone().finish(4), None);
        assert_eq!(cursor.clone().finish(2), None);
        assert_eq!(cursor.finish(3), Some(digest(b"abc")));
    }

    #[test]
    fn an_empty_file_has_the_digest_of_nothing() {
        assert_eq!(DigestCursor::new(DigestKind::Sha256).finish(0), Some(digest(b"")));
    }

    fn arrive(file: &[u8], piece: usize, order: &[usize]) -> Option<[u8; 32]> {
        let mut cursor = DigestCursor::new(DigestKind::Sha256);
        let mut placement = Placement::new(Some(file.len() as u64));
        for &i in order {
            let bytes = &file[i * piece..(i + 1) * piece];
            placement.place((i * piece) as u64, piece as u64).unwrap();
            cursor.offer((i * piece) as u64, bytes);
            while let Some(gap) = cursor.next_gap(&placement) {
                cursor.feed(&file[usize::try_from(gap.start).unwrap()..usize::try_from(gap.end).unwrap()]);
            }
        }
        cursor.finish(file.len() as u64)
    }

    fn orders(items: &[usize]) -> Vec<Vec<usize>> {
        if items.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for (i, &first) in items.iter().enumerate() {
            let rest: Vec<usize> =
                items.iter().enumerate().filter(|&(j, _)| j != i).map(|(_, &x)| x).collect();
            for mut order in orders(&rest) {
                order.insert(0, first);
                all.push(order);
            }
        }
        all
    }

    fn digest(bytes: &[u8]) -> [u8; 32] {
        let mut hasher = Hasher::new(DigestKind::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }
}
