//! Layer blobs: large, compressed, kept byte for byte under the seed's `.tar.gz` name whatever their compression is.
//!
//! Their presence is a matter of their name alone, since a name appears only through a verified commit; reading them
//! all to say whether they exist would cost what a download costs. [`Storage::verify_layer`] reads.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;

use super::directory::{Area, is_regular};
use super::{Staged, Storage, blob_name};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;

impl Storage {
    /// Whether the layer's blob was committed.
    pub fn has_layer(&self, digest: &Digest) -> Result<bool> {
        self.directory.check_alive()?;
        let stat = self.directory.stat(Area::Layers, &blob_name(Area::Layers, digest))?;
        Ok(stat.is_some_and(|stat| is_regular(&stat)))
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
    pub fn verify_layer(&self, digest: &Digest, interrupt: &Interrupt) -> Result<()> {
        let file = self.open_layer(digest)?;
        let path = self.layer_tarball_path(digest);
        let fail = |errno| Error::os(errno, format_args!("read {}", path.display()));
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 256 << 10];
        loop {
            interrupt.check().map_err(|error| error.context(format_args!("verifying {}", path.display())))?;
            match rustix::io::read(&file, &mut buffer[..]) {
                Ok(0) => break,
                Ok(n) => hasher.update(&buffer[..n]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        let actual = hasher.finish();
        if actual != *digest {
            return Err(Error::digest_mismatch(path.display(), digest, &actual));
        }
        Ok(())
    }

    /// Where the layer's blob is, or would be.
    pub fn layer_tarball_path(&self, digest: &Digest) -> PathBuf {
        self.directory.object_path(Area::Layers, &blob_name(Area::Layers, digest))
    }

    /// Where the extracted layer is, or would be.
    pub fn layer_extracted_path(&self, digest: &Digest) -> PathBuf {
        self.directory.object_path(Area::Extracted, &digest.file_stem())
    }

    /// Whether the layer is there, of this size.
    pub(crate) fn has_layer_of_size(&self, digest: &Digest, size: u64) -> Result<bool> {
        let stat = self.directory.stat(Area::Layers, &blob_name(Area::Layers, digest))?;
        Ok(stat.is_some_and(|stat| is_regular(&stat) && stat.st_size as u64 == size))
    }

    /// Starts, or goes on, to store a layer that is downloaded; [`Staged::keep`] leaves it for later.
    #[cfg(feature = "pull")]
    pub(crate) fn resume_layer(&self, digest: &Digest, size: u64, interrupt: &Interrupt) -> Result<Staged> {
        self.directory.check_writable()?;
        let present = self.directory.stat(Area::Layers, &super::partial::resumable_name(digest))?;
        // What is reserved is there too, also behind what was written.
        let present = present.map_or(0, |stat| (stat.st_size as u64).max(stat.st_blocks as u64 * 512));
        let missing = if size <= self.max_blob_size { size.saturating_sub(present) } else { 0 };
        self.make_room(missing, digest, interrupt)?;
        Staged::resume(&self.directory, Area::Layers, digest, size, self.max_blob_size, self.min_free)
    }

    /// Starts to store a layer. A size of `None` means unknown; then the store's blob size limit holds. Disk space for a
    /// known size is reserved; `NO_SPACE`, with the numbers, where there is not enough.
    pub fn stage_layer(&self, digest: &Digest, expected_size: Option<u64>) -> Result<Staged> {
        self.directory.check_writable()?;
        let max = expected_size.filter(|&size| size <= self.max_blob_size);
        self.make_room(max.unwrap_or(0), digest, &Interrupt::default())?;
        Staged::create(&self.directory, Area::Layers, digest, expected_size, self.max_blob_size, self.min_free)
    }

    /// The layer's blob, open for reading.
    pub(crate) fn open_layer(&self, digest: &Digest) -> Result<OwnedFd> {
        self.directory.check_alive()?;
        self.directory
            .open_file(Area::Layers, &blob_name(Area::Layers, digest))?
            .ok_or_else(|| Error::new(Status::NotFound, format!("layer {digest} is not in the store")))
    }
}
