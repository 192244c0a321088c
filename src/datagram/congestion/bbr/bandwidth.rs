//! The most that the path was seen to deliver in this probing cycle and in the last.

/// A maximum over two cycles (draft-ietf-ccwg-bbr, section 5.5.6).
#[derive(Clone, Copy, Debug, Default)]
pub struct MaxBandwidth {
    cycle: u64,
    last_cycle: u64,
}

impl MaxBandwidth {
    /// A rate was measured, bytes a second. One that was held down by the sender counts only if it is the largest.
    /// protocol.md [CONG-8]
    pub fn on_sample(&mut self, rate: u64, is_app_limited: bool) {
        if !is_app_limited || rate >= self.max() {
            self.cycle = self.cycle.max(rate);
        }
    }

    /// A cycle begins: what is older than the last is forgotten. A cycle without samples does not count as one.
    pub fn start_cycle(&mut self) {
        if self.cycle != 0 {
            self.last_cycle = self.cycle;
            self.cycle = 0;
        }
    }

    /// What was measured above `rate` was no property of the path.
    pub fn limit(&mut self, rate: u64) {
        self.cycle = self.cycle.min(rate);
        self.last_cycle = self.last_cycle.min(rate);
    }

    /// Bytes a second; zero: nothing was measured yet.
    pub fn max(&self) -> u64 {
        self.cycle.max(self.last_cycle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_is_kept_for_two_cycles() {
        let mut bandwidth = MaxBandwidth::default();
        bandwidth.on_sample(9, false);
        bandwidth.start_cycle();
        bandwidth.on_sample(5, false);
        assert_eq!(bandwidth.max(), 9);

        bandwidth.start_cycle();
        bandwidth.start_cycle();
        assert_eq!(bandwidth.max(), 5);
    }

    #[test]
    fn a_sender_that_paused_can_only_raise_it() {
        let mut bandwidth = MaxBandwidth::default();
        bandwidth.on_sample(9, false);
        bandwidth.start_cycle();
        bandwidth.on_sample(3, true);
        bandwidth.start_cycle();
        assert_eq!(bandwidth.max(), 9);

        bandwidth.on_sample(12, true);
        assert_eq!(bandwidth.max(), 12);
    }
}
