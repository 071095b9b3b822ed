//! One file with everything. The metadata of all layers comes first, and the content of the files
//! that are left behind it. That is in the order of the layers, so that it is copied in few pieces.
//! Where the file system can, the copy shares its blocks with the layers' disks.

use super::block::{BLOCK, too_many_blocks};
use super::erofs::DiskMetadata;
use super::id::DiskId;
use super::merge::MergedTree;
use super::parts::{LayerDisk, LayerSize, OpenPart, Run, used_runs};
use super::sink::DiskSink;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::unpack::Extent;

/// Where the blocks of the layers' disks come to be.
struct Moved {
    /// Sorted by where they come from.
    runs: Vec<(Run, u32)>,
}

impl Moved {
    fn new(runs: Vec<Run>, first: u64) -> Result<(Moved, u64)> {
        let mut at = first;
        let mut moved = Vec::with_capacity(runs.len());
        for run in runs {
            moved.push((run, u32::try_from(at).map_err(|_| too_many_blocks(at))?));
            at += run.blocks;
        }
        Ok((Moved { runs: moved }, at))
    }

    fn block_of(&self, extent: Extent) -> u32 {
        let found = self.runs.binary_search_by_key(&extent, |(run, _)| run.from);
        found.map_or(0, |at| self.runs[at].1)
    }

    /// The fewest pieces that a copy can be made in: runs that follow each other on a disk follow each other here.
    fn pieces(&self) -> Vec<(Run, u32)> {
        let mut pieces: Vec<(Run, u32)> = Vec::new();
        for &(run, to) in &self.runs {
            match pieces.last_mut() {
                Some((last, _))
                    if last.from.part == run.from.part
                        && u64::from(last.from.block) + last.blocks == u64::from(run.from.block) =>
                {
                    last.blocks += run.blocks;
                }
                _ => pieces.push((run, to)),
            }
        }
        pieces
    }
}

/// Hands over the disk; how many bytes it has. `check_room` is told how many may have to be written.
pub(crate) fn write_flat(
    merged: &MergedTree,
    (sizes, open): (&[LayerSize], &OpenPart<'_>),
    id: &DiskId,
    sink: &mut dyn DiskSink,
    check_room: impl FnOnce(u64) -> Result<()>,
    interrupt: &Interrupt,
) -> Result<u64> {
    let metadata = DiskMetadata::of(&merged.tree, interrupt)?;
    // The first block is the superblock's.
    let (moved, blocks) = Moved::new(used_runs(&metadata), 1 + metadata.blocks())?;
    // Before anything is written.
    let first = metadata.first_block((1, blocks), id)?;
    let allocated = sizes.iter().fold(0u64, |sum, size| sum.saturating_add(size.allocated));
    check_room((blocks * BLOCK as u64).min(allocated + (1 + metadata.blocks()) * BLOCK as u64))?;
    sink.size(blocks * BLOCK as u64)?;
    let mut at = BLOCK as u64;
    metadata.write(1, |extent| moved.block_of(extent), &mut |bytes| {
        sink.bytes(at, bytes)?;
        at += bytes.len() as u64;
        Ok(())
    })?;
    let mut opened: Option<(u16, LayerDisk)> = None;
    for (run, to) in moved.pieces() {
        let number = run.from.part;
        let part = match opened.take() {
            Some((already, part)) if already == number => part,
            _ => open(number)?,
        };
        sink.blocks(&part, u64::from(run.from.block), u64::from(to), run.blocks)?;
        opened = Some((number, part));
    }
    sink.bytes(0, &first)?;
    Ok(blocks * BLOCK as u64)
}
