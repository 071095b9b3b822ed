//! Layout folders that are used in place ("bundles"): each gets a store of its own inside this one, whose layers are the
//! folder's files ([`Storage::within_bundle`]). So a bundle that somebody tampered with is never a source for images from
//! elsewhere.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout_folder::LayoutFolder;
use super::options::StorageOptions;
use super::storage::Storage;
use super::store_dir::BUNDLES;
use crate::digest::Digest;
use crate::error::{Error, Result};

impl Storage {
    /// The cache folder of the bundle at `bundle_path` (which must exist; symlinks are resolved) in the state that its
    /// manifest digest names: `local/<sha256 of the real path>-<algorithm>-<hex>`. It is not created.
    pub fn local_bundle_cache_dir(&self, bundle_path: &Path, manifest_digest: &Digest) -> Result<PathBuf> {
        self.directory.check_not_forked()?;
        let real = bundle_path
            .canonicalize()
            .map_err(|cause| Error::io(&cause, format_args!("resolve bundle {}", bundle_path.display())))?;
        Ok(self.cache_dir(&real, manifest_digest))
    }

    fn cache_dir(&self, real: &Path, manifest_digest: &Digest) -> PathBuf {
        let location = Digest::of(real.as_os_str().as_bytes());
        self.directory.path().join(BUNDLES).join(format!("{}-{}", location.hex(), manifest_digest.file_stem()))
    }

    /// The store in the cache folder of a bundle (whose path is real), created where it is missing, that finds layers in the bundle too.
    pub(crate) fn within_bundle(&self, bundle: Arc<LayoutFolder>, manifest_digest: &Digest) -> Result<Storage> {
        let options = StorageOptions {
            durability: self.directory.durability(),
            single_process: self.directory.is_single_process(),
            min_free_bytes: self.min_free,
            max_blob_bytes: Some(self.max_blob_bytes),
            ..StorageOptions::default()
        };
        let mut storage = Storage::open(self.cache_dir(&bundle.path, manifest_digest), &options)?;
        storage.bundle = Some(bundle);
        Ok(storage)
    }
}
