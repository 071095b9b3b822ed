//! The hashes of the blocks of layers' disks, for dm-verity. They are computed once for each layer, and kept in the store.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::layers::Layers;
use crate::digest::Digest;
use crate::disk::{BlockHashes, LayerDisk, hash_blocks, hash_blocks_at_pace};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::record::{DISK_RECIPE, RecordHead};
use crate::store::Storage;
use crate::unpack::Spend;

/// Which hashes of layers' disks are wanted.
#[derive(Clone, Copy)]
pub(super) enum Hashes<'a> {
    Unwanted,
    /// Those that are kept, and otherwise computed and kept.
    Kept,
    /// These, of each disk by its number.
    Given(&'a [Arc<BlockHashes>]),
}

impl Layers<'_> {
    /// A disk, with its hashes.
    pub(super) fn open_with(&self, number: u16, wanted: Hashes<'_>, interrupt: &Interrupt) -> Result<LayerDisk> {
        let (mut disk, record) = self.open(number)?;
        disk.hashes = match wanted {
            Hashes::Unwanted => None,
            Hashes::Kept => Some(Arc::new(self.kept_hashes(number, (&disk, &record), interrupt)?)),
            Hashes::Given(hashes) => hashes.get(number as usize).cloned(),
        };
        Ok(disk)
    }

    /// Of what the disks have now, which is read at somebody's pace: what is kept is no measure for a check.
    pub(super) fn computed_hashes(&self, spend: &mut Spend<'_>) -> Result<Vec<Arc<BlockHashes>>> {
        let hashes = |number| Ok(Arc::new(hash_blocks_at_pace(&self.open(number)?.0, spend)?));
        (0..self.sizes.len() as u16).map(hashes).collect()
    }

    fn kept_hashes(
        &self,
        number: u16,
        (disk, record): (&LayerDisk, &OwnedFd),
        interrupt: &Interrupt,
    ) -> Result<BlockHashes> {
        // What the record says of the disk, which a check goes by too.
        let diff_id = RecordHead::read(record.as_fd())?.and_then(|head| head.diff_id);
        let Some((tree, diff_id)) = self.tree_name(number.into()).zip(diff_id) else {
            return hash_blocks(disk, interrupt);
        };
        let of = hashes_of(&diff_id);
        let blocks = disk.size()?.blocks;
        let kept = self.storage.block_hashes(&tree, &of, BlockHashes::most_bytes(blocks))?;
        if let Some(kept) = kept.and_then(|bytes| BlockHashes::from_bytes(blocks, &bytes)) {
            return Ok(kept);
        }
        let hashes = hash_blocks(disk, interrupt)?;
        // Without them the next one computes them again.
        if self.storage.directory.check_writable().is_ok()
            && let Err(error) = self.storage.keep_block_hashes(&tree, &of, &hashes.to_bytes(), interrupt)
        {
            tracing::warn!("cannot keep the hashes of {tree}: {error}");
        }
        Ok(hashes)
    }
}

impl Storage {
    /// Whether the hashes that are kept of a layer's disk, which is what was written, are those of its blocks. They are where none
    /// are kept.
    pub(crate) fn verify_block_hashes(
        &self,
        tree: &str,
        (file, diff_id): (OwnedFd, &Digest),
        spend: &mut Spend<'_>,
    ) -> Result<bool> {
        let disk = LayerDisk { file, name: tree.to_owned(), hashes: None };
        let blocks = disk.size()?.blocks;
        // What does not say that it is of this disk is not taken for its hashes either.
        let kept = self.block_hashes(tree, &hashes_of(diff_id), BlockHashes::most_bytes(blocks))?;
        let kept = kept.and_then(|bytes| BlockHashes::from_bytes(blocks, &bytes));
        kept.map_or(Ok(true), |kept| Ok(kept == hash_blocks_at_pace(&disk, spend)?))
    }
}

/// What kept hashes are of.
fn hashes_of(diff_id: &Digest) -> String {
    format!("sha256, recipe {DISK_RECIPE}, {diff_id}")
}
