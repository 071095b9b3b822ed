//! A staged download: bytes of one blob on their way into the store, hashed while they are written.
//!
//! Hashing and writing happen on the caller's thread, piece by piece while the bytes are in the cache: no copy of them,
//! no queue, no runtime. Any failure ends the download for good and frees its disk space at once, because after a failed
//! or short write nobody can say which bytes the file holds.

use std::path::PathBuf;
#[cfg(feature = "pull")]
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "pull")]
use std::task::{Context, Poll};

use super::directory::{Area, Directory};
use super::documents;
use super::partial::Partial;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::limits;

/// Hash and write alternate in pieces of this many bytes: small enough for the second to find them in the cache.
const PIECE: usize = 128 << 10;

/// From this size on disk space is reserved before anything is written.
const RESERVED: u64 = 1 << 20;

/// How many bytes are written between two looks at the free space, where the host wants some.
const LOOK: u64 = 16 << 20;

/// A blob that is being written. Nothing is visible before [`Staged::commit`]; dropping it without leaves nothing.
#[derive(Debug)]
pub struct Staged {
    directory: Arc<Directory>,
    area: Area,
    digest: Digest,
    /// The declared size, where it is known.
    expected_size: Option<u64>,
    /// Without a declared size this many bytes are too many.
    size_limit: u64,
    /// Bytes of the file system that are to stay free.
    min_free: u64,
    staged_path: PathBuf,
    final_path: PathBuf,
    written: Arc<AtomicU64>,
    state: State,
}

#[derive(Debug)]
enum State {
    Open { partial: Partial, hasher: Box<Hasher> },
    Committed,
    Aborted,
    Failed(String),
}

impl Staged {
    pub(super) fn create(
        directory: &Arc<Directory>,
        area: Area,
        digest: &Digest,
        expected_size: Option<u64>,
        size_limit: u64,
        min_free: u64,
    ) -> Result<Staged> {
        if let Some(size) = expected_size.filter(|&size| size > size_limit) {
            return Err(Error::limit(limit_of(area).name, size_limit, size, digest));
        }
        let partial = Partial::create_file(directory, area, &digest.file_stem())?;
        Staged::begin(directory, area, digest, expected_size, size_limit, min_free, partial)
    }

    /// Goes on with what an earlier one kept ([`Staged::keep`]), or its death left: those bytes are hashed again, so that
    /// what counts is what is on the disk. Whoever calls holds the lock on the download.
    #[cfg(feature = "pull")]
    pub(super) fn resume(
        directory: &Arc<Directory>,
        area: Area,
        digest: &Digest,
        expected_size: u64,
        size_limit: u64,
        min_free: u64,
    ) -> Result<Staged> {
        if expected_size > size_limit {
            return Err(Error::limit(limit_of(area).name, size_limit, expected_size, digest));
        }
        let partial = Partial::open_resumable(directory, area, digest)?;
        let mut staged = Staged::begin(directory, area, digest, Some(expected_size), size_limit, min_free, partial)?;
        if let State::Open { partial, hasher } = &mut staged.state {
            let present = partial.rehash(expected_size, PIECE, |piece| hasher.update(piece))?;
            staged.written.store(present, Ordering::Relaxed);
        }
        Ok(staged)
    }

    /// Ends without removing what was written, for a later one to go on with ([`Staged::resume`]).
    #[cfg(feature = "pull")]
    pub(crate) fn keep(mut self) {
        let written = self.bytes_written();
        if let State::Open { partial, .. } = std::mem::replace(&mut self.state, State::Aborted) {
            partial.keep(written);
        }
    }

    fn begin(
        directory: &Arc<Directory>,
        area: Area,
        digest: &Digest,
        expected_size: Option<u64>,
        size_limit: u64,
        min_free: u64,
        partial: Partial,
    ) -> Result<Staged> {
        if let Some(size) = expected_size.filter(|&size| size >= RESERVED) {
            partial.reserve(size)?;
        }
        Ok(Staged {
            directory: directory.clone(),
            area,
            digest: digest.clone(),
            expected_size,
            size_limit,
            min_free,
            staged_path: partial.path(),
            final_path: directory.object_path(area, &super::blob_name(area, digest)),
            written: Arc::default(),
            state: State::Open { partial, hasher: Box::new(Hasher::new(digest.algorithm())) },
        })
    }

