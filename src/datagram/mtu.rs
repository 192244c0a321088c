//! Finds the largest datagram that the path carries (DPLPMTUD, RFC 8899).
//!
//! ```text
//!              acknowledged: continue above                 raise timer
//!   [base] ──► [searching] ─────────────────────► [complete] ─────────► [searching]
//!      ▲            │ three probes of a size lost: continue below
//!      └────────────┴─── black hole: large packets vanish, small ones pass
//! ```
//!
//! The sizes tried are those of links in use, by bisection, the most likely one first. The loss of a probe is no sign
//! of congestion. What an ICMP message says is not looked at (RFC 8899, section 4.6: it may be forged).

use std::time::Duration;

/// Smallest size, which every path has to carry, as bytes of UDP payload (RFC 9000, section 14).
pub const BASE_BYTES: u64 = 1200;
/// Sizes of IP packets of links in use: IPv6's minimum, tunnels, PPPoE, Ethernet, FDDI, jumbo frames.
const LINKS: [u64; 10] = [1280, 1400, 1420, 1440, 1460, 1480, 1492, 1500, 4352, 9000];
/// Bytes of IP and UDP headers.
const HEADERS_IPV4: u64 = 28;
const HEADERS_IPV6: u64 = 48;
/// Where in `LINKS` the search begins.
const LIKELY: usize = 7;
/// Lost probes of one size until it is taken as too large (RFC 8899, section 5.1.2, MAX_PROBES).
const PROBES_MAX: u32 = 3;
/// After this time, a larger size is tried again (RFC 8899, section 5.1.1, PMTU_RAISE_TIMER).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// After a black hole, the search begins again so soon.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Large packets lost without one acknowledged in between, and probe timeouts, that make a black hole.
const BLACK_HOLE_LOSSES: u32 = 10;
const BLACK_HOLE_TIMEOUTS: u32 = 3;

/// The search for the packet size of one path.
#[derive(Clone, Debug)]
pub struct Mtu {
    /// Bytes of IP and UDP headers.
    headers: u64,
    /// Packets of this size pass, bytes of UDP payload.
    current: u64,
    /// `LINKS[..low]` pass, `LINKS[high..]` do not, as far as is known.
    low: usize,
    high: usize,
    /// The size being probed, as an index of `LINKS`, and how often it was lost.
    probe: Option<usize>,
    probes_lost: u32,
    is_probe_in_flight: bool,
    /// When a finished search begins again.
    again_at: Option<Duration>,
    large_lost: u32,
}

impl Mtu {
    /// A path of which only [`BASE_BYTES`] is known to pass.
    pub fn new(is_ipv6: bool) -> Self {
        let mut mtu = Self {
            headers: if is_ipv6 { HEADERS_IPV6 } else { HEADERS_IPV4 },
            current: BASE_BYTES,
            low: 0,
            high: LINKS.len(),
            probe: Some(LIKELY),
            probes_lost: 0,
            is_probe_in_flight: false,
            again_at: None,
            large_lost: 0,
        };
        mtu.low = LINKS.partition_point(|link| link - mtu.headers <= BASE_BYTES);
        mtu
    }

    /// Another path: nothing is known of it.
    pub fn restart(&mut self) {
        *self = Self::new(self.headers == HEADERS_IPV6);
    }

    /// Bytes of UDP payload that a packet may have.
    pub fn current(&self) -> u64 {
        self.current
    }

    /// The size to probe next; the caller sends one packet of it. protocol.md [MTU-1]
    pub fn poll_probe(&mut self, now: Duration) -> Option<u64> {
        if self.again_at.is_some_and(|at| at <= now) {
            self.again_at = None;
            self.high = LINKS.len();
            self.search(now);
        }
        let size = self.probe.filter(|_| !self.is_probe_in_flight)?;
        self.is_probe_in_flight = true;
        Some(LINKS[size] - self.headers)
    }

    /// A packet arrived; whether the size of packets has changed.
    pub fn on_acked(&mut self, now: Duration, bytes: u64, is_probe: bool) -> bool {
        if bytes > BASE_BYTES {
            self.large_lost = 0;
        }
        if !is_probe {
            return false;
        }
        self.is_probe_in_flight = false;
        let passed = LINKS.partition_point(|link| link - self.headers <= bytes);
        self.low = self.low.max(passed);
        self.high = self.high.max(self.low);
        let is_larger = bytes > self.current;
        self.current = self.current.max(bytes);
        self.search(now);
        is_larger
    }

    /// A packet was lost.
    pub fn on_lost(&mut self, now: Duration, bytes: u64, is_probe: bool) {
        if !is_probe {
            self.large_lost += u32::from(bytes > BASE_BYTES);
            return;
        }
        self.is_probe_in_flight = false;
        self.probes_lost += 1;
        if self.probes_lost >= PROBES_MAX {
            self.on_too_large(now);
        }
    }

