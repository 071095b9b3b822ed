//! The archive of a layer on its way into the store: hashed as it is, compressed, hashed again, and written.
//!
//! The uncompressed bytes are hashed by a thread of their own, where there is a processor for it: that takes as long as zstd.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::compress::{BlobSink, Compressor};
use super::options::{CommitOptions, LayerCompression};
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::limits::{self, LayerLimits};
use crate::store::{Storage, UnnamedLayer};
use crate::sys;

/// How much goes on at a time.
const PIECE_BYTES: usize = 512 << 10;
/// How many pieces may wait to be hashed.
const PIECES_WAITING: usize = 4;

/// A layer that is being packed. Dropping it leaves nothing.
pub(super) struct LayerPacker {
    compressor: Compressor<StagedBlob>,
    diff_id: DiffIdHasher,
    piece: Vec<u8>,
    /// Bytes of the archive.
    bytes: u64,
    limits: LayerLimits,
}

/// What a layer was packed to, not visible yet.
pub(super) struct PackedLayer {
    blob: StagedBlob,
    pub(super) diff_id: Digest,
    /// Of the blob.
    pub(super) size: u64,
}

/// The blob, and how long it is.
struct StagedBlob {
    layer: UnnamedLayer,
    size: u64,
}

impl BlobSink for StagedBlob {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        self.layer.write(bytes)
    }
}

/// Who hashes the archive. Dropping it waits for the thread.
enum DiffIdHasher {
    Here(Box<Hasher>),
    Beside { pieces: Option<SyncSender<Arc<Vec<u8>>>>, thread: Option<JoinHandle<Hasher>> },
}

impl LayerPacker {
    pub(super) fn new(
        storage: &Storage,
        compression: LayerCompression,
        options: &CommitOptions,
    ) -> Result<LayerPacker> {
        let layer = storage.stage_unnamed(Algorithm::Sha256, None, &options.interrupt)?;
        let compressor = Compressor::new(compression, options.level, StagedBlob { layer, size: 0 })?;
        let (diff_id, piece) = (DiffIdHasher::new(), Vec::with_capacity(PIECE_BYTES));
        Ok(LayerPacker { compressor, diff_id, piece, bytes: 0, limits: options.limits.clone() })
    }

    /// Of the archive, as far as it went on.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.piece.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES {
                self.end_piece()?;
            }
        }
        Ok(())
    }

    fn end_piece(&mut self) -> Result<()> {
        self.bytes += self.piece.len() as u64;
        let piece = Arc::new(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES)));
        self.diff_id.add(&piece)?;
        self.compressor.write(&piece)
    }

    pub(super) fn finish(mut self) -> Result<PackedLayer> {
        self.end_piece()?;
        let LayerPacker { compressor, diff_id, bytes, limits, .. } = self;
        let blob = compressor.finish()?;
        // Whoever extracts it has that limit too.
        let ratio = limits::RATIO.of(&limits).max(1);
        if bytes > limits::RATIO_FREE_BYTES && bytes / ratio > blob.size {
            let (found, object) = (bytes / blob.size.max(1), "the layer, which can be stored without compression");
            return Err(limits::RATIO.breach(&limits, found, object));
        }
        Ok(PackedLayer { diff_id: diff_id.finish()?, size: blob.size, blob })
    }
}

impl PackedLayer {
    /// Makes the blob visible under its digest, which `before` is told first.
    pub(super) fn commit(self, interrupt: &Interrupt, before: impl FnOnce(&Digest) -> Result<()>) -> Result<Digest> {
        self.blob.layer.commit(interrupt, before)
    }
}

impl DiffIdHasher {
    fn new() -> DiffIdHasher {
        let hasher = || Hasher::new(Algorithm::Sha256);
        if !sys::has_cores() {
            return DiffIdHasher::Here(Box::new(hasher()));
        }
        let (pieces, waiting) = sync_channel::<Arc<Vec<u8>>>(PIECES_WAITING);
        let mut of_thread = hasher();
        let thread = sys::spawn("bl-hash", move || {
            waiting.iter().for_each(|piece| of_thread.update(&piece));
            of_thread
        });
        thread.map_or_else(
            |_| DiffIdHasher::Here(Box::new(hasher())),
            |thread| DiffIdHasher::Beside { pieces: Some(pieces), thread: Some(thread) },
        )
    }

    fn add(&mut self, piece: &Arc<Vec<u8>>) -> Result<()> {
        match self {
            DiffIdHasher::Here(hasher) => hasher.update(piece),
            DiffIdHasher::Beside { pieces, .. } => {
                pieces.as_ref().ok_or_else(died)?.send(piece.clone()).map_err(|_| died())?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Digest> {
        if let DiffIdHasher::Here(hasher) = &mut self {
            return Ok(std::mem::replace(&mut **hasher, Hasher::new(Algorithm::Sha256)).finish());
        }
        self.join().ok_or_else(died)
    }

    fn join(&mut self) -> Option<Digest> {
        let DiffIdHasher::Beside { pieces, thread } = self else { return None };
        drop(pieces.take());
        thread.take()?.join().ok().map(Hasher::finish)
    }
}

impl Drop for DiffIdHasher {
    fn drop(&mut self) {
        self.join();
    }
}

fn died() -> Error {
    Error::new(Status::Internal, "a thread that hashes has died")
}
