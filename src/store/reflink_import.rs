//! Layers taken from files of the host's as they are. They come with shared blocks where the file
//! system can, or as one more name of the file where the host allows it. Either way the content is
//! hashed before it is visible.
//!
//! Shared blocks are a copy: what happens to the host's file later is nothing to the store. A second name is none; whoever
//! can write to the file then writes to the store's layer.

use std::os::fd::AsFd as _;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::documents::blob_name;
use super::layers::hash;
use super::layout_folder::{LayoutFile, LayoutFolder, path_of};
use super::partial::Partial;
use super::storage::Storage;
use super::store_dir::Folder;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::interrupt::Interrupt;
use crate::sys::{self, is_regular};

impl Storage {
    /// Stores a layer without copying it; false where neither way can be gone, and nothing was done. `SIZE_MISMATCH`,
    /// `DIGEST_MISMATCH`. `tell` gets the length of every piece that was read.
    pub(crate) fn take_layer(
        &self,
        digest: &Digest,
        size: u64,
        (folder, file): (&LayoutFolder, &LayoutFile),
        may_link: bool,
        interrupt: &Interrupt,
        tell: impl FnMut(usize) -> Result<()>,
    ) -> Result<bool> {
        self.directory.check_writable()?;
        // Whoever copies says what is wrong with it.
        if size > self.max_blob_bytes || size != file.size {
            return Ok(false);
        }
        self.make_room_in_store(size, interrupt)?;
        let stem = digest.file_stem();
        let mut partial = None;
        if size > 0 && sys::CLONES_BY_NAME {
            let from = file.file.as_fd();
            partial = Partial::link_file(&self.directory, Folder::Layers, &stem, |to, name| {
                sys::clone_file(from, to, name.as_bytes())?;
                // As every layer's: whoever may read the store may read it.
                rustix::fs::chmodat(to, name, sys::mode(0o644), AtFlags::empty())
            })?;
        }
        if size > 0 && partial.is_none() {
            let clone = Partial::create_file(&self.directory, Folder::Layers, &stem)?;
            partial = sys::reflink(clone.handle(), file.file.as_fd()).is_ok().then_some(clone);
        }
        if partial.is_none() && may_link {
            partial =
                Partial::link_file(&self.directory, Folder::Layers, &stem, |to, name| folder.link(file, to, name))?;
        }
        let Some(partial) = partial else { return Ok(false) };
        let what = path_of(digest);
        let failed = |errno: Errno| Error::os(errno, format_args!("read {what}"));
        let before = rustix::fs::fstat(partial.handle()).map_err(failed)?;
        if !is_regular(&before) {
            return Ok(false);
        }
        // A file that grows meanwhile is not read for ever.
        let (actual, length) = hash(partial.handle(), digest.algorithm(), size, interrupt, tell, failed)?;
        if length != size {
            let why = format!("{digest}: declared as {size} bytes, has {length}");
            return Err(Error::new(Status::SizeMismatch, why));
        }
        if actual != *digest {
            return Err(Error::digest_mismatch(what, digest, &actual));
        }
        // Somebody may write to a file of theirs at any time. One who did so meanwhile gets a copy.
        let after = rustix::fs::fstat(partial.handle()).map_err(failed)?;
        let state = |stat: &rustix::fs::Stat| {
            (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
        };
        if state(&before) != state(&after) {
            return Ok(false);
        }
        partial.publish(&blob_name(Folder::Layers, digest), interrupt, |_| Ok(false))?;
        tracing::info!("stored {digest} ({size} bytes) without copying it");
        Ok(true)
    }
}
