//! Decompression, told by the first bytes and not by a media type (families 106 to 115, decision D10).
//!
//! A decoder here is a step function from a piece of input to a piece of output. It has no reader
//! stack and no buffer of its own between them: the caller owns both buffers and the loop.

use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, Operation as _};

use super::header;
use super::inflate::Inflate;
use crate::error::{Error, Result, Status, quoted};
use crate::limits::{self, LayerLimits};

/// How a layer is packed.
pub(super) enum Decoder {
    Plain,
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

/// What one step did.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) read: usize,
    pub(super) written: usize,
    /// The compressed stream is over; what follows in the input does not belong to it.
    pub(super) done: bool,
}

/// How many bytes of the beginning [`Decoder::detect`] looks at.
pub(super) const MAGIC_LEN: usize = header::BLOCK;

impl Decoder {
    /// Chooses by the first [`MAGIC_LEN`] bytes, or all there are. `UNSUPPORTED` for formats that image layers do not
    /// use, `MALFORMED` for what is none.
    pub(super) fn detect(start: &[u8], limits: &LayerLimits) -> Result<Decoder> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Decoder::Gzip(Box::new(Gzip::new()))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Ok(Decoder::Zstd(Box::new(Zstd::new(limits)?)))
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(unsupported("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Err(unsupported("bzip2")),
            [0x04, 0x22, 0x4d, 0x18, ..] => Err(unsupported("lz4")),
            // A layer of no bytes is an empty layer: its digest says that there is nothing to come.
            [] => Ok(Decoder::Plain),
            _ => match start.first_chunk::<MAGIC_LEN>() {
                Some(block) if header::checksum_holds(block) || block.iter().all(|&b| b == 0) => Ok(Decoder::Plain),
                _ => {
                    let shown = quoted(&start[..start.len().min(8)]);
                    Err(malformed(format!("not gzip, zstd or tar; begins with {shown}")))
                }
            },
        }
    }

    /// Decodes from `input` to `output`. `is_last` says that `input` is all that will come.
    pub(super) fn step(&mut self, input: &[u8], output: &mut [u8], is_last: bool) -> Result<Step> {
        match self {
            Decoder::Plain => {
                let n = input.len().min(output.len());
                output[..n].copy_from_slice(&input[..n]);
                Ok(Step { read: n, written: n, done: is_last && n == input.len() })
            }
            Decoder::Gzip(gzip) => gzip.step(input, output, is_last),
            Decoder::Zstd(zstd) => zstd.step(input, output, is_last),
        }
    }
}

/// All members of a gzip file one after the other (RFC 1952, 2.2).
pub(super) struct Gzip {
    inflate: Inflate,
    in_member: bool,
}

impl Gzip {
    fn new() -> Gzip {
        Gzip { inflate: Inflate::new(), in_member: true }
    }

    fn step(&mut self, input: &[u8], output: &mut [u8], is_last: bool) -> Result<Step> {
        if !self.in_member {
            // Two bytes tell another member from padding.
            match input {
                [0x1f, 0x8b, ..] => {
                    self.inflate.reset();
                    self.in_member = true;
                }
                [0x1f] if !is_last => return Ok(Step::default()),
                [] if !is_last => return Ok(Step::default()),
                _ => return Ok(Step { done: true, ..Step::default() }),
            }
        }
        let inflated = self.inflate.step(input, output).map_err(|cause| malformed(format!("gzip: {cause}")))?;
        let (read, written) = (inflated.read, inflated.written);
        if inflated.is_end {
            self.in_member = false;
        } else if is_last && written == 0 && read == input.len() && !output.is_empty() {
            return Err(malformed("gzip: ends in the middle"));
        }
        Ok(Step { read, written, done: false })
    }
}

/// All frames of a zstd file, skippable ones too (RFC 8878, 3.1).
pub(super) struct Zstd {
    decoder: ZstdDecoder<'static>,
    limits: LayerLimits,
    in_frame: bool,
}

impl Zstd {
    fn new(limits: &LayerLimits) -> Result<Zstd> {
        let fail = |cause: std::io::Error| Error::new(Status::Internal, format!("zstd: {cause}"));
        let mut decoder = ZstdDecoder::new().map_err(fail)?;
        // What the decoder can do at all is 2^31.
        let window_log = limits::ZSTD_WINDOW_LOG.of(limits).clamp(10, 31) as u32;
        decoder.set_parameter(DParameter::WindowLogMax(window_log)).map_err(fail)?;
        Ok(Zstd { decoder, limits: limits.clone(), in_frame: true })
    }

    fn step(&mut self, input: &[u8], output: &mut [u8], is_last: bool) -> Result<Step> {
        if !self.in_frame && input.is_empty() {
            return Ok(Step { done: is_last, ..Step::default() });
        }
        let status = self.decoder.run_on_buffers(input, output).map_err(|cause| {
            let text = cause.to_string();
            if text.contains("too much memory") {
                return limits::ZSTD_WINDOW_LOG.breach(&self.limits, "a larger window", "zstd frame");
            }
            malformed(format!("zstd: {text}"))
        })?;
        // Zero remaining bytes: a frame is complete and its output flushed.
        self.in_frame = status.remaining != 0;
        if self.in_frame
            && is_last
            && status.bytes_written == 0
            && status.bytes_read == input.len()
            && !output.is_empty()
        {
            return Err(malformed("zstd: ends in the middle"));
        }
        Ok(Step { read: status.bytes_read, written: status.bytes_written, done: false })
    }
}

fn unsupported(name: &str) -> Error {
    Error::new(Status::Unsupported, format!("layers compressed with {name} are not supported"))
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Status::Malformed, why.to_string())
}
