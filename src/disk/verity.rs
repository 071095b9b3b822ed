//! dm-verity: a tree of hashes over the blocks of a disk, so that a guest that knows the root reads nothing else (Linux,
//! Documentation/admin-guide/device-mapper/verity.rst).
//!
//! The hashes of blocks are computed once for each layer's disk ([`hash_blocks`]). What is copied from it takes its hashes along
//! ([`HashedSink`]), and only metadata is hashed for a disk of its own. The salt is always zeros, since another one would make
//! the hashes a disk's own too.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};

use sha2::{Digest as _, Sha256};

use super::block::BLOCK;
use super::id::verity_uuid;
use super::parts::LayerDisk;
use super::sink::{DiskSink, read_exactly};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::sys;

/// Bytes of a hash.
pub(crate) const HASH: usize = 32;
/// In front of every block.
const SALT: [u8; HASH] = [0; HASH];
/// How much is read at a time to be hashed.
const READ_BLOCKS: u64 = 64;

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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn block_hash(block: &[u8]) -> [u8; HASH] {
    Sha256::new_with_prefix(SALT).chain_update(block).finalize().into()
}

/// A tree of hashes.
pub(crate) struct HashTree {
    data_blocks: u64,
    /// Whole blocks, the level of the blocks' own hashes first.
    levels: Vec<Vec<u8>>,
    root: [u8; HASH],
}

impl HashTree {
    /// Over two blocks or more, which have these hashes.
    pub(crate) fn of(hashes: Vec<u8>) -> HashTree {
        let data_blocks = (hashes.len() / HASH) as u64;
        let (mut level, mut levels) = (hashes, Vec::new());
        loop {
            level.resize(level.len().next_multiple_of(BLOCK), 0);
            let above: Vec<[u8; HASH]> = level.chunks(BLOCK).map(block_hash).collect();
            levels.push(std::mem::take(&mut level));
            if let [root] = above[..] {
                return HashTree { data_blocks, levels, root };
            }
            level = above.concat();
        }
    }

    pub(crate) fn verity(&self) -> Verity {
        Verity { root_hash: self.root, data_blocks: self.data_blocks }
    }

    /// Bytes of what follows so many blocks.
    pub(crate) fn bytes_behind(data_blocks: u64) -> u64 {
        let (mut blocks, mut level) = (1, data_blocks);
        while level > 1 {
            level = level.div_ceil((BLOCK / HASH) as u64);
            blocks += level;
        }
        blocks * BLOCK as u64
    }

