//! Making a disk. Each layer comes first, once, as a disk of its own ([`super::layers`]). Then the records are merged, in
//! memory. Then comes the output, at a place of the host's, or in the store ([`super::kept`]). Nothing is unpacked for it, and
//! nothing of the host's is asked for owners or times.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;

use super::inject::TopLayer;
use super::layers::Layers;
use super::options::{Disk, DiskLayout, DiskOptions, DiskPart};
use super::output::{DESCRIPTOR, Output, Written};
use crate::destination::{Destination, PendingOutput};
use crate::digest::Digest;
use crate::disk::{DiskId, MergedTree, disk_key};
use crate::error::{Error, Result, Status};
use crate::image::Image;
use crate::layer::Anomalies;
use crate::store::{CallLease, Storage};
use crate::unpack::TreeOptions;

/// A disk of which everything is known but where it is to be.
pub(super) struct PreparedDisk<'a> {
    pub(super) layers: Layers<'a>,
    pub(super) tree: MergedTree,
    pub(super) key: Digest,
    pub(super) id: DiskId,
    pub(super) anomalies: Anomalies,
    /// Holds the layers.
    pub(super) _lease: Option<CallLease>,
}

impl Storage {
    /// Makes a disk of an image: all layers in turn, what later ones hide left out, as an ext4 or a read-only EROFS. Each layer
    /// becomes a disk of its own in the store first, unless it is one: an image that shares layers needs only the others. The
    /// same layers and options are the same bytes.
    ///
    /// A flat disk is a file at `destination`, a merged one a directory; it appears when it is whole. Its folder must be there.
    ///
    /// `NOT_FOUND` where the store lacks a layer, `EXISTS` where the destination is taken.
    /// `INVALID_ARGUMENT` for a label that is too long. `NO_SPACE` for [`DiskOptions::size_bytes`] that are too few, with how
    /// many it takes. `UNSUPPORTED` for a merged disk on another
    /// file system than the store. `LIMIT` for one of more than 16 TiB. Otherwise as
    /// [`Storage::extract_layer`]. Whatever the error, nothing is left behind.
    pub fn create_disk(&self, image: &Image, destination: &Path, options: &DiskOptions) -> Result<Disk> {
        self.check_disk(options)?;
        let made = self.create_at(destination, options, || self.prepare(image, &self.top_layers(options)?, options));
        made.map_err(|error| {
            error.context(format_args!("disk of {} in {}", image.manifest_digest, destination.display()))
        })
    }

    pub(super) fn check_disk(&self, options: &DiskOptions) -> Result<()> {
        self.directory.check_not_forked()?;
        options.interrupt.check()?;
        options.check()
    }

