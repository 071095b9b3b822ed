//! Layer blobs: large, compressed, kept byte for byte under the seed's `.tar.gz` name whatever their compression is.
//!
//! Their presence is a matter of their name alone, since a name appears only through a verified
//! commit. Reading them all to say whether they exist would cost what a download costs.
//! [`Storage::verify_layer`] reads.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;

use super::Staged;
use super::documents::blob_name;
use super::ingest::{Ingest, IngestSpec};
use super::options::VerifyOptions;
use super::storage::Storage;
use super::store_dir::{Folder, StoreDir};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::limits;
use crate::sys::is_regular;

/// How much is read at a time where a layer is only hashed.
const READ_BUFFER_BYTES: usize = 256 << 10;

impl Storage {
    /// Whether the layer's blob was committed.
    pub fn has_layer(&self, digest: &Digest) -> Result<bool> {
        self.directory.check_not_forked()?;
        Ok(self.layer_size(digest)?.is_some())
    }

    /// How large the layer's blob is, where there is one.
    fn layer_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let stat = self.directory.stat(Folder::Layers, &blob_name(Folder::Layers, digest))?;
        match (stat.filter(is_regular), &self.bundle) {
            (Some(stat), _) => Ok(Some(stat.st_size as u64)),
            // What is there and cannot be taken is not there.
            (None, Some(bundle)) => match bundle.open_blob(digest) {
                Err(error) if matches!(error.status(), Status::UnsafePath | Status::Permission) => Ok(None),
                found => Ok(found?.map(|file| file.size)),
            },
            (None, None) => Ok(None),
        }
    }

    /// Whether the store has the layer itself, of this size: verified when it came, which a bundle's file is not.
    #[cfg(feature = "pull")]
    pub(crate) fn owns_layer_of_size(&self, digest: &Digest, size: u64) -> Result<bool> {
        let stat = self.directory.stat(Folder::Layers, &blob_name(Folder::Layers, digest))?;
        Ok(stat.is_some_and(|stat| is_regular(&stat) && stat.st_size as u64 == size))
    }

    /// A layer that is a bundle's file, open for reading.
    pub(crate) fn open_bundled(&self, digest: &Digest) -> Result<Option<OwnedFd>> {
        let Some(bundle) = &self.bundle else { return Ok(None) };
        if self.directory.stat(Folder::Layers, &blob_name(Folder::Layers, digest))?.is_some() {
            return Ok(None);
        }
        // What cannot be taken is missing.
        Ok(bundle.open_blob(digest).ok().flatten().map(|blob| blob.file))
    }

    /// The most that a layer may have; `LIMIT` for one of more.
    pub(crate) fn check_blob_size(&self, digest: &Digest, size: u64) -> Result<()> {
        if size > self.max_blob_bytes {
            return Err(Error::limit(limits::BLOB_SIZE.name, self.max_blob_bytes, size, digest));
        }
        Ok(())
    }

    /// Whether all of these layers' blobs were committed; true for none.
    pub fn verify_blobs_exist(&self, digests: &[Digest]) -> Result<bool> {
        for digest in digests {
            if !self.has_layer(digest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads the layer's blob and checks that it hashes to its digest: `DIGEST_MISMATCH` where it does not, `NOT_FOUND`
    /// where there is none. Memory stays at 256 KiB.
    pub fn verify_layer(&self, digest: &Digest, options: &VerifyOptions) -> Result<()> {
        let file = self.open_layer(digest)?;
        let path = self.layer_tarball_path(digest);
        let fail = |errno| Error::os(errno, format_args!("read {}", path.display()));
        let (actual, _) = hash(file.as_fd(), digest.algorithm(), u64::MAX, &options.interrupt, |_| Ok(()), fail)
            .map_err(|error| error.context(format_args!("verifying {}", path.display())))?;
        if actual != *digest {
            return Err(Error::digest_mismatch(path.display(), digest, &actual));
        }
        Ok(())
    }

    /// Where the layer's blob is, or would be; of a bundle that is used in place, its own file.
    pub fn layer_tarball_path(&self, digest: &Digest) -> PathBuf {
        if let Some(bundle) = &self.bundle
            && let Ok(None) = self.directory.stat(Folder::Layers, &blob_name(Folder::Layers, digest))
        {
            return bundle.blob_path(digest);
        }
        self.directory.object_path(Folder::Layers, &blob_name(Folder::Layers, digest))
    }

    /// Where the extracted layer is, or would be.
    pub fn layer_extracted_path(&self, digest: &Digest) -> PathBuf {
        self.directory.object_path(Folder::Extracted, &digest.file_stem())
    }

    /// Whether the layer is there, of this size.
    pub(crate) fn has_layer_of_size(&self, digest: &Digest, size: u64) -> Result<bool> {
        Ok(self.layer_size(digest)? == Some(size))
    }

    /// Starts, or goes on, to store a layer that is downloaded; [`Staged::keep`] leaves it for later.
    #[cfg(feature = "pull")]
    pub(crate) fn resume_layer(&self, digest: &Digest, size: u64, interrupt: &Interrupt) -> Result<Staged> {
        self.directory.check_writable()?;
        let present = self.directory.stat(Folder::Layers, &super::partial::resumable_name(digest))?;
        // What is reserved is there too, also behind what was written.
        let present = present.map_or(0, |stat| (stat.st_size as u64).max(stat.st_blocks as u64 * 512));
        let missing = if size <= self.max_blob_bytes { size.saturating_sub(present) } else { 0 };
        self.make_room(missing, digest, interrupt)?;
        Staged::resume(&self.directory, digest, size, self.layer_spec(digest.algorithm(), Some(digest), Some(size)))
    }

    /// Starts to store a layer. A size of `None` means unknown; then the store's blob size limit holds. Disk space for a
    /// known size is reserved; `NO_SPACE`, with the numbers, where there is not enough.
    pub fn stage_layer(&self, digest: &Digest, expected_size: Option<u64>) -> Result<Staged> {
        self.directory.check_writable()?;
        let max = expected_size.filter(|&size| size <= self.max_blob_bytes);
        self.make_room(max.unwrap_or(0), digest, &Interrupt::default())?;
        let spec = self.layer_spec(digest.algorithm(), Some(digest), expected_size);
        Staged::create(&self.directory, digest, spec)
    }

    /// Begins to store a layer whose digest nobody has said yet. An archive declares its size, and a commit does not know it.
    pub(crate) fn stage_unnamed(
        &self,
        algorithm: Algorithm,
        size: Option<u64>,
        interrupt: &Interrupt,
    ) -> Result<UnnamedLayer> {
        self.directory.check_writable()?;
        let spec = self.layer_spec(algorithm, None, size);
        spec.check_declared()?;
        self.make_room(size.unwrap_or(0), "a layer", interrupt)?;
        Ok(UnnamedLayer { directory: self.directory.clone(), ingest: Ingest::begin(&self.directory, spec)? })
    }

    fn layer_spec(&self, algorithm: Algorithm, expected: Option<&Digest>, expected_size: Option<u64>) -> IngestSpec {
        IngestSpec {
            area: Folder::Layers,
            expected: expected.cloned(),
            algorithm,
            expected_size,
            size_limit: self.max_blob_bytes,
            min_free: self.min_free,
        }
    }

    /// The layer's blob, open for reading.
    pub(crate) fn open_layer(&self, digest: &Digest) -> Result<OwnedFd> {
        self.directory.check_not_forked()?;
        let mut file = self.directory.open_file(Folder::Layers, &blob_name(Folder::Layers, digest))?;
        if file.is_none()
            && let Some(bundle) = &self.bundle
        {
            let found = bundle.open_blob(digest)?;
            if let Some(blob) = &found {
                self.check_blob_size(digest, blob.size)?;
            }
            file = found.map(|blob| blob.file);
        }
        file.ok_or_else(|| Error::new(Status::NotFound, format!("layer {digest} is not in the store")))
    }
}

/// A layer's blob that is being written, whose digest is known at the end. Dropping it leaves nothing.
pub(crate) struct UnnamedLayer {
    directory: Arc<StoreDir>,
    ingest: Ingest,
}

impl UnnamedLayer {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.ingest.write(bytes)
    }

    /// Makes it visible under the digest that it has, which is what `before` may refuse.
    pub(crate) fn commit(self, interrupt: &Interrupt, before: impl FnOnce(&Digest) -> Result<()>) -> Result<Digest> {
        self.directory.check_not_forked()?;
        self.ingest.commit(interrupt, before)
    }
}

/// The digest and the length of what a file has from its beginning on, or of its first bytes where it has more than `most`.
/// `tell` gets the length of every piece.
pub(super) fn hash(
    file: BorrowedFd<'_>,
    algorithm: Algorithm,
    most: u64,
    interrupt: &Interrupt,
    mut tell: impl FnMut(usize) -> Result<()>,
    failed: impl Fn(Errno) -> Error,
) -> Result<(Digest, u64)> {
    let (mut hasher, mut length) = (Hasher::new(algorithm), 0);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        interrupt.check()?;
        match rustix::io::pread(file, &mut buffer[..], length) {
            Ok(0) => return Ok((hasher.finish(), length)),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                length += n as u64;
                tell(n)?;
                if length > most {
                    return Ok((hasher.finish(), length));
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}
