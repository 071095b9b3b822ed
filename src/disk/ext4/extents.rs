//! Where the content of an inode is: runs of blocks, in the inode or in blocks of their own (Linux,
//! Documentation/filesystems/ext4, "Extent Tree").

use super::checksum::Checksum;
use super::geometry::Geometry;
use crate::disk::block::BLOCK;

/// Bytes of an inode for extents, a short target or a device's number (`i_block`).
pub(super) const I_BLOCK: usize = 60;
const HEADER: usize = 12;
const ENTRY: usize = 12;
const IN_INODE: usize = (I_BLOCK - HEADER) / ENTRY;
/// As many as leave room for the checksum.
const IN_BLOCK: usize = (BLOCK - HEADER - 4) / ENTRY;
/// Blocks of one extent.
const LONGEST: u64 = 32_768;
const MAGIC: u16 = 0xf30a;

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileExtent {
    /// The first one in the file.
    pub(super) logical: u32,
    pub(super) physical: u64,
    pub(super) blocks: u32,
}

impl FileExtent {
    /// Where its blocks are.
    pub(super) fn range(&self) -> std::ops::Range<u64> {
        self.physical..self.physical + u64::from(self.blocks)
    }
}

/// The extents of so many blocks of content that come from a block on, what is metadata left out; and the block behind them.
pub(super) fn extents_from(geometry: &Geometry, at: u64, blocks: u64) -> (Vec<FileExtent>, u64) {
    extents_of(geometry, at, [(0, blocks)])
}

/// The same of content that is not everywhere in the file: where each part of it begins there, and how many blocks it has.
pub(super) fn extents_of(
    geometry: &Geometry,
    mut at: u64,
    parts: impl IntoIterator<Item = (u64, u64)>,
) -> (Vec<FileExtent>, u64) {
    let mut extents = Vec::new();
    for (first, blocks) in parts {
        let (mut logical, end) = (first, first + blocks);
        while logical < end {
            let run = geometry.content_from(at, (end - logical).min(LONGEST));
            let length = run.end - run.start;
            extents.push(FileExtent { logical: logical as u32, physical: run.start, blocks: length as u32 });
            logical += length;
            at = run.end;
        }
    }
    (extents, at)
}

/// How many blocks a tree of so many extents takes, besides the inode.
pub(super) fn tree_blocks(extents: usize) -> usize {
    let (mut blocks, mut entries) = (0, extents);
    while entries > IN_INODE {
        entries = entries.div_ceil(IN_BLOCK);
        blocks += entries;
    }
    blocks
}

/// The tree of extents: what the inode has, and the blocks that are to be at the given places.
pub(super) fn tree(extents: &[FileExtent], places: &[u64], seed: Checksum) -> ([u8; I_BLOCK], Vec<(u64, [u8; BLOCK])>) {
    let mut places = places.iter();
    let mut blocks = Vec::new();
    // What an entry of a level above says: the first block in the file, and where the level below is.
    let mut entries: Vec<[u8; ENTRY]> = extents.iter().map(leaf_entry).collect();
    let mut first: Vec<u32> = extents.iter().map(|extent| extent.logical).collect();
    let mut depth = 0;
    while entries.len() > IN_INODE {
        let (mut above, mut first_above) = (Vec::new(), Vec::new());
        for (entries, first) in entries.chunks(IN_BLOCK).zip(first.chunks(IN_BLOCK)) {
            let place = places.next().copied().unwrap_or_default();
            let mut block = [0; BLOCK];
            fill(&mut block[..BLOCK - 4], entries, IN_BLOCK, depth);
            let sum = seed.update(&block[..BLOCK - 4]).value();
            block[BLOCK - 4..].copy_from_slice(&sum.to_le_bytes());
            blocks.push((place, block));
            above.push(index_entry(first[0], place));
            first_above.push(first[0]);
        }
        (entries, first) = (above, first_above);
        depth += 1;
    }
    let mut root = [0; I_BLOCK];
    fill(&mut root, &entries, IN_INODE, depth);
    (root, blocks)
}

