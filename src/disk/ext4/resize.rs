//! What lets a file system grow while it is mounted: blocks behind its descriptors, and behind their copies. An inode of its own
//! holds them until they are needed (e2fsprogs, lib/ext2fs/res_gdt.c).
//!
//! That inode has no extents. Its block of blocks of blocks says where the reserved blocks of group 0 are. Each has the place
//! there that its number among all descriptors gives it, and says itself where its copies are.

use super::geometry::{GROUP_BLOCKS, Geometry};
use crate::disk::block::BLOCK;

/// Addresses in a block.
const ADDRESSES: u64 = BLOCK as u64 / 4;
/// Blocks that an inode says itself, before those that say others.
const DIRECT: u64 = 12;
/// Which of the words of an inode leads to blocks of blocks.
pub(super) const BLOCKS_OF_BLOCKS: usize = 13;
/// Bytes that such an inode has room for.
pub(super) const SIZE: u64 = (ADDRESSES * ADDRESSES + ADDRESSES + DIRECT) * BLOCK as u64;

/// The blocks that lead to what is reserved, in file systems that can grow: each with its place. The first is the one that the
/// inode leads to, whose place is given.
pub(super) fn reserved_blocks(geometry: &Geometry, place: u64) -> Vec<(u64, [u8; BLOCK])> {
    let mut leading = [0; BLOCK];
    let backups: Vec<u64> = (1..geometry.groups()).filter(|&group| Geometry::has_backup(group)).collect();
    let mut blocks = Vec::new();
    for number in 0..geometry.reserved_blocks() {
        let descriptor = geometry.descriptor_blocks() + number;
        let reserved = 1 + descriptor;
        put(&mut leading, descriptor % ADDRESSES, reserved);
        let mut copies = [0; BLOCK];
        for (at, group) in (0..ADDRESSES).zip(&backups) {
            put(&mut copies, at, reserved + group * GROUP_BLOCKS);
        }
        blocks.push((reserved, copies));
    }
    blocks.insert(0, (place, leading));
    blocks
}

/// Blocks that the inode has: that one, what is reserved, and all copies.
pub(super) fn inode_blocks(geometry: &Geometry) -> u64 {
    let backups = (0..geometry.groups()).filter(|&group| Geometry::has_backup(group)).count() as u64;
    1 + geometry.reserved_blocks() * backups
}

fn put(block: &mut [u8; BLOCK], number: u64, address: u64) {
    let at = number as usize * 4;
    block[at..at + 4].copy_from_slice(&(address as u32).to_le_bytes());
}
