//! The disks of layers that another disk takes its content from: which of their blocks are in use.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::block::BLOCK;
use super::erofs::DiskMetadata;
use super::verity::BlockHashes;
use crate::error::{Error, Result, Status};
use crate::unpack::Extent;

/// A layer's disk.
pub(crate) struct LayerDisk {
    pub(crate) file: OwnedFd,
    /// For messages.
    pub(crate) name: String,
    /// Of its blocks, where somebody wants to know.
    pub(crate) hashes: Option<Arc<BlockHashes>>,
}

/// How large a layer's disk is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerSize {
    pub(crate) blocks: u64,
    /// Bytes that it takes in its file system: fewer, where it has holes.
    pub(crate) allocated: u64,
}

impl LayerDisk {
    pub(crate) fn size(&self) -> Result<LayerSize> {
        let failed = |errno| Error::os(errno, format_args!("look at {}", self.name));
        let stat = rustix::fs::fstat(&self.file).map_err(failed)?;
        let (size, allocated) = (stat.st_size as u64, stat.st_blocks as u64 * 512);
        match size % BLOCK as u64 {
            0 if size > 0 => Ok(LayerSize { blocks: size / BLOCK as u64, allocated }),
            _ => Err(self.damaged()),
        }
    }

    pub(super) fn damaged(&self) -> Error {
        Error::new(Status::State, format!("{} is damaged; bl_check() mends it", self.name))
    }
}

/// Opens one of the disks, by its number. An image can have a thousand layers, so that they are not all open at a time.
pub(crate) type OpenPart<'a> = dyn Fn(u16) -> Result<LayerDisk> + 'a;

/// Blocks in a row of one disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Run {
    pub(super) from: Extent,
    pub(super) blocks: u64,
}

/// The blocks that files of a tree have, in the order of the layers and of their disks.
pub(super) fn used_runs(metadata: &DiskMetadata<'_>) -> Vec<Run> {
    let blocks = |size: u64| size.div_ceil(BLOCK as u64);
    let mut runs: Vec<Run> = metadata.files().map(|(from, size)| Run { from, blocks: blocks(size) }).collect();
    runs.sort_unstable();
    // A layer that an image has twice has its files once.
    runs.dedup();
    runs
}
