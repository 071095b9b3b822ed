//! How an ext4 is divided (Linux, Documentation/filesystems/ext4, "High Level Design").
//!
//! Groups have 32,768 blocks. Sixteen of them are a flexible group, whose bitmaps and inode tables lie together where it
//! begins. Group 0, group 1 and those whose number is a power of 3, 5 or 7 begin with the superblock and all descriptors
//! (`sparse_super`). So what a group has of metadata is always at its beginning, and all the rest of it is for content.

use std::ops::Range;

use crate::disk::block::BLOCK;

/// Blocks of a group: as many as a block has bits.
pub(super) const GROUP_BLOCKS: u64 = BLOCK as u64 * 8;
/// Groups of a flexible group, as a power of two.
pub(super) const LOG_FLEX_GROUPS: u8 = 4;
const FLEX_GROUPS: u64 = 1 << LOG_FLEX_GROUPS;
/// Bytes of an inode.
pub(super) const INODE: usize = 256;
const INODES_IN_BLOCK: u64 = (BLOCK / INODE) as u64;
/// Bytes of a group's descriptor.
pub(super) const DESCRIPTOR: usize = 64;

/// How a file system is divided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    /// A multiple of what fits into a block.
    pub(super) inodes_per_group: u64,
    groups: u64,
    /// Blocks behind descriptors, for more of them.
    reserved: u64,
}

impl Geometry {
    /// With room for so many inodes, and so many blocks that are reserved for descriptors. `None` where the beginning of a group cannot hold what belongs there.
    pub(super) fn new(blocks: u64, inodes: u64, reserved: u64) -> Option<Geometry> {
        let groups = blocks.div_ceil(GROUP_BLOCKS).max(1);
        let inodes_per_group = inodes.div_ceil(groups).next_multiple_of(INODES_IN_BLOCK);
        let geometry = Geometry { blocks, inodes_per_group, groups, reserved };
        let most = geometry.backup_blocks(0) + FLEX_GROUPS.min(groups) * geometry.blocks_for_group();
        (inodes_per_group <= GROUP_BLOCKS && most < GROUP_BLOCKS).then_some(geometry)
    }

    pub(super) fn groups(&self) -> u64 {
        self.groups
    }

    pub(super) fn inodes(&self) -> u64 {
        self.groups * self.inodes_per_group
    }

    /// Blocks that all descriptors take.
    pub(super) fn descriptor_blocks(&self) -> u64 {
        (self.groups * DESCRIPTOR as u64).div_ceil(BLOCK as u64)
    }

    /// Blocks that are reserved behind them.
    pub(super) fn reserved_blocks(&self) -> u64 {
        self.reserved
    }

    /// Blocks of a group's inode table.
    pub(super) fn table_blocks(&self) -> u64 {
        self.inodes_per_group / INODES_IN_BLOCK
    }

    /// Two bitmaps and a table.
    fn blocks_for_group(&self) -> u64 {
        2 + self.table_blocks()
    }

    pub(super) fn has_backup(group: u64) -> bool {
        let is_power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group <= 1 || [3, 5, 7].into_iter().any(is_power_of)
    }

    fn backup_blocks(&self, group: u64) -> u64 {
        if Geometry::has_backup(group) { 1 + self.descriptor_blocks() + self.reserved } else { 0 }
    }

    /// Groups of the flexible group that one is in.
    fn flex(&self, group: u64) -> Range<u64> {
        let begin = group & !(FLEX_GROUPS - 1);
        begin..self.groups.min(begin + FLEX_GROUPS)
    }

    pub(super) fn group(&self, group: u64) -> Range<u64> {
        let begin = group * GROUP_BLOCKS;
        begin..self.blocks.min(begin + GROUP_BLOCKS)
    }

    /// Blocks of metadata that a group begins with. Behind the last group there is none.
    pub(super) fn metadata_blocks(&self, group: u64) -> u64 {
        if group >= self.groups {
            return 0;
        }
        let flex = self.flex(group);
        let tables = if flex.start == group { (flex.end - flex.start) * self.blocks_for_group() } else { 0 };
        self.backup_blocks(group) + tables
    }

    /// Where the bitmaps of a flexible group begin, and those of its tables.
    fn flex_begins(&self, flex: &Range<u64>) -> u64 {
        self.group(flex.start).start + self.backup_blocks(flex.start)
    }

