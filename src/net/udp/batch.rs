//! Room for the datagrams of one receive.

use std::{
    array, fmt,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};

use quinn_udp::{BATCH_SIZE, RecvMeta};

use crate::net::canonical;

/// What one buffer holds, bytes: the largest datagram there is, or as many joined ones. Nothing is ever cut off.
const BUFFER_BYTES: usize = 64 << 10;

/// The datagrams of one receive, and the memory that they lie in; used again and again.
pub struct Batch {
    /// One buffer behind the other.
    bytes: Vec<u8>,
    /// Says of each buffer what is in it.
    metas: [RecvMeta; BATCH_SIZE],
    /// Buffers in use, `<= BATCH_SIZE`.
    len: usize,
}

impl Batch {
    /// An empty batch. Takes 2 MiB of address space, and as much memory as is ever received at once.
    pub fn new() -> Self {
        Self { bytes: vec![0; BATCH_SIZE * BUFFER_BYTES], metas: [RecvMeta::default(); BATCH_SIZE], len: 0 }
    }

    /// Forgets what was received.
    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    /// Lets `recv` fill the buffers and say of how many it did.
    pub(super) fn fill(
        &mut self,
        recv: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut buffers = self.bytes.chunks_exact_mut(BUFFER_BYTES);
        let mut slices: [_; BATCH_SIZE] = array::from_fn(|_| {
            IoSliceMut::new(buffers.next().expect("there is a buffer for each place of the batch"))
        });
        self.len = recv(&mut slices, &mut self.metas)?;
        assert!(self.len <= BATCH_SIZE);
        Ok(())
    }

    /// Whether nothing was received.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What was received, in the order of arrival.
    pub fn groups(&mut self) -> impl Iterator<Item = Group<'_>> {
        self.bytes.chunks_exact_mut(BUFFER_BYTES).zip(&self.metas[..self.len]).map(|(buffer, meta)| {
            let bytes = &mut buffer[..meta.len];
            Group {
                from: canonical(meta.addr),
                to: meta.dst_ip.map(|ip| ip.to_canonical()),
                datagrams: Datagrams { rest: Some(bytes), stride: meta.stride },
            }
        })
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Datagrams that came from one peer, one behind the other.
#[derive(Debug)]
pub struct Group<'a> {
    /// Who sent them, in canonical form.
    pub from: SocketAddr,
    /// Which of our addresses they were sent to, in canonical form, where the system says; what an answer goes out from.
    pub to: Option<IpAddr>,
    /// They.
    pub datagrams: Datagrams<'a>,
}

/// The datagrams of a group, in the order of arrival; each may be changed in place. An empty datagram is one too.
#[derive(Debug)]
pub struct Datagrams<'a> {
    /// `None` at the end.
    rest: Option<&'a mut [u8]>,
    /// Bytes of each datagram but the last, which has what is left.
    stride: usize,
}

impl<'a> Iterator for Datagrams<'a> {
    type Item = &'a mut [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        if self.stride == 0 || rest.len() <= self.stride {
            return Some(rest);
        }
        let (datagram, rest) = rest.split_at_mut(self.stride);
        self.rest = Some(rest);
        Some(datagram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_cut_at_its_stride() {
        let lens = |bytes: &mut [u8], stride| {
            Datagrams { rest: Some(bytes), stride }.map(|datagram| datagram.len()).collect::<Vec<_>>()
        };

        assert_eq!(lens(&mut [0; 10], 4), [4, 4, 2]);
        assert_eq!(lens(&mut [0; 8], 4), [4, 4]);
        assert_eq!(lens(&mut [0; 4], 4), [4]);
        assert_eq!(lens(&mut [0; 3], 4), [3]);
        assert_eq!(lens(&mut [], 0), [0], "an empty datagram");
        assert_eq!(lens(&mut [0; 5], 0), [5]);
    }
}
