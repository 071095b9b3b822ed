//! The superblock, and what is said of each group (Linux, Documentation/filesystems/ext4, "Super Block", "Block Group
//! Descriptors").

use super::checksum::Checksum;
use super::extents::I_BLOCK;
use super::geometry::{DESCRIPTOR, GROUP_BLOCKS, Geometry, INODE, LOG_FLEX_GROUPS};
use super::inode::{EXTRA, JOURNAL, LOST_AND_FOUND};
use crate::disk::block::BLOCK;

/// Bytes of the superblock, and where it begins in the first block.
pub(super) const SUPERBLOCK: usize = 1024;
const MAGIC: u16 = 0xef53;
/// `ext_attr`, `dir_index`.
const COMPATIBLE: u32 = 0x8 | 0x20;
const HAS_JOURNAL: u32 = 0x4;
const RESIZE_INODE: u32 = 0x10;
/// `filetype`, `extents`, `64bit`, `flex_bg`.
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// `sparse_super`, `large_file`, `huge_file`, `dir_nlink`, `extra_isize`, `metadata_csum`.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;
/// Bytes are hashed without a sign.
const UNSIGNED_HASH: u32 = 2;
/// Extended attributes and access control lists are on without an option.
const MOUNT_OPTIONS: u32 = 0x4 | 0x8;

/// The file system as a whole.
pub(super) struct Ext4Superblock<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) uuid: [u8; 16],
    /// At most 16 bytes.
    pub(super) label: &'a [u8],
    pub(super) hash_seed: [u8; 16],
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    /// What the journal's inode says of its content, and its size.
    pub(super) journal: Option<([u8; I_BLOCK], u64)>,
}

