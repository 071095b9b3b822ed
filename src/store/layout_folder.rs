//! A folder of the host's that is an OCI layout, and stays where it is.
//!
//! What is read of one is opened relative to its folder, and nothing in it is followed out of it. A
//! symlink where a file or folder of a layout should be is refused.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::sys::{is_directory, is_regular};

/// The folder of an OCI layout.
#[derive(Debug)]
pub(crate) struct LayoutFolder {
    root: OwnedFd,
    pub(super) path: PathBuf,
}

/// A file of a layout.
pub(crate) struct LayoutFile {
    pub(crate) file: OwnedFd,
    pub(crate) size: u64,
    /// The folder that it is in; `None` is the layout's own.
    folder: Option<OwnedFd>,
    name: String,
}

impl LayoutFolder {
    /// `root` is an open directory; `path` is what it is called.
    pub(crate) fn new(root: OwnedFd, path: PathBuf) -> LayoutFolder {
        LayoutFolder { root, path }
    }

    /// Opens the file of a path, whose parts are plain names. `NOT_FOUND`; `MALFORMED` for a directory, `UNSAFE_PATH` for
    /// everything else that is no plain file.
    pub(crate) fn open(&self, path: &str) -> Result<LayoutFile> {
        let failed = |errno| match errno {
            // A socket is ENXIO.
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => {
                Error::new(Status::UnsafePath, format!("{} is no plain file of the layout", quoted(path.as_bytes())))
            }
            Errno::NOENT => Error::new(Status::NotFound, format!("{} is not in the layout", quoted(path.as_bytes()))),
            errno => Error::os(errno, format_args!("open {}", quoted(path.as_bytes()))),
        };
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut folder: Option<OwnedFd> = None;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            let from = folder.as_ref().unwrap_or(&self.root);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            folder = Some(rustix::fs::openat(from, part, flags, Mode::empty()).map_err(failed)?);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let from = folder.as_ref().unwrap_or(&self.root);
        let file = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&file).map_err(failed)?;
        if is_directory(&stat) {
            let why = format!("{} is a directory, where a layout has a file", quoted(path.as_bytes()));
            return Err(Error::new(Status::Malformed, why));
        }
        if !is_regular(&stat) {
            return Err(failed(Errno::LOOP));
        }
        Ok(LayoutFile { file, size: stat.st_size as u64, folder, name: name.to_owned() })
    }

    /// Opens a blob; `None` where the bundle has none of that digest.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<LayoutFile>> {
        match self.open(&path_of(digest)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.status() == Status::NotFound => Ok(None),
            Err(error) => Err(error.context(self.path.display())),
        }
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(path_of(digest))
    }

    /// Gives a file of this folder one more name. `XDEV`, `PERM` and others where it cannot have one.
    pub(super) fn link(&self, from: &LayoutFile, to: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let folder = from.folder.as_ref().unwrap_or(&self.root);
        rustix::fs::linkat(folder.as_fd(), &*from.name, to, name, AtFlags::empty())
    }
}

/// Where a layout has a blob (OCI image-spec, image-layout.md, "Blobs").
pub(crate) fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}
