//! The handle that hosts have: an open store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::layout_folder::LayoutFolder;
use super::store_dir::{Folder, StoreDir};

/// An open image store. Clones share it; all methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Storage {
    pub(crate) directory: Arc<StoreDir>,
    pub(super) max_blob_bytes: u64,
    pub(crate) min_free: u64,
    pub(crate) high_water: Option<u64>,
    pub(crate) gc_min_age: Option<Duration>,
    /// Where layers are found that this store does not have itself.
    pub(super) bundle: Option<Arc<LayoutFolder>>,
}

impl Storage {
    /// The store's directory, absolute.
    pub fn images_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The folder of the layers' blobs.
    pub fn layers_dir(&self) -> std::path::PathBuf {
        self.directory.path().join(Folder::Layers.name())
    }
}
