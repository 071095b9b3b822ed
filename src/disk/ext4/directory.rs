//! The content of a directory (Linux, Documentation/filesystems/ext4, "Directory Entries", "Hash Tree Directories").
//!
//! A few blocks hold its entries in a row. With more blocks a name is found by its hash. The first block is an index, and the
//! others have the names in the order of their hashes. Without that, a guest would read all of it for each name.
//!
//! Linux gives an index to a directory that outgrows its first block, and to no other. So where a guest writes, one block is the
//! most that has none. Where it only reads, some more have none: an index would be one block more, and a guest reads a few blocks
//! at once. mke2fs makes no index at all. e2fsck finds nothing wrong with that; one that may write would make an index from three
//! blocks on (e2fsprogs, e2fsck/pass1.c, `check_blocks`).

use super::checksum::Checksum;
use super::hash::{NameHash, name_hash};
use crate::disk::block::BLOCK;
use crate::disk::file_type::DIRECTORY;
use crate::error::{Error, Result};

/// Bytes of an entry without its name.
const ENTRY: usize = 8;
/// A block of entries ends with its checksum, which looks like an entry.
const TAIL: usize = 12;
/// An index ends with its checksum.
const INDEX_TAIL: usize = 8;
const INDEX_ENTRY: usize = 8;
/// What comes before the entries of an index: `.` and `..` with what is said of the index, or an entry without a name.
const ROOT_HEAD: usize = 32;
const NODE_HEAD: usize = 8;
/// Half of MD4.
const HASH_VERSION: u8 = 1;
/// The most blocks without an index of a directory that nobody adds names to.
pub(super) const MOST_IN_A_ROW: usize = 8;
const IN_ROOT: usize = (BLOCK - ROOT_HEAD - INDEX_TAIL) / INDEX_ENTRY;
const IN_NODE: usize = (BLOCK - NODE_HEAD - INDEX_TAIL) / INDEX_ENTRY;

/// A name in a directory.
#[derive(Clone, Copy)]
pub(super) struct DirectoryEntry<'a> {
    pub(super) name: &'a [u8],
    pub(super) number: u32,
    pub(super) file_type: u8,
}

/// The directory that is written, and the one that it is in.
#[derive(Clone, Copy)]
pub(super) struct Directory {
    pub(super) number: u32,
    pub(super) parent: u32,
}

fn entry_size(name: &[u8]) -> usize {
    (ENTRY + name.len()).next_multiple_of(4)
}

/// The order in which names lie: how many blocks the directory has, and where each block of names begins.
pub(super) struct DirectoryLayout {
    /// Numbers of the names, with their hashes, by these; nothing where they are in their own order.
    sorted: Vec<(NameHash, u32)>,
    /// The first of the names of each block but the index.
    begins: Vec<usize>,
    is_indexed: bool,
}

