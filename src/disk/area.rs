//! The data of a disk: the content of one file after the other, each from a block of its own.
//!
//! Small files are gathered and written together. A hole is passed over: what nobody writes is a hole of the disk's file,
//! and reads as zeros.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;

use super::block::{BLOCK, too_many_blocks};
use crate::error::{Error, Result};
use crate::layer::SharedBytes;
use crate::record::{BlockPlace, HOLE_BLOCK, HoleFinder};
use crate::sys::write_all_at;
use crate::unpack::{ContentSink, Extent, RoomCheck};

const _: () = assert!(HOLE_BLOCK == BLOCK);

/// How much is gathered before it is written.
const GATHER_BYTES: usize = 1 << 20;
/// From this size on, bytes are written from where they are.
const DIRECT_FROM_BYTES: usize = 64 << 10;

/// Where the content of files goes.
pub(crate) struct Area {
    file: OwnedFd,
    /// For messages.
    name: String,
    room: RoomCheck,
    /// Where the current file begins, or the next one will.
    start: u64,
    gathered: Vec<u8>,
    /// Where what is gathered belongs.
    gathered_at: u64,
    /// Of the current file.
    holes: HoleFinder,
}

impl Area {
    /// From a block on, in an empty file. So many bytes are to stay free in its file system.
    pub(super) fn new(file: OwnedFd, name: String, first_block: u64, min_free: u64) -> Area {
        let start = first_block * BLOCK as u64;
        Area {
            file,
            name,
            room: RoomCheck::new(min_free),
            start,
            gathered: Vec::new(),
            gathered_at: start,
            holes: HoleFinder::default(),
        }
    }

    /// Writes what is left; the file, its name, and the block behind the last one of the data.
    pub(super) fn finish(mut self) -> Result<(OwnedFd, String, u64)> {
        self.flush()?;
        let end = self.start;
        rustix::fs::ftruncate(&self.file, end).map_err(|errno| self.failed(errno))?;
        Ok((self.file, self.name, end / BLOCK as u64))
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::os(errno, format_args!("write {}", self.name))
    }

    fn flush(&mut self) -> Result<()> {
        let written = write_all_at(self.file.as_fd(), &self.gathered, self.gathered_at);
        written.map_err(|errno| self.failed(errno))?;
        self.gathered_at += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    /// The block at which the current file begins, or the next one will.
    fn block(&self) -> Option<u32> {
        u32::try_from(self.start / BLOCK as u64).ok()
    }
}

impl ContentSink for Area {
    fn write(&mut self, (offset, bytes): (u64, SharedBytes)) -> Result<()> {
        self.holes.add(offset, &bytes);
        let at = self.start + offset;
        let gap = at - self.gathered_at - self.gathered.len() as u64;
        if gap < BLOCK as u64 {
            self.gathered.resize(self.gathered.len() + gap as usize, 0);
        } else {
            self.flush()?;
            self.gathered_at = at;
        }
        if bytes.len() >= DIRECT_FROM_BYTES {
            self.flush()?;
            let written = write_all_at(self.file.as_fd(), &bytes, at);
            written.map_err(|errno| self.failed(errno))?;
            self.gathered_at = at + bytes.len() as u64;
            return Ok(());
        }
        self.gathered.extend_from_slice(&bytes);
        if self.gathered.len() >= GATHER_BYTES { self.flush() } else { Ok(()) }
    }

    fn end(&mut self, size: u64) -> Result<Extent> {
        let first = self.block();
        self.holes = HoleFinder::default();
        self.start += size.next_multiple_of(BLOCK as u64);
        // The last block counts too.
        match first.filter(|_| self.block().is_some()) {
            Some(block) if size > 0 => Ok(Extent { part: 0, block }),
            Some(_) => Ok(Extent::default()),
            None => Err(too_many_blocks(self.start / BLOCK as u64)),
        }
    }

    fn check_room(&mut self, path: &[u8], size: u64) -> Result<()> {
        self.room.check(self.file.as_fd(), path, size)
    }

    fn place(&self, size: u64) -> Option<BlockPlace> {
        self.block().map(|block| BlockPlace { block, holes: self.holes.holes(size) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;
    use crate::error::Status;

    fn area(first_block: u64) -> (Area, std::fs::File) {
        let file = tempfile::tempfile().unwrap();
        let same = file.try_clone().unwrap();
        (Area::new(file.into(), "disk".into(), first_block, 0), same)
    }

    #[test]
    fn each_file_begins_at_a_block_of_its_own_and_holes_stay_holes() {
        let (mut area, file) = area(1);
        let large = vec![7u8; 3 << 20];
        type FileOfParts<'a> = (&'a [(u64, &'a [u8])], u64);
        let files: [FileOfParts<'_>; 6] = [
            (&[(0, b"small")], 5),
            (&[], 0),
            (&[(0, &large), (large.len() as u64, b"tail")], large.len() as u64 + 4),
            (&[(100, b"after a gap")], 111),
            (&[(40 << 20, b"after a hole")], 50 << 20),
            (&[(0, b"last")], 4),
        ];
        let mut blocks = Vec::new();
        for (parts, size) in files {
            assert_eq!(area.place(size).map(|place| u64::from(place.block)), Some(area.start / 4096));
            for (offset, bytes) in parts {
                area.write((*offset, SharedBytes::of(bytes.to_vec()))).unwrap();
            }
            blocks.push(area.end(size).unwrap().block);
        }
        assert_eq!(blocks, [1, 0, 2, 771, 772, 772 + 12_800]);
        let (_, _, end) = area.finish().unwrap();
        assert_eq!((end, file.metadata().unwrap().len()), (13_573, 13_573 * 4096));
        for ((parts, _), block) in files.iter().zip(&blocks) {
            for (offset, bytes) in *parts {
                let mut found = vec![0; bytes.len()];
                file.read_exact_at(&mut found, u64::from(*block) * 4096 + offset).unwrap();
                assert_eq!(found, *bytes);
            }
        }
        assert!(file.metadata().unwrap().blocks() * 512 < 8 << 20, "holes take room");
    }

    #[test]
    fn what_32_bits_cannot_say_is_a_limit() {
        let (mut area, _file) = area(u64::from(u32::MAX) - 1);
        assert_eq!(area.end(4096).unwrap().block, u32::MAX - 1);
        assert_eq!(area.end(1).unwrap_err().status(), Status::Limit);
    }
}
