//! Small loops over system calls that may do less than they were asked for, and what a file is.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, SeekFrom, Stat};
use rustix::io::Errno;

/// The first bytes of a file, `most` of them or as many as it has.
pub(crate) fn read_start(file: BorrowedFd<'_>, most: usize) -> Result<Vec<u8>, Errno> {
    /// Of most files that are read whole.
    const FIRST_BYTES: usize = 16 << 10;
    let mut bytes = vec![0; most.min(FIRST_BYTES)];
    let mut len = 0;
    while len < most {
        if len == bytes.len() {
            bytes.resize(most.min(len * 4), 0);
        }
        match rustix::io::pread(file, &mut bytes[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Writes all bytes where the file stands.
pub(crate) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Writes all bytes at an offset.
pub(crate) fn write_all_at(file: BorrowedFd<'_>, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Bytes of a file system that this process may still write, and of all of it. Some file systems in user space say nothing
/// of their size: they have room without end.
pub(crate) fn free_space(any: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let status = rustix::fs::fstatvfs(any)?;
    if status.f_blocks == 0 {
        return Ok((u64::MAX, u64::MAX));
    }
    let blocks = if rustix::process::geteuid().is_root() { status.f_bfree } else { status.f_bavail };
    Ok((blocks.saturating_mul(status.f_frsize), status.f_blocks.saturating_mul(status.f_frsize)))
}

pub(crate) fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Where the next data of a file begins; `None` where only a hole is left. Where holes are not told, everything is data.
pub(crate) fn next_data(file: BorrowedFd<'_>, at: u64) -> Result<Option<u64>, Errno> {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::NOTSUP) => Ok(Some(at)),
        Err(errno) => Err(errno),
    }
}

/// Where the data ends that is at a place.
pub(crate) fn next_hole(file: BorrowedFd<'_>, at: u64) -> Result<u64, Errno> {
    match rustix::fs::seek(file, SeekFrom::Hole(at)) {
        Err(Errno::INVAL | Errno::NOTSUP) => rustix::fs::seek(file, SeekFrom::End(0)),
        other => other,
    }
}
