//! Import: reading an archive, verifying what it has, and giving names, in this order.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::blobs::FoundImage;
use super::layout_blobs::LayoutBlobs;
use super::options::{ImportOptions, ImportSource, Imported};
use super::tar_spool::TarSpool;
use super::{docker_archive, layout};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};
use crate::extraction::ExtractOptions;
use crate::oci::ImageConfig;
use crate::store::{CallLease, LayoutFolder, Storage};
use crate::sys::is_directory;

impl Storage {
    /// Stores the images of a layout or an archive, verified, and gives them their names.
    ///
    /// `NOT_FOUND` where there is nothing of the name or for the platform, or a blob is missing.
    /// `MALFORMED` for what is no archive of images, `DIGEST_MISMATCH` and `SIZE_MISMATCH` for
    /// blobs that are not what they are called. `LIMIT`, `UNSAFE_PATH`, `UNSUPPORTED` as from
    /// [`Storage::extract_layer`]. What was stored by then stays until a collection; names are
    /// given last.
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

    fn import_from(&self, file: OwnedFd, options: &ImportOptions, lease: &mut CallLease) -> Result<Vec<FoundImage>> {
        let stat = rustix::fs::fstat(&file).map_err(|errno| Error::os(errno, "look at an archive"))?;
        if is_directory(&stat) {
            let bundle = LayoutFolder::new(file, PathBuf::new());
            return layout::images(self, &LayoutBlobs::open(&bundle, options)?, options, lease);
        }
        let contents = TarSpool::read(self, file, options, lease)?;
        // An index of nothing says nothing of what else is there.
        let has_layout =
            contents.has(layout::INDEX) && !(contents.has(docker_archive::MANIFEST) && layout::is_empty(&contents)?);
        if has_layout {
            layout::images(self, &contents, options, lease)
        } else if contents.has(docker_archive::MANIFEST) {
            docker_archive::images(self, &contents, options, lease)
        } else {
            let why = "neither an OCI layout (index.json) nor what docker save writes (manifest.json)";
            Err(Error::new(Status::Malformed, why))
        }
    }

    /// Verifies what is stored, and gives names.
    fn complete(&self, found: Vec<FoundImage>, options: &ImportOptions) -> Result<Vec<Imported>> {
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

    pub(super) fn name(&self, mut found: Vec<FoundImage>, options: &ImportOptions) -> Result<Vec<Imported>> {
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
        for FoundImage { digest, index, names, .. } in found {
            for name in &names {
                self.tag_image_of(name, &digest, index.as_ref(), &options.interrupt)?;
            }
            imported.push(Imported { manifest: digest, names });
        }
        Ok(imported)
    }

    /// That layers are what the config says they are uncompressed; unpacks them on the way.
    pub(super) fn verify_layers(&self, image: &FoundImage, options: &ImportOptions) -> Result<()> {
        let diff_ids = self.diff_ids(image)?;
        for (number, layer) in image.manifest.layers.iter().enumerate() {
            let extract = ExtractOptions {
                diff_id: diff_ids.get(number).cloned(),
                tree: options.tree.clone(),
                interrupt: options.interrupt.clone(),
                ..ExtractOptions::default()
            };
            if options.no_unpack {
                let object = format!("layer {}", layer.digest);
                let measured = self.measure_layer(&layer.digest, &extract);
                let (_, anomalies) = measured.map_err(|error| error.context(&object))?;
                options.tree.check_strict(anomalies, object)?;
            } else {
                self.extract_layer(&layer.digest, &extract)?;
            }
        }
        Ok(())
    }

    /// What an image's config says its layers are uncompressed.
    pub(super) fn diff_ids(&self, image: &FoundImage) -> Result<Vec<Digest>> {
        let config = &image.manifest.config;
        let parsed = ImageConfig::parse(&self.load_config(&config.digest)?)?;
        let (layers, count) = (image.manifest.layers.len(), parsed.diff_ids.len());
        if layers != count {
            let why = format!("{}: {count} diff_ids for {layers} layers", config.digest);
            return Err(Error::new(Status::Malformed, why));
        }
        Ok(parsed.diff_ids)
    }
}

pub(super) fn no_image(options: &ImportOptions) -> Error {
    let why = match &options.select {
        Some(name) => format!("there is no image {}", crate::error::quoted(name.as_bytes())),
        None => "there is no image in it".to_owned(),
    };
    Error::new(Status::NotFound, why)
}
