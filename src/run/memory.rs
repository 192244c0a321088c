//! Large blocks of memory start on a cache line.
//!
//! Copies are what a transfer does most, and `memcpy` of some C libraries (glibc up to 2.38 on AMD's Zen) takes three
//! times as long when the target is not aligned: TLS alone then receives 1.5 GB/s where it can do 5. The blocks in
//! question are made inside of rustls, so the allocator is the place to align them.

#![expect(unsafe_code, reason = "an allocator cannot be written without; this only passes calls on")]

use std::alloc::{GlobalAlloc, Layout, System};

/// From this size on, a block is aligned, bytes. Smaller ones are copied too fast for it to matter.
const LARGE_BYTES: usize = 2048;
/// A cache line, bytes.
const ALIGN_BYTES: usize = 64;

/// The system's allocator, with aligned large blocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aligned;

/// The layout that the system is asked for; the same for every call about one block.
fn aligned(layout: Layout) -> Layout {
    if layout.size() < LARGE_BYTES || layout.align() >= ALIGN_BYTES {
        return layout;
    }
    // Fails only within a cache line of the largest size there is; the system then refuses the original.
    Layout::from_size_align(layout.size(), ALIGN_BYTES).unwrap_or(layout)
}

// SAFETY: every call is passed to `System`, which keeps the contract. The layout handed over depends on nothing but
// the layout that the caller gives, so `alloc` and `dealloc` of one block agree, and it is never less aligned than
// what was asked for. `realloc` is the trait's own, made of `alloc` and `dealloc`.
unsafe impl GlobalAlloc for Aligned {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `aligned` keeps the size, which the caller guarantees not to be zero.
        unsafe { System.alloc(aligned(layout)) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block came from `alloc` with the same `layout`, hence with the same `aligned(layout)`.
        unsafe { System.dealloc(block, aligned(layout)) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(aligned(layout)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_blocks_start_on_a_cache_line_and_small_ones_stay_as_they_were() {
        let layout = |size, align| aligned(Layout::from_size_align(size, align).unwrap()).align();

        assert_eq!(layout(LARGE_BYTES, 1), ALIGN_BYTES);
        assert_eq!(layout(LARGE_BYTES - 1, 1), 1);
        assert_eq!(layout(LARGE_BYTES, 4096), 4096);
    }

    #[test]
    fn a_block_keeps_its_content_when_it_grows_past_the_border_and_back() {
        for (old, new) in [(100, 5000), (5000, 100), (5000, 1 << 20)] {
            let layout = Layout::from_size_align(old, 1).unwrap();
            // SAFETY: sizes are not zero, each block is used within its size and freed once with its last layout.
            unsafe {
                let block = Aligned.alloc(layout);
                assert!(!block.is_null());
                block.write_bytes(7, old);
                let block = Aligned.realloc(block, layout, new);
                assert!(!block.is_null());
                let kept = std::slice::from_raw_parts(block, old.min(new));
                assert!(kept.iter().all(|&byte| byte == 7));
                Aligned.dealloc(block, Layout::from_size_align(new, 1).unwrap());
            }
        }
    }
}
