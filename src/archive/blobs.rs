//! Where an archive's blobs are, and what an image of it consists of.

use crate::digest::Digest;
use crate::error::Result;
use crate::oci::{Descriptor, ImageManifest};
use crate::store::{CallLease, ImageName, Storage};

use super::options::ImportOptions;

/// What an image of an archive consists of; all of it is in the store.
pub(super) struct FoundImage {
    pub(super) digest: Digest,
    pub(super) manifest: ImageManifest,
    pub(super) index: Option<Digest>,
    pub(super) names: Vec<ImageName>,
    /// What led to the manifest, and the manifest, in a layout.
    pub(super) documents: Vec<Descriptor>,
}

/// Where the blobs of a layout are: a folder, or what was read of an archive.
pub(super) trait Blobs {
    /// A document that is no blob: `index.json`.
    fn file(&self, name: &str) -> Result<Vec<u8>>;
    fn has_blob(&self, digest: &Digest) -> bool;
    /// A document, verified. `NOT_FOUND` where it is not there.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;
    /// Puts a layer into the store, verified, or finds it there.
    fn layer(&self, storage: &Storage, descriptor: &Descriptor) -> Result<()>;
}

impl Storage {
    /// A document, stored as what it is.
    pub(super) fn save_document(
        &self,
        digest: &Digest,
        bytes: &[u8],
        options: &ImportOptions,
        lease: &CallLease,
    ) -> Result<()> {
        lease.lease().hold_unless(digest, &options.interrupt)?;
        self.save_manifest_within(digest, bytes, &options.interrupt)
    }

    pub(super) fn save_config(
        &self,
        digest: &Digest,
        bytes: &[u8],
        options: &ImportOptions,
        lease: &CallLease,
    ) -> Result<()> {
        lease.lease().hold_unless(digest, &options.interrupt)?;
        let mut staged = self.stage_config(digest)?;
        staged.write(bytes)?;
        staged.commit_within(&options.interrupt)
    }
}
