//! Opening a store: what it needs before anybody works with it.

use std::path::Path;
use std::sync::Arc;

use super::options::StorageOptions;
use super::partial::Partial;
use super::storage::Storage;
use super::store_dir::{Folder, StoreDir};
use super::{extracted, format, sweep};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::limits;

impl Storage {
    /// Opens the store in `images_dir`, creating the directory and its folders where they are missing, and sweeps away
    /// what dead processes left. `UNSUPPORTED` for a store of a newer format, and in a file system where file locks do
    /// not work.
    pub fn open(images_dir: impl AsRef<Path>, options: &StorageOptions) -> Result<Storage> {
        let directory = StoreDir::open(images_dir.as_ref(), options)?;
        if !directory.has_version() && !directory.is_read_only() {
            extracted::adopt(&directory)?;
            write_version(&directory)?;
        }
        if !options.read_only {
            if let Err(error) = extracted::drop_unsynced(&directory) {
                tracing::warn!("cannot remove trees of an earlier boot: {error}");
            }
            sweep::sweep(&directory);
        }
        Ok(Storage {
            directory,
            max_blob_bytes: options.max_blob_bytes.unwrap_or(limits::BLOB_SIZE.default),
            min_free: options.min_free_bytes,
            high_water: options.gc_above_bytes,
            gc_min_age: options.gc_min_age,
            bundle: None,
        })
    }
}

/// Two openers at once write the same bytes; whoever comes second finds the file there.
fn write_version(directory: &Arc<StoreDir>) -> Result<()> {
    let mut partial = Partial::create_file(directory, Folder::Root, format::FILE_NAME)?;
    partial.write_all(format!("{}\n", format::CURRENT_VERSION).as_bytes())?;
    partial.publish(format::FILE_NAME, &Interrupt::default(), |_| Ok(true))
}
