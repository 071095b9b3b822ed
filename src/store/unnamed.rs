//! A blob whose digest nobody has said yet: as it comes out of an archive.

use std::sync::Arc;

use super::directory::{Area, Directory};
use super::partial::Partial;
use super::{Storage, blob_name};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::limits;

/// From this size on disk space is reserved before anything is written.
const RESERVED: u64 = 1 << 20;

/// A layer's blob that is being written, hashed on the way. Dropping it leaves nothing.
pub(crate) struct Unnamed {
    directory: Arc<Directory>,
    partial: Partial,
    hasher: Hasher,
    written: u64,
    size_limit: u64,
}

impl Storage {
    /// Begins to store a layer of a declared size.
    pub(crate) fn stage_unnamed(&self, algorithm: Algorithm, size: u64, interrupt: &Interrupt) -> Result<Unnamed> {
        self.directory.check_writable()?;
        if size > self.max_blob_size {
            return Err(Error::limit(limits::BLOB_SIZE.name, self.max_blob_size, size, "archive"));
        }
        self.make_room(size, "a blob of an archive", interrupt)?;
        // Until its digest is known: one that nothing else has.
        let stem = Digest::of(uuid::Uuid::new_v4().as_bytes()).file_stem();
        let partial = Partial::create_file(&self.directory, Area::Layers, &stem)?;
        if size >= RESERVED {
            partial.reserve(size)?;
        }
        let (directory, hasher) = (self.directory.clone(), Hasher::new(algorithm));
        Ok(Unnamed { directory, partial, hasher, written: 0, size_limit: self.max_blob_size })
    }
}

impl Unnamed {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.written += bytes.len() as u64;
        if self.written > self.size_limit {
            return Err(Error::limit(limits::BLOB_SIZE.name, self.size_limit, self.written, "archive"));
        }
        self.hasher.update(bytes);
        self.partial.write_all(bytes)
    }

    /// Makes it visible under the digest that it has, which is what `before` may refuse.
    pub(crate) fn commit(self, interrupt: &Interrupt, before: impl FnOnce(&Digest) -> Result<()>) -> Result<Digest> {
        self.directory.check_alive()?;
        let digest = self.hasher.finish();
        before(&digest)?;
        self.partial.publish(&blob_name(Area::Layers, &digest), interrupt, |_| Ok(false))?;
        tracing::info!("stored {digest} ({} bytes) out of an archive", self.written);
        Ok(digest)
    }
}
