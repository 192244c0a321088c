//! The bytes of one file, as programs see them and as a power loss may leave them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::io::{Errno, Result};

use super::power::Fate;
use crate::file::disk::chance::Chance;

/// What is allocated and written at once, bytes.
pub(super) const PAGE_BYTES: usize = 4096;

/// A page, or `None` for a hole.
type Page = Option<Arc<[u8; PAGE_BYTES]>>;

/// The bytes of a file: what they are, what is safe, and what they were in between.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    now: Image,
    /// What the last sync made safe.
    safe: Image,
    /// Each page that changed since, with all that it was since, the oldest first.
    unsafe_pages: BTreeMap<u64, Vec<Page>>,
    /// All lengths since, the oldest first.
    unsafe_sizes: Vec<u64>,
    /// A write to the disk failed.
    failed: Option<Failed>,
}

/// The bytes of a file at one moment. Nothing lies beyond `size`.
#[derive(Clone, Debug, Default)]
struct Image {
    size: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES]>>,
}

/// What was to be written and failed is never written again: the system forgets that it has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failed {
    /// The next sync of the file says so.
    Untold,
    /// Syncs succeed again, and mean nothing.
    Told,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.now.size
    }

    /// Pages that it takes.
    pub(super) fn pages(&self) -> u64 {
        self.now.pages.len() as u64
    }

    /// Reads what there is at `offset`, up to the length of `buffer`; how many bytes.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let left = usize::try_from(self.now.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        for Span { page, within, from, len } in spans(offset, len) {
            let target = &mut buffer[from..from + len];
            match self.now.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + len]),
                None => target.fill(0),
            }
        }
        len
    }

    /// Writes `bytes` at `offset` until `free_pages` are used up; how many bytes.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, mut free_pages: u64) -> usize {
        let mut written = 0;
        for Span { page, within, from, len } in spans(offset, bytes.len()) {
            let mut changed = match self.now.pages.get(&page) {
                Some(old) => **old,
                None if free_pages == 0 => break,
                None => {
                    free_pages -= 1;
                    [0; PAGE_BYTES]
                }
            };
            changed[within..within + len].copy_from_slice(&bytes[from..from + len]);
            self.set_page(page, Some(Arc::new(changed)));
            written += len;
        }
        if written > 0 {
            self.set_size(self.now.size.max(offset + written as u64));
        }
        written
    }

    /// Cuts the file, or lets it end with a hole.
    pub(super) fn set_len(&mut self, len: u64) {
        for (page, bytes) in self.now.beyond(len) {
            self.set_page(page, bytes);
        }
        self.set_size(len);
    }

    /// Allocates all pages up to `len` and makes the file that long; `false` where more than `free_pages` are needed,
    /// and nothing has changed.
    pub(super) fn reserve(&mut self, len: u64, free_pages: u64) -> bool {
        let all = len.div_ceil(PAGE_BYTES as u64);
        let there = self.now.pages.range(..all).count() as u64;
        if all - there > free_pages {
            return false;
        }
        let holes: Vec<u64> = (0..all).filter(|page| !self.now.pages.contains_key(page)).collect();
        for page in holes {
            self.set_page(page, Some(Arc::new([0; PAGE_BYTES])));
        }
        self.set_size(self.now.size.max(len));
        true
    }

    /// Makes everything safe. `EIO` where a write to the disk had failed, of which nobody was told.
    pub(super) fn sync(&mut self) -> Result<()> {
        match self.failed {
            None => self.settle(),
            Some(Failed::Told) => {}
            Some(Failed::Untold) => {
                self.failed = Some(Failed::Told);
                return Err(Errno::IO);
            }
        }
        Ok(())
    }

    /// Whether bytes that a failed sync has lost are still to be told.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// A sync failed: what it was to write never comes to the disk. `told` says whether the sync was one of this file.
    pub(super) fn fail_sync(&mut self, told: bool) {
        if told || !self.unsafe_pages.is_empty() || !self.unsafe_sizes.is_empty() {
            self.failed = Some(if told { Failed::Told } else { Failed::Untold });
        }
    }

    /// What a power loss leaves.
    pub(super) fn after_power_loss(&self, fate: Fate, chance: &mut Chance) -> Self {
        let mut left = self.safe.clone();
        for (&page, since) in &self.unsafe_pages {
            let old = left.pages.get(&page).cloned();
            match one_of(&old, since, fate, chance) {
                Some(bytes) => left.pages.insert(page, bytes),
                None => left.pages.remove(&page),
            };
        }
        let sizes: Vec<u64> = std::iter::once(left.size).chain(self.unsafe_sizes.iter().copied()).collect();
        left.size = match fate {
            Fate::Lost => left.size,
            Fate::Kept => self.now.size,
            Fate::Any => sizes[chance.below(sizes.len())],
        };
        for (page, bytes) in left.beyond(left.size) {
            match bytes {
                Some(bytes) => left.pages.insert(page, bytes),
                None => left.pages.remove(&page),
            };
        }
        Self { now: left.clone(), safe: left, ..Self::default() }
    }

    fn settle(&mut self) {
        self.safe = self.now.clone();
        self.unsafe_pages.clear();
        self.unsafe_sizes.clear();
    }

    fn set_page(&mut self, page: u64, bytes: Page) {
        self.unsafe_pages.entry(page).or_default().push(bytes.clone());
        match bytes {
            Some(bytes) => self.now.pages.insert(page, bytes),
            None => self.now.pages.remove(&page),
        };
    }

    fn set_size(&mut self, size: u64) {
        if size != self.now.size {
            self.now.size = size;
            self.unsafe_sizes.push(size);
        }
    }
}

