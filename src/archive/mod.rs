//! Images in files: OCI layouts, as folders and as tar archives, and what `docker save` writes. In and out.
//!
//! What comes in is told by its content. An archive is read once, from its beginning to its end, so that it may be a pipe:
//! every blob is hashed while it is written to the store, before anybody knows what it is for; documents, which are
//! small, wait in a file of their own until the last entry is read ([`contents`]). Then the images are put together: by
//! the index of an OCI layout ([`layout`]), or by the `manifest.json` of a `docker save` ([`docker`]). Names come last, so
//! that an import that fails leaves no name and no half image. A layout folder can also be used where it is ([`bundle`]).

#![forbid(unsafe_code)]

mod bundle;
mod contents;
mod docker;
mod export;
mod folder;
mod layout;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use self::contents::Contents;
pub use self::export::{ExportOptions, ExportTarget};
use self::folder::Folder;
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::extraction::ExtractOptions;
use crate::interrupt::Interrupt;
use crate::layer::Progress;
use crate::oci::{Descriptor, ImageConfig, ImageManifest, Platform};
use crate::store::{CallLease, ImageName, LayoutFolder, Storage};
use crate::sys::is_directory;
use crate::unpack::{ProgressCallback, TreeOptions};

/// Where images come from.
#[derive(Debug)]
pub enum ImportSource {
    /// A layout folder, or an archive.
    Path(PathBuf),
    /// An archive: a file, or a pipe.
    File(OwnedFd),
}

/// How to import. The default takes every image for this machine's platform, and unpacks it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ImportOptions {
    /// Only the image of this name or tag, as the archive has it, or of this digest.
    pub select: Option<String>,
    /// Under this name, which is for one image; `None`: under the names that the archive has.
    pub name: Option<ImageName>,
    /// Which of the images of an index; `None` is this machine's.
    pub platform: Option<Platform>,
    /// No variant below the one that is wanted.
    pub strict_platform: bool,
    /// Do not unpack. Then layers are read once more, to compare them with the config's diff_ids; those of a bundle that is
    /// used in place are not read.
    pub no_unpack: bool,
    /// The layers of a folder may be its own files under one more name: nothing is copied, but whoever can write to the
    /// folder's files can change the store's layers.
    pub hard_link: bool,
    /// What the trees look like, and what each layer, and the archive, may cost.
    pub tree: TreeOptions,
    /// Is told how far reading the archive came.
    pub progress: Option<ProgressCallback>,
    /// What may end it early.
    pub interrupt: Interrupt,
}

/// An image that was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Its manifest, as the archive had it, or as it was made for an archive of `docker save`, which has none.
    pub manifest: Digest,
    /// The names that it got; none where the archive has none.
    pub names: Vec<ImageName>,
}

/// What an image of an archive consists of; all of it is in the store.
struct Found {
    digest: Digest,
    manifest: ImageManifest,
    index: Option<Digest>,
    names: Vec<ImageName>,
    /// What led to the manifest, and the manifest, in a layout.
    documents: Vec<Descriptor>,
}

