//! Local OCI bundles: image layouts in folders of the host's, which stay where they are.
//!
//! What is read of one is opened relative to its folder, and nothing in it is followed out of it: a symlink where a file or
//! folder of a layout should be is refused. Each bundle gets a folder of its own in the store, so that a bundle that
//! somebody tampered with can never serve as a source for images from elsewhere; a bundle that is used in place has a
//! store there, whose layers are the bundle's files ([`Storage::within_bundle`]).

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Storage, StorageOptions};
use crate::digest::Digest;
use crate::error::{Error, Result, Status, quoted};
use crate::sys::{is_directory, is_regular};

pub(super) const FOLDER: &str = "local";

/// The folder of an OCI layout.
#[derive(Debug)]
pub(crate) struct BundleFolder {
    root: OwnedFd,
    path: PathBuf,
}

/// A file of a layout.
pub(crate) struct BundleFile {
    pub(crate) file: OwnedFd,
    pub(crate) size: u64,
    /// The folder that it is in; `None` is the layout's own.
    folder: Option<OwnedFd>,
    name: String,
}

impl BundleFolder {
    /// `root` is an open directory; `path` is what it is called.
    pub(crate) fn new(root: OwnedFd, path: PathBuf) -> BundleFolder {
        BundleFolder { root, path }
    }

    /// Opens the file of a path, whose parts are plain names. `NOT_FOUND`; `MALFORMED` for a directory, `UNSAFE_PATH` for
    /// everything else that is no plain file.
    pub(crate) fn open(&self, path: &str) -> Result<BundleFile> {
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
        Ok(BundleFile { file, size: stat.st_size as u64, folder, name: name.to_owned() })
    }

    /// Opens a blob; `None` where the bundle has none of that digest.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Option<BundleFile>> {
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
    pub(super) fn link(&self, from: &BundleFile, to: std::os::fd::BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
        let folder = from.folder.as_ref().unwrap_or(&self.root);
        rustix::fs::linkat(folder.as_fd(), &*from.name, to, name, rustix::fs::AtFlags::empty())
    }
}

/// Where a layout has a blob (OCI image-spec, image-layout.md, "Blobs").
pub(crate) fn path_of(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

impl Storage {
    /// The cache folder of the bundle at `bundle_path` (which must exist; symlinks are resolved) in the state that its
    /// manifest digest names: `local/<sha256 of the real path>-<algorithm>-<hex>`. It is not created.
    pub fn local_bundle_cache_dir(&self, bundle_path: &Path, manifest_digest: &Digest) -> Result<PathBuf> {
        self.directory.check_alive()?;
        let real = bundle_path
            .canonicalize()
            .map_err(|cause| Error::io(&cause, format_args!("resolve bundle {}", bundle_path.display())))?;
        Ok(self.cache_dir(&real, manifest_digest))
    }

    fn cache_dir(&self, real: &Path, manifest_digest: &Digest) -> PathBuf {
        let location = Digest::of(real.as_os_str().as_bytes());
        self.directory.path().join(FOLDER).join(format!("{}-{}", location.hex(), manifest_digest.file_stem()))
    }

    /// The store in the cache folder of a bundle (whose path is real), created where it is missing, that finds layers in the bundle too.
    pub(crate) fn within_bundle(&self, bundle: Arc<BundleFolder>, manifest_digest: &Digest) -> Result<Storage> {
        let options = StorageOptions {
            durability: self.directory.durability(),
            single_process: self.directory.is_single_process(),
            min_free_bytes: self.min_free,
            max_blob_size: Some(self.max_blob_size),
            ..StorageOptions::default()
        };
        let mut storage = Storage::open(self.cache_dir(&bundle.path, manifest_digest), &options)?;
        storage.bundle = Some(bundle);
        Ok(storage)
    }
}