    /// What follows the data: the superblock in a block of its own, and the levels from the root down.
    pub(crate) fn write(&self, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        out(&self.superblock())?;
        self.levels.iter().rev().try_for_each(|level| out(level))
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

/// Hands on what is written, and has the hashes of its blocks.
pub(crate) struct HashedSink<'a> {
    sink: &'a mut dyn DiskSink,
    /// Of each block; what nobody writes to is zeros.
    hashes: Vec<u8>,
    of_zeros: [u8; HASH],
    /// Blocks that are not written in one piece.
    pieces: BTreeMap<u64, Box<[u8; BLOCK]>>,
    has_tree_behind: bool,
}

impl<'a> HashedSink<'a> {
    /// `has_tree_behind` leaves room for the tree.
    pub(crate) fn new(sink: &'a mut dyn DiskSink, has_tree_behind: bool) -> HashedSink<'a> {
        let of_zeros = block_hash(&[0; BLOCK]);
        HashedSink { sink, hashes: Vec::new(), of_zeros, pieces: BTreeMap::new(), has_tree_behind }
    }

    /// The hashes of all blocks.
    pub(crate) fn into_hashes(mut self) -> Result<Vec<u8>> {
        self.end_pieces()?;
        Ok(self.hashes)
    }

    /// The tree, which is written behind the rest.
    pub(crate) fn finish(mut self) -> Result<HashTree> {
        self.end_pieces()?;
        let mut at = (self.hashes.len() / HASH * BLOCK) as u64;
        let tree = HashTree::of(self.hashes);
        tree.write(|bytes| {
            self.sink.bytes(at, bytes)?;
            at += bytes.len() as u64;
            Ok(())
        })?;
        Ok(tree)
    }

    fn end_pieces(&mut self) -> Result<()> {
        std::mem::take(&mut self.pieces)
            .into_iter()
            .try_for_each(|(block, bytes)| self.put(block, &block_hash(&bytes[..])))
    }

    /// Hashes of blocks in a row.
    fn put(&mut self, block: u64, hashes: &[u8]) -> Result<()> {
        let at = block as usize * HASH;
        let place = self.hashes.get_mut(at..at + hashes.len()).ok_or_else(outside)?;
        place.copy_from_slice(hashes);
        Ok(())
    }

    /// A part of a block.
    fn piece(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let (block, offset) = (at / BLOCK as u64, (at % BLOCK as u64) as usize);
        let already = self.hashes.get(block as usize * HASH..(block as usize + 1) * HASH).ok_or_else(outside)?;
        if already != self.of_zeros {
            return Err(Error::new(Status::Internal, "a block of a disk that is written twice"));
        }
        let piece = self.pieces.entry(block).or_insert_with(|| Box::new([0; BLOCK]));
        piece[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

fn outside() -> Error {
    Error::new(Status::Internal, "a disk with something behind its end")
}

impl DiskSink for HashedSink<'_> {
    fn size(&mut self, bytes: u64) -> Result<()> {
        let blocks = bytes / BLOCK as u64;
        self.hashes = self.of_zeros.repeat(blocks as usize);
        let behind = if self.has_tree_behind { HashTree::bytes_behind(blocks) } else { 0 };
        self.sink.size(bytes + behind)
    }

    fn bytes(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.sink.bytes(at, bytes)?;
        let (mut at, mut rest) = (at, bytes);
        while !rest.is_empty() {
            let room = BLOCK - (at % BLOCK as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(room));
            if now.len() == BLOCK {
                self.put(at / BLOCK as u64, &block_hash(now))?;
            } else {
                self.piece(at, now)?;
            }
            (at, rest) = (at + now.len() as u64, later);
        }
        Ok(())
    }

    fn blocks(&mut self, from: &LayerDisk, from_block: u64, to_block: u64, blocks: u64) -> Result<()> {
        self.sink.blocks(from, from_block, to_block, blocks)?;
        let (begin, end) = (from_block as usize * HASH, (from_block + blocks) as usize * HASH);
        let known = from.hashes.as_ref().and_then(|hashes| hashes.get(begin..end));
        let known = known.ok_or_else(|| Error::new(Status::Internal, "a layer's disk without hashes"))?;
        self.put(to_block, known)
    }
}

/// The hashes of all blocks of a layer's disk.
pub(crate) fn hash_blocks(disk: &LayerDisk, interrupt: &Interrupt) -> Result<Vec<u8>> {
    let blocks = disk.size()?.blocks;
    let middle = if sys::has_cores() { blocks / 2 } else { 0 };
    let own = |file: &OwnedFd| file.try_clone().map_err(|cause| Error::new(Status::Io, cause.to_string()));
    let (file, other_interrupt) = (own(&disk.file)?, interrupt.clone());
    let other = (middle > 0).then(|| sys::spawn("bl-verity", move || hash_range(&file, 0, middle, &other_interrupt)));
    // Where a thread cannot be had, one does all of it.
    let other = other.and_then(std::io::Result::ok);
    let begin = if other.is_some() { middle } else { 0 };
    let second = hash_range(&disk.file, begin, blocks, interrupt);
    let first = match other {
        Some(thread) => thread.join().map_err(|_| Error::new(Status::Internal, "a thread that hashes has died"))?,
        None => Ok(Ok(Vec::new())),
    };
    match (first?, second?) {
        (Ok(first), Ok(second)) => Ok([first, second].concat()),
        _ => Err(disk.damaged()),
    }
}

/// `Err` inside for a disk that is shorter than it was.
fn hash_range(file: &OwnedFd, begin: u64, end: u64, interrupt: &Interrupt) -> Result<Result<Vec<u8>, ()>> {
    let mut hashes = Vec::with_capacity((end - begin) as usize * HASH);
    let mut buffer = vec![0; READ_BLOCKS as usize * BLOCK];
    let mut at = begin;
    while at < end {
        interrupt.check()?;
        let blocks = (end - at).min(READ_BLOCKS);
        let now = &mut buffer[..blocks as usize * BLOCK];
        if read_exactly(file.as_fd(), at * BLOCK as u64, now)?.is_some() {
            return Ok(Err(()));
        }
        now.chunks(BLOCK).for_each(|block| hashes.extend_from_slice(&block_hash(block)));
        at += blocks;
    }
    Ok(Ok(hashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_as_long_as_was_said() {
        for blocks in [2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
            let tree = HashTree::of(vec![7; blocks * HASH]);
            let mut bytes = 0;
            tree.write(|part| {
                bytes += part.len() as u64;
                Ok(())
            })
            .unwrap();
            assert_eq!(bytes, HashTree::bytes_behind(blocks as u64), "{blocks}");
        }
    }
}