impl DirectoryLayout {
    /// With an index where there are more blocks than that.
    pub(super) fn of<'a>(
        names: impl Iterator<Item = &'a [u8]> + Clone,
        most_in_a_row: usize,
        seed: &[u8; 16],
    ) -> Result<DirectoryLayout> {
        let dots = entry_size(b".") + entry_size(b"..");
        let begins = block_begins(names.clone().map(entry_size), dots, most_in_a_row);
        if begins.len() <= most_in_a_row {
            return Ok(DirectoryLayout { sorted: Vec::new(), begins, is_indexed: false });
        }
        let sizes: Vec<u16> = names.clone().map(|name| entry_size(name) as u16).collect();
        let mut sorted: Vec<(NameHash, u32)> =
            names.zip(0..).map(|(name, number)| (name_hash(name, seed), number)).collect();
        sorted.sort_unstable();
        let begins = block_begins(sorted.iter().map(|(_, number)| sizes[*number as usize].into()), 0, usize::MAX);
        let most = IN_ROOT * IN_NODE;
        if begins.len() > most {
            return Err(Error::limit("blocks of names of an ext4 directory", most as u64, begins.len(), "disk"));
        }
        Ok(DirectoryLayout { sorted, begins, is_indexed: true })
    }

    pub(super) fn is_indexed(&self) -> bool {
        self.is_indexed
    }

    /// Indexes that one index leads to.
    fn nodes(&self) -> usize {
        if self.begins.len() <= IN_ROOT { 0 } else { self.begins.len().div_ceil(IN_NODE) }
    }

    pub(super) fn blocks(&self) -> u64 {
        let indexes = if self.is_indexed { 1 + self.nodes() } else { 0 };
        (indexes + self.begins.len()) as u64
    }

    /// Hands over its blocks: the index, blocks of names, and further indexes.
    pub(super) fn write(
        &self,
        entries: &[DirectoryEntry<'_>],
        directory: Directory,
        seed: Checksum,
        mut out: impl FnMut(&[u8; BLOCK]) -> Result<()>,
    ) -> Result<()> {
        let seed = seed.of_inode(directory.number);
        let dots = [(&b"."[..], directory.number), (b"..", directory.parent)];
        let dots = dots.map(|(name, number)| DirectoryEntry { name, number, file_type: DIRECTORY });
        let ends = self.begins.iter().skip(1).copied().chain([entries.len()]);
        let ranges = self.begins.iter().zip(ends).map(|(begin, end)| *begin..end);
        if !self.is_indexed {
            let mut dots = &dots[..];
            for names in ranges {
                let first = std::mem::take(&mut dots);
                out(&names_block(first.iter().chain(&entries[names]).copied(), seed))?;
            }
            return Ok(());
        }
        out(&self.root_block(&dots, seed))?;
        for names in ranges {
            let names = self.sorted[names].iter().map(|&(_, at)| entries[at as usize]);
            out(&names_block(names, seed))?;
        }
        (0..self.nodes()).try_for_each(|node| out(&self.node_block(node, seed)))
    }

    /// What an index says of a block of names: the first hash in it, and whether some of that hash are in the block before.
    fn begins_with(&self, number: usize) -> u32 {
        let begin = self.begins[number];
        let hash = self.sorted[begin].0.major;
        let goes_on = begin > 0 && self.sorted[begin - 1].0.major == hash;
        hash | u32::from(goes_on)
    }

    fn root_block(&self, dots: &[DirectoryEntry<'_>; 2], seed: Checksum) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put_entry(&mut block, 0, &dots[0], 12);
        put_entry(&mut block, 12, &dots[1], BLOCK - 12);
        let nodes = self.nodes();
        block[28] = HASH_VERSION;
        block[29] = 8;
        block[30] = u8::from(nodes > 0);
        let leads_to: Vec<(u32, u32)> = match nodes {
            0 => (0..self.begins.len()).map(|number| (self.begins_with(number), 1 + number as u32)).collect(),
            _ => (0..nodes)
                .map(|node| (self.begins_with(node * IN_NODE), (1 + self.begins.len() + node) as u32))
                .collect(),
        };
        put_index(&mut block, ROOT_HEAD, &leads_to, IN_ROOT, seed);
        block
    }

    fn node_block(&self, node: usize, seed: Checksum) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        // An entry without a name that takes the whole block.
        block[4..6].copy_from_slice(&(BLOCK as u16).to_le_bytes());
        let numbers = node * IN_NODE..self.begins.len().min((node + 1) * IN_NODE);
        let leads_to: Vec<(u32, u32)> = numbers.map(|number| (self.begins_with(number), 1 + number as u32)).collect();
        put_index(&mut block, NODE_HEAD, &leads_to, IN_NODE, seed);
        block
    }
}

/// The first of the names of each block, where so many bytes come before the first name of all. Blocks behind one more than `most`
/// are left out.
fn block_begins(sizes: impl Iterator<Item = usize>, before: usize, most: usize) -> Vec<usize> {
    let (mut begins, mut used) = (vec![0], before);
    for (at, size) in sizes.enumerate() {
        if used + size + TAIL > BLOCK {
            begins.push(at);
            used = 0;
            if begins.len() > most {
                break;
            }
        }
        used += size;
    }
    begins
}

