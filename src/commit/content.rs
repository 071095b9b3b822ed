//! The content of files, and the holes in it.
//!
//! A hole is a row of blocks of zeros, whether the file system has them as a hole or not. So the same content is the same layer
//! on every file system. What the file system says are holes is not read.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::error::{Error, Result, Status, quoted};
use crate::extraction::EntryTree;
use crate::layer::DataParts;
use crate::sys;

/// What holes are looked for in.
const BLOCK: u64 = 4096;
/// As many zeros are a hole.
const HOLE_BYTES: u64 = 1 << 20;
/// A file has holes in a layer if it has as many bytes of them. Docker and podman write layers anew from what they keep of them,
/// and of a sparse file that is not enough (github.com/vbatts/tar-split). Fewer zeros cost next to nothing once they are compressed.
const SPARSE_BYTES: u64 = 16 << 20;
/// The most holes of a file: readers, ours too, have a limit on the parts of one. The largest are kept.
const MOST_HOLES: usize = 4000;
/// How much is read at a time.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// The content of a file, which is all of an open one, or a part of a layer's disk.
pub(super) struct SourceContent<'a> {
    file: OwnedFd,
    /// Where it begins there.
    begin: u64,
    /// In the source, for messages.
    path: &'a [u8],
    size: u64,
    /// What changes with the content of a file: when it was written, and when anything of it was changed. A layer's disk does not.
    times: Option<[(i64, i64); 2]>,
}

