//! How large an ext4 is: exactly as its content needs, or with room for a guest that writes.

use super::directory::MOST_IN_A_ROW;
use super::geometry::{DESCRIPTOR, GROUP_BLOCKS};
use crate::disk::block::BLOCK;

/// Bytes for which there is an inode, where a guest writes: as mke2fs has it.
const BYTES_FOR_INODE: u64 = 16 << 10;
/// How many times its size it can grow to while it is mounted, as mke2fs has it.
const GROWTH: u64 = 1024;
/// Addresses in a block, which are as many as one inode can keep of what is reserved.
const ADDRESSES: u64 = BLOCK as u64 / 4;

/// What there is besides content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ext4Room {
    /// Of the whole; 0 is what it needs, and `free_bytes`.
    pub(crate) size_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) free_inodes: u64,
    /// Of a journal, without which a guest that writes and dies leaves a file system to be checked; 0 is as many as mke2fs takes.
    pub(crate) journal_bytes: Option<u64>,
    /// It can grow while it is mounted.
    pub(crate) is_growable: bool,
}

impl Ext4Room {
    /// In words, for what the bytes depend on; none for one that is exactly as large as it must be.
    pub(crate) fn words(&self) -> String {
        if *self == Ext4Room::default() {
            return String::new();
        }
        let Ext4Room { size_bytes, free_bytes, free_inodes, journal_bytes, is_growable } = self;
        let journal = journal_bytes.map_or_else(|| "none".to_owned(), |bytes| bytes.to_string());
        format!("\nroom {size_bytes} {free_bytes} {free_inodes} {journal} {is_growable}")
    }

    /// Of a directory, before it has an index.
    pub(super) fn most_blocks_in_a_row(&self) -> usize {
        if *self == Ext4Room::default() { MOST_IN_A_ROW } else { 1 }
    }

    fn is_for_writing(&self) -> bool {
        self.size_bytes > 0 || self.free_bytes > 0
    }

    /// Inodes of a file system of so many blocks of which so many are used.
    pub(super) fn inodes(&self, blocks: u64, used: u64) -> u64 {
        let for_size = if self.is_for_writing() { blocks * BLOCK as u64 / BYTES_FOR_INODE } else { 0 };
        for_size.max(used.saturating_add(self.free_inodes))
    }

    /// Blocks of the journal of a file system of so many (e2fsprogs, lib/ext2fs/mkjournal.c, `ext2fs_default_journal_size`).
    pub(super) fn journal_blocks(&self, blocks: u64) -> u64 {
        const MIB_BLOCKS: u64 = (1 << 20) / BLOCK as u64;
        match self.journal_bytes {
            None => 0,
            Some(bytes @ 1..) => bytes.div_ceil(BLOCK as u64),
            Some(0) => {
                /// From so many blocks on, so many MiB.
                const STEPS: [(u64, u64); 8] = [
                    (0, 4),
                    (1 << 15, 16),
                    (1 << 18, 32),
                    (1 << 19, 64),
                    (1 << 22, 128),
                    (1 << 23, 256),
                    (1 << 24, 512),
                    (1 << 25, 1024),
                ];
                let mib = STEPS.iter().rfind(|(from, _)| blocks >= *from).map_or(0, |(_, mib)| *mib);
                mib * MIB_BLOCKS
            }
        }
    }

    /// Blocks that are reserved behind the descriptors, for those of what it may grow to.
    pub(super) fn reserved_blocks(&self, blocks: u64) -> u64 {
        if !self.is_growable {
            return 0;
        }
        let descriptors = |blocks: u64| (blocks.div_ceil(GROUP_BLOCKS) * DESCRIPTOR as u64).div_ceil(BLOCK as u64);
        let most = blocks.saturating_mul(GROWTH).min(u32::MAX.into());
        (descriptors(most) - descriptors(blocks)).min(ADDRESSES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_mke2fs_makes() {
        // That of 100 MiB has more inodes.
        let room = Ext4Room { size_bytes: 1, journal_bytes: Some(0), is_growable: true, ..Ext4Room::default() };
        let of = |mib: u64| {
            let blocks = mib * 256;
            (room.inodes(blocks, 11), room.journal_blocks(blocks), room.reserved_blocks(blocks))
        };
        assert_eq!((of(100).1, of(100).2), (1024, 12));
        assert_eq!(of(1024), (65_536, 8192, 127));
        assert_eq!(of(10_240), (655_360, 16_384, 1024));
        assert_eq!(Ext4Room::default().inodes(25_600, 11), 11);
    }
}