impl Storage {
    /// Stores the images of a layout or an archive, verified, and gives them their names.
    ///
    /// `NOT_FOUND` where there is nothing of the name or for the platform, or a blob is missing; `MALFORMED` for what is no
    /// archive of images, `DIGEST_MISMATCH` and `SIZE_MISMATCH` for blobs that are not what they are called, `LIMIT`,
    /// `UNSAFE_PATH`, `UNSUPPORTED` as from [`Storage::extract_layer`]. What was stored by then stays until a collection;
    /// names are given last.
    pub fn import(&self, source: ImportSource, options: &ImportOptions) -> Result<Vec<Imported>> {
        self.directory.check_writable()?;
        options.interrupt.check()?;
        let mut lease = CallLease::new(self)?;
        let (found, what) = match source {
            ImportSource::Path(path) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let opened = rustix::fs::open(&path, flags, Mode::empty());
                let file = opened.map_err(|errno| Error::os(errno, format_args!("open {}", path.display())))?;
                (self.import_from(file, options, &mut lease), path.display().to_string())
            }
            ImportSource::File(file) => (self.import_from(file, options, &mut lease), "archive".to_owned()),
        };
        found
            .and_then(|found| self.complete(found, options))
            .map_err(|error| error.context(format_args!("import {what}")))
    }

    fn import_from(&self, file: OwnedFd, options: &ImportOptions, lease: &mut CallLease) -> Result<Vec<Found>> {
        let stat = rustix::fs::fstat(&file).map_err(|errno| Error::os(errno, "look at an archive"))?;
        if is_directory(&stat) {
            let bundle = LayoutFolder::new(file, PathBuf::new());
            return layout::images(self, &Folder::open(&bundle, options)?, options, lease);
        }
        let contents = Contents::read(self, file, options, lease)?;
        // An index of nothing says nothing of what else is there.
        let has_layout =
            contents.has(layout::INDEX) && !(contents.has(docker::MANIFEST) && layout::is_empty(&contents)?);
        if has_layout {
            layout::images(self, &contents, options, lease)
        } else if contents.has(docker::MANIFEST) {
            docker::images(self, &contents, options, lease)
        } else {
            let why = "neither an OCI layout (index.json) nor what docker save writes (manifest.json)";
            Err(Error::new(Status::Malformed, why))
        }
    }

    /// Verifies what is stored, and gives names.
    fn complete(&self, found: Vec<Found>, options: &ImportOptions) -> Result<Vec<Imported>> {
        if found.is_empty() {
            return Err(no_image(options));
        }
        if options.name.is_some() && found.len() > 1 {
            let why = format!("one name for {} images", found.len());
            return Err(Error::new(Status::InvalidArgument, why));
        }
        for image in &found {
            self.verify_layers(image, options)?;
        }
        self.name(found, options)
    }

    fn name(&self, mut found: Vec<Found>, options: &ImportOptions) -> Result<Vec<Imported>> {
        for image in &mut found {
            if let Some(name) = &options.name {
                image.names = vec![name.clone()];
            }
            // Before the first of them is given.
            for name in &image.names {
                self.check_pin(name, &image.digest, image.index.as_ref())?;
            }
        }
        let mut imported = Vec::new();
        for Found { digest, index, names, .. } in found {
            for name in &names {
                self.tag_image_of(name, &digest, index.as_ref(), &options.interrupt)?;
            }
            imported.push(Imported { manifest: digest, names });
        }
        Ok(imported)
    }

    /// That layers are what the config says they are uncompressed; unpacks them on the way.
    fn verify_layers(&self, image: &Found, options: &ImportOptions) -> Result<()> {
        let diff_ids = self.diff_ids(image)?;
        for (number, layer) in image.manifest.layers.iter().enumerate() {
            let extract = ExtractOptions {
                diff_id: diff_ids.get(number).cloned(),
                tree: options.tree.clone(),
                interrupt: options.interrupt.clone(),
                ..ExtractOptions::default()
            };
            if options.no_unpack {
                let (_, anomalies) = self.measure_layer(&layer.digest, &extract)?;
                options.tree.check_strict(anomalies)?;
            } else {
                self.extract_layer(&layer.digest, &extract)?;
            }
        }
        Ok(())
    }

    /// What an image's config says its layers are uncompressed.
    fn diff_ids(&self, image: &Found) -> Result<Vec<Digest>> {
        let config = &image.manifest.config;
        let parsed = ImageConfig::parse(&self.load_config(&config.digest)?)?;
        let (layers, count) = (image.manifest.layers.len(), parsed.diff_ids.len());
        if layers != count {
            let why = format!("{}: {count} diff_ids for {layers} layers", config.digest);
            return Err(Error::new(Status::Malformed, why));
        }
        Ok(parsed.diff_ids)
    }

    /// A document, stored as what it is.
    fn keep_document(&self, digest: &Digest, bytes: &[u8], options: &ImportOptions, lease: &CallLease) -> Result<()> {
        lease.lease().hold_unless(digest, &options.interrupt)?;
        self.save_manifest_within(digest, bytes, &options.interrupt)
    }

    fn keep_config(&self, digest: &Digest, bytes: &[u8], options: &ImportOptions, lease: &CallLease) -> Result<()> {
        lease.lease().hold_unless(digest, &options.interrupt)?;
        let mut staged = self.stage_config(digest)?;
        staged.write(bytes)?;
        staged.commit_within(&options.interrupt)
    }
}

fn no_image(options: &ImportOptions) -> Error {
    let why = match &options.select {
        Some(name) => format!("there is no image {}", crate::error::quoted(name.as_bytes())),
        None => "there is no image in it".to_owned(),
    };
    Error::new(Status::NotFound, why)
}

/// Where the blobs of a layout are: a folder, or what was read of an archive.
trait Blobs {
    /// A document that is no blob: `index.json`.
    fn file(&self, name: &str) -> Result<Vec<u8>>;
    fn has_blob(&self, digest: &Digest) -> bool;
    /// A document, verified. `NOT_FOUND` where it is not there.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>>;
    /// Puts a layer into the store, verified, or finds it there.
    fn layer(&self, storage: &Storage, descriptor: &Descriptor) -> Result<()>;
}

fn tell(options: &ImportOptions, progress: &Progress) -> Result<()> {
    options.progress.as_ref().map_or(Ok(()), |callback| callback.tell(progress))
}
