//! A layer's file: read once, hashed as it is read, inflated into the buffers that the caller gives.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use super::compression::{Decoder, MAGIC_LEN};
use super::entry::Anomalies;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::{limits, limits::RATIO_FREE_BYTES};

const INPUT_SIZE: usize = 128 << 10;

/// The uncompressed bytes of a layer file, with the digest of the compressed ones.
pub(crate) struct Source {
    input: Input,
    decoder: Decoder,
    bytes_out: u64,
    is_over: bool,
    anomalies: Anomalies,
    interrupt: Interrupt,
}

/// What is known of a source once it was read to its end.
#[derive(Debug)]
pub(crate) struct SourceSummary {
    /// Of the file as it is.
    pub(crate) digest: Digest,
    pub(crate) bytes_in: u64,
    pub(crate) anomalies: Anomalies,
}

impl Source {
    /// Begins to read a file whose bytes are to be hashed with `algorithm`. Every step asks `interrupt`.
    pub(crate) fn open(file: OwnedFd, algorithm: Algorithm, interrupt: Interrupt) -> Result<Source> {
        // A hint; where it is not taken nothing is lost.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
        let mut input = Input {
            file,
            buffer: vec![0; INPUT_SIZE].into_boxed_slice(),
            start: 0,
            end: 0,
            at_eof: false,
            total: 0,
            hasher: Hasher::new(algorithm),
        };
        input.fill_to(MAGIC_LEN)?;
        let decoder = Decoder::detect(input.bytes())?;
        Ok(Source { input, decoder, bytes_out: 0, is_over: false, anomalies: Anomalies::default(), interrupt })
    }

    /// Fills `out` with uncompressed bytes; fewer than its length only at the end of the stream.
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < out.len() && !self.is_over {
            self.interrupt.check()?;
            let step = self.decoder.step(self.input.bytes(), &mut out[filled..], self.input.at_eof)?;
            self.input.start += step.read;
            filled += step.written;
            if step.done {
                self.is_over = true;
                self.drain_input()?;
            } else if self.input.bytes().is_empty() || (step.read == 0 && step.written == 0) {
                // The decoder needs more than what is left.
                self.input.fill_to(self.input.bytes().len() + 1)?;
            }
        }
        self.bytes_out += filled as u64;
        self.check_limits()?;
        Ok(filled)
    }

    /// To be asked once [`Source::fill`] came to the end.
    pub(crate) fn finish(self) -> SourceSummary {
        SourceSummary { digest: self.input.hasher.finish(), bytes_in: self.input.total, anomalies: self.anomalies }
    }

    /// What follows the compressed stream is hashed, since the blob's digest covers it, and is nothing else (D10).
    fn drain_input(&mut self) -> Result<()> {
        loop {
            self.interrupt.check()?;
            if self.input.bytes().iter().any(|&b| b != 0) {
                self.anomalies.insert(Anomalies::TRAILING_COMPRESSED);
            }
            self.input.start = self.input.end;
            if self.input.at_eof {
                return Ok(());
            }
            self.input.fill_to(1)?;
        }
    }

    fn check_limits(&self) -> Result<()> {
        if self.bytes_out > limits::LAYER_SIZE.default {
            let limit = limits::LAYER_SIZE;
            return Err(Error::limit(
                limit.name,
                limit.default,
                format_args!("more than {}", self.bytes_out - 1),
                "layer",
            ));
        }
        let ratio = limits::RATIO.default;
        if self.bytes_out > RATIO_FREE_BYTES && self.bytes_out / ratio > self.input.total {
            let found = self.bytes_out / self.input.total.max(1);
            return Err(Error::limit(limits::RATIO.name, ratio, found, "layer"));
        }
        Ok(())
    }
}

/// The file, through one buffer.
struct Input {
    file: OwnedFd,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    at_eof: bool,
    total: u64,
    hasher: Hasher,
}

impl Input {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until at least `wanted` bytes are there, or the file ends.
    fn fill_to(&mut self, wanted: usize) -> Result<()> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end < wanted.min(self.buffer.len()) && !self.at_eof {
            match rustix::io::read(&self.file, &mut self.buffer[self.end..]) {
                Ok(0) => self.at_eof = true,
                Ok(n) => {
                    self.hasher.update(&self.buffer[self.end..self.end + n]);
                    self.end += n;
                    self.total += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, "read layer")),
            }
        }
        Ok(())
    }
}