impl Image {
    /// The pages that change when the file is cut at `size`, with what they become.
    fn beyond(&self, size: u64) -> Vec<(u64, Page)> {
        let edge = size / PAGE_BYTES as u64;
        let within = usize::try_from(size % PAGE_BYTES as u64).expect("less than a page");
        let cut = |(&page, bytes): (&u64, &Arc<[u8; PAGE_BYTES]>)| {
            let mut left = **bytes;
            left[within..].fill(0);
            (page, (page == edge && within > 0).then(|| Arc::new(left)))
        };
        self.pages.range(edge..).map(cut).collect()
    }
}

/// What a page is after a power loss that was `old` when it was last safe, and all of `since` later. Sectors are
/// written whole, pages are not: the beginning may be of one moment and the end of the moment before.
fn one_of(old: &Page, since: &[Page], fate: Fate, chance: &mut Chance) -> Page {
    let at = |number: usize| if number == 0 { old } else { &since[number - 1] };
    let last = since.len();
    let number = match fate {
        Fate::Lost => 0,
        Fate::Kept => last,
        Fate::Any => chance.below(last + 1),
    };
    if fate != Fate::Any || number == last || chance.below(4) > 0 {
        return at(number).clone();
    }
    let torn = chance.below(PAGE_BYTES / SECTOR_BYTES) * SECTOR_BYTES;
    let bytes = |page: &Page| page.as_deref().copied().unwrap_or([0; PAGE_BYTES]);
    let mut mixed = bytes(at(number));
    mixed[..torn].copy_from_slice(&bytes(at(number + 1))[..torn]);
    Some(Arc::new(mixed))
}

/// A piece of a range that lies in one page.
struct Span {
    page: u64,
    /// Where it begins in the page.
    within: usize,
    /// Where it begins in the range.
    from: usize,
    len: usize,
}

fn spans(offset: u64, len: usize) -> impl Iterator<Item = Span> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = offset + from as u64;
        let within = usize::try_from(at % PAGE_BYTES as u64).expect("less than a page");
        let span =
            Span { page: at / PAGE_BYTES as u64, within, from, len: (len - from).min(PAGE_BYTES - within) };
        from += span.len;
        (span.len > 0).then_some(span)
    })
}

/// What a disk writes whole, bytes.
const SECTOR_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_across_pages_and_holes() {
        let mut content = Content::default();

        assert_eq!(content.write(&[7; 10], PAGE_BYTES as u64 * 2 - 5, 9), 10);

        let mut buffer = [1; PAGE_BYTES * 3];
        assert_eq!(content.read(&mut buffer, 0), PAGE_BYTES * 2 + 5);
        assert_eq!(content.pages(), 2);
        assert!(buffer[..PAGE_BYTES * 2 - 5].iter().all(|&byte| byte == 0));
        assert!(buffer[PAGE_BYTES * 2 - 5..PAGE_BYTES * 2 + 5].iter().all(|&byte| byte == 7));
        assert_eq!(content.read(&mut buffer, 1 << 40), 0);
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros_when_the_file_grows_again() {
        let mut content = Content::default();
        content.write(&[7; 5000], 0, 9);

        content.set_len(3);
        content.set_len(10);

        let mut buffer = [1; 20];
        assert_eq!(content.read(&mut buffer, 0), 10);
        assert_eq!(buffer[..10], [7, 7, 7, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(content.pages(), 1);
    }

    #[test]
    fn a_write_ends_where_the_space_ends() {
        let mut content = Content::default();

        assert_eq!(content.write(&[7; 9000], 0, 2), 2 * PAGE_BYTES);
        assert_eq!(content.write(&[7; 1], 9000, 0), 0);
        assert_eq!(content.size(), 2 * PAGE_BYTES as u64);
        assert!(!content.reserve(3 * PAGE_BYTES as u64, 0));
        assert!(content.reserve(3 * PAGE_BYTES as u64, 1));
        assert_eq!(content.size(), 3 * PAGE_BYTES as u64);
    }

    #[test]
    fn what_is_synced_survives_and_what_is_not_may() {
        let mut content = Content::default();
        content.write(b"old", 0, 9);
        content.sync().unwrap();
        content.write(b"new and longer", 0, 9);

        assert_eq!(left(&content, Fate::Lost, 0), b"old");
        assert_eq!(left(&content, Fate::Kept, 0), b"new and longer");
        let seen: std::collections::BTreeSet<Vec<u8>> =
            (0..100).map(|seed| left(&content, Fate::Any, seed)).collect();
        assert!(seen.contains(&b"new"[..]) && seen.contains(&b"old\0\0\0\0\0\0\0\0\0\0\0"[..]), "{seen:?}");
    }

    #[test]
    fn after_a_failed_sync_the_next_one_means_nothing() {
        let mut content = Content::default();
        content.write(b"text", 0, 9);

        content.fail_sync(true);
        assert_eq!(content.sync(), Ok(()));
        assert_eq!(left(&content, Fate::Lost, 0), b"");

        content.fail_sync(false);
        assert_eq!(content.sync(), Err(Errno::IO));
        assert_eq!(content.sync(), Ok(()));
    }

    fn left(content: &Content, fate: Fate, seed: u64) -> Vec<u8> {
        let content = content.after_power_loss(fate, &mut Chance::new(seed));
        let mut buffer = vec![0; usize::try_from(content.size()).unwrap()];
        content.read(&mut buffer, 0);
        buffer
    }
}
