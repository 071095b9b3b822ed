//! Hashes of the blocks of a disk. A disk may have holes of terabytes. What they hash to is said once, so that they take
//! neither memory nor time.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::disk::block::BLOCK;
use crate::error::{Error, Result, Status};

/// Bytes of a hash.
pub(crate) const HASH: usize = 32;
/// In front of every block.
pub(super) const SALT: [u8; HASH] = [0; HASH];
/// Hashes that fit into a block.
pub(super) const HASHES_IN_BLOCK: u64 = (BLOCK / HASH) as u64;
/// The number of a block of hashes, in the form in which they are kept.
const NUMBER: usize = 8;

/// What dm-verity has a block hash to.
pub(super) fn block_hash(block: &[u8]) -> [u8; HASH] {
    Sha256::new_with_prefix(SALT).chain_update(block).finalize().into()
}

/// A block of hashes.
type HashBlock = Box<[u8; BLOCK]>;

/// The hashes of blocks in a row, in blocks of their own. Zeros are behind the last hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockHashes {
    count: u64,
    /// Of a block of which nothing else is said.
    usual: [u8; HASH],
    /// By number; those that are missing have the usual hash for all of their blocks.
    chunks: BTreeMap<u64, HashBlock>,
}

impl BlockHashes {
    /// Of so many blocks of zeros.
    pub(crate) fn of_zeros(count: u64) -> BlockHashes {
        BlockHashes::all(count, block_hash(&[0; BLOCK]))
    }

    /// One behind the other.
    pub(crate) fn in_a_row(parts: &[Arc<BlockHashes>]) -> Result<BlockHashes> {
        let mut all = BlockHashes::of_zeros(parts.iter().map(|part| part.count).sum());
        let mut at = 0;
        for part in parts {
            all.put_from(part, 0, at, part.count)?;
            at += part.count;
        }
        Ok(all)
    }

    fn all(count: u64, usual: [u8; HASH]) -> BlockHashes {
        let mut hashes = BlockHashes { count, usual, chunks: BTreeMap::new() };
        // The last one differs from the others, where it is not full.
        if !count.is_multiple_of(HASHES_IN_BLOCK) {
            hashes.chunks.insert(count / HASHES_IN_BLOCK, hashes.usual_chunk(count / HASHES_IN_BLOCK));
        }
        hashes
    }

