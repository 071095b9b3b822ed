//! Manifests and configs: small JSON documents, kept byte for byte.
//!
//! The seed stored manifests pretty-printed, so that its files do not hash to their names. A document that does not is
//! therefore no damage to report but simply absent: the next save or commit replaces it. That check reads the whole
//! document, which is what makes `has_*` honest here and costs at most 4 MiB.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use super::documents::{blob_name, is_intact, read_intact};
use super::ingest::IngestSpec;
use super::partial::Partial;
use super::staged::Staged;
use super::storage::Storage;
use super::store_dir::Folder;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::{limits, oci};

impl Storage {
    /// Stores a manifest or index exactly as given. `DIGEST_MISMATCH` unless the bytes hash to `digest`; `MALFORMED`,
    /// `UNSUPPORTED` or `LIMIT` unless they are one (see [`oci::Document::parse`]). Saving what is there is success.
    pub fn save_manifest(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        self.save_manifest_within(digest, bytes, &Interrupt::default())
    }

    /// The same, for a call that may be ended.
    pub(crate) fn save_manifest_within(&self, digest: &Digest, bytes: &[u8], interrupt: &Interrupt) -> Result<()> {
        self.directory.check_writable()?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(bytes);
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::digest_mismatch("manifest", digest, &actual));
        }
        oci::Document::parse(bytes).map_err(|error| error.context(digest))?;
        let mut partial = Partial::create_file(&self.directory, Folder::Manifests, &digest.file_stem())?;
        partial.write_all(bytes)?;
        partial.publish(&blob_name(Folder::Manifests, digest), interrupt, |existing| is_intact(existing, digest))
    }

    /// Whether there is a file for it, intact or not.
    pub(crate) fn is_manifest_there(&self, digest: &Digest) -> Result<bool> {
        Ok(self.directory.stat(Folder::Manifests, &blob_name(Folder::Manifests, digest))?.is_some())
    }

    /// The manifest's exact bytes. `NOT_FOUND` where it is absent, or not intact.
    pub fn load_manifest(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.load_document(Folder::Manifests, "manifest", digest)
    }

    /// Whether [`Storage::load_manifest`] would find it.
    pub fn has_manifest(&self, digest: &Digest) -> Result<bool> {
        self.has_document(Folder::Manifests, digest)
    }

    /// Where the manifest is, or would be.
    pub fn manifest_path(&self, digest: &Digest) -> PathBuf {
        self.directory.object_path(Folder::Manifests, &blob_name(Folder::Manifests, digest))
    }

    /// Starts to store a config of unknown size, at most 4 MiB.
    pub fn stage_config(&self, digest: &Digest) -> Result<Staged> {
        self.directory.check_writable()?;
        let spec = IngestSpec {
            area: Folder::Configs,
            expected: Some(digest.clone()),
            algorithm: digest.algorithm(),
            expected_size: None,
            size_limit: limits::DOCUMENT_SIZE.default,
            min_free: self.min_free,
        };
        Staged::create(&self.directory, digest, spec)
    }

    /// The config's exact bytes. `NOT_FOUND` where it is absent, or not intact.
    pub fn load_config(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.load_document(Folder::Configs, "config", digest)
    }

    /// Whether [`Storage::load_config`] would find it.
    pub fn has_config(&self, digest: &Digest) -> Result<bool> {
        self.has_document(Folder::Configs, digest)
    }

    /// Where the config is, or would be.
    pub fn config_path(&self, digest: &Digest) -> PathBuf {
        self.directory.object_path(Folder::Configs, &blob_name(Folder::Configs, digest))
    }

    fn has_document(&self, area: Folder, digest: &Digest) -> Result<bool> {
        self.directory.check_not_forked()?;
        match self.directory.open_file(area, &blob_name(area, digest))? {
            Some(file) => is_intact(file.as_fd(), digest),
            None => Ok(false),
        }
    }

    fn load_document(&self, area: Folder, what: &str, digest: &Digest) -> Result<Vec<u8>> {
        self.directory.check_not_forked()?;
        let name = blob_name(area, digest);
        let Some(file) = self.directory.open_file(area, &name)? else {
            return Err(Error::new(Status::NotFound, format!("{what} {digest} is not in the store")));
        };
        let path = self.directory.object_path(area, &name);
        match read_intact(file.as_fd(), digest)
            .map_err(|error| error.context(format_args!("read {}", path.display())))?
        {
            Some(bytes) => Ok(bytes),
            None => Err(Error::new(
                Status::NotFound,
                format!("{what} {digest}: {} does not hash to its name and counts as absent", path.display()),
            )),
        }
    }
}
