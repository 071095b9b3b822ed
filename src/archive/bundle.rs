//! A layout folder that is used where it is: its layers are never copied.
//!
//! What comes of it is a store of its own, in the bundle's cache folder
//! ([`Storage::local_bundle_cache_dir`]). Documents are copied into it, verified. Trees are
//! extracted into it. A layer is read in the bundle whenever it is needed. Whoever reads it hashes
//! it, because a file of the host's can change at any time.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::blobs::FoundImage;
use super::import::no_image;
use super::layout;
use super::layout_blobs::LayoutBlobs;
use super::options::{ImportOptions, Imported};
use crate::error::{Error, Result, Status};
use crate::store::{CallLease, LayoutFolder, Storage};

impl Storage {
    /// Opens the one image of an OCI layout's folder that is asked for (`options.select`,
    /// `options.platform`), in a store of its own inside this one. Its layers are the folder's
    /// files. What else can be asked is as in [`Storage::import`]; with `no_unpack` layers are
    /// looked for and not read, until they are needed.
    ///
    /// Where the folder says something else the next time, that is another store. Each has the path
    /// `Storage::local_bundle_cache_dir`; the host removes it when nobody has it open.
    ///
    /// `INVALID_ARGUMENT` where there are several images; `UNSUPPORTED` for an archive, which is to be imported; else as
    /// [`Storage::import`].
    pub fn open_bundle(&self, bundle_path: &Path, options: &ImportOptions) -> Result<(Storage, Imported)> {
        self.open_bundle_at(bundle_path, options)
            .map_err(|error| error.context(format_args!("open bundle {}", bundle_path.display())))
    }

    fn open_bundle_at(&self, bundle_path: &Path, options: &ImportOptions) -> Result<(Storage, Imported)> {
        self.directory.check_writable()?;
        options.interrupt.check()?;
        // What is opened is what the cache folder is called after.
        let real = bundle_path.canonicalize().map_err(|cause| Error::io(&cause, "resolve"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&real, flags, Mode::empty()).map_err(|errno| match errno {
            rustix::io::Errno::NOTDIR => Error::new(Status::Unsupported, "is no folder; an archive can be imported"),
            errno => Error::os(errno, "open"),
        })?;
        let bundle = Arc::new(LayoutFolder::new(root, real));
        let folder = LayoutBlobs::open(&bundle, options)?;
        let found = layout::find(&folder, options)?;
        if found.len() > 1 {
            let why = format!("has {} images, and one is opened at a time", found.len());
            return Err(Error::new(Status::InvalidArgument, why));
        }
        let Some(digest) = found.first().map(|image| &image.digest) else { return Err(no_image(options)) };
        let storage = self.within_bundle(bundle.clone(), digest)?;
        let imported = take_in(&storage, &folder, found, options);
        // The host cannot know the folder's name where it did not get that far.
        let mut imported =
            imported.map_err(|error| error.context(format_args!("its store {}", storage.images_dir().display())))?;
        imported.pop().map(|image| (storage, image)).ok_or_else(|| no_image(options))
    }
}

fn take_in(
    storage: &Storage,
    folder: &LayoutBlobs<'_>,
    found: Vec<FoundImage>,
    options: &ImportOptions,
) -> Result<Vec<Imported>> {
    let mut lease = CallLease::new(storage)?;
    layout::keep(storage, folder, &found, options, &mut lease)?;
    for image in &found {
        if options.no_unpack {
            storage.diff_ids(image)?;
        } else {
            storage.verify_layers(image, options)?;
        }
    }
    storage.name(found, options)
}
