//! Making a disk. Each layer comes first, once, as a disk of its own in the store. Then the records
//! are merged, in memory. Then comes the output. Nothing is unpacked for it, and nothing of the
//! host's is asked for owners or times.

use std::collections::HashMap;
use std::path::Path;

use super::options::{Disk, DiskLayout, DiskOptions};
use super::output::{MadeDisk, Output, flat, merged};
use crate::destination::Destination;
use crate::digest::Digest;
use crate::disk::{DiskId, LayerSize, Merge, MergedTree, disk_key};
use crate::error::{Error, Result, Status};
use crate::extraction::ExtractOptions;
use crate::image::Image;
use crate::layer::Anomalies;
use crate::store::{CallLease, Storage};
use crate::unpack::{NoContent, TreeOptions};

/// The layers of an image, as disks in the store. A lease holds them; none is open.
#[derive(Default)]
struct Layers {
    /// The layers whose disks the parts are, each once.
    digests: Vec<Digest>,
    sizes: Vec<LayerSize>,
    /// Of each layer of the image, in its order, the part, and what it must hash to.
    stack: Vec<(u32, Digest)>,
    anomalies: Anomalies,
}

impl Storage {
    /// Makes a disk of an image: all layers in turn, what later ones hide left out, as a read-only EROFS file system. Each layer
    /// becomes a disk of its own in the store first, unless it is one: an image that shares layers needs only the others. The
    /// same layers and options are the same bytes.
    ///
    /// A flat disk is a file at `destination`, a merged one a directory; it appears when it is whole. Its folder must be there.
    ///
    /// `NOT_FOUND` where the store lacks a layer, `EXISTS` where the destination is taken.
    /// `INVALID_ARGUMENT` for a label that is too long. `UNSUPPORTED` for a merged disk on another
    /// file system than the store. `LIMIT` for one of more than 16 TiB. Otherwise as
    /// [`Storage::extract_layer`]. Whatever the error, nothing is left behind.
    pub fn create_disk(&self, image: &Image, destination: &Path, options: &DiskOptions) -> Result<Disk> {
        self.directory.check_not_forked()?;
        options.interrupt.check()?;
        options.check()?;
        let context = |error: Error| {
            error.context(format_args!("disk of {} in {}", image.manifest_digest, destination.display()))
        };
        if let Some(digest) = image.missing.first() {
            return Err(context(Error::new(Status::NotFound, format!("{digest} is not in the store"))));
        }
        self.create(image, destination, options).map_err(context)
    }

    fn create(&self, image: &Image, destination: &Path, options: &DiskOptions) -> Result<Disk> {
        let place = Destination::new(destination, &self.directory)?;
        match options.layout {
            DiskLayout::Flat => place.check_free_for_file(options.replace)?,
            DiskLayout::Merged => place.check_free(options.replace)?,
        }
        place.sweep();
        // In a store that cannot be written to nothing is collected either, by us.
        let mut lease = None;
        if self.directory.check_writable().is_ok() {
            let held = CallLease::new(self)?;
            held.lease().hold_unless(&image.manifest_digest, &options.interrupt)?;
            lease = Some(held);
        }
        let layers = self.layer_disks(image, options, &mut lease)?;
        let tree = self.merge(&layers, options)?;
        let mut anomalies = layers.anomalies;
        anomalies.insert(tree.anomalies);
        TreeOptions { strict: options.strict, ..options.tree() }.check_strict(anomalies, &image.manifest_digest)?;
        let key = disk_key(&options.words(), layers.stack.iter().map(|(_, diff_id)| diff_id));
        let id = DiskId::of_image(&key, options.uuid, &options.label);
        let (digests, sizes) = (&layers.digests[..], &layers.sizes[..]);
        let output = Output { storage: self, place: &place, tree: &tree, digests, sizes, id: &id, options };
        let made = match options.layout {
            DiskLayout::Flat => flat(&output)?,
            DiskLayout::Merged => merged(&output, &key)?,
        };
        let path = match options.layout {
            DiskLayout::Flat => destination.to_path_buf(),
            DiskLayout::Merged => destination.join(super::output::DESCRIPTOR),
        };
        let MadeDisk { parts, allocated } = made;
        let size = parts.iter().map(|part| part.length).sum();
        let (layout, uuid, entries) = (options.layout, id.uuid, tree.entries);
        Ok(Disk { path, layout, key, uuid, size, allocated, entries, anomalies, parts })
    }

    /// The disks of an image's layers, made where they are missing.
    fn layer_disks(&self, image: &Image, options: &DiskOptions, lease: &mut Option<CallLease>) -> Result<Layers> {
        let mut layers = Layers::default();
        let mut known: HashMap<Digest, u32> = HashMap::new();
        for (layer, diff_id) in image.layers() {
            options.interrupt.check()?;
            if let Some(lease) = lease {
                lease.extend_in_time(std::time::Instant::now())?;
            }
            let (interrupt, progress) = (options.interrupt.clone(), options.progress.clone());
            let (tree, diff_id) = (options.tree(), diff_id.cloned());
            let extracting = ExtractOptions { diff_id, tree, progress, interrupt, ..ExtractOptions::default() };
            let extracted = self.extract_layer(&layer.digest, &extracting)?;
            // Hard links to lower layers are odd by themselves only, and a device that would be a whiteout in a layer is one here.
            let by_itself = Anomalies::LOWER_LINK | Anomalies::DEVICE_PLACEHOLDER;
            layers.anomalies.insert(extracted.anomalies.without(by_itself));
            let size = self.open_layer_disk(&layer.digest)?.0.size()?;
            let diff_id = extracted.diff_id.ok_or_else(|| Error::new(Status::Internal, "a disk without a diff_id"))?;
            let number = *known.entry(layer.digest.clone()).or_insert_with(|| {
                layers.sizes.push(size);
                layers.digests.push(layer.digest.clone());
                layers.digests.len() as u32 - 1
            });
            layers.stack.push((number, diff_id));
        }
        Ok(layers)
    }

    fn merge(&self, layers: &Layers, options: &DiskOptions) -> Result<MergedTree> {
        let mut nothing = NoContent;
        let mut merge = Merge::new(&mut nothing, &options.tree().without_whiteouts(), &options.interrupt);
        for (part, _) in &layers.stack {
            let (_, record) = self.open_layer_disk(&layers.digests[*part as usize])?;
            let done = merge.entries();
            merge.layer(&record, *part, options.progress.as_ref().map(|callback| callback.behind(done)))?;
        }
        merge.finish(options.max_mtime)
    }
}