impl Ext4Superblock<'_> {
    /// As it stands in a group.
    pub(super) fn to_bytes(&self, group: u64) -> [u8; SUPERBLOCK] {
        let mut bytes = [0; SUPERBLOCK];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let Geometry { blocks, inodes_per_group, .. } = self.geometry;
        put(0x00, &(self.geometry.inodes() as u32).to_le_bytes());
        put(0x04, &(*blocks as u32).to_le_bytes());
        put(0x0c, &(self.free_blocks as u32).to_le_bytes());
        put(0x10, &(self.free_inodes as u32).to_le_bytes());
        // Of blocks and of clusters: 1024 bytes, doubled so many times.
        put(0x18, &2u32.to_le_bytes());
        put(0x1c, &2u32.to_le_bytes());
        put(0x20, &(GROUP_BLOCKS as u32).to_le_bytes());
        put(0x24, &(GROUP_BLOCKS as u32).to_le_bytes());
        put(0x28, &(*inodes_per_group as u32).to_le_bytes());
        // No check after so many mounts.
        put(0x36, &u16::MAX.to_le_bytes());
        put(0x38, &MAGIC.to_le_bytes());
        // Clean; errors are passed over; the revision with inodes of any size.
        put(0x3a, &1u16.to_le_bytes());
        put(0x3c, &1u16.to_le_bytes());
        put(0x4c, &1u32.to_le_bytes());
        put(0x54, &LOST_AND_FOUND.to_le_bytes());
        put(0x58, &(INODE as u16).to_le_bytes());
        put(0x5a, &(group as u16).to_le_bytes());
        let has = |feature: u32, is_there: bool| if is_there { feature } else { 0 };
        let reserved = self.geometry.reserved_blocks();
        let compatible = COMPATIBLE | has(HAS_JOURNAL, self.journal.is_some()) | has(RESIZE_INODE, reserved > 0);
        put(0x5c, &compatible.to_le_bytes());
        put(0x60, &INCOMPATIBLE.to_le_bytes());
        put(0x64, &READ_ONLY_COMPATIBLE.to_le_bytes());
        put(0x68, &self.uuid);
        put(0x78, self.label);
        put(0xce, &(reserved as u16).to_le_bytes());
        if let Some((content, size)) = &self.journal {
            put(0xe0, &JOURNAL.to_le_bytes());
            // The inode once more, should it be lost.
            put(0xfd, &[1]);
            put(0x10c, content);
            put(0x148, &((size >> 32) as u32).to_le_bytes());
            put(0x14c, &(*size as u32).to_le_bytes());
        }
        put(0xec, &self.hash_seed);
        // Half of MD4.
        put(0xfc, &[1]);
        put(0xfe, &(DESCRIPTOR as u16).to_le_bytes());
        put(0x100, &MOUNT_OPTIONS.to_le_bytes());
        put(0x150, &((*blocks >> 32) as u32).to_le_bytes());
        put(0x158, &((self.free_blocks >> 32) as u32).to_le_bytes());
        put(0x15c, &EXTRA.to_le_bytes());
        put(0x15e, &EXTRA.to_le_bytes());
        put(0x160, &UNSIGNED_HASH.to_le_bytes());
        put(0x174, &[LOG_FLEX_GROUPS]);
        // CRC-32C.
        put(0x175, &[1]);
        let sum = Checksum::default().update(&bytes[..SUPERBLOCK - 4]).value();
        bytes[SUPERBLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// What is said of a group.
#[derive(Default)]
pub(super) struct GroupDescriptor {
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    /// Inodes at the end of its table that nobody ever had.
    pub(super) unused_inodes: u32,
    /// `None` where the bitmap is not written.
    pub(super) block_bitmap_sum: Option<u32>,
    pub(super) inode_bitmap_sum: Option<u32>,
}

impl GroupDescriptor {
    pub(super) fn to_bytes(&self, geometry: &Geometry, group: u64, seed: Checksum) -> [u8; DESCRIPTOR] {
        /// The table is zeros where nothing is in it.
        const ZEROED: u16 = 4;
        const BLOCK_BITMAP_UNWRITTEN: u16 = 2;
        const INODE_BITMAP_UNWRITTEN: u16 = 1;
        let mut bytes = [0; DESCRIPTOR];
        let mut flags = ZEROED;
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        let places = [geometry.block_bitmap(group), geometry.inode_bitmap(group), geometry.inode_table(group)];
        for (number, place) in places.into_iter().enumerate() {
            put(4 * number, &(place as u32).to_le_bytes());
            put(0x20 + 4 * number, &((place >> 32) as u32).to_le_bytes());
        }
        let counts = [
            (0x0c, 0x2c, self.free_blocks),
            (0x0e, 0x2e, self.free_inodes),
            (0x10, 0x30, self.directories),
            (0x1c, 0x32, self.unused_inodes),
            (0x18, 0x38, self.block_bitmap_sum.unwrap_or_default()),
            (0x1a, 0x3a, self.inode_bitmap_sum.unwrap_or_default()),
        ];
        for (low, high, value) in counts {
            put(low, &(value as u16).to_le_bytes());
            put(high, &((value >> 16) as u16).to_le_bytes());
        }
        flags |= if self.block_bitmap_sum.is_none() { BLOCK_BITMAP_UNWRITTEN } else { 0 };
        flags |= if self.inode_bitmap_sum.is_none() { INODE_BITMAP_UNWRITTEN } else { 0 };
        put(0x12, &flags.to_le_bytes());
        let sum = seed.update(&(group as u32).to_le_bytes()).update(&bytes).value();
        bytes[0x1e..0x20].copy_from_slice(&(sum as u16).to_le_bytes());
        bytes
    }
}

/// A bitmap of so many bits, of which the first ones are used; bits that stand for nothing are set too.
pub(super) fn bitmap(bits: u64, used: u64) -> [u8; BLOCK] {
    let mut bitmap = [0; BLOCK];
    for range in [0..used, bits..BLOCK as u64 * 8] {
        let mut at = range.start;
        while at < range.end {
            let whole = at % 8 == 0 && at + 8 <= range.end;
            bitmap[(at / 8) as usize] |= if whole { 0xff } else { 1 << (at % 8) };
            at += if whole { 8 } else { 1 };
        }
    }
    bitmap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_has_what_is_set_and_what_there_is_not() {
        let bitmap = bitmap(100, 21);
        let is_set = |bit: u64| bitmap[(bit / 8) as usize] >> (bit % 8) & 1 == 1;
        for bit in 0..BLOCK as u64 * 8 {
            assert_eq!(is_set(bit), !(21..100).contains(&bit), "{bit}");
        }
    }
}
