//! A stand-in for a TCP connection: bytes in order, with a delay, a rate, a bounded buffer, stalls and a cut.
//!
//! It makes no claim about congestion: a path that loses packets makes it slow now and then, and no more.

use std::{collections::VecDeque, io, time::Duration};

use super::super::chance::Chance;

/// What a connection is like.
#[derive(Clone, Copy, Debug)]
pub struct PipeConfig {
    /// From one end to the other.
    pub one_way: Duration,
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may be written and not read.
    pub buffer: usize,
    /// Writes that wait for a timeout of the system's, out of a hundred.
    pub stalls_percent: u64,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Pipe {
    config: PipeConfig,
    chance: Chance,
    /// What was written and not read, with the time from which it can be.
    pieces: VecDeque<(Duration, Vec<u8>)>,
    unread: usize,
    /// When the last byte has left.
    busy_until: Duration,
    /// When the last byte arrives.
    last_at: Duration,
    is_cut: bool,
}

/// A write that waits for a timeout of the system's takes so much longer.
const STALL: Duration = Duration::from_millis(200);
/// Bytes of one write.
const PIECE_BYTES: usize = 16 << 10;

impl Pipe {
    /// A connection that can be written to from `opens_at` on.
    pub fn new(config: PipeConfig, opens_at: Duration, chance: Chance) -> Self {
        let (pieces, unread) = (VecDeque::new(), 0);
        Self { config, chance, pieces, unread, busy_until: opens_at, last_at: opens_at, is_cut: false }
    }

    /// From here on nothing arrives, and what is on its way gets lost or does not.
    pub fn cut(&mut self) {
        self.is_cut = true;
        if self.chance.percent(50) {
            self.pieces.clear();
            self.unread = 0;
        }
    }

    /// Takes bytes, as far as there is room.
    pub fn write(&mut self, now: Duration, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room()).min(PIECE_BYTES);
        if self.is_cut || len == 0 {
            return if self.is_cut { bytes.len() } else { 0 };
        }
        let takes = Duration::from_nanos(1_000_000_000 * len as u64 / self.config.rate);
        self.busy_until = self.busy_until.max(now) + takes;
        let stall = if self.chance.percent(self.config.stalls_percent) { STALL } else { Duration::ZERO };
        self.last_at = self.last_at.max(self.busy_until + self.config.one_way + stall);
        self.pieces.push_back((self.last_at, bytes[..len].to_vec()));
        self.unread += len;
        len
    }

    /// What has arrived.
    pub fn read(&mut self, now: Duration) -> Option<Vec<u8>> {
        let (_, bytes) = self.pieces.pop_front_if(|(at, _)| *at <= now)?;
        self.unread -= bytes.len();
        Some(bytes)
    }

    /// When there is something to read.
    pub fn readable_at(&self) -> Option<Duration> {
        self.pieces.front().map(|(at, _)| *at)
    }

    /// Bytes that may be written.
    pub fn room(&self) -> usize {
        self.config.buffer - self.unread
    }
}

/// A pipe as a writer.
pub struct PipeWriter<'a> {
    /// The pipe.
    pub pipe: &'a mut Pipe,
    /// The time.
    pub now: Duration,
}

impl io::Write for PipeWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.pipe.write(self.now, bytes) {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            written => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn pipe(stalls_percent: u64) -> Pipe {
        let config = PipeConfig { one_way: 10 * MS, rate: 1_000_000, buffer: 3000, stalls_percent };
        Pipe::new(config, 5 * MS, Chance::new(1, "pipe"))
    }

    #[test]
    fn bytes_arrive_in_order_at_the_rate_and_after_the_delay() {
        let mut pipe = pipe(0);

        assert_eq!(pipe.write(Duration::ZERO, &[1; 1000]), 1000);
        assert_eq!(pipe.write(Duration::ZERO, &[2; 5000]), 2000, "the buffer is full");

        assert_eq!(pipe.read(15 * MS), None);
        assert_eq!(pipe.read(16 * MS), Some(vec![1; 1000]));
        assert_eq!(pipe.readable_at(), Some(18 * MS));
        assert_eq!(pipe.room(), 1000);
    }

    #[test]
    fn a_stall_delays_what_follows_too() {
        let mut pipe = pipe(100);

        pipe.write(Duration::ZERO, &[1; 1000]);
        pipe.config.stalls_percent = 0;
        pipe.write(Duration::ZERO, &[1; 1000]);

        assert_eq!(pipe.readable_at(), Some(216 * MS));
        pipe.read(216 * MS).unwrap();
        assert_eq!(pipe.readable_at(), Some(216 * MS));
    }

    #[test]
    fn what_is_written_to_a_cut_connection_goes_nowhere() {
        let mut pipe = pipe(0);
        pipe.cut();

        assert_eq!(pipe.write(Duration::ZERO, &[1; 9000]), 9000);

        assert_eq!(pipe.readable_at(), None);
    }
}