impl<'a> SourceContent<'a> {
    pub(super) fn new(file: OwnedFd, stat: &Stat, path: &'a [u8]) -> SourceContent<'a> {
        SourceContent { file, begin: 0, path, size: stat.st_size as u64, times: Some(times_of(stat)) }
    }

    /// So many bytes of a layer's disk, from a place on.
    pub(super) fn on_disk(disk: OwnedFd, begin: u64, size: u64, path: &'a [u8]) -> SourceContent<'a> {
        SourceContent { file: disk, begin, path, size, times: None }
    }

    /// A clone of the file, which nobody else can write to. `None` for one that cannot be cloned into the tree's file system.
    pub(super) fn clone_beside(&self, tree: &EntryTree<'_>) -> Result<Option<SourceContent<'a>>> {
        if self.times.is_none() {
            // A part of a layer's disk.
            return Ok(None);
        }
        let Some(file) = tree.snapshot(self.file.as_fd()) else { return Ok(None) };
        self.check_same()?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.failed(errno))?;
        if stat.st_size as u64 != self.size {
            return Err(self.changed());
        }
        Ok(Some(SourceContent { file, begin: 0, path: self.path, size: self.size, times: None }))
    }

    pub(super) fn into_file(self) -> OwnedFd {
        self.file
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Where there is data; `None` where that is everywhere. `each` is told of each piece that is read.
    pub(super) fn data_parts(&self, mut each: impl FnMut(u64) -> Result<()>) -> Result<Option<DataParts>> {
        if self.size < SPARSE_BYTES {
            return Ok(None);
        }
        let (mut zeros, mut buffer, mut at) = (ZeroRuns::default(), vec![0; PIECE_BYTES], 0);
        while at < self.size {
            let data = sys::next_data(self.file.as_fd(), self.begin + at).map_err(|errno| self.failed(errno))?;
            let data = data.map_or(self.size, |data| (data - self.begin).min(self.size) / BLOCK * BLOCK);
            if data > at {
                zeros.add(at, data, true);
                at = data;
                continue;
            }
            let piece = &mut buffer[..(self.size - at).min(PIECE_BYTES as u64) as usize];
            self.read(at, piece)?;
            each(piece.len() as u64)?;
            for block in piece.chunks(BLOCK as usize) {
                let end = at + block.len() as u64;
                zeros.add(at, end, block.iter().all(|&byte| byte == 0));
                at = end;
            }
        }
        Ok(zeros.data_parts(self.size))
    }

    /// Fills a buffer from a place on. `STATE` for a file that is shorter than it was.
    pub(super) fn read(&self, at: u64, buffer: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match rustix::io::pread(&self.file, &mut buffer[done..], self.begin + at + done as u64) {
                Ok(0) => return Err(self.changed()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        Ok(())
    }

    /// `STATE` where the file is not what it was when it was opened.
    pub(super) fn check_same(&self) -> Result<()> {
        let Some(times) = self.times else { return Ok(()) };
        let now = rustix::fs::fstat(&self.file).map_err(|errno| self.failed(errno))?;
        if (now.st_size as u64, times_of(&now)) == (self.size, times) { Ok(()) } else { Err(self.changed()) }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::os(errno, format_args!("read {}", quoted(self.path)))
    }

    fn changed(&self) -> Error {
        Error::new(Status::State, format!("{} was changed while it was read", quoted(self.path)))
    }
}

fn times_of(stat: &Stat) -> [(i64, i64); 2] {
    [(stat.st_mtime, stat.st_mtime_nsec as i64), (stat.st_ctime, stat.st_ctime_nsec as i64)]
}

/// Rows of zeros that are long enough to be holes.
#[derive(Default)]
struct ZeroRuns {
    holes: Vec<(u64, u64)>,
    /// Where the zeros begin that go on.
    begins: Option<u64>,
    end: u64,
}

impl ZeroRuns {
    fn add(&mut self, begin: u64, end: u64, is_zeros: bool) {
        if is_zeros {
            self.begins.get_or_insert(begin);
        } else {
            self.end_run();
        }
        self.end = end;
    }

    fn end_run(&mut self) {
        if let Some(begin) = self.begins.take()
            && self.end - begin >= HOLE_BYTES
        {
            self.holes.push((begin, self.end));
        }
    }

    /// What is between the holes; `None` where there are too few.
    fn data_parts(mut self, size: u64) -> Option<DataParts> {
        self.end_run();
        if self.holes.iter().map(|(begin, end)| end - begin).sum::<u64>() < SPARSE_BYTES {
            return None;
        }
        if self.holes.len() > MOST_HOLES {
            self.holes.sort_by_key(|(begin, end)| (begin.wrapping_sub(*end), *begin));
            self.holes.truncate(MOST_HOLES);
            self.holes.sort_unstable();
        }
        let begins = [0].into_iter().chain(self.holes.iter().map(|(_, end)| *end));
        let ends = self.holes.iter().map(|(begin, _)| *begin).chain([size]);
        Some(begins.zip(ends).filter(|(begin, end)| begin < end).map(|(begin, end)| (begin, end - begin)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    fn parts_of(file: std::fs::File) -> Option<DataParts> {
        let file = OwnedFd::from(file);
        let stat = rustix::fs::fstat(&file).unwrap();
        SourceContent::new(file, &stat, b"f").data_parts(|_| Ok(())).unwrap()
    }

    /// Zeros that are written are holes as much as those that are not.
    #[test]
    fn holes_are_rows_of_zeros_whatever_the_file_system_has() {
        const K: u64 = 1 << 10;
        const M: u64 = 1 << 20;
        /// Where something else than zeros is, the length, and what is to be found.
        type HoleCase<'a> = (&'a [u64], u64, Option<&'a [(u64, u64)]>);
        let cases: [HoleCase<'_>; 7] = [
            (&[], 15 * M, None),
            (&[], 16 * M, Some(&[])),
            (&[0], 17 * M, Some(&[(0, 4 * K)])),
            (&[0], 16 * M, None),
            (&[20 * M], 21 * M, Some(&[(20 * M, M)])),
            (&[0, 600 * K, 30 * M], 30 * M + K, Some(&[(0, 604 * K), (30 * M, K)])),
            (&[20 * M], 40 * M, Some(&[(20 * M, 4 * K)])),
        ];
        for (places, size, expected) in cases {
            for is_written in [false, true] {
                let file = tempfile::tempfile().unwrap();
                if is_written {
                    file.write_all_at(&vec![0; size as usize], 0).unwrap();
                }
                file.set_len(size).unwrap();
                places.iter().for_each(|at| file.write_all_at(b"x", *at).unwrap());
                assert_eq!(parts_of(file).as_deref(), expected, "{places:?} {size} {is_written}");
            }
        }
    }

    #[test]
    fn of_very_many_holes_the_largest_are_kept() {
        let mut zeros = ZeroRuns::default();
        let mut at = 0;
        for number in 0..MOST_HOLES as u64 + 100 {
            let length = HOLE_BYTES * if number < 100 { 1 } else { 2 };
            zeros.add(at, at + length, true);
            zeros.add(at + length, at + length + BLOCK, false);
            at += length + BLOCK;
        }
        let parts = zeros.data_parts(at).unwrap();
        assert_eq!(parts.len(), MOST_HOLES + 1);
        assert_eq!(parts[0], (0, 100 * (HOLE_BYTES + BLOCK)));
    }

    #[test]
    fn a_file_that_changes_is_told() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"content", 0).unwrap();
        let again = file.try_clone().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let content = SourceContent::new(file.into(), &stat, b"f");
        content.check_same().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        again.set_len(3).unwrap();
        assert_eq!(content.check_same().unwrap_err().status(), Status::State);
        assert_eq!(content.read(0, &mut [0; 7]).unwrap_err().status(), Status::State);
    }
}