    pub(super) fn create_at<'a>(
        &'a self,
        destination: &Path,
        options: &DiskOptions,
        prepare: impl FnOnce() -> Result<PreparedDisk<'a>>,
    ) -> Result<Disk> {
        let place = Destination::new(destination, &self.directory)?;
        match options.layout {
            DiskLayout::Flat => place.check_free_for_file(options.replace)?,
            DiskLayout::Merged => place.check_free(options.replace)?,
        }
        place.sweep();
        let prepared = prepare()?;
        let output = prepared.output(options);
        let written = match options.layout {
            DiskLayout::Flat => {
                let work = PendingOutput::file(&place)?;
                let written = output.flat(&work.open()?, &destination.display().to_string())?;
                work.publish_file(options.replace)?;
                written
            }
            DiskLayout::Merged => {
                let work = PendingOutput::directory(&place)?;
                let folder = work.open()?;
                let written = output.merged_in(folder.as_fd(), destination)?;
                let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
                rustix::fs::fchmod(&folder, mode)
                    .map_err(|errno| Error::os(errno, format_args!("set mode of {}", destination.display())))?;
                work.publish_directory(options.replace)?;
                written
            }
        };
        Ok(prepared.disk(destination, written, options))
    }

    /// What comes on top of an image, the lowest first.
    pub(super) fn top_layers(&self, options: &DiskOptions) -> Result<Vec<TopLayer>> {
        let mut layers = Vec::new();
        if let Some(path) = &options.top_layer {
            layers.push(TopLayer::archive(path, &options.interrupt)?);
        }
        if !options.files.is_empty() {
            layers.push(TopLayer::of_files(&options.files, self, &options.interrupt)?);
        }
        Ok(layers)
    }

    /// The layers as disks, and what they come to.
    pub(super) fn prepare(&self, image: &Image, tops: &[TopLayer], options: &DiskOptions) -> Result<PreparedDisk<'_>> {
        if let Some(digest) = image.missing.first() {
            return Err(Error::new(Status::NotFound, format!("{digest} is not in the store")));
        }
        // In a store that cannot be written to nothing is collected either, by us.
        let mut lease = None;
        if self.directory.check_writable().is_ok() {
            let held = CallLease::new(self)?;
            held.lease().hold_unless(&image.manifest_digest, &options.interrupt)?;
            tops.iter().try_for_each(|top| held.lease().hold_unless(&top.digest, &options.interrupt))?;
            lease = Some(held);
        }
        let layers = Layers::of(self, (Some(image), tops), options, lease.as_mut())?;
        let tree = layers.merge(options)?;
        let mut anomalies = layers.anomalies;
        anomalies.insert(tree.anomalies);
        anomalies.insert(options.format.anomalies(&tree, &options.interrupt)?);
        options.check_strict(anomalies, &image.manifest_digest)?;
        let key = disk_key(&options.words(), layers.stack.iter().map(|layer| &layer.diff_id));
        let id = DiskId::of_image(&key, options.uuid, &options.label);
        Ok(PreparedDisk { layers, tree, key, id, anomalies, _lease: lease })
    }
}

impl PreparedDisk<'_> {
    pub(super) fn output<'a>(&'a self, options: &'a DiskOptions) -> Output<'a> {
        let PreparedDisk { layers, tree, key, id, .. } = self;
        Output { layers, tree, key, spec: options.spec(id), interrupt: &options.interrupt }
    }

    /// What came of it, at its place.
    pub(super) fn disk(&self, place: &Path, written: Written, options: &DiskOptions) -> Disk {
        let Written { parts, allocated, verity, .. } = written;
        let path = |name: &str| if name.is_empty() { place.to_path_buf() } else { place.join(name) };
        let (parts, size) = in_order(parts.iter().map(|written| (path(&written.name), written.bytes)));
        Disk {
            path: attached(place, options.layout, &parts),
            format: options.format,
            layout: options.layout,
            key: self.key.clone(),
            uuid: self.id.uuid,
            size,
            allocated,
            entries: self.tree.entries,
            anomalies: self.anomalies,
            cached: false,
            is_writable: options.is_for_writing(),
            is_empty: self.layers.is_empty(),
            verity,
            parts,
        }
    }
}

/// Files with their lengths as parts of a device, one behind the other, and how long that is.
pub(super) fn in_order(files: impl Iterator<Item = (PathBuf, u64)>) -> (Vec<DiskPart>, u64) {
    let mut size = 0;
    let part = |(path, length)| {
        let part = DiskPart { path, offset: size, length };
        size += length;
        part
    };
    (files.map(part).collect(), size)
}

/// The file that a VMM is given.
pub(super) fn attached(place: &Path, layout: DiskLayout, parts: &[DiskPart]) -> PathBuf {
    match (layout, parts) {
        (DiskLayout::Flat, [part]) => part.path.clone(),
        _ => place.join(DESCRIPTOR),
    }
}

impl DiskOptions {
    /// `MALFORMED` for what is odd about an image, where that was not to be accepted.
    pub(super) fn check_strict(&self, anomalies: Anomalies, image: &Digest) -> Result<()> {
        TreeOptions { strict: self.strict, ..self.tree() }.check_strict(anomalies, image)
    }
}
