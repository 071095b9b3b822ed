//! The hashes of the blocks of layers' disks, for dm-verity. They are computed once for each layer, and kept in the store.

use std::sync::Arc;

use super::layers::Layers;
use crate::disk::{HASH, LayerDisk, hash_blocks};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::record::DISK_RECIPE;

/// Which hashes of layers' disks are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Hashes {
    Unwanted,
    /// Those that are kept, and otherwise computed and kept.
    Kept,
    /// Of what the disks have now.
    Computed,
}

impl Layers<'_> {
    /// A disk, with its hashes.
    pub(super) fn open_with(&self, number: u16, wanted: Hashes, interrupt: &Interrupt) -> Result<LayerDisk> {
        let (mut disk, _) = self.open(number)?;
        disk.hashes = match wanted {
            Hashes::Unwanted => None,
            Hashes::Kept => Some(Arc::new(self.kept_hashes(number, &disk, interrupt)?)),
            Hashes::Computed => Some(Arc::new(hash_blocks(&disk, interrupt)?)),
        };
        Ok(disk)
    }

    fn kept_hashes(&self, number: u16, disk: &LayerDisk, interrupt: &Interrupt) -> Result<Vec<u8>> {
        let Some((tree, diff_id)) = self.tree_name(number.into()).zip(self.diff_id(number)) else {
            return hash_blocks(disk, interrupt);
        };
        let of = format!("sha256, recipe {DISK_RECIPE}, {diff_id}");
        let bytes = disk.size()?.blocks as usize * HASH;
        if let Some(kept) = self.storage.block_hashes(&tree, &of, bytes)? {
            return Ok(kept);
        }
        let hashes = hash_blocks(disk, interrupt)?;
        // Without them the next one computes them again.
        if self.storage.directory.check_writable().is_ok()
            && let Err(error) = self.storage.keep_block_hashes(&tree, &of, &hashes, interrupt)
        {
            tracing::warn!("cannot keep the hashes of {tree}: {error}");
        }
        Ok(hashes)
    }
}
