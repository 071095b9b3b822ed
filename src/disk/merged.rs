//! A disk of several files: metadata of all layers, and the layers' own disks behind it as they
//! are. A file's place on the whole is that on its layer's disk, moved by what is in front of that.
//! So nothing needs a table of devices, and Linux 5.4 reads it.

use super::block::{BLOCK, too_many_blocks};
use super::erofs::DiskMetadata;
use super::id::DiskId;
use super::merge::MergedTree;
use super::parts::{LayerSize, used_runs};
use super::sink::DiskSink;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::unpack::Extent;

/// What a disk of several files came to.
pub(crate) struct MergedDisk {
    /// Bytes of the file with the metadata.
    pub(crate) metadata_bytes: u64,
    /// The parts behind it by their numbers, with their bytes: those that files are in.
    pub(crate) parts: Vec<(usize, u64)>,
}

/// Hands over the file with the metadata.
pub(crate) fn write_merged(
    merged: &MergedTree,
    sizes: &[LayerSize],
    id: &DiskId,
    sink: &mut dyn DiskSink,
    interrupt: &Interrupt,
) -> Result<MergedDisk> {
    let metadata = DiskMetadata::of(&merged.tree, interrupt)?;
    let runs = used_runs(&metadata);
    let mut end = 1 + metadata.blocks();
    let mut disk = MergedDisk { metadata_bytes: end * BLOCK as u64, parts: Vec::new() };
    let mut begins = vec![0; sizes.len()];
    for (number, LayerSize { blocks, .. }) in sizes.iter().enumerate() {
        // One that no file is left in is left out.
        if runs.binary_search_by_key(&(number as u16), |run| run.from.part).is_err() {
            continue;
        }
        begins[number] = u32::try_from(end).map_err(|_| too_many_blocks(end))?;
        disk.parts.push((number, blocks * BLOCK as u64));
        end += blocks;
    }
    // Before anything is written.
    let first = metadata.first_block((1, end), id)?;
    sink.size(disk.metadata_bytes)?;
    let mut at = BLOCK as u64;
    metadata.write(1, |Extent { part, block }| begins[part as usize] + block, &mut |bytes| {
        sink.bytes(at, bytes)?;
        at += bytes.len() as u64;
        Ok(())
    })?;
    sink.bytes(0, &first)?;
    Ok(disk)
}
