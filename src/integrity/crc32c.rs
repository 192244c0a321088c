//! crc
use crc_fast::{CrcAlgorithm, Digest as D};
/// x
#[derive(Clone)]
pub struct Crc32c(D);
impl std::fmt::Debug for Crc32c { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("Crc32c") } }
impl Crc32c {
    /// x
    pub fn new() -> Self { Self(D::new(CrcAlgorithm::Crc32Iscsi)) }
    /// x
    pub fn update(&mut self, b: &[u8]) { self.0.update(b) }
    /// x
    pub fn finish(self) -> u32 { self.0.finalize() as u32 }
}
/// x
pub fn crc32c(b: &[u8]) -> u32 { crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, b) as u32 }
