//! An empty journal: its superblock, behind which everything is a hole (Linux, Documentation/filesystems/ext4, "Journal (jbd2)").

use crate::disk::block::BLOCK;

/// The first block of a journal of so many. All numbers in it are big-endian.
pub(super) fn journal_superblock(blocks: u32, uuid: &[u8; 16]) -> [u8; BLOCK] {
    const MAGIC: u32 = 0xc03b_3998;
    const SUPERBLOCK_V2: u32 = 4;
    let mut bytes = [0; BLOCK];
    // What it is; block size, blocks, the first one of the log, the first transaction that is expected in it.
    let words = [(0x00, MAGIC), (0x04, SUPERBLOCK_V2), (0x0c, BLOCK as u32), (0x10, blocks), (0x14, 1), (0x18, 1)];
    for (at, value) in words {
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }
    bytes[0x30..0x40].copy_from_slice(uuid);
    // One file system uses it.
    bytes[0x40..0x44].copy_from_slice(&1u32.to_be_bytes());
    bytes
}
