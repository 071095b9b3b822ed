//! Bytes of one blob on their way into the store: hashed while they are written, verified, and made visible.
//!
//! Hashing and writing happen on the caller's thread, piece by piece while the bytes are in the
//! cache. There is no copy of them, no queue, no runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::documents::{blob_name, is_intact};
use super::partial::Partial;
use super::store_dir::{Folder, StoreDir};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::limits::{self, Limit};

/// Hash and write alternate in pieces of this many bytes: small enough for the second to find them in the cache.
const PIECE_BYTES: usize = 128 << 10;

/// From this size on disk space is reserved before anything is written.
const RESERVE_FROM_BYTES: u64 = 1 << 20;

/// How many bytes are written between two looks at the free space, where the host wants some.
const SPACE_CHECK_EVERY_BYTES: u64 = 16 << 20;

/// What is known of a blob before it comes.
#[derive(Clone, Debug)]
pub(super) struct IngestSpec {
    pub(super) area: Folder,
    /// What it must hash to; `None` where nobody has said it, as in an archive.
    pub(super) expected: Option<Digest>,
    pub(super) algorithm: Algorithm,
    /// The declared size, where it is known.
    pub(super) expected_size: Option<u64>,
    /// Without a declared size this many bytes are too many.
    pub(super) size_limit: u64,
    /// Bytes of the file system that are to stay free.
    pub(super) min_free: u64,
}

impl IngestSpec {
    fn limit(&self) -> Limit {
        if self.area == Folder::Layers { limits::BLOB_SIZE } else { limits::DOCUMENT_SIZE }
    }

    /// What it is called in an error.
    fn object(&self) -> String {
        self.expected.as_ref().map_or_else(|| "archive".to_owned(), Digest::to_string)
    }

    /// `LIMIT` for a declared size that is too large.
    pub(super) fn check_declared(&self) -> Result<()> {
        match self.expected_size.filter(|&size| size > self.size_limit) {
            Some(size) => Err(Error::limit(self.limit().name, self.size_limit, size, self.object())),
            None => Ok(()),
        }
    }
}

/// A blob that is being written. Dropping it leaves nothing.
#[derive(Debug)]
pub(super) struct Ingest {
    directory: Arc<StoreDir>,
    spec: IngestSpec,
    partial: Partial,
    hasher: Box<Hasher>,
    written: Arc<AtomicU64>,
}

impl Ingest {
    pub(super) fn begin(directory: &Arc<StoreDir>, spec: IngestSpec) -> Result<Ingest> {
        spec.check_declared()?;
        let stem = match &spec.expected {
            Some(digest) => digest.file_stem(),
            // Until its digest is known: one that nothing else has.
            None => Digest::of(uuid::Uuid::new_v4().as_bytes()).file_stem(),
        };
        let partial = Partial::create_file(directory, spec.area, &stem)?;
        Ingest::with(directory, spec, partial)
    }

    /// Goes on with what an earlier one kept ([`Ingest::keep`]), or its death left. Those bytes are
    /// hashed again, so that what counts is what is on the disk. Whoever calls holds the lock on
    /// the download.
    #[cfg(feature = "pull")]
    pub(super) fn resume(directory: &Arc<StoreDir>, spec: IngestSpec, digest: &Digest, size: u64) -> Result<Ingest> {
        spec.check_declared()?;
        let partial = Partial::open_resumable(directory, spec.area, digest)?;
        let mut ingest = Ingest::with(directory, spec, partial)?;
        let Ingest { partial, hasher, written, .. } = &mut ingest;
        let present = partial.rehash(size, PIECE_BYTES, |piece| hasher.update(piece))?;
        written.store(present, Ordering::Relaxed);
        Ok(ingest)
    }

    fn with(directory: &Arc<StoreDir>, spec: IngestSpec, partial: Partial) -> Result<Ingest> {
        if let Some(size) = spec.expected_size.filter(|&size| size >= RESERVE_FROM_BYTES) {
            partial.reserve(size)?;
        }
        let (directory, hasher) = (directory.clone(), Box::new(Hasher::new(spec.algorithm)));
        Ok(Ingest { directory, spec, partial, hasher, written: Arc::default() })
    }

    pub(super) fn partial(&self) -> &Partial {
        &self.partial
    }

    /// The running count of bytes.
    pub(super) fn written(&self) -> &Arc<AtomicU64> {
        &self.written
    }

    /// Ends without removing what was written, for a later one to go on with ([`Ingest::resume`]).
    #[cfg(feature = "pull")]
    pub(super) fn keep(self) {
        let written = self.written.load(Ordering::Relaxed);
        self.partial.keep(written);
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.written.load(Ordering::Relaxed);
        let total = written.saturating_add(bytes.len() as u64);
        match self.spec.expected_size {
            Some(size) if total > size => {
                let why = format!("{}: declared as {size} bytes, got at least {total}", self.spec.object());
                return Err(Error::new(Status::SizeMismatch, why));
            }
            None if total > self.spec.size_limit => {
                return Err(Error::limit(self.spec.limit().name, self.spec.size_limit, total, self.spec.object()));
            }
            _ => {}
        }
        let spaces = |bytes: u64| bytes / SPACE_CHECK_EVERY_BYTES;
        // What was declared was looked at before.
        if self.spec.min_free > 0 && self.spec.expected_size.is_none() && spaces(total) > spaces(written) {
            self.check_space()?;
        }
        for piece in bytes.chunks(PIECE_BYTES) {
            self.hasher.update(piece);
            self.partial.write_all(piece)?;
        }
        self.written.store(total, Ordering::Relaxed);
        Ok(())
    }

    fn check_space(&self) -> Result<()> {
        let (free, _) = self.directory.space()?;
        if free < self.spec.min_free {
            let why = format!("{}: {free} bytes free, and {} are to stay so", self.spec.object(), self.spec.min_free);
            return Err(Error::no_space(why));
        }
        Ok(())
    }

    /// Verifies size and digest and makes the blob visible under its digest, which `before` may refuse.
    pub(super) fn commit(self, interrupt: &Interrupt, before: impl FnOnce(&Digest) -> Result<()>) -> Result<Digest> {
        let Ingest { directory, spec, partial, hasher, written } = self;
        let written = written.load(Ordering::Relaxed);
        if let Some(size) = spec.expected_size.filter(|&size| size != written) {
            let why = format!("{}: declared as {size} bytes, got {written}", spec.object());
            return Err(Error::new(Status::SizeMismatch, why));
        }
        let digest = hasher.finish();
        let name = blob_name(spec.area, &digest);
        if let Some(expected) = spec.expected.filter(|expected| *expected != digest) {
            let path = directory.object_path(spec.area, &blob_name(spec.area, &expected));
            return Err(Error::digest_mismatch(path.display(), &expected, &digest));
        }
        before(&digest)?;
        partial.publish(&name, interrupt, |existing| match spec.area {
            // Whatever is there was not hashed today; what we have was.
            Folder::Layers => Ok(false),
            _ => is_intact(existing, &digest),
        })?;
        tracing::info!("committed {digest} ({written} bytes) to {}", directory.object_path(spec.area, &name).display());
        Ok(digest)
    }
}
