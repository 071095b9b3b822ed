//! Whether a file that is about to be written has room in the file system.

use std::os::fd::BorrowedFd;

use crate::error::{Error, Result, quoted};
use crate::sys::free_space;

/// From this size on it is worth a system call to ask whether a file has room before it is written.
const SPACE_CHECK_FROM_BYTES: u64 = 1 << 20;
/// How many bytes of small files come between two looks at the free space, where the host wants some.
const SPACE_CHECK_EVERY_BYTES: u64 = 16 << 20;

/// Looks at the free space, but not for each file.
pub(crate) struct RoomCheck {
    /// Bytes that are to stay free in the file system.
    min_free: u64,
    /// Bytes of files since the last look.
    unlooked: u64,
}

impl RoomCheck {
    pub(crate) fn new(min_free: u64) -> RoomCheck {
        RoomCheck { min_free, unlooked: 0 }
    }

    /// A full disk that is known beforehand is not filled first. `on` is anything on the file system.
    pub(crate) fn check(&mut self, on: BorrowedFd<'_>, path: &[u8], size: u64) -> Result<()> {
        self.unlooked += size;
        // Small files take of the host's reserve too.
        if size < SPACE_CHECK_FROM_BYTES && (self.min_free == 0 || self.unlooked < SPACE_CHECK_EVERY_BYTES) {
            return Ok(());
        }
        self.unlooked = 0;
        // Where it cannot be asked, writing will tell.
        let Ok((free, _)) = free_space(on) else { return Ok(()) };
        if size.saturating_add(self.min_free) <= free {
            return Ok(());
        }
        let kept =
            if self.min_free > 0 { format!(", of which {} are to stay free", self.min_free) } else { String::new() };
        Err(Error::no_space(format!("{}: {size} bytes to write, {free} free{kept}", quoted(path))))
    }
}
