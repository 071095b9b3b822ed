//! Where the content of files is, where nodes live in memory: it goes to a disk as it comes, or is on one already.

use super::nodes::Lower;
use super::write_pool::Part;
use crate::error::{Error, Result, Status};
use crate::layer::Entry;
use crate::record::{BlockPlace, Holes};

/// Where the content of a file begins: at a block of one of several disks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Extent {
    /// Which of the disks.
    pub(crate) part: u16,
    /// 0 for none.
    pub(crate) block: u32,
}

/// Takes the content of one file after the other. Whoever calls it does not know which one it is, so that the rules of layers
/// are compiled once for all of them.
pub(crate) trait ContentSink {
    /// Bytes at an offset of the current file, each offset above the one before.
    fn write(&mut self, part: Part) -> Result<()>;

    /// The current file has this size, and is over.
    fn end(&mut self, size: u64) -> Result<Extent>;

    /// `NO_SPACE` for a file that will not fit.
    fn check_room(&mut self, path: &[u8], size: u64) -> Result<()>;

    /// Where the current file is, which has this size; `None` where there are no blocks.
    fn place(&self, size: u64) -> Option<BlockPlace>;
}

/// Nothing is written: whatever files have is somewhere already.
pub(crate) struct NoContent;

impl ContentSink for NoContent {
    fn write(&mut self, _: Part) -> Result<()> {
        Ok(())
    }

    fn end(&mut self, _: u64) -> Result<Extent> {
        Ok(Extent::default())
    }

    fn check_room(&mut self, _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }

    fn place(&self, _: u64) -> Option<BlockPlace> {
        None
    }
}

/// A layer whose content is on a disk, as its record says.
pub(crate) struct RecordedLayer {
    part: u16,
    /// Where the content of the entry begins whose turn it is.
    block: Option<u32>,
    /// Of all its files that have some, by where their content begins.
    holes: Vec<(Extent, Holes)>,
    /// Any record will do, also that of a tree.
    is_metadata_only: bool,
}

impl RecordedLayer {
    /// One of several disks.
    pub(crate) fn new(part: u16) -> RecordedLayer {
        RecordedLayer { part, block: None, holes: Vec::new(), is_metadata_only: false }
    }

    /// The holes of all its files, by where their content begins.
    pub(crate) fn into_holes(self) -> Vec<(Extent, Holes)> {
        self.holes
    }

    /// A layer whose content nobody will look for.
    pub(crate) fn metadata_only() -> RecordedLayer {
        RecordedLayer { is_metadata_only: true, ..RecordedLayer::new(0) }
    }
}

impl Lower for RecordedLayer {
    /// Its size, and where it is.
    type Original = (u64, Extent);

    fn at_block(&mut self, block: Option<u32>, holes: Holes) {
        self.block = block;
        if let Some(block) = block.filter(|_| !holes.is_empty() && !self.is_metadata_only) {
            self.holes.push((Extent { part: self.part, block }, holes));
        }
    }

    fn is_linked(&self) -> bool {
        false
    }

    fn original(&mut self, entry: &Entry) -> Result<(u64, Extent)> {
        match self.block {
            _ if self.is_metadata_only => Ok((entry.size, Extent::default())),
            Some(block) if entry.size > 0 => Ok((entry.size, Extent { part: self.part, block })),
            None if entry.size == 0 => Ok((0, Extent::default())),
            _ => Err(Error::new(Status::Malformed, "a metadata record does not say where a file's content is")),
        }
    }
}
