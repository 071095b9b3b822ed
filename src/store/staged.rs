//! A staged download, as hosts have it: a blob of a known digest that is being written ([`super::ingest`]).
//!
//! Any failure ends the download for good and frees its disk space at once. After a failed or short
//! write nobody can say which bytes the file holds.

use std::path::{Path, PathBuf};
#[cfg(feature = "pull")]
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "pull")]
use std::task::{Context, Poll};

use super::documents::blob_name;
use super::ingest::{Ingest, IngestSpec};
use super::store_dir::StoreDir;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;

/// A blob that is being written. Nothing is visible before [`Staged::commit`]; dropping it without leaves nothing.
#[derive(Debug)]
pub struct Staged {
    directory: Arc<StoreDir>,
    digest: Digest,
    staged_path: PathBuf,
    final_path: PathBuf,
    written: Arc<AtomicU64>,
    /// The file; or, after a write that failed, why there is none any more.
    ingest: Result<Box<Ingest>>,
}

impl Staged {
    pub(super) fn create(directory: &Arc<StoreDir>, digest: &Digest, spec: IngestSpec) -> Result<Staged> {
        let area = spec.area;
        let ingest = Ingest::begin(directory, spec)?;
        Ok(Staged::of(directory, digest, directory.object_path(area, &blob_name(area, digest)), ingest))
    }

    /// Goes on with what an earlier one kept ([`Staged::keep`]), or its death left. Whoever calls holds the lock on the
    /// download.
    #[cfg(feature = "pull")]
    pub(super) fn resume(directory: &Arc<StoreDir>, digest: &Digest, size: u64, spec: IngestSpec) -> Result<Staged> {
        let area = spec.area;
        let ingest = Ingest::resume(directory, spec, digest, size)?;
        Ok(Staged::of(directory, digest, directory.object_path(area, &blob_name(area, digest)), ingest))
    }

    fn of(directory: &Arc<StoreDir>, digest: &Digest, final_path: PathBuf, ingest: Ingest) -> Staged {
        Staged {
            directory: directory.clone(),
            digest: digest.clone(),
            staged_path: ingest.partial().path(),
            final_path,
            written: ingest.written().clone(),
            ingest: Ok(Box::new(ingest)),
        }
    }

    /// Ends without removing what was written, for a later one to go on with ([`Staged::resume`]).
    #[cfg(feature = "pull")]
    pub(crate) fn keep(self) {
        if let Ok(ingest) = self.ingest {
            ingest.keep();
        }
    }

    /// Appends bytes. `SIZE_MISMATCH` at the first byte over the declared size, `LIMIT` over the
    /// size limit where none was declared, `NO_SPACE` and the like from the disk. Each of them ends
    /// the download. `STATE` after that.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.directory.check_not_forked()?;
        let ingest = self.ingest.as_mut().map_err(|failed| ended(&self.digest, failed))?;
        let result = ingest.write(bytes);
        if let Err(error) = &result {
            // Replacing it drops the partial, and with it the file.
            self.ingest = Err(error.clone());
        }
        result
    }

    /// Verifies size and digest and makes the blob visible; when this returns it is as durable as the store promises.
    /// That the store has the blob already is success: a layer takes its place, so that damage does not stay.
    /// `SIZE_MISMATCH` or `DIGEST_MISMATCH` leave nothing behind. `STATE` after a write that failed.
    pub fn commit(self) -> Result<()> {
        self.commit_within(&Interrupt::default())
    }

    /// The same, for a call that may be ended.
    pub(crate) fn commit_within(self, interrupt: &Interrupt) -> Result<()> {
        self.directory.check_not_forked()?;
        let ingest = self.ingest.map_err(|failed| ended(&self.digest, &failed))?;
        ingest.commit(interrupt, |_| Ok(()))?;
        Ok(())
    }

    /// Ends the download and removes what was written, as dropping it does.
    pub fn abort(self) {}

    /// The digest that the bytes must have.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many bytes were written so far.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether the store may be used in this process; see [`StoreDir::check_not_forked`].
    pub(crate) fn directory(&self) -> &Arc<StoreDir> {
        &self.directory
    }

    /// The running count behind [`Staged::bytes_written`], for a thread that only watches.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.written.clone()
    }

    /// The partial file, for messages and debugging. It belongs to this object.
    pub fn staged_path(&self) -> &Path {
        &self.staged_path
    }

    /// Where the blob will be after the commit.
    pub fn final_path(&self) -> &Path {
        &self.final_path
    }

    /// What is written, open for a reader who follows.
    #[cfg(feature = "pull")]
    pub(crate) fn reader(&self) -> Result<std::os::fd::OwnedFd> {
        let ingest = self.ingest.as_ref().map_err(|failed| ended(&self.digest, failed))?;
        ingest.partial().handle().try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a partial file"))
    }
}

/// `STATE`: the download failed before.
fn ended(digest: &Digest, failed: &Error) -> Error {
    Error::new(Status::State, format!("staged download of {digest} failed earlier: {}", failed.message()))
}

/// A staged download is a writer, for code that copies from a reader. Errors carry the [`Error`] inside.
impl std::io::Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Staged::write(self, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The same for tokio, so that a registry client's `pull_blob(image, layer, &mut staged)` stores
/// what it pulls. A write is done when it returns and takes as long as one to a file in the page
/// cache. Nothing is handed to another thread. Shutting it down does not commit it.
#[cfg(feature = "pull")]
impl tokio::io::AsyncWrite for Staged {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Poll::Ready(std::io::Write::write(&mut *self, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
