//! Small files of the store: how they are named, read and checked.

use std::os::fd::BorrowedFd;

use super::small_files::read_small;
use super::store_dir::Folder;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result, Status};
use crate::limits;
use crate::sys::is_regular;

/// The file name of a blob: the digest with `-` for `:`, and the seed's suffix.
pub(crate) fn blob_name(area: Folder, digest: &Digest) -> String {
    let suffix = if area == Folder::Layers { ".tar.gz" } else { ".json" };
    digest.file_stem() + suffix
}

/// Whether a stored document hashes to its name.
pub(super) fn is_intact(file: BorrowedFd<'_>, digest: &Digest) -> Result<bool> {
    Ok(read_intact(file, digest)?.is_some())
}

/// The document, where it hashes to its name.
pub(super) fn read_intact(file: BorrowedFd<'_>, digest: &Digest) -> Result<Option<Vec<u8>>> {
    let fail = |errno| Error::os(errno, format_args!("read document {digest}"));
    let stat = rustix::fs::fstat(file).map_err(fail)?;
    let size = stat.st_size as u64;
    if !is_regular(&stat) || size > limits::DOCUMENT_SIZE.default {
        return Ok(None);
    }
    let bytes = match read_small(file, size as usize) {
        // It is still growing.
        Err(error) if error.status() == Status::Malformed => return Ok(None),
        other => other.map_err(|error| error.context(format_args!("read document {digest}")))?,
    };
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(&bytes);
    Ok((hasher.finish() == *digest).then_some(bytes))
}
