//! Cache folders for local OCI bundles: image layouts that the host uses in place. Each gets a folder of its own in the
//! store, so that a bundle that somebody tampered with can never serve as a source for images from elsewhere.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::Storage;
use crate::digest::Digest;
use crate::error::{Error, Result};

pub(super) const FOLDER: &str = "local";

impl Storage {
    /// The cache folder of the bundle at `bundle_path` (which must exist; symlinks are resolved) in the state that its
    /// manifest digest names: `local/<sha256 of the real path>-<algorithm>-<hex>`. It is not created.
    pub fn local_bundle_cache_dir(&self, bundle_path: &Path, manifest_digest: &Digest) -> Result<PathBuf> {
        self.directory.check_alive()?;
        let real = bundle_path
            .canonicalize()
            .map_err(|cause| Error::io(&cause, format_args!("resolve bundle {}", bundle_path.display())))?;
        let location = Digest::of(real.as_os_str().as_bytes());
        Ok(self.directory.path().join(FOLDER).join(format!("{}-{}", location.hex(), manifest_digest.file_stem())))
    }
}
