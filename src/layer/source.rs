//! A layer's file: read once, piece by piece, and inflated into the buffers that the caller gives.
//!
//! The pieces are not hashed here. They are handed on once they were decoded, so that another thread can hash them while
//! this one inflates the next ([`super::pipeline`]).

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::compression::{Decoder, MAGIC_LEN};
use super::entry::Anomalies;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::limits::{self, LayerLimits, RATIO_FREE_BYTES};

const INPUT_SIZE: usize = 128 << 10;
/// How many pieces wait to be handed on before [`Source::fill`] returns, however little came of them.
const MOST_SPENT: usize = 8;

/// The uncompressed bytes of a layer file.
pub(crate) struct Source {
    input: Input,
    decoder: Decoder,
    bytes_out: u64,
    /// The compressed stream is over; what follows it is read all the same.
    is_over: bool,
    anomalies: Anomalies,
    interrupt: Interrupt,
    limits: LayerLimits,
}

/// A piece of the file.
#[derive(Default)]
pub(super) struct Piece {
    bytes: Vec<u8>,
    /// Before this there is what was left of the piece before, which has been hashed with that one.
    start: usize,
}

impl Piece {
    /// The bytes that no other piece has.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// What one call of [`Source::fill`] came to.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) bytes: usize,
    /// The file was read to its end.
    pub(super) is_end: bool,
}

impl Source {
    /// Begins to read a file. Every step asks `interrupt`.
    pub(crate) fn open(file: OwnedFd, interrupt: Interrupt, limits: &LayerLimits) -> Result<Source> {
        // A hint; where it is not taken nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        let mut input = Input {
            file,
            piece: Piece::default(),
            position: 0,
            at_eof: false,
            total: 0,
            spent: Vec::new(),
            free: Vec::new(),
        };
        input.fill_to(MAGIC_LEN)?;
        let decoder = Decoder::detect(input.bytes(), limits)?;
        let limits = limits.clone();
        Ok(Source { input, decoder, bytes_out: 0, is_over: false, anomalies: Anomalies::default(), interrupt, limits })
    }

    /// Whether the file is the tar archive itself, so that one digest is that of both.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.decoder, Decoder::Plain)
    }

    /// Bytes of the file that were read.
    pub(super) fn bytes_in(&self) -> u64 {
        self.input.total
    }

    /// What was odd so far.
    pub(super) fn anomalies(&self) -> Anomalies {
        self.anomalies
    }

    /// Appends the pieces that were decoded since the last call.
    pub(super) fn take_pieces(&mut self, pieces: &mut Vec<Piece>) {
        pieces.append(&mut self.input.spent);
    }

    /// Takes a piece back, to read another one into it.
    pub(super) fn reuse(&mut self, piece: Piece) {
        self.input.free.push(piece);
    }

    /// Fills `out` with uncompressed bytes, unless so many pieces come together that they should be handed on first.
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
                let step = self.decoder.step(self.input.bytes(), &mut out[filled..], self.input.at_eof)?;
                self.input.position += step.read;
                filled += step.written;
                if step.done {
                    self.is_over = true;
                } else if self.input.bytes().is_empty() || (step.read == 0 && step.written == 0) {
                    // The decoder needs more than what is left.
                    self.input.fill_to(self.input.bytes().len() + 1)?;
                }
            }
            if self.input.spent.len() >= MOST_SPENT {
                break false;
            }
        };
        self.bytes_out += filled as u64;
        self.check_limits()?;
        Ok(Filled { bytes: filled, is_end })
    }

    /// Some of what follows the compressed stream: hashed, since the blob's digest covers it, and nothing else (D10).
    /// True at the end of the file, when the last piece is spent too.
    fn drain_piece(&mut self) -> Result<bool> {
        if self.input.bytes().iter().any(|&b| b != 0) {
            self.anomalies.insert(Anomalies::TRAILING_COMPRESSED);
        }
        self.input.position = self.input.piece.bytes.len();
        if self.input.at_eof {
            self.input.spend();
            return Ok(true);
        }
        self.input.fill_to(1)?;
        Ok(false)
    }

    fn check_limits(&self) -> Result<()> {
        if self.bytes_out > limits::LAYER_SIZE.of(&self.limits) {
            let found = format_args!("more than {}", self.bytes_out - 1);
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
    file: OwnedFd,
    piece: Piece,
    position: usize,
    at_eof: bool,
    total: u64,
    spent: Vec<Piece>,
    free: Vec<Piece>,
}

impl Input {
    fn bytes(&self) -> &[u8] {
        &self.piece.bytes[self.position..]
    }

    /// Reads another piece, which begins with what is left of this one, until at least `wanted` bytes are there or the
    /// file ends.
    fn fill_to(&mut self, wanted: usize) -> Result<()> {
        if self.at_eof {
            return Ok(());
        }
        let mut next = self.free.pop().unwrap_or_default();
        next.bytes.clear();
        next.bytes.extend_from_slice(self.bytes());
        next.start = next.bytes.len();
        let mut end = next.start;
        next.bytes.resize(INPUT_SIZE, 0);
        while end < wanted.min(INPUT_SIZE) && !self.at_eof {
            match rustix::io::read(&self.file, &mut next.bytes[end..]) {
                Ok(0) => self.at_eof = true,
                Ok(n) => end += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, "read layer")),
            }
        }
        next.bytes.truncate(end);
        self.total += (end - next.start) as u64;
        self.spend();
        self.piece = next;
        Ok(())
    }

    /// Hands the piece on.
    fn spend(&mut self) {
        let spent = std::mem::take(&mut self.piece);
        self.position = 0;
        if !spent.bytes().is_empty() {
            self.spent.push(spent);
        }
    }
}