fn fill(node: &mut [u8], entries: &[[u8; ENTRY]], most: usize, depth: u16) {
    node[0..2].copy_from_slice(&MAGIC.to_le_bytes());
    node[2..4].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    node[4..6].copy_from_slice(&(most as u16).to_le_bytes());
    node[6..8].copy_from_slice(&depth.to_le_bytes());
    node[HEADER..HEADER + entries.len() * ENTRY].copy_from_slice(entries.as_flattened());
}

fn leaf_entry(extent: &FileExtent) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0..4].copy_from_slice(&extent.logical.to_le_bytes());
    entry[4..6].copy_from_slice(&(extent.blocks as u16).to_le_bytes());
    entry[6..8].copy_from_slice(&((extent.physical >> 32) as u16).to_le_bytes());
    entry[8..12].copy_from_slice(&(extent.physical as u32).to_le_bytes());
    entry
}

fn index_entry(logical: u32, block: u64) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];
    entry[0..4].copy_from_slice(&logical.to_le_bytes());
    entry[4..8].copy_from_slice(&(block as u32).to_le_bytes());
    entry[8..10].copy_from_slice(&((block >> 32) as u16).to_le_bytes());
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_leave_metadata_out_and_are_not_too_long() {
        let geometry = Geometry::new(5 * 32_768, 100, 0).unwrap();
        let first = geometry.content_from(0, 1).start;
        let (extents, end) = extents_from(&geometry, 0, 4 * 32_768);
        let mut at = (0, first);
        for extent in &extents {
            assert!(
                extent.blocks <= 32_768 && extent.physical >= at.1 && u64::from(extent.logical) == at.0,
                "{extents:?}"
            );
            at = (at.0 + u64::from(extent.blocks), extent.physical + u64::from(extent.blocks));
        }
        assert_eq!(at, (4 * 32_768, end));
        // Groups 1 and 3 begin with a copy of the superblock; groups 2 and 4 go on.
        assert_eq!(extents.len(), 5, "{extents:?}");
    }

    #[test]
    fn a_tree_has_as_many_blocks_as_were_said_and_leads_to_every_extent() {
        for count in [0, 1, 4, 5, 340, 341, 1360, 1361, 340 * 340 + 1] {
            let extents: Vec<FileExtent> = (0..count)
                .map(|n| FileExtent { logical: n * 10, physical: (1 << 33) + u64::from(n) * 16, blocks: 7 })
                .collect();
            let needed = tree_blocks(extents.len());
            let places: Vec<u64> = (0..needed as u64).map(|n| 5 << 32 | n).collect();
            let (root, blocks) = tree(&extents, &places, Checksum::default());
            assert_eq!(blocks.len(), needed);
            let mut found = Vec::new();
            read(&root, &blocks, &mut found);
            assert_eq!(found, extents);
        }
    }

    fn read(node: &[u8], blocks: &[(u64, [u8; BLOCK])], found: &mut Vec<FileExtent>) {
        let u16_at = |at: usize| u16::from_le_bytes([node[at], node[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        assert_eq!(u16_at(0), MAGIC);
        assert!(u16_at(2) <= u16_at(4));
        for entry in 0..usize::from(u16_at(2)) {
            let at = HEADER + entry * ENTRY;
            if u16_at(6) == 0 {
                let physical = u64::from(u16_at(at + 6)) << 32 | u64::from(u32_at(at + 8));
                found.push(FileExtent { logical: u32_at(at), physical, blocks: u16_at(at + 4).into() });
            } else {
                let place = u64::from(u16_at(at + 8)) << 32 | u64::from(u32_at(at + 4));
                let block = blocks.iter().find(|(at, _)| *at == place).unwrap();
                read(&block.1, blocks, found);
            }
        }
    }
}
