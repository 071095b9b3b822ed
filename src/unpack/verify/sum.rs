//! The sum of what a file has, as a record says it.

use std::hash::Hasher as _;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use twox_hash::XxHash3_64;

use super::damage::damage;
use crate::error::Result;

/// Told of every so many bytes that were read; an error of it ends the check.
pub(crate) type Spend<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// XXH3 of a file from an offset on, of so many bytes at most, and how many there are; or why it cannot be read.
pub(crate) fn sum_of_bytes(
    file: BorrowedFd<'_>,
    (offset, most): (u64, u64),
    buffer: &mut [u8],
    spend: &mut Spend<'_>,
) -> Result<Result<(u64, u64), String>> {
    let mut hasher = XxHash3_64::new();
    let mut size = 0;
    while size < most {
        let wanted = (most - size).min(buffer.len() as u64) as usize;
        match rustix::io::pread(file, &mut buffer[..wanted], offset + size) {
            Ok(0) => break,
            Ok(n) => {
                hasher.write(&buffer[..n]);
                size += n as u64;
                spend(n as u64)?;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return damage(errno, "cannot be read").map(Err),
        }
    }
    Ok(Ok((hasher.finish(), size)))
}