    pub(super) fn block_bitmap(&self, group: u64) -> u64 {
        let flex = self.flex(group);
        self.flex_begins(&flex) + group - flex.start
    }

    pub(super) fn inode_bitmap(&self, group: u64) -> u64 {
        let flex = self.flex(group);
        self.block_bitmap(group) + flex.end - flex.start
    }

    pub(super) fn inode_table(&self, group: u64) -> u64 {
        let flex = self.flex(group);
        let bitmaps = 2 * (flex.end - flex.start);
        self.flex_begins(&flex) + bitmaps + (group - flex.start) * self.table_blocks()
    }

    /// Blocks of metadata that are written, where inodes up to one are used: tables behind that one stay holes.
    pub(super) fn written_metadata_blocks(&self, last_inode: u64) -> u64 {
        let backups: u64 = (0..self.groups).map(|group| self.backup_blocks(group).saturating_sub(self.reserved)).sum();
        backups + 2 * self.groups + last_inode.div_ceil(INODES_IN_BLOCK)
    }

    /// Blocks for content in the whole; `None` where not even metadata has room.
    pub(super) fn content_blocks(&self) -> Option<u64> {
        let in_group = |group| {
            let range = self.group(group);
            (range.end - range.start).checked_sub(self.metadata_blocks(group))
        };
        (0..self.groups).map(in_group).sum()
    }

    /// The next blocks in a row for content, from one on: at most so many.
    pub(super) fn content_from(&self, at: u64, most: u64) -> Range<u64> {
        let begin = self.skip_metadata(at);
        let mut end = begin;
        while end < begin + most {
            let group = end / GROUP_BLOCKS;
            if end > begin && end.is_multiple_of(GROUP_BLOCKS) && self.metadata_blocks(group) > 0 {
                break;
            }
            end = ((group + 1) * GROUP_BLOCKS).min(begin + most);
        }
        begin..end
    }

    fn skip_metadata(&self, at: u64) -> u64 {
        let group = at / GROUP_BLOCKS;
        at.max(group * GROUP_BLOCKS + self.metadata_blocks(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_lies_at_the_beginning_of_groups_and_nothing_overlaps() {
        let cases = [
            (40, 12, 0),
            (32_768, 1000, 0),
            (40_000, 12, 1024),
            (700_000, 90_000, 127),
            (70 * GROUP_BLOCKS, 2_000_000, 0),
        ];
        for (blocks, inodes, reserved) in cases {
            let geometry = Geometry::new(blocks, inodes, reserved).unwrap();
            assert!(geometry.inodes() >= inodes);
            let mut used = vec![];
            for group in 0..geometry.groups() {
                used.push(geometry.block_bitmap(group)..geometry.block_bitmap(group) + 1);
                used.push(geometry.inode_bitmap(group)..geometry.inode_bitmap(group) + 1);
                used.push(geometry.inode_table(group)..geometry.inode_table(group) + geometry.table_blocks());
                let begin = geometry.group(group).start;
                used.push(begin..begin + geometry.backup_blocks(group));
            }
            used.retain(|range| !range.is_empty());
            used.sort_by_key(|range| range.start);
            assert!(used.windows(2).all(|pair| pair[0].end <= pair[1].start), "{geometry:?}");
            let is_metadata = |block: u64| block % GROUP_BLOCKS < geometry.metadata_blocks(block / GROUP_BLOCKS);
            assert!(used.iter().all(|range| is_metadata(range.start) && is_metadata(range.end - 1)));
            let metadata: u64 = used.iter().map(|range| range.end - range.start).sum();
            assert_eq!(geometry.content_blocks(), Some(blocks - metadata));
            let mut at = 0;
            let mut found = 0;
            while at < blocks {
                let run = geometry.content_from(at, blocks);
                let run = run.start..run.end.min(blocks);
                assert!(!is_metadata(run.start) && !is_metadata(run.end - 1), "{run:?}");
                found += run.end.saturating_sub(run.start);
                at = run.end;
            }
            assert_eq!(Some(found), geometry.content_blocks());
        }
    }

    #[test]
    fn more_inodes_than_a_group_can_have_need_more_groups() {
        assert_eq!(Geometry::new(100, 40_000, 0), None);
        assert!(Geometry::new(2 * GROUP_BLOCKS, 40_000, 0).is_some());
    }
}
