//! Empty disks, for guests that write: a scratch disk, or the writable layer over an image's disk.

use std::path::Path;

use super::create::PreparedDisk;
use super::layers::Layers;
use super::options::{Disk, DiskOptions};
use crate::digest::Digest;
use crate::disk::{DiskFormat, DiskId, MergedTree, disk_key};
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::layer::{Anomalies, Entry};
use crate::store::Storage;

/// What an overlay is mounted with (Linux, Documentation/filesystems/overlayfs.rst): `upperdir` and `workdir`.
const UPPER: &str = "upper";
const WORK: &str = "work";

impl Storage {
    /// Makes an ext4 without content, of `options.size_bytes`, or with `options.free_bytes`. What is free are holes, so that it
    /// takes hardly any room before a guest writes.
    ///
    /// With an image it has the directories `upper` and `work`, for an overlay over a disk of that image. The overlay shows
    /// owner, mode, time and attributes of `upper` as those of its root. So they are those of the image's root.
    ///
    /// `INVALID_ARGUMENT` without a size. Otherwise as [`Storage::create_disk`].
    pub fn format_disk(&self, image: Option<&Image>, destination: &Path, options: &DiskOptions) -> Result<Disk> {
        self.check_disk(options)?;
        check_empty(options)?;
        let made = self.create_at(destination, options, || self.prepare_empty(image, options));
        made.map_err(|error| error.context(format_args!("empty disk {}", destination.display())))
    }

    fn prepare_empty(&self, image: Option<&Image>, options: &DiskOptions) -> Result<PreparedDisk<'_>> {
        let interrupt = &options.interrupt;
        let words = |what: &str| format!("{}\n{what}", options.words());
        let (tree, key) = match image {
            None => {
                let nothing = MergedTree::of_directories(&[], &Entry::default(), interrupt)?;
                (nothing, disk_key(&words("empty"), std::iter::empty::<&Digest>()))
            }
            Some(image) => {
                let PreparedDisk { layers, tree, .. } = self.prepare(image, &[], options)?;
                let key = disk_key(&words("upper"), layers.stack.iter().map(|layer| &layer.diff_id));
                (MergedTree::of_directories(&[UPPER, WORK], &tree.root(), interrupt)?, key)
            }
        };
        let id = DiskId::of_image(&key, options.uuid, &options.label);
        Ok(PreparedDisk { layers: Layers::none(self), tree, key, id, anomalies: Anomalies::default(), _lease: None })
    }
}

fn check_empty(options: &DiskOptions) -> Result<()> {
    let refuse = |why: &str| Err(Error::new(Status::InvalidArgument, why));
    if options.format != DiskFormat::Ext4 {
        return refuse("an empty disk is for guests that write, and cannot be erofs");
    }
    if options.top_layer.is_some() || !options.files.is_empty() {
        return refuse("an empty disk has no files");
    }
    if options.size_bytes == 0 && options.free_bytes == 0 {
        return refuse("an empty disk needs a size, or how much of it is to be free");
    }
    Ok(())
}
