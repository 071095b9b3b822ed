//! What a guest is told of a disk that it is to verify.

use super::block_hashes::{HASH, SALT};
use crate::disk::block::BLOCK;

/// How a guest verifies a disk while it reads it: the root of the hashes that lie behind the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verity {
    /// SHA-256.
    pub root_hash: [u8; 32],
    /// Blocks of 4,096 bytes that are verified. The hashes lie behind them.
    pub data_blocks: u64,
}

impl Verity {
    /// With a root of 64 hexadecimal digits.
    pub(crate) fn from_hex(root_hash: &str, data_blocks: u64) -> Option<Verity> {
        let mut root = [0; HASH];
        for (byte, digits) in root.iter_mut().zip(root_hash.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        (root_hash.len() == 2 * HASH).then_some(Verity { root_hash: root, data_blocks })
    }

    /// The root as 64 hexadecimal digits.
    pub fn root_hash_hex(&self) -> String {
        hex(&self.root_hash)
    }

    /// The table for dmsetup(8), if the guest has the disk as this device.
    pub fn table(&self, device: &str) -> String {
        let (sectors, blocks) = (self.data_blocks * (BLOCK as u64 / 512), self.data_blocks);
        // The tree begins behind its superblock.
        let begin = blocks + 1;
        let (root, salt) = (self.root_hash_hex(), hex(&SALT));
        format!("0 {sectors} verity 1 {device} {device} {BLOCK} {BLOCK} {blocks} {begin} sha256 {root} {salt}")
    }
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
