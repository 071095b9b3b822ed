//! The tree of hashes behind the data: each level hashes the blocks of the one below, up to one block, whose hash is the root.

use super::block_hashes::{BlockHashes, HASH, HASHES_IN_BLOCK, SALT};
use super::root::{Verity, hex};
use crate::disk::block::BLOCK;
use crate::disk::id::verity_uuid;
use crate::error::Result;

/// How much of it is handed over at a time.
const PIECE_BYTES: usize = 256 << 10;

/// A tree of hashes.
pub(crate) struct HashTree {
    data_blocks: u64,
    /// The hashes of the data first.
    levels: Vec<BlockHashes>,
    root: [u8; HASH],
}

impl HashTree {
    /// Over two blocks or more, which have these hashes.
    pub(crate) fn of(hashes: BlockHashes) -> HashTree {
        let (data_blocks, mut levels) = (hashes.count(), vec![hashes]);
        loop {
            let above = levels[levels.len() - 1].above();
            if above.count() <= 1 {
                return HashTree { data_blocks, levels, root: above.first() };
            }
            levels.push(above);
        }
    }

    pub(crate) fn verity(&self) -> Verity {
        Verity { root_hash: self.root, data_blocks: self.data_blocks }
    }

    /// Bytes of what follows so many blocks.
    pub(crate) fn bytes_behind(data_blocks: u64) -> u64 {
        let (mut blocks, mut level) = (1, data_blocks);
        while level > 1 {
            level = level.div_ceil(HASHES_IN_BLOCK);
            blocks += level;
        }
        blocks * BLOCK as u64
    }

    /// What follows the data: the superblock in a block of its own, and the levels from the root down.
    pub(crate) fn write(&self, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        piece.extend_from_slice(&self.superblock());
        for level in self.levels.iter().rev() {
            level.write(|block| {
                if piece.len() + block.len() > PIECE_BYTES {
                    out(&piece)?;
                    piece.clear();
                }
                piece.extend_from_slice(block);
                Ok(())
            })?;
        }
        out(&piece)
    }

    /// As veritysetup(8) has it (cryptsetup, lib/verity/verity.c, `struct verity_sb`).
    fn superblock(&self) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"verity\0\0");
        // Version, and the form in which the salt comes first.
        put(8, &1u32.to_le_bytes());
        put(12, &1u32.to_le_bytes());
        put(16, &verity_uuid(&hex(&self.root)));
        put(32, b"sha256");
        put(64, &(BLOCK as u32).to_le_bytes());
        put(68, &(BLOCK as u32).to_le_bytes());
        put(72, &self.data_blocks.to_le_bytes());
        put(80, &(SALT.len() as u16).to_le_bytes());
        put(88, &SALT);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_long_as_was_said() {
        for blocks in [2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
            let tree = HashTree::of(BlockHashes::of_zeros(blocks));
            let mut bytes = 0;
            tree.write(|part| {
                bytes += part.len() as u64;
                Ok(())
            })
            .unwrap();
            assert_eq!(bytes, HashTree::bytes_behind(blocks), "{blocks}");
        }
    }
}
