//! A layer as a disk: one pass over its entries writes their data from the second block on, and
//! keeps the nodes in memory. At the end the metadata follows the data, and the first block comes
//! last. So nothing need be known beforehand, and a file that was not finished is no file system.

use std::os::fd::{AsFd as _, OwnedFd};

use super::area::Area;
use super::block::BLOCK;
use super::erofs::DiskMetadata;
use super::id::DiskId;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::layer::Anomalies;
use crate::record::RecordWriter;
use crate::sys::write_all_at;
use crate::unpack::{Arena, MemoryTree, ROOT, TreeOptions, TreeWriter};

/// Where a layer's data goes: into an empty file, which is called `name` in messages.
pub(crate) fn layer_area(file: OwnedFd, name: String, min_free: u64) -> Area {
    // The first block is the superblock's.
    Area::new(file, name, 1, min_free)
}

/// Writes a layer's data, and says in the record where it is.
pub(crate) fn layer_writer<'a>(
    area: &'a mut Area,
    record: RecordWriter,
    options: &TreeOptions,
    interrupt: &Interrupt,
) -> TreeWriter<Arena<'a>> {
    TreeWriter::new(ROOT, Arena::new(area, true), record, options, interrupt)
}

/// Completes the disk of a layer whose data is written; what was odd about the metadata.
pub(crate) fn complete_layer(
    tree: &MemoryTree,
    area: Area,
    diff_id: &Digest,
    interrupt: &Interrupt,
) -> Result<Anomalies> {
    let (file, name, data_end) = area.finish()?;
    let metadata = DiskMetadata::of(tree, interrupt)?;
    let blocks = data_end + metadata.blocks();
    let failed = |errno| Error::os(errno, format_args!("write {name}"));
    let mut at = data_end * BLOCK as u64;
    metadata.write(data_end, |extent| extent.block, &mut |bytes| {
        interrupt.check()?;
        write_all_at(file.as_fd(), bytes, at).map_err(failed)?;
        at += bytes.len() as u64;
        Ok(())
    })?;
    let first = metadata.first_block((data_end, blocks), &DiskId::of_layer(diff_id))?;
    write_all_at(file.as_fd(), &first, 0).map_err(failed)?;
    Ok(if metadata.has_skipped_xattrs() { Anomalies::SKIPPED_XATTR } else { Anomalies::default() })
}
