//! Where the bytes of an image's disk go: into a file that is being made, or against one that should have them. So a check
//! compares with what would be made, and there is one description of a disk.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::block::BLOCK;
use super::copy_blocks::BlockCopy;
use super::parts::LayerDisk;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::sys::{self, write_all_at};
use crate::unpack::{Spend, Verdict, damage};

const COMPARE_BYTES: usize = 256 << 10;

/// What is done with the bytes of a disk.
pub(crate) trait DiskSink {
    /// How long the file is. Comes first.
    fn size(&mut self, bytes: u64) -> Result<()>;

    /// Bytes at an offset.
    fn bytes(&mut self, at: u64, bytes: &[u8]) -> Result<()>;

    /// Blocks of a layer's disk.
    fn blocks(&mut self, from: &LayerDisk, from_block: u64, to_block: u64, blocks: u64) -> Result<()>;
}

/// An empty file that gets them, which is called `name` in messages.
pub(crate) struct OutputFile<'a> {
    pub(crate) file: &'a OwnedFd,
    pub(crate) name: &'a str,
    pub(crate) interrupt: &'a Interrupt,
}

impl OutputFile<'_> {
    fn failed(&self, errno: Errno) -> Error {
        Error::os(errno, format_args!("write {}", self.name))
    }
}

impl DiskSink for OutputFile<'_> {
    /// A hole at the end is a part of the file too.
    fn size(&mut self, bytes: u64) -> Result<()> {
        rustix::fs::ftruncate(self.file, bytes).map_err(|errno| self.failed(errno))
    }

    fn bytes(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.interrupt.check()?;
        write_all_at(self.file.as_fd(), bytes, at).map_err(|errno| self.failed(errno))
    }

    fn blocks(&mut self, from: &LayerDisk, from_block: u64, to_block: u64, blocks: u64) -> Result<()> {
        let copy = BlockCopy { to: self.file, to_name: self.name, interrupt: self.interrupt };
        copy.copy(from, from_block, to_block, blocks)
    }
}

/// A file that should have them, and zeros where nothing was written.
pub(crate) struct DiskComparison<'a, 's> {
    file: BorrowedFd<'a>,
    spend: &'a mut Spend<'s>,
    size: u64,
    compared: Ranges,
    /// What is wrong with it.
    verdict: Verdict,
}

/// Parts of a file that are apart from each other: where each begins, and where it ends.
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds one. Most follow another one.
    fn add(&mut self, mut begin: u64, mut end: u64) {
        if begin >= end {
            return;
        }
        if let Some((&before, &until)) = self.0.range(..=begin).next_back()
            && until >= begin
        {
            (begin, end) = (before, end.max(until));
        }
        while let Some((&behind, &until)) = self.0.range(begin + 1..=end).next() {
            end = end.max(until);
            self.0.remove(&behind);
        }
        self.0.insert(begin, end);
    }

    /// What is between them, up to an end.
    fn gaps(&self, end: u64) -> Vec<(u64, u64)> {
        let begins = [0].into_iter().chain(self.0.values().copied());
        let ends = self.0.keys().copied().chain([end]);
        begins.zip(ends).filter(|(begin, end)| begin < end).collect()
    }
}

impl<'a, 's> DiskComparison<'a, 's> {
    pub(crate) fn new(file: BorrowedFd<'a>, spend: &'a mut Spend<'s>) -> DiskComparison<'a, 's> {
        DiskComparison { file, spend, size: 0, compared: Ranges::default(), verdict: None }
    }

    /// What was wrong first.
    pub(crate) fn finish(mut self) -> Result<Verdict> {
        for (begin, end) in self.compared.gaps(self.size) {
            if self.verdict.is_none() {
                self.compare_zeros(begin, end)?;
            }
        }
        Ok(self.verdict)
    }

    fn compare_zeros(&mut self, begin: u64, end: u64) -> Result<()> {
        let failed = |errno| Error::os(errno, "look at a disk");
        let mut at = begin;
        while at < end && self.verdict.is_none() {
            let Some(data) = sys::next_data(self.file, at).map_err(failed)?.filter(|&data| data < end) else { break };
            let hole = sys::next_hole(self.file, data).map_err(failed)?.clamp(data + 1, end);
            at = hole.min(data + COMPARE_BYTES as u64);
            self.compare(data, &vec![0; (at - data) as usize])?;
        }
        Ok(())
    }

    /// The file should be all of a layer's disk.
    pub(crate) fn all_of(&mut self, layer: &LayerDisk, bytes: u64) -> Result<()> {
        self.size(bytes)?;
        self.blocks(layer, 0, 0, bytes / BLOCK as u64)
    }

    fn compare(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let mut found = vec![0; bytes.len()];
        self.verdict = read_exactly(self.file, at, &mut found)?;
        if self.verdict.is_none() && found != bytes {
            self.verdict = Some(format!("is not what was written, from byte {at} on"));
        }
        (self.spend)(bytes.len() as u64)
    }
}

impl DiskSink for DiskComparison<'_, '_> {
    fn size(&mut self, bytes: u64) -> Result<()> {
        let size = rustix::fs::fstat(self.file).map_err(|errno| Error::os(errno, "look at a disk"))?.st_size as u64;
        if size != bytes {
            self.verdict = Some(format!("has {size} bytes, and should have {bytes}"));
        }
        self.size = bytes;
        Ok(())
    }

    fn bytes(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.compared.add(at, at + bytes.len() as u64);
        if self.verdict.is_some() { Ok(()) } else { self.compare(at, bytes) }
    }

    fn blocks(&mut self, from: &LayerDisk, from_block: u64, to_block: u64, blocks: u64) -> Result<()> {
        let (begin, end) = (from_block * BLOCK as u64, (from_block + blocks) * BLOCK as u64);
        self.compared.add(to_block * BLOCK as u64, (to_block + blocks) * BLOCK as u64);
        let mut at = begin;
        while at < end && self.verdict.is_none() {
            let mut expected = vec![0; ((end - at) as usize).min(COMPARE_BYTES)];
            if read_exactly(from.file.as_fd(), at, &mut expected)?.is_some() {
                return Err(from.damaged());
            }
            self.compare(to_block * BLOCK as u64 + (at - begin), &expected)?;
            at += expected.len() as u64;
        }
        Ok(())
    }
}

/// Fills a buffer; or why that cannot be.
pub(super) fn read_exactly(disk: BorrowedFd<'_>, offset: u64, buffer: &mut [u8]) -> Result<Verdict> {
    let mut done = 0;
    while done < buffer.len() {
        match rustix::io::pread(disk, &mut buffer[done..], offset + done as u64) {
            Ok(0) => return Ok(Some("it ends too early".into())),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(errno) => return damage(errno, "cannot be read").map(Some),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_ranges_is_known() {
        let mut ranges = Ranges::default();
        assert_eq!(ranges.gaps(10), [(0, 10)]);
        for (begin, end) in [(4, 6), (6, 8), (20, 30), (0, 2), (15, 25), (7, 9), (40, 40)] {
            ranges.add(begin, end);
        }
        assert_eq!(ranges.gaps(50), [(2, 4), (9, 15), (30, 50)]);
        ranges.add(1, 45);
        assert_eq!(ranges.gaps(45), []);
        assert_eq!(ranges.gaps(50), [(45, 50)]);
    }
}
