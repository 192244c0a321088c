//! Holds a sender to its window: what leaves beyond it is a probe, or says nothing but a few words.

use crate::datagram::{BASE_BYTES, Sender};

/// A search for the packet size sends so many probes at most: three of each of ten sizes, as long as no path change
/// begins it anew.
const MTU_PROBES_MAX: u64 = 3 * 10;

/// What has left above the window so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct WindowGuard {
    above: u64,
}

/// A sender's window just before it may send.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    in_flight: u64,
    window: u64,
}

impl WindowGuard {
    /// To be called before a sender is asked for datagrams.
    pub fn before(sender: &Sender) -> Before {
        Before { in_flight: sender.in_flight(), window: sender.controller().window() }
    }

    /// So many datagrams have left.
    ///
    /// # Panics
    /// If they should not have: the first packet into an empty path may always leave, small ones too, and two probes
    /// for each timeout.
    pub fn check(&mut self, before: Before, sender: &Sender, datagrams: usize) {
        let window = before.window.max(sender.controller().window());
        let in_flight = sender.in_flight();
        if datagrams == 0 || in_flight <= window {
            return;
        }
        assert!(datagrams == 1, "{in_flight} bytes in flight, and the window is {window}");
        let is_small = in_flight - before.in_flight <= BASE_BYTES;
        if before.in_flight > 0 && !is_small {
            self.above += 1;
            let most = 2 * sender.stats().timeouts + MTU_PROBES_MAX;
            assert!(
                self.above <= most,
                "packets leave although {in_flight} bytes fill the window of {window}"
            );
        }
    }
}