    /// How many.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn usual_chunk(&self, number: u64) -> HashBlock {
        let mut chunk = Box::new([0; BLOCK]);
        let used = (self.count - number * HASHES_IN_BLOCK).min(HASHES_IN_BLOCK) as usize;
        chunk[..used * HASH].as_chunks_mut().0.fill(self.usual);
        chunk
    }

    /// Whether something else than what is usual was said of a block.
    pub(super) fn is_known(&self, block: u64) -> bool {
        let at = (block % HASHES_IN_BLOCK) as usize * HASH;
        self.chunks.get(&(block / HASHES_IN_BLOCK)).is_some_and(|chunk| chunk[at..at + HASH] != self.usual)
    }

    /// Says what blocks in a row hash to, from one on.
    pub(super) fn put(&mut self, block: u64, hashes: &[u8]) -> Result<()> {
        if block.checked_add((hashes.len() / HASH) as u64).is_none_or(|end| end > self.count) {
            return Err(Error::new(Status::Internal, "a disk with something behind its end"));
        }
        let (mut block, mut rest) = (block, hashes);
        while !rest.is_empty() {
            let (number, within) = (block / HASHES_IN_BLOCK, (block % HASHES_IN_BLOCK) as usize);
            let (now, later) = rest.split_at(rest.len().min(BLOCK - within * HASH));
            let place = within * HASH..within * HASH + now.len();
            if let Some(chunk) = self.chunks.get_mut(&number) {
                chunk[place].copy_from_slice(now);
            } else if now.as_chunks().0.iter().any(|hash: &[u8; HASH]| *hash != self.usual) {
                let mut chunk = self.usual_chunk(number);
                chunk[place].copy_from_slice(now);
                self.chunks.insert(number, chunk);
            }
            (block, rest) = (block + (now.len() / HASH) as u64, later);
        }
        Ok(())
    }

    /// Says of blocks from `to` on, of which nothing is known, what others say of so many from `from` on.
    pub(super) fn put_from(&mut self, others: &BlockHashes, from: u64, to: u64, count: u64) -> Result<()> {
        if from.checked_add(count).is_none_or(|end| end > others.count) {
            return Err(Error::new(Status::Internal, "a layer's disk with hashes of another"));
        }
        let end = from + count;
        for (&number, chunk) in others.chunks.range(from / HASHES_IN_BLOCK..end.div_ceil(HASHES_IN_BLOCK)) {
            let first = number * HASHES_IN_BLOCK;
            let (begin, end) = (from.max(first), end.min(first + HASHES_IN_BLOCK));
            let bytes = (begin - first) as usize * HASH..(end - first) as usize * HASH;
            self.put(to + (begin - from), &chunk[bytes])?;
        }
        Ok(())
    }

    /// Says what others say, where that is something else than what is usual. Nothing of it may be known already.
    pub(super) fn put_known(&mut self, others: &BlockHashes) -> Result<()> {
        for (&number, chunk) in &others.chunks {
            let first = number * HASHES_IN_BLOCK;
            let used = (others.count - first).min(HASHES_IN_BLOCK) as usize;
            for (place, hash) in chunk.as_chunks::<HASH>().0[..used].iter().enumerate() {
                let block = first + place as u64;
                if *hash == others.usual {
                    continue;
                }
                if self.is_known(block) {
                    return Err(Error::new(Status::Internal, "a block of a disk that is written twice"));
                }
                self.put(block, hash)?;
            }
        }
        Ok(())
    }

    /// How many blocks they take.
    pub(super) fn blocks(&self) -> u64 {
        self.count.div_ceil(HASHES_IN_BLOCK)
    }

    /// The hashes of the blocks that these take.
    pub(super) fn above(&self) -> BlockHashes {
        let mut usual = [0; BLOCK];
        usual.as_chunks_mut().0.fill(self.usual);
        let mut above = BlockHashes::all(self.blocks(), block_hash(&usual));
        for (&number, chunk) in &self.chunks {
            // It is as long as these have blocks.
            let _ = above.put(number, &block_hash(&chunk[..]));
        }
        above
    }

    /// The first of them.
    pub(super) fn first(&self) -> [u8; HASH] {
        let chunk = self.chunks.get(&0).and_then(|chunk| chunk.first_chunk());
        chunk.copied().unwrap_or(self.usual)
    }

    /// Hands over the blocks that they take, in turn.
    pub(super) fn write(&self, mut out: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut usual = [0; BLOCK];
        usual.as_chunks_mut().0.fill(self.usual);
        (0..self.blocks()).try_for_each(|number| out(self.chunks.get(&number).map_or(&usual[..], |chunk| &chunk[..])))
    }

    /// In the form in which they are kept: each block of hashes that has unusual ones, behind its number.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.chunks.len() * (NUMBER + BLOCK));
        for (number, chunk) in &self.chunks {
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&chunk[..]);
        }
        bytes
    }

    /// The most bytes that these are for so many blocks.
    pub(crate) fn most_bytes(count: u64) -> usize {
        usize::try_from(count.div_ceil(HASHES_IN_BLOCK)).unwrap_or(usize::MAX).saturating_mul(NUMBER + BLOCK)
    }

    /// Of so many blocks; `None` for bytes that no [`BlockHashes::to_bytes`] gave.
    pub(crate) fn from_bytes(count: u64, bytes: &[u8]) -> Option<BlockHashes> {
        let mut hashes = BlockHashes::of_zeros(count);
        let (entries, []) = bytes.as_chunks::<{ NUMBER + BLOCK }>() else { return None };
        for entry in entries {
            let (number, chunk) = entry.split_first_chunk::<NUMBER>()?;
            let number = u64::from_le_bytes(*number);
            if number >= hashes.blocks() {
                return None;
            }
            hashes.chunks.insert(number, Box::new(*chunk.first_chunk()?));
        }
        Some(hashes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(count: u64, places: &[u64]) -> BlockHashes {
        let mut hashes = BlockHashes::of_zeros(count);
        places.iter().for_each(|place| hashes.put(*place, &[*place as u8 + 1; HASH]).unwrap());
        hashes
    }

    fn written(hashes: &BlockHashes) -> Vec<u8> {
        let mut all = Vec::new();
        hashes
            .write(|bytes| {
                all.extend_from_slice(bytes);
                Ok(())
            })
            .unwrap();
        all
    }

    #[test]
    fn what_is_not_said_is_the_hash_of_zeros_and_zeros_are_behind_the_end() {
        for (count, places) in [(1, vec![]), (128, vec![0, 127]), (300, vec![5, 128, 299]), (128 * 3, vec![200])] {
            let zeros = block_hash(&[0; BLOCK]);
            let mut expected = zeros.repeat(count as usize);
            places.iter().for_each(|&at| expected[at as usize * HASH..][..HASH].fill(at as u8 + 1));
            expected.resize(expected.len().next_multiple_of(BLOCK), 0);
            let hashes = some(count, &places);
            assert_eq!(written(&hashes), expected, "{count}");
            let above: Vec<u8> = expected.chunks(BLOCK).flat_map(block_hash).collect();
            let found = written(&hashes.above());
            assert_eq!((&found[..above.len()], hashes.above().count()), (&above[..], expected.len() as u64 / 4096));
            assert_eq!(BlockHashes::from_bytes(count, &hashes.to_bytes()).as_ref(), Some(&hashes));
        }
        assert_eq!(BlockHashes::from_bytes(5, &[0; 9]), None);
        assert_eq!(BlockHashes::from_bytes(5, &[1; NUMBER + BLOCK]), None);
    }

    #[test]
    fn they_move() {
        let from = some(1000, &[3, 250, 251, 400, 999]);
        let mut to = some(700, &[650]);
        to.put_from(&from, 200, 30, 210).unwrap();
        let mut expected = some(700, &[650]);
        for (place, was) in [(80, 250u64), (81, 251), (230, 400)] {
            expected.put(place, &[was as u8 + 1; HASH]).unwrap();
        }
        assert_eq!(written(&to), written(&expected));
        assert!(to.put_from(&from, 900, 0, 101).is_err() && to.put(700, &[0; HASH]).is_err());
        let mut both = some(700, &[1]);
        both.put_known(&to).unwrap();
        let row = BlockHashes::in_a_row(&[Arc::new(some(5, &[4])), Arc::new(some(200, &[0, 199]))]).unwrap();
        let mut expected = some(205, &[4]);
        for (place, was) in [(5, 0u64), (204, 199)] {
            expected.put(place, &[was as u8 + 1; HASH]).unwrap();
        }
        assert_eq!(written(&row), written(&expected));
        assert!(both.is_known(1) && both.is_known(80) && both.is_known(650) && !both.is_known(2));
    }

    #[test]
    fn terabytes_of_zeros_take_no_room() {
        let hashes = some(1 << 32, &[7, 1 << 31]);
        assert_eq!(hashes.to_bytes().len(), 2 * (NUMBER + BLOCK));
        assert_eq!(hashes.above().above().above().above().count(), 16);
    }
}
