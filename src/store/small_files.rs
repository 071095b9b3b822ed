//! The store's own small files: a checksum by which they are known, and a bound on what is read.

use std::os::fd::BorrowedFd;

use crate::error::{Error, Result, Status};
use crate::sys;

/// By which the store's own small files are known to be what was written: XXH3 of the parts, line by line.
pub(super) fn checksum(parts: &[&str]) -> String {
    format!("{:016x}", twox_hash::XxHash3_64::oneshot(parts.join("\n").as_bytes()))
}

/// All of a file that is small; `MALFORMED` for one of more than `most` bytes.
pub(super) fn read_small(file: BorrowedFd<'_>, most: usize) -> Result<Vec<u8>> {
    let bytes = sys::read_start(file, most + 1).map_err(|errno| Error::os(errno, "read it"))?;
    if bytes.len() > most {
        return Err(Error::new(Status::Malformed, format!("has more than {most} bytes")));
    }
    Ok(bytes)
}