    /// Appends bytes. `SIZE_MISMATCH` at the first byte over the declared size, `LIMIT` over the size limit where none
    /// was declared, `NO_SPACE` and the like from the disk; each of them ends the download. `STATE` after the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.directory.check_alive()?;
        let result = self.try_write(bytes);
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
        self.directory.check_alive()?;
        let result = self.try_commit(interrupt);
        self.ending_on_failure(result)
    }

    /// Ends the download and removes what was written. Doing so twice, or after a failure, is no error; after a commit
    /// it is `STATE`.
    pub fn abort(&mut self) -> Result<()> {
        self.directory.check_alive()?;
        if let State::Committed = self.state {
            return Err(self.wrong_state());
        }
        self.state = State::Aborted;
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

    /// Whether the store may be used in this process; see [`Directory::check_alive`].
    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// The running count behind [`Staged::bytes_written`], for a thread that only watches.
    pub fn progress(&self) -> Arc<AtomicU64> {
        self.written.clone()
    }

    /// The partial file, for messages and debugging. It belongs to this object.
    pub fn staged_path(&self) -> &std::path::Path {
        &self.staged_path
    }

    /// Where the blob will be after the commit.
    pub fn final_path(&self) -> &std::path::Path {
        &self.final_path
    }

    /// What is written, open for a reader who follows.
    #[cfg(feature = "pull")]
    pub(crate) fn reader(&self) -> Result<std::os::fd::OwnedFd> {
        let State::Open { partial, .. } = &self.state else { return Err(self.wrong_state()) };
        partial.handle().try_clone_to_owned().map_err(|cause| Error::io(&cause, "open a partial file"))
    }

    fn try_write(&mut self, bytes: &[u8]) -> Result<()> {
        let State::Open { partial, hasher } = &mut self.state else { return Err(self.wrong_state()) };
        let written = self.written.load(Ordering::Relaxed);
        let total = written.saturating_add(bytes.len() as u64);
        match self.expected_size {
            Some(size) if total > size => {
                return Err(Error::new(
                    Status::SizeMismatch,
                    format!("{}: declared as {size} bytes, got at least {total}", self.digest),
                ));
            }
            None if total > self.size_limit => {
                return Err(Error::limit(limit_of(self.area).name, self.size_limit, total, &self.digest));
            }
            _ => {}
        }
        // What was declared was looked at before.
        if self.min_free > 0 && self.expected_size.is_none() && total / LOOK > written / LOOK {
            let (free, _) = self.directory.space()?;
            if free < self.min_free {
                let why = format!("{}: {free} bytes free, and {} are to stay so", self.digest, self.min_free);
                return Err(Error::no_space(why));
            }
        }
        for piece in bytes.chunks(PIECE) {
            hasher.update(piece);
            partial.write_all(piece)?;
        }
        self.written.store(total, Ordering::Relaxed);
        Ok(())
    }

    fn try_commit(&mut self, interrupt: &Interrupt) -> Result<()> {
        if !matches!(self.state, State::Open { .. }) {
            return Err(self.wrong_state());
        }
        let State::Open { partial, hasher } = std::mem::replace(&mut self.state, State::Aborted) else {
            return Err(self.wrong_state());
        };
        let written = self.written.load(Ordering::Relaxed);
        if let Some(size) = self.expected_size.filter(|&size| size != written) {
            return Err(Error::new(
                Status::SizeMismatch,
                format!("{}: declared as {size} bytes, got {written}", self.digest),
            ));
        }
        let actual = hasher.finish();
        if actual != self.digest {
            return Err(Error::digest_mismatch(self.final_path.display(), &self.digest, &actual));
        }
        let name = super::blob_name(self.area, &self.digest);
        partial.publish(&name, interrupt, |existing| match self.area {
            // Whatever is there was not hashed today; what we have was.
            Area::Layers => Ok(false),
            _ => documents::is_intact(existing, &self.digest),
        })?;
        self.state = State::Committed;
        tracing::info!("committed {} ({written} bytes) to {}", self.digest, self.final_path.display());
        Ok(())
    }

    /// A failure of the download itself ends it; being asked at the wrong time does not.
    fn ending_on_failure(&mut self, result: Result<()>) -> Result<()> {
        if let Err(error) = &result
            && error.status() != Status::State
        {
            // Replacing the state drops the partial, and with it the file.
            self.state = State::Failed(error.message().to_owned());
        }
        result
    }

    fn wrong_state(&self) -> Error {
        let why = match &self.state {
            State::Open { .. } => "is open".into(),
            State::Committed => "was committed".into(),
            State::Aborted => "was aborted".into(),
            State::Failed(why) => format!("failed earlier: {why}"),
        };
        Error::new(Status::State, format!("staged download of {} {why}", self.digest))
    }
}

fn limit_of(area: Area) -> limits::Limit {
    if area == Area::Layers { limits::BLOB_SIZE } else { limits::DOCUMENT_SIZE }
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
