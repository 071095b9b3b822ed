//! What disks are counted in.

use crate::error::Error;

/// Bytes of a block of a disk.
pub(super) const BLOCK: usize = 4096;

/// The same, for whoever reads a layer's disk.
pub(crate) const BLOCK_BYTES: u64 = BLOCK as u64;

/// `LIMIT` for a disk of more blocks than 32 bits can say: 16 TiB.
pub(super) fn too_many_blocks(blocks: u64) -> Error {
    Error::limit("blocks of a disk", u64::from(u32::MAX), blocks, "disk")
}
