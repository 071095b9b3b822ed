//! A staged download, as hosts have it: a blob of a known digest that is being written ([`super::ingest`]).
//!
//! Any failure ends the download for good and frees its disk space at once, because after a failed or short write nobody
//! can say which bytes the file holds.

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
    state: StagedState,
}

#[derive(Debug)]
enum StagedState {
    Open(Box<Ingest>),
    Committed,
    Aborted,
    Failed(String),
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
            state: StagedState::Open(Box::new(ingest)),
        }
    }

    /// Ends without removing what was written, for a later one to go on with ([`Staged::resume`]).
    #[cfg(feature = "pull")]
    pub(crate) fn keep(mut self) {
        if let StagedState::Open(ingest) = std::mem::replace(&mut self.state, StagedState::Aborted) {
            ingest.keep();
        }
    }

    /// Appends bytes. `SIZE_MISMATCH` at the first byte over the declared size, `LIMIT` over the size limit where none
    /// was declared, `NO_SPACE` and the like from the disk; each of them ends the download. `STATE` after the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.directory.check_not_forked()?;
        let result = match &mut self.state {
            StagedState::Open(ingest) => ingest.write(bytes),
            _ => Err(self.wrong_state()),
        };
        self.ending_on_failure(result)
    }

    /// Verifies size and digest and makes the blob visible; when this returns it is as durable as the store promises.
    /// That the store has the blob already is success: a layer takes its place, so that damage does not stay.
    /// `SIZE_MISMATCH` or `DIGEST_MISMATCH` leave nothing behind.
    pub fn commit(&mut self) -> Result<()> {
        self.commit_within(&Interrupt::default())
    }

    /// The same, for a call that may be ended.
    pub(crate) fn commit_within(&mut self, interrupt: &Interrupt) -> Result<()> {
        self.directory.check_not_forked()?;
        let result = self.try_commit(interrupt);
        self.ending_on_failure(result)
    }

    /// Ends the download and removes what was written. Doing so twice, or after a failure, is no error; after a commit
    /// it is `STATE`.
    pub fn abort(&mut self) -> Result<()> {
        self.directory.check_not_forked()?;
        if let StagedState::Committed = self.state {
            return Err(self.wrong_state());
        }
        self.state = StagedState::Aborted;
        Ok(())
    }

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
        let StagedState::Open(ingest) = &self.state else { return Err(self.wrong_state()) };
        ingest.partial().handle().try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a partial file"))
    }

    fn try_commit(&mut self, interrupt: &Interrupt) -> Result<()> {
        if !matches!(self.state, StagedState::Open(_)) {
            return Err(self.wrong_state());
        }
        let StagedState::Open(ingest) = std::mem::replace(&mut self.state, StagedState::Aborted) else {
            return Err(self.wrong_state());
        };
        ingest.commit(interrupt, |_| Ok(()))?;
        self.state = StagedState::Committed;
        Ok(())
    }

    /// A failure of the download itself ends it; being asked at the wrong time does not.
    fn ending_on_failure(&mut self, result: Result<()>) -> Result<()> {
        if let Err(error) = &result
            && error.status() != Status::State
        {
            // Replacing the state drops the partial, and with it the file.
            self.state = StagedState::Failed(error.message().to_owned());
        }
        result
    }

    fn wrong_state(&self) -> Error {
        let why = match &self.state {
            StagedState::Open(_) => "is open".into(),
            StagedState::Committed => "was committed".into(),
            StagedState::Aborted => "was aborted".into(),
            StagedState::Failed(why) => format!("failed earlier: {why}"),
        };
        Error::new(Status::State, format!("staged download of {} {why}", self.digest))
    }
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

/// The same for tokio, so that a registry client's `pull_blob(image, layer, &mut staged)` stores what it pulls. A write is
/// done when it returns and takes as long as one to a file in the page cache: nothing is handed to another thread.
/// Shutting it down does not commit it.
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
