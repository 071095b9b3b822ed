//! Copying blocks between files. They are shared where the file system can (XFS, Btrfs), and copied
//! by the kernel otherwise. Between file systems that have nothing in common they are read and
//! written. Holes stay holes: a layer can say in a few bytes that a file has gigabytes of them.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::io::Errno;

use super::block::BLOCK;
use super::parts::LayerDisk;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::sys::{self, write_all_at};

/// How much is copied between two looks at whether the call is to end.
const PIECE_BYTES: u64 = 8 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// A copy from a layer's disk to a new file.
pub(super) struct BlockCopy<'a> {
    pub(super) to: &'a OwnedFd,
    /// For messages.
    pub(super) to_name: &'a str,
    pub(super) interrupt: &'a Interrupt,
}

impl BlockCopy<'_> {
    /// Copies blocks to a place where nothing was written.
    pub(super) fn copy(&self, from: &LayerDisk, from_block: u64, to_block: u64, blocks: u64) -> Result<()> {
        let failed = |errno| Error::os(errno, format_args!("read {}", from.name));
        let (begin, end) = (from_block * BLOCK as u64, (from_block + blocks) * BLOCK as u64);
        let size = rustix::fs::fstat(&from.file).map_err(failed)?.st_size as u64;
        if size < end {
            return Err(from.damaged());
        }
        let mut at = begin;
        while at < end {
            let Some(data) = sys::next_data(from.file.as_fd(), at).map_err(failed)?.filter(|&data| data < end) else {
                break;
            };
            let hole = sys::next_hole(from.file.as_fd(), data).map_err(failed)?.min(end);
            if hole <= data {
                return Err(from.damaged());
            }
            self.copy_data(from, data, to_block * BLOCK as u64 + (data - begin), hole - data)?;
            at = hole;
        }
        Ok(())
    }

    fn copy_data(&self, from: &LayerDisk, from_at: u64, to_at: u64, length: u64) -> Result<()> {
        let (mut done, mut by_kernel) = (0, true);
        let mut buffer = Vec::new();
        while done < length {
            self.interrupt.check()?;
            let wanted = (length - done).min(PIECE_BYTES);
            let (from_at, to_at) = (from_at + done, to_at + done);
            if by_kernel {
                match sys::copy_range_at((from.file.as_fd(), from_at), (self.to.as_fd(), to_at), wanted) {
                    Ok(0) => return Err(from.damaged()),
                    Ok(copied) => done += copied,
                    Err(Errno::INTR) => {}
                    // Not between these two, or not here.
                    Err(Errno::XDEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                        by_kernel = false;
                    }
                    Err(errno) => {
                        return Err(Error::os(errno, format_args!("copy {} to {}", from.name, self.to_name)));
                    }
                }
                continue;
            }
            buffer.resize(BUFFER_BYTES, 0);
            let wanted = wanted.min(BUFFER_BYTES as u64) as usize;
            match rustix::io::pread(&from.file, &mut buffer[..wanted], from_at) {
                Ok(0) => return Err(from.damaged()),
                Ok(read) => {
                    write_all_at(self.to.as_fd(), &buffer[..read], to_at)
                        .map_err(|errno| Error::os(errno, format_args!("write {}", self.to_name)))?;
                    done += read as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(errno, format_args!("read {}", from.name))),
            }
        }
        Ok(())
    }
}
