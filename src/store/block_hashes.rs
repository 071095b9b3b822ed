//! Hashes of the blocks of a layer's disk, kept beside it as `<tree>.verity`: what dm-verity needs of each disk that is made of it.
//!
//! They follow from the layer's content and are computed anew where they are missing. The first line has a checksum of the rest.
//! So nothing has to reach the disk in any order, and what a loss of power left of them is not taken for them.

use std::os::fd::AsFd as _;

use super::partial::Partial;
use super::storage::Storage;
use super::store_dir::Folder;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::record::hashes_name;
use crate::sys;

/// Hexadecimal digits of the checksum, and the space behind them.
const CHECKSUM_LEN: usize = 17;

impl Storage {
    /// Hashes in the form in which they were given, of so many bytes at most. `None` for those that are not of what `of` says.
    pub(crate) fn block_hashes(&self, tree: &str, of: &str, most: usize) -> Result<Option<Vec<u8>>> {
        let name = hashes_name(tree);
        let Some(file) = self.directory.open_file(Folder::Extracted, &name)? else { return Ok(None) };
        let head = head(of);
        let most = CHECKSUM_LEN + head.len() + most;
        let mut found = match sys::read_start(file.as_fd(), most + 1) {
            Err(errno) if sys::is_damage(errno.raw_os_error()) => return Ok(None),
            found => found.map_err(|errno| {
                Error::os(
                    errno,
                    format_args!("read {}", self.directory.object_path(Folder::Extracted, &name).display()),
                )
            })?,
        };
        let Some(rest) = found.get(CHECKSUM_LEN..).filter(|_| found.len() <= most) else { return Ok(None) };
        if !rest.starts_with(head.as_bytes()) || found[..CHECKSUM_LEN] != *checksum(rest).as_bytes() {
            return Ok(None);
        }
        Ok(Some(found.split_off(CHECKSUM_LEN + head.len())))
    }

    /// Keeps them in place of what is there.
    pub(crate) fn keep_block_hashes(&self, tree: &str, of: &str, hashes: &[u8], interrupt: &Interrupt) -> Result<()> {
        let rest = [head(of).as_bytes(), hashes].concat();
        let name = hashes_name(tree);
        let mut file = Partial::create_tree_file(&self.directory, Folder::Extracted, &name)?;
        file.write_all(checksum(&rest).as_bytes())?;
        file.write_all(&rest)?;
        file.publish(&name, interrupt, |_| Ok(false))
    }
}

fn head(of: &str) -> String {
    format!("boxlite-images block hashes, {of}\n")
}

fn checksum(rest: &[u8]) -> String {
    format!("{:016x} ", twox_hash::XxHash3_64::oneshot(rest))
}