    /// The size being probed does not pass: the socket refused it, or it was lost too often.
    pub fn on_too_large(&mut self, now: Duration) {
        self.is_probe_in_flight = false;
        if let Some(size) = self.probe {
            self.high = size;
            self.search(now);
        }
    }

    /// Nothing was acknowledged for `timeouts` probe timeouts in a row; whether the path has become a black hole for
    /// large packets, so that the size fell back to [`BASE_BYTES`]. protocol.md [MTU-2]
    pub fn on_timeout(&mut self, now: Duration, timeouts: u32) -> bool {
        let is_hole = timeouts >= BLACK_HOLE_TIMEOUTS && self.current > BASE_BYTES;
        if is_hole || self.large_lost >= BLACK_HOLE_LOSSES && timeouts > 0 && self.current > BASE_BYTES {
            self.current = BASE_BYTES;
            self.large_lost = 0;
            self.low = LINKS.partition_point(|link| link - self.headers <= BASE_BYTES);
            self.high = LINKS.len();
            self.probe = None;
            self.again_at = Some(now + SEARCH_AGAIN_AFTER);
            return true;
        }
        false
    }

    /// Chooses the next size, or ends the search.
    fn search(&mut self, now: Duration) {
        self.probes_lost = 0;
        let next = if self.low >= self.high { None } else { Some(usize::midpoint(self.low, self.high)) };
        // The largest is tried right behind the likely one: jumbo frames or not is the usual question.
        self.probe = match next {
            Some(_) if self.low == LIKELY + 1 && self.high == LINKS.len() => Some(LINKS.len() - 1),
            next => next,
        };
        if self.probe.is_none() {
            self.again_at = Some(now + RAISE_AFTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1);

    /// Searches a path that carries IP packets of `limit` bytes; gives the packet size and the probes that it took.
    fn search(mtu: &mut Mtu, limit: u64, now: Duration) -> (u64, u32) {
        let mut probes = 0;
        while let Some(size) = mtu.poll_probe(now) {
            probes += 1;
            assert!(probes < 40, "it does not end");
            if size + mtu.headers <= limit {
                mtu.on_acked(now, size, true);
            } else {
                mtu.on_lost(now, size, true);
            }
        }
        (mtu.current(), probes)
    }

    #[test]
    fn every_link_gets_its_own_size() {
        for is_ipv6 in [false, true] {
            for limit in LINKS {
                let mut mtu = Mtu::new(is_ipv6);
                let expected = (limit - mtu.headers).max(BASE_BYTES);

                assert_eq!(search(&mut mtu, limit, NOW).0, expected, "{limit}");
            }
        }
    }

    #[test]
    fn ethernet_takes_few_probes() {
        let (size, probes) = search(&mut Mtu::new(false), 1500, NOW);

        assert_eq!(size, 1472);
        assert!(probes <= 1 + 2 * PROBES_MAX, "{probes}");
    }

    #[test]
    fn one_lost_probe_decides_nothing() {
        // protocol.md [MTU-1]
        let mut mtu = Mtu::new(false);
        let size = mtu.poll_probe(NOW).unwrap();
        mtu.on_lost(NOW, size, true);

        assert_eq!(mtu.poll_probe(NOW), Some(size));
    }

    #[test]
    fn a_size_that_the_socket_refuses_is_not_tried_thrice() {
        let mut mtu = Mtu::new(false);
        let size = mtu.poll_probe(NOW).unwrap();
        mtu.on_too_large(NOW);

        assert!(mtu.poll_probe(NOW).unwrap() < size);
    }

    #[test]
    fn a_black_hole_leads_back_to_the_base_and_to_a_new_search() {
        // protocol.md [MTU-2]
        let mut mtu = Mtu::new(false);
        search(&mut mtu, 1500, NOW);

        assert!(!mtu.on_timeout(NOW, BLACK_HOLE_TIMEOUTS - 1));
        assert!(mtu.on_timeout(NOW, BLACK_HOLE_TIMEOUTS));

        assert_eq!(mtu.current(), BASE_BYTES);
        assert_eq!(mtu.poll_probe(NOW), None);
        assert_eq!(search(&mut mtu, 1400, NOW + SEARCH_AGAIN_AFTER).0, 1400 - 28);
    }

    #[test]
    fn large_losses_alone_are_no_black_hole_while_a_large_one_passes() {
        let mut mtu = Mtu::new(false);
        search(&mut mtu, 1500, NOW);
        for _ in 0..BLACK_HOLE_LOSSES * 3 {
            mtu.on_lost(NOW, 1472, false);
            mtu.on_acked(NOW, 1472, false);
        }

        assert!(!mtu.on_timeout(NOW, 1));
    }

    #[test]
    fn a_finished_search_begins_again_after_ten_minutes() {
        let mut mtu = Mtu::new(false);
        search(&mut mtu, 1500, NOW);

        assert_eq!(mtu.poll_probe(NOW + RAISE_AFTER - Duration::from_millis(1)), None);
        assert_eq!(search(&mut mtu, 9000, NOW + RAISE_AFTER).0, 8972);
    }
}
