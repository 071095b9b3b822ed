//! The hashes of a layer's disk, from what it has now.

use std::os::fd::{AsFd as _, OwnedFd};

use super::block_hashes::{BlockHashes, HASH, block_hash};
use crate::disk::block::BLOCK;
use crate::disk::parts::LayerDisk;
use crate::disk::sink::read_exactly;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::sys;
use crate::unpack::{Spend, Verdict};

/// How much is read at a time.
const READ_BLOCKS: u64 = 64;

/// The hashes of all blocks of a layer's disk, by two threads where there are processors for them.
pub(crate) fn hash_blocks(disk: &LayerDisk, interrupt: &Interrupt) -> Result<BlockHashes> {
    let blocks = disk.size()?.blocks;
    let middle = if sys::has_cores() { blocks / 2 } else { 0 };
    let own = |file: &OwnedFd| file.try_clone().map_err(|cause| Error::new(Status::Io, cause.to_string()));
    let (file, other_interrupt) = (own(&disk.file)?, interrupt.clone());
    let first_half =
        move || hash_range(&file, (0, middle, BlockHashes::of_zeros(blocks)), &mut |_| other_interrupt.check());
    let other = (middle > 0).then(|| sys::spawn("bl-verity", first_half));
    // Where a thread cannot be had, one does all of it.
    let other = other.and_then(std::io::Result::ok);
    let begin = if other.is_some() { middle } else { 0 };
    let none = BlockHashes::of_zeros(blocks);
    let second = hash_range(&disk.file, (begin, blocks, none), &mut |_| interrupt.check());
    let first = other.map(|thread| {
        thread.join().map_err(|_| Error::new(Status::Internal, "a thread that hashes has died")).and_then(|done| done)
    });
    match (first.transpose()?, second?) {
        (None, Some(hashes)) => Ok(hashes),
        (Some(Some(first)), Some(mut hashes)) => {
            hashes.put_known(&first)?;
            Ok(hashes)
        }
        _ => Err(disk.damaged()),
    }
}

/// The same by this thread alone, at somebody's pace.
pub(crate) fn hash_blocks_at_pace(disk: &LayerDisk, spend: &mut Spend<'_>) -> Result<BlockHashes> {
    let blocks = disk.size()?.blocks;
    hash_range(&disk.file, (0, blocks, BlockHashes::of_zeros(blocks)), spend)?.ok_or_else(|| disk.damaged())
}

/// `None` for a disk that is shorter than it was. Holes are not read.
fn hash_range(
    file: &OwnedFd,
    (begin, end, mut hashes): (u64, u64, BlockHashes),
    spend: &mut Spend<'_>,
) -> Result<Option<BlockHashes>> {
    let failed = |errno| Error::os(errno, "read a layer's disk");
    let mut at = begin;
    while at < end {
        let data = sys::next_data(file.as_fd(), at * BLOCK as u64).map_err(failed)?;
        let Some(data) = data.filter(|&data| data < end * BLOCK as u64) else { break };
        let hole = sys::next_hole(file.as_fd(), data).map_err(failed)?;
        // Data may begin and end within a block.
        at = data / BLOCK as u64;
        let behind = hole.div_ceil(BLOCK as u64).min(end);
        if behind <= at || hash_data(file, (at, behind), &mut hashes, spend)?.is_some() {
            return Ok(None);
        }
        at = behind;
    }
    let size = rustix::fs::fstat(file).map_err(failed)?.st_size as u64;
    Ok((size >= end * BLOCK as u64).then_some(hashes))
}

fn hash_data(
    file: &OwnedFd,
    (begin, end): (u64, u64),
    hashes: &mut BlockHashes,
    spend: &mut Spend<'_>,
) -> Result<Verdict> {
    let mut buffer = vec![0; READ_BLOCKS.min(end - begin) as usize * BLOCK];
    let mut of_buffer = Vec::with_capacity(buffer.len() / BLOCK * HASH);
    let mut at = begin;
    while at < end {
        let blocks = (end - at).min(READ_BLOCKS);
        let now = &mut buffer[..blocks as usize * BLOCK];
        spend(now.len() as u64)?;
        if let Some(why) = read_exactly(file.as_fd(), at * BLOCK as u64, now)? {
            return Ok(Some(why));
        }
        of_buffer.clear();
        now.chunks(BLOCK).for_each(|block| of_buffer.extend_from_slice(&block_hash(block)));
        hashes.put(at, &of_buffer)?;
        at += blocks;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn holes_are_not_read_and_hash_as_zeros() {
        let file = tempfile::tempfile().unwrap();
        let content = vec![7; 3 * BLOCK];
        // Eight terabytes, of which a few blocks are written, some of them on their edges.
        let (blocks, at) = (2u64 << 30, (1u64 << 30) * BLOCK as u64 + 100);
        if file.set_len(blocks * BLOCK as u64).is_err() {
            return;
        }
        file.write_all_at(&content, at).unwrap();
        let disk = LayerDisk { file: file.into(), name: "disk".into(), hashes: None::<Arc<BlockHashes>> };
        let mut expected = BlockHashes::of_zeros(blocks);
        let mut written = vec![0; 4 * BLOCK];
        written[100..100 + content.len()].copy_from_slice(&content);
        written.chunks(BLOCK).zip(1 << 30..).for_each(|(block, at)| expected.put(at, &block_hash(block)).unwrap());
        assert_eq!(hash_blocks(&disk, &Interrupt::default()).unwrap(), expected);
        let mut read = 0;
        let mut spend = |bytes| {
            read += bytes;
            Ok(())
        };
        assert_eq!(hash_blocks_at_pace(&disk, &mut spend).unwrap(), expected);
        assert!(read < 1 << 20, "{read}");
    }
}
