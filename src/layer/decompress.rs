//! From the pieces of a layer's file to uncompressed bytes, in the buffers that the caller gives.

use std::sync::Arc;

use super::blob_file::{LayerFile, Piece};
use super::compression::{Decoder, MAGIC_LEN};
use super::entry::Anomalies;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::limits::{self, LayerLimits, RATIO_FREE_BYTES};
use crate::queue::Queue;

/// The uncompressed bytes of a layer file.
pub(crate) struct Decompressor {
    input: Input,
    algorithm: Algorithm,
    decoder: Decoder,
    bytes_out: u64,
    /// The compressed stream is over; what follows it is read all the same.
    is_over: bool,
    anomalies: Anomalies,
    interrupt: Interrupt,
    limits: LayerLimits,
}

/// What one call of [`Decompressor::fill`] came to.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) bytes: usize,
    /// The file was read to its end.
    pub(super) is_end: bool,
}

impl Decompressor {
    /// Begins to read a file. Every step asks `interrupt`.
    pub(crate) fn open(
        file: LayerFile,
        algorithm: Algorithm,
        interrupt: Interrupt,
        limits: &LayerLimits,
    ) -> Result<Decompressor> {
        let feed = Feed::File(Box::new(file));
        let mut input = Input { feed, piece: Vec::new(), position: 0, total: 0, is_at_end: false, digest: None };
        input.fill_to(MAGIC_LEN)?;
        let decoder = Decoder::detect(input.bytes(), limits)?;
        let limits = limits.clone();
        let anomalies = Anomalies::default();
        Ok(Decompressor { input, algorithm, decoder, bytes_out: 0, is_over: false, anomalies, interrupt, limits })
    }

    /// From now on the file's pieces come from elsewhere; gives the file, for somebody to read on.
    pub(super) fn detach(&mut self, pieces: Arc<Pieces>) -> Option<LayerFile> {
        match std::mem::replace(&mut self.input.feed, Feed::Pieces(pieces)) {
            Feed::File(file) => Some(*file),
            Feed::Pieces(_) => None,
        }
    }

    /// Whether the file is the tar archive itself, so that one digest is that of both.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.decoder, Decoder::Plain)
    }

    /// What the file is hashed with.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Bytes of the file that were read.
    pub(super) fn bytes_in(&self) -> u64 {
        self.input.total
    }

    /// What was odd so far.
    pub(super) fn anomalies(&self) -> Anomalies {
        self.anomalies
    }

    /// Whether the file was read to its end.
    pub(super) fn is_read(&self) -> bool {
        self.input.is_at_end
    }

    /// The digest of the file, once it was read to its end; `None` where its reader does not hash it.
    pub(super) fn digest(&self) -> Option<&Digest> {
        self.input.digest.as_ref()
    }

    /// Fills `out` with uncompressed bytes, as far as there are any.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<Filled> {
        let mut filled = 0;
        let is_end = loop {
            self.interrupt.check()?;
            if self.is_over {
                if self.drain_piece()? {
                    break true;
                }
            } else if filled == out.len() {
                break false;
            } else {
                let step = self.decoder.step(self.input.bytes(), &mut out[filled..], self.input.is_at_end)?;
                self.input.position += step.read;
                filled += step.written;
                if step.done {
                    self.is_over = true;
                } else if self.input.bytes().is_empty() || (step.read == 0 && step.written == 0) {
                    // The decoder needs more than what is left.
                    self.input.fill_to(self.input.bytes().len() + 1)?;
                }
            }
        };
        self.bytes_out += filled as u64;
        self.check_limits()?;
        Ok(Filled { bytes: filled, is_end })
    }

    /// Some of what follows the compressed stream: hashed, since the blob's digest covers it, and nothing else (D10).
    /// True at the end of the file.
    fn drain_piece(&mut self) -> Result<bool> {
        if self.input.bytes().iter().any(|&b| b != 0) {
            self.anomalies.insert(Anomalies::TRAILING_COMPRESSED);
        }
        self.input.position = self.input.piece.len();
        self.input.fill_to(1)?;
        Ok(self.input.bytes().is_empty())
    }

    fn check_limits(&self) -> Result<()> {
        if self.bytes_out > limits::LAYER_SIZE.of(&self.limits) {
            let found = format!("more than {}", self.bytes_out - 1);
            return Err(limits::LAYER_SIZE.breach(&self.limits, found, "layer"));
        }
        // A limit of zero would divide by it.
        let ratio = limits::RATIO.of(&self.limits).max(1);
        if self.bytes_out > RATIO_FREE_BYTES && self.bytes_out / ratio > self.input.total {
            let found = self.bytes_out / self.input.total.max(1);
            return Err(limits::RATIO.breach(&self.limits, found, "layer"));
        }
        Ok(())
    }
}

/// The file, a piece at a time.
struct Input {
    feed: Feed,
    piece: Vec<u8>,
    position: usize,
    total: u64,
    /// The file was read to its end.
    is_at_end: bool,
    /// Known then, where the reader hashes the file.
    digest: Option<Digest>,
}

/// Where pieces come from.
enum Feed {
    File(Box<LayerFile>),
    Pieces(Arc<Pieces>),
}

/// Pieces on their way from another thread, and buffers on their way back.
#[derive(Default)]
pub(super) struct Pieces {
    pub(super) read: Queue<Result<Piece>>,
    pub(super) free: Queue<Vec<u8>>,
}

impl Feed {
    /// `spent` is a buffer to use again.
    fn next(&mut self, spent: Vec<u8>) -> Result<Piece> {
        match self {
            Feed::File(file) => file.read(spent),
            Feed::Pieces(pieces) => {
                if spent.capacity() > 0 {
                    pieces.free.push_front(spent);
                }
                let closed = || Err(Error::new(Status::Internal, "a thread of the library died"));
                pieces.read.pop().unwrap_or_else(closed)
            }
        }
    }
}

impl Input {
    fn bytes(&self) -> &[u8] {
        &self.piece[self.position..]
    }

    /// Goes on to the next piece, until at least `wanted` bytes are there or the file ends. That
    /// piece begins with what is left of this one.
    fn fill_to(&mut self, wanted: usize) -> Result<()> {
        while self.bytes().len() < wanted && !self.is_at_end {
            let left = self.bytes().to_vec();
            self.position = 0;
            match self.feed.next(std::mem::take(&mut self.piece))? {
                Piece::Bytes(bytes) => {
                    self.total += bytes.len() as u64;
                    self.piece = bytes;
                    self.piece.splice(0..0, left);
                }
                Piece::End(digest) => {
                    (self.is_at_end, self.digest) = (true, digest);
                    self.piece = left;
                }
            }
        }
        Ok(())
    }
}
