//! The uncompressed stream of a layer as the parser wants it: blocks, and runs of bytes that lie together.

use std::sync::Arc;

use super::buffers::{Segment, SharedBytes};
use super::decompress::Decompressor;
use super::header::BLOCK;
use super::pipeline::{Delivery, Pipeline, Totals};
use crate::digest::Algorithm;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;

/// Where the parser takes its bytes from.
pub(crate) struct Stream {
    pipeline: Pipeline,
    bytes_in: u64,
    segment: Arc<Segment>,
    position: usize,
    bytes_out: u64,
    totals: Option<Totals>,
}

impl Stream {
    /// A stream over `source`, its bytes hashed with `diff_id` on the way.
    pub(crate) fn new(source: Decompressor, diff_id: Algorithm, interrupt: Interrupt) -> Result<Stream> {
        let pipeline = Pipeline::start(source, diff_id, interrupt)?;
        Ok(Stream { pipeline, bytes_in: 0, segment: Arc::default(), position: 0, bytes_out: 0, totals: None })
    }

    /// Bytes of the file that were read for what was given so far, and uncompressed bytes up to the same place.
    pub(crate) fn progress(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// The next bytes, as many as lie together but at most `most`; none at the end.
    pub(crate) fn bytes(&mut self, most: u64) -> Result<&[u8]> {
        while self.position == self.segment.bytes.len() && self.totals.is_none() {
            self.next_segment()?;
        }
        let rest = &self.segment.bytes[self.position..];
        Ok(&rest[..rest.len().min(usize::try_from(most).unwrap_or(usize::MAX))])
    }

    /// Marks bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.position += count;
    }

    /// The next `count` bytes, which [`Stream::bytes`] just showed, to keep, and marked as used.
    pub(crate) fn take(&mut self, count: usize) -> SharedBytes {
        let start = self.position;
        self.position += count;
        SharedBytes::new(&self.segment, start..self.position)
    }

    /// The next block; `None` at the end of the stream.
    pub(crate) fn block(&mut self) -> Result<Option<&[u8; BLOCK]>> {
        if self.bytes(1)?.is_empty() {
            return Ok(None);
        }
        match self.segment.bytes[self.position..].first_chunk::<BLOCK>() {
            Some(block) => {
                self.position += BLOCK;
                Ok(Some(block))
            }
            None => Err(Error::new(Status::Malformed, "tar: ends in the middle of a block")),
        }
    }

    /// Appends the next `count` bytes to `out`.
    pub(crate) fn read_into(&mut self, mut count: u64, out: &mut Vec<u8>) -> Result<()> {
        while count > 0 {
            let bytes = self.bytes(count)?;
            let n = bytes.len();
            if n == 0 {
                return Err(Error::new(Status::Malformed, "tar: ends in the middle of a header"));
            }
            out.extend_from_slice(bytes);
            self.consume(n);
            count -= n as u64;
        }
        Ok(())
    }

    /// What is known after [`Stream::bytes`] gave none; an `INTERNAL` error before.
    pub(crate) fn finish(self) -> Result<Totals> {
        self.totals.ok_or_else(|| Error::new(Status::Internal, "layer stream not read to its end"))
    }

    fn next_segment(&mut self) -> Result<()> {
        // It goes back before another one is waited for.
        self.segment = Arc::default();
        self.position = 0;
        match self.pipeline.next()? {
            Delivery::Segment(segment) => {
                self.bytes_in = segment.bytes_in;
                self.bytes_out += segment.bytes.len() as u64;
                self.segment = segment;
            }
            Delivery::End(totals) => {
                self.bytes_in = totals.bytes_in;
                self.totals = Some(totals);
            }
        }
        Ok(())
    }
}