/// Hashes and the blocks that begin with them. In the place of the first hash stands how many there are and can be.
fn put_index(block: &mut [u8; BLOCK], begin: usize, leads_to: &[(u32, u32)], most: usize, seed: Checksum) {
    for (number, (hash, to)) in leads_to.iter().enumerate() {
        let at = begin + number * INDEX_ENTRY;
        block[at..at + 4].copy_from_slice(&hash.to_le_bytes());
        block[at + 4..at + 8].copy_from_slice(&to.to_le_bytes());
    }
    block[begin..begin + 2].copy_from_slice(&(most as u16).to_le_bytes());
    block[begin + 2..begin + 4].copy_from_slice(&(leads_to.len() as u16).to_le_bytes());
    // The tail counts with its checksum as zeros.
    let sum = seed.update(&block[..begin + leads_to.len() * INDEX_ENTRY]).update(&[0; INDEX_TAIL]).value();
    let tail = begin + most * INDEX_ENTRY;
    block[tail + 4..tail + 8].copy_from_slice(&sum.to_le_bytes());
}

fn names_block<'a>(entries: impl Iterator<Item = DirectoryEntry<'a>>, seed: Checksum) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let (mut at, mut last) = (0, 0);
    for entry in entries {
        let size = entry_size(entry.name);
        put_entry(&mut block, at, &entry, size);
        (last, at) = (at, at + size);
    }
    // The last one has the rest.
    let rest = (BLOCK - TAIL - last) as u16;
    block[last + 4..last + 6].copy_from_slice(&rest.to_le_bytes());
    let sum = seed.update(&block[..BLOCK - TAIL]).value();
    let tail = BLOCK - TAIL;
    block[tail + 4..tail + 6].copy_from_slice(&(TAIL as u16).to_le_bytes());
    block[tail + 7] = 0xde;
    block[tail + 8..].copy_from_slice(&sum.to_le_bytes());
    block
}

fn put_entry(block: &mut [u8; BLOCK], at: usize, entry: &DirectoryEntry<'_>, size: usize) {
    block[at..at + 4].copy_from_slice(&entry.number.to_le_bytes());
    block[at + 4..at + 6].copy_from_slice(&(size as u16).to_le_bytes());
    block[at + 6] = entry.name.len() as u8;
    block[at + 7] = entry.file_type;
    block[at + ENTRY..at + ENTRY + entry.name.len()].copy_from_slice(entry.name);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of one hash that do not fit into one block: the index says that they go on.
    #[test]
    fn names_of_one_hash_go_on_in_the_next_block() {
        let hash = |major| NameHash::of(major);
        let sorted = [10, 10, 20, 20, 30].into_iter().map(hash).zip(0..).collect();
        let layout = DirectoryLayout { sorted, begins: vec![0, 2, 3], is_indexed: true };
        assert_eq!([0, 1, 2].map(|number| layout.begins_with(number)), [10, 20, 21]);
        assert_eq!((layout.blocks(), layout.nodes()), (4, 0));
    }

    #[test]
    fn an_index_that_is_full_leads_to_others() {
        let of =
            |blocks: usize| DirectoryLayout { sorted: Vec::new(), begins: (0..blocks).collect(), is_indexed: true };
        assert_eq!([IN_ROOT, IN_ROOT + 1, 2 * IN_NODE + 1].map(|blocks| of(blocks).nodes()), [0, 1, 3]);
        assert_eq!((IN_ROOT, IN_NODE), (507, 510));
    }

    /// Where a guest only reads, a few blocks have none; where it writes, one.
    #[test]
    fn a_few_blocks_need_no_index() {
        let names = |count: usize| (0..count).map(|n| format!("name number {n:06}").into_bytes()).collect::<Vec<_>>();
        // Some 145 of them in a block.
        for (count, blocks, written_to) in
            [(0, 1, 1), (100, 1, 1), (200, 2, 3), (400, 3, 4), (1100, 8, 9), (1200, 10, 10)]
        {
            let names = names(count);
            let of = |most| DirectoryLayout::of(names.iter().map(|name| &name[..]), most, &[0; 16]).unwrap();
            assert_eq!((of(MOST_IN_A_ROW).blocks(), of(1).blocks()), (blocks, written_to), "{count}");
            assert_eq!(of(MOST_IN_A_ROW).is_indexed(), blocks > MOST_IN_A_ROW as u64, "{count}");
        }
    }
}
