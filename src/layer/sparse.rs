//! GNU sparse files: where the data lies between the holes (GNU tar manual, "Sparse Formats"; family 92).
//!
//! There are four forms. The old one has the map in the header block and blocks after it. PAX 0.0
//! repeats two keys, 0.1 has one key with a list, and 1.0 puts the map before the data. All come to
//! the same list of chunks. They must be in order, inside the file, and together as long as the
//! data. A map that readers could take differently is an error.

use super::header::{BLOCK, malformed, number};
use super::tar_stream::Stream;
use crate::error::{Result, quoted};
use crate::limits::{self, LayerLimits};

/// Data of a file: `length` bytes that begin at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What the `GNU.sparse.*` records of a PAX header say.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    major: Option<u64>,
    minor: Option<u64>,
    /// The file's name; the header's own is one that a reader without sparse files would use.
    pub(super) name: Option<Vec<u8>>,
    /// The file's size with its holes.
    size: Option<u64>,
    chunk_count: Option<u64>,
    /// Offsets and lengths in turn.
    map: Vec<u64>,
    has_map: bool,
}

impl PaxSparse {
    /// Takes one record; `key` is what follows `GNU.sparse.`.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8], limits: &LayerLimits) -> Result<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => {
                if value.is_empty() || value.contains(&0) {
                    return Err(malformed(format!("GNU.sparse.name is {}", quoted(value))));
                }
                self.name = Some(value.to_vec());
            }
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"numblocks" => self.chunk_count = Some(decimal(value)?),
            b"offset" if self.map.len().is_multiple_of(2) => self.push(decimal(value)?, limits)?,
            b"numbytes" if !self.map.len().is_multiple_of(2) => self.push(decimal(value)?, limits)?,
            b"map" => {
                self.map.clear();
                for part in value.split(|&b| b == b',') {
                    self.push(decimal(part)?, limits)?;
                }
            }
            _ => return Err(malformed(format!("GNU.sparse keyword {} is out of place", quoted(key)))),
        }
        Ok(())
    }

    fn push(&mut self, number: u64, limits: &LayerLimits) -> Result<()> {
        self.has_map = true;
        self.map.push(number);
        limits::SPARSE_CHUNKS.check(limits, (self.map.len() as u64).div_ceil(2), || "sparse file")
    }

    /// The file's size and chunks. `data_left` is the size of the entry's data, of which a map in it is taken away.
    pub(super) fn resolve(
        self,
        stream: &mut Stream,
        data_left: &mut u64,
        limits: &LayerLimits,
    ) -> Result<(u64, Vec<Chunk>)> {
        let size = self.size.ok_or_else(|| malformed("a sparse file without a size"))?;
        let numbers = match (self.major, self.minor) {
            (Some(1), Some(0)) if !self.has_map => read_map(stream, data_left, limits)?,
            (None, None) | (Some(0), Some(0 | 1)) if self.chunk_count == Some(self.map.len() as u64 / 2) => self.map,
            _ => return Err(malformed("an unknown form of sparse file")),
        };
        Ok((size, chunks(&numbers, size, *data_left)?))
    }
}

/// The map of the form 1.0: decimal numbers that end in newlines, first how many chunks, padded to a block.
fn read_map(stream: &mut Stream, data_left: &mut u64, limits: &LayerLimits) -> Result<Vec<u64>> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut wanted = None;
    let mut digits = Vec::new();
    while wanted.is_none_or(|wanted| (numbers.len() as u64) < wanted) {
        *data_left = data_left.checked_sub(BLOCK as u64).ok_or_else(|| malformed("a sparse map that is cut off"))?;
        let block = *stream.block()?.ok_or_else(|| malformed("ends in the middle of a sparse map"))?;
        for &byte in &block {
            match (byte, wanted) {
                // What follows the last number is padding.
                (_, Some(wanted)) if numbers.len() as u64 >= wanted => break,
                (b'\n', None) => {
                    let count = decimal(&digits)?;
                    limits::SPARSE_CHUNKS.check(limits, count, || "sparse file")?;
                    wanted = count.checked_mul(2);
                    digits.clear();
                }
                (b'\n', Some(_)) => {
                    numbers.push(decimal(&digits)?);
                    digits.clear();
                }
                _ if digits.len() < 20 => digits.push(byte),
                _ => return Err(malformed(format!("{} in a sparse map", quoted(&digits)))),
            }
        }
    }
    Ok(numbers)
}

/// The map of the old form: four slots in the header, and 21 in each block that follows it.
pub(super) fn read_old(
    header: &[u8; BLOCK],
    stream: &mut Stream,
    data_size: u64,
    limits: &LayerLimits,
) -> Result<(u64, Vec<Chunk>)> {
    let field = |bytes: &[u8]| {
        number(bytes)
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| malformed(format!("{} in a sparse map", quoted(bytes))))
    };
    let size = field(&header[483..495])?;
    let (mut numbers, mut read) = (Vec::new(), 0);
    let (mut slots, mut is_extended) = (header[386..482].to_vec(), header[482]);
    loop {
        for slot in slots.chunks_exact(24).take_while(|slot| slot[0] != 0) {
            numbers.push(field(&slot[..12])?);
            numbers.push(field(&slot[12..])?);
        }
        limits::SPARSE_CHUNKS.check(limits, numbers.len() as u64 / 2, || "sparse file")?;
        if is_extended == 0 {
            break;
        }
        let block = stream.block()?.ok_or_else(|| malformed("ends in the middle of a sparse map"))?;
        // A block may have no chunk in it, as those of GNU tar may. So blocks are counted as well.
        read += BLOCK as u64;
        limits::HEADER_METADATA.check(limits, read, || "sparse file")?;
        (slots, is_extended) = (block[..504].to_vec(), block[504]);
    }
    Ok((size, chunks(&numbers, size, data_size)?))
}

/// Checks a map: in order, without overlap, inside the file, and as long as the data.
fn chunks(numbers: &[u64], size: u64, data_size: u64) -> Result<Vec<Chunk>> {
    if !numbers.len().is_multiple_of(2) {
        return Err(malformed("a sparse map that ends in the middle of a chunk"));
    }
    let (mut end, mut sum) = (0u64, 0u64);
    let mut chunks = Vec::with_capacity(numbers.len() / 2);
    for pair in numbers.chunks_exact(2) {
        let (offset, length) = (pair[0], pair[1]);
        let next_end = offset.checked_add(length).filter(|&next_end| offset >= end && next_end <= size);
        end = next_end.ok_or_else(|| malformed("a sparse map that is out of order or larger than the file"))?;
        // No overflow: the chunks do not overlap, and end within 64 bits.
        sum += length;
        chunks.push(Chunk { offset, length });
    }
    if sum != data_size {
        return Err(malformed(format!("a sparse map of {sum} bytes for {data_size} bytes of data")));
    }
    Ok(chunks)
}

fn decimal(value: &[u8]) -> Result<u64> {
    super::number::decimal(b"GNU.sparse", value)
}
